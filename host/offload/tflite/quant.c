/* Quantization parameters: see tflite.h. */
#include <math.h>
#include <string.h>

#include "tflite.h"

static const char *name_of(const tfl_operand *x) {
    return x->host->name ? x->host->name : "";
}

/* The affine parameters; NULL where there are none. */
static const TfLiteAffineQuantization *affine(const tfl_operand *x) {
    if (x->host->quantization.type != kTfLiteAffineQuantization) return NULL;
    const TfLiteAffineQuantization *q = x->host->quantization.params;
    return q && q->scale && q->scale->size > 0 ? q : NULL;
}

static bool check_scale(tfl_build *b, const tfl_operand *x, float scale) {
    return (scale > 0 && isfinite(scale)) || tfl_fail(b,
                                                      "the scale of tensor %d (%s) is %g; it must be positive and "
                                                      "finite",
                                                      x->number, name_of(x), (double)scale);
}

static bool check_zero(tfl_build *b, const tfl_operand *x, int32_t zero) {
    const int32_t min = x->format == QD_FORMAT_U8 ? 0 : x->format == QD_FORMAT_I4 ? -8 : -128;
    const int32_t max = x->format == QD_FORMAT_U8 ? 255 : x->format == QD_FORMAT_I4 ? 7 : 127;
    return (zero >= min && zero <= max) ||
           tfl_fail(b, "the zero point of tensor %d (%s) is %d; its codes go from %d to %d", x->number, name_of(x),
                    zero, min, max);
}

bool tfl_quant(tfl_build *b, const tfl_operand *x, qd_quant *q) {
    if (x->format != QD_FORMAT_I8 && x->format != QD_FORMAT_U8)
        return tfl_fail(b, "tensor %d (%s) has type %d; int8 (%d) or uint8 (%d) is needed", x->number, name_of(x),
                        (int)x->host->type, kTfLiteInt8, kTfLiteUInt8);
    const TfLiteAffineQuantization *a = affine(x);
    if (!a) return tfl_fail(b, "tensor %d (%s) has no quantization parameters", x->number, name_of(x));
    if (a->scale->size != 1 || (a->zero_point && a->zero_point->size > 1))
        return tfl_fail(b, "tensor %d (%s) has %d scales; one is needed", x->number, name_of(x), a->scale->size);
    q->scale = a->scale->data[0];
    q->zero_point = a->zero_point && a->zero_point->size ? a->zero_point->data[0] : 0;
    return check_scale(b, x, q->scale) && check_zero(b, x, q->zero_point);
}

bool tfl_weight_scales(tfl_build *b, const tfl_operand *w, int axis, int64_t channels, tfl_scales *s) {
    const TfLiteAffineQuantization *a = affine(w);
    if (!a) return tfl_fail(b, "the weights, tensor %d (%s), have no quantization parameters", w->number, name_of(w));
    s->scale = a->scale->data;
    s->count = a->scale->size;
    if (s->count != 1 && s->count != channels)
        return tfl_fail(b, "the weights, tensor %d (%s), have %lld scales for %lld channels", w->number, name_of(w),
                        (long long)s->count, (long long)channels);
    if (s->count > 1 && a->quantized_dimension != axis)
        return tfl_fail(b, "the scales of tensor %d (%s) belong to dimension %d; dimension %d has the channels",
                        w->number, name_of(w), a->quantized_dimension, axis);
    for (int64_t i = 0; i < s->count; i++) {
        if (!check_scale(b, w, s->scale[i])) return false;
    }
    bool any = false;
    const int zeros = a->zero_point ? a->zero_point->size : 0;
    for (int i = 0; i < zeros; i++) {
        if (!check_zero(b, w, a->zero_point->data[i])) return false;
        any = any || a->zero_point->data[i];
    }
    if (any && zeros != s->count)
        return tfl_fail(b, "tensor %d (%s) has %d zero points for %lld scales", w->number, name_of(w), zeros,
                        (long long)s->count);
    s->zeros = any ? a->zero_point->data : NULL;
    return true;
}

bool tfl_same_quant(tfl_build *b, const tfl_operand *x, const tfl_operand *y) {
    qd_quant p, q;
    if (!tfl_quant(b, x, &p) || !tfl_quant(b, y, &q)) return false;
    if (x->format == y->format && p.scale == q.scale && p.zero_point == q.zero_point) return true;
    return tfl_fail(b, "tensors %d and %d must have the same type, scale and zero point", x->number, y->number);
}

/* The code of a value, in the host's arithmetic. */
static int64_t code_of(float value, qd_quant q) {
    const float code = roundf(value / q.scale);
    const int64_t limited = code > 1e9f ? 1000000000 : code < -1e9f ? -1000000000 : (int64_t)code;
    return q.zero_point + limited;
}

bool tfl_activation(tfl_build *b, TfLiteFusedActivation a, qd_format f, qd_quant y, int32_t *min, int32_t *max,
                    bool *whole) {
    const int64_t least = f == QD_FORMAT_U8 ? 0 : -128, greatest = least + 255;
    int64_t low = least, high = greatest;
    switch (a) {
        case kTfLiteActNone:
            break;
        case kTfLiteActRelu:
            low = code_of(0, y);
            break;
        case kTfLiteActRelu6:
            low = code_of(0, y);
            high = code_of(6, y);
            break;
        case kTfLiteActReluN1To1:
            low = code_of(-1, y);
            high = code_of(1, y);
            break;
        default:
            return tfl_fail(b, "the fused activation %d is not known", (int)a);
    }
    *min = (int32_t)(low > least ? low : least);
    *max = (int32_t)(high < greatest ? high : greatest);
    *whole = *min == least && *max == greatest;
    return true;
}

bool tfl_limits(tfl_build *b, int32_t min, int32_t max) {
    return min || max || tfl_fail(b, "the activation leaves no code but 0");
}

bool tfl_requant(tfl_build *b, TfLiteFusedActivation a, qd_format f, qd_quant y, qd_rounding rounding, qd_requant *r) {
    bool whole;
    *r = (qd_requant){.rounding = rounding, .zero_point = y.zero_point};
    if (!tfl_activation(b, a, f, y, &r->min, &r->max, &whole)) return false;
    return tfl_limits(b, r->min, r->max);
}

bool tfl_requant_table(tfl_build *b, qd_rounding rounding, float x_scale, const float *w, int64_t n, float y_scale,
                       qd_tensor **out) {
    int32_t *table;
    const qd_tensor_desc d = {.format = QD_FORMAT_I32, .rank = 2, .shape = {n, 2}};
    return tfl_memory(b, 2 * n, sizeof *table, &table) &&
           tfl_ok(b, qd_requantize_table(rounding, x_scale, w, n, y_scale, table)) && tfl_constant(b, &d, table, out);
}

bool tfl_table(tfl_build *b, qd_tensor *x, const void *table, qd_tensor *y) {
    const qd_tensor_desc d = {.format = qd_tensor_describe(y)->format, .rank = 1, .shape = {256}};
    qd_tensor *in[2] = {x, NULL};
    return tfl_constant(b, &d, table, &in[1]) && tfl_op(b, QD_OP_TABLE, NULL, in, 2, y);
}
