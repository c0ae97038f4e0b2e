/* Codebooks of single values with the least squared error. In one dimension a cluster is a piece of the sorted values,
 * so that dynamic programming finds the best pieces, and sums from the left give the cost of each piece at once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "formats/random.h"
#include "qdot/qdot_codebook.h"
#include "qdot/qdot_num.h"

enum { MOST_VALUES = 1 << 20, LEAST_PARTS = 256, MOST_PARTS = 4096, MOST_TURNS = 200 };

/* ---- Sorting ------------------------------------------------------------------------------------------------ */

/* Bits of a float as a number that grows with it. */
static uint32_t key_of(float x) {
    const uint32_t u = qd_as_u32(x);
    return u >> 31 ? ~u : u | 0x80000000u;
}

static float float_of(uint32_t key) {
    return qd_as_f32(key >> 31 ? key & 0x7fffffffu : ~key);
}

/* Radix sort by three digits of 11 bits. `other` has room for n keys; returns where the sorted ones are. */
static uint32_t *sort_keys(uint32_t *keys, uint32_t *other, int64_t n) {
    enum { DIGITS = 3, BITS = 11, RADIX = 1 << BITS };
    for (int d = 0; d < DIGITS; d++) {
        int64_t start[RADIX + 1] = {0};
        for (int64_t i = 0; i < n; i++)
            start[(keys[i] >> d * BITS & (RADIX - 1)) + 1]++;
        for (int r = 0; r < RADIX; r++)
            start[r + 1] += start[r];
        for (int64_t i = 0; i < n; i++)
            other[start[keys[i] >> d * BITS & (RADIX - 1)]++] = keys[i];
        uint32_t *swap = keys;
        keys = other;
        other = swap;
    }
    return keys;
}

/* Value i of `count` that stand for all n: one from each part of them, at a random place so that no pattern in a
 * matrix is met at every turn. */
static float sampled(const float *x, int64_t n, int64_t count, int64_t i, uint64_t *rng) {
    if (n == count) return x[i];
    const int64_t first = (int64_t)((double)n / (double)count * (double)i);
    const int64_t next = (int64_t)((double)n / (double)count * (double)(i + 1));
    const int64_t at = first + (int64_t)(qd_random(rng) * (double)(next - first));
    return x[at < n ? at : n - 1];
}

/* ---- Parts -------------------------------------------------------------------------------------------------- */

/* The sorted values, and the sums of those before each, less the mean. */
typedef struct sorted {
    int64_t n;
    float *value; /* n */
    double *sum;  /* n + 1 */
    double mean;
} sorted;

/* Within the values, where sums of far larger ones leave nothing of them: so means rise strictly with the pieces. */
static double mean_of(const sorted *s, int64_t from, int64_t to) {
    const double mean = s->mean + (s->sum[to] - s->sum[from]) / (double)(to - from);
    return fmin(fmax(mean, (double)s->value[from]), (double)s->value[to - 1]);
}

/* Cuts the sorted values into at most `most` parts, between different values only: one for each different value when
 * these are few enough, else half of the cuts at equal counts, half at equal distances. start[parts] = n. */
static int find_parts(const sorted *s, int most, int64_t *start) {
    int64_t different = 1;
    for (int64_t i = 1; i < s->n; i++)
        different += s->value[i] != s->value[i - 1];
    const bool all = different <= most;
    const double low = (double)s->value[0], width = ((double)s->value[s->n - 1] - low) / (most / 2);
    int parts = 0;
    int64_t count_cell = -1, width_cell = -1;
    for (int64_t i = 0; i < s->n; i++) {
        if (i > 0 && s->value[i] == s->value[i - 1]) continue;
        const int64_t by_count = i * (most / 2) / s->n;
        const int64_t by_width = width > 0 ? (int64_t)(((double)s->value[i] - low) / width) : 0;
        if (!all && by_count == count_cell && by_width == width_cell) continue;
        count_cell = by_count;
        width_cell = by_width;
        start[parts++] = i;
    }
    start[parts] = s->n;
    return parts;
}

/* ---- Dynamic programming ------------------------------------------------------------------------------------ */

/* The best `k` pieces of parts: cost[b] is that of the parts before b in the pieces so far, from[k][b] where the last
 * of them starts. */
typedef struct table {
    int parts;
    const double *count, *sum; /* of the parts before each */
    double *cost, *next;       /* parts + 1 */
    int16_t *from;             /* [k][parts + 1] */
} table;

/* Squared error of parts a … b - 1 as one cluster, less the sum of their squares: those of all pieces are the same
 * however they are cut. */
static double piece(const table *t, int a, int b) {
    const double sum = t->sum[b] - t->sum[a];
    return -sum * sum / (t->count[b] - t->count[a]);
}

/* For each b in [low, high] the best start of its last piece, which lies in [first, last]: these rise with b, so that
 * the middle one halves the search for the others. */
static void find_starts(table *t, int16_t *from, int low, int high, int first, int last) {
    if (low > high) return;
    const int b = (low + high) / 2;
    double best = INFINITY;
    int at = first;
    for (int a = first; a <= last && a < b; a++) {
        const double cost = t->cost[a] + piece(t, a, b);
        if (cost < best) {
            best = cost;
            at = a;
        }
    }
    t->next[b] = best;
    from[b] = (int16_t)at;
    find_starts(t, from, low, b - 1, first, at);
    find_starts(t, from, b + 1, high, at, last);
}

