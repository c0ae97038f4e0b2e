/* Pools and means. */
#include <string.h>

#include "operators.h"
#include "window.h"

/* ---- Pools -------------------------------------------------------------------------------------------------- */

/* The host asks for nearly the same scale in x and y, and takes them for the same. */
static bool check_quants(tfl_build *b, const tfl_operand *x, const tfl_operand *y, qd_quant *quant) {
    qd_quant other;
    if (!tfl_quant(b, x, &other) || !tfl_quant(b, y, quant)) return false;
    const float apart = quant->scale - other.scale;
    if (x->format == y->format && quant->zero_point == other.zero_point && apart < 1e-6f && apart > -1e-6f) return true;
    return tfl_fail(b, "input and output must have the same type, scale and zero point");
}

static bool pool(tfl_build *b, bool average) {
    const TfLitePoolParams *p = b->node->params;
    tfl_operand x, y;
    qd_quant quant;
    if (!tfl_counts(b, 1, 1, 1) || !tfl_input(b, 0, &x) || !tfl_output(b, 0, &y) || !check_quants(b, &x, &y, &quant) ||
        !tfl_rank(b, &x, 4)) {
        return false;
    }
    const int64_t kernel[2] = {p->filter_height, p->filter_width};
    int64_t out[2];
    qd_attrs attrs = {.pool = {.average = average,
                               .window = {.kernel = {p->filter_height, p->filter_width},
                                          .stride = {p->stride_height, p->stride_width},
                                          .dilation = {1, 1}},
                               .rounding = QD_ROUND_AWAY,
                               .x = quant,
                               .y = quant}};
    bool whole;
    if (!tfl_window(b, p->padding, &x.shape.of[1], kernel, &attrs.pool.window, out) ||
        !tfl_activation(b, p->activation, y.format, quant, &attrs.pool.min, &attrs.pool.max, &whole) ||
        !tfl_limits(b, attrs.pool.min, attrs.pool.max)) {
        return false;
    }
    const tfl_shape shape = {.rank = 4, .of = {x.shape.of[0], out[0], out[1], x.shape.of[3]}};
    const qd_tensor_desc x_desc = tfl_desc(x.format, &x.shape), y_desc = tfl_desc(y.format, &shape);
    qd_tensor *in;
    return tfl_view(b, &x, &x_desc, &in) && tfl_result(b, &y, &shape, &y_desc) &&
           tfl_op(b, QD_OP_POOL, &attrs, &in, 1, y.tensor);
}

bool tfl_average_pool_2d(tfl_build *b) {
    return pool(b, true);
}

bool tfl_max_pool_2d(tfl_build *b) {
    return pool(b, false);
}

/* ---- MEAN --------------------------------------------------------------------------------------------------- */

/* Which dimensions are summed, as bits. They must stand side by side: x is then [outer, count, inner]. */
static bool read_axes(tfl_build *b, const tfl_operand *x, const tfl_operand *axes, unsigned *bits, int64_t size[3]) {
    int64_t list[TFL_MAX_RANK];
    int n;
    *bits = 0;
    if (!tfl_integers(b, axes, TFL_MAX_RANK, list, &n)) return false;
    for (int i = 0; i < n; i++) {
        int axis;
        if (list[i] < -TFL_MAX_RANK || list[i] > TFL_MAX_RANK) return tfl_fail(b, "no axis of the input");
        if (!tfl_axis(b, (int)list[i], x->shape.rank, &axis)) return false;
        *bits |= 1u << axis;
    }
    int part = 0;
    size[0] = size[1] = size[2] = 1;
    for (int i = 0; i < x->shape.rank; i++) {
        const bool summed = *bits >> i & 1;
        if (summed && part == 0) part = 1;
        if (!summed && part == 1) part = 2;
        if (summed && part == 2) return tfl_fail(b, "the axes do not stand side by side");
        size[part] *= x->shape.of[i];
    }
    return *bits || tfl_fail(b, "no axis is given");
}

