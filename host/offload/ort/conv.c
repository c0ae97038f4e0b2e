/* Convolutions of codes: ConvInteger, QLinearConv, and Conv between DequantizeLinear and QuantizeLinear. Operands of a
 * unit: x, w, bias. The result is i32, codes, or floats. */
#include "ops.h"

enum { X, W, BIAS, OPERANDS };
enum { SLOT_W_ZERO, SLOT_X_ZERO, SLOT_SCALE, SLOT_W_SCALE, SLOT_BIAS };

/* ---- Matching ----------------------------------------------------------------------------------------------- */

static bool check_operands(qep_match *m, const qep_unit *u) {
    const qep_graph *g = m->g;
    if (!qep_types(m, u->in[X].value, "x", QEP_CODES8) || !qep_types(m, u->in[W].value, "w", QEP_CODES8)) return false;
    if (!qep_rank(m, u->in[W].value, "w", 3, 4)) return false;
    const int rank = g->values[u->in[X].value].shape.rank;
    if (rank && rank != g->values[u->in[W].value].shape.rank) return qep_broken(m, "x and w differ in rank");
    return qep_check_window(m, &g->nodes[u->node]);
}

/* Channels of the result; -1 when they are not known. */
static int64_t channels(const qep_graph *g, const qep_unit *u) {
    return g->values[u->in[W].value].shape.dims[0];
}

/* A constant of floats: one, or one for each channel of the result. */
static bool is_for_channels(const qep_graph *g, const qep_unit *u, int value, bool bias) {
    (void)bias;
    if (!qep_constant(g, value) || g->values[value].type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) return false;
    const qep_shape *s = &g->values[value].shape, *w = &g->values[u->in[W].value].shape;
    const int64_t n = qep_count(s);
    const int at = s->rank - (w->rank - 1);
    return s->rank <= w->rank && (n == 1 || (n == channels(g, u) && at >= 0 && s->dims[at] == n));
}

bool qep_match_conv_integer(qep_match *m, int node, qep_unit *u) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    if (!qep_operands(m, u, OPERANDS)) return false;
    u->in[X] = (qep_operand){qep_in(n, 0), -1, qep_in(n, 2), 0, 0};
    u->in[W] = (qep_operand){qep_in(n, 1), -1, qep_in(n, 3), 0, 0};
    u->y.value = n->out[0];
    if (!check_operands(m, u)) return false;
    const int zero = u->in[X].zero;
    if (zero >= 0) {
        if (qep_elements(g, zero) != 1) return qep_refuse(m, "x has not one zero point");
        if (!qep_known(g, zero) && !qep_is(g, g->values[zero].producer, "DynamicQuantizeLinear")) {
            return qep_refuse(m, "the zero point of x is computed by the model");
        }
    }
    if (!qep_parameter(m, u, u->in[W].zero, "the zero point of w", channels(g, u))) return false;
    return qep_take_floats(m, u, is_for_channels);
}

static bool check_quantized(qep_match *m, qep_unit *u) {
    return check_operands(m, u) && qep_quantization(m, u, &u->in[X], "x", 1) &&
           qep_quantization(m, u, &u->in[W], "w", channels(m->g, u));
}

bool qep_match_qlinear_conv(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, OPERANDS)) return false;
    u->in[X] = (qep_operand){qep_in(n, 0), qep_in(n, 1), qep_in(n, 2), 0, 0};
    u->in[W] = (qep_operand){qep_in(n, 3), qep_in(n, 4), qep_in(n, 5), 0, 0};
    u->in[BIAS].value = qep_in(n, 8);
    u->y = (qep_operand){n->out[0], qep_in(n, 6), qep_in(n, 7), 0, 0};
    if (!check_quantized(m, u) || !qep_types(m, u->y.value, "the result", QEP_CODES8)) return false;
    if (u->in[BIAS].value >= 0 && !qep_types(m, u->in[BIAS].value, "the bias", QEP_I32)) return false;
    return qep_quantization(m, u, &u->y, "the result", 1) && qep_check_multipliers(m, u, 1);
}

bool qep_match_qdq_conv(qep_match *m, int node, qep_unit *u) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    const int bias = qep_in(n, 2);
    if (!qep_operands(m, u, OPERANDS)) return false;
    if (!qep_look_behind(m, u, qep_in(n, 0), "x", &u->in[X]) ||
        !qep_look_behind_any(m, u, qep_in(n, 1), "w", &u->in[W]) || !check_quantized(m, u))
        return false;
    const int axis = qep_axis(u->in[W].axis, g->values[u->in[W].value].shape.rank);
    if (u->in[W].block || (qep_elements(g, u->in[W].scale) != 1 && axis != 0)) {
        return qep_refuse(m, "the scales of w are not those of its channels");
    }
    if (bias >= 0) {
        qep_operand o;
        if (!qep_look_behind_any(m, u, bias, "the bias", &o) || !qep_bias_fits(m, &u->in[X], &u->in[W], &o))
            return false;
        u->in[BIAS].value = o.value;
    }
    return qep_look_ahead(m, u, n->out[0]) && qep_check_multipliers(m, u, 1);
}

/* ---- Lowering ----------------------------------------------------------------------------------------------- */

