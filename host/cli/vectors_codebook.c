/* Codebooks: the 4-bit and 8-bit formats of bitsandbytes, and learned ones. */
#include <ctype.h>
#include <string.h>

#include "cli/vectors_run.h"
#include "qdot/qdot_codebook.h"

static qd_status need_codes(qd_vec_run *r, const char *name, const qd_vec_tensor **t) {
    QD_VEC_TRY(qd_vec_need(r, name, t));
    return (*t)->dtype == QD_VEC_U8 ? QD_OK : qd_vec_bad(r, "%s must be u8", name);
}

static qd_status judge_output(qd_vec_run *r, const char *name, const void *values, int64_t bytes) {
    const qd_vec_tensor *want;
    QD_VEC_TRY(qd_vec_want(r, name, &want));
    return qd_vec_judge(r, want, values, (size_t)bytes);
}

static qd_status block_size(qd_vec_run *r, const char *key, int64_t *block) {
    return qd_vec_attr_needed(r, key, 0, 1 << 30, block);
}

/* The book of the case's format; a table that the case has must be the same, but for the sign of zero. */
static qd_status find_book(qd_vec_run *r, qd_codebook *book) {
    const char *name = qd_vec_attr_text(r, "quant_type", r->c->format ? r->c->format : "");
    const qd_vec_tensor *table = qd_vec_input(r->c, "table");
    char lower[24] = "";
    for (size_t i = 0; name[i] && i < sizeof lower - 1; i++)
        lower[i] = (char)tolower((unsigned char)name[i]);
    QD_VEC_TRY(qd_vec_library(r, qd_codebook_find(lower, book)));
    if (!table) return QD_OK;
    if (table->dtype != QD_VEC_F32 || table->count != book->count) return qd_vec_bad(r, "the table is no %s", lower);
    for (int i = 0; i < book->count; i++) {
        if (((const float *)table->data)[i] != book->value[i])
            return qd_vec_bad(r, "value %d of %s is %g", i, lower, (double)book->value[i]);
    }
    return QD_OK;
}

/* A book of 256 values from an input. */
static qd_status make_book(qd_vec_run *r, const char *name, qd_codebook *book) {
    const qd_vec_tensor *t;
    const float *values;
    QD_VEC_TRY(qd_vec_need_f32(r, name, &t, &values));
    if (t->count > QD_CODEBOOK_MOST) return qd_vec_bad(r, "%s has more than %d values", name, QD_CODEBOOK_MOST);
    return qd_vec_library(r, qd_codebook_make(8, values, (int)t->count, QD_SCALE_ABSMAX, book));
}

/* ---- 4 bits ------------------------------------------------------------------------------------------------- */

typedef struct blocks {
    qd_codebook book;
    int64_t block, n, count; /* of values, of blocks */
    uint8_t *packed;
    float *absmax;
} blocks;

/* Input x in blocks, compared with the outputs "data" and, when the library did not refuse, `absmax`. */
static qd_status quantize_blocks(qd_vec_run *r, const char *absmax, blocks *b) {
    const qd_vec_tensor *t;
    const float *x;
    QD_VEC_TRY(find_book(r, &b->book));
    QD_VEC_TRY(qd_vec_need_f32(r, "x", &t, &x));
    QD_VEC_TRY(block_size(r, "blocksize", &b->block));
    b->n = t->count;
    b->count = qd_codebook_blocks(b->n, b->block);
    QD_VEC_TRY(qd_vec_alloc(r, (b->n + 1) / 2, 1, &b->packed));
    QD_VEC_TRY(qd_vec_alloc(r, b->count, sizeof *b->absmax, &b->absmax));
    QD_VEC_TRY(qd_vec_library(r, qd_quantize_4bit(&b->book, b->block, x, b->n, b->packed, b->absmax)));
    QD_VEC_TRY(judge_output(r, "data", b->packed, (b->n + 1) / 2));
    return judge_output(r, absmax, b->absmax, b->count * (int64_t)sizeof *b->absmax);
}

static qd_status dequantize_blocks(qd_vec_run *r, const blocks *b, const uint8_t *packed, const float *absmax) {
    float *y;
    QD_VEC_TRY(qd_vec_alloc(r, b->n, sizeof *y, &y));
    QD_VEC_TRY(qd_vec_library(r, qd_dequantize_4bit(&b->book, b->block, packed, absmax, b->n, y)));
    return judge_output(r, "y", y, b->n * (int64_t)sizeof *y);
}

qd_status qd_vec_quantize_4bit(qd_vec_run *r) {
    blocks b;
    QD_VEC_TRY(quantize_blocks(r, "absmax", &b));
    return dequantize_blocks(r, &b, b.packed, b.absmax);
}

