/* qdot compare: two models side by side. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/compare.h"
#include "cli/page.h"
#include "cli/text_scores.h"
#include "qdot/qdot_sensitivity.h"

/* Tokens whose logits are kept at once. */
enum { CHUNK = 32 };

typedef struct pair {
    qd_cli_session session[2];
    qd_compare_report report;
    int64_t vocab;
    float *logits; /* [CHUNK][vocab], of A */
    const int32_t *window;
    int64_t size, first; /* of the window; position of the chunk in it */
    int which;
    double seconds[2];
    int32_t *written[2]; /* [report.generated]: the likeliest tokens */
} pair;

static bool take_position(void *user, int64_t position, const float *logits) {
    pair *p = user;
    qd_compare_report *r = &p->report;
    qd_compare_model *m = &r->model[p->which];
    float *kept = p->logits + (position - p->first) * p->vocab;
    if (position + 1 < p->size) {
        const double nll = qd_cli_nll(logits, p->vocab, p->window[position + 1]);
        m->nll += nll;
        m->squares += nll * nll;
        r->scored += p->which == 0;
    }
    if (p->which == 0) {
        memcpy(kept, logits, (size_t)p->vocab * sizeof *kept);
        return !qd_cli_stopped();
    }
    const double divergence = qd_logits_divergence(kept, logits, p->vocab);
    r->positions++;
    r->agreed += qd_compare_top(kept, p->vocab) == qd_compare_top(logits, p->vocab);
    r->divergence += divergence;
    r->divergence_squares += divergence * divergence;
    if (divergence > r->divergence_most) r->divergence_most = divergence;
    return !qd_cli_stopped();
}

/* Both models see the window, a chunk at a time. */
static qd_status compare_window(pair *p) {
    for (int i = 0; i < 2; i++) {
        const qd_status status = qd_model_rewind(p->session[i].model, 0);
        if (status) return status;
    }
    for (p->first = 0; p->first < p->size; p->first += CHUNK) {
        const int64_t n = p->size - p->first < CHUNK ? p->size - p->first : CHUNK;
        for (p->which = 0; p->which < 2; p->which++) {
            const double start = qd_cli_seconds();
            const qd_status status =
                qd_model_eval(p->session[p->which].model, p->window + p->first, n, true, take_position, p);
            if (status) return status;
            p->seconds[p->which] += qd_cli_seconds() - start;
        }
    }
    return QD_OK;
}

static qd_status compare_text(pair *p, const int32_t *tokens, size_t count) {
    const int64_t window = p->report.window;
    qd_status status = QD_OK;
    for (size_t at = 0; at + 1 < count && !status; at += (size_t)window) {
        p->window = tokens + at;
        p->size = count - at < (size_t)window ? (int64_t)(count - at) : window;
        if (p->size > 1) status = compare_window(p);
        qd_cli_progress("comparing", (double)at + (double)p->size, (double)count);
    }
    qd_cli_progress("comparing", 1, 1);
    return status;
}

static bool keep_likeliest(void *user, int64_t position, const float *logits) {
    pair *p = user;
    (void)position;
    p->first = qd_compare_top(logits, p->vocab);
    return !qd_cli_stopped();
}

/* Speeds: of a prompt, and of tokens one by one, each the likeliest. Kernels are built by now. */
static qd_status time_model(pair *p, int i, const int32_t *tokens, size_t count) {
    qd_model *m = p->session[i].model;
    const int64_t room = qd_model_describe(m)->context - p->report.generated;
    const int64_t n = (int64_t)count < 128 ? (int64_t)count : 128, prompt = n < room ? n : room;
    qd_status status = qd_model_rewind(m, 0);
    double start = qd_cli_seconds();
    if (prompt < 1) return status;
    if (!status) status = qd_model_eval(m, tokens, prompt, false, keep_likeliest, p);
    p->report.model[i].prompt_rate = (double)prompt / (qd_cli_seconds() - start);
    start = qd_cli_seconds();
    for (int64_t k = 0; k < p->report.generated && !status; k++) {
        const int32_t token = p->written[i][k] = (int32_t)p->first;
        status = qd_model_eval(m, &token, 1, false, keep_likeliest, p);
    }
    p->report.model[i].generate_rate = (double)p->report.generated / (qd_cli_seconds() - start);
    return status;
}

/* The text that a model went on with, to be freed; NULL: memory ran out. */
static char *text_of(const pair *p, int i) {
    const qd_tokenizer *t = p->session[i].tokenizer;
    size_t size = 0;
    for (int64_t k = 0; k < p->report.generated; k++)
        size += (size_t)qd_token_text(t, p->written[i][k], false, NULL, 0);
    char *text = malloc(size + 1), *at = text;
    for (int64_t k = 0; text && k < p->report.generated; k++)
        at += qd_token_text(t, p->written[i][k], false, at, size - (size_t)(at - text));
    if (text) *at = 0;
    return text;
}

