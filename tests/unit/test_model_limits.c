/* A model at its limits: a full context, wrong arguments, cancelling, and memory that runs out anywhere. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot.h"
#include "unit/model_image.h"

enum { VOCAB = 50, TOKENS = 40, MAX_DEVICES = 8 };

static model_parts parts;
static int32_t tokens[TOKENS];
static float expected[TOKENS * VOCAB], logits[TOKENS * VOCAB];

static const qd_model_options chunks_of_16 = {.chunk = 16, .activations = QD_FORMAT_A8};

/* What all tests evaluate, and its logits. */
static void setup(void) {
    model_spec s = model_small(QD_FORMAT_Q8_0);
    s.format[W_Q] = QD_FORMAT_Q4_1; /* some matrices stacked, some not */
    s.format[W_DOWN] = QD_FORMAT_F16;
    parts = model_make(&s, 5);
    model_tokens(6, VOCAB, tokens, TOKENS);
    qd_context *c = model_context("ref", NULL);
    model_bed b = model_open(&parts, c, NULL);
    model_eval(b.model, tokens, TOKENS, expected);
    model_close(&b);
    qd_context_free(c);
}

static void teardown(void) {
    model_parts_free(&parts);
}

/* The model computes the first `count` tokens as it should. */
static void expect_works(qd_model *m, int count) {
    ck_assert_int_eq(qd_model_rewind(m, 0), QD_OK);
    model_eval(m, tokens, count, logits);
    ck_assert_mem_eq(logits, expected, (size_t)(count * VOCAB) * sizeof *logits);
}

static uint64_t memory_used(const qd_context *c) {
    qd_memory_info info;
    ck_assert_int_eq(qd_context_memory(c, &info), QD_OK);
    return info.used;
}

static const char *default_device(void) {
    static char ids[MAX_DEVICES][96];
    return ids[model_devices(ids, MAX_DEVICES) > 1 ? 1 : 0];
}

static bool never(void *user, int64_t position, const float *row) {
    (void)user, (void)position, (void)row;
    ck_abort_msg("no logits were to be made");
}

/* ---- The context's end --------------------------------------------------------------------------------------- */

START_TEST(full_context) {
    qd_context *c = model_context("ref", NULL);
    qd_model_options o = chunks_of_16;
    o.context = 17; /* rounded up to 32 */
    o.chunk = 5;
    model_bed b = model_open(&parts, c, &o);
    qd_model *m = b.model;
    ck_assert_int_eq(qd_model_describe(m)->context, 32);
    EXPECT_STATUS(qd_model_eval(m, tokens, 33, true, never, NULL), QD_ERR_LIMIT, "larger context");
    ck_assert_int_eq(qd_model_position(m), 0);
    expect_works(m, 32); /* exactly full */
    EXPECT_STATUS(qd_model_eval(m, tokens, 1, true, never, NULL), QD_ERR_LIMIT, "full");
    EXPECT_STATUS(qd_model_eval(m, tokens, INT64_MAX, true, never, NULL), QD_ERR_LIMIT, "full");
    ck_assert_int_eq(qd_model_position(m), 32);
    ck_assert_int_eq(qd_model_rewind(m, 31), QD_OK);
    EXPECT_STATUS(qd_model_eval(m, tokens + 31, 2, true, never, NULL), QD_ERR_LIMIT, "full");
    ck_assert_int_eq(qd_model_position(m), 31);
    model_eval(m, tokens + 31, 1, logits);
    ck_assert_mem_eq(logits, expected + 31 * VOCAB, VOCAB * sizeof *logits);
    expect_works(m, 32);
    model_close(&b);
    qd_context_free(c);
}
END_TEST

