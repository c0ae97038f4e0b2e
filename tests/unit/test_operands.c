/* Every operator's operands: whatever does not fit is refused with a message that names it. The mutations are made from
 * the operand column of qdot_ops.def, so a new operator is tested without a change here. */
#include "core/operands.h"

#include "unit/devices.h"

enum { OPERANDS = QD_MAX_IN + QD_MAX_OUT };

/* Values of the symbols: all different, last dimensions whole blocks of every format. */
static const qd_symbols symbols = {{['R' - 'A'] = 2,
                                    ['C' - 'A'] = 64,
                                    ['K' - 'A'] = 96,
                                    ['N' - 'A'] = 32,
                                    ['V' - 'A'] = 5,
                                    ['H' - 'A'] = 4,
                                    ['G' - 'A'] = 2,
                                    ['D' - 'A'] = 32,
                                    ['P' - 'A'] = 16}};

/* A call of an operator that fits, for tests to spoil. */
typedef struct call {
    qd_op op;
    qd_op_spec spec;
    qd_attrs attrs;
    const qd_attrs *attrs_given;
    qd_tensor_desc desc[OPERANDS]; /* inputs, then outputs from QD_MAX_IN on */
    bool absent[OPERANDS], constant[OPERANDS], in_graph[OPERANDS];
    int same_as[OPERANDS]; /* 1 + the operand whose tensor this one is, too */
    int n_in, n_out;
} call;

static const qd_operand_spec *operand(const call *x, int i) {
    if (i < QD_MAX_IN) return i < x->spec.n_in ? &x->spec.in[i] : NULL;
    return i - QD_MAX_IN < x->spec.n_out ? &x->spec.out[i - QD_MAX_IN] : NULL;
}

static call fitting_call(qd_op op) {
    call x = {.op = op};
    qd_op_spec_read(op, &x.spec);
    x.n_in = x.spec.n_in;
    x.n_out = x.spec.n_out;
    const int H = (int)symbols.of['H' - 'A'], G = (int)symbols.of['G' - 'A'], D = (int)symbols.of['D' - 'A'];
    if (op == QD_OP_RMS_NORM) x.attrs.rms_norm.epsilon = 1e-5f;
    if (op == QD_OP_ROPE) {
        x.attrs.rope.heads = H;
        x.attrs.rope.head_dim = D;
    }
    if (op == QD_OP_KV_STORE) {
        x.attrs.kv.heads = G;
        x.attrs.kv.head_dim = D;
    }
    if (op == QD_OP_ATTENTION) {
        x.attrs.attention.heads = H;
        x.attrs.attention.kv_heads = G;
        x.attrs.attention.head_dim = D;
        x.attrs.attention.scale = 0.25f;
    }
    for (int i = 0; i < OPERANDS; i++) {
        const qd_operand_spec *o = operand(&x, i);
        if (!o) continue;
        x.desc[i].format = (qd_format)__builtin_ctz(o->formats);
        x.desc[i].rank = o->rank;
        for (int d = 0; d < o->rank; d++)
            x.desc[i].shape[d] = qd_dim_value(o->dim[d], &symbols);
    }
    return x;
}

static qd_context *context;
static unsigned char zeros[1 << 16];

