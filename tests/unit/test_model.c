/* Tiny models: what they compute against its definition in double, and the same bytes however it is computed. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot.h"
#include "unit/model_image.h"

enum { MAX_TOKENS = 60, MAX_VOCAB = 64, MAX_DEVICES = 8 };

static const qd_format file_formats[] = {QD_FORMAT_F32,  QD_FORMAT_F16,  QD_FORMAT_BF16,
                                         QD_FORMAT_Q8_0, QD_FORMAT_Q4_0, QD_FORMAT_Q4_1};
enum { FILE_FORMATS = sizeof file_formats / sizeof file_formats[0] };

/* ---- Models -------------------------------------------------------------------------------------------------- */

/* Another format in each matrix of a layer, its own output matrix, one key/value head of 32. */
static model_spec mixed(void) {
    model_spec s = model_small(QD_FORMAT_Q4_1);
    s.layers = 3;
    s.heads = 2;
    s.kv_heads = 1;
    s.head_dim = 32;
    s.tied = false;
    const qd_format f[MODEL_WEIGHTS] = {QD_FORMAT_F16,  QD_FORMAT_Q4_0, QD_FORMAT_Q8_0, QD_FORMAT_BF16, QD_FORMAT_Q4_1,
                                        QD_FORMAT_Q8_0, QD_FORMAT_Q4_0, QD_FORMAT_F32,  QD_FORMAT_Q8_0};
    memcpy(s.format, f, sizeof f);
    return s;
}

/* Blocks everywhere, but not the same: int8 activations with matrices that cannot be stacked. */
static model_spec blocked(void) {
    model_spec s = mixed();
    const qd_format f[MODEL_WEIGHTS] = {QD_FORMAT_Q8_0, QD_FORMAT_Q4_1, QD_FORMAT_Q4_1, QD_FORMAT_Q8_0, QD_FORMAT_Q4_0,
                                        QD_FORMAT_Q4_0, QD_FORMAT_Q4_1, QD_FORMAT_Q8_0, QD_FORMAT_Q4_1};
    memcpy(s.format, f, sizeof f);
    return s;
}

/* Sizes that are no multiples of a block, heads that together are not as wide as the model, one head for each. */
static model_spec ragged(void) {
    model_spec s = model_small(QD_FORMAT_F32);
    s.width = 50;
    s.heads = 3;
    s.kv_heads = 3;
    s.ff = 37;
    s.vocab = 33;
    s.tied = false;
    s.format[W_DOWN] = QD_FORMAT_F16;
    s.format[W_K] = QD_FORMAT_BF16;
    return s;
}

static model_spec factors(void) {
    model_spec s = model_small(QD_FORMAT_Q8_0);
    s.rope_factors = true;
    return s;
}

static model_spec scaled(const char *type, const char *key, double scale) {
    model_spec s = model_small(QD_FORMAT_Q8_0);
    s.rope_type = type;
    s.rope_factor = key;
    s.rope_scale = scale;
    return s;
}

/* ---- The definition ------------------------------------------------------------------------------------------ */

/* |a - b| / |b| over all logits. */
static double relative_error(const float *a, const double *b, int count) {
    double difference = 0, size = 0;
    for (int i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(difference / size);
}

/* Errors of 20 tokens on the reference, with float and with int8 activations. */
static void errors_of(model_parts *p, double *f32, double *a8) {
    enum { TOKENS = 20 };
    static double expected[TOKENS * MAX_VOCAB];
    static float logits[TOKENS * MAX_VOCAB];
    int32_t tokens[TOKENS];
    const int count = TOKENS * p->spec.vocab;
    model_tokens(7, p->spec.vocab, tokens, TOKENS);
    model_define(p, tokens, TOKENS, expected);
    qd_context *c = model_context("ref", NULL);
    const qd_format activations[] = {QD_FORMAT_F32, QD_FORMAT_A8};
    double *const errors[] = {f32, a8};
    for (int i = 0; i < 2; i++) {
        const qd_model_options o = model_options(8, activations[i]);
        model_bed b = model_open(p, c, &o);
        model_eval(b.model, tokens, TOKENS, logits);
        *errors[i] = relative_error(logits, expected, count);
        model_close(&b);
    }
    qd_context_free(c);
}

static void expect_definition(const model_spec *s) {
    double f32, a8;
    model_parts p = model_make(s, 1);
    errors_of(&p, &f32, &a8);
    bool blocks = false;
    for (int i = 0; i < MODEL_WEIGHTS; i++)
        blocks = blocks || qd_format_get(s->format[i])->kind == QD_KIND_BLOCKED;
    ck_assert_msg(f32 < 3e-6, "float activations: relative error %g", f32);
    if (blocks) {
        ck_assert_msg(a8 > 1e-4 && a8 < 0.05, "int8 activations: relative error %g", a8);
    } else {
        ck_assert_msg(a8 < 3e-6, "int8 activations without blocks: relative error %g", a8);
    }
    model_parts_free(&p);
}

START_TEST(every_format_as_defined) {
    const model_spec s = model_small(file_formats[_i]);
    expect_definition(&s);
}
END_TEST

START_TEST(shapes_as_defined) {
    const model_spec specs[] = {mixed(), blocked(), ragged(), factors()};
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++)
        expect_definition(&specs[i]);
}
END_TEST

