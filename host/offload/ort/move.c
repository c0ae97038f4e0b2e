/* What moves elements without computing: Reshape and its like, Transpose, Pad, Resize. On any tensor, or between
 * DequantizeLinear and QuantizeLinear, where codes are moved. */
#include <math.h>
#include <string.h>

#include "ops.h"

enum { SLOT_TABLE };

#define MOVED (QEP_CODES8 | QEP_F32 | QEP_F16 | QEP_I32)

/* ---- Codes or anything -------------------------------------------------------------------------------------- */

/* Constants that say the same; -1 is a zero point of 0. */
static bool same_number(const qep_graph *g, int a, int b) {
    if (a == b) return true;
    const double x = a < 0 ? 0 : qep_constant(g, a) ? qep_number(g->values[a].type, g->values[a].data, 0) : NAN;
    const double y = b < 0 ? 0 : qep_constant(g, b) ? qep_number(g->values[b].type, g->values[b].data, 0) : NAN;
    return x == y;
}

/* Whether the unit's result has the codes of its input. */
static bool keeps_codes(const qep_graph *g, const qep_unit *u) {
    const qep_operand *x = &u->in[0];
    return u->y.scale < 0 ||
           (!u->limited && same_number(g, x->scale, u->y.scale) && same_number(g, x->zero, u->y.zero) &&
            g->values[x->value].type == g->values[u->y.value].type);
}

/* in[0] and y of a plain node, or of one between DequantizeLinear and QuantizeLinear. */
static bool match_moved(qep_match *m, int node, qep_unit *u, bool qdq, unsigned types) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    if (!qep_operands(m, u, 2)) return false;
    if (qdq) {
        if (!qep_look_behind(m, u, qep_in(n, 0), "x", &u->in[0]) || !qep_look_ahead(m, u, n->out[0])) return false;
    } else {
        u->in[0].value = qep_in(n, 0);
        u->y.value = n->out[0];
        if (!qep_types(m, u->in[0].value, "x", types)) return false;
    }
    return qep_constant(g, u->in[0].value) ? qep_refuse(m, "x is a constant") : true;
}

/* Where the moved codes go: y, or a tensor before the table that changes what they mean. */
static qd_status open_result(qep_build *b, const qep_unit *u, const qep_shape *shape, int rank, const int64_t *dims,
                             qd_tensor **moved, qd_tensor **y) {
    const qd_format x_format = qep_format_of(b, u->in[0].value);
    const bool keeps = keeps_codes(qep_of(b), u);
    const qd_status status =
        qep_output(b, u->y.value, shape, keeps ? x_format : qep_result_format(b, u), rank, dims, y);
    *moved = *y;
    return status || keeps || !*y ? status : qep_between(b, x_format, rank, dims, moved);
}

static qd_status close_result(qep_build *b, const qep_unit *u, qd_tensor *moved, qd_tensor *y) {
    if (moved == y) return QD_OK;
    return qep_apply(b, u, SLOT_TABLE, QD_FUNCTION_IDENTITY, 0, moved, qep_quant(b, &u->in[0]), y, qep_quant(b, &u->y));
}

/* ---- Another shape ------------------------------------------------------------------------------------------ */

/* The value that holds a shape or axes; -1 when an attribute does, or nothing. */
static int shape_input(const qep_node *n) {
    const bool has = strcmp(n->op, "Reshape") == 0 || strcmp(n->op, "Squeeze") == 0 || strcmp(n->op, "Unsqueeze") == 0;
    return has ? qep_in(n, 1) : -1;
}

static bool match_shape(qep_match *m, int node, qep_unit *u, bool qdq) {
    const qep_node *n = &m->g->nodes[node];
    if (!match_moved(m, node, u, qdq, MOVED)) return false;
    u->in[1].value = shape_input(n);
    if (u->in[1].value >= 0) {
        if (!qep_types(m, u->in[1].value, "the shape", QEP_I64)) return false;
        if (!qep_constant(m->g, u->in[1].value)) u->varies = true;
    }
    u->alias = keeps_codes(m->g, u);
    return true;
}

bool qep_match_shape(qep_match *m, int node, qep_unit *u) {
    return match_shape(m, node, u, false);
}

bool qep_match_qdq_shape(qep_match *m, int node, qep_unit *u) {
    return match_shape(m, node, u, true);
}

