/* Fusion: each pair of operators becomes one, with the same bytes, and stays two where anything else could tell. */
#include "qdot/qdot_backend.h"
#include "unit/graph_bed.h"

/* What is done to the tensor between the two, or to what the first one reads. */
typedef enum situation {
    PLAIN,
    OUTSIDE,     /* it is a tensor outside the graph */
    VIEWED,      /* there is a view of it */
    READ_BEFORE, /* another operator reads it, */
    READ_AFTER,  /* before or after the second one */
    WRITTEN,     /* it is written again, as before */
    REPLACED,    /* what the first one reads is written anew before the second one runs */
    SITUATIONS
} situation;

typedef struct pair {
    graph_bed bed;
    situation in;
    qd_tensor *link;
    qd_node again; /* the first one's operator, attributes and inputs */
    int n_in;
} pair;

enum { R = 4, N = 8, K = 32, SIZE = 5 };

static qd_tensor *copy_out(pair *p, qd_tensor *t) {
    qd_tensor *y = bed_output(&p->bed, *qd_tensor_describe(t));
    bed_add(&p->bed, QD_OP_COPY, NULL, &t, 1, y);
    return y;
}

/* The first of two: `x`, among `in`, is a tensor outside the graph. The result is what the second one reads. */
static qd_tensor *first(pair *p, qd_op op, const qd_attrs *a, qd_tensor *const in[], int n_in, qd_tensor *x,
                        qd_tensor_desc d) {
    p->again.op = op;
    if (a) p->again.attrs = *a;
    p->n_in = n_in;
    memcpy(p->again.in, in, (size_t)n_in * sizeof *in);
    p->link = p->in == OUTSIDE ? bed_output(&p->bed, d) : bed_inside(&p->bed, d);
    qd_tensor *view;
    if (p->in == VIEWED) ck_ok(qd_graph_reshape(p->bed.g, p->link, &d, &view));
    bed_add(&p->bed, op, a, in, n_in, p->link);
    if (p->in == READ_BEFORE) copy_out(p, p->link);
    if (p->in == REPLACED) {
        qd_tensor *other = bed_input(&p->bed, *qd_tensor_describe(x));
        bed_add(&p->bed, QD_OP_COPY, NULL, &other, 1, x);
    }
    return p->link;
}

static void second(pair *p, qd_op op, const qd_attrs *a, qd_tensor *const in[], int n_in, qd_tensor_desc d) {
    bed_add(&p->bed, op, a, in, n_in, bed_output(&p->bed, d));
    if (p->in == READ_AFTER) copy_out(p, p->link);
    if (p->in == WRITTEN) bed_add(&p->bed, p->again.op, &p->again.attrs, p->again.in, p->n_in, p->link);
}

#define IN(...) (qd_tensor *[]){__VA_ARGS__}, (int)(sizeof((qd_tensor *[]){__VA_ARGS__}) / sizeof(qd_tensor *))

static qd_tensor_desc i8(int64_t rows, int64_t cols) {
    return qd_desc(QD_FORMAT_I8, rows, cols, 0, 0);
}

static qd_tensor_desc f32(int64_t rows, int64_t cols) {
    return qd_desc(QD_FORMAT_F32, rows, cols, 0, 0);
}

static qd_tensor_desc image(qd_format f, int64_t h, int64_t w, int64_t c) {
    return qd_desc(f, 2, h, w, c);
}

/* y = max(x, low), in codes. */
static qd_tensor *relu_table(pair *p, int low, int odd) {
    int8_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = (int8_t)(i - 128 < low ? low : i - 128);
    table[200] = (int8_t)(table[200] + odd); /* not quite */
    return bed_constant(&p->bed, qd_desc(QD_FORMAT_I8, 256, 0, 0, 0), table);
}

static qd_tensor *zero_of(pair *p, int32_t zero) {
    return bed_constant(&p->bed, qd_desc(QD_FORMAT_I32, 1, 0, 0, 0), &zero);
}

static const qd_requant end = {.rounding = QD_ROUND_GEMMLOWP, .zero_point = -7, .min = -100, .max = 90};

/* ---- Pairs -------------------------------------------------------------------------------------------------- */

static qd_tensor *product(pair *p, bool bias) {
    qd_tensor *x = bed_input(&p->bed, i8(R, K)), *w = bed_weights(&p->bed, i8(N, K));
    qd_tensor *b = bias ? bed_weights(&p->bed, qd_desc(QD_FORMAT_I32, N, 0, 0, 0)) : NULL;
    const qd_attrs a = {.matmul_int = {.wide = false}};
    return first(p, QD_OP_MATMUL_INT, &a, IN(w, x, NULL, NULL, b), x, qd_desc(QD_FORMAT_I32, R, N, 0, 0));
}

static void matmul_requantize(pair *p) {
    qd_tensor *sum = product(p, true), *requant = bed_requant(&p->bed, end.rounding, N, 20000);
    second(p, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.y = end}}, IN(sum, requant), i8(R, N));
}