/* Makes the call's tensors, then a plan, or appends to a graph of 2 rows. */
static qd_status make(const call *x, bool in_graph) {
    qd_tensor *t[OPERANDS] = {0};
    qd_graph *g = NULL;
    qd_plan *const unset = (qd_plan *)zeros;
    qd_plan *plan = unset;
    bool owned[OPERANDS] = {0};
    if (in_graph) ck_ok(qd_graph_create(context, 2, &g));
    for (int i = 0; i < OPERANDS; i++) {
        if (!operand(x, i) || x->absent[i]) continue;
        if (x->same_as[i]) {
            t[i] = t[x->same_as[i] - 1];
            continue;
        }
        if (x->desc[i].shape[0] == QD_ROWS || x->in_graph[i]) {
            if (!g) ck_ok(qd_graph_create(context, 2, &g));
            ck_ok(qd_graph_tensor(g, &x->desc[i], &t[i]));
            continue;
        }
        owned[i] = true;
        if (x->constant[i]) {
            ck_assert_uint_le(qd_desc_bytes(&x->desc[i]), sizeof zeros);
            ck_ok(qd_tensor_constant(context, &x->desc[i], zeros, &t[i]));
        } else {
            ck_ok(qd_tensor_create(context, &x->desc[i], &t[i]));
        }
    }
    qd_fail(QD_OK, "no message");
    qd_status status;
    if (in_graph) {
        status = qd_graph_add(g, x->op, x->attrs_given, t, x->n_in, t + QD_MAX_IN, x->n_out);
    } else {
        status = qd_plan_create(context, x->op, x->attrs_given, t, x->n_in, t + QD_MAX_IN, x->n_out, &plan);
        if (status) ck_assert_ptr_eq(plan, unset);
        if (!status) qd_plan_free(plan);
    }
    for (int i = 0; i < OPERANDS; i++) {
        if (owned[i]) qd_tensor_free(t[i]);
    }
    qd_graph_free(g);
    return status;
}

/* The call must fail with a message that begins with the operator and contains the word `part`. */
static void refused_in(bool in_graph, call *x, qd_status want, const char *part, const char *what) {
    x->attrs_given = x->attrs_given ? x->attrs_given : &x->attrs;
    const qd_status got = make(x, in_graph);
    const char *op = qd_op_get(x->op)->name, *message = qd_last_message();
    ck_assert_msg(got == want, "%s, %s %s: %s, not %s: %s", op, part, what, qd_status_name(got), qd_status_name(want),
                  message);
    ck_assert_msg(!strncmp(message, op, strlen(op)) && message[strlen(op)] == ':', "\"%s\" does not begin with %s",
                  message, op);
    const char *at = strstr(message, part);
    while (at && ((at[-1] != ' ') || strspn(at + strlen(part), "abcdefghijklmnopqrstuvwxyz_")))
        at = strstr(at + 1, part);
    ck_assert_msg(at != NULL, "%s, %s %s: \"%s\" does not name it", op, part, what, message);
}

static void refused(call *x, qd_status want, const char *part, const char *what) {
    refused_in(false, x, want, part, what);
}

static void accepted(call *x, const char *what) {
    x->attrs_given = &x->attrs;
    const qd_status got = make(x, false);
    ck_assert_msg(got == QD_OK, "%s, %s: %s", qd_op_get(x->op)->name, what, qd_last_message());
}

static void open_reference(void) {
    ck_ok(qd_context_create("ref", NULL, &context));
}

static void close_reference(void) {
    qd_context_free(context);
}

/* ---- Made from the operand column --------------------------------------------------------------------------- */

#define FOR_OPERANDS(i)                           \
    const call fitting = fitting_call((qd_op)_i); \
    for (int i = 0; i < OPERANDS; i++)            \
        if (operand(&fitting, i) == NULL)         \
            continue;                             \
        else

START_TEST(test_fitting) {
    call x = fitting_call((qd_op)_i);
    accepted(&x, "as it should be");
    FOR_OPERANDS(i) {
        call without = fitting;
        without.absent[i] = true;
        if (operand(&fitting, i)->optional) accepted(&without, "without an optional operand");
    }
}
END_TEST

START_TEST(test_missing) {
    FOR_OPERANDS(i) {
        call x = fitting;
        x.absent[i] = true;
        if (!operand(&x, i)->optional) refused(&x, QD_ERR_ARGUMENT, operand(&x, i)->name, "missing");
    }
}
END_TEST

START_TEST(test_format) {
    FOR_OPERANDS(i) {
        for (int f = 0; f < QD_FORMAT_COUNT; f++) {
            call x = fitting;
            const qd_operand_spec *o = operand(&x, i);
            if (o->formats >> f & 1) continue;
            x.desc[i].format = (qd_format)f;
            if (x.desc[i].shape[x.desc[i].rank - 1] % 32) x.desc[i].shape[x.desc[i].rank - 1] = 32;
            refused(&x, QD_ERR_UNSUPPORTED, o->name, qd_format_get((qd_format)f)->name);
        }
    }
}
END_TEST

