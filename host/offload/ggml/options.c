/* Options come from the environment: ggml has none for backends that it loads. */
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define KNOWN                                                                                                     \
    "QDOT_DEVICE (a device of `qdot devices`, default opencl), QDOT_VERIFY (0 or 1: compare every operator with " \
    "the reference), QDOT_PROFILE (table: log the time of every kernel at the end; FILE.json: and write a trace)"

/* NULL when unset or empty. */
static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

static bool wrong(const char *name, const char *value) {
    GGML_LOG_ERROR("qdot: %s=%s is no such option; known are %s\n", name, value, KNOWN);
    return false;
}

bool qg_options_read(qg_options *out) {
    *out = (qg_options){.device = setting("QDOT_DEVICE"), .profile = setting("QDOT_PROFILE")};
    if (!out->device) out->device = "opencl";
    const char *verify = setting("QDOT_VERIFY");
    if (verify && strcmp(verify, "0") != 0 && strcmp(verify, "1") != 0) return wrong("QDOT_VERIFY", verify);
    out->verify = verify && verify[0] == '1';
    if (!out->profile || !strcmp(out->profile, "table")) return true;
    const size_t n = strlen(out->profile);
    if (n > 5 && !strcmp(out->profile + n - 5, ".json")) return true;
    return wrong("QDOT_PROFILE", out->profile);
}
