/* Writes GGUF v3 files. Layout: see gguf_parse.c. The head (values, and the entries of tensors with their offsets) is
 * made in memory while they are added, and goes to the file with the first data. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/gguf.h"
#include "model/new_file.h"
#include "qdot/qdot_num.h"

enum { DEFAULT_ALIGNMENT = 32, MAX_TENSOR_NAME = 63 /* of llama.cpp */ };

typedef struct bytes {
    uint8_t *data;
    size_t size, room;
} bytes;

struct qd_gguf_writer {
    new_file file;
    bytes values, tensors;
    uint64_t value_count, tensor_count, alignment;
    uint64_t *sizes;           /* of the tensors' data */
    uint64_t end;              /* of the data section with the tensors so far */
    bool begun;                /* the head is in the file */
    bool broken;               /* a write failed: nothing can follow */
    uint64_t current, written; /* the tensor that gets data, and how much of it there is */
};

/* ---- The head ----------------------------------------------------------------------------------------------- */

static qd_status put(bytes *b, const void *data, size_t size) {
    if (size > b->room - b->size) {
        const size_t room = 2 * (b->size + size);
        uint8_t *grown = qd_realloc(b->data, room);
        if (!grown) return QD_ERR_MEMORY;
        b->data = grown;
        b->room = room;
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
    return QD_OK;
}

static qd_status put_number(bytes *b, uint64_t x, size_t size) {
    uint8_t little[8];
    for (size_t i = 0; i < size; i++)
        little[i] = (uint8_t)(x >> (8 * i));
    return put(b, little, size);
}

static qd_status put_string(bytes *b, const void *text, size_t size) {
    const qd_status status = put_number(b, size, 8);
    return status == QD_OK ? put(b, text, size) : status;
}

/* Adds a value whose bytes, from its type on, are given. What fails leaves b->values as it was. */
static qd_status add_value(qd_gguf_writer *w, const void *key, size_t key_size, qd_gguf_type type, const void *data,
                           size_t size) {
    const size_t before = w->values.size;
    qd_status status = QD_OK;
    if (w->begun) return qd_fail(QD_ERR_ARGUMENT, "GGUF: values must be added before the first data");
    QD_TRY(put_string(&w->values, key, key_size));
    QD_TRY(put_number(&w->values, type, 4));
    QD_TRY(put(&w->values, data, size));
    w->value_count++;
    return QD_OK;
error:
    w->values.size = before;
    return status;
}

/* The bytes of a value in a file, after its type. */
static void value_bytes(const gguf_value *e, const uint8_t **data, size_t *size) {
    const qd_gguf_value *v = &e->v;
    *data = e->items - (v->type == QD_GGUF_ARRAY ? 12 : 0);
    if (v->item_type != QD_GGUF_STRING) {
        *size = (size_t)(e->items - *data) + (size_t)v->count * qd_gguf_type_bytes(v->item_type);
        return;
    }
    const uint8_t *end = e->items;
    if (v->count) {
        end += e->offsets ? (size_t)e->offsets[v->count - 1] : 0;
        end += 8 + qd_gguf_little(end, 8);
    }
    *size = (size_t)(end - *data);
}

qd_status qd_gguf_write_value(qd_gguf_writer *w, const qd_gguf *g, const qd_gguf_value *v) {
    if (!w || !g || !v) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_value: writer, file and value must not be NULL");
    const qd_string *found = qd_gguf_index_find(g->value_index, g->value_count, v->key);
    if (!found) return qd_fail(QD_ERR_ARGUMENT, "GGUF: the value is not one of this file's; get it with qd_gguf_find");
    const gguf_value *e = (const gguf_value *)(const void *)found;
    const uint8_t *data;
    size_t size;
    value_bytes(e, &data, &size);
    if (e->v.key.size == 17 && !memcmp(e->v.key.data, "general.alignment", 17)) {
        /* The reader has checked that it is a u32 and a power of two. */
        if (w->tensor_count) return qd_fail(QD_ERR_ARGUMENT, "GGUF: general.alignment must come before the tensors");
        w->alignment = qd_gguf_little(data, 4);
    }
    return add_value(w, e->v.key.data, e->v.key.size, e->v.type, data, size);
}

qd_status qd_gguf_write_u32(qd_gguf_writer *w, const char *key, uint32_t x) {
    if (!w || !key) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_u32: writer and key must not be NULL");
    const uint8_t little[4] = {(uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16), (uint8_t)(x >> 24)};
    return add_value(w, key, strlen(key), QD_GGUF_U32, little, sizeof little);
}

qd_status qd_gguf_write_string(qd_gguf_writer *w, const char *key, const char *text) {
    if (!w || !key || !text) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_string: nothing may be NULL");
    bytes b = {0};
    qd_status status;
    QD_TRY(put_string(&b, text, strlen(text)));
    QD_TRY(add_value(w, key, strlen(key), QD_GGUF_STRING, b.data, b.size));
error:
    free(b.data);
    return status;
}

static uint64_t align(const qd_gguf_writer *w, uint64_t x) {
    return (x + w->alignment - 1) / w->alignment * w->alignment;
}

static qd_status add_entry(qd_gguf_writer *w, const char *name, const qd_tensor_desc *d, int gguf_type) {
    bytes *b = &w->tensors;
    qd_status status;
    QD_TRY(put_string(b, name, strlen(name)));
    QD_TRY(put_number(b, (uint64_t)d->rank, 4));
    for (int i = d->rank; i-- > 0;)
        QD_TRY(put_number(b, (uint64_t)d->shape[i], 8));
    QD_TRY(put_number(b, (uint64_t)gguf_type, 4));
    QD_TRY(put_number(b, align(w, w->end), 8));
error:
    return status;
}

qd_status qd_gguf_write_tensor(qd_gguf_writer *w, const char *name, const qd_tensor_desc *d) {
    if (!w || !name || !d) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_tensor: nothing may be NULL");
    const qd_format_info *f = qd_format_get(d->format);
    const size_t size = qd_desc_bytes(d);
    if (w->begun) return qd_fail(QD_ERR_ARGUMENT, "GGUF: tensors must be added before the first data");
    if (!f || f->gguf_type < 0) {
        return qd_fail(QD_ERR_ARGUMENT, "GGUF: tensor '%.80s': %s is no type of GGUF files", name,
                       f ? f->name : "this");
    }
    if (size == 0 || d->shape[d->rank - 1] % f->block) {
        return qd_fail(QD_ERR_ARGUMENT, "GGUF: tensor '%.80s' has a shape that %s blocks of %d do not fill", name,
                       f->name, f->block);
    }
    if (strlen(name) == 0 || strlen(name) > MAX_TENSOR_NAME) {
        return qd_fail(QD_ERR_ARGUMENT, "GGUF: the tensor name '%.80s' does not have 1 to %d bytes", name,
                       MAX_TENSOR_NAME);
    }
    if ((w->tensor_count & (w->tensor_count - 1)) == 0) { /* a power of two, or none, is full */
        const size_t room = w->tensor_count ? 2 * (size_t)w->tensor_count : 1;
        uint64_t *grown = qd_realloc(w->sizes, room * sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        w->sizes = grown;
    }
    const size_t before = w->tensors.size;
    const qd_status status = add_entry(w, name, d, f->gguf_type);
    if (status != QD_OK) {
        w->tensors.size = before;
        return status;
    }
    w->sizes[w->tensor_count++] = size;
    w->end = align(w, w->end) + size;
    return QD_OK;
}

qd_status qd_gguf_write_coded(qd_gguf_writer *w, const char *name, const qd_coding *c, int64_t rows, int64_t cols) {
    if (!w || !name || !c) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_coded: nothing may be NULL");
    char coding[64], key[QD_GGUF_CODED_KEY], columns[QD_GGUF_CODED_KEY], side[QD_GGUF_CODED_KEY];
    uint8_t little[8];
    qd_status status = QD_OK;
    const size_t row_bytes = qd_coding_row_bytes(c, cols);
    if (!row_bytes) return qd_fail(QD_ERR_ARGUMENT, "GGUF: tensor '%.80s': %s", name, qd_last_message());
    if (strlen(name) + strlen(QD_GGUF_SIDE_SUFFIX) > MAX_TENSOR_NAME) {
        return qd_fail(QD_ERR_ARGUMENT, "GGUF: the name '%.80s' of a coded tensor has more than %d bytes", name,
                       MAX_TENSOR_NAME - (int)strlen(QD_GGUF_SIDE_SUFFIX));
    }
    qd_gguf_coded_key(QD_GGUF_CODING_PREFIX, name, key);
    qd_gguf_coded_key(QD_GGUF_COLUMNS_PREFIX, name, columns);
    snprintf(side, sizeof side, "%s" QD_GGUF_SIDE_SUFFIX, name);
    qd_coding_name(c, coding, sizeof coding);
    for (int i = 0; i < 8; i++)
        little[i] = (uint8_t)((uint64_t)cols >> (8 * i));
    QD_TRY(qd_gguf_write_string(w, key, coding));
    QD_TRY(add_value(w, columns, strlen(columns), QD_GGUF_U64, little, sizeof little));
    QD_TRY(qd_gguf_write_tensor(w, name, &(qd_tensor_desc){QD_FORMAT_I8, 2, {rows, (int64_t)row_bytes}}));
    QD_TRY(qd_gguf_write_tensor(w, side, &(qd_tensor_desc){QD_FORMAT_F32, 1, {qd_coding_side_count(c, rows, cols)}}));
error:
    return status;
}

qd_status qd_gguf_write_input(qd_gguf_writer *w, const char *name, float scale, int32_t zero_point) {
    if (!w || !name) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_input: writer and name must not be NULL");
    const struct {
        const char *prefix;
        qd_gguf_type type;
        uint32_t bits;
    } keys[] = {{QD_GGUF_INPUT_SCALE_PREFIX, QD_GGUF_F32, qd_as_u32(scale)},
                {QD_GGUF_INPUT_ZERO_PREFIX, QD_GGUF_I32, (uint32_t)zero_point}};
    for (int i = 0; i < 2; i++) {
        char key[QD_GGUF_CODED_KEY];
        const uint32_t x = keys[i].bits;
        const uint8_t little[4] = {(uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16), (uint8_t)(x >> 24)};
        if (!qd_gguf_coded_key(keys[i].prefix, name, key)) {
            return qd_fail(QD_ERR_ARGUMENT, "GGUF: the tensor name '%.80s' is too long for a key", name);
        }
        const qd_status status = add_value(w, key, strlen(key), keys[i].type, little, sizeof little);
        if (status) return status;
    }
    return QD_OK;
}

qd_status qd_gguf_write_outliers(qd_gguf_writer *w, const char *name, int64_t rows, int64_t count) {
    if (!w || !name) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_outliers: writer and name must not be NULL");
    char columns[QD_GGUF_CODED_KEY], weights[QD_GGUF_CODED_KEY];
    snprintf(columns, sizeof columns, "%.100s" QD_GGUF_OUTLIER_COLUMNS_SUFFIX, name);
    snprintf(weights, sizeof weights, "%.100s" QD_GGUF_OUTLIERS_SUFFIX, name);
    const qd_status status = qd_gguf_write_tensor(w, columns, &(qd_tensor_desc){QD_FORMAT_I32, 1, {count}});
    return status ? status : qd_gguf_write_tensor(w, weights, &(qd_tensor_desc){QD_FORMAT_F16, 2, {rows, count}});
}

/* ---- The file ----------------------------------------------------------------------------------------------- */

static uint64_t head_bytes(const qd_gguf_writer *w) {
    return align(w, 24 + w->values.size + w->tensors.size);
}

uint64_t qd_gguf_write_size(const qd_gguf_writer *w) {
    return w ? head_bytes(w) + align(w, w->end) : 0;
}

static qd_status pad(qd_gguf_writer *w, uint64_t at) {
    static const uint8_t zeros[4096];
    for (uint64_t left = align(w, at) - at; left > 0;) {
        const size_t n = left < sizeof zeros ? (size_t)left : sizeof zeros;
        const qd_status status = qd_new_file_write(&w->file, zeros, n);
        if (status != QD_OK) return status;
        left -= n;
    }
    return QD_OK;
}

static qd_status write_head(qd_gguf_writer *w) {
    bytes head = {0};
    qd_status status;
    QD_TRY(put(&head, "GGUF", 4));
    QD_TRY(put_number(&head, 3, 4));
    QD_TRY(put_number(&head, w->tensor_count, 8));
    QD_TRY(put_number(&head, w->value_count, 8));
    QD_TRY(qd_new_file_write(&w->file, head.data, head.size));
    QD_TRY(qd_new_file_write(&w->file, w->values.data, w->values.size));
    QD_TRY(qd_new_file_write(&w->file, w->tensors.data, w->tensors.size));
    QD_TRY(pad(w, head.size + w->values.size + w->tensors.size));
    w->begun = true;
error:
    free(head.data);
    return status;
}

qd_status qd_gguf_write_data(qd_gguf_writer *w, const void *data, size_t size) {
    if (!w || (!data && size)) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_data: nothing may be NULL");
    if (w->broken) return qd_fail(QD_ERR_ARGUMENT, "GGUF: the file could not be written before; start again");
    if (w->current == w->tensor_count || size > w->sizes[w->current] - w->written) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "GGUF: data beyond the end of a tensor (number %" PRIu64 " of %" PRIu64 ") were given",
                       w->current, w->tensor_count);
    }
    qd_status status = QD_OK;
    w->broken = true;
    if (!w->begun) QD_TRY(write_head(w));
    QD_TRY(qd_new_file_write(&w->file, data, size));
    w->written += size;
    if (w->written == w->sizes[w->current]) {
        /* Programs that read expect padding behind the last one, too. */
        QD_TRY(pad(w, w->written));
        w->current++;
        w->written = 0;
    }
    w->broken = false;
error:
    return status;
}

