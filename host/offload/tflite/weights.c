/* Weights, zero points, biases and multipliers: see weights.h. */
#include "weights.h"

/* ---- Weights ------------------------------------------------------------------------------------------------ */

static bool check_weights(tfl_build *b, const tfl_operand *w) {
    if (w->format == QD_FORMAT_I8 || w->format == QD_FORMAT_U8 || (w->format == QD_FORMAT_I4 && w->bytes)) return true;
    return tfl_fail(b, "weights of type %d; int8, uint8 and constant int4 are known", (int)w->host->type);
}

/* Code i of packed int4, the first in the low bits. */
static int8_t nibble(const uint8_t *packed, int64_t i) {
    const int code = packed[i / 2] >> (i % 2 * 4) & 15;
    return (int8_t)(code < 8 ? code : code - 16);
}

/* Constant weights as bytes; of int4 a copy. */
static bool weight_bytes(tfl_build *b, const tfl_operand *w, const int8_t **out) {
    *out = w->bytes;
    const int64_t n = tfl_elements(&w->shape);
    const size_t bytes = w->format == QD_FORMAT_I4 ? (size_t)(n + 1) / 2 : (size_t)n;
    if (!w->bytes || w->host->bytes < bytes)
        return tfl_fail(b, "tensor %d must be a constant of %zu bytes", w->number, bytes);
    if (w->format != QD_FORMAT_I4) return true;
    int8_t *codes;
    if (!tfl_memory(b, n, 1, &codes)) return false;
    for (int64_t i = 0; i < n; i++)
        codes[i] = nibble(w->bytes, i);
    *out = codes;
    return true;
}

bool tfl_matmul_weights(tfl_build *b, tfl_operand *w, int64_t cols, qd_tensor **out) {
    if (!check_weights(b, w)) return false;
    /* The library's rows begin at a byte, the host's with the next nibble. */
    if (w->format == QD_FORMAT_I4 && cols % 2) {
        const qd_tensor_desc d = tfl_desc(QD_FORMAT_I8, &w->shape);
        const int8_t *codes;
        return weight_bytes(b, w, &codes) && tfl_constant(b, &d, codes, out);
    }
    if (!tfl_tensor(b, w)) return false;
    *out = w->tensor;
    return true;
}

bool tfl_conv_weights(tfl_build *b, tfl_operand *w, bool depthwise, const qd_tensor_desc *d, qd_tensor **out) {
    if (!check_weights(b, w)) return false;
    if (!depthwise && w->format != QD_FORMAT_I4) return tfl_view(b, w, d, out);
    const int8_t *codes;
    if (!weight_bytes(b, w, &codes)) return false;
    if (depthwise) {
        const int64_t outputs = w->shape.of[3], size = w->shape.of[1] * w->shape.of[2];
        int8_t *turned;
        if (!tfl_memory(b, outputs * size, 1, &turned)) return false;
        for (int64_t i = 0; i < size; i++) {
            for (int64_t o = 0; o < outputs; o++)
                turned[o * size + i] = codes[i * outputs + o];
        }
        codes = turned;
    }
    return tfl_constant(b, d, codes, out);
}

/* ---- The end of a layer ------------------------------------------------------------------------------------- */

/* n numbers as an operand; NULL where all of them are 0. */
static bool put_zeros(tfl_build *b, const int32_t *zeros, int64_t n, qd_tensor **out) {
    *out = NULL;
    if (!zeros) return true;
    const qd_tensor_desc d = {.format = QD_FORMAT_I32, .rank = 1, .shape = {n}};
    return tfl_constant(b, &d, zeros, out);
}

static bool put_x_zero(tfl_build *b, int32_t zero, qd_tensor **out) {
    int32_t *copy;
    *out = NULL;
    if (!zero) return true;
    if (!tfl_memory(b, 1, sizeof *copy, &copy)) return false;
    *copy = zero;
    return put_zeros(b, copy, 1, out);
}

static bool put_bias(tfl_build *b, tfl_operand *bias, int64_t outputs, qd_tensor **out) {
    *out = NULL;
    if (!bias->host) return true;
    if (bias->format != QD_FORMAT_I32)
        return tfl_fail(b, "a bias of type %d; int32 (%d) is known", (int)bias->host->type, kTfLiteInt32);
    if (tfl_elements(&bias->shape) != outputs)
        return tfl_fail(b, "a bias of %lld elements for %lld channels", (long long)tfl_elements(&bias->shape),
                        (long long)outputs);
    const qd_tensor_desc d = {.format = QD_FORMAT_I32, .rank = 1, .shape = {outputs}};
    return tfl_view(b, bias, &d, out);
}

/* How the host rounds: fully connected layers in float64, convolutions with two roundings; for uint8 the product of the
 * scales is then a float. */
bool tfl_end(tfl_build *b, const tfl_operand *x, qd_quant x_quant, const tfl_operand *w, const tfl_scales *scales,
             tfl_operand *bias, int64_t outputs, bool linear, const tfl_operand *y, qd_quant y_quant,
             TfLiteFusedActivation activation, qd_tensor *in[4], qd_requant *end) {
    static const float one = 1;
    const bool unsigned_codes = x->format == QD_FORMAT_U8;
    if (y->format != x->format || unsigned_codes != (w->format == QD_FORMAT_U8))
        return tfl_fail(b, "types %d, %d and %d of input, weights and output do not go together", (int)x->host->type,
                        (int)w->host->type, (int)y->host->type);
    if (unsigned_codes && scales->count != 1) return tfl_fail(b, "uint8 weights with a scale for each channel");
    /* The host takes zero points of int8 weights for 0 where each channel, or a convolution, has its own. */
    const bool zeros = unsigned_codes || (linear && scales->count == 1);
    if (scales->zeros && !zeros) return tfl_fail(b, "weights with zero points other than 0");
    const qd_rounding rounding = linear ? QD_ROUND_AWAY : QD_ROUND_GEMMLOWP;
    const bool product = unsigned_codes && !linear;
    const float x_scale = product ? x_quant.scale * scales->scale[0] : x_quant.scale;
    return put_zeros(b, scales->zeros, scales->count, &in[0]) && put_x_zero(b, x_quant.zero_point, &in[1]) &&
           put_bias(b, bias, outputs, &in[2]) &&
           tfl_requant_table(b, rounding, x_scale, product ? &one : scales->scale, scales->count, y_quant.scale,
                             &in[3]) &&
           tfl_requant(b, activation, y->format, y_quant, rounding, end);
}
