/* Speeds of a model: a prompt at once, and one token after the other. */
#include <string.h>

#include "cli/bench_measure.h"

/* One run: `count` tokens in pieces of `piece`. Every piece waits for its last logits, as choosing a token would. */
typedef struct script {
    qd_model *model;
    int64_t count, piece;
} script;

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

static qd_status run_script(const script *s) {
    enum { PIECE = 512 };
    const int64_t vocab = qd_model_describe(s->model)->vocab;
    qd_status status = qd_model_rewind(s->model, 0);
    for (int64_t at = 0; !status && at < s->count;) {
        int32_t tokens[PIECE];
        int64_t n = s->count - at < s->piece ? s->count - at : s->piece;
        if (n > PIECE) n = PIECE;
        for (int64_t i = 0; i < n; i++)
            tokens[i] = token_at(at + i, vocab);
        at += n;
        const bool wait = s->piece == 1 || at == s->count;
        status = qd_model_eval(s->model, tokens, n, false, wait ? take_logits : NULL, NULL);
    }
    return status;
}

/* Bytes of the matrices that every token is multiplied by: all but the table of embeddings, unless that is the output
 * matrix, too. */
static double weight_bytes(const qd_gguf *g) {
    double total = 0, embeddings = 0;
    bool has_output = false;
    for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        if (qd_gguf_tensor_at(g, i, &t) != QD_OK || t.desc.rank != 2) continue;
        total += (double)t.bytes;
        if (t.name.size == 17 && memcmp(t.name.data, "token_embd.weight", 17) == 0) embeddings = (double)t.bytes;
        if (t.name.size == 13 && memcmp(t.name.data, "output.weight", 13) == 0) has_output = true;
    }
    return has_output ? total - embeddings : total;
}

bool qd_bench_model_run(const qd_cli_session *s, const qd_bench_effort *effort, int64_t prompt, int64_t generate,
                        qd_bench_model *out) {
    const script prompts = {s->model, prompt, prompt}, tokens = {s->model, generate, 1};
    const double total = 2.0 * effort->runs + 2;
    double prompt_rates[QD_BENCH_MAX_RUNS], token_rates[QD_BENCH_MAX_RUNS];
    qd_status status = QD_OK;
    /* The two in turn, so that a busy moment does not hit only one of them. Run -1 warms up. */
    for (int run = -1; !status && run < effort->runs; run++) {
        qd_cli_progress("model", 2.0 * run + 2, total);
        const double start = qd_cli_clock(s->context);
        status = run_script(&prompts);
        const double middle = qd_cli_clock(s->context);
        qd_cli_progress("model", 2.0 * run + 3, total);
        if (!status) status = run_script(&tokens);
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
    out->weight_bytes = weight_bytes(s->gguf);
    return true;
}
