/* y = x · wᵀ (+ addend) for blocked weights and A8 activations, as matmul_blocks.cl, for few rows of x: weights are
 * read once, at the speed of memory, from the WORDS4 layout (words4.h).
 *
 *   w tiles of 4 rows (-DQD_W_<FORMAT>), output columns first … first+count-1
 *   x A8 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
 *
 * Few rows of x: memory is what counts.
 *
 *   unit u = (QD_TOKENS rows of x, tile)         block  0        1        2        3        4     …
 *                                             row  0 1 2 3  0 1 2 3  0 1 2 3  0 1 2 3  0 1 2 3  …
 *                        1. a term for each: member 0 1 2 3  4 5 6 7  …                          → local memory
 *                        2. in order:              p0       p1       p2       p3       p0 …
 *                        3. y = (p0 + p1) + (p2 + p3)
 *
 * The order of a row's sums leaves four chains of additions, too little work for a GPU; terms are what takes time, and
 * have no order. So a team of work-items makes the terms of QD_CHUNK blocks side by side, and an adder for each row of
 * w and of x then puts them where they belong. Neighbouring members read neighbouring words of 16 bytes of w, the same
 * or neighbouring blocks of x (which stay in the cache), and write to different banks of local memory.
 *
 * Many rows of x (QD_MANY or more, a prompt): a group makes a tile of y, in steps of 4 blocks, one for each chain.
 *
 *                               rows of w  n, n + 8 …               local memory, in words of 16 bytes:
 *                 w    [ 32 rows × 4 blocks ]                       codes   [block][half][row 0…31] of w, of x
 *     x                +--------------------+                       scales  [block][row] of w: scale, offset
 *     [ 32 rows    ]   |  y: item (m, n)    |                               [block][row] of x: d, sum, d, sum
 *     [ 4 blocks   ]   |  of 8 × 8          |  rows of x m, m + 8 …
 *                      +--------------------+
 *
 *   A work-item has 4 × 4 elements of y, each with its 4 partial sums in registers. Eight neighbours read 8
 * neighbouring words of w and the same one of x, and store 8 neighbouring floats of y.
 *
 * -DQD_TEAMS: a team is a sub-group of any size, which waits for no other; else it is the group of 64. The packed dot
 * product: see features.h. */
#define QD_SIDE_BY_SIDE /* teams are work-items side by side */
#include "gpu/words4.h"

#define QD_GROUP 64
/* Teams of one group, at most: further sub-groups have nothing to do. */
#ifdef QD_TEAMS
#define TEAMS 8
#define TEAM ((int)get_sub_group_id())
#define TEAMS_HERE min((int)get_num_sub_groups(), TEAMS)
#define MEMBER ((int)get_sub_group_local_id())
#define MEMBERS ((int)get_sub_group_size())
#define MEET() sub_group_barrier(CLK_LOCAL_MEM_FENCE)
#else
#define TEAMS 1
#define TEAM 0
#define TEAMS_HERE 1
#define MEMBER ((int)get_local_id(0))
#define MEMBERS QD_GROUP
#define MEET() barrier(CLK_LOCAL_MEM_FENCE)
#endif

/* Rows of x in one unit. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif
/* Blocks whose terms are made at once, a multiple of 4: more let memory work ahead, and take more local memory (16 ·
 * QD_TOKENS bytes for each of them and team). Eight more between rows: 32 banks for 8 blocks of 4 rows. */
#ifndef QD_CHUNK
#define QD_CHUNK 32
#endif
#define QD_PITCH (QD_CHUNK + 8)

/* From so many rows of x on they go by tiles. */
#ifndef QD_MANY
#define QD_MANY 16
#endif
/* Rows of w, and of x, in a tile; words of 16 bytes of a step's codes and scales. */
#define QD_TILE 32
#define CODES (4 * 2 * QD_TILE)
#define SCALES (4 * QD_TILE)

#define FEW_ROOM (TEAMS * QD_TOKENS * (QD_PITCH + 4))
#define MANY_ROOM (2 * (CODES + SCALES))

