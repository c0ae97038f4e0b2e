/* The kernel of a matmul over tiles of 16 rows of w. The includer defines QD_TOKENS, QD_REST_TOKENS, x_rows (rows of
 * x), x_begin, unit_rows and times_tile.
 *
 * QD_TOKENS rows of x share one unpacking of the weights; what is left, as many as QD_REST_TOKENS, and at last one by
 * one. A work-item takes a contiguous range of units, so that it reads one stream of memory. */
#include "x86/tile16.h"

/* Prefetches a share of the next tile while rows r … r + QD_TOKENS - 1 of n meet this one: a processor follows a stream
 * by itself, but the passes over a tile are none. */
QD_ALWAYS void fetch_ahead(__global const uchar *next, const int bytes, const int r, const int n) {
    const int end = (int)((long)bytes * (r + QD_TOKENS) / n);
    for (int i = (int)((long)bytes * r / n); i < end; i += 64)
        __builtin_prefetch(next + i, 0, 2);
}

__kernel void matmul(__global const uchar *w, QD_IN(x), QD_IN(addend), QD_OUT(y), const int has_addend, const int first,
                     const int count, const int K, const int rows QD_WORK) {
    const int nb = K / 32;
    const int tiles = (count + 15) / 16;
    const int rows_each = unit_rows(nb);
    const ulong units = (ulong)((rows + rows_each - 1) / rows_each) * tiles;
    const ulong begin = units * QD_ITEM / QD_ITEMS;
    const ulong end = units * (QD_ITEM + 1) / QD_ITEMS;
    x_rows in;
    for (ulong u = begin; u < end; u++) {
        const int tile_index = (int)(u % tiles);
        const int r_first = (int)(u / tiles) * rows_each;
        const int n_rows = min(rows_each, rows - r_first);
        if (u == begin || tile_index == 0) x_begin(&in, QD_ROW(uchar, x, r_first), x_stride, n_rows, nb);
        const int tile_bytes = nb / QD_TILE_UNITS * QD_TILE_BLOCK;
        __global const uchar *tile = w + (ulong)tile_index * tile_bytes;
        for (int lane = 0; lane < 16; lane += QD_V) {
            const int n = count - tile_index * 16 - lane;
            const int column = first + tile_index * 16 + lane;
            qd_vf sums[QD_TOKENS];
#define TIMES_TILE(tokens)                                                                                 \
    for (; r + (tokens) <= n_rows; r += (tokens)) {                                                        \
        if ((tokens) == QD_TOKENS && lane == 0) fetch_ahead(tile + tile_bytes, tile_bytes, r, n_rows);     \
        times_tile(tile, lane, nb, &in, r, tokens, sums);                                                  \
        QD_UNROLL_ALL(t, tokens) {                                                                         \
            if (has_addend) sums[t] += qd_v_load_part(QD_ROW(float, addend, r_first + r + t) + column, n); \
            qd_v_store_part(sums[t], QD_ROW_OUT(float, y, r_first + r + t) + column, n);                   \
        }                                                                                                  \
    }
            int r = 0;
            TIMES_TILE(QD_TOKENS)
            if (QD_REST_TOKENS > 1) TIMES_TILE(QD_REST_TOKENS)
            TIMES_TILE(1)
        }
    }
}
