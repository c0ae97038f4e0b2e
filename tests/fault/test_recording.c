/* Command buffers, on PoCL with a queue that takes work in any order, as GPUs have: a graph that runs with as many rows
 * as before is recorded once and given to the queue by one call, with the reference's bytes; drivers whose command
 * buffers are wrong go without; and any of their calls may fail. */
#include <stdio.h>

#include "fault/cache_folder.h"
#include "unit/graph_bed.h"

#define POCL "opencl:Portable Computing Language"

enum { WIDTH = 64, HEADS = 4, DIM = 16, ROWS = 6, OPS = 6 };

typedef struct scene {
    graph_bed bed;
    qd_tensor *x, *position;
} scene;

/* Two branches of a product and attention, which share the device's scratch, and their sum. */
static void make_scene(scene *s, qd_context *c, int64_t places) {
    graph_bed *b = &s->bed;
    const qd_tensor_desc rows = qd_desc(QD_FORMAT_F32, QD_ROWS, WIDTH, 0, 0),
                         a8 = qd_desc(QD_FORMAT_A8, QD_ROWS, WIDTH, 0, 0),
                         weights = qd_desc(QD_FORMAT_Q8_0, WIDTH, WIDTH, 0, 0),
                         stored = qd_desc(QD_FORMAT_F32, HEADS, places, DIM, 0);
    const qd_attrs attrs = {.attention = {.heads = HEADS, .kv_heads = HEADS, .head_dim = DIM, .scale = 0.25f}};
    qd_tensor *mixed[2];
    bed_open(b, c, ROWS, 11);
    s->x = bed_input(b, qd_desc(QD_FORMAT_F32, ROWS, WIDTH, 0, 0));
    s->position = bed_input(b, qd_desc(QD_FORMAT_I32, 1, 0, 0, 0));
    qd_tensor *const q = bed_inside(b, a8);
    bed_add(b, QD_OP_QUANTIZE, NULL, &s->x, 1, q);
    for (int i = 0; i < 2; i++) {
        qd_tensor *const y = bed_inside(b, rows), *const keys = bed_input(b, stored),
                         *const values = bed_input(b, stored);
        mixed[i] = bed_inside(b, rows);
        bed_add(b, QD_OP_MATMUL, NULL, (qd_tensor *[]){bed_weights(b, weights), q}, 2, y);
        bed_add(b, QD_OP_ATTENTION, &attrs, (qd_tensor *[]){y, keys, values, s->position}, 4, mixed[i]);
    }
    bed_add(b, QD_OP_ADD, NULL, mixed, 2, bed_output(b, qd_desc(QD_FORMAT_F32, ROWS, WIDTH, 0, 0)));
    ck_ok(qd_graph_compile(b->g, NULL, NULL));
}

/* Both with other values than before; what the other one says of the run. */
static qd_status run_both(scene *s, scene *expected, int64_t rows, int turn) {
    float x[ROWS * WIDTH];
    const int32_t position = turn;
    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = (float)((i * 37 + turn * 11) % 101 - 50);
    qd_status status = QD_OK;
    for (int who = 0; who < 2; who++) {
        scene *one = who ? s : expected;
        status = qd_tensor_write(one->x, 0, x, sizeof x);
        if (!status) status = qd_tensor_write(one->position, 0, &position, sizeof position);
        if (!status) status = qd_graph_run(one->bed.g, rows);
        if (!who) ck_ok(status);
    }
    return status ? status : qd_context_finish(s->bed.c);
}

static int recorded(const scene *s) {
    qd_graph_info info;
    ck_ok(qd_graph_describe(s->bed.g, &info));
    ck_assert(info.recorded == 0 || info.recorded == info.ops);
    return info.recorded;
}

typedef struct stage {
    qd_context *c, *ref;
    scene ours, expected;
} stage;

/* False: there is no PoCL here. */
static bool open_stage(stage *s) {
    if (!have_x86_pocl()) return false;
    const qd_context_options o = {.cache_dir = cache, .out_of_order = true};
    ck_ok(qd_context_create(POCL, &o, &s->c));
    ck_ok(qd_context_create("ref", NULL, &s->ref));
    make_scene(&s->ours, s->c, 32);
    make_scene(&s->expected, s->ref, 32);
    return true;
}

static void close_stage(stage *s) {
    bed_close(&s->ours.bed);
    bed_close(&s->expected.bed);
    qd_context_free(s->c);
    qd_context_free(s->ref);
    inject_clear();
}

/* A run that succeeds, with the reference's bytes. */
static void run_right(stage *s, int64_t rows, int turn, const char *what) {
    ck_ok(run_both(&s->ours, &s->expected, rows, turn));
    bed_compare(&s->ours.bed, &s->expected.bed, what);
}

START_TEST(test_recordings) {
    static const int64_t rows[] = {6, 2, 2, 2, 3, 3, 2, 2, 2};
    static const bool known[] = {false, false, true, true, true, true, true, true, true};
    stage s;
    const long alive = inject_alive();
    if (!open_stage(&s)) return;
    for (int i = 0; i < 9; i++) {
        inject_clear();
        run_right(&s, rows[i], i, "a run");
        const bool again = i > 0 && rows[i] == rows[i - 1];
        ck_assert_int_eq(recorded(&s.ours) > 0, known[i]);
        ck_assert_int_eq(inject_calls(FN_clEnqueueCommandBufferKHR), again + (i == 2 ? 2 : 0)); /* the probe's two */
        if (i != 2) ck_assert_int_eq(inject_calls(FN_clEnqueueNDRangeKernel), again ? 0 : OPS);
        /* What waits: the first product for its input, the second, whose result has its memory, for attention after it,
         * attention for its product and the scratch, the sum for the last. PoCL does all in their order anyway. */
        if (i == 5) ck_assert_int_eq(inject_points(), 1 + 1 + 1 + 2 + 1);
        /* Recorded once for a number of rows. */
        ck_assert_int_eq(inject_calls(FN_clCreateCommandBufferKHR) > 0, again && (i == 2 || i == 5 || i == 7));
    }
    /* The scratch grows with another graph; what was recorded uses the old one. */
    scene large;
    make_scene(&large, s.c, 1024);
    ck_ok(qd_graph_run(large.bed.g, ROWS));
    inject_clear();
    run_right(&s, 2, 9, "with a new scratch");
    ck_assert_int_eq(inject_calls(FN_clCreateCommandBufferKHR), 1);
    ck_assert_int_gt(recorded(&s.ours), 0);
    run_right(&s, 2, 10, "with a new scratch, again");
    bed_close(&large.bed);
    close_stage(&s);
    ck_assert_int_eq(inject_alive(), alive);
}
END_TEST

