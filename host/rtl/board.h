/* What a board does with the unit of hls/rtl: writes its registers, feeds its streams, takes its results. In cycles. */
#ifndef QDOT_RTL_BOARD_H
#define QDOT_RTL_BOARD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"
#include "rtl/model.h"

/* Registers (hls/rtl/README.md). */
enum {
    RTL_ID = 0x00,
    RTL_SHAPE = 0x04,
    RTL_LIMITS = 0x08,
    RTL_STATUS = 0x10,
    RTL_SIZE = 0x20,
    RTL_TILE = 0x24,
    RTL_ZEROS = 0x28,
    RTL_CODES = 0x2c,
    RTL_COMMAND = 0x30,
    RTL_COUNTERS = 0x40
};
#define RTL_ID_VALUE 0x51444d32u

/* Flags of RTL_COMMAND. */
enum {
    RTL_INT4 = 1,
    RTL_W_SIGNED = 2,
    RTL_X_SIGNED = 4,
    RTL_GEMMLOWP = 8,
    RTL_RAW = 16,
    RTL_LOAD_W = 32,
    RTL_LOAD_X = 64,
    RTL_LOAD_C = 128,
    RTL_FIRST = 256,
    RTL_LAST = 512,
    RTL_STEP_W = 1024
};

typedef struct rtl_shape {
    int rows, cols, lanes, quants;
    int w_words, x_words; /* in a bank */
    int w_beats, x_beats; /* to a word */
} rtl_shape;

typedef struct rtl_command {
    uint32_t words, groups, channels, edge;
    int32_t x_zero, zero, min, max;
    uint32_t flags;
} rtl_command;

/** One channel of the stream c. */
typedef struct rtl_channel {
    int32_t bias, a;
    int8_t b;
    int16_t w_zero; /* of 9 bits */
} rtl_channel;

/** Bytes or commands that grow. */
typedef struct rtl_list {
    void *data;
    size_t bytes, capacity;
} rtl_list;

/** Work for one run: commands, and what the streams bring. Zero is an empty job. */
typedef struct rtl_job {
    rtl_list commands, w, x, c; /* x, w: whole beats */
    rtl_list y;                 /* the results: int32 in the order in which they came */
    size_t beats;               /* of y, expected */
} rtl_job;

/** Cycles of the runs so far. busy = issued + wait_w + wait_x + wait_c + wait_drain + tail. */
typedef struct rtl_counters {
    uint64_t busy, issued, wait_w, wait_x, wait_c, wait_drain, tail, commands;
} rtl_counters;

/** Streams that stop now and then. In cycle t stream s may start a beat (y: may take one) when
 *  rtl_stall(stalls, s, t) is false; a beat once offered stays. */
typedef enum rtl_stream { RTL_W, RTL_X, RTL_C, RTL_Y, RTL_BUS, RTL_STREAMS } rtl_stream;
typedef struct rtl_stalls {
    uint64_t seed;
    int per_256[RTL_STREAMS]; /* cycles of 256 that are stalled: 0 … 255 */
    int burst;                /* log2 of how many cycles are stalled together */
} rtl_stalls;
bool rtl_stall(const rtl_stalls *s, rtl_stream stream, uint64_t cycle);

typedef struct rtl_board rtl_board;
/** Resets the unit and reads its shape. `stalls` is copied; NULL: none. */
qd_status rtl_board_open(const rtl_model *m, const rtl_stalls *stalls, rtl_board **out);
void rtl_board_close(rtl_board *b);
const rtl_shape *rtl_board_shape(const rtl_board *b);

/** Adds to a job. The channels' data go to the stream c when the flags say so. */
qd_status rtl_job_command(rtl_job *j, const rtl_shape *s, const rtl_command *c, const rtl_channel *channels);
/** Adds `bytes` zero bytes to a stream and gives where they are, to be filled in; NULL: out of memory. */
uint8_t *rtl_list_add(rtl_list *l, size_t bytes);
void rtl_job_free(rtl_job *j);
/** Runs a job to its end; its y then holds the results.
 *  QD_ERR_UNSUPPORTED: the unit refused a command, the message names the limit. QD_ERR_DEVICE: it hangs, or gives
 *  more than was asked. After either the board is reset. */
qd_status rtl_board_run(rtl_board *b, rtl_job *j);
rtl_counters rtl_board_counters(const rtl_board *b);
/** Cycles since the board was opened. */
uint64_t rtl_board_cycles(const rtl_board *b);

#endif
