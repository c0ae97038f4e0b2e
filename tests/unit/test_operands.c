/* Every operator's operands: whatever does not fit is refused with a message that names it, and nothing is written. The
 * mutations are made from the operand column of qdot_ops.def, so a new operator is tested without a change here. */
#include "unit/calls.h"

#include "core/context.h"

static qd_context *context, *other_context;
static unsigned char zeros[1 << 20];

/* How a call is spoiled beyond its shapes and formats. */
typedef struct spoilt {
    call x; /* data belongs to the call that this one is made from */
    bool no_attrs;
    bool constant[OPERANDS];
    bool in_graph[OPERANDS];  /* of a graph that is not that of the call */
    bool elsewhere[OPERANDS]; /* in another context */
    int over[OPERANDS];       /* 1 + the operand whose memory this output shares */
    int n_in, n_out;
} spoilt;

static spoilt spoil(const call *x) {
    return (spoilt){.x = *x, .n_in = x->spec.n_in, .n_out = x->spec.n_out};
}

static spoilt without(const call *x, int i) {
    spoilt s = spoil(x);
    s.x.given[i] = false;
    return s;
}

/* ---- Making a call ------------------------------------------------------------------------------------------ */

typedef struct operands {
    qd_tensor *t[OPERANDS];
    bool owned[OPERANDS];
    qd_tensor aliases[OPERANDS];
    qd_graph *stranger;
} operands;

static void make_tensor(const spoilt *s, qd_graph *g, operands *all, int i) {
    const qd_tensor_desc *d = &s->x.desc[i];
    qd_context *c = s->elsewhere[i] ? other_context : context;
    if (s->over[i]) {
        /* A result in the memory of another operand, whatever their shapes: as a view would be, if it could. */
        qd_tensor *base = all->t[s->over[i] - 1];
        all->aliases[i] = (qd_tensor){.context = c,
                                      .desc = *d,
                                      .buffer = base->buffer,
                                      .stride = qd_format_row_bytes(d->format, d->shape[d->rank - 1]),
                                      .base = base,
                                      .references = 1};
        all->t[i] = &all->aliases[i];
    } else if (s->in_graph[i]) {
        if (!all->stranger) ck_ok(qd_graph_create(c, s->x.rows, &all->stranger));
        ck_ok(qd_graph_tensor(all->stranger, d, &all->t[i]));
    } else if (d->shape[0] == QD_ROWS) {
        ck_ok(qd_graph_tensor(g, d, &all->t[i]));
    } else {
        all->owned[i] = true;
        const size_t bytes = qd_desc_bytes(d);
        const unsigned char *data = s->x.bytes[i] >= bytes ? s->x.data[i] : zeros;
        if (data == zeros) ck_assert_uint_le(bytes, sizeof zeros);
        if (s->constant[i]) {
            ck_ok(qd_tensor_constant(c, d, data, &all->t[i]));
        } else {
            ck_ok(qd_tensor_create(c, d, &all->t[i]));
            ck_ok(qd_tensor_write(all->t[i], 0, data, bytes));
        }
    }
}

/* A call that failed has left its operands as they were. */
static void ck_nothing_written(const spoilt *s, const operands *all) {
    for (int i = 0; i < OPERANDS; i++) {
        if (!all->owned[i] || s->constant[i]) continue;
        const bool data = s->x.bytes[i] >= qd_desc_bytes(&s->x.desc[i]);
        ck_tensor(all->t[i], data ? s->x.data[i] : zeros, operand(&s->x, i)->name);
    }
}

