#include "unit/model_image.h"

#include <stdarg.h>
#include <stdio.h>

static const double rope_base = 10000, epsilon = 1e-5;

model_spec model_small(qd_format f) {
    model_spec s = {.layers = 2,
                    .width = 64,
                    .heads = 4,
                    .kv_heads = 2,
                    .head_dim = 16,
                    .ff = 160,
                    .vocab = 50,
                    .context = 64,
                    .tied = true};
    for (int i = 0; i < MODEL_WEIGHTS; i++)
        s.format[i] = f;
    return s;
}

/* ---- Random numbers ------------------------------------------------------------------------------------------ */

uint64_t model_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* In [-1, 1). */
static double unit(uint64_t *state) {
    return (double)(model_random(state) >> 11) * 0x1p-52 - 1;
}

void model_tokens(uint64_t seed, int vocab, int32_t *tokens, int count) {
    for (int i = 0; i < count; i++)
        tokens[i] = (int32_t)(model_random(&seed) % (uint64_t)vocab);
}

/* ---- Parts --------------------------------------------------------------------------------------------------- */

static model_key *add_key(model_parts *p, const char *name, qd_gguf_type type) {
    ck_assert_int_lt(p->n_keys, (int)(sizeof p->keys / sizeof p->keys[0]));
    model_key *k = &p->keys[p->n_keys++];
    *k = (model_key){.name = name, .type = type};
    return k;
}

static void add_text(model_parts *p, const char *name, const char *text) {
    add_key(p, name, QD_GGUF_STRING)->text = text;
}

/* A tensor of rows × cols (rows 0: a vector) with values of middle ± spread. */
__attribute__((format(printf, 8, 9))) static void add_tensor(model_parts *p, uint64_t *random, qd_format f,
                                                             int64_t rows, int64_t cols, double middle, double spread,
                                                             const char *name, ...) {
    ck_assert_int_lt(p->n_tensors, (int)(sizeof p->tensors / sizeof p->tensors[0]));
    model_tensor *t = &p->tensors[p->n_tensors++];
    *t = (model_tensor){.rank = rows ? 2 : 1, .format = f, .rows = rows ? rows : 1, .cols = cols};
    va_list args;
    va_start(args, name);
    vsnprintf(t->name, sizeof t->name, name, args);
    va_end(args);
    t->shape[0] = rows ? rows : cols;
    t->shape[1] = rows ? cols : 0;
    t->gguf_type = (uint32_t)qd_format_get(f)->gguf_type;
    t->size = (size_t)t->rows * qd_format_row_bytes(f, cols);
    t->bytes = malloc(t->size);
    float *values = malloc((size_t)(t->rows * cols) * sizeof *values);
    ck_assert(t->size && t->bytes && values);
    for (int64_t i = 0; i < t->rows * cols; i++)
        values[i] = (float)(middle + spread * unit(random));
    ck_assert_int_eq(qd_quantize(f, values, t->rows, cols, t->bytes), QD_OK);
    free(values);
}

