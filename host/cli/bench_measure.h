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

/* ---- Matrix products ---------------------------------------------------------------------------------------- */

/** y[M,N] = x[M,K] · w[N,K]ᵀ */
typedef struct qd_bench_matmul {
    qd_format weights, activations;
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

/** Measures a model with `prompt` tokens at once and `generate` tokens one by one, each run in an empty context, which
 *  must hold them. Prints a message and returns false on failure, or when the user stopped. */
bool qd_bench_model_run(const qd_cli_session *s, const qd_bench_effort *effort, int64_t prompt, int64_t generate,
                        qd_bench_model *out);

#endif
