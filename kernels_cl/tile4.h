/* Products of up to 16 rows of weights with up to four rows of floats, which share the loads of each other.
 *
 * The includer defines W_VALUES(row, k, n), elements k … k+15 of a row of weights as floats, of which n are inside it,
 * and X_VALUES(row, k, n), the same of the other rows; both see `format`, `w_step` and `x_step` of qd_tile_unit, which
 * may be constants there.
 *
 *   lane  0   1  …  15
 *   k =   0   1  …  15   ┐ products added down each lane,
 *        16  17  …  31   ┘ then the 16 partial sums by the tree, 16 results side by side */
#ifndef QD_TILE4_H
#define QD_TILE4_H

#include "strides.h"

/* Whether rows may end within 16 elements: those of blocks do not. */
#ifdef QD_W_BLOCK
#define QD_TILE_ENDS 0
#else
#define QD_TILE_ENDS 1
#endif

/* Rows of weights in a unit. */
#define QD_TILE_ROWS 16

typedef struct qd_tile {
    __global const uchar *w; /* first row of weights, */
    long w_row;              /* bytes to the next, */
    int count;               /* and how many, up to QD_TILE_ROWS */
    __global const uchar *x[4];
    __global uchar *y[4]; /* where each one's first result goes */
    int rows;             /* of x and y */
    long y_step;          /* bytes from one result to the next */
    int K;
} qd_tile;

/* The sums are written out: in an array they would be in memory. */
#define QD_TILE_SUMS(i) float16 p##i##0 = 0.0f, p##i##1 = 0.0f, p##i##2 = 0.0f, p##i##3 = 0.0f
#define QD_TILE_WEIGHTS(k, n)                                                                      \
    const float16 w0 = W_VALUES(w[0], k, n), w1 = W_VALUES(w[1], k, n), w2 = W_VALUES(w[2], k, n), \
                  w3 = W_VALUES(w[3], k, n)
#define QD_TILE_ADD(i, k, n)                    \
    do {                                        \
        const float16 v = X_VALUES(x[i], k, n); \
        p##i##0 += w0 * v, p##i##1 += w1 * v;   \
        p##i##2 += w2 * v, p##i##3 += w3 * v;   \
    } while (0)
#define QD_TILE_KEEP(i, to) (to)[0] = p##i##0, (to)[1] = p##i##1, (to)[2] = p##i##2, (to)[3] = p##i##3

/* Partial sums of four rows of weights with one row of x, and with four. */
QD_ALWAYS void qd_tile_1(const int format, const long w_step, const long x_step, __global const uchar **w,
                         __global const uchar *const *x, const int K, float16 *p) {
    const int whole = K & ~15;
    QD_TILE_SUMS(0);
    for (int k = 0; k < whole; k += 16) {
        QD_TILE_WEIGHTS(k, 16);
        QD_TILE_ADD(0, k, 16);
    }
    if (QD_TILE_ENDS && whole < K) {
        QD_TILE_WEIGHTS(whole, K - whole);
        QD_TILE_ADD(0, whole, K - whole);
    }
    QD_TILE_KEEP(0, p);
}

QD_ALWAYS void qd_tile_4(const int format, const long w_step, const long x_step, __global const uchar **w,
                         __global const uchar *const *x, const int K, float16 *p) {
    const int whole = K & ~15;
    QD_TILE_SUMS(0);
    QD_TILE_SUMS(1);
    QD_TILE_SUMS(2);
    QD_TILE_SUMS(3);
    for (int k = 0; k < whole; k += 16) {
        QD_TILE_WEIGHTS(k, 16);
        QD_TILE_ADD(0, k, 16);
        QD_TILE_ADD(1, k, 16);
        QD_TILE_ADD(2, k, 16);
        QD_TILE_ADD(3, k, 16);
    }
    if (QD_TILE_ENDS && whole < K) {
        QD_TILE_WEIGHTS(whole, K - whole);
        QD_TILE_ADD(0, whole, K - whole);
        QD_TILE_ADD(1, whole, K - whole);
        QD_TILE_ADD(2, whole, K - whole);
        QD_TILE_ADD(3, whole, K - whole);
    }
    QD_TILE_KEEP(0, p);
    QD_TILE_KEEP(1, p + 4);
    QD_TILE_KEEP(2, p + 8);
    QD_TILE_KEEP(3, p + 12);
}

QD_ALWAYS void qd_tile_store(const qd_tile *t, const int r, const float16 sums) {
    const float16 v = sums == sums ? sums : (float16)qd_one_nan(NAN);
    qd_store_strided(v, t->y[r], t->y_step, t->count);
}

QD_ALWAYS void qd_tile_unit(const int format, const long w_step, const long x_step, const qd_tile *t) {
    float16 p[16];
    for (int i = 0; i < 16; i++)
        p[i] = 0.0f;
    float results[4][QD_TILE_ROWS];
    for (int r = 0; r < (t->rows == 4 ? 1 : t->rows); r++) {
        for (int i = 0; i < t->count; i += 4) {
            /* Beyond the last row, that one again. */
            __global const uchar *w[4] = {t->w + i * t->w_row, t->w + min(i + 1, t->count - 1) * t->w_row,
                                          t->w + min(i + 2, t->count - 1) * t->w_row,
                                          t->w + min(i + 3, t->count - 1) * t->w_row};
            if (t->rows < 4) {
                qd_tile_1(format, w_step, x_step, w, t->x + r, t->K, p + i);
                continue;
            }
            qd_tile_4(format, w_step, x_step, w, t->x, t->K, p);
            float lanes[16];
            vstore16(qd_lanes_sums(p), 0, lanes);
            for (int l = 0; l < 16; l++)
                results[l / 4][i + l % 4] = lanes[l];
        }
        if (t->rows < 4) qd_tile_store(t, r, qd_lanes_sums(p));
    }
    for (int r = 0; r < 4 && t->rows == 4; r++)
        qd_tile_store(t, r, vload16(0, results[r]));
}

#endif
