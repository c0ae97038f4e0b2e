/* Devices that are cards: transfers have a queue of their own, and pipelines a queue for each stage. Results have the
 * reference's bytes whatever is late, and whatever call fails.
 *
 * Any OpenCL device says here that it is an accelerator. QDOT_TEST_DEVICE chooses one: on Intel's FPGA emulator the
 * kernels are joined by channels, and the second round of each test takes them from a binary with two compute units and
 * banks.
 *
 *   fault_test_card [--quick]      --quick: what takes the emulator less than a minute */
#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/context.h"
#include "fault/cl_inject.h"
#include "opencl/cl_internal.h"
#include "qdot/qdot_fpga.h"
#include "unit/devices.h"

enum { ROUNDS = 2 }; /* compiled kernels, a binary */

static char folder[64], manifest[96];
static bool quick;

static const char *device(void) {
    const char *word = getenv("QDOT_TEST_DEVICE");
    return word ? word : "opencl:Portable"; /* others' binaries may have the emulator's head */
}

static bool on_emulator(void) {
    return strstr(device(), "FPGA Emulation") != NULL;
}

/* There is a binary on the emulator only. */
static bool round_is_possible(int round) {
    return round ? on_emulator() : have_opencl();
}

/* Where the emulator's time is short, a binary's kernels stand for all. */
static bool round_is_needed(int round) {
    return round_is_possible(round) && !(quick && round == 0 && on_emulator());
}

static void clear(void) {
    inject_clear();
    inject_card(true);
}

/* ---- Work --------------------------------------------------------------------------------------------------- */

/* y = w · table(x), two kernels for FPGAs with a tensor between them; twice, with memory of its own each. */
enum { R = 5, K = 70, N = 21, X_BYTES = R * K, Y_INTS = R * N, LANES = 2 };

typedef struct lane {
    qd_tensor *x, *y;
    qd_graph *g;
} lane;

typedef struct scene {
    qd_context *c;
    qd_tensor *w, *table;
    lane lanes[LANES];
} scene;

static int8_t weights[N * K], values[256];

static qd_status open_scene(scene *s, const char *name, int round) {
    const qd_context_options o = {.cache_dir = folder, .binary = round ? manifest : ""};
    memset(s, 0, sizeof *s);
    return qd_context_create(name, strcmp(name, "ref") ? &o : NULL, &s->c);
}

static qd_status fill_scene(scene *s) {
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_I8, N, K, 0, 0), dt = qd_desc(QD_FORMAT_I8, 256, 0, 0, 0),
                         dx = qd_desc(QD_FORMAT_I8, R, K, 0, 0), dy = qd_desc(QD_FORMAT_I32, R, N, 0, 0),
                         inside = qd_desc(QD_FORMAT_I8, QD_ROWS, K, 0, 0);
    qd_status status = QD_OK;
    QD_TRY(qd_tensor_constant(s->c, &dw, weights, &s->w));
    QD_TRY(qd_tensor_constant(s->c, &dt, values, &s->table));
    for (int i = 0; i < LANES; i++) {
        lane *l = &s->lanes[i];
        qd_tensor *t;
        QD_TRY(qd_tensor_create(s->c, &dx, &l->x));
        QD_TRY(qd_tensor_create(s->c, &dy, &l->y));
        QD_TRY(qd_graph_create(s->c, R, &l->g));
        QD_TRY(qd_graph_tensor(l->g, &inside, &t));
        QD_TRY(qd_graph_add(l->g, QD_OP_TABLE, NULL, (qd_tensor *[]){l->x, s->table}, 2, &t, 1));
        QD_TRY(qd_graph_add(l->g, QD_OP_MATMUL_INT, &(qd_attrs){.matmul_int = {.wide = false}},
                            (qd_tensor *[]){s->w, t}, 2, &l->y, 1));
        QD_TRY(qd_graph_compile(l->g, NULL, NULL));
    }
error:
    return status;
}

static void empty_scene(scene *s) {
    for (int i = 0; i < LANES; i++) {
        qd_graph_free(s->lanes[i].g);
        qd_tensor_free(s->lanes[i].x);
        qd_tensor_free(s->lanes[i].y);
        s->lanes[i] = (lane){NULL, NULL, NULL};
    }
    qd_tensor_free(s->w);
    qd_tensor_free(s->table);
    s->w = s->table = NULL;
}

