/* Opening a model for a sub-command, and what is computed from its logits. */
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "qdot/qdot_sim.h"

static void print_log(void *unused, const char *line) {
    (void)unused;
    fprintf(stderr, "qdot: %s\n", line);
}

qd_context_options qd_cli_context_options(const qd_cli_common *c) {
    qd_context_options o = {.memory_budget = c->memory, .threads = (int)c->threads, .kernels = c->kernels};
    if (c->verbose) o.log = print_log;
    return o;
}

/* ---- Adapters ----------------------------------------------------------------------------------------------- */

enum { MOST_ADAPTERS = 2 * QD_CLI_LIST_MOST };

typedef struct adapter_files {
    qd_gguf *files[MOST_ADAPTERS];
    qd_adapter adapters[MOST_ADAPTERS];
    int count;
} adapter_files;

static bool add_adapter(adapter_files *a, const char *path, double scale) {
    qd_gguf **file = &a->files[a->count];
    if (qd_gguf_open(path, file) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    a->adapters[a->count++] = (qd_adapter){*file, (float)scale};
    return true;
}

/* FILE:S, where FILE may have colons, too. */
static bool add_scaled_adapter(adapter_files *a, const char *text) {
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    const double scale = colon ? strtod(colon + 1, &end) : 0;
    if (!colon || colon == text || end == colon + 1 || *end || !isfinite((float)scale)) {
        qd_cli_fail("--lora-scaled needs a file and a number, as adapter.gguf:0.5, not %s", text);
        return false;
    }
    char *path = strndup(text, (size_t)(colon - text));
    const bool added = path && add_adapter(a, path, scale);
    if (!path) qd_cli_fail("out of memory");
    free(path);
    return added;
}

static bool open_adapters(const qd_cli_common *c, adapter_files *a) {
    a->count = 0;
    for (int i = 0; i < c->lora.count; i++) {
        if (!add_adapter(a, c->lora.items[i], 1)) return false;
    }
    for (int i = 0; i < c->lora_scaled.count; i++) {
        if (!add_scaled_adapter(a, c->lora_scaled.items[i])) return false;
    }
    return true;
}

static void close_adapters(adapter_files *a) {
    for (int i = 0; i < a->count; i++)
        qd_gguf_free(a->files[i]);
}

/* ---- Sessions ----------------------------------------------------------------------------------------------- */

static bool open_session(const qd_cli_common *c, const qd_model_options *wanted, bool profile, qd_cli_session *out) {
    *out = (qd_cli_session){0};
    if (!c->model) {
        qd_cli_fail("no model was given: -m FILE (`sh host/fetch_model.sh` fetches one and prints its path)");
        return false;
    }
    qd_context_options context = qd_cli_context_options(c);
    context.profile = profile;
    qd_model_options model = *wanted;
    model.context = c->context;
    model.progress = qd_cli_load_progress;
    adapter_files adapters;
    bool opened = open_adapters(c, &adapters);
    model.adapters = adapters.adapters;
    model.adapter_count = adapters.count;
    if (opened &&
        (qd_gguf_open(c->model, &out->gguf) != QD_OK || qd_tokenizer_create(out->gguf, &out->tokenizer) != QD_OK ||
         qd_context_create(c->device, &context, &out->context) != QD_OK ||
         qd_model_load(out->context, out->gguf, &model, &out->model) != QD_OK)) {
        qd_cli_failed();
        opened = false;
    }
    close_adapters(&adapters);
    return opened;
}

/* What --activations says; prints a message and returns false for anything that is no kind of them. */
static bool read_activations(const char *word, qd_model_options *o) {
    static const struct {
        const char *word;
        qd_format format;
        bool calibrated;
    } kinds[] = {{"a8", QD_FORMAT_A8, false},
                 {"f32", QD_FORMAT_F32, false},
                 {"row", QD_FORMAT_I8, false},
                 {"static", QD_FORMAT_I8, true}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (word && strcmp(kinds[i].word, word) != 0) continue;
        o->activations = kinds[i].format;
        o->calibrated = kinds[i].calibrated;
        return true;
    }
    qd_cli_fail("--activations is a8 (8-bit integers), f32, row or static (8-bit integers for int8 weights), not '%s'",
                word);
    return false;
}

/* What --kv says, likewise. */
static bool read_kv(const char *word, qd_model_options *o) {
    if (word && strcmp(word, "f32") != 0 && strcmp(word, "int8") != 0) {
        qd_cli_fail("--kv is f32 or int8 (8-bit integers with a scale for each head and position), not '%s'", word);
        return false;
    }
    o->cache = word && strcmp(word, "int8") == 0 ? QD_FORMAT_I8 : QD_FORMAT_F32;
    return true;
}

bool qd_cli_open(const qd_cli_common *c, int64_t chunk, bool profile, qd_cli_session *out) {
    qd_model_options model = qd_model_defaults();
    *out = (qd_cli_session){0};
    model.chunk = chunk;
    return read_activations(c->activations, &model) && read_kv(c->kv, &model) && open_session(c, &model, profile, out);
}

bool qd_cli_open_observed(const qd_cli_common *c, int64_t chunk, qd_cli_session *out) {
    qd_model_options model = qd_model_defaults();
    model.chunk = chunk;
    model.observe = true;
    return open_session(c, &model, false, out);
}

bool qd_cli_open_kept(const qd_cli_common *c, qd_cli_session *out) {
    qd_model_options model = qd_model_defaults();
    model.activations = QD_FORMAT_F32;
    model.keep_layers = true;
    return open_session(c, &model, false, out);
}

double qd_cli_clock(qd_context *c) {
    double seconds;
    const bool simulated = strncmp(qd_context_device(c)->id, "sim:", 4) == 0;
    return simulated && qd_sim_seconds(c, &seconds) == QD_OK ? seconds : qd_cli_seconds();
}

void qd_cli_close(qd_cli_session *s) {
    qd_model_free(s->model);
    qd_context_free(s->context);
    qd_tokenizer_free(s->tokenizer);
    qd_gguf_free(s->gguf);
    *s = (qd_cli_session){0};
}

double qd_cli_nll(const float *logits, int64_t vocab, int32_t token) {
    double max = -INFINITY;
    for (int64_t i = 0; i < vocab; i++)
        max = logits[i] > max ? logits[i] : max;
    double sum = 0;
    for (int64_t i = 0; i < vocab; i++)
        sum += exp(logits[i] - max);
    return max + log(sum) - logits[token];
}

struct qd_cli_digest {
    EVP_MD_CTX *state;
};

qd_cli_digest *qd_cli_digest_new(void) {
    qd_cli_digest *d = malloc(sizeof *d);
    EVP_MD_CTX *state = EVP_MD_CTX_new();
    if (!d || !state || EVP_DigestInit_ex(state, EVP_sha256(), NULL) != 1) {
        qd_cli_fail("SHA-256 could not be started");
        EVP_MD_CTX_free(state);
        free(d);
        return NULL;
    }
    d->state = state;
    return d;
}

void qd_cli_digest_add(qd_cli_digest *d, const float *values, size_t count) {
    enum { CHUNK = 1024 };
    unsigned char bytes[4 * CHUNK];
    while (count > 0) {
        const size_t n = count < CHUNK ? count : CHUNK;
        for (size_t i = 0; i < n; i++) {
            uint32_t u;
            memcpy(&u, &values[i], sizeof u);
            for (int b = 0; b < 4; b++)
                bytes[4 * i + (size_t)b] = (unsigned char)(u >> 8 * b);
        }
        EVP_DigestUpdate(d->state, bytes, 4 * n);
        values += n;
        count -= n;
    }
}

void qd_cli_digest_end(qd_cli_digest *d, char text[QD_CLI_DIGEST_TEXT]) {
    if (!d) return;
    unsigned char bytes[32] = {0};
    EVP_DigestFinal_ex(d->state, bytes, NULL);
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    EVP_MD_CTX_free(d->state);
    free(d);
}

bool qd_cli_is_side(const qd_gguf *g, qd_string name) {
    static const char *const ends[] = {".side", ".columns", ".outliers"};
    char owner[160];
    bool coded = false;
    qd_gguf_coded found;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const size_t tail = strlen(ends[i]);
        if (name.size <= tail || name.size >= sizeof owner) continue;
        if (memcmp(name.data + name.size - tail, ends[i], tail) != 0) continue;
        snprintf(owner, sizeof owner, "%.*s", (int)(name.size - tail), name.data);
        return qd_gguf_find_coded(g, owner, &coded, &found) == QD_OK && coded;
    }
    return false;
}
