/* qdot's own part of the works: graphs of as many operators as there are copies of the weights, as peers have them,
 * too. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_works.h"

struct qd_bench_own {
    const qd_bench_work *work;
    qd_context *c;
    qd_model *model;
    qd_graph *graph;
    qd_plan *first; /* of the graph's operators, by itself: names the kernel */
    void *weights, *requant;
    qd_tensor *w[QD_BENCH_MAX_COPIES];
    int count;
    qd_tensor *x, *x_zero, *requants, *y;
    qd_bench_network network;
};

static int32_t const_zero = QD_BENCH_ZERO; /* borrowed by constants */

/* Byte i of a sequence: a multiplicative hash with its bits mixed (finalizer of Murmur3, Appleby 2011, shortened). */
static uint8_t byte_at(uint32_t i, uint32_t seed) {
    uint32_t h = i * 2654435761u + seed;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return (uint8_t)(h >> 24);
}

/* ---- Operands ----------------------------------------------------------------------------------------------- */

static bool make_requant(qd_bench_own *o) {
    const qd_bench_work *w = o->work;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_I32, w->n, 2, 0, 0), one = qd_desc(QD_FORMAT_I32, 1, 0, 0, 0);
    float *scales = malloc((size_t)w->n * sizeof *scales);
    o->requant = malloc(qd_desc_bytes(&d));
    bool ok = scales && o->requant;
    if (!ok) qd_cli_fail("out of memory");
    for (int64_t i = 0; ok && i < w->n; i++)
        scales[i] = 0x1p-7f * (1 + (float)(i % 7) / 8);
    if (ok && (qd_requantize_table(QD_ROUND_FLOAT, QD_BENCH_SCALE, scales, w->n, w->y_scale, o->requant) != QD_OK ||
               qd_tensor_constant(o->c, &d, o->requant, &o->requants) != QD_OK ||
               qd_tensor_constant(o->c, &one, &const_zero, &o->x_zero) != QD_OK))
        ok = qd_cli_failed() == QD_EXIT_OK;
    free(scales);
    return ok;
}

bool qd_bench_make_values(qd_format f, size_t count, uint32_t seed, void **out) {
    void *data = malloc(count * (f == QD_FORMAT_F32 ? sizeof(float) : 1));
    *out = data;
    if (!data) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    for (size_t i = 0; i < count; i++) {
        const int code = byte_at((uint32_t)i, seed);
        if (f == QD_FORMAT_F32) {
            ((float *)data)[i] = (float)(code - QD_BENCH_ZERO) / QD_BENCH_ZERO;
        } else if (f == QD_FORMAT_U8) {
            ((uint8_t *)data)[i] = (uint8_t)code;
        } else {
            ((int8_t *)data)[i] = (int8_t)(code == 0 ? -127 : code - QD_BENCH_ZERO);
        }
    }
    return true;
}

static bool make_weights(qd_bench_own *o, const qd_tensor_desc *d) {
    const qd_bench_work *w = o->work;
    bool ok;
    if (w->kind == QD_BENCH_GEMV) {
        o->weights = malloc(qd_desc_bytes(d));
        ok = o->weights != NULL || qd_cli_fail("out of memory") == QD_EXIT_OK;
        ok = ok && qd_bench_random_weights(w->weights, w->n, w->k, o->weights);
    } else {
        ok = qd_bench_make_values(w->weights, (size_t)(w->n * w->k), QD_BENCH_SEED_W, &o->weights);
    }
    while (ok && o->count < w->copies && !qd_cli_stopped()) {
        ok = qd_tensor_constant(o->c, d, o->weights, &o->w[o->count]) == QD_OK || qd_cli_failed() == QD_EXIT_OK;
        if (ok) o->count++;
    }
    return ok;
}

static bool go_on(void *user, int done, int total) {
    (void)user, (void)done, (void)total;
    return !qd_cli_stopped();
}

static bool make_input(qd_bench_own *o, const qd_tensor_desc *d) {
    const qd_bench_work *w = o->work;
    if (w->kind == QD_BENCH_GEMV) return qd_bench_random_activations(o->c, d->format, w->m, w->k, &o->x);
    void *data;
    const size_t size = d->format == QD_FORMAT_F32 ? sizeof(float) : 1;
    bool ok = qd_bench_make_values(d->format, qd_desc_bytes(d) / size, QD_BENCH_SEED_X, &data);
    if (ok && (qd_tensor_create(o->c, d, &o->x) != QD_OK || qd_tensor_write(o->x, 0, data, qd_desc_bytes(d)) != QD_OK))
        ok = qd_cli_failed() == QD_EXIT_OK;
    free(data);
    return ok;
}

static bool compile(qd_graph *g) {
    const qd_status status = qd_graph_compile(g, go_on, NULL);
    if (qd_cli_stopped()) return qd_cli_fail("stopped") == QD_EXIT_OK;
    return status == QD_OK || qd_cli_failed() == QD_EXIT_OK;
}

static bool make_graph(qd_bench_own *o, qd_op op, const qd_attrs *attrs) {
    const int n_in = op == QD_OP_MATMUL ? 2 : 6;
    qd_status status = qd_graph_create(o->c, 1, &o->graph);
    for (int i = 0; i < o->count && !status && !qd_cli_stopped(); i++) {
        qd_tensor *in[6] = {o->w[i], o->x, NULL, o->x_zero, NULL, o->requants};
        status = qd_graph_add(o->graph, op, attrs, in, n_in, &o->y, 1);
        if (!i && !status) status = qd_plan_create(o->c, op, attrs, in, n_in, &o->y, 1, &o->first);
    }
    if (status) return qd_cli_failed() == QD_EXIT_OK;
    return compile(o->graph);
}

