/* QDOT_VERIFY: a wrong result ends the graph, and the log names the node of ggml. `verify LIBRARY`, with QDOT_VERIFY=1.
 *
 * Results are wrong because the functions of OpenCL that tests/fault defines stand in this program, ahead of the
 * library's: behind each launch in turn they turn a bit of what the device gives back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault/cl_inject.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"

enum { K = 64, N = 96, M = 5, NODES = 16 };

static void die(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* ---- The log ---------------------------------------------------------------------------------------------------- */

static char last_error[1000];

static void keep_errors(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) snprintf(last_error, sizeof last_error, "%s", text);
}

/* ---- A graph like that of a layer ------------------------------------------------------------------------------- */

typedef struct scene {
    ggml_backend_t backend;
    struct ggml_context *leaves, *nodes;
    struct ggml_cgraph *graph;
    struct ggml_tensor *y;
} scene;

static struct ggml_tensor *leaf(struct ggml_context *c, enum ggml_type type, int64_t cols, int64_t rows) {
    return ggml_new_tensor_2d(c, type, cols, rows);
}

static struct ggml_tensor *named(const char *name, struct ggml_tensor *t) {
    return ggml_set_name(t, name);
}

static void fill(struct ggml_tensor *t, unsigned seed) {
    const size_t n = (size_t)ggml_nelements(t);
    float *values = malloc(n * sizeof *values);
    void *bytes = malloc(ggml_nbytes(t));
    if (!values || !bytes) die("no memory");
    for (size_t i = 0; i < n; i++)
        values[i] = (float)((i * 37 + seed * 11) % 101) * 0.02f - 1.0f;
    ggml_quantize_chunk(t->type, values, bytes, 0, ggml_nrows(t), t->ne[0], NULL);
    ggml_backend_tensor_set(t, bytes, 0, ggml_nbytes(t));
    free(values);
    free(bytes);
}

/* The norm is read as A8 only; gate and up are stacked; the last sum is fused. */
static scene open_scene(void) {
    const struct ggml_init_params room = {.mem_size = 1 << 20, .no_alloc = true};
    scene s = {.backend = ggml_backend_init_by_name("QDOT", NULL), .leaves = ggml_init(room), .nodes = ggml_init(room)};
    if (!s.backend) die("the backend is not there");
    struct ggml_tensor *x = leaf(s.leaves, GGML_TYPE_F32, K, M), *weight = leaf(s.leaves, GGML_TYPE_F32, K, 1);
    struct ggml_tensor *gate = leaf(s.leaves, GGML_TYPE_Q8_0, K, N), *up = leaf(s.leaves, GGML_TYPE_Q8_0, K, N);
    struct ggml_tensor *down = leaf(s.leaves, GGML_TYPE_Q4_1, N, K);
    ggml_backend_buffer_t leaves = ggml_backend_alloc_ctx_tensors(s.leaves, s.backend);
    if (!leaves) die("no buffer");
    ggml_backend_buffer_set_usage(leaves, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    fill(x, 1);
    fill(weight, 2);
    fill(gate, 3);
    fill(up, 4);
    fill(down, 5);
    struct ggml_context *c = s.nodes;
    struct ggml_tensor *scaled = named("scaled-3", ggml_scale(c, x, 3));
    struct ggml_tensor *norm =
        named("ffn_norm-3", ggml_mul(c, named("norm-3", ggml_rms_norm(c, scaled, 1e-5f)), weight));
    struct ggml_tensor *both =
        named("ffn_swiglu-3", ggml_swiglu_split(c, named("ffn_gate-3", ggml_mul_mat(c, gate, norm)),
                                                named("ffn_up-3", ggml_mul_mat(c, up, norm))));
    struct ggml_tensor *out = named("l_out-3", ggml_add(c, named("ffn_out-3", ggml_mul_mat(c, down, both)), scaled));
    s.y = named("result", ggml_tanh(c, out));
    s.graph = ggml_new_graph(c);
    ggml_build_forward_expand(s.graph, s.y);
    ggml_gallocr_t memory = ggml_gallocr_new(ggml_backend_get_default_buffer_type(s.backend));
    if (!ggml_gallocr_alloc_graph(memory, s.graph)) die("no memory for the graph");
    return s;
}

static bool compute(const scene *s, float *y) {
    last_error[0] = 0;
    const bool done = ggml_backend_graph_compute(s->backend, s->graph) == GGML_STATUS_SUCCESS;
    if (done) ggml_backend_tensor_get(s->y, y, 0, ggml_nbytes(s->y));
    return done;
}

/* ---- The test --------------------------------------------------------------------------------------------------- */

static void spoil(void *user) {
    (void)user;
    inject_wrong_reads(1);
}

int main(int argc, char **argv) {
    static const char *const names[] = {"scaled-3", "norm-3", "ffn_gate-3", "ffn_swiglu-3", "ffn_out-3", "result"};
    enum { NAMES = sizeof names / sizeof *names };
    static float want[K * M], got[K * M];
    int at = -1;
    if (argc != 2) die("usage: verify LIBRARY");
    ggml_log_set(keep_errors, NULL);
    if (!ggml_backend_load(argv[1])) die("the backend was not loaded");
    const scene s = open_scene();
    if (!compute(&s, want)) die("the first run failed"); /* proves the kernels: later launches are the graph's */
    inject_clear();
    if (!compute(&s, got) || memcmp(got, want, sizeof got)) die("the second run differs");
    const long launches = inject_calls(FN_clEnqueueNDRangeKernel);
    for (long n = 0; n < launches; n++) {
        inject_clear();
        inject_hook(FN_clEnqueueNDRangeKernel, n, spoil, NULL);
        if (compute(&s, got)) die("nobody saw the wrong bit");
        printf("launch %ld: %s", n, last_error);
        char start[100];
        const bool same = at >= 0 && (snprintf(start, sizeof start, "qdot: running %s (", names[at]), true) &&
                          !strncmp(last_error, start, strlen(start));
        if (!same && ++at < NAMES) snprintf(start, sizeof start, "qdot: running %s (", names[at]);
        if (at == NAMES || strncmp(last_error, start, strlen(start)) || !strstr(last_error, "where the reference has"))
            die("that is not the node");
        inject_clear();
        if (!compute(&s, got) || memcmp(got, want, sizeof got)) die("the run after it differs");
    }
    if (at != NAMES - 1) die("not all nodes were named");
    return 0;
}
