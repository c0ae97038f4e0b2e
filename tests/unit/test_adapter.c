/* Adapters: what a model with one computes, against the definition with the low-rank product merged into the weights;
 * the formats of its file, and the files that are refused. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot.h"
#include "unit/devices.h"
#include "unit/model_image.h"

enum { TOKENS = 6, VOCAB = 50, RANK = 3 };

static const char *const matrices[] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
enum { MATRICES = sizeof matrices / sizeof matrices[0] };

/* ---- Making adapters ---------------------------------------------------------------------------------------- */

static void add_text(model_parts *p, const char *name, const char *text) {
    p->keys[p->n_keys++] = (model_key){.name = name, .type = QD_GGUF_STRING, .text = text};
}

/* A factor of multiples of 1/64 between -7/64 and 7/64, or, with `zero`, of zeros: exact in every format here. */
static void add_factor(model_parts *p, uint64_t *random, qd_format f, const char *matrix, const char *suffix,
                       int64_t rows, int64_t cols, bool zero) {
    model_tensor *t = &p->tensors[p->n_tensors++];
    ck_assert_int_le(p->n_tensors, (int)(sizeof p->tensors / sizeof p->tensors[0]));
    *t = (model_tensor){.rank = 2, .shape = {rows, cols}, .format = f, .rows = rows, .cols = cols};
    snprintf(t->name, sizeof t->name, "%s.%s", matrix, suffix);
    t->gguf_type = (uint32_t)qd_format_get(f)->gguf_type;
    t->size = (size_t)rows * qd_format_row_bytes(f, cols);
    t->bytes = malloc(t->size);
    float *values = malloc((size_t)(rows * cols) * sizeof *values);
    ck_assert(t->bytes && values);
    for (int64_t i = 0; i < rows * cols; i++)
        values[i] = zero ? 0 : (float)((int)(model_random(random) % 15) - 7) / 64;
    ck_assert_int_eq(qd_quantize(f, values, rows, cols, t->bytes), QD_OK);
    free(values);
}

static void add_pair(model_parts *p, uint64_t *random, qd_format f, const model_parts *model, const char *matrix,
                     bool zero) {
    for (int i = 0; i < model->n_tensors; i++) {
        const model_tensor *w = &model->tensors[i];
        if (strcmp(w->name, matrix)) continue;
        add_factor(p, random, f, matrix, "lora_a", RANK, w->cols, false);
        add_factor(p, random, f, matrix, "lora_b", w->rows, RANK, zero);
    }
}

/* Of all matrices of the layers, and of the output where it has weights of its own. `zero`: b is. */
static model_parts adapter_for(const model_parts *model, uint64_t seed, qd_format f, bool zero) {
    model_parts p = {0};
    char name[40];
    add_text(&p, "general.type", "adapter");
    add_text(&p, "general.architecture", "llama");
    add_text(&p, "adapter.type", "lora");
    model_set_number(&p, "adapter.lora.alpha", QD_GGUF_F32, 6);
    for (int i = 0; i < MATRICES * model->spec.layers; i++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", i / MATRICES, matrices[i % MATRICES]);
        add_pair(&p, &seed, f, model, name, zero);
    }
    add_pair(&p, &seed, f, model, "output.weight", zero);
    return p;
}

/* w += scale · alpha / rank · b · a, for each pair; the weights are f32. */
static void merge(model_parts *model, model_parts *adapter, double scale) {
    const double s = scale * model_find_key(adapter, "adapter.lora.alpha")->number / RANK;
    for (int i = 0; i < model->n_tensors; i++) {
        model_tensor *w = &model->tensors[i];
        char name[64];
        if (w->rank != 2 || !strcmp(w->name, "token_embd.weight")) continue;
        snprintf(name, sizeof name, "%s.lora_a", w->name);
        const float *a = model_find_tensor(adapter, name)->bytes;
        snprintf(name, sizeof name, "%s.lora_b", w->name);
        const float *b = model_find_tensor(adapter, name)->bytes;
        for (int64_t at = 0; at < w->rows * w->cols; at++) {
            double sum = 0;
            for (int l = 0; l < RANK; l++)
                sum += (double)b[at / w->cols * RANK + l] * (double)a[l * w->cols + at % w->cols];
            ((float *)w->bytes)[at] = (float)((double)((float *)w->bytes)[at] + s * sum);
        }
    }
}

/* ---- Running ------------------------------------------------------------------------------------------------ */

typedef struct loaded_adapters {
    image file[2];
    qd_gguf *gguf[2];
    qd_adapter adapters[2];
    int count;
} loaded_adapters;

