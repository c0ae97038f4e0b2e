/* Elements that move: other shapes, concatenation, padding, resizing. */
#include <math.h>
#include <string.h>

#include "operators.h"

/* ---- Other shapes ------------------------------------------------------------------------------------------- */

bool tfl_same_meaning(tfl_build *b, const tfl_operand *x, const tfl_operand *y) {
    if (x->host->type != y->host->type) return tfl_fail(b, "input and output differ in type");
    if (x->format == QD_FORMAT_I8 || x->format == QD_FORMAT_U8) return tfl_same_quant(b, x, y);
    if (x->format == QD_FORMAT_F32 || x->format == QD_FORMAT_I32) return true;
    return tfl_fail(b, "the type %d is not known", (int)x->host->type);
}

/* The shape that a RESHAPE asks for, with a -1 in numbers. */
static bool wanted_shape(tfl_build *b, const tfl_operand *x, tfl_shape *shape) {
    const TfLiteReshapeParams *p = b->node->params;
    tfl_operand wanted;
    if (!tfl_input_optional(b, 1, &wanted)) return false;
    memset(shape, 0, sizeof *shape);
    if (wanted.host) {
        if (!tfl_integers(b, &wanted, TFL_MAX_RANK, shape->of, &shape->rank)) return false;
    } else {
        if (!p || p->num_dimensions < 0 || p->num_dimensions > TFL_MAX_RANK) return tfl_fail(b, "no shape is given");
        shape->rank = p->num_dimensions;
        for (int i = 0; i < shape->rank; i++)
            shape->of[i] = p->shape[i];
    }
    int64_t product = 1;
    int open = -1;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->of[i] == -1 && open < 0) {
            open = i;
            continue;
        }
        if (shape->of[i] < 1 || shape->of[i] > INT32_MAX)
            return tfl_fail(b, "a dimension of %lld", (long long)shape->of[i]);
        product *= shape->of[i];
        if (product > INT32_MAX) return tfl_fail(b, "a shape of more than 2^31 elements");
    }
    if (open >= 0) shape->of[open] = tfl_elements(&x->shape) / product;
    return open < 0 || shape->of[open] > 0 ||
           tfl_fail(b, "%lld elements do not fit the shape", (long long)tfl_elements(&x->shape));
}

bool tfl_reshape(tfl_build *b) {
    tfl_operand x, y;
    tfl_shape shape;
    return tfl_counts(b, 1, 2, 1) && tfl_input(b, 0, &x) && tfl_output(b, 0, &y) && tfl_same_meaning(b, &x, &y) &&
           wanted_shape(b, &x, &shape) && tfl_alias(b, &x, &y, &shape);
}

bool tfl_squeeze(tfl_build *b) {
    const TfLiteSqueezeParams *p = b->node->params;
    tfl_operand x, y;
    unsigned gone = 0;
    if (!tfl_counts(b, 1, 1, 1) || !tfl_input(b, 0, &x) || !tfl_output(b, 0, &y) || !tfl_same_meaning(b, &x, &y))
        return false;
    if (p->num_squeeze_dims < 0 || p->num_squeeze_dims > TFL_MAX_RANK)
        return tfl_fail(b, "too many dimensions to remove");
    for (int i = 0; i < p->num_squeeze_dims; i++) {
        int axis;
        if (!tfl_axis(b, p->squeeze_dims[i], x.shape.rank, &axis)) return false;
        if (x.shape.of[axis] != 1) return tfl_fail(b, "dimension %d is not 1", axis);
        gone |= 1u << axis;
    }
    tfl_shape shape = {0};
    for (int i = 0; i < x.shape.rank; i++) {
        const bool removed = p->num_squeeze_dims ? gone >> i & 1 : x.shape.of[i] == 1;
        if (!removed) shape.of[shape.rank++] = x.shape.of[i];
    }
    return tfl_alias(b, &x, &y, &shape);
}

bool tfl_expand_dims(tfl_build *b) {
    tfl_operand x, y, at;
    int64_t axis;
    int n, place;
    if (!tfl_counts(b, 2, 2, 1) || !tfl_input(b, 0, &x) || !tfl_input(b, 1, &at) || !tfl_output(b, 0, &y) ||
        !tfl_same_meaning(b, &x, &y) || !tfl_integers(b, &at, 1, &axis, &n)) {
        return false;
    }
    if (x.shape.rank >= TFL_MAX_RANK || axis < -TFL_MAX_RANK || axis > TFL_MAX_RANK)
        return tfl_fail(b, "too many dimensions");
    if (!tfl_axis(b, (int)axis, x.shape.rank + 1, &place)) return false;
    tfl_shape shape = {.rank = x.shape.rank + 1};
    for (int i = 0; i < shape.rank; i++)
        shape.of[i] = i == place ? 1 : x.shape.of[i < place ? i : i - 1];
    return tfl_alias(b, &x, &y, &shape);
}

/* ---- CONCATENATION ------------------------------------------------------------------------------------------ */

enum { MAX_PARTS = 64 };

