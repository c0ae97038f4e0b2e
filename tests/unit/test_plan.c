/* Plans: every operator with its operands in every kind of memory, on a device and on the reference; lifetimes. */
#include "unit/calls.h"

/* Where an operand's bytes are. */
typedef enum place { PLAIN, CONSTANT, VIEW_AT_0, VIEW_INSIDE, PLACES } place;

static const char *const place_names[PLACES] = {"plain", "constant", "view from column 0", "view inside"};

enum { MORE = 9, INSIDE = 5 }; /* columns of a view's base beyond its own; before it */

static bool place_is_legal(const call *x, int i, place where) {
    const bool view = where == VIEW_AT_0 || where == VIEW_INSIDE;
    /* Scales and zero points that are constants are checked: random ones may be refused. */
    const bool checked = (x->op == QD_OP_FAKE_QUANTIZE || x->op == QD_OP_FAKE_QUANTIZE_GRAD) && (i == 1 || i == 2);
    if (where == CONSTANT) return i < QD_MAX_IN && !checked;
    return !view || (x->desc[i].format == QD_FORMAT_F32 && x->desc[i].rank == 2);
}

/* A tensor of the call at a place; *base: what is to be read and freed in its stead, or NULL. */
static qd_tensor *put(qd_context *c, const call *x, int i, place where, qd_tensor **base) {
    qd_tensor *t;
    *base = NULL;
    if (where == CONSTANT) {
        ck_ok(qd_tensor_constant(c, &x->desc[i], x->data[i], &t));
        return t;
    }
    if (where == PLAIN) return tensor_with(c, x->desc[i], x->data[i]);
    qd_tensor_desc wide = x->desc[i];
    const int64_t rows = wide.shape[0], cols = wide.shape[1], first = where == VIEW_INSIDE ? INSIDE : 0;
    wide.shape[1] += MORE;
    float *data = malloc(qd_desc_bytes(&wide));
    ck_assert_ptr_nonnull(data);
    memset(data, 0x5a, qd_desc_bytes(&wide));
    for (int64_t r = 0; r < rows; r++)
        memcpy(data + r * wide.shape[1] + first, x->data[i] + (size_t)(r * cols) * sizeof(float),
               (size_t)cols * sizeof(float));
    *base = tensor_with(c, wide, data);
    ck_ok(qd_tensor_view(*base, first, cols, &t));
    free(data);
    return t;
}

/* What a view's base holds after the run. */
static void ck_view(qd_tensor *base, const call *x, int i, place where, const char *what) {
    const qd_tensor_desc *d = qd_tensor_describe(base);
    const size_t cols = (size_t)x->desc[i].shape[1] * sizeof(float), wide = (size_t)d->shape[1] * sizeof(float);
    const size_t first = where == VIEW_INSIDE ? INSIDE * sizeof(float) : 0;
    unsigned char *want = malloc(qd_desc_bytes(d));
    ck_assert_ptr_nonnull(want);
    memset(want, 0x5a, qd_desc_bytes(d));
    for (int64_t r = 0; r < d->shape[0]; r++)
        memcpy(want + (size_t)r * wide + first, x->want[i] + (size_t)r * cols, cols);
    ck_tensor(base, want, what);
    free(want);
}

/* Runs the call with one operand at a place: its results must be those of the reference, everything else as it was. */
static void run_at(qd_context *c, bool is_reference, const call *x, int special, place where) {
    qd_tensor *t[OPERANDS] = {0}, *base[OPERANDS] = {0};
    char what[160];
    for (int i = 0; i < OPERANDS; i++) {
        if (x->given[i]) t[i] = put(c, x, i, i == special ? where : PLAIN, &base[i]);
    }
    qd_plan *plan = NULL;
    ck_ok(qd_plan_create(c, x->op, &x->attrs, t, x->spec.n_in, t + QD_MAX_IN, x->spec.n_out, &plan));
    const char *variant = qd_plan_variant(plan);
    snprintf(what, sizeof what, "%s (%s): %s %s %s", qd_op_get(x->op)->name, variant,
             qd_format_get(x->desc[special].format)->name, operand(x, special)->name, place_names[where]);
    /* Weights that are no constants may be where a kernel cannot take them. */
    if (is_reference) ck_assert_str_eq(variant, "reference");
    if (!is_reference && (special > 0 || where == CONSTANT || where == PLAIN))
        ck_assert_msg(strcmp(variant, "reference") != 0, "%s", what);
    ck_ok(qd_plan_run(plan));
    ck_ok(qd_plan_run(plan));
    for (int i = 0; i < OPERANDS; i++) {
        if (!t[i] || (i == special && where == CONSTANT)) continue;
        if (base[i]) {
            call same = *x;
            if (i < QD_MAX_IN) same.want[i] = x->data[i];
            ck_view(base[i], &same, i, where, what);
        } else {
            ck_tensor(t[i], i < QD_MAX_IN ? x->data[i] : x->want[i], what);
        }
    }
    qd_plan_free(plan);
    for (int i = 0; i < OPERANDS; i++) {
        qd_tensor_free(t[i]);
        qd_tensor_free(base[i]);
    }
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
}

/* Loops over operators; each on the reference and on the device. */
START_TEST(test_places) {
    qd_context *ref = open_device(0, NULL), *c = open_device(1, NULL);
    call_walk walk = {.op = (qd_op)_i};
    for (const call *x; (x = next_call(&walk)) != NULL;) {
        for (int i = 0; i < OPERANDS; i++) {
            for (int where = 0; x->given[i] && where < PLACES; where++) {
                if (!place_is_legal(x, i, (place)where)) continue;
                run_at(ref, true, x, i, (place)where);
                if (c) run_at(c, false, x, i, (place)where);
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
