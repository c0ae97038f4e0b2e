/* What is computed element by element: ELEMENTWISE, y = function(a · scale + offset) combined with b. */
#include <string.h>

#include "emit.h"

static const char *refuse_types(const struct ggml_tensor *t) {
    const bool floats = t->type == GGML_TYPE_F32 && t->src[0]->type == GGML_TYPE_F32 &&
                        (!t->src[1] || t->src[1]->type == GGML_TYPE_F32);
    return floats ? NULL : "only f32";
}

static qd_attrs attrs_of(qd_unary function) {
    return (qd_attrs){.elementwise = {.function = function, .scale = 1}};
}

/* ---- Two inputs --------------------------------------------------------------------------------------------- */

static qd_status emit_two(qg_builder *b, const struct ggml_tensor *t, qd_combine combine) {
    qd_attrs attrs = attrs_of(QD_UNARY_IDENTITY);
    attrs.elementwise.combine = combine;
    qd_tensor *in[2], *y;
    qd_status status = qg_in(b, t->src[0], QG_VALUE, &in[0]);
    if (!status) status = qg_in(b, t->src[1], ggml_nrows(t->src[1]) == 1 ? QG_WEIGHTS : QG_VALUE, &in[1]);
    if (!status) status = qg_out(b, t, &y);
    return status ? status : qg_add(b, QD_OP_ELEMENTWISE, &attrs, in, 2, y);
}

#define TWO(name, COMBINE)                                                   \
    const char *qg_##name##_refuse(const struct ggml_tensor *t) {            \
        return refuse_types(t);                                              \
    }                                                                        \
    qd_status qg_##name##_emit(qg_builder *b, const struct ggml_tensor *t) { \
        return emit_two(b, t, QD_COMBINE_##COMBINE);                         \
    }
TWO(add, ADD)
TWO(sub, SUB)
TWO(mul, MUL)
TWO(div, DIV)

/* ---- One input ---------------------------------------------------------------------------------------------- */

static qd_status emit_one(qg_builder *b, const struct ggml_tensor *t, const qd_attrs *attrs) {
    qd_tensor *x, *y;
    qd_status status = qg_in(b, t->src[0], QG_VALUE, &x);
    if (!status) status = qg_out(b, t, &y);
    return status ? status : qg_add(b, QD_OP_ELEMENTWISE, attrs, &x, 1, y);
}

#define ONE(name, UNARY)                                                     \
    const char *qg_##name##_refuse(const struct ggml_tensor *t) {            \
        return refuse_types(t);                                              \
    }                                                                        \
    qd_status qg_##name##_emit(qg_builder *b, const struct ggml_tensor *t) { \
        const qd_attrs attrs = attrs_of(QD_UNARY_##UNARY);                   \
        return emit_one(b, t, &attrs);                                       \
    }
ONE(sqr, SQR)
ONE(sqrt, SQRT)

const char *qg_scale_refuse(const struct ggml_tensor *t) {
    return refuse_types(t);
}

qd_status qg_scale_emit(qg_builder *b, const struct ggml_tensor *t) {
    qd_attrs attrs = attrs_of(QD_UNARY_IDENTITY);
    memcpy(&attrs.elementwise.scale, t->op_params, sizeof(float));
    memcpy(&attrs.elementwise.offset, t->op_params + 1, sizeof(float));
    return emit_one(b, t, &attrs);
}

const char *qg_clamp_refuse(const struct ggml_tensor *t) {
    return refuse_types(t);
}

qd_status qg_clamp_emit(qg_builder *b, const struct ggml_tensor *t) {
    qd_attrs low = attrs_of(QD_UNARY_CLAMP_MIN), high = attrs_of(QD_UNARY_CLAMP_MAX);
    memcpy(&low.elementwise.alpha, t->op_params, sizeof(float));
    memcpy(&high.elementwise.alpha, t->op_params + 1, sizeof(float));
    qd_tensor *y;
    qd_status status = emit_one(b, t, &low);
    if (!status) status = qg_out(b, t, &y);
    return status ? status : qg_add(b, QD_OP_ELEMENTWISE, &high, &y, 1, y);
}

const char *qg_leaky_relu_refuse(const struct ggml_tensor *t) {
    return refuse_types(t);
}

qd_status qg_leaky_relu_emit(qg_builder *b, const struct ggml_tensor *t) {
    qd_attrs attrs = attrs_of(QD_UNARY_LEAKY_RELU);
    memcpy(&attrs.elementwise.alpha, t->op_params, sizeof(float));
    return emit_one(b, t, &attrs);
}

/* ---- Functions ---------------------------------------------------------------------------------------------- */

