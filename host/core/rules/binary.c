/* Sums and products of two tensors of codes. */
#include <math.h>
#include <string.h>

#include "core/rules/rules.h"

/* ---- Broadcasting ------------------------------------------------------------------------------------------- */

/* Size of dimension i of `rank` that NumPy sees in a desc: 1 where it has fewer. */
static int64_t size_at(const qd_tensor_desc *d, int rank, int i) {
    const int own = i - (rank - d->rank);
    return own < 0 ? 1 : d->shape[own];
}

/* Where dimension i of y is in the parameters: the rows of the run first, the others at the end. */
static int place(int rank, int i) {
    return i ? i + 4 - rank : 0;
}

static void set_steps(const qd_tensor_desc *x, int rank, qd_i32 step[4]) {
    int64_t elements = 1;
    for (int i = rank - 1; i >= 0; i--) {
        const int64_t size = size_at(x, rank, i);
        step[place(rank, i)] = size == 1 ? 0 : (qd_i32)elements;
        elements *= size;
    }
}

/* Whether dimension i goes on where the last one ends, in both inputs; then the last one takes it in: longer runs. */
static bool merge_dimension(qd_binary_params *p, int i) {
    if (p->shape[3] == 1) {
        p->a_step[3] = p->a_step[i];
        p->b_step[3] = p->b_step[i];
    } else if (p->a_step[i] != p->a_step[3] * p->shape[3] || p->b_step[i] != p->b_step[3] * p->shape[3]) {
        return false;
    }
    p->a_step[i] = p->b_step[i] = 0;
    return true;
}

static void merge_dimensions(qd_binary_params *p) {
    for (int i = 2; i >= 1; i--) {
        if (p->shape[i] == 1) continue;
        if (!merge_dimension(p, i)) return;
        p->shape[3] *= p->shape[i];
        p->shape[i] = 1;
    }
    p->flat = merge_dimension(p, 0);
}

/* y's shape must be the broadcast of those of a and b. */
static qd_status check_shapes(const char *op, const qd_node *n, qd_binary_params *p) {
    const qd_tensor_desc a = qd_sized(n, n->in[0]), b = qd_sized(n, n->in[1]), y = qd_sized(n, n->out[0]);
    bool fits = y.rank == (a.rank > b.rank ? a.rank : b.rank) && y.shape[0] == n->max_rows;
    for (int i = 0; fits && i < y.rank; i++) {
        const int64_t of_a = size_at(&a, y.rank, i), of_b = size_at(&b, y.rank, i);
        fits = (of_a == of_b || of_a == 1 || of_b == 1) && y.shape[i] == (of_a == 1 ? of_b : of_a);
    }
    if (!fits) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "%s: the shape of y must be that of a and b, where sizes of 1, or missing in front, repeat", op);
    }
    for (int i = 0; i < 2; i++) {
        if (n->in[i]->desc.shape[0] != QD_ROWS || n->in[i]->desc.rank == y.rank) continue;
        return qd_fail(QD_ERR_ARGUMENT, "%s: the rows of the run must be the first dimension of y, too", op);
    }
    const qd_status status = qd_count_check(op, qd_span(&y, 1, y.rank));
    if (status) return status;
    for (int i = 1; i < 4; i++)
        p->shape[i] = 1;
    for (int i = 1; i < y.rank; i++)
        p->shape[place(y.rank, i)] = (qd_i32)y.shape[i];
    set_steps(&a, y.rank, p->a_step);
    set_steps(&b, y.rank, p->b_step);
    merge_dimensions(p);
    return QD_OK;
}

/* ---- Multipliers -------------------------------------------------------------------------------------------- */

/* One row of qd_requantize_table; its failure becomes this operator's. */
static qd_status ratio(const char *op, qd_rounding rounding, float x, float w, float y, int32_t row[2]) {
    if (qd_requantize_table(rounding, x, &w, 1, y, row) == QD_OK) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "%s: the scale of y, %g, is too small for those of a and b with this rounding", op,
                   (double)y);
}

/* b's numbers get their sign when it is subtracted: exact, but in GEMMLOWP, whose ties are not symmetric. */
static void subtract(qd_binary_params *p) {
    p->b_scale = -p->b_scale;
    if (p->y.mode == QD_ROUND_FIXED) p->b_multiplier = -p->b_multiplier;
    p->b_sign = -1;
}

