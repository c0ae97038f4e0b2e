/* The end of an integer operator on its own, and the numbers that it takes. */
#include <math.h>
#include <string.h>

#include "core/context.h"
#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

/* ---- Multipliers -------------------------------------------------------------------------------------------- */

/* m = q · 2^(e - 31) with 2^30 <= q < 2^31, q rounded half away from zero (TensorFlow Lite's QuantizeMultiplier). */
static int32_t split(double m, int *e) {
    int64_t q = llround(ldexp(frexp(m, e), 31));
    if (q == (int64_t)1 << 31) {
        q /= 2;
        (*e)++;
    }
    return (int32_t)q;
}

static void away(double m, int32_t row[2]) {
    uint64_t bits;
    memcpy(&bits, &m, sizeof bits);
    const uint32_t halves[2] = {(uint32_t)bits, (uint32_t)(bits >> 32)};
    memcpy(row, halves, sizeof halves);
}

/* One row of the table; false: the rounding cannot hold this ratio. */
static bool multiplier(qd_rounding rounding, float x_scale, float w_scale, float y_scale, int32_t row[2]) {
    const double m = (double)x_scale * (double)w_scale / (double)y_scale;
    int e;
    row[0] = row[1] = 0;
    switch (rounding) {
        case QD_ROUND_FIXED:
            row[0] = split(m, &e);
            row[1] = 31 - e > 63 ? 63 : 31 - e;
            return row[1] >= 1;
        case QD_ROUND_GEMMLOWP:
            row[0] = split(m, &e);
            row[1] = e;
            if (e < -31) row[0] = row[1] = 0;
            return e <= 30;
        case QD_ROUND_AWAY:
            away(m, row);
            return true;
        default: {
            const float f = x_scale * w_scale / y_scale;
            memcpy(row, &f, sizeof f);
            return isfinite(f);
        }
    }
}

qd_status qd_requantize_table(qd_rounding rounding, float x_scale, const float *w_scale, int64_t n, float y_scale,
                              int32_t *table) {
    if ((unsigned)rounding > QD_ROUND_FLOAT || n < 0 || (n && (!w_scale || !table))) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_requantize_table: needs a rounding, scales, and room for the result");
    }
    qd_status status;
    QD_TRY(qd_scale_check("qd_requantize_table", "x", x_scale));
    QD_TRY(qd_scale_check("qd_requantize_table", "y", y_scale));
    int32_t row[2];
    for (int64_t i = 0; i < n; i++) { /* all of them before anything is written */
        QD_TRY(qd_scale_check("qd_requantize_table", "w", w_scale[i]));
        if (multiplier(rounding, x_scale, w_scale[i], y_scale, row)) continue;
        return qd_fail(QD_ERR_ARGUMENT,
                       "qd_requantize_table: channel %lld: %g · %g / %g is too large for this rounding", (long long)i,
                       (double)x_scale, (double)w_scale[i], (double)y_scale);
    }
    for (int64_t i = 0; i < n; i++)
        multiplier(rounding, x_scale, w_scale[i], y_scale, table + 2 * i);
error:
    return status;
}

/* ---- REQUANTIZE --------------------------------------------------------------------------------------------- */

static qd_status check(qd_node *n, const qd_symbols *s) {
    const qd_tensor_desc x = qd_sized(n, n->in[0]), y = qd_sized(n, n->out[0]);
    qd_requantize_params *p = &n->params.requantize;
    n->params_bytes = sizeof *p;
    if (x.rank != y.rank || memcmp(x.shape, y.shape, (size_t)x.rank * sizeof *x.shape)) {
        return qd_fail(QD_ERR_ARGUMENT, "requantize: x and y must have the same shape");
    }
    const int64_t cols = x.shape[x.rank - 1], channels = s->of['C' - 'A'];
    if (channels != QD_UNKNOWN && channels != cols) {
        return qd_fail(QD_ERR_ARGUMENT, "requantize: %lld rows of requant where 1 or %lld are needed",
                       (long long)channels, (long long)cols);
    }
    qd_status status = qd_count_check("requantize", qd_span(&x, 1, x.rank));
    if (!status) status = qd_zero_check("requantize", "x", n->attrs.requantize.x_zero, n->in[0]->desc.format);
    *p = (qd_requantize_params){.size = (qd_i32)qd_span(&x, 1, x.rank),
                                .channels = (qd_i32)cols,
                                .x_code = qd_code_of(n->in[0]->desc.format),
                                .x_zero = n->attrs.requantize.x_zero};
    return status ? status
                  : qd_output_check("requantize", &n->attrs.requantize.y, n->out[0]->desc.format, n->in[1], &p->y);
}

