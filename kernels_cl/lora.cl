/* y = y0 + scale · (x · aᵀ) · bᵀ, x and x · aᵀ rounded to bf16.
 *
 *   x F32 [rows, k], a BF16 [rank, k], b BF16 [n, rank], y0 and y F32 [rows, n]; y may be y0
 *   scratch  QD_LORA_SCRATCH(k, rank) floats for each work-item:
 *
 *            four rows of x, rounded | four rows of x · aᵀ, rounded | 16 sums for each row
 *
 *   unit u = (4 rows of x, p.block columns of y). It makes x · aᵀ of its rows itself, so that no unit waits for
 * another. Tiles and sums: tile4.h */
#include "halves.h"
#include "values.h"

#define W_VALUES(row, k, n) qd_values(QD_NUMBERS_BF16, row, 2, k, n)
#define X_VALUES(row, k, n) qd_load16((__global const float *)(row) + (k), n)
#include "tile4.h"

static inline float16 rounded(const float16 v) {
    return as_float16(qd_bf16_to_float16(qd_float_to_bf16_16(as_uint16(v))));
}

/* Columns j … j+15 of the result from their sums, of which there are `count`. */
static inline void add_sums(__global const float *sums, __global const float *y0, __global float *y, const float scale,
                            const int count) {
    const float16 v = qd_load16(y0, count) + scale * qd_load16(sums, count);
    qd_store16(v == v ? v : (float16)qd_one_nan(NAN), y, count);
}

__kernel void lora(QD_IN(x), QD_IN(a), QD_IN(b), QD_IN(y0), QD_OUT(y), const qd_lora_params p, __global uchar *scratch,
                   const int rows) {
    const int wide = (p.k + 15) / 16 * 16, deep = (p.rank + 15) / 16 * 16;
    const int blocks = (p.n + p.block - 1) / p.block;
    __global float *x16 = (__global float *)scratch + get_global_id(0) * QD_LORA_SCRATCH((ulong)p.k, (ulong)p.rank);
    __global float *low = x16 + 4 * (ulong)wide, *sums = low + 4 * (ulong)deep;
    QD_FOR_UNITS(u, ((ulong)rows + 3) / 4 * blocks) {
        const int r = (int)(u / blocks) * 4, first = (int)(u % blocks) * p.block;
        const int end = min(first + p.block, p.n), count = min(4, rows - r);
        for (int i = 0; i < count; i++) {
            for (int k = 0; k < p.k; k += 16)
                vstore16(rounded(qd_load16(QD_ROW(float, x, r + i) + k, p.k - k)), 0, x16 + (ulong)i * wide + k);
        }
        /* 16 rows of a, then, in the same place because compilers take it apart for minutes, 16 of b. */
        for (int j = 0; j < deep + end - first; j += 16) {
            const int up = j >= deep, row = up ? first + j - deep : j;
            qd_tile t = {.w = up ? QD_ROW(uchar, b, row) : QD_ROW(uchar, a, row),
                         .w_row = up ? (long)b_stride : (long)a_stride,
                         .count = min(QD_TILE_ROWS, (up ? end : p.rank) - row),
                         .rows = count,
                         .y_step = 4,
                         .K = up ? p.rank : p.k};
            for (int i = 0; i < 4; i++) {
                t.x[i] = (__global const uchar *)(up ? low + (ulong)i * deep : x16 + (ulong)i * wide);
                t.y[i] = (__global uchar *)(sums + i * 16);
            }
            qd_tile_unit(0, 0, 0, &t);
            for (int i = 0; i < count; i++) {
                if (up) {
                    add_sums(sums + i * 16, QD_ROW(float, y0, r + i) + row, QD_ROW_OUT(float, y, r + i) + row, p.scale,
                             t.count);
                } else {
                    vstore16(rounded(qd_load16(sums + i * 16, t.count)), 0, low + (ulong)i * deep + row);
                }
            }
        }
    }
}
