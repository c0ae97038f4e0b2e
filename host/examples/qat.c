/* Training with quantization: a network learns to read digits in float32; its weights and activations are rounded to 4
 * and to 2 bits, which costs accuracy; training goes on with FAKE_QUANTIZE and FAKE_QUANTIZE_GRAD, which brings it
 * back; the result runs with integer operators, and predicts the same.
 *
 *   images [144] -> 32 -> 16 -> 10 logits, ReLU between; weights signed codes of `bits`, hidden activations unsigned
 * ones, the images u8; biases stay floats
 *
 * Steps of the weights are learned as in LSQ (Esser et al. 2020), bounds of the activations as in PACT (Choi et al.
 * 2018). Matrix products of the training are plain loops here: what is shown is the quantization. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "digits.h"
#include "qdot/qdot.h"
#include "qdot/qdot_quant.h"

enum { LAYERS = 3, HIDDEN = 32, BATCH = 100, TRAIN = 4000, TEST = 2000, CLASSES = 10 };
enum { WIDEST = DIGIT_PIXELS, MOST_WEIGHTS = HIDDEN * WIDEST };
enum { FLOAT_EPOCHS = 25, QUANTIZED_EPOCHS = 12 };
static const int widths[LAYERS + 1] = {DIGIT_PIXELS, HIDDEN, HIDDEN / 2, CLASSES};
static const float float_rate = 0.005f, quantized_rate = 0.008f; /* of learning */

static float train_images[TRAIN * DIGIT_PIXELS], test_images[TEST * DIGIT_PIXELS];
static int train_labels[TRAIN], test_labels[TEST];

/* An example ends at the first failure; a program would free what it has and go on. */
static void check(qd_status status) {
    if (status == QD_OK) return;
    fprintf(stderr, "example_qat: %s: %s\n", qd_status_name(status), qd_last_message());
    exit(2);
}

/* ---- Tensors and the two operators -------------------------------------------------------------------------- */

static qd_tensor *tensor(qd_context *c, qd_format format, int64_t rows, int64_t cols) {
    const qd_tensor_desc d = qd_desc(format, rows, cols, 0, 0);
    qd_tensor *t;
    check(qd_tensor_create(c, &d, &t));
    return t;
}

static void put(qd_tensor *t, const void *values) {
    check(qd_tensor_write(t, 0, values, qd_desc_bytes(qd_tensor_describe(t))));
}

static void get(qd_tensor *t, void *values) {
    check(qd_tensor_read(t, 0, values, qd_desc_bytes(qd_tensor_describe(t))));
}

/* A matrix that is fake-quantized with one scale, zero point 0. */
typedef struct faked {
    qd_tensor *x, *scale, *zero, *dy, *y, *dx, *dscale, *dzero;
    qd_plan *forward, *backward;
} faked;

static faked faked_create(qd_context *c, int rows, int cols, int32_t min, int32_t max, bool clip, float factor) {
    faked f = {.x = tensor(c, QD_FORMAT_F32, rows, cols),
               .scale = tensor(c, QD_FORMAT_F32, 1, 0),
               .zero = tensor(c, QD_FORMAT_I32, 1, 0),
               .dy = tensor(c, QD_FORMAT_F32, rows, cols),
               .y = tensor(c, QD_FORMAT_F32, rows, cols),
               .dx = tensor(c, QD_FORMAT_F32, rows, cols),
               .dscale = tensor(c, QD_FORMAT_F32, 1, 0),
               .dzero = tensor(c, QD_FORMAT_F32, 1, 0)};
    const qd_attrs attrs = {.fake_quantize = {.min = min, .max = max, .clip = clip, .factor = factor}};
    qd_tensor *in[] = {f.x, f.scale, f.zero, f.dy}, *out[] = {f.dx, f.dscale, f.dzero};
    check(qd_plan_create(c, QD_OP_FAKE_QUANTIZE, &attrs, in, 3, &f.y, 1, &f.forward));
    check(qd_plan_create(c, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, in, 4, out, 3, &f.backward));
    return f;
}

static void faked_free(faked *f) {
    qd_tensor *const all[] = {f->x, f->scale, f->zero, f->dy, f->y, f->dx, f->dscale, f->dzero};
    qd_plan_free(f->forward);
    qd_plan_free(f->backward);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        qd_tensor_free(all[i]);
}

static void faked_forward(faked *f, const float *x, float scale, float *y) {
    put(f->x, x);
    put(f->scale, &scale);
    check(qd_plan_run(f->forward));
    get(f->y, y);
}

