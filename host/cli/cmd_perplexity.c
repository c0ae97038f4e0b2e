/* qdot perplexity: how well a model predicts a text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

typedef struct score {
    const int32_t *window; /* tokens of the current window */
    int64_t size, vocab;
    double sum, squares; /* of the negative log-likelihoods */
    size_t count;
} score;

static bool add_position(void *user, int64_t position, const float *logits) {
    score *s = user;
    if (position + 1 < s->size) {
        const double nll = qd_cli_nll(logits, s->vocab, s->window[position + 1]);
        s->sum += nll;
        s->squares += nll * nll;
        s->count++;
    }
    return !qd_cli_stopped();
}

static double perplexity(const score *s) {
    return exp(s->sum / (double)s->count);
}

/* Of the perplexity: that of the mean, carried through exp. */
static double standard_error(const score *s) {
    const double n = (double)s->count, mean = s->sum / n;
    if (s->count < 2) return 0;
    const double variance = fmax(0, (s->squares - n * mean * mean) / (n - 1));
    return perplexity(s) * sqrt(variance / n);
}

/* Windows stand side by side; each starts from nothing, and its first token is not scored. */
static int evaluate(qd_cli_session *session, const int32_t *tokens, size_t count, int64_t window, bool json) {
    score s = {.vocab = qd_model_describe(session->model)->vocab};
    const double start = qd_cli_seconds();
    const bool terminal = isatty(STDERR_FILENO);
    for (size_t at = 0; at + 1 < count; at += (size_t)window) {
        s.window = tokens + at;
        s.size = count - at < (size_t)window ? (int64_t)(count - at) : window;
        if (s.size < 2) break;
        const qd_status status = qd_model_rewind(session->model, 0) == QD_OK
                                     ? qd_model_eval(session->model, s.window, s.size, true, add_position, &s)
                                     : QD_ERR_DEVICE;
        if (qd_cli_stopped()) return qd_cli_fail("stopped");
        if (status != QD_OK) return qd_cli_failed();
        if (terminal)
            fprintf(stderr, "\r%zu of %zu tokens, perplexity %.4f\033[K", at + (size_t)s.size, count, perplexity(&s));
    }
    const double seconds = qd_cli_seconds() - start;
    if (terminal) fprintf(stderr, "\r\033[K");
    const char *device = qd_context_device(session->context)->id;
    if (!json) {
        printf("perplexity %.4f ± %.4f over %zu tokens in windows of %lld\n", perplexity(&s), standard_error(&s),
               s.count, (long long)window);
        printf("%s: %.1f tokens/s\n", device, (double)count / seconds);
        return QD_EXIT_OK;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "device", device);
    cJSON_AddNumberToObject(root, "perplexity", perplexity(&s));
    cJSON_AddNumberToObject(root, "standard_error", standard_error(&s));
    cJSON_AddNumberToObject(root, "mean_nll", s.sum / (double)s.count);
    cJSON_AddNumberToObject(root, "scored_tokens", (double)s.count);
    cJSON_AddNumberToObject(root, "tokens", (double)count);
    cJSON_AddNumberToObject(root, "window", (double)window);
    cJSON_AddNumberToObject(root, "tokens_per_second", (double)count / seconds);
    return qd_cli_print_json(root);
}

int qd_cmd_perplexity(int argc, char **argv) {
    qd_cli_common common = {0};
    const char *file = NULL;
    int64_t window = 512;
    const qd_cli_option options[] = {
        QD_CLI_MODEL_OPTION(common),
        {"file", 'f', QD_CLI_TEXT, &file, 0, 0, "TEXT", "the text, UTF-8; - is standard input"},
        {"ctx", 0, QD_CLI_INT, &window, 2, 16777216, "N", "tokens of a window (default 512)"},
        QD_CLI_LORA_OPTION(common),
        QD_CLI_LORA_SCALED_OPTION(common),
        QD_CLI_DEVICE_OPTION(common),
        QD_CLI_ACTIVATIONS_OPTION(common),
        QD_CLI_KV_OPTION(common),
        QD_CLI_THREADS_OPTION(common),
        QD_CLI_MEMORY_OPTION(common),
        QD_CLI_JSON_OPTION(common),
        QD_CLI_VERBOSE_OPTION(common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(argc, argv, "perplexity -m FILE -f TEXT [options]",
                      "Cuts the tokens of a text into windows that do not overlap (the last may be shorter) and "
                      "evaluates each from an\n"
                      "empty context. Every token but the first of each window is scored. Prints exp(mean negative "
                      "log-likelihood) and\n"
                      "its standard error.",
                      options, &code)) {
        return code;
    }
    if (!file) return qd_cli_fail("perplexity: no text was given: -f FILE");
    char *text;
    size_t size;
    if (!qd_cli_read(file, &text, &size)) return QD_EXIT_FAILED;
    common.context = window;
    qd_cli_catch_interrupt();
    qd_cli_session s;
    int32_t *tokens = NULL;
    size_t count = 0;
    if (!qd_cli_open(&common, 0, false, &s)) {
        code = QD_EXIT_FAILED;
    } else if (qd_tokenize(s.tokenizer, text, size, false, true, &tokens, &count) != QD_OK) {
        code = qd_cli_failed();
    } else if (count < 2) {
        code = qd_cli_fail("perplexity: the text has %zu tokens; at least 2 are needed", count);
    } else {
        code = evaluate(&s, tokens, count, window, common.json);
    }
    qd_cli_close(&s);
    qd_tokens_free(tokens);
    free(text);
    return code;
}