/* The number of values is that of output y; data and scales must be enough for it. */
static qd_status find_blocks(qd_vec_run *r, blocks *b, const qd_vec_tensor **data) {
    const qd_vec_tensor *want;
    QD_VEC_TRY(find_book(r, &b->book));
    QD_VEC_TRY(need_codes(r, "data", data));
    QD_VEC_TRY(qd_vec_want(r, "y", &want));
    QD_VEC_TRY(block_size(r, "blocksize", &b->block));
    b->n = want ? want->count : 2 * (*data)->count;
    b->count = qd_codebook_blocks(b->n, b->block);
    return (*data)->count == (b->n + 1) / 2 ? QD_OK : qd_vec_bad(r, "data has not the size that y needs");
}

qd_status qd_vec_dequantize_4bit(qd_vec_run *r) {
    const qd_vec_tensor *data, *t;
    const float *absmax;
    blocks b;
    QD_VEC_TRY(find_blocks(r, &b, &data));
    QD_VEC_TRY(qd_vec_need_f32(r, "absmax", &t, &absmax));
    if (t->count != b.count) return qd_vec_bad(r, "absmax has not a value for each block");
    return dequantize_blocks(r, &b, data->data, absmax);
}

/* What each code stands for, for the tolerance max_excess: (x - offset) / scale of its block. */
static qd_status set_values(qd_vec_run *r, const float *x, int64_t n, int64_t block, float offset,
                            const float *scales) {
    double *value;
    QD_VEC_TRY(qd_vec_alloc(r, n, sizeof *value, &value));
    for (int64_t i = 0; i < n; i++) {
        const double scale = (double)scales[block ? i / block : 0];
        value[i] = scale > 0 ? ((double)x[i] - (double)offset) / scale : 0;
    }
    r->options.value = value;
    return QD_OK;
}

qd_status qd_vec_quantize_nested(qd_vec_run *r) {
    qd_codebook book2;
    int64_t block2;
    float offset, *absmax2;
    uint8_t *codes;
    blocks b;
    QD_VEC_TRY(make_book(r, "code2", &book2));
    QD_VEC_TRY(block_size(r, "blocksize2", &block2));
    QD_VEC_TRY(quantize_blocks(r, "absmax_f32", &b));
    const int64_t count2 = qd_codebook_blocks(b.count, block2);
    QD_VEC_TRY(qd_vec_alloc(r, b.count, 1, &codes));
    QD_VEC_TRY(qd_vec_alloc(r, count2, sizeof *absmax2, &absmax2));
    QD_VEC_TRY(qd_vec_library(r, qd_scales_quantize(&book2, block2, b.absmax, b.count, &offset, codes, absmax2)));
    QD_VEC_TRY(judge_output(r, "offset", &offset, sizeof offset));
    QD_VEC_TRY(judge_output(r, "absmax2", absmax2, count2 * (int64_t)sizeof *absmax2));
    QD_VEC_TRY(set_values(r, b.absmax, b.count, block2, offset, absmax2));
    return judge_output(r, "qabsmax", codes, b.count);
}

qd_status qd_vec_dequantize_nested(qd_vec_run *r) {
    const qd_vec_tensor *data, *codes, *t;
    const float *absmax2;
    qd_codebook book2;
    int64_t block2;
    float offset, *absmax;
    blocks b;
    QD_VEC_TRY(make_book(r, "code2", &book2));
    QD_VEC_TRY(block_size(r, "blocksize2", &block2));
    QD_VEC_TRY(qd_vec_scale(r, "offset", &offset));
    QD_VEC_TRY(find_blocks(r, &b, &data));
    QD_VEC_TRY(need_codes(r, "qabsmax", &codes));
    QD_VEC_TRY(qd_vec_need_f32(r, "absmax2", &t, &absmax2));
    if (codes->count != b.count || t->count != qd_codebook_blocks(b.count, block2))
        return qd_vec_bad(r, "qabsmax or absmax2 has not a value for each block");
    QD_VEC_TRY(qd_vec_alloc(r, b.count, sizeof *absmax, &absmax));
    QD_VEC_TRY(qd_vec_library(r, qd_scales_dequantize(&book2, block2, offset, codes->data, absmax2, b.count, absmax)));
    QD_VEC_TRY(judge_output(r, "absmax", absmax, b.count * (int64_t)sizeof *absmax));
    return dequantize_blocks(r, &b, data->data, absmax);
}

/* ---- 8 bits ------------------------------------------------------------------------------------------------- */

qd_status qd_vec_dynamic_table(qd_vec_run *r) {
    int64_t is_signed, exponent, total;
    qd_codebook book;
    QD_VEC_TRY(qd_vec_attr(r, "signed", 1, 0, 1, &is_signed));
    QD_VEC_TRY(qd_vec_attr(r, "max_exponent_bits", 7, 0, 8, &exponent));
    QD_VEC_TRY(qd_vec_attr(r, "total_bits", 8, 1, 8, &total));
    if (!is_signed || exponent != 7 || total != 8) return qd_vec_skip(r, "table", "only the signed table of 8 bits");
    QD_VEC_TRY(qd_vec_library(r, qd_codebook_fixed(QD_CODEBOOK_DYNAMIC8, &book)));
    return judge_output(r, "code", book.value, sizeof book.value);
}

