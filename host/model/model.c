/* A loaded model: its cache, and the runs of its graphs. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/lora.h"

qd_model_options qd_model_defaults(void) {
    return (qd_model_options){.activations = QD_FORMAT_A8};
}

struct qd_block {
    struct qd_block *next;
    max_align_t bytes[];
};

void *qd_model_alloc(qd_model *m, size_t bytes) {
    struct qd_block *b = bytes ? qd_alloc(sizeof *b + bytes) : NULL;
    if (!b) return NULL;
    b->next = m->blocks;
    m->blocks = b;
    return b->bytes;
}

static void describe(qd_model *m) {
    const qd_llama *s = &m->shape;
    qd_model_info *info = &m->info;
    qd_gguf_value v;
    qd_string name;
    snprintf(info->architecture, sizeof info->architecture, "llama");
    if (qd_gguf_find(m->file, "general.name", &v) == QD_OK && qd_gguf_get_string(m->file, &v, 0, &name) == QD_OK) {
        snprintf(info->name, sizeof info->name, "%.*s", (int)(name.size < 127 ? name.size : 127), name.data);
    }
    info->layers = s->layers;
    info->width = s->width;
    info->heads = s->heads;
    info->kv_heads = s->kv_heads;
    info->head_dim = s->head_dim;
    info->feed_forward = s->feed_forward;
    info->vocab = s->vocab;
    info->trained_context = s->trained_context;
    info->context = m->positions;
    info->cache = m->cache;
    info->keeps_layers = m->kept != NULL;
}

/* Room for the graphs of the layers: one, or one for each layer and what it leaves. */
static qd_status prepare_bodies(qd_model *m, bool keep) {
    const size_t layers = (size_t)m->shape.layers, positions = (size_t)m->positions;
    m->bodies = keep ? m->shape.layers : 1;
    m->body = qd_alloc_zero((size_t)m->bodies, sizeof *m->body);
    m->left = qd_alloc_zero((size_t)m->bodies, sizeof *m->left);
    if (keep) {
        m->kept = qd_alloc(layers * positions * (size_t)m->shape.width * sizeof *m->kept);
        m->kept_tokens = qd_alloc(positions * sizeof *m->kept_tokens);
    }
    return m->body && m->left && (!keep || (m->kept && m->kept_tokens)) ? QD_OK : QD_ERR_MEMORY;
}

