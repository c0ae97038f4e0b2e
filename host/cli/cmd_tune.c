/* qdot tune: the fastest of the ways that a device has for each class of problems, written to the device's file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tune.h"

/* What the bar shows. */
typedef struct progress {
    double start;
    int at, total; /* classes */
    int steps;     /* in this one */
    char name[80];
    bool verbose;
} progress;

/* Measurements of a class, about: its end is not known. */
enum { STEPS = 30 };

static void show(void *user, const qd_tuning_way *way, const qd_tune_ratio *ratio) {
    progress *p = user;
    char words[160];
    if (p->verbose && ratio) {
        fprintf(stderr, "qdot: %s: %s: %.3f times as fast (%.3f … %.3f)\n", p->name, qd_tune_way_text(way, words),
                ratio->median, ratio->low, ratio->high);
    }
    p->steps += p->steps + 1 < STEPS;
    const double done = p->at + (double)p->steps / STEPS, seconds = qd_cli_seconds() - p->start;
    char text[120];
    snprintf(text, sizeof text, "%.60s, %.0f s left", p->name, seconds / done * (p->total - done));
    qd_cli_progress(text, done, p->total);
}

static cJSON *way_json(const qd_tuning_way *w) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "variant", w->variant);
    cJSON_AddNumberToObject(o, "groups", w->groups);
    cJSON_AddStringToObject(o, "options", w->options);
    return o;
}

static cJSON *result_json(const qd_tune_class *c, const qd_tune_result *r) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "op", qd_op_get(c->op)->name);
    cJSON_AddStringToObject(o, "weights", qd_format_get(c->w)->name);
    cJSON_AddStringToObject(o, "x", qd_format_get(c->x)->name);
    cJSON_AddNumberToObject(o, "rows", (double)qd_tuning_least_rows(c->rows_class));
    cJSON_AddBoolToObject(o, "large", c->large);
    cJSON_AddBoolToObject(o, "measured", r->measured);
    cJSON_AddNumberToObject(o, "tried", r->tried);
    cJSON_AddNumberToObject(o, "refused", r->refused);
    cJSON_AddItemToObject(o, "before", way_json(&r->was));
    cJSON_AddItemToObject(o, "after", way_json(&r->now));
    cJSON_AddBoolToObject(o, "changed", r->changed);
    if (!r->changed) return o;
    cJSON_AddNumberToObject(o, "seconds_before", r->ratio.before);
    cJSON_AddNumberToObject(o, "seconds_after", r->ratio.after);
    cJSON_AddNumberToObject(o, "faster", r->ratio.median);
    cJSON_AddNumberToObject(o, "faster_low", r->ratio.low);
    cJSON_AddNumberToObject(o, "faster_high", r->ratio.high);
    return o;
}

static void print_result(const qd_tune_class *c, const qd_tune_result *r) {
    char name[80], was[160], now[160];
    qd_tune_name(c, name);
    qd_tune_way_text(&r->was, was);
    if (!r->changed) {
        printf("%-40s %-34s %s\n", name, was, r->measured ? "stays" : "not measured: too little time");
        return;
    }
    printf("%-40s %-34s %10.4f ms\n", name, was, 1e3 * r->ratio.before);
    printf("%-40s %-34s %10.4f ms   %.2f times as fast (%.2f … %.2f)\n", "", qd_tune_way_text(&r->now, now),
           1e3 * r->ratio.after, r->ratio.median, r->ratio.low, r->ratio.high);
}

static int report(qd_context *context, const qd_tune_class *classes, const qd_tune_result *results, int count,
                  const char *path, double seconds, bool json) {
    int changed = 0;
    for (int i = 0; i < count; i++)
        changed += results[i].changed;
    if (!json) {
        for (int i = 0; i < count; i++)
            print_result(&classes[i], &results[i]);
        printf("%d of %d classes have another way now, found in %.0f s: %s\n", changed, count, seconds, path);
        return QD_EXIT_OK;
    }
    cJSON *o = cJSON_CreateObject(), *array = cJSON_AddArrayToObject(o, "classes");
    cJSON_AddStringToObject(o, "device", qd_context_device(context)->id);
    cJSON_AddStringToObject(o, "file", path);
    cJSON_AddNumberToObject(o, "seconds", seconds);
    cJSON_AddNumberToObject(o, "changed", changed);
    for (int i = 0; i < count; i++)
        cJSON_AddItemToArray(array, result_json(&classes[i], &results[i]));
    return qd_cli_print_json(o);
}

