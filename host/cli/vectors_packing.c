/* Small floats, and bit orders of packed codes. What is packed must also come back. */
#include <string.h>

#include "cli/vectors_run.h"
#include "qdot/qdot_minifloat.h"
#include "qdot/qdot_packing.h"

/* ---- Small floats ------------------------------------------------------------------------------------------- */

static qd_status decode(qd_vec_run *r, qd_minifloat type, const qd_vec_tensor *x) {
    const qd_vec_tensor *want;
    uint16_t *codes;
    float *y;
    QD_VEC_TRY(qd_vec_want(r, "y", &want));
    if (x->dtype != QD_VEC_U8) return qd_vec_bad(r, "x must be u8");
    QD_VEC_TRY(qd_vec_alloc(r, x->count, sizeof *codes, &codes));
    QD_VEC_TRY(qd_vec_alloc(r, x->count, sizeof *y, &y));
    for (int64_t i = 0; i < x->count; i++)
        codes[i] = ((const uint8_t *)x->data)[i];
    QD_VEC_TRY(qd_vec_library(r, qd_minifloat_decode(type, codes, x->count, y)));
    return qd_vec_judge(r, want, y, (size_t)x->count * sizeof *y);
}

static qd_status encode(qd_vec_run *r, qd_minifloat type, const qd_vec_tensor *x) {
    /* PyTorch on CPUs clamps what has no infinity, and only that. */
    const bool torch = strcmp(qd_vec_attr_text(r, "source", ""), "torch") == 0;
    const bool finite = qd_minifloat_get(type)->specials != QD_MINIFLOAT_IEEE;
    const qd_vec_tensor *want;
    int64_t saturate;
    uint16_t *codes;
    uint8_t *y;
    QD_VEC_TRY(qd_vec_want(r, "y", &want));
    QD_VEC_TRY(qd_vec_attr(r, "saturate", torch && finite, 0, 1, &saturate));
    if (x->dtype != QD_VEC_F32 || qd_minifloat_get(type)->bits > 8)
        return qd_vec_bad(r, "only casts of f32 to at most 8 bits");
    QD_VEC_TRY(qd_vec_alloc(r, x->count, sizeof *codes, &codes));
    QD_VEC_TRY(qd_vec_alloc(r, x->count, 1, &y));
    QD_VEC_TRY(qd_vec_library(r, qd_minifloat_encode(type, saturate, x->data, x->count, codes)));
    for (int64_t i = 0; i < x->count; i++)
        y[i] = (uint8_t)codes[i];
    return qd_vec_judge(r, want, y, (size_t)x->count);
}

qd_status qd_vec_minifloat(qd_vec_run *r) {
    const char *from = qd_vec_attr_text(r, "from", ""), *to = qd_vec_attr_text(r, "to", "");
    const bool encodes = strcmp(from, "f32") == 0;
    const qd_vec_tensor *x;
    qd_minifloat type;
    if (!encodes && strcmp(to, "f32") != 0) return qd_vec_skip(r, "cast", "no cast of %.20s to %.20s yet", from, to);
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_library(r, qd_minifloat_find(encodes ? to : from, &type)));
    return encodes ? encode(r, type, x) : decode(r, type, x);
}

/* ---- Bit orders --------------------------------------------------------------------------------------------- */

/* The codes of input `name`, `offset` more than in the manifest, cut to their bits. */
static qd_status load_codes(qd_vec_run *r, const char *name, int offset, int bits, const qd_vec_tensor **t,
                            uint8_t **codes) {
    int32_t *values;
    QD_VEC_TRY(qd_vec_need(r, name, t));
    QD_VEC_TRY(qd_vec_ints(r, *t, &values));
    QD_VEC_TRY(qd_vec_alloc(r, (*t)->count, 1, codes));
    for (int64_t i = 0; i < (*t)->count; i++)
        (*codes)[i] = (uint8_t)((values[i] + offset) & ((1 << bits) - 1));
    return QD_OK;
}

/* What was unpacked must be what was packed. */
static qd_status same_codes(qd_vec_run *r, const uint8_t *packed, const uint8_t *unpacked, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (packed[i] != unpacked[i])
            return qd_vec_bad(r, "code %lld is %d, and %d when it is unpacked", (long long)i, packed[i], unpacked[i]);
    }
    return QD_OK;
}

/* Rows and columns of a matrix. */
static qd_status matrix(qd_vec_run *r, const qd_vec_tensor *t, int64_t *rows, int64_t *cols) {
    *rows = t->shape[0];
    *cols = t->shape[1];
    return t->rank == 2 ? QD_OK : qd_vec_bad(r, "%.32s is no matrix", t->name);
}

/* The one convention of an operation that is known. */
static qd_status check_convention(qd_vec_run *r, const char *known) {
    const char *convention = qd_vec_attr_text(r, "convention", "");
    if (strcmp(convention, known) == 0) return QD_OK;
    return qd_vec_skip(r, r->c->op, "no convention \"%.24s\" of %.24s yet", convention, r->c->op);
}

