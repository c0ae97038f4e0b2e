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

cl_home cl_variant_home(const cl_variant *v) {
    return !strncmp(v->file, "gpu/", 4) ? CL_HOME_GPU : !strncmp(v->file, "fpga/", 5) ? CL_HOME_FPGA : CL_HOME_ANY;
}
