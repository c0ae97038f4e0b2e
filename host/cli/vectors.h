/* Golden vectors: results of other programs, in folders of cases.json and data.bin. Their reader, the comparison that
 * their manifests ask for, and `qdot verify --vectors`, which runs them. tests/golden/vectors/FORMAT.md describes the
 * files. One group belongs to one thread at a time. */
#ifndef QDOT_CLI_VECTORS_H
#define QDOT_CLI_VECTORS_H

#include <cjson/cJSON.h>

#include "cli/cli.h"
#include "qdot/qdot.h"

#define QD_VEC_MAX_RANK 8

/** Records a printf-style message for qd_vec_message() and returns `s`. One line, no newline. */
qd_status qd_vec_fail(qd_status s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** One line about the calling thread's last failure in here. */
const char *qd_vec_message(void);

/* ---- Reading ------------------------------------------------------------------------------------------------ */

typedef enum qd_vec_dtype {
    QD_VEC_F64,
    QD_VEC_F32,
    QD_VEC_F16,
    QD_VEC_BF16,
    QD_VEC_U8,
    QD_VEC_I8,
    QD_VEC_U16,
    QD_VEC_I16,
    QD_VEC_U32,
    QD_VEC_I32,
    QD_VEC_I64,
    QD_VEC_DTYPE_COUNT
} qd_vec_dtype;

typedef struct qd_vec_tensor {
    const char *name;
    const char *logical; /* a smaller type, stored one element per byte; NULL when there is none */
    qd_vec_dtype dtype;
    int rank; /* 0: one scalar */
    int64_t shape[QD_VEC_MAX_RANK];
    int64_t count; /* elements */
    size_t bytes;
    const void *data;  /* little-endian, aligned to 16 */
    const cJSON *json; /* the entry in the manifest */
} qd_vec_tensor;

typedef struct qd_vec_case {
    const char *name, *op;
    const char *format; /* NULL when the case names none */
    bool must_fail;     /* then there are no outputs, and `error` says why */
    const char *error;
    const qd_vec_tensor *inputs, *outputs;
    int input_count, output_count;
    const cJSON *attrs; /* an object */
    const cJSON *json;  /* the entry in the manifest */
} qd_vec_case;

/** A group. Everything in it lives as long as the group. */
typedef struct qd_vectors {
    const char *group;
    const qd_vec_case *cases;
    int case_count;
    struct qd_vec_storage *storage;
} qd_vectors;

/** Reads the group in `folder` and checks every offset, size and shape in its manifest.
 *  Errors: QD_ERR_IO, QD_ERR_FILE, QD_ERR_MEMORY. */
qd_status qd_vectors_open(const char *folder, qd_vectors **out);
/** The same for a manifest in memory; its tensors are in `data`, which must outlive the result and be aligned to 16. */
qd_status qd_vectors_parse(const char *manifest, size_t manifest_bytes, const void *data, size_t bytes,
                           qd_vectors **out);
void qd_vectors_free(qd_vectors *v);

/** The tensor of that name; NULL when the case has none. */
const qd_vec_tensor *qd_vec_input(const qd_vec_case *c, const char *name);
const qd_vec_tensor *qd_vec_output(const qd_vec_case *c, const char *name);
/** True when the case has this tag. */
bool qd_vec_tagged(const qd_vec_case *c, const char *tag);
/** Bytes of one element. */
size_t qd_vec_dtype_bytes(qd_vec_dtype t);
/** "f32" */
const char *qd_vec_dtype_name(qd_vec_dtype t);

/** Element i of a tensor of floats. */
double qd_vec_float(const qd_vec_tensor *t, int64_t i);
/** True for f64, f32, f16 and bf16. */
bool qd_vec_is_float(qd_vec_dtype t);

/* ---- Comparing ---------------------------------------------------------------------------------------------- */

typedef enum qd_vec_verdict {
    QD_VEC_PASS,
    QD_VEC_RELAXED,     /* outside the tolerance, inside what the case allows to another documented rule */
    QD_VEC_INFORMATIVE, /* an example, not a test: see qd_vec_quality_limit */
    QD_VEC_FAIL
} qd_vec_verdict;

typedef struct qd_vec_options {
    bool flushes_denormals; /* the device does; counts only in cases that allow for it */
    const double *value;    /* for the tolerance max_excess: what each code stands for, one per element; else NULL */
} qd_vec_options;

typedef struct qd_vec_result {
    qd_vec_verdict verdict;
    int64_t different; /* elements outside the tolerance; codes where the output is packed codes */
    char first[160];   /* the first of them, in words */
} qd_vec_result;

/** Compares what was computed with output `want` of case `c`. `got` has the layout of `want`; a wrong size is
 *  QD_VEC_FAIL. `options` may be NULL.
 *  Errors: QD_ERR_FILE when the manifest asks for a comparison that is unknown or lacks what it needs;
 *  QD_ERR_ARGUMENT when options->value is missing. */
qd_status qd_vec_compare(const qd_vec_case *c, const qd_vec_tensor *want, const void *got, size_t got_bytes,
                         const qd_vec_options *options, qd_vec_result *out);

/** The largest error that passes a case with informative outputs, in the measure that `quality` of its entry names
 *  (rmse or mse). Errors: QD_ERR_FILE. */
qd_status qd_vec_quality_limit(const qd_vec_case *c, double *limit);

/* ---- Running ------------------------------------------------------------------------------------------------ */

typedef enum qd_vec_outcome { QD_VEC_PASSED, QD_VEC_PASSED_RELAXED, QD_VEC_FAILED, QD_VEC_SKIPPED } qd_vec_outcome;

enum { QD_VEC_TEXT = 256 };

typedef struct qd_vec_report {
    char part[64];          /* what of the group is skipped, empty: all of it */
    char text[QD_VEC_TEXT]; /* why it did not simply pass */
    int ops, fallbacks;     /* operators that ran, and those of them that the device left to the reference */
} qd_vec_report;

/** Runs one case of a group through the library on the context's device. A manifest that lacks what the case needs
 * makes it fail. */
qd_vec_outcome qd_vec_run_case(qd_context *c, const char *group, const qd_vec_case *vector, qd_vec_report *report);

/** `qdot verify --vectors`: runs the folder of one group, or all groups that its index.json lists, and prints a table
 * or a JSON object. Returns an exit code. */
int qd_vec_verify(const qd_cli_common *common, const char *folder);

#endif
