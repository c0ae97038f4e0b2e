/* Calibration: the statistics against the values themselves, the file there and back, what is refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qdot/qdot_calibration.h"
#include "unit/devices.h"
#include "unit/model_image.h"

enum { TOKENS = 24, CHUNK = 8 };

static char path[] = "/tmp/qdot-calibration-XXXXXX";

/* A tiny model that has seen TOKENS tokens, and all values of input `kept`. */
static qd_calibration *calibrated(model_bed *b, int kept, float *values) {
    int32_t tokens[TOKENS];
    qd_calibration *c = NULL;
    const int64_t cols = qd_model_input_describe(b->model, kept, NULL);
    model_tokens(7, (int)qd_model_describe(b->model)->vocab, tokens, TOKENS);
    ck_ok(qd_calibration_create(b->model, b->gguf, &c));
    for (int t = 0; t < TOKENS; t += CHUNK) {
        ck_ok(qd_model_eval(b->model, tokens + t, CHUNK, false, NULL, NULL));
        ck_ok(qd_calibration_add(c, b->model, CHUNK));
        ck_ok(qd_model_input_read(b->model, kept, CHUNK, values + t * cols));
    }
    return c;
}

static model_bed open_observed(uint64_t seed, qd_format f, qd_context *context, model_parts *parts) {
    const model_spec s = model_small(f);
    *parts = model_make(&s, seed);
    qd_model_options o = model_options(CHUNK, QD_FORMAT_F32);
    o.observe = true;
    return model_open(parts, context, &o);
}

START_TEST(test_statistics) {
    enum { COLS = 64 };
    static float x[TOKENS * COLS];
    model_parts parts;
    qd_context *context = model_context("ref", NULL);
    model_bed b = open_observed(3, QD_FORMAT_F32, context, &parts);
    qd_calibration *c = calibrated(&b, 4, x);
    ck_ok(qd_calibration_finish(c, TOKENS));
    const qd_input_stats *s = qd_calibration_find(c, "blk.1.attn_v.weight");
    ck_assert_ptr_nonnull(s);
    ck_assert_ptr_eq(s, qd_calibration_input(c, 4));
    ck_assert_str_eq(s->name, "blk.1.attn_q.weight");
    ck_assert(s->cols == COLS && s->rows == TOKENS && qd_calibration_tokens(c) == TOKENS);
    float min = INFINITY, max = -INFINITY, average_max = 0;
    for (int k = 0; k < COLS; k++) {
        float absmax = 0;
        double sum = 0, squares = 0;
        for (int t = 0; t < TOKENS; t++) {
            const float v = x[t * COLS + k];
            absmax = fmaxf(absmax, fabsf(v));
            sum += fabs((double)v);
            squares += (double)v * (double)v;
            min = fminf(min, v);
            max = fmaxf(max, v);
        }
        ck_assert_float_eq(s->absmax[k], absmax);
        ck_assert_double_eq_tol(s->mean_abs[k], sum / TOKENS, 1e-9);
        ck_assert_double_eq_tol(s->mean_square[k], squares / TOKENS, 1e-9);
    }
    for (int t = 0; t < TOKENS; t += CHUNK) {
        float batch = -INFINITY;
        for (int i = t * COLS; i < (t + CHUNK) * COLS; i++)
            batch = fmaxf(batch, x[i]);
        average_max = t ? average_max + 0.01f * (batch - average_max) : batch;
    }
    ck_assert(s->min == min && s->max == max);
    ck_assert_float_eq_tol(s->average_max, average_max, 1e-6f);
    const float ranges[][2] = {
        {s->percentile_min, s->percentile_max}, {s->error_min, s->error_max}, {s->entropy_min, s->entropy_max}};
    for (int i = 0; i < 3; i++)
        ck_assert(ranges[i][0] >= min && ranges[i][1] <= max && ranges[i][1] - ranges[i][0] > 0.2f * (max - min));

    /* There and back. */
    qd_calibration *again = NULL;
    ck_ok(qd_calibration_write(c, path));
    ck_ok(qd_calibration_read(path, &again));
    ck_assert_int_eq(qd_calibration_tokens(again), TOKENS);
    for (int i = 0; qd_calibration_input(c, i); i++) {
        const qd_input_stats *p = qd_calibration_input(c, i), *q = qd_calibration_input(again, i);
        ck_assert_mem_eq(p, q, offsetof(qd_input_stats, absmax));
        ck_assert_mem_eq(p->absmax, q->absmax, (size_t)p->cols * sizeof *p->absmax);
        for (int64_t k = 0; k < p->cols; k++) { /* JSON has 15 digits */
            ck_assert_double_eq_tol(p->mean_abs[k], q->mean_abs[k], 1e-14 * p->mean_abs[k]);
            ck_assert_double_eq_tol(p->mean_square[k], q->mean_square[k], 1e-14 * p->mean_square[k]);
        }
    }
    ck_ok(qd_calibration_check(again, b.gguf));
    ck_assert_ptr_null(qd_calibration_find(again, "output.weight"));
    ck_assert_ptr_null(qd_calibration_input(again, 8));
    qd_calibration_free(again);
    qd_calibration_free(c);
    model_close(&b);
    model_parts_free(&parts);
    qd_context_free(context);
}
END_TEST

