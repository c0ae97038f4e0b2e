/* MATMUL_INT for codes of at most 8 bits on a GPU, with the packed dot product (features.h). Operands as in
 * ../matmul_int.cl. Codes become signed bytes on their way in, w' = w - 128 and x' = x - 128 where they are u8, and so
 * do their zero points: Σ(w - wz)(x - xz) = Σ w'x' - xz' · Σ w' - wz' · Σ x' + K · wz' · xz'.
 *
 * Many rows of x: a group makes a tile of y, in steps of QD_K codes of K.
 *
 *                              channels  n, n + 8, n + 16 …              local memory, rows of QD_PITCH words:
 *              w  [ 64 rows × 64 codes ]                                  16 words of codes, 4 that stay empty, so that
 *   x             +--------------------+                                  the 8 rows that neighbours read by 16 bytes
 *   [ 32 rows  ]  |  y: item (m, n)    |  QD_TM × QD_TN sums, in registers   are in different banks
 *   [ 64 codes ]  |  of 8 × 8          |  rows m, m + 8 …
 *                 +--------------------+
 *
 *   Loads: 4 neighbours read 64 neighbouring bytes of a row, 16 each (one by one where a row does not begin at a
 * multiple of 16). Of QD_TM + QD_TN words from local memory come QD_TM · QD_TN products of four bytes. End: bias and
 * requantization in registers; the tile's codes gather in local memory, in the place of the operands, and go to y row
 * by row in words of 4 bytes, neighbours side by side.
 *
 * Few rows (QD_TOKENS), or sums of 64 bits: 16 work-items share a channel, so that they read 256 neighbouring bytes of
 * w, and add up what they have through local memory. */
#define QD_SIDE_BY_SIDE
#include "codes.h"
#include "gpu/features.h"

#define QD_GROUP 64
/* Sums of a work-item: rows of x, channels. More need fewer loads for each product, and more registers and rows. */
#ifndef QD_TM
#define QD_TM 4
#endif
#ifndef QD_TN
#define QD_TN 8
#endif
#define ROWS (8 * QD_TM)
#define CHANNELS (8 * QD_TN)
/* Codes of K in one step, a multiple of 16. */
#ifndef QD_K
#define QD_K 64
#endif
#define QD_PITCH (QD_K / 4 + 4)
/* Rows of x that share what is read of w, where there are few. */
#define QD_TOKENS 4

/* Words of local memory: operands of a step with the sums of their rows; results, of up to 4 bytes; sums of 64 bits. */
#define OPERANDS ((ROWS + CHANNELS) * QD_PITCH)
#define RESULTS (ROWS * CHANNELS)
#define ROOM (OPERANDS > RESULTS ? OPERANDS : RESULTS)

/* What is taken from codes to make them signed bytes. */
#define CENTRE(code) ((code) == QD_CODE(8, 0) ? 128 : 0)

/* Whether all rows begin at multiples of 16 bytes, and codes are bytes. */
static inline int whole_words(__global const uchar *row, const ulong stride, const int code) {
    return QD_CODE_BITS(code) == 8 && (((ulong)row | stride) & 15) == 0;
}

/* Codes k … k+15 of a row of k_end as signed bytes, zeros beyond. */
static inline uint4 sixteen(__global const uchar *row, const int k, const int k_end, const int code, const int whole) {
    if (whole && k + 16 <= k_end) return *(__global const uint4 *)(row + k) ^ (QD_CODE_SIGNED(code) ? 0u : 0x80808080u);
    return as_uint4(convert_char16(qd_codes16(row, k, k_end, code, CENTRE(code))));
}

static inline int dot16(const uint4 a, const uint4 b, const int sum) {
    return qd_dot4_ss(a.w, b.w, qd_dot4_ss(a.z, b.z, qd_dot4_ss(a.y, b.y, qd_dot4_ss(a.x, b.x, sum))));
}

/* Zero point of channel or row i of a signed byte; 0 where there is no such row. */
static inline int zero_of(__global const uchar *zeros, const int share, const ulong i, const int code,
                          const int there) {
    return there ? qd_zero_at(zeros, share, i, code) - CENTRE(code) : 0;
}

/* Rows of one w: all of them, or those of a batch. */
static inline int rows_together(const qd_matmul_int_params *p, const int rows) {
    return p->batched ? p->m : rows * p->m;
}

