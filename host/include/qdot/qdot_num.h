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

/* ---- NaN ---------------------------------------------------------------------------------------------------- */

/** x, but every NaN becomes the positive quiet one: devices differ in the sign and payload that arithmetic gives. */
QD_INLINE qd_f32 qd_one_nan(qd_f32 x) {
    return x == x ? x : qd_as_f32(0x7fc00000u);
}

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

/* ---- Floats of 8 and 4 bits --------------------------------------------------------------------------------- */

/* sign, exponent, mantissa of `mantissa` bits; `magnitude` has no sign. No infinities and NaN here. */
QD_INLINE qd_f32 qd_small_to_float(qd_u32 magnitude, qd_u32 sign, qd_u32 mantissa, qd_u32 bias) {
    if (magnitude >> mantissa)
        return qd_as_f32((sign << 31) | ((magnitude << (23u - mantissa)) + ((127u - bias) << 23)));
    /* Denormal: magnitude · 2^(1 - bias - mantissa), exact. */
    return qd_as_f32((sign << 31) | qd_as_u32((qd_f32)magnitude * qd_as_f32((128u - bias - mantissa) << 23)));
}

/** Magnitude of the nearest small float, ties to even, at most `largest`. x is no NaN. */
QD_INLINE qd_u32 qd_float_to_small(qd_f32 x, qd_u32 mantissa, qd_u32 bias, qd_u32 largest) {
    const qd_u32 m = qd_as_u32(x) & 0x7fffffffu, drop = 23u - mantissa, exponent = m >> 23;
    qd_u32 code;
    if (exponent > 127u - bias) {
        code = (m - ((127u - bias) << 23) + ((1u << (drop - 1u)) - 1u) + ((m >> drop) & 1u)) >> drop;
    } else {
        const qd_u32 shift = drop + 128u - bias - exponent;
        const qd_u32 bits = (m & 0x7fffffu) | 0x800000u;
        const qd_u32 q = shift > 24u ? 0u : bits >> shift, rest = shift > 24u ? 0u : bits & ((1u << shift) - 1u);
        const qd_u32 tie = shift > 24u ? 1u : 1u << (shift - 1u);
        code = q + ((rest > tie || (rest == tie && (q & 1u))) ? 1u : 0u);
    }
    return code < largest ? code : largest;
}

/** FP8 E4M3 (Micikevicius et al. 2022; "fn" elsewhere): largest 448, no infinity, NaN 0x7f. */
QD_INLINE qd_f32 qd_f8e4m3_to_float(qd_u8 c) {
    return (c & 0x7f) == 0x7f ? qd_as_f32(0x7fc00000u) : qd_small_to_float(c & 0x7fu, c >> 7, 3u, 7u);
}
/** Nearest even; beyond 448, infinity too, ±448. */
QD_INLINE qd_u8 qd_float_to_f8e4m3(qd_f32 x) {
    const qd_u32 sign = qd_as_u32(x) >> 31 << 7;
    return (qd_u8)(sign | (x == x ? qd_float_to_small(x, 3u, 7u, 0x7eu) : 0x7fu));
}

/** The same, but what rounds beyond 448 is NaN. */
QD_INLINE qd_u8 qd_float_to_f8e4m3_overflow(qd_f32 x) {
    const qd_u32 sign = qd_as_u32(x) >> 31 << 7;
    return (qd_u8)(sign | (x == x ? qd_float_to_small(x, 3u, 7u, 0x7fu) : 0x7fu));
}

/** E8M0, a scale of 8 bits (OCP Microscaling Formats 1.0): 2^(c - 127); 255 is NaN. */
QD_INLINE qd_f32 qd_e8m0_to_float(qd_u8 c) {
    return qd_as_f32(c == 255u ? 0x7fc00000u : c ? (qd_u32)c << 23 : 0x400000u);
}

/** FP8 E5M2: as binary16 cut to 8 bits; largest 57344. */
QD_INLINE qd_f32 qd_f8e5m2_to_float(qd_u8 c) {
    return qd_half_to_float((qd_u16)(c << 8));
}
/** Nearest even; beyond 57344, infinity too, ±57344. */
QD_INLINE qd_u8 qd_float_to_f8e5m2(qd_f32 x) {
    const qd_u32 sign = qd_as_u32(x) >> 31 << 7;
    return (qd_u8)(sign | (x == x ? qd_float_to_small(x, 2u, 15u, 0x7bu) : 0x7eu));
}

