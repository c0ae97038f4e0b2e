#include "e2e/networks.h"

#include <math.h>

#include "unit/devices.h"

/* ---- Parts -------------------------------------------------------------------------------------------------- */

static void *blob(network *n, size_t bytes) {
    void *p = malloc(bytes);
    ck_assert_ptr_nonnull(p);
    ck_assert_int_lt(n->n_blobs, NETWORK_BLOBS);
    n->blobs[n->n_blobs++] = p;
    return p;
}

static qd_tensor *constant(network *n, qd_tensor_desc d, const void *data) {
    qd_tensor *t;
    ck_ok(qd_tensor_constant(n->context, &d, data, &t));
    ck_assert_int_lt(n->n_constants, NETWORK_BLOBS);
    return n->constants[n->n_constants++] = t;
}

static qd_tensor *inside(network *n, qd_tensor_desc d) {
    qd_tensor *t;
    ck_ok(qd_graph_tensor(n->graph, &d, &t));
    ck_assert_int_lt(n->n_inside, NETWORK_TENSORS);
    n->inside[n->n_inside].tensor = t;
    n->inside[n->n_inside].bytes = qd_desc_bytes(&d);
    n->inside[n->n_inside].first = -1;
    n->n_inside++;
    return t;
}

static void touch(network *n, const qd_tensor *t) {
    for (int i = 0; i < n->n_inside; i++) {
        if (n->inside[i].tensor != t) continue;
        if (n->inside[i].first < 0) n->inside[i].first = n->n_ops;
        n->inside[i].last = n->n_ops;
    }
}

static void add(network *n, qd_op op, const qd_attrs *a, qd_tensor *const in[], int n_in, qd_tensor *out) {
    ck_ok(qd_graph_add(n->graph, op, a, in, n_in, &out, 1));
    for (int i = 0; i < n_in; i++)
        touch(n, in[i]);
    touch(n, out);
    n->n_ops++;
}

static const int32_t zero_point = -3; /* of all activations */

/* Bias and multipliers for sums of k products: the results then spread over the codes. */
static void finish(network *n, int64_t channels, int64_t k, qd_tensor **bias, qd_tensor **requant) {
    int32_t *b = blob(n, (size_t)channels * sizeof *b), *table = blob(n, (size_t)channels * 2 * sizeof *table);
    for (int64_t i = 0; i < channels; i++) {
        b[i] = (int32_t)(random_bits(&n->rng) % 20001) - 10000;
        const float scale = (0.8f + (float)(random_bits(&n->rng) % 400) * 1e-3f) / (60.0f * sqrtf((float)k));
        ck_ok(qd_requantize_table(n->rounding, 1.0f, &scale, 1, 1.0f, table + 2 * i));
    }
    *bias = constant(n, qd_desc(QD_FORMAT_I32, channels, 0, 0, 0), b);
    *requant = constant(n, qd_desc(QD_FORMAT_I32, channels, 2, 0, 0), table);
}

