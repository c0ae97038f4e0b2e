/* GGUF files: mapping them, and the questions a program asks about what gguf_parse.c has checked. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* madvise */
#endif
#include "model/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"

/* ---- Opening ------------------------------------------------------------------------------------------------ */

/* Takes over the mapping when `mapped`, also on failure. */
static qd_status parse(const void *data, size_t bytes, bool mapped, qd_gguf **out) {
    qd_status status = QD_ERR_MEMORY;
    qd_gguf *g = qd_alloc_zero(1, sizeof *g);
    if (!g) {
        if (mapped) qd_unmap_file(data, bytes);
        return status;
    }
    g->data = data;
    g->size = bytes;
    g->mapped = mapped;
    QD_TRY(qd_gguf_read(g));
    *out = g;
    return QD_OK;
error:
    qd_gguf_free(g);
    return status;
}

qd_status qd_gguf_parse(const void *data, size_t bytes, qd_gguf **out) {
    if ((!data && bytes) || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_parse: data and out must not be NULL");
    if ((uintptr_t)data % 8) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "qd_gguf_parse: data must begin at a multiple of 8 bytes, as malloc's memory does");
    }
    return parse(data, bytes, false, out);
}

qd_status qd_map_file(const char *path, const char *what, const void **data, size_t *bytes) {
    qd_status status = QD_OK;
    /* Not blocking: a named pipe must not make us wait before it is refused. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return qd_fail(QD_ERR_IO, "%.250s: cannot be opened: %s", path, strerror(errno));
    struct stat st;
    void *map = NULL;
    if (fstat(fd, &st) != 0) {
        status = qd_fail(QD_ERR_IO, "%.250s: cannot be examined: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        status = qd_fail(QD_ERR_IO, "%.250s: is %s, not a file; give %s", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe", what);
    } else if ((uint64_t)st.st_size > PTRDIFF_MAX) {
        status = qd_fail(QD_ERR_IO, "%.250s: is too large to map into memory on this machine", path);
    } else if (st.st_size > 0) {
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            status = qd_fail(QD_ERR_IO, "%.250s: cannot be mapped into memory: %s", path, strerror(errno));
        }
    }
    close(fd);
    if (status == QD_OK) {
        *data = map;
        *bytes = (size_t)st.st_size;
    }
    return status;
}

void qd_unmap_file(const void *data, size_t bytes) {
    if (data) munmap((void *)(uintptr_t)data, bytes);
}

qd_status qd_gguf_open(const char *path, qd_gguf **out) {
    if (!path || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_open: path and out must not be NULL");
    const void *data = NULL;
    size_t bytes = 0;
    qd_status status = qd_map_file(path, "a .gguf model", &data, &bytes);
    if (status != QD_OK) return status;
    status = parse(data, bytes, data != NULL, out);
    return status == QD_OK ? QD_OK : qd_fail(status, "%.250s: %s", path, qd_last_message());
}

void qd_gguf_free(qd_gguf *g) {
    if (!g) return;
    for (size_t i = 0; i < g->value_count; i++)
        free(g->values[i].offsets);
    free(g->values);
    free(g->tensors);
    free(g->value_index);
    free(g->tensor_index);
    if (g->mapped) qd_unmap_file(g->data, g->size);
    free(g);
}

void qd_gguf_cool(const qd_gguf *g) {
    if (g->mapped) madvise((void *)(uintptr_t)g->data, g->size, MADV_DONTNEED);
}

uint32_t qd_gguf_version(const qd_gguf *g) {
    return g ? g->version : 0;
}

size_t qd_gguf_file_bytes(const qd_gguf *g) {
    return g ? g->size : 0;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

static const char *type_name(qd_gguf_type t) {
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return names[t];
}

uint64_t qd_gguf_value_count(const qd_gguf *g) {
    return g ? g->value_count : 0;
}

qd_status qd_gguf_value_at(const qd_gguf *g, uint64_t index, qd_gguf_value *out) {
    if (!g || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_value_at: file and out must not be NULL");
    if (index >= g->value_count) {
        return qd_fail(QD_ERR_ARGUMENT, "GGUF: value %" PRIu64 " was asked for, but the file has %zu", index,
                       g->value_count);
    }
    *out = g->values[index].v;
    return QD_OK;
}

qd_status qd_gguf_find(const qd_gguf *g, const char *key, qd_gguf_value *out) {
    if (!g || !key || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_find: file, key and out must not be NULL");
    const qd_string *found = qd_gguf_index_find(g->value_index, g->value_count, (qd_string){key, strlen(key)});
    if (!found) return qd_fail(QD_ERR_FILE, "GGUF: the file has no key '%.80s' (another kind of model?)", key);
    *out = ((const gguf_value *)(const void *)found)->v;
    return QD_OK;
}

/* Finds the entry that a caller's copy was made from, by where its key lies in the file: keys stand in file order. */
static const gguf_value *find_entry(const qd_gguf *g, const qd_gguf_value *v) {
    size_t low = 0, high = g->value_count;
    uintptr_t wanted = (uintptr_t)v->key.data;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uintptr_t key = (uintptr_t)g->values[middle].v.key.data;
        if (key == wanted) return &g->values[middle];
        if (key < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* Checks a get_* call and finds the bytes of the item: a number, or a string's length field. Nothing in *v is trusted
 * but its key. */
static qd_status find_item(const qd_gguf *g, const qd_gguf_value *v, uint64_t item, const void *out, qd_gguf_type *type,
                           const uint8_t **at) {
    if (!g || !v || !out) return qd_fail(QD_ERR_ARGUMENT, "GGUF: file, value and out must not be NULL");
    const gguf_value *e = find_entry(g, v);
    if (!e) return qd_fail(QD_ERR_ARGUMENT, "GGUF: the value is not one of this file's; get it with qd_gguf_find");
    if (item >= e->v.count) {
        return qd_fail(QD_ERR_FILE, "GGUF: key '%.*s' has %" PRIu64 " items, item %" PRIu64 " was asked for",
                       qd_gguf_shown(e->v.key), e->v.key.data, e->v.count, item);
    }
    *type = e->v.item_type;
    *at = e->items + (e->offsets ? (size_t)e->offsets[item] : (size_t)item * qd_gguf_type_bytes(*type));
    return QD_OK;
}

static qd_status wrong_type(const qd_gguf_value *v, qd_gguf_type has, const char *wanted) {
    return qd_fail(QD_ERR_FILE, "GGUF: key '%.*s' is of the type %s, expected %s", qd_gguf_shown(v->key), v->key.data,
                   type_name(has), wanted);
}

/* The number in `bytes` (1 … 8) bytes, read as two's complement. */
static int64_t read_signed(const uint8_t *at, size_t bytes) {
    uint64_t x = qd_gguf_little(at, bytes);
    uint64_t sign = UINT64_C(1) << (8 * bytes - 1);
    return x & sign ? -(int64_t)((sign << 1) - 1 - x) - 1 : (int64_t)x;
}

qd_status qd_gguf_get_int(const qd_gguf *g, const qd_gguf_value *v, uint64_t item, int64_t *out) {
    qd_gguf_type type;
    const uint8_t *at;
    qd_status status = find_item(g, v, item, out, &type, &at);
    if (status != QD_OK) return status;
    size_t bytes = qd_gguf_type_bytes(type);
    switch (type) {
        case QD_GGUF_I8:
        case QD_GGUF_I16:
        case QD_GGUF_I32:
        case QD_GGUF_I64:
            *out = read_signed(at, bytes);
            return QD_OK;
        case QD_GGUF_U8:
        case QD_GGUF_U16:
        case QD_GGUF_U32:
        case QD_GGUF_U64:
        case QD_GGUF_BOOL:
            break;
        default:
            return wrong_type(v, type, "an integer");
    }
    uint64_t x = qd_gguf_little(at, bytes);
    if (x > INT64_MAX) {
        return qd_fail(QD_ERR_FILE, "GGUF: key '%.*s' has the value %" PRIu64 ", too large for a signed integer",
                       qd_gguf_shown(v->key), v->key.data, x);
    }
    *out = (int64_t)x;
    return QD_OK;
}

qd_status qd_gguf_get_double(const qd_gguf *g, const qd_gguf_value *v, uint64_t item, double *out) {
    qd_gguf_type type;
    const uint8_t *at;
    qd_status status = find_item(g, v, item, out, &type, &at);
    if (status != QD_OK) return status;
    size_t bytes = qd_gguf_type_bytes(type);
    uint64_t bits = qd_gguf_little(at, bytes);
    uint32_t bits32 = (uint32_t)bits;
    float f;
    switch (type) {
        case QD_GGUF_I8:
        case QD_GGUF_I16:
        case QD_GGUF_I32:
        case QD_GGUF_I64:
            *out = (double)read_signed(at, bytes);
            return QD_OK;
        case QD_GGUF_U8:
        case QD_GGUF_U16:
        case QD_GGUF_U32:
        case QD_GGUF_U64:
            *out = (double)bits;
            return QD_OK;
        case QD_GGUF_F32:
            memcpy(&f, &bits32, sizeof f);
            *out = (double)f;
            return QD_OK;
        case QD_GGUF_F64:
            memcpy(out, &bits, sizeof *out);
            return QD_OK;
        default:
            return wrong_type(v, type, "a number");
    }
}

qd_status qd_gguf_get_string(const qd_gguf *g, const qd_gguf_value *v, uint64_t item, qd_string *out) {
    qd_gguf_type type;
    const uint8_t *at;
    qd_status status = find_item(g, v, item, out, &type, &at);
    if (status != QD_OK) return status;
    if (type != QD_GGUF_STRING) return wrong_type(v, type, "a string");
    *out = (qd_string){(const char *)at + 8, (size_t)qd_gguf_little(at, 8)};
    return QD_OK;
}

/* ---- Tensors ------------------------------------------------------------------------------------------------ */

uint64_t qd_gguf_tensor_count(const qd_gguf *g) {
    return g ? g->tensor_count : 0;
}

qd_status qd_gguf_tensor_at(const qd_gguf *g, uint64_t index, qd_gguf_tensor *out) {
    if (!g || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_tensor_at: file and out must not be NULL");
    if (index >= g->tensor_count) {
        return qd_fail(QD_ERR_ARGUMENT, "GGUF: tensor %" PRIu64 " was asked for, but the file has %zu", index,
                       g->tensor_count);
    }
    *out = g->tensors[index].t;
    return QD_OK;
}

qd_status qd_gguf_tensor_find(const qd_gguf *g, const char *name, qd_gguf_tensor *out) {
    if (!g || !name || !out)
        return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_tensor_find: file, name and out must not be NULL");
    const qd_string *found = qd_gguf_index_find(g->tensor_index, g->tensor_count, (qd_string){name, strlen(name)});
    if (!found) return qd_fail(QD_ERR_FILE, "GGUF: the file has no tensor '%.80s' (another kind of model?)", name);
    *out = ((const gguf_tensor *)(const void *)found)->t;
    return QD_OK;
}
