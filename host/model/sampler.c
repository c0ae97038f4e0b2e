/* Choosing the next token.
 *
 * Order, as in llama.cpp: repetition penalty (Keskar et al. 2019), top-k, top-p (Holtzman et al. 2019), min-p, then the
 * temperature. Tokens are ranked by logit, equal ones by number. Only IEEE operations and qd_exp are used, so that a
 * seed gives the same tokens on every machine. */
#include <math.h>
#include <stdlib.h>

#include "core/status.h"
#include "qdot/qdot.h"
#include "qdot/qdot_num.h"

#define MAX_WINDOW (1 << 24)

typedef struct candidate {
    float logit;
    int32_t token;
} candidate;

struct qd_sampler {
    qd_sampler_options o;
    int32_t vocab;
    uint64_t state; /* of the generator */
    candidate *heap;
    int32_t *window; /* ring of the last tokens */
    int32_t window_count, window_next;
    int32_t *seen; /* how often each token is in the window */
};

qd_sampler_options qd_sampler_defaults(void) {
    return (qd_sampler_options){.temperature = 0.8f,
                                .top_k = 40,
                                .top_p = 0.95f,
                                .min_p = 0.05f,
                                .repetition_penalty = 1.0f,
                                .penalty_window = 64};
}

/* A number in [0, 1) with 53 random bits: SplitMix64 (Steele, Lea, Flood 2014). */
static double next_uniform(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static qd_status check_options(const qd_sampler_options *o, int32_t vocab) {
    if (vocab <= 0) return qd_fail(QD_ERR_ARGUMENT, "a sampler needs a vocabulary of at least 1 token, not %d", vocab);
    if (!isfinite(o->temperature)) return qd_fail(QD_ERR_ARGUMENT, "the temperature must be a finite number");
    if (o->top_k < 0) return qd_fail(QD_ERR_ARGUMENT, "top_k is %d; it must be 0 (off) or more", o->top_k);
    if (!(o->top_p > 0 && o->top_p <= 1)) {
        return qd_fail(QD_ERR_ARGUMENT, "top_p is %g; it must be above 0 and at most 1 (off)", (double)o->top_p);
    }
    if (!(o->min_p >= 0 && o->min_p <= 1)) {
        return qd_fail(QD_ERR_ARGUMENT, "min_p is %g; it must be 0 (off) to 1", (double)o->min_p);
    }
    if (!(o->repetition_penalty > 0 && isfinite(o->repetition_penalty))) {
        return qd_fail(QD_ERR_ARGUMENT, "the repetition penalty is %g; it must be above 0 (1: off)",
                       (double)o->repetition_penalty);
    }
    if (o->penalty_window < 0 || o->penalty_window > MAX_WINDOW) {
        return qd_fail(QD_ERR_ARGUMENT, "the penalty window is %d; it must be 0 (off) to %d tokens", o->penalty_window,
                       MAX_WINDOW);
    }
    return QD_OK;
}

qd_status qd_sampler_create(const qd_sampler_options *o, int32_t vocab, qd_sampler **out) {
    if (!o || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_sampler_create: options and out must not be NULL");
    qd_status status = check_options(o, vocab);
    if (status != QD_OK) return status;
    qd_sampler *s = qd_alloc_zero(1, sizeof *s);
    if (!s) return QD_ERR_MEMORY;
    s->o = *o;
    s->vocab = vocab;
    s->state = o->seed;
    s->heap = qd_alloc((size_t)vocab * sizeof *s->heap);
    s->window = qd_alloc((size_t)o->penalty_window * sizeof *s->window);
    s->seen = qd_alloc_zero((size_t)vocab, sizeof *s->seen);
    if (!s->heap || !s->window || !s->seen) {
        qd_sampler_free(s);
        return QD_ERR_MEMORY;
    }
    *out = s;
    return QD_OK;
}

void qd_sampler_free(qd_sampler *s) {
    if (!s) return;
    free(s->heap);
    free(s->window);
    free(s->seen);
    free(s);
}

void qd_sampler_accept(qd_sampler *s, int32_t token) {
    if (!s || token < 0 || token >= s->vocab || s->o.penalty_window == 0) return;
    if (s->window_count == s->o.penalty_window) {
        s->seen[s->window[s->window_next]]--;
    } else {
        s->window_count++;
    }
    s->window[s->window_next] = token;
    s->window_next = (s->window_next + 1) % s->o.penalty_window;
    s->seen[token]++;
}

static bool before(candidate a, candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

/* Moves the candidate at i down to its place in heap[0 … n). */
static void sift(candidate *heap, int32_t n, int32_t i) {
    const candidate c = heap[i];
    for (;;) {
        int64_t child = 2 * (int64_t)i + 1;
        if (child >= n) break;
        if (child + 1 < n && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], c)) break;
        heap[i] = heap[child];
        i = (int32_t)child;
    }
    heap[i] = c;
}

/* Takes the best of heap[0 … *n) out and leaves it behind the rest, at heap[*n]. */
static candidate take_best(candidate *heap, int32_t *n) {
    const candidate best = heap[0];
    heap[0] = heap[--*n];
    heap[*n] = best;
    if (*n > 0) sift(heap, *n, 0);
    return best;
}

/* Fills the candidates with the penalized logits; *best is the first of the ranking. */
static qd_status read_logits(qd_sampler *s, const float *logits, candidate *best) {
    *best = (candidate){-INFINITY, 0};
    for (int32_t i = 0; i < s->vocab; i++) {
        if (isnan(logits[i])) {
            return qd_fail(QD_ERR_ARGUMENT,
                           "the model gave no number for token %d: its file is damaged, or the device computes wrongly "
                           "(`qdot verify` tells)",
                           i);
        }
        candidate c = {logits[i], i};
        if (s->seen[i] > 0) {
            c.logit = c.logit > 0 ? c.logit / s->o.repetition_penalty : c.logit * s->o.repetition_penalty;
        }
        if (before(c, *best)) *best = c;
        s->heap[i] = c;
    }
    if (isinf(best->logit)) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "the model's largest logit is infinite: its file is damaged, or the device computes wrongly "
                       "(`qdot verify` tells)");
    }
    return QD_OK;
}

