/* Speeds of matrix products of typical shapes, through plans. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_measure.h"

static const struct {
    int64_t n, k, most_rows;
} shapes[] = {
    {576, 576, 512},   {3072, 576, 512},  {576, 1536, 512}, /* a model of 135 million parameters */
    {4096, 4096, 512}, {11008, 4096, 16},                   /* one of 7 billion */
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* K is a whole number of blocks in each of the shapes. */
static const struct {
    qd_op op;
    qd_format weights;  /* of the operand */
    const char *coding; /* of MATMUL_CODED */
    qd_format activations;
    int first_shape, end_shape;
} kinds[] = {
    {QD_OP_MATMUL, QD_FORMAT_Q4_0, NULL, QD_FORMAT_A8, 0, SHAPES},
    {QD_OP_MATMUL, QD_FORMAT_Q4_1, NULL, QD_FORMAT_A8, 0, SHAPES},
    {QD_OP_MATMUL, QD_FORMAT_Q8_0, NULL, QD_FORMAT_A8, 0, SHAPES},
    {QD_OP_MATMUL, QD_FORMAT_Q8_0, NULL, QD_FORMAT_F32, 1, 2},
    {QD_OP_MATMUL, QD_FORMAT_Q4_K, NULL, QD_FORMAT_A8, 2, 4},
    {QD_OP_MATMUL, QD_FORMAT_Q6_K, NULL, QD_FORMAT_A8, 2, 4},
    {QD_OP_MATMUL_INT, QD_FORMAT_I8, NULL, QD_FORMAT_U8, 1, 4},
    {QD_OP_MATMUL_INT, QD_FORMAT_I4, NULL, QD_FORMAT_U8, 1, 4},
    {QD_OP_MATMUL_GROUP, QD_FORMAT_U4, NULL, QD_FORMAT_I8, 1, 4},
    {QD_OP_MATMUL_GROUP, QD_FORMAT_U4, NULL, QD_FORMAT_F32, 1, 4},
    {QD_OP_MATMUL_CODED, QD_FORMAT_U8, "int4-g64", QD_FORMAT_A8, 1, 2},
    {QD_OP_MATMUL_CODED, QD_FORMAT_U8, "nf4", QD_FORMAT_A8, 1, 2},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Codes with a scale in MATMUL_GROUP. */
enum { GROUP = 32 };

static const int64_t row_counts[] = {1, 16, 128, 512};
enum { ROW_COUNTS = sizeof row_counts / sizeof row_counts[0] };

/* Up to so many rows the weights' way from memory matters: then copies of them are used in turn, together larger than
 * the caches, as the weights of a model are. */
enum { ROTATED_ROWS = 16 };

/* A product is left out when it would take so many times the seconds that it may take. */
enum { PATIENCE = 4 };

/* ---- One product -------------------------------------------------------------------------------------------- */

qd_status qd_bench_run_plans(qd_context *c, qd_bench_plans *p, int64_t calls) {
    /* As deep as the queue gets: drivers slow down when it holds much more. */
    enum { DEPTH = 32 };
    qd_status status = QD_OK;
    for (int64_t i = 1; i <= calls && !status; i++) {
        status = qd_plan_run(p->plans[p->next]);
        p->next = (p->next + 1) % p->count;
        if (!status && (i % DEPTH == 0 || i == calls)) status = qd_context_finish(c);
    }
    return status;
}

void qd_bench_free_plans(qd_bench_plans *p) {
    for (int i = 0; i < p->count; i++)
        qd_plan_free(p->plans[i]);
    p->count = 0;
}

static qd_status time_plans(qd_context *c, qd_bench_plans *p, int64_t calls, double *seconds) {
    const double start = qd_cli_clock(c);
    const qd_status status = qd_bench_run_plans(c, p, calls);
    *seconds = (qd_cli_clock(c) - start) / (double)calls;
    return status;
}

static qd_status measure(qd_context *c, const qd_bench_effort *effort, qd_bench_plans *p, qd_bench_spread *out) {
    double values[QD_BENCH_MAX_RUNS], once;
    /* The first call may finish compiling, the second tells how many make a run, the third is a run to warm up. */
    qd_status status = qd_bench_run_plans(c, p, 1);
    if (!status) status = time_plans(c, p, 1, &once);
    if (status) return status;
    const double fit = effort->seconds / effort->runs / (once > 1e-7 ? once : 1e-7);
    const int64_t calls = fit < 1 ? 1 : (int64_t)fit;
    if (calls > 1) status = qd_bench_run_plans(c, p, calls);
    /* Fewer runs where one call takes long. */
    const double until = qd_cli_seconds() + PATIENCE * effort->seconds;
    int n = 0;
    while (!status && n < effort->runs && !qd_cli_stopped() && (n == 0 || qd_cli_seconds() < until))
        status = time_plans(c, p, calls, &values[n++]);
    if (!status && n > 0) *out = qd_bench_summarize(values, n);
    return status;
}

/* ---- Tensors ------------------------------------------------------------------------------------------------ */

/* Fills `bytes` with random ones, the same every time. */
static void fill_random(void *p, size_t bytes) {
    uint64_t state = 1; /* SplitMix64 (Steele, Lea, Flood 2014) */
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t z = (state += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        memcpy((char *)p + i, &z, bytes - i < 8 ? bytes - i : 8);
    }
}

/* Values -1 … 1; NULL, and a message: there is no memory. To be freed. */
static float *random_values(size_t count) {
    int32_t *bits = malloc(count * sizeof *bits);
    float *values = malloc(count * sizeof *values);
    if (bits && values) {
        fill_random(bits, count * sizeof *bits);
        for (size_t i = 0; i < count; i++)
            values[i] = (float)bits[i] * 0x1p-31f;
    } else {
        qd_cli_fail("out of memory");
        free(values);
        values = NULL;
    }
    free(bits);
    return values;
}

bool qd_bench_random_weights(qd_format f, int64_t rows, int64_t cols, void *data) {
    enum { FEW = 16 }; /* some formats take long to quantize */
    const int64_t few = rows < FEW ? rows : FEW;
    const size_t row = qd_format_row_bytes(f, cols);
    float *values = random_values((size_t)(few * cols));
    const bool ok = values && (qd_quantize(f, values, few, cols, data) == QD_OK || qd_cli_failed() == QD_EXIT_OK);
    for (int64_t r = few; ok && r < rows; r++)
        memcpy((char *)data + (size_t)r * row, (char *)data + (size_t)(r % few) * row, row);
    free(values);
    return ok;
}

bool qd_bench_random_activations(qd_context *c, qd_format f, int64_t rows, int64_t cols, qd_tensor **out) {
    const qd_tensor_desc d = qd_desc(f, rows, cols, 0, 0);
    const size_t bytes = qd_desc_bytes(&d);
    void *data = malloc(bytes);
    bool ok = data || qd_cli_fail("out of memory") == QD_EXIT_OK;
    if (ok && qd_format_get(f)->kind == QD_KIND_INTEGER) {
        fill_random(data, bytes);
    } else if (ok) {
        float *values = random_values((size_t)(rows * cols));
        ok = values && (qd_quantize(f, values, rows, cols, data) == QD_OK || qd_cli_failed() == QD_EXIT_OK);
        free(values);
    }
    if (ok && (qd_tensor_create(c, &d, out) != QD_OK || qd_tensor_write(*out, 0, data, bytes) != QD_OK))
        ok = qd_cli_failed() == QD_EXIT_OK;
    free(data);
    return ok;
}

/* ---- All products ------------------------------------------------------------------------------------------- */

/* Copies of one matrix; they borrow the same bytes, and each is on the device by itself. */
typedef struct matrix {
    void *data;
    float *side_data; /* of MATMUL_CODED's side, or the scales of MATMUL_GROUP */
    qd_attrs attrs;   /* of the operator */
    qd_tensor *copies[QD_BENCH_MAX_COPIES], *side;
    int count;
} matrix;

/* The weights' operand, and the coding if there is one. */
static qd_tensor_desc weights_of(int kind, int64_t n, int64_t k, qd_coding *coding) {
    if (kinds[kind].coding && qd_coding_parse(kinds[kind].coding, coding) == QD_OK)
        k = (int64_t)qd_coding_row_bytes(coding, k);
    return qd_desc(kinds[kind].weights, n, k, 0, 0);
}

/* What all rows of a coding share is an operand of its own. */
static bool make_coded(qd_context *c, int64_t n, int64_t k, matrix *w) {
    const qd_coding *coding = &w->attrs.coded.coding;
    const qd_tensor_desc side = qd_desc(QD_FORMAT_F32, qd_coding_side_count(coding, n, k), 0, 0, 0);
    float *values = random_values((size_t)(n * k));
    w->side_data = malloc(qd_desc_bytes(&side));
    bool ok = values != NULL;
    if (ok && !w->side_data) ok = qd_cli_fail("out of memory") == QD_EXIT_OK;
    if (ok && (qd_coding_quantize(coding, values, n, k, NULL, w->data, w->side_data) != QD_OK ||
               qd_tensor_constant(c, &side, w->side_data, &w->side) != QD_OK))
        ok = qd_cli_failed() == QD_EXIT_OK;
    free(values);
    return ok;
}

static bool make_scales(qd_context *c, int64_t n, int64_t k, matrix *w) {
    const qd_tensor_desc side = qd_desc(QD_FORMAT_F32, n, k / GROUP, 0, 0);
    w->attrs.matmul_group.group = GROUP;
    w->side_data = random_values((size_t)(n * (k / GROUP)));
    return w->side_data &&
           (qd_tensor_constant(c, &side, w->side_data, &w->side) == QD_OK || qd_cli_failed() == QD_EXIT_OK);
}

static bool make_matrix(qd_context *c, int kind, int64_t n, int64_t k, matrix *w) {
    enum { LEAST = 64 << 20, MOST = 256 << 20 };
    const qd_tensor_desc d = weights_of(kind, n, k, &w->attrs.coded.coding);
    const size_t bytes = qd_desc_bytes(&d);
    size_t wanted = 2 * qd_bench_cache_bytes();
    wanted = wanted < LEAST ? LEAST : wanted > MOST ? MOST : wanted;
    wanted = (wanted + bytes - 1) / bytes;
    w->data = malloc(bytes);
    if (!w->data) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    if (kinds[kind].coding) {
        w->attrs.coded.cols = k;
        if (!make_coded(c, n, k, w)) return false;
    } else if (kinds[kind].op != QD_OP_MATMUL) {
        fill_random(w->data, bytes);
        if (kinds[kind].op == QD_OP_MATMUL_GROUP && !make_scales(c, n, k, w)) return false;
    } else if (!qd_bench_random_weights(d.format, n, k, w->data)) {
        return false;
    }
    while (w->count < QD_BENCH_MAX_COPIES && (size_t)w->count < wanted) {
        if (qd_tensor_constant(c, &d, w->data, &w->copies[w->count]) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
        w->count++;
    }
    return true;
}

static void free_matrix(matrix *w) {
    for (int i = 0; i < w->count; i++)
        qd_tensor_free(w->copies[i]);
    qd_tensor_free(w->side);
    free(w->side_data);
    free(w->data);
}

static qd_format results_of(int kind) {
    return kinds[kind].op == QD_OP_MATMUL_INT ? QD_FORMAT_I32 : QD_FORMAT_F32;
}

/* Makes the plans of one row and measures them. */
static bool measure_row(qd_context *c, const qd_bench_effort *effort, const matrix *w, qd_bench_matmul *row) {
    const qd_op op = kinds[row->kind].op;
    const qd_tensor_desc y_desc = qd_desc(results_of(row->kind), row->m, row->n, 0, 0);
    qd_tensor *x = NULL, *y = NULL;
    qd_bench_plans *p = calloc(1, sizeof *p);
    row->copies = row->m <= ROTATED_ROWS ? w->count : 1;
    bool ok = p != NULL;
    if (!ok) qd_cli_fail("out of memory");
    ok = ok && qd_bench_random_activations(c, row->activations, row->m, row->k, &x);
    if (ok) {
        qd_status status = qd_tensor_create(c, &y_desc, &y);
        while (!status && p->count < row->copies && !qd_cli_stopped()) {
            qd_tensor *coded[] = {w->copies[p->count], w->side, x}, *plain[] = {w->copies[p->count], x};
            status =
                qd_plan_create(c, op, &w->attrs, w->side ? coded : plain, w->side ? 3 : 2, &y, 1, &p->plans[p->count]);
            if (!status) p->count++;
        }
        if (!status && p->count == row->copies) status = measure(c, effort, p, &row->seconds);
        if (!status && p->count > 0) snprintf(row->kernel, sizeof row->kernel, "%s", qd_plan_variant(p->plans[0]));
        ok = status == QD_OK;
        if (!ok) qd_cli_failed();
    }
    if (p) qd_bench_free_plans(p);
    qd_tensor_free(y);
    qd_tensor_free(x);
    free(p);
    return ok;
}

static int list_rows(qd_bench_matmul *rows) {
    int count = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        for (int s = kinds[kind].first_shape; s < kinds[kind].end_shape; s++) {
            for (int r = 0; r < ROW_COUNTS && row_counts[r] <= shapes[s].most_rows; r++) {
                qd_bench_matmul *row = &rows[count++];
                qd_coding coding;
                const qd_tensor_desc w = weights_of(kind, shapes[s].n, shapes[s].k, &coding);
                const qd_tensor_desc x = qd_desc(kinds[kind].activations, row_counts[r], shapes[s].k, 0, 0);
                const qd_tensor_desc y = qd_desc(results_of(kind), row_counts[r], shapes[s].n, 0, 0);
                *row = (qd_bench_matmul){.kind = kind, .activations = x.format, .m = row_counts[r]};
                row->weights = kinds[kind].coding ? kinds[kind].coding : qd_format_get(w.format)->name;
                row->n = shapes[s].n;
                row->k = shapes[s].k;
                row->bytes = (double)(qd_desc_bytes(&w) + qd_desc_bytes(&x) + qd_desc_bytes(&y));
                row->operations = 2.0 * (double)row->m * (double)row->n * (double)row->k;
            }
        }
    }
    return count;
}

/* Rows first … end-1 share a matrix. `rate`: the best operations per second of these formats so far, 0 at first. */
static bool measure_matrix(qd_context *c, const qd_bench_effort *effort, qd_bench_matmul *rows, int first, int end,
                           int count, double *rate) {
    matrix w = {0};
    bool ok = true;
    for (int i = first; ok && i < end && !qd_cli_stopped(); i++) {
        qd_bench_matmul *row = &rows[i];
        qd_cli_progress("matrix products", i, count);
        const double expected = *rate > 0 ? row->operations / *rate : 0;
        if (expected > PATIENCE * effort->seconds) {
            row->expected = expected;
            continue;
        }
        if (!w.data) ok = make_matrix(c, row->kind, row->n, row->k, &w);
        ok = ok && measure_row(c, effort, &w, row);
        const double seen = ok && row->seconds.median > 0 ? row->operations / row->seconds.median : 0;
        if (seen > *rate) *rate = seen;
    }
    free_matrix(&w);
    return ok;
}

bool qd_bench_matmuls(qd_context *c, const qd_bench_effort *effort, qd_bench_matmul **rows, int *count) {
    *rows = calloc((size_t)KINDS * SHAPES * ROW_COUNTS, sizeof **rows);
    if (!*rows) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    *count = list_rows(*rows);
    bool ok = true;
    double rate = 0;
    for (int first = 0, end; ok && first < *count; first = end) {
        const qd_bench_matmul *f = &(*rows)[first];
        for (end = first + 1; end < *count && (*rows)[end].m > f->m; end++) {}
        if (first > 0 && f[-1].kind != f->kind) rate = 0;
        ok = measure_matrix(c, effort, *rows, first, end, *count, &rate);
    }
    qd_cli_progress("matrix products", 1, 1);
    if (ok && qd_cli_stopped()) ok = qd_cli_fail("stopped") == QD_EXIT_OK;
    if (ok) return true;
    free(*rows);
    *rows = NULL;
    return false;
}
