/* Other values in the place of a matrix: the logits are those of a file that has them, and the old ones afterwards. */
#include <stdlib.h>
#include <string.h>

#include "unit/devices.h"
#include "unit/model_image.h"

enum { TOKENS = 20, CHUNK = 8, MOST_VOCAB = 128 };

typedef struct copied {
    float *logits;
    int64_t vocab;
} copied;

static bool copy_position(void *user, int64_t position, const float *logits) {
    const copied *c = user;
    memcpy(c->logits + position * c->vocab, logits, (size_t)c->vocab * sizeof *logits);
    return true;
}

/* Of a model that keeps what its layers read, from `layer` on. */
static void logits_of(qd_model *m, int layer, const int32_t *tokens, float *logits) {
    copied c = {logits, qd_model_describe(m)->vocab};
    if (qd_model_describe(m)->keeps_layers) {
        ck_ok(qd_model_eval_again(m, layer, copy_position, &c));
        ck_assert_int_eq(qd_model_position(m), TOKENS);
        return;
    }
    ck_ok(qd_model_rewind(m, 0));
    model_eval(m, tokens, TOKENS, logits);
}

/* The matrix gets the values of `other`'s, which is the same model with other random weights. */
static void replace_one(qd_context *c, model_parts *parts, model_parts *other, qd_model *m, const char *name,
                        const int32_t *tokens, const float *before) {
    static float got[TOKENS * MOST_VOCAB], want[TOKENS * MOST_VOCAB];
    const size_t bytes = (size_t)TOKENS * (size_t)parts->spec.vocab * sizeof(float);
    const int layer = strncmp(name, "blk.", 4) == 0 ? name[4] - '0' : strcmp(name, "output.weight") ? 0 : 2;
    model_tensor *to = model_find_tensor(parts, name), *from = model_find_tensor(other, name);
    float *values = malloc((size_t)(from->rows * from->cols) * sizeof *values);
    void *old = malloc(to->size);
    ck_assert(values && old);
    ck_ok(qd_dequantize(from->format, from->bytes, from->rows, from->cols, values));
    memcpy(old, to->bytes, to->size);
    memcpy(to->bytes, from->bytes, to->size);
    const qd_model_options o = model_options(CHUNK, QD_FORMAT_F32);
    model_bed changed = model_open(parts, c, &o);
    logits_of(changed.model, 0, tokens, want);
    model_close(&changed);
    memcpy(to->bytes, old, to->size);

    const float first = values[0];
    values[0] += 1; /* of two replacements the second counts */
    ck_ok(qd_model_replace(m, name, values));
    values[0] = first;
    ck_ok(qd_model_replace(m, name, values));
    logits_of(m, layer, tokens, got);
    ck_assert_msg(memcmp(got, want, bytes) == 0, "%s on %s: not the logits of the changed file", name,
                  qd_context_device(c)->id);
    ck_assert_msg(memcmp(got, before, bytes) != 0, "%s: nothing was changed", name);
    ck_ok(qd_model_replace(m, name, NULL));
    logits_of(m, layer, tokens, got);
    ck_assert_msg(memcmp(got, before, bytes) == 0, "%s on %s: not the old logits", name, qd_context_device(c)->id);
    free(old);
    free(values);
}

/* Of one format q, k and v, and gate and up, are stacked; of two they are not. Some models keep what layers read, and
 * only compute what a matrix changes. */
START_TEST(test_replace) {
    static const char *const names[] = {"token_embd.weight",        "blk.0.attn_q.weight",   "blk.1.attn_k.weight",
                                        "blk.1.attn_v.weight",      "blk.0.ffn_gate.weight", "blk.1.ffn_up.weight",
                                        "blk.1.attn_output.weight", "blk.0.ffn_down.weight", "output.weight"};
    const bool keep = _i >= 3 * TEST_DEVICES;
    static float before[TOKENS * MOST_VOCAB];
    int32_t tokens[TOKENS];
    qd_context *c = open_device(_i % TEST_DEVICES, NULL);
    if (!c) return;
    model_spec s = model_small(_i < TEST_DEVICES ? QD_FORMAT_F16 : QD_FORMAT_F32);
    if (_i >= 2 * TEST_DEVICES) s.format[W_K] = s.format[W_UP] = QD_FORMAT_BF16;
    s.tied = !keep;
    ck_assert_int_le(s.vocab, MOST_VOCAB);
    model_parts parts = model_make(&s, 5), other = model_make(&s, 6);
    model_tokens(7, s.vocab, tokens, TOKENS);
    qd_model_options o = model_options(CHUNK, QD_FORMAT_F32);
    o.keep_layers = keep;
    model_bed b = model_open(&parts, c, &o);
    model_eval(b.model, tokens, TOKENS / 2, before); /* kept in two evaluations */
    model_eval(b.model, tokens + TOKENS / 2, TOKENS - TOKENS / 2, before + TOKENS / 2 * s.vocab);
    for (size_t i = 0; i < sizeof names / sizeof names[0] - (size_t)s.tied; i++)
        replace_one(c, &parts, &other, b.model, names[i], tokens, before);
    model_close(&b);
    model_parts_free(&parts);
    model_parts_free(&other);
    qd_context_free(c);
}
END_TEST

START_TEST(test_refusals) {
    const float x[1] = {0};
    qd_context *c = open_device(0, NULL);
    model_spec s = model_small(QD_FORMAT_F32);
    s.format[W_V] = QD_FORMAT_Q8_0;
    model_parts parts = model_make(&s, 5);
    model_bed b = model_open(&parts, c, NULL);
    ck_fails(qd_model_replace(b.model, "blk.9.attn_q.weight", x), QD_ERR_ARGUMENT, "no matrix");
    ck_fails(qd_model_replace(b.model, "output_norm.weight", x), QD_ERR_ARGUMENT, "no matrix");
    ck_fails(qd_model_replace(b.model, "blk.0.attn_v.weight", x), QD_ERR_UNSUPPORTED, "q8_0");
    ck_fails(qd_model_replace(NULL, "blk.0.attn_q.weight", x), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_model_eval_again(b.model, 0, NULL, NULL), QD_ERR_ARGUMENT, "keep_layers");
    model_close(&b);
    model_parts_free(&parts);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("replace");
    tcase_add_loop_test(tc, test_replace, 0, 4 * TEST_DEVICES);
    tcase_add_test(tc, test_refusals);
    return run_tests(tc, "replace");
}
