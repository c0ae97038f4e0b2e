/* Operators of language models. */
#include "core/rules/rules.h"

#include <math.h>
#include <string.h>

#include "qdot/qdot_num.h"

/* ---- Choosing ----------------------------------------------------------------------------------------------- */

/* Sizes that every row of qdot_ops.def for language models is made of. A last dimension is a multiple of every block
 * that is cut along it. */
static void choose_sizes(qd_choices *c, qd_problem *p) {
    static const int64_t dims[] = {64, 32, 96, 128, 16, 80}; /* the first four are whole A8 blocks of heads */
    const bool blocked_out = p->formats[QD_MAX_IN] == QD_FORMAT_A8;
    int64_t *of = p->s.of;
    const int64_t most = qd_choose(c, "many rows", 0, 2) ? 5 : 17;
    of['R' - 'A'] = qd_choose(c, "R", 1, most * c->size);
    of['G' - 'A'] = qd_choose(c, "G", 1, 3);
    of['H' - 'A'] = of['G' - 'A'] * qd_choose(c, "H / G", 1, 4);
    of['D' - 'A'] = dims[qd_choose(c, "D index", 0, blocked_out ? 3 : 5)];
    /* More columns than a work-item takes at once. Before the columns, so that shrinking ends it first. */
    const bool wide = qd_choose(c, "wide", 0, 5) == 5;
    for (const char *letter = "CKNV"; *letter; letter++) {
        int64_t unit = 1;
        for (int i = 0; i < QD_OPERANDS; i++) {
            const qd_operand_spec *o = qd_operand_at(p->spec, i);
            if (o && o->dim[o->rank - 1].a == *letter) {
                const int64_t block = qd_format_get(p->formats[i])->block;
                if (block > unit) unit = block;
            }
        }
        const char name[] = {*letter, unit > 1 ? '/' : 0, 'b', 0};
        const int64_t count = unit == 1 ? 75 : unit <= 32 ? 7 : 1 + 256 / unit;
        of[*letter - 'A'] = unit * qd_choose(c, name, 1, count * c->size);
    }
    if (of['C' - 'A'] > 1 && wide) of['C' - 'A'] *= 1 + 512 / of['C' - 'A'];
    const int64_t R = of['R' - 'A'];
    const int64_t room = R + qd_choose(c, "positions beyond", 0, 60 * c->size) * qd_choose(c, "longer cache", 0, 1);
    of['P' - 'A'] = (room + 15) / 16 * 16;
    p->position = qd_choose(c, "position", 0, of['P' - 'A'] - R);
    /* Rows before and behind the cache, too: they do no harm. */
    if (qd_choose(c, "outside", 0, 5) == 5) p->position = qd_choose(c, "far", 0, 1) ? of['P' - 'A'] - R / 2 : -(R / 2);
}

/* RMS_NORM and LAYER_NORM, whose attributes are one struct. 0 divides rows of one value by 0. */
static void choose_norm(qd_choices *c, qd_problem *p) {
    static const float epsilons[] = {1e-6f, 1e-5f, 0};
    choose_sizes(c, p);
    p->attrs.rms_norm.epsilon = epsilons[qd_choose(c, "epsilon", 0, p->op == QD_OP_LAYER_NORM ? 2 : 1)];
}

static void choose_rope(qd_choices *c, qd_problem *p) {
    choose_sizes(c, p);
    if (qd_choose(c, "odd D", 0, 2) == 2) p->s.of['D' - 'A'] = 2 * qd_choose(c, "D / 2", 1, 40);
    p->attrs.rope.heads = (int)p->s.of['H' - 'A'];
    p->attrs.rope.head_dim = (int)p->s.of['D' - 'A'];
    p->attrs.rope.neox = qd_choose(c, "neox", 0, 1);
    p->s.of['E' - 'A'] = p->s.of['D' - 'A'];
    if (qd_choose(c, "partial", 0, 2) == 2) {
        p->s.of['E' - 'A'] = 2 * qd_choose(c, "E / 2", 1, p->s.of['D' - 'A'] / 2);
        p->attrs.rope.dims = (int)p->s.of['E' - 'A'];
    }
}

/* Columns of a cache: with int8 codes there is a scale behind them. */
static int64_t cache_columns(qd_format f, int64_t head_dim) {
    return f == QD_FORMAT_I8 ? QD_KV_I8_COLUMNS(head_dim) : head_dim;
}

static void choose_kv(qd_choices *c, qd_problem *p) {
    choose_sizes(c, p);
    p->s.of['E' - 'A'] = cache_columns(p->formats[QD_MAX_IN], p->s.of['D' - 'A']);
    p->attrs.kv.heads = (int)p->s.of['G' - 'A'];
    p->attrs.kv.head_dim = (int)p->s.of['D' - 'A'];
}

