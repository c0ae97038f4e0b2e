/* A folder for kernels and verdicts that no other test sees: a checked fixture. */
#ifndef QDOT_TEST_CACHE_FOLDER_H
#define QDOT_TEST_CACHE_FOLDER_H

#include <unistd.h>

#include "fault/cl_inject.h"
#include "unit/devices.h"

static char cache[64];

static inline void make_cache(void) {
    snprintf(cache, sizeof cache, "%s", "/tmp/qdot-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(cache));
}

/* Also ends what a test injected. */
static inline void remove_cache(void) {
    char command[96];
    inject_clear();
    qd_alloc_fail_after(-1);
    snprintf(command, sizeof command, "rm -rf '%s'", cache);
    ck_assert_int_eq(system(command), 0);
}

#endif
