/* y = a + b.
 *
 *   a, b, y F32 [rows, cols]; y may be a or b
 *   unit u = (r, QD_RUN columns) */
#include "common.h"

__kernel void add(QD_IN(a), QD_IN(b), QD_OUT(y), const int cols, const int rows QD_WORK) {
    const int runs = (cols + QD_RUN - 1) / QD_RUN;
    QD_FOR_UNITS(u, (ulong)rows * runs) {
        const int r = (int)(u / runs);
        const int first = (int)(u % runs) * QD_RUN;
        const int end = min(first + QD_RUN, cols);
        __global const float *left = QD_ROW(float, a, r);
        __global const float *right = QD_ROW(float, b, r);
        __global float *out = QD_ROW_OUT(float, y, r);
        for (int c = first; c < end; c += 16) {
            const int n = end - c;
            qd_store16(qd_load16(left + c, n) + qd_load16(right + c, n), out + c, n);
        }
    }
}
