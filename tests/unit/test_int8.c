/* Int8 matrices with int8 activations: products against those of int8_expected.py, their scales in files, ranges. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/weights.h"
#include "qdot/qdot_calibration.h"
#include "unit/devices.h"
#include "unit/int8_expected.h"

static char path[] = "/tmp/qdot_int8_XXXXXX";
static const char name[] = "blk.0.ffn_down.weight";
static qd_context *context;

enum { OUTLIERS = sizeof outlier_columns / sizeof outlier_columns[0] };

/* A file with one int8 matrix, and with what it reads quantized so, unless scale is 0; with outlier columns, the last
 * of them here, unless that is 0. */
static void write_all(const char *coding, float scale, int32_t zero, int last) {
    uint16_t outliers[N * OUTLIERS];
    const int32_t columns[OUTLIERS] = {outlier_columns[0], last};
    for (int i = 0; i < N * OUTLIERS; i++) {
        const float v = w_values[i / OUTLIERS * K + outlier_columns[i % OUTLIERS]];
        ck_ok(qd_quantize(QD_FORMAT_F16, &v, 1, 1, &outliers[i]));
    }
    qd_gguf_writer *w;
    qd_coding c;
    uint8_t rows[N * (K + 8)];
    float side[64];
    ck_ok(qd_coding_parse(coding, &c));
    ck_assert(sizeof rows >= N * qd_coding_row_bytes(&c, K) && qd_coding_side_count(&c, N, K) <= 64);
    ck_ok(qd_coding_quantize(&c, w_values, N, K, NULL, rows, side));
    ck_ok(qd_gguf_write_create(path, &w));
    ck_ok(qd_gguf_write_string(w, "general.architecture", "llama"));
    if (scale != 0) ck_ok(qd_gguf_write_input(w, name, scale, zero));
    ck_ok(qd_gguf_write_coded(w, name, &c, N, K));
    if (last) ck_ok(qd_gguf_write_outliers(w, name, N, OUTLIERS));
    ck_ok(qd_gguf_write_data(w, rows, N * qd_coding_row_bytes(&c, K)));
    ck_ok(qd_gguf_write_data(w, side, 4 * (size_t)qd_coding_side_count(&c, N, K)));
    if (last) ck_ok(qd_gguf_write_data(w, columns, sizeof columns));
    if (last) ck_ok(qd_gguf_write_data(w, outliers, sizeof outliers));
    ck_ok(qd_gguf_write_finish(w));
    qd_gguf_writer_free(w);
}

static void write_file(const char *coding, float scale, int32_t zero) {
    write_all(coding, scale, zero, 0);
}

static qd_model *model_of(const qd_gguf *g, bool calibrated) {
    qd_model *m = calloc(1, sizeof *m);
    ck_assert_ptr_nonnull(m);
    m->context = context;
    m->file = g;
    m->activations = QD_FORMAT_I8;
    m->calibrated = calibrated;
    return m;
}

/* addend + x · wᵀ, of `rows` rows of x at a time, with the matrix of the file. */
static void multiply(const char *device, bool calibrated, int64_t rows, float *y) {
    const qd_tensor_desc in = qd_desc(QD_FORMAT_F32, ROWS, K, 0, 0), out = qd_desc(QD_FORMAT_F32, ROWS, N, 0, 0);
    qd_gguf *g;
    qd_weight w;
    qd_graph *graph;
    qd_tensor *x, *addend, *result;
    ck_ok(qd_context_create(device, NULL, &context));
    ck_ok(qd_gguf_open(path, &g));
    qd_model *m = model_of(g, calibrated);
    ck_ok(qd_weight_find_layer(m, name, N, K, &w));
    ck_assert_int_eq(qd_weights_want(m, &w, 1), QD_FORMAT_F32);
    ck_ok(qd_tensor_create(context, &in, &x));
    ck_ok(qd_tensor_create(context, &out, &addend));
    ck_ok(qd_tensor_create(context, &out, &result));
    ck_ok(qd_graph_create(context, ROWS, &graph));
    ck_ok(qd_weight_multiply(graph, &w, x, addend, result));
    ck_ok(qd_graph_compile(graph, NULL, NULL));
    for (int64_t r = 0; r < ROWS; r += rows) {
        const int64_t n = ROWS - r < rows ? ROWS - r : rows;
        ck_ok(qd_tensor_write(x, 0, x_values + r * K, (size_t)(n * K) * sizeof *x_values));
        ck_ok(qd_tensor_write(addend, 0, addend_values + r * N, (size_t)(n * N) * sizeof *addend_values));
        ck_ok(qd_graph_run(graph, n));
        ck_ok(qd_tensor_read(result, 0, y + r * N, (size_t)(n * N) * sizeof *y));
    }
    qd_graph_free(graph);
    qd_tensor_free(x);
    qd_tensor_free(addend);
    qd_tensor_free(result);
    qd_model_free(m);
    qd_gguf_free(g);
    qd_context_free(context);
}

static void ck_product(bool calibrated, const float *want) {
    static const char *const devices[] = {"ref", "opencl"};
    float y[ROWS * N];
    for (int d = 0; d < 2; d++) {
        for (int64_t rows = 1; rows <= ROWS; rows++) {
            multiply(devices[d], calibrated, rows, y);
            for (int i = 0; i < ROWS * N; i++)
                ck_assert_msg(memcmp(&y[i], &want[i], sizeof y[i]) == 0, "%s, %d rows: element %d is %.9g, not %.9g",
                              devices[d], (int)rows, i, (double)y[i], (double)want[i]);
        }
    }
}

