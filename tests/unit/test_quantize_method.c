/* `qdot quantize --method`: factors that are folded into a model leave its logits as they were; what is refused. */
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "qdot/qdot_calibration.h"
#include "unit/devices.h"
#include "unit/model_image.h"

enum { TOKENS = 32, CHUNK = 16, VOCAB = 50, FF = 160, WIDTH = 64, HEAD = 16 };

static char folder[] = "/tmp/qdot-method-XXXXXX";
static char model_path[64], stats_path[64], out_path[64];

static qd_model_options observed(void) {
    qd_model_options o = model_options(CHUNK, QD_FORMAT_F32);
    o.observe = true;
    return o;
}

/* Reads the tokens; a calibration, and the logits of the last chunk, of each token. */
static qd_calibration *calibrate(qd_model *m, const qd_gguf *g, float *logits) {
    int32_t tokens[TOKENS];
    qd_calibration *c = NULL;
    model_tokens(7, VOCAB, tokens, TOKENS);
    ck_ok(qd_calibration_create(m, g, &c));
    for (int t = 0; t < TOKENS; t += CHUNK) {
        model_eval(m, tokens + t, CHUNK, logits);
        ck_ok(qd_calibration_add(c, m, CHUNK));
    }
    ck_ok(qd_calibration_finish(c, 1));
    return c;
}

/* A tiny model and its statistics as files. Some activations are much larger than others, as in real models. */
static void make_files(uint64_t seed, float *logits) {
    static const char *const norms[] = {"blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "blk.1.attn_norm.weight",
                                        "blk.1.ffn_norm.weight"};
    const model_spec s = model_small(QD_FORMAT_F32);
    model_parts parts = model_make(&s, seed);
    for (int i = 0; i < 4; i++) {
        for (int k = i; k < WIDTH; k += 9)
            ((float *)model_find_tensor(&parts, norms[i])->bytes)[k] *= 8;
    }
    qd_context *context = model_context("ref", NULL);
    const qd_model_options o = observed();
    model_bed b = model_open(&parts, context, &o);
    FILE *f = fopen(model_path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(b.file.bytes, 1, b.file.size, f), b.file.size);
    fclose(f);
    qd_calibration *c = calibrate(b.model, b.gguf, logits);
    ck_ok(qd_calibration_write(c, stats_path));
    qd_calibration_free(c);
    model_close(&b);
    model_parts_free(&parts);
    qd_context_free(context);
}

/* qdot quantize MODEL OUT words…, ended by NULL. */
static int quantize(const char *const words[]) {
    char copies[16][64], *argv[17] = {copies[0], copies[1], copies[2]};
    int argc = 3;
    snprintf(copies[0], sizeof copies[0], "quantize");
    snprintf(copies[1], sizeof copies[1], "%s", model_path);
    snprintf(copies[2], sizeof copies[2], "%s", out_path);
    for (; words[argc - 3]; argc++) {
        ck_assert_int_lt(argc, 16);
        snprintf(copies[argc], sizeof copies[argc], "%s", words[argc - 3]);
        argv[argc] = copies[argc];
    }
    optind = 0; /* getopt begins anew */
    return qd_cmd_quantize(argc, argv);
}

static const float *values_of(const qd_gguf *g, const char *name) {
    qd_gguf_tensor t;
    ck_ok(qd_gguf_tensor_find(g, name, &t));
    ck_assert_int_eq(t.desc.format, QD_FORMAT_F32);
    return t.data;
}

/* Largest magnitude of column k of a matrix. */
static double column(const float *w, int rows, int cols, int k) {
    double most = 0;
    for (int r = 0; r < rows; r++)
        most = fmax(most, fabs((double)w[r * cols + k]));
    return most;
}