static bool make_network(qd_bench_own *o) {
    if (!qd_bench_network_create(&o->network, o->c, o->work)) return false;
    o->graph = o->network.graph;
    o->y = o->network.y;
    return compile(o->graph);
}

/* ---- The work ----------------------------------------------------------------------------------------------- */

qd_bench_own *qd_bench_own_create(qd_context *c, qd_model *m, const qd_bench_work *w) {
    qd_bench_own *o = calloc(1, sizeof *o);
    if (!o) {
        qd_cli_fail("out of memory");
        return NULL;
    }
    o->work = w;
    o->c = c;
    o->model = m;
    if (w->tokens > 0 || (w->layers && make_network(o))) return o;
    if (w->layers) {
        qd_bench_own_free(o);
        return NULL;
    }
    const bool codes = w->weights == QD_FORMAT_I8;
    qd_tensor_desc weights = qd_desc(w->weights, w->n, w->k, 0, 0);
    qd_tensor_desc x = qd_desc(w->kind == QD_BENCH_GEMV ? QD_FORMAT_A8
                               : codes                  ? QD_FORMAT_U8
                                                        : w->weights,
                               w->m, w->k, 0, 0);
    qd_tensor_desc y = qd_desc(codes ? QD_FORMAT_U8 : QD_FORMAT_F32, w->m, w->n, 0, 0);
    const qd_requant requant = {.rounding = QD_ROUND_FLOAT, .zero_point = QD_BENCH_ZERO};
    qd_attrs attrs = {.matmul_int = {.y = requant}};
    qd_op op = codes ? QD_OP_MATMUL_INT : QD_OP_MATMUL;
    if (w->kind == QD_BENCH_CONV) {
        const int stride = (int)w->stride, pad = (int)w->kernel / 2;
        const int64_t side = (w->image + 2 * pad - w->kernel) / stride + 1;
        weights = qd_desc(w->weights, w->n, w->kernel, w->kernel, w->channels / w->groups);
        x = qd_desc(QD_FORMAT_U8, 1, w->image, w->image, w->channels);
        y = qd_desc(QD_FORMAT_U8, 1, side, side, w->n);
        op = QD_OP_CONV_INT;
        attrs = (qd_attrs){.conv_int = {.groups = (int)w->groups, .y = requant}};
        attrs.conv_int.window = (qd_window){.stride = {stride, stride}, .before = {pad, pad}, .after = {pad, pad}};
    }
    bool ok = (!codes || make_requant(o)) && make_weights(o, &weights) && make_input(o, &x);
    if (ok && qd_tensor_create(c, &y, &o->y) != QD_OK) ok = qd_cli_failed() == QD_EXIT_OK;
    if (ok && make_graph(o, op, op == QD_OP_MATMUL ? NULL : &attrs)) return o;
    qd_bench_own_free(o);
    return NULL;
}

void qd_bench_own_free(qd_bench_own *o) {
    if (!o) return;
    if (o->work->layers) {
        qd_bench_network_free(&o->network);
        free(o);
        return;
    }
    qd_plan_free(o->first);
    qd_graph_free(o->graph);
    for (int i = 0; i < o->count; i++)
        qd_tensor_free(o->w[i]);
    qd_tensor_free(o->x);
    qd_tensor_free(o->x_zero);
    qd_tensor_free(o->requants);
    qd_tensor_free(o->y);
    free(o->weights);
    free(o->requant);
    free(o);
}

bool qd_bench_own_run(qd_bench_own *o, int64_t passes, double *seconds) {
    const qd_bench_work *w = o->work;
    qd_status status = QD_OK;
    const double start = qd_cli_clock(o->c);
    for (int64_t i = 0; i < passes && !status; i++) {
        status = o->graph ? qd_graph_run(o->graph, 1)
                          : qd_bench_tokens(o->model, w->tokens, w->kind == QD_BENCH_PROMPT ? w->tokens : 1);
        if (!status && o->graph) status = qd_context_finish(o->c);
    }
    *seconds = qd_cli_clock(o->c) - start;
    if (qd_cli_stopped()) return qd_cli_fail("stopped") == QD_EXIT_OK;
    return status == QD_OK || qd_cli_failed() == QD_EXIT_OK;
}

const char *qd_bench_own_kernel(const qd_bench_own *o) {
    return o->first ? qd_plan_variant(o->first) : "";
}

bool qd_bench_own_mark(qd_bench_own *o, double *mark) {
    enum { SAMPLES = 64 };
    *mark = NAN;
    if (o->work->tolerance <= 0) return true;
    const qd_tensor_desc *d = qd_tensor_describe(o->y);
    const size_t bytes = qd_desc_bytes(d), size = d->format == QD_FORMAT_F32 ? sizeof(float) : 1, count = bytes / size;
    uint8_t *data = malloc(bytes);
    if (!data) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    const bool ok = qd_tensor_read(o->y, 0, data, bytes) == QD_OK || qd_cli_failed() == QD_EXIT_OK;
    double sum = 0;
    for (size_t i = 0; ok && i < SAMPLES; i++) {
        const size_t at = i * 2654435761u % count;
        float value = data[at];
        if (size > 1) memcpy(&value, data + at * size, sizeof value);
        sum += (double)value * (double)(i + 1);
    }
    free(data);
    *mark = sum * 2 / (SAMPLES * (SAMPLES + 1));
    return ok;
}
