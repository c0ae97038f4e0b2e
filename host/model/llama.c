/* The graph of a llama-type model (Touvron et al., LLaMA; grouped heads: Ainslie et al.), from a GGUF file. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/gguf.h"
#include "model/lora.h"
#include "model/weights.h"
#include "qdot/qdot_num.h"

/* ---- Hyperparameters ---------------------------------------------------------------------------------------- */

/* Finds a key that holds one number. *found tells whether an optional one is there. */
static qd_status find_number(const qd_gguf *g, const char *key, bool required, qd_gguf_value *v, bool *found) {
    *found = qd_gguf_find(g, key, v) == QD_OK;
    if (!*found) {
        return required ? qd_fail(QD_ERR_FILE, "the model lacks %s: is this a complete llama model?", key) : QD_OK;
    }
    if (v->type != QD_GGUF_ARRAY) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED, "the model's %s differs between layers; known are models whose layers are alike",
                   key);
}

/* A whole number of the file; `fallback` when the key is missing, unless it is required (negative). */
static qd_status read_integer(const qd_gguf *g, const char *key, int64_t fallback, int64_t low, int64_t high,
                              int64_t *out) {
    qd_gguf_value v;
    bool found;
    qd_status status = QD_OK;
    QD_TRY(find_number(g, key, fallback < 0, &v, &found));
    *out = fallback;
    if (found) QD_TRY(qd_gguf_get_int(g, &v, 0, out));
    if (*out < low || *out > high) {
        return qd_fail(QD_ERR_FILE, "the model's %s is %lld, outside %lld … %lld: the file is damaged", key,
                       (long long)*out, (long long)low, (long long)high);
    }
error:
    return status;
}

/* A number of the file; `fallback` when the key is missing, unless it is required (NAN). */
static qd_status read_real(const qd_gguf *g, const char *key, double fallback, double low, double high, double *out) {
    qd_gguf_value v;
    bool found;
    qd_status status = QD_OK;
    QD_TRY(find_number(g, key, isnan(fallback), &v, &found));
    *out = fallback;
    if (found) QD_TRY(qd_gguf_get_double(g, &v, 0, out));
    if (!(*out >= low && *out <= high)) {
        return qd_fail(QD_ERR_FILE, "the model's %s is %g, outside %g … %g: the file is damaged", key, *out, low, high);
    }
error:
    return status;
}

static bool string_is(qd_string s, const char *text) {
    return s.size == strlen(text) && !memcmp(s.data, text, s.size);
}

/* What positions are divided by. Scaling is linear unless its type says otherwise; older files name the factor
 * scale_linear. */
static qd_status read_scaling(const qd_gguf *g, double *factor) {
    qd_gguf_value v;
    qd_string s = {"linear", 6};
    qd_status status = QD_OK;
    if (qd_gguf_find(g, "llama.rope.scaling.type", &v) == QD_OK) QD_TRY(qd_gguf_get_string(g, &v, 0, &s));
    if (string_is(s, "linear")) {
        QD_TRY(read_real(g, "llama.rope.scale_linear", 1, 1e-3, 1e6, factor));
        QD_TRY(read_real(g, "llama.rope.scaling.factor", *factor, 1e-3, 1e6, factor));
    } else if (string_is(s, "none")) {
        *factor = 1;
    } else {
        status = qd_fail(QD_ERR_UNSUPPORTED, "the model scales its positions by \"%.*s\"; known are none and linear",
                         (int)(s.size < 32 ? s.size : 32), s.data);
    }
error:
    return status;
}