/* The same where nothing is penalized and only the best is asked for, in loops that compilers turn into vectors: one
 * by one, 49,152 logits take as long as a thirtieth of a small model's token. False: something is to be reported. */
static bool find_best(const float *logits, int32_t vocab, candidate *best) {
    enum { LANES = 16, BLOCK = 64 * LANES };
    float largest = -INFINITY;
    int32_t token = 0, wrong = 0;
    for (int32_t at = 0; at < vocab; at += BLOCK) { /* `token` becomes the first of the first block that has it */
        const int32_t n = vocab - at < BLOCK ? vocab - at : BLOCK;
        float lane[LANES];
        int32_t not_a_number[LANES] = {0}, i = 0;
        for (int j = 0; j < LANES; j++)
            lane[j] = -INFINITY;
        for (; i + LANES <= n; i += LANES) {
            for (int j = 0; j < LANES; j++) {
                const float x = logits[at + i + j];
                lane[j] = x > lane[j] ? x : lane[j];
                not_a_number[j] |= isnan(x);
            }
        }
        for (; i < n; i++) {
            const float x = logits[at + i];
            lane[0] = x > lane[0] ? x : lane[0];
            wrong |= isnan(x);
        }
        for (int j = 0; j < LANES; j++) {
            wrong |= not_a_number[j];
            if (lane[j] > largest) {
                largest = lane[j];
                token = at;
            }
        }
    }
    if (wrong || isinf(largest)) return false;
    while (logits[token] != largest)
        token++;
    *best = (candidate){logits[token], token};
    return true;
}

/* Softmax's numerator. */
static double weight(float logit, float max, float temperature) {
    return (double)qd_exp((logit - max) / temperature);
}

/* Leaves the candidates that pass the filters at heap[vocab - kept … vocab), the best last; returns how many. */
static int32_t filter(qd_sampler *s, float max) {
    const qd_sampler_options *o = &s->o;
    const int32_t limit = o->top_k > 0 && o->top_k < s->vocab ? o->top_k : s->vocab;
    int32_t left = s->vocab;
    double total = 0, sum = 0;
    if (limit == s->vocab) {
        for (int32_t i = 0; i < s->vocab; i++)
            total += weight(s->heap[i].logit, max, 1);
    }
    for (int32_t i = s->vocab / 2; i-- > 0;)
        sift(s->heap, s->vocab, i);
    if (limit < s->vocab) {
        while (s->vocab - left < limit)
            total += weight(take_best(s->heap, &left).logit, max, 1);
    }
    /* top-p and min-p each keep a start of the ranking; the best candidate always stays. */
    for (int32_t kept = 0; kept < limit; kept++) {
        if (kept == s->vocab - left) take_best(s->heap, &left);
        const double w = weight(s->heap[s->vocab - 1 - kept].logit, max, 1);
        if (kept > 0 && (w < (double)o->min_p || (o->top_p < 1 && sum >= (double)o->top_p * total))) return kept;
        sum += w;
    }
    return limit;
}

static int32_t draw(qd_sampler *s, int32_t kept, float max) {
    const candidate *best = &s->heap[s->vocab - 1];
    double total = 0;
    for (int32_t i = 0; i < kept; i++)
        total += weight(best[-i].logit, max, s->o.temperature);
    const double target = next_uniform(&s->state) * total;
    double sum = 0;
    for (int32_t i = 0; i < kept; i++) {
        sum += weight(best[-i].logit, max, s->o.temperature);
        if (sum > target) return best[-i].token;
    }
    return best[1 - kept].token; /* not reached: the sums are the same, and target is less than the last */
}

qd_status qd_sampler_next(qd_sampler *s, const float *logits, int32_t *token) {
    if (!s || !logits || !token) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_sampler_next: sampler, logits and token must not be NULL");
    }
    const bool greedy = s->o.temperature <= 0, penalties = s->o.repetition_penalty != 1 && s->window_count > 0;
    candidate best;
    if (!greedy || penalties || !find_best(logits, s->vocab, &best)) {
        const qd_status status = read_logits(s, logits, &best);
        if (status != QD_OK) return status;
    }
    *token = greedy ? best.token : draw(s, filter(s, best.logit), best.logit);
    qd_sampler_accept(s, *token);
    return QD_OK;
}
