#include "core/operands.h"

#include <string.h>

#include "core/context.h"
#include "core/rules/rules.h"

static const qd_op_info infos[QD_OP_COUNT] = {
#define QD_OP(ID, name, min_in, max_in, n_out, rules, operands) {#name, min_in, max_in, n_out, operands},
#include "qdot/qdot_ops.def"
};

const qd_op_info *qd_op_get(qd_op op) {
    return (unsigned)op < QD_OP_COUNT ? &infos[op] : NULL;
}

/* ---- Reading the operand column ----------------------------------------------------------------------------- */

/* "f32|a8" up to '['; advances *p. No format given: every format that files may hold numbers in. */
static uint64_t read_formats(const char **p) {
    uint64_t mask = 0;
    if (**p == '[') {
        for (int f = 0; f < QD_FORMAT_COUNT; f++) {
            const qd_format_info *info = qd_format_get((qd_format)f);
            if (info->gguf_type >= 0 && info->kind != QD_KIND_INTEGER) mask |= UINT64_C(1) << f;
        }
        return mask;
    }
    while (**p != '[') {
        (*p)++; /* ':' or '|' */
        const size_t n = strcspn(*p, "|[");
        for (int f = 0; f < QD_FORMAT_COUNT; f++) {
            const char *name = qd_format_get((qd_format)f)->name;
            if (strlen(name) == n && !strncmp(name, *p, n)) mask |= UINT64_C(1) << f;
        }
        *p += n;
    }
    return mask;
}

/* "N!", "H*D", "R?", "256". */
static void read_dim(const char **p, qd_dim_spec *d) {
    memset(d, 0, sizeof *d);
    if (**p >= '0' && **p <= '9') {
        while (**p >= '0' && **p <= '9')
            d->number = 10 * d->number + (*(*p)++ - '0');
        return;
    }
    d->a = *(*p)++;
    if (**p == '*') {
        d->b = (*p)[1];
        *p += 2;
    }
    d->may_lack = **p == '?';
    d->may_be_one = **p == '!';
    if (d->may_lack || d->may_be_one) (*p)++;
}

static void read_operand(const char **p, uint64_t first, qd_operand_spec *o) {
    memset(o, 0, sizeof *o);
    if (**p == '(') {
        o->optional = true;
        (*p)++;
    }
    const size_t n = strcspn(*p, ":[");
    memcpy(o->name, *p, n < sizeof o->name - 1 ? n : sizeof o->name - 1);
    *p += n;
    o->same_format = !strncmp(*p, ":=", 2);
    if (o->same_format) *p += 2;
    o->formats = o->same_format ? first : read_formats(p);
    o->any_shape = !strncmp(*p, "[...]", 5);
    if (o->any_shape) *p += 4;
    while (**p != ']') {
        (*p)++; /* '[' or ',' */
        read_dim(p, &o->dim[o->rank++]);
    }
    (*p)++;
    if (**p == ')') (*p)++;
    while (**p == ' ')
        (*p)++;
}

void qd_op_spec_read(qd_op op, qd_op_spec *out) {
    memset(out, 0, sizeof *out);
    const char *p = infos[op].operands;
    while (*p != '-') {
        read_operand(&p, out->in[0].formats, &out->in[out->n_in]);
        out->n_in++;
    }
    p += strlen("-> ");
    while (*p)
        read_operand(&p, out->in[0].formats, &out->out[out->n_out++]);
}

const qd_operand_spec *qd_operand_at(const qd_op_spec *spec, int i) {
    if (i < QD_MAX_IN) return i < spec->n_in ? &spec->in[i] : NULL;
    return i - QD_MAX_IN < spec->n_out ? &spec->out[i - QD_MAX_IN] : NULL;
}

void qd_symbols_clear(qd_symbols *s) {
    for (int i = 0; i < 26; i++)
        s->of[i] = QD_UNKNOWN;
}

int64_t qd_dim_value(qd_dim_spec d, const qd_symbols *s) {
    if (!d.a) return d.number;
    const int64_t a = s->of[d.a - 'A'];
    if (!d.b) return a;
    const int64_t b = s->of[d.b - 'A'];
    return a == QD_UNKNOWN || b == QD_UNKNOWN ? QD_UNKNOWN : a * b;
}

/* ---- Checks ------------------------------------------------------------------------------------------------- */

/* Which dimensions of the operand a tensor of this rank lacks: bit mask; false when none fit. The last that may be
 * absent goes first. */
