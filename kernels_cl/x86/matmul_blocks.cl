/* y = x · wᵀ (+ addend) for blocked weights and A8 activations on x86 CPUs: 16 rows of w at once, a row in each lane.
 *
 *   w     output columns first … first+count-1, in the tiles of tile16.h
 *   x     A8 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *   Build options: -DQD_W_<FORMAT> of a format that has tiles, and those of simd.h.
 *
 *   unit u = (QD_UNIT_ROWS rows of x, tile)
 *
 *      one dot: 64 bytes of codes  [row 0: i0 i1 i2 i3][row 1: i0 i1 i2 i3] … [row 15]      unsigned
 *                    times                [x0 x1 x2 x3][      the same    ] …               signed, broadcast
 *                    adds up to    [      row 0       ][      row 1       ] … [row 15]      16 exact ints
 *
 * The codes are unsigned here, so the sum is too large by QD_TILE_OFFSET times Σx, which the A8 blocks hold. It is
 * taken off as an integer, which is exact. What is added for a unit: see ../matmul_blocks.cl.
 *
 * One row of x: the four partial sums of the blocks are registers, so the tile streams from memory in its order.
 * QD_TOKENS rows of x, or half as many, share the unpacking of codes and scales; they go through the tile, which is in
 * the first-level cache by then, in four passes of one partial sum each, so that the sums of twice as many rows are
 * registers. What depends on x alone is made once for all tiles. */
#include "x86/tile16.h"

/* Rows of x that share one unpacking. */
#ifdef QD_AMX
#include "x86/amx.h"
#define QD_TOKENS 16
#endif
#ifndef QD_TOKENS
#if QD_V == 16
#define QD_TOKENS 8
#else
#define QD_TOKENS 4
#endif
#endif
#define QD_REST_TOKENS (QD_TOKENS / 2)

/* Rows of x in one unit: as many as let their blocks stay in the second-level cache. */
#ifndef QD_UNIT_ROWS
#define QD_UNIT_ROWS 128
#endif

/* Bytes ahead at which codes are prefetched for a single row of x, whatever its length; 0: not at all. Where the bits
 * of a code are in several places, the processor does not find the order by itself: a single row of Q6_K takes three
 * times as long without. The AVX2 form works too long on a block for the processor to look far enough ahead. The other
 * form loses by it, but where rows are no whole fours of units: there each of its loads leaves its stride at the end of
 * every tile, and a row of Q4_1 takes twice as long without. So that is the default. */
#ifdef QD_PREFETCH
#define PREFETCHED(units) (QD_PREFETCH > 0)
#elif defined(QD_W_Q3_K) || defined(QD_W_Q5_K) || defined(QD_W_Q6_K)
#define QD_PREFETCH 4096
#define PREFETCHED(units) true
#elif QD_V == 8
#define QD_PREFETCH 1024
#define PREFETCHED(units) true
#else
#define QD_PREFETCH 4096
#define PREFETCHED(units) ((units) % QD_BLOCK_LANES != 0)
#endif

/* Sums of the products of codes, which are of 8, 6 or fewer bits. */
#if defined(QD_W_Q8_0) || defined(QD_W_IQ4_NL) || defined(QD_W_IQ4_XS)
#define SUM(name) qd_##name##8
#define SUM_ZERO QD_SUM8_ZERO
#elif defined(QD_W_Q6_K)
#define SUM(name) qd_##name##7
#define SUM_ZERO QD_SUM7_ZERO
#else
#define SUM(name) qd_##name##4
#define SUM_ZERO QD_SUM4_ZERO
#endif

/* Sums that begin with n, or that n is added to in the end. */
#if defined(QD_AVX512_VNNI) && !defined(QD_AMX)
#define SUM_FROM(n) ((qd_vi)(n))
#define TOTAL(s, n) (s)
#else
#define SUM_FROM(n) SUM_ZERO
#define TOTAL(s, n) (SUM(total)(s) + (n))
#endif

/* Parts of a unit that x alone makes, of two A8 blocks: what is to be taken off their sums; or, as floats, the products
 * of d and Σx that minima meet, one for both where they have one minimum. */
enum { X_PARTS = QD_TILE_HALVES < 2 ? 2 : QD_TILE_UNITS == 1 ? 1 : 2 };

/* Words for the parts of a unit's rows: by AMX 16 rows of 65,536 codes are a unit. */
enum { X_ROOM = QD_TOKENS > 8 ? 65536 : 32768 };

/* Rows of x, and their parts: [group of QD_TOKENS rows][unit][part][row of the group]. */
typedef struct x_rows {
    __global const uchar *x;
    ulong stride;
    int parts[X_ROOM];
} x_rows;

