/* Extensions that must be switched on before they are used, and the packed dot product, whatever a device calls it. In
 * OpenCL C 3.0 some are features of the language instead, and have no pragma: hence the conditions. */
#ifndef QD_FEATURES_H
#define QD_FEATURES_H

#ifdef cl_khr_fp16
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#endif
#ifdef cl_khr_subgroups
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#endif
#ifdef cl_khr_integer_dot_product
#pragma OPENCL EXTENSION cl_khr_integer_dot_product : enable
#endif

/* qd_dot4_AB(a, b, sum) = sum + the products of four bytes of a and four of b; A and B: s signed, u unsigned bytes. One
 * of these build options says how:
 *
 *   QD_DOT_KHR   cl_khr_integer_dot_product (needs INTEGER_DOT)
 *   QD_DOT_PTX   dp4a of NVIDIA's compute capability 6.1 and later, as inline PTX (needs NV_DP4A): their OpenCL has no
 *                word for it
 *   none         four products */
#if defined(QD_DOT_KHR)
#define QD_DEFINE_DOT4(name, a_type, b_type, khr, ptx)                  \
    static inline int name(const uint a, const uint b, const int sum) { \
        return sum + (int)khr(a, b);                                    \
    }
#elif defined(QD_DOT_PTX)
#define QD_DEFINE_DOT4(name, a_type, b_type, khr, ptx)                        \
    static inline int name(const uint a, const uint b, const int sum) {       \
        int d;                                                                \
        __asm__(ptx " %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(sum)); \
        return d;                                                             \
    }
#else
#define QD_DEFINE_DOT4(name, a_type, b_type, khr, ptx)                              \
    static inline int name(const uint a, const uint b, const int sum) {             \
        const int4 v = convert_int4(as_##a_type(a)) * convert_int4(as_##b_type(b)); \
        return sum + ((v.x + v.y) + (v.z + v.w));                                   \
    }
#endif
QD_DEFINE_DOT4(qd_dot4_ss, char4, char4, dot_4x8packed_ss_int, "dp4a.s32.s32")
QD_DEFINE_DOT4(qd_dot4_su, char4, uchar4, dot_4x8packed_su_int, "dp4a.s32.u32")
QD_DEFINE_DOT4(qd_dot4_us, uchar4, char4, dot_4x8packed_us_int, "dp4a.u32.s32")
QD_DEFINE_DOT4(qd_dot4_uu, uchar4, uchar4, dot_4x8packed_uu_uint, "dp4a.u32.u32")

/* Before a loop of few rounds whose variables must be in registers. Of CPUs' compilers, which vectorize all of a
 * kernel, it would only take time. */
#if defined(QD_CPU) && QD_CPU
#define QD_UNROLL
#else
#define QD_UNROLL _Pragma("unroll")
#endif

#endif
