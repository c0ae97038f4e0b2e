/* A device that is lost: once a call has said so, all later ones say so, too, and the driver is not asked again; what
 * was made can be freed. */
#include "fault/cache_folder.h"

/* ---- A context in use --------------------------------------------------------------------------------------- */

enum { ROWS = 4, COLS = 40, VALUES = ROWS * COLS };

/* y = x + x as a plan, y = (x + x) + x as a graph; and a graph that is not compiled yet. */
typedef struct scene {
    qd_context *c;
    qd_tensor *x, *y, *inside;
    qd_plan *p;
    qd_graph *g, *other;
    float values[VALUES], got[VALUES];
} scene;

static void open_scene(scene *s, bool out_of_order) {
    const qd_context_options o = {
        .cache_dir = cache, .profile = true, .in_order = !out_of_order, .out_of_order = out_of_order};
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, ROWS, COLS, 0, 0),
                         rows = qd_desc(QD_FORMAT_F32, QD_ROWS, COLS, 0, 0);
    memset(s, 0, sizeof *s);
    for (int i = 0; i < VALUES; i++)
        s->values[i] = (float)i;
    ck_ok(qd_context_create("opencl", &o, &s->c));
    ck_ok(qd_tensor_create(s->c, &d, &s->x));
    ck_ok(qd_tensor_create(s->c, &d, &s->y));
    ck_ok(qd_plan_create(s->c, QD_OP_ADD, NULL, (qd_tensor *[]){s->x, s->x}, 2, &s->y, 1, &s->p));
    for (int i = 0; i < 2; i++) {
        qd_graph **g = i ? &s->other : &s->g;
        qd_tensor *inside;
        ck_ok(qd_graph_create(s->c, ROWS, g));
        ck_ok(qd_graph_tensor(*g, &rows, &inside));
        ck_ok(qd_graph_add(*g, QD_OP_ADD, NULL, (qd_tensor *[]){s->x, s->x}, 2, &inside, 1));
        ck_ok(qd_graph_add(*g, QD_OP_ADD, NULL, (qd_tensor *[]){inside, s->x}, 2, &s->y, 1));
    }
    ck_ok(qd_graph_compile(s->g, NULL, NULL));
    ck_ok(qd_tensor_write(s->x, 0, s->values, sizeof s->values));
    ck_ok(qd_plan_run(s->p));
    ck_ok(qd_context_finish(s->c));
}

static void close_scene(scene *s) {
    qd_plan_free(s->p);
    qd_graph_free(s->g);
    qd_graph_free(s->other);
    qd_tensor_free(s->x);
    qd_tensor_free(s->y);
    qd_context_free(s->c);
    ck_assert_int_eq(inject_alive(), 0);
}

/* ---- Losing the device -------------------------------------------------------------------------------------- */

/* Everything that may ask the driver, until something fails. */
static qd_status use_all(scene *s) {
    qd_status status = QD_OK;
    qd_tensor *t = NULL, *w = NULL, *y = NULL;
    qd_plan *p = NULL;
    static const float table[VALUES];
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, ROWS, COLS, 0, 0), ids = qd_desc(QD_FORMAT_I32, ROWS, 0, 0, 0);
    QD_TRY(qd_tensor_write(s->x, 0, s->values, sizeof s->values));
    QD_TRY(qd_plan_run(s->p));
    QD_TRY(qd_graph_run(s->g, ROWS - 1));
    QD_TRY(qd_context_finish(s->c));
    QD_TRY(qd_tensor_read(s->y, 0, s->got, sizeof s->got));
    QD_TRY(qd_tensor_create(s->c, &ids, &t));
    QD_TRY(qd_tensor_create(s->c, &d, &y));
    QD_TRY(qd_tensor_constant(s->c, &d, table, &w));
    QD_TRY(qd_plan_create(s->c, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){w, t}, 2, &y, 1, &p));
error:
    qd_plan_free(p);
    qd_tensor_free(t);
    qd_tensor_free(w);
    qd_tensor_free(y);
    return status;
}

static bool stop_at_first(void *user, const qd_verify_row *r) {
    (void)user, (void)r;
    return false;
}

#define ck_lost(call) ck_fails(call, QD_ERR_DEVICE_LOST, "another device")

