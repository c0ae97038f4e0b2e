/* y = x · wᵀ (+ addend) for F32 activations and weights of any format, which are dequantized on the way.
 *
 *   w [count, K]       rows as in a GGUF file (-DQD_W_<FORMAT>), output columns first … first+count-1
 *   x F32 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *
 *   unit u = (QD_TOKENS rows of x, row i of w)     lane  0   1  …  15
 *                                                  k =   0   1  …  15   ┐ products added down each lane,
 *                                                       16  17  …  31   ┘ then the 16 partial sums by the tree */
#include "decode.h"

/* Rows of x in one unit. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* y[t][0] for `tokens` rows, a constant at every call. */
static inline void rows_times_row(__global const uchar *w, __global const uchar *x, const ulong x_stride,
                                  __global const uchar *addend, const ulong addend_stride, const int has_addend,
                                  __global uchar *y, const ulong y_stride, const int K, const int tokens) {
    float16 p[QD_TOKENS];
    for (int t = 0; t < tokens; t++)
        p[t] = 0.0f;
    for (int k = 0; k < K; k += 16) {
        const float16 v = qd_w_values(w, k, K - k);
        for (int t = 0; t < tokens; t++) {
            p[t] += v * qd_load16((__global const float *)(x + (ulong)t * x_stride) + k, K - k);
        }
    }
    for (int t = 0; t < tokens; t++) {
        float s = qd_lanes_sum(p[t]);
        if (has_addend) s += *(__global const float *)(addend + (ulong)t * addend_stride);
        *(__global float *)(y + (ulong)t * y_stride) = s;
    }
}

#include "matmul_rows.h"
