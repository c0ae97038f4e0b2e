/* Vectors of an x86 CPU for kernels that have one work-item per work-group. One set of names for two instruction sets
 * and for compilers that take no instructions (plain.h), chosen by -DQD_AVX512_VNNI, -DQD_AVX2 or -DQD_PLAIN: QD_V
 * lanes of float and int, each lane a row of the weight tile.
 *
 * Instructions that the compiler does not form from OpenCL C are inline assembly: PoCL defines no VNNI macro, and
 * LLVM's vpdpbusd builtin aborts the process ("Cannot select"). So the host asks CPUID before it builds these.
 *
 *   qd_vf, qd_vi                      float and int vectors
 *   qd_vl, qd_v_long, qd_v_int        as many 64-bit integers
 *   qd_v_halves(p)                    QD_V halves at p as floats, exact
 *   qd_v_low_halves(v)                the halves in the low bits of each lane as floats, exact
 *   qd_v_codes(p)                     QD_V signed bytes at p as floats
 *   qd_v_signed(p), qd_v_unsigned(p)  QD_V bytes at p as ints
 *   qd_sum4 and qd_dot4(s, c, x)      s += Σ of 4 products in each lane, c 0 … 15 (unsigned bytes), x the 4 bytes at
 *                                     x, signed, for all lanes; up to 8 times, or c 0 … 31 and up to 4 times
 *   qd_sum7 and qd_dot7(s, c, x)      the same for c 0 … 127, any number of times
 *   qd_sum8 and qd_dot8(s, c, x)      the same for c 0 … 255; up to QD_SUM8_CALLS times
 *   qd_dot8_of(s, x, c)               the same, but both in registers: x signed, c 4 bytes the same in all lanes
 *   qd_dot4_of(s, c, x)               qd_dot4 with both in registers: c 0 … 255, x -15 … 15; up to QD_SUM4_CALLS times
 *   qd_total4(s), 7 and 8             the sums as ints
 *   QD_SUM8_FROM(v), qd_total8_from(s, v), 4 likewise  a qd_sum8 whose total is that of its products and v
 *   qd_bytes_sum(s, c)                s += Σ of the 4 unsigned bytes of each lane
 *   qd_v_look(table, index)           entries of a table of 16 bytes; not plain
 *   qd_v_whole(x)                     floats as the nearest ints, ties to even; those of more than 22 bits as some of
 * 22 or more, with their sign qd_v_fma(a, b, c)                 a·b + c, rounded once; AVX-512 only QD_PARTWISE(name,
 * a, b)           the instruction v<name>, for the registers' parts of 128 bits: punpck, pack, saturating sums, limits
 * of bytes qd_hi, qd_hd                      half as many ints and doubles qd_h_double(x), qd_h_int(x)       ints as
 * doubles, exact; doubles as ints, less their fractions qd_v_put_bytes(v, p)              the low byte of each lane, to
 * p; the lanes are codes of 8 bits */
#ifndef QD_SIMD_H
#define QD_SIMD_H

#include "common.h"

#pragma OPENCL EXTENSION cl_khr_fp64 : enable

/* A loop over registers: without the pragma it is kept, and they live in memory. */
#define QD_UNROLL(i, n) _Pragma("unroll") for (int i = 0; i < (n); i++)
/* The same where n is an argument of an inlined function: a function's loops are unrolled before it is inlined, by four
 * where n is not known, unless they may only be unrolled as a whole. */
#define QD_UNROLL_ALL(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)

