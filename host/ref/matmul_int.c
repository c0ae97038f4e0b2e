/* y = (w - w_zero) · (x - x_zero) + bias, then requantized. */
#include "ref/ref.h"

qd_status qd_ref_matmul_int(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_matmul_int_params *p = &n->params.matmul_int;
    for (int64_t r = 0; r < rows * p->m; r++) {
        const int64_t batch = r / p->m;
        const void *x = qd_row(in[1], r);
        const int32_t x_zero = qd_ref_zero(&in[3], p->x_zero, r, p->x_code);
        for (int64_t i = 0; i < p->n; i++) {
            const void *w = qd_row(in[0], p->batched ? batch * p->n + i : i);
            const int32_t w_zero = qd_ref_zero(&in[2], p->w_zero, i, p->w_code);
            int64_t sum = 0;
            for (int64_t k = 0; k < p->k; k++)
                sum += (qd_ref_code(w, k, p->w_code) - w_zero) * (qd_ref_code(x, k, p->x_code) - x_zero);
            /* Without `wide`, K is so small that the sum fits. */
            uint32_t total = (uint32_t)qd_saturate_i32(sum);
            if (p->bias != QD_ABSENT) total += (uint32_t)((const int32_t *)in[4].data)[i];
            qd_ref_put_code(qd_row(out[0], r), i, p->y.code, qd_ref_finish(&p->y, &in[5], i, (int32_t)total));
        }
    }
    return QD_OK;
}

qd_status qd_ref_requantize(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_requantize_params *p = &n->params.requantize;
    for (int64_t i = 0; i < rows * p->size; i++) {
        const int64_t x = (int64_t)qd_ref_code(in[0].data, i, p->x_code) - p->x_zero;
        const int32_t code = qd_ref_finish(&p->y, &in[1], i % p->channels, qd_saturate_i32(x));
        qd_ref_put_code(out[0].data, i, p->y.code, code);
    }
    return QD_OK;
}