/* With alpha one half, SmoothQuant makes the largest input and the largest weight of a column alike. */
static void ck_smooth(const qd_calibration *c, const qd_gguf *g) {
    char name[64];
    for (int layer = 0; layer < 2; layer++) {
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", layer);
        const qd_input_stats *s = qd_calibration_find(c, name);
        const float *down = values_of(g, name);
        for (int k = 0; k < FF; k++)
            ck_assert_double_eq_tol((double)s->absmax[k], column(down, WIDTH, FF, k), 1e-3 * (double)s->absmax[k]);
        snprintf(name, sizeof name, "blk.%d.attn_output.weight", layer);
        const qd_input_stats *o = qd_calibration_find(c, name);
        const float *output = values_of(g, name);
        for (int k = 0; k < WIDTH; k++) {
            if (k / HEAD % 2) continue; /* heads in pairs share keys and values: the first with the second */
            const double x = fmax((double)o->absmax[k], (double)o->absmax[k + HEAD]);
            const double w = fmax(column(output, WIDTH, WIDTH, k), column(output, WIDTH, WIDTH, k + HEAD));
            ck_assert_double_eq_tol(x, w, 1e-3 * w);
        }
    }
}

START_TEST(folded) {
    static float before[CHUNK * VOCAB], after[CHUNK * VOCAB];
    const char *const smooth[] = {"-f", "f32", "--method", "smoothquant", "--calibration", stats_path, NULL};
    const char *const awq[] = {"-f", "int4", "--method", "awq", "--calibration", stats_path, NULL};
    const char *const plain[] = {"-f", "int4", NULL};
    double errors[3];
    make_files(3, before);
    for (int i = 0; i < 3; i++) {
        qd_context *context = model_context("ref", NULL);
        const qd_model_options o = observed();
        qd_gguf *g = NULL;
        qd_model *m = NULL;
        ck_assert_int_eq(quantize(i == 0 ? smooth : i == 1 ? awq : plain), QD_EXIT_OK);
        ck_ok(qd_gguf_open(out_path, &g));
        ck_ok(qd_model_load(context, g, &o, &m));
        qd_calibration *c = calibrate(m, g, after);
        double square = 0;
        errors[i] = 0;
        for (int k = 0; k < CHUNK * VOCAB; k++) {
            errors[i] += pow((double)before[k] - (double)after[k], 2);
            square += pow((double)before[k], 2);
        }
        errors[i] = sqrt(errors[i] / square);
        if (i == 0) {
            qd_calibration *was = NULL;
            ck_smooth(c, g);
            ck_ok(qd_calibration_read(stats_path, &was));
            ck_fails(qd_calibration_check(was, g), QD_ERR_ARGUMENT, "another model"); /* its norms have changed */
            qd_calibration_free(was);
        }
        qd_calibration_free(c);
        qd_model_free(m);
        qd_gguf_free(g);
        qd_context_free(context);
    }
    ck_assert_msg(errors[0] < 1e-5, "folding changes the logits by %g of their size", errors[0]);
    ck_assert_msg(errors[1] > 1e-3 && errors[1] < errors[2], "awq %g, rounding %g", errors[1], errors[2]);
}
END_TEST

START_TEST(refused) {
    static float unused[CHUNK * VOCAB];
    const char *const wrong[][8] = {
        {"-f", "int4", "--method", "best", NULL},
        {"-f", "int4", "--method", "awq", NULL},
        {"-f", "int4", "--method", "gptq", "--calibration", stats_path, NULL},
        {"-f", "int4", "--method", "awq", "--calibration", model_path, NULL},
        {"-f", "int4", "--file", stats_path, NULL},
        {"-f", "int4", "--act-order", NULL},
        {"-f", "int4", "--method", "awq", "--calibration", stats_path, NULL}, /* of another model, in the end */
    };
    make_files(4, unused);
    char saved[64];
    snprintf(saved, sizeof saved, "%s/kept", folder);
    ck_assert_int_eq(rename(stats_path, saved), 0);
    make_files(5, unused);
    ck_assert_int_eq(rename(saved, stats_path), 0);
    unlink(out_path);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_int_eq(quantize(wrong[i]), QD_EXIT_FAILED);
        ck_assert_int_ne(access(out_path, F_OK), 0);
    }
}
END_TEST

int main(void) {
    if (!mkdtemp(folder)) return 1;
    snprintf(model_path, sizeof model_path, "%s/model.gguf", folder);
    snprintf(stats_path, sizeof stats_path, "%s/stats.json", folder);
    snprintf(out_path, sizeof out_path, "%s/out.gguf", folder);
    TCase *tc = tcase_create("quantize method");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, folded);
    tcase_add_test(tc, refused);
    const int code = run_tests(tc, "quantize method");
    unlink(model_path);
    unlink(stats_path);
    unlink(out_path);
    rmdir(folder);
    return code;
}
