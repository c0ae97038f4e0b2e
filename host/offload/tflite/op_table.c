/* Functions of one code: the plug-in fills a table with the host's own arithmetic. */
#include <math.h>
#include <string.h>

#include "operators.h"
#include "qdot/qdot_num.h"

/* x and y of one shape, and the least codes of their types. */
typedef struct pair {
    tfl_operand x, y;
    qd_quant x_quant, y_quant;
    int32_t x_least, y_least;
} pair;

static bool read_pair(tfl_build *b, pair *p) {
    if (!tfl_counts(b, 1, 1, 1) || !tfl_input(b, 0, &p->x) || !tfl_output(b, 0, &p->y) ||
        !tfl_quant(b, &p->x, &p->x_quant) || !tfl_quant(b, &p->y, &p->y_quant)) {
        return false;
    }
    p->x_least = p->x.format == QD_FORMAT_U8 ? 0 : -128;
    p->y_least = p->y.format == QD_FORMAT_U8 ? 0 : -128;
    return true;
}

static bool same_types(tfl_build *b, const pair *p) {
    return p->x.format == p->y.format || tfl_fail(b, "input and output differ in type");
}

/* y's code, from a number that has its zero point already. */
static uint8_t limited(const pair *p, int64_t code) {
    const int64_t least = p->y_least, greatest = least + 255;
    return (uint8_t)(code < least ? least : code > greatest ? greatest : code);
}

static bool apply(tfl_build *b, pair *p, const uint8_t *table) {
    const qd_tensor_desc d = tfl_desc(p->x.format, &p->x.shape), y_desc = tfl_desc(p->y.format, &p->x.shape);
    qd_tensor *x;
    return tfl_view(b, &p->x, &d, &x) && tfl_result(b, &p->y, &p->x.shape, &y_desc) &&
           tfl_table(b, x, table, p->y.tensor);
}

/* A ratio of scales as the host rounds with it: multiplier and shift. */
static bool read_ratio(tfl_build *b, float x, float y, int32_t row[2]) {
    static const float one = 1;
    return tfl_ok(b, qd_requantize_table(QD_ROUND_GEMMLOWP, x, &one, 1, y, row));
}

/* ---- Multipliers -------------------------------------------------------------------------------------------- */

/* RELU and its like: a change of scale, then limits. */
bool tfl_relu(tfl_build *b) {
    static const TfLiteFusedActivation kinds[] = {kTfLiteActRelu, kTfLiteActReluN1To1, kTfLiteActRelu6};
    const TfLiteFusedActivation kind = kinds[b->node->builtin - kTfLiteBuiltinRelu];
    pair p;
    uint8_t *table;
    int32_t ratio[2], min, max;
    bool whole;
    if (!read_pair(b, &p) || !same_types(b, &p) || !tfl_memory(b, 256, 1, &table) ||
        !read_ratio(b, p.x_quant.scale / p.y_quant.scale, 1, ratio) ||
        !tfl_activation(b, kind, p.y.format, p.y_quant, &min, &max, &whole)) {
        return false;
    }
    for (int i = 0; i < 256; i++) {
        const int32_t x = p.x_least + i - p.x_quant.zero_point;
        const int64_t code = (int64_t)qd_requantize_gemmlowp(x, ratio[0], ratio[1]) + p.y_quant.zero_point;
        table[i] = (uint8_t)(code < min ? min : code > max ? max : code);
    }
    return apply(b, &p, table);
}

bool tfl_leaky_relu(tfl_build *b) {
    const float alpha = ((const TfLiteLeakyReluParams *)b->node->params)->alpha;
    pair p;
    uint8_t *table;
    int32_t ratio[2], below[2] = {0};
    if (!read_pair(b, &p) || !same_types(b, &p) || !tfl_memory(b, 256, 1, &table) ||
        !read_ratio(b, p.x_quant.scale / p.y_quant.scale, 1, ratio)) {
        return false;
    }
    /* In the host's order; 0 has no multiplier. Those of negative slopes lie outside what its rounding is defined for.
     */
    const float slope = p.x_quant.scale * alpha / p.y_quant.scale;
    if (!(slope >= 0) || !isfinite(slope)) return tfl_fail(b, "a slope of %g; it must not be negative", (double)alpha);
    if (slope > 0 && !read_ratio(b, slope, 1, below)) return false;
    for (int i = 0; i < 256; i++) {
        const int32_t x = p.x_least + i - p.x_quant.zero_point;
        const int32_t *row = x >= 0 ? ratio : below;
        table[i] = limited(&p, (int64_t)qd_requantize_gemmlowp(x, row[0], row[1]) + p.y_quant.zero_point);
    }
    return apply(b, &p, table);
}

/* ---- HARD_SWISH --------------------------------------------------------------------------------------------- */

/* The host computes it in 16-bit fixed point (gemmlowp's operators). */