START_TEST(position_scaling_as_defined) {
    const model_spec specs[] = {
        scaled("linear", NULL, 4),
        scaled(NULL, NULL, 2.5),                    /* linear is the default */
        scaled("none", NULL, 4),                    /* the factor has no meaning */
        scaled(NULL, "llama.rope.scale_linear", 3), /* the older key */
        scaled("linear", "llama.rope.scale_linear", 3),
        scaled("none", "llama.rope.scale_linear", 3),
    };
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++)
        expect_definition(&specs[i]);
}
END_TEST

/* The comparison itself: each of these is another model, and must be seen as one. */
START_TEST(other_models_are_told_apart) {
    double f32, a8;
    const model_spec s = factors();
    const struct {
        const char *key;
        double number;
    } changes[] = {{"llama.rope.freq_base", 9000}, {"llama.attention.layer_norm_rms_epsilon", 1e-3}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        model_parts p = model_make(&s, 1);
        model_set_number(&p, changes[i].key, QD_GGUF_F32, changes[i].number);
        errors_of(&p, &f32, &a8);
        ck_assert_msg(f32 > 1e-4, "%s: %g", changes[i].key, f32);
        model_parts_free(&p);
    }
    model_parts p = model_make(&s, 1);
    p.spec.rope_factors = false;
    errors_of(&p, &f32, &a8);
    ck_assert_msg(f32 > 1e-2, "rope factors: %g", f32);
    model_parts_free(&p);
}
END_TEST

START_TEST(described) {
    const model_spec s = mixed();
    model_parts p = model_make(&s, 1);
    qd_context *c = model_context("ref", NULL);
    model_bed b = model_open(&p, c, NULL);
    const qd_model_info *info = qd_model_describe(b.model);
    ck_assert_str_eq(info->architecture, "llama");
    ck_assert_str_eq(info->name, "tiny");
    ck_assert_int_eq(info->layers, s.layers);
    ck_assert_int_eq(info->width, s.width);
    ck_assert_int_eq(info->heads, s.heads);
    ck_assert_int_eq(info->kv_heads, s.kv_heads);
    ck_assert_int_eq(info->head_dim, s.head_dim);
    ck_assert_int_eq(info->feed_forward, s.ff);
    ck_assert_int_eq(info->vocab, s.vocab);
    ck_assert_int_eq(info->trained_context, s.context);
    ck_assert_int_eq(info->context, s.context);
    double parameters = 0;
    for (int i = 0; i < p.n_tensors; i++)
        parameters += (double)(p.tensors[i].rows * p.tensors[i].cols);
    ck_assert_double_eq(info->parameters, parameters);
    ck_assert_int_gt(info->graph.ops, 8 * s.layers);
    ck_assert_uint_lt(info->graph.arena_bytes, info->graph.tensor_bytes);
    model_close(&b);
    qd_context_free(c);
    model_parts_free(&p);
}
END_TEST

/* ---- The same bytes ------------------------------------------------------------------------------------------ */

static const int prompt_sizes[] = {1, 2, 31, 32, 33, MAX_TOKENS};
enum { PROMPTS = sizeof prompt_sizes / sizeof prompt_sizes[0] };