/* The host's multiplier for a mean: that of the scales, divided by the count in integers. */
static bool mean_multiplier(tfl_build *b, float x_scale, float y_scale, int64_t count, int32_t row[2]) {
    static const float one = 1;
    if (!tfl_ok(b, qd_requantize_table(QD_ROUND_GEMMLOWP, x_scale, &one, 1, y_scale, row))) return false;
    int shift = 0;
    while (count >> (shift + 1))
        shift++;
    if (shift > 31 + row[1]) shift = 31 + row[1];
    if (shift < 0) return tfl_fail(b, "the scale of the output is too large for that of the input");
    row[0] = (int32_t)(((int64_t)row[0] << shift) / count);
    row[1] -= shift;
    return true;
}

/* x as rows of the elements that are summed. */
static bool rows_of(tfl_build *b, tfl_operand *x, const int64_t size[3], const qd_tensor_desc *d, qd_tensor **out) {
    if (size[2] == 1) return tfl_view(b, x, d, out);
    const tfl_order order = {.shape = {.rank = 3, .of = {size[0], size[2], size[1]}},
                             .steps = {size[1] * size[2], 1, size[2]}};
    qd_tensor *turned;
    const qd_tensor_desc turned_desc = tfl_desc(x->format, &order.shape);
    return tfl_inner(b, &turned_desc, &turned) && tfl_reorder(b, x, &order, turned) &&
           tfl_ok(b, qd_graph_reshape(b->graph, turned, d, out));
}

/* Products with a row of ones. */
bool tfl_mean(tfl_build *b) {
    const TfLiteReducerParams *p = b->node->params;
    tfl_operand x, axes, y;
    qd_quant x_quant, y_quant;
    unsigned bits;
    int64_t size[3];
    if (!tfl_counts(b, 2, 2, 1) || !tfl_input(b, 0, &x) || !tfl_input(b, 1, &axes) || !tfl_output(b, 0, &y) ||
        !tfl_quant(b, &x, &x_quant) || !tfl_quant(b, &y, &y_quant) || !read_axes(b, &x, &axes, &bits, size)) {
        return false;
    }
    if (x.format != y.format) return tfl_fail(b, "input and output differ in type");
    if (x.bytes) return tfl_fail(b, "the input is a constant");
    tfl_shape shape = {0};
    for (int i = 0; i < x.shape.rank; i++) {
        if (bits >> i & 1 && !p->keep_dims) continue;
        shape.of[shape.rank++] = bits >> i & 1 ? 1 : x.shape.of[i];
    }
    const int64_t rows = size[0] * size[2];
    const qd_tensor_desc x_desc = {x.format, 2, {rows, size[1]}}, y_desc = {y.format, 2, {rows, 1}},
                         w_desc = {QD_FORMAT_I8, 2, {1, size[1]}}, zero_desc = {QD_FORMAT_I32, 1, {1}},
                         table_desc = {QD_FORMAT_I32, 2, {1, 2}};
    int8_t *weights;
    int32_t *numbers; /* the multiplier's two, then the zero point */
    if (!tfl_memory(b, size[1], 1, &weights) || !tfl_memory(b, 3, sizeof *numbers, &numbers) ||
        !mean_multiplier(b, x_quant.scale, y_quant.scale, size[1], numbers)) {
        return false;
    }
    memset(weights, 1, (size_t)size[1]);
    numbers[2] = x_quant.zero_point;
    const qd_attrs attrs = {.matmul_int = {.y = {.rounding = QD_ROUND_GEMMLOWP, .zero_point = y_quant.zero_point}}};
    qd_tensor *in[6] = {0};
    return tfl_constant(b, &w_desc, weights, &in[0]) && rows_of(b, &x, size, &x_desc, &in[1]) &&
           tfl_constant(b, &zero_desc, numbers + 2, &in[3]) && tfl_constant(b, &table_desc, numbers, &in[5]) &&
           tfl_result(b, &y, &shape, &y_desc) && tfl_op(b, QD_OP_MATMUL_INT, &attrs, in, 6, y.tensor);
}
