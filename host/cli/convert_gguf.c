/* qdot convert: between safetensors files with layers of GPTQ or AWQ, and GGUF files. Every tensor is looked at twice:
 * for its place in the new file, and for its data. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/convert.h"

static bool out_of_memory(void) {
    qd_cli_fail("out of memory");
    return false;
}

/* ---- To GGUF ------------------------------------------------------------------------------------------------ */

/* What a layer is stored in: --format, else the coding that holds it as it is; f16 where no coding does. */
static qd_storage target_of(const qd_cli_convert *c, const qd_grouped *g) {
    char name[64];
    qd_storage s = {.format = QD_FORMAT_F16};
    if (c->has_format) return c->format;
    if (g->group_of || (g->groups > 1 && g->group % 16)) return s;
    if (g->groups > 1) {
        snprintf(name, sizeof name, "int%d-g%lld-asym-%s", g->bits, (long long)g->group,
                 g->half_scales ? "f16" : "f32");
    } else {
        snprintf(name, sizeof name, "int%d-row-asym-%s", g->bits, g->half_scales ? "f16" : "f32");
    }
    qd_storage_parse(name, &s);
    return s;
}

static bool add_matrix(qd_gguf_writer *w, const char *name, const qd_storage *s, int64_t rows, int64_t cols) {
    const qd_tensor_desc d = {s->format, 2, {rows, cols}};
    if ((s->format == QD_FORMAT_COUNT ? qd_gguf_write_coded(w, name, &s->coding, rows, cols)
                                      : qd_gguf_write_tensor(w, name, &d)) == QD_OK)
        return true;
    qd_cli_failed();
    return false;
}

/* What became of the weights. */
static bool compare(const qd_grouped *g, const float *values, const qd_storage *to, const void *data, qd_loss *loss) {
    float *row = malloc((size_t)g->cols * sizeof *row);
    if (!row) return out_of_memory();
    for (int64_t n = 0; n < g->rows; n++) {
        const float *x = values + n * g->cols;
        const char *src = (const char *)data + (size_t)n * qd_storage_row_bytes(to, g->cols);
        qd_loss l = {.count = (double)g->cols};
        qd_dequantize(to->format, src, 1, g->cols, row);
        for (int64_t k = 0; k < g->cols; k++) {
            const double a = (double)x[k], b = (double)row[k], e = fabs(a - b);
            l.absolute += e;
            l.largest = e > l.largest ? e : l.largest;
            l.xx += a * a;
            l.squares += e * e;
        }
        qd_loss_add(loss, &l);
    }
    free(row);
    return true;
}

/* The codes as they are, where the target holds them; else the weights are quantized. */
static bool store_layer(const qd_cli_convert *c, const qd_grouped *g, const qd_storage *to, void *data, float *side,
                        qd_loss *loss, bool *exact) {
    const bool kept = qd_grouped_to_matrix(g, to, data, side) == QD_OK;
    *exact = kept && to->format != QD_FORMAT_Q4_1; /* whose minima are rounded */
    if (*exact) return true;
    float *values = malloc((size_t)(g->rows * g->cols) * sizeof *values);
    if (!values) return out_of_memory();
    qd_grouped_values(g, values);
    const qd_matrix m = {{.format = QD_FORMAT_F32}, g->rows, g->cols, values, NULL};
    const qd_quantize_options o = {.threads = c->threads};
    bool ok = kept ? compare(g, values, to, data, loss) : qd_matrix_quantize(&m, to, &o, data, side, loss) == QD_OK;
    if (!ok && !kept) qd_cli_failed();
    free(values);
    return ok;
}

static const char *layout_name(qd_grouped_layout l) {
    return l == QD_LAYOUT_AWQ ? "awq" : "gptq";
}

