/* What the matrices of a model read, as qd_model_input_read gives it: by the definition, from each other. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot.h"
#include "unit/devices.h"
#include "unit/model_image.h"

enum { TOKENS = 5 };

static model_parts parts;
static qd_context *context;

static void open_reference(void) {
    const model_spec s = model_small(QD_FORMAT_F32);
    parts = model_make(&s, 3);
    context = model_context("ref", NULL);
}

static void close_reference(void) {
    qd_context_free(context);
    model_parts_free(&parts);
}

static model_bed open_observed(int64_t chunk) {
    qd_model_options o = model_options(chunk, QD_FORMAT_A8); /* which observing overrules */
    o.observe = true;
    return model_open(&parts, context, &o);
}

static const float *weights(const char *name) {
    return model_find_tensor(&parts, name)->bytes;
}

/* x/rms(x) · gain */
static void norm(const double *x, const float *gain, int n, double *y) {
    double squares = 0;
    for (int i = 0; i < n; i++)
        squares += x[i] * x[i];
    const double epsilon = model_find_key(&parts, "llama.attention.layer_norm_rms_epsilon")->number;
    for (int i = 0; i < n; i++)
        y[i] = x[i] / sqrt(squares / n + epsilon) * (double)gain[i];
}

static double dot(const float *w, const double *x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)w[i] * x[i];
    return sum;
}

static void ck_near(const float *got, const double *want, int n, const char *what) {
    for (int i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) < 1e-4, "%s: element %d is %g, not %g", what, i, (double)got[i],
                      want[i]);
}

static void widen(const float *x, int n, double *y) {
    for (int i = 0; i < n; i++)
        y[i] = (double)x[i];
}

/* Each input of the first layer from the ones before. */
START_TEST(test_definition) {
    enum { W = 64, MOST = 256 };
    int32_t tokens[TOKENS];
    float qkv[TOKENS * W], output[TOKENS * W], gate_up[TOKENS * W], down[TOKENS * MOST];
    const int ff = parts.spec.ff;
    ck_assert(parts.spec.width == W && ff <= MOST);
    model_tokens(7, parts.spec.vocab, tokens, TOKENS);
    model_bed b = open_observed(8);
    ck_ok(qd_model_eval(b.model, tokens, TOKENS, false, NULL, NULL));
    ck_ok(qd_model_input_read(b.model, qd_model_input_find(b.model, "blk.0.attn_k.weight"), TOKENS, qkv));
    ck_ok(qd_model_input_read(b.model, qd_model_input_find(b.model, "blk.0.attn_output.weight"), TOKENS, output));
    ck_ok(qd_model_input_read(b.model, qd_model_input_find(b.model, "blk.0.ffn_up.weight"), TOKENS, gate_up));
    ck_ok(qd_model_input_read(b.model, qd_model_input_find(b.model, "blk.0.ffn_down.weight"), TOKENS, down));
    for (int t = 0; t < TOKENS; t++) {
        double x[W], y[W], mixed[W], inner[MOST];
        widen(weights("token_embd.weight") + tokens[t] * W, W, x);
        norm(x, weights("blk.0.attn_norm.weight"), W, y);
        ck_near(qkv + t * W, y, W, "attn_q");
        widen(output + t * W, W, mixed);
        for (int i = 0; i < W; i++)
            x[i] += dot(weights("blk.0.attn_output.weight") + i * W, mixed, W);
        norm(x, weights("blk.0.ffn_norm.weight"), W, y);
        ck_near(gate_up + t * W, y, W, "ffn_gate");
        for (int i = 0; i < ff; i++) {
            const double gate = dot(weights("blk.0.ffn_gate.weight") + i * W, y, W);
            inner[i] = gate / (1 + exp(-gate)) * dot(weights("blk.0.ffn_up.weight") + i * W, y, W);
        }
        ck_near(down + t * ff, inner, ff, "ffn_down");
    }
    /* The first token attends to itself alone: each head gives its value. */
    double y[W];
    widen(qkv, W, y);
    const int group = parts.spec.heads / parts.spec.kv_heads, d = parts.spec.head_dim;
    for (int i = 0; i < W; i++) {
        const double v = dot(weights("blk.0.attn_v.weight") + (i / d / group * d + i % d) * W, y, W);
        ck_assert_double_eq_tol((double)output[i], v, 1e-4);
    }
    model_close(&b);
}
END_TEST

