/* Chains: a model's operators in one launch give the bytes that they give one by one, whatever the instruction set, the
 * threads and the number of tokens; a chain that is wrong in one place is refused, and any call of OpenCL may fail. */
#define _GNU_SOURCE
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "fault/cache_folder.h"
#include "unit/graph_bed.h"
#include "unit/model_image.h"

#define POCL "opencl:Portable Computing Language"

enum { TOKENS = 21, VOCAB = 64 };

static int32_t tokens[TOKENS];
static float want[TOKENS * VOCAB], got[TOKENS * VOCAB];
static int vocab;

/* Four layers, 45 operators with int8 activations: heads of 16 are quantized by an operator of their own. */
static model_parts make_parts(qd_format f) {
    model_spec s = model_small(f);
    s.layers = 4;
    ck_assert_int_le(s.vocab, VOCAB);
    vocab = s.vocab;
    model_tokens(7, s.vocab, tokens, TOKENS);
    return model_make(&s, 3);
}

/* All tokens: a few at once, then one by one, then all again from the start. */
static void eval_all(qd_model *m, float *logits) {
    enum { PROMPT = 5 };
    model_eval(m, tokens, PROMPT, logits);
    for (int i = PROMPT; i < TOKENS; i++)
        model_eval(m, tokens + i, 1, logits + (size_t)i * (size_t)vocab);
}

static void ck_logits(const char *what) {
    for (int i = 0; i < TOKENS * vocab; i++)
        ck_assert_msg(!memcmp(&got[i], &want[i], sizeof want[i]), "%s: logit %d of token %d is %a, not %a", what,
                      i % vocab, i / vocab, (double)got[i], (double)want[i]);
}

static void reference(const model_parts *p, qd_format activations) {
    const qd_model_options o = model_options(8, activations);
    qd_context *c = model_context("ref", NULL);
    model_bed b = model_open(p, c, &o);
    eval_all(b.model, want);
    model_close(&b);
    qd_context_free(c);
}

/* ---- Right ones --------------------------------------------------------------------------------------------- */

static const struct {
    const char *what;
    qd_format weights, activations;
    qd_context_options options;
    bool chained;
} ways[] = {
    {"q4_1 a8", QD_FORMAT_Q4_1, QD_FORMAT_A8, {.in_order = true}, true},
    {"q4_1 a8, AVX2", QD_FORMAT_Q4_1, QD_FORMAT_A8, {.kernels = "avx2"}, true},
    {"q8_0 f32, one thread", QD_FORMAT_Q8_0, QD_FORMAT_F32, {.threads = 1}, true},
    {"q4_1 a8, weights in parts", QD_FORMAT_Q4_1, QD_FORMAT_A8, {.max_alloc = 16384}, true},
    {"profile", QD_FORMAT_Q4_1, QD_FORMAT_A8, {.profile = true}, false},
    {"out of order", QD_FORMAT_Q4_1, QD_FORMAT_A8, {.out_of_order = true}, false},
    {"no fusion", QD_FORMAT_Q4_1, QD_FORMAT_A8, {.no_fuse = true}, false},
};

START_TEST(test_same_bytes) {
    if (!have_x86_pocl()) return;
    model_parts p = make_parts(ways[_i].weights);
    const qd_model_options o = model_options(8, ways[_i].activations);
    reference(&p, ways[_i].activations);
    qd_context *c = model_context(POCL, &ways[_i].options);
    model_bed b = model_open(&p, c, &o);
    const qd_graph_info *g = &qd_model_describe(b.model)->graph;
    ck_assert_int_eq(g->chained, ways[_i].chained ? g->ops : 0);
    for (int turn = 0; turn < 4; turn++) {
        ck_ok(qd_model_rewind(b.model, 0));
        eval_all(b.model, got);
        ck_logits(ways[_i].what);
    }
    model_close(&b);
    qd_context_free(c);
    model_parts_free(&p);
}
END_TEST

