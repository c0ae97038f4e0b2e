/* Fake quantization with its gradients, and observers. */
#include <math.h>
#include <string.h>

#include "cli/vectors_run.h"
#include "qdot/qdot_quant.h"

enum { MOST_CODE = 1 << 24 };

static qd_status judge_floats(qd_vec_run *r, const char *name, const float *values, int64_t n) {
    const qd_vec_tensor *want;
    QD_VEC_TRY(qd_vec_want(r, name, &want));
    return qd_vec_judge(r, want, values, (size_t)n * sizeof *values);
}

/* An attribute that need not be an integer. */
static double number(const qd_vec_run *r, const char *key, double otherwise) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->c->attrs, key);
    return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

static qd_status code_range(qd_vec_run *r, int32_t *qmin, int32_t *qmax) {
    int64_t least, most;
    QD_VEC_TRY(qd_vec_attr_needed(r, "qmin", -MOST_CODE, MOST_CODE, &least));
    QD_VEC_TRY(qd_vec_attr_needed(r, "qmax", -MOST_CODE, MOST_CODE, &most));
    *qmin = (int32_t)least;
    *qmax = (int32_t)most;
    return QD_OK;
}

/* Splits the dimensions from `first` on at `axis`, counted from there; without one all are inner. */
static void split(const qd_vec_tensor *t, int first, int64_t axis, int64_t *outer, int64_t *channels, int64_t *inner) {
    *outer = *channels = *inner = 1;
    for (int i = first; i < t->rank; i++) {
        int64_t *part = axis < 0 || i - first > axis ? inner : i - first < axis ? outer : channels;
        *part *= t->shape[i];
    }
}

/* ---- Fake quantization -------------------------------------------------------------------------------------- */

typedef struct training {
    qd_fake_quant f;
    int axis; /* of the scales; -1: one for all */
    const qd_vec_tensor *t;
    const float *x, *dy, *scale;
    float *y, *dx;
} training;

static qd_status prepare(qd_vec_run *r, training *p) {
    const qd_vec_tensor *dy, *scale;
    int64_t axis;
    QD_VEC_TRY(code_range(r, &p->f.qmin, &p->f.qmax));
    QD_VEC_TRY(qd_vec_attr(r, "axis", -1, 0, QD_VEC_MAX_RANK, &axis));
    QD_VEC_TRY(qd_vec_need_f32(r, "x", &p->t, &p->x));
    QD_VEC_TRY(qd_vec_need_f32(r, "dy", &dy, &p->dy));
    QD_VEC_TRY(qd_vec_need_f32(r, "scale", &scale, &p->scale));
    p->axis = (int)axis;
    split(p->t, 0, axis, &p->f.outer, &p->f.channels, &p->f.inner);
    if (scale->count != p->f.channels || dy->count != p->t->count)
        return qd_vec_bad(r, "scale or dy has not the shape that x needs");
    QD_VEC_TRY(qd_vec_alloc(r, p->t->count, sizeof *p->y, &p->y));
    return qd_vec_alloc(r, p->t->count, sizeof *p->dx, &p->dx);
}

/* The same by the operators: y and dx, and with `learn` the gradients of scale and zero point. */
static qd_status by_operators(qd_vec_run *r, const training *p, const int32_t *zeros, float factor, bool learn) {
    static const char *const names[] = {"dx", "dscale", "dzero_point"};
    const qd_tensor_desc d = qd_vec_desc(QD_FORMAT_F32, p->t), sums = qd_vec_shape(QD_FORMAT_F32, 1, &p->f.channels);
    const qd_attrs attrs = {
        .fake_quantize = {.axis = p->axis, .min = p->f.qmin, .max = p->f.qmax, .factor = learn ? factor : 1}};
    const qd_vec_tensor *want;
    qd_tensor *in[4], *y, *out[3];
    QD_VEC_TRY(qd_vec_put(r, &d, p->x, false, &in[0]));
    QD_VEC_TRY(qd_vec_put_floats(r, p->scale, p->f.channels, &in[1]));
    QD_VEC_TRY(qd_vec_put_ints(r, zeros, p->f.channels, &in[2]));
    QD_VEC_TRY(qd_vec_put(r, &d, p->dy, false, &in[3]));
    QD_VEC_TRY(qd_vec_make(r, &d, &y));
    QD_VEC_TRY(qd_vec_make(r, &d, &out[0]));
    QD_VEC_TRY(qd_vec_make(r, &sums, &out[1]));
    QD_VEC_TRY(qd_vec_make(r, &sums, &out[2]));
    QD_VEC_TRY(qd_vec_op(r, QD_OP_FAKE_QUANTIZE, &attrs, in, 3, &y, 1));
    QD_VEC_TRY(qd_vec_op(r, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, in, 4, out, 3));
    QD_VEC_TRY(qd_vec_want(r, "y", &want));
    QD_VEC_TRY(qd_vec_check(r, want, y));
    for (int i = 0; i < (learn ? 3 : 1); i++) {
        QD_VEC_TRY(qd_vec_want(r, names[i], &want));
        QD_VEC_TRY(qd_vec_check(r, want, out[i]));
    }
    return QD_OK;
}