static bool write_layer(qd_cli_convert *c, const qd_safetensors *s, const char *base, const char *name,
                        qd_gguf_writer *w) {
    qd_grouped g = {0};
    qd_grouped_layout layout;
    qd_loss loss = {0};
    bool exact = false;
    if (qd_grouped_read(s, base, &g, &layout) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    const qd_storage to = target_of(c, &g);
    const size_t bytes = (size_t)g.rows * qd_storage_row_bytes(&to, g.cols);
    const size_t side_bytes = 4 * (size_t)qd_storage_side_count(&to, g.rows, g.cols);
    void *data = malloc(bytes ? bytes : 1);
    float *side = malloc(side_bytes ? side_bytes : 1);
    bool ok = data && side ? store_layer(c, &g, &to, data, side, &loss, &exact) : out_of_memory();
    if (ok && (qd_gguf_write_data(w, data, bytes) != QD_OK ||
               (side_bytes && qd_gguf_write_data(w, side, side_bytes) != QD_OK))) {
        qd_cli_failed();
        ok = false;
    }
    if (ok) {
        char text[64];
        qd_storage_name(&to, text, sizeof text);
        qd_cli_convert_tell(c, name, layout_name(layout), text, exact ? NULL : &loss);
    }
    free(data);
    free(side);
    qd_grouped_free(&g);
    return ok;
}

/* The GGUF format of a tensor that is no layer; QD_FORMAT_COUNT where there is none. */
static qd_format plain_format(const qd_safetensor *t) {
    static const struct {
        const char *type;
        qd_format format;
    } types[] = {{"F32", QD_FORMAT_F32}, {"F16", QD_FORMAT_F16}, {"BF16", QD_FORMAT_BF16},
                 {"I32", QD_FORMAT_I32}, {"I16", QD_FORMAT_I16}, {"I8", QD_FORMAT_I8}};
    for (size_t i = 0; t->rank <= QD_MAX_RANK && t->bytes && i < sizeof types / sizeof types[0]; i++) {
        if (!strcmp(types[i].type, t->type)) return types[i].format;
    }
    return QD_FORMAT_COUNT;
}

static qd_tensor_desc plain_desc(const qd_safetensor *t, qd_format f) {
    qd_tensor_desc d = {f, t->rank ? t->rank : 1, {1}};
    for (int i = 0; i < t->rank; i++)
        d.shape[i] = t->shape[i];
    return d;
}

/* One tensor of the input: its entry, or its data. */
static bool put_tensor(qd_cli_convert *c, const qd_safetensors *s, const qd_safetensor *t, qd_gguf_writer *w,
                       bool data) {
    char base[256], name[300];
    if (qd_cli_layer_name(t, base)) {
        snprintf(name, sizeof name, "%s.weight", base);
        if (data) return write_layer(c, s, base, name, w);
        qd_grouped g;
        qd_grouped_layout layout;
        if (qd_grouped_measure(s, base, &g, &layout) != QD_OK) {
            qd_cli_failed();
            return false;
        }
        const qd_storage to = target_of(c, &g);
        const bool ok = add_matrix(w, name, &to, g.rows, g.cols);
        qd_grouped_free(&g);
        return ok;
    }
    const qd_format f = plain_format(t);
    if (qd_cli_layer_part(s, t)) return true;
    if (f == QD_FORMAT_COUNT) {
        if (data) qd_cli_convert_tell(c, t->name, t->type, NULL, NULL);
        return true;
    }
    const qd_tensor_desc d = plain_desc(t, f);
    if (data) qd_cli_convert_tell(c, t->name, qd_format_get(f)->name, qd_format_get(f)->name, NULL);
    if ((data ? qd_gguf_write_data(w, t->data, t->bytes) : qd_gguf_write_tensor(w, t->name, &d)) == QD_OK) return true;
    qd_cli_failed();
    return false;
}

bool qd_cli_convert_to_gguf(qd_cli_convert *c) {
    enum { QUANTIZATION_VERSION = 2 };
    qd_safetensors *s = NULL;
    qd_gguf_writer *w = NULL;
    bool ok = qd_safetensors_open(c->input, &s) == QD_OK && qd_gguf_write_create(c->output, &w) == QD_OK &&
              qd_gguf_write_u32(w, "general.quantization_version", QUANTIZATION_VERSION) == QD_OK;
    if (!ok) qd_cli_failed();
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; ok && i < qd_safetensors_count(s); i++) {
            ok = put_tensor(c, s, qd_safetensors_at(s, i), w, pass == 1);
            if (ok && qd_cli_stopped()) {
                qd_cli_fail("stopped; nothing was written");
                ok = false;
            }
        }
    }
    if (ok && qd_gguf_write_finish(w) != QD_OK) {
        qd_cli_failed();
        ok = false;
    }
    qd_gguf_writer_free(w);
    qd_safetensors_free(s);
    return ok;
}

/* ---- From GGUF ---------------------------------------------------------------------------------------------- */

