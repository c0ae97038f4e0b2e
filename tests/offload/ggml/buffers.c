/* What test-backend-ops does not see: tensors that change between runs, positions that are negative, buffers that are
 * cleared and copied, tensors that one graph writes and reads, inputs without elements, threads. `buffers LIBRARY`:
 * each graph is computed by the backend and by ggml's CPU backend. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"

enum { K = 64, N = 24, M = 5, HEADS = 2 };

static int failed;

static void check(const char *what, double error) {
    const int bad = !(error < 2e-3);
    printf("%s: %s (error %.1e)\n", bad ? "FAILED" : "ok", what, error);
    failed += bad;
}

/* One backend with the tensors of the test. */
typedef struct side {
    ggml_backend_t backend;
    struct ggml_context *context;
    struct ggml_tensor *w, *x, *bias, *position, *later;
    ggml_backend_buffer_t buffer;
} side;

static struct ggml_context *new_context(void) {
    return ggml_init((struct ggml_init_params){.mem_size = 1 << 20, .no_alloc = true});
}

static void die(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static side open_side(const char *name, enum ggml_type weights) {
    side s = {.backend = ggml_backend_init_by_name(name, NULL), .context = new_context()};
    if (!s.backend) die("the backend is not there");
    s.w = ggml_new_tensor_2d(s.context, weights, K, N);
    s.x = ggml_new_tensor_3d(s.context, GGML_TYPE_F32, K / HEADS, HEADS, M);
    s.bias = ggml_new_tensor_1d(s.context, GGML_TYPE_F32, N);
    s.position = ggml_new_tensor_1d(s.context, GGML_TYPE_I32, M);
    s.later = ggml_new_tensor_1d(s.context, GGML_TYPE_I32, M);
    s.buffer = ggml_backend_alloc_ctx_tensors(s.context, s.backend);
    if (!s.buffer) die("no buffer");
    return s;
}

static void close_side(side *s) {
    ggml_backend_buffer_free(s->buffer);
    ggml_free(s->context);
    ggml_backend_free(s->backend);
}

static void set_floats(struct ggml_tensor *t, unsigned seed) {
    const size_t n = (size_t)ggml_nelements(t);
    float *values = malloc(n * sizeof *values);
    void *bytes = malloc(ggml_nbytes(t));
    for (size_t i = 0; i < n; i++)
        values[i] = sinf((float)(i * 7 % 101) * 0.37f + (float)seed);
    ggml_quantize_chunk(t->type, values, bytes, 0, ggml_nrows(t), t->ne[0], NULL);
    ggml_backend_tensor_set(t, t->type == GGML_TYPE_F32 ? (void *)values : bytes, 0, ggml_nbytes(t));
    free(values);
    free(bytes);
}

typedef struct ggml_tensor *(*builder)(struct ggml_context *c, const side *s);

static struct ggml_tensor *product(struct ggml_context *c, const side *s) {
    struct ggml_tensor *x = ggml_reshape_2d(c, s->x, K, M);
    return ggml_add(c, ggml_mul_mat(c, s->w, x), s->bias);
}

/* Row `row` of w, as long as one of x. */
static struct ggml_tensor *line(struct ggml_context *c, const side *s, int row) {
    return ggml_view_1d(c, s->w, K, (size_t)row * s->w->nb[1]);
}

static struct ggml_tensor *plain_norm(struct ggml_context *c, const side *s) {
    return ggml_norm(c, ggml_reshape_2d(c, s->x, K, M), 1e-5f);
}

/* A norm, its weights and its bias in one, and what cannot be: a product that two read. */
static struct ggml_tensor *norm_with_both(struct ggml_context *c, const side *s) {
    return ggml_add(c, ggml_mul(c, plain_norm(c, s), line(c, s, 0)), line(c, s, 1));
}

static struct ggml_tensor *norm_with_bias(struct ggml_context *c, const side *s) {
    return ggml_add(c, plain_norm(c, s), line(c, s, 1));
}

static struct ggml_tensor *norm_read_twice(struct ggml_context *c, const side *s) {
    struct ggml_tensor *product = ggml_mul(c, plain_norm(c, s), line(c, s, 0));
    return ggml_mul(c, ggml_add(c, product, line(c, s, 1)), product);
}

static struct ggml_tensor *rotated(struct ggml_context *c, const side *s) {
    return ggml_rope(c, s->x, s->position, K / HEADS, GGML_ROPE_TYPE_NEOX);
}

static struct ggml_tensor *set_position(struct ggml_context *c, const side *s) {
    return ggml_cpy(c, s->later, ggml_view_1d(c, s->position, M, 0));
}

/* Writes over the weights: an operator into a leaf. */
static struct ggml_tensor *overwritten(struct ggml_context *c, const side *s) {
    struct ggml_tensor *twice = ggml_concat(c, s->bias, s->bias, 0);
    return ggml_cpy(c, ggml_scale(c, ggml_repeat(c, ggml_view_1d(c, twice, 1, 0), s->w), 3), s->w);
}

/* A graph with its memory, to be computed more than once. */
typedef struct made {
    ggml_backend_t backend;
    struct ggml_context *context;
    struct ggml_cgraph *graph;
    struct ggml_tensor *y;
    ggml_gallocr_t memory;
} made;

/* `earlier` may be NULL: nodes that come before those of the result, which does not read them. */
static made make_after(const side *s, builder earlier, builder build) {
    made m = {.backend = s->backend, .context = new_context()};
    m.graph = ggml_new_graph(m.context);
    if (earlier) ggml_build_forward_expand(m.graph, earlier(m.context, s));
    m.y = build(m.context, s);
    ggml_build_forward_expand(m.graph, m.y);
    m.memory = ggml_gallocr_new(ggml_backend_get_default_buffer_type(s->backend));
    if (!ggml_gallocr_alloc_graph(m.memory, m.graph)) die("no memory for the graph");
    return m;
}

static made make(const side *s, builder build) {
    return make_after(s, NULL, build);
}

static void unmake(made *m) {
    ggml_gallocr_free(m->memory);
    ggml_free(m->context);
}

/* Largest difference of the results of both, relative to the largest value. */
static double differ(const made *a, const made *b) {
    enum { MOST = K * N * M };
    static _Thread_local float x[2][MOST];
    const made *sides[] = {a, b};
    const size_t n = (size_t)ggml_nelements(a->y);
    double most = 0, scale = 1e-9;
    for (int i = 0; i < 2; i++) {
        if (ggml_backend_graph_compute(sides[i]->backend, sides[i]->graph) != GGML_STATUS_SUCCESS)
            die("a graph failed");
        ggml_backend_tensor_get(sides[i]->y, x[i], 0, ggml_nbytes(sides[i]->y));
    }
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)x[0][i] - (double)x[1][i]));
        scale = fmax(scale, fabs((double)x[1][i]));
    }
    return most / scale;
}

