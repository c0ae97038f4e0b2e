/* y = x · wᵀ (+ addend) for blocked weights and A8 activations on x86 CPUs: 16 rows of w at once, a row in each lane.
 *
 *   w     output columns first … first+count-1, in the tiles of tile16.h
 *   x     A8 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *   Build options: -DQD_W_<FORMAT> of a format that has tiles, and those of simd.h.
 *
 *   unit u = (QD_UNIT_ROWS rows of x, tile)
 *
 *      one dot: 64 bytes of codes  [row 0: i0 i1 i2 i3][row 1: i0 i1 i2 i3] … [row 15]      unsigned
 *                    times                [x0 x1 x2 x3][      the same    ] …               signed, broadcast
 *                    adds up to    [      row 0       ][      row 1       ] … [row 15]      16 exact ints
 *
 * The codes are unsigned here, so the sum is too large by QD_TILE_OFFSET times Σx, which the A8 blocks hold:
 * subtracting it in float is exact, all being integers below 2^24. What is added for a unit: see ../matmul_blocks.cl.
 *
 * QD_TOKENS rows of x share one unpacking of codes and scales; a rest of fewer rows goes one by one. The four partial
 * sums of the blocks are registers. A work-item takes a contiguous range of units, so that it reads one stream of
 * memory. */
#include "x86/tile16.h"

/* Rows of x that share one unpacking. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* Rows of x in one unit: as many as let their blocks stay in the second-level cache. */
#ifndef QD_UNIT_ROWS
#define QD_UNIT_ROWS 128
#endif

/* Bytes ahead at which codes are prefetched for a single row of x; 0: not at all. Where the bits of a code are in
 * several places, the processor does not find the order by itself: a single row of Q6_K takes three times as long
 * without. The AVX2 form works too long on a block for the processor to look far enough ahead; the other form loses by
 * it. */
#ifndef QD_PREFETCH
#if defined(QD_W_Q3_K) || defined(QD_W_Q5_K) || defined(QD_W_Q6_K)
#define QD_PREFETCH 4096
#elif QD_V == 8
#define QD_PREFETCH 1024
#else
#define QD_PREFETCH 0
#endif
#endif

/* Sums of the products of codes, which are of 8, 6 or fewer bits. */
#if defined(QD_W_Q8_0) || defined(QD_W_IQ4_NL) || defined(QD_W_IQ4_XS)
#define SUM(name) qd_##name##8
#define SUM_ZERO QD_SUM8_ZERO
#elif defined(QD_W_Q6_K)
#define SUM(name) qd_##name##7
#define SUM_ZERO QD_SUM7_ZERO
#else
#define SUM(name) qd_##name##4
#define SUM_ZERO QD_SUM4_ZERO
#endif

/* Adds unit 4q + l of a block's rows times the blocks of `tokens` rows of x at x to p. */
QD_ALWAYS void add_unit(const qd_tile16 tile, const long q, const int l, __global const uchar *x, const ulong x_stride,
                        const int tokens, qd_vf *p) {
#define X_BLOCK(t) ((__global const qd_block_a8 *)(x + (ulong)(t)*x_stride))
#define X_CODES(t, j) ((__global const int *)X_BLOCK(t)[(j) / 4].q + (j) % 4)
    /* Sums with the two A8 blocks, elements 0 … 15 and 16 … 31. */
    SUM(sum) lo[QD_TOKENS], hi[QD_TOKENS];
    QD_UNROLL(t, tokens) {
        lo[t] = hi[t] = SUM_ZERO;
    }
    QD_UNROLL(j, 4) {
        const qd_vi low = qd_tile_codes(tile, q, l, j), high = qd_tile_codes(tile, q, l, j + 4);
        QD_UNROLL(t, tokens) {
            lo[t] = SUM(dot)(lo[t], low, X_CODES(t, j));
        }
        QD_UNROLL(t, tokens) {
            hi[t] = SUM(dot)(hi[t], high, X_CODES(t, j + 4));
        }
    }
    const qd_tile_scales w = qd_tile_scales_of(tile, q, l);
    QD_UNROLL(t, tokens) {
        __global const qd_block_a8 *x_lo = X_BLOCK(t), *x_hi = x_lo + 1;
        qd_vf sum_lo = qd_v_float(SUM(total)(lo[t])), sum_hi = qd_v_float(SUM(total)(hi[t]));
        if (QD_TILE_OFFSET) {
            sum_lo -= (float)QD_TILE_OFFSET * x_lo->sum;
            sum_hi -= (float)QD_TILE_OFFSET * x_hi->sum;
        }
        sum_lo *= x_lo->d;
        sum_hi *= x_hi->d;
        const float q_lo = x_lo->d * x_lo->sum, q_hi = x_hi->d * x_hi->sum;
        const bool one_scale = QD_TILE_UNITS == 1;
        qd_vf term = one_scale ? w.scale[0] * (sum_lo + sum_hi) : w.scale[0] * sum_lo + w.scale[1] * sum_hi;
        if (QD_TILE_HALVES == 2)
            term += one_scale ? w.offset[0] * (q_lo + q_hi) : w.offset[0] * q_lo + w.offset[1] * q_hi;
        p[t] += term;
    }
}

/* `tokens` rows of x times QD_V rows of the tile, from `row` on; sums[t] is the result. */
QD_ALWAYS void times_tile(__global const uchar *tile, const int row, const int units, __global const uchar *x,
                          const ulong x_stride, const int tokens, qd_vf *sums) {
    qd_vf p[QD_BLOCK_LANES][QD_TOKENS] = {{0.0f}};
    for (int u = 0; u < units; u += QD_BLOCK_LANES) {
        if (QD_PREFETCH && tokens == 1) {
            enum { UNIT = QD_TILE_BLOCK / QD_TILE_UNITS };
            __global const uchar *ahead = tile + (ulong)u * UNIT + QD_PREFETCH;
            for (int i = 0; i < QD_BLOCK_LANES * UNIT; i += 64)
                __builtin_prefetch(ahead + i);
        }
        QD_UNROLL(l, QD_BLOCK_LANES) {
            __global const uchar *block = tile + (ulong)((u + l) / QD_TILE_UNITS) * QD_TILE_BLOCK;
            const long q = u % QD_TILE_UNITS / QD_BLOCK_LANES;
            /* Blocks of several units are whole fours of them. */
            if (QD_TILE_UNITS > 1 || u + l < units)
                add_unit(qd_tile_at(block, row), q, l, x + (ulong)(u + l) * 2 * sizeof(qd_block_a8), x_stride, tokens,
                         p[l]);
        }
    }
    QD_UNROLL(t, tokens) {
        sums[t] = (p[0][t] + p[1][t]) + (p[2][t] + p[3][t]);
    }
}

#include "x86/tile_matmul.h"
