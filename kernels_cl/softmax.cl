/* Softmax of rows of floats with a mask: y = softmax(scale · x + slope · mask).
 *
 *   x, y F32 [A, H, T, C], mask F32 or F16 [A*, H*, T*, C], its index that of x modulo its own dimensions, slopes F32
 * [H]; any strides; y may be x
 *
 *   unit u = one row of the last dimension
 *     scores   into y, -inf where the mask is; their maximum (0 if all are -inf)
 *     weights  exp(score - maximum) into y, added up in the 16 partial sums of their columns modulo 16, then by the
 * tree y        times 1 / sum; 0 where all scores are -inf */
#include "strides.h"
#include "values.h"

static inline float16 load_mask(const qd_softmax_params *p, __global const uchar *row, const int c, const int n) {
    const long step = p->mask.step[3];
    if (n < 16 || step != qd_numbers_bytes(p->mask_format)) return qd_values_part(p->mask_format, row, step, c, n);
    return p->mask_format == QD_NUMBERS_F32 ? qd_values16(QD_NUMBERS_F32, row, c) : qd_values16(QD_NUMBERS_F16, row, c);
}

__kernel void softmax(QD_IN(x), QD_IN(mask), QD_IN(slopes), QD_OUT(y), const qd_softmax_params p,
                      const int rows QD_WORK) {
    const int cols = p.x.n[3];
    const long step = p.y.step[3];
    QD_FOR_UNITS(u, p.rows ? (ulong)rows * p.rows : 1) {
        const int t = (int)(u % p.x.n[2]), h = (int)(u / p.x.n[2] % p.x.n[1]), a = (int)(u / p.x.n[2] / p.x.n[1]);
        __global const uchar *x_row = x + x_at + qd_at(&p.x, a, h, t);
        __global const uchar *m_row =
            mask + mask_at + qd_at(&p.mask, a % p.mask.n[0], h % p.mask.n[1], t % p.mask.n[2]);
        __global uchar *row = y + y_at + qd_at(&p.y, a, h, t);
        const float slope = p.slopes ? *(__global const float *)(slopes + slopes_at + h * p.slopes_step) : 1.0f;
        float16 max16 = -INFINITY;
        for (int c = 0; c < cols; c += 16) {
            const int n = cols - c;
            float16 s = p.scale * qd_load_strided(x_row + c * p.x.step[3], p.x.step[3], n);
            if (p.mask_format != QD_ABSENT) {
                const float16 m = load_mask(&p, m_row, c, n);
                s = m == -INFINITY ? m : s + slope * m;
            }
            qd_store_strided(s, row + c * step, step, n);
            max16 = QD_LANE_IDS < n && s > max16 ? s : max16;
        }
        const float found = qd_lanes_max(max16), maximum = found == -INFINITY ? 0.0f : found;
        float16 sum16 = 0.0f;
        for (int c = 0; c < cols; c += 16) {
            const float16 w = qd_exp16(qd_load_strided(row + c * step, step, cols - c) - maximum);
            qd_store_strided(w, row + c * step, step, cols - c);
            sum16 += QD_LANE_IDS < cols - c ? w : (float16)0.0f;
        }
        const float sum = qd_lanes_sum(sum16), inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
        for (int c = 0; c < cols; c += 16) {
            const float16 v = qd_load_strided(row + c * step, step, cols - c) * inverse;
            qd_store_strided(v == v ? v : (float16)qd_one_nan(NAN), row + c * step, step, cols - c);
        }
    }
}
