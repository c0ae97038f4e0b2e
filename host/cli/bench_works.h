/* The works that qdot and its peers do in turn: a list of them, and qdot's own part. */
#ifndef QDOT_CLI_BENCH_WORKS_H
#define QDOT_CLI_BENCH_WORKS_H

#include "cli/bench_measure.h"

typedef enum qd_bench_kind {
    QD_BENCH_GEMM,
    QD_BENCH_CONV,
    QD_BENCH_GEMV,
    QD_BENCH_SGEMM,
    QD_BENCH_NETWORK,
    QD_BENCH_PROMPT,
    QD_BENCH_GENERATE,
    QD_BENCH_KINDS
} qd_bench_kind;

/** "gemm" and so on. */
const char *qd_bench_kind_name(qd_bench_kind kind);

typedef struct qd_bench_work {
    qd_bench_kind kind;
    char name[64]; /* unique */
    /* y[M,N] of K products each; a convolution's M are the elements of its image */
    int64_t m, n, k;
    int64_t image, channels, kernel, stride, groups; /* of a convolution; the sides of the square images */
    const char *layers; /* of a network: see bench_works.def; else NULL. image and channels are those of its input */
    int64_t rows;       /* of a network of products; 0: its input is an image */
    qd_format weights;
    int copies;               /* of the weights; a pass uses each once */
    int64_t tokens;           /* of a model's pass; else 0 */
    const char *path;         /* of the model */
    float y_scale;            /* of results in codes, whose zero point is 128 */
    double operations, bytes; /* of a call; weights, activations and results once each */
    double tolerance;         /* of two marks of the same results; 0: they are not compared */
} qd_bench_work;

/** The works of bench_works.def, of which `pattern` (an extended regular expression; NULL: all) finds the name.
 *  *works: free with free(). Prints a message and returns false on failure. */
bool qd_bench_list_works(const char *pattern, qd_bench_work **works, int *count);
/** A prompt of `prompt` tokens and a generation of `generate`, of a model in a file. */
void qd_bench_model_works(const char *path, const qd_gguf *g, int64_t prompt, int64_t generate, qd_bench_work works[2]);
/** The work as peers are told: see tests/bench/README.md. Prints a message and returns false when it is too long. */
bool qd_bench_work_line(const qd_bench_work *w, char *line, size_t size);

/* ---- Networks ----------------------------------------------------------------------------------------------- */

/** A layer: what it reads, y[m, outputs] of k products each, and the side of its square result; 0: rows of a matrix. */
typedef struct qd_bench_layer {
    int64_t image, channels, outputs, kernel, stride, groups, side, m, k;
} qd_bench_layer;
/** What the first layer reads, as if a layer had made it. */
qd_bench_layer qd_bench_first_layer(const qd_bench_work *w);
/** Reads the layer at *text, which follows that in *l, and moves *text behind it. False: there is none. */
bool qd_bench_next_layer(const char **text, qd_bench_layer *l);

/* ---- Operands that peers make by the same rule: see tests/bench/README.md ------------------------------------ */

enum { QD_BENCH_SEED_X = 1, QD_BENCH_SEED_W = 2, QD_BENCH_ZERO = 128 };
#define QD_BENCH_SCALE 0x1p-6f /* of x */
/** `count` codes of 8 bits, or the floats (code - 128) / 128; to be freed with free(). Prints a message and returns
 * false when memory is short. */
bool qd_bench_make_values(qd_format f, size_t count, uint32_t seed, void **out);

/* ---- qdot's own part ---------------------------------------------------------------------------------------- */

enum { QD_BENCH_MOST_LAYERS = 128 };
/** A network's graph, and what it is made of; all zero before. */
typedef struct qd_bench_network {
    qd_graph *graph;
    qd_tensor *y; /* the last layer's; owned below */
    qd_tensor *kept[2 * QD_BENCH_MOST_LAYERS + 3];
    void *memory[QD_BENCH_MOST_LAYERS], *weights;
    int n_kept, n_memory;
} qd_bench_network;
/** The graph is not compiled. Prints a message and returns false on failure; to be freed, also then. */
bool qd_bench_network_create(qd_bench_network *n, qd_context *c, const qd_bench_work *w);
void qd_bench_network_free(qd_bench_network *n);

/** What qdot itself needs to do a work. */
typedef struct qd_bench_own qd_bench_own;
/** `m`: for works of models, on the same context; else NULL. Prints a message and returns NULL on failure. */
qd_bench_own *qd_bench_own_create(qd_context *c, qd_model *m, const qd_bench_work *w);
void qd_bench_own_free(qd_bench_own *o);
/** Does it `passes` times; seconds for all of them. Prints a message and returns false on failure, or a stop. */
bool qd_bench_own_run(qd_bench_own *o, int64_t passes, double *seconds);
/** The kernel that ran; "" for models. */
const char *qd_bench_own_kernel(const qd_bench_own *o);
/** The results of the last run in one number, which peers compute as well; NAN where there is none. Prints a message
 * and returns false on failure. */
bool qd_bench_own_mark(qd_bench_own *o, double *mark);

#endif
