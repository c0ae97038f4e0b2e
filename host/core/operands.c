#include "core/operands.h"

#include <string.h>

#include "core/context.h"

static const qd_op_info infos[QD_OP_COUNT] = {
#define QD_OP(ID, name, min_in, max_in, n_out, attrs, operands) {#name, min_in, max_in, n_out, operands},
#include "qdot/qdot_ops.def"
};

enum attrs_kind { attrs_none, attrs_rms_norm, attrs_rope, attrs_kv, attrs_attention };

static const enum attrs_kind attrs_kinds[QD_OP_COUNT] = {
#define QD_OP(ID, name, min_in, max_in, n_out, attrs, operands) attrs_##attrs,
#include "qdot/qdot_ops.def"
};

const qd_op_info *qd_op_get(qd_op op) {
    return (unsigned)op < QD_OP_COUNT ? &infos[op] : NULL;
}

/* ---- Reading the operand column ----------------------------------------------------------------------------- */

/* "f32|a8" up to '['; advances *p. No format given: every format that files may hold numbers in. */
static uint32_t read_formats(const char **p) {
    uint32_t mask = 0;
    if (**p == '[') {
        for (int f = 0; f < QD_FORMAT_COUNT; f++) {
            const qd_format_info *info = qd_format_get((qd_format)f);
            if (info->gguf_type >= 0 && info->kind != QD_KIND_INTEGER) mask |= 1u << f;
        }
        return mask;
    }
    while (**p != '[') {
        (*p)++; /* ':' or '|' */
        const size_t n = strcspn(*p, "|[");
        for (int f = 0; f < QD_FORMAT_COUNT; f++) {
            const char *name = qd_format_get((qd_format)f)->name;
            if (strlen(name) == n && !strncmp(name, *p, n)) mask |= 1u << f;
        }
        *p += n;
    }
    return mask;
}

static void read_operand(const char **p, qd_operand_spec *o) {
    memset(o, 0, sizeof *o);
    if (**p == '(') {
        o->optional = true;
        (*p)++;
    }
    const size_t n = strcspn(*p, ":[");
    memcpy(o->name, *p, n < sizeof o->name - 1 ? n : sizeof o->name - 1);
    *p += n;
    o->formats = read_formats(p);
    while (**p != ']') {
        (*p)++; /* '[' or ',' */
        qd_dim_spec *d = &o->dim[o->rank++];
        d->a = *(*p)++;
        if (**p == '*') {
            d->b = (*p)[1];
            *p += 2;
        }
    }
    (*p)++;
    if (**p == ')') (*p)++;
    while (**p == ' ')
        (*p)++;
}

void qd_op_spec_read(qd_op op, qd_op_spec *out) {
    memset(out, 0, sizeof *out);
    const char *p = infos[op].operands;
    while (*p != '-')
        read_operand(&p, &out->in[out->n_in++]);
    p += strlen("-> ");
    while (*p)
        read_operand(&p, &out->out[out->n_out++]);
}

void qd_symbols_from_attrs(qd_op op, const qd_attrs *attrs, qd_symbols *s) {
    switch (attrs_kinds[op]) {
        case attrs_rope:
            s->of['H' - 'A'] = attrs->rope.heads;
            s->of['D' - 'A'] = attrs->rope.head_dim;
            break;
        case attrs_kv:
            s->of['G' - 'A'] = attrs->kv.heads;
            s->of['D' - 'A'] = attrs->kv.head_dim;
            break;
        case attrs_attention:
            s->of['H' - 'A'] = attrs->attention.heads;
            s->of['G' - 'A'] = attrs->attention.kv_heads;
            s->of['D' - 'A'] = attrs->attention.head_dim;
            break;
        case attrs_rms_norm:
        case attrs_none:
            break;
    }
}

int64_t qd_dim_value(qd_dim_spec d, const qd_symbols *s) {
    if (d.a == '1') return 1;
    const int64_t a = s->of[d.a - 'A'];
    return d.b ? a * s->of[d.b - 'A'] : a;
}

/* ---- Checks ------------------------------------------------------------------------------------------------- */

