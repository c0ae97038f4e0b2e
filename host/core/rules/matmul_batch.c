/* Products of matrices that are both made while running, and with matrices that ids name. */
#include "core/rules/rules.h"

/* ---- MATMUL_BATCH ------------------------------------------------------------------------------------------- */

/* Dimension i of four, those that a tensor lacks being 1. */
static int64_t size_at(const qd_tensor_desc *d, int i) {
    return i < 4 - d->rank ? 1 : d->shape[d->rank - 4 + i];
}

static bool divides(int64_t part, int64_t whole) {
    return part ? whole % part == 0 : whole == 0;
}

static qd_status check_batch(qd_node *n, const qd_symbols *s) {
    (void)s;
    const qd_tensor_desc w = qd_sized(n, n->in[0]), x = qd_sized(n, n->in[1]), y = qd_sized(n, n->out[0]);
    qd_matmul_batch_params *p = &n->params.matmul_batch;
    qd_status status;
    if (w.rank < 2 || x.rank < w.rank || y.rank != x.rank) {
        return qd_fail(
            QD_ERR_ARGUMENT,
            "matmul_batch: w, x and y have ranks %d, %d, %d; x and y need the same, w at least 2 and no more", w.rank,
            x.rank, y.rank);
    }
    if (size_at(&w, 3) != size_at(&x, 3) || size_at(&y, 3) != size_at(&w, 2) || size_at(&y, 2) != size_at(&x, 2) ||
        size_at(&y, 1) != size_at(&x, 1) || size_at(&y, 0) != size_at(&x, 0)) {
        return qd_fail(QD_ERR_ARGUMENT, "matmul_batch: y must be [A',B',M,N], where w is [A,B,N,K] and x [A',B',M,K]");
    }
    if (!divides(size_at(&w, 0), size_at(&x, 0)) || !divides(size_at(&w, 1), size_at(&x, 1))) {
        return qd_fail(QD_ERR_ARGUMENT, "matmul_batch: %lld × %lld matrices of x are no multiple of %lld × %lld of w",
                       (long long)size_at(&x, 0), (long long)size_at(&x, 1), (long long)size_at(&w, 0),
                       (long long)size_at(&w, 1));
    }
    if (n->dynamic && (n->in[1]->desc.shape[0] != QD_ROWS || n->out[0]->desc.shape[0] != QD_ROWS ||
                       (n->in[0]->desc.shape[0] == QD_ROWS && (w.rank != x.rank || x.rank == 2)))) {
        return qd_fail(QD_ERR_UNSUPPORTED, "matmul_batch: the rows of a run must be the first dimension of x and y");
    }
    for (int i = 0; i < 4; i++) {
        QD_TRY(qd_count_check("matmul_batch", size_at(&x, i)));
        QD_TRY(qd_count_check("matmul_batch", size_at(&w, i)));
    }
    QD_TRY(qd_count_check("matmul_batch", size_at(&x, 1) * size_at(&x, 2)));
    n->macs = (double)qd_span(&y, 1, y.rank) * (double)size_at(&x, 3);
    n->params_bytes = sizeof *p;
    *p = (qd_matmul_batch_params){
        .repeat_a = size_at(&w, 0) ? (qd_i32)(size_at(&x, 0) / size_at(&w, 0)) : 1,
        .repeat_b = size_at(&w, 1) ? (qd_i32)(size_at(&x, 1) / size_at(&w, 1)) : 1,
        .w_format = qd_numbers_of(w.format),
        .rows_at = 4 - x.rank,
    };
    qd_strides_of(n, n->in[0], &p->w);
    qd_strides_of(n, n->in[1], &p->x);
    qd_strides_of(n, n->out[0], &p->y);
error:
    return status;
}

/* Bound of size number i of three: one of them grows with the problem's size. */
static int64_t large(qd_choices *c, int i, int64_t bound) {
    return c->size > 1 && qd_choose(c, "large", 0, 2) == i ? bound * c->size : bound;
}

