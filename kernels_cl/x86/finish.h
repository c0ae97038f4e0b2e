/* The end of integer operators on vectors: qd_to_code(qd_requantize(…)) lane by lane, for results of 8 bits. */
#ifndef QD_FINISH_H
#define QD_FINISH_H

#include "codes.h"
#include "x86/simd.h"

/* qd_requantize_float within low … high, whole numbers that floats hold: limits before rounding are those after it. */
QD_ALWAYS qd_vi qd_v_requantize_float(const qd_vi x, const qd_vi a, const float low, const float high) {
    const qd_vf v = qd_v_float(x) * qd_v_as_float(a);
    const qd_vf below = v < high ? v : (qd_vf)high, inside = below > low ? below : (qd_vf)low;
    return qd_v_whole(v == v ? inside : (qd_vf)clamp(0.0f, low, high));
}

/* qd_multiply_q31: with its two kinds of truncation, gemmlowp's rounding is that of ties upward for any sign. */
QD_ALWAYS qd_vi qd_v_multiply_q31(const qd_vi x, const qd_vi a) {
    const qd_vl product = qd_v_long(x) * qd_v_long(a) + (qd_vl)(1L << 30);
    const qd_vi high = qd_v_int((product >> 31) & (qd_vl)0xffffffffL);
    return ((x == INT_MIN) & (a == INT_MIN)) ? (qd_vi)INT_MAX : high;
}

/* qd_requantize_gemmlowp. */
QD_ALWAYS qd_vi qd_v_gemmlowp(const qd_vi x, const qd_vi a, const qd_vi b) {
    const qd_vi left = clamp(b, (qd_vi)0, (qd_vi)31), n = clamp(-b, (qd_vi)0, (qd_vi)31);
    const qd_vi y = qd_v_multiply_q31(x << left, a), mask = (qd_vi)(((qd_vi)1 << n) - 1);
    /* A comparison that holds is -1. */
    return (y >> n) - ((y & mask) > (mask >> 1) - (y < 0));
}

/* qd_requantize_fixed, within low … high of 32 bits. */
QD_ALWAYS qd_vi qd_v_fixed(const qd_vi x, const qd_vi a, const qd_vi b, const int low, const int high) {
    const qd_vl shift = qd_v_long(b), nudge = (qd_vl)1 << ((shift - 1) & 63);
    const qd_vl exact = (qd_v_long(x) * qd_v_long(a) + nudge) >> (shift & 63);
    const qd_vl whole = ((shift > 0) & (shift < 63)) ? exact : (qd_vl)0;
    const qd_vl above = whole > (qd_vl)low ? whole : (qd_vl)low;
    return qd_v_int(above < (qd_vl)high ? above : (qd_vl)high);
}

/* Sums with their bias as codes of y, which has requant numbers; a and b are those of the lanes. */
QD_ALWAYS qd_vi qd_v_finish(const qd_output *y, const qd_vi x, const qd_vi a, const qd_vi b) {
    if (QD_CODE_BITS(y->code) == 8 && y->mode != QD_MODE_AWAY) {
        const int low = y->min - y->zero_point, high = y->max - y->zero_point;
        if (y->mode == QD_MODE_FIXED) return qd_v_fixed(x, a, b, low, high) + y->zero_point;
        if (y->mode == QD_MODE_FLOAT) return qd_v_requantize_float(x, a, low, high) + y->zero_point;
        return clamp(qd_v_gemmlowp(x, a, b), (qd_vi)low, (qd_vi)high) + y->zero_point;
    }
    int lanes[QD_V], first[QD_V], second[QD_V];
    qd_v_store_int(x, 0, lanes);
    qd_v_store_int(a, 0, first);
    qd_v_store_int(b, 0, second);
    for (int i = 0; i < QD_V; i++)
        lanes[i] = qd_to_code(qd_requantize(lanes[i], y->mode, first[i], second[i]), y->zero_point, y->min, y->max);
    return qd_v_load_int(0, lanes);
}

#endif
