/* Quantizing to coded rows. Scales first, as they will be stored; then the codes that suit the stored ones. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "formats/coding.h"
#include "qdot/qdot_codebook.h"
#include "qdot/qdot_num.h"

typedef struct work {
    const qd_coding *c;
    qd_coded_params p;
    int64_t rows;
    size_t row_bytes;
    uint8_t *dst;
    float *side;
    qd_codebook
        book; /* TABLE and SHIFT: what codes stand for; UNIFORM that fits: the same for its codes from the lowest */
    int64_t scales; /* groups of all rows, or 1 */
    float *scale;   /* of each: as it will be read, or, nested, before it is quantized */
    int32_t *zero;
    const float *importance; /* of each column, or NULL */
    uint8_t *codes;          /* of a group, or of the tensor */
} work;

/* ---- Scales ------------------------------------------------------------------------------------------------- */

/* A scale that only has a magnitude. */
static bool unsigned_scale(const qd_coding *c) {
    return c->nested || c->scale == QD_SCALE_E8M0;
}

static float uniform_scale(const qd_coding *c, const float *x, int64_t n) {
    float low = c->asymmetric ? 0 : x[0], high = low;
    for (int64_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (c->asymmetric) return high / (float)c->highest - low / (float)c->highest;
    const float largest = fmaxf(fabsf(low), fabsf(high));
    if (c->rule == QD_RULE_LARGEST || unsigned_scale(c)) return largest / (float)c->highest;
    return (-low < high ? high : low) / (float)c->lowest;
}

static void encode_group(const work *w, const float *x, int64_t n, float scale, int32_t zero);

/* Least of the errors, weighed by column, that scales from 0.7 to 1.1 times the usual one make. */
static float weighed_scale(const work *w, const float *x, int64_t first, int64_t n, float usual) {
    float best = usual;
    double least = INFINITY;
    for (int i = 14; i <= 22; i++) {
        const float scale = usual * (float)i / 20;
        double error = 0;
        encode_group(w, x, n, scale, 0);
        for (int64_t k = 0; k < n; k++) {
            const float value =
                w->c->kind == QD_CODING_UNIFORM ? (float)(int8_t)w->codes[k] : w->book.value[w->codes[k]];
            const double e = (double)x[k] - (double)(value * scale);
            error += e * e * (double)w->importance[(first + k) % w->p.k];
        }
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

static qd_status group_scale(work *w, const float *x, int64_t n, float *scale) {
    if (w->c->scale == QD_SCALE_NONE) {
        *scale = 1;
        return QD_OK;
    }
    if (w->c->kind == QD_CODING_PRODUCT) {
        *scale = 0;
        for (int64_t i = 0; i < n; i++)
            *scale = fmaxf(*scale, fabsf(x[i]));
        return QD_OK;
    }
    if (w->c->kind != QD_CODING_UNIFORM || w->c->rule == QD_RULE_FIT)
        return qd_codebook_quantize(&w->book, 0, x, n, w->codes, scale);
    *scale = uniform_scale(w->c, x, n);
    return QD_OK;
}

/* The least power of two that is not below the scale: nothing that fitted is cut. */
static uint8_t to_e8m0(float scale) {
    int exponent;
    const float fraction = frexpf(scale, &exponent); /* 0.5 … 1 */
    if (!(scale > 0)) return 0;
    if (fraction == 0.5f) exponent--;
    return (uint8_t)(exponent < -127 ? 0 : exponent > 127 ? 254 : exponent + 127);
}

/* Writes the scales, and makes them what will be read. */
static qd_status store_scales(work *w) {
    const int64_t groups = w->p.groups;
    if (w->p.scale == QD_SCALE_AS_TENSOR) {
        w->side[w->p.tensor_at] = w->scale[0];
        return QD_OK;
    }
    if (w->p.scale == QD_SCALE_AS_NESTED) {
        qd_codebook map;
        float *at = w->side + w->p.nested_at;
        uint8_t *codes = qd_alloc((size_t)w->scales);
        qd_status status = codes ? qd_codebook_fixed(QD_CODEBOOK_DYNAMIC8, &map) : QD_ERR_MEMORY;
        if (!status) status = qd_scales_quantize(&map, 256, w->scale, w->scales, at + 256, codes, at + 257);
        if (!status) memcpy(at, map.value, 256 * sizeof *at);
        for (int64_t r = 0; !status && r < w->rows; r++)
            memcpy(w->dst + (size_t)r * w->row_bytes + w->p.scales_at, codes + r * groups, (size_t)groups);
        free(codes);
        return status;
    }
    float factor = 0; /* E4M3 reaches from 2^-9 to 448 only */
    for (int64_t i = 0; w->p.scale == QD_SCALE_AS_E4M3 && i < w->scales; i++)
        factor = fmaxf(factor, fabsf(w->scale[i]) / 448);
    if (w->p.scale == QD_SCALE_AS_E4M3) w->side[w->p.tensor_at] = factor;
    for (int64_t r = 0; r < w->rows; r++) {
        const qd_coded_row row = {&w->p, w->dst + (size_t)r * w->row_bytes, w->side, r};
        uint8_t *at = w->dst + (size_t)r * w->row_bytes + w->p.scales_at;
        for (int64_t g = 0; g < groups; g++) {
            float *scale = &w->scale[r * groups + g];
            uint16_t half;
            switch (w->p.scale) {
                case QD_SCALE_AS_F32:
                    memcpy(at + 4 * g, scale, 4);
                    break;
                case QD_SCALE_AS_F16:
                case QD_SCALE_AS_BF16:
                    half = w->p.scale == QD_SCALE_AS_F16 ? qd_float_to_half(*scale) : qd_float_to_bf16(*scale);
                    memcpy(at + 2 * g, &half, 2);
                    break;
                case QD_SCALE_AS_E4M3:
                    at[g] = qd_float_to_f8e4m3(factor > 0 ? *scale / factor : 0);
                    break;
                case QD_SCALE_AS_E8M0:
                    at[g] = to_e8m0(*scale);
                    break;
                default:
                    break;
            }
            *scale = qd_coded_scale(&row, g);
        }
    }
    return QD_OK;
}

/* Zero points for the scales that will be read: ranges have 0 in them. */
static void store_zeros(work *w, const float *src) {
    const int64_t n = w->p.scale == QD_SCALE_AS_TENSOR ? w->rows * w->p.k : w->p.group;
    for (int64_t i = 0; i < w->scales; i++) {
        const int64_t r = i / w->p.groups, g = i % w->p.groups;
        const float *x = w->p.scale == QD_SCALE_AS_TENSOR ? src : src + r * w->p.k + g * n;
        const int64_t count = w->p.scale == QD_SCALE_AS_TENSOR || (g + 1) * n <= w->p.k ? n : w->p.k - g * n;
        float low = 0;
        for (int64_t k = 0; k < count; k++)
            low = x[k] < low ? x[k] : low;
        const float at = w->scale[i] > 0 ? -low / w->scale[i] : 0;
        w->zero[i] = qd_to_code(0, qd_round_even_i32(at), 0, w->c->highest);
        if (w->p.scale == QD_SCALE_AS_TENSOR) w->side[w->p.tensor_at + 1] = (float)w->zero[i];
    }
}

/* ---- Codes -------------------------------------------------------------------------------------------------- */

void qd_coded_put(uint8_t *packed, int64_t first, const uint8_t *codes, int64_t n, int bits) {
    const unsigned mask = (1u << bits) - 1;
    for (int64_t i = 0, at = first * bits; i < n; i++, at += bits) {
        const unsigned place = mask << at % 8, v = (codes[i] & mask) << at % 8;
        packed[at / 8] = (uint8_t)((packed[at / 8] & ~place) | v);
        if (place >> 8) packed[at / 8 + 1] = (uint8_t)((packed[at / 8 + 1] & ~(place >> 8)) | v >> 8);
    }
}

static float inverse_of(float scale) {
    const float inverse = 1 / scale;
    return isfinite(inverse) ? inverse : 0;
}

static void encode_group(const work *w, const float *x, int64_t n, float scale, int32_t zero) {
    if (w->c->kind != QD_CODING_UNIFORM) {
        qd_codebook_encode(&w->book, x, n, 1 / fmaxf(scale, 1e-38f), w->codes);
        return;
    }
    const float inverse = inverse_of(scale);
    for (int64_t i = 0; i < n; i++)
        w->codes[i] = (uint8_t)qd_to_code(qd_round_even_i32(x[i] * inverse), zero, w->c->lowest, w->c->highest);
}

static void store_codes(work *w, const float *src, int64_t from, int64_t to) {
    for (int64_t r = from; r < to; r++) {
        uint8_t *row = w->dst + (size_t)r * w->row_bytes;
        for (int64_t g = 0; g < w->p.groups; g++) {
            const int64_t first = g * w->p.group, n = first + w->p.group < w->p.k ? w->p.group : w->p.k - first;
            const int64_t i = w->scales == 1 ? 0 : r * w->p.groups + g;
            encode_group(w, src + r * w->p.k + first, n, w->scale[i], w->zero[i]);
            qd_coded_put(row + w->p.codes_at, first, w->codes, n, w->p.bits);
            if (w->p.zeros_at != QD_ABSENT)
                qd_coded_put(row + w->p.zeros_at, g, (uint8_t[]){(uint8_t)w->zero[i]}, 1, w->p.bits);
        }
    }
}

/* ---- Tables ------------------------------------------------------------------------------------------------- */

/* The fixed table of a family. */
static qd_status find_book(work *w) {
    char name[32];
    qd_coding plain;
    const char *family, *what;
    int least, most;
    if (w->c->kind == QD_CODING_UNIFORM && w->c->rule != QD_RULE_FIT) return QD_OK;
    if (w->c->kind == QD_CODING_PRODUCT || w->c->scale == QD_SCALE_NONE) return QD_OK;
    plain = *w->c;
    if (!qd_coding_family(plain.family, &family, &least, &most, &what)) return QD_ERR_ARGUMENT;
    snprintf(name, sizeof name, least == most ? "%s" : "%s%d", family, plain.bits);
    const qd_status status = qd_codebook_find(name, &w->book);
    if (!status && w->p.table_at != QD_ABSENT)
        memcpy(w->side + w->p.table_at, w->book.value, sizeof *w->side << w->p.bits);
    return status;
}

/* ---- Learned tables ----------------------------------------------------------------------------------------- */

static void take_table(work *w, float *table) {
    memcpy(table, w->book.value, sizeof *table << w->p.bits);
}

/* The best table for n values, and the book that finds its codes. */
static qd_status learn_table(work *w, const float *x, int64_t n) {
    float values[QD_CODEBOOK_MOST];
    int found;
    const qd_status status = qd_kmeans(x, n, 1 << w->p.bits, values, &found);
    return status ? status : qd_codebook_make(w->p.bits, values, found, QD_SCALE_ABSMAX, &w->book);
}

static qd_status learn_tables(work *w, const float *src) {
    qd_status status = QD_OK;
    if (!w->c->per_row) {
        QD_TRY(learn_table(w, src, w->rows * w->p.k));
        take_table(w, w->side + w->p.table_at);
        store_codes(w, src, 0, w->rows);
    }
    for (int64_t r = 0; w->c->per_row && r < w->rows; r++) {
        float table[QD_CODEBOOK_MOST];
        QD_TRY(learn_table(w, src + r * w->p.k, w->p.k));
        take_table(w, table);
        memcpy(w->dst + (size_t)r * w->row_bytes, table, sizeof *table << w->p.bits);
        store_codes(w, src, r, r + 1);
    }
error:
    return status;
}

/* Codebooks of the rows divided by their scales. */
static qd_status learn_vectors(work *w, const float *src) {
    const int64_t n = w->rows * w->p.k, places = w->p.k / w->p.length;
    const qd_product product = {w->p.length, w->p.bits, w->p.share};
    float *x = qd_alloc((size_t)n * sizeof *x);
    uint8_t *codes = qd_alloc((size_t)(w->rows * places));
    qd_status status = x && codes ? QD_OK : QD_ERR_MEMORY;
    for (int64_t i = 0; !status && i < n; i++)
        x[i] = src[i] * inverse_of(w->scale[i / w->p.k]);
    if (!status) status = qd_product_train(&product, x, w->rows, w->p.k, NULL, w->side + w->p.table_at, codes);
    for (int64_t r = 0; !status && r < w->rows; r++)
        qd_coded_put(w->dst + (size_t)r * w->row_bytes + w->p.codes_at, 0, codes + r * places, places, w->p.bits);
    free(x);
    free(codes);
    return status;
}

/* ---- All ---------------------------------------------------------------------------------------------------- */

static qd_status check_values(const float *src, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows * cols; i++) {
        if (isfinite(src[i])) continue;
        return qd_fail(QD_ERR_ARGUMENT,
                       "quantize: a coding cannot hold the %s at row %lld, column %lld; replace it, or use f16 or bf16",
                       isnan(src[i]) ? "NaN" : "infinity", (long long)(i / cols), (long long)(i % cols));
    }
    return QD_OK;
}

static qd_status find_scales(work *w, const float *src) {
    qd_status status = QD_OK;
    if (w->p.scale == QD_SCALE_AS_TENSOR) return group_scale(w, src, w->rows * w->p.k, w->scale);
    for (int64_t i = 0; i < w->scales && !status; i++) {
        const int64_t r = i / w->p.groups, first = i % w->p.groups * w->p.group;
        const int64_t n = first + w->p.group < w->p.k ? w->p.group : w->p.k - first;
        status = group_scale(w, src + r * w->p.k + first, n, &w->scale[i]);
        if (!status && w->importance && !w->c->asymmetric && w->c->kind != QD_CODING_PRODUCT &&
            w->c->scale != QD_SCALE_NONE)
            w->scale[i] = weighed_scale(w, src + r * w->p.k + first, first, n, w->scale[i]);
    }
    return status;
}

qd_status qd_coding_quantize(const qd_coding *c, const float *src, int64_t rows, int64_t cols, const float *importance,
                             void *dst, float *side) {
    qd_status status = QD_OK;
    work w = {.c = c,
              .rows = rows,
              .row_bytes = qd_coding_row_bytes(c, cols),
              .dst = dst,
              .side = side,
              .importance = importance};
    QD_TRY(qd_coding_layout(c, rows, cols, &w.p));
    if (!src || !dst || !side) return qd_fail(QD_ERR_ARGUMENT, "quantize: no pointer may be NULL");
    QD_TRY(check_values(src, rows, cols));
    const bool tensor = w.p.scale == QD_SCALE_AS_TENSOR;
    w.scales = tensor ? 1 : rows * w.p.groups;
    w.scale = qd_alloc((size_t)w.scales * sizeof *w.scale);
    w.zero = qd_alloc_zero((size_t)w.scales, sizeof *w.zero);
    w.codes = qd_alloc((size_t)(tensor ? rows * cols : cols));
    if (!w.scale || !w.zero || !w.codes) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    memset(dst, 0, (size_t)rows * w.row_bytes);
    memset(side, 0, (size_t)qd_coding_side_count(c, rows, cols) * sizeof *side);
    QD_TRY(find_book(&w));
    QD_TRY(find_scales(&w, src));
    QD_TRY(store_scales(&w));
    if (c->asymmetric) store_zeros(&w, src);
    if (c->kind == QD_CODING_PRODUCT) {
        QD_TRY(learn_vectors(&w, src));
    } else if (c->scale == QD_SCALE_NONE) {
        QD_TRY(learn_tables(&w, src));
    } else {
        store_codes(&w, src, 0, rows);
    }
error:
    free(w.scale);
    free(w.zero);
    free(w.codes);
    return status;
}
