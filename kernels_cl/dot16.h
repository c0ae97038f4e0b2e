/* The exact dot product of 16 signed bytes with an A8 block's codes. -DQD_PACKED_DOT: by the packed dot product of four
 * bytes, which a device must have (needs INTEGER_DOT). */
#ifndef QD_DOT16_H
#define QD_DOT16_H

#include "common.h"
#ifdef QD_PACKED_DOT
#include "gpu/features.h"
#endif

static inline int qd_dot16_a8(const char16 w, __global const qd_block_a8 *x) {
    const char16 q = vload16(0, (__global const char *)x->q);
#ifdef QD_PACKED_DOT
    const uint4 a = as_uint4(w), b = as_uint4(q);
    return qd_dot4_ss(a.w, b.w, qd_dot4_ss(a.z, b.z, qd_dot4_ss(a.y, b.y, qd_dot4_ss(a.x, b.x, 0))));
#else
    return qd_int_sum(convert_int16(w) * convert_int16(q));
#endif
}

#endif
