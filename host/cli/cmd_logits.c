/* qdot logits: a model's exact answer to a prompt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { TOP = 10 };

typedef struct collector {
    const int32_t *tokens;
    size_t count;
    int64_t vocab;
    double *nll; /* of tokens[1…], count - 1 of them */
    int32_t top[TOP];
    float top_logit[TOP];
    qd_cli_digest *digest;
} collector;

/* The TOP largest logits, ties to the lower token. */
static void find_top(collector *c, const float *logits) {
    int used = 0;
    for (int32_t id = 0; id < c->vocab; id++) {
        int at = used;
        while (at > 0 && logits[id] > c->top_logit[at - 1])
            at--;
        if (at == TOP) continue;
        if (used < TOP) used++;
        for (int i = used - 1; i > at; i--) {
            c->top[i] = c->top[i - 1];
            c->top_logit[i] = c->top_logit[i - 1];
        }
        c->top[at] = id;
        c->top_logit[at] = logits[id];
    }
}

static bool collect(void *user, int64_t position, const float *logits) {
    collector *c = user;
    const size_t next = (size_t)position + 1;
    qd_cli_digest_add(c->digest, logits, (size_t)c->vocab);
    if (next < c->count) {
        c->nll[position] = qd_cli_nll(logits, c->vocab, c->tokens[next]);
    } else {
        find_top(c, logits);
    }
    qd_cli_progress("computing", (double)next, (double)c->count);
    return !qd_cli_stopped();
}

static int print_result(const collector *c, const char *digest, bool json) {
    const int top = c->vocab < TOP ? (int)c->vocab : TOP;
    if (!json) {
        for (size_t i = 0; i + 1 < c->count; i++)
            printf("token %zu is %d: nll %.9f\n", i + 1, c->tokens[i + 1], c->nll[i]);
        for (int i = 0; i < top; i++)
            printf("next %2d is %d: logit %.9g\n", i + 1, c->top[i], (double)c->top_logit[i]);
        printf("sha256 %s\n", digest);
        return QD_EXIT_OK;
    }
    cJSON *root = cJSON_CreateObject();
    qd_cli_json_tokens(root, "tokens", c->tokens, c->count);
    cJSON *nll = cJSON_AddArrayToObject(root, "nll");
    for (size_t i = 0; i + 1 < c->count; i++)
        cJSON_AddItemToArray(nll, cJSON_CreateNumber(c->nll[i]));
    cJSON *rows = cJSON_AddArrayToObject(root, "top");
    for (int i = 0; i < top; i++) {
        cJSON *pair = cJSON_CreateArray();
        cJSON_AddItemToArray(pair, cJSON_CreateNumber(c->top[i]));
        cJSON_AddItemToArray(pair, cJSON_CreateNumber((double)c->top_logit[i]));
        cJSON_AddItemToArray(rows, pair);
    }
    cJSON_AddStringToObject(root, "sha256", digest);
    return qd_cli_print_json(root);
}

/* Evaluates `tokens` and prints; the session is open. */
static int evaluate(qd_cli_session *s, const int32_t *tokens, size_t count, bool json) {
    collector c = {.tokens = tokens, .count = count, .vocab = qd_model_describe(s->model)->vocab};
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= c.vocab) {
            return qd_cli_fail("token %d (item %zu) is not in the vocabulary of %lld", tokens[i], i + 1,
                               (long long)c.vocab);
        }
    }
    char digest[QD_CLI_DIGEST_TEXT];
    int code = QD_EXIT_FAILED;
    c.nll = calloc(count, sizeof *c.nll);
    c.digest = qd_cli_digest_new();
    if (!c.nll || !c.digest) {
        qd_cli_digest_end(c.digest, digest);
        free(c.nll);
        return qd_cli_fail("out of memory");
    }
    const qd_status status = qd_model_eval(s->model, tokens, (int64_t)count, true, collect, &c);
    qd_cli_digest_end(c.digest, digest);
    if (qd_cli_stopped()) {
        code = qd_cli_fail("stopped");
    } else if (status != QD_OK) {
        code = qd_cli_failed();
    } else {
        code = print_result(&c, digest, json);
    }
    free(c.nll);
    return code;
}

int qd_cmd_logits(int argc, char **argv) {
    qd_cli_common common = {0};
    const char *prompt = NULL, *list = NULL;
    int64_t chunk = 0;
    const qd_cli_option options[] = {
        QD_CLI_MODEL_OPTION(common),
        {"prompt", 'p', QD_CLI_TEXT, &prompt, 0, 0, "TEXT", "the text to evaluate"},
        {"tokens", 0, QD_CLI_TEXT, &list, 0, 0, "1,2,3", "tokens instead of a text"},
        QD_CLI_LORA_OPTION(common),
        QD_CLI_LORA_SCALED_OPTION(common),
        QD_CLI_DEVICE_OPTION(common),
        {"chunk", 0, QD_CLI_INT, &chunk, 0, 65536, "N", "tokens computed at once; 0: 128"},
        QD_CLI_ACTIVATIONS_OPTION(common),
        QD_CLI_KV_OPTION(common),
        QD_CLI_CONTEXT_OPTION(common),
        QD_CLI_THREADS_OPTION(common),
        QD_CLI_MEMORY_OPTION(common),
        QD_CLI_JSON_OPTION(common),
        QD_CLI_VERBOSE_OPTION(common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(
            argc, argv, "logits -m FILE (-p TEXT | --tokens 1,2,3) [options]",
            "Evaluates a text and prints, for comparing devices and programs: the negative log-likelihood of each "
            "token after\n"
            "the first (natural logarithm), the ten most likely next tokens, and the SHA-256 of all logits as float32.",
            options, &code)) {
        return code;
    }
    if (!prompt == !list) return qd_cli_fail("logits: give either -p TEXT or --tokens 1,2,3");
    int32_t *given = NULL, *made = NULL;
    size_t count = 0;
    if (list && !qd_cli_token_list(list, &given, &count)) return QD_EXIT_FAILED;
    qd_cli_catch_interrupt();
    qd_cli_session s;
    if (!qd_cli_open(&common, chunk, false, &s)) {
        code = QD_EXIT_FAILED;
    } else if (prompt && qd_tokenize(s.tokenizer, prompt, strlen(prompt), false, true, &made, &count) != QD_OK) {
        code = qd_cli_failed();
    } else if (count == 0) {
        code = qd_cli_fail("logits: the prompt is empty");
    } else {
        code = evaluate(&s, list ? given : made, count, common.json);
    }
    qd_cli_close(&s);
    qd_tokens_free(made);
    free(given);
    return code;
}
