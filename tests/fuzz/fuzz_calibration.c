/* Reads arbitrary bytes as the file of a calibration and, where that succeeds, uses everything in it. See README.md
 * beside this file. */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qdot/qdot_calibration.h"

static void require(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    qd_calibration *c = NULL;
    char path[32];
    const int fd = memfd_create("calibration", 0);
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const qd_status status = qd_calibration_read(path, &c);
    close(fd);
    if (status != QD_OK) {
        require(c == NULL && (status == QD_ERR_FILE || status == QD_ERR_UNSUPPORTED));
        require(!strchr(qd_last_message(), '\n'));
        return 0;
    }
    require(qd_calibration_tokens(c) >= 1);
    for (int i = 0; qd_calibration_input(c, i); i++) {
        const qd_input_stats *s = qd_calibration_input(c, i);
        require(memchr(s->name, 0, sizeof s->name) != NULL && s->rows >= 1 && s->cols >= 1);
        for (int64_t k = 0; k < s->cols; k++)
            require(s->absmax[k] >= 0 && isfinite(s->absmax[k]) && s->mean_abs[k] >= 0 && s->mean_square[k] >= 0);
        require(qd_calibration_find(c, "no such matrix") == NULL || strcmp(s->name, "no such matrix") == 0);
    }
    qd_calibration_free(c);
    return 0;
}