qd_status qd_gguf_write_finish(qd_gguf_writer *w) {
    if (!w) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_finish: the writer must not be NULL");
    if (w->broken) return qd_fail(QD_ERR_ARGUMENT, "GGUF: the file could not be written before; start again");
    if (w->current < w->tensor_count) {
        return qd_fail(QD_ERR_ARGUMENT, "GGUF: only %" PRIu64 " of %" PRIu64 " tensors have their data", w->current,
                       w->tensor_count);
    }
    qd_status status = QD_OK;
    w->broken = true;
    if (!w->begun) QD_TRY(write_head(w));
    QD_TRY(qd_new_file_finish(&w->file));
error:
    return status;
}

qd_status qd_gguf_write_create(const char *path, qd_gguf_writer **out) {
    if (!path || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_write_create: path and out must not be NULL");
    qd_gguf_writer *w = qd_alloc_zero(1, sizeof *w);
    if (!w) return QD_ERR_MEMORY;
    w->alignment = DEFAULT_ALIGNMENT;
    const qd_status status = qd_new_file_open(path, &w->file);
    if (status != QD_OK) {
        free(w);
        return status;
    }
    *out = w;
    return QD_OK;
}

void qd_gguf_writer_free(qd_gguf_writer *w) {
    if (!w) return;
    qd_new_file_close(&w->file);
    free(w->values.data);
    free(w->tensors.data);
    free(w->sizes);
    free(w);
}
