/* Products of integer codes on an x86 CPU: positions (rows of x, or pixels with all that their window covers) times
 * weights in the TILE16 layout, which the host packs: tiles of 16 output channels,
 *
 *   codes  [k / 4][channel 0…15][k % 4]   signed: unsigned ones minus 128; K is filled up with 0 to whole groups of 4
 *   sums   [channel 0…15] ints            of the codes
 *
 * Codes of 4 bits (-DQD_W_BITS=4) are unsigned, signed ones plus 8: byte i of 8 codes has code i in its low bits and
 * code 4 + i in the high ones, and K is filled up to groups of 8. Before they meet x they are unpacked, less their zero
 * points: for all tiles of a block, or for each as many as the first-level cache holds.
 *
 *                      QD_VECTORS · QD_V channels
 *                   w  [................] [................]      k groups of 4 down the tile
 *   x of QD_POSITIONS  [acc] [acc] [acc]  } all in registers; QD_TALL positions where there are few channels
 *
 * Codes of x are packed first, as unsigned ones: those of a position lie side by side, so that every kind of operand
 * takes the same way; whole rows of unsigned ones lie so already. A block of positions is packed once for all channels,
 * or, where K is too large, some positions for each chunk of it. With w' = w - 128 and x' = x + 128 where these are
 * unsigned and signed, and zero points moved likewise: Σ(w - wz)(x - xz) = Σ w'x' - xz' · (Σ w' - K · wz') -
 * wz' · Σ x'; mostly wz' is 0. 32-bit sums may overflow on the way, but not in the end, where no more than K codes are
 * allowed; with `wide`, sums are 64 bits from one chunk of K to the next.
 *
 * The includer defines gemm_fill and gemm_direct, and calls gemm_all; with GEMM_STORE, the name of a function like
 * gemm_store, that makes results of sums instead; with GEMM_GROUPED, of one that also makes the sums. */
#ifndef QD_GEMM_INT_H
#define QD_GEMM_INT_H

#include "x86/finish.h"

#if defined(QD_AMX)
#define QD_POSITIONS 32
#define QD_VECTORS 2
#elif QD_V == 16
#define QD_POSITIONS 6
#define QD_VECTORS 4
#define QD_TALL 12
#define GEMM_NARROW(X) X(6) X(7) X(8) X(9) X(10) X(11)
#define GEMM_VECTORS(X, t) X(t, 0) X(t, 1) X(t, 2) X(t, 3)
#define GEMM_WIDTHS(X, t) X(t, 1) X(t, 2) X(t, 3) X(t, 4)
#define GEMM_WIDE(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define GEMM_POSITIONS(X) GEMM_WIDE(X) GEMM_NARROW(X)
#define GEMM_THREE(X, a, b, c) GEMM_VECTORS(X, a) GEMM_VECTORS(X, b) GEMM_VECTORS(X, c)
#define GEMM_ALL(X) GEMM_THREE(X, 0, 1, 2) GEMM_THREE(X, 3, 4, 5) GEMM_THREE(X, 6, 7, 8) GEMM_THREE(X, 9, 10, 11)
#else
#define QD_POSITIONS 2
#define QD_VECTORS 2
#define GEMM_NARROW(X)
#define GEMM_WIDE(X) X(0) X(1)
#define GEMM_POSITIONS(X) GEMM_WIDE(X)
#define GEMM_VECTORS(X, t) X(t, 0) X(t, 1)
#define GEMM_WIDTHS(X, t) X(t, 1) X(t, 2)
#define GEMM_ALL(X) GEMM_VECTORS(X, 0) GEMM_VECTORS(X, 1)
#endif

/* Positions of a tile where there are no more than two vectors of channels: as many sums as in other tiles. */
#ifndef QD_TALL
#define QD_TALL QD_POSITIONS
#endif

/* Whether results are codes, and whether those of QD_MODE_SMALL are made of sums in registers. */
#ifdef GEMM_STORE
#define GEMM_CODES 0
#define GEMM_AT_ONCE 0
#elif defined(QD_ADD) || defined(QD_AMX)
#define GEMM_CODES 1
#define GEMM_AT_ONCE 0
#else
#define GEMM_CODES 1
#define GEMM_AT_ONCE 1
#endif

/* Bits of a code of w. */
#ifndef QD_W_BITS
#define QD_W_BITS 8
#endif
/* Groups of four codes in a word of a channel; sums of products of codes. */
#define GEMM_EACH (8 / QD_W_BITS)
#if QD_W_BITS == 8
#define GEMM_SUM qd_sum8
#define GEMM_SUM_TOTAL qd_total8_from
#define GEMM_SUM_FROM QD_SUM8_FROM
#define GEMM_SUM_CALLS QD_SUM8_CALLS
#define GEMM_SUM_DOT(s, w, x) qd_dot8_of(s, w, x)
#else
#define GEMM_SUM qd_sum4
#define GEMM_SUM_TOTAL qd_total4_from
#define GEMM_SUM_FROM QD_SUM4_FROM
#define GEMM_SUM_CALLS QD_SUM4_CALLS
#define GEMM_SUM_DOT(s, w, x) qd_dot4_of(s, x, w)
#endif

