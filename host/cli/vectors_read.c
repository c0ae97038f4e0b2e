/* Reads golden vectors, and believes nothing in their manifests that it has not checked. Memory comes from
 * cJSON_malloc, so that a test which makes that fail reaches everything. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/vectors.h"

#define MAX_FILES 4
#define ALIGNMENT 16

typedef struct data_file {
    char name[64];
    char *owned;
    const char *data;
    size_t bytes;
} data_file;

struct qd_vec_storage {
    qd_vectors group;
    cJSON *manifest;
    qd_vec_case *cases;
    qd_vec_tensor *tensors; /* of all cases, in their order */
    data_file files[MAX_FILES];
    int file_count;
    const char *folder; /* only while opening */
    bool in_memory;     /* files[0] stands for every file, and is borrowed */
};
typedef struct qd_vec_storage storage;

static const struct {
    const char *name;
    size_t bytes;
} dtypes[QD_VEC_DTYPE_COUNT] = {
    [QD_VEC_F64] = {"f64", 8}, [QD_VEC_F32] = {"f32", 4}, [QD_VEC_F16] = {"f16", 2}, [QD_VEC_BF16] = {"bf16", 2},
    [QD_VEC_U8] = {"u8", 1},   [QD_VEC_I8] = {"i8", 1},   [QD_VEC_U16] = {"u16", 2}, [QD_VEC_I16] = {"i16", 2},
    [QD_VEC_U32] = {"u32", 4}, [QD_VEC_I32] = {"i32", 4}, [QD_VEC_I64] = {"i64", 8},
};

size_t qd_vec_dtype_bytes(qd_vec_dtype t) {
    return dtypes[t].bytes;
}

const char *qd_vec_dtype_name(qd_vec_dtype t) {
    return dtypes[t].name;
}

/* ---- Messages and memory ------------------------------------------------------------------------------------ */

static _Thread_local char message[512];

qd_status qd_vec_fail(qd_status s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return s;
}

const char *qd_vec_message(void) {
    return message;
}

static void *allocate(size_t count, size_t bytes) {
    size_t total;
    void *p = NULL;
    if (!__builtin_mul_overflow(count, bytes, &total)) p = cJSON_malloc(total ? total : 1);
    if (p) return memset(p, 0, total);
    qd_vec_fail(QD_ERR_MEMORY, "out of memory while reading golden vectors");
    return NULL;
}

/* ---- Files -------------------------------------------------------------------------------------------------- */

/* Reads a whole file into *data, to be freed with cJSON_free. */
static qd_status read_file(const char *folder, const char *name, char **data, size_t *bytes) {
    char path[512];
    struct stat facts;
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path) return qd_vec_fail(QD_ERR_IO, "path too long: %.64s...", path);
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &facts) != 0 || !S_ISREG(facts.st_mode)) {
        if (f) fclose(f);
        return qd_vec_fail(QD_ERR_IO, "cannot read '%.400s': there is no such file", path);
    }
    qd_status status = QD_OK;
    const size_t size = (size_t)facts.st_size;
    char *buffer = allocate(size, 1);
    if (!buffer) {
        status = QD_ERR_MEMORY;
    } else if (fread(buffer, 1, size, f) != size) {
        status = qd_vec_fail(QD_ERR_IO, "cannot read '%.400s' to its end", path);
        cJSON_free(buffer);
    } else {
        *data = buffer;
        *bytes = size;
    }
    fclose(f);
    return status;
}

/* The data file of that name, read when it is first asked for. */
static qd_status find_file(storage *s, const char *name, const data_file **out) {
    if (s->in_memory) {
        *out = &s->files[0];
        return QD_OK;
    }
    for (int i = 0; i < s->file_count; i++) {
        if (strcmp(s->files[i].name, name) == 0) {
            *out = &s->files[i];
            return QD_OK;
        }
    }
    data_file *file = &s->files[s->file_count];
    if (strchr(name, '/') || strlen(name) >= sizeof file->name || s->file_count == MAX_FILES) {
        return qd_vec_fail(QD_ERR_FILE, "\"%.64s\" cannot be a data file: a plain name, at most %d files", name,
                           MAX_FILES);
    }
    const qd_status status = read_file(s->folder, name, &file->owned, &file->bytes);
    if (status != QD_OK) return status;
    file->data = file->owned;
    memcpy(file->name, name, strlen(name) + 1);
    s->file_count++;
    *out = file;
    return QD_OK;
}

/* ---- Manifest ----------------------------------------------------------------------------------------------- */

/* A string member; NULL when it is missing or something else. */
static const char *text_of(const cJSON *object, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

/* Names are shown to people and in JSON: no control characters. */
static bool can_be_shown(const char *text) {
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) return false;
    }
    return true;
}

/* The name of a group: printable ASCII without slashes. */
static bool is_group_name(const char *text) {
    if (!*text) return false;
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~' || *text == '/') return false;
    }
    return true;
}

