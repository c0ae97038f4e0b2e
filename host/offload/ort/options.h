/* Options of a session, as its user writes them. */
#ifndef QDOT_ORT_OPTIONS_H
#define QDOT_ORT_OPTIONS_H

#include "host.h"

typedef struct qep_options {
    char *device; /* a device string of the library; NULL: $QDOT_DEVICE, else the best OpenCL device */
    bool verify;  /* compare every operator with the reference */
    char
        *profile; /* NULL: off; "": a table on standard error when the session ends; else a Chrome trace to this path */
} qep_options;

/** Reads the entries "ep.<name>.<option>" of a session. An option that is none, or a value that does not fit, gives a
 *  status that lists the known ones. *o is to be freed with qep_options_free, also after a failure. */
OrtStatus *qep_options_read(const qep_host *h, const char *name, const OrtSessionOptions *from, qep_options *o);
void qep_options_free(qep_options *o);

#endif
