/* ROUGE-L and BLEU against those of rouge-score, sacrebleu and nltk (text_scores.py). */
#include <check.h>

#include "cli/text_scores.h"
#include "unit/devices.h"

static const struct {
    const char *reference, *candidate;
    double rouge_l, bleu;
} rows[] = {
#define SCORES(...) {__VA_ARGS__},
#include "unit/text_scores.def"
#undef SCORES
};
enum { ROWS = sizeof rows / sizeof rows[0] };

START_TEST(test_scores) {
    double rouge_l = -1, bleu = -1;
    ck_assert(qd_text_scores(rows[_i].reference, rows[_i].candidate, &rouge_l, &bleu));
    ck_assert_double_eq_tol(rouge_l, rows[_i].rouge_l, 1e-9);
    ck_assert_double_eq_tol(bleu, rows[_i].bleu, 1e-9);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("text_scores");
    tcase_add_loop_test(tc, test_scores, 0, ROWS);
    return run_tests(tc, "text_scores");
}