qd_status qd_llama_read(const qd_gguf *g, qd_llama *out) {
    qd_status status = QD_OK;
    qd_gguf_value v;
    qd_string s;
    QD_TRY(qd_gguf_find(g, "general.architecture", &v));
    QD_TRY(qd_gguf_get_string(g, &v, 0, &s));
    if (!string_is(s, "llama")) {
        return qd_fail(QD_ERR_UNSUPPORTED, "the model's architecture is \"%.*s\"; known is llama",
                       (int)(s.size < 32 ? s.size : 32), s.data);
    }
    const int64_t required = -1;
    int64_t layers, heads, kv_heads, width, ff, context, head_dim, rotated;
    double epsilon, base, factor;
    QD_TRY(read_integer(g, "llama.block_count", required, 1, 1024, &layers));
    QD_TRY(read_integer(g, "llama.embedding_length", required, 1, 1 << 20, &width));
    QD_TRY(read_integer(g, "llama.feed_forward_length", required, 1, 1 << 22, &ff));
    QD_TRY(read_integer(g, "llama.attention.head_count", required, 1, 1024, &heads));
    QD_TRY(read_integer(g, "llama.attention.head_count_kv", heads, 1, 1024, &kv_heads));
    QD_TRY(read_integer(g, "llama.context_length", required, 1, 1 << 24, &context));
    QD_TRY(read_integer(g, "llama.attention.key_length", width / heads, 2, 4096, &head_dim));
    QD_TRY(read_integer(g, "llama.rope.dimension_count", head_dim, 1, 4096, &rotated));
    QD_TRY(read_real(g, "llama.attention.layer_norm_rms_epsilon", (double)NAN, 0, 0.5, &epsilon));
    QD_TRY(read_real(g, "llama.rope.freq_base", 10000, 1, 1e12, &base));
    QD_TRY(read_scaling(g, &factor));
    if (heads % kv_heads) {
        return qd_fail(QD_ERR_FILE, "the model's %lld heads are no multiple of its %lld key/value heads",
                       (long long)heads, (long long)kv_heads);
    }
    if (rotated != head_dim || head_dim % 16) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "the model's heads have %lld elements, %lld of them rotated; a multiple of 16 is needed, all "
                       "rotated",
                       (long long)head_dim, (long long)rotated);
    }
    *out = (qd_llama){.layers = (int)layers,
                      .heads = (int)heads,
                      .kv_heads = (int)kv_heads,
                      .head_dim = (int)head_dim,
                      .width = width,
                      .feed_forward = ff,
                      .trained_context = context,
                      .epsilon = (float)epsilon,
                      .rope_base = (float)base,
                      .rope_factor = (float)factor};
    qd_gguf_tensor t;
    QD_TRY(qd_gguf_tensor_find(g, "token_embd.weight", &t));
    out->vocab = t.desc.shape[0];
    if (t.desc.rank != 2 || t.desc.shape[0] > INT32_MAX) {
        return qd_fail(QD_ERR_FILE, "token_embd.weight is no matrix of at most 2^31 rows");
    }
    /* The embedding may be filled up to a round number of rows, but every token needs its own. */
    if (qd_gguf_find(g, "tokenizer.ggml.tokens", &v) == QD_OK && v.count > (uint64_t)out->vocab) {
        return qd_fail(QD_ERR_FILE, "token_embd.weight has %lld rows for a vocabulary of %llu: the file is damaged",
                       (long long)out->vocab, (unsigned long long)v.count);
    }
error:
    return status;
}

/* ---- Weights ------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 5, 6))) static qd_status weight(qd_model *m, int64_t rows, int64_t cols, qd_weight *out,
                                                              const char *format, ...) {
    char name[96];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return qd_weight_find_layer(m, name, rows, cols, out);
}

typedef struct layer_weights {
    qd_weight attention_norm, qkv[3], output;
    qd_weight feed_forward_norm, gate_up[2], down;
} layer_weights;

static qd_status find_layer(qd_model *m, int layer, layer_weights *out) {
    const qd_llama *s = &m->shape;
    const int64_t q_rows = (int64_t)s->heads * s->head_dim, kv_rows = (int64_t)s->kv_heads * s->head_dim;
    qd_status status = QD_OK;
    QD_TRY(weight(m, 0, s->width, &out->attention_norm, "blk.%d.attn_norm.weight", layer));
    QD_TRY(weight(m, q_rows, s->width, &out->qkv[0], "blk.%d.attn_q.weight", layer));
    QD_TRY(weight(m, kv_rows, s->width, &out->qkv[1], "blk.%d.attn_k.weight", layer));
    QD_TRY(weight(m, kv_rows, s->width, &out->qkv[2], "blk.%d.attn_v.weight", layer));
    QD_TRY(weight(m, s->width, q_rows, &out->output, "blk.%d.attn_output.weight", layer));
    QD_TRY(weight(m, 0, s->width, &out->feed_forward_norm, "blk.%d.ffn_norm.weight", layer));
    QD_TRY(weight(m, s->feed_forward, s->width, &out->gate_up[0], "blk.%d.ffn_gate.weight", layer));
    QD_TRY(weight(m, s->feed_forward, s->width, &out->gate_up[1], "blk.%d.ffn_up.weight", layer));
    QD_TRY(weight(m, s->width, s->feed_forward, &out->down, "blk.%d.ffn_down.weight", layer));
error:
    return status;
}

typedef struct model_weights {
    qd_weight embedding, norm, output;
    layer_weights *layers;
} model_weights;

/* Finds all weights; nothing large is allocated, so that dimensions are proven by the file before anything is sized by
 * them. out->layers is to be freed, also on failure. */
