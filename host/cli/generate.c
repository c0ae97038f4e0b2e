#include "cli/generate.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Fingerprints ------------------------------------------------------------------------------------------- */

/* Hashes the float32 bytes as they are: both sides of a comparison are on this machine. */
static void fingerprint(const float *logits, int64_t vocab, unsigned char out[QD_PROOF_BYTES]) {
    EVP_Digest(logits, (size_t)vocab * sizeof *logits, out, NULL, EVP_sha256(), NULL);
}

typedef struct comparison {
    const qd_proof *proof;
    int64_t vocab, first;
} comparison;

static bool compare_position(void *user, int64_t position, const float *logits) {
    comparison *c = user;
    unsigned char mine[QD_PROOF_BYTES] = {0};
    fingerprint(logits, c->vocab, mine);
    qd_cli_progress("comparing with the reference", (double)position + 1, (double)c->proof->count);
    if (memcmp(mine, c->proof->of[position], sizeof mine) != 0 && c->first == c->proof->count) c->first = position;
    return !qd_cli_stopped() && c->first == c->proof->count;
}

int64_t qd_proof_check(const qd_proof *proof, qd_model *model, const int32_t *tokens) {
    comparison c = {proof, qd_model_describe(model)->vocab, proof->count};
    const qd_status status = qd_model_eval(model, tokens, proof->count, true, compare_position, &c);
    if (c.first < proof->count) return c.first;
    if (qd_cli_stopped()) {
        qd_cli_fail("the comparison was stopped");
        return -1;
    }
    if (status != QD_OK) {
        qd_cli_failed();
        return -1;
    }
    return c.first;
}

/* ---- Text --------------------------------------------------------------------------------------------------- */

/* realloc to at least `need` items when there is less room; NULL (a message was printed) leaves the memory as it is. */
static void *grown(void *memory, size_t *room, size_t need, size_t item) {
    if (need <= *room) return memory;
    const size_t more = need + need / 2 + 64;
    void *p = realloc(memory, more * item);
    if (!p) {
        qd_cli_fail("out of memory");
        return NULL;
    }
    *room = more;
    return p;
}

/* Writes what ends no character in its middle; with `all`, the rest, too. */
static void show_text(qd_generation *g, bool all) {
    if (!g->stream) return;
    const size_t whole = all ? g->text_size : qd_cli_utf8_whole(g->text, g->text_size);
    fwrite(g->text + g->text_shown, 1, whole - g->text_shown, stdout);
    fflush(stdout);
    g->text_shown = whole;
}

static bool append_text(qd_generation *g, int32_t token) {
    const qd_tokenizer *t = g->session->tokenizer;
    const int size = qd_token_text(t, token, false, NULL, 0);
    if (size <= 0) return true;
    char *text = grown(g->text, &g->text_room, g->text_size + (size_t)size, 1);
    if (!text) return false;
    g->text = text;
    qd_token_text(t, token, false, g->text + g->text_size, (size_t)size);
    g->text_size += (size_t)size;
    show_text(g, false);
    return true;
}

/* ---- Evaluation --------------------------------------------------------------------------------------------- */

/* Prompts are given to the model in pieces, so that a bar can move and Ctrl-C is heard. */
enum { PIECE = 128 };

typedef struct step {
    qd_generation *g;
    bool choose; /* the last position's logits choose the next token */
    int64_t last;
    int32_t next;
    qd_status status;
} step;

static bool on_logits(void *user, int64_t position, const float *logits) {
    step *s = user;
    qd_proof *proof = s->g->proof;
    if (proof && position == proof->count && position < QD_PROOF_POSITIONS) {
        const int64_t vocab = qd_model_describe(s->g->session->model)->vocab;
        fingerprint(logits, vocab, proof->of[proof->count++]);
        qd_cli_digest_add(proof->all, logits, (size_t)vocab);
    }
    if (s->choose && position == s->last) s->status = qd_sampler_next(s->g->sampler, logits, &s->next);
    return s->status == QD_OK;
}

