/* From a row's columns to its metric. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sim/sim.h"

bool qd_sim_cannot(const qd_sim_ask *a, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(a->reason, QD_SIM_REASON, format, list);
    va_end(list);
    return false;
}

static const struct {
    const char *kind;
    bool (*time)(const qd_sim_ask *, qd_sim_time *);
} kinds[] = {
    {"axi_read", qd_sim_axi},    {"axi_write", qd_sim_axi},   {"pcie_h2d", qd_sim_pcie}, {"pcie_d2h", qd_sim_pcie},
    {"pcie_bidir", qd_sim_pcie}, {"hbm_read", qd_sim_hbm},    {"gemm", qd_sim_gemm},     {"gemv", qd_sim_gemv},
    {"conv", qd_sim_conv},       {"network", qd_sim_network},
};

static bool in_metric(const qd_sim_ask *a, const qd_sim_time *t, double *value) {
    const char *metric = a->row->text[QD_SIM_METRIC];
    if (strcmp(metric, "ms") == 0) {
        *value = t->seconds * 1e3;
    } else if (strcmp(metric, "cycles") == 0) {
        if (a->row->clock <= 0) return qd_sim_cannot(a, "cycles without a clock");
        *value = t->seconds * a->row->clock;
    } else if (strcmp(metric, "fps") == 0 || strcmp(metric, "tok_per_s") == 0) {
        *value = 1 / t->seconds;
    } else if (strcmp(metric, "GBps") == 0) {
        if (t->bytes <= 0) return qd_sim_cannot(a, "a rate in GBps of a kind that counts no bytes");
        *value = t->bytes / t->seconds * 1e-9;
    } else {
        return qd_sim_cannot(a, "metric '%s': known are GBps, ms, cycles, fps, tok_per_s", metric);
    }
    return isfinite(*value) && *value > 0 ? true : qd_sim_cannot(a, "its sizes give no finite time");
}

bool qd_sim_predict(const qd_sim_case *row, const qd_sim_params *p, double *value, char reason[QD_SIM_REASON]) {
    const qd_sim_ask a = {.row = row, .board = qd_sim_board_find(row->text[QD_SIM_DEVICE]), .p = p, .reason = reason};
    *reason = 0;
    *value = 0;
    if (!a.board) return qd_sim_cannot(&a, "device '%s' is not in sim/boards.def", row->text[QD_SIM_DEVICE]);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].kind, row->text[QD_SIM_KIND]) != 0) continue;
        qd_sim_time t = {0};
        if (kinds[i].time(&a, &t) && in_metric(&a, &t, value)) return true;
        *value = 0;
        return false;
    }
    return qd_sim_cannot(&a, "kind '%s' is not modelled", row->text[QD_SIM_KIND]);
}
