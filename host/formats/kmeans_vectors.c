/* Codebooks of vectors: Lloyd's method from greedy k-means++. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "formats/kmeans.h"
#include "formats/random.h"
#include "qdot/qdot_codebook.h"

/* Lloyd's method ends when a turn takes off less of the error than this part. */
#define LEAST_GAIN 1e-3

/* Centroids that are looked at side by side. */
enum { LANES = 4 };
typedef float floats __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t ints __attribute__((vector_size(LANES * sizeof(int32_t))));

int qd_nearest_padded(int k) {
    return (k + LANES - 1) / LANES * LANES;
}

void qd_nearest_prepare(const float *centroids, int k, int dim, float *by_value) {
    const int padded = qd_nearest_padded(k);
    for (int d = 0; d < dim; d++) {
        for (int c = 0; c < padded; c++)
            by_value[d * padded + c] = c < k ? centroids[c * dim + d] : INFINITY;
    }
}

/* where ? a : b, lane by lane. */
static inline ints choose(ints where, ints a, ints b) {
    return (where & a) | (~where & b);
}

int qd_nearest_find(const float *by_value, int k, int dim, const float *x, float *distance) {
    const int padded = qd_nearest_padded(k);
    floats best = (floats){0} + INFINITY;
    ints at = {0};
    for (int c = 0; c < padded; c += LANES) {
        floats sum = {0}, row;
        for (int d = 0; d < dim; d++) {
            memcpy(&row, by_value + d * padded + c, sizeof row);
            row -= x[d];
            sum += row * row;
        }
        const ints nearer = sum < best;
        at = choose(nearer, (ints){0} + c, at);
        best = (floats)choose(nearer, (ints)sum, (ints)best);
    }
    int first = 0;
    for (int l = 1; l < LANES; l++) {
        if (best[l] < best[first] || (best[l] == best[first] && at[l] + l < at[first] + first)) first = l;
    }
    *distance = best[first];
    return at[first] + first;
}

/* ---- Learning ----------------------------------------------------------------------------------------------- */

/* A set of vectors while their centroids are learned. */
typedef struct learner {
    const float *x; /* [n][dim] */
    int64_t n;
    int dim, k, iterations;
    uint64_t rng;
    float *centroids; /* [k][dim]: of this start */
    float *by_value;  /* see qd_nearest_prepare */
    float *distance, *trial,
        *best;      /* n: squared, to the nearest centroid so far; of a candidate; of the best of them */
    int32_t *code;  /* n */
    double *sum;    /* [k][dim] */
    int64_t *count; /* k */
} learner;

static float squared_distance(const float *a, const float *b, int dim) {
    float sum = 0;
    for (int d = 0; d < dim; d++)
        sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
}

/* A vector, with a probability that is in proportion to its distance; `total` is the sum of all. */
static int64_t draw(learner *l, double total) {
    double left = qd_random(&l->rng) * total;
    int64_t last = 0;
    for (int64_t i = 0; i < l->n; i++) {
        if (!(l->distance[i] > 0)) continue;
        last = i;
        left -= (double)l->distance[i];
        if (left < 0) break;
    }
    return last;
}

/* Takes vector `at` for centroid c: distances in l->trial, their sum is returned. */
static double try_vector(learner *l, int64_t at, bool first) {
    double total = 0;
    for (int64_t i = 0; i < l->n; i++) {
        const float d = squared_distance(l->x + i * l->dim, l->x + at * l->dim, l->dim);
        l->trial[i] = first || d < l->distance[i] ? d : l->distance[i];
        total += (double)l->trial[i];
    }
    return total;
}

static void swap_rows(float **a, float **b) {
    float *swap = *a;
    *a = *b;
    *b = swap;
}

/* Each next centroid is the best of 2 + log k drawn vectors: greedy k-means++. */
static void start(learner *l) {
    const int trials = 2 + (int)log(l->k);
    double total = 0;
    for (int c = 0; c < l->k; c++) {
        double least = INFINITY;
        int64_t chosen = 0;
        for (int t = 0; t < (c ? trials : 1); t++) {
            const int64_t at = c ? draw(l, total) : (int64_t)(qd_random(&l->rng) * (double)l->n);
            const double sum = try_vector(l, at, c == 0);
            if (!(sum < least)) continue;
            least = sum;
            chosen = at;
            swap_rows(&l->trial, &l->best);
        }
        swap_rows(&l->distance, &l->best);
        total = least;
        memcpy(l->centroids + (int64_t)c * l->dim, l->x + chosen * l->dim, (size_t)l->dim * sizeof *l->x);
    }
}

/* Finds the nearest centroid of each vector; returns the error. *moved: some vector has another than before. */
static double assign(learner *l, bool *moved) {
    double error = 0;
    *moved = false;
    qd_nearest_prepare(l->centroids, l->k, l->dim, l->by_value);
    for (int64_t i = 0; i < l->n; i++) {
        const int32_t code = qd_nearest_find(l->by_value, l->k, l->dim, l->x + i * l->dim, &l->distance[i]);
        *moved = *moved || code != l->code[i];
        l->code[i] = code;
        error += (double)l->distance[i];
    }
    return error;
}

