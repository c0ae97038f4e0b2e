/* A host without memory: each allocation of each call fails once, and every one after it. The call reports it, leaves
 * results alone, loses nothing, and works afterwards. */
#include <sys/stat.h>

#include "fault/cache_folder.h"

/* What the calls below work on. */
typedef struct scene {
    int device;
    const char *cache_dir;
    qd_context *c;
    qd_tensor *x, *gains, *y;
    float data[96 * 64], got[8 * 64];
    uint64_t used; /* device memory before the call */
} scene;

enum { R = 3, C = 64 };

static qd_status open_scene(scene *s, bool profile) {
    const qd_context_options o = {.cache_dir = s->cache_dir, .out_of_order = s->device == 2, .profile = profile};
    return qd_context_create(s->device ? "opencl" : "ref", &o, &s->c);
}

/* Tensors to work on, before anything fails. */
static void furnish(scene *s, bool profile) {
    const qd_tensor_desc dx = qd_desc(QD_FORMAT_F32, R, C, 0, 0), dg = qd_desc(QD_FORMAT_F32, C, 0, 0, 0);
    uint32_t rng = 5;
    qd_memory_info m;
    random_floats(&rng, s->data, 96 * C);
    ck_ok(open_scene(s, profile));
    s->x = tensor_with(s->c, dx, s->data);
    ck_ok(qd_tensor_create(s->c, &dx, &s->y));
    s->gains = tensor_with(s->c, dg, s->data);
    ck_ok(qd_context_memory(s->c, &m));
    s->used = m.used;
}

static void leave(scene *s) {
    qd_tensor_free(s->x);
    qd_tensor_free(s->gains);
    qd_tensor_free(s->y);
    qd_context_free(s->c);
    ck_assert_int_eq(inject_alive(), 0);
}

/* Nothing was read into s->got, which was full of 0x77. */
static void ck_untouched(const scene *s) {
    const unsigned char *p = (const unsigned char *)s->got;
    size_t n = 0;
    while (n < sizeof s->got && p[n] == 0x77)
        n++;
    ck_assert_uint_eq(n, sizeof s->got);
}

/* ---- Calls -------------------------------------------------------------------------------------------------- */

static qd_status list_devices(scene *s) {
    (void)s;
    qd_device_info *devices = NULL;
    int count = -1;
    const qd_status status = qd_devices_list(&devices, &count);
    if (status) ck_assert(!devices && count == -1);
    qd_devices_free(devices);
    return status;
}

static qd_status create_context(scene *s) {
    qd_context *c = NULL;
    const qd_context_options o = {.cache_dir = s->cache_dir};
    const qd_status status = qd_context_create(s->device ? "opencl" : "ref", &o, &c);
    if (status) ck_assert_ptr_null(c);
    qd_context_free(c);
    return status;
}

static qd_status create_tensors(scene *s) {
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 5, C, 0, 0), dw = qd_desc(QD_FORMAT_F32, 7, C, 0, 0);
    qd_tensor *t = NULL, *view = NULL, *a = NULL, *b = NULL, *stack = NULL;
    qd_status status = QD_OK;
    QD_TRY(qd_tensor_create(s->c, &d, &t));
    QD_TRY(qd_tensor_view(t, 1, 5, &view));
    QD_TRY(qd_tensor_constant(s->c, &dw, s->data, &a));
    QD_TRY(qd_tensor_constant(s->c, &dw, s->data, &b));
    QD_TRY(qd_tensor_stack(s->c, (qd_tensor *[]){a, b}, 2, &stack));
error:
    qd_tensor_free(view);
    qd_tensor_free(t);
    qd_tensor_free(a);
    qd_tensor_free(b);
    qd_tensor_free(stack);
    return status;
}

static qd_status transfer(scene *s) {
    qd_status status = QD_OK;
    memset(s->got, 0x77, sizeof s->got);
    /* Many: the list of what is under way grows. */
    for (int i = 0; i < 40; i++)
        QD_TRY(qd_tensor_write(s->x, 0, s->data, R * C * sizeof(float)));
    QD_TRY(qd_context_finish(s->c));
    QD_TRY(qd_tensor_read(s->x, 0, s->got, R * C * sizeof(float)));
    ck_assert_mem_eq(s->got, s->data, R * C * sizeof(float));
error:
    if (status) ck_untouched(s);
    return status;
}