START_TEST(test_rank) {
    FOR_OPERANDS(i) {
        const qd_operand_spec *o = operand(&fitting, i);
        call x = fitting;
        memmove(x.desc[i].shape + 1, x.desc[i].shape, sizeof x.desc[i].shape - sizeof x.desc[i].shape[0]);
        x.desc[i].shape[0] = 1;
        x.desc[i].rank++;
        refused(&x, QD_ERR_ARGUMENT, o->name, "of higher rank");
        x = fitting;
        if (o->rank == 1) continue;
        memmove(x.desc[i].shape, x.desc[i].shape + 1, sizeof x.desc[i].shape - sizeof x.desc[i].shape[0]);
        x.desc[i].rank--;
        if (o->optional) {
            accepted(&x, "with one row for all");
            x.desc[i].shape[0] += 32;
            refused(&x, QD_ERR_ARGUMENT, o->name, "one row of other length");
        } else {
            refused(&x, QD_ERR_ARGUMENT, o->name, "of lower rank");
        }
    }
}
END_TEST

/* Who is blamed when dimension d of operand i is another: the first in order whose symbol has a value already. NULL: it
 * may be anything. */
static const char *to_blame(const call *x, int i, int d) {
    qd_symbols fixed = {{0}};
    qd_symbols_from_attrs(x->op, &x->attrs, &fixed);
    const qd_dim_spec dim = operand(x, i)->dim[d];
    if (dim.b || dim.a == '1' || fixed.of[dim.a - 'A']) return operand(x, i)->name;
    const char *first = NULL;
    for (int j = 0; j < OPERANDS; j++) {
        const qd_operand_spec *o = operand(x, j);
        for (int e = 0; o && e < o->rank; e++) {
            if (o->dim[e].a != dim.a) continue;
            if (first) return j > i ? o->name : operand(x, i)->name;
            first = o->name;
        }
    }
    return NULL;
}

START_TEST(test_shape) {
    FOR_OPERANDS(i) {
        for (int d = 0; d < operand(&fitting, i)->rank; d++) {
            for (int step = -1; step <= 1; step += 2) {
                call x = fitting;
                int64_t *n = &x.desc[i].shape[d];
                *n += *n > 32 ? 32 * step : *n == 32 ? 32 : 16;
                const char *blamed = to_blame(&x, i, d);
                if (blamed) {
                    refused(&x, QD_ERR_ARGUMENT, blamed, "of another shape");
                } else {
                    accepted(&x, "a dimension that may be anything");
                }
            }
        }
    }
}
END_TEST

START_TEST(test_constant_output) {
    FOR_OPERANDS(i) {
        call x = fitting;
        x.constant[i] = true;
        if (i >= QD_MAX_IN) {
            refused(&x, QD_ERR_ARGUMENT, operand(&x, i)->name, "constant");
        } else {
            accepted(&x, "with a constant input");
        }
    }
}
END_TEST

START_TEST(test_rows) {
    FOR_OPERANDS(i) {
        call x = fitting;
        const qd_operand_spec *o = operand(&x, i);
        x.desc[i].shape[0] = QD_ROWS;
        if (o->rank == 1 && x.desc[i].format != QD_FORMAT_F32 && x.desc[i].format != QD_FORMAT_I32) continue;
        x.attrs_given = &x.attrs;
        if (o->dim[0].a == 'R') {
            refused(&x, QD_ERR_ARGUMENT, "QD_ROWS", "outside a graph");
            ck_assert_msg(make(&x, true) == QD_OK, "%s: %s", o->name, qd_last_message());
        } else {
            refused_in(true, &x, QD_ERR_ARGUMENT, o->name, "as many rows as the run");
        }
    }
}
END_TEST

