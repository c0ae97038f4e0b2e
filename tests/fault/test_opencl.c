/* OpenCL that fails at any call: every failure is a status that fits, nothing is half done, nothing leaks, and where
 * the device is still there the context works on. */
#include <sys/stat.h>

#include "fault/cache_folder.h"

/* ---- The work that is to fail ------------------------------------------------------------------------------- */

/* y = rows of a constant table of halves, added to themselves: a small program, with weights and without. */
enum { V = 6, R = 4, C = 24 };

typedef struct job {
    qd_context *c;
    qd_tensor *table, *ids, *y, *sum;
    qd_plan *look_up, *add;
    uint16_t halves[V * C];
    float got[R * C], want[R * C];
    bool read; /* the last step was reached */
    char variants[2][48];
} job;

static void prepare_job(job *j) {
    static const int32_t ids[R] = {5, 0, 3, 3};
    float values[V * C];
    memset(j, 0, sizeof *j);
    for (int i = 0; i < V * C; i++)
        values[i] = (float)(i - 70);
    ck_ok(qd_quantize(QD_FORMAT_F16, values, V, C, j->halves));
    for (int i = 0; i < R * C; i++)
        j->want[i] = 2 * values[ids[i / C] * C + i % C];
    memset(j->got, 0x77, sizeof j->got);
}

static qd_status open_job(job *j, const qd_context_options *o) {
    qd_context *const unset = (qd_context *)cache;
    qd_context *c = unset;
    const qd_status status = qd_context_create("opencl", o, &c);
    if (!status) j->c = c;
    ck_assert(status == QD_OK || c == unset);
    return status;
}

static qd_status run_job(job *j) {
    static const int32_t ids[R] = {5, 0, 3, 3};
    const qd_tensor_desc dt = qd_desc(QD_FORMAT_F16, V, C, 0, 0), di = qd_desc(QD_FORMAT_I32, R, 0, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, R, C, 0, 0);
    qd_status status = QD_OK;
    QD_TRY(qd_tensor_constant(j->c, &dt, j->halves, &j->table));
    QD_TRY(qd_tensor_create(j->c, &di, &j->ids));
    QD_TRY(qd_tensor_create(j->c, &dy, &j->y));
    QD_TRY(qd_tensor_create(j->c, &dy, &j->sum));
    QD_TRY(qd_tensor_write(j->ids, 0, ids, sizeof ids));
    QD_TRY(qd_plan_create(j->c, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){j->table, j->ids}, 2, &j->y, 1, &j->look_up));
    QD_TRY(qd_plan_create(j->c, QD_OP_ADD, NULL, (qd_tensor *[]){j->y, j->y}, 2, &j->sum, 1, &j->add));
    snprintf(j->variants[0], sizeof j->variants[0], "%s", qd_plan_variant(j->look_up));
    snprintf(j->variants[1], sizeof j->variants[1], "%s", qd_plan_variant(j->add));
    QD_TRY(qd_plan_run(j->look_up));
    QD_TRY(qd_plan_run(j->add));
    QD_TRY(qd_context_finish(j->c));
    QD_TRY(qd_tensor_read(j->sum, 0, j->got, sizeof j->got));
    j->read = true;
error:
    return status;
}

static void clean_job(job *j) {
    qd_plan_free(j->look_up);
    qd_plan_free(j->add);
    qd_tensor *const all[] = {j->table, j->ids, j->y, j->sum};
    for (int i = 0; i < 4; i++)
        qd_tensor_free(all[i]);
    j->look_up = j->add = NULL;
    j->table = j->ids = j->y = j->sum = NULL;
    if (!j->c) return;
    qd_memory_info m;
    ck_ok(qd_context_memory(j->c, &m));
    ck_assert_uint_eq(m.used, 0);
}

static bool untouched(const job *j) {
    const unsigned char *p = (const unsigned char *)j->got;
    for (size_t i = 0; i < sizeof j->got; i++) {
        if (p[i] != 0x77) return false;
    }
    return true;
}