qd_status qd_op_check(qd_op op, const qd_attrs *attrs, const qd_symbols *s, const qd_format in[],
                      const qd_format out[]) {
    const char *name = infos[op].name;
    const int64_t D = s->of['D' - 'A'], P = s->of['P' - 'A'];
    switch (op) {
        case QD_OP_MATMUL:
            if (in[1] == QD_FORMAT_A8 && qd_format_get(in[0])->kind != QD_KIND_BLOCKED) {
                return qd_fail(QD_ERR_UNSUPPORTED,
                               "matmul: a8 activations need weights in a block format, not %s; use f32",
                               qd_format_get(in[0])->name);
            }
            return QD_OK;
        case QD_OP_RMS_NORM:
            if (!(attrs->rms_norm.epsilon >= 0 && attrs->rms_norm.epsilon < 1)) {
                return qd_fail(QD_ERR_ARGUMENT, "rms_norm: epsilon must be in [0, 1)");
            }
            return QD_OK;
        case QD_OP_ROPE:
            if (D < 2 || D % 2) return qd_fail(QD_ERR_ARGUMENT, "rope: head_dim must be even, not %lld", (long long)D);
            return QD_OK;
        case QD_OP_ATTENTION:
            if (attrs->attention.heads % attrs->attention.kv_heads) {
                return qd_fail(QD_ERR_ARGUMENT, "attention: %d heads are no multiple of %d key/value heads",
                               attrs->attention.heads, attrs->attention.kv_heads);
            }
            if (out[0] == QD_FORMAT_A8 && D % 32) {
                return qd_fail(QD_ERR_UNSUPPORTED,
                               "attention: a8 output needs head_dim to be a multiple of 32; use f32");
            }
            /* fall through */
        case QD_OP_KV_STORE:
            if (D % 16 || P % 16) {
                return qd_fail(QD_ERR_UNSUPPORTED, "%s: head_dim (%lld) and positions (%lld) must be multiples of 16",
                               name, (long long)D, (long long)P);
            }
            return QD_OK;
        case QD_OP_GET_ROWS:
        case QD_OP_QUANTIZE:
        case QD_OP_SWIGLU:
        case QD_OP_ADD:
        case QD_OP_COUNT:
            break;
    }
    return QD_OK;
}

/* Binds the symbols to the dimensions of one operand, or says which does not fit. */
static qd_status unify(const char *op, const qd_operand_spec *o, const qd_tensor *t, qd_symbols *s, bool dynamic) {
    if (!(o->formats >> t->desc.format & 1)) {
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: %s cannot be %s", op, o->name, qd_format_get(t->desc.format)->name);
    }
    /* An optional operand may lack the row dimension: the same row for all (a bias). */
    const int skip = o->optional && t->desc.rank == o->rank - 1 ? 1 : 0;
    if (t->desc.rank != o->rank - skip) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s has rank %d where %d is needed", op, o->name, t->desc.rank, o->rank);
    }
    for (int i = skip; i < o->rank; i++) {
        const qd_dim_spec d = o->dim[i];
        const int64_t have = t->desc.shape[i - skip];
        const int64_t want = qd_dim_value(d, s);
        if (have == QD_ROWS && i == 0) {
            if (d.a == 'R') continue;
            return qd_fail(QD_ERR_ARGUMENT, "%s: the first dimension of %s cannot be that of the run", op, o->name);
        }
        if (!want && !d.b) {
            s->of[d.a - 'A'] = have;
        } else if (d.a == 'R' && dynamic ? have < want : have != want) {
            return qd_fail(QD_ERR_ARGUMENT, "%s: dimension %d of %s is %lld where %lld is needed", op, i, o->name,
                           (long long)have, (long long)want);
        }
    }
    return QD_OK;
}

/* True when two tensors have columns in common. */
static bool share_memory(const qd_tensor *a, const qd_tensor *b) {
    const qd_tensor *owner_a = a->base ? a->base : a, *owner_b = b->base ? b->base : b;
    if (owner_a != owner_b) return false;
    if (!a->base || !b->base) return true;
    const size_t bytes_a = (size_t)qd_columns(a) * sizeof(float), bytes_b = (size_t)qd_columns(b) * sizeof(float);
    return a->first_byte < b->first_byte + bytes_b && b->first_byte < a->first_byte + bytes_a;
}

/* A result may take the place of an input only where each element is read before it is written; never that of another
 * result. */
static qd_status check_aliases(qd_op op, const char *name, const qd_tensor *out, const qd_node *n) {
    for (int i = 0; i < QD_MAX_IN; i++) {
        const qd_tensor *in = n->in[i];
        if (!in || !share_memory(out, in)) continue;
        const bool in_place = op == QD_OP_ADD || (op == QD_OP_ROPE && i == 0);
        const bool same = out->first_byte == in->first_byte && qd_columns(out) == qd_columns(in);
        if (in_place && same && out->desc.format == in->desc.format) continue;
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s cannot be written over an input", infos[op].name, name);
    }
    for (int i = 0; i < QD_MAX_OUT; i++) {
        if (!n->out[i] || !share_memory(out, n->out[i])) continue;
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s cannot be written over another result", infos[op].name, name);
    }
    return QD_OK;
}

