/* The tables of codebooks, and the search in them. */
#include "qdot/qdot_codebook.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_minifloat.h"

/* ---- Making ------------------------------------------------------------------------------------------------- */

/* Orders the codes that quantizing may choose, and finds the midpoints. `value`, `count` are set. */
static void prepare(qd_codebook *b) {
    b->choices = 0;
    b->peak = 0;
    for (int i = 0; i < b->count; i++) {
        const float v = b->value[i];
        if (!isfinite(v)) continue;
        b->peak = fmaxf(b->peak, fabsf(v));
        /* By insertion: behind all that are less. */
        int at = b->choices;
        while (at > 0 && b->value[b->code[at - 1]] > v)
            at--;
        if (at > 0 && b->value[b->code[at - 1]] == v) continue;
        memmove(b->code + at + 1, b->code + at, (size_t)(b->choices - at));
        b->code[at] = (uint8_t)i;
        b->choices++;
    }
    for (int i = 0; i < QD_CODEBOOK_MOST; i++) {
        b->midpoint[i] = INFINITY;
        if (i + 1 < b->choices) b->midpoint[i] = b->value[b->code[i]] / 2 + b->value[b->code[i + 1]] / 2;
    }
}

qd_status qd_codebook_make(int bits, const float *values, int count, qd_codebook_scale scale, qd_codebook *out) {
    if (bits < 1 || bits > 8 || count < 1 || count > 1 << bits || !values || !out || (unsigned)scale > QD_SCALE_FIT) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "a codebook of %d values in %d bits: 1 to 8 bits, at most a value for each code", count, bits);
    }
    qd_codebook b = {.bits = bits, .count = count, .scale = scale};
    memcpy(b.value, values, (size_t)count * sizeof *values);
    prepare(&b);
    if (!b.choices) return qd_fail(QD_ERR_ARGUMENT, "a codebook without a finite value");
    *out = b;
    return QD_OK;
}

/* The makers of the rows of qdot_codebooks.def; each returns the number of values. */
static int from_list(float *value, const float *list, int count) {
    memcpy(value, list, (size_t)count * sizeof *list);
    return count;
}

static int from_floats(float *value, qd_minifloat t) {
    const int count = 1 << qd_minifloat_get(t)->bits;
    for (int i = 0; i < count; i++)
        value[i] = qd_minifloat_value(t, (uint16_t)i);
    return count;
}

