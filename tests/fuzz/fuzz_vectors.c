/* Reads arbitrary bytes as golden vectors, a manifest and after a zero byte the data, and runs every case on the
 * reference. See README.md beside this file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/vectors.h"

static void require(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static qd_context *context;
    if (!context) require(qd_context_create("ref", NULL, &context) == QD_OK);
    const uint8_t *end = memchr(data, 0, size);
    const size_t manifest = end ? (size_t)(end - data) : size, bytes = end ? size - manifest - 1 : 0;
    void *copy = malloc(bytes ? bytes : 1); /* aligned, and no longer than it is */
    require(copy != NULL);
    if (bytes) memcpy(copy, end + 1, bytes);
    qd_vectors *v = NULL;
    const qd_status status = qd_vectors_parse((const char *)data, manifest, copy, bytes, &v);
    require((status == QD_OK) == (v != NULL));
    for (int i = 0; v && i < v->case_count; i++) {
        qd_vec_report report;
        const qd_vec_outcome outcome = qd_vec_run_case(context, v->group, &v->cases[i], &report);
        require(outcome == QD_VEC_PASSED || *report.text);
    }
    qd_vectors_free(v);
    free(copy);
    return 0;
}
