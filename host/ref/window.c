/* Windows over images: convolution, pooling, and nearest neighbours. */
#include "ref/ref.h"

/* Code i of 8 bits. */
static int32_t byte_at(const void *codes, int64_t i, int32_t code) {
    return QD_CODE_SIGNED(code) ? ((const int8_t *)codes)[i] : ((const uint8_t *)codes)[i];
}

/* Elements of x and y before image r, channel c, line h, column w. */
static int64_t at_x(const qd_window_params *p, int64_t r, int64_t c, int64_t h, int64_t w) {
    return r * p->channels * p->in_h * p->in_w + c * p->x_channel + h * p->x_h + w * p->x_w;
}

static int64_t at_y(const qd_window_params *p, int64_t r, int64_t c, int64_t h, int64_t w) {
    return r * p->out_channels * p->out_h * p->out_w + c * p->y_channel + h * p->y_h + w * p->y_w;
}

static bool is_inside(const qd_window_params *p, int64_t h, int64_t w) {
    return h >= 0 && h < p->in_h && w >= 0 && w < p->in_w;
}

/* ---- CONV_INT ----------------------------------------------------------------------------------------------- */

/* The sum behind output channel o at line and column `at` of image r. */
static int64_t conv_sum(const qd_conv_int_params *p, const void *x, const void *w, int64_t r, int64_t o,
                        const int64_t at[2], int32_t x_zero, int32_t w_zero) {
    const qd_window_params *v = &p->window;
    const int64_t per_group = v->channels / p->groups, group = o / (v->out_channels / p->groups);
    const int64_t row = o * p->w_row; /* the channel's codes */
    int64_t sum = 0;
    for (int64_t ky = 0; ky < v->kernel_h; ky++) {
        for (int64_t kx = 0; kx < v->kernel_w; kx++) {
            const int64_t in_h = at[0] * v->stride_h - v->top + ky * v->dilation_h;
            const int64_t in_w = at[1] * v->stride_w - v->left + kx * v->dilation_w;
            if (!is_inside(v, in_h, in_w)) continue;
            for (int64_t c = 0; c < per_group; c++) {
                const int64_t from = at_x(v, r, group * per_group + c, in_h, in_w);
                const int64_t k = c * p->w_channel + ky * p->w_h + kx * p->w_w;
                sum += (qd_ref_code(w, row + k, p->w_code) - w_zero) * (byte_at(x, from, p->x_code) - x_zero);
            }
        }
    }
    return sum;
}

/* The sum of a convolution's code and the residual's, as a code. */
static int32_t add_residual(const qd_conv_add_int_params *p, int32_t code, int32_t residual) {
    const qd_binary_params *s = &p->add;
    const int32_t a = p->residual_first ? residual : code, b = p->residual_first ? code : residual;
    return qd_to_code(qd_ref_sum(s, a - s->a_zero, b - s->b_zero), s->y.zero_point, s->y.min, s->y.max);
}

/* `in` is as CONV_INT has it; `residual`: that of CONV_ADD_INT, or NULL. */
static void convolve(const qd_node *n, const qd_operand in[], const qd_operand *residual, const qd_operand *out,
                     int64_t rows) {
    const qd_conv_int_params *p = &n->params.conv_int;
    const qd_window_params *v = &p->window;
    const int64_t area = (int64_t)v->out_h * v->out_w;
    const qd_conv_add_int_params *with = &n->params.conv_add_int;
    const int32_t residual_code = !residual ? 0 : with->residual_first ? with->add.a_code : with->add.b_code;
    const int32_t x_zero = qd_ref_zero(&in[3], p->x_zero, 0, p->x_code);
    for (int64_t i = 0; i < rows * v->out_channels * area; i++) {
        const int64_t r = i / area / v->out_channels, o = i / area % v->out_channels;
        const int64_t h = i % area / v->out_w, w = i % v->out_w;
        const int32_t w_zero = qd_ref_zero(&in[2], p->w_zero, o, p->w_code);
        uint32_t sum = (uint32_t)conv_sum(p, in[1].data, in[0].data, r, o, (int64_t[]){h, w}, x_zero, w_zero);
        if (p->bias != QD_ABSENT) sum += (uint32_t)((const int32_t *)in[4].data)[o];
        const int64_t at = at_y(v, r, o, h, w);
        int32_t y = qd_ref_finish(&p->y, &in[5], o, (int32_t)sum);
        if (residual) y = add_residual(with, y, byte_at(residual->data, at, residual_code));
        qd_ref_put_code(out->data, at, p->y.code, y);
    }
}

qd_status qd_ref_conv_int(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    convolve(n, in, NULL, out, rows);
    return QD_OK;
}

qd_status qd_ref_conv_add_int(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_operand of_conv[] = {in[0], in[1], in[4], in[5], in[6], in[2]};
    convolve(n, of_conv, &in[3], out, rows);
    return QD_OK;
}

/* ---- POOL --------------------------------------------------------------------------------------------------- */

