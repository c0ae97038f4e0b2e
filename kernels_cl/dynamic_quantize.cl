/* Scale and zero point from the range of the values, and the values quantized with them.
 *
 *   x F32 [rows, cols], y codes of 8 bits, scale F32 and zero I32 [1] or [rows]
 *   unit u = (row, run of its columns): all of them when each row has its own scale
 *
 *   Of the whole tensor every work-item finds the range itself: no barrier, no second kernel, but few work-items. */
#include "codes.h"

/* Least and largest value of rows first … end - 1, 0 included, NaN left out. */
static inline float2 range_of(__global const uchar *x, const ulong stride, const ulong first, const ulong end,
                              const int cols) {
    float16 low = 0.0f, high = 0.0f;
    for (ulong r = first; r < end; r++) {
        __global const float *row = (__global const float *)(x + r * stride);
        for (int c = 0; c < cols; c += 16) {
            const float16 v = qd_load16(row + c, cols - c);
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
    }
    return (float2)(-qd_lanes_max(-low), qd_lanes_max(high));
}

__kernel void dynamic_quantize(QD_IN(x), QD_OUT(y), QD_OUT(scale), QD_OUT(zero), const qd_dynamic_quantize_params p,
                               const int rows QD_WORK) {
    const int is_signed = QD_CODE_SIGNED(p.code);
    const int lowest = p.symmetric ? -127 : is_signed ? -128 : 0, highest = is_signed ? 127 : 255;
    const int run = p.per_row ? p.cols : QD_RUN, runs = (p.cols - 1) / run + 1;
    const ulong units = (ulong)rows * runs;
    float2 range = 0.0f;
    if (!p.per_row && QD_ITEM < units) range = range_of(x + x_at, x_stride, 0, rows, p.cols);
    QD_FOR_UNITS(u, units) {
        const ulong r = u / runs;
        const int first = (int)(u % runs) * run, end = min(first + run, p.cols);
        if (p.per_row) range = range_of(x + x_at, x_stride, r, r + 1, p.cols);
        const float width = p.symmetric ? max(range.y, -range.x) / 127.0f : (range.y - range.x) / 255.0f;
        const float s = width > 0.0f ? width : 1.0f;
        const int z = p.symmetric ? 0 : qd_to_code(qd_round_even_i32(-range.x / s), lowest, lowest, highest);
        if (p.per_row || u == 0) {
            QD_ROW_OUT(float, scale, 0)[p.per_row ? r : 0] = s;
            QD_ROW_OUT(int, zero, 0)[p.per_row ? r : 0] = z;
        }
        __global uchar *out = QD_ROW_OUT(uchar, y, r);
        for (int c = first; c < end; c += 16) {
            const float16 v = qd_load16(QD_ROW(float, x, r) + c, end - c) / s;
            const float16 numbers = v == v ? v : (float16)0.0f;
            const float16 below = numbers < 512.0f ? numbers : (float16)512.0f; /* limited to the codes anyway */
            const float16 limited = below > -512.0f ? below : (float16)-512.0f;
            const int16 code = convert_int16((limited + 12582912.0f) - 12582912.0f) + z;
            const uchar16 bytes = convert_uchar16(clamp(code, (int16)lowest, (int16)highest) & 255);
            if (end - c >= 16) {
                vstore16(bytes, 0, out + c);
            } else {
                uchar lanes[16];
                vstore16(bytes, 0, lanes);
                for (int i = 0; i < end - c; i++)
                    out[c + i] = lanes[i];
            }
        }
    }
}
