/* Products of codes of 8 bits: MatMulInteger, QLinearMatMul, QGemm, and MatMul and Gemm between DequantizeLinear and
 * QuantizeLinear. Operands of a unit: a, b, bias. The result is i32, codes, or floats. */
#include <string.h>

#include "ops.h"

enum { A, B, BIAS, OPERANDS };
enum { SLOT_W, SLOT_W_ZERO, SLOT_X_ZERO, SLOT_BIAS, SLOT_SCALE };

/* ---- Matching ----------------------------------------------------------------------------------------------- */

/* Codes and shapes of a and b; `most` is the highest rank. */
static bool check_operands(qep_match *m, qep_unit *u) {
    if (!qep_types(m, u->in[A].value, "a", QEP_CODES8) || !qep_types(m, u->in[B].value, "b", QEP_CODES8)) return false;
    if (!qep_rank(m, u->in[A].value, "a", 1, QEP_MAX_RANK) || !qep_rank(m, u->in[B].value, "b", 1, QEP_MAX_RANK))
        return false;
    if (qep_constant(m->g, u->in[B].value)) return true;
    /* Its columns become rows on the device, through a window. */
    u->windows |= 1u << B;
    const int a_rank = m->g->values[u->in[A].value].shape.rank, b_rank = m->g->values[u->in[B].value].shape.rank;
    if (b_rank > 2 && b_rank > a_rank) return qep_refuse(m, "a goes with several batches of b");
    return true;
}

/* A zero point of a: known, or one that DynamicQuantizeLinear finds. */
static bool check_a_zero(qep_match *m, const qep_unit *u) {
    const int zero = u->in[A].zero;
    if (zero < 0) return true;
    const qep_value *v = &m->g->values[zero];
    if (v->type != m->g->values[u->in[A].value].type) return qep_broken(m, "a and its zero point differ in type");
    if (v->producer >= 0 && !qep_is(m->g, v->producer, "DynamicQuantizeLinear")) {
        return qep_refuse(m, "the zero point of a is computed by the model");
    }
    if (qep_elements(m->g, zero) != 1) return qep_refuse(m, "a has more than one zero point");
    return true;
}

/* Columns of the result; -1 when they are not known. */
static int64_t columns(const qep_graph *g, const qep_unit *u) {
    const qep_shape *b = &g->values[u->in[B].value].shape;
    if (b->rank < 2) return 1;
    return b->dims[qep_attr_int(&g->nodes[u->node], "transB", 0) ? 0 : b->rank - 1];
}

/* Whether all rows of a go with one matrix b, as they must for a result of floats. */
static bool one_matrix(const qep_graph *g, const qep_unit *u) {
    const qep_shape *b = &g->values[u->in[B].value].shape;
    for (int i = 0; i < b->rank - 2; i++) {
        if (b->dims[i] != 1) return false;
    }
    return true;
}

/* A constant of floats: one (but not as a bias), or one for each column; of more dimensions than the sums it would
 * change their shape. */
static bool is_for_columns(const qep_graph *g, const qep_unit *u, int value, bool bias) {
    if (!qep_constant(g, value) || g->values[value].type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) return false;
    const qep_shape *s = &g->values[value].shape;
    const int64_t count = qep_count(s), n = columns(g, u);
    if (n < 0 || s->rank > g->values[u->in[A].value].shape.rank || (bias && count != n)) return false;
    return count == 1 || (count == n && s->rank > 0 && s->dims[s->rank - 1] == n);
}

bool qep_match_matmul_integer(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, OPERANDS)) return false;
    u->in[A] = (qep_operand){qep_in(n, 0), -1, qep_in(n, 2), 0, 0};
    u->in[B] = (qep_operand){qep_in(n, 1), -1, qep_in(n, 3), 0, 0};
    u->y.value = n->out[0];
    if (!check_operands(m, u) || !check_a_zero(m, u)) return false;
    if (!qep_parameter(m, u, u->in[B].zero, "the zero point of b", columns(m->g, u))) return false;
    return one_matrix(m->g, u) ? qep_take_floats(m, u, is_for_columns) : true;
}

