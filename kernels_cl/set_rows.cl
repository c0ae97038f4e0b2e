/* y[…, ids[…, r], :] = x[…, r, :], converted or quantized.
 *
 *   x   F32 [n0, n1, rows, cols], any strides
 *   ids int32 [n0', n1', rows], any strides; n0' and n1' divide n0 and n1. Ids that are no rows of y store nothing
 *   y   [n0, n1, count, cols]: F32, F16, BF16 of any strides; Q8_0, Q4_0, Q4_1, whose blocks are not apart
 *
 *   unit u = (row of x, QD_RUN columns) */
#include "halves.h"
#include "strides.h"

/* ---- Blocks of 32 (host/formats/gguf_blocks.c) ------------------------------------------------------------------ */

static inline void put_half(__global uchar *y, const float x) {
    const ushort h = qd_float_to_half(x);
    y[0] = (uchar)h;
    y[1] = (uchar)(h >> 8);
}

/* 1 / scale; 0 where that is infinite. */
static inline float inverse_of(const float scale) {
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    return qd_fabs(inverse) == INFINITY ? 0.0f : inverse;
}

/* Nearest integer of magnitude at most 127, halves away from zero; NaN becomes 0. */
static inline char16 nearest_away(const float16 v) {
    const float16 a = v == v ? fabs(v) : (float16)0.0f;
    const float16 even = (a + 8388608.0f) - 8388608.0f;
    const float16 r = a - even >= 0.5f ? even + 1.0f : even;
    return convert_char16(v < 0.0f ? -r : r);
}

static inline float largest(const float16 lo, const float16 hi) {
    const float16 a = fabs(lo), b = fabs(hi);
    return qd_lanes_max(max(a > 0.0f ? a : (float16)0.0f, b > 0.0f ? b : (float16)0.0f));
}

static inline void put_q8_0(const float16 lo, const float16 hi, __global uchar *y) {
    const float d = largest(lo, hi) / 127.0f, inverse = inverse_of(d);
    put_half(y, d);
    vstore16(nearest_away(lo * inverse), 0, (__global char *)(y + 2));
    vstore16(nearest_away(hi * inverse), 0, (__global char *)(y + 18));
}

/* Codes 0 … 15 of what was scaled and moved; NaN becomes 0. */
static inline uchar16 nibbles(const float16 v) {
    const float16 low = v > 0.0f ? v : (float16)0.0f;
    return convert_uchar16(low < 15.0f ? low : (float16)15.0f); /* towards zero */
}

static inline void put_nibbles(const float16 lo, const float16 hi, __global uchar *y) {
    vstore16(nibbles(lo) | (nibbles(hi) << (uchar16)4), 0, y);
}

/* x[i] of the first i at which `value` is that of one of the 32: of zeros of both signs the first counts. */
static inline float first_equal(const float16 lo, const float16 hi, const float16 value_lo, const float16 value_hi,
                                const float value) {
    const int16 low = value_lo == value ? QD_LANE_IDS : (int16)31,
                high = value_hi == value ? QD_LANE_IDS + 16 : (int16)31;
    const int16 i16 = min(low, high);
    const int8 i8 = min(i16.lo, QD_HI(int8, i16));
    const int4 i4 = min(i8.lo, i8.hi);
    const int2 i2 = min(i4.lo, i4.hi);
    float x[32];
    vstore16(lo, 0, x);
    vstore16(hi, 1, x);
    return x[min(i2.x, i2.y)];
}

/* The first value of largest magnitude, with its sign, becomes -8. A NaN at the start stays, others do not count. */
static inline void put_q4_0(const float16 lo, const float16 hi, __global uchar *y) {
    const float16 a = fabs(lo), b = fabs(hi);
    const float extreme = lo.s0 == lo.s0 ? first_equal(lo, hi, a, b, largest(lo, hi)) : lo.s0;
    const float d = qd_one_nan(extreme / -8.0f), inverse = inverse_of(d);
    put_half(y, d);
    put_nibbles(lo * inverse + 8.5f, hi * inverse + 8.5f, y + 2);
}

