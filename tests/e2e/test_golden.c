/* A real model (QDOT_TEST_MODEL) against another implementation's tokens, likelihoods and greedy continuations. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/golden_prompts.h"
#include "qdot/qdot.h"

static golden_prompt prompts[GOLDEN_PROMPTS];
static const char *model_path;

/* How far a run may be from the other implementation, which computes in float from the same weights. */
typedef struct tolerance {
    qd_format activations;
    double mean_nll, max_nll;
    double gap; /* a next token must agree where the other's lead was larger */
} tolerance;

static const tolerance tolerances[] = {
    {QD_FORMAT_F32, 0.002, 0.01, 0.02},
    {QD_FORMAT_A8, 0.06, 0.4, 0.3},
};

typedef struct findings {
    const golden_prompt *prompt;
    int64_t vocab;
    double sum, max;     /* of |nll difference| */
    int scored;          /* tokens in the sum */
    int compared, wrong; /* next tokens whose lead is large enough */
    int others;          /* different ones whose lead is not */
    double gap;
    int first_wrong; /* position */
    int32_t got;
} findings;

/* −ln softmax(logits)[token]. */
static double nll_of(const float *logits, int64_t vocab, int32_t token) {
    double max = (double)logits[0], sum = 0;
    for (int64_t i = 1; i < vocab; i++)
        max = (double)logits[i] > max ? (double)logits[i] : max;
    for (int64_t i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - max);
    return max + log(sum) - (double)logits[token];
}

static int32_t most_likely(const float *logits, int64_t vocab) {
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* The logits of one position judge the token after it: by its likelihood in the prompt, as the choice behind it. */
static bool judge(void *user, int64_t position, const float *logits) {
    findings *f = user;
    const golden_prompt *p = f->prompt;
    const int next = (int)position + 1;
    if (next < p->count) {
        const double difference = fabs(nll_of(logits, f->vocab, p->tokens[next]) - p->nll[next]);
        f->sum += difference;
        f->max = fmax(f->max, difference);
        f->scored++;
        return true;
    }
    const int32_t got = most_likely(logits, f->vocab);
    const bool sure = p->gap[next] > f->gap, same = got == p->tokens[next];
    f->compared += sure;
    f->others += !sure && !same;
    if (sure && !same) {
        if (!f->wrong++) {
            f->first_wrong = next;
            f->got = got;
        }
    }
    return true;
}

static qd_gguf *open_file(void) {
    qd_gguf *file = NULL;
    ck_assert_msg(qd_gguf_open(model_path, &file) == QD_OK, "%s", qd_last_message());
    return file;
}

START_TEST(tokens) {
    qd_gguf *file = open_file();
    qd_tokenizer *t = NULL;
    ck_assert_msg(qd_tokenizer_create(file, &t) == QD_OK, "%s", qd_last_message());
    for (int i = 0; i < GOLDEN_PROMPTS; i++) {
        const golden_prompt *p = &prompts[i];
        int32_t *got;
        size_t count;
        ck_assert_int_eq(qd_tokenize(t, p->text, strlen(p->text), true, true, &got, &count), QD_OK);
        ck_assert_int_eq((int)count, p->count);
        ck_assert_mem_eq(got, p->tokens, count * sizeof *got);
        qd_tokens_free(got);
    }
    qd_tokenizer_free(t);
    qd_gguf_free(file);
}
END_TEST

START_TEST(likelihoods_and_next_tokens) {
    const tolerance *t = &tolerances[_i];
    const char *name = qd_format_get(t->activations)->name;
    qd_gguf *file = open_file();
    qd_context *context = NULL;
    qd_model *model = NULL;
    qd_model_options options = qd_model_defaults();
    options.activations = t->activations;
    options.context = GOLDEN_TOKENS;
    ck_assert_msg(qd_context_create(NULL, NULL, &context) == QD_OK, "%s", qd_last_message());
    ck_assert_msg(qd_model_load(context, file, &options, &model) == QD_OK, "%s", qd_last_message());
    findings all = {0};
    for (int i = 0; i < GOLDEN_PROMPTS; i++) {
        const golden_prompt *p = &prompts[i];
        findings f = {.prompt = p, .vocab = qd_model_describe(model)->vocab, .gap = t->gap};
        ck_assert_int_eq(qd_model_rewind(model, 0), QD_OK);
        /* The last greedy token is only an answer. */
        ck_assert_msg(qd_model_eval(model, p->tokens, p->count + p->continued - 1, true, judge, &f) == QD_OK, "%s",
                      qd_last_message());
        ck_assert_int_eq(f.scored, p->count - 1);
        printf(
            "%s, prompt %d: |nll difference| mean %.5f, max %.5f; next tokens: %d of %d wrong, %d near ties differ\n",
            name, i, f.sum / f.scored, f.max, f.wrong, f.compared, f.others);
        ck_assert_msg(f.wrong == 0, "%s, prompt %d: token %d is %d, not %d, which led by %g", name, i, f.first_wrong,
                      f.got, p->tokens[f.first_wrong], p->gap[f.first_wrong]);
        all.sum += f.sum;
        all.max = fmax(all.max, f.max);
        all.scored += f.scored;
        all.compared += f.compared;
    }
    printf("%s on %s: |nll difference| mean %.5f (at most %g), max %.5f (at most %g) over %d tokens; %d next tokens\n",
           name, qd_context_device(context)->name, all.sum / all.scored, t->mean_nll, all.max, t->max_nll, all.scored,
           all.compared);
    fflush(stdout);
    ck_assert_double_le(all.sum / all.scored, t->mean_nll);
    ck_assert_double_le(all.max, t->max_nll);
    ck_assert_int_gt(all.compared, 60);
    qd_model_free(model);
    qd_context_free(context);
    qd_gguf_free(file);
}
END_TEST

int main(void) {
    model_path = golden_model();
    if (!model_path) return GOLDEN_SKIP;
    if (!golden_read(prompts)) return EXIT_FAILURE;
    Suite *suite = suite_create("golden");
    TCase *golden = tcase_create("golden");
    tcase_add_test(golden, tokens);
    tcase_add_loop_test(golden, likelihoods_and_next_tokens, 0, sizeof tolerances / sizeof tolerances[0]);
    tcase_set_timeout(golden, 300);
    suite_add_tcase(suite, golden);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
