/* MATMUL_INT and CONV_INT: what the host does around the unit's sums.
 *
 * The unit requantizes what it can: FIXED and GEMMLOWP with codes of 8 bits. For the other roundings, and a
 * zero point for each row of x, it gives sums, and the host goes on as the reference does. */
#include "rtl/operators.h"

#include <stdlib.h>
#include <string.h>

#include "qdot/qdot_num.h"
#include "ref/host.h"
#include "ref/ref.h"
#include "rtl/product.h"

/* ---- The end of integer operators --------------------------------------------------------------------------- */

static bool is_9_bits(int32_t x) {
    return x >= -256 && x <= 255;
}

static bool unit_requantizes(const qd_output *y) {
    return y->requant != QD_ABSENT && (y->mode == QD_MODE_FIXED || y->mode == QD_MODE_GEMMLOWP) &&
           is_9_bits(y->zero_point) && is_9_bits(y->min) && is_9_bits(y->max);
}

/* The shift as the unit takes it: the same effect in 8 bits. */
static int8_t shift_of(int32_t mode, int32_t b) {
    if (mode == QD_MODE_FIXED) return (int8_t)(b < 1 || b > 62 ? 0 : b);
    return (int8_t)(b < -31 ? -31 : b > 31 ? 31 : b);
}

/* An integer product whose operands are codes of one byte each, and how its sums become y. */
typedef struct integers {
    rtl_product p;
    rtl_channel *channels; /* n; owned, as w, x and y of p */
    const qd_output *y;
    const qd_operand *requant;
    bool on_unit; /* requantization */
} integers;

static qd_status integers_open(integers *t, int64_t n, int64_t m, int64_t k, const qd_output *y,
                               const qd_operand *requant, bool sums) {
    memset(t, 0, sizeof *t);
    t->y = y;
    t->requant = requant;
    t->on_unit = !sums && unit_requantizes(y);
    t->p = (rtl_product){.n = n, .m = m, .k = k, .w_bits = 8};
    t->channels = qd_alloc_zero((size_t)n, sizeof *t->channels);
    t->p.channels = t->channels;
    t->p.w.data = qd_alloc_zero((size_t)n, (size_t)k);
    t->p.x.data = qd_alloc_zero((size_t)m, (size_t)k);
    t->p.y = qd_alloc_zero((size_t)(n * m), sizeof *t->p.y);
    return t->channels && t->p.w.data && t->p.x.data && t->p.y ? QD_OK : QD_ERR_MEMORY;
}

static void integers_close(integers *t) {
    free(t->channels);
    free((void *)(uintptr_t)t->p.w.data);
    free((void *)(uintptr_t)t->p.x.data);
    free(t->p.y);
}

static uint8_t *row_of(const rtl_codes *c, int64_t k, int64_t row) {
    return (uint8_t *)(uintptr_t)c->data + row * k; /* made by integers_open */
}

/* Channel `i` of the product is channel `channel` of y. */
static void set_channel(integers *t, int64_t i, int64_t channel, int32_t w_zero, int32_t bias) {
    rtl_channel *c = &t->channels[i];
    *c = (rtl_channel){.bias = bias, .a = 2, .b = 1, .w_zero = (int16_t)w_zero};
    if (!t->on_unit) return;
    const int32_t *row = qd_row(*t->requant, t->y->requant == QD_SHARED ? 0 : channel);
    c->a = row[0];
    c->b = shift_of(t->y->mode, row[1]);
}

static qd_status integers_run(integers *t, rtl_board *b) {
    t->p.flags = t->on_unit ? (t->y->mode == QD_MODE_GEMMLOWP ? (uint32_t)RTL_GEMMLOWP : 0u) : (uint32_t)RTL_RAW;
    if (t->on_unit) {
        t->p.zero = t->y->zero_point;
        t->p.min = t->y->min;
        t->p.max = t->y->max;
    }
    return rtl_product_run(b, &t->p);
}

/* The code of y for channel `channel` from what the unit gave. */
static int32_t finish(const integers *t, int64_t channel, uint32_t result) {
    return t->on_unit ? (int32_t)result : qd_ref_finish(t->y, t->requant, channel, (int32_t)result);
}

/* ---- MATMUL_INT --------------------------------------------------------------------------------------------- */

