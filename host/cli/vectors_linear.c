/* QuantizeLinear and its like: ONNX and PyTorch. */
#include <string.h>

#include "cli/vectors_run.h"

/* A tensor whose scales belong to one axis, in at most QD_MAX_RANK dimensions. */
typedef struct layout {
    qd_tensor_desc x; /* of format F32 */
    int axis;
    int64_t block;             /* 0: not blocked */
    qd_tensor_desc scale;      /* format F32; one element: for all */
    const qd_vec_tensor *zero; /* or NULL */
    const float *scales;
} layout;

static int64_t span(const qd_vec_tensor *t, int from, int to) {
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= t->shape[i];
    return n;
}

/* t as [outer, axis, inner]. */
static qd_tensor_desc around(const qd_vec_tensor *t, int axis) {
    const int64_t shape[] = {span(t, 0, axis), t->shape[axis], span(t, axis + 1, t->rank)};
    return qd_vec_shape(QD_FORMAT_F32, 3, shape);
}

/* Shapes of a tensor and of its scales. More dimensions than the library has are joined around the axis. */
static qd_status find_layout(qd_vec_run *r, const qd_vec_tensor *x, const qd_vec_tensor *scale, int64_t axis,
                             int64_t block, layout *l) {
    const bool single = scale->rank == 0 || (scale->count == 1 && block == 0);
    l->x = qd_vec_desc(QD_FORMAT_F32, x);
    l->axis = 0;
    l->block = 0;
    if (single) {
        if (x->rank > QD_MAX_RANK) l->x = qd_vec_shape(QD_FORMAT_F32, 1, &x->count);
        l->scale = qd_vec_shape(QD_FORMAT_F32, 1, &scale->count);
        return QD_OK;
    }
    if (axis < 0) axis += x->rank;
    if (axis < 0 || axis >= x->rank) return qd_vec_bad(r, "the axis is none of %.32s", x->name);
    l->axis = (int)axis;
    l->block = block;
    l->scale = qd_vec_desc(QD_FORMAT_F32, scale);
    if (x->rank > QD_MAX_RANK) {
        l->x = around(x, (int)axis);
        l->axis = 1;
        if (scale->rank == x->rank) l->scale = around(scale, (int)axis);
    }
    return QD_OK;
}

/* Scales and zero points of the case, and what `layout` says. */
static qd_status read_layout(qd_vec_run *r, const qd_vec_tensor *x, layout *l) {
    const qd_vec_tensor *scale;
    float *scales;
    int64_t axis, block;
    QD_VEC_TRY(qd_vec_need(r, "scale", &scale));
    QD_VEC_TRY(qd_vec_floats(r, scale, &scales));
    QD_VEC_TRY(qd_vec_attr(r, "axis", 1, -QD_VEC_MAX_RANK, QD_VEC_MAX_RANK, &axis));
    QD_VEC_TRY(qd_vec_attr(r, "block_size", 0, 0, INT32_MAX, &block));
    QD_VEC_TRY(find_layout(r, x, scale, axis, block, l));
    l->scales = scales;
    l->zero = qd_vec_input(r->c, "zero_point");
    return QD_OK;
}

/* The zero points as an operand; NULL when there are none. Those of small floats can only be 0, which is none. */
static qd_status load_zero(qd_vec_run *r, const layout *l, qd_format codes, qd_tensor **out) {
    int32_t *values;
    *out = NULL;
    if (!l->zero) return QD_OK;
    QD_VEC_TRY(qd_vec_ints(r, l->zero, &values));
    if (qd_format_get(codes)->kind == QD_KIND_FLOAT) {
        for (int64_t i = 0; i < l->zero->count; i++) {
            if (values[i]) return qd_vec_skip(r, "float_zero_point", "no zero points of small floats but 0");
        }
        return QD_OK;
    }
    qd_tensor_desc d = l->scale;
    d.format = QD_FORMAT_I32;
    int64_t n = 1;
    for (int i = 0; i < d.rank; i++)
        n *= d.shape[i];
    if (n != l->zero->count) return qd_vec_bad(r, "zero_point and scale differ in shape");
    return qd_vec_put(r, &d, values, true, out);
}

/* A tensor of floats as f16 or f32, whichever holds it. */
static qd_status load_floats(qd_vec_run *r, const qd_vec_tensor *t, qd_tensor_desc d, qd_tensor **out) {
    if (t->dtype == QD_VEC_F16) {
        d.format = QD_FORMAT_F16;
        return qd_vec_load(r, t, &d, false, out);
    }
    float *values;
    d.format = QD_FORMAT_F32;
    QD_VEC_TRY(qd_vec_floats(r, t, &values));
    return qd_vec_put(r, &d, values, false, out);
}

