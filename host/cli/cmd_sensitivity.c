/* qdot sensitivity: what each matrix or layer costs the model in other formats. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/sensitivity.h"

enum { MOST_FORMATS = 64 };

static const char about[] =
    "Stores one matrix (or the matrices of one layer) at a time in another format, all others as they are in the "
    "model,\n"
    "lets the model read a text, and writes what that costs: the error of the weights, how far the predictions are "
    "from\n"
    "the model's own (mean Kullback-Leibler divergence), the change of perplexity, and the bytes saved. `qdot plan` "
    "chooses\n"
    "formats by it. The model must be in floats (f16, bf16, f32); activations are f32. The text should be like what "
    "the\n"
    "model is for, and not the one that it is judged by; its first --tokens tokens are read in one window.\n\n"
    "  qdot sensitivity -m model-f16.gguf -f text --format q4_0 --estimate int3-g64,q5_0,q8_0 -o s.json --html s.html\n"
    "  qdot plan -s s.json --budget 4.5 -o plan.txt\n"
    "  qdot quantize model-f16.gguf small.gguf --plan plan.txt\n\n"
    "Each measurement takes a pass over the text, from the layer on that it changes. --estimate takes none: near the "
    "model's\n"
    "own weights the divergence grows as their squared error, so one format of about 4 bits tells about the others.\n"
    "Ctrl-C keeps what was measured; --continue goes on there, also with formats that were not asked for before. A "
    "format\n"
    "whose blocks are no part of a matrix's rows is left out there.";

double qd_cli_base_perplexity(const qd_sensitivity *s) {
    return exp(s->nll);
}

double qd_cli_perplexity_change(const qd_sensitivity *s, double nll_change) {
    return exp(s->nll) * expm1(nll_change);
}

double qd_cli_part_bytes(const qd_sensitivity_part *p) {
    double bytes = 0;
    for (int i = 0; i < p->matrices; i++)
        bytes += p->matrix[i].bytes;
    return bytes;
}

/* ---- Measuring ---------------------------------------------------------------------------------------------- */

typedef struct work {
    const char *out, *page;
    qd_sensitivity *s;
    qd_storage formats[MOST_FORMATS], estimates[MOST_FORMATS];
    int n_formats, n_estimates;
    regex_t *regex;        /* of --tensors, or NULL */
    double start, written; /* seconds */
} work;

static bool show(void *user, const qd_sensitivity_part *part, const qd_storage *to, int64_t done, int64_t total) {
    enum { SAVE_EVERY = 60 };
    work *w = user;
    char format[64], text[120];
    const double now = qd_cli_seconds();
    if (done == 0) w->start = now; /* loading is over */
    qd_storage_name(to, format, sizeof format);
    snprintf(text, sizeof text, "%-26.26s %-10.10s", part->name, format);
    if (done) {
        const double left = (now - w->start) / (double)done * (double)(total - done);
        snprintf(text, sizeof text, "%-26.26s %-10.10s %3.0f:%02.0f left", part->name, format, floor(left / 60),
                 floor(fmod(left, 60)));
    }
    qd_cli_progress(text, (double)done, (double)total);
    /* What is lost when the machine stops is a minute. */
    if (now - w->written > SAVE_EVERY) {
        if (w->written > 0) qd_sensitivity_write(w->s, w->out);
        w->written = now;
    }
    return !qd_cli_stopped();
}

static bool stopped(void *unused) {
    (void)unused;
    return qd_cli_stopped();
}

static bool matches(void *user, const char *name) {
    const work *w = user;
    return !w->regex || regexec(w->regex, name, 0, NULL, 0) == 0;
}

/* "q4_0,int3-g64" */
static bool read_formats(const char *option, const char *list, qd_storage *out, int *count) {
    char name[64];
    for (const char *at = list; list; at++) {
        const size_t size = strcspn(at, ",");
        if (size >= sizeof name || *count == MOST_FORMATS) {
            qd_cli_fail("%s takes at most %d names of formats with commas between them", option, (int)MOST_FORMATS);
            return false;
        }
        memcpy(name, at, size);
        name[size] = 0;
        if (qd_storage_parse(name, &out[(*count)++]) != QD_OK) {
            qd_cli_failed();
            return false;
        }
        at += size;
        if (!*at) return true;
    }
    return true;
}

/* ---- Telling ------------------------------------------------------------------------------------------------ */

