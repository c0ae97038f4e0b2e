/* qdot plan: a format for each tensor, by what they cost. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/sensitivity.h"

static const char about[] =
    "Chooses a format for each tensor (or layer) out of those that `qdot sensitivity` has measured, or leaves it as it "
    "is:\n"
    "with --budget, so that the whole file has at most so many bits per weight and the divergences (--by ppl: the "
    "changes\n"
    "of perplexity) have the least sum; with --max-ppl, the smallest file whose predicted perplexity is at most that.\n"
    "Costs are taken to add up: what one tensor loses does not depend on the others. Changes of perplexity are noisy "
    "where\n"
    "the text was short; what seems to gain counts as 0 for --max-ppl.\n\n"
    "  qdot sensitivity -m model-f16.gguf -f text --format q4_0,int3-g64,q8_0 -o s.json\n"
    "  qdot plan -s s.json --budget 4.5 -o plan.txt\n"
    "  qdot quantize model-f16.gguf small.gguf --plan plan.txt\n\n"
    "A plan is a text: a tensor's name and a format in each line, or `keep`; what follows # is no matter. Tensors that "
    "are\n"
    "not in it stay as they are.";

typedef struct plan {
    const qd_sensitivity *s;
    const char *path, *from;
    qd_mix_option **option; /* of each part: its results, then the part as it is */
    int *count, *chosen;
    double weights, bytes, divergence, nll; /* of the whole file; the last two predicted */
} plan;

/* NULL: the part stays as it is. */
static const qd_sensitivity_result *chosen_of(const plan *p, int i) {
    const qd_sensitivity_part *part = &p->s->part[i];
    return p->chosen[i] < part->results ? &part->result[p->chosen[i]] : NULL;
}

typedef enum measure { BY_KL, BY_PPL, BY_PPL_LOSS } measure;

static double cost_of(const qd_sensitivity_result *r, measure by) {
    return by == BY_KL ? r->divergence : by == BY_PPL ? r->nll_change : fmax(r->nll_change, 0);
}

/* Lists the options; prints a message and returns false on failure. */
static bool list_options(plan *p, measure by) {
    const size_t parts = (size_t)p->s->parts;
    int unknown = 0;
    p->option = calloc(parts, sizeof *p->option);
    p->count = calloc(parts, sizeof *p->count);
    p->chosen = calloc(parts, sizeof *p->chosen);
    p->weights = p->s->other_weights;
    bool ok = p->option && p->count && p->chosen;
    for (int i = 0; ok && i < p->s->parts; i++) {
        const qd_sensitivity_part *part = &p->s->part[i];
        p->option[i] = malloc(((size_t)part->results + 1) * sizeof **p->option);
        ok = p->option[i] != NULL;
        for (int k = 0; ok && k < part->results; k++)
            p->option[i][k] = (qd_mix_option){part->result[k].bytes, cost_of(&part->result[k], by)};
        if (ok) p->option[i][part->results] = (qd_mix_option){qd_cli_part_bytes(part), 0};
        p->count[i] = part->results + 1;
        p->weights += qd_sensitivity_weights(part);
        unknown += part->results == 0;
    }
    if (!ok) qd_cli_fail("out of memory");
    if (ok && unknown == p->s->parts) {
        qd_cli_fail("%s: nothing was measured yet: run `qdot sensitivity … --continue`", p->from);
        return false;
    }
    if (ok && unknown) fprintf(stderr, "note: %d parts were measured in no format, and stay as they are\n", unknown);
    return ok;
}

static void free_plan(plan *p) {
    for (int i = 0; p->option && i < p->s->parts; i++)
        free(p->option[i]);
    free(p->option);
    free(p->count);
    free(p->chosen);
}

static void sum_up(plan *p) {
    p->bytes = p->s->other_bytes;
    p->divergence = 0;
    p->nll = p->s->nll;
    for (int i = 0; i < p->s->parts; i++) {
        const qd_sensitivity_result *r = chosen_of(p, i);
        p->bytes += p->option[i][p->chosen[i]].bytes;
        p->divergence += r ? r->divergence : 0;
        p->nll += r ? r->nll_change : 0;
    }
}

static bool under_budget(plan *p, double bits) {
    const double most = floor(bits * p->weights / 8) - p->s->other_bytes;
    const qd_status status =
        qd_mix_cheapest((const qd_mix_option *const *)p->option, p->count, p->s->parts, most, p->chosen);
    double least = p->s->other_bytes;
    for (int i = 0; i < p->s->parts; i++) {
        double one = (double)INFINITY;
        for (int k = 0; k < p->count[i]; k++)
            one = fmin(one, p->option[i][k].bytes);
        least += one;
    }
    if (status == QD_ERR_LIMIT) {
        qd_cli_fail("no plan has at most %g bits per weight; the smallest possible has %.4f (measure smaller formats)",
                    bits, 8 * least / p->weights);
    } else if (status) {
        qd_cli_failed();
    }
    return !status;
}

static bool under_perplexity(plan *p, double most) {
    const qd_status status = qd_mix_smallest((const qd_mix_option *const *)p->option, p->count, p->s->parts,
                                             log(most) - p->s->nll, p->chosen);
    if (status == QD_ERR_LIMIT) {
        qd_cli_fail("no plan has a perplexity of at most %g: that of the model as it is is %.4f on this text", most,
                    qd_cli_base_perplexity(p->s));
    } else if (status) {
        qd_cli_failed();
    }
    return !status;
}

/* ---- Telling ------------------------------------------------------------------------------------------------ */