/* A matmul with a stack whose seams no layout likes, so that its parts are copied together; an addition. */
static qd_status use_plans(scene *s) {
    const qd_tensor_desc da = qd_desc(QD_FORMAT_F32, 17, C, 0, 0), db = qd_desc(QD_FORMAT_F32, 15, C, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, R, 32, 0, 0);
    qd_tensor *a = NULL, *b = NULL, *stack = NULL, *y = NULL;
    qd_plan *plan[2] = {NULL, NULL};
    qd_status status = QD_OK;
    memset(s->got, 0x77, sizeof s->got);
    QD_TRY(qd_tensor_constant(s->c, &da, s->data, &a));
    QD_TRY(qd_tensor_constant(s->c, &db, s->data + 17 * C, &b));
    QD_TRY(qd_tensor_stack(s->c, (qd_tensor *[]){a, b}, 2, &stack));
    QD_TRY(qd_tensor_create(s->c, &dy, &y));
    QD_TRY(qd_plan_create(s->c, QD_OP_MATMUL, NULL, (qd_tensor *[]){stack, s->x}, 2, &y, 1, &plan[0]));
    QD_TRY(qd_plan_create(s->c, QD_OP_ADD, NULL, (qd_tensor *[]){s->x, s->x}, 2, &s->y, 1, &plan[1]));
    QD_TRY(qd_plan_run(plan[0]));
    QD_TRY(qd_plan_run(plan[1]));
    QD_TRY(qd_tensor_read(s->y, 0, s->got, R * C * sizeof(float)));
    for (int i = 0; i < R * C; i++)
        ck_assert_msg(s->got[i] == 2 * s->data[i], "wrong sum at %d", i);
error:
    if (status) ck_untouched(s);
    for (int i = 0; i < 2; i++)
        qd_plan_free(plan[i]);
    qd_tensor *const all[] = {a, b, stack, y};
    for (int i = 0; i < 4; i++)
        qd_tensor_free(all[i]);
    return status;
}

/* Creates a plan, and nothing else: result and memory are as before when it fails. */
static qd_status create_plan(scene *s) {
    qd_plan *const unset = (qd_plan *)s;
    qd_plan *p = unset;
    const qd_attrs norm = {.rms_norm = {.epsilon = 1e-5f}};
    const qd_status status =
        qd_plan_create(s->c, QD_OP_RMS_NORM, &norm, (qd_tensor *[]){s->x, s->gains}, 2, &s->y, 1, &p);
    if (status) ck_assert_ptr_eq(p, unset);
    if (!status) qd_plan_free(p);
    return status;
}

static qd_status use_graph(scene *s) {
    const qd_tensor_desc inside = qd_desc(QD_FORMAT_F32, QD_ROWS, C, 0, 0);
    qd_graph *g = NULL;
    qd_tensor *t[3], *v;
    qd_status status = QD_OK;
    memset(s->got, 0x77, sizeof s->got);
    QD_TRY(qd_graph_create(s->c, R, &g));
    for (int i = 0; i < 3; i++)
        QD_TRY(qd_graph_tensor(g, &inside, &t[i]));
    QD_TRY(qd_graph_view(g, t[1], 0, C, &v));
    /* More operators than the first growth of the list holds. */
    for (int i = 0; i < 20; i++) {
        QD_TRY(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){s->x, s->x}, 2, &t[0], 1));
        QD_TRY(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t[0], s->x}, 2, &v, 1));
    }
    QD_TRY(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t[1], t[0]}, 2, &s->y, 1));
    QD_TRY(qd_graph_compile(g, NULL, NULL));
    QD_TRY(qd_graph_run(g, R));
    QD_TRY(qd_tensor_read(s->y, 0, s->got, R * C * sizeof(float)));
    for (int i = 0; i < R * C; i++)
        ck_assert_msg(s->got[i] == 5 * s->data[i], "wrong value at %d", i);
error:
    if (status) ck_untouched(s);
    qd_graph_free(g);
    return status;
}

