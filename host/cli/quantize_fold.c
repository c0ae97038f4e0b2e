/* Factors of columns, folded into what comes before: the product stays as it was, and no operator is added. In a layer
 *   attn_norm → attn_q, attn_k, attn_v      the norm's weights are divided
 *   attn_v → attn_output                    the rows of attn_v are: attention is linear in them. With grouped heads,
 * the query heads of a group read the same rows, and share their factors ffn_norm → ffn_gate, ffn_up             the
 * norm's weights ffn_up → ffn_down                       the rows of ffn_up: the gate only multiplies them */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/quantize_method.h"

enum { READERS = 3, ROWS_OF_AWQ = 256 };

static const struct {
    const char *giver, *readers[READERS]; /* the first reader names the input */
} folds[] = {{"attn_norm", {"attn_q", "attn_k", "attn_v"}},
             {"attn_v", {"attn_output"}},
             {"ffn_norm", {"ffn_gate", "ffn_up"}},
             {"ffn_up", {"ffn_down"}}};
enum { FOLDS = sizeof folds / sizeof folds[0] };

/* One fold of one layer. */
typedef struct fold {
    qd_cli_change *giver, *readers[READERS];
    int count;
    const qd_input_stats *input;
    int64_t head, repeat; /* columns head · repeat · i + … read rows head · i + …; 1 and 1: each its own */
} fold;

static qd_cli_change *find(const qd_cli_plan *plan, int layer, const char *part) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s.weight", layer, part);
    for (int64_t i = 0; i < plan->count; i++) {
        if (!strcmp(plan->changes[i].name, name)) return &plan->changes[i];
    }
    return NULL;
}

static bool is_vector(const qd_cli_change *c) {
    return c->tensor.desc.rank == 1 && c->tensor.desc.format == QD_FORMAT_F32;
}

/* Elements that the giver's factors are for. */
static int64_t width_of(const qd_cli_change *giver) {
    return is_vector(giver) ? giver->tensor.desc.shape[0] : giver->src.rows;
}

static int64_t give_row(const fold *f, int64_t column) {
    return column / (f->head * f->repeat) * f->head + column % f->head;
}

/* Finds what takes part; false: a message was printed. */
static bool find_fold(const qd_cli_method *m, int layer, int index, int64_t heads, fold *f) {
    *f = (fold){.giver = find(m->plan, layer, folds[index].giver), .head = 1, .repeat = 1};
    bool ok = f->giver && (is_vector(f->giver) || f->giver->src.rows);
    for (; ok && f->count < READERS && folds[index].readers[f->count]; f->count++) {
        qd_cli_change *c = f->readers[f->count] = find(m->plan, layer, folds[index].readers[f->count]);
        ok = c && c->src.rows && c->tensor.desc.rank == 2 && c->src.cols == f->readers[0]->src.cols;
    }
    const int64_t cols = ok ? f->readers[0]->src.cols : 0, width = ok ? width_of(f->giver) : 0;
    if (ok && cols != width) { /* heads that share rows */
        ok = heads > 0 && cols % heads == 0 && cols % width == 0 && width % (cols / heads) == 0;
        f->head = ok ? cols / heads : 1;
        f->repeat = ok ? cols / width : 1;
    }
    if (!ok) {
        qd_cli_fail("--method %s knows models of the llama type: layer %d has no %s.weight that %s.weight reads",
                    m->name, layer, folds[index].giver, folds[index].readers[0]);
        return false;
    }
    f->input = qd_calibration_find(m->stats, f->readers[0]->name);
    if (f->input && f->input->cols == cols) return true;
    qd_cli_fail("%s: nothing about the input of %s: run `qdot calibrate` with this model", m->calibration,
                f->readers[0]->name);
    return false;
}

/* Of columns that share a factor, the largest magnitude counts. */
static void share(const fold *f, int64_t cols, float *largest) {
    for (int64_t k = 0; k < cols; k++) {
        if (k / f->head % f->repeat) continue; /* the first of its group does it */
        for (int64_t i = 1; i < f->repeat; i++)
            largest[k] = fmaxf(largest[k], largest[k + i * f->head]);
        for (int64_t i = 1; i < f->repeat; i++)
            largest[k + i * f->head] = largest[k];
    }
}

