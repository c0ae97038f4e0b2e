/* Batch normalization in the weights before it, against numpy. */
#include <float.h>
#include <math.h>

#include "qdot/qdot_quant.h"
#include "unit/batchnorm_cases.h"
#include "unit/devices.h"

enum { O = BATCHNORM_CHANNELS, E = BATCHNORM_EACH };

static const qd_batchnorm whole = {batchnorm_gamma, batchnorm_beta, batchnorm_mean, batchnorm_variance,
                                   0x1.0624dep-10f};

/* At most one unit in the last place: numpy's products are in another order. */
static void ck_floats(const float *got, const float *want, int n, const char *what) {
    for (int i = 0; i < n; i++) {
        ck_assert_msg(got[i] == want[i] || nextafterf(got[i], want[i]) == want[i], "%s %d is %.9g, not %.9g", what, i,
                      (double)got[i], (double)want[i]);
    }
}

START_TEST(test_numpy) {
    float w[O * E], bias[O];
    ck_assert(whole.epsilon == batchnorm_epsilon);
    ck_ok(qd_fold_batchnorm(&whole, batchnorm_w, batchnorm_bias, O, E, w, bias));
    ck_floats(w, batchnorm_w_folded, O * E, "weight");
    ck_floats(bias, batchnorm_bias_folded, O, "bias");
    for (int c = 0; c < O; c++) { /* what it is for: the same results at once */
        double y = bias[c], size = fabs(y);
        for (int i = 0; i < E; i++) {
            y += (double)w[c * E + i] * (double)batchnorm_x[i];
            size += fabs((double)w[c * E + i] * (double)batchnorm_x[i]);
        }
        ck_assert_double_eq_tol(y, (double)batchnorm_y[c], size * (double)FLT_EPSILON);
    }
    /* Without gamma, beta and bias; and in place. */
    const qd_batchnorm plain = {NULL, NULL, batchnorm_mean, batchnorm_variance, batchnorm_epsilon};
    memcpy(w, batchnorm_w, sizeof w);
    ck_ok(qd_fold_batchnorm(&plain, w, NULL, O, E, w, bias));
    ck_floats(w, batchnorm_w_plain, O * E, "plain weight");
    ck_floats(bias, batchnorm_bias_plain, O, "plain bias");
    memcpy(bias, batchnorm_bias, sizeof bias);
    ck_ok(qd_fold_batchnorm(&whole, batchnorm_w, bias, O, E, w, bias));
    ck_floats(bias, batchnorm_bias_folded, O, "bias in place");
}
END_TEST

/* One number of one operand is wrong; nothing is written. */
START_TEST(test_refused) {
    enum { GAMMA, BETA, MEAN, VARIANCE, BIAS, WEIGHT, EPSILON };
    static const struct {
        int operand, at;
        float value;
        const char *part;
    } wrong[] = {
        {GAMMA, 1, NAN, "gamma of channel 1 is nan"},
        {BETA, 3, INFINITY, "beta of channel 3"},
        {MEAN, 0, -INFINITY, "the mean of channel 0"},
        {VARIANCE, 2, NAN, "the variance of channel 2"},
        {VARIANCE, 2, INFINITY, "the variance of channel 2"},
        {VARIANCE, 2, -1e-30f, "the variance of channel 2 is -1e-30; it cannot be negative"},
        {BIAS, 1, NAN, "the bias of channel 1"},
        {WEIGHT, 2 * E + 4, NAN, "weight 4 of channel 2"},
        {WEIGHT, 0, INFINITY, "weight 0 of channel 0"},
        {EPSILON, 0, -1, "epsilon is -1"},
        {EPSILON, 0, NAN, "epsilon is nan"},
        {WEIGHT, 1, 3e38f, "channel 0 becomes too large"},
        {MEAN, 0, 3e38f, "channel 0 becomes too large"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        float gamma[O], beta[O], mean[O], variance[O], bias[O], w[O * E], epsilon = batchnorm_epsilon;
        float *const operands[] = {gamma, beta, mean, variance, bias, w, &epsilon};
        float w_out[O * E], bias_out[O], untouched[O * E];
        memcpy(gamma, batchnorm_gamma, sizeof gamma);
        memcpy(beta, batchnorm_beta, sizeof beta);
        memcpy(mean, batchnorm_mean, sizeof mean);
        memcpy(variance, batchnorm_variance, sizeof variance);
        memcpy(bias, batchnorm_bias, sizeof bias);
        memcpy(w, batchnorm_w, sizeof w);
        operands[wrong[i].operand][wrong[i].at] = wrong[i].value;
        if (wrong[i].operand == WEIGHT || wrong[i].operand == MEAN) gamma[0] = 100;
        memset(untouched, 0x55, sizeof untouched);
        memcpy(w_out, untouched, sizeof w_out);
        memcpy(bias_out, untouched, sizeof bias_out);
        const qd_batchnorm n = {gamma, beta, mean, variance, epsilon};
        ck_fails(qd_fold_batchnorm(&n, w, bias, O, E, w_out, bias_out), QD_ERR_ARGUMENT, wrong[i].part);
        ck_assert_mem_eq(w_out, untouched, sizeof w_out);
        ck_assert_mem_eq(bias_out, untouched, sizeof bias_out);
    }
}
END_TEST

START_TEST(test_arguments) {
    float w[O * E], bias[O];
    const float none[O] = {0};
    qd_batchnorm n = whole;
    ck_fails(qd_fold_batchnorm(NULL, batchnorm_w, NULL, O, E, w, bias), QD_ERR_ARGUMENT, "are needed");
    ck_fails(qd_fold_batchnorm(&n, NULL, NULL, O, E, w, bias), QD_ERR_ARGUMENT, "are needed");
    ck_fails(qd_fold_batchnorm(&n, batchnorm_w, NULL, O, E, NULL, bias), QD_ERR_ARGUMENT, "are needed");
    ck_fails(qd_fold_batchnorm(&n, batchnorm_w, NULL, O, E, w, NULL), QD_ERR_ARGUMENT, "are needed");
    ck_fails(qd_fold_batchnorm(&n, batchnorm_w, NULL, 0, E, w, bias), QD_ERR_ARGUMENT, "at least one channel");
    ck_fails(qd_fold_batchnorm(&n, batchnorm_w, NULL, INT64_MAX, E, w, bias), QD_ERR_ARGUMENT, "are needed");
    n.mean = NULL;
    ck_fails(qd_fold_batchnorm(&n, batchnorm_w, NULL, O, E, w, bias), QD_ERR_ARGUMENT, "the mean is missing");
    n = whole;
    n.variance = NULL;
    ck_fails(qd_fold_batchnorm(&n, batchnorm_w, NULL, O, E, w, bias), QD_ERR_ARGUMENT, "the variance is missing");
    n.variance = none;
    ck_ok(qd_fold_batchnorm(&n, batchnorm_w, NULL, O, E, w, bias));
    n.epsilon = 0;
    ck_fails(qd_fold_batchnorm(&n, batchnorm_w, NULL, O, E, w, bias), QD_ERR_ARGUMENT, "channel 0 has no variance");
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("fold");
    tcase_add_test(tc, test_numpy);
    tcase_add_test(tc, test_refused);
    tcase_add_test(tc, test_arguments);
    return run_tests(tc, "fold");
}
