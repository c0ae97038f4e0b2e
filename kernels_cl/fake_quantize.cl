/* y = (limit(round(x · (1 / scale)) + zero) - zero) · scale: see QD_DEFINE_FAKE_QUANTIZE.
 *
 *   x, y F32; scale, zero: see scales.h
 *   unit u = (line, QD_RUN columns) */
#include "fake.h"

__kernel void fake_quantize(QD_IN(x), QD_IN(scale), QD_IN(zero), QD_OUT(y), const qd_fake_quantize_params p,
                            const int rows) {
    const int cols = qd_line_length(&p.place, rows), runs = (cols + QD_RUN - 1) / QD_RUN;
    QD_FOR_UNITS(u, qd_line_count(&p.place, rows) * runs) {
        const ulong line = u / runs;
        const int first = (int)(u % runs) * QD_RUN, end = min(first + QD_RUN, cols);
        qd_scale_run run = {0, 0, 0};
        for (int c = first; c < end; c += 16) {
            const int n = min(16, end - c);
            float16 s;
            int16 z;
            qd_load_scales(&p.place, &run, line * cols + c, n, QD_ROW(float, scale, 0), QD_ROW(uchar, zero, 0), &s, &z);
            const float16 v = qd_load16(QD_ROW(float, x, line) + c, n);
            qd_store16(qd_fake_16(v, (float16)0.0f, s, z, &p).y, QD_ROW_OUT(float, y, line) + c, n);
        }
    }
}
