/* Operators that look at codes one by one, or at a row of them. */
#include "ref/ref.h"

qd_status qd_ref_table(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_table_params *p = &n->params.table;
    const uint8_t *table = in[1].data;
    for (int64_t i = 0; i < rows * p->size; i++) {
        const int32_t x = qd_ref_code(in[0].data, i, QD_CODE(8, p->x_signed));
        ((uint8_t *)out[0].data)[i] = table[x - (p->x_signed ? -128 : 0)];
    }
    return QD_OK;
}

/* round(2^24 · exp(-scale · distance)): float32 in this order, ties to even. */
static uint64_t weight(float scale, int32_t distance) {
    return (uint64_t)qd_round_even_i32(qd_exp(-(scale * (float)distance)) * 16777216.0f);
}

/* One row with weights in floats: ONNX Runtime's. */
static void shared_row(const qd_softmax_int_params *p, const float *weights, int32_t max, const uint8_t *x,
                       uint8_t *y) {
    const int32_t y_min = QD_CODE_SIGNED(p->y_code) ? -128 : 0, beyond = y_min ? INT32_MIN : 0;
    float sum = 0;
    for (int64_t i = 0; i < p->cols; i++)
        sum += weights[max - qd_ref_code(x, i, p->x_code)];
    for (int64_t i = 0; i < p->cols; i++) {
        const float share = weights[max - qd_ref_code(x, i, p->x_code)] * (float)p->y_inverse / sum;
        const int32_t whole = share < 0x1p31f ? qd_round_even_i32(share) : beyond;
        const int32_t code = (int32_t)((uint32_t)whole + (uint32_t)p->y_zero);
        qd_ref_put_code(y, i, p->y_code,
                        p->wrap ? qd_to_code(code, 0, INT32_MIN, 255) : qd_to_code(code, 0, y_min, y_min + 255));
    }
}

/* One row with weights in fixed point: TensorFlow Lite's, by gemmlowp. */
static void weighted_row(const qd_softmax_int_params *p, const int32_t *weights, int32_t max, const uint8_t *x,
                         uint8_t *y) {
    uint32_t sum = 0; /* 19 bits after the point */
    for (int64_t i = 0; i < p->cols; i++)
        sum += (uint32_t)qd_divide_rounded(weights[max - qd_ref_code(x, i, p->x_code)], 12);
    int zeros = 0;
    while (zeros < 31 && !(sum >> (31 - zeros) & 1))
        zeros++;
    /* The sum is 2^(12 - zeros) · (1 + fraction). */
    const int32_t inverse = qd_one_over_one_plus_q31((int32_t)((sum << zeros) & 0x7fffffffu)), shift = 12 - zeros + 23;
    for (int64_t i = 0; i < p->cols; i++) {
        const int32_t share = qd_multiply_q31(inverse, weights[max - qd_ref_code(x, i, p->x_code)]);
        const int32_t code = shift > 31 || shift < 0 ? 0 : qd_divide_rounded(share, shift);
        qd_ref_put_code(y, i, p->y_code, qd_to_code(code, p->y_zero, p->y_zero, p->y_zero + 255));
    }
}

qd_status qd_ref_softmax_int(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_softmax_int_params *p = &n->params.softmax_int;
    const int32_t y_min = QD_CODE_SIGNED(p->y_code) ? -128 : 0;
    const int64_t total = p->rows ? rows * p->rows : 1;
    for (int64_t r = 0; r < total; r++) {
        const uint8_t *x = (const uint8_t *)in[0].data + r * p->cols;
        uint8_t *y = (uint8_t *)out[0].data + r * p->cols;
        int32_t max = -128;
        for (int64_t i = 0; i < p->cols; i++) {
            const int32_t code = qd_ref_code(x, i, p->x_code);
            max = code > max ? code : max;
        }
        if (p->weights == QD_WEIGHTS_FIXED) {
            weighted_row(p, in[1].data, max, x, y);
            continue;
        }
        if (p->weights == QD_WEIGHTS_FLOAT) {
            shared_row(p, in[1].data, max, x, y);
            continue;
        }
        uint64_t sum = 0;
        for (int64_t i = 0; i < p->cols; i++)
            sum += weight(p->x_scale, max - qd_ref_code(x, i, p->x_code));
        for (int64_t i = 0; i < p->cols; i++) {
            /* floor(share / y scale + 1/2), the reciprocal of the scale in 16 bits after the point. */
            const uint64_t share = weight(p->x_scale, max - qd_ref_code(x, i, p->x_code)) * (uint64_t)p->y_inverse;
            const uint64_t one = sum << 16;
            const int32_t code = (int32_t)((2 * share + one) / (2 * one));
            qd_ref_put_code(y, i, p->y_code, qd_to_code(code, p->y_zero, y_min, y_min + 255));
        }
    }
    return QD_OK;
}
