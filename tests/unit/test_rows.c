/* How many rows a run has: some of those that fit, and none at all. Made for every operator, on each kind of device. */
#include "core/context.h"
#include "unit/calls.h"

/* Rows where the operator has a choice of that name. */
static const qd_choice five_rows[] = {{.name = "R", .value = 5}};

/* Operands whose first dimension is the rows of the run: by the operator's row, or, where it says [...], those that
 * have as many as the result and, at the second attempt, its rank, too. Their number. */
static int find_rows(const call *x, int attempt, bool rows[OPERANDS]) {
    int n = 0;
    const qd_tensor_desc *y = &x->desc[QD_MAX_IN];
    for (int i = 0; i < OPERANDS; i++) {
        rows[i] = false;
        if (!x->given[i]) continue;
        const qd_tensor_desc *d = &x->desc[i];
        const qd_operand_spec *o = operand(x, i);
        if (o->any_shape) {
            rows[i] = o->name[0] != 'w' && d->shape[0] == y->shape[0] && (!attempt || d->rank == y->rank);
        } else {
            rows[i] = first_symbol(x, i) == 'R' && (d->shape[0] == x->rows || !o->dim[0].may_be_one);
        }
        n += rows[i];
    }
    return n;
}

/* ---- Some of the rows --------------------------------------------------------------------------------------- */

/* A graph of one operator, with everything of the run's rows inside; the bytes inside can be reached, because nothing
 * else shares the arena. */
typedef struct small_graph {
    qd_context *c;
    const call *x;
    bool rows[OPERANDS];
    qd_graph *g;
    qd_tensor *t[OPERANDS];
} small_graph;

static qd_status make_graph(small_graph *s, qd_context *c, const call *x, int attempt) {
    *s = (small_graph){.c = c, .x = x};
    find_rows(x, attempt, s->rows);
    ck_ok(qd_graph_create(c, x->desc[QD_MAX_IN].shape[0] > x->rows ? x->desc[QD_MAX_IN].shape[0] : x->rows, &s->g));
    for (int i = 0; i < OPERANDS; i++) {
        if (!x->given[i]) continue;
        qd_tensor_desc d = x->desc[i];
        if (s->rows[i]) {
            d.shape[0] = QD_ROWS;
            ck_ok(qd_graph_tensor(s->g, &d, &s->t[i]));
        } else if (operand(x, i)->name[0] == 'w') {
            ck_ok(qd_tensor_constant(c, &d, x->data[i], &s->t[i]));
        } else {
            s->t[i] = tensor_with(c, d, x->data[i]);
        }
    }
    qd_status status = qd_graph_add(s->g, x->op, &x->attrs, s->t, x->spec.n_in, s->t + QD_MAX_IN, x->spec.n_out);
    if (!status) ck_ok(qd_graph_compile(s->g, NULL, NULL));
    return status;
}

static void free_graph(small_graph *s) {
    qd_graph_free(s->g);
    for (int i = 0; i < OPERANDS; i++) {
        if (!s->rows[i]) qd_tensor_free(s->t[i]);
    }
}

/* All operands as before the run. */
static void refill(const small_graph *s) {
    for (int i = 0; i < OPERANDS; i++) {
        const qd_tensor *t = s->t[i];
        if (!t || t->constant) continue;
        ck_ok(s->c->backend->write(s->c->device, t->buffer, t->offset, s->x->data[i], s->x->bytes[i]));
    }
}

static void ck_operand(const small_graph *s, int i, const unsigned char *want, const char *what) {
    const size_t bytes = s->x->bytes[i];
    unsigned char *got = malloc(bytes);
    ck_assert_ptr_nonnull(got);
    ck_ok(s->c->backend->read(s->c->device, s->t[i]->buffer, s->t[i]->offset, got, bytes));
    size_t at = 0;
    while (at < bytes && got[at] == want[at])
        at++;
    ck_assert_msg(at == bytes, "%s: byte %zu of %zu of %s differs", what, at, bytes, operand(s->x, i)->name);
    free(got);
}

/* A run of n rows gives the first n rows of the result, where each row is its own, and leaves the others alone. `ref`
 * says what the results are that all rows share. */