/* Observing changes no logit, and chunks give the same inputs. */
START_TEST(test_same_bytes) {
    int32_t tokens[TOKENS];
    float logits[2][TOKENS * 64], whole[TOKENS * 64], piece[64];
    model_tokens(7, parts.spec.vocab, tokens, TOKENS);
    const qd_model_options o = model_options(8, QD_FORMAT_F32);
    model_bed plain = model_open(&parts, context, &o), seen = open_observed(8), one = open_observed(1);
    model_eval(plain.model, tokens, TOKENS, logits[0]);
    model_eval(seen.model, tokens, TOKENS, logits[1]);
    ck_assert_mem_eq(logits[0], logits[1], (size_t)(TOKENS * parts.spec.vocab) * sizeof(float));
    const int input = qd_model_input_find(seen.model, "blk.1.attn_v.weight");
    ck_ok(qd_model_input_read(seen.model, input, TOKENS, whole));
    for (int t = 0; t < TOKENS; t++) {
        ck_ok(qd_model_eval(one.model, &tokens[t], 1, false, NULL, NULL));
        ck_ok(qd_model_input_read(one.model, input, 1, piece));
        ck_assert_mem_eq(piece, whole + t * 64, sizeof piece);
    }
    model_close(&plain);
    model_close(&seen);
    model_close(&one);
}
END_TEST

START_TEST(test_names) {
    char name[64];
    const qd_model_options o = model_options(8, QD_FORMAT_F32);
    model_bed plain = model_open(&parts, context, &o), seen = open_observed(8);
    ck_assert_int_eq(qd_model_input_count(plain.model), 0);
    ck_assert_int_eq(qd_model_input_find(plain.model, "blk.0.attn_q.weight"), -1);
    ck_assert_int_eq(qd_model_input_count(seen.model), 4 * parts.spec.layers);
    for (int i = 0; i < qd_model_input_count(seen.model); i++) {
        ck_assert_int_eq(qd_model_input_describe(seen.model, i, name), i % 4 == 3 ? parts.spec.ff : parts.spec.width);
        ck_assert_int_eq(qd_model_input_find(seen.model, name), i);
    }
    ck_assert_int_eq(qd_model_input_describe(seen.model, -1, NULL), 0);
    ck_assert_int_eq(qd_model_input_find(seen.model, "output.weight"), -1);
    ck_assert_int_eq(qd_model_input_find(seen.model, "blk.9.attn_q.weight"), -1);
    int32_t token = 1;
    float x[8 * 256];
    ck_fails(qd_model_input_read(plain.model, 0, 1, x), QD_ERR_ARGUMENT, "observe");
    ck_fails(qd_model_input_read(seen.model, 0, 1, x), QD_ERR_ARGUMENT, "had 0");
    ck_ok(qd_model_eval(seen.model, &token, 1, false, NULL, NULL));
    ck_fails(qd_model_input_read(seen.model, 0, 2, x), QD_ERR_ARGUMENT, "had 1");
    ck_fails(qd_model_input_read(seen.model, 0, 1, NULL), QD_ERR_ARGUMENT, "rows");
    ck_ok(qd_model_input_read(seen.model, 0, 0, NULL));
    model_close(&plain);
    model_close(&seen);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("observe");
    tcase_add_checked_fixture(tc, open_reference, close_reference);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_definition);
    tcase_add_test(tc, test_same_bytes);
    tcase_add_test(tc, test_names);
    return run_tests(tc, "observe");
}