/* Makes the call's tensors, then a plan, or appends to a graph. What is accepted must run, too. */
static qd_status make(const spoilt *s, bool in_graph) {
    operands all = {.stranger = NULL};
    qd_graph *g = NULL;
    qd_plan *const unset = (qd_plan *)zeros;
    qd_plan *plan = unset;
    bool rows = false;
    for (int i = 0; i < OPERANDS; i++)
        rows = rows || (s->x.given[i] && s->x.desc[i].shape[0] == QD_ROWS);
    if (in_graph || rows) ck_ok(qd_graph_create(context, s->x.rows, &g));
    for (int i = 0; i < OPERANDS; i++) {
        if (s->x.given[i]) make_tensor(s, g, &all, i);
    }
    const qd_attrs *attrs = s->no_attrs ? NULL : &s->x.attrs;
    qd_tensor *const *in = all.t, *const *out = all.t + QD_MAX_IN;
    qd_fail(QD_OK, "no message");
    qd_status status;
    if (in_graph) {
        status = qd_graph_add(g, s->x.op, attrs, in, s->n_in, out, s->n_out);
    } else {
        status = qd_plan_create(context, s->x.op, attrs, in, s->n_in, out, s->n_out, &plan);
        if (status) ck_assert_ptr_eq(plan, unset);
    }
    if (status) {
        ck_nothing_written(s, &all);
    } else if (in_graph) {
        ck_ok(qd_graph_compile(g, NULL, NULL));
        for (int64_t n = 0; n <= s->x.rows; n++)
            ck_ok(qd_graph_run(g, n));
    } else {
        ck_ok(qd_plan_run(plan));
        qd_plan_free(plan);
    }
    for (int i = 0; i < OPERANDS; i++) {
        if (all.owned[i]) qd_tensor_free(all.t[i]);
    }
    qd_graph_free(g);
    qd_graph_free(all.stranger);
    qd_memory_info m;
    ck_ok(qd_context_memory(context, &m));
    ck_assert_uint_eq(m.used, 0);
    return status;
}

/* ---- What is expected --------------------------------------------------------------------------------------- */

/* The last message begins with the operator and contains the word `part` (NULL: any). */
static void ck_message(const spoilt *s, const char *part, const char *what) {
    const char *op = qd_op_get(s->x.op)->name, *message = qd_last_message();
    ck_assert_msg(!strncmp(message, op, strlen(op)) && message[strlen(op)] == ':', "\"%s\" does not begin with %s",
                  message, op);
    if (!part) return;
    const char *at = strstr(message, part);
    while (at && ((at[-1] != ' ') || strspn(at + strlen(part), "abcdefghijklmnopqrstuvwxyz_0123456789")))
        at = strstr(at + 1, part);
    ck_assert_msg(at != NULL, "%s, %s %s: \"%s\" does not name it", op, part, what, message);
}

static void refused_in(bool in_graph, const spoilt *s, qd_status want, const char *part, const char *what) {
    const qd_status got = make(s, in_graph);
    ck_assert_msg(got == want, "%s, %s %s: %s, not %s: %s", qd_op_get(s->x.op)->name, part, what, qd_status_name(got),
                  qd_status_name(want), qd_last_message());
    ck_message(s, part, what);
}

static void refused(const spoilt *s, qd_status want, const char *part, const char *what) {
    refused_in(false, s, want, part, what);
}

static void accepted_in(bool in_graph, const spoilt *s, const char *what) {
    const qd_status got = make(s, in_graph);
    ck_assert_msg(got == QD_OK, "%s, %s: %s", qd_op_get(s->x.op)->name, what, qd_last_message());
}

static void accepted(const spoilt *s, const char *what) {
    accepted_in(false, s, what);
}

/* The operator's rules may refuse it, with a status and a message that fit; or it runs. True: it was accepted. */
static bool judged(bool in_graph, const spoilt *s, const char *what) {
    const qd_status got = make(s, in_graph);
    if (got == QD_OK) return true;
    ck_assert_msg(got == QD_ERR_ARGUMENT || got == QD_ERR_UNSUPPORTED, "%s, %s: %s: %s", qd_op_get(s->x.op)->name, what,
                  qd_status_name(got), qd_last_message());
    ck_message(s, NULL, what);
    return false;
}

