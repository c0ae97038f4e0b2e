/* Operators on single elements and their neighbours: sums and products, functions, concatenation, softmax, norms,
 * requantization. */
#include <stdio.h>
#include <string.h>

#include "cli/vectors_run.h"

/* ---- Sums and products -------------------------------------------------------------------------------------- */

/* Element of t that goes with element i of y, as NumPy broadcasts. */
static int64_t broadcast_index(const qd_vec_tensor *t, const qd_vec_tensor *y, int64_t i) {
    int64_t index = 0, step = 1;
    for (int d = y->rank - 1, at = t->rank - 1; at >= 0; d--, at--) {
        if (t->shape[at] != 1) {
            index += i % y->shape[d] * step;
            step *= t->shape[at];
        }
        i /= y->shape[d];
    }
    return index;
}

static bool broadcasts(const qd_vec_tensor *t, const qd_vec_tensor *y) {
    for (int d = y->rank - 1, at = t->rank - 1; at >= 0; d--, at--) {
        if (d < 0 || (t->shape[at] != 1 && t->shape[at] != y->shape[d])) return false;
    }
    return true;
}

/* An operand; where there are more dimensions than the library has, with each element written out. */
static qd_status load_operand(qd_vec_run *r, const qd_vec_tensor *t, const qd_vec_tensor *y, qd_tensor **out) {
    qd_format f;
    QD_VEC_TRY(qd_vec_format(r, t, &f));
    if (!y || (y->rank <= QD_MAX_RANK && t->rank <= QD_MAX_RANK)) {
        const qd_tensor_desc d = qd_vec_desc(f, t);
        return qd_vec_load(r, t, &d, false, out);
    }
    if (qd_vec_dtype_bytes(t->dtype) != 1)
        return qd_vec_skip(r, "types", "no sums of %s yet", qd_vec_dtype_name(t->dtype));
    if (!broadcasts(t, y)) return qd_vec_bad(r, "%.32s does not fit the shape of y", t->name);
    char *all;
    QD_VEC_TRY(qd_vec_alloc(r, y->count, 1, &all));
    for (int64_t i = 0; i < y->count; i++)
        all[i] = ((const char *)t->data)[broadcast_index(t, y, i)];
    const qd_tensor_desc d = qd_vec_shape(f, 1, &y->count);
    return qd_vec_put(r, &d, all, false, out);
}

/* QLinearAdd and QLinearMul of ONNX Runtime, ADD and MUL of TensorFlow Lite. */
qd_status qd_vec_binary(qd_vec_run *r) {
    const bool onnx = strncmp(r->c->op, "QLinear", 7) == 0;
    const bool multiplies = strcmp(r->c->op, onnx ? "QLinearMul" : "MUL") == 0;
    const qd_vec_tensor *a, *b, *y;
    qd_attrs attrs = {.binary = {.rounding = onnx ? QD_ROUND_FLOAT : QD_ROUND_GEMMLOWP}};
    qd_format y_format = QD_FORMAT_I8;
    qd_tensor *in[2], *out;
    QD_VEC_TRY(qd_vec_need(r, "a", &a));
    QD_VEC_TRY(qd_vec_need(r, "b", &b));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_quant(r, "a", &attrs.binary.a));
    QD_VEC_TRY(qd_vec_quant(r, "b", &attrs.binary.b));
    QD_VEC_TRY(qd_vec_quant(r, "y", &attrs.binary.y));
    QD_VEC_TRY(load_operand(r, a, y, &in[0]));
    QD_VEC_TRY(load_operand(r, b, y, &in[1]));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    qd_tensor_desc d = qd_vec_desc(y_format, y ? y : a);
    if (y && (y->rank > QD_MAX_RANK || a->rank > QD_MAX_RANK || b->rank > QD_MAX_RANK)) {
        d = qd_vec_shape(y_format, 1, &y->count);
    }
    QD_VEC_TRY(qd_vec_make(r, &d, &out));
    QD_VEC_TRY(qd_vec_op(r, multiplies ? QD_OP_MUL_INT : QD_OP_ADD_INT, &attrs, in, 2, &out, 1));
    return qd_vec_check(r, y, out);
}

/* ---- Functions by table ------------------------------------------------------------------------------------- */

