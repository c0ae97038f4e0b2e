/* Plans: a format for each tensor by its name. */
#include <stdlib.h>
#include <string.h>

#include "cli/quantize.h"

static bool bad_line(const char *path, int line, const char *why) {
    qd_cli_fail("%s, line %d: %s: a line is a tensor's name and a format, or `keep`", path, line, why);
    return false;
}

const qd_cli_planned *qd_cli_planned_find(const qd_cli_rules *rules, const char *tensor) {
    for (int i = 0; i < rules->n_planned; i++) {
        if (!strcmp(rules->planned[i].name, tensor)) return &rules->planned[i];
    }
    return NULL;
}

/* One line, which is cut up. */
static bool read_line(const char *path, int number, char *line, qd_cli_rules *out) {
    char *rest = line;
    line[strcspn(line, "#")] = 0;
    const char *name = strtok_r(line, " \t\r", &rest), *format = strtok_r(NULL, " \t\r", &rest);
    qd_cli_planned p = {.keep = false};
    if (!name) return true;
    if (!format || strtok_r(NULL, " \t\r", &rest)) return bad_line(path, number, "not two words");
    if (strlen(name) >= sizeof p.name) return bad_line(path, number, "the name is too long");
    if (qd_cli_planned_find(out, name)) return bad_line(path, number, "this tensor has a line already");
    memcpy(p.name, name, strlen(name) + 1);
    p.keep = !strcmp(format, "keep");
    if (!p.keep && qd_storage_parse(format, &p.to) != QD_OK) return bad_line(path, number, qd_last_message());
    qd_cli_planned *grown = realloc(out->planned, ((size_t)out->n_planned + 1) * sizeof *grown);
    if (!grown) {
        qd_cli_fail("out of memory");
        return false;
    }
    out->planned = grown;
    out->planned[out->n_planned++] = p;
    return true;
}

bool qd_cli_planned_read(const char *path, qd_cli_rules *out) {
    char *text;
    size_t size;
    if (!qd_cli_read(path, &text, &size)) return false;
    bool ok = strlen(text) == size;
    if (!ok) qd_cli_fail("%s: this is no plan (it has zeros in it)", path);
    char *line = text;
    for (int number = 1; ok && line; number++) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        ok = read_line(path, number, line, out);
        line = end ? end + 1 : NULL;
    }
    free(text);
    if (ok && !out->n_planned) {
        qd_cli_fail("%s: the plan names no tensor", path);
        ok = false;
    }
    return ok;
}

bool qd_cli_planned_check(const qd_cli_rules *rules, const qd_cli_plan *plan) {
    for (int i = 0; i < rules->n_planned; i++) {
        const qd_cli_planned *p = &rules->planned[i];
        const qd_cli_change *c = NULL;
        char name[64] = "";
        for (int64_t k = 0; k < plan->count && !c; k++)
            c = strcmp(plan->changes[k].name, p->name) == 0 ? &plan->changes[k] : NULL;
        if (!p->keep) qd_storage_name(&p->to, name, sizeof name);
        if (!c) {
            qd_cli_fail("the plan names '%s', which this model does not have: it is a plan for another model", p->name);
            return false;
        }
        if (!p->keep && (c->instead || !qd_storage_equal(&c->to, &p->to))) {
            qd_cli_fail("the plan's %s does not fit '%s': it is a plan for another model", name, p->name);
            return false;
        }
    }
    return true;
}
