/* Graphs: the arena must not show in the results, whatever the order in which a device works. */
#include "unit/devices.h"

/* ---- Random graphs ------------------------------------------------------------------------------------------ */

/* A graph is made from a seed: on each device the same operators over the same values. `values` are what operators may
 * read: inputs, results, and views of them; each is F32 with as many rows as the run, or A8. */
enum { MAX_ROWS = 9, MAX_VALUES = 64, MAX_OPS = 24, MAX_FIXED = 8, OUTPUTS = 3 };

typedef struct random_graph {
    qd_context *c;
    qd_graph *g;
    uint32_t rng;
    qd_tensor *values[MAX_VALUES];
    bool free_to_write[MAX_VALUES]; /* a result of this graph, not an input */
    int n_values;
    qd_tensor *fixed[MAX_FIXED + OUTPUTS + 4]; /* tensors outside the graph */
    void *data[MAX_FIXED];                     /* of the constants among them */
    int n_fixed, n_data;
    qd_tensor *out[OUTPUTS];
} random_graph;

static int64_t pick(random_graph *x, int64_t low, int64_t high) {
    return random_between(&x->rng, low, high);
}

static qd_tensor *add_value(random_graph *x, qd_tensor *t, bool writable) {
    ck_assert_int_lt(x->n_values, MAX_VALUES);
    x->free_to_write[x->n_values] = writable;
    x->values[x->n_values++] = t;
    return t;
}

static int64_t columns_of(const qd_tensor *t) {
    return qd_tensor_describe(t)->shape[1];
}

/* A value with these columns (0: any) and format; NULL when there is none. */
static qd_tensor *find_value(random_graph *x, qd_format f, int64_t cols, bool writable) {
    const int start = (int)pick(x, 0, x->n_values - 1);
    for (int i = 0; i < x->n_values; i++) {
        const int at = (start + i) % x->n_values;
        qd_tensor *t = x->values[at];
        if (qd_tensor_describe(t)->format == f && (!cols || columns_of(t) == cols) &&
            (!writable || x->free_to_write[at]))
            return t;
    }
    return NULL;
}

/* Not a value until something has written it: see wrote. */
static qd_tensor *new_tensor(random_graph *x, qd_format f, int64_t cols) {
    const qd_tensor_desc d = qd_desc(f, QD_ROWS, cols, 0, 0);
    qd_tensor *t;
    ck_ok(qd_graph_tensor(x->g, &d, &t));
    return t;
}

static void wrote(random_graph *x, qd_tensor *t) {
    for (int i = 0; i < x->n_values; i++) {
        if (x->values[i] == t) return;
    }
    add_value(x, t, true);
}

static qd_tensor *weights(random_graph *x, qd_format f, int64_t rows, int64_t cols) {
    qd_tensor_desc d = rows ? qd_desc(f, rows, cols, 0, 0) : qd_desc(f, cols, 0, 0, 0);
    for (int i = 0; i < x->n_fixed; i++) {
        const qd_tensor_desc *have = qd_tensor_describe(x->fixed[i]);
        if (have->format == f && have->rank == d.rank && have->shape[0] == d.shape[0] &&
            (!rows || have->shape[1] == cols) && pick(x, 0, 1))
            return x->fixed[i];
    }
    if (x->n_data == MAX_FIXED) return NULL;
    x->data[x->n_data] = random_data(&x->rng, &d);
    ck_ok(qd_tensor_constant(x->c, &d, x->data[x->n_data++], &x->fixed[x->n_fixed]));
    return x->fixed[x->n_fixed++];
}

/* A place for a result with these columns: new, or part of a wide value, or that of a value which goes. */
static qd_tensor *place_for(random_graph *x, int64_t cols) {
    const int64_t choice = pick(x, 0, 5);
    qd_tensor *old = find_value(x, QD_FORMAT_F32, cols, true);
    if (choice == 0 && old) return old;
    if (choice > 1) return new_tensor(x, QD_FORMAT_F32, cols);
    qd_tensor *wide = new_tensor(x, QD_FORMAT_F32, cols + 8 * pick(x, 1, 9)), *v;
    /* All of it must have been written before it is read. */
    qd_tensor *from = find_value(x, QD_FORMAT_F32, 0, false);
    qd_tensor *w = weights(x, QD_FORMAT_F32, columns_of(wide), columns_of(from));
    if (!w) return new_tensor(x, QD_FORMAT_F32, cols);
    ck_ok(qd_graph_add(x->g, QD_OP_MATMUL, NULL, (qd_tensor *[]){w, from}, 2, &wide, 1));
    wrote(x, wide);
    ck_ok(qd_graph_view(x->g, wide, 4 * pick(x, 0, (columns_of(wide) - cols) / 4), cols, &v));
    return v;
}