qd_status qd_vec_fake_quantize(qd_vec_run *r) {
    const qd_vec_tensor *z;
    int32_t *zeros;
    uint8_t *mask;
    training p;
    QD_VEC_TRY(prepare(r, &p));
    QD_VEC_TRY(qd_vec_need(r, "zero_point", &z));
    QD_VEC_TRY(qd_vec_ints(r, z, &zeros));
    if (z->count != p.f.channels) return qd_vec_bad(r, "zero_point has not a value for each channel");
    QD_VEC_TRY(qd_vec_alloc(r, p.t->count, 1, &mask));
    QD_VEC_TRY(qd_vec_library(r, qd_fake_quantize(&p.f, p.x, p.scale, zeros, p.y, mask)));
    QD_VEC_TRY(judge_floats(r, "y", p.y, p.t->count));
    QD_VEC_TRY(qd_vec_library(r, qd_fake_quantize_backward(mask, p.dy, p.t->count, p.dx)));
    QD_VEC_TRY(judge_floats(r, "dx", p.dx, p.t->count));
    return by_operators(r, &p, zeros, 1, false);
}

qd_status qd_vec_fake_quantize_learn(qd_vec_run *r) {
    const float factor = (float)number(r, "grad_factor", 1);
    const qd_vec_tensor *z;
    const float *zeros;
    float *dscale, *dzero;
    int32_t *rounded;
    training p;
    QD_VEC_TRY(prepare(r, &p));
    QD_VEC_TRY(qd_vec_need_f32(r, "zero_point", &z, &zeros));
    if (z->count != p.f.channels) return qd_vec_bad(r, "zero_point has not a value for each channel");
    QD_VEC_TRY(qd_vec_alloc(r, p.f.channels, sizeof *rounded, &rounded));
    QD_VEC_TRY(qd_vec_alloc(r, p.f.channels, sizeof *dscale, &dscale));
    QD_VEC_TRY(qd_vec_alloc(r, p.f.channels, sizeof *dzero, &dzero));
    QD_VEC_TRY(
        qd_vec_library(r, qd_fake_quantize_learn(&p.f, p.x, p.scale, zeros, p.dy, factor, p.y, p.dx, dscale, dzero)));
    QD_VEC_TRY(judge_floats(r, "y", p.y, p.t->count));
    QD_VEC_TRY(judge_floats(r, "dx", p.dx, p.t->count));
    QD_VEC_TRY(judge_floats(r, "dscale", dscale, p.f.channels));
    QD_VEC_TRY(judge_floats(r, "dzero_point", dzero, p.f.channels));
    for (int64_t c = 0; c < p.f.channels; c++) /* which the function has checked */
        rounded[c] = (int32_t)rintf(fminf(fmaxf(zeros[c], (float)p.f.qmin), (float)p.f.qmax));
    return by_operators(r, &p, rounded, factor, true);
}