static qd_status find_weights(qd_model *m, model_weights *out) {
    const qd_llama *s = &m->shape;
    qd_status status = QD_OK;
    qd_gguf_tensor t;
    *out = (model_weights){.layers = qd_alloc_zero((size_t)s->layers, sizeof *out->layers)};
    if (!out->layers) return QD_ERR_MEMORY;
    QD_TRY(qd_weight_find(m, "token_embd.weight", s->vocab, s->width, &out->embedding));
    for (int i = 0; i < s->layers; i++)
        QD_TRY(find_layer(m, i, &out->layers[i]));
    QD_TRY(qd_weight_find(m, "output_norm.weight", 0, s->width, &out->norm));
    out->output = out->embedding; /* tied, unless the file has its own */
    if (qd_gguf_tensor_find(m->file, "output.weight", &t) == QD_OK) {
        QD_TRY(qd_weight_find(m, "output.weight", s->vocab, s->width, &out->output));
    }
    /* Tensors that are left over would change the results: biases, experts. */
    const bool factors = qd_gguf_tensor_find(m->file, "rope_freqs.weight", &t) == QD_OK;
    const uint64_t known = (uint64_t)m->known_tensors + (factors ? 1 : 0), have = qd_gguf_tensor_count(m->file);
    if (have != known) {
        status = qd_fail(QD_ERR_UNSUPPORTED,
                         "the file has %llu tensors where a plain llama model of %d layers has %llu: biases, experts "
                         "and adapters are not known",
                         (unsigned long long)have, s->layers, (unsigned long long)known);
    }
    if (!status && m->activations == QD_FORMAT_I8 && !m->int8_matrices) {
        status =
            qd_fail(QD_ERR_UNSUPPORTED,
                    "int8 activations by row, or static ones, are for layers in the coding int8, and the model has "
                    "none: qdot quantize IN OUT --format int8");
    }
    if (!status) status = qd_lora_check(m);
error:
    return status;
}

/* ---- Graph -------------------------------------------------------------------------------------------------- */

static qd_status new_tensor(qd_graph *g, qd_format f, int64_t cols, qd_tensor **out) {
    const qd_tensor_desc d = qd_desc(f, QD_ROWS, cols, 0, 0);
    return qd_graph_tensor(g, &d, out);
}

/* The graph of a layer. */
static qd_graph *body_of(const qd_model *m, int layer) {
    return m->body[m->bodies > 1 ? layer : 0];
}

/* What matrices of a layer read; where it is observed, outside of the graph. */
static qd_status new_input(qd_model *m, int layer, int place, qd_format f, int64_t cols, qd_tensor **out) {
    if (!m->observe) return new_tensor(body_of(m, layer), f, cols, out);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, m->chunk, cols, 0, 0);
    const qd_status status = qd_tensor_create(m->context, &d, out);
    if (!status) m->inputs[QD_LAYER_INPUTS * layer + place] = *out;
    return status;
}

static qd_status add_norm(qd_model *m, qd_graph *g, qd_tensor *x, qd_tensor *gain, qd_tensor *y) {
    const qd_attrs attrs = {.rms_norm = {m->shape.epsilon}};
    return qd_graph_add(g, QD_OP_RMS_NORM, &attrs, (qd_tensor *[]){x, gain}, 2, &y, 1);
}