static int tune(qd_context *context, const qd_tune_class *classes, int count, double seconds, const char *path,
                const qd_cli_common *common) {
    qd_tune_result *results = calloc((size_t)count, sizeof *results);
    progress p = {.start = qd_cli_seconds(), .total = count, .verbose = common->verbose};
    bool ok = results != NULL;
    if (!ok) qd_cli_fail("out of memory");
    for (int i = 0; ok && i < count && !qd_cli_stopped(); i++) {
        p.at = i;
        p.steps = 0;
        qd_tune_name(&classes[i], p.name);
        ok = qd_tune_search(context, &classes[i], seconds / count, show, &p, &results[i]);
    }
    qd_cli_progress("tuning", 1, 1);
    int code = QD_EXIT_FAILED;
    if (ok && qd_cli_stopped()) {
        qd_cli_fail("stopped; nothing was written");
    } else if (ok && qd_context_tuning_write(context, path) != QD_OK) {
        qd_cli_failed();
    } else if (ok) {
        code = report(context, classes, results, count, path, qd_cli_seconds() - p.start, common->json);
    }
    free(results);
    return code;
}

int qd_cmd_tune(int argc, char **argv) {
    qd_cli_common common = {0};
    const char *op = NULL, *format = NULL, *out = NULL;
    double seconds = 240;
    const qd_cli_option options[] = {
        QD_CLI_DEVICE_OPTION(common),
        {"model", 'm', QD_CLI_TEXT, &common.model, 0, 0, "FILE",
         "tune for the matrices of this model, a GGUF file (default: for common sizes)"},
        {"op", 0, QD_CLI_TEXT, &op, 0, 0, "OP",
         "only this operator: matmul, matmul_int, matmul_group, conv_int or attention"},
        {"format", 0, QD_CLI_TEXT, &format, 0, 0, "FORMAT",
         "only weights (attention: queries) in this format, as q4_1"},
        {"seconds", 's', QD_CLI_REAL, &seconds, 0.001, 1e6, "S",
         "time for measuring, building kernels not included (default 240)"},
        {"output", 'o', QD_CLI_TEXT, &out, 0, 0, "FILE", "the file that is written (default: the device's own)"},
        QD_CLI_THREADS_OPTION(common),
        QD_CLI_JSON_OPTION(common),
        QD_CLI_VERBOSE_OPTION(common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(
            argc, argv, "tune [options]",
            "Measures the ways that a device has to compute products, convolutions and attention - kernel variants,\n"
            "numbers of work-groups, sizes of tiles - for each operator, format, number of rows and size of weights,\n"
            "against the way it goes now; and writes those that were faster by more than the measurements spread to\n"
            "the device's file, which every later program with qdot reads. The results keep their bytes: every kernel\n"
            "is proven before it is used. A file of another device, driver or build is not used, and one may be\n"
            "removed at any time. Let nothing else run meanwhile.\n\n"
            "  qdot tune                          common sizes, on the default device\n"
            "  qdot tune -m model.gguf            the sizes of a model: fewer, so better measured\n"
            "  qdot tune --format q4_1 -s 60 -o mine.txt; QDOT_TUNING=mine.txt qdot run …\n"
            "  QDOT_TUNING= qdot bench …          without tuning, to compare",
            options, &code)) {
        return code;
    }
    qd_gguf *gguf = NULL;
    qd_context *context = NULL;
    qd_tune_class *classes = NULL;
    qd_tuning_info info;
    int count;
    code = QD_EXIT_FAILED;
    qd_cli_catch_interrupt();
    const qd_context_options o = qd_cli_context_options(&common);
    if (common.model && qd_gguf_open(common.model, &gguf) != QD_OK) {
        qd_cli_failed();
    } else if (qd_tune_classes(gguf, op, format, &classes, &count)) {
        if (qd_context_create(common.device, &o, &context) != QD_OK || qd_context_tuning(context, &info) != QD_OK) {
            qd_cli_failed();
        } else if (!out && !info.path[0]) {
            qd_cli_fail("device %s has no tuning file of its own here: name one with -o FILE",
                        qd_context_device(context)->id);
        } else {
            code = tune(context, classes, count, seconds, out ? out : info.path, &common);
        }
    }
    free(classes);
    qd_context_free(context);
    qd_gguf_free(gguf);
    return code;
}
