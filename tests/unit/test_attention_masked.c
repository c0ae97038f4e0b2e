/* ATTENTION_MASKED: its definition in float64, answers by hand, what a mask leaves out, and what is refused. */
#include <math.h>

#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

/* ---- The definition ----------------------------------------------------------------------------------------- */

typedef struct sizes {
    int B, H, T, D, kv_B, G, P, E, mask_B, mask_H;
} sizes;

typedef struct problem {
    sizes n;
    float scale, softcap;
    float *q, *k, *v, *mask, *slopes; /* dense; mask and slopes may be NULL */
} problem;

/* Element e of token t, head h, batch b. */
static double defined(const problem *x, int b, int t, int h, int e) {
    const sizes *n = &x->n;
    const int g = h / (n->H / n->G), kv = b / (n->B / n->kv_B) * n->G + g;
    double sum = 0, y = 0;
    for (int j = 0; j < n->P; j++) {
        const int row = (b % n->mask_B * n->mask_H + h % n->mask_H) * n->T + t;
        const double bias = x->mask ? (double)x->mask[row * n->P + j] : 0;
        if (isinf(bias)) continue;
        double s = 0;
        for (int d = 0; d < n->D; d++)
            s += (double)x->q[((b * n->H + h) * n->T + t) * n->D + d] * (double)x->k[(kv * n->P + j) * n->D + d];
        s *= (double)x->scale;
        if (x->softcap != 0) s = (double)x->softcap * tanh(s / (double)x->softcap);
        s += (x->slopes ? (double)x->slopes[h] : 1.0) * bias;
        sum += exp(s);
        y += exp(s) * (double)x->v[(kv * n->P + j) * n->E + e];
    }
    return sum > 0 ? y / sum : 0;
}

static float *some(uint32_t *rng, int count) {
    float *x = malloc((size_t)count * sizeof *x);
    ck_assert_ptr_nonnull(x);
    random_floats(rng, x, (size_t)count);
    return x;
}

/* What is left of x in a format. */
static void *in_format(qd_format f, float *x, int count, int cols) {
    void *data = malloc(qd_format_row_bytes(f, cols) * (size_t)(count / cols));
    ck_assert_ptr_nonnull(data);
    ck_ok(qd_quantize(f, x, count / cols, cols, data));
    ck_ok(qd_dequantize(f, data, count / cols, cols, x));
    return data;
}

/* exp and tanh are good to 2^-22 and 2^-20; scores of up to 30 lose as many bits as they have before the point. */
enum { INVERSE_TOLERANCE = 200000 };

static void ck_defined(qd_context *c, const problem *x, qd_format k_format, qd_format v_format, qd_format mask_format) {
    const sizes n = x->n;
    const int k_count = n.kv_B * n.G * n.P * n.D, v_count = n.kv_B * n.G * n.P * n.E;
    const int mask_count = n.mask_B * n.mask_H * n.T * n.P;
    void *k = in_format(k_format, x->k, k_count, n.D), *v = in_format(v_format, x->v, v_count, n.E);
    void *mask = x->mask ? in_format(mask_format, x->mask, mask_count, n.P) : NULL;
    one_op o = {.op = QD_OP_ATTENTION_MASKED,
                .attrs = {.attention_masked = {x->scale, x->softcap}},
                .in = {F32(n.B, n.H, n.T, n.D), qd_desc(k_format, n.kv_B, n.G, n.P, n.D),
                       qd_desc(v_format, n.kv_B, n.G, n.P, n.E)},
                .out = F32(n.B, n.T, n.H, n.E),
                .data = {x->q, k, v, mask, x->slopes}};
    if (mask) o.in[3] = qd_desc(mask_format, n.mask_B, n.mask_H, n.T, n.P);
    if (x->slopes) o.in[4] = F32(n.H, 0, 0, 0);
    float *y = malloc(qd_desc_bytes(&o.out));
    ck_assert_ptr_nonnull(y);
    ck_ok(one_op_run(c, &o, y));
    for (int i = 0; i < n.B * n.T * n.H * n.E; i++) {
        const double want = defined(x, i / n.E / n.H / n.T, i / n.E / n.H % n.T, i / n.E % n.H, i % n.E);
        ck_assert_msg(fabs((double)y[i] - want) * INVERSE_TOLERANCE < 1, "%s %s: element %d is %.9g, not %.9g",
                      qd_format_get(k_format)->name, qd_format_get(v_format)->name, i, (double)y[i], want);
    }
    free(k);
    free(v);
    free(mask);
    free(y);
}

