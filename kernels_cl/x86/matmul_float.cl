/* y = x · wᵀ (+ addend) for blocked weights and F32 activations on x86 CPUs: 16 rows of w at once, a row in each lane.
 *
 *   w     output columns first … first+count-1, in the tiles of tile16.h
 *   x     F32 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *   Build options: -DQD_W_Q8_0, -DQD_W_Q4_0 or -DQD_W_Q4_1, and those of simd.h.
 *
 *   unit u = (QD_UNIT_ROWS rows of x, tile)
 *
 *      64 bytes of codes   [row 0: i0 i1 i2 i3][row 1: i0 i1 i2 i3] … [row 15]
 *                          i0 of all rows is a vector of weights: times x[k], added to partial sum k % 16, which is a
 *                          vector over rows too
 *
 * One row of x: all 16 partial sums are registers (AVX2: 8, in two passes), so the tile streams from memory in its
 * order. QD_TOKENS rows of x share the dequantized weights; they go through the tile, which is in the first-level cache
 * by then, in four passes of 4 partial sums each. */
#include "x86/tile16.h"

/* Rows of x that share dequantized weights; there are four times as many sums at once. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif
#define QD_REST_TOKENS 1

/* Rows of x in one unit: as many as let them stay in the second-level cache. */
#ifndef QD_UNIT_ROWS
#define QD_UNIT_ROWS 64
#endif

/* Bits `shift` … of each lane's four bytes as the signed code: put below the leading bit of 2^23, they are an integer
 * that 2^23 is subtracted from. */
QD_ALWAYS qd_vf code(const qd_vi c, const int shift) {
#ifdef QD_W_Q8_0
    const int mask = 255;
#else
    const int mask = 15;
#endif
    return qd_v_as_float(((c >> shift) & mask) | 0x4b000000) - (8388608.0f + QD_TILE_OFFSET);
}

/* One row of x takes its time for making floats of codes, and most of it is saved where d·code is one instruction: with
 * the code as 8 bits of the fraction, below 2^15, it is d·(2^15 + unsigned code) - d·(2^15 + 128). The product that is
 * subtracted is exact: d, once a half, has 11 bits, 2^15 + 128 has 9. So is d·code, hence the result, which is rounded
 * once. Only where d is infinite, what should be, too, is no number: such sums are made again, the other way. */
#if defined(QD_W_Q8_0) && defined(QD_AVX512_VNNI)
#define QD_ONE_ROW_FUSED 1
QD_ALWAYS qd_vf fused_value(const qd_vi c, const int i, const qd_vf d, const qd_vf minus) {
    const qd_vi at_8 = i ? c >> (8 * (i - 1)) : c << 8;
    return qd_v_fma(qd_v_as_float((at_8 & 0xff00) | 0x47000000), d, minus);
}
#else
#define QD_ONE_ROW_FUSED 0
#define fused_value(c, i, d, minus) (d)
#endif

/* Partial sums 4·first … 4·first + 4·quads - 1 of `tokens` rows of x, to p[lane][t]. `fused`: see above. */
QD_ALWAYS void pass(__global const uchar *tile, __global const uchar *scales, const int nb, __global const uchar *x,
                    const ulong x_stride, const int first, const int quads, const int tokens, const int fused,
                    qd_vf (*p)[QD_TOKENS]) {
    qd_vf s[16][QD_TOKENS];
    QD_UNROLL(l, 4 * quads) {
        QD_UNROLL(t, tokens) {
            s[l][t] = 0.0f;
        }
    }
    for (int b = 0; b < nb; b++) {
        __global const int *codes = (__global const int *)(tile + (ulong)b * QD_TILE_BLOCK);
        const qd_vf d = qd_v_halves(scales + (ulong)b * QD_TILE_BLOCK);
        const qd_vf minus = d * -(32768.0f + 128.0f);
#define X_BLOCK(t) ((__global const float *)(x + (ulong)(t)*x_stride) + (ulong)b * 32)
#ifdef QD_W_Q4_1
        const qd_vf m = qd_v_halves(scales + (ulong)b * QD_TILE_BLOCK + 32);
#define VALUE(c, shift) (d * code(c, shift) + m)
#else
#define VALUE(c, shift) (d * code(c, shift))
#endif
        /* The two halves of a block: other bytes for Q8_0, the other nibbles of the same bytes else. */
        QD_UNROLL(half_block, 2) {
            QD_UNROLL(j, quads) {
#ifdef QD_W_Q8_0
                const qd_vi c = qd_v_load_int(0, codes + 16 * (4 * half_block + first + j));
                const int shift = 0;
#else
                const qd_vi c = qd_v_load_int(0, codes + 16 * (first + j));
                const int shift = 4 * half_block;
#endif
                QD_UNROLL(i, 4) {
                    const int k = 16 * half_block + 4 * (first + j) + i;
                    const qd_vf v = fused ? fused_value(c, i, d, minus) : VALUE(c, 8 * i + shift);
                    QD_UNROLL(t, tokens) {
                        s[4 * j + i][t] += v * X_BLOCK(t)[k];
                    }
                }
            }
        }
    }
    QD_UNROLL(l, 4 * quads) {
        QD_UNROLL(t, tokens) {
            p[4 * first + l][t] = s[l][t];
        }
    }
}

/* All passes of times_tile. */
QD_ALWAYS void add_passes(__global const uchar *codes, __global const uchar *scales, const int nb,
                          __global const uchar *x, const ulong x_stride, const int tokens, const int fused,
                          qd_vf *sums) {
    const int quads = tokens == 1 ? QD_V / 4 : 1;
    qd_vf p[16][QD_TOKENS];
    QD_UNROLL(q, 4 / quads) {
        pass(codes, scales, nb, x, x_stride, q * quads, quads, tokens, fused, p);
    }
    QD_UNROLL(t, tokens) {
        QD_UNROLL(i, 8) {
            p[i][t] += p[i + 8][t];
        }
        QD_UNROLL(i, 4) {
            p[i][t] += p[i + 4][t];
        }
        sums[t] = (p[0][t] + p[2][t]) + (p[1][t] + p[3][t]);
    }
}

typedef struct x_rows {
    __global const uchar *x;
    ulong stride;
} x_rows;

static inline int unit_rows(const int nb) {
    return QD_UNIT_ROWS;
}

static inline void x_begin(x_rows *in, __global const uchar *x, const ulong stride, const int rows, const int nb) {
    in->x = x;
    in->stride = stride;
}

/* Rows r … r + tokens - 1 of x times QD_V rows of the tile, from `row` on; sums[t] is the result. */
QD_ALWAYS void times_tile(__global const uchar *tile, const int row, const int nb, const x_rows *in, const int r,
                          const int tokens, qd_vf *sums) {
    __global const uchar *scales = tile + row * 2, *codes = tile + QD_TILE_CODES_AT + row * 4;
    __global const uchar *x = in->x + (ulong)r * in->stride;
    const int fused = QD_ONE_ROW_FUSED && tokens == 1;
    add_passes(codes, scales, nb, x, in->stride, tokens, fused, sums);
    if (fused && any(isnan(sums[0]))) add_passes(codes, scales, nb, x, in->stride, tokens, 0, sums);
}

#include "x86/tile_matmul.h"
