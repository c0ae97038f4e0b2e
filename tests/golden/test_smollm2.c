/* A real model against another program's answers (smollm2-135m-instruct-q4_1.json): likelihood of every prompt token,
 * the ten likeliest next tokens, and the greedy continuation, whose tokens are given and not fed back, so that one near
 * tie does not change the rest. Float activations must agree to rounding; int8 ones to what they cost. */
#include <check.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { MAX_TOKENS = 64, MAX_VOCAB = 65536 };

/* How far logits and likelihoods may be from the golden ones. */
typedef struct tolerance {
    qd_format activations;
    double nll, logit;
} tolerance;

static const tolerance exact = {QD_FORMAT_F32, 1e-4, 1e-4};
static const tolerance quantized = {QD_FORMAT_A8, 0.5, 0.4};

typedef struct prompt {
    const cJSON *golden;
    const tolerance *allowed;
    int32_t tokens[MAX_TOKENS];
    int64_t count, given; /* all; of them the prompt */
    int64_t vocab, seen;
    double worst_nll, worst_logit;
} prompt;

static double number(const cJSON *o, const char *name, int64_t i) {
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItem(o, name), (int)i);
    ck_assert_msg(cJSON_IsNumber(item), "%s[%lld] is no number", name, (long long)i);
    return item->valuedouble;
}

static int32_t likeliest(const float *logits, int64_t vocab) {
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return best;
}

static bool compare(void *user, int64_t position, const float *logits) {
    prompt *p = user;
    p->seen++;
    if (position + 1 < p->given) {
        const double d =
            fabs(qd_cli_nll(logits, p->vocab, p->tokens[position + 1]) - number(p->golden, "nll", position));
        p->worst_nll = fmax(p->worst_nll, d);
        ck_assert_msg(d < p->allowed->nll, "nll of position %lld is off by %g", (long long)position + 1, d);
        return true;
    }
    if (position + 1 == p->given) {
        const cJSON *pair;
        cJSON_ArrayForEach(pair, cJSON_GetObjectItem(p->golden, "last_top10")) {
            const int id = (int)cJSON_GetArrayItem(pair, 0)->valuedouble;
            const double d = fabs((double)logits[id] - cJSON_GetArrayItem(pair, 1)->valuedouble);
            p->worst_logit = fmax(p->worst_logit, d);
            ck_assert_msg(d < p->allowed->logit, "logit of token %d is off by %g", id, d);
        }
    }
    const int64_t step = position + 1 - p->given;
    if (step < p->count - p->given && number(p->golden, "greedy_gap", step) > 2 * p->allowed->logit) {
        ck_assert_msg(likeliest(logits, p->vocab) == (int32_t)number(p->golden, "greedy", step),
                      "greedy token %lld is %d", (long long)step, likeliest(logits, p->vocab));
    }
    return true;
}

static void check_model(const tolerance *allowed) {
    char *text;
    size_t size;
    ck_assert(qd_cli_read("tests/golden/smollm2-135m-instruct-q4_1.json", &text, &size));
    cJSON *root = cJSON_Parse(text);
    ck_assert_int_gt(cJSON_GetArraySize(root), 0);
    qd_cli_session s;
    const qd_cli_common common = {.model = getenv("QDOT_TEST_MODEL"), .context = MAX_TOKENS};
    ck_assert(qd_cli_open(&common, allowed->activations, 0, false, &s));
    const cJSON *golden;
    cJSON_ArrayForEach(golden, root) {
        prompt p = {.golden = golden, .allowed = allowed, .vocab = qd_model_describe(s.model)->vocab};
        p.given = cJSON_GetArraySize(cJSON_GetObjectItem(golden, "tokens"));
        p.count = p.given + cJSON_GetArraySize(cJSON_GetObjectItem(golden, "greedy"));
        ck_assert(p.given > 1 && p.count <= MAX_TOKENS);
        for (int64_t i = 0; i < p.count; i++) {
            p.tokens[i] = (int32_t)(i < p.given ? number(golden, "tokens", i) : number(golden, "greedy", i - p.given));
        }
        ck_assert_int_eq(qd_model_rewind(s.model, 0), QD_OK);
        ck_assert_int_eq(qd_model_eval(s.model, p.tokens, p.count, true, compare, &p), QD_OK);
        ck_assert_int_eq(p.seen, p.count);
        printf("%s: nll within %.2g, logits within %.2g\n", qd_format_get(allowed->activations)->name, p.worst_nll,
               p.worst_logit);
    }
    qd_cli_close(&s);
    cJSON_Delete(root);
    free(text);
}

START_TEST(test_float_activations) {
    check_model(&exact);
}
END_TEST

START_TEST(test_int8_activations) {
    check_model(&quantized);
}
END_TEST

int main(void) {
    if (!getenv("QDOT_TEST_MODEL")) {
        puts("skipped: QDOT_TEST_MODEL names no model (sh host/fetch_model.sh)");
        return 77;
    }
    Suite *suite = suite_create("smollm2");
    TCase *tests = tcase_create("golden");
    tcase_set_timeout(tests, 0); /* ctest has one */
    tcase_add_test(tests, test_float_activations);
    tcase_add_test(tests, test_int8_activations);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