/* ---- ONNX --------------------------------------------------------------------------------------------------- */

qd_status qd_vec_quantize_linear(qd_vec_run *r) {
    const qd_vec_tensor *x, *y;
    qd_format format = QD_FORMAT_U8;
    layout l;
    int64_t saturate;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(read_layout(r, x, &l));
    if (y) {
        QD_VEC_TRY(qd_vec_format(r, y, &format));
    } else if (l.zero) {
        QD_VEC_TRY(qd_vec_format(r, l.zero, &format));
    }
    QD_VEC_TRY(qd_vec_attr(r, "saturate", 1, 0, 1, &saturate));
    qd_tensor *in[3], *out;
    qd_tensor_desc d = l.x;
    d.format = format;
    QD_VEC_TRY(load_floats(r, x, l.x, &in[0]));
    QD_VEC_TRY(qd_vec_put(r, &l.scale, l.scales, true, &in[1]));
    QD_VEC_TRY(load_zero(r, &l, format, &in[2]));
    QD_VEC_TRY(qd_vec_make(r, &d, &out));
    const qd_attrs attrs = {.quantize_linear = {.axis = l.axis, .block = l.block, .overflow = !saturate}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_QUANTIZE_LINEAR, &attrs, in, 3, &out, 1));
    return qd_vec_check(r, y, out);
}

/* codes · scale to floats, compared with output y. */
static qd_status dequantize(qd_vec_run *r, const layout *l, qd_tensor *codes, const qd_vec_tensor *y) {
    qd_tensor *in[3] = {codes}, *out;
    qd_tensor_desc d = l->x;
    /* A result of bf16 is rounded from f32 here. */
    d.format = y && y->dtype == QD_VEC_F16 ? QD_FORMAT_F16 : QD_FORMAT_F32;
    QD_VEC_TRY(qd_vec_put(r, &l->scale, l->scales, true, &in[1]));
    QD_VEC_TRY(load_zero(r, l, qd_tensor_describe(codes)->format, &in[2]));
    QD_VEC_TRY(qd_vec_make(r, &d, &out));
    const qd_attrs attrs = {.quantize_linear = {.axis = l->axis, .block = l->block}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_DEQUANTIZE_LINEAR, &attrs, in, 3, &out, 1));
    return qd_vec_check(r, y, out);
}

qd_status qd_vec_dequantize_linear(qd_vec_run *r) {
    const qd_vec_tensor *q, *y;
    qd_tensor *codes;
    layout l;
    QD_VEC_TRY(qd_vec_need(r, "q", &q));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(read_layout(r, q, &l));
    qd_tensor_desc d = l.x;
    QD_VEC_TRY(qd_vec_format(r, q, &d.format));
    QD_VEC_TRY(qd_vec_load(r, q, &d, false, &codes));
    return dequantize(r, &l, codes, y);
}

qd_status qd_vec_dynamic_quantize(qd_vec_run *r) {
    static const int64_t one[] = {1};
    const qd_vec_tensor *x, *y, *scale, *zero;
    qd_tensor *in, *out[3];
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_want(r, "y_scale", &scale));
    QD_VEC_TRY(qd_vec_want(r, "y_zero_point", &zero));
    const int64_t cols = x->rank > 1 ? x->shape[x->rank - 1] : x->count, shape[] = {x->count / cols, cols};
    const qd_tensor_desc d = qd_vec_shape(QD_FORMAT_U8, 2, shape), scale_desc = qd_vec_shape(QD_FORMAT_F32, 1, one),
                         zero_desc = qd_vec_shape(QD_FORMAT_I32, 1, one);
    float *values;
    qd_tensor_desc x_desc = d;
    x_desc.format = QD_FORMAT_F32;
    QD_VEC_TRY(qd_vec_floats(r, x, &values));
    QD_VEC_TRY(qd_vec_put(r, &x_desc, values, false, &in));
    QD_VEC_TRY(qd_vec_make(r, &d, &out[0]));
    QD_VEC_TRY(qd_vec_make(r, &scale_desc, &out[1]));
    QD_VEC_TRY(qd_vec_make(r, &zero_desc, &out[2]));
    const qd_attrs attrs = {.dynamic_quantize = {.symmetric = false}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_DYNAMIC_QUANTIZE, &attrs, &in, 1, out, 3));
    QD_VEC_TRY(qd_vec_check(r, y, out[0]));
    QD_VEC_TRY(qd_vec_check(r, scale, out[1]));
    return qd_vec_check(r, zero, out[2]);
}