/* Whether a rule counts what the column leaves open: groups, bytes of coded rows. */
static bool rule_counts(qd_op op) {
    return op == QD_OP_MATMUL_GROUP || op == QD_OP_MATMUL_CODED || op == QD_OP_GET_ROWS_CODED;
}

/* A call of other shapes: whether it fits its row of qdot_ops.def, and then its rules. */
static void judge_shapes(const spoilt *s, const char *what) {
    const int blamed = misfit(&s->x);
    if (blamed >= 0) {
        refused(s, QD_ERR_ARGUMENT, operand(&s->x, blamed)->name, what);
    } else if (column_says_all(&s->x) && !rule_counts(s->x.op)) {
        accepted(s, what);
    } else {
        judged(false, s, what);
    }
}

static void open_reference(void) {
    ck_ok(qd_context_create("ref", NULL, &context));
    ck_ok(qd_context_create("ref", NULL, &other_context));
}

static void close_reference(void) {
    qd_context_free(context);
    qd_context_free(other_context);
}

/* ---- Made from the operand column --------------------------------------------------------------------------- */

/* Three rows where the operator has a choice of that name, so that there can be one less; no long sums, which only take
 * time here; and right scales and zero points, for wrong ones are refused as constants. */
static const qd_choice three_rows[] = {{.name = "R", .value = 3},
                                       {.name = "long", .value = 0},
                                       {.name = "scale style", .value = 0},
                                       {.name = "wild zeros", .value = 0}};

#define FOR_CALLS(x)                                                        \
    call_walk walk_ = {.op = (qd_op)_i, .fixed = three_rows, .n_fixed = 4}; \
    for (const call *x; (x = next_call(&walk_)) != NULL;)

#define FOR_OPERANDS(x, i)             \
    for (int i = 0; i < OPERANDS; i++) \
        if ((x)->given[i])

START_TEST(test_fitting) {
    FOR_CALLS(x) {
        const spoilt s = spoil(x);
        accepted(&s, "as it should be");
        ck_assert_int_eq(misfit(x), -1);
    }
}
END_TEST

/* An optional operand may only be left out where the rules do not need it. */
START_TEST(test_missing) {
    int optional = 0, accepted_without = 0;
    FOR_CALLS(x) {
        FOR_OPERANDS(x, i) {
            const spoilt s = without(x, i);
            if (operand(x, i)->optional) {
                optional++;
                accepted_without += judged(false, &s, "without an optional operand");
            } else {
                refused(&s, QD_ERR_ARGUMENT, operand(x, i)->name, "missing");
            }
        }
    }
    /* A part less makes another result of CONCAT. */
    ck_assert(accepted_without > 0 || !optional || _i == QD_OP_CONCAT);
}
END_TEST

/* Any format that the row does not have, and any but the first input's where the row says so. */
START_TEST(test_format) {
    FOR_CALLS(x) {
        FOR_OPERANDS(x, i) {
            for (int f = 0; f < QD_FORMAT_COUNT; f++) {
                const qd_operand_spec *o = operand(x, i);
                if (o->same_format ? (qd_format)f == x->desc[0].format : o->formats >> f & 1) continue;
                spoilt s = spoil(x);
                qd_tensor_desc *d = &s.x.desc[i];
                d->format = (qd_format)f;
                if (qd_format_get(d->format)->kind == QD_KIND_BLOCKED) d->shape[d->rank - 1] = 256;
                refused(&s, QD_ERR_UNSUPPORTED, o->name, qd_format_get((qd_format)f)->name);
            }
        }
    }
}
END_TEST

/* Ones before the first dimension, or the first ones left out. */
static void change_rank(qd_tensor_desc *d, int rank) {
    qd_tensor_desc old = *d;
    d->rank = rank;
    for (int i = 0; i < QD_MAX_RANK; i++) {
        const int from = i + old.rank - rank;
        d->shape[i] = i >= rank ? 0 : from < 0 ? 1 : old.shape[from];
    }
}

