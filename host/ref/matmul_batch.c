/* Products of matrices that are both made while running, and with matrices that ids name. */
#include <stdlib.h>

#include "ref/ref.h"

qd_status qd_ref_matmul_batch(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_matmul_batch_params *p = &n->params.matmul_batch;
    int64_t size[4]; /* of y */
    for (int i = 0; i < 4; i++)
        size[i] = i == p->rows_at ? rows : p->y.n[i];
    for (int64_t r = 0; r < size[0] * size[1] * size[2]; r++) {
        const int64_t a = r / size[2] / size[1], b = r / size[2] % size[1], m = r % size[2];
        const void *x = qd_ref_at(in[1], &p->x, a, b, m);
        char *y = qd_ref_at(out[0], &p->y, a, b, m);
        for (int64_t i = 0; i < size[3]; i++) {
            const void *w = qd_ref_at(in[0], &p->w, a / p->repeat_a, b / p->repeat_b, i);
            float sum[QD_LANES] = {0};
            for (int64_t k = 0; k < p->x.n[3]; k++)
                sum[k % QD_LANES] +=
                    qd_ref_value(w, p->w_format, p->w.step[3], k) * qd_ref_value(x, QD_NUMBERS_F32, p->x.step[3], k);
            *(float *)(y + i * p->y.step[3]) = qd_one_nan(qd_ref_tree(sum));
        }
    }
    return QD_OK;
}

qd_status qd_ref_matmul_experts(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_matmul_experts_params *p = &n->params.matmul_experts;
    float *w = qd_alloc((size_t)p->k * sizeof *w);
    qd_status status = w ? QD_OK : QD_ERR_MEMORY;
    for (int64_t i = 0; i < rows * p->u && !status; i++) {
        const int32_t id = ((const int32_t *)qd_row(in[2], i / p->u))[i % p->u];
        const float *x = qd_row(in[1], i / p->u * p->s + i % p->u % p->s);
        float *y = qd_row(out[0], i);
        for (int64_t j = 0; j < p->n && !status; j++) {
            y[j] = 0;
            if (id < 0 || id >= p->experts) continue;
            float sum[QD_LANES] = {0};
            status = qd_dequantize(n->in[0]->desc.format, qd_row(in[0], (int64_t)id * p->n + j), 1, p->k, w);
            for (int64_t k = 0; k < p->k; k++)
                sum[k % QD_LANES] += w[k] * x[k];
            y[j] = qd_one_nan(qd_ref_tree(sum));
        }
    }
    free(w);
    return status;
}