qd_status qd_vec_pack(qd_vec_run *r) {
    const qd_vec_tensor *t, *want;
    qd_packing order;
    uint8_t *codes, *packed, *back;
    QD_VEC_TRY(qd_vec_need(r, "codes", &t));
    QD_VEC_TRY(qd_vec_want(r, "packed", &want));
    QD_VEC_TRY(qd_vec_library(r, qd_packing_find(qd_vec_attr_text(r, "convention", ""), &order)));
    /* "u4", or what the packed bytes have room for. */
    const int64_t bits = t->logical ? t->logical[1] - '0' : want ? (int64_t)want->bytes * 8 / t->count : 4;
    if (bits < 1 || bits > 8) return qd_vec_bad(r, "codes of %lld bits", (long long)bits);
    QD_VEC_TRY(load_codes(r, "codes", 0, (int)bits, &t, &codes));
    const int64_t bytes = (int64_t)qd_packed_bytes(order, (int)bits, t->count);
    QD_VEC_TRY(qd_vec_alloc(r, bytes, 1, &packed));
    QD_VEC_TRY(qd_vec_alloc(r, t->count, 1, &back));
    QD_VEC_TRY(qd_vec_library(r, qd_pack(order, (int)bits, codes, t->count, packed)));
    QD_VEC_TRY(qd_vec_judge(r, want, packed, (size_t)bytes));
    QD_VEC_TRY(qd_vec_library(r, qd_unpack(order, (int)bits, packed, t->count, back)));
    return same_codes(r, codes, back, t->count);
}

qd_status qd_vec_pack_words(qd_vec_run *r) {
    const qd_vec_tensor *t, *want;
    int64_t bits, axis, rows, cols;
    uint8_t *codes, *back;
    uint32_t *words;
    QD_VEC_TRY(check_convention(r, "compressed-tensors"));
    QD_VEC_TRY(qd_vec_attr_needed(r, "bits", 1, 8, &bits));
    QD_VEC_TRY(qd_vec_attr_needed(r, "packed_dim", 0, 1, &axis));
    QD_VEC_TRY(load_codes(r, "codes", 1 << (bits - 1), (int)bits, &t, &codes));
    QD_VEC_TRY(matrix(r, t, &rows, &cols));
    QD_VEC_TRY(qd_vec_want(r, "packed", &want));
    const int64_t lines = axis ? rows : cols, count = ((axis ? cols : rows) * bits + 31) / 32 * lines;
    QD_VEC_TRY(qd_vec_alloc(r, count, sizeof *words, &words));
    QD_VEC_TRY(qd_vec_alloc(r, t->count, 1, &back));
    QD_VEC_TRY(qd_vec_library(r, qd_pack_words(QD_PACKING_LOW_FIRST, (int)bits, (int)axis, codes, rows, cols, words)));
    QD_VEC_TRY(qd_vec_judge(r, want, words, (size_t)count * sizeof *words));
    QD_VEC_TRY(qd_vec_library(r, qd_unpack_words(QD_PACKING_LOW_FIRST, (int)bits, (int)axis, words, rows, cols, back)));
    return same_codes(r, codes, back, t->count);
}

qd_status qd_vec_pack_gptq(qd_vec_run *r) {
    const qd_vec_tensor *t, *z, *s, *want_weight, *want_zero, *want;
    int64_t bits, group, rows, cols, groups, zero_cols;
    uint8_t *codes, *zeros, *back, *back_zeros;
    uint32_t *qweight, *qzeros;
    float *scales, *w;
    QD_VEC_TRY(check_convention(r, "gptq"));
    QD_VEC_TRY(qd_vec_attr_needed(r, "bits", 1, 8, &bits));
    QD_VEC_TRY(qd_vec_attr_needed(r, "group_size", 1, 1 << 30, &group));
    QD_VEC_TRY(load_codes(r, "codes", 0, (int)bits, &t, &codes));
    QD_VEC_TRY(load_codes(r, "zeros", 0, (int)bits, &z, &zeros));
    QD_VEC_TRY(matrix(r, t, &rows, &cols));
    QD_VEC_TRY(matrix(r, z, &groups, &zero_cols));
    QD_VEC_TRY(qd_vec_need(r, "scales", &s));
    QD_VEC_TRY(qd_vec_floats(r, s, &scales));
    if (zero_cols != cols || s->count != z->count || groups != (rows + group - 1) / group)
        return qd_vec_bad(r, "zeros or scales have not the shape that codes need");
    QD_VEC_TRY(qd_vec_want(r, "qweight", &want_weight));
    QD_VEC_TRY(qd_vec_want(r, "qzeros", &want_zero));
    QD_VEC_TRY(qd_vec_want(r, "w", &want));
    const int64_t weight_words = (rows * bits + 31) / 32 * cols, zero_words = (cols * bits + 31) / 32 * groups;
    QD_VEC_TRY(qd_vec_alloc(r, weight_words, sizeof *qweight, &qweight));
    QD_VEC_TRY(qd_vec_alloc(r, zero_words, sizeof *qzeros, &qzeros));
    QD_VEC_TRY(qd_vec_alloc(r, t->count, 1, &back));
    QD_VEC_TRY(qd_vec_alloc(r, z->count, 1, &back_zeros));
    QD_VEC_TRY(qd_vec_alloc(r, t->count, sizeof *w, &w));
    QD_VEC_TRY(qd_vec_library(r, qd_gptq_pack((int)bits, codes, zeros, rows, cols, groups, qweight, qzeros)));
    QD_VEC_TRY(qd_vec_judge(r, want_weight, qweight, (size_t)weight_words * sizeof *qweight));
    QD_VEC_TRY(qd_vec_judge(r, want_zero, qzeros, (size_t)zero_words * sizeof *qzeros));
    QD_VEC_TRY(qd_vec_library(r, qd_gptq_unpack((int)bits, qweight, qzeros, rows, cols, groups, back, back_zeros)));
    QD_VEC_TRY(same_codes(r, codes, back, t->count));
    QD_VEC_TRY(same_codes(r, zeros, back_zeros, z->count));
    QD_VEC_TRY(qd_vec_library(r, qd_grouped_dequantize(back, back_zeros, scales, NULL, rows, cols, group, w)));
    return qd_vec_judge(r, want, w, (size_t)t->count * sizeof *w);
}
