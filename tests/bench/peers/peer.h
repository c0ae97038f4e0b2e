/* What peers in C share: the protocol (README.md), and the operands that all of them use. */
#ifndef QDOT_TESTS_BENCH_PEER_H
#define QDOT_TESTS_BENCH_PEER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PEER_ZERO = 128 };

static inline double peer_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline uint8_t peer_code(uint32_t i, uint32_t seed) {
    uint32_t h = i * 2654435761u + seed;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return (uint8_t)(h >> 24);
}

static inline int8_t peer_weight(uint32_t i) {
    const int code = peer_code(i, 2);
    return (int8_t)(code == 0 ? -127 : code - PEER_ZERO);
}

static inline float peer_scale(int64_t channel) {
    return 0x1p-7f * (1 + (float)(channel % 7) / 8);
}

/* The number after " NAME=" in a work's words, 0 where there is none. */
static inline double peer_number(const char *words, const char *name) {
    const size_t size = strlen(name);
    for (const char *p = strchr(words, ' '); p; p = strchr(p + 1, ' ')) {
        if (strncmp(p + 1, name, size) == 0 && p[1 + size] == '=') return strtod(p + 2 + size, NULL);
    }
    return 0;
}

static inline int peer_is(const char *words, const char *kind) {
    const size_t size = strlen(kind);
    return strncmp(words, kind, size) == 0 && (words[size] == ' ' || words[size] == 0);
}

/* Index of the i-th of 64 sampled results, and the mark of their values. */
static inline size_t peer_sample(size_t i, size_t count) {
    return (size_t)((uint64_t)i * 2654435761u % count);
}

/* Implemented by each peer. prepare: NULL, or why this work is not done ("": it is of no known kind); the words are
 * valid only meanwhile. run: all copies of the weights in turn, `passes` times. value: result at an index. All frees
 * what the last work took. */
const char *peer_prepare(const char *words, int threads);
void peer_run(int64_t passes);
size_t peer_results(void);
double peer_value(size_t i);

static inline int peer_main(int argc, char **argv, const char *name, const char *version) {
    char line[1024];
    int ready = 0;
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    printf("qdot-peer 1 %s %s\n", name, version);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "work ", 5) == 0) {
            const char *why = peer_prepare(line + 5, threads);
            ready = !why;
            if (ready) {
                double sum = 0;
                peer_run(1);
                for (size_t i = 0; i < 64; i++)
                    sum += peer_value(peer_sample(i, peer_results())) * (double)(i + 1);
                printf("ready %.6f\n", sum / 2080);
            } else {
                printf("cannot%s%s\n", *why ? " " : "", why);
            }
        } else if (strncmp(line, "run ", 4) == 0 && ready) {
            const double start = peer_seconds();
            peer_run(strtoll(line + 4, NULL, 10));
            printf("seconds %.9f\n", peer_seconds() - start);
        } else {
            printf("error unknown request\n");
        }
        fflush(stdout);
    }
    return 0;
}

#endif
