/* Operands of the problems that `qdot tune` measures. */
#include <stdlib.h>
#include <string.h>

#include "cli/tune.h"

/* For fewer rows the weights' way from memory matters, as in bench_matmul.c. */
enum { ROTATED_ROWS = 16 };

/* What an operator reads and writes. */
typedef struct operands {
    qd_attrs attrs;
    qd_tensor_desc in[QD_TUNE_INPUTS], y; /* rank 0: absent */
    bool constant[QD_TUNE_INPUTS];
    int n_in;
} operands;

qd_tensor_desc qd_tune_weights(const qd_tune_class *c, const qd_tune_shape *s) {
    const int64_t kernel = s->conv.kernel;
    switch (c->op) {
        case QD_OP_ATTENTION:
            return qd_desc(c->w, s->rows, s->attention.heads * s->attention.head_dim, 0, 0);
        case QD_OP_CONV_INT:
            return qd_desc(c->w, s->conv.outputs, kernel, kernel, s->conv.channels / s->conv.groups);
        default:
            return qd_desc(c->w, s->product.n, s->product.k, 0, 0);
    }
}

static void conv_operands(const qd_tune_class *c, const qd_tune_shape *s, operands *o) {
    const int stride = (int)s->conv.stride, pad = (int)s->conv.kernel / 2;
    const int64_t side = (s->conv.image + 2 * pad - s->conv.kernel) / stride + 1;
    const qd_requant y = {.rounding = QD_ROUND_FLOAT, .zero_point = 128};
    o->attrs.conv_int.window = (qd_window){.stride = {stride, stride}, .before = {pad, pad}, .after = {pad, pad}};
    o->attrs.conv_int.groups = (int)s->conv.groups;
    o->attrs.conv_int.y = y;
    o->in[1] = qd_desc(c->x, s->rows, s->conv.image, s->conv.image, s->conv.channels);
    o->in[3] = qd_desc(QD_FORMAT_I32, 1, 0, 0, 0);
    o->in[5] = qd_desc(QD_FORMAT_I32, s->conv.outputs, 2, 0, 0);
    o->constant[3] = o->constant[5] = true;
    o->n_in = 6;
    o->y = qd_desc(QD_FORMAT_U8, s->rows, side, side, s->conv.outputs);
}

static void attention_operands(const qd_tune_class *c, const qd_tune_shape *s, operands *o) {
    const int64_t dim = s->attention.head_dim;
    o->attrs.attention.heads = (int)s->attention.heads;
    o->attrs.attention.kv_heads = (int)s->attention.kv_heads;
    o->attrs.attention.head_dim = (int)dim;
    o->attrs.attention.scale = 0.125f;
    o->in[1] = o->in[2] = qd_desc(c->x, s->attention.kv_heads, s->attention.positions, dim, 0);
    o->in[3] = qd_desc(QD_FORMAT_I32, 1, 0, 0, 0);
    o->n_in = 4;
    o->y = qd_desc(QD_FORMAT_A8, s->rows, s->attention.heads * dim, 0, 0);
}

static operands operands_of(const qd_tune_class *c, const qd_tune_shape *s) {
    operands o = {.in = {qd_tune_weights(c, s)}, .constant = {c->op != QD_OP_ATTENTION}};
    if (c->op == QD_OP_ATTENTION) {
        attention_operands(c, s, &o);
    } else if (c->op == QD_OP_CONV_INT) {
        conv_operands(c, s, &o);
    } else {
        o.in[1] = qd_desc(c->x, s->rows, s->product.k, 0, 0);
        o.n_in = 2;
        o.y = qd_desc(c->op == QD_OP_MATMUL_INT ? QD_FORMAT_I32 : QD_FORMAT_F32, s->rows, s->product.n, 0, 0);
    }
    if (c->op == QD_OP_MATMUL_GROUP) { /* w_scale, x, w_zero, x_scale */
        o.in[2] = o.in[1];
        o.in[1] = qd_desc(QD_FORMAT_F32, s->product.n, 1, 0, 0);
        o.constant[1] = true;
        o.in[4] = qd_desc(QD_FORMAT_F32, s->rows, 0, 0, 0);
        o.n_in = 5;
    }
    return o;
}

/* A requant operand that divides all sums by 2^10. */
static bool fill_requant(int64_t channels, void *table) {
    float *scales = malloc((size_t)channels * sizeof *scales);
    if (!scales) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    for (int64_t i = 0; i < channels; i++)
        scales[i] = 0x1p-10f;
    const qd_status status = qd_requantize_table(QD_ROUND_FLOAT, 1, scales, channels, 1, table);
    free(scales);
    return status == QD_OK || qd_cli_failed() == QD_EXIT_OK;
}

