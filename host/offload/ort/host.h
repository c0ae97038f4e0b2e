/* The runtime that loaded the plug-in: its API, its logger, its statuses. */
#ifndef QDOT_ORT_HOST_H
#define QDOT_ORT_HOST_H

#include <onnxruntime_c_api.h>

#include "qdot/qdot.h"

/** The version of the API that is asked for: newer headers hold it, and newer hosts give it. */
#define QEP_API 23

typedef struct qep_host {
    const OrtApi *api;
    const OrtEpApi *ep;
    const OrtLogger *logger; /* may be NULL */
    int version;             /* of the host: 1000 · major + minor; 0: not known */
} qep_host;

/** Writes a printf-style line to the host's log. */
void qep_log(const qep_host *h, OrtLoggingLevel level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/** True when lines of that level are written at all. */
bool qep_logs(const qep_host *h, OrtLoggingLevel level);
/** A status of the host with a printf-style message. The host frees it. */
OrtStatus *qep_error(const qep_host *h, OrtErrorCode code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/** Frees a status whose message does not matter; true when it was none. */
bool qep_ok(const qep_host *h, OrtStatus *s);

/** Returns the status of a call of the host when it fails. */
#define QEP_HOST(call)                         \
    do {                                       \
        OrtStatus *const host_status = (call); \
        if (host_status) return host_status;   \
    } while (0)
/** Runs a call that returns an OrtStatus; on failure stores it in the local `status` and goes to the label `error`. */
#define QEP_TRY(call)                              \
    do {                                           \
        if ((status = (call)) != NULL) goto error; \
    } while (0)
/** The same for calls of the library. */
#define QD_TRY(call)                                \
    do {                                            \
        if ((status = (call)) != QD_OK) goto error; \
    } while (0)

#endif
