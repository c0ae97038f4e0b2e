/* Between floats and codes. */
#include <math.h>
#include <string.h>

#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

/* ---- QUANTIZE_LINEAR, DEQUANTIZE_LINEAR: checks ------------------------------------------------------------- */

static bool is_one(const qd_tensor_desc *d) {
    for (int i = 0; i < d->rank; i++) {
        if (d->shape[i] != 1) return false;
    }
    return true;
}

static bool same_shape(const qd_tensor_desc *a, const qd_tensor_desc *b) {
    return a->rank == b->rank && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

/* True when d holds n elements along one dimension. */
static bool is_line(const qd_tensor_desc *d, int64_t n) {
    int longer = 0;
    for (int i = 0; i < d->rank; i++) {
        if (d->shape[i] == 1) continue;
        if (d->shape[i] != n) return false;
        longer++;
    }
    return longer == 1;
}

/* Which scale an element has: one for all, one for each index of the axis, or one for each `block` of them. */
static qd_status place_scales(const char *op, const qd_tensor_desc *x, const qd_tensor_desc *scale, int axis,
                              int64_t block, qd_quantize_linear_params *p) {
    p->axis = p->block = 1;
    p->inner = INT32_MAX;
    if (is_one(scale)) return QD_OK;
    const int a = axis < 0 ? axis + x->rank : axis;
    if (a < 0 || a >= x->rank) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: axis %d of a tensor of rank %d; it must be %d … %d", op, axis, x->rank,
                       -x->rank, x->rank - 1);
    }
    if (block < 0) return qd_fail(QD_ERR_ARGUMENT, "%s: a block of %lld indices", op, (long long)block);
    const int64_t dim = x->shape[a];
    const int64_t blocks = block ? dim / block + (dim % block != 0) : dim;
    qd_tensor_desc want = *x;
    want.shape[a] = blocks;
    if (block ? !same_shape(scale, &want) : !is_line(scale, dim)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: the shape of scale does not fit: axis %d has %lld indices, %s %lld scales",
                       op, a, (long long)dim, block ? "and the shape of x holds there" : "which need 1 or",
                       (long long)blocks);
    }
    const int64_t inner = qd_span(x, a + 1, x->rank);
    p->axis = (qd_i32)dim;
    p->inner = (qd_i32)inner;
    if (!block) {
        p->scale_axis = 1;
        return QD_OK;
    }
    p->block = (qd_i32)(block < dim ? block : dim);
    p->scale_outer = a ? (qd_i32)(blocks * inner) : 0; /* there is one outer index when a is 0 */
    p->scale_axis = (qd_i32)inner;
    p->scale_inner = inner > 1;
    return QD_OK;
}

/* The limits of y's codes; small floats have none. */
static qd_status check_codes(qd_node *n, const char *op, qd_format codes, qd_quantize_linear_params *p) {
    p->code = qd_code_of(codes);
    p->small = codes == QD_FORMAT_F8E4M3   ? QD_SMALL_F8E4M3
               : codes == QD_FORMAT_F8E5M2 ? QD_SMALL_F8E5M2
               : codes == QD_FORMAT_F4E2M1 ? QD_SMALL_F4E2M1
                                           : 0;
    p->min = n->op == QD_OP_QUANTIZE_LINEAR ? n->attrs.quantize_linear.min : 0;
    p->max = n->op == QD_OP_QUANTIZE_LINEAR ? n->attrs.quantize_linear.max : 0;
    const bool overflow = n->op == QD_OP_QUANTIZE_LINEAR && n->attrs.quantize_linear.overflow;
    if (overflow && p->small == QD_SMALL_F8E4M3) p->small = QD_SMALL_F8E4M3_OVERFLOW;
    if (overflow && p->small == QD_SMALL_F8E5M2) p->small = QD_SMALL_F8E5M2_OVERFLOW;
    if (p->small) {
        p->code = codes == QD_FORMAT_F4E2M1 ? QD_CODE(4, 0) : QD_CODE(8, 0);
        if (!n->in[2] && !p->min && !p->max && !p->zero_first && !p->away) return QD_OK;
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: %s has no zero point and no limits, and no halves away from zero", op,
                       qd_format_get(codes)->name);
    }
    int64_t min, max;
    qd_code_range(codes, &min, &max);
    if (!p->min && !p->max) {
        p->min = (qd_i32)min;
        p->max = (qd_i32)max;
    }
    if (p->min <= p->max && p->min >= min && p->max <= max) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "%s: the limits %d … %d are no range of %s codes", op, p->min, p->max,
                   qd_format_get(codes)->name);
}