/* A chain's operators are launched as often as it is. */
START_TEST(test_one_launch) {
    if (!have_x86_pocl()) return;
    model_parts p = make_parts(QD_FORMAT_Q4_1);
    const qd_model_options o = model_options(8, QD_FORMAT_A8);
    qd_context *c = model_context(POCL, NULL);
    model_bed b = model_open(&p, c, &o);
    model_eval(b.model, tokens, 1, got);
    inject_clear();
    model_eval(b.model, tokens + 1, 1, got);
    ck_assert_int_eq(inject_calls(FN_clEnqueueNDRangeKernel), 1 + 3); /* and the head's three operators */
    ck_assert_int_eq(inject_calls(FN_clEnqueueWriteBuffer), 0); /* the token and its position are the chain's memory */
    model_close(&b);
    qd_context_free(c);
    model_parts_free(&p);
}
END_TEST

/* A context has four kinds of chains. Another graph goes operator by operator, one of a known kind does not. */
START_TEST(test_kinds) {
    static const qd_format kinds[][2] = {{QD_FORMAT_Q4_1, QD_FORMAT_A8},  {QD_FORMAT_Q4_0, QD_FORMAT_A8},
                                         {QD_FORMAT_Q8_0, QD_FORMAT_A8},  {QD_FORMAT_Q8_0, QD_FORMAT_F32},
                                         {QD_FORMAT_Q4_1, QD_FORMAT_F32}, {QD_FORMAT_Q4_1, QD_FORMAT_A8}};
    enum { KINDS = sizeof kinds / sizeof kinds[0], TOO_MANY = 4 };
    if (!have_x86_pocl()) return;
    qd_context *c = model_context(POCL, NULL);
    for (int i = 0; i < KINDS; i++) {
        model_parts p = make_parts(kinds[i][0]);
        const qd_model_options o = model_options(8, kinds[i][1]);
        reference(&p, kinds[i][1]);
        model_bed b = model_open(&p, c, &o);
        const qd_graph_info *g = &qd_model_describe(b.model)->graph;
        ck_assert_msg(g->chained == (i == TOO_MANY ? 0 : g->ops), "model %d: %d operators chained", i, g->chained);
        eval_all(b.model, got);
        ck_logits("a kind");
        model_close(&b);
        model_parts_free(&p);
    }
    qd_context_free(c);
}
END_TEST

/* Attention as runtimes have it, with caches that they see: rows stored by their numbers, then one operator with a
 * mask, and then softmax between two products. Six operators for each layer. */
enum { RT_LAYERS = 6, RT_HEADS = 4, RT_GROUPS = 2, RT_DIM = 32, RT_PLACES = 24 };

typedef struct runtime_graph {
    graph_bed bed;
    qd_tensor *q, *ids, *y;
} runtime_graph;

static qd_tensor *cache_window(graph_bed *b, qd_tensor *whole, bool by_column) {
    const int64_t row = RT_GROUPS * RT_DIM * 2,
                  steps[][QD_MAX_RANK] = {{0, RT_DIM * 2, row, 2}, {0, RT_DIM * 2, 2, row}};
    const qd_tensor_desc d = by_column ? qd_desc(QD_FORMAT_F16, 1, RT_GROUPS, RT_DIM, RT_PLACES)
                                       : qd_desc(QD_FORMAT_F16, 1, RT_GROUPS, RT_PLACES, RT_DIM);
    qd_tensor *w;
    ck_ok(qd_tensor_window(whole, 0, &d, steps[by_column], &w));
    return bed_keep(b, w);
}