START_TEST(test_rank) {
    FOR_CALLS(x) {
        FOR_OPERANDS(x, i) {
            for (int rank = 1; rank <= QD_MAX_RANK; rank++) {
                if (rank == x->desc[i].rank) continue;
                spoilt s = spoil(x);
                change_rank(&s.x.desc[i], rank);
                judge_shapes(&s, "of another rank");
            }
        }
    }
}
END_TEST

START_TEST(test_shape) {
    FOR_CALLS(x) {
        FOR_OPERANDS(x, i) {
            for (int d = 0; d < x->desc[i].rank; d++) {
                const qd_format_info *f = qd_format_get(x->desc[i].format);
                const bool blocks = d == x->desc[i].rank - 1 && f->kind == QD_KIND_BLOCKED;
                for (int step = -1; step <= 1; step += 2) {
                    spoilt s = spoil(x);
                    int64_t *n = &s.x.desc[i].shape[d];
                    *n += step * (blocks ? f->block : 1);
                    if (*n < 1) continue;
                    judge_shapes(&s, "of another shape");
                }
            }
        }
    }
}
END_TEST

/* Operators that take sizes from their result. */
static bool any_result(qd_op op) {
    return op == QD_OP_RESIZE || op == QD_OP_COPY || op == QD_OP_SET_ROWS || op == QD_OP_ELEMENTWISE;
}

/* What an operator with [...] makes of its inputs is one shape. */
START_TEST(test_result_shape) {
    FOR_CALLS(x) {
        for (int i = QD_MAX_IN; i < OPERANDS; i++) {
            if (!x->given[i] || !operand(x, i)->any_shape || any_result(x->op)) continue;
            for (int d = 0; d < x->desc[i].rank; d++) {
                for (int step = -1; step <= 1; step += 2) {
                    spoilt s = spoil(x);
                    s.x.desc[i].shape[d] += step;
                    if (s.x.desc[i].shape[d] < 1) continue;
                    ck_assert_msg(!judged(false, &s, "a result of another shape"), "%s: %s of another shape",
                                  qd_op_get(x->op)->name, operand(x, i)->name);
                }
            }
        }
    }
}
END_TEST

START_TEST(test_constants) {
    FOR_CALLS(x) {
        FOR_OPERANDS(x, i) {
            spoilt s = spoil(x);
            s.constant[i] = true;
            if (i >= QD_MAX_IN) {
                refused(&s, QD_ERR_ARGUMENT, operand(x, i)->name, "constant");
            } else {
                accepted(&s, "with a constant input");
            }
        }
    }
}
END_TEST

/* As many rows as the run: only inside a graph, and only where the row of qdot_ops.def begins with R. */
START_TEST(test_rows) {
    FOR_CALLS(x) {
        FOR_OPERANDS(x, i) {
            spoilt s = spoil(x);
            s.x.desc[i].shape[0] = QD_ROWS;
            refused(&s, QD_ERR_ARGUMENT, "QD_ROWS", "outside a graph");
            if (operand(x, i)->any_shape) {
                judged(true, &s, "as many rows as the run");
            } else if (first_symbol(x, i) != 'R') {
                refused_in(true, &s, QD_ERR_ARGUMENT, operand(x, i)->name, "as many rows as the run");
            } else if (column_says_all(x) && !operand(x, i)->dim[0].may_be_one) {
                accepted_in(true, &s, "as many rows as the run");
            } else {
                judged(true, &s, "as many rows as the run");
            }
        }
    }
}
END_TEST

