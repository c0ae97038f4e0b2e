/* Calibrations as JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/status.h"
#include "quant/calibration.h"
#include "quant/json_file.h"

enum { VERSION = 1, MOST_INPUTS = 1 << 16, MOST_COLUMNS = 1 << 24 };

/* Members of qd_input_stats that are one number. */
static const struct {
    const char *name;
    size_t at;
} numbers[] = {{"min", offsetof(qd_input_stats, min)},
               {"max", offsetof(qd_input_stats, max)},
               {"average_min", offsetof(qd_input_stats, average_min)},
               {"average_max", offsetof(qd_input_stats, average_max)},
               {"percentile_min", offsetof(qd_input_stats, percentile_min)},
               {"percentile_max", offsetof(qd_input_stats, percentile_max)},
               {"error_min", offsetof(qd_input_stats, error_min)},
               {"error_max", offsetof(qd_input_stats, error_max)},
               {"entropy_min", offsetof(qd_input_stats, entropy_min)},
               {"entropy_max", offsetof(qd_input_stats, entropy_max)}};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

static cJSON *input_json(const qd_input_stats *s) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", s->name);
    cJSON_AddNumberToObject(o, "rows", (double)s->rows);
    for (int i = 0; i < NUMBERS; i++)
        cJSON_AddNumberToObject(o, numbers[i].name, (double)*(const float *)((const char *)s + numbers[i].at));
    cJSON_AddItemToObject(o, "absmax", cJSON_CreateFloatArray(s->absmax, (int)s->cols));
    cJSON_AddItemToObject(o, "mean_abs", cJSON_CreateDoubleArray(s->mean_abs, (int)s->cols));
    cJSON_AddItemToObject(o, "mean_square", cJSON_CreateDoubleArray(s->mean_square, (int)s->cols));
    return o;
}

qd_status qd_calibration_write(const qd_calibration *c, const char *path) {
    if (!c || !path || !c->finished) return qd_fail(QD_ERR_ARGUMENT, "calibration: finish it before it is written");
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "inputs");
    cJSON_AddNumberToObject(root, "qdot_calibration", VERSION);
    cJSON_AddStringToObject(root, "model", c->mark);
    cJSON_AddNumberToObject(root, "tokens", (double)c->tokens);
    for (int i = 0; i < c->inputs; i++)
        cJSON_AddItemToArray(list, input_json(&c->input[i].stats));
    if (list) return qd_json_write(path, root);
    cJSON_Delete(root);
    return qd_fail(QD_ERR_MEMORY, "out of memory while writing %s", path);
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static qd_status damaged(const char *path, const char *what) {
    return qd_json_damaged(path, "calibrate", what);
}

/* Finite numbers that are not negative. */
static bool numbers_of(const cJSON *o, const char *name, int64_t count, float *floats, double *doubles) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, name), *v;
    int64_t i = 0;
    if (!cJSON_IsArray(list)) return false;
    cJSON_ArrayForEach(v, list) {
        if (i == count || !cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 1e38)) return false;
        if (floats) floats[i] = (float)v->valuedouble;
        if (doubles) doubles[i] = v->valuedouble;
        i++;
    }
    return i == count;
}

static qd_status read_input(const char *path, const cJSON *o, qd_calibration *c, int i) {
    qd_input_stats *s = &c->input[i].stats;
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(o, "name"),
                *absmax = cJSON_GetObjectItemCaseSensitive(o, "absmax");
    double rows;
    const int cols = cJSON_IsArray(absmax) ? cJSON_GetArraySize(absmax) : 0;
    if (!cJSON_IsString(name) || strlen(name->valuestring) >= sizeof s->name || cols < 1 || cols > MOST_COLUMNS ||
        !qd_json_number(o, "rows", &rows) || !(rows >= 1 && rows <= 1e15))
        return damaged(path, "an input without a name, rows or columns");
    snprintf(s->name, sizeof s->name, "%s", name->valuestring);
    s->rows = (int64_t)rows;
    const qd_status status = qd_calibration_size(c, i, cols);
    if (status) return status;
    for (int k = 0; k < NUMBERS; k++) {
        double v;
        if (!qd_json_number(o, numbers[k].name, &v) || fabs(v) > 1e38) return damaged(path, numbers[k].name);
        *(float *)((char *)s + numbers[k].at) = (float)v;
    }
    if (!numbers_of(o, "absmax", cols, s->absmax, NULL)) return damaged(path, "absmax");
    if (!numbers_of(o, "mean_abs", cols, NULL, s->mean_abs)) return damaged(path, "mean_abs");
    if (!numbers_of(o, "mean_square", cols, NULL, s->mean_square)) return damaged(path, "mean_square");
    return QD_OK;
}

static qd_status read_root(const char *path, const cJSON *root, qd_calibration **out) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "inputs");
    const cJSON *mark = cJSON_GetObjectItemCaseSensitive(root, "model");
    double version, tokens;
    if (!qd_json_number(root, "qdot_calibration", &version)) return damaged(path, "no key qdot_calibration");
    if (version != VERSION) return qd_fail(QD_ERR_UNSUPPORTED, "%s: version %g; known is %d", path, version, VERSION);
    const int inputs = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (inputs < 1 || inputs > MOST_INPUTS) return damaged(path, "inputs");
    if (!qd_json_number(root, "tokens", &tokens) || !(tokens >= 1 && tokens <= 1e15)) return damaged(path, "tokens");
    if (!cJSON_IsString(mark) || strlen(mark->valuestring) != QD_MARK - 1) return damaged(path, "model");
    qd_calibration *c = NULL;
    qd_status status = qd_calibration_new(inputs, &c);
    if (status) return status;
    snprintf(c->mark, sizeof c->mark, "%s", mark->valuestring);
    c->tokens = (int64_t)tokens;
    c->finished = true;
    const cJSON *o = list->child;
    for (int i = 0; i < inputs && !status; i++, o = o->next)
        status = read_input(path, o, c, i);
    if (status) {
        qd_calibration_free(c);
        return status;
    }
    *out = c;
    return QD_OK;
}

qd_status qd_calibration_read(const char *path, qd_calibration **out) {
    if (!path || !out) return qd_fail(QD_ERR_ARGUMENT, "calibration: no pointer may be NULL");
    cJSON *root = NULL;
    qd_status status = qd_json_read(path, "calibrate", &root);
    if (!status) status = read_root(path, root, out);
    cJSON_Delete(root);
    return status;
}
