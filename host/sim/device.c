/* The device sim:BOARD: values by the functions of hls/ and the reference, time by the model of the board. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

typedef struct sim_tally {
    uint64_t calls, cycles;
    double bytes, operations;
} sim_tally;

typedef struct sim_device {
    qd_host host;
    qd_sim_log *log;
    bool dry;     /* only time, no values */
    bool working; /* the host has not waited since the last operator */
    sim_tally tallies[QD_OP_COUNT];
} sim_device;

/* ---- The device string -------------------------------------------------------------------------------------- */

/* "sim:BOARD[:CHANGES]": a board, and changes to its design (KEY=VALUE,…) or the word dry. */
static qd_status read_device(const char *device, qd_sim_machine *m, bool *dry) {
    char text[256], changes[256] = "";
    char *rest = NULL;
    if (snprintf(text, sizeof text, "%s", device) >= (int)sizeof text)
        return qd_fail(QD_ERR_NO_DEVICE, "the device's name is longer than %zu characters", sizeof text - 1);
    char *board = strchr(text, ':');
    if (!board || !board[1])
        return qd_fail(QD_ERR_NO_DEVICE, "no device \"%s\": it is sim:BOARD; the model knows %s", device,
                       qd_sim_board_names());
    char *list = strchr(++board, ':');
    if (list) *list++ = 0;
    for (char *word = list ? strtok_r(list, ",", &rest) : NULL; word; word = strtok_r(NULL, ",", &rest)) {
        const size_t length = strlen(changes);
        if (strcmp(word, "dry") == 0) {
            *dry = true;
        } else {
            snprintf(changes + length, sizeof changes - length, "%s%s", length ? "," : "", word);
        }
    }
    return qd_sim_machine_open(board, *changes ? changes : NULL, m);
}

static void describe(const qd_sim_machine *m, qd_device_info *info) {
    const qd_sim_design *d = &m->design;
    memset(info, 0, sizeof *info);
    snprintf(info->id, sizeof info->id, "sim:%s", m->board->name);
    snprintf(info->platform, sizeof info->platform, "qdot's board model");
    snprintf(info->name, sizeof info->name, "%s, hls/rtl: %d x %d x %d products a cycle, %g MHz", m->board->name,
             d->rows, d->cols, d->lanes, d->clock_mhz);
    snprintf(info->driver, sizeof info->driver, "%s", qd_version());
    snprintf(info->version, sizeof info->version, "C99");
    snprintf(info->kind, sizeof info->kind, "simulator");
    info->compute_units = (uint32_t)(d->rows * d->cols);
    info->usable = true;
}

/* Boards are asked for by name; none is there. */
static qd_status sim_list(qd_device_info **devices, int *count) {
    (void)devices, (void)count;
    return QD_OK;
}

static void sim_close(void *device) {
    sim_device *d = device;
    qd_host_close(&d->host);
    qd_sim_log_close(d->log);
    free(d);
}

static qd_status sim_open(const char *device, const qd_context_options *options, qd_device_info *info, void **out) {
    qd_sim_machine m;
    bool dry = false;
    qd_status status = read_device(device, &m, &dry);
    if (status) return status == QD_ERR_NO_DEVICE ? status : qd_fail(QD_ERR_NO_DEVICE, "%s", qd_last_message());
    sim_device *d = qd_alloc_zero(1, sizeof *d);
    if (!d) return QD_ERR_MEMORY;
    d->dry = dry;
    QD_TRY(qd_host_open(options, info, &d->host));
    QD_TRY(qd_sim_log_open(&m, &d->log));
    describe(&m, info);
    *out = d;
    return QD_OK;
error:
    sim_close(d);
    return status;
}

/* ---- Operators ---------------------------------------------------------------------------------------------- */

static qd_status sim_prepare(void *device, qd_node *n) {
    sim_device *d = device;
    const qd_status status = qd_backend_ref.prepare(d->host.memory, n);
    const char *function = sim_function(n);
    if (function) n->variant = function;
    return status;
}

static qd_status compute(sim_device *d, qd_node *n, int64_t rows) {
    if (!sim_function(n)) return qd_backend_ref.enqueue(d->host.memory, n, rows, NULL, 0);
    qd_host_operands o;
    qd_status status = qd_host_take(&d->host, n, rows, true, &o);
    if (!status) {
        sim_compute(n, &o, rows);
        status = qd_host_give(&d->host, n, rows, &o);
    }
    qd_host_free(&o);
    return status;
}

