/* Puts the keys and values of new positions into the caches.
 *
 *   k, v     F32 [rows, heads · head_dim]
 *   position int32; row r goes to position + r, and nowhere if that is outside the cache
 *   kcache   F32 [heads, positions, head_dim] in the order of QD_KEY_INDEX: in each run of 16 positions
 *              d0: p0 p1 … p15 | d1: p0 p1 … p15 | …        so that a vector over 16 positions is contiguous
 *   vcache   F32 [heads, positions, head_dim], plain
 *
 *   unit u = (r, head) */
#include "common.h"

__kernel void kv_store(QD_IN(k), QD_IN(v), QD_IN(position), QD_OUT(kcache), QD_OUT(vcache), const int heads,
                       const int head_dim, const int positions, const int rows) {
    const int start = *QD_ROW(int, position, 0);
    __global float *keys = QD_ROW_OUT(float, kcache, 0);
    __global float *values = QD_ROW_OUT(float, vcache, 0);
    QD_FOR_UNITS(u, (ulong)rows * heads) {
        const int r = (int)(u / heads);
        const int h = (int)(u % heads);
        const int at = start + r;
        if (at < 0 || at >= positions) continue;
        __global const float *key = QD_ROW(float, k, r) + h * head_dim;
        __global const float *value = QD_ROW(float, v, r) + h * head_dim;
        __global float *key_out = keys + QD_KEY_INDEX(h, at, 0, positions, head_dim);
        __global float *value_out = values + ((long)h * positions + at) * head_dim;
        for (int d = 0; d < head_dim; d++) {
            key_out[d * 16] = key[d];
            value_out[d] = value[d];
        }
    }
}