/* Our own: (a - a_zero) · Ma + (b - b_zero) · Mb in 64 bits, one shift for both, so that the larger has 31 bits. */
static qd_status add_fixed(qd_binary_params *p, float a, float b, float y) {
    int32_t row[2];
    const qd_status status = ratio("add_int", QD_ROUND_FIXED, a > b ? a : b, 1.0f, y, row);
    if (status) return status;
    const int32_t smaller = (int32_t)llround(ldexp((double)(a > b ? b : a) / (double)y, row[1]));
    p->a_multiplier = a >= b ? row[0] : smaller;
    p->b_multiplier = b >= a ? row[0] : smaller;
    p->y_shift = row[1];
    return QD_OK;
}

/* TensorFlow Lite's reference ADD: inputs in steps of twice the larger scale, divided by 2^20. Halves and powers of two
 * are exact, so that each ratio is rounded where it rounds them: once. */
static qd_status add_gemmlowp(qd_binary_params *p, float a, float b, float y) {
    const float max = a > b ? a : b;
    int32_t row[3][2] = {{0}};
    qd_status status;
    QD_TRY(ratio("add_int", QD_ROUND_GEMMLOWP, a, 0.5f, max, row[0]));
    QD_TRY(ratio("add_int", QD_ROUND_GEMMLOWP, b, 0.5f, max, row[1]));
    QD_TRY(ratio("add_int", QD_ROUND_GEMMLOWP, max, ldexpf(1.0f, 1 - QD_ADD_LEFT_SHIFT), y, row[2]));
    if (row[2][1] > 0) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "add_int: the scale of y, %g, is too small for this rounding: it must exceed 2^-19 of %g",
                       (double)y, (double)max);
    }
    p->a_multiplier = row[0][0], p->a_shift = row[0][1];
    p->b_multiplier = row[1][0], p->b_shift = row[1][1];
    p->y_multiplier = row[2][0], p->y_shift = row[2][1];
error:
    return status;
}

static qd_status set_multipliers(const qd_node *n, qd_binary_params *p) {
    const float a = n->attrs.binary.a.scale, b = n->attrs.binary.b.scale, y = n->attrs.binary.y.scale;
    const qd_rounding rounding = n->attrs.binary.rounding;
    p->a_scale = a;
    p->b_scale = b;
    p->y_scale = y;
    if (n->op == QD_OP_MUL_INT) {
        int32_t row[2];
        if (rounding == QD_ROUND_FLOAT && !n->attrs.binary.zero_first) return QD_OK;
        const qd_status status = ratio("mul_int", rounding, a, b, y, row);
        p->y_multiplier = row[0];
        p->y_shift = row[1];
        return status;
    }
    switch (rounding) {
        case QD_ROUND_FIXED:
            return add_fixed(p, a, b, y);
        case QD_ROUND_GEMMLOWP:
            return add_gemmlowp(p, a, b, y);
        case QD_ROUND_FLOAT:
            return QD_OK;
        default:
            return qd_fail(QD_ERR_UNSUPPORTED, "add_int: has no rounding AWAY; use FIXED, GEMMLOWP or FLOAT");
    }
}

/* What a and b without their zero points have in common with every result becomes one number, as in the kernels of ONNX
 * Runtime for x86 (qladd, AVX2, where the compiler fuses the first of the zero points' products; qlmul, SSE2). */
static qd_status put_zero_first(const qd_node *n, qd_binary_params *p) {
    p->offset = (float)p->y.zero_point;
    if (n->op == QD_OP_ADD_INT) {
        p->a_scale /= p->y_scale;
        p->b_scale /= p->y_scale;
        p->offset -= fmaf(p->a_scale, (float)p->a_zero, p->b_scale * (float)p->b_zero);
        p->a_zero = p->b_zero = 0;
    }
    p->y.zero_point = 0;
    p->y.mode = QD_MODE_ZERO_FIRST;
    if (isfinite(p->a_scale) && isfinite(p->b_scale) && isfinite(p->offset)) return QD_OK;
    return qd_fail(
        QD_ERR_ARGUMENT, "%s: the scale of y, %g, is too small for those of a and b, %g and %g, with zero_first",
        qd_op_get(n->op)->name, (double)p->y_scale, (double)n->attrs.binary.a.scale, (double)n->attrs.binary.b.scale);
}