/* The host waits for what it gave: a call, however much that was. */
static qd_status sim_finish(void *device) {
    sim_device *d = device;
    if (!d->working) return QD_OK;
    d->working = false;
    return qd_sim_log_call(d->log);
}

static qd_status sim_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes) {
    const qd_status status = sim_finish(device);
    return status ? status : qd_host_read(device, b, offset, dst, bytes);
}

static qd_status sim_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    sim_device *d = device;
    sim_tally *tally = &d->tallies[n->op];
    const qd_sim_step *step;
    qd_sim_task task;
    qd_status status = QD_OK;
    (void)wait, (void)n_wait;
    QD_TRY(sim_task_of(&d->host, n, rows, qd_sim_log_machine(d->log)->design.lanes, &task));
    QD_TRY(qd_sim_log_add(d->log, &task, &step));
    if (!d->dry) QD_TRY(compute(d, n, rows));
    d->working = true;
    tally->calls++;
    tally->cycles += step->cycles;
    tally->operations += 2 * task.macs;
    for (int i = 0; i < QD_SIM_TRAFFIC; i++)
        tally->bytes += (double)step->bytes[i];
error:
    return status;
}

/* ---- Reports ------------------------------------------------------------------------------------------------ */

/* Nothing has to be proven: tests/hls does. */
static qd_status sim_kernels(void *device, qd_kernel_info **out, int *count_of) {
    static const qd_op ops[] = {QD_OP_MATMUL, QD_OP_MATMUL_INT, QD_OP_CONV_INT, QD_OP_TABLE};
    (void)device;
    qd_kernel_info *rows = qd_alloc_zero(sizeof ops / sizeof ops[0], sizeof *rows);
    if (!rows) return QD_ERR_MEMORY;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        qd_kernel_info *r = &rows[(*count_of)++];
        snprintf(r->op, sizeof r->op, "%s", qd_op_get(ops[i])->name);
        snprintf(r->variant, sizeof r->variant, "%s_hls", qd_op_get(ops[i])->name);
        snprintf(r->verdict, sizeof r->verdict, "passed");
    }
    *out = rows;
    return QD_OK;
}

static int slower_first(const void *a, const void *b) {
    const double x = ((const qd_profile_row *)a)->seconds, y = ((const qd_profile_row *)b)->seconds;
    return x < y ? 1 : x > y ? -1 : 0;
}

static qd_status sim_profile(void *device, qd_profile_row **out, int *count_of) {
    const sim_device *d = device;
    const double hertz = qd_sim_log_machine(d->log)->design.clock_mhz * 1e6;
    qd_profile_row *rows = qd_alloc_zero(QD_OP_COUNT, sizeof *rows);
    if (!rows) return QD_ERR_MEMORY;
    int n = 0;
    for (int op = 0; op < QD_OP_COUNT; op++) {
        const sim_tally *t = &d->tallies[op];
        if (!t->calls) continue;
        qd_profile_row *r = &rows[n++];
        snprintf(r->kernel, sizeof r->kernel, "%s, %llu cycles", qd_op_get((qd_op)op)->name,
                 (unsigned long long)t->cycles);
        r->calls = t->calls;
        r->seconds = (double)t->cycles / hertz;
        r->bytes = t->bytes;
        r->operations = t->operations;
    }
    qsort(rows, (size_t)n, sizeof *rows, slower_first);
    *out = rows;
    *count_of = n;
    return QD_OK;
}

static void sim_profile_reset(void *device) {
    sim_device *d = device;
    memset(d->tallies, 0, sizeof d->tallies);
    qd_sim_log_clear(d->log);
}

static qd_status sim_report(void *device, struct qd_sim_report **out) {
    return qd_sim_log_report(((sim_device *)device)->log, out);
}

static double sim_seconds(void *device) {
    return qd_sim_log_seconds(((sim_device *)device)->log);
}

const qd_backend qd_backend_sim = {
    .name = "sim",
    .list = sim_list,
    .open = sim_open,
    .close = sim_close,
    .alloc = qd_host_alloc,
    .release = qd_host_release,
    .write = qd_host_write,
    .read = sim_read,
    .prepare = sim_prepare,
    .enqueue = sim_enqueue,
    .finish = sim_finish,
    .memory = qd_host_memory,
    .kernels = sim_kernels,
    .profile = sim_profile,
    .profile_reset = sim_profile_reset,
    .sim_report = sim_report,
    .sim_seconds = sim_seconds,
};
