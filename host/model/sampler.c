/* Choosing the next token.
 *
 * Order, as in llama.cpp: repetition penalty (Keskar et al. 2019), top-k, top-p (Holtzman et al. 2019), min-p, then the
 * temperature. Tokens are ranked by logit, equal ones by number. Only IEEE operations and qd_exp are used, so that a
 * seed gives the same tokens on every machine. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot.h"
#include "qdot/qdot_num.h"

#define MAX_WINDOW (1 << 24)

typedef struct candidate {
    uint32_t key; /* in the order of the ranking: see key_of */
    int32_t token;
} candidate;

struct qd_sampler {
    qd_sampler_options o;
    int32_t vocab;
    uint64_t state;  /* of the generator */
    int32_t *window; /* ring of the last tokens */
    int32_t window_count, window_next;
    float *penalized; /* logits */
    /* Of one draw: the start of the ranking, as far as it was asked for. */
    const float *logits;
    float max, low; /* all from `low` on are ranked */
    candidate *ranked, *other;
    int32_t n_ranked;
    float *largest; /* of each block of logits */
    float *weights;
};

/* Logits are looked at in blocks, most of which have nothing that a draw needs. */
enum { LANES = 16, BLOCK = 4 * LANES };
static int32_t blocks_of(int32_t vocab) {
    return (vocab + BLOCK - 1) / BLOCK;
}

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
    s->window = qd_alloc((size_t)o->penalty_window * sizeof *s->window);
    s->penalized = qd_alloc((size_t)vocab * sizeof *s->penalized);
    s->ranked = qd_alloc((size_t)vocab * sizeof *s->ranked);
    s->other = qd_alloc((size_t)vocab * sizeof *s->other);
    s->largest = qd_alloc((size_t)blocks_of(vocab) * sizeof *s->largest);
    s->weights = qd_alloc((size_t)vocab * sizeof *s->weights);
    if (!s->window || !s->penalized || !s->ranked || !s->other || !s->largest || !s->weights) {
        qd_sampler_free(s);
        return QD_ERR_MEMORY;
    }
    *out = s;
    return QD_OK;
}

void qd_sampler_free(qd_sampler *s) {
    if (!s) return;
    free(s->window);
    free(s->penalized);
    free(s->ranked);
    free(s->other);
    free(s->largest);
    free(s->weights);
    free(s);
}

void qd_sampler_accept(qd_sampler *s, int32_t token) {
    if (!s || token < 0 || token >= s->vocab || s->o.penalty_window == 0) return;
    s->window_count += s->window_count < s->o.penalty_window;
    s->window[s->window_next] = token;
    s->window_next = (s->window_next + 1) % s->o.penalty_window;
}

/* ---- Logits ------------------------------------------------------------------------------------------------- */

/* What the draw is from: a token in the window is penalized once, however often it is there. */
static const float *penalize(qd_sampler *s, const float *logits) {
    const float penalty = s->o.repetition_penalty;
    if (penalty == 1 || s->window_count == 0) return logits;
    memcpy(s->penalized, logits, (size_t)s->vocab * sizeof *logits);
    for (int32_t i = 0; i < s->window_count; i++) {
        const float x = logits[s->window[i]];
        s->penalized[s->window[i]] = x > 0 ? x / penalty : x * penalty;
    }
    return s->penalized;
}

/* The first of the largest, and the largest of each block, in loops that compilers turn into vectors: one by one,
 * 49,152 logits take as long as a thirtieth of a small model's token. False: there is none, see refuse. */
static bool find_best(const float *logits, int32_t vocab, float *largest, int32_t *best) {
    float max = -INFINITY;
    int32_t wrong = 0, token = 0;
    for (int32_t b = 0; b < blocks_of(vocab); b++) {
        const float *x = logits + (size_t)b * BLOCK;
        const int32_t n = vocab - b * BLOCK < BLOCK ? vocab - b * BLOCK : BLOCK;
        float lane[LANES];
        int32_t not_a_number[LANES] = {0}, i = 0;
        for (int j = 0; j < LANES; j++)
            lane[j] = -INFINITY;
        for (; i + LANES <= n; i += LANES) {
            for (int j = 0; j < LANES; j++) {
                lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
                not_a_number[j] |= isnan(x[i + j]);
            }
        }
        for (; i < n; i++) {
            lane[0] = x[i] > lane[0] ? x[i] : lane[0];
            wrong |= isnan(x[i]);
        }
        for (int j = 0; j < LANES; j++) {
            wrong |= not_a_number[j];
            lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
        }
        largest[b] = lane[0];
        if (lane[0] > max) {
            max = lane[0];
            token = b * BLOCK;
        }
    }
    if (wrong || isinf(max)) return false;
    while (logits[token] != max)
        token++;
    *best = token;
    return true;
}

static qd_status refuse(const float *logits, int32_t vocab) {
    for (int32_t i = 0; i < vocab; i++) {
        if (isnan(logits[i])) {
            return qd_fail(QD_ERR_ARGUMENT,
                           "the model gave no number for token %d: its file is damaged, or the device computes wrongly "
                           "(`qdot verify` tells)",
                           i);
        }
    }
    return qd_fail(QD_ERR_ARGUMENT,
                   "the model's largest logit is infinite: its file is damaged, or the device computes wrongly "
                   "(`qdot verify` tells)");
}

/* ---- Ranking ------------------------------------------------------------------------------------------------ */

/* Larger logits have smaller keys; zeros of both signs have the same. */
static uint32_t key_of(float logit) {
    const uint32_t bits = qd_as_u32(logit + 0.0f);
    return bits >> 31 ? bits : 0x7fffffffu - bits;
}

