/* The log of a board: steps, their sums, and where their bytes lie. */
#include "sim/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"

enum { MOST_STEPS = 65536, STRIPE = 4096 };

struct qd_sim_log {
    qd_sim_machine machine;
    qd_sim_step *step, *known; /* in order; one of each kind */
    int count, capacity, n_known, known_capacity, calls;
    uint64_t cycles;
};

static const char *const causes[QD_SIM_CAUSES][2] = {
#define QD_SIM_CAUSE(ID, name, what) {name, what},
    QD_SIM_CAUSE_LIST(QD_SIM_CAUSE)
#undef QD_SIM_CAUSE
};

const char *qd_sim_cause_name(qd_sim_cause c) {
    return (unsigned)c < QD_SIM_CAUSES ? causes[c][0] : "?";
}

const char *qd_sim_cause_text(qd_sim_cause c) {
    return (unsigned)c < QD_SIM_CAUSES ? causes[c][1] : "?";
}

const char *qd_sim_traffic_name(qd_sim_traffic t) {
    static const char *const names[QD_SIM_TRAFFIC] = {"weights", "columns", "channels", "results"};
    return (unsigned)t < QD_SIM_TRAFFIC ? names[t] : "?";
}

/* ---- Steps -------------------------------------------------------------------------------------------------- */

qd_status qd_sim_log_open(const qd_sim_machine *m, qd_sim_log **out) {
    qd_sim_log *l = qd_alloc_zero(1, sizeof *l);
    if (!l) return QD_ERR_MEMORY;
    l->machine = *m;
    *out = l;
    return QD_OK;
}

void qd_sim_log_close(qd_sim_log *l) {
    if (!l) return;
    free(l->step);
    free(l->known);
    free(l);
}

void qd_sim_log_clear(qd_sim_log *l) {
    l->count = l->calls = 0;
    l->cycles = 0;
}

double qd_sim_log_seconds(const qd_sim_log *l) {
    return (double)l->cycles / (l->machine.design.clock_mhz * 1e6);
}

const qd_sim_machine *qd_sim_log_machine(const qd_sim_log *l) {
    return &l->machine;
}

/* Room for one more; NULL: out of memory. */
static qd_sim_step *grow(qd_sim_step **list, int count, int *capacity) {
    if (count == *capacity) {
        const int more = *capacity ? 2 * *capacity : 64;
        qd_sim_step *grown = qd_realloc(*list, (size_t)more * sizeof *grown);
        if (!grown) return NULL;
        *list = grown;
        *capacity = more;
    }
    return *list + count;
}

qd_status qd_sim_log_add(qd_sim_log *l, const qd_sim_task *t, const qd_sim_step **added) {
    const qd_sim_step *same = NULL;
    for (int i = 0; i < l->n_known && !same; i++) {
        if (qd_sim_task_same(&l->known[i].task, t)) same = &l->known[i];
    }
    if (!same) {
        qd_sim_step *s = grow(&l->known, l->n_known, &l->known_capacity);
        if (!s) return QD_ERR_MEMORY;
        const qd_status status = qd_sim_task_run(&l->machine, t, s);
        if (status) return status;
        l->n_known++;
        same = s;
    }
    const uint64_t start = l->cycles;
    l->cycles += same->cycles;
    if (added) *added = same;
    if (l->count == MOST_STEPS) return QD_OK;
    qd_sim_step *s = grow(&l->step, l->count, &l->capacity);
    if (!s) return QD_ERR_MEMORY;
    *s = *same;
    s->task = *t;
    s->start = start;
    l->count++;
    if (added) *added = s;
    return QD_OK;
}

qd_status qd_sim_log_call(qd_sim_log *l) {
    const qd_sim_task t = {.name = "call", .place = QD_SIM_HOST};
    l->calls++;
    return l->machine.board->pcie_gbps > 0 ? qd_sim_log_add(l, &t, NULL) : QD_OK;
}

/* ---- Reports ------------------------------------------------------------------------------------------------ */

/* Energies of arithmetic and memory alone. Arithmetic: Horowitz, ISSCC 2014 (45 nm: a product of 8 bits 0.2 pJ, a sum
 * of 32 bits 0.1 pJ; DRAM 1.3 nJ for 64 bits). HBM2: O'Connor et al., MICRO 2017 (3.9 pJ a bit). */
static const double joules_mac = 0.3e-12, joules_ddr_byte = 1.3e-9 / 8, joules_hbm_byte = 3.9e-12 * 8;

/* Bytes go to as many channels as they have stripes, from where the tensor before ended. */
static void spread(qd_sim_report *r, uint64_t bytes, uint64_t *stripes) {
    const uint64_t n = (bytes + STRIPE - 1) / STRIPE, channels = (uint64_t)r->channels;
    const uint64_t used = n < channels ? n : channels;
    for (uint64_t i = 0; i < used; i++)
        r->channel_bytes[(*stripes + i) % channels] += bytes / used + (i < bytes % used ? 1 : 0);
    *stripes += n;
}

