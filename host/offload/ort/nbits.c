/* Products of floats with weights in few bits: MatMulNBits, and MatMul and Gemm whose weights a DequantizeLinear makes.
 * Operands of a unit: a, b, bias. */
#include <string.h>

#include "ops.h"

enum { A, B, BIAS, OPERANDS };
enum { SLOT_W, SLOT_SCALE, SLOT_ZERO, SLOT_BIAS };

/* y [rows, N] = a [rows, K] · wᵀ with G scales in a row of w. */
typedef struct sizes {
    int64_t rows, K, N, group, G;
    qep_shape y;
} sizes;

static qd_status set_rows(qep_build *b, const qep_unit *u, sizes *s) {
    s->y = *qep_shape_of(b, u->in[A].value);
    if (!s->y.rank || s->y.dims[s->y.rank - 1] != s->K) {
        return qep_fail(b, "a has not %lld columns", (long long)s->K);
    }
    s->rows = qep_span(&s->y, 0, s->y.rank - 1);
    s->y.dims[s->y.rank - 1] = s->N;
    s->group = s->group < s->K ? s->group : s->K;
    s->G = (s->K + s->group - 1) / s->group;
    return QD_OK;
}

/* in: w, w_scale, NULL, w_zero or NULL. */
static qd_status finish(qep_build *b, const qep_unit *u, const sizes *s, qd_tensor *in[7]) {
    const int64_t x_dims[] = {s->rows, s->K}, y_dims[] = {s->rows, s->N};
    const qep_value *bias = u->in[BIAS].value >= 0 ? &qep_of(b)->values[u->in[BIAS].value] : NULL;
    qd_tensor *y;
    qd_status status;
    QD_TRY(qep_input(b, u->in[A].value, 2, x_dims, &in[2]));
    if (bias) {
        const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, s->N, 0, 0, 0);
        QD_TRY(qep_borrow(b, u, SLOT_BIAS, &d, bias->data, &in[6]));
    }
    QD_TRY(qep_output(b, u->y.value, &s->y, QD_FORMAT_F32, 2, y_dims, &y));
    QD_TRY(qep_add(b, QD_OP_MATMUL_GROUP, &(qd_attrs){.matmul_group = {.group = s->group}}, in, 7, y));
error:
    return status;
}

static bool check_bias(qep_match *m, const qep_unit *u, int64_t N) {
    const int bias = u->in[BIAS].value;
    if (bias < 0) return true;
    if (!qep_constant(m->g, bias)) return qep_refuse(m, "the bias is no constant");
    if (!qep_each_column(m->g, bias, N)) return qep_refuse(m, "the bias is not one for each column");
    return qep_types(m, bias, "the bias", QEP_F32);
}

/* ---- MatMulNBits -------------------------------------------------------------------------------------------- */

typedef struct nbits {
    int64_t K, N, bits, block, groups;
    int64_t row_bytes;  /* of B: whole blocks */
    int64_t zero_bytes; /* of a row of packed zero points */
} nbits;

static nbits read_nbits(const qep_node *n) {
    nbits p = {.K = qep_attr_int(n, "K", 0),
               .N = qep_attr_int(n, "N", 0),
               .bits = qep_attr_int(n, "bits", 4),
               .block = qep_attr_int(n, "block_size", 0)};
    if (p.K > 0 && p.block > 0) {
        p.groups = (p.K - 1) / p.block + 1;
        p.row_bytes = p.groups * (p.block * p.bits / 8);
        p.zero_bytes = (p.groups * p.bits + 7) / 8;
    }
    return p;
}

enum { NBITS_ZEROS = 3, NBITS_PERMUTATION, NBITS_BIAS };

bool qep_match_nbits(qep_match *m, int node, qep_unit *u) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    const nbits p = read_nbits(n);
    const int zeros = qep_in(n, NBITS_ZEROS);
    if (!qep_operands(m, u, OPERANDS)) return false;
    u->in[A].value = qep_in(n, 0);
    u->in[B] = (qep_operand){qep_in(n, 1), qep_in(n, 2), zeros, 0, p.block};
    u->in[BIAS].value = qep_in(n, NBITS_BIAS);
    u->y.value = n->out[0];
    if (p.bits != 2 && p.bits != 4 && p.bits != 8) return qep_refuse(m, "weights of %d bits", (int)p.bits);
    if (p.K < 1 || p.N < 1 || p.block < 16 || (p.block & (p.block - 1))) {
        return qep_broken(m, "K %lld, N %lld, block_size %lld", (long long)p.K, (long long)p.N, (long long)p.block);
    }
    if (qep_in(n, NBITS_PERMUTATION) >= 0) return qep_refuse(m, "it has g_idx");
    if (qep_attr_int(n, "weight_prepacked", 0)) return qep_refuse(m, "its weights are in another provider's order");
    if (!qep_types(m, u->in[A].value, "A", QEP_F32) || !qep_rank(m, u->in[A].value, "A", 1, QEP_MAX_RANK) ||
        !qep_types(m, u->in[B].value, "B", QEP_U8) || !qep_types(m, u->in[B].scale, "scales", QEP_F32))
        return false;
    if (!qep_constant(g, u->in[B].value) || !qep_constant(g, u->in[B].scale)) {
        return qep_refuse(m, "its weights are no constants");
    }
    if (qep_elements(g, u->in[B].value) != p.N * p.row_bytes || qep_elements(g, u->in[B].scale) != p.N * p.groups) {
        return qep_broken(m, "B or scales do not have the shape that K, N, bits and block_size ask for");
    }
    if (zeros >= 0) {
        if (!qep_constant(g, zeros)) return qep_refuse(m, "its zero points are no constants");
        if (!qep_types(m, zeros, "zero_points", QEP_U8 | QEP_F32)) return false;
        const bool packed = g->values[zeros].type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
        if (qep_elements(g, zeros) != p.N * (packed ? p.zero_bytes : p.groups)) {
            return qep_broken(m, "zero_points do not have the shape that K, N, bits and block_size ask for");
        }
    }
    return check_bias(m, u, p.N);
}

