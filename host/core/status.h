/* How every file of the library reports a failure. */
#ifndef QDOT_CORE_STATUS_H
#define QDOT_CORE_STATUS_H

#include "qdot/qdot.h"

/** Records a printf-style message for qd_last_message() and returns `s`. One line that says what to do; no newline. */
qd_status qd_fail(qd_status s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Runs a call that returns qd_status; on failure stores it in the local `status` and goes to the label `error`, which
 *  frees what was half built. */
#define QD_TRY(call)                                \
    do {                                            \
        if ((status = (call)) != QD_OK) goto error; \
    } while (0)

/** malloc/calloc/realloc that record a message when they fail. Fault tests make them fail (see qd_alloc_fail_after). */
void *qd_alloc(size_t bytes);
void *qd_alloc_zero(size_t count, size_t bytes);
void *qd_realloc(void *p, size_t bytes);

/** For fault tests: the allocation after the next `n` fails, and all later ones, until called with -1. Per thread. */
QD_API void qd_alloc_fail_after(long n);

#endif
