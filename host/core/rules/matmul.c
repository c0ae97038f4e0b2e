/* Matrix products of codes. */
#include <math.h>
#include <string.h>

#include "core/rules/rules.h"

/* ---- MATMUL_INT --------------------------------------------------------------------------------------------- */

/* One zero point for all, or one for each row of x. */
static qd_status check_x_zero(const qd_node *n, const qd_symbols *s, qd_i32 *share) {
    *share = QD_ABSENT;
    const qd_tensor *zero = n->in[3];
    if (!zero) return QD_OK;
    const qd_tensor_desc d = qd_sized(n, zero);
    const int64_t count = qd_span(&d, 0, d.rank), rows = n->max_rows * s->of['M' - 'A'];
    *share = count == 1 && zero->desc.shape[0] != QD_ROWS ? QD_SHARED : QD_EACH;
    if (*share == QD_SHARED || (count == rows && d.shape[0] == n->max_rows)) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "matmul_int: x_zero has %lld elements; it needs 1, or one for each of %lld rows",
                   (long long)count, (long long)rows);
}

static qd_status check_matmul_int(qd_node *n, const qd_symbols *s) {
    const qd_tensor *w = n->in[0], *x = n->in[1];
    qd_matmul_int_params *p = &n->params.matmul_int;
    n->params_bytes = sizeof *p;
    const int64_t N = s->of['N' - 'A'], K = s->of['K' - 'A'], M = s->of['M' - 'A'];
    *p = (qd_matmul_int_params){.count = (qd_i32)N,
                                .n = (qd_i32)N,
                                .k = (qd_i32)K,
                                .m = (qd_i32)M,
                                .batched = w->desc.rank == 3,
                                .w_code = qd_code_of(w->desc.format),
                                .x_code = qd_code_of(x->desc.format),
                                .w_zero = qd_share(n->in[2]),
                                .bias = n->in[4] ? QD_EACH : QD_ABSENT,
                                .wide = n->attrs.matmul_int.wide};
    n->macs = (double)M * (double)N * (double)K;
    qd_status status = qd_count_check("matmul_int", M * N);
    if (status) return status;
    status = check_x_zero(n, s, &p->x_zero);
    if (status) return status;
    const int64_t product = qd_code_reach(w->desc.format, n->in[2]) * qd_code_reach(x->desc.format, n->in[3]);
    if (!p->wide && K > INT32_MAX / product) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "matmul_int: sums of %lld products of up to %lld may not fit 32 bits (%lld do); ask for 64-bit "
                       "sums with `wide`, or split K",
                       (long long)K, (long long)product, (long long)(INT32_MAX / product));
    }
    return qd_output_check("matmul_int", &n->attrs.matmul_int.y, n->out[0]->desc.format, n->in[5], &p->y);
}

/* Bound of size number i of four: one of them grows with the problem's size. */
static int64_t large(qd_choices *c, int i, int64_t bound) {
    return c->size > 1 && qd_choose(c, "large", 0, 3) == i ? bound * c->size : bound;
}

/* Whether rows are as long as only 64-bit sums allow. */
static bool is_long(qd_choices *c) {
    return qd_choose(c, "wide", 0, 3) == 3 && qd_choose(c, "long", 0, 2) == 2;
}

static void choose_matmul_int(qd_choices *c, qd_problem *p) {
    int64_t *of = p->s.of;
    of['R' - 'A'] = qd_choose_size(c, "R", large(c, 0, 4));
    of['M' - 'A'] = qd_choose_size(c, "M", large(c, 1, 5));
    of['N' - 'A'] = qd_choose_size(c, "N", large(c, 2, 40));
    of['K' - 'A'] = qd_choose_size(c, "K", large(c, 3, 100) * (c->size > 1 ? 2 : 1));
    p->attrs.matmul_int.wide = qd_choose(c, "wide", 0, 3) == 3;
    if (qd_choose(c, "deep", 0, 9) == 9) of['K' - 'A'] += 1030; /* more than kernels take at once */
    if (is_long(c)) { /* sums beyond 32 bits: of products of 128 · 127, too */
        of['R' - 'A'] = of['M' - 'A'] = 1;
        of['N' - 'A'] = qd_choose(c, "long N", 1, 2);
        of['K' - 'A'] = 132200 + qd_choose(c, "K more", 0, 100);
    }
    p->attrs.matmul_int.y = qd_choose_requant(c, p->formats[QD_MAX_IN]);
    p->present[5] = p->formats[QD_MAX_IN] != QD_FORMAT_I32 || qd_choose(c, "requant", 0, 1);
    if (p->formats[0] == QD_FORMAT_U4 || p->formats[0] == QD_FORMAT_I4)
        p->present[2] = (int)qd_choose(c, "w zero", 0, 1);
    const bool batch = of['M' - 'A'] > 1;
    p->desc[3] = (qd_tensor_desc){QD_FORMAT_I32, 1, {1}};
    if (qd_choose(c, "x zero each", 0, 1)) {
        p->desc[3] = (qd_tensor_desc){QD_FORMAT_I32, batch ? 2 : 1, {of['R' - 'A'], batch ? of['M' - 'A'] : 0}};
    }
}