#ifdef QD_AVX2
#define QD_V 8
typedef float8 qd_vf;
typedef int4 qd_hi;
typedef double4 qd_hd;
typedef long4 qd_hl;
#define qd_h_as_double(v) as_double4(v)
#define qd_h_as_long(v) as_long4(v)
typedef int8 qd_vi;
typedef long8 qd_vl;
#define qd_v_load_int vload8
#define qd_v_store_int vstore8
#define qd_v_long(v) convert_long8(v)
#define qd_v_int(v) convert_int8(v)
#define qd_v_load vload8
#define qd_v_store vstore8
#define qd_v_float(v) convert_float8(v)
#define qd_v_codes(p) convert_float8(vload8(0, p))
#define qd_v_as_float(v) as_float8(v)
#else
#define QD_V 16
typedef float16 qd_vf;
typedef int8 qd_hi;
typedef double8 qd_hd;
typedef long8 qd_hl;
#define qd_h_as_double(v) as_double8(v)
#define qd_h_as_long(v) as_long8(v)
typedef int16 qd_vi;
typedef long16 qd_vl;
#define qd_v_load_int vload16
#define qd_v_store_int vstore16
#define qd_v_long(v) convert_long16(v)
#define qd_v_int(v) convert_int16(v)
#define qd_v_load vload16
#define qd_v_store vstore16
#define qd_v_float(v) convert_float16(v)
#define qd_v_codes(p) convert_float16(vload16(0, p))
#define qd_v_as_float(v) as_float16(v)
#endif

#if defined(QD_PLAIN)
#include "x86/plain.h"
#else

/* A pointer of which the compiler does not know how it was made: it would go from row to row by adding the stride, one
 * addition waiting for the other. */
#define QD_OPAQUE(p)              \
    ({                            \
        __typeof__(p) same = (p); \
        __asm__("" : "+r"(same)); \
        same;                     \
    })

#if defined(QD_AVX512_VNNI)

QD_ALWAYS qd_vf qd_v_halves(__global const uchar *p) {
    qd_vf v;
    __asm__("vcvtph2ps %1, %0" : "=v"(v) : "m"(*(__global const ushort16 *)p));
    return v;
}
QD_ALWAYS qd_vf qd_v_low_halves(const qd_vi h) {
    qd_vf v;
    __asm__("vpmovdw %1, %t0\n\tvcvtph2ps %t0, %0" : "=v"(v) : "v"(h));
    return v;
}
typedef uchar16 qd_v_bytes;

typedef qd_vi qd_sum4;
typedef qd_vi qd_sum7;
typedef qd_vi qd_sum8;

QD_ALWAYS qd_vi qd_dot8(qd_vi s, const qd_vi c, __global const int *x) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(c), "m"(*x));
    return s;
}
#define qd_dot4 qd_dot8
#define qd_dot7 qd_dot8
QD_ALWAYS qd_vi qd_dot8_of(qd_vi s, const qd_vi x, const qd_vi c) {
    __asm__("vpdpbusd %1, %2, %0" : "+v"(s) : "v"(x), "v"(c));
    return s;
}
#define qd_dot4_of(s, c, x) qd_dot8_of(s, x, c)
#define QD_SUM4_CALLS 0x7fffffff
#define QD_SUM8_CALLS 0x7fffffff
#define qd_dot8_add qd_dot8_of
#define qd_total4(s) (s)
#define qd_total7(s) (s)
#define qd_total8(s) (s)
#define QD_SUM4_ZERO ((qd_vi)0)
#define QD_SUM7_ZERO ((qd_vi)0)
#define QD_SUM8_ZERO ((qd_vi)0)
#define QD_SUM4_FROM(v) (v)
#define QD_SUM8_FROM(v) (v)
#define qd_total4_from(s, v) (s)
#define qd_total8_from(s, v) (s)

QD_ALWAYS qd_vi qd_bytes_sum(const qd_vi s, const qd_vi c) {
    return qd_dot8_of(s, (qd_vi)0x01010101, c);
}

QD_ALWAYS qd_vi qd_v_whole(const qd_vf x) {
    qd_vi v;
    __asm__("vcvtps2dq %1, %0" : "=v"(v) : "v"(x));
    return v;
}

QD_ALWAYS qd_vf qd_v_fma(qd_vf a, const qd_vf b, const qd_vf c) {
    __asm__("vfmadd213ps %2, %1, %0" : "+v"(a) : "v"(b), "v"(c));
    return a;
}

