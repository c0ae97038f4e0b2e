/* Rows of coded weights; their layout is in qdot_params.h, what it means in FORMATS.md. */
#ifndef QD_CODED_H
#define QD_CODED_H

#include "codes.h"

/* A row and what it shares with the others. */
typedef struct coded_row {
    __global const uchar *bytes;
    __global const float *side;
    ulong index; /* in the matrix */
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
static inline int16 coded_bits16(__global const uchar *packed, const int k, const int k_end, const int bits) {
    if (k + 16 <= k_end) {
        __global const uchar *at = packed + (ulong)k / 8 * bits;
        if (bits == 8) return convert_int16(vload16(0, at));
        if (bits == 4) {
            const uchar8 two = vload8(0, at);
            const uchar8 low = two & (uchar8)15, high = two >> (uchar8)4;
            return convert_int16(QD_ZIP16(uchar16, low, high));
        }
        if (bits == 2) {
            const uchar4 four = vload4(0, at);
            const int16 shift = (int16)(0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6);
            return convert_int16(four.s0000111122223333) >> shift & (int16)3;
        }
    }
    int lanes[16];
    for (int i = 0; i < 16; i++)
        lanes[i] = k + i < k_end ? (int)coded_bits(packed, (ulong)k + i, bits) : 0;
    return vload16(0, lanes);
}

static inline float coded_f32(__global const uchar *p) {
    return as_float((uint)p[0] | (uint)p[1] << 8 | (uint)p[2] << 16 | (uint)p[3] << 24);
}

/* Scale of group g. */
static inline float coded_scale(const qd_coded_params *p, const coded_row *r, const int g) {
    __global const uchar *scales = r->bytes + p->scales_at;
    switch (p->scale) {
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

/* Zero point of group g. */
static inline int coded_zero(const qd_coded_params *p, const coded_row *r, const int g) {
    if (p->kind != QD_CODED_UNIFORM || p->is_signed) return 0;
    if (p->zeros_at != QD_ABSENT) return (int)coded_bits(r->bytes + p->zeros_at, g, p->bits);
    return qd_to_code(0, qd_round_even_i32(r->side[p->tensor_at + 1]), 0, 255);
}

/* UNIFORM: code - zero; SHIFT of up to 5 bits: ± 2^(e - 1), or 0. */
static inline int16 coded_whole(const qd_coded_params *p, const int16 code, const int zero) {
    const int top = 1 << (p->bits - 1);
    if (p->kind == QD_CODED_UNIFORM) {
        const int sign = p->is_signed ? top : 0;
        return ((code ^ (int16)sign) - (int16)sign) - (int16)zero;
    }
    const int16 e = code & (int16)(top - 1);
    const int16 power = ((int16)1 << e) >> (int16)1; /* e = 0: none */
    return (code & (int16)top) != (int16)0 ? -power : power;
}

/* What the codes stand for, before the scale. */
static inline float16 coded_values(const qd_coded_params *p, const coded_row *r, const int16 code, const int zero) {
    if (p->kind == QD_CODED_UNIFORM) return convert_float16(coded_whole(p, code, zero));
    if (p->kind == QD_CODED_SHIFT) {
        const int top = 1 << (p->bits - 1);
        const int16 e = code & (int16)(top - 1);
        const int16 magnitude = e != (int16)0 ? (e + (int16)(128 - top)) << (int16)23 : (int16)0;
        return as_float16(magnitude | (code & (int16)top) << (int16)(32 - p->bits));
    }
    int index[16];
    float lanes[16];
    vstore16(code, 0, index);
    if (p->table_at == QD_ABSENT) {
        for (int i = 0; i < 16; i++)
            lanes[i] = coded_f32(r->bytes + 4 * (ulong)index[i]);
    } else {
        __global const float *table = r->side + p->table_at;
        for (int i = 0; i < 16; i++)
            lanes[i] = table[index[i]];
    }
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
