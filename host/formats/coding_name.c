/* Names of codings, and the sizes of what they make. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "formats/coding.h"

typedef struct family {
    const char *name;
    qd_coding_kind kind;
    int least, most;
    int64_t group;
    qd_coding_scale scale;
    qd_coding_rule rule;
    const char *what;
} family;

static const family families[] = {
#define QD_CODING(name, kind, least, most, group, scale, rule, what) \
    {#name, QD_CODING_##kind, least, most, group, QD_SCALE_##scale, QD_RULE_##rule, what},
#include "qdot/qdot_codings.def"
};
enum { FAMILIES = sizeof families / sizeof families[0] };

bool qd_coding_family(int i, const char **name, int *least_bits, int *most_bits, const char **what) {
    if (i < 0 || i >= FAMILIES) return false;
    *name = families[i].name;
    *least_bits = families[i].least;
    *most_bits = families[i].most;
    *what = families[i].what;
    return true;
}

/* ---- Names -------------------------------------------------------------------------------------------------- */

static const struct {
    const char *word;
    qd_coding_scale scale;
} scale_words[] = {{"f32", QD_SCALE_F32},
                   {"f16", QD_SCALE_F16},
                   {"bf16", QD_SCALE_BF16},
                   {"e4m3", QD_SCALE_E4M3},
                   {"e8m0", QD_SCALE_E8M0}};

/* -2^(bits-1) … 2^(bits-1) - 1. */
static void full_range(qd_coding *c) {
    c->lowest = -(1 << (c->bits - 1));
    c->highest = -c->lowest - 1;
    c->rule = QD_RULE_EXTREME;
}

static void narrow_range(qd_coding *c) {
    c->highest = (1 << (c->bits - 1)) - 1;
    c->lowest = -c->highest;
    c->rule = QD_RULE_LARGEST;
}

static void set_defaults(int f, int bits, qd_coding *c) {
    *c = (qd_coding){.family = f,
                     .kind = families[f].kind,
                     .bits = bits,
                     .group = families[f].group,
                     .scale = families[f].scale,
                     .rule = families[f].rule};
    if (c->kind == QD_CODING_PRODUCT) {
        c->length = 2;
        c->share = 16;
    }
    if (c->kind != QD_CODING_UNIFORM) return;
    full_range(c);
    c->rule = families[f].rule;
    if (c->rule == QD_RULE_FIT) { /* ternary */
        narrow_range(c);
        c->rule = QD_RULE_FIT;
    } else if (bits == 8) {
        narrow_range(c);
        c->group = 0;
        c->scale = QD_SCALE_F32;
    }
}

/* The family whose name the text begins with, and the text behind it: the longest such name. */
static int find_family(const char *name, int *bits, const char **rest) {
    int found = -1;
    for (int f = 0; f < FAMILIES; f++) {
        const size_t n = strlen(families[f].name);
        if (strncmp(name, families[f].name, n)) continue;
        const char *p = name + n;
        int b = families[f].least;
        if (families[f].least != families[f].most) {
            if (*p < '0' || *p > '9') continue;
            b = *p++ - '0';
            if (b < families[f].least || b > families[f].most) continue;
        }
        if (*p && *p != '-') continue;
        found = f;
        *bits = b;
        *rest = p;
    }
    return found;
}

/* A number behind a letter, up to the next option; -1 when there is none. */
static int64_t number_of(const char *p, size_t n) {
    int64_t v = 0;
    if (n < 2 || n > 9) return -1;
    for (size_t i = 1; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        v = 10 * v + (p[i] - '0');
    }
    return v;
}

static bool is(const char *p, size_t n, const char *word) {
    return n == strlen(word) && !strncmp(p, word, n);
}

/* Takes one option; false when the coding has none of that name. */
static bool take_option(const char *p, size_t n, qd_coding *c) {
    const bool uniform = c->kind == QD_CODING_UNIFORM, scaled = c->scale != QD_SCALE_NONE;
    const bool plain = uniform && c->rule != QD_RULE_FIT;
    const int64_t number = number_of(p, n);
    for (size_t i = 0; scaled && i < sizeof scale_words / sizeof scale_words[0]; i++) {
        if (!is(p, n, scale_words[i].word)) continue;
        c->scale = scale_words[i].scale;
        return true;
    }
    if (*p == 'g' && scaled && c->kind != QD_CODING_PRODUCT && number >= 16 && number % 16 == 0) {
        c->group = number;
    } else if (is(p, n, "row") && scaled) {
        c->group = 0;
    } else if (is(p, n, "tensor") && scaled && c->kind != QD_CODING_PRODUCT) {
        c->group = -1;
    } else if (is(p, n, "asym") && plain) {
        c->asymmetric = true;
    } else if (is(p, n, "narrow") && plain) {
        narrow_range(c);
    } else if (is(p, n, "full") && plain) {
        full_range(c);
    } else if (is(p, n, "dq") && scaled && c->kind != QD_CODING_PRODUCT) {
        c->nested = true;
    } else if (is(p, n, "row") && c->kind == QD_CODING_TABLE) {
        c->per_row = true;
    } else if (*p == 'd' && c->kind == QD_CODING_PRODUCT && (number == 2 || number == 4 || number == 8)) {
        c->length = (int)number;
    } else if (*p == 's' && c->kind == QD_CODING_PRODUCT && number >= 1 && number <= 1024) {
        c->share = (int)number;
    } else {
        return false;
    }
    return true;
}

