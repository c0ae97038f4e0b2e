/* Rows of a tensor that ids name. */
#include <math.h>
#include <string.h>

#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

static qd_i32 format_number(qd_format f) {
    switch (f) {
        case QD_FORMAT_F16:
            return QD_SET_ROWS_F16;
        case QD_FORMAT_BF16:
            return QD_SET_ROWS_BF16;
        case QD_FORMAT_Q8_0:
            return QD_SET_ROWS_Q8_0;
        case QD_FORMAT_Q4_0:
            return QD_SET_ROWS_Q4_0;
        case QD_FORMAT_Q4_1:
            return QD_SET_ROWS_Q4_1;
        default:
            return QD_SET_ROWS_F32;
    }
}

/* x [...,R,C], ids [...,R], y [...,V,C]. */
static qd_status check_shapes(const qd_node *n, const qd_tensor_desc *x, const qd_tensor_desc *ids,
                              const qd_tensor_desc *y) {
    const int rank = x->rank;
    if (rank < 2 || y->rank != rank || ids->rank != rank - 1) {
        return qd_fail(QD_ERR_ARGUMENT, "set_rows: x and y need rank 2 to 4, ids one less; these are %d, %d and %d",
                       rank, y->rank, ids->rank);
    }
    bool same = x->shape[rank - 1] == y->shape[rank - 1];
    for (int k = 0; k + 2 < rank; k++)
        same = same && x->shape[k] == y->shape[k];
    if (!same) return qd_fail(QD_ERR_ARGUMENT, "set_rows: x and y must have the same sizes but for their rows");
    for (int k = 0; k + 1 < rank; k++) {
        const int64_t own = ids->shape[k], all = x->shape[k];
        if (own == all || (k + 2 < rank && own && all % own == 0)) continue;
        return qd_fail(QD_ERR_ARGUMENT, "set_rows: dimension %d of ids is %lld, which does not fit the %lld of x", k,
                       (long long)own, (long long)all);
    }
    const bool run = n->in[0]->desc.shape[0] == QD_ROWS;
    if ((n->in[1]->desc.shape[0] == QD_ROWS && !run) || (n->out[0]->desc.shape[0] == QD_ROWS && (!run || rank == 2)))
        return qd_fail(QD_ERR_ARGUMENT,
                       "set_rows: the rows of the run must be the first dimension of x, and no ids of y");
    return QD_OK;
}

static qd_status check(qd_node *n, const qd_symbols *s) {
    (void)s;
    const qd_tensor_desc x = qd_sized(n, n->in[0]), ids = qd_sized(n, n->in[1]), y = qd_sized(n, n->out[0]);
    qd_set_rows_params *p = &n->params.set_rows;
    qd_status status;
    double elements = 1;
    memset(p, 0, sizeof *p);
    n->params_bytes = sizeof *p;
    QD_TRY(check_shapes(n, &x, &ids, &y));
    for (int k = 0; k < x.rank; k++) {
        QD_TRY(qd_count_check("set_rows", x.shape[k]));
        QD_TRY(qd_count_check("set_rows", y.shape[k]));
        elements *= (double)x.shape[k];
    }
    QD_TRY(qd_count_check("set_rows", elements < (double)INT32_MAX ? (int64_t)elements : INT32_MAX));
    if (!n->dynamic) n->max_rows = x.shape[0]; /* the rows are x's, and not those of the table */
    qd_strides_of(n, n->in[0], &p->x);
    qd_strides_of(n, n->in[1], &p->ids);
    qd_strides_of(n, n->out[0], &p->y);
    p->rows_at = 4 - x.rank;
    p->count = (qd_i32)y.shape[y.rank - 2];
    p->format = format_number(y.format);
    /* Sizes of ids where they repeat, else 0: they go along. */
    for (int k = 1; k < 4; k++)
        p->ids.n[k] = p->ids.n[k] == p->x.n[k - 1] ? 0 : p->ids.n[k];
    p->x.n[p->rows_at] = 1;
error:
    return status;
}

