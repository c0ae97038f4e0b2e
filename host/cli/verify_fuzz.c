/* qdot verify --fuzz and --case: random cases until one differs, and that one as small as it can be. */
#include <stdio.h>
#include <string.h>

#include "cli/verify.h"

static bool show_progress(void *user, int64_t done, int64_t total) {
    (void)user;
    qd_cli_progress("fuzzing", (double)done, (double)total);
    return !qd_cli_stopped();
}

/* One line for each operator and choice: "rounding   0: 25  1: 27 …". A count of 0 is what to look for. */
static void print_coverage(const qd_fuzz_result *r) {
    printf("  %-18s %-23s value: cases\n", "operator", "choice");
    for (int i = 0; i < r->n_coverage;) {
        const qd_coverage *first = &r->coverage[i];
        printf("  %-18s %-23s", first->op, first->choice);
        for (; i < r->n_coverage && r->coverage[i].op == first->op && !strcmp(r->coverage[i].choice, first->choice);
             i++)
            printf(" %s: %lld;", r->coverage[i].value, (long long)r->coverage[i].count);
        printf("\n");
    }
}

static void add_coverage(cJSON *json, const qd_fuzz_result *r) {
    cJSON *array = cJSON_AddArrayToObject(json, "coverage");
    for (int i = 0; i < r->n_coverage; i++) {
        const qd_coverage *x = &r->coverage[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "op", x->op);
        cJSON_AddStringToObject(o, "choice", x->choice);
        cJSON_AddStringToObject(o, "value", x->value);
        cJSON_AddNumberToObject(o, "cases", (double)x->count);
        cJSON_AddItemToArray(array, o);
    }
}

static void report(const qd_context *c, const qd_cli_fuzz *f, const qd_fuzz_result *r, cJSON *json) {
    if (json) {
        cJSON_AddNumberToObject(json, "cases", (double)r->cases);
        cJSON_AddNumberToObject(json, "different", r->different);
        if (r->different) {
            cJSON_AddStringToObject(json, "op", r->op);
            cJSON_AddStringToObject(json, "formats", r->formats);
            cJSON_AddStringToObject(json, "variant", r->variant);
            cJSON_AddStringToObject(json, "first", r->first);
            cJSON_AddStringToObject(json, "repeat", r->repeat);
        }
        if (f->coverage) add_coverage(json, r);
        return;
    }
    qd_cli_name_device(c); /* only now: bad input gives a message and nothing else */
    if (r->different) {
        printf(
            "  DIFFERENT: %s %s (%s)\n  smallest case: %s\n  repeat it with: qdot verify --device \"%s\" --case "
            "\"%s\"\n",
            r->op, r->formats, r->variant, r->first, qd_context_device(c)->id, r->repeat);
    }
    if (f->coverage) print_coverage(r);
    printf("  %lld cases, %s\n", (long long)r->cases, r->different ? "the last one different" : "0 different");
}

int qd_cli_fuzz_device(qd_context *c, const qd_cli_fuzz *f, cJSON *json) {
    qd_fuzz_result r = {0};
    const qd_fuzz_options o = {.seed = f->seed,
                               .cases = f->cases,
                               .op = f->op,
                               .formats = f->formats,
                               .size = (int)f->size,
                               .progress = show_progress};
    const qd_status status = f->repeat ? qd_fuzz_repeat(c, f->repeat, &r) : qd_fuzz(c, &o, &r);
    qd_cli_progress("fuzzing", 1, 1);
    int code = status ? qd_cli_failed() : r.different ? QD_EXIT_DIFFERENT : QD_EXIT_OK;
    if (!status || status == QD_ERR_CANCELLED) report(c, f, &r, json);
    qd_fuzz_result_free(&r);
    return code;
}