START_TEST(context_sizes) {
    qd_context *c = model_context("ref", NULL);
    const struct {
        int64_t trained, asked, got;
    } cases[] = {{64, 0, 64}, {1, 0, 16}, {100, 0, 112}, {5000, 0, 4096}, {64, 1, 16}, {64, 200, 208}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_set_number(&parts, "llama.context_length", QD_GGUF_U32, (double)cases[i].trained);
        qd_model_options o = chunks_of_16;
        o.context = cases[i].asked;
        o.chunk = i % 2 ? 4096 : 0; /* longer than the context */
        model_bed b = model_open(&parts, c, &o);
        ck_assert_int_eq(qd_model_describe(b.model)->context, cases[i].got);
        ck_assert_int_eq(qd_model_describe(b.model)->trained_context, cases[i].trained);
        expect_works(b.model, cases[i].got < TOKENS ? (int)cases[i].got : TOKENS);
        model_close(&b);
    }
    qd_context_free(c);
}
END_TEST

/* ---- Arguments ----------------------------------------------------------------------------------------------- */

START_TEST(wrong_tokens) {
    qd_context *c = model_context("ref", NULL);
    model_bed b = model_open(&parts, c, &chunks_of_16);
    qd_model *m = b.model;
    const int32_t wrong[] = {-1, VOCAB, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        for (int at = 0; at < TOKENS; at += 13) { /* also in a later chunk: nothing is appended before */
            int32_t copy[TOKENS];
            memcpy(copy, tokens, sizeof copy);
            copy[at] = wrong[i];
            EXPECT_STATUS(qd_model_eval(m, copy, TOKENS, true, never, NULL), QD_ERR_ARGUMENT, "vocabulary");
            ck_assert_int_eq(qd_model_position(m), 0);
        }
    }
    const int32_t last = VOCAB - 1;
    ck_assert_int_eq(qd_model_eval(m, &last, 1, false, NULL, NULL), QD_OK);
    expect_works(m, TOKENS);
    model_close(&b);
    qd_context_free(c);
}
END_TEST

START_TEST(wrong_arguments) {
    qd_context *c = model_context("ref", NULL);
    model_bed b = model_open(&parts, c, &chunks_of_16);
    qd_model *m = b.model, *untouched = m;
    model_eval(m, tokens, 3, logits);
    ck_assert_int_eq(qd_model_eval(NULL, tokens, 1, true, never, NULL), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_eval(m, NULL, 1, true, never, NULL), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_eval(m, tokens, 0, true, never, NULL), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_eval(m, tokens, -1, true, never, NULL), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_eval(m, tokens, INT64_MIN, true, never, NULL), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_rewind(NULL, 0), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_rewind(m, -1), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_rewind(m, 4), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_position(m), 3);
    ck_assert_int_eq(qd_model_rewind(m, 3), QD_OK);
    qd_model_free(NULL);

    ck_assert_int_eq(qd_model_load(NULL, b.gguf, NULL, &untouched), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_load(c, NULL, NULL, &untouched), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_model_load(c, b.gguf, NULL, NULL), QD_ERR_ARGUMENT);
    qd_model_options o[8];
    for (int i = 0; i < 8; i++)
        o[i] = chunks_of_16;
    o[0].context = -1;
    o[1].context = (1 << 20) + 1;
    o[2].context = INT64_MAX;
    o[3].chunk = -1;
    o[4].chunk = 4097;
    o[5].chunk = INT64_MIN;
    o[6].activations = QD_FORMAT_Q8_0;
    o[7].activations = (qd_format)99;
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(qd_model_load(c, b.gguf, &o[i], &untouched), QD_ERR_ARGUMENT);
    ck_assert_ptr_eq(untouched, m);
    model_close(&b);
    ck_assert_uint_eq(memory_used(c), 0);
    qd_context_free(c);
}
END_TEST

/* ---- Cancelling ---------------------------------------------------------------------------------------------- */

typedef struct countdown {
    int left, calls, total;
    int64_t position;
} countdown;

static bool count_progress(void *user, int done, int total) {
    countdown *n = user;
    ck_assert_int_eq(done, n->calls++);
    ck_assert_int_lt(done, total);
    n->total = total;
    return n->left-- > 0;
}

static bool count_logits(void *user, int64_t position, const float *row) {
    countdown *n = user;
    ck_assert_int_eq(position, n->calls++);
    ck_assert_mem_eq(row, expected + position * VOCAB, VOCAB * sizeof *row);
    return n->left-- > 0;
}