/* Statuses that an OpenCL error may become. */
static bool fits(cl_int e, qd_status s) {
    switch (e) {
        case CL_DEVICE_NOT_AVAILABLE:
            return s == QD_ERR_DEVICE_LOST;
        case CL_MEM_OBJECT_ALLOCATION_FAILURE:
            return s == QD_ERR_DEVICE_MEMORY;
        case CL_OUT_OF_HOST_MEMORY:
            return s == QD_ERR_MEMORY;
        case CL_OUT_OF_RESOURCES:
            return s == QD_ERR_DEVICE || s == QD_ERR_DEVICE_MEMORY;
        default:
            return s == QD_ERR_DEVICE;
    }
}

/* One job with one call failing. True when a call failed; then everything has been checked. */
static bool job_with_fault(const qd_context_options *o, cl_function fn, long n, cl_int e, bool forever) {
    job j;
    prepare_job(&j);
    inject_clear();
    inject_failure(fn, n, e, forever);
    qd_fail(QD_OK, "no message");
    qd_status status = open_job(&j, o);
    const bool opened = status == QD_OK;
    if (opened) status = run_job(&j);
    const bool happened = inject_happened();
    inject_clear();
    char what[128];
    snprintf(what, sizeof what, "%s, call %ld, error %d", fn < CL_FUNCTIONS ? cl_function_names[fn] : "any function", n,
             (int)e);
    if (status) {
        ck_assert_msg(happened && (fits(e, status) || (!opened && status == QD_ERR_NO_DEVICE)), "%s: %s: %s", what,
                      qd_status_name(status), qd_last_message());
        ck_assert_str_ne(qd_last_message(), "no message");
        ck_assert_ptr_null(strchr(qd_last_message(), '\n'));
        ck_assert_msg(untouched(&j), "%s: the result was written", what);
    } else {
        ck_assert_msg(j.read && !memcmp(j.got, j.want, sizeof j.want), "%s: no error, and wrong values", what);
    }
    /* What is there after the failure works, unless the device is gone. */
    clean_job(&j);
    if (opened && status != QD_ERR_DEVICE_LOST) {
        memset(j.got, 0x77, sizeof j.got);
        const qd_status again = run_job(&j);
        ck_assert_msg(again == QD_OK, "%s, then again: %s", what, qd_last_message());
        ck_assert_msg(!memcmp(j.got, j.want, sizeof j.want), "%s, then again: wrong values", what);
        clean_job(&j);
    }
    qd_context_free(j.c);
    ck_assert_msg(inject_alive() == 0, "%s: %ld OpenCL objects are left", what, inject_alive());
    return happened;
}

static const cl_int errors[] = {CL_OUT_OF_RESOURCES, CL_DEVICE_NOT_AVAILABLE, CL_OUT_OF_HOST_MEMORY,
                                CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_INVALID_VALUE};
enum { ERRORS = sizeof errors / sizeof errors[0] };

/* ---- Every call --------------------------------------------------------------------------------------------- */

/* With proven kernels on disk: each call of the job fails once, with each error. */
START_TEST(test_each_call) {
    if (!have_opencl()) return;
    const qd_context_options o = {.cache_dir = cache, .out_of_order = _i == 1, .profile = _i == 1, .threads = _i};
    ck_assert(!job_with_fault(&o, CL_FUNCTIONS, 1000000, CL_INVALID_VALUE, false)); /* proves and stores */
    for (int i = 0; i < ERRORS; i++) {
        long n = 0;
        while (job_with_fault(&o, CL_FUNCTIONS, n, errors[i], false))
            n++;
        ck_assert_int_gt(n, 30);
    }
}
END_TEST

/* From the n-th call of a function on, all fail; the first, second, a middle one. */
START_TEST(test_each_function_for_good) {
    if (!have_opencl()) return;
    const qd_context_options o = {.cache_dir = cache, .out_of_order = true};
    ck_assert(!job_with_fault(&o, CL_FUNCTIONS, 1000000, CL_INVALID_VALUE, false));
    for (int fn = 0; fn < CL_FUNCTIONS; fn++) {
        for (long n = 0; n < 3; n++)
            job_with_fault(&o, (cl_function)fn, n, n == 1 ? CL_DEVICE_NOT_AVAILABLE : CL_OUT_OF_RESOURCES, true);
    }
}
END_TEST

