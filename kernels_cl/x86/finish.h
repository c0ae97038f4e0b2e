/* The end of integer operators on vectors: qd_to_code(qd_requantize(…)) and qd_add_residual lane by lane. */
#ifndef QD_FINISH_H
#define QD_FINISH_H

#include "add_int.h"
#include "x86/simd.h"

/* qd_round_even_i32 within limits, whole numbers: before rounding they are those after it. */
QD_ALWAYS qd_vi qd_v_round(const qd_vf v, const float low, const float high) {
    const qd_vf below = v < high ? v : (qd_vf)high, inside = below > low ? below : (qd_vf)low;
    return qd_v_whole(v == v ? inside : (qd_vf)clamp(0.0f, low, high));
}

/* qd_to_code(qd_round_even_i32(v)). */
QD_ALWAYS qd_vi qd_v_limit(const qd_output *y, const qd_vf v) {
    return qd_v_round(v, (float)(y->min - y->zero_point), (float)(y->max - y->zero_point)) + y->zero_point;
}

QD_ALWAYS qd_vi qd_v_clamp(const qd_vl v, const int low, const int high) {
    const qd_vl above = v > (qd_vl)low ? v : (qd_vl)low;
    return qd_v_int(above < (qd_vl)high ? above : (qd_vl)high);
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
    return qd_v_clamp(whole, low, high);
}

/* qd_requantize_away of half a vector, m between -1 and 1: no product is beyond 32 bits, and what a float64 cannot hold
 * is next to 0. The largest number below a half, added with the product's sign, carries halves and more over the next
 * whole number, and nothing less. */
QD_ALWAYS qd_hi qd_h_away(const qd_hi x, const qd_hl m) {
    const qd_hd product = qd_h_double(x) * qd_h_as_double(m);
    const qd_hl below_half = (qd_h_as_long(product) & (qd_hl)LONG_MIN) | (qd_hl)0x3fdfffffffffffffL;
    return qd_h_int(product + qd_h_as_double(below_half));
}

QD_ALWAYS qd_vi qd_v_away(const qd_vi x, const qd_vi a, const qd_vi b) {
    const qd_vl m = qd_v_long(b) << 32 | (qd_v_long(a) & (qd_vl)0xffffffffL);
    return (qd_vi)(qd_h_away(x.lo, m.lo), qd_h_away(x.hi, m.hi));
}

/* QD_MODE_FLOAT where each multiplier is between -1 and 1: no product is beyond 32 bits. */
#define QD_MODE_SMALL (-2)

/* Whether the multipliers of y's mode are all so, where it asks for that; NaN is not. */
QD_ALWAYS bool qd_v_small(const int mode, const qd_vi a, const qd_vi b) {
    int lanes[QD_V], most = 0;
    qd_v_store_int((mode == QD_MODE_AWAY ? b : a) & INT_MAX, 0, lanes);
    for (int i = 0; i < QD_V; i++)
        most = max(most, lanes[i]);
    return most < (mode == QD_MODE_AWAY ? 0x3ff00000 : 0x3f800000);
}

/* Sums in the scale of y, of 8 bits, which are right within 16 bits, and beyond these where they are right beyond them.
 * QD_MODE_AWAY: only with multipliers between -1 and 1. */
QD_ALWAYS qd_vi qd_v_scaled(const int mode, const qd_vi x, const qd_vi a, const qd_vi b) {
    if (mode == QD_MODE_SMALL) return qd_v_whole(qd_v_float(x) * qd_v_as_float(a));
    if (mode == QD_MODE_FLOAT) return qd_v_round(qd_v_float(x) * qd_v_as_float(a), -32768.0f, 32767.0f);
    if (mode == QD_MODE_FIXED) return qd_v_fixed(x, a, b, -32768, 32767);
    if (mode == QD_MODE_AWAY) return qd_v_away(x, a, b);
    return qd_v_gemmlowp(x, a, b);
}

/* What makes bytes of such sums: zero point and limits, moved by 128 where codes are signed. */
typedef struct qd_v_end {
    qd_vi zero, low, high, flip; /* zero: of 16 bits */
} qd_v_end;

QD_ALWAYS qd_v_end qd_v_end_of(const int zero_point, const int min, const int max, const int code) {
    const int move = QD_CODE_SIGNED(code) ? 128 : 0;
    const qd_v_end e = {(qd_vi)(int)(((uint)(zero_point + move) & 0xffffu) * 0x00010001u),
                        (qd_vi)(int)(((uint)(min + move) & 0xffu) * 0x01010101u),
                        (qd_vi)(int)(((uint)(max + move) & 0xffu) * 0x01010101u),
                        (qd_vi)(int)((uint)move * 0x01010101u)};
    return e;
}

