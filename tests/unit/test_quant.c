/* Quantization methods: scales of ranges, observers, fake quantization and its gradients. */
#include <float.h>
#include <math.h>

#include "qdot/qdot_quant.h"
#include "quant/histogram.h"
#include "unit/devices.h"

static const qd_code_range u8 = {0, 255, false}, i8 = {-128, 127, false}, symmetric = {-128, 127, true},
                           unsigned_symmetric = {0, 255, true};

/* ---- Scales ------------------------------------------------------------------------------------------------- */

START_TEST(test_scales) {
    static const struct {
        const qd_code_range *codes;
        float min, max, scale;
        int32_t zero;
    } known[] = {
        {&u8, -1, 254, 1, 1},
        {&u8, 51, 510, 2, 0}, /* 0 is in the range */
        {&u8, -510, -51, 2, 255},
        {&i8, -1, 254, 1, -127},
        {&u8, -2.5f, 252.5f, 1, 2}, /* halves to even */
        {&u8, -1.5f, 253.5f, 1, 2},
        {&symmetric, -3, 255, 2, 0},
        {&symmetric, -255, 3, 2, 0},
        {&unsigned_symmetric, -255, 3, 2, 128},
        {&u8, 0, 0, 0x1p-23f, 0},
        {&symmetric, 0, 0, 0x1p-23f, 0},
        {&i8, -1e-9f, 1e-9f, 0x1p-23f, -128},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        float scale;
        int32_t zero;
        ck_ok(qd_range_scale(known[i].codes, known[i].min, known[i].max, &scale, &zero));
        ck_assert_msg(scale == known[i].scale && zero == known[i].zero, "%d: %g, %d", (int)i, (double)scale, zero);
    }
    float scale = 7;
    int32_t zero = 7;
    ck_fails(qd_range_scale(&u8, 1, -1, &scale, &zero), QD_ERR_ARGUMENT, "from 1 to -1");
    ck_fails(qd_range_scale(&u8, NAN, 1, &scale, &zero), QD_ERR_ARGUMENT, "has no scale");
    ck_fails(qd_range_scale(&u8, 0, INFINITY, &scale, &zero), QD_ERR_ARGUMENT, "has no scale");
    ck_fails(qd_range_scale(&u8, -FLT_MAX, FLT_MAX, &scale, &zero), QD_ERR_ARGUMENT, "has no scale");
    ck_fails(qd_range_scale(NULL, 0, 1, &scale, &zero), QD_ERR_ARGUMENT, "qmin < qmax");
    ck_fails(qd_range_scale(&(qd_code_range){5, 5, false}, 0, 1, &scale, &zero), QD_ERR_ARGUMENT, "from 5 to 5");
    ck_fails(qd_range_scale(&(qd_code_range){0, INT32_MAX, false}, 0, 1, &scale, &zero), QD_ERR_ARGUMENT, "2^24");
    ck_fails(qd_range_scale(&u8, 0, 1, NULL, &zero), QD_ERR_ARGUMENT, "NULL");
    ck_assert(scale == 7 && zero == 7);
}
END_TEST

/* ---- Observers ---------------------------------------------------------------------------------------------- */

static qd_observer *make(qd_observe kind, int64_t channels) {
    const qd_observer_options options = {.kind = kind, .channels = channels};
    qd_observer *o = NULL;
    ck_ok(qd_observer_create(&options, &o));
    return o;
}

START_TEST(test_min_max) {
    static const float first[] = {1, 2, -3, 4, 5, 6}, second[] = {-1, 0, 0, 8, 0, 0};
    float scale[2], min[2], max[2];
    int32_t zero[2];
    qd_observer *o = make(QD_OBSERVE_MINMAX, 2);
    ck_fails(qd_observer_scale(o, &u8, scale, zero, min, max), QD_ERR_ARGUMENT, "has seen no values");
    ck_ok(qd_observer_update(o, first, 1, 3));  /* two channels of 3 */
    ck_ok(qd_observer_update(o, second, 3, 1)); /* three times two channels */
    ck_ok(qd_observer_scale(o, &u8, scale, zero, min, max));
    ck_assert(min[0] == -3 && max[0] == 2 && min[1] == 0 && max[1] == 8);
    ck_assert(scale[0] == 5.0f / 255 && zero[0] == 153 && scale[1] == 8.0f / 255 && zero[1] == 0);
    qd_observer_free(o);
    o = make(QD_OBSERVE_AVERAGE, 2);
    ck_ok(qd_observer_update(o, first, 1, 3));
    ck_ok(qd_observer_update(o, second, 3, 1));
    ck_ok(qd_observer_scale(o, &u8, scale, zero, min, max));
    ck_assert(min[0] == -3 + 0.01f * (-1 - -3) && max[1] == 6 + 0.01f * (8 - 6));
    qd_observer_free(o);
}
END_TEST