qd_status qd_vec_quantize_8bit(qd_vec_run *r) {
    const qd_vec_tensor *t;
    const float *x;
    qd_codebook book;
    int64_t block;
    uint8_t *codes;
    float *absmax;
    QD_VEC_TRY(make_book(r, "code", &book));
    QD_VEC_TRY(qd_vec_need_f32(r, "x", &t, &x));
    QD_VEC_TRY(block_size(r, "blocksize", &block));
    const int64_t count = qd_codebook_blocks(t->count, block);
    QD_VEC_TRY(qd_vec_alloc(r, t->count, 1, &codes));
    QD_VEC_TRY(qd_vec_alloc(r, count, sizeof *absmax, &absmax));
    QD_VEC_TRY(qd_vec_library(r, qd_codebook_quantize(&book, block, x, t->count, codes, absmax)));
    QD_VEC_TRY(judge_output(r, "absmax", absmax, count * (int64_t)sizeof *absmax));
    QD_VEC_TRY(set_values(r, x, t->count, block, 0, absmax));
    return judge_output(r, "q", codes, t->count);
}

qd_status qd_vec_dequantize_8bit(qd_vec_run *r) {
    const qd_vec_tensor *codes, *t;
    const float *absmax;
    qd_codebook book;
    int64_t block;
    float *y;
    QD_VEC_TRY(make_book(r, "code", &book));
    QD_VEC_TRY(need_codes(r, "q", &codes));
    QD_VEC_TRY(qd_vec_need_f32(r, "absmax", &t, &absmax));
    QD_VEC_TRY(block_size(r, "blocksize", &block));
    if (t->count != qd_codebook_blocks(codes->count, block))
        return qd_vec_bad(r, "absmax has not a value for each block");
    QD_VEC_TRY(qd_vec_alloc(r, codes->count, sizeof *y, &y));
    QD_VEC_TRY(qd_vec_library(r, qd_codebook_dequantize(&book, block, codes->data, absmax, codes->count, y)));
    return judge_output(r, "y", y, codes->count * (int64_t)sizeof *y);
}

qd_status qd_vec_quantize_rowwise(qd_vec_run *r) {
    const qd_vec_tensor *t;
    const float *x;
    int8_t *codes;
    float *absmax;
    QD_VEC_TRY(qd_vec_need_f32(r, "x", &t, &x));
    const int64_t cols = t->rank ? t->shape[t->rank - 1] : 1, rows = t->count / cols;
    QD_VEC_TRY(qd_vec_alloc(r, t->count, 1, &codes));
    QD_VEC_TRY(qd_vec_alloc(r, rows, sizeof *absmax, &absmax));
    QD_VEC_TRY(qd_vec_library(r, qd_quantize_rowwise(x, rows, cols, codes, absmax)));
    QD_VEC_TRY(judge_output(r, "q", codes, t->count));
    return judge_output(r, "absmax", absmax, rows * (int64_t)sizeof *absmax);
}

/* ---- Learned ------------------------------------------------------------------------------------------------ */

qd_status qd_vec_kmeans(qd_vec_run *r) {
    /* The bound is that of a program that takes the best of several starts. */
    static const qd_kmeans_options thorough = {.iterations = 300, .restarts = 50, .sample = -1};
    const qd_vec_tensor *t;
    const float *x;
    int64_t k, dim;
    float *centroids;
    double error = 0;
    QD_VEC_TRY(qd_vec_need_f32(r, "x", &t, &x));
    QD_VEC_TRY(qd_vec_attr_needed(r, "k", 1, QD_CODEBOOK_MOST, &k));
    QD_VEC_TRY(qd_vec_attr(r, "dim", 1, 1, 1 << 20, &dim));
    if (t->count % dim) return qd_vec_bad(r, "x is no whole number of vectors");
    QD_VEC_TRY(qd_vec_alloc(r, k * dim, sizeof *centroids, &centroids));
    if (dim > 1) {
        QD_VEC_TRY(qd_vec_library(
            r, qd_kmeans_vectors(x, t->count / dim, (int)dim, (int)k, &thorough, centroids, NULL, &error)));
    } else {
        int found;
        qd_codebook book;
        QD_VEC_TRY(qd_vec_library(r, qd_kmeans(x, t->count, (int)k, centroids, &found)));
        QD_VEC_TRY(qd_vec_library(r, qd_codebook_make(8, centroids, found, QD_SCALE_ABSMAX, &book)));
        for (int64_t i = 0; i < t->count; i++) {
            const double off = (double)x[i] - (double)book.value[qd_codebook_nearest(&book, x[i])];
            error += off * off;
        }
    }
    return qd_vec_quality(r, error / (double)t->count);
}
