/* Parts of `qdot verify`. */
#ifndef QDOT_CLI_VERIFY_H
#define QDOT_CLI_VERIFY_H

#include "cli/cli.h"

typedef struct qd_cli_fuzz {
    int64_t cases;       /* 0: no fuzzing */
    const char *repeat;  /* a case to run again, or NULL */
    const char *op;      /* only this operator, or NULL */
    const char *formats; /* only formats that begin so, or NULL */
    int64_t size;        /* of the shapes; 0: mixed */
    bool coverage;       /* print what the cases tried */
    uint64_t seed;
} qd_cli_fuzz;

/** Prints the device's name, above what is told about it. */
void qd_cli_name_device(const qd_context *c);

/** Runs random cases, or repeats one, on an open device; prints, or adds to `json` when that is not NULL. Returns an
 * exit code. */
int qd_cli_fuzz_device(qd_context *c, const qd_cli_fuzz *f, cJSON *json);

#endif
