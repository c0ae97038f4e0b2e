/* Between floats and codes: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear. */
#include <string.h>

#include "ops.h"

enum { SLOT_SCALE, SLOT_ZERO };

#define CODES (QEP_CODES8 | QEP_16BIT | QEP_4BIT | QEP_2BIT | QEP_SMALL)

/* ---- QuantizeLinear and DequantizeLinear -------------------------------------------------------------------- */

static bool is_packed(const qep_graph *g, int value) {
    const qd_format f = qep_format(g->values[value].type);
    return qd_format_get(f)->block > 1;
}

/* The scale may come with the run, but the codes' type and the shapes must be known. */
static bool match_linear(qep_match *m, int node, qep_unit *u, bool quantize) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    if (!qep_operands(m, u, 1)) return false;
    u->in[0] = (qep_operand){qep_in(n, 0), qep_in(n, 1), qep_in(n, 2), qep_attr_int(n, "axis", 1),
                             qep_attr_int(n, "block_size", 0)};
    u->y.value = n->out[0];
    const int x = u->in[0].value, scale = u->in[0].scale, y = u->y.value, codes = quantize ? y : x;
    if (!qep_types(m, x, "x", quantize ? QEP_F32 | QEP_F16 : CODES | QEP_I32) ||
        !qep_types(m, y, "y", quantize ? CODES : QEP_F32 | QEP_F16) ||
        !qep_types(m, scale, "the scale", QEP_F32 | QEP_F16))
        return false;
    if (qep_attr_int(n, "precision", 0)) return qep_refuse(m, "the attribute precision is set");
    /* Scales with their number of elements; wherever they come from, the count decides what the axis means. */
    const qep_operand o = {.value = codes, .scale = scale, .zero = u->in[0].zero};
    if (!qep_quantization(m, u, &o, quantize ? "y" : "x", -1)) return false;
    const int64_t scales = qep_elements(g, scale);
    if (o.zero >= 0 && qep_elements(g, o.zero) != scales)
        return qep_broken(m, "there are %lld scales, but not as many zero points", (long long)scales);
    if (scales == 1 && !u->in[0].block) return true;
    if (!qep_rank(m, x, "x", 1, QEP_MAX_RANK)) return false;
    const qep_shape *s = &g->values[x].shape;
    if (qep_axis(u->in[0].axis, s->rank) < 0) return qep_broken(m, "the axis is %d", (int)u->in[0].axis);
    if (is_packed(g, codes) && s->dims[s->rank - 1] < 0) {
        return qep_refuse(m, "codes of less than a byte, and a last dimension that is not known");
    }
    return true;
}

bool qep_match_quantize(qep_match *m, int node, qep_unit *u) {
    return match_linear(m, node, u, true);
}

bool qep_match_dequantize(qep_match *m, int node, qep_unit *u) {
    return match_linear(m, node, u, false);
}

/* How the library sees x and its scales: whole, or around the axis where there are too many dimensions. */
typedef struct layout {
    qep_shape x, scale;
    int axis;
    int64_t block;
} layout;

static void set_around(qep_shape *s, int axis) {
    int64_t dims[3];
    qep_around(s, axis, dims);
    *s = (qep_shape){.rank = 3, .dims = {dims[0], dims[1], dims[2]}};
}

static qd_status find_layout(qep_build *b, const qep_unit *u, layout *l) {
    const qep_operand *o = &u->in[0];
    *l = (layout){.x = *qep_shape_of(b, o->value), .scale = *qep_shape_of(b, o->scale), .block = o->block};
    const int64_t scales = qep_count(&l->scale);
    if (scales == 1 && (!o->block || qep_count(&l->x) == 1)) { /* one line: packed codes have no rows to end */
        l->x = (qep_shape){.rank = 1, .dims = {qep_count(&l->x)}};
        l->scale = (qep_shape){.rank = 1, .dims = {1}};
        l->block = 0;
        return QD_OK;
    }
    l->axis = qep_axis(o->axis, l->x.rank);
    if (l->axis < 0) return qep_fail(b, "the axis %lld is none of x", (long long)o->axis);
    if (!o->block) l->scale = (qep_shape){.rank = 1, .dims = {scales}};
    if (o->block && l->scale.rank != l->x.rank) return qep_fail(b, "the scales have not the rank of x");
    if (l->x.rank > QD_MAX_RANK) {
        if (o->block) set_around(&l->scale, l->axis);
        set_around(&l->x, l->axis);
        l->axis = 1;
    }
    const int64_t cols = l->x.dims[l->x.rank - 1];
    const qd_format codes =
        qep_format(qep_of(b)->values[u->op->lower == qep_lower_quantize ? u->y.value : o->value].type);
    if (cols % qd_format_get(codes)->block && qep_count(&l->x) != cols) {
        return qep_fail(b, "rows of %lld codes of less than a byte", (long long)cols);
    }
    return QD_OK;
}

/* Zero points of small floats can only be 0, which is none. */
static qd_status load_zero(qep_build *b, const qep_unit *u, const layout *l, qd_format codes, qd_tensor **out) {
    const int zero = u->in[0].zero;
    *out = NULL;
    if (zero < 0) return QD_OK;
    if (qd_format_get(codes)->kind != QD_KIND_FLOAT) {
        return qep_zero(b, u, SLOT_ZERO, zero, l->scale.rank, l->scale.dims, out);
    }
    for (int64_t i = 0; i < qep_count(qep_shape_of(b, zero)) && qep_bytes(b, zero); i++) {
        if (qep_number_of(b, zero, i, 0) != 0) return qep_fail(b, "a zero point of small floats that is not 0");
    }
    return QD_OK;
}

