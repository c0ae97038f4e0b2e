/* Whole files, and their hash. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"
#include "fpga/fpga.h"

void qd_fpga_binary_path(const qd_fpga_manifest *m, const char *path, char *out, size_t capacity) {
    const char *slash = strrchr(path, '/');
    snprintf(out, capacity, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, m->binary);
}

qd_status qd_fpga_read_file(const char *path, unsigned char **data, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    if (!f) return qd_fail(QD_ERR_IO, "%s: %s", path, strerror(errno));
    struct stat st;
    qd_status status = QD_OK;
    *data = NULL;
    if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
        status = qd_fail(QD_ERR_IO, "%s is not a file", path);
        goto error;
    }
    *bytes = (size_t)st.st_size;
    *data = qd_alloc(*bytes + 1);
    if (!*data) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    (*data)[*bytes] = 0;
    if (fread(*data, 1, *bytes, f) != *bytes) {
        status = qd_fail(QD_ERR_IO, "%s could not be read whole", path);
        goto error;
    }
    fclose(f);
    return QD_OK;
error:
    fclose(f);
    free(*data);
    *data = NULL;
    return status;
}

qd_status qd_fpga_write_file(const char *path, const void *data, size_t bytes) {
    char beside[600];
    const int n = snprintf(beside, sizeof beside, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof beside) return qd_fail(QD_ERR_IO, "%.60s…: the path is too long", path);
    const int file = mkstemp(beside);
    FILE *f = file >= 0 ? fdopen(file, "wb") : NULL;
    if (!f) return qd_fail(QD_ERR_IO, "%s cannot be written: %s", path, strerror(errno));
    bool ok = fwrite(data, 1, bytes, f) == bytes && fchmod(file, 0644) == 0;
    ok = fclose(f) == 0 && ok;
    if (!ok || rename(beside, path)) {
        const qd_status status = qd_fail(QD_ERR_IO, "%s could not be written: %s", path, strerror(errno));
        remove(beside);
        return status;
    }
    return QD_OK;
}