/* Inside a graph whose runs have up to 2 rows, a tensor of 1 row is too small, one of 3 is not. */
START_TEST(test_rows_of_others) {
    const call fitting = fitting_call((qd_op)_i);
    for (int i = 0; i < OPERANDS; i++) {
        const qd_operand_spec *o = operand(&fitting, i);
        if (!o || o->dim[0].a != 'R') continue;
        for (int j = 0; j < OPERANDS; j++) {
            const qd_operand_spec *p = operand(&fitting, j);
            if (j == i || !p || p->dim[0].a != 'R') continue;
            call x = fitting;
            x.desc[i].shape[0] = QD_ROWS;
            x.desc[j].shape[0] = 3;
            x.attrs_given = &x.attrs;
            for (int k = 0; k < OPERANDS; k++) {
                if (k != i && k != j && operand(&x, k) && operand(&x, k)->dim[0].a == 'R') x.desc[k].shape[0] = QD_ROWS;
            }
            ck_assert_msg(make(&x, true) == QD_OK, "%s of 3 rows: %s", p->name, qd_last_message());
            x.desc[j].shape[0] = 1;
            refused_in(true, &x, QD_ERR_ARGUMENT, p->name, "of too few rows");
        }
    }
}
END_TEST

START_TEST(test_no_memory) {
    FOR_OPERANDS(i) {
        call x = fitting;
        x.in_graph[i] = true;
        refused(&x, QD_ERR_ARGUMENT, operand(&x, i)->name, "of a graph that is not compiled");
    }
}
END_TEST

START_TEST(test_counts) {
    const qd_op_info *info = qd_op_get((qd_op)_i);
    call x = fitting_call((qd_op)_i);
    x.n_in = info->min_in - 1;
    refused(&x, QD_ERR_ARGUMENT, "takes", "too few inputs");
    x.n_in = info->max_in + 1;
    refused(&x, QD_ERR_ARGUMENT, "takes", "too many inputs");
    x.n_in = -1;
    refused(&x, QD_ERR_ARGUMENT, "takes", "a negative number of inputs");
    x.n_in = info->max_in;
    x.n_out = info->n_out - 1;
    refused(&x, QD_ERR_ARGUMENT, "takes", "too few outputs");
    x.n_out = info->n_out + 1;
    refused(&x, QD_ERR_ARGUMENT, "takes", "too many outputs");
    x.n_out = info->n_out;
    qd_plan *plan = NULL;
    qd_tensor *none[OPERANDS] = {0};
    ck_fails(qd_plan_create(context, x.op, &x.attrs, NULL, x.n_in, none, x.n_out, &plan), QD_ERR_ARGUMENT, info->name);
    ck_fails(qd_plan_create(context, x.op, &x.attrs, none, x.n_in, NULL, x.n_out, &plan), QD_ERR_ARGUMENT, info->name);
    ck_fails(qd_plan_create(context, x.op, &x.attrs, none, x.n_in, none, x.n_out, NULL), QD_ERR_ARGUMENT, "result");
    ck_fails(qd_plan_create(NULL, x.op, &x.attrs, none, x.n_in, none, x.n_out, &plan), QD_ERR_ARGUMENT, "context");
    ck_assert_ptr_null(plan);
    const bool has_attrs =
        x.op == QD_OP_RMS_NORM || x.op == QD_OP_ROPE || x.op == QD_OP_KV_STORE || x.op == QD_OP_ATTENTION;
    x.attrs_given = NULL;
    const qd_status without = make(&x, false);
    ck_assert_int_eq(without, (has_attrs ? QD_ERR_ARGUMENT : QD_OK));
    if (has_attrs) ck_assert_ptr_nonnull(strstr(qd_last_message(), "attributes"));
}
END_TEST

/* ---- Attributes, and what goes together --------------------------------------------------------------------- */

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
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        call x = fitting_call(QD_OP_RMS_NORM);
        x.attrs.rms_norm.epsilon = bad[i];
        refused(&x, QD_ERR_ARGUMENT, "epsilon", "outside its range");
    }
    call x = fitting_call(QD_OP_RMS_NORM);
    x.attrs.rms_norm.epsilon = 0;
    accepted(&x, "epsilon 0");
}
END_TEST