static qd_status unknown(const char *name) {
    char known[256] = "";
    size_t used = 0;
    for (int f = 0; f < FAMILIES; f++) {
        const family *x = &families[f];
        const int n = x->least == x->most
                          ? snprintf(known + used, sizeof known - used, " %s", x->name)
                          : snprintf(known + used, sizeof known - used, " %s%d…%d", x->name, x->least, x->most);
        if (n > 0 && (size_t)n < sizeof known - used) used += (size_t)n;
    }
    return qd_fail(QD_ERR_ARGUMENT, "unknown coding \"%.64s\"; known are%s, with options such as -g64", name, known);
}

qd_status qd_coding_parse(const char *name, qd_coding *out) {
    if (!name || !out) return qd_fail(QD_ERR_ARGUMENT, "coding: pass a name and a place for the result, not NULL");
    int bits = 0;
    const char *p = NULL;
    const int f = find_family(name, &bits, &p);
    if (f < 0) return unknown(name);
    qd_coding c;
    set_defaults(f, bits, &c);
    while (*p) {
        const char *option = p + 1;
        const size_t n = strcspn(option, "-");
        if (!take_option(option, n, &c)) {
            return qd_fail(
                QD_ERR_ARGUMENT,
                "%.64s: option \"%.*s\" is not known here. Integers: -g16 …, -row, -tensor, -asym, -narrow, "
                "-full; tables and log: -g16 …, -row, -tensor; scales: -f32, -f16, -bf16, -e4m3, -e8m0, -dq; "
                "kmeans: -row; pq: -d2, -d4, -d8, -s1 …",
                name, (int)(n < 32 ? n : 32), option);
        }
        p = option + n;
    }
    if (c.asymmetric) {
        c.lowest = 0;
        c.highest = (1 << c.bits) - 1;
    }
    if (c.nested && c.group == -1)
        return qd_fail(QD_ERR_ARGUMENT, "%.64s: a single scale cannot be quantized again; leave out -dq", name);
    *out = c;
    return QD_OK;
}

/* Appends to a text that has room. */
static void append(char *out, size_t capacity, const char *format, int64_t number) {
    const size_t used = strlen(out);
    snprintf(out + used, capacity - used, format, (long long)number);
}

void qd_coding_name(const qd_coding *c, char *out, size_t capacity) {
    if (!capacity) return;
    const family *f = &families[c->family];
    qd_coding usual;
    set_defaults(c->family, c->bits, &usual);
    snprintf(out, capacity, "%s", f->name);
    if (f->least != f->most) append(out, capacity, "%lld", c->bits);
    if (c->group > 0 && c->group != usual.group) append(out, capacity, "-g%lld", c->group);
    if (c->group != usual.group && c->group <= 0) append(out, capacity, c->group ? "-tensor" : "-row", 0);
    if (c->per_row) append(out, capacity, "-row", 0);
    if (c->asymmetric) {
        append(out, capacity, "-asym", 0);
    } else if (c->lowest != usual.lowest) {
        append(out, capacity, c->lowest == -c->highest ? "-narrow" : "-full", 0);
    }
    for (size_t i = 0; c->scale != usual.scale && i < sizeof scale_words / sizeof scale_words[0]; i++) {
        if (c->scale != scale_words[i].scale) continue;
        append(out, capacity, "-", 0);
        append(out, capacity, scale_words[i].word, 0);
    }
    if (c->nested) append(out, capacity, "-dq", 0);
    if (c->length != usual.length) append(out, capacity, "-d%lld", c->length);
    if (c->share != usual.share) append(out, capacity, "-s%lld", c->share);
}

/* ---- Sizes -------------------------------------------------------------------------------------------------- */

enum { NESTED_BLOCK = 256 };

static const int scale_bytes[] = {0, 4, 2, 2, 1, 1}; /* of qd_coding_scale */

static bool is_coding(const qd_coding *c) {
    if (!c || c->family < 0 || c->family >= FAMILIES || c->bits < families[c->family].least ||
        c->bits > families[c->family].most || c->kind != families[c->family].kind)
        return false;
    if (c->scale < QD_SCALE_NONE || c->scale > QD_SCALE_E8M0 || c->group < -1 || c->group % 16 > 0) return false;
    if (c->kind == QD_CODING_PRODUCT)
        return (c->length == 2 || c->length == 4 || c->length == 8) && c->share >= 1 && c->share <= 1024;
    return !(c->nested && (c->group < 0 || c->scale == QD_SCALE_NONE));
}