static void add_operator(random_graph *x) {
    qd_tensor *a = find_value(x, QD_FORMAT_F32, 0, false), *b, *y = NULL;
    const int64_t cols = columns_of(a);
    const qd_attrs norm = {.rms_norm = {.epsilon = 1e-5f}};
    qd_status status = QD_OK;
    switch (pick(x, 0, 6)) {
        case 0:
        case 1:
            b = find_value(x, QD_FORMAT_F32, cols, false);
            y = pick(x, 0, 3) ? place_for(x, cols) : find_value(x, QD_FORMAT_F32, cols, true);
            if (y) status = qd_graph_add(x->g, QD_OP_ADD, NULL, (qd_tensor *[]){a, b}, 2, &y, 1);
            break;
        case 2:
            b = find_value(x, QD_FORMAT_F32, cols, false);
            y = cols % 32 || pick(x, 0, 1) ? place_for(x, cols) : new_tensor(x, QD_FORMAT_A8, cols);
            status = qd_graph_add(x->g, QD_OP_SWIGLU, NULL, (qd_tensor *[]){a, b}, 2, &y, 1);
            break;
        case 3:
            b = weights(x, QD_FORMAT_F32, 0, cols);
            if (!b) return;
            y = cols % 32 || pick(x, 0, 1) ? place_for(x, cols) : new_tensor(x, QD_FORMAT_A8, cols);
            status = qd_graph_add(x->g, QD_OP_RMS_NORM, &norm, (qd_tensor *[]){a, b}, 2, &y, 1);
            break;
        case 4: {
            /* Columns of a value as a value of their own. */
            const int64_t count = cols > 8 ? cols - 4 * pick(x, 1, cols / 8) : cols;
            ck_ok(qd_graph_view(x->g, a, pick(x, 0, cols - count), count, &b));
            add_value(x, b, false);
            return;
        }
        default: {
            qd_tensor *q = find_value(x, QD_FORMAT_A8, 0, false);
            const bool quantized = q && pick(x, 0, 2);
            qd_tensor *in = quantized ? q : a;
            const int64_t K = columns_of(in), N = 32 * pick(x, 1, 3);
            const qd_format f = quantized ? (pick(x, 0, 1) ? QD_FORMAT_Q4_1 : QD_FORMAT_Q8_0) : QD_FORMAT_F32;
            b = weights(x, f, N, K);
            if (!b) return;
            qd_tensor *addend = pick(x, 0, 1) ? find_value(x, QD_FORMAT_F32, N, false) : NULL;
            y = place_for(x, N);
            status = qd_graph_add(x->g, QD_OP_MATMUL, NULL, (qd_tensor *[]){b, in, addend}, 3, &y, 1);
        }
    }
    /* An operator that would write over what it reads is refused, and is then not part of the graph. */
    ck_assert_msg(status == QD_OK || (status == QD_ERR_ARGUMENT && strstr(qd_last_message(), "over an input")), "%s",
                  qd_last_message());
    if (status == QD_OK && y) wrote(x, y);
}

static void make_random(random_graph *x, qd_context *c, uint32_t seed) {
    memset(x, 0, sizeof *x);
    x->c = c;
    x->rng = seed;
    ck_ok(qd_graph_create(c, MAX_ROWS, &x->g));
    for (int i = 0; i < 2; i++) {
        const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, MAX_ROWS, 32 * pick(x, 1, 4), 0, 0);
        float data[MAX_ROWS * 128];
        random_floats(&x->rng, data, (size_t)(MAX_ROWS * d.shape[1]));
        x->fixed[x->n_fixed] = tensor_with(c, d, data);
        add_value(x, x->fixed[x->n_fixed++], false);
    }
    const int ops = (int)pick(x, 4, MAX_OPS);
    for (int i = 0; i < ops && x->n_values < MAX_VALUES - 4; i++)
        add_operator(x);
    /* What is left is added up into tensors outside, so that every value is seen. */
    for (int i = 0; i < OUTPUTS; i++) {
        qd_tensor *a = find_value(x, QD_FORMAT_F32, 0, false);
        qd_tensor *b = find_value(x, QD_FORMAT_F32, columns_of(a), false);
        const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, MAX_ROWS, columns_of(a), 0, 0);
        ck_ok(qd_tensor_create(c, &d, &x->out[i]));
        ck_ok(qd_graph_add(x->g, QD_OP_ADD, NULL, (qd_tensor *[]){a, b}, 2, &x->out[i], 1));
    }
    ck_ok(qd_graph_compile(x->g, NULL, NULL));
}