static qd_status load_scale(qep_build *b, const qep_unit *u, const layout *l, qd_tensor **out) {
    const qd_tensor_desc d = qep_desc(QD_FORMAT_F32, l->scale.rank, l->scale.dims);
    void *data;
    const qd_status status = qep_make(b, u, SLOT_SCALE, &d, &data, out);
    if (status || !data) return status;
    const float *values = qep_floats(b, u->in[0].scale);
    if (!values) return QD_ERR_MEMORY;
    memcpy(data, values, qd_desc_bytes(&d));
    return QD_OK;
}

static qd_status lower_linear(qep_build *b, const qep_unit *u, bool quantize) {
    const qep_shape shape = *qep_shape_of(b, u->in[0].value);
    const qep_node *n = qep_node_of(b, u);
    const qd_format y_format = qep_result_format(b, u), x_format = qep_format_of(b, u->in[0].value);
    qd_tensor *in[3] = {0}, *y;
    layout l;
    qd_status status;
    QD_TRY(find_layout(b, u, &l));
    const qd_attrs attrs = {
        .quantize_linear = {.axis = l.axis, .block = l.block, .overflow = quantize && !qep_attr_int(n, "saturate", 1)}};
    QD_TRY(qep_input(b, u->in[0].value, l.x.rank, l.x.dims, &in[0]));
    QD_TRY(load_scale(b, u, &l, &in[1]));
    QD_TRY(load_zero(b, u, &l, quantize ? y_format : x_format, &in[2]));
    QD_TRY(qep_output(b, u->y.value, &shape, y_format, l.x.rank, l.x.dims, &y));
    QD_TRY(qep_add(b, quantize ? QD_OP_QUANTIZE_LINEAR : QD_OP_DEQUANTIZE_LINEAR, &attrs, in, 3, y));
error:
    return status;
}

qd_status qep_lower_quantize(qep_build *b, const qep_unit *u) {
    return lower_linear(b, u, true);
}

qd_status qep_lower_dequantize(qep_build *b, const qep_unit *u) {
    return lower_linear(b, u, false);
}

/* ---- DynamicQuantizeLinear ---------------------------------------------------------------------------------- */

bool qep_match_dynamic(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1)) return false;
    u->in[0].value = qep_in(n, 0);
    u->y.value = n->out[0];
    for (int i = 1; i < n->n_out && i < QEP_UNIT_OUTPUTS; i++)
        u->more[i - 1] = n->out[i];
    if (n->n_out < QEP_UNIT_OUTPUTS) return qep_broken(m, "it has %d outputs", n->n_out);
    return qep_types(m, u->in[0].value, "x", QEP_F32) && qep_types(m, u->y.value, "y", QEP_U8);
}

/* A result that nobody reads may have no name. */
static qd_status output_or_not(qep_build *b, int value, const qep_shape *shape, qd_format f, int rank,
                               const int64_t *dims, qd_tensor **out) {
    if (value < 0) return qep_between(b, f, rank, dims, out);
    return qep_output(b, value, shape, f, rank, dims, out);
}

/* One number that does not depend on x; nothing when nobody reads it. */
static qd_status put_number(qep_build *b, const qep_unit *u, int slot, int value, qd_format f, const void *number) {
    static const qep_shape scalar = {0};
    static const int64_t one = 1;
    const qd_tensor_desc d = qep_desc(f, 1, &one);
    qd_tensor *from, *to;
    qd_status status;
    if (value < 0) return QD_OK;
    QD_TRY(qep_borrow(b, u, slot, &d, number, &from));
    QD_TRY(qep_output(b, value, &scalar, f, 1, &one, &to));
    QD_TRY(qep_add(b, QD_OP_COPY, NULL, &from, 1, to));
error:
    return status;
}

/* Of no elements, the range is 0 … 0, for which ONNX Runtime has the scale 1. */
static qd_status lower_nothing(qep_build *b, const qep_unit *u, const qep_shape *shape) {
    static const float scale = 1;
    static const int32_t zero = 0;
    static const int64_t none = 0;
    qd_tensor *y;
    qd_status status;
    QD_TRY(qep_output(b, u->y.value, shape, QD_FORMAT_U8, 1, &none, &y));
    QD_TRY(put_number(b, u, SLOT_SCALE, u->more[0], QD_FORMAT_F32, &scale));
    QD_TRY(put_number(b, u, SLOT_ZERO, u->more[1], QD_FORMAT_I32, &zero));
error:
    return status;
}

qd_status qep_lower_dynamic(qep_build *b, const qep_unit *u) {
    static const qep_shape scalar = {0};
    static const int64_t one = 1;
    const qep_shape shape = *qep_shape_of(b, u->in[0].value);
    const int64_t count = qep_count(&shape), cols = shape.rank ? shape.dims[shape.rank - 1] : 1;
    if (!count) return lower_nothing(b, u, &shape);
    const int64_t dims[] = {count / cols, cols};
    qd_tensor *x, *out[3];
    qd_status status;
    QD_TRY(qep_input(b, u->in[0].value, 2, dims, &x));
    QD_TRY(output_or_not(b, u->y.value, &shape, QD_FORMAT_U8, 2, dims, &out[0]));
    QD_TRY(output_or_not(b, u->more[0], &scalar, QD_FORMAT_F32, 1, &one, &out[1]));
    QD_TRY(output_or_not(b, u->more[1], &scalar, QD_FORMAT_I32, 1, &one, &out[2]));
    QD_TRY(qep_add3(b, QD_OP_DYNAMIC_QUANTIZE, &(qd_attrs){.dynamic_quantize = {.symmetric = false}}, &x, 1, out, 3));
error:
    return status;
}
