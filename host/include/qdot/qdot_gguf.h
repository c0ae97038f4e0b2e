/* Part of qdot.h, which includes it: GGUF files. */
#ifndef QDOT_GGUF_H
#define QDOT_GGUF_H

#ifndef QDOT_H
#error "include qdot/qdot.h"
#endif

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

typedef struct qd_gguf qd_gguf;

typedef enum qd_gguf_type {
    QD_GGUF_U8,
    QD_GGUF_I8,
    QD_GGUF_U16,
    QD_GGUF_I16,
    QD_GGUF_U32,
    QD_GGUF_I32,
    QD_GGUF_F32,
    QD_GGUF_BOOL,
    QD_GGUF_STRING,
    QD_GGUF_ARRAY,
    QD_GGUF_U64,
    QD_GGUF_I64,
    QD_GGUF_F64
} qd_gguf_type;

typedef struct qd_string {
    const char *data; /* UTF-8 as in the file, not ended by a zero */
    size_t size;
} qd_string;

typedef struct qd_gguf_value {
    qd_string key;
    qd_gguf_type type;      /* of the value, or QD_GGUF_ARRAY */
    qd_gguf_type item_type; /* of an array's items */
    uint64_t count;         /* items of an array, else 1 */
} qd_gguf_value;

typedef struct qd_gguf_tensor {
    qd_string name;
    qd_tensor_desc desc; /* outermost first; format is QD_FORMAT_COUNT when this library does not know the type */
    uint32_t gguf_type;
    const void *data; /* in the mapped file */
    size_t bytes;     /* 0 when the format is unknown */
} qd_gguf_tensor;

/** Maps a GGUF v2 or v3 file and checks every count, offset and size in it before anything is used.
 *  Errors: QD_ERR_IO, QD_ERR_FILE. */
QD_API qd_status qd_gguf_open(const char *path, qd_gguf **out);
/** The same for bytes in memory, which must outlive the result. */
QD_API qd_status qd_gguf_parse(const void *data, size_t bytes, qd_gguf **out);
QD_API void qd_gguf_free(qd_gguf *g);
QD_API uint32_t qd_gguf_version(const qd_gguf *g);
QD_API size_t qd_gguf_file_bytes(const qd_gguf *g);
QD_API uint64_t qd_gguf_value_count(const qd_gguf *g);
QD_API qd_status qd_gguf_value_at(const qd_gguf *g, uint64_t index, qd_gguf_value *out);
/** Finds a value by key; QD_ERR_FILE names a missing key. */
QD_API qd_status qd_gguf_find(const qd_gguf *g, const char *key, qd_gguf_value *out);
/** Item `item` of a value (0 when it is no array) as the asked type. Integers convert where they fit; F32, F64 and
 *  integers to double. QD_ERR_FILE when the type or range does not fit. */
QD_API qd_status qd_gguf_get_int(const qd_gguf *g, const qd_gguf_value *v, uint64_t item, int64_t *out);
QD_API qd_status qd_gguf_get_double(const qd_gguf *g, const qd_gguf_value *v, uint64_t item, double *out);
QD_API qd_status qd_gguf_get_string(const qd_gguf *g, const qd_gguf_value *v, uint64_t item, qd_string *out);
QD_API uint64_t qd_gguf_tensor_count(const qd_gguf *g);
QD_API qd_status qd_gguf_tensor_at(const qd_gguf *g, uint64_t index, qd_gguf_tensor *out);
/** Finds a tensor by name; QD_ERR_FILE names a missing one. */
QD_API qd_status qd_gguf_tensor_find(const qd_gguf *g, const char *name, qd_gguf_tensor *out);

/* ---- Coded tensors ------------------------------------------------------------------------------------------ */

/** A matrix of a coding, as it stands in a file: FORMATS.md, "Coded tensors in GGUF files". */
typedef struct qd_gguf_coded {
    qd_coding coding;
    int64_t rows, cols;
    const void *data;  /* in the mapped file: rows × qd_coding_row_bytes(&coding, cols) */
    const float *side; /* the same: side_count floats */
    int64_t side_count;
} qd_gguf_coded;