/* ---- Observers ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    qd_observe kind;
} observers[] = {{"MinMax", QD_OBSERVE_MINMAX},
                 {"PerChannelMinMax", QD_OBSERVE_MINMAX},
                 {"MovingAverageMinMax", QD_OBSERVE_AVERAGE},
                 {"MovingAveragePerChannelMinMax", QD_OBSERVE_AVERAGE},
                 {"Histogram", QD_OBSERVE_ERROR}};

/* Mean squared error of fake quantization of all of x with one scale. */
static qd_status measure(qd_vec_run *r, const qd_vec_tensor *t, const qd_code_range *codes, const float *scale,
                         const int32_t *zero, double *error) {
    const qd_fake_quant f = {1, 1, t->count, codes->qmin, codes->qmax};
    const float *x = t->data;
    float *y;
    QD_VEC_TRY(qd_vec_alloc(r, t->count, sizeof *y, &y));
    QD_VEC_TRY(qd_vec_library(r, qd_fake_quantize(&f, x, scale, zero, y, NULL)));
    *error = 0;
    for (int64_t i = 0; i < t->count; i++)
        *error += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]) / (double)t->count;
    return QD_OK;
}

/* Feeds the batches, which lie along axis 0, and compares; the observer is freed by the caller. */
static qd_status observe(qd_vec_run *r, qd_observer *o, const qd_vec_tensor *t, int64_t outer, int64_t channels,
                         int64_t inner, const qd_code_range *codes, bool by_error) {
    const int64_t size = outer * channels * inner;
    const qd_vec_tensor *want;
    float *scale, *min, *max;
    int32_t *zero;
    double error;
    for (int64_t b = 0; b < t->shape[0]; b++)
        QD_VEC_TRY(qd_vec_library(r, qd_observer_update(o, (const float *)t->data + b * size, outer, inner)));
    QD_VEC_TRY(qd_vec_alloc(r, channels, sizeof *scale, &scale));
    QD_VEC_TRY(qd_vec_alloc(r, channels, sizeof *min, &min));
    QD_VEC_TRY(qd_vec_alloc(r, channels, sizeof *max, &max));
    QD_VEC_TRY(qd_vec_alloc(r, channels, sizeof *zero, &zero));
    QD_VEC_TRY(qd_vec_library(r, qd_observer_scale(o, codes, scale, zero, min, max)));
    if (by_error) {
        QD_VEC_TRY(measure(r, t, codes, scale, zero, &error));
        return qd_vec_quality(r, error);
    }
    QD_VEC_TRY(judge_floats(r, "scale", scale, channels));
    QD_VEC_TRY(judge_floats(r, "min", min, channels));
    QD_VEC_TRY(judge_floats(r, "max", max, channels));
    QD_VEC_TRY(qd_vec_want(r, "zero_point", &want));
    return qd_vec_judge(r, want, zero, (size_t)channels * sizeof *zero);
}

qd_status qd_vec_observer(qd_vec_run *r) {
    const char *name = qd_vec_attr_text(r, "observer", "");
    const qd_vec_tensor *t;
    const float *x;
    int64_t axis, bins, outer, channels, inner;
    qd_code_range codes = {.symmetric = strcmp(qd_vec_attr_text(r, "qscheme", ""), "symmetric") == 0};
    qd_observer_options options = {.averaging = (float)number(r, "averaging_constant", 0)};
    size_t at = 0;
    while (at < sizeof observers / sizeof observers[0] && strcmp(observers[at].name, name) != 0)
        at++;
    if (at == sizeof observers / sizeof observers[0]) return qd_vec_skip(r, name, "no observer %.40s yet", name);
    QD_VEC_TRY(code_range(r, &codes.qmin, &codes.qmax));
    QD_VEC_TRY(qd_vec_attr(r, "ch_axis", -1, 0, QD_VEC_MAX_RANK, &axis));
    QD_VEC_TRY(qd_vec_attr(r, "bins", 0, 0, 1 << 20, &bins));
    QD_VEC_TRY(qd_vec_need_f32(r, "x", &t, &x));
    if (t->rank < 1) return qd_vec_bad(r, "x has no batches");
    split(t, 1, axis, &outer, &channels, &inner);
    options.kind = observers[at].kind;
    options.channels = channels;
    options.bins = (int)bins;
    qd_observer *o = NULL;
    QD_VEC_TRY(qd_vec_library(r, qd_observer_create(&options, &o)));
    const qd_status status = observe(r, o, t, outer, channels, inner, &codes, options.kind == QD_OBSERVE_ERROR);
    qd_observer_free(o);
    return status;
}