/* Bins 3, 1, 2, 2 of width 1, codes 0 and 1 of scale 2: the last bin is beyond the codes and counts in the one before.
 * What the values are: 3/8, 1/8, 4/8; what codes tell, code 1 being half of the values within: 1/2, 1/4, 1/4. */
START_TEST(test_divergence) {
    double count[] = {3, 1, 2, 2};
    const qd_histogram h = {.bins = 4, .width = 1, .first = 0, .count = count, .total = 8};
    const double want = 3.0 / 8 * log(3.0 / 4) + 1.0 / 8 * log(1.0 / 2) + 4.0 / 8 * log(2);
    ck_assert_double_eq_tol(qd_histogram_divergence(&h, &(qd_code_range){0, 1, false}, 2, 0), want, 1e-12);
    ck_assert_double_eq(qd_histogram_divergence(&h, &(qd_code_range){0, 15, false}, 0.25, 0),
                        0); /* each bin its code */
    count[2] = 0;           /* only what is beyond would be in it */
    ck_assert_double_infinite(
        qd_histogram_divergence(&(qd_histogram){4, 1, 0, count, 6}, &(qd_code_range){0, 1, false}, 2, 0));
}
END_TEST

/* One value far away widens the range of all codes; the least error and the least divergence do without it. */
START_TEST(test_outlier) {
    enum { N = 20001 };
    static float x[N];
    for (int i = 0; i + 1 < N; i++)
        x[i] = (float)sin(i) * (float)(i % 100) / 100;
    x[N - 1] = 60;
    float scale, max[2];
    int32_t zero;
    for (int i = 0; i < 2; i++) {
        qd_observer *o = make(i ? QD_OBSERVE_ENTROPY : QD_OBSERVE_MINMAX, 1);
        ck_ok(qd_observer_update(o, x, 1, N));
        ck_ok(qd_observer_scale(o, &u8, &scale, &zero, NULL, &max[i]));
        qd_observer_free(o);
    }
    ck_assert(max[0] == 60);
    ck_assert_msg(max[1] < 12 && max[1] > 0.5f, "%g", (double)max[1]);
}
END_TEST

/* A refused batch does not count. */
START_TEST(test_refused_batches) {
    float x[4] = {1, 2, 3, NAN}, scale, min, max;
    int32_t zero;
    for (int kind = QD_OBSERVE_MINMAX; kind <= QD_OBSERVE_ENTROPY; kind++) {
        qd_observer *o = make((qd_observe)kind, 1);
        x[3] = 100;
        ck_ok(qd_observer_update(o, x, 1, 3));
        x[3] = NAN;
        ck_fails(qd_observer_update(o, x, 1, 4), QD_ERR_ARGUMENT, "not finite");
        x[3] = -INFINITY;
        ck_fails(qd_observer_update(o, x, 1, 4), QD_ERR_ARGUMENT, "not finite");
        ck_fails(qd_observer_update(o, NULL, 1, 4), QD_ERR_ARGUMENT, "batch");
        ck_fails(qd_observer_update(o, x, 0, 4), QD_ERR_ARGUMENT, "0 × 4");
        ck_fails(qd_observer_update(o, x, INT64_MAX, 4), QD_ERR_ARGUMENT, "× 4");
        ck_fails(qd_observer_update(NULL, x, 1, 4), QD_ERR_ARGUMENT, "batch");
        ck_ok(qd_observer_scale(o, &u8, &scale, &zero, &min, &max));
        ck_assert_msg(max <= 3 && max > 2.9f && min < 1.01f, "kind %d: %g to %g", kind, (double)min, (double)max);
        ck_fails(qd_observer_scale(o, &u8, NULL, &zero, NULL, NULL), QD_ERR_ARGUMENT, "NULL");
        ck_fails(qd_observer_scale(o, NULL, &scale, &zero, NULL, NULL), QD_ERR_ARGUMENT, "qmin < qmax");
        ck_ok(qd_observer_scale(o, &u8, &scale, &zero, NULL, NULL));
        qd_observer_free(o);
    }
    static const qd_observer_options wrong[] = {
        {.kind = (qd_observe)9}, {.channels = -1}, {.kind = QD_OBSERVE_ERROR, .channels = 2},
        {.averaging = -1},       {.averaging = 2}, {.percentile = 101},
        {.percentile = -1},      {.bins = 8},      {.bins = 1 << 21},
    };
    qd_observer *o = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        ck_fails(qd_observer_create(&wrong[i], &o), QD_ERR_ARGUMENT, "qdot_quant.h");
    ck_fails(qd_observer_create(NULL, NULL), QD_ERR_ARGUMENT, "qdot_quant.h");
    const qd_observer_options histogram = {.kind = QD_OBSERVE_ERROR};
    for (int n = 0; n < 3; n++) {
        qd_alloc_fail_after(n);
        const qd_status status = qd_observer_create(&histogram, &o);
        qd_alloc_fail_after(-1);
        ck_assert_int_eq(status, QD_ERR_MEMORY);
    }
    ck_assert_ptr_null(o);
    qd_observer_free(NULL);
}
END_TEST

