#include "unit/calls.h"

/* ---- Making ------------------------------------------------------------------------------------------------- */

/* Where element (or block) `index` of an operand of any strides is, counted in the order of its dimensions. */
static size_t strided_at(const qd_tensor *t, size_t index) {
    const size_t block = (size_t)qd_format_get(t->desc.format)->block;
    size_t at = t->offset;
    for (int k = t->desc.rank - 1; k >= 0; k--) {
        const size_t n = (size_t)t->desc.shape[k] / (k == t->desc.rank - 1 ? block : 1);
        at += index % n * (size_t)t->step[k];
        index /= n;
    }
    return at;
}

/* Rows one after the other, of an operand whose rows or elements may be apart. */
static unsigned char *dense(const qd_tensor *t, const void *from, size_t bytes) {
    const size_t row = qd_format_row_bytes(t->desc.format, qd_columns(t));
    const size_t piece = t->strided ? (size_t)qd_format_get(t->desc.format)->bytes : row;
    unsigned char *to = malloc(bytes + 1);
    ck_assert_ptr_nonnull(to);
    for (size_t i = 0; i * piece < bytes; i++) {
        const size_t at = t->strided ? strided_at(t, i) : t->offset + i * t->stride;
        memcpy(to + i * piece, (const char *)from + at, piece);
    }
    return to;
}

void make_call(call *x, qd_op op, const qd_format formats[], uint64_t seed, const qd_choice fixed[], int n_fixed) {
    qd_case c;
    ck_ok(qd_case_make(op, formats, seed, 1, fixed, n_fixed, &c));
    *x = (call){.op = op, .attrs = c.node.attrs, .rows = c.node.max_rows};
    qd_op_spec_read(op, &x->spec);
    for (int i = 0; i < OPERANDS; i++) {
        if (!c.data[i]) continue;
        x->given[i] = true;
        x->desc[i] = c.tensors[i].desc;
        x->bytes[i] = qd_desc_bytes(&x->desc[i]);
        x->data[i] = dense(&c.tensors[i], c.data[i], x->bytes[i]);
        if (i >= QD_MAX_IN) x->want[i] = dense(&c.tensors[i], c.want[i - QD_MAX_IN], x->bytes[i]);
    }
    qd_case_free(&c);
}

void free_call(call *x) {
    for (int i = 0; i < OPERANDS; i++) {
        free(x->data[i]);
        free(x->want[i]);
    }
    memset(x, 0, sizeof *x);
}

call *next_call(call_walk *w) {
    enum { LEAST = 2, LEAST_CALLS = 8, MOST = 100 };
    free_call(&w->call);
    qd_format formats[OPERANDS];
    if (!qd_case_formats(w->op, w->combination, formats)) {
        qd_op_spec spec;
        bool complete = w->seed + 1 >= LEAST && w->calls >= (w->least_calls ? w->least_calls : LEAST_CALLS);
        qd_op_spec_read(w->op, &spec);
        for (int i = 0; i < OPERANDS; i++) {
            const qd_operand_spec *o = qd_operand_at(&spec, i);
            if (o && !(w->given >> i & 1)) complete = false;
            if (o && o->optional && !(w->absent >> i & 1)) complete = false;
        }
        if (complete) return NULL;
        ck_assert_msg(++w->seed < MOST, "%s: no problem has all operands, or none lacks the optional ones",
                      qd_op_get(w->op)->name);
        w->combination = 0;
        ck_assert(qd_case_formats(w->op, 0, formats));
    }
    w->combination++;
    w->calls++;
    make_call(&w->call, w->op, formats, w->seed, w->fixed, w->n_fixed);
    for (int i = 0; i < OPERANDS; i++) {
        if (w->call.given[i]) w->given |= 1u << i;
        if (!w->call.given[i]) w->absent |= 1u << i;
    }
    return &w->call;
}

/* ---- What the operator's row says --------------------------------------------------------------------------- */

bool column_says_all(const call *x) {
    for (int i = 0; i < OPERANDS; i++) {
        if (x->given[i] && operand(x, i)->any_shape) return false;
    }
    return true;
}

/* Finds the dimension of the row that is left out so that a tensor has this rank: -1: none; false: no rank of this
 * operand. No row leaves out more than one. */
static bool left_out(const qd_operand_spec *o, int rank, int *which) {
    *which = -1;
    if (rank == o->rank) return true;
    for (int d = 0; d < o->rank; d++) {
        if (o->dim[d].may_lack) *which = d;
    }
    return *which >= 0 && rank == o->rank - 1;
}

char first_symbol(const call *x, int i) {
    const qd_operand_spec *o = operand(x, i);
    int out;
    if (o->any_shape || !left_out(o, x->desc[i].rank, &out)) return 0;
    return o->dim[out == 0 ? 1 : 0].a;
}

int misfit(const call *x) {
    qd_symbols s;
    qd_symbols_clear(&s);
    if (qd_rules_of(x->op)->symbols) qd_rules_of(x->op)->symbols(&x->attrs, &s);
    for (int i = 0; i < OPERANDS; i++) {
        const qd_operand_spec *o = operand(x, i);
        int out, at = 0;
        if (!o || !x->given[i] || o->any_shape) continue;
        if (!left_out(o, x->desc[i].rank, &out)) return i;
        for (int d = 0; d < o->rank; d++) {
            const qd_dim_spec dim = o->dim[d];
            const int64_t have = d == out ? 1 : x->desc[i].shape[at++], want = qd_dim_value(dim, &s);
            if ((d == out && dim.a == 'R') || (have == 1 && dim.may_be_one)) continue; /* the same for all */
            if (want == QD_UNKNOWN) {
                s.of[dim.a - 'A'] = have;
            } else if (have != want) {
                return i;
            }
        }
    }
    return -1;
}