/* Heads and head_dim that are no sizes, alone and together, whatever the shapes. */
START_TEST(test_head_counts) {
    static const int bad[] = {0, -1, -32, (1 << 20) + 1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        call x = fitting_call(QD_OP_ROPE);
        x.attrs.rope.heads = bad[i];
        refused(&x, QD_ERR_ARGUMENT, "heads", "of rope");
        x = fitting_call(QD_OP_ROPE);
        x.attrs.rope.head_dim = bad[i];
        refused(&x, QD_ERR_ARGUMENT, "head_dim", "of rope");
        x = fitting_call(QD_OP_KV_STORE);
        x.attrs.kv.heads = bad[i];
        refused(&x, QD_ERR_ARGUMENT, "heads", "of kv_store");
        x = fitting_call(QD_OP_KV_STORE);
        x.attrs.kv.head_dim = bad[i];
        refused(&x, QD_ERR_ARGUMENT, "head_dim", "of kv_store");
        x = fitting_call(QD_OP_ATTENTION);
        x.attrs.attention.heads = bad[i];
        refused(&x, QD_ERR_ARGUMENT, "heads", "of attention");
        x = fitting_call(QD_OP_ATTENTION);
        x.attrs.attention.kv_heads = bad[i];
        refused(&x, QD_ERR_ARGUMENT, "heads", "for keys and values");
        x = fitting_call(QD_OP_ATTENTION);
        x.attrs.attention.head_dim = bad[i];
        refused(&x, QD_ERR_ARGUMENT, "head_dim", "of attention");
    }
}
END_TEST

START_TEST(test_heads_no_multiple) {
    call x = fitting_call(QD_OP_ATTENTION);
    x.attrs.attention.kv_heads = 3;
    x.desc[1].shape[0] = x.desc[2].shape[0] = 3;
    refused(&x, QD_ERR_ARGUMENT, "heads", "no multiple of 3");
}
END_TEST

START_TEST(test_head_dim) {
    call x = fitting_call(QD_OP_ROPE);
    x.attrs.rope.head_dim = 31;
    x.desc[0].shape[1] = x.desc[QD_MAX_IN].shape[1] = 4 * 31;
    x.desc[1].shape[1] = 31;
    refused(&x, QD_ERR_ARGUMENT, "head_dim", "odd");
    x = fitting_call(QD_OP_KV_STORE);
    x.attrs.kv.head_dim = 24;
    x.desc[0].shape[1] = x.desc[1].shape[1] = 2 * 24;
    x.desc[QD_MAX_IN].shape[2] = x.desc[QD_MAX_IN + 1].shape[2] = 24;
    refused(&x, QD_ERR_UNSUPPORTED, "head_dim", "no multiple of 16");
    x = fitting_call(QD_OP_ATTENTION);
    x.attrs.attention.head_dim = 24;
    x.desc[0].shape[1] = x.desc[QD_MAX_IN].shape[1] = 4 * 24;
    x.desc[1].shape[2] = x.desc[2].shape[2] = 24;
    refused(&x, QD_ERR_UNSUPPORTED, "head_dim", "no multiple of 16");
}
END_TEST

START_TEST(test_positions) {
    call x = fitting_call(QD_OP_KV_STORE);
    x.desc[QD_MAX_IN].shape[1] = x.desc[QD_MAX_IN + 1].shape[1] = 40;
    refused(&x, QD_ERR_UNSUPPORTED, "positions", "no multiple of 16");
    x = fitting_call(QD_OP_ATTENTION);
    x.desc[1].shape[1] = x.desc[2].shape[1] = 40;
    refused(&x, QD_ERR_UNSUPPORTED, "positions", "no multiple of 16");
}
END_TEST

START_TEST(test_float_weights_a8) {
    static const qd_format weights[] = {QD_FORMAT_F32, QD_FORMAT_F16, QD_FORMAT_BF16};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        call x = fitting_call(QD_OP_MATMUL);
        x.desc[0].format = weights[i];
        x.desc[1].format = QD_FORMAT_A8;
        refused(&x, QD_ERR_UNSUPPORTED, "weights", qd_format_get(weights[i])->name);
    }
}
END_TEST

