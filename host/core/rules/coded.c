/* Weights in a coding. */
#include "formats/coding.h"

#include <math.h>
#include <string.h>

#include "core/rules/rules.h"

/* The layout, and that w and side are as large as it says. */
static qd_status check_layout(qd_node *n, const char *op, int64_t rows, int64_t cols, const qd_symbols *s) {
    const qd_coding *c = &n->attrs.coded.coding;
    if (n->attrs.coded.cols != cols) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %lld columns by the attributes, %lld by the shapes", op,
                       (long long)n->attrs.coded.cols, (long long)cols);
    }
    const qd_status status = qd_coding_layout(c, rows, cols, &n->params.coded);
    if (status) return status;
    n->params_bytes = sizeof n->params.coded;
    const size_t bytes = qd_coding_row_bytes(c, cols);
    const int64_t side = qd_coding_side_count(c, rows, cols);
    const bool side_fits = s->of['S' - 'A'] == side;
    if (s->of['B' - 'A'] == (int64_t)bytes && side_fits) return QD_OK;
    char name[64];
    qd_coding_name(c, name, sizeof name);
    return qd_fail(QD_ERR_ARGUMENT, "%s: %s of %lld × %lld weights in %s has %lld %s where %lld are needed", op,
                   !side_fits                    ? "side"
                   : n->op == QD_OP_MATMUL_CODED ? "w"
                                                 : "table",
                   (long long)rows, (long long)cols, name, (long long)(side_fits ? s->of['B' - 'A'] : s->of['S' - 'A']),
                   side_fits ? "bytes in a row" : "floats", (long long)(side_fits ? (int64_t)bytes : side));
}

static qd_status check_matmul(qd_node *n, const qd_symbols *s) {
    const int64_t N = s->of['N' - 'A'], K = s->of['K' - 'A'];
    const qd_status status = check_layout(n, "matmul_coded", N, K, s);
    if (status) return status;
    const qd_tensor *addend = n->in[3];
    n->macs = (double)N * (double)K;
    n->params.coded.a8 = n->in[2]->desc.format == QD_FORMAT_A8;
    if (addend) n->params.coded.addend = addend->desc.rank == 1 ? QD_SHARED : QD_EACH;
    return QD_OK;
}

static qd_status check_rows(qd_node *n, const qd_symbols *s) {
    return check_layout(n, "get_rows_coded", s->of['V' - 'A'], s->of['C' - 'A'], s);
}

/* A coding of any family with any options that it takes. */
static qd_coding choose_coding(qd_choices *c) {
    static const char *const names[] = {
        "int4",           "int8",          "int4-asym",   "int8-asym-row", "int4-g64-f32",
        "int3-bf16",      "int5-g48-asym", "int6-tensor", "int7-e8m0",     "int2-e4m3",
        "ternary",        "int1",          "nf4",         "nf4-dq",        "fp4",
        "fp4_e2m1",       "fp4_e3m0",      "fp8_e4m3",    "fp8_e5m2-dq",   "log3",
        "log4-g16",       "log5-row",      "log7",        "log8-tensor",   "normal3",
        "normal4-dq",     "kmeans4",       "kmeans5-row", "kmeans8",       "pq4",
        "pq6-d4-s1",      "pq3-d8-s3",     "int4-dq",     "int3-dq-asym",  "int8-asym-tensor",
        "int2-asym-e8m0", "fp4-e4m3"};
    qd_coding coding;
    const int64_t i = qd_choose(c, "coding", 0, sizeof names / sizeof names[0] - 1);
    if (qd_coding_parse(names[i], &coding)) memset(&coding, 0, sizeof coding);
    return coding;
}