/* Codes of which the sum of products is as large as can be, of either sign. */
static void fill_long(qd_choices *c, const qd_tensor_desc *d, bool is_x, void *data) {
    const int code = qd_code_of(d->format), rank = d->rank;
    const bool negative = is_x && qd_choose(c, "negative", 0, 1);
    const int byte = !QD_CODE_SIGNED(code) ? 0xff : QD_CODE_BITS(code) == 4 ? 0x88 : negative ? 0x7f : 0x80;
    memset(data, byte, (size_t)qd_span(d, 0, rank - 1) * qd_format_row_bytes(d->format, d->shape[rank - 1]));
}

/* Operands of sums that are small, and multiplied by a half to a sixteenth: codes within their range, many of them
 * ties. */
static bool fill_for_ties(qd_choices *c, const qd_problem *p, int i, void *data) {
    const qd_tensor_desc *d = &p->desc[i];
    const int64_t n = qd_span(d, 0, d->rank);
    const size_t bytes = (size_t)qd_span(d, 0, d->rank - 1) * qd_format_row_bytes(d->format, d->shape[d->rank - 1]);
    uint64_t stream = qd_stream(c, "ties");
    if (i == 0) return false;
    memset(data, 0, bytes);
    for (int64_t k = 0; i == 5 && k < n / 2; k++) {
        const float multiplier = ldexpf(1.0f, (int)qd_between(&stream, -4, -1));
        qd_requantize_table(p->attrs.matmul_int.y.rounding, 1.0f, &multiplier, 1, 1.0f, (int32_t *)data + 2 * k);
    }
    for (size_t k = 0; i == 1 && k < bytes; k++)
        ((unsigned char *)data)[k] = qd_between(&stream, 0, 3) == 0;
    return true;
}

static bool fill_matmul_int(qd_choices *c, const qd_problem *p, int i, void *data) {
    const int64_t n = qd_span(&p->desc[i], 0, p->desc[i].rank);
    const int others = p->attrs.matmul_int.y.rounding == QD_ROUND_AWAY ? 1 : 3; /* of ties, the first one is fond */
    if (p->present[5] && !is_long(c) && qd_choose(c, "ties", 0, others) == 0) return fill_for_ties(c, p, i, data);
    switch (i) {
        case 0:
        case 1:
            if (is_long(c)) fill_long(c, &p->desc[i], i == 1, data);
            return is_long(c);
        case 2:
            qd_fill_zeros(c, "w zero", p->formats[0], n, data);
            return true;
        case 3:
            qd_fill_zeros(c, "x zero", p->formats[1], n, data);
            return true;
        case 4:
            qd_fill_bias(c, n, data);
            return true;
        case 5:
            qd_fill_requant(c, p->attrs.matmul_int.y.rounding, n / 2, data);
            return true;
        default:
            return false;
    }
}

const qd_op_rules qd_rules_matmul_int = {
    .attrs = true, .check = check_matmul_int, .choose = choose_matmul_int, .fill = fill_matmul_int};

/* ---- MATMUL_GROUP ------------------------------------------------------------------------------------------- */

static qd_status group_formats(qd_op op, const qd_format in[], const qd_format out[]) {
    (void)op, (void)out;
    if (in[2] != QD_FORMAT_F32 && in[3] == QD_FORMAT_F32) {
        return qd_fail(QD_ERR_UNSUPPORTED, "matmul_group: zero points that are f32 need x to be f32");
    }
    return QD_OK;
}