typedef struct source {
    char name[160], base[160]; /* base: without ".weight" */
    qd_gguf_tensor tensor;
    qd_matrix matrix; /* rows 0: integers, or more than two dimensions */
} source;

/* Embeddings, outputs and norms stay floats in GPTQ and AWQ files. */
static bool is_layer(const source *t) {
    static const char *const others[] = {"embd", "embed", "lm_head", "norm"};
    const size_t size = strlen(t->name);
    if (t->matrix.rows < 2 || t->tensor.desc.rank != 2 || size < 8 || strcmp(t->name + size - 7, ".weight"))
        return false;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strstr(t->name, others[i])) return false;
    }
    return strcmp(t->name, "output.weight") != 0;
}

static bool open_source(const qd_gguf *g, uint64_t index, source *out) {
    bool coded = false;
    qd_gguf_coded found;
    *out = (source){.matrix = {.rows = 0}};
    if (qd_gguf_tensor_at(g, index, &out->tensor) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    const qd_gguf_tensor *t = &out->tensor;
    if (t->name.size >= sizeof out->name || t->desc.format == QD_FORMAT_COUNT) {
        qd_cli_fail("tensor '%.*s' is of a type that this program does not know, or its name is too long",
                    t->name.size < 80 ? (int)t->name.size : 80, t->name.data);
        return false;
    }
    memcpy(out->name, t->name.data, t->name.size);
    snprintf(out->base, sizeof out->base, "%s", out->name);
    const size_t size = strlen(out->base);
    if (size > 7 && !strcmp(out->base + size - 7, ".weight")) out->base[size - 7] = 0;
    if (qd_gguf_find_coded(g, out->name, &coded, &found) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    if (coded) {
        out->matrix = (qd_matrix){{QD_FORMAT_COUNT, found.coding}, found.rows, found.cols, found.data, found.side};
    } else if (qd_format_get(t->desc.format)->kind != QD_KIND_INTEGER) {
        out->matrix = (qd_matrix){{.format = t->desc.format}, 1, t->desc.shape[t->desc.rank - 1], t->data, NULL};
        for (int i = 0; i + 1 < t->desc.rank; i++)
            out->matrix.rows *= t->desc.shape[i];
    }
    return true;
}

/* Type in the safetensors file of what does not become a layer: floats as they are, other formats as halves. */
static const char *plain_type(const source *t) {
    const qd_format f = t->matrix.rows ? t->matrix.storage.format : t->tensor.desc.format;
    switch (f) {
        case QD_FORMAT_F32:
            return "F32";
        case QD_FORMAT_BF16:
            return "BF16";
        case QD_FORMAT_I8:
            return "I8";
        case QD_FORMAT_I16:
            return "I16";
        case QD_FORMAT_I32:
            return "I32";
        default:
            return "F16";
    }
}

/* The matrix, or with --format the one that is quantized to it; *owned is to be freed. */
static bool prepare(const qd_cli_convert *c, const source *t, qd_matrix *m, void **owned, qd_loss *loss) {
    qd_grouped shape;
    *m = t->matrix;
    if (!c->has_format || qd_grouped_shape(&t->matrix.storage, m->rows, m->cols, &shape) == QD_OK) return true;
    const size_t bytes = (size_t)m->rows * qd_storage_row_bytes(&c->format, m->cols);
    const size_t side = 4 * (size_t)qd_storage_side_count(&c->format, m->rows, m->cols);
    const size_t aligned = (bytes + 7) / 8 * 8;
    char *memory = malloc(aligned + side + 8);
    if (!memory) return out_of_memory();
    const qd_quantize_options o = {.threads = c->threads};
    float *side_row = (float *)(void *)(memory + aligned);
    if (qd_matrix_quantize(&t->matrix, &c->format, &o, memory, side_row, loss) != QD_OK) {
        qd_cli_fail("tensor '%s': %s", t->name, qd_last_message());
        free(memory);
        return false;
    }
    *m = (qd_matrix){c->format, m->rows, m->cols, memory, side_row};
    *owned = memory;
    return true;
}

static bool write_as_layer(qd_cli_convert *c, const source *t, qd_safetensors_writer *w) {
    qd_matrix m;
    void *owned = NULL;
    qd_loss loss = {0};
    qd_grouped g = {0};
    bool ok = prepare(c, t, &m, &owned, &loss);
    if (ok && (qd_grouped_from_matrix(&m, &g) != QD_OK || qd_grouped_write(w, &g, c->layout) != QD_OK)) {
        qd_cli_failed();
        ok = false;
    }
    if (ok) {
        char name[64];
        qd_storage_name(&t->matrix.storage, name, sizeof name);
        qd_cli_convert_tell(c, t->base, name, layout_name(c->layout), owned ? &loss : NULL);
    }
    qd_grouped_free(&g);
    free(owned);
    return ok;
}

static bool write_plain(qd_cli_convert *c, const source *t, qd_safetensors_writer *w) {
    const bool whole = t->matrix.rows == 0 || t->matrix.storage.format == QD_FORMAT_F32 ||
                       t->matrix.storage.format == QD_FORMAT_F16 || t->matrix.storage.format == QD_FORMAT_BF16;
    char name[64] = "integers";
    qd_loss loss;
    if (t->matrix.rows) qd_storage_name(&t->matrix.storage, name, sizeof name);
    if (whole) {
        qd_cli_convert_tell(c, t->name, name, plain_type(t), NULL);
        if (qd_safetensors_write(w, t->tensor.data, t->tensor.bytes) == QD_OK) return true;
        qd_cli_failed();
        return false;
    }
    const size_t bytes = 2 * (size_t)(t->matrix.rows * t->matrix.cols);
    void *halves = malloc(bytes);
    if (!halves) return out_of_memory();
    const qd_quantize_options o = {.threads = c->threads};
    const bool ok =
        qd_matrix_quantize(&t->matrix, &(qd_storage){.format = QD_FORMAT_F16}, &o, halves, NULL, &loss) == QD_OK &&
        qd_safetensors_write(w, halves, bytes) == QD_OK;
    if (ok) qd_cli_convert_tell(c, t->name, name, "F16", &loss);
    if (!ok) qd_cli_fail("tensor '%s': %s", t->name, qd_last_message());
    free(halves);
    return ok;
}

/* One tensor: its entry, or its data. `wide`: which of those whose elements have 4 bytes, which come first so that all
 * are aligned, and the others, are looked at. */
static bool put_source(qd_cli_convert *c, const qd_gguf *g, uint64_t i, qd_safetensors_writer *w, bool data,
                       bool wide) {
    source t;
    qd_grouped shape = {0};
    if (!open_source(g, i, &t)) return false;
    if (qd_cli_is_side(g, t.tensor.name)) return true;
    bool layer = is_layer(&t);
    if (layer && qd_grouped_shape(&t.matrix.storage, t.matrix.rows, t.matrix.cols, &shape) != QD_OK) {
        layer = c->has_format && qd_grouped_shape(&c->format, t.matrix.rows, t.matrix.cols, &shape) == QD_OK;
    }
    const char *type = plain_type(&t);
    if (wide != (layer || strstr(type, "32") != NULL)) return true;
    if (layer && data) return write_as_layer(c, &t, w);
    if (data) return write_plain(c, &t, w);
    qd_safetensor entry = {.name = t.name, .type = type, .rank = t.tensor.desc.rank};
    for (int d = 0; d < entry.rank; d++)
        entry.shape[d] = t.tensor.desc.shape[d];
    if (t.matrix.rows) entry.shape[entry.rank - 1] = t.matrix.cols;
    if ((layer ? qd_grouped_add(w, t.base, &shape, c->layout) : qd_safetensors_add(w, &entry)) == QD_OK) return true;
    qd_cli_failed();
    return false;
}

bool qd_cli_convert_from_gguf(qd_cli_convert *c) {
    qd_gguf *g = NULL;
    qd_safetensors_writer *w = NULL;
    bool ok = qd_gguf_open(c->input, &g) == QD_OK && qd_safetensors_create(c->output, &w) == QD_OK;
    if (!ok) qd_cli_failed();
    for (int pass = 0; pass < 4; pass++) {
        for (uint64_t i = 0; ok && i < qd_gguf_tensor_count(g); i++) {
            ok = put_source(c, g, i, w, pass >= 2, pass % 2 == 0);
            if (ok && qd_cli_stopped()) {
                qd_cli_fail("stopped; nothing was written");
                ok = false;
            }
        }
    }
    if (ok && qd_safetensors_finish(w) != QD_OK) {
        qd_cli_failed();
        ok = false;
    }
    qd_safetensors_writer_free(w);
    qd_gguf_free(g);
    return ok;
}