static qd_tensor *convolution(pair *p, bool nchw, int64_t channels) {
    const qd_window window = {.before = {1, 1}, .after = {1, 1}, .nchw = nchw};
    const qd_tensor_desc d = nchw ? image(QD_FORMAT_I32, channels, SIZE, SIZE) : image(QD_FORMAT_I32, SIZE, SIZE, N);
    qd_tensor *x = bed_input(&p->bed, nchw ? image(QD_FORMAT_I8, 3, SIZE, SIZE) : image(QD_FORMAT_I8, SIZE, SIZE, 3));
    qd_tensor *w =
        bed_weights(&p->bed, nchw ? qd_desc(QD_FORMAT_I8, channels, 3, 3, 3) : qd_desc(QD_FORMAT_I8, N, 3, 3, 3));
    return first(p, QD_OP_CONV_INT, &(qd_attrs){.conv_int = {.window = window}}, IN(w, x, NULL, zero_of(p, 3)), x, d);
}

static void conv_requantize(pair *p) {
    qd_tensor *sum = convolution(p, false, N), *requant = bed_requant(&p->bed, end.rounding, N, 20000);
    second(p, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.y = end}}, IN(sum, requant),
           image(QD_FORMAT_I8, SIZE, SIZE, N));
}

static void conv_requantize_nchw(pair *p) {
    qd_tensor *sum = convolution(p, true, N), *requant = bed_requant(&p->bed, end.rounding, 1, 20000);
    second(p, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.y = end}}, IN(sum, requant),
           image(QD_FORMAT_I8, N, SIZE, SIZE));
}

static qd_tensor *requantized(pair *p) {
    qd_tensor *x = bed_input(&p->bed, qd_desc(QD_FORMAT_I32, R, N, 0, 0));
    qd_tensor *requant = bed_requant(&p->bed, end.rounding, N, 3000);
    return first(p, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.y = end}}, IN(x, requant), x, i8(R, N));
}

static void requantize_table(pair *p) {
    qd_tensor *codes = requantized(p);
    second(p, QD_OP_TABLE, NULL, IN(codes, relu_table(p, -7, 0)), i8(R, N));
}

static void matmul_table(pair *p) {
    qd_tensor *x = bed_input(&p->bed, i8(R, K)), *w = bed_weights(&p->bed, i8(N, K));
    qd_tensor *requant = bed_requant(&p->bed, end.rounding, 1, 20000);
    qd_tensor *codes = first(p, QD_OP_MATMUL_INT, &(qd_attrs){.matmul_int = {.y = end}},
                             IN(w, x, NULL, NULL, NULL, requant), x, i8(R, N));
    second(p, QD_OP_TABLE, NULL, IN(codes, relu_table(p, 5, 0)), i8(R, N));
}

static qd_tensor *sum_of_codes(pair *p, qd_op op) {
    const qd_attrs a = {
        .binary = {.a = {0.03f, 2}, .b = {0.05f, -3}, .y = {op == QD_OP_ADD_INT ? 0.07f : 0.2f, 4}, .rounding = 0}};
    qd_tensor *x = bed_input(&p->bed, i8(R, N)), *z = bed_input(&p->bed, i8(R, N));
    return first(p, op, &a, IN(x, z), x, i8(R, N));
}

static void add_table(pair *p) {
    qd_tensor *sum = sum_of_codes(p, QD_OP_ADD_INT);
    second(p, QD_OP_TABLE, NULL, IN(sum, relu_table(p, 4, 0)), i8(R, N));
}

static qd_tensor_desc result_of(qd_format format, bool nchw, int64_t lines) {
    return nchw ? image(format, N, lines, SIZE) : image(format, lines, SIZE, N);
}

/* A convolution, and a residual that is a or b of the sum. */
static void residual(pair *p, bool nchw, int conv_at, int64_t lines, qd_format format) {
    qd_tensor *x = bed_input(&p->bed, nchw ? image(QD_FORMAT_I8, 3, SIZE, SIZE) : image(QD_FORMAT_I8, SIZE, SIZE, 3));
    qd_tensor *w = bed_weights(&p->bed, qd_desc(QD_FORMAT_I8, N, 3, 3, 3)), *in[2];
    const qd_window window = {.before = {1, 1}, .after = {1, 1}, .nchw = nchw};
    const qd_attrs conv = {.conv_int = {.window = window, .y = end}};
    const qd_attrs sum = {.binary = {.a = {0.03f, 2},
                                     .b = {0.05f, -3},
                                     .y = {0.07f, 4},
                                     .rounding = QD_ROUND_FLOAT,
                                     .zero_first = true,
                                     .max = 90}};
    qd_tensor *requant = bed_requant(&p->bed, end.rounding, N, 20000);
    in[!conv_at] = bed_input(&p->bed, result_of(QD_FORMAT_I8, nchw, lines));
    in[conv_at] =
        first(p, QD_OP_CONV_INT, &conv, IN(w, x, NULL, NULL, NULL, requant), x, result_of(QD_FORMAT_I8, nchw, SIZE));
    second(p, QD_OP_ADD_INT, &sum, in, 2, result_of(format, nchw, SIZE));
}

