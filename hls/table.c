/* TABLE: y = table[x - lowest code of x's format], for codes of 8 bits; a beat of codes in a cycle.
 *
 *   x ═512═► read ═► look up: QD_BURST copies of the table ═► write ═512═► y
 *
 * x, y: one row of rows · size codes. A step is the part of it that lies in some whole beats of y, so that all beats of
 * y but the first and the last are written at once. */
#include "ports.h"
#include "tops.h"

/* Beats of a step. */
#define QD_BEATS 16

/* What a step works on: bytes from … from+count-1 of x and y; the first goes to byte `to` of the step's beats of y. */
typedef struct part {
    qd_u64 from;
    qd_i32 to, count;
} part;

/* Part n of `size` bytes whose first has y's address. */
static inline part part_of(const qd_u64 n, const qd_u64 size, const qd_u64 y_at) {
    const qd_u64 bytes = QD_BEATS * QD_BURST, skip = y_at % QD_BURST, start = n * bytes, end = start + bytes;
    part p;
    p.from = n ? start - skip : 0;
    p.to = n ? 0 : (qd_i32)skip;
    p.count = (qd_i32)((end < skip + size ? end : skip + size) - skip - p.from);
    return p;
}

static void read_codes(const qd_u64 n, const qd_u64 size, const qd_u64 y_at, const qd_beat *x, const qd_u64 x_at,
                       qd_u8 codes[QD_BEATS][QD_BURST]) {
    HLS_STAGE
    const part p = part_of(n, size, y_at);
    qd_run_copy(x, x_at + p.from, p.count, codes, p.to);
}

static void look_up(const qd_u64 n, const qd_u64 size, const qd_u64 y_at, const qd_u8 flip, qd_u8 tables[QD_BURST][256],
                    qd_u8 codes[QD_BEATS][QD_BURST], qd_u8 results[QD_BEATS][QD_BURST]) {
    HLS_STAGE
    const part p = part_of(n, size, y_at);
    for (int b = 0; b * QD_BURST < p.to + p.count; b++) {
        HLS_PIPELINE
        HLS_TRIPS(16)
        HLS_UNROLL_BEFORE
        for (int j = 0; j < QD_BURST; j++) {
            HLS_UNROLL_INSIDE
            const int at = b * QD_BURST + j;
            if (at >= p.to && at < p.to + p.count) results[b][j] = tables[j][codes[b][j] ^ flip];
        }
    }
}

static void write_codes(const qd_u64 n, const qd_u64 size, qd_u8 results[QD_BEATS][QD_BURST], qd_u8 *y,
                        const qd_u64 y_at) {
    HLS_STAGE
    const part p = part_of(n, size, y_at);
    const qd_u64 beats = (y_at + p.from) / QD_BURST * QD_BURST; /* the step's first byte */
    for (int b = 0; b * QD_BURST < p.to + p.count; b++) {
        HLS_TRIPS(16)
        const int at = b * QD_BURST, end = p.to + p.count;
        if (at >= p.to && at + QD_BURST <= end) {
            HLS_UNROLL_BEFORE
            for (int j = 0; j < QD_BURST; j++) {
                HLS_UNROLL_INSIDE
                y[beats + (qd_u64)(at + j)] = results[b][j];
            }
        } else {
            for (int j = 0; j < QD_BURST; j++) {
                HLS_PIPELINE
                if (at + j >= p.to && at + j < end) y[beats + (qd_u64)(at + j)] = results[b][j];
            }
        }
    }
}

/* One step through all stages. */
static void step(const qd_u64 n, const qd_u64 size, const qd_u8 flip, qd_u8 tables[QD_BURST][256], const qd_beat *x,
                 const qd_u64 x_at, qd_u8 *y, const qd_u64 y_at) {
    HLS_STAGES
    qd_u8 codes[QD_BEATS][QD_BURST], results[QD_BEATS][QD_BURST];
    HLS_PARTITION(codes, 2)
    HLS_PARTITION(results, 2)
    read_codes(n, size, y_at, x, x_at, codes);
    look_up(n, size, y_at, flip, tables, codes, results);
    write_codes(n, size, results, y, y_at);
}

void table(QD_BEATS_IN(x), QD_BEATS_IN(table), QD_BYTES_OUT(y), const int *params, const int rows) {
    HLS_IN(x, 16, 16)
    HLS_IN(table, 16, 1)
    HLS_OUT(y, 16, 16)
    HLS_READS(params, 2, 1)
    HLS_SCALAR(rows)
    HLS_CONTROL
    qd_i32 raw[QD_PARAMS_COUNT(qd_table_params)];
    qd_u8 once[256 / QD_BURST][QD_BURST], tables[QD_BURST][256];
    HLS_PARTITION(raw, 1)
    HLS_PARTITION(tables, 1)
    qd_params_read(params, QD_PARAMS_COUNT(qd_table_params), raw);
    qd_run_copy(table, table_at, 256, once, 0);
    for (int i = 0; i < 256; i++) {
        HLS_PIPELINE
        HLS_UNROLL_BEFORE
        for (int j = 0; j < QD_BURST; j++) {
            HLS_UNROLL_INSIDE
            tables[j][i] = once[i / QD_BURST][i % QD_BURST];
        }
    }
    const qd_u64 size = (qd_u64)rows * (qd_u64)QD_PARAM(raw, qd_table_params, size);
    const qd_u64 bytes = size ? y_at % QD_BURST + size : 0,
                 steps = (bytes + QD_BEATS * QD_BURST - 1) / (QD_BEATS * QD_BURST);
    const qd_u8 flip = QD_PARAM(raw, qd_table_params, x_signed) ? 128 : 0; /* a signed code minus -128, as a byte */
    for (qd_u64 n = 0; n < steps; n++) {
        HLS_OVERLAP
        HLS_TRIPS(1024)
        step(n, size, flip, tables, x, x_at, y, y_at);
    }
    (void)x_stride, (void)table_stride, (void)y_stride;
}