/* Without a cache, so that kernels are built and proven meanwhile. */
START_TEST(test_while_proving) {
    if (!have_opencl()) return;
    const qd_context_options o = {.cache_dir = "", .in_order = true};
    job j;
    prepare_job(&j);
    inject_clear();
    ck_ok(open_job(&j, &o));
    ck_ok(run_job(&j));
    long calls[CL_FUNCTIONS];
    for (int fn = 0; fn < CL_FUNCTIONS; fn++)
        calls[fn] = inject_calls((cl_function)fn);
    clean_job(&j);
    qd_context_free(j.c);
    int happened = 0;
    for (int fn = 0; fn < CL_FUNCTIONS; fn++) {
        const long at[] = {0, calls[fn] / 3, calls[fn] * 2 / 3, calls[fn] - 1};
        for (int i = 0; i < 4; i++) {
            if (at[i] < 0 || (i && at[i] == at[i - 1])) continue;
            const cl_int e = errors[(fn + i) % 4];
            happened += job_with_fault(&o, (cl_function)fn, at[i], e, false);
        }
        if (calls[fn]) happened += job_with_fault(&o, (cl_function)fn, 0, CL_DEVICE_NOT_AVAILABLE, true);
    }
    ck_assert_int_gt(happened, 50);
}
END_TEST

/* ---- Which status ------------------------------------------------------------------------------------------- */

/* Statuses by name, where the step that fails is known. */
START_TEST(test_statuses) {
    if (!have_opencl()) return;
    static const struct {
        cl_function fn;
        long n; /* after the kernels are proven */
        cl_int error;
        qd_status want;
        const char *says;
    } cases[] = {
        {FN_clCreateBuffer, 0, CL_MEM_OBJECT_ALLOCATION_FAILURE, QD_ERR_DEVICE_MEMORY, "allocating a buffer"},
        {FN_clCreateBuffer, 0, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE_MEMORY, "allocating a buffer"},
        {FN_clCreateBuffer, 0, CL_OUT_OF_HOST_MEMORY, QD_ERR_MEMORY, "allocating a buffer"},
        {FN_clEnqueueFillBuffer, 0, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE, "clearing a buffer"},
        {FN_clEnqueueWriteBuffer, 0, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE, "writing a buffer"},
        {FN_clEnqueueWriteBuffer, 0, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST, "writing a buffer"},
        {FN_clEnqueueReadBuffer, 0, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE, "reading a buffer"},
        {FN_clEnqueueMapBuffer, 0, CL_MEM_OBJECT_ALLOCATION_FAILURE, QD_ERR_DEVICE_MEMORY, "mapping a buffer"},
        {FN_clEnqueueNDRangeKernel, 0, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE, "starting a kernel"},
        {FN_clEnqueueNDRangeKernel, 1, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST, "free the context"},
        {FN_clCreateKernel, 0, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST, "creating a kernel"},
        {FN_clSetKernelArg, 5, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST, "arguments"},
        {FN_clSetKernelArg, 5, CL_OUT_OF_HOST_MEMORY, QD_ERR_MEMORY, "arguments"},
        {FN_clFinish, 0, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST, "waiting for the device"},
        {FN_clFlush, 0, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE, "submitting work"},
        {FN_clFlush, 0, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST, "submitting work"},
    };
    const qd_context_options o = {.cache_dir = cache};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        job j;
        prepare_job(&j);
        ck_ok(open_job(&j, &o));
        if (i == 0) ck_ok(run_job(&j)); /* proves them */
        clean_job(&j);
        qd_context_free(j.c);
        prepare_job(&j);
        ck_ok(open_job(&j, &o));
        inject_clear();
        inject_failure(cases[i].fn, cases[i].n, cases[i].error, false);
        ck_fails(run_job(&j), cases[i].want, cases[i].says);
        ck_assert(inject_happened());
        inject_clear();
        clean_job(&j);
        qd_context_free(j.c);
    }
}
END_TEST