/* Zero points [N, groups]: packed, floats, or the middle of the codes, which all rows share. */
static qd_status load_zeros(qep_build *b, const qep_unit *u, const nbits *p, qd_tensor **out) {
    const int value = u->in[B].zero;
    const qep_value *v = value >= 0 ? &qep_of(b)->values[value] : NULL;
    qd_tensor_desc d = qd_desc(QD_FORMAT_I32, v ? p->N : 1, p->groups, 0, 0);
    if (v && v->type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
        d.format = QD_FORMAT_F32;
        return qep_borrow(b, u, SLOT_ZERO, &d, v->data, out);
    }
    void *data;
    const qd_status status = qep_make(b, u, SLOT_ZERO, &d, &data, out);
    if (status || !data) return status;
    int32_t *to = data;
    for (int64_t n = 0; n < d.shape[0]; n++) {
        for (int64_t g = 0; g < p->groups; g++) {
            const int64_t bit = g * p->bits;
            const int byte = v ? ((const uint8_t *)v->data)[n * p->zero_bytes + bit / 8] : 0;
            to[n * p->groups + g] = v ? byte >> (bit % 8) & ((1 << p->bits) - 1) : (int32_t)1 << (p->bits - 1);
        }
    }
    return QD_OK;
}

/* B's rows are in the library's order, but end with a whole block. */
static qd_status load_b(qep_build *b, const qep_unit *u, const nbits *p, qd_tensor **out) {
    const qd_format f = p->bits == 2 ? QD_FORMAT_U2 : p->bits == 4 ? QD_FORMAT_U4 : QD_FORMAT_U8;
    const qd_tensor_desc d = qd_desc(f, p->N, p->K, 0, 0);
    const char *from = qep_of(b)->values[u->in[B].value].data;
    const size_t row = qd_format_row_bytes(f, p->K);
    if ((int64_t)row == p->row_bytes) return qep_borrow(b, u, SLOT_W, &d, from, out);
    void *data;
    const qd_status status = qep_make(b, u, SLOT_W, &d, &data, out);
    if (status || !data) return status;
    for (int64_t n = 0; n < p->N; n++)
        memcpy((char *)data + (size_t)n * row, from + n * p->row_bytes, row);
    return QD_OK;
}

qd_status qep_lower_nbits(qep_build *b, const qep_unit *u) {
    const nbits p = read_nbits(qep_node_of(b, u));
    sizes s = {.K = p.K, .N = p.N, .group = p.block};
    qd_tensor *in[7] = {0};
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, p.N, p.groups, 0, 0);
    qd_status status;
    QD_TRY(set_rows(b, u, &s));
    QD_TRY(load_b(b, u, &p, &in[0]));
    QD_TRY(qep_borrow(b, u, SLOT_SCALE, &d, qep_of(b)->values[u->in[B].scale].data, &in[1]));
    QD_TRY(load_zeros(b, u, &p, &in[3]));
    QD_TRY(finish(b, u, &s, in));
error:
    return status;
}

/* ---- Weights behind a DequantizeLinear ---------------------------------------------------------------------- */

