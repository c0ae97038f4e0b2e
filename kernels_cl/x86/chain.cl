/* Many operators in one launch: each is a step, which the work-items do together before any of them begins the next.
 *
 *   program  QD_CHAIN_WORDS words for each step:
 *              [0] function   [1] most shares   [2] shares for each row   [3] rows, 0: those of the launch
 *              [4 …] the arguments, see step.h; memory by its address
 *   state    a line of the cache for each step: [0] shares done  [1 + h] shares taken of home h's; one more, whose [0]
 *            counts the work-items that have left; then for each work-item its place: the processor that it is on, plus
 *            one. All zero before and after a launch.
 *   first, steps  those of this launch
 *   Build options: -DQD_STEPS=n: step_0 … step_<n-1>, made by step.h, are linked to it
 *                  -DQD_LINUX: the system's calls are those of Linux
 *
 *      work-item 0   [norm 0]  wait  [matmul 0][matmul 1] wait [rope 0] …
 *      work-item 1    wait     [matmul 2] [ matmul 3     ]      wait    …
 *
 * Each work-item has a home, and each home a part of a step's shares: the same memory stays in the same processor's
 * caches from step to step. When those are taken it takes others': it waits only for shares that others have begun, and
 * those wait for nothing. So no launch hangs, in whatever order a device starts its work-items, and however few of them
 * at once; one alone does everything.
 *
 * Threads that are woken together may get the same processor while another is idle, and Linux leaves them there for
 * milliseconds, longer than a token takes. So a work-item that begins, or has slept, goes away from a processor that is
 * another's place, and at a few steps it lets one go first that has not begun. Neither where other programs leave
 * no processor idle: next to one of them a work-item is late again and again, and all wait for it. */
#include "common.h"

#define QD_CHAIN_WORDS 64
#define QD_CHAIN_HEAD 4
#define QD_CHAIN_LINE 16
#define QD_CHAIN_HOMES 8u

/* Turns of waiting, of some 40 cycles each, before the first nap. */
#ifndef QD_PATIENCE
#define QD_PATIENCE 5000
#endif

/* The work-items of a launch. */
typedef struct crew {
    volatile __global uint *places;
    uint own, count;
} crew;

#ifdef QD_LINUX
/* Numbers of Linux' system calls. */
#define QD_READ 0
#define QD_OPEN 2
#define QD_CLOSE_ON_EXEC 0x80000
#define QD_CLOSE 3
#define QD_SCHED_YIELD 24
#define QD_NANOSLEEP 35
#define QD_SCHED_SETAFFINITY 203
#define QD_SCHED_GETAFFINITY 204
#define QD_GETCPU 309

/* Words of a set of processors: as many as Linux can have. */
#define QD_SET_WORDS 128

/* The place of one that sleeps. */
#define QD_ASLEEP UINT_MAX

typedef struct processors {
    ulong words[QD_SET_WORDS];
    long bytes; /* that hold something */
} processors;

