/* The comparison rules of golden vectors; the words are those of tests/golden/vectors/FORMAT.md. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/vectors.h"

#define MAX_TABLE 256

typedef enum rule_kind { EXACT, MAX_ABS, MAX_REL, MAX_ULP, MAX_EXCESS, ADJACENT_CODES, INFORMATIVE } rule_kind;

typedef struct rule {
    rule_kind kind;
    double limit;
    const float *table; /* MAX_EXCESS, ADJACENT_CODES: value of each code */
    int table_count;
    int rank[MAX_TABLE]; /* ADJACENT_CODES: number of different table values below that of the code */
} rule;

/* What is compared: whole elements (bits 0), or codes of `bits` bits packed into bytes. */
typedef struct layout {
    int bits;
    bool high_first;
    int64_t rows, row_bytes, row_codes;
} layout;

typedef struct comparison {
    const qd_vec_tensor *want;
    const unsigned char *got;
    layout codes;
    const cJSON *equivalent; /* pairs of codes */
    const double *value;
    bool flushes;
} comparison;

/* ---- Elements ----------------------------------------------------------------------------------------------- */

bool qd_vec_is_float(qd_vec_dtype t) {
    return t == QD_VEC_F64 || t == QD_VEC_F32 || t == QD_VEC_F16 || t == QD_VEC_BF16;
}

static uint64_t bits_at(const qd_vec_tensor *t, const void *data, int64_t i) {
    const size_t bytes = qd_vec_dtype_bytes(t->dtype);
    uint64_t bits = 0;
    memcpy(&bits, (const char *)data + (size_t)i * bytes, bytes);
    return bits;
}

/* Sign-extended where the type has a sign. */
static int64_t integer_of(qd_vec_dtype t, uint64_t bits) {
    switch (t) {
        case QD_VEC_I8:
            return (int8_t)bits;
        case QD_VEC_I16:
            return (int16_t)bits;
        case QD_VEC_I32:
            return (int32_t)bits;
        default:
            return (int64_t)bits;
    }
}

static double float_of(qd_vec_dtype t, uint64_t bits) {
    const int sign = bits >> 15 & 1, exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
    double d;
    float f;
    uint32_t word = (uint32_t)bits;
    switch (t) {
        case QD_VEC_F16:
            d = exponent == 31 ? (fraction ? NAN : INFINITY)
                               : ldexp(exponent ? 1024 + fraction : fraction, (exponent ? exponent : 1) - 25);
            return sign ? -d : d;
        case QD_VEC_BF16:
            word <<= 16;
            /* fall through */
        case QD_VEC_F32:
            memcpy(&f, &word, sizeof f);
            return (double)f;
        default:
            memcpy(&d, &bits, sizeof d);
            return d;
    }
}

double qd_vec_float(const qd_vec_tensor *t, int64_t i) {
    return float_of(t->dtype, bits_at(t, t->data, i));
}

/* NaN codes of the small floats, sign removed: all from `first` to `last`. The "uz" types have only negative zero. */
static const struct {
    const char *logical;
    uint64_t mask, first, last;
} nan_codes[] = {
    {"f8e4m3fn", 0x7f, 0x7f, 0x7f},   {"f8e5m2", 0x7f, 0x7d, 0x7f},     {"f8e4m3", 0x7f, 0x79, 0x7f},
    {"f8e4m3fnuz", 0xff, 0x80, 0x80}, {"f8e5m2fnuz", 0xff, 0x80, 0x80}, {"f8e3m4", 0x7f, 0x71, 0x7f},
    {"f8e8m0fnu", 0xff, 0xff, 0xff},
};

static bool is_nan(const qd_vec_tensor *t, uint64_t bits) {
    if (qd_vec_is_float(t->dtype)) return isnan(float_of(t->dtype, bits));
    for (size_t i = 0; t->logical && i < sizeof nan_codes / sizeof nan_codes[0]; i++) {
        if (strcmp(t->logical, nan_codes[i].logical) != 0) continue;
        return (bits & nan_codes[i].mask) >= nan_codes[i].first && (bits & nan_codes[i].mask) <= nan_codes[i].last;
    }
    return false;
}