/* A graph of which a half is fused; the pass has to put a stack of constants together to see what it means. */
static qd_status fuse_graph(scene *s) {
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_F32, C, C, 0, 0), codes = qd_desc(QD_FORMAT_I8, R, C, 0, 0),
                         dr = qd_desc(QD_FORMAT_I32, 1, 2, 0, 0), floats = qd_desc(QD_FORMAT_F32, R, C, 0, 0);
    const qd_attrs clip = {.requantize = {.y = {QD_ROUND_FLOAT, 0, -9, 9}}}, linear = {.quantize_linear = {.axis = 0}};
    const float one = 1;
    int32_t row[2];
    qd_graph *g = NULL;
    qd_graph_info info;
    qd_tensor *w = NULL, *part = NULL, *stack = NULL, *scale = NULL, *y = NULL, *product, *q;
    qd_status status = QD_OK;
    memset(s->got, 0x77, sizeof s->got);
    QD_TRY(qd_requantize_table(QD_ROUND_FLOAT, 1, &one, 1, 1, row));
    QD_TRY(qd_tensor_constant(s->c, &dw, s->data, &w));
    QD_TRY(qd_tensor_constant(s->c, &dr, row, &part));
    QD_TRY(qd_tensor_stack(s->c, &part, 1, &stack));
    QD_TRY(qd_tensor_constant(s->c, &(qd_tensor_desc){QD_FORMAT_F32, 1, {1}}, &one, &scale));
    QD_TRY(qd_tensor_create(s->c, &codes, &y));
    QD_TRY(qd_graph_create(s->c, R, &g));
    QD_TRY(qd_graph_tensor(g, &floats, &product));
    QD_TRY(qd_graph_tensor(g, &codes, &q));
    QD_TRY(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){w, s->x}, 2, &product, 1));
    QD_TRY(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){product, s->x}, 2, &s->y, 1));
    QD_TRY(qd_graph_add(g, QD_OP_QUANTIZE_LINEAR, &linear, (qd_tensor *[]){s->x, scale}, 2, &q, 1));
    QD_TRY(qd_graph_add(g, QD_OP_REQUANTIZE, &clip, (qd_tensor *[]){q, stack}, 2, &y, 1));
    QD_TRY(qd_graph_compile(g, NULL, NULL));
    QD_TRY(qd_graph_describe(g, &info));
    ck_assert_int_eq(info.fused, 2);
    QD_TRY(qd_graph_run(g, R));
    QD_TRY(qd_tensor_read(s->y, 0, s->got, R * C * sizeof(float)));
error:
    if (status) ck_untouched(s);
    qd_graph_free(g);
    qd_tensor_free(w);
    qd_tensor_free(part);
    qd_tensor_free(stack);
    qd_tensor_free(scale);
    qd_tensor_free(y);
    return status;
}

/* Two convolutions whose channels stand before the image; the first one's result is seen from outside. */
static qd_status turn_graph(scene *s) {
    const qd_tensor_desc image = qd_desc(QD_FORMAT_I8, 1, 2, 4, 4), dw = qd_desc(QD_FORMAT_I8, 2, 2, 1, 1),
                         sums = qd_desc(QD_FORMAT_I32, 1, 2, 4, 4);
    const qd_attrs a = {.conv_int = {.window = {.nchw = true}, .y = {.rounding = QD_ROUND_FLOAT}}};
    const int32_t ones[] = {0x3f800000, 0};
    qd_graph *g = NULL;
    qd_tensor *w = NULL, *requant = NULL, *x = NULL, *y = NULL, *y2 = NULL, *mid;
    qd_status status = QD_OK;
    memset(s->got, 0x77, sizeof s->got);
    QD_TRY(qd_tensor_constant(s->c, &dw, s->data, &w));
    QD_TRY(qd_tensor_constant(s->c, &(qd_tensor_desc){QD_FORMAT_I32, 2, {1, 2}}, ones, &requant));
    QD_TRY(qd_tensor_create(s->c, &image, &x));
    QD_TRY(qd_tensor_create(s->c, &sums, &y));
    QD_TRY(qd_tensor_create(s->c, &image, &y2));
    QD_TRY(qd_graph_create(s->c, R, &g));
    QD_TRY(qd_graph_tensor(g, &image, &mid));
    QD_TRY(qd_graph_add(g, QD_OP_CONV_INT, &a, (qd_tensor *[]){w, x, NULL, NULL, NULL, requant}, 6, &mid, 1));
    QD_TRY(qd_graph_add(g, QD_OP_COPY, NULL, &mid, 1, &y2, 1));
    QD_TRY(qd_graph_add(g, QD_OP_CONV_INT, &a, (qd_tensor *[]){w, mid}, 2, &y, 1));
    QD_TRY(qd_graph_compile(g, NULL, NULL));
    QD_TRY(qd_graph_run(g, R));
    QD_TRY(qd_tensor_read(y, 0, s->got, qd_desc_bytes(&sums)));
error:
    if (status) ck_untouched(s);
    qd_graph_free(g);
    qd_tensor_free(w);
    qd_tensor_free(requant);
    qd_tensor_free(x);
    qd_tensor_free(y);
    qd_tensor_free(y2);
    return status;
}

