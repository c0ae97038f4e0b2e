#include "options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KNOWN                                                                                                         \
    "known are: device (a device of `qdot devices`, as ref, opencl, opencl:gpu), verify (0 or 1), profile (0, 1 for " \
    "a "                                                                                                              \
    "table, or the path of a trace)"

static int flag_of(const char *value) {
    static const char *const no[] = {"0", "false", "off", "False"}, *const yes[] = {"1", "true", "on", "True"};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        if (strcmp(value, no[i]) == 0) return 0;
        if (strcmp(value, yes[i]) == 0) return 1;
    }
    return -1;
}

static OrtStatus *copy(const qep_host *h, const char *value, char **out) {
    free(*out);
    *out = strdup(value);
    return *out ? NULL : qep_error(h, ORT_FAIL, "out of memory");
}

static OrtStatus *read_option(const qep_host *h, const char *key, const char *value, qep_options *o) {
    const int flag = flag_of(value);
    if (strcmp(key, "device") == 0) {
        if (*value) return copy(h, value, &o->device);
    } else if (strcmp(key, "verify") == 0) {
        o->verify = flag == 1;
        if (flag >= 0) return NULL;
    } else if (strcmp(key, "profile") == 0) {
        if (flag == 0) {
            free(o->profile);
            o->profile = NULL;
            return NULL;
        }
        if (*value) return copy(h, flag == 1 ? "" : value, &o->profile);
    } else {
        return qep_error(h, ORT_INVALID_ARGUMENT, "there is no option '%s'; " KNOWN, key);
    }
    return qep_error(h, ORT_INVALID_ARGUMENT, "the option %s cannot be '%s'; " KNOWN, key, value);
}

OrtStatus *qep_options_read(const qep_host *h, const char *name, const OrtSessionOptions *from, qep_options *o) {
    *o = (qep_options){0};
    OrtKeyValuePairs *pairs = NULL;
    OrtStatus *status = NULL;
    char prefix[64];
    /* The host writes the name of the provider in small letters. */
    const int length = snprintf(prefix, sizeof prefix, "ep.%s.", name);
    for (char *p = prefix; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    QEP_TRY(h->api->GetSessionOptionsConfigEntries(from, &pairs));
    const char *const *keys = NULL, *const *values = NULL;
    size_t count = 0;
    h->api->GetKeyValuePairs(pairs, &keys, &values, &count);
    for (size_t i = 0; i < count; i++) {
        if (strncmp(keys[i], prefix, (size_t)length) != 0) continue;
        QEP_TRY(read_option(h, keys[i] + length, values[i], o));
    }
error:
    if (pairs) h->api->ReleaseKeyValuePairs(pairs);
    return status;
}

void qep_options_free(qep_options *o) {
    free(o->device);
    free(o->profile);
    *o = (qep_options){0};
}
