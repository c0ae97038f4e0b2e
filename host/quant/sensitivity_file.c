/* Sensitivities as JSON. */
#include <math.h>
#include <string.h>

#include "core/status.h"
#include "quant/json_file.h"
#include "quant/sensitivity.h"

enum { VERSION = 1 };

static const char command[] = "sensitivity";

/* ---- Writing ------------------------------------------------------------------------------------------------ */

/* Members of qd_loss; `steps` may be NaN, which JSON does not have: it is left out then. */
static const struct {
    const char *name;
    size_t at;
} losses[] = {{"count", offsetof(qd_loss, count)},     {"absolute", offsetof(qd_loss, absolute)},
              {"largest", offsetof(qd_loss, largest)}, {"steps", offsetof(qd_loss, steps)},
              {"xx", offsetof(qd_loss, xx)},           {"yy", offsetof(qd_loss, yy)},
              {"xy", offsetof(qd_loss, xy)},           {"squares", offsetof(qd_loss, squares)}};
enum { LOSSES = sizeof losses / sizeof losses[0] };

static cJSON *result_json(const qd_sensitivity_result *r) {
    char name[64];
    cJSON *o = cJSON_CreateObject(), *loss = cJSON_AddObjectToObject(o, "loss");
    qd_storage_name(&r->to, name, sizeof name);
    cJSON_AddStringToObject(o, "format", name);
    cJSON_AddNumberToObject(o, "bytes", r->bytes);
    cJSON_AddNumberToObject(o, "kl_divergence", r->divergence);
    cJSON_AddNumberToObject(o, "kl_divergence_error", r->divergence_error);
    cJSON_AddNumberToObject(o, "nll_change", r->nll_change);
    if (r->estimated) cJSON_AddTrueToObject(o, "estimated");
    for (int i = 0; i < LOSSES; i++) {
        const double v = *(const double *)((const char *)&r->loss + losses[i].at);
        if (isfinite(v)) cJSON_AddNumberToObject(loss, losses[i].name, v);
    }
    return o;
}

static cJSON *part_json(const qd_sensitivity_part *p) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", p->name);
    cJSON *list = cJSON_AddArrayToObject(o, "matrices");
    for (int i = 0; i < p->matrices; i++) {
        const qd_sensitive_matrix *m = &p->matrix[i];
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", m->name);
        cJSON_AddNumberToObject(one, "rows", (double)m->rows);
        cJSON_AddNumberToObject(one, "cols", (double)m->cols);
        cJSON_AddNumberToObject(one, "bytes", m->bytes);
        cJSON_AddItemToArray(list, one);
    }
    list = cJSON_AddArrayToObject(o, "results");
    for (int i = 0; i < p->results; i++)
        cJSON_AddItemToArray(list, result_json(&p->result[i]));
    return o;
}

qd_status qd_sensitivity_write(const qd_sensitivity *s, const char *path) {
    if (!s || !path) return qd_fail(QD_ERR_ARGUMENT, "sensitivity: no pointer may be NULL");
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "qdot_sensitivity", VERSION);
    cJSON_AddStringToObject(root, "model", s->model);
    cJSON_AddStringToObject(root, "text", s->text);
    cJSON_AddNumberToObject(root, "tokens", (double)s->tokens);
    cJSON_AddBoolToObject(root, "finished", s->finished);
    cJSON_AddBoolToObject(root, "by_layer", s->by_layer);
    cJSON_AddNumberToObject(root, "nll", s->nll);
    cJSON_AddNumberToObject(root, "other_bytes", s->other_bytes);
    cJSON_AddNumberToObject(root, "other_weights", s->other_weights);
    cJSON *list = cJSON_AddArrayToObject(root, "parts");
    for (int i = 0; i < s->parts; i++)
        cJSON_AddItemToArray(list, part_json(&s->part[i]));
    return qd_json_write(path, root);
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static qd_status damaged(const char *path, const char *what) {
    return qd_json_damaged(path, command, what);
}

/* A number from `least` to 2^52. */
static bool number(const cJSON *o, const char *name, double least, double *out) {
    return qd_json_number(o, name, out) && *out >= least && *out <= 0x1p52;
}

static qd_status read_matrix(const char *path, const cJSON *o, qd_sensitivity_part *p) {
    qd_sensitive_matrix m = {.rows = 0};
    double rows, cols;
    if (!qd_json_string(o, "name", m.name, sizeof m.name) || !number(o, "rows", 1, &rows) ||
        !number(o, "cols", 1, &cols) || !number(o, "bytes", 1, &m.bytes))
        return damaged(path, "a matrix without a name, rows, cols or bytes");
    m.rows = (int64_t)rows;
    m.cols = (int64_t)cols;
    return qd_sensitivity_add_matrix(p, &m);
}

