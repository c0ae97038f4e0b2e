/* Halves, bfloat16 and floats as in qdot_num.h, sixteen at a time, in integers: all bits are kept. */
#ifndef QD_HALVES_H
#define QD_HALVES_H

#include "common.h"

/* Bits of the floats. */
static inline uint16 qd_half_to_float16(const ushort16 h) {
    const uint16 u = convert_uint16(h);
    const uint16 sign = (u & 0x8000u) << (uint16)16;
    const uint16 magnitude = u & 0x7fffu;
    const uint16 wide = magnitude << (uint16)13;
    const uint16 tiny = as_uint16(convert_float16(as_int16(magnitude)) * 5.9604644775390625e-8f);
    const uint16 finite = magnitude >= 0x0400u ? wide + 0x38000000u : tiny;
    return sign | (magnitude >= 0x7c00u ? wide | 0x7f800000u : finite);
}

/* Of the bits of floats. Adding 1/2 to what is a denormal half rounds it to a multiple of 2^-24. */
static inline ushort16 qd_float_to_half16(const uint16 u) {
    const uint16 sign = (u >> (uint16)16) & 0x8000u;
    const uint16 m = u & 0x7fffffffu;
    const uint16 normal = (m - 0x38000000u + 0xfffu + ((m >> (uint16)13) & 1u)) >> (uint16)13;
    const uint16 tiny = as_uint16(as_float16(m) + 0.5f) - 0x3f000000u;
    const uint16 finite = m >= 0x38800000u ? normal : tiny;
    const uint16 large = m >= 0x477ff000u ? (uint16)0x7c00u : finite;
    const uint16 nan = ((m >> (uint16)13) & 0x3ffu) | 0x7e00u;
    return convert_ushort16(sign | (m > 0x7f800000u ? nan : large));
}

static inline uint16 qd_bf16_to_float16(const ushort16 b) {
    return convert_uint16(b) << (uint16)16;
}

static inline ushort16 qd_float_to_bf16_16(const uint16 u) {
    const uint16 rounded = (u + 0x7fffu + ((u >> (uint16)16) & 1u)) >> (uint16)16;
    const uint16 nan = (u >> (uint16)16) | 0x40u;
    return convert_ushort16((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

#endif