/* x + wo · attention(norm(x)) */
static qd_status add_attention(qd_model *m, int layer, const layer_weights *w, qd_tensor *rope, qd_tensor *x,
                               qd_tensor **y) {
    const qd_llama *s = &m->shape;
    const int64_t q_cols = (int64_t)s->heads * s->head_dim, kv_cols = (int64_t)s->kv_heads * s->head_dim;
    qd_graph *g = body_of(m, layer);
    qd_status status = QD_OK;
    qd_tensor *normed, *qkv, *qk, *q, *k, *v, *mixed;
    QD_TRY(new_input(m, layer, QD_READ_QKV, qd_weights_input(m, w->qkv, 3), s->width, &normed));
    QD_TRY(add_norm(m, g, x, w->attention_norm.t, normed));
    QD_TRY(new_tensor(g, QD_FORMAT_F32, q_cols + 2 * kv_cols, &qkv));
    QD_TRY(qd_weights_apply(m, g, w->qkv, 3, normed, NULL, qkv));
    QD_TRY(qd_graph_view(g, qkv, 0, q_cols + kv_cols, &qk));
    QD_TRY(qd_graph_view(g, qkv, 0, q_cols, &q));
    QD_TRY(qd_graph_view(g, qkv, q_cols, kv_cols, &k));
    QD_TRY(qd_graph_view(g, qkv, q_cols + kv_cols, kv_cols, &v));
    /* Queries and keys stand side by side: one rotation for both, in place. */
    const qd_attrs rotate = {.rope = {.heads = s->heads + s->kv_heads, .head_dim = s->head_dim}};
    QD_TRY(qd_graph_add(g, QD_OP_ROPE, &rotate, (qd_tensor *[]){qk, rope, m->start}, 3, &qk, 1));
    const qd_attrs store = {.kv = {s->kv_heads, s->head_dim}};
    QD_TRY(qd_graph_add(g, QD_OP_KV_STORE, &store, (qd_tensor *[]){k, v, m->start}, 3,
                        (qd_tensor *[]){m->keys[layer], m->values[layer]}, 2));
    const qd_attrs attend = {.attention = {s->heads, s->kv_heads, s->head_dim, 1.0f / sqrtf((float)s->head_dim)}};
    const qd_format f = qd_weights_input(m, &w->output, 1);
    /* A kernel quantizes a head at a time: heads that are no whole blocks are quantized afterwards. */
    const bool direct = f == QD_FORMAT_F32 || s->head_dim % 32 == 0;
    QD_TRY(new_input(m, layer, QD_READ_OUTPUT, direct ? f : QD_FORMAT_F32, q_cols, &mixed));
    QD_TRY(qd_graph_add(g, QD_OP_ATTENTION, &attend, (qd_tensor *[]){q, m->keys[layer], m->values[layer], m->start}, 4,
                        &mixed, 1));
    QD_TRY(new_tensor(g, QD_FORMAT_F32, s->width, y));
    QD_TRY(qd_weights_apply(m, g, &w->output, 1, mixed, x, *y));
error:
    return status;
}

/* x + down · (silu(gate · norm(x)) * (up · norm(x))), into y. */
static qd_status add_feed_forward(qd_model *m, int layer, const layer_weights *w, qd_tensor *x, qd_tensor *y) {
    const qd_llama *s = &m->shape;
    qd_graph *g = body_of(m, layer);
    qd_status status = QD_OK;
    qd_tensor *normed, *gate_up, *gate, *up, *inner;
    QD_TRY(new_input(m, layer, QD_READ_GATE_UP, qd_weights_input(m, w->gate_up, 2), s->width, &normed));
    QD_TRY(add_norm(m, g, x, w->feed_forward_norm.t, normed));
    QD_TRY(new_tensor(g, QD_FORMAT_F32, 2 * s->feed_forward, &gate_up));
    QD_TRY(qd_weights_apply(m, g, w->gate_up, 2, normed, NULL, gate_up));
    QD_TRY(qd_graph_view(g, gate_up, 0, s->feed_forward, &gate));
    QD_TRY(qd_graph_view(g, gate_up, s->feed_forward, s->feed_forward, &up));
    QD_TRY(new_input(m, layer, QD_READ_DOWN, qd_weights_input(m, &w->down, 1), s->feed_forward, &inner));
    QD_TRY(qd_graph_add(g, QD_OP_SWIGLU, NULL, (qd_tensor *[]){gate, up}, 2, &inner, 1));
    QD_TRY(qd_weights_apply(m, g, &w->down, 1, inner, x, y));
error:
    return status;
}

