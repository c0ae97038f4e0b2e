/* Operators on floats whose operands may have any strides: copies and functions of elements. */
#include <math.h>
#include <string.h>

#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

/* ---- Loops -------------------------------------------------------------------------------------------------- */

enum { TENSORS = 3 }; /* y, and the inputs whose elements repeat */

/* Loops over the elements of t[0]; [k] is a dimension, the last one innermost. */
typedef struct loops {
    int64_t n[4]; /* of one row of the run */
    int rows_at;
    int count; /* tensors */
    int64_t modulo[TENSORS][4], step[TENSORS][4];
} loops;

/* Takes dimension `from` into dimension `to`, which is inside of it, where that goes on in all tensors. */
static bool merge(loops *l, int from, int to) {
    for (int i = 0; i < l->count; i++) {
        if (l->modulo[i][from] || l->modulo[i][to] || l->step[i][from] != l->step[i][to] * l->n[to]) return false;
    }
    l->n[to] *= l->n[from];
    l->n[from] = 1;
    if (l->rows_at == from) l->rows_at = to;
    return true;
}

static void move_dimension(loops *l, int from, int to) {
    l->n[to] = l->n[from];
    l->n[from] = 1;
    for (int i = 0; i < l->count; i++) {
        l->modulo[i][to] = l->modulo[i][from];
        l->step[i][to] = l->step[i][from];
    }
    if (l->rows_at == from) l->rows_at = to;
}

/* Merges what can be, and moves the rest to the end, so that the innermost loop is as long as possible. */
static void merge_dimensions(loops *l) {
    int to = 4; /* the outermost that is in use */
    for (int from = 3; from >= 0; from--) {
        if (l->n[from] == 1 && l->rows_at != from) continue;
        if (to < 4 && merge(l, from, to)) continue;
        if (--to != from) move_dimension(l, from, to);
    }
}

/* Refuses input i unless its sizes divide those of y. */
static qd_status find_repeats(const qd_node *n, const char *op, const char *name, const qd_tensor *x,
                              const qd_strides *s, const qd_strides *y, loops *l, int i) {
    if (x->desc.shape[0] == QD_ROWS && (n->out[0]->desc.shape[0] != QD_ROWS || x->desc.rank != n->out[0]->desc.rank))
        return qd_fail(QD_ERR_ARGUMENT, "%s: the rows of the run must be the first dimension of y, too", op);
    for (int k = 0; k < 4; k++) {
        const int64_t own = s->n[k], all = y->n[k];
        if (own != all && (!own || all % own)) {
            return qd_fail(QD_ERR_ARGUMENT, "%s: dimension %d of %s is %lld, which does not divide the %lld of y", op,
                           k - 4 + x->desc.rank, name, (long long)own, (long long)all);
        }
        l->modulo[i][k] = own == all || own == 1 ? 0 : own;
        l->step[i][k] = own == 1 ? 0 : s->step[k];
    }
    return QD_OK;
}

static void swap_dimensions(loops *l, int a, int b) {
    const loops was = *l;
    l->n[a] = was.n[b], l->n[b] = was.n[a];
    for (int i = 0; i < l->count; i++) {
        l->modulo[i][a] = was.modulo[i][b], l->modulo[i][b] = was.modulo[i][a];
        l->step[i][a] = was.step[i][b], l->step[i][b] = was.step[i][a];
    }
    l->rows_at = was.rows_at == a ? b : was.rows_at == b ? a : was.rows_at;
}

/* The last of the outer dimensions is the one along which the first input is nearest to dense: lines then follow each
 * other there. */
static void order_lines(loops *l) {
    int best = 2;
    for (int k = 1; k >= 0; k--) {
        const bool longer = l->n[k] > 1 || l->rows_at == k, none = l->n[best] == 1 && l->rows_at != best;
        if (longer && l->step[1][k] && (none || !l->step[1][best] || l->step[1][k] < l->step[1][best])) best = k;
    }
    if (best != 2) swap_dimensions(l, best, 2);
}

static void put_strides(const loops *l, int i, qd_strides *out) {
    for (int k = 0; k < 4; k++) {
        out->n[k] = (qd_i32)(i ? l->modulo[i][k] : l->n[k]);
        out->step[k] = l->step[i][k];
    }
}

