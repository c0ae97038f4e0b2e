/* A compiler, or a kernel, that takes the whole process down: a mark is left on disk while a variant is built and
 * proven, so that the next start knows. The mark is a file, locked as long as its owner lives; one that is there
 * without a lock is that of a dead process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "opencl/cl_internal.h"

/* How long another process, or another thread, may take to build the same variant. */
enum { WAIT_SECONDS = 300 };

static bool wait_for_lock(int file) {
    const struct timespec pause = {0, 20000000};
    for (int i = 0; i < WAIT_SECONDS * 50; i++) {
        if (flock(file, LOCK_EX | LOCK_NB) == 0) return true;
        if (errno != EWOULDBLOCK && errno != EINTR) return false;
        nanosleep(&pause, NULL);
    }
    return false;
}

int cl_attempt_begin(const cl_device_state *d, const char *key, cl_attempt *a) {
    char count = 0;
    a->file = -1;
    if (!d->cache_dir[0]) return 0;
    const int n = snprintf(a->path, sizeof a->path, "%s/%s.trying", d->cache_dir, key);
    if (n <= 0 || (size_t)n >= sizeof a->path) return 0;
    a->file = open(a->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (a->file < 0) return 0;
    const bool locked = wait_for_lock(a->file);
    if (locked && pread(a->file, &count, 1, 0) == 1 && (count < 0 || count > 100)) count = 0;
    const char next = (char)(count + 1);
    if (!locked || (count < CL_DEATHS && pwrite(a->file, &next, 1, 0) != 1)) {
        close(a->file);
        a->file = -1;
        return 0;
    }
    return count;
}

void cl_attempt_end(cl_attempt *a, bool keep) {
    if (a->file < 0) return;
    if (!keep) unlink(a->path);
    close(a->file);
    a->file = -1;
}
