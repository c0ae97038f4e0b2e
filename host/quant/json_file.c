#include "quant/json_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/new_file.h"

qd_status qd_json_damaged(const char *path, const char *command, const char *what) {
    return qd_fail(QD_ERR_FILE, "%s: %s: this is no file of `qdot %s`, or a damaged one", path, what, command);
}

qd_status qd_json_read(const char *path, const char *command, cJSON **out) {
    enum { MOST = 1 << 30 };
    FILE *f = fopen(path, "rb");
    long size = -1;
    if (f && !fseek(f, 0, SEEK_END)) size = ftell(f);
    char *text = size >= 0 && size <= MOST ? qd_alloc((size_t)size + 1) : NULL;
    qd_status status = QD_OK;
    if (!f || size < 0) {
        status = qd_fail(QD_ERR_IO, "%s: %s", path, strerror(errno));
    } else if (size > MOST) {
        status = qd_json_damaged(path, command, "more than a gibibyte");
    } else if (!text) {
        status = QD_ERR_MEMORY;
    } else if (fseek(f, 0, SEEK_SET) || fread(text, 1, (size_t)size, f) != (size_t)size) {
        status = qd_fail(QD_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
    } else {
        text[size] = 0;
        *out = cJSON_ParseWithLength(text, (size_t)size);
        if (!*out) status = qd_json_damaged(path, command, "it is not JSON");
    }
    if (f) fclose(f);
    free(text);
    return status;
}

qd_status qd_json_write(const char *path, cJSON *root) {
    char *text = root ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (!text) return qd_fail(QD_ERR_MEMORY, "out of memory while writing %s", path);
    new_file f;
    qd_status status = qd_new_file_open(path, &f);
    if (!status) {
        status = qd_new_file_write(&f, text, strlen(text));
        if (!status) status = qd_new_file_finish(&f);
        qd_new_file_close(&f);
    }
    cJSON_free(text);
    return status;
}

bool qd_json_number(const cJSON *o, const char *name, double *out) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble)) return false;
    *out = v->valuedouble;
    return true;
}

bool qd_json_string(const cJSON *o, const char *name, char *out, size_t capacity) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!cJSON_IsString(v) || strlen(v->valuestring) >= capacity) return false;
    snprintf(out, capacity, "%s", v->valuestring);
    return true;
}