static void make_runtime_graph(runtime_graph *r, qd_context *c) {
    graph_bed *b = &r->bed;
    const qd_tensor_desc heads = qd_desc(QD_FORMAT_F32, 1, RT_HEADS, 1, RT_DIM),
                         tokens_first = qd_desc(QD_FORMAT_F32, 1, 1, RT_HEADS, RT_DIM),
                         places = qd_desc(QD_FORMAT_F32, 1, RT_HEADS, 1, RT_PLACES),
                         row = qd_desc(QD_FORMAT_F32, 1, RT_GROUPS * RT_DIM, 0, 0),
                         stored = qd_desc(QD_FORMAT_F16, RT_PLACES, RT_GROUPS * RT_DIM, 0, 0);
    const qd_attrs masked = {.attention_masked = {.scale = 0.2f}}, soft = {.softmax = {.scale = 0.2f}};
    bed_open(b, c, 1, 5);
    r->q = bed_input(b, heads);
    r->ids = bed_input(b, qd_desc(QD_FORMAT_I32, 1, 0, 0, 0));
    qd_tensor *const k = bed_input(b, row), *const v = bed_input(b, row);
    qd_tensor *const mask = bed_input(b, qd_desc(QD_FORMAT_F16, 1, 1, 1, RT_PLACES));
    qd_tensor *x = r->q, *mixed;
    r->y = bed_output(b, heads);
    for (int i = 0; i < RT_LAYERS; i++) {
        qd_tensor *const keys = bed_input(b, stored), *const values = bed_input(b, stored);
        bed_add(b, QD_OP_SET_ROWS, NULL, (qd_tensor *[]){k, r->ids}, 2, keys);
        bed_add(b, QD_OP_SET_ROWS, NULL, (qd_tensor *[]){v, r->ids}, 2, values);
        qd_tensor *const K = cache_window(b, keys, false), *const V = cache_window(b, values, false),
                         *const turned = cache_window(b, values, true);
        mixed = bed_inside(b, tokens_first);
        bed_add(b, QD_OP_ATTENTION_MASKED, &masked, (qd_tensor *[]){x, K, V, mask}, 4, mixed);
        ck_ok(qd_graph_reshape(b->g, mixed, &heads, &x));
        qd_tensor *const scores = bed_inside(b, places), *const weights = bed_inside(b, places);
        bed_add(b, QD_OP_MATMUL_BATCH, NULL, (qd_tensor *[]){K, x}, 2, scores);
        bed_add(b, QD_OP_SOFTMAX, &soft, (qd_tensor *[]){scores, mask}, 2, weights);
        x = i == RT_LAYERS - 1 ? r->y : bed_inside(b, heads);
        bed_add(b, QD_OP_MATMUL_BATCH, NULL, (qd_tensor *[]){turned, weights}, 2, x);
    }
}

START_TEST(test_runtime_graph) {
    runtime_graph ours, expected;
    if (!have_x86_pocl()) return;
    qd_context *c = model_context(POCL, NULL), *ref = model_context("ref", NULL);
    make_runtime_graph(&ours, c);
    make_runtime_graph(&expected, ref);
    for (int turn = 0; turn < 3; turn++) {
        const float fill = 0.25f * (float)turn;
        const int32_t place = 7 * turn;
        float q[RT_HEADS * RT_DIM];
        for (int i = 0; i < RT_HEADS * RT_DIM; i++)
            q[i] = fill + 0.01f * (float)i;
        inject_clear();
        for (int who = 0; who < 2; who++) {
            runtime_graph *r = who ? &ours : &expected;
            ck_ok(qd_tensor_write(r->q, 0, q, sizeof q));
            ck_ok(qd_tensor_write(r->ids, 0, &place, sizeof place));
            if (!turn) {
                const qd_graph_info info = bed_run(&r->bed, 1);
                ck_assert_int_eq(info.chained, who ? info.ops : 0);
                ck_assert_int_eq(info.ops, 6 * RT_LAYERS);
            } else {
                ck_ok(qd_graph_run(r->bed.g, 1));
            }
        }
        bed_compare(&ours.bed, &expected.bed, "a runtime's graph");
        if (!turn) continue;
        /* What is written and read is memory of the chain: no command but its launch. */
        ck_assert_int_eq(inject_calls(FN_clEnqueueNDRangeKernel), 1);
        ck_assert_int_eq(inject_calls(FN_clFinish), 1);
        ck_assert_int_eq(inject_calls(FN_clEnqueueWriteBuffer) + inject_calls(FN_clEnqueueReadBuffer), 0);
    }
    bed_close(&ours.bed);
    bed_close(&expected.bed);
    qd_context_free(c);
    qd_context_free(ref);
}
END_TEST

/* ---- Threads ------------------------------------------------------------------------------------------------ */

enum { MOST_THREADS = 64 };

static int threads_here(pid_t ids[MOST_THREADS]) {
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < MOST_THREADS;) {
        if (e->d_name[0] != '.') ids[n++] = (pid_t)atoi(e->d_name);
    }
    closedir(d);
    return n;
}