static void copy_codes(const rtl_codes *to, int64_t k, const qd_operand *from, int64_t first, int64_t rows,
                       int32_t code) {
    for (int64_t r = 0; r < rows; r++) {
        uint8_t *row = row_of(to, k, r);
        if (QD_CODE_BITS(code) == 8) {
            memcpy(row, qd_row(*from, first + r), (size_t)k);
            continue;
        }
        for (int64_t i = 0; i < k; i++)
            row[i] = (uint8_t)qd_ref_code(qd_row(*from, first + r), i, code);
    }
}

/* Rows first … first + t->p.m - 1 of y. */
static qd_status matmul_part(integers *t, rtl_board *b, const qd_node *n, const qd_operand in[], const qd_operand out[],
                             int64_t first) {
    const qd_matmul_int_params *p = &n->params.matmul_int;
    const int64_t w_first = p->batched ? first / p->m * p->n : 0;
    t->p.w_bits = QD_CODE_BITS(p->w_code);
    t->p.w.is_signed = QD_CODE_SIGNED(p->w_code);
    t->p.x.is_signed = QD_CODE_SIGNED(p->x_code);
    if (p->x_zero == QD_SHARED) t->p.x_zero = qd_ref_zero(&in[3], p->x_zero, 0, p->x_code);
    copy_codes(&t->p.w, p->k, &in[0], w_first, p->n, p->w_code);
    copy_codes(&t->p.x, p->k, &in[1], first, t->p.m, p->x_code);
    for (int64_t i = 0; i < p->n; i++) {
        const int32_t bias = p->bias == QD_ABSENT ? 0 : ((const int32_t *)in[4].data)[i];
        set_channel(t, i, i, qd_ref_zero(&in[2], p->w_zero, i, p->w_code), bias);
    }
    const qd_status status = integers_run(t, b);
    for (int64_t i = 0; i < p->n && !status; i++) {
        /* Σ (w - w_zero), for the zero points that the unit does not know */
        int64_t w_sum = 0;
        for (int64_t k = 0; k < p->k && p->x_zero == QD_EACH; k++)
            w_sum += qd_ref_code(qd_row(in[0], w_first + i), k, p->w_code) - t->channels[i].w_zero;
        for (int64_t r = 0; r < t->p.m; r++) {
            uint32_t sum = (uint32_t)t->p.y[r * p->n + i];
            if (p->x_zero == QD_EACH) sum -= (uint32_t)(w_sum * qd_ref_zero(&in[3], p->x_zero, first + r, p->x_code));
            qd_ref_put_code(qd_row(out[0], first + r), i, p->y.code, finish(t, i, sum));
        }
    }
    return status;
}

static qd_status compute_matmul_int(rtl_board *b, const qd_node *n, const qd_operand in[], const qd_operand out[],
                                    int64_t rows) {
    const qd_matmul_int_params *p = &n->params.matmul_int;
    const int64_t m = p->batched ? p->m : rows * p->m;
    integers t;
    qd_status status = integers_open(&t, p->n, m, p->k, &p->y, &in[5], p->x_zero == QD_EACH);
    for (int64_t first = 0; first < rows * p->m && !status; first += m)
        status = matmul_part(&t, b, n, in, out, first);
    integers_close(&t);
    return status;
}

/* ---- CONV_INT ----------------------------------------------------------------------------------------------- */

/* The window of output position (h, w) of image r, channels of `group`, in the order of the weights; what is outside is
 * x_zero. */
static void copy_window(const qd_conv_int_params *p, const uint8_t *x, int64_t r, int64_t group, int64_t h, int64_t w,
                        int32_t x_zero, uint8_t *to) {
    const qd_window_params *v = &p->window;
    const int64_t per_group = v->channels / p->groups;
    const uint8_t *image = x + r * v->channels * v->in_h * v->in_w + group * per_group * v->x_channel;
    memset(to, (uint8_t)x_zero, (size_t)p->w_row); /* lines of packed weights may have a code of nothing at their end */
    for (int64_t ky = 0; ky < v->kernel_h; ky++) {
        for (int64_t kx = 0; kx < v->kernel_w; kx++) {
            const int64_t in_h = h * v->stride_h - v->top + ky * v->dilation_h;
            const int64_t in_w = w * v->stride_w - v->left + kx * v->dilation_w;
            if (in_h < 0 || in_h >= v->in_h || in_w < 0 || in_w >= v->in_w) continue;
            for (int64_t c = 0; c < per_group; c++) {
                to[c * p->w_channel + ky * p->w_h + kx * p->w_w] =
                    image[c * v->x_channel + in_h * v->x_h + in_w * v->x_w];
            }
        }
    }
}