/* Inside a graph, a tensor of less rows than runs may have is too small, one of more is not. */
START_TEST(test_rows_of_others) {
    FOR_CALLS(x) {
        if (!column_says_all(x)) continue;
        for (int i = 0; i < OPERANDS; i++) {
            if (!x->given[i] || first_symbol(x, i) != 'R') continue;
            for (int j = 0; j < OPERANDS; j++) {
                if (j == i || !x->given[j] || first_symbol(x, j) != 'R') continue;
                spoilt s = spoil(x);
                for (int k = 0; k < OPERANDS; k++) {
                    if (x->given[k] && first_symbol(x, k) == 'R') s.x.desc[k].shape[0] = QD_ROWS;
                }
                s.x.desc[j].shape[0] = x->rows + 1;
                accepted_in(true, &s, "of more rows");
                s.x.desc[j].shape[0] = x->rows - 1;
                ck_assert_int_gt(x->rows, 2);
                refused_in(true, &s, QD_ERR_ARGUMENT, operand(x, j)->name, "of too few rows");
            }
        }
    }
}
END_TEST

START_TEST(test_other_graph) {
    FOR_CALLS(x) {
        FOR_OPERANDS(x, i) {
            spoilt s = spoil(x);
            s.in_graph[i] = true;
            refused(&s, QD_ERR_ARGUMENT, operand(x, i)->name, "of a graph");
            refused_in(true, &s, QD_ERR_ARGUMENT, operand(x, i)->name, "of another graph");
        }
    }
}
END_TEST

START_TEST(test_other_context) {
    FOR_CALLS(x) {
        FOR_OPERANDS(x, i) {
            spoilt s = spoil(x);
            s.elsewhere[i] = true;
            refused(&s, QD_ERR_ARGUMENT, operand(x, i)->name, "of another context");
            ck_assert_ptr_nonnull(strstr(qd_last_message(), "another context"));
        }
    }
}
END_TEST