static const char *format_of(const plan *p, int part, char name[64]) {
    const qd_sensitivity_result *r = chosen_of(p, part);
    snprintf(name, 64, "keep");
    if (r) qd_storage_name(&r->to, name, 64);
    return name;
}

static void put_plan(const plan *p, FILE *f) {
    char name[64];
    fprintf(f, "# qdot plan of %s: %.4f bits per weight; predicted KL divergence %.6f, perplexity %.4f\n", p->from,
            8 * p->bytes / p->weights, p->divergence, exp(p->nll));
    for (int i = 0; i < p->s->parts; i++) {
        for (int k = 0; k < p->s->part[i].matrices; k++)
            fprintf(f, "%s %s\n", p->s->part[i].matrix[k].name, format_of(p, i, name));
    }
}

/* Under another name first: the file is there whole or not at all. */
static bool write_plan(const plan *p) {
    char name[4096];
    const int size = snprintf(name, sizeof name, "%s.part", p->path);
    FILE *f = size > 0 && (size_t)size < sizeof name ? fopen(name, "w") : NULL;
    if (!f) {
        qd_cli_fail("%s: cannot be written: %s", p->path, strerror(errno));
        return false;
    }
    put_plan(p, f);
    const bool bad = ferror(f);
    if (fclose(f) == 0 && !bad && rename(name, p->path) == 0) return true;
    qd_cli_fail("%s: cannot be written: %s", p->path, strerror(errno));
    remove(name);
    return false;
}

static int print_json(const plan *p) {
    char name[64];
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "file", p->path);
    cJSON_AddNumberToObject(root, "bits_per_weight", 8 * p->bytes / p->weights);
    cJSON_AddNumberToObject(root, "bytes", p->bytes);
    cJSON_AddNumberToObject(root, "kl_divergence", p->divergence);
    cJSON_AddNumberToObject(root, "perplexity", exp(p->nll));
    cJSON_AddNumberToObject(root, "perplexity_before", qd_cli_base_perplexity(p->s));
    cJSON *list = cJSON_AddArrayToObject(root, "parts");
    for (int i = 0; i < p->s->parts; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "name", p->s->part[i].name);
        cJSON_AddStringToObject(o, "format", format_of(p, i, name));
        cJSON_AddNumberToObject(o, "bytes", p->option[i][p->chosen[i]].bytes);
        cJSON_AddItemToArray(list, o);
    }
    return qd_cli_print_json(root);
}

/* How many parts and weights each format got. */
static void print_text(const plan *p) {
    char name[64], other[64];
    printf("%-12s  %6s  %14s\n", "format", "parts", "weights");
    for (int i = 0; i < p->s->parts; i++) {
        int parts = 0;
        double weights = 0;
        format_of(p, i, name);
        for (int k = 0; k < p->s->parts; k++) {
            if (strcmp(format_of(p, k, other), name) != 0) continue;
            if (k < i) break; /* told already */
            parts++;
            weights += qd_sensitivity_weights(&p->s->part[k]);
        }
        if (parts) printf("%-12s  %6d  %14.0f\n", name, parts, weights);
    }
    printf("\n%s: %.4f bits per weight, predicted KL divergence %.6f nats, perplexity %.4f (as it is: %.4f)\n", p->path,
           8 * p->bytes / p->weights, p->divergence, exp(p->nll), qd_cli_base_perplexity(p->s));
}

int qd_cmd_plan(int argc, char **argv) {
    plan p = {.path = "plan.txt", .from = "sensitivity.json"};
    const char *by = "kl";
    double budget = 0, most = 0;
    bool json = false;
    const qd_cli_option options[] = {
        {"sensitivity", 's', QD_CLI_TEXT, &p.from, 0, 0, "FILE", "of `qdot sensitivity` (default sensitivity.json)"},
        {"budget", 0, QD_CLI_REAL, &budget, 1e-6, 64, "BITS", "at most so many bits per weight, over the whole file"},
        {"max-ppl", 0, QD_CLI_REAL, &most, 1e-6, 1e9, "X", "instead: at most this perplexity on the text of FILE"},
        {"by", 0, QD_CLI_TEXT, &by, 0, 0, "WHAT", "what --budget keeps least: kl (the default) or ppl"},
        {"output", 'o', QD_CLI_TEXT, &p.path, 0, 0, "PLAN", "the file that is written (default plan.txt)"},
        {"json", 0, QD_CLI_FLAG, &json, 0, 0, NULL, "one JSON object on standard output"},
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(argc, argv, "plan -s FILE --budget BITS [-o PLAN] [options]", about, options, &code)) return code;
    if ((budget > 0) == (most > 0)) return qd_cli_fail("plan: one of --budget BITS and --max-ppl X is needed");
    if (strcmp(by, "kl") != 0 && strcmp(by, "ppl") != 0) return qd_cli_fail("--by is kl or ppl, not '%s'", by);
    qd_sensitivity *s = NULL;
    if (qd_sensitivity_read(p.from, &s) != QD_OK) return qd_cli_failed();
    p.s = s;
    code = QD_EXIT_FAILED;
    if (list_options(&p, most > 0                 ? BY_PPL_LOSS
                         : strcmp(by, "ppl") == 0 ? BY_PPL
                                                  : BY_KL) &&
        (most > 0 ? under_perplexity(&p, most) : under_budget(&p, budget))) {
        sum_up(&p);
        if (write_plan(&p)) {
            code = QD_EXIT_OK;
            if (json) code = print_json(&p);
            if (!json) print_text(&p);
        }
    }
    free_plan(&p);
    qd_sensitivity_free(s);
    return code;
}
