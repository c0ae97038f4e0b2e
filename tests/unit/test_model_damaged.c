/* Files that are no llama model, or a damaged one: a status and a message, quickly, or a model that runs. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "qdot/qdot.h"
#include "unit/model_image.h"

enum { MAX_DEVICES = 8 };

/* A file of a few kilobytes, so that much of it is numbers that matter. */
static model_parts tiny(void) {
    model_spec s = model_small(QD_FORMAT_Q4_1);
    s.layers = 1;
    s.width = 32;
    s.heads = 2;
    s.kv_heads = 1;
    s.ff = 32;
    s.vocab = 20;
    s.context = 16;
    s.tied = false;
    s.rope_factors = true;
    s.format[W_OUTPUT] = QD_FORMAT_F32;
    s.format[W_V] = QD_FORMAT_Q8_0;
    return model_make(&s, 9);
}

/* Loading must fail with this status and a message that holds `text`, at once, and with little memory taken. */
static void expect_refused(const model_parts *p, qd_status expected, const char *text, const char *what) {
    enum { LITTLE = 1 << 16 };
    qd_context *c = model_context("ref", NULL);
    model_bed b;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    const qd_status status = model_try(p, c, NULL, &b);
    clock_gettime(CLOCK_MONOTONIC, &end);
    ck_assert_msg(status == expected, "%s: %s, not %s (%s)", what, qd_status_name(status), qd_status_name(expected),
                  qd_last_message());
    ck_assert_msg(strstr(qd_last_message(), text), "%s: the message '%s' lacks '%s'", what, qd_last_message(), text);
    ck_assert_ptr_null(b.model);
    qd_memory_info memory;
    ck_assert_int_eq(qd_context_memory(c, &memory), QD_OK);
    ck_assert_uint_eq(memory.used, 0);
    ck_assert_msg(memory.peak < LITTLE, "%s: %llu bytes were taken", what, (unsigned long long)memory.peak);
    ck_assert_msg(end.tv_sec - start.tv_sec < 2, "%s: took seconds", what);
    model_close(&b);
    qd_context_free(c);
}

/* ---- Keys ---------------------------------------------------------------------------------------------------- */

START_TEST(missing_keys) {
    static const char *const required[] = {"general.architecture",
                                           "llama.block_count",
                                           "llama.embedding_length",
                                           "llama.feed_forward_length",
                                           "llama.attention.head_count",
                                           "llama.context_length",
                                           "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof required / sizeof required[0]; i++) {
        model_parts p = tiny();
        model_drop_key(&p, required[i]);
        expect_refused(&p, QD_ERR_FILE, required[i], required[i]);
        model_parts_free(&p);
    }
}
END_TEST

/* Without its optional keys the model is the same, where they say what is assumed anyway. */
START_TEST(optional_keys) {
    static const char *const optional[] = {"general.name", "llama.attention.key_length", "llama.rope.dimension_count",
                                           "llama.rope.freq_base"};
    const int32_t tokens[3] = {1, 2, 3};
    float with[3 * 20], without[3 * 20];
    qd_context *c = model_context("ref", NULL);
    for (int dropped = 0; dropped < 2; dropped++) {
        model_parts p = tiny();
        for (size_t i = 0; dropped && i < sizeof optional / sizeof optional[0]; i++)
            model_drop_key(&p, optional[i]);
        model_bed b = model_open(&p, c, NULL);
        model_eval(b.model, tokens, 3, dropped ? without : with);
        if (dropped) ck_assert_str_eq(qd_model_describe(b.model)->name, "");
        model_close(&b);
        model_parts_free(&p);
    }
    ck_assert_mem_eq(with, without, sizeof with);
    /* As many key/value heads as heads. */
    model_spec s = model_small(QD_FORMAT_F32);
    s.kv_heads = s.heads;
    model_parts p = model_make(&s, 9);
    model_drop_key(&p, "llama.attention.head_count_kv");
    model_bed b = model_open(&p, c, NULL);
    ck_assert_int_eq(qd_model_describe(b.model)->kv_heads, s.heads);
    model_close(&b);
    model_parts_free(&p);
    qd_context_free(c);
}
END_TEST

