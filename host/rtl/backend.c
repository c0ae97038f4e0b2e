/* The device rtl: memory is the host's, as with the reference; an operator runs at once, on the verilated unit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/host.h"
#include "rtl/operators.h"

extern const rtl_model rtl_unit;

/* What profiles take for a second: less than nextpnr finds for the unit on an ECP5 (hls/rtl/README.md). */
static const double clock_hz = 50e6;

typedef struct rtl_tally {
    uint64_t calls, cycles;
    double bytes, operations;
} rtl_tally;

typedef struct rtl_device {
    qd_host host;
    rtl_board *board;
    rtl_tally tallies[QD_OP_COUNT];
} rtl_device;

static void describe(const rtl_board *b, qd_device_info *info) {
    memset(info, 0, sizeof *info);
    snprintf(info->id, sizeof info->id, "rtl");
    snprintf(info->platform, sizeof info->platform, "Verilator");
    if (b) {
        const rtl_shape *s = rtl_board_shape(b);
        snprintf(info->name, sizeof info->name, "hls/rtl: %d x %d x %d products a cycle", s->rows, s->cols, s->lanes);
        info->compute_units = (uint32_t)(s->rows * s->cols);
    }
    snprintf(info->driver, sizeof info->driver, "%s", qd_version());
    snprintf(info->version, sizeof info->version, "Verilog-2001");
    snprintf(info->kind, sizeof info->kind, "simulator");
    info->usable = b != NULL;
}

static qd_status rtl_list_devices(qd_device_info **devices, int *count) {
    rtl_board *b;
    qd_device_info *grown = qd_realloc(*devices, (size_t)(*count + 1) * sizeof *grown);
    if (!grown) return QD_ERR_MEMORY;
    *devices = grown;
    const qd_status status = rtl_board_open(&rtl_unit, NULL, &b);
    if (status == QD_ERR_MEMORY) return status;
    describe(status ? NULL : b, &grown[*count]);
    if (status) snprintf(grown[*count].why, sizeof grown[*count].why, "%s", qd_last_message());
    (*count)++;
    if (!status) rtl_board_close(b);
    return QD_OK;
}

/* "rtl", or "rtl:stalls[:SEED]": every stream stops now and then, which changes cycles and nothing else. */
static qd_status read_stalls(const char *device, rtl_stalls *s) {
    static const char word[] = "rtl:stalls";
    memset(s, 0, sizeof *s);
    if (!strcmp(device, "rtl")) return QD_OK;
    const char *rest = device + sizeof word - 1;
    char *end = NULL;
    if (!strncmp(device, word, sizeof word - 1) && *rest == ':') s->seed = strtoull(rest + 1, &end, 10);
    if (strncmp(device, word, sizeof word - 1) != 0 || (*rest && (!end || end == rest + 1 || *end))) {
        return qd_fail(QD_ERR_NO_DEVICE,
                       "no device \"%s\": the unit is \"rtl\", with streams that stop \"rtl:stalls[:SEED]\"", device);
    }
    s->burst = 2;
    for (int i = 0; i < RTL_STREAMS; i++)
        s->per_256[i] = 64;
    return QD_OK;
}

static void rtl_close(void *device) {
    rtl_device *d = device;
    qd_host_close(&d->host);
    rtl_board_close(d->board);
    free(d);
}

static qd_status rtl_open(const char *device, const qd_context_options *options, qd_device_info *info, void **out) {
    rtl_stalls stalls;
    qd_status status = read_stalls(device, &stalls);
    if (status) return status;
    rtl_device *d = qd_alloc_zero(1, sizeof *d);
    if (!d) return QD_ERR_MEMORY;
    QD_TRY(qd_host_open(options, info, &d->host));
    QD_TRY(rtl_board_open(&rtl_unit, &stalls, &d->board));
    describe(d->board, info);
    *out = d;
    return QD_OK;
error:
    rtl_close(d);
    return status;
}

/* ---- Operators ---------------------------------------------------------------------------------------------- */

