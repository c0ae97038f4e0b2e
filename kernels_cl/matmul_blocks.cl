/* y = x · wᵀ (+ addend) for blocked weights and A8 activations: a block of 32 weights meets two of 16
 * activations: an exact integer sum for each, then scales.
 *
 *   w [count, K]  rows as in a GGUF file (Q8_0, Q4_0, Q4_1: -DQD_W_<FORMAT>), output columns first … first+count-1
 *   x A8 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *
 *   unit u = (QD_TOKENS rows of x, row i of w)        K →
 *                                          w[i]   [block][block][block][block] …   decoded once
 *                                          x[r…]  [block][block][block][block] …   for QD_TOKENS rows
 *                                     partial sum  p0     p1     p2     p3   p0 …   y = (p0 + p1) + (p2 + p3) */
#include "decode.h"
#include "dot16.h"

/* Rows of x in one unit. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* y[t][0] for `tokens` rows, a constant at every call. */
static inline void rows_times_row(__global const uchar *w, __global const uchar *x, const ulong x_stride,
                                  __global const uchar *addend, const ulong addend_stride, const int has_addend,
                                  __global uchar *y, const ulong y_stride, const int K, const int tokens) {
    const int blocks = K / 32;
    float p[QD_TOKENS][QD_BLOCK_LANES];
    for (int t = 0; t < tokens; t++) {
        for (int l = 0; l < QD_BLOCK_LANES; l++)
            p[t][l] = 0.0f;
    }
    for (int b = 0; b < blocks; b += QD_BLOCK_LANES) {
        for (int l = 0; l < QD_BLOCK_LANES; l++) {
            if (b + l >= blocks) break;
            __global const uchar *block = w + (ulong)(b + l) * QD_W_BYTES;
            char16 lo, hi;
            qd_w_codes(block, &lo, &hi);
            const float d = qd_w_scale(block);
            for (int t = 0; t < tokens; t++) {
                __global const qd_block_a8 *a = (__global const qd_block_a8 *)(x + (ulong)t * x_stride) + 2 * (b + l);
                const float sum = a[0].d * (float)qd_dot16_a8(lo, a) + a[1].d * (float)qd_dot16_a8(hi, a + 1);
#ifdef QD_W_Q4_1
                p[t][l] += d * sum + qd_w_min(block) * (a[0].d * a[0].sum + a[1].d * a[1].sum);
#else
                p[t][l] += d * sum;
#endif
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        float v = (p[t][0] + p[t][1]) + (p[t][2] + p[t][3]);
        if (has_addend) v += *(__global const float *)(addend + (ulong)t * addend_stride);
        *(__global float *)(y + (ulong)t * y_stride) = v;
    }
}

#include "matmul_rows.h"