START_TEST(cancelled_while_loading) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    for (int d = 0; d < devices; d++) {
        qd_context *c = model_context(ids[d], NULL);
        int total = 1;
        for (int calls = 0; calls <= total; calls++) {
            countdown n = {.left = calls};
            qd_model_options o = chunks_of_16;
            o.progress = count_progress;
            o.progress_user = &n;
            model_bed b;
            const qd_status status = model_try(&parts, c, &o, &b);
            total = n.total;
            ck_assert_int_eq(status, calls < total ? QD_ERR_CANCELLED : QD_OK);
            ck_assert_int_eq(n.calls, calls < total ? calls + 1 : total);
            if (status == QD_OK) expect_works(b.model, TOKENS);
            model_close(&b);
            ck_assert_uint_eq(memory_used(c), 0);
        }
        qd_context_free(c);
    }
}
END_TEST

START_TEST(cancelled_by_logits) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    for (int d = 0; d < devices; d++) {
        qd_context *c = model_context(ids[d], NULL);
        model_bed b = model_open(&parts, c, &chunks_of_16);
        model_eval(b.model, tokens, 3, logits);
        for (int calls = 0; calls < TOKENS - 3; calls += 6) {
            countdown n = {.left = calls, .calls = 3};
            ck_assert_int_eq(qd_model_rewind(b.model, 3), QD_OK);
            ck_assert_int_eq(qd_model_eval(b.model, tokens + 3, TOKENS - 3, true, count_logits, &n), QD_ERR_CANCELLED);
            ck_assert_int_eq(n.calls, 3 + calls + 1);
            ck_assert_int_eq(qd_model_position(b.model), 3); /* nothing was appended, not even whole chunks */
            model_eval(b.model, tokens + 3, TOKENS - 3, logits);
            ck_assert_mem_eq(logits, expected + 3 * VOCAB, (TOKENS - 3) * VOCAB * sizeof *logits);
        }
        expect_works(b.model, TOKENS);
        model_close(&b);
        qd_context_free(c);
    }
}
END_TEST

/* ---- Memory -------------------------------------------------------------------------------------------------- */

START_TEST(small_memory_budgets) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    for (int d = 0; d < devices; d++) {
        qd_context *c = model_context(ids[d], NULL);
        model_bed b = model_open(&parts, c, &chunks_of_16);
        const uint64_t need = memory_used(c);
        ck_assert_uint_gt(need, 10000);
        model_close(&b);
        ck_assert_uint_eq(memory_used(c), 0);
        qd_context_free(c);

        const uint64_t parts_of_need = 12;
        for (uint64_t i = 1; i <= parts_of_need; i++) {
            const uint64_t budget = i == parts_of_need ? need - 1 : need * i / parts_of_need;
            c = model_context(ids[d], &(qd_context_options){.memory_budget = budget});
            EXPECT_STATUS(model_try(&parts, c, &chunks_of_16, &b), QD_ERR_DEVICE_MEMORY, "budget");
            ck_assert_ptr_null(b.model);
            model_close(&b);
            ck_assert_uint_eq(memory_used(c), 0);
            qd_context_free(c);
        }
        /* Enough for a smaller context, in the same qd_context that had too little. */
        c = model_context(ids[d], &(qd_context_options){.memory_budget = need});
        qd_model_options o = chunks_of_16;
        o.context = 1 << 16;
        EXPECT_STATUS(model_try(&parts, c, &o, &b), QD_ERR_DEVICE_MEMORY, "budget");
        model_close(&b);
        b = model_open(&parts, c, &chunks_of_16);
        expect_works(b.model, TOKENS);
        model_close(&b);
        qd_context_free(c);
    }
}
END_TEST