static bool same_desc(const qd_tensor_desc *a, const qd_tensor_desc *b) {
    return a->format == b->format && a->rank == b->rank &&
           !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

/* Results over inputs: refused, but for the operators that read each element before they write it. */
START_TEST(test_aliases) {
    FOR_CALLS(x) {
        for (int o = QD_MAX_IN; o < OPERANDS; o++) {
            for (int i = 0; x->given[o] && i < o; i++) {
                if (!x->given[i]) continue;
                spoilt s = spoil(x);
                s.over[o] = 1 + i;
                if (i < QD_MAX_IN && qd_rules_of(x->op)->in_place >> i & 1) {
                    /* The result then has that input's shape and format, which others may not fit. */
                    if (same_desc(&x->desc[o], &x->desc[i])) accepted(&s, "in place");
                    continue;
                }
                refused(&s, QD_ERR_ARGUMENT, operand(x, o)->name, "over another operand");
                ck_assert_ptr_nonnull(
                    strstr(qd_last_message(), i < QD_MAX_IN ? "over an input" : "over another result"));
            }
        }
    }
}
END_TEST

START_TEST(test_counts) {
    const qd_op_info *info = qd_op_get((qd_op)_i);
    call_walk walk = {.op = (qd_op)_i};
    const call *x = next_call(&walk);
    static const char *const what[] = {"too few inputs", "too many inputs", "a negative number of inputs",
                                       "too few outputs", "too many outputs"};
    const int n_in[] = {info->min_in - 1, info->max_in + 1, -1, info->max_in, info->max_in};
    const int n_out[] = {info->n_out, info->n_out, info->n_out, info->n_out - 1, info->n_out + 1};
    for (int i = 0; i < 5; i++) {
        spoilt s = spoil(x);
        s.n_in = n_in[i];
        s.n_out = n_out[i];
        refused(&s, QD_ERR_ARGUMENT, "takes", what[i]);
    }
    qd_plan *plan = NULL;
    qd_tensor *none[OPERANDS] = {0};
    const int n = info->max_in, m = info->n_out;
    ck_fails(qd_plan_create(context, x->op, &x->attrs, NULL, n, none, m, &plan), QD_ERR_ARGUMENT, info->name);
    ck_fails(qd_plan_create(context, x->op, &x->attrs, none, n, NULL, m, &plan), QD_ERR_ARGUMENT, info->name);
    ck_fails(qd_plan_create(context, x->op, &x->attrs, none, n, none, m, NULL), QD_ERR_ARGUMENT, "result");
    ck_fails(qd_plan_create(NULL, x->op, &x->attrs, none, n, none, m, &plan), QD_ERR_ARGUMENT, "context");
    ck_assert_ptr_null(plan);
    spoilt s = spoil(x);
    s.no_attrs = true;
    if (qd_rules_of(x->op)->attrs) {
        refused(&s, QD_ERR_ARGUMENT, "attributes", "missing");
    } else {
        accepted(&s, "without attributes");
    }
    free_call(&walk.call);
}
END_TEST

/* Optional inputs at the end may also be left out of the count. */
START_TEST(test_fewer_inputs) {
    FOR_CALLS(x) {
        spoilt s = spoil(x);
        while (s.n_in > qd_op_get(x->op)->min_in && !x->given[s.n_in - 1])
            s.n_in--;
        if (s.n_in < x->spec.n_in) accepted(&s, "with the operands that it has");
    }
}
END_TEST

/* ---- Attributes, and what goes together --------------------------------------------------------------------- */

/* The first call of an operator; H is 4 and G is 2 where it has heads. */
static spoilt first_call(call_walk *w, qd_op op) {
    static const qd_choice heads[] = {{.name = "G", .value = 2}, {.name = "H / G", .value = 2}};
    *w = (call_walk){.op = op, .fixed = heads, .n_fixed = 2};
    return spoil(next_call(w));
}

START_TEST(test_unknown_operator) {
    qd_plan *plan = NULL;
    qd_tensor *none[OPERANDS] = {0};
    ck_assert_ptr_null(qd_op_get(QD_OP_COUNT));
    ck_assert_ptr_null(qd_op_get((qd_op)-1));
    ck_fails(qd_plan_create(context, QD_OP_COUNT, NULL, none, 1, none, 1, &plan), QD_ERR_ARGUMENT, "operator");
    ck_fails(qd_plan_create(context, (qd_op)-1, NULL, none, 1, none, 1, &plan), QD_ERR_ARGUMENT, "operator");
}
END_TEST

START_TEST(test_epsilon) {
    static const float bad[] = {-1e-9f, 1.0f, __builtin_nanf(""), __builtin_inff()};
    for (qd_op op = QD_OP_RMS_NORM; op <= QD_OP_LAYER_NORM; op++) {
        call_walk w;
        spoilt s = first_call(&w, op);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            s.x.attrs.rms_norm.epsilon = bad[i];
            refused(&s, QD_ERR_ARGUMENT, "epsilon", "outside its range");
        }
        s.x.attrs.rms_norm.epsilon = 0;
        accepted(&s, "epsilon 0");
        free_call(&w.call);
    }
}
END_TEST

/* Heads and head_dim that are no sizes, alone and together, whatever the shapes. */
START_TEST(test_head_counts) {
    static const int bad[] = {0, -1, -32, (1 << 20) + 1, INT32_MAX, INT32_MIN};
    call_walk rope, store, attention;
    const spoilt r = first_call(&rope, QD_OP_ROPE), k = first_call(&store, QD_OP_KV_STORE),
                 a = first_call(&attention, QD_OP_ATTENTION);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        spoilt s = r;
        s.x.attrs.rope.heads = bad[i];
        refused(&s, QD_ERR_ARGUMENT, "heads", "of rope");
        s = r;
        s.x.attrs.rope.head_dim = bad[i];
        refused(&s, QD_ERR_ARGUMENT, "head_dim", "of rope");
        s = k;
        s.x.attrs.kv.heads = bad[i];
        refused(&s, QD_ERR_ARGUMENT, "heads", "of kv_store");
        s = k;
        s.x.attrs.kv.head_dim = bad[i];
        refused(&s, QD_ERR_ARGUMENT, "head_dim", "of kv_store");
        s = a;
        s.x.attrs.attention.heads = bad[i];
        refused(&s, QD_ERR_ARGUMENT, "heads", "of attention");
        s = a;
        s.x.attrs.attention.kv_heads = bad[i];
        refused(&s, QD_ERR_ARGUMENT, "heads", "for keys and values");
        s = a;
        s.x.attrs.attention.head_dim = bad[i];
        refused(&s, QD_ERR_ARGUMENT, "head_dim", "of attention");
    }
    free_call(&rope.call);
    free_call(&store.call);
    free_call(&attention.call);
}
END_TEST

