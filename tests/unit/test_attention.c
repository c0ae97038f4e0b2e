/* The three ways to attention: ATTENTION, ATTENTION_MASKED, and MATMUL_BATCH, SOFTMAX, MATMUL_BATCH. Where they compute
 * the same thing, they give the same bytes. */
#include <math.h>

#include "qdot/qdot_num.h"
#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

/* Tokens `first` … `first + T - 1` of a cache with room for P, which is cleared behind the last. */
typedef struct problem {
    int T, H, G, P, D, first;
    float scale;
    float *q;     /* [T, H, D] */
    float *k, *v; /* [G, P, D] */
    float *mask;  /* [T, P] */
} problem;

static float *floats(size_t count) {
    float *x = calloc(count, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* Numbers whose sums depend on their order. */
static void fill(uint32_t *rng, float *x, int count) {
    random_floats(rng, x, (size_t)count);
    for (int i = 0; i < count; i++)
        x[i] *= 1.1f;
}

static problem make(int T, int H, int G, int P, int D, int first, uint32_t seed) {
    problem p = {.T = T, .H = H, .G = G, .P = P, .D = D, .first = first, .scale = 1 / sqrtf((float)D)};
    p.q = floats((size_t)(T * H * D));
    p.k = floats((size_t)(G * P * D));
    p.v = floats((size_t)(G * P * D));
    p.mask = floats((size_t)(T * P));
    fill(&seed, p.q, T * H * D);
    for (int g = 0; g < G; g++) {
        fill(&seed, p.k + g * P * D, (first + T) * D);
        fill(&seed, p.v + g * P * D, (first + T) * D);
    }
    for (int i = 0; i < T * P; i++)
        p.mask[i] = i % P > first + i / P ? -INFINITY : 0;
    return p;
}

static void discard(problem *p) {
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->mask);
}

/* Of [T, H, D] to [H, T, D], or back. */
static float *turned(const float *x, int rows, int cols, int D) {
    float *y = floats((size_t)(rows * cols * D));
    for (int i = 0; i < rows * cols * D; i++)
        y[(i / D % cols * rows + i / D / cols) * D + i % D] = x[i];
    return y;
}

static void attention(qd_context *c, const problem *p, float *y) {
    float *keys = floats((size_t)(p->G * p->P * p->D));
    for (int i = 0; i < p->G * p->P * p->D; i++)
        keys[QD_KEY_INDEX(i / p->D / p->P, i / p->D % p->P, i % p->D, p->P, p->D)] = p->k[i];
    const one_op o = {.op = QD_OP_ATTENTION,
                      .attrs = {.attention = {.heads = p->H, .kv_heads = p->G, .head_dim = p->D, .scale = p->scale}},
                      .in = {F32(p->T, p->H * p->D, 0, 0), F32(p->G, p->P, p->D, 0), F32(p->G, p->P, p->D, 0),
                             qd_desc(QD_FORMAT_I32, 1, 0, 0, 0)},
                      .out = F32(p->T, p->H * p->D, 0, 0),
                      .data = {p->q, keys, p->v, (int32_t[]){p->first}}};
    ck_ok(one_op_run(c, &o, y));
    free(keys);
}

static void attention_masked(qd_context *c, const problem *p, float *y) {
    float *q = turned(p->q, p->T, p->H, p->D);
    const one_op o = {
        .op = QD_OP_ATTENTION_MASKED,
        .attrs = {.attention_masked = {.scale = p->scale}},
        .in = {F32(1, p->H, p->T, p->D), F32(1, p->G, p->P, p->D), F32(1, p->G, p->P, p->D), F32(1, 1, p->T, p->P)},
        .out = F32(1, p->T, p->H, p->D),
        .data = {q, p->k, p->v, p->mask}};
    ck_ok(one_op_run(c, &o, y));
    free(q);
}

static void products_and_softmax(qd_context *c, const problem *p, float *y) {
    float *q = turned(p->q, p->T, p->H, p->D), *s = floats((size_t)(p->H * p->T * p->P));
    float *values = floats((size_t)(p->G * p->P * p->D)), *heads = floats((size_t)(p->H * p->T * p->D));
    for (int i = 0; i < p->G * p->P * p->D; i++)
        values[(i / p->D / p->P * p->D + i % p->D) * p->P + i / p->D % p->P] = p->v[i];
    one_op o = {.op = QD_OP_MATMUL_BATCH,
                .in = {F32(p->G, p->P, p->D, 0), F32(p->H, p->T, p->D, 0)},
                .out = F32(p->H, p->T, p->P, 0),
                .data = {p->k, q}};
    ck_ok(one_op_run(c, &o, s));
    o = (one_op){.op = QD_OP_SOFTMAX,
                 .attrs = {.softmax = {.scale = p->scale}},
                 .in = {o.out, F32(1, p->T, p->P, 0)},
                 .out = o.out,
                 .data = {s, p->mask}};
    float *weights = floats((size_t)(p->H * p->T * p->P));
    ck_ok(one_op_run(c, &o, weights));
    o = (one_op){.op = QD_OP_MATMUL_BATCH,
                 .in = {F32(p->G, p->D, p->P, 0), o.out},
                 .out = F32(p->H, p->T, p->D, 0),
                 .data = {values, weights}};
    ck_ok(one_op_run(c, &o, heads));
    float *rows = turned(heads, p->H, p->T, p->D);
    memcpy(y, rows, (size_t)(p->T * p->H * p->D) * sizeof *y);
    free(q);
    free(s);
    free(values);
    free(heads);
    free(weights);
    free(rows);
}

static void ck_same(const problem *p, const float *x, const float *y, const char *what) {
    for (int i = 0; i < p->T * p->H * p->D; i++)
        ck_assert_msg(!memcmp(x + i, y + i, sizeof *x),
                      "%s: T %d H %d G %d P %d D %d first %d: element %d is %a, not %a", what, p->T, p->H, p->G, p->P,
                      p->D, p->first, i, (double)y[i], (double)x[i]);
}

START_TEST(test_same_bytes) {
    static const int sizes[][6] = {/* T, H, G, P, D, first */
                                   {1, 3, 1, 16, 16, 0},    {1, 9, 3, 256, 64, 170}, {7, 9, 3, 256, 64, 0},
                                   {5, 4, 4, 48, 32, 17},   {40, 6, 2, 64, 80, 3},   {3, 2, 1, 528, 144, 500},
                                   {33, 8, 1, 320, 16, 280}};
    WITH_DEVICE(c);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int *n = sizes[i];
        problem p = make(n[0], n[1], n[2], n[3], n[4], n[5], (uint32_t)i + 1);
        const size_t count = (size_t)(p.T * p.H * p.D);
        float *want = floats(count), *got = floats(count);
        attention(c, &p, want);
        products_and_softmax(c, &p, got);
        ck_same(&p, want, got, "products and softmax");
        attention_masked(c, &p, got);
        ck_same(&p, want, got, "attention_masked");
        free(want);
        free(got);
        discard(&p);
    }
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("attention");
    tcase_add_loop_test(tc, test_same_bytes, 0, TEST_DEVICES);
    return run_tests(tc, "attention");
}
