/* y = x, converted.
 *
 *   x, y any strides; sizes of x divide those of y; the loops are y's: see strides.h
 *   unit u = (line of y, or p.tile of them, QD_RUN elements)
 *
 *   Lines that lie side by side in x, as in a transpose, are taken in tiles:
 *       x  l0 l1 l2 …      y  c0 c1 c2 …
 *     c0   a  b  c         l0  a  d
 *     c1   d  e  f         l1  b  e           */
#include "halves.h"
#include "strides.h"

/* n elements, `x_step` and `y_step` bytes apart: sixteen at a time where both are dense. v is one of them, or sixteen.
 */
#define DEFINE_RUN(name, X, X16, Y, WIDE, ONE)                                                                \
    static inline void name(__global const uchar *x, const long x_step, __global uchar *y, const long y_step, \
                            const uint n) {                                                                   \
        uint i = 0;                                                                                           \
        if (x_step == sizeof(X) && y_step == sizeof(Y)) {                                                     \
            for (; i + 16 <= n; i += 16) {                                                                    \
                const X16 v = vload16(0, (__global const X *)x + i);                                          \
                vstore16(WIDE, 0, (__global Y *)y + i);                                                       \
            }                                                                                                 \
        }                                                                                                     \
        for (; i < n; i++) {                                                                                  \
            const X v = *(__global const X *)(x + i * x_step);                                                \
            *(__global Y *)(y + i * y_step) = ONE;                                                            \
        }                                                                                                     \
    }

DEFINE_RUN(copy_1, uchar, uchar16, uchar, v, v)
DEFINE_RUN(copy_2, ushort, ushort16, ushort, v, v)
DEFINE_RUN(copy_4, uint, uint16, uint, v, v)
DEFINE_RUN(f32_to_f16, uint, uint16, ushort, qd_float_to_half16(v), qd_float_to_half(qd_as_f32(v)))
DEFINE_RUN(f32_to_bf16, uint, uint16, ushort, qd_float_to_bf16_16(v), qd_float_to_bf16(qd_as_f32(v)))
DEFINE_RUN(f16_to_f32, ushort, ushort16, uint, qd_half_to_float16(v), qd_as_u32(qd_half_to_float(v)))
DEFINE_RUN(f16_to_bf16, ushort, ushort16, ushort, qd_float_to_bf16_16(qd_half_to_float16(v)),
           qd_float_to_bf16(qd_half_to_float(v)))
DEFINE_RUN(bf16_to_f32, ushort, ushort16, uint, qd_bf16_to_float16(v), (uint)v << 16)
DEFINE_RUN(bf16_to_f16, ushort, ushort16, ushort, qd_float_to_half16(qd_bf16_to_float16(v)),
           qd_float_to_half(qd_bf16_to_float(v)))
DEFINE_RUN(i32_to_f32, int, int16, float, convert_float16(v), (float)v)
DEFINE_RUN(i8_to_f32, char, char16, float, convert_float16(v), (float)v)
DEFINE_RUN(u8_to_f32, uchar, uchar16, float, convert_float16(v), (float)v)

static inline void convert(const int conversion, __global const uchar *x, const long x_step, __global uchar *y,
                           const long y_step, const uint n) {
    switch (conversion) {
        case QD_COPY_1:
            copy_1(x, x_step, y, y_step, n);
            break;
        case QD_COPY_2:
            copy_2(x, x_step, y, y_step, n);
            break;
        case QD_COPY_4:
            copy_4(x, x_step, y, y_step, n);
            break;
        case QD_COPY_F32_TO_F16:
            f32_to_f16(x, x_step, y, y_step, n);
            break;
        case QD_COPY_F32_TO_BF16:
            f32_to_bf16(x, x_step, y, y_step, n);
            break;
        case QD_COPY_F16_TO_F32:
            f16_to_f32(x, x_step, y, y_step, n);
            break;
        case QD_COPY_F16_TO_BF16:
            f16_to_bf16(x, x_step, y, y_step, n);
            break;
        case QD_COPY_BF16_TO_F32:
            bf16_to_f32(x, x_step, y, y_step, n);
            break;
        case QD_COPY_BF16_TO_F16:
            bf16_to_f16(x, x_step, y, y_step, n);
            break;
        case QD_COPY_I32_TO_F32:
            i32_to_f32(x, x_step, y, y_step, n);
            break;
        case QD_COPY_I8_TO_F32:
            i8_to_f32(x, x_step, y, y_step, n);
            break;
        default:
            u8_to_f32(x, x_step, y, y_step, n);
            break;
    }
}

/* A piece of a line. */
static inline void copy_line(const qd_copy_params *p, __global const uchar *x, __global uchar *y, const uint first,
                             const uint end) {
    const long x_step = p->x.step[3], y_step = p->y.step[3];
    for (uint c = first; c < end;) {
        const uint some = qd_until_repeat(c, end - c, p->x.n[3]);
        convert(p->conversion, x + qd_element_of(&p->x, c), x_step, y + c * y_step, y_step, some);
        c += some;
    }
}