/* Which scale an element has: fills size to zero of *p. The first inputs are x, scale and perhaps zero, the first
 * result has x's shape. */
static qd_status place_linear(const qd_node *n, int axis, int64_t block, qd_quantize_linear_params *p) {
    const char *op = qd_op_get(n->op)->name;
    const qd_tensor_desc x = qd_sized(n, n->in[0]), y = qd_sized(n, n->out[0]), scale = qd_sized(n, n->in[1]);
    if (!same_shape(&x, &y)) return qd_fail(QD_ERR_ARGUMENT, "%s: x and y must have the same shape", op);
    if (n->dynamic && x.shape[0] != n->max_rows) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: the first dimension of x must be that of the run when that of scale is",
                       op);
    }
    if (n->in[1]->base) return qd_fail(QD_ERR_UNSUPPORTED, "%s: scale cannot be a view; pass a whole tensor", op);
    qd_status status = QD_OK;
    QD_TRY(qd_count_check(op, x.shape[0]));
    p->size = 1;
    for (int i = 1; i < x.rank; i++) { /* dimensions, then products: nothing overflows on the way */
        QD_TRY(qd_count_check(op, x.shape[i]));
        const int64_t size = (int64_t)p->size * x.shape[i];
        QD_TRY(qd_count_check(op, size));
        p->size = (qd_i32)size;
    }
    p->cols = x.rank > 1 ? (qd_i32)x.shape[x.rank - 1] : 0;
    QD_TRY(place_scales(op, &x, &scale, axis, block, p));
    p->zero = n->in[2] ? QD_EACH : QD_ABSENT;
    if (n->in[2]) {
        const qd_tensor_desc zero = qd_sized(n, n->in[2]);
        if (!same_shape(&zero, &scale) && !(is_one(&zero) && is_one(&scale))) {
            return qd_fail(QD_ERR_ARGUMENT, "%s: zero must have the shape of scale", op);
        }
    }
error:
    return status;
}

static qd_status check_linear(qd_node *n, const qd_symbols *s) {
    (void)s;
    const bool quantize = n->op == QD_OP_QUANTIZE_LINEAR;
    qd_quantize_linear_params *p = &n->params.quantize_linear;
    n->params_bytes = sizeof *p;
    *p = (qd_quantize_linear_params){0};
    if (quantize) {
        p->reciprocal = n->attrs.quantize_linear.reciprocal;
        p->away = n->attrs.quantize_linear.away;
        p->zero_first = n->attrs.quantize_linear.zero_first;
    }
    const qd_tensor *codes = quantize ? n->out[0] : n->in[0], *values = quantize ? n->in[0] : n->out[0];
    p->is_f16 = values->desc.format == QD_FORMAT_F16;
    qd_status status = QD_OK;
    QD_TRY(place_linear(n, n->attrs.quantize_linear.axis, n->attrs.quantize_linear.block, p));
    QD_TRY(check_codes(n, qd_op_get(n->op)->name, codes->desc.format, p));
error:
    return status;
}

/* ---- QUANTIZE_LINEAR, DEQUANTIZE_LINEAR: random problems ---------------------------------------------------- */

static bool is_small(qd_format f) {
    return f == QD_FORMAT_F8E4M3 || f == QD_FORMAT_F8E5M2 || f == QD_FORMAT_F4E2M1;
}

/* Draws the shapes of x, of which one dimension has up to `most`, and of its scales, and the attributes that say which
 * element has which; block NULL: no blocks. */