static void conv_residual(pair *p) {
    residual(p, false, 0, SIZE, QD_FORMAT_I8);
}

static void conv_residual_nchw(pair *p) {
    residual(p, true, 0, SIZE, QD_FORMAT_I8);
}

static void residual_conv(pair *p) {
    residual(p, false, 1, SIZE, QD_FORMAT_I8);
}

static void residual_repeated(pair *p) {
    residual(p, false, 0, 1, QD_FORMAT_I8);
}

static void residual_to_u8(pair *p) {
    residual(p, false, 0, SIZE, QD_FORMAT_U8);
}

/* A change of scale by 1 with limits, as a clip is sometimes written down. */
static void mul_requantize(pair *p) {
    const float one = 1;
    int32_t row[2];
    ck_ok(qd_requantize_table(QD_ROUND_FIXED, 1, &one, 1, 1, row));
    qd_tensor *codes = sum_of_codes(p, QD_OP_MUL_INT);
    qd_tensor *requant = bed_constant(&p->bed, qd_desc(QD_FORMAT_I32, 1, 2, 0, 0), row);
    const qd_attrs clip = {.requantize = {.x_zero = 4, .y = {QD_ROUND_FIXED, 4, -20, 33}}};
    second(p, QD_OP_REQUANTIZE, &clip, IN(codes, requant), i8(R, N));
}

static void pool_table(pair *p) {
    qd_tensor *x = bed_input(&p->bed, image(QD_FORMAT_I8, SIZE, SIZE, N));
    const qd_attrs a = {.pool = {.window = {.kernel = {2, 2}}, .x = {1, 0}, .y = {1, 0}}};
    qd_tensor *largest = first(p, QD_OP_POOL, &a, IN(x), x, image(QD_FORMAT_I8, SIZE - 1, SIZE - 1, N));
    second(p, QD_OP_TABLE, NULL, IN(largest, relu_table(p, 60, 0)), image(QD_FORMAT_I8, SIZE - 1, SIZE - 1, N));
}

static void quantize_table(pair *p) {
    const float scale = 0.01f;
    qd_tensor *x = bed_input(&p->bed, f32(R, N));
    qd_tensor *s = bed_constant(&p->bed, qd_desc(QD_FORMAT_F32, 1, 0, 0, 0), &scale);
    qd_tensor *codes =
        first(p, QD_OP_QUANTIZE_LINEAR, &(qd_attrs){.quantize_linear = {.axis = 0}}, IN(x, s), x, i8(R, N));
    second(p, QD_OP_TABLE, NULL, IN(codes, relu_table(p, 0, 0)), i8(R, N));
}

/* Rank 4 is padded above and below by different numbers; one line has no height. */
static void padded(pair *p, bool flat, bool nchw, qd_pad_mode mode, int value, int zero, int channels_more) {
    const qd_tensor_desc dx = flat ? qd_desc(QD_FORMAT_I8, 2, SIZE, 3, 0) : image(QD_FORMAT_I8, SIZE, SIZE, SIZE);
    const int w = flat ? 1 : nchw ? 3 : 2, channel = flat ? 2 : nchw ? 1 : 3;
    qd_attrs pad = {.pad = {.mode = mode, .value = value}};
    qd_tensor_desc dp = dx;
    pad.pad.before[w] = 2;
    pad.pad.after[w] = 1;
    if (!flat) pad.pad.before[w - 1] = 1;
    pad.pad.after[channel] = channels_more;
    for (int i = 0; i < dx.rank; i++)
        dp.shape[i] += pad.pad.before[i] + pad.pad.after[i];
    const int64_t c = dp.shape[channel];
    qd_tensor *x = bed_input(&p->bed, dx);
    qd_tensor *weights = bed_weights(&p->bed, flat   ? qd_desc(QD_FORMAT_I8, N, 3, c, 0)
                                              : nchw ? qd_desc(QD_FORMAT_I8, N, c, 3, 3)
                                                     : qd_desc(QD_FORMAT_I8, N, 3, 3, c));
    qd_tensor *wide = first(p, QD_OP_PAD, &pad, IN(x), x, dp), *x_zero = zero ? zero_of(p, zero) : NULL;
    const qd_window window = {.before = {1, 0}, .after = {0, 1}, .stride = {2, 1}, .nchw = nchw};
    qd_tensor_desc dy = dp;
    dy.format = QD_FORMAT_I32;
    dy.shape[channel] = N;
    dy.shape[w] = dp.shape[w] + 1 - 3 + 1;
    if (!flat) dy.shape[w - 1] = (dp.shape[w - 1] + 1 - 3) / 2 + 1;
    second(p, QD_OP_CONV_INT, &(qd_attrs){.conv_int = {.window = window}}, IN(weights, wide, NULL, x_zero), dy);
}