static void free_random(random_graph *x) {
    qd_graph_free(x->g);
    for (int i = 0; i < x->n_fixed; i++)
        qd_tensor_free(x->fixed[i]);
    for (int i = 0; i < x->n_data; i++)
        free(x->data[i]);
    for (int i = 0; i < OUTPUTS; i++)
        qd_tensor_free(x->out[i]);
}

/* The outputs of a graph must be those of the same graph on the reference. */
static void compare_outputs(const random_graph *x, const random_graph *want, uint32_t seed, int64_t rows) {
    for (int i = 0; i < OUTPUTS; i++) {
        const size_t bytes = qd_desc_bytes(qd_tensor_describe(want->out[i]));
        void *data = malloc(bytes);
        ck_assert_ptr_nonnull(data);
        ck_ok(qd_tensor_read(want->out[i], 0, data, bytes));
        char what[80];
        snprintf(what, sizeof what, "graph %u, %d rows, output %d", seed, (int)rows, i);
        ck_tensor(x->out[i], data, what);
        free(data);
    }
}

START_TEST(test_random_graphs) {
    enum { GRAPHS = 40 };
    const qd_context_options apart = {.no_fuse = true};
    qd_context *ref = open_device(0, &apart), *c = open_device(_i, NULL);
    int shared = 0;
    for (uint32_t seed = 1; c && seed <= GRAPHS; seed++) {
        random_graph want, got;
        make_random(&want, ref, seed);
        make_random(&got, c, seed);
        qd_graph_info info;
        ck_ok(qd_graph_describe(got.g, &info));
        ck_assert_int_eq(info.fallbacks, 0);
        ck_assert_uint_le(info.arena_bytes, info.tensor_bytes);
        ck_assert_uint_le(info.live_bytes, info.arena_bytes);
        shared += info.arena_bytes < info.tensor_bytes;
        static const int64_t rows[] = {MAX_ROWS, 1, 4, 4, MAX_ROWS};
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            ck_ok(qd_graph_run(want.g, rows[i]));
            ck_ok(qd_graph_run(got.g, rows[i]));
            compare_outputs(&got, &want, seed, rows[i]);
        }
        free_random(&want);
        free_random(&got);
    }
    if (c) ck_assert_int_gt(shared, GRAPHS / 2);
    qd_context_free(ref);
    qd_context_free(c);
}
END_TEST

