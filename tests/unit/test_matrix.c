/* qd_matrix_quantize: the bytes of the codecs however many threads there are, and a loss that is counted by hand here.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot.h"
#include "unit/gguf_image.h"

#define GOOD(call) ck_assert_msg((call) == QD_OK, "%s", qd_last_message())

enum { ROWS = 700, COLS = 256 }; /* three pieces */

static float *weights(int64_t count, unsigned seed) {
    float *x = malloc((size_t)count * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
        x[i] *= x[i] * x[i];
    }
    return x;
}

static qd_storage storage(const char *name) {
    qd_storage s;
    GOOD(qd_storage_parse(name, &s));
    return s;
}

typedef struct result {
    unsigned char *data;
    float *side;
    size_t bytes, side_bytes;
    qd_loss loss;
} result;

static result make(const qd_matrix *m, const qd_storage *to) {
    result r = {.bytes = (size_t)m->rows * qd_storage_row_bytes(to, m->cols),
                .side_bytes = 4 * (size_t)qd_storage_side_count(to, m->rows, m->cols)};
    r.data = malloc(r.bytes);
    r.side = malloc(r.side_bytes + 1);
    ck_assert(r.data && r.side);
    return r;
}

static void drop(result *r) {
    free(r->data);
    free(r->side);
}

static const char *const targets[] = {"f32",         "f16",         "bf16",      "q8_0",     "q4_0",    "q4_1",
                                      "int8",        "int4-g64",    "int3-asym", "nf4",      "nf4-dq",  "log4",
                                      "fp8_e4m3",    "int4-tensor", "int4-e4m3", "fp4-e8m0", "normal4", "fp4_e3m0",
                                      "kmeans2-row", "kmeans4",     "pq4-d4"};

/* Each target, without and with the importance of columns. */
START_TEST(same_bytes_and_loss) {
    float *x = weights(ROWS * COLS, 1), *y = malloc(sizeof *y * ROWS * COLS), *squares = weights(COLS, 2);
    for (int i = 0; i < COLS; i++)
        squares[i] *= squares[i];
    const float *importance = _i % 2 ? squares : NULL;
    const qd_matrix m = {storage("f32"), ROWS, COLS, x, NULL};
    const qd_storage to = storage(targets[_i / 2]);
    result want = make(&m, &to);
    if (to.format == QD_FORMAT_COUNT) {
        GOOD(qd_coding_quantize(&to.coding, x, ROWS, COLS, importance, want.data, want.side));
        GOOD(qd_coding_dequantize(&to.coding, want.data, want.side, ROWS, COLS, 0, ROWS, y));
    } else {
        GOOD(qd_quantize_weighted(to.format, x, ROWS, COLS, importance, want.data));
        GOOD(qd_dequantize(to.format, want.data, ROWS, COLS, y));
    }
    qd_loss l = {.count = ROWS * COLS};
    for (int i = 0; i < ROWS * COLS; i++) {
        const double a = (double)x[i], b = (double)y[i];
        l.absolute += fabs(a - b);
        l.largest = fmax(l.largest, fabs(a - b));
        l.xx += a * a;
        l.yy += b * b;
        l.xy += a * b;
        l.squares += (a - b) * (a - b);
    }
    for (int threads = 1; threads <= 5; threads += 2) {
        result got = make(&m, &to);
        const qd_quantize_options o = {.importance = importance, .threads = threads};
        GOOD(qd_matrix_quantize(&m, &to, &o, got.data, got.side, &got.loss));
        ck_assert_mem_eq(got.data, want.data, want.bytes);
        ck_assert_mem_eq(got.side, want.side, want.side_bytes);
        if (threads == 1) want.loss = got.loss;
        ck_assert_mem_eq(&got.loss, &want.loss, sizeof want.loss);
        drop(&got);
    }
    ck_assert_double_eq(want.loss.count, l.count);
    ck_assert_double_eq(want.loss.largest, l.largest);
    ck_assert_double_eq_tol(want.loss.absolute, l.absolute, 1e-9 * l.absolute + 1e-30);
    ck_assert_double_eq_tol(want.loss.squares, l.squares, 1e-9 * l.squares + 1e-30);
    ck_assert_double_eq_tol(qd_loss_cosine(&want.loss), l.xy / sqrt(l.xx * l.yy), 1e-9);
    if (l.squares > 0) ck_assert_double_eq_tol(qd_loss_snr(&want.loss), 10 * log10(l.xx / l.squares), 1e-6);
    drop(&want);
    free(x);
    free(y);
    free(squares);
}
END_TEST