/* Fills the loops over y, and over inputs that repeat (NULL where there are none). */
static qd_status set_loops(const qd_node *n, const char *op, const char *const names[], qd_strides *const inputs[],
                           int count, qd_strides *y, qd_i32 *rows_at) {
    const qd_tensor *out = n->out[0];
    const qd_tensor_desc d = qd_sized(n, out);
    loops l = {.rows_at = 4 - d.rank, .count = 1};
    qd_status status;
    for (int k = 0; k < d.rank; k++)
        QD_TRY(qd_count_check(op, d.shape[k]));
    double elements = 1; /* a product of integers might overflow */
    for (int k = 0; k < d.rank; k++)
        elements *= (double)d.shape[k];
    QD_TRY(qd_count_check(op, elements < (double)INT32_MAX ? (int64_t)elements : INT32_MAX));
    qd_strides_of(n, out, y);
    for (int i = 0; i < count; i++) {
        const qd_tensor *x = n->in[i];
        if (!x) continue;
        const qd_tensor_desc own = qd_sized(n, x);
        for (int k = 0; k < own.rank; k++)
            QD_TRY(qd_count_check(op, own.shape[k]));
        qd_strides_of(n, x, inputs[i]);
        QD_TRY(find_repeats(n, op, names[i], x, inputs[i], y, &l, l.count++));
    }
    for (int k = 0; k < 4; k++) {
        l.n[k] = k == l.rows_at ? 1 : y->n[k];
        l.step[0][k] = y->step[k];
    }
    merge_dimensions(&l);
    order_lines(&l);
    put_strides(&l, 0, y);
    for (int i = 0, at = 1; i < count; i++) {
        if (n->in[i]) put_strides(&l, at++, inputs[i]);
    }
    *rows_at = l.rows_at;
error:
    return status;
}

/* ---- Random shapes ------------------------------------------------------------------------------------------ */

/* A shape of y, and for each input one whose sizes divide those of y: all, one, or a part; the first ones may be left
 * out. Most of them are matrices that have room for tiles. */
static void choose_shapes(qd_choices *c, qd_problem *p, int inputs) {
    static const char *const sizes[] = {"d0", "d1", "d2", "d3"}, *const times[] = {"times0", "times1", "times2",
                                                                                   "times3"};
    static const char *const kinds[2][4] = {{"x0", "x1", "x2", "x3"}, {"b0", "b1", "b2", "b3"}};
    static const char *const lacks[] = {"x lacks", "b lacks"}, *const repeats[] = {"x repeats", "b repeats"};
    const int64_t more = qd_choose(c, "more dimensions", 0, 5);
    const bool matrix = qd_choose(c, "matrix", 0, 2) != 0;
    const int rank = matrix ? 2 : more < 3 ? 1 + (int)more : QD_MAX_RANK;
    const bool any_part = !matrix && qd_choose(c, "parts", 0, 1) != 0;
    qd_tensor_desc y = {0, rank, {0}};
    int64_t part[QD_MAX_RANK];
    for (int k = 0; k < rank; k++) {
        const bool last = k + 1 == rank;
        part[k] = matrix ? qd_choose(c, last ? "columns" : "lines", 1, 80)
                         : qd_choose_size(c, sizes[k], last ? 70 * c->size : 3 + c->size);
        y.shape[k] = part[k] * (any_part ? qd_choose(c, times[k], 1, 3) : 1);
    }
    for (int i = 0; i < inputs; i++) {
        const bool changes = qd_choose(c, repeats[i], 0, 2) > (matrix ? 1 : 0);
        const int lacking = changes ? (int)qd_choose(c, lacks[i], 0, 2 * rank) : 0;
        const int first = lacking < rank ? lacking : 0;
        qd_tensor_desc x = {0, rank - first, {0}};
        for (int k = first; k < rank; k++) {
            const int64_t kind = changes ? qd_choose(c, kinds[i][k], 0, 3) : 0;
            x.shape[k - first] = kind < 2 ? y.shape[k] : kind == 2 ? 1 : part[k];
        }
        p->desc[i] = x;
    }
    p->desc[QD_MAX_IN] = y;
}

