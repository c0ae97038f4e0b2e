/* The sum of two codes in the scale of a third: ADD_INT, for itself and behind a convolution. a and b are without their
 * zero points. */
#ifndef QD_ADD_INT_H
#define QD_ADD_INT_H

#include "codes.h"

static inline int qd_add_fixed(const qd_binary_params *p, const int a, const int b) {
    const long sum = (long)a * p->a_multiplier + (long)b * p->b_multiplier;
    return qd_saturate_i32((sum + (1L << (p->y_shift - 1))) >> p->y_shift); /* 1 … 63 */
}

static inline int qd_add_gemmlowp(const qd_binary_params *p, const int a, const int b) {
    const int scaled_a = qd_requantize_gemmlowp(a * (1 << QD_ADD_LEFT_SHIFT), p->a_multiplier, p->a_shift);
    const int scaled_b = qd_requantize_gemmlowp(b * (1 << QD_ADD_LEFT_SHIFT), p->b_multiplier, p->b_shift);
    return qd_requantize_gemmlowp(scaled_a + p->b_sign * scaled_b, p->y_multiplier, p->y_shift);
}

static inline int qd_add_float(const qd_binary_params *p, const int a, const int b) {
    return qd_round_even_i32((p->a_scale * (float)a + p->b_scale * (float)b) / p->y_scale);
}

/* OpenCL's fma is correctly rounded on every device. */
static inline int qd_add_zero_first(const qd_binary_params *p, const int a, const int b) {
    return qd_round_even_i32(fma((float)a, p->a_scale, fma((float)b, p->b_scale, p->offset)));
}

static inline int qd_add(const qd_binary_params *p, const int a, const int b) {
    switch (p->y.mode) {
        case QD_MODE_FIXED:
            return qd_add_fixed(p, a, b);
        case QD_MODE_GEMMLOWP:
            return qd_add_gemmlowp(p, a, b);
        case QD_MODE_ZERO_FIRST:
            return qd_add_zero_first(p, a, b);
        default:
            return qd_add_float(p, a, b);
    }
}

/* A convolution's code with a residual's added, as a code. */
static inline int qd_add_residual(const qd_conv_add_int_params *p, const int code, const int residual) {
    const qd_binary_params *s = &p->add;
    const int a = p->residual_first ? residual : code, b = p->residual_first ? code : residual;
    return qd_to_code(qd_add(s, a - s->a_zero, b - s->b_zero), s->y.zero_point, s->y.min, s->y.max);
}

/* The format of the residual. */
static inline int qd_residual_code(const qd_conv_add_int_params *p) {
    return p->residual_first ? p->add.a_code : p->add.b_code;
}

#endif
