/* qdot calibrate: statistics of what a model's matrices read. */
#include <stdio.h>

#include "cli/cli.h"
#include "qdot/qdot_calibration.h"

static qd_status add(void *user, qd_model *m, int64_t rows) {
    return qd_calibration_add(user, m, rows);
}

static int calibrate(qd_cli_session *s, const char *text, int64_t window, int64_t most, const char *out) {
    int32_t *tokens = NULL;
    size_t count = 0;
    qd_calibration *c = NULL;
    int code = QD_EXIT_FAILED;
    if (!qd_cli_text_tokens(s->tokenizer, text, most, &tokens, &count)) return code;
    if (qd_calibration_create(s->model, s->gguf, &c) != QD_OK) {
        code = qd_cli_failed();
    } else {
        const qd_status status = qd_cli_observe(s, "calibrating", tokens, count, window, add, c);
        if (status == QD_ERR_CANCELLED) {
            code = qd_cli_fail("stopped; nothing was written");
        } else if (status || qd_calibration_finish(c, QD_CLI_LEAST_TOKENS) || qd_calibration_write(c, out)) {
            code = qd_cli_failed();
        } else {
            code = QD_EXIT_OK;
            fprintf(stderr, "%s: %d inputs, %lld tokens\n", out, qd_model_input_count(s->model),
                    (long long)qd_calibration_tokens(c));
        }
    }
    qd_calibration_free(c);
    qd_tokens_free(tokens);
    return code;
}

int qd_cmd_calibrate(int argc, char **argv) {
    qd_cli_common common = {0};
    const char *file = NULL, *out = NULL;
    int64_t window = 512, most = 0;
    const qd_cli_option options[] = {
        QD_CLI_MODEL_OPTION(common),
        {"file", 'f', QD_CLI_TEXT, &file, 0, 0, "TEXT", "the text, UTF-8; - is standard input"},
        {"output", 'o', QD_CLI_TEXT, &out, 0, 0, "STATS", "the file that is written, JSON"},
        {"ctx", 0, QD_CLI_INT, &window, 16, 16777216, "N", "tokens of a window (default 512)"},
        {"tokens", 'n', QD_CLI_INT, &most, 0, 0x7fffffff, "N", "take at most so many tokens; 0: all"},
        QD_CLI_DEVICE_OPTION(common),
        QD_CLI_THREADS_OPTION(common),
        QD_CLI_MEMORY_OPTION(common),
        QD_CLI_VERBOSE_OPTION(common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(
            argc, argv, "calibrate -m FILE -f TEXT -o STATS [options]",
            "Lets a model read a text and writes what its matrices read: for each, least and largest value, ranges by "
            "moving\n"
            "average, percentile, least squared error and least divergence in 8 bits, and for each column its largest "
            "magnitude\n"
            "and mean square. Methods that scale or round weights by their use take this file. Activations are f32. "
            "The "
            "text should\n"
            "be like what the model is for, and not the one that it is judged by.",
            options, &code)) {
        return code;
    }
    if (!file) return qd_cli_fail("calibrate: no text was given: -f FILE");
    if (!out) return qd_cli_fail("calibrate: no file to write was given: -o FILE");
    common.context = window;
    qd_cli_catch_interrupt();
    qd_cli_session s;
    code = QD_EXIT_FAILED;
    if (qd_cli_open_observed(&common, QD_CLI_CHUNK, &s)) code = calibrate(&s, file, window, most, out);
    qd_cli_close(&s);
    return code;
}
