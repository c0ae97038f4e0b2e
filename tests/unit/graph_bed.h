/* A graph with all that it is made of, to be freed at once: for tests that compare graphs with each other. */
#ifndef QDOT_TEST_GRAPH_BED_H
#define QDOT_TEST_GRAPH_BED_H

#include "unit/devices.h"

enum { BED_KEEPS = 128 };

typedef struct graph_bed {
    qd_context *c;
    qd_graph *g;
    uint32_t rng;
    void *data[BED_KEEPS]; /* that constants borrow */
    qd_tensor *keep[BED_KEEPS], *out[BED_KEEPS];
    int n_data, n_keep, n_out;
} graph_bed;

static inline void bed_open(graph_bed *b, qd_context *c, int64_t max_rows, uint32_t seed) {
    memset(b, 0, sizeof *b);
    b->c = c;
    b->rng = seed;
    ck_ok(qd_graph_create(c, max_rows, &b->g));
}

static inline void bed_close(graph_bed *b) {
    qd_graph_free(b->g);
    while (b->n_keep)
        qd_tensor_free(b->keep[--b->n_keep]);
    while (b->n_data)
        free(b->data[--b->n_data]);
}

static inline qd_tensor *bed_keep(graph_bed *b, qd_tensor *t) {
    ck_assert_int_lt(b->n_keep, BED_KEEPS);
    return b->keep[b->n_keep++] = t;
}

/** Bytes for a constant, freed with the bed. */
static inline void *bed_bytes(graph_bed *b, size_t bytes) {
    void *p = calloc(1, bytes);
    ck_assert_ptr_nonnull(p);
    ck_assert_int_lt(b->n_data, BED_KEEPS);
    return b->data[b->n_data++] = p;
}

static inline qd_tensor *bed_constant(graph_bed *b, qd_tensor_desc d, const void *data) {
    qd_tensor *t;
    const size_t bytes = qd_desc_bytes(&d);
    ck_ok(qd_tensor_constant(b->c, &d, memcpy(bed_bytes(b, bytes), data, bytes), &t));
    return bed_keep(b, t);
}

/** Random values of any format, those of i32 small. To be freed. */
static inline void *bed_values(graph_bed *b, const qd_tensor_desc *d) {
    if (qd_format_get(d->format)->kind != QD_KIND_INTEGER) return random_data(&b->rng, d);
    const size_t bytes = qd_desc_bytes(d);
    unsigned char *p = malloc(bytes);
    ck_assert_ptr_nonnull(p);
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)random_bits(&b->rng);
    for (size_t i = 0; d->format == QD_FORMAT_I32 && i < bytes / 4; i++)
        ((int32_t *)(void *)p)[i] = (int32_t)random_between(&b->rng, -3000, 3000);
    return p;
}

static inline qd_tensor *bed_weights(graph_bed *b, qd_tensor_desc d) {
    void *p = bed_values(b, &d);
    qd_tensor *t = bed_constant(b, d, p);
    free(p);
    return t;
}

/** A tensor outside the graph with random values. */
static inline qd_tensor *bed_input(graph_bed *b, qd_tensor_desc d) {
    void *p = bed_values(b, &d);
    qd_tensor *t = bed_keep(b, tensor_with(b->c, d, p));
    free(p);
    return t;
}

/** A tensor outside the graph that bed_compare looks at. */
static inline qd_tensor *bed_output(graph_bed *b, qd_tensor_desc d) {
    qd_tensor *t;
    ck_ok(qd_tensor_create(b->c, &d, &t));
    return b->out[b->n_out++] = bed_keep(b, t);
}

static inline qd_tensor *bed_inside(graph_bed *b, qd_tensor_desc d) {
    qd_tensor *t;
    ck_ok(qd_graph_tensor(b->g, &d, &t));
    return t;
}

static inline void bed_add(graph_bed *b, qd_op op, const qd_attrs *a, qd_tensor *const in[], int n_in, qd_tensor *y) {
    ck_ok(qd_graph_add(b->g, op, a, in, n_in, &y, 1));
}

/** A requant operand: multipliers that spread sums of this size over the codes. */
static inline qd_tensor *bed_requant(graph_bed *b, qd_rounding rounding, int64_t rows, float size) {
    int32_t table[128];
    ck_assert_int_le(rows, 64);
    for (int64_t i = 0; i < rows; i++) {
        const float scale = (0.5f + (float)random_between(&b->rng, 0, 999) * 1e-3f) * 100 / size;
        ck_ok(qd_requantize_table(rounding, 1, &scale, 1, 1, table + 2 * i));
    }
    return bed_constant(b, qd_desc(QD_FORMAT_I32, rows, 2, 0, 0), table);
}

/** Compiles and runs. */
static inline qd_graph_info bed_run(graph_bed *b, int64_t rows) {
    qd_graph_info info;
    ck_ok(qd_graph_compile(b->g, NULL, NULL));
    ck_ok(qd_graph_describe(b->g, &info));
    ck_ok(qd_graph_run(b->g, rows));
    ck_ok(qd_context_finish(b->c));
    return info;
}

/** The outputs of two beds that were made alike must have the same bytes. */
static inline void bed_compare(const graph_bed *got, const graph_bed *want, const char *what) {
    ck_assert_int_eq(got->n_out, want->n_out);
    for (int i = 0; i < want->n_out; i++) {
        const size_t bytes = qd_desc_bytes(qd_tensor_describe(want->out[i]));
        void *data = malloc(bytes);
        ck_assert_ptr_nonnull(data);
        ck_ok(qd_tensor_read(want->out[i], 0, data, bytes));
        ck_tensor(got->out[i], data, what);
        free(data);
    }
}

#endif
