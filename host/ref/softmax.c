/* Softmax of floats with a mask. */
#include "ref/ref.h"

qd_status qd_ref_softmax(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_softmax_params *p = &n->params.softmax;
    const int64_t T = p->x.n[2], H = p->x.n[1], cols = p->x.n[3];
    for (int64_t r = 0; r < (p->rows ? rows * p->rows : 1); r++) {
        const int64_t a = r / T / H, h = r / T % H, t = r % T;
        const void *x = qd_ref_at(in[0], &p->x, a, h, t);
        const void *mask =
            n->in[1] ? qd_ref_at(in[1], &p->mask, a % p->mask.n[0], h % p->mask.n[1], t % p->mask.n[2]) : NULL;
        const float slope = n->in[2] ? *(const float *)((const char *)in[2].data + h * p->slopes_step) : 1.0f;
        char *row = qd_ref_at(out[0], &p->y, a, h, t);
        float max = -INFINITY, sum[QD_LANES] = {0};
        for (int64_t c = 0; c < cols; c++) {
            float *y = (float *)(row + c * p->y.step[3]);
            *y = p->scale * qd_ref_value(x, QD_NUMBERS_F32, p->x.step[3], c);
            if (mask) {
                const float m = qd_ref_value(mask, p->mask_format, p->mask.step[3], c);
                *y = m == -INFINITY ? m : *y + slope * m;
            }
            max = *y > max ? *y : max;
        }
        if (max == -INFINITY) max = 0;
        for (int64_t c = 0; c < cols; c++) {
            float *y = (float *)(row + c * p->y.step[3]);
            *y = qd_exp(*y - max);
            sum[c % QD_LANES] += *y;
        }
        const float total = qd_ref_tree(sum), inverse = total == 0 ? 0 : 1.0f / total;
        for (int64_t c = 0; c < cols; c++) {
            float *y = (float *)(row + c * p->y.step[3]);
            *y = qd_one_nan(*y * inverse);
        }
    }
    return QD_OK;
}