START_TEST(absurd_numbers) {
    /* Each is out of its range, or in it and contradicted by the tensors. */
    static const char *const keys[] = {
        "llama.block_count",          "llama.embedding_length",        "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.head_count_kv", "llama.attention.key_length",
        "llama.rope.dimension_count"};
    static const double numbers[] = {0, 3, 7, 17, 48, 1024, 4096, 1 << 20, 1 << 22, INT32_MAX, UINT32_MAX};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
            model_parts p = tiny();
            char what[80];
            snprintf(what, sizeof what, "%s is %g", keys[k], numbers[i]);
            model_set_number(&p, keys[k], QD_GGUF_U32, numbers[i]);
            qd_context *c = model_context("ref", NULL);
            model_bed b;
            const qd_status status = model_try(&p, c, NULL, &b);
            ck_assert_msg(status == QD_ERR_FILE || status == QD_ERR_UNSUPPORTED, "%s: %s", what,
                          qd_status_name(status));
            model_close(&b);
            qd_context_free(c);
            expect_refused(&p, status, "", what);
            model_parts_free(&p);
        }
    }
}
END_TEST

START_TEST(largest_dimensions_together) {
    /* All in their ranges and consistent with each other; only the tensors tell that they are not true. */
    model_parts p = tiny();
    model_set_number(&p, "llama.block_count", QD_GGUF_U32, 1024);
    model_set_number(&p, "llama.embedding_length", QD_GGUF_U32, 1 << 20);
    model_set_number(&p, "llama.feed_forward_length", QD_GGUF_U32, 1 << 22);
    model_set_number(&p, "llama.attention.head_count", QD_GGUF_U32, 1024);
    model_set_number(&p, "llama.attention.head_count_kv", QD_GGUF_U32, 1024);
    model_set_number(&p, "llama.attention.key_length", QD_GGUF_U32, 4096);
    model_set_number(&p, "llama.rope.dimension_count", QD_GGUF_U32, 4096);
    model_set_number(&p, "llama.context_length", QD_GGUF_U32, 1 << 24);
    expect_refused(&p, QD_ERR_FILE, "token_embd.weight", "everything at its largest");
    model_parts_free(&p);
    /* A vocabulary as large as it may be, of a type whose size nobody checks. */
    p = tiny();
    model_tensor *t = model_find_tensor(&p, "token_embd.weight");
    t->shape[0] = INT32_MAX;
    t->gguf_type = TYPE_UNKNOWN;
    expect_refused(&p, QD_ERR_UNSUPPORTED, "token_embd.weight", "a vocabulary of 2^31");
    t->shape[0] = (int64_t)1 << 40;
    expect_refused(&p, QD_ERR_FILE, "token_embd.weight", "a vocabulary of 2^40");
    model_parts_free(&p);
    /* The longest context that a file may claim is not taken by default. */
    p = tiny();
    model_set_number(&p, "llama.context_length", QD_GGUF_U32, 1 << 24);
    qd_context *c = model_context("ref", NULL);
    model_bed b = model_open(&p, c, NULL);
    ck_assert_int_eq(qd_model_describe(b.model)->context, 4096);
    model_close(&b);
    qd_context_free(c);
    model_parts_free(&p);
}
END_TEST

