/* Floats to codes and back. */
#include "ref/ref.h"

/* ---- QUANTIZE_LINEAR, DEQUANTIZE_LINEAR --------------------------------------------------------------------- */

/* Where element e of the run is: its line (the run's last dimension) and column. */
static void find(const qd_quantize_linear_params *p, int64_t rows, int64_t e, int64_t *line, int64_t *column) {
    const int64_t cols = p->cols ? p->cols : rows;
    *line = e / cols;
    *column = e % cols;
}

static int64_t scale_of(const qd_quantize_linear_params *p, int64_t e) {
    const int64_t outer = e / p->inner / p->axis, a = e / p->inner % p->axis, inner = e % p->inner;
    return outer * p->scale_outer + a / p->block * p->scale_axis + inner * p->scale_inner;
}

/* NaN counts as 0. */
static int32_t integer_code(const qd_quantize_linear_params *p, float v, int32_t zero) {
    const float sum = p->zero_first ? v + (float)zero : v;
    const int32_t whole = p->away ? qd_round_away_i32(sum) : qd_round_even_i32(sum);
    return qd_to_code(whole, p->zero_first ? 0 : zero, p->min, p->max);
}

static int32_t small_code(int32_t small, float v) {
    switch (small) {
        case QD_SMALL_F8E4M3:
            return qd_float_to_f8e4m3(v);
        case QD_SMALL_F8E4M3_OVERFLOW:
            return qd_float_to_f8e4m3_overflow(v);
        case QD_SMALL_F8E5M2:
            return qd_float_to_f8e5m2(v);
        case QD_SMALL_F8E5M2_OVERFLOW:
            return qd_float_to_f8e5m2_overflow(v);
        default:
            return qd_float_to_f4e2m1(v);
    }
}

static float small_value(int32_t small, uint8_t code) {
    return small == QD_SMALL_F8E4M3   ? qd_f8e4m3_to_float(code)
           : small == QD_SMALL_F8E5M2 ? qd_f8e5m2_to_float(code)
                                      : qd_f4e2m1_to_float(code);
}

qd_status qd_ref_quantize_linear(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_quantize_linear_params *p = &n->params.quantize_linear;
    const int packed = 8 / QD_CODE_BITS(p->code);
    for (int64_t e = 0; e < rows * p->size; e++) {
        int64_t line, column;
        find(p, rows, e, &line, &column);
        const void *row = qd_row(in[0], line);
        const float x = p->is_f16 ? qd_half_to_float(((const uint16_t *)row)[column]) : ((const float *)row)[column];
        const float scale = ((const float *)in[1].data)[scale_of(p, e)];
        const float v = qd_one_nan(p->reciprocal ? x * (1.0f / scale) : x / scale);
        const int32_t zero = p->small ? 0 : qd_ref_zero(&in[2], p->zero, scale_of(p, e), p->code);
        uint8_t *y = qd_row(out[0], line);
        if (packed > 1 && column % packed == 0) y[column / packed] = 0; /* unused bits, too */
        qd_ref_put_code(y, column, p->code, p->small ? small_code(p->small, v) : integer_code(p, v, zero));
    }
    return QD_OK;
}

qd_status qd_ref_dequantize_linear(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_quantize_linear_params *p = &n->params.quantize_linear;
    for (int64_t e = 0; e < rows * p->size; e++) {
        int64_t line, column;
        find(p, rows, e, &line, &column);
        const int32_t code = qd_ref_code(qd_row(in[0], line), column, p->code);
        const int32_t zero = p->small ? 0 : qd_ref_zero(&in[2], p->zero, scale_of(p, e), p->code);
        const float x = p->small ? small_value(p->small, (uint8_t)code) : (float)((int64_t)code - zero);
        const float v = qd_one_nan(x * ((const float *)in[1].data)[scale_of(p, e)]);
        void *y = qd_row(out[0], line);
        if (p->is_f16) {
            ((uint16_t *)y)[column] = qd_float_to_half(v);
        } else {
            ((float *)y)[column] = v;
        }
    }
    return QD_OK;
}

/* ---- FAKE_QUANTIZE, FAKE_QUANTIZE_GRAD ---------------------------------------------------------------------- */

QD_DEFINE_FAKE_QUANTIZE(, qd_f32, qd_u32, qd_as_f32, qd_as_u32)