static void set_both(side *a, side *b, unsigned seed) {
    side *sides[] = {a, b};
    for (int i = 0; i < 2; i++) {
        set_floats(sides[i]->w, seed);
        set_floats(sides[i]->x, seed + 1);
        set_floats(sides[i]->bias, seed + 2);
    }
}

static void test_weights(enum ggml_type type) {
    side a = open_side("QDOT", type), b = open_side("CPU", type);
    made x = make(&a, product), y = make(&b, product);
    const double coarse = type == GGML_TYPE_F32 ? 1 : 0.1; /* A8 */
    char what[100];
    for (unsigned seed = 1; seed < 4; seed++) {
        set_both(&a, &b, seed);
        snprintf(what, sizeof what, "%s weights, set %u times", ggml_type_name(type), seed);
        check(what, coarse * differ(&x, &y));
    }
    if (type == GGML_TYPE_F32) {
        made over_x = make(&a, overwritten), over_y = make(&b, overwritten);
        for (unsigned i = 0; i < 2; i++) {
            differ(&over_x, &over_y);
            check("weights that an operator wrote over", differ(&x, &y));
            set_both(&a, &b, 7 + i);
            check("and that were set again", differ(&x, &y));
        }
        unmake(&over_x);
        unmake(&over_y);
    }
    ggml_backend_tensor_memset(a.w, 0, 0, ggml_nbytes(a.w));
    ggml_backend_tensor_memset(b.w, 0, 0, ggml_nbytes(b.w));
    check("weights that were set to 0", differ(&x, &y));
    ggml_backend_buffer_clear(a.buffer, 0);
    ggml_backend_buffer_clear(b.buffer, 0);
    check("a buffer that was cleared", differ(&x, &y));
    set_both(&a, &b, 9);
    check("and set again", coarse * differ(&x, &y));
    unmake(&x);
    unmake(&y);
    close_side(&a);
    close_side(&b);
}