qd_status qd_model_load(qd_context *c, const qd_gguf *g, const qd_model_options *options, qd_model **out) {
    enum { DEFAULT_CONTEXT = 4096, DEFAULT_CHUNK = 128, MAX_CONTEXT = 1 << 20, MAX_CHUNK = 4096 };
    if (!c || !g || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_model_load: context, file and result must not be NULL");
    const qd_model_options o = options ? *options : qd_model_defaults();
    if (o.context < 0 || o.context > MAX_CONTEXT || o.chunk < 0 || o.chunk > MAX_CHUNK) {
        return qd_fail(QD_ERR_ARGUMENT, "the context must have 1 … %d tokens and a chunk 1 … %d (0: the default)",
                       MAX_CONTEXT, MAX_CHUNK);
    }
    if (o.activations != QD_FORMAT_A8 && o.activations != QD_FORMAT_F32 && o.activations != QD_FORMAT_I8) {
        return qd_fail(QD_ERR_ARGUMENT, "activations must be a8, f32 or i8");
    }
    if (o.cache != QD_FORMAT_F32 && o.cache != QD_FORMAT_I8) {
        return qd_fail(QD_ERR_ARGUMENT, "the cache of keys and values must be f32 or i8");
    }
    qd_model *m = qd_alloc_zero(1, sizeof *m);
    if (!m) return QD_ERR_MEMORY;
    qd_status status = QD_OK;
    m->context = c;
    m->file = g;
    m->observe = o.observe;
    m->activations = o.observe ? QD_FORMAT_F32 : o.activations;
    m->calibrated = o.calibrated && m->activations == QD_FORMAT_I8;
    m->cache = o.cache;
    m->progress = o.progress;
    m->progress_user = o.progress_user;
    QD_TRY(qd_llama_read(g, &m->shape));
    int64_t context = o.context;
    if (!context) context = m->shape.trained_context < DEFAULT_CONTEXT ? m->shape.trained_context : DEFAULT_CONTEXT;
    m->positions = (context + 15) / 16 * 16;
    m->chunk = o.chunk ? o.chunk : DEFAULT_CHUNK;
    if (m->chunk > m->positions) m->chunk = m->positions;
    QD_TRY(prepare_bodies(m, o.keep_layers));
    describe(m);
    QD_TRY(qd_lora_open(m, o.adapters, o.adapter_count));
    QD_TRY(qd_llama_build(m));
    *out = m;
    return QD_OK;
error:
    qd_model_free(m);
    return status;
}

void qd_model_free(qd_model *m) {
    if (!m) return;
    for (int i = 0; m->body && i < m->bodies; i++)
        qd_graph_free(m->body[i]);
    qd_graph_free(m->head);
    for (int i = 0; m->left && i + 1 < m->bodies; i++) /* the last one is hidden */
        qd_tensor_free(m->left[i]);
    qd_tensor *const outside[] = {m->tokens, m->start, m->selected, m->hidden, m->logits};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++)
        qd_tensor_free(outside[i]);
    for (int i = 0; i < m->shape.layers; i++) {
        if (m->keys) qd_tensor_free(m->keys[i]);
        if (m->values) qd_tensor_free(m->values[i]);
    }
    for (int i = 0; m->inputs && i < QD_LAYER_INPUTS * m->shape.layers; i++)
        qd_tensor_free(m->inputs[i]);
    for (int i = 0; i < m->n_constants; i++)
        qd_tensor_free(m->constants[i]);
    qd_model_drop_replaced(m);
    qd_lora_free(m);
    free(m->keys);
    free(m->values);
    free(m->inputs);
    free(m->body);
    free(m->left);
    free(m->kept);
    free(m->kept_tokens);
    free(m->constants);
    free(m->rope);
    free(m->logits_host);
    for (struct qd_block *b = m->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(m);
}

const qd_model_info *qd_model_describe(const qd_model *m) {
    return &m->info;
}

int64_t qd_model_position(const qd_model *m) {
    return m->position;
}

qd_status qd_model_rewind(qd_model *m, int64_t position) {
    if (!m || position < 0 || position > m->position) {
        return qd_fail(QD_ERR_ARGUMENT, "rewind: the position must be one that was reached");
    }
    m->position = position;
    return QD_OK;
}

/* Logits of rows first … first+count-1 of hidden, handed to fn; count is at most QD_HEAD_ROWS. */
static qd_status run_head(qd_model *m, int64_t first, int64_t count, qd_logits_fn fn, void *user) {
    int32_t rows[QD_HEAD_ROWS];
    qd_status status = QD_OK;
    const size_t vocab = (size_t)m->shape.vocab;
    for (int64_t i = 0; i < count; i++)
        rows[i] = (int32_t)(first + i);
    /* Mostly the same row as before: a command less for the device. */
    if (memcmp(m->in_selected, rows, (size_t)count * sizeof rows[0])) {
        memset(m->in_selected, 0xff, sizeof m->in_selected); /* not known, should this fail */
        QD_TRY(qd_tensor_write(m->selected, 0, rows, (size_t)count * sizeof rows[0]));
        memcpy(m->in_selected, rows, (size_t)count * sizeof rows[0]);
    }
    QD_TRY(qd_graph_run(m->head, count));
    QD_TRY(qd_tensor_read(m->logits, 0, m->logits_host, (size_t)count * vocab * sizeof(float)));
    for (int64_t i = 0; i < count; i++) {
        if (!fn(user, m->position + first + i, m->logits_host + (size_t)i * vocab)) {
            return qd_fail(QD_ERR_CANCELLED, "stopped on request");
        }
    }
error:
    return status;
}

/* What every token of an evaluation has in common. */
typedef struct evaluation {
    int layer; /* the first that runs; what it reads is kept where that is not 0 */
    bool keep; /* what the layers leave */
    bool all;  /* logits of all tokens, else of the last */
    qd_logits_fn fn;
    void *user;
} evaluation;

/* What a layer left of the token at the position. */
static float *kept_at(const qd_model *m, int layer) {
    return m->kept + (layer * m->positions + m->position) * m->shape.width;
}

static qd_status run_layers(qd_model *m, const evaluation *e, int64_t count) {
    const size_t bytes = (size_t)(count * m->shape.width) * sizeof(float);
    qd_status status = QD_OK;
    if (e->layer > 0) QD_TRY(qd_tensor_write(m->left[e->layer - 1], 0, kept_at(m, e->layer - 1), bytes));
    for (int i = e->layer; i < m->bodies; i++) {
        QD_TRY(qd_graph_run(m->body[i], count));
        if (e->keep) QD_TRY(qd_tensor_read(m->left[i], 0, kept_at(m, i), bytes));
    }
error:
    return status;
}

/* One chunk. The position moves on only when all of it has been given to the device. */
static qd_status eval_chunk(qd_model *m, const evaluation *e, const int32_t *tokens, int64_t count, bool last) {
    const int32_t start = (int32_t)m->position;
    qd_status status = QD_OK;
    QD_TRY(qd_tensor_write(m->start, 0, &start, sizeof start));
    QD_TRY(qd_tensor_write(m->tokens, 0, tokens, (size_t)count * sizeof *tokens));
    QD_TRY(run_layers(m, e, count));
    for (int64_t i = e->all ? 0 : count - 1; e->fn && (e->all || last) && i < count; i += QD_HEAD_ROWS) {
        QD_TRY(run_head(m, i, count - i < QD_HEAD_ROWS ? count - i : QD_HEAD_ROWS, e->fn, e->user));
    }
    m->position += count;
error:
    return status;
}

/* In chunks, from the position on, which is as before after a failure. */
static qd_status evaluate(qd_model *m, const evaluation *e, const int32_t *tokens, int64_t count) {
    const int64_t start = m->position;
    for (int64_t done = 0; done < count;) {
        const int64_t n = count - done < m->chunk ? count - done : m->chunk;
        const qd_status status = eval_chunk(m, e, tokens + done, n, done + n == count);
        if (status) {
            m->position = start;
            return status;
        }
        done += n;
    }
    return QD_OK;
}

qd_status qd_model_eval(qd_model *m, const int32_t *tokens, int64_t count, bool all, qd_logits_fn fn, void *user) {
    if (!m || !tokens || count < 1)
        return qd_fail(QD_ERR_ARGUMENT, "qd_model_eval: needs a model and at least one token");
    if (count > m->positions - m->position) {
        return qd_fail(QD_ERR_LIMIT,
                       "the context is full: %lld tokens after %lld do not fit into %lld; use a larger context",
                       (long long)count, (long long)m->position, (long long)m->positions);
    }
    for (int64_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= m->shape.vocab) {
            return qd_fail(QD_ERR_ARGUMENT, "token %d is outside the vocabulary of %lld", tokens[i],
                           (long long)m->shape.vocab);
        }
    }
    const evaluation e = {.keep = m->kept != NULL, .all = all, .fn = fn, .user = user};
    if (m->kept) memcpy(m->kept_tokens + m->position, tokens, (size_t)count * sizeof *tokens);
    const qd_status status = evaluate(m, &e, tokens, count);
    if (!status) m->evaluated = count;
    return status;
}

