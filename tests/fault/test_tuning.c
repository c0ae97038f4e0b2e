/* Tuned ways that give other bytes: refused like any kernel, and the way without tuning takes their place. And
 * allocations that fail while a file is read. */
#include "fault/cache_folder.h"
#include "qdot/qdot_tuning.h"

enum { N = 20, K = 64, M = 3 };

static unsigned char weights[N * 18 * K / 32], want[M * N * 4];

typedef struct outcome {
    log_text log;
    qd_tuning_way way;
    int classes;
} outcome;

/* A product in a context with this file; its values must be the reference's. `wrong`: so many reads of canaries are. */
static outcome run(const char *device, const char *tuning, long wrong) {
    outcome o = {.classes = -1};
    const qd_context_options options = {.cache_dir = cache, .tuning = tuning, .log = collect_log, .log_user = &o.log};
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_Q4_0, N, K, 0, 0), dx = qd_desc(QD_FORMAT_A8, M, K, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, M, N, 0, 0);
    uint32_t rng = 8;
    void *w = random_data(&rng, &dw), *x = random_data(&rng, &dx);
    memcpy(weights, w, sizeof weights);
    qd_context *c;
    qd_tensor *t[3];
    qd_plan *p;
    ck_ok(qd_context_create(device, &options, &c));
    ck_ok(qd_tensor_constant(c, &dw, weights, &t[0]));
    t[1] = tensor_with(c, dx, x);
    ck_ok(qd_tensor_create(c, &dy, &t[2]));
    if (wrong) inject_wrong_reads(wrong);
    ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, t, 2, &t[2], 1, &p));
    inject_wrong_reads(0);
    ck_ok(qd_plan_run(p));
    if (strcmp(device, "ref") != 0) {
        qd_tuning_way *ways;
        qd_tuning_info info;
        int count;
        ck_tensor(t[2], want, "a tuned product");
        ck_ok(qd_plan_ways(p, &ways, &count));
        ck_ok(qd_context_tuning(c, &info));
        o.way = ways[0];
        o.classes = info.classes;
        /* What a file is made from. */
        for (int i = 0; i < count && !tuning[0]; i++) {
            if (strcmp(ways[i].options, "QD_TOKENS=2") == 0) o.way = ways[i];
        }
        if (!tuning[0]) {
            char path[80];
            snprintf(path, sizeof path, "%s/mine.txt", cache);
            ck_ok(qd_plan_choose(p, &o.way));
            ck_ok(qd_context_tuning_write(c, path));
        }
        qd_ways_free(ways);
    } else {
        ck_ok(qd_tensor_read(t[2], 0, want, sizeof want));
    }
    qd_plan_free(p);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(t[i]);
    qd_context_free(c);
    free(w);
    free(x);
    ck_assert_int_eq(inject_alive(), 0);
    return o;
}

static bool same_way(const qd_tuning_way *a, const qd_tuning_way *b) {
    return a->groups == b->groups && !strcmp(a->variant, b->variant) && !strcmp(a->options, b->options);
}

static void forget_kernels(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -f '%s'/*.bin", cache);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(test_miscompiled) {
    if (!have_opencl()) return;
    char path[80];
    snprintf(path, sizeof path, "%s/mine.txt", cache);
    run("ref", "", 0);
    const outcome made = run("opencl", "", 0);
    ck_assert_str_eq(made.way.options, "QD_TOKENS=2");
    outcome o = run("opencl", path, 0);
    ck_assert_int_eq(o.classes, 1);
    ck_assert(same_way(&o.way, &made.way));
    ck_assert_ptr_null(strstr(o.log.text, "building"));
    /* The tuned build is wrong: told, not used. */
    forget_kernels();
    o = run("opencl", path, 1);
    ck_assert_ptr_nonnull(strstr(o.log.text, "is not used on"));
    ck_assert_ptr_nonnull(strstr(o.log.text, "QD_TOKENS=2"));
    ck_assert_str_eq(o.way.options, "");
    /* That verdict lasts, as any other. */
    o = run("opencl", path, 0);
    ck_assert_ptr_null(strstr(o.log.text, "building"));
    ck_assert_ptr_nonnull(strstr(o.log.text, "is not used on"));
    ck_assert_str_eq(o.way.options, "");
    /* It does not build. */
    forget_kernels();
    inject_failure(FN_clBuildProgram, 0, CL_BUILD_PROGRAM_FAILURE, false);
    o = run("opencl", path, 0);
    ck_assert_str_eq(o.way.options, "");
}
END_TEST

/* A context that runs out of memory while it reads its file fails, and leaves nothing; once there is enough, it opens.
 */
START_TEST(test_memory) {
    if (!have_opencl()) return;
    char path[80];
    snprintf(path, sizeof path, "%s/mine.txt", cache);
    run("ref", "", 0);
    run("opencl", "", 0);
    const qd_context_options options = {.cache_dir = cache, .tuning = path};
    qd_status status = QD_ERR_MEMORY;
    for (int n = 0; status && n < 1000; n++) {
        qd_context *c = NULL;
        qd_alloc_fail_after(n);
        status = qd_context_create("opencl", &options, &c);
        qd_alloc_fail_after(-1);
        ck_assert(status == QD_OK || (status == QD_ERR_MEMORY && !c));
        ck_assert_int_eq(inject_alive() > 0, status == QD_OK);
        if (status) continue;
        qd_tuning_info info;
        ck_ok(qd_context_tuning(c, &info));
        ck_assert_int_eq(info.classes, 1);
        qd_context_free(c);
    }
    ck_assert_int_eq(status, QD_OK);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("tuning");
    tcase_add_checked_fixture(tc, make_cache, remove_cache);
    tcase_add_test(tc, test_miscompiled);
    tcase_add_test(tc, test_memory);
    return run_tests(tc, "tuning");
}
