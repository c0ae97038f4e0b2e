/* dx, and for each scale the sums of its elements' parts of dscale and dzero: see QD_DEFINE_FAKE_QUANTIZE.
 *
 *   x, dy, dx F32; scale, zero, dscale, dzero: see scales.h, without blocks
 *   unit u = a scale's sums, over chunks of QD_FAKE_CHUNK of its elements, in order of memory
 *              p0 … p15 p0 … p15 … | p0 … p15 p0 … p15 … | …     the tree ends each chunk; the chunks are added in turn
 *            then (line, QD_RUN columns): dx
 *
 *   One scale for all means one long unit: sums in parts would need a second kernel to add these up. */
#include "fake.h"

/* Elements k … k+15 of scale s, those below count; the others 0. */
static inline float16 load_elements(__global const uchar *x, const ulong stride, const int cols, const ulong inner,
                                    const ulong scales, const ulong s, const ulong k, const ulong count) {
    const ulong e = (k / inner * scales + s) * inner + k % inner, column = e % cols;
    if (k + 16 <= count && k % inner + 16 <= inner && column + 16 <= (ulong)cols)
        return vload16(0, (__global const float *)(x + e / cols * stride) + column);
    float lanes[16];
    for (int i = 0; i < 16; i++) {
        const ulong j = k + i, at = (j / inner * scales + s) * inner + j % inner;
        lanes[i] = j < count ? ((__global const float *)(x + at / cols * stride))[at % cols] : 0.0f;
    }
    return vload16(0, lanes);
}

__kernel void fake_quantize_grad(QD_IN(x), QD_IN(scale), QD_IN(zero), QD_IN(dy), QD_OUT(dx), QD_OUT(dscale),
                                 QD_OUT(dzero), const qd_fake_quantize_params p, const int rows) {
    const int cols = qd_line_length(&p.place, rows), runs = (cols + QD_RUN - 1) / QD_RUN;
    const ulong inner = p.place.inner, scales = p.place.inner == p.place.size ? rows : p.place.axis;
    const ulong count = (ulong)rows * p.place.size / max(scales, (ulong)1);
    QD_FOR_UNITS(u, scales + qd_line_count(&p.place, rows) * runs) {
        if (u < scales) {
            const float16 s = QD_ROW(float, scale, 0)[u];
            const int16 z = QD_ROW(int, zero, 0)[u];
            float scale_sum = 0.0f, zero_sum = 0.0f;
            for (ulong chunk = 0; chunk < count; chunk += QD_FAKE_CHUNK) {
                const ulong end = min(chunk + QD_FAKE_CHUNK, count);
                float16 scale_parts = 0.0f, zero_parts = 0.0f;
                for (ulong k = chunk; k < end; k += 16) {
                    const float16 v = load_elements(x + x_at, x_stride, cols, inner, scales, u, k, count);
                    const float16 g = load_elements(dy + dy_at, dy_stride, cols, inner, scales, u, k, count);
                    const qd_faked16 f = qd_fake_16(v, g, s, z, &p);
                    const int16 inside = QD_LANE_IDS < (int16)(int)(end - k);
                    scale_parts += inside ? f.dscale : (float16)0.0f;
                    zero_parts += inside ? f.dzero : (float16)0.0f;
                }
                scale_sum += qd_lanes_sum(scale_parts);
                zero_sum += qd_lanes_sum(zero_parts);
            }
            QD_ROW_OUT(float, dscale, 0)[u] = qd_one_nan(scale_sum * p.factor);
            QD_ROW_OUT(float, dzero, 0)[u] = qd_one_nan(zero_sum * p.factor);
            continue;
        }
        const ulong line = (u - scales) / runs;
        const int first = (int)((u - scales) % runs) * QD_RUN, last = min(first + QD_RUN, cols);
        qd_scale_run run = {0, 0, 0};
        for (int c = first; c < last; c += 16) {
            const int n = min(16, last - c);
            float16 s;
            int16 z;
            qd_load_scales(&p.place, &run, line * cols + c, n, QD_ROW(float, scale, 0), QD_ROW(uchar, zero, 0), &s, &z);
            const float16 v = qd_load16(QD_ROW(float, x, line) + c, n), g = qd_load16(QD_ROW(float, dy, line) + c, n);
            qd_store16(qd_fake_16(v, g, s, z, &p).dx, QD_ROW_OUT(float, dx, line) + c, n);
        }
    }
}
