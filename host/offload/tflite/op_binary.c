/* Sums, differences and products of two tensors. */
#include <string.h>

#include "operators.h"

/* The shape that both are repeated to. */
static bool broadcast(tfl_build *b, const tfl_shape *p, const tfl_shape *q, tfl_shape *out) {
    memset(out, 0, sizeof *out);
    out->rank = p->rank > q->rank ? p->rank : q->rank;
    for (int i = 0; i < out->rank; i++) {
        const int at_p = i - (out->rank - p->rank), at_q = i - (out->rank - q->rank);
        const int64_t of_p = at_p < 0 ? 1 : p->of[at_p], of_q = at_q < 0 ? 1 : q->of[at_q];
        if (of_p != of_q && of_p != 1 && of_q != 1)
            return tfl_fail(b, "sizes %lld and %lld do not go together", (long long)of_p, (long long)of_q);
        out->of[i] = of_p == 1 ? of_q : of_p;
    }
    return true;
}

/* The desc of a shape whose leading dimensions of 1 may be left out, so that it has at most the library's rank. */
static bool short_desc(tfl_build *b, qd_format f, const tfl_shape *s, qd_tensor_desc *d) {
    tfl_shape less = *s;
    while (less.rank > QD_MAX_RANK && less.of[0] == 1) {
        less.rank--;
        memmove(less.of, less.of + 1, (size_t)less.rank * sizeof *less.of);
    }
    if (less.rank > QD_MAX_RANK) return tfl_fail(b, "tensors of %d dimensions and different shapes", less.rank);
    *d = tfl_desc(f, &less);
    return true;
}

static bool find_descs(tfl_build *b, const tfl_operand *p, const tfl_operand *q, const tfl_operand *y,
                       const tfl_shape *shape, qd_tensor_desc d[3]) {
    if (tfl_same_shape(&p->shape, &q->shape)) { /* any number of dimensions */
        d[0] = tfl_desc(p->format, shape);
        d[1] = tfl_desc(q->format, shape);
        d[2] = tfl_desc(y->format, shape);
        return true;
    }
    return short_desc(b, p->format, &p->shape, &d[0]) && short_desc(b, q->format, &q->shape, &d[1]) &&
           short_desc(b, y->format, shape, &d[2]);
}

static bool combine(tfl_build *b, qd_op op, bool subtract, TfLiteFusedActivation activation) {
    tfl_operand p, q, y;
    qd_attrs attrs = {.binary = {.rounding = QD_ROUND_GEMMLOWP, .subtract = subtract}};
    tfl_shape shape;
    qd_tensor_desc d[3];
    bool whole;
    if (!tfl_counts(b, 2, 2, 1) || !tfl_input(b, 0, &p) || !tfl_input(b, 1, &q) || !tfl_output(b, 0, &y) ||
        !tfl_quant(b, &p, &attrs.binary.a) || !tfl_quant(b, &q, &attrs.binary.b) ||
        !tfl_quant(b, &y, &attrs.binary.y) || !broadcast(b, &p.shape, &q.shape, &shape) ||
        !find_descs(b, &p, &q, &y, &shape, d) ||
        !tfl_activation(b, activation, y.format, attrs.binary.y, &attrs.binary.min, &attrs.binary.max, &whole) ||
        !tfl_limits(b, attrs.binary.min, attrs.binary.max)) {
        return false;
    }
    if (p.format != q.format || p.format != y.format) return tfl_fail(b, "inputs and output differ in type");
    if (op == QD_OP_MUL_INT) {
        /* The host computes the ratio in float32. */
        attrs.binary.a.scale = attrs.binary.a.scale * attrs.binary.b.scale / attrs.binary.y.scale;
        attrs.binary.b.scale = attrs.binary.y.scale = 1;
    }
    qd_tensor *in[2];
    return tfl_view(b, &p, &d[0], &in[0]) && tfl_view(b, &q, &d[1], &in[1]) && tfl_result(b, &y, &shape, &d[2]) &&
           tfl_op(b, op, &attrs, in, 2, y.tensor);
}

bool tfl_add(tfl_build *b) {
    return combine(b, QD_OP_ADD_INT, false, ((const TfLiteAddParams *)b->node->params)->activation);
}

bool tfl_sub(tfl_build *b) {
    return combine(b, QD_OP_ADD_INT, true, ((const TfLiteSubParams *)b->node->params)->activation);
}

bool tfl_mul(tfl_build *b) {
    return combine(b, QD_OP_MUL_INT, false, ((const TfLiteMulParams *)b->node->params)->activation);
}