/* A block whose step is known: the largest error is exactly half of one, or nearly. */
START_TEST(steps) {
    float x[COLS];
    result r;
    qd_matrix m = {storage("f32"), 1, COLS, x, NULL};
    /* -8 … 7.5 in steps of 1: halves are in the middle. */
    for (int i = 0; i < COLS; i++)
        x[i] = (float)(i % 32) / 2 - 8;
    x[3] = 4.25f;
    qd_storage to = storage("q4_0");
    r = make(&m, &to);
    GOOD(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss));
    ck_assert_double_eq(r.loss.steps, 0.5);
    drop(&r);
    to = storage("int4-g32-f32");
    r = make(&m, &to);
    GOOD(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss));
    ck_assert_double_eq(r.loss.steps, 0.5);
    drop(&r);
    /* 7.5 is cut to 7 in the last group, which is twice as fine. */
    for (int i = 0; i < COLS; i++)
        x[i] /= 2;
    to = storage("int8-row");
    r = make(&m, &to);
    GOOD(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss));
    ck_assert_double_eq_tol(r.loss.steps, r.loss.largest * 127 / 4, 1e-5);
    ck_assert(r.loss.steps > 0.3 && r.loss.steps < 0.501);
    drop(&r);
    /* A table: the mean distance of NF4's values is 2/15 of the scale. */
    to = storage("nf4-row-f32");
    r = make(&m, &to);
    GOOD(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss));
    ck_assert_double_eq_tol(r.loss.steps, r.loss.largest * 15 / 2 / 4, 1e-4);
    drop(&r);
    static const char *const without[] = {"f16", "log4"};
    for (int i = 0; i < 2; i++) {
        to = storage(without[i]);
        r = make(&m, &to);
        GOOD(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss));
        ck_assert_double_nan(r.loss.steps);
        drop(&r);
    }
}
END_TEST

START_TEST(losses_add) {
    qd_loss sum = {0}, plain = {.count = 4, .largest = 2, .steps = (double)NAN, .xx = 1, .squares = 0.01};
    qd_loss_add(&sum, &plain);
    ck_assert_double_nan(sum.steps);
    ck_assert_double_eq_tol(qd_loss_snr(&sum), 20, 1e-9);
    qd_loss_add(&sum, &(qd_loss){.count = 6, .largest = 1, .steps = 0.5, .absolute = 3});
    qd_loss_add(&sum, &plain);
    ck_assert_double_eq(sum.steps, 0.5);
    ck_assert_double_eq(sum.largest, 2);
    ck_assert_double_eq(sum.count, 14);
    ck_assert_double_eq(sum.absolute, 3);
    ck_assert(isinf(qd_loss_snr(&(qd_loss){.xx = 1})));
    ck_assert_double_eq(qd_loss_cosine(&(qd_loss){.xx = 0}), 1);
    ck_assert_double_eq(qd_loss_cosine(&(qd_loss){.xx = 1}), 0);
}
END_TEST

static bool stop_at_half(void *user, double done) {
    *(double *)user = done;
    return done < 0.5;
}

