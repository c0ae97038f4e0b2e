/* simd.h's names in OpenCL C, for CPU devices whose compilers refuse inline assembly. Of products of 32-bit integers
 * that are bytes Intel's makes vpmaddwd, and vpdpwssd where there is VNNI; of 16-bit ones vpmullw. */

#define QD_OPAQUE(p) (p)
#define qd_v_halves(p) vload_half16(0, (__global const half *)(p))
#define qd_v_signed(p) convert_int16(vload16(0, (__global const char *)(p)))
#define qd_v_unsigned(p) convert_int16(vload16(0, p))
#define qd_h_double(x) convert_double8(x)
#define qd_v_put_bytes(v, p) vstore16(convert_uchar16((v)&255), 0, p)

/* Sums that bring an integer to the low bits. Where Intel's compiler 2025.0.5 does not know the processor, it ends the
 * process over conversions of wide vectors to integers, or makes wrong ones (convert_int16_rte). */
QD_ALWAYS qd_vi qd_v_whole(const qd_vf x) {
    const qd_vf below = x < 4194304.0f ? x : (qd_vf)4194304.0f, inside = below > -4194304.0f ? below : -4194304.0f;
    return as_int16(inside + 12582912.0f) - 0x4b400000;
}

/* The nearest integer, or the one before, which is nearer to 0. A comparison that holds is -1. */
QD_ALWAYS qd_hi qd_h_int(const qd_hd x) {
    const qd_hd moved = x + 6755399441055744.0, whole = moved - 6755399441055744.0;
    return convert_int8(as_long8(moved) + (x < 0.0 ? -(whole < x) : whole > x));
}

/* Wider than OpenCL C has them. */
typedef short qd_words __attribute__((ext_vector_type(32)));
typedef uchar qd_bytes __attribute__((ext_vector_type(64)));
#define AS_WORDS(v) __builtin_astype(v, qd_words)
#define AS_BYTES(v) __builtin_astype(v, qd_bytes)
#define AS_INTS(v) __builtin_astype(v, qd_vi)

/* Of nibbles, products stay in 16 bits: see simd.h's AVX2. */
typedef qd_words qd_sum4;
typedef qd_vi qd_sum7;
typedef qd_vi qd_sum8;
#define QD_SUM4_ZERO ((qd_words)(short)0)
#define QD_SUM7_ZERO ((qd_vi)0)
#define QD_SUM8_ZERO ((qd_vi)0)
#define QD_SUM4_FROM(v) QD_SUM4_ZERO
#define QD_SUM8_FROM(v) (v)
#define QD_SUM4_CALLS 4
#define QD_SUM8_CALLS 0x7fffffff
#define qd_total7(s) (s)
#define qd_total8(s) (s)
#define qd_total4_from(s, v) ((v) + qd_total4(s))
#define qd_total8_from(s, v) (s)

QD_ALWAYS qd_words qd_dot4_of(const qd_words s, const qd_vi c, const qd_vi x) {
    const qd_words even = AS_WORDS(x << 8) >> (qd_words)(short)8, odd = AS_WORDS(x) >> (qd_words)(short)8;
    return s + (AS_WORDS(c & 0x00ff00ff) * even + AS_WORDS(c >> 8 & 0x00ff00ff) * odd);
}
#define qd_dot4(s, c, x) qd_dot4_of(s, c, (qd_vi) * (x))

QD_ALWAYS qd_vi qd_total4(const qd_words s) {
    return (AS_INTS(s) << 16 >> 16) + (AS_INTS(s) >> 16);
}

QD_ALWAYS qd_vi qd_dot8_of(const qd_vi s, const qd_vi x, const qd_vi c) {
    return s + (c & 255) * (x << 24 >> 24) + (c >> 8 & 255) * (x << 16 >> 24) + (c >> 16 & 255) * (x << 8 >> 24) +
           (c >> 24 & 255) * (x >> 24);
}
#define qd_dot8(s, c, x) qd_dot8_of(s, (qd_vi) * (x), c)
#define qd_dot7 qd_dot8
#define qd_dot8_add qd_dot8_of
#define qd_bytes_sum(s, c) qd_dot8_of(s, (qd_vi)0x01010101, c)

