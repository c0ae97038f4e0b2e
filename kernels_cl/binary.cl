/* y = a + b (add_int) and y = a · b (mul_int, QD_MULTIPLY), for codes of 8 bits, broadcast.
 *
 *   y is one row of elements, index (i0, i1, i2, i3) with i0 < rows and the others in p.shape; a and b have theirs at
 *   Σ i[d] · step[d], where a step of 0 repeats
 *   unit u = QD_RUN elements: pieces of runs of p.shape[3] (flat: of one run)
 *
 *       y   … | i3 …  | 0 …        | 0 …        | 0 …  | …
 *               └────────────── QD_RUN ──────────┘               */
#include "add_int.h"

/* A run of codes, or one code that repeats: bytes, made unsigned by `flip`, which the zero point takes off again. */
typedef struct run_of {
    __global const uchar *codes;
    bool repeats;
    uchar flip;
    int zero;
} run_of;

static inline int value(const run_of x, const uint i) {
    return (int)(x.codes[i] ^ x.flip) - x.zero;
}

/* The loops are written once for each mode, and for each operand that repeats: inside of them the choice would cost
 * more than the arithmetic. */
#define LOOP(A, B, EXPRESSION)                                                     \
    for (uint i = 0; i < n; i++) {                                                 \
        const int a = A, b = B;                                                    \
        y[i] = (uchar)qd_to_code(EXPRESSION, p->y.zero_point, p->y.min, p->y.max); \
    }
#define RUN(EXPRESSION)                                  \
    if (of_b.repeats) {                                  \
        const int one = value(of_b, 0);                  \
        LOOP(value(of_a, i), one, EXPRESSION)            \
    } else if (of_a.repeats) {                           \
        const int one = value(of_a, 0);                  \
        LOOP(one, value(of_b, i), EXPRESSION)            \
    } else {                                             \
        LOOP(value(of_a, i), value(of_b, i), EXPRESSION) \
    }                                                    \
    break

#ifdef QD_MULTIPLY
#define KERNEL mul_int
static inline void combine(const qd_binary_params *p, const run_of of_a, const run_of of_b, __global uchar *y,
                           const uint n) {
    const int m = p->y_multiplier, shift = p->y_shift;
    switch (p->y.mode) {
        case QD_MODE_FIXED:
            RUN(qd_requantize_fixed(a * b, m, shift));
        case QD_MODE_GEMMLOWP:
            RUN(qd_requantize_gemmlowp(a * b, m, shift));
        case QD_MODE_AWAY:
            RUN(qd_requantize_away(a * b, m, shift));
        case QD_MODE_ZERO_FIRST:
            RUN(qd_round_even_i32((float)(a * b) * as_float(m) + p->offset));
        default:
            RUN(qd_round_even_i32(p->a_scale * (float)a * (p->b_scale * (float)b) / p->y_scale));
    }
}
#else
#define KERNEL add_int
static inline void combine(const qd_binary_params *p, const run_of of_a, const run_of of_b, __global uchar *y,
                           const uint n) {
    switch (p->y.mode) {
        case QD_MODE_FIXED:
            RUN(qd_add_fixed(p, a, b));
        case QD_MODE_GEMMLOWP:
            RUN(qd_add_gemmlowp(p, a, b));
        case QD_MODE_ZERO_FIRST:
            RUN(qd_add_zero_first(p, a, b));
        default:
            RUN(qd_add_float(p, a, b));
    }
}
#endif

__kernel void KERNEL(QD_IN(a), QD_IN(b), QD_OUT(y), const qd_binary_params p, const int rows QD_WORK) {
    const uint run = (uint)p.shape[3], row = (uint)p.shape[1] * p.shape[2] * run;
    const ulong size = (ulong)rows * row;
    const uchar a_flip = QD_CODE_SIGNED(p.a_code) ? 128 : 0, b_flip = QD_CODE_SIGNED(p.b_code) ? 128 : 0;
    QD_FOR_UNITS(u, (size + QD_RUN - 1) / QD_RUN) {
        ulong e = u * QD_RUN;
        const ulong end = min(e + QD_RUN, size);
        ulong i0 = 0, i3 = e;
        uint i1 = 0, i2 = 0;
        if (!p.flat) {
            const uint in_row = (uint)(e % row), line = in_row / run;
            i0 = e / row;
            i1 = line / p.shape[2];
            i2 = line % p.shape[2];
            i3 = in_row % run;
        }
        while (e < end) {
            const uint n = (uint)(p.flat ? end - e : min(end - e, run - i3));
            __global const uchar *a_run = QD_ROW(uchar, a, 0) + i0 * p.a_step[0] + (ulong)i1 * p.a_step[1] +
                                          (ulong)i2 * p.a_step[2] + i3 * p.a_step[3];
            __global const uchar *b_run = QD_ROW(uchar, b, 0) + i0 * p.b_step[0] + (ulong)i1 * p.b_step[1] +
                                          (ulong)i2 * p.b_step[2] + i3 * p.b_step[3];
            const run_of of_a = {a_run, p.a_step[3] == 0, a_flip, p.a_zero + a_flip};
            const run_of of_b = {b_run, p.b_step[3] == 0, b_flip, p.b_zero + b_flip};
            combine(&p, of_a, of_b, QD_ROW_OUT(uchar, y, 0) + e, n);
            e += n;
            i3 = 0;
            if (++i2 < (uint)p.shape[2]) continue;
            i2 = 0;
            if (++i1 < (uint)p.shape[1]) continue;
            i1 = 0;
            i0++;
        }
    }
}