static qd_status reshape(qep_build *b, const qep_node *n, const qep_shape *x, const int32_t *want, int64_t count,
                         qep_shape *y) {
    const bool keep_zero = qep_attr_int(n, "allowzero", 0);
    int64_t known = 1;
    int open = -1;
    if (count > QEP_MAX_RANK) return qep_fail(b, "a shape of %lld dimensions", (long long)count);
    y->rank = (int)count;
    for (int i = 0; i < count; i++) {
        y->dims[i] = want[i] == 0 && !keep_zero && i < x->rank ? x->dims[i] : want[i];
        if (want[i] == -1 && open < 0) {
            open = i;
        } else if (y->dims[i] < 0 || __builtin_mul_overflow(known, y->dims[i], &known)) {
            return qep_fail(b, "a shape with a dimension of %d", want[i]);
        }
    }
    if (open >= 0) y->dims[open] = known ? qep_count(x) / known : 0;
    return qep_count(y) == qep_count(x) ? QD_OK : qep_fail(b, "the shape does not have the elements of x");
}

/* Dimensions of 1 that go (squeeze) or come. */
static qd_status change_axes(qep_build *b, const qep_shape *x, const int32_t *axes, int64_t count, bool squeeze,
                             qep_shape *y) {
    const int rank = squeeze ? x->rank : x->rank + (int)count;
    bool named[QEP_MAX_RANK] = {false};
    if (rank > QEP_MAX_RANK) return qep_fail(b, "%d dimensions", rank);
    for (int i = 0; i < count; i++) {
        const int axis = qep_axis(axes[i], rank);
        if (axis < 0 || (squeeze && x->dims[axis] != 1)) return qep_fail(b, "the axis %d cannot be changed", axes[i]);
        named[axis] = true;
    }
    int from = 0;
    *y = (qep_shape){0};
    for (int i = 0; i < rank; i++) {
        const bool one = count ? named[i] : x->dims[i] == 1;
        if (squeeze && one) continue;
        y->dims[y->rank++] = squeeze ? x->dims[i] : one ? 1 : x->dims[from++];
    }
    return QD_OK;
}

static qd_status find_shape(qep_build *b, const qep_unit *u, qep_shape *y) {
    const qep_node *n = qep_node_of(b, u);
    const qep_shape *x = qep_shape_of(b, u->in[0].value);
    const int value = u->in[1].value;
    const qep_attribute *list = qep_attr(n, strcmp(n->op, "Reshape") == 0 ? "shape" : "axes");
    int32_t from_attribute[QEP_MAX_RANK];
    const int32_t *numbers = from_attribute;
    int64_t count = 0;
    *y = *x;
    if (strcmp(n->op, "Identity") == 0) return QD_OK;
    if (strcmp(n->op, "Flatten") == 0) {
        const int64_t axis = qep_attr_int(n, "axis", 1), at = axis < 0 ? axis + x->rank : axis;
        if (at < 0 || at > x->rank) return qep_fail(b, "the axis is %lld", (long long)axis);
        *y = (qep_shape){2, {qep_span(x, 0, (int)at), qep_span(x, (int)at, x->rank)}};
        return QD_OK;
    }
    if (value >= 0) {
        numbers = qep_ints(b, value);
        if (!numbers) return QD_ERR_MEMORY;
        count = qep_count(qep_shape_of(b, value));
    } else if (list) {
        for (; count < (int64_t)list->count && count < QEP_MAX_RANK; count++)
            from_attribute[count] = (int32_t)list->ints[count];
    }
    if (strcmp(n->op, "Reshape") == 0) return reshape(b, n, x, numbers, count, y);
    return change_axes(b, x, numbers, count, strcmp(n->op, "Squeeze") == 0, y);
}

qd_status qep_lower_shape(qep_build *b, const qep_unit *u) {
    qep_shape shape;
    qd_tensor *in, *y;
    qd_status status;
    QD_TRY(find_shape(b, u, &shape));
    if (u->alias) return qep_alias(b, u->y.value, u->in[0].value, &shape);
    const int64_t count = qep_count(&shape);
    QD_TRY(qep_input(b, u->in[0].value, 1, &count, &in));
    QD_TRY(qep_output(b, u->y.value, &shape, qep_result_format(b, u), 1, &count, &y));
    QD_TRY(close_result(b, u, in, y));
error:
    return status;
}

