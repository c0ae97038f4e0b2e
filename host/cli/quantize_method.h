/* --method of `qdot quantize`: quantize_method.c does it, quantize_fold.c finds the factors of columns. */
#ifndef QDOT_CLI_QUANTIZE_METHOD_H
#define QDOT_CLI_QUANTIZE_METHOD_H

#include "cli/quantize.h"
#include "qdot/qdot_calibration.h"
#include "qdot/qdot_methods.h"

typedef enum qd_cli_method_kind { QD_CLI_RTN, QD_CLI_GPTQ, QD_CLI_AWQ, QD_CLI_SMOOTHQUANT } qd_cli_method_kind;

typedef struct qd_cli_method {
    /* As asked for. */
    const char *name, *text, *calibration;
    bool act_order, imatrix; /* imatrix: there is one */
    double damping, alpha;
    int64_t tokens;
    uint64_t hessians; /* bytes that they may take at one time */

    /* The rest is for quantize_method.c. */
    qd_cli_method_kind kind;
    qd_cli_plan *plan;
    int threads;
    qd_calibration *stats; /* AWQ, SmoothQuant */
    qd_cli_session session;
    int32_t *text_tokens;
    size_t token_count;
    double **hessian; /* of each input of the session's model, or NULL */
    float *row;       /* of activations: a chunk of the widest input */
    bool told;        /* a failure's message was printed */
} qd_cli_method;

#define QD_CLI_METHOD_DEFAULTS \
    { .damping = 0.1, .alpha = 0.5, .hessians = (uint64_t)512 << 20 }
#define QD_CLI_METHOD_OPTIONS(m)                                                                                      \
    {                                                                                                                 \
        "method", 0, QD_CLI_TEXT, &(m).name,                                                                          \
        0,        0, "METHOD",    "rtn (to the nearest, the default), gptq, awq, smoothquant"},                       \
        {"file", 0, QD_CLI_TEXT, &(m).text, 0, 0, "TEXT", "methods: a text that the model reads, UTF-8"},             \
        {"tokens", 'n', QD_CLI_INT, &(m).tokens, 0, 0x7fffffff, "N", "methods: at most so many of the text; 0: all"}, \
        {"act-order", 0, QD_CLI_FLAG, &(m).act_order, 0, 0, NULL, "gptq: the columns that matter most come first"},   \
        {"damping", 0, QD_CLI_REAL, &(m).damping, 0, 1e5, "X", "gptq: of the mean diagonal (default 0.1)"},           \
        {"alpha", 0, QD_CLI_REAL, &(m).alpha, 0, 1, "X", "smoothquant: what activations hand on (default 0.5)"}, {    \
        "hessians", 0, QD_CLI_BYTES, &(m).hessians, 0, 0, "BYTES",                                                    \
            "gptq: memory for Hessians (default 512M); the text is read again for each part of the model"             \
    }

/** Where the method goes by statistics, takes their path, which then is not for static scales: factors change what
 *  matrices read. */
void qd_cli_method_take(qd_cli_method *m, const char **path);
/** Reads the options, and makes ready: reads the statistics or the text, finds factors and sets them in the plan.
 *  device: that reads the text, NULL: the default. Prints its messages itself; free in any case. */
bool qd_cli_method_begin(qd_cli_method *m, const char *input, const char *device, int threads, const qd_gguf *g,
                         qd_cli_plan *plan);
/** qd_matrix_quantize for a change of the plan, by the method. */
qd_status qd_cli_method_quantize(qd_cli_method *m, qd_cli_change *c, const qd_quantize_options *o, void *dst,
                                 float *side);
void qd_cli_method_free(qd_cli_method *m);

/** Sets the factors of all layers in the plan, by m->stats. Prints its messages itself. */
bool qd_cli_fold(const qd_cli_method *m, const qd_gguf *g);

#endif