static loaded_adapters load_adapters(const model_parts *p[], const float *scales, int count) {
    loaded_adapters l = {.count = count};
    for (int i = 0; i < count; i++) {
        l.file[i] = model_write(p[i]);
        ck_ok(qd_gguf_parse(l.file[i].bytes, l.file[i].size, &l.gguf[i]));
        l.adapters[i] = (qd_adapter){l.gguf[i], scales[i]};
    }
    return l;
}

static void free_adapters(loaded_adapters *l) {
    for (int i = 0; i < l->count; i++) {
        qd_gguf_free(l->gguf[i]);
        image_free(&l->file[i]);
    }
}

/* Loads with adapters, which are gone when it returns. */
static qd_status try_adapters(const model_parts *model, qd_context *c, qd_format activations, const model_parts *p[],
                              const float *scales, int count, model_bed *b) {
    loaded_adapters l = load_adapters(p, scales, count);
    qd_model_options o = model_options(4, activations);
    o.adapters = l.adapters;
    o.adapter_count = count;
    const qd_status status = model_try(model, c, &o, b);
    free_adapters(&l);
    return status;
}

/* Logits of a few tokens on a device. */
static void logits_of(const model_parts *model, const char *device, qd_format activations, const model_parts *p[],
                      const float *scales, int count, float out[TOKENS * VOCAB]) {
    qd_context *c = model_context(device, NULL);
    int32_t tokens[TOKENS];
    model_bed b;
    model_tokens(7, VOCAB, tokens, TOKENS);
    ck_assert_msg(try_adapters(model, c, activations, p, scales, count, &b) == QD_OK, "%s", qd_last_message());
    model_eval(b.model, tokens, TOKENS, out);
    model_close(&b);
    qd_context_free(c);
}