/* ---- Rules -------------------------------------------------------------------------------------------------- */

static qd_status check(qd_node *n, const qd_symbols *s) {
    (void)s;
    const char *op = qd_op_get(n->op)->name;
    const qd_format a = n->in[0]->desc.format, b = n->in[1]->desc.format, y = n->out[0]->desc.format;
    const qd_quant *quant_a = &n->attrs.binary.a, *quant_b = &n->attrs.binary.b, *quant_y = &n->attrs.binary.y;
    const qd_requant end = {n->attrs.binary.rounding, quant_y->zero_point, n->attrs.binary.min, n->attrs.binary.max};
    qd_binary_params *p = &n->params.binary;
    qd_status status;
    memset(p, 0, sizeof *p);
    n->params_bytes = sizeof *p;
    p->a_code = qd_code_of(a);
    p->b_code = qd_code_of(b);
    p->a_zero = quant_a->zero_point;
    p->b_zero = quant_b->zero_point;
    QD_TRY(check_shapes(op, n, p));
    QD_TRY(qd_scale_check(op, "a", quant_a->scale));
    QD_TRY(qd_scale_check(op, "b", quant_b->scale));
    QD_TRY(qd_scale_check(op, "y", quant_y->scale));
    QD_TRY(qd_zero_check(op, "a", p->a_zero, a));
    QD_TRY(qd_zero_check(op, "b", p->b_zero, b));
    /* The numbers of a requant operand are attributes here; any tensor stands for it. */
    QD_TRY(qd_output_check(op, &end, y, n->in[0], &p->y));
    if (n->op == QD_OP_MUL_INT && n->attrs.binary.subtract)
        return qd_fail(QD_ERR_ARGUMENT, "mul_int: multiplies; subtract belongs to add_int");
    if (n->attrs.binary.zero_first && end.rounding != QD_ROUND_FLOAT)
        return qd_fail(QD_ERR_ARGUMENT, "%s: zero_first belongs to the rounding FLOAT", op);
    p->b_sign = 1;
    QD_TRY(set_multipliers(n, p));
    if (n->attrs.binary.subtract) subtract(p);
    if (n->attrs.binary.zero_first) QD_TRY(put_zero_first(n, p));
error:
    return status;
}

/* ---- Random problems ---------------------------------------------------------------------------------------- */

static float power(qd_choices *c, const char *name, int low, int high) {
    uint64_t stream = qd_stream(c, name);
    return ldexpf(1.0f + (float)qd_between(&stream, 0, 999999) * 1e-6f, (int)qd_choose(c, name, low, high));
}

/* Scales that lie far apart, or at the ends of what floats hold. */
static void choose_extreme(qd_choices *c, qd_op op, qd_rounding rounding, float *a, float *b, float *y) {
    if (op == QD_OP_MUL_INT) {
        *a = power(c, "a 2^", -60, 60);
        *b = power(c, "b 2^", -60, 60);
        const int k = ilogbf(*a) + ilogbf(*b) + (int)qd_choose(c, "y 2^", -20, 60);
        *y = ldexpf(1.0f, k > 126 ? 126 : k < -140 ? -140 : k);
        return;
    }
    static const int ends[] = {0, -100, 86, 126};
    const int end = ends[qd_choose(c, "scale end", 0, 3)];
    *a = power(c, "a part", 0, 0) * ldexpf(1.0f, end);
    *b = ldexpf(*a, (int)qd_choose(c, "b 2^", -45, 0));
    *y = ldexpf(1.0f, end + (int)qd_choose(c, "y 2^", rounding == QD_ROUND_GEMMLOWP ? -18 : -28, end > 100 ? 1 : 12));
    if (qd_choose(c, "a is small", 0, 1)) {
        const float swap = *a;
        *a = *b;
        *b = swap;
    }
}

/* Styles of scales: from CANCEL on a and b should cancel out, from EXTREME on no longer. */
enum { CANCEL = 5, EXTREME = 7 };

static int64_t choose_style(qd_choices *c) {
    return qd_choose(c, "scale style", 0, EXTREME);
}

