/* Importance matrices of llama.cpp.
 *
 * The old form, little endian: i32 entries, each i32 length of a name, the name, i32 calls, i32 count, f32[count] sums
 * over the calls; what may follow (the last call, the text's name) is not used. The form in GGUF: general.type is
 * "imatrix", and for each matrix there are tensors NAME.in_sum2, sums of squares, and NAME.counts. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/gguf.h"

typedef struct entry {
    char *name;
    float *values;
    int64_t count;
} entry;

struct qd_imatrix {
    entry *entries;
    int64_t count;
};

static const char suffix[] = ".in_sum2";

/* Adds an entry of values[i] / calls, which begin at any address, or none where there were no calls. */
static qd_status add(qd_imatrix *m, const char *name, size_t name_size, const uint8_t *values, int64_t count,
                     float calls) {
    if (!(calls > 0)) return QD_OK;
    if ((m->count & (m->count - 1)) == 0) { /* a power of two, or none, is full */
        entry *grown = qd_realloc(m->entries, (size_t)(m->count ? 2 * m->count : 1) * sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        m->entries = grown;
    }
    entry *e = &m->entries[m->count];
    *e = (entry){.count = count};
    e->name = qd_alloc(name_size + 1);
    e->values = qd_alloc((size_t)count * sizeof *e->values);
    m->count++;
    if (!e->name || !e->values) return QD_ERR_MEMORY;
    memcpy(e->name, name, name_size);
    e->name[name_size] = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)qd_gguf_little(values + 4 * i, 4);
        float sum;
        memcpy(&sum, &bits, sizeof sum);
        e->values[i] = sum / calls;
        if (!isfinite(e->values[i]) || e->values[i] < 0) {
            return qd_fail(QD_ERR_FILE, "imatrix: '%.80s' has the value %g, expected at least 0 (file damaged?)",
                           e->name, (double)e->values[i]);
        }
    }
    return QD_OK;
}

/* ---- The old form ------------------------------------------------------------------------------------------- */

typedef struct reader {
    const uint8_t *data;
    size_t size, at;
} reader;

static qd_status damaged(const reader *r, const char *what) {
    return qd_fail(QD_ERR_FILE,
                   "imatrix: %s at byte %zu is wrong, or ends beyond the file (not a file of llama-imatrix?)", what,
                   r->at);
}

/* A count from `least` on, of things that take `each` bytes, which must be there. */
static qd_status read_count(reader *r, const char *what, int32_t least, size_t each, int32_t *out) {
    if (r->size - r->at < 4) return damaged(r, what);
    const int64_t n = (int32_t)(uint32_t)qd_gguf_little(r->data + r->at, 4);
    if (n < least || (uint64_t)n * each > r->size - r->at - 4) return damaged(r, what);
    r->at += 4;
    *out = (int32_t)n;
    return QD_OK;
}

static qd_status read_old(qd_imatrix *m, reader *r) {
    int32_t entries = 0;
    qd_status status;
    QD_TRY(read_count(r, "the number of matrices", 1, 13, &entries));
    for (int32_t i = 0; i < entries; i++) {
        int32_t name_size, calls, count;
        QD_TRY(read_count(r, "the length of a name", 1, 1, &name_size));
        const char *name = (const char *)r->data + r->at;
        if (memchr(name, 0, (size_t)name_size)) return damaged(r, "a name");
        r->at += (size_t)name_size;
        QD_TRY(read_count(r, "the number of calls", 0, 0, &calls));
        QD_TRY(read_count(r, "the number of columns", 1, 4, &count));
        QD_TRY(add(m, name, (size_t)name_size, r->data + r->at, count, (float)calls));
        r->at += 4 * (size_t)count;
    }
error:
    return status;
}

/* ---- The form in GGUF --------------------------------------------------------------------------------------- */

