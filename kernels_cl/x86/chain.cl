/* Many operators in one launch: each is a step, which the work-items do together before any of them begins the next.
 *
 *   program  QD_CHAIN_WORDS words for each step:
 *              [0] function   [1] most shares   [2] shares for each row   [3] rows, 0: those of the launch
 *              [4 …] the arguments, see step.h; memory by its address
 *   state    a line of the cache for each step: [0] shares done  [1 + h] shares taken of home h's; one more, whose [0]
 *            counts the work-items that have left. All zero before and after a launch.
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
 * at once; one alone does everything. */
#include "common.h"

#define QD_CHAIN_WORDS 64
#define QD_CHAIN_HEAD 4
#define QD_CHAIN_LINE 16
#define QD_CHAIN_HOMES 8u

/* Turns of waiting, of some 40 cycles each, before the first nap. */
#ifndef QD_PATIENCE
#define QD_PATIENCE 5000
#endif

#ifdef QD_LINUX
/* Linux' nanosleep, system call 35, for 50 microseconds. */
QD_ALWAYS void nap(void) {
    long time[2] = {0, 50000}, number = 35;
    __asm__ volatile("syscall" : "+a"(number) : "D"(time), "S"(0L) : "rcx", "r11", "memory");
}
#else
#define nap()
#endif

/* *p before 1 was added. All that was written before is there for who sees the new number. */
QD_ALWAYS uint count_up(__global uint *p) {
    uint n = 1;
    __asm__ volatile("lock xaddl %0, %1" : "+r"(n), "+m"(*p) : : "memory");
    return n;
}

/* Until *p is at least `goal`. On a busy machine the thread that is waited for may have lost its processor: after some
 * time this one gives its own away, too. */
QD_ALWAYS void wait_for(__global const uint *p, const uint goal) {
    for (int turn = 0; *(volatile __global const uint *)p < goal; turn++) {
        __asm__ volatile("pause" : : : "memory");
        if (turn >= QD_PATIENCE) nap();
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
        wait_for(line, shares);
    }
    /* The last one to leave leaves zeros. */
    __global uint *left = state + end * QD_CHAIN_LINE;
    if (count_up(left) + 1 < get_global_size(0)) return;
    for (int i = first * QD_CHAIN_LINE; i < (end + 1) * QD_CHAIN_LINE; i++)
        state[i] = 0;
}

/* Where a buffer is, for the program of a chain. */
__kernel void address(__global uchar *buffer, __global ulong *out) {
    *out = (ulong)buffer;
}
