/* Operators that move codes: tensors one after the other, and padding. */
#include <string.h>

#include "core/rules/rules.h"

static const char *const size_names[] = {"d0", "d1", "d2", "d3"};

/* Mostly all dimensions: there is more to go wrong. */
static int choose_rank(qd_choices *c) {
    const int64_t more = qd_choose(c, "more dimensions", 0, 5);
    return more < 3 ? 1 + (int)more : QD_MAX_RANK;
}

/* ---- CONCAT ------------------------------------------------------------------------------------------------- */

static qd_status find_axis(const qd_node *n, int *axis) {
    const int rank = n->out[0]->desc.rank, asked = n->attrs.concat.axis;
    *axis = asked < 0 ? asked + rank : asked;
    if (asked < -rank || asked >= rank)
        return qd_fail(QD_ERR_ARGUMENT, "concat: there is no axis %d in rank %d", asked, rank);
    if (n->dynamic && *axis == 0) return qd_fail(QD_ERR_UNSUPPORTED, "concat: the rows of a run cannot be the axis");
    return QD_OK;
}

/* Counts the inputs; their sizes must be those of y, and add up to it along the axis. */
static qd_status check_concat_shapes(const qd_node *n, int axis, int *count) {
    const qd_tensor_desc y = qd_sized(n, n->out[0]);
    int64_t sum = 0;
    *count = 0;
    for (int i = 0; i < QD_MAX_IN; i++) {
        if (!n->in[i]) continue;
        if (*count != i) return qd_fail(QD_ERR_ARGUMENT, "concat: x%d is missing before x%d", *count, i);
        ++*count;
        const qd_tensor_desc x = qd_sized(n, n->in[i]);
        if (x.rank != y.rank) {
            return qd_fail(QD_ERR_ARGUMENT, "concat: x%d has rank %d where y has %d", i, x.rank, y.rank);
        }
        for (int k = 0; k < y.rank; k++) {
            if (k == axis || x.shape[k] == y.shape[k]) continue;
            return qd_fail(QD_ERR_ARGUMENT, "concat: dimension %d of x%d is %lld where y has %lld", k, i,
                           (long long)x.shape[k], (long long)y.shape[k]);
        }
        if (x.shape[axis] > y.shape[axis] - sum) {
            return qd_fail(QD_ERR_ARGUMENT, "concat: the inputs up to x%d have more than the %lld of y along axis %d",
                           i, (long long)y.shape[axis], axis);
        }
        sum += x.shape[axis];
    }
    if (sum == y.shape[axis]) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "concat: the inputs have %lld along axis %d where y has %lld", (long long)sum, axis,
                   (long long)y.shape[axis]);
}

/* A run is what an input has for one index of all dimensions before the axis. Along the first axis it is one index of
 * that instead, so that it is small enough to count with, and that rows may lie apart in a view. */
static qd_status check_concat(qd_node *n, const qd_symbols *s) {
    (void)s;
    qd_concat_params *p = &n->params.concat;
    const qd_tensor_desc *y = &n->out[0]->desc;
    const int64_t bytes = qd_format_get(y->format)->bytes;
    int axis, count;
    qd_status status;
    memset(p, 0, sizeof *p);
    n->params_bytes = sizeof *p;
    QD_TRY(find_axis(n, &axis));
    QD_TRY(check_concat_shapes(n, axis, &count));
    const bool last = axis == y->rank - 1, rows_are_runs = axis == 0 && !last;
    const int64_t largest = qd_span(y, axis ? 1 : last ? 0 : 1, y->rank);
    QD_TRY(qd_count_check("concat", largest));
    QD_TRY(qd_count_check("concat", largest * bytes));
    if (rows_are_runs) QD_TRY(qd_count_check("concat", qd_span(y, 0, y->rank - 1)));
    p->count = count;
    p->per_row = axis > 0;
    const int first = rows_are_runs ? 1 : axis;
    p->y_step = last ? 1 : (qd_i32)qd_span(y, first, y->rank - 1);
    int64_t before = 0;
    for (int i = 0; i < count; i++) {
        const qd_tensor_desc *x = &n->in[i]->desc;
        p->runs[i] = (qd_i32)(rows_are_runs ? x->shape[0] : axis ? qd_span(x, 1, axis) : 1);
        p->bytes[i] = (qd_i32)(qd_span(x, first, x->rank) * bytes);
        p->x_step[i] = last ? 1 : (qd_i32)qd_span(x, first, x->rank - 1);
        if (last) {
            p->y_byte[i] = (qd_i32)(before * bytes);
        } else {
            p->y_row[i] = (qd_i32)(before * qd_span(y, axis + 1, y->rank - 1));
        }
        before += x->shape[axis];
    }
error:
    return status;
}

static void choose_concat(qd_choices *c, qd_problem *p) {
    static const char *const axis_names[] = {"n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"};
    const int rank = choose_rank(c);
    const int axis = (int)qd_choose(c, "axis", 0, rank - 1);
    const int count = (int)qd_choose(c, "count", 1, QD_MAX_IN);
    p->attrs.concat.axis = qd_choose(c, "negative axis", 0, 1) ? axis - rank : axis;
    qd_tensor_desc d = {0, rank, {0}};
    for (int i = 0; i < rank; i++)
        d.shape[i] = qd_choose_size(c, size_names[i], i + 1 < rank ? 4 + c->size : 40 * c->size);
    int64_t sum = 0;
    for (int i = 0; i < QD_MAX_IN; i++) {
        p->present[i] = i < count;
        if (i >= count) continue;
        p->desc[i] = d;
        p->desc[i].shape[axis] = qd_choose_size(c, axis_names[i], axis + 1 < rank ? 3 : 40 * c->size);
        sum += p->desc[i].shape[axis];
    }
    d.shape[axis] = sum;
    p->desc[QD_MAX_IN] = d;
}

