/* The figures of `qdot compare`, against numbers by hand. */
#include <check.h>
#include <math.h>

#include "cli/compare.h"
#include "qdot/qdot_sensitivity.h"
#include "unit/devices.h"

START_TEST(test_divergence) {
    /* p = 1/4, 3/4; q = 1/2, 1/2. */
    const float a[] = {0, 1.0986123f}, b[] = {5, 5};
    ck_assert_double_eq_tol(qd_logits_divergence(a, b, 2), 0.25 * log(0.5) + 0.75 * log(1.5), 1e-7);
    ck_assert_double_eq_tol(qd_logits_divergence(b, a, 2), 0.5 * log(2) + 0.5 * log(2 / 3.0), 1e-7);
    /* A constant changes nothing; large numbers do no harm. */
    const float far[] = {-1e4f, 1e4f, 0}, shifted[] = {0, 2e4f, 1e4f};
    ck_assert_double_eq(qd_logits_divergence(far, shifted, 3), 0);
    ck_assert_double_eq_tol(qd_logits_divergence(far, (float[]){2e4f, 0, 0}, 3), 2e4, 1e-3);
}
END_TEST

START_TEST(test_top) {
    ck_assert_int_eq(qd_compare_top((float[]){1, 3, 3, -1}, 4), 1);
    ck_assert_int_eq(qd_compare_top((float[]){-2, -3}, 2), 0);
}
END_TEST

START_TEST(test_errors) {
    /* Negative log-likelihoods 1, 2, 3 and 2, 2, 2; divergences 0, 1. */
    qd_compare_report r = {.scored = 3, .positions = 2, .divergence = 1, .divergence_squares = 1};
    r.model[0] = (qd_compare_model){.nll = 6, .squares = 14};
    r.model[1] = (qd_compare_model){.nll = 6, .squares = 12};
    ck_assert_double_eq_tol(qd_compare_perplexity(&r, 0), exp(2), 1e-9);
    ck_assert_double_eq_tol(qd_compare_perplexity_error(&r, 0), exp(2) * sqrt(1.0 / 3), 1e-9);
    ck_assert_double_eq_tol(qd_compare_perplexity_error(&r, 1), 0, 1e-9);
    ck_assert_double_eq_tol(qd_compare_divergence_error(&r), sqrt(0.5 / 2), 1e-9);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("compare");
    tcase_add_test(tc, test_divergence);
    tcase_add_test(tc, test_top);
    tcase_add_test(tc, test_errors);
    return run_tests(tc, "compare");
}
