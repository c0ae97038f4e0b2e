#include "host.h"

#include <stdarg.h>
#include <stdio.h>

enum { MAX_LINE = 1024 };

bool qep_logs(const qep_host *h, OrtLoggingLevel level) {
    OrtLoggingLevel least = ORT_LOGGING_LEVEL_FATAL;
    if (!h->logger || !qep_ok(h, h->api->Logger_GetLoggingSeverityLevel(h->logger, &least))) return false;
    return level >= least;
}

void qep_log(const qep_host *h, OrtLoggingLevel level, const char *format, ...) {
    if (!qep_logs(h, level)) return;
    char line[MAX_LINE];
    va_list args;
    va_start(args, format);
    const int prefix = snprintf(line, sizeof line, "qdot: ");
    vsnprintf(line + prefix, sizeof line - (size_t)prefix, format, args);
    va_end(args);
    qep_ok(h, h->api->Logger_LogMessage(h->logger, level, line, __FILE__, __LINE__, "qdot"));
}

OrtStatus *qep_error(const qep_host *h, OrtErrorCode code, const char *format, ...) {
    char line[MAX_LINE];
    va_list args;
    va_start(args, format);
    const int prefix = snprintf(line, sizeof line, "qdot: ");
    vsnprintf(line + prefix, sizeof line - (size_t)prefix, format, args);
    va_end(args);
    return h->api->CreateStatus(code, line);
}

bool qep_ok(const qep_host *h, OrtStatus *s) {
    if (s) h->api->ReleaseStatus(s);
    return !s;
}