QD_ALWAYS long system_call(const long number, const long a, const long b, const long c) {
    long result = number;
    __asm__ volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

/* Threads of all programs that run or could; INT_MAX: unknown. /proc/loadavg: "0.20 0.18 0.12 RUNNING/ALL NEWEST". */
static int count_running(void) {
    char text[64];
    const char path[] = "/proc/loadavg";
    const long file = system_call(QD_OPEN, (long)path, QD_CLOSE_ON_EXEC, 0);
    if (file < 0) return INT_MAX;
    const long length = system_call(QD_READ, file, (long)text, sizeof text);
    system_call(QD_CLOSE, file, 0, 0);
    int spaces = 0, running = 0;
    for (long i = 0; i < length && text[i] != '/'; i++) {
        if (text[i] == ' ') {
            spaces++;
        } else if (spaces == 3) {
            running = 10 * running + text[i] - '0';
        }
    }
    return spaces == 3 ? running : INT_MAX;
}

/* The processors that this thread may use. False: they have at least as much to do as two threads for one of them. */
static bool find_room(processors *all) {
    int count = 0;
    all->bytes = system_call(QD_SCHED_GETAFFINITY, 0, sizeof all->words, (long)all->words);
    for (long i = 0; i < all->bytes / 8; i++)
        count += (int)popcount(all->words[i]);
    return count && count_running() <= count;
}

QD_ALWAYS void note_place(const crew *c) {
    uint processor;
    c->places[c->own] = system_call(QD_GETCPU, (long)&processor, 0, 0) ? QD_ASLEEP : processor + 1;
}

/* Notes the own place. Where it is another's, too, and a processor is idle, goes to one that is nobody's; it may go
 * anywhere afterwards. */
static void keep_apart(const crew *c) {
    bool shared = false;
    processors all, free;
    note_place(c);
    const uint here = c->places[c->own];
    for (uint i = 0; i < c->count; i++)
        shared = shared || (i != c->own && c->places[i] == here && here != QD_ASLEEP);
    if (!shared || !find_room(&all)) return;
    free = all;
    for (uint i = 0; i < c->count; i++) {
        const uint place = c->places[i];
        if (place && place != QD_ASLEEP) free.words[(place - 1) / 64] &= ~(1UL << (place - 1) % 64);
    }
    if (system_call(QD_SCHED_SETAFFINITY, 0, all.bytes, (long)free.words)) return; /* there is none */
    system_call(QD_SCHED_SETAFFINITY, 0, all.bytes, (long)all.words);
    note_place(c);
}

/* Lets one go first that has not begun, where a processor is idle: it may wait for this one. */
static void let_in(const crew *c) {
    processors all;
    for (uint i = 0; i < c->count; i++) {
        if (c->places[i]) continue;
        if (find_room(&all)) system_call(QD_SCHED_YIELD, 0, 0, 0);
        return;
    }
}

/* Sleeps for 50 microseconds. */
static void nap(const crew *c) {
    const long time[2] = {0, 50000};
    c->places[c->own] = QD_ASLEEP;
    system_call(QD_NANOSLEEP, (long)time, 0, 0);
    keep_apart(c);
}
#else
#define keep_apart(c)
#define let_in(c)
#define nap(c)
#endif

/* *p before 1 was added. All that was written before is there for who sees the new number. */
QD_ALWAYS uint count_up(__global uint *p) {
    uint n = 1;
    __asm__ volatile("lock xaddl %0, %1" : "+r"(n), "+m"(*p) : : "memory");
    return n;
}

/* Until *p is at least `goal`. On a busy machine the thread that is waited for may have lost its processor: after some
 * time this one gives its own away, too. */
QD_ALWAYS void wait_for(__global const uint *p, const uint goal, const crew *c) {
    for (int turn = 0; *(volatile __global const uint *)p < goal; turn++) {
        __asm__ volatile("pause" : : : "memory");
        if (turn >= QD_PATIENCE) nap(c);
    }
}

#define STEP(i) void step_##i(__global const ulong *args, const int rows, const ulong item, const ulong items)
STEP(0);
STEP(1);
STEP(2);
STEP(3);
STEP(4);
STEP(5);
STEP(6);
STEP(7);
STEP(8);
STEP(9);
STEP(10);
STEP(11);

#define CALL(i)                                   \
    case i:                                       \
        step_##i(args, step_rows, share, shares); \
        break;
#define CALLS_1 CALL(0)
#define CALLS_2 CALLS_1 CALL(1)
#define CALLS_3 CALLS_2 CALL(2)
#define CALLS_4 CALLS_3 CALL(3)
#define CALLS_5 CALLS_4 CALL(4)
#define CALLS_6 CALLS_5 CALL(5)
#define CALLS_7 CALLS_6 CALL(6)
#define CALLS_8 CALLS_7 CALL(7)
#define CALLS_9 CALLS_8 CALL(8)
#define CALLS_10 CALLS_9 CALL(9)
#define CALLS_11 CALLS_10 CALL(10)
#define CALLS_12 CALLS_11 CALL(11)
#define JOIN(a, b) a##b
#define CALLS(n) JOIN(CALLS_, n)

__kernel void chain(__global const ulong *program, __global uint *state, const int first, const int steps,
                    const int rows) {
    const int end = first + steps;
    const uint homes = min((uint)get_global_size(0), QD_CHAIN_HOMES);
    const uint own = (uint)(get_global_id(0) * homes / get_global_size(0));
    __global uint *left = state + end * QD_CHAIN_LINE;
    const crew all = {left + QD_CHAIN_LINE, (uint)get_global_id(0), (uint)get_global_size(0)};
    int look = 4;
    keep_apart(&all);
    for (int s = first; s < end; s++) {
        __global const ulong *words = program + (ulong)s * QD_CHAIN_WORDS;
        __global const ulong *args = words + QD_CHAIN_HEAD;
        __global uint *line = state + s * QD_CHAIN_LINE;
        const int step_rows = words[3] ? (int)words[3] : rows;
        const uint shares = (uint)max(min(words[1], words[2] * (ulong)step_rows), (ulong)1);
        for (uint i = 0; i < homes; i++) {
            const uint home = (own + i) % homes, before = shares * home / homes, behind = shares * (home + 1) / homes;
            volatile __global uint *taken = line + 1 + home;
            while (before + *taken < behind) {
                const uint share = before + count_up((__global uint *)taken);
                if (share >= behind) break;
                switch ((int)words[0]) { CALLS(QD_STEPS) }
                count_up(line);
            }
        }
        wait_for(line, shares, &all);
        if (s - first == look) {
            let_in(&all);
            look = 4 * look;
        }
    }
    /* The last one to leave leaves zeros. */
    all.places[all.own] = 0;
    if (count_up(left) + 1 < all.count) return;
    for (int i = first * QD_CHAIN_LINE; i < (end + 1) * QD_CHAIN_LINE; i++)
        state[i] = 0;
}

/* Where a buffer is, for the program of a chain. */
__kernel void address(__global uchar *buffer, __global ulong *out) {
    *out = (ulong)buffer;
}
