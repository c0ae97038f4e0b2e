/* Learned codebooks: against all cuts of small sets, the properties of an optimum, product quantization. */
#include <math.h>

#include "qdot/qdot_codebook.h"
#include "unit/devices.h"

/* ---- One dimension ------------------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Least squared error of k pieces of x[n], which is sorted: all cuts are tried. */
static double best_error(const float *x, int n, int k) {
    double best = INFINITY;
    for (int last = k > 1 ? k - 1 : 0; last < (k > 1 ? n : 1); last++) { /* where the last piece starts */
        double sum = 0, error = 0;
        for (int i = last; i < n; i++)
            sum += (double)x[i] / (n - last);
        for (int i = last; i < n; i++)
            error += ((double)x[i] - sum) * ((double)x[i] - sum);
        if (k > 1) error += best_error(x, last, k - 1);
        best = fmin(best, error);
    }
    return best;
}

static double error_of(const float *x, int64_t n, const float *centroids, int k) {
    double error = 0;
    for (int64_t i = 0; i < n; i++) {
        double least = INFINITY;
        for (int c = 0; c < k; c++)
            least = fmin(least, ((double)x[i] - (double)centroids[c]) * ((double)x[i] - (double)centroids[c]));
        error += least;
    }
    return error;
}

START_TEST(test_optimum) {
    uint32_t rng = 61;
    for (int round = 0; round < 200; round++) {
        float x[12], centroids[4];
        int found;
        const int n = (int)random_between(&rng, 4, 12), k = (int)random_between(&rng, 1, 4);
        for (int i = 0; i < n; i++) /* with equal values, and far ones */
            x[i] = (float)random_between(&rng, -20, 20) * (random_between(&rng, 0, 9) ? 0.25f : 100);
        ck_ok(qd_kmeans(x, n, k, centroids, &found));
        const double got = error_of(x, n, centroids, found);
        qsort(x, (size_t)n, sizeof *x, compare);
        const double want = best_error(x, n, k);
        ck_assert_msg(got <= want * (1 + 1e-5) + 1e-6, "round %d: %g, not %g", round, got, want);
        for (int c = 1; c < k; c++)
            ck_assert(c < found ? centroids[c] > centroids[c - 1] : centroids[c] == centroids[c - 1]);
    }
}
END_TEST

/* The same by dynamic programming over all pieces, for larger sets. */
static double least_error(const float *x, int n, int k) {
    double *sum = calloc((size_t)n + 1, sizeof *sum), *square = calloc((size_t)n + 1, sizeof *square);
    double *cost = calloc((size_t)n + 1, sizeof *cost), *next = calloc((size_t)n + 1, sizeof *next);
    ck_assert(sum && square && cost && next);
    for (int i = 0; i < n; i++) {
        sum[i + 1] = sum[i] + (double)x[i];
        square[i + 1] = square[i] + (double)x[i] * (double)x[i];
        cost[i + 1] = INFINITY;
    }
    for (int j = 0; j < k; j++) {
        for (int b = 0; b <= n; b++) {
            next[b] = INFINITY;
            for (int a = 0; a < b; a++) {
                const double s = sum[b] - sum[a];
                next[b] = fmin(next[b], cost[a] + square[b] - square[a] - s * s / (b - a));
            }
        }
        memcpy(cost, next, ((size_t)n + 1) * sizeof *cost);
    }
    const double error = cost[n];
    free(sum);
    free(square);
    free(cost);
    free(next);
    return error;
}

static void normal_values(uint32_t *rng, float *x, int n) {
    for (int i = 0; i < n; i++) {
        const double u = ((double)random_bits(rng) + 1) / 0x1p24, v = (double)random_bits(rng) / 0x1p24;
        x[i] = (float)(sqrt(-2 * log(u)) * cos(2 * acos(-1) * v));
    }
}

/* Exact up to 256 different values; close to it beyond. */
START_TEST(test_larger_sets) {
    static float x[1200], centroids[16];
    uint32_t rng = 9;
    int found;
    for (int round = 0; round < 12; round++) {
        const int n = round < 9 ? 250 : 1200, k = round < 9 ? 5 : 16;
        normal_values(&rng, x, n);
        ck_ok(qd_kmeans(x, n, k, centroids, &found));
        const double got = error_of(x, n, centroids, found);
        qsort(x, (size_t)n, sizeof *x, compare);
        const double want = least_error(x, n, k);
        ck_assert_msg(got <= want * (n == 250 ? 1.000001 : 1.002), "round %d: %g, not %g", round, got, want);
    }
}
END_TEST

