/* y = x · wᵀ for weights with a scale for each group of codes along K. */
#include "ref/ref.h"

/* Exact integer sums in each group, scaled; the groups are added in four interleaved partial sums. */
static float dot_codes(const qd_node *n, const qd_operand in[], const void *w, const void *x, int64_t i,
                       int32_t x_zero) {
    const qd_matmul_group_params *p = &n->params.matmul_group;
    const float *scale = qd_row(in[1], p->w_scale == QD_SHARED ? 0 : i);
    const qd_operand zeros = {p->w_zero == QD_ABSENT ? NULL : qd_row(in[3], p->w_zero == QD_SHARED ? 0 : i), 0};
    float part[QD_BLOCK_LANES] = {0};
    for (int64_t g = 0; g < p->groups; g++) {
        const int32_t w_zero = qd_ref_zero(&zeros, p->w_zero == QD_ABSENT ? QD_ABSENT : QD_EACH, g, p->w_code);
        int32_t sum = 0;
        for (int64_t k = g * p->group; k < (g + 1) * p->group && k < p->k; k++)
            sum += (qd_ref_code(w, k, p->w_code) - w_zero) * (qd_ref_code(x, k, p->x_code) - x_zero);
        part[g % QD_BLOCK_LANES] += scale[g] * (float)sum;
    }
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* The value of weight k of channel i. */
static float weight(const qd_node *n, const qd_operand in[], const void *w, int64_t i, int64_t k) {
    const qd_matmul_group_params *p = &n->params.matmul_group;
    const int64_t g = k / p->group;
    const float *scale = qd_row(in[1], p->w_scale == QD_SHARED ? 0 : i);
    const int32_t code = qd_ref_code(w, k, p->w_code);
    if (p->w_zero == QD_ABSENT) return (float)code * scale[g];
    const qd_operand zeros = {qd_row(in[3], p->w_zero == QD_SHARED ? 0 : i), 0};
    if (p->w_zero_is_float) return ((float)code - ((const float *)zeros.data)[g]) * scale[g];
    return (float)(code - qd_ref_zero(&zeros, QD_EACH, g, p->w_code)) * scale[g];
}

/* As MATMUL does with f32: 16 lane-strided partial sums over all of K. */
static float dot_floats(const qd_node *n, const qd_operand in[], const void *w, const float *x, int64_t i) {
    float part[QD_LANES] = {0};
    for (int64_t k = 0; k < n->params.matmul_group.k; k++)
        part[k % QD_LANES] += weight(n, in, w, i, k) * x[k];
    return qd_ref_tree(part);
}

qd_status qd_ref_matmul_group(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_matmul_group_params *p = &n->params.matmul_group;
    for (int64_t r = 0; r < rows; r++) {
        const void *x = qd_row(in[2], r);
        const int32_t x_zero = p->x_code ? qd_ref_zero(&in[5], p->x_zero, r, p->x_code) : 0;
        for (int64_t i = 0; i < p->n; i++) {
            const void *w = qd_row(in[0], i);
            float y = p->x_code ? dot_codes(n, in, w, x, i, x_zero) : dot_floats(n, in, w, x, i);
            if (p->x_scale != QD_ABSENT) y *= ((const float *)in[4].data)[p->x_scale == QD_SHARED ? 0 : r];
            if (p->bias != QD_ABSENT) y += ((const float *)in[6].data)[i];
            ((float *)qd_row(out[0], r))[i] = qd_one_nan(y);
        }
    }
    return QD_OK;
}
