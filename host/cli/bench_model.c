/* Speeds of a model: a prompt at once, and one token after the other. */
#include <string.h>

#include "cli/bench_measure.h"

static bool take_logits(void *user, int64_t position, const float *logits) {
    (void)user;
    (void)position;
    (void)logits;
    return !qd_cli_stopped();
}

/* Tokens are arbitrary: they do not change the amount of work. */
static int32_t token_at(int64_t i, int64_t vocab) {
    return (int32_t)((uint64_t)i * 2654435761u % (uint64_t)vocab);
}

qd_status qd_bench_tokens(qd_model *m, int64_t count, int64_t piece) {
    enum { PIECE = 512 };
    const int64_t vocab = qd_model_describe(m)->vocab;
    qd_status status = qd_model_rewind(m, 0);
    for (int64_t at = 0; !status && at < count;) {
        int32_t tokens[PIECE];
        int64_t n = count - at < piece ? count - at : piece;
        if (n > PIECE) n = PIECE;
        for (int64_t i = 0; i < n; i++)
            tokens[i] = token_at(at + i, vocab);
        at += n;
        const bool wait = piece == 1 || at == count;
        status = qd_model_eval(m, tokens, n, false, wait ? take_logits : NULL, NULL);
    }
    return status;
}

void qd_bench_model_size(const qd_gguf *g, double *bytes, double *elements) {
    bool has_output = false;
    for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        if (qd_gguf_tensor_at(g, i, &t) == QD_OK && t.name.size == 13 && memcmp(t.name.data, "output.weight", 13) == 0)
            has_output = true;
    }
    *bytes = *elements = 0;
    for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        if (qd_gguf_tensor_at(g, i, &t) != QD_OK || t.desc.rank != 2) continue;
        if (has_output && t.name.size == 17 && memcmp(t.name.data, "token_embd.weight", 17) == 0) continue;
        *bytes += (double)t.bytes;
        *elements += (double)(t.desc.shape[0] * t.desc.shape[1]);
    }
}

bool qd_bench_model_run(const qd_cli_session *s, const qd_bench_effort *effort, int64_t prompt, int64_t generate,
                        qd_bench_model *out) {
    const double total = 2.0 * effort->runs + 2;
    double prompt_rates[QD_BENCH_MAX_RUNS], token_rates[QD_BENCH_MAX_RUNS];
    qd_status status = QD_OK;
    /* The two in turn, so that a busy moment does not hit only one of them. Run -1 warms up. */
    for (int run = -1; !status && run < effort->runs; run++) {
        qd_cli_progress("model", 2.0 * run + 2, total);
        const double start = qd_cli_clock(s->context);
        status = qd_bench_tokens(s->model, prompt, prompt);
        const double middle = qd_cli_clock(s->context);
        qd_cli_progress("model", 2.0 * run + 3, total);
        if (!status) status = qd_bench_tokens(s->model, generate, 1);
        const double end = qd_cli_clock(s->context);
        if (run < 0 || status) continue;
        prompt_rates[run] = (double)prompt / (middle - start);
        token_rates[run] = (double)generate / (end - middle);
    }
    qd_cli_progress("model", 1, 1);
    if (status) {
        if (qd_cli_stopped()) {
            qd_cli_fail("stopped");
        } else {
            qd_cli_failed();
        }
        return false;
    }
    out->prompt = qd_bench_summarize(prompt_rates, effort->runs);
    out->generate = qd_bench_summarize(token_rates, effort->runs);
    double elements;
    qd_bench_model_size(s->gguf, &out->weight_bytes, &elements);
    return true;
}
