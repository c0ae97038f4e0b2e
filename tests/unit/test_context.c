/* Contexts: choosing a device, what a context tells about itself, its memory budget, the profile, and independence. */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/devices.h"

static char folder[64];

static void make_folder(void) {
    snprintf(folder, sizeof folder, "%s", "/tmp/qdot-context-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

/* y = a + b of 4 × 8 on a context; for tests that need some work done. */
typedef struct sum {
    qd_tensor *a, *b, *y;
    qd_plan *plan;
    float want[32];
} sum;

static void make_sum(qd_context *c, sum *s) {
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 4, 8, 0, 0);
    float a[32], b[32];
    uint32_t rng = 12;
    random_floats(&rng, a, 32);
    random_floats(&rng, b, 32);
    for (int i = 0; i < 32; i++)
        s->want[i] = a[i] + b[i];
    s->a = tensor_with(c, d, a);
    s->b = tensor_with(c, d, b);
    ck_ok(qd_tensor_create(c, &d, &s->y));
    ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){s->a, s->b}, 2, &s->y, 1, &s->plan));
}

static void free_sum(sum *s) {
    qd_plan_free(s->plan);
    qd_tensor_free(s->a);
    qd_tensor_free(s->b);
    qd_tensor_free(s->y);
}

/* ---- Choosing ----------------------------------------------------------------------------------------------- */

START_TEST(test_list) {
    qd_device_info *devices;
    int count;
    ck_ok(qd_devices_list(&devices, &count));
    ck_assert_int_ge(count, 1);
    ck_assert_str_eq(devices[0].id, "ref");
    ck_assert_str_eq(devices[0].kind, "reference");
    for (int i = 0; i < count; i++) {
        ck_assert_str_ne(devices[i].name, "");
        if (!devices[i].usable) {
            ck_assert_str_ne(devices[i].why, "");
            continue;
        }
        /* The id selects exactly this device. */
        qd_context *c;
        ck_ok(qd_context_create(devices[i].id, NULL, &c));
        const qd_device_info *info = qd_context_device(c);
        ck_assert_str_eq(info->id, devices[i].id);
        ck_assert_str_eq(info->name, devices[i].name);
        ck_assert_str_eq(info->features, devices[i].features);
        ck_assert_uint_eq(info->memory_bytes, devices[i].memory_bytes);
        ck_assert_uint_gt(info->compute_units, 0);
        qd_context_free(c);
    }
    qd_devices_free(devices);
    qd_devices_free(NULL);
    ck_fails(qd_devices_list(NULL, &count), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_devices_list(&devices, NULL), QD_ERR_ARGUMENT, "NULL");
}
END_TEST

START_TEST(test_unknown_devices) {
    static const char *const bad[] = {
        "gpu", "REF", "ref:0", "reference", "openclx", "opencl:no such name", "opencl:Portable:99", "opencl:99", ":"};
    qd_context *const unset = (qd_context *)folder;
    qd_context *c = unset;
    const bool cl = have_opencl();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (!cl && !strncmp(bad[i], "opencl:", 7)) continue;
        ck_fails(qd_context_create(bad[i], NULL, &c), QD_ERR_NO_DEVICE, bad[i]);
    }
    ck_assert_ptr_eq(c, unset);
    ck_fails(qd_context_create("ref", NULL, NULL), QD_ERR_ARGUMENT, "out");
    qd_context_free(NULL);
}
END_TEST

START_TEST(test_default_device) {
    qd_context *c;
    ck_assert_int_eq(setenv("QDOT_DEVICE", "ref", 1), 0);
    ck_ok(qd_context_create(NULL, NULL, &c));
    ck_assert_str_eq(qd_context_device(c)->id, "ref");
    qd_context_free(c);
    /* What was asked for and is not there is no reason to fall back. */
    ck_assert_int_eq(setenv("QDOT_DEVICE", "opencl:no such name", 1), 0);
    ck_fails(qd_context_create(NULL, NULL, &c), QD_ERR_NO_DEVICE, "");
    const char *const unset[] = {"", NULL};
    for (int i = 0; i < 2 && have_opencl(); i++) {
        if (unset[i]) {
            ck_assert_int_eq(setenv("QDOT_DEVICE", unset[i], 1), 0);
        } else {
            ck_assert_int_eq(unsetenv("QDOT_DEVICE"), 0);
        }
        ck_ok(qd_context_create(NULL, NULL, &c));
        ck_assert_int_eq(strncmp(qd_context_device(c)->id, "opencl:", 7), 0);
        qd_context_free(c);
    }
}
END_TEST

