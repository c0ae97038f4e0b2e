/* Reads a GGUF v2 or v3 image. Nothing in the file is believed: every length is compared with the bytes that are left
 * before it is used, and no allocation is larger than a small multiple of the bytes that were really there.
 *
 * Layout (source: the GGUF specification in ggml's docs/gguf.md), all little endian:
 *   "GGUF" u32:version u64:tensors u64:values
 *   values:  string:key u32:type value          string = u64:size bytes; array = u32:type u64:count items
 *   tensors: string:name u32:rank u64[rank]:dimensions (innermost first) u32:type u64:offset
 *   padding to general.alignment (32 if absent), then the data section that the offsets count from
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/format.h"
#include "core/status.h"
#include "model/gguf.h"

#define DEFAULT_ALIGNMENT 32
/* The specification asks for a multiple of 8; it also keeps every tensor's numbers aligned in memory. */
#define MIN_ALIGNMENT 8
#define MAX_NAME_BYTES 65535
/* The fewest bytes that one entry takes in the file, with a name of one byte. */
#define MIN_VALUE_BYTES (8 + 1 + 4 + 1)
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 4 + 8)
#define HEADER_BYTES 24

typedef struct reader {
    const uint8_t *data;
    size_t size;
    size_t at;
} reader;

static size_t left(const reader *r) {
    return r->size - r->at;
}

static qd_status beyond(const char *what, size_t at) {
    return qd_fail(QD_ERR_FILE, "GGUF: %s at byte %zu ends beyond the file (file truncated? fetch it again)", what, at);
}

static qd_status read_number(reader *r, const char *what, size_t bytes, uint64_t *out) {
    if (bytes > left(r)) return beyond(what, r->at);
    *out = qd_gguf_little(r->data + r->at, bytes);
    r->at += bytes;
    return QD_OK;
}

static qd_status read_string(reader *r, const char *what, qd_string *out) {
    size_t at = r->at;
    uint64_t size = 0;
    qd_status status;
    QD_TRY(read_number(r, what, 8, &size));
    if (size > left(r)) return beyond(what, at);
    out->data = (const char *)r->data + r->at;
    out->size = (size_t)size;
    r->at += (size_t)size;
error:
    return status;
}

/* Offset of the first byte that is not part of printable UTF-8 text; s.size when there is none. */
static size_t find_bad_text(qd_string s) {
    const uint8_t *p = (const uint8_t *)s.data;
    size_t i = 0;
    while (i < s.size) {
        uint8_t c = p[i];
        size_t more = c < 0x80 ? 0 : (c & 0xE0) == 0xC0 ? 1 : (c & 0xF0) == 0xE0 ? 2 : (c & 0xF8) == 0xF0 ? 3 : s.size;
        if (c < 0x20 || c == 0x7F || more >= s.size - i) return i;
        static const uint32_t smallest[4] = {0, 0x80, 0x800, 0x10000};
        uint32_t code = more ? c & (0x3Fu >> more) : c;
        for (size_t k = 1; k <= more; k++) {
            if ((p[i + k] & 0xC0) != 0x80) return i;
            code = code << 6 | (p[i + k] & 0x3Fu);
        }
        if (code < smallest[more] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return i;
        i += more + 1;
    }
    return i;
}

/* Reads the name of a value or tensor. Names are shown in messages and looked up as C strings, so they must be plain
 * text; the length limit is the specification's for keys. */
static qd_status read_name(reader *r, const char *what, qd_string *out) {
    size_t at = r->at;
    qd_string name;
    qd_status status;
    QD_TRY(read_string(r, what, &name));
    if (name.size == 0 || name.size > MAX_NAME_BYTES) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: %s at byte %zu has %zu bytes, expected 1 to %d (damaged file? fetch it again)", what, at,
                       name.size, MAX_NAME_BYTES);
    }
    size_t bad = find_bad_text(name);
    if (bad < name.size) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: %s at byte %zu is not UTF-8 text: byte %zu is 0x%02x (damaged file? fetch it again)",
                       what, at, at + 8 + bad, (unsigned char)name.data[bad]);
    }
    *out = name;