START_TEST(numbers_out_of_range) {
    static const struct {
        const char *key;
        double number;
    } cases[] = {{"llama.context_length", 0},
                 {"llama.context_length", (1 << 24) + 1},
                 {"llama.attention.layer_norm_rms_epsilon", -1e-5},
                 {"llama.attention.layer_norm_rms_epsilon", 1},
                 {"llama.attention.layer_norm_rms_epsilon", NAN},
                 {"llama.attention.layer_norm_rms_epsilon", INFINITY},
                 {"llama.rope.freq_base", 0},
                 {"llama.rope.freq_base", -10000},
                 {"llama.rope.freq_base", NAN},
                 {"llama.rope.freq_base", INFINITY},
                 {"llama.rope.scaling.factor", 0},
                 {"llama.rope.scaling.factor", -2},
                 {"llama.rope.scaling.factor", NAN},
                 {"llama.rope.scaling.factor", INFINITY},
                 {"llama.rope.scale_linear", 0},
                 {"llama.rope.scale_linear", NAN}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_parts p = tiny();
        model_set_number(&p, cases[i].key, QD_GGUF_F32, cases[i].number);
        expect_refused(&p, QD_ERR_FILE, cases[i].key, cases[i].key);
        model_parts_free(&p);
    }
}
END_TEST

START_TEST(wrong_types) {
    model_parts p = tiny();
    model_set_number(&p, "llama.rope.scaling.factor", QD_GGUF_F32, 1);
    model_find_key(&p, "general.name")->type = QD_GGUF_STRING;
    for (int i = 0; i < p.n_keys; i++) {
        model_key *k = &p.keys[i];
        const model_key before = *k;
        if (!strcmp(k->name, "general.name")) continue; /* only shown */
        if (k->type == QD_GGUF_STRING) {
            k->type = QD_GGUF_U32;
            expect_refused(&p, QD_ERR_FILE, k->name, "a number for a text");
        } else {
            k->type = QD_GGUF_STRING;
            k->text = "16";
            expect_refused(&p, QD_ERR_FILE, k->name, "a text for a number");
            *k = before;
            k->array = true;
            k->items = 1;
            expect_refused(&p, QD_ERR_UNSUPPORTED, k->name, "a number for each layer");
            k->items = 0;
            expect_refused(&p, QD_ERR_UNSUPPORTED, k->name, "an empty array");
        }
        *k = before;
        if (k->type == QD_GGUF_U32) {
            k->type = QD_GGUF_F32;
            expect_refused(&p, QD_ERR_FILE, k->name, "a count with a fraction");
            k->type = QD_GGUF_I8;
            k->number = -1;
            expect_refused(&p, QD_ERR_FILE, k->name, "a negative count");
            k->type = QD_GGUF_U64;
            k->number = -1; /* 2^64 - 1 */
            expect_refused(&p, QD_ERR_FILE, k->name, "a huge count");
            *k = before;
            k->type = QD_GGUF_U8; /* a right one in another type */
            model_bed b = {0};
            qd_context *c = model_context("ref", NULL);
            b = model_open(&p, c, NULL);
            model_close(&b);
            qd_context_free(c);
        }
        *k = before;
    }
    model_parts_free(&p);
}
END_TEST

START_TEST(other_kinds) {
    model_parts p = tiny();
    model_find_key(&p, "general.architecture")->text = "llama4";
    expect_refused(&p, QD_ERR_UNSUPPORTED, "llama4", "architecture");
    model_find_key(&p, "general.architecture")->text = "";
    expect_refused(&p, QD_ERR_UNSUPPORTED, "architecture", "architecture");
    model_parts_free(&p);
    static const char *const scalings[] = {"yarn", "longrope", "", "Linear", "linear2"};
    for (size_t i = 0; i < sizeof scalings / sizeof scalings[0]; i++) {
        model_spec s = model_small(QD_FORMAT_F32);
        s.rope_type = scalings[i];
        p = model_make(&s, 1);
        expect_refused(&p, QD_ERR_UNSUPPORTED, "linear", scalings[i]);
        model_parts_free(&p);
    }
}
END_TEST