static void close_scene(scene *s) {
    empty_scene(s);
    qd_context_free(s->c);
    s->c = NULL;
}

/* Input number n, and what comes of it. */
static void make_input(unsigned n, int8_t x[X_BYTES]) {
    uint32_t rng = n * 7919u + 1;
    for (int i = 0; i < X_BYTES; i++)
        x[i] = (int8_t)random_bits(&rng);
}

static void make_want(unsigned n, int32_t want[Y_INTS]) {
    int8_t x[X_BYTES];
    make_input(n, x);
    memset(want, 0, Y_INTS * sizeof *want);
    for (int i = 0; i < Y_INTS; i++) {
        for (int k = 0; k < K; k++)
            want[i] += weights[i % N * K + k] * values[x[i / N * K + k] + 128];
    }
}

static qd_status put(lane *l, unsigned n) {
    int8_t x[X_BYTES];
    make_input(n, x);
    const qd_status status = qd_tensor_write(l->x, 0, x, sizeof x);
    memset(x, 0x33, sizeof x); /* "src may be reused at once" */
    return status;
}

static void ck_result(lane *l, unsigned n, const char *what) {
    int32_t want[Y_INTS], got[Y_INTS];
    make_want(n, want);
    memset(got, 0x77, sizeof got);
    ck_ok(qd_tensor_read(l->y, 0, got, sizeof got));
    for (int i = 0; i < Y_INTS; i++)
        ck_assert_msg(got[i] == want[i], "%s: y[%d] is %d, not %d", what, i, (int)got[i], (int)want[i]);
}

/* An open scene on a card; its graphs run kernels for FPGAs. */
static void open_card(scene *s, int round) {
    qd_graph_info info;
    clear();
    ck_ok(open_scene(s, device(), round));
    const cl_device_state *d = s->c->device;
    ck_assert_str_eq(d->info.kind, "accelerator");
    ck_assert_ptr_nonnull(d->transfers);
    ck_ok(fill_scene(s));
    ck_ok(qd_graph_describe(s->lanes[0].g, &info));
    ck_assert_int_eq(info.fallbacks, 0);
    const bool channels = on_emulator();
    int proven = 0;
    for (int i = 0; i < cl_variant_count; i++) {
        const bool mine = !strcmp(cl_variants[i].name, channels ? "matmul_int_channels" : "matmul_int_single") ||
                          !strcmp(cl_variants[i].name, "table_single");
        ck_assert_int_eq(d->proofs[i].verdict == CL_PASSED, mine);
        proven += mine;
        if (mine && round && i && cl_variant_stages(d, &cl_variants[i]) > 1)
            ck_assert_int_eq(cl_variant_units(d, &cl_variants[i]), 2);
    }
    ck_assert_int_eq(proven, 2);
}

/* ---- Overlap ------------------------------------------------------------------------------------------------ */

/* Opens the gate after some time, if nobody else has. */
static atomic_bool opened;
static void *open_after(void *milliseconds) {
    usleep(1000u * (unsigned)(uintptr_t)milliseconds);
    opened = true;
    inject_open_gate();
    return NULL;
}

static pthread_t guard(unsigned milliseconds) {
    pthread_t t;
    opened = false;
    ck_assert_int_eq(pthread_create(&t, NULL, open_after, (void *)(uintptr_t)milliseconds), 0);
    return t;
}

