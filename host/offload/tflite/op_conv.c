/* Convolutions. */
#include "operators.h"
#include "weights.h"
#include "window.h"

bool tfl_window(tfl_build *b, TfLitePadding padding, const int64_t in[2], const int64_t kernel[2], qd_window *w,
                int64_t out[2]) {
    if (padding != kTfLitePaddingSame && padding != kTfLitePaddingValid)
        return tfl_fail(b, "the padding %d is not known", (int)padding);
    for (int i = 0; i < 2; i++) {
        const int64_t stride = w->stride[i], reach = (kernel[i] - 1) * w->dilation[i] + 1;
        if (stride < 1 || w->dilation[i] < 1 || reach < 1)
            return tfl_fail(b, "a window of %lld with stride %d and dilation %d", (long long)kernel[i], w->stride[i],
                            w->dilation[i]);
        int64_t pad = 0;
        if (padding == kTfLitePaddingSame) {
            out[i] = (in[i] + stride - 1) / stride;
            pad = (out[i] - 1) * stride + reach - in[i];
            if (pad < 0) pad = 0;
        } else {
            out[i] = (in[i] + stride - reach) / stride;
        }
        if (out[i] < 1 || in[i] < (padding == kTfLitePaddingValid ? reach : 1) || pad > INT32_MAX)
            return tfl_fail(b, "a window that reaches over %lld does not fit an image of %lld", (long long)reach,
                            (long long)in[i]);
        w->before[i] = (int)(pad / 2); /* the odd one stands at the end */
        w->after[i] = (int)(pad - pad / 2);
    }
    return true;
}

/* Both kinds. w: [O,Y,X,C/groups], or depthwise [1,Y,X,O]. */
static bool convolve(tfl_build *b, bool depthwise, TfLitePadding padding, qd_window window, TfLiteFusedActivation a) {
    tfl_operand x, w, bias, y;
    qd_quant x_quant, y_quant;
    tfl_scales scales;
    if (!tfl_counts(b, 2, 3, 1) || !tfl_input(b, 0, &x) || !tfl_input(b, 1, &w) || !tfl_input_optional(b, 2, &bias) ||
        !tfl_output(b, 0, &y) || !tfl_quant(b, &x, &x_quant) || !tfl_quant(b, &y, &y_quant) || !tfl_rank(b, &x, 4) ||
        !tfl_rank(b, &w, 4)) {
        return false;
    }
    const int64_t channels = x.shape.of[3], outputs = w.shape.of[depthwise ? 3 : 0];
    const int64_t taken = depthwise ? 1 : w.shape.of[3], groups = channels / taken;
    if ((depthwise && w.shape.of[0] != 1) || groups < 1 || groups * taken != channels || outputs % groups)
        return tfl_fail(b, "%lld channels of the input do not go with weights of %lld×…×%lld", (long long)channels,
                        (long long)w.shape.of[0], (long long)w.shape.of[3]);
    int64_t out[2];
    if (!tfl_weight_scales(b, &w, depthwise ? 3 : 0, outputs, &scales) ||
        !tfl_window(b, padding, &x.shape.of[1], &w.shape.of[1], &window, out)) {
        return false;
    }
    const tfl_shape shape = {.rank = 4, .of = {x.shape.of[0], out[0], out[1], outputs}};
    const qd_format w_format = w.format == QD_FORMAT_U8 ? QD_FORMAT_U8 : QD_FORMAT_I8;
    const qd_tensor_desc x_desc = tfl_desc(x.format, &x.shape), y_desc = tfl_desc(y.format, &shape),
                         w_desc = {w_format, 4, {outputs, w.shape.of[1], w.shape.of[2], taken}};
    qd_tensor *in[6] = {0};
    qd_attrs attrs = {.conv_int = {.window = window, .groups = (int)groups}};
    return tfl_conv_weights(b, &w, depthwise, &w_desc, &in[0]) && tfl_view(b, &x, &x_desc, &in[1]) &&
           tfl_end(b, &x, x_quant, &w, &scales, &bias, outputs, false, &y, y_quant, a, in + 2, &attrs.conv_int.y) &&
           tfl_result(b, &y, &shape, &y_desc) && tfl_op(b, QD_OP_CONV_INT, &attrs, in, 6, y.tensor);
}

bool tfl_conv_2d(tfl_build *b) {
    const TfLiteConvParams *p = b->node->params;
    const qd_window window = {.stride = {p->stride_height, p->stride_width},
                              .dilation = {p->dilation_height_factor, p->dilation_width_factor}};
    return convolve(b, false, p->padding, window, p->activation);
}

/* The multiplier of the depth follows from the shapes. */
bool tfl_depthwise_conv_2d(tfl_build *b) {
    const TfLiteDepthwiseConvParams *p = b->node->params;
    const qd_window window = {.stride = {p->stride_height, p->stride_width},
                              .dilation = {p->dilation_height_factor, p->dilation_width_factor}};
    return convolve(b, true, p->padding, window, p->activation);
}