static void choose_batch(qd_choices *c, qd_problem *p) {
    const int rank = (int)qd_choose(c, "rank", 2, 4);
    const int64_t M = qd_choose_size(c, "M", large(c, 0, 9)), N = qd_choose_size(c, "N", large(c, 1, 40));
    const int64_t K = qd_choose_size(c, "K", large(c, 2, 70));
    const int64_t A = qd_choose(c, "A", 1, 2), B = qd_choose(c, "B", 1, 3);
    const int64_t more_a = qd_choose(c, "A' / A", 1, 2), more_b = qd_choose(c, "B' / B", 1, 5);
    const qd_format f = p->formats[0];
    /* w may lack dimensions that are 1. */
    const int lacks = rank > 2 && qd_choose(c, "w lacks", 0, 3) == 3 ? 1 : 0;
    if (rank == 2) {
        p->desc[0] = qd_desc(f, N, K, 0, 0);
        p->desc[1] = qd_desc(QD_FORMAT_F32, M, K, 0, 0);
        p->desc[QD_MAX_IN] = qd_desc(QD_FORMAT_F32, M, N, 0, 0);
    } else if (rank == 3) {
        p->desc[0] = lacks ? qd_desc(f, N, K, 0, 0) : qd_desc(f, B, N, K, 0);
        p->desc[1] = qd_desc(QD_FORMAT_F32, B * more_b, M, K, 0);
        p->desc[QD_MAX_IN] = qd_desc(QD_FORMAT_F32, B * more_b, M, N, 0);
    } else {
        p->desc[0] = lacks ? qd_desc(f, B, N, K, 0) : qd_desc(f, A, B, N, K);
        p->desc[1] = qd_desc(QD_FORMAT_F32, A * more_a, B * more_b, M, K);
        p->desc[QD_MAX_IN] = qd_desc(QD_FORMAT_F32, A * more_a, B * more_b, M, N);
    }
}

const qd_op_rules qd_rules_matmul_batch = {.strided = true, .check = check_batch, .choose = choose_batch};

/* ---- MATMUL_EXPERTS ----------------------------------------------------------------------------------------- */

static qd_status check_experts(qd_node *n, const qd_symbols *s) {
    const int64_t E = s->of['E' - 'A'], N = s->of['N' - 'A'], K = s->of['K' - 'A'];
    const int64_t S = s->of['S' - 'A'], U = s->of['U' - 'A'];
    qd_status status;
    if (U % S) {
        return qd_fail(QD_ERR_ARGUMENT, "matmul_experts: %lld rows of x for %lld ids; they must divide them",
                       (long long)S, (long long)U);
    }
    QD_TRY(qd_count_check("matmul_experts", E + 1));
    QD_TRY(qd_count_check("matmul_experts", U * N));
    n->macs = (double)U * (double)N * (double)K;
    n->params_bytes = sizeof n->params.matmul_experts;
    n->params.matmul_experts = (qd_matmul_experts_params){
        .experts = (qd_i32)E, .n = (qd_i32)N, .k = (qd_i32)K, .s = (qd_i32)S, .u = (qd_i32)U};
error:
    return status;
}

static void choose_experts(qd_choices *c, qd_problem *p) {
    const int64_t block = qd_format_get(p->formats[0])->block;
    int64_t *of = p->s.of;
    of['R' - 'A'] = qd_choose_size(c, "R", large(c, 0, 9));
    of['N' - 'A'] = qd_choose_size(c, "N", large(c, 1, 40));
    of['K' - 'A'] =
        block > 1 ? block * qd_choose(c, "K / block", 1, large(c, 2, 3)) : qd_choose_size(c, "K", large(c, 2, 70));
    of['E' - 'A'] = qd_choose(c, "E", 1, 5);
    of['S' - 'A'] = qd_choose(c, "S", 1, 3);
    of['U' - 'A'] = of['S' - 'A'] * qd_choose(c, "U / S", 1, 3);
}

/* Now and then ids of no expert. */
static bool fill_experts(qd_choices *c, const qd_problem *p, int i, void *data) {
    if (i != 2) return false;
    const int64_t E = p->s.of['E' - 'A'], outside[] = {-1, E, INT32_MIN, INT32_MAX};
    uint64_t stream = qd_stream(c, "ids");
    for (int64_t at = 0; at < qd_span(&p->desc[i], 0, 2); at++) {
        const int64_t id = qd_between(&stream, 0, E - 1);
        ((int32_t *)data)[at] = (int32_t)(qd_between(&stream, 0, 9) ? id : outside[qd_between(&stream, 0, 3)]);
    }
    return true;
}

const qd_op_rules qd_rules_matmul_experts = {.check = check_experts, .choose = choose_experts, .fill = fill_experts};
