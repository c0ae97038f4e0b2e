/* Softmax of codes: QLinearSoftmax, and Softmax between DequantizeLinear and QuantizeLinear, which the host turns into
 * it. */
#include "ops.h"

enum { SLOT_WEIGHTS };

/* Codes of int8 beyond the greatest one wrap in hosts before 1.29. */
enum { SATURATES = 1029 };

/* QLinearSoftmax multiplies by the whole part of 1 / scale; a session that leaves the pattern as it is does not. */
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

static bool check_axis(qep_match *m, qep_unit *u) {
    const qep_node *n = &m->g->nodes[u->node];
    if (!qep_rank(m, u->in[0].value, "x", 1, QEP_MAX_RANK)) return false;
    const int rank = m->g->values[u->in[0].value].shape.rank, axis = softmax_axis(n, rank);
    if (axis < 0) return qep_broken(m, "the axis is none of x");
    u->varies = true; /* the weights depend on the number of columns */
    return is_old(n) || axis == rank - 1 ? true : qep_refuse(m, "the axis is not the last one");
}

bool qep_match_qlinear_softmax(qep_match *m, int node, qep_unit *u) {
    return qep_one_qlinear(m, node, u) && check_axis(m, u);
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
    const qd_tensor_desc weights = qd_desc(QD_FORMAT_F32, 256, 0, 0, 0);
    qd_tensor *in[2], *y;
    qd_status status;
    void *data;
    if (axis < 0) return qep_fail(b, "the axis is none of x");
    const int from = is_old(n) ? axis : x->rank - 1;
    const int64_t dims[] = {qep_span(x, 0, from), qep_span(x, from, x->rank)};
    const qd_attrs attrs = {.softmax_int = {.y = qep_quant(b, &u->y), .wrap = qep_of(b)->host_version < SATURATES}};
    QD_TRY(qep_make(b, u, SLOT_WEIGHTS, &weights, &data, &in[1]));
    if (data && dims[1]) QD_TRY(qd_softmax_float_weights(qep_quant(b, &u->in[0]).scale, dims[1], data));
    QD_TRY(qep_input(b, u->in[0].value, 2, dims, &in[0]));
    QD_TRY(qep_output(b, u->y.value, x, qep_result_format(b, u), 2, dims, &y));
    QD_TRY(qep_add(b, QD_OP_SOFTMAX_INT, &attrs, in, 2, y));
error:
    return status;
}
