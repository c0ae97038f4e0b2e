/* Graphs: their life, misuse, and many runs. */
#include "unit/devices.h"

typedef struct small {
    qd_tensor *in, *out, *inside;
    qd_graph *g;
} small;

static small make_small(qd_context *c) {
    small s;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 4, 8, 0, 0), inside = qd_desc(QD_FORMAT_F32, QD_ROWS, 8, 0, 0);
    float x[32];
    for (int i = 0; i < 32; i++)
        x[i] = (float)i;
    s.in = tensor_with(c, d, x);
    ck_ok(qd_tensor_create(c, &d, &s.out));
    ck_ok(qd_graph_create(c, 4, &s.g));
    ck_ok(qd_graph_tensor(s.g, &inside, &s.inside));
    ck_ok(qd_graph_add(s.g, QD_OP_ADD, NULL, (qd_tensor *[]){s.in, s.in}, 2, &s.inside, 1));
    ck_ok(qd_graph_add(s.g, QD_OP_ADD, NULL, (qd_tensor *[]){s.inside, s.in}, 2, &s.out, 1));
    return s;
}

static void free_small(small *s) {
    qd_graph_free(s->g);
    qd_tensor_free(s->in);
    qd_tensor_free(s->out);
}

START_TEST(test_misuse) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    small s = make_small(c);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 4, 8, 0, 0);
    qd_graph_info info;
    qd_tensor *t = NULL;
    qd_graph *g = NULL;
    ck_fails(qd_graph_create(c, 0, &g), QD_ERR_ARGUMENT, "row");
    ck_fails(qd_graph_create(c, -1, &g), QD_ERR_ARGUMENT, "row");
    ck_fails(qd_graph_create(NULL, 1, &g), QD_ERR_ARGUMENT, "context");
    ck_fails(qd_graph_create(c, 1, NULL), QD_ERR_ARGUMENT, "");
    ck_assert_ptr_null(g);
    ck_fails(qd_graph_run(s.g, 1), QD_ERR_ARGUMENT, "compile");
    ck_fails(qd_graph_describe(s.g, &info), QD_ERR_ARGUMENT, "compile");
    ck_fails(qd_graph_tensor(s.g, NULL, &t), QD_ERR_ARGUMENT, "");
    ck_fails(qd_graph_tensor(s.g, &d, NULL), QD_ERR_ARGUMENT, "");
    ck_fails(qd_graph_tensor(NULL, &d, &t), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_graph_view(s.g, NULL, 0, 1, &t), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_graph_view(s.g, s.in, 7, 2, &t), QD_ERR_ARGUMENT, "columns");
    ck_fails(qd_graph_view(NULL, s.in, 0, 1, &t), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_graph_add(NULL, QD_OP_ADD, NULL, &s.in, 1, &s.out, 1), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_graph_add(s.g, QD_OP_ADD, NULL, &s.in, 1, &s.out, 1), QD_ERR_ARGUMENT, "add"); /* is then not part */
    ck_fails(qd_graph_compile(NULL, NULL, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_ok(qd_graph_compile(s.g, NULL, NULL));
    ck_fails(qd_graph_compile(s.g, NULL, NULL), QD_ERR_ARGUMENT, "compiled already");
    ck_fails(qd_graph_add(s.g, QD_OP_ADD, NULL, (qd_tensor *[]){s.in, s.in}, 2, &s.out, 1), QD_ERR_ARGUMENT,
             "compiled already");
    ck_fails(qd_graph_tensor(s.g, &d, &t), QD_ERR_ARGUMENT, "compiled already");
    ck_fails(qd_graph_view(s.g, s.in, 0, 1, &t), QD_ERR_ARGUMENT, "compiled already");
    ck_fails(qd_graph_describe(s.g, NULL), QD_ERR_ARGUMENT, "");
    ck_fails(qd_graph_describe(NULL, &info), QD_ERR_ARGUMENT, "");
    static const int64_t bad[] = {-1, 5, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_fails(qd_graph_run(s.g, bad[i]), QD_ERR_ARGUMENT, "up to 4");
    ck_fails(qd_graph_run(NULL, 1), QD_ERR_ARGUMENT, "");
    ck_assert_ptr_null(t);
    ck_ok(qd_graph_describe(s.g, &info));
    ck_assert_int_eq(info.ops, 2);
    ck_ok(qd_graph_run(s.g, 4));
    qd_graph_free(NULL);
    free_small(&s);
    qd_context_free(c);
}
END_TEST

START_TEST(test_empty) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    qd_graph *g;
    qd_graph_info info;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, QD_ROWS, 8, 0, 0);
    qd_tensor *t;
    ck_ok(qd_graph_create(c, 4, &g));
    ck_ok(qd_graph_tensor(g, &d, &t));
    ck_fails(qd_graph_describe(g, &info), QD_ERR_ARGUMENT, "compile");
    ck_fails(qd_graph_run(g, 1), QD_ERR_ARGUMENT, "compile");
    ck_ok(qd_graph_compile(g, NULL, NULL));
    ck_ok(qd_graph_run(g, 4));
    ck_ok(qd_graph_describe(g, &info));
    ck_assert_int_eq(info.ops, 0);
    ck_assert_uint_eq(info.arena_bytes, 0);
    qd_graph_free(g);
    qd_context_free(c);
}
END_TEST