/* Turns a number into a count; false unless it is an integer from 0 to 2^53. */
static bool count_of(const cJSON *number, int64_t *out) {
    if (!cJSON_IsNumber(number)) return false;
    const double d = number->valuedouble;
    if (!(d >= 0 && d <= 9007199254740992.0) || d != floor(d)) return false;
    *out = (int64_t)d;
    return true;
}

static bool shape_of(const cJSON *shape, qd_vec_tensor *t) {
    const cJSON *item;
    if (!cJSON_IsArray(shape)) return false;
    t->rank = 0;
    t->count = 1;
    cJSON_ArrayForEach(item, shape) {
        int64_t d;
        if (t->rank == QD_VEC_MAX_RANK || !count_of(item, &d)) return false;
        if (__builtin_mul_overflow(t->count, d, &t->count)) return false;
        t->shape[t->rank++] = d;
    }
    return true;
}

static qd_status parse_tensor(storage *s, const char *case_name, const cJSON *json, qd_vec_tensor *t) {
    const char *file_name = text_of(json, "file"), *dtype = text_of(json, "dtype"), *endian = text_of(json, "endian");
    const data_file *file = NULL;
    int64_t offset, bytes, expected;
    t->json = json;
    t->name = text_of(json, "name");
    t->logical = text_of(json, "logical");
    if (!t->name || !can_be_shown(t->name) || !file_name || !dtype || !endian || strcmp(endian, "little") != 0) {
        return qd_vec_fail(QD_ERR_FILE, "%.64s: a tensor lacks name, file, dtype, or endian \"little\"", case_name);
    }
    int k = 0;
    while (k < QD_VEC_DTYPE_COUNT && strcmp(dtype, dtypes[k].name) != 0) {
        k++;
    }
    if (k == QD_VEC_DTYPE_COUNT) {
        return qd_vec_fail(QD_ERR_FILE, "%.64s: %.32s has the unknown dtype %.16s", case_name, t->name, dtype);
    }
    t->dtype = (qd_vec_dtype)k;
    if (!shape_of(cJSON_GetObjectItemCaseSensitive(json, "shape"), t) ||
        !count_of(cJSON_GetObjectItemCaseSensitive(json, "offset"), &offset) ||
        !count_of(cJSON_GetObjectItemCaseSensitive(json, "nbytes"), &bytes) ||
        __builtin_mul_overflow(t->count, (int64_t)dtypes[k].bytes, &expected) || bytes != expected) {
        return qd_vec_fail(QD_ERR_FILE, "%.64s: shape, offset and nbytes of %.32s do not fit together", case_name,
                           t->name);
    }
    const qd_status status = find_file(s, file_name, &file);
    if (status != QD_OK) return status;
    if (offset % ALIGNMENT != 0 || (uint64_t)offset > file->bytes || (uint64_t)bytes > file->bytes - (uint64_t)offset) {
        return qd_vec_fail(QD_ERR_FILE, "%.64s: %.32s lies outside %.32s or not at a multiple of %d", case_name,
                           t->name, file_name, ALIGNMENT);
    }
    t->bytes = (size_t)bytes;
    t->data = file->data + offset;
    return QD_OK;
}

/* Parses a case; its tensors go to *next and on. */
static qd_status parse_case(storage *s, const cJSON *json, qd_vec_case *c, qd_vec_tensor **next) {
    const char *expect = text_of(json, "expect");
    const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(json, "inputs");
    const cJSON *outputs = cJSON_GetObjectItemCaseSensitive(json, "outputs");
    const cJSON *item;
    c->json = json;
    c->name = text_of(json, "name");
    c->op = text_of(json, "op");
    c->format = text_of(json, "format");
    c->error = text_of(json, "error");
    c->attrs = cJSON_GetObjectItemCaseSensitive(json, "attrs");
    if (!c->name || !c->op || !expect || !cJSON_IsObject(c->attrs) || !cJSON_IsArray(inputs) ||
        !cJSON_IsArray(outputs)) {
        return qd_vec_fail(QD_ERR_FILE, "case %d (%.64s) lacks name, op, expect, attrs, inputs or outputs",
                           (int)(c - s->cases), c->name ? c->name : "?");
    }
    if (!can_be_shown(c->name) || !can_be_shown(c->op) || (c->format && !can_be_shown(c->format))) {
        return qd_vec_fail(QD_ERR_FILE, "case %d: control characters in a name", (int)(c - s->cases));
    }
    c->must_fail = strcmp(expect, "error") == 0;
    if (!c->must_fail && strcmp(expect, "ok") != 0) {
        return qd_vec_fail(QD_ERR_FILE, "%.64s: expect is \"%.32s\", not ok or error", c->name, expect);
    }
    c->inputs = *next;
    cJSON_ArrayForEach(item, inputs) {
        const qd_status status = parse_tensor(s, c->name, item, (*next)++);
        if (status != QD_OK) return status;
        c->input_count++;
    }
    c->outputs = *next;
    cJSON_ArrayForEach(item, outputs) {
        const qd_status status = parse_tensor(s, c->name, item, (*next)++);
        if (status != QD_OK) return status;
        c->output_count++;
    }
    return QD_OK;
}