/* Every allocation of loading fails in its turn. */
START_TEST(no_memory_while_loading) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    for (int d = 0; d < devices; d++) {
        qd_context *c = model_context(ids[d], NULL);
        model_bed b = model_open(&parts, c, &chunks_of_16); /* proves the kernels */
        model_close(&b);
        image file = model_write(&parts);
        qd_gguf *g;
        ck_assert_int_eq(qd_gguf_parse(file.bytes, file.size, &g), QD_OK);
        qd_model *m = NULL;
        qd_status status = QD_ERR_MEMORY;
        long n = 0;
        for (; status != QD_OK; n++) {
            ck_assert_int_lt(n, 5000);
            qd_alloc_fail_after(n);
            status = qd_model_load(c, g, &chunks_of_16, &m);
            qd_alloc_fail_after(-1);
            if (status == QD_OK) break;
            ck_assert_int_eq(status, QD_ERR_MEMORY);
            ck_assert_ptr_null(m);
            ck_assert_uint_eq(memory_used(c), 0);
        }
        ck_assert_int_gt(n, 60);
        expect_works(m, TOKENS);
        qd_model_free(m);
        qd_gguf_free(g);
        qd_context_free(c);
        image_free(&file);
    }
}
END_TEST

/* Every allocation of an evaluation fails in its turn; afterwards the model goes on as if nothing had been. */
START_TEST(no_memory_while_evaluating) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    for (int d = 0; d < devices; d++) {
        qd_context *c = model_context(ids[d], NULL);
        model_bed b = model_open(&parts, c, &chunks_of_16);
        model_eval(b.model, tokens, 3, logits);
        qd_status status = QD_ERR_MEMORY;
        long n = 0;
        for (; status != QD_OK; n++) {
            ck_assert_int_lt(n, 5000);
            ck_assert_int_eq(qd_model_rewind(b.model, 3), QD_OK);
            countdown count = {.left = INT_MAX, .calls = 3};
            qd_alloc_fail_after(n);
            status = qd_model_eval(b.model, tokens + 3, 20, true, count_logits, &count);
            qd_alloc_fail_after(-1);
            ck_assert(status == QD_OK || status == QD_ERR_MEMORY);
            ck_assert_int_eq(qd_model_position(b.model), status == QD_OK ? 23 : 3);
        }
        ck_assert_int_gt(n, 3);
        model_eval(b.model, tokens + 23, TOKENS - 23, logits);
        ck_assert_mem_eq(logits, expected + 23 * VOCAB, (TOKENS - 23) * VOCAB * sizeof *logits);
        model_close(&b);
        qd_context_free(c);
    }
}
END_TEST

/* Memory runs out while kernels are built and proven, on the first use of a device: nothing may count as proven, or as
 * failed, by that. With memory again, the same context computes the right bytes on the device. */
START_TEST(no_memory_while_proving) {
    const char *device = default_device();
    image file = model_write(&parts);
    qd_gguf *g;
    ck_assert_int_eq(qd_gguf_parse(file.bytes, file.size, &g), QD_OK);
    for (long n = 100; n < 500; n += 130) {
        qd_context *c = model_context(device, &(qd_context_options){.cache_dir = ""});
        qd_model *m = NULL;
        qd_alloc_fail_after(n);
        const qd_status status = qd_model_load(c, g, &chunks_of_16, &m);
        qd_alloc_fail_after(-1);
        ck_assert_int_eq(status, QD_ERR_MEMORY);
        ck_assert_uint_eq(memory_used(c), 0);
        ck_assert_msg(qd_model_load(c, g, &chunks_of_16, &m) == QD_OK, "%s", qd_last_message());
        ck_assert_int_eq(qd_model_describe(m)->graph.fallbacks, 0);
        expect_works(m, TOKENS);
        qd_model_free(m);
        qd_context_free(c);
    }
    qd_gguf_free(g);
    image_free(&file);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model limits");
    TCase *limits = tcase_create("limits");
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, full_context);
    tcase_add_test(limits, context_sizes);
    tcase_add_test(limits, wrong_tokens);
    tcase_add_test(limits, wrong_arguments);
    tcase_add_test(limits, cancelled_while_loading);
    tcase_add_test(limits, cancelled_by_logits);
    tcase_add_test(limits, small_memory_budgets);
    tcase_add_test(limits, no_memory_while_loading);
    tcase_add_test(limits, no_memory_while_evaluating);
    tcase_add_test(limits, no_memory_while_proving);
    tcase_set_timeout(limits, 200);
    suite_add_tcase(suite, limits);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