static double largest_difference(const float *a, const double *b) {
    double most = 0;
    for (int i = 0; i < TOKENS * VOCAB; i++)
        most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

static model_parts make_model(qd_format f, bool tied) {
    model_spec s = model_small(f);
    s.tied = tied;
    return model_make(&s, 3);
}

/* bf16 keeps 8 bits of x and of x · aᵀ, and so of what a branch adds: the merged product has none of these roundings.
 */
START_TEST(test_merged) {
    static const float scales[] = {1, -0.75f};
    const bool tied = _i % 2;
    const int count = 1 + _i / 2;
    model_parts model = make_model(QD_FORMAT_F32, tied);
    model_parts first = adapter_for(&model, 11, QD_FORMAT_F32, false);
    model_parts second = adapter_for(&model, 12, QD_FORMAT_F32, false);
    const model_parts *both[] = {&first, &second};
    float without[TOKENS * VOCAB], with[TOKENS * VOCAB];
    double want[TOKENS * VOCAB];
    int32_t tokens[TOKENS];
    model_tokens(7, VOCAB, tokens, TOKENS);
    logits_of(&model, "ref", QD_FORMAT_F32, both, scales, 0, without);
    logits_of(&model, "ref", QD_FORMAT_F32, both, scales, count, with);
    merge(&model, &first, 1);
    if (count > 1) merge(&model, &second, -0.75);
    model_define(&model, tokens, TOKENS, want);
    const double changed = largest_difference(without, want), error = largest_difference(with, want);
    ck_assert_msg(changed > 0.5 && error < 0.01 * changed, "the adapter changes logits by %g, with an error of %g",
                  changed, error);
    model_parts_free(&model);
    model_parts_free(&first);
    model_parts_free(&second);
}
END_TEST

/* Zeros in b change no byte, and scale 0 neither. */
START_TEST(test_nothing_added) {
    static const qd_format formats[] = {QD_FORMAT_F32, QD_FORMAT_Q4_0, QD_FORMAT_Q8_0};
    for (int f = 0; f < 3; f++) {
        model_parts model = make_model(formats[f], false);
        model_parts zero = adapter_for(&model, 11, QD_FORMAT_F32, true);
        model_parts some = adapter_for(&model, 11, QD_FORMAT_F32, false);
        float without[TOKENS * VOCAB], with[TOKENS * VOCAB];
        for (int activations = 0; activations < 2; activations++) {
            const qd_format a = activations ? QD_FORMAT_A8 : QD_FORMAT_F32;
            logits_of(&model, "ref", a, NULL, NULL, 0, without);
            logits_of(&model, "ref", a, (const model_parts *[]){&zero}, (float[]){1}, 1, with);
            ck_assert_mem_eq(with, without, sizeof with);
            logits_of(&model, "ref", a, (const model_parts *[]){&some}, (float[]){0}, 1, with);
            ck_assert_mem_eq(with, without, sizeof with);
            logits_of(&model, "ref", a, (const model_parts *[]){&some}, (float[]){1}, 1, with);
            ck_assert_mem_ne(with, without, sizeof with);
        }
        model_parts_free(&model);
        model_parts_free(&zero);
        model_parts_free(&some);
    }
}
END_TEST

/* Every device gives the reference's bytes, with int8 activations for the weights beside floats for the branches. */
START_TEST(test_devices) {
    char ids[8][96];
    const int devices = model_devices(ids, 8);
    model_parts model = make_model(QD_FORMAT_Q4_0, false);
    model_parts some = adapter_for(&model, 11, QD_FORMAT_BF16, false);
    const model_parts *adapters[] = {&some, &some};
    static const float scales[] = {1, 0.5f};
    float want[TOKENS * VOCAB], got[TOKENS * VOCAB];
    logits_of(&model, "ref", QD_FORMAT_A8, adapters, scales, 2, want);
    for (int i = 1; i < devices; i++) {
        if (strncmp(ids[i], "opencl", 6)) continue;
        logits_of(&model, ids[i], QD_FORMAT_A8, adapters, scales, 2, got);
        ck_assert_msg(!memcmp(got, want, sizeof got), "%s gives other bytes", ids[i]);
    }
    model_parts_free(&model);
    model_parts_free(&some);
}
END_TEST

/* ---- Files -------------------------------------------------------------------------------------------------- */

/* The same numbers in any format, and a factor of one row that was written without that dimension. */
START_TEST(test_formats) {
    static const qd_format formats[] = {QD_FORMAT_F16, QD_FORMAT_BF16};
    model_parts model = make_model(QD_FORMAT_F32, true);
    model_parts plain = adapter_for(&model, 11, QD_FORMAT_F32, false);
    float want[TOKENS * VOCAB], got[TOKENS * VOCAB];
    logits_of(&model, "ref", QD_FORMAT_F32, (const model_parts *[]){&plain}, (float[]){1}, 1, want);
    for (int f = 0; f < 2; f++) {
        model_parts other = adapter_for(&model, 11, formats[f], false);
        logits_of(&model, "ref", QD_FORMAT_F32, (const model_parts *[]){&other}, (float[]){1}, 1, got);
        ck_assert_mem_eq(got, want, sizeof got);
        model_parts_free(&other);
    }
    model_parts_free(&plain);
    /* One pair of rank 1, in both shapes. */
    for (int rank = 2; rank >= 1; rank--) {
        model_parts one = adapter_for(&model, 11, QD_FORMAT_F32, false);
        while (one.n_tensors > 2)
            model_drop_tensor(&one, one.tensors[one.n_tensors - 1].name);
        uint64_t seed = 5;
        for (int i = 0; i < 2; i++) {
            model_tensor old = one.tensors[i];
            one.n_tensors = i;
            add_factor(&one, &seed, QD_FORMAT_F32, "blk.0.attn_q.weight", i ? "lora_b" : "lora_a", i ? old.rows : 1,
                       i ? 1 : old.cols, false);
            free(old.bytes);
        }
        if (rank == 1) {
            one.tensors[0].rank = 1;
            one.tensors[0].shape[0] = one.tensors[0].cols;
        }
        logits_of(&model, "ref", QD_FORMAT_F32, (const model_parts *[]){&one}, (float[]){1}, 1, rank == 2 ? want : got);
        model_parts_free(&one);
    }
    ck_assert_mem_eq(got, want, sizeof got);
    model_parts_free(&model);
}
END_TEST

typedef struct damage {
    const char *what, *says;
    void (*make)(model_parts *p);
    qd_status status; /* 0: QD_ERR_FILE */
} damage;

static void is_model(model_parts *p) {
    model_find_key(p, "general.type")->text = "model";
}
static void has_no_type(model_parts *p) {
    model_drop_key(p, "general.type");
}
static void other_kind(model_parts *p) {
    model_find_key(p, "adapter.type")->text = "control_vector";
}
static void other_architecture(model_parts *p) {
    model_find_key(p, "general.architecture")->text = "gemma2";
}
static void type_is_number(model_parts *p) {
    model_drop_key(p, "adapter.type");
    model_set_number(p, "adapter.type", QD_GGUF_U32, 1);
}
static void no_alpha(model_parts *p) {
    model_drop_key(p, "adapter.lora.alpha");
}
static void zero_alpha(model_parts *p) {
    model_set_number(p, "adapter.lora.alpha", QD_GGUF_F32, 0);
}
static void infinite_alpha(model_parts *p) {
    model_set_number(p, "adapter.lora.alpha", QD_GGUF_F32, (double)INFINITY);
}
static void invoked(model_parts *p) {
    model_set_number(p, "adapter.alora.invocation_tokens", QD_GGUF_U32, 1);
}
static void rename_tensor(model_parts *p, const char *from, const char *to) {
    model_tensor *t = model_find_tensor(p, from);
    memset(t->name, 0, sizeof t->name);
    strcpy(t->name, to);
}
static void no_b(model_parts *p) {
    model_drop_tensor(p, "blk.1.ffn_up.weight.lora_b");
}
static void no_a(model_parts *p) {
    model_drop_tensor(p, "blk.1.ffn_up.weight.lora_a");
}
static void no_such_layer(model_parts *p) {
    rename_tensor(p, "blk.1.ffn_up.weight.lora_a", "blk.2.ffn_up.weight.lora_a");
    rename_tensor(p, "blk.1.ffn_up.weight.lora_b", "blk.2.ffn_up.weight.lora_b");
}
static void no_suffix(model_parts *p) {
    rename_tensor(p, "blk.1.ffn_up.weight.lora_b", "blk.1.ffn_up.weight");
    model_drop_tensor(p, "blk.1.ffn_up.weight.lora_a");
}
static void of_norm(model_parts *p) {
    rename_tensor(p, "blk.1.ffn_up.weight.lora_a", "blk.1.ffn_norm.weight.lora_a");
    rename_tensor(p, "blk.1.ffn_up.weight.lora_b", "blk.1.ffn_norm.weight.lora_b");
}
static void of_embedding(model_parts *p) {
    rename_tensor(p, "blk.1.ffn_up.weight.lora_a", "token_embd.weight.lora_a");
    rename_tensor(p, "blk.1.ffn_up.weight.lora_b", "token_embd.weight.lora_b");
}
static void of_tied_output(model_parts *p) {
    rename_tensor(p, "blk.1.ffn_up.weight.lora_a", "output.weight.lora_a");
    rename_tensor(p, "blk.1.ffn_up.weight.lora_b", "output.weight.lora_b");
}
static void swapped(model_parts *p) {
    rename_tensor(p, "blk.0.ffn_up.weight.lora_a", "x");
    rename_tensor(p, "blk.0.ffn_up.weight.lora_b", "blk.0.ffn_up.weight.lora_a");
    rename_tensor(p, "x", "blk.0.ffn_up.weight.lora_b");
}
static void other_rows(model_parts *p) {
    rename_tensor(p, "blk.0.attn_k.weight.lora_b", "x");
    rename_tensor(p, "blk.0.attn_q.weight.lora_b", "blk.0.attn_k.weight.lora_b");
    rename_tensor(p, "x", "blk.0.attn_q.weight.lora_b");
}
static void other_rank(model_parts *p) {
    model_tensor *t = model_find_tensor(p, "blk.0.attn_q.weight.lora_a");
    t->shape[0] = t->rows = RANK - 1;
    t->size = t->size / RANK * (RANK - 1);
}
static void three_dimensions(model_parts *p) {
    model_tensor *t = model_find_tensor(p, "blk.0.attn_q.weight.lora_a");
    t->rank = 3;
    t->shape[2] = t->shape[1];
    t->shape[1] = 1;
}
static void not_finite(model_parts *p) {
    ((float *)model_find_tensor(p, "blk.1.attn_v.weight.lora_b")->bytes)[7] = NAN;
}
static void too_large(model_parts *p) {
    ((float *)model_find_tensor(p, "blk.1.attn_v.weight.lora_a")->bytes)[5] = 3.4e38f;
}
static void of_integers(model_parts *p) {
    model_find_tensor(p, "blk.0.attn_q.weight.lora_a")->gguf_type = 26; /* I32 */
}
static void of_an_unknown_type(model_parts *p) {
    model_find_tensor(p, "blk.0.attn_q.weight.lora_a")->gguf_type = 29; /* IQ1_M */
}
static void empty(model_parts *p) {
    while (p->n_tensors)
        model_drop_tensor(p, p->tensors[0].name);
}

START_TEST(test_refused) {
    static const damage all[] = {
        {"a model", "general.type is \"model\", not \"adapter\": give a LoRA adapter", is_model, 0},
        {"no type", "general.type is \"\", not \"adapter\"", has_no_type, 0},
        {"a control vector", "adapter.type is \"control_vector\", not \"lora\"", other_kind, 0},
        {"a type that is no text", "adapter.type", type_is_number, 0},
        {"another architecture", "general.architecture is \"gemma2\", not \"llama\"", other_architecture, 0},
        {"no alpha", "lacks adapter.lora.alpha", no_alpha, 0},
        {"alpha 0", "alpha is 0", zero_alpha, 0},
        {"alpha infinite", "alpha is inf", infinite_alpha, 0},
        {"invocation tokens", "aLoRA", invoked, QD_ERR_UNSUPPORTED},
        {"no b", "has blk.1.ffn_up.weight.lora_a without blk.1.ffn_up.weight.lora_b", no_b, 0},
        {"no a", "has blk.1.ffn_up.weight.lora_b without blk.1.ffn_up.weight.lora_a", no_a, 0},
        {"no such layer", "blk.2.ffn_up.weight.lora_a belongs to no matrix", no_such_layer, 0},
        {"no suffix", "blk.1.ffn_up.weight belongs to no matrix", no_suffix, 0},
        {"a norm", "blk.1.ffn_norm.weight.lora_a belongs to no matrix", of_norm, 0},
        {"the embedding", "token_embd.weight.lora_a adapts the embedding", of_embedding, QD_ERR_UNSUPPORTED},
        {"a tied output", "output.weight.lora_a belongs to no matrix", of_tied_output, 0},
        {"swapped factors", "blk.0.ffn_up.weight.lora_a is 160 × 3, where blk.0.ffn_up.weight is 160 × 64", swapped, 0},
        {"other rows", "blk.0.attn_q.weight.lora_b is 32 × 3, where blk.0.attn_q.weight is 64 × 64", other_rows, 0},
        {"other ranks", "blk.0.attn_q.weight.lora_a and blk.0.attn_q.weight.lora_b have the ranks 2 and 3", other_rank,
         0},
        {"three dimensions", "blk.0.attn_q.weight.lora_a has 3 dimensions", three_dimensions, 0},
        {"not finite", "blk.1.attn_v.weight.lora_b has nan in row 2, column 1", not_finite, 0},
        {"too large for bf16", "blk.1.attn_v.weight.lora_a has 3.4e+38 in row 0, column 5", too_large, 0},
        {"integers", "blk.0.attn_q.weight.lora_a has a type that holds no weights (GGUF type 26)", of_integers,
         QD_ERR_UNSUPPORTED},
        {"an unknown type", "blk.0.attn_q.weight.lora_a has a type that holds no weights (GGUF type 29)",
         of_an_unknown_type, QD_ERR_UNSUPPORTED},
        {"nothing", "the adapter has no tensors", empty, 0},
    };
    qd_context *c = model_context("ref", NULL);
    model_parts model = make_model(QD_FORMAT_F32, true);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        model_parts p = adapter_for(&model, 11, QD_FORMAT_F32, false);
        all[i].make(&p);
        model_bed b;
        ck_fails(try_adapters(&model, c, QD_FORMAT_F32, (const model_parts *[]){&p}, (float[]){1}, 1, &b),
                 all[i].status ? all[i].status : QD_ERR_FILE, all[i].says);
        ck_assert_msg(!b.model && !strchr(qd_last_message(), '\n'), "%s: %s", all[i].what, qd_last_message());
        model_close(&b);
        model_parts_free(&p);
    }
    /* The second of two, and scales. */
    model_parts good = adapter_for(&model, 11, QD_FORMAT_F32, false),
                bad = adapter_for(&model, 11, QD_FORMAT_F32, false);
    const model_parts *both[] = {&good, &bad};
    model_bed b;
    no_such_layer(&bad);
    ck_fails(try_adapters(&model, c, QD_FORMAT_F32, both, (float[]){1, 1}, 2, &b), QD_ERR_FILE, "blk.2.ffn_up");
    model_close(&b);
    ck_fails(try_adapters(&model, c, QD_FORMAT_F32, both, (float[]){NAN}, 1, &b), QD_ERR_ARGUMENT, "a finite scale");
    model_close(&b);
    ck_fails(try_adapters(&model, c, QD_FORMAT_F32, both, (float[]){3e38f}, 1, &b), QD_ERR_FILE,
             "scale of the adapter");
    model_close(&b);
    model_parts_free(&good);
    model_parts_free(&bad);
    model_parts_free(&model);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("adapter");
    tcase_add_loop_test(tc, test_merged, 0, 4);
    tcase_add_test(tc, test_nothing_added);
    tcase_add_test(tc, test_devices);
    tcase_add_test(tc, test_formats);
    tcase_add_test(tc, test_refused);
    return run_tests(tc, "adapter");
}
