/* Attention with a mask. */
#include <stdlib.h>

#include "ref/ref.h"

/* One query: where its operands are. */
typedef struct query {
    const void *q, *k, *v, *mask;
    float slope;
} query;

/* What position j scores; -inf: it is left out. */
static float score(const qd_attention_masked_params *p, const query *x, int64_t j) {
    float product[QD_LANES] = {0};
    float bias = 0;
    if (x->mask) {
        bias = qd_ref_value(x->mask, p->mask_format, p->mask.step[3], j);
        if (bias == -INFINITY) return bias;
        bias *= x->slope;
        if (bias == -INFINITY) return bias;
    }
    for (int64_t d = 0; d < p->q.n[3]; d++)
        product[d % QD_LANES] += qd_ref_value(x->q, QD_NUMBERS_F32, p->q.step[3], d) *
                                 qd_ref_value((const char *)x->k + j * p->k.step[2], p->k_format, p->k.step[3], d);
    const float s = p->scale * qd_ref_tree(product);
    return (p->softcap != 0 ? qd_cap(s, p->softcap) : s) + bias;
}

/* The weights of all P positions: those of SOFTMAX. */
static void weigh(const qd_attention_masked_params *p, const query *x, float *weight) {
    const int64_t P = p->k.n[2];
    float max = -INFINITY, sum[QD_LANES] = {0};
    for (int64_t j = 0; j < P; j++) {
        weight[j] = score(p, x, j);
        max = weight[j] > max ? weight[j] : max;
    }
    for (int64_t j = 0; j < P; j++) {
        weight[j] = weight[j] == -INFINITY ? 0.0f : qd_exp(weight[j] - max);
        sum[j % QD_LANES] += weight[j];
    }
    const float total = qd_ref_tree(sum), inverse = total == 0 ? 0 : 1.0f / total;
    for (int64_t j = 0; j < P; j++)
        weight[j] *= inverse;
}

/* Element e of the result: the sum of MATMUL_BATCH, but that weights of 0 leave a value out. */
static float add_up(const qd_attention_masked_params *p, const query *x, const float *weight, int64_t e) {
    float sum[QD_LANES] = {0};
    for (int64_t j = 0; j < p->k.n[2]; j++) {
        if (weight[j] == 0) continue;
        sum[j % QD_LANES] +=
            weight[j] * qd_ref_value((const char *)x->v + j * p->v.step[2], p->v_format, p->v.step[3], e);
    }
    return qd_one_nan(qd_ref_tree(sum));
}

qd_status qd_ref_attention_masked(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_attention_masked_params *p = &n->params.attention_masked;
    const int64_t H = p->q.n[1], T = p->q.n[2], group = H / p->k.n[1];
    float *weight = qd_alloc((size_t)p->k.n[2] * sizeof *weight);
    if (!weight) return QD_ERR_MEMORY;
    for (int64_t i = 0; i < rows * H * T; i++) {
        const int64_t b = i / (H * T), h = i / T % H, t = i % T;
        query x = {.q = qd_ref_at(in[0], &p->q, b, h, t),
                   .k = qd_ref_at(in[1], &p->k, b / p->kv_repeat, h / group, 0),
                   .v = qd_ref_at(in[2], &p->v, b / p->kv_repeat, h / group, 0),
                   .slope = 1};
        if (n->in[3]) x.mask = qd_ref_at(in[3], &p->mask, b % p->mask.n[0], h % p->mask.n[1], t);
        if (n->in[4]) x.slope = *(const float *)((const char *)in[4].data + h * p->slopes_step);
        weigh(p, &x, weight);
        char *y = qd_ref_at(out[0], &p->y, b, t, h);
        for (int64_t e = 0; e < p->y.n[3]; e++)
            *(float *)(y + e * p->y.step[3]) = add_up(p, &x, weight, e);
    }
    free(weight);
    return QD_OK;
}