/* Unit in the last place of x, a value of type t. */
static double ulp_of(qd_vec_dtype t, double x) {
    static const struct {
        int mantissa, least_exponent;
    } shape[] = {
        [QD_VEC_F64] = {52, -1022}, [QD_VEC_F32] = {23, -126}, [QD_VEC_F16] = {10, -14}, [QD_VEC_BF16] = {7, -126}};
    int exponent = shape[t].least_exponent;
    if (x != 0) {
        int e;
        frexp(x, &e);
        if (e - 1 > exponent) exponent = e - 1;
    }
    return ldexp(1.0, exponent - shape[t].mantissa);
}

static bool elements_differ(const comparison *k, const rule *r, int64_t i) {
    const qd_vec_tensor *t = k->want;
    const uint64_t want = bits_at(t, t->data, i), got = bits_at(t, k->got, i);
    if (want == got || (is_nan(t, want) && is_nan(t, got))) return false;
    if (k->flushes && t->dtype == QD_VEC_F32 && fabs(float_of(t->dtype, want)) < 0x1p-126 && (got & 0x7fffffffu) == 0) {
        return false;
    }
    if (r->kind == EXACT) return true;
    if (!qd_vec_is_float(t->dtype)) {
        const int64_t a = integer_of(t->dtype, want), b = integer_of(t->dtype, got);
        const double distance = (double)(a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a);
        return distance > (r->kind == MAX_REL ? r->limit * fabs((double)a) : r->limit);
    }
    const double a = float_of(t->dtype, want), b = float_of(t->dtype, got);
    if (!isfinite(a) || !isfinite(b)) return true;
    if (r->kind == MAX_REL) return fabs(b - a) > r->limit * fabs(a);
    if (r->kind == MAX_ULP) return fabs(b - a) > r->limit * ulp_of(t->dtype, a);
    return fabs(b - a) > r->limit;
}

/* ---- Packed codes ------------------------------------------------------------------------------------------- */

static int code_at(const layout *l, const void *data, int64_t i) {
    const int64_t bit = i % l->row_codes * l->bits;
    const int byte = ((const unsigned char *)data)[i / l->row_codes * l->row_bytes + bit / 8];
    const int shift = l->high_first ? 8 - l->bits - (int)(bit % 8) : (int)(bit % 8);
    return (byte >> shift) & ((1 << l->bits) - 1);
}

static bool codes_equivalent(const cJSON *pairs, int a, int b) {
    const cJSON *pair;
    cJSON_ArrayForEach(pair, pairs) {
        const cJSON *p = cJSON_GetArrayItem(pair, 0), *q = cJSON_GetArrayItem(pair, 1);
        if (!p || !q) continue;
        if ((p->valueint == a && q->valueint == b) || (p->valueint == b && q->valueint == a)) return true;
    }
    return false;
}

static bool codes_differ(const comparison *k, const rule *r, int64_t i) {
    const int want = code_at(&k->codes, k->want->data, i), got = code_at(&k->codes, k->got, i);
    if (r->kind == MAX_EXCESS) {
        double least = INFINITY;
        if (got >= r->table_count) return true;
        for (int q = 0; q < r->table_count; q++) {
            least = fmin(least, fabs((double)r->table[q] - k->value[i]));
        }
        return !(fabs((double)r->table[got] - k->value[i]) <= least + r->limit);
    }
    if (want == got || codes_equivalent(k->equivalent, want, got)) return false;
    if (r->kind != ADJACENT_CODES || want >= r->table_count || got >= r->table_count) return true;
    const int steps = r->rank[got] - r->rank[want];
    return steps < -1 || steps > 1;
}

/* ---- Manifest ----------------------------------------------------------------------------------------------- */

