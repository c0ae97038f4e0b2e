/* Rows of coded weights; their layout is in qdot_params.h, what it means in FORMATS.md. */
#ifndef QD_CODED_H
#define QD_CODED_H

#include "codes.h"

/* A row and what it shares with the others. */
typedef struct coded_row {
    __global const uchar *bytes;
    __global const float *side;
    ulong index;     /* in the matrix */
    float small[16]; /* a table of up to 4 bits */
} coded_row;

/* `bits` bits of packed codes: code i, unsigned. Only bytes that hold it are read. */
static inline uint coded_bits(__global const uchar *packed, const ulong i, const int bits) {
    const ulong at = i * bits;
    const uint shift = (uint)(at & 7);
    uint v = packed[at >> 3];
    if (shift + bits > 8) v |= (uint)packed[(at >> 3) + 1] << 8;
    return v >> shift & ((1u << bits) - 1u);
}

/* Codes k … k+15 of a row of k_end codes, k a multiple of 16, unsigned; 0 beyond the end. */
static inline short16 coded_bits16(__global const uchar *packed, const int k, const int k_end, const int bits) {
    if (k + 16 <= k_end) {
        __global const uchar *at = packed + (ulong)k / 8 * bits;
        if (bits == 8) return convert_short16(vload16(0, at));
        if (bits == 4) {
            const uchar8 two = vload8(0, at);
            const uchar8 low = two & (uchar8)15, high = two >> (uchar8)4;
            return convert_short16(QD_ZIP16(uchar16, low, high));
        }
        if (bits == 2) {
            const ushort4 four = convert_ushort4(vload4(0, at));
            const ushort16 shift = (ushort16)(0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6);
            return as_short16(four.s0000111122223333 >> shift & (ushort16)3);
        }
    }
    short lanes[16];
    for (int i = 0; i < 16; i++)
        lanes[i] = k + i < k_end ? (short)coded_bits(packed, (ulong)k + i, bits) : (short)0;
    return vload16(0, lanes);
}

static inline float coded_f32(__global const uchar *p) {
    return as_float((uint)p[0] | (uint)p[1] << 8 | (uint)p[2] << 16 | (uint)p[3] << 24);
}

/* Value i of a row's table. */
static inline float coded_table(const qd_coded_params *p, __global const uchar *bytes, __global const float *side,
                                const int i) {
    return p->table_at == QD_ABSENT ? coded_f32(bytes + 4 * (ulong)i) : side[p->table_at + i];
}

static inline coded_row coded_open(const qd_coded_params *p, __global const uchar *bytes, __global const float *side,
                                   const ulong index) {
    coded_row r;
    r.bytes = bytes;
    r.side = side;
    r.index = index;
    const int count = p->kind == QD_CODED_TABLE && p->bits <= 4 ? 1 << p->bits : 0;
    for (int i = 0; i < 16; i++)
        r.small[i] = i < count ? coded_table(p, bytes, side, i) : 0.0f;
    return r;
}

/* 16 values of a table of 16: by the lowest bit one of two, and so on. In registers, where loads would go one by one.
 */
static inline float16 coded_small(const float *table, const int16 code) {
    float16 v[8];
    for (int i = 0; i < 8; i++)
        v[i] = (code & (int16)1) != (int16)0 ? (float16)table[2 * i + 1] : (float16)table[2 * i];
    for (int i = 0; i < 4; i++)
        v[i] = (code & (int16)2) != (int16)0 ? v[2 * i + 1] : v[2 * i];
    for (int i = 0; i < 2; i++)
        v[i] = (code & (int16)4) != (int16)0 ? v[2 * i + 1] : v[2 * i];
    return (code & (int16)8) != (int16)0 ? v[1] : v[0];
}