/* The factors of the columns, in `s`; room: 3 · cols floats. */
static qd_status find_factors(const qd_cli_method *m, const fold *f, float *room, float *s) {
    const int64_t cols = f->input->cols;
    float *x = room, *w = room + cols, *mean_abs = room + 2 * cols;
    qd_status status = QD_OK;
    const qd_matrix *matrices[READERS];
    const qd_storage *targets[READERS];
    memset(w, 0, (size_t)cols * sizeof *w);
    for (int i = 0; i < f->count; i++) {
        matrices[i] = &f->readers[i]->src;
        targets[i] = &f->readers[i]->to;
        if (m->kind == QD_CLI_SMOOTHQUANT && !status) status = qd_column_absmax(matrices[i], w);
    }
    if (m->kind == QD_CLI_SMOOTHQUANT) {
        memcpy(x, f->input->absmax, (size_t)cols * sizeof *x);
        share(f, cols, x);
        share(f, cols, w);
        return status ? status : qd_smooth_factors(x, w, cols, m->alpha, s);
    }
    for (int64_t k = 0; k < cols; k++) { /* the mean of columns that share a factor */
        double sum = 0;
        for (int64_t i = 0; i < f->repeat; i++)
            sum += f->input->mean_abs[k / f->head / f->repeat * f->repeat * f->head + i * f->head + k % f->head];
        mean_abs[k] = (float)(sum / (double)f->repeat);
    }
    const qd_awq_options o = {.rows = ROWS_OF_AWQ, .weighed = true, .threads = m->threads};
    return qd_awq_factors(matrices, targets, f->count, mean_abs, f->input->mean_square, &o, s, NULL);
}

/* The tensor is written anew, in the format that it has unless another one is asked for. */
static void change(const qd_cli_method *m, qd_cli_change *c) {
    if (!c->keep) return;
    c->keep = false;
    m->plan->weights += (double)c->src.rows * (double)c->src.cols;
}

/* A reader's scales are chosen by what its columns read, as the search for the factors took it. */
static bool weigh(const fold *f, int reader, const float *s) {
    float *w = f->readers[reader]->importance = malloc((size_t)f->input->cols * sizeof *w);
    for (int64_t k = 0; w && k < f->input->cols; k++)
        w[k] = (float)(f->input->mean_square[k] / ((double)s[k] * (double)s[k]));
    return w != NULL;
}

static bool apply(const qd_cli_method *m, const fold *f, const float *s) {
    const int64_t width = width_of(f->giver);
    float *rows = malloc((size_t)width * sizeof *rows);
    f->giver->rows = rows;
    for (int64_t k = 0; rows && k < f->input->cols; k++)
        rows[give_row(f, k)] = s[k];
    bool ok = rows != NULL;
    for (int i = 0; ok && i < f->count; i++) {
        float *columns = f->readers[i]->columns = malloc((size_t)f->input->cols * sizeof *columns);
        ok = columns != NULL && (m->kind != QD_CLI_AWQ || weigh(f, i, s));
        if (ok) memcpy(columns, s, (size_t)f->input->cols * sizeof *columns);
        change(m, f->readers[i]);
    }
    if (!ok) qd_cli_fail("out of memory");
    if (ok && is_vector(f->giver)) { /* written from memory of its own */
        const float *from = f->giver->tensor.data;
        for (int64_t k = 0; k < width; k++)
            rows[k] = from[k] / rows[k];
        f->giver->tensor.data = rows;
    } else {
        change(m, f->giver);
    }
    return ok;
}

static int64_t count_heads(const qd_gguf *g) {
    qd_gguf_value v;
    int64_t heads = 0;
    if (qd_gguf_find(g, "llama.attention.head_count", &v) != QD_OK || v.type == QD_GGUF_ARRAY) return 0;
    return qd_gguf_get_int(g, &v, 0, &heads) == QD_OK ? heads : 0;
}

bool qd_cli_fold(const qd_cli_method *m, const qd_gguf *g) {
    const int64_t heads = count_heads(g);
    const double start = qd_cli_seconds();
    bool ok = true;
    int layers = 0;
    while (find(m->plan, layers, "attn_norm"))
        layers++;
    if (!layers) {
        qd_cli_fail("--method %s knows models of the llama type: there is no blk.0.attn_norm.weight", m->name);
        return false;
    }
    for (int i = 0; ok && i < layers * FOLDS; i++) {
        fold f;
        char what[64];
        ok = find_fold(m, i / FOLDS, i % FOLDS, heads, &f);
        if (!ok) break;
        float *room = malloc((size_t)f.input->cols * 4 * sizeof *room), *s = room ? room + 3 * f.input->cols : NULL;
        const qd_status status = room ? find_factors(m, &f, room, s) : QD_ERR_MEMORY;
        ok = status == QD_OK && apply(m, &f, s);
        if (!room) qd_cli_fail("out of memory");
        if (room && status) qd_cli_fail("the input of %s: %s", f.readers[0]->name, qd_last_message());
        free(room);
        if (ok && qd_cli_stopped()) {
            ok = false;
            qd_cli_fail("stopped; nothing was written");
        }
        snprintf(what, sizeof what, "factors, %.0f s left",
                 (qd_cli_seconds() - start) / (i + 1) * (layers * FOLDS - i - 1));
        qd_cli_progress(what, i + 1, layers * FOLDS);
    }
    qd_cli_progress("", 1, 1);
    return ok;
}
