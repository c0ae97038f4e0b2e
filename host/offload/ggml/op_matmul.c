/* MUL_MAT and what reads rows of a matrix. */
#include <string.h>

#include "emit.h"

/* qdot's own rule: an output head reads float activations, for what int8 costs there goes straight into the logits. A
 * head has a name in llama.cpp's files, or else is known by its many rows. */
static bool is_head(const struct ggml_tensor *w) {
    enum { MANY = 16 };
    return !strcmp(w->name, "output.weight") || !strcmp(w->name, "token_embd.weight") || w->ne[1] >= MANY * w->ne[0];
}

bool qg_reads_a8(const qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *w = t->src[0];
    return !b->device->options.floats && qg_is_blocked(w->type) && w->ne[2] == 1 && w->ne[3] == 1 && !is_head(w);
}

/* ---- MUL_MAT ------------------------------------------------------------------------------------------------ */

enum { MOST_BATCHES = 256 }; /* of matrices in blocks, or of tables: each is an operator of its own */

const char *qg_mul_mat_refuse(const struct ggml_tensor *t) {
    const struct ggml_tensor *w = t->src[0], *x = t->src[1];
    if (qg_format(w->type) == QD_FORMAT_COUNT || w->type == GGML_TYPE_I32)
        return "weights in a format that is not known";
    if (x->type != GGML_TYPE_F32) return "activations that are not f32";
    if (!qg_is_blocked(w->type)) return NULL;
    if (!qg_is_leaf(w) || !ggml_is_contiguous(w)) return "quantized weights that are computed or permuted";
    return t->ne[2] * t->ne[3] > MOST_BATCHES ? "too many matrices of quantized weights" : NULL;
}

/* The node after it may add a bias or what was there before: [rows, N], or [N]. */
static const struct ggml_tensor *find_addend(const qg_builder *b, const struct ggml_tensor *t,
                                             const struct ggml_tensor **sum) {
    const struct ggml_tensor *n = qg_fusable(b, t, GGML_OP_ADD);
    int64_t rows, step;
    if (!n) return NULL;
    const struct ggml_tensor *addend = n->src[n->src[0] == t];
    const bool fits = addend->type == GGML_TYPE_F32 && n->type == GGML_TYPE_F32 && addend->ne[0] == t->ne[0] &&
                      (ggml_nrows(addend) == 1 || ggml_are_same_shape(addend, t)) &&
                      qg_uniform_rows(addend, &rows, &step) && qg_uniform_rows(n, &rows, &step);
    if (!fits) return NULL;
    *sum = n;
    return addend;
}

static qd_status read_addend(qg_builder *b, const struct ggml_tensor *addend, qd_tensor **out) {
    if (ggml_nrows(addend) > 1) return qg_in_rows(b, addend, QG_VALUE, out);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, addend->ne[0], 0, 0, 0);
    return qg_part_in(b, addend, QG_WEIGHTS, 0, &d, NULL, out);
}

/* One matrix for all rows of x. */
static qd_status emit_shared(qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *w = t->src[0], *sum = t;
    const qd_tensor_desc d = qd_desc(qg_format(w->type), w->ne[1], w->ne[0], 0, 0);
    const struct ggml_tensor *addend = find_addend(b, t, &sum);
    qd_tensor *in[3], *y;
    qd_status status = qg_part_in(b, w, QG_WEIGHTS, 0, &d, NULL, &in[0]);
    if (!status) {
        status = qg_reads_a8(b, t) ? qg_quantize(b, t->src[1], &in[1]) : qg_in_rows(b, t->src[1], QG_VALUE, &in[1]);
    }
    if (!status && addend) status = read_addend(b, addend, &in[2]);
    if (!status) status = qg_out_rows(b, sum, &y);
    if (!status) status = qg_add(b, QD_OP_MATMUL, NULL, in, addend ? 3 : 2, y);
    if (!status && addend) qg_fused(b, sum);
    return status;
}