static void choose_place(qd_choices *c, qd_problem *p, int64_t most, int *axis_out, int64_t *block_out) {
    const int rank = (int)qd_choose(c, "rank", 1, QD_MAX_RANK);
    const int64_t before_last = qd_choose(c, "longest", 0, 5) - 3;
    const int longest = rank - 1 - (before_last > 0 ? (int)before_last % rank : 0);
    qd_tensor_desc x = {p->formats[0], rank, {0}}, scale = {QD_FORMAT_F32, 1, {1}};
    static const char *const names[] = {"d0", "d1", "d2", "d3"};
    for (int i = 0; i < rank; i++)
        x.shape[i] = qd_choose_size(c, names[i], i == longest ? most : 3 + c->size / 2);
    const int axis = (int)qd_choose(c, "axis", 0, 3) % rank;
    const int64_t kind = qd_choose(c, "scales", 0, block_out ? 2 : 1);
    *axis_out = qd_choose(c, "axis from end", 0, 1) ? axis - rank : axis;
    if (kind == 1) scale.shape[0] = x.shape[axis];
    if (kind == 2) {
        const int64_t dim = x.shape[axis];
        const int64_t block = qd_choose(c, "block", 1, dim + 2);
        *block_out = block;
        scale = x;
        scale.shape[axis] = (dim + block - 1) / block;
    }
    p->desc[0] = p->desc[QD_MAX_IN] = x;
    p->desc[1] = p->desc[2] = scale;
}

static void choose_linear(qd_choices *c, qd_problem *p) {
    int axis;
    int64_t block = 0;
    choose_place(c, p, 70 * c->size, &axis, &block);
    p->attrs.quantize_linear.axis = axis;
    p->attrs.quantize_linear.block = block;
    const qd_format codes = p->formats[p->op == QD_OP_QUANTIZE_LINEAR ? QD_MAX_IN : 0];
    p->present[2] = !is_small(codes) && qd_choose(c, "with zero", 0, 3) != 0;
    if (p->op != QD_OP_QUANTIZE_LINEAR) return;
    p->attrs.quantize_linear.reciprocal = qd_choose(c, "reciprocal", 0, 1) != 0;
    if (is_small(codes)) p->attrs.quantize_linear.overflow = qd_choose(c, "overflow", 0, 1) != 0;
    if (is_small(codes)) return;
    p->attrs.quantize_linear.zero_first = qd_choose(c, "zero first", 0, 1) != 0;
    p->attrs.quantize_linear.away = qd_choose(c, "away", 0, 1) != 0;
    if (!qd_choose(c, "clamp", 0, 1)) return;
    int64_t min, max;
    qd_code_range(codes, &min, &max);
    p->attrs.quantize_linear.min = (int32_t)qd_choose(c, "min", min, 0);
    p->attrs.quantize_linear.max = (int32_t)qd_choose(c, "max", 1, max);
}

/* Scale i: powers of two (ties), any, or what only a broken model has. Does not depend on the others. */
static float nth_scale(int64_t style, uint64_t stream, int64_t i) {
    static const float nasty[] = {0, -0.0f, 1e-40f, 0x1p-149f, 3e38f, 0x1p-126f, INFINITY, NAN, -0.25f, 1};
    uint64_t own = stream ^ (uint64_t)i * 0x2545f4914f6cdd1du;
    const uint64_t r = qd_next_random(&own);
    switch (style) {
        case 0:
            return ldexpf(1, (int)(r % 4) - 2);
        case 1:
            return ldexpf(1 + (float)qd_between(&own, 0, 999999) * 1e-6f, (int)(r % 8) - 6);
        case 2:
            return ldexpf(1 + (float)qd_between(&own, 0, 999999) * 1e-6f, (int)(r % 160) - 110);
        default:
            return nasty[r % (sizeof nasty / sizeof *nasty)];
    }
}

