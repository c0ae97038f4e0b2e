/* Sums and products of codes, broadcast as in NumPy. */
#include "ref/ref.h"

/* The code of x minus its zero point that stands at an index of y, whose rank is `rank`. */
static int32_t value_at(const qd_tensor *x, qd_operand data, const int64_t index[], int rank, int32_t code,
                        int32_t zero) {
    int64_t at = 0;
    for (int i = 0; i < x->desc.rank; i++) {
        const int64_t size = x->desc.shape[i];
        at = at * size + (size == 1 ? 0 : index[rank - x->desc.rank + i]);
    }
    return qd_ref_code(data.data, at, code) - zero;
}

int32_t qd_ref_sum(const qd_binary_params *p, int32_t a, int32_t b) {
    switch (p->y.mode) {
        case QD_MODE_FIXED: { /* floor((a·Ma + b·Mb) / 2^shift + 1/2) */
            const int64_t total = (int64_t)a * p->a_multiplier + (int64_t)b * p->b_multiplier;
            return qd_saturate_i32((total + ((int64_t)1 << (p->y_shift - 1))) >> p->y_shift); /* 1 … 63 */
        }
        case QD_MODE_GEMMLOWP: { /* TensorFlow Lite's reference ADD */
            const int32_t unit = 1 << QD_ADD_LEFT_SHIFT;
            const int32_t scaled_a = qd_requantize_gemmlowp(a * unit, p->a_multiplier, p->a_shift);
            const int32_t scaled_b = qd_requantize_gemmlowp(b * unit, p->b_multiplier, p->b_shift);
            return qd_requantize_gemmlowp(scaled_a + p->b_sign * scaled_b, p->y_multiplier, p->y_shift);
        }
        case QD_MODE_ZERO_FIRST:
            return qd_round_even_i32(fmaf((float)a, p->a_scale, fmaf((float)b, p->b_scale, p->offset)));
        default: { /* float32, in this order */
            const float of_a = p->a_scale * (float)a, of_b = p->b_scale * (float)b;
            return qd_round_even_i32((of_a + of_b) / p->y_scale);
        }
    }
}

static int32_t product(const qd_binary_params *p, int32_t a, int32_t b) {
    switch (p->y.mode) {
        case QD_MODE_FLOAT:
            return qd_round_even_i32(p->a_scale * (float)a * (p->b_scale * (float)b) / p->y_scale);
        case QD_MODE_ZERO_FIRST:
            return qd_round_even_i32((float)(a * b) * qd_as_f32((uint32_t)p->y_multiplier) + p->offset);
        default:
            return qd_requantize(a * b, p->y.mode, p->y_multiplier, p->y_shift);
    }
}

static qd_status compute(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows,
                         int32_t (*combine)(const qd_binary_params *p, int32_t a, int32_t b)) {
    const qd_binary_params *p = &n->params.binary;
    const qd_tensor_desc *y = &n->out[0]->desc;
    int64_t count = rows, index[QD_MAX_RANK];
    for (int i = 1; i < y->rank; i++)
        count *= y->shape[i];
    for (int64_t e = 0; e < count; e++) {
        int64_t rest = e;
        for (int i = y->rank - 1; i > 0; i--) {
            index[i] = rest % y->shape[i];
            rest /= y->shape[i];
        }
        index[0] = rest;
        const int32_t a = value_at(n->in[0], in[0], index, y->rank, p->a_code, p->a_zero);
        const int32_t b = value_at(n->in[1], in[1], index, y->rank, p->b_code, p->b_zero);
        const int32_t code = qd_to_code(combine(p, a, b), p->y.zero_point, p->y.min, p->y.max);
        qd_ref_put_code(out[0].data, e, p->y.code, code);
    }
    return QD_OK;
}

qd_status qd_ref_add_int(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    return compute(n, in, out, rows, qd_ref_sum);
}

qd_status qd_ref_mul_int(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    return compute(n, in, out, rows, product);
}