/* Of more than 2^20 values a part is taken: not always from the same places of a pattern. */
START_TEST(test_pattern) {
    enum { N = 1 << 21 };
    float *x = malloc(N * sizeof *x), centroids[2];
    uint32_t rng = 7;
    int found;
    ck_assert_ptr_nonnull(x);
    for (int i = 0; i < N; i++)
        x[i] = i % 2 ? (float)random_between(&rng, 0, 3) : -1;
    ck_ok(qd_kmeans(x, N, 2, centroids, &found));
    /* Half of them are -1; it takes 0 with it. */
    ck_assert_msg(fabsf(centroids[0] + 0.8f) < 0.01f && fabsf(centroids[1] - 2) < 0.01f, "%g, %g", (double)centroids[0],
                  (double)centroids[1]);
    for (int i = 0; i < N; i++)
        x[i] = i % 2 ? -1 : (float)random_between(&rng, 0, 3);
    ck_ok(qd_kmeans(x, N, 2, centroids, &found));
    ck_assert(fabsf(centroids[0] + 0.8f) < 0.01f && fabsf(centroids[1] - 2) < 0.01f);
    free(x);
}
END_TEST

/* A normal distribution: what Lloyd (1957) and Max (1960) found for it. */
START_TEST(test_normal) {
    enum { MOST = 1300000 };
    static const struct {
        int n, k;
        double error; /* per value, at a standard deviation of 1 */
    } known[] = {{300000, 2, 0.3634}, {300000, 4, 0.1175}, {300000, 16, 0.009497}, {MOST, 8, 0.03454}};
    float *x = malloc(MOST * sizeof *x), centroids[16];
    uint32_t rng = 1;
    ck_assert_ptr_nonnull(x);
    normal_values(&rng, x, MOST);
    for (int i = 0; i < 4; i++) {
        int found;
        ck_ok(qd_kmeans(x, known[i].n, known[i].k, centroids, &found));
        ck_assert_int_eq(found, known[i].k);
        const double error = error_of(x, known[i].n, centroids, found) / known[i].n;
        ck_assert_msg(fabs(error / known[i].error - 1) < 0.01, "%d of %d: %g, not %g", known[i].k, known[i].n, error,
                      known[i].error);
        /* Each is the mean of the values next to it. */
        double sum[16] = {0}, count[16] = {0};
        for (int v = 0; v < known[i].n; v++) {
            int nearest = 0;
            while (nearest + 1 < found && x[v] > centroids[nearest] / 2 + centroids[nearest + 1] / 2)
                nearest++;
            sum[nearest] += (double)x[v];
            count[nearest]++;
        }
        for (int c = 0; c < found && known[i].n < MOST; c++)
            ck_assert_double_eq_tol(sum[c] / count[c], (double)centroids[c], 2e-5);
    }
    free(x);
}
END_TEST

START_TEST(test_few_values) {
    float x[300], centroids[256];
    int found;
    for (int i = 0; i < 300; i++)
        x[i] = (float)(i % 3) - 1;
    ck_ok(qd_kmeans(x, 300, 256, centroids, &found));
    ck_assert_int_eq(found, 3);
    ck_assert(centroids[0] == -1 && centroids[1] == 0 && centroids[2] == 1 && centroids[255] == 1);
    for (int i = 0; i < 300; i++)
        x[i] = i % 2 ? 0.0f : -0.0f;
    ck_ok(qd_kmeans(x, 300, 2, centroids, &found));
    ck_assert_int_eq(found, 1);
    static const float ends[] = {-3e38f, 3e38f, 1e-44f, 2e-44f};
    ck_ok(qd_kmeans(ends, 4, 3, centroids, &found));
    ck_assert(found == 3 && centroids[0] == -3e38f && centroids[2] == 3e38f);
    ck_assert(centroids[1] >= 1e-44f && centroids[1] <= 2e-44f);
}
END_TEST