/* Percentiles are those of the sorted values, to within two bins, whatever the order and the size of the batches. */
START_TEST(test_percentile) {
    enum { N = 20000 };
    static float x[N];
    uint32_t rng = 77;
    for (int i = 0; i < N; i++)
        x[i] = (float)random_between(&rng, 0, 1 << 20) * 0x1p-20f * 8 - 2; /* from -2 to 6 */
    x[500] = 900;                                                          /* far away: the bins become wider */
    for (int order = 0; order < 2; order++) {
        const qd_observer_options options = {.kind = QD_OBSERVE_PERCENTILE, .percentile = 90, .bins = 1 << 16};
        float scale, min, max;
        int32_t zero;
        qd_observer *o;
        ck_ok(qd_observer_create(&options, &o));
        for (int i = 0; i < N; i += 1000)
            ck_ok(qd_observer_update(o, x + (order ? N - 1000 - i : i), 1, 1000));
        ck_ok(qd_observer_scale(o, &u8, &scale, &zero, &min, &max));
        /* 5 % of 8 from each end. */
        ck_assert_msg(fabsf(min + 1.6f) < 0.08f && fabsf(max - 5.6f) < 0.08f, "%g to %g", (double)min, (double)max);
        static float first[2];
        if (!order) first[0] = min, first[1] = max;
        ck_assert(min == first[0] && max == first[1]);
        qd_observer_free(o);
    }
}
END_TEST

static double error_of(const float *x, int n, const qd_code_range *codes, float scale, int32_t zero) {
    const qd_fake_quant f = {1, 1, n, codes->qmin, codes->qmax};
    float *y = malloc((size_t)n * sizeof *y);
    double error = 0;
    ck_assert_ptr_nonnull(y);
    ck_ok(qd_fake_quantize(&f, x, &scale, &zero, y, NULL));
    for (int i = 0; i < n; i++)
        error += (double)(y[i] - x[i]) * (double)(y[i] - x[i]) / n;
    free(y);
    return error;
}