/** The same, but what rounds beyond 57344 is infinity. */
QD_INLINE qd_u8 qd_float_to_f8e5m2_overflow(qd_f32 x) {
    const qd_u32 sign = qd_as_u32(x) >> 31 << 7;
    return (qd_u8)(sign | (x == x ? qd_float_to_small(x, 2u, 15u, 0x7cu) : 0x7eu));
}

/** FP4 E2M1: ±{0, 0.5, 1, 1.5, 2, 3, 4, 6}. */
QD_INLINE qd_f32 qd_f4e2m1_to_float(qd_u8 c) {
    return qd_small_to_float(c & 7u, (c >> 3) & 1u, 1u, 1u);
}
/** Nearest even; beyond 6, NaN too, ±6. */
QD_INLINE qd_u8 qd_float_to_f4e2m1(qd_f32 x) {
    const qd_u32 sign = qd_as_u32(x) >> 31 << 3;
    return (qd_u8)(sign | (x == x ? qd_float_to_small(x, 1u, 1u, 7u) : 7u));
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

/* exp(r) - 1 near 0 (coefficients: Cephes expf). */
#define QD_EXPM1_NEAR_0(F, r)                                                                                         \
    ((((((((F)1.9875691500e-4f * r + (F)1.3981999507e-3f) * r + (F)8.3334519073e-3f) * r + (F)4.1665795894e-2f) * r + \
        (F)1.6666665459e-1f) *                                                                                        \
           r +                                                                                                        \
       (F)5.0000001201e-1f) *                                                                                         \
          (r * r) +                                                                                                   \
      r))

/* exp(x) = 2^n · exp(r), n = round(x / ln 2), ln 2 in two parts; a degree-6 polynomial for exp(r). Relative error below
 * 2^-22. x < -87 gives 0, x > 88 gives exp(88).
 * A macro, because kernels also need it on vectors: F and U are float and unsigned types of one width. */
#define QD_DEFINE_EXP(name, F, U, as_F, as_U)                                      \
    QD_INLINE F name(F x0) {                                                       \
        const F x1 = x0 > (F)88.0f ? (F)88.0f : x0;                                \
        const F x = x1 < (F)-87.0f ? (F)-87.0f : x1;                               \
        const F t = x * (F)1.44269504088896341f + (F)12582912.0f;                  \
        const F n = t - (F)12582912.0f;                                            \
        const F r = (x - n * (F)0.693359375f) - n * (F)-2.12194440e-4f;            \
        const F y = QD_EXPM1_NEAR_0(F, r) + (F)1.0f;                               \
        const F scaled = y * as_F((as_U(t) - (U)0x4b400000u + (U)127u) << (U)23u); \
        return x0 < (F)-87.0f ? (F)0.0f : scaled;                                  \
    }

QD_DEFINE_EXP(qd_exp, qd_f32, qd_u32, qd_as_f32, qd_as_u32)

/* softcap · tanh(s), tanh(|s|) = (1 - exp(-2|s|)) / (1 + exp(-2|s|)); absolute error below softcap · 2^-20. A macro, as
 * QD_DEFINE_EXP; `exp` is of the same type. */
#define QD_DEFINE_CAP(name, F, exp)                               \
    QD_INLINE F name(F s, qd_f32 softcap) {                       \
        const F t = exp((F)-2.0f * (s < (F)0.0f ? -s : s));       \
        const F y = (F)softcap * (((F)1.0f - t) / ((F)1.0f + t)); \
        return s < (F)0.0f ? -y : y;                              \
    }

QD_DEFINE_CAP(qd_cap, qd_f32, qd_exp)

/** x · sigmoid(x); 0 below -88, where exp(-x) ends. */
QD_INLINE qd_f32 qd_silu(qd_f32 x) {
    return x < -88.0f ? 0.0f : x / (1.0f + qd_exp(-x));
}

/* The nearest integer, halves to even, with x's sign. A macro, as QD_DEFINE_EXP. */
#define QD_DEFINE_WHOLE(name, F, U, as_F, as_U)                                    \
    QD_INLINE F name(F x) {                                                        \
        const F a = qd_fabs(x), r = (a + (F)8388608.0f) - (F)8388608.0f;           \
        return a < (F)8388608.0f ? as_F(as_U(r) | (as_U(x) & (U)0x80000000u)) : x; \
    }

/* ---- Functions of floats ------------------------------------------------------------------------------------ */

/* What the formulas of qdot_unary.def are made of, for floats (suffix empty) or vectors of them: exp is QD_DEFINE_EXP's
 * of the same type. Polynomials: Cephes expf, tanhf, erff and erfcf.
 *   qd_exp_to_infinity  exp that overflows where it must, not to exp(88)
 *   qd_expm1            exp(x) - 1
 *   qd_tanh
 *   qd_erf_near_0       erf(x) for |x| <= 1
 *   qd_erfc             erfc(a) for a >= 1, of which minus_square = -a² is also given: the caller may know it better
 *   qd_erf
 *   qd_normal           Φ(x) = (1 + erf(x / √2)) / 2, the probability that a normal number is below x
 *   qd_whole            QD_DEFINE_WHOLE */
#define QD_DEFINE_FUNCTIONS(suffix, exp, F, U, as_F, as_U)                                                          \
    QD_INLINE F qd_exp_to_infinity##suffix(F x) {                                                                   \
        const F high = x > (F)88.0f ? x - (F)88.0f : x;                                                             \
        return exp(high) * (x > (F)88.0f ? (F)1.6516362549940018e38f : (F)1.0f); /* exp(88) */                      \
    }                                                                                                               \
    QD_INLINE F qd_expm1##suffix(F x) {                                                                             \
        return qd_fabs(x) < (F)0.34f ? QD_EXPM1_NEAR_0(F, x) : qd_exp_to_infinity##suffix(x) - (F)1.0f;             \
    }                                                                                                               \
    QD_INLINE F qd_tanh##suffix(F x) {                                                                              \
        const F a = qd_fabs(x), z = x * x;                                                                          \
        const F p = ((((F)-5.70498872745e-3f * z + (F)2.06390887954e-2f) * z - (F)5.37397155531e-2f) * z +          \
                     (F)1.33314422036e-1f) *                                                                        \
                        z -                                                                                         \
                    (F)3.33332819422e-1f;                                                                           \
        const F y = a < (F)0.625f ? p * z * a + a : (F)1.0f - (F)2.0f / (exp(a + a) + (F)1.0f);                     \
        return as_F(as_U(y) | (as_U(x) & (U)0x80000000u));                                                          \
    }                                                                                                               \
    QD_INLINE F qd_erf_near_0##suffix(F x) {                                                                        \
        const F z = x * x;                                                                                          \
        return x *                                                                                                  \
               (((((((F)7.853861353153693e-5f * z - (F)8.010193625184903e-4f) * z + (F)5.188327685732524e-3f) * z - \
                   (F)2.685381193529856e-2f) *                                                                      \
                      z +                                                                                           \
                  (F)1.128358514861418e-1f) *                                                                       \
                     z -                                                                                            \
                 (F)3.761262582423300e-1f) *                                                                        \
                    z +                                                                                             \
                (F)1.128379165726710f);                                                                             \
    }                                                                                                               \
    QD_INLINE F qd_erfc##suffix(F a, F minus_square) {                                                              \
        const F q = (F)1.0f / a, z = q * q;                                                                         \
        const F below_2 =                                                                                           \
            ((((((((F)2.326819970068386e-2f * z - (F)1.387039388740657e-1f) * z + (F)3.687424674597105e-1f) * z -   \
                 (F)5.824733027278666e-1f) *                                                                        \
                    z +                                                                                             \
                (F)6.210004621745983e-1f) *                                                                         \
                   z -                                                                                              \
               (F)4.944515323274145e-1f) *                                                                          \
                  z +                                                                                               \
              (F)3.404879937665872e-1f) *                                                                           \
                 z -                                                                                                \
             (F)2.741127028184656e-1f) *                                                                            \
                z +                                                                                                 \
            (F)5.638259427386472e-1f;                                                                               \
        const F above_2 =                                                                                           \
            (((((((F)-1.047766399936249e1f * z + (F)1.297719955372516e1f) * z - (F)7.495518717768503f) * z +        \
                (F)2.921019019210786f) *                                                                            \
                   z -                                                                                              \
               (F)1.015265279202700f) *                                                                             \
                  z +                                                                                               \
              (F)4.218463358204948e-1f) *                                                                           \
                 z -                                                                                                \
             (F)2.820767439740514e-1f) *                                                                            \
                z +                                                                                                 \
            (F)5.641895067754075e-1f;                                                                               \
        return exp(minus_square) * q * (a < (F)2.0f ? below_2 : above_2);                                           \
    }                                                                                                               \
    QD_INLINE F qd_erf##suffix(F x) {                                                                               \
        const F a = qd_fabs(x);                                                                                     \
        const F y = a < (F)1.0f ? qd_erf_near_0##suffix(a) : (F)1.0f - qd_erfc##suffix(a, -(a * a));                \
        return as_F(as_U(y) | (as_U(x) & (U)0x80000000u));                                                          \
    }                                                                                                               \
    QD_INLINE F qd_normal##suffix(F x) {                                                                            \
        const F a = qd_fabs(x) * (F)0.70710678118654752f;                                                           \
        const F c = a < (F)1.0f ? (F)1.0f - qd_erf_near_0##suffix(a) : qd_erfc##suffix(a, (F)-0.5f * (x * x));      \
        return x < (F)0.0f ? (F)0.5f * c : (F)1.0f - (F)0.5f * c;                                                   \
    }                                                                                                               \
    QD_DEFINE_WHOLE(qd_whole##suffix, F, U, as_F, as_U)

/* ---- Fake quantization -------------------------------------------------------------------------------------- */

/* FAKE_QUANTIZE and its gradients of one element (suffix empty) or of the elements of vectors: see qdot_ops.def. min
 * and max are codes, zero one of them. */
#define QD_DEFINE_FAKE_QUANTIZE(suffix, F, U, as_F, as_U)                                                  \
    QD_DEFINE_WHOLE(qd_fake_round##suffix, F, U, as_F, as_U)                                               \
    typedef struct qd_faked##suffix {                                                                      \
        F y, dx, dscale, dzero;                                                                            \
    } qd_faked##suffix;                                                                                    \
    QD_INLINE F qd_fake_number##suffix(F x) {                                                              \
        return x == x ? x : as_F((U)0x7fc00000u);                                                          \
    }                                                                                                      \
    QD_INLINE qd_faked##suffix qd_fake_element##suffix(F x, F dy, F scale, F zero, qd_f32 min, qd_f32 max, \
                                                       qd_i32 clip) {                                      \
        const F inverse = (F)1.0f / scale, q = qd_fake_round##suffix(x * inverse) + zero;                  \
        const F below = q > (F)max ? (F)max : q, code = below < (F)min ? (F)min : below;                   \
        const F y = (code - zero) * scale;                                                                 \
        const F low = ((F)min - zero) * scale, high = ((F)max - zero) * scale;                             \
        const F by_code = q == code ? (F)1.0f : (F)0.0f;                                                   \
        const F by_value = x < high ? (x >= low ? (F)1.0f : (F)0.0f) : (F)0.0f;                            \
        const F within = clip ? by_value : by_code;                                                        \
        const F slope = clip ? (F)0.0f : (y - x) * inverse;                                                \
        qd_faked##suffix r;                                                                                \
        r.y = qd_fake_number##suffix(y);                                                                   \
        r.dx = qd_fake_number##suffix(within > (F)0.0f ? dy : (F)0.0f);                                    \
        r.dscale = dy * (within > (F)0.0f ? slope : code - zero);                                          \
        r.dzero = within > (F)0.0f ? (F)0.0f : -dy * scale;                                                \
        return r;                                                                                          \
    }