/* What the probe finds out, and what never asks it. */
START_TEST(test_without) {
    static const qd_context_options options[] = {
        {.in_order = true}, {.out_of_order = true, .profile = true}, {.out_of_order = true}};
    enum { WRONG = 2 };
    char others[sizeof cache]; /* which must not have what a wrong probe finds */
    if (!have_x86_pocl()) return;
    memcpy(others, cache, sizeof cache);
    make_cache();
    for (int i = 0; i < 3; i++) {
        stage s;
        if (i == WRONG) inject_source("QD_PROBE_COMMAND_BUFFERS", "3 * y[k] + a", "2 * y[k] + a");
        qd_context_options o = options[i];
        o.cache_dir = cache;
        ck_ok(qd_context_create(POCL, &o, &s.c));
        ck_ok(qd_context_create("ref", NULL, &s.ref));
        make_scene(&s.ours, s.c, 32);
        make_scene(&s.expected, s.ref, 32);
        for (int turn = 0; turn < 3; turn++)
            run_right(&s, 2, turn, "without");
        ck_assert_int_eq(recorded(&s.ours), 0);
        ck_assert_int_eq(inject_happened(), i == WRONG);
        close_stage(&s);
    }
    remove_cache();
    memcpy(cache, others, sizeof cache);
}
END_TEST

/* Each call, once and for good: bytes that are right, or a status; and the next run is right. */
START_TEST(test_failures) {
    static const cl_function functions[] = {FN_clGetExtensionFunctionAddressForPlatform, FN_clCreateCommandBufferKHR,
                                            FN_clCommandNDRangeKernelKHR, FN_clFinalizeCommandBufferKHR,
                                            FN_clEnqueueCommandBufferKHR};
    static const cl_int errors[] = {CL_OUT_OF_RESOURCES, CL_OUT_OF_HOST_MEMORY, CL_MEM_OBJECT_ALLOCATION_FAILURE};
    enum { CALLS = 12 };
    const long alive = inject_alive();
    stage s;
    if (!have_x86_pocl()) return;
    for (int call = 0; call < CALLS; call++) {
        bool happened = false;
        for (int forever = 0; forever < 2; forever++) {
            if (!open_stage(&s)) return;
            for (int turn = 0; turn < 2; turn++)
                run_right(&s, 3 - turn, turn, "before");
            inject_failure(functions[_i], call, errors[call % 3], forever);
            for (int turn = 2; turn < 6; turn++) {
                const qd_status status = run_both(&s.ours, &s.expected, turn < 4 ? 2 : 3, turn);
                ck_assert(status == QD_OK || functions[_i] == FN_clEnqueueCommandBufferKHR);
                if (!status) bed_compare(&s.ours.bed, &s.expected.bed, cl_function_names[functions[_i]]);
            }
            happened |= inject_happened();
            inject_clear();
            for (int turn = 6; turn < 8; turn++)
                run_right(&s, 3, turn, "after");
            close_stage(&s);
            ck_assert_int_eq(inject_alive(), alive);
        }
        if (!happened) return;
    }
}
END_TEST

/* Nobody waits for what was given to a device that is gone. */
START_TEST(test_lost) {
    stage s;
    if (!open_stage(&s)) return;
    for (int turn = 0; turn < 3; turn++)
        run_right(&s, 2, turn, "before");
    ck_assert_int_gt(recorded(&s.ours), 0);
    inject_failure(FN_clEnqueueWriteBuffer, 0, CL_DEVICE_NOT_AVAILABLE, false);
    ck_assert_int_eq(run_both(&s.ours, &s.expected, 2, 3), QD_ERR_DEVICE_LOST);
    inject_clear();
    qd_graph_free(s.ours.bed.g);
    s.ours.bed.g = NULL;
    ck_assert_int_eq(inject_calls(FN_clWaitForEvents), 0);
    close_stage(&s);
}
END_TEST

START_TEST(test_memory) {
    stage s;
    if (!open_stage(&s)) return;
    for (long n = 0; n < 6; n++) {
        for (int turn = 0; turn < 3; turn++) {
            if (turn == 1) qd_alloc_fail_after(n);
            const qd_status status = qd_graph_run(s.ours.bed.g, 2 + n % 2);
            qd_alloc_fail_after(-1);
            ck_assert(status == QD_OK || status == QD_ERR_MEMORY);
        }
        run_right(&s, 2 + n % 2, 4, "after");
    }
    close_stage(&s);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("recording");
    tcase_add_unchecked_fixture(tc, make_cache, remove_cache);
    tcase_add_test(tc, test_recordings);
    tcase_add_test(tc, test_without);
    tcase_add_loop_test(tc, test_failures, 0, 5);
    tcase_add_test(tc, test_lost);
    tcase_add_test(tc, test_memory);
    return run_tests(tc, "recording");
}