static void choose(qd_choices *c, qd_problem *p) {
    int64_t *of = p->s.of;
    const bool product = p->op == QD_OP_MATMUL_CODED, a8 = product && p->formats[2] == QD_FORMAT_A8;
    const qd_coding coding = choose_coding(c);
    const int unit = a8 ? 16 : coding.kind == QD_CODING_PRODUCT ? coding.length : 1;
    const int64_t rows = qd_choose_size(c, "N", 40 * c->size),
                  cols = unit * qd_choose_size(c, "K/u", (unit > 1 ? 10 : 150) * c->size);
    of['R' - 'A'] = qd_choose_size(c, "R", 7 * c->size);
    of['N' - 'A'] = of['V' - 'A'] = rows;
    of['K' - 'A'] = of['C' - 'A'] = cols;
    of['B' - 'A'] = (int64_t)qd_coding_row_bytes(&coding, cols);
    of['S' - 'A'] = qd_coding_side_count(&coding, rows, cols);
    p->attrs.coded.coding = coding;
    p->attrs.coded.cols = cols;
}

/* Numbers such as tables and scales are, now and then those of a broken model. */
static float any_number(uint64_t *stream, bool nasty) {
    static const float bad[] = {INFINITY, NAN, 0, -0.0f, 1e30f, 1e-40f};
    const float u = (float)qd_between(stream, -1000000, 1000000) * 1e-6f;
    return nasty && !qd_between(stream, 0, 5) ? bad[qd_next_random(stream) % 6] : u;
}

static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    const qd_coding *coding = &p->attrs.coded.coding;
    const int64_t rows = p->s.of['N' - 'A'], bytes = p->s.of['B' - 'A'], side = p->s.of['S' - 'A'];
    const bool nasty = qd_choose(c, "nasty numbers", 0, 5) == 5;
    uint64_t stream = qd_stream(c, i == 0 ? "codes" : "side");
    qd_coded_params layout;
    if (i == 2 && p->op == QD_OP_GET_ROWS_CODED) {
        for (int64_t r = 0; r < p->s.of['R' - 'A']; r++)
            ((int32_t *)data)[r] = (int32_t)qd_between(&stream, -1, rows);
        return true;
    }
    if (i > 1 || qd_coding_layout(coding, rows, p->s.of['K' - 'A'], &layout)) return false;
    if (i == 1) {
        for (int64_t k = 0; k < side; k++)
            ((float *)data)[k] = any_number(&stream, nasty);
        if (layout.tensor_at >= 0) ((float *)data)[layout.tensor_at + 1] = (float)qd_between(&stream, -3, 260);
        return true;
    }
    /* Any codes; scales and tables that are numbers of a size that says something. */
    unsigned char *row = data;
    for (int64_t r = 0; r < rows; r++, row += bytes) {
        for (int64_t k = 0; k < bytes; k++)
            row[k] = (unsigned char)qd_next_random(&stream);
        for (int64_t k = 0; k < layout.scales_at; k += 4) {
            const float v = any_number(&stream, nasty);
            memcpy(row + k, &v, 4);
        }
        for (int64_t g = 0; g < layout.groups; g++) {
            unsigned char *scale = row + layout.scales_at;
            const float v = any_number(&stream, nasty);
            if (layout.scale == QD_SCALE_AS_F32) memcpy(scale + 4 * g, &v, 4);
            if (layout.scale == QD_SCALE_AS_E8M0)
                scale[g] = (unsigned char)qd_between(&stream, nasty ? 0 : 110, nasty ? 255 : 140);
            if (layout.scale == QD_SCALE_AS_F16) qd_quantize(QD_FORMAT_F16, &v, 1, 1, scale + 2 * g);
            if (layout.scale == QD_SCALE_AS_BF16) qd_quantize(QD_FORMAT_BF16, &v, 1, 1, scale + 2 * g);
        }
    }
    return true;
}

const qd_op_rules qd_rules_matmul_coded = {.attrs = true, .check = check_matmul, .choose = choose, .fill = fill};
const qd_op_rules qd_rules_get_rows_coded = {.attrs = true, .check = check_rows, .choose = choose, .fill = fill};