/* The library's function; false: it has none. */
static bool unary_of(enum ggml_unary_op op, qd_unary *out) {
    switch (op) {
#define CASE(GGML, OURS)        \
    case GGML_UNARY_OP_##GGML:  \
        *out = QD_UNARY_##OURS; \
        return true;
        CASE(ABS, ABS)
        CASE(SGN, SIGN)
        CASE(NEG, NEG)
        CASE(STEP, STEP)
        CASE(TANH, TANH)
        CASE(ELU, ELU)
        CASE(RELU, RELU)
        CASE(SIGMOID, SIGMOID)
        CASE(GELU, GELU)
        CASE(GELU_QUICK, GELU_QUICK)
        CASE(GELU_ERF, GELU_ERF)
        CASE(SILU, SILU)
        CASE(HARDSWISH, HARD_SWISH)
        CASE(HARDSIGMOID, HARD_SIGMOID)
        CASE(EXP, EXP)
        CASE(EXPM1, EXPM1)
        CASE(FLOOR, FLOOR)
        CASE(CEIL, CEIL)
#undef CASE
        default:
            return false;
    }
}

const char *qg_unary_refuse(const struct ggml_tensor *t) {
    qd_unary function = QD_UNARY_IDENTITY;
    return unary_of(ggml_get_unary_op(t), &function) ? refuse_types(t) : "a function that is not known";
}

qd_status qg_unary_emit(qg_builder *b, const struct ggml_tensor *t) {
    qd_unary function = QD_UNARY_IDENTITY;
    unary_of(ggml_get_unary_op(t), &function);
    qd_attrs attrs = attrs_of(function);
    attrs.elementwise.alpha = function == QD_UNARY_HARD_SIGMOID ? 1.0f / 6 : 1; /* others: ELU's */
    return emit_one(b, t, &attrs);
}

/* ---- GLU: function(gate) · up ------------------------------------------------------------------------------- */

static bool gate_of(enum ggml_glu_op op, qd_unary *out) {
    switch (op) {
        case GGML_GLU_OP_REGLU:
            *out = QD_UNARY_RELU;
            return true;
        case GGML_GLU_OP_GEGLU:
            *out = QD_UNARY_GELU;
            return true;
        case GGML_GLU_OP_SWIGLU:
            *out = QD_UNARY_SILU;
            return true;
        case GGML_GLU_OP_GEGLU_ERF:
            *out = QD_UNARY_GELU_ERF;
            return true;
        case GGML_GLU_OP_GEGLU_QUICK:
            *out = QD_UNARY_GELU_QUICK;
            return true;
        default:
            return false;
    }
}

const char *qg_glu_refuse(const struct ggml_tensor *t) {
    qd_unary function = QD_UNARY_IDENTITY;
    int64_t rows, step;
    if (!gate_of(ggml_get_glu_op(t), &function)) return "a gate that is not known";
    if (!qg_uniform_rows(t->src[0], &rows, &step) || (t->src[1] && !qg_uniform_rows(t->src[1], &rows, &step)) ||
        !qg_uniform_rows(t, &rows, &step)) {
        return "rows that are not at one distance";
    }
    return refuse_types(t);
}

/* Gate and up are two tensors, or the halves of each row of one. */
static qd_status read_gate_up(qg_builder *b, const struct ggml_tensor *t, qd_tensor *in[2]) {
    const bool halves = !t->src[1], swapped = t->op_params[1] != 0;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, ggml_nrows(t), t->ne[0], 0, 0);
    qd_status status = QD_OK;
    for (int i = 0; !status && i < 2; i++) {
        const struct ggml_tensor *from = halves ? t->src[0] : t->src[i];
        const bool second = halves && (i == 1) != swapped;
        int64_t rows, step;
        qg_uniform_rows(from, &rows, &step);
        in[i] = qg_columns(b, from);
        if (in[i]) continue;
        status = qg_part(b, from, second ? (size_t)t->ne[0] * sizeof(float) : 0, &d, (int64_t[]){step, sizeof(float)},
                         &in[i]);
    }
    return status;
}

qd_status qg_glu_emit(qg_builder *b, const struct ggml_tensor *t) {
    qd_unary function = QD_UNARY_IDENTITY;
    gate_of(ggml_get_glu_op(t), &function);
    qd_attrs attrs = attrs_of(function);
    attrs.elementwise.combine = QD_COMBINE_MUL;
    qd_tensor *in[2], *y = NULL;
    qd_status status = read_gate_up(b, t, in);
    if (!status && function == QD_UNARY_SILU) status = qg_direct(b, t, &y);
    if (!status && !y) status = qg_out_rows(b, t, &y);
    if (status) return status;
    return function == QD_UNARY_SILU ? qg_add(b, QD_OP_SWIGLU, NULL, in, 2, y)
                                     : qg_add(b, QD_OP_ELEMENTWISE, &attrs, in, 2, y);
}