static void add_up(qd_sim_report *r, double joules_byte) {
    uint64_t stripes = 0;
    double work = 0, all = 0;
    for (int s = 0; s < r->count; s++) {
        const qd_sim_step *step = &r->step[s];
        r->cycles += step->cycles;
        r->macs += step->task.macs;
        if (step->task.place == QD_SIM_UNIT) {
            r->unit_macs += step->task.macs;
            work += step->task.macs / (step->task.w_bits == 4 ? 2 : 1);
        }
        for (int i = 0; i < QD_SIM_CAUSES; i++)
            r->cause[i] += step->cause[i];
        for (int i = 0; i < QD_SIM_TRAFFIC; i++) {
            r->bytes[i] += step->bytes[i];
            all += (double)step->bytes[i];
            spread(r, step->bytes[i], &stripes);
        }
    }
    const double array = (double)r->design.rows * r->design.cols * r->design.lanes;
    r->seconds = (double)r->cycles / (r->design.clock_mhz * 1e6);
    r->utilization = r->cycles ? work / ((double)r->cycles * array) : 0;
    r->joules_least = r->macs * joules_mac + all * joules_byte;
}

qd_status qd_sim_log_report(const qd_sim_log *l, qd_sim_report **out) {
    const qd_sim_machine *m = &l->machine;
    const double array = (double)m->design.rows * m->design.cols * m->design.lanes * m->design.clock_mhz * 1e6;
    qd_sim_report *r = qd_alloc_zero(1, sizeof *r);
    if (!r) return QD_ERR_MEMORY;
    r->step = qd_alloc((size_t)(l->count ? l->count : 1) * sizeof *r->step);
    if (!r->step) {
        free(r);
        return QD_ERR_MEMORY;
    }
    if (l->count) memcpy(r->step, l->step, (size_t)l->count * sizeof *r->step);
    r->count = l->count;
    r->board = m->board->name;
    r->design = m->design;
    r->resources = qd_sim_resources_of(m->board, &m->design);
    r->wide_multipliers = m->board->family == QD_SIM_XCUP; /* DSP48E2; Stratix 10 has 18 x 19 and 27 x 27 */
    r->peak_macs = array;
    r->peak_macs_int4 = 2 * array;
    r->channels = m->board->channels;
    r->memory_rate = r->channels * qd_sim_channel_rate(m->board, &m->params);
    r->runs = l->calls;
    add_up(r, m->board->memory == QD_SIM_HBM ? joules_hbm_byte : joules_ddr_byte);
    r->joules_most = m->board->watts * r->seconds;
    *out = r;
    return QD_OK;
}

void qd_sim_report_free(qd_sim_report *r) {
    if (!r) return;
    free(r->step);
    free(r);
}

/* ---- Networks ----------------------------------------------------------------------------------------------- */

static qd_sim_task task_of(const qd_sim_layer *l) {
    const double side = (double)l->out * l->stride, output = (double)l->out * l->out * l->channels;
    qd_sim_task t = {.place = QD_SIM_UNIT,
                     .n = l->channels,
                     .m = (int64_t)l->out * l->out,
                     .k = (int64_t)l->kernel_h * l->kernel_w * l->in_channels,
                     .times = 1,
                     .w_bits = 8,
                     .w_memory = 1,
                     .x_memory = 1,
                     .y_memory = 1,
                     .macs = qd_sim_layer_macs(l)};
    switch (l->kind) {
        case QD_SIM_CONV:
            t.run = l->kernel_h * l->kernel_w > 1 ? (int64_t)l->kernel_w * l->in_channels : 0;
            snprintf(t.name, sizeof t.name, "conv %dx%d %d -> %d, %dx%d", l->kernel_h, l->kernel_w, l->in_channels,
                     l->channels, l->out, l->out);
            break;
        case QD_SIM_DEPTH:
            t.n = 1;
            t.k = (int64_t)l->kernel_h * l->kernel_w;
            t.times = l->channels;
            t.run = l->out;
            snprintf(t.name, sizeof t.name, "depthwise %dx%d %d, %dx%d", l->kernel_h, l->kernel_w, l->channels, l->out,
                     l->out);
            break;
        case QD_SIM_POOL:
        case QD_SIM_ADD:
            t = (qd_sim_task){.place = QD_SIM_VECTOR, .writes = output, .element_bits = 8};
            t.reads = t.elements = l->kind == QD_SIM_POOL ? side * side * l->in_channels : 2 * output;
            snprintf(t.name, sizeof t.name, "%s %d, %dx%d", l->kind == QD_SIM_POOL ? "pool" : "add", l->channels,
                     l->out, l->out);
            break;
    }
    return t;
}

qd_status qd_sim_report_network(const char *board, const char *changes, const char *network, qd_sim_report **out) {
    if (!board || !network || !out)
        return qd_fail(QD_ERR_ARGUMENT, "qd_sim_report_network: board, network and out must not be NULL");
    qd_sim_machine m;
    qd_sim_log *l = NULL;
    qd_status status = qd_sim_machine_open(board, changes, &m);
    if (status) return status;
    const qd_sim_network_info *net = qd_sim_network_find(network);
    if (!net) {
        char names[512] = "";
        for (int i = 0; qd_sim_network_name(i); i++) {
            const size_t length = strlen(names);
            snprintf(names + length, sizeof names - length, "%s%s", i ? ", " : "", qd_sim_network_name(i));
        }
        return qd_fail(QD_ERR_ARGUMENT, "no network \"%s\": the model knows %s", network, names);
    }
    QD_TRY(qd_sim_log_open(&m, &l));
    QD_TRY(qd_sim_log_call(l));
    for (int i = 0; i < net->count; i++) {
        const qd_sim_task t = task_of(&net->layers[i]);
        for (int times = 0; times < net->layers[i].times; times++)
            QD_TRY(qd_sim_log_add(l, &t, NULL));
    }
    QD_TRY(qd_sim_log_report(l, out));
error:
    qd_sim_log_close(l);
    return status;
}