/* Radix sort from the lowest byte on: equal keys stay in the order of their tokens. */
static void sort(candidate *a, candidate *other, int32_t n) {
    for (int shift = 0; shift < 32; shift += 8) {
        int32_t next[257] = {0};
        for (int32_t i = 0; i < n; i++)
            next[(a[i].key >> shift & 255) + 1]++;
        for (int digit = 0; digit < 256; digit++)
            next[digit + 1] += next[digit];
        for (int32_t i = 0; i < n; i++)
            other[next[a[i].key >> shift & 255]++] = a[i];
        candidate *sorted = other;
        other = a;
        a = sorted;
    }
}

/* Ranks the tokens whose logits are in [s->low, high), behind those that are ranked. */
static void rank_band(qd_sampler *s, float high) {
    candidate *band = s->ranked + s->n_ranked;
    int32_t n = 0;
    for (int32_t b = 0; b < blocks_of(s->vocab); b++) {
        const int32_t end = s->vocab - b * BLOCK < BLOCK ? s->vocab : (b + 1) * BLOCK;
        for (int32_t i = b * BLOCK; s->largest[b] >= s->low && i < end; i++) {
            if (s->logits[i] >= s->low && s->logits[i] < high) band[n++] = (candidate){key_of(s->logits[i]), i};
        }
    }
    sort(band, s->other, n);
    s->n_ranked += n;
}

/* The nth largest of the blocks' largest logits: so many are at least as large. */
static float nth_largest(qd_sampler *s, int32_t nth) {
    candidate *blocks = s->ranked + s->n_ranked; /* room: at most a quarter as many are ranked as there are blocks */
    const int32_t n = blocks_of(s->vocab);
    for (int32_t b = 0; b < n; b++)
        blocks[b] = (candidate){key_of(s->largest[b]), b};
    sort(blocks, s->other, n);
    return s->largest[blocks[nth - 1].token];
}

/* Ranks at least `count`, and some more for those who ask one by one. */
static void rank(qd_sampler *s, int32_t count) {
    enum { LEAST = 64 };
    if (count <= s->n_ranked) return;
    const int32_t more = 2 * s->n_ranked > LEAST ? 2 * s->n_ranked : LEAST, goal = count > more ? count : more;
    const float high = s->low;
    s->low = goal <= blocks_of(s->vocab) / 2 ? nth_largest(s, goal) : -INFINITY;
    rank_band(s, high);
}

/* ---- The draw ----------------------------------------------------------------------------------------------- */

/* Softmax's numerators, to be divided by their sum. */
static void exponentials(float *x, int32_t n, float max, float temperature) {
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++)
            x[i + j] = qd_exp((x[i + j] - max) / temperature);
    }
    for (; i < n; i++)
        x[i] = qd_exp((x[i] - max) / temperature);
}

static double sum_of(const float *x, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)x[i];
    return sum;
}

/* Puts the weights of the ranking's first n into s->weights. */
static void weigh(qd_sampler *s, int32_t n, float temperature) {
    for (int32_t i = 0; i < n; i++)
        s->weights[i] = s->logits[s->ranked[i].token];
    exponentials(s->weights, n, s->max, temperature);
}

/* How many of the ranking pass the filters. */
static int32_t filter(qd_sampler *s) {
    const qd_sampler_options *o = &s->o;
    const int32_t limit = o->top_k > 0 && o->top_k < s->vocab ? o->top_k : s->vocab;
    const bool all = !(o->top_p < 1) && !(o->min_p > 0);
    double total = 0, sum = 0;
    s->n_ranked = 0;
    s->low = INFINITY;
    if (all || limit < s->vocab) rank(s, limit);
    if (all) return limit;
    if (limit < s->vocab) {
        weigh(s, limit, 1);
        total = sum_of(s->weights, limit);
    } else if (o->top_p < 1) {
        memcpy(s->weights, s->logits, (size_t)s->vocab * sizeof *s->weights);
        exponentials(s->weights, s->vocab, s->max, 1);
        total = sum_of(s->weights, s->vocab);
    }
    /* top-p and min-p each keep a start of the ranking; the best candidate always stays. */
    for (int32_t kept = 0; kept < limit; kept++) {
        rank(s, kept + 1);
        const double w = (double)qd_exp(s->logits[s->ranked[kept].token] - s->max);
        if (kept > 0 && (w < (double)o->min_p || (o->top_p < 1 && sum >= (double)o->top_p * total))) return kept;
        sum += w;
    }
    return limit;
}

static int32_t draw(qd_sampler *s, int32_t kept) {
    weigh(s, kept, s->o.temperature);
    const double target = next_uniform(&s->state) * sum_of(s->weights, kept);
    double sum = 0;
    int32_t i = 0;
    /* The last one is not passed: the sums are the same, and target is less than all of it. */
    while (i < kept - 1 && (sum += (double)s->weights[i]) <= target)
        i++;
    return s->ranked[i].token;
}

qd_status qd_sampler_next(qd_sampler *s, const float *logits, int32_t *token) {
    int32_t best;
    if (!s || !logits || !token) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_sampler_next: sampler, logits and token must not be NULL");
    }
    s->logits = penalize(s, logits);
    if (!find_best(s->logits, s->vocab, s->largest, &best)) return refuse(s->logits, s->vocab);
    s->max = s->logits[best];
    *token = s->o.temperature <= 0 ? best : draw(s, filter(s));
    qd_sampler_accept(s, *token);
    return QD_OK;
}