/* Appends tokens to the model; chooses *next from the last one's logits unless `next` is NULL. */
static bool evaluate(qd_generation *g, const int32_t *tokens, int64_t count, int32_t *next) {
    const int64_t at = qd_model_position(g->session->model);
    const bool all = g->proof && at < QD_PROOF_POSITIONS;
    step s = {.g = g, .choose = next != NULL, .last = at + count - 1, .status = QD_OK};
    const qd_status status = qd_model_eval(g->session->model, tokens, count, all, all || next ? on_logits : NULL, &s);
    if (status != QD_OK || s.status != QD_OK) {
        qd_cli_failed();
        return false;
    }
    if (next) *next = s.next;
    return true;
}

static bool append_token(qd_generation *g, int32_t token) {
    int32_t *tokens = grown(g->tokens, &g->token_room, (size_t)g->token_count + 1, sizeof *tokens);
    if (!tokens) return false;
    g->tokens = tokens;
    g->tokens[g->token_count++] = token;
    return true;
}

/* Brings the context to `tokens`; *next is the first generated token, valid unless the user stopped. */
static bool evaluate_prompt(qd_generation *g, const int32_t *tokens, int64_t count, int32_t *next) {
    qd_model *model = g->session->model;
    const int64_t held = qd_model_position(model);
    int64_t same = 0;
    /* The last token is always evaluated, because its logits are needed. */
    while (same < held && same < count - 1 && same < g->token_count && g->tokens[same] == tokens[same])
        same++;
    if (qd_model_rewind(model, same) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    g->token_count = same;
    for (int64_t at = same; at < count && !qd_cli_stopped();) {
        /* With fingerprints, every position up to their limit needs logits: a piece ends there. */
        int64_t end = at + PIECE < count ? at + PIECE : count;
        if (g->proof && at < QD_PROOF_POSITIONS && end > QD_PROOF_POSITIONS) end = QD_PROOF_POSITIONS;
        if (!evaluate(g, tokens + at, end - at, end == count ? next : NULL)) return false;
        for (int64_t i = at; i < end; i++) {
            if (!append_token(g, tokens[i])) return false;
            qd_sampler_accept(g->sampler, tokens[i]);
        }
        g->prompt_tokens += end - at;
        at = end;
        qd_cli_progress("prompt", (double)(at - same), (double)(count - same));
    }
    return true;
}

bool qd_generate(qd_generation *g, const int32_t *tokens, size_t count) {
    const int64_t context = qd_model_describe(g->session->model)->context;
    const double start = qd_cli_clock(g->session->context);
    int32_t next = 0;
    g->text_size = g->text_shown = 0;
    g->prompt_tokens = g->generated_tokens = 0;
    g->stop = QD_STOP_INTERRUPT;
    if ((int64_t)count > context) {
        qd_cli_fail("the prompt has %zu tokens, but only %lld fit: shorten it, or give a larger --context", count,
                    (long long)context);
        return false;
    }
    if (!evaluate_prompt(g, tokens, (int64_t)count, &next)) return false;
    g->first_seconds = qd_cli_clock(g->session->context) - start;
    while (!qd_cli_stopped()) {
        g->stop = QD_STOP_LENGTH;
        if (g->generated_tokens == g->limit) break;
        g->stop = QD_STOP_END_TOKEN;
        if (!g->no_stop && qd_token_ends(g->session->tokenizer, next)) break;
        g->generated_tokens++;
        if (!append_token(g, next) || !append_text(g, next)) return false;
        g->stop = QD_STOP_CONTEXT;
        if (qd_model_position(g->session->model) == context) break;
        g->stop = QD_STOP_LENGTH;
        if (g->generated_tokens == g->limit) break;
        const int32_t token = next;
        if (!evaluate(g, &token, 1, &next)) return false;
        g->stop = QD_STOP_INTERRUPT;
    }
    show_text(g, true);
    g->seconds = qd_cli_clock(g->session->context) - start;
    return true;
}

void qd_generation_free(qd_generation *g) {
    free(g->tokens);
    free(g->text);
}