/* While a kernel of one graph has not even started, the other's input is written and its output read. */
START_TEST(test_overlap) {
    scene s;
    if (!round_is_needed(_i)) return;
    open_card(&s, _i);
    lane *a = &s.lanes[0], *b = &s.lanes[1];
    for (unsigned n = 0; n < 6; n += 2) {
        ck_ok(put(a, n));
        ck_ok(put(b, n + 1));
        ck_ok(qd_graph_run(b->g, R));
        ck_ok(qd_context_finish(s.c));
        inject_gate((long)n % 4 / 2); /* the first launch, or the second */
        ck_ok(qd_graph_run(a->g, R));
        const pthread_t late = guard(20000);
        ck_result(b, n + 1, "the finished graph");
        ck_ok(put(b, n + 9));
        ck_assert_msg(!opened, "transfers waited for a kernel that does not use their buffers");
        ck_ok(qd_graph_run(b->g, R));
        ck_assert_msg(inject_open_gate(), "no kernel waited");
        ck_assert_int_eq(pthread_cancel(late), 0);
        pthread_join(late, NULL);
        ck_result(a, n, "the kernel that waited");
        ck_result(b, n + 9, "the graph after it");
    }
    close_scene(&s);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

/* A result is read only after its kernel, and an input is not written while a kernel reads it. */
START_TEST(test_order) {
    scene s;
    if (!round_is_needed(_i)) return;
    open_card(&s, _i);
    lane *a = &s.lanes[0];
    for (unsigned n = 0; n < 8; n++) {
        ck_ok(put(a, n));
        inject_gate(n % 4 / 2);
        ck_ok(qd_graph_run(a->g, R));
        const pthread_t late = guard(60);
        if (n % 2) {
            /* x belongs to the first launch. The arena has no transfers, so the second may be as late as it likes. */
            ck_ok(put(a, 100 + n));
            ck_assert_msg(opened || n % 4 / 2, "the input was written under a kernel that had not started");
        }
        ck_result(a, n, n % 2 ? "with the next input written" : "read at once");
        ck_assert_msg(opened, "the result was read before its kernel started");
        pthread_join(late, NULL);
    }
    close_scene(&s);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

/* Ping-pong, with kernels and calls that are late at random. */
START_TEST(test_delays) {
    const unsigned turns = quick ? 50 : 160;
    scene s;
    unsigned held[LANES] = {0, 0};
    if (!round_is_needed(_i)) return;
    open_card(&s, _i);
    inject_delays(3000);
    for (unsigned n = 1; n <= turns; n++) {
        lane *l = &s.lanes[n % LANES];
        char what[32];
        snprintf(what, sizeof what, "turn %u", n);
        ck_ok(put(l, n));
        ck_ok(qd_graph_run(l->g, R));
        held[n % LANES] = n;
        if (n % 7 == 0) ck_ok(put(l, n + 1000)); /* the next input, which another replaces */
        if (n % 13 == 0) ck_ok(qd_context_finish(s.c));
        const unsigned other = n % 5 == 0 ? n % LANES : (n + 1) % LANES;
        if (held[other]) ck_result(&s.lanes[other], held[other], what);
    }
    ck_ok(qd_context_finish(s.c));
    close_scene(&s);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

/* ---- Times -------------------------------------------------------------------------------------------------- */

enum { BIG_R = 96, BIG_K = 1024, BIG_N = 256 };

typedef struct interval {
    double from, to; /* microseconds */
    int line;        /* of the trace: a stage of a compute unit; 0: transfers */
} interval;

/* What a trace says of transfers, and of launches whose names begin with matmul_int. */
static int read_trace(const char *path, interval *out, int most) {
    static char text[1 << 18];
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    const size_t bytes = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[bytes] = 0;
    cJSON *json = cJSON_Parse(text);
    ck_assert_ptr_nonnull(json);
    const cJSON *e;
    int n = 0;
    cJSON_ArrayForEach(e, cJSON_GetObjectItem(json, "traceEvents")) {
        const double from = cJSON_GetObjectItem(e, "ts")->valuedouble;
        const bool transfer = !strcmp(cJSON_GetObjectItem(e, "cat")->valuestring, "transfer");
        if (!transfer && strncmp(cJSON_GetObjectItem(e, "name")->valuestring, "matmul_int", 10) != 0) continue;
        ck_assert_int_lt(n, most);
        out[n++] = (interval){from, from + cJSON_GetObjectItem(e, "dur")->valuedouble,
                              cJSON_GetObjectItem(e, "tid")->valueint};
    }
    cJSON_Delete(json);
    return n;
}

/* Ping-pong with products that take a while: by the device's own clock, transfers go on while kernels run; and each
 * stage of each compute unit has its times. */
START_TEST(test_times) {
    enum { TURNS = 8, MOST = 256 };
    static int8_t w[BIG_N * BIG_K], x[TURNS][BIG_R * BIG_K];
    static int32_t want[BIG_R * BIG_N], got[BIG_R * BIG_N];
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_I8, BIG_N, BIG_K, 0, 0), dx = qd_desc(QD_FORMAT_I8, BIG_R, BIG_K, 0, 0),
                         dy = qd_desc(QD_FORMAT_I32, BIG_R, BIG_N, 0, 0);
    const qd_context_options o = {.cache_dir = folder, .binary = _i ? manifest : "", .profile = true};
    qd_context *c;
    qd_tensor *tw, *tx[LANES], *ty[LANES];
    qd_plan *plans[LANES];
    interval times[MOST];
    char path[96];
    uint32_t rng = 77;
    if (!round_is_possible(_i)) return;
    clear();
    for (int i = 0; i < BIG_N * BIG_K; i++)
        w[i] = (int8_t)random_bits(&rng);
    for (int i = 0; i < TURNS * BIG_R * BIG_K; i++)
        x[i / (BIG_R * BIG_K)][i % (BIG_R * BIG_K)] = (int8_t)random_bits(&rng);
    ck_ok(qd_context_create(device(), &o, &c));
    ck_ok(qd_tensor_constant(c, &dw, w, &tw));
    for (int i = 0; i < LANES; i++) {
        ck_ok(qd_tensor_create(c, &dx, &tx[i]));
        ck_ok(qd_tensor_create(c, &dy, &ty[i]));
        ck_ok(qd_plan_create(c, QD_OP_MATMUL_INT, &(qd_attrs){.matmul_int = {.wide = false}},
                             (qd_tensor *[]){tw, tx[i]}, 2, &ty[i], 1, &plans[i]));
    }
    qd_context_profile_reset(c); /* the weights' transfer */
    for (int n = 0; n <= TURNS; n++) {
        if (n < TURNS) {
            ck_ok(qd_tensor_write(tx[n % LANES], 0, x[n], sizeof x[n]));
            ck_ok(qd_plan_run(plans[n % LANES]));
        }
        if (n == 0) continue;
        ck_ok(qd_tensor_read(ty[(n - 1) % LANES], 0, got, sizeof got));
        memset(want, 0, sizeof want);
        for (int i = 0; i < BIG_R * BIG_N; i++) {
            for (int k = 0; k < BIG_K; k++)
                want[i] += w[i % BIG_N * BIG_K + k] * x[n - 1][i / BIG_N * BIG_K + k];
        }
        ck_assert_msg(!memcmp(got, want, sizeof want), "turn %d: wrong values", n - 1);
    }
    snprintf(path, sizeof path, "%s/trace%d.json", folder, _i);
    ck_ok(qd_context_trace(c, path));
    const int n = read_trace(path, times, MOST), stages = on_emulator() ? CL_STAGES : 1, units = _i ? 2 : 1;
    int transfers = 0, overlapped = 0, launches[1 + CL_UNITS * CL_STAGES] = {0};
    double launch = 0;
    for (int i = 0; i < n; i++) {
        ck_assert_int_le(times[i].line, CL_UNITS * CL_STAGES);
        ck_assert_msg(times[i].to > times[i].from, "line %d: %g … %g us", times[i].line, times[i].from, times[i].to);
        if (times[i].line) {
            launches[times[i].line]++;
            launch += times[i].to - times[i].from;
            continue;
        }
        bool under_way = false; /* a kernel, at that time */
        for (int k = 0; k < n; k++)
            under_way = under_way || (times[k].line && times[k].from < times[i].to && times[i].from < times[k].to);
        transfers++;
        overlapped += under_way;
    }
    printf("round %d: %d of %d transfers while a kernel ran; stages take %.0f us\n", _i, overlapped, transfers,
           launch / (TURNS * stages * units));
    fflush(stdout);
    ck_assert_int_eq(transfers, 2 * TURNS);
    ck_assert_int_ge(overlapped, 2); /* the system may give the other cores to others */
    for (int unit = 0; unit < CL_UNITS; unit++) {
        for (int stage = 0; stage < CL_STAGES; stage++)
            ck_assert_int_eq(launches[1 + unit * CL_STAGES + stage], unit < units && stage < stages ? TURNS : 0);
    }
    for (int i = 0; i < LANES; i++) {
        qd_plan_free(plans[i]);
        qd_tensor_free(tx[i]);
        qd_tensor_free(ty[i]);
    }
    qd_tensor_free(tw);
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

/* ---- Banks -------------------------------------------------------------------------------------------------- */

/* The manifest's banks are asked for, and nothing else is, in Intel's way and in AMD's. */
START_TEST(test_banks) {
    static const char *const vendors[] = {"intel", "amd"};
    scene s;
    if (!have_opencl()) return;
    clear();
    ck_ok(open_scene(&s, device(), 0));
    cl_device_state *d = s.c->device;
    cl_binary binary = {.program = NULL};
    d->binary = &binary;
    for (int v = 0; v < 2; v++) {
        snprintf(binary.manifest.vendor, sizeof binary.manifest.vendor, "%s", vendors[v]);
        for (int bank = CL_ANY_BANK; bank < 4; bank++) {
            cl_int e;
            clear();
            const cl_mem m = cl_bank_buffer(d, bank, 4096, &e); /* no card: the driver may well refuse */
            ck_assert_int_eq(m != NULL, e == CL_SUCCESS);
            if (m) clReleaseMemObject(m);
            ck_assert_uint_eq(inject_banks(), bank == CL_ANY_BANK ? 0 : 1u << bank);
        }
    }
    d->binary = NULL;
    close_scene(&s);
    if (!on_emulator()) return;
    open_card(&s, 1);
    ck_assert_uint_eq(inject_banks(), 1u << 1 | 1u << 0 | 1u << 2); /* those of build_binary */
    for (const cl_weights *w = s.w->resident; w; w = w->next) {
        if (w->n_parts < 2) continue; /* an earlier variant's */
        for (int i = 0; i < w->n_parts; i++)
            ck_assert_int_eq(w->parts[i].buffer->bank, 1);
    }
    ck_assert_int_eq(((const cl_weights *)s.table->resident)->parts[0].buffer->bank, 2);
    ck_assert_int_eq(s.lanes[0].x->buffer->bank, 0);
    ck_assert_int_eq(s.lanes[0].y->buffer->bank, 0);
    close_scene(&s);
}
END_TEST

/* ---- Failures ----------------------------------------------------------------------------------------------- */

static qd_status use_scene(scene *s, unsigned n, int32_t got[LANES][Y_INTS]) {
    qd_status status = QD_OK;
    if (!s->w) QD_TRY(fill_scene(s));
    for (int i = 0; i < LANES; i++) {
        QD_TRY(put(&s->lanes[i], n + (unsigned)i));
        QD_TRY(qd_graph_run(s->lanes[i].g, R));
    }
    for (int i = 0; i < LANES; i++)
        QD_TRY(qd_tensor_read(s->lanes[i].y, 0, got[i], Y_INTS * sizeof **got));
error:
    return status;
}

static void ck_values(int32_t got[LANES][Y_INTS], unsigned n, const char *what) {
    static int32_t want[Y_INTS];
    for (int i = 0; i < LANES; i++) {
        make_want(n + (unsigned)i, want);
        ck_assert_msg(!memcmp(got[i], want, sizeof want), "%s: wrong values", what);
    }
}

static void ck_used(scene *s, unsigned n, const char *what) {
    static int32_t got[LANES][Y_INTS];
    memset(got, 0x77, sizeof got);
    const qd_status status = use_scene(s, n, got);
    ck_assert_msg(status == QD_OK, "%s: %s", what, qd_last_message());
    ck_values(got, n, what);
}

static void ck_closed(scene *s, const char *what) {
    if (s->c) close_scene(s);
    ck_assert_msg(inject_alive() == 0, "%s: %ld OpenCL objects are left", what, inject_alive());
}

/* One call that fails while a scene is used; one without a context is opened first. *result: what came of it; the scene
 * has been used again after it, if the device is still there, and is closed otherwise. False: there was no such call.
 */
static bool fault_in(scene *s, int round, cl_function fn, long n, cl_int e, bool forever, qd_status *result) {
    static int32_t got[LANES][Y_INTS];
    const bool opens = !s->c;
    char what[128];
    snprintf(what, sizeof what, "%s, call %ld, error %d", fn < CL_FUNCTIONS ? cl_function_names[fn] : "any function", n,
             (int)e);
    const long alive = inject_alive();
    inject_failure(fn, n, e, forever);
    qd_fail(QD_OK, "no message");
    qd_status status = opens ? open_scene(s, device(), round) : QD_OK;
    if (!status) status = use_scene(s, 50, got);
    *result = status;
    const bool happened = inject_happened();
    clear();
    if (status) {
        ck_assert_msg(happened, "%s: %s", what, qd_last_message());
        ck_assert_str_ne(qd_last_message(), "no message");
        ck_assert_ptr_null(strchr(qd_last_message(), '\n'));
    } else {
        ck_values(got, 50, what);
    }
    if (!s->c || status == QD_ERR_DEVICE_LOST) {
        ck_closed(s, what);
        return happened;
    }
    if (opens) empty_scene(s);
    for (unsigned again = 60; again < 63; again++) /* words that were left in a channel would come out now */
        ck_used(s, again, what);
    if (!opens) {
        ck_assert_msg(inject_alive() == alive, "%s: %ld OpenCL objects more", what, inject_alive() - alive);
        return happened;
    }
    ck_closed(s, what);
    return happened;
}

static const cl_int errors[] = {CL_OUT_OF_RESOURCES, CL_OUT_OF_HOST_MEMORY, CL_DEVICE_NOT_AVAILABLE};
enum { ERRORS = sizeof errors / sizeof errors[0] };

/* Each call of the work on one context, which goes on. */
START_TEST(test_each_call) {
    scene s = {.c = NULL};
    qd_status status;
    int failed = 0, lost = 0;
    if (!round_is_possible(_i)) return;
    for (int i = 0; i < ERRORS; i++) {
        long n = 0;
        for (bool happened = true; happened; n++) {
            /* Another context for each: of those the emulator makes one in a second. */
            if (errors[i] == CL_DEVICE_NOT_AVAILABLE && quick && n % 20 != 10) continue;
            if (!s.c) open_card(&s, _i);
            ck_used(&s, 40, "before");
            happened = fault_in(&s, _i, CL_FUNCTIONS, n, errors[i], false, &status);
            ck_assert_msg(errors[i] == CL_DEVICE_NOT_AVAILABLE || status != QD_ERR_DEVICE_LOST,
                          "call %ld: once is no reason to give up the device", n);
            failed += status != QD_OK;
            lost += status == QD_ERR_DEVICE_LOST;
        }
        ck_assert_int_gt(n, 16);
    }
    printf("round %d: %d failures of one call, %d of them for good\n", _i, failed, lost);
    fflush(stdout);
    ck_assert_int_gt(lost, 0);
    ck_closed(&s, "at last");
}
END_TEST

/* Launches and events that fail from one call on: what is in the queues neither runs with half of its stages nor keeps
 * the context from being closed. */
START_TEST(test_for_good) {
    static const cl_function fns[] = {FN_clEnqueueNDRangeKernel, FN_clEnqueueMarkerWithWaitList, FN_clWaitForEvents,
                                      FN_clFlush};
    scene s = {.c = NULL};
    qd_status status;
    if (!round_is_needed(_i)) return;
    for (size_t f = 0; f < sizeof fns / sizeof fns[0]; f++) {
        const long calls = fns[f] != FN_clEnqueueNDRangeKernel ? 1 : quick ? 3 : 7;
        for (long n = 0; n < calls; n++) {
            if (!s.c) open_card(&s, _i);
            ck_used(&s, 40, "before");
            const bool happened = fault_in(&s, _i, fns[f], n, CL_OUT_OF_RESOURCES, true, &status);
            ck_assert_msg(!happened || status, "%s from call %ld: no error", cl_function_names[fns[f]], n);
        }
    }
    ck_closed(&s, "at last");
}
END_TEST

/* Opening and making: each call of the functions that cards need. A context with a binary proves its kernels anew: of
 * the hundreds of calls fewer and fewer. */
START_TEST(test_each_function) {
    static const cl_function fns[] = {
        FN_clCreateCommandQueue,   FN_clCreateProgramWithBinary,   FN_clCreateBuffer,       FN_clCreateKernel,
        FN_clCreateUserEvent,      FN_clEnqueueMarkerWithWaitList, FN_clSetUserEventStatus, FN_clWaitForEvents,
        FN_clEnqueueNDRangeKernel, FN_clEnqueueWriteBuffer,        FN_clEnqueueReadBuffer,  FN_clEnqueueMapBuffer,
        FN_clEnqueueUnmapMemObject};
    scene s = {.c = NULL};
    qd_status status;
    if (!round_is_possible(_i) || (quick && on_emulator())) return;
    clear();
    fault_in(&s, _i, CL_FUNCTIONS, 1000000, CL_OUT_OF_RESOURCES, false, &status); /* proves and stores */
    for (size_t f = 0; f < sizeof fns / sizeof fns[0]; f++) {
        long n = 0;
        while (fault_in(&s, _i, fns[f], n, errors[(size_t)n % ERRORS], false, &status))
            n += _i ? 1 + n : 1;
        printf("round %d, %s: up to call %ld\n", _i, cl_function_names[fns[f]], n);
        const bool pipelines = fns[f] == FN_clCreateUserEvent || fns[f] == FN_clEnqueueMarkerWithWaitList ||
                               fns[f] == FN_clSetUserEventStatus;
        if (fns[f] != FN_clCreateProgramWithBinary && (!pipelines || on_emulator())) ck_assert_int_gt(n, 0);
    }
    fflush(stdout);
}
END_TEST

/* ---- Binaries ----------------------------------------------------------------------------------------------- */

static void bank(qd_fpga_kernel *k, const char *operand, int number) {
    qd_fpga_bank *b = &k->banks[k->n_banks++];
    ck_assert(qd_fpga_has_operand(k->variant, operand));
    snprintf(b->operand, sizeof b->operand, "%s", operand);
    b->bank = number;
}

static qd_status build_binary(void) {
    static qd_fpga_manifest m;
    static const char *const single[] = {"matmul_int_single", "table_single"}, *const channels[] = {
                                                                                   "matmul_int_channels",
                                                                                   "table_single"};
    scene s;
    qd_status status;
    ck_ok(qd_fpga_plan("intel", "emulator", on_emulator() ? channels : single, 2, &(qd_fpga_shape){2, 4, 8, false, 1},
                       &m));
    bank(&m.kernels[0], "w", 1);
    bank(&m.kernels[0], "x", 0);
    bank(&m.kernels[0], "y", 0);
    bank(&m.kernels[1], "table", 2);
    status = open_scene(&s, device(), 0);
    if (!status) status = qd_fpga_build(s.c, &m, manifest);
    qd_context_free(s.c);
    return status;
}

/* Each call of building a binary. Only the emulator's is taken for one in the end: PoCL's has another head. */
START_TEST(test_build) {
    if (!have_opencl()) return;
    static const cl_function fns[] = {FN_clCreateProgramWithSource, FN_clCompileProgram, FN_clLinkProgram,
                                      FN_clGetProgramInfo};
    for (int f = 0; f < 4; f++) {
        if (quick && fns[f] != FN_clLinkProgram) continue;
        long n = 0;
        for (bool happened = true; happened; n++) {
            clear();
            inject_failure(fns[f], n, CL_OUT_OF_RESOURCES, false);
            qd_fail(QD_OK, "no message");
            const qd_status status = build_binary();
            happened = inject_happened();
            clear();
            ck_assert_int_eq(inject_alive(), 0);
            ck_assert_msg(happened || status == (on_emulator() ? QD_OK : QD_ERR_FILE), "%s", qd_last_message());
            ck_assert_msg(!happened || status, "%s, call %ld: no error", cl_function_names[fns[f]], n);
            ck_assert(!status || strcmp(qd_last_message(), "no message"));
        }
        printf("%s: each of %ld calls failed once\n", cl_function_names[fns[f]], n - 1);
        ck_assert_int_gt(n, f == 2 ? 1 : 2);
    }
    fflush(stdout);
}
END_TEST

int main(int argc, char **argv) {
    char command[96];
    quick = argc > 1 && !strcmp(argv[1], "--quick");
    uint32_t rng = 5;
    for (int i = 0; i < N * K; i++)
        weights[i] = (int8_t)random_bits(&rng);
    for (int i = 0; i < 256; i++)
        values[i] = (int8_t)random_bits(&rng);
    snprintf(folder, sizeof folder, "%s", "/tmp/qdot-card-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    snprintf(manifest, sizeof manifest, "%s/qdot.json", folder);
    TCase *tc = tcase_create("card");
    tcase_add_test(tc, test_build); /* first: it leaves the binary of the second rounds */
    tcase_add_loop_test(tc, test_overlap, 0, ROUNDS);
    tcase_add_loop_test(tc, test_order, 0, ROUNDS);
    tcase_add_loop_test(tc, test_delays, 0, ROUNDS);
    tcase_add_loop_test(tc, test_times, 0, ROUNDS);
    tcase_add_test(tc, test_banks);
    tcase_add_loop_test(tc, test_each_call, 0, ROUNDS);
    tcase_add_loop_test(tc, test_for_good, 0, ROUNDS);
    tcase_add_loop_test(tc, test_each_function, 0, ROUNDS);
    const int failed = run_tests(tc, "card");
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) || failed;
}