static void ck_all_lost(scene *s) {
    const long calls = inject_calls(CL_FUNCTIONS);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 300, COLS, 0, 0);
    qd_tensor *t = NULL;
    qd_plan *p = NULL;
    qd_kernel_info *kernels = NULL;
    qd_profile_row *rows = NULL;
    qd_memory_info memory;
    int count = -1, different = -1;
    memset(s->got, 0x77, sizeof s->got);
    ck_lost(qd_tensor_write(s->x, 0, s->values, sizeof s->values));
    ck_lost(qd_tensor_read(s->y, 0, s->got, sizeof s->got));
    for (size_t i = 0; i < sizeof s->got; i++)
        ck_assert_int_eq(((const unsigned char *)s->got)[i], 0x77);
    ck_lost(qd_plan_run(s->p));
    ck_lost(qd_graph_run(s->g, ROWS));
    ck_lost(qd_context_finish(s->c));
    ck_lost(qd_tensor_create(s->c, &d, &t));
    ck_lost(qd_plan_create(s->c, QD_OP_ADD, NULL, (qd_tensor *[]){s->x, s->x}, 2, &s->y, 1, &p));
    ck_lost(qd_plan_create(s->c, QD_OP_SWIGLU, NULL, (qd_tensor *[]){s->x, s->x}, 2, &s->y, 1, &p));
    ck_lost(qd_graph_compile(s->other, NULL, NULL));
    ck_lost(qd_context_kernels(s->c, &kernels, &count));
    ck_lost(qd_verify(s->c, 1, 1, stop_at_first, NULL, &different));
    ck_lost(qd_context_profile(s->c, &rows, &count));
    ck_lost(qd_context_trace(s->c, "/dev/null"));
    qd_context_profile_reset(s->c);
    ck_ok(qd_context_memory(s->c, &memory));
    ck_assert(!t && !p && !kernels && !rows);
    ck_assert_msg(inject_calls(CL_FUNCTIONS) == calls, "the driver was asked %ld times",
                  inject_calls(CL_FUNCTIONS) - calls);
}

/* Each function whose failure means that the device is gone, with a queue in order (0) and out of order (1). */
START_TEST(test_lost) {
    if (!have_opencl()) return;
    int met = 0;
    for (int fn = 0; fn < CL_FUNCTIONS; fn++) {
        scene s;
        inject_clear();
        open_scene(&s, _i == 1);
        inject_failure((cl_function)fn, 0, CL_DEVICE_NOT_AVAILABLE, false);
        const qd_status status = use_all(&s);
        ck_assert_msg(status == QD_OK || status == QD_ERR_DEVICE_LOST, "%s: %s", cl_function_names[fn],
                      qd_last_message());
        if (status) {
            ck_assert_msg(inject_happened(), "%s", cl_function_names[fn]);
            met++;
            ck_all_lost(&s);
        }
        close_scene(&s);
    }
    /* Creating and filling buffers, writing, reading, mapping, arguments, kernels, starting, submitting, waiting. */
    ck_assert_int_ge(met, 9);
}
END_TEST

/* Lost while a kernel is proven: no verdict on it, and another context proves it. */
START_TEST(test_lost_while_proving) {
    static const cl_function fns[] = {FN_clBuildProgram, FN_clCreateKernel, FN_clEnqueueNDRangeKernel,
                                      FN_clEnqueueReadBuffer};
    if (!have_opencl()) return;
    for (size_t i = 0; i < sizeof fns / sizeof fns[0]; i++) {
        const qd_context_options o = {.cache_dir = cache};
        const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, ROWS, COLS, 0, 0);
        for (int lost = 1; lost >= 0; lost--) {
            qd_context *c;
            qd_tensor *x;
            qd_plan *p = NULL;
            inject_clear();
            ck_ok(qd_context_create("opencl", &o, &c));
            ck_ok(qd_tensor_create(c, &d, &x));
            if (lost) {
                inject_failure(fns[i], 0, CL_DEVICE_NOT_AVAILABLE, false);
                ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){x, x}, 2, &x, 1, &p), QD_ERR_DEVICE_LOST,
                         "");
                const long calls = inject_calls(CL_FUNCTIONS);
                ck_lost(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){x, x}, 2, &x, 1, &p));
                ck_assert_int_eq(inject_calls(CL_FUNCTIONS), calls);
                ck_assert_ptr_null(p);
            } else {
                ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){x, x}, 2, &x, 1, &p));
                ck_assert_str_eq(qd_plan_variant(p), "add_f32");
                qd_plan_free(p);
            }
            qd_tensor_free(x);
            qd_context_free(c);
            ck_assert_int_eq(inject_alive(), 0);
        }
        remove_cache();
        make_cache();
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("lost");
    tcase_add_checked_fixture(tc, make_cache, remove_cache);
    tcase_add_loop_test(tc, test_lost, 0, 2);
    tcase_add_test(tc, test_lost_while_proving);
    return run_tests(tc, "lost");
}
