/* Sums, differences and products of codes: QLinearAdd, QLinearMul, and Add, Sub and Mul between DequantizeLinear and
 * QuantizeLinear. */
#include <math.h>
#include <string.h>

#include "ops.h"

enum { SLOT_TABLE };

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

/* ---- One number for all: a function of one code ------------------------------------------------------------- */

/* Result code of x and the number b. ONNX Runtime has formulas of its own here, which differ by machine where a result
 * lies on a tie (as x + 3 of a hard swish does for every x = 0); these are the ones of its kernels for x86 with FMA,
 * where the zero point is added before rounding. */
static double sum_code(float code, qd_quant x, float number, qd_quant b, qd_quant y) {
    const float x_ratio = x.scale / y.scale, b_ratio = b.scale / y.scale;
    const float zeros = fmaf(x_ratio, (float)x.zero_point, b_ratio * (float)b.zero_point);
    const float fixed = fmaf(number, b_ratio, (float)y.zero_point - zeros);
    return (double)nearbyintf(fmaf(code, x_ratio, fixed));
}

static double product_code(float code, qd_quant x, float number, qd_quant b, qd_quant y) {
    const float product = (code - (float)x.zero_point) * (number - (float)b.zero_point);
    return (double)nearbyintf(product * (x.scale * b.scale / y.scale) + (float)y.zero_point);
}

/* The operand that is one constant number beside a tensor of the result's shape; -1: none. */
static int find_number(const qep_build *b, const qep_unit *u, const qep_shape *y) {
    const bool is_sub = strcmp(qep_node_of(b, u)->op, "Sub") == 0;
    for (int i = 0; i < 2 && !is_sub; i++) {
        const int value = u->in[i].value;
        const bool one = qep_constant(qep_of(b), value) && qep_count(qep_shape_of(b, value)) == 1;
        if (one && qep_count(qep_shape_of(b, u->in[1 - i].value)) == qep_count(y)) return i;
    }
    return -1;
}

static qd_status lower_with_number(qep_build *b, const qep_unit *u, int at, const qep_shape *shape) {
    const bool multiplies = strstr(qep_node_of(b, u)->op, "Mul") != NULL;
    const int x_value = u->in[1 - at].value;
    const qd_format x_format = qep_format_of(b, x_value), y_format = qep_result_format(b, u);
    const qd_quant x = qep_quant(b, &u->in[1 - at]), n = qep_quant(b, &u->in[at]), y = qep_quant(b, &u->y);
    const float number = (float)qep_number_of(b, u->in[at].value, 0, 0);
    const int64_t count = qep_count(shape);
    const qd_requant r = qep_requant(b, u, y_format);
    const int low = u->limited ? r.min : y_format == QD_FORMAT_I8 ? -128 : 0;
    const int high = u->limited ? r.max : y_format == QD_FORMAT_I8 ? 127 : 255;
    const qd_tensor_desc d = qd_desc(y_format, 256, 0, 0, 0);
    qd_tensor *in[2], *out;
    void *data;
    qd_status status;
    QD_TRY(qep_make(b, u, SLOT_TABLE, &d, &data, &in[1]));
    for (int i = 0; i < 256 && data; i++) {
        const float code = (float)(x_format == QD_FORMAT_I8 ? i - 128 : i);
        const double real = multiplies ? product_code(code, x, number, n, y) : sum_code(code, x, number, n, y);
        ((uint8_t *)data)[i] = (uint8_t)(int)fmax(low, fmin(high, real));
    }
    QD_TRY(qep_input(b, x_value, 1, &count, &in[0]));
    QD_TRY(qep_output(b, u->y.value, shape, y_format, 1, &count, &out));
    QD_TRY(qep_add(b, QD_OP_TABLE, NULL, in, 2, out));
error:
    return status;
}

/* ---- Two tensors -------------------------------------------------------------------------------------------- */

qd_status qep_lower_binary(qep_build *b, const qep_unit *u) {
    const char *op = qep_node_of(b, u)->op;
    qep_shape a = *qep_shape_of(b, u->in[0].value), c = *qep_shape_of(b, u->in[1].value), y, folded;
    const qd_format f = qep_result_format(b, u);
    const qd_requant limits = qep_requant(b, u, f);
    qd_tensor *in[2], *out;
    qd_status status;
    if (!qep_broadcast(&a, &c, &y)) return qep_fail(b, "the shapes of a and b do not go together");
    const int number = find_number(b, u, &y);
    if (number >= 0) return lower_with_number(b, u, number, &y);
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
