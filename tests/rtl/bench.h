/* Random jobs for the unit of hls/rtl with their results: plain sums, and the requantization of qdot_num.h. */
#ifndef QDOT_TEST_RTL_BENCH_H
#define QDOT_TEST_RTL_BENCH_H

#include "rtl/board.h"

typedef struct bench_random {
    uint64_t state;
} bench_random;
uint64_t bench_bits(bench_random *r);
/** low … high */
int64_t bench_between(bench_random *r, int64_t low, int64_t high);
/** True once in `n`. */
bool bench_one_in(bench_random *r, int n);

/** Streams that stop now and then, for up to 64 cycles together; each third one does not. */
rtl_stalls bench_stalls(bench_random *r);

/** What the unit holds, as the commands so far left it. */
typedef struct bench_unit {
    rtl_shape shape;
    uint8_t *w, *x; /* the words in use */
    int w_words, x_words, n_channels;
    rtl_channel *channels;
    uint32_t flags;       /* codes of w: fixed when its channels are loaded */
    bool open;            /* a sum goes on */
    uint32_t *totals;     /* [cols][2 · rows] */
    uint32_t last_groups; /* of the command before */
} bench_unit;
void bench_open(bench_unit *u, const rtl_shape *s);
void bench_close(bench_unit *u);

/** Results wanted are int64; this one is that of no channel, in the last step of a column. */
#define BENCH_ANY INT64_MIN

/** Adds one random command that the unit takes to a job, and its results to `want`. The last of a job must be `ending`:
 *  no sum is left open. */
void bench_add(bench_unit *u, bench_random *r, bool ending, rtl_job *j, rtl_list *want);
/** Adds a command, random only in its data, which are those of a large tile. */
void bench_add_tile(bench_unit *u, bench_random *r, const rtl_command *c, rtl_job *j, rtl_list *want);

#endif
