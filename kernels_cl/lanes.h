/* Parts of vectors, and sums of their lanes.
 *
 * The parts are written lane by lane. Compilers make of that the instructions that they make of .odd and .hi, of
 * (short16)(a, b) and of assignments to .even; but Oclgrind 21.10 with --uninitialized (tests/conformance/oclgrind.sh)
 * takes lane 11 of a shuffle for an undefined one, and crashes at those that are undefined, as in the last two. So no
 * kernel has .hi or .odd of 16 lanes, a vector made of vectors, or an assignment to a part of a vector. */
#ifndef QD_LANES_H
#define QD_LANES_H

/* v.hi and v.odd of a vector of 16. */
#define QD_HI(type8, v) ((type8)((v).s8, (v).s9, (v).sa, (v).sb, (v).sc, (v).sd, (v).se, (v).sf))
#define QD_ODD(type8, v) ((type8)((v).s1, (v).s3, (v).s5, (v).s7, (v).s9, (v).sb, (v).sd, (v).sf))

/* (type16)(a.even, b.even) and (type16)(a.odd, b.odd) of vectors of 16. */
#define QD_EVENS(type16, a, b)                                                                                        \
    ((type16)((a).s0, (a).s2, (a).s4, (a).s6, (a).s8, (a).sa, (a).sc, (a).se, (b).s0, (b).s2, (b).s4, (b).s6, (b).s8, \
              (b).sa, (b).sc, (b).se))
#define QD_ODDS(type16, a, b)                                                                                         \
    ((type16)((a).s1, (a).s3, (a).s5, (a).s7, (a).s9, (a).sb, (a).sd, (a).sf, (b).s1, (b).s3, (b).s5, (b).s7, (b).s9, \
              (b).sb, (b).sd, (b).sf))

/* The vector of 16 whose .even is a and whose .odd is b. */
#define QD_ZIP16(type16, a, b)                                                                                        \
    ((type16)((a).s0, (b).s0, (a).s1, (b).s1, (a).s2, (b).s2, (a).s3, (b).s3, (a).s4, (b).s4, (a).s5, (b).s5, (a).s6, \
              (b).s6, (a).s7, (b).s7))

/* Sum of the 16 partial sums: p[i] += p[i + 8], then 4, 2, 1. */
static inline float qd_lanes_sum(const float16 p) {
    const float8 p8 = p.lo + QD_HI(float8, p);
    const float4 p4 = p8.lo + p8.hi;
    const float2 p2 = p4.lo + p4.hi;
    return p2.x + p2.y;
}

/* Adds parts of a to others, the w and the x, and the same of b. */
#define QD_FOLD(a, b, w0, w1, w2, w3, w4, w5, w6, w7, x0, x1, x2, x3, x4, x5, x6, x7)                             \
    ((float16)((a).s##w0, (a).s##w1, (a).s##w2, (a).s##w3, (a).s##w4, (a).s##w5, (a).s##w6, (a).s##w7, (b).s##w0, \
               (b).s##w1, (b).s##w2, (b).s##w3, (b).s##w4, (b).s##w5, (b).s##w6, (b).s##w7) +                     \
     (float16)((a).s##x0, (a).s##x1, (a).s##x2, (a).s##x3, (a).s##x4, (a).s##x5, (a).s##x6, (a).s##x7, (b).s##x0, \
               (b).s##x1, (b).s##x2, (b).s##x3, (b).s##x4, (b).s##x5, (b).s##x6, (b).s##x7))

/* Sums of 16 vectors, as qd_lanes_sum: lane i is that of p[i]. */
static inline float16 qd_lanes_sums(const float16 *p) {
    float16 s[4];
    for (int i = 0; i < 4; i++) {
        const float16 a = QD_FOLD(p[4 * i], p[4 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, a, b, c, d, e, f);
        const float16 b = QD_FOLD(p[4 * i + 2], p[4 * i + 3], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, a, b, c, d, e, f);
        s[i] = QD_FOLD(a, b, 0, 1, 2, 3, 8, 9, a, b, 4, 5, 6, 7, c, d, e, f);
    }
    const float16 a = QD_FOLD(s[0], s[1], 0, 1, 4, 5, 8, 9, c, d, 2, 3, 6, 7, a, b, e, f);
    const float16 b = QD_FOLD(s[2], s[3], 0, 1, 4, 5, 8, 9, c, d, 2, 3, 6, 7, a, b, e, f);
    return QD_FOLD(a, b, 0, 2, 4, 6, 8, a, c, e, 1, 3, 5, 7, 9, b, d, f);
}

/* Largest lane by `a > max ? a : max`: without NaN the order does not matter, and a NaN never gets into the lanes. */
static inline float qd_lanes_max(const float16 p) {
    const float8 low = p.lo, high = QD_HI(float8, p);
    const float8 p8 = low > high ? low : high;
    const float4 p4 = p8.lo > p8.hi ? p8.lo : p8.hi;
    const float2 p2 = p4.lo > p4.hi ? p4.lo : p4.hi;
    return p2.x > p2.y ? p2.x : p2.y;
}

/* Sum of 16 integers; neighbours first, the form that compilers have an instruction for when they are products. */
static inline int qd_int_sum(const int16 p) {
    const int8 s8 = p.even + QD_ODD(int8, p);
    const int4 s4 = s8.lo + s8.hi;
    const int2 s2 = s4.lo + s4.hi;
    return s2.x + s2.y;
}

#endif