/* ---- Instructions on a register's parts of 128 bits each -------------------------------------------------------- */

#define QD_PARTWISE(name, a, b) qd_##name(a, b)
#define IN_PARTS(X) X(0), X(1), X(2), X(3)
#define EVEN(i) (i), (i) + 2, (i) + 4, (i) + 6
#define PAIRS(i, n) (i), (i) + (n), (i) + 1, (i) + 1 + (n), (i) + 2, (i) + 2 + (n), (i) + 3, (i) + 3 + (n)
#define LOW_WORDS(p) EVEN(8 * p), EVEN(32 + 8 * p)
#define LOW_BYTES(p) EVEN(16 * p), EVEN(16 * p + 8), EVEN(64 + 16 * p), EVEN(64 + 16 * p + 8)
#define LBW(p) PAIRS(16 * p, 64), PAIRS(16 * p + 4, 64)
#define HBW(p) PAIRS(16 * p + 8, 64), PAIRS(16 * p + 12, 64)
#define LWD(p) PAIRS(8 * p, 32)
#define HWD(p) PAIRS(8 * p + 4, 32)
#define CHOSEN(as, a, b, indices) AS_INTS(__builtin_shufflevector(as(a), as(b), IN_PARTS(indices)))
#define qd_punpcklbw(a, b) CHOSEN(AS_BYTES, a, b, LBW)
#define qd_punpckhbw(a, b) CHOSEN(AS_BYTES, a, b, HBW)
#define qd_punpcklwd(a, b) CHOSEN(AS_WORDS, a, b, LWD)
#define qd_punpckhwd(a, b) CHOSEN(AS_WORDS, a, b, HWD)

QD_ALWAYS qd_vi qd_packssdw(const qd_vi a, const qd_vi b) {
    return CHOSEN(AS_WORDS, clamp(a, -32768, 32767), clamp(b, -32768, 32767), LOW_WORDS);
}

QD_ALWAYS qd_vi qd_packusdw(const qd_vi a, const qd_vi b) {
    return CHOSEN(AS_WORDS, clamp(a, 0, 65535), clamp(b, 0, 65535), LOW_WORDS);
}

QD_ALWAYS qd_words qd_byte_words(const qd_vi v) {
    const qd_words w = AS_WORDS(v), above = w > (short)0 ? w : (qd_words)(short)0;
    return above < (short)255 ? above : (qd_words)(short)255;
}

QD_ALWAYS qd_vi qd_packuswb(const qd_vi a, const qd_vi b) {
    return CHOSEN(AS_BYTES, qd_byte_words(a), qd_byte_words(b), LOW_BYTES);
}

QD_ALWAYS qd_vi qd_paddsw(const qd_vi a, const qd_vi b) {
    const short16 low = add_sat(AS_WORDS(a).lo, AS_WORDS(b).lo), high = add_sat(AS_WORDS(a).hi, AS_WORDS(b).hi);
    return AS_INTS((qd_words)(low, high));
}

QD_ALWAYS qd_vi qd_psubb(const qd_vi a, const qd_vi b) {
    return AS_INTS(AS_BYTES(a) - AS_BYTES(b));
}

QD_ALWAYS qd_vi qd_pminub(const qd_vi a, const qd_vi b) {
    return AS_INTS(AS_BYTES(a) < AS_BYTES(b) ? AS_BYTES(a) : AS_BYTES(b));
}

QD_ALWAYS qd_vi qd_pmaxub(const qd_vi a, const qd_vi b) {
    return AS_INTS(AS_BYTES(a) > AS_BYTES(b) ? AS_BYTES(a) : AS_BYTES(b));
}