static const char *const variants[QD_OP_COUNT] = {
    [QD_OP_MATMUL] = "matmul_rtl", [QD_OP_MATMUL_INT] = "matmul_int_rtl", [QD_OP_CONV_INT] = "conv_int_rtl"};

static qd_status rtl_prepare(void *device, qd_node *n) {
    const qd_status status = rtl_takes(rtl_board_shape(((rtl_device *)device)->board), n);
    if (status) return status;
    n->variant = variants[n->op];
    return QD_OK;
}

static void count(rtl_device *d, const qd_node *n, int64_t rows, uint64_t cycles) {
    rtl_tally *t = &d->tallies[n->op];
    t->calls++;
    t->cycles += cycles;
    t->operations += 2 * n->macs * (double)rows;
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        const qd_tensor *x = i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
        if (x) t->bytes += (double)qd_host_extent(x, rows);
    }
}

static qd_status rtl_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    rtl_device *d = device;
    qd_host_operands o;
    const uint64_t before = rtl_board_cycles(d->board);
    qd_status status = QD_OK;
    (void)wait, (void)n_wait;
    QD_TRY(qd_host_take(&d->host, n, rows, false, &o));
    QD_TRY(rtl_compute(d->board, n, o.in, o.out, rows));
    QD_TRY(qd_host_give(&d->host, n, rows, &o));
    count(d, n, rows, rtl_board_cycles(d->board) - before);
error:
    qd_host_free(&o);
    return status;
}

/* Nothing has to be proven: tests/rtl does. */
static qd_status rtl_kernels(void *device, qd_kernel_info **out, int *count_of) {
    (void)device;
    qd_kernel_info *rows = qd_alloc_zero(QD_OP_COUNT, sizeof *rows);
    if (!rows) return QD_ERR_MEMORY;
    for (int op = 0; op < QD_OP_COUNT; op++) {
        if (!variants[op]) continue;
        qd_kernel_info *r = &rows[(*count_of)++];
        snprintf(r->op, sizeof r->op, "%s", qd_op_get((qd_op)op)->name);
        snprintf(r->variant, sizeof r->variant, "%s", variants[op]);
        snprintf(r->verdict, sizeof r->verdict, "passed");
    }
    *out = rows;
    return QD_OK;
}

static int slower_first(const void *a, const void *b) {
    const double x = ((const qd_profile_row *)a)->seconds, y = ((const qd_profile_row *)b)->seconds;
    return x < y ? 1 : x > y ? -1 : 0;
}

static qd_status rtl_profile(void *device, qd_profile_row **out, int *count_of) {
    const rtl_device *d = device;
    qd_profile_row *rows = qd_alloc_zero(QD_OP_COUNT, sizeof *rows);
    if (!rows) return QD_ERR_MEMORY;
    int n = 0;
    for (int op = 0; op < QD_OP_COUNT; op++) {
        const rtl_tally *t = &d->tallies[op];
        if (!t->calls) continue;
        qd_profile_row *r = &rows[n++];
        snprintf(r->kernel, sizeof r->kernel, "%s_rtl, %llu cycles", qd_op_get((qd_op)op)->name,
                 (unsigned long long)t->cycles);
        r->calls = t->calls;
        r->seconds = (double)t->cycles / clock_hz;
        r->bytes = t->bytes;
        r->operations = t->operations;
    }
    qsort(rows, (size_t)n, sizeof *rows, slower_first);
    *out = rows;
    *count_of = n;
    return QD_OK;
}

static void rtl_profile_reset(void *device) {
    rtl_device *d = device;
    memset(d->tallies, 0, sizeof d->tallies);
}

const qd_backend qd_backend_rtl = {
    .name = "rtl",
    .list = rtl_list_devices,
    .open = rtl_open,
    .close = rtl_close,
    .alloc = qd_host_alloc,
    .release = qd_host_release,
    .write = qd_host_write,
    .read = qd_host_read,
    .prepare = rtl_prepare,
    .enqueue = rtl_enqueue,
    .finish = qd_host_finish,
    .memory = qd_host_memory,
    .kernels = rtl_kernels,
    .profile = rtl_profile,
    .profile_reset = rtl_profile_reset,
};
