/* MATMUL_INT for 8-bit codes with the packed dot product of four bytes, from the expanded form
 * Σ(w - wz)(x - xz) = Σ w·x - xz · Σ w - wz · Σ x + K · wz · xz. Operands as in ../matmul_int.cl.
 *
 *   unit u = (channel i, QD_TOKENS rows of x of one batch); neighbouring work-items share the rows of x
 *
 * Build options: QD_W_SIGNED, QD_X_SIGNED: 1 for i8, 0 for u8. */
#include "gpu/features.h"

#include "codes.h"

#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* Codes that are summed in 32 bits before they go to the 64-bit sum. */
#define CHUNK 1024

#if QD_W_SIGNED && QD_X_SIGNED
#define DOT(w, x) dot_4x8packed_ss_int(w, x)
#elif QD_W_SIGNED
#define DOT(w, x) dot_4x8packed_su_int(w, x)
#elif QD_X_SIGNED
#define DOT(w, x) dot_4x8packed_us_int(w, x)
#else
#define DOT(w, x) (int)dot_4x8packed_uu_uint(w, x)
#endif
#define SUM_W(w) (QD_W_SIGNED ? dot_4x8packed_ss_int(w, 0x01010101u) : (int)dot_4x8packed_uu_uint(w, 0x01010101u))
#define SUM_X(x) (QD_X_SIGNED ? dot_4x8packed_ss_int(x, 0x01010101u) : (int)dot_4x8packed_uu_uint(x, 0x01010101u))

/* Bytes k … k+3 of a row that ends at k_end, zeros beyond. */
static inline uint four(__global const uchar *row, const int k, const int k_end) {
    if (k + 4 <= k_end) return as_uint(vload4(0, row + k));
    uint v = 0;
    for (int i = 0; k + i < k_end; i++)
        v |= (uint)row[k + i] << (8 * i);
    return v;
}

__kernel void matmul_int(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                         const qd_matmul_int_params p, const int rows) {
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
        const long wz = qd_zero_at(QD_ROW(uchar, w_zero, 0), p.w_zero, p.first + i, p.w_code);
        long total[QD_TOKENS];
        for (int t = 0; t < tokens; t++) {
            const long xz = qd_zero_at(QD_ROW(uchar, x_zero, 0), p.x_zero, r + t, p.x_code);
            __global const uchar *x_row = QD_ROW(uchar, x, r + t);
            total[t] = p.k * wz * xz;
            for (int start = 0; start < p.k; start += CHUNK) {
                const int end = min(start + CHUNK, p.k);
                int dot = 0, sum_w = 0, sum_x = 0;
                for (int k = start; k < end; k += 4) {
                    const uint a = four(w_row, k, p.k), b = four(x_row, k, p.k);
                    dot += DOT(a, b);
                    sum_w += SUM_W(a);
                    sum_x += SUM_X(b);
                }
                total[t] += dot - xz * sum_w - wz * sum_x;
            }
        }
        for (int t = 0; t < tokens; t++) {
            uint sum = (uint)qd_saturate_i32(total[t]);
            if (p.bias != QD_ABSENT) sum += (uint)biases[p.first + i];
            const int code = qd_finish(&p.y, QD_ROW(uchar, requant, 0), p.first + i, (int)sum);
            qd_put_code(QD_ROW_OUT(uchar, y, r + t), p.first + i, p.y.code, code);
        }
    }
}
