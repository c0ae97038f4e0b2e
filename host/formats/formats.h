/* What stands behind every number format. FORMATS.md is their byte specification.
 *
 * To add a format: a row in qdot_formats.def; then for a block format its block in qdot_blocks.h and the functions of a
 * block below, for another the pair of functions of a row, in one of this folder's files; a section with an example in
 * FORMATS.md. The declarations, the table and the tests follow from the row. */
#ifndef QDOT_FORMATS_FORMATS_H
#define QDOT_FORMATS_FORMATS_H

#include "qdot/qdot.h"

/** Quantizes `n` elements, a whole number of blocks, to packed blocks. `dst` needs no alignment and does not overlap
 *  `x`. Formats that stand in files require finite values (qd_quantize checks them). importance: how much the squared
 *  error of each element counts, finite and not negative; NULL: see FORMATS.md. Cannot fail. */
typedef void qd_quantize_row_fn(const float *x, const float *importance, void *dst, int64_t n);

/** The inverse, for any bytes. `src` needs no alignment and does not overlap `x`. */
typedef void qd_dequantize_row_fn(const void *src, float *x, int64_t n);

/** Sixteen elements of a block format, as integer sums take them: x[i] = scale · code[i], or scale · code[i] + offset.
 */
typedef struct qd_sixteen {
    int8_t code[16];
    float scale, offset;
    bool has_offset;
} qd_sixteen;

/** Quantizes one block, which is aligned as its struct. */
typedef void qd_quantize_block_fn(const float *x, const float *importance, void *block);

/** Elements 16·i … 16·i+15 of a block, which is aligned as its struct. */
typedef void qd_sixteen_fn(const void *block, int i, qd_sixteen *out);

typedef struct qd_codec {
    qd_quantize_row_fn *quantize_row;
    qd_dequantize_row_fn *dequantize_row;
    qd_sixteen_fn *sixteen; /* of kind BLOCKED; else NULL */
} qd_codec;

/** The functions of a format. NULL when `f` is none, or holds plain integers, which mean themselves. */
const qd_codec *qd_codec_get(qd_format f);

/* qd_quantize_row_NAME (which knows no importance) and qd_dequantize_row_NAME of kind FLOAT, qd_quantize_block_NAME and
 * qd_sixteen_NAME of kind BLOCKED. */
#define QD_CODEC_FLOAT(name)                                           \
    void qd_quantize_row_##name(const float *x, void *dst, int64_t n); \
    qd_dequantize_row_fn qd_dequantize_row_##name;
#define QD_CODEC_BLOCKED(name)                     \
    qd_quantize_block_fn qd_quantize_block_##name; \
    qd_sixteen_fn qd_sixteen_##name;
#define QD_CODEC_INTEGER(name)
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) QD_CODEC_##kind(name)
#include "qdot/qdot_formats.def"
#undef QD_CODEC_FLOAT
#undef QD_CODEC_BLOCKED
#undef QD_CODEC_INTEGER

#endif