/* ---- Requantization ----------------------------------------------------------------------------------------- */

/* The modes of qd_rounding; the two numbers a and b of a channel are made by qd_requantize_table:
 *   FIXED     a: multiplier, 2^30 <= a < 2^31; b: right shift, 1 … 62, or 63 for results that are always 0
 *   GEMMLOWP  a: multiplier as FIXED, or 0; b: left shift, negative: right
 *   AWAY      the low and the high half of a float64
 *   FLOAT     a: the bits of a float32; b: 0
 * Other numbers give some result, the same everywhere, and no undefined behaviour. */
#define QD_MODE_FIXED 0
#define QD_MODE_GEMMLOWP 1
#define QD_MODE_AWAY 2
#define QD_MODE_FLOAT 3

QD_INLINE qd_i32 qd_saturate_i32(qd_i64 x) {
    return x > 2147483647 ? 2147483647 : x < -2147483647 - 1 ? -2147483647 - 1 : (qd_i32)x;
}

/** Nearest integer, ties to even, limited to int32; NaN becomes 0. Any float. */
QD_INLINE qd_i32 qd_round_even_i32(qd_f32 x) {
    if (x >= 2147483648.0f) return 2147483647;
    if (x <= -2147483648.0f) return -2147483647 - 1;
    if (!(qd_fabs(x) < 4194304.0f)) {
        if (!(qd_fabs(x) < 8388608.0f)) return x == x ? (qd_i32)x : 0;
        /* The last bit is a half. */
        return (qd_i32)(x < 0.0f ? (x - 8388608.0f) + 8388608.0f : (x + 8388608.0f) - 8388608.0f);
    }
    return (qd_i32)qd_round_even(x);
}