error:
    return status;
}

/* ---- Header ------------------------------------------------------------------------------------------------- */

/* Says what a file without the magic is, where that helps. */
static qd_status foreign(const reader *r) {
    static const struct {
        const char *start, *what;
    } known[] = {
        {"version https://git-lfs", "a Git LFS pointer, not the model: run `git lfs pull`"},
        {"<", "a web page or XML, not the model: check the address it was downloaded from"},
        {"PK\x03\x04", "a zip archive (PyTorch?): convert the model to GGUF"},
        {"lmgg", "an old llama.cpp file (ggml): convert the model to GGUF again"},
        {"fmgg", "an old llama.cpp file (ggmf): convert the model to GGUF again"},
        {"tjgg", "an old llama.cpp file (ggjt): convert the model to GGUF again"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t n = strlen(known[i].start);
        if (r->size >= n && memcmp(r->data, known[i].start, n) == 0) {
            return qd_fail(QD_ERR_FILE, "GGUF: this is %s", known[i].what);
        }
    }
    return qd_fail(QD_ERR_FILE, "GGUF: this is not a GGUF file: it does not begin with \"GGUF\"; give a .gguf model");
}

static qd_status read_header(reader *r, uint32_t *version, uint64_t *tensors, uint64_t *values) {
    if (r->size == 0) return qd_fail(QD_ERR_FILE, "GGUF: the file is empty; fetch it again");
    if (memcmp(r->data, "GGUF", r->size < 4 ? r->size : 4) != 0) return foreign(r);
    if (r->size < HEADER_BYTES) return beyond("header", 0);
    r->at = 4;
    uint64_t v = 0;
    qd_status status;
    QD_TRY(read_number(r, "version", 4, &v));
    if (v != 0 && (v & 0xFFFF) == 0) {
        return qd_fail(QD_ERR_FILE, "GGUF: the file is big endian; convert the model again as little endian");
    }
    if (v == 1) {
        return qd_fail(QD_ERR_FILE, "GGUF: version 1 is not read, only 2 and 3; convert the model again");
    }
    if (v < 2 || v > 3) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: version %" PRIu64 " at byte 4 is not known, only 2 and 3 (damaged or too new?)", v);
    }
    QD_TRY(read_number(r, "number of tensors", 8, tensors));
    QD_TRY(read_number(r, "number of values", 8, values));
    if (*values > left(r) / MIN_VALUE_BYTES) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: the header (byte 16) counts %" PRIu64
                       " values, but only %zu bytes follow (file damaged? fetch it again)",
                       *values, left(r));
    }
    if (*tensors > left(r) / MIN_TENSOR_BYTES) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: the header (byte 8) counts %" PRIu64
                       " tensors, but only %zu bytes follow (file damaged? fetch it again)",
                       *tensors, left(r));
    }
    *version = (uint32_t)v;
error:
    return status;
}

/* Makes room for one more entry, zeroed, after `count` ones. Grows as entries are really read, never by the header's
 * word alone. NULL: no memory, and `entries` is still valid. */
