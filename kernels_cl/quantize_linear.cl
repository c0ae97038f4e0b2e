/* y = limit(round(x / scale) + zero), or x / scale as a float of 8 or 4 bits.
 *
 *   x F32 or F16, y codes (a line of packed ones starts at a byte); scale, zero: see scales.h
 *   unit u = (line, QD_RUN columns): whole bytes of y
 *
 *   NaN, which 0 / 0 is too, becomes code 0 before the zero point is added; a float of 8 bits: its positive NaN. */
#include "scales.h"

static inline float16 load_values(__global const uchar *row, const int c, const int n, const int is_f16) {
    if (!is_f16) return qd_load16((__global const float *)row + c, n);
    float lanes[16];
    for (int i = 0; i < 16; i++)
        lanes[i] = i < n ? qd_half_to_float(((__global const ushort *)row)[c + i]) : 0.0f;
    return vload16(0, lanes);
}

static inline int small_code(const float v, const int small) {
    switch (small) {
        case QD_SMALL_F8E4M3:
            return qd_float_to_f8e4m3(v);
        case QD_SMALL_F8E4M3_OVERFLOW:
            return qd_float_to_f8e4m3_overflow(v);
        case QD_SMALL_F8E5M2:
            return qd_float_to_f8e5m2(v);
        case QD_SMALL_F8E5M2_OVERFLOW:
            return qd_float_to_f8e5m2_overflow(v);
        default:
            return qd_float_to_f4e2m1(v);
    }
}

/* Codes of at most 16 bits are found in vectors: what is beyond 2^22 is limited anyway. */
static inline int16 integer_codes(const float16 quotient, const int16 zero, const qd_quantize_linear_params *p) {
    const float16 v = p->zero_first ? quotient + convert_float16(zero) : quotient;
    const int16 add = p->zero_first ? (int16)0 : zero;
    if (QD_CODE_BITS(p->code) > 16) {
        float values[16];
        int lanes[16], adds[16];
        vstore16(v, 0, values);
        vstore16(add, 0, adds);
        for (int i = 0; i < 16; i++) {
            const int whole = p->away ? qd_round_away_i32(values[i]) : qd_round_even_i32(values[i]);
            lanes[i] = qd_to_code(whole, adds[i], p->min, p->max);
        }
        return vload16(0, lanes);
    }
    const float16 numbers = v == v ? v : (float16)0.0f;
    const float16 low = numbers < 4194303.0f ? numbers : (float16)4194303.0f;
    const float16 limited = low > -4194303.0f ? low : (float16)-4194303.0f;
    const float16 size = fabs(limited), whole = floor(size);
    const float16 away = copysign(whole + select((float16)0.0f, (float16)1.0f, size - whole >= 0.5f), limited);
    const int16 code = convert_int16(p->away ? away : (limited + 12582912.0f) - 12582912.0f) + add;
    return clamp(code, (int16)p->min, (int16)p->max);
}

static inline void store_codes(__global uchar *row, const int c, const int n, const int16 codes, const int code) {
    int lanes[16];
    vstore16(codes, 0, lanes);
    const int bits = QD_CODE_BITS(code);
    if (bits == 8 && n == 16) {
        vstore16(convert_uchar16(codes & 255), 0, row + c);
    } else if (bits < 8) {
        const int packed = 8 / bits;
        for (int i = 0; i < n; i += packed) {
            uint byte = 0;
            for (int j = 0; j < packed && i + j < n; j++)
                byte |= ((uint)lanes[i + j] & ((1u << bits) - 1u)) << (j * bits);
            row[(c + i) / packed] = (uchar)byte;
        }
    } else {
        for (int i = 0; i < n; i++)
            qd_put_code(row, c + i, code, lanes[i]);
    }
}

__kernel void quantize_linear(QD_IN(x), QD_IN(scale), QD_IN(zero), QD_OUT(y), const qd_quantize_linear_params p,
                              const int rows QD_WORK) {
    const int cols = qd_line_length(&p, rows), runs = (cols + QD_RUN - 1) / QD_RUN;
    QD_FOR_UNITS(u, qd_line_count(&p, rows) * runs) {
        const ulong line = u / runs;
        const int first = (int)(u % runs) * QD_RUN, end = min(first + QD_RUN, cols);
        qd_scale_run run = {0, 0, 0};
        for (int c = first; c < end; c += 16) {
            const int n = min(16, end - c);
            const float16 v = load_values(QD_ROW(uchar, x, line), c, n, p.is_f16);
            float16 s;
            int16 z;
            qd_load_scales(&p, &run, line * cols + c, n, QD_ROW(float, scale, 0), QD_ROW(uchar, zero, 0), &s, &z);
            const float16 quotient = p.reciprocal ? v * (1.0f / s) : v / s;
            if (!p.small) {
                store_codes(QD_ROW_OUT(uchar, y, line), c, n, integer_codes(quotient, z, &p), p.code);
                continue;
            }
            float values[16];
            int codes[16];
            vstore16(quotient, 0, values);
            for (int i = 0; i < 16; i++)
                codes[i] = small_code(qd_one_nan(values[i]), p.small);
            store_codes(QD_ROW_OUT(uchar, y, line), c, n, vload16(0, codes), p.code);
        }
    }
}
