/* The TILE16 layout of blocked weights (-DQD_W_<FORMAT>), which the host packs: tiles of 16 rows of w, missing rows
 * being zero bytes, of blocks one after the other, so that a tile is one stream of memory. A block:
 *
 *   halves   [h][row 0…15]             d and, in formats with minima, m or dmin
 *   numbers  [g][row 0…15]             of blocks of 256: a byte for the scale of each 16 or 32 weights, then one for
 *                                      each minimum; six bits, too, are a byte here. The exponent of MXFP4
 *   codes    [group][row 0…15][i 0…3]  four neighbouring bytes of the file's codes (qdot_blocks.h)
 *
 * The codes of Q8_0 are 128 more than in the file, so that all are unsigned; and the fifth bit of element 4j + i of
 * Q5_0 and Q5_1 is bit j of byte i, where a shift brings it to its code.
 *
 * A unit is 32 weights of 16 rows: of blocks of 256 the unit 4q + l, l being a constant where loops over units are
 * unrolled. Its elements 4j … 4j+3 are vector j = 0 … 7: the four bytes of each lane. */
#ifndef QD_TILE16_H
#define QD_TILE16_H

#include "x86/simd.h"

/* Units in a block; halves, numbers and groups of codes of a row in it; what has to be taken from a code. */
#define QD_TILE(units, halves, numbers, groups, offset) \
    enum {                                              \
        QD_TILE_UNITS = units,                          \
        QD_TILE_HALVES = halves,                        \
        QD_TILE_NUMBERS = numbers,                      \
        QD_TILE_GROUPS = groups,                        \
        QD_TILE_OFFSET = offset                         \
    }

#if defined(QD_W_Q8_0)
QD_TILE(1, 1, 0, 8, 128);
#elif defined(QD_W_Q4_0)
QD_TILE(1, 1, 0, 4, 8);
#elif defined(QD_W_Q4_1)
QD_TILE(1, 2, 0, 4, 0);
#elif defined(QD_W_Q5_0)
QD_TILE(1, 1, 0, 5, 16);
#elif defined(QD_W_Q5_1)
QD_TILE(1, 2, 0, 5, 0);
#elif defined(QD_W_IQ4_NL)
QD_TILE(1, 1, 0, 4, 128);
#elif defined(QD_W_MXFP4)
QD_TILE(1, 0, 1, 4, 12);
#elif defined(QD_W_Q2_K)
QD_TILE(8, 2, 16, 16, 0);
#elif defined(QD_W_Q3_K)
QD_TILE(8, 1, 16, 24, 4);
#elif defined(QD_W_Q4_K)
QD_TILE(8, 2, 16, 32, 0);
#elif defined(QD_W_Q5_K)
QD_TILE(8, 2, 16, 40, 0);
#elif defined(QD_W_Q6_K)
QD_TILE(8, 1, 16, 48, 32);
#elif defined(QD_W_IQ4_XS)
QD_TILE(8, 1, 8, 32, 128);
#elif defined(QD_W_TQ2_0)
QD_TILE(8, 1, 0, 16, 1);
#else
#error "x86/tile16.h: define QD_W_<FORMAT> of a format that has tiles"
#endif

enum {
    QD_TILE_NUMBERS_AT = 32 * QD_TILE_HALVES,
    QD_TILE_CODES_AT = QD_TILE_NUMBERS_AT + 16 * QD_TILE_NUMBERS,
    QD_TILE_BLOCK = QD_TILE_CODES_AT + 64 * QD_TILE_GROUPS /* bytes */
};

/* QD_V rows of a block, from one of its 16 on. */
typedef struct qd_tile16 {
    __global const uchar *halves, *numbers;
    __global const int *codes;
} qd_tile16;

QD_ALWAYS qd_tile16 qd_tile_at(__global const uchar *block, const int row) {
    qd_tile16 t;
    t.halves = block + 2 * row;
    t.numbers = block + QD_TILE_NUMBERS_AT + row;
    t.codes = (__global const int *)(block + QD_TILE_CODES_AT) + row;
    return t;
}

/* `bits` bits of each byte of a group of codes. */
QD_ALWAYS qd_vi qd_tile_bits(const qd_tile16 t, const long group, const int shift, const int bits) {
    return qd_v_load_int(0, t.codes + 16 * group) >> shift & 0x01010101 * ((1 << bits) - 1);
}

/* Codes of four bits, of blocks that have them as Q4_0 has, from `group` on. */
QD_ALWAYS qd_vi qd_tile_nibbles(const qd_tile16 t, const long group, const int j) {
    return qd_tile_bits(t, group + j % 4, j / 4 * 4, 4);
}