/* Puts thread i on one of two processors, and then leaves it its choice of all. */
static void spread_threads(const cpu_set_t *allowed, size_t first, size_t second) {
    pid_t ids[MOST_THREADS];
    const int n = threads_here(ids);
    for (int i = 0; i < n; i++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(i % 2 ? second : first, &one);
        ck_assert_int_eq(sched_setaffinity(ids[i], sizeof one, &one), 0);
        ck_assert_int_eq(sched_setaffinity(ids[i], sizeof *allowed, allowed), 0);
    }
}

static void ck_free(const cpu_set_t *allowed) {
    pid_t ids[MOST_THREADS];
    const int n = threads_here(ids);
    for (int i = 0; i < n; i++) {
        cpu_set_t now;
        ck_assert_int_eq(sched_getaffinity(ids[i], sizeof now, &now), 0);
        ck_assert_msg(CPU_EQUAL(&now, allowed), "thread %d of %d: its processors have changed", i, n);
    }
}

/* Of threads that lie so, those of the device are often woken on one processor, and go apart: the bytes are the same,
 * and each may go wherever it could before. */
START_TEST(test_threads_apart) {
    enum { TURNS = 20 };
    cpu_set_t allowed;
    ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    if (!have_x86_pocl() || CPU_COUNT(&allowed) < 2) return;
    size_t first = 0;
    while (!CPU_ISSET(first, &allowed))
        first++;
    size_t second = first + 1;
    while (!CPU_ISSET(second, &allowed))
        second++;
    model_parts p = make_parts(QD_FORMAT_Q4_1);
    const qd_model_options o = model_options(8, QD_FORMAT_A8);
    reference(&p, QD_FORMAT_A8);
    qd_context *c = model_context(POCL, NULL);
    model_bed b = model_open(&p, c, &o);
    for (int turn = 0; turn < TURNS; turn++) {
        ck_ok(qd_model_rewind(b.model, 0));
        for (int i = 0; i < TOKENS; i++) {
            spread_threads(&allowed, turn % 2 ? second : first, turn % 2 ? first : second);
            model_eval(b.model, tokens + i, 1, got + (size_t)i * (size_t)vocab);
            ck_free(&allowed);
        }
        ck_logits("threads apart");
    }
    model_close(&b);
    qd_context_free(c);
    model_parts_free(&p);
}
END_TEST

/* ---- Wrong ones --------------------------------------------------------------------------------------------- */

static const struct {
    const char *what, *with, *from, *to;
} mistakes[] = {
    {"gate and up change places", "x86/step.h", "swiglu(QD_OPERAND(0), QD_OPERAND(3)",
     "swiglu(QD_OPERAND(3), QD_OPERAND(0)"},
    {"a number is taken for the bits of one", "x86/step.h", "as_float((uint)args[i])", "(float)args[i]"},
    {"all steps have the rows of the launch", "count_up", "words[3] ? (int)words[3] : rows", "rows"},
    {"the last share is left out", "count_up", "step_##i(args, step_rows, share, shares);",
     "if (share + 1 < shares || shares == 1) step_##i(args, step_rows, share, shares);"},
    {"all homes have the shares of the first", "count_up", "share = before + count_up", "share = count_up"},
    {"it does not compile", "count_up", "__kernel void chain(", "__kernel chain("},
};

START_TEST(test_mistakes) {
    log_text log = {.used = 0};
    if (!have_x86_pocl()) return;
    make_cache();
    const qd_context_options options = {.cache_dir = cache, .log = collect_log, .log_user = &log};
    model_parts p = make_parts(QD_FORMAT_Q4_1);
    const qd_model_options o = model_options(8, QD_FORMAT_A8);
    reference(&p, QD_FORMAT_A8);
    inject_clear();
    inject_source(mistakes[_i].with, mistakes[_i].from, mistakes[_i].to);
    for (int turn = 0; turn < 2; turn++) { /* the verdict is kept */
        qd_context *c = model_context(POCL, &options);
        model_bed b = model_open(&p, c, &o);
        ck_assert_msg(turn || inject_happened(), "%s: the text is not there any more", mistakes[_i].what);
        ck_assert_msg(strstr(log.text, "operators are not chained") != NULL, "%s: not refused", mistakes[_i].what);
        ck_assert_int_eq(qd_model_describe(b.model)->graph.chained, 0);
        eval_all(b.model, got);
        ck_logits(mistakes[_i].what);
        model_close(&b);
        qd_context_free(c);
        log = (log_text){.used = 0};
    }
    model_parts_free(&p);
    remove_cache();
}
END_TEST