static void pad_conv(pair *p) {
    padded(p, false, false, QD_PAD_CONSTANT, 9, 9, 0);
}

static void pad_conv_nchw(pair *p) {
    padded(p, false, true, QD_PAD_CONSTANT, 0, 0, 0);
}

static void pad_conv_flat(pair *p) {
    padded(p, true, false, QD_PAD_CONSTANT, 127, 300, 0); /* no code: counts as the nearest */
}

static qd_tensor *float_product(pair *p, qd_tensor *addend) {
    qd_tensor *x = bed_input(&p->bed, f32(R, K)), *w = bed_weights(&p->bed, f32(N, K));
    return first(p, QD_OP_MATMUL, NULL, IN(w, x, addend), x, f32(R, N));
}

static void matmul_add(pair *p) {
    qd_tensor *y = float_product(p, NULL), *other = bed_input(&p->bed, f32(R, N));
    second(p, QD_OP_ADD, NULL, IN(y, other), f32(R, N));
}

static void add_matmul(pair *p) {
    qd_tensor *y = float_product(p, NULL), *other = bed_input(&p->bed, f32(R, N));
    second(p, QD_OP_ADD, NULL, IN(other, y), f32(R, N));
}

static qd_tensor *group_product(pair *p, bool biased) {
    qd_tensor *x = bed_input(&p->bed, f32(R, K)), *w = bed_weights(&p->bed, qd_desc(QD_FORMAT_U4, N, K, 0, 0));
    qd_tensor *scale = bed_weights(&p->bed, f32(N, 2));
    qd_tensor *bias = biased ? bed_weights(&p->bed, qd_desc(QD_FORMAT_F32, N, 0, 0, 0)) : NULL;
    return first(p, QD_OP_MATMUL_GROUP, &(qd_attrs){.matmul_group = {.group = 16}},
                 IN(w, scale, x, NULL, NULL, NULL, bias), x, f32(R, N));
}

static const qd_attrs plus = {.elementwise = {.scale = 1, .combine = QD_COMBINE_ADD}};

static void group_bias(pair *p) {
    qd_tensor *y = group_product(p, false), *bias = bed_weights(&p->bed, qd_desc(QD_FORMAT_F32, N, 0, 0, 0));
    second(p, QD_OP_ELEMENTWISE, &plus, IN(y, bias), f32(R, N));
}

static void bias_group(pair *p) {
    qd_tensor *y = group_product(p, false), *bias = bed_weights(&p->bed, qd_desc(QD_FORMAT_F32, N, 0, 0, 0));
    second(p, QD_OP_ELEMENTWISE, &plus, IN(bias, y), f32(R, N));
}

/* Of weights in a coding; `rows` of the addend, 0: a bias. */
static void coded(pair *p, qd_op then, int64_t rows) {
    qd_attrs a = {.coded = {.cols = K}};
    float values[N * K], side[64];
    ck_ok(qd_coding_parse("int4", &a.coded.coding));
    random_floats(&p->bed.rng, values, N * K);
    const int64_t bytes = (int64_t)qd_coding_row_bytes(&a.coded.coding, K);
    const int64_t floats = qd_coding_side_count(&a.coded.coding, N, K);
    ck_assert_int_le(floats, 64);
    void *rows_of_w = bed_bytes(&p->bed, (size_t)(N * bytes));
    ck_ok(qd_coding_quantize(&a.coded.coding, values, N, K, NULL, rows_of_w, side));
    qd_tensor *x = bed_input(&p->bed, f32(R, K));
    qd_tensor *w = bed_constant(&p->bed, qd_desc(QD_FORMAT_U8, N, bytes, 0, 0), rows_of_w);
    qd_tensor *s = bed_constant(&p->bed, qd_desc(QD_FORMAT_F32, floats, 0, 0, 0), side);
    qd_tensor *y = first(p, QD_OP_MATMUL_CODED, &a, IN(w, s, x), x, f32(R, N));
    qd_tensor *addend = bed_input(&p->bed, rows ? f32(rows, N) : qd_desc(QD_FORMAT_F32, N, 0, 0, 0));
    second(p, then, &plus, IN(y, addend), f32(R, N));
}

static void coded_bias(pair *p) {
    coded(p, QD_OP_ELEMENTWISE, 0);
}

static void coded_addend(pair *p) {
    coded(p, QD_OP_ELEMENTWISE, R);
}

/* An operator on rows whose result is quantized. */
#define QUANTIZED(name, op, other)                                                             \
    static void name(pair *p) {                                                                \
        qd_tensor *x = bed_input(&p->bed, f32(R, K)), *b = bed_input(&p->bed, other);          \
        qd_tensor *y = first(p, op, &(qd_attrs){.rms_norm = {1e-5f}}, IN(x, b), x, f32(R, K)); \
        second(p, QD_OP_QUANTIZE, NULL, IN(y), qd_desc(QD_FORMAT_A8, R, K, 0, 0));             \
    }