/** Nearest integer, halves away from zero, limited to int32; NaN becomes 0. Any float. */
QD_INLINE qd_i32 qd_round_away_i32(qd_f32 x) {
    const qd_f32 size = qd_fabs(x);
    qd_i32 whole;
    if (!(size < 8388608.0f)) return qd_round_even_i32(x); /* a whole number, or none at all */
    whole = (qd_i32)size;
    if (size - (qd_f32)whole >= 0.5f) whole++;
    return x < 0.0f ? -whole : whole;
}

/** floor(x · a / 2^b + 1/2). */
QD_INLINE qd_i32 qd_requantize_fixed(qd_i32 x, qd_i32 a, qd_i32 b) {
    if (b < 1 || b > 62) return 0;
    return qd_saturate_i32(((qd_i64)x * a + ((qd_i64)1 << (b - 1))) >> b);
}

/** gemmlowp's SaturatingRoundingDoublingHighMul: a · b / 2^31, a number of 31 bits after the point if both are. */
QD_INLINE qd_i32 qd_multiply_q31(qd_i32 a, qd_i32 b) {
    const qd_i64 product = (qd_i64)a * b;
    const qd_i64 nudged = product + (product >= 0 ? 1073741824 : 1 - 1073741824);
    return qd_saturate_i32(nudged / 2147483648); /* towards zero */
}