/* ---- COPY --------------------------------------------------------------------------------------------------- */

/* How x's format becomes y's, or -1. */
static int conversion(qd_format x, qd_format y) {
    static const struct {
        qd_format x, y;
        int conversion;
    } all[] = {
        {QD_FORMAT_F32, QD_FORMAT_F16, QD_COPY_F32_TO_F16},   {QD_FORMAT_F32, QD_FORMAT_BF16, QD_COPY_F32_TO_BF16},
        {QD_FORMAT_F16, QD_FORMAT_F32, QD_COPY_F16_TO_F32},   {QD_FORMAT_F16, QD_FORMAT_BF16, QD_COPY_F16_TO_BF16},
        {QD_FORMAT_BF16, QD_FORMAT_F32, QD_COPY_BF16_TO_F32}, {QD_FORMAT_BF16, QD_FORMAT_F16, QD_COPY_BF16_TO_F16},
        {QD_FORMAT_I32, QD_FORMAT_F32, QD_COPY_I32_TO_F32},   {QD_FORMAT_I8, QD_FORMAT_F32, QD_COPY_I8_TO_F32},
        {QD_FORMAT_U8, QD_FORMAT_F32, QD_COPY_U8_TO_F32},
    };
    const int bytes = qd_format_get(x)->bytes;
    if (x == y) return bytes == 4 ? QD_COPY_4 : bytes == 2 ? QD_COPY_2 : QD_COPY_1;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].x == x && all[i].y == y) return all[i].conversion;
    }
    return -1;
}

static qd_status copy_formats(qd_op op, const qd_format in[], const qd_format out[]) {
    (void)op;
    if (conversion(in[0], out[0]) >= 0) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED, "copy: %s does not become %s; see QUANTIZE_LINEAR", qd_format_get(in[0])->name,
                   qd_format_get(out[0])->name);
}

static qd_status check_copy(qd_node *n, const qd_symbols *s) {
    (void)s;
    static const char *const names[] = {"x"};
    qd_copy_params *p = &n->params.copy;
    qd_strides *inputs[] = {&p->x};
    memset(p, 0, sizeof *p);
    n->params_bytes = sizeof *p;
    p->conversion = conversion(n->in[0]->desc.format, n->out[0]->desc.format);
    const qd_status status = set_loops(n, "copy", names, inputs, 1, &p->y, &p->rows_at);
    const int from = qd_format_get(n->in[0]->desc.format)->bytes, to = qd_format_get(n->out[0]->desc.format)->bytes;
    const bool tiles = p->conversion <= QD_COPY_4 || p->conversion == QD_COPY_F32_TO_F16;
    const bool across = p->x.step[2] == from && p->x.step[3] > from && p->y.step[3] == to;
    p->tile = tiles && across && !p->x.n[2] && !p->x.n[3] ? 16 : 1;
    return status;
}

static void choose_copy(qd_choices *c, qd_problem *p) {
    choose_shapes(c, p, 1);
}

/* Any bits: numbers of every size, NaN and infinities. */
static bool fill_copy(qd_choices *c, const qd_problem *p, int i, void *data) {
    const size_t bytes = (size_t)qd_format_get(p->formats[i])->bytes;
    uint64_t stream = qd_stream(c, "bits");
    for (int64_t e = 0; e < qd_span(&p->desc[i], 0, p->desc[i].rank); e++) {
        const uint32_t u =
            p->formats[i] == QD_FORMAT_F32 ? qd_random_float_bits(&stream) : (uint32_t)qd_next_random(&stream);
        memcpy((char *)data + (size_t)e * bytes, &u, bytes);
    }
    return true;
}

/* ---- ELEMENTWISE -------------------------------------------------------------------------------------------- */

