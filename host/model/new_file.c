#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_TMPFILE */
#endif
#include "model/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"

static qd_status io_failed(const char *path, const char *what) {
    const int why = errno;
    return qd_fail(QD_ERR_IO, "%.250s: %s: %s%s", path, what, strerror(why),
                   why == ENOSPC || why == EDQUOT || why == EFBIG ? "; make room, or write to another disk" : "");
}

static char *copy_text(const char *text) {
    char *copy = qd_alloc(strlen(text) + 1);
    if (copy) strcpy(copy, text);
    return copy;
}

/* path + suffix. */
static char *join(const char *path, const char *suffix) {
    const size_t size = strlen(path) + strlen(suffix) + 1;
    char *text = qd_alloc(size);
    if (text) snprintf(text, size, "%s%s", path, suffix);
    return text;
}

/* The folder that a path is in: to be freed. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return copy_text(".");
    char *folder = copy_text(path);
    if (folder) folder[slash == path ? 1 : slash - path] = 0;
    return folder;
}

/* What the file is really called: a link's target is replaced, not the link. */
static qd_status resolve(const char *path, char **out) {
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno != ENOENT) return io_failed(path, "cannot be examined");
        *out = copy_text(path);
        return *out ? QD_OK : QD_ERR_MEMORY;
    }
    if (!S_ISREG(st.st_mode)) {
        return qd_fail(QD_ERR_IO, "%.250s: is %s, not a file; name a file to write", path,
                       S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe");
    }
    char *real = realpath(path, NULL);
    if (!real) return io_failed(path, "cannot be resolved");
    *out = copy_text(real);
    free(real);
    return *out ? QD_OK : QD_ERR_MEMORY;
}

/* Gives the nameless file a name beside the target. */
static qd_status name_it(new_file *f) {
    enum { TRIES = 100 };
    char from[64];
    snprintf(from, sizeof from, "/proc/self/fd/%d", f->fd);
    for (int i = 0; i < TRIES; i++) {
        char suffix[48];
        snprintf(suffix, sizeof suffix, ".%ld-%d.new", (long)getpid(), i);
        char *name = join(f->path, suffix);
        if (!name) return QD_ERR_MEMORY;
        if (linkat(AT_FDCWD, from, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0) {
            f->name = name;
            return QD_OK;
        }
        const int why = errno;
        free(name);
        errno = why;
        if (why != EEXIST) break;
    }
    return io_failed(f->given, "cannot be given its name");
}

static qd_status open_named(new_file *f) {
    f->name = join(f->path, ".XXXXXX");
    if (!f->name) return QD_ERR_MEMORY;
    f->fd = mkstemp(f->name);
    if (f->fd >= 0) {
        const mode_t mask = umask(0);
        umask(mask);
        if (fchmod(f->fd, 0666 & ~mask) == 0) return QD_OK;
        return io_failed(f->given, "cannot be written");
    }
    const int why = errno;
    free(f->name);
    f->name = NULL;
    errno = why;
    return io_failed(f->given, "cannot be written");
}

qd_status qd_new_file_open(const char *path, new_file *out) {
    new_file f = {.fd = -1};
    char *folder = NULL;
    qd_status status = QD_ERR_MEMORY;
    if (!(f.given = copy_text(path))) goto error;
    QD_TRY(resolve(path, &f.path));
    status = QD_ERR_MEMORY;
    if (!(folder = folder_of(f.path))) goto error;
    f.fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    /* EISDIR: a kernel that does not know the flag. */
    if (f.fd < 0 && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) {
        status = io_failed(path, "cannot be written");
        goto error;
    }
    if (f.fd < 0) QD_TRY(open_named(&f));
    free(folder);
    *out = f;
    return QD_OK;
error:
    free(folder);
    qd_new_file_close(&f);
    return status;
}

qd_status qd_new_file_write(const new_file *f, const void *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = write(f->fd, (const char *)data + done, bytes - done < INT_MAX ? bytes - done : INT_MAX);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return io_failed(f->given, "cannot be written");
        done += (size_t)n;
    }
    return QD_OK;
}

qd_status qd_new_file_finish(new_file *f) {
    qd_status status = QD_OK;
    if (fsync(f->fd) != 0) return io_failed(f->given, "cannot be written");
    if (!f->name) QD_TRY(name_it(f));
    if (rename(f->name, f->path) != 0) return io_failed(f->given, "cannot be replaced");
    free(f->name);
    f->name = NULL;
    /* The folder, too, so that the new name outlives a loss of power. Not all file systems can; the file is whole. */
    char *folder = folder_of(f->path);
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
error:
    return status;
}

void qd_new_file_close(new_file *f) {
    if (f->fd >= 0) close(f->fd);
    if (f->name) unlink(f->name);
    free(f->name);
    free(f->path);
    free(f->given);
    *f = (new_file){.fd = -1};
}
