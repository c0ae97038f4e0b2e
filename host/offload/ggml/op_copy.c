/* What moves elements: CPY, CONT, DUP, REPEAT, CONCAT, SET_ROWS. */
#include <stdlib.h>

#include "emit.h"

/* ---- Copies between shapes ---------------------------------------------------------------------------------- */

/* Dimensions of a tensor, the innermost first, without those of one element. */
typedef struct dims {
    int n;
    int64_t size[2 * GGML_MAX_DIMS], step[2 * GGML_MAX_DIMS];
} dims;

static dims dims_of(const struct ggml_tensor *t) {
    dims d = {0};
    for (int k = 0; k < GGML_MAX_DIMS; k++) {
        if (t->ne[k] == 1) continue;
        d.size[d.n] = t->ne[k];
        d.step[d.n++] = (int64_t)t->nb[k];
    }
    return d;
}

/* Splits dimension `at` into two, the inner of `inner` elements; false when they do not divide it. */
static bool split(dims *d, int at, int64_t inner) {
    if (d->size[at] == inner) return true;
    if (d->size[at] % inner || d->n == 2 * GGML_MAX_DIMS) return false;
    for (int k = d->n++; k > at; k--) {
        d->size[k] = d->size[k - 1];
        d->step[k] = d->step[k - 1];
    }
    d->size[at + 1] = d->size[at] / inner;
    d->step[at + 1] = d->step[at] * inner;
    d->size[at] = inner;
    return true;
}

static void take_out(dims *d, int at) {
    d->n--;
    for (int k = at; k < d->n; k++) {
        d->size[k] = d->size[k + 1];
        d->step[k] = d->step[k + 1];
    }
}

/* Gives both the same sizes, as few as there can be: the elements of two tensors with other shapes follow each other in
 * the same order. False when that takes more dimensions than there are. */
static bool align(dims *x, dims *y) {
    for (int k = 0; k < x->n || k < y->n; k++) {
        const int64_t a = k < x->n ? x->size[k] : 1, b = k < y->n ? y->size[k] : 1;
        if (!split(x, k, a < b ? a : b) || !split(y, k, a < b ? a : b)) return false;
    }
    for (int k = 1; k < x->n;) {
        if (x->step[k] == x->step[k - 1] * x->size[k - 1] && y->step[k] == y->step[k - 1] * y->size[k - 1]) {
            x->size[k - 1] *= x->size[k];
            y->size[k - 1] = x->size[k - 1];
            take_out(x, k);
            take_out(y, k);
        } else {
            k++;
        }
    }
    return x->n <= QD_MAX_RANK;
}

static qd_tensor_desc describe(const dims *d, qd_format f, int64_t steps[QD_MAX_RANK], int64_t element) {
    qd_tensor_desc out = {.format = f, .rank = d->n ? d->n : 1, .shape = {1}};
    steps[0] = element;
    for (int k = 0; k < d->n; k++) {
        out.shape[d->n - 1 - k] = d->size[k];
        steps[d->n - 1 - k] = d->step[k];
    }
    return out;
}

static bool is_float(enum ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
}

/* Rows of blocks are made by SET_ROWS and read by GET_ROWS, each row with its own number as id. */
static bool by_rows(const struct ggml_tensor *t) {
    return qg_is_blocked(t->type) != qg_is_blocked(t->src[0]->type);
}

/* The formats with blocks that the library's SET_ROWS makes. */
static bool is_made(enum ggml_type type) {
    return type == GGML_TYPE_Q8_0 || type == GGML_TYPE_Q4_0 || type == GGML_TYPE_Q4_1;
}

static const char *refuse_by_rows(const struct ggml_tensor *t) {
    enum { MOST_MATRICES = 256 };
    const struct ggml_tensor *x = t->src[0];
    if ((qg_is_blocked(t->type) ? x : t)->type != GGML_TYPE_F32) return "blocks to or from other than f32";
    if (qg_is_blocked(t->type) && !is_made(t->type)) return "blocks that are only read";
    if (!ggml_are_same_shape(x, t)) return "blocks in another shape";
    if (x->nb[0] != ggml_type_size(x->type) || t->nb[0] != ggml_type_size(t->type)) return "rows that are not dense";
    return x->ne[2] * x->ne[3] > MOST_MATRICES ? "blocks in too many matrices" : NULL;
}

