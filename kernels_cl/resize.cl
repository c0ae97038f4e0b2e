/* y = the nearest code of x, where "nearest" is exact: coordinates are fractions.
 *
 *   x, y: images of bytes, elements by the strides of qd_window_params
 *   unit u = (image, line of y, QD_COLUMNS columns), all channels */
#include "codes.h"

#if QD_CPU
#define QD_COLUMNS 64
#else
#define QD_COLUMNS 8
#endif

#define ASYMMETRIC 0 /* qd_resize_coordinates */
#define HALF_PIXEL 1
#define FLOOR 0 /* qd_nearest */
#define CEIL 1
#define HALF_DOWN 2

/* The input, among m, of result o of n. Of a coordinate a / b, the ceiling is floor((a + b - 1) / b); halves up is
 * floor((2a + b) / 2b); halves down, ceil((2a - b) / 2b), is floor((2a + b - 1) / 2b). Sizes are at most 2^30. */
static inline int nearest(const qd_resize_params *p, const int o, const int m, const int n) {
    long a, b;
    if (p->coordinates == ASYMMETRIC) {
        a = (long)o * m;
        b = n;
    } else if (p->coordinates == HALF_PIXEL) {
        a = (2 * (long)o + 1) * m - n;
        b = 2 * (long)n;
    } else {
        a = (long)o * (m - 1);
        b = n > 1 ? n - 1 : 1;
    }
    if (p->nearest == CEIL) {
        a += b - 1;
    } else if (p->nearest != FLOOR) {
        a = 2 * a + b - (p->nearest == HALF_DOWN ? 1 : 0);
        b *= 2;
    }
    return (int)min(a / b, (long)m - 1); /* no coordinate is below -1/2: towards zero is as good as down and inside */
}

__kernel void resize(QD_IN(x), QD_OUT(y), const qd_resize_params p, const int rows QD_WORK) {
    const qd_window_params v = p.window;
    const ulong x_size = (ulong)v.channels * v.in_h * v.in_w, y_size = (ulong)v.channels * v.out_h * v.out_w;
    const int runs = (v.out_w + QD_COLUMNS - 1) / QD_COLUMNS;
    QD_FOR_UNITS(u, (ulong)rows * v.out_h * runs) {
        const int first = (int)(u % runs) * QD_COLUMNS, n = min(QD_COLUMNS, v.out_w - first);
        const int h = (int)(u / runs % v.out_h);
        const ulong r = u / runs / v.out_h;
        __global const uchar *from = QD_ROW(uchar, x, 0) + r * x_size + (ulong)nearest(&p, h, v.in_h, v.out_h) * v.x_h;
        __global uchar *to = QD_ROW_OUT(uchar, y, 0) + r * y_size + (ulong)h * v.y_h + (ulong)first * v.y_w;
        int columns[QD_COLUMNS];
        for (int i = 0; i < n; i++)
            columns[i] = nearest(&p, first + i, v.in_w, v.out_w) * v.x_w;
        if (v.x_channel == 1 && v.y_channel == 1) {
            for (int i = 0; i < n; i++) {
                __global const uchar *pixel = from + columns[i];
                __global uchar *result = to + (ulong)i * v.y_w;
                int c = 0;
                for (; c + 16 <= v.channels; c += 16)
                    vstore16(vload16(0, pixel + c), 0, result + c);
                for (; c < v.channels; c++)
                    result[c] = pixel[c];
            }
        } else {
            for (int c = 0; c < v.channels; c++) {
                for (int i = 0; i < n; i++)
                    to[(ulong)c * v.y_channel + (ulong)i * v.y_w] = from[(ulong)c * v.x_channel + columns[i]];
            }
        }
    }
}
