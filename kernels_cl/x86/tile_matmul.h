/* The kernel of a matmul over tiles of 16 rows of w. The includer defines QD_TOKENS, QD_UNIT_ROWS and times_tile.
 *
 * QD_TOKENS rows of x share one unpacking of the weights; a rest of fewer rows goes one by one. A work-item takes a
 * contiguous range of units, so that it reads one stream of memory. */
#include "x86/tile16.h"

__kernel void matmul(__global const uchar *w, QD_IN(x), QD_IN(addend), QD_OUT(y), const int has_addend, const int first,
                     const int count, const int K, const int rows QD_WORK) {
    const int nb = K / 32;
    const int tiles = (count + 15) / 16;
    const ulong units = (ulong)((rows + QD_UNIT_ROWS - 1) / QD_UNIT_ROWS) * tiles;
    const ulong begin = units * QD_ITEM / QD_ITEMS;
    const ulong end = units * (QD_ITEM + 1) / QD_ITEMS;
    for (ulong u = begin; u < end; u++) {
        const int tile_index = (int)(u % tiles);
        const int r_first = (int)(u / tiles) * QD_UNIT_ROWS;
        const int r_end = min(r_first + QD_UNIT_ROWS, rows);
        __global const uchar *tile = w + (ulong)tile_index * (nb / QD_TILE_UNITS) * QD_TILE_BLOCK;
        for (int lane = 0; lane < 16; lane += QD_V) {
            const int n = count - tile_index * 16 - lane;
            const int column = first + tile_index * 16 + lane;
            qd_vf sums[QD_TOKENS];
#define TIMES_TILE(r, tokens)                                                                      \
    do {                                                                                           \
        times_tile(tile, lane, nb, QD_ROW(uchar, x, r), x_stride, tokens, sums);                   \
        QD_UNROLL(t, tokens) {                                                                     \
            if (has_addend) sums[t] += qd_v_load_part(QD_ROW(float, addend, (r) + t) + column, n); \
            qd_v_store_part(sums[t], QD_ROW_OUT(float, y, (r) + t) + column, n);                   \
        }                                                                                          \
    } while (0)
            int r = r_first;
            for (; r + QD_TOKENS <= r_end; r += QD_TOKENS)
                TIMES_TILE(r, QD_TOKENS);
            for (; r < r_end; r++)
                TIMES_TILE(r, 1);
        }
    }
}
