/* Batch normalization put into the weights before it: one operator less, and one scale to quantize. */
#include <math.h>

#include "core/status.h"
#include "qdot/qdot_quant.h"

/* The place of the first value that is not finite; n: there is none. */
static int64_t first_bad(const float *x, int64_t n) {
    int64_t i = 0;
    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

static qd_status check_line(const char *name, const float *x, int64_t channels, bool may_lack) {
    if (!x && may_lack) return QD_OK;
    if (!x) return qd_fail(QD_ERR_ARGUMENT, "qd_fold_batchnorm: %s is missing", name);
    const int64_t bad = first_bad(x, channels);
    if (bad == channels) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "qd_fold_batchnorm: %s of channel %lld is %g; it must be finite", name,
                   (long long)bad, (double)x[bad]);
}

/* γ / √(σ² + ε). */
static double factor(const qd_batchnorm *n, int64_t c) {
    return (n->gamma ? (double)n->gamma[c] : 1) / sqrt((double)n->variance[c] + (double)n->epsilon);
}

/* The bias after it. */
static double shifted(const qd_batchnorm *n, const float *bias, int64_t c) {
    return ((bias ? (double)bias[c] : 0) - (double)n->mean[c]) * factor(n, c) + (n->beta ? (double)n->beta[c] : 0);
}

/* The channel's results must be finite floats: all of them before anything is written. */
static qd_status check_channel(const qd_batchnorm *n, const float *w, const float *bias, int64_t c, int64_t each) {
    if (!(n->variance[c] >= 0)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_fold_batchnorm: the variance of channel %lld is %g; it cannot be negative",
                       (long long)c, (double)n->variance[c]);
    }
    if (!((double)n->variance[c] + (double)n->epsilon > 0)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_fold_batchnorm: channel %lld has no variance; give an epsilon above 0",
                       (long long)c);
    }
    double largest = fabs(shifted(n, bias, c));
    for (int64_t i = c * each; i < (c + 1) * each; i++) {
        if (!isfinite(w[i])) {
            return qd_fail(QD_ERR_ARGUMENT, "qd_fold_batchnorm: weight %lld of channel %lld is %g; it must be finite",
                           (long long)(i - c * each), (long long)c, (double)w[i]);
        }
        largest = fmax(largest, fabs((double)w[i] * factor(n, c)));
    }
    if (isfinite((float)largest)) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "qd_fold_batchnorm: channel %lld becomes too large for floats: its factor is %g",
                   (long long)c, factor(n, c));
}

qd_status qd_fold_batchnorm(const qd_batchnorm *n, const float *w, const float *bias, int64_t channels, int64_t each,
                            float *w_out, float *bias_out) {
    int64_t count;
    if (!n || channels < 1 || each < 1 || __builtin_mul_overflow(channels, each, &count) || !w || !w_out || !bias_out) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "qd_fold_batchnorm: weights of at least one channel, and places for weights and bias are "
                       "needed");
    }
    qd_status status;
    if (!(n->epsilon >= 0) || !isfinite(n->epsilon))
        return qd_fail(QD_ERR_ARGUMENT, "qd_fold_batchnorm: epsilon is %g; it must be finite and not negative",
                       (double)n->epsilon);
    QD_TRY(check_line("gamma", n->gamma, channels, true));
    QD_TRY(check_line("beta", n->beta, channels, true));
    QD_TRY(check_line("the mean", n->mean, channels, false));
    QD_TRY(check_line("the variance", n->variance, channels, false));
    QD_TRY(check_line("the bias", bias, channels, true));
    for (int64_t c = 0; c < channels; c++)
        QD_TRY(check_channel(n, w, bias, c, each));
    for (int64_t c = 0; c < channels; c++) {
        bias_out[c] = (float)shifted(n, bias, c);
        for (int64_t i = c * each; i < (c + 1) * each; i++)
            w_out[i] = (float)((double)w[i] * factor(n, c));
    }
error:
    return status;
}
