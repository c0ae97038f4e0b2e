/* Random graphs of the operators that fusion knows, with all that forbids it: fused or not, on any device, the same
 * bytes as the reference without fusion. Every other graph has images with channels first, which some devices change.
 */
#include "unit/graph_bed.h"

/* Images as wide and high as they have channels: dimensions that change places by mistake make other bytes, no refusal.
 */
enum { ROWS = 3, COLS = 32, SIDE = 4, CHANNELS = 4, STEPS = 14, VALUES = 48, GRAPHS = 120 };

/* What operators may read: codes as rows or as images, floats as rows. Those of a kind have one shape. */
typedef enum kind { CODES, IMAGE, FLOATS, KINDS } kind;

typedef struct random_graph {
    graph_bed bed;
    bool nchw;
    qd_tensor *value[KINDS][VALUES];
    int count[KINDS];
} random_graph;

static const qd_tensor_desc shapes[KINDS] = {
    {QD_FORMAT_I8, 2, {ROWS, COLS}}, {QD_FORMAT_I8, 4, {2, SIDE, SIDE, CHANNELS}}, {QD_FORMAT_F32, 2, {ROWS, COLS}}};

/* An image with channels last, as this graph has it. */
static qd_tensor_desc image(const random_graph *x, qd_tensor_desc d) {
    return x->nchw ? qd_desc(d.format, d.shape[0], d.shape[3], d.shape[1], d.shape[2]) : d;
}

static qd_tensor_desc shape(const random_graph *x, kind k) {
    return k == IMAGE ? image(x, shapes[k]) : shapes[k];
}

static int64_t pick(random_graph *x, int64_t low, int64_t high) {
    return random_between(&x->bed.rng, low, high);
}

static qd_tensor *any_value(random_graph *x, kind k) {
    return x->value[k][pick(x, 0, x->count[k] - 1)];
}

static void add_value(random_graph *x, kind k, qd_tensor *t) {
    ck_assert_int_lt(x->count[k], VALUES);
    x->value[k][x->count[k]++] = t;
}

/* A place for a result: mostly inside the graph and nobody's but the next operator's. */
static qd_tensor *place(random_graph *x, qd_tensor_desc d) {
    qd_tensor *view;
    if (!pick(x, 0, 11)) return bed_output(&x->bed, d);
    qd_tensor *t = bed_inside(&x->bed, d);
    if (!pick(x, 0, 11)) ck_ok(qd_graph_reshape(x->bed.g, t, &d, &view));
    return t;
}

/* Now and then between two operators: somebody else reads the value, or what was read before is written anew. */
static void disturb(random_graph *x, qd_tensor *t) {
    const kind k = (kind)pick(x, 0, KINDS - 1);
    const int at = (int)pick(x, 0, x->count[k] - 1);
    if (!pick(x, 0, 7)) bed_add(&x->bed, QD_OP_COPY, NULL, &t, 1, bed_output(&x->bed, *qd_tensor_describe(t)));
    if (!pick(x, 0, 5)) {
        qd_tensor *other = bed_input(&x->bed, shape(x, k));
        qd_tensor *y = x->value[k][at];
        if (pick(x, 0, 1)) ck_ok(qd_graph_reshape(x->bed.g, y, qd_tensor_describe(y), &y)); /* under another name */
        bed_add(&x->bed, QD_OP_COPY, NULL, &other, 1, y);
    }
}

static qd_requant any_end(random_graph *x) {
    qd_requant y = {.rounding = (qd_rounding)pick(x, 0, 3), .zero_point = (int32_t)pick(x, -9, 9)};
    if (pick(x, 0, 1)) y.min = (int32_t)pick(x, -128, 5), y.max = (int32_t)pick(x, 5, 127);
    return y;
}

static qd_tensor *requantize(random_graph *x, qd_tensor *sum, qd_tensor_desc d, float size) {
    const qd_requant y = any_end(x);
    const int64_t cols = d.shape[d.rank - 1];
    qd_tensor *requant = bed_requant(&x->bed, y.rounding, pick(x, 0, 1) ? cols : 1, size), *codes = place(x, d);
    const qd_attrs a = {.requantize = {.x_zero = pick(x, 0, 5) ? 0 : 7, .y = y}};
    disturb(x, sum);
    bed_add(&x->bed, QD_OP_REQUANTIZE, &a, (qd_tensor *[]){sum, requant}, 2, codes);
    return codes;
}

