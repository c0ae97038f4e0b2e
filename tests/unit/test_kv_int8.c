/* The int8 cache of keys and values: codes, scales and attention as kv_int8.py computes them, what is refused, and a
 * model with such a cache. */
#include <math.h>

#include "unit/kv_int8.h"
#include "unit/model_image.h"
#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)
#define I8(...) qd_desc(QD_FORMAT_I8, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

/* ---- Operators ---------------------------------------------------------------------------------------------- */

enum { COLUMNS = DIM + 4, CACHE_BYTES = GROUPS * POSITIONS * COLUMNS };

static void ck_bytes(const unsigned char *got, const unsigned char *want, const char *what) {
    for (int i = 0; i < CACHE_BYTES; i++)
        ck_assert_msg(got[i] == want[i], "%s: byte %d of head %d is %d, not %d", what, i % (POSITIONS * COLUMNS),
                      i / (POSITIONS * COLUMNS), got[i], want[i]);
}

static qd_status store(qd_context *c, qd_tensor_desc keys, qd_tensor_desc values, unsigned char *got[2]) {
    const qd_tensor_desc rows = F32(ROWS, GROUPS * DIM, 0, 0), one = qd_desc(QD_FORMAT_I32, 1, 0, 0, 0);
    const qd_attrs attrs = {.kv = {.heads = GROUPS, .head_dim = DIM}};
    const int32_t first = FIRST;
    qd_tensor *in[3], *out[2];
    qd_plan *plan = NULL;
    ck_ok(qd_tensor_create(c, &rows, &in[0]));
    ck_ok(qd_tensor_create(c, &rows, &in[1]));
    ck_ok(qd_tensor_create(c, &one, &in[2]));
    ck_ok(qd_tensor_create(c, &keys, &out[0]));
    ck_ok(qd_tensor_create(c, &values, &out[1]));
    ck_ok(qd_tensor_write(in[0], 0, stored_k, sizeof stored_k));
    ck_ok(qd_tensor_write(in[1], 0, stored_v, sizeof stored_v));
    ck_ok(qd_tensor_write(in[2], 0, &first, sizeof first));
    const qd_status status = qd_plan_create(c, QD_OP_KV_STORE, &attrs, in, 3, out, 2, &plan);
    for (int i = 0; i < 2 && !status; i++) {
        memset(got[i], 0x5a, CACHE_BYTES);
        ck_ok(qd_tensor_write(out[i], 0, got[i], CACHE_BYTES));
    }
    if (!status) {
        ck_ok(qd_plan_run(plan));
        ck_ok(qd_tensor_read(out[0], 0, got[0], CACHE_BYTES));
        ck_ok(qd_tensor_read(out[1], 0, got[1], CACHE_BYTES));
        if (strcmp(qd_context_device(c)->id, "ref") != 0) ck_assert_str_eq(qd_plan_variant(plan), "kv_store_i8");
    }
    qd_plan_free(plan);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(in[i]);
    for (int i = 0; i < 2; i++)
        qd_tensor_free(out[i]);
    return status;
}

START_TEST(test_stored) {
    WITH_DEVICE(c);
    static unsigned char keys[CACHE_BYTES], values[CACHE_BYTES];
    const qd_tensor_desc cache = I8(GROUPS, POSITIONS, COLUMNS, 0);
    ck_ok(store(c, cache, cache, (unsigned char *[]){keys, values}));
    ck_bytes(keys, stored_kcache, "keys");
    ck_bytes(values, stored_vcache, "values");
    qd_context_free(c);
}
END_TEST

static one_op attention(void) {
    static const int32_t first = FIRST;
    return (one_op){.op = QD_OP_ATTENTION,
                    .attrs = {.attention = {.heads = HEADS, .kv_heads = GROUPS, .head_dim = DIM, .scale = 0.25f}},
                    .in = {F32(ROWS, HEADS * DIM, 0, 0), I8(GROUPS, POSITIONS, COLUMNS, 0),
                           I8(GROUPS, POSITIONS, COLUMNS, 0), qd_desc(QD_FORMAT_I32, 1, 0, 0, 0)},
                    .out = F32(ROWS, HEADS * DIM, 0, 0),
                    .data = {read_q, read_kcache, read_vcache, &first}};
}

START_TEST(test_read) {
    WITH_DEVICE(c);
    static float y[ROWS * HEADS * DIM];
    const one_op o = attention();
    ck_ok(one_op_run(c, &o, y));
    for (int i = 0; i < ROWS * HEADS * DIM; i++)
        ck_assert_msg(fabs((double)y[i] - read_y[i]) < 2e-6, "element %d is %.9g, not %.9g", i, (double)y[i],
                      read_y[i]);
    qd_context_free(c);
}
END_TEST