/* ---- Failures ----------------------------------------------------------------------------------------------- */

/* One call fails while the model is made: a status, or a model that is right. Returns false when there was no such
 * call.
 */
static bool with_failure(const model_parts *p, const qd_context_options *options, cl_function fn, long n,
                         int *failures) {
    const qd_model_options o = model_options(8, QD_FORMAT_A8);
    qd_context *c = model_context(POCL, options);
    model_bed b;
    inject_clear();
    inject_failure(fn, n, CL_OUT_OF_RESOURCES, false);
    const qd_status status = model_try(p, c, &o, &b);
    const bool happened = inject_happened();
    inject_clear();
    *failures += status != QD_OK;
    if (!status) {
        eval_all(b.model, got);
        ck_logits("after a failure");
    }
    model_close(&b);
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), 0);
    return happened;
}

static bool take_none(void *user, int64_t position, const float *logits) {
    (void)user, (void)position, (void)logits;
    return true;
}

START_TEST(test_calls_fail) {
    if (!have_x86_pocl()) return;
    make_cache();
    const qd_context_options options = {.cache_dir = cache}, alone = {.cache_dir = cache, .profile = true};
    const qd_model_options o = model_options(8, QD_FORMAT_A8);
    model_parts p = make_parts(QD_FORMAT_Q4_1);
    int failures = 0;
    reference(&p, QD_FORMAT_A8);
    qd_context *c = model_context(POCL, &alone); /* proves all kernels, but no chain */
    model_bed b = model_open(&p, c, &o);
    model_close(&b);
    qd_context_free(c);
    ck_assert(with_failure(&p, &options, FN_clLinkProgram, 0, &failures));
    ck_assert_int_eq(failures, 0); /* then there is just no chain */
    for (long n = 0; with_failure(&p, &options, CL_FUNCTIONS, n, &failures); n += 1 + n / 6) {}
    ck_assert_int_gt(failures, 0);
    model_parts_free(&p);
    remove_cache();
}
END_TEST

/* Each write of an evaluation fails once: then it is as if it had not been asked for. Without a chain, whose memory is
 * written without a call that could fail. */
START_TEST(test_writes_fail) {
    enum { PROMPT = 5 };
    if (!have_x86_pocl()) return;
    model_parts p = make_parts(QD_FORMAT_Q4_1);
    const qd_model_options o = model_options(8, QD_FORMAT_A8);
    const qd_context_options alone = {.no_fuse = true};
    reference(&p, QD_FORMAT_A8);
    qd_context *c = model_context(POCL, &alone);
    model_bed b = model_open(&p, c, &o);
    eval_all(b.model, got);
    for (long n = 0; n < 3; n++) {
        ck_ok(qd_model_rewind(b.model, 0));
        ck_ok(qd_model_eval(b.model, tokens, PROMPT, false, take_none, NULL)); /* of another row than the next one's */
        inject_clear();
        inject_failure(FN_clEnqueueWriteBuffer, n, CL_OUT_OF_RESOURCES, false);
        ck_fails(qd_model_eval(b.model, tokens + PROMPT, 1, false, take_none, NULL), QD_ERR_DEVICE, "writing");
        ck_assert(inject_happened());
        inject_clear();
        for (int i = PROMPT; i < TOKENS; i++)
            model_eval(b.model, tokens + i, 1, got + (size_t)i * (size_t)vocab);
        ck_logits("after a failed write");
    }
    model_close(&b);
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), 0);
    model_parts_free(&p);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("chain");
    tcase_add_loop_test(tc, test_same_bytes, 0, sizeof ways / sizeof ways[0]);
    tcase_add_test(tc, test_one_launch);
    tcase_add_test(tc, test_kinds);
    tcase_add_test(tc, test_runtime_graph);
    tcase_add_test(tc, test_threads_apart);
    tcase_add_loop_test(tc, test_mistakes, 0, sizeof mistakes / sizeof mistakes[0]);
    tcase_add_test(tc, test_calls_fail);
    tcase_add_test(tc, test_writes_fail);
    return run_tests(tc, "chain");
}