const qd_op_rules qd_rules_concat = {.attrs = true, .check = check_concat, .choose = choose_concat};

/* ---- PAD ---------------------------------------------------------------------------------------------------- */

/* One dimension of x, and what is added before and after. */
static qd_status check_padding(const qd_node *n, int i, int64_t size, int64_t want) {
    const int64_t before = n->attrs.pad.before[i], after = n->attrs.pad.after[i];
    if (before < 0 || after < 0) {
        return qd_fail(QD_ERR_ARGUMENT, "pad: %lld before and %lld after dimension %d; neither can be negative",
                       (long long)before, (long long)after, i);
    }
    if (i >= n->in[0]->desc.rank) {
        if (!before && !after) return QD_OK;
        return qd_fail(QD_ERR_ARGUMENT, "pad: x has no dimension %d to pad", i);
    }
    if (i == 0 && n->dynamic && (before || after))
        return qd_fail(QD_ERR_UNSUPPORTED, "pad: the rows of a run cannot be padded");
    if (before > want || after > want - before || want - before - after != size) {
        return qd_fail(QD_ERR_ARGUMENT, "pad: dimension %d of y is %lld where %lld + %lld + %lld are needed", i,
                       (long long)want, (long long)before, (long long)size, (long long)after);
    }
    const int64_t more = before > after ? before : after;
    if (n->attrs.pad.mode == QD_PAD_REFLECT && more && more >= size) {
        return qd_fail(QD_ERR_ARGUMENT, "pad: dimension %d has %lld elements; that many cannot mirror %lld", i,
                       (long long)size, (long long)more);
    }
    if (n->attrs.pad.mode == QD_PAD_EDGE && more && !size)
        return qd_fail(QD_ERR_ARGUMENT, "pad: dimension %d has no elements whose edge could be repeated", i);
    return QD_OK;
}

static qd_status check_pad(qd_node *n, const qd_symbols *s) {
    (void)s;
    const qd_tensor_desc x = qd_sized(n, n->in[0]), y = qd_sized(n, n->out[0]);
    qd_pad_params *p = &n->params.pad;
    qd_status status;
    n->params_bytes = sizeof *p;
    *p = (qd_pad_params){
        .in = {1, 1, 1, 1}, .out = {1, 1, 1, 1}, .mode = (qd_i32)n->attrs.pad.mode, .value = n->attrs.pad.value};
    if ((unsigned)n->attrs.pad.mode > QD_PAD_REFLECT)
        return qd_fail(QD_ERR_ARGUMENT, "pad: %d is no mode of padding", (int)n->attrs.pad.mode);
    if (x.rank != y.rank) return qd_fail(QD_ERR_ARGUMENT, "pad: x has rank %d where y has %d", x.rank, y.rank);
    if (n->attrs.pad.mode == QD_PAD_CONSTANT) QD_TRY(qd_zero_check("pad", "the padding", p->value, x.format));
    for (int i = 0; i < QD_MAX_RANK; i++)
        QD_TRY(check_padding(n, i, i < x.rank ? x.shape[i] : 1, i < x.rank ? y.shape[i] : 1));
    QD_TRY(qd_count_check("pad", y.shape[0]));
    QD_TRY(qd_count_check("pad", qd_span(&y, 1, y.rank)));
    for (int i = 0; i < x.rank; i++) {
        const int at = i ? i + 4 - x.rank : 0;
        p->in[at] = (qd_i32)x.shape[i];
        p->out[at] = (qd_i32)y.shape[i];
        p->before[at] = (qd_i32)n->attrs.pad.before[i];
    }
error:
    return status;
}

static void choose_pad(qd_choices *c, qd_problem *p) {
    static const char *const before_names[] = {"before0", "before1", "before2", "before3"};
    static const char *const after_names[] = {"after0", "after1", "after2", "after3"};
    const int rank = choose_rank(c);
    p->attrs.pad.mode = (qd_pad_mode)qd_choose(c, "mode", QD_PAD_CONSTANT, QD_PAD_REFLECT);
    p->attrs.pad.value = qd_choose_code(c, "value", p->formats[0]);
    qd_tensor_desc x = {0, rank, {0}}, y = {0, rank, {0}};
    for (int i = 0; i < rank; i++) {
        const bool last = i + 1 == rank;
        x.shape[i] = qd_choose_size(c, size_names[i], last ? 40 * c->size : 4 + c->size);
        /* More than the size now and then; all that can be mirrored, too. */
        const int64_t most = p->attrs.pad.mode == QD_PAD_REFLECT ? x.shape[i] - 1 : last ? 20 : 3;
        p->attrs.pad.before[i] = qd_choose(c, before_names[i], 0, most < 20 ? most : 20);
        p->attrs.pad.after[i] = qd_choose(c, after_names[i], 0, most < 20 ? most : 20);
        y.shape[i] = x.shape[i] + p->attrs.pad.before[i] + p->attrs.pad.after[i];
    }
    p->desc[0] = x;
    p->desc[QD_MAX_IN] = y;
}

const qd_op_rules qd_rules_pad = {.attrs = true, .check = check_pad, .choose = choose_pad};
