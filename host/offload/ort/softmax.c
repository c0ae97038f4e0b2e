/* Softmax of codes: QLinearSoftmax, and Softmax between DequantizeLinear and QuantizeLinear. */
#include <math.h>

#include "ops.h"

/* ONNX Runtime multiplies by the whole part of 1 / scale. */
static bool check_result(qep_match *m, const qep_unit *u) {
    const qep_value *scale = &m->g->values[u->y.scale];
    const double is = scale->data ? qep_number(scale->type, scale->data, 0) : 1;
    return is <= 1 ? true : qep_refuse(m, "the scale of the result is %g", is);
}

/* Before version 13 all dimensions from the axis on are one. */
static bool is_old(const qep_node *n) {
    return qep_attr_int(n, "opset", n->version) < 13;
}

static int softmax_axis(const qep_node *n, int rank) {
    return qep_axis(qep_attr_int(n, "axis", is_old(n) ? 1 : -1), rank);
}

static bool check_axis(qep_match *m, const qep_unit *u) {
    const qep_node *n = &m->g->nodes[u->node];
    if (!qep_rank(m, u->in[0].value, "x", 1, QEP_MAX_RANK)) return false;
    const int rank = m->g->values[u->in[0].value].shape.rank, axis = softmax_axis(n, rank);
    if (axis < 0) return qep_broken(m, "the axis is none of x");
    return is_old(n) || axis == rank - 1 ? true : qep_refuse(m, "the axis is not the last one");
}

bool qep_match_qlinear_softmax(qep_match *m, int node, qep_unit *u) {
    return qep_one_qlinear(m, node, u) && check_result(m, u) && check_axis(m, u);
}

bool qep_match_qdq_softmax(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1)) return false;
    if (!qep_look_behind(m, u, qep_in(n, 0), "x", &u->in[0]) || !check_axis(m, u) || !qep_look_ahead(m, u, n->out[0]))
        return false;
    return u->limited ? qep_refuse(m, "limits after it") : check_result(m, u);
}

qd_status qep_lower_softmax(qep_build *b, const qep_unit *u) {
    const qep_node *n = qep_node_of(b, u);
    const qep_shape *x = qep_shape_of(b, u->in[0].value);
    const int axis = softmax_axis(n, x->rank);
    qd_tensor *in, *y;
    qd_status status;
    if (axis < 0) return qep_fail(b, "the axis is none of x");
    const int from = is_old(n) ? axis : x->rank - 1;
    const int64_t dims[] = {qep_span(x, 0, from), qep_span(x, from, x->rank)};
    qd_quant to = qep_quant(b, &u->y);
    if (to.scale > 1) return qep_fail(b, "the scale of the result is %g", (double)to.scale);
    to.scale = 1 / floorf(1 / to.scale);
    const qd_attrs attrs = {.softmax_int = {.x_scale = qep_quant(b, &u->in[0]).scale, .y = to}};
    QD_TRY(qep_input(b, u->in[0].value, 2, dims, &in));
    QD_TRY(qep_output(b, u->y.value, x, qep_result_format(b, u), 2, dims, &y));
    QD_TRY(qep_add(b, QD_OP_SOFTMAX_INT, &attrs, &in, 1, y));
error:
    return status;
}