/* Kernels count in 32 bits: dimensions, and what they are rounded up to, must stay below. */
static qd_status check_range(const char *op, const qd_symbols *s) {
    const int64_t limit = INT32_MAX - 65536;
    const int64_t product = s->of['H' - 'A'] * s->of['D' - 'A'];
    bool fits = product <= limit;
    for (int i = 0; i < 26; i++)
        fits = fits && s->of[i] <= limit;
    if (fits) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED, "%s: a dimension is larger than %lld", op, (long long)limit);
}

static bool has_dynamic(qd_tensor *const t[], int n) {
    for (int i = 0; i < n; i++) {
        if (t[i] && t[i]->desc.shape[0] == QD_ROWS) return true;
    }
    return false;
}

qd_status qd_node_init(qd_node *n, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                       qd_tensor *const out[], int n_out, const qd_graph *graph) {
    const qd_op_info *info = qd_op_get(op);
    if (!info) return qd_fail(QD_ERR_ARGUMENT, "unknown operator %d", (int)op);
    if (attrs_kinds[op] != attrs_none && !attrs)
        return qd_fail(QD_ERR_ARGUMENT, "%s: attributes are missing", info->name);
    if (!in || !out || n_in < info->min_in || n_in > info->max_in || n_out != info->n_out) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: takes %s", info->name, info->operands);
    }
    qd_op_spec spec;
    qd_op_spec_read(op, &spec);
    qd_symbols s = {{0}};
    const bool dynamic = has_dynamic(in, n_in) || has_dynamic(out, n_out);
    if (dynamic && !graph) return qd_fail(QD_ERR_ARGUMENT, "%s: QD_ROWS tensors belong to a graph", info->name);
    if (dynamic) s.of['R' - 'A'] = qd_graph_rows(graph);
    if (attrs_kinds[op] != attrs_none) {
        qd_symbols sizes; /* 1 where the attributes say nothing */
        for (int i = 0; i < 26; i++)
            sizes.of[i] = 1;
        qd_symbols_from_attrs(op, attrs, &sizes);
        for (int i = 0; i < 26; i++) {
            if (sizes.of[i] >= 1 && sizes.of[i] <= 1 << 20) continue;
            return qd_fail(QD_ERR_ARGUMENT, "%s: heads and head_dim must be positive and at most 2^20", info->name);
        }
        qd_symbols_from_attrs(op, attrs, &s);
    }
    memset(n, 0, sizeof *n);
    qd_format formats[QD_MAX_IN + QD_MAX_OUT] = {0};
    for (int i = 0; i < n_in + n_out; i++) {
        qd_tensor *t = i < n_in ? in[i] : out[i - n_in];
        const qd_operand_spec *o = i < n_in ? &spec.in[i] : &spec.out[i - n_in];
        if (!t) {
            if (o->optional) continue;
            return qd_fail(QD_ERR_ARGUMENT, "%s: %s is missing", info->name, o->name);
        }
        if (i >= n_in && qd_is_constant(t))
            return qd_fail(QD_ERR_ARGUMENT, "%s: %s cannot be a constant", info->name, o->name);
        const qd_tensor *owner = t->base ? t->base : t;
        if (owner->graph && owner->graph != graph) {
            return qd_fail(QD_ERR_ARGUMENT, "%s: %s belongs to %s graph", info->name, o->name, graph ? "another" : "a");
        }
        qd_status status = unify(info->name, o, t, &s, dynamic);
        if (!status && i >= n_in) status = check_aliases(op, o->name, t, n);
        if (status) return status;
        if (i < n_in) {
            n->in[i] = t;
            formats[i] = t->desc.format;
        } else {
            n->out[i - n_in] = t;
            formats[QD_MAX_IN + i - n_in] = t->desc.format;
        }
    }
    n->op = op;
    if (attrs) n->attrs = *attrs;
    n->dynamic = dynamic;
    n->max_rows = s.of['R' - 'A'];
    const qd_status range = check_range(info->name, &s);
    if (range) return range;
    return qd_op_check(op, &n->attrs, &s, formats, formats + QD_MAX_IN);
}
