/* y = w · x, with int8 activations (exact sums inside each block) or with float ones. */
#include <stdlib.h>

#include "formats/formats.h"
#include "ref/ref.h"

/* A weight row taken apart, so that it is decoded once for all rows of x: sixteen elements have one scale and, in some
 * formats, one offset. */
typedef struct weight_row {
    qd_sixteen *part;
    bool together; /* blocks of 32: both halves of 32 elements have the same scale and offset */
} weight_row;

static void decode_row(qd_format f, const void *row, int64_t K, weight_row *w) {
    const qd_format_info *info = qd_format_get(f);
    const unsigned char *in = row;
    w->together = info->block == 32;
    for (int64_t b = 0; b < K / info->block; b++) {
        for (int i = 0; i < info->block / 16; i++)
            qd_codec_get(f)->sixteen(in + b * info->bytes, i, &w->part[b * (info->block / 16) + i]);
    }
}

static float dot_sixteen(const qd_sixteen *w, const qd_block_a8 *x) {
    int32_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += w->code[i] * x->q[i];
    return x->d * (float)sum;
}

/* 32 weights meet two blocks of activations: for each an exact integer sum, scaled; they are added in four interleaved
 * partial sums. Where blocks are larger than 32, each half has a scale of its own. */
static float dot_blocks(const weight_row *w, const qd_block_a8 *x, int64_t K) {
    float p[QD_BLOCK_LANES] = {0};
    for (int64_t u = 0; u < K / 32; u++) {
        const qd_sixteen *w_lo = &w->part[2 * u], *w_hi = w_lo + 1;
        const qd_block_a8 *lo = &x[2 * u], *hi = lo + 1;
        const float dot_lo = dot_sixteen(w_lo, lo), dot_hi = dot_sixteen(w_hi, hi);
        const float sum_lo = lo->d * lo->sum, sum_hi = hi->d * hi->sum;
        float t = w->together ? w_lo->scale * (dot_lo + dot_hi) : w_lo->scale * dot_lo + w_hi->scale * dot_hi;
        if (w_lo->has_offset) {
            t += w->together ? w_lo->offset * (sum_lo + sum_hi) : w_lo->offset * sum_lo + w_hi->offset * sum_hi;
        }
        p[u % QD_BLOCK_LANES] += t;
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
    const int64_t K = qd_columns(n->in[0]), N = n->in[0]->desc.shape[0];
    const bool integer = n->in[1]->desc.format == QD_FORMAT_A8;
    /* A bias is one row for all rows of y. */
    const bool bias = n->in[2] && n->in[2]->desc.rank == 1;
    qd_status status = QD_ERR_MEMORY;
    weight_row w = {.part = qd_alloc((size_t)(K / 16 + 1) * sizeof *w.part)};
    float *values = qd_alloc((size_t)K * sizeof *values);
    if (!w.part || !values) goto error;
    status = QD_OK;
    for (int64_t i = 0; i < N; i++) {
        if (integer) {
            decode_row(format, qd_row(in[0], i), K, &w);
        } else {
            QD_TRY(qd_dequantize(format, qd_row(in[0], i), 1, K, values));
        }
        for (int64_t r = 0; r < rows; r++) {
            const void *x = qd_row(in[1], r);
            float y = integer ? dot_blocks(&w, x, K) : dot_floats(values, x, K);
            if (n->in[2]) y += ((const float *)qd_row(in[2], bias ? 0 : r))[i];
            ((float *)qd_row(out[0], r))[i] = y;
        }
    }
error:
    free(w.part);
    free(values);
    return status;
}
