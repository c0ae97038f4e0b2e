/* MATMUL of blocked weights and A8 activations as a pipeline. Columns of x are its rows.
 *
 *   w ═512═► read_weights ═► weights [QD_PE][16 blocks] ═══╗
 *                                                          ╠═► multiply: half a block a cycle ──sums──► add_up ──►
 * write_rows ─► y x ═512═► read_columns ═► columns [QD_TOKENS][16 blocks]╝            integers                   floats
 *
 * Floats are added in the reference's order: the two halves of a block, then the blocks in four partial sums, each in
 * turn, and these as (p0 + p1) + (p2 + p3). A partial sum is needed again only four blocks later, at half a block a
 * cycle 8 cycles: as long as an adder takes. */
#include "ports.h"
#include "tops.h"

/* Bytes of a block of 32 weights: -DQD_W_Q8_0, -DQD_W_Q4_1 or -DQD_W_Q4_0, the default. */
#if defined(QD_W_Q8_0)
#define QD_W_BYTES 34
#elif defined(QD_W_Q4_1)
#define QD_W_BYTES 20
#else
#define QD_W_BYTES 18
#endif
/* Of as many activations: two A8 blocks. */
#define QD_X_BYTES 48
/* Blocks of a step; a multiple of the partial sums. Rows of local memory for them. */
#ifndef QD_BLOCKS
#define QD_BLOCKS 16
#endif
#define QD_ROWS_OF(bytes) ((QD_BLOCKS * (bytes) + QD_BURST - 1) / QD_BURST)

/* What a step works on. */
typedef struct turn {
    qd_i32 column, columns, out, outs, block, blocks; /* the first of each, and how many */
    qd_i32 last;                                      /* of these columns and outs */
} turn;

typedef struct job {
    qd_i32 rows, count, blocks, first, has_addend;
} job;

/* Gives the step to each stage, and moves on: blocks first, then outs, columns. */
static void next_turn(const job *j, turn *at, turn *weights, turn *columns, turn *products, turn *sums, turn *addends,
                      turn *write) {
    HLS_STAGE
    turn now = *at;
    now.columns = qd_at_most(QD_TOKENS, j->rows - now.column);
    now.outs = qd_at_most(QD_PE, j->count - now.out);
    now.blocks = qd_at_most(QD_BLOCKS, j->blocks - now.block);
    now.last = now.block + now.blocks == j->blocks;
    *weights = *columns = *products = *sums = *addends = *write = now;
    at->block += QD_BLOCKS;
    if (at->block >= j->blocks) {
        at->block = 0;
        at->out += QD_PE;
    }
    if (at->out >= j->count) {
        at->out = 0;
        at->column += QD_TOKENS;
    }
}

static void read_weights(const job *j, const turn *s, const qd_beat *w,
                         qd_u8 weights[QD_PE][QD_ROWS_OF(QD_W_BYTES)][QD_BURST]) {
    HLS_STAGE
    for (int q = 0; q < s->outs; q++) {
        HLS_TRIPS(QD_PE)
        const qd_u64 block = (qd_u64)(s->out + q) * (qd_u64)j->blocks + (qd_u64)s->block;
        qd_run_copy(w, block * QD_W_BYTES, s->blocks * QD_W_BYTES, weights[q], 0);
    }
}

static void read_columns(const turn *s, QD_BEATS_IN(x), qd_u8 columns[QD_TOKENS][QD_ROWS_OF(QD_X_BYTES)][QD_BURST]) {
    HLS_STAGE
    for (int t = 0; t < s->columns; t++) {
        HLS_TRIPS(QD_TOKENS)
        qd_run_copy(x, x_at + (qd_u64)(s->column + t) * x_stride + (qd_u64)s->block * QD_X_BYTES,
                    s->blocks * QD_X_BYTES, columns[t], 0);
    }
}

/* ---- Integers --------------------------------------------------------------------------------------------------- */

/* Of one block of a column: of its halves, d and sum of x, and with each output channel the sum of products; the
 * channel's scale and minimum. */
typedef struct block_sums {
    qd_f32 x_d[2], x_sum[2];
    qd_i32 product[QD_PE][2];
    qd_f32 d[QD_PE], min[QD_PE];
} block_sums;

static inline qd_u32 word_at(const qd_beat *b, const int at) {
    return (qd_u32)b->byte[at] | (qd_u32)b->byte[at + 1] << 8 | (qd_u32)b->byte[at + 2] << 16 |
           (qd_u32)b->byte[at + 3] << 24;
}

static inline qd_f32 half_at(const qd_beat *b, const int at) {
    return qd_half_to_float((qd_u16)(b->byte[at] | b->byte[at + 1] << 8));
}

