/* Numerics that must give the same bytes everywhere. Compiles as C, OpenCL C and HLS C.
 *
 * Rules: no contraction, no reassociation, no built-in transcendental functions, round to nearest even. Each function
 * is written once, as plain IEEE single-precision operations and integer arithmetic. */
#ifndef QDOT_NUM_H
#define QDOT_NUM_H

#include "qdot_blocks.h"

#ifdef __OPENCL_VERSION__
#pragma OPENCL FP_CONTRACT OFF
#define QD_INLINE static inline
#define qd_as_u32(x) as_uint(x)
#define qd_as_f32(x) as_float(x)
#define qd_sqrt(x) sqrt(x)
#define qd_fabs(x) fabs(x)
#else
/* GCC and Clang: the build adds -ffp-contract=off, because GCC ignores the standard pragma. */
#include <math.h>
#include <string.h>
#define QD_INLINE static inline
QD_INLINE qd_u32 qd_as_u32(qd_f32 x) {
    qd_u32 u;
    memcpy(&u, &x, sizeof u);
    return u;
}
QD_INLINE qd_f32 qd_as_f32(qd_u32 u) {
    qd_f32 x;
    memcpy(&x, &u, sizeof x);
    return x;
}
#define qd_sqrt(x) sqrtf(x)
#define qd_fabs(x) fabsf(x)
#endif

/* ---- Halves and bfloat16 ------------------------------------------------------------------------------------ */

/** IEEE binary16 to float, exact; NaN payloads are kept. */
QD_INLINE qd_f32 qd_half_to_float(qd_u16 h) {
    const qd_u32 sign = (qd_u32)(h & 0x8000u) << 16;
    const qd_u32 magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) return qd_as_f32(sign | 0x7f800000u | (magnitude << 13));
    if (magnitude >= 0x0400u) return qd_as_f32(sign | ((magnitude << 13) + 0x38000000u));
    /* Denormal: magnitude · 2^-24, exact. */
    return qd_as_f32(sign | qd_as_u32((qd_f32)magnitude * 5.9604644775390625e-8f));
}

/** Float to binary16, nearest even, overflow to infinity, denormals kept; a NaN stays a (quiet) NaN. */
QD_INLINE qd_u16 qd_float_to_half(qd_f32 x) {
    const qd_u32 u = qd_as_u32(x);
    const qd_u32 sign = (u >> 16) & 0x8000u;
    const qd_u32 m = u & 0x7fffffffu;
    if (m > 0x7f800000u) return (qd_u16)(sign | 0x7e00u | ((m >> 13) & 0x3ffu));
    if (m >= 0x477ff000u) return (qd_u16)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (m >= 0x38800000u) {
        const qd_u32 rounded = m - 0x38000000u + 0xfffu + ((m >> 13) & 1u);
        return (qd_u16)(sign | (rounded >> 13));
    }
    if (m <= 0x33000000u) return (qd_u16)sign; /* at most half of the least denormal: a tie goes to zero */
    {
        const qd_u32 shift = 126u - (m >> 23); /* 14 … 24 */
        const qd_u32 mantissa = (m & 0x7fffffu) | 0x800000u;
        const qd_u32 q = mantissa >> shift;
        const qd_u32 rest = mantissa & ((1u << shift) - 1u);
        const qd_u32 tie = 1u << (shift - 1u);
        return (qd_u16)(sign | (q + ((rest > tie || (rest == tie && (q & 1u))) ? 1u : 0u)));
    }
}

/** bfloat16 to float, exact. */
QD_INLINE qd_f32 qd_bf16_to_float(qd_u16 b) {
    return qd_as_f32((qd_u32)b << 16);
}