START_TEST(test_definition) {
    static const qd_format formats[] = {QD_FORMAT_F32, QD_FORMAT_F16, QD_FORMAT_BF16, QD_FORMAT_Q8_0};
    WITH_DEVICE(c);
    for (int i = 0; i < 32; i++) {
        uint32_t rng = (uint32_t)i + 1;
        const sizes n = {.B = 4,
                         .H = 6,
                         .T = 3,
                         .D = i % 2 ? 96 : 32,
                         .kv_B = i % 3 == 2 ? 4 : i % 3 + 1,
                         .G = 3,
                         .P = 37,
                         .E = i % 8 < 4 ? 64 : 160,
                         .mask_B = i % 2 ? 4 : 2,
                         .mask_H = i % 3 ? 6 : 2};
        problem x = {.n = n, .scale = 0.2f, .softcap = i % 5 == 4 ? 5.0f : 0.0f};
        x.q = some(&rng, n.B * n.H * n.T * n.D);
        x.k = some(&rng, n.kv_B * n.G * n.P * n.D);
        x.v = some(&rng, n.kv_B * n.G * n.P * n.E);
        if (i % 7) x.mask = some(&rng, n.mask_B * n.mask_H * n.T * n.P);
        if (i % 3 == 1) x.slopes = some(&rng, n.H);
        for (int j = 0; x.mask && j < n.mask_B * n.mask_H * n.T * n.P; j++)
            if (random_bits(&rng) % 3 == 0) x.mask[j] = -INFINITY;
        ck_defined(c, &x, formats[i % 4], formats[i / 4 % 4], i % 2 ? QD_FORMAT_F16 : QD_FORMAT_F32);
        free(x.q);
        free(x.k);
        free(x.v);
        free(x.mask);
        free(x.slopes);
    }
    qd_context_free(c);
}
END_TEST

/* ---- By hand ------------------------------------------------------------------------------------------------ */

/* One query of one element. */
static one_op small(const float *q, const float *k, const float *v, const float *mask, int positions) {
    one_op o = {.op = QD_OP_ATTENTION_MASKED,
                .attrs = {.attention_masked = {1, 0}},
                .in = {F32(1, 1, 1, 1), F32(1, 1, positions, 1), F32(1, 1, positions, 1)},
                .out = F32(1, 1, 1, 1),
                .data = {q, k, v, mask}};
    if (mask) o.in[3] = F32(1, 1, 1, positions);
    return o;
}

static void ck_one(qd_context *c, const one_op *o, double want, const char *what) {
    float y;
    ck_ok(one_op_run(c, o, &y));
    ck_assert_msg(fabs((double)y - want) < 1e-6 * (1 + fabs(want)), "%s: %.9g, not %.9g", what, (double)y, want);
}