/* For the x and the scale of the last faked_forward; returns the scale's gradient. */
static float faked_backward(faked *f, const float *dy, float *dx) {
    float dscale;
    put(f->dy, dy);
    check(qd_plan_run(f->backward));
    get(f->dx, dx);
    get(f->dscale, &dscale);
    return dscale;
}

/* ---- The network -------------------------------------------------------------------------------------------- */

/* What is learned: values with their gradients and Adam's two moments. */
typedef struct parameter {
    int n;
    float value[MOST_WEIGHTS], gradient[MOST_WEIGHTS], mean[MOST_WEIGHTS], square[MOST_WEIGHTS];
} parameter;

typedef struct network {
    parameter w[LAYERS], b[LAYERS]; /* w [out][in] */
    int bits;                       /* 0: floats */
    parameter step[LAYERS];         /* scale of the weights' codes */
    parameter bound[LAYERS - 1];    /* largest activation that has a code */
    faked weights[LAYERS], activations[LAYERS - 1];
    float used[LAYERS][MOST_WEIGHTS]; /* the weights that count: rounded, or as they are */
    /* Of a batch: inputs of the layers, the last are the logits; sums before the activation; their gradients. */
    float x[LAYERS + 1][BATCH * WIDEST], z[LAYERS][BATCH * WIDEST], dz[BATCH * WIDEST], dx[BATCH * WIDEST];
} network;

static int most_code(const network *n) { /* of the activations */
    return (1 << n->bits) - 1;
}

/* Adam (Kingma, Ba 2015), step t from 1 on. */
static void adam(parameter *p, float rate, int t) {
    const float a = 1 - powf(0.9f, (float)t), b = 1 - powf(0.999f, (float)t);
    for (int i = 0; i < p->n; i++) {
        const float g = p->gradient[i];
        p->mean[i] = 0.9f * p->mean[i] + 0.1f * g;
        p->square[i] = 0.999f * p->square[i] + 0.001f * g * g;
        p->value[i] -= rate * (p->mean[i] / a) / (sqrtf(p->square[i] / b) + 1e-8f);
    }
}

/* Small weights of a uniform distribution (He et al. 2015). */
static void network_init(network *n) {
    unsigned state = 7;
    memset(n, 0, sizeof *n);
    for (int l = 0; l < LAYERS; l++) {
        n->w[l].n = widths[l] * widths[l + 1];
        n->b[l].n = widths[l + 1];
        const float reach = sqrtf(6.0f / (float)widths[l]);
        for (int i = 0; i < n->w[l].n; i++) {
            state = state * 1664525u + 1013904223u;
            n->w[l].value[i] = ((float)(state >> 8) * 0x1p-23f - 1) * reach;
        }
    }
}

/* The weights that a forward pass counts with. */
static void use_weights(network *n) {
    for (int l = 0; l < LAYERS; l++) {
        if (n->bits) {
            faked_forward(&n->weights[l], n->w[l].value, n->step[l].value[0], n->used[l]);
        } else {
            memcpy(n->used[l], n->w[l].value, (size_t)n->w[l].n * sizeof(float));
        }
    }
}

/* BATCH images; use_weights came before. Returns the logits. */
static const float *forward(network *n, const float *images) {
    memcpy(n->x[0], images, BATCH * DIGIT_PIXELS * sizeof(float));
    for (int l = 0; l < LAYERS; l++) {
        const int in = widths[l], out = widths[l + 1];
        for (int r = 0; r < BATCH; r++) {
            for (int o = 0; o < out; o++) {
                float sum = n->b[l].value[o];
                for (int i = 0; i < in; i++)
                    sum += n->x[l][r * in + i] * n->used[l][o * in + i];
                n->z[l][r * out + o] = sum;
            }
        }
        float *y = n->x[l + 1];
        if (l == LAYERS - 1) {
            memcpy(y, n->z[l], sizeof(float) * (size_t)(BATCH * out));
        } else if (n->bits) { /* codes from 0 on: a ReLU as well */
            faked_forward(&n->activations[l], n->z[l], n->bound[l].value[0] / (float)most_code(n), y);
        } else {
            for (int i = 0; i < BATCH * out; i++)
                y[i] = n->z[l][i] > 0 ? n->z[l][i] : 0;
        }
    }
    return n->x[LAYERS];
}