static int compare_floats(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* For each power of ten from 1 down, half as many magnitudes as for the one before: the middles of equal parts of its
 * upper nine tenths; their negatives; 0; and 1, which takes the place of a second zero. The reference computes the ends
 * of the parts in single precision, from the nearer end on and fused, and so does this. */
static int from_dynamic(float *value, int exponent_bits) {
    int count = 0;
    for (int i = 0; i < exponent_bits; i++) {
        const int parts = 1 << i;
        const float power = (float)pow(10, i + 1 - exponent_bits), step = (1.0f - 0.1f) / (float)parts;
        float end[QD_CODEBOOK_MOST / 2 + 1];
        for (int p = 0; p <= parts; p++)
            end[p] = p < (parts + 1) / 2 ? fmaf(step, (float)p, 0.1f) : fmaf(-step, (float)(parts - p), 1.0f);
        for (int p = 0; p < parts; p++) {
            const float middle = (end[p] + end[p + 1]) / 2 * power;
            value[count++] = middle;
            value[count++] = -middle;
        }
    }
    value[count++] = 0;
    value[count++] = 1;
    qsort(value, (size_t)count, sizeof *value, compare_floats);
    return count;
}

qd_status qd_codebook_fixed(qd_codebook_id id, qd_codebook *out) {
    float value[QD_CODEBOOK_MOST];
    switch (id) {
#define LIST(...) \
    from_list(value, (const float[]){__VA_ARGS__}, (int)(sizeof((const float[]){__VA_ARGS__}) / sizeof(float)))
#define FLOATS(t) from_floats(value, QD_MINIFLOAT_##t)
#define DYNAMIC(exponent_bits) from_dynamic(value, exponent_bits)
#define QD_CODEBOOK(ID, name, bits, scale, values) \
    case QD_CODEBOOK_##ID:                         \
        return qd_codebook_make(bits, value, values, QD_SCALE_##scale, out);
#include "qdot/qdot_codebooks.def"
#undef LIST
#undef FLOATS
#undef DYNAMIC
        default:
            return qd_fail(QD_ERR_ARGUMENT, "codebook %d does not exist", (int)id);
    }
}

qd_status qd_codebook_log(int bits, qd_codebook *out) {
    float value[QD_CODEBOOK_MOST] = {0};
    if (bits < 3 || bits > 8) return qd_fail(QD_ERR_ARGUMENT, "powers of two in %d bits: 3 to 8", bits);
    const int half = 1 << (bits - 1);
    for (int e = 1; e < half; e++) {
        value[e] = ldexpf(1, e - half + 1);
        value[half + e] = -value[e];
    }
    return qd_codebook_make(bits, value, 2 * half, QD_SCALE_ABSMAX, out);
}

/* x with p = the probability that a normal variable is less; p from 1/2 on. By Newton's method, which from 0 on does
 * not overshoot, because the distribution is concave there. */
static double normal_quantile(double p) {
    double x = 0;
    for (int i = 0; i < 64; i++) {
        const double missing = p - 0.5 * erfc(-x * sqrt(0.5));
        x += missing * sqrt(2 * acos(-1)) * exp(x * x / 2);
    }
    return x;
}

qd_status qd_codebook_normal(int bits, qd_codebook *out) {
    float value[QD_CODEBOOK_MOST];
    if (bits < 2 || bits > 8)
        return qd_fail(QD_ERR_ARGUMENT, "quantiles of a normal distribution in %d bits: 2 to 8", bits);
    const int count = 1 << bits;
    for (int i = count / 2; i < count; i++) {
        value[i] = (float)(sqrt(3) * normal_quantile((i + 0.5) / count));
        value[count - 1 - i] = -value[i];
    }
    return qd_codebook_make(bits, value, count, QD_SCALE_RMS, out);
}

qd_status qd_codebook_find(const char *name, qd_codebook *out) {
    static const char *const names[] = {
#define QD_CODEBOOK(ID, name, bits, scale, values) #name,
#include "qdot/qdot_codebooks.def"
    };
    static const char all[] = ""
#define QD_CODEBOOK(ID, name, bits, scale, values) #name " "
#include "qdot/qdot_codebooks.def"
        ;
    char made[16];
    for (int i = 0; name && i < QD_CODEBOOK_COUNT; i++) {
        if (strcmp(names[i], name) == 0) return qd_codebook_fixed((qd_codebook_id)i, out);
    }
    for (int bits = 2; name && bits <= 8; bits++) {
        snprintf(made, sizeof made, "normal%d", bits);
        if (strcmp(made, name) == 0) return qd_codebook_normal(bits, out);
        snprintf(made, sizeof made, "log%d", bits);
        if (strcmp(made, name) == 0 && bits > 2) return qd_codebook_log(bits, out);
    }
    return qd_fail(QD_ERR_ARGUMENT, "no codebook \"%.32s\"; there are %slog3 ... log8, normal2 ... normal8",
                   name ? name : "", all);
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

/* Half of the power of two that is not less than the number of choices: where the search starts. */
static int first_step(const qd_codebook *b) {
    int step = 1;
    while (2 * step < b->choices)
        step *= 2;
    return step;
}

/* The number of midpoints below x is the place of the nearest value. They are padded with infinity, so that the search
 * has no branches. */
static inline uint8_t nearest(const qd_codebook *b, int step, float x) {
    int at = 0;
    for (; step; step /= 2)
        at += x > b->midpoint[at + step - 1] ? step : 0;
    return b->code[at];
}

uint8_t qd_codebook_nearest(const qd_codebook *book, float x) {
    return nearest(book, first_step(book), x);
}

void qd_codebook_encode(const qd_codebook *book, const float *x, int64_t n, float factor, uint8_t *codes) {
    const int step = first_step(book);
    for (int64_t i = 0; i < n; i++)
        codes[i] = nearest(book, step, x[i] * factor);
}

void qd_codebook_decode(const qd_codebook *book, const uint8_t *codes, int64_t n, float scale, float *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = book->value[codes[i]] * scale;
}
