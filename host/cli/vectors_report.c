/* qdot verify --vectors: reads the groups, runs their cases, and tells what came out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/vectors.h"

typedef struct tally {
    int cases, passed, relaxed, failed, skipped;
    int ops, fallbacks; /* operators that ran, and those of them that the device left to the reference */
    cJSON *parts;       /* what is skipped: part → [reason, cases] */
} tally;

typedef struct report {
    qd_context *context;
    tally total;
    bool json;
    bool titled; /* the table has its head: a folder that is none gives a message alone */
    cJSON *skipped, *relaxed, *failures, *groups; /* skipped: reasons by group, or by group/part */
} report;

static void count_skipped(tally *t, const qd_vec_report *r) {
    cJSON *part = cJSON_GetObjectItemCaseSensitive(t->parts, r->part), *cases = cJSON_GetArrayItem(part, 1);
    if (cases) {
        cJSON_SetNumberValue(cases, cases->valuedouble + 1);
        return;
    }
    part = cJSON_AddArrayToObject(t->parts, r->part);
    cJSON_AddItemToArray(part, cJSON_CreateString(r->text));
    cJSON_AddItemToArray(part, cJSON_CreateNumber(1));
}

/* A reason under "group/part", in ASCII, or under the group's name when that is all of it. */
static void add_skipped(report *rep, const char *group, const char *part, const char *text, int cases) {
    char name[160], reason[QD_VEC_TEXT + 32];
    snprintf(name, sizeof name, "%.64s%s%.64s", group, *part ? "/" : "", part);
    for (char *c = name; *c; c++) {
        if (*c < ' ' || *c > '~') *c = '?';
    }
    snprintf(reason, sizeof reason, "%s (%d case%s)", text, cases, cases == 1 ? "" : "s");
    qd_cli_json_text(rep->skipped, name, reason, strlen(reason));
}

static void show_skipped(report *rep, const char *group, const tally *t) {
    const cJSON *part;
    cJSON_ArrayForEach(part, t->parts) {
        const char *text = cJSON_GetStringValue(cJSON_GetArrayItem(part, 0));
        const cJSON *cases = cJSON_GetArrayItem(part, 1);
        if (!text || !cases) continue; /* memory ran out */
        const bool whole = t->skipped == t->cases;
        add_skipped(rep, group, whole ? "" : part->string, text, whole ? t->skipped : cases->valueint);
        if (whole) break;
    }
}

static void add_row(cJSON *rows, const char *group, const char *name, const char *text) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "group", group);
    qd_cli_json_text(o, "case", name, strlen(name));
    qd_cli_json_text(o, "why", text, strlen(text));
    cJSON_AddItemToArray(rows, o);
}

static void count_case(report *rep, tally *t, const char *group, const qd_vec_case *c, qd_vec_outcome outcome,
                       const qd_vec_report *r) {
    t->cases++;
    t->ops += r->ops;
    t->fallbacks += r->fallbacks;
    switch (outcome) {
        case QD_VEC_PASSED_RELAXED:
            t->relaxed++;
            add_row(rep->relaxed, group, c->name, r->text);
            /* fall through */
        case QD_VEC_PASSED:
            t->passed++;
            break;
        case QD_VEC_FAILED:
            t->failed++;
            add_row(rep->failures, group, c->name, r->text);
            break;
        case QD_VEC_SKIPPED:
            t->skipped++;
            count_skipped(t, r);
            break;
    }
}

static void show_group(report *rep, const char *group, const tally *t) {
    rep->total.cases += t->cases;
    rep->total.passed += t->passed;
    rep->total.relaxed += t->relaxed;
    rep->total.failed += t->failed;
    rep->total.skipped += t->skipped;
    rep->total.ops += t->ops;
    rep->total.fallbacks += t->fallbacks;
    if (!rep->json && !rep->titled) {
        const qd_device_info *info = qd_context_device(rep->context);
        printf("%s (%s)\n  %-26s %6s %6s %6s %7s %7s\n", info->id, info->name, "group", "cases", "passed", "failed",
               "skipped", "relaxed");
        rep->titled = true;
    }
    if (!rep->json) {
        printf("  %-26.64s %6d %6d %6d %7d %7d\n", group, t->cases, t->passed, t->failed, t->skipped, t->relaxed);
        fflush(stdout);
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "cases", t->cases);
    cJSON_AddNumberToObject(o, "passed", t->passed);
    cJSON_AddNumberToObject(o, "relaxed", t->relaxed);
    cJSON_AddNumberToObject(o, "failed", t->failed);
    cJSON_AddNumberToObject(o, "skipped", t->skipped);
    cJSON_AddItemToObject(rep->groups, group, o);
}

/* Runs one group. Prints a message and returns false when its folder is damaged, or on Ctrl-C. */
static bool run_group(report *rep, const char *folder) {
    qd_vectors *v = NULL;
    tally t = {0};
    if (qd_vectors_open(folder, &v) != QD_OK) {
        qd_cli_fail("%s", qd_vec_message());
        return false;
    }
    t.parts = cJSON_CreateObject();
    for (int i = 0; i < v->case_count && !qd_cli_stopped(); i++) {
        qd_vec_report r;
        const qd_vec_outcome outcome = qd_vec_run_case(rep->context, v->group, &v->cases[i], &r);
        count_case(rep, &t, v->group, &v->cases[i], outcome, &r);
        qd_cli_progress(v->group, i + 1, v->case_count);
    }
    show_group(rep, v->group, &t);
    show_skipped(rep, v->group, &t);
    cJSON_Delete(t.parts);
    qd_vectors_free(v);
    if (qd_cli_stopped()) qd_cli_fail("stopped after %d cases", rep->total.cases);
    return !qd_cli_stopped();
}

