/* options.verify: what the device gives is compared with the reference, run by run; a difference is a status that says
 * where, and the context can be used on. */
#include "fault/cl_inject.h"
#include "unit/devices.h"

enum { ROWS = 3, COLS = 40 };

/* y = x + x as a plan, and z = (x + x) + x as a graph. */
typedef struct scene {
    qd_context *c;
    qd_tensor *x, *y, *z;
    qd_plan *plan;
    qd_graph *graph;
    log_text log;
} scene;

static void open_scene(scene *s, int device) {
    memset(s, 0, sizeof *s);
    const qd_context_options o = {.verify = true, .cache_dir = "", .log = collect_log, .log_user = &s->log};
    s->c = open_device(device, &o);
    if (!s->c) return;
    float values[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++)
        values[i] = (float)i;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, ROWS, COLS, 0, 0),
                         run = qd_desc(QD_FORMAT_F32, QD_ROWS, COLS, 0, 0);
    s->x = tensor_with(s->c, d, values);
    ck_ok(qd_tensor_create(s->c, &d, &s->y));
    ck_ok(qd_tensor_create(s->c, &d, &s->z));
    ck_ok(qd_plan_create(s->c, QD_OP_ADD, NULL, (qd_tensor *[]){s->x, s->x}, 2, &s->y, 1, &s->plan));
    ck_ok(qd_graph_create(s->c, ROWS, &s->graph));
    qd_tensor *inside;
    ck_ok(qd_graph_tensor(s->graph, &run, &inside));
    ck_ok(qd_graph_add(s->graph, QD_OP_ADD, NULL, (qd_tensor *[]){s->x, s->x}, 2, &inside, 1));
    ck_ok(qd_graph_add(s->graph, QD_OP_ADD, NULL, (qd_tensor *[]){inside, s->x}, 2, &s->z, 1));
    ck_ok(qd_graph_compile(s->graph, NULL, NULL));
}

static void close_scene(scene *s) {
    qd_plan_free(s->plan);
    qd_graph_free(s->graph);
    qd_tensor_free(s->x);
    qd_tensor_free(s->y);
    qd_tensor_free(s->z);
    qd_context_free(s->c);
    ck_assert_int_eq(inject_alive(), 0);
}

START_TEST(test_right) {
    scene s;
    open_scene(&s, _i);
    if (!s.c) return;
    float got;
    ck_ok(qd_plan_run(s.plan));
    ck_ok(qd_graph_run(s.graph, 2));
    ck_ok(qd_tensor_read(s.y, 4 * 119, &got, sizeof got));
    ck_assert_float_eq(got, 238);
    ck_ok(qd_tensor_read(s.z, 4 * 79, &got, sizeof got));
    ck_assert_float_eq(got, 237);
    ck_ok(qd_tensor_read(s.z, 4 * 80, &got, sizeof got));
    ck_assert_float_eq(got, 0);
    close_scene(&s);
}
END_TEST

/* One bit of an operand or of a result is not what it was. */
START_TEST(test_wrong) {
    scene s;
    open_scene(&s, 1);
    if (!s.c) return;
    inject_wrong_reads(1);
    ck_fails(qd_plan_run(s.plan), QD_ERR_DIFFERENT, "where the reference has");
    ck_assert_ptr_nonnull(strstr(qd_last_message(), "add (add_f32 on opencl:"));
    ck_assert_ptr_nonnull(strstr(s.log.text, "where the reference has"));
    inject_clear();
    ck_ok(qd_plan_run(s.plan));
    inject_wrong_reads(1);
    ck_fails(qd_graph_run(s.graph, ROWS), QD_ERR_DIFFERENT, "where the reference has");
    inject_clear();
    ck_ok(qd_graph_run(s.graph, ROWS));
    close_scene(&s);
}
END_TEST

START_TEST(test_no_memory) {
    scene s;
    open_scene(&s, 1);
    if (!s.c) return;
    int failures = 0;
    for (long n = 0;; n++) {
        qd_alloc_fail_after(n);
        const qd_status status = qd_plan_run(s.plan);
        qd_alloc_fail_after(-1);
        if (!status) break;
        ck_assert_int_eq(status, QD_ERR_MEMORY);
        failures++;
    }
    ck_assert_int_ge(failures, 4); /* copies of three operands, and of the result */
    close_scene(&s);
}
END_TEST

int main(void) {
    Suite *s = suite_create("verify");
    TCase *t = tcase_create("verify");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_right, 0, TEST_DEVICES);
    tcase_add_test(t, test_wrong);
    tcase_add_test(t, test_no_memory);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
