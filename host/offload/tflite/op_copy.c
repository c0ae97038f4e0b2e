/* Elements that move in another order: copies of windows. */
#include <string.h>

#include "operators.h"

static bool read_input(tfl_build *b, tfl_operand *x, int i, tfl_order *o) {
    if (!tfl_input(b, i, x)) return false;
    if (x->bytes) return tfl_fail(b, "the input is a constant");
    if (x->shape.rank < 1 || x->shape.rank > QD_MAX_RANK)
        return tfl_fail(b, "%d dimensions; 1 to %d are known", x->shape.rank, QD_MAX_RANK);
    memset(o, 0, sizeof *o);
    o->shape = x->shape;
    int64_t step = 1;
    for (int d = x->shape.rank - 1; d >= 0; d--) {
        o->steps[d] = step;
        step *= x->shape.of[d];
    }
    return true;
}

bool tfl_reorder(tfl_build *b, tfl_operand *x, const tfl_order *o, qd_tensor *y) {
    const qd_tensor_desc d = tfl_desc(x->format, &o->shape);
    const int64_t bytes = qd_format_get(x->format)->bytes;
    int64_t steps[QD_MAX_RANK];
    qd_tensor *in;
    if (!tfl_tensor(b, x)) return false;
    for (int i = 0; i < d.rank; i++)
        steps[i] = o->steps[i] * bytes;
    /* On trial, x has no memory of its own: any tensor of that shape will do. */
    const bool found =
        b->trial ? tfl_inner(b, &d, &in) : tfl_window_of(b, x->tensor, (size_t)(o->offset * bytes), &d, steps, &in);
    return found && tfl_op(b, QD_OP_COPY, NULL, &in, 1, y);
}

/* Output i of the node: x in that order. `shape` has as many elements. */
static bool copy(tfl_build *b, tfl_operand *x, const tfl_order *o, int i, const tfl_shape *shape) {
    tfl_operand y;
    const qd_tensor_desc d = tfl_desc(x->format, &o->shape);
    return tfl_output(b, i, &y) && tfl_same_meaning(b, x, &y) && tfl_result(b, &y, shape, &d) &&
           tfl_reorder(b, x, o, y.tensor);
}

bool tfl_transpose(tfl_build *b) {
    tfl_operand x, order_of;
    tfl_order from, to = {0};
    int64_t list[QD_MAX_RANK];
    int n;
    if (!tfl_counts(b, 2, 2, 1) || !read_input(b, &x, 0, &from) || !tfl_input(b, 1, &order_of) ||
        !tfl_integers(b, &order_of, QD_MAX_RANK, list, &n)) {
        return false;
    }
    if (n != x.shape.rank) return tfl_fail(b, "an order of %d dimensions for %d", n, x.shape.rank);
    unsigned used = 0;
    to.shape.rank = n;
    for (int i = 0; i < n; i++) {
        int axis;
        if (list[i] < -n || list[i] >= n || !tfl_axis(b, (int)list[i], n, &axis) || used >> axis & 1)
            return tfl_fail(b, "the order names a dimension that is none, or twice");
        used |= 1u << axis;
        to.shape.of[i] = from.shape.of[axis];
        to.steps[i] = from.steps[axis];
    }
    return copy(b, &x, &to, 0, &to.shape);
}

bool tfl_slice(tfl_build *b) {
    tfl_operand x, begin, size;
    tfl_order o;
    int64_t first[QD_MAX_RANK], count[QD_MAX_RANK];
    int n, m;
    if (!tfl_counts(b, 3, 3, 1) || !read_input(b, &x, 0, &o) || !tfl_input(b, 1, &begin) || !tfl_input(b, 2, &size) ||
        !tfl_integers(b, &begin, QD_MAX_RANK, first, &n) || !tfl_integers(b, &size, QD_MAX_RANK, count, &m)) {
        return false;
    }
    if (n != x.shape.rank || m != n) return tfl_fail(b, "begin and size must have an element for each dimension");
    for (int i = 0; i < n; i++) {
        if (count[i] == -1) count[i] = x.shape.of[i] - first[i];
        if (first[i] < 0 || count[i] < 1 || first[i] > x.shape.of[i] - count[i])
            return tfl_fail(b, "%lld elements from %lld on of %lld", (long long)count[i], (long long)first[i],
                            (long long)x.shape.of[i]);
        o.shape.of[i] = count[i];
        o.offset += first[i] * o.steps[i];
    }
    return copy(b, &x, &o, 0, &o.shape);
}

/* Where a STRIDED_SLICE begins or ends: an index that may count from the end, limited to the dimension. */
static int64_t limit(int64_t index, int64_t size) {
    if (index < 0) index += size;
    return index < 0 ? 0 : index > size ? size : index;
}

bool tfl_strided_slice(tfl_build *b) {
    const TfLiteStridedSliceParams *p = b->node->params;
    tfl_operand x, lists[3];
    tfl_order o;
    int64_t values[3][QD_MAX_RANK];
    int n = 0;
    if (!tfl_counts(b, 4, 4, 1) || !read_input(b, &x, 0, &o)) return false;
    for (int i = 0; i < 3; i++) {
        if (!tfl_input(b, 1 + i, &lists[i]) || !tfl_integers(b, &lists[i], QD_MAX_RANK, values[i], &n)) return false;
        if (n != x.shape.rank) return tfl_fail(b, "begin, end and strides must have an element for each dimension");
    }
    if (p->ellipsis_mask || p->new_axis_mask || p->offset) return tfl_fail(b, "an ellipsis, a new axis, or an offset");
    tfl_shape shape = {0};
    for (int i = 0; i < n; i++) {
        const bool shrinks = p->shrink_axis_mask >> i & 1;
        const int64_t size = x.shape.of[i], stride = values[2][i];
        const int64_t begin = p->begin_mask >> i & 1 ? 0 : limit(values[0][i], size);
        const int64_t end = shrinks ? begin + 1 : p->end_mask >> i & 1 ? size : limit(values[1][i], size);
        if (stride < 1 || (shrinks && stride != 1)) return tfl_fail(b, "a stride of %lld", (long long)stride);
        if (end <= begin || end > size)
            return tfl_fail(b, "nothing is left of dimension %d: from %lld to %lld", i, (long long)begin,
                            (long long)end);
        o.shape.of[i] = (end - begin + stride - 1) / stride;
        o.offset += begin * o.steps[i];
        o.steps[i] *= stride;
        if (!shrinks) shape.of[shape.rank++] = o.shape.of[i];
    }
    return copy(b, &x, &o, 0, &shape);
}

bool tfl_split(tfl_build *b) {
    tfl_operand x, at;
    tfl_order o;
    int64_t where;
    int n, axis;
    if (!tfl_counts(b, 2, 2, b->node->n_out) || !tfl_input(b, 0, &at) || !read_input(b, &x, 1, &o) ||
        !tfl_integers(b, &at, 1, &where, &n)) {
        return false;
    }
    if (where < -QD_MAX_RANK || where > QD_MAX_RANK) return tfl_fail(b, "no axis of the input");
    if (!tfl_axis(b, (int)where, x.shape.rank, &axis)) return false;
    const int parts = b->node->n_out;
    if (parts < 1 || x.shape.of[axis] % parts)
        return tfl_fail(b, "%lld elements in %d equal parts", (long long)x.shape.of[axis], parts);
    o.shape.of[axis] /= parts;
    for (int i = 0; i < parts; i++) {
        if (!copy(b, &x, &o, i, &o.shape)) return false;
        o.offset += o.shape.of[axis] * o.steps[axis];
    }
    return true;
}