QUANTIZED(rms_quantize, QD_OP_RMS_NORM, qd_desc(QD_FORMAT_F32, K, 0, 0, 0))
QUANTIZED(layer_quantize, QD_OP_LAYER_NORM, qd_desc(QD_FORMAT_F32, K, 0, 0, 0))
QUANTIZED(swiglu_quantize, QD_OP_SWIGLU, f32(R, K))

static void attention_quantize(pair *p) {
    qd_tensor *q = bed_input(&p->bed, f32(R, 64));
    qd_tensor *k = bed_input(&p->bed, qd_desc(QD_FORMAT_F32, 1, 16, 32, 0));
    qd_tensor *v = bed_input(&p->bed, qd_desc(QD_FORMAT_F32, 1, 16, 32, 0)), *position = zero_of(p, 5);
    const qd_attrs a = {.attention = {.heads = 2, .kv_heads = 1, .head_dim = 32, .scale = 0.2f}};
    qd_tensor *y = first(p, QD_OP_ATTENTION, &a, IN(q, k, v, position), q, f32(R, 64));
    second(p, QD_OP_QUANTIZE, NULL, IN(y), qd_desc(QD_FORMAT_A8, R, 64, 0, 0));
}

#define PAIR(name, rule) \
    { #name, rule, name }
static const struct {
    const char *name, *rule; /* as the log has it */
    void (*make)(pair *p);
} pairs[] = {
    PAIR(matmul_requantize, "requantize"),
    PAIR(conv_requantize, "requantize"),
    PAIR(conv_requantize_nchw, "requantize"),
    PAIR(requantize_table, "limits"),
    PAIR(matmul_table, "limits"),
    PAIR(add_table, "limits"),
    PAIR(mul_requantize, "limits"),
    PAIR(pool_table, "limits"),
    PAIR(quantize_table, "limits"),
    PAIR(conv_residual, "residual"),
    PAIR(conv_residual_nchw, "residual"),
    PAIR(residual_conv, "residual"),
    PAIR(pad_conv, "padding"),
    PAIR(pad_conv_nchw, "padding"),
    PAIR(pad_conv_flat, "padding"),
    PAIR(matmul_add, "addend"),
    PAIR(add_matmul, "addend"),
    PAIR(group_bias, "bias"),
    PAIR(bias_group, "bias"),
    PAIR(coded_bias, "bias"),
    PAIR(coded_addend, "bias"),
    PAIR(rms_quantize, "quantize"),
    PAIR(layer_quantize, "quantize"),
    PAIR(swiglu_quantize, "quantize"),
    PAIR(attention_quantize, "quantize"),
};
enum { PAIRS = sizeof pairs / sizeof pairs[0] };

static qd_graph_info make_pair(pair *p, qd_context *c, void (*make)(pair *p), situation in) {
    memset(p, 0, sizeof *p);
    bed_open(&p->bed, c, R, 11);
    p->in = in;
    make(p);
    return bed_run(&p->bed, R);
}

/* On a device, fused and not: `fused` operators less, and the same bytes. */
static void check_pair(int device, void (*make)(pair *p), situation in, int fused, const char *name, const char *rule) {
    log_text log = {.used = 0};
    const qd_context_options on = {.log = collect_log, .log_user = &log}, off = {.no_fuse = true};
    qd_context *with = open_device(device, &on), *without = open_device(device, &off);
    if (!with) return;
    pair a, b;
    char what[80];
    const qd_graph_info got = make_pair(&a, with, make, in), want = make_pair(&b, without, make, in);
    snprintf(what, sizeof what, "%s in situation %d", name, (int)in);
    ck_assert_int_eq(want.fused, 0);
    ck_assert_msg(got.fused == fused, "%s: %d operators fused", what, got.fused);
    ck_assert_int_eq(got.ops + got.fused - got.copies, want.ops);
    ck_assert_msg(got.fallbacks == 0, "%s: on the reference", what);
    if (fused) ck_assert_msg(strstr(log.text, rule) != NULL, "%s is not \"%s\": %s", what, rule, log.text);
    bed_compare(&a.bed, &b.bed, what);
    bed_close(&a.bed);
    bed_close(&b.bed);
    qd_context_free(with);
    qd_context_free(without);
}

START_TEST(test_pairs) {
    for (int in = PLAIN; in < SITUATIONS; in++)
        check_pair(_i % 2, pairs[_i / 2].make, (situation)in, in == PLAIN, pairs[_i / 2].name, pairs[_i / 2].rule);
}
END_TEST

/* The sum gets channels last as the convolution does: copies of x, the residual and y. */
START_TEST(test_residual_last) {
    qd_context *c = open_device(1, NULL);
    if (!c) return;
    pair p;
    const qd_graph_info info = make_pair(&p, c, conv_residual_nchw, PLAIN);
    ck_assert_int_eq(info.copies, strstr(qd_context_device(c)->features, "x86-avx2") ? 3 : 0);
    bed_close(&p.bed);
    qd_context_free(c);
}
END_TEST

/* ---- Pairs that are not one operator ------------------------------------------------------------------------ */

static void requantize_with_zero(pair *p) {
    qd_tensor *sum = product(p, false), *requant = bed_requant(&p->bed, end.rounding, N, 20000);
    second(p, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.x_zero = 1, .y = end}}, IN(sum, requant), i8(R, N));
}

