/* Statistics, and the memory roof: how fast this machine's threads can read. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/bench_measure.h"

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

qd_bench_spread qd_bench_summarize(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return (qd_bench_spread){(values[(count - 1) / 2] + values[count / 2]) / 2, values[0], values[count - 1], count};
}

double qd_bench_percent(const qd_bench_spread *s) {
    return s->median > 0 ? 50 * (s->most - s->least) / s->median : 0;
}

void qd_bench_add_spread(cJSON *o, const char *name, const qd_bench_spread *s) {
    cJSON *x = cJSON_AddObjectToObject(o, name);
    cJSON_AddNumberToObject(x, "median", s->median);
    cJSON_AddNumberToObject(x, "least", s->least);
    cJSON_AddNumberToObject(x, "most", s->most);
    cJSON_AddNumberToObject(x, "runs", s->runs);
}

/* ---- Caches ------------------------------------------------------------------------------------------------- */

/* Reads the first line of a file of cpu0's cache `index`. */
static bool cache_fact(int index, const char *name, char *text, int capacity) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const bool ok = fgets(text, capacity, f) != NULL;
    fclose(f);
    return ok;
}

/* Bits in a mask such as "00000000,0000ffff". */
static long mask_bits(const char *mask) {
    long bits = 0;
    for (const char *p = mask; *p; p++) {
        const char digit[] = {*p, 0};
        bits += __builtin_popcountl(strtoul(digit, NULL, 16));
    }
    return bits;
}

size_t qd_bench_cache_bytes(void) {
    /* Linux's own files: sysconf() is wrong about the shared caches of some processors. */
    enum { GUESS = 32 << 20 };
    size_t total = 0;
    char text[1024];
    for (int i = 0; cache_fact(i, "size", text, sizeof text); i++) {
        const size_t kib = strtoul(text, NULL, 10);
        const long sharing = cache_fact(i, "shared_cpu_map", text, sizeof text) ? mask_bits(text) : 1;
        const long cpus = sysconf(_SC_NPROCESSORS_CONF);
        const size_t caches = sharing > 0 && cpus > sharing ? (size_t)((cpus + sharing - 1) / sharing) : 1;
        if (kib * 1024 * caches > total) total = kib * 1024 * caches;
    }
    return total ? total : GUESS;
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

enum { LANES = 8, STREAMS = 4 };

/* Takes the sums, so that they are not optimized away. */
static volatile uint64_t sink;

typedef struct reader {
    pthread_t thread;
    uint64_t *words;
    size_t count; /* a multiple of LANES · STREAMS */
    bool fill;    /* write instead, so that the thread's own memory gets the pages */
    uint64_t sum;
    double start, end;
} reader;

/* Sums in lanes, which a compiler makes vectors, over several streams, which keep more loads under way. */
static uint64_t sum_words(const uint64_t *p, size_t count) {
    const size_t part = count / STREAMS;
    uint64_t lanes[LANES] = {0}, sum = 0;
    for (size_t i = 0; i < part; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += p[i + j] + p[part + i + j] + p[2 * part + i + j] + p[3 * part + i + j];
    }
    for (size_t j = 0; j < LANES; j++)
        sum += lanes[j];
    return sum;
}

static void *read_part(void *user) {
    reader *r = user;
    if (r->fill) memset(r->words, 1, r->count * sizeof *r->words);
    r->start = qd_cli_seconds();
    r->sum = sum_words(r->words, r->count);
    r->end = qd_cli_seconds();
    return NULL;
}

/* Memory in huge pages where the system has them: with small ones, a roof would be a matter of page tables. */
static void *take_memory(size_t bytes) {
    enum { HUGE_PAGE = 2 << 20 };
    void *p = NULL;
    if (posix_memalign(&p, HUGE_PAGE, bytes) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE); /* no more than a wish */
#endif
    return p;
}

/* All threads once. *seconds: from the first start to the last end. */
static bool read_once(reader *readers, unsigned threads, double *seconds) {
    unsigned started = 0;
    while (started < threads && pthread_create(&readers[started].thread, NULL, read_part, &readers[started]) == 0)
        started++;
    double start = 0, end = 0;
    for (unsigned i = 0; i < started; i++) {
        pthread_join(readers[i].thread, NULL);
        if (i == 0 || readers[i].start < start) start = readers[i].start;
        if (i == 0 || readers[i].end > end) end = readers[i].end;
        readers[i].fill = false;
    }
    *seconds = end - start;
    if (started < threads) qd_cli_fail("the memory test needs %u threads; the system allows %u", threads, started);
    return started == threads;
}

bool qd_bench_read_rate(unsigned threads, double seconds, double *bytes_per_second) {
    enum { LEAST = 256 << 20, LEAST_PASSES = 4 };
    const size_t twice = 2 * qd_bench_cache_bytes();
    const size_t words_each = (twice > LEAST ? twice : LEAST) / sizeof(uint64_t) / threads;
    const size_t count = words_each / (LANES * STREAMS) * (LANES * STREAMS);
    const size_t bytes = count * threads * sizeof(uint64_t);
    uint64_t *words = take_memory(bytes);
    reader *readers = calloc(threads, sizeof *readers);
    bool ok = words && readers;
    if (!ok) qd_cli_fail("out of memory: the memory test needs %zu MiB", bytes >> 20);
    for (unsigned i = 0; ok && i < threads; i++)
        readers[i] = (reader){.words = words + i * count, .count = count, .fill = true};
    double best = 0;
    const double until = qd_cli_seconds() + seconds;
    for (int pass = 0; ok && !qd_cli_stopped() && (pass <= LEAST_PASSES || qd_cli_seconds() < until); pass++) {
        double took;
        ok = read_once(readers, threads, &took);
        for (unsigned i = 0; ok && i < threads; i++)
            sink += readers[i].sum;
        /* In the first, some threads still fill while others read. */
        if (ok && pass > 0 && (double)bytes / took > best) best = (double)bytes / took;
    }
    free(words);
    free(readers);
    if (ok) *bytes_per_second = best;
    return ok;
}
