#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/gguf.h"
#include "qdot/qdot_num.h"

enum { MOST_RANK = 1 << 16 };

struct qd_branch {
    qd_tensor *a, *b; /* bf16 [rank, cols] and [rows, rank] */
    uint16_t *data;   /* of both */
    float scale;
    const char *name_a, *name_b; /* of the tensors, in the file */
};

typedef struct adapter {
    const qd_gguf *file;
    double scale; /* times alpha; to be divided by the rank */
} adapter;

struct qd_lora {
    adapter *adapters;
    int count;
    qd_branch *branches; /* those of one matrix side by side */
    uint64_t n_branches;
};

/* ---- What adapters say of themselves ------------------------------------------------------------------------ */

/* A key must hold a text. Absent, it is `fallback`. */
static qd_status read_text(const qd_gguf *g, const char *key, const char *fallback, qd_string *out) {
    qd_gguf_value v;
    *out = (qd_string){fallback, strlen(fallback)};
    return qd_gguf_find(g, key, &v) == QD_OK ? qd_gguf_get_string(g, &v, 0, out) : QD_OK;
}

static bool same_text(qd_string a, qd_string b) {
    return a.size == b.size && !memcmp(a.data, b.data, a.size);
}

static qd_status check_text(const qd_gguf *g, const char *key, qd_string want, const char *advice) {
    qd_string have;
    const qd_status status = read_text(g, key, "", &have);
    if (status || same_text(have, want)) return status;
    return qd_fail(QD_ERR_FILE, "the adapter's %s is \"%.*s\", not \"%.*s\": %s", key, qd_gguf_shown(have), have.data,
                   qd_gguf_shown(want), want.data, advice);
}

static qd_status open_adapter(const qd_model *m, const qd_adapter *from, adapter *out) {
    qd_gguf_value v;
    qd_string architecture;
    double alpha;
    qd_status status = QD_OK;
    if (!from->file || !isfinite(from->scale))
        return qd_fail(QD_ERR_ARGUMENT, "an adapter needs a file and a finite scale");
    QD_TRY(check_text(from->file, "general.type", (qd_string){"adapter", 7}, "give a LoRA adapter, not a model"));
    QD_TRY(check_text(from->file, "adapter.type", (qd_string){"lora", 4}, "only LoRA adapters are known"));
    QD_TRY(read_text(m->file, "general.architecture", "", &architecture));
    QD_TRY(check_text(from->file, "general.architecture", architecture, "it was made for another kind of model"));
    if (qd_gguf_find(from->file, "adapter.alora.invocation_tokens", &v) == QD_OK) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "the adapter is for the tokens after an invocation only (aLoRA), which is not "
                       "known");
    }
    if (qd_gguf_find(from->file, "adapter.lora.alpha", &v) != QD_OK) {
        return qd_fail(QD_ERR_FILE, "the adapter lacks adapter.lora.alpha, by which its branches are scaled");
    }
    QD_TRY(qd_gguf_get_double(from->file, &v, 0, &alpha));
    if (!isfinite(alpha) || alpha == 0) {
        return qd_fail(QD_ERR_FILE, "the adapter's adapter.lora.alpha is %g; a finite number other than 0 is needed",
                       alpha);
    }
    *out = (adapter){.file = from->file, .scale = (double)from->scale * alpha};
error:
    return status;
}

qd_status qd_lora_open(qd_model *m, const qd_adapter adapters[], int count) {
    uint64_t most = 0;
    if (count < 0 || (count && !adapters)) return qd_fail(QD_ERR_ARGUMENT, "the adapters of a model must not be NULL");
    if (!count) return QD_OK;
    qd_lora *l = m->lora = qd_alloc_zero(1, sizeof *l);
    if (!l) return QD_ERR_MEMORY;
    l->adapters = qd_alloc_zero((size_t)count, sizeof *l->adapters);
    if (!l->adapters) return QD_ERR_MEMORY;
    for (; l->count < count; l->count++) {
        const qd_status status = open_adapter(m, &adapters[l->count], &l->adapters[l->count]);
        if (status) return status;
        most += qd_gguf_tensor_count(adapters[l->count].file) / 2;
    }
    l->branches = qd_alloc_zero((size_t)most + 1, sizeof *l->branches);
    return l->branches ? QD_OK : QD_ERR_MEMORY;
}