/* A proven kernel that the driver has no resources for now: the reference computes instead, and only this time. */
START_TEST(test_refused_kernel) {
    if (!have_opencl()) return;
    static const cl_function fns[] = {FN_clCreateKernel, FN_clSetKernelArg};
    const qd_context_options plain = {.cache_dir = cache};
    for (int f = -1; f < 2; f++) {
        log_text log = {.used = 0};
        qd_context_options o = plain;
        o.log = collect_log;
        o.log_user = &log;
        job j;
        prepare_job(&j);
        ck_ok(open_job(&j, &o));
        inject_clear();
        if (f >= 0) inject_failure(fns[f], 0, CL_OUT_OF_RESOURCES, false);
        ck_ok(run_job(&j));
        ck_assert(f < 0 || inject_happened());
        inject_clear();
        ck_assert_mem_eq(j.got, j.want, sizeof j.want);
        ck_assert_str_eq(j.variants[0], f < 0 ? "get_rows_f16" : "reference");
        ck_assert_str_eq(j.variants[1], "add_f32");
        ck_assert_int_eq(strstr(log.text, "get_rows runs on the reference") != NULL, f >= 0);
        clean_job(&j);
        ck_ok(run_job(&j));
        ck_assert_str_eq(j.variants[0], "get_rows_f16");
        clean_job(&j);
        qd_context_free(j.c);
    }
}
END_TEST

/* A device that cannot be opened: the next one that the caller may mean, where there is one. */
START_TEST(test_next_device) {
    if (!have_opencl()) return;
    qd_device_info *devices;
    int count, usable = 0;
    ck_ok(qd_devices_list(&devices, &count));
    for (int i = 0; i < count; i++)
        usable += !strncmp(devices[i].id, "opencl", 6) && devices[i].usable;
    qd_devices_free(devices);
    static const char *const asked[] = {"opencl", NULL /* the best one's own name */};
    char best[96] = "";
    log_text log = {.used = 0};
    const qd_context_options o = {.log = collect_log, .log_user = &log};
    for (int i = 0; i < 2; i++) {
        qd_context *c = NULL;
        if (!best[0]) {
            ck_ok(qd_context_create("opencl", NULL, &c));
            snprintf(best, sizeof best, "%s", qd_context_device(c)->id);
            qd_context_free(c);
            c = NULL;
        }
        inject_clear();
        inject_failure(FN_clCreateContext, 0, CL_OUT_OF_RESOURCES, false);
        const qd_status status = qd_context_create(asked[i] ? asked[i] : best, &o, &c);
        ck_assert(inject_happened());
        if (asked[i] && usable > 1) {
            ck_assert_int_eq(status, QD_OK);
            ck_assert_str_ne(qd_context_device(c)->id, best);
            ck_assert_msg(strstr(log.text, "trying the next device") != NULL, "%s", log.text);
            qd_context_free(c);
        } else {
            ck_assert_int_eq(status, QD_ERR_DEVICE);
            ck_assert_msg(strstr(qd_last_message(), "opening the device") != NULL, "%s", qd_last_message());
            ck_assert_ptr_null(c);
        }
        inject_clear();
    }
}
END_TEST