START_TEST(test_refused) {
    WITH_DEVICE(c);
    const qd_tensor_desc codes = I8(GROUPS, POSITIONS, COLUMNS, 0), floats = F32(GROUPS, POSITIONS, DIM, 0);
    const qd_tensor_desc bare = I8(GROUPS, POSITIONS, DIM, 0), wide = F32(GROUPS, POSITIONS, COLUMNS, 0);
    ck_fails(store(c, codes, wide, NULL), QD_ERR_UNSUPPORTED, "both must be of one format");
    ck_fails(store(c, bare, bare, NULL), QD_ERR_ARGUMENT, "need 20 columns, not 16");
    ck_fails(store(c, wide, wide, NULL), QD_ERR_ARGUMENT, "need 16 columns, not 20");
    ck_fails(store(c, codes, floats, NULL), QD_ERR_ARGUMENT, "vcache");
    static float y[ROWS * HEADS * DIM];
    one_op o = attention();
    o.in[2] = wide;
    o.data[2] = NULL;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "both must be of one format");
    o = attention();
    o.in[1] = o.in[2] = bare;
    o.data[1] = o.data[2] = NULL;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "need 20 columns, not 16");
    o = attention();
    ck_ok(one_op_run(c, &o, y));
    qd_context_free(c);
}
END_TEST

/* ---- Models ------------------------------------------------------------------------------------------------- */

enum { TOKENS = 40 };

/* Logits of TOKENS tokens with an int8 cache, [TOKENS, vocab]. */
static float *logits_of(const model_parts *p, qd_context *c, qd_format cache, int64_t chunk, int first) {
    int32_t tokens[TOKENS];
    qd_model_options o = model_options(chunk, QD_FORMAT_A8);
    o.context = 64;
    o.cache = cache;
    float *logits = calloc((size_t)(TOKENS * p->spec.vocab), sizeof *logits);
    ck_assert_ptr_nonnull(logits);
    model_tokens(7, p->spec.vocab, tokens, TOKENS);
    model_bed b = model_open(p, c, &o);
    ck_assert_int_eq(qd_model_describe(b.model)->cache, cache);
    /* Other tokens first, which are forgotten; then some, and the rest. */
    model_eval(b.model, tokens + 3, TOKENS - 3, logits);
    ck_ok(qd_model_rewind(b.model, 0));
    model_eval(b.model, tokens, first, logits);
    model_eval(b.model, tokens + first, TOKENS - first, logits + first * p->spec.vocab);
    model_close(&b);
    return logits;
}

/* The same bytes on every device, however the tokens are cut, and after a rewind; near those of the float cache. */
START_TEST(test_model) {
    const model_spec s = model_small(QD_FORMAT_Q8_0);
    model_parts p = model_make(&s, 1);
    qd_context *ref = model_context("ref", NULL);
    const size_t count = (size_t)(TOKENS * s.vocab);
    float *want = logits_of(&p, ref, QD_FORMAT_I8, 64, 1), *floats = logits_of(&p, ref, QD_FORMAT_F32, 64, 1);
    double apart = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        apart += (double)(want[i] - floats[i]) * (double)(want[i] - floats[i]);
        size += (double)floats[i] * (double)floats[i];
    }
    ck_assert_msg(apart > 0 && sqrt(apart / size) < 0.03, "%g from the float cache", sqrt(apart / size));
    static const int cuts[][2] = {{1, 5}, {5, 16}, {16, 33}, {64, 39}};
    for (int d = 0; d < TEST_DEVICES; d++) {
        qd_context *c = open_device(d, NULL);
        for (int i = 0; c && i < 4; i++) {
            float *got = logits_of(&p, c, QD_FORMAT_I8, cuts[i][0], cuts[i][1]);
            ck_assert_msg(!memcmp(got, want, count * sizeof *got), "device %d, chunks of %d: other bytes", d,
                          cuts[i][0]);
            free(got);
        }
        qd_context_free(c);
    }
    free(want);
    free(floats);
    qd_context_free(ref);
    model_parts_free(&p);
}
END_TEST

START_TEST(test_model_memory) {
    const model_spec s = model_small(QD_FORMAT_Q8_0);
    model_parts p = model_make(&s, 1);
    const uint64_t heads = (uint64_t)(2 * s.layers * s.kv_heads * 64); /* keys and values of 64 positions */
    const struct {
        qd_format cache;
        uint64_t bytes;
    } cases[] = {{QD_FORMAT_F32, heads * (uint64_t)s.head_dim * 4}, {QD_FORMAT_I8, heads * (uint64_t)(s.head_dim + 4)}};
    uint64_t used[2];
    for (int i = 0; i < 2; i++) {
        qd_context *c = model_context("ref", NULL);
        qd_model_options o = model_options(16, QD_FORMAT_A8);
        qd_memory_info memory = {0};
        o.context = 64;
        o.cache = cases[i].cache;
        model_bed b = model_open(&p, c, &o);
        ck_assert_uint_eq(qd_model_describe(b.model)->cache_bytes, cases[i].bytes);
        ck_ok(qd_context_memory(c, &memory));
        used[i] = memory.used;
        model_close(&b);
        qd_context_free(c);
    }
    ck_assert_uint_eq(used[0] - used[1], cases[0].bytes - cases[1].bytes);
    qd_context *c = model_context("ref", NULL);
    qd_model_options o = model_options(16, QD_FORMAT_A8);
    o.cache = QD_FORMAT_F16;
    model_bed b;
    ck_fails(model_try(&p, c, &o, &b), QD_ERR_ARGUMENT, "must be f32 or i8");
    model_close(&b);
    qd_context_free(c);
    model_parts_free(&p);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("kv_int8");
    tcase_add_loop_test(tc, test_stored, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_read, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_refused, 0, TEST_DEVICES);
    tcase_add_test(tc, test_model);
    tcase_add_test(tc, test_model_memory);
    return run_tests(tc, "kv_int8");
}