/* The same model in another format is the same; another one is not. */
START_TEST(test_other_models) {
    static float x[TOKENS * 64];
    model_parts parts[3];
    qd_context *context = model_context("ref", NULL);
    model_bed b = open_observed(3, QD_FORMAT_F32, context, &parts[0]),
              quantized = open_observed(3, QD_FORMAT_Q8_0, context, &parts[1]),
              other = open_observed(4, QD_FORMAT_F32, context, &parts[2]);
    qd_calibration *c = calibrated(&b, 0, x);
    ck_ok(qd_calibration_check(c, quantized.gguf));
    ck_fails(qd_calibration_check(c, other.gguf), QD_ERR_ARGUMENT, "another model");
    ck_fails(qd_calibration_write(c, path), QD_ERR_ARGUMENT, "finish");
    ck_fails(qd_calibration_finish(c, TOKENS + 1), QD_ERR_ARGUMENT, "24 tokens are too few");
    ck_ok(qd_calibration_finish(c, 1));
    ck_fails(qd_calibration_add(c, b.model, 1), QD_ERR_ARGUMENT, "rows");
    ck_fails(qd_calibration_write(c, "/nonesuch/file"), QD_ERR_IO, "nonesuch");
    qd_calibration_free(c);
    qd_calibration_free(NULL);
    model_close(&b);
    const qd_model_options plain = model_options(CHUNK, QD_FORMAT_F32);
    b = model_open(&parts[0], context, &plain);
    ck_fails(qd_calibration_create(b.model, b.gguf, &c), QD_ERR_ARGUMENT, "observe");
    model_close(&b);
    model_close(&quantized);
    model_close(&other);
    for (int i = 0; i < 3; i++)
        model_parts_free(&parts[i]);
    qd_context_free(context);
}
END_TEST

static void ck_read(const char *text, const char *part) {
    qd_calibration *c = NULL;
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
    ck_fails(qd_calibration_read(path, &c), QD_ERR_FILE, part);
    ck_assert_ptr_null(c);
}

#define HEAD                                                                \
    "{\"qdot_calibration\":1,\"tokens\":3,\"model\":"                       \
    "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"," \
    "\"inputs\":["
#define RANGES                                                                                                         \
    "\"min\":0,\"max\":1,\"average_min\":0,\"average_max\":1,\"percentile_min\":0,\"percentile_max\":1,\"error_min\":" \
    "0,"                                                                                                               \
    "\"error_max\":1,\"entropy_min\":0,\"entropy_max\":1"

START_TEST(test_damaged) {
    ck_read("", "not JSON");
    ck_read("{", "not JSON");
    ck_read("[]", "qdot_calibration");
    ck_read("{\"qdot_calibration\":1}", "inputs");
    ck_read("{\"qdot_calibration\":1,\"inputs\":[1]}", "tokens");
    ck_read("{\"qdot_calibration\":1,\"inputs\":[1],\"tokens\":3}", "model");
    ck_read(HEAD "1]}", "without a name");
    ck_read(HEAD "{\"name\":\"a\",\"rows\":3,\"absmax\":[]}]}", "columns");
    ck_read(HEAD "{\"name\":\"a\",\"rows\":3,\"absmax\":[1]}]}", "min");
    ck_read(HEAD "{\"name\":\"a\",\"rows\":3,\"absmax\":[1]," RANGES "}]}", "mean_abs");
    ck_read(HEAD "{\"name\":\"a\",\"rows\":3,\"absmax\":[1],\"mean_abs\":[1]," RANGES "}]}", "mean_square");
    ck_read(HEAD "{\"name\":\"a\",\"rows\":3,\"absmax\":[-1],\"mean_square\":[1]," RANGES "}]}", "absmax");
    ck_read(HEAD "{\"name\":\"a\",\"rows\":3,\"absmax\":[1],\"mean_abs\":[1],\"mean_square\":[1,2]," RANGES "}]}",
            "mean_square");
    ck_read(HEAD "{\"name\":\"a\",\"rows\":0,\"absmax\":[1],\"mean_square\":[1]," RANGES "}]}", "rows");
    qd_calibration *c = NULL;
    ck_fails(qd_calibration_read("/nonesuch", &c), QD_ERR_IO, "nonesuch");
    ck_fails(qd_calibration_read(NULL, &c), QD_ERR_ARGUMENT, "NULL");
}
END_TEST

int main(void) {
    const int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    TCase *tc = tcase_create("calibration");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_statistics);
    tcase_add_test(tc, test_other_models);
    tcase_add_test(tc, test_damaged);
    const int code = run_tests(tc, "calibration");
    unlink(path);
    return code;
}
