/* Ranges of values that come in batches, and scales and zero points for them. */
#include <math.h>
#include <stdlib.h>

#include "core/status.h"
#include "qdot/qdot_num.h"
#include "quant/histogram.h"

enum { MOST_CODE = 1 << 24 }; /* codes are exact as floats */
#define LEAST_SCALE 0x1p-23f

/* ---- Scale and zero point ----------------------------------------------------------------------------------- */

static qd_status check_codes(const qd_code_range *codes) {
    if (codes && codes->qmin < codes->qmax && codes->qmin >= -MOST_CODE && codes->qmax <= MOST_CODE) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "codes from %d to %d: qmin < qmax is needed, of at most 2^24 in magnitude",
                   codes ? codes->qmin : 0, codes ? codes->qmax : 0);
}

/* For codes that are checked and a range that is finite. */
static void choose(const qd_code_range *codes, float min, float max, float *scale, int32_t *zero_point) {
    const float low = min < 0 ? min : 0, high = max > 0 ? max : 0, steps = (float)(codes->qmax - codes->qmin);
    if (codes->symmetric) {
        *scale = fmaxf((-low > high ? -low : high) / (steps / 2), LEAST_SCALE);
        *zero_point = codes->qmin < 0 ? 0 : (codes->qmax - codes->qmin + 1) / 2;
        return;
    }
    *scale = fmaxf((high - low) / steps, LEAST_SCALE);
    const float zero = (float)codes->qmin - qd_round_even(low / *scale);
    *zero_point = (int32_t)fminf(fmaxf(zero, (float)codes->qmin), (float)codes->qmax);
}

qd_status qd_range_scale(const qd_code_range *codes, float min, float max, float *scale, int32_t *zero_point) {
    const qd_status status = check_codes(codes);
    if (status != QD_OK) return status;
    if (!isfinite(min) || !isfinite(max) || !(min <= max) || !isfinite(max - min))
        return qd_fail(QD_ERR_ARGUMENT, "a range from %g to %g has no scale", (double)min, (double)max);
    if (!scale || !zero_point) return qd_fail(QD_ERR_ARGUMENT, "qd_range_scale: no pointer may be NULL");
    choose(codes, min, max, scale, zero_point);
    return QD_OK;
}

/* ---- Observers ---------------------------------------------------------------------------------------------- */

struct qd_observer {
    qd_observer_options options; /* with the defaults filled in */
    int64_t batches;
    float *min, *max; /* channels, in one allocation */
    float *batch;     /* 2 · channels: of the batch at hand */
    qd_histogram histogram;
};

static bool has_histogram(const qd_observer *o) {
    return o->options.kind >= QD_OBSERVE_PERCENTILE;
}

qd_status qd_observer_create(const qd_observer_options *options, qd_observer **out) {
    qd_observer_options o = options ? *options : (qd_observer_options){0};
    if (!o.channels) o.channels = 1;
    if (o.averaging == 0) o.averaging = 0.01f;
    if (o.percentile == 0) o.percentile = 99.99;
    if (!o.bins) o.bins = 2048;
    const bool by_channel = o.kind == QD_OBSERVE_MINMAX || o.kind == QD_OBSERVE_AVERAGE;
    if (!out || (unsigned)o.kind > QD_OBSERVE_ENTROPY || o.channels < 1 || (o.channels > 1 && !by_channel) ||
        o.channels > INT64_MAX / 64 || !(o.averaging > 0 && o.averaging <= 1) ||
        !(o.percentile > 0 && o.percentile <= 100) || o.bins < 16 || o.bins > 1 << 20) {
        return qd_fail(
            QD_ERR_ARGUMENT,
            "an observer of kind %d with %lld channels, averaging %g, percentile %g, %d bins: see qdot_quant.h",
            (int)o.kind, (long long)o.channels, (double)o.averaging, o.percentile, o.bins);
    }
    qd_observer *made = qd_alloc_zero(1, sizeof *made);
    if (!made) return QD_ERR_MEMORY;
    made->options = o;
    made->min = qd_alloc((size_t)o.channels * 4 * sizeof *made->min);
    if (!made->min || (has_histogram(made) && qd_histogram_init(&made->histogram, o.bins) != QD_OK)) {
        qd_observer_free(made);
        return QD_ERR_MEMORY;
    }
    made->max = made->min + o.channels;
    made->batch = made->max + o.channels;
    *out = made;
    return QD_OK;
}

void qd_observer_free(qd_observer *o) {
    if (!o) return;
    qd_histogram_release(&o->histogram);
    free(o->min);
    free(o);
}

/* The range of each channel of a batch; false when a value is not finite. */
static bool find_ranges(const float *x, int64_t outer, int64_t channels, int64_t inner, float *min, float *max) {
    for (int64_t c = 0; c < channels; c++) {
        min[c] = INFINITY;
        max[c] = -INFINITY;
    }
    for (int64_t row = 0; row < outer * channels; row++) {
        const int64_t c = row % channels;
        for (int64_t i = row * inner; i < (row + 1) * inner; i++) {
            if (!isfinite(x[i])) return false;
            min[c] = x[i] < min[c] ? x[i] : min[c];
            max[c] = x[i] > max[c] ? x[i] : max[c];
        }
    }
    return true;
}