START_TEST(refused) {
    float *x = weights(ROWS * COLS, 2);
    qd_matrix m = {storage("f32"), ROWS, COLS, x, NULL};
    const char *const names[] = {"q4_0", "int4", "nf4-dq", "f32"};
    for (int i = 0; i < 4; i++) {
        const qd_storage to = storage(names[i]);
        const qd_quantize_options o = {.threads = 3};
        result r = make(&m, &to);
        const float kept = x[300 * COLS + 17];
        x[300 * COLS + 17] = (float)NAN;
        x[600 * COLS + 1] = (float)INFINITY;
        EXPECT_STATUS(qd_matrix_quantize(&m, &to, &o, r.data, r.side, &r.loss), QD_ERR_ARGUMENT,
                      "row 300, column 17 is NaN");
        x[300 * COLS + 17] = kept;
        EXPECT_STATUS(qd_matrix_quantize(&m, &to, &o, r.data, r.side, &r.loss), QD_ERR_ARGUMENT,
                      "row 600, column 1 is infinite");
        x[600 * COLS + 1] = 1;
        double told = -1;
        const qd_quantize_options stopping = {.threads = 1, .progress = stop_at_half, .user = &told};
        EXPECT_STATUS(qd_matrix_quantize(&m, &to, &stopping, r.data, r.side, &r.loss), QD_ERR_CANCELLED, "stopped");
        ck_assert(told >= 0.5 && told < 1);
        drop(&r);
    }
    qd_storage to = storage("f16");
    result r = make(&m, &to);
    x[5] = -1e6f;
    EXPECT_STATUS(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss), QD_ERR_ARGUMENT,
                  "row 0, column 5 is -1e+06, which is too large for f16");
    m.cols = 40;
    to = storage("q8_0");
    EXPECT_STATUS(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss), QD_ERR_ARGUMENT,
                  "rows of 40 weights are no whole number of q8_0 blocks of 32");
    to = storage("pq2-d8");
    m.cols = 12;
    EXPECT_STATUS(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "vectors of 8");
    m.rows = 0;
    EXPECT_STATUS(qd_matrix_quantize(&m, &to, NULL, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "a matrix of 0");
    EXPECT_STATUS(qd_matrix_quantize(NULL, &to, NULL, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "must not be NULL");
    qd_storage out;
    EXPECT_STATUS(qd_storage_parse("q4_9", &out), QD_ERR_ARGUMENT, "unknown format \"q4_9\"; known are f32 f16");
    EXPECT_STATUS(qd_storage_parse("a8", &out), QD_ERR_ARGUMENT, "unknown format");
    EXPECT_STATUS(qd_storage_parse("i8", &out), QD_ERR_ARGUMENT, "unknown format");
    drop(&r);
    free(x);
}
END_TEST

START_TEST(no_memory) {
    float *x = weights(ROWS * COLS, 3);
    const qd_matrix m = {storage("f32"), ROWS, COLS, x, NULL};
    const qd_quantize_options o = {.threads = 1};
    for (int i = 0; i < 2; i++) {
        const qd_storage to = storage(i ? "nf4-dq" : "int4");
        result r = make(&m, &to);
        int failures = 0;
        for (long n = 0;; n++) {
            qd_alloc_fail_after(n);
            const qd_status status = qd_matrix_quantize(&m, &to, &o, r.data, r.side, &r.loss);
            qd_alloc_fail_after(-1);
            if (status == QD_OK) break;
            ck_assert_int_eq(status, QD_ERR_MEMORY);
            failures++;
        }
        ck_assert_int_gt(failures, 5);
        drop(&r);
    }
    free(x);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("matrix");
    TCase *c = tcase_create("matrix");
    tcase_set_timeout(c, 120);
    suite_add_tcase(suite, c);
    tcase_add_loop_test(c, same_bytes_and_loss, 0, 2 * (int)(sizeof targets / sizeof targets[0]));
    tcase_add_test(c, steps);
    tcase_add_test(c, losses_add);
    tcase_add_test(c, refused);
    tcase_add_test(c, no_memory);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