/* Scale of group g, stored as `scale` says. */
static inline float coded_scale_as(const qd_coded_params *p, const int scale, const coded_row *r, const int g) {
    __global const uchar *scales = r->bytes + p->scales_at;
    switch (scale) {
        case QD_SCALE_AS_F32:
            return coded_f32(scales + 4 * (ulong)g);
        case QD_SCALE_AS_F16:
            return qd_half_to_float((ushort)(scales[2 * g] | scales[2 * g + 1] << 8));
        case QD_SCALE_AS_BF16:
            return qd_bf16_to_float((ushort)(scales[2 * g] | scales[2 * g + 1] << 8));
        case QD_SCALE_AS_E4M3:
            return qd_f8e4m3_to_float(scales[g]) * r->side[p->tensor_at];
        case QD_SCALE_AS_E8M0:
            return qd_e8m0_to_float(scales[g]);
        case QD_SCALE_AS_NESTED: {
            __global const float *map = r->side + p->nested_at;
            const ulong i = r->index * p->groups + g;
            return map[scales[g]] * map[257 + i / 256] + map[256];
        }
        case QD_SCALE_AS_TENSOR:
            return r->side[p->tensor_at];
        default:
            return 1.0f;
    }
}

static inline float coded_scale(const qd_coded_params *p, const coded_row *r, const int g) {
    return coded_scale_as(p, p->scale, r, g);
}

/* Zero point of group g. */
static inline int coded_zero(const qd_coded_params *p, const coded_row *r, const int g) {
    if (p->kind != QD_CODED_UNIFORM || p->is_signed) return 0;
    if (p->zeros_at != QD_ABSENT) return (int)coded_bits(r->bytes + p->zeros_at, g, p->bits);
    return qd_to_code(0, qd_round_even_i32(r->side[p->tensor_at + 1]), 0, 255);
}

/* UNIFORM: code - zero; SHIFT of up to 5 bits: ± 2^(e - 1), or 0. */
static inline short16 coded_whole(const qd_coded_params *p, const short16 code, const int zero) {
    const short top = (short)(1 << (p->bits - 1));
    if (p->kind == QD_CODED_UNIFORM) {
        const short16 sign = p->is_signed ? top : (short)0;
        return ((code ^ sign) - sign) - (short16)(short)zero;
    }
    const short16 e = code & (short16)(top - 1);
    const short16 power = as_short16((ushort16)1 << as_ushort16(e) >> (ushort16)1); /* e = 0: none */
    return (code & (short16)top) != (short16)0 ? -power : power;
}

/* What the codes stand for, before the scale. */
static inline float16 coded_values(const qd_coded_params *p, const coded_row *r, const short16 codes, const int zero) {
    if (p->kind == QD_CODED_UNIFORM) return convert_float16(coded_whole(p, codes, zero));
    const int16 code = convert_int16(codes);
    if (p->kind == QD_CODED_SHIFT) {
        const int top = 1 << (p->bits - 1);
        const int16 e = code & (int16)(top - 1);
        const int16 magnitude = e != (int16)0 ? (e + (int16)(128 - top)) << (int16)23 : (int16)0;
        return as_float16(magnitude | (code & (int16)top) << (int16)(32 - p->bits));
    }
    if (p->bits <= 4) return coded_small(r->small, code);
    int index[16];
    float lanes[16];
    vstore16(code, 0, index);
    for (int i = 0; i < 16; i++)
        lanes[i] = coded_table(p, r->bytes, r->side, index[i]);
    return vload16(0, lanes);
}

/* Weights k … k+15, k a multiple of 16; 0 beyond the end. */
static inline float16 coded_weights(const qd_coded_params *p, const coded_row *r, const int k) {
    const int g = k / p->group;
    const float16 v = coded_values(p, r, coded_bits16(r->bytes + p->codes_at, k, p->k, p->bits), coded_zero(p, r, g)) *
                      coded_scale(p, r, g);
    return k + 16 <= p->k ? v : QD_LANE_IDS < (int16)(p->k - k) ? v : (float16)0.0f;
}

/* Weights of vectors of a codebook: element i of the row. */
static inline float coded_vector_weight(const qd_coded_params *p, const coded_row *r, const int i) {
    const int j = i / p->length;
    const uint code = coded_bits(r->bytes + p->codes_at, j, p->bits);
    return r->side[p->table_at + ((((j / p->share) << p->bits) + code) * p->length + i % p->length)];
}

#endif
