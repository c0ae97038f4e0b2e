/* qdot verify: a device against the C reference, byte for byte. */
#include <stdio.h>
#include <string.h>

#include "cli/vectors.h"
#include "cli/verify.h"

void qd_cli_name_device(const qd_context *c) {
    const qd_device_info *info = qd_context_device(c);
    printf("%s (%s)\n", info->id, info->name);
}

typedef struct report {
    cJSON *rows; /* NULL: print a table */
    int cases;
} report;

static bool show_row(void *user, const qd_verify_row *r) {
    report *rep = user;
    rep->cases += r->cases;
    if (!rep->rows) {
        printf("  %-18s %-22s %-22s %6d %9d  %s\n", r->op, r->formats, r->variant, r->cases, r->different, r->first);
        fflush(stdout);
        return !qd_cli_stopped();
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "op", r->op);
    cJSON_AddStringToObject(o, "formats", r->formats);
    cJSON_AddStringToObject(o, "variant", r->variant);
    cJSON_AddNumberToObject(o, "cases", r->cases);
    cJSON_AddNumberToObject(o, "different", r->different);
    cJSON_AddStringToObject(o, "first", r->first);
    cJSON_AddItemToArray(rep->rows, o);
    return !qd_cli_stopped();
}

typedef struct settings {
    qd_cli_common common;
    bool unproven;
    int64_t seed, cases;
    qd_cli_fuzz fuzz;
    const char *vectors; /* folder of golden vectors to run instead */
} settings;

/* Every operator and format a number of times, as a table; adds to `json` when that is not NULL. */
static int verify_table(const settings *s, qd_context *context, cJSON *json) {
    report rep = {.rows = json ? cJSON_AddArrayToObject(json, "rows") : NULL};
    if (!json) {
        qd_cli_name_device(context);
        printf("  %-18s %-22s %-22s %6s %9s  %s\n", "operator", "formats", "variant", "cases", "different",
               "first difference");
    }
    int different = 0;
    int code = QD_EXIT_OK;
    if (qd_verify(context, (uint64_t)s->seed, (int)s->cases, show_row, &rep, &different) != QD_OK) {
        code = qd_cli_failed();
    } else if (qd_cli_stopped()) {
        code = qd_cli_fail("stopped after %d cases", rep.cases);
    } else {
        if (different) code = QD_EXIT_DIFFERENT;
        if (!json) printf("  %d cases, %d different\n", rep.cases, different);
    }
    if (json) {
        cJSON_AddNumberToObject(json, "cases", rep.cases);
        cJSON_AddNumberToObject(json, "different", different);
    }
    return code;
}

/* One device; adds to `array` when that is not NULL. Returns an exit code. */
static int verify_device(const settings *s, const char *device, cJSON *array) {
    qd_context_options options = qd_cli_context_options(&s->common);
    options.unproven = s->unproven;
    qd_context *context;
    if (qd_context_create(device, &options, &context) != QD_OK) return qd_cli_failed();
    cJSON *o = array ? cJSON_CreateObject() : NULL;
    if (array) {
        const qd_device_info *info = qd_context_device(context);
        cJSON_AddItemToArray(array, o);
        cJSON_AddStringToObject(o, "device", info->id);
        cJSON_AddStringToObject(o, "name", info->name);
    }
    const int code =
        s->fuzz.cases || s->fuzz.repeat ? qd_cli_fuzz_device(context, &s->fuzz, o) : verify_table(s, context, o);
    qd_context_free(context);
    return code;
}

/* Every usable device but the reference, which would be compared with itself. */
static int verify_all(const settings *s, cJSON *array) {
    qd_device_info *devices;
    int count, tried = 0;
    if (qd_devices_list(&devices, &count) != QD_OK) return qd_cli_failed();
    int code = QD_EXIT_OK;
    for (int i = 0; i < count && !qd_cli_stopped(); i++) {
        if (strcmp(devices[i].id, "ref") == 0) continue;
        if (!devices[i].usable) {
            fprintf(stderr, "qdot: %s is left out: %s\n", devices[i].id, devices[i].why);
            continue;
        }
        tried++;
        const int one = verify_device(s, devices[i].id, array);
        code = one > code ? one : code;
    }
    qd_devices_free(devices);
    if (!tried) return qd_cli_fail("there is no device to compare with the reference (see: qdot devices)");
    return code;
}

