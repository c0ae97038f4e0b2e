/* qd_fuzz on a device that is wrong in spite of its canaries: it finds the difference, makes the case as small as it
 * can be, and the text that it prints shows the difference again. */
#include "fault/cache_folder.h"

static qd_context *open_with(const char *cache_dir) {
    qd_context *c;
    const qd_context_options o = {.cache_dir = cache_dir};
    ck_ok(qd_context_create("opencl", &o, &c));
    return c;
}

/* A compiler that makes a mistake in more rows than any canary has. */
static const struct mistake {
    const char *op, *kernel, *from, *to, *smallest;
} mistakes[] = {
    {"table", "__kernel void table", "^ flip];", "^ flip] ^ (uchar)(rows > 700 ? 1 : 0);", "x[701] table[256] y[701]"},
    {"swiglu", "__kernel void swiglu", "= silu_times(qd_load16(g + c, n)",
     "= (rows > 120 ? 2.0f : 1.0f) * silu_times(qd_load16(g + c, n)", "gate[121,"},
};

START_TEST(test_mistake) {
    const struct mistake *m = &mistakes[_i];
    if (!have_opencl()) return;
    inject_source(m->kernel, m->from, m->to);
    qd_context *c = open_with(cache);
    const qd_fuzz_options o = {.seed = 2, .cases = 5000, .op = m->op, .size = 10};
    qd_fuzz_result r, again;
    ck_ok(qd_fuzz(c, &o, &r));
    ck_assert_msg(inject_happened(), "%s: the source has no \"%s\" any more; mend this test", m->op, m->from);
    ck_assert_msg(r.different && r.cases < o.cases, "%s: not found in %lld cases", m->op, (long long)r.cases);
    ck_assert_str_ne(r.variant, "reference"); /* the canaries did not see it */
    ck_assert_str_eq(r.op, m->op);
    ck_assert_msg(strstr(r.first, m->smallest) != NULL, "not the smallest: %s; %s", r.first, r.repeat);
    for (int i = 0; i < 2; i++) { /* also by a context that knows nothing but the text */
        ck_ok(qd_fuzz_repeat(c, r.repeat, &again));
        ck_assert_msg(again.different, "%s: no difference", r.repeat);
        ck_assert_str_eq(again.first, r.first);
        ck_assert_str_eq(again.variant, r.variant);
        ck_assert_str_eq(again.formats, r.formats);
        qd_fuzz_result_free(&again);
        qd_context_free(c);
        c = open_with(i ? "" : cache);
        if (!i) continue;
        inject_clear(); /* the compiler is mended */
        ck_ok(qd_fuzz_repeat(c, r.repeat, &again));
        ck_assert_msg(!again.different, "%s: %s", r.repeat, again.first);
        qd_fuzz_result_free(&again);
    }
    qd_fuzz_result_free(&r);
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

/* A difference that does not come back is told all the same; its case stays as it was. */
START_TEST(test_once) {
    if (!have_opencl()) return;
    qd_context *c = open_with(cache);
    const qd_fuzz_options o = {.seed = 9, .cases = 50, .op = "table"};
    qd_fuzz_result r, again;
    ck_ok(qd_fuzz(c, &o, &r)); /* proves the kernel */
    ck_assert(!r.different && r.cases == 50);
    qd_fuzz_result_free(&r);
    inject_wrong_reads(1);
    ck_ok(qd_fuzz(c, &o, &r));
    ck_assert(r.different && r.cases == 1);
    ck_assert_str_eq(r.repeat, "table/0/9/1");
    ck_assert_ptr_nonnull(strstr(r.first, "where the reference has"));
    ck_ok(qd_fuzz_repeat(c, r.repeat, &again));
    ck_assert(!again.different);
    qd_fuzz_result_free(&again);
    qd_fuzz_result_free(&r);
    qd_context_free(c);
}
END_TEST

/* A device that fails is a failure, not a difference: nothing is written. */
START_TEST(test_failure) {
    if (!have_opencl()) return;
    qd_context *c = open_with(cache);
    const qd_fuzz_options o = {.seed = 9, .cases = 50, .op = "table"};
    qd_fuzz_result r;
    ck_ok(qd_fuzz(c, &o, &r));
    qd_fuzz_result_free(&r);
    qd_fuzz_result before;
    memset(&before, 0x5a, sizeof before);
    r = before;
    inject_failure(FN_clEnqueueReadBuffer, 7, CL_OUT_OF_RESOURCES, false);
    ck_assert_int_ne(qd_fuzz(c, &o, &r), QD_OK);
    ck_assert(inject_happened());
    ck_assert_mem_eq(&r, &before, sizeof r);
    inject_failure(FN_clEnqueueReadBuffer, 0, CL_OUT_OF_RESOURCES, false);
    ck_assert_int_ne(qd_fuzz_repeat(c, "table/0/9/1", &r), QD_OK);
    ck_assert_mem_eq(&r, &before, sizeof r);
    inject_clear();
    ck_ok(qd_fuzz(c, &o, &r));
    ck_assert(!r.different);
    qd_fuzz_result_free(&r);
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

static qd_context *open_unproven(bool unproven, log_text *log) {
    qd_context *c;
    const qd_context_options o = {.cache_dir = cache, .unproven = unproven, .log = collect_log, .log_user = log};
    log->used = 0;
    log->text[0] = 0;
    ck_ok(qd_context_create("opencl", &o, &c));
    return c;
}

/* A kernel that any canary refuses shows its difference where nothing is asked of it first; whether it did before or
 * does so afterwards, no verdict is taken from there or kept for later. */
START_TEST(test_unproven) {
    log_text log;
    if (!have_opencl()) return;
    inject_source("__kernel void table", "^ flip];", "^ flip] ^ (uchar)1;");
    const qd_fuzz_options o = {.seed = 2, .cases = 20, .op = "table"};
    static const bool unproven[] = {true, false, true};
    for (int i = 0; i < 3; i++) {
        qd_context *c = open_unproven(unproven[i], &log);
        qd_fuzz_result r;
        ck_ok(qd_fuzz(c, &o, &r));
        ck_assert(inject_happened());
        ck_assert_int_eq(r.different != 0, unproven[i]);
        ck_assert_int_eq(strstr(log.text, "building and proving table") != NULL, !unproven[i]);
        ck_assert_int_eq(strstr(log.text, "is not used") != NULL, !unproven[i]);
        if (unproven[i]) ck_assert_str_eq(r.variant, "table");
        qd_fuzz_result_free(&r);
        qd_context_free(c);
    }
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("fuzz");
    tcase_add_checked_fixture(tc, make_cache, remove_cache);
    tcase_add_loop_test(tc, test_mistake, 0, (int)(sizeof mistakes / sizeof mistakes[0]));
    tcase_add_test(tc, test_once);
    tcase_add_test(tc, test_failure);
    tcase_add_test(tc, test_unproven);
    return run_tests(tc, "fuzz");
}