/* Part i as [outer, size along the axis, inner]. */
static bool read_part(tfl_build *b, int i, int axis, const tfl_operand *y, tfl_shape *shape, qd_tensor **out) {
    tfl_operand x;
    if (!tfl_input(b, i, &x) || !tfl_same_meaning(b, &x, y)) return false;
    if (i == 0) {
        *shape = x.shape;
        shape->of[axis] = 0;
    }
    if (x.shape.rank != shape->rank) return tfl_fail(b, "inputs 0 and %d differ in rank", i);
    qd_tensor_desc d = {x.format, 3, {1, x.shape.of[axis], 1}};
    for (int j = 0; j < shape->rank; j++) {
        if (j != axis && x.shape.of[j] != shape->of[j])
            return tfl_fail(b, "inputs 0 and %d differ in dimension %d", i, j);
        if (j != axis) d.shape[j < axis ? 0 : 2] *= x.shape.of[j];
    }
    shape->of[axis] += x.shape.of[axis];
    return tfl_view(b, &x, &d, out);
}

/* Joins as many at a time as the operator takes; the last one writes y. */
static bool join(tfl_build *b, qd_tensor *parts[], int count, qd_tensor *y) {
    const qd_attrs attrs = {.concat = {.axis = 1}};
    while (count > QD_MAX_IN) {
        qd_tensor_desc d = *qd_tensor_describe(parts[0]);
        for (int i = 1; i < QD_MAX_IN; i++)
            d.shape[1] += qd_tensor_describe(parts[i])->shape[1];
        qd_tensor *joined;
        if (!tfl_inner(b, &d, &joined) || !tfl_op(b, QD_OP_CONCAT, &attrs, parts, QD_MAX_IN, joined)) return false;
        parts[0] = joined;
        count -= QD_MAX_IN - 1;
        memmove(parts + 1, parts + QD_MAX_IN, (size_t)(count - 1) * sizeof *parts);
    }
    return tfl_op(b, QD_OP_CONCAT, &attrs, parts, count, y);
}

bool tfl_concatenation(tfl_build *b) {
    const TfLiteConcatenationParams *p = b->node->params;
    tfl_operand first, y;
    tfl_shape shape;
    qd_tensor *parts[MAX_PARTS];
    int axis;
    if (!tfl_counts(b, 1, MAX_PARTS, 1) || !tfl_input(b, 0, &first) || !tfl_output(b, 0, &y) ||
        !tfl_axis(b, p->axis, first.shape.rank, &axis)) {
        return false;
    }
    if (p->activation != kTfLiteActNone) return tfl_fail(b, "a fused activation");
    for (int i = 0; i < b->node->n_in; i++) {
        if (!read_part(b, i, axis, &y, &shape, &parts[i])) return false;
    }
    qd_tensor_desc d = {y.format, 3, {1, shape.of[axis], 1}};
    for (int i = 0; i < shape.rank; i++) {
        if (i != axis) d.shape[i < axis ? 0 : 2] *= shape.of[i];
    }
    return tfl_result(b, &y, &shape, &d) && join(b, parts, b->node->n_in, y.tensor);
}

/* ---- Padding ------------------------------------------------------------------------------------------------ */

/* The constant of PADV2, or the zero point. */
static bool pad_value(tfl_build *b, const tfl_operand *x, const tfl_operand *y, int32_t *value) {
    qd_quant quant;
    tfl_operand constant;
    if (!tfl_quant(b, y, &quant) || !tfl_input_optional(b, b->node->builtin == kTfLiteBuiltinPadv2 ? 2 : 3, &constant))
        return false;
    *value = quant.zero_point;
    if (!constant.host) return true;
    if (!constant.bytes || tfl_elements(&constant.shape) != 1) return tfl_fail(b, "the value must be one constant");
    if (!tfl_same_quant(b, &constant, x)) return false;
    *value = x->format == QD_FORMAT_U8 ? *(const uint8_t *)constant.bytes : *(const int8_t *)constant.bytes;
    return true;
}