/* Unsigned codes of vector j. */
QD_ALWAYS qd_vi qd_tile_codes(const qd_tile16 t, const long q, const int l, const int j) {
#if defined(QD_W_Q8_0)
    return qd_v_load_int(0, t.codes + 16 * j);
#elif defined(QD_W_Q4_0) || defined(QD_W_Q4_1)
    return qd_tile_nibbles(t, 0, j);
#elif defined(QD_W_Q5_0) || defined(QD_W_Q5_1)
    return qd_tile_nibbles(t, 1, j) | qd_tile_bits(t, 0, j, 1) << 4;
#elif defined(QD_W_IQ4_NL)
    return qd_v_look(as_int4((char16)(QD_IQ4_VALUES) ^ (char16)-128), qd_tile_nibbles(t, 0, j));
#elif defined(QD_W_IQ4_XS)
    return qd_v_look(as_int4((char16)(QD_IQ4_VALUES) ^ (char16)-128), qd_tile_nibbles(t, 16 * q + 4 * l, j));
#elif defined(QD_W_MXFP4)
    return qd_v_look(as_int4((char16)(QD_E2M1_DOUBLED) + (char16)QD_TILE_OFFSET), qd_tile_nibbles(t, 0, j));
#elif defined(QD_W_Q4_K)
    return qd_tile_bits(t, 16 * q + l / 2 * 8 + j, l % 2 * 4, 4);
#elif defined(QD_W_Q5_K)
    return qd_tile_bits(t, 8 + 16 * q + l / 2 * 8 + j, l % 2 * 4, 4) | qd_tile_bits(t, j, 4 * q + l, 1) << 4;
#elif defined(QD_W_Q6_K)
    return qd_tile_bits(t, 16 * q + l % 2 * 8 + j, l / 2 * 4, 4) | qd_tile_bits(t, 32 + 8 * q + j, 2 * l, 2) << 4;
#elif defined(QD_W_Q2_K) || defined(QD_W_TQ2_0)
    return qd_tile_bits(t, 8 * q + j, 2 * l, 2);
#elif defined(QD_W_Q3_K)
    return qd_tile_bits(t, 8 + 8 * q + j, 2 * l, 2) | qd_tile_bits(t, j, 4 * q + l, 1) << 2;
#endif
}

/* Scales and, where there are two halves, offsets of the two halves of a unit. */
typedef struct qd_tile_scales {
    qd_vf scale[2], offset[2];
} qd_tile_scales;

QD_ALWAYS qd_tile_scales qd_tile_scales_of(const qd_tile16 t, const long q, const int l) {
#define NUMBER(g) (t.numbers + 16 * (g))
    qd_tile_scales s;
    const qd_vf d = QD_TILE_HALVES >= 1 ? qd_v_halves(t.halves) : (qd_vf)0.0f;
    const qd_vf m = QD_TILE_HALVES == 2 ? qd_v_halves(t.halves + 32) : (qd_vf)0.0f;
    const long u = 4 * q + l;
    s.scale[0] = s.scale[1] = d;
    s.offset[0] = s.offset[1] = m;
#if defined(QD_W_Q4_K) || defined(QD_W_Q5_K)
    s.scale[0] = s.scale[1] = d * qd_v_float(qd_v_unsigned(NUMBER(u)));
    s.offset[0] = s.offset[1] = -(m * qd_v_float(qd_v_unsigned(NUMBER(8 + u))));
#elif defined(QD_W_Q3_K) || defined(QD_W_Q6_K)
    s.scale[0] = d * qd_v_float(qd_v_signed(NUMBER(2 * u)));
    s.scale[1] = d * qd_v_float(qd_v_signed(NUMBER(2 * u + 1)));
#elif defined(QD_W_IQ4_XS)
    s.scale[0] = s.scale[1] = d * qd_v_float(qd_v_signed(NUMBER(u)));
#elif defined(QD_W_Q2_K)
    QD_UNROLL(h, 2) {
        const qd_vi both = qd_v_unsigned(NUMBER(2 * u + h));
        s.scale[h] = d * qd_v_float(both & 15);
        s.offset[h] = -(m * qd_v_float(both >> 4));
    }
#elif defined(QD_W_MXFP4)
    /* 2^(e - 128): see ../decode.h. */
    const qd_vi e = qd_v_unsigned(NUMBER(0));
    s.scale[0] = s.scale[1] = qd_v_as_float(e < 2 ? (qd_vi)0x00200000 << e : (e - 1) << 23);
#endif
#undef NUMBER
    return s;
}

#endif