START_TEST(test_selection) {
    if (!have_opencl()) return;
    qd_context *c;
    ck_ok(qd_context_create("opencl", NULL, &c));
    const qd_device_info best = *qd_context_device(c);
    qd_context_free(c);
    char word[200], upper[128];
    for (size_t i = 0; i <= strlen(best.platform); i++)
        upper[i] =
            (char)(best.platform[i] >= 'a' && best.platform[i] <= 'z' ? best.platform[i] - 32 : best.platform[i]);
    const char *const forms[] = {best.kind, best.platform, upper, best.name};
    for (int i = 0; i < 4; i++) {
        snprintf(word, sizeof word, "opencl:%s", forms[i]);
        ck_ok(qd_context_create(word, NULL, &c));
        ck_assert_str_eq(qd_context_device(c)->kind, best.kind);
        qd_context_free(c);
        snprintf(word, sizeof word, "opencl:%s:0", forms[i]);
        ck_ok(qd_context_create(word, NULL, &c));
        qd_context_free(c);
    }
}
END_TEST

/* ---- Reports ------------------------------------------------------------------------------------------------ */

START_TEST(test_null) {
    qd_memory_info memory;
    qd_kernel_info *kernels;
    qd_profile_row *rows;
    int count;
    qd_context *c;
    ck_ok(qd_context_create("ref", NULL, &c));
    ck_fails(qd_context_finish(NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_context_memory(NULL, &memory), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_context_memory(c, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_context_kernels(NULL, &kernels, &count), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_context_kernels(c, NULL, &count), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_context_kernels(c, &kernels, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_context_profile(NULL, &rows, &count), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_context_trace(c, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_context_trace(NULL, "x"), QD_ERR_ARGUMENT, "NULL");
    qd_context_profile_reset(NULL);
    qd_kernels_free(NULL);
    qd_profile_free(NULL);
    ck_ok(qd_context_kernels(c, &kernels, &count));
    ck_assert_int_eq(count, 0);
    qd_kernels_free(kernels);
    qd_context_free(c);
}
END_TEST

/* A budget that is too small is a status; what was freed can be had again. */
START_TEST(test_budget) {
    qd_context_options o = {.memory_budget = 1 << 20};
    qd_context *c = open_device(_i, &o);
    if (!c) return;
    const qd_tensor_desc quarter = qd_desc(QD_FORMAT_F32, 1 << 16, 0, 0, 0), tiny = qd_desc(QD_FORMAT_F32, 1, 0, 0, 0),
                         all = qd_desc(QD_FORMAT_F32, 1 << 18, 0, 0, 0),
                         more = qd_desc(QD_FORMAT_F32, (1 << 18) + 1, 0, 0, 0);
    qd_tensor *t[4], *one, *const unset = (qd_tensor *)folder;
    qd_memory_info m;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            ck_ok(qd_tensor_create(c, &quarter, &t[i]));
        ck_ok(qd_context_memory(c, &m));
        ck_assert_uint_eq(m.used, 1 << 20);
        ck_assert_uint_eq(m.budget, 1 << 20);
        one = unset;
        ck_fails(qd_tensor_create(c, &tiny, &one), QD_ERR_DEVICE_MEMORY, "budget");
        ck_assert_ptr_eq(one, unset);
        float x = 0.5f; /* the context goes on */
        ck_ok(qd_tensor_write(t[3], 0, &x, sizeof x));
        for (int i = 0; i < 4; i++)
            qd_tensor_free(t[i]);
        ck_ok(qd_context_memory(c, &m));
        ck_assert_uint_eq(m.used, 0);
        ck_assert_uint_eq(m.peak, 1 << 20); /* the second round took from the pool */
        /* Another size: the pool makes room. */
        ck_ok(qd_tensor_create(c, &all, &one));
        qd_tensor_free(one);
        ck_fails(qd_tensor_create(c, &more, &one), QD_ERR_DEVICE_MEMORY, "budget");
        ck_ok(qd_context_memory(c, &m));
        ck_assert_uint_le(m.used + m.pooled, m.budget);
        ck_assert_uint_le(m.peak, m.budget);
    }
    qd_context_free(c);
}
END_TEST

START_TEST(test_largest_allocation) {
    qd_context_options o = {.max_alloc = 4096};
    qd_context *c = open_device(_i + 1, &o);
    if (!c) return;
    const qd_tensor_desc fits = qd_desc(QD_FORMAT_F32, 1024, 0, 0, 0), large = qd_desc(QD_FORMAT_F32, 1025, 0, 0, 0);
    qd_tensor *t;
    ck_fails(qd_tensor_create(c, &large, &t), QD_ERR_DEVICE_MEMORY, "one piece");
    ck_ok(qd_tensor_create(c, &fits, &t));
    qd_tensor_free(t);
    qd_context_free(c);
}
END_TEST

/* A constant that no kernel can take in pieces: the reference computes the operator. */
START_TEST(test_constant_in_one_piece) {
    log_text log = {.used = 0};
    qd_context_options o = {.max_alloc = 1 << 20, .log = collect_log, .log_user = &log};
    qd_context *c = open_device(_i + 1, &o);
    if (!c) return;
    enum { N = 3000, K = 512 };
    static int8_t w[N * K];
    int8_t x[K];
    int32_t want[N];
    for (int i = 0; i < N * K; i++)
        w[i] = (int8_t)(i % 251 - 125);
    for (int k = 0; k < K; k++)
        x[k] = (int8_t)(k % 200 - 90);
    for (int i = 0; i < N; i++) {
        want[i] = 0;
        for (int k = 0; k < K; k++)
            want[i] += w[i * K + k] * x[k];
    }
    /* A convolution of 1 × 1 over one pixel. */
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_I8, N, 1, 1, K), dy = qd_desc(QD_FORMAT_I32, 1, 1, 1, N);
    qd_tensor *tw, *tx = tensor_with(c, qd_desc(QD_FORMAT_I8, 1, 1, 1, K), x), *y;
    qd_plan *p;
    ck_ok(qd_tensor_constant(c, &dw, w, &tw));
    ck_ok(qd_tensor_create(c, &dy, &y));
    const qd_attrs attrs = {0};
    ck_ok(qd_plan_create(c, QD_OP_CONV_INT, &attrs, (qd_tensor *[]){tw, tx}, 2, &y, 1, &p));
    ck_assert_str_eq(qd_plan_variant(p), "reference");
    ck_assert_ptr_nonnull(strstr(log.text, "in one piece"));
    ck_ok(qd_plan_run(p));
    ck_tensor(y, want, "by the reference");
    qd_plan_free(p);
    qd_tensor_free(tw);
    qd_tensor_free(tx);
    qd_tensor_free(y);
    qd_context_free(c);
}
END_TEST

START_TEST(test_threads) {
    if (!have_opencl()) return;
    qd_context *c;
    ck_ok(qd_context_create("opencl", NULL, &c));
    const qd_device_info all = *qd_context_device(c);
    qd_context_free(c);
    if (strcmp(all.kind, "cpu")) return;
    for (int threads = 0; threads <= 3; threads++) {
        qd_context_options o = {.threads = threads};
        ck_ok(qd_context_create("opencl", &o, &c));
        const unsigned want = threads && (unsigned)threads < all.compute_units ? (unsigned)threads : all.compute_units;
        ck_assert_uint_eq(qd_context_device(c)->compute_units, want);
        sum s;
        make_sum(c, &s);
        ck_ok(qd_plan_run(s.plan));
        ck_tensor(s.y, s.want, "with chosen threads");
        free_sum(&s);
        qd_context_free(c);
    }
}
END_TEST

/* ---- Profile ------------------------------------------------------------------------------------------------ */

/* The whole text of a file, to be freed; NULL when there is none. */
static char *file_text(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    char *text = calloc(1, 1 << 20);
    ck_assert_ptr_nonnull(text);
    const size_t n = fread(text, 1, (1 << 20) - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static int trace_events(const char *path) {
    char *text = file_text(path);
    ck_assert_ptr_nonnull(text);
    cJSON *json = cJSON_Parse(text);
    ck_assert_ptr_nonnull(json);
    const cJSON *events = cJSON_GetObjectItem(json, "traceEvents"), *e;
    const int n = cJSON_GetArraySize(events);
    double last = -1;
    cJSON_ArrayForEach(e, events) {
        ck_assert_str_eq(cJSON_GetObjectItem(e, "cat")->valuestring, "add");
        ck_assert_str_eq(cJSON_GetObjectItem(e, "ph")->valuestring, "X");
        ck_assert_double_ge(cJSON_GetObjectItem(e, "dur")->valuedouble, 0);
        ck_assert_double_ge(cJSON_GetObjectItem(e, "ts")->valuedouble, 0);
        ck_assert_double_ge(cJSON_GetObjectItem(e, "ts")->valuedouble, last); /* they wait for each other */
        last = cJSON_GetObjectItem(e, "ts")->valuedouble;
    }
    cJSON_Delete(json);
    free(text);
    return n;
}

START_TEST(test_profile) {
    enum { RUNS = 5000 };                                      /* more than are kept before their times are read */
    qd_context_options o = {.profile = true, .cache_dir = ""}; /* so that canaries run, too */
    qd_context *c = open_device(_i + 1, &o);
    if (!c) return;
    char path[128];
    snprintf(path, sizeof path, "%s/trace.json", folder);
    qd_profile_row *rows;
    int count;
    ck_ok(qd_context_profile(c, &rows, &count)); /* before any work */
    ck_assert_int_eq(count, 0);
    qd_profile_free(rows);
    ck_ok(qd_context_trace(c, path));
    ck_assert_int_eq(trace_events(path), 0);
    sum s;
    make_sum(c, &s);
    for (int round = 0; round < 2; round++) {
        const int runs = round ? 3 : RUNS;
        for (int i = 0; i < runs; i++)
            ck_assert_int_eq(qd_plan_run(s.plan), QD_OK);
        ck_ok(qd_context_profile(c, &rows, &count));
        ck_assert_int_eq(count, 1); /* canaries do not count */
        ck_assert_str_eq(rows[0].kernel, qd_plan_variant(s.plan));
        ck_assert_uint_eq(rows[0].calls, (unsigned)runs);
        ck_assert_double_gt(rows[0].seconds, 0);
        ck_assert_double_lt(rows[0].seconds, 60);
        ck_assert_double_eq(rows[0].bytes, 3.0 * 32 * 4 * runs);
        qd_profile_free(rows);
        ck_ok(qd_context_trace(c, path));
        if (round) ck_assert_int_eq(trace_events(path), runs);
        qd_context_profile_reset(c);
        ck_ok(qd_context_profile(c, &rows, &count));
        ck_assert_int_eq(count, 0);
        qd_profile_free(rows);
    }
    ck_tensor(s.y, s.want, "profiled");
    free_sum(&s);
    qd_context_free(c);
}
END_TEST

START_TEST(test_no_profile) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    qd_profile_row *rows;
    int count;
    char path[128];
    snprintf(path, sizeof path, "%s/none.json", folder);
    ck_fails(qd_context_profile(c, &rows, &count), QD_ERR_ARGUMENT, "options.profile");
    ck_fails(qd_context_trace(c, path), QD_ERR_ARGUMENT, "options.profile");
    ck_assert_int_ne(access(path, F_OK), 0);
    qd_context_free(c);
    /* The reference takes the option, and has nothing to tell. */
    qd_context_options o = {.profile = true};
    ck_ok(qd_context_create("ref", &o, &c));
    ck_ok(qd_context_profile(c, &rows, &count));
    ck_assert_int_eq(count, 0);
    qd_context_profile_reset(c);
    ck_fails(qd_context_trace(c, path), QD_ERR_UNSUPPORTED, "trace");
    qd_context_free(c);
}
END_TEST

/* A trace that cannot be written is a status, and leaves no half of itself. */
START_TEST(test_bad_trace) {
    qd_context_options o = {.profile = true};
    qd_context *c = open_device(1, &o);
    if (!c) return;
    char path[128];
    snprintf(path, sizeof path, "%s/no/such/folder.json", folder);
    ck_fails(qd_context_trace(c, path), QD_ERR_IO, path);
    ck_fails(qd_context_trace(c, folder), QD_ERR_IO, folder);
    sum s;
    make_sum(c, &s);
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(qd_plan_run(s.plan), QD_OK);
    ck_ok(qd_context_finish(c));
    snprintf(path, sizeof path, "%s/full.json", folder);
    const struct rlimit little = {4096, RLIM_INFINITY}, much = {RLIM_INFINITY, RLIM_INFINITY};
    ck_assert_ptr_ne(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
    const qd_status full = qd_context_trace(c, path);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &much), 0);
    ck_assert_int_eq(full, QD_ERR_IO);
    ck_assert_ptr_nonnull(strstr(qd_last_message(), path));
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_ok(qd_context_trace(c, path));
    ck_assert_int_eq(trace_events(path), 200);
    free_sum(&s);
    qd_context_free(c);
}
END_TEST

/* ---- Independence ------------------------------------------------------------------------------------------- */

/* Two contexts on one thread do not see each other. */
START_TEST(test_two_contexts) {
    qd_context *c = open_device(_i, NULL), *d = open_device(_i, NULL);
    if (!c) return;
    sum s, t;
    make_sum(c, &s);
    make_sum(d, &t);
    ck_ok(qd_plan_run(s.plan));
    free_sum(&t);
    qd_context_free(d);
    ck_ok(qd_plan_run(s.plan));
    ck_tensor(s.y, s.want, "beside a context that went");
    free_sum(&s);
    qd_context_free(c);
}
END_TEST

typedef struct worker {
    int device;
    int wrong;
    char message[256];
} worker;

/* No Check macros here: they belong to the main thread. */
static void *work(void *arg) {
    enum { R = 4, C = 64 };
    worker *w = arg;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, R, C, 0, 0);
    float x[R * C], y[R * C];
    for (int i = 0; i < R * C; i++)
        x[i] = (float)(i * (w->device + 1));
    for (int round = 0; round < 8 && !w->wrong; round++) {
        qd_context_options o = {.cache_dir = round % 2 ? "" : NULL};
        qd_context *c = NULL;
        qd_tensor *t = NULL, *u = NULL;
        qd_plan *p = NULL;
        w->wrong = qd_context_create(w->device ? "opencl" : "ref", &o, &c) || qd_tensor_create(c, &d, &t) ||
                   qd_tensor_create(c, &d, &u) || qd_tensor_write(t, 0, x, sizeof x) ||
                   qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){t, t}, 2, &u, 1, &p);
        for (int run = 0; run < 20 && !w->wrong; run++)
            w->wrong = qd_plan_run(p) || qd_tensor_read(u, 0, y, sizeof y);
        for (int i = 0; i < R * C && !w->wrong; i++)
            w->wrong = y[i] != 2 * x[i];
        /* The message is this thread's own. */
        qd_context *none;
        w->wrong = w->wrong ||
                   qd_context_create(w->device ? "no such device 1" : "no such device 0", NULL, &none) == QD_OK ||
                   !strstr(qd_last_message(), w->device ? "device 1" : "device 0");
        if (w->wrong) snprintf(w->message, sizeof w->message, "%.250s", qd_last_message());
        qd_plan_free(p);
        qd_tensor_free(t);
        qd_tensor_free(u);
        qd_context_free(c);
    }
    return NULL;
}