START_TEST(heads_that_do_not_fit) {
    static const struct {
        int heads, kv_heads, dim;
        const char *text;
    } cases[] = {{3, 2, 16, "multiple"}, {2, 4, 16, "multiple"}, {2, 1, 15, "16"}, {2, 1, 8, "16"}, {2, 1, 24, "16"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_spec s = model_small(QD_FORMAT_F32);
        s.heads = cases[i].heads;
        s.kv_heads = cases[i].kv_heads;
        s.head_dim = cases[i].dim;
        model_parts p = model_make(&s, 1);
        expect_refused(&p, strcmp(cases[i].text, "16") ? QD_ERR_FILE : QD_ERR_UNSUPPORTED, cases[i].text, "heads");
        model_parts_free(&p);
    }
    /* Only a part of each head rotated. */
    model_spec s = model_small(QD_FORMAT_F32);
    model_parts p = model_make(&s, 1);
    model_set_number(&p, "llama.rope.dimension_count", QD_GGUF_U32, 8);
    expect_refused(&p, QD_ERR_UNSUPPORTED, "rotated", "rotation");
    model_parts_free(&p);
}
END_TEST

/* ---- Tensors ------------------------------------------------------------------------------------------------- */

START_TEST(missing_tensors) {
    model_parts p = tiny();
    const int n = p.n_tensors;
    model_parts_free(&p);
    for (int i = 0; i < n; i++) {
        p = tiny();
        char name[40];
        memcpy(name, p.tensors[i].name, sizeof name);
        model_drop_tensor(&p, name);
        if (strcmp(name, "output.weight") && strcmp(name, "rope_freqs.weight")) {
            expect_refused(&p, QD_ERR_FILE, name, name);
        }
        model_parts_free(&p);
    }
}
END_TEST

START_TEST(tensors_of_other_shapes) {
    model_parts p = tiny();
    for (int i = 0; i < p.n_tensors; i++) {
        model_tensor *t = &p.tensors[i];
        const model_tensor before = *t;
        /* Fewer and more rows (the file has the bytes of fewer), other rank, turned. */
        t->shape[0] = before.rank == 1 ? before.shape[0] / 2 : before.shape[0] - 1;
        const bool embedding = !strcmp(t->name, "token_embd.weight");
        expect_refused(&p, QD_ERR_FILE, embedding ? "output.weight" : t->name, "a row less");
        *t = before;
        t->rank++;
        t->shape[before.rank] = 1;
        if (qd_format_get(t->format)->block == 1) expect_refused(&p, QD_ERR_FILE, t->name, "a dimension more");
        *t = before;
        t->rank = 3;
        memmove(t->shape + 1, before.shape, 2 * sizeof t->shape[0]);
        t->shape[0] = 1;
        if (before.rank == 1) t->rank = 2;
        expect_refused(&p, QD_ERR_FILE, t->name, "a leading dimension of 1");
        *t = before;
        if (before.rank == 2 && before.shape[0] != before.shape[1] && before.shape[0] % 32 == 0) {
            t->shape[0] = before.shape[1];
            t->shape[1] = before.shape[0];
            expect_refused(&p, QD_ERR_FILE, t->name, "turned");
        }
        *t = before;
    }
    model_parts_free(&p);
}
END_TEST

START_TEST(tensors_of_other_types) {
    model_parts p = tiny();
    for (int i = 0; i < p.n_tensors; i++) {
        model_tensor *t = &p.tensors[i];
        const model_tensor before = *t;
        const bool factors = !strcmp(t->name, "rope_freqs.weight");
        t->gguf_type = TYPE_UNKNOWN;
        expect_refused(&p, factors ? QD_ERR_FILE : QD_ERR_UNSUPPORTED, t->name, "an unknown type");
        /* Integers, and for vectors halves: bytes enough for both. */
        t->size = 4 * (size_t)(t->rows * t->cols);
        t->bytes = calloc(1, t->size);
        ck_assert_ptr_nonnull(t->bytes);
        const uint32_t types[] = {26, TYPE_F16};
        for (int k = 0; k < (before.rank == 1 ? 2 : 1); k++) {
            t->gguf_type = types[k];
            qd_context *c = model_context("ref", NULL);
            model_bed b;
            const qd_status status = model_try(&p, c, NULL, &b);
            ck_assert_msg(status == QD_ERR_UNSUPPORTED || status == QD_ERR_FILE, "%s of type %u: %s", t->name, types[k],
                          qd_status_name(status));
            model_close(&b);
            qd_context_free(c);
        }
        free(t->bytes);
        *t = before;
    }
    model_parts_free(&p);
}
END_TEST

/* Tensors that a plain llama model does not have would change what it computes. */
START_TEST(tensors_left_over) {
    static const char *const names[] = {"blk.0.attn_q.bias", "blk.0.ffn_gate_inp.weight", "blk.1.attn_norm.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        model_parts p = tiny();
        model_tensor *t = &p.tensors[p.n_tensors++];
        *t = (model_tensor){.rank = 1, .shape = {32}, .rows = 1, .cols = 32, .format = QD_FORMAT_F32, .size = 128};
        t->bytes = calloc(1, t->size);
        ck_assert_ptr_nonnull(t->bytes);
        snprintf(t->name, sizeof t->name, "%s", names[i]);
        expect_refused(&p, QD_ERR_UNSUPPORTED, "tensors", names[i]);
        model_parts_free(&p);
    }
}
END_TEST

/* More tokens than rows of the embedding: the tokenizer would give tokens that the model has not. The other way round
 * is common (the embedding is filled up to a round number). */
START_TEST(vocabulary_and_embedding) {
    const uint64_t counts[] = {19, 20, 21, 1000};
    qd_context *c = model_context("ref", NULL);
    for (int i = 0; i < 4; i++) {
        model_parts p = tiny();
        p.keys[p.n_keys++] = (model_key){
            .name = "tokenizer.ggml.tokens", .type = QD_GGUF_STRING, .array = true, .items = counts[i], .text = "x"};
        if (counts[i] <= 20) {
            model_bed b = model_open(&p, c, NULL);
            model_close(&b);
        } else {
            expect_refused(&p, QD_ERR_FILE, "token_embd.weight", "too many tokens");
        }
        model_parts_free(&p);
    }
    qd_context_free(c);
}
END_TEST

/* ---- Damage -------------------------------------------------------------------------------------------------- */

typedef struct outcome {
    int parsed, loaded, ran;
} outcome;

static bool ignore(void *user, int64_t position, const float *logits) {
    (void)user, (void)position, (void)logits;
    return true;
}

/* Whatever the bytes are, nothing but a status happens. */
static void run_anything(qd_context *c, const uint8_t *bytes, size_t size, outcome *o) {
    const int32_t tokens[3] = {0, 1, 2};
    const qd_model_options options = {.chunk = 2, .context = 16, .activations = QD_FORMAT_A8};
    uint8_t *copy;
    qd_gguf *g = NULL;
    qd_model *m = NULL;
    if (parse_copy(bytes, size, &copy, &g) == QD_OK) {
        o->parsed++;
        if (qd_model_load(c, g, &options, &m) == QD_OK) {
            o->loaded++;
            if (qd_model_eval(m, tokens, 3, true, ignore, NULL) == QD_OK) o->ran++;
        }
    }
    qd_model_free(m);
    qd_gguf_free(g);
    free(copy);
    qd_memory_info memory;
    ck_assert_int_eq(qd_context_memory(c, &memory), QD_OK);
    ck_assert_uint_eq(memory.used, 0);
}

static void flip_bits(const char *device, int rounds, outcome *o) {
    model_parts p = tiny();
    image file = model_write(&p);
    uint64_t random = 11;
    qd_context *c = model_context(device, NULL);
    for (int i = 0; i < rounds; i++) {
        /* One to four bits, half of the time in the metadata. */
        uint8_t *copy = malloc(file.size);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, file.bytes, file.size);
        const size_t range = i % 2 ? file.size : file.size / 4;
        for (uint64_t n = model_random(&random) % 4 + 1; n > 0; n--) {
            const uint64_t r = model_random(&random);
            copy[r / 8 % range] ^= (uint8_t)(1 << r % 8);
        }
        run_anything(c, copy, file.size, o);
        free(copy);
    }
    qd_context_free(c);
    image_free(&file);
    model_parts_free(&p);
}

