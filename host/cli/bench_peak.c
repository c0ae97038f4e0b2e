/* What this machine's processors can do at best: products in registers, by the widest instructions that they have. A
 * loop of independent sums, as many as hide an instruction's latency. */
#include <pthread.h>
#include <stdlib.h>

#include "cli/bench_measure.h"

/* One call: `ROUNDS` times SUMS instructions (or groups of them). */
enum { ROUNDS = 20000, SUMS = 12 };

typedef struct form {
    const char *name;
    bool (*here)(void);
    void (*loop)(void);
    double operations; /* of one instruction or group */
} form;

static bool everywhere(void) {
    return true;
}

/* Sums whose values nobody knows, so that no compiler leaves anything out. */
#define HIDE(sum, constraint) __asm__ volatile("" : "+" constraint(sum))

#if defined(__x86_64__)
#include <immintrin.h>

/* Sums in variables of their own: an array might stay in memory. */
#define EACH_SUM(do) \
    do               \
    (s0) do(s1) do(s2) do(s3) do(s4) do(s5) do(s6) do(s7) do(s8) do(s9) do(s10) do(s11)
#define SUMS_LOOP(type, zero, constraint, step)                                                                      \
    type a = zero, b = zero, s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero; \
    type s8 = zero, s9 = zero, s10 = zero, s11 = zero;                                                               \
    HIDE(a, constraint);                                                                                             \
    HIDE(b, constraint);                                                                                             \
    for (int round = 0; round < ROUNDS; round++) {                                                                   \
        EACH_SUM(step)                                                                                               \
    }

__attribute__((target("avx512f,avx512vnni"))) static void codes_vnni512(void) {
#define STEP(sum)                         \
    sum = _mm512_dpbusd_epi32(sum, a, b); \
    HIDE(sum, "v");
    SUMS_LOOP(__m512i, _mm512_setzero_si512(), "v", STEP)
#undef STEP
}

__attribute__((target("avx2"))) static void codes_avx2(void) {
    const __m256i ones = _mm256_set1_epi16(1);
#define STEP(sum)                                                                     \
    HIDE(a, "x");                                                                     \
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones)); \
    HIDE(sum, "x");
    SUMS_LOOP(__m256i, _mm256_setzero_si256(), "x", STEP)
#undef STEP
}

__attribute__((target("avx512f"))) static void floats_avx512(void) {
#define STEP(sum)                     \
    sum = _mm512_fmadd_ps(a, b, sum); \
    HIDE(sum, "v");
    SUMS_LOOP(__m512, _mm512_setzero_ps(), "v", STEP)
#undef STEP
}

__attribute__((target("avx2,fma"))) static void floats_avx2(void) {
#define STEP(sum)                     \
    sum = _mm256_fmadd_ps(a, b, sum); \
    HIDE(sum, "x");
    SUMS_LOOP(__m256, _mm256_setzero_ps(), "x", STEP)
#undef STEP
}

static void codes_sse(void) {
#define STEP(sum)                                   \
    HIDE(a, "x");                                   \
    sum = _mm_add_epi32(sum, _mm_madd_epi16(a, b)); \
    HIDE(sum, "x");
    SUMS_LOOP(__m128i, _mm_setzero_si128(), "x", STEP)
#undef STEP
}

static void floats_sse(void) {
#define STEP(sum)                            \
    HIDE(a, "x");                            \
    sum = _mm_add_ps(sum, _mm_mul_ps(a, b)); \
    HIDE(sum, "x");
    SUMS_LOOP(__m128, _mm_setzero_ps(), "x", STEP)
#undef STEP
}

static bool has_vnni512(void) {
    return __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f");
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* The best first. */
static const form codes[] = {{"AVX-512 VNNI", has_vnni512, codes_vnni512, 128},
                             {"AVX2", has_avx2, codes_avx2, 64},
                             {"SSE2", everywhere, codes_sse, 16}};
static const form floats[] = {{"AVX-512", has_avx512, floats_avx512, 32},
                              {"AVX2 and FMA", has_avx2, floats_avx2, 16},
                              {"SSE", everywhere, floats_sse, 8}};
#else
static void codes_plain(void) {
    uint32_t sum[SUMS] = {0}, a = 3;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < SUMS; i++) {
            HIDE(a, "r");
            sum[i] += a * a;
            HIDE(sum[i], "r");
        }
}

static void floats_plain(void) {
    float sum[SUMS] = {0}, a = 1, b = 1;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < SUMS; i++) {
            HIDE(a, "m");
            sum[i] += a * b;
            HIDE(sum[i], "m");
        }
}

static const form codes[] = {{"C", everywhere, codes_plain, 2}};
static const form floats[] = {{"C", everywhere, floats_plain, 2}};
#endif

typedef struct worker {
    pthread_t thread;
    const form *f;
    double seconds, rate; /* how long to try; operations per second at best */
} worker;

static void *work(void *user) {
    worker *w = user;
    const double until = qd_cli_seconds() + w->seconds;
    double start;
    do {
        start = qd_cli_seconds();
        w->f->loop();
        const double rate = w->f->operations * ROUNDS * SUMS / (qd_cli_seconds() - start);
        if (rate > w->rate) w->rate = rate;
    } while (qd_cli_seconds() < until && !qd_cli_stopped());
    return NULL;
}

/* The first form that the processor has, in all threads at once. */
static bool measure(const form *forms, unsigned threads, double seconds, double *rate, const char **by) {
    const form *f = forms;
    while (!f->here())
        f++;
    worker *w = calloc(threads, sizeof *w);
    unsigned started = 0;
    for (; w && started < threads; started++) {
        w[started] = (worker){.f = f, .seconds = seconds};
        if (pthread_create(&w[started].thread, NULL, work, &w[started]) != 0) break;
    }
    *rate = 0;
    *by = f->name;
    for (unsigned i = 0; i < started; i++) {
        pthread_join(w[i].thread, NULL);
        *rate += w[i].rate;
    }
    free(w);
    return started == threads || qd_cli_fail("the system allows no %u threads", threads) == QD_EXIT_OK;
}

bool qd_bench_measure_peak(unsigned threads, double seconds, qd_bench_peak *out) {
    return measure(codes, threads, seconds, &out->codes, &out->codes_by) &&
           measure(floats, threads, seconds, &out->floats, &out->floats_by);
}
