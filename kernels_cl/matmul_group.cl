/* y = x · wᵀ for weights with a scale for each group of codes along K: x_scale · Σ_g w_scale[g] · Σ_k … + bias.
 *
 *   w [count, K], output channels first … first + count - 1; w_scale, w_zero [N or 1, G]; x F32 or codes [rows, K]
 *
 *   unit u = (channel i, QD_TOKENS rows of x)
 *     x codes:  K → | group 0 | group 1 | group 2 | …    each an exact int sum, scaled, then added to part g mod 4
 *     x F32:    K → | 16 lanes | 16 lanes | …            each lane with the scale of its group */
#include "codes.h"

/* Rows of x in one unit. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* Scales and zero points of one row of w. */
typedef struct row_scales {
    __global const float *scale;
    __global const uchar *zero; /* int or float */
    int zero_share;             /* QD_ABSENT or QD_EACH group */
} row_scales;

/* Values of w[k … k+15], of which those up to K count. */
static inline float16 weight_values(const qd_matmul_group_params *p, __global const uchar *w, const row_scales *of,
                                    const int k) {
    if (k % p->group + 16 <= p->group && k + 16 <= p->k) { /* one group */
        const int g = k / p->group;
        if (p->w_zero_is_float) {
            const float16 code = convert_float16(qd_codes16(w, k, p->k, p->w_code, 0));
            return (code - ((__global const float *)of->zero)[g]) * of->scale[g];
        }
        const int zero = qd_zero_at(of->zero, of->zero_share, g, p->w_code);
        return convert_float16(qd_codes16(w, k, p->k, p->w_code, zero)) * of->scale[g];
    }
    float lanes[16];
    int g = k / p->group, left = p->group - k % p->group;
    for (int i = 0; i < 16; i++) {
        lanes[i] = 0.0f;
        if (k + i >= p->k) continue;
        const int code = qd_code_at(w, k + i, p->w_code);
        if (p->w_zero_is_float) {
            lanes[i] = ((float)code - ((__global const float *)of->zero)[g]) * of->scale[g];
        } else {
            lanes[i] = (float)(code - qd_zero_at(of->zero, of->zero_share, g, p->w_code)) * of->scale[g];
        }
        if (--left == 0) {
            left = p->group;
            g++;
        }
    }
    return vload16(0, lanes);
}

static inline void dot_floats(const qd_matmul_group_params *p, __global const uchar *w, const row_scales *of,
                              __global const uchar *x, const ulong x_stride, const int tokens, float *y) {
    float16 part[QD_TOKENS];
    for (int t = 0; t < tokens; t++)
        part[t] = 0.0f;
    for (int k = 0; k < p->k; k += 16) {
        const float16 v = weight_values(p, w, of, k);
        for (int t = 0; t < tokens; t++)
            part[t] += v * qd_load16((__global const float *)(x + t * x_stride) + k, p->k - k);
    }
    for (int t = 0; t < tokens; t++)
        y[t] = qd_lanes_sum(part[t]);
}

static inline void dot_codes(const qd_matmul_group_params *p, __global const uchar *w, const row_scales *of,
                             __global const uchar *x, const ulong x_stride, const int *x_zero, const int tokens,
                             float *y) {
    float part[QD_TOKENS][4];
    for (int t = 0; t < QD_TOKENS; t++)
        part[t][0] = part[t][1] = part[t][2] = part[t][3] = 0.0f;
    for (int g = 0; g < p->groups; g++) {
        const int first = g * p->group, end = g + 1 < p->groups ? first + p->group : p->k;
        const int zero = qd_zero_at(of->zero, of->zero_share, g, p->w_code);
        int sum[QD_TOKENS] = {0};
        for (int k = first; k < end; k += 16) {
            const short16 a = qd_codes16(w, k, end, p->w_code, zero);
            for (int t = 0; t < tokens; t++)
                sum[t] += qd_dot16(a, qd_codes16(x + t * x_stride, k, end, p->x_code, x_zero[t]));
        }
        for (int t = 0; t < tokens; t++)
            part[t][g % 4] += of->scale[g] * (float)sum[t];
    }
    for (int t = 0; t < tokens; t++)
        y[t] = (part[t][0] + part[t][1]) + (part[t][2] + part[t][3]);
}

__kernel void matmul_group(QD_IN(w), QD_IN(w_scale), QD_IN(x), QD_IN(w_zero), QD_IN(x_scale), QD_IN(x_zero),
                           QD_IN(bias), QD_OUT(y), const qd_matmul_group_params p, const int rows QD_WORK) {
    const int batches = (rows + QD_TOKENS - 1) / QD_TOKENS;
    QD_FOR_UNITS(u, (ulong)batches * p.count) {
        const int i = (int)(u % p.count), chan = p.first + i;
        const int r = (int)(u / p.count) * QD_TOKENS;
        const int tokens = min(QD_TOKENS, rows - r);
        const row_scales of = {QD_ROW(float, w_scale, p.w_scale == QD_SHARED ? 0 : chan),
                               QD_ROW(uchar, w_zero, p.w_zero == QD_EACH ? chan : 0),
                               p.w_zero == QD_ABSENT ? QD_ABSENT : QD_EACH};
        float sum[QD_TOKENS];
        if (p.x_code) {
            int zero[QD_TOKENS];
            for (int t = 0; t < QD_TOKENS; t++)
                zero[t] = qd_zero_at(QD_ROW(uchar, x_zero, 0), t < tokens ? p.x_zero : QD_ABSENT, r + t, p.x_code);
            dot_codes(&p, QD_ROW(uchar, w, i), &of, QD_ROW(uchar, x, r), x_stride, zero, tokens, sum);
        } else {
            dot_floats(&p, QD_ROW(uchar, w, i), &of, QD_ROW(uchar, x, r), x_stride, tokens, sum);
        }
        for (int t = 0; t < tokens; t++) {
            float v = sum[t];
            if (p.x_scale != QD_ABSENT) v *= QD_ROW(float, x_scale, 0)[p.x_scale == QD_SHARED ? 0 : r + t];
            if (p.bias != QD_ABSENT) v += QD_ROW(float, bias, 0)[chan];
            QD_ROW_OUT(float, y, r + t)[chan] = qd_one_nan(v);
        }
    }
}