static qd_status parse_manifest(storage *s) {
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(s->manifest, "format_version");
    const cJSON *cases = cJSON_GetObjectItemCaseSensitive(s->manifest, "cases");
    const cJSON *item;
    int64_t stated, tensors = 0;
    s->group.group = text_of(s->manifest, "group");
    if (!cJSON_IsNumber(version) || version->valuedouble != 1 || !s->group.group || !is_group_name(s->group.group) ||
        !cJSON_IsArray(cases)) {
        return qd_vec_fail(QD_ERR_FILE, "%.128s/cases.json: no manifest of format_version 1", s->folder);
    }
    const int count = cJSON_GetArraySize(cases);
    if (!count_of(cJSON_GetObjectItemCaseSensitive(s->manifest, "case_count"), &stated) || stated != count) {
        return qd_vec_fail(QD_ERR_FILE, "%.128s/cases.json: %d cases, which is not its case_count", s->folder, count);
    }
    cJSON_ArrayForEach(item, cases) {
        tensors += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(item, "inputs"));
        tensors += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(item, "outputs"));
    }
    s->cases = allocate((size_t)count, sizeof *s->cases);
    s->tensors = allocate((size_t)tensors, sizeof *s->tensors);
    if (!s->cases || !s->tensors) return QD_ERR_MEMORY;
    qd_vec_tensor *next = s->tensors;
    cJSON_ArrayForEach(item, cases) {
        const qd_status status = parse_case(s, item, &s->cases[s->group.case_count], &next);
        if (status != QD_OK) return status;
        s->group.case_count++;
    }
    s->group.cases = s->cases;
    return QD_OK;
}

/* Parses into `s`, which it frees on failure. */
static qd_status parse(storage *s, const char *text, size_t bytes, qd_vectors **out) {
    s->manifest = cJSON_ParseWithLength(text, bytes);
    const qd_status status =
        s->manifest ? parse_manifest(s) : qd_vec_fail(QD_ERR_FILE, "%.128s/cases.json is no JSON", s->folder);
    if (status != QD_OK) {
        qd_vectors_free(&s->group);
        return status;
    }
    s->folder = NULL;
    *out = &s->group;
    return QD_OK;
}

static storage *new_storage(const char *folder) {
    storage *s = allocate(1, sizeof *s);
    if (!s) return NULL;
    s->group.storage = s;
    s->folder = folder;
    return s;
}

qd_status qd_vectors_open(const char *folder, qd_vectors **out) {
    char *text = NULL;
    size_t bytes = 0;
    storage *s = new_storage(folder);
    if (!s) return QD_ERR_MEMORY;
    qd_status status = read_file(folder, "cases.json", &text, &bytes);
    if (status == QD_OK) {
        status = parse(s, text, bytes, out);
    } else {
        qd_vectors_free(&s->group);
    }
    cJSON_free(text);
    return status;
}

qd_status qd_vectors_parse(const char *manifest, size_t manifest_bytes, const void *data, size_t bytes,
                           qd_vectors **out) {
    storage *s = new_storage("memory");
    if (!s) return QD_ERR_MEMORY;
    s->in_memory = true;
    s->files[0].data = data;
    s->files[0].bytes = bytes;
    return parse(s, manifest, manifest_bytes, out);
}

void qd_vectors_free(qd_vectors *v) {
    if (!v) return;
    storage *s = v->storage;
    for (int i = 0; i < s->file_count; i++) {
        cJSON_free(s->files[i].owned);
    }
    cJSON_free(s->tensors);
    cJSON_free(s->cases);
    cJSON_Delete(s->manifest);
    cJSON_free(s);
}

/* ---- Access ------------------------------------------------------------------------------------------------- */

static const qd_vec_tensor *find_tensor(const qd_vec_tensor *t, int count, const char *name) {
    for (int i = 0; i < count; i++) {
        if (strcmp(t[i].name, name) == 0) return &t[i];
    }
    return NULL;
}

const qd_vec_tensor *qd_vec_input(const qd_vec_case *c, const char *name) {
    return find_tensor(c->inputs, c->input_count, name);
}

const qd_vec_tensor *qd_vec_output(const qd_vec_case *c, const char *name) {
    return find_tensor(c->outputs, c->output_count, name);
}

bool qd_vec_tagged(const qd_vec_case *c, const char *tag) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(c->json, "tags")) {
        if (cJSON_IsString(item) && strcmp(item->valuestring, tag) == 0) return true;
    }
    return false;
}
