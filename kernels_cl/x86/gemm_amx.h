/* gemm_int.h's sums by AMX.
 *
 *                               w in 6             w in 7             16 groups of four codes down, 16 channels along:
 *                           [channels 0 … 15] [channels 16 … 31]      TILE16 as it lies
 *   x in 4  positions  0 … 15      sums 0             sums 1
 *   x in 5  positions 16 … 31      sums 2             sums 3          16 groups of four codes along
 *
 * The last groups of w, where they do not fill a tile, are copied, and filled up with 0: what x has behind its codes
 * then adds nothing, but must be readable. */
#ifndef QD_GEMM_AMX_H
#define QD_GEMM_AMX_H

#include "x86/amx.h"

/* For up to 32 positions. A tile that is not needed has a row, too. */
QD_ALWAYS void gemm_open_tiles(const int positions) {
    amx_shapes shapes = {.palette = 1};
    const uchar low = (uchar)min(positions, 16), high = (uchar)max(positions - 16, 1);
    for (int i = 0; i < 8; i++) {
        shapes.bytes[i] = 64;
        shapes.rows[i] = i >= 6 ? 16 : i == 2 || i == 3 || i == 5 ? high : low;
    }
    amx_open(&shapes);
}

/* n < 16 groups of w as a whole tile. */
QD_ALWAYS void gemm_fill_tile(__global const uchar *w, const int n, qd_vi *to) {
    for (int i = 0; i < 16; i++)
        to[i] = i < n ? qd_v_load_int(i, (__global const int *)w) : (qd_vi)0;
}

/* As gemm_int.h's: all sums are kept in acc, those of one tile. */
static void gemm_some_dots(const gemm *g, const gemm_part *part, __global const uchar *const *w, const uchar *x,
                           const ulong pitch, const int groups, const int tokens, const int tiles, gemm_ahead ahead,
                           const bool goes_on, qd_vi (*acc)[QD_VECTORS], const gemm_results *to) {
    const int vectors = part->vectors;
    const bool wide = vectors > 1, high = tokens > 16;
#define AMX_SUMS(INSTRUCTION)                          \
    INSTRUCTION(0, acc[0], sizeof *acc);               \
    if (wide) INSTRUCTION(1, acc[0] + 1, sizeof *acc); \
    if (high) INSTRUCTION(2, acc[16], sizeof *acc);    \
    if (wide && high) INSTRUCTION(3, acc[16] + 1, sizeof *acc)
    gemm_open_tiles(tokens);
    for (int t = 0; t < tokens && !goes_on; t++) {
        for (int j = 0; j < vectors; j++)
            acc[t][j] = part->c[j].start;
    }
    AMX_SUMS(AMX_LOAD);
    for (int i = 0; i < groups; i += 16) {
        const uchar *codes[QD_VECTORS];
        qd_vi filled[QD_VECTORS][16];
        for (int j = 0; j < vectors; j++) {
            codes[j] = (const uchar *)(ulong)(w[j] + 64 * (ulong)i);
            if (groups - i >= 16) continue;
            gemm_fill_tile(w[j] + 64 * (ulong)i, groups - i, filled[j]);
            codes[j] = (const uchar *)filled[j];
        }
        AMX_LOAD(4, x + 4 * i, pitch);
        AMX_LOAD(6, codes[0], 64);
        AMX_DOT_US(0, 4, 6);
        if (wide) {
            AMX_LOAD(7, codes[1], 64);
            AMX_DOT_US(1, 4, 7);
        }
        if (high) {
            AMX_LOAD(5, x + 16 * pitch + 4 * i, pitch);
            AMX_DOT_US(2, 5, 6);
            if (wide) AMX_DOT_US(3, 5, 7);
        }
        for (int at = 0; at < 16 * ahead.step; at += 64)
            __builtin_prefetch(ahead.at + at, 0, 2);
        ahead.at += 16 * ahead.step;
    }
    AMX_SUMS(AMX_STORE);
}

#endif