/** gemmlowp's RoundingDivideByPOT: x / 2^n, halves away from zero; n is 0 … 31. */
QD_INLINE qd_i32 qd_divide_rounded(qd_i32 x, qd_i32 n) {
    const qd_i32 mask = (qd_i32)(((qd_u32)1 << n) - 1u);
    const qd_i32 rest = x & mask;
    return (x >> n) + (rest > (mask >> 1) + (x < 0 ? 1 : 0) ? 1 : 0);
}

/** Both: two roundings. The left shift wraps. */
QD_INLINE qd_i32 qd_requantize_gemmlowp(qd_i32 x, qd_i32 a, qd_i32 b) {
    const qd_i32 left = b > 0 ? (b < 31 ? b : 31) : 0, right = b < 0 ? (b > -31 ? -b : 31) : 0;
    return qd_divide_rounded(qd_multiply_q31((qd_i32)((qd_u32)x << left), a), right);
}

/** gemmlowp's fixed-point 1 / (1 + x): x and the result, which lies between 1/2 and 1, have 31 bits after the point.
 * Newton's method on 1 / d for d = (1 + x) / 2, in numbers of 29 bits after the point; 0 <= x. */
QD_INLINE qd_i32 qd_one_over_one_plus_q31(qd_i32 x) {
    const qd_i32 d = (qd_i32)(((qd_i64)x + 2147483647 + 1) / 2);
    qd_i32 y = 1515870810 + qd_multiply_q31(d, -1010580540); /* 48/17 - 32/17 · d */
    int i;
    for (i = 0; i < 3; i++) {
        const qd_i32 error = 536870912 - qd_multiply_q31(d, y); /* 1 - d · y */
        y += qd_saturate_i32((qd_i64)qd_multiply_q31(y, error) * 4);
    }
    return qd_saturate_i32((qd_i64)y * 2);
}

/** round(x · m), halves away from zero, where the product is that of float64 arithmetic: rounded to 53 bits, half to
 *  even. In integers, because many devices have no float64. m is positive and finite; (low, high) are its bits. */