QD_ALWAYS void x_parts(__global const qd_block_a8 *x, const int step, int *part) {
    if (QD_TILE_OFFSET) {
        part[0] = -QD_TILE_OFFSET * (int)x[0].sum;
        part[step] = -QD_TILE_OFFSET * (int)x[1].sum;
    } else {
        const float lo = x[0].d * x[0].sum, hi = x[1].d * x[1].sum;
        part[0] = as_int(X_PARTS == 1 ? lo + hi : lo);
        if (X_PARTS == 2) part[step] = as_int(hi);
    }
}

/* As many rows as there is room for the parts of. */
static inline int unit_rows(const int units) {
    const int most = X_ROOM / (X_PARTS * max(units, 1)) / QD_TOKENS * QD_TOKENS;
    return clamp(most, 1, QD_UNIT_ROWS);
}

/* Single rows make their parts by themselves. */
static inline void x_begin(x_rows *in, __global const uchar *x, const ulong stride, const int rows, const int units) {
    in->x = x;
    in->stride = stride;
    if (rows < (QD_REST_TOKENS > 1 ? QD_REST_TOKENS : QD_TOKENS)) return;
    for (int r = 0; r < rows; r++) {
        __global const qd_block_a8 *blocks = (__global const qd_block_a8 *)(x + (ulong)r * stride);
        int *part = in->parts + (ulong)(r / QD_TOKENS) * units * X_PARTS * QD_TOKENS + r % QD_TOKENS;
        for (int u = 0; u < units; u++)
            x_parts(blocks + 2 * u, QD_TOKENS, part + u * X_PARTS * QD_TOKENS);
    }
}

#ifdef QD_AMX
enum { AMX_ROWS = 16 };

/* Tiles 0 and 1: the sums with two A8 blocks; 2 and 3: codes of x; 4 and 5: codes of w. */
QD_ALWAYS void open_tiles(void) {
    const amx_shapes shapes = {
        .palette = 1, .bytes = {64, 64, 16, 16, 64, 64}, .rows = {AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS, 4, 4}};
    amx_open(&shapes);
}

/* Sums of unit 4q + l with the blocks at x of AMX_ROWS rows of x. */
QD_ALWAYS void tile_sums(const qd_tile16 tile, const long q, const int l, __global const qd_block_a8 *x,
                         const ulong x_stride, qd_vi *lo, qd_vi *hi) {
    qd_vi codes[8];
    QD_UNROLL_ALL(j, 8) {
        codes[j] = qd_tile_codes(tile, q, l, j);
    }
    AMX_ZERO(0);
    AMX_ZERO(1);
    AMX_LOAD(2, x[0].q, x_stride);
    AMX_LOAD(4, codes, 64);
    AMX_DOT_SU(0, 2, 4);
    AMX_LOAD(3, x[1].q, x_stride);
    AMX_LOAD(5, codes + 4, 64);
    AMX_DOT_SU(1, 3, 5);
    AMX_STORE(0, lo, 64);
    AMX_STORE(1, hi, 64);
}
#endif

/* Adds unit u = 4q + l of a block's rows times the blocks of `tokens` rows of x to p; part `i` of row t is
 * parts[i * step + t]. */
QD_ALWAYS void add_unit(const qd_tile16 tile, const long q, const int l, __global const uchar *const *x, const int u,
                        const int *parts, const int step, const int tokens, qd_vf *p) {
#define X_BLOCK(t) ((__global const qd_block_a8 *)x[t] + 2 * (ulong)u)
#define X_CODES(t, j) ((__global const int *)X_BLOCK(t)[(j) / 4].q + (j) % 4)
#define X_PART(t, i) parts[(i)*step + (t)]
#define X_OFFSET(t, i) (QD_TILE_OFFSET ? X_PART(t, i) : 0)
    /* Sums with the two A8 blocks, elements 0 … 15 and 16 … 31. */
    SUM(sum) lo[QD_TOKENS], hi[QD_TOKENS];
#ifdef QD_AMX
    const bool tiles = tokens == AMX_ROWS;
    if (tiles) tile_sums(tile, q, l, X_BLOCK(0), (ulong)(x[1] - x[0]), lo, hi);
#else
    const bool tiles = false;
#endif
    if (!tiles) {
        QD_UNROLL_ALL(t, tokens) {
            lo[t] = SUM_FROM(X_OFFSET(t, 0));
            hi[t] = SUM_FROM(X_OFFSET(t, 1));
        }
        QD_UNROLL_ALL(j, 4) {
            const qd_vi low = qd_tile_codes(tile, q, l, j), high = qd_tile_codes(tile, q, l, j + 4);
            QD_UNROLL_ALL(t, tokens) {
                lo[t] = SUM(dot)(lo[t], low, X_CODES(t, j));
            }
            QD_UNROLL_ALL(t, tokens) {
                hi[t] = SUM(dot)(hi[t], high, X_CODES(t, j + 4));
            }
        }
    }
    const qd_tile_scales w = qd_tile_scales_of(tile, q, l);
    QD_UNROLL_ALL(t, tokens) {
        __global const qd_block_a8 *x_lo = X_BLOCK(t), *x_hi = x_lo + 1;
        const qd_vf x_times_lo = qd_v_float(TOTAL(lo[t], X_OFFSET(t, 0))) * x_lo->d;
        const qd_vf x_times_hi = qd_v_float(TOTAL(hi[t], X_OFFSET(t, 1))) * x_hi->d;
        const bool one_scale = QD_TILE_UNITS == 1;
        qd_vf term =
            one_scale ? w.scale[0] * (x_times_lo + x_times_hi) : w.scale[0] * x_times_lo + w.scale[1] * x_times_hi;
        if (QD_TILE_HALVES == 2) {
            const float m_lo = as_float(X_PART(t, 0)), m_hi = as_float(X_PART(t, X_PARTS - 1));
            term += one_scale ? w.offset[0] * m_lo : w.offset[0] * m_lo + w.offset[1] * m_hi;
        }
        p[t] += term;
    }
}