/* Scales and zero points of a and b, and of the result. */
static bool check_quantized(qep_match *m, qep_unit *u) {
    return check_operands(m, u) && qep_quantization(m, u, &u->in[A], "a", 1) &&
           qep_quantization(m, u, &u->in[B], "b", columns(m->g, u));
}

bool qep_match_qlinear_matmul(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, OPERANDS)) return false;
    u->in[A] = (qep_operand){qep_in(n, 0), qep_in(n, 1), qep_in(n, 2), 0, 0};
    u->in[B] = (qep_operand){qep_in(n, 3), qep_in(n, 4), qep_in(n, 5), 0, 0};
    u->y = (qep_operand){n->out[0], qep_in(n, 6), qep_in(n, 7), 0, 0};
    return check_quantized(m, u) && qep_types(m, u->y.value, "the result", QEP_CODES8) &&
           qep_quantization(m, u, &u->y, "the result", 1) && qep_check_multipliers(m, u, 1);
}

/* What Gemm can have that is not done here. */
static bool check_gemm(qep_match *m, const qep_unit *u) {
    const qep_node *n = &m->g->nodes[u->node];
    const float alpha = qep_attr_float(n, "alpha", 1);
    if (!(alpha > 0)) return qep_refuse(m, "alpha is %g; scales must be positive", (double)alpha);
    if (qep_attr_int(n, "transA", 0)) return qep_refuse(m, "a is transposed");
    if (qep_attr_float(n, "beta", 1) != 1) return qep_refuse(m, "beta is %g", (double)qep_attr_float(n, "beta", 1));
    const int bias = u->in[BIAS].value;
    if (bias < 0) return true;
    if (!qep_constant(m->g, bias)) return qep_refuse(m, "the bias is no constant");
    if (!qep_each_column(m->g, bias, columns(m->g, u))) return qep_refuse(m, "the bias is not one for each column");
    return qep_types(m, bias, "the bias", QEP_I32);
}

bool qep_match_qgemm(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, OPERANDS)) return false;
    u->in[A] = (qep_operand){qep_in(n, 0), qep_in(n, 1), qep_in(n, 2), 0, 0};
    u->in[B] = (qep_operand){qep_in(n, 3), qep_in(n, 4), qep_in(n, 5), 0, 0};
    u->in[BIAS].value = qep_in(n, 6);
    u->y = (qep_operand){n->out[0], qep_in(n, 7), qep_in(n, 8), 0, 0};
    if (!check_quantized(m, u) || !check_gemm(m, u)) return false;
    if (u->y.scale < 0) return qep_types(m, u->y.value, "the result", QEP_F32);
    return qep_types(m, u->y.value, "the result", QEP_CODES8) && qep_quantization(m, u, &u->y, "the result", 1) &&
           qep_check_multipliers(m, u, qep_attr_float(n, "alpha", 1));
}

/* The bias of a Gemm: int32 codes, whose scale must be that of the sums. */
static bool take_bias(qep_match *m, qep_unit *u, int value) {
    qep_operand o;
    if (value < 0) return true;
    if (!qep_look_behind_any(m, u, value, "the bias", &o)) return false;
    /* It is added to the sums, which alpha multiplies. */
    const float alpha = qep_attr_float(&m->g->nodes[u->node], "alpha", 1);
    if (alpha != 1) return qep_refuse(m, "alpha is %g, and there is a bias", (double)alpha);
    u->in[BIAS] = (qep_operand){.value = o.value, .scale = -1, .zero = -1};
    return qep_bias_fits(m, &u->in[A], &u->in[B], &o);
}

