/* Buffers: where ggml's tensors live. */
#ifndef QDOT_OFFLOAD_GGML_BUFFER_H
#define QDOT_OFFLOAD_GGML_BUFFER_H

#include "plugin.h"

enum { QG_PARTS = 3 }; /* most matrices that are stacked */

/** A constant made of bytes of a buffer; matrices of several parts are stacked. */
typedef struct qg_constant {
    const char *data[QG_PARTS];
    size_t bytes[QG_PARTS];
    int n;
    qd_tensor *tensor;
} qg_constant;

/** The addresses that ggml sees are those of a copy in host memory, so that a tensor's `data` is where the host's bytes
 * of it are; pages that are never set take no memory. What operators read and write is device memory, which comes into
 * being when an operator first needs it: weights, of which constants are made, never do. Once there, it has the newest
 * bytes. */
struct qg_buffer {
    qg_buffer *next;
    qg_device *device;
    ggml_backend_buffer_t handle;
    char *base;
    size_t size;
    bool borrowed;      /* `base` is the host's, and read only */
    size_t first, last; /* the bytes of `base` that have been set; the others are zero */
    qd_tensor *memory;  /* i8 [1, size]; may be NULL */
    qg_constant *constants;
    int n_constants, constants_cap;
};

/** The buffer in which a tensor (or what it is a view of) lies; NULL when it is none of the device's. */
qg_buffer *qg_buffer_of(const struct ggml_tensor *t);
/** Its bytes on the device. */
qd_status qg_buffer_memory(qg_buffer *b, qd_tensor **out);
/** A constant of the bytes at `data`, which lie in the buffer; owned by it. One that is there already is used again. */
qd_status qg_buffer_constant(qg_buffer *b, const void *data, const qd_tensor_desc *desc, qd_tensor **out);
/** The same of n two-dimensional ones with the same format and columns, one below the other. */
qd_status qg_buffer_stack(qg_buffer *b, const void *const data[], const qd_tensor_desc desc[], int n, qd_tensor **out);
/** An operator wrote bytes [from, to) of the device's memory: constants made of them are of no use any more. May drop
 * all compiled graphs. */
void qg_buffer_written(qg_buffer *b, size_t from, size_t to);

#endif