/* Matrices in blocks, one at a time. */
static qd_status emit_each(qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *w = t->src[0], *x = t->src[1];
    const qd_tensor_desc wd = qd_desc(qg_format(w->type), w->ne[1], w->ne[0], 0, 0);
    const qd_tensor_desc xd = qd_desc(QD_FORMAT_F32, x->ne[1], x->ne[0], 0, 0);
    const qd_tensor_desc ad = qd_desc(QD_FORMAT_A8, x->ne[1], x->ne[0], 0, 0);
    const qd_tensor_desc yd = qd_desc(QD_FORMAT_F32, t->ne[1], t->ne[0], 0, 0);
    qd_status status = QD_OK;
    for (int64_t i = 0; !status && i < t->ne[2] * t->ne[3]; i++) {
        const int64_t i2 = i % t->ne[2], i3 = i / t->ne[2];
        const size_t w_at =
            (size_t)(i2 / (t->ne[2] / w->ne[2])) * w->nb[2] + (size_t)(i3 / (t->ne[3] / w->ne[3])) * w->nb[3];
        qd_tensor *in[2], *rows = NULL, *y;
        status = qg_part_in(b, w, QG_WEIGHTS, w_at, &wd, NULL, &in[0]);
        if (!status) status = qg_rows_at(b, x, (size_t)i2 * x->nb[2] + (size_t)i3 * x->nb[3], &xd, &rows);
        in[1] = rows;
        if (!status && !b->device->options.floats) status = qg_temporary(b, &ad, &in[1]);
        if (!status && in[1] != rows) status = qg_add(b, QD_OP_QUANTIZE, NULL, &rows, 1, in[1]);
        if (!status) {
            status = qg_part(b, t, (size_t)i2 * t->nb[2] + (size_t)i3 * t->nb[3], &yd,
                             (int64_t[]){(int64_t)t->nb[1], sizeof(float)}, &y);
        }
        if (!status) status = qg_add(b, QD_OP_MATMUL, NULL, in, 2, y);
    }
    return status;
}

/* Matrices that may change, of any strides. */
static qd_status emit_batch(qg_builder *b, const struct ggml_tensor *t) {
    qd_tensor *in[2], *y;
    qd_status status = qg_in(b, t->src[0], QG_VALUE, &in[0]);
    if (!status) status = qg_in(b, t->src[1], QG_VALUE, &in[1]);
    if (!status) status = qg_out(b, t, &y);
    return status ? status : qg_add(b, QD_OP_MATMUL_BATCH, NULL, in, 2, y);
}

qd_status qg_mul_mat_emit(qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *w = t->src[0];
    const bool one = w->ne[2] == 1 && w->ne[3] == 1;
    bool done;
    const qd_status status = qg_stack(b, t, &done);
    if (status || done) return status;
    if (one && (qg_is_blocked(w->type) || qg_is_constant(b, w, QG_WEIGHTS))) return emit_shared(b, t);
    return qg_is_blocked(w->type) ? emit_each(b, t) : emit_batch(b, t);
}

/* ---- GET_ROWS ----------------------------------------------------------------------------------------------- */

const char *qg_get_rows_refuse(const struct ggml_tensor *t) {
    const struct ggml_tensor *table = t->src[0], *ids = t->src[1];
    if (qg_format(table->type) == QD_FORMAT_COUNT || table->type == GGML_TYPE_I32) return "a format that is not known";
    if (ids->type != GGML_TYPE_I32 || t->type != GGML_TYPE_F32) return "only i32 ids and f32 results";
    if (table->nb[0] != ggml_type_size(table->type)) return "rows that are not dense";
    if (ids->nb[0] != sizeof(int32_t)) return "ids that lie apart";
    return ids->ne[1] * ids->ne[2] > MOST_BATCHES ? "too many tables" : NULL;
}

qd_status qg_get_rows_emit(qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *table = t->src[0], *ids = t->src[1];
    const qd_tensor_desc from = qd_desc(qg_format(table->type), table->ne[1], table->ne[0], 0, 0);
    const qd_tensor_desc which = qd_desc(QD_FORMAT_I32, ids->ne[0], 0, 0, 0);
    const qd_tensor_desc to = qd_desc(QD_FORMAT_F32, ids->ne[0], table->ne[0], 0, 0);
    qd_status status = QD_OK;
    for (int64_t i = 0; !status && i < ids->ne[1] * ids->ne[2]; i++) {
        const size_t i1 = (size_t)(i % ids->ne[1]), i2 = (size_t)(i / ids->ne[1]);
        qd_tensor *in[2], *y;
        status = qg_part_in(b, table, QG_WEIGHTS, i1 * table->nb[2] + i2 * table->nb[3], &from,
                            (int64_t[]){(int64_t)table->nb[1], (int64_t)table->nb[0]}, &in[0]);
        if (!status) status = qg_part(b, ids, i1 * ids->nb[1] + i2 * ids->nb[2], &which, NULL, &in[1]);
        if (!status) {
            status =
                qg_part(b, t, i1 * t->nb[2] + i2 * t->nb[3], &to, (int64_t[]){(int64_t)t->nb[1], sizeof(float)}, &y);
        }
        if (!status) status = qg_add(b, QD_OP_GET_ROWS, NULL, in, 2, y);
    }
    return status;
}
