/* MATMUL_INT for 8-bit codes with the packed dot product of four bytes, from the expanded form
 * Σ(w - wz)(x - xz) = Σ w·x - xz · Σ w - wz · Σ x + K · wz · xz. Operands as in ../matmul_int.cl.
 *
 *   unit u = (channel i, QD_TOKENS rows of x of one batch); neighbouring work-items share the rows of x
 *
 * Build options: QD_W_SIGNED, QD_X_SIGNED: 1 for i8, 0 for u8. */
#include "gpu/features.h"

#include "matmul_int_rows.h"

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

static inline void tile_sums(__global const uchar *w_row, __global const uchar *x, const ulong x_stride, const int tokens,
                             const int wz, const int *xz, const qd_matmul_int_params *p, long *total) {
    for (int t = 0; t < tokens; t++) {
        __global const uchar *x_row = x + t * x_stride;
        total[t] = (long)p->k * wz * xz[t];
        for (int start = 0; start < p->k; start += CHUNK) {
            const int end = min(start + CHUNK, p->k);
            int dot = 0, sum_w = 0, sum_x = 0;
            for (int k = start; k < end; k += 4) {
                const uint a = four(w_row, k, p->k), b = four(x_row, k, p->k);
                dot += DOT(a, b);
                sum_w += SUM_W(a);
                sum_x += SUM_X(b);
            }
            total[t] += dot - (long)xz[t] * sum_w - (long)wz * sum_x;
        }
    }
}
