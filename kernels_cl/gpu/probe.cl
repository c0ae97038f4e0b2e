/* What a device must compute rightly before a variant that needs a feature is tried (host/opencl/cl_probe.c knows the
 * answers). One of -DQD_PROBE_FP16, -DQD_PROBE_INTEGER_DOT, -DQD_PROBE_SUBGROUPS, -DQD_PROBE_COMMAND_BUFFERS; 64 work-items in one group.
 *
 *   x  two words for each work-item, y four */
#include "gpu/features.h"

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void probe(__global const uint *x, __global uint *y) {
    const uint i = get_local_id(0);
    const uint a = x[2 * i], b = x[2 * i + 1];
#if defined(QD_PROBE_FP16)
    const float4 v = convert_float4(vload4(i, (__global const half *)x));
    vstore4(as_uint4(v), i, y);
#elif defined(QD_PROBE_INTEGER_DOT)
    y[4 * i] = as_uint(qd_dot4_ss(a, b, 0));
    y[4 * i + 1] = as_uint(qd_dot4_uu(a, b, 0));
    y[4 * i + 2] = as_uint(qd_dot4_us(a, b, 0));
    y[4 * i + 3] = as_uint(qd_dot4_su(a, b, 0));
#elif defined(QD_PROBE_COMMAND_BUFFERS)
    for (uint k = 4 * i; k < 4 * i + 4; k++)
        y[k] = 3 * y[k] + a;
#else
    y[4 * i] = get_sub_group_id();
    y[4 * i + 1] = get_sub_group_local_id();
    y[4 * i + 2] = as_uint(sub_group_reduce_add(as_int(a)));
    y[4 * i + 3] = as_uint(sub_group_broadcast(as_float(b), get_sub_group_size() - 1));
#endif
}