/* Codes of up to four vectors, in parts of four lanes: vector 0's, 1's, 2's, 3's first, and so on. */
QD_ALWAYS qd_vi qd_v_pack(const qd_v_end *e, const qd_vi *v, const int vectors) {
    const qd_vi low = QD_PARTWISE(paddsw, QD_PARTWISE(packssdw, v[0], v[vectors > 1]), e->zero);
    const qd_vi high = vectors > 2 ? QD_PARTWISE(paddsw, QD_PARTWISE(packssdw, v[2], v[vectors - 1]), e->zero) : low;
    const qd_vi codes = QD_PARTWISE(pminub, QD_PARTWISE(packuswb, low, high), e->high);
    return QD_PARTWISE(pmaxub, codes, e->low) ^ e->flip;
}

/* The first n bytes. Parts are named lane by lane: by an address, all of them would be in memory. */
QD_ALWAYS void qd_v_put(const qd_vi bytes, const int n, __global uchar *p) {
#define QD_PUT_PART(i, lanes) \
    if (16 * i + 16 <= n) *(__global qd_16_anywhere *)(p + 16 * i) = as_uint4(bytes.lanes)
    if (n == 4 * QD_V) {
        *(__global qd_v_anywhere *)p = bytes;
        return;
    }
    QD_PUT_PART(0, s0123);
    QD_PUT_PART(1, s4567);
#if QD_V == 16
    QD_PUT_PART(2, s89ab);
    QD_PUT_PART(3, scdef);
#endif
    if (n % 16) {
        uchar last[4 * QD_V];
        *(qd_v_anywhere *)last = bytes;
        for (int i = n & ~15; i < n; i++)
            p[i] = last[i];
    }
}

/* Sums with their bias as codes of y, which has requant numbers; a and b are those of the lanes. */
QD_ALWAYS qd_vi qd_v_finish(const qd_output *y, const qd_vi x, const qd_vi a, const qd_vi b) {
    if (QD_CODE_BITS(y->code) == 8 && y->mode != QD_MODE_AWAY) {
        const int low = y->min - y->zero_point, high = y->max - y->zero_point;
        if (y->mode == QD_MODE_FIXED) return qd_v_fixed(x, a, b, low, high) + y->zero_point;
        if (y->mode == QD_MODE_FLOAT) return qd_v_limit(y, qd_v_float(x) * qd_v_as_float(a));
        return clamp(qd_v_scaled(y->mode, x, a, b), (qd_vi)low, (qd_vi)high) + y->zero_point;
    }
    int lanes[QD_V], first[QD_V], second[QD_V];
    qd_v_store_int(x, 0, lanes);
    qd_v_store_int(a, 0, first);
    qd_v_store_int(b, 0, second);
    for (int i = 0; i < QD_V; i++)
        lanes[i] = qd_to_code(qd_requantize(lanes[i], y->mode, first[i], second[i]), y->zero_point, y->min, y->max);
    return qd_v_load_int(0, lanes);
}

/* Codes of a convolution with the residual's added, as codes. */
QD_ALWAYS qd_vi qd_v_add_residual(const qd_conv_add_int_params *p, const qd_vi code, const qd_vi residual) {
    const qd_binary_params *s = &p->add;
    const qd_vi a = (p->residual_first ? residual : code) - s->a_zero;
    const qd_vi b = (p->residual_first ? code : residual) - s->b_zero;
    const int low = s->y.min - s->y.zero_point, high = s->y.max - s->y.zero_point;
    if (s->y.mode == QD_MODE_FIXED) {
        const qd_vl sum = qd_v_long(a) * (long)s->a_multiplier + qd_v_long(b) * (long)s->b_multiplier;
        const qd_vl whole = (sum + (1L << (s->y_shift - 1))) >> (qd_vl)s->y_shift;
        return qd_v_clamp(whole, low, high) + s->y.zero_point;
    }
    if (s->y.mode == QD_MODE_GEMMLOWP) {
        const qd_vi of_a = qd_v_gemmlowp(a << QD_ADD_LEFT_SHIFT, (qd_vi)s->a_multiplier, (qd_vi)s->a_shift);
        const qd_vi of_b = qd_v_gemmlowp(b << QD_ADD_LEFT_SHIFT, (qd_vi)s->b_multiplier, (qd_vi)s->b_shift);
        const qd_vi sum = qd_v_gemmlowp(of_a + s->b_sign * of_b, (qd_vi)s->y_multiplier, (qd_vi)s->y_shift);
        return clamp(sum, (qd_vi)low, (qd_vi)high) + s->y.zero_point;
    }
    const qd_vf of_a = qd_v_float(a), of_b = qd_v_float(b);
    if (s->y.mode == QD_MODE_ZERO_FIRST)
        return qd_v_limit(&s->y, fma(of_a, (qd_vf)s->a_scale, fma(of_b, (qd_vf)s->b_scale, (qd_vf)s->offset)));
    return qd_v_limit(&s->y, (s->a_scale * of_a + s->b_scale * of_b) / s->y_scale);
}

#endif
