/* Weights, zero points, biases and multipliers: what layers with integer sums have in common. */
#ifndef QDOT_TFLITE_WEIGHTS_H
#define QDOT_TFLITE_WEIGHTS_H

#include "tflite.h"

/** The weights [N,K] of a fully connected layer. */
bool tfl_matmul_weights(tfl_build *b, tfl_operand *w, int64_t cols, qd_tensor **out);
/** The weights of a convolution with the desc d. depthwise: the host's [1,Y,X,O] become [O,Y,X,1]. */
bool tfl_conv_weights(tfl_build *b, tfl_operand *w, bool depthwise, const qd_tensor_desc *d, qd_tensor **out);

/** The operands behind w and x of MATMUL_INT and CONV_INT (w_zero, x_zero, bias, requant) and the attribute y. linear:
 * a fully connected layer, which the host rounds in another way. */
bool tfl_end(tfl_build *b, const tfl_operand *x, qd_quant x_quant, const tfl_operand *w, const tfl_scales *scales,
             tfl_operand *bias, int64_t outputs, bool linear, const tfl_operand *y, qd_quant y_quant,
             TfLiteFusedActivation activation, qd_tensor *in[4], qd_requant *end);

#endif