/* Cross entropy of one row of logits; gradient NULL: not wanted. */
static double cross_entropy(const float *logits, int label, float *gradient) {
    float most = logits[0];
    double sum = 0;
    for (int k = 1; k < CLASSES; k++)
        most = logits[k] > most ? logits[k] : most;
    for (int k = 0; k < CLASSES; k++)
        sum += exp((double)(logits[k] - most));
    for (int k = 0; k < CLASSES && gradient; k++)
        gradient[k] = (float)((exp((double)(logits[k] - most)) / sum - (k == label)) / BATCH);
    return log(sum) - (double)(logits[label] - most);
}

/* Gradients of the batch that went forward last. */
static void backward(network *n, const int *labels) {
    for (int r = 0; r < BATCH; r++)
        cross_entropy(n->x[LAYERS] + r * CLASSES, labels[r], n->dz + r * CLASSES);
    for (int l = LAYERS - 1; l >= 0; l--) {
        const int in = widths[l], out = widths[l + 1];
        float *dw = n->w[l].gradient, *db = n->b[l].gradient;
        memset(dw, 0, (size_t)n->w[l].n * sizeof *dw);
        memset(db, 0, (size_t)out * sizeof *db);
        memset(n->dx, 0, sizeof(float) * (size_t)(BATCH * in));
        for (int r = 0; r < BATCH; r++) {
            for (int o = 0; o < out; o++) {
                const float g = n->dz[r * out + o];
                db[o] += g;
                for (int i = 0; i < in; i++) {
                    dw[o * in + i] += g * n->x[l][r * in + i];
                    n->dx[r * in + i] += g * n->used[l][o * in + i];
                }
            }
        }
        if (n->bits) n->step[l].gradient[0] = faked_backward(&n->weights[l], dw, dw);
        if (l == 0) return;
        if (n->bits) {
            const float dscale = faked_backward(&n->activations[l - 1], n->dx, n->dz);
            n->bound[l - 1].gradient[0] = dscale / (float)most_code(n);
        } else {
            for (int i = 0; i < BATCH * in; i++)
                n->dz[i] = n->z[l - 1][i] > 0 ? n->dx[i] : 0;
        }
    }
}

/* Learns for some epochs; the rate falls to 0. */
static void train(network *n, int epochs, float rate) {
    const int batches = TRAIN / BATCH;
    for (int t = 1; t <= epochs * batches; t++) {
        const int first = t % batches * BATCH;
        const float now = rate * (1 - (float)t / (float)(epochs * batches));
        use_weights(n);
        forward(n, train_images + first * DIGIT_PIXELS);
        backward(n, train_labels + first);
        for (int l = 0; l < LAYERS; l++) {
            adam(&n->w[l], now, t);
            adam(&n->b[l], now, t);
            if (!n->bits) continue;
            adam(&n->step[l], now * n->step[l].value[0], t); /* steps and bounds move in proportion to what they are */
            if (l < LAYERS - 1) adam(&n->bound[l], now * n->bound[l].value[0], t);
        }
    }
}

/* ---- Accuracy ----------------------------------------------------------------------------------------------- */

typedef struct score {
    double accuracy, loss;
} score;

static score judge(const float *logits) {
    score s = {0};
    for (int i = 0; i < TEST; i++) {
        const float *row = logits + i * CLASSES;
        int best = 0;
        for (int k = 1; k < CLASSES; k++)
            best = row[k] > row[best] ? k : best;
        s.accuracy += 100.0 * (best == test_labels[i]) / TEST;
        s.loss += cross_entropy(row, test_labels[i], NULL) / TEST;
    }
    return s;
}

static score test(network *n, float *logits) {
    use_weights(n);
    for (int i = 0; i < TEST; i += BATCH)
        memcpy(logits + i * CLASSES, forward(n, test_images + i * DIGIT_PIXELS), BATCH * CLASSES * sizeof(float));
    return judge(logits);
}

/* ---- Rounding ----------------------------------------------------------------------------------------------- */

/* The scale whose codes have the least squared error. */
static float best_scale(qd_observer *o, int min, int max, bool symmetric) {
    const qd_code_range codes = {min, max, symmetric};
    float scale;
    int32_t zero;
    check(qd_observer_scale(o, &codes, &scale, &zero, NULL, NULL));
    return scale;
}

static qd_observer *observer(void) {
    const qd_observer_options options = {.kind = QD_OBSERVE_ERROR};
    qd_observer *o;
    check(qd_observer_create(&options, &o));
    return o;
}

/* Makes a float network one of `bits` bits: steps and bounds for the least squared error of weights and of the
 * activations of all training images, not learned yet. */
