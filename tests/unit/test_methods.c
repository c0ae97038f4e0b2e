/* GPTQ, SmoothQuant and AWQ: codes and factors against a computation with numpy (methods_expected.py), and what follows
 * from the definitions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "formats/coding.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_methods.h"
#include "unit/devices.h"
#include "unit/methods_expected.h"

static float number(unsigned *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

static float *floats(int64_t n) {
    float *x = calloc((size_t)n, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

static float *weights(unsigned *seed, int rows, int cols) {
    float *w = floats(rows * cols);
    for (int i = 0; i < rows * cols; i++) {
        const float v = number(seed);
        w[i] = v * v * v;
    }
    return w;
}

/* Each column depends on the one before; their sizes differ. Column `dead` is 0. */
static float *activations(unsigned *seed, int rows, int cols, int dead) {
    float *x = floats(rows * cols);
    for (int t = 0; t < rows; t++) {
        float last = 0;
        for (int k = 0; k < cols; k++) {
            last = number(seed) + last * 0.75f;
            x[t * cols + k] = k == dead ? 0 : ldexpf(last, k * 7 % 5 - 2);
        }
    }
    return x;
}

static qd_storage storage(const char *name) {
    qd_storage s;
    ck_ok(qd_storage_parse(name, &s));
    return s;
}

static double *hessian_of(const float *x, int rows, int cols, int threads) {
    double *h = calloc((size_t)qd_hessian_count(cols), sizeof *h);
    ck_assert_ptr_nonnull(h);
    ck_ok(qd_hessian_add(h, cols, x, rows, threads));
    return h;
}

/* Stored weights. */
typedef struct stored {
    unsigned char *data;
    float *side, *values;
    size_t bytes;
    qd_loss loss;
} stored;

static stored room_for(const qd_storage *s, int rows, int cols) {
    stored r = {.bytes = (size_t)rows * qd_storage_row_bytes(s, cols)};
    r.data = calloc(r.bytes, 1);
    r.side = floats(qd_storage_side_count(s, rows, cols) + 1);
    r.values = floats(rows * cols);
    return r;
}

static void drop(stored *r) {
    free(r->data);
    free(r->side);
    free(r->values);
}

static void decode(const qd_storage *s, int rows, int cols, stored *r) {
    if (s->format == QD_FORMAT_COUNT) {
        ck_ok(qd_coding_dequantize(&s->coding, r->data, r->side, rows, cols, 0, rows, r->values));
    } else {
        ck_ok(qd_dequantize(s->format, r->data, rows, cols, r->values));
    }
}

/* A code, by the byte specifications. */
static int code_at(const qd_storage *s, const stored *r, int cols, int row, int k) {
    const unsigned char *bytes = r->data + (size_t)row * qd_storage_row_bytes(s, cols);
    if (s->format == QD_FORMAT_COUNT) {
        qd_coded_params p;
        ck_ok(qd_coding_layout(&s->coding, row + 1, cols, &p));
        return qd_coded_code(&(qd_coded_row){&p, bytes, r->side, row}, k);
    }
    if (s->format == QD_FORMAT_Q8_0) return (int8_t)bytes[k / 32 * 34 + 2 + k % 32];
    const int block = s->format == QD_FORMAT_Q4_0 ? 18 : 20;
    const unsigned char *q = bytes + k / 32 * block + (block - 16);
    return k % 32 < 16 ? q[k % 32] & 15 : q[k % 32 - 16] >> 4;
}

