/* Which classes `qdot tune` looks at, and the products that stand for each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_works.h"
#include "cli/tune.h"

/* Operators with the formats of their first two inputs; those that are looked at without a word about them. */
static const struct {
    qd_op op;
    qd_format w, x; /* MATMUL_GROUP: x is the third */
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
    {QD_OP_MATMUL_INT, QD_FORMAT_U8, QD_FORMAT_U8, false}, {QD_OP_MATMUL_GROUP, QD_FORMAT_I8, QD_FORMAT_I8, true},
    {QD_OP_CONV_INT, QD_FORMAT_I8, QD_FORMAT_U8, true},    {QD_OP_CONV_INT, QD_FORMAT_U8, QD_FORMAT_U8, false},
    {QD_OP_ATTENTION, QD_FORMAT_F32, QD_FORMAT_F32, true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0], CLASSES = KINDS * 2 * QD_TUNING_ROWS };

/* Layers of models of 135 million and of 7 billion parameters. K is a whole number of every format's blocks. */
static const struct {
    int64_t n, k;
} common[] = {{576, 512}, {1536, 512}, {512, 1536}, {4096, 4096}, {2048, 8192}, {8192, 2048}};
enum { COMMON = sizeof common / sizeof common[0] };

/* Their heads, and positions in the cache. */
static const qd_tune_shape attentions[] = {{.attention = {9, 3, 64, 512}}, {.attention = {32, 8, 128, 1024}}};
enum { ATTENTIONS = sizeof attentions / sizeof attentions[0] };

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
    snprintf(text, 80, "%s %s %s, %s, %s", qd_op_get(c->op)->name, qd_format_get(c->w)->name, qd_format_get(c->x)->name,
             rows, c->large ? "large" : "small");
    return text;
}

const char *qd_tune_way_text(const qd_tuning_way *w, char text[160]) {
    snprintf(text, 160, "%s x%d%s%s", w->variant, w->groups, w->options[0] ? " " : "", w->options);
    return text;
}

/* Adds a problem to the class of its size, for runs of each number of rows; convolutions: of one image. */
static void add_shape(qd_tune_class *all, int *count, int kind, const qd_tune_shape *shape) {
    const bool conv = kinds[kind].op == QD_OP_CONV_INT;
    for (int r = 0; r < (conv ? 1 : QD_TUNING_ROWS); r++) {
        qd_tune_class of = {.op = kinds[kind].op, .w = kinds[kind].w, .x = kinds[kind].x, .rows_class = r}, *c = all;
        const qd_tensor_desc w = qd_tune_weights(&of, shape);
        of.large = of.op != QD_OP_ATTENTION && qd_desc_bytes(&w) >= QD_TUNING_LARGE;
        while (c < all + *count && (c->op != of.op || c->w != of.w || c->large != of.large || c->rows_class != r))
            c++;
        if (c == all + *count) {
            *c = of;
            ++*count;
        }
        qd_tune_shape s = *shape;
        bool known = c->n_shapes == QD_TUNE_SHAPES;
        for (int i = 0; i < c->n_shapes; i++) {
            s.rows = c->shapes[i].rows;
            known = known || !memcmp(&c->shapes[i], &s, sizeof s);
        }
        if (known) continue;
        s.rows = rows_of[r][c->n_shapes % ROW_COUNTS];
        c->shapes[c->n_shapes++] = s;
    }
}

static void add_product(qd_tune_class *all, int *count, int kind, int64_t n, int64_t k) {
    const qd_tune_shape s = {.product = {n, k}};
    if (qd_format_row_bytes(kinds[kind].w, k)) add_shape(all, count, kind, &s);
}

/* Of a table that is only looked up, each row is read by itself. */
static bool is_table(const qd_gguf *g, qd_string name) {
    qd_gguf_tensor t;
    return name.size == 17 && !memcmp(name.data, "token_embd.weight", 17) &&
           qd_gguf_tensor_find(g, "output.weight", &t) == QD_OK;
}

static int64_t model_number(const qd_gguf *g, const char *key, int64_t otherwise) {
    qd_gguf_value v;
    int64_t x;
    return qd_gguf_find(g, key, &v) == QD_OK && qd_gguf_get_int(g, &v, 0, &x) == QD_OK && x > 0 ? x : otherwise;
}

static void add_model(const qd_gguf *g, int kind, qd_tune_class *all, int *count) {
    const int64_t heads = model_number(g, "llama.attention.head_count", 0);
    if (kinds[kind].op == QD_OP_ATTENTION && heads) {
        const int64_t width = model_number(g, "llama.embedding_length", heads);
        const qd_tune_shape s = {.attention = {heads, model_number(g, "llama.attention.head_count_kv", heads),
                                               model_number(g, "llama.attention.key_length", width / heads),
                                               attentions[0].attention.positions}};
        add_shape(all, count, kind, &s);
    }
    for (uint64_t i = 0; kinds[kind].op == QD_OP_MATMUL && i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        if (qd_gguf_tensor_at(g, i, &t) == QD_OK && t.desc.rank == 2 && t.desc.format == kinds[kind].w &&
            !qd_cli_is_side(g, t.name) && !is_table(g, t.name))
            add_product(all, count, kind, t.desc.shape[0], t.desc.shape[1]);
    }
}

/* Convolutions: the layers that are compared with peers. */
static bool add_common(int kind, qd_tune_class *all, int *count) {
    qd_bench_work *works = NULL;
    int n = 0;
    if (kinds[kind].op == QD_OP_CONV_INT && !qd_bench_list_works("^conv ", &works, &n)) return false;
    for (int i = 0; i < n; i++) {
        const qd_bench_work *w = &works[i];
        const qd_tune_shape s = {.conv = {w->image, w->channels, w->n, w->kernel, w->stride, w->groups}};
        add_shape(all, count, kind, &s);
    }
    free(works);
    for (int i = 0; kinds[kind].op == QD_OP_ATTENTION && i < ATTENTIONS; i++)
        add_shape(all, count, kind, &attentions[i]);
    for (int i = 0; !n && kinds[kind].op != QD_OP_ATTENTION && i < COMMON; i++)
        add_product(all, count, kind, common[i].n, common[i].k);
    return true;
}

bool qd_tune_classes(const qd_gguf *g, const char *op, const char *format, qd_tune_class **out, int *count) {
    qd_format only = QD_FORMAT_COUNT;
    bool known = !op;
    if (format && qd_format_find(format, &only) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
    for (int i = 0; op && i < KINDS; i++)
        known = known || !strcmp(qd_op_get(kinds[i].op)->name, op);
    if (!known) return qd_cli_fail("--op %s: `qdot tune --help` tells which can be tuned", op) == QD_EXIT_OK;
    *out = calloc(CLASSES, sizeof **out);
    *count = 0;
    if (!*out) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    for (int i = 0; i < KINDS; i++) {
        if ((op && strcmp(qd_op_get(kinds[i].op)->name, op) != 0) || (format && kinds[i].w != only)) continue;
        if (g) {
            add_model(g, i, *out, count);
        } else if ((format || kinds[i].by_default) && !add_common(i, *out, count)) {
            free(*out);
            return false;
        }
    }
    if (*count) return true;
    free(*out);
    *out = NULL;
    return qd_cli_fail("there is nothing to tune: no matrix of %s%s%s", format ? format : "a format that has kernels",
                       g ? " in the model" : "", op ? " with this operator" : "") == QD_EXIT_OK;
}