bool tfl_pad(tfl_build *b) {
    const bool mirror = b->node->builtin == kTfLiteBuiltinMirrorPad;
    const TfLiteMirrorPaddingParams *p = b->node->params;
    tfl_operand x, pads, y;
    int64_t list[2 * TFL_MAX_RANK];
    int n;
    qd_attrs attrs = {.pad = {.mode = mirror ? QD_PAD_REFLECT : QD_PAD_CONSTANT}};
    if (!tfl_counts(b, 2, b->node->builtin == kTfLiteBuiltinPadv2 ? 3 : 2, 1) || !tfl_input(b, 0, &x) ||
        !tfl_input(b, 1, &pads) || !tfl_output(b, 0, &y) || !tfl_same_quant(b, &x, &y) ||
        !tfl_integers(b, &pads, 2 * TFL_MAX_RANK, list, &n) || (!mirror && !pad_value(b, &x, &y, &attrs.pad.value))) {
        return false;
    }
    if (mirror && p->mode != kTfLiteMirrorPaddingReflect) return tfl_fail(b, "mirrored with the edge twice");
    if (x.shape.rank > QD_MAX_RANK) return tfl_fail(b, "%d dimensions; %d are the most", x.shape.rank, QD_MAX_RANK);
    if (n != 2 * x.shape.rank) return tfl_fail(b, "%d paddings for %d dimensions", n, x.shape.rank);
    tfl_shape shape = x.shape;
    for (int i = 0; i < shape.rank; i++) {
        if (list[2 * i] < 0 || list[2 * i + 1] < 0 || list[2 * i] > INT32_MAX || list[2 * i + 1] > INT32_MAX)
            return tfl_fail(b, "a negative padding");
        attrs.pad.before[i] = list[2 * i];
        attrs.pad.after[i] = list[2 * i + 1];
        shape.of[i] += list[2 * i] + list[2 * i + 1];
    }
    const qd_tensor_desc x_desc = tfl_desc(x.format, &x.shape), y_desc = tfl_desc(y.format, &shape);
    qd_tensor *in;
    return tfl_view(b, &x, &x_desc, &in) && tfl_result(b, &y, &shape, &y_desc) &&
           tfl_op(b, QD_OP_PAD, &attrs, &in, 1, y.tensor);
}

/* ---- RESIZE_NEAREST_NEIGHBOR -------------------------------------------------------------------------------- */

/* The input that the host takes for output o: in float32. */
static int64_t host_nearest(int64_t o, int64_t in, int64_t out, bool corners, bool half_pixel) {
    const float scale = corners && out > 1 ? (float)(in - 1) / (float)(out - 1) : (float)in / (float)out;
    const float at = ((float)o + (half_pixel ? 0.5f : 0.0f)) * scale;
    const int64_t i = (int64_t)(corners ? roundf(at) : floorf(at));
    return i < in - 1 ? i : in - 1;
}

/* The input that the library takes: exact. */
static int64_t exact_nearest(int64_t o, int64_t in, int64_t out, bool corners, bool half_pixel) {
    int64_t i;
    if (corners) {
        i = out > 1 ? (2 * o * (in - 1) + (out - 1)) / (2 * (out - 1)) : 0; /* halves up */
    } else {
        i = half_pixel ? (2 * o + 1) * in / (2 * out) : o * in / out;
    }
    return i < in - 1 ? i : in - 1;
}

/* Both, for one dimension: refuses the sizes at which the host's float32 leaves the exact place. */
static bool check_nearest(tfl_build *b, int64_t in, int64_t out, bool corners, bool half_pixel) {
    for (int64_t o = 0; o < out; o++) {
        if (host_nearest(o, in, out, corners, half_pixel) == exact_nearest(o, in, out, corners, half_pixel)) continue;
        return tfl_fail(b, "resizing %lld to %lld rounds in float32 to another element at %lld", (long long)in,
                        (long long)out, (long long)o);
    }
    return true;
}

bool tfl_resize_nearest_neighbor(tfl_build *b) {
    const TfLiteResizeNearestNeighborParams *p = b->node->params;
    tfl_operand x, size, y;
    int64_t out[2];
    int n;
    if (!tfl_counts(b, 2, 2, 1) || !tfl_input(b, 0, &x) || !tfl_input(b, 1, &size) || !tfl_output(b, 0, &y) ||
        !tfl_same_quant(b, &x, &y) || !tfl_rank(b, &x, 4) || !tfl_integers(b, &size, 2, out, &n)) {
        return false;
    }
    if (n != 2 || out[0] < 1 || out[1] < 1 || out[0] > 1 << 20 || out[1] > 1 << 20)
        return tfl_fail(b, "two sizes from 1 to %d are needed", 1 << 20);
    if (p->align_corners && p->half_pixel_centers) return tfl_fail(b, "corners and half pixels together");
    for (int i = 0; i < 2; i++) {
        if (!check_nearest(b, x.shape.of[1 + i], out[i], p->align_corners, p->half_pixel_centers)) return false;
    }
    /* Half a pixel: floor(o·m/n + 1/2 · m/n) is the nearest of the library's coordinate, halves up. */
    const qd_attrs attrs = {
        .resize = {.coordinates = p->align_corners        ? QD_RESIZE_ALIGN_CORNERS
                                  : p->half_pixel_centers ? QD_RESIZE_HALF_PIXEL
                                                          : QD_RESIZE_ASYMMETRIC,
                   .nearest = p->align_corners || p->half_pixel_centers ? QD_NEAREST_HALF_UP : QD_NEAREST_FLOOR}};
    const tfl_shape shape = {.rank = 4, .of = {x.shape.of[0], out[0], out[1], x.shape.of[3]}};
    const qd_tensor_desc x_desc = tfl_desc(x.format, &x.shape), y_desc = tfl_desc(y.format, &shape);
    qd_tensor *in;
    return tfl_view(b, &x, &x_desc, &in) && tfl_result(b, &y, &shape, &y_desc) &&
           tfl_op(b, QD_OP_RESIZE, &attrs, &in, 1, y.tensor);
}