static void requantize_to_i16(pair *p) {
    const qd_requant y = {.rounding = QD_ROUND_FIXED};
    qd_tensor *sum = product(p, false), *requant = bed_requant(&p->bed, y.rounding, N, 20000);
    second(p, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.y = y}}, IN(sum, requant),
           qd_desc(QD_FORMAT_I16, R, N, 0, 0));
}

static void requantize_twice(pair *p) {
    qd_tensor *x = bed_input(&p->bed, i8(R, K)), *w = bed_weights(&p->bed, i8(N, K));
    qd_tensor *once = bed_requant(&p->bed, QD_ROUND_FIXED, N, 2000),
              *twice = bed_requant(&p->bed, end.rounding, N, 900);
    qd_tensor *sum = first(p, QD_OP_MATMUL_INT, &(qd_attrs){.matmul_int = {.wide = false}},
                           IN(w, x, NULL, NULL, NULL, once), x, qd_desc(QD_FORMAT_I32, R, N, 0, 0));
    second(p, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.y = end}}, IN(sum, twice), i8(R, N));
}

/* As many channels as columns: a row for each column, which no shape gives away. */
static void requantize_columns(pair *p) {
    qd_tensor *sum = convolution(p, true, SIZE), *requant = bed_requant(&p->bed, end.rounding, SIZE, 20000);
    second(p, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.y = end}}, IN(sum, requant),
           image(QD_FORMAT_I8, SIZE, SIZE, SIZE));
}

static void table_not_limits(pair *p) {
    qd_tensor *codes = requantized(p);
    second(p, QD_OP_TABLE, NULL, IN(codes, relu_table(p, -7, 1)), i8(R, N));
}

static void table_computed(pair *p) {
    qd_tensor *codes = requantized(p), *table = bed_input(&p->bed, qd_desc(QD_FORMAT_I8, 256, 0, 0, 0));
    second(p, QD_OP_TABLE, NULL, IN(codes, table), i8(R, N));
}

/* The least code of u8 is no limit of i8's; and a zero point of i8 may be none of u8. */
static void table_of_other_format(pair *p) {
    const float scale = 0.01f;
    uint8_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = (uint8_t)(i < 128 ? 0 : i - 128);
    qd_tensor *x = bed_input(&p->bed, f32(R, N)), *zero = zero_of(p, -5);
    qd_tensor *s = bed_constant(&p->bed, qd_desc(QD_FORMAT_F32, 1, 0, 0, 0), &scale);
    const qd_attrs a = {.quantize_linear = {.axis = 0}};
    qd_tensor *codes = first(p, QD_OP_QUANTIZE_LINEAR, &a, IN(x, s, zero), x, i8(R, N));
    qd_tensor *t = bed_constant(&p->bed, qd_desc(QD_FORMAT_U8, 256, 0, 0, 0), table);
    second(p, QD_OP_TABLE, NULL, IN(codes, t), qd_desc(QD_FORMAT_U8, R, N, 0, 0));
}

/* All codes become 0: limits of 0 and 0 would be none. */
static void limits_of_zero(pair *p) {
    int8_t zeros[256] = {0};
    qd_tensor *codes = requantized(p), *t = bed_constant(&p->bed, qd_desc(QD_FORMAT_I8, 256, 0, 0, 0), zeros);
    second(p, QD_OP_TABLE, NULL, IN(codes, t), i8(R, N));
}

static void table_of_sums(pair *p) { /* nothing that has limits */
    qd_tensor *x = bed_input(&p->bed, i8(R, N));
    qd_tensor *codes = first(p, QD_OP_TABLE, NULL, IN(x, relu_table(p, 3, 1)), x, i8(R, N));
    second(p, QD_OP_TABLE, NULL, IN(codes, relu_table(p, 5, 0)), i8(R, N));
}

/* The first column alone keeps its codes. */
static void requantize_each_column(pair *p) {
    float scale[N] = {1};
    int32_t table[2 * N];
    for (int i = 1; i < N; i++)
        scale[i] = 0.5f;
    ck_ok(qd_requantize_table(QD_ROUND_FIXED, 1, scale, N, 1, table));
    qd_tensor *codes = requantized(p), *requant = bed_constant(&p->bed, qd_desc(QD_FORMAT_I32, N, 2, 0, 0), table);
    const qd_attrs a = {.requantize = {.y = {.rounding = QD_ROUND_FIXED}}};
    second(p, QD_OP_REQUANTIZE, &a, IN(codes, requant), i8(R, N));
}