/* Likeness of what both went on with. */
static bool score_texts(pair *p) {
    char *a = text_of(p, 0), *b = text_of(p, 1);
    const bool ok = a && b && qd_text_scores(a, b, &p->report.rouge_l, &p->report.bleu);
    if (!ok) qd_cli_fail("out of memory for texts");
    free(a);
    free(b);
    return ok;
}

static bool open_model(pair *p, int i, const qd_cli_common *common, const char *path) {
    qd_compare_model *m = &p->report.model[i];
    qd_cli_common c = *common;
    struct stat file;
    qd_memory_info memory = {0};
    c.model = m->path = path;
    const double start = qd_cli_seconds();
    if (!qd_cli_open(&c, 0, false, &p->session[i])) return false;
    m->load_seconds = qd_cli_seconds() - start;
    m->name = qd_model_describe(p->session[i].model)->name;
    m->bytes = stat(path, &file) == 0 ? (double)file.st_size : 0;
    if (qd_context_memory(p->session[i].context, &memory) == QD_OK) m->device_bytes = (double)memory.used;
    return true;
}

/* The text's tokens, which must be the same for both. */
static bool read_tokens(pair *p, const char *text, size_t size, int32_t **tokens, size_t *count) {
    int32_t *other = NULL;
    size_t others = 0;
    bool same = false;
    if (qd_tokenize(p->session[0].tokenizer, text, size, false, true, tokens, count) != QD_OK ||
        qd_tokenize(p->session[1].tokenizer, text, size, false, true, &other, &others) != QD_OK) {
        qd_cli_failed();
    } else if (p->vocab != qd_model_describe(p->session[1].model)->vocab || *count != others ||
               memcmp(*tokens, other, others * sizeof *other)) {
        qd_cli_fail("compare: the models do not have the same tokens: only models of one vocabulary can be compared");
    } else if (*count < 2) {
        qd_cli_fail("compare: the text has %zu tokens; at least 2 are needed", *count);
    } else {
        same = true;
    }
    qd_tokens_free(other);
    return same;
}

static cJSON *model_json(const qd_compare_report *r, int i) {
    const qd_compare_model *m = &r->model[i];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "file", m->path);
    cJSON_AddStringToObject(o, "name", m->name);
    cJSON_AddNumberToObject(o, "bytes", m->bytes);
    cJSON_AddNumberToObject(o, "device_bytes", m->device_bytes);
    cJSON_AddNumberToObject(o, "load_seconds", m->load_seconds);
    cJSON_AddNumberToObject(o, "prompt_tokens_per_second", m->prompt_rate);
    cJSON_AddNumberToObject(o, "generated_tokens_per_second", m->generate_rate);
    cJSON_AddNumberToObject(o, "perplexity", qd_compare_perplexity(r, i));
    cJSON_AddNumberToObject(o, "standard_error", qd_compare_perplexity_error(r, i));
    return o;
}

static int print_json(const qd_compare_report *r) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "device", r->device);
    cJSON_AddStringToObject(root, "text", r->text);
    cJSON_AddNumberToObject(root, "tokens", (double)r->tokens);
    cJSON_AddNumberToObject(root, "scored_tokens", (double)r->scored);
    cJSON_AddNumberToObject(root, "window", (double)r->window);
    cJSON_AddItemToObject(root, "a", model_json(r, 0));
    cJSON_AddItemToObject(root, "b", model_json(r, 1));
    cJSON_AddNumberToObject(root, "kl_divergence", r->divergence / (double)r->positions);
    cJSON_AddNumberToObject(root, "kl_divergence_error", qd_compare_divergence_error(r));
    cJSON_AddNumberToObject(root, "kl_divergence_max", r->divergence_most);
    cJSON_AddNumberToObject(root, "top1_agreement", (double)r->agreed / (double)r->positions);
    cJSON_AddNumberToObject(root, "generated_tokens", (double)r->generated);
    cJSON_AddNumberToObject(root, "rouge_l", r->rouge_l);
    cJSON_AddNumberToObject(root, "bleu", r->bleu);
    return qd_cli_print_json(root);
}

static int write_page(const qd_compare_report *r, const char *path) {
    FILE *f = qd_cli_page_open(path);
    if (!f) return QD_EXIT_FAILED;
    qd_compare_html(r, f);
    return qd_cli_page_close(f, path) ? QD_EXIT_OK : QD_EXIT_FAILED;
}

