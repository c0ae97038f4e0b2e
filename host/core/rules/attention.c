/* Attention with a mask, and softmax with one. */
#include <math.h>

#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

/* Bytes from one head's slope to the next. */
static int64_t slopes_step(const qd_node *n, const qd_tensor *slopes) {
    qd_strides s = {.step = {0}};
    if (slopes) qd_strides_of(n, slopes, &s);
    return s.step[3];
}

/* ---- ATTENTION_MASKED --------------------------------------------------------------------------------------- */

static qd_status check_shapes(const qd_node *n, const qd_tensor_desc *q, const qd_tensor_desc *k,
                              const qd_tensor_desc *v, const qd_tensor_desc *y) {
    const int64_t *sq = q->shape, *sk = k->shape, *sv = v->shape, *sy = y->shape;
    if (q->rank != 4 || k->rank != 4 || v->rank != 4 || y->rank != 4) {
        return qd_fail(QD_ERR_ARGUMENT, "attention_masked: q, k, v and y have ranks %d, %d, %d, %d; all must be 4",
                       q->rank, k->rank, v->rank, y->rank);
    }
    if (sk[3] != sq[3] || sv[2] != sk[2] || sv[1] != sk[1] || sv[0] != sk[0]) {
        return qd_fail(QD_ERR_ARGUMENT, "attention_masked: k must be [B,G,P,D] and v [B,G,P,E], where q is [B,H,T,D]");
    }
    if (sy[0] != sq[0] || sy[1] != sq[2] || sy[2] != sq[1] || sy[3] != sv[3]) {
        return qd_fail(QD_ERR_ARGUMENT, "attention_masked: y must be [B,T,H,E], where q is [B,H,T,D] and v [B,G,P,E]");
    }
    if (sq[1] % sk[1] || (sq[0] && (!sk[0] || sq[0] % sk[0]))) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "attention_masked: %lld heads of %lld batches are no multiple of the %lld of %lld in k and v",
                       (long long)sq[1], (long long)sq[0], (long long)sk[1], (long long)sk[0]);
    }
    if (sq[3] > QD_ATTENTION_MOST || sv[3] > QD_ATTENTION_MOST) {
        return qd_fail(QD_ERR_UNSUPPORTED, "attention_masked: heads of %lld and %lld elements; at most %d are possible",
                       (long long)sq[3], (long long)sv[3], QD_ATTENTION_MOST);
    }
    if (n->dynamic && (n->in[0]->desc.shape[0] != QD_ROWS || n->out[0]->desc.shape[0] != QD_ROWS)) {
        return qd_fail(QD_ERR_UNSUPPORTED, "attention_masked: the rows of a run must be the batches of q and y");
    }
    return QD_OK;
}

static qd_status check_mask(const qd_node *n, const qd_tensor_desc *q, int64_t positions) {
    if (!n->in[3]) return QD_OK;
    const qd_tensor_desc mask = qd_sized(n, n->in[3]);
    const int64_t *sm = mask.shape, *sq = q->shape;
    if (mask.rank == 4 && (!sq[0] || (sm[0] && sq[0] % sm[0] == 0)) && sq[1] % sm[1] == 0 && sm[2] >= sq[2] &&
        sm[3] == positions) {
        return QD_OK;
    }
    return qd_fail(
        QD_ERR_ARGUMENT,
        "attention_masked: the mask must be [B,H,T,P], B and H whole parts of q's, T at least q's, P that of "
        "k and v");
}