static qd_status emit_by_rows(qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *x = t->src[0];
    const int64_t rows = x->ne[1];
    const qd_tensor_desc from = qd_desc(qg_format(x->type), rows, x->ne[0], 0, 0);
    const qd_tensor_desc to = qd_desc(qg_format(t->type), rows, t->ne[0], 0, 0);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_I32, rows, 0, 0, 0);
    qd_tensor *in[2], *y;
    int32_t *numbers = malloc((size_t)rows * sizeof *numbers);
    if (!numbers) return QD_ERR_MEMORY;
    for (int64_t i = 0; i < rows; i++)
        numbers[i] = (int32_t)i;
    qd_status status = qg_own_constant(b, &d, numbers, (size_t)rows * sizeof *numbers, &in[1]);
    free(numbers);
    for (int64_t i = 0; !status && i < x->ne[2] * x->ne[3]; i++) {
        const size_t i2 = (size_t)(i % x->ne[2]), i3 = (size_t)(i / x->ne[2]);
        status = qg_part(b, x, i2 * x->nb[2] + i3 * x->nb[3], &from, (int64_t[]){(int64_t)x->nb[1], (int64_t)x->nb[0]},
                         &in[0]);
        if (!status) {
            status = qg_part(b, t, i2 * t->nb[2] + i3 * t->nb[3], &to,
                             (int64_t[]){(int64_t)t->nb[1], (int64_t)t->nb[0]}, &y);
        }
        if (!status) status = qg_add(b, qg_is_blocked(t->type) ? QD_OP_SET_ROWS : QD_OP_GET_ROWS, NULL, in, 2, y);
    }
    return status;
}

const char *qg_cpy_refuse(const struct ggml_tensor *t) {
    const struct ggml_tensor *x = t->src[0];
    if (qg_format(x->type) == QD_FORMAT_COUNT || qg_format(t->type) == QD_FORMAT_COUNT)
        return "a format that is not known";
    if (by_rows(t)) return refuse_by_rows(t);
    const bool same = x->type == t->type && (t->type == GGML_TYPE_I32 || t->type == GGML_TYPE_I8);
    if (!(is_float(x->type) && is_float(t->type)) && !same && !(x->type == GGML_TYPE_I32 && t->type == GGML_TYPE_F32)) {
        return "a conversion that is not known";
    }
    dims from = dims_of(x), to = dims_of(t);
    return align(&from, &to) ? NULL : "shapes that have too little in common";
}

qd_status qg_cpy_emit(qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *x = t->src[0];
    if (by_rows(t)) return emit_by_rows(b, t);
    dims from = dims_of(x), to = dims_of(t);
    align(&from, &to);
    int64_t from_steps[QD_MAX_RANK], to_steps[QD_MAX_RANK];
    const qd_tensor_desc a = describe(&from, qg_format(x->type), from_steps, (int64_t)x->nb[0]);
    const qd_tensor_desc c = describe(&to, qg_format(t->type), to_steps, (int64_t)t->nb[0]);
    qd_tensor *in, *y;
    qd_status status = qg_part(b, x, 0, &a, from_steps, &in);
    if (!status) status = qg_part(b, t, 0, &c, to_steps, &y);
    return status ? status : qg_add(b, QD_OP_COPY, NULL, &in, 1, y);
}

const char *qg_cont_refuse(const struct ggml_tensor *t) {
    return qg_cpy_refuse(t);
}

qd_status qg_cont_emit(qg_builder *b, const struct ggml_tensor *t) {
    return qg_cpy_emit(b, t);
}

const char *qg_dup_refuse(const struct ggml_tensor *t) {
    return qg_cpy_refuse(t);
}