START_TEST(test_by_hand) {
    WITH_DEVICE(c);
    const float q = 1, k[] = {0, logf(3.0f), 5}, v[] = {1, 5, 100}, out = -INFINITY;
    one_op o = small(&q, k, v, NULL, 2);
    ck_one(c, &o, 4, "weights 1 and 3"); /* (1 + 3 · 5) / 4 */
    o = small(&q, k, v, (float[]){0, 0, out}, 3);
    ck_one(c, &o, 4, "the third left out");
    o = small(&q, k, v, (float[]){out, out, 0}, 3);
    one_op_gives(c, &o, &v[2], "only the third");
    o = small(&q, k, v, (float[]){logf(3.0f), 0, out}, 3);
    ck_one(c, &o, 3, "equal weights");
    o = small(&q, k, v, (float[]){0, -2 * logf(3.0f), out}, 3);
    o.in[4] = F32(1, 0, 0, 0);
    o.data[4] = (float[]){0.5f};
    ck_one(c, &o, 3, "half of the mask");
    o = small((float[]){1e30f}, (float[]){1, -1}, v, NULL, 2);
    o.attrs.attention_masked.softcap = 0.25f * logf(9.0f);
    ck_one(c, &o, 2, "scores limited to ±log(9) / 4"); /* weights √3 and 1/√3: (3 + 5) / 4 */
    o = small((float[]){-300}, k, v, NULL, 2);
    one_op_gives(c, &o, &v[0], "the second weighs nothing");
    qd_context_free(c);
}
END_TEST

/* What is left out has no influence, whatever it is; where all is, the result is 0. */
START_TEST(test_left_out) {
    WITH_DEVICE(c);
    const float q = 1, out = -INFINITY, zero = 0;
    float k[80], v[80], mask[80];
    one_op o = small(&q, k, v, mask, 80);
    for (int seen = 0; seen < 5; seen++) { /* block that is seen; the others hold what spoils a sum */
        for (int i = 0; i < 80; i++) {
            const bool here = i / 16 == seen;
            k[i] = here ? (float)(i % 16) * 0.1f : i % 3 ? NAN : INFINITY;
            v[i] = here ? (float)(i % 16) + 0.5f : i % 3 ? -INFINITY : NAN;
            mask[i] = here ? 0 : out;
        }
        one_op alone = small(&q, k + 16 * seen, v + 16 * seen, NULL, 16);
        float want;
        ck_ok(one_op_run(c, &alone, &want));
        ck_assert(want > 8 && want < 16);
        one_op_gives(c, &o, &want, "other blocks");
    }
    for (int i = 0; i < 80; i++)
        mask[i] = out;
    one_op_gives(c, &o, &zero, "all");
    qd_context_free(c);
}
END_TEST

/* Operands where ggml has them: heads inside tokens, and a cache in which positions are outside of heads. */
START_TEST(test_windows) {
    WITH_DEVICE(c);
    enum { H = 4, G = 2, T = 5, P = 21, D = 12, ROOM = 32 };
    uint32_t rng = 7;
    float *q = some(&rng, T * H * D), *k = some(&rng, ROOM * G * D), *v = some(&rng, ROOM * G * D);
    float *dense_q = malloc(T * H * D * sizeof *q), *dense_k = malloc(G * P * D * sizeof *k),
          *dense_v = malloc(G * P * D * sizeof *v);
    float want[T * H * D];
    ck_assert(dense_q && dense_k && dense_v);
    for (int i = 0; i < T * H * D; i++)
        dense_q[(i / D % H * T + i / D / H) * D + i % D] = q[i];
    for (int i = 0; i < P * G * D; i++) {
        dense_k[(i / D % G * P + i / D / G) * D + i % D] = k[i];
        dense_v[(i / D % G * P + i / D / G) * D + i % D] = v[i % D * ROOM * G + i / D]; /* transposed: [D][ROOM, G] */
    }
    one_op o = {.op = QD_OP_ATTENTION_MASKED,
                .attrs = {.attention_masked = {0.3f, 0}},
                .in = {F32(1, H, T, D), F32(1, G, P, D), F32(1, G, P, D)},
                .out = F32(1, T, H, D),
                .data = {dense_q, dense_k, dense_v}};
    ck_ok(one_op_run(c, &o, want));
    qd_tensor *base[] = {tensor_with(c, F32(T, H, D, 0), q), tensor_with(c, F32(ROOM, G, D, 0), k),
                         tensor_with(c, F32(D, ROOM, G, 0), v)};
    qd_tensor *in[3], *y;
    const int64_t f = sizeof(float);
    ck_ok(qd_tensor_window(base[0], 0, &o.in[0], (int64_t[]){T * H * D * f, D * f, H * D * f, f}, &in[0]));
    ck_ok(qd_tensor_window(base[1], 0, &o.in[1], (int64_t[]){ROOM * G * D * f, D * f, G * D * f, f}, &in[1]));
    ck_ok(qd_tensor_window(base[2], 0, &o.in[2], (int64_t[]){D * ROOM * G * f, f, G * f, ROOM * G * f}, &in[2]));
    ck_ok(qd_tensor_create(c, &o.out, &y));
    qd_plan *plan;
    ck_ok(qd_plan_create(c, o.op, &o.attrs, in, 3, &y, 1, &plan));
    ck_ok(qd_plan_run(plan));
    ck_tensor(y, want, "windows");
    qd_plan_free(plan);
    for (int i = 0; i < 3; i++) {
        qd_tensor_free(in[i]);
        qd_tensor_free(base[i]);
    }
    qd_tensor_free(y);
    free(q);
    free(k);
    free(v);
    free(dense_q);
    free(dense_k);
    free(dense_v);
    qd_context_free(c);
}
END_TEST