static qd_status check_attention_masked(qd_node *n, const qd_symbols *s) {
    const float scale = n->attrs.attention_masked.scale, softcap = n->attrs.attention_masked.softcap;
    const qd_tensor_desc q = qd_sized(n, n->in[0]), k = qd_sized(n, n->in[1]), v = qd_sized(n, n->in[2]),
                         y = qd_sized(n, n->out[0]);
    qd_attention_masked_params *p = &n->params.attention_masked;
    qd_status status;
    QD_TRY(check_shapes(n, &q, &k, &v, &y));
    QD_TRY(check_mask(n, &q, k.shape[2]));
    for (int i = 0; i < 4; i++) {
        QD_TRY(qd_count_check("attention_masked", q.shape[i]));
        QD_TRY(qd_count_check("attention_masked", k.shape[i]));
        if (n->in[3]) QD_TRY(qd_count_check("attention_masked", qd_sized(n, n->in[3]).shape[i]));
    }
    QD_TRY(qd_count_check("attention_masked", q.shape[1] * q.shape[2]));
    if (n->in[4] && s->of['H' - 'A'] != q.shape[1]) {
        return qd_fail(QD_ERR_ARGUMENT, "attention_masked: %lld slopes for %lld heads", (long long)s->of['H' - 'A'],
                       (long long)q.shape[1]);
    }
    if (!isfinite(scale) || !(softcap >= 0) || !isfinite(softcap) || (softcap > 0 && !isfinite(scale / softcap))) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "attention_masked: scale %g and softcap %g; both must be finite, and the cap not negative",
                       (double)scale, (double)softcap);
    }
    n->macs = (double)(q.shape[1] * q.shape[2]) * (double)k.shape[2] * (double)(q.shape[3] + v.shape[3]);
    n->params_bytes = sizeof *p;
    *p = (qd_attention_masked_params){.mask = {.n = {1, 1, 1, 1}},
                                      .kv_repeat = k.shape[0] ? (qd_i32)(q.shape[0] / k.shape[0]) : 1,
                                      .k_format = qd_numbers_of(k.format),
                                      .v_format = qd_numbers_of(v.format),
                                      .mask_format = n->in[3] ? qd_numbers_of(n->in[3]->desc.format) : QD_ABSENT,
                                      .slopes = n->in[4] != NULL,
                                      .slopes_step = slopes_step(n, n->in[4]),
                                      .scale = softcap > 0 ? scale / softcap : scale,
                                      .softcap = softcap};
    qd_strides_of(n, n->in[0], &p->q);
    qd_strides_of(n, n->in[1], &p->k);
    qd_strides_of(n, n->in[2], &p->v);
    if (n->in[3]) qd_strides_of(n, n->in[3], &p->mask);
    qd_strides_of(n, n->out[0], &p->y);
error:
    return status;
}

/* Bound of size number i of four: one of them grows with the problem's size. */
static int64_t large(qd_choices *c, int i, int64_t bound) {
    return c->size > 1 && qd_choose(c, "large", 0, 3) == i ? bound * c->size : bound;
}

static int64_t choose_elements(qd_choices *c, const char *name, qd_format f, int64_t most) {
    const int64_t block = qd_format_get(f)->block;
    const int64_t n = block > 1 ? block * qd_choose(c, name, 1, most / block) : qd_choose_size(c, name, most);
    return n < QD_ATTENTION_MOST ? n : QD_ATTENTION_MOST;
}

static void choose_attention_masked(qd_choices *c, qd_problem *p) {
    static const float scales[] = {0.125f, 1.0f, 0.03f, -0.25f, 0.0f};
    static const float caps[] = {0, 30, 2.5f};
    const int64_t B = qd_choose(c, "B", 1, 4), shared = qd_choose(c, "kv shared", 0, 2);
    const int64_t G = qd_choose(c, "G", 1, 3), H = G * qd_choose(c, "H / G", 1, 4);
    const int64_t T = qd_choose_size(c, "T", large(c, 0, 6)), P = qd_choose_size(c, "P", large(c, 1, 50));
    const int64_t kv = shared == 0 ? B : shared == 1 || B % 2 ? 1 : 2;
    const int64_t D = choose_elements(c, "D", p->formats[1], large(c, 2, 96));
    const int64_t E = choose_elements(c, "E", p->formats[2], large(c, 3, 96));
    p->desc[0] = qd_desc(QD_FORMAT_F32, B, H, T, D);
    p->desc[1] = qd_desc(p->formats[1], kv, G, P, D);
    p->desc[2] = qd_desc(p->formats[2], kv, G, P, E);
    const int64_t mask_b = qd_choose(c, "mask B", 0, 1) ? B : 1, mask_h = qd_choose(c, "mask H", 0, 2);
    p->desc[3] = qd_desc(p->formats[3], mask_b,
                         mask_h == 0   ? 1
                         : mask_h == 1 ? G
                                       : H,
                         T + qd_choose(c, "mask more", 0, 2), P);
    p->desc[QD_MAX_IN] = qd_desc(QD_FORMAT_F32, B, T, H, E);
    p->s.of['H' - 'A'] = H;
    p->attrs.attention_masked.scale = scales[qd_choose(c, "scale", 0, 4)];
    p->attrs.attention_masked.softcap = caps[qd_choose(c, "softcap", 0, 2)];
}

