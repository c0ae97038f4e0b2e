#include "buffer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "program.h"

/* What kernels like to begin at. */
#define ALIGNMENT 256

static qg_buffer *of(ggml_backend_buffer_t handle) {
    return handle->context;
}

static void log_failure(const char *what, const struct ggml_tensor *t) {
    GGML_LOG_ERROR("qdot: %s %s: %s\n", what, t ? t->name : "a buffer", qd_last_message());
}

/* ---- Constants ---------------------------------------------------------------------------------------------- */

static bool overlaps(const qg_buffer *b, const qg_constant *c, size_t from, size_t to) {
    for (int i = 0; i < c->n; i++) {
        const size_t at = (size_t)(c->data[i] - b->base);
        if (at < to && from < at + c->bytes[i]) return true;
    }
    return false;
}

/* Frees the constants that overlap bytes [from, to), after the compiled graphs that may use them. */
static void drop_constants(qg_buffer *b, size_t from, size_t to) {
    int kept = 0;
    bool dropped = false;
    for (int i = 0; i < b->n_constants; i++) {
        const qg_constant c = b->constants[i];
        if (!overlaps(b, &c, from, to)) {
            b->constants[kept++] = c;
            continue;
        }
        if (!dropped) qg_programs_drop(b->device, NULL);
        dropped = true;
        qd_tensor_free(c.tensor);
    }
    b->n_constants = kept;
}

/* One that is there already, or NULL. `desc` is that of the whole. */
static qd_tensor *find_constant(const qg_buffer *b, const void *const data[], const qd_tensor_desc *desc, int n) {
    for (int i = 0; i < b->n_constants; i++) {
        const qg_constant *c = &b->constants[i];
        bool same = c->n == n && !memcmp(qd_tensor_describe(c->tensor), desc, sizeof *desc);
        for (int j = 0; same && j < n; j++)
            same = c->data[j] == data[j];
        if (same) return c->tensor;
    }
    return NULL;
}

static qd_status make_constant(qg_buffer *b, const void *const data[], const qd_tensor_desc desc[], int n,
                               qd_tensor **out) {
    qd_tensor *parts[QG_PARTS] = {NULL};
    qd_status status = QD_OK;
    for (int i = 0; !status && i < n; i++)
        status = qd_tensor_constant(b->device->context, &desc[i], data[i], &parts[i]);
    if (n == 1) {
        *out = parts[0];
        return status;
    }
    if (!status) status = qd_tensor_stack(b->device->context, parts, n, out);
    for (int i = 0; i < n; i++)
        qd_tensor_free(parts[i]);
    return status;
}

