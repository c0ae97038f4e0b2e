/* Entry points of the external delegate, and its life. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tflite.h"

#define EXPORT __attribute__((visibility("default")))

void tfl_note(const char *format, ...) {
    va_list list;
    char line[600];
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    fprintf(stderr, "INFO: qdot: %s\n", line);
}

static void log_line(void *user, const char *line) {
    (void)user;
    tfl_note("%s", line);
}

/* What the kernels did: a table, or a trace. */
static void tell_profile(tfl_plugin *p) {
    if (p->options.profile[0]) {
        if (qd_context_trace(p->context, p->options.profile) != QD_OK) tfl_note("no trace: %s", qd_last_message());
        return;
    }
    qd_profile_row *rows;
    int count;
    if (qd_context_profile(p->context, &rows, &count) != QD_OK) {
        tfl_note("no profile: %s", qd_last_message());
        return;
    }
    tfl_note("%-40s %8s %12s %10s %10s", "kernel", "calls", "seconds", "GB/s", "GOP/s");
    for (int i = 0; i < count; i++) {
        const double s = rows[i].seconds > 0 ? rows[i].seconds : 1e-9;
        tfl_note("%-40s %8llu %12.6f %10.2f %10.2f", rows[i].kernel, (unsigned long long)rows[i].calls, rows[i].seconds,
                 rows[i].bytes / s * 1e-9, rows[i].operations / s * 1e-9);
    }
    qd_profile_free(rows);
}

static void free_plugin(tfl_plugin *p) {
    if (p->context && p->options.profile) tell_profile(p);
    qd_context_free(p->context);
    if (p->lock) pthread_mutex_destroy(p->lock);
    free(p->lock);
    tfl_options_free(&p->options);
    free(p);
}

void tfl_plugin_release(tfl_plugin *p) {
    if (atomic_fetch_sub(&p->users, 1) == 1) free_plugin(p);
}

static bool open_plugin(tfl_plugin *p, char **keys, char **values, size_t count) {
    if (!tfl_options_read(keys, values, count, &p->options, p->why, sizeof p->why)) return false;
    p->lock = malloc(sizeof(pthread_mutex_t));
    if (!p->lock || pthread_mutex_init(p->lock, NULL)) {
        free(p->lock);
        p->lock = NULL;
        snprintf(p->why, sizeof p->why, "qdot: out of memory");
        return false;
    }
    const qd_context_options options = {.profile = p->options.profile != NULL,
                                        .verify = p->options.verify,
                                        .log = p->options.verbose ? log_line : NULL};
    if (qd_context_create(p->options.device, &options, &p->context) == QD_OK) return true;
    snprintf(p->why, sizeof p->why, "qdot: %s", qd_last_message());
    return false;
}

/** Makes a delegate from pairs of words (see options.c). On failure report_error is told why, and NULL returned. Where
 * report_error is NULL, as in the host's C API, which would run into a NULL delegate, there is one all the same: it
 * tells why, and fails, when an interpreter is made with it. To be freed with tflite_plugin_destroy_delegate. */
EXPORT TfLiteDelegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                                     void (*report_error)(const char *));
/** Frees a delegate; NULL is legal. Interpreters that were made with it may still be freed afterwards, but not run. */
EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate);

TfLiteDelegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                              void (*report_error)(const char *)) {
    tfl_plugin *p = calloc(1, sizeof *p);
    if (!p) {
        if (report_error) report_error("qdot: out of memory");
        return NULL;
    }
    atomic_init(&p->users, 1);
    if (!open_plugin(p, keys, values, count) && report_error) {
        report_error(p->why);
        tfl_plugin_release(p);
        return NULL;
    }
    p->delegate = (TfLiteDelegate){.data_ = p, .Prepare = tfl_claim, .flags = kTfLiteDelegateFlagsAllowDynamicTensors};
    return &p->delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) {
    if (delegate) tfl_plugin_release(delegate->data_);
}