static cJSON *result_json(const qd_sensitivity *s, const qd_sensitivity_part *p, const qd_sensitivity_result *r) {
    char name[64];
    cJSON *o = cJSON_CreateObject();
    qd_storage_name(&r->to, name, sizeof name);
    cJSON_AddStringToObject(o, "format", name);
    cJSON_AddNumberToObject(o, "bits_per_weight", 8 * r->bytes / qd_sensitivity_weights(p));
    cJSON_AddNumberToObject(o, "bytes_saved", qd_cli_part_bytes(p) - r->bytes);
    cJSON_AddNumberToObject(o, "mean_error", r->loss.absolute / r->loss.count);
    cJSON_AddNumberToObject(o, "max_error", r->loss.largest);
    const double snr = qd_loss_snr(&r->loss);
    if (isfinite(snr)) cJSON_AddNumberToObject(o, "snr_db", snr);
    cJSON_AddNumberToObject(o, "kl_divergence", r->divergence);
    cJSON_AddNumberToObject(o, "kl_divergence_error", r->divergence_error);
    cJSON_AddNumberToObject(o, "perplexity_change", qd_cli_perplexity_change(s, r->nll_change));
    cJSON_AddBoolToObject(o, "estimated", r->estimated);
    return o;
}

static int print_json(const work *w) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "file", w->out);
    cJSON_AddBoolToObject(root, "finished", w->s->finished);
    cJSON_AddNumberToObject(root, "tokens", (double)w->s->tokens);
    cJSON_AddNumberToObject(root, "perplexity", qd_cli_base_perplexity(w->s));
    cJSON *list = cJSON_AddArrayToObject(root, "parts");
    for (int i = 0; i < w->s->parts; i++) {
        const qd_sensitivity_part *p = &w->s->part[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "name", p->name);
        cJSON_AddNumberToObject(o, "weights", qd_sensitivity_weights(p));
        cJSON *results = cJSON_AddArrayToObject(o, "results");
        for (int k = 0; k < p->results; k++)
            cJSON_AddItemToArray(results, result_json(w->s, p, &p->result[k]));
        cJSON_AddItemToArray(list, o);
    }
    return qd_cli_print_json(root);
}

static void print_text(const work *w) {
    char name[64], size[24];
    bool estimates = false;
    printf("%-26s  %-10s  %6s  %10s  %7s  %12s  %9s  %10s\n", "part", "format", "bits", "saved", "SNR, dB", "KL, nats",
           "±", "perplexity");
    for (int i = 0; i < w->s->parts; i++) {
        const qd_sensitivity_part *p = &w->s->part[i];
        for (int k = 0; k < p->results; k++) {
            const qd_sensitivity_result *r = &p->result[k];
            const double saved = qd_cli_part_bytes(p) - r->bytes;
            qd_storage_name(&r->to, name, sizeof name);
            printf("%-26s  %-10s  %6.3f  %10s  %7.2f  %s%11.3e  %8.1e  %+10.4f\n", p->name, name,
                   8 * r->bytes / qd_sensitivity_weights(p), qd_cli_size((uint64_t)fmax(saved, 0), size),
                   qd_loss_snr(&r->loss), r->estimated ? "~" : " ", r->divergence, r->divergence_error,
                   qd_cli_perplexity_change(w->s, r->nll_change));
            estimates |= r->estimated;
        }
    }
    if (estimates) printf("\n~ estimated from another format\n");
    printf("\nperplexity of the model as it is: %.4f over %lld tokens; %s\n", qd_cli_base_perplexity(w->s),
           (long long)w->s->tokens - 1, w->out);
}

/* ---- The command -------------------------------------------------------------------------------------------- */

static int finish(const work *w, qd_status status, const qd_cli_common *c) {
    if (status && status != QD_ERR_CANCELLED) return qd_cli_failed();
    if (w->s->tokens && qd_sensitivity_write(w->s, w->out) != QD_OK) return qd_cli_failed();
    if (status && !w->s->tokens) return qd_cli_fail("stopped; nothing was measured");
    if (status) {
        return qd_cli_fail("stopped: '%s' has what was measured; the same command with --continue goes on there",
                           w->out);
    }
    if (w->page && !qd_cli_sensitivity_page(w->s, c->model, w->page)) return QD_EXIT_FAILED;
    if (c->json) return print_json(w);
    print_text(w);
    return QD_EXIT_OK;
}

