/* A file that appears whole or not at all. */
#ifndef QDOT_MODEL_NEW_FILE_H
#define QDOT_MODEL_NEW_FILE_H

#include "qdot/qdot.h"

typedef struct new_file {
    int fd;      /* -1: none */
    char *path;  /* the target, with symbolic links resolved */
    char *given; /* as the caller named it, for messages */
    char *name;  /* of the file in the making; NULL while it has none */
} new_file;

/** Opens a file that will be `path`: nameless where the file system can, else beside it under a name of its own.
 *  QD_ERR_IO: the folder cannot be written, or `path` is something else than a file. On failure nothing is held. */
qd_status qd_new_file_open(const char *path, new_file *out);
/** Appends; QD_ERR_IO tells why not, and how much was to be written. */
qd_status qd_new_file_write(const new_file *f, const void *data, size_t bytes);
/** Brings the bytes to the disk, then puts the file in the place of the old one. */
qd_status qd_new_file_finish(new_file *f);
/** Closes; what was not finished is gone. */
void qd_new_file_close(new_file *f);

#endif