static qd_status read_result(const char *path, const cJSON *o, qd_sensitivity_part *p) {
    char name[64];
    const cJSON *loss = cJSON_GetObjectItemCaseSensitive(o, "loss");
    qd_sensitivity_result r = {.bytes = 0};
    if (!qd_json_string(o, "format", name, sizeof name) || qd_storage_parse(name, &r.to) != QD_OK)
        return damaged(path, "a result without a format that is known");
    if (!number(o, "bytes", 1, &r.bytes) || floor(r.bytes) != r.bytes ||
        !number(o, "kl_divergence", 0, &r.divergence) || !number(o, "kl_divergence_error", 0, &r.divergence_error) ||
        !number(o, "nll_change", -1e6, &r.nll_change))
        return damaged(path, "a result without bytes, kl_divergence or nll_change");
    r.estimated = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "estimated"));
    for (int i = 0; i < LOSSES; i++) {
        double *v = (double *)((char *)&r.loss + losses[i].at);
        if (qd_json_number(loss, losses[i].name, v)) continue;
        if (v != &r.loss.steps) return damaged(path, "a result without its loss");
        *v = (double)NAN;
    }
    if (qd_sensitivity_find(p, &r.to)) return damaged(path, "a format twice in one part");
    return qd_sensitivity_add_result(p, &r);
}

static qd_status read_part(const char *path, const cJSON *o, qd_sensitivity *s) {
    const cJSON *matrices = cJSON_GetObjectItemCaseSensitive(o, "matrices"), *v;
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(o, "results");
    char name[96];
    qd_sensitivity_part *p;
    qd_status status = QD_OK;
    if (!qd_json_string(o, "name", name, sizeof name) || !cJSON_IsArray(matrices) || !matrices->child ||
        !cJSON_IsArray(results))
        return damaged(path, "a part without a name, matrices or results");
    QD_TRY(qd_sensitivity_add_part(s, name, &p));
    cJSON_ArrayForEach(v, matrices) QD_TRY(read_matrix(path, v, p));
    cJSON_ArrayForEach(v, results) QD_TRY(read_result(path, v, p));
error:
    return status;
}

static qd_status read_root(const char *path, const cJSON *root, qd_sensitivity *s) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "parts"), *v;
    const cJSON *finished = cJSON_GetObjectItemCaseSensitive(root, "finished");
    const cJSON *by_layer = cJSON_GetObjectItemCaseSensitive(root, "by_layer");
    double version, tokens;
    qd_status status = QD_OK;
    if (!qd_json_number(root, "qdot_sensitivity", &version)) return damaged(path, "no key qdot_sensitivity");
    if (version != VERSION) return qd_fail(QD_ERR_UNSUPPORTED, "%s: version %g; known is %d", path, version, VERSION);
    if (!cJSON_IsArray(list) || !list->child || !cJSON_IsBool(finished) || !cJSON_IsBool(by_layer) ||
        !number(root, "tokens", 0, &tokens) || !number(root, "nll", -1e6, &s->nll) ||
        !number(root, "other_bytes", 0, &s->other_bytes) || !number(root, "other_weights", 0, &s->other_weights) ||
        !qd_json_string(root, "model", s->model, sizeof s->model) ||
        !qd_json_string(root, "text", s->text, sizeof s->text))
        return damaged(path, "a key is missing, or of another kind");
    s->tokens = (int64_t)tokens;
    s->finished = cJSON_IsTrue(finished);
    s->by_layer = cJSON_IsTrue(by_layer);
    cJSON_ArrayForEach(v, list) QD_TRY(read_part(path, v, s));
error:
    return status;
}

qd_status qd_sensitivity_read(const char *path, qd_sensitivity **out) {
    if (!path || !out) return qd_fail(QD_ERR_ARGUMENT, "sensitivity: no pointer may be NULL");
    cJSON *root = NULL;
    qd_sensitivity *s = NULL;
    qd_status status = qd_json_read(path, command, &root);
    if (!status) {
        s = qd_alloc_zero(1, sizeof *s);
        status = s ? read_root(path, root, s) : QD_ERR_MEMORY;
    }
    cJSON_Delete(root);
    if (status) {
        qd_sensitivity_free(s);
    } else {
        *out = s;
    }
    return status;
}