qd_status qd_observer_update(qd_observer *o, const float *x, int64_t outer, int64_t inner) {
    int64_t rows, count;
    if (!o || !x || outer < 1 || inner < 1 || __builtin_mul_overflow(outer, o->options.channels, &rows) ||
        __builtin_mul_overflow(rows, inner, &count)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_observer_update: a batch of %lld × %lld values", (long long)outer,
                       (long long)inner);
    }
    const int64_t channels = o->options.channels;
    float *min = o->batch, *max = o->batch + channels;
    if (!find_ranges(x, outer, channels, inner, min, max))
        return qd_fail(QD_ERR_ARGUMENT, "qd_observer_update: a value is not finite: replace it first");
    for (int64_t c = 0; c < channels; c++) {
        if (!o->batches) {
            o->min[c] = min[c];
            o->max[c] = max[c];
        } else if (o->options.kind == QD_OBSERVE_AVERAGE) {
            o->min[c] += o->options.averaging * (min[c] - o->min[c]);
            o->max[c] += o->options.averaging * (max[c] - o->max[c]);
        } else {
            o->min[c] = fminf(o->min[c], min[c]);
            o->max[c] = fmaxf(o->max[c], max[c]);
        }
    }
    if (has_histogram(o)) qd_histogram_add(&o->histogram, x, count, min[0], max[0]);
    o->batches++;
    return QD_OK;
}

/* ---- The range with the least error or divergence
 * ------------------------------------------------------------------------- */

static double error_of(const qd_observer *o, const qd_code_range *codes, float min, float max) {
    float scale;
    int32_t zero_point;
    choose(codes, min, max, &scale, &zero_point);
    if (o->options.kind == QD_OBSERVE_ENTROPY)
        return qd_histogram_divergence(&o->histogram, codes, (double)scale, zero_point);
    return qd_histogram_error(&o->histogram, codes, (double)scale, zero_point);
}

/* The ranges that are compared: each end is a part of the whole. */
typedef struct search {
    const qd_observer *o;
    const qd_code_range *codes;
    float whole[2]; /* both ends; of a symmetric range the first is unused */
    float min, max; /* the best so far */
    double least;
} search;

static void try_range(search *s, float min, float max) {
    if (s->codes->symmetric) min = -max;
    const double error = error_of(s->o, s->codes, min, max);
    if (!(error < s->least)) return;
    s->least = error;
    s->min = min;
    s->max = max;
}

/* The best of a coarse grid, and from there one end at a time in smaller steps, as long as the error becomes less. */
static void find_best_range(const qd_observer *o, const qd_code_range *codes, float *min, float *max) {
    enum { COARSE = 20, PARTS = 128, MOST_TURNS = 8 };
    search s = {o, codes, {*min, *max}, *min, *max, INFINITY};
    if (codes->symmetric) s.whole[1] = fmaxf(-*min, *max);
    try_range(&s, s.whole[0], s.whole[1]);
    for (int i = 1; i <= COARSE; i++) {
        for (int j = 1; j <= (codes->symmetric ? 1 : COARSE); j++)
            try_range(&s, s.whole[0] * (float)j / COARSE, s.whole[1] * (float)i / COARSE);
    }
    double before = INFINITY;
    for (int turn = 0; s.least < before && turn < MOST_TURNS; turn++) {
        before = s.least;
        for (int part = 1; part <= PARTS && !codes->symmetric; part++)
            try_range(&s, s.whole[0] * (float)part / PARTS, s.max);
        for (int part = 1; part <= PARTS; part++)
            try_range(&s, s.min, s.whole[1] * (float)part / PARTS);
    }
    *min = s.min;
    *max = s.max;
}

/* Within what was seen: a bin reaches farther. */
static float clamp(const qd_observer *o, double x) {
    return fminf(fmaxf((float)x, o->min[0]), o->max[0]);
}

qd_status qd_observer_scale(const qd_observer *o, const qd_code_range *codes, float *scale, int32_t *zero_point,
                            float *min, float *max) {
    qd_status status = check_codes(codes);
    if (status != QD_OK) return status;
    if (!o || !scale || !zero_point)
        return qd_fail(QD_ERR_ARGUMENT, "qd_observer_scale: only the pointers to the range may be NULL");
    if (!o->batches) return qd_fail(QD_ERR_ARGUMENT, "the observer has seen no values: call qd_observer_update first");
    for (int64_t c = 0; c < o->options.channels; c++) {
        if (isfinite(fmaxf(o->max[c], 0) - fminf(o->min[c], 0))) continue;
        return qd_fail(QD_ERR_ARGUMENT, "the range from %g to %g of channel %lld has no scale", (double)o->min[c],
                       (double)o->max[c], (long long)c);
    }
    for (int64_t c = 0; c < o->options.channels; c++) {
        float low = o->min[c], high = o->max[c];
        if (o->options.kind >= QD_OBSERVE_ERROR) find_best_range(o, codes, &low, &high);
        if (o->options.kind == QD_OBSERVE_PERCENTILE) {
            const double cut = (100 - o->options.percentile) / 200;
            low = clamp(o, qd_histogram_quantile(&o->histogram, cut));
            high = clamp(o, qd_histogram_quantile(&o->histogram, 1 - cut));
        }
        choose(codes, low, high, &scale[c], &zero_point[c]);
        if (min) min[c] = low;
        if (max) max[c] = high;
    }
    return QD_OK;
}