static qd_status report(scene *s) {
    qd_profile_row *rows = NULL;
    int count = -1;
    char path[96];
    snprintf(path, sizeof path, "%s/trace.json", cache);
    qd_status status = QD_OK;
    QD_TRY(qd_context_profile(s->c, &rows, &count));
    if (s->device) QD_TRY(qd_context_trace(s->c, path));
error:
    if (status) ck_assert(!rows && count <= 0);
    qd_profile_free(rows);
    return status;
}

static bool third_row(void *user, const qd_verify_row *r) {
    ck_assert_int_eq(r->different, 0);
    return ++*(int *)user < 3;
}

static qd_status verify(scene *s) {
    int rows = 0, different = -1;
    const qd_status status = qd_verify(s->c, 7, 1, third_row, &rows, &different);
    ck_assert_int_eq(different, -1);
    return status == QD_ERR_CANCELLED ? QD_OK : status;
}

/* ---- Each allocation ---------------------------------------------------------------------------------------- */

/* Calls until it succeeds with one more allocation each time. `fresh`: on a new context each time, where kernels are
 * loaded or built anew. */
static void fail_each(int device, const char *cache_dir, qd_status (*call)(scene *), bool fresh, int step, int least,
                      const char *name) {
    scene s = {.device = device, .cache_dir = cache_dir};
    if (device && !have_opencl()) return;
    const bool needs_context = call != list_devices && call != create_context;
    long n = 0;
    for (qd_status status = QD_ERR_MEMORY; status; n += step) {
        if (needs_context && !s.c) {
            furnish(&s, call == report);
        }
        qd_fail(QD_OK, "no message");
        qd_alloc_fail_after(n);
        status = call(&s);
        qd_alloc_fail_after(-1);
        ck_assert_msg(status == QD_OK || status == QD_ERR_MEMORY, "%s, allocation %ld: %s: %s", name, n,
                      qd_status_name(status), qd_last_message());
        if (status) ck_assert_msg(strstr(qd_last_message(), "memory") != NULL, "%s: %s", name, qd_last_message());
        if (needs_context) {
            qd_memory_info m;
            ck_ok(qd_context_memory(s.c, &m));
            ck_assert_msg(m.used == s.used, "%s, allocation %ld: %llu bytes of the device are lost", name, n,
                          (unsigned long long)(m.used - s.used));
            const qd_status after = call(&s);
            ck_assert_msg(after == QD_OK, "%s after allocation %ld failed: %s", name, n, qd_last_message());
        }
        if (fresh && needs_context) {
            leave(&s);
            s = (scene){.device = device, .cache_dir = cache_dir};
        }
        ck_assert_int_lt(n, 5000);
    }
    ck_assert_msg(n > least, "%s: only %ld allocations", name, n);
    if (s.c) leave(&s);
}

#define FAIL_EACH(call, fresh, step, least) fail_each(_i, cache, call, fresh, step, least, #call)

START_TEST(test_devices) {
    FAIL_EACH(list_devices, false, 1, 1);
    FAIL_EACH(create_context, false, 1, 1);
}
END_TEST

START_TEST(test_tensors) {
    FAIL_EACH(create_tensors, false, 1, 6);
    FAIL_EACH(transfer, false, 1, _i ? 40 : 0);
}
END_TEST