static void few_rows(__global const uchar *w, QD_IN(x), QD_IN(addend), QD_OUT(y), const int has_addend, const int first,
                     const int count, const int K, const int rows, __local float4 *room) {
    const int blocks = K / 32, tiles = (count + 3) / 4;
    const ulong units = (ulong)((rows + QD_TOKENS - 1) / QD_TOKENS) * tiles;
    const int member = MEMBER, members = MEMBERS;
    if (TEAM >= TEAMS) return;
    /* Terms [row of x][row of w][block], four of them in a word; sums [row of x][row of w]. */
    __local float4 *terms = room + TEAM * QD_TOKENS * (QD_PITCH + 4), *sums = terms + QD_TOKENS * QD_PITCH;
    for (ulong u = get_group_id(0) * TEAMS_HERE + TEAM; u < units; u += get_num_groups(0) * TEAMS_HERE) {
        const int i = (int)(u % tiles) * 4, r = (int)(u / tiles) * QD_TOKENS;
        const int tokens = min(QD_TOKENS, rows - r);
        __global const uchar *tile = w + (ulong)(i / 4) * qd_words_tile_bytes(blocks);
        for (int a = member; a < 4 * tokens; a += members)
            sums[a] = (float4)0.0f;
        for (int start = 0; start < blocks; start += QD_CHUNK) {
            const int n = min(QD_CHUNK, blocks - start), fours = (n + 3) / 4;
            for (int j = member; j < 16 * fours; j += members) {
                __local float *term = (__local float *)terms + j % 4 * QD_PITCH + j / 4;
                if (j >= 4 * n) { /* beyond the row: changes no sum, which is never -0 */
                    for (int t = 0; t < tokens; t++)
                        term[t * 4 * QD_PITCH] = 0.0f;
                    continue;
                }
                const qd_words codes = qd_words_codes(tile, blocks, 4 * start + j);
                const qd_w_scales scales = qd_words_scales(tile, blocks, 4 * start + j);
                for (int t = 0; t < tokens; t++) {
                    __global const qd_block_a8 *a = QD_ROW(qd_block_a8, x, r + t) + 2 * (start + j / 4);
                    const uint4 lo = vload4(0, (__global const uint *)a[0].q);
                    const uint4 hi = vload4(0, (__global const uint *)a[1].q);
                    term[t * 4 * QD_PITCH] = qd_w_term(scales, a, qd_words_dot(codes.lo, lo, a[0].sum),
                                                       qd_words_dot(codes.hi, hi, a[1].sum));
                }
            }
            MEET();
            for (int a = member; a < 4 * tokens; a += members) {
                float4 p = sums[a];
                for (int j = 0; j < fours; j++)
                    p += terms[a * (QD_PITCH / 4) + j];
                sums[a] = p;
            }
            MEET();
        }
        for (int a = member; a < 4 * tokens; a += members) {
            const int row = r + a / 4, column = first + i + a % 4;
            const float4 p = sums[a];
            float v = (p.x + p.y) + (p.z + p.w);
            if (i + a % 4 < count) {
                if (has_addend) v += QD_ROW(float, addend, row)[column];
                QD_ROW_OUT(float, y, row)[column] = v;
            }
        }
    }
}

/* 128 words of w and 128 pairs of A8 blocks of x, from block `start` on; zeros where there is nothing. */
static inline void load_step(__global const uchar *w, const int w_rows, QD_IN(x), const int x_rows, const int r,
                             const int start, const int blocks, __local uint4 *w_codes, __local float2 *w_scales,
                             __local uint4 *x_codes, __local float4 *x_scales) {
    for (int l = (int)get_local_id(0); l < 4 * QD_TILE; l += QD_GROUP) {
        const int row = l / 16 * 4 + l % 4, b = l % 16 / 4; /* 16 words of a tile of 4 rows */
        qd_words codes = {(uint4)0u, (uint4)0u};
        qd_w_scales scales = {{0.0f, 0.0f}, {0.0f, 0.0f}};
        if (row < w_rows && start + b < blocks) {
            __global const uchar *tile = w + (ulong)(l / 16) * qd_words_tile_bytes(blocks);
            codes = qd_words_codes(tile, blocks, 4 * start + l % 16);
            scales = qd_words_scales(tile, blocks, 4 * start + l % 16);
        }
        w_codes[2 * b * QD_TILE + row] = codes.lo;
        w_codes[(2 * b + 1) * QD_TILE + row] = codes.hi;
        w_scales[b * QD_TILE + row] = (float2)(scales.scale[0], scales.offset[0]);
    }
    for (int l = (int)get_local_id(0); l < 4 * QD_TILE; l += QD_GROUP) {
        const int row = l / 4, b = l % 4;
        uint4 lo = (uint4)0u, hi = (uint4)0u;
        float4 scales = (float4)0.0f;
        if (row < x_rows && start + b < blocks) {
            __global const qd_block_a8 *a = QD_ROW(qd_block_a8, x, r + row) + 2 * (start + b);
            lo = vload4(0, (__global const uint *)a[0].q);
            hi = vload4(0, (__global const uint *)a[1].q);
            scales = (float4)(a[0].d, a[0].sum, a[1].d, a[1].sum);
        }
        x_codes[2 * b * QD_TILE + row] = lo;
        x_codes[(2 * b + 1) * QD_TILE + row] = hi;
        x_scales[b * QD_TILE + row] = scales;
    }
}