static void move_centroids(learner *l) {
    memset(l->sum, 0, (size_t)l->k * (size_t)l->dim * sizeof *l->sum);
    memset(l->count, 0, (size_t)l->k * sizeof *l->count);
    for (int64_t i = 0; i < l->n; i++) {
        l->count[l->code[i]]++;
        for (int d = 0; d < l->dim; d++)
            l->sum[(int64_t)l->code[i] * l->dim + d] += (double)l->x[i * l->dim + d];
    }
    for (int c = 0; c < l->k; c++) {
        float *centroid = l->centroids + (int64_t)c * l->dim;
        if (l->count[c]) {
            for (int d = 0; d < l->dim; d++)
                centroid[d] = (float)(l->sum[(int64_t)c * l->dim + d] / (double)l->count[c]);
            continue;
        }
        int64_t farthest = 0;
        for (int64_t i = 1; i < l->n; i++)
            farthest = l->distance[i] > l->distance[farthest] ? i : farthest;
        memcpy(centroid, l->x + farthest * l->dim, (size_t)l->dim * sizeof *centroid);
        l->distance[farthest] = 0;
    }
}

static double learn(learner *l) {
    bool moved;
    start(l);
    memset(l->code, 0xff, (size_t)l->n * sizeof *l->code);
    double error = assign(l, &moved);
    for (int i = 0; moved && i < l->iterations; i++) {
        const double before = error;
        move_centroids(l);
        error = assign(l, &moved);
        if (before - error < LEAST_GAIN * before) break;
    }
    return error;
}

/* ---- The call ----------------------------------------------------------------------------------------------- */

/* The vectors that are looked at: all, or one from each part of them; to be freed when they are not x. */
static const float *sample(const float *x, int64_t *n, int dim, int64_t most, uint64_t *rng, float **memory) {
    *memory = NULL;
    if (*n <= most) return x;
    *memory = qd_alloc((size_t)most * (size_t)dim * sizeof *x);
    if (!*memory) return NULL;
    for (int64_t i = 0; i < most; i++) {
        const int64_t first = *n / most * i + *n % most * i / most,
                      next = *n / most * (i + 1) + *n % most * (i + 1) / most;
        const int64_t at = first + (int64_t)(qd_random(rng) * (double)(next - first));
        memcpy(*memory + i * dim, x + at * dim, (size_t)dim * sizeof *x);
    }
    *n = most;
    return *memory;
}

static qd_status check(const float *x, int64_t n, int dim, int k, const float *centroids) {
    int64_t count;
    if (n < 1 || dim < 1 || k < 1 || k > QD_CODEBOOK_MOST || __builtin_mul_overflow(n, (int64_t)dim, &count) ||
        count > PTRDIFF_MAX / (int64_t)sizeof *x) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_kmeans_vectors: %d centroids of %lld vectors of %d values: 1 to %d", k,
                       (long long)n, dim, QD_CODEBOOK_MOST);
    }
    if (!x || !centroids) return qd_fail(QD_ERR_ARGUMENT, "qd_kmeans_vectors: no pointer may be NULL");
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(x[i])) {
            return qd_fail(QD_ERR_ARGUMENT, "qd_kmeans_vectors: value %lld is not finite: replace it first",
                           (long long)i);
        }
    }
    return QD_OK;
}

qd_status qd_kmeans_vectors(const float *x, int64_t n, int dim, int k, const qd_kmeans_options *options,
                            float *centroids, uint8_t *codes, double *error) {
    const qd_kmeans_options o = options ? *options : (qd_kmeans_options){0};
    qd_status status = check(x, n, dim, k, centroids);
    if (status != QD_OK) return status;
    const int64_t per = o.sample ? o.sample : 64;
    learner l = {.n = n, .dim = dim, .k = k, .iterations = o.iterations > 0 ? o.iterations : 25, .rng = o.seed};
    float *chosen;
    l.x = sample(x, &l.n, dim, per < 0 ? INT64_MAX : per * k, &l.rng, &chosen);
    const size_t points = (size_t)l.n, values = (size_t)k * (size_t)dim,
                 padded = (size_t)qd_nearest_padded(k) * (size_t)dim;
    float *best = l.x ? qd_alloc((2 * values + padded + 3 * points) * sizeof *best) : NULL;
    int32_t *code = best ? qd_alloc(points * sizeof *code) : NULL;
    double *sum = code ? qd_alloc(values * sizeof *sum + (size_t)k * sizeof *l.count) : NULL;
    if (sum) {
        l.centroids = best + values;
        l.by_value = l.centroids + values;
        l.distance = l.by_value + padded;
        l.trial = l.distance + points;
        l.best = l.trial + points;
        l.code = code;
        l.sum = sum;
        l.count = (int64_t *)(sum + values);
        double least = INFINITY;
        for (int i = 0; i < (o.restarts > 0 ? o.restarts : 1); i++) {
            const double now = learn(&l);
            if (i > 0 && !(now < least)) continue;
            least = now;
            memcpy(best, l.centroids, values * sizeof *best);
        }
        memcpy(centroids, best, values * sizeof *best);
        qd_nearest_prepare(centroids, k, dim, l.by_value);
        double total = 0;
        for (int64_t i = 0; (codes || error) && i < n; i++) {
            float distance;
            const int at = qd_nearest_find(l.by_value, k, dim, x + i * dim, &distance);
            if (codes) codes[i] = (uint8_t)at;
            total += (double)distance;
        }
        if (error) *error = total;
    } else {
        status = QD_ERR_MEMORY;
    }
    free(chosen);
    free(best);
    free(code);
    free(sum);
    return status;
}
