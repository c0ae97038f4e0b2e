/* Each operator with each thing that can fail under it: every allocation of the host and every call of OpenCL, one
 * after the other. The failure is a status with a message, or the reference computes instead; nothing leaks; and the
 * context works afterwards, or says that its device is lost. */

#include "core/context.h"
#include "core/verify.h"
#include "fault/cache_folder.h"

enum { COMBINATIONS = 2 };

/* Problem `which` of the operator: the first and the last of its formats, each with a seed of its own. */
static void make_case(qd_op op, int which, qd_case *x) {
    qd_format formats[QD_MAX_IN + QD_MAX_OUT];
    int n = 0;
    while (qd_case_formats(op, n, formats))
        n++;
    ck_assert(qd_case_formats(op, which ? n - 1 : 0, formats));
    ck_ok(qd_case_make(op, formats, (uint64_t)(11 + which), 1, NULL, 0, x));
}

/* Makes and runs a problem; only the run may fail. */
static qd_status run(qd_context *c, qd_op op, int which, const char *what) {
    qd_case x;
    bool different = false;
    char variant[64], first[400] = "";
    make_case(op, which, &x);
    qd_fail(QD_OK, "no message");
    const qd_status status = qd_case_run(c, &x, variant, sizeof variant, &different, first, sizeof first);
    qd_alloc_fail_after(-1);
    ck_assert_msg(!different, "%s, %s: wrong bytes: %s", qd_op_get(op)->name, what, first);
    if (status) ck_assert_str_ne(qd_last_message(), "no message");
    qd_case_free(&x);
    return status;
}

static uint64_t used(const qd_context *c) {
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    return m.used;
}

static qd_context *open_proven(qd_op op) {
    const qd_context_options o = {.cache_dir = cache};
    qd_context *c;
    ck_ok(qd_context_create("opencl", &o, &c));
    for (int which = 0; which < COMBINATIONS; which++)
        ck_ok(run(c, op, which, "without a fault"));
    return c;
}

START_TEST(test_allocations) {
    const qd_op op = (qd_op)_i;
    if (!have_opencl()) return;
    qd_context *c = open_proven(op);
    for (int which = 0; which < COMBINATIONS; which++) {
        const uint64_t before = used(c);
        qd_status status = QD_ERR_MEMORY;
        for (long n = 0; status; n++) {
            qd_case x;
            bool different = false;
            char variant[64], first[400] = "";
            make_case(op, which, &x);
            qd_alloc_fail_after(n);
            status = qd_case_run(c, &x, variant, sizeof variant, &different, first, sizeof first);
            qd_alloc_fail_after(-1);
            qd_case_free(&x);
            ck_assert_msg(!different, "%s, allocation %ld: %s", qd_op_get(op)->name, n, first);
            ck_assert_msg(status == QD_OK || status == QD_ERR_MEMORY, "%s, allocation %ld: %s: %s", qd_op_get(op)->name,
                          n, qd_status_name(status), qd_last_message());
            ck_assert_uint_eq(used(c), before);
            ck_ok(run(c, op, which, "after a failed allocation"));
            ck_assert_int_lt(n, 200);
        }
    }
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

START_TEST(test_opencl_calls) {
    static const cl_int errors[] = {CL_OUT_OF_RESOURCES, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_DEVICE_NOT_AVAILABLE};
    const qd_op op = (qd_op)_i;
    if (!have_opencl()) return;
    qd_context *c = open_proven(op);
    int lost = 0, failed = 0;
    for (int e = 0; e < 3; e++) {
        bool happened = true;
        for (long n = 0; happened; n++) {
            const uint64_t before = used(c);
            inject_clear();
            inject_failure(CL_FUNCTIONS, n, errors[e], false);
            const qd_status status = run(c, op, 0, "with a call that fails");
            happened = inject_happened();
            inject_clear();
            failed += status != QD_OK;
            if (status == QD_ERR_DEVICE_LOST) {
                /* It stays lost: the driver is not asked again. */
                lost++;
                inject_clear();
                ck_assert_int_eq(run(c, op, 0, "on a lost device"), QD_ERR_DEVICE_LOST);
                ck_assert_int_eq(qd_context_finish(c), QD_ERR_DEVICE_LOST);
                ck_assert_int_eq(inject_calls(FN_clEnqueueNDRangeKernel) + inject_calls(FN_clCreateBuffer) +
                                     inject_calls(FN_clEnqueueReadBuffer) + inject_calls(FN_clFinish),
                                 0);
                qd_context_free(c);
                c = open_proven(op);
            } else {
                ck_assert_msg(used(c) == before, "%s, call %ld: memory is lost", qd_op_get(op)->name, n);
                ck_ok(run(c, op, 0, "after a call that failed"));
            }
            ck_assert_int_lt(n, 300);
        }
    }
    ck_assert_int_gt(lost, 3);
    ck_assert_int_gt(failed, lost);
    qd_context_free(c);
    ck_assert_msg(inject_alive() == 0, "%ld OpenCL objects are left", inject_alive());
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("every_op");
    tcase_add_unchecked_fixture(tc, make_cache, remove_cache);
    tcase_add_loop_test(tc, test_allocations, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_opencl_calls, 0, QD_OP_COUNT);
    return run_tests(tc, "every_op");
}