static void test_positions(void) {
    static const struct {
        const char *what;
        int32_t position[M];
    } cases[] = {
        {"positions", {0, 1, 2, 3, 511}},
        {"positions beyond the first table", {4000, 1, 2, 3, 512}},
        {"negative positions", {-7, 0, -600, 3, 1}},
        {"others", {-1, 5, 5, 0, -2}},
        {"positive ones afterwards", {3, 8000, 77, 2, 6}},
    };
    side a = open_side("QDOT", GGML_TYPE_F32), b = open_side("CPU", GGML_TYPE_F32);
    made x = make(&a, rotated), y = make(&b, rotated);
    set_both(&a, &b, 5);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ggml_backend_tensor_set(a.position, cases[i].position, 0, sizeof cases[i].position);
        ggml_backend_tensor_set(b.position, cases[i].position, 0, sizeof cases[i].position);
        check(cases[i].what, differ(&x, &y));
    }
    ggml_backend_buffer_clear(a.buffer, 0);
    ggml_backend_buffer_clear(b.buffer, 0);
    check("a buffer that was cleared, without constants", differ(&x, &y));
    unmake(&x);
    unmake(&y);
    close_side(&a);
    close_side(&b);
}

/* Positions that an operator writes, of the same graph or of one before: no table has been made for them. */
static void test_written_positions(void) {
    static const int32_t first[M] = {0, 1, 2, 3, 4},
                         later[][M] = {{9, 600, 3, 0, 2}, {4, 40000, 7, 1, 0}, {3, -9, 1, 0, 5}};
    for (int apart = 0; apart < 2; apart++) {
        side a = open_side("QDOT", GGML_TYPE_F32), b = open_side("CPU", GGML_TYPE_F32);
        set_both(&a, &b, 5);
        made x = make_after(&a, apart ? NULL : set_position, rotated),
             y = make_after(&b, apart ? NULL : set_position, rotated);
        made set_x = make(&a, set_position), set_y = make(&b, set_position);
        ggml_backend_tensor_set(a.position, first, 0, sizeof first);
        ggml_backend_tensor_set(b.position, first, 0, sizeof first);
        for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
            ggml_backend_tensor_set(a.later, later[i], 0, sizeof later[i]);
            ggml_backend_tensor_set(b.later, later[i], 0, sizeof later[i]);
            if (apart) {
                ggml_backend_graph_compute(a.backend, set_x.graph);
                ggml_backend_graph_compute(b.backend, set_y.graph);
            }
            check(apart ? "positions that a graph wrote before" : "positions written before they are read",
                  differ(&x, &y));
        }
        unmake(&x);
        unmake(&y);
        unmake(&set_x);
        unmake(&set_y);
        close_side(&a);
        close_side(&b);
    }
}

static void test_copies(void) {
    side a = open_side("QDOT", GGML_TYPE_F32), b = open_side("QDOT", GGML_TYPE_F32);
    side c = open_side("CPU", GGML_TYPE_F32);
    made x = make(&b, product), y = make(&c, product);
    set_both(&a, &c, 3);
    ggml_backend_tensor_copy(a.w, b.w);
    ggml_backend_tensor_copy(a.x, b.x);
    ggml_backend_tensor_copy(c.bias, b.bias);
    check("tensors copied from other buffers", differ(&x, &y));
    unmake(&x);
    unmake(&y);
    close_side(&a);
    close_side(&b);
    close_side(&c);
}

/* ---- Tensors that the graph writes before it reads them, inputs without elements ------------------------------ */

static struct ggml_tensor *rows_of_x(struct ggml_context *c, const side *s) {
    return ggml_reshape_2d(c, s->x, K, M);
}

