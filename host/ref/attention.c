/* Rotary positions, the key/value cache, and attention with grouped heads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref.h"

/* Positions outside the cache do no harm: rows are not stored there, and others see its first or last ones. */
static int64_t clamp(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}

/* Rotates each pair (a, b) by the angle of its position: (a·cos − b·sin, a·sin + b·cos). Source: Su et al., RoFormer.
 */
qd_status qd_ref_rope(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const int heads = n->attrs.rope.heads, dim = n->attrs.rope.head_dim, dims = n->attrs.rope.dims, half = dims / 2;
    const int32_t *position = in[2].data;
    for (int64_t r = 0; r < rows; r++) {
        const bool each = n->in[2]->desc.shape[0] != 1;
        const int64_t at = clamp(each ? position[r] : position[0] + r, 0, n->in[1]->desc.shape[0] - 1);
        const float *table = qd_row(in[1], at); /* cos and sin of each pair in turn */
        for (int h = 0; h < heads; h++) {
            const float *x = (const float *)qd_row(in[0], r) + h * dim;
            float *y = (float *)qd_row(out[0], r) + h * dim;
            for (int i = 0; i < half; i++) {
                const int ia = n->attrs.rope.neox ? i : 2 * i, ib = n->attrs.rope.neox ? i + half : 2 * i + 1;
                const float a = x[ia], b = x[ib], c = table[2 * i], s = table[2 * i + 1];
                y[ia] = a * c - b * s;
                y[ib] = a * s + b * c;
            }
            for (int i = dims; i < dim; i++)
                y[i] = x[i];
        }
    }
    return QD_OK;
}

/* ---- Caches ------------------------------------------------------------------------------------------------- */

/* Quantizes a head of one position to codes, `step` bytes apart, and their scale. */
static void put_codes(const float *x, int dim, int8_t *codes, int step, int8_t *scale_at) {
    float max = 0;
    for (int d = 0; d < dim; d++)
        max = fabsf(x[d]) > max ? fabsf(x[d]) : max;
    const float scale = qd_a8_scale(max), inverse = qd_a8_inverse(max);
    memcpy(scale_at, &scale, sizeof scale);
    for (int d = 0; d < dim; d++)
        codes[d * step] = (int8_t)qd_a8_code(x[d], inverse);
}

static float code_value(int8_t code, const int8_t *scale_at) {
    float scale;
    memcpy(&scale, scale_at, sizeof scale);
    return (float)code * scale;
}

/* A cache as an operand, in either format. */
typedef struct cache {
    const float *floats; /* one of these is NULL */
    const int8_t *codes;
    int64_t positions;
    int dim;
} cache;

static cache cache_of(const qd_tensor *t, qd_operand o, int dim) {
    const bool codes = t->desc.format == QD_FORMAT_I8;
    return (cache){codes ? NULL : o.data, codes ? o.data : NULL, t->desc.shape[1], dim};
}

static float key_at(const cache *c, int64_t h, int64_t j, int d) {
    if (c->floats) return c->floats[QD_KEY_INDEX(h, j, d, c->positions, c->dim)];
    return code_value(c->codes[QD_KEY_INDEX(h, j, d, c->positions, QD_KV_I8_COLUMNS(c->dim))],
                      c->codes + QD_KEY_SCALE(h, j, c->positions, c->dim));
}

static float value_at(const cache *c, int64_t h, int64_t j, int d) {
    if (c->floats) return c->floats[(h * c->positions + j) * c->dim + d];
    const int8_t *row = c->codes + (h * c->positions + j) * QD_KV_I8_COLUMNS(c->dim);
    return code_value(row[d], row + c->dim);
}

/* ---- Operators on them -------------------------------------------------------------------------------------- */

qd_status qd_ref_kv_store(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const int heads = n->attrs.kv.heads, dim = n->attrs.kv.head_dim;
    const int64_t positions = n->out[0]->desc.shape[1], position = *(const int32_t *)in[2].data;
    const bool quantized = n->out[0]->desc.format == QD_FORMAT_I8;
    const int columns = QD_KV_I8_COLUMNS(dim);
    float *keys = out[0].data, *values = out[1].data;
    int8_t *key_codes = out[0].data, *value_codes = out[1].data;
    for (int64_t r = 0; r < rows; r++) {
        const float *k = qd_row(in[0], r), *v = qd_row(in[1], r);
        if (position + r < 0 || position + r >= positions) continue;
        for (int h = 0; h < heads; h++) {
            if (quantized) {
                int8_t *value = value_codes + (h * positions + position + r) * columns;
                put_codes(k + h * dim, dim, key_codes + QD_KEY_INDEX(h, position + r, 0, positions, columns), 16,
                          key_codes + QD_KEY_SCALE(h, position + r, positions, dim));
                put_codes(v + h * dim, dim, value, 1, value + dim);
                continue;
            }
            for (int d = 0; d < dim; d++) {
                keys[QD_KEY_INDEX(h, position + r, d, positions, dim)] = k[h * dim + d];
                values[(h * positions + position + r) * dim + d] = v[h * dim + d];
            }
        }
    }
    return QD_OK;
}

/* softmax(scale · q·kᵀ) · v over the positions up to the row's own, with the roundings of MATMUL_BATCH, SOFTMAX and
 * MATMUL_BATCH again: weights have their sum 1 before they meet the values. Source: Vaswani et al.; grouped heads:
 * Ainslie et al. */
qd_status qd_ref_attention(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const int heads = n->attrs.attention.heads, group = heads / n->attrs.attention.kv_heads;
    const int dim = n->attrs.attention.head_dim;
    const int64_t positions = n->in[1]->desc.shape[1], position = *(const int32_t *)in[3].data;
    const cache keys = cache_of(n->in[1], in[1], dim), values = cache_of(n->in[2], in[2], dim);
    float *e = qd_alloc((size_t)positions * sizeof *e);
    float *y = qd_alloc((size_t)(heads * dim) * sizeof *y);
    qd_status status = e && y ? QD_OK : QD_ERR_MEMORY;
    for (int64_t r = 0; r < rows && !status; r++) {
        const int64_t visible = clamp(position + r + 1, 1, positions);
        for (int h = 0; h < heads; h++) {
            const float *q = (const float *)qd_row(in[0], r) + h * dim;
            float max = 0;
            for (int64_t j = 0; j < visible; j++) {
                float p[QD_LANES] = {0};
                for (int d = 0; d < dim; d++) {
                    p[d % QD_LANES] += q[d] * key_at(&keys, h / group, j, d);
                }
                e[j] = n->attrs.attention.scale * qd_ref_tree(p);
                max = j == 0 || e[j] > max ? e[j] : max;
            }
            float sum[QD_LANES] = {0};
            for (int64_t j = 0; j < visible; j++) {
                e[j] = qd_exp(e[j] - max);
                sum[j % QD_LANES] += e[j];
            }
            const float inverse = 1.0f / qd_ref_tree(sum);
            for (int64_t j = 0; j < visible; j++)
                e[j] *= inverse;
            for (int d = 0; d < dim; d++) {
                float p[QD_LANES] = {0};
                for (int64_t j = 0; j < visible; j++) {
                    p[j % QD_LANES] += e[j] * value_at(&values, h / group, j, d);
                }
                y[h * dim + d] = qd_ref_tree(p);
            }
        }
        status = qd_ref_put_row(n->out[0], y, qd_row(out[0], r));
    }
    free(e);
    free(y);
    return status;
}
