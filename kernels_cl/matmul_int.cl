/* y = requantize(Σ_k (w - w_zero) · (x - x_zero) + bias), for codes of any format.
 *
 *   w [count, K], or [rows, N, K] when each batch has its own; output channels first … first + count - 1
 *   x [rows, M, K]; w_zero, x_zero, bias, requant as in qdot_ops.def; y [rows, M, N]
 *
 *   unit u = (channel i, QD_TOKENS rows of x of one batch)       K →
 *                                            w[i]   [16][16][16][16] …   decoded once
 *                                            x[r…]  [16][16][16][16] …   for QD_TOKENS rows */
#include "matmul_int_rows.h"

static inline void tile_sums(__global const uchar *w_row, __global const uchar *x, const ulong x_stride, const int tokens,
                             const int wz, const int *xz, const qd_matmul_int_params *p, long *total) {
    for (int start = 0; start < p->k; start += CHUNK) {
        const int end = min(start + CHUNK, p->k);
        int sum[QD_TOKENS] = {0};
        for (int k = start; k < end; k += 16) {
            const short16 a = qd_codes16(w_row, k, p->k, p->w_code, wz);
            for (int t = 0; t < tokens; t++)
                sum[t] += qd_dot16(a, qd_codes16(x + t * x_stride, k, p->k, p->x_code, xz[t]));
        }
        for (int t = 0; t < QD_TOKENS; t++)
            total[t] += sum[t];
    }
}