/* Finds the table of a rule among the case's inputs, and ranks its values. */
static qd_status find_table(const qd_vec_case *c, const char *name, rule *r) {
    const qd_vec_tensor *t = qd_vec_input(c, name);
    if (!t || t->dtype != QD_VEC_F32 || (t->count != 16 && t->count != MAX_TABLE)) {
        return qd_vec_fail(QD_ERR_FILE, "%.64s: the tolerance needs a table \"%.32s\" of 16 or %d floats", c->name,
                           name, MAX_TABLE);
    }
    r->table = t->data;
    r->table_count = (int)t->count;
    for (int i = 0; i < r->table_count; i++) {
        r->rank[i] = 0;
        for (int j = 0; j < r->table_count; j++) {
            bool counted = r->table[j] >= r->table[i];
            for (int earlier = 0; earlier < j && !counted; earlier++) {
                counted = r->table[earlier] == r->table[j];
            }
            r->rank[i] += !counted;
        }
    }
    return QD_OK;
}

static qd_status parse_rule(const qd_vec_case *c, const cJSON *json, rule *r) {
    static const struct {
        const char *key;
        rule_kind kind;
    } keys[] = {{"max_abs", MAX_ABS}, {"max_rel", MAX_REL}, {"max_ulp", MAX_ULP}, {"max_excess", MAX_EXCESS}};
    *r = (rule){.kind = EXACT};
    if (cJSON_IsString(json) && strcmp(json->valuestring, "exact") == 0) return QD_OK;
    if (cJSON_HasObjectItem(json, "informative")) {
        r->kind = INFORMATIVE;
        return QD_OK;
    }
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "adjacent_codes"))) {
        r->kind = ADJACENT_CODES;
        return find_table(c, "table", r);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const cJSON *limit = cJSON_GetObjectItemCaseSensitive(json, keys[i].key);
        if (!cJSON_IsNumber(limit)) continue;
        r->kind = keys[i].kind;
        r->limit = limit->valuedouble;
        if (r->kind != MAX_EXCESS) return QD_OK;
        const char *table = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "table"));
        return find_table(c, table ? table : "table", r);
    }
    return qd_vec_fail(QD_ERR_FILE, "%.64s: a tolerance of a kind that this reader does not know", c->name);
}

/* Decides between elements and codes; see layout. */
static qd_status find_layout(const qd_vec_case *c, const qd_vec_tensor *want, const rule *r, layout *l) {
    const cJSON *padding = cJSON_GetObjectItemCaseSensitive(want->json, "padding");
    const bool nibbles = cJSON_HasObjectItem(want->json, "equivalent_nibbles");
    *l = (layout){.rows = 1, .row_bytes = (int64_t)want->bytes};
    if (padding) {
        const cJSON *bits = cJSON_GetObjectItemCaseSensitive(padding, "bits");
        const cJSON *codes = cJSON_GetObjectItemCaseSensitive(padding, "valid_row_codes");
        l->bits = cJSON_IsNumber(bits) ? bits->valueint : 0;
        l->high_first = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(padding, "high_first"));
        l->row_codes = cJSON_IsNumber(codes) ? codes->valueint : 0;
        l->rows = want->rank > 1 && want->shape[0] > 0 ? want->shape[0] : 1; /* a vector is one row */
        l->row_bytes = (int64_t)want->bytes / l->rows;
    } else if (r->kind == MAX_EXCESS || r->kind == ADJACENT_CODES || nibbles) {
        l->bits = nibbles || r->table_count == 16 ? 4 : 8;
        l->high_first = true;
        l->row_codes = l->row_bytes * 8 / l->bits;
    } else {
        return QD_OK;
    }
    const bool known = l->bits == 1 || l->bits == 2 || l->bits == 4 || l->bits == 8;
    if (!known || want->dtype != QD_VEC_U8 || l->row_codes < 1 || l->row_codes > l->row_bytes * 8 / l->bits) {
        return qd_vec_fail(QD_ERR_FILE, "%.64s: %.32s cannot be unpacked as its entry says", c->name, want->name);
    }
    return QD_OK;
}

/* ---- Comparison --------------------------------------------------------------------------------------------- */