int qd_cmd_verify(int argc, char **argv) {
    settings s = {.seed = 1, .cases = 50};
    const qd_cli_option options[] = {
        {"device", 'd', QD_CLI_TEXT, &s.common.device, 0, 0, "DEVICE", "as in `qdot run`, or all"},
        {"seed", 0, QD_CLI_INT, &s.seed, 0, 9007199254740992.0, "S", "of the random shapes and values (default 1)"},
        {"cases", 0, QD_CLI_INT, &s.cases, 1, 1000000, "N", "cases for each operator and format (default 50)"},
        {"fuzz", 0, QD_CLI_INT, &s.fuzz.cases, 1, 1000000000000.0, "N",
         "instead: N random cases over all operators; stops at the first difference and shrinks it"},
        {"op", 0, QD_CLI_TEXT, &s.fuzz.op, 0, 0, "NAME", "with --fuzz: only this operator"},
        {"formats", 0, QD_CLI_TEXT, &s.fuzz.formats, 0, 0, "TEXT",
         "with --fuzz: only formats of operands that begin so: \"q4_0 a8\""},
        {"size", 0, QD_CLI_INT, &s.fuzz.size, 0, 10, "S", "with --fuzz: of the shapes, 1 to 10 (default: mostly 1)"},
        {"coverage", 0, QD_CLI_FLAG, &s.fuzz.coverage, 0, 0, NULL, "with --fuzz: how often each choice was tried"},
        {"case", 0, QD_CLI_TEXT, &s.fuzz.repeat, 0, 0, "CASE", "instead: one case, as --fuzz printed it"},
        QD_CLI_KERNELS_OPTION(s.common),
        {"unproven", 0, QD_CLI_FLAG, &s.unproven, 0, 0, NULL,
         "run kernels that nothing was tried with before: shows what is wrong with one that is refused otherwise"},
        {"vectors", 0, QD_CLI_TEXT, &s.vectors, 0, 0, "DIR",
         "instead: golden vectors, a folder with index.json or cases.json"},
        QD_CLI_THREADS_OPTION(s.common),
        QD_CLI_JSON_OPTION(s.common),
        QD_CLI_VERBOSE_OPTION(s.common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(argc, argv, "verify [options]",
                      "Runs every operator and format on random and nasty shapes, on a device and on the C reference, "
                      "and compares\n"
                      "the bytes. With --vectors: runs what other programs computed, by the rules that come with it.\n"
                      "Exit code 1: there was a difference.",
                      options, &code)) {
        return code;
    }
    if (!!s.fuzz.cases + !!s.fuzz.repeat + !!s.vectors > 1)
        return qd_cli_fail("verify: give only one of --fuzz, --case and --vectors");
    if (!s.fuzz.cases && (s.fuzz.op || s.fuzz.formats || s.fuzz.size || s.fuzz.coverage))
        return qd_cli_fail("verify: --op, --formats, --size and --coverage go with --fuzz");
    s.fuzz.seed = (uint64_t)s.seed;
    qd_cli_catch_interrupt();
    const bool all = s.common.device && strcmp(s.common.device, "all") == 0;
    if (s.vectors && all) return qd_cli_fail("verify: --vectors runs on one device, not on all");
    if (s.vectors) return qd_vec_verify(&s.common, s.vectors);
    cJSON *root = s.common.json ? cJSON_CreateObject() : NULL;
    cJSON *array = s.common.json ? cJSON_AddArrayToObject(root, "devices") : NULL;
    code = all ? verify_all(&s, array) : verify_device(&s, s.common.device, array);
    if (!root || code == QD_EXIT_FAILED) {
        cJSON_Delete(root);
        return code;
    }
    const int printed = qd_cli_print_json(root);
    return printed == QD_EXIT_OK ? code : printed;
}