/* Angles position · base^(-2i/D), divided by the file's factors where it has them; cosine and sine by the host, once,
 * so that every device rotates by the same bytes. */
static qd_status make_rope(qd_model *m, qd_tensor **out) {
    const qd_llama *s = &m->shape;
    const float *factors = NULL;
    qd_gguf_tensor t;
    if (qd_gguf_tensor_find(m->file, "rope_freqs.weight", &t) == QD_OK) {
        if (t.desc.format != QD_FORMAT_F32 || t.desc.rank != 1 || t.desc.shape[0] != s->head_dim / 2) {
            return qd_fail(QD_ERR_FILE, "tensor rope_freqs.weight must be f32 with %d elements", s->head_dim / 2);
        }
        factors = t.data;
    }
    m->rope = qd_alloc((size_t)m->positions * (size_t)s->head_dim * sizeof *m->rope);
    if (!m->rope) return QD_ERR_MEMORY;
    for (int i = 0; i < s->head_dim / 2; i++) {
        double frequency = pow((double)s->rope_base, -2.0 * i / s->head_dim) / (double)s->rope_factor;
        if (factors) frequency /= (double)factors[i];
        for (int64_t p = 0; p < m->positions; p++) {
            float *pair = m->rope + p * s->head_dim + 2 * i;
            pair[0] = (float)cos((double)p * frequency);
            pair[1] = (float)sin((double)p * frequency);
        }
    }
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, m->positions, s->head_dim, 0, 0);
    const qd_status status = qd_tensor_constant(m->context, &d, m->rope, out);
    return status ? status : qd_model_keep(m, *out);
}

static qd_status make_outside(qd_model *m) {
    const qd_llama *s = &m->shape;
    const qd_tensor_desc one = qd_desc(QD_FORMAT_I32, 1, 0, 0, 0), tokens = qd_desc(QD_FORMAT_I32, m->chunk, 0, 0, 0);
    const qd_tensor_desc selected = qd_desc(QD_FORMAT_I32, QD_HEAD_ROWS, 0, 0, 0);
    const qd_tensor_desc hidden = qd_desc(QD_FORMAT_F32, m->chunk, s->width, 0, 0);
    const qd_tensor_desc logits = qd_desc(QD_FORMAT_F32, QD_HEAD_ROWS, s->vocab, 0, 0);
    const int64_t columns = m->cache == QD_FORMAT_I8 ? QD_KV_I8_COLUMNS(s->head_dim) : s->head_dim;
    const qd_tensor_desc cache = qd_desc(m->cache, s->kv_heads, m->positions, columns, 0);
    qd_status status = QD_OK;
    QD_TRY(qd_tensor_create(m->context, &one, &m->start));
    QD_TRY(qd_tensor_create(m->context, &tokens, &m->tokens));
    QD_TRY(qd_tensor_create(m->context, &selected, &m->selected));
    QD_TRY(qd_tensor_create(m->context, &hidden, &m->hidden));
    QD_TRY(qd_tensor_create(m->context, &logits, &m->logits));
    for (int i = 0; i + 1 < m->bodies; i++)
        QD_TRY(qd_tensor_create(m->context, &hidden, &m->left[i]));
    m->left[m->bodies - 1] = m->hidden;
    m->logits_host = qd_alloc(qd_desc_bytes(&logits));
    m->keys = qd_alloc_zero((size_t)s->layers, sizeof(qd_tensor *));
    m->values = qd_alloc_zero((size_t)s->layers, sizeof(qd_tensor *));
    if (m->observe) m->inputs = qd_alloc_zero((size_t)s->layers * QD_LAYER_INPUTS, sizeof(qd_tensor *));
    if (!m->logits_host || !m->keys || !m->values || (m->observe && !m->inputs)) return QD_ERR_MEMORY;
    for (int i = 0; i < s->layers; i++) {
        QD_TRY(qd_tensor_create(m->context, &cache, &m->keys[i]));
        QD_TRY(qd_tensor_create(m->context, &cache, &m->values[i]));
        m->info.cache_bytes += 2 * qd_desc_bytes(&cache);
    }
error:
    return status;
}