static void describe(const comparison *k, int64_t i, char *text, size_t size) {
    const qd_vec_tensor *t = k->want;
    if (k->codes.bits) {
        snprintf(text, size, "%.32s: code %" PRId64 " is %d, not %d", t->name, i, code_at(&k->codes, k->got, i),
                 code_at(&k->codes, t->data, i));
        return;
    }
    const uint64_t want = bits_at(t, t->data, i), got = bits_at(t, k->got, i);
    if (qd_vec_is_float(t->dtype)) {
        snprintf(text, size, "%.32s[%" PRId64 "] is %.17g (0x%" PRIx64 "), not %.17g (0x%" PRIx64 ")", t->name, i,
                 float_of(t->dtype, got), got, float_of(t->dtype, want), want);
    } else {
        snprintf(text, size, "%.32s[%" PRId64 "] is %" PRId64 ", not %" PRId64, t->name, i, integer_of(t->dtype, got),
                 integer_of(t->dtype, want));
    }
}

/* Counts what lies outside a rule; *first is the index of the first. */
static qd_status count_different(const qd_vec_case *c, comparison *k, const rule *r, int64_t *different,
                                 int64_t *first) {
    const qd_status status = find_layout(c, k->want, r, &k->codes);
    if (status != QD_OK) return status;
    const bool codes = k->codes.bits != 0;
    const int64_t count = codes ? k->codes.rows * k->codes.row_codes : k->want->count;
    *different = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!(codes ? codes_differ(k, r, i) : elements_differ(k, r, i))) continue;
        if ((*different)++ == 0) *first = i;
    }
    return QD_OK;
}

qd_status qd_vec_compare(const qd_vec_case *c, const qd_vec_tensor *want, const void *got, size_t got_bytes,
                         const qd_vec_options *options, qd_vec_result *out) {
    const cJSON *relaxed = cJSON_GetObjectItemCaseSensitive(want->json, "relaxed");
    comparison k = {.want = want, .got = got};
    rule r;
    qd_status status = parse_rule(c, cJSON_GetObjectItemCaseSensitive(want->json, "tolerance"), &r);
    if (status != QD_OK) return status;
    *out = (qd_vec_result){.verdict = QD_VEC_PASS};
    if (got_bytes != want->bytes) {
        out->verdict = QD_VEC_FAIL;
        out->different = want->count;
        snprintf(out->first, sizeof out->first, "%.32s has %zu bytes, not %zu", want->name, got_bytes, want->bytes);
        return QD_OK;
    }
    if (r.kind == INFORMATIVE) {
        out->verdict = QD_VEC_INFORMATIVE;
        return QD_OK;
    }
    k.equivalent = cJSON_GetObjectItemCaseSensitive(want->json, "equivalent_nibbles");
    k.value = options ? options->value : NULL;
    k.flushes =
        options && options->flushes_denormals && (qd_vec_tagged(c, "denormal") || qd_vec_tagged(c, "subnormal"));
    if (r.kind == MAX_EXCESS && !k.value) {
        return qd_vec_fail(QD_ERR_ARGUMENT, "%.64s: max_excess needs the values that the codes stand for", c->name);
    }
    int64_t first = 0;
    status = count_different(c, &k, &r, &out->different, &first);
    if (status != QD_OK || out->different == 0) return status;
    out->verdict = QD_VEC_FAIL;
    describe(&k, first, out->first, sizeof out->first);
    if (relaxed) {
        int64_t different = 0;
        status = parse_rule(c, relaxed, &r);
        if (status == QD_OK) status = count_different(c, &k, &r, &different, &first);
        if (status == QD_OK && different == 0) out->verdict = QD_VEC_RELAXED;
    }
    return status;
}

qd_status qd_vec_quality_limit(const qd_vec_case *c, double *limit) {
    const cJSON *quality = cJSON_GetObjectItemCaseSensitive(c->json, "quality");
    const cJSON *best = cJSON_GetObjectItemCaseSensitive(quality, "rmse");
    const cJSON *ratio = cJSON_GetObjectItemCaseSensitive(quality, "max_ratio");
    const cJSON *floor = cJSON_GetObjectItemCaseSensitive(quality, "floor");
    if (!best) best = cJSON_GetObjectItemCaseSensitive(quality, "mse");
    if (!cJSON_IsNumber(best) || !cJSON_IsNumber(ratio) || !cJSON_IsNumber(floor)) {
        return qd_vec_fail(QD_ERR_FILE, "%.64s: no quality with rmse or mse, max_ratio and floor", c->name);
    }
    *limit = best->valuedouble * ratio->valuedouble + floor->valuedouble;
    return QD_OK;
}
