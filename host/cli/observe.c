/* Letting a model read a text, for what its matrices read. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

bool qd_cli_text_tokens(const qd_tokenizer *t, const char *path, int64_t most, int32_t **tokens, size_t *count) {
    char *text;
    size_t size;
    if (!qd_cli_read(path, &text, &size)) return false;
    const qd_status status = qd_tokenize(t, text, size, false, true, tokens, count);
    free(text);
    if (status != QD_OK) {
        qd_cli_failed();
        return false;
    }
    if (most && *count > (size_t)most) *count = (size_t)most;
    if (*count >= QD_CLI_LEAST_TOKENS) return true;
    qd_cli_fail("%s: %zu tokens are too few for statistics; at least %d are needed, some thousands are good", path,
                *count, QD_CLI_LEAST_TOKENS);
    qd_tokens_free(*tokens);
    *tokens = NULL;
    return false;
}

/* A bar with the time that is left, from the time so far. */
static void show(const char *what, double start, size_t done, size_t total) {
    char text[80];
    const double seconds = qd_cli_seconds() - start;
    snprintf(text, sizeof text, "%.48s, %.0f s left", what, seconds / (double)done * (double)(total - done));
    qd_cli_progress(text, (double)done, (double)total);
}

qd_status qd_cli_observe(qd_cli_session *s, const char *what, const int32_t *tokens, size_t count, int64_t window,
                         qd_status (*take)(void *user, qd_model *m, int64_t rows), void *user) {
    const double start = qd_cli_seconds();
    qd_status status = QD_OK;
    for (size_t at = 0; at < count && !status && !qd_cli_stopped();) {
        const int64_t position = (int64_t)(at % (size_t)window);
        if (!position) status = qd_model_rewind(s->model, 0);
        int64_t n = window - position < QD_CLI_CHUNK ? window - position : QD_CLI_CHUNK;
        if (n > (int64_t)(count - at)) n = (int64_t)(count - at);
        if (!status) status = qd_model_eval(s->model, tokens + at, n, false, NULL, NULL);
        if (!status) status = take(user, s->model, n);
        at += (size_t)n;
        show(what, start, at, count);
    }
    qd_cli_progress(what, 1, 1);
    return !status && qd_cli_stopped() ? QD_ERR_CANCELLED : status;
}