static void *grow(void *entries, size_t count, size_t entry_bytes) {
    /* A power of two (or nothing) is full. */
    if ((count & (count - 1)) == 0) {
        entries = qd_realloc(entries, (count ? 2 * count : 1) * entry_bytes);
        if (!entries) return NULL;
    }
    memset((char *)entries + count * entry_bytes, 0, entry_bytes);
    return entries;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

size_t qd_gguf_type_bytes(qd_gguf_type t) {
    switch (t) {
        case QD_GGUF_U8:
        case QD_GGUF_I8:
        case QD_GGUF_BOOL:
            return 1;
        case QD_GGUF_U16:
        case QD_GGUF_I16:
            return 2;
        case QD_GGUF_U32:
        case QD_GGUF_I32:
        case QD_GGUF_F32:
            return 4;
        case QD_GGUF_U64:
        case QD_GGUF_I64:
        case QD_GGUF_F64:
            return 8;
        case QD_GGUF_STRING:
        case QD_GGUF_ARRAY:
            break;
    }
    return 0;
}

static qd_status read_type(reader *r, qd_string key, qd_gguf_type *out) {
    size_t at = r->at;
    uint64_t type = 0;
    qd_status status;
    QD_TRY(read_number(r, "type of a value", 4, &type));
    if (type > QD_GGUF_F64) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: key '%.*s' has the unknown value type %" PRIu64
                       " at byte %zu (file damaged? fetch it again)",
                       qd_gguf_shown(key), key.data, type, at);
    }
    *out = (qd_gguf_type)type;
error:
    return status;
}

/* Walks over the items of a value and, for an array of strings, notes where each one is. */
static qd_status read_strings(reader *r, gguf_value *e) {
    size_t start = r->at;
    qd_status status = QD_OK;
    /* A string takes 8 bytes at least: the offsets take no more memory than the file's own bytes. */
    if (e->v.count > left(r) / 8) return beyond("array of strings", start);
    if (e->v.type == QD_GGUF_ARRAY && !(e->offsets = qd_alloc((size_t)e->v.count * sizeof *e->offsets))) {
        return QD_ERR_MEMORY;
    }
    for (uint64_t i = 0; i < e->v.count; i++) {
        qd_string ignored;
        if (e->offsets) e->offsets[i] = r->at - start;
        QD_TRY(read_string(r, "string", &ignored));
    }
error:
    return status;
}

static qd_status read_numbers(reader *r, const gguf_value *e) {
    size_t item = qd_gguf_type_bytes(e->v.item_type);
    if (e->v.count > left(r) / item) return beyond(e->v.type == QD_GGUF_ARRAY ? "array" : "value", r->at);
    for (uint64_t i = 0; e->v.item_type == QD_GGUF_BOOL && i < e->v.count; i++) {
        if (e->items[i] > 1) {
            return qd_fail(QD_ERR_FILE, "GGUF: key '%.*s' has the bool %d at byte %zu, expected 0 or 1 (file damaged?)",
                           qd_gguf_shown(e->v.key), e->v.key.data, e->items[i], r->at + (size_t)i);
        }
    }
    r->at += (size_t)e->v.count * item;
    return QD_OK;
}

static qd_status read_value(reader *r, gguf_value *e) {
    qd_gguf_value *v = &e->v;
    qd_status status;
    QD_TRY(read_name(r, "key", &v->key));
    QD_TRY(read_type(r, v->key, &v->type));
    v->item_type = v->type;
    v->count = 1;
    if (v->type == QD_GGUF_ARRAY) {
        size_t at = r->at;
        QD_TRY(read_type(r, v->key, &v->item_type));
        if (v->item_type == QD_GGUF_ARRAY) {
            return qd_fail(QD_ERR_FILE, "GGUF: key '%.*s' is an array of arrays at byte %zu, which is not read",
                           qd_gguf_shown(v->key), v->key.data, at);
        }
        QD_TRY(read_number(r, "length of an array", 8, &v->count));
    }
    e->items = r->data + r->at;
    QD_TRY(v->item_type == QD_GGUF_STRING ? read_strings(r, e) : read_numbers(r, e));
error:
    return status;
}

/* ---- Tensors ------------------------------------------------------------------------------------------------ */

/* Fails with a message about one tensor; `at` is where its entry begins. */
#define TENSOR_FAIL(t, at, text, ...)                                                                               \
    qd_fail(QD_ERR_FILE, "GGUF: tensor '%.*s' (entry at byte %zu) " text, qd_gguf_shown((t)->name), (t)->name.data, \
            at, __VA_ARGS__)

