/* A peer: another library's program that does the same works, started by `qdot bench --peers` and never linked into it.
 *
 * It is started as `PROGRAM THREADS` and speaks lines on its standard input and output; tests/bench/README.md has the
 * protocol. Between its turns it is stopped, so that threads that wait in loops take nothing from the others. */
#ifndef QDOT_CLI_BENCH_PEER_H
#define QDOT_CLI_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { QD_BENCH_PEER_LINE = 1024 };

typedef struct qd_bench_peer {
    char name[48], version[48];
    char why[256]; /* why it is gone, or does not do the present work; empty: it does */
    pid_t pid;     /* 0: gone, for good */
    int fd;
    char text[QD_BENCH_PEER_LINE]; /* what has come and was not read yet */
    size_t size;
} qd_bench_peer;

/** Starts the program and waits for its greeting. False: `why` tells; the peer is gone. All of these wait `patience`
 *  seconds at most, and end early when the user stops. */
bool qd_bench_peer_start(qd_bench_peer *p, const char *path, unsigned threads, double patience);
/** Gives it a work: the words after "work". *mark: its results in one number, NAN where it told none. False: `why`
 * tells what it lacks ("": this is no kind of its works); it may still do others unless it is gone. */
bool qd_bench_peer_prepare(qd_bench_peer *p, const char *work, double patience, double *mark);
/** Lets it do the work `passes` times. *seconds: for all of them, on its own clock. */
bool qd_bench_peer_run(qd_bench_peer *p, int64_t passes, double patience, double *seconds);
/** Processor seconds that it used so far, with its children that have ended. */
double qd_bench_peer_cpu_seconds(const qd_bench_peer *p);
/** Ends it; nothing for one that is gone. */
void qd_bench_peer_end(qd_bench_peer *p);

#endif