static bool match_weight(qep_match *m, int node, qep_unit *u, int bias) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    if (!qep_operands(m, u, OPERANDS)) return false;
    u->in[A].value = qep_in(n, 0);
    u->in[BIAS].value = bias;
    u->y.value = n->out[0];
    if (!qep_look_behind_any(m, u, qep_in(n, 1), "b", &u->in[B])) return false;
    const qep_operand *w = &u->in[B];
    const qep_shape *s = &g->values[w->value].shape;
    if (!qep_constant(g, w->value) || u->varies) return qep_refuse(m, "b is no constant");
    if (!qep_types(m, w->value, "b", QEP_CODES8 | QEP_4BIT | QEP_2BIT) || !qep_types(m, u->in[A].value, "a", QEP_F32) ||
        !qep_types(m, w->scale, "the scale of b", QEP_F32) || !qep_types(m, u->y.value, "the result", QEP_F32))
        return false;
    if (!qep_rank(m, u->in[A].value, "a", 1, QEP_MAX_RANK) || !qep_rank(m, w->value, "b", 2, 2)) return false;
    const int k_axis = qep_attr_int(n, "transB", 0) ? 1 : 0, axis = qep_axis(w->axis, 2);
    const int64_t scales = qep_elements(g, w->scale);
    if (axis < 0) return qep_broken(m, "the axis of the scales of b is %lld", (long long)w->axis);
    if (w->block && axis != k_axis) return qep_refuse(m, "the blocks of b do not lie along its columns");
    const int64_t groups = w->block ? (s->dims[k_axis] + w->block - 1) / w->block : 1;
    if (w->block ? scales != groups * s->dims[!k_axis] : scales != 1 && (axis == k_axis || scales != s->dims[axis])) {
        return qep_refuse(m, "the scales of b are not those of its columns");
    }
    if (w->zero >= 0 && qep_elements(g, w->zero) != scales)
        return qep_broken(m, "b has %lld scales, but not as many zero points", (long long)scales);
    if (qep_attr_int(n, "transA", 0)) return qep_refuse(m, "a is transposed");
    if (qep_attr_float(n, "alpha", 1) != 1 || qep_attr_float(n, "beta", 1) != 1) {
        return qep_refuse(m, "alpha or beta is not 1");
    }
    return check_bias(m, u, s->dims[!k_axis]);
}

bool qep_match_weight_matmul(qep_match *m, int node, qep_unit *u) {
    return match_weight(m, node, u, -1);
}

bool qep_match_weight_gemm(qep_match *m, int node, qep_unit *u) {
    return match_weight(m, node, u, qep_in(&m->g->nodes[node], 2));
}

/* Codes of b to rows of K. */
static void set_codes(const qep_value *v, const sizes *s, bool k_first, qd_format f, uint8_t *to) {
    const int bits = 8 / qd_format_get(f)->block;
    const size_t row = qd_format_row_bytes(f, s->K);
    for (int64_t n = 0; n < s->N; n++) {
        for (int64_t k = 0; k < s->K; k++) {
            const int code = (int)qep_number(v->type, v->data, k_first ? k * s->N + n : n * s->K + k);
            to[(size_t)n * row + (size_t)(k * bits / 8)] |= (uint8_t)((code & ((1 << bits) - 1)) << (k * bits % 8));
        }
    }
}

/* Scales or zero points as [N, G], or [1, 1] where there is one. */
static qd_status load_parameter(qep_build *b, const qep_unit *u, int slot, int value, const sizes *s, bool k_first,
                                qd_format f, qd_tensor **out) {
    const qep_value *v = &qep_of(b)->values[value];
    const bool one = qep_count(&v->shape) == 1;
    const qd_tensor_desc d = qd_desc(f, one ? 1 : s->N, one ? 1 : s->G, 0, 0);
    void *data;
    const qd_status status = qep_make(b, u, slot, &d, &data, out);
    if (status || !data) return status;
    for (int64_t n = 0; n < d.shape[0]; n++) {
        for (int64_t g = 0; g < d.shape[1]; g++) {
            const double x = qep_number(v->type, v->data, k_first ? g * s->N + n : n * s->G + g);
            if (f == QD_FORMAT_F32) {
                ((float *)data)[n * d.shape[1] + g] = (float)x;
            } else {
                ((int32_t *)data)[n * d.shape[1] + g] = (int32_t)x;
            }
        }
    }
    return QD_OK;
}

qd_status qep_lower_weight(qep_build *b, const qep_unit *u) {
    const qep_operand *w = &u->in[B];
    const qep_value *v = &qep_of(b)->values[w->value];
    const bool k_first = !qep_attr_int(qep_node_of(b, u), "transB", 0);
    sizes s = {.K = v->shape.dims[k_first ? 0 : 1], .N = v->shape.dims[k_first ? 1 : 0]};
    s.group = w->block ? w->block : s.K;
    const qd_format f = qep_format(v->type);
    const qd_tensor_desc d = qd_desc(f, s.N, s.K, 0, 0);
    qd_tensor *in[7] = {0};
    void *data;
    qd_status status;
    QD_TRY(set_rows(b, u, &s));
    QD_TRY(qep_make(b, u, SLOT_W, &d, &data, &in[0]));
    if (data) set_codes(v, &s, k_first, f, data);
    /* One scale for all is one for each row, too, but not for each of several groups. */
    QD_TRY(load_parameter(b, u, SLOT_SCALE, w->scale, &s, k_first, QD_FORMAT_F32, &in[1]));
    if (w->zero >= 0) QD_TRY(load_parameter(b, u, SLOT_ZERO, w->zero, &s, k_first, QD_FORMAT_I32, &in[3]));
    QD_TRY(finish(b, u, &s, in));
error:
    return status;
}
