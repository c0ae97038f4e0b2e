/* Reads safetensors files. Nothing in them is believed before it is checked.
 *
 * Layout (source: the format's description in its repository): u64 size of the header, little endian; the header, a
 * JSON object that maps names to {"dtype", "shape", "data_offsets": [begin, end]} and "__metadata__" to texts; the
 * data, which the offsets count from. Data of tensors neither overlap nor leave holes. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/gguf.h"
#include "model/safetensors.h"

enum { MAX_HEADER = 100000000 /* as the reference reader has it */ };

struct qd_safetensors {
    const uint8_t *data; /* of the file */
    size_t size;
    bool mapped;
    cJSON *header; /* owns names and types */
    qd_safetensor *tensors;
    int64_t count;
};

size_t qd_safetensors_type_bytes(const char *type) {
    static const struct {
        const char *name;
        size_t bytes;
    } types[] = {{"F64", 8},     {"I64", 8},     {"U64", 8},  {"F32", 4}, {"I32", 4},
                 {"U32", 4},     {"F16", 2},     {"BF16", 2}, {"I16", 2}, {"U16", 2},
                 {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I8", 1},   {"U8", 1},  {"BOOL", 1}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (!strcmp(types[i].name, type)) return types[i].bytes;
    }
    return 0;
}

/* ---- The header --------------------------------------------------------------------------------------------- */

/* A whole number that a double holds exactly. */
static bool read_whole(const cJSON *o, int64_t *out) {
    const double v = cJSON_IsNumber(o) ? o->valuedouble : -1;
    if (!(v >= 0 && v <= 0x1p53) || v != (double)(int64_t)v) return false;
    *out = (int64_t)v;
    return true;
}

static qd_status read_shape(const cJSON *shape, qd_safetensor *t, uint64_t *elements) {
    const cJSON *n;
    if (!cJSON_IsArray(shape)) return qd_fail(QD_ERR_FILE, "safetensors: tensor '%.80s' has no shape", t->name);
    if (cJSON_GetArraySize(shape) > QD_SAFETENSORS_RANK) {
        return qd_fail(QD_ERR_FILE, "safetensors: tensor '%.80s' has %d dimensions, at most %d are possible", t->name,
                       cJSON_GetArraySize(shape), QD_SAFETENSORS_RANK);
    }
    *elements = 1;
    cJSON_ArrayForEach(n, shape) {
        int64_t *d = &t->shape[t->rank++];
        if (!read_whole(n, d) || __builtin_mul_overflow(*elements, (uint64_t)*d, elements)) {
            return qd_fail(QD_ERR_FILE, "safetensors: tensor '%.80s' has a dimension that is no size (file damaged?)",
                           t->name);
        }
    }
    return QD_OK;
}

static qd_status read_tensor(const cJSON *o, const uint8_t *data, size_t size, qd_safetensor *t) {
    uint64_t elements = 0, bytes = 0;
    int64_t begin, end;
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(o, "data_offsets");
    t->name = o->string;
    t->type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "dtype"));
    if (!t->type || !qd_safetensors_type_bytes(t->type)) {
        return qd_fail(QD_ERR_FILE, "safetensors: tensor '%.80s' is of the type '%.20s', which is not known", t->name,
                       t->type ? t->type : "");
    }
    const qd_status status = read_shape(cJSON_GetObjectItemCaseSensitive(o, "shape"), t, &elements);
    if (status != QD_OK) return status;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !read_whole(cJSON_GetArrayItem(offsets, 0), &begin) || !read_whole(cJSON_GetArrayItem(offsets, 1), &end)) {
        return qd_fail(QD_ERR_FILE, "safetensors: tensor '%.80s' has no pair of data_offsets (file damaged?)", t->name);
    }
    if (begin > end || (uint64_t)end > size) {
        return qd_fail(QD_ERR_FILE,
                       "safetensors: data of tensor '%.80s' (bytes %" PRId64 " to %" PRId64
                       ") end beyond the %zu bytes of data (file truncated? fetch it again)",
                       t->name, begin, end, size);
    }
    if (__builtin_mul_overflow(elements, qd_safetensors_type_bytes(t->type), &bytes) ||
        bytes != (uint64_t)(end - begin)) {
        return qd_fail(QD_ERR_FILE, "safetensors: tensor '%.80s' has %" PRId64 " bytes, not those of its shape",
                       t->name, end - begin);
    }
    t->data = data + begin;
    t->bytes = (size_t)bytes;
    return QD_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const qd_safetensor *)a)->name, ((const qd_safetensor *)b)->name);
}

static int by_place(const void *a, const void *b) {
    const uintptr_t x = (uintptr_t)((const qd_safetensor *)a)->data, y = (uintptr_t)((const qd_safetensor *)b)->data;
    if (x != y) return x < y ? -1 : 1;
    /* Empty ones come first: they end where the next begins. */
    return (((const qd_safetensor *)a)->bytes > 0) - (((const qd_safetensor *)b)->bytes > 0);
}