/* The arena does not show: on the reference, each value of a graph is what plans on tensors of their own give. */
START_TEST(test_arena_against_plans) {
    enum { R = 4, C = 64, STEPS = 12 };
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    for (uint32_t seed = 1; seed <= 10; seed++) {
        uint32_t rng = seed;
        const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, R, C, 0, 0), inside = qd_desc(QD_FORMAT_F32, QD_ROWS, C, 0, 0);
        float x[R * C];
        random_floats(&rng, x, R * C);
        qd_tensor *in[2] = {tensor_with(c, d, x), NULL}, *apart[STEPS], *shared[STEPS], *sum;
        random_floats(&rng, x, R * C);
        in[1] = tensor_with(c, d, x);
        ck_ok(qd_tensor_create(c, &d, &sum));
        qd_graph *g;
        ck_ok(qd_graph_create(c, R, &g));
        for (int i = 0; i < STEPS; i++) {
            const int a = (int)random_between(&rng, 0, i + 1), b = (int)random_between(&rng, 0, i + 1);
            const qd_op op = random_between(&rng, 0, 1) ? QD_OP_ADD : QD_OP_SWIGLU;
            ck_ok(qd_tensor_create(c, &d, &apart[i]));
            qd_plan *plan;
            ck_ok(qd_plan_create(c, op, NULL,
                                 (qd_tensor *[]){a < 2 ? in[a] : apart[a - 2], b < 2 ? in[b] : apart[b - 2]}, 2,
                                 &apart[i], 1, &plan));
            ck_ok(qd_plan_run(plan));
            qd_plan_free(plan);
            ck_ok(qd_graph_tensor(g, &inside, &shared[i]));
            ck_ok(qd_graph_add(g, op, NULL,
                               (qd_tensor *[]){a < 2 ? in[a] : shared[a - 2], b < 2 ? in[b] : shared[b - 2]}, 2,
                               &shared[i], 1));
        }
        ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){shared[STEPS - 1], shared[STEPS - 2]}, 2, &sum, 1));
        ck_ok(qd_graph_compile(g, NULL, NULL));
        ck_ok(qd_graph_run(g, R));
        float last[R * C], before[R * C];
        ck_ok(qd_tensor_read(apart[STEPS - 1], 0, last, sizeof last));
        ck_ok(qd_tensor_read(apart[STEPS - 2], 0, before, sizeof before));
        for (int i = 0; i < R * C; i++)
            last[i] += before[i];
        ck_tensor(sum, last, "the last two values");
        qd_graph_free(g);
        for (int i = 0; i < STEPS; i++)
            qd_tensor_free(apart[i]);
        qd_tensor *rest[] = {in[0], in[1], sum};
        for (int i = 0; i < 3; i++)
            qd_tensor_free(rest[i]);
    }
    qd_context_free(c);
}
END_TEST

/* ---- Shapes of graphs --------------------------------------------------------------------------------------- */

/* A chain needs two places, not one for each link. */
START_TEST(test_chain) {
    enum { R = 3, C = 64, LINKS = 10 };
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, R, C, 0, 0), inside = qd_desc(QD_FORMAT_F32, QD_ROWS, C, 0, 0);
    float x[R * C], want[R * C];
    uint32_t rng = 2;
    random_floats(&rng, x, R * C);
    for (int i = 0; i < R * C; i++)
        want[i] = x[i] * (float)(1 << (LINKS + 1));
    qd_tensor *in = tensor_with(c, d, x), *out, *t = in;
    ck_ok(qd_tensor_create(c, &d, &out));
    qd_graph *g;
    ck_ok(qd_graph_create(c, R, &g));
    for (int i = 0; i < LINKS; i++) {
        qd_tensor *next;
        ck_ok(qd_graph_tensor(g, &inside, &next));
        ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t, t}, 2, &next, 1));
        t = next;
    }
    qd_tensor *unused;
    ck_ok(qd_graph_tensor(g, &inside, &unused)); /* takes no memory */
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t, t}, 2, &out, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    qd_graph_info info;
    ck_ok(qd_graph_describe(g, &info));
    ck_assert_int_eq(info.ops, LINKS + 1);
    ck_assert_int_eq(info.fallbacks, 0);
    ck_assert_uint_ge(info.tensor_bytes, LINKS * sizeof x);
    ck_assert_uint_eq(info.arena_bytes, info.tensor_bytes / LINKS * 2);
    ck_assert_uint_eq(info.live_bytes, info.arena_bytes);
    qd_memory_info before, after;
    ck_ok(qd_context_memory(c, &before));
    for (int i = 0; i < 3; i++) {
        ck_ok(qd_graph_run(g, R));
        ck_tensor(out, want, "a chain");
    }
    ck_ok(qd_context_memory(c, &after));
    ck_assert_uint_eq(after.used, before.used); /* a run allocates nothing */
    qd_graph_free(g);
    qd_tensor_free(in);
    qd_tensor_free(out);
    ck_ok(qd_context_memory(c, &after));
    ck_assert_uint_eq(after.used, 0);
    qd_context_free(c);
}
END_TEST

/* More operators side by side than a wait list may hold, gathered by one; and then all of them again, which must wait
 * for it, because it reads what they write. */
