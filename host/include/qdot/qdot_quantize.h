/* Part of qdot.h, which includes it: turning a matrix from one way of storing it into another, and what that costs. */
#ifndef QDOT_QUANTIZE_H
#define QDOT_QUANTIZE_H

#ifndef QDOT_H
#error "include qdot/qdot.h"
#endif

/** How weights are stored: in a format, or in a coding. */
typedef struct qd_storage {
    qd_format format; /* QD_FORMAT_COUNT: in `coding` */
    qd_coding coding;
} qd_storage;

/** Reads the name of a format that GGUF files can hold, or of a coding. QD_ERR_ARGUMENT says what is known. */
QD_API qd_status qd_storage_parse(const char *name, qd_storage *out);
/** The name that qd_storage_parse reads; capacity: 64 will do. */
QD_API void qd_storage_name(const qd_storage *s, char *out, size_t capacity);
QD_API bool qd_storage_equal(const qd_storage *a, const qd_storage *b);
/** Bytes of a row; 0 when rows of this length cannot be stored so: they are no whole number of blocks or vectors. */
QD_API size_t qd_storage_row_bytes(const qd_storage *s, int64_t cols);
/** Floats in the row that all rows share: 0 for formats. */
QD_API int64_t qd_storage_side_count(const qd_storage *s, int64_t rows, int64_t cols);

/** Stored weights; nothing is owned. */
typedef struct qd_matrix {
    qd_storage storage;
    int64_t rows, cols;
    const void *data;
    const float *side; /* codings */
} qd_matrix;

/** What became of weights x that came back as y. Sums of one matrix can be added to those of another. */
typedef struct qd_loss {
    double count;
    double absolute; /* sum of |x - y| */
    double largest;  /* of them */
    /** The largest |x - y| in units of the step at its place, which is the mean distance between neighbouring values
     *  that its block or group can hold; NaN where there is no such thing: floats, powers of two, vectors. */
    double steps;
    double xx, yy, xy, squares; /* sums of x², y², x·y, (x - y)² */
} qd_loss;

QD_API void qd_loss_add(qd_loss *sum, const qd_loss *more);
/** 10 · log10(Σx² / Σ(x - y)²); infinite where nothing is lost. */
QD_API double qd_loss_snr(const qd_loss *l);
/** Of the angle between x and y; 1 where both are 0. */
QD_API double qd_loss_cosine(const qd_loss *l);

typedef struct qd_quantize_options {
    const float *importance; /* of each column, at least 0; NULL: all alike. Weighs errors, where the target can */
    int threads;             /* 0: as many as there are processors */
    bool (*progress)(void *user, double done); /* on the calling thread, done: 0 … 1; may be NULL; false cancels */
    void *user;
} qd_quantize_options;

/** Stores the weights of `src` as `to` says: dst has rows × qd_storage_row_bytes, side qd_storage_side_count floats
 * (may be NULL when that is 0). *loss compares what `src` stands for with what dst stands for. `options` may be NULL.
 * The result does not depend on the number of threads. QD_ERR_ARGUMENT: rows are no whole number of blocks; a weight is
 * NaN or infinite, or too large for the target: the message has row and column. dst is then spoilt. QD_ERR_CANCELLED:
 * progress said so. */
QD_API qd_status qd_matrix_quantize(const qd_matrix *src, const qd_storage *to, const qd_quantize_options *options,
                                    void *dst, float *side, qd_loss *loss);

/* ---- Importance --------------------------------------------------------------------------------------------- */

/** How much the columns of matrices matter: the mean square of what they are multiplied with, as llama.cpp's
 *  llama-imatrix collects it. */
typedef struct qd_imatrix qd_imatrix;

/** Reads a file of llama-imatrix: the old form (.dat), or the one in GGUF. Errors: QD_ERR_IO, QD_ERR_FILE. */
QD_API qd_status qd_imatrix_open(const char *path, qd_imatrix **out);
/** The same for bytes in memory, which begin at a multiple of 8. */
QD_API qd_status qd_imatrix_parse(const void *data, size_t bytes, qd_imatrix **out);
QD_API void qd_imatrix_free(qd_imatrix *m);
/** Matrices that it knows. */
QD_API int64_t qd_imatrix_count(const qd_imatrix *m);
/** *values: one number, at least 0, for each column of matrix `name`; NULL when it is not known, or was never used.
 *  QD_ERR_FILE: it is known with another number of columns. */
QD_API qd_status qd_imatrix_find(const qd_imatrix *m, const char *name, int64_t cols, const float **values);

#endif