static void pad_other_code(pair *p) {
    padded(p, false, false, QD_PAD_CONSTANT, 9, 8, 0);
}

static void pad_edge(pair *p) {
    padded(p, false, true, QD_PAD_EDGE, 0, 0, 0);
}

static void pad_channels(pair *p) {
    padded(p, false, false, QD_PAD_CONSTANT, 9, 9, 2);
}

static void pad_channels_nchw(pair *p) {
    padded(p, false, true, QD_PAD_CONSTANT, 9, 9, 2);
}

static void pad_channels_flat(pair *p) {
    padded(p, true, false, QD_PAD_CONSTANT, 9, 9, 1);
}

static void addend_there(pair *p) {
    qd_tensor *y = float_product(p, bed_input(&p->bed, f32(R, N))), *other = bed_input(&p->bed, f32(R, N));
    second(p, QD_OP_ADD, NULL, IN(y, other), f32(R, N));
}

static void twice_itself(pair *p) {
    qd_tensor *y = float_product(p, NULL);
    second(p, QD_OP_ADD, NULL, IN(y, y), f32(R, N));
}

/* MATMUL passes on any NaN, ELEMENTWISE has one only. */
static void matmul_elementwise(pair *p) {
    qd_tensor *y = float_product(p, NULL), *other = bed_input(&p->bed, f32(R, N));
    second(p, QD_OP_ELEMENTWISE, &plus, IN(y, other), f32(R, N));
}

static void coded_add(pair *p) { /* the other way round */
    coded(p, QD_OP_ADD, R);
}

static void bias_there(pair *p) {
    qd_tensor *y = group_product(p, true), *bias = bed_weights(&p->bed, qd_desc(QD_FORMAT_F32, N, 0, 0, 0));
    second(p, QD_OP_ELEMENTWISE, &plus, IN(y, bias), f32(R, N));
}

static void not_plus(pair *p, qd_attrs a) {
    qd_tensor *y = group_product(p, false), *bias = bed_weights(&p->bed, qd_desc(QD_FORMAT_F32, N, 0, 0, 0));
    second(p, QD_OP_ELEMENTWISE, &a, IN(y, bias), f32(R, N));
}

static void group_minus(pair *p) {
    not_plus(p, (qd_attrs){.elementwise = {.scale = 1, .combine = QD_COMBINE_SUB}});
}

static void group_scaled(pair *p) {
    not_plus(p, (qd_attrs){.elementwise = {.scale = 2, .combine = QD_COMBINE_ADD}});
}

static void group_offset(pair *p) {
    not_plus(p, (qd_attrs){.elementwise = {.scale = 1, .offset = 1, .combine = QD_COMBINE_ADD}});
}

static void group_relu(pair *p) {
    not_plus(p, (qd_attrs){.elementwise = {.function = QD_UNARY_RELU, .scale = 1, .combine = QD_COMBINE_ADD}});
}

static void group_repeated(pair *p) { /* a bias for every other channel */
    qd_tensor *y = group_product(p, false), *bias = bed_weights(&p->bed, qd_desc(QD_FORMAT_F32, N / 2, 0, 0, 0));
    second(p, QD_OP_ELEMENTWISE, &plus, IN(y, bias), f32(R, N));
}

static void group_alone(pair *p) {
    qd_tensor *y = group_product(p, false);
    second(p, QD_OP_ELEMENTWISE, &plus, IN(y), f32(R, N));
}

/* The sum takes the place of the addend, where a product cannot. */
static void add_in_place(pair *p) {
    qd_tensor *y = float_product(p, NULL), *other = bed_output(&p->bed, f32(R, N));
    bed_add(&p->bed, QD_OP_ADD, NULL, IN(y, other), other);
}