QD_INLINE qd_i32 qd_requantize_away(qd_i32 x, qd_i32 low, qd_i32 high) {
    const qd_i32 exponent = (high >> 20) & 0x7ff;
    const qd_u64 fraction = ((qd_u64)((qd_u32)high & 0xfffffu) << 32) | (qd_u32)low;
    const qd_u64 mantissa = exponent ? fraction | ((qd_u64)1 << 52) : fraction; /* m = mantissa · 2^(exponent - 1075) */
    const qd_u64 magnitude = x < 0 ? (qd_u64)(-(qd_i64)x) : (qd_u64)x;
    /* The product, up to 85 bits: top · 2^32 + (bottom's low half). */
    const qd_u64 bottom = (mantissa & 0xffffffffu) * magnitude;
    const qd_u64 top = (mantissa >> 32) * magnitude + (bottom >> 32);
    qd_u64 q;       /* the product's first 53 bits … */
    qd_i32 dropped; /* … after so many others were rounded off */
    if (top < ((qd_u64)1 << 21)) {
        q = (top << 32) | (bottom & 0xffffffffu);
        dropped = 0;
    } else {
        qd_u64 rest, tie;
        dropped = 1;
        while ((top >> dropped) >= ((qd_u64)1 << 21))
            dropped++;
        q = (top << (32 - dropped)) | ((bottom & 0xffffffffu) >> dropped);
        rest = bottom & (((qd_u64)1 << dropped) - 1u);
        tie = (qd_u64)1 << (dropped - 1);
        if (rest > tie || (rest == tie && (q & 1u))) q++;
    }
    {
        const qd_i32 shift = 1075 - (exponent ? exponent : 1) - dropped; /* the result is q / 2^shift */
        qd_u64 rounded;
        if (shift > 60) {
            rounded = 0;
        } else if (shift > 0) {
            rounded = (q + ((qd_u64)1 << (shift - 1))) >> shift;
        } else {
            rounded = q == 0 ? 0 : shift < -9 ? 0x7fffffffffffffffu : q << -shift; /* at least 2^31 either way */
        }
        if (rounded > 2147483648u) rounded = 2147483648u;
        return qd_saturate_i32(x < 0 ? -(qd_i64)rounded : (qd_i64)rounded);
    }
}

/** round(f32(x) · m), halves to even; a holds the bits of m. */
QD_INLINE qd_i32 qd_requantize_float(qd_i32 x, qd_i32 a) {
    return qd_round_even_i32((qd_f32)x * qd_as_f32((qd_u32)a));
}

QD_INLINE qd_i32 qd_requantize(qd_i32 x, qd_i32 mode, qd_i32 a, qd_i32 b) {
    switch (mode) {
        case QD_MODE_FIXED:
            return qd_requantize_fixed(x, a, b);
        case QD_MODE_GEMMLOWP:
            return qd_requantize_gemmlowp(x, a, b);
        case QD_MODE_AWAY:
            return qd_requantize_away(x, a, b);
        default:
            return qd_requantize_float(x, a);
    }
}

/** Adds a zero point and limits to the codes min … max. */
QD_INLINE qd_i32 qd_to_code(qd_i32 x, qd_i32 zero_point, qd_i32 min, qd_i32 max) {
    const qd_i64 y = (qd_i64)x + zero_point;
    return (qd_i32)(y < min ? min : y > max ? max : y);
}

/* ---- Cache layouts ------------------------------------------------------------------------------------------ */

/** Element index in a key cache [heads, positions, dim]: inside each run of 16 positions, dim is the outer index, so
 * that a vector over positions is contiguous. `positions` is a multiple of 16. Values are stored plainly. */
#define QD_KEY_INDEX(head, position, d, positions, dim) \
    (((qd_i64)(head) * (positions) + ((position) & ~15)) * (dim) + (qd_i64)(d)*16 + ((position)&15))

/** Bytes that an int8 cache has for a head of one position: its codes, then their F32 scale, in the byte order of the
 *  machine. A value is code · scale; scale and codes are those that an A8 block of dim elements would have. Keys keep
 * the order above, with these columns for dim: the 16 scales of a run stand behind its codes. */
#define QD_KV_I8_COLUMNS(dim) ((dim) + 4)
/** Byte index of a key's scale in such a cache. */
#define QD_KEY_SCALE(head, position, positions, dim) \
    (QD_KEY_INDEX(head, (position) & ~15, dim, positions, QD_KV_I8_COLUMNS(dim)) + ((position)&15) * 4)

#endif
