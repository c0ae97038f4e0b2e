/* qdot bench: speeds, next to what the machine could do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_measure.h"
#include "cli/bench_peers.h"

static const char about[] =
    "Measures speeds, each next to a roof: the fastest that this machine could be.\n"
    "\n"
    "Without a model: products of a matrix of weights (N rows of K; blocks, integer codes, codings) and M rows of\n"
    "activations. M = 1 is one generated token, larger M is a prompt. Up to M = 16, several copies of the weights\n"
    "(column `copies`), which together are larger than the caches, are used in turn: in a model, too, weights come\n"
    "from memory.\n"
    "With a model: tokens per second of a prompt in an empty context, and of tokens that come one by one; each waits "
    "for\n"
    "its logits.\n"
    "\n"
    "  time        median of the runs, launch included; +-: half of slowest minus fastest, in percent of the median\n"
    "  GB/s        bytes of weights, activations and results, each counted once, per second\n"
    "  GOP/s       10^9 multiplications and additions per second, 2 M N K for a product\n"
    "  memory roof the fastest of many passes in which as many threads as the device has compute units read a buffer\n"
    "              larger than the caches; before and after the rest. A device with memory of its own: the highest "
    "GB/s\n"
    "              of the products instead\n"
    "  multiply roof  the highest GOP/s among the products\n"
    "  of roof     share of the speed that the nearer roof allows, and which one that is\n"
    "\n"
    "With --peers: works of real networks, next to other libraries on as many threads. qdot and its peers do each work "
    "in\n"
    "turn, in rounds; peers are programs of their own, which `sh tests/bench/peers.sh` brings. With a model, too: its\n"
    "prompt and generation next to llama.cpp. A ratio is qdot's speed divided by the peer's.\n"
    "  qdot bench --peers --works '^gemm' --svg roofline.svg\n"
    "  qdot bench --peers -m model.gguf --prompt 512\n"
    "\n"
    "A simulated board (sim:BOARD) has its model's time, and computes no values here.\n"
    "A busy machine makes everything slower; the medians and +- show how much. Progress goes to standard error.";

typedef struct settings {
    qd_cli_common common;
    int64_t runs, prompt, generate;
    double seconds, patience;
    bool peers;
    const char *folder, *works, *svg;
} settings;

typedef struct report {
    const settings *settings;
    qd_context *context;
    double read_rate; /* bytes per second of host threads; 0: the device has memory of its own */
    qd_bench_matmul *rows;
    int count;
    const qd_bench_model *model;
} report;

/* ---- Roofs -------------------------------------------------------------------------------------------------- */

typedef struct roofs {
    double memory, multiply; /* bytes and operations per second; 0: unknown */
} roofs;

static roofs find_roofs(const report *r) {
    roofs best = {r->read_rate, 0};
    for (int i = 0; i < r->count; i++) {
        const qd_bench_matmul *row = &r->rows[i];
        if (row->expected > 0) continue;
        const double bytes = row->bytes / row->seconds.median, operations = row->operations / row->seconds.median;
        if (r->read_rate == 0 && bytes > best.memory) best.memory = bytes;
        if (operations > best.multiply) best.multiply = operations;
    }
    return best;
}

/* Share of the speed that the nearer roof allows. */
static double of_roof(const qd_bench_matmul *row, const roofs *best, const char **which) {
    const double memory = row->bytes / best->memory, multiply = row->operations / best->multiply;
    *which = memory > multiply ? "memory" : "multiply";
    return (memory > multiply ? memory : multiply) / row->seconds.median;
}

/* Adds what the host's threads can read, where they are what computes. */
static bool measure_read_rate(report *r) {
    const qd_device_info *d = qd_context_device(r->context);
    double rate = 0;
    if (strcmp(d->kind, "cpu") != 0 && strcmp(d->kind, "reference") != 0) return true;
    qd_cli_progress("memory", 0, 1);
    if (!qd_bench_read_rate(d->compute_units > 0 ? d->compute_units : 1, r->settings->seconds, &rate)) return false;
    qd_cli_progress("memory", 1, 1);
    if (rate > r->read_rate) r->read_rate = rate;
    return true;
}

/* ---- Tables ------------------------------------------------------------------------------------------------- */