/* A table: limits mostly, or any codes; or limits by a change of scale. */
static qd_tensor *activate(random_graph *x, qd_tensor *codes, qd_tensor_desc d) {
    int8_t table[256];
    const int low = (int)pick(x, -128, 20), high = low + (int)pick(x, 0, 127 - low), style = (int)pick(x, 0, 4);
    for (int i = 0; i < 256; i++) {
        const int code = i - 128, limited = code < low ? low : code > high ? high : code;
        table[i] = (int8_t)(style ? limited : (int)pick(x, -128, 127));
    }
    qd_tensor *y = place(x, d);
    disturb(x, codes);
    if (style == 4) {
        const float one = 1;
        int32_t row[2];
        ck_ok(qd_requantize_table(QD_ROUND_FIXED, 1, &one, 1, 1, row));
        const qd_attrs a = {.requantize = {.x_zero = 5, .y = {QD_ROUND_FIXED, 5, low, high}}};
        qd_tensor *requant = bed_constant(&x->bed, qd_desc(QD_FORMAT_I32, 1, 2, 0, 0), row);
        bed_add(&x->bed, QD_OP_REQUANTIZE, &a, (qd_tensor *[]){codes, requant}, 2, y);
        return y;
    }
    qd_tensor *t = bed_constant(&x->bed, qd_desc(QD_FORMAT_I8, 256, 0, 0, 0), table);
    bed_add(&x->bed, QD_OP_TABLE, NULL, (qd_tensor *[]){codes, t}, 2, y);
    return y;
}

static qd_tensor *product(random_graph *x) {
    qd_tensor_desc d = shapes[CODES];
    qd_tensor *w = bed_weights(&x->bed, qd_desc(QD_FORMAT_I8, COLS, COLS, 0, 0)), *in = any_value(x, CODES);
    d.format = QD_FORMAT_I32;
    qd_tensor *sum = place(x, d);
    bed_add(&x->bed, QD_OP_MATMUL_INT, &(qd_attrs){.matmul_int = {.wide = false}}, (qd_tensor *[]){w, in}, 2, sum);
    return requantize(x, sum, shapes[CODES], 25000);
}

/* y of the kind and shape of an image, from two images that a concatenation puts behind each other. */
static qd_tensor *concatenate(random_graph *x, qd_tensor_desc *d) {
    d->shape[3] = 2 * CHANNELS;
    qd_tensor *y = place(x, image(x, *d));
    const int axis = x->nchw ? 1 : 3;
    bed_add(&x->bed, QD_OP_CONCAT, &(qd_attrs){.concat = {pick(x, 0, 1) ? axis : axis - 4}},
            (qd_tensor *[]){any_value(x, IMAGE), any_value(x, IMAGE)}, 2, y);
    return y;
}

/* Padding around an image, some of it in an operator of its own. */
static qd_tensor *pad_image(random_graph *x, qd_tensor *in, qd_tensor_desc d, int32_t zero, qd_window *w) {
    qd_attrs a = {.pad = {.value = pick(x, 0, 4) ? zero : 4}};
    for (int i = 0; i < 2; i++) {
        const int at = i + (x->nchw ? 2 : 1);
        d.shape[1 + i] += 2;
        a.pad.before[at] = w->before[i] = (int)pick(x, 0, 2);
        a.pad.after[at] = 2 - w->before[i];
        w->before[i] = w->after[i] = 0;
    }
    qd_tensor *wide = place(x, image(x, d));
    bed_add(&x->bed, QD_OP_PAD, &a, &in, 1, wide);
    disturb(x, wide);
    return wide;
}

static qd_tensor *convolution(random_graph *x) {
    qd_tensor_desc d = shapes[IMAGE], sums = shapes[IMAGE];
    qd_tensor *in = pick(x, 0, 3) ? any_value(x, IMAGE) : concatenate(x, &d);
    const int groups = pick(x, 0, 3) ? 1 : 2;
    const qd_tensor_desc size = {QD_FORMAT_I8, 4, {CHANNELS, 3, 3, d.shape[3] / groups}};
    qd_tensor *w = bed_weights(&x->bed, image(x, size));
    qd_attrs a = {.conv_int = {.window = {.before = {1, 1}, .after = {1, 1}, .nchw = x->nchw}, .groups = groups}};
    const int32_t zero = (int32_t)pick(x, -3, 3);
    qd_tensor *x_zero = bed_constant(&x->bed, qd_desc(QD_FORMAT_I32, 1, 0, 0, 0), &zero);
    if (pick(x, 0, 1)) in = pad_image(x, in, d, zero, &a.conv_int.window);
    sums.format = QD_FORMAT_I32;
    qd_tensor *sum = place(x, image(x, sums));
    bed_add(&x->bed, QD_OP_CONV_INT, &a, (qd_tensor *[]){w, in, NULL, x_zero}, 4, sum);
    return requantize(x, sum, shape(x, IMAGE), 25000);
}