/* Positions in a block, at most: AMX takes weights twice as fast as the last-level cache gives them for fewer. */
#ifndef QD_BLOCK
#ifdef QD_AMX
#define QD_BLOCK 128
#else
#define QD_BLOCK 66
#endif
#endif
/* Bytes for the codes of a block, where they are packed; and those of x which a block takes in where they are not. */
#ifndef QD_ROOM
#ifdef QD_AMX
#define QD_ROOM (512 << 10)
#else
#define QD_ROOM (128 << 10)
#endif
#endif
#ifndef QD_BLOCK_BYTES
#define QD_BLOCK_BYTES (512 << 10)
#endif
/* Codes of x are read by so many at a time. */
#ifdef QD_AMX
#define QD_TOGETHER 64
#else
#define QD_TOGETHER 4
#endif
/* Codes along K in a chunk, a multiple of 64. */
#ifndef QD_CHUNK
#define QD_CHUNK 1024
#endif

/* Codes of a row that are unpacked at once, for all tiles of a block and for one; bytes of a vector's. */
enum { GEMM_MOST = 4096, GEMM_STEP = 512, GEMM_UNPACKED = 16 * GEMM_MOST };

/* What all units of a launch share. */
typedef struct gemm {
    __global const uchar *w, *w_zeros, *x_zeros, *requant;
    __global const int *bias;
    int w_zero, x_zero, has_bias; /* as in the operators' parameters */
    int w_code, x_code;
    int k, wide;
    int first, count; /* channels: of the tensor, w holds first … first + count - 1 */
    int shift;        /* whether wz' may be other than 0 */
    int group;        /* codes in a group, where GEMM_GROUPED makes results, of sums over one each; else 0 */
    ulong zero_step;  /* bytes from a channel's zero point to the next one's */
    qd_output y;
    qd_v_end end;    /* of y, 8 bits; where a residual is added to it, only their limits are left */
    const void *own; /* what GEMM_STORE needs */
#ifdef QD_ADD
    const qd_conv_add_int_params *add;
    __global const uchar *residual; /* as y */
#endif
} gemm;

/* Whether the weights' zero points, one or one each, may be others than that of codes made signed, and codes have
 * them still when they meet x. */
QD_ALWAYS int gemm_shift(const int share, __global const int *zeros, const int code) {
    return QD_W_BITS == 8 &&
           (share == QD_EACH || (share == QD_SHARED ? zeros[0] : 0) != (QD_CODE_SIGNED(code) ? 0 : 128));
}

/* Of a kernel's operands and parameters, which have these names in all operators. */
#define GEMM_OF(p)                                                                                \
    {                                                                                             \
        .w_zeros = QD_ROW(uchar, w_zero, 0), .x_zeros = QD_ROW(uchar, x_zero, 0),                 \
        .requant = QD_ROW(uchar, requant, 0), .bias = QD_ROW(int, bias, 0), .w_zero = (p).w_zero, \
        .x_zero = (p).x_zero, .has_bias = (p).bias, .w_code = (p).w_code, .x_code = (p).x_code,   \
        .shift = gemm_shift((p).w_zero, QD_ROW(int, w_zero, 0), (p).w_code), .y = (p).y,          \
        .end = qd_v_end_of((p).y.zero_point, (p).y.min, (p).y.max, (p).y.code),                   \
        .zero_step = (p).w_zero == QD_EACH ? sizeof(int) : 0,                                     \
    }

/* Bytes to[t * pitch + i] = code k + i of position `first` + t, t < count, i < n, made unsigned by `flip`. Up to 63
 * bytes behind the n may be written before the next position's are. */
static inline void gemm_fill(const void *source, const ulong first, const int count, const int k, const int n,
                             const uchar flip, uchar *to, const ulong pitch);

/* Where the codes of positions from `first` on lie as gemm_fill would write them, without a flip, but for what is
 * behind the last of each: `pitch` bytes apart. NULL: nowhere. */
static inline const uchar *gemm_direct(const void *source, const ulong first, ulong *pitch);

/* Copies n bytes, and perhaps up to 63 more. `readable`: as many from `from` on are in its buffer. */
QD_ALWAYS void gemm_copy(uchar *to, __global const uchar *from, const int n, const long readable, const uchar flip) {
    const int end = n < readable ? n : (int)readable;
    const qd_vi flips = (qd_vi)(int)(flip * 0x01010101u);
    int i = 0;
    for (; i < end && i + 4 * QD_V <= readable; i += 4 * QD_V)
        *(qd_v_anywhere *)(to + i) = *(__global const qd_v_anywhere *)(from + i) ^ flips;
    for (; i < end && i + 16 <= readable; i += 16)
        *(qd_16_anywhere *)(to + i) = *(__global const qd_16_anywhere *)(from + i) ^ (uint4)(flip * 0x01010101u);
    for (; i < end; i++)
        to[i] = from[i] ^ flip;
}

