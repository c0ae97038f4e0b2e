/* The pair of functions behind every number format. FORMATS.md is their byte specification.
 *
 * To add a format: a row in qdot_formats.def, its block in qdot_blocks.h, the pair below in one of this folder's files,
 * a section with an example in FORMATS.md. The declarations, the table and the tests follow from the row. */
#ifndef QDOT_FORMATS_FORMATS_H
#define QDOT_FORMATS_FORMATS_H

#include "qdot/qdot.h"

/** Quantizes `n` elements, a whole number of blocks, to packed blocks. `dst` needs no alignment and does not overlap
 *  `x`. Formats that stand in files require finite values (qd_quantize checks them). Cannot fail. */
typedef void qd_quantize_row_fn(const float *x, void *dst, int64_t n);

/** The inverse, for any bytes. `src` needs no alignment and does not overlap `x`. */
typedef void qd_dequantize_row_fn(const void *src, float *x, int64_t n);

typedef struct qd_codec {
    qd_quantize_row_fn *quantize_row;
    qd_dequantize_row_fn *dequantize_row;
} qd_codec;

/** The pair of a format. NULL when `f` is none, or holds plain integers, which mean themselves. */
const qd_codec *qd_codec_get(qd_format f);

/* qd_quantize_row_NAME and qd_dequantize_row_NAME of every row that is not of kind INTEGER. */
#define QD_CODEC_FLOAT(name)                   \
    qd_quantize_row_fn qd_quantize_row_##name; \
    qd_dequantize_row_fn qd_dequantize_row_##name;
#define QD_CODEC_BLOCKED(name) QD_CODEC_FLOAT(name)
#define QD_CODEC_INTEGER(name)
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) QD_CODEC_##kind(name)
#include "qdot/qdot_formats.def"
#undef QD_CODEC_FLOAT
#undef QD_CODEC_BLOCKED
#undef QD_CODEC_INTEGER

#endif