typedef struct prompts {
    int32_t tokens[PROMPTS][MAX_TOKENS];
    float logits[PROMPTS][MAX_TOKENS * MAX_VOCAB]; /* of the reference, all tokens in one chunk */
} prompts;

static prompts expected;

static void make_expected(const model_parts *p, qd_format activations) {
    qd_context *c = model_context("ref", NULL);
    const qd_model_options o = model_options(128, activations);
    model_bed b = model_open(p, c, &o);
    for (int i = 0; i < PROMPTS; i++) {
        model_tokens((uint64_t)(100 + i), p->spec.vocab, expected.tokens[i], prompt_sizes[i]);
        ck_assert_int_eq(qd_model_rewind(b.model, 0), QD_OK);
        model_eval(b.model, expected.tokens[i], prompt_sizes[i], expected.logits[i]);
    }
    model_close(&b);
    qd_context_free(c);
}

static void expect_bytes(const float *got, const float *want, int rows, int vocab, const char *what) {
    for (int r = 0; r < rows; r++) {
        const size_t at = (size_t)(r * vocab);
        ck_assert_msg(!memcmp(got + at, want + at, (size_t)vocab * sizeof *got), "%s: token %d has other logits", what,
                      r);
    }
}

/* All prompts, each token's logits, after the other prompts have been in the cache. */
static void expect_prompts(qd_model *m, int first, const char *what) {
    static float logits[MAX_TOKENS * MAX_VOCAB];
    const int vocab = (int)qd_model_describe(m)->vocab;
    for (int i = first; i < PROMPTS; i++) {
        ck_assert_int_eq(qd_model_rewind(m, 0), QD_OK);
        model_eval(m, expected.tokens[i], prompt_sizes[i], logits);
        expect_bytes(logits, expected.logits[i], prompt_sizes[i], vocab, what);
    }
}

typedef struct one_row {
    float logits[MAX_VOCAB];
    int64_t position;
    int calls, vocab;
} one_row;

static bool keep_row(void *user, int64_t position, const float *logits) {
    one_row *r = user;
    r->calls++;
    r->position = position;
    memcpy(r->logits, logits, (size_t)r->vocab * sizeof *logits);
    return true;
}

/* Going back to a token in the middle, and on with others, leaves nothing of what was there before. */
static void expect_rewinds(qd_model *m, const char *what) {
    enum { LONG = PROMPTS - 1, OTHER = PROMPTS - 2 };
    static float logits[MAX_TOKENS * MAX_VOCAB];
    const int vocab = (int)qd_model_describe(m)->vocab, other = prompt_sizes[OTHER];
    const int32_t *tokens = expected.tokens[LONG];
    const float *want = expected.logits[LONG];
    ck_assert_int_eq(qd_model_rewind(m, 0), QD_OK);
    model_eval(m, tokens, 17, logits);
    model_eval(m, expected.tokens[OTHER], other, logits);
    ck_assert_int_eq(qd_model_rewind(m, 17), QD_OK);
    model_eval(m, tokens + 17, MAX_TOKENS - 17, logits);
    expect_bytes(logits, want + 17 * vocab, MAX_TOKENS - 17, vocab, what);
    /* Only the last token's logits, and none at all. */
    one_row row = {.vocab = vocab};
    ck_assert_int_eq(qd_model_rewind(m, 3), QD_OK);
    ck_assert_int_eq(qd_model_eval(m, tokens + 3, 30, false, NULL, NULL), QD_OK);
    ck_assert_int_eq(qd_model_eval(m, tokens + 33, 20, false, keep_row, &row), QD_OK);
    ck_assert_int_eq(row.calls, 1);
    ck_assert_int_eq(row.position, 52);
    expect_bytes(row.logits, want + 52 * vocab, 1, vocab, what);
}

static void expect_device(const model_parts *p, qd_format activations, const char *device, const qd_context_options *o,
                          int chunk, int first_prompt) {
    char what[200];
    qd_context *c = model_context(device, o);
    const qd_model_options model = model_options(chunk, activations);
    model_bed b = model_open(p, c, &model);
    snprintf(what, sizeof what, "%s, %s, chunks of %d", device, qd_format_get(activations)->name, chunk);
    ck_assert_msg(qd_model_describe(b.model)->graph.fallbacks == 0, "%s: operators fell back to the reference", what);
    expect_prompts(b.model, first_prompt, what);
    expect_rewinds(b.model, what);
    model_close(&b);
    qd_context_free(c);
}