static struct ggml_tensor *set_rows(struct ggml_context *c, const side *s) {
    return ggml_set_rows(c, s->w, rows_of_x(c, s), s->position);
}

static struct ggml_tensor *set_bias(struct ggml_context *c, const side *s) {
    return ggml_cpy(c, ggml_scale(c, s->bias, 3), ggml_view_1d(c, s->bias, N, 0));
}

static struct ggml_tensor *product_of_view(struct ggml_context *c, const side *s) {
    return ggml_mul_mat(c, ggml_view_2d(c, s->w, K, N, s->w->nb[1], 0), rows_of_x(c, s));
}

static struct ggml_tensor *rows_read(struct ggml_context *c, const side *s) {
    return ggml_get_rows(c, s->w, s->position);
}

/* Each row of the weights is an expert. */
static struct ggml_tensor *experts(struct ggml_context *c, const side *s) {
    return ggml_mul_mat_id(c, ggml_reshape_3d(c, s->w, K, 1, N), ggml_reshape_3d(c, s->x, K, 1, M),
                           ggml_reshape_2d(c, s->position, 1, M));
}

/* Products of the same activations, which something is copied over in between: those before and those behind do not
 * read the same. */
static struct ggml_tensor *activations;

static struct ggml_tensor *gated(struct ggml_context *c, const side *s) {
    return ggml_swiglu_split(c, ggml_mul_mat(c, s->w, activations), ggml_mul_mat(c, s->w, activations));
}

static struct ggml_tensor *set_activations(struct ggml_context *c, const side *s) {
    activations = rows_of_x(c, s);
    struct ggml_tensor *one = ggml_view_1d(c, gated(c, s), 1, 0);
    return ggml_cpy(c, ggml_add(c, activations, ggml_repeat(c, one, activations)), activations);
}

static struct ggml_tensor *no_rows(struct ggml_context *c, const side *s) {
    return ggml_view_2d(c, s->x, K, 0, K * sizeof(float), 0);
}

static struct ggml_tensor *set_no_rows(struct ggml_context *c, const side *s) {
    return ggml_set_rows(c, s->w, no_rows(c, s), ggml_view_1d(c, s->position, 0, 0));
}

static struct ggml_tensor *joined_behind(struct ggml_context *c, const side *s) {
    return ggml_concat(c, no_rows(c, s), rows_of_x(c, s), 1);
}

static struct ggml_tensor *joined_before(struct ggml_context *c, const side *s) {
    return ggml_concat(c, rows_of_x(c, s), no_rows(c, s), 1);
}

static void test_one_graph(void) {
    static const struct {
        const char *what;
        enum ggml_type type;
        builder earlier, build;
    } cases[] = {
        {"a matrix of f32 written before it is read", GGML_TYPE_F32, set_rows, product_of_view},
        {"a matrix of f16 written before it is read", GGML_TYPE_F16, set_rows, product},
        {"a matrix of q8_0 written before it is read", GGML_TYPE_Q8_0, set_rows, product_of_view},
        {"a matrix of q4_1 written before it is read", GGML_TYPE_Q4_1, set_rows, product},
        {"rows of f32 written before they are read", GGML_TYPE_F32, set_rows, rows_read},
        {"rows of q8_0 written before they are read", GGML_TYPE_Q8_0, set_rows, rows_read},
        {"experts of f32 written before they are read", GGML_TYPE_F32, set_rows, experts},
        {"experts of q8_0 written before they are read", GGML_TYPE_Q8_0, set_rows, experts},
        {"a bias written before it is read", GGML_TYPE_F32, set_bias, product},
        {"activations written between their products", GGML_TYPE_F32, set_activations, gated},
        {"no rows written", GGML_TYPE_F32, set_no_rows, product},
        {"no rows and rows joined", GGML_TYPE_F32, NULL, joined_behind},
        {"rows and no rows joined", GGML_TYPE_F32, NULL, joined_before},
    };
    const int32_t ids[M] = {2, 0, 7, 11, 23};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        side a = open_side("QDOT", cases[i].type), b = open_side("CPU", cases[i].type);
        ggml_backend_tensor_set(a.position, ids, 0, sizeof ids);
        ggml_backend_tensor_set(b.position, ids, 0, sizeof ids);
        made x = make_after(&a, cases[i].earlier, cases[i].build);
        made y = make_after(&b, cases[i].earlier, cases[i].build);
        for (unsigned j = 0; j < 4; j++) {
            if (j % 2 == 0) set_both(&a, &b, 10 * j);
            set_floats(a.x, 20 + j);
            set_floats(b.x, 20 + j);
            check(cases[i].what, (ggml_is_quantized(cases[i].type) ? 0.1 : 1) * differ(&x, &y));
        }
        unmake(&x);
        unmake(&y);
        close_side(&a);
        close_side(&b);
    }
}