/* Ties, but for what the numbers on the way are rounded by: that decides, unless a large zero point takes it off.
 * Scales are tenths, and zero points small. */
static bool are_ties(qd_choices *c, const qd_problem *p) {
    if (p->attrs.binary.rounding != QD_ROUND_FLOAT) return false;
    if (p->attrs.binary.zero_first) return qd_choose(c, "ties", 0, 3) != 0;
    return p->op == QD_OP_MUL_INT && qd_choose(c, "ties", 0, 3) > 1;
}

static void choose_ties(qd_choices *c, qd_problem *p) {
    const float odd = (float)(2 * qd_choose(c, "odd", 1, 2) + 1);
    const float a = 0.1f * (float)qd_choose(c, "a tenths", 1, 8), b = 0.1f * (float)qd_choose(c, "b tenths", 1, 8);
    p->attrs.binary.a = (qd_quant){a, (int32_t)qd_choose(c, "a small zero", 3, 8)};
    p->attrs.binary.b = (qd_quant){b, (int32_t)qd_choose(c, "b small zero", 3, 8)};
    p->attrs.binary.y.scale = p->op == QD_OP_MUL_INT ? 2.0f * odd * a * b : 0.2f * odd;
}

static void choose_scales(qd_choices *c, qd_problem *p) {
    float *a = &p->attrs.binary.a.scale, *b = &p->attrs.binary.b.scale, *y = &p->attrs.binary.y.scale;
    const bool multiply = p->op == QD_OP_MUL_INT;
    /* Ratios of powers of two make ties, whose terms a float holds exactly; but no reciprocal of 3, 5 … is exact. */
    const float factor = (float)(2 * qd_choose(c, "factor", 0, 50) + 1);
    switch (choose_style(c)) {
        case 0:
        case 1:
            *a = 0.5f * factor;
            *b = multiply ? 0.5f : *a;
            *y = ldexpf(multiply ? 0.5f * *a : *a, (int)qd_choose(c, "y shift", 1, 5));
            break;
        case 2: /* b weighs more or less */
        case 3:
            *a = factor;
            *b = ldexpf(multiply ? 1.0f : factor, (int)qd_choose(c, "b 2^", -9, 9));
            *y = ldexpf(multiply ? factor * *b : *a > *b ? *a : *b, (int)qd_choose(c, "y shift", -1, 5));
            break;
        case 4:
            *a = qd_choose_scale(c, "a scale");
            *b = qd_choose_scale(c, "b scale");
            *y = (multiply ? *a * *b * 16.0f : *a > *b ? *a : *b) * (1.0f + 3.0f * qd_choose_scale(c, "y scale"));
            break;
        case CANCEL:
        case CANCEL + 1: /* y so fine that what a product was rounded by is seen where a and b cancel out */
            *a = power(c, "a part", 0, 0);
            *b = multiply ? 1.0f : *a;
            *y = ldexpf(*a, p->attrs.binary.rounding == QD_ROUND_GEMMLOWP ? -18 : -(int)qd_choose(c, "y fine", 22, 26));
            break;
        default:
            choose_extreme(c, p->op, p->attrs.binary.rounding, a, b, y);
            break;
    }
}

/* The middle of the codes, so that there are values of both signs; or any code, often an end. */
static int32_t choose_zero(qd_choices *c, const char *kind, const char *name, qd_format f) {
    int64_t min, max;
    qd_code_range(f, &min, &max);
    return qd_choose(c, kind, 0, 1) ? qd_choose_code(c, name, f) : (int32_t)((min + max + 1) / 2);
}

/* Limits that left out y's zero point would hide most results. */
static void choose_end(qd_choices *c, qd_problem *p) {
    const qd_format format = p->formats[QD_MAX_IN];
    qd_requant end = qd_choose_requant(c, format);
    p->attrs.binary.rounding = p->op == QD_OP_ADD_INT && end.rounding == QD_ROUND_AWAY ? QD_ROUND_FLOAT : end.rounding;
    p->attrs.binary.zero_first = p->attrs.binary.rounding == QD_ROUND_FLOAT &&
                                 qd_choose(c, "zero first", 0, p->op == QD_OP_MUL_INT ? 2 : 1) != 0;
    p->attrs.binary.subtract = p->op == QD_OP_ADD_INT && qd_choose(c, "subtract", 0, 1) != 0;
    end.zero_point = choose_zero(c, "y zero kind", "y zero", format);
    if (are_ties(c, p)) end.zero_point = (int32_t)qd_choose(c, "y small zero", format == QD_FORMAT_I8 ? -6 : 0, 6);
    if (end.min || end.max) {
        end.min = end.min < end.zero_point ? end.min : end.zero_point;
        end.max = end.max > end.zero_point ? end.max : end.zero_point;
    }
    p->attrs.binary.min = end.min;
    p->attrs.binary.max = end.max;
    p->attrs.binary.y.zero_point = end.zero_point;
}