/* A multiple of a half, small or as large as codes of the format; or in the middle of two small floats. */
static float nth_step(qd_format codes, uint64_t *stream) {
    static const int largest[] = {[QD_FORMAT_F8E4M3] = 0x7f, [QD_FORMAT_F8E5M2] = 0x7c, [QD_FORMAT_F4E2M1] = 8};
    if (is_small(codes)) {
        const uint8_t code = (uint8_t)qd_between(stream, 0, largest[codes] - 2), next = (uint8_t)(code + 1);
        const float a = codes == QD_FORMAT_F8E4M3   ? qd_f8e4m3_to_float(code) + qd_f8e4m3_to_float(next)
                        : codes == QD_FORMAT_F8E5M2 ? qd_f8e5m2_to_float(code) + qd_f8e5m2_to_float(next)
                                                    : qd_f4e2m1_to_float(code) + qd_f4e2m1_to_float(next);
        return qd_between(stream, 0, 1) ? a * 0.5f : a * -0.5f;
    }
    const int bits = QD_CODE_BITS(qd_code_of(codes));
    const int64_t k = qd_between(stream, -((int64_t)4 << bits), (int64_t)4 << bits);
    return (float)(k >> qd_between(stream, 0, bits)) * 0.5f;
}

/* Values at ties, beside them, far from all of them, and not finite. */
static float nth_value(int64_t style, qd_format codes, float scale, uint64_t *stream) {
    static const float nasty[] = {0, -0.0f, 1e-40f, -0x1p-149f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN, 8388609};
    const float tie = nth_step(codes, stream) * scale;
    const qd_u32 bits = qd_as_u32(tie);
    const int64_t beside = qd_between(stream, -1, 1);
    switch (style) {
        case 0:
            return tie;
        case 1:
            return bits & 0x7fffffffu ? qd_as_f32(bits + (qd_u32)beside) : tie;
        case 2:
            return tie * (1 + (float)qd_between(stream, -1000, 1000) * 1e-4f);
        default:
            return nasty[qd_next_random(stream) % (sizeof nasty / sizeof *nasty)];
    }
}

static void fill_values(qd_choices *c, const qd_problem *p, qd_format codes, int64_t scale_style, int axis,
                        int64_t block, void *data) {
    qd_quantize_linear_params place = {0};
    const qd_tensor_desc *x = &p->desc[0];
    place_scales("", x, &p->desc[1], axis, block, &place);
    const uint64_t scales = qd_stream(c, "scales");
    const int64_t style = qd_choose(c, "value style", 0, 4), n = qd_span(x, 0, x->rank);
    uint64_t stream = qd_stream(c, "values");
    for (int64_t e = 0; e < n; e++) {
        const int64_t line = e / place.inner;
        const int64_t at = line / place.axis * place.scale_outer + line % place.axis / place.block * place.scale_axis +
                           e % place.inner * place.scale_inner;
        const float scale = nth_scale(scale_style, scales, at);
        /* Style 4: some of each. */
        const float value = nth_value(style < 4 ? style : qd_between(&stream, 0, 3), codes, scale, &stream);
        if (x->format == QD_FORMAT_F16) {
            ((uint16_t *)data)[e] = qd_float_to_half(value);
        } else {
            ((float *)data)[e] = value;
        }
    }
}

static void fill_scales(uint64_t stream, int64_t style, int64_t n, float *data) {
    for (int64_t k = 0; k < n; k++)
        data[k] = nth_scale(style, stream, k);
}