/* 16 elements of 16 lines that lie side by side in x: vectors across the lines, turned around. Four times vector i and
 * i + 8 are put together lane by lane, and make vectors 2i and 2i + 1. And one element of each of 16 such lines: where
 * lines are short, as pixels of a few channels are. */
#define LOW(a, b) a.s0, b.s0, a.s1, b.s1, a.s2, b.s2, a.s3, b.s3, a.s4, b.s4, a.s5, b.s5, a.s6, b.s6, a.s7, b.s7
#define HIGH(a, b) a.s8, b.s8, a.s9, b.s9, a.sa, b.sa, a.sb, b.sb, a.sc, b.sc, a.sd, b.sd, a.se, b.se, a.sf, b.sf
#define DEFINE_TILE(name, X, X16, Y, WIDE)                                                                      \
    static inline void name(__global const uchar *x, const long x_step, __global uchar *y, const long y_line) { \
        X16 tile[16], turned[16];                                                                               \
        for (uint c = 0; c < 16; c++)                                                                           \
            tile[c] = vload16(0, (__global const X *)(x + c * x_step));                                         \
        for (uint round = 0; round < 4; round++) {                                                              \
            for (uint i = 0; i < 8; i++) {                                                                      \
                turned[2 * i] = (X16)(LOW(tile[i], tile[i + 8]));                                               \
                turned[2 * i + 1] = (X16)(HIGH(tile[i], tile[i + 8]));                                          \
            }                                                                                                   \
            for (uint i = 0; i < 16; i++)                                                                       \
                tile[i] = turned[i];                                                                            \
        }                                                                                                       \
        for (uint l = 0; l < 16; l++) {                                                                         \
            const X16 v = tile[l];                                                                              \
            vstore16(WIDE, 0, (__global Y *)(y + l * y_line));                                                  \
        }                                                                                                       \
    }                                                                                                           \
    static inline void name##_column(__global const uchar *x, __global uchar *y, const long y_line) {           \
        const X16 v = vload16(0, (__global const X *)x);                                                        \
        Y lanes[16];                                                                                            \
        vstore16(WIDE, 0, lanes);                                                                               \
        for (uint l = 0; l < 16; l++)                                                                           \
            *(__global Y *)(y + l * y_line) = lanes[l];                                                         \
    }

DEFINE_TILE(tile_1, uchar, uchar16, uchar, v)
DEFINE_TILE(tile_2, ushort, ushort16, ushort, v)
DEFINE_TILE(tile_4, uint, uint16, uint, v)
DEFINE_TILE(tile_f32_to_f16, uint, uint16, ushort, qd_float_to_half16(v))

/* The conversions that `tiles` of the host's rules names. */
#define TILED(shape, ...)                    \
    if (p->conversion == QD_COPY_4) {        \
        tile_4##shape(__VA_ARGS__);          \
    } else if (p->conversion == QD_COPY_1) { \
        tile_1##shape(__VA_ARGS__);          \
    } else if (p->conversion == QD_COPY_2) { \
        tile_2##shape(__VA_ARGS__);          \
    } else {                                 \
        tile_f32_to_f16##shape(__VA_ARGS__); \
    }

/* The same piece of several lines that lie side by side in x. */
static inline void copy_tiles(const qd_copy_params *p, __global const uchar *x, __global uchar *y, const uint lines,
                              const uint first, const uint end) {
    const long x_step = p->x.step[3], y_step = p->y.step[3], y_line = p->y.step[2];
    if (lines < 16) {
        for (uint l = 0; l < lines; l++)
            copy_line(p, x + l * p->x.step[2], y + l * y_line, first, end);
        return;
    }
    uint c = first;
    for (; c + 16 <= end; c += 16) {
        TILED(, x + c * x_step, x_step, y + c * y_step, y_line)
    }
    for (; c < end; c++) {
        TILED(_column, x + c * x_step, y + c * y_step, y_line)
    }
}

__kernel void copy(QD_IN(x), QD_OUT(y), const qd_copy_params p, const int rows QD_WORK) {
    const uint4 n = qd_loop_sizes(&p.y, p.rows_at, rows);
    const uint lines = (uint)p.tile;
    uint4 loops = n;
    loops.z = (n.z + lines - 1) / lines;
    QD_FOR_UNITS(u, qd_loop_units(loops, n.w)) {
        uint4 at = qd_loop_start(loops, n.w, (uint)u);
        at.z *= lines;
        const uint end = min(at.w + QD_RUN, n.w);
        __global const uchar *from = QD_ROW(uchar, x, 0) + qd_line_of(&p.x, at);
        __global uchar *to = QD_ROW_OUT(uchar, y, 0) + qd_line(&p.y, at);
        if (lines > 1) {
            copy_tiles(&p, from, to, min(lines, n.z - at.z), at.w, end);
        } else {
            copy_line(&p, from, to, at.w, end);
        }
    }
}
