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
    return qep_one_qlinear(m, node, u);
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
    return u->low <= u->high ? qep_check_limits(m, u) : qep_refuse(m, "its limits leave nothing");
}

/* QuantizeLinear of what a DequantizeLinear makes. */
bool qep_match_requantize(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1) || !qep_look_behind(m, u, qep_in(n, 0), "x", &u->in[0])) return false;
    u->y = (qep_operand){n->out[0], qep_in(n, 1), qep_in(n, 2), 0, 0};
    return qep_types(m, u->y.value, "the result", QEP_CODES8) && qep_quantization(m, u, &u->y, "the result", 1);
}

/* ---- Sums, products … with one number ----------------------------------------------------------------------- */

/* Which input is the constant number of floats; -1: none. */
static int find_number(const qep_graph *g, const qep_node *n) {
    for (int i = 1; i >= 0; i--) {
        const int v = qep_in(n, i);
        if (!qep_constant(g, v) || g->values[v].type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) continue;
        if (qep_elements(g, v) == 1 && g->values[v].shape.rank <= 1) return i;
    }
    return -1;
}

bool qep_match_qdq_number(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    const int at = find_number(m->g, n);
    if (at < 0) return qep_refuse(m, "neither of its inputs is one constant number");
    if (!qep_operands(m, u, 1) || !qep_look_behind(m, u, qep_in(n, 1 - at), "x", &u->in[0]) ||
        !qep_rank(m, u->in[0].value, "x", 1, QEP_MAX_RANK))
        return false;
    return qep_look_ahead(m, u, n->out[0]);
}

static float combine(const char *op, float a, float b) {
    return op[0] == 'A' ? a + b : op[0] == 'S' ? a - b : op[0] == 'M' ? a * b : a / b;
}

/* As the float operators do it: every step is rounded to float32. */
qd_status qep_lower_number(qep_build *b, const qep_unit *u) {
    const qep_node *n = qep_node_of(b, u);
    const int at = find_number(qep_of(b), n);
    const float number = (float)qep_number_of(b, qep_in(n, at), 0, 0);
    const qep_shape *shape = qep_shape_of(b, u->in[0].value);
    const int64_t count = qep_count(shape);
    const qd_format x_format = qep_format_of(b, u->in[0].value), y_format = qep_result_format(b, u);
    const qd_quant x = qep_quant(b, &u->in[0]), y = qep_quant(b, &u->y);
    const qd_requant r = qep_requant(b, u, y_format);
    const float low = u->limited ? (float)r.min : y_format == QD_FORMAT_I8 ? -128 : 0;
    const float high = u->limited ? (float)r.max : y_format == QD_FORMAT_I8 ? 127 : 255;
    const qd_tensor_desc d = qd_desc(y_format, 256, 0, 0, 0);
    qd_tensor *in[2], *out;
    void *data;
    qd_status status;
    QD_TRY(qep_make(b, u, SLOT_TABLE, &d, &data, &in[1]));
    for (int i = 0; i < 256 && data; i++) {
        const float value = x.scale * (float)((x_format == QD_FORMAT_I8 ? i - 128 : i) - x.zero_point);
        const float result = at ? combine(n->op, value, number) : combine(n->op, number, value);
        /* fmaxf takes the number beside a NaN, as limiting does. */
        const float code = nearbyintf(result / y.scale) + (float)y.zero_point;
        ((uint8_t *)data)[i] = (uint8_t)(int)fmaxf(low, fminf(high, code));
    }
    QD_TRY(qep_input(b, u->in[0].value, 1, &count, &in[0]));
    QD_TRY(qep_output(b, u->y.value, shape, y_format, 1, &count, &out));
    QD_TRY(qep_add(b, QD_OP_TABLE, NULL, in, 2, out));
error:
    return status;
}

/* ---- Functions ---------------------------------------------------------------------------------------------- */

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