/* Code v of half h of a block. */
static inline qd_i32 code_at(const qd_beat *b, const int h, const int v) {
#if defined(QD_W_Q8_0)
    return (qd_i8)b->byte[2 + 16 * h + v];
#else
    const qd_u8 byte = b->byte[QD_W_BYTES - 16 + v];
    const qd_i32 code = h ? byte >> 4 : byte & 15;
#ifdef QD_W_Q4_1
    return code;
#else
    return code - 8;
#endif
#endif
}

static void multiply(const turn *s, qd_u8 weights[QD_PE][QD_ROWS_OF(QD_W_BYTES)][QD_BURST],
                     qd_u8 columns[QD_TOKENS][QD_ROWS_OF(QD_X_BYTES)][QD_BURST],
                     block_sums sums[QD_BLOCKS * QD_TOKENS]) {
    HLS_STAGE
    int t = 0, b = 0, h = 0, n = 0;
    block_sums sum;
    qd_beat w[QD_PE]; /* the block, which all columns meet */
    HLS_PARTITION(w, 1)
    for (int i = 0; i < 2 * s->blocks * s->columns; i++) {
        HLS_PIPELINE
        HLS_TRIPS(256)
        const qd_beat x = qd_line_read(columns[t], QD_ROWS_OF(QD_X_BYTES), b * QD_X_BYTES + h * QD_X_BYTES / 2);
        sum.x_d[h] = qd_as_f32(word_at(&x, 0));
        sum.x_sum[h] = qd_as_f32(word_at(&x, 4));
        HLS_UNROLL_BEFORE
        for (int q = 0; q < QD_PE; q++) {
            HLS_UNROLL_INSIDE
            qd_i32 products = 0;
            if (t == 0 && h == 0) w[q] = qd_line_read(weights[q], QD_ROWS_OF(QD_W_BYTES), b * QD_W_BYTES);
            HLS_UNROLL_BEFORE
            for (int v = 0; v < 16; v++) {
                HLS_UNROLL_INSIDE
                products += code_at(&w[q], h, v) * (qd_i8)x.byte[8 + v];
            }
            sum.product[q][h] = products;
            sum.d[q] = half_at(&w[q], 0);
#ifdef QD_W_Q4_1
            sum.min[q] = half_at(&w[q], 2);
#else
            sum.min[q] = 0.0f;
#endif
        }
        if (h) sums[n++] = sum;
        /* Columns go round faster than blocks: a partial sum is the farther from its next use. */
        h = !h;
        if (!h && ++t == s->columns) {
            t = 0;
            b++;
        }
    }
}

/* ---- Floats ----------------------------------------------------------------------------------------------------- */

/* Scales a step's sums, and adds them to the partial sums of its columns and channels; after the last step, their bits.
 */
static void add_up(const job *j, const turn *s, const block_sums sums[QD_BLOCKS * QD_TOKENS],
                   qd_f32 addends[QD_TOKENS][QD_PE], qd_f32 partial[QD_BLOCK_LANES][QD_TOKENS][QD_PE],
                   qd_i32 results[QD_TOKENS * QD_PE]) {
    HLS_STAGE
    int t = 0, b = 0;
    for (int n = 0; n < s->blocks * s->columns; n++) {
        HLS_PIPELINE
        HLS_TRIPS(128)
        HLS_APART(partial, 4)
        const block_sums sum = sums[n];
        const int lane = b % QD_BLOCK_LANES;
        HLS_UNROLL_BEFORE
        for (int q = 0; q < QD_PE; q++) {
            HLS_UNROLL_INSIDE
            const qd_f32 products = sum.x_d[0] * (qd_f32)sum.product[q][0] + sum.x_d[1] * (qd_f32)sum.product[q][1];
            const qd_f32 before = s->block + b < QD_BLOCK_LANES ? 0.0f : partial[lane][t][q];
#ifdef QD_W_Q4_1
            partial[lane][t][q] =
                before + (sum.d[q] * products + sum.min[q] * (sum.x_d[0] * sum.x_sum[0] + sum.x_d[1] * sum.x_sum[1]));
#else
            partial[lane][t][q] = before + sum.d[q] * products;
#endif
        }
        if (++t == s->columns) {
            t = 0;
            b++;
        }
    }
    for (int n = 0, q = 0, c = 0; s->last && n < s->columns * s->outs; n++) {
        HLS_PIPELINE
        HLS_TRIPS(32)
        qd_f32 p[QD_BLOCK_LANES], sum;
        HLS_UNROLL_BEFORE
        for (int l = 0; l < QD_BLOCK_LANES; l++) {
            HLS_UNROLL_INSIDE
            p[l] = l < j->blocks ? partial[l][c][q] : 0.0f;
        }
        sum = (p[0] + p[1]) + (p[2] + p[3]);
        if (j->has_addend) sum += addends[c][q];
        results[n] = (qd_i32)qd_as_u32(sum);
        if (++q == s->outs) {
            q = 0;
            c++;
        }
    }
}