/* With few codes, the tails are cut off: close to the best range of a search, and far better than all of it. */
START_TEST(test_least_error) {
    enum { N = 8192 };
    static float x[N];
    uint32_t rng = 13;
    for (int i = 0; i < N; i++) {
        const double u = ((double)random_bits(&rng) + 1) / 0x1p24;
        x[i] = (float)(log(u) * (random_bits(&rng) & 1 ? 1 : -0.5)); /* Laplace, one side wider */
    }
    static const qd_code_range ranges[] = {{0, 15, false}, {-8, 7, false}, {-8, 7, true}, {0, 3, false}};
    for (int r = 0; r < 4; r++) {
        qd_observer *o = make(QD_OBSERVE_ERROR, 1), *all = make(QD_OBSERVE_MINMAX, 1);
        float scale, min, max, low, high;
        int32_t zero;
        ck_ok(qd_observer_update(o, x, 1, N));
        ck_ok(qd_observer_update(all, x, 1, N));
        ck_ok(qd_observer_scale(all, &ranges[r], &scale, &zero, &low, &high));
        const double whole = error_of(x, N, &ranges[r], scale, zero);
        ck_ok(qd_observer_scale(o, &ranges[r], &scale, &zero, &min, &max));
        const double got = error_of(x, N, &ranges[r], scale, zero);
        if (ranges[r].symmetric) ck_assert(min == -max);
        double best = INFINITY;
        for (int i = 1; i <= 40; i++) {
            for (int j = 1; j <= 40; j++) {
                ck_ok(qd_range_scale(&ranges[r], low * (float)i / 40, high * (float)j / 40, &scale, &zero));
                best = fmin(best, error_of(x, N, &ranges[r], scale, zero));
            }
        }
        ck_assert_msg(got < 1.03 * best && got < 0.7 * whole, "%d: %g; best %g, whole %g", r, got, best, whole);
        qd_observer_free(o);
        qd_observer_free(all);
    }
}
END_TEST

/* Widening bins: from the least denormal number to the largest values, and back. */
START_TEST(test_wide_histogram) {
    static const float batches[][3] = {{0, 0, 0},          {0x1p-149f, 0, -0x1p-149f}, {1, -1, 0.5f},
                                       {-1e6f, 3, 1e-30f}, {1e38f, 1e37f, -1e38f},     {0, 5, -5}};
    for (int kind = QD_OBSERVE_PERCENTILE; kind <= QD_OBSERVE_ENTROPY; kind++) {
        qd_observer *o = make((qd_observe)kind, 1);
        float scale, min, max;
        int32_t zero;
        for (int b = 0; b < 6; b++) {
            ck_ok(qd_observer_update(o, batches[b], 3, 1));
            ck_ok(qd_observer_scale(o, &i8, &scale, &zero, &min, &max));
            ck_assert(min <= max && scale > 0);
        }
        ck_assert(max > 0.9e38f && min < -0.9e38f);
        qd_observer_free(o);
    }
}
END_TEST

/* ---- Fake quantization -------------------------------------------------------------------------------------- */

START_TEST(test_fake_quantize) {
    /* scale 1, zero point 2, codes 0 … 7: values from -2 to 5; -2.5 rounds to -2, 5.5 to 6. */
    static const float x[] = {-2.5f, -2.6f, 5.4f, 5.5f, 0.5f, 1.5f, INFINITY, -INFINITY, NAN, 1e30f};
    static const float want[] = {-2, -2, 5, 5, 0, 2, 5, -2, 0, 5};
    static const uint8_t inside[] = {1, 0, 1, 0, 1, 1, 0, 0, 0, 0};
    const qd_fake_quant f = {1, 1, 10, 0, 7};
    const float scale = 1;
    const int32_t zero = 2;
    float y[10], dx[10];
    uint8_t mask[10];
    ck_ok(qd_fake_quantize(&f, x, &scale, &zero, y, mask));
    for (int i = 0; i < 10; i++) {
        ck_assert(i == 8 ? isnan(y[i]) : y[i] == want[i]);
        ck_assert_int_eq(mask[i], inside[i]);
    }
    ck_ok(qd_fake_quantize_backward(mask, want, 10, dx));
    for (int i = 0; i < 10; i++)
        ck_assert(dx[i] == (inside[i] ? want[i] : 0));
    /* Channels in the middle, and in place. */
    const qd_fake_quant channels = {2, 2, 2, -4, 3};
    const float scales[] = {1, 0.5f};
    const int32_t zeros[] = {0, -1};
    float z[] = {0.6f, 9, 0.6f, 9, -9, -0.6f, -9, -0.6f};
    static const float rows[] = {1, 3, 0.5f, 2, -4, -1, -1.5f, -0.5f};
    ck_ok(qd_fake_quantize(&channels, z, scales, zeros, z, NULL));
    for (int i = 0; i < 8; i++)
        ck_assert_msg(z[i] == rows[i], "%d: %g", i, (double)z[i]);
}
END_TEST

/* The learned gradients are the slopes of what straight-through rounding means: the rounding error taken as constant.
 */
