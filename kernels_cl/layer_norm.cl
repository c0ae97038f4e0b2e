/* y = (x - mean) / sqrt(mean((x - mean)²) + epsilon) · weight + bias.
 *
 *   x F32 [rows, cols], weight and bias F32 [cols] or none (has_weight 0: ones, has_bias 0: zeros),
 *   y F32 or (-DQD_Y_A8) A8 [rows, cols]; y may be x
 *
 *   unit u = row r      lane  0   1  …  15
 *                            x0  x1 … x15   ┐ values, then squares without the mean, added down each lane,
 *                            x16 …          ┘ then the 16 partial sums by the tree */
#include "common.h"

/* Columns c … c+15 of a row without the mean, and 0 behind its end, which changes no sum. */
static inline float16 centred(__global const float *row, const int c, const int cols, const float mean) {
    const float16 d = qd_load16(row + c, cols - c) - mean;
    return QD_LANE_IDS < cols - c ? d : (float16)0.0f;
}

__kernel void layer_norm(QD_IN(x), QD_IN(weight), QD_IN(bias), QD_OUT(y), const int cols, const float epsilon,
                         const int has_weight, const int has_bias, const int rows QD_WORK) {
    __global const float *w = QD_ROW(float, weight, 0), *b = QD_ROW(float, bias, 0);
    QD_FOR_UNITS(r, rows) {
        __global const float *row = QD_ROW(float, x, r);
        __global uchar *out = QD_ROW_OUT(uchar, y, r);
        float16 p = 0.0f, q = 0.0f;
        for (int c = 0; c < cols; c += 16)
            p += qd_load16(row + c, cols - c);
        const float mean = qd_lanes_sum(p) / (float)cols;
        for (int c = 0; c < cols; c += 16) {
            const float16 d = centred(row, c, cols, mean);
            q += d * d;
        }
        const float s = 1.0f / qd_sqrt(qd_lanes_sum(q) / (float)cols + epsilon);
        for (int c = 0; c < cols; c += 32) {
            float16 v[2];
            for (int i = 0; i < 2; i++) {
                const int at = c + 16 * i;
                v[i] = centred(row, at, cols, mean) * s;
                if (has_weight) v[i] *= qd_load16(w + at, cols - at);
                if (has_bias) v[i] += qd_load16(b + at, cols - at);
                v[i] = v[i] == v[i] ? v[i] : (float16)qd_one_nan(NAN);
            }
            QD_STORE_32(out, c, cols, v[0], v[1]);
        }
    }
}