static void *fail_there(void *arg) {
    qd_context *none;
    return qd_context_create(arg, NULL, &none) && strstr(qd_last_message(), arg) ? arg : NULL;
}

START_TEST(test_message_of_a_thread) {
    static char theirs[] = "device of another thread";
    qd_context *none;
    pthread_t id;
    void *result;
    ck_fails(qd_context_create("device of ours", NULL, &none), QD_ERR_NO_DEVICE, "ours");
    ck_assert_int_eq(pthread_create(&id, NULL, fail_there, theirs), 0);
    ck_assert_int_eq(pthread_join(id, &result), 0);
    ck_assert_ptr_eq(result, theirs);
    ck_assert_ptr_nonnull(strstr(qd_last_message(), "device of ours"));
}
END_TEST

START_TEST(test_threads_with_contexts) {
    enum { THREADS = 4 };
    const bool cl = have_opencl();
    worker w[THREADS];
    pthread_t id[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){.device = cl && i > 0};
        ck_assert_int_eq(pthread_create(&id[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(id[i], NULL), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_msg(!w[i].wrong, "thread %d: %s", i, w[i].message);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("context");
    tcase_add_checked_fixture(tc, make_folder, remove_folder);
    tcase_add_test(tc, test_list);
    tcase_add_test(tc, test_unknown_devices);
    tcase_add_test(tc, test_default_device);
    tcase_add_test(tc, test_selection);
    tcase_add_test(tc, test_null);
    tcase_add_loop_test(tc, test_budget, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_largest_allocation, 0, TEST_DEVICES - 1);
    tcase_add_loop_test(tc, test_constant_in_one_piece, 0, TEST_DEVICES - 1);
    tcase_add_test(tc, test_threads);
    tcase_add_loop_test(tc, test_profile, 0, TEST_DEVICES - 1);
    tcase_add_loop_test(tc, test_no_profile, 0, TEST_DEVICES);
    tcase_add_test(tc, test_bad_trace);
    tcase_add_loop_test(tc, test_two_contexts, 0, TEST_DEVICES);
    tcase_add_test(tc, test_message_of_a_thread);
    tcase_add_test(tc, test_threads_with_contexts);
    return run_tests(tc, "context");
}