static void put(qd_format f, void *data, int64_t i, float x) {
    if (f == QD_FORMAT_F32) {
        ((float *)data)[i] = x;
    } else {
        ((uint16_t *)data)[i] = f == QD_FORMAT_F16 ? qd_float_to_half(x) : qd_float_to_bf16(x);
    }
}

/* Kinds of masks: all seen; what is later left out; any left out; whole blocks; whole rows; distances. */
enum { SEEN, CAUSAL, ANY, BLOCKS, ROWS, DISTANCES };

static void fill_mask(qd_choices *c, const qd_tensor_desc *d, void *data) {
    const int64_t kind = qd_choose(c, "mask kind", SEEN, DISTANCES), P = d->shape[d->rank - 1];
    const int64_t T = d->rank > 1 ? d->shape[d->rank - 2] : 1;
    uint64_t stream = qd_stream(c, "mask");
    bool out = false;
    for (int64_t i = 0; i < qd_span(d, 0, d->rank); i++) {
        const int64_t t = i / P % T, j = i % P;
        const float u = (float)qd_between(&stream, -8, 8) * 0.25f;
        const bool now = qd_between(&stream, 0, 2);
        if (kind == ANY || (kind == BLOCKS && j % 16 == 0) || (kind == ROWS && j == 0)) out = now;
        if (kind == CAUSAL) out = j > t + P - T;
        put(d->format, data, i, out ? -INFINITY : kind == DISTANCES ? (float)(t - j) : kind == SEEN ? 0.0f : u);
    }
}

/* Numbers of which a few are not finite: where the mask leaves them out, they do no harm. Few, so that some rows leave
 * out all of them. */
static bool fill_broken(qd_choices *c, const char *name, const qd_tensor_desc *d, void *data) {
    static const float nasty[] = {INFINITY, -INFINITY, NAN, 1e38f};
    if (d->format == QD_FORMAT_Q8_0 || qd_choose(c, "broken", 0, 3) < 3) return false;
    uint64_t stream = qd_stream(c, name);
    for (int64_t i = 0; i < qd_span(d, 0, d->rank); i++) {
        const float u = (float)qd_between(&stream, -1000, 1000) * 1e-3f;
        put(d->format, data, i, qd_between(&stream, 0, 999) ? u : nasty[qd_between(&stream, 0, 3)]);
    }
    return true;
}

static bool fill_attention_masked(qd_choices *c, const qd_problem *p, int i, void *data) {
    if (i == 1 || i == 2) return fill_broken(c, i == 1 ? "k" : "v", &p->desc[i], data);
    if (i != 3) return false;
    fill_mask(c, &p->desc[i], data);
    return true;
}

/* ---- SOFTMAX ------------------------------------------------------------------------------------------------ */

static qd_status check_softmax_mask(const qd_node *n, const qd_tensor_desc *x) {
    if (!n->in[1]) return QD_OK;
    const qd_tensor_desc mask = qd_sized(n, n->in[1]);
    bool fits = mask.rank <= x->rank;
    for (int i = 1; fits && i <= mask.rank; i++) { /* from the last dimension on */
        const int64_t have = mask.shape[mask.rank - i], of = x->shape[x->rank - i];
        fits = have == of || (i > 1 && have && of % have == 0) || (i == 2 && have >= of);
    }
    if (fits) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT,
                   "softmax: the mask must have as many columns as x, at least as many rows, and other dimensions that "
                   "divide those of x");
}