static void run_rows(const small_graph *s, const small_graph *ref, int64_t n, int64_t most) {
    char what[96];
    snprintf(what, sizeof what, "%s: %d of %d rows", qd_op_get(s->x->op)->name, (int)n, (int)most);
    refill(s);
    refill(ref);
    ck_ok(qd_graph_run(s->g, n));
    ck_ok(qd_graph_run(ref->g, n));
    bool shared = false; /* all rows have a part in one number */
    for (int i = QD_MAX_IN; i < OPERANDS; i++)
        shared = shared || (s->t[i] && !s->rows[i] && operand(s->x, i)->dim[0].a == 'R' && most > 1);
    for (int i = 0; i < OPERANDS; i++) {
        const call *x = s->x;
        if (!s->t[i] || s->t[i]->constant) continue;
        unsigned char *want = malloc(x->bytes[i]);
        ck_assert_ptr_nonnull(want);
        memcpy(want, x->data[i], x->bytes[i]);
        if (i >= QD_MAX_IN && s->rows[i] && !shared) {
            memcpy(want, x->want[i], x->bytes[i] / (size_t)most * (size_t)n);
        } else if (i >= QD_MAX_IN) {
            ck_ok(ref->c->backend->read(ref->c->device, ref->t[i]->buffer, ref->t[i]->offset, want, x->bytes[i]));
            if (!n) ck_assert_mem_eq(want, x->data[i], x->bytes[i]);
            if (n == most) ck_assert_mem_eq(want, x->want[i], x->bytes[i]);
        }
        ck_operand(s, i, want, what);
        free(want);
    }
}

START_TEST(test_some_rows) {
    qd_context *c[2] = {open_device(0, NULL), open_device(1, NULL)};
    call_walk walk = {.op = (qd_op)_i, .fixed = five_rows, .n_fixed = 1, .least_calls = 30};
    int made = 0, refused = 0, several = 0;
    for (const call *x; (x = next_call(&walk)) != NULL;) {
        const int64_t most = x->desc[QD_MAX_IN].shape[0] > x->rows ? x->desc[QD_MAX_IN].shape[0] : x->rows;
        small_graph s[2];
        int attempt = 0;
        while (attempt < 2 && make_graph(&s[0], c[0], x, attempt)) {
            /* Along the first dimension some operators mix rows, which the rules refuse. */
            ck_assert_msg(!column_says_all(x), "%s", qd_last_message());
            free_graph(&s[0]);
            attempt++;
        }
        made += attempt < 2;
        refused += attempt == 2;
        if (attempt == 2) continue;
        several += most > 1;
        if (c[1]) ck_ok(make_graph(&s[1], c[1], x, attempt));
        for (int device = 0; device < 2 && c[device]; device++) {
            for (int64_t n = 0; n <= most; n += n == 1 && most > 3 ? most - 2 : 1)
                run_rows(&s[device], &s[0], n, most);
        }
        for (int device = 0; device < 2 && c[device]; device++)
            free_graph(&s[device]);
    }
    ck_assert_msg(several > 0, "%s: %d graphs were made, %d of them with several rows; %d refused",
                  qd_op_get((qd_op)_i)->name, made, several, refused);
    qd_context_free(c[0]);
    qd_context_free(c[1]);
}
END_TEST

/* ---- No rows ------------------------------------------------------------------------------------------------ */

/* The call without any row; false when that cannot be said: a tensor of one dimension has at least one element. */
static bool empty_call(const call *x, int attempt, call *out) {
    bool rows[OPERANDS];
    *out = *x;
    if (!find_rows(x, attempt, rows)) return false;
    for (int i = 0; i < OPERANDS; i++) {
        if (!rows[i]) continue;
        if (x->desc[i].rank == 1 && !operand(x, i)->dim[0].may_be_one) return false;
        out->desc[i].shape[0] = x->desc[i].rank == 1 ? 1 : 0;
    }
    return true;
}