/* ---- Refused ------------------------------------------------------------------------------------------------ */

START_TEST(test_refused) {
    WITH_DEVICE(c);
    const one_op good = {.op = QD_OP_ATTENTION_MASKED,
                         .attrs = {.attention_masked = {1, 0}},
                         .in = {F32(2, 4, 3, 5), F32(2, 2, 9, 5), F32(2, 2, 9, 6), F32(1, 2, 3, 9), F32(4, 0, 0, 0)},
                         .out = F32(2, 3, 4, 6)};
    float y[2 * 3 * 4 * 6 + 1000];
    ck_ok(one_op_run(c, &good, y));
    one_op o = good;
    o.in[0] = F32(4, 3, 5, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "ranks 3, 4, 4, 4");
    o = good, o.in[1] = F32(2, 2, 9, 6);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "k must be");
    o = good, o.in[2] = F32(2, 2, 8, 6);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "k must be");
    o = good, o.in[2] = F32(1, 2, 9, 6);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "k must be");
    o = good, o.out = F32(2, 4, 3, 6);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "y must be");
    o = good, o.out = F32(2, 3, 4, 5);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "y must be");
    o = good, o.in[1] = F32(2, 3, 9, 5), o.in[2] = F32(2, 3, 9, 6);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "no multiple");
    o = good, o.in[1] = F32(3, 2, 9, 5), o.in[2] = F32(3, 2, 9, 6);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "no multiple");
    o = good, o.in[3] = F32(1, 3, 3, 9);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "the mask");
    o = good, o.in[3] = F32(3, 2, 3, 9);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "the mask");
    o = good, o.in[3] = F32(1, 2, 2, 9);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "the mask");
    o = good, o.in[3] = F32(1, 2, 3, 10);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "the mask");
    o = good, o.in[3] = F32(2, 3, 9, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "the mask");
    o = good, o.in[4] = F32(2, 0, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "2 slopes for 4 heads");
    o = good, o.in[0] = F32(2, 4, 3, 577), o.in[1] = F32(2, 2, 9, 577);
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "at most 576");
    o = good, o.in[1] = qd_desc(QD_FORMAT_Q4_0, 2, 2, 9, 32);
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "k cannot be q4_0");
    o = good, o.attrs.attention_masked.scale = NAN;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "must be finite");
    o = good, o.attrs.attention_masked.softcap = -1;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "must be finite");
    o = good, o.attrs.attention_masked.softcap = 1e-40f;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "must be finite");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("attention_masked");
    tcase_add_loop_test(tc, test_definition, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_by_hand, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_left_out, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_windows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_refused, 0, TEST_DEVICES);
    return run_tests(tc, "attention_masked");
}
