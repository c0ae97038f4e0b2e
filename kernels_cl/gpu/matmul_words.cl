/* y = x · wᵀ (+ addend) for blocked weights and A8 activations, as matmul_blocks.cl, for few rows of x: weights are
 * read once, at the speed of memory, from the WORDS4 layout (words4.h).
 *
 *   w tiles of 4 rows (-DQD_W_<FORMAT>), output columns first … first+count-1
 *   x A8 [rows, K], addend F32 [rows, N] or one row for all (stride 0), y F32 [rows, N]
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

__kernel __attribute__((reqd_work_group_size(QD_GROUP, 1, 1))) void matmul(__global const uchar *w, QD_IN(x),
                                                                           QD_IN(addend), QD_OUT(y),
                                                                           const int has_addend, const int first,
                                                                           const int count, const int K,
                                                                           const int rows) {
    __local float4 all_terms[TEAMS][QD_TOKENS * 4 * QD_PITCH / 4]; /* [row of x][row of w][block] */
    __local float4 all_sums[TEAMS][QD_TOKENS * 4];
    const int blocks = K / 32, tiles = (count + 3) / 4;
    const ulong units = (ulong)((rows + QD_TOKENS - 1) / QD_TOKENS) * tiles;
    const int member = MEMBER, members = MEMBERS;
    if (TEAM >= TEAMS) return;
    __local float4 *terms = all_terms[TEAM], *sums = all_sums[TEAM];
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
