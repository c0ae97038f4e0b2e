/* What devices share that compute on the host by other means than the reference: memory is the reference's, and an
 * operator runs at once, on copies of its operands. */
#ifndef QDOT_REF_HOST_H
#define QDOT_REF_HOST_H

#include "core/status.h"
#include "qdot/qdot_backend.h"

/** The first member of such a device. */
typedef struct qd_host {
    void *memory; /* a device of the reference */
} qd_host;

/** Opens the memory, and fills *info as the reference does. */
qd_status qd_host_open(const qd_context_options *options, qd_device_info *info, qd_host *out);
/** An empty one is legal. */
void qd_host_close(qd_host *h);

/* Slots of a backend. */
qd_status qd_host_alloc(void *device, size_t bytes, qd_buffer **out);
void qd_host_release(void *device, qd_buffer *b);
qd_status qd_host_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes);
qd_status qd_host_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes);
qd_status qd_host_finish(void *device);
void qd_host_memory(void *device, qd_memory_info *out);

/** Refuses operands whose rows do not lie one after the other. */
qd_status qd_host_takes_rows(const qd_node *n);

/** Bytes from the first element of a tensor to the end of its last one, in a run of `rows` rows. */
size_t qd_host_extent(const qd_tensor *t, int64_t rows);

/** A node's operands in host memory. */
typedef struct qd_host_operands {
    qd_operand in[QD_MAX_IN], out[QD_MAX_OUT];
    void *owned[QD_MAX_IN + QD_MAX_OUT];
} qd_host_operands;

/** Where operands are to begin, and what they are to be filled up to: a multiple of so many bytes. */
enum { QD_HOST_BEAT = 64 };

/** Copies the operands. Constants are borrowed, unless `beats`: then every operand begins at a multiple of QD_HOST_BEAT
 *  and has as many bytes in its memory. To be freed with qd_host_free, also after a failure. */
qd_status qd_host_take(qd_host *h, const qd_node *n, int64_t rows, bool beats, qd_host_operands *o);
/** Writes the results back. */
qd_status qd_host_give(qd_host *h, const qd_node *n, int64_t rows, const qd_host_operands *o);
void qd_host_free(qd_host_operands *o);

#endif
