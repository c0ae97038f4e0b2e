/* Several devices as one: each has copies of the buffers that its operators use, and bytes move between them when an
 * operator needs what another device made. */
#ifndef QDOT_SPLIT_SPLIT_H
#define QDOT_SPLIT_SPLIT_H

#include "core/status.h"
#include "qdot/qdot_backend.h"

enum { SPLIT_MOST = 8 };

typedef struct split_part {
    const qd_backend *backend;
    void *device;
    qd_device_info info;
    double share; /* of the work, all together 1 */
} split_part;

/* Who has the bytes from the end of the segment before to `end`: bit i is part i. */
typedef struct split_segment {
    size_t end;
    unsigned have;
} split_segment;

struct qd_buffer {
    size_t bytes;
    qd_buffer *copies[SPLIT_MOST]; /* NULL where no operator has used it yet: a new one would be zero, as all are */
    split_segment *segments;
    int n_segments, segments_cap;
    int home; /* the part whose operators write it, where it lives longer than a graph's run: caches; -1: none */
};

typedef struct split_device {
    split_part parts[SPLIT_MOST];
    int n_parts;
    bool by_rows;
    int next;      /* part of the next operator that belongs to no graph */
    void *staging; /* what bytes go through from part to part */
    size_t staging_bytes;
} split_device;

/* ---- Memory (memory.c) -------------------------------------------------------------------------------------- */

qd_status split_alloc(void *device, size_t bytes, qd_buffer **out);
void split_release(void *device, qd_buffer *b);
qd_status split_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes);
qd_status split_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes);

/** The part's copy. */
qd_status split_copy_of(split_device *d, qd_buffer *b, int part, qd_buffer **out);
/** Makes the part have these bytes; waits where another one made them. */
qd_status split_bring(split_device *d, qd_buffer *b, size_t offset, size_t bytes, int part);
/** From now on only this part has them. */
qd_status split_claim(qd_buffer *b, size_t offset, size_t bytes, int part);
/** At least so many bytes of host memory, until the next call; NULL: there are not so many. */
void *split_staging(split_device *d, size_t bytes);

/* ---- Constants (constants.c) -------------------------------------------------------------------------------- */

/** What stands for indices [first, first + count) of a constant's first dimension on a part; lives as long as the
 *  constant. */
qd_status split_constant(const split_part *on, qd_tensor *t, int64_t first, int64_t count, qd_tensor **out);
void split_forget(void *device, qd_tensor *t);
qd_status split_refresh(void *device, qd_tensor *t);

/* ---- Operators (nodes.c) ------------------------------------------------------------------------------------ */

qd_status split_plan(void *device, qd_node *const nodes[], int n);
qd_status split_prepare(void *device, qd_node *n);
void split_retire(void *device, qd_node *n);
qd_status split_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait);

#endif