START_TEST(test_refused) {
    float x[8] = {0}, centroids[16]; /* of product quantization from 8 on */
    uint8_t codes[8];
    int found = 77;
    double error;
    memset(centroids, 0x5a, sizeof centroids);
    float noise[16];
    memcpy(noise, centroids, sizeof noise);
    ck_fails(qd_kmeans(x, 0, 2, centroids, &found), QD_ERR_ARGUMENT, "0 values");
    ck_fails(qd_kmeans(x, 8, 0, centroids, &found), QD_ERR_ARGUMENT, "0 centroids");
    ck_fails(qd_kmeans(x, 8, 257, centroids, &found), QD_ERR_ARGUMENT, "257 centroids");
    ck_fails(qd_kmeans(NULL, 8, 2, centroids, &found), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_kmeans(x, 8, 2, centroids, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_kmeans_vectors(x, 4, 0, 2, NULL, centroids, codes, &error), QD_ERR_ARGUMENT, "vectors of 0");
    ck_fails(qd_kmeans_vectors(x, INT64_MAX, 4, 2, NULL, centroids, codes, &error), QD_ERR_ARGUMENT, "vectors of 4");
    ck_fails(qd_kmeans_vectors(x, 4, 2, 2, NULL, NULL, codes, &error), QD_ERR_ARGUMENT, "NULL");
    x[5] = NAN;
    ck_fails(qd_kmeans(x, 8, 2, centroids, &found), QD_ERR_ARGUMENT, "value 5 is not finite");
    ck_fails(qd_kmeans_vectors(x, 4, 2, 2, NULL, centroids, codes, &error), QD_ERR_ARGUMENT, "value 5 is not finite");
    const qd_product p = {2, 1, 1};
    ck_fails(qd_product_train(&p, x, 2, 4, NULL, centroids, codes), QD_ERR_ARGUMENT, "is not finite");
    x[5] = 0;
    ck_fails(qd_product_train(&p, x, 0, 4, NULL, centroids, codes), QD_ERR_ARGUMENT, "no rows");
    static const qd_product wrong[] = {{3, 1, 1}, {2, 0, 1}, {2, 9, 1}, {0, 4, 1}, {2, 4, 3}, {2, 4, -1}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_int_eq(qd_product_codebooks(&wrong[i], 4), 0);
        ck_fails(qd_product_train(&wrong[i], x, 2, 4, NULL, centroids, codes), QD_ERR_ARGUMENT, "sub-vectors of");
        ck_fails(qd_product_encode(&wrong[i], centroids, x, 2, 4, codes), QD_ERR_ARGUMENT, "sub-vectors of");
        ck_fails(qd_product_decode(&wrong[i], centroids, codes, 2, 4, x), QD_ERR_ARGUMENT, "sub-vectors of");
    }
    ck_assert_int_eq(qd_product_codebooks(NULL, 4), 0);
    ck_fails(qd_product_decode(&p, NULL, codes, 2, 4, x), QD_ERR_ARGUMENT, "NULL");
    int failed = 0;
    for (int n = 0; n < 12; n++) {
        qd_alloc_fail_after(n);
        const qd_status one = qd_kmeans(x, 8, 2, centroids, &found);
        qd_alloc_fail_after(n);
        const qd_status many = qd_product_train(&p, x, 2, 4, NULL, centroids + 8, codes);
        qd_alloc_fail_after(-1);
        ck_assert(one == QD_OK || one == QD_ERR_MEMORY);
        ck_assert(many == QD_OK || many == QD_ERR_MEMORY);
        if (one != QD_OK) ck_assert_mem_eq(centroids, noise, 8 * sizeof *noise);
        if (many != QD_OK) ck_assert_mem_eq(centroids + 8, noise, 8 * sizeof *noise);
        failed += (one != QD_OK) + (many != QD_OK);
    }
    ck_assert_int_ge(failed, 4);
}
END_TEST

/* ---- Vectors ------------------------------------------------------------------------------------------------ */

/* Points around k far places: each place becomes a centroid. */
START_TEST(test_clusters) {
    enum { K = 40, DIM = 3, EACH = 20, N = K * EACH };
    static float x[N * DIM], centroids[K * DIM], again[K * DIM];
    static uint8_t codes[N];
    uint32_t rng = 12;
    double error, own = 0;
    for (int i = 0; i < N; i++) {
        for (int d = 0; d < DIM; d++) {
            const int place = i % K;
            x[i * DIM + d] = (float)(d == 0   ? place % 4
                                     : d == 1 ? place / 4 % 4
                                              : place / 16) *
                                 10 +
                             (float)random_between(&rng, -100, 100) * 0.001f;
        }
    }
    const qd_kmeans_options options = {.seed = 5, .sample = -1};
    ck_ok(qd_kmeans_vectors(x, N, DIM, K, &options, centroids, codes, &error));
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(codes[i], codes[i % K]);
        for (int d = 0; d < DIM; d++)
            own += pow((double)x[i * DIM + d] - (double)centroids[codes[i] * DIM + d], 2);
    }
    ck_assert_double_eq_tol(error, own, 1e-4 * own);
    ck_assert(error / N < 0.02);
    ck_ok(qd_kmeans_vectors(x, N, DIM, K, &options, again, NULL, NULL));
    ck_assert_mem_eq(again, centroids, sizeof again);
    /* The first start is one of several, of which the best counts. */
    random_floats(&rng, x, N * DIM);
    for (uint64_t seed = 0; seed < 8; seed++) {
        double best;
        const qd_kmeans_options one = {.seed = seed, .sample = -1},
                                several = {.seed = seed, .sample = -1, .restarts = 3};
        ck_ok(qd_kmeans_vectors(x, N, DIM, 8, &one, again, NULL, &error));
        ck_ok(qd_kmeans_vectors(x, N, DIM, 8, &several, again, NULL, &best));
        ck_assert(best <= error);
    }
}
END_TEST