static qd_status check_softmax(qd_node *n, const qd_symbols *s) {
    const qd_tensor_desc x = qd_sized(n, n->in[0]);
    const int64_t heads = x.rank > 2 ? x.shape[x.rank - 3] : 1;
    qd_softmax_params *p = &n->params.softmax;
    qd_status status;
    QD_TRY(qd_same_shape_check("softmax", n));
    if (x.rank == 1 && n->dynamic)
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax: the rows of a run cannot be the last dimension");
    QD_TRY(check_softmax_mask(n, &x));
    for (int i = 0; i < x.rank; i++)
        QD_TRY(qd_count_check("softmax", x.shape[i]));
    QD_TRY(qd_count_check("softmax", qd_span(&x, 1, x.rank)));
    if (n->in[1]) QD_TRY(qd_count_check("softmax", n->in[1]->desc.shape[0]));
    if (n->in[2] && s->of['H' - 'A'] != heads) {
        return qd_fail(QD_ERR_ARGUMENT, "softmax: %lld slopes for %lld heads", (long long)s->of['H' - 'A'],
                       (long long)heads);
    }
    if (!isfinite(n->attrs.softmax.scale))
        return qd_fail(QD_ERR_ARGUMENT, "softmax: scale %g must be finite", (double)n->attrs.softmax.scale);
    if (n->attrs.softmax.max_bias != 0 && n->in[1] && !n->in[2])
        return qd_fail(QD_ERR_ARGUMENT, "softmax: max_bias without slopes; make them, one for each head");
    n->params_bytes = sizeof *p;
    *p = (qd_softmax_params){.mask = {.n = {1, 1, 1, 1}},
                             .rows = x.rank > 1 ? (qd_i32)qd_span(&x, 1, x.rank - 1) : 0,
                             .mask_format = n->in[1] ? qd_numbers_of(n->in[1]->desc.format) : QD_ABSENT,
                             .slopes = n->in[2] != NULL,
                             .slopes_step = slopes_step(n, n->in[2]),
                             .scale = n->attrs.softmax.scale};
    qd_strides_of(n, n->in[0], &p->x);
    if (n->in[1]) qd_strides_of(n, n->in[1], &p->mask);
    qd_strides_of(n, n->out[0], &p->y);
error:
    return status;
}

static void choose_softmax(qd_choices *c, qd_problem *p) {
    static const char *const names[] = {"d0", "d1", "d2"};
    static const float scales[] = {1.0f, 0.125f, 0.03f, -3.0f, 0.0f};
    qd_tensor_desc x = {QD_FORMAT_F32, (int)qd_choose(c, "rank", 1, QD_MAX_RANK), {0}};
    const int last = x.rank - 1;
    for (int i = 0; i < last; i++)
        x.shape[i] = qd_choose_size(c, names[i], 3 + c->size);
    x.shape[last] = qd_choose_size(c, "C", qd_choose(c, "wide", 0, 7) == 7 ? 300 * c->size : 70 * c->size);
    qd_tensor_desc mask = x;
    for (int i = 0; i < last; i++) {
        if (x.shape[i] % 2 == 0 && qd_choose(c, "mask half", 0, 1)) mask.shape[i] /= 2;
        if (qd_choose(c, "mask repeats", 0, 2) == i) mask.shape[i] = 1;
    }
    if (last > 0 && qd_choose(c, "mask more", 0, 2) == 2) mask.shape[last - 1] = x.shape[last - 1] + 1;
    if (last > 0 && qd_choose(c, "mask lacks", 0, 3) == 3) {
        for (int i = 0; i < last; i++)
            mask.shape[i] = mask.shape[i + 1];
        mask.shape[last] = 0;
        mask.rank--;
    }
    mask.format = p->formats[1];
    p->desc[0] = p->desc[QD_MAX_IN] = x;
    p->desc[1] = mask;
    p->s.of['H' - 'A'] = x.rank > 2 ? x.shape[last - 2] : 1;
    p->attrs.softmax.scale = scales[qd_choose(c, "scale", 0, 4)];
}

static bool fill_softmax(qd_choices *c, const qd_problem *p, int i, void *data) {
    if (i == 0) return fill_broken(c, "x", &p->desc[i], data);
    if (i == 1) fill_mask(c, &p->desc[i], data);
    return i == 1;
}

const qd_op_rules qd_rules_attention_masked = {.attrs = true,
                                               .strided = true,
                                               .check = check_attention_masked,
                                               .choose = choose_attention_masked,
                                               .fill = fill_attention_masked};
const qd_op_rules qd_rules_softmax = {.attrs = true,
                                      .strided = true,
                                      .in_place = 1,
                                      .check = check_softmax,
                                      .choose = choose_softmax,
                                      .fill = fill_softmax};
