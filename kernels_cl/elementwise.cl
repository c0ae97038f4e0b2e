/* y = u, u + b, u - b, u · b or u / b, where u = function(a · scale + offset) is a row of qdot_unary.def.
 *
 *   a, b, y F32 of any strides; sizes of a and b divide those of y, which may be a or b; the loops are y's: see
 * strides.h unit u = (line of y, QD_RUN elements) */
#include "strides.h"

QD_DEFINE_FUNCTIONS(16, qd_exp16, float16, uint16, as_float16, as_uint16)

#define K(c) ((float16)(c))
#define EXP qd_exp16
#define EXP_TO_INFINITY qd_exp_to_infinity16
#define EXPM1 qd_expm116
#define TANH qd_tanh16
#define ERF qd_erf16
#define NORMAL qd_normal16
#define NEAREST qd_whole16
#define ABS qd_fabs
#define SQRT qd_sqrt

enum {
#define QD_UNARY(ID, name, means, formula) QD_UNARY_##ID,
#include "qdot_unary.def"
    QD_UNARY_COUNT
};

static inline float16 moved(const qd_elementwise_params *p, const float16 a) {
    const float16 scaled = p->scale != 1.0f ? a * p->scale : a;
    return p->offset != 0.0f ? scaled + p->offset : scaled;
}

/* y of x = a · scale + offset, u = formula, and b. */
static inline float16 combined(const int how, const float16 x, const float16 u, const float16 b) {
    const float16 nan = qd_as_f32(0x7fc00000u), v = x == x ? u : nan;
    float16 y = v;
    switch (how) {
        case QD_ABSENT:
            break;
        case 0:
            y = v + b;
            break;
        case 1:
            y = v - b;
            break;
        case 2:
            y = v * b;
            break;
        default:
            y = v / b;
            break;
    }
    return y == y ? y : nan;
}

/* Elements c … end - 1 of a line whose operands are dense, or (step 0) one element: whole vectors. Returns where it
 * ended. The loop is written once for each function: inside of it the choice would cost more than the arithmetic. */
static inline uint whole_vectors(const qd_elementwise_params *p, __global const float *a, __global const float *b,
                                 __global float *y, uint c, const uint end) {
    const bool each_a = p->a.step[3] != 0, each_b = p->b.step[3] != 0;
    const float16 alpha = p->alpha, one_a = *a, one_b = *b;
    const int how = p->combine;
    switch (p->function) {
#define QD_UNARY(ID, name, means, formula)                                               \
    case QD_UNARY_##ID:                                                                  \
        for (; c + 16 <= end; c += 16) {                                                 \
            const float16 x = moved(p, each_a ? vload16(0, a + c) : one_a), u = formula; \
            vstore16(combined(how, x, u, each_b ? vload16(0, b + c) : one_b), 0, y + c); \
        }                                                                                \
        break;
#include "qdot_unary.def"
    }
    return c;
}

static inline float16 apply(const int function, const float16 x, const float16 alpha) {
    switch (function) {
#define QD_UNARY(ID, name, means, formula) \
    case QD_UNARY_##ID:                    \
        return formula;
#include "qdot_unary.def"
        default:
            return x;
    }
}

static inline bool in_vectors(const qd_strides *s) {
    return s->n[3] == 0 && (s->step[3] == 0 || s->step[3] == sizeof(float));
}

__kernel void elementwise(QD_IN(a), QD_IN(b), QD_OUT(y), const qd_elementwise_params p, const int rows QD_WORK) {
    const uint4 n = qd_loop_sizes(&p.y, p.rows_at, rows);
    const bool has_b = p.combine != QD_ABSENT;
    const bool vectors = in_vectors(&p.a) && (!has_b || in_vectors(&p.b)) && p.y.step[3] == sizeof(float);
    QD_FOR_UNITS(unit, qd_loop_units(n, n.w)) {
        const uint4 at = qd_loop_start(n, n.w, (uint)unit);
        const uint end = min(at.w + QD_RUN, n.w);
        __global const uchar *of_a = QD_ROW(uchar, a, 0) + qd_line_of(&p.a, at);
        __global const uchar *of_b = has_b ? QD_ROW(uchar, b, 0) + qd_line_of(&p.b, at) : of_a;
        __global uchar *out = QD_ROW_OUT(uchar, y, 0) + qd_line(&p.y, at);
        uint c = at.w;
        if (vectors)
            c = whole_vectors(&p, (__global const float *)of_a, (__global const float *)of_b, (__global float *)out, c,
                              end);
        while (c < end) {
            const uint until = qd_until_repeat(c, min(end - c, 16u), p.a.n[3]);
            const uint some = qd_until_repeat(c, until, p.b.n[3]);
            const float16 x = moved(&p, qd_load_strided(of_a + qd_element_of(&p.a, c), p.a.step[3], some));
            float16 of_b16 = x;
            if (has_b) of_b16 = qd_load_strided(of_b + qd_element_of(&p.b, c), p.b.step[3], some);
            const float16 u = apply(p.function, x, p.alpha);
            qd_store_strided(combined(p.combine, x, u, of_b16), out + c * p.y.step[3], p.y.step[3], some);
            c += some;
        }
    }
}