START_TEST(test_opening) {
    if (!have_opencl()) return;
    static const struct {
        cl_function fn;
        cl_int error;
        qd_status want;
    } cases[] = {
        {FN_clGetPlatformIDs, CL_OUT_OF_HOST_MEMORY, QD_ERR_NO_DEVICE},
        {FN_clGetDeviceIDs, CL_DEVICE_NOT_FOUND, QD_ERR_NO_DEVICE},
        {FN_clCreateContext, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST},
        {FN_clCreateContext, CL_OUT_OF_HOST_MEMORY, QD_ERR_MEMORY},
        {FN_clCreateContext, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE},
        {FN_clCreateCommandQueue, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST},
        {FN_clCreateCommandQueue, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE},
        {FN_clCreateSubDevices, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const qd_context_options o = {.threads = cases[i].fn == FN_clCreateSubDevices};
        qd_context *c = NULL;
        inject_clear();
        inject_failure(cases[i].fn, 0, cases[i].error, true);
        ck_fails(qd_context_create("opencl", &o, &c), cases[i].want, "");
        ck_assert(inject_happened());
        ck_assert_ptr_null(c);
        /* Only where there is no device at all does the default become the reference. */
        unsetenv("QDOT_DEVICE");
        const qd_status by_default = qd_context_create(NULL, &o, &c);
        if (cases[i].want == QD_ERR_NO_DEVICE) {
            ck_assert_int_eq(by_default, QD_OK);
            ck_assert_str_eq(qd_context_device(c)->id, "ref");
            qd_context_free(c);
        } else {
            ck_assert_int_eq(by_default, cases[i].want);
        }
        inject_clear();
        ck_assert_int_eq(inject_alive(), 0);
    }
}
END_TEST

/* A list is made in spite of a platform that fails. */
START_TEST(test_listing) {
    qd_device_info *devices;
    int count;
    static const cl_function fns[] = {FN_clGetPlatformIDs, FN_clGetDeviceIDs};
    for (int i = 0; i < 2; i++) {
        inject_clear();
        inject_failure(fns[i], 0, CL_OUT_OF_HOST_MEMORY, true);
        ck_ok(qd_devices_list(&devices, &count));
        ck_assert_str_eq(devices[0].id, "ref");
        for (int k = 1; k < count; k++) /* other backends may be there */
            ck_assert_msg(strncmp(devices[k].id, "opencl", 6) != 0, "%s", devices[k].id);
        qd_devices_free(devices);
    }
}
END_TEST

/* ---- Runs that fail half-way -------------------------------------------------------------------------------- */

/* The number of rows of a failed run must not be that of the next one, also where an operator is several launches. */
START_TEST(test_rows_after_failure) {
    enum { ROWS = 8, K = 512, N = 96 };
    if (!have_opencl()) return;
    /* The first context proves the kernels, which one that cuts its memory into small parts could not. */
    for (int parts = 0; parts < 2; parts++) {
        const qd_context_options o = {.cache_dir = cache, .max_alloc = parts ? 65536 : 0, .out_of_order = true};
        qd_context *c;
        ck_ok(qd_context_create("opencl", &o, &c));
        const qd_tensor_desc dw = qd_desc(QD_FORMAT_F32, N, K, 0, 0), dx = qd_desc(QD_FORMAT_F32, ROWS, K, 0, 0),
                             dy = qd_desc(QD_FORMAT_F32, ROWS, N, 0, 0),
                             inside = qd_desc(QD_FORMAT_F32, QD_ROWS, N, 0, 0);
        static float x[ROWS * K], want[ROWS * N], none[ROWS * N];
        uint32_t rng = 3;
        random_floats(&rng, x, ROWS * K);
        void *w = random_data(&rng, &dw);
        qd_tensor *tx = tensor_with(c, dx, x), *tw, *y, *t;
        ck_ok(qd_tensor_constant(c, &dw, w, &tw));
        ck_ok(qd_tensor_create(c, &dy, &y));
        qd_graph *g;
        ck_ok(qd_graph_create(c, ROWS, &g));
        ck_ok(qd_graph_tensor(g, &inside, &t));
        ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){tw, tx}, 2, &t, 1));
        ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t, t}, 2, &y, 1));
        ck_ok(qd_graph_compile(g, NULL, NULL));
        inject_clear();
        ck_ok(qd_graph_run(g, ROWS));
        const long launches = inject_calls(FN_clEnqueueNDRangeKernel);
        ck_ok(qd_tensor_read(y, 0, want, sizeof want));
        ck_assert_int_ge(launches, parts ? 4 : 2);
        static const cl_function fns[] = {FN_clEnqueueNDRangeKernel, FN_clSetKernelArg, FN_clEnqueueBarrierWithWaitList,
                                          FN_clFlush};
        for (int f = 0; f < 4; f++) {
            for (long n = 0; n < launches; n++) {
                inject_clear();
                inject_failure(fns[f], n, CL_OUT_OF_RESOURCES, false);
                const qd_status status = qd_graph_run(g, 3);
                ck_assert_int_eq(status, (inject_happened() ? QD_ERR_DEVICE : QD_OK));
                inject_clear();
                ck_ok(qd_tensor_write(y, 0, none, sizeof none));
                ck_ok(qd_graph_run(g, ROWS));
                ck_tensor(y, want, cl_function_names[fns[f]]);
            }
        }
        qd_graph_free(g);
        qd_tensor *const all[] = {tx, tw, y};
        for (int i = 0; i < 3; i++)
            qd_tensor_free(all[i]);
        free(w);
        qd_context_free(c);
        ck_assert_int_eq(inject_alive(), 0);
    }
}
END_TEST