QD_ALWAYS qd_tile16 unit_at(__global const uchar *tile, const int row, const int u) {
    return qd_tile_at(tile + (ulong)(u / QD_TILE_UNITS) * QD_TILE_BLOCK, row);
}

#define Q_OF(u) ((u) % QD_TILE_UNITS / QD_BLOCK_LANES)

/* One row of x. */
QD_ALWAYS qd_vf row_times_tile(__global const uchar *tile, const int row, const int units, __global const uchar *x) {
    qd_vf p[QD_BLOCK_LANES] = {0.0f};
    const bool prefetched = PREFETCHED(units);
    for (int u = 0; u < units; u += QD_BLOCK_LANES) {
        if (prefetched) {
            enum { UNIT = QD_TILE_BLOCK / QD_TILE_UNITS };
            __global const uchar *ahead = tile + (ulong)u * UNIT + QD_PREFETCH;
            for (int i = 0; i < QD_BLOCK_LANES * UNIT; i += 64)
                __builtin_prefetch(ahead + i);
        }
        QD_UNROLL_ALL(l, QD_BLOCK_LANES) {
            /* Blocks of several units are whole fours of them. */
            if (QD_TILE_UNITS > 1 || u + l < units) {
                int parts[2];
                x_parts((__global const qd_block_a8 *)x + 2 * (ulong)(u + l), 1, parts);
                add_unit(unit_at(tile, row, u + l), Q_OF(u), l, &x, u + l, parts, 1, 1, p + l);
            }
        }
    }
    return (p[0] + p[1]) + (p[2] + p[3]);
}

/* Rows r … r + tokens - 1 of x, of one group, times QD_V rows of the tile, from `row` on; sums[t] is the result. */
QD_ALWAYS void times_tile(__global const uchar *tile, const int row, const int units, const x_rows *in, const int r,
                          const int tokens, qd_vf *sums) {
    __global const uchar *x = in->x + (ulong)r * in->stride;
    if (tokens == 1) {
        sums[0] = row_times_tile(tile, row, units, x);
        return;
    }
    __global const uchar *x_rows[QD_TOKENS];
    QD_UNROLL_ALL(t, tokens) {
        x_rows[t] = QD_OPAQUE(x + (ulong)t * in->stride);
    }
    const int *parts = in->parts + (ulong)(r / QD_TOKENS) * units * X_PARTS * QD_TOKENS;
    qd_vf p[QD_BLOCK_LANES][QD_TOKENS];
#ifdef QD_AMX
    if (tokens == AMX_ROWS) open_tiles();
#endif
    QD_UNROLL_ALL(l, QD_BLOCK_LANES) {
        qd_vf pass[QD_TOKENS];
        QD_UNROLL_ALL(t, tokens) {
            pass[t] = 0.0f;
        }
        for (int u = l; u < units; u += QD_BLOCK_LANES) {
            add_unit(unit_at(tile, row, u), Q_OF(u), l, x_rows, u, parts + u * X_PARTS * QD_TOKENS, QD_TOKENS, tokens,
                     pass);
        }
        QD_UNROLL_ALL(t, tokens) {
            p[l][t] = pass[t];
        }
    }
#ifdef QD_AMX
    if (tokens == AMX_ROWS) amx_close();
#endif
    QD_UNROLL_ALL(t, tokens) {
        sums[t] = (p[0][t] + p[1][t]) + (p[2][t] + p[3][t]);
    }
}

#include "x86/tile_matmul.h"
