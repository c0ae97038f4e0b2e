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

static inline float16 combine(const int how, const float16 u, const float16 b) {
    switch (how) {
        case 0:
            return u + b;
        case 1:
            return u - b;
        case 2:
            return u * b;
        default:
            return u / b;
    }
}

__kernel void elementwise(QD_IN(a), QD_IN(b), QD_OUT(y), const qd_elementwise_params p, const int rows) {
    const uint4 n = qd_loop_sizes(&p.y, p.rows_at, rows);
    const float16 nan = qd_as_f32(0x7fc00000u), alpha = p.alpha;
    QD_FOR_UNITS(u, qd_loop_units(n, n.w)) {
        const uint4 at = qd_loop_start(n, n.w, (uint)u);
        const uint end = min(at.w + QD_RUN, n.w);
        __global const uchar *of_a = QD_ROW(uchar, a, 0) + qd_line_of(&p.a, at);
        __global const uchar *of_b = p.combine == QD_ABSENT ? of_a : QD_ROW(uchar, b, 0) + qd_line_of(&p.b, at);
        __global uchar *out = QD_ROW_OUT(uchar, y, 0) + qd_line(&p.y, at);
        for (uint c = at.w; c < end;) {
            const uint until = qd_until_repeat(c, min(end - c, 16u), p.a.n[3]),
                       some = qd_until_repeat(c, until, p.b.n[3]);
            float16 x = qd_load_strided(of_a + qd_element_of(&p.a, c), p.a.step[3], some);
            if (p.scale != 1.0f) x *= p.scale;
            if (p.offset != 0.0f) x += p.offset;
            float16 v = apply(p.function, x, alpha);
            v = x == x ? v : nan;
            if (p.combine != QD_ABSENT)
                v = combine(p.combine, v, qd_load_strided(of_b + qd_element_of(&p.b, c), p.b.step[3], some));
            qd_store_strided(v == v ? v : nan, out + c * p.y.step[3], p.y.step[3], some);
            c += some;
        }
    }
}