/* Sets t->bytes from the shape; they may still be more than the file has. */
static qd_status measure(qd_gguf_tensor *t, int64_t elements, size_t at) {
    if (t->desc.format == QD_FORMAT_COUNT) return QD_OK;
    const qd_format_info *f = qd_format_get(t->desc.format);
    int64_t cols = t->desc.shape[t->desc.rank - 1];
    if (cols % f->block) {
        return TENSOR_FAIL(t, at, "has rows of %" PRId64 " elements, no whole number of %s blocks of %d", cols, f->name,
                           f->block);
    }
    size_t row = qd_format_row_bytes(t->desc.format, cols);
    if (row == 0 || (uint64_t)(elements / cols) > SIZE_MAX / row) {
        return TENSOR_FAIL(t, at, "has %" PRId64 " elements, too many to address (file damaged?)", elements);
    }
    t->bytes = row * (size_t)(elements / cols);
    return QD_OK;
}

static qd_status read_tensor(reader *r, uint64_t alignment, gguf_tensor *e) {
    qd_gguf_tensor *t = &e->t;
    size_t at = r->at;
    uint64_t rank = 0, type = 0;
    int64_t elements = 1;
    qd_status status;
    QD_TRY(read_name(r, "tensor name", &t->name));
    QD_TRY(read_number(r, "rank of a tensor", 4, &rank));
    if (rank > QD_MAX_RANK) {
        return TENSOR_FAIL(t, at, "has %" PRIu64 " dimensions, at most %d are possible", rank, QD_MAX_RANK);
    }
    /* ggml writes a scalar with rank 0; a desc has at least one dimension. */
    t->desc.rank = rank ? (int)rank : 1;
    t->desc.shape[0] = 1;
    for (size_t i = (size_t)rank; i-- > 0;) {
        uint64_t n = 0;
        QD_TRY(read_number(r, "dimension of a tensor", 8, &n));
        if (n == 0 || n > (uint64_t)(INT64_MAX / elements)) {
            return TENSOR_FAIL(t, at, "has the dimension %" PRIu64 ": %s (file damaged?)", n,
                               n ? "too many elements" : "no elements");
        }
        t->desc.shape[i] = (int64_t)n;
        elements *= (int64_t)n;
    }
    QD_TRY(read_number(r, "type of a tensor", 4, &type));
    QD_TRY(read_number(r, "data offset of a tensor", 8, &e->offset));
    if (e->offset % alignment) {
        return TENSOR_FAIL(t, at, "has the data offset %" PRIu64 ", no multiple of the alignment %" PRIu64, e->offset,
                           alignment);
    }
    t->gguf_type = (uint32_t)type;
    t->desc.format = qd_format_from_gguf(t->gguf_type);
    QD_TRY(measure(t, elements, at));
error:
    return status;
}

/* Points every tensor at its data. Tensors may share bytes; the file says nothing against it. */
static qd_status place_tensors(qd_gguf *g, size_t entries_end, uint64_t alignment) {
    size_t padding = (size_t)(alignment - entries_end % alignment) % (size_t)alignment;
    /* A file without tensors may end without padding. */
    size_t start = padding > g->size - entries_end ? g->size : entries_end + padding;
    size_t have = g->size - start;
    for (size_t i = 0; i < g->tensor_count; i++) {
        qd_gguf_tensor *t = &g->tensors[i].t;
        uint64_t offset = g->tensors[i].offset;
        if (offset > have || t->bytes > have - offset) {
            return qd_fail(QD_ERR_FILE,
                           "GGUF: data of tensor '%.*s' (%zu bytes, %" PRIu64
                           " after byte %zu) ends beyond the file (file truncated? fetch it again)",
                           qd_gguf_shown(t->name), t->name.data, t->bytes, offset, start);
        }
        if (t->desc.format != QD_FORMAT_COUNT) t->data = g->data + start + (size_t)offset;
    }
    return QD_OK;
}