/* ---- Transpose ---------------------------------------------------------------------------------------------- */

static bool match_transpose(qep_match *m, int node, qep_unit *u, bool qdq) {
    if (!match_moved(m, node, u, qdq, MOVED) || !qep_rank(m, u->in[0].value, "x", 1, QEP_MAX_RANK)) return false;
    const qep_attribute *order = qep_attr(&m->g->nodes[node], "perm");
    const int rank = m->g->values[u->in[0].value].shape.rank;
    unsigned seen = 0;
    for (size_t i = 0; order && i < order->count; i++) {
        const int64_t axis = order->ints[i];
        if (axis < 0 || axis >= rank || seen >> axis & 1) return qep_broken(m, "perm is no order of the dimensions");
        seen |= 1u << axis;
    }
    if (order && (int)order->count != rank) return qep_broken(m, "perm has not a number for each dimension");
    u->windows = 1;
    return true;
}

bool qep_match_transpose(qep_match *m, int node, qep_unit *u) {
    return match_transpose(m, node, u, false);
}

bool qep_match_qdq_transpose(qep_match *m, int node, qep_unit *u) {
    return match_transpose(m, node, u, true);
}

/* Joins dimensions that stay side by side, and leaves out those of 1: from is x's shape then, order and dims are y's.
 */
static bool fold_order(qep_shape *from, int *order, const qep_shape *y, int *rank, int64_t *dims) {
    int last = -2, group_of[QEP_MAX_RANK] = {0}, groups = 0, first_of[QEP_MAX_RANK];
    qep_shape folded = {0};
    *rank = 0;
    for (int i = 0; i < y->rank; i++) { /* groups in the order of y */
        if (y->dims[i] == 1) continue;
        int next = last + 1;
        while (next < from->rank && next >= 0 && from->dims[next] == 1)
            next++;
        if (last < 0 || order[i] != next) {
            if (groups == QD_MAX_RANK) return false;
            first_of[groups] = order[i];
            dims[groups++] = 1;
        }
        dims[groups - 1] *= y->dims[i];
        last = order[i];
    }
    if (!groups) {
        first_of[0] = 0;
        dims[groups++] = 1;
    }
    for (int i = 0; i < groups; i++) { /* their places in x */
        for (int j = 0; j < groups; j++)
            group_of[i] += first_of[j] < first_of[i];
    }
    folded.rank = *rank = groups;
    for (int i = 0; i < groups; i++) {
        folded.dims[group_of[i]] = dims[i];
        order[i] = group_of[i];
    }
    *from = folded;
    return true;
}

qd_status qep_lower_transpose(qep_build *b, const qep_unit *u) {
    const qep_attribute *perm = qep_attr(qep_node_of(b, u), "perm");
    qep_shape x = *qep_shape_of(b, u->in[0].value), shape = {.rank = x.rank};
    int order[QEP_MAX_RANK], rank;
    int64_t dims[QEP_MAX_RANK];
    qd_tensor *moved, *y;
    qd_status status;
    if (perm && (int)perm->count != x.rank)
        return qep_fail(b, "perm has %zu numbers for %d dimensions", perm->count, x.rank);
    for (int i = 0; i < x.rank; i++) {
        order[i] = perm ? (int)perm->ints[i] : x.rank - 1 - i;
        shape.dims[i] = x.dims[order[i]];
    }
    if (!fold_order(&x, order, &shape, &rank, dims))
        return qep_fail(b, "an order of more than %d dimensions", QD_MAX_RANK);
    QD_TRY(open_result(b, u, &shape, rank, dims, &moved, &y));
    QD_TRY(qep_permute(b, u->in[0].value, &x, rank, order, dims, moved));
    QD_TRY(close_result(b, u, moved, y));
error:
    return status;
}

/* ---- Pad ---------------------------------------------------------------------------------------------------- */

static bool pad_mode(const qep_node *n, qd_pad_mode *out) {
    static const char *const names[] = {"constant", "edge", "reflect"};
    const char *mode = qep_attr_text(n, "mode", "constant");
    for (int i = 0; i < 3; i++) {
        *out = (qd_pad_mode)i;
        if (strcmp(mode, names[i]) == 0) return true;
    }
    return false;
}