START_TEST(test_heads_no_multiple) {
    call_walk w;
    spoilt s = first_call(&w, QD_OP_ATTENTION);
    s.x.attrs.attention.kv_heads = 3;
    s.x.desc[1].shape[0] = s.x.desc[2].shape[0] = 3;
    refused(&s, QD_ERR_ARGUMENT, "heads", "no multiple of 3");
    free_call(&w.call);
}
END_TEST

START_TEST(test_head_dim) {
    call_walk w;
    spoilt s = first_call(&w, QD_OP_ROPE);
    s.x.attrs.rope.head_dim = 31;
    s.x.attrs.rope.dims = 0;
    s.x.desc[0].shape[1] = s.x.desc[QD_MAX_IN].shape[1] = 4 * 31;
    s.x.desc[1].shape[1] = 31;
    refused(&s, QD_ERR_ARGUMENT, "head_dim", "odd");
    free_call(&w.call);
    s = first_call(&w, QD_OP_KV_STORE);
    s.x.attrs.kv.head_dim = 24;
    s.x.desc[0].shape[1] = s.x.desc[1].shape[1] = 2 * 24;
    s.x.desc[QD_MAX_IN].shape[2] = s.x.desc[QD_MAX_IN + 1].shape[2] = 24;
    refused(&s, QD_ERR_UNSUPPORTED, "head_dim", "no multiple of 16");
    free_call(&w.call);
    s = first_call(&w, QD_OP_ATTENTION);
    s.x.attrs.attention.head_dim = 24;
    s.x.desc[0].shape[1] = s.x.desc[QD_MAX_IN].shape[1] = 4 * 24;
    s.x.desc[1].shape[2] = s.x.desc[2].shape[2] = 24;
    refused(&s, QD_ERR_UNSUPPORTED, "head_dim", "no multiple of 16");
    free_call(&w.call);
}
END_TEST

START_TEST(test_positions) {
    call_walk w;
    spoilt s = first_call(&w, QD_OP_KV_STORE);
    s.x.desc[QD_MAX_IN].shape[1] = s.x.desc[QD_MAX_IN + 1].shape[1] = 40;
    refused(&s, QD_ERR_UNSUPPORTED, "positions", "no multiple of 16");
    free_call(&w.call);
    s = first_call(&w, QD_OP_ATTENTION);
    s.x.desc[1].shape[1] = s.x.desc[2].shape[1] = 40;
    refused(&s, QD_ERR_UNSUPPORTED, "positions", "no multiple of 16");
    free_call(&w.call);
}
END_TEST

/* Formats that each operand may have, but not together: the walk over combinations leaves them out. */
START_TEST(test_float_weights_a8) {
    static const qd_format weights[] = {QD_FORMAT_F32, QD_FORMAT_F16, QD_FORMAT_BF16};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        const qd_format formats[OPERANDS] = {QD_FORMAT_Q8_0, QD_FORMAT_A8, [QD_MAX_IN] = QD_FORMAT_F32};
        qd_format made[OPERANDS];
        for (int j = 0; qd_case_formats(QD_OP_MATMUL, j, made); j++)
            ck_assert(made[0] != weights[i] || made[1] != QD_FORMAT_A8);
        call x;
        make_call(&x, QD_OP_MATMUL, formats, 1, NULL, 0);
        spoilt s = spoil(&x);
        s.x.desc[0].format = weights[i];
        refused(&s, QD_ERR_UNSUPPORTED, "weights", qd_format_get(weights[i])->name);
        free_call(&x);
    }
}
END_TEST