static int16_t limit16(int64_t x) {
    return (int16_t)(x < INT16_MIN ? INT16_MIN : x > INT16_MAX ? INT16_MAX : x);
}

/* High half of 2·a·b, rounded, halves away from 0. */
static int16_t multiply16(int16_t a, int16_t b) {
    const int32_t product = (int32_t)a * b;
    return limit16((product + (product >= 0 ? 1 << 14 : 1 - (1 << 14))) / (1 << 15));
}

/* x / 2^n, rounded, halves away from 0. */
static int32_t divide_rounded(int32_t x, int n) {
    const int32_t mask = (int32_t)((1u << n) - 1), rest = x & mask;
    return (x >> n) + (rest > (mask >> 1) + (x < 0));
}

/* A multiplier of 31 bits with 15. */
static int16_t narrow(int32_t multiplier) {
    return (int16_t)(multiplier >= INT32_MAX - (1 << 15) ? INT16_MAX : (multiplier + (1 << 15)) >> 16);
}

static int16_t hard_swish(int32_t x, const int32_t out[2], const int32_t gate[2]) {
    const int16_t fine = (int16_t)(x * 128);
    const int16_t value = multiply16(fine, narrow(out[0]));
    int16_t g = fine; /* becomes (x + 3) / 6, limited to 0 … 1 */
    if (gate[1] > 0) g = limit16((int64_t)g * ((int64_t)1 << (gate[1] - 1)));
    g = multiply16(g, narrow(gate[0]));
    if (gate[1] > 0) g = limit16((int64_t)g * 2);
    if (gate[1] < 0) g = (int16_t)divide_rounded(g, -gate[1]);
    g = (int16_t)((g + (1 << 15)) >> 1);
    const int32_t product = (int32_t)g * value / (1 << 15); /* towards 0 */
    return (int16_t)divide_rounded(product, -out[1]);
}

bool tfl_hard_swish(tfl_build *b) {
    pair p;
    uint8_t *table;
    int32_t out[2], gate[2];
    if (!read_pair(b, &p) || !same_types(b, &p) || !tfl_memory(b, 256, 1, &table)) return false;
    const float fine = (1.0f / 128.0f) * p.x_quant.scale;
    if (!read_ratio(b, fine / p.y_quant.scale, 1, out) || !read_ratio(b, fine / (3.0f / 32768.0f), 1, gate))
        return false;
    if (out[1] > 0) return tfl_fail(b, "the scale of the output is below 1/128 of the input's");
    if (out[1] < -15 || gate[1] < -15 || gate[1] > 31) return tfl_fail(b, "the scales are too far apart");
    for (int i = 0; i < 256; i++) {
        const int32_t x = p.x_least + i - p.x_quant.zero_point;
        table[i] = limited(&p, limit16((int64_t)hard_swish(x, out, gate) + p.y_quant.zero_point));
    }
    return apply(b, &p, table);
}

/* ---- Functions of floats ------------------------------------------------------------------------------------ */

/* LOGISTIC and TANH: both of the host's kernels look them up. */
bool tfl_lookup(tfl_build *b) {
    const bool logistic = b->node->builtin == kTfLiteBuiltinLogistic;
    pair p;
    uint8_t *table;
    if (!read_pair(b, &p) || !same_types(b, &p) || !tfl_memory(b, 256, 1, &table)) return false;
    if (logistic && p.y_quant.scale != 1.0f / 256)
        return tfl_fail(b, "the scale of the output is %g; the host has 1/256 alone", (double)p.y_quant.scale);
    const float inverse = 1 / p.y_quant.scale;
    for (int i = 0; i < 256; i++) {
        const float x = p.x_quant.scale * (float)(p.x_least + i - p.x_quant.zero_point);
        const float value = logistic ? 1.0f / (1.0f + expf(-x)) : tanhf(x);
        const float code = roundf(value * inverse) + (float)p.y_quant.zero_point;
        table[i] = limited(&p, code > 1e6f ? 1000000 : code < -1e6f ? -1000000 : (int64_t)code);
    }
    return apply(b, &p, table);
}

/* ---- QUANTIZE between codes --------------------------------------------------------------------------------- */

bool tfl_requantize(tfl_build *b) {
    pair p;
    uint8_t *table;
    int32_t ratio[2];
    if (!read_pair(b, &p) || !tfl_memory(b, 256, 1, &table) ||
        !read_ratio(b, p.x_quant.scale, p.y_quant.scale, ratio)) {
        return false;
    }
    for (int i = 0; i < 256; i++) {
        const int32_t x = p.x_least + i - p.x_quant.zero_point;
        table[i] = limited(&p, (int64_t)qd_requantize_gemmlowp(x, ratio[0], ratio[1]) + p.y_quant.zero_point);
    }
    return apply(b, &p, table);
}
