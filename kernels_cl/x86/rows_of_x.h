/* gemm_int.h's positions where they are rows of x. */
#ifndef QD_ROWS_OF_X_H
#define QD_ROWS_OF_X_H

typedef struct rows_of_x {
    __global const uchar *x;
    ulong stride;
    int k;
} rows_of_x;

static inline void gemm_fill(const void *source, const ulong first, const int count, const int k, const int n,
                             const uchar flip, uchar *to, const ulong pitch) {
    const rows_of_x *s = source;
    for (int t = 0; t < count; t++)
        gemm_copy(to + t * pitch, s->x + (first + t) * s->stride + k, n, s->k - k, flip);
}

/* Whole groups, for those of the last row must not end beyond it. On a CPU all addresses are of one kind. */
static inline const uchar *gemm_direct(const void *source, const ulong first, ulong *pitch) {
    const rows_of_x *s = source;
    *pitch = s->stride;
    return s->k % QD_TOGETHER == 0 ? (const uchar *)(ulong)(s->x + first * s->stride) : 0;
}

#endif