/* round(a / b), b > 0: halves away from zero, or up. */
static int64_t divide_away(int64_t a, int64_t b) {
    return a < 0 ? -((-a + b / 2) / b) : (a + b / 2) / b;
}

static int64_t divide_up(int64_t a, int64_t b) {
    const int64_t twice = 2 * a + b;
    return twice / (2 * b) - (twice % (2 * b) < 0);
}

/* The mean of `count` codes whose sum, without their zero points, is `sum`; in floats it is `floats`. */
static int32_t mean(const qd_pool_params *p, int32_t sum, float floats, int32_t count) {
    int64_t y;
    switch (p->mode) {
        case QD_MODE_FLOAT: /* each operation is rounded to float32 */
            if (p->float_sum) {
                y = qd_round_even_i32(floats / (float)count / p->y_scale + (float)p->y_zero);
            } else {
                y = (int64_t)qd_round_even_i32((float)sum * (p->x_scale / (p->y_scale * (float)count))) + p->y_zero;
            }
            break;
        case QD_MODE_FIXED:
            y = divide_up(sum, count) + p->y_zero;
            break;
        default: /* TensorFlow Lite: of the codes as they are */
            y = divide_away(sum + (int64_t)count * p->x_zero, count);
            break;
    }
    return (int32_t)(y < p->min ? p->min : y > p->max ? p->max : y);
}

static int32_t pool(const qd_pool_params *p, const void *x, int64_t r, int64_t c, int64_t h, int64_t w) {
    const qd_window_params *v = &p->window;
    int32_t count = 0, max = p->min;
    int64_t sum = 0;
    float floats = 0;
    for (int64_t ky = 0; ky < v->kernel_h; ky++) {
        for (int64_t kx = 0; kx < v->kernel_w; kx++) {
            const int64_t in_h = h * v->stride_h - v->top + ky * v->dilation_h;
            const int64_t in_w = w * v->stride_w - v->left + kx * v->dilation_w;
            if (p->count_padding) count += in_h < p->padded_h && in_w < p->padded_w;
            if (!is_inside(v, in_h, in_w)) continue;
            const int32_t code = byte_at(x, at_x(v, r, c, in_h, in_w), p->x_code);
            if (!p->count_padding) count++;
            sum += code - p->x_zero;
            floats += p->x_scale * (float)(code - p->x_zero);
            if (code > max) max = code;
        }
    }
    return p->average ? mean(p, (int32_t)sum, floats, count) : qd_to_code(max, 0, p->min, p->max);
}

qd_status qd_ref_pool(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_pool_params *p = &n->params.pool;
    const qd_window_params *v = &p->window;
    const int64_t area = (int64_t)v->out_h * v->out_w;
    for (int64_t i = 0; i < rows * v->channels * area; i++) {
        const int64_t r = i / area / v->channels, c = i / area % v->channels;
        const int64_t h = i % area / v->out_w, w = i % v->out_w;
        qd_ref_put_code(out[0].data, at_y(v, r, c, h, w), p->x_code, pool(p, in[0].data, r, c, h, w));
    }
    return QD_OK;
}

/* ---- RESIZE ------------------------------------------------------------------------------------------------- */

/* floor(a / b), b > 0. */
static int64_t divide_down(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

/* The input that result o of n is, among m. */
static int64_t nearest(const qd_resize_params *p, int64_t o, int64_t m, int64_t n) {
    int64_t a, b; /* the coordinate is a / b */
    switch (p->coordinates) {
        case QD_RESIZE_ASYMMETRIC:
            a = o * m;
            b = n;
            break;
        case QD_RESIZE_HALF_PIXEL:
            a = (2 * o + 1) * m - n;
            b = 2 * n;
            break;
        default:
            a = o * (m - 1);
            b = n > 1 ? n - 1 : 1;
            break;
    }
    int64_t i;
    switch (p->nearest) {
        case QD_NEAREST_FLOOR:
            i = divide_down(a, b);
            break;
        case QD_NEAREST_CEIL:
            i = -divide_down(-a, b);
            break;
        case QD_NEAREST_HALF_DOWN:
            i = -divide_down(b - 2 * a, 2 * b);
            break;
        default:
            i = divide_down(2 * a + b, 2 * b);
            break;
    }
    return i < 0 ? 0 : i >= m ? m - 1 : i;
}

qd_status qd_ref_resize(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_resize_params *p = &n->params.resize;
    const qd_window_params *v = &p->window;
    const int64_t area = (int64_t)v->out_h * v->out_w;
    for (int64_t i = 0; i < rows * v->channels * area; i++) {
        const int64_t r = i / area / v->channels, c = i / area % v->channels;
        const int64_t h = i % area / v->out_w, w = i % v->out_w;
        const int64_t from = at_x(v, r, c, nearest(p, h, v->in_h, v->out_h), nearest(p, w, v->in_w, v->out_w));
        ((uint8_t *)out[0].data)[at_y(v, r, c, h, w)] = ((const uint8_t *)in[0].data)[from];
    }
    return QD_OK;
}
