/* Which classes `qdot tune` looks at, and the products that stand for each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tune.h"

/* Operators whose weights meet these activations; the formats that are looked at without a word about them. */
static const struct {
    qd_op op;
    qd_format weights, x;
    bool by_default;
} kinds[] = {
    {QD_OP_MATMUL, QD_FORMAT_Q4_0, QD_FORMAT_A8, true},    {QD_OP_MATMUL, QD_FORMAT_Q4_1, QD_FORMAT_A8, true},
    {QD_OP_MATMUL, QD_FORMAT_Q8_0, QD_FORMAT_A8, true},    {QD_OP_MATMUL, QD_FORMAT_Q5_0, QD_FORMAT_A8, false},
    {QD_OP_MATMUL, QD_FORMAT_Q5_1, QD_FORMAT_A8, false},   {QD_OP_MATMUL, QD_FORMAT_Q2_K, QD_FORMAT_A8, false},
    {QD_OP_MATMUL, QD_FORMAT_Q3_K, QD_FORMAT_A8, false},   {QD_OP_MATMUL, QD_FORMAT_Q4_K, QD_FORMAT_A8, true},
    {QD_OP_MATMUL, QD_FORMAT_Q5_K, QD_FORMAT_A8, false},   {QD_OP_MATMUL, QD_FORMAT_Q6_K, QD_FORMAT_A8, true},
    {QD_OP_MATMUL, QD_FORMAT_IQ4_NL, QD_FORMAT_A8, false}, {QD_OP_MATMUL, QD_FORMAT_IQ4_XS, QD_FORMAT_A8, false},
    {QD_OP_MATMUL, QD_FORMAT_MXFP4, QD_FORMAT_A8, false},  {QD_OP_MATMUL, QD_FORMAT_NVFP4, QD_FORMAT_A8, false},
    {QD_OP_MATMUL, QD_FORMAT_TQ1_0, QD_FORMAT_A8, false},  {QD_OP_MATMUL, QD_FORMAT_TQ2_0, QD_FORMAT_A8, false},
    {QD_OP_MATMUL, QD_FORMAT_F16, QD_FORMAT_F32, false},   {QD_OP_MATMUL, QD_FORMAT_BF16, QD_FORMAT_F32, false},
    {QD_OP_MATMUL, QD_FORMAT_F32, QD_FORMAT_F32, false},   {QD_OP_MATMUL_INT, QD_FORMAT_I8, QD_FORMAT_U8, true},
    {QD_OP_MATMUL_INT, QD_FORMAT_U8, QD_FORMAT_U8, false},
};
enum { KINDS = sizeof kinds / sizeof kinds[0], CLASSES = KINDS * 2 * QD_TUNING_ROWS };

/* Layers of models of 135 million and of 7 billion parameters. K is a whole number of every format's blocks. */
static const struct {
    int64_t n, k;
} common[] = {{576, 512}, {1536, 512}, {512, 1536}, {4096, 4096}, {2048, 8192}, {8192, 2048}};
enum { COMMON = sizeof common / sizeof common[0] };

/* What stands for the rows of a class: several, for a tile may just fit one number of them. */
enum { ROW_COUNTS = 3 };
static const int64_t rows_of[QD_TUNING_ROWS][ROW_COUNTS] = {{1, 1, 1}, {7, 4, 13}, {67, 32, 100}, {200, 128, 256}};

const char *qd_tune_name(const qd_tune_class *c, char text[80]) {
    const int64_t least = qd_tuning_least_rows(c->rows_class), next = qd_tuning_least_rows(c->rows_class + 1);
    char rows[40];
    if (c->rows_class + 1 == QD_TUNING_ROWS) {
        snprintf(rows, sizeof rows, "%lld or more rows", (long long)least);
    } else if (least + 1 == next) {
        snprintf(rows, sizeof rows, "%lld row", (long long)least);
    } else {
        snprintf(rows, sizeof rows, "%lld to %lld rows", (long long)least, (long long)next - 1);
    }
    snprintf(text, 80, "%s %s %s, %s, %s", qd_op_get(c->op)->name, qd_format_get(c->weights)->name,
             qd_format_get(c->x)->name, rows, c->large ? "large" : "small");
    return text;
}