qd_status qg_buffer_stack(qg_buffer *b, const void *const data[], const qd_tensor_desc desc[], int n, qd_tensor **out) {
    qd_tensor_desc whole = desc[0];
    for (int i = 1; i < n; i++)
        whole.shape[0] += desc[i].shape[0];
    *out = find_constant(b, data, &whole, n);
    if (*out) return QD_OK;
    qg_constant c = {.n = n};
    for (int i = 0; i < n; i++) {
        c.data[i] = data[i];
        c.bytes[i] = qd_desc_bytes(&desc[i]);
        const size_t at = (size_t)(c.data[i] - b->base);
        if (!b->memory || b->borrowed) continue;
        const qd_status status =
            qd_tensor_read(b->memory, at, b->base + at, c.bytes[i]); /* an operator may have written */
        if (status) return status;
    }
    if (b->n_constants == b->constants_cap) {
        const int larger = b->constants_cap ? 2 * b->constants_cap : 16;
        qg_constant *grown = realloc(b->constants, (size_t)larger * sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        b->constants = grown;
        b->constants_cap = larger;
    }
    const qd_status status = make_constant(b, data, desc, n, &c.tensor);
    if (status) return status;
    *out = c.tensor;
    b->constants[b->n_constants++] = c;
    return QD_OK;
}

qd_status qg_buffer_constant(qg_buffer *b, const void *data, const qd_tensor_desc *desc, qd_tensor **out) {
    return qg_buffer_stack(b, &data, desc, 1, out);
}

void qg_buffer_written(qg_buffer *b, size_t from, size_t to) {
    if (b->n_constants) drop_constants(b, from, to);
}

/* ---- Memory ------------------------------------------------------------------------------------------------- */

qg_buffer *qg_buffer_of(const struct ggml_tensor *t) {
    ggml_backend_buffer_t handle = t->view_src ? t->view_src->buffer : t->buffer;
    if (!handle || !handle->buft || handle->buft->iface.alloc_buffer != qg_buffer_type_interface.alloc_buffer)
        return NULL;
    return handle->context;
}

qd_status qg_buffer_memory(qg_buffer *b, qd_tensor **out) {
    if (!b->memory) {
        const qd_tensor_desc d = qd_desc(QD_FORMAT_I8, 1, (int64_t)b->size, 0, 0);
        qd_tensor *memory;
        qd_status status = qd_tensor_create(b->device->context, &d, &memory);
        if (status) return status;
        if (b->last > b->first) status = qd_tensor_write(memory, b->first, b->base + b->first, b->last - b->first);
        if (status) {
            qd_tensor_free(memory);
            return status;
        }
        b->memory = memory;
    }
    *out = b->memory;
    return QD_OK;
}

/* Bytes of the host's copy have been set: the device's and the constants follow. */
static void after_set(qg_buffer *b, size_t from, size_t bytes, const struct ggml_tensor *t) {
    if (b->first == b->last) b->first = b->last = from;
    if (from < b->first) b->first = from;
    if (from + bytes > b->last) b->last = from + bytes;
    if (b->n_constants) drop_constants(b, from, from + bytes);
    if (b->memory && qd_tensor_write(b->memory, from, b->base + from, bytes)) log_failure("setting", t);
}

static bool may_set(const qg_buffer *b, const struct ggml_tensor *t) {
    if (b->borrowed) GGML_LOG_ERROR("qdot: %s lies in a mapped file and cannot be set\n", t->name);
    return !b->borrowed;
}

static void set_tensor(ggml_backend_buffer_t handle, struct ggml_tensor *t, const void *data, size_t offset,
                       size_t size) {
    qg_buffer *b = of(handle);
    qg_lock(b->device);
    if (size && may_set(b, t)) {
        char *at = (char *)t->data + offset;
        memcpy(at, data, size);
        after_set(b, (size_t)(at - b->base), size, t);
    }
    qg_unlock(b->device);
}

static void memset_tensor(ggml_backend_buffer_t handle, struct ggml_tensor *t, uint8_t value, size_t offset,
                          size_t size) {
    qg_buffer *b = of(handle);
    qg_lock(b->device);
    if (size && may_set(b, t)) {
        char *at = (char *)t->data + offset;
        memset(at, value, size);
        after_set(b, (size_t)(at - b->base), size, t);
    }
    qg_unlock(b->device);
}

static void get_tensor(ggml_backend_buffer_t handle, const struct ggml_tensor *t, void *data, size_t offset,
                       size_t size) {
    qg_buffer *b = of(handle);
    qg_lock(b->device);
    const char *at = (const char *)t->data + offset;
    if (!b->memory) {
        memcpy(data, at, size);
    } else if (size && qd_tensor_read(b->memory, (size_t)(at - b->base), data, size)) {
        log_failure("getting", t);
    }
    qg_unlock(b->device);
}

/* From another buffer of the device, by way of the host's copy. */
static bool copy_tensor(ggml_backend_buffer_t handle, const struct ggml_tensor *src, struct ggml_tensor *dst) {
    qg_buffer *b = of(handle), *from = qg_buffer_of(src);
    if (!from || from->device != b->device || b->borrowed || !ggml_are_same_layout(src, dst)) return false;
    const size_t bytes = ggml_nbytes(src);
    qg_lock(b->device);
    bool done = true;
    if (!from->memory) {
        memcpy(dst->data, src->data, bytes);
    } else {
        done = !qd_tensor_read(from->memory, (size_t)((char *)src->data - from->base), dst->data, bytes);
    }
    if (done) after_set(b, (size_t)((char *)dst->data - b->base), bytes, dst);
    qg_unlock(b->device);
    return done;
}

static void clear(ggml_backend_buffer_t handle, uint8_t value) {
    qg_buffer *b = of(handle);
    if (b->borrowed) return;
    qg_lock(b->device);
    if (value) {
        memset(b->base, value, b->size);
        after_set(b, 0, b->size, NULL);
    } else { /* new pages and new device memory are zero */
        madvise(b->base, b->size, MADV_DONTNEED);
        drop_constants(b, 0, b->size);
        qg_programs_drop(b->device, b);
        qd_tensor_free(b->memory);
        b->memory = NULL;
        b->first = b->last = 0;
    }
    qg_unlock(b->device);
}

static void *get_base(ggml_backend_buffer_t handle) {
    return of(handle)->base;
}

static void free_buffer(ggml_backend_buffer_t handle) {
    qg_buffer *b = of(handle);
    qg_device *d = b->device;
    qg_lock(d);
    drop_constants(b, 0, b->size);
    qg_programs_drop(d, b);
    qd_tensor_free(b->memory);
    for (qg_buffer **p = &d->buffers; *p; p = &(*p)->next) {
        if (*p != b) continue;
        *p = b->next;
        break;
    }
    qg_unlock(d);
    if (!b->borrowed) munmap(b->base, b->size);
    free(b->constants);
    free(b);
}

static const struct ggml_backend_buffer_i buffer_interface = {
    .free_buffer = free_buffer,
    .get_base = get_base,
    .memset_tensor = memset_tensor,
    .set_tensor = set_tensor,
    .get_tensor = get_tensor,
    .cpy_tensor = copy_tensor,
    .clear = clear,
};

/* Takes `base` over; NULL when memory is short. */
static ggml_backend_buffer_t new_buffer(qg_device *d, char *base, size_t size, bool borrowed) {
    qg_buffer *b = calloc(1, sizeof *b);
    if (!b) {
        if (!borrowed) munmap(base, size);
        return NULL;
    }
    *b = (qg_buffer){.device = d, .base = base, .size = size, .borrowed = borrowed, .last = borrowed ? size : 0};
    b->handle = ggml_backend_buffer_init(&d->buffer_type, buffer_interface, b, size);
    qg_lock(d);
    b->next = d->buffers;
    d->buffers = b;
    qg_unlock(d);
    return b->handle;
}

ggml_backend_buffer_t qg_buffer_borrow(qg_device *d, void *memory, size_t size) {
    return new_buffer(d, memory, size, true);
}

/* ---- Buffer type -------------------------------------------------------------------------------------------- */

static const char *type_name(ggml_backend_buffer_type_t type) {
    (void)type;
    return "QDOT";
}

static size_t type_alignment(ggml_backend_buffer_type_t type) {
    (void)type;
    return ALIGNMENT;
}

static size_t type_max_size(ggml_backend_buffer_type_t type) {
    const qg_device *d = type->context;
    return d->info->max_alloc_bytes ? d->info->max_alloc_bytes : SIZE_MAX;
}

/* Device memory comes later, but its lack is told now, when the host can still do something else. */
static bool has_room(qg_device *d, size_t size, size_t *total) {
    qg_lock(d);
    *total = qg_device_memory(d);
    size_t given = 0;
    for (const qg_buffer *b = d->buffers; b; b = b->next)
        given += b->borrowed ? 0 : b->size;
    qg_unlock(d);
    return !*total || (size <= *total && given <= *total - size);
}

static ggml_backend_buffer_t type_alloc(ggml_backend_buffer_type_t type, size_t size) {
    qg_device *d = type->context;
    size_t total;
    const bool room = has_room(d, size, &total);
    if (size > type_max_size(type) || !room) {
        GGML_LOG_ERROR("qdot: a buffer of %zu bytes exceeds the memory of %s, %zu bytes, or what is left of it\n", size,
                       d->info->name, total);
        return NULL;
    }
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        GGML_LOG_ERROR("qdot: no memory for a buffer of %zu bytes\n", size);
        return NULL;
    }
    return new_buffer(d, base, size, false);
}

const struct ggml_backend_buffer_type_i qg_buffer_type_interface = {
    .get_name = type_name,
    .alloc_buffer = type_alloc,
    .get_alignment = type_alignment,
    .get_max_size = type_max_size,
};