START_TEST(same_bytes_on_every_device) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    const model_spec specs[] = {model_small(QD_FORMAT_Q4_1), blocked(), mixed()};
    const qd_format activations[] = {QD_FORMAT_A8, QD_FORMAT_A8, QD_FORMAT_F32};
    model_parts p = model_make(&specs[_i], 2);
    make_expected(&p, activations[_i]);
    const int chunks[] = {1, 5, 16, 128};
    for (int d = 0; d < devices; d++) {
        for (int i = 0; i < 4; i++)
            expect_device(&p, activations[_i], ids[d], NULL, chunks[i], 0);
    }
    model_parts_free(&p);
}
END_TEST

START_TEST(same_bytes_in_every_format) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    const qd_format f = file_formats[_i];
    model_spec s = f == QD_FORMAT_F32 ? ragged() : model_small(f);
    model_parts p = model_make(&s, 3);
    for (int a = 0; a < 2; a++) {
        const qd_format activations = a ? QD_FORMAT_A8 : QD_FORMAT_F32;
        make_expected(&p, activations);
        for (int d = 1; d < devices; d++)
            expect_device(&p, activations, ids[d], NULL, 24, PROMPTS - 2);
    }
    model_parts_free(&p);
}
END_TEST

/* Weights of several times the largest allocation: they must have been split, or loading fails. */
START_TEST(same_bytes_with_every_option) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    model_spec s = model_small(QD_FORMAT_Q8_0);
    s.kv_heads = 1;
    s.ff = 192;
    model_parts p = model_make(&s, 4);
    make_expected(&p, QD_FORMAT_A8);
    const struct {
        qd_context_options context;
        int chunk;
    } cases[] = {
        {{.in_order = true}, 16},
        {{.out_of_order = true}, 16},
        {{.profile = true}, 16},
        {{.profile = true, .out_of_order = true}, 16},
        {{.threads = 1}, 16},
        {{.max_alloc = 8192}, 1},
        {{.max_alloc = 8192, .out_of_order = true}, 1},
    };
    for (int d = 0; d < devices; d++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            expect_device(&p, QD_FORMAT_A8, ids[d], &cases[i].context, cases[i].chunk, 2);
    }
    model_parts_free(&p);
}
END_TEST

/* The comparison itself sees one bit in one weight. */
START_TEST(one_bit_changes_bytes) {
    static float logits[MAX_TOKENS * MAX_VOCAB];
    const model_spec s = model_small(QD_FORMAT_Q4_1);
    model_parts p = model_make(&s, 2);
    make_expected(&p, QD_FORMAT_A8);
    ((uint8_t *)model_find_tensor(&p, "blk.1.ffn_up.weight")->bytes)[4 + 7] ^= 1;
    qd_context *c = model_context("ref", NULL);
    const qd_model_options o = model_options(128, QD_FORMAT_A8);
    model_bed b = model_open(&p, c, &o);
    model_eval(b.model, expected.tokens[2], prompt_sizes[2], logits);
    ck_assert_mem_ne(logits, expected.logits[2], (size_t)(prompt_sizes[2] * s.vocab) * sizeof *logits);
    model_close(&b);
    qd_context_free(c);
    model_parts_free(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model");
    TCase *defined = tcase_create("defined");
    tcase_add_loop_test(defined, every_format_as_defined, 0, FILE_FORMATS);
    tcase_add_test(defined, shapes_as_defined);
    tcase_add_test(defined, position_scaling_as_defined);
    tcase_add_test(defined, other_models_are_told_apart);
    tcase_add_test(defined, described);
    tcase_set_timeout(defined, 60);
    suite_add_tcase(suite, defined);
    TCase *bytes = tcase_create("same bytes");
    tcase_add_loop_test(bytes, same_bytes_on_every_device, 0, 3);
    tcase_add_loop_test(bytes, same_bytes_in_every_format, 0, FILE_FORMATS);
    tcase_add_test(bytes, same_bytes_with_every_option);
    tcase_add_test(bytes, one_bit_changes_bytes);
    tcase_set_timeout(bytes, 300);
    suite_add_tcase(suite, bytes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
