/* Plans: every operator with its operands in every kind of memory, on a device and on the reference; lifetimes. */
#include "core/operands.h"
#include "unit/devices.h"

enum { OPERANDS = QD_MAX_IN + QD_MAX_OUT };

/* Where an operand's bytes are. */
typedef enum place { PLAIN, CONSTANT, VIEW_AT_0, VIEW_INSIDE, ONE_ROW, ONE_ROW_CONSTANT, ABSENT, PLACES } place;

static const char *const place_names[PLACES] = {
    "plain", "constant", "view from column 0", "view inside", "one row", "one constant row", "absent"};

/* The problem of an operator and formats: descs and bytes of the operands, as bases of views where they are views. */
typedef struct problem {
    qd_op op;
    qd_op_spec spec;
    qd_attrs attrs;
    place places[OPERANDS];
    qd_tensor_desc desc[OPERANDS], base[OPERANDS];
    void *data[OPERANDS];
} problem;

static const qd_operand_spec *operand(const problem *p, int i) {
    if (i < QD_MAX_IN) return i < p->spec.n_in ? &p->spec.in[i] : NULL;
    return i - QD_MAX_IN < p->spec.n_out ? &p->spec.out[i - QD_MAX_IN] : NULL;
}

static bool place_is_legal(const problem *p, int i, qd_format f, place where) {
    const qd_operand_spec *o = operand(p, i);
    switch (where) {
        case PLAIN:
            return true;
        case CONSTANT:
            return i < QD_MAX_IN;
        case VIEW_AT_0:
        case VIEW_INSIDE:
            return f == QD_FORMAT_F32 && o->rank == 2;
        case ONE_ROW:
        case ONE_ROW_CONSTANT:
            return o->optional && o->rank == 2;
        case ABSENT:
            return o->optional;
        default:
            return false;
    }
}

static void fill(const problem *p, int i, uint32_t *rng, int64_t vocabulary) {
    const qd_tensor_desc *d = &p->base[i];
    if (d->format != QD_FORMAT_I32) return;
    int32_t *x = p->data[i];
    const bool ids = !strcmp(operand(p, i)->name, "ids");
    for (int64_t j = 0; j < d->shape[0]; j++)
        x[j] = ids ? (int32_t)random_between(rng, 0, vocabulary - 1) : 5;
}

static void make_problem(problem *p, qd_op op, const qd_format formats[OPERANDS], int special, place where) {
    static const qd_symbols symbols = {{['R' - 'A'] = 6,
                                        ['C' - 'A'] = 96,
                                        ['K' - 'A'] = 160,
                                        ['N' - 'A'] = 37,
                                        ['V' - 'A'] = 11,
                                        ['H' - 'A'] = 4,
                                        ['G' - 'A'] = 2,
                                        ['D' - 'A'] = 32,
                                        ['P' - 'A'] = 48}};
    memset(p, 0, sizeof *p);
    p->op = op;
    qd_op_spec_read(op, &p->spec);
    const int H = (int)symbols.of['H' - 'A'], G = (int)symbols.of['G' - 'A'], D = (int)symbols.of['D' - 'A'];
    if (op == QD_OP_RMS_NORM) p->attrs.rms_norm.epsilon = 1e-5f;
    if (op == QD_OP_ROPE) {
        p->attrs.rope.heads = H;
        p->attrs.rope.head_dim = D;
        p->attrs.rope.neox = special % 2;
    }
    if (op == QD_OP_KV_STORE) {
        p->attrs.kv.heads = G;
        p->attrs.kv.head_dim = D;
    }
    if (op == QD_OP_ATTENTION) {
        p->attrs.attention.heads = H;
        p->attrs.attention.kv_heads = G;
        p->attrs.attention.head_dim = D;
        p->attrs.attention.scale = 0.25f;
    }
    uint32_t rng = 17;
    for (int i = 0; i < OPERANDS; i++) {
        const qd_operand_spec *o = operand(p, i);
        if (!o) continue;
        p->places[i] = i == special ? where : PLAIN;
        const int skip = p->places[i] == ONE_ROW || p->places[i] == ONE_ROW_CONSTANT;
        p->desc[i].format = formats[i];
        p->desc[i].rank = o->rank - skip;
        for (int d = 0; d < p->desc[i].rank; d++)
            p->desc[i].shape[d] = qd_dim_value(o->dim[d + skip], &symbols);
        p->base[i] = p->desc[i];
        if (p->places[i] == VIEW_AT_0 || p->places[i] == VIEW_INSIDE) p->base[i].shape[1] += 9;
        p->data[i] = random_data(&rng, &p->base[i]);
        fill(p, i, &rng, symbols.of['V' - 'A']);
    }
}