/* Results over inputs: refused, but for the operators that read each element before they write it. */
START_TEST(test_aliases) {
    /* Pairs of an input and a result that can be one tensor, and must not. */
    static const int expected[QD_OP_COUNT] = {
        [QD_OP_RMS_NORM] = 1, [QD_OP_MATMUL] = 3, [QD_OP_ROPE] = 1, [QD_OP_ATTENTION] = 1, [QD_OP_SWIGLU] = 2};
    const qd_op op = (qd_op)_i;
    const call fitting = fitting_call(op);
    int aliases_refused = 0;
    for (int i = 0; i < QD_MAX_IN; i++) {
        for (int o = QD_MAX_IN; operand(&fitting, i) && o < OPERANDS; o++) {
            call x = fitting;
            if (!operand(&x, o) || operand(&x, i)->rank != operand(&x, o)->rank) continue;
            if (x.desc[i].format != x.desc[o].format) continue;
            /* Where the shapes may be the same, they are. */
            if (op == QD_OP_MATMUL) {
                for (int j = 0; j < OPERANDS; j++) {
                    if (operand(&x, j)) x.desc[j].shape[0] = x.desc[j].shape[1] = 32;
                }
            }
            if (op == QD_OP_ROPE) {
                x.attrs.rope.heads = 1;
                x.desc[0].shape[0] = x.desc[1].shape[0] = x.desc[o].shape[0] = 16;
                x.desc[0].shape[1] = x.desc[o].shape[1] = 32;
            }
            if (op == QD_OP_KV_STORE || op == QD_OP_GET_ROWS) continue; /* the shapes differ */
            x.same_as[o] = i + 1;
            if (memcmp(x.desc[i].shape, x.desc[o].shape, sizeof x.desc[i].shape)) continue;
            if (op == QD_OP_ADD || (op == QD_OP_ROPE && i == 0)) {
                accepted(&x, "in place");
            } else {
                refused(&x, QD_ERR_ARGUMENT, operand(&x, o)->name, "over an input");
                ck_assert_ptr_nonnull(strstr(qd_last_message(), "over an input"));
                aliases_refused++;
            }
        }
    }
    ck_assert_int_eq(aliases_refused, expected[op]);
}
END_TEST

START_TEST(test_same_results) {
    call x = fitting_call(QD_OP_KV_STORE);
    x.same_as[QD_MAX_IN + 1] = QD_MAX_IN + 1;
    refused(&x, QD_ERR_ARGUMENT, "vcache", "and kcache in one");
    ck_assert_ptr_nonnull(strstr(qd_last_message(), "over another result"));
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

START_TEST(test_other_context) {
    qd_context *other;
    ck_ok(qd_context_create("ref", NULL, &other));
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 2, 8, 0, 0);
    qd_tensor *ours[2], *theirs;
    for (int i = 0; i < 2; i++)
        ck_ok(qd_tensor_create(context, &d, &ours[i]));
    ck_ok(qd_tensor_create(other, &d, &theirs));
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"a", "b", "y"};
        qd_tensor *in[] = {i == 0 ? theirs : ours[0], i == 1 ? theirs : ours[1]};
        qd_tensor *out[] = {i == 2 ? theirs : ours[1]};
        qd_plan *plan = NULL;
        ck_fails(qd_plan_create(context, QD_OP_ADD, NULL, in, 2, out, 1, &plan), QD_ERR_ARGUMENT, "context");
        char word[8];
        snprintf(word, sizeof word, " %s ", names[i]);
        ck_assert_msg(strstr(qd_last_message(), word) != NULL, "%s", qd_last_message());
        ck_assert_ptr_null(plan);
    }
    qd_tensor_free(theirs);
    qd_tensor_free(ours[0]);
    qd_tensor_free(ours[1]);
    qd_context_free(other);
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
    tcase_add_loop_test(tc, test_constant_output, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_rows, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_rows_of_others, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_no_memory, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_counts, 0, QD_OP_COUNT);
    tcase_add_test(tc, test_unknown_operator);
    tcase_add_test(tc, test_epsilon);
    tcase_add_test(tc, test_head_counts);
    tcase_add_test(tc, test_heads_no_multiple);
    tcase_add_test(tc, test_head_dim);
    tcase_add_test(tc, test_positions);
    tcase_add_test(tc, test_float_weights_a8);
    tcase_add_loop_test(tc, test_aliases, 0, QD_OP_COUNT);
    tcase_add_test(tc, test_same_results);
    tcase_add_test(tc, test_overlapping_views);
    tcase_add_test(tc, test_huge_dimensions);
    tcase_add_test(tc, test_other_context);
    return run_tests(tc, "operands");
}