/** Float to bfloat16, nearest even, overflow to infinity, denormals kept; a NaN stays a (quiet) NaN. */
QD_INLINE qd_u16 qd_float_to_bf16(qd_f32 x) {
    const qd_u32 u = qd_as_u32(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (qd_u16)((u >> 16) | 0x40u);
    return (qd_u16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* ---- Rounding and quantizing -------------------------------------------------------------------------------- */

/** Nearest integer, ties to even, for |x| < 2^22: adding 1.5 · 2^23 leaves no room for a fraction. */
QD_INLINE qd_f32 qd_round_even(qd_f32 x) {
    return (x + 12582912.0f) - 12582912.0f;
}

/** Block maxima below this are taken as zero, so that 127 / max cannot overflow. */
#define QD_A8_TINY 1e-30f

/** Scale of an A8 block whose largest magnitude is `max`. */
QD_INLINE qd_f32 qd_a8_scale(qd_f32 max) {
    return max > QD_A8_TINY ? max / 127.0f : 0.0f;
}
/** What an A8 block's values are multiplied by. */
QD_INLINE qd_f32 qd_a8_inverse(qd_f32 max) {
    return max > QD_A8_TINY ? 127.0f / max : 0.0f;
}
/** The code of x in an A8 block; NaN, which only a broken model makes, becomes -127. */
QD_INLINE qd_i32 qd_a8_code(qd_f32 x, qd_f32 inverse) {
    const qd_f32 v = x * inverse;
    const qd_f32 clamped = v >= -127.0f ? (v <= 127.0f ? v : 127.0f) : -127.0f;
    return (qd_i32)qd_round_even(clamped);
}

/* ---- exp ---------------------------------------------------------------------------------------------------- */

/* exp(x) = 2^n · exp(r), n = round(x / ln 2), ln 2 in two parts; a degree-6 polynomial for exp(r) (coefficients: Cephes
 * expf). Relative error below 2^-22. x < -87 gives 0, x > 88 gives exp(88).
 * A macro, because kernels also need it on vectors: F and U are float and unsigned types of one width. */
#define QD_DEFINE_EXP(name, F, U, as_F, as_U)                                                            \
    QD_INLINE F name(F x0) {                                                                             \
        const F x1 = x0 > (F)88.0f ? (F)88.0f : x0;                                                      \
        const F x = x1 < (F)-87.0f ? (F)-87.0f : x1;                                                     \
        const F t = x * (F)1.44269504088896341f + (F)12582912.0f;                                        \
        const F n = t - (F)12582912.0f;                                                                  \
        const F r = (x - n * (F)0.693359375f) - n * (F)-2.12194440e-4f;                                  \
        const F p = ((((((F)1.9875691500e-4f * r + (F)1.3981999507e-3f) * r + (F)8.3334519073e-3f) * r + \
                       (F)4.1665795894e-2f) *                                                            \
                          r +                                                                            \
                      (F)1.6666665459e-1f) *                                                             \
                         r +                                                                             \
                     (F)5.0000001201e-1f);                                                               \
        const F y = (p * (r * r) + r) + (F)1.0f;                                                         \
        const F scaled = y * as_F((as_U(t) - (U)0x4b400000u + (U)127u) << (U)23u);                       \
        return x0 < (F)-87.0f ? (F)0.0f : scaled;                                                        \
    }

QD_DEFINE_EXP(qd_exp, qd_f32, qd_u32, qd_as_f32, qd_as_u32)

/** x · sigmoid(x); 0 below -88, where exp(-x) ends. */
QD_INLINE qd_f32 qd_silu(qd_f32 x) {
    return x < -88.0f ? 0.0f : x / (1.0f + qd_exp(-x));
}

/* ---- Cache layouts ------------------------------------------------------------------------------------------ */

/** Element index in a key cache [heads, positions, dim]: inside each run of 16 positions, dim is the outer index, so
 * that a vector over positions is contiguous. `positions` is a multiple of 16. Values are stored plainly. */
#define QD_KEY_INDEX(head, position, d, positions, dim) \
    (((qd_i64)(head) * (positions) + ((position) & ~15)) * (dim) + (qd_i64)(d)*16 + ((position)&15))

#endif