/* Codes are those of a search through all centroids, at every number of them and of values. */
START_TEST(test_assignment) {
    enum { N = 300 };
    static float x[N * 9], centroids[256 * 9];
    static uint8_t codes[N];
    uint32_t rng = 2;
    random_floats(&rng, x, N * 9);
    static const int ks[] = {1, 2, 5, 31, 32, 33, 255, 256};
    for (int dim = 1; dim <= 9; dim += 2) {
        for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
            const int k = ks[i];
            double total, sum = 0;
            const qd_kmeans_options options = {.iterations = 3, .sample = i % 2 ? 1 : 0};
            ck_ok(qd_kmeans_vectors(x, N, dim, k, &options, centroids, codes, &total));
            for (int v = 0; v < N; v++) {
                float least = INFINITY;
                int nearest = 0;
                for (int c = 0; c < k; c++) {
                    float distance = 0;
                    for (int d = 0; d < dim; d++) {
                        const float off = x[v * dim + d] - centroids[c * dim + d];
                        distance += off * off;
                    }
                    if (distance < least) {
                        least = distance;
                        nearest = c;
                    }
                }
                ck_assert_int_eq(codes[v], nearest);
                sum += (double)least;
            }
            ck_assert_double_eq_tol(total, sum, 1e-6 * sum + 1e-12);
        }
    }
}
END_TEST

/* ---- Product quantization ----------------------------------------------------------------------------------- */

START_TEST(test_product) {
    enum { ROWS = 200, COLS = 24 };
    static float x[ROWS * COLS], y[ROWS * COLS], centroids[COLS / 4 * 16 * 4];
    static uint8_t codes[ROWS * COLS / 4], again[ROWS * COLS / 4];
    uint32_t rng = 31;
    random_floats(&rng, x, ROWS * COLS);
    static const int shares[] = {1, 2, 3, 0};
    double before = 0;
    for (int i = 0; i < 4; i++) {
        const qd_product p = {4, 4, shares[i]};
        const int64_t books = qd_product_codebooks(&p, COLS);
        ck_assert_int_eq(books, shares[i] ? 6 / shares[i] : 1);
        ck_ok(qd_product_train(&p, x, ROWS, COLS, NULL, centroids, codes));
        ck_ok(qd_product_encode(&p, centroids, x, ROWS, COLS, again));
        ck_assert_mem_eq(again, codes, sizeof codes);
        ck_ok(qd_product_decode(&p, centroids, codes, ROWS, COLS, y));
        double error = 0, power = 0;
        for (int j = 0; j < ROWS * COLS; j++) {
            const int64_t book = j % COLS / 4 / (6 / books);
            ck_assert(y[j] == centroids[(book * 16 + codes[j / 4]) * 4 + j % 4]);
            error += pow((double)(x[j] - y[j]), 2);
            power += pow((double)x[j], 2);
        }
        /* One bit per weight of uniform values, four of them together: the fewer codebooks, the worse. */
        ck_assert(error < 0.45 * power && error > before);
        before = error * 0.98;
    }
    ck_ok(qd_product_decode(&(qd_product){4, 4, 1}, NULL, NULL, 0, COLS, NULL));
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("kmeans");
    tcase_add_test(tc, test_optimum);
    tcase_add_test(tc, test_larger_sets);
    tcase_add_test(tc, test_pattern);
    tcase_add_test(tc, test_normal);
    tcase_add_test(tc, test_few_values);
    tcase_add_test(tc, test_refused);
    tcase_add_test(tc, test_clusters);
    tcase_add_test(tc, test_assignment);
    tcase_add_test(tc, test_product);
    return run_tests(tc, "k-means");
}
