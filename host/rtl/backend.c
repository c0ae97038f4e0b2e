/* The device rtl: memory is the host's, as with the reference; an operator runs at once, on the verilated unit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rtl/operators.h"

extern const rtl_model rtl_unit;

/* What profiles take for a second: less than nextpnr finds for the unit on an ECP5 (hls/rtl/README.md). */
static const double clock_hz = 50e6;

typedef struct rtl_tally {
    uint64_t calls, cycles;
    double bytes, operations;
} rtl_tally;

typedef struct rtl_device {
    void *memory; /* a device of the reference */
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
    if (d->memory) qd_backend_ref.close(d->memory);
    rtl_board_close(d->board);
    free(d);
}

static qd_status rtl_open(const char *device, const qd_context_options *options, qd_device_info *info, void **out) {
    rtl_stalls stalls;
    qd_status status = read_stalls(device, &stalls);
    if (status) return status;
    rtl_device *d = qd_alloc_zero(1, sizeof *d);
    if (!d) return QD_ERR_MEMORY;
    QD_TRY(qd_backend_ref.open("ref", options, info, &d->memory));
    QD_TRY(rtl_board_open(&rtl_unit, &stalls, &d->board));
    describe(d->board, info);
    *out = d;
    return QD_OK;
error:
    rtl_close(d);
    return status;
}

/* ---- Memory ------------------------------------------------------------------------------------------------- */

static void *memory_of(void *device) {
    return ((rtl_device *)device)->memory;
}

static qd_status rtl_alloc(void *device, size_t bytes, qd_buffer **out) {
    return qd_backend_ref.alloc(memory_of(device), bytes, out);
}

static void rtl_release(void *device, qd_buffer *b) {
    qd_backend_ref.release(memory_of(device), b);
}

static qd_status rtl_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes) {
    return qd_backend_ref.write(memory_of(device), b, offset, src, bytes);
}

static qd_status rtl_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes) {
    return qd_backend_ref.read(memory_of(device), b, offset, dst, bytes);
}

static void rtl_memory(void *device, qd_memory_info *out) {
    qd_backend_ref.memory(memory_of(device), out);
}

static qd_status rtl_finish(void *device) {
    (void)device;
    return QD_OK;
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

/* Bytes from the first element of a tensor to the end of its last one. */
static size_t extent(const qd_tensor *t, int64_t rows) {
    qd_tensor_desc d = t->desc;
    if (d.shape[0] == QD_ROWS) d.shape[0] = rows;
    int64_t lines = 1;
    for (int i = 0; i + 1 < d.rank; i++)
        lines *= d.shape[i];
    d.shape[0] = d.shape[d.rank - 1];
    d.rank = 1;
    return lines ? (size_t)(lines - 1) * t->stride + qd_desc_bytes(&d) : 0;
}

/* A host copy of an operand; *owned is to be freed. */
static qd_status take(rtl_device *d, qd_tensor *t, int64_t rows, qd_operand *o, void **owned) {
    const void *constant;
    *o = (qd_operand){NULL, 0};
    if (!t) return QD_OK;
    o->stride = t->stride;
    if (qd_is_constant(t)) {
        const qd_status status = qd_constant_bytes(t, &constant);
        o->data = (void *)(uintptr_t)constant; /* inputs are only read */
        return status;
    }
    *owned = o->data = qd_alloc(extent(t, rows));
    if (!o->data) return QD_ERR_MEMORY;
    return rtl_read(d, t->buffer, t->offset, o->data, extent(t, rows));
}

static void count(rtl_device *d, const qd_node *n, int64_t rows, uint64_t cycles) {
    rtl_tally *t = &d->tallies[n->op];
    t->calls++;
    t->cycles += cycles;
    t->operations += 2 * n->macs * (double)rows;
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        const qd_tensor *x = i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
        if (x) t->bytes += (double)extent(x, rows);
    }
}

static qd_status rtl_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    rtl_device *d = device;
    qd_operand in[QD_MAX_IN], out[QD_MAX_OUT];
    void *owned[QD_MAX_IN + QD_MAX_OUT] = {NULL};
    const uint64_t before = rtl_board_cycles(d->board);
    qd_status status = QD_OK;
    (void)wait, (void)n_wait;
    for (int i = 0; i < QD_MAX_IN; i++)
        QD_TRY(take(d, n->in[i], rows, &in[i], &owned[i]));
    for (int i = 0; i < QD_MAX_OUT; i++)
        QD_TRY(take(d, n->out[i], rows, &out[i], &owned[QD_MAX_IN + i]));
    QD_TRY(rtl_compute(d->board, n, in, out, rows));
    for (int i = 0; i < QD_MAX_OUT; i++) {
        const qd_tensor *t = n->out[i];
        if (t) QD_TRY(rtl_write(d, t->buffer, t->offset, out[i].data, extent(t, rows)));
    }
    count(d, n, rows, rtl_board_cycles(d->board) - before);
error:
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++)
        free(owned[i]);
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
    .alloc = rtl_alloc,
    .release = rtl_release,
    .write = rtl_write,
    .read = rtl_read,
    .prepare = rtl_prepare,
    .enqueue = rtl_enqueue,
    .finish = rtl_finish,
    .memory = rtl_memory,
    .kernels = rtl_kernels,
    .profile = rtl_profile,
    .profile_reset = rtl_profile_reset,
};