qd_status qg_dup_emit(qg_builder *b, const struct ggml_tensor *t) {
    return qg_cpy_emit(b, t);
}

/* ---- REPEAT and CONCAT -------------------------------------------------------------------------------------- */

static const char *refuse_moved(const struct ggml_tensor *t) {
    const bool known = is_float(t->type) || t->type == GGML_TYPE_I32;
    return known && t->src[0]->type == t->type ? NULL : "types";
}

const char *qg_repeat_refuse(const struct ggml_tensor *t) {
    return refuse_moved(t);
}

qd_status qg_repeat_emit(qg_builder *b, const struct ggml_tensor *t) {
    qd_tensor *x, *y;
    qd_status status = qg_in(b, t->src[0], QG_VALUE, &x);
    if (!status) status = qg_out(b, t, &y);
    return status ? status : qg_add(b, QD_OP_COPY, NULL, &x, 1, y);
}

const char *qg_concat_refuse(const struct ggml_tensor *t) {
    return t->src[1]->type == t->type ? refuse_moved(t) : "types";
}

/* Each input goes to its part of the result. */
qd_status qg_concat_emit(qg_builder *b, const struct ggml_tensor *t) {
    const int dim = t->op_params[0];
    size_t offset = 0;
    qd_status status = QD_OK;
    for (int i = 0; !status && i < 2; i++) {
        const struct ggml_tensor *x = t->src[i];
        if (ggml_is_empty(x)) continue;
        qd_tensor_desc d = {.format = qg_format(t->type), .rank = QD_MAX_RANK};
        int64_t steps[QD_MAX_RANK];
        for (int k = 0; k < QD_MAX_RANK; k++) {
            d.shape[k] = x->ne[QD_MAX_RANK - 1 - k];
            steps[k] = (int64_t)t->nb[QD_MAX_RANK - 1 - k];
        }
        qd_tensor *from, *to;
        status = qg_in(b, x, QG_VALUE, &from);
        if (!status) status = qg_part(b, t, offset, &d, steps, &to);
        if (!status) status = qg_add(b, QD_OP_COPY, NULL, &from, 1, to);
        offset += (size_t)x->ne[dim] * t->nb[dim];
    }
    return status;
}

/* ---- SET_ROWS ----------------------------------------------------------------------------------------------- */

const char *qg_set_rows_refuse(const struct ggml_tensor *t) {
    const enum ggml_type ids = t->src[1]->type;
    if (t->src[0]->type != GGML_TYPE_F32) return "only rows of f32";
    if (ids != GGML_TYPE_I32 && ids != GGML_TYPE_I64) return "ids that are not integers";
    return is_float(t->type) || is_made(t->type) ? NULL : "a format that is not written";
}

/* ids of 64 bits: their low halves. */
qd_status qg_set_rows_emit(qg_builder *b, const struct ggml_tensor *t) {
    if (ggml_is_empty(t->src[0])) return QD_OK;
    const struct ggml_tensor *ids = t->src[1];
    const qd_tensor_desc d = qd_desc(QD_FORMAT_I32, ids->ne[2], ids->ne[1], ids->ne[0], 0);
    const int64_t steps[] = {(int64_t)ids->nb[2], (int64_t)ids->nb[1], (int64_t)ids->nb[0]};
    const qd_tensor_desc rows = qd_desc(QD_FORMAT_I32, ids->ne[0], 0, 0, 0);
    qd_tensor *in[2] = {qg_columns(b, t->src[0]), NULL}, *y;
    const bool flat = in[0] != NULL; /* [R, C] */
    qd_status status = flat ? QD_OK : qg_in(b, t->src[0], QG_VALUE, &in[0]);
    if (!status) status = flat ? qg_part(b, ids, 0, &rows, steps + 2, &in[1]) : qg_part(b, ids, 0, &d, steps, &in[1]);
    if (!status) status = flat ? qg_out_rows(b, t, &y) : qg_out(b, t, &y);
    return status ? status : qg_add(b, QD_OP_SET_ROWS, NULL, in, 2, y);
}