/* y = function(x), for tensors of one shape. */
static qd_status apply(qd_vec_run *r, qd_function f, double alpha, qd_tensor *x, qd_quant x_quant, qd_format y_format,
                       qd_quant y_quant, qd_tensor **out) {
    static const int64_t size = 256;
    qd_tensor_desc d = *qd_tensor_describe(x);
    const qd_tensor_desc table_desc = qd_vec_shape(y_format, 1, &size);
    qd_tensor *in[2] = {x};
    void *table;
    QD_VEC_TRY(qd_vec_alloc(r, size, 1, &table));
    QD_VEC_TRY(qd_vec_library(r, qd_table_fill(f, alpha, d.format, x_quant, y_format, y_quant, table)));
    QD_VEC_TRY(qd_vec_put(r, &table_desc, table, true, &in[1]));
    d.format = y_format;
    QD_VEC_TRY(qd_vec_make(r, &d, out));
    return qd_vec_op(r, QD_OP_TABLE, NULL, in, 2, out, 1);
}

/* The shape of t, or all of it in one dimension where it has too many. */
static qd_tensor_desc flat(qd_format f, const qd_vec_tensor *t) {
    return t->rank > QD_MAX_RANK ? qd_vec_shape(f, 1, &t->count) : qd_vec_desc(f, t);
}

/* QLinearSigmoid and QLinearLeakyRelu. */
qd_status qd_vec_function(qd_vec_run *r) {
    const bool leaky = strcmp(r->c->op, "QLinearLeakyRelu") == 0;
    const cJSON *alpha = cJSON_GetObjectItemCaseSensitive(r->c->attrs, "alpha");
    const qd_vec_tensor *x, *y;
    qd_format x_format, y_format = QD_FORMAT_U8;
    qd_quant x_quant, y_quant;
    qd_tensor *in, *out;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    if (alpha && !cJSON_IsNumber(alpha)) return qd_vec_bad(r, "the attribute alpha is no number");
    QD_VEC_TRY(qd_vec_format(r, x, &x_format));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    QD_VEC_TRY(qd_vec_quant(r, "x", &x_quant));
    QD_VEC_TRY(qd_vec_quant(r, "y", &y_quant));
    const qd_tensor_desc d = flat(x_format, x);
    QD_VEC_TRY(qd_vec_load(r, x, &d, false, &in));
    /* The attribute is a float32 in ONNX. */
    const double slope = alpha ? (double)(float)alpha->valuedouble : (double)0.01f;
    QD_VEC_TRY(apply(r, leaky ? QD_FUNCTION_LEAKY_RELU : QD_FUNCTION_SIGMOID, leaky ? slope : 0, in, x_quant, y_format,
                     y_quant, &out));
    return qd_vec_check(r, y, out);
}

/* ---- QLinearConcat ------------------------------------------------------------------------------------------ */

enum { MAX_PARTS = 64 };

/* Joins tensors that differ in size along the axis, as many at a time as the operator takes. */
static qd_status join(qd_vec_run *r, qd_tensor *parts[], int count, int axis, qd_tensor **out) {
    while (count > 1) {
        const int n = count < QD_MAX_IN ? count : QD_MAX_IN;
        qd_tensor_desc d = *qd_tensor_describe(parts[0]);
        for (int i = 1; i < n; i++)
            d.shape[axis] += qd_tensor_describe(parts[i])->shape[axis];
        qd_tensor *joined;
        const qd_attrs attrs = {.concat = {.axis = axis}};
        QD_VEC_TRY(qd_vec_make(r, &d, &joined));
        QD_VEC_TRY(qd_vec_op(r, QD_OP_CONCAT, &attrs, parts, n, &joined, 1));
        parts[0] = joined;
        count -= n - 1;
        memmove(parts + 1, parts + n, (size_t)(count - 1) * sizeof *parts);
    }
    *out = parts[0];
    return QD_OK;
}

/* Part i, rescaled to what y's codes mean, as [outer, axis, inner] where it has too many dimensions. */
static qd_status load_part(qd_vec_run *r, const qd_vec_tensor *x, const char *name, int axis, qd_format y_format,
                           qd_quant y_quant, qd_tensor **out) {
    qd_format format;
    qd_quant quant;
    qd_tensor *codes;
    QD_VEC_TRY(qd_vec_format(r, x, &format));
    QD_VEC_TRY(qd_vec_quant(r, name, &quant));
    qd_tensor_desc d = qd_vec_desc(format, x);
    if (x->rank > QD_MAX_RANK) {
        int64_t shape[3] = {1, x->shape[axis], 1};
        for (int i = 0; i < x->rank; i++) {
            if (i != axis) shape[i < axis ? 0 : 2] *= x->shape[i];
        }
        d = qd_vec_shape(format, 3, shape);
    }
    QD_VEC_TRY(qd_vec_load(r, x, &d, false, &codes));
    return apply(r, QD_FUNCTION_IDENTITY, 0, codes, quant, y_format, y_quant, out);
}

