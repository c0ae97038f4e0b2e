/* Memory as the units see it: operands, beats of 512 bits, and runs of bytes that start anywhere.
 *
 * Weights and activations come in beats, whole and aligned: an operand's memory starts at a multiple of QD_BURST bytes
 * and its size is one, too (cards give out memory so; a host that does not must round up). Bytes of the beats that the
 * operand does not have are read and not used. Results go out byte by byte, in order, so that neighbours stay
 * untouched. */
#ifndef QD_PORTS_H
#define QD_PORTS_H

#include <stddef.h>

#include "hls.h"
#include "qdot_num.h"
#include "qdot_params.h"
#include "shape.h"

typedef struct qd_beat {
    qd_u8 byte[QD_BURST];
} qd_beat;

/* A tensor is a pointer, the byte offset of its first element, and the bytes between its rows. */
#define QD_BEATS_IN(name) const qd_beat *name, const qd_u64 name##_at, const qd_u64 name##_stride
#define QD_WORDS_IN(name) const qd_i32 *name, const qd_u64 name##_at, const qd_u64 name##_stride
#define QD_BYTES_OUT(name) qd_u8 *name, const qd_u64 name##_at, const qd_u64 name##_stride

QD_INLINE qd_i32 qd_at_most(const qd_i32 a, const qd_i32 b) {
    return a < b ? a : b;
}

/* ---- Parameters ------------------------------------------------------------------------------------------------ */

/* A parameter struct in global memory is read as the ints it is made of. */
#define QD_PARAMS_COUNT(type) (sizeof(type) / sizeof(qd_i32))
#define QD_PARAM(raw, type, member) ((raw)[offsetof(type, member) / sizeof(qd_i32)])

QD_INLINE void qd_params_read(const qd_i32 *params, const int count, qd_i32 *raw) {
    for (int i = 0; i < count; i++) {
        HLS_PIPELINE
        raw[i] = params[i];
    }
}

/* ---- Runs of bytes --------------------------------------------------------------------------------------------- */

/** Bytes to … to+n-1 of `line` = the n bytes from byte `at` of the port. One beat a cycle: it is rotated to where its
 * bytes belong (three levels of multiplexers), and each of the line's banks, which are a byte wide, takes its byte of
 * this row or of the next. */
QD_INLINE void qd_run_copy(const qd_beat *port, const qd_u64 at, const int n, qd_u8 line[][QD_BURST], const int to) {
    const qd_u64 first = at / QD_BURST;
    const int skip = (int)(at % QD_BURST), beats = n > 0 ? (skip + n - 1) / QD_BURST + 1 : 0;
    for (int b = 0; b < beats; b++) {
        HLS_PIPELINE
        HLS_TRIPS(16)
        const qd_beat beat = port[first + (qd_u64)b];
        const int base = to - skip + (b + 1) * QD_BURST; /* of byte 0, plus a beat: never negative */
        const int row = base / QD_BURST - 1, shift = base % QD_BURST;
        HLS_UNROLL_BEFORE
        for (int j = 0; j < QD_BURST; j++) {
            HLS_UNROLL_INSIDE
            const int at_row = row + (j < shift ? 1 : 0), position = at_row * QD_BURST + j;
            if (position >= to && position < to + n) line[at_row][j] = beat.byte[(j - shift + QD_BURST) % QD_BURST];
        }
    }
}

/** Bytes to … to+n-1 of `line` = value. */
QD_INLINE void qd_run_fill(qd_u8 line[][QD_BURST], const int to, const int n, const qd_u8 value) {
    for (int row = to / QD_BURST; row * QD_BURST < to + n; row++) {
        HLS_PIPELINE
        HLS_TRIPS(16)
        HLS_UNROLL_BEFORE
        for (int j = 0; j < QD_BURST; j++) {
            HLS_UNROLL_INSIDE
            const int position = row * QD_BURST + j;
            if (position >= to && position < to + n) line[row][j] = value;
        }
    }
}

/** A beat from any byte of a line on: the same multiplexers the other way round. Bytes beyond the line's end are any.
 */
QD_INLINE qd_beat qd_line_read(qd_u8 line[][QD_BURST], const int rows, const int from) {
    const int row = from / QD_BURST, shift = from % QD_BURST;
    qd_beat bank, beat;
    HLS_UNROLL_BEFORE
    for (int j = 0; j < QD_BURST; j++) {
        HLS_UNROLL_INSIDE
        const int at_row = row + (j < shift ? 1 : 0);
        bank.byte[j] = line[at_row < rows ? at_row : 0][j];
    }
    HLS_UNROLL_BEFORE
    for (int j = 0; j < QD_BURST; j++) {
        HLS_UNROLL_INSIDE
        beat.byte[j] = bank.byte[(j + shift) % QD_BURST];
    }
    return beat;
}

/* ---- Results ---------------------------------------------------------------------------------------------------- */

/** Stores a result's `bytes` bytes from byte `at` on. */
QD_INLINE void qd_result_put(qd_u8 *y, const qd_u64 at, const qd_i32 result, const int bytes) {
    for (int b = 0; b < bytes; b++) {
        HLS_PIPELINE
        HLS_TRIPS(4)
        y[at + (qd_u64)b] = (qd_u8)((qd_u32)result >> (8 * b));
    }
}

#endif