/* What else there is of images: the largest or mean code around each, the same size anew, a weight for each channel. */
static qd_tensor *image_step(random_graph *x) {
    qd_tensor *in = any_value(x, IMAGE), *y = place(x, shape(x, IMAGE));
    qd_attrs a = {.pool = {.window = {.kernel = {3, 3}, .before = {1, 1}, .after = {1, 1}, .nchw = x->nchw}}};
    const int64_t which = pick(x, 0, 2);
    if (which == 0) {
        bed_add(&x->bed, QD_OP_POOL, &a, &in, 1, y);
    } else if (which == 1) {
        bed_add(&x->bed, QD_OP_RESIZE, &(qd_attrs){.resize = {.nchw = x->nchw}}, &in, 1, y);
    } else {
        qd_tensor_desc d = shapes[IMAGE];
        d.shape[1] = d.shape[2] = 1;
        qd_tensor *mean = place(x, image(x, d));
        a.pool.average = a.pool.global = true;
        a.pool.x = a.pool.y = (qd_quant){1, 0};
        bed_add(&x->bed, QD_OP_POOL, &a, &in, 1, mean);
        disturb(x, mean);
        const qd_attrs times = {.binary = {.a = {0.1f, 0}, .b = {0.1f, 3}, .y = {0.3f, 1}}};
        bed_add(&x->bed, QD_OP_MUL_INT, &times, (qd_tensor *[]){in, mean}, 2, y);
    }
    return y;
}

static qd_tensor *combination(random_graph *x, kind k) {
    qd_attrs a = {.binary = {.a = {0.03f, 2}, .b = {0.05f, -3}, .y = {0.1f, (int32_t)pick(x, -9, 9)}}};
    a.binary.rounding = pick(x, 0, 1) ? QD_ROUND_FIXED : QD_ROUND_FLOAT;
    qd_tensor *y = place(x, shape(x, k));
    bed_add(&x->bed, pick(x, 0, 1) ? QD_OP_ADD_INT : QD_OP_MUL_INT, &a,
            (qd_tensor *[]){any_value(x, k), any_value(x, k)}, 2, y);
    return y;
}

static qd_tensor *float_product(random_graph *x) {
    qd_tensor *in = any_value(x, FLOATS), *y = place(x, shapes[FLOATS]), *sum = place(x, shapes[FLOATS]);
    const bool group = pick(x, 0, 1), first = pick(x, 0, 1);
    if (group) {
        qd_tensor *w = bed_weights(&x->bed, qd_desc(QD_FORMAT_I8, COLS, COLS, 0, 0));
        qd_tensor *scale = bed_weights(&x->bed, qd_desc(QD_FORMAT_F32, 1, 2, 0, 0));
        bed_add(&x->bed, QD_OP_MATMUL_GROUP, &(qd_attrs){.matmul_group = {.group = 16}}, (qd_tensor *[]){w, scale, in},
                3, y);
    } else {
        qd_tensor *w = bed_weights(&x->bed, qd_desc(QD_FORMAT_F32, COLS, COLS, 0, 0));
        bed_add(&x->bed, QD_OP_MATMUL, NULL, (qd_tensor *[]){w, in}, 2, y);
    }
    qd_tensor *other =
        pick(x, 0, 1) && group ? bed_weights(&x->bed, qd_desc(QD_FORMAT_F32, COLS, 0, 0, 0)) : any_value(x, FLOATS);
    disturb(x, y);
    const qd_attrs plus = {.elementwise = {.scale = 1, .combine = (qd_combine)(pick(x, 0, 3) ? 0 : 1)}};
    bed_add(&x->bed, group ? QD_OP_ELEMENTWISE : QD_OP_ADD, &plus,
            (qd_tensor *[]){first ? y : other, first ? other : y}, 2, sum);
    return sum;
}