static inline void put_q4_1(const float16 lo, const float16 hi, __global uchar *y) {
    const float16 a = lo == lo ? lo : lo.s0, b = hi == hi ? hi : lo.s0;
    const float most = first_equal(lo, hi, lo, hi, qd_lanes_max(a > b ? a : b));
    const float least = first_equal(lo, hi, lo, hi, -qd_lanes_max(-(a < b ? a : b)));
    const float d = qd_one_nan((lo.s0 == lo.s0 ? most - least : lo.s0) / 15.0f), inverse = inverse_of(d);
    const float m = lo.s0 == lo.s0 ? least : lo.s0;
    put_half(y, d);
    put_half(y + 2, qd_one_nan(m));
    put_nibbles((lo - m) * inverse + 0.5f, (hi - m) * inverse + 0.5f, y + 4);
}

/* Columns c … end of a row: whole blocks. */
static inline void put_blocks(const qd_set_rows_params *p, __global const uchar *x, __global uchar *y, const uint c,
                              const uint end) {
    const long step = p->x.step[3];
    for (uint k = c; k < end; k += 32) {
        const float16 lo = qd_load_strided(x + k * step, step, 16), hi = qd_load_strided(x + (k + 16) * step, step, 16);
        __global uchar *block = y + k / 32 * p->y.step[3];
        if (p->format == QD_SET_ROWS_Q8_0) {
            put_q8_0(lo, hi, block);
        } else if (p->format == QD_SET_ROWS_Q4_0) {
            put_q4_0(lo, hi, block);
        } else {
            put_q4_1(lo, hi, block);
        }
    }
}

/* ---- One number after the other --------------------------------------------------------------------------------- */

/* Bits of halves or bfloat16. */
static inline void put_short16(const ushort16 v, __global uchar *y, const long step, const uint n) {
    if (n == 16 && step == sizeof(ushort)) {
        vstore16(v, 0, (__global ushort *)y);
        return;
    }
    ushort lanes[16];
    vstore16(v, 0, lanes);
    for (uint i = 0; i < n; i++)
        *(__global ushort *)(y + i * step) = lanes[i];
}

static inline void put_numbers(const qd_set_rows_params *p, __global const uchar *x, __global uchar *y,
                               const uint first, const uint end) {
    const long step = p->y.step[3];
    for (uint c = first; c < end; c += 16) {
        const uint n = min(16u, end - c);
        const float16 v = qd_load_strided(x + c * p->x.step[3], p->x.step[3], n);
        if (p->format == QD_SET_ROWS_F32) {
            qd_store_strided(v, y + c * step, step, n);
        } else if (p->format == QD_SET_ROWS_F16) {
            put_short16(qd_float_to_half16(as_uint16(v)), y + c * step, step, n);
        } else {
            put_short16(qd_float_to_bf16_16(as_uint16(v)), y + c * step, step, n);
        }
    }
}

__kernel void set_rows(QD_IN(x), QD_IN(ids), QD_OUT(y), const qd_set_rows_params p, const int rows QD_WORK) {
    const uint4 n = qd_loop_sizes(&p.x, p.rows_at, rows);
    QD_FOR_UNITS(u, qd_loop_units(n, n.w)) {
        const uint4 at = qd_loop_start(n, n.w, (uint)u);
        const uint end = min(at.w + QD_RUN, n.w);
        const int id = *(__global const int *)(QD_ROW(uchar, ids, 0) + qd_modulo(at.x, p.ids.n[1]) * p.ids.step[1] +
                                               qd_modulo(at.y, p.ids.n[2]) * p.ids.step[2] + at.z * p.ids.step[3]);
        if (id < 0 || id >= p.count) continue;
        __global const uchar *from = QD_ROW(uchar, x, 0) + qd_line(&p.x, at);
        __global uchar *to = QD_ROW_OUT(uchar, y, 0) + at.x * p.y.step[0] + at.y * p.y.step[1] + (long)id * p.y.step[2];
        if (p.format >= QD_SET_ROWS_Q8_0) {
            put_blocks(&p, from, to, at.w, end);
        } else {
            put_numbers(&p, from, to, at.w, end);
        }
    }
}
