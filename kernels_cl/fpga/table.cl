/* TABLE as one loop: 64 codes, what a memory port of 512 bits brings, are looked up in a cycle.
 *
 *   x, y: one row of rows · p.size codes; table [256], copied once into on-chip memory, which is copied for each of the
 *   64 readers
 *
 * There is nothing to join by channels: each burst depends on no other, so the loop is its own pipeline. */
#include "common.h"
#include "qdot_params.h"

#ifndef QD_UNIT
#define QD_UNIT table
#endif
#ifndef QD_BURST
#define QD_BURST 64
#endif

__attribute__((reqd_work_group_size(1, 1, 1))) __kernel void QD_UNIT(QD_IN(x), QD_IN(table), QD_OUT(y),
                                                                   __global const int *params, const int rows) {
    const qd_table_params p = *(__global const qd_table_params *)params;
    const ulong size = (ulong)rows * p.size;
    const uchar flip = p.x_signed ? 128 : 0; /* a signed code minus -128, as a byte */
    uchar codes[256];
    for (int i = 0; i < 256; i++)
        codes[i] = QD_ROW(uchar, table, 0)[i];
    for (ulong at = 0; at < size; at += QD_BURST) {
        uchar burst[QD_BURST];
#pragma unroll
        for (int i = 0; i < QD_BURST; i++)
            burst[i] = at + i < size ? codes[QD_ROW(uchar, x, 0)[at + i] ^ flip] : 0;
#pragma unroll
        for (int i = 0; i < QD_BURST; i++) {
            if (at + i < size) QD_ROW_OUT(uchar, y, 0)[at + i] = burst[i];
        }
    }
}
