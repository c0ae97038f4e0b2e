/* Softmax over the last dimension. */
#include "operators.h"

/* Exponentials of as many columns fit the host's sum of 12 integer bits. */
#define MOST_COLUMNS 4095

bool tfl_softmax(tfl_build *b) {
    const float beta = ((const TfLiteSoftmaxParams *)b->node->params)->beta;
    tfl_operand x, y;
    qd_quant x_quant, y_quant;
    int32_t *weights;
    if (!tfl_counts(b, 1, 1, 1) || !tfl_input(b, 0, &x) || !tfl_output(b, 0, &y) || !tfl_quant(b, &x, &x_quant) ||
        !tfl_quant(b, &y, &y_quant)) {
        return false;
    }
    const int32_t least = y.format == QD_FORMAT_U8 ? 0 : -128;
    const float apart = y_quant.scale - 1.0f / 256;
    if (x.format != y.format) return tfl_fail(b, "input and output differ in type");
    if (y_quant.zero_point != least || apart > 1e-3f / 256 || apart < -1e-3f / 256)
        return tfl_fail(b, "the output must have the scale 1/256 and the zero point %d", least);
    if (x.shape.rank < 1) return tfl_fail(b, "the input has no dimension");
    const int64_t cols = x.shape.of[x.shape.rank - 1], rows = tfl_elements(&x.shape) / cols;
    if (cols > MOST_COLUMNS)
        return tfl_fail(b, "%lld columns; sums of more than %d leave the host's range", (long long)cols, MOST_COLUMNS);
    if (!(beta > 0)) return tfl_fail(b, "beta is %g; it must be positive", (double)beta);
    if (!tfl_memory(b, 256, sizeof *weights, &weights) ||
        !tfl_ok(b, qd_softmax_weights((double)beta * (double)x_quant.scale, weights))) {
        return false;
    }
    const qd_tensor_desc d = {x.format, 2, {rows, cols}}, weights_desc = {QD_FORMAT_I32, 1, {256}};
    const qd_attrs attrs = {.softmax_int = {.x_scale = x_quant.scale, .y = {1.0f / 256, least}}};
    qd_tensor *in[2];
    return tfl_view(b, &x, &d, &in[0]) && tfl_constant(b, &weights_desc, weights, &in[1]) &&
           tfl_result(b, &y, &x.shape, &d) && tfl_op(b, QD_OP_SOFTMAX_INT, &attrs, in, 2, y.tensor);
}