START_TEST(test_wide) {
    enum { R = 2, N = 50, C = 16 };
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, R, C, 0, 0), wide = qd_desc(QD_FORMAT_F32, R, N * C, 0, 0);
    static float x[R * C], sums[R * N * C];
    uint32_t rng = 7;
    random_floats(&rng, x, R * C);
    qd_tensor *in = tensor_with(c, d, x), *all, *column[N], *first, *second;
    ck_ok(qd_tensor_create(c, &wide, &first));
    ck_ok(qd_tensor_create(c, &wide, &second));
    qd_graph *g;
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &wide, &all));
    for (int i = 0; i < N; i++)
        ck_ok(qd_graph_view(g, all, i * C, C, &column[i]));
    for (int i = 0; i < N; i++)
        ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){in, i ? column[i - 1] : in}, 2, &column[i], 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){all, all}, 2, &first, 1));
    for (int i = 0; i < N; i++)
        ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){in, in}, 2, &column[i], 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){all, all}, 2, &second, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    for (int run = 0; run < 40; run++) {
        ck_ok(qd_graph_run(g, R));
        for (int r = 0; r < R; r++) {
            for (int i = 0; i < N * C; i++) {
                float v = x[r * C + i % C];
                for (int k = 0; k <= i / C; k++)
                    v = k ? x[r * C + i % C] + v : v + v;
                sums[r * N * C + i] = v + v;
            }
        }
        ck_tensor(first, sums, "a sum over all columns");
        for (int i = 0; i < R * N * C; i++) {
            const float v = x[i / (N * C) * C + i % C];
            sums[i] = (v + v) + (v + v);
        }
        ck_tensor(second, sums, "after all columns were written again");
    }
    qd_graph_free(g);
    qd_tensor *rest[] = {in, first, second};
    for (int i = 0; i < 3; i++)
        qd_tensor_free(rest[i]);
    qd_context_free(c);
}
END_TEST

/* An operator that no kernel takes, in the middle of others that the device runs. */
START_TEST(test_fallback_inside) {
    enum { R = 5, N = 6, K = 16 };
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc dx = qd_desc(QD_FORMAT_F32, R, K, 0, 0), dw = qd_desc(QD_FORMAT_F32, N, K + 2, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, R, N, 0, 0), inside = qd_desc(QD_FORMAT_F32, QD_ROWS, K, 0, 0),
                         product = qd_desc(QD_FORMAT_F32, QD_ROWS, N, 0, 0);
    float x[R * K], w[N * (K + 2)], want[R * N], zero[R * N] = {0};
    uint32_t rng = 31;
    random_floats(&rng, x, R * K);
    random_floats(&rng, w, N * (K + 2));
    for (int i = 0; i < R * K; i++)
        x[i] = (float)(i % 7 - 3);
    for (int i = 0; i < N * (K + 2); i++)
        w[i] = (float)(i % 5 - 2); /* small integers: any order gives the same sum */
    for (int r = 0; r < R; r++) {
        for (int n = 0; n < N; n++) {
            float sum = 0;
            for (int k = 0; k < K; k++)
                sum += 2 * x[r * K + k] * w[n * (K + 2) + 2 + k];
            want[r * N + n] = 2 * sum;
        }
    }
    qd_tensor *tx = tensor_with(c, dx, x), *tw = tensor_with(c, dw, w), *view, *y, *twice, *p;
    ck_ok(qd_tensor_view(tw, 2, K, &view));
    ck_ok(qd_tensor_create(c, &dy, &y));
    qd_graph *g;
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &inside, &twice));
    ck_ok(qd_graph_tensor(g, &product, &p));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){tx, tx}, 2, &twice, 1));
    ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){view, twice}, 2, &p, 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){p, p}, 2, &y, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    qd_graph_info info;
    ck_ok(qd_graph_describe(g, &info));
    ck_assert_int_eq(info.fallbacks, _i ? 1 : 0);
    for (int rows = 1; rows <= R; rows++) {
        ck_ok(qd_tensor_write(y, 0, zero, sizeof zero));
        ck_ok(qd_graph_run(g, rows));
        float expected[R * N];
        memcpy(expected, want, sizeof want);
        memset(expected + rows * N, 0, (size_t)((R - rows) * N) * sizeof(float)); /* rows beyond are not written */
        ck_tensor(y, expected, "through the fallback");
    }
    qd_graph_free(g);
    qd_tensor *rest[] = {view, tx, tw, y};
    for (int i = 0; i < 4; i++)
        qd_tensor_free(rest[i]);
    qd_context_free(c);
}
END_TEST