/* Columns in common are enough; columns side by side are not. */
START_TEST(test_overlapping_views) {
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 2, 64, 0, 0);
    qd_tensor *t, *v[4];
    static const int64_t first[] = {0, 32, 16, 31};
    ck_ok(qd_tensor_create(context, &d, &t));
    for (int i = 0; i < 4; i++)
        ck_ok(qd_tensor_view(t, first[i], 32, &v[i]));
    static const struct {
        int in, out;
        qd_op op;
        qd_status want;
    } cases[] = {
        {0, 1, QD_OP_SWIGLU, QD_OK},           {1, 0, QD_OP_SWIGLU, QD_OK},
        {0, 2, QD_OP_ADD, QD_ERR_ARGUMENT},    {2, 0, QD_OP_ADD, QD_ERR_ARGUMENT},
        {0, 3, QD_OP_ADD, QD_ERR_ARGUMENT},    {3, 1, QD_OP_SWIGLU, QD_ERR_ARGUMENT},
        {0, 0, QD_OP_SWIGLU, QD_ERR_ARGUMENT}, {0, 0, QD_OP_ADD, QD_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qd_plan *p = NULL;
        qd_tensor *const in[] = {v[cases[i].in], v[cases[i].in]};
        const qd_status status = qd_plan_create(context, cases[i].op, NULL, in, 2, &v[cases[i].out], 1, &p);
        ck_assert_msg(status == cases[i].want, "case %zu: %s: %s", i, qd_status_name(status), qd_last_message());
        qd_plan_free(p);
    }
    for (int i = 0; i < 4; i++)
        qd_tensor_free(v[i]);
    qd_tensor_free(t);
}
END_TEST

/* Kernels count in 32 bits. The data of these constants is never looked at. */
START_TEST(test_huge_dimensions) {
    static const int64_t rows[] = {INT32_MAX, (int64_t)1 << 31, (int64_t)1 << 32, (int64_t)1 << 40};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const qd_tensor_desc dt = qd_desc(QD_FORMAT_F16, rows[i], 1, 0, 0), di = qd_desc(QD_FORMAT_I32, 2, 0, 0, 0),
                             dy = qd_desc(QD_FORMAT_F32, 2, 1, 0, 0);
        qd_tensor *table, *ids, *y;
        qd_plan *p = NULL;
        ck_ok(qd_tensor_constant(context, &dt, zeros, &table));
        ck_ok(qd_tensor_create(context, &di, &ids));
        ck_ok(qd_tensor_create(context, &dy, &y));
        ck_fails(qd_plan_create(context, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){table, ids}, 2, &y, 1, &p),
                 QD_ERR_UNSUPPORTED, "get_rows: a dimension");
        qd_tensor_free(table);
        qd_tensor_free(ids);
        qd_tensor_free(y);
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("operands");
    tcase_add_checked_fixture(tc, open_reference, close_reference);
    tcase_add_loop_test(tc, test_fitting, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_missing, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_format, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_rank, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_shape, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_result_shape, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_constants, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_rows, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_rows_of_others, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_other_graph, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_other_context, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_aliases, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_counts, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_fewer_inputs, 0, QD_OP_COUNT);
    tcase_add_test(tc, test_unknown_operator);
    tcase_add_test(tc, test_epsilon);
    tcase_add_test(tc, test_head_counts);
    tcase_add_test(tc, test_heads_no_multiple);
    tcase_add_test(tc, test_head_dim);
    tcase_add_test(tc, test_positions);
    tcase_add_test(tc, test_float_weights_a8);
    tcase_add_test(tc, test_overlapping_views);
    tcase_add_test(tc, test_huge_dimensions);
    return run_tests(tc, "operands");
}