/* Floats that become a8 and go through a product of blocks. */
static qd_tensor *block_product(random_graph *x) {
    const qd_tensor_desc d = {QD_FORMAT_A8, 2, {ROWS, COLS}};
    qd_tensor *a = any_value(x, FLOATS), *b = any_value(x, FLOATS), *mid = place(x, shapes[FLOATS]);
    qd_tensor *codes = place(x, d), *y = place(x, shapes[FLOATS]);
    qd_tensor *w = bed_weights(&x->bed, qd_desc(QD_FORMAT_Q8_0, COLS, COLS, 0, 0));
    if (pick(x, 0, 1)) {
        bed_add(&x->bed, QD_OP_RMS_NORM, &(qd_attrs){.rms_norm = {1e-5f}}, &a, 1, mid);
    } else {
        bed_add(&x->bed, QD_OP_SWIGLU, NULL, (qd_tensor *[]){a, b}, 2, mid);
    }
    disturb(x, mid);
    bed_add(&x->bed, QD_OP_QUANTIZE, NULL, &mid, 1, codes);
    bed_add(&x->bed, QD_OP_MATMUL, NULL, (qd_tensor *[]){w, codes}, 2, y);
    return y;
}

static void add_step(random_graph *x) {
    const kind k = (kind)pick(x, 0, KINDS - 1);
    qd_tensor *y = k == FLOATS                   ? (pick(x, 0, 1) ? float_product(x) : block_product(x))
                   : pick(x, 0, 2)               ? (k == CODES ? product(x) : convolution(x))
                   : k == IMAGE && pick(x, 0, 1) ? image_step(x)
                                                 : combination(x, k);
    while (k != FLOATS && pick(x, 0, 1))
        y = activate(x, y, shape(x, k));
    add_value(x, k, y);
}

static qd_graph_info make(random_graph *x, qd_context *c, uint32_t seed) {
    memset(x, 0, sizeof *x);
    bed_open(&x->bed, c, ROWS, seed);
    x->nchw = seed % 2;
    for (int k = 0; k < KINDS; k++) {
        for (int i = 0; i < 2; i++)
            add_value(x, (kind)k, bed_input(&x->bed, shape(x, (kind)k)));
    }
    for (int i = 0; i < STEPS; i++)
        add_step(x);
    for (int k = 0; k < KINDS; k++) { /* every value that nobody reads is seen */
        for (int i = 2; i < x->count[k]; i++) {
            if (!pick(x, 0, 3)) continue;
            bed_add(&x->bed, QD_OP_COPY, NULL, &x->value[k][i], 1, bed_output(&x->bed, shape(x, (kind)k)));
        }
    }
    return bed_run(&x->bed, ROWS);
}

static const char *const rules[] = {"requantize", "limits", "padding", "addend", "bias", "quantize"};

START_TEST(test_random) {
    log_text log = {.used = 0};
    const qd_context_options off = {.no_fuse = true}, on = {.log = collect_log, .log_user = &log};
    qd_context *ref = open_device(0, &off), *c = open_device(_i, &on);
    static random_graph want, got;
    int fused = 0, kept = 0, copies = 0;
    for (uint32_t seed = 1; c && seed <= GRAPHS; seed++) {
        char what[40];
        const qd_graph_info all = make(&want, ref, seed), less = make(&got, c, seed);
        snprintf(what, sizeof what, "graph %u", seed);
        ck_assert_int_eq(less.ops + less.fused - less.copies, all.ops);
        ck_assert_int_eq(less.fallbacks, 0);
        fused += less.fused;
        copies += less.copies;
        kept += less.ops;
        bed_compare(&got.bed, &want.bed, what);
        bed_close(&want.bed);
        bed_close(&got.bed);
    }
    if (c) ck_assert_msg(fused * 8 > kept, "%d operators fused, %d left", fused, kept);
    for (size_t i = 0; c && i < sizeof rules / sizeof rules[0]; i++)
        ck_assert_msg(strstr(log.text, rules[i]) != NULL, "no graph has \"%s\"", rules[i]);
    if (c && strstr(qd_context_device(c)->features, "x86-avx2")) ck_assert_int_gt(copies, GRAPHS / 4);
    qd_context_free(ref);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("fuse_random");
    tcase_add_loop_test(tc, test_random, 0, TEST_DEVICES);
    return run_tests(tc, "fuse_random");
}
