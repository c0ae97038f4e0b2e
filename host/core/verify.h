/* Random problems on a device: what `qdot verify` and the fuzzer share. */
#ifndef QDOT_CORE_VERIFY_H
#define QDOT_CORE_VERIFY_H

#include "qdot/qdot_backend.h"

/** Runs a case on the context's device as a plan would. *different is set, and `first` says where, when the bytes are
 * not the reference's. */
qd_status qd_case_run(qd_context *c, qd_case *x, char *variant, size_t variant_size, bool *different, char *first,
                      size_t first_size);
/** "q4_1 a8 -> f32": the formats that tell a combination from the others. */
void qd_formats_describe(const qd_format formats[], char *text, size_t capacity);

#endif
