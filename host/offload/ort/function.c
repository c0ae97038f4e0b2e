/* Functions of single codes, by table: QLinearSigmoid, QLinearLeakyRelu, float functions between DequantizeLinear and
 * QuantizeLinear, and the step from one quantization to another. */
#include <math.h>
#include <string.h>

#include "ops.h"

enum { SLOT_TABLE };

typedef struct row {
    const char *op;
    qd_function function;
    const char *attribute; /* the function's alpha; NULL: none */
    float otherwise;
} row;

static const row rows[] = {
    {"QLinearSigmoid", QD_FUNCTION_SIGMOID, NULL, 0},
    {"QLinearLeakyRelu", QD_FUNCTION_LEAKY_RELU, "alpha", 0.01f},
    {"Relu", QD_FUNCTION_RELU, NULL, 0},
    {"Clip", QD_FUNCTION_IDENTITY, NULL, 0},
    {"Sigmoid", QD_FUNCTION_SIGMOID, NULL, 0},
    {"LeakyRelu", QD_FUNCTION_LEAKY_RELU, "alpha", 0.01f},
    {"HardSigmoid", QD_FUNCTION_HARD_SIGMOID, "alpha", 0.2f},
    {"HardSwish", QD_FUNCTION_HARD_SWISH, NULL, 0},
    {"Tanh", QD_FUNCTION_TANH, NULL, 0},
    {"Elu", QD_FUNCTION_ELU, "alpha", 1},
    {"Exp", QD_FUNCTION_EXP, NULL, 0},
    {"Gelu", QD_FUNCTION_GELU, NULL, 0},
    {"QuantizeLinear", QD_FUNCTION_IDENTITY, NULL, 0},
};

static row find(const qep_node *n) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].op, n->op) != 0) continue;
        row r = rows[i];
        if (r.function == QD_FUNCTION_GELU && strcmp(qep_attr_text(n, "approximate", "none"), "tanh") == 0)
            r.function = QD_FUNCTION_GELU_TANH;
        return r;
    }
    return (row){0};
}

bool qep_match_qlinear_function(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1)) return false;
    u->in[0] = (qep_operand){qep_in(n, 0), qep_in(n, 1), qep_in(n, 2), 0, 0};
    u->y = (qep_operand){n->out[0], qep_in(n, 3), qep_in(n, 4), 0, 0};
    return qep_types(m, u->in[0].value, "x", QEP_CODES8) && qep_types(m, u->y.value, "the result", QEP_CODES8) &&
           qep_quantization(m, u, &u->in[0], "x", 1) && qep_quantization(m, u, &u->y, "the result", 1);
}

bool qep_match_qdq_function(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1) || !qep_look_behind(m, u, qep_in(n, 0), "x", &u->in[0])) return false;
    if (strcmp(n->op, "HardSigmoid") == 0 && qep_attr_float(n, "beta", 0.5f) != 0.5f)
        return qep_refuse(m, "beta is not 0.5");
    return qep_look_ahead(m, u, n->out[0]);
}

/* Clip by itself: the limits are its own, and none may follow. */
bool qep_match_qdq_clip(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    float low, high;
    if (!qep_operands(m, u, 1) || !qep_look_behind(m, u, qep_in(n, 0), "x", &u->in[0])) return false;
    if (!qep_limits(m->g, node, &low, &high)) return qep_refuse(m, "its limits are no constants");
    if (!qep_look_ahead(m, u, n->out[0])) return false;
    u->low = u->limited ? fmaxf(low, u->low) : low;
    u->high = u->limited ? fminf(high, u->high) : high;
    u->limited = true;
    return u->low <= u->high ? true : qep_refuse(m, "its limits leave nothing");
}

/* QuantizeLinear of what a DequantizeLinear makes. */
bool qep_match_requantize(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1) || !qep_look_behind(m, u, qep_in(n, 0), "x", &u->in[0])) return false;
    u->y = (qep_operand){n->out[0], qep_in(n, 1), qep_in(n, 2), 0, 0};
    return qep_types(m, u->y.value, "the result", QEP_CODES8) && qep_quantization(m, u, &u->y, "the result", 1);
}

qd_status qep_lower_function(qep_build *b, const qep_unit *u) {
    const qep_node *n = qep_node_of(b, u);
    const row r = find(n);
    const qep_shape *x = qep_shape_of(b, u->in[0].value);
    const int64_t count = qep_count(x);
    qd_tensor *in, *y;
    qd_status status;
    /* The attribute is a float32. */
    const double alpha = r.attribute ? (double)qep_attr_float(n, r.attribute, r.otherwise) : 0;
    QD_TRY(qep_input(b, u->in[0].value, 1, &count, &in));
    QD_TRY(qep_output(b, u->y.value, x, qep_result_format(b, u), 1, &count, &y));
    QD_TRY(qep_apply(b, u, SLOT_TABLE, r.function, alpha, in, qep_quant(b, &u->in[0]), y, qep_quant(b, &u->y)));
error:
    return status;
}
