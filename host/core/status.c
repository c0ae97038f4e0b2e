#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char last_message[512] = "no error";
static _Thread_local long allocations_left = -1;

const char *qd_version(void) {
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
    return TEXT(QDOT_VERSION_MAJOR) "." TEXT(QDOT_VERSION_MINOR) "." TEXT(QDOT_VERSION_PATCH);
}

static const struct {
    qd_status status;
    const char *name, *meaning;
} statuses[] = {
#define QD_STATUS(ID, number, meaning) {QD_##ID, "QD_" #ID, meaning},
#include "qdot/qdot_status.def"
};
enum { STATUSES = sizeof statuses / sizeof statuses[0] };

const char *qd_status_name(qd_status s) {
    for (int i = 0; i < STATUSES; i++) {
        if (statuses[i].status == s) return statuses[i].name;
    }
    return "QD_ERR_?";
}

const char *qd_status_meaning(qd_status s) {
    for (int i = 0; i < STATUSES; i++) {
        if (statuses[i].status == s) return statuses[i].meaning;
    }
    return "unknown status";
}

const char *qd_last_message(void) {
    return last_message;
}

qd_status qd_fail(qd_status s, const char *format, ...) {
    /* Through a second buffer, because an argument may be the last message itself. */
    char text[sizeof last_message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++) {
        if (*p == '\n' || *p == '\r') *p = ' ';
    }
    memcpy(last_message, text, sizeof text);
    return s;
}

/* True when this allocation is to fail; see qd_alloc_fail_after. */
static bool injected_failure(void) {
    if (allocations_left < 0) return false;
    if (allocations_left == 0) return true;
    allocations_left--;
    return false;
}

void qd_alloc_fail_after(long n) {
    allocations_left = n;
}

static void *checked(void *p, size_t bytes) {
    if (!p) qd_fail(QD_ERR_MEMORY, "out of memory: could not allocate %zu bytes", bytes);
    return p;
}

void *qd_alloc(size_t bytes) {
    return checked(injected_failure() ? NULL : malloc(bytes ? bytes : 1), bytes);
}

void *qd_alloc_zero(size_t count, size_t bytes) {
    return checked(injected_failure() ? NULL : calloc(count ? count : 1, bytes ? bytes : 1), count * bytes);
}

void *qd_realloc(void *p, size_t bytes) {
    return checked(injected_failure() ? NULL : realloc(p, bytes ? bytes : 1), bytes);
}