static void choose(qd_choices *c, qd_problem *p) {
    static const char *const names[] = {"d0", "d1", "d2", "d3"};
    /* Mostly all dimensions: only then some of those in the middle repeat, and others do not. */
    const int64_t more = qd_choose(c, "more dimensions", 0, 5);
    const int rank = more < 3 ? 1 + (int)more : QD_MAX_RANK;
    qd_tensor_desc d[3] = {{0, rank, {0}}, {0, rank, {0}}, {0, rank, {0}}};
    /* Dimensions of which a or b has one only: bits, the first dimension lowest. */
    const int64_t ones[2] = {qd_choose(c, "a repeats", 0, 2) ? qd_choose(c, "a ones", 0, 15) : 0,
                             qd_choose(c, "b repeats", 0, 2) ? qd_choose(c, "b ones", 0, 15) : 0};
    for (int i = 0; i < rank; i++) {
        const int64_t size = qd_choose_size(c, names[i], i + 1 < rank ? 4 + c->size : 70 * c->size);
        for (int t = 0; t < 2; t++)
            d[t].shape[i] = ones[t] >> i & 1 ? 1 : size;
        d[2].shape[i] = ones[0] & ones[1] & 1 << i ? 1 : size;
    }
    /* One input may leave out its first ones. */
    const int64_t which = qd_choose(c, "lacking", 0, 2);
    if (which > 0) {
        qd_tensor_desc *x = &d[which - 1];
        const int lacks = (int)qd_choose(c, "lacks", 0, rank - 1);
        x->rank -= lacks;
        memmove(x->shape, x->shape + lacks, (size_t)x->rank * sizeof *x->shape);
        for (int i = 0; i < lacks; i++) /* the other one must have them */
            d[2 - which].shape[i] = d[2].shape[i];
    }
    p->desc[0] = d[0];
    p->desc[1] = d[1];
    p->desc[QD_MAX_IN] = d[2];
    choose_end(c, p);
    if (are_ties(c, p)) {
        choose_ties(c, p);
        return;
    }
    p->attrs.binary.a.zero_point = choose_zero(c, "a zero kind", "a zero", p->formats[0]);
    p->attrs.binary.b.zero_point = choose_zero(c, "b zero kind", "b zero", p->formats[1]);
    choose_scales(c, p);
}

/* Codes next to the zero point, whose sums are no larger than codes; any; or the ends. Seldom twice the same, so that
 * no wrong index stays unseen. */
static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    const bool cancel =
        p->attrs.binary.rounding == QD_ROUND_FLOAT && choose_style(c) >= CANCEL && choose_style(c) < EXTREME;
    const int64_t style = cancel || are_ties(c, p) ? 0 : qd_choose(c, i ? "b codes" : "a codes", 0, 3);
    const int32_t zero = i ? p->attrs.binary.b.zero_point : p->attrs.binary.a.zero_point;
    int64_t min, max;
    qd_code_range(p->formats[i], &min, &max);
    uint64_t stream = qd_stream(c, i ? "b codes" : "a codes");
    for (int64_t e = 0; e < qd_span(&p->desc[i], 0, p->desc[i].rank); e++) {
        const int64_t any = qd_between(&stream, min, max), near = zero + any / 16;
        const int64_t code = style < 2 ? near : style == 2 ? any : any % 2 ? min : max;
        ((uint8_t *)data)[e] = (uint8_t)(code < min ? min : code > max ? max : code);
    }
    return true;
}

const qd_op_rules qd_rules_binary = {.attrs = true, .check = check, .choose = choose, .fill = fill};
