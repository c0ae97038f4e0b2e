/* The WORDS4 layout of blocked weights (Q8_0, Q4_0, Q4_1: -DQD_W_<FORMAT>), which the host packs: tiles of 4 rows of w,
 * missing rows being zero bytes, each tile filled up to whole words of 16 bytes:
 *
 *   codes   [half h][block b][row 0…3]   16 bytes: Q4_0, Q4_1: all codes of the block, as in the file (one half);
 *                                        Q8_0: its codes 16h … 16h+15
 *   scales  [block b][row 0…3]           d, a half; Q4_1: d and m, two halves
 *
 * So work-item i of a team, which takes block i / 4 of row i % 4, reads word i and scale i: neighbours read
 * neighbouring words, a whole tile is one stream of memory, and 32 work-items take 512 bytes in one load. */
#ifndef QD_WORDS4_H
#define QD_WORDS4_H

#include "decode.h"
#include "gpu/features.h"

#ifdef QD_W_Q8_0
#define QD_WORD_HALVES 2
#else
#define QD_WORD_HALVES 1
#endif
#ifdef QD_W_Q4_1
typedef ushort2 qd_word_scale;
#else
typedef ushort qd_word_scale;
#endif

/* 32-bit words: codes of a block that meet the first 16 activations, and those that meet the others. */
typedef struct qd_words {
    uint4 lo, hi;
} qd_words;

static inline ulong qd_words_tile_bytes(const int blocks) {
    return ((ulong)blocks * 4 * (16 * QD_WORD_HALVES + sizeof(qd_word_scale)) + 15) / 16 * 16;
}

/* Codes i of a tile: those of block i / 4 in row i % 4. */
static inline qd_words qd_words_codes(__global const uchar *tile, const int blocks, const int i) {
    __global const uint4 *w = (__global const uint4 *)tile + i;
    qd_words c;
#ifdef QD_W_Q8_0
    c.lo = w[0], c.hi = w[4 * blocks];
#else
    const uint4 v = w[0];
    c.lo = v & 0x0f0f0f0fu, c.hi = v >> 4u & 0x0f0f0f0fu;
#endif
    return c;
}

static inline qd_w_scales qd_words_scales(__global const uchar *tile, const int blocks, const int i) {
    const qd_word_scale v = ((__global const qd_word_scale *)(tile + (ulong)blocks * 64 * QD_WORD_HALVES))[i];
    qd_w_scales s;
#ifdef QD_W_Q4_1
    s.scale[0] = s.scale[1] = qd_half_to_float(v.x);
    s.offset[0] = s.offset[1] = qd_half_to_float(v.y);
#else
    s.scale[0] = s.scale[1] = qd_half_to_float(v);
    s.offset[0] = s.offset[1] = 0.0f;
#endif
    return s;
}

/* The sum of 16 products with an A8 block, whose codes are x and sum to `sum`. */
static inline int qd_words_dot(const uint4 w, const uint4 x, const float sum) {
#ifdef QD_W_Q4_0
    const int start = -8 * (int)sum; /* codes are unsigned here, and 8 too large */
#else
    const int start = 0;
#endif
    return qd_dot4_ss(w.w, x.w, qd_dot4_ss(w.z, x.z, qd_dot4_ss(w.y, x.y, qd_dot4_ss(w.x, x.x, start))));
}

#endif
