/* y = f32(x - zero) · scale, rounded to y's format; small floats: their value · scale.
 *
 *   x codes (a line of packed ones starts at a byte), y F32 or F16; scale, zero: see scales.h
 *   unit u = (line, QD_RUN columns) */
#include "scales.h"

static inline float small_value(const uchar code, const int small) {
    return small == QD_SMALL_F8E4M3   ? qd_f8e4m3_to_float(code)
           : small == QD_SMALL_F8E5M2 ? qd_f8e5m2_to_float(code)
                                      : qd_f4e2m1_to_float(code);
}

/* f32(x - zero) of n codes, rounded once: only 32-bit codes need more than an int for the difference. */
static inline float16 load_codes(__global const uchar *row, const int c, const int n, const int16 zero,
                                 const qd_quantize_linear_params *p) {
    if (QD_CODE_BITS(p->code) <= 8 && !p->small)
        return convert_float16(convert_int16(qd_codes16(row, c, c + n, p->code, 0)) - zero);
    float lanes[16];
    int zeros[16];
    vstore16(zero, 0, zeros);
    for (int i = 0; i < 16; i++) {
        const int code = i < n ? qd_code_at(row, c + i, p->code) : 0;
        lanes[i] = p->small ? small_value((uchar)code, p->small) : (float)((long)code - zeros[i]);
    }
    return vload16(0, lanes);
}

__kernel void dequantize_linear(QD_IN(x), QD_IN(scale), QD_IN(zero), QD_OUT(y), const qd_quantize_linear_params p,
                                const int rows QD_WORK) {
    const int cols = qd_line_length(&p, rows), runs = (cols + QD_RUN - 1) / QD_RUN;
    QD_FOR_UNITS(u, qd_line_count(&p, rows) * runs) {
        const ulong line = u / runs;
        const int first = (int)(u % runs) * QD_RUN, end = min(first + QD_RUN, cols);
        qd_scale_run run = {0, 0, 0};
        for (int c = first; c < end; c += 16) {
            const int n = min(16, end - c);
            float16 s;
            int16 z;
            qd_load_scales(&p, &run, line * cols + c, n, QD_ROW(float, scale, 0), QD_ROW(uchar, zero, 0), &s, &z);
            const float16 product = load_codes(QD_ROW(uchar, x, line), c, n, z, &p) * s;
            const float16 v = product == product ? product : (float16)qd_one_nan(NAN);
            if (!p.is_f16) {
                qd_store16(v, QD_ROW_OUT(float, y, line) + c, n);
                continue;
            }
            float values[16];
            vstore16(v, 0, values);
            for (int i = 0; i < n; i++)
                QD_ROW_OUT(ushort, y, line)[c + i] = qd_float_to_half(values[i]);
        }
    }
}