static bool find_lacking(const qd_operand_spec *o, int rank, uint32_t *lacking) {
    *lacking = 0;
    int have = o->rank;
    for (int i = o->rank - 1; i >= 0 && have > rank; i--) {
        if (!o->dim[i].may_lack) continue;
        *lacking |= 1u << i;
        have--;
    }
    return have == rank;
}

/* Binds the symbol of one dimension, or says that it does not fit. */
static qd_status unify_dim(const char *op, const qd_operand_spec *o, int i, int64_t have, qd_symbols *s, bool dynamic) {
    const qd_dim_spec d = o->dim[i];
    const int64_t want = qd_dim_value(d, s);
    if (have == QD_ROWS) { /* only a tensor's first dimension is; here i may be 1, where the first was left out */
        if (d.a == 'R') return QD_OK;
        return qd_fail(QD_ERR_ARGUMENT, "%s: the first dimension of %s cannot be that of the run", op, o->name);
    }
    if (d.may_be_one && have == 1) return QD_OK;
    if (want == QD_UNKNOWN && !d.b) {
        s->of[d.a - 'A'] = have;
    } else if (d.a == 'R' && dynamic ? have < want : have != want) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: dimension %d of %s is %lld where %lld is needed", op, i, o->name,
                       (long long)have, (long long)want);
    }
    return QD_OK;
}

/* Binds the symbols to the dimensions of one operand, or says which does not fit. */
static qd_status unify(const char *op, const qd_operand_spec *o, const qd_tensor *t, const qd_tensor *first,
                       qd_symbols *s, bool dynamic) {
    if (!(o->formats >> t->desc.format & 1) || (o->same_format && t->desc.format != first->desc.format)) {
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: %s cannot be %s", op, o->name, qd_format_get(t->desc.format)->name);
    }
    if (o->any_shape) return QD_OK;
    uint32_t lacking;
    if (!find_lacking(o, t->desc.rank, &lacking)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s has rank %d where %d is needed", op, o->name, t->desc.rank, o->rank);
    }
    int at = 0;
    for (int i = 0; i < o->rank; i++) {
        qd_status status = QD_OK;
        if (!(lacking >> i & 1)) {
            status = unify_dim(op, o, i, t->desc.shape[at++], s, dynamic);
        } else if (o->dim[i].a != 'R') {
            status = unify_dim(op, o, i, 1, s, dynamic);
        }
        if (status) return status;
    }
    return QD_OK;
}

static bool same_place(const qd_tensor *a, const qd_tensor *b) {
    bool same = a->first_byte == b->first_byte && a->stride == b->stride && a->strided == b->strided &&
                a->desc.format == b->desc.format && a->desc.rank == b->desc.rank;
    for (int k = 0; same && k < a->desc.rank; k++)
        same = a->desc.shape[k] == b->desc.shape[k] && (!a->strided || a->step[k] == b->step[k]);
    return same;
}

/* A result may take the place of an input only where each element is read before it is written; never that of another
 * result. */
static qd_status check_aliases(const qd_op_rules *rules, const char *op, const char *name, const qd_tensor *out,
                               const qd_node *n) {
    for (int i = 0; i < QD_MAX_IN; i++) {
        const qd_tensor *in = n->in[i];
        if (!in || !qd_tensor_overlap(out, in, n->max_rows)) continue;
        if (rules->in_place >> i & 1 && same_place(out, in)) continue;
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s cannot be written over an input", op, name);
    }
    for (int i = 0; i < QD_MAX_OUT; i++) {
        if (!n->out[i] || !qd_tensor_overlap(out, n->out[i], n->max_rows)) continue;
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s cannot be written over another result", op, name);
    }
    return QD_OK;
}

/* Rules that read step see all dimensions; the others only rows and the bytes between them. */
static qd_status check_steps(const qd_op_rules *rules, const char *op, const char *name, const qd_tensor *t,
                             bool result) {
    if (t->strided && !rules->strided) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "%s: the elements of %s are not in rows that are equally far apart; COPY them to a dense tensor",
                       op, name);
    }
    /* Kernels read these as numbers one behind the other. */
    if ((!strcmp(name, "requant") || !strcmp(name, "x_zero")) && t->desc.rank > 1 &&
        t->stride != qd_format_row_bytes(t->desc.format, qd_columns(t))) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "%s: the rows of %s must lie one behind the other; COPY them to a dense tensor", op, name);
    }
    if (result && t->repeats) return qd_fail(QD_ERR_ARGUMENT, "%s: elements of %s share their memory", op, name);
    return QD_OK;
}