/* sums · (x_scale · w_scale) + bias, as floats. */
static qd_status lower_floats(qep_build *b, const qep_unit *u, qd_tensor *sums, qd_tensor *y) {
    static const int64_t one = 1;
    const qep_graph *g = qep_of(b);
    const qd_tensor_desc *d = qd_tensor_describe(y);
    const int w_scale = u->in[W].scale, bias = u->in[BIAS].value;
    int64_t dims[QD_MAX_RANK] = {1, 1, 1, 1};
    dims[1] = w_scale < 0 ? 1 : qep_count(&g->values[w_scale].shape);
    const qd_tensor_desc scale_desc = qep_desc(QD_FORMAT_F32, d->rank, dims);
    const qd_attrs times = {.elementwise = {.scale = 1, .combine = QD_COMBINE_MUL}},
                   plus = {.elementwise = {.scale = 1, .combine = QD_COMBINE_ADD}};
    qd_tensor *in[2], *scales, *floats, *scaled = y;
    void *data;
    qd_status status;
    QD_TRY(qep_between(b, QD_FORMAT_F32, d->rank, d->shape, &floats));
    QD_TRY(qep_add(b, QD_OP_COPY, NULL, &sums, 1, floats));
    QD_TRY(qep_make(b, u, SLOT_W_SCALE, &scale_desc, &data, &in[0]));
    for (int64_t i = 0; i < dims[1] && data; i++)
        ((float *)data)[i] = (float)qep_number_of(b, w_scale, i, 1);
    QD_TRY(qep_input(b, u->in[X].scale, 1, &one, &in[1]));
    QD_TRY(qep_between(b, QD_FORMAT_F32, d->rank, dims, &scales));
    QD_TRY(qep_add(b, QD_OP_ELEMENTWISE, &times, in, 2, scales));
    if (bias >= 0) QD_TRY(qep_between(b, QD_FORMAT_F32, d->rank, d->shape, &scaled));
    in[0] = floats;
    in[1] = scales;
    QD_TRY(qep_add(b, QD_OP_ELEMENTWISE, &times, in, 2, scaled));
    if (bias < 0) return QD_OK;
    dims[1] = qep_count(&g->values[bias].shape);
    const qd_tensor_desc bias_desc = qep_desc(QD_FORMAT_F32, d->rank, dims);
    in[0] = scaled;
    QD_TRY(qep_borrow(b, u, SLOT_BIAS, &bias_desc, g->values[bias].data, &in[1]));
    QD_TRY(qep_add(b, QD_OP_ELEMENTWISE, &plus, in, 2, y));
error:
    return status;
}

/* One value for each channel, or for all, as an operand of the library. */
static qd_status load_channel_zeros(qep_build *b, const qep_unit *u, qd_tensor **out) {
    *out = NULL;
    if (u->in[W].zero < 0) return QD_OK;
    const int64_t n = qep_count(qep_shape_of(b, u->in[W].zero));
    return qep_zero(b, u, SLOT_W_ZERO, u->in[W].zero, 1, &n, out);
}

qd_status qep_lower_conv(qep_build *b, const qep_unit *u) {
    static const int64_t one = 1;
    const qep_node *n = qep_node_of(b, u);
    const qep_shape *x = qep_shape_of(b, u->in[X].value), *w = qep_shape_of(b, u->in[W].value);
    const qd_format f = qep_result_format(b, u);
    const bool floats = f == QD_FORMAT_F32;
    qep_images m;
    qd_tensor *in[6] = {0}, *y, *result;
    qd_status status;
    if (x->rank != w->rank) return qep_fail(b, "x has %d dimensions and w %d", x->rank, w->rank);
    QD_TRY(qep_read_window(b, n, x, true, w->dims + 2, &m));
    qep_shape shape = {.rank = x->rank, .dims = {x->dims[0], w->dims[0]}};
    for (int i = 0; i < m.dims; i++)
        shape.dims[2 + i] = m.out[2 - m.dims + i];
    qd_attrs attrs = {.conv_int = {.window = m.window, .groups = (int)qep_attr_int(n, "group", 1)}};
    QD_TRY(qep_input(b, u->in[W].value, w->rank, w->dims, &in[0]));
    QD_TRY(qep_input(b, u->in[X].value, x->rank, x->dims, &in[1]));
    QD_TRY(load_channel_zeros(b, u, &in[2]));
    QD_TRY(qep_zero(b, u, SLOT_X_ZERO, u->in[X].zero, 1, &one, &in[3]));
    if (u->in[BIAS].value >= 0 && !floats) QD_TRY(qep_input(b, u->in[BIAS].value, 1, &w->dims[0], &in[4]));
    if (u->y.scale >= 0) {
        attrs.conv_int.y = qep_requant(b, u, f);
        QD_TRY(qep_multipliers(b, u, SLOT_SCALE, qep_quant(b, &u->in[X]).scale, u->in[W].scale,
                               qep_quant(b, &u->y).scale, &in[5]));
    }
    QD_TRY(qep_output(b, u->y.value, &shape, f, shape.rank, shape.dims, &y));
    if (!y) return QD_OK;
    result = y;
    if (floats) QD_TRY(qep_between(b, QD_FORMAT_I32, shape.rank, shape.dims, &result));
    QD_TRY(qep_add(b, QD_OP_CONV_INT, &attrs, in, 6, result));
    if (floats) QD_TRY(lower_floats(b, u, result, y));
error:
    return status;
}