/* One image, one group: the output positions are the columns. */
static qd_status conv_part(integers *t, rtl_board *b, const qd_node *n, const qd_operand in[], const qd_operand out[],
                           int64_t r, int64_t group) {
    const qd_conv_int_params *p = &n->params.conv_int;
    const qd_window_params *v = &p->window;
    const int64_t first = group * t->p.n;
    for (int64_t i = 0; i < t->p.n; i++) {
        for (int64_t k = 0; k < t->p.k; k++) {
            const int32_t code = qd_ref_code(in[0].data, (first + i) * p->w_row + k, p->w_code);
            row_of(&t->p.w, t->p.k, i)[k] = (uint8_t)code;
        }
    }
    for (int64_t i = 0; i < t->p.m; i++)
        copy_window(p, in[1].data, r, group, i / v->out_w, i % v->out_w, t->p.x_zero, row_of(&t->p.x, t->p.k, i));
    for (int64_t i = 0; i < t->p.n; i++) {
        const int32_t bias = p->bias == QD_ABSENT ? 0 : ((const int32_t *)in[4].data)[first + i];
        set_channel(t, i, first + i, qd_ref_zero(&in[2], p->w_zero, first + i, p->w_code), bias);
    }
    const qd_status status = integers_run(t, b);
    for (int64_t i = 0; i < t->p.m * t->p.n && !status; i++) {
        const int64_t at = i / t->p.n, o = first + i % t->p.n;
        const int64_t to = r * v->out_channels * v->out_h * v->out_w + o * v->y_channel + at / v->out_w * v->y_h +
                           at % v->out_w * v->y_w;
        qd_ref_put_code(out[0].data, to, p->y.code, finish(t, o, (uint32_t)t->p.y[i]));
    }
    return status;
}

static qd_status compute_conv_int(rtl_board *b, const qd_node *n, const qd_operand in[], const qd_operand out[],
                                  int64_t rows) {
    const qd_conv_int_params *p = &n->params.conv_int;
    const qd_window_params *v = &p->window;
    integers t;
    qd_status status =
        integers_open(&t, v->out_channels / p->groups, (int64_t)v->out_h * v->out_w, p->w_row, &p->y, &in[5], false);
    t.p.w_bits = QD_CODE_BITS(p->w_code);
    t.p.w.is_signed = QD_CODE_SIGNED(p->w_code);
    t.p.x.is_signed = QD_CODE_SIGNED(p->x_code);
    t.p.x_zero = qd_ref_zero(&in[3], p->x_zero, 0, p->x_code);
    for (int64_t i = 0; i < rows * p->groups && !status; i++)
        status = conv_part(&t, b, n, in, out, i / p->groups, i % p->groups);
    integers_close(&t);
    return status;
}

/* ---- All ---------------------------------------------------------------------------------------------------- */

qd_status rtl_takes(const rtl_shape *s, const qd_node *n) {
    const qd_status status = qd_host_takes_rows(n);
    if (status) return status;
    if (n->op == QD_OP_MATMUL_INT && n->params.matmul_int.wide)
        return qd_fail(QD_ERR_UNSUPPORTED, "matmul_int: the unit's sums have 32 bits");
    if (n->op == QD_OP_MATMUL) return rtl_takes_blocks(s, n);
    if (n->op != QD_OP_MATMUL_INT && n->op != QD_OP_CONV_INT)
        return qd_fail(QD_ERR_UNSUPPORTED, "the unit computes matmul_int, conv_int and matmul only");
    return QD_OK;
}

qd_status rtl_compute(rtl_board *b, const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    if (n->op == QD_OP_MATMUL) return rtl_compute_blocks(b, n, in, out, rows);
    if (n->op == QD_OP_MATMUL_INT) return compute_matmul_int(b, n, in, out, rows);
    return compute_conv_int(b, n, in, out, rows);
}
