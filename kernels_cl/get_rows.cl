/* y[r] = row ids[r] of a table, dequantized.
 *
 *   table [count, cols]  rows as in a GGUF file: one part of a table that starts at row `first`
 *   ids   int32 [rows]   rows outside [first, first + count) are left alone: the launch for another part writes them
 *   y     F32 [rows, cols]
 *
 *   unit u = (r, 16 columns)          columns →
 *                             r  [ c0 … c15 ][ c16 … c31 ] … [ tail ]
 * Formats: -DQD_W_<FORMAT>. */
#include "decode.h"

__kernel void get_rows(QD_IN(table), QD_IN(ids), QD_OUT(y), const int cols, const int first, const int count,
                       const int rows QD_WORK) {
    __global const int *id = QD_ROW(int, ids, 0);
    const int chunks = (cols + 15) / 16;
    QD_FOR_UNITS(u, (ulong)rows * chunks) {
        const int r = (int)(u / chunks);
        const int c = (int)(u % chunks) * 16;
        const long row = (long)id[r] - first;
        if (row < 0 || row >= count) continue;
        const float16 v = qd_w_values(QD_ROW(uchar, table, row), c, cols - c);
        qd_store16(v, QD_ROW_OUT(float, y, r) + c, cols - c);
    }
}