/* Weights that are cut into several allocations: an operator is then several launches, all of which count. */
START_TEST(test_parts) {
    enum { R = 5, K = 512, N = 544 };
    static const qd_format formats[] = {QD_FORMAT_F32, QD_FORMAT_Q8_0};
    uint32_t rng = 77;
    static float x[R * K];
    random_floats(&rng, x, R * K);
    for (int f = 0; f < 2; f++) {
        const qd_tensor_desc dx = qd_desc(QD_FORMAT_F32, R, K, 0, 0), dw = qd_desc(formats[f], N, K, 0, 0),
                             dy = qd_desc(QD_FORMAT_F32, R, N, 0, 0), inside = qd_desc(QD_FORMAT_F32, QD_ROWS, N, 0, 0);
        void *w = random_data(&rng, &dw);
        unsigned char *want = malloc(qd_desc_bytes(&dy));
        ck_assert_ptr_nonnull(want);
        /* The first round is the reference; the second proves the kernels, which the third could not do in its parts.
         */
        for (int round = 0; round < 3; round++) {
            qd_context_options o = {.max_alloc = round == 2 ? 65536 : 0};
            qd_context *c = open_device(round ? _i : 0, &o);
            if (!c) break;
            qd_tensor *tx = tensor_with(c, dx, x), *tw, *sum, *product, *y, *view;
            ck_ok(qd_tensor_constant(c, &dw, w, &tw));
            ck_ok(qd_tensor_create(c, &dy, &y));
            qd_graph *g;
            ck_ok(qd_graph_create(c, R, &g));
            ck_ok(qd_graph_tensor(g, &inside, &product));
            ck_ok(qd_graph_tensor(g, &inside, &sum));
            ck_ok(qd_graph_view(g, sum, 16, K, &view));
            ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){tw, tx}, 2, &product, 1));
            ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){product, product}, 2, &sum, 1));
            ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){tw, view, product}, 3, &y, 1));
            ck_ok(qd_graph_compile(g, NULL, NULL));
            ck_ok(qd_graph_run(g, R));
            ck_ok(qd_graph_run(g, R - 1));
            if (round) {
                ck_tensor(y, want, round == 2 ? "in parts" : "in one part");
            } else {
                ck_ok(qd_tensor_read(y, 0, want, qd_desc_bytes(&dy)));
            }
            qd_graph_free(g);
            qd_tensor *rest[] = {tx, tw, y};
            for (int i = 0; i < 3; i++)
                qd_tensor_free(rest[i]);
            qd_context_free(c);
        }
        free(want);
        free(w);
    }
}
END_TEST

/* Weights that the graph itself computes stand anywhere in the arena, where no kernel can take them. */
START_TEST(test_weights_inside) {
    enum { R = 6, K = 32 };
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, R, K, 0, 0), square = qd_desc(QD_FORMAT_F32, R, R, 0, 0);
    float x[R * K], want[R * R];
    for (int i = 0; i < R * K; i++)
        x[i] = (float)(i % 11 - 5); /* small integers: any order gives the same sum */
    for (int r = 0; r < R; r++) {
        for (int n = 0; n < R; n++) {
            want[r * R + n] = 0;
            for (int k = 0; k < K; k++)
                want[r * R + n] += 2 * x[r * K + k] * 4 * x[n * K + k];
        }
    }
    qd_tensor *tx = tensor_with(c, d, x), *t[3], *y[3];
    qd_graph *g;
    ck_ok(qd_graph_create(c, R, &g));
    for (int i = 0; i < 3; i++) {
        ck_ok(qd_graph_tensor(g, &d, &t[i]));
        ck_ok(qd_tensor_create(c, &square, &y[i]));
    }
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){tx, tx}, 2, &t[0], 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t[0], t[0]}, 2, &t[1], 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t[0], t[0]}, 2, &t[2], 1));
    /* Each of two as weights: they cannot both be at the arena's start. */
    ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){t[1], t[0]}, 2, &y[0], 1));
    ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){t[2], t[0]}, 2, &y[1], 1));
    ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){t[0], t[1]}, 2, &y[2], 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    for (int run = 0; run < 3; run++) {
        ck_ok(qd_graph_run(g, R));
        for (int i = 0; i < 3; i++)
            ck_tensor(y[i], want, "weights from the graph");
    }
    qd_graph_free(g);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(y[i]);
    qd_tensor_free(tx);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("graph");
    tcase_add_loop_test(tc, test_random_graphs, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_arena_against_plans, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_chain, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_wide, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_fallback_inside, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_parts, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_weights_inside, 0, TEST_DEVICES);
    return run_tests(tc, "graph");
}