static int measure(work *w, qd_cli_session *session, const char *text, size_t size, int64_t most, bool again,
                   const qd_cli_common *c) {
    int32_t *tokens = NULL;
    size_t count = 0;
    int code;
    if (qd_tokenize(session->tokenizer, text, size, false, true, &tokens, &count) != QD_OK) {
        code = qd_cli_failed();
    } else if (count < 2) {
        code = qd_cli_fail("sensitivity: the text has %zu tokens; some hundred are good", count);
    } else {
        const qd_sensitivity_options o = {.formats = w->formats,
                                          .n_formats = w->n_formats,
                                          .estimates = w->estimates,
                                          .n_estimates = w->n_estimates,
                                          .tokens = tokens,
                                          .count = (int64_t)count < most ? (int64_t)count : most,
                                          .threads = (int)c->threads,
                                          .want = again ? matches : NULL,
                                          .progress = show,
                                          .stopped = stopped,
                                          .user = w};
        const qd_status status = qd_sensitivity_measure(w->s, session->model, session->gguf, &o);
        qd_cli_progress("", 1, 1);
        code = finish(w, status, c);
    }
    qd_tokens_free(tokens);
    return code;
}

/* Lists the parts, or reads those of before; prints a message and returns false on failure. */
static bool prepare(work *w, const char *model, bool again, bool by_layer) {
    qd_gguf *g = NULL;
    qd_status status = qd_gguf_open(model, &g);
    if (!status && again) {
        status = qd_sensitivity_read(w->out, &w->s);
        if (!status) status = qd_sensitivity_check(w->s, g);
    } else if (!status) {
        status = qd_sensitivity_create(g, by_layer, matches, w, &w->s);
    }
    qd_gguf_free(g);
    if (status) qd_cli_failed();
    return !status;
}

int qd_cmd_sensitivity(int argc, char **argv) {
    qd_cli_common c = {0};
    const char *file = NULL, *formats = "q4_0", *estimates = NULL, *by = "tensor", *pattern = NULL;
    int64_t most = 256;
    bool again = false;
    work w = {.out = "sensitivity.json"};
    const qd_cli_option options[] = {
        QD_CLI_MODEL_OPTION(c),
        {"file", 'f', QD_CLI_TEXT, &file, 0, 0, "TEXT", "the text, UTF-8; - is standard input"},
        {"format", 0, QD_CLI_TEXT, &formats, 0, 0, "F,F,...", "formats and codings (default q4_0; see: qdot formats)"},
        {"estimate", 0, QD_CLI_TEXT, &estimates, 0, 0, "F,F,...",
         "more formats, whose costs are derived from those that were measured"},
        {"by", 0, QD_CLI_TEXT, &by, 0, 0, "WHAT", "tensor (the default) or layer: what is quantized at once"},
        {"tensors", 0, QD_CLI_TEXT, &pattern, 0, 0, "REGEX",
         "only those whose names match; with --continue, only these now"},
        {"tokens", 'n', QD_CLI_INT, &most, 2, 65536, "N", "take at most so many tokens (default 256)"},
        {"output", 'o', QD_CLI_TEXT, &w.out, 0, 0, "FILE", "the file that is written (default sensitivity.json)"},
        {"continue", 0, QD_CLI_FLAG, &again, 0, 0, NULL, "go on with what FILE has: same model, same text, same parts"},
        {"html", 0, QD_CLI_TEXT, &w.page, 0, 0, "PAGE", "also write a page with a chart for each format"},
        QD_CLI_DEVICE_OPTION(c),
        QD_CLI_THREADS_OPTION(c),
        QD_CLI_MEMORY_OPTION(c),
        QD_CLI_JSON_OPTION(c),
        QD_CLI_VERBOSE_OPTION(c),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(argc, argv, "sensitivity -m FILE -f TEXT [--format F,F,...] [options]", about, options, &code))
        return code;
    const bool by_layer = strcmp(by, "layer") == 0;
    if (!by_layer && strcmp(by, "tensor") != 0) return qd_cli_fail("--by is tensor or layer, not '%s'", by);
    if (!file) return qd_cli_fail("sensitivity: no text was given: -f FILE");
    if (!c.model) return qd_cli_fail("no model was given: -m FILE (one in floats: see `qdot quantize --format f16`)");
    char *text = NULL;
    size_t size;
    regex_t regex;
    if (pattern && !qd_cli_regex(pattern, &regex)) return QD_EXIT_FAILED;
    w.regex = pattern ? &regex : NULL;
    c.context = most;
    qd_cli_catch_interrupt();
    qd_cli_session session = {0};
    code = QD_EXIT_FAILED;
    if (read_formats("--format", formats, w.formats, &w.n_formats) &&
        read_formats("--estimate", estimates, w.estimates, &w.n_estimates) && qd_cli_read(file, &text, &size) &&
        prepare(&w, c.model, again, by_layer) && qd_cli_open_kept(&c, &session))
        code = measure(&w, &session, text, size, most, again, &c);
    qd_cli_close(&session);
    qd_sensitivity_free(w.s);
    if (w.regex) regfree(w.regex);
    free(text);
    return code;
}
