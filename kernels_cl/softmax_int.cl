/* Softmax over rows of codes of 8 bits, in integers.
 *
 *   x, y [rows · p.rows, p.cols]; p.rows = 0: one row
 *   weight t[i] = round(2^24 · exp(-scale · (max - x[i]))); y[i] = floor(t[i] · p.y_inverse / (2^16 · Σt) + 1/2) + zero
 *   unit u = one row: its maximum, the sum of its weights, then its codes
 *
 *   With weights, t[i] = weights[max - x[i]]:
 *   fixed point  y[i] = t[i] / Σt · 256 as gemmlowp computes it (31 bits after the point; the sum has 19)
 *   floats       y[i] = round(t[i] · p.y_inverse / Σt) + zero, in float32, the sum from the first to the last */
#include "codes.h"

static inline uint weight(const float scale, const int distance) {
    return (uint)qd_round_even_i32(qd_exp(-(scale * (float)distance)) * 16777216.0f);
}

/* There are 256 weights. A CPU's work-item looks them up; elsewhere its memory is farther than the arithmetic. */
#if QD_CPU
#define WEIGHT(distance) weights[distance]
#else
#define WEIGHT(distance) weight(p.x_scale, distance)
#endif

static void weighted_row(const qd_softmax_int_params *p, __global const int *weights, const int greatest,
                         const uchar flip, __global const uchar *x, __global uchar *y) {
    uint sum = 0;
    for (int i = 0; i < p->cols; i++)
        sum += (uint)qd_divide_rounded(weights[greatest - (x[i] ^ flip)], 12);
    const int zeros = min((int)clz(sum), 31), shift = 12 - zeros + 23;
    const int inverse = qd_one_over_one_plus_q31((int)((sum << zeros) & 0x7fffffffu));
    for (int i = 0; i < p->cols; i++) {
        const int share = qd_multiply_q31(inverse, weights[greatest - (x[i] ^ flip)]);
        const int code = shift > 31 || shift < 0 ? 0 : qd_divide_rounded(share, shift);
        y[i] = (uchar)qd_to_code(code, p->y_zero, p->y_zero, p->y_zero + 255);
    }
}

static void shared_row(const qd_softmax_int_params *p, __global const float *weights, const int greatest,
                       const uchar flip, const int lowest, __global const uchar *x, __global uchar *y) {
    float sum = 0.0f;
    for (int i = 0; i < p->cols; i++)
        sum = fma(1.0f, weights[greatest - (x[i] ^ flip)], sum); /* Intel 2026.1 would sum in another order with + */
    for (int i = 0; i < p->cols; i++) {
        const float share = weights[greatest - (x[i] ^ flip)] * (float)p->y_inverse / sum;
        const int whole = share < 2147483648.0f ? qd_round_even_i32(share) : lowest ? INT_MIN : 0;
        const int code = (int)((uint)whole + (uint)p->y_zero);
        y[i] = (uchar)(p->wrap ? min(code, 255) : clamp(code, lowest, lowest + 255));
    }
}

__kernel void softmax_int(QD_IN(x), QD_IN(weights_in), QD_OUT(y), const qd_softmax_int_params p, const int rows QD_WORK) {
    const int lowest = QD_CODE_SIGNED(p.y_code) ? -128 : 0;
    const uchar flip = QD_CODE_SIGNED(p.x_code) ? 128 : 0; /* makes signed codes unsigned; distances stay */
    const ulong units = p.rows ? (ulong)rows * p.rows : 1;
#if QD_CPU
    uint weights[256];
    if (QD_ITEM >= units) return;
    for (int i = 0; i < 256; i++)
        weights[i] = weight(p.x_scale, i);
#endif
    QD_FOR_UNITS(u, units) {
        __global const uchar *x_row = QD_ROW(uchar, x, 0) + u * p.cols;
        __global uchar *y_row = QD_ROW_OUT(uchar, y, 0) + u * p.cols;
        uchar greatest = 0;
        for (int i = 0; i < p.cols; i++)
            greatest = max(greatest, (uchar)(x_row[i] ^ flip));
        if (p.weights == QD_WEIGHTS_FIXED) {
            weighted_row(&p, QD_ROW(int, weights_in, 0), greatest, flip, x_row, y_row);
            continue;
        }
        if (p.weights == QD_WEIGHTS_FLOAT) {
            shared_row(&p, QD_ROW(float, weights_in, 0), greatest, flip, lowest, x_row, y_row);
            continue;
        }
        ulong sum = 0;
        for (int i = 0; i < p.cols; i++)
            sum += WEIGHT(greatest - (x_row[i] ^ flip));
        const ulong one = sum << 16;
        for (int i = 0; i < p.cols; i++) {
            const ulong share = (ulong)WEIGHT(greatest - (x_row[i] ^ flip)) * (ulong)p.y_inverse;
            const int code = (int)((2 * share + one) / (2 * one));
            y_row[i] = (uchar)qd_to_code(code, p.y_zero, lowest, lowest + 255);
        }
    }
}
