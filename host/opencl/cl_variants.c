#include <stdio.h>
#include <string.h>

#include "opencl/cl_internal.h"

/* The words of kernels.def. */
enum {
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) TAKES_##ID = QD_FORMAT_##ID,
#include "qdot/qdot_formats.def"
    TAKES_ANY = CL_TAKES_ANY,
    TAKES_CODES2 = CL_TAKES_CODES2,
    TAKES_CODES4 = CL_TAKES_CODES4,
    TAKES_CODES8 = CL_TAKES_CODES8
};

const cl_variant cl_variants[] = {
#define QD_KERNEL(name, op, in0, in1, out, file, options, needs, layout, groups) \
    {#name, QD_OP_##op, TAKES_##in0,      TAKES_##in1,        TAKES_##out,       \
     file,  options,    CL_NEEDS_##needs, QD_LAYOUT_##layout, groups},
#include "kernels_cl/kernels.def"
};
const int cl_variant_count = sizeof cl_variants / sizeof cl_variants[0];

cl_home cl_variant_home(const cl_variant *v) {
    return !strncmp(v->file, "gpu/", 4) ? CL_HOME_GPU : !strncmp(v->file, "fpga/", 5) ? CL_HOME_FPGA : CL_HOME_ANY;
}

static bool takes(int want, qd_format have) {
    if (want <= CL_TAKES_ANY) return want == CL_TAKES_ANY || want == (int)have;
    const qd_format_info *f = have == QD_FORMAT_COUNT ? NULL : qd_format_get(have);
    return f && f->kind == QD_KIND_INTEGER && 8 * f->bytes / f->block == want - CL_TAKES_ANY;
}

bool cl_variant_takes(const cl_variant *v, const qd_format in[], qd_format out) {
    const int activations = v->op == QD_OP_MATMUL_GROUP ? 2 : 1;
    return takes(v->in0, in[0]) && takes(v->in1, in[activations]) && takes(v->out, out);
}

void cl_variant_formats(const cl_variant *v, char *text, size_t capacity) {
    const int all[] = {v->in0, v->in1, v->out};
    char words[3][32];
    for (int i = 0; i < 3; i++) {
        const int bits = all[i] - CL_TAKES_ANY;
        if (bits > 0) {
            snprintf(words[i], sizeof words[i], "i%d|u%d", bits, bits);
        } else {
            snprintf(words[i], sizeof words[i], "%s", bits ? qd_format_get((qd_format)all[i])->name : "any");
        }
    }
    snprintf(text, capacity, "%s %s -> %s", words[0], words[1], words[2]);
}
