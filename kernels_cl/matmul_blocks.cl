/* y = x · wᵀ (+ addend) for blocked weights and A8 activations: 32 weights meet two blocks of 16 activations: an exact
 * integer sum for each, then scales.
 *
 *   w [count, K]  rows as in a GGUF file (a block format: -DQD_W_<FORMAT>), output columns first … first+count-1
 *   x A8 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *
 *   unit u = (QD_TOKENS rows of x, row i of w)        K →
 *                                          w[i]   [  32 ][  32 ][  32 ][  32 ] …   decoded once
 *                                          x[r…]  [16|16][16|16][16|16][16|16] …   for QD_TOKENS rows
 *                                     partial sum  p0     p1     p2     p3   p0 …   y = (p0 + p1) + (p2 + p3)
 *
 * What 32 weights add (qd_w_term in decode.h; every device has this order), s and s' being the exact sums with the two
 * blocks of activations, of scales d and d', the sums of whose codes are q and q':
 *
 *   blocks of 32:  w · (d·s + d'·s')          [ + m · (d·q + d'·q') ]
 *   larger ones:   w · (d·s) + w' · (d'·s')   [ + (m · (d·q) + m' · (d'·q')) ]
 *
 * with the scale w and, in some formats, the offset m of 16 weights as dequantizing has them (FORMATS.md). */
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
    const int units = K / 32; /* of w, 32 elements each */
    float p[QD_TOKENS][QD_BLOCK_LANES];
    for (int t = 0; t < tokens; t++) {
        for (int l = 0; l < QD_BLOCK_LANES; l++)
            p[t][l] = 0.0f;
    }
    for (int u = 0; u < units; u += QD_BLOCK_LANES) {
        for (int l = 0; l < QD_BLOCK_LANES; l++) {
            if (u + l >= units) break;
            __global const uchar *block = qd_w_block(w, 32 * (u + l));
            const int i = qd_w_part(32 * (u + l));
            const char16 lo = qd_w_codes(block, i), hi = qd_w_codes(block, i + 1);
            const qd_w_scales scales = qd_w_scales_of(block, i);
            for (int t = 0; t < tokens; t++) {
                __global const qd_block_a8 *a = (__global const qd_block_a8 *)(x + (ulong)t * x_stride) + 2 * (u + l);
                p[t][l] += qd_w_term(scales, a, qd_dot16_a8(lo, a), qd_dot16_a8(hi, a + 1));
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