const char *qd_tune_way_text(const qd_tuning_way *w, char text[160]) {
    snprintf(text, 160, "%s x%d%s%s", w->variant, w->groups, w->options[0] ? " " : "", w->options);
    return text;
}

/* Adds a shape to the class of its size, for each number of rows. */
static void add_shape(qd_tune_class *all, int *count, int kind, int64_t n, int64_t k) {
    const size_t row = qd_format_row_bytes(kinds[kind].weights, k);
    const bool large = (size_t)n * row >= QD_TUNING_LARGE;
    for (int r = 0; row && r < QD_TUNING_ROWS; r++) {
        qd_tune_class *c = all;
        while (c < all + *count && (c->op != kinds[kind].op || c->weights != kinds[kind].weights || c->large != large ||
                                    c->rows_class != r))
            c++;
        if (c == all + *count) {
            *c = (qd_tune_class){.op = kinds[kind].op, .weights = kinds[kind].weights, .x = kinds[kind].x};
            c->rows_class = r;
            c->large = large;
            ++*count;
        }
        bool known = c->n_shapes == QD_TUNE_SHAPES;
        for (int i = 0; i < c->n_shapes; i++)
            known = known || (c->shapes[i].n == n && c->shapes[i].k == k);
        if (known) continue;
        c->shapes[c->n_shapes].m = rows_of[r][c->n_shapes % ROW_COUNTS];
        c->shapes[c->n_shapes].n = n;
        c->shapes[c->n_shapes++].k = k;
    }
}

/* Of a table that is only looked up, each row is read by itself. */
static bool is_table(const qd_gguf *g, qd_string name) {
    qd_gguf_tensor t;
    return name.size == 17 && !memcmp(name.data, "token_embd.weight", 17) &&
           qd_gguf_tensor_find(g, "output.weight", &t) == QD_OK;
}

static void add_model(const qd_gguf *g, int kind, qd_tune_class *all, int *count) {
    for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        if (qd_gguf_tensor_at(g, i, &t) == QD_OK && t.desc.rank == 2 && t.desc.format == kinds[kind].weights &&
            !qd_cli_is_side(g, t.name) && !is_table(g, t.name))
            add_shape(all, count, kind, t.desc.shape[0], t.desc.shape[1]);
    }
}

bool qd_tune_classes(const qd_gguf *g, const char *op, const char *format, qd_tune_class **out, int *count) {
    qd_format only = QD_FORMAT_COUNT;
    bool known = !op;
    if (format && qd_format_find(format, &only) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
    for (int i = 0; op && i < KINDS; i++)
        known = known || !strcmp(qd_op_get(kinds[i].op)->name, op);
    if (!known) return qd_cli_fail("--op %s: only matmul and matmul_int can be tuned", op) == QD_EXIT_OK;
    *out = calloc(CLASSES, sizeof **out);
    *count = 0;
    if (!*out) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    for (int i = 0; i < KINDS; i++) {
        if ((op && strcmp(qd_op_get(kinds[i].op)->name, op) != 0) || (format && kinds[i].weights != only)) continue;
        if (g) {
            add_model(g, i, *out, count);
        } else if (format || kinds[i].by_default) {
            for (int s = 0; s < COMMON; s++)
                add_shape(*out, count, i, common[s].n, common[s].k);
        }
    }
    if (*count) return true;
    free(*out);
    *out = NULL;
    return qd_cli_fail("there is nothing to tune: no matrix of %s%s%s", format ? format : "a format that has kernels",
                       g ? " in the model" : "", op ? " with this operator" : "") == QD_EXIT_OK;
}
