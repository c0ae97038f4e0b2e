/* Several products in one multiplier of a DSP block, whose ports are wider than the codes (27 x 18 bits, sums of 48, on
 * DSP48E2). Sign and carry of a lower lane reach into the one above it; taking the lower lane, with its sign, off the
 * word puts that right, as long as the lower lane's own sum has not left its bits. That is the limit on how many
 * products may be added before the lanes are taken apart.
 *
 *   two weights, one x      (w1 · 2^S + w0) · x             = w1·x · 2^S + w0·x
 *   four int4               (w1 · 2^22 + w0)(a1 · 2^11 + a0) = w1·a1 · 2^33 + w1·a0 · 2^22 + w0·a1 · 2^11 + w0·a0
 *
 * tests/hls/test_pack.c proves the rows below: every operand, and the limits at their edges. */
#ifndef QD_PACK_H
#define QD_PACK_H

#include "hls.h"
#include "qdot_num.h"

/* QD_PACKING(name, w_bits, x_low, x_high, shift, most): two signed weights of w_bits by one x in x_low … x_high,
 * `shift` bits apart: the most that the port of 27 bits holds. `most` products fit a lane: most · max|product| <=
 * 2^(shift-1) - 1, or 2^(shift-1) below zero. */
#define QD_PACKINGS                     \
    QD_PACKING(S8, 8, -128, 127, 18, 7) \
    QD_PACKING(S4, 4, -128, 127, 22, 2047)

#define QD_PACKING(name, w_bits, x_low, x_high, shift, most) \
    enum { QD_PACK_##name##_SHIFT = shift, QD_PACK_##name##_MOST = most };
QD_PACKINGS
#undef QD_PACKING

/* Four lanes: a0 is unsigned (0 … 15), a1 signed (-8 … 7): the halves of a signed byte. w0 · a0 binds: 8 · 120 <= 1023.
 * Two signed halves could add up 15. */
enum { QD_PACK_FOUR_SHIFT = 11, QD_PACK_FOUR_MOST = 8, QD_PACK_FOUR_SIGNED_MOST = 15 };

/** The port's word for two numbers `shift` bits apart. */
QD_INLINE qd_i32 qd_pack_two(qd_i32 low, qd_i32 high, int shift) {
    return high * ((qd_i32)1 << shift) + low;
}

/** The lowest lane of a sum: its low `shift` bits, with their sign. */
QD_INLINE qd_i32 qd_pack_low(qd_i64 sum, int shift) {
    const qd_i64 half = (qd_i64)1 << (shift - 1);
    return (qd_i32)(((sum + half) & ((half << 1) - 1)) - half);
}

/** The lanes above it: what is left once the lowest is taken off. */
QD_INLINE qd_i64 qd_pack_rest(qd_i64 sum, int shift) {
    return (sum - qd_pack_low(sum, shift)) >> shift;
}

/** *low += Σ w0·x and *high += Σ w1·x over n codes, `most` at a time in one chain of DSP blocks. */
QD_INLINE void qd_pack_dot_two(const qd_i8 *w0, const qd_i8 *w1, const qd_i8 *x, int n, int shift, int most,
                               qd_i32 *low, qd_i32 *high) {
    HLS_UNROLL_BEFORE
    for (int start = 0; start < n; start += most) {
        HLS_UNROLL_INSIDE
        const int end = start + most < n ? start + most : n;
        qd_i64 sum = 0;
        HLS_UNROLL_BEFORE
        for (int i = start; i < end; i++) {
            HLS_UNROLL_INSIDE
            sum += (qd_i64)qd_pack_two(w0[i], w1[i], shift) * x[i];
        }
        *low += qd_pack_low(sum, shift);
        *high += (qd_i32)qd_pack_rest(sum, shift);
    }
}

/** The same for weights of 4 bits, with x in halves, x = 16 · a1 + a0: four products of 4 bits in each multiplier. */
QD_INLINE void qd_pack_dot_four(const qd_i8 *w0, const qd_i8 *w1, const qd_i8 *x, int n, qd_i32 *low, qd_i32 *high) {
    HLS_UNROLL_BEFORE
    for (int start = 0; start < n; start += QD_PACK_FOUR_MOST) {
        HLS_UNROLL_INSIDE
        const int end = start + QD_PACK_FOUR_MOST < n ? start + QD_PACK_FOUR_MOST : n;
        qd_i64 sum = 0, upper;
        qd_i32 lane[4];
        HLS_PARTITION(lane, 1)
        HLS_UNROLL_BEFORE
        for (int i = start; i < end; i++) {
            HLS_UNROLL_INSIDE
            const qd_i32 a = qd_pack_two(x[i] & 15, x[i] >> 4, QD_PACK_FOUR_SHIFT);
            sum += (qd_i64)qd_pack_two(w0[i], w1[i], 2 * QD_PACK_FOUR_SHIFT) * a;
        }
        upper = sum;
        HLS_UNROLL_BEFORE
        for (int l = 0; l < 4; l++) {
            HLS_UNROLL_INSIDE
            lane[l] = qd_pack_low(upper, QD_PACK_FOUR_SHIFT);
            upper = qd_pack_rest(upper, QD_PACK_FOUR_SHIFT);
        }
        *low += lane[0] + 16 * lane[1];
        *high += lane[2] + 16 * lane[3];
    }
}

#endif