/* Kernels count in 32 bits: dimensions, and what they are rounded up to, must stay below. */
static qd_status check_range(const char *op, const qd_symbols *s) {
    const int64_t limit = INT32_MAX - 65536;
    const int64_t product = qd_dim_value((qd_dim_spec){.a = 'H', .b = 'D'}, s);
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

/* The sizes that the attributes fix. */
static qd_status bind_attrs(const char *op, const qd_op_rules *rules, const qd_attrs *attrs, qd_symbols *s) {
    if (rules->attrs && !attrs) return qd_fail(QD_ERR_ARGUMENT, "%s: attributes are missing", op);
    if (!rules->symbols) return QD_OK;
    rules->symbols(attrs, s);
    for (int i = 0; i < 26; i++) {
        if (s->of[i] == QD_UNKNOWN || i == 'R' - 'A' || (s->of[i] >= 1 && s->of[i] <= 1 << 20)) continue;
        return qd_fail(QD_ERR_ARGUMENT, "%s: heads and head_dim must be positive and at most 2^20", op);
    }
    return QD_OK;
}

/* Checks operand i and puts it into the node. */
static qd_status take_operand(qd_node *n, const qd_op_info *info, const qd_operand_spec *o, int i, qd_tensor *t,
                              const qd_graph *graph, qd_symbols *s) {
    if (!t) {
        if (o->optional) return QD_OK;
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s is missing", info->name, o->name);
    }
    if (i >= QD_MAX_IN && qd_is_constant(t))
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s cannot be a constant", info->name, o->name);
    const qd_tensor *owner = t->base ? t->base : t;
    if (owner->graph && owner->graph != graph) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %s belongs to %s graph", info->name, o->name, graph ? "another" : "a");
    }
    const qd_op_rules *rules = qd_rules_of(n->op);
    qd_status status = check_steps(rules, info->name, o->name, t, i >= QD_MAX_IN);
    if (!status) status = unify(info->name, o, t, i ? n->in[0] : t, s, n->dynamic);
    if (!status && i >= QD_MAX_IN) status = check_aliases(rules, info->name, o->name, t, n);
    if (status) return status;
    if (i < QD_MAX_IN) {
        n->in[i] = t;
    } else {
        n->out[i - QD_MAX_IN] = t;
    }
    return QD_OK;
}

qd_status qd_node_init(qd_node *n, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                       qd_tensor *const out[], int n_out, const qd_graph *graph) {
    const qd_op_info *info = qd_op_get(op);
    if (!info) return qd_fail(QD_ERR_ARGUMENT, "unknown operator %d", (int)op);
    if (!in || !out || n_in < info->min_in || n_in > info->max_in || n_out != info->n_out) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: takes %s", info->name, info->operands);
    }
    const qd_op_rules *rules = qd_rules_of(op);
    qd_op_spec spec;
    qd_op_spec_read(op, &spec);
    qd_symbols s;
    qd_symbols_clear(&s);
    qd_status status;
    memset(n, 0, sizeof *n);
    n->op = op;
    n->dynamic = has_dynamic(in, n_in) || has_dynamic(out, n_out);
    if (n->dynamic && !graph) return qd_fail(QD_ERR_ARGUMENT, "%s: QD_ROWS tensors belong to a graph", info->name);
    if (n->dynamic) s.of['R' - 'A'] = n->max_rows = qd_graph_rows(graph);
    QD_TRY(bind_attrs(info->name, rules, attrs, &s));
    if (attrs) n->attrs = *attrs;
    qd_format formats[QD_OPERANDS];
    for (int i = 0; i < QD_OPERANDS; i++) {
        const qd_operand_spec *o = qd_operand_at(&spec, i);
        formats[i] = QD_FORMAT_COUNT;
        if (!o) continue;
        qd_tensor *t = i >= QD_MAX_IN ? out[i - QD_MAX_IN] : i < n_in ? in[i] : NULL;
        QD_TRY(take_operand(n, info, o, i, t, graph, &s));
        if (t) formats[i] = t->desc.format;
    }
    if (!n->dynamic && s.of['R' - 'A'] == QD_UNKNOWN) s.of['R' - 'A'] = n->out[0]->desc.shape[0];
    n->max_rows = s.of['R' - 'A'];
    QD_TRY(check_range(info->name, &s));
    if (rules->formats) QD_TRY(rules->formats(op, formats, formats + QD_MAX_IN));
    if (rules->check) QD_TRY(rules->check(n, &s));
error:
    return status;
}
