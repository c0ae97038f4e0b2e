/* A real model (QDOT_TEST_MODEL) has the same logits, to the byte, on the reference and on the default OpenCL device,
 * whatever the prompt's length and however it is fed. */
#include <check.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "e2e/golden_prompts.h"
#include "qdot/qdot.h"

enum { LONG = 300, SHA256 = 32, RUNS = 16 };

static golden_prompt prompts[GOLDEN_PROMPTS];
static const char *model_path;

typedef struct run {
    const int32_t *tokens;
    int feeds[8]; /* tokens given in one call each, ended by 0; the model divides those longer than its chunk */
    char name[40];
} run;

typedef struct hashes {
    int64_t vocab;
    unsigned char of[LONG][SHA256]; /* of each position's logits */
} hashes;

static int32_t text[LONG]; /* all prompts and their continuations, again and again */
static run runs[RUNS];
static int n_runs;

static void add_run(const int32_t *tokens, const char *name, const int *feeds, int n_feeds) {
    run *r = &runs[n_runs++];
    r->tokens = tokens;
    memcpy(r->feeds, feeds, (size_t)n_feeds * sizeof *feeds);
    snprintf(r->name, sizeof r->name, "%s", name);
}

static void make_runs(void) {
    for (int i = 0, p = 0, at = 0; i < LONG; i++) {
        text[i] = prompts[p].tokens[at++];
        if (at < prompts[p].count + prompts[p].continued) continue;
        at = 0;
        p = (p + 1) % GOLDEN_PROMPTS;
    }
    char name[40];
    for (int i = 0; i < GOLDEN_PROMPTS; i++) {
        snprintf(name, sizeof name, "prompt %d", i);
        add_run(prompts[i].tokens, name, (int[]){prompts[i].count}, 1);
    }
    static const int sizes[] = {1, 2, 31, 32, 33, LONG};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(name, sizeof name, "%d tokens", sizes[i]);
        add_run(text, name, &sizes[i], 1);
    }
    add_run(text, "300 tokens in uneven feeds", (int[]){1, 2, 31, 100, 33, 133}, 6);
}

static bool hash_position(void *user, int64_t position, const float *logits) {
    hashes *h = user;
    return EVP_Digest(logits, (size_t)h->vocab * sizeof *logits, h->of[position], NULL, EVP_sha256(), NULL) == 1;
}

/* Runs the first `count` runs on a device; out has a place for each. */
static void evaluate(const char *device, qd_format activations, int count, hashes *out) {
    qd_gguf *file = NULL;
    qd_context *context = NULL;
    qd_model *model = NULL;
    qd_model_options options = qd_model_defaults();
    options.activations = activations;
    options.context = LONG;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    ck_assert_msg(qd_gguf_open(model_path, &file) == QD_OK, "%s", qd_last_message());
    ck_assert_msg(qd_context_create(device, NULL, &context) == QD_OK, "%s", qd_last_message());
    ck_assert_msg(qd_model_load(context, file, &options, &model) == QD_OK, "%s", qd_last_message());
    /* The reference in a device's place would be compared with itself. */
    ck_assert_int_eq(qd_model_describe(model)->graph.fallbacks, 0);
    for (int i = 0; i < count; i++) {
        out[i].vocab = qd_model_describe(model)->vocab;
        ck_assert_int_eq(qd_model_rewind(model, 0), QD_OK);
        const int32_t *next = runs[i].tokens;
        for (const int *feed = runs[i].feeds; *feed; next += *feed++) {
            ck_assert_msg(qd_model_eval(model, next, *feed, true, hash_position, &out[i]) == QD_OK, "%s",
                          qd_last_message());
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%s, %s: %d runs in %.1f s\n", qd_context_device(context)->name, qd_format_get(activations)->name, count,
           (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec));
    fflush(stdout);
    qd_model_free(model);
    qd_context_free(context);
    qd_gguf_free(file);
}

static int tokens_of(const run *r) {
    int n = 0;
    for (const int *feed = r->feeds; *feed; feed++)
        n += *feed;
    return n;
}

static void expect_same(const run *r, const hashes *got, const hashes *want, const char *device) {
    for (int i = 0; i < tokens_of(r); i++) {
        ck_assert_msg(!memcmp(got->of[i], want->of[i], SHA256), "%s: token %d of the run \"%s\" has other logits",
                      device, i, r->name);
    }
}

/* A token's logits depend on what stands before it and on nothing else: those of the reference's long run are also
 * those of the shorter ones, and of the long one in other pieces (on OpenCL: the reference takes its time). */
START_TEST(same_bytes) {
    static hashes reference[RUNS], opencl[RUNS];
    const hashes *whole = &reference[n_runs - 2];
    evaluate("ref", QD_FORMAT_A8, n_runs - 1, reference);
    evaluate("opencl", QD_FORMAT_A8, n_runs, opencl);
    for (int i = 0; i < n_runs; i++) {
        const hashes *want = i < GOLDEN_PROMPTS ? &reference[i] : whole;
        if (i + 1 < n_runs) expect_same(&runs[i], &reference[i], want, "reference");
        expect_same(&runs[i], &opencl[i], want, "OpenCL");
    }
    ck_assert_mem_ne(whole->of[0], whole->of[1], SHA256);
    ck_assert_mem_ne(whole->of[LONG - 2], whole->of[LONG - 1], SHA256);
}
END_TEST

START_TEST(same_bytes_with_float_activations) {
    static hashes reference[GOLDEN_PROMPTS], opencl[GOLDEN_PROMPTS];
    evaluate("ref", QD_FORMAT_F32, GOLDEN_PROMPTS, reference);
    evaluate("opencl", QD_FORMAT_F32, GOLDEN_PROMPTS, opencl);
    for (int i = 0; i < GOLDEN_PROMPTS; i++)
        expect_same(&runs[i], &opencl[i], &reference[i], "OpenCL");
}
END_TEST

int main(void) {
    model_path = golden_model();
    if (!model_path) return GOLDEN_SKIP;
    if (!golden_read(prompts)) return EXIT_FAILURE;
    make_runs();
    Suite *suite = suite_create("determinism");
    TCase *bytes = tcase_create("bytes");
    tcase_add_test(bytes, same_bytes);
    tcase_add_test(bytes, same_bytes_with_float_activations);
    tcase_set_timeout(bytes, 500);
    suite_add_tcase(suite, bytes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