model_parts model_make(const model_spec *s, uint64_t seed) {
    model_parts p = {.spec = *s};
    add_text(&p, "general.architecture", "llama");
    add_text(&p, "general.name", "tiny");
    const struct {
        const char *name;
        int value;
    } counts[] = {{"llama.block_count", s->layers},
                  {"llama.embedding_length", s->width},
                  {"llama.feed_forward_length", s->ff},
                  {"llama.attention.head_count", s->heads},
                  {"llama.attention.head_count_kv", s->kv_heads},
                  {"llama.context_length", s->context},
                  {"llama.attention.key_length", s->head_dim},
                  {"llama.rope.dimension_count", s->head_dim}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        model_set_number(&p, counts[i].name, QD_GGUF_U32, counts[i].value);
    model_set_number(&p, "llama.attention.layer_norm_rms_epsilon", QD_GGUF_F32, epsilon);
    model_set_number(&p, "llama.rope.freq_base", QD_GGUF_F32, rope_base);
    if (s->rope_type) add_text(&p, "llama.rope.scaling.type", s->rope_type);
    if (s->rope_scale != 0) {
        model_set_number(&p, s->rope_factor ? s->rope_factor : "llama.rope.scaling.factor", QD_GGUF_F32, s->rope_scale);
    }

    const int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim, w = s->width;
    const double by_width = sqrt(3.0 / w); /* of this spread, sums over the width have the size of their terms */
    add_tensor(&p, &seed, s->format[W_EMBED], s->vocab, w, 0, 1, "token_embd.weight");
    for (int i = 0; i < s->layers; i++) {
        add_tensor(&p, &seed, QD_FORMAT_F32, 0, w, 1, 0.5, "blk.%d.attn_norm.weight", i);
        /* Queries and keys large enough for attention to prefer some positions. */
        add_tensor(&p, &seed, s->format[W_Q], q, w, 0, 1.5 * by_width, "blk.%d.attn_q.weight", i);
        add_tensor(&p, &seed, s->format[W_K], kv, w, 0, 1.5 * by_width, "blk.%d.attn_k.weight", i);
        add_tensor(&p, &seed, s->format[W_V], kv, w, 0, by_width, "blk.%d.attn_v.weight", i);
        add_tensor(&p, &seed, s->format[W_O], w, q, 0, sqrt(3.0 / q), "blk.%d.attn_output.weight", i);
        add_tensor(&p, &seed, QD_FORMAT_F32, 0, w, 1, 0.5, "blk.%d.ffn_norm.weight", i);
        add_tensor(&p, &seed, s->format[W_GATE], s->ff, w, 0, by_width, "blk.%d.ffn_gate.weight", i);
        add_tensor(&p, &seed, s->format[W_UP], s->ff, w, 0, by_width, "blk.%d.ffn_up.weight", i);
        add_tensor(&p, &seed, s->format[W_DOWN], w, s->ff, 0, sqrt(3.0 / s->ff), "blk.%d.ffn_down.weight", i);
    }
    add_tensor(&p, &seed, QD_FORMAT_F32, 0, w, 1, 0.5, "output_norm.weight");
    if (!s->tied) add_tensor(&p, &seed, s->format[W_OUTPUT], s->vocab, w, 0, by_width, "output.weight");
    if (s->rope_factors) add_tensor(&p, &seed, QD_FORMAT_F32, 0, s->head_dim / 2, 3, 2, "rope_freqs.weight");
    return p;
}

void model_parts_free(model_parts *p) {
    for (int i = 0; i < p->n_tensors; i++)
        free(p->tensors[i].bytes);
    p->n_tensors = 0;
}

static model_key *find_key(model_parts *p, const char *name) {
    for (int i = 0; i < p->n_keys; i++) {
        if (!strcmp(p->keys[i].name, name)) return &p->keys[i];
    }
    return NULL;
}

model_key *model_find_key(model_parts *p, const char *name) {
    model_key *k = find_key(p, name);
    ck_assert_msg(k != NULL, "the model has no key %s", name);
    return k;
}

model_tensor *model_find_tensor(model_parts *p, const char *name) {
    for (int i = 0; i < p->n_tensors; i++) {
        if (!strcmp(p->tensors[i].name, name)) return &p->tensors[i];
    }
    ck_abort_msg("the model has no tensor %s", name);
}

void model_drop_key(model_parts *p, const char *name) {
    *model_find_key(p, name) = p->keys[p->n_keys - 1];
    p->n_keys--;
}

void model_drop_tensor(model_parts *p, const char *name) {
    model_tensor *t = model_find_tensor(p, name);
    free(t->bytes);
    *t = p->tensors[--p->n_tensors];
}

void model_set_number(model_parts *p, const char *name, qd_gguf_type type, double number) {
    model_key *k = find_key(p, name);
    if (!k) k = add_key(p, name, type);
    k->number = number;
}

/* ---- The file ------------------------------------------------------------------------------------------------ */

static void put_value(image *m, const model_key *k) {
    if (k->type == QD_GGUF_STRING) {
        put_string(m, k->text ? k->text : "");
    } else if (k->type == QD_GGUF_F32) {
        put_f32(m, (float)k->number);
    } else if (k->type == QD_GGUF_F64) {
        put_f64(m, k->number);
    } else {
        static const size_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
        put(m, (uint64_t)(int64_t)k->number, bytes[k->type]);
    }
}

image model_write(const model_parts *p) {
    enum { ALIGNMENT = 32 };
    image m = {0};
    put_header(&m, 3, (uint64_t)p->n_tensors, (uint64_t)p->n_keys);
    for (int i = 0; i < p->n_keys; i++) {
        const model_key *k = &p->keys[i];
        if (k->array) {
            put_array(&m, k->name, k->type, k->items);
        } else {
            put_key(&m, k->name, k->type);
        }
        for (uint64_t j = 0; j < (k->array ? k->items : 1); j++)
            put_value(&m, k);
    }
    uint64_t offset = 0;
    for (int i = 0; i < p->n_tensors; i++) {
        const model_tensor *t = &p->tensors[i];
        uint64_t dims[QD_MAX_RANK];
        for (int d = 0; d < t->rank; d++)
            dims[d] = (uint64_t)t->shape[t->rank - 1 - d];
        put_tensor(&m, t->name, (uint32_t)t->rank, dims, t->gguf_type, offset);
        offset += (t->size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    pad(&m, ALIGNMENT);
    for (int i = 0; i < p->n_tensors; i++) {
        put_bytes(&m, p->tensors[i].bytes, p->tensors[i].size);
        if (i + 1 < p->n_tensors) pad(&m, ALIGNMENT);
    }
    return m;
}

/* ---- The definition ------------------------------------------------------------------------------------------ */

static double *doubles(int64_t count) {
    double *x = calloc((size_t)count, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* The values of a tensor; free() them. */
__attribute__((format(printf, 2, 3))) static double *weights(model_parts *p, const char *name, ...) {
    char text[40];
    va_list args;
    va_start(args, name);
    vsnprintf(text, sizeof text, name, args);
    va_end(args);
    const model_tensor *t = model_find_tensor(p, text);
    const int64_t count = t->rows * t->cols;
    float *values = malloc((size_t)count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    ck_assert_int_eq(qd_dequantize(t->format, t->bytes, t->rows, t->cols, values), QD_OK);
    double *x = doubles(count);
    for (int64_t i = 0; i < count; i++)
        x[i] = (double)values[i];
    free(values);
    return x;
}

/* y[n, rows] (+)= x[n, cols] · wᵀ; frees w. */
static void multiply(double *w, int rows, int cols, const double *x, int n, double *y) {
    for (int t = 0; t < n; t++) {
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < cols; c++)
                y[t * rows + r] += w[r * cols + c] * x[t * cols + c];
        }
    }
    free(w);
}

/* Frees gain. */
static double *normed(double *gain, int width, const double *x, int n) {
    double *y = doubles((int64_t)n * width);
    for (int t = 0; t < n; t++) {
        double sum = 0;
        for (int i = 0; i < width; i++)
            sum += x[t * width + i] * x[t * width + i];
        for (int i = 0; i < width; i++)
            y[t * width + i] = x[t * width + i] / sqrt(sum / width + (double)(float)epsilon) * gain[i];
    }
    free(gain);
    return y;
}

static void rotate(model_parts *p, int heads, double *x, int n) {
    const model_spec *s = &p->spec;
    const int dim = s->head_dim;
    const bool scaled = s->rope_scale != 0 && !(s->rope_type && !strcmp(s->rope_type, "none"));
    double *factors = s->rope_factors ? weights(p, "rope_freqs.weight") : NULL;
    for (int t = 0; t < n; t++) {
        for (int h = 0; h < heads; h++) {
            for (int i = 0; i < dim / 2; i++) {
                double angle = t * pow(rope_base, -2.0 * i / dim);
                if (scaled) angle /= (double)(float)s->rope_scale;
                if (factors) angle /= factors[i];
                double *pair = x + (t * heads + h) * dim + 2 * i;
                const double a = pair[0], b = pair[1];
                pair[0] = a * cos(angle) - b * sin(angle);
                pair[1] = a * sin(angle) + b * cos(angle);
            }
        }
    }
    free(factors);
}

static void attend(const model_spec *s, const double *q, const double *k, const double *v, int n, double *y) {
    const int dim = s->head_dim, group = s->heads / s->kv_heads;
    double *e = doubles(n);
    for (int t = 0; t < n; t++) {
        for (int h = 0; h < s->heads; h++) {
            double sum = 0;
            for (int j = 0; j <= t; j++) {
                double dot = 0;
                for (int d = 0; d < dim; d++)
                    dot += q[(t * s->heads + h) * dim + d] * k[(j * s->kv_heads + h / group) * dim + d];
                sum += e[j] = exp(dot / sqrt(dim));
            }
            for (int j = 0; j <= t; j++) {
                for (int d = 0; d < dim; d++)
                    y[(t * s->heads + h) * dim + d] += e[j] / sum * v[(j * s->kv_heads + h / group) * dim + d];
            }
        }
    }
    free(e);
}

/* x += one layer. */
static void add_layer(model_parts *p, int layer, double *x, int n) {
    const model_spec *s = &p->spec;
    const int q_cols = s->heads * s->head_dim, kv_cols = s->kv_heads * s->head_dim;
    double *q = doubles((int64_t)n * q_cols), *k = doubles((int64_t)n * kv_cols), *v = doubles((int64_t)n * kv_cols);
    double *mixed = doubles((int64_t)n * q_cols);
    double *y = normed(weights(p, "blk.%d.attn_norm.weight", layer), s->width, x, n);
    multiply(weights(p, "blk.%d.attn_q.weight", layer), q_cols, s->width, y, n, q);
    multiply(weights(p, "blk.%d.attn_k.weight", layer), kv_cols, s->width, y, n, k);
    multiply(weights(p, "blk.%d.attn_v.weight", layer), kv_cols, s->width, y, n, v);
    rotate(p, s->heads, q, n);
    rotate(p, s->kv_heads, k, n);
    attend(s, q, k, v, n, mixed);
    multiply(weights(p, "blk.%d.attn_output.weight", layer), s->width, q_cols, mixed, n, x);
    free(q);
    free(k);
    free(v);
    free(mixed);
    free(y);

    double *gate = doubles((int64_t)n * s->ff), *up = doubles((int64_t)n * s->ff);
    y = normed(weights(p, "blk.%d.ffn_norm.weight", layer), s->width, x, n);
    multiply(weights(p, "blk.%d.ffn_gate.weight", layer), s->ff, s->width, y, n, gate);
    multiply(weights(p, "blk.%d.ffn_up.weight", layer), s->ff, s->width, y, n, up);
    for (int i = 0; i < n * s->ff; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    multiply(weights(p, "blk.%d.ffn_down.weight", layer), s->width, s->ff, gate, n, x);
    free(gate);
    free(up);
    free(y);
}

void model_define(model_parts *p, const int32_t *tokens, int count, double *logits) {
    const model_spec *s = &p->spec;
    double *embedding = weights(p, "token_embd.weight"), *x = doubles((int64_t)count * s->width);
    for (int t = 0; t < count; t++)
        memcpy(x + t * s->width, embedding + tokens[t] * s->width, (size_t)s->width * sizeof *x);
    for (int i = 0; i < s->layers; i++)
        add_layer(p, i, x, count);
    double *y = normed(weights(p, "output_norm.weight"), s->width, x, count);
    memset(logits, 0, (size_t)count * (size_t)s->vocab * sizeof *logits);
    multiply(weights(p, s->tied ? "token_embd.weight" : "output.weight"), s->vocab, s->width, y, count, logits);
    free(embedding);
    free(x);
    free(y);
}

/* ---- Running ------------------------------------------------------------------------------------------------- */

qd_status model_try(const model_parts *p, qd_context *c, const qd_model_options *o, model_bed *out) {
    *out = (model_bed){.file = model_write(p)};
    const qd_status status = qd_gguf_parse(out->file.bytes, out->file.size, &out->gguf);
    return status ? status : qd_model_load(c, out->gguf, o, &out->model);
}

model_bed model_open(const model_parts *p, qd_context *c, const qd_model_options *o) {
    model_bed b;
    ck_assert_msg(model_try(p, c, o, &b) == QD_OK, "%s", qd_last_message());
    return b;
}

void model_close(model_bed *b) {
    qd_model_free(b->model);
    qd_gguf_free(b->gguf);
    image_free(&b->file);
}

qd_model_options model_options(int64_t chunk, qd_format activations) {
    qd_model_options o = qd_model_defaults();
    o.chunk = chunk;
    o.activations = activations;
    return o;
}

typedef struct collected {
    float *next;
    int64_t position, vocab;
} collected;

static bool collect(void *user, int64_t position, const float *logits) {
    collected *c = user;
    ck_assert_int_eq(position, c->position++);
    memcpy(c->next, logits, (size_t)c->vocab * sizeof *logits);
    c->next += c->vocab;
    return true;
}

void model_eval(qd_model *m, const int32_t *tokens, int count, float *logits) {
    const int64_t start = qd_model_position(m);
    collected c = {logits, start, qd_model_describe(m)->vocab};
    ck_assert_msg(qd_model_eval(m, tokens, count, true, collect, &c) == QD_OK, "%s", qd_last_message());
    ck_assert_int_eq(c.position, start + count);
    ck_assert_int_eq(qd_model_position(m), start + count);
}

qd_context *model_context(const char *device, const qd_context_options *o) {
    qd_context *c = NULL;
    ck_assert_msg(qd_context_create(device, o, &c) == QD_OK, "%s: %s", device, qd_last_message());
    return c;
}

int model_devices(char (*ids)[96], int capacity) {
    qd_device_info *devices;
    int count, usable = 0;
    ck_assert_int_eq(qd_devices_list(&devices, &count), QD_OK);
    for (int i = 0; i < count && usable < capacity; i++) {
        if (!strcmp(devices[i].id, "rtl")) continue; /* tests/rtl has a layer for it: it takes its time */
        if (devices[i].usable) memcpy(ids[usable++], devices[i].id, sizeof ids[0]);
    }
    qd_devices_free(devices);
    return usable;
}
