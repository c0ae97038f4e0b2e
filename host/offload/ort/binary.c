/* Sums, differences and products of codes: QLinearAdd, QLinearMul, and Add, Sub and Mul between DequantizeLinear and
 * QuantizeLinear. */
#include <float.h>
#include <string.h>

#include "ops.h"

static bool check_scales(qep_match *m, const qep_unit *u) {
    if (strstr(m->g->nodes[u->node].op, "Mul")) return qep_check_multipliers(m, u, 1);
    return qep_check_ratio(m, u, &u->in[0]) && qep_check_ratio(m, u, &u->in[1]);
}

bool qep_match_qlinear_binary(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 2)) return false;
    u->in[0] = (qep_operand){qep_in(n, 0), qep_in(n, 1), qep_in(n, 2), 0, 0};
    u->in[1] = (qep_operand){qep_in(n, 3), qep_in(n, 4), qep_in(n, 5), 0, 0};
    u->y = (qep_operand){n->out[0], qep_in(n, 6), qep_in(n, 7), 0, 0};
    return qep_types(m, u->in[0].value, "a", QEP_CODES8) && qep_types(m, u->in[1].value, "b", QEP_CODES8) &&
           qep_types(m, u->y.value, "the result", QEP_CODES8) && qep_quantization(m, u, &u->in[0], "a", 1) &&
           qep_quantization(m, u, &u->in[1], "b", 1) && qep_quantization(m, u, &u->y, "the result", 1) &&
           check_scales(m, u);
}

bool qep_match_qdq_binary(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 2)) return false;
    return qep_look_behind(m, u, qep_in(n, 0), "a", &u->in[0]) && qep_look_behind(m, u, qep_in(n, 1), "b", &u->in[1]) &&
           qep_look_ahead(m, u, n->out[0]) && check_scales(m, u);
}

/* Whether Relu or Clip leaves out real numbers that have codes; else ONNX Runtime leaves out the node. */
static bool limits_bind(qep_build *b, const qep_unit *u) {
    const qd_quant y = qep_quant(b, &u->y);
    const int least = qep_result_format(b, u) == QD_FORMAT_I8 ? -128 : 0;
    const float low = y.scale * (float)(least - y.zero_point), high = y.scale * (float)(least + 255 - y.zero_point);
    return u->limited && (u->low - low > FLT_EPSILON || high - u->high > FLT_EPSILON);
}

/* Whether the CPU runs the unit as QLinearAdd or QLinearMul, which it makes of floats between codes of one type, too;
 * else as operators on floats. */
static bool is_qlinear(qep_build *b, const qep_unit *u) {
    const qep_value *v = qep_of(b)->values;
    if (strncmp(qep_node_of(b, u)->op, "QLinear", 7) == 0) return true;
    return strcmp(qep_node_of(b, u)->op, "Sub") != 0 && !limits_bind(b, u) &&
           v[u->in[0].value].type == v[u->y.value].type && v[u->in[1].value].type == v[u->y.value].type;
}

/* ONNX Runtime's loop over a broadcast takes a for one number that meets many where a has one index of the last
 * dimension that has several (or else of the first one that both have), and adds the two the other way round then. */
static bool adds_a_first(const qep_shape *a, const qep_shape *b) {
    const int both = a->rank < b->rank ? a->rank : b->rank;
    int i = 1;
    while (i < both && a->dims[a->rank - i] == 1 && b->dims[b->rank - i] == 1)
        i++;
    return a->rank == 0 || a->dims[a->rank - i] == 1;
}

qd_status qep_lower_binary(qep_build *b, const qep_unit *u) {
    const char *op = qep_node_of(b, u)->op;
    const bool zero_first = is_qlinear(b, u);
    const bool swaps = zero_first && adds_a_first(qep_shape_of(b, u->in[0].value), qep_shape_of(b, u->in[1].value));
    const qep_operand *left = &u->in[swaps], *right = &u->in[!swaps];
    qep_shape a = *qep_shape_of(b, left->value), c = *qep_shape_of(b, right->value), y, folded;
    const qd_format f = qep_result_format(b, u);
    const qd_requant limits = qep_requant(b, u, f);
    qd_tensor *in[2], *out;
    qd_status status;
    if (!qep_broadcast(&a, &c, &y)) return qep_fail(b, "the shapes of a and b do not go together");
    folded = y;
    if (!qep_fold(&a, &c, &folded)) return qep_fail(b, "a broadcast of more than %d dimensions", QD_MAX_RANK);
    const qd_attrs attrs = {.binary = {.a = qep_quant(b, left),
                                       .b = qep_quant(b, right),
                                       .y = qep_quant(b, &u->y),
                                       .rounding = QD_ROUND_FLOAT,
                                       .zero_first = zero_first,
                                       .min = limits.min,
                                       .max = limits.max,
                                       .subtract = strcmp(op, "Sub") == 0}};
    QD_TRY(qep_input(b, left->value, a.rank, a.dims, &in[0]));
    QD_TRY(qep_input(b, right->value, c.rank, c.dims, &in[1]));
    QD_TRY(qep_output(b, u->y.value, &y, f, folded.rank, folded.dims, &out));
    QD_TRY(qep_add(b, strstr(op, "Mul") ? QD_OP_MUL_INT : QD_OP_ADD_INT, &attrs, in, 2, out));
error:
    return status;
}