QD_ALWAYS void qd_v_put_bytes(const qd_vi v, __global uchar *p) {
    typedef uint4 anywhere __attribute__((aligned(1)));
    uint4 bytes;
    __asm__("vpmovdb %1, %0" : "=v"(bytes) : "v"(v));
    *(__global anywhere *)p = bytes;
}

#elif defined(QD_AVX2)

QD_ALWAYS qd_vf qd_v_halves(__global const uchar *p) {
    qd_vf v;
    __asm__("vcvtph2ps %1, %0" : "=x"(v) : "m"(*(__global const ushort8 *)p));
    return v;
}
QD_ALWAYS qd_vf qd_v_low_halves(const qd_vi h) {
    qd_vf v;
    __asm__("vpackusdw %1, %1, %0\n\tvpermq $8, %0, %0\n\tvcvtph2ps %x0, %0" : "=x"(v) : "x"(h & 0xffff));
    return v;
}
typedef uchar8 qd_v_bytes;

/* vpmaddubsw adds two products in 16 bits and would saturate for bytes, but not for nibbles: 8 times 2 · 15 · 128 is
 * below 2^15, and so are 4 times 2 · 31 · 128 and 4 times 2 · 15 · 255. So the sums stay in 16 bits for a block of 32,
 * or of 16; 7 bits are added up each time, and bytes go as two nibbles. */
typedef short16 qd_sum4;
typedef qd_vi qd_sum7;
typedef struct qd_sum8 {
    short16 low, high;
} qd_sum8;
#define QD_SUM4_ZERO ((short16)0)
#define QD_SUM7_ZERO ((qd_vi)0)
#define QD_SUM8_ZERO ((qd_sum8){(short16)0, (short16)0})

QD_ALWAYS short16 qd_dot4_of(const short16 s, const qd_vi c, const qd_vi x) {
    short16 pairs;
    __asm__("vpmaddubsw %2, %1, %0" : "=x"(pairs) : "x"(c), "x"(x));
    return s + pairs;
}
#define qd_dot4(s, c, x) qd_dot4_of(s, c, (qd_vi) * (x))

QD_ALWAYS qd_sum8 qd_dot8_of(qd_sum8 s, const qd_vi x, const qd_vi c) {
    s.low = qd_dot4_of(s.low, c & 0x0f0f0f0f, x);
    s.high = qd_dot4_of(s.high, (c >> 4) & 0x0f0f0f0f, x);
    return s;
}
#define qd_dot8(s, c, x) qd_dot8_of(s, (qd_vi) * (x), c)
#define QD_SUM4_CALLS 4
#define QD_SUM8_CALLS 8

/* Neighbours times `factor`, added. */
QD_ALWAYS qd_vi qd_pairs(const short16 s, const short factor) {
    qd_vi v;
    __asm__("vpmaddwd %2, %1, %0" : "=x"(v) : "x"(s), "x"((short16)factor));
    return v;
}

QD_ALWAYS qd_vi qd_total4(const short16 s) {
    return qd_pairs(s, 1);
}

#define qd_dot7(s, c, x) ((s) + qd_total4(qd_dot4(QD_SUM4_ZERO, c, x)))
#define qd_total7(s) (s)

QD_ALWAYS qd_vi qd_total8(const qd_sum8 s) {
    return qd_pairs(s.low, 1) + qd_pairs(s.high, 16);
}

#define QD_SUM4_FROM(v) QD_SUM4_ZERO
#define QD_SUM8_FROM(v) QD_SUM8_ZERO
#define qd_total4_from(s, v) ((v) + qd_total4(s))
#define qd_total8_from(s, v) ((v) + qd_total8(s))

QD_ALWAYS qd_vi qd_dot8_add(const qd_vi s, const qd_vi x, const qd_vi c) {
    return s + qd_total8(qd_dot8_of(QD_SUM8_ZERO, x, c));
}

QD_ALWAYS qd_vi qd_bytes_sum(const qd_vi s, const qd_vi c) {
    return s + qd_total4(qd_dot4_of(QD_SUM4_ZERO, c, (qd_vi)0x01010101));
}