static void quantize(qd_context *c, network *n, int bits) {
    const int low = -(1 << (bits - 1)), high = -low - 1;
    qd_observer *seen[LAYERS - 1];
    for (int l = 0; l < LAYERS - 1; l++)
        seen[l] = observer();
    use_weights(n);
    for (int i = 0; i < TRAIN; i += BATCH) {
        forward(n, train_images + i * DIGIT_PIXELS);
        for (int l = 0; l < LAYERS - 1; l++)
            check(qd_observer_update(seen[l], n->x[l + 1], 1, BATCH * widths[l + 1]));
    }
    n->bits = bits;
    for (int l = 0; l < LAYERS; l++) {
        qd_observer *o = observer();
        check(qd_observer_update(o, n->w[l].value, 1, n->w[l].n));
        n->step[l] = (parameter){.n = 1, .value = {best_scale(o, low, high, true)}};
        qd_observer_free(o);
        memset(n->w[l].mean, 0, sizeof n->w[l].mean);
        memset(n->w[l].square, 0, sizeof n->w[l].square);
        memset(n->b[l].mean, 0, sizeof n->b[l].mean);
        memset(n->b[l].square, 0, sizeof n->b[l].square);
        n->weights[l] = faked_create(c, widths[l + 1], widths[l], low, high, false,
                                     1 / sqrtf((float)(n->w[l].n * (high > 0 ? high : 1))));
        if (l == LAYERS - 1) break;
        n->bound[l] = (parameter){.n = 1, .value = {best_scale(seen[l], 0, most_code(n), false) * (float)most_code(n)}};
        n->activations[l] = faked_create(c, BATCH, widths[l + 1], 0, most_code(n), true, 1);
        qd_observer_free(seen[l]);
    }
}

static void quantized_free(network *n) {
    for (int l = 0; l < LAYERS; l++)
        faked_free(&n->weights[l]);
    for (int l = 0; l < LAYERS - 1; l++)
        faked_free(&n->activations[l]);
}

/* ---- Integers ----------------------------------------------------------------------------------------------- */

static void run_op(qd_context *c, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out) {
    qd_plan *plan;
    check(qd_plan_create(c, op, attrs, in, n_in, &out, 1, &plan));
    check(qd_plan_run(plan));
    qd_plan_free(plan);
}

/* Codes of a matrix of floats. FAKE_QUANTIZE multiplies by the reciprocal, and so must this. */
static qd_tensor *codes_of(qd_context *c, qd_tensor *x, float scale, qd_format format, int min, int max) {
    const qd_tensor_desc *d = qd_tensor_describe(x);
    const qd_attrs attrs = {.quantize_linear = {.reciprocal = true, .min = min, .max = max}};
    qd_tensor *in[] = {x, tensor(c, QD_FORMAT_F32, 1, 0)}, *codes = tensor(c, format, d->shape[0], d->shape[1]);
    put(in[1], &scale);
    run_op(c, QD_OP_QUANTIZE_LINEAR, &attrs, in, 2, codes);
    qd_tensor_free(in[1]);
    return codes;
}

/* All test images through integer products: codes of 4 bits (those of 2 are among them) times codes of 8, summed
 * exactly, scaled, and a bias added. */
static void run_integers(qd_context *c, const network *n, float *logits) {
    const int low = -(1 << (n->bits - 1));
    qd_tensor *values = tensor(c, QD_FORMAT_F32, TEST, DIGIT_PIXELS);
    float x_scale = 1 / 255.0f;
    put(values, test_images);
    for (int l = 0; l < LAYERS; l++) {
        const int in = widths[l], out = widths[l + 1];
        const float scale = n->step[l].value[0] * x_scale;
        qd_tensor *w = tensor(c, QD_FORMAT_F32, out, in), *bias = tensor(c, QD_FORMAT_F32, 1, out);
        qd_tensor *sums = tensor(c, QD_FORMAT_I32, TEST, out), *products = tensor(c, QD_FORMAT_F32, TEST, out);
        qd_tensor *one = tensor(c, QD_FORMAT_F32, 1, 0), *y = tensor(c, QD_FORMAT_F32, TEST, out);
        put(w, n->w[l].value);
        put(bias, n->b[l].value);
        put(one, &scale);
        qd_tensor *wq = codes_of(c, w, n->step[l].value[0], QD_FORMAT_I4, low, -low - 1);
        qd_tensor *xq = codes_of(c, values, x_scale, QD_FORMAT_U8, 0, l ? most_code(n) : 255);
        run_op(c, QD_OP_MATMUL_INT, &(qd_attrs){0}, (qd_tensor *[]){wq, xq}, 2, sums);
        run_op(c, QD_OP_DEQUANTIZE_LINEAR, &(qd_attrs){0}, (qd_tensor *[]){sums, one}, 2, products);
        run_op(c, QD_OP_ELEMENTWISE, &(qd_attrs){.elementwise = {.scale = 1}}, (qd_tensor *[]){products, bias}, 2, y);
        qd_tensor *const used[] = {values, w, bias, sums, products, one, wq, xq};
        for (size_t i = 0; i < sizeof used / sizeof *used; i++)
            qd_tensor_free(used[i]);
        values = y;
        if (l < LAYERS - 1) x_scale = n->bound[l].value[0] / (float)most_code(n);
    }
    get(values, logits);
    qd_tensor_free(values);
}

