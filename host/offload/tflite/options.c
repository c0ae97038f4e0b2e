/* Options: pairs of words from the user. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tflite.h"

static const char known[] =
    "device (a qdot device such as opencl, opencl:gpu, ref), verify (0 or 1), profile (0, 1, or a path for a Chrome "
    "trace), verbose (0 or 1)";

static bool read_bool(const char *value, bool *out) {
    *out = strcmp(value, "1") == 0 || strcmp(value, "true") == 0 || strcmp(value, "True") == 0;
    return *out || strcmp(value, "0") == 0 || strcmp(value, "false") == 0 || strcmp(value, "False") == 0;
}

static bool copy_text(const char *text, char **out) {
    free(*out);
    *out = strdup(text);
    return *out;
}

/* One option; false: the value is none of those it can have. */
static bool take(const char *key, const char *value, tfl_options *o, bool *is_known) {
    bool on;
    *is_known = true;
    if (strcmp(key, "device") == 0) return value[0] && copy_text(value, &o->device);
    if (strcmp(key, "verify") == 0) return read_bool(value, &o->verify);
    if (strcmp(key, "verbose") == 0) return read_bool(value, &o->verbose);
    if (strcmp(key, "profile") == 0) {
        if (!value[0] || !read_bool(value, &on)) return value[0] && copy_text(value, &o->profile);
        free(o->profile);
        o->profile = NULL;
        return !on || copy_text("", &o->profile);
    }
    *is_known = false;
    return false;
}

bool tfl_options_read(char **keys, char **values, size_t count, tfl_options *out, char *why, size_t why_bytes) {
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count; i++) {
        const char *key = keys[i] ? keys[i] : "", *value = values[i] ? values[i] : "";
        bool is_known;
        if (take(key, value, out, &is_known)) continue;
        if (is_known) {
            snprintf(why, why_bytes, "qdot: the option %s cannot be '%.60s'. Options: %s", key, value, known);
        } else {
            snprintf(why, why_bytes, "qdot: the option '%.60s' is not known. Options: %s", key, known);
        }
        tfl_options_free(out);
        return false;
    }
    return true;
}

void tfl_options_free(tfl_options *o) {
    free(o->device);
    free(o->profile);
    memset(o, 0, sizeof *o);
}