/* The code that makes those of x unsigned. */
QD_ALWAYS uchar gemm_flip(const gemm *g) {
    return QD_CODE_SIGNED(g->x_code) ? 0x80 : 0;
}

/* Packs codes of some positions, pitch bytes apart; sums[t] is added to, where that is asked for. */
static void gemm_pack(const gemm *g, const void *source, const ulong first, const int count, const int k, const int n,
                      uchar *x, const ulong pitch, long *sums) {
    gemm_fill(source, first, count, k, n, gemm_flip(g), x, pitch);
    /* What fills up the last group of w is no 0 without its zero point. */
    for (int t = 0; QD_W_BITS < 8 && t < count; t++) {
        for (int i = n; i % 4; i++)
            x[t * pitch + i] = 0;
    }
    for (int t = 0; g->shift && t < count; t++) {
        uchar *row = x + t * pitch;
        qd_vi sum = (qd_vi)0;
        int lanes[QD_V], total = 0;
        *(qd_v_anywhere *)(row + n) = (qd_vi)0;
        for (int i = 0; i < n; i += 4 * QD_V)
            sum = qd_bytes_sum(sum, *(const qd_v_anywhere *)(row + i));
        qd_v_store_int(sum, 0, lanes);
        for (int i = 0; i < QD_V; i++)
            total += lanes[i];
        sums[t] += total;
    }
}

/* Weights that will be needed soon: `step` bytes of them are asked for with each group of codes, at most 128. */
typedef struct gemm_ahead {
    __global const uchar *at;
    int step;
} gemm_ahead;

/* What belongs to QD_V channels. */
typedef struct gemm_channels {
    int at, n;                   /* the first one, and how many there are */
    __global const uchar *codes; /* of the first group */
    qd_vi zero, weights;         /* wz', of packed codes in each byte; Σ w' - K · wz' */
    qd_vi bias, start; /* start: the bias, and what all positions get for x's zero point, where they share one */
    qd_vi a, b;
} gemm_channels;

/* Bytes of a tile's codes, which are whole words. */
QD_ALWAYS long gemm_tile_codes(const gemm *g) {
    return 64 * ((g->k + 4L * GEMM_EACH - 1) / (4 * GEMM_EACH));
}

/* What belongs to the channels of a tile. */
typedef struct gemm_part {
    gemm_channels c[QD_VECTORS];
    int vectors, n; /* n channels */
    int mode;       /* y's, or QD_MODE_SMALL; QD_ABSENT: sums are not only requantized to 8 bits */
    bool whole;     /* all codes lie as those of 8 bits */
} gemm_part;

/* Codes of y with those of the residual added, n of them, which begin at code `at`. */
QD_ALWAYS qd_vi gemm_residual(const gemm *g, const qd_vi codes, const ulong at, const int n) {
#ifdef QD_ADD
    const int code = qd_residual_code(g->add);
    if (n == QD_V) {
        __global const uchar *p = g->residual + at;
        return qd_v_add_residual(g->add, codes, QD_CODE_SIGNED(code) ? qd_v_signed(p) : qd_v_unsigned(p));
    }
    int lanes[QD_V];
    for (int i = 0; i < QD_V; i++)
        lanes[i] = i < n ? qd_code_at(g->residual, at + i, code) : 0;
    return qd_v_add_residual(g->add, codes, qd_v_load_int(0, lanes));
#else
    return codes;
#endif
}

/* Stores the codes of a position, of sums that are only requantized, as code `at` … of y. */
QD_ALWAYS void gemm_put(const gemm *g, const gemm_part *part, const qd_vi *sums, const int vectors, const int mode,
                        __global uchar *y, const ulong at) {
    const gemm_channels *c = part->c;
    qd_vi v[QD_VECTORS];
#ifdef QD_ADD
    qd_output end = g->y;
    end.mode = mode;
    end.code = QD_CODE(8, 0);
    for (int j = 0; j < vectors; j++)
        v[j] = gemm_residual(g, qd_v_finish(&end, sums[j], c[j].a, c[j].b), at + j * QD_V, c[j].n);
#else
    QD_UNROLL(j, QD_VECTORS) {
        if (j < vectors) v[j] = qd_v_scaled(mode, sums[j], c[j].a, c[j].b);
    }
#endif
    qd_v_put(QD_ACROSS(qd_v_pack(&g->end, v, vectors)), part->n, y + at);
}

/* Where a tile's results go: position 0's to code `at` of y, the next ones' `stride` bytes behind. */
typedef struct gemm_results {
    __global uchar *y;
    ulong at, stride;
} gemm_results;