static bool match_pad(qep_match *m, int node, qep_unit *u, bool qdq) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    const int pads = qep_in(n, 1), value = qep_in(n, 2);
    qd_pad_mode mode;
    if (!match_moved(m, node, u, qdq, QEP_CODES8) || !qep_rank(m, u->in[0].value, "x", 1, QD_MAX_RANK)) return false;
    if (!pad_mode(n, &mode)) return qep_refuse(m, "the mode is %.20s", qep_attr_text(n, "mode", ""));
    if (n->version >= 11 && !qep_constant(g, pads)) return qep_refuse(m, "the padding is no constant");
    if (qep_in(n, 3) >= 0) return qep_refuse(m, "it names axes");
    if (value >= 0 && !qep_constant(g, value)) return qep_refuse(m, "the value of the padding is no constant");
    const qep_attribute *list = n->version < 11 ? qep_attr(n, "pads") : NULL;
    const int64_t count = n->version >= 11 ? qep_elements(g, pads) : list ? (int64_t)list->count : 0;
    for (int64_t i = 0; i < count; i++) {
        const double pad = list ? (double)list->ints[i] : qep_number(g->values[pads].type, g->values[pads].data, i);
        if (pad < 0) return qep_refuse(m, "a padding of %g takes elements away", pad);
    }
    return true;
}

bool qep_match_pad(qep_match *m, int node, qep_unit *u) {
    return match_pad(m, node, u, false);
}

bool qep_match_qdq_pad(qep_match *m, int node, qep_unit *u) {
    return match_pad(m, node, u, true);
}

/* The code that stands for the padding's value; `number` is real between DequantizeLinear and QuantizeLinear. */
static int32_t pad_code(qep_build *b, const qep_unit *u, double number) {
    if (u->in[0].scale < 0) return (int32_t)number;
    const qd_quant q = qep_quant(b, &u->in[0]);
    const bool negative = qep_format_of(b, u->in[0].value) == QD_FORMAT_I8;
    const double code = nearbyint((double)((float)number / q.scale)) + q.zero_point;
    return (int32_t)fmax(negative ? -128 : 0, fmin(negative ? 127 : 255, code));
}

qd_status qep_lower_pad(qep_build *b, const qep_unit *u) {
    const qep_node *n = qep_node_of(b, u);
    const qep_shape *x = qep_shape_of(b, u->in[0].value);
    const qep_attribute *list = qep_attr(n, "pads");
    const int32_t *pads = n->version < 11 ? NULL : qep_ints(b, qep_in(n, 1));
    const int64_t count = pads ? qep_count(qep_shape_of(b, qep_in(n, 1))) : list ? (int64_t)list->count : 0;
    qep_shape shape = *x;
    qd_attrs attrs = {.pad = {0}};
    qd_tensor *in, *moved, *y;
    qd_status status;
    if (x->rank > QD_MAX_RANK || count != 2 * x->rank) return qep_fail(b, "pads do not fit x");
    pad_mode(n, &attrs.pad.mode);
    const double value = n->version < 11 ? (double)qep_attr_float(n, "value", 0) : qep_number_of(b, qep_in(n, 2), 0, 0);
    attrs.pad.value = pad_code(b, u, value);
    for (int i = 0; i < x->rank; i++) {
        attrs.pad.before[i] = pads ? pads[i] : list->ints[i];
        attrs.pad.after[i] = pads ? pads[x->rank + i] : list->ints[x->rank + i];
        shape.dims[i] += attrs.pad.before[i] + attrs.pad.after[i];
    }
    QD_TRY(qep_input(b, u->in[0].value, x->rank, x->dims, &in));
    QD_TRY(open_result(b, u, &shape, shape.rank, shape.dims, &moved, &y));
    QD_TRY(qep_add(b, QD_OP_PAD, &attrs, &in, 1, moved));
    QD_TRY(close_result(b, u, moved, y));
error:
    return status;
}

/* ---- Resize ------------------------------------------------------------------------------------------------- */

static int find_word(const char *word, const char *const *words, int n) {
    for (int i = 0; i < n; i++) {
        if (strcmp(word, words[i]) == 0) return i;
    }
    return -1;
}

