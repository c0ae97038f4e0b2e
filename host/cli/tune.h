/* What `qdot tune` measures, apart from how it is shown. */
#ifndef QDOT_CLI_TUNE_H
#define QDOT_CLI_TUNE_H

#include "cli/bench_measure.h"
#include "qdot/qdot_tuning.h"

enum { QD_TUNE_SHAPES = 48, QD_TUNE_INPUTS = 6 };

/** A problem of a class: of the members behind the rows, those of its operator. */
typedef struct qd_tune_shape {
    int64_t rows; /* of a run */
    struct {      /* y[rows,N] = x[rows,K] · w[N,K]ᵀ */
        int64_t n, k;
    } product;
    struct { /* square images and windows; padded by half a window */
        int64_t image, channels, outputs, kernel, stride, groups;
    } conv;
    struct {
        int64_t heads, kv_heads, head_dim, positions; /* the run's rows are the last of them */
    } attention;
} qd_tune_shape;

/** A class of problems, by some that stand for it. */
typedef struct qd_tune_class {
    qd_op op;       /* MATMUL, MATMUL_INT with sums as results, MATMUL_GROUP with rows as groups, CONV_INT, ATTENTION */
    qd_format w, x; /* of the first two inputs */
    int rows_class;
    bool large;
    qd_tune_shape shapes[QD_TUNE_SHAPES];
    int n_shapes;
} qd_tune_class;

/** The problems of a class with memory for their operands. */
typedef struct qd_tune_problems {
    qd_context *c;
    const qd_tune_class *what;
    struct {
        qd_attrs attrs;
        qd_tensor *in[QD_TUNE_INPUTS], *y; /* in[0]: NULL where there are copies of it */
        int n_in;
        void *data[QD_TUNE_INPUTS]; /* that constants borrow */
    } of[QD_TUNE_SHAPES];
    qd_tensor **w; /* [copy][shape] */
    int copies; /* of the weights: several, which no cache holds, where their way from memory matters; 0: no weights */
    int count;  /* of problems, copies included */
} qd_tune_problems;

/** Allocates everything; what is to be freed is then in *out, also on failure, which prints a message. */
bool qd_tune_make_problems(qd_context *c, const qd_tune_class *what, qd_tune_problems *out);
void qd_tune_free_problems(qd_tune_problems *p);
/** A plan for problem i of p->count: shape i % n_shapes. */
qd_status qd_tune_plan(const qd_tune_problems *p, int i, qd_plan **out);
/** The first input: the weights, where there are any. */
qd_tensor_desc qd_tune_weights(const qd_tune_class *c, const qd_tune_shape *s);

/** A ratio of times, default to candidate, measured in turns: its median, and what that lies between. */
typedef struct qd_tune_ratio {
    double median, low, high;
    double before, after; /* median seconds of a product */
    int rounds;
} qd_tune_ratio;

typedef struct qd_tune_result {
    bool measured;          /* false: the time was up, or the device has one way only */
    qd_tuning_way was, now; /* the same where nothing was faster by more than the spread */
    bool changed;
    qd_tune_ratio ratio; /* where it changed: measured anew for this way */
    int tried, refused;  /* ways that were measured; that did not build or gave other bytes */
} qd_tune_result;

/** Looks for the fastest way of a class, within about so many seconds, builds left out, and lets the context use it.
 * `step` is called after each measurement, with NULL for a way that is refused. Prints a message and returns false on
 * failure; a stop by the user is none.
 */
bool qd_tune_search(qd_context *c, const qd_tune_class *what, double seconds,
                    void (*step)(void *user, const qd_tuning_way *way, const qd_tune_ratio *ratio), void *user,
                    qd_tune_result *out);

/** Fills the classes of the option words (NULL: the default ones), for the shapes of a model or, where g is NULL, of
 * common ones. *out is to be freed with free(). Prints a message and returns false on failure. */
bool qd_tune_classes(const qd_gguf *g, const char *op, const char *format, qd_tune_class **out, int *count);
/** "matmul q4_1 a8, 16 to 127 rows, small". */
const char *qd_tune_name(const qd_tune_class *c, char text[80]);
/** "matmul_q4_1_avx2 x4 QD_TOKENS=6". */
const char *qd_tune_way_text(const qd_tuning_way *w, char text[160]);

#endif
