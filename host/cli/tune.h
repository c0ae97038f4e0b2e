/* What `qdot tune` measures, apart from how it is shown. */
#ifndef QDOT_CLI_TUNE_H
#define QDOT_CLI_TUNE_H

#include "cli/bench_measure.h"
#include "qdot/qdot_tuning.h"

enum { QD_TUNE_SHAPES = 16 };

/** A class of problems, by products that stand for it: y[M,N] = x[M,K] · w[N,K]ᵀ of each shape. */
typedef struct qd_tune_class {
    qd_op op; /* MATMUL, or MATMUL_INT with sums as results */
    qd_format weights, x;
    int rows_class;
    bool large;
    struct {
        int64_t m, n, k;
    } shapes[QD_TUNE_SHAPES];
    int n_shapes;
} qd_tune_class;

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