static const char *time_text(double seconds, char text[24]) {
    if (seconds < 1e-3) {
        snprintf(text, 24, "%.1f us", 1e6 * seconds);
    } else if (seconds < 1) {
        snprintf(text, 24, "%.2f ms", 1e3 * seconds);
    } else {
        snprintf(text, 24, "%.2f s", seconds);
    }
    return text;
}

static void print_products(const report *r, const roofs *best) {
    char text[24];
    printf("%-8s %-4s %4s %6s %6s  %-22s %6s %10s %7s %8s %9s  %s\n", "weights", "act.", "M", "N", "K", "kernel",
           "copies", "time", "+-", "GB/s", "GOP/s", "of roof");
    for (int i = 0; i < r->count; i++) {
        const qd_bench_matmul *row = &r->rows[i];
        printf("%-8s %-4s %4lld %6lld %6lld  ", row->weights, qd_format_get(row->activations)->name, (long long)row->m,
               (long long)row->n, (long long)row->k);
        if (row->expected > 0) {
            printf("left out: would take about %s (see --seconds)\n", time_text(row->expected, text));
            continue;
        }
        const char *which;
        const double share = of_roof(row, best, &which);
        const double s = row->seconds.median;
        printf("%-22s %6d %10s %6.1f%% %8.2f %9.2f  %3.0f%% %s\n", row->kernel, row->copies, time_text(s, text),
               qd_bench_percent(&row->seconds), 1e-9 * row->bytes / s, 1e-9 * row->operations / s, 100 * share, which);
    }
}

static void print_speed(const char *what, int64_t tokens, const qd_bench_spread *s) {
    printf("%-9s %4lld tokens  %9.2f tokens/s  +- %.1f%%  (%.2f ... %.2f, %d runs)\n", what, (long long)tokens,
           s->median, qd_bench_percent(s), s->least, s->most, s->runs);
}

static int print_tables(const report *r) {
    const qd_device_info *d = qd_context_device(r->context);
    const roofs best = find_roofs(r);
    printf("device %s (%s), %u compute units\n", d->id, d->name, d->compute_units);
    printf("memory roof   %8.2f GB/s (%s)\n", 1e-9 * best.memory,
           r->read_rate > 0 ? "read by the host's threads" : "the fastest product");
    if (!r->model) {
        printf("multiply roof %8.2f GOP/s (the fastest product)\n\n", 1e-9 * best.multiply);
        print_products(r, &best);
        return QD_EXIT_OK;
    }
    const qd_bench_model *m = r->model;
    const double read = m->weight_bytes * m->generate.median;
    char size[24];
    print_speed("prompt", r->settings->prompt, &m->prompt);
    print_speed("generate", r->settings->generate, &m->generate);
    printf("generating reads %s of weights per token: %.2f GB/s", qd_cli_size((uint64_t)m->weight_bytes, size),
           1e-9 * read);
    if (best.memory > 0) printf(", %.0f%% of the memory roof", 100 * read / best.memory);
    putchar('\n');
    return QD_EXIT_OK;
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

static void add_product(cJSON *list, const qd_bench_matmul *row, const roofs *best) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(list, o);
    cJSON_AddStringToObject(o, "weights", row->weights);
    cJSON_AddStringToObject(o, "activations", qd_format_get(row->activations)->name);
    cJSON_AddNumberToObject(o, "m", (double)row->m);
    cJSON_AddNumberToObject(o, "n", (double)row->n);
    cJSON_AddNumberToObject(o, "k", (double)row->k);
    if (row->expected > 0) {
        cJSON_AddNumberToObject(o, "left_out_expected_seconds", row->expected);
        return;
    }
    const char *which;
    const double share = of_roof(row, best, &which);
    cJSON_AddStringToObject(o, "kernel", row->kernel);
    cJSON_AddNumberToObject(o, "weight_copies", row->copies);
    qd_bench_add_spread(o, "seconds", &row->seconds);
    cJSON_AddNumberToObject(o, "gb_per_s", 1e-9 * row->bytes / row->seconds.median);
    cJSON_AddNumberToObject(o, "gop_per_s", 1e-9 * row->operations / row->seconds.median);
    cJSON_AddStringToObject(o, "roof", which);
    cJSON_AddNumberToObject(o, "of_roof", share);
}