START_TEST(test_learned) {
    enum { N = 50 };
    float x[N], dy[N], y[N], dx[N], dscale[2], dzero[2];
    uint32_t rng = 29;
    random_floats(&rng, x, N);
    random_floats(&rng, dy, N);
    const qd_fake_quant f = {5, 2, 5, -8, 7};
    const float scale[] = {0.11f, 0.3f}, zero[] = {1.4f, -20};
    static const float rounded[] = {1, -8};
    ck_ok(qd_fake_quantize_learn(&f, x, scale, zero, dy, 0.5f, y, dx, dscale, dzero));
    double want_scale[2] = {0}, want_zero[2] = {0};
    int outside = 0;
    for (int i = 0; i < N; i++) {
        const int c = i / 5 % 2;
        const double s = (double)scale[c], z = (double)rounded[c], q = rint((double)(x[i] * (1 / scale[c]))) + z;
        const double bound = fmin(fmax(q, -8), 7);
        const bool within = q == bound;
        ck_assert(y[i] == (float)(bound - z) * scale[c]);
        ck_assert(dx[i] == (within ? dy[i] : 0));
        /* y = s · (x / s + error), error fixed; beyond the ends y = s · (bound - z). */
        want_scale[c] += 0.5 * (double)dy[i] * (within ? rint((double)x[i] / s) - (double)x[i] / s : bound - z);
        want_zero[c] += within ? 0 : -0.5 * (double)dy[i] * s;
        outside += !within;
    }
    ck_assert(outside > 5 && outside < N - 5);
    for (int c = 0; c < 2; c++) {
        ck_assert_double_eq_tol((double)dscale[c], want_scale[c], 1e-4);
        ck_assert_double_eq_tol((double)dzero[c], want_zero[c], 1e-5);
    }
    ck_ok(qd_fake_quantize_learn(&f, x, scale, zero, dy, 1, NULL, NULL, NULL, NULL));
    x[7] = NAN;
    y[0] = 77;
    ck_fails(qd_fake_quantize_learn(&f, x, scale, zero, dy, 1, y, NULL, NULL, NULL), QD_ERR_ARGUMENT, "NaN");
    ck_assert(y[0] == 77);
}
END_TEST

START_TEST(test_refused) {
    float x[4] = {0}, y[4] = {7}, scale = 1;
    int32_t zero = 0;
    uint8_t mask[4];
    const qd_fake_quant f = {1, 1, 4, 0, 7};
    static const qd_fake_quant wrong[] = {{-1, 1, 4, 0, 7}, {1, 0, 4, 0, 7},       {1, 1, -4, 0, 7},
                                          {1, 1, 4, 7, 7},  {1, 1, 4, 0, 1 << 25}, {INT64_MAX, 1, 4, 0, 7}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        ck_fails(qd_fake_quantize(&wrong[i], x, &scale, &zero, y, mask), QD_ERR_ARGUMENT, "qmin < qmax");
    ck_fails(qd_fake_quantize(&f, NULL, &scale, &zero, y, mask), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_fake_quantize(&f, x, NULL, &zero, y, mask), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_fake_quantize(&f, x, &scale, &zero, NULL, mask), QD_ERR_ARGUMENT, "NULL");
    static const float scales[] = {0, -1, NAN, INFINITY, 0x1p-140f};
    for (int i = 0; i < 5; i++)
        ck_fails(qd_fake_quantize(&f, x, &scales[i], &zero, y, mask), QD_ERR_ARGUMENT, "must be positive");
    zero = 8;
    ck_fails(qd_fake_quantize(&f, x, &scale, &zero, y, mask), QD_ERR_ARGUMENT, "zero point 0 is 8");
    ck_fails(qd_fake_quantize_backward(mask, NULL, 4, y), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_fake_quantize_backward(mask, x, -4, y), QD_ERR_ARGUMENT, "-4 values");
    ck_assert(y[0] == 7);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("quant");
    tcase_add_test(tc, test_scales);
    tcase_add_test(tc, test_min_max);
    tcase_add_test(tc, test_divergence);
    tcase_add_test(tc, test_outlier);
    tcase_add_test(tc, test_refused_batches);
    tcase_add_test(tc, test_percentile);
    tcase_add_test(tc, test_least_error);
    tcase_add_test(tc, test_wide_histogram);
    tcase_add_test(tc, test_fake_quantize);
    tcase_add_test(tc, test_learned);
    tcase_add_test(tc, test_refused);
    return run_tests(tc, "quantization methods");
}