/* ---- Lookup by name ----------------------------------------------------------------------------------------- */

static int compare_text(qd_string a, qd_string b) {
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* Equal names in file order, so that the message about a duplicate does not depend on the sort. */
static int compare_names(const void *a, const void *b) {
    const qd_string *x = *(const qd_string *const *)a, *y = *(const qd_string *const *)b;
    int order = compare_text(*x, *y);
    return order ? order : (x > y) - (x < y);
}

/* Sorts pointers to the names, which are the entries' first members, and refuses duplicates. */
static qd_status make_index(const qd_gguf *g, const void *entries, size_t count, size_t entry_bytes, const char *what,
                            const qd_string ***out) {
    const qd_string **index = qd_alloc(count * sizeof *index);
    if (!index) return QD_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        index[i] = (const qd_string *)(const void *)((const char *)entries + i * entry_bytes);
    }
    qsort(index, count, sizeof *index, compare_names);
    *out = index;
    for (size_t i = 1; i < count; i++) {
        const qd_string *a = index[i - 1], *b = index[i];
        if (compare_text(*a, *b) == 0) {
            return qd_fail(QD_ERR_FILE, "GGUF: %s '%.*s' appears twice, at bytes %zu and %zu", what, qd_gguf_shown(*a),
                           a->data, (size_t)(a->data - (const char *)g->data) - 8,
                           (size_t)(b->data - (const char *)g->data) - 8);
        }
    }
    return QD_OK;
}

const qd_string *qd_gguf_index_find(const qd_string *const *index, size_t count, qd_string name) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_text(*index[middle], name);
        if (order == 0) return index[middle];
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* ---- The whole ---------------------------------------------------------------------------------------------- */

static qd_status find_alignment(const qd_gguf *g, uint64_t *out) {
    static const char key[] = "general.alignment";
    const qd_string *found = qd_gguf_index_find(g->value_index, g->value_count, (qd_string){key, sizeof key - 1});
    if (!found) {
        *out = DEFAULT_ALIGNMENT;
        return QD_OK;
    }
    const gguf_value *e = (const gguf_value *)(const void *)found;
    size_t at = (size_t)(e->items - g->data);
    if (e->v.type != QD_GGUF_U32) return qd_fail(QD_ERR_FILE, "GGUF: %s at byte %zu is not of the type u32", key, at);
    uint64_t x = qd_gguf_little(e->items, 4);
    if (x < MIN_ALIGNMENT || (x & (x - 1))) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: %s at byte %zu is %" PRIu64 ", expected a power of two from %d (file damaged?)", key, at,
                       x, MIN_ALIGNMENT);
    }
    *out = x;
    return QD_OK;
}

qd_status qd_gguf_read(qd_gguf *g) {
    reader r = {g->data, g->size, 0};
    uint64_t tensors = 0, values = 0, alignment = 0;
    qd_status status;
    QD_TRY(read_header(&r, &g->version, &tensors, &values));
    for (uint64_t i = 0; i < values; i++) {
        gguf_value *grown = grow(g->values, g->value_count, sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        g->values = grown;
        QD_TRY(read_value(&r, &grown[g->value_count++]));
    }
    QD_TRY(make_index(g, g->values, g->value_count, sizeof *g->values, "key", &g->value_index));
    QD_TRY(find_alignment(g, &alignment));
    for (uint64_t i = 0; i < tensors; i++) {
        gguf_tensor *grown = grow(g->tensors, g->tensor_count, sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        g->tensors = grown;
        QD_TRY(read_tensor(&r, alignment, &grown[g->tensor_count++]));
    }
    QD_TRY(make_index(g, g->tensors, g->tensor_count, sizeof *g->tensors, "tensor", &g->tensor_index));
    QD_TRY(place_tensors(g, r.at, alignment));
error:
    return status;
}