static void add_model(cJSON *root, const report *r, const roofs *best) {
    const qd_bench_model *m = r->model;
    const double read = m->weight_bytes * m->generate.median;
    cJSON_AddNumberToObject(root, "prompt_tokens_per_s", m->prompt.median);
    cJSON_AddNumberToObject(root, "generate_tokens_per_s", m->generate.median);
    qd_bench_add_spread(root, "prompt", &m->prompt);
    qd_bench_add_spread(root, "generate", &m->generate);
    cJSON_AddNumberToObject(root, "prompt_tokens", (double)r->settings->prompt);
    cJSON_AddNumberToObject(root, "generated_tokens", (double)r->settings->generate);
    cJSON_AddNumberToObject(root, "weight_bytes_per_token", m->weight_bytes);
    cJSON_AddNumberToObject(root, "generate_gb_per_s", 1e-9 * read);
    if (best->memory > 0) cJSON_AddNumberToObject(root, "generate_of_memory_roof", read / best->memory);
}

static int print_json(const report *r) {
    const qd_device_info *d = qd_context_device(r->context);
    const roofs best = find_roofs(r);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", qd_version());
    cJSON_AddStringToObject(root, "device", d->id);
    cJSON_AddStringToObject(root, "name", d->name);
    cJSON_AddStringToObject(root, "features", d->features);
    cJSON_AddNumberToObject(root, "compute_units", d->compute_units);
    cJSON *roof = cJSON_AddObjectToObject(root, "roof");
    if (best.memory > 0) cJSON_AddNumberToObject(roof, "memory_gb_per_s", 1e-9 * best.memory);
    if (best.multiply > 0) cJSON_AddNumberToObject(roof, "multiply_gop_per_s", 1e-9 * best.multiply);
    cJSON_AddStringToObject(roof, "memory_from", r->read_rate > 0 ? "host threads" : "fastest product");
    if (r->model) {
        add_model(root, r, &best);
    } else {
        cJSON *list = cJSON_AddArrayToObject(root, "products");
        for (int i = 0; i < r->count; i++)
            add_product(list, &r->rows[i], &best);
    }
    return qd_cli_print_json(root);
}

/* ---- The command -------------------------------------------------------------------------------------------- */

/* `session` is NULL without a model. */
static int compare_peers(const settings *s, qd_context *c, const qd_cli_session *session) {
    const qd_device_info *d = qd_context_device(c);
    qd_bench_comparison *x = calloc(1, sizeof *x);
    qd_bench_work *works = NULL, own[2];
    int count = 2;
    bool ok = x != NULL || qd_cli_fail("out of memory") == QD_EXIT_OK;
    if (ok && session) {
        qd_bench_model_works(s->common.model, session->gguf, s->prompt, s->generate, own);
    } else if (ok) {
        ok = qd_bench_list_works(s->works, &works, &count);
    }
    if (ok) {
        x->effort = (qd_bench_effort){(int)s->runs, s->seconds};
        qd_bench_describe_machine(&x->machine);
        /* Peers compute on the host, whatever the device. */
        const bool host = strcmp(d->kind, "cpu") == 0 || strcmp(d->kind, "reference") == 0;
        x->threads = host && d->compute_units > 0 ? d->compute_units : (unsigned)x->machine.processors;
        x->patience = s->patience;
        x->results = calloc((size_t)count, sizeof *x->results);
        ok = x->results != NULL || qd_cli_fail("out of memory") == QD_EXIT_OK;
    }
    ok = ok && qd_bench_start_peers(x, s->folder) &&
         qd_bench_compare(x, c, session ? session->model : NULL, session ? own : works, count);
    if (ok && s->svg) ok = qd_bench_draw_comparison(x, s->svg);
    int code = QD_EXIT_FAILED;
    if (ok && s->common.json) {
        code = qd_bench_print_comparison_json(x, d);
    } else if (ok) {
        qd_bench_print_comparison(x, d);
        code = QD_EXIT_OK;
    }
    if (x) {
        qd_bench_end_peers(x);
        free(x->results);
    }
    free(x);
    free(works);
    return code;
}

/* Measures the roof before and after the rest, then prints. `session` is NULL without a model. */
static int bench(report *r, const qd_cli_session *session) {
    const settings *s = r->settings;
    const qd_bench_effort effort = {(int)s->runs, s->seconds};
    qd_bench_model model;
    bool ok = measure_read_rate(r);
    if (ok && session) {
        ok = qd_bench_model_run(session, &effort, s->prompt, s->generate, &model);
        r->model = &model;
    } else if (ok) {
        ok = qd_bench_matmuls(r->context, &effort, &r->rows, &r->count);
    }
    ok = ok && measure_read_rate(r);
    int code = QD_EXIT_FAILED;
    if (ok) code = s->common.json ? print_json(r) : print_tables(r);
    free(r->rows);
    return code;
}