/* Where results lie, and which input is the nearest; version 10 knew one way. */
static bool resize_modes(const qep_node *n, int *coordinates, int *nearest) {
    static const char *const places[] = {"asymmetric", "half_pixel", "align_corners"};
    static const char *const roundings[] = {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"};
    const bool old = n->version < 11;
    *coordinates =
        find_word(qep_attr_text(n, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel"), places, 3);
    *nearest = find_word(qep_attr_text(n, "nearest_mode", old ? "floor" : "round_prefer_floor"), roundings, 4);
    return *coordinates >= 0 && *nearest >= 0 && strcmp(qep_attr_text(n, "mode", "nearest"), "nearest") == 0;
}

static int resize_scales(const qep_node *n) {
    return qep_in(n, n->version < 11 ? 1 : 2);
}

static int resize_sizes(const qep_node *n) {
    return n->version < 11 ? -1 : qep_in(n, 3);
}

static bool match_resize(qep_match *m, int node, qep_unit *u, bool qdq) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[node];
    int coordinates, nearest;
    if (!match_moved(m, node, u, qdq, QEP_CODES8) || !qep_rank(m, u->in[0].value, "x", 3, 4)) return false;
    if (!resize_modes(n, &coordinates, &nearest))
        return qep_refuse(m, "a mode other than nearest, or a rare variant of it");
    if (qep_attr(n, "axes")) return qep_refuse(m, "it names axes");
    if (strcmp(qep_attr_text(n, "keep_aspect_ratio_policy", "stretch"), "stretch") != 0)
        return qep_refuse(m, "it keeps the aspect ratio");
    const int sizes = resize_sizes(n), scales = resize_scales(n);
    const bool by_size = sizes >= 0 && qep_elements(g, sizes) > 0;
    const int from = by_size ? sizes : scales, rank = g->values[u->in[0].value].shape.rank;
    if (!qep_constant(g, from)) return qep_refuse(m, "its sizes are no constants");
    if (qep_elements(g, from) != rank) return qep_broken(m, "it has not a size for each dimension");
    for (int i = 0; i < 2; i++) {
        const double size = qep_number(g->values[from].type, g->values[from].data, i);
        const int64_t is = g->values[u->in[0].value].shape.dims[i];
        if (by_size ? is >= 0 && (double)is != size : size != 1)
            return qep_refuse(m, "more than the image changes its size");
    }
    for (int i = 2; i < rank; i++) {
        const double scale = qep_number(g->values[from].type, g->values[from].data, i);
        if (!by_size && scale != floor(scale) && g->values[u->in[0].value].shape.dims[i] < 0)
            return qep_refuse(m, "%g times a size that is not known may be no whole number", scale);
    }
    return true;
}

bool qep_match_resize(qep_match *m, int node, qep_unit *u) {
    return match_resize(m, node, u, false);
}

bool qep_match_qdq_resize(qep_match *m, int node, qep_unit *u) {
    return match_resize(m, node, u, true);
}

qd_status qep_lower_resize(qep_build *b, const qep_unit *u) {
    const qep_node *n = qep_node_of(b, u);
    const qep_shape *x = qep_shape_of(b, u->in[0].value);
    const int sizes = resize_sizes(n), scales = resize_scales(n);
    const bool by_size = sizes >= 0 && qep_count(qep_shape_of(b, sizes)) > 0;
    int coordinates, nearest;
    qep_shape shape = *x;
    qd_tensor *in, *moved, *y;
    qd_status status;
    resize_modes(n, &coordinates, &nearest);
    for (int i = 2; i < x->rank; i++) {
        const double number = qep_number_of(b, by_size ? sizes : scales, i, 1);
        const double size = by_size ? number : (double)x->dims[i] * number;
        /* The library takes the ratio of the sizes for the scale. */
        if (size != floor(size))
            return qep_fail(b, "%lld elements times %g is no whole number", (long long)x->dims[i], number);
        shape.dims[i] = (int64_t)size;
    }
    for (int i = 0; i < 2; i++) {
        if (by_size && (double)x->dims[i] != qep_number_of(b, sizes, i, 1))
            return qep_fail(b, "more than the image changes its size");
    }
    const qd_attrs attrs = {
        .resize = {.nchw = true, .coordinates = (qd_resize_coordinates)coordinates, .nearest = (qd_nearest)nearest}};
    QD_TRY(qep_input(b, u->in[0].value, x->rank, x->dims, &in));
    QD_TRY(open_result(b, u, &shape, shape.rank, shape.dims, &moved, &y));
    QD_TRY(qep_add(b, QD_OP_RESIZE, &attrs, &in, 1, moved));
    QD_TRY(close_result(b, u, moved, y));
error:
    return status;
}