qd_status qd_model_eval_again(qd_model *m, int64_t layer, qd_logits_fn fn, void *user) {
    if (!m || !m->kept || layer < 0 || layer > m->shape.layers) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "qd_model_eval_again: needs a model loaded with keep_layers, and one of its layers");
    }
    const evaluation e = {.layer = (int)layer, .all = true, .fn = fn, .user = user};
    const int64_t end = m->position;
    m->position = 0;
    const qd_status status = end ? evaluate(m, &e, m->kept_tokens, end) : QD_OK;
    m->position = end;
    return status;
}

/* ---- Inputs of matrices ------------------------------------------------------------------------------------- */

/* The matrices of a layer, by what they read; the first name of each place is the input's. */
static const struct {
    const char *matrix;
    int place;
} readers[] = {{"attn_q", QD_READ_QKV},         {"attn_k", QD_READ_QKV},       {"attn_v", QD_READ_QKV},
               {"attn_output", QD_READ_OUTPUT}, {"ffn_gate", QD_READ_GATE_UP}, {"ffn_up", QD_READ_GATE_UP},
               {"ffn_down", QD_READ_DOWN}};
enum { READERS = sizeof readers / sizeof readers[0] };

int qd_model_input_count(const qd_model *m) {
    return m && m->inputs ? QD_LAYER_INPUTS * m->shape.layers : 0;
}

int qd_model_input_find(const qd_model *m, const char *matrix) {
    char name[64];
    for (int layer = 0; matrix && layer < qd_model_input_count(m) / QD_LAYER_INPUTS; layer++) {
        for (int i = 0; i < READERS; i++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, readers[i].matrix);
            if (!strcmp(name, matrix)) return QD_LAYER_INPUTS * layer + readers[i].place;
        }
    }
    return -1;
}

int64_t qd_model_input_describe(const qd_model *m, int input, char *name) {
    if (input < 0 || input >= qd_model_input_count(m)) return 0;
    int i = 0;
    while (readers[i].place != input % QD_LAYER_INPUTS)
        i++;
    if (name) snprintf(name, 64, "blk.%d.%s.weight", input / QD_LAYER_INPUTS, readers[i].matrix);
    return qd_tensor_describe(m->inputs[input])->shape[1];
}

qd_status qd_model_input_read(const qd_model *m, int input, int64_t rows, float *dst) {
    const int64_t cols = qd_model_input_describe(m, input, NULL);
    if (!cols) return qd_fail(QD_ERR_ARGUMENT, "qd_model_input_read: no input %d; load the model with observe", input);
    if (rows < 0 || rows > m->evaluated || rows > m->chunk || (rows && !dst)) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "qd_model_input_read: %lld rows where the last evaluation had %lld, and a chunk has %lld",
                       (long long)rows, (long long)m->evaluated, (long long)m->chunk);
    }
    return rows ? qd_tensor_read(m->inputs[input], 0, dst, (size_t)(rows * cols) * sizeof *dst) : QD_OK;
}