QD_ALWAYS qd_vi qd_v_whole(const qd_vf x) {
    qd_vi v;
    __asm__("vcvtps2dq %1, %0" : "=x"(v) : "x"(x));
    return v;
}

/* The halves of 128 bits each become four bytes, which are in its lane 0. */
QD_ALWAYS void qd_v_put_bytes(const qd_vi v, __global uchar *p) {
    typedef uint2 anywhere __attribute__((aligned(1)));
    const qd_vi bytes = v & 255;
    qd_vi words, packed;
    __asm__("vpackusdw %1, %1, %0" : "=x"(words) : "x"(bytes));
    __asm__("vpackuswb %1, %1, %0" : "=x"(packed) : "x"(words));
    *(__global anywhere *)p = (uint2)((uint)packed.s0, (uint)packed.s4);
}

#else
#error "x86/simd.h: define QD_AVX512_VNNI, QD_AVX2 or QD_PLAIN"
#endif

/* QD_V bytes at p as ints: vload and convert are many instructions in PoCL. */
#define QD_WIDEN(name, instruction)                                                      \
    QD_ALWAYS qd_vi name(__global const uchar *p) {                                      \
        qd_vi v;                                                                         \
        __asm__(instruction " %1, %0" : "=v"(v) : "m"(*(__global const qd_v_bytes *)p)); \
        return v;                                                                        \
    }
QD_WIDEN(qd_v_signed, "vpmovsxbd")
QD_WIDEN(qd_v_unsigned, "vpmovzxbd")

QD_ALWAYS qd_hd qd_h_double(const qd_hi x) {
    qd_hd v;
    __asm__("vcvtdq2pd %1, %0" : "=v"(v) : "v"(x));
    return v;
}

QD_ALWAYS qd_hi qd_h_int(const qd_hd x) {
    qd_hi v;
    __asm__("vcvttpd2dq %1, %0" : "=v"(v) : "v"(x));
    return v;
}

/* Of a register's parts of 128 bits each. */
#define QD_PARTWISE(name, a, b)                                                  \
    ({                                                                           \
        qd_vi made;                                                              \
        __asm__("v" #name " %2, %1, %0" : "=v"(made) : "v"((qd_vi)(a)), "v"(b)); \
        made;                                                                    \
    })

/* Entries of a table of 16 bytes, by the bytes of `index`, each below 16. */
QD_ALWAYS qd_vi qd_v_look(const int4 table, const qd_vi index) {
#if QD_V == 16
    return QD_PARTWISE(pshufb, ((int16)(table, table, table, table)), index);
#else
    return QD_PARTWISE(pshufb, ((int8)(table, table)), index);
#endif
}

#endif

/* Groups of four lanes' neighbours come together: lane QD_V / 4 · j + i of 16 is lane 4 i + j, so that vectors that
 * were packed part by part follow each other. */
#if QD_V == 16
#define QD_ACROSS(v) ((v).s048c159d26ae37bf)
#else
#define QD_ACROSS(v) ((v).s04152637)
#endif

/* Vectors anywhere in memory: vload and vstore of bytes are many instructions in PoCL. */
typedef qd_vi qd_v_anywhere __attribute__((aligned(1)));
typedef uint4 qd_16_anywhere __attribute__((aligned(1)));

/* Lanes 0 … n-1 of a vector in memory; the others are not touched (zero when loading). */
QD_ALWAYS qd_vf qd_v_load_part(__global const float *p, const int n) {
    float lanes[QD_V];
    if (n >= QD_V) return qd_v_load(0, p);
    for (int i = 0; i < QD_V; i++)
        lanes[i] = i < n ? p[i] : 0.0f;
    return qd_v_load(0, lanes);
}

QD_ALWAYS void qd_v_store_part(const qd_vf v, __global float *p, const int n) {
    float lanes[QD_V];
    if (n >= QD_V) {
        qd_v_store(v, 0, p);
        return;
    }
    qd_v_store(v, 0, lanes);
    for (int i = 0; i < n && i < QD_V; i++)
        p[i] = lanes[i];
}

#endif
