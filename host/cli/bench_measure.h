/* What `qdot bench` measures, apart from how it is shown. */
#ifndef QDOT_CLI_BENCH_MEASURE_H
#define QDOT_CLI_BENCH_MEASURE_H

#include "cli/cli.h"

/** Repeated measurements of one quantity. */
typedef struct qd_bench_spread {
    double median, least, most;
    int runs;
} qd_bench_spread;

/** Sorts `values`, of which there is at least one. An even number of them has the mean of the middle two as median. */
qd_bench_spread qd_bench_summarize(double *values, int count);

/** Half of most minus least, in percent of the median. */
double qd_bench_percent(const qd_bench_spread *s);
/** Adds it to an object, as one with the members median, least, most and runs. */
void qd_bench_add_spread(cJSON *o, const char *name, const qd_bench_spread *s);

enum { QD_BENCH_MAX_RUNS = 1000 };

/** How much to measure. */
typedef struct qd_bench_effort {
    int runs;       /* timed runs of a figure, 1 … QD_BENCH_MAX_RUNS */
    double seconds; /* for them all together, as far as a single repetition does not take longer */
} qd_bench_effort;

/* ---- Memory ------------------------------------------------------------------------------------------------- */

/** Bytes of all last-level caches of this machine together; a guess where the system does not tell. */
size_t qd_bench_cache_bytes(void);
/** Best rate, in bytes per second, at which `threads` threads of the host together read a buffer that no cache holds.
 *  `seconds`: how long to try. Prints a message and returns false on failure. */
bool qd_bench_read_rate(unsigned threads, double seconds, double *bytes_per_second);

/** Highest rates of this machine's `threads` threads in registers alone: operations on codes of 8 bits, and on floats,
 * per second, a multiplication and an addition being two; and the instructions by which they were reached. */
typedef struct qd_bench_peak {
    double codes, floats;
    const char *codes_by, *floats_by;
} qd_bench_peak;
/** `seconds`: how long to try each. Prints a message and returns false on failure. */
bool qd_bench_measure_peak(unsigned threads, double seconds, qd_bench_peak *out);

/* ---- Plans that take turns ---------------------------------------------------------------------------------- */

enum { QD_BENCH_MAX_COPIES = 1024 };

/** Plans of the same operator, each with weights of its own. */
typedef struct qd_bench_plans {
    qd_plan *plans[QD_BENCH_MAX_COPIES];
    int count, next;
} qd_bench_plans;

/** Runs the plans in turn, and waits for the last. */
qd_status qd_bench_run_plans(qd_context *c, qd_bench_plans *p, int64_t calls);
void qd_bench_free_plans(qd_bench_plans *p);
/** Random values -1 … 1 of few rows, over and over, in a format for floats. data: [rows][bytes of a row]. Prints a
 *  message and returns false on failure. */
bool qd_bench_random_weights(qd_format f, int64_t rows, int64_t cols, void *data);
/** A tensor of random values -1 … 1, or of random codes. Prints a message and returns false on failure. */
bool qd_bench_random_activations(qd_context *c, qd_format f, int64_t rows, int64_t cols, qd_tensor **out);

/* ---- Matrix products ---------------------------------------------------------------------------------------- */

/** y[M,N] = x[M,K] · w[N,K]ᵀ */
typedef struct qd_bench_matmul {
    int kind;            /* row of the list in bench_matmul.c */
    const char *weights; /* format or coding */
    qd_format activations;
    int64_t m, n, k;
    char kernel[48];         /* the variant that ran */
    int copies;              /* of the weights, used in turn */
    double bytes;            /* operands read and written once */
    double operations;       /* 2·M·N·K */
    double expected;         /* seconds, when that was too long to measure; else 0, and then: */
    qd_bench_spread seconds; /* of one product */
} qd_bench_matmul;

/** Measures the shapes of bench_matmul.c; *rows is to be freed with free(). Prints a message and returns false on
 *  failure, or when the user stopped. */
bool qd_bench_matmuls(qd_context *c, const qd_bench_effort *effort, qd_bench_matmul **rows, int *count);

/* ---- Models ------------------------------------------------------------------------------------------------- */

typedef struct qd_bench_model {
    qd_bench_spread prompt, generate; /* tokens per second */
    double weight_bytes;              /* of the weights that one generated token reads, as the file stores them */
} qd_bench_model;

/** Bytes and elements of the matrices that every token is multiplied by: all but the table of embeddings, unless that
 * is the output matrix, too. */
void qd_bench_model_size(const qd_gguf *g, double *bytes, double *elements);
/** Reads `count` arbitrary tokens from an empty context, `piece` at a time, each waiting for its last logits. */
qd_status qd_bench_tokens(qd_model *m, int64_t count, int64_t piece);

/** Measures a model with `prompt` tokens at once and `generate` tokens one by one, each run in an empty context, which
 *  must hold them. Prints a message and returns false on failure, or when the user stopped. */
bool qd_bench_model_run(const qd_cli_session *s, const qd_bench_effort *effort, int64_t prompt, int64_t generate,
                        qd_bench_model *out);

#endif