static qd_status check_matmul_group(qd_node *n, const qd_symbols *s) {
    const qd_tensor *w = n->in[0], *x = n->in[2];
    qd_matmul_group_params *p = &n->params.matmul_group;
    n->params_bytes = sizeof *p;
    const int64_t N = s->of['N' - 'A'], K = s->of['K' - 'A'], G = s->of['G' - 'A'];
    const int64_t asked = n->attrs.matmul_group.group;
    if (asked < 0) return qd_fail(QD_ERR_ARGUMENT, "matmul_group: a group of %lld codes", (long long)asked);
    const int64_t group = asked && asked < K ? asked : K;
    if (G != (K + group - 1) / group) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "matmul_group: %lld scales in a row where %lld codes in groups of %lld need %lld", (long long)G,
                       (long long)K, (long long)group, (long long)((K + group - 1) / group));
    }
    n->macs = (double)N * (double)K;
    *p = (qd_matmul_group_params){.count = (qd_i32)N,
                                  .n = (qd_i32)N,
                                  .k = (qd_i32)K,
                                  .group = (qd_i32)group,
                                  .groups = (qd_i32)G,
                                  .w_code = qd_code_of(w->desc.format),
                                  .x_code = qd_code_of(x->desc.format),
                                  .w_scale = qd_share(n->in[1]),
                                  .w_zero = qd_share(n->in[3]),
                                  .w_zero_is_float = n->in[3] && n->in[3]->desc.format == QD_FORMAT_F32,
                                  .x_scale = qd_share(n->in[4]),
                                  .x_zero = qd_share(n->in[5]),
                                  .bias = n->in[6] ? QD_EACH : QD_ABSENT};
    if (x->desc.format == QD_FORMAT_F32) {
        if (n->in[4] || n->in[5]) {
            return qd_fail(QD_ERR_UNSUPPORTED, "matmul_group: f32 x has neither a scale nor a zero point");
        }
        return QD_OK;
    }
    const int64_t product = qd_code_reach(w->desc.format, n->in[3]) * qd_code_reach(x->desc.format, n->in[5]);
    if (p->group > INT32_MAX / product) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "matmul_group: sums of %d products of up to %lld may not fit 32 bits; use smaller groups",
                       p->group, (long long)product);
    }
    return QD_OK;
}

static void choose_matmul_group(qd_choices *c, qd_problem *p) {
    int64_t *of = p->s.of;
    int64_t K = qd_choose_size(c, "K", large(c, 3, 150)), group = 0;
    switch (qd_choose(c, "group kind", 0, 3)) {
        case 1:
            group = 16 << qd_choose(c, "group 2^", 0, 3);
            break;
        case 2:
            group = qd_choose(c, "group", 1, 50);
            break;
        case 3:
            group = qd_choose(c, "long group", 1, K + 5);
            break;
        default:
            break;
    }
    if (qd_choose(c, "deep", 0, 9) == 9) { /* groups of more than kernels take at once */
        K += 1030;
        group = 16 * qd_choose(c, "deep group", 33, 50);
    }
    of['R' - 'A'] = qd_choose_size(c, "R", large(c, 0, 7));
    of['N' - 'A'] = qd_choose_size(c, "N", large(c, 2, 40));
    of['K' - 'A'] = K;
    of['G' - 'A'] = group ? (K + group - 1) / group : 1;
    p->attrs.matmul_group.group = group;
    if (p->formats[2] == QD_FORMAT_F32) p->present[4] = p->present[5] = 0;
}

static bool fill_matmul_group(qd_choices *c, const qd_problem *p, int i, void *data) {
    const int64_t n = qd_span(&p->desc[i], 0, p->desc[i].rank);
    switch (i) {
        case 1: { /* now and then scales of a broken model */
            static const float nasty[] = {INFINITY, NAN, 0, -0.0f, 1e30f, -1};
            if (qd_choose(c, "nasty scales", 0, 5) < 5) return false;
            uint64_t stream = qd_stream(c, "nasty scales");
            for (int64_t g = 0; g < n; g++)
                ((float *)data)[g] = qd_between(&stream, 0, 3) ? 0.5f : nasty[qd_next_random(&stream) % 6];
            return true;
        }
        case 3:
            if (p->formats[3] != QD_FORMAT_I32) return false;
            qd_fill_zeros(c, "w zero", p->formats[0], n, data);
            return true;
        case 5:
            qd_fill_zeros(c, "x zero", p->formats[2], n, data);
            return true;
        default:
            return false;
    }
}

const qd_op_rules qd_rules_matmul_group = {.attrs = true,
                                           .formats = group_formats,
                                           .check = check_matmul_group,
                                           .choose = choose_matmul_group,
                                           .fill = fill_matmul_group};