static void free_problem(problem *p) {
    for (int i = 0; i < OPERANDS; i++)
        free(p->data[i]);
}

typedef struct result {
    void *bytes[QD_MAX_OUT];
    char variant[48];
} result;

/* Runs the problem twice on a context: into its outputs, whose bases come back. */
static result run_problem(qd_context *c, const problem *p) {
    qd_tensor *base[OPERANDS] = {0}, *t[OPERANDS] = {0};
    result r = {{0}, ""};
    for (int i = 0; i < OPERANDS; i++) {
        if (!operand(p, i) || p->places[i] == ABSENT) continue;
        if (p->places[i] == CONSTANT || p->places[i] == ONE_ROW_CONSTANT) {
            ck_ok(qd_tensor_constant(c, &p->desc[i], p->data[i], &t[i]));
            continue;
        }
        base[i] = tensor_with(c, p->base[i], p->data[i]);
        if (p->base[i].rank == 2 && p->base[i].shape[1] != p->desc[i].shape[1]) {
            ck_ok(qd_tensor_view(base[i], p->places[i] == VIEW_INSIDE ? 5 : 0, p->desc[i].shape[1], &t[i]));
        } else {
            t[i] = base[i];
        }
    }
    qd_plan *plan = NULL;
    ck_ok(qd_plan_create(c, p->op, &p->attrs, t, p->spec.n_in, t + QD_MAX_IN, p->spec.n_out, &plan));
    snprintf(r.variant, sizeof r.variant, "%s", qd_plan_variant(plan));
    ck_ok(qd_plan_run(plan));
    ck_ok(qd_plan_run(plan));
    for (int o = 0; o < p->spec.n_out; o++) {
        const size_t bytes = qd_desc_bytes(&p->base[QD_MAX_IN + o]);
        r.bytes[o] = malloc(bytes);
        ck_assert_ptr_nonnull(r.bytes[o]);
        ck_ok(qd_tensor_read(base[QD_MAX_IN + o], 0, r.bytes[o], bytes));
    }
    qd_plan_free(plan);
    for (int i = 0; i < OPERANDS; i++) {
        qd_tensor_free(t[i]);
        if (base[i] != t[i]) qd_tensor_free(base[i]);
    }
    return r;
}

/* Loops over operators; the fixture's devices are those of the whole loop. */
START_TEST(test_places) {
    qd_context *ref = open_device(0, NULL), *c = open_device(1, NULL);
    const qd_op op = (qd_op)_i;
    qd_format formats[OPERANDS];
    for (int combination = 0; c && qd_case_formats(op, combination, formats); combination++) {
        problem p;
        memset(&p, 0, sizeof p);
        qd_op_spec_read(op, &p.spec);
        for (int i = 0; i < OPERANDS; i++) {
            for (int where = 0; operand(&p, i) && where < PLACES; where++) {
                if (!place_is_legal(&p, i, formats[i], (place)where)) continue;
                problem x;
                make_problem(&x, op, formats, i, (place)where);
                result want = run_problem(ref, &x), got = run_problem(c, &x);
                ck_assert_str_eq(want.variant, "reference");
                /* Weights that are no constants may be where a kernel cannot take them. */
                if (op != QD_OP_MATMUL || i != 0) ck_assert_str_ne(got.variant, "reference");
                for (int o = 0; o < x.spec.n_out; o++) {
                    const size_t bytes = qd_desc_bytes(&x.base[QD_MAX_IN + o]);
                    ck_assert_msg(!memcmp(want.bytes[o], got.bytes[o], bytes), "%s (%s): %s %s %s: %s differs",
                                  qd_op_get(op)->name, got.variant, qd_format_get(formats[i])->name,
                                  operand(&x, i)->name, place_names[where], operand(&x, QD_MAX_IN + o)->name);
                    free(want.bytes[o]);
                    free(got.bytes[o]);
                }
                free_problem(&x);
            }
        }
    }
    qd_context_free(ref);
    qd_context_free(c);
}
END_TEST