/* Where the best k pieces of the parts start; k is not more than the parts. cut[k] = parts. */
static void find_pieces(table *t, int k, int *cut) {
    const int row = t->parts + 1;
    for (int b = 1; b <= t->parts; b++)
        t->cost[b] = piece(t, 0, b);
    t->cost[0] = INFINITY; /* no piece is empty */
    for (int j = 1; j < k; j++) {
        for (int b = 0; b <= j; b++)
            t->next[b] = INFINITY;
        find_starts(t, t->from + j * row, j + 1, t->parts, j, t->parts - 1);
        double *swap = t->cost;
        t->cost = t->next;
        t->next = swap;
    }
    cut[k] = t->parts;
    for (int j = k - 1; j > 0; j--)
        cut[j] = t->from[j * row + cut[j + 1]];
    cut[0] = 0;
}

/* The first values of the best k pieces; end[k] = n. */
static qd_status best_pieces(const sorted *s, const int64_t *start, int parts, int k, int64_t *end) {
    const size_t row = (size_t)parts + 1;
    double *memory = qd_alloc(4 * row * sizeof *memory + (size_t)k * row * sizeof(int16_t));
    if (!memory) return QD_ERR_MEMORY;
    double *count = memory, *sum = count + row;
    table t = {.parts = parts, .count = count, .sum = sum, .cost = sum + row};
    t.next = t.cost + row;
    t.from = (int16_t *)(t.next + row);
    count[0] = sum[0] = 0;
    for (int p = 0; p < parts; p++) {
        count[p + 1] = (double)start[p + 1];
        sum[p + 1] = s->sum[start[p + 1]];
    }
    int cut[QD_CODEBOOK_MOST + 1];
    find_pieces(&t, k, cut);
    for (int j = 0; j <= k; j++)
        end[j] = start[cut[j]];
    free(memory);
    return QD_OK;
}

/* ---- Lloyd's method ----------------------------------------------------------------------------------------- */

/* The first value that is above x, at or behind `from`. */
static int64_t first_above(const sorted *s, int64_t from, double x) {
    int64_t low = from, high = s->n;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if ((double)s->value[middle] > x)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Moves the ends of the clusters to the middles between their means until nothing moves. None becomes empty: an end
 * stays where it is instead. */
static void improve(const sorted *s, int k, int64_t *end) {
    bool moved = true;
    for (int turn = 0; moved && turn < MOST_TURNS; turn++) {
        double mean[QD_CODEBOOK_MOST];
        for (int j = 0; j < k; j++)
            mean[j] = mean_of(s, end[j], end[j + 1]);
        moved = false;
        for (int j = 1; j < k; j++) {
            const int64_t at = first_above(s, end[j - 1], (mean[j - 1] + mean[j]) / 2);
            if (at == end[j] || at <= end[j - 1] || at >= end[j + 1]) continue;
            end[j] = at;
            moved = true;
        }
    }
}

static qd_status cluster(const sorted *s, int k, float *centroids, int *found) {
    int most = 16 * k;
    most = most < LEAST_PARTS ? LEAST_PARTS : most > MOST_PARTS ? MOST_PARTS : most;
    int64_t start[MOST_PARTS + 2], end[QD_CODEBOOK_MOST + 1];
    const int parts = find_parts(s, most, start), clusters = k < parts ? k : parts;
    const qd_status status = best_pieces(s, start, parts, clusters, end);
    if (status != QD_OK) return status;
    improve(s, clusters, end);
    for (int j = 0; j < k; j++)
        centroids[j] = j < clusters ? (float)mean_of(s, end[j], end[j + 1]) : centroids[j - 1];
    *found = clusters;
    return QD_OK;
}

qd_status qd_kmeans(const float *x, int64_t n, int k, float *centroids, int *found) {
    if (n < 1 || k < 1 || k > QD_CODEBOOK_MOST || n > PTRDIFF_MAX / (int64_t)sizeof *x)
        return qd_fail(QD_ERR_ARGUMENT, "qd_kmeans: %d centroids of %lld values: 1 to %d", k, (long long)n,
                       QD_CODEBOOK_MOST);
    if (!x || !centroids || !found) return qd_fail(QD_ERR_ARGUMENT, "qd_kmeans: no pointer may be NULL");
    float least = INFINITY, most = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return qd_fail(QD_ERR_ARGUMENT, "qd_kmeans: value %lld is not finite: replace it first", (long long)i);
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    const int64_t count = n < MOST_VALUES ? n : MOST_VALUES, room = count + 2;
    sorted s = {.n = count};
    s.sum = qd_alloc((size_t)room * (sizeof *s.sum + 2 * sizeof(uint32_t)));
    if (!s.sum) return QD_ERR_MEMORY;
    uint32_t *keys = (uint32_t *)(s.sum + room);
    uint64_t rng = 0;
    for (int64_t i = 0; i < count; i++)
        keys[i] = key_of(sampled(x, n, count, i, &rng));
    if (count < n) {
        keys[s.n++] = key_of(least);
        keys[s.n++] = key_of(most);
    }
    keys = sort_keys(keys, keys + room, s.n);
    s.value = (float *)keys;
    double total = 0;
    for (int64_t i = 0; i < s.n; i++) {
        const float value = float_of(keys[i]);
        memcpy(&s.value[i], &value, sizeof value);
        total += (double)value;
    }
    s.mean = total / (double)s.n;
    s.sum[0] = 0;
    for (int64_t i = 0; i < s.n; i++)
        s.sum[i + 1] = s.sum[i] + ((double)s.value[i] - s.mean);
    float result[QD_CODEBOOK_MOST];
    const qd_status status = cluster(&s, k, result, found);
    if (status == QD_OK) memcpy(centroids, result, (size_t)k * sizeof *result);
    free(s.sum);
    return status;
}