START_TEST(bits_flipped) {
    outcome o = {0};
    flip_bits("ref", 4000, &o);
    ck_assert_msg(o.parsed > 2000 && o.loaded > 1500 && o.ran == o.loaded && o.parsed < 4000 && o.loaded < o.parsed,
                  "%d parsed, %d loaded, %d ran", o.parsed, o.loaded, o.ran);
}
END_TEST

START_TEST(bits_flipped_on_a_device) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    for (int d = 1; d < devices; d++) {
        outcome o = {0};
        flip_bits(ids[d], 300, &o);
        ck_assert_msg(o.ran == o.loaded && o.ran > 100, "%s: %d loaded, %d ran", ids[d], o.loaded, o.ran);
    }
}
END_TEST

START_TEST(truncated) {
    model_parts p = tiny();
    image file = model_write(&p);
    qd_context *c = model_context("ref", NULL);
    outcome o = {0};
    for (size_t size = 0; size < file.size; size += 7)
        run_anything(c, file.bytes, size, &o);
    run_anything(c, file.bytes, file.size - 1, &o);
    ck_assert_int_eq(o.parsed, 0);
    run_anything(c, file.bytes, file.size, &o);
    ck_assert_int_eq(o.ran, 1);
    qd_context_free(c);
    image_free(&file);
    model_parts_free(&p);
}
END_TEST

