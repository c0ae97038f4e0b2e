/* The reference as a device: memory is the host's, and every operator runs at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref.h"

struct qd_buffer {
    size_t bytes;
    unsigned char data[];
};

typedef struct ref_device {
    uint64_t used, peak, budget;
} ref_device;

static void describe(qd_device_info *info) {
    memset(info, 0, sizeof *info);
    snprintf(info->id, sizeof info->id, "ref");
    snprintf(info->platform, sizeof info->platform, "qdot");
    snprintf(info->name, sizeof info->name, "C reference");
    snprintf(info->driver, sizeof info->driver, "%s", qd_version());
    snprintf(info->version, sizeof info->version, "C11");
    snprintf(info->kind, sizeof info->kind, "reference");
    info->compute_units = 1;
    info->usable = true;
}

static qd_status ref_list(qd_device_info **devices, int *count) {
    qd_device_info *grown = qd_realloc(*devices, (size_t)(*count + 1) * sizeof *grown);
    if (!grown) return QD_ERR_MEMORY;
    describe(&grown[*count]);
    *devices = grown;
    (*count)++;
    return QD_OK;
}

static qd_status ref_open(const char *device, const qd_context_options *options, qd_device_info *info, void **out) {
    if (strcmp(device, "ref"))
        return qd_fail(QD_ERR_NO_DEVICE, "no device \"%s\": the reference is just \"ref\"", device);
    ref_device *d = qd_alloc_zero(1, sizeof *d);
    if (!d) return QD_ERR_MEMORY;
    d->budget = options->memory_budget;
    describe(info);
    *out = d;
    return QD_OK;
}

static void ref_close(void *device) {
    free(device);
}

static qd_status ref_alloc(void *device, size_t bytes, qd_buffer **out) {
    ref_device *d = device;
    if (d->budget && bytes > d->budget - (d->used < d->budget ? d->used : d->budget)) {
        return qd_fail(QD_ERR_DEVICE_MEMORY, "%zu more bytes would exceed the memory budget of %llu (%llu in use)",
                       bytes, (unsigned long long)d->budget, (unsigned long long)d->used);
    }
    qd_buffer *b = bytes > SIZE_MAX - sizeof *b ? NULL : qd_alloc_zero(1, sizeof *b + bytes);
    if (!b) return qd_fail(QD_ERR_MEMORY, "out of memory: could not allocate %zu bytes", bytes);
    b->bytes = bytes;
    d->used += bytes;
    if (d->used > d->peak) d->peak = d->used;
    *out = b;
    return QD_OK;
}

static void ref_release(void *device, qd_buffer *b) {
    ((ref_device *)device)->used -= b->bytes;
    free(b);
}

static qd_status ref_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes) {
    (void)device;
    memcpy(b->data + offset, src, bytes);
    return QD_OK;
}

static qd_status ref_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes) {
    (void)device;
    memcpy(dst, b->data + offset, bytes);
    return QD_OK;
}

static bool ref_offers(void *device, qd_op op) {
    (void)device, (void)op;
    return true;
}

static qd_status ref_prepare(void *device, qd_node *n) {
    (void)device;
    n->variant = "reference";
    for (int i = 0; i < QD_MAX_IN; i++) {
        const void *bytes;
        if (!n->in[i] || !qd_is_constant(n->in[i])) continue;
        const qd_status status = qd_constant_bytes(n->in[i], &bytes);
        if (status) return status;
    }
    return QD_OK;
}

static qd_status ref_compute(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    typedef qd_status function(const qd_node *, const qd_operand[], const qd_operand[], int64_t);
    static function *const functions[QD_OP_COUNT] = {
#define QD_OP(ID, name, min_in, max_in, n_out, rules, operands) qd_ref_##name,
#include "qdot/qdot_ops.def"
    };
    return functions[n->op](n, in, out, rows);
}

static qd_operand operand(const qd_tensor *t) {
    if (!t) return (qd_operand){NULL, 0};
    if (t->constant) return (qd_operand){(void *)(uintptr_t)t->constant, t->stride}; /* inputs are only read */
    return (qd_operand){t->buffer->data + t->offset, t->stride};
}

static qd_status ref_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    (void)device, (void)wait, (void)n_wait;
    qd_operand in[QD_MAX_IN], out[QD_MAX_OUT];
    for (int i = 0; i < QD_MAX_IN; i++)
        in[i] = operand(n->in[i]);
    for (int i = 0; i < QD_MAX_OUT; i++)
        out[i] = operand(n->out[i]);
    return ref_compute(n, in, out, rows);
}

static qd_status ref_finish(void *device) {
    (void)device;
    return QD_OK;
}

static void ref_memory(void *device, qd_memory_info *out) {
    const ref_device *d = device;
    *out = (qd_memory_info){.used = d->used, .pooled = 0, .peak = d->peak, .budget = d->budget};
}

const qd_backend qd_backend_ref = {
    .name = "ref",
    .list = ref_list,
    .open = ref_open,
    .close = ref_close,
    .alloc = ref_alloc,
    .release = ref_release,
    .write = ref_write,
    .read = ref_read,
    .prepare = ref_prepare,
    .offers = ref_offers,
    .enqueue = ref_enqueue,
    .finish = ref_finish,
    .compute = ref_compute,
    .memory = ref_memory,
};