/* Weights that may change between runs: the second run sees the new ones. */
START_TEST(test_changing_weights) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { N = 20, K = 64, R = 3 };
    static const qd_format formats[] = {QD_FORMAT_F32, QD_FORMAT_Q4_1};
    for (int f = 0; f < 2; f++) {
        const qd_tensor_desc dw = qd_desc(formats[f], N, K, 0, 0), dx = qd_desc(QD_FORMAT_F32, R, K, 0, 0),
                             dy = qd_desc(QD_FORMAT_F32, R, N, 0, 0);
        uint32_t rng = 9;
        float x[R * K], first[R * N], second[R * N];
        random_floats(&rng, x, R * K);
        qd_tensor *tx = tensor_with(c, dx, x), *w, *y;
        ck_ok(qd_tensor_create(c, &dw, &w));
        ck_ok(qd_tensor_create(c, &dy, &y));
        qd_plan *plan;
        ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, (qd_tensor *[]){w, tx}, 2, &y, 1, &plan));
        for (int round = 0; round < 2; round++) {
            float *to = round ? second : first;
            void *data = random_data(&rng, &dw);
            ck_ok(qd_tensor_write(w, 0, data, qd_desc_bytes(&dw)));
            ck_ok(qd_plan_run(plan));
            ck_ok(qd_tensor_read(y, 0, to, sizeof first));
            /* As a constant, the same weights give the same bytes. */
            qd_tensor *fixed, *z;
            qd_plan *other;
            ck_ok(qd_tensor_constant(c, &dw, data, &fixed));
            ck_ok(qd_tensor_create(c, &dy, &z));
            ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, (qd_tensor *[]){fixed, tx}, 2, &z, 1, &other));
            ck_ok(qd_plan_run(other));
            ck_tensor(z, to, "constant weights");
            qd_plan_free(other);
            qd_tensor_free(fixed);
            qd_tensor_free(z);
            free(data);
        }
        ck_assert(memcmp(first, second, sizeof first) != 0);
        qd_plan_free(plan);
        qd_tensor_free(w);
        qd_tensor_free(tx);
        qd_tensor_free(y);
    }
    qd_context_free(c);
}
END_TEST

/* Rows that a table does not have are left alone. */
START_TEST(test_ids_outside) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { V = 7, C = 40, R = 8 };
    static const int32_t ids[R] = {0, -1, 6, 7, INT32_MIN, INT32_MAX, 3, -7};
    const qd_tensor_desc dt = qd_desc(QD_FORMAT_F32, V, C, 0, 0), di = qd_desc(QD_FORMAT_I32, R, 0, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, R, C, 0, 0);
    uint32_t rng = 4;
    float table[V * C], before[R * C], want[R * C];
    random_floats(&rng, table, V * C);
    random_floats(&rng, before, R * C);
    for (int r = 0; r < R; r++)
        memcpy(want + r * C, ids[r] >= 0 && ids[r] < V ? table + ids[r] * C : before + r * C, C * sizeof(float));
    for (int constant = 0; constant < 2; constant++) {
        qd_tensor *t = NULL, *i = tensor_with(c, di, ids), *y = tensor_with(c, dy, before);
        if (constant) {
            ck_ok(qd_tensor_constant(c, &dt, table, &t));
        } else {
            t = tensor_with(c, dt, table);
        }
        qd_plan *plan;
        ck_ok(qd_plan_create(c, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){t, i}, 2, &y, 1, &plan));
        ck_ok(qd_plan_run(plan));
        ck_tensor(y, want, "rows");
        qd_plan_free(plan);
        qd_tensor_free(t);
        qd_tensor_free(i);
        qd_tensor_free(y);
    }
    qd_context_free(c);
}
END_TEST