/* The first write of a context makes its list of what is under way. */
START_TEST(test_first_write) {
    if (_i && !have_opencl()) return;
    for (long n = 0; n < 4; n++) {
        scene s = {.device = _i, .cache_dir = cache};
        const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, R, C, 0, 0);
        uint32_t rng = 5;
        random_floats(&rng, s.data, R * C);
        ck_ok(open_scene(&s, false));
        ck_ok(qd_tensor_create(s.c, &d, &s.x));
        qd_alloc_fail_after(n);
        const qd_status status = qd_tensor_write(s.x, 0, s.data, R * C * sizeof(float));
        qd_alloc_fail_after(-1);
        ck_assert_int_eq(status, (_i && n < 2 ? QD_ERR_MEMORY : QD_OK));
        ck_ok(qd_tensor_write(s.x, 0, s.data, R * C * sizeof(float)));
        ck_tensor(s.x, s.data, "written at last");
        leave(&s);
    }
}
END_TEST

START_TEST(test_plans) {
    FAIL_EACH(use_plans, true, 1, 10);
    FAIL_EACH(create_plan, true, 1, 1);
}
END_TEST

/* The same with kernels that must be built and proven meanwhile. */
START_TEST(test_proving) {
    if (_i) fail_each(_i, "", create_plan, true, 7, 50, "proving");
}
END_TEST

/* An operator that falls back to the reference copies its operands: without memory its result stays as it was. */
START_TEST(test_fallback) {
    enum { N = 4 };
    scene s = {.device = _i, .cache_dir = cache};
    if (_i && !have_opencl()) return;
    furnish(&s, false);
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_F32, N, C + 1, 0, 0), dy = qd_desc(QD_FORMAT_F32, R, N, 0, 0);
    float before[R * N], want[R * N];
    for (int i = 0; i < R * N; i++)
        before[i] = -1.5f;
    qd_tensor *w = tensor_with(s.c, dw, s.data), *inside, *y = tensor_with(s.c, dy, before);
    ck_ok(qd_tensor_view(w, 1, C, &inside));
    qd_plan *p;
    ck_ok(qd_plan_create(s.c, QD_OP_MATMUL, NULL, (qd_tensor *[]){inside, s.x}, 2, &y, 1, &p));
    ck_assert_str_eq(qd_plan_variant(p), "reference");
    ck_ok(qd_plan_run(p));
    ck_ok(qd_tensor_read(y, 0, want, sizeof want));
    long n = 0;
    for (qd_status status = QD_ERR_MEMORY; status; n++) {
        ck_ok(qd_tensor_write(y, 0, before, sizeof before));
        qd_alloc_fail_after(n);
        status = qd_plan_run(p);
        qd_alloc_fail_after(-1);
        ck_assert(status == QD_OK || status == QD_ERR_MEMORY);
        ck_tensor(y, status ? before : want, status ? "a run without memory" : "a run");
    }
    ck_assert_int_gt(n, 2);
    qd_plan_free(p);
    qd_tensor_free(inside);
    qd_tensor_free(w);
    qd_tensor_free(y);
    leave(&s);
}
END_TEST

START_TEST(test_graphs) {
    FAIL_EACH(use_graph, false, 1, _i == 2 ? 20 : 8); /* dependencies only where the queue needs them */
}
END_TEST

START_TEST(test_fusion) {
    FAIL_EACH(fuse_graph, false, 1, 12);
    FAIL_EACH(turn_graph, false, 1, 12);
}
END_TEST

START_TEST(test_reports) {
    FAIL_EACH(report, false, 1, _i ? 0 : -1);
}
END_TEST

/* A run is not worth failing for its profile, which then has gaps. */
START_TEST(test_profiled_run) {
    scene s = {.device = _i, .cache_dir = cache};
    if (_i && !have_opencl()) return;
    furnish(&s, true);
    qd_plan *p;
    qd_profile_row *rows;
    qd_kernel_info *kernels;
    int count;
    ck_ok(qd_plan_create(s.c, QD_OP_ADD, NULL, (qd_tensor *[]){s.x, s.x}, 2, &s.y, 1, &p));
    qd_alloc_fail_after(0);
    for (int i = 0; i < 5; i++)
        ck_ok(qd_plan_run(p));
    if (_i) ck_fails(qd_context_profile(s.c, &rows, &count), QD_ERR_MEMORY, "memory");
    if (_i) ck_fails(qd_context_kernels(s.c, &kernels, &count), QD_ERR_MEMORY, "memory");
    qd_alloc_fail_after(-1);
    ck_ok(qd_plan_run(p));
    ck_ok(qd_context_profile(s.c, &rows, &count));
    ck_assert_int_eq(count, (_i ? 1 : 0));
    if (_i) ck_assert_uint_eq(rows[0].calls, 1);
    qd_profile_free(rows);
    qd_plan_free(p);
    leave(&s);
}
END_TEST