static void read_addends(const job *j, const turn *s, QD_WORDS_IN(addend), qd_f32 addends[QD_TOKENS][QD_PE]) {
    HLS_STAGE
    for (int t = 0; t < QD_TOKENS; t++) {
        for (int q = 0; q < QD_PE; q++) {
            HLS_PIPELINE
            const qd_u64 row = addend_at + (qd_u64)(s->column + t) * addend_stride;
            const int is_there = j->has_addend && s->last && t < s->columns && q < s->outs;
            addends[t][q] =
                is_there ? qd_as_f32((qd_u32)addend[row / sizeof(qd_i32) + (qd_u64)(j->first + s->out + q)]) : 0.0f;
        }
    }
}

static void write_rows(const job *j, const turn *s, const qd_i32 results[QD_TOKENS * QD_PE], QD_BYTES_OUT(y)) {
    HLS_STAGE
    const int outs = s->last ? s->outs : 0;
    int n = 0;
    for (int t = 0; t < s->columns; t++) {
        HLS_TRIPS(QD_TOKENS)
        const qd_u64 row = y_at + (qd_u64)(s->column + t) * y_stride;
        for (int q = 0; q < outs; q++) {
            HLS_TRIPS(QD_PE)
            qd_result_put(y, row + (qd_u64)(j->first + s->out + q) * sizeof(qd_f32), results[n++], sizeof(qd_f32));
        }
    }
}

/* One step through all stages. `at` and `partial` are kept from one step to the next, each by one stage. */
static void step(const job *j, turn *at, qd_f32 partial[QD_BLOCK_LANES][QD_TOKENS][QD_PE], const qd_beat *w,
                 QD_BEATS_IN(x), QD_WORDS_IN(addend), QD_BYTES_OUT(y)) {
    HLS_STAGES
    turn for_weights, for_columns, for_products, for_sums, for_addends, for_write;
    qd_u8 weights[QD_PE][QD_ROWS_OF(QD_W_BYTES)][QD_BURST], columns[QD_TOKENS][QD_ROWS_OF(QD_X_BYTES)][QD_BURST];
    block_sums sums[QD_BLOCKS * QD_TOKENS];
    qd_f32 addends[QD_TOKENS][QD_PE];
    qd_i32 results[QD_TOKENS * QD_PE];
    HLS_PARTITION(weights, 1)
    HLS_PARTITION(weights, 3)
    HLS_PARTITION(columns, 3)
    HLS_FIFO(sums, 8)
    HLS_FIFO(results, 16)
    next_turn(j, at, &for_weights, &for_columns, &for_products, &for_sums, &for_addends, &for_write);
    read_weights(j, &for_weights, w, weights);
    read_columns(&for_columns, x, x_at, x_stride, columns);
    read_addends(j, &for_addends, addend, addend_at, addend_stride, addends);
    multiply(&for_products, weights, columns, sums);
    add_up(j, &for_sums, sums, addends, partial, results);
    write_rows(j, &for_write, results, y, y_at, y_stride);
}

void matmul(const qd_beat *w, QD_BEATS_IN(x), QD_WORDS_IN(addend), QD_BYTES_OUT(y), const int has_addend,
            const int first, const int count, const int K, const int rows) {
    HLS_READS(w, 16, 16)
    HLS_IN(x, 16, 16)
    HLS_IN(addend, 8, 4)
    HLS_OUT(y, 16, 16)
    HLS_SCALAR(has_addend)
    HLS_SCALAR(first)
    HLS_SCALAR(count)
    HLS_SCALAR(K)
    HLS_SCALAR(rows)
    HLS_CONTROL
    const job j = {rows, count, K / 32, first, has_addend};
    turn at = {0, 0, 0, 0, 0, 0, 0};
    qd_f32 partial[QD_BLOCK_LANES][QD_TOKENS][QD_PE];
    HLS_PARTITION(partial, 3)
    const qd_u64 steps = (qd_u64)((rows + QD_TOKENS - 1) / QD_TOKENS) * (qd_u64)((count + QD_PE - 1) / QD_PE) *
                         (qd_u64)((j.blocks + QD_BLOCKS - 1) / QD_BLOCKS);
    for (qd_u64 n = 0; n < steps; n++) {
        HLS_OVERLAP
        HLS_TRIPS(1024)
        step(&j, &at, partial, w, x, x_at, x_stride, addend, addend_at, addend_stride, y, y_at, y_stride);
    }
}