static bool match_qdq(qep_match *m, int node, qep_unit *u, bool gemm) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    if (!qep_operands(m, u, OPERANDS)) return false;
    if (!qep_look_behind(m, u, qep_in(n, 0), "a", &u->in[A]) ||
        !qep_look_behind_any(m, u, qep_in(n, 1), "b", &u->in[B]) || !check_quantized(m, u))
        return false;
    /* Scales of b are those of the columns. */
    const qep_shape *b = &g->values[u->in[B].value].shape;
    const int axis = qep_axis(u->in[B].axis, b->rank), last = qep_attr_int(n, "transB", 0) ? 0 : b->rank - 1;
    if (u->in[B].block || (qep_elements(g, u->in[B].scale) != 1 && axis != last)) {
        return qep_refuse(m, "the scales of b are not those of its columns");
    }
    if (gemm && (!take_bias(m, u, qep_in(n, 2)) || !check_gemm(m, u))) return false;
    const int members = u->n_members;
    if (qep_look_ahead(m, u, n->out[0])) return qep_check_multipliers(m, u, qep_attr_float(n, "alpha", 1));
    if (m->broken) return false;
    /* No codes are asked for: floats. */
    if (!one_matrix(g, u)) return qep_refuse(m, "batches of b with a result of floats");
    u->n_members = members;
    u->limited = false;
    u->y = (qep_operand){n->out[0], -1, -1, 0, 0};
    return qep_types(m, u->y.value, "the result", QEP_F32);
}

bool qep_match_qdq_matmul(qep_match *m, int node, qep_unit *u) {
    return match_qdq(m, node, u, false);
}

bool qep_match_qdq_gemm(qep_match *m, int node, qep_unit *u) {
    return match_qdq(m, node, u, true);
}

/* ---- Lowering ----------------------------------------------------------------------------------------------- */

/* y [batches, M, N] = a [batches, M, K] · b [batches or 1, K, N]. */
typedef struct product {
    int64_t batches, M, K, N;
    bool one_b; /* for all batches; they are rows then */
    bool transposed;
    qep_shape y;
} product;

static qd_status find_product(qep_build *b, const qep_unit *u, product *p) {
    const qep_shape *a = qep_shape_of(b, u->in[A].value), *w = qep_shape_of(b, u->in[B].value);
    p->transposed = qep_attr_int(qep_node_of(b, u), "transB", 0);
    if (a->rank < 1 || w->rank < 1) return qep_fail(b, "a or b has no dimensions");
    p->K = a->dims[a->rank - 1];
    p->M = a->rank > 1 ? a->dims[a->rank - 2] : 1;
    p->N = w->rank < 2 ? 1 : w->dims[p->transposed ? 0 : w->rank - 1];
    const int64_t k = w->rank < 2 ? w->dims[0] : w->dims[p->transposed ? 1 : w->rank - 2];
    if (k != p->K) return qep_fail(b, "a has %lld columns and b %lld rows", (long long)p->K, (long long)k);
    qep_shape lead_a = {.rank = a->rank > 2 ? a->rank - 2 : 0}, lead_b = {.rank = w->rank > 2 ? w->rank - 2 : 0};
    memcpy(lead_a.dims, a->dims, (size_t)lead_a.rank * sizeof *a->dims);
    memcpy(lead_b.dims, w->dims, (size_t)lead_b.rank * sizeof *w->dims);
    if (!qep_broadcast(&lead_a, &lead_b, &p->y)) return qep_fail(b, "the batches of a and b differ");
    p->batches = qep_count(&p->y);
    p->one_b = qep_count(&lead_b) == 1;
    if (p->batches != qep_count(&lead_a) || (!p->one_b && p->batches != qep_count(&lead_b))) {
        return qep_fail(b, "one batch of a or b goes with several of the other");
    }
    if (a->rank > 1) p->y.dims[p->y.rank++] = p->M;
    if (w->rank > 1) p->y.dims[p->y.rank++] = p->N;
    return QD_OK;
}

/* b as rows of K codes, when the run brings it. */
static qd_status turn_weights(qep_build *b, const qep_unit *u, const product *p, const int64_t dims[3],
                              qd_tensor **out) {
    static const int order[] = {0, 2, 1};
    const int value = u->in[B].value, rank = p->one_b ? 2 : 3;
    const int64_t *last = dims + 3 - rank;
    if (p->transposed) return qep_input(b, value, rank, last, out);
    const qep_shape from = {.rank = 3, .dims = {dims[0], p->K, p->N}};
    const qd_format f = qep_format_of(b, value);
    qd_tensor *rows;
    qd_status status = qep_between(b, f, 3, dims, &rows);
    if (!status) status = qep_permute(b, value, &from, 3, order, dims, rows);
    if (status || rank == 3) {
        *out = rows;
        return status;
    }
    return qep_view(b, rows, rank, last, out);
}