static void choose_attention(qd_choices *c, qd_problem *p) {
    choose_sizes(c, p);
    p->s.of['E' - 'A'] = cache_columns(p->formats[1], p->s.of['D' - 'A']);
    p->attrs.attention.heads = (int)p->s.of['H' - 'A'];
    p->attrs.attention.kv_heads = (int)p->s.of['G' - 'A'];
    p->attrs.attention.head_dim = (int)p->s.of['D' - 'A'];
    p->attrs.attention.scale = 0.125f;
}

/* Floats of which some are not finite: what becomes of them is defined. */
static void fill_not_finite(qd_choices *c, const qd_tensor_desc *d, float *x) {
    static const float nasty[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-40f, -0.0f, 0};
    uint64_t stream = qd_stream(c, "x");
    for (int64_t i = 0; i < d->shape[0] * d->shape[1]; i++) {
        x[i] = (float)qd_between(&stream, -1000, 1000);
        if (!qd_between(&stream, 0, 15)) x[i] = nasty[qd_between(&stream, 0, 7)];
    }
}

/* An int8 cache: any codes; scales of usual sizes, some 0 or much larger than the others. Keys: 16 scales behind the
 * codes of 16 positions; values: one behind those of each. */
static void fill_cache(qd_choices *c, const char *name, const qd_tensor_desc *d, int together, int8_t *data) {
    uint64_t stream = qd_stream(c, name);
    const int64_t codes = (d->shape[2] - QD_KV_I8_COLUMNS(0)) * together;
    for (int64_t n = d->shape[0] * d->shape[1] / together; n > 0; n--) {
        for (int64_t i = 0; i < codes; i++)
            *data++ = (int8_t)qd_between(&stream, INT8_MIN, INT8_MAX);
        for (int i = 0; i < together; i++) {
            const int64_t kind = qd_between(&stream, 0, 15);
            const float scale = (float)qd_between(&stream, 1, 1000) * (kind == 1 ? 0.1f : 1e-5f);
            memcpy(data, kind ? &scale : &(float){0}, sizeof scale);
            data += sizeof scale;
        }
    }
}

/* An id of a table of `count` rows, or one outside of it. */
static int64_t any_id(uint64_t *stream, int64_t count) {
    const int64_t outside[] = {-1, count, INT32_MIN, INT32_MAX};
    return qd_between(stream, 0, 15) ? qd_between(stream, 0, count - 1) : outside[qd_between(stream, 0, 3)];
}

static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    const qd_operand_spec *o = qd_operand_at(p->spec, i);
    const bool defined = p->op == QD_OP_QUANTIZE || p->op == QD_OP_LAYER_NORM ||
                         (p->op == QD_OP_KV_STORE && p->formats[QD_MAX_IN] == QD_FORMAT_I8);
    if (defined && i == 0 && qd_choose(c, "not finite", 0, 3) == 3) {
        fill_not_finite(c, &p->desc[i], data);
        return true;
    }
    if (p->op == QD_OP_ATTENTION && p->formats[i] == QD_FORMAT_I8) {
        fill_cache(c, o->name, &p->desc[i], i == 1 ? 16 : 1, data);
        return true;
    }
    if (p->formats[i] != QD_FORMAT_I32) return false;
    const bool ids = !strcmp(o->name, "ids");
    uint64_t stream = qd_stream(c, o->name);
    const bool each = p->op == QD_OP_ROPE && p->desc[i].shape[0] > 1; /* a position for each row */
    for (int64_t at = 0; at < p->desc[i].shape[0]; at++) {
        ((int32_t *)data)[at] = (int32_t)(ids    ? any_id(&stream, p->s.of['V' - 'A'])
                                          : each ? any_id(&stream, p->s.of['P' - 'A'])
                                                 : p->position);
    }
    return true;
}

/* ---- Checks ------------------------------------------------------------------------------------------------- */

static qd_status matmul_formats(qd_op op, const qd_format in[], const qd_format out[]) {
    (void)op, (void)out;
    if (in[1] == QD_FORMAT_A8 && qd_format_get(in[0])->kind != QD_KIND_BLOCKED) {
        return qd_fail(QD_ERR_UNSUPPORTED, "matmul: a8 activations need weights in a block format, not %s; use f32",
                       qd_format_get(in[0])->name);
    }
    return QD_OK;
}

static qd_status check_matmul(qd_node *n, const qd_symbols *s) {
    n->macs = (double)s->of['N' - 'A'] * (double)s->of['K' - 'A'];
    return QD_OK;
}

static qd_status check_norm(qd_node *n, const qd_symbols *s) {
    (void)s;
    const float epsilon = n->attrs.rms_norm.epsilon;
    if (epsilon >= 0 && epsilon < 1) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "%s: epsilon must be in [0, 1)", qd_op_get(n->op)->name);
}

static void rope_symbols(const qd_attrs *a, qd_symbols *s) {
    s->of['H' - 'A'] = a->rope.heads;
    s->of['D' - 'A'] = a->rope.head_dim;
    s->of['E' - 'A'] = a->rope.dims ? a->rope.dims : a->rope.head_dim;
}