/* How many predictions are the same, and the largest difference of a logit. */
static int compare(const float *a, const float *b, double *apart) {
    int same = 0;
    *apart = 0;
    for (int i = 0; i < TEST; i++) {
        int best[2] = {0, 0};
        for (int k = 0; k < CLASSES; k++) {
            const int at = i * CLASSES + k;
            *apart = fmax(*apart, fabs((double)a[at] - (double)b[at]));
            if (a[at] > a[i * CLASSES + best[0]]) best[0] = k;
            if (b[at] > b[i * CLASSES + best[1]]) best[1] = k;
        }
        same += best[0] == best[1];
    }
    return same;
}

/* ---- The example -------------------------------------------------------------------------------------------- */

/* Rounds the float network to `bits`, trains on, and runs the result with integers. False when less than half of the
 * accuracy that rounding took comes back, or integers predict something else. */
static bool show(qd_context *c, const network *trained, score floats, int bits) {
    static network n;
    static float faked_logits[TEST * CLASSES], integer_logits[TEST * CLASSES];
    double apart;
    n = *trained;
    quantize(c, &n, bits);
    const score rounded = test(&n, faked_logits);
    train(&n, QUANTIZED_EPOCHS, quantized_rate);
    const score learned = test(&n, faked_logits);
    run_integers(c, &n, integer_logits);
    quantized_free(&n);
    const score integers = judge(integer_logits);
    const int same = compare(faked_logits, integer_logits, &apart);
    const double lost = floats.accuracy - rounded.accuracy;
    const double recovered = lost > 0 ? 100 * (learned.accuracy - rounded.accuracy) / lost : 0;
    printf("int%d  rounded                    %7.1f %%  %8.4f\n", bits, rounded.accuracy, rounded.loss);
    printf("int%d  trained with quantization  %7.1f %%  %8.4f  %.0f %% of what rounding took\n", bits, learned.accuracy,
           learned.loss, recovered);
    printf("int%d  in integers                %7.1f %%  %8.4f  %d of %d predictions the same\n", bits,
           integers.accuracy, integers.loss, same, TEST);
    /* Sums of floats are rounded and those of integers are not, which may decide an activation that is at a tie. */
    const bool right = recovered >= 50 && TEST - same <= 1;
    printf("      largest difference of a logit: %.2g%s\n", apart, right ? "" : "   FAILED");
    return right;
}

int main(int argc, char **argv) {
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr, "usage: example_qat [DEVICE]   (see `qdot devices`)\n");
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    static network n;
    static float logits[TEST * CLASSES];
    qd_context *c;
    check(qd_context_create(argc == 2 ? argv[1] : NULL, NULL, &c));
    fprintf(stderr, "device: %s\n", qd_context_device(c)->id);
    digits_draw(1, TRAIN, train_images, train_labels);
    digits_draw(2, TEST, test_images, test_labels);
    /* The network sees what the integers will: images of 8 bits. */
    for (int i = 0; i < TRAIN * DIGIT_PIXELS; i++)
        train_images[i] = rintf(train_images[i] * 255) * (1 / 255.0f);
    for (int i = 0; i < TEST * DIGIT_PIXELS; i++)
        test_images[i] = rintf(test_images[i] * 255) * (1 / 255.0f);
    network_init(&n);
    train(&n, FLOAT_EPOCHS, float_rate);
    const score floats = test(&n, logits);
    printf("network %d-%d-%d-%d, %d images to learn from, %d to test\n", widths[0], widths[1], widths[2], widths[3],
           TRAIN, TEST);
    printf("                                 accuracy      loss\n");
    printf("float32                          %7.1f %%  %8.4f\n", floats.accuracy, floats.loss);
    bool right = true;
    for (int bits = 4; bits >= 2; bits -= 2)
        right = show(c, &n, floats, bits) && right;
    qd_context_free(c);
    fprintf(stderr, "%.1f s of processor time\n", (double)clock() / CLOCKS_PER_SEC);
    return right ? 0 : 1;
}