static void choose(qd_choices *c, qd_problem *p) {
    static const char *const sizes[] = {"d0", "d1"}, *const times[] = {"times0", "times1"};
    const int rank = 2 + (int)qd_choose(c, "leading", 0, 2);
    const int block = qd_format_get(p->formats[QD_MAX_IN])->block;
    const int64_t R = qd_choose_size(c, "R", 4 + 2 * c->size);
    const int64_t C = block > 1 ? block * qd_choose(c, "blocks", 1, 2 * c->size) : qd_choose_size(c, "C", 70 * c->size);
    qd_tensor_desc x = {0, rank, {0}}, ids = {0, rank - 1, {0}}, y = {0, rank, {0}};
    for (int k = 0; k + 2 < rank; k++) {
        ids.shape[k] = qd_choose_size(c, sizes[k], 1 + c->size);
        x.shape[k] = y.shape[k] = ids.shape[k] * qd_choose(c, times[k], 1, 3);
    }
    x.shape[rank - 2] = ids.shape[rank - 2] = R;
    y.shape[rank - 2] = R + qd_choose(c, "more rows", 0, 3);
    x.shape[rank - 1] = y.shape[rank - 1] = C;
    p->desc[0] = x;
    p->desc[1] = ids;
    p->desc[QD_MAX_IN] = y;
}

/* Rows of y upward or downward from any one, and some that it has not. */
static void fill_ids(qd_choices *c, const qd_problem *p, int32_t *ids) {
    const qd_tensor_desc *d = &p->desc[1], *y = &p->desc[QD_MAX_IN];
    const int64_t count = y->shape[y->rank - 2], R = d->shape[d->rank - 1], lists = qd_span(d, 0, d->rank - 1);
    uint64_t stream = qd_stream(c, "ids");
    const int64_t outside[] = {-1, count, INT32_MIN, INT32_MAX}, odds = qd_choose(c, "outside", 0, 3) ? 15 : 2;
    for (int64_t l = 0; l < lists; l++) {
        const int64_t first = qd_between(&stream, 0, count - 1);
        const int64_t step = qd_between(&stream, 0, 1) ? 1 : count - 1; /* no row comes twice */
        for (int64_t r = 0; r < R; r++) {
            const int64_t id = (first + r * step) % count;
            ids[l * R + r] = (int32_t)(qd_between(&stream, 0, odds) ? id : outside[qd_between(&stream, 0, 3)]);
        }
    }
}

/* Any bits; of blocks most are plain, or full of ties, equal magnitudes of both signs, zeros of both signs, values too
 * small for a scale, or some that are not finite. */
static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    static const float nasty[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-40f, -0.0f, 0, 65504, 1e-38f};
    if (i == 1) {
        fill_ids(c, p, data);
        return true;
    }
    if (i) return false;
    const bool blocks = qd_format_get(p->formats[QD_MAX_IN])->block > 1;
    const int64_t style = qd_choose(c, "x floats", 0, 7);
    uint64_t stream = qd_stream(c, "x");
    for (int64_t e = 0; e < qd_span(&p->desc[0], 0, p->desc[0].rank); e++) {
        const int64_t r = qd_between(&stream, -127, 127), which = qd_between(&stream, 0, 99);
        float x = (float)qd_between(&stream, -1000000, 1000000) * 1e-6f;
        if (style == 1) x = (float)r;
        if (style == 2 || style > 5) x = which < 8 ? copysignf(127.0f, (float)r) : (float)r * 0.5f;
        if (style == 3) x = (float)(r % 4) * 0.25f;
        if (style == 4 && which < 10) x = nasty[which];
        if (style == 5) x *= 1e-38f;
        if (!blocks) x = qd_as_f32(qd_random_float_bits(&stream));
        ((float *)data)[e] = x;
    }
    return true;
}

const qd_op_rules qd_rules_set_rows = {.strided = true, .check = check, .choose = choose, .fill = fill};