/* Memory that was freed is taken again without asking the device, and given back when the device has no more. */
START_TEST(test_pool) {
    if (!have_opencl()) return;
    qd_context *c;
    const qd_context_options o = {.cache_dir = cache};
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 1000, 0, 0, 0), other = qd_desc(QD_FORMAT_F32, 50000, 0, 0, 0);
    qd_tensor *t;
    ck_ok(qd_context_create("opencl", &o, &c));
    inject_clear();
    for (int i = 0; i < 10; i++) {
        ck_ok(qd_tensor_create(c, &d, &t));
        qd_tensor_free(t);
    }
    ck_assert_int_eq(inject_calls(FN_clCreateBuffer), 1);
    ck_assert_int_eq(inject_alive(), 3); /* context, queue, buffer */
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_ge(m.pooled, 4000);
    inject_failure(FN_clCreateBuffer, 0, CL_MEM_OBJECT_ALLOCATION_FAILURE, false);
    ck_ok(qd_tensor_create(c, &other, &t)); /* at the second attempt, when the pool was emptied */
    ck_assert(inject_happened());
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.pooled, 0);
    qd_tensor_free(t);
    inject_failure(FN_clCreateBuffer, 0, CL_MEM_OBJECT_ALLOCATION_FAILURE, true);
    ck_fails(qd_tensor_create(c, &d, &t), QD_ERR_DEVICE_MEMORY, "refused memory");
    inject_clear();
    ck_ok(qd_tensor_create(c, &d, &t));
    qd_tensor_free(t);
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

/* Profiles are made of events that a device may not time. */
START_TEST(test_profile_faults) {
    if (!have_opencl()) return;
    static const cl_function fns[] = {FN_clGetEventProfilingInfo, FN_clFinish, FN_clEnqueueNDRangeKernel};
    const qd_context_options o = {.cache_dir = cache, .profile = true};
    for (int f = 0; f < 3; f++) {
        job j;
        prepare_job(&j);
        ck_ok(open_job(&j, &o));
        ck_ok(run_job(&j));
        inject_clear();
        inject_failure(fns[f], 0, CL_PROFILING_INFO_NOT_AVAILABLE, true);
        for (int i = 0; i < 3; i++)
            qd_plan_run(j.add);
        qd_profile_row *rows;
        int count;
        const qd_status status = qd_context_profile(j.c, &rows, &count);
        if (status) {
            ck_assert_int_eq(status, QD_ERR_DEVICE);
        } else {
            for (int i = 0; i < count; i++) {
                ck_assert_double_ge(rows[i].seconds, 0);
                ck_assert_double_lt(rows[i].seconds, 60);
            }
            qd_profile_free(rows);
        }
        inject_clear();
        clean_job(&j);
        qd_context_free(j.c);
        ck_assert_int_eq(inject_alive(), 0);
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("opencl");
    tcase_add_checked_fixture(tc, make_cache, remove_cache);
    tcase_add_loop_test(tc, test_each_call, 0, 2);
    tcase_add_test(tc, test_each_function_for_good);
    tcase_add_test(tc, test_while_proving);
    tcase_add_test(tc, test_statuses);
    tcase_add_test(tc, test_refused_kernel);
    tcase_add_test(tc, test_opening);
    tcase_add_test(tc, test_next_device);
    tcase_add_test(tc, test_listing);
    tcase_add_test(tc, test_rows_after_failure);
    tcase_add_test(tc, test_pool);
    tcase_add_test(tc, test_profile_faults);
    return run_tests(tc, "opencl");
}