/* b as rows of K codes. */
static qd_status load_weights(qep_build *b, const qep_unit *u, const product *p, qd_tensor **out) {
    const int value = u->in[B].value;
    const int64_t dims[] = {p->one_b ? 1 : p->batches, p->N, p->K};
    const qd_tensor_desc d = qep_desc(qep_format_of(b, value), p->one_b ? 2 : 3, dims + p->one_b);
    const int8_t *from = qep_of(b)->values[value].data;
    if (!from) return turn_weights(b, u, p, dims, out);
    if (p->transposed) return qep_borrow(b, u, SLOT_W, &d, from, out);
    void *data;
    const qd_status status = qep_make(b, u, SLOT_W, &d, &data, out);
    if (status || !data) return status;
    int8_t *to = data;
    for (int64_t i = 0; i < dims[0]; i++, from += p->K * p->N, to += p->K * p->N)
        qep_transpose8(from, p->K, p->N, to);
    return QD_OK;
}

/* The scale of a, times Gemm's factor. */
static float known_a_scale(qep_build *b, const qep_unit *u) {
    return qep_attr_float(qep_node_of(b, u), "alpha", 1) * qep_quant(b, &u->in[A]).scale;
}

/* int32 codes of a bias, as floats where the result is. */
static qd_status load_bias(qep_build *b, const qep_unit *u, const product *p, qd_tensor **out) {
    const int value = u->in[BIAS].value;
    *out = NULL;
    if (value < 0) return QD_OK;
    const qep_value *v = &qep_of(b)->values[value];
    const bool floats = qep_result_format(b, u) == QD_FORMAT_F32;
    const qd_tensor_desc d = qd_desc(floats ? QD_FORMAT_F32 : QD_FORMAT_I32, p->N, 0, 0, 0);
    if (qep_format(v->type) == d.format && qep_elements(qep_of(b), value) == p->N) {
        return qep_borrow(b, u, SLOT_BIAS, &d, v->data, out);
    }
    void *data;
    const qd_status status = qep_make(b, u, SLOT_BIAS, &d, &data, out);
    if (status || !data) return status;
    const float *scales = qep_floats(b, u->in[B].scale);
    const float x_scale = known_a_scale(b, u);
    if (!scales) return QD_ERR_MEMORY;
    const bool each = qep_count(qep_shape_of(b, u->in[B].scale)) > 1;
    for (int64_t i = 0; i < p->N; i++)
        ((float *)data)[i] = (float)qep_number(v->type, v->data, i) * (x_scale * scales[each ? i : 0]);
    return QD_OK;
}

/* Sums, or codes. */
static qd_status lower_codes(qep_build *b, const qep_unit *u, const product *p) {
    static const int64_t one = 1;
    const int64_t rows = p->one_b ? p->batches * p->M : p->batches;
    const int64_t x_dims[] = {rows, p->one_b ? p->K : p->M, p->K}, y_dims[] = {rows, p->one_b ? p->N : p->M, p->N};
    const int rank = p->one_b ? 2 : 3;
    const qd_format f = qep_result_format(b, u);
    qd_tensor *in[6] = {0}, *y;
    qd_attrs attrs = {.matmul_int = {.wide = p->K > INT32_MAX / (255 * 255)}};
    qd_status status;
    QD_TRY(load_weights(b, u, p, &in[0]));
    QD_TRY(qep_input(b, u->in[A].value, rank, x_dims, &in[1]));
    if (u->in[B].zero >= 0) {
        const int64_t n = qep_count(qep_shape_of(b, u->in[B].zero));
        QD_TRY(qep_zero(b, u, SLOT_W_ZERO, u->in[B].zero, 1, &n, &in[2]));
    }
    QD_TRY(qep_zero(b, u, SLOT_X_ZERO, u->in[A].zero, 1, &one, &in[3]));
    QD_TRY(load_bias(b, u, p, &in[4]));
    if (u->y.scale >= 0) {
        attrs.matmul_int.y = qep_requant(b, u, f);
        QD_TRY(
            qep_multipliers(b, u, SLOT_SCALE, known_a_scale(b, u), u->in[B].scale, qep_quant(b, &u->y).scale, &in[5]));
    }
    QD_TRY(qep_output(b, u->y.value, &p->y, f, rank, y_dims, &y));
    QD_TRY(qep_add(b, QD_OP_MATMUL_INT, &attrs, in, 6, y));
error:
    return status;
}

