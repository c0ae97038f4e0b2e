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