START_TEST(test_row) {
    write_file("int8", 0, 0);
    ck_product(false, by_row);
}
END_TEST

START_TEST(test_static) {
    write_file("int8", STATIC_SCALE, 0);
    ck_product(true, by_static);
    ck_product(false, by_row); /* what the file knows is not used then */
    write_file("int8", STATIC_SCALE, ZERO);
    ck_product(true, by_static_zero);
}
END_TEST

START_TEST(test_outliers) {
    write_all("int8", STATIC_SCALE, 0, outlier_columns[1]);
    ck_product(false, with_outliers);
    ck_product(true, by_static); /* which takes no notice of them */
}
END_TEST

START_TEST(test_damaged_outliers) {
    static const int wrong[] = {K, -1, 1}; /* beyond the end, negative, not ascending */
    ck_ok(qd_context_create("ref", NULL, &context));
    for (int i = 0; i < 3; i++) {
        qd_gguf *g;
        qd_weight w;
        write_all("int8", 0, 0, wrong[i]);
        ck_ok(qd_gguf_open(path, &g));
        qd_model *m = model_of(g, false);
        ck_fails(qd_weight_find_layer(m, name, N, K, &w), QD_ERR_FILE, "outlier columns");
        qd_model_free(m);
        qd_gguf_free(g);
    }
    qd_context_free(context);
}
END_TEST

/* Without scales, or with damaged ones, static activations are refused. */
START_TEST(test_missing) {
    const struct {
        float scale;
        int32_t zero;
        const char *why;
    } wrong[] = {{0, 0, "no scale"}, {-1, 0, "damaged"}, {INFINITY, 0, "damaged"}, {1, 128, "damaged"}};
    ck_ok(qd_context_create("ref", NULL, &context));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        qd_gguf *g;
        qd_weight w;
        write_file("int8", wrong[i].scale, wrong[i].zero);
        ck_ok(qd_gguf_open(path, &g));
        qd_model *m = model_of(g, true);
        ck_assert_int_ne(qd_weight_find_layer(m, name, N, K, &w), QD_OK);
        ck_assert_msg(strstr(qd_last_message(), wrong[i].why) && strstr(qd_last_message(), name), "%s",
                      qd_last_message());
        qd_model_free(m);
        qd_gguf_free(g);
    }
    qd_context_free(context);
}
END_TEST

/* Codings that are no signed codes of 8 bits keep their own way. */
START_TEST(test_others) {
    static const char *const codings[] = {"int8-asym", "int4", "nf4", "int8-g16", "int8-tensor"};
    ck_ok(qd_context_create("ref", NULL, &context));
    for (int i = 0; i < 5; i++) {
        qd_gguf *g;
        qd_weight w;
        write_file(codings[i], 0, 0);
        ck_ok(qd_gguf_open(path, &g));
        qd_model *m = model_of(g, false);
        ck_ok(qd_weight_find_layer(m, name, N, K, &w));
        ck_assert_msg((w.int8.codes != NULL) == (i >= 3), "%s", codings[i]);
        if (i >= 3) ck_assert_int_eq(w.int8.group, i == 3 ? 16 : K);
        qd_model_free(m);
        qd_gguf_free(g);
    }
    qd_context_free(context);
}
END_TEST

/* PyTorch's rule, by hand: 2 · 5.08 / 254; (5.08 - (-2.57)) / 255 and -128 + 2.57 / 0.03. */
START_TEST(test_ranges) {
    const qd_input_stats s = {.min = -2.57f,
                              .max = 5.08f,
                              .average_max = 1.27f,
                              .percentile_min = -2.54f,
                              .error_max = 12.7f,
                              .entropy_max = 25.4f};
    const float symmetric[] = {0.04f, 0.01f, 0.02f, 0.1f, 0.2f};
    float scale;
    int32_t zero = 7;
    for (int k = QD_OBSERVE_MINMAX; k <= QD_OBSERVE_ENTROPY; k++) {
        ck_ok(qd_calibration_scale(&s, (qd_observe)k, false, &scale, &zero));
        ck_assert_float_eq_tol(scale, symmetric[k], 1e-7f);
        ck_assert_int_eq(zero, 0);
    }
    ck_ok(qd_calibration_scale(&s, QD_OBSERVE_MINMAX, true, &scale, &zero));
    ck_assert_float_eq_tol(scale, 0.03f, 1e-7f);
    ck_assert_int_eq(zero, -128 + 86);
    ck_assert_int_eq(qd_calibration_scale(NULL, QD_OBSERVE_MINMAX, true, &scale, &zero), QD_ERR_ARGUMENT);
}
END_TEST

int main(void) {
    const int file = mkstemp(path);
    if (file < 0) return 1;
    close(file);
    Suite *s = suite_create("int8");
    TCase *c = tcase_create("int8");
    tcase_add_test(c, test_row);
    tcase_add_test(c, test_static);
    tcase_add_test(c, test_outliers);
    tcase_add_test(c, test_damaged_outliers);
    tcase_add_test(c, test_missing);
    tcase_add_test(c, test_others);
    tcase_add_test(c, test_ranges);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    unlink(path);
    return failed != 0;
}