static bool fill_linear(qd_choices *c, const qd_problem *p, int i, void *data) {
    const bool quantize = p->op == QD_OP_QUANTIZE_LINEAR;
    const qd_format codes = p->formats[quantize ? QD_MAX_IN : 0];
    const qd_tensor_desc *d = &p->desc[i];
    const int64_t n = qd_span(d, 0, d->rank), style = qd_choose(c, "scale style", 0, 3);
    uint64_t stream = qd_stream(c, i ? "scales" : "codes");
    switch (i) {
        case 0:
            if (quantize) {
                fill_values(c, p, codes, style, p->attrs.quantize_linear.axis, p->attrs.quantize_linear.block, data);
            }
            if (codes != QD_FORMAT_F4E2M1) return quantize; /* the usual bytes */
            for (int64_t r = 0, rows = qd_span(d, 0, d->rank - 1); !quantize && r < rows; r++) {
                const int64_t bytes = (d->shape[d->rank - 1] + 1) / 2;
                for (int64_t b = 0; b < bytes; b++)
                    ((uint8_t *)data)[r * bytes + b] = (uint8_t)qd_next_random(&stream);
            }
            return true;
        case 1:
            fill_scales(stream, style, n, data);
            return true;
        default:
            qd_fill_zeros(c, "zero", codes, n, data);
            /* And some that are no codes. */
            for (int64_t k = 0; k < n && qd_choose(c, "wild zeros", 0, 3) == 3; k += 3)
                ((int32_t *)data)[k] = (int32_t)qd_next_random(&stream);
            return true;
    }
}

const qd_op_rules qd_rules_quantize_linear = {
    .attrs = true, .check = check_linear, .choose = choose_linear, .fill = fill_linear};

/* ---- FAKE_QUANTIZE, FAKE_QUANTIZE_GRAD ---------------------------------------------------------------------- */

enum { MOST_CODE = 1 << 24 }; /* codes are exact as floats */

/* Scales and zero points that are known already; those that a run brings are its own affair. */
static qd_status check_known(const qd_node *n, const qd_quantize_linear_params *p) {
    const char *op = qd_op_get(n->op)->name;
    const int64_t count = qd_span(&n->in[1]->desc, 0, n->in[1]->desc.rank);
    const void *scales = NULL, *zeros = NULL;
    qd_status status = QD_OK;
    if (qd_is_constant(n->in[1])) QD_TRY(qd_constant_bytes(n->in[1], &scales));
    if (qd_is_constant(n->in[2])) QD_TRY(qd_constant_bytes(n->in[2], &zeros));
    for (int64_t i = 0; i < count; i++) {
        const float scale = scales ? ((const float *)scales)[i] : 1;
        const int32_t zero = zeros ? ((const int32_t *)zeros)[i] : p->min;
        if (!(scale > 0) || !isfinite(scale) || !isfinite(1 / scale)) {
            return qd_fail(QD_ERR_ARGUMENT, "%s: scale %lld is %g; it must be positive and have a finite reciprocal",
                           op, (long long)i, (double)scale);
        }
        if (zero < p->min || zero > p->max) {
            return qd_fail(QD_ERR_ARGUMENT, "%s: zero point %lld is %d, outside of %d … %d", op, (long long)i, zero,
                           p->min, p->max);
        }
    }
error:
    return status;
}

/* What the gradient has besides. */
static qd_status check_gradient(qd_node *n, const qd_quantize_linear_params *p) {
    const char *op = qd_op_get(n->op)->name;
    const qd_tensor_desc x = qd_sized(n, n->in[0]), dy = qd_sized(n, n->in[3]), scale = qd_sized(n, n->in[1]);
    if (!same_shape(&x, &dy)) return qd_fail(QD_ERR_ARGUMENT, "%s: x and dy must have the same shape", op);
    for (int i = 1; i < 3; i++) {
        const qd_tensor_desc sum = qd_sized(n, n->out[i]);
        if (!same_shape(&sum, &scale))
            return qd_fail(QD_ERR_ARGUMENT, "%s: dscale and dzero must have the shape of scale", op);
        if (n->out[i]->base)
            return qd_fail(QD_ERR_UNSUPPORTED, "%s: dscale and dzero cannot be views; pass whole tensors", op);
        if (n->out[i]->desc.shape[0] == QD_ROWS && (!p->scale_axis || p->inner != p->size)) {
            return qd_fail(QD_ERR_ARGUMENT, "%s: dscale and dzero have the rows of the run only where the scales do",
                           op);
        }
    }
    const float factor = n->attrs.fake_quantize.factor;
    if (!isfinite(factor)) return qd_fail(QD_ERR_ARGUMENT, "%s: a factor of %g", op, (double)factor);
    n->params.fake_quantize.factor = factor == 0 ? 1 : factor;
    n->params.fake_quantize.clip = n->attrs.fake_quantize.clip;
    return QD_OK;
}

