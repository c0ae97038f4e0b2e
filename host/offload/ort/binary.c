/* Sums, differences and products of codes: QLinearAdd, QLinearMul, and Add, Sub and Mul between DequantizeLinear and
 * QuantizeLinear. */
#include <string.h>

#include "ops.h"

bool qep_match_qlinear_binary(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 2)) return false;
    u->in[0] = (qep_operand){qep_in(n, 0), qep_in(n, 1), qep_in(n, 2), 0, 0};
    u->in[1] = (qep_operand){qep_in(n, 3), qep_in(n, 4), qep_in(n, 5), 0, 0};
    u->y = (qep_operand){n->out[0], qep_in(n, 6), qep_in(n, 7), 0, 0};
    return qep_types(m, u->in[0].value, "a", QEP_CODES8) && qep_types(m, u->in[1].value, "b", QEP_CODES8) &&
           qep_types(m, u->y.value, "the result", QEP_CODES8) && qep_quantization(m, u, &u->in[0], "a", 1) &&
           qep_quantization(m, u, &u->in[1], "b", 1) && qep_quantization(m, u, &u->y, "the result", 1);
}

bool qep_match_qdq_binary(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 2)) return false;
    return qep_look_behind(m, u, qep_in(n, 0), "a", &u->in[0]) && qep_look_behind(m, u, qep_in(n, 1), "b", &u->in[1]) &&
           qep_look_ahead(m, u, n->out[0]);
}

qd_status qep_lower_binary(qep_build *b, const qep_unit *u) {
    const char *op = qep_node_of(b, u)->op;
    qep_shape a = *qep_shape_of(b, u->in[0].value), c = *qep_shape_of(b, u->in[1].value), y, folded;
    const qd_format f = qep_result_format(b, u);
    const qd_requant limits = qep_requant(b, u, f);
    qd_tensor *in[2], *out;
    qd_status status;
    if (!qep_broadcast(&a, &c, &y)) return qep_fail(b, "the shapes of a and b do not go together");
    folded = y;
    if (!qep_fold(&a, &c, &folded)) return qep_fail(b, "a broadcast of more than %d dimensions", QD_MAX_RANK);
    const qd_attrs attrs = {.binary = {.a = qep_quant(b, &u->in[0]),
                                       .b = qep_quant(b, &u->in[1]),
                                       .y = qep_quant(b, &u->y),
                                       .rounding = QD_ROUND_FLOAT,
                                       .min = limits.min,
                                       .max = limits.max,
                                       .subtract = strcmp(op, "Sub") == 0}};
    QD_TRY(qep_input(b, u->in[0].value, a.rank, a.dims, &in[0]));
    QD_TRY(qep_input(b, u->in[1].value, c.rank, c.dims, &in[1]));
    QD_TRY(qep_output(b, u->y.value, &y, f, folded.rank, folded.dims, &out));
    QD_TRY(qep_add(b, strstr(op, "Mul") ? QD_OP_MUL_INT : QD_OP_ADD_INT, &attrs, in, 2, out));
error:
    return status;
}