typedef struct steps {
    int calls, stop_at, total;
    bool in_order;
} steps;

static bool count_steps(void *user, int done, int total) {
    steps *s = user;
    s->in_order = s->in_order && done == s->calls;
    s->total = total;
    return s->calls++ != s->stop_at;
}

START_TEST(test_progress_and_cancel) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    qd_graph_info info;
    for (int stop = 0; stop <= 2; stop++) {
        small s = make_small(c);
        steps n = {.stop_at = stop, .in_order = true};
        const qd_status status = qd_graph_compile(s.g, count_steps, &n);
        ck_assert(n.in_order);
        ck_assert_int_eq(n.total, 2);
        if (stop < 2) {
            ck_assert_int_eq(status, QD_ERR_CANCELLED);
            ck_assert_int_eq(n.calls, stop + 1);
            ck_fails(qd_graph_run(s.g, 1), QD_ERR_ARGUMENT, "compile");
            ck_fails(qd_graph_describe(s.g, &info), QD_ERR_ARGUMENT, "compile");
        } else {
            ck_assert_int_eq(status, QD_OK);
            ck_ok(qd_graph_run(s.g, 1));
        }
        free_small(&s);
        qd_memory_info m;
        ck_ok(qd_context_memory(c, &m));
        ck_assert_uint_eq(m.used, 0);
    }
    qd_context_free(c);
}
END_TEST

/* Whatever goes first, as long as nothing is used after it went. */
START_TEST(test_free_orders) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    for (int order = 0; order < 6; order++) {
        small s = make_small(c);
        qd_tensor *outside_view = NULL, *inside_view = NULL;
        ck_ok(qd_tensor_view(s.in, 0, 4, &outside_view));
        ck_ok(qd_tensor_view(s.inside, 2, 4, &inside_view));
        if (order % 3) ck_ok(qd_graph_compile(s.g, NULL, NULL));
        if (order % 3 == 2) ck_ok(qd_graph_run(s.g, 3)); /* freed while it may be running */
        if (order < 3) {
            qd_graph_free(s.g);
            qd_tensor_free(s.out);
            qd_tensor_free(s.in);
            qd_tensor_free(outside_view);
            qd_tensor_free(inside_view);
        } else {
            qd_tensor_free(inside_view);
            qd_tensor_free(outside_view);
            qd_graph_free(s.g);
            qd_tensor_free(s.in);
            qd_tensor_free(s.out);
        }
        qd_memory_info m;
        ck_ok(qd_context_memory(c, &m));
        ck_assert_uint_eq(m.used, 0);
    }
    /* Two graphs over the same tensors, one after the other and mixed. */
    small s = make_small(c), t = make_small(c);
    ck_ok(qd_graph_compile(s.g, NULL, NULL));
    ck_ok(qd_graph_compile(t.g, NULL, NULL));
    ck_ok(qd_graph_run(s.g, 4));
    ck_ok(qd_graph_run(t.g, 4));
    free_small(&s);
    ck_ok(qd_graph_run(t.g, 4));
    float want[32];
    for (int i = 0; i < 32; i++)
        want[i] = 3 * (float)i;
    ck_tensor(t.out, want, "after the other graph went");
    free_small(&t);
    qd_context_free(c);
}
END_TEST