/* Weights that are no numbers give logits that are none, and no more. */
START_TEST(weights_that_are_no_numbers) {
    char ids[MAX_DEVICES][96];
    const int devices = model_devices(ids, MAX_DEVICES);
    static const float values[] = {NAN, INFINITY, -INFINITY, 3e38f, 0};
    model_parts p = tiny();
    for (int d = 0; d < devices; d++) {
        qd_context *c = model_context(ids[d], NULL);
        for (int i = 0; i < p.n_tensors; i++) {
            model_tensor *t = &p.tensors[i];
            if (t->format != QD_FORMAT_F32) continue;
            float *first = t->bytes;
            const float before = *first;
            for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
                *first = values[v];
                image file = model_write(&p);
                outcome o = {0};
                run_anything(c, file.bytes, file.size, &o);
                ck_assert_int_eq(o.ran, 1);
                image_free(&file);
            }
            *first = before;
        }
        qd_context_free(c);
    }
    model_parts_free(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model damaged");
    TCase *damaged = tcase_create("damaged");
    tcase_add_test(damaged, missing_keys);
    tcase_add_test(damaged, optional_keys);
    tcase_add_test(damaged, absurd_numbers);
    tcase_add_test(damaged, largest_dimensions_together);
    tcase_add_test(damaged, numbers_out_of_range);
    tcase_add_test(damaged, wrong_types);
    tcase_add_test(damaged, other_kinds);
    tcase_add_test(damaged, heads_that_do_not_fit);
    tcase_add_test(damaged, missing_tensors);
    tcase_add_test(damaged, tensors_of_other_shapes);
    tcase_add_test(damaged, tensors_of_other_types);
    tcase_add_test(damaged, tensors_left_over);
    tcase_add_test(damaged, vocabulary_and_embedding);
    tcase_add_test(damaged, bits_flipped);
    tcase_add_test(damaged, bits_flipped_on_a_device);
    tcase_add_test(damaged, truncated);
    tcase_add_test(damaged, weights_that_are_no_numbers);
    tcase_set_timeout(damaged, 120);
    suite_add_tcase(suite, damaged);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
