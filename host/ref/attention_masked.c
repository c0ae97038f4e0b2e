/* Attention with a mask, over blocks of positions. */
#include <stdlib.h>

#include "ref/ref.h"

enum { BLOCK = 16 };

/* One query: where its operands are. */
typedef struct query {
    const void *q, *k, *v, *mask;
    float slope;
    float *y; /* E sums */
    float max, sum[QD_LANES];
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

/* Adds positions first … first + count - 1 to the query's sums. */
static void add_block(const qd_attention_masked_params *p, query *x, int64_t first, int64_t count) {
    float s[BLOCK];
    float max = x->max;
    bool all_out = true;
    for (int64_t i = 0; i < count; i++) {
        s[i] = score(p, x, first + i);
        max = s[i] > max ? s[i] : max;
        all_out &= s[i] == -INFINITY;
    }
    if (all_out) return;
    if (max > x->max) {
        const float less = qd_exp(x->max - max);
        x->max = max;
        for (int i = 0; i < QD_LANES; i++)
            x->sum[i] *= less;
        for (int64_t e = 0; e < p->y.n[3]; e++)
            x->y[e] *= less;
    }
    for (int64_t i = 0; i < count; i++) {
        const float weight = s[i] == -INFINITY ? 0.0f : qd_exp(s[i] - max);
        x->sum[i] += weight;
        if (weight == 0.0f) continue;
        for (int64_t e = 0; e < p->y.n[3]; e++)
            x->y[e] +=
                weight * qd_ref_value((const char *)x->v + (first + i) * p->v.step[2], p->v_format, p->v.step[3], e);
    }
}

qd_status qd_ref_attention_masked(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_attention_masked_params *p = &n->params.attention_masked;
    const int64_t H = p->q.n[1], T = p->q.n[2], P = p->k.n[2], E = p->y.n[3], group = H / p->k.n[1];
    float *sums = qd_alloc((size_t)E * sizeof *sums);
    if (!sums) return QD_ERR_MEMORY;
    for (int64_t i = 0; i < rows * H * T; i++) {
        const int64_t b = i / (H * T), h = i / T % H, t = i % T;
        query x = {.q = qd_ref_at(in[0], &p->q, b, h, t),
                   .k = qd_ref_at(in[1], &p->k, b / p->kv_repeat, h / group, 0),
                   .v = qd_ref_at(in[2], &p->v, b / p->kv_repeat, h / group, 0),
                   .slope = 1,
                   .y = sums,
                   .max = -INFINITY};
        if (n->in[3]) x.mask = qd_ref_at(in[3], &p->mask, b % p->mask.n[0], h % p->mask.n[1], t);
        if (n->in[4]) x.slope = *(const float *)((const char *)in[4].data + h * p->slopes_step);
        for (int64_t e = 0; e < E; e++)
            sums[e] = 0;
        for (int64_t j = 0; j < P; j += BLOCK)
            add_block(p, &x, j, P - j < BLOCK ? P - j : BLOCK);
        const float sum = qd_ref_tree(x.sum), inverse = sum == 0 ? 0 : 1.0f / sum;
        char *y = qd_ref_at(out[0], &p->y, b, t, h);
        for (int64_t e = 0; e < E; e++)
            *(float *)(y + e * p->y.step[3]) = qd_one_nan(sums[e] * inverse);
    }
    free(sums);
    return QD_OK;
}