static void find_reason(enum ggml_log_level level, const char *text, void *found) {
    (void)level;
    *(bool *)found |= strstr(text, "an epsilon of 1 or more") != NULL;
}

static void test_norms(void) {
    static const struct {
        const char *what;
        builder build;
    } cases[] = {
        {"a norm", plain_norm},
        {"a norm with weights and bias", norm_with_both},
        {"a norm with a bias", norm_with_bias},
        {"a norm whose weighted result two read", norm_read_twice},
    };
    side a = open_side("QDOT", GGML_TYPE_F32), b = open_side("CPU", GGML_TYPE_F32);
    set_both(&a, &b, 3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made x = make(&a, cases[i].build), y = make(&b, cases[i].build);
        check(cases[i].what, 1e2 * differ(&x, &y));
        unmake(&x);
        unmake(&y);
    }
    close_side(&a);
    close_side(&b);
}

/* Sums of nothing stay with the host, and the means of squares to which much is added: the log says why. */
static void test_refused(void) {
    side s = open_side("QDOT", GGML_TYPE_F32);
    struct ggml_context *c = new_context();
    struct ggml_tensor *w = ggml_view_2d(c, s.w, 0, N, s.w->nb[1], 0);
    struct ggml_tensor *x = ggml_view_2d(c, s.x, 0, M, K * sizeof(float), 0);
    check("a product without columns is refused", ggml_backend_supports_op(s.backend, ggml_mul_mat(c, w, x)));
    bool found = false;
    ggml_log_set(find_reason, &found);
    check("an epsilon of 1 is refused", ggml_backend_supports_op(s.backend, ggml_rms_norm(c, s.x, 1)));
    ggml_log_set(NULL, NULL);
    check("the log says why", !found);
    check("one of 0.9 is not", !ggml_backend_supports_op(s.backend, ggml_rms_norm(c, s.x, 0.9f)));
    check("a product is not", !ggml_backend_supports_op(s.backend, ggml_mul_mat(c, s.w, rows_of_x(c, &s))));
    ggml_free(c);
    close_side(&s);
}

/* ---- Threads ---------------------------------------------------------------------------------------------------- */

static void *thread(void *seed) {
    side a = open_side("QDOT", GGML_TYPE_F32), b = open_side("CPU", GGML_TYPE_F32);
    made x = make(&a, product), y = make(&b, product);
    double *most = malloc(sizeof *most);
    *most = 0;
    for (int i = 0; i < 10; i++) {
        set_both(&a, &b, *(unsigned *)seed + (unsigned)i);
        *most = fmax(*most, differ(&x, &y));
    }
    unmake(&x);
    unmake(&y);
    close_side(&a);
    close_side(&b);
    return most;
}

static void test_threads(void) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    unsigned seed[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        seed[i] = 100 * i;
        pthread_create(&threads[i], NULL, thread, &seed[i]);
    }
    double most = 0;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        most = fmax(most, *(double *)result);
        free(result);
    }
    check("four threads", most);
}

int main(int argc, char **argv) {
    if (argc != 3) die("usage: buffers LIBRARY FOLDER-OF-GGML");
    ggml_backend_load_all_from_path(argv[2]);
    if (!ggml_backend_load(argv[1])) die("the backend was not loaded");
    test_weights(GGML_TYPE_F32);
    test_weights(GGML_TYPE_Q8_0);
    test_weights(GGML_TYPE_Q4_1);
    test_positions();
    test_written_positions();
    test_copies();
    test_one_graph();
    test_norms();
    test_refused();
    test_threads();
    return failed != 0;
}