qd_status qd_vec_qlinear_concat(qd_vec_run *r) {
    const qd_vec_tensor *y, *x;
    qd_tensor *parts[MAX_PARTS], *out;
    qd_format y_format = QD_FORMAT_U8;
    qd_quant y_quant;
    int64_t axis;
    int count = 0, rank = 0;
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_quant(r, "y", &y_quant));
    QD_VEC_TRY(qd_vec_attr_needed(r, "axis", -QD_VEC_MAX_RANK, QD_VEC_MAX_RANK - 1, &axis));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    for (;; count++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", count);
        x = qd_vec_input(r->c, name);
        if (!x) break;
        if (count == MAX_PARTS) return qd_vec_bad(r, "more than %d parts", MAX_PARTS);
        if (count == 0) {
            rank = x->rank;
            if (axis < 0) axis += rank;
        }
        if (x->rank != rank || axis < 0 || axis >= rank)
            return qd_vec_bad(r, "%s has not the shape to be joined", name);
        QD_VEC_TRY(load_part(r, x, name, (int)axis, y_format, y_quant, &parts[count]));
    }
    if (!count) return qd_vec_bad(r, "the manifest lacks the input x0");
    QD_VEC_TRY(join(r, parts, count, rank > QD_MAX_RANK ? 1 : (int)axis, &out));
    return qd_vec_check(r, y, out);
}

/* ---- QLinearSoftmax ----------------------------------------------------------------------------------------- */

/* Bytes of [outer, axis, inner] to [outer, inner, axis], or back. */
static void swap_axes(const char *from, char *to, const int64_t size[3], bool back) {
    for (int64_t o = 0; o < size[0]; o++) {
        for (int64_t a = 0; a < size[1]; a++) {
            for (int64_t i = 0; i < size[2]; i++) {
                const int64_t here = (o * size[1] + a) * size[2] + i, there = (o * size[2] + i) * size[1] + a;
                to[back ? here : there] = from[back ? there : here];
            }
        }
    }
}

/* Before version 13 of the operators, all dimensions from the axis on are one. */
qd_status qd_vec_qlinear_softmax(qd_vec_run *r) {
    const qd_vec_tensor *x, *y;
    int64_t axis, opset, size[3] = {1, 1, 1};
    qd_format x_format, y_format = QD_FORMAT_U8;
    qd_quant x_quant, y_quant;
    qd_tensor *in, *out;
    char *turned;
    void *values;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_attr(r, "opset", 13, 1, INT32_MAX, &opset));
    QD_VEC_TRY(qd_vec_attr(r, "axis", opset < 13 ? 1 : -1, -QD_VEC_MAX_RANK, QD_VEC_MAX_RANK, &axis));
    QD_VEC_TRY(qd_vec_format(r, x, &x_format));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    QD_VEC_TRY(qd_vec_quant(r, "x", &x_quant));
    QD_VEC_TRY(qd_vec_quant(r, "y", &y_quant));
    if (qd_vec_dtype_bytes(x->dtype) != 1)
        return qd_vec_skip(r, "types", "no softmax of %s", qd_vec_dtype_name(x->dtype));
    if (axis < 0) axis += x->rank;
    if (axis < 0 || axis >= (x->rank ? x->rank : 1)) return qd_vec_bad(r, "the axis is none of x");
    for (int i = 0; i < x->rank; i++)
        size[i < axis ? 0 : i == axis || opset < 13 ? 1 : 2] *= x->shape[i];
    QD_VEC_TRY(qd_vec_alloc(r, x->count, 1, &turned));
    swap_axes(x->data, turned, size, false);
    const qd_tensor_desc x_desc = qd_vec_shape(x_format, 3, (const int64_t[]){size[0], size[2], size[1]});
    qd_tensor_desc y_desc = x_desc;
    y_desc.format = y_format;
    QD_VEC_TRY(qd_vec_put(r, &x_desc, turned, false, &in));
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &out));
    const qd_attrs attrs = {.softmax_int = {.x_scale = x_quant.scale, .y = y_quant}};
    /* The operator reads x's scale only: softmax does not see a zero point. */
    QD_VEC_TRY(qd_vec_op(r, QD_OP_SOFTMAX_INT, &attrs, &in, 1, &out, 1));
    if (!y) return QD_OK;
    if (qd_vec_dtype_bytes(y->dtype) != 1 || y->count != x->count) return qd_vec_bad(r, "x and y differ in shape");
    QD_VEC_TRY(qd_vec_values(r, out, y->dtype, &values));
    swap_axes(values, turned, size, true);
    return qd_vec_judge(r, y, turned, y->bytes);
}

/* ---- LayerNormalization ------------------------------------------------------------------------------------- */