/* Plans and graphs without rows are made and run, and write nothing. */
static qd_status run_empty(qd_context *c, const call *x, bool in_graph) {
    qd_tensor *t[OPERANDS] = {0};
    qd_plan *plan = NULL;
    qd_graph *g = NULL;
    for (int i = 0; i < OPERANDS; i++) {
        if (!x->given[i]) continue;
        ck_ok(qd_tensor_create(c, &x->desc[i], &t[i]));
        ck_ok(qd_tensor_write(t[i], 0, x->data[i], qd_desc_bytes(&x->desc[i])));
    }
    qd_tensor *const *in = t, *const *out = t + QD_MAX_IN;
    qd_status status;
    if (in_graph) {
        ck_ok(qd_graph_create(c, 4, &g));
        status = qd_graph_add(g, x->op, &x->attrs, in, x->spec.n_in, out, x->spec.n_out);
        if (!status) {
            ck_ok(qd_graph_compile(g, NULL, NULL));
            ck_ok(qd_graph_run(g, 4));
            ck_ok(qd_graph_run(g, 0));
        }
    } else {
        status = qd_plan_create(c, x->op, &x->attrs, in, x->spec.n_in, out, x->spec.n_out, &plan);
        if (!status) ck_ok(qd_plan_run(plan));
    }
    ck_ok(qd_context_finish(c));
    for (int i = 0; i < OPERANDS; i++) {
        if (t[i] && qd_desc_bytes(&x->desc[i])) ck_tensor(t[i], x->data[i], qd_op_get(x->op)->name);
    }
    qd_plan_free(plan);
    qd_graph_free(g);
    for (int i = 0; i < OPERANDS; i++)
        qd_tensor_free(t[i]);
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
    return status;
}

START_TEST(test_no_rows) {
    qd_context *c[2] = {open_device(0, NULL), open_device(1, NULL)};
    call_walk walk = {.op = (qd_op)_i, .least_calls = 30};
    int made = 0;
    for (const call *x; (x = next_call(&walk)) != NULL;) {
        call empty;
        int attempt = 0;
        while (attempt < 2 && (!empty_call(x, attempt, &empty) || run_empty(c[0], &empty, false)))
            attempt++;
        if (attempt == 2) continue;
        made++;
        ck_ok(run_empty(c[0], &empty, true));
        if (!c[1]) continue;
        ck_ok(run_empty(c[1], &empty, false));
        ck_ok(run_empty(c[1], &empty, true));
    }
    /* They have one index for each row: a tensor of one dimension, which cannot be empty. */
    ck_assert_msg(made > 1 || _i == QD_OP_GET_ROWS || _i == QD_OP_GET_ROWS_CODED, "%s: %d", qd_op_get((qd_op)_i)->name, made);
    qd_context_free(c[0]);
    qd_context_free(c[1]);
}
END_TEST

/* Tensors inside a graph that have no rows take no memory, and the rest of the graph is computed. */
START_TEST(test_empty_part) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc none = {QD_FORMAT_F32, 2, {0, 8}}, d = qd_desc(QD_FORMAT_F32, 2, 8, 0, 0);
    float x[16], want[16];
    for (int i = 0; i < 16; i++) {
        x[i] = (float)i;
        want[i] = (float)(4 * i);
    }
    qd_tensor *in = tensor_with(c, d, x), *y, *joined, *nothing, *inside, *t;
    const qd_attrs along = {.concat = {.axis = 0}};
    qd_graph *g;
    qd_graph_info info;
    ck_ok(qd_tensor_create(c, &d, &y));
    ck_ok(qd_tensor_create(c, &d, &joined));
    ck_ok(qd_tensor_create(c, &none, &nothing));
    ck_ok(qd_graph_create(c, 3, &g));
    ck_ok(qd_graph_tensor(g, &none, &inside));
    ck_ok(qd_graph_tensor(g, &d, &t));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){in, in}, 2, &t, 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){nothing, nothing}, 2, &inside, 1));
    ck_ok(qd_graph_add(g, QD_OP_SWIGLU, NULL, (qd_tensor *[]){inside, inside}, 2, &nothing, 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t, t}, 2, &y, 1));
    /* It reads what an operator without rows gave, which never starts. */
    ck_ok(qd_graph_add(g, QD_OP_CONCAT, &along, (qd_tensor *[]){in, inside}, 2, &joined, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    ck_ok(qd_graph_describe(g, &info));
    ck_assert_int_eq(info.ops, 5);
    ck_assert_uint_eq(info.arena_bytes, info.live_bytes);
    ck_assert_uint_eq(info.arena_bytes, 256);
    static const float zeros[16] = {0};
    ck_ok(qd_graph_run(g, 0)); /* nothing, also where an operator's rows are not those of the run */
    ck_tensor(y, zeros, "after a run of no rows");
    ck_ok(qd_graph_run(g, 3));
    ck_tensor(y, want, "beside operators without rows");
    ck_tensor(joined, x, "behind an operator without rows");
    qd_graph_free(g);
    qd_tensor *const all[] = {in, y, joined, nothing};
    for (int i = 0; i < 4; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("rows");
    tcase_add_loop_test(tc, test_some_rows, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_no_rows, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_empty_part, 0, TEST_DEVICES);
    return run_tests(tc, "rows");
}