static qd_status add_tensor(qd_imatrix *m, const qd_gguf *g, const qd_gguf_tensor *sums) {
    const size_t size = sums->name.size - strlen(suffix);
    char name[128];
    qd_gguf_tensor counts;
    qd_status status;
    if (size + strlen(".counts") >= sizeof name) {
        return qd_fail(QD_ERR_FILE, "imatrix: the name '%.80s…' is too long (file damaged?)", sums->name.data);
    }
    snprintf(name, sizeof name, "%.*s.counts", (int)size, sums->name.data);
    QD_TRY(qd_gguf_tensor_find(g, name, &counts));
    if (sums->desc.format != QD_FORMAT_F32 || counts.desc.format != QD_FORMAT_F32) {
        return qd_fail(QD_ERR_FILE, "imatrix: '%.*s' is not of the type f32 (file damaged?)", (int)size,
                       sums->name.data);
    }
    /* Experts have rows of their own, each with its count: they are known as one long row, which no matrix matches. */
    float calls;
    memcpy(&calls, counts.data, sizeof calls);
    QD_TRY(add(m, sums->name.data, size, sums->data, (int64_t)(sums->bytes / 4), calls));
error:
    return status;
}

static qd_status read_gguf(qd_imatrix *m, const void *data, size_t bytes) {
    qd_gguf *g = NULL;
    qd_gguf_value v;
    qd_string type;
    qd_status status;
    QD_TRY(qd_gguf_parse(data, bytes, &g));
    if (qd_gguf_find(g, "general.type", &v) != QD_OK || qd_gguf_get_string(g, &v, 0, &type) != QD_OK ||
        type.size != 7 || memcmp(type.data, "imatrix", 7) != 0) {
        status = qd_fail(QD_ERR_FILE, "imatrix: this is a GGUF file, but its general.type is not \"imatrix\"");
        goto error;
    }
    for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        QD_TRY(qd_gguf_tensor_at(g, i, &t));
        const size_t n = t.name.size;
        if (n <= strlen(suffix) || memcmp(t.name.data + n - strlen(suffix), suffix, strlen(suffix)) != 0) continue;
        QD_TRY(add_tensor(m, g, &t));
    }
error:
    qd_gguf_free(g);
    return status;
}

/* ---- Both --------------------------------------------------------------------------------------------------- */

qd_status qd_imatrix_parse(const void *data, size_t bytes, qd_imatrix **out) {
    if ((!data && bytes) || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_imatrix_parse: nothing may be NULL");
    if (bytes < 4) return qd_fail(QD_ERR_FILE, "imatrix: the file has only %zu bytes; make it again", bytes);
    qd_imatrix *m = qd_alloc_zero(1, sizeof *m);
    if (!m) return QD_ERR_MEMORY;
    qd_status status;
    QD_TRY(memcmp(data, "GGUF", 4) ? read_old(m, &(reader){data, bytes, 0}) : read_gguf(m, data, bytes));
    *out = m;
    return QD_OK;
error:
    qd_imatrix_free(m);
    return status;
}

qd_status qd_imatrix_open(const char *path, qd_imatrix **out) {
    if (!path || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_imatrix_open: path and out must not be NULL");
    const void *data = NULL;
    size_t bytes = 0;
    qd_status status = qd_map_file(path, "a file of llama-imatrix", &data, &bytes);
    if (status != QD_OK) return status;
    status = qd_imatrix_parse(data, bytes, out);
    qd_unmap_file(data, bytes);
    return status == QD_OK ? QD_OK : qd_fail(status, "%.250s: %s", path, qd_last_message());
}

void qd_imatrix_free(qd_imatrix *m) {
    if (!m) return;
    for (int64_t i = 0; i < m->count; i++) {
        free(m->entries[i].name);
        free(m->entries[i].values);
    }
    free(m->entries);
    free(m);
}

int64_t qd_imatrix_count(const qd_imatrix *m) {
    return m ? m->count : 0;
}

qd_status qd_imatrix_find(const qd_imatrix *m, const char *name, int64_t cols, const float **values) {
    if (!m || !name || !values) return qd_fail(QD_ERR_ARGUMENT, "qd_imatrix_find: nothing may be NULL");
    *values = NULL;
    for (int64_t i = 0; i < m->count; i++) {
        const entry *e = &m->entries[i];
        if (strcmp(e->name, name)) continue;
        if (e->count != cols) {
            return qd_fail(QD_ERR_FILE,
                           "imatrix: '%.80s' has %" PRId64 " columns there, but %" PRId64
                           " in the model; it was made from another model",
                           name, e->count, cols);
        }
        *values = e->values;
        return QD_OK;
    }
    return QD_OK;
}