START_TEST(gptq_codes) {
    for (size_t i = 0; i < sizeof gptq_cases / sizeof gptq_cases[0]; i++) {
        const int rows = gptq_cases[i].rows, cols = gptq_cases[i].cols;
        unsigned seed = gptq_cases[i].seed;
        float *w = weights(&seed, rows, cols);
        float *x = activations(&seed, gptq_cases[i].samples, cols, gptq_cases[i].dead);
        double *h = hessian_of(x, gptq_cases[i].samples, cols, 0);
        const qd_storage s = storage(gptq_cases[i].name);
        const qd_gptq_options o = {.act_order = gptq_cases[i].act_order, .damping = gptq_cases[i].damping};
        stored r = room_for(&s, rows, cols);
        ck_assert(qd_gptq_takes(&s));
        ck_ok(qd_gptq(w, rows, cols, h, &s, &o, r.data, r.side, &r.loss));
        for (int k = 0; k < rows * cols; k++) {
            const char digits[3] = {gptq_cases[i].codes[2 * k], gptq_cases[i].codes[2 * k + 1], 0};
            const int wanted = (int)strtol(digits, NULL, 16) - 128, got = code_at(&s, &r, cols, k / cols, k % cols);
            ck_assert_msg(got == wanted, "%s, case %zu, row %d, column %d: %d, not %d", gptq_cases[i].name, i, k / cols,
                          k % cols, got, wanted);
        }
        /* The loss is that of what was written. */
        double squares = 0;
        decode(&s, rows, cols, &r);
        for (int k = 0; k < rows * cols; k++)
            squares += pow((double)w[k] - (double)r.values[k], 2);
        ck_assert_double_eq_tol(r.loss.squares, squares, 1e-9 * squares);
        drop(&r);
        free(w);
        free(x);
        free(h);
    }
}
END_TEST

/* Mean squared error of the outputs. */
static double output_error(const float *w, const float *y, const float *x, int rows, int cols, int samples) {
    double sum = 0;
    for (int t = 0; t < samples; t++) {
        for (int r = 0; r < rows; r++) {
            double e = 0;
            for (int k = 0; k < cols; k++)
                e += ((double)w[r * cols + k] - (double)y[r * cols + k]) * (double)x[t * cols + k];
            sum += e * e;
        }
    }
    return sum;
}

/* Better outputs than by rounding to the nearest, for every kind of target and any number of threads. */
START_TEST(gptq_is_better) {
    static const char *const names[] = {"int4-g64", "int3-g32-f32", "int8-g32",  "int4-row-asym", "int4-tensor",
                                        "int4-dq",  "int4-e4m3",    "int4-e8m0", "ternary",       "int5-g48",
                                        "q4_0",     "q4_1",         "q8_0"};
    enum { ROWS = 40, COLS = 192, SAMPLES = 300 };
    unsigned seed = 50;
    float *w = weights(&seed, ROWS, COLS), *x = activations(&seed, SAMPLES, COLS, 11);
    double *h = hessian_of(x, SAMPLES, COLS, 1), *again = hessian_of(x, SAMPLES, COLS, 5);
    const qd_matrix m = {{.format = QD_FORMAT_F32}, ROWS, COLS, w, NULL};
    ck_assert_mem_eq(h, again, (size_t)qd_hessian_count(COLS) * sizeof *h);
    for (int k = 0; k < COLS; k++) { /* against the definition */
        double sum = 0;
        for (int t = 0; t < SAMPLES; t++)
            sum += (double)x[t * COLS] * (double)x[t * COLS + k];
        ck_assert_double_eq_tol(h[k], sum, 1e-4);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const qd_storage s = storage(names[i]);
        stored nearest = room_for(&s, ROWS, COLS);
        ck_ok(qd_matrix_quantize(&m, &s, NULL, nearest.data, nearest.side, &nearest.loss));
        decode(&s, ROWS, COLS, &nearest);
        const double before = output_error(w, nearest.values, x, ROWS, COLS, SAMPLES);
        for (int act_order = 0; act_order < 2; act_order++) {
            stored r = room_for(&s, ROWS, COLS), one = room_for(&s, ROWS, COLS);
            const qd_gptq_options many = {.act_order = act_order, .damping = 0.01, .threads = 3},
                                  single = {.act_order = act_order, .damping = 0.01, .threads = 1};
            ck_ok(qd_gptq(w, ROWS, COLS, h, &s, &many, r.data, r.side, &r.loss));
            ck_ok(qd_gptq(w, ROWS, COLS, h, &s, &single, one.data, one.side, &one.loss));
            ck_assert_mem_eq(r.data, one.data, r.bytes);
            decode(&s, ROWS, COLS, &r);
            const double after = output_error(w, r.values, x, ROWS, COLS, SAMPLES);
            ck_assert_msg(after < 0.8 * before, "%s, act-order %d: %g where rounding has %g", names[i], act_order,
                          after, before);
            drop(&r);
            drop(&one);
        }
        drop(&nearest);
    }
    free(w);
    free(x);
    free(h);
    free(again);
}
END_TEST

