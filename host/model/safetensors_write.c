/* Writes safetensors files. Layout: see safetensors.c. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/new_file.h"
#include "model/safetensors.h"

struct qd_safetensors_writer {
    new_file file;
    cJSON *header;
    uint64_t size;    /* of the data that were announced */
    uint64_t written; /* of them */
    bool begun, broken;
};

qd_status qd_safetensors_create(const char *path, qd_safetensors_writer **out) {
    if (!path || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_safetensors_create: path and out must not be NULL");
    qd_safetensors_writer *w = qd_alloc_zero(1, sizeof *w);
    if (!w) return QD_ERR_MEMORY;
    qd_status status = QD_ERR_MEMORY;
    w->header = cJSON_CreateObject();
    if (!w->header) {
        free(w);
        return qd_fail(QD_ERR_MEMORY, "out of memory");
    }
    status = qd_new_file_open(path, &w->file);
    if (status != QD_OK) {
        cJSON_Delete(w->header);
        free(w);
        return status;
    }
    *out = w;
    return QD_OK;
}

/* Both numbers are at most 2^53, which a double holds. */
static bool add_pair(cJSON *o, const char *name, uint64_t a, uint64_t b) {
    const double numbers[2] = {(double)a, (double)b};
    cJSON *pair = cJSON_CreateDoubleArray(numbers, 2);
    return pair && cJSON_AddItemToObject(o, name, pair);
}

qd_status qd_safetensors_add(qd_safetensors_writer *w, const qd_safetensor *t) {
    if (!w || !t || !t->name || !t->type) return qd_fail(QD_ERR_ARGUMENT, "qd_safetensors_add: nothing may be NULL");
    if (w->begun) return qd_fail(QD_ERR_ARGUMENT, "safetensors: tensors must be added before the first data");
    if (cJSON_GetObjectItemCaseSensitive(w->header, t->name)) {
        return qd_fail(QD_ERR_ARGUMENT, "safetensors: tensor '%.80s' was added already", t->name);
    }
    uint64_t bytes = qd_safetensors_type_bytes(t->type);
    bool ok = bytes > 0 && t->rank >= 0 && t->rank <= QD_SAFETENSORS_RANK;
    double shape[QD_SAFETENSORS_RANK];
    for (int i = 0; ok && i < t->rank; i++) {
        ok = t->shape[i] >= 0 && !__builtin_mul_overflow(bytes, (uint64_t)t->shape[i], &bytes);
        shape[i] = (double)t->shape[i];
    }
    if (!ok || bytes > (UINT64_C(1) << 53) - w->size) {
        return qd_fail(QD_ERR_ARGUMENT, "safetensors: tensor '%.80s' has no type or shape that can be written",
                       t->name);
    }
    cJSON *o = cJSON_AddObjectToObject(w->header, t->name);
    cJSON *list = o ? cJSON_CreateDoubleArray(shape, t->rank) : NULL;
    ok = list && cJSON_AddStringToObject(o, "dtype", t->type);
    ok = list && cJSON_AddItemToObject(o, "shape", list) && ok;
    ok = ok && add_pair(o, "data_offsets", w->size, w->size + bytes);
    if (!ok) return qd_fail(QD_ERR_MEMORY, "out of memory");
    w->size += bytes;
    return QD_OK;
}

/* The header, with spaces up to a multiple of 8, which keeps the data aligned. */
static qd_status begin(qd_safetensors_writer *w) {
    static const char spaces[8] = "       ";
    char *text = cJSON_PrintUnformatted(w->header);
    if (!text) return qd_fail(QD_ERR_MEMORY, "out of memory");
    const size_t size = strlen(text), padding = (8 - size % 8) % 8;
    uint8_t little[8];
    qd_status status;
    for (int i = 0; i < 8; i++)
        little[i] = (uint8_t)((uint64_t)(size + padding) >> (8 * i));
    QD_TRY(qd_new_file_write(&w->file, little, sizeof little));
    QD_TRY(qd_new_file_write(&w->file, text, size));
    QD_TRY(qd_new_file_write(&w->file, spaces, padding));
    w->begun = true;
error:
    cJSON_free(text);
    return status;
}

static qd_status broken(void) {
    return qd_fail(QD_ERR_ARGUMENT, "safetensors: the file could not be written before; start again");
}

qd_status qd_safetensors_write(qd_safetensors_writer *w, const void *data, size_t bytes) {
    if (!w || (!data && bytes)) return qd_fail(QD_ERR_ARGUMENT, "qd_safetensors_write: nothing may be NULL");
    if (w->broken) return broken();
    if (bytes > w->size - w->written) {
        return qd_fail(QD_ERR_ARGUMENT, "safetensors: more data than the tensors have were given");
    }
    qd_status status = QD_OK;
    w->broken = true;
    if (!w->begun) QD_TRY(begin(w));
    QD_TRY(qd_new_file_write(&w->file, data, bytes));
    w->written += bytes;
    w->broken = false;
error:
    return status;
}

qd_status qd_safetensors_finish(qd_safetensors_writer *w) {
    if (!w) return qd_fail(QD_ERR_ARGUMENT, "qd_safetensors_finish: the writer must not be NULL");
    if (w->broken) return broken();
    if (w->written < w->size) {
        return qd_fail(QD_ERR_ARGUMENT, "safetensors: only %" PRIu64 " of %" PRIu64 " bytes of data were given",
                       w->written, w->size);
    }
    qd_status status = QD_OK;
    w->broken = true;
    if (!w->begun) QD_TRY(begin(w));
    QD_TRY(qd_new_file_finish(&w->file));
error:
    return status;
}

void qd_safetensors_writer_free(qd_safetensors_writer *w) {
    if (!w) return;
    qd_new_file_close(&w->file);
    cJSON_Delete(w->header);
    free(w);
}