static qd_status check_elementwise(qd_node *n, const qd_symbols *s) {
    (void)s;
    static const char *const names[] = {"a", "b"};
    qd_elementwise_params *p = &n->params.elementwise;
    qd_strides *inputs[] = {&p->a, &p->b};
    const float alpha = n->attrs.elementwise.alpha, scale = n->attrs.elementwise.scale,
                offset = n->attrs.elementwise.offset;
    memset(p, 0, sizeof *p);
    n->params_bytes = sizeof *p;
    if ((unsigned)n->attrs.elementwise.function >= QD_UNARY_COUNT)
        return qd_fail(QD_ERR_ARGUMENT, "elementwise: %d is no function", (int)n->attrs.elementwise.function);
    if (n->in[1] && (unsigned)n->attrs.elementwise.combine > QD_COMBINE_DIV)
        return qd_fail(QD_ERR_ARGUMENT, "elementwise: %d is no way to combine u and b",
                       (int)n->attrs.elementwise.combine);
    if (isnan(alpha) || isnan(scale) || isnan(offset))
        return qd_fail(QD_ERR_ARGUMENT, "elementwise: alpha, scale and offset must not be NaN");
    p->function = (qd_i32)n->attrs.elementwise.function;
    p->combine = n->in[1] ? (qd_i32)n->attrs.elementwise.combine : QD_ABSENT;
    p->alpha = alpha;
    p->scale = scale;
    p->offset = offset;
    return set_loops(n, "elementwise", names, inputs, 2, &p->y, &p->rows_at);
}

static void choose_elementwise(qd_choices *c, qd_problem *p) {
    choose_shapes(c, p, 2);
    p->attrs.elementwise.function = (qd_unary)qd_choose(c, "function", 0, QD_UNARY_COUNT - 1);
    p->attrs.elementwise.combine = (qd_combine)qd_choose(c, "combine", QD_COMBINE_ADD, QD_COMBINE_DIV);
    p->attrs.elementwise.alpha = (float)qd_choose(c, "alpha", -8, 40) * 0.1f;
    static const float scales[] = {1, 1, 1, 1, 0.7f, -3}, offsets[] = {0, 0, 0, 0, 0.3f, -1};
    p->attrs.elementwise.scale = scales[qd_choose(c, "scale", 0, 5)];
    p->attrs.elementwise.offset = offsets[qd_choose(c, "offset", 0, 5)];
}

/* Where functions are curved, at their ends, and everywhere else: mostly some of each. */
static bool fill_elementwise(qd_choices *c, const qd_problem *p, int i, void *data) {
    static const float nasty[] = {INFINITY, -INFINITY, NAN,   -0.0f,  0,      0.5f,       -0.5f,       1.5f,
                                  1e-40f,   -1e-40f,   3e38f, -3e38f, 88,     -88,        88.72f,      -87,
                                  -87.001f, -13,       -3,    3,      -51.7f, 8388607.5f, -4194303.5f, -89};
    enum { NASTY = sizeof nasty / sizeof *nasty };
    /* What is not finite in b would hide what the function gives. */
    const bool mixed = qd_choose(c, i ? "b mixed" : "a mixed", 0, 3) > (i ? 2 : 0);
    uint64_t stream = qd_stream(c, i ? "b" : "a");
    for (int64_t e = 0; e < qd_span(&p->desc[i], 0, p->desc[i].rank); e++) {
        const float u = (float)qd_between(&stream, -1000000, 1000000) * 1e-6f;
        const uint32_t exponent = (uint32_t)qd_between(&stream, 100, 136);
        const int64_t style = qd_between(&stream, 0, 3), which = qd_between(&stream, 0, NASTY - 1);
        float x = style ? u * 2.0f : (float)(int)(u * 14.0f) * 0.5f; /* ends and ties */
        if (mixed && style == 1) x = u * 14.0f;
        if (mixed && style == 2) x = u * qd_as_f32(exponent << 23);
        if (mixed && style == 3) x = nasty[which];
        ((float *)data)[e] = x;
    }
    return true;
}

const qd_op_rules qd_rules_copy = {
    .strided = true, .formats = copy_formats, .check = check_copy, .choose = choose_copy, .fill = fill_copy};
const qd_op_rules qd_rules_elementwise = {.attrs = true,
                                          .strided = true,
                                          .in_place = 3,
                                          .check = check_elementwise,
                                          .choose = choose_elementwise,
                                          .fill = fill_elementwise};
