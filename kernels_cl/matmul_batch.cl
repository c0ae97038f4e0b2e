/* Products of matrices that are both made while running: y[a, b] = x[a, b] · w[a / p.repeat_a, b / p.repeat_b]ᵀ.
 *
 *   w F32, F16 or BF16 [A, B, N, K], x F32 [A', B', M, K], y F32 [A', B', M, N]; any strides
 *
 *   unit u = (a, b of w, 16 rows of w, 4 rows of x): those of all the matrices of x that meet this one of w count on:
 *   row i is row i % M of matrix b · p.repeat_b + i / M. Tiles and sums: tile4.h */
#include "values.h"

#define W_VALUES(row, k, n) qd_values(format, row, w_step, k, n)
#define X_VALUES(row, k, n) qd_values(QD_NUMBERS_F32, row, x_step, k, n)
#include "tile4.h"

static inline void unit(const qd_matmul_batch_params *p, const qd_tile *t) {
    const long w_step = p->w.step[3], x_step = p->x.step[3];
    if (x_step == 4 && w_step == 4 && p->w_format == QD_NUMBERS_F32) {
        qd_tile_unit(QD_NUMBERS_F32, 4, 4, t);
    } else if (x_step == 4 && w_step == 2 && p->w_format == QD_NUMBERS_F16) {
        qd_tile_unit(QD_NUMBERS_F16, 2, 4, t);
    } else {
        qd_tile_unit(p->w_format, w_step, x_step, t);
    }
}

__kernel void matmul_batch(QD_IN(w), QD_IN(x), QD_OUT(y), const qd_matmul_batch_params p, const int rows QD_WORK) {
    const int A = p.rows_at == 0 ? rows : p.y.n[0], B = p.rows_at == 1 ? rows : p.y.n[1];
    const int M = p.rows_at == 2 ? rows : p.y.n[2], N = p.y.n[3];
    const int row_blocks = (N + QD_TILE_ROWS - 1) / QD_TILE_ROWS;
    const int matrices = (B + p.repeat_b - 1) / p.repeat_b; /* of w, for one a */
    const ulong groups = ((ulong)min(p.repeat_b, B) * M + 3) / 4;
    QD_FOR_UNITS(u, groups * row_blocks * matrices * A) {
        const int first = (int)(u % groups) * 4, j = (int)(u / groups % row_blocks) * QD_TILE_ROWS;
        const int b = (int)(u / groups / row_blocks % matrices), a = (int)(u / groups / row_blocks / matrices);
        const int of_b = min(p.repeat_b, B - b * p.repeat_b) * M;
        qd_tile t = {.w = w + w_at + qd_at(&p.w, a / p.repeat_a, b, j),
                     .w_row = p.w.step[2],
                     .count = min(QD_TILE_ROWS, N - j),
                     .rows = min(4, of_b - first),
                     .y_step = p.y.step[3],
                     .K = p.x.n[3]};
        for (int i = 0; i < t.rows; i++) {
            const int at = b * p.repeat_b + (first + i) / M, m = (first + i) % M;
            t.x[i] = x + x_at + qd_at(&p.x, a, at, m);
            t.y[i] = y + y_at + qd_at(&p.y, a, at, m) + j * p.y.step[3];
        }
        unit(&p, &t);
    }
}
