/* Options come from the environment: ggml has none for backends that it loads. */
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define KNOWN                                                                                                          \
    "QDOT_DEVICE (a device of `qdot devices`, default opencl), QDOT_VERIFY (0 or 1: compare every operator with "      \
    "the reference), QDOT_ACTIVATIONS (a8, the default: 8-bit integers with weights in blocks; or f32), QDOT_PROFILE " \
    "(table: log the time of every kernel at the end; FILE.json: and write a trace)"

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
    const char *activations = setting("QDOT_ACTIVATIONS");
    if (activations && strcmp(activations, "a8") != 0 && strcmp(activations, "f32") != 0) {
        return wrong("QDOT_ACTIVATIONS", activations);
    }
    out->floats = activations && activations[0] == 'f';
    if (!out->profile || !strcmp(out->profile, "table")) return true;
    const size_t n = strlen(out->profile);
    if (n > 5 && !strcmp(out->profile + n - 5, ".json")) return true;
    return wrong("QDOT_PROFILE", out->profile);
}
