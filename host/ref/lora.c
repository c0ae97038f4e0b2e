/* y = y0 + scale · (x · aᵀ) · bᵀ. */
#include <stdlib.h>

#include "ref/ref.h"

static float rounded(float x) {
    return qd_bf16_to_float(qd_float_to_bf16(x));
}

static float dot(const uint16_t *w, const float *x, int64_t count) {
    float p[QD_LANES] = {0};
    for (int64_t k = 0; k < count; k++)
        p[k % QD_LANES] += qd_bf16_to_float(w[k]) * x[k];
    return qd_ref_tree(p);
}

qd_status qd_ref_lora(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_lora_params *p = &n->params.lora;
    float *x = qd_alloc((size_t)p->k * sizeof *x), *low = qd_alloc((size_t)p->rank * sizeof *low);
    const qd_status status = x && low ? QD_OK : QD_ERR_MEMORY;
    for (int64_t r = 0; r < rows && !status; r++) {
        const float *y0 = qd_row(in[3], r);
        float *y = qd_row(out[0], r);
        for (int64_t k = 0; k < p->k; k++)
            x[k] = rounded(((const float *)qd_row(in[0], r))[k]);
        for (int64_t l = 0; l < p->rank; l++)
            low[l] = rounded(dot(qd_row(in[1], l), x, p->k));
        for (int64_t i = 0; i < p->n; i++)
            y[i] = qd_one_nan(y0[i] + p->scale * dot(qd_row(in[2], i), low, p->rank));
    }
    free(x);
    free(low);
    return status;
}
