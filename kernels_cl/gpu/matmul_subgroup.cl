/* y = x · wᵀ (+ addend) for blocked weights and A8 activations, as matmul_blocks.cl; a sub-group works on one row of w,
 * its members side by side on neighbouring blocks, so that together they read one stretch of memory.
 *
 *   w [count, K]  rows as in a GGUF file (a block format: -DQD_W_<FORMAT>), output columns first … first+count-1
 *   x A8 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *
 *   unit u = (QD_TOKENS rows of x, row i of w)        K →
 *                              w[i], x[r]   [block][block][block][block] … [block][block] …
 *                              member         0      1      2      3    …  S-1     0   …     a term for each block
 *                         partial sum         p0     p1     p2     p3   …  terms broadcast and added in their order
 *
 * S is a multiple of 4, as on every known device; another one gives wrong sums and is refused for that. */
#define QD_SIDE_BY_SIDE /* sub-groups are work-items side by side */
#include "decode.h"
#include "dot16.h"
#include "gpu/features.h"

#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* A unit is for a whole sub-group. */
#undef QD_FOR_UNITS
#define QD_FOR_UNITS(u, units)                                                                             \
    for (ulong u = (ulong)get_group_id(0) * get_num_sub_groups() + get_sub_group_id(); u < (ulong)(units); \
         u += (ulong)get_num_groups(0) * get_num_sub_groups())

/* y[t][0] for `tokens` rows, a constant at every call. */
static inline void rows_times_row(__global const uchar *w, __global const uchar *x, const ulong x_stride,
                                  __global const uchar *addend, const ulong addend_stride, const int has_addend,
                                  __global uchar *y, const ulong y_stride, const int K, const int tokens) {
    const int blocks = K / 32;
    const int size = (int)get_sub_group_size();
    const int member = (int)get_sub_group_local_id();
    float4 p[QD_TOKENS];
    for (int t = 0; t < tokens; t++)
        p[t] = 0.0f;
    for (int first = 0; first < blocks; first += size) {
        const int b = first + member;
        float term[QD_TOKENS];
        for (int t = 0; t < tokens; t++)
            term[t] = 0.0f; /* beyond the row: changes no sum, which is never -0 */
        if (b < blocks) {
            __global const uchar *block = qd_w_block(w, 32 * b);
            const int i = qd_w_part(32 * b);
            const char16 lo = qd_w_codes(block, i), hi = qd_w_codes(block, i + 1);
            const qd_w_scales scales = qd_w_scales_of(block, i);
            for (int t = 0; t < tokens; t++) {
                __global const qd_block_a8 *a = (__global const qd_block_a8 *)(x + (ulong)t * x_stride) + 2 * b;
                term[t] = qd_w_term(scales, a, qd_dot16_a8(lo, a), qd_dot16_a8(hi, a + 1));
            }
        }
        const int terms = min(size, blocks - first);
        for (int j = 0; j < terms; j += 4) {
            for (int t = 0; t < tokens; t++) {
                p[t].x += sub_group_broadcast(term[t], j);
                p[t].y += sub_group_broadcast(term[t], j + 1);
                p[t].z += sub_group_broadcast(term[t], j + 2);
                p[t].w += sub_group_broadcast(term[t], j + 3);
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        float v = (p[t].x + p[t].y) + (p[t].z + p[t].w);
        if (has_addend) v += *(__global const float *)(addend + (ulong)t * addend_stride);
        if (member == 0) *(__global float *)(y + (ulong)t * y_stride) = v;
    }
}

#include "matmul_rows.h"
