/* Tuning: which of several ways with the same bytes a device computes an operator in.
 *
 * A way is a kernel variant, the number of its work-groups, and values of what its source leaves open (tile sizes and
 * the like: kernels_cl/tunables.def). A device has one for each class of problems: an operator, the formats of its
 * first two inputs, about how many rows a run has, and whether the weights are large. Without tuning it is the first
 * variant of kernels.def that is proven, as kernels_cl/tuned.def refines it. Every way is proven before its first use,
 * like any kernel: a wrong choice can only be slow. See `qdot tune`. */
#ifndef QDOT_TUNING_H
#define QDOT_TUNING_H

#include "qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The classes of rows: 1, 2 to 15, 16 to 127, 128 and more. */
enum { QD_TUNING_ROWS = 4 };
/** Least number of rows of a class 0 … QD_TUNING_ROWS - 1. */
static inline int64_t qd_tuning_least_rows(int rows_class) {
    return rows_class <= 0 ? 1 : rows_class == 1 ? 2 : rows_class == 2 ? 16 : 128;
}
static inline int qd_tuning_rows_class(int64_t rows) {
    return (rows >= 2) + (rows >= 16) + (rows >= 128);
}
/** Weights of so many bytes are large: a processor's own cache does not hold them. */
enum { QD_TUNING_LARGE = 2 << 20 };

typedef struct qd_tuning_way {
    char variant[48]; /* of kernels.def */
    char options[96]; /* of tunables.def, "QD_TOKENS=8 QD_UNIT_ROWS=64"; "": what the source says */
    int groups;       /* work-groups for each compute unit */
} qd_tuning_way;

/** The way that a plan has, and all those that differ from it in one thing. *out is an array of *count to be freed with
 *  qd_ways_free. QD_ERR_UNSUPPORTED: the device has no other ways to do anything. */
QD_API qd_status qd_plan_ways(const qd_plan *p, qd_tuning_way **out, int *count);
QD_API void qd_ways_free(qd_tuning_way *ways);
/** Lets what is made from now on in the plan's context, and is of the plan's class, go this way; NULL: the way without
 *  tuning. The way is proven now; QD_ERR_UNSUPPORTED, with the reason: it is refused, and nothing has changed. The plan
 *  itself stays as it is. */
QD_API qd_status qd_plan_choose(const qd_plan *p, const qd_tuning_way *way);

/** Writes the ways that were chosen, by qd_plan_choose or by the file that the context opened with, to `path`; NULL:
 * the device's own file, which every later context opens with. The old file stays as it was unless all succeeds. */
QD_API qd_status qd_context_tuning_write(qd_context *c, const char *path);

typedef struct qd_tuning_info {
    char path[512]; /* the file that was looked for; "": none */
    char why[256];  /* when it is there and not used: the reason */
    int classes;    /* that have a way of their own */
} qd_tuning_info;
/** What a context is tuned by. The file is options.tuning, else $QDOT_TUNING, else the device's own. */
QD_API qd_status qd_context_tuning(qd_context *c, qd_tuning_info *out);

#ifdef __cplusplus
}
#endif
#endif
