/* The kernel of a matmul over rows of w as they stand in a file. The includer defines QD_TOKENS and rows_times_row,
 * which gives one element of y for each of some rows of x. */
#include "decode.h"

__kernel void matmul(__global const uchar *w, QD_IN(x), QD_IN(addend), QD_OUT(y), const int has_addend, const int first,
                     const int count, const int K, const int rows QD_WORK) {
    const ulong row_bytes = qd_w_row_bytes(K);
    const int groups = (rows + QD_TOKENS - 1) / QD_TOKENS;
    QD_FOR_UNITS(u, (ulong)groups * count) {
        const int i = (int)(u % count);
        const int r = (int)(u / count) * QD_TOKENS;
        const int tokens = min(QD_TOKENS, rows - r);
        __global const uchar *w_row = w + (ulong)i * row_bytes;
        const ulong column = (ulong)(first + i) * 4;
#define ROWS_TIMES_ROW(r, n)                                                                                           \
    rows_times_row(w_row, QD_ROW(uchar, x, r), x_stride, QD_ROW(uchar, addend, r) + column, addend_stride, has_addend, \
                   QD_ROW_OUT(uchar, y, r) + column, y_stride, K, n)
        if (tokens == QD_TOKENS) {
            ROWS_TIMES_ROW(r, QD_TOKENS);
        } else {
            for (int t = 0; t < tokens; t++)
                ROWS_TIMES_ROW(r + t, 1);
        }
    }
}
