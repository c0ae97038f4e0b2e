/* Puts the keys and values of new positions into the caches.
 *
 *   k, v     F32 [rows, heads · head_dim]
 *   position int32; row r goes to position + r, and nowhere if that is outside the cache
 *   kcache, vcache  F32, or (-DQD_KV_I8) codes with their scales: see kv.h
 *
 *   unit u = (r, head) */
#include "kv.h"

#ifdef QD_KV_I8
/* Scale and codes of a head as an A8 block of head_dim elements would have them. */
static inline void put(__global const float *x, const int head_dim, __global qd_kv *out, const int step,
                       __global qd_kv *scale) {
    float16 most = 0.0f;
    for (int d = 0; d < head_dim; d += 16) {
        const float16 a = fabs(vload16(0, x + d));
        most = a > most ? a : most;
    }
    const float max = qd_lanes_max(most), inverse = qd_a8_inverse(max);
    *(__global float *)scale = qd_a8_scale(max);
    for (int d = 0; d < head_dim; d++)
        out[d * step] = (char)qd_a8_code(x[d], inverse);
}
#endif

__kernel void kv_store(QD_IN(k), QD_IN(v), QD_IN(position), QD_OUT(kcache), QD_OUT(vcache), const int heads,
                       const int head_dim, const int positions, const int rows QD_WORK) {
    const int start = *QD_ROW(int, position, 0);
    const int columns = QD_KV_COLUMNS(head_dim);
    __global qd_kv *keys = QD_ROW_OUT(qd_kv, kcache, 0);
    __global qd_kv *values = QD_ROW_OUT(qd_kv, vcache, 0);
    QD_FOR_UNITS(u, (ulong)rows * heads) {
        const int r = (int)(u / heads);
        const int h = (int)(u % heads);
        const int at = start + r;
        if (at < 0 || at >= positions) continue;
        __global const float *key = QD_ROW(float, k, r) + h * head_dim;
        __global const float *value = QD_ROW(float, v, r) + h * head_dim;
        __global qd_kv *key_out = keys + QD_KEY_INDEX(h, at, 0, positions, columns);
        __global qd_kv *value_out = values + ((long)h * positions + at) * columns;
#ifdef QD_KV_I8
        put(key, head_dim, key_out, 16, keys + QD_KEY_SCALE(h, at, positions, head_dim));
        put(value, head_dim, value_out, 1, value_out + head_dim);
#else
        for (int d = 0; d < head_dim; d++) {
            key_out[d * 16] = key[d];
            value_out[d] = value[d];
        }
#endif
    }
}