/* Where inputs do not correlate, nothing can be made good. */
START_TEST(gptq_of_a_diagonal) {
    enum { ROWS = 5, COLS = 64 };
    unsigned seed = 51;
    float *w = weights(&seed, ROWS, COLS);
    double h[COLS * (COLS + 1) / 2] = {0};
    for (int k = 0, at = 0; k < COLS; at += COLS - k++)
        h[at] = 1 + k % 3;
    const qd_matrix m = {{.format = QD_FORMAT_F32}, ROWS, COLS, w, NULL};
    const qd_storage s = storage("int4-g32-asym");
    stored a = room_for(&s, ROWS, COLS), b = room_for(&s, ROWS, COLS);
    ck_ok(qd_matrix_quantize(&m, &s, NULL, a.data, a.side, &a.loss));
    ck_ok(qd_gptq(w, ROWS, COLS, h, &s, NULL, b.data, b.side, &b.loss));
    ck_assert_mem_eq(a.data, b.data, a.bytes);
    ck_assert_double_eq(a.loss.squares, b.loss.squares);
    drop(&a);
    drop(&b);
    free(w);
}
END_TEST

static bool stop(void *user, double done) {
    *(double *)user = done;
    return false;
}

START_TEST(gptq_refuses) {
    enum { ROWS = 3, COLS = 64 };
    unsigned seed = 52;
    float *w = weights(&seed, ROWS, COLS), *x = activations(&seed, COLS, COLS, -1);
    double *h = hessian_of(x, COLS / 2, COLS, 0); /* fewer samples than columns */
    const qd_storage s = storage("int4"), table = storage("nf4"), plain = storage("f16");
    stored r = room_for(&s, ROWS, COLS);
    double told = -1;
    qd_gptq_options o = {.damping = 0};
    ck_fails(qd_gptq(w, ROWS, COLS, h, &s, &o, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "singular");
    o.damping = 0.01;
    ck_ok(qd_gptq(w, ROWS, COLS, h, &s, &o, r.data, r.side, &r.loss));
    ck_fails(qd_gptq(w, ROWS, COLS, h, &table, &o, r.data, r.side, &r.loss), QD_ERR_UNSUPPORTED, "not nf4");
    ck_fails(qd_gptq(w, ROWS, COLS, h, &plain, &o, r.data, r.side, &r.loss), QD_ERR_UNSUPPORTED, "not f16");
    ck_assert(!qd_gptq_takes(&table) && !qd_gptq_takes(&plain));
    o.progress = stop;
    o.user = &told;
    ck_fails(qd_gptq(w, ROWS, COLS, h, &s, &o, r.data, r.side, &r.loss), QD_ERR_CANCELLED, "stopped");
    ck_assert_double_eq(told, 0);
    o.progress = NULL;
    o.damping = -1;
    ck_fails(qd_gptq(w, ROWS, COLS, h, &s, &o, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "damping -1");
    o.damping = 0.01;
    ck_fails(qd_gptq(w, 0, COLS, h, &s, &o, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "0 × 64");
    ck_fails(qd_gptq(NULL, ROWS, COLS, h, &s, &o, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "NULL");
    w[COLS + 2] = INFINITY;
    ck_fails(qd_gptq(w, ROWS, COLS, h, &s, &o, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "row 1, column 2");
    w[COLS + 2] = 0;
    h[7] = (double)NAN;
    ck_fails(qd_gptq(w, ROWS, COLS, h, &s, &o, r.data, r.side, &r.loss), QD_ERR_ARGUMENT, "not finite");
    x[2 * COLS + 9] = NAN;
    ck_fails(qd_hessian_add(h, COLS, x, 3, 0), QD_ERR_ARGUMENT, "column 9 of the activations is NaN");
    ck_fails(qd_hessian_add(h, 0, x, 3, 0), QD_ERR_ARGUMENT, "3 × 0");
    ck_assert_int_eq(qd_hessian_count(0), 0);
    drop(&r);
    free(w);
    free(x);
    free(h);
}
END_TEST

/* ---- Factors ------------------------------------------------------------------------------------------------ */

START_TEST(smooth) {
    unsigned seed = SMOOTH_SEED;
    float *w = weights(&seed, SMOOTH_ROWS, SMOOTH_COLS);
    float *x = activations(&seed, SMOOTH_SAMPLES, SMOOTH_COLS, SMOOTH_DEAD);
    float w_max[SMOOTH_COLS] = {0}, x_max[SMOOTH_COLS] = {0}, s[SMOOTH_COLS];
    for (int r = 0; r < SMOOTH_ROWS; r++)
        w[r * SMOOTH_COLS + SMOOTH_ZERO] = 0;
    const qd_matrix wm = {{.format = QD_FORMAT_F32}, SMOOTH_ROWS, SMOOTH_COLS, w, NULL},
                    xm = {{.format = QD_FORMAT_F32}, SMOOTH_SAMPLES, SMOOTH_COLS, x, NULL};
    ck_ok(qd_column_absmax(&wm, w_max));
    ck_ok(qd_column_absmax(&xm, x_max));
    for (int i = 0; i < 2; i++) {
        ck_ok(qd_smooth_factors(x_max, w_max, SMOOTH_COLS, smooth_alphas[i], s));
        for (int k = 0; k < SMOOTH_COLS; k++)
            ck_assert_double_eq_tol((double)s[k], smooth_factors[i][k], 1e-6 * smooth_factors[i][k]);
    }
    ck_fails(qd_smooth_factors(x_max, w_max, SMOOTH_COLS, 1.5, s), QD_ERR_ARGUMENT, "alpha 1.5");
    x_max[3] = NAN;
    ck_fails(qd_smooth_factors(x_max, w_max, SMOOTH_COLS, 0.5, s), QD_ERR_ARGUMENT, "column 3");
    w[4] = NAN;
    ck_fails(qd_column_absmax(&wm, w_max), QD_ERR_ARGUMENT, "row 0, column 4 is NaN");
    ck_fails(qd_column_absmax(NULL, w_max), QD_ERR_ARGUMENT, "NULL");
    free(w);
    free(x);
}
END_TEST

START_TEST(awq) {
    for (size_t i = 0; i < sizeof awq_cases / sizeof awq_cases[0]; i++) {
        const int rows = awq_cases[i].rows, cols = awq_cases[i].cols, samples = awq_cases[i].samples;
        unsigned seed = awq_cases[i].seed;
        float *w = weights(&seed, rows, cols), *x = activations(&seed, samples, cols, awq_cases[i].dead);
        float mean_abs[64], s[64];
        double mean_square[64] = {0};
        for (int t = 0; t < samples; t++)
            x[t * cols + 1] = ldexpf(x[t * cols + 1], -40);
        for (int k = 0; k < cols; k++) {
            double sum = 0;
            for (int t = 0; t < samples; t++) {
                sum += fabs((double)x[t * cols + k]) / samples;
                mean_square[k] += (double)x[t * cols + k] * (double)x[t * cols + k] / samples;
            }
            mean_abs[k] = (float)sum;
        }
        /* One matrix, or its halves side by side: the same. */
        const qd_storage to = storage(awq_cases[i].name);
        const qd_storage *const both[] = {&to, &to};
        const qd_matrix whole = {{.format = QD_FORMAT_F32}, rows, cols, w, NULL},
                        first = {{.format = QD_FORMAT_F32}, rows / 2, cols, w, NULL},
                        second = {{.format = QD_FORMAT_F32}, rows / 2, cols, w + rows / 2 * cols, NULL};
        const qd_matrix *const halves[] = {&first, &second}, *const one = &whole;
        for (int n = 1; n <= 2; n++) {
            qd_awq_result r;
            const qd_awq_options o = {.threads = n};
            ck_ok(qd_awq_factors(n == 1 ? &one : halves, both, n, mean_abs, mean_square, &o, s, &r));
            ck_assert_double_eq_tol(r.alpha, awq_cases[i].alpha, 1e-12);
            ck_assert_double_eq_tol(r.error, awq_cases[i].error, 1e-4 * awq_cases[i].error);
            ck_assert_double_eq_tol(r.before, awq_cases[i].before, 1e-4 * awq_cases[i].before);
            for (int k = 0; k < cols; k++)
                ck_assert_double_eq_tol((double)s[k], awq_cases[i].factors[k], 1e-6 * awq_cases[i].factors[k]);
        }
        const qd_awq_options fewer = {.rows = 5, .weighed = true}, wrong = {.points = -1};
        ck_ok(qd_awq_factors(&one, both, 1, mean_abs, mean_square, &fewer, s, NULL));
        ck_fails(qd_awq_factors(&one, both, 1, mean_abs, mean_square, &wrong, s, NULL), QD_ERR_ARGUMENT, "-1 points");
        double told = -1;
        const qd_awq_options stopped = {.progress = stop, .user = &told};
        ck_fails(qd_awq_factors(&one, both, 1, mean_abs, mean_square, &stopped, s, NULL), QD_ERR_CANCELLED, "stopped");
        mean_abs[6] = INFINITY;
        ck_fails(qd_awq_factors(&one, both, 1, mean_abs, mean_square, NULL, s, NULL), QD_ERR_ARGUMENT, "column 6");
        free(w);
        free(x);
    }
}
END_TEST

/* Memory that runs out ends in a status, wherever it does. */
START_TEST(out_of_memory) {
    enum { ROWS = 20, COLS = 64 };
    unsigned seed = 53;
    float *w = weights(&seed, ROWS, COLS), *x = activations(&seed, 100, COLS, -1), s[COLS], mean_abs[COLS];
    double *h = hessian_of(x, 100, COLS, 0), mean_square[COLS];
    const qd_storage to = storage("int4-asym"), *const target = &to;
    const qd_matrix m = {{.format = QD_FORMAT_F32}, ROWS, COLS, w, NULL}, *const one = &m;
    const qd_gptq_options g = {.damping = 0.01, .threads = 1};
    const qd_awq_options a = {.points = 2, .threads = 1};
    stored r = room_for(&to, ROWS, COLS);
    for (int k = 0; k < COLS; k++) {
        mean_abs[k] = 1 + (float)k;
        mean_square[k] = 1 + k;
    }
    for (int call = 0; call < 2; call++) {
        qd_status status = QD_ERR_MEMORY;
        int n = 0;
        for (; status && n < 10000; n++) {
            qd_alloc_fail_after(n);
            status = call ? qd_awq_factors(&one, &target, 1, mean_abs, mean_square, &a, s, NULL)
                          : qd_gptq(w, ROWS, COLS, h, &to, &g, r.data, r.side, &r.loss);
            qd_alloc_fail_after(-1);
            ck_assert(status == QD_OK || status == QD_ERR_MEMORY);
        }
        ck_assert(status == QD_OK && n > 8);
    }
    drop(&r);
    free(w);
    free(x);
    free(h);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("methods");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, gptq_codes);
    tcase_add_test(tc, gptq_is_better);
    tcase_add_test(tc, gptq_of_a_diagonal);
    tcase_add_test(tc, gptq_refuses);
    tcase_add_test(tc, smooth);
    tcase_add_test(tc, awq);
    tcase_add_test(tc, out_of_memory);
    return run_tests(tc, "methods");
}
