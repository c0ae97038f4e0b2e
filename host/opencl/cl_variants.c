#include <string.h>

#include "opencl/cl_internal.h"

#define QD_FORMAT_ANY QD_FORMAT_COUNT

const cl_variant cl_variants[] = {
#define QD_KERNEL(name, op, in0, in1, out, file, options, needs, layout, groups) \
    {#name, QD_OP_##op, QD_FORMAT_##in0,  QD_FORMAT_##in1,    QD_FORMAT_##out,   \
     file,  options,    CL_NEEDS_##needs, QD_LAYOUT_##layout, groups},
#include "kernels_cl/kernels.def"
};
const int cl_variant_count = sizeof cl_variants / sizeof cl_variants[0];

bool cl_variant_is_gpu(const cl_variant *v) {
    return !strncmp(v->file, "gpu/", 4);
}