START_TEST(test_verify) {
    FAIL_EACH(verify, false, 1, 10);
}
END_TEST

/* On several devices everything from opening them on: a product of a stack, shared out by rows or on one of them, and
 * what becomes of it on the other one. */
static qd_status use_several(const char *device, float *got) {
    enum { N = 160 };
    static float data[N * C];
    const qd_tensor_desc dx = qd_desc(QD_FORMAT_F32, R, C, 0, 0), dw = qd_desc(QD_FORMAT_F32, N / 2, C, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, R, N, 0, 0);
    const qd_context_options o = {.cache_dir = cache};
    qd_context *c = NULL;
    qd_tensor *x = NULL, *y = NULL, *z = NULL, *a = NULL, *b = NULL, *stack = NULL;
    qd_plan *plans[2] = {NULL, NULL};
    qd_memory_info m;
    uint32_t rng = 8;
    qd_status status = QD_OK;
    random_floats(&rng, data, N * C);
    QD_TRY(qd_context_create(device, &o, &c));
    QD_TRY(qd_tensor_create(c, &dx, &x));
    QD_TRY(qd_tensor_create(c, &dy, &y));
    QD_TRY(qd_tensor_create(c, &dy, &z));
    QD_TRY(qd_tensor_write(x, 0, data, R * C * sizeof *data));
    QD_TRY(qd_tensor_constant(c, &dw, data, &a));
    QD_TRY(qd_tensor_constant(c, &dw, data + N / 2 * C, &b));
    QD_TRY(qd_tensor_stack(c, (qd_tensor *[]){a, b}, 2, &stack));
    QD_TRY(qd_plan_create(c, QD_OP_MATMUL, NULL, (qd_tensor *[]){stack, x}, 2, &y, 1, &plans[0]));
    QD_TRY(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){y, y}, 2, &z, 1, &plans[1]));
    QD_TRY(qd_plan_run(plans[0]));
    QD_TRY(qd_plan_run(plans[1]));
    QD_TRY(qd_tensor_read(z, 0, got, R * N * sizeof *got));
error:
    for (int i = 0; i < 2; i++)
        qd_plan_free(plans[i]);
    qd_tensor *const all[] = {stack, a, b, x, y, z};
    for (int i = 0; i < 6; i++)
        qd_tensor_free(all[i]);
    if (c) ck_ok(qd_context_memory(c, &m));
    if (c) ck_assert_uint_eq(m.used, 0);
    qd_context_free(c);
    return status;
}

START_TEST(test_several) {
    static const char *const devices[] = {"layers:ref,ref", "rows:ref,ref", "layers:opencl,ref", "rows:ref,opencl"};
    static float want[R * 160], got[R * 160];
    if (_i > 1 && !have_opencl()) return;
    ck_ok(use_several("ref", want));
    ck_ok(use_several(devices[_i], got)); /* kernels are proven */
    long n = 0;
    for (qd_status status = QD_ERR_MEMORY; status; n++) {
        memset(got, 0, sizeof got);
        qd_alloc_fail_after(n);
        status = use_several(devices[_i], got);
        qd_alloc_fail_after(-1);
        ck_assert_msg(status == QD_OK || status == QD_ERR_MEMORY, "%s: allocation %ld: %s", devices[_i], n,
                      qd_last_message());
    }
    ck_assert_msg(n > 25, "%s: only %ld allocations", devices[_i], n);
    ck_assert_mem_eq(got, want, sizeof got);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("memory");
    tcase_add_checked_fixture(tc, make_cache, remove_cache);
    tcase_add_loop_test(tc, test_devices, 0, 2);
    tcase_add_loop_test(tc, test_tensors, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_first_write, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_plans, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_proving, 0, 2);
    tcase_add_loop_test(tc, test_fallback, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_graphs, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_fusion, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_reports, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_profiled_run, 0, 2);
    tcase_add_loop_test(tc, test_verify, 0, 2);
    tcase_add_loop_test(tc, test_several, 0, 4);
    return run_tests(tc, "memory");
}