#define APART(name) \
    { #name, name }
static const struct {
    const char *name;
    void (*make)(pair *p);
} apart[] = {
    APART(residual_repeated),
    APART(residual_to_u8),
    APART(requantize_with_zero),
    APART(requantize_to_i16),
    APART(requantize_twice),
    APART(requantize_columns),
    APART(table_not_limits),
    APART(table_computed),
    APART(limits_of_zero),
    APART(table_of_other_format),
    APART(table_of_sums),
    APART(requantize_each_column),
    APART(pad_other_code),
    APART(pad_edge),
    APART(pad_channels),
    APART(pad_channels_nchw),
    APART(pad_channels_flat),
    APART(addend_there),
    APART(twice_itself),
    APART(matmul_elementwise),
    APART(coded_add),
    APART(group_minus),
    APART(group_scaled),
    APART(group_offset),
    APART(group_relu),
    APART(group_repeated),
    APART(group_alone),
    APART(add_in_place),
    APART(bias_there),
};
enum { APARTS = sizeof apart / sizeof apart[0] };

START_TEST(test_apart) {
    check_pair(_i % 2, apart[_i / 2].make, PLAIN, 0, apart[_i / 2].name, "");
}
END_TEST

/* Rows of the run that the first one leaves alone, and the second one reads: two different numbers of rows. */
START_TEST(test_rows) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    graph_bed b;
    bed_open(&b, c, R, 3);
    qd_tensor *rows = bed_inside(&b, f32(QD_ROWS, K)), *x = bed_input(&b, f32(R, K)), *all = bed_inside(&b, f32(R, K));
    bed_add(&b, QD_OP_ADD, NULL, IN(x, x), rows);
    bed_add(&b, QD_OP_SWIGLU, NULL, IN(rows, rows), all);
    bed_add(&b, QD_OP_QUANTIZE, NULL, IN(all), bed_output(&b, qd_desc(QD_FORMAT_A8, R, K, 0, 0)));
    ck_assert_int_eq(bed_run(&b, 1).fused, 0);
    bed_close(&b);
    qd_context_free(c);
}
END_TEST

/* A chain of five becomes one, whatever stands between its operators. */
START_TEST(test_chain) {
    graph_bed beds[2];
    const qd_context_options off = {.no_fuse = true};
    qd_context *c[2] = {open_device(_i, NULL), open_device(_i, &off)};
    if (!c[0]) return;
    for (int i = 0; i < 2; i++) {
        graph_bed *b = &beds[i];
        pair p = {.in = PLAIN};
        bed_open(&p.bed, c[i], R, 5);
        qd_tensor *x = bed_input(&p.bed, image(QD_FORMAT_I8, SIZE, SIZE, 3)), *t[4];
        qd_tensor *w = bed_weights(&p.bed, qd_desc(QD_FORMAT_I8, N, 3, 3, 3)), *zero = zero_of(&p, -4);
        qd_tensor *requant = bed_requant(&p.bed, QD_ROUND_FIXED, N, 20000), *low = relu_table(&p, -4, 0);
        qd_tensor *high = relu_table(&p, 20, 0), *aside = bed_input(&p.bed, f32(R, K));
        t[0] = bed_inside(&p.bed, image(QD_FORMAT_I8, SIZE + 2, SIZE + 2, 3));
        t[1] = bed_inside(&p.bed, image(QD_FORMAT_I32, SIZE, SIZE, N));
        t[2] = bed_inside(&p.bed, image(QD_FORMAT_I8, SIZE, SIZE, N));
        t[3] = bed_inside(&p.bed, image(QD_FORMAT_I8, SIZE, SIZE, N));
        const qd_requant y = {.rounding = QD_ROUND_FIXED, .zero_point = -4};
        bed_add(&p.bed, QD_OP_PAD, &(qd_attrs){.pad = {.value = -4, .before = {0, 1, 1}, .after = {0, 1, 1}}}, IN(x),
                t[0]);
        bed_add(&p.bed, QD_OP_CONV_INT, &(qd_attrs){.conv_int = {.groups = 1}}, IN(w, t[0], NULL, zero), t[1]);
        bed_add(&p.bed, QD_OP_ADD, NULL, IN(aside, aside), bed_output(&p.bed, f32(R, K)));
        bed_add(&p.bed, QD_OP_REQUANTIZE, &(qd_attrs){.requantize = {.y = y}}, IN(t[1], requant), t[2]);
        bed_add(&p.bed, QD_OP_ADD, NULL, IN(aside, aside), bed_output(&p.bed, f32(R, K)));
        bed_add(&p.bed, QD_OP_TABLE, NULL, IN(t[2], low), t[3]);
        bed_add(&p.bed, QD_OP_TABLE, NULL, IN(t[3], high), bed_output(&p.bed, image(QD_FORMAT_I8, SIZE, SIZE, N)));
        const qd_graph_info info = bed_run(&p.bed, R);
        ck_assert_int_eq(info.fused, i ? 0 : 4);
        ck_assert_int_eq(info.ops, i ? 7 : 3);
        if (!i) ck_assert_uint_eq(info.arena_bytes, 0); /* nothing is left between them */
        *b = p.bed;
    }
    bed_compare(&beds[0], &beds[1], "a chain");
    for (int i = 0; i < 2; i++) {
        bed_close(&beds[i]);
        qd_context_free(c[i]);
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("fuse");
    tcase_add_loop_test(tc, test_pairs, 0, 2 * PAIRS);
    tcase_add_test(tc, test_residual_last);
    tcase_add_loop_test(tc, test_apart, 0, 2 * APARTS);
    tcase_add_loop_test(tc, test_rows, 0, 2);
    tcase_add_loop_test(tc, test_chain, 0, TEST_DEVICES);
    return run_tests(tc, "fuse");
}
