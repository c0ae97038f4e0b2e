/* The kernel of MATMUL_INT. The includer defines tile_sums, which adds the products of one row of w and some rows of x to
 * total[]; everything else is here: who computes what, bias, and requantizing. */
#include "codes.h"

/* Rows of x in one unit. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* Codes that are summed in 32 bits before they go to the 64-bit sum: 2^10 · 2^16 fits. */
#define CHUNK 1024

/* total[t] += Σ_k (w - wz) · (x_t - xz[t]) for t < tokens; x_t is x + t · x_stride. */
static inline void tile_sums(__global const uchar *w_row, __global const uchar *x, const ulong x_stride, const int tokens,
                             const int wz, const int *xz, const qd_matmul_int_params *p, long *total);

__kernel void matmul_int(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                         const qd_matmul_int_params p, const int rows QD_WORK) {
    /* Rows of one w: all of them, or those of a batch. */
    const int together = p.batched ? p.m : rows * p.m;
    const int batches = p.batched ? rows : 1;
    const int groups = (together + QD_TOKENS - 1) / QD_TOKENS;
    __global const int *biases = QD_ROW(int, bias, 0);
    QD_FOR_UNITS(u, (ulong)batches * groups * p.count) {
        const int i = (int)(u % p.count);
        const int batch = (int)(u / p.count / groups);
        const int first = (int)(u / p.count % groups) * QD_TOKENS;
        const int tokens = min(QD_TOKENS, together - first);
        const ulong r = (ulong)batch * together + first;
        __global const uchar *w_row = QD_ROW(uchar, w, (ulong)batch * p.n + i);
        const int wz = qd_zero_at(QD_ROW(uchar, w_zero, 0), p.w_zero, p.first + i, p.w_code);
        int xz[QD_TOKENS];
        long total[QD_TOKENS];
        for (int t = 0; t < QD_TOKENS; t++) {
            xz[t] = qd_zero_at(QD_ROW(uchar, x_zero, 0), t < tokens ? p.x_zero : QD_ABSENT, r + t, p.x_code);
            total[t] = 0;
        }
        tile_sums(w_row, QD_ROW(uchar, x, r), x_stride, tokens, wz, xz, &p, total);
        for (int t = 0; t < tokens; t++) {
            uint sum = (uint)qd_saturate_i32(total[t]);
            if (p.bias != QD_ABSENT) sum += (uint)biases[p.first + i];
            const int code = qd_finish(&p.y, QD_ROW(uchar, requant, 0), p.first + i, (int)sum);
            qd_put_code(QD_ROW_OUT(uchar, y, r + t), p.first + i, p.y.code, code);
        }
    }
}
