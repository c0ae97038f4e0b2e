/* y = w · x, with int8 activations (exact sums inside each block) or with float ones. */
#include <stdlib.h>

#include "ref/ref.h"

/* A weight row taken apart, so that it is decoded once for all rows of x: x[i] = scale[b] · code[i] + offset[b]. */
typedef struct weight_row {
    int8_t *code;
    float *scale, *offset;
    bool has_offset;
} weight_row;

static void decode_row(qd_format f, const void *row, int64_t blocks, weight_row *w) {
    const qd_block_q8_0 *q8_0 = row;
    const qd_block_q4_0 *q4_0 = row;
    const qd_block_q4_1 *q4_1 = row;
    w->has_offset = f == QD_FORMAT_Q4_1;
    for (int64_t b = 0; b < blocks; b++) {
        int8_t *code = w->code + 32 * b;
        if (f == QD_FORMAT_Q8_0) {
            w->scale[b] = qd_half_to_float(q8_0[b].d);
            for (int i = 0; i < 32; i++)
                code[i] = q8_0[b].q[i];
        } else if (f == QD_FORMAT_Q4_0) {
            w->scale[b] = qd_half_to_float(q4_0[b].d);
            for (int i = 0; i < 16; i++) {
                code[i] = (int8_t)((q4_0[b].q[i] & 15) - 8);
                code[i + 16] = (int8_t)((q4_0[b].q[i] >> 4) - 8);
            }
        } else {
            w->scale[b] = qd_half_to_float(q4_1[b].d);
            w->offset[b] = qd_half_to_float(q4_1[b].m);
            for (int i = 0; i < 16; i++) {
                code[i] = (int8_t)(q4_1[b].q[i] & 15);
                code[i + 16] = (int8_t)(q4_1[b].q[i] >> 4);
            }
        }
    }
}

/* A block of weights meets two of activations: for each an exact integer sum, scaled; the blocks are added in four
 * interleaved partial sums. */
static float dot_blocks(const weight_row *w, const qd_block_a8 *x, int64_t blocks) {
    float p[QD_BLOCK_LANES] = {0};
    for (int64_t b = 0; b < blocks; b++) {
        const qd_block_a8 *lo = &x[2 * b], *hi = lo + 1;
        const int8_t *code = w->code + 32 * b;
        int32_t sum_lo = 0, sum_hi = 0;
        for (int i = 0; i < 16; i++)
            sum_lo += code[i] * lo->q[i];
        for (int i = 0; i < 16; i++)
            sum_hi += code[16 + i] * hi->q[i];
        float t = w->scale[b] * (lo->d * (float)sum_lo + hi->d * (float)sum_hi);
        if (w->has_offset) t += w->offset[b] * (lo->d * lo->sum + hi->d * hi->sum);
        p[b % QD_BLOCK_LANES] += t;
    }
    return (p[0] + p[1]) + (p[2] + p[3]);
}

static float dot_floats(const float *w, const float *x, int64_t count) {
    float p[QD_LANES] = {0};
    for (int64_t k = 0; k < count; k++)
        p[k % QD_LANES] += w[k] * x[k];
    return qd_ref_tree(p);
}

qd_status qd_ref_matmul(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_format format = n->in[0]->desc.format;
    const int64_t K = qd_columns(n->in[0]), N = n->in[0]->desc.shape[0], blocks = K / 32;
    const bool integer = n->in[1]->desc.format == QD_FORMAT_A8;
    /* A bias is one row for all rows of y. */
    const bool bias = n->in[2] && n->in[2]->desc.rank == 1;
    qd_status status = QD_ERR_MEMORY;
    weight_row w = {.code = qd_alloc((size_t)K),
                    .scale = qd_alloc((size_t)(blocks + 1) * sizeof(float)),
                    .offset = qd_alloc((size_t)(blocks + 1) * sizeof(float))};
    float *values = qd_alloc((size_t)K * sizeof *values);
    if (!w.code || !w.scale || !w.offset || !values) goto error;
    status = QD_OK;
    for (int64_t i = 0; i < N; i++) {
        if (integer) {
            decode_row(format, qd_row(in[0], i), blocks, &w);
        } else {
            QD_TRY(qd_dequantize(format, qd_row(in[0], i), 1, K, values));
        }
        for (int64_t r = 0; r < rows; r++) {
            const void *x = qd_row(in[1], r);
            float y = integer ? dot_blocks(&w, x, blocks) : dot_floats(values, x, K);
            if (n->in[2]) y += ((const float *)qd_row(in[2], bias ? 0 : r))[i];
            ((float *)qd_row(out[0], r))[i] = y;
        }
    }
error:
    free(w.code);
    free(w.scale);
    free(w.offset);
    free(values);
    return status;
}