#ifdef QD_AMX
#include "x86/gemm_amx.h"
#else
/* Sums of a tile: its start and the products of `groups` groups of four codes, or, when it `goes_on`, acc and these.
 * With `to` they are stored as codes, in QD_MODE_SMALL, else in acc. They have names of their own: of arrays as large
 * as this the compiler keeps some in memory. */
QD_ALWAYS void gemm_dots(const gemm *g, const gemm_part *part, __global const uchar *const *w, const uchar *x,
                         ulong pitch, const int groups, const int tokens, const int vectors, gemm_ahead *ahead,
                         bool goes_on, qd_vi (*acc)[QD_VECTORS], const gemm_results *to) {
    /* Or the compiler finds out where each position is before the first tile, and keeps that in memory. */
    pitch = QD_OPAQUE(pitch);
#if QD_V == 16
#define GEMM_TOTAL(t, j) total##t##_##j
#define GEMM_START(t, j) qd_vi total##t##_##j = j < vectors ? part->c[j].start : (qd_vi)0;
#define GEMM_GO_ON(t, j) \
    if (t < tokens && j < vectors) total##t##_##j = acc[t][j];
#define GEMM_KEEP(t, j) \
    if (t < tokens && j < vectors) acc[t][j] = total##t##_##j;
#else /* has no registers for totals beside those of sums */
#define GEMM_TOTAL(t, j) acc[t][j]
#define GEMM_START(t, j) \
    if (t < tokens && j < vectors && !goes_on) acc[t][j] = part->c[j].start;
#define GEMM_GO_ON(t, j)
#define GEMM_KEEP(t, j)
#endif
#define GEMM_BEGIN(t, j) GEMM_SUM sum##t##_##j = GEMM_SUM_FROM(GEMM_TOTAL(t, j));
#define GEMM_LOAD(t, j)        \
    qd_vi codes##j = (qd_vi)0; \
    if (j < vectors) codes##j = qd_v_load_int(0, (__global const int *)(w[j] + 64 * (ulong)i));
#define GEMM_DOT(t, j) \
    if (j < vectors) sum##t##_##j = GEMM_SUM_DOT(sum##t##_##j, codes##j, (qd_vi)four##t);
#define GEMM_POSITION(t)                                       \
    if (t < tokens) {                                          \
        const int four##t = ((const int *)(x + t * pitch))[i]; \
        GEMM_VECTORS(GEMM_DOT, t)                              \
    }
#define GEMM_ADD(t, j) \
    if (t < tokens && j < vectors) GEMM_TOTAL(t, j) = GEMM_SUM_TOTAL(sum##t##_##j, GEMM_TOTAL(t, j));
#define GEMM_ITEM(t, j) GEMM_TOTAL(t, j),
#define GEMM_PUT(t)                                                                      \
    if (t < tokens) {                                                                    \
        const qd_vi sums[] = {GEMM_VECTORS(GEMM_ITEM, t)};                               \
        gemm_put(g, part, sums, vectors, QD_MODE_SMALL, to->y, to->at + t * to->stride); \
    }
    GEMM_ALL(GEMM_START)
    if (goes_on) {
        GEMM_ALL(GEMM_GO_ON)
    }
    for (int i = 0; i < groups;) {
        const int end = GEMM_SUM_CALLS < groups - i ? i + GEMM_SUM_CALLS : groups;
        GEMM_ALL(GEMM_BEGIN)
        for (; i < end; i++) {
            GEMM_VECTORS(GEMM_LOAD, 0)
            GEMM_POSITIONS(GEMM_POSITION)
            __builtin_prefetch(ahead->at, 0, 2);
            __builtin_prefetch(ahead->at + 64, 0, 2);
            ahead->at += ahead->step;
        }
        GEMM_ALL(GEMM_ADD)
    }
    if (GEMM_AT_ONCE && to) {
        GEMM_POSITIONS(GEMM_PUT)
    } else {
        GEMM_ALL(GEMM_KEEP)
    }
}

/* The same for any number of positions; with `to`, for `tiles` tiles of so many, one behind the other. */
static void gemm_some_dots(const gemm *g, const gemm_part *part, __global const uchar *const *w, const uchar *x,
                           const ulong pitch, const int groups, const int tokens, const int tiles, gemm_ahead ahead,
                           const bool goes_on, qd_vi (*acc)[QD_VECTORS], const gemm_results *to) {
#define GEMM_CASE(t, n)                                                                              \
    case 8 * (t) + (n):                                                                              \
        for (int i = 0; i < tiles; i++, x += (t + 1) * pitch, next.at += (t + 1) * next.stride)      \
            gemm_dots(g, part, w, x, pitch, groups, t + 1, n, &ahead, goes_on, acc, to ? &next : 0); \
        break;
#define GEMM_CASES(t) GEMM_WIDTHS(GEMM_CASE, t)
#define GEMM_NARROW_CASES(t) GEMM_CASE(t, 1) GEMM_CASE(t, 2)
    gemm_results next = {0, 0, 0};
    if (to) next = *to;
    switch (8 * (tokens - 1) + part->vectors) { GEMM_WIDE(GEMM_CASES) GEMM_NARROW(GEMM_NARROW_CASES) }
}
#endif

/* Lane i: element i · step of p, for the first n. */
QD_ALWAYS qd_vi gemm_gather(__global const int *p, const int step, const int n) {
    int lanes[QD_V];
    if (step == 0) return (qd_vi)p[0];
    if (step == 1 && n == QD_V) return qd_v_load_int(0, p);
    for (int i = 0; i < QD_V; i++)
        lanes[i] = i < n ? p[i * step] : 0;
    return qd_v_load_int(0, lanes);
}

/* xz' of a position. */
QD_ALWAYS int gemm_x_zero(const gemm *g, const ulong position) {
    return qd_zero_at(g->x_zeros, g->x_zero, g->x_zero == QD_EACH ? position : 0, g->x_code) + gemm_flip(g);
}

static void gemm_open(const gemm *g, const int channel, gemm_channels *c) {
    const ulong codes = gemm_tile_codes(g);
    c->codes = g->w + channel / 16 * (codes + 64) + (ulong)(channel % 16) * 4;
    c->at = g->first + channel;
    c->n = min(QD_V, g->count - channel);
    c->zero = (qd_vi)0;
    if (QD_W_BITS < 8 || g->shift) {
        const int none = QD_W_BITS < 8 ? (QD_CODE_SIGNED(g->w_code) ? -(1 << (QD_W_BITS - 1)) : 0)
                                       : (QD_CODE_SIGNED(g->w_code) ? 0 : 128);
        int zeros[QD_V];
        for (int i = 0; i < QD_V; i++) {
            __global const uchar *own = g->w_zeros + (ulong)(c->at + min(i, c->n - 1)) * g->zero_step;
            zeros[i] = qd_zero_at(own, g->w_zero, 0, g->w_code) - none;
        }
        c->zero = qd_v_load_int(0, zeros);
    }
    c->weights = qd_v_load_int(0, (__global const int *)(c->codes + codes)) - g->k * c->zero;
    if (QD_W_BITS < 8) c->zero *= 0x01010101;
    c->bias = g->has_bias == QD_ABSENT ? (qd_vi)0 : gemm_gather(g->bias + c->at, 1, c->n);
    c->start = g->wide ? (qd_vi)0 : c->bias;
    if (g->x_zero != QD_EACH && !g->wide) c->start -= gemm_x_zero(g, 0) * c->weights;
    c->a = c->b = (qd_vi)0;
    if (g->y.requant != QD_ABSENT) {
        const bool shared = g->y.requant == QD_SHARED;
        __global const int *row = (__global const int *)g->requant + (shared ? 0 : 2 * (ulong)c->at);
        if (!shared && c->n == QD_V) {
            const qd_vi low = qd_v_load_int(0, row), high = qd_v_load_int(1, row);
            c->a = (qd_vi)(low.even, high.even);
            c->b = (qd_vi)(low.odd, high.odd);
        } else {
            c->a = gemm_gather(row, shared ? 0 : 2, c->n);
            c->b = gemm_gather(row + 1, shared ? 0 : 2, c->n);
        }
    }
}

/* How sums become codes of 8 bits that are only requantized: y's mode, or, for QD_MODE_FLOAT with `small` multipliers,
 * QD_MODE_SMALL; QD_MODE_AWAY needs them. QD_ABSENT: they do not. */
QD_ALWAYS int gemm_mode(const gemm *g, const bool small) {
    if (g->wide || g->shift || g->x_zero == QD_EACH) return QD_ABSENT;
    if (g->y.requant == QD_ABSENT || QD_CODE_BITS(g->y.code) != 8) return QD_ABSENT;
    if (g->y.mode == QD_MODE_AWAY && !small) return QD_ABSENT;
    return g->y.mode == QD_MODE_FLOAT && small ? QD_MODE_SMALL : g->y.mode;
}

/* The part of `vectors` vectors from `first` on. */
static void gemm_open_part(const gemm *g, const int first, const int vectors, gemm_part *part) {
    bool small = true;
    for (int j = 0; j < vectors; j++) {
        gemm_open(g, (first + j) * QD_V, &part->c[j]);
        small = small && qd_v_small(g->y.mode, part->c[j].a, part->c[j].b);
    }
    part->vectors = vectors;
    part->n = min(vectors * QD_V, g->count - first * QD_V);
    part->mode = gemm_mode(g, small);
}

/* A sum of 64 bits without its zero points, as far as 32 bits hold it. */
static qd_vi gemm_wide_sum(const gemm_channels *c, const long *sum, const int zero, const long x_sum) {
    int lanes[QD_V], zeros[QD_V], weights[QD_V];
    qd_v_store_int(c->zero, 0, zeros);
    qd_v_store_int(c->weights, 0, weights);
    for (int i = 0; i < QD_V; i++)
        lanes[i] = qd_saturate_i32(sum[i] - zero * (long)weights[i] - zeros[i] * x_sum);
    return qd_v_load_int(0, lanes);
}

/* Unpacks codes k … k + n - 1 of a part, as those of 8 bits lie, a vector's GEMM_UNPACKED bytes behind another's. */
static void gemm_unpack(const gemm_part *part, const int k, const int n, uchar *to) {
    for (int j = 0; j < part->vectors; j++) {
        const gemm_channels *c = &part->c[j];
        for (int i = 0; i < n; i += 4 * GEMM_EACH) {
            __global const uchar *at = c->codes + 16 * (ulong)(k + i) / GEMM_EACH;
            const qd_vi word = qd_v_load_int(0, (__global const int *)at);
            __builtin_prefetch(at + 16 * GEMM_STEP / GEMM_EACH, 0, 2);
            QD_UNROLL(e, GEMM_EACH) {
                const qd_vi codes = word >> e * QD_W_BITS & (int)(0x01010101u * ((1u << QD_W_BITS) - 1));
                *(qd_v_anywhere *)(to + j * GEMM_UNPACKED + 16 * (i + 4 * e)) = QD_PARTWISE(psubb, codes, c->zero);
            }
        }
    }
}

/* A block of positions. */
typedef struct gemm_block {
    const void *source;
    ulong first;
    int count, chunk; /* positions; codes of each that x holds */
    ulong pitch;
    const uchar *x;
    uchar *room, *codes; /* codes: unpacked ones of w */
    gemm_ahead ahead;
    long sums[QD_BLOCK]; /* of x', where there is any wz' */
} gemm_block;

/* Where the codes of vector j of a part begin. On a CPU all addresses are of one kind. */
QD_ALWAYS __global const uchar *gemm_weights(const gemm_part *part, const gemm_block *b, const int j) {
    return QD_W_BITS == 8 ? part->c[j].codes : (__global const uchar *)(ulong)(b->codes + j * GEMM_UNPACKED);
}

/* Sums of some positions, and what is added to them from one chunk to the next. */
typedef struct gemm_sums {
    qd_vi acc[QD_TALL][QD_VECTORS];
    long wide[QD_TALL][QD_VECTORS][QD_V];
} gemm_sums;

/* Position t of a tile, number `at` of the block, in QD_V channels: the sum with all that belongs to it. */
QD_ALWAYS qd_vi gemm_sum(const gemm *g, const gemm_channels *c, const gemm_block *b, const int at, const gemm_sums *s,
                         const int t, const int j) {
    const int zero = g->wide || g->x_zero == QD_EACH ? gemm_x_zero(g, b->first + at) : 0;
    if (g->wide) return gemm_wide_sum(c, s->wide[t][j], zero, g->shift ? b->sums[at] : 0) + c->bias;
    qd_vi sum = s->acc[t][j];
    if (g->shift) sum -= c->zero * (int)b->sums[at];
    if (g->x_zero == QD_EACH) sum -= zero * c->weights;
    return sum;
}

#ifdef GEMM_STORE
static void GEMM_STORE(const gemm *g, const gemm_channels *c, const gemm_block *b, const int at, const int tokens,
                       const gemm_sums *s, const int j, __global uchar *y, const ulong y_stride);
#else
#define GEMM_STORE gemm_store
/* Stores the results of `tokens` positions from the block's number `at` on, in QD_V channels. */
static void gemm_store(const gemm *g, const gemm_channels *c, const gemm_block *b, const int at, const int tokens,
                       const gemm_sums *s, const int j, __global uchar *y, const ulong y_stride) {
    for (int t = 0; t < tokens; t++) {
        const ulong row = (b->first + at + t) * y_stride;
        qd_vi v = gemm_sum(g, c, b, at + t, s, t, j);
        if (g->y.requant != QD_ABSENT) v = qd_v_finish(&g->y, v, c->a, c->b);
        v = gemm_residual(g, v, row + c->at, c->n);
        if (c->n == QD_V && QD_CODE_BITS(g->y.code) == 8) {
            qd_v_put_bytes(v, y + row + c->at);
        } else if (c->n == QD_V) {
            qd_v_store_int(v, 0, (__global int *)(y + row) + c->at);
        } else {
            int lanes[QD_V];
            qd_v_store_int(v, 0, lanes);
            for (int i = 0; i < c->n; i++)
                qd_put_code(y + row, c->at + i, g->y.code, lanes[i]);
        }
    }
}
#endif

/* Whether tiles end in registers. */
QD_ALWAYS bool gemm_at_once(const gemm *g, const gemm_part *part, const gemm_block *b) {
    return GEMM_AT_ONCE && part->mode == QD_MODE_SMALL && b->chunk >= g->k && part->whole;
}

/* Stores a tile's codes. `mode` is that of its part, and known where this is called. */
QD_ALWAYS void gemm_end(const gemm *g, const gemm_part *part, const int tokens, const gemm_sums *s, const int mode,
                        const gemm_results *to) {
    for (int t = 0; t < tokens; t++)
        gemm_put(g, part, s->acc[t], part->vectors, mode, to->y, to->at + t * to->stride);
}

#ifdef GEMM_GROUPED
static void GEMM_GROUPED(const gemm *g, const gemm_part *part, gemm_block *b, const int at, const int tokens,
                         __global uchar *y, const ulong y_stride);
#endif

/* `tiles` tiles of `tokens` positions each from the block's number `at` on: one, unless all is done at once. */
static void gemm_tile(const gemm *g, const gemm_part *part, gemm_block *b, const int at, const int tokens,
                      const int tiles, __global uchar *y, const ulong y_stride) {
#ifdef GEMM_GROUPED
    if (g->group) {
        GEMM_GROUPED(g, part, b, at, tokens, y, y_stride);
        return;
    }
#endif
    const bool chunks = b->chunk < g->k, at_once = gemm_at_once(g, part, b);
    const int step = part->whole ? b->chunk : min(b->chunk, GEMM_STEP);
    const uchar *x = b->x + (chunks ? 0 : at * b->pitch);
    const gemm_results to = {y, (b->first + at) * y_stride + part->c[0].at, y_stride};
    gemm_sums s;
    for (int t = 0; chunks && t < tokens; t++)
        b->sums[at + t] = 0;
    for (int k = 0; k < g->k; k += step) {
        const int n = min(step, g->k - k);
        __global const uchar *w[QD_VECTORS];
        if (!part->whole) gemm_unpack(part, k, n, b->codes);
        for (int j = 0; j < part->vectors; j++)
            w[j] = gemm_weights(part, b, j) + (part->whole ? 16 * (ulong)k : 0);
        if (chunks) gemm_pack(g, b->source, b->first + at, tokens, k, n, b->room, b->pitch, b->sums + at);
        gemm_some_dots(g, part, w, x + (chunks ? 0 : k), b->pitch, (n + 3) / 4, tokens, tiles, b->ahead, k && !g->wide,
                       s.acc, at_once ? &to : 0);
        b->ahead.at += (ulong)b->ahead.step * ((n + 3) / 4) * tiles;
        for (int t = 0; g->wide && t < tokens; t++) {
            for (int j = 0; j < part->vectors; j++) {
                int lanes[QD_V];
                qd_v_store_int(s.acc[t][j], 0, lanes);
                for (int i = 0; i < QD_V; i++)
                    s.wide[t][j][i] = k ? s.wide[t][j][i] + lanes[i] : lanes[i];
            }
        }
    }
    if (at_once) return;
    switch (GEMM_CODES ? part->mode : QD_ABSENT) {
        case QD_MODE_FIXED:
            gemm_end(g, part, tokens, &s, QD_MODE_FIXED, &to);
            break;
        case QD_MODE_GEMMLOWP:
            gemm_end(g, part, tokens, &s, QD_MODE_GEMMLOWP, &to);
            break;
        case QD_MODE_AWAY:
            gemm_end(g, part, tokens, &s, QD_MODE_AWAY, &to);
            break;
        case QD_MODE_FLOAT:
            gemm_end(g, part, tokens, &s, QD_MODE_FLOAT, &to);
            break;
        case QD_MODE_SMALL:
            gemm_end(g, part, tokens, &s, QD_MODE_SMALL, &to);
            break;
        default:
            for (int j = 0; j < part->vectors; j++)
                GEMM_STORE(g, part->c + j, b, at, tokens, &s, j, y, y_stride);
            break;
    }
}

/* Begins a block, of which positions from … end - 1 are needed. */
static void gemm_begin(const gemm *g, gemm_block *b, const ulong first, const int count, const int from,
                       const int end) {
    ulong pitch;
    b->first = first;
    b->count = count;
    if (!b->room) {
        b->x = gemm_direct(b->source, first, &pitch);
        return;
    }
    for (int t = 0; t < count; t++)
        b->sums[t] = 0;
    if (b->chunk >= g->k)
        gemm_pack(g, b->source, first + from, end - from, 0, g->k, b->room + from * b->pitch, b->pitch, b->sums + from);
}

/* The first position of a block's tile: all have equally many, but the first ones may have one more. */
QD_ALWAYS int gemm_tile_at(const int count, const int tiles, const int tile) {
    return count / tiles * tile + min(count % tiles, tile);
}

/* Tiles of a part that no work-items share: each would read its weights from memory. */
enum { GEMM_FEW = 3 };

/* This work-item's part of all `positions`. `source` is what gemm_fill reads; y is the row of position 0.
 *
 *   block of positions   [part of up to QD_VECTORS vectors of channels  [tile][tile] … ][part …] …
 *
 * Blocks have equally many tiles, give or take a position, and parts equally many vectors, give or take one. A tile's
 * work is as many units as it has vectors, and belongs to the work-item to whose range the first of them does: each has
 * the same work, and as few parts of w as can be. Where there are few tiles, a part's are one piece. Blocks that are
 * packed are those of one work-item where they are long enough. */
QD_ALWAYS void gemm_all(const gemm *g, const void *source, const ulong positions, __global uchar *y,
                        const ulong y_stride QD_WORK) {
    uchar room[QD_ROOM] __attribute__((aligned(64)));
    gemm_block b = {.source = source, .first = positions, .chunk = g->k};
#if QD_W_BITS < 8
    uchar codes[GEMM_UNPACKED * QD_VECTORS] __attribute__((aligned(64)));
    b.codes = codes;
#endif
    int most = QD_BLOCK;
    const bool whole = g->group % QD_TOGETHER == 0; /* or the last group's would be read beyond its row */
    if (!g->shift && !g->wide && !gemm_flip(g) && whole && gemm_direct(source, 0, &b.pitch)) {
        most = max(QD_BLOCK_BYTES / g->k, QD_BLOCK);
    } else {
        const bool fits = ((ulong)g->k + 128) * QD_POSITIONS * 2 <= QD_ROOM;
        b.chunk = fits && !((g->wide || g->shift) && g->k > QD_CHUNK) ? g->k : QD_CHUNK;
        b.pitch = (ulong)(min(b.chunk, g->k) + 127) / 64 * 64 | 64;
        b.x = b.room = room;
        most = min(QD_BLOCK, QD_ROOM / (int)b.pitch - 1);
    }
    const int vectors = (g->count + QD_V - 1) / QD_V;
    ulong blocks = (positions + most - 1) / most;
    const ulong even = (blocks + QD_ITEMS - 1) / QD_ITEMS * QD_ITEMS;
    if (b.room && positions >= 4 * QD_POSITIONS * even) blocks = even;
    const int tall = vectors > 2 ? QD_POSITIONS : QD_TALL;
    const int tiles = ((int)((positions + blocks - 1) / blocks) + tall - 1) / tall;
    /* A part's pieces may go to different work-items. */
    const int pieces = tiles <= GEMM_FEW ? 1 : tiles, together = tiles / pieces;
    ulong parts = (vectors + QD_VECTORS - 1) / QD_VECTORS;
    if (pieces == 1) parts = min((parts + QD_ITEMS - 1) / QD_ITEMS * QD_ITEMS, (ulong)vectors);
    const ulong each = (ulong)vectors * pieces, all = blocks * each;
    const ulong last = all * (QD_ITEM + 1) / QD_ITEMS;
    for (ulong u = all * QD_ITEM / QD_ITEMS; u < last;) {
        const ulong block = u / each, first = positions * block / blocks;
        const ulong part = ((u % each / pieces + 1) * parts - 1) / vectors;
        const int vector = (int)(vectors * part / parts), behind = (int)(vectors * (part + 1) / parts);
        const int wide = behind - vector;
        const ulong start = block * each + (ulong)vector * pieces;
        const ulong end = min(last, start + (ulong)wide * pieces);
        const int from = (int)((u - start + wide - 1) / wide) * together;
        const int to = (int)((end - start + wide - 1) / wide) * together;
        u = end;
        if (from == to) continue;
        if (first != b.first) {
            const int count = (int)(positions * (block + 1) / blocks - first);
            const bool only = end == last;
            gemm_begin(g, &b, first, count, only ? gemm_tile_at(count, tiles, from) : 0,
                       only ? gemm_tile_at(count, tiles, to) : count);
        }
        gemm_part p;
        gemm_open_part(g, vector, wide, &p);
        p.whole = QD_W_BITS == 8 || (to - from > 1 && g->k <= GEMM_MOST && !g->group);
        if (QD_W_BITS < 8 && p.whole) gemm_unpack(&p, 0, g->k, b.codes);
        const long groups = (g->k + 3) / 4, bytes = gemm_tile_codes(g) + 64;
        const bool more_parts = behind < vectors;
        b.ahead.at = more_parts ? g->w + bytes * (behind * QD_V / 16) : p.c[0].codes;
        b.ahead.step = more_parts ? (int)min(bytes * (QD_VECTORS * QD_V / 16) / ((to - from) * groups) + 1, 128L) : 0;
        const int more = b.count % tiles;
        for (int t = from, n; t < to; t += n) {
            n = gemm_at_once(g, &p, &b) ? (t < more ? min(more, to) : to) - t : 1;
            gemm_tile(g, &p, &b, gemm_tile_at(b.count, tiles, t), b.count / tiles + (t < more), n, y, y_stride);
        }
    }
#ifdef QD_AMX
    amx_close();
#endif
}

#endif
