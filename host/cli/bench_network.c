/* Networks, as qdot itself does them: layers of codes one behind the other, in one graph. */
#include <math.h>
#include <stdlib.h>

#include "cli/bench_works.h"

static int32_t const_zero = QD_BENCH_ZERO; /* borrowed by constants */

bool qd_bench_next_layer(const char **text, qd_bench_layer *l) {
    char *p;
    if (!**text) return false;
    l->channels = l->outputs;
    l->image = l->side;
    l->outputs = strtoll(*text, &p, 10);
    l->kernel = l->stride = l->groups = 1;
    if (*p == '/') {
        l->kernel = strtoll(p + 1, &p, 10);
        l->stride = strtoll(p + 1, &p, 10);
        l->groups = strtoll(p + 1, &p, 10);
        l->side = (l->image + 2 * (l->kernel / 2) - l->kernel) / l->stride + 1;
        l->m = l->side * l->side;
    }
    l->k = l->kernel * l->kernel * l->channels / l->groups;
    *text = *p ? p + 1 : p;
    return true;
}

qd_bench_layer qd_bench_first_layer(const qd_bench_work *w) {
    return (qd_bench_layer){.m = w->rows, .side = w->image, .outputs = w->channels};
}

static bool keep(qd_bench_network *n, qd_tensor *t) {
    n->kept[n->n_kept++] = t;
    return true;
}

static bool add_constant(qd_bench_network *n, qd_context *c, const qd_tensor_desc *d, const void *data,
                         qd_tensor **out) {
    return (qd_tensor_constant(c, d, data, out) == QD_OK && keep(n, *out)) || qd_cli_failed() == QD_EXIT_OK;
}

static bool make_tensor(qd_bench_network *n, qd_context *c, const qd_tensor_desc *d, qd_tensor **out) {
    return (qd_tensor_create(c, d, out) == QD_OK && keep(n, *out)) || qd_cli_failed() == QD_EXIT_OK;
}

/* Multipliers that leave codes about as wide as they came: products of codes deviate by 74 from 0, and so weights have
 * the scale 1.25 · 2⁻⁷ / √k · (1 + (channel mod 7) / 8). Codes of x and y mean the same. */
static bool make_requant(qd_bench_network *n, qd_context *c, const qd_bench_layer *l, qd_tensor **out) {
    const qd_tensor_desc d = qd_desc(QD_FORMAT_I32, l->outputs, 2, 0, 0);
    float *scales = malloc((size_t)l->outputs * sizeof *scales);
    void *table = malloc(qd_desc_bytes(&d));
    n->memory[n->n_memory++] = table;
    bool ok = (scales && table) || qd_cli_fail("out of memory") == QD_EXIT_OK;
    for (int64_t i = 0; ok && i < l->outputs; i++)
        scales[i] = (float)(1.25 * 0x1p-7 / sqrt((double)l->k) * (1 + (double)(i % 7) / 8));
    if (ok && qd_requantize_table(QD_ROUND_FLOAT, QD_BENCH_SCALE, scales, l->outputs, QD_BENCH_SCALE, table) != QD_OK)
        ok = qd_cli_failed() == QD_EXIT_OK;
    free(scales);
    return ok && add_constant(n, c, &d, table, out);
}

static qd_tensor_desc activations(const qd_bench_layer *l) {
    return l->side ? qd_desc(QD_FORMAT_U8, 1, l->side, l->side, l->outputs)
                   : qd_desc(QD_FORMAT_U8, l->m, l->outputs, 0, 0);
}

/* The layer reads what is in n->y, which becomes its result: a tensor outside the graph for the last one. */
static bool add_layer(qd_bench_network *n, qd_context *c, const qd_bench_layer *l, qd_tensor *zero, bool last) {
    const qd_tensor_desc y = activations(l),
                         w = l->side ? qd_desc(QD_FORMAT_I8, l->outputs, l->kernel, l->kernel, l->channels / l->groups)
                                     : qd_desc(QD_FORMAT_I8, l->outputs, l->k, 0, 0);
    const qd_requant requant = {.rounding = QD_ROUND_FLOAT, .zero_point = QD_BENCH_ZERO};
    const int stride = (int)l->stride, pad = (int)l->kernel / 2;
    qd_attrs attrs = {.matmul_int = {.y = requant}};
    if (l->side) {
        attrs = (qd_attrs){.conv_int = {.groups = (int)l->groups, .y = requant}};
        attrs.conv_int.window = (qd_window){.stride = {stride, stride}, .before = {pad, pad}, .after = {pad, pad}};
    }
    qd_tensor *in[6] = {NULL, n->y, NULL, zero, NULL, NULL};
    if (!add_constant(n, c, &w, n->weights, &in[0]) || !make_requant(n, c, l, &in[5])) return false;
    if (last && !make_tensor(n, c, &y, &n->y)) return false;
    if (!last && qd_graph_tensor(n->graph, &y, &n->y) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
    return qd_graph_add(n->graph, l->side ? QD_OP_CONV_INT : QD_OP_MATMUL_INT, &attrs, in, 6, &n->y, 1) == QD_OK ||
           qd_cli_failed() == QD_EXIT_OK;
}

/* Bytes of the largest weights: others are their beginning. */
static size_t most_weights(const qd_bench_work *w) {
    qd_bench_layer l = qd_bench_first_layer(w);
    size_t most = 0;
    for (const char *text = w->layers; qd_bench_next_layer(&text, &l);) {
        const size_t bytes = (size_t)(l.outputs * l.k);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static bool make_input(qd_bench_network *n, qd_context *c, const qd_tensor_desc *d) {
    void *codes = NULL;
    bool ok =
        qd_bench_make_values(QD_FORMAT_U8, qd_desc_bytes(d), QD_BENCH_SEED_X, &codes) && make_tensor(n, c, d, &n->y);
    if (ok && qd_tensor_write(n->y, 0, codes, qd_desc_bytes(d)) != QD_OK) ok = qd_cli_failed() == QD_EXIT_OK;
    free(codes);
    return ok;
}

bool qd_bench_network_create(qd_bench_network *n, qd_context *c, const qd_bench_work *w) {
    const qd_tensor_desc one = qd_desc(QD_FORMAT_I32, 1, 0, 0, 0);
    qd_bench_layer l = qd_bench_first_layer(w);
    const qd_tensor_desc x = activations(&l);
    qd_tensor *zero;
    bool ok = qd_bench_make_values(QD_FORMAT_I8, most_weights(w), QD_BENCH_SEED_W, &n->weights) &&
              add_constant(n, c, &one, &const_zero, &zero) && make_input(n, c, &x);
    if (ok && qd_graph_create(c, 1, &n->graph) != QD_OK) ok = qd_cli_failed() == QD_EXIT_OK;
    for (const char *text = w->layers; ok && qd_bench_next_layer(&text, &l);)
        ok = add_layer(n, c, &l, zero, !*text);
    return ok;
}

void qd_bench_network_free(qd_bench_network *n) {
    qd_graph_free(n->graph);
    while (n->n_kept)
        qd_tensor_free(n->kept[--n->n_kept]);
    while (n->n_memory)
        free(n->memory[--n->n_memory]);
    free(n->weights);
}