/* Tensors of another graph, or views that the graph does not know, are refused instead of being read from nowhere. */
START_TEST(test_foreign_tensors) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    for (int compiled = 0; compiled < 2; compiled++) {
        small s = make_small(c), t = make_small(c);
        if (compiled) ck_ok(qd_graph_compile(s.g, NULL, NULL));
        qd_tensor *v = NULL;
        ck_fails(qd_graph_add(t.g, QD_OP_ADD, NULL, (qd_tensor *[]){s.inside, s.inside}, 2, &t.out, 1), QD_ERR_ARGUMENT,
                 "graph");
        ck_fails(qd_graph_view(t.g, s.inside, 0, 4, &v), QD_ERR_ARGUMENT, "graph");
        ck_assert_ptr_null(v);
        /* Nor does a plan see into a graph. */
        const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 4, 8, 0, 0);
        qd_tensor *fixed;
        qd_plan *p = NULL;
        ck_ok(qd_graph_tensor(t.g, &d, &fixed));
        ck_ok(qd_graph_add(t.g, QD_OP_ADD, NULL, (qd_tensor *[]){t.in, t.in}, 2, &fixed, 1));
        if (compiled) ck_ok(qd_graph_compile(t.g, NULL, NULL));
        ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){fixed, fixed}, 2, &s.out, 1, &p), QD_ERR_ARGUMENT,
                 "belongs to a graph");
        ck_assert_ptr_null(p);
        free_small(&s);
        free_small(&t);
    }
    small s = make_small(c);
    qd_tensor *v;
    ck_ok(qd_tensor_view(s.inside, 0, 8, &v));
    const qd_status added = qd_graph_add(s.g, QD_OP_ADD, NULL, (qd_tensor *[]){v, s.in}, 2, &s.out, 1);
    const qd_status status = added ? added : qd_graph_compile(s.g, NULL, NULL);
    ck_assert_msg(status == QD_ERR_ARGUMENT && strstr(qd_last_message(), "add: a "), "%s", qd_last_message());
    qd_tensor_free(v);
    free_small(&s);
    qd_context_free(c);
}
END_TEST

/* The second run sees what was written between; nothing waits but the reading. */
START_TEST(test_reruns) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    small s = make_small(c);
    ck_ok(qd_graph_compile(s.g, NULL, NULL));
    float x[32], want[32];
    for (int run = 0; run < 300; run++) {
        const int rows = run % 5; /* also none */
        for (int i = 0; i < 32; i++) {
            x[i] = (float)(run * 32 + i);
            want[i] = i / 8 < rows ? 3 * x[i] : 0;
        }
        float zero[32] = {0};
        ck_ok(qd_tensor_write(s.out, 0, zero, sizeof zero));
        ck_ok(qd_tensor_write(s.in, 0, x, sizeof x));
        ck_ok(qd_graph_run(s.g, rows));
        if (run % 51 == 50) ck_tensor(s.out, want, "a rerun");
    }
    free_small(&s);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("graph life");
    tcase_add_loop_test(tc, test_misuse, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_empty, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_progress_and_cancel, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_free_orders, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_foreign_tensors, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_reruns, 0, TEST_DEVICES);
    return run_tests(tc, "graph life");
}