static qd_status check_fake(qd_node *n, const qd_symbols *s) {
    (void)s;
    const char *op = qd_op_get(n->op)->name;
    const int32_t min = n->attrs.fake_quantize.min, max = n->attrs.fake_quantize.max;
    qd_quantize_linear_params *p = &n->params.fake_quantize.place;
    n->params_bytes = sizeof n->params.fake_quantize;
    n->params.fake_quantize = (qd_fake_quantize_params){.factor = 1};
    if (min >= max || min < -MOST_CODE || max > MOST_CODE) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: the codes %d … %d; min < max is needed, both of at most 2^24 in magnitude",
                       op, min, max);
    }
    qd_status status = QD_OK;
    QD_TRY(place_linear(n, n->attrs.fake_quantize.axis, 0, p));
    p->code = QD_CODE(32, 1);
    p->min = min;
    p->max = max;
    QD_TRY(check_known(n, p));
    if (n->op == QD_OP_FAKE_QUANTIZE_GRAD) QD_TRY(check_gradient(n, p));
error:
    return status;
}

/* The codes of a format, or any few of them, far from 0 too. */
static void choose_fake(qd_choices *c, qd_problem *p) {
    static const qd_format formats[] = {QD_FORMAT_I4, QD_FORMAT_U2, QD_FORMAT_I8, QD_FORMAT_U8};
    int axis;
    int64_t min, max;
    const bool chunks = p->op == QD_OP_FAKE_QUANTIZE_GRAD && qd_choose(c, "chunks", 0, 3) == 3;
    choose_place(c, p, chunks ? 3 * QD_FAKE_CHUNK : 70 * c->size, &axis, NULL);
    qd_code_range(formats[qd_choose(c, "codes", 0, 3)], &min, &max);
    if (qd_choose(c, "any codes", 0, 3) == 3) {
        min = qd_choose(c, "min", -MOST_CODE, MOST_CODE - 1);
        max = min + qd_choose(c, "range", 1, MOST_CODE - min < 300 ? MOST_CODE - min : 300);
    }
    p->attrs.fake_quantize.axis = axis;
    p->attrs.fake_quantize.min = (int32_t)min;
    p->attrs.fake_quantize.max = (int32_t)max;
    if (p->op != QD_OP_FAKE_QUANTIZE_GRAD) return;
    p->desc[3] = p->desc[0];
    p->desc[QD_MAX_IN + 1] = p->desc[QD_MAX_IN + 2] = p->desc[1];
    p->attrs.fake_quantize.clip = qd_choose(c, "clip", 0, 1) != 0;
    p->attrs.fake_quantize.factor = (float)qd_choose(c, "factor", 0, 3) * 0.3f;
}

static bool fill_fake(qd_choices *c, const qd_problem *p, int i, void *data) {
    const qd_tensor_desc *d = &p->desc[i];
    const int64_t n = qd_span(d, 0, d->rank), style = qd_choose(c, "scale style", 0, 3);
    const int32_t min = p->attrs.fake_quantize.min, max = p->attrs.fake_quantize.max;
    uint64_t zeros = qd_stream(c, "zeros");
    switch (i) {
        case 0:
            fill_values(c, p, QD_FORMAT_I8, style, p->attrs.fake_quantize.axis, 0, data);
            return true;
        case 1:
            fill_scales(qd_stream(c, "scales"), style, n, data);
            return true;
        case 2:
            for (int64_t k = 0, wild = qd_choose(c, "wild zeros", 0, 1); k < n; k++)
                ((int32_t *)data)[k] = (int32_t)qd_between(&zeros, min - wild, max + wild);
            return true;
        default:
            return false;
    }
}

const qd_op_rules qd_rules_fake_quantize = {
    .attrs = true, .check = check_fake, .choose = choose_fake, .fill = fill_fake};