static qd_status check_rope(qd_node *n, const qd_symbols *s) {
    (void)s;
    qd_attrs *a = &n->attrs;
    if (!a->rope.dims) a->rope.dims = a->rope.head_dim;
    const int D = a->rope.head_dim, E = a->rope.dims;
    if (D < 2 || D % 2) return qd_fail(QD_ERR_ARGUMENT, "rope: head_dim must be even, not %d", D);
    if (E < 2 || E % 2 || E > D) {
        return qd_fail(QD_ERR_ARGUMENT, "rope: dims must be even and at most head_dim (%d), not %d", D, E);
    }
    return QD_OK;
}

static void kv_symbols(const qd_attrs *a, qd_symbols *s) {
    s->of['G' - 'A'] = a->kv.heads;
    s->of['D' - 'A'] = a->kv.head_dim;
}

/* Keys, values: where they are among the operands. */
static qd_status cache_formats(qd_op op, qd_format keys, qd_format values) {
    if (keys == values) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED, "%s: one cache is %s, the other %s; both must be of one format",
                   qd_op_get(op)->name, qd_format_get(keys)->name, qd_format_get(values)->name);
}

static qd_status kv_formats(qd_op op, const qd_format in[], const qd_format out[]) {
    (void)in;
    return cache_formats(op, out[0], out[1]);
}

static qd_status attention_formats(qd_op op, const qd_format in[], const qd_format out[]) {
    (void)out;
    return cache_formats(op, in[1], in[2]);
}

static qd_status check_caches(const qd_node *n, const qd_symbols *s, const qd_tensor *keys, const qd_tensor *values) {
    const int64_t D = s->of['D' - 'A'], P = s->of['P' - 'A'], E = s->of['E' - 'A'];
    if (D % 16 || P % 16) {
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: head_dim (%lld) and positions (%lld) must be multiples of 16",
                       qd_op_get(n->op)->name, (long long)D, (long long)P);
    }
    const qd_format f = keys->desc.format;
    if (E != cache_columns(f, D)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: caches of %s with head_dim %lld need %lld columns, not %lld",
                       qd_op_get(n->op)->name, qd_format_get(f)->name, (long long)D, (long long)cache_columns(f, D),
                       (long long)E);
    }
    if ((keys->first_byte | values->first_byte) % sizeof(float)) {
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: a cache must begin at a multiple of 4 bytes: it holds floats",
                       qd_op_get(n->op)->name);
    }
    return QD_OK;
}

static qd_status check_kv(qd_node *n, const qd_symbols *s) {
    return check_caches(n, s, n->out[0], n->out[1]);
}

static void attention_symbols(const qd_attrs *a, qd_symbols *s) {
    s->of['H' - 'A'] = a->attention.heads;
    s->of['G' - 'A'] = a->attention.kv_heads;
    s->of['D' - 'A'] = a->attention.head_dim;
}

static qd_status check_attention(qd_node *n, const qd_symbols *s) {
    if (n->attrs.attention.heads % n->attrs.attention.kv_heads) {
        return qd_fail(QD_ERR_ARGUMENT, "attention: %d heads are no multiple of %d key/value heads",
                       n->attrs.attention.heads, n->attrs.attention.kv_heads);
    }
    if (n->out[0]->desc.format == QD_FORMAT_A8 && s->of['D' - 'A'] % 32) {
        return qd_fail(QD_ERR_UNSUPPORTED, "attention: a8 output needs head_dim to be a multiple of 32; use f32");
    }
    return check_caches(n, s, n->in[1], n->in[2]);
}

const qd_op_rules qd_rules_none = {.choose = choose_sizes, .fill = fill};
const qd_op_rules qd_rules_add = {.in_place = 3, .choose = choose_sizes, .fill = fill};
const qd_op_rules qd_rules_matmul = {.formats = matmul_formats, .check = check_matmul, .choose = choose_sizes};
const qd_op_rules qd_rules_rms_norm = {.attrs = true, .in_place = 1, .check = check_norm, .choose = choose_norm};
const qd_op_rules qd_rules_layer_norm = {
    .attrs = true, .in_place = 1, .check = check_norm, .choose = choose_norm, .fill = fill};
const qd_op_rules qd_rules_rope = {
    .attrs = true, .in_place = 1, .symbols = rope_symbols, .check = check_rope, .choose = choose_rope, .fill = fill};
const qd_op_rules qd_rules_kv = {
    .attrs = true, .formats = kv_formats, .symbols = kv_symbols, .check = check_kv, .choose = choose_kv, .fill = fill};
const qd_op_rules qd_rules_attention = {.attrs = true,
                                        .formats = attention_formats,
                                        .symbols = attention_symbols,
                                        .check = check_attention,
                                        .choose = choose_attention,
                                        .fill = fill};
