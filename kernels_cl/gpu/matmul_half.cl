/* y = x · wᵀ (+ addend) for F16 weights, read as halves, and F32 activations. Sixteen work-items are the sixteen
 * partial sums of one row of w, so that together they read one stretch of memory.
 *
 *   w F16 [count, K]   output columns first … first+count-1
 *   x F32 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *
 *   group = 4 rows of w × QD_TOKENS rows of x         work-item 16·i + l:  row i, k = l, l+16, l+32 …
 *                                                     then the tree over l in local memory: +8, +4, +2, +1 */
#include "common.h"
#include "gpu/features.h"

#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif
#define QD_GROUP 64
#define QD_ROWS_OF_W (QD_GROUP / 16)

__kernel __attribute__((reqd_work_group_size(QD_GROUP, 1, 1))) void matmul(__global const uchar *w, QD_IN(x),
                                                                           QD_IN(addend), QD_OUT(y),
                                                                           const int has_addend, const int first,
                                                                           const int count, const int K,
                                                                           const int rows) {
    __local float partial[QD_TOKENS][QD_GROUP];
    const int item = (int)get_local_id(0);
    const int lane = item % 16;
    const int tiles = (count + QD_ROWS_OF_W - 1) / QD_ROWS_OF_W;
    const int groups = (rows + QD_TOKENS - 1) / QD_TOKENS;
    /* The same units for all of a group: they meet at barriers. */
    for (ulong u = get_group_id(0); u < (ulong)tiles * groups; u += get_num_groups(0)) {
        const int i = (int)(u % tiles) * QD_ROWS_OF_W + item / 16;
        const int r = (int)(u / tiles) * QD_TOKENS;
        const int tokens = min(QD_TOKENS, rows - r);
        float p[QD_TOKENS];
        for (int t = 0; t < QD_TOKENS; t++)
            p[t] = 0.0f;
        if (i < count) {
            __global const half *row = (__global const half *)w + (ulong)i * K;
            for (int k = lane; k < K; k += 16) {
                const float v = convert_float(row[k]);
                for (int t = 0; t < QD_TOKENS; t++) {
                    if (t < tokens) p[t] += v * QD_ROW(float, x, r + t)[k];
                }
            }
        }
        for (int t = 0; t < QD_TOKENS; t++)
            partial[t][item] = p[t];
        for (int step = 8; step > 0; step /= 2) {
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int t = 0; t < QD_TOKENS; t++) {
                if (lane < step) partial[t][item] += partial[t][item + step];
            }
        }
        if (lane == 0 && i < count) {
            const int column = first + i;
            for (int t = 0; t < tokens; t++) {
                float s = partial[t][item];
                if (has_addend) s += QD_ROW(float, addend, r + t)[column];
                QD_ROW_OUT(float, y, r + t)[column] = s;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE); /* the next unit writes to `partial` */
    }
}