/** Tells whether tensor `name` is coded, and then what it is: *coded is false, and *out stays as it is, where the file
 *  names no coding for it. Errors: QD_ERR_FILE when there is no such tensor, or its sizes, its columns and its side row
 *  do not agree with its coding; the message names it. */
QD_API qd_status qd_gguf_find_coded(const qd_gguf *g, const char *name, bool *coded, qd_gguf_coded *out);

/** The static quantization of what matrix `name` reads: int8 codes round(x / scale) + zero_point. *found is false, and
 * the others stay as they are, where the file has none. QD_ERR_FILE: a scale that is not positive and finite, or a zero
 *  point that is no code. */
QD_API qd_status qd_gguf_find_input(const qd_gguf *g, const char *name, bool *found, float *scale, int32_t *zero_point);

/** Columns of a coded matrix that the file also has in half precision, for LLM.int8(). */
typedef struct qd_gguf_outliers {
    int64_t count;           /* 0: there are none */
    const int32_t *columns;  /* ascending; in the mapped file */
    const uint16_t *weights; /* f16 [rows, count]; the same */
} qd_gguf_outliers;

/** Finds those of matrix `name`, which is rows × cols. QD_ERR_FILE: the parts do not agree. */
QD_API qd_status qd_gguf_find_outliers(const qd_gguf *g, const char *name, int64_t rows, int64_t cols,
                                       qd_gguf_outliers *out);

/* ---- Writing ------------------------------------------------------------------------------------------------ */

/** A GGUF v3 file in the making. Call in this order: values and tensors in any order, then the data of every tensor in
 *  the order in which they were added, then qd_gguf_write_finish. The bytes go to a nameless file beside the target (or
 *  one with a name of its own, where the file system has no nameless ones), which takes the target's place at the end:
 *  whatever happens before, the old file stays, and no half of a new one is left. */
typedef struct qd_gguf_writer qd_gguf_writer;

/** `path`: a file that is replaced, or none. QD_ERR_IO: its folder cannot be written, or it is no plain file. */
QD_API qd_status qd_gguf_write_create(const char *path, qd_gguf_writer **out);
/** Copies a value of another file, which qd_gguf_value_at or qd_gguf_find gave. */
QD_API qd_status qd_gguf_write_value(qd_gguf_writer *w, const qd_gguf *g, const qd_gguf_value *v);
QD_API qd_status qd_gguf_write_u32(qd_gguf_writer *w, const char *key, uint32_t x);
QD_API qd_status qd_gguf_write_string(qd_gguf_writer *w, const char *key, const char *text);
/** Adds a tensor; its format must have a type in GGUF files. QD_ERR_ARGUMENT: the format has none, or rows are no whole
 *  number of blocks. */
QD_API qd_status qd_gguf_write_tensor(qd_gguf_writer *w, const char *name, const qd_tensor_desc *d);
/** Adds a coded matrix with its keys: two tensors, the bytes and then the side row, which both want their data. */
QD_API qd_status qd_gguf_write_coded(qd_gguf_writer *w, const char *name, const qd_coding *c, int64_t rows,
                                     int64_t cols);
/** Adds the keys that qd_gguf_find_input reads. */
QD_API qd_status qd_gguf_write_input(qd_gguf_writer *w, const char *name, float scale, int32_t zero_point);
/** Adds the two tensors that qd_gguf_find_outliers finds, which both want their data: count columns, then the weights.
 */
QD_API qd_status qd_gguf_write_outliers(qd_gguf_writer *w, const char *name, int64_t rows, int64_t count);
/** Appends bytes of data: any number of calls for a tensor, none across two. QD_ERR_IO: the disk is full, for example.
 */
QD_API qd_status qd_gguf_write_data(qd_gguf_writer *w, const void *data, size_t bytes);
/** Writes everything to the disk and puts the file in its place. QD_ERR_ARGUMENT: data are missing. */
QD_API qd_status qd_gguf_write_finish(qd_gguf_writer *w);
/** Bytes that the finished file has, as soon as all values and tensors are added. */
QD_API uint64_t qd_gguf_write_size(const qd_gguf_writer *w);
/** Before qd_gguf_write_finish: gives up, and leaves nothing. */
QD_API void qd_gguf_writer_free(qd_gguf_writer *w);

#endif
