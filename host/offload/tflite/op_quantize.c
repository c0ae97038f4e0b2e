/* Between floats and codes. */
#include <string.h>

#include "operators.h"

/* Scales and zero points of `codes`, whose shape is `shape`: one, or one for each index of a dimension. */
static bool put_scales(tfl_build *b, const tfl_operand *codes, const tfl_shape *shape, qd_tensor *in[2], int *axis) {
    tfl_scales s;
    const TfLiteAffineQuantization *q = codes->host->quantization.params;
    *axis = 0;
    if (codes->host->quantization.type != kTfLiteAffineQuantization || !q || !q->scale)
        return tfl_fail(b, "tensor %d has no quantization parameters", codes->number);
    if (q->scale->size > 1) {
        if (shape->rank > QD_MAX_RANK) return tfl_fail(b, "a scale for each channel of %d dimensions", shape->rank);
        if (!tfl_axis(b, q->quantized_dimension, shape->rank, axis)) return false;
    }
    if (!tfl_weight_scales(b, codes, *axis, shape->rank ? shape->of[*axis] : 1, &s)) return false;
    const qd_tensor_desc d = {QD_FORMAT_F32, 1, {s.count}}, zero_desc = {QD_FORMAT_I32, 1, {s.count}};
    in[1] = NULL;
    return tfl_constant(b, &d, s.scale, &in[0]) && (!s.zeros || tfl_constant(b, &zero_desc, s.zeros, &in[1]));
}

/* Floats to codes of 8 bits. */
static bool from_floats(tfl_build *b, tfl_operand *x, tfl_operand *y) {
    qd_attrs attrs = {.quantize_linear = {.away = true}};
    qd_tensor *in[3];
    if (y->format != QD_FORMAT_I8 && y->format != QD_FORMAT_U8)
        return tfl_fail(b, "an output of type %d; int8 and uint8 are known", (int)y->host->type);
    const qd_tensor_desc x_desc = tfl_desc(QD_FORMAT_F32, &x->shape), y_desc = tfl_desc(y->format, &x->shape);
    return tfl_view(b, x, &x_desc, &in[0]) && put_scales(b, y, &x->shape, in + 1, &attrs.quantize_linear.axis) &&
           tfl_result(b, y, &x->shape, &y_desc) && tfl_op(b, QD_OP_QUANTIZE_LINEAR, &attrs, in, 3, y->tensor);
}

bool tfl_quantize(tfl_build *b) {
    tfl_operand x, y;
    if (!tfl_counts(b, 1, 1, 1) || !tfl_input(b, 0, &x) || !tfl_output(b, 0, &y)) return false;
    return x.format == QD_FORMAT_F32 ? from_floats(b, &x, &y) : tfl_requantize(b);
}

bool tfl_dequantize(tfl_build *b) {
    tfl_operand x, y;
    qd_attrs attrs = {0};
    qd_tensor *in[3];
    if (!tfl_counts(b, 1, 1, 1) || !tfl_input(b, 0, &x) || !tfl_output(b, 0, &y)) return false;
    if ((x.format != QD_FORMAT_I8 && x.format != QD_FORMAT_U8) || y.format != QD_FORMAT_F32)
        return tfl_fail(b, "types %d and %d; int8 and uint8 to float32 are known", (int)x.host->type,
                        (int)y.host->type);
    if (x.bytes) return tfl_fail(b, "the input is a constant, of which the host makes floats once");
    const qd_tensor_desc x_desc = tfl_desc(x.format, &x.shape), y_desc = tfl_desc(y.format, &x.shape);
    return tfl_view(b, &x, &x_desc, &in[0]) && put_scales(b, &x, &x.shape, in + 1, &attrs.quantize_linear.axis) &&
           tfl_result(b, &y, &x.shape, &y_desc) && tfl_op(b, QD_OP_DEQUANTIZE_LINEAR, &attrs, in, 3, y.tensor);
}