/* Weights have been copied to the device up to here: the file need not stay in memory beside them. */
static bool on_progress(void *user, int done, int total) {
    enum { OFTEN = 64 };
    const qd_model *m = user;
    if (done % OFTEN == 0) qd_gguf_cool(m->file);
    return !m->progress || m->progress(m->progress_user, m->compiled * total + done, m->bodies * total);
}

/* Of all graphs of layers. */
static qd_status describe_bodies(qd_model *m) {
    qd_graph_info *sum = &m->info.graph, one;
    qd_status status = QD_OK;
    for (int i = 0; i < m->bodies; i++) {
        QD_TRY(qd_graph_describe(m->body[i], &one));
        sum->ops += one.ops;
        sum->fallbacks += one.fallbacks;
        sum->fused += one.fused;
        sum->chained += one.chained;
        sum->arena_bytes += one.arena_bytes;
        sum->tensor_bytes += one.tensor_bytes;
        sum->live_bytes = one.live_bytes > sum->live_bytes ? one.live_bytes : sum->live_bytes;
    }
error:
    return status;
}

qd_status qd_llama_build(qd_model *m) {
    const qd_llama *s = &m->shape;
    qd_status status = QD_OK;
    model_weights w;
    qd_tensor *rope, *x, *y, *picked, *normed;
    QD_TRY(find_weights(m, &w));
    QD_TRY(make_outside(m));
    QD_TRY(make_rope(m, &rope));

    for (int i = 0; i < m->bodies; i++)
        QD_TRY(qd_graph_create(m->context, m->chunk, &m->body[i]));
    QD_TRY(new_tensor(m->body[0], QD_FORMAT_F32, s->width, &x));
    QD_TRY(qd_weight_rows(m->body[0], &w.embedding, m->tokens, x));
    for (int i = 0; i < s->layers; i++) {
        QD_TRY(add_attention(m, i, &w.layers[i], rope, x, &y));
        if (m->bodies > 1 || i + 1 == s->layers) {
            x = m->left[m->bodies > 1 ? i : 0];
        } else {
            QD_TRY(new_tensor(m->body[0], QD_FORMAT_F32, s->width, &x));
        }
        QD_TRY(add_feed_forward(m, i, &w.layers[i], y, x));
    }

    QD_TRY(qd_graph_create(m->context, QD_HEAD_ROWS, &m->head));
    QD_TRY(new_tensor(m->head, QD_FORMAT_F32, s->width, &picked));
    QD_TRY(qd_graph_add(m->head, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){m->hidden, m->selected}, 2, &picked, 1));
    /* The head reads float activations: what int8 would cost there goes straight into the logits, and the head's time
     * is that of reading its weights in either form. */
    QD_TRY(new_tensor(m->head, QD_FORMAT_F32, s->width, &normed));
    QD_TRY(add_norm(m, m->head, picked, w.norm.t, normed));
    QD_TRY(qd_weight_multiply(m->head, &w.output, normed, NULL, m->logits));
    QD_TRY(qd_lora_add(m->head, &w.output, 1, normed, m->logits));

    /* The head first: its kernels are then built, which takes a compiler's memory, before most weights are there. */
    QD_TRY(qd_graph_compile(m->head, NULL, NULL));
    for (m->compiled = 0; m->compiled < m->bodies; m->compiled++)
        QD_TRY(qd_graph_compile(m->body[m->compiled], on_progress, m));
    qd_gguf_cool(m->file);
    QD_TRY(describe_bodies(m));
error:
    free(w.layers);
    return status;
}