void qd_lora_free(qd_model *m) {
    qd_lora *l = m->lora;
    for (uint64_t i = 0; l && i < l->n_branches; i++) {
        qd_tensor_free(l->branches[i].a);
        qd_tensor_free(l->branches[i].b);
        free(l->branches[i].data);
    }
    if (l) {
        free(l->branches);
        free(l->adapters);
    }
    free(l);
    m->lora = NULL;
}

/* ---- Factors ------------------------------------------------------------------------------------------------ */

/* One of the two factors of a matrix. A single row may have been written without its dimension. */
typedef struct factor {
    char name[128];
    qd_gguf_tensor t;
    bool there;
    int64_t rows, cols;
} factor;

static qd_status find_factor(const qd_gguf *g, const char *matrix, const char *suffix, factor *out) {
    *out = (factor){.there = false};
    snprintf(out->name, sizeof out->name, "%s%s", matrix, suffix);
    if (qd_gguf_tensor_find(g, out->name, &out->t) != QD_OK) return QD_OK;
    const qd_tensor_desc *d = &out->t.desc;
    out->there = true;
    if (d->format == QD_FORMAT_COUNT || qd_format_get(d->format)->kind == QD_KIND_INTEGER) {
        return qd_fail(QD_ERR_UNSUPPORTED, "the adapter's tensor %s has a type that holds no weights (GGUF type %u)",
                       out->name, out->t.gguf_type);
    }
    out->rows = d->rank == 1 ? 1 : d->shape[0];
    out->cols = d->shape[d->rank - 1];
    if (d->rank <= 2) return QD_OK;
    return qd_fail(QD_ERR_FILE, "the adapter's tensor %s has %d dimensions, not 2", out->name, d->rank);
}

static qd_status wrong_shape(const factor *f, const char *name, const qd_weight *w) {
    return qd_fail(QD_ERR_FILE,
                   "the adapter's tensor %s is %lld × %lld, where %s is %lld × %lld: it was made for another model",
                   f->name, (long long)f->rows, (long long)f->cols, name, (long long)w->rows, (long long)w->cols);
}

static qd_status check_pair(const factor *a, const factor *b, const char *name, const qd_weight *w) {
    if (a->there != b->there) {
        return qd_fail(QD_ERR_FILE, "the adapter has %s without %s", (a->there ? a : b)->name,
                       (a->there ? b : a)->name);
    }
    if (a->cols != w->cols) return wrong_shape(a, name, w);
    if (b->rows != w->rows) return wrong_shape(b, name, w);
    if (a->rows != b->cols) {
        return qd_fail(QD_ERR_FILE, "the adapter's tensors %s and %s have the ranks %lld and %lld", a->name, b->name,
                       (long long)a->rows, (long long)b->cols);
    }
    if (a->rows >= 1 && a->rows <= MOST_RANK) return QD_OK;
    return qd_fail(QD_ERR_FILE, "the adapter's tensor %s has the rank %lld; known are 1 … %d", a->name,
                   (long long)a->rows, MOST_RANK);
}

/* A factor's numbers in bf16, which must be finite. */
static qd_status round_factor(const factor *f, uint16_t *out) {
    const size_t row_bytes = qd_format_row_bytes(f->t.desc.format, f->cols);
    float *row = qd_alloc((size_t)f->cols * sizeof *row);
    qd_status status = row ? QD_OK : QD_ERR_MEMORY;
    for (int64_t r = 0; r < f->rows && !status; r++) {
        QD_TRY(qd_dequantize(f->t.desc.format, (const char *)f->t.data + (size_t)r * row_bytes, 1, f->cols, row));
        for (int64_t c = 0; c < f->cols && !status; c++) {
            out[r * f->cols + c] = qd_float_to_bf16(row[c]);
            if (!isfinite(qd_bf16_to_float(out[r * f->cols + c]))) {
                status = qd_fail(QD_ERR_FILE, "the adapter's tensor %s has %g in row %lld, column %lld: no finite bf16",
                                 f->name, (double)row[c], (long long)r, (long long)c);
            }
        }
    }
error:
    free(row);
    return status;
}