/* Constants: blocks of any codes, or codes and floats of any small values: 1.19 in each byte of a float's. */
static bool fill(const qd_tensor_desc *d, void **data) {
    static const int32_t zero_point = 128;
    *data = malloc(qd_desc_bytes(d));
    if (!*data) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    if (d->format == QD_FORMAT_I32 && d->rank == 2) return fill_requant(d->shape[0], *data);
    memset(*data, 0x3f, qd_desc_bytes(d));
    if (d->format == QD_FORMAT_I32) memcpy(*data, &zero_point, sizeof zero_point);
    return qd_format_get(d->format)->kind != QD_KIND_BLOCKED ||
           qd_bench_random_weights(d->format, d->shape[0], d->shape[1], *data);
}

static bool make_input(qd_tune_problems *p, int shape, int i, const operands *o) {
    const qd_tensor_desc *d = &o->in[i];
    const qd_tune_shape *s = &p->what->shapes[shape];
    qd_tensor **out = &p->of[shape].in[i];
    if (!d->rank) return true;
    if (o->constant[i]) {
        if (!fill(d, &p->of[shape].data[i])) return false;
        /* Of the weights there are copies. */
        return !i || qd_tensor_constant(p->c, d, p->of[shape].data[i], out) == QD_OK || qd_cli_failed() == QD_EXIT_OK;
    }
    if (p->what->op == QD_OP_MATMUL) return qd_bench_random_activations(p->c, d->format, d->shape[0], d->shape[1], out);
    if (qd_tensor_create(p->c, d, out) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
    if (p->what->op != QD_OP_ATTENTION || i != 3) return true;
    const int32_t position = (int32_t)(s->attention.positions - s->rows);
    return qd_tensor_write(*out, 0, &position, sizeof position) == QD_OK || qd_cli_failed() == QD_EXIT_OK;
}

/* Copies of the weights that together no cache holds; one where many rows share them. */
static int copies_of(const qd_tune_class *t) {
    enum { LEAST = 32 << 20, MOST = 128 << 20 };
    size_t bytes = 0, wanted = qd_bench_cache_bytes() * 3 / 2;
    for (int s = 0; s < t->n_shapes; s++) {
        const qd_tensor_desc w = qd_tune_weights(t, &t->shapes[s]);
        bytes += qd_desc_bytes(&w);
    }
    if (t->op == QD_OP_CONV_INT || qd_tuning_least_rows(t->rows_class) >= ROTATED_ROWS) return 1;
    wanted = wanted < LEAST ? LEAST : wanted > MOST ? MOST : wanted;
    const size_t n = (wanted + bytes - 1) / bytes, most = (size_t)(QD_BENCH_MAX_COPIES / t->n_shapes);
    return (int)(n < most ? n : most);
}

bool qd_tune_make_problems(qd_context *c, const qd_tune_class *what, qd_tune_problems *p) {
    const int n = what->n_shapes;
    *p = (qd_tune_problems){.c = c, .what = what, .count = n};
    for (int s = 0; s < n; s++) {
        const operands o = operands_of(what, &what->shapes[s]);
        p->of[s].attrs = o.attrs;
        p->of[s].n_in = o.n_in;
        for (int i = 0; i < o.n_in; i++) {
            if (!make_input(p, s, i, &o)) return false;
        }
        if (qd_tensor_create(c, &o.y, &p->of[s].y) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
    }
    if (what->op == QD_OP_ATTENTION) return true;
    p->copies = copies_of(what);
    p->count = p->copies * n;
    p->w = calloc((size_t)p->count, sizeof(qd_tensor *));
    if (!p->w) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    for (int i = 0; i < p->count; i++) {
        const qd_tensor_desc w = qd_tune_weights(what, &what->shapes[i % n]);
        if (qd_tensor_constant(c, &w, p->of[i % n].data[0], &p->w[i]) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
    }
    return true;
}

void qd_tune_free_problems(qd_tune_problems *p) {
    for (int i = 0; p->w && i < p->count; i++)
        qd_tensor_free(p->w[i]);
    free(p->w);
    for (int s = 0; s < QD_TUNE_SHAPES; s++) {
        for (int i = 0; i < QD_TUNE_INPUTS; i++) {
            qd_tensor_free(p->of[s].in[i]);
            free(p->of[s].data[i]);
        }
        qd_tensor_free(p->of[s].y);
    }
}

qd_status qd_tune_plan(const qd_tune_problems *p, int i, qd_plan **out) {
    const int s = i % p->what->n_shapes;
    qd_tensor *in[QD_TUNE_INPUTS], *y = p->of[s].y;
    memcpy(in, p->of[s].in, sizeof in);
    if (p->w) in[0] = p->w[i];
    return qd_plan_create(p->c, p->what->op, &p->of[s].attrs, in, p->of[s].n_in, &y, 1, out);
}
