/* Fully connected layers. */
#include <string.h>

#include "operators.h"
#include "weights.h"

/* Operands of the layer as the library takes them: x [R,K], w [N,K], y [R,N]. */
bool tfl_fully_connected(tfl_build *b) {
    const TfLiteFullyConnectedParams *params = b->node->params;
    tfl_operand x, w, bias, y;
    qd_quant x_quant, y_quant;
    tfl_scales scales;
    if (!tfl_counts(b, 2, 3, 1) || !tfl_input(b, 0, &x) || !tfl_input(b, 1, &w) || !tfl_input_optional(b, 2, &bias) ||
        !tfl_output(b, 0, &y) || !tfl_quant(b, &x, &x_quant) || !tfl_quant(b, &y, &y_quant) || !tfl_rank(b, &w, 2)) {
        return false;
    }
    if (params->weights_format != kTfLiteFullyConnectedWeightsFormatDefault)
        return tfl_fail(b, "shuffled weights are not known");
    const int64_t cols = w.shape.of[1], outputs = w.shape.of[0], rows = tfl_elements(&x.shape) / cols;
    if (rows * cols != tfl_elements(&x.shape))
        return tfl_fail(b, "an input of %lld elements is no whole number of rows of %lld",
                        (long long)tfl_elements(&x.shape), (long long)cols);
    if (!tfl_weight_scales(b, &w, 0, outputs, &scales)) return false;

    tfl_shape shape = {.rank = 2, .of = {rows, outputs}};
    if (params->keep_num_dims) {
        shape = x.shape;
        if (shape.rank < 1 || shape.of[shape.rank - 1] != cols)
            return tfl_fail(b, "the last dimension of the input is not %lld", (long long)cols);
        shape.of[shape.rank - 1] = outputs;
    }
    const qd_tensor_desc x_desc = {x.format, 2, {rows, cols}}, y_desc = {y.format, 2, {rows, outputs}};
    qd_tensor *in[6] = {0};
    qd_attrs attrs = {0};
    return tfl_matmul_weights(b, &w, cols, &in[0]) && tfl_view(b, &x, &x_desc, &in[1]) &&
           tfl_end(b, &x, x_quant, &w, &scales, &bias, outputs, true, &y, y_quant, params->activation, in + 2,
                   &attrs.matmul_int.y) &&
           tfl_result(b, &y, &shape, &y_desc) && tfl_op(b, QD_OP_MATMUL_INT, &attrs, in, 6, y.tensor);
}