/* ---- PyTorch ------------------------------------------------------------------------------------------------ */

/* The layout of quantize_per_tensor, _channel (scales along `axis`), _channel_group (runs of the last dimension), and
 * _token (a scale for each row). An error case may lack the scales: each whole group gets 1, as a caller would. */
static qd_status torch_layout(qd_vec_run *r, const qd_vec_tensor *x, layout *l) {
    const bool group = strcmp(r->c->op, "quantize_per_channel_group") == 0;
    const bool token = strcmp(r->c->op, "quantize_per_token") == 0;
    const qd_vec_tensor *scale = qd_vec_input(r->c, "scale");
    int64_t axis = 0, block = 0;
    float *scales;
    if (group) {
        QD_VEC_TRY(qd_vec_attr_needed(r, "group_size", 1, INT32_MAX, &block));
        axis = x->rank - 1;
    } else {
        QD_VEC_TRY(qd_vec_attr(r, "axis", 0, -QD_VEC_MAX_RANK, QD_VEC_MAX_RANK, &axis));
    }
    if (!scale && r->c->must_fail && group && x->rank > 1) {
        qd_vec_tensor whole = *x;
        whole.shape[axis] = x->shape[axis] / block;
        whole.count = whole.shape[axis] ? span(&whole, 0, whole.rank) : 0;
        QD_VEC_TRY(qd_vec_alloc(r, whole.count, sizeof *scales, &scales));
        for (int64_t i = 0; i < whole.count; i++)
            scales[i] = 1;
        QD_VEC_TRY(find_layout(r, x, &whole, axis, block, l));
    } else {
        QD_VEC_TRY(qd_vec_need(r, "scale", &scale));
        QD_VEC_TRY(qd_vec_floats(r, scale, &scales));
        if (token) {
            const int64_t cols = x->rank ? x->shape[x->rank - 1] : 1, shape[] = {x->count / cols, cols};
            if (scale->count != shape[0]) return qd_vec_bad(r, "scale needs one element for each row of x");
            l->x = qd_vec_shape(QD_FORMAT_F32, 2, shape);
            l->scale = qd_vec_shape(QD_FORMAT_F32, 1, shape);
            l->axis = 0;
            l->block = 0;
        } else {
            QD_VEC_TRY(find_layout(r, x, scale, axis, block, l));
        }
    }
    l->scales = scales;
    l->zero = qd_vec_input(r->c, "zero_point");
    return QD_OK;
}

qd_status qd_vec_torch_quantize(qd_vec_run *r) {
    const qd_vec_tensor *x, *q, *y = qd_vec_output(r->c, "y");
    qd_tensor *in[3], *codes;
    qd_format format = QD_FORMAT_I8;
    int64_t min, max;
    layout l;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, "q", &q));
    QD_VEC_TRY(qd_vec_attr(r, "qmin", 0, INT32_MIN, INT32_MAX, &min));
    QD_VEC_TRY(qd_vec_attr(r, "qmax", 0, INT32_MIN, INT32_MAX, &max));
    if (q) QD_VEC_TRY(qd_vec_format(r, q, &format));
    QD_VEC_TRY(torch_layout(r, x, &l));
    qd_tensor_desc d = l.x;
    d.format = format;
    QD_VEC_TRY(load_floats(r, x, l.x, &in[0]));
    QD_VEC_TRY(qd_vec_put(r, &l.scale, l.scales, true, &in[1]));
    QD_VEC_TRY(load_zero(r, &l, format, &in[2]));
    QD_VEC_TRY(qd_vec_make(r, &d, &codes));
    const bool decomposed = strcmp(qd_vec_attr_text(r, "source", ""), "decomposed") == 0;
    const qd_attrs attrs = {.quantize_linear = {.axis = l.axis,
                                                .block = l.block,
                                                .reciprocal = true,
                                                .zero_first = decomposed,
                                                .min = (int32_t)min,
                                                .max = (int32_t)max}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_QUANTIZE_LINEAR, &attrs, in, 3, &codes, 1));
    QD_VEC_TRY(qd_vec_check(r, q, codes));
    /* Where a neighbouring code was allowed, y is that of the published one. */
    if (y && r->relaxed) QD_VEC_TRY(qd_vec_load(r, q, &d, false, &codes));
    return y ? dequantize(r, &l, codes, y) : QD_OK;
}