/* All dimensions from the axis on are one. */
qd_status qd_vec_layer_norm(qd_vec_run *r) {
    const cJSON *epsilon = cJSON_GetObjectItemCaseSensitive(r->c->attrs, "epsilon");
    const qd_vec_tensor *x, *weight, *bias = qd_vec_input(r->c, "bias"), *y;
    int64_t axis, size[2] = {1, 1};
    qd_tensor *in[3] = {NULL}, *out;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_need(r, "scale", &weight));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_attr(r, "axis", -1, -QD_VEC_MAX_RANK, QD_VEC_MAX_RANK, &axis));
    if (epsilon && !cJSON_IsNumber(epsilon)) return qd_vec_bad(r, "the attribute epsilon is no number");
    if (axis < 0) axis += x->rank;
    if (axis < 0 || axis >= x->rank) return qd_vec_bad(r, "the axis is none of x");
    for (int i = 0; i < x->rank; i++)
        size[i >= axis] *= x->shape[i];
    const qd_tensor_desc rows = qd_vec_shape(QD_FORMAT_F32, 2, size), line = qd_vec_shape(QD_FORMAT_F32, 1, size + 1);
    QD_VEC_TRY(qd_vec_load(r, x, &rows, false, &in[0]));
    QD_VEC_TRY(qd_vec_load(r, weight, &line, true, &in[1]));
    if (bias) QD_VEC_TRY(qd_vec_load(r, bias, &line, true, &in[2]));
    QD_VEC_TRY(qd_vec_make(r, &rows, &out));
    /* The attribute is a float32 in ONNX. */
    const qd_attrs attrs = {.layer_norm = {epsilon ? (float)epsilon->valuedouble : 1e-5f}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_LAYER_NORM, &attrs, in, 3, &out, 1));
    return qd_vec_check(r, y, out);
}

/* ---- Requantization ----------------------------------------------------------------------------------------- */

static qd_status requantize(qd_vec_run *r, qd_tensor *table, int32_t x_zero, int32_t y_zero) {
    const qd_vec_tensor *x, *y;
    qd_tensor *in[2] = {NULL, table}, *out;
    qd_format x_format, y_format = QD_FORMAT_I8;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_format(r, x, &x_format));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    const qd_tensor_desc d = flat(x_format, x);
    qd_tensor_desc y_desc = d;
    y_desc.format = y_format;
    QD_VEC_TRY(qd_vec_load(r, x, &d, false, &in[0]));
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &out));
    const qd_attrs attrs = {
        .requantize = {.x_zero = x_zero, .y = {.rounding = QD_ROUND_GEMMLOWP, .zero_point = y_zero}}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_REQUANTIZE, &attrs, in, 2, &out, 1));
    return qd_vec_check(r, y, out);
}

/* The attributes multiplier and shift. */
static qd_status read_multiplier(qd_vec_run *r, int32_t row[2]) {
    int64_t multiplier, shift;
    QD_VEC_TRY(qd_vec_attr_needed(r, "multiplier", 0, INT32_MAX, &multiplier));
    QD_VEC_TRY(qd_vec_attr_needed(r, "shift", -64, 64, &shift));
    row[0] = (int32_t)multiplier;
    row[1] = (int32_t)shift;
    return QD_OK;
}

/* TensorFlow Lite's QUANTIZE between integers. Where the manifest says how the ratio of the scales becomes a
 * multiplier, qd_requantize_table must give the same. */
qd_status qd_vec_requantize(qd_vec_run *r) {
    static const float one = 1;
    qd_quant x, y;
    int32_t *row, stated[2];
    qd_tensor *table;
    QD_VEC_TRY(qd_vec_quant(r, "x", &x));
    QD_VEC_TRY(qd_vec_quant(r, "y", &y));
    QD_VEC_TRY(qd_vec_alloc(r, 2, sizeof *row, &row));
    QD_VEC_TRY(qd_vec_library(r, qd_requantize_table(QD_ROUND_GEMMLOWP, x.scale, &one, 1, y.scale, row)));
    if (cJSON_HasObjectItem(r->c->attrs, "multiplier")) {
        QD_VEC_TRY(read_multiplier(r, stated));
        if (row[0] != stated[0] || row[1] != stated[1]) {
            return qd_vec_bad(r, "qd_requantize_table: %d · 2^%d, not %d · 2^%d", row[0], row[1], stated[0], stated[1]);
        }
    }
    QD_VEC_TRY(qd_vec_put_requant(r, row, 1, &table));
    return requantize(r, table, x.zero_point, y.zero_point);
}

/* MultiplyByQuantizedMultiplier alone. */
qd_status qd_vec_multiply(qd_vec_run *r) {
    int32_t *row;
    qd_tensor *table;
    QD_VEC_TRY(qd_vec_alloc(r, 2, sizeof *row, &row));
    QD_VEC_TRY(read_multiplier(r, row));
    QD_VEC_TRY(qd_vec_put_requant(r, row, 1, &table));
    return requantize(r, table, 0, 0);
}
