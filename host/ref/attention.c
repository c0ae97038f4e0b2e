/* Rotary positions, the key/value cache, and attention with grouped heads. */
#include <stdlib.h>

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

qd_status qd_ref_kv_store(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const int heads = n->attrs.kv.heads, dim = n->attrs.kv.head_dim;
    const int64_t positions = n->out[0]->desc.shape[1], position = *(const int32_t *)in[2].data;
    float *keys = out[0].data, *values = out[1].data;
    for (int64_t r = 0; r < rows; r++) {
        const float *k = qd_row(in[0], r), *v = qd_row(in[1], r);
        if (position + r < 0 || position + r >= positions) continue;
        for (int h = 0; h < heads; h++) {
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
    const float *keys = in[1].data, *values = in[2].data;
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
                    p[d % QD_LANES] += q[d] * keys[QD_KEY_INDEX(h / group, j, d, positions, dim)];
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
                    p[j % QD_LANES] += e[j] * values[((h / group) * positions + j) * dim + d];
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
