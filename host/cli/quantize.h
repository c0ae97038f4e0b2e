/* What the files behind `qdot quantize` share: quantize_plan.c decides, cmd_quantize.c does, quantize_report.c tells.
 */
#ifndef QDOT_CLI_QUANTIZE_H
#define QDOT_CLI_QUANTIZE_H

#include <regex.h>

#include "cli/cli.h"
#include "qdot/qdot_calibration.h"

/** What --format and --tensors ask for. */
typedef struct qd_cli_rule {
    regex_t regex; /* of --tensors */
    bool keep;     /* the tensors stay as they are */
    qd_storage to;
} qd_cli_rule;

/** A line of --plan. */
typedef struct qd_cli_planned {
    char name[128];
    bool keep; /* else: */
    qd_storage to;
} qd_cli_planned;

typedef struct qd_cli_rules {
    qd_cli_rule list[QD_CLI_LIST_MOST];
    int count;
    bool has_default; /* --format; else other tensors stay as they are */
    qd_storage to;
    qd_cli_planned *planned; /* overrules the others */
    int n_planned;
} qd_cli_rules;

/** One tensor of the input, and what becomes of it. */
typedef struct qd_cli_change {
    char name[128];
    qd_gguf_tensor tensor;
    qd_matrix src;     /* matrices of a known format or coding; else rows is 0 */
    bool keep;         /* its bytes are copied */
    qd_storage to;     /* what it is stored in then; of what is kept, too, where src.rows is not 0 */
    bool instead;      /* … instead of `wanted`, which has no rows of this length */
    qd_storage wanted; /* … */
    uint64_t bytes;    /* that it takes in the output */
    float *columns;    /* what each column is multiplied by before; NULL: nothing */
    float *rows;       /* what each row is divided by; of a vector, its new values */
    float *importance; /* of its columns, by the method; NULL: none */
    qd_loss loss;      /* unless kept */
    /** Int8 matrices: columns that are there in f16, too. Their weights are in the file, or NULL: to be made. */
    qd_gguf_outliers outliers;
    int32_t *outlier_columns; /* owned; NULL: they are in the file */
} qd_cli_change;

typedef struct qd_cli_plan {
    qd_cli_change *changes; /* in the order of the file */
    int64_t count;
    double weights; /* that are to be quantized */
} qd_cli_plan;

/** Reads --format (NULL: none), --group (0: none), --tensors and --plan (NULL: none). On failure prints a message and
 * returns false; free in any case. */
bool qd_cli_rules_read(const char *format, int64_t group, const qd_cli_list *tensors, const char *plan,
                       qd_cli_rules *out);
void qd_cli_rules_free(qd_cli_rules *r);

/** Adds the lines of a plan: on each a tensor's name and a format or `keep`, then # and a comment. On failure prints a
 *  message and returns false. */
bool qd_cli_planned_read(const char *path, qd_cli_rules *out);
/** NULL: no line has it. */
const qd_cli_planned *qd_cli_planned_find(const qd_cli_rules *rules, const char *tensor);
/** Every line was followed as it stands; else prints a message and returns false. */
bool qd_cli_planned_check(const qd_cli_rules *rules, const qd_cli_plan *plan);

/** Decides about every tensor; the same about failures. */
bool qd_cli_plan_make(const qd_gguf *g, const qd_cli_rules *rules, qd_cli_plan *out);
void qd_cli_plan_free(qd_cli_plan *p);

/** What int8 matrices are told about what they read: --calibration and the options that belong to it. */
typedef struct qd_cli_inputs {
    const char *path, *range; /* as given; NULL: not */
    bool asymmetric;
    const char *outliers; /* threshold, as given: a magnitude, or with an x behind it times that of the middle column */
    qd_calibration *stats;
} qd_cli_inputs;
/** Reads the statistics, if there are any, for the model g; the same about failures. */
bool qd_cli_inputs_read(const qd_gguf *g, qd_cli_inputs *in);
void qd_cli_inputs_free(qd_cli_inputs *in);
/** Adds a scale and a zero point for every int8 matrix that the statistics know; without any, what the input has about
 *  matrices that are kept. */
bool qd_cli_inputs_write(qd_gguf_writer *w, const qd_gguf *g, const qd_cli_plan *plan, const qd_cli_inputs *in);

/** Chooses the outlier columns of int8 matrices: those whose largest magnitude in the statistics reaches the threshold;
 * of matrices that are kept, those that the input has. The same about failures. */
bool qd_cli_outliers_choose(const qd_gguf *g, qd_cli_plan *plan, const qd_cli_inputs *in);
/** Writes the data of both tensors. */
qd_status qd_cli_outliers_write(qd_gguf_writer *w, const qd_cli_change *c);

/** What was done, for people or as JSON. */
typedef struct qd_cli_outcome {
    const char *input, *output;
    uint64_t input_bytes, output_bytes;
    double seconds;
} qd_cli_outcome;
/** One line on standard error for each kind of rows that got another format than was asked for. */
void qd_cli_report_fallbacks(const qd_cli_plan *p);
void qd_cli_report_text(const qd_cli_plan *p, const qd_cli_outcome *o);
int qd_cli_report_json(const qd_cli_plan *p, const qd_cli_outcome *o);

#endif