/* QD_TOKENS rows of x from the unit's first on, four channels. */
static void few_rows(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                     const qd_matmul_int_params *p, const int rows, __local long (*share)[QD_GROUP]) {
    const int item = (int)get_local_id(0), lane = item % 16;
    const int together = rows_together(p, rows);
    const int tiles = (p->count + 3) / 4, groups = (together + QD_TOKENS - 1) / QD_TOKENS;
    const int w_whole = whole_words(w + w_at, w_stride, p->w_code);
    const int x_whole = whole_words(x + x_at, x_stride, p->x_code);
    const uint4 ones = (uint4)0x01010101u;
    for (ulong u = get_group_id(0); u < (ulong)(p->batched ? rows : 1) * groups * tiles; u += get_num_groups(0)) {
        const int i = (int)(u % tiles) * 4 + item / 16;
        const int batch = (int)(u / tiles / groups), first = (int)(u / tiles % groups) * QD_TOKENS;
        const int tokens = min(QD_TOKENS, together - first);
        const ulong r = (ulong)batch * together + first;
        long sum[QD_TOKENS], sum_x[QD_TOKENS], sum_w = 0;
        for (int t = 0; t < QD_TOKENS; t++)
            sum[t] = sum_x[t] = 0;
        for (int k = 16 * lane; k < p->k && i < p->count; k += 256) {
            const uint4 a = sixteen(QD_ROW(uchar, w, (ulong)batch * p->n + i), k, p->k, p->w_code, w_whole);
            sum_w += dot16(a, ones, 0);
            for (int t = 0; t < QD_TOKENS; t++) {
                if (t >= tokens) break;
                const uint4 b = sixteen(QD_ROW(uchar, x, r + t), k, p->k, p->x_code, x_whole);
                sum[t] += dot16(a, b, 0);
                sum_x[t] += dot16(b, ones, 0);
            }
        }
        const long wz = zero_of(QD_ROW(uchar, w_zero, 0), p->w_zero, p->first + i, p->w_code, i < p->count);
        for (int t = 0; t < QD_TOKENS; t++) {
            const long xz = zero_of(QD_ROW(uchar, x_zero, 0), p->x_zero, r + t, p->x_code, t < tokens);
            share[t][item] = sum[t] - xz * sum_w - wz * sum_x[t] + (lane == 0 ? p->k * wz * xz : 0);
        }
        for (int step = 8; step > 0; step /= 2) {
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int t = 0; t < QD_TOKENS; t++) {
                if (lane < step) share[t][item] += share[t][item + step];
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < tokens && i < p->count) {
            uint total = (uint)qd_saturate_i32(share[lane][item - lane]);
            if (p->bias != QD_ABSENT) total += (uint)QD_ROW(int, bias, 0)[p->first + i];
            const int code = qd_finish(&p->y, QD_ROW(uchar, requant, 0), p->first + i, (int)total);
            qd_put_code(QD_ROW_OUT(uchar, y, r + lane), p->first + i, p->y.code, code);
        }
        barrier(CLK_LOCAL_MEM_FENCE); /* the next unit writes its shares */
    }
}

/* Codes of `count` rows from `first` on, those of step k, to local memory. */
static inline void load_rows(__global const uchar *first, const ulong stride, const int count, const int k,
                             const int k_end, const int code, const int whole, const int most, __local uint *to) {
    for (int l = (int)get_local_id(0); l < most * (QD_K / 16); l += QD_GROUP) {
        const int row = l / (QD_K / 16), part = l % (QD_K / 16);
        const int at = k + 16 * part;
        uint4 v = (uint4)0u;
        if (row < count && at < k_end) v = sixteen(first + row * stride, at, k_end, code, whole);
        ((__local uint4 *)(to + row * QD_PITCH))[part] = v;
    }
}

static inline int sum_of_row(__local const uint *row) {
    int sum = 0;
    for (int part = 0; part < QD_K / 16; part++)
        sum = dot16(((__local const uint4 *)row)[part], (uint4)0x01010101u, sum);
    return sum;
}

/* `rows` lines of `bytes` bytes that stand side by side in local memory, to rows of y. */
static inline void store_rows(__local const uint *from, const int bytes, const int pitch, __global uchar *to,
                              const ulong stride, const int rows) {
    const int whole = (((ulong)to | stride) & 3) == 0;
    for (int l = (int)get_local_id(0); l < rows * (pitch / 4); l += QD_GROUP) {
        const int row = l / (pitch / 4), at = l % (pitch / 4) * 4;
        __global uchar *word = to + row * stride + at;
        if (whole && at + 4 <= bytes) {
            *(__global uint *)word = from[l];
        } else {
            for (int b = 0; b < 4 && at + b < bytes; b++)
                word[b] = (uchar)(from[l] >> 8 * b);
        }
    }
}

static inline void put_local(__local uint *room, const int i, const int bytes, const int code) {
    if (bytes == 1) {
        ((__local uchar *)room)[i] = (uchar)code;
    } else if (bytes == 2) {
        ((__local ushort *)room)[i] = (ushort)code;
    } else {
        room[i] = (uint)code;
    }
}

