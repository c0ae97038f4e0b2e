/* Static scales of what int8 matrices read, from the statistics of `qdot calibrate`. */
#include <string.h>

#include "cli/quantize.h"

static const struct {
    const char *name;
    qd_observe kind;
} ranges[] = {{"minmax", QD_OBSERVE_MINMAX},
              {"average", QD_OBSERVE_AVERAGE},
              {"percentile", QD_OBSERVE_PERCENTILE},
              {"entropy", QD_OBSERVE_ENTROPY},
              {"mse", QD_OBSERVE_ERROR}};

static bool find_range(const char *name, qd_observe *out) {
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (strcmp(ranges[i].name, name ? name : "mse") != 0) continue;
        *out = ranges[i].kind;
        return true;
    }
    return false;
}

bool qd_cli_inputs_read(const qd_gguf *g, qd_cli_inputs *in) {
    qd_observe kind;
    if (!in->path && (in->range || in->asymmetric)) {
        qd_cli_fail("--range and --range-asymmetric belong to --calibration STATS (see: qdot calibrate)");
        return false;
    }
    if (!find_range(in->range, &kind)) {
        qd_cli_fail("--range is minmax, average, percentile, entropy or mse, not '%s'", in->range);
        return false;
    }
    if (!in->path) return true;
    if (qd_calibration_read(in->path, &in->stats) == QD_OK && qd_calibration_check(in->stats, g) == QD_OK) return true;
    qd_cli_failed();
    return false;
}

void qd_cli_inputs_free(qd_cli_inputs *in) {
    qd_calibration_free(in->stats);
    in->stats = NULL;
}

/* A matrix whose integer products static scales are for. */
static bool is_int8(const qd_cli_change *c) {
    const qd_coding *coding = &c->to.coding;
    return c->src.rows && c->to.format == QD_FORMAT_COUNT && coding->kind == QD_CODING_UNIFORM && coding->bits == 8 &&
           !coding->asymmetric;
}

bool qd_cli_inputs_write(qd_gguf_writer *w, const qd_gguf *g, const qd_cli_plan *plan, const qd_cli_inputs *in) {
    qd_observe kind = QD_OBSERVE_MINMAX;
    int64_t written = 0;
    find_range(in->range, &kind);
    for (int64_t i = 0; i < plan->count; i++) {
        const qd_cli_change *c = &plan->changes[i];
        const qd_input_stats *s = qd_calibration_find(in->stats, c->name);
        qd_status status = QD_OK;
        float scale;
        int32_t zero;
        bool found = false;
        if (!is_int8(c)) continue;
        if (s && s->cols != c->src.cols) {
            qd_cli_fail("%s: what '%s' reads has %lld columns there, not %lld", in->path, c->name, (long long)s->cols,
                        (long long)c->src.cols);
            return false;
        }
        if (s) {
            found = true;
            status = qd_calibration_scale(s, kind, in->asymmetric, &scale, &zero);
        } else if (!in->stats && c->keep) {
            status = qd_gguf_find_input(g, c->name, &found, &scale, &zero);
        }
        if (status == QD_OK && found) status = qd_gguf_write_input(w, c->name, scale, zero);
        if (status != QD_OK) {
            qd_cli_failed();
            return false;
        }
        written += found;
    }
    if (!in->stats || written) return true;
    qd_cli_fail("--calibration gives scales to matrices in int8, and there would be none: use it with --format int8");
    return false;
}