/* What no kernel takes runs on the reference, is named so, and is logged once. */
START_TEST(test_fallback) {
    log_text log = {.used = 0};
    qd_context_options o = {.log = collect_log, .log_user = &log};
    qd_context *c = open_device(_i, &o);
    if (!c) return;
    enum { N = 4, K = 32, R = 2 };
    uint32_t rng = 6;
    float w[N * (K + 1)], x[R * K], y[R * N];
    random_floats(&rng, w, N * (K + 1));
    random_floats(&rng, x, R * K);
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_F32, N, K + 1, 0, 0), dx = qd_desc(QD_FORMAT_F32, R, K, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, R, N, 0, 0);
    qd_tensor *tw = tensor_with(c, dw, w), *tx = tensor_with(c, dx, x), *ty, *inside;
    ck_ok(qd_tensor_create(c, &dy, &ty));
    ck_ok(qd_tensor_view(tw, 1, K, &inside)); /* weights that do not start their buffer */
    for (int i = 0; i < 2; i++) {
        qd_plan *plan;
        ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, (qd_tensor *[]){inside, tx}, 2, &ty, 1, &plan));
        ck_assert_str_eq(qd_plan_variant(plan), "reference");
        ck_ok(qd_plan_run(plan));
        qd_plan_free(plan);
    }
    ck_ok(qd_tensor_read(ty, 0, y, sizeof y));
    for (int r = 0; r < R; r++) {
        for (int n = 0; n < N; n++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += (double)w[n * (K + 1) + 1 + k] * (double)x[r * K + k];
            ck_assert_double_eq_tol((double)y[r * N + n], sum, 1e-4);
        }
    }
    const char *line = strstr(log.text, "matmul runs on the reference: ");
    if (_i == 0) {
        ck_assert_str_eq(log.text, ""); /* the reference does not fall back */
    } else {
        ck_assert_ptr_nonnull(line);
        ck_assert_ptr_null(strstr(line + strlen("matmul runs"), "runs on the reference"));
    }
    qd_tensor *all[] = {inside, tw, tx, ty};
    for (int i = 0; i < 4; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* Constants are on the device once for each layout, however many plans use them, and leave with their tensor. */
START_TEST(test_lifetimes) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { N = 64, K = 256, R = 2, PLANS = 5 };
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_Q8_0, N, K, 0, 0), dx = qd_desc(QD_FORMAT_F32, R, K, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, R, N, 0, 0);
    uint32_t rng = 8;
    void *data = random_data(&rng, &dw);
    float x[R * K], want[R * N];
    random_floats(&rng, x, R * K);
    qd_tensor *tx = tensor_with(c, dx, x), *w, *y[PLANS];
    qd_plan *plan[PLANS];
    ck_ok(qd_tensor_constant(c, &dw, data, &w));
    for (int i = 0; i < PLANS; i++)
        ck_ok(qd_tensor_create(c, &dy, &y[i]));
    qd_memory_info before, after_one, after_all, end;
    ck_ok(qd_context_memory(c, &before));
    for (int i = 0; i < PLANS; i++) {
        ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, (qd_tensor *[]){w, tx}, 2, &y[i], 1, &plan[i]));
        if (i == 0) ck_ok(qd_context_memory(c, &after_one));
    }
    ck_ok(qd_context_memory(c, &after_all));
    ck_assert_uint_eq(after_all.used, after_one.used);
    if (_i) ck_assert_uint_ge(after_one.used, before.used + qd_desc_bytes(&dw));
    ck_ok(qd_plan_run(plan[0]));
    ck_ok(qd_tensor_read(y[0], 0, want, sizeof want));
    /* A plan that goes leaves the others as they are. */
    for (int i = 0; i < PLANS; i++) {
        ck_ok(qd_plan_run(plan[i]));
        qd_plan_free(plan[i]);
        ck_tensor(y[i], want, "the plans that are left");
    }
    qd_tensor_free(w);
    ck_ok(qd_context_memory(c, &end));
    ck_assert_uint_eq(end.used, before.used);
    qd_tensor_free(tx);
    for (int i = 0; i < PLANS; i++)
        qd_tensor_free(y[i]);
    ck_ok(qd_context_memory(c, &end));
    ck_assert_uint_eq(end.used, 0);
    free(data);
    qd_context_free(c);
}
END_TEST

START_TEST(test_null) {
    ck_fails(qd_plan_run(NULL), QD_ERR_ARGUMENT, "NULL");
    qd_plan_free(NULL);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("plan");
    tcase_add_loop_test(tc, test_places, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_changing_weights, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_ids_outside, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_fallback, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_lifetimes, 0, TEST_DEVICES);
    tcase_add_test(tc, test_null);
    return run_tests(tc, "plan");
}