static void many_rows(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                      const qd_matmul_int_params *p, const int rows, __local uint *room, __local int *sums) {
    const int item = (int)get_local_id(0), m = item / 8, n = item % 8;
    const int together = rows_together(p, rows);
    const int tiles = (p->count + CHANNELS - 1) / CHANNELS, groups = (together + ROWS - 1) / ROWS;
    const int w_whole = whole_words(w + w_at, w_stride, p->w_code);
    const int x_whole = whole_words(x + x_at, x_stride, p->x_code);
    __local uint *w_tile = room, *x_tile = room + CHANNELS * QD_PITCH;
    for (ulong u = get_group_id(0); u < (ulong)(p->batched ? rows : 1) * groups * tiles; u += get_num_groups(0)) {
        const int i = (int)(u % tiles) * CHANNELS, channels = min(CHANNELS, p->count - i);
        const int batch = (int)(u / tiles / groups), first = (int)(u / tiles % groups) * ROWS;
        const int here = min(ROWS, together - first);
        const ulong r = (ulong)batch * together + first;
        int acc[QD_TM][QD_TN];
        QD_UNROLL
        for (int a = 0; a < QD_TM; a++) {
            QD_UNROLL
            for (int b = 0; b < QD_TN; b++)
                acc[a][b] = 0;
        }
        for (int j = item; j < CHANNELS + ROWS; j += QD_GROUP)
            sums[j] = 0;
        for (int k = 0; k < p->k; k += QD_K) {
            load_rows(QD_ROW(uchar, w, (ulong)batch * p->n + i), w_stride, channels, k, p->k, p->w_code, w_whole,
                      CHANNELS, w_tile);
            load_rows(QD_ROW(uchar, x, r), x_stride, here, k, p->k, p->x_code, x_whole, ROWS, x_tile);
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int j = item; j < CHANNELS + ROWS; j += QD_GROUP) /* rows of w, then those of x: one after the other */
                sums[j] += sum_of_row(room + j * QD_PITCH);
            for (int part = 0; part < QD_K / 16; part++) {
                uint4 xs[QD_TM];
                QD_UNROLL
                for (int a = 0; a < QD_TM; a++)
                    xs[a] = ((__local const uint4 *)(x_tile + (m + 8 * a) * QD_PITCH))[part];
                QD_UNROLL
                for (int b = 0; b < QD_TN; b++) {
                    const uint4 ws = ((__local const uint4 *)(w_tile + (n + 8 * b) * QD_PITCH))[part];
                    QD_UNROLL
                    for (int a = 0; a < QD_TM; a++)
                        acc[a][b] = dot16(ws, xs[a], acc[a][b]);
                }
            }
            barrier(CLK_LOCAL_MEM_FENCE); /* the next step writes there */
        }
        const int bytes = QD_CODE_BITS(p->y.code) / 8;
        QD_UNROLL
        for (int b = 0; b < QD_TN; b++) {
            const int c = n + 8 * b;
            const uint wz =
                (uint)zero_of(QD_ROW(uchar, w_zero, 0), p->w_zero, p->first + i + c, p->w_code, c < channels);
            QD_UNROLL
            for (int a = 0; a < QD_TM; a++) {
                const int t = m + 8 * a;
                if (c >= channels || t >= here) continue;
                const uint xz = (uint)zero_of(QD_ROW(uchar, x_zero, 0), p->x_zero, r + t, p->x_code, 1);
                /* Words that may overflow on the way, but not in the end. */
                uint total =
                    (uint)acc[a][b] - xz * (uint)sums[c] - wz * (uint)sums[CHANNELS + t] + (uint)p->k * wz * xz;
                if (p->bias != QD_ABSENT) total += (uint)QD_ROW(int, bias, 0)[p->first + i + c];
                const int code = qd_finish(&p->y, QD_ROW(uchar, requant, 0), p->first + i + c, (int)total);
                put_local(room, t * CHANNELS + c, bytes, code);
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        store_rows(room, channels * bytes, CHANNELS * bytes, QD_ROW_OUT(uchar, y, r) + (ulong)(p->first + i) * bytes,
                   y_stride, here);
        barrier(CLK_LOCAL_MEM_FENCE); /* the next unit writes to `room` and `sums` */
    }
}

__kernel __attribute__((reqd_work_group_size(QD_GROUP, 1, 1))) void matmul_int(QD_IN(w), QD_IN(x), QD_IN(w_zero),
                                                                               QD_IN(x_zero), QD_IN(bias),
                                                                               QD_IN(requant), QD_OUT(y),
                                                                               const qd_matmul_int_params p,
                                                                               const int rows) {
    __local uint4 room[(ROOM + 3) / 4];
    __local int sums[CHANNELS + ROWS];
#define ALL                                                                                                         \
    w, w_at, w_stride, x, x_at, x_stride, w_zero, w_zero_at, w_zero_stride, x_zero, x_zero_at, x_zero_stride, bias, \
        bias_at, bias_stride, requant, requant_at, requant_stride, y, y_at, y_stride, &p, rows
    if (p.wide || rows_together(&p, rows) <= QD_TOKENS) {
        few_rows(ALL, (__local long(*)[QD_GROUP])room);
    } else {
        many_rows(ALL, (__local uint *)room, sums);
    }
}