static int bench_model(settings *s) {
    qd_cli_session session;
    int code = QD_EXIT_FAILED;
    s->common.context = s->prompt > s->generate ? s->prompt : s->generate;
    if (qd_cli_open(&s->common, 0, false, &session)) {
        report r = {.settings = s, .context = session.context};
        code = s->peers ? compare_peers(s, session.context, &session) : bench(&r, &session);
    }
    qd_cli_close(&session);
    return code;
}

static int bench_products(const settings *s) {
    /* Enough for what is in use at a time, so that buffers of other sizes are not kept without end. */
    enum { BUDGET = 1 << 30 };
    qd_context_options options = qd_cli_context_options(&s->common);
    if (!options.memory_budget) options.memory_budget = BUDGET;
    qd_context *context;
    if (qd_context_create(s->common.device, &options, &context) != QD_OK) return qd_cli_failed();
    report r = {.settings = s, .context = context};
    const int code = s->peers ? compare_peers(s, context, NULL) : bench(&r, NULL);
    qd_context_free(context);
    return code;
}

/* A simulated board takes as long without values, which the host would be slow to compute. */
static bool leave_values_out(const char **device, char *text, size_t size) {
    const char *name = *device ? *device : getenv("QDOT_DEVICE");
    if (!name || strncmp(name, "sim:", 4) != 0 || strstr(name, "dry")) return true;
    if (snprintf(text, size, "%s%sdry", name, strchr(name + 4, ':') ? "," : ":") >= (int)size) {
        qd_cli_fail("the device's name is too long");
        return false;
    }
    *device = text;
    return true;
}

int qd_cmd_bench(int argc, char **argv) {
    settings s = {.runs = 5, .seconds = 0.5, .prompt = 128, .generate = 64, .patience = 120};
    const qd_cli_option options[] = {
        QD_CLI_MODEL_OPTION(s.common),
        QD_CLI_DEVICE_OPTION(s.common),
        {"runs", 'r', QD_CLI_INT, &s.runs, 1, QD_BENCH_MAX_RUNS, "N",
         "timed runs of a figure, after one to warm up (5)"},
        {"seconds", 's', QD_CLI_REAL, &s.seconds, 1e-6, 3600, "S",
         "for all runs of a product, and for the memory roof (0.5); products that need 4 S are left out"},
        {"prompt", 'p', QD_CLI_INT, &s.prompt, 1, 1000000, "P", "with a model: tokens of the prompt (128)"},
        {"generate", 'n', QD_CLI_INT, &s.generate, 1, 1000000, "N", "with a model: tokens one by one (64)"},
        {"peers", 0, QD_CLI_FLAG, &s.peers, 0, 0, NULL, "next to other libraries"},
        {"works", 0, QD_CLI_TEXT, &s.works, 0, 0, "REGEX", "with --peers: only works whose names it finds"},
        {"svg", 0, QD_CLI_TEXT, &s.svg, 0, 0, "FILE", "with --peers: the roofline chart"},
        {"peers-dir", 0, QD_CLI_TEXT, &s.folder, 0, 0, "DIR",
         "where the programs of peers are (default: $QDOT_PEERS, else ~/.cache/qdot/peers)"},
        {"peer-timeout", 0, QD_CLI_REAL, &s.patience, 1e-3, 86400, "S", "seconds that a peer may let wait (120)"},
        QD_CLI_ACTIVATIONS_OPTION(s.common),
        QD_CLI_KV_OPTION(s.common),
        QD_CLI_KERNELS_OPTION(s.common),
        QD_CLI_THREADS_OPTION(s.common),
        QD_CLI_MEMORY_OPTION(s.common),
        QD_CLI_JSON_OPTION(s.common),
        QD_CLI_VERBOSE_OPTION(s.common),
        {.kind = QD_CLI_END},
    };
    char device[256];
    int code;
    if (!qd_cli_parse(argc, argv, "bench [-m FILE] [options]", about, options, &code)) return code;
    if (!leave_values_out(&s.common.device, device, sizeof device)) return QD_EXIT_FAILED;
    qd_cli_catch_interrupt();
    return s.common.model ? bench_model(&s) : bench_products(&s);
}