static qd_status make_branch(qd_model *m, const adapter *from, const factor *a, const factor *b, qd_branch *out) {
    const size_t of_a = (size_t)a->rows * (size_t)a->cols, of_b = (size_t)b->rows * (size_t)b->cols;
    const qd_tensor_desc a_desc = qd_desc(QD_FORMAT_BF16, a->rows, a->cols, 0, 0);
    const qd_tensor_desc b_desc = qd_desc(QD_FORMAT_BF16, b->rows, b->cols, 0, 0);
    qd_status status = QD_OK;
    out->name_a = a->t.name.data;
    out->name_b = b->t.name.data;
    out->scale = (float)(from->scale / (double)a->rows);
    if (!isfinite(out->scale))
        return qd_fail(QD_ERR_FILE, "the scale of the adapter's tensor %s is too large", a->name);
    out->data = qd_alloc((of_a + of_b) * sizeof *out->data);
    if (!out->data) return QD_ERR_MEMORY;
    QD_TRY(round_factor(a, out->data));
    QD_TRY(round_factor(b, out->data + of_a));
    QD_TRY(qd_tensor_constant(m->context, &a_desc, out->data, &out->a));
    QD_TRY(qd_tensor_constant(m->context, &b_desc, out->data + of_a, &out->b));
error:
    return status;
}

qd_status qd_lora_find(qd_model *m, const char *name, qd_weight *w) {
    qd_lora *l = m->lora;
    qd_status status = QD_OK;
    if (!l) return QD_OK;
    w->branches = l->branches + l->n_branches;
    for (int i = 0; i < l->count; i++) {
        factor a, b;
        QD_TRY(find_factor(l->adapters[i].file, name, ".lora_a", &a));
        QD_TRY(find_factor(l->adapters[i].file, name, ".lora_b", &b));
        if (!a.there && !b.there) continue;
        if (!strcmp(name, "token_embd.weight")) {
            return qd_fail(
                QD_ERR_UNSUPPORTED,
                "the adapter's tensor %s adapts the embedding, which is read row by row; adapters of matrices "
                "are known",
                (a.there ? a : b).name);
        }
        QD_TRY(check_pair(&a, &b, name, w));
        w->n_branches++;
        QD_TRY(make_branch(m, &l->adapters[i], &a, &b, &l->branches[l->n_branches++]));
    }
    m->info.branches = (int64_t)l->n_branches;
error:
    return status;
}

static bool is_found(const qd_lora *l, const char *name) {
    for (uint64_t i = 0; i < l->n_branches; i++) {
        if (l->branches[i].name_a == name || l->branches[i].name_b == name) return true;
    }
    return false;
}

qd_status qd_lora_check(const qd_model *m) {
    for (int i = 0; m->lora && i < m->lora->count; i++) {
        const qd_gguf *file = m->lora->adapters[i].file;
        const uint64_t count = qd_gguf_tensor_count(file);
        if (!count) return qd_fail(QD_ERR_FILE, "the adapter has no tensors");
        for (uint64_t k = 0; k < count; k++) {
            qd_gguf_tensor t;
            const qd_status status = qd_gguf_tensor_at(file, k, &t);
            if (status) return status;
            if (is_found(m->lora, t.name.data)) continue;
            return qd_fail(QD_ERR_FILE,
                           "the adapter's tensor %.*s belongs to no matrix of the model: MATRIX.lora_a and "
                           "MATRIX.lora_b are known, of the same model",
                           qd_gguf_shown(t.name), t.name.data);
        }
    }
    return QD_OK;
}

/* ---- Graph -------------------------------------------------------------------------------------------------- */

bool qd_lora_reads(const qd_weight w[], int n) {
    for (int i = 0; i < n; i++) {
        if (w[i].n_branches) return true;
    }
    return false;
}

qd_status qd_lora_add(qd_graph *g, const qd_weight w[], int n, qd_tensor *x, qd_tensor *y) {
    int64_t column = 0;
    qd_status status = QD_OK;
    for (int i = 0; i < n; i++) {
        qd_tensor *part = y;
        if (n > 1 && w[i].n_branches) QD_TRY(qd_graph_view(g, y, column, w[i].rows, &part));
        for (int k = 0; k < w[i].n_branches; k++) {
            const qd_branch *b = &w[i].branches[k];
            const qd_attrs attrs = {.lora = {b->scale}};
            QD_TRY(qd_graph_add(g, QD_OP_LORA, &attrs, (qd_tensor *[]){x, b->a, b->b, part}, 4, &part, 1));
        }
        column += w[i].rows;
    }
error:
    return status;
}