static int8_t *random_codes(network *n, int64_t count) {
    int8_t *p = blob(n, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        p[i] = (int8_t)(random_bits(&n->rng) % 255 - 127);
    return p;
}

/* The tail of an operator that gives codes: ReLU as a table, where `relu`. */
static qd_tensor *activate(network *n, qd_tensor *x, bool relu) {
    if (!relu) return x;
    int8_t *table = blob(n, 256);
    for (int i = 0; i < 256; i++)
        table[i] = (int8_t)(i - 128 < zero_point ? zero_point : i - 128);
    qd_tensor *t = constant(n, qd_desc(QD_FORMAT_I8, 256, 0, 0, 0), table), *y = inside(n, *qd_tensor_describe(x));
    add(n, QD_OP_TABLE, NULL, (qd_tensor *[]){x, t}, 2, y);
    return y;
}

/* A convolution with a square kernel, padded to keep the size (halved by stride 2), then ReLU where `relu`. */
static qd_tensor *conv(network *n, qd_tensor *x, int64_t out, int kernel, int stride, bool depthwise, bool relu) {
    const qd_tensor_desc *d = qd_tensor_describe(x);
    const int64_t in = d->shape[3], each = depthwise ? 1 : in, size = (d->shape[1] - 1) / stride + 1;
    const int64_t k = kernel * kernel * each;
    qd_attrs a = {
        .conv_int = {
            .groups = depthwise ? (int)in : 1,
            .y = {.rounding = n->rounding, .zero_point = zero_point, .min = relu ? zero_point : -128, .max = 127}}};
    for (int i = 0; i < 2; i++) {
        a.conv_int.window.stride[i] = stride;
        a.conv_int.window.before[i] = a.conv_int.window.after[i] = kernel / 2;
    }
    qd_tensor *w = constant(n, qd_desc(QD_FORMAT_I8, out, kernel, kernel, each), random_codes(n, out * k)), *bias,
              *requant;
    int32_t *zero = blob(n, sizeof *zero);
    *zero = zero_point;
    finish(n, out, k, &bias, &requant);
    qd_tensor *x_zero = constant(n, qd_desc(QD_FORMAT_I32, 1, 0, 0, 0), zero);
    n->macs += (double)(size * size * out * k);
    qd_tensor *y = inside(n, qd_desc(QD_FORMAT_I8, 1, size, size, out));
    if (!n->apart) {
        add(n, QD_OP_CONV_INT, &a, (qd_tensor *[]){w, x, NULL, x_zero, bias, requant}, 6, y);
        return y;
    }
    const qd_attrs end = {.requantize = {.y = {.rounding = n->rounding, .zero_point = zero_point}}};
    qd_tensor *sum = inside(n, qd_desc(QD_FORMAT_I32, 1, size, size, out));
    add(n, QD_OP_CONV_INT, &a, (qd_tensor *[]){w, x, NULL, x_zero, bias}, 5, sum);
    add(n, QD_OP_REQUANTIZE, &end, (qd_tensor *[]){sum, requant}, 2, y);
    return activate(n, y, relu);
}

static qd_tensor *residual(network *n, qd_tensor *a, qd_tensor *b, bool relu) {
    const qd_quant same = {0.05f, zero_point}, sum = {0.06f, zero_point};
    const qd_attrs attrs = {.binary = {.a = same,
                                       .b = same,
                                       .y = sum,
                                       .rounding = n->rounding,
                                       .min = relu && !n->apart ? zero_point : -128,
                                       .max = 127}};
    qd_tensor *y = inside(n, *qd_tensor_describe(a));
    add(n, QD_OP_ADD_INT, &attrs, (qd_tensor *[]){a, b}, 2, y);
    return activate(n, y, relu && n->apart);
}

/* The mean of each channel, then a product: 1000 sums. */
static void classify(network *n, qd_tensor *x) {
    const qd_tensor_desc *d = qd_tensor_describe(x);
    const int64_t channels = d->shape[3];
    const qd_quant same = {0.05f, zero_point};
    qd_tensor *mean = inside(n, qd_desc(QD_FORMAT_I8, 1, 1, 1, channels));
    add(n, QD_OP_POOL,
        &(qd_attrs){.pool = {.average = true, .global = true, .x = same, .y = same, .rounding = n->rounding}},
        (qd_tensor *[]){x}, 1, mean);
    qd_tensor *flat;
    const qd_tensor_desc rows = qd_desc(QD_FORMAT_I8, 1, channels, 0, 0);
    ck_ok(qd_graph_reshape(n->graph, mean, &rows, &flat));
    qd_tensor *w = constant(n, qd_desc(QD_FORMAT_I8, NETWORK_CLASSES, channels, 0, 0),
                            random_codes(n, NETWORK_CLASSES * channels));
    const qd_tensor_desc dy = qd_desc(QD_FORMAT_I32, 1, NETWORK_CLASSES, 0, 0);
    ck_ok(qd_tensor_create(n->context, &dy, &n->output));
    add(n, QD_OP_MATMUL_INT, &(qd_attrs){.matmul_int = {.wide = false}}, (qd_tensor *[]){w, flat}, 2, n->output);
    n->macs += (double)(NETWORK_CLASSES * channels);
}

static qd_tensor *start(network *n, qd_context *c, qd_rounding rounding, int64_t size, bool apart) {
    memset(n, 0, sizeof *n);
    n->context = c;
    n->apart = apart;
    n->rng = 2026;
    n->rounding = rounding;
    ck_ok(qd_graph_create(c, 1, &n->graph));
    const qd_tensor_desc d = qd_desc(QD_FORMAT_I8, 1, size, size, 3);
    ck_ok(qd_tensor_create(c, &d, &n->input));
    const int8_t *pixels = random_codes(n, size * size * 3);
    ck_ok(qd_tensor_write(n->input, 0, pixels, (size_t)(size * size * 3)));
    return n->input;
}

/* ---- Networks ----------------------------------------------------------------------------------------------- */

static void mobilenet_v2(network *n, qd_context *c, bool apart) {
    static const struct {
        int expansion, channels, repeats, stride;
    } stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                  {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    qd_tensor *x = conv(n, start(n, c, QD_ROUND_FIXED, 224, apart), 32, 3, 2, false, true);
    for (size_t s = 0; s < sizeof stages / sizeof stages[0]; s++) {
        for (int r = 0; r < stages[s].repeats; r++) {
            const int64_t in = qd_tensor_describe(x)->shape[3];
            const int stride = r ? 1 : stages[s].stride;
            qd_tensor *y = stages[s].expansion == 1 ? x : conv(n, x, in * stages[s].expansion, 1, 1, false, true);
            y = conv(n, y, in * stages[s].expansion, 3, stride, true, true);
            y = conv(n, y, stages[s].channels, 1, 1, false, false);
            x = stride == 1 && in == stages[s].channels ? residual(n, x, y, false) : y;
        }
    }
    classify(n, conv(n, x, 1280, 1, 1, false, true));
}

void network_small(network *n, qd_context *c, qd_rounding rounding) {
    static const struct { int channels, stride; } blocks[] = {{24, 1}, {48, 2}, {48, 1}, {96, 2}, {96, 1}};
    qd_tensor *x = conv(n, start(n, c, rounding, 32, false), 16, 3, 2, false, true);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        const int64_t in = qd_tensor_describe(x)->shape[3];
        qd_tensor *y = conv(n, conv(n, x, in, 3, blocks[i].stride, true, true), blocks[i].channels, 1, 1, false, true);
        x = in == blocks[i].channels && blocks[i].stride == 1 ? residual(n, x, y, false) : y;
    }
    classify(n, x);
}

static void resnet18(network *n, qd_context *c, bool apart) {
    qd_tensor *x = conv(n, start(n, c, QD_ROUND_GEMMLOWP, 224, apart), 64, 7, 2, false, true);
    qd_tensor *pooled = inside(n, qd_desc(QD_FORMAT_I8, 1, 56, 56, 64));
    const qd_window window = {.kernel = {3, 3}, .stride = {2, 2}, .before = {1, 1}, .after = {1, 1}};
    const qd_quant same = {0.05f, zero_point};
    add(n, QD_OP_POOL, &(qd_attrs){.pool = {.window = window, .x = same, .y = same}}, (qd_tensor *[]){x}, 1, pooled);
    x = pooled;
    for (int stage = 0; stage < 4; stage++) {
        const int64_t channels = 64 << stage;
        for (int block = 0; block < 2; block++) {
            const int stride = stage && !block ? 2 : 1;
            qd_tensor *y = conv(n, x, channels, 3, stride, false, true);
            y = conv(n, y, channels, 3, 1, false, false);
            qd_tensor *shortcut = stride == 2 ? conv(n, x, channels, 1, 2, false, false) : x;
            x = residual(n, shortcut, y, true);
        }
    }
    classify(n, x);
}

void network_mobilenet_v2(network *n, qd_context *c) {
    mobilenet_v2(n, c, false);
}

void network_mobilenet_v2_apart(network *n, qd_context *c) {
    mobilenet_v2(n, c, true);
}

void network_resnet18(network *n, qd_context *c) {
    resnet18(n, c, false);
}

void network_resnet18_apart(network *n, qd_context *c) {
    resnet18(n, c, true);
}

uint64_t network_live_bytes(const network *n) {
    uint64_t most = 0;
    for (int op = 0; op < n->n_ops; op++) {
        uint64_t sum = 0;
        for (int i = 0; i < n->n_inside; i++) {
            if (n->inside[i].first <= op && op <= n->inside[i].last) sum += n->inside[i].bytes;
        }
        if (sum > most) most = sum;
    }
    return most;
}

void network_free(network *n) {
    qd_graph_free(n->graph);
    qd_tensor_free(n->input);
    qd_tensor_free(n->output);
    for (int i = 0; i < n->n_constants; i++)
        qd_tensor_free(n->constants[i]);
    for (int i = 0; i < n->n_blobs; i++)
        free(n->blobs[i]);
}