/* ---- DYNAMIC_QUANTIZE --------------------------------------------------------------------------------------- */

static qd_status check_dynamic(qd_node *n, const qd_symbols *s) {
    const qd_format y = n->out[0]->desc.format;
    qd_dynamic_quantize_params *p = &n->params.dynamic_quantize;
    n->params_bytes = sizeof *p;
    *p = (qd_dynamic_quantize_params){.cols = (qd_i32)s->of['C' - 'A'],
                                      .per_row = qd_share(n->out[1]) == QD_EACH,
                                      .symmetric = n->attrs.dynamic_quantize.symmetric,
                                      .code = qd_code_of(y)};
    if (p->symmetric && y != QD_FORMAT_I8) {
        return qd_fail(QD_ERR_UNSUPPORTED, "dynamic_quantize: symmetric codes are i8, not %s", qd_format_get(y)->name);
    }
    if (qd_share(n->out[1]) != qd_share(n->out[2])) {
        return qd_fail(QD_ERR_ARGUMENT, "dynamic_quantize: scale and zero must both be one, or one for each row");
    }
    return QD_OK;
}

static void choose_dynamic(qd_choices *c, qd_problem *p) {
    p->s.of['R' - 'A'] = qd_choose_size(c, "R", 6 * c->size);
    p->s.of['C' - 'A'] = qd_choose_size(c, "C", 100 * c->size);
    /* All of a kind: the operator column alone would let them differ. */
    const int64_t scales = qd_choose(c, "per row", 0, 1) ? p->s.of['R' - 'A'] : 1;
    p->desc[QD_MAX_IN + 1] = (qd_tensor_desc){QD_FORMAT_F32, 1, {scales}};
    p->desc[QD_MAX_IN + 2] = (qd_tensor_desc){QD_FORMAT_I32, 1, {scales}};
    if (p->formats[QD_MAX_IN] == QD_FORMAT_I8)
        p->attrs.dynamic_quantize.symmetric = qd_choose(c, "symmetric", 0, 1) != 0;
}

/* Rows of one sign, of both, of zeros; with ties; with values that are not finite or hardly more than zero. */
static bool fill_dynamic(qd_choices *c, const qd_problem *p, int i, void *data) {
    if (i) return false;
    static const float nasty[] = {INFINITY, -INFINITY, NAN, 1e-40f, -1e-40f, 3e38f, -3e38f, -0.0f};
    const int64_t style = qd_choose(c, "x style", 0, 6), cols = p->desc[0].shape[1], rows = p->desc[0].shape[0];
    uint64_t stream = qd_stream(c, "x");
    const float least = 0.5f * (float)qd_between(&stream, 0, 510);
    for (int64_t r = 0; r < rows; r++) {
        const float size = ldexpf(1, (int)qd_between(&stream, -8, 8));
        const int64_t sign = qd_between(&stream, 0, 2);
        for (int64_t k = 0; k < cols; k++) {
            float v = (float)qd_between(&stream, -1000000, 1000000) * 1e-6f * size;
            if (style == 1 && sign) v = sign == 1 ? fabsf(v) : -fabsf(v);
            /* Scale 1, multiples of a half, the zero point too: ties; the same for symmetric codes. */
            if (style == 2) v = k < 2 ? (k ? 255 : 0) - least : 0.5f * (float)qd_between(&stream, 0, 510) - least;
            if (style == 6) v = k ? 0.5f * (float)qd_between(&stream, -254, 254) : 127;
            if (style == 3) v = r % 2 ? 0.0f : -0.0f;
            if (style == 4 && !qd_between(&stream, 0, 20)) v = nasty[qd_next_random(&stream) % 8];
            if (style == 5) v = v * 1e-42f / size; /* denormals: a scale that may be 0 */
            ((float *)data)[r * cols + k] = v;
        }
    }
    return true;
}

const qd_op_rules qd_rules_dynamic_quantize = {
    .attrs = true, .check = check_dynamic, .choose = choose_dynamic, .fill = fill_dynamic};