static int compare(pair *p, const char *text, size_t size, bool json, const char *page) {
    int32_t *tokens = NULL;
    size_t count = 0;
    int code = QD_EXIT_FAILED;
    qd_compare_report *r = &p->report;
    p->vocab = qd_model_describe(p->session[0].model)->vocab;
    r->device = qd_context_device(p->session[0].context)->id;
    p->logits = malloc(CHUNK * (size_t)p->vocab * sizeof *p->logits);
    for (int i = 0; i < 2; i++)
        p->written[i] = calloc((size_t)r->generated, sizeof *p->written[i]);
    if (!p->logits || !p->written[0] || !p->written[1]) {
        code = qd_cli_fail("out of memory for logits");
    } else if (read_tokens(p, text, size, &tokens, &count)) {
        r->tokens = count;
        qd_status status = compare_text(p, tokens, count);
        for (int i = 0; i < 2 && !status; i++)
            status = time_model(p, i, tokens, count);
        if (qd_cli_stopped()) {
            code = qd_cli_fail("stopped");
        } else if (status) {
            code = qd_cli_failed();
        } else if (score_texts(p)) {
            code = page ? write_page(r, page) : QD_EXIT_OK;
            if (!code && json) code = print_json(r);
            if (!code && !json) qd_compare_print(r);
        }
    }
    for (int i = 0; i < 2; i++)
        free(p->written[i]);
    free(p->logits);
    qd_tokens_free(tokens);
    return code;
}

int qd_cmd_compare(int argc, char **argv) {
    qd_cli_common common = {0};
    const char *file = NULL, *a = NULL, *b = NULL, *page = NULL, *activations_a = NULL;
    int64_t window = 512, generate = 32;
    bool adapt_b = false;
    const qd_cli_option options[] = {
        {"A.gguf", 0, QD_CLI_OPERAND, &a, 0, 0, NULL, NULL},
        {"B.gguf", 0, QD_CLI_OPERAND, &b, 0, 0, NULL, NULL},
        {"file", 'f', QD_CLI_TEXT, &file, 0, 0, "TEXT", "the text, UTF-8; - is standard input"},
        {"ctx", 0, QD_CLI_INT, &window, 2, 16777216, "N", "tokens of a window (default 512)"},
        {"generate", 0, QD_CLI_INT, &generate, 8, 4096, "N",
         "tokens that both go on with after the text's first (default 32)"},
        {"html", 0, QD_CLI_TEXT, &page, 0, 0, "PAGE", "also write a page with charts"},
        QD_CLI_LORA_OPTION(common),
        QD_CLI_LORA_SCALED_OPTION(common),
        {"lora-b", 0, QD_CLI_FLAG, &adapt_b, 0, 0, NULL, "adapters are for B only"},
        QD_CLI_DEVICE_OPTION(common),
        QD_CLI_ACTIVATIONS_OPTION(common),
        {"activations-a", 0, QD_CLI_TEXT, &activations_a, 0, 0, "A",
         "what A's matrices read, where it is not the same"},
        QD_CLI_KV_OPTION(common),
        QD_CLI_THREADS_OPTION(common),
        QD_CLI_MEMORY_OPTION(common),
        QD_CLI_JSON_OPTION(common),
        QD_CLI_VERBOSE_OPTION(common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(
            argc, argv, "compare A.gguf B.gguf -f TEXT [options]",
            "Two models of one vocabulary side by side: size, memory, time to load, speed, perplexity; how far B's "
            "predictions\n"
            "are from A's (mean Kullback-Leibler divergence), and how often both have the same likeliest token;\n"
            "and how like the words are that both go on with (ROUGE-L, BLEU). A is usually the model before it was "
            "quantized,\n"
            "B after. What an adapter changes:\n"
            "  qdot compare model.gguf model.gguf --lora adapter.gguf --lora-b -f text.txt",
            options, &code)) {
        return code;
    }
    if (!a || !b) return qd_cli_fail("compare: two model files are needed: compare A.gguf B.gguf -f TEXT");
    if (!file) return qd_cli_fail("compare: no text was given: -f FILE");
    char *text;
    size_t size;
    if (!qd_cli_read(file, &text, &size)) return QD_EXIT_FAILED;
    common.context = window > generate + 128 ? window : generate + 128;
    qd_cli_catch_interrupt();
    pair p = {.report = {.text = file, .window = window, .generated = generate}};
    code = QD_EXIT_FAILED;
    qd_cli_common common_a = common;
    if (activations_a) common_a.activations = activations_a;
    if (adapt_b) common_a.lora.count = common_a.lora_scaled.count = 0;
    if (open_model(&p, 0, &common_a, a) && open_model(&p, 1, &common, b))
        code = compare(&p, text, size, common.json, page);
    for (int i = 0; i < 2; i++)
        qd_cli_close(&p.session[i]);
    free(text);
    return code;
}