/* Data neither overlap nor leave holes; then sorts by name, and refuses names that come twice. */
static qd_status check_places(qd_safetensors *s, const uint8_t *data, size_t size) {
    const uint8_t *at = data;
    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_place);
    for (int64_t i = 0; i < s->count; i++) {
        if (s->tensors[i].data != at) {
            return qd_fail(QD_ERR_FILE, "safetensors: data of tensor '%.80s' %s (file damaged?)", s->tensors[i].name,
                           (const uint8_t *)s->tensors[i].data < at ? "overlap another's" : "come after a hole");
        }
        at += s->tensors[i].bytes;
    }
    if (at != data + size) {
        return qd_fail(QD_ERR_FILE, "safetensors: %zu bytes at the end belong to no tensor (file damaged?)",
                       (size_t)(data + size - at));
    }
    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_name);
    for (int64_t i = 1; i < s->count; i++) {
        if (strcmp(s->tensors[i - 1].name, s->tensors[i].name)) continue;
        return qd_fail(QD_ERR_FILE, "safetensors: tensor '%.80s' appears twice", s->tensors[i].name);
    }
    return QD_OK;
}

static qd_status read_header(qd_safetensors *s, size_t header_bytes) {
    const uint8_t *data = s->data + 8 + header_bytes;
    const size_t size = s->size - 8 - header_bytes;
    const char *text = (const char *)s->data + 8, *end = NULL;
    s->header = cJSON_ParseWithLengthOpts(text, header_bytes, &end, 0);
    if (!cJSON_IsObject(s->header)) {
        return qd_fail(QD_ERR_FILE, "safetensors: the header is no JSON object, from byte %zu on (file damaged?)",
                       end ? 8 + (size_t)(end - text) : 8);
    }
    while (end < text + header_bytes && (*end == ' ' || *end == '\n' || *end == 0))
        end++;
    if (end != text + header_bytes) return qd_fail(QD_ERR_FILE, "safetensors: the header goes on behind its object");
    const int entries = cJSON_GetArraySize(s->header);
    s->tensors = qd_alloc_zero((size_t)entries + 1, sizeof *s->tensors);
    if (!s->tensors) return QD_ERR_MEMORY;
    const cJSON *o;
    cJSON_ArrayForEach(o, s->header) {
        if (!strcmp(o->string, "__metadata__")) continue;
        const qd_status status = read_tensor(o, data, size, &s->tensors[s->count]);
        if (status != QD_OK) return status;
        s->count++;
    }
    return check_places(s, data, size);
}

/* ---- Files -------------------------------------------------------------------------------------------------- */

static qd_status parse(qd_safetensors *s) {
    if (s->size < 8) return qd_fail(QD_ERR_FILE, "safetensors: the file has only %zu bytes", s->size);
    const uint64_t header = qd_gguf_little(s->data, 8);
    if (header > MAX_HEADER || header > s->size - 8) {
        return qd_fail(QD_ERR_FILE,
                       "safetensors: the header is said to have %" PRIu64
                       " bytes (not a safetensors file, or truncated?)",
                       header);
    }
    return read_header(s, (size_t)header);
}

static qd_status make(const void *data, size_t bytes, bool mapped, qd_safetensors **out) {
    qd_safetensors *s = qd_alloc_zero(1, sizeof *s);
    if (!s) {
        if (mapped) qd_unmap_file(data, bytes);
        return QD_ERR_MEMORY;
    }
    s->data = data;
    s->size = bytes;
    s->mapped = mapped;
    const qd_status status = parse(s);
    if (status == QD_OK) {
        *out = s;
    } else {
        qd_safetensors_free(s);
    }
    return status;
}

qd_status qd_safetensors_parse(const void *data, size_t bytes, qd_safetensors **out) {
    if ((!data && bytes) || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_safetensors_parse: nothing may be NULL");
    return make(data, bytes, false, out);
}

qd_status qd_safetensors_open(const char *path, qd_safetensors **out) {
    if (!path || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_safetensors_open: path and out must not be NULL");
    const void *data = NULL;
    size_t bytes = 0;
    qd_status status = qd_map_file(path, "a .safetensors file", &data, &bytes);
    if (status != QD_OK) return status;
    status = make(data, bytes, data != NULL, out);
    return status == QD_OK ? QD_OK : qd_fail(status, "%.250s: %s", path, qd_last_message());
}

void qd_safetensors_free(qd_safetensors *s) {
    if (!s) return;
    cJSON_Delete(s->header);
    free(s->tensors);
    if (s->mapped) qd_unmap_file(s->data, s->size);
    free(s);
}

int64_t qd_safetensors_count(const qd_safetensors *s) {
    return s ? s->count : 0;
}

const qd_safetensor *qd_safetensors_at(const qd_safetensors *s, int64_t i) {
    return s && i >= 0 && i < s->count ? &s->tensors[i] : NULL;
}

const qd_safetensor *qd_safetensors_find(const qd_safetensors *s, const char *name) {
    if (!s || !name || !s->count) return NULL;
    return bsearch(&(qd_safetensor){.name = name}, s->tensors, (size_t)s->count, sizeof *s->tensors, by_name);
}
