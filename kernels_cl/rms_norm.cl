/* y = x / sqrt(mean(x²) + epsilon) · weight.
 *
 *   x F32 [rows, cols], weight F32 [cols] or none (has_weight 0: ones), y F32 or (-DQD_Y_A8) A8 [rows, cols]
 *
 *   unit u = row r      lane  0   1  …  15
 *                            x0  x1 … x15   ┐ squares added down each lane,
 *                            x16 …          ┘ then the 16 partial sums by the tree */
#include "common.h"

__kernel void rms_norm(QD_IN(x), QD_IN(weight), QD_OUT(y), const int cols, const float epsilon, const int has_weight,
                       const int rows QD_WORK) {
    __global const float *w = QD_ROW(float, weight, 0);
    QD_FOR_UNITS(r, rows) {
        __global const float *row = QD_ROW(float, x, r);
        __global uchar *out = QD_ROW_OUT(uchar, y, r);
        float16 p = 0.0f;
        for (int c = 0; c < cols; c += 16) {
            const float16 v = qd_load16(row + c, cols - c);
            p += v * v;
        }
        const float s = 1.0f / qd_sqrt(qd_lanes_sum(p) / (float)cols + epsilon);
        for (int c = 0; c < cols; c += 32) {
            const int n = cols - c;
            float16 lo = qd_load16(row + c, n) * s, hi = qd_load16(row + c + 16, n - 16) * s;
            if (has_weight) {
                lo *= qd_load16(w + c, n);
                hi *= qd_load16(w + c + 16, n - 16);
            }
            QD_STORE_32(out, c, cols, lo, hi);
        }
    }
}
