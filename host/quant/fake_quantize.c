/* Quantizing and dequantizing at once, and the gradients of that: what training with quantization needs. */
#include <math.h>

#include "core/status.h"
#include "qdot/qdot_num.h"
#include "qdot/qdot_quant.h"

enum { MOST_CODE = 1 << 24 }; /* codes are exact as floats */

static qd_status check(const char *what, const qd_fake_quant *f, const float *scale, const void *zero_point,
                       const float *x, const float *y) {
    int64_t count;
    if (!f || f->outer < 0 || f->channels < 1 || f->inner < 0 || f->qmin >= f->qmax || f->qmin < -MOST_CODE ||
        f->qmax > MOST_CODE || __builtin_mul_overflow(f->outer, f->channels, &count) ||
        __builtin_mul_overflow(count, f->inner, &count)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: sizes that are not negative, and codes with qmin < qmax are needed", what);
    }
    if (!scale || !zero_point || (count && (!x || !y)))
        return qd_fail(QD_ERR_ARGUMENT, "%s: no pointer to values may be NULL", what);
    for (int64_t c = 0; c < f->channels; c++) {
        if (scale[c] > 0 && isfinite(scale[c]) && isfinite(1 / scale[c])) continue;
        return qd_fail(QD_ERR_ARGUMENT, "%s: scale %lld is %g: it must be positive and have a finite reciprocal", what,
                       (long long)c, (double)scale[c]);
    }
    return QD_OK;
}

/* The operators' arithmetic; the functions below differ in how they sum. */
QD_DEFINE_FAKE_QUANTIZE(, qd_f32, qd_u32, qd_as_f32, qd_as_u32)

static qd_faked element(const qd_fake_quant *f, float x, float dy, float scale, float zero) {
    return qd_fake_element(x, dy, scale, zero, (float)f->qmin, (float)f->qmax, 0);
}

qd_status qd_fake_quantize(const qd_fake_quant *f, const float *x, const float *scale, const int32_t *zero_point,
                           float *y, uint8_t *mask) {
    const qd_status status = check("qd_fake_quantize", f, scale, zero_point, x, y);
    if (status != QD_OK) return status;
    for (int64_t c = 0; c < f->channels; c++) {
        if (zero_point[c] < f->qmin || zero_point[c] > f->qmax) {
            return qd_fail(QD_ERR_ARGUMENT, "qd_fake_quantize: zero point %lld is %d, outside of %d … %d", (long long)c,
                           zero_point[c], f->qmin, f->qmax);
        }
    }
    for (int64_t row = 0; row < f->outer * f->channels; row++) {
        const int64_t c = row % f->channels;
        for (int64_t i = row * f->inner; i < (row + 1) * f->inner; i++) {
            const qd_faked e = element(f, x[i], 1, scale[c], (float)zero_point[c]);
            if (mask) mask[i] = e.dx > 0;
            y[i] = e.y;
        }
    }
    return QD_OK;
}

qd_status qd_fake_quantize_backward(const uint8_t *mask, const float *dy, int64_t n, float *dx) {
    if (n < 0 || (n && (!mask || !dy || !dx)))
        return qd_fail(QD_ERR_ARGUMENT, "qd_fake_quantize_backward: %lld values, and no pointer may be NULL",
                       (long long)n);
    for (int64_t i = 0; i < n; i++)
        dx[i] = mask[i] ? dy[i] : 0;
    return QD_OK;
}

qd_status qd_fake_quantize_learn(const qd_fake_quant *f, const float *x, const float *scale, const float *zero_point,
                                 const float *dy, float grad_factor, float *y, float *dx, float *dscale,
                                 float *dzero_point) {
    const qd_status status = check("qd_fake_quantize_learn", f, scale, zero_point, x, dy);
    if (status != QD_OK) return status;
    bool nan = isnan(grad_factor);
    for (int64_t c = 0; c < f->channels; c++)
        nan = nan || isnan(zero_point[c]);
    for (int64_t i = 0; i < f->outer * f->channels * f->inner; i++)
        nan = nan || isnan(x[i]) || isnan(dy[i]);
    if (nan) return qd_fail(QD_ERR_ARGUMENT, "qd_fake_quantize_learn: a value, gradient, zero point or factor is NaN");
    for (int64_t c = 0; c < f->channels; c++) {
        const float limited = zero_point[c] < (float)f->qmin   ? (float)f->qmin
                              : zero_point[c] > (float)f->qmax ? (float)f->qmax
                                                               : zero_point[c];
        const float zero = qd_fake_round(limited);
        double scale_sum = 0, zero_sum = 0;
        for (int64_t row = c; row < f->outer * f->channels; row += f->channels) {
            for (int64_t i = row * f->inner; i < (row + 1) * f->inner; i++) {
                /* x and dy are read before y and dx are written, which may be the same. */
                const qd_faked e = element(f, x[i], dy[i], scale[c], zero);
                scale_sum += (double)e.dscale;
                zero_sum += (double)e.dzero;
                if (y) y[i] = e.y;
                if (dx) dx[i] = e.dx;
            }
        }
        if (dscale) dscale[c] = (float)(scale_sum * (double)grad_factor);
        if (dzero_point) dzero_point[c] = (float)(zero_sum * (double)grad_factor);
    }
    return QD_OK;
}
