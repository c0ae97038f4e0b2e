/* F32 to A8: per block of 16, d = max|x| / 127, code = round(x · (127 / max|x|)).
 *
 *   x F32 [rows, cols], y A8 [rows, cols]; cols is a multiple of 16
 *   unit u = (r, QD_RUN columns) */
#define QD_Y_A8
#include "common.h"

__kernel void quantize(QD_IN(x), QD_OUT(y), const int cols, const int rows QD_WORK) {
    const int runs = (cols + QD_RUN - 1) / QD_RUN;
    QD_FOR_UNITS(u, (ulong)rows * runs) {
        const int r = (int)(u / runs);
        const int first = (int)(u % runs) * QD_RUN;
        const int end = min(first + QD_RUN, cols);
        __global const float *row = QD_ROW(float, x, r);
        __global uchar *out = QD_ROW_OUT(uchar, y, r);
        for (int c = first; c < end; c += 32) {
            QD_STORE_32(out, c, cols, vload16(0, row + c), qd_load16(row + c + 16, cols - 16 - c));
        }
    }
}
