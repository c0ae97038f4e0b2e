/* y = x · wᵀ (+ addend) for blocked weights and A8 activations on x86 CPUs: 16 rows of w at once, a row in each lane.
 *
 *   w     output columns first … first+count-1, in the tiles of tile16.h
 *   x     A8 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *   Build options: -DQD_W_Q8_0, -DQD_W_Q4_0 or -DQD_W_Q4_1, and those of simd.h.
 *
 *   unit u = (QD_UNIT_ROWS rows of x, tile)
 *
 *      one dot: 64 bytes of codes  [row 0: i0 i1 i2 i3][row 1: i0 i1 i2 i3] … [row 15]      unsigned
 *                    times                [x0 x1 x2 x3][      the same    ] …               signed, broadcast
 *                    adds up to    [      row 0       ][      row 1       ] … [row 15]      16 exact ints
 *
 * The codes are unsigned here, so the sum is too large by 8 or 128 times Σx, which the A8 blocks hold: subtracting it
 * in float is exact, all being integers below 2^24.
 *
 * QD_TOKENS rows of x share one unpacking of codes and scales; a rest of fewer rows goes one by one. The four partial
 * sums of the blocks are registers. A work-item takes a contiguous range of units, so that it reads one stream of
 * memory. */
#include "x86/simd.h"
#include "x86/tile16.h"

/* Rows of x that share one unpacking. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* Rows of x in one unit: as many as let their blocks stay in the second-level cache. */
#ifndef QD_UNIT_ROWS
#define QD_UNIT_ROWS 128
#endif

/* Bytes ahead at which codes are prefetched for a single row of x; 0: not at all. The AVX2 form works too long on a
 * block for the processor to look far enough ahead by itself; the other form loses by it. */
#ifndef QD_PREFETCH
#if QD_V == 8
#define QD_PREFETCH 1024
#else
#define QD_PREFETCH 0
#endif
#endif

/* Adds block b of the tile's lanes times block b of `tokens` rows of x to p. */
QD_ALWAYS void add_block(__global const uchar *tile, __global const uchar *scales, const int nb, const int b,
                         __global const uchar *x, const ulong x_stride, const int tokens, qd_vf *p) {
    __global const int *codes = (__global const int *)(tile + (ulong)b * QD_TILE_BLOCK);
#define X_BLOCK(t) ((__global const qd_block_a8 *)(x + (ulong)(t)*x_stride) + 2 * b)
#define X_CODES(t, j) ((__global const int *)X_BLOCK(t)[(j) / 4].q + (j) % 4)
    /* Sums with the two A8 blocks, elements 0 … 15 and 16 … 31. */
#ifdef QD_W_Q8_0
    qd_sum8 lo[QD_TOKENS], hi[QD_TOKENS];
    QD_UNROLL(t, tokens) {
        lo[t] = hi[t] = QD_SUM8_ZERO;
    }
    QD_UNROLL(j, 4) {
        const qd_vi low = qd_v_load_int(0, codes + 16 * j);
        const qd_vi high = qd_v_load_int(0, codes + 16 * (j + 4));
        QD_UNROLL(t, tokens) {
            lo[t] = qd_dot8(lo[t], low, X_CODES(t, j));
        }
        QD_UNROLL(t, tokens) {
            hi[t] = qd_dot8(hi[t], high, X_CODES(t, j + 4));
        }
    }
#define TOTAL qd_total8
#else
    qd_sum4 lo[QD_TOKENS], hi[QD_TOKENS];
    QD_UNROLL(t, tokens) {
        lo[t] = hi[t] = QD_SUM4_ZERO;
    }
    QD_UNROLL(j, 4) {
        const qd_vi c = qd_v_load_int(0, codes + 16 * j);
        const qd_vi low = c & 0x0f0f0f0f;
        const qd_vi high = (c >> 4) & 0x0f0f0f0f;
        QD_UNROLL(t, tokens) {
            lo[t] = qd_dot4(lo[t], low, X_CODES(t, j));
        }
        QD_UNROLL(t, tokens) {
            hi[t] = qd_dot4(hi[t], high, X_CODES(t, j + 4));
        }
    }
#define TOTAL qd_total4
#endif
    const qd_vf d = qd_v_halves(scales + (ulong)b * QD_TILE_BLOCK);
#ifdef QD_W_Q4_1
    const qd_vf m = qd_v_halves(scales + (ulong)b * QD_TILE_BLOCK + 32);
#endif
    QD_UNROLL(t, tokens) {
        __global const qd_block_a8 *x_lo = X_BLOCK(t), *x_hi = x_lo + 1;
        qd_vf sum_lo = qd_v_float(TOTAL(lo[t])), sum_hi = qd_v_float(TOTAL(hi[t]));
#ifdef QD_W_Q4_1
        const float x_sum = x_lo->d * x_lo->sum + x_hi->d * x_hi->sum;
        p[t] += d * (x_lo->d * sum_lo + x_hi->d * sum_hi) + m * x_sum;
#else
        sum_lo -= QD_TILE_OFFSET * x_lo->sum;
        sum_hi -= QD_TILE_OFFSET * x_hi->sum;
        p[t] += d * (x_lo->d * sum_lo + x_hi->d * sum_hi);
#endif
    }
}

/* `tokens` rows of x times the tile's lanes that start at codes and scales; sums[t] is the result. */
QD_ALWAYS void times_tile(__global const uchar *codes, __global const uchar *scales, const int nb,
                          __global const uchar *x, const ulong x_stride, const int tokens, qd_vf *sums) {
    qd_vf p[QD_BLOCK_LANES][QD_TOKENS];
    QD_UNROLL(l, QD_BLOCK_LANES) {
        QD_UNROLL(t, tokens) {
            p[l][t] = 0.0f;
        }
    }
    for (int b = 0; b < nb; b += QD_BLOCK_LANES) {
        if (QD_PREFETCH && tokens == 1) {
            __global const uchar *ahead = codes + (ulong)b * QD_TILE_BLOCK + QD_PREFETCH;
            for (int i = 0; i < QD_BLOCK_LANES * QD_TILE_BLOCK; i += 64)
                __builtin_prefetch(ahead + i);
        }
        QD_UNROLL(l, QD_BLOCK_LANES) {
            if (b + l < nb) add_block(codes, scales, nb, b + l, x, x_stride, tokens, p[l]);
        }
    }
    QD_UNROLL(t, tokens) {
        sums[t] = (p[0][t] + p[1][t]) + (p[2][t] + p[3][t]);
    }
}

#include "x86/tile_matmul.h"