/* A folder's name in an index: "NAME" of "NAME/cases.json", or the group's; a plain name. NULL: it is none. */
static const char *group_folder(const cJSON *entry, char *name, size_t size) {
    const char *group = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "group"));
    const char *manifest = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "manifest"));
    const char *end = manifest ? strchr(manifest, '/') : NULL;
    if (manifest && (!end || strcmp(end, "/cases.json") != 0)) return NULL;
    const char *from = manifest ? manifest : group;
    if (!from) return NULL;
    const size_t length = manifest ? (size_t)(end - manifest) : strlen(group);
    if (!length || length >= size) return NULL;
    snprintf(name, size, "%.*s", (int)length, from);
    return strchr(name, '/') || name[0] == '.' ? NULL : name;
}

/* Runs the groups that DIR/index.json lists. */
static bool run_index(report *rep, const char *folder, const char *path) {
    char *text;
    size_t bytes;
    if (!qd_cli_read(path, &text, &bytes)) return false;
    cJSON *index = cJSON_ParseWithLength(text, bytes);
    const cJSON *groups = cJSON_GetObjectItemCaseSensitive(index, "groups"), *entry;
    bool good = cJSON_IsArray(groups);
    if (!good) qd_cli_fail("'%s' is no index of golden vectors: it needs a list \"groups\"", path);
    cJSON_ArrayForEach(entry, groups) {
        char name[128], inside[1024];
        if (!good) break;
        if (!group_folder(entry, name, sizeof name)) {
            qd_cli_fail("'%s': entry %d of \"groups\" names no folder beside it", path,
                        cJSON_GetArraySize(rep->groups));
            good = false;
            break;
        }
        const int length = snprintf(inside, sizeof inside, "%s/%s", folder, name);
        if (length < 0 || (size_t)length >= sizeof inside) {
            qd_cli_fail("the path of '%s' is too long", folder);
            good = false;
            break;
        }
        const int before = rep->total.cases;
        good = run_group(rep, inside);
        const cJSON *stated = cJSON_GetObjectItemCaseSensitive(entry, "cases");
        if (good && cJSON_IsNumber(stated) && stated->valuedouble != rep->total.cases - before) {
            qd_cli_fail("'%s': %s has %d cases, not %.0f", path, name, rep->total.cases - before, stated->valuedouble);
            good = false;
        }
    }
    cJSON_Delete(index);
    free(text);
    return good;
}

static void print_rows(const char *title, const cJSON *rows) {
    const cJSON *o;
    if (cJSON_GetArraySize(rows)) printf("%s:\n", title);
    cJSON_ArrayForEach(o, rows) {
        printf("  %s/%s: %s\n", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "group")),
               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "case")),
               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "why")));
    }
}

static void print_text(const report *rep) {
    const cJSON *o;
    const tally *t = &rep->total;
    printf("  %-26s %6d %6d %6d %7d %7d\n", "all", t->cases, t->passed, t->failed, t->skipped, t->relaxed);
    printf("  %d operators ran, %d of them on the reference\n", t->ops, t->fallbacks);
    print_rows("failed", rep->failures);
    print_rows("relaxed (passed by the rule that the case allows to others)", rep->relaxed);
    if (cJSON_GetArraySize(rep->skipped)) printf("skipped:\n");
    cJSON_ArrayForEach(o, rep->skipped) {
        printf("  %s: %s\n", o->string, cJSON_GetStringValue(o));
    }
}

/* Fills a number that was put in its place in the object before. */
static void set_number(cJSON *root, const char *key, int value) {
    cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    if (item) cJSON_SetNumberValue(item, value);
}

static int finish(report *rep, cJSON *root) {
    const int code = rep->total.failed ? QD_EXIT_DIFFERENT : QD_EXIT_OK;
    if (!rep->json) {
        print_text(rep);
        cJSON_Delete(root);
        return code;
    }
    set_number(root, "passed", rep->total.passed);
    set_number(root, "failed", rep->total.failed);
    set_number(root, "skipped_cases", rep->total.skipped);
    cJSON_AddNumberToObject(root, "operators", rep->total.ops);
    cJSON_AddNumberToObject(root, "fallbacks", rep->total.fallbacks);
    const int printed = qd_cli_print_json(root);
    return printed == QD_EXIT_OK ? code : printed;
}

int qd_vec_verify(const qd_cli_common *common, const char *folder) {
    const qd_context_options options = qd_cli_context_options(common);
    report rep = {.json = common->json};
    char path[1024];
    const int length = snprintf(path, sizeof path, "%s/index.json", folder);
    if (length < 0 || (size_t)length >= sizeof path) return qd_cli_fail("the path '%.64s…' is too long", folder);
    if (qd_context_create(common->device, &options, &rep.context) != QD_OK) return qd_cli_failed();
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "device", qd_context_device(rep.context)->id);
    cJSON_AddNumberToObject(root, "passed", 0);
    cJSON_AddNumberToObject(root, "failed", 0);
    cJSON_AddNumberToObject(root, "skipped_cases", 0);
    rep.skipped = cJSON_AddObjectToObject(root, "skipped");
    rep.failures = cJSON_AddArrayToObject(root, "failures");
    rep.relaxed = cJSON_AddArrayToObject(root, "relaxed");
    rep.groups = cJSON_AddObjectToObject(root, "groups");
    FILE *index = fopen(path, "rb");
    const bool good = index ? run_index(&rep, folder, path) : run_group(&rep, folder);
    if (index) fclose(index);
    int code = QD_EXIT_FAILED;
    if (good) {
        code = finish(&rep, root);
    } else {
        cJSON_Delete(root);
    }
    qd_context_free(rep.context);
    return code;
}
