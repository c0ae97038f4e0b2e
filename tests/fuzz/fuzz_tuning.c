/* Reads arbitrary bytes as a tuning file: what is taken from it names what exists. See README.md beside this file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "opencl/cl_tuning.h"

static void require(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cl_choice *all = NULL;
    int n = -1;
    const qd_status status = cl_tuning_parse((const char *)data, size, NULL, &all, &n);
    require(status == QD_OK ? n >= 0 : !all && n == -1 && !strchr(qd_last_message(), '\n'));
    for (int i = 0; i < n; i++) {
        const cl_choice *c = &all[i];
        require(c->base >= 0 && c->base < cl_variant_count && cl_variants[c->base].op == c->of.op);
        require(c->of.op < QD_OP_COUNT && c->of.in0 <= QD_FORMAT_COUNT && c->of.in1 <= QD_FORMAT_COUNT);
        require(c->of.rows >= 0 && c->of.rows < QD_TUNING_ROWS && c->variant == -1);
        require(c->groups >= 1 && c->groups <= CL_MOST_GROUPS);
        require(memchr(c->options, 0, sizeof c->options) != NULL);
        require(cl_options_valid(cl_variants[c->base].file, c->options));
    }
    free(all);
    return 0;
}