/* The scales of the columns of the result, [1 or N, 1]: f32(a_scale · b_scale), as ONNX Runtime rounds them. */
static qd_status load_scales(qep_build *b, const qep_unit *u, qd_tensor **out) {
    const int a_scale = u->in[A].scale, b_scale = u->in[B].scale;
    const bool known = !qep_is(qep_of(b), u->node, "MatMulInteger"); /* which has none but what a run computes */
    const int64_t dims[] = {b_scale < 0 ? 1 : qep_count(qep_shape_of(b, b_scale)), 1}, one[] = {1, 1};
    const qd_tensor_desc d = qep_desc(QD_FORMAT_F32, 2, dims);
    const qd_attrs times = {.elementwise = {.scale = 1, .combine = QD_COMBINE_MUL}};
    const float factor = known ? known_a_scale(b, u) : 1;
    qd_tensor *in[2];
    void *data;
    qd_status status;
    QD_TRY(qep_make(b, u, SLOT_SCALE, &d, &data, &in[0]));
    for (int64_t i = 0; i < dims[0] && data; i++)
        ((float *)data)[i] = factor * (float)qep_number_of(b, b_scale, i, 1);
    *out = in[0];
    if (known) return QD_OK;
    QD_TRY(qep_input(b, a_scale, 2, one, &in[1]));
    QD_TRY(qep_between(b, QD_FORMAT_F32, 2, dims, out));
    QD_TRY(qep_add(b, QD_OP_ELEMENTWISE, &times, in, 2, *out));
error:
    return status;
}

/* Floats: one group of codes in a row. */
static qd_status lower_floats(qep_build *b, const qep_unit *u, const product *p) {
    static const int64_t one = 1;
    const int64_t x_dims[] = {p->batches * p->M, p->K}, y_dims[] = {p->batches * p->M, p->N};
    qd_tensor *in[7] = {0}, *y;
    qd_status status;
    QD_TRY(load_weights(b, u, p, &in[0]));
    QD_TRY(load_scales(b, u, &in[1]));
    QD_TRY(qep_input(b, u->in[A].value, 2, x_dims, &in[2]));
    if (u->in[B].zero >= 0) {
        const int64_t zeros[] = {qep_count(qep_shape_of(b, u->in[B].zero)), 1};
        QD_TRY(qep_zero(b, u, SLOT_W_ZERO, u->in[B].zero, 2, zeros, &in[3]));
    }
    QD_TRY(qep_zero(b, u, SLOT_X_ZERO, u->in[A].zero, 1, &one, &in[5]));
    QD_TRY(load_bias(b, u, p, &in[6]));
    QD_TRY(qep_output(b, u->y.value, &p->y, QD_FORMAT_F32, 2, y_dims, &y));
    QD_TRY(qep_add(b, QD_OP_MATMUL_GROUP, &(qd_attrs){.matmul_group = {.group = 0}}, in, 7, y));
error:
    return status;
}

qd_status qep_lower_matmul(qep_build *b, const qep_unit *u) {
    product p;
    const qd_status status = find_product(b, u, &p);
    if (status) return status;
    return qep_result_format(b, u) == QD_FORMAT_F32 ? lower_floats(b, u, &p) : lower_codes(b, u, &p);
}
