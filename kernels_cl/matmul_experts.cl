/* Products with the matrices that ids name: y[r, i] = w[ids[r, i]] · x[r, i % S]; zeros for an id that is none.
 *
 *   w [experts, N, K] rows as in a GGUF file (-DQD_W_<FORMAT>), x F32 [rows, S, K], ids int32 [rows, U], S divides U,
 *   y F32 [rows, U, N]
 *
 *   unit u = (expert, 16 of its rows): it looks for its id and takes up to four rows of x at once (tile4.h). What no
 *   expert has is the work of one more. */
#include "decode.h"
#include "qdot_params.h"

#define W_VALUES(row, k, n) qd_w_values(row, k, n)
#define X_VALUES(row, k, n) qd_load16((__global const float *)(row) + (k), n)
#include "tile4.h"

__kernel void matmul_experts(QD_IN(w), QD_IN(x), QD_IN(ids), QD_OUT(y), const qd_matmul_experts_params p,
                             const int rows) {
    const int blocks = (p.n + QD_TILE_ROWS - 1) / QD_TILE_ROWS;
    QD_FOR_UNITS(u, (ulong)(p.experts + 1) * blocks) {
        const int expert = (int)(u / blocks), j = (int)(u % blocks) * QD_TILE_ROWS;
        const int none = expert == p.experts;
        qd_tile t = {.w = QD_ROW(uchar, w, (ulong)(none ? 0 : expert) * p.n + j),
                     .w_row = (long)w_stride,
                     .count = min(QD_TILE_ROWS, p.n - j),
                     .rows = 0,
                     .y_step = 4,
                     .K = p.k};
        int r = 0, i = 0;
        do {
            for (; r < rows && t.rows < 4; r += i + 1 == p.u, i = i + 1 < p.u ? i + 1 : 0) {
                const int id = QD_ROW(int, ids, r)[i];
                if (none ? id >= 0 && id < p.experts : id != expert) continue;
                t.x[t.rows] = QD_ROW(uchar, x, (ulong)r * p.s + i % p.s);
                t.y[t.rows] = QD_ROW_OUT(uchar, y, (ulong)r * p.u + i) + (ulong)j * 4;
                if (none) {
                    qd_tile_store(&t, 0, 0.0f);
                } else {
                    t.rows++;
                }
            }
            if (t.rows) qd_tile_unit(0, 0, 0, &t); /* the only place: compilers take it apart for minutes */
            t.rows = 0;
        } while (r < rows);
    }
}