static void choose(qd_choices *c, qd_problem *p) {
    const int rank = (int)qd_choose(c, "rank", 1, QD_MAX_RANK);
    qd_tensor_desc d = {p->formats[0], rank, {0}};
    static const char *const names[] = {"d0", "d1", "d2", "d3"};
    for (int i = 0; i < rank; i++)
        d.shape[i] = qd_choose_size(c, names[i], i + 1 < rank ? 4 : 60 * c->size);
    p->s.of['C' - 'A'] = d.shape[rank - 1];
    p->desc[0] = p->desc[QD_MAX_IN] = d;
    p->desc[1] = (qd_tensor_desc){QD_FORMAT_I32, 2, {qd_choose(c, "one requant", 0, 1) ? 1 : d.shape[rank - 1], 2}};
    p->attrs.requantize.x_zero = qd_choose_code(c, "x zero", p->formats[0]);
    p->attrs.requantize.y = qd_choose_requant(c, p->formats[QD_MAX_IN]);
    /* A float's last bits show only here. */
    if (p->formats[QD_MAX_IN] == QD_FORMAT_I32 && qd_choose(c, "float", 0, 1))
        p->attrs.requantize.y.rounding = QD_ROUND_FLOAT;
}

/* Any number of at most `bits` bits, one of few bits as often as one of many. */
static int64_t any_bits(uint64_t *stream, int bits) {
    return (int64_t)(qd_next_random(stream) >> 1 >> (63 - qd_between(stream, 0, bits)));
}

/* A code that many elements of a channel have, and a result between two codes that its requantization aims at. */
typedef struct aim {
    int64_t code;
    float y;
} aim;

/* That of channel i. `exact`: x - x_zero is a power of two, so that the aim is a tie; else it is just beside one
 * mostly. */
static aim nth_aim(const qd_problem *p, uint64_t stream, int64_t i, bool exact) {
    int64_t min, max;
    qd_code_range(p->formats[0], &min, &max);
    uint64_t own = stream ^ (uint64_t)i * 0x2545f4914f6cdd1du;
    const int64_t zero = p->attrs.requantize.x_zero, power = (int64_t)1 << qd_between(&own, 0, 23);
    int64_t size = exact ? power : power + any_bits(&own, 23) % power; /* a float holds it */
    while (zero + size > max && zero - size < min)
        size /= 2;
    const bool positive = zero - size < min || (zero + size <= max && qd_between(&own, 0, 1));
    const int y_bits = QD_CODE_BITS(qd_code_of(p->formats[QD_MAX_IN]));
    int64_t y = any_bits(&own, y_bits < 22 ? y_bits : 22);
    if (y_bits == 32 && qd_between(&own, 0, 3)) y += 1 << 22; /* where a float has one bit left for the half */
    if (!qd_between(&own, 0, 7)) y += (int64_t)1 << 32;       /* far too large, but not when it is cut to 32 bits */
    return (aim){positive ? zero + size : zero - size, (float)y + 0.5f};
}

static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    enum { USUAL, ANY_SIZE, BESIDE_TIES, TIES };
    static const int styles[] = {USUAL, ANY_SIZE, BESIDE_TIES, BESIDE_TIES, BESIDE_TIES, TIES, TIES, TIES};
    const int style = styles[qd_choose(c, "x style", 0, 7)];
    const int64_t channels = p->desc[1].shape[0];
    const uint64_t aims = qd_stream(c, "aims");
    const qd_rounding rounding = p->attrs.requantize.y.rounding;
    const int32_t zero = p->attrs.requantize.x_zero;
    if (i == 1) {
        qd_fill_requant(c, rounding, channels, data);
        for (int64_t k = 0; k < channels && style >= BESIDE_TIES; k++) {
            const aim a = nth_aim(p, aims, k, style == TIES);
            const float sum = fabsf((float)(a.code - zero));
            qd_requantize_table(rounding, 1.0f, &a.y, 1, sum, (int32_t *)data + 2 * k);
        }
        return true;
    }
    if (style == USUAL) return false;
    const int code = qd_code_of(p->formats[0]);
    const int64_t n = qd_span(&p->desc[0], 0, p->desc[0].rank), cols = p->desc[0].shape[p->desc[0].rank - 1];
    uint64_t stream = qd_stream(c, "x");
    for (int64_t k = 0; k < n; k++) {
        /* A code is cut to its bits: any number is one. */
        int64_t v = qd_between(&stream, 0, 1) ? any_bits(&stream, 31) : -any_bits(&stream, 31);
        if (style >= BESIDE_TIES && qd_between(&stream, 0, 3))
            v = nth_aim(p, aims, channels > 1 ? k % cols : 0, style == TIES).code;
        if (QD_CODE_BITS(code) == 32) ((int32_t *)data)[k] = (int32_t)v;
        if (QD_CODE_BITS(code) == 16) ((uint16_t *)data)[k] = (uint16_t)v;
        if (QD_CODE_BITS(code) == 8) ((uint8_t *)data)[k] = (uint8_t)v;
    }
    return true;
}

const qd_op_rules qd_rules_requantize = {.attrs = true, .check = check, .choose = choose, .fill = fill};
