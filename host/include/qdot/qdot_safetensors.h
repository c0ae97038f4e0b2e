/* Safetensors files, and the packed weights of GPTQ and AWQ that stand in them. */
#ifndef QDOT_SAFETENSORS_H
#define QDOT_SAFETENSORS_H

#include "qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Files -------------------------------------------------------------------------------------------------- */

enum { QD_SAFETENSORS_RANK = 8 };

typedef struct qd_safetensor {
    const char *name;                   /* UTF-8 */
    const char *type;                   /* "F32", "F16", "BF16", "I32", … as in the file */
    int rank;                           /* 0 … QD_SAFETENSORS_RANK */
    int64_t shape[QD_SAFETENSORS_RANK]; /* outermost first */
    const void *data;                   /* in the mapped file, at any address */
    size_t bytes;
} qd_safetensor;

typedef struct qd_safetensors qd_safetensors;

/** Maps a file and checks its header, types, shapes and offsets before anything is used. Errors: QD_ERR_IO,
 * QD_ERR_FILE. */
QD_API qd_status qd_safetensors_open(const char *path, qd_safetensors **out);
/** The same for bytes in memory, which must outlive the result. */
QD_API qd_status qd_safetensors_parse(const void *data, size_t bytes, qd_safetensors **out);
QD_API void qd_safetensors_free(qd_safetensors *s);
QD_API int64_t qd_safetensors_count(const qd_safetensors *s);
/** Tensor i, in the order of their names; NULL when there is none. Valid as long as the file. */
QD_API const qd_safetensor *qd_safetensors_at(const qd_safetensors *s, int64_t i);
/** By name; NULL when there is none. */
QD_API const qd_safetensor *qd_safetensors_find(const qd_safetensors *s, const char *name);

/** A file in the making, as qd_gguf_writer: all tensors are added, then their data in that order. */
typedef struct qd_safetensors_writer qd_safetensors_writer;

QD_API qd_status qd_safetensors_create(const char *path, qd_safetensors_writer **out);
/** Adds a tensor; only name, type, rank and shape of *t are read. */
QD_API qd_status qd_safetensors_add(qd_safetensors_writer *w, const qd_safetensor *t);
QD_API qd_status qd_safetensors_write(qd_safetensors_writer *w, const void *data, size_t bytes);
QD_API qd_status qd_safetensors_finish(qd_safetensors_writer *w);
QD_API void qd_safetensors_writer_free(qd_safetensors_writer *w);

/* ---- Grouped weights ---------------------------------------------------------------------------------------- */

/** Weights as GPTQ, AWQ and the codings of unsigned integers have them: w[n][k] = scale · (code - zero), with a scale
 *  and a zero point for each `group` of a row (its last group may be short). Rows are outputs. */
typedef struct qd_grouped {
    int bits; /* 2, 3, 4 or 8 */
    int64_t rows, cols, group, groups;
    bool half_scales;  /* are halves in files, else floats */
    int32_t *group_of; /* [cols]: where the groups are not in order (GPTQ's act-order); NULL: k / group */
    uint8_t *codes;    /* [rows][cols]; these three are NULL where only the shape is known */
    uint8_t *zeros;    /* [rows][groups] */
    float *scales;     /* [rows][groups] */
} qd_grouped;

QD_API void qd_grouped_free(qd_grouped *g);
/** The weights, [rows][cols]. */
QD_API void qd_grouped_values(const qd_grouped *g, float *out);

typedef enum qd_grouped_layout { QD_LAYOUT_GPTQ, QD_LAYOUT_AWQ } qd_grouped_layout;

/** Tells by the shapes of BASE.qweight, BASE.qzeros, BASE.scales and, GPTQ's only, BASE.g_idx, what layer they are;
 *  codes, zeros and scales are left out. Free *out with qd_grouped_free. Errors: QD_ERR_FILE names the tensor that is
 *  missing or does not agree with the others. */
QD_API qd_status qd_grouped_measure(const qd_safetensors *s, const char *base, qd_grouped *out,
                                    qd_grouped_layout *layout);
/** The same with everything. */
QD_API qd_status qd_grouped_read(const qd_safetensors *s, const char *base, qd_grouped *out, qd_grouped_layout *layout);
/** Adds the tensors of a layer to a file, by its shape. QD_ERR_UNSUPPORTED: the layout cannot hold these bits, this
 * size or order. */
QD_API qd_status qd_grouped_add(qd_safetensors_writer *w, const char *base, const qd_grouped *g,
                                qd_grouped_layout layout);
/** Their data. */
QD_API qd_status qd_grouped_write(qd_safetensors_writer *w, const qd_grouped *g, qd_grouped_layout layout);

/** The shape of a matrix whose codes can be taken as they are: Q4_0, or a coding of 2, 3, 4 or 8 bit integers.
 *  QD_ERR_UNSUPPORTED: anything else. */
QD_API qd_status qd_grouped_shape(const qd_storage *s, int64_t rows, int64_t cols, qd_grouped *out);
/** The same with everything. */
QD_API qd_status qd_grouped_from_matrix(const qd_matrix *m, qd_grouped *out);
/** Stores the same codes as `to`: a coding of integers of these bits and groups, with -asym or, where all zero points
 *  are in the middle, without; then also Q4_0; or Q4_1, whose minimum -scale · zero is rounded to a half. dst and side
 *  as for qd_matrix_quantize. QD_ERR_UNSUPPORTED: `to` does not hold these weights without quantizing them again. */
QD_API qd_status qd_grouped_to_matrix(const qd_grouped *g, const qd_storage *to, void *dst, float *side);

#ifdef __cplusplus
}
#endif
#endif