/* The terms of block b of a step for 4 rows of w, n, n + 8 …, with row m of x. */
static inline float4 four_terms(__local const uint4 *w_codes, __local const float2 *w_scales,
                                __local const uint4 *x_codes, __local const float4 *x_scales, const int b, const int m,
                                const int n) {
    const uint4 lo = x_codes[2 * b * QD_TILE + m], hi = x_codes[(2 * b + 1) * QD_TILE + m];
    const float4 x = x_scales[b * QD_TILE + m];
    float term[4];
    QD_UNROLL
    for (int j = 0; j < 4; j++) {
        const int row = n + 8 * j;
        const float2 v = w_scales[b * QD_TILE + row];
        const qd_w_scales scales = {{v.x, v.x}, {v.y, v.y}};
        term[j] = qd_w_term_of(scales, x.x, x.y, x.z, x.w, qd_words_dot(w_codes[2 * b * QD_TILE + row], lo, x.y),
                               qd_words_dot(w_codes[(2 * b + 1) * QD_TILE + row], hi, x.w));
    }
    return (float4)(term[0], term[1], term[2], term[3]);
}

static void many_rows(__global const uchar *w, QD_IN(x), QD_IN(addend), QD_OUT(y), const int has_addend,
                      const int first, const int count, const int K, const int rows, __local float4 *room) {
    __local uint4 *w_codes = (__local uint4 *)room, *x_codes = w_codes + CODES;
    __local float4 *x_scales = room + 2 * CODES;
    __local float2 *w_scales = (__local float2 *)(x_scales + SCALES);
    const int m = (int)get_local_id(0) / 8, n = (int)get_local_id(0) % 8;
    const int blocks = K / 32, tiles = (count + QD_TILE - 1) / QD_TILE;
    const ulong units = (ulong)((rows + QD_TILE - 1) / QD_TILE) * tiles;
    for (ulong u = get_group_id(0); u < units; u += get_num_groups(0)) {
        const int i = (int)(u % tiles) * QD_TILE, r = (int)(u / tiles) * QD_TILE;
        float4 p[4][4]; /* [row of x][chain], the 4 rows of w side by side */
        QD_UNROLL
        for (int t = 0; t < 16; t++)
            p[t / 4][t % 4] = (float4)0.0f;
        for (int start = 0; start < blocks; start += 4) {
            load_step(w + (ulong)(i / 4) * qd_words_tile_bytes(blocks), count - i, x, x_at, x_stride, rows - r, r,
                      start, blocks, w_codes, w_scales, x_codes, x_scales);
            barrier(CLK_LOCAL_MEM_FENCE);
            QD_UNROLL
            for (int b = 0; b < 4; b++) {
                QD_UNROLL
                for (int t = 0; t < 4; t++)
                    p[t][b] += four_terms(w_codes, w_scales, x_codes, x_scales, b, m + 8 * t, n);
            }
            barrier(CLK_LOCAL_MEM_FENCE); /* the next step writes there */
        }
        QD_UNROLL
        for (int t = 0; t < 4; t++) {
            const int row = r + m + 8 * t;
            const float4 sum = (p[t][0] + p[t][1]) + (p[t][2] + p[t][3]);
            const float v[4] = {sum.x, sum.y, sum.z, sum.w};
            QD_UNROLL
            for (int j = 0; j < 4; j++) {
                const int c = i + n + 8 * j, column = first + c;
                if (c >= count || row >= rows) continue;
                QD_ROW_OUT(float, y, row)[column] = has_addend ? v[j] + QD_ROW(float, addend, row)[column] : v[j];
            }
        }
    }
}

__kernel __attribute__((reqd_work_group_size(QD_GROUP, 1, 1))) void matmul(__global const uchar *w, QD_IN(x),
                                                                           QD_IN(addend), QD_OUT(y),
                                                                           const int has_addend, const int first,
                                                                           const int count, const int K,
                                                                           const int rows) {
    __local float4 room[FEW_ROOM > MANY_ROOM ? FEW_ROOM : MANY_ROOM];
#define ALL w, x, x_at, x_stride, addend, addend_at, addend_stride, y, y_at, y_stride, has_addend, first, count, K, rows
    if (rows < QD_MANY) {
        few_rows(ALL, room);
    } else {
        many_rows(ALL, room);
    }
}