/* Element e, with its scale; dy NULL: without gradients. */
static qd_faked fake(const qd_node *n, const qd_operand in[], const qd_operand *dy, int64_t rows, int64_t e) {
    const qd_fake_quantize_params *p = &n->params.fake_quantize;
    int64_t line, column;
    find(&p->place, rows, e, &line, &column);
    const int64_t s = scale_of(&p->place, e);
    const int32_t zero = qd_to_code(((const int32_t *)in[2].data)[s], 0, p->place.min, p->place.max);
    return qd_fake_element(((const float *)qd_row(in[0], line))[column],
                           dy ? ((const float *)qd_row(*dy, line))[column] : 0, ((const float *)in[1].data)[s],
                           (float)zero, (float)p->place.min, (float)p->place.max, p->clip);
}

qd_status qd_ref_fake_quantize(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_fake_quantize_params *p = &n->params.fake_quantize;
    for (int64_t e = 0; e < rows * p->place.size; e++) {
        int64_t line, column;
        find(&p->place, rows, e, &line, &column);
        ((float *)qd_row(out[0], line))[column] = fake(n, in, NULL, rows, e).y;
    }
    return QD_OK;
}

qd_status qd_ref_fake_quantize_grad(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_fake_quantize_params *p = &n->params.fake_quantize;
    const int64_t inner = p->place.inner, scales = inner == p->place.size ? rows : p->place.axis;
    const int64_t count = scales ? rows * p->place.size / scales : 0; /* elements of a scale */
    for (int64_t s = 0; s < scales && count; s++) {
        float dscale = 0, dzero = 0;
        for (int64_t chunk = 0; chunk < count; chunk += QD_FAKE_CHUNK) {
            float scale_parts[QD_LANES] = {0}, zero_parts[QD_LANES] = {0};
            for (int64_t k = chunk; k < count && k < chunk + QD_FAKE_CHUNK; k++) {
                const int64_t e = (k / inner * scales + s) * inner + k % inner;
                const qd_faked f = fake(n, in, &in[3], rows, e);
                int64_t line, column;
                find(&p->place, rows, e, &line, &column);
                ((float *)qd_row(out[0], line))[column] = f.dx;
                scale_parts[k % QD_LANES] += f.dscale;
                zero_parts[k % QD_LANES] += f.dzero;
            }
            dscale += qd_ref_tree(scale_parts);
            dzero += qd_ref_tree(zero_parts);
        }
        ((float *)out[1].data)[s] = qd_one_nan(dscale * p->factor);
        ((float *)out[2].data)[s] = qd_one_nan(dzero * p->factor);
    }
    return QD_OK;
}

/* ---- DYNAMIC_QUANTIZE --------------------------------------------------------------------------------------- */

/* ONNX DynamicQuantizeLinear; i8: its codes minus 128, or symmetric ones. NaN are left out of the range, and get the
 * zero point. A range of zero, or so small that its scale would be, has the scale 1. */
static void quantize_rows(const qd_node *n, qd_operand in, const qd_operand out[], int64_t first, int64_t end,
                          int64_t s) {
    const qd_dynamic_quantize_params *p = &n->params.dynamic_quantize;
    float min = 0, max = 0;
    for (int64_t r = first; r < end; r++) {
        const float *x = qd_row(in, r);
        for (int64_t k = 0; k < p->cols; k++) {
            min = x[k] < min ? x[k] : min;
            max = x[k] > max ? x[k] : max;
        }
    }
    const float range = p->symmetric ? (max > -min ? max : -min) / 127.0f : (max - min) / 255.0f;
    const float scale = range > 0 ? range : 1;
    const int32_t lowest = p->symmetric ? -127 : QD_CODE_SIGNED(p->code) ? -128 : 0;
    const int32_t highest = QD_CODE_SIGNED(p->code) ? 127 : 255;
    const int32_t zero = p->symmetric ? 0 : qd_to_code(qd_round_even_i32(-min / scale), lowest, lowest, highest);
    ((float *)out[1].data)[s] = scale;
    ((int32_t *)out[2].data)[s] = zero;
    for (int64_t r = first; r < end; r++) {
        const float *x = qd_row(in, r);
        for (int64_t k = 0; k < p->cols; k++) {
            const int32_t code = qd_to_code(qd_round_even_i32(x[k] / scale), zero, lowest, highest);
            qd_ref_put_code(qd_row(out[0], r), k, p->code, code);
        }
    }
}

qd_status qd_ref_dynamic_quantize(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    if (n->params.dynamic_quantize.per_row) {
        for (int64_t r = 0; r < rows; r++)
            quantize_rows(n, in[0], out, r, r + 1, r);
    } else if (rows) {
        quantize_rows(n, in[0], out, 0, rows, 0);
    }
    return QD_OK;
}
