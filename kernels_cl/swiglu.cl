/* y = silu(gate) · up, silu as in qdot_num.h.
 *
 *   gate, up F32 [rows, cols], y F32 or (-DQD_Y_A8) A8 [rows, cols]
 *   unit u = (r, QD_RUN columns) */
#include "common.h"

static inline float16 silu_times(const float16 gate, const float16 up) {
    const float16 silu = gate / (1.0f + qd_exp16(-gate));
    return (gate < -88.0f ? (float16)0.0f : silu) * up;
}

__kernel void swiglu(QD_IN(gate), QD_IN(up), QD_OUT(y), const int cols, const int rows QD_WORK) {
    const int runs = (cols + QD_RUN - 1) / QD_RUN;
    QD_FOR_UNITS(u, (ulong)rows * runs) {
        const int r = (int)(u / runs);
        const int first = (int)(u % runs) * QD_RUN;
        const int end = min(first + QD_RUN, cols);
        __global const float *g = QD_ROW(float, gate, r);
        __global const float *v = QD_ROW(float, up, r);
        __global uchar *out = QD_ROW_OUT(uchar, y, r);
        for (int c = first; c < end; c += 32) {
            const int n = cols - c;
            const float16 lo = silu_times(qd_load16(g + c, n), qd_load16(v + c, n));
            const float16 hi = silu_times(qd_load16(g + c + 16, n - 16), qd_load16(v + c + 16, n - 16));
            QD_STORE_32(out, c, cols, lo, hi);
        }
    }
}