/* Places that have one codebook: a divisor of all of them. */
static int64_t share_of(int64_t places, int64_t share) {
    while (share) {
        const int64_t rest = places % share;
        places = share;
        share = rest;
    }
    return places;
}

qd_status qd_coding_layout(const qd_coding *c, int64_t n, int64_t k, qd_coded_params *out) {
    enum { LARGEST = 1 << 26 };
    if (!is_coding(c)) return qd_fail(QD_ERR_ARGUMENT, "coding: not made by qd_coding_parse");
    if (n < 1 || k < 1 || n > LARGEST || k > LARGEST)
        return qd_fail(QD_ERR_ARGUMENT, "coding: a matrix of %lld × %lld", (long long)n, (long long)k);
    const bool product = c->kind == QD_CODING_PRODUCT;
    if (product && k % c->length) {
        return qd_fail(QD_ERR_ARGUMENT, "coding: rows of %lld weights are no whole number of vectors of %d; use -d%d",
                       (long long)k, c->length, k % 4 || c->length < 8 ? 2 : 4);
    }
    const int64_t group = c->group > 0 && c->group < k ? c->group : k, codes = product ? k / c->length : k;
    *out = (qd_coded_params){.count = (qd_i32)n,
                             .n = (qd_i32)n,
                             .k = (qd_i32)k,
                             .kind = (qd_i32)c->kind,
                             .bits = c->bits,
                             .is_signed = c->kind == QD_CODING_UNIFORM && !c->asymmetric,
                             .group = (qd_i32)group,
                             .groups = (qd_i32)((k + group - 1) / group),
                             .scale = (qd_i32)c->scale,
                             .zeros_at = QD_ABSENT,
                             .table_at = QD_ABSENT,
                             .nested_at = QD_ABSENT,
                             .tensor_at = QD_ABSENT,
                             .length = c->length,
                             .share = product ? (qd_i32)share_of(codes, c->share) : 0,
                             .addend = QD_ABSENT};
    int64_t side = 0, at = 0;
    if (product) {
        out->table_at = 0;
        side = (codes / out->share * c->length) << c->bits;
    } else if (c->kind == QD_CODING_TABLE && c->per_row) {
        at = (int64_t)4 << c->bits;
    } else if (c->kind == QD_CODING_TABLE) {
        out->table_at = 0;
        side = (int64_t)1 << c->bits;
    }
    out->scales_at = (qd_i32)at;
    if (c->group == -1 || (c->scale == QD_SCALE_E4M3 && !c->nested)) out->tensor_at = (qd_i32)side;
    if (c->group == -1) {
        out->scale = QD_SCALE_AS_TENSOR;
    } else if (c->nested) {
        out->scale = QD_SCALE_AS_NESTED;
        out->nested_at = (qd_i32)side;
        at += out->groups;
    } else {
        at += (int64_t)out->groups * scale_bytes[c->scale];
    }
    if (c->asymmetric && c->group != -1) {
        out->zeros_at = (qd_i32)at;
        at += ((int64_t)out->groups * c->bits + 7) / 8;
    }
    out->codes_at = (qd_i32)at;
    if (side > INT32_MAX || at > LARGEST)
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "coding: tables of more than 2^31 numbers; use fewer bits or longer vectors");
    return QD_OK;
}

size_t qd_coding_row_bytes(const qd_coding *c, int64_t cols) {
    qd_coded_params p;
    if (qd_coding_layout(c, 1, cols, &p)) return 0;
    const int64_t codes = c->kind == QD_CODING_PRODUCT ? cols / c->length : cols;
    return (size_t)p.codes_at + (size_t)((codes * c->bits + 7) / 8);
}

int64_t qd_coding_side_count(const qd_coding *c, int64_t rows, int64_t cols) {
    qd_coded_params p;
    if (qd_coding_layout(c, rows, cols, &p)) return 1;
    int64_t count = 0;
    if (p.table_at != QD_ABSENT) count = (c->kind == QD_CODING_PRODUCT ? cols / p.share : 1) << c->bits;
    if (p.tensor_at != QD_ABSENT) count += 2;
    if (p.nested_at != QD_ABSENT) count += 256 + 1 + (rows * p.groups + NESTED_BLOCK - 1) / NESTED_BLOCK;
    return count ? count : 1;
}

double qd_coding_bits(const qd_coding *c, int64_t rows, int64_t cols) {
    const double bytes =
        (double)rows * (double)qd_coding_row_bytes(c, cols) + 4.0 * (double)qd_coding_side_count(c, rows, cols);
    return 8 * bytes / ((double)rows * (double)cols);
}
