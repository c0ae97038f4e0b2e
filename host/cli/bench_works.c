/* The list of works, and their names for people and peers. */
#include "cli/bench_works.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct row {
    qd_bench_kind kind;
    const char *of;
    int64_t m, n, k;
    int64_t image, channels, kernel, stride, groups;
    qd_format weights;
    const char *layers;
} row;

static const row rows[] = {
#define QD_BENCH_GEMM(of, m, n, k) {QD_BENCH_GEMM, of, m, n, k, 0, 0, 0, 0, 1, QD_FORMAT_I8, NULL},
#define QD_BENCH_CONV(of, image, channels, outputs, kernel, stride, groups)                 \
    {QD_BENCH_CONV, of,       0,      outputs, (kernel) * (kernel) * (channels) / (groups), \
     image,         channels, kernel, stride,  groups,                                      \
     QD_FORMAT_I8,  NULL},
#define QD_BENCH_GEMV(format, n, k) {QD_BENCH_GEMV, #format, 1, n, k, 0, 0, 0, 0, 1, QD_FORMAT_##format, NULL},
#define QD_BENCH_SGEMM(of, m, n, k) {QD_BENCH_SGEMM, of, m, n, k, 0, 0, 0, 0, 1, QD_FORMAT_F32, NULL},
#define QD_BENCH_NETWORK(of, rows, image, channels, layers) \
    {QD_BENCH_NETWORK, of, rows, 0, 0, image, channels, 0, 0, 1, QD_FORMAT_I8, layers},
#include "cli/bench_works.def"
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* A rounding in another direction moves a mark of 64 codes by 1/64 on average. */
static const double code_tolerance = 0.3;

const char *qd_bench_kind_name(qd_bench_kind kind) {
    static const char *const names[QD_BENCH_KINDS] = {"gemm", "conv", "gemv", "sgemm", "network", "prompt", "generate"};
    return (unsigned)kind < QD_BENCH_KINDS ? names[kind] : "";
}

static void name_work(qd_bench_work *w, const char *of) {
    const char *kind = qd_bench_kind_name(w->kind);
    if (w->kind == QD_BENCH_CONV) {
        snprintf(w->name, sizeof w->name, "%s %s %s%lldx%lld/%lld %lld-%lld @%lld", kind, of, w->groups > 1 ? "dw" : "",
                 (long long)w->kernel, (long long)w->kernel, (long long)w->stride, (long long)w->channels,
                 (long long)w->n, (long long)w->image);
    } else if (w->kind == QD_BENCH_NETWORK) {
        snprintf(w->name, sizeof w->name, "%s %s %s%lld", kind, of, w->rows ? "" : "@",
                 (long long)(w->rows ? w->rows : w->image));
    } else {
        snprintf(w->name, sizeof w->name, "%s %s %lldx%lldx%lld", kind, of, (long long)w->m, (long long)w->n,
                 (long long)w->k);
    }
}

/* Copies of the weights that together are twice the caches, where the way from memory matters. Else as many as a
 * network has layers, where these take some ten milliseconds, so that what is done once a pass counts as in a network.
 */
static int copies_of(const qd_bench_work *w) {
    enum { ROTATED_ROWS = 16, FEW = 4, LAYERS = 32, MOST = 256 };
    const double most_operations = 1e10;
    const qd_tensor_desc d = qd_desc(w->weights, w->n, w->k, 0, 0);
    if (w->kind == QD_BENCH_CONV || w->m > ROTATED_ROWS)
        return (int)fmin(LAYERS, fmax(FEW, most_operations / w->operations));
    const size_t copies = 2 * qd_bench_cache_bytes() / qd_desc_bytes(&d) + 1;
    return copies < FEW ? FEW : copies > MOST ? MOST : (int)copies;
}

/* What it computes, and weights, inputs and results of each layer. */
static qd_bench_work make_network(const row *r) {
    qd_bench_work w = {.kind = r->kind, .rows = r->m, .image = r->image, .channels = r->channels};
    w.layers = r->layers;
    w.weights = r->weights;
    w.copies = 1;
    w.tolerance = code_tolerance;
    qd_bench_layer l = qd_bench_first_layer(&w);
    for (const char *text = r->layers; qd_bench_next_layer(&text, &l);) {
        w.operations += 2.0 * (double)l.m * (double)l.outputs * (double)l.k;
        w.bytes += (double)(l.outputs * l.k + l.image * l.image * l.channels + l.m * l.outputs);
        if (!l.image) w.bytes += (double)(l.m * l.channels);
    }
    name_work(&w, r->of);
    return w;
}

static qd_bench_work make_work(const row *r) {
    if (r->layers) return make_network(r);
    qd_bench_work w = {.kind = r->kind, .m = r->m, .n = r->n, .k = r->k, .weights = r->weights, .image = r->image};
    w.channels = r->channels;
    w.kernel = r->kernel;
    w.stride = r->stride;
    w.groups = r->groups;
    qd_tensor_desc x = qd_desc(r->kind == QD_BENCH_GEMV ? QD_FORMAT_A8 : w.weights, w.m, w.k, 0, 0);
    if (r->kind == QD_BENCH_CONV) {
        const int64_t side = (w.image + 2 * (w.kernel / 2) - w.kernel) / w.stride + 1;
        w.m = side * side;
        x = qd_desc(w.weights, w.image * w.image, w.channels, 0, 0);
    }
    const bool codes = r->weights == QD_FORMAT_I8;
    const qd_tensor_desc weights = qd_desc(w.weights, w.n, w.k, 0, 0);
    const qd_tensor_desc y = qd_desc(codes ? QD_FORMAT_U8 : QD_FORMAT_F32, w.m, w.n, 0, 0);
    w.operations = 2.0 * (double)w.m * (double)w.n * (double)w.k;
    w.copies = copies_of(&w);
    w.bytes = (double)(qd_desc_bytes(&weights) + qd_desc_bytes(&x) + qd_desc_bytes(&y));
    /* Sums of K products of even codes deviate by about sqrt(K) · 74², which makes the codes of y deviate by about 60.
     */
    w.y_scale = codes ? (float)(sqrt((double)w.k) * 0x1p-6) : 0;
    w.tolerance = codes ? code_tolerance : r->kind == QD_BENCH_SGEMM ? 0.01 : 0;
    name_work(&w, r->of);
    return w;
}

bool qd_bench_list_works(const char *pattern, qd_bench_work **works, int *count) {
    regex_t wanted;
    *count = 0;
    *works = calloc(ROWS, sizeof **works);
    if (!*works) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    if (!qd_cli_regex(pattern ? pattern : "", &wanted)) {
        free(*works);
        *works = NULL;
        return false;
    }
    for (int i = 0; i < ROWS; i++) {
        const qd_bench_work w = make_work(&rows[i]);
        if (regexec(&wanted, w.name, 0, NULL, 0) == 0) (*works)[(*count)++] = w;
    }
    regfree(&wanted);
    if (*count > 0) return true;
    free(*works);
    *works = NULL;
    return qd_cli_fail("no work's name has '%s' in it; names are as 'gemm SmolLM2-135M 128x3072x576'", pattern) ==
           QD_EXIT_OK;
}

void qd_bench_model_works(const char *path, const qd_gguf *g, int64_t prompt, int64_t generate,
                          qd_bench_work works[2]) {
    double bytes, elements;
    qd_bench_model_size(g, &bytes, &elements);
    for (int i = 0; i < 2; i++) {
        const bool together = i == 0;
        const double tokens = (double)(together ? prompt : generate);
        works[i] = (qd_bench_work){.kind = together ? QD_BENCH_PROMPT : QD_BENCH_GENERATE, .path = path, .copies = 1};
        works[i].tokens = together ? prompt : generate;
        works[i].operations = 2 * elements * tokens;
        works[i].bytes = together ? bytes : bytes * tokens;
        snprintf(works[i].name, sizeof works[i].name, "%s %lld", qd_bench_kind_name(works[i].kind),
                 (long long)works[i].tokens);
    }
}

bool qd_bench_work_line(const qd_bench_work *w, char *line, size_t size) {
    const char *kind = qd_bench_kind_name(w->kind);
    int n;
    if (w->layers) {
        n = snprintf(line, size, "%s rows=%lld image=%lld channels=%lld layers=%s", kind, (long long)w->rows,
                     (long long)w->image, (long long)w->channels, w->layers);
    } else if (w->tokens > 0) {
        n = snprintf(line, size, "%s tokens=%lld model=%s", kind, (long long)w->tokens, w->path);
    } else if (w->kind == QD_BENCH_CONV) {
        n = snprintf(line, size,
                     "%s image=%lld channels=%lld outputs=%lld kernel=%lld stride=%lld pad=%lld groups=%lld copies=%d "
                     "y_scale=%.9g",
                     kind, (long long)w->image, (long long)w->channels, (long long)w->n, (long long)w->kernel,
                     (long long)w->stride, (long long)(w->kernel / 2), (long long)w->groups, w->copies,
                     (double)w->y_scale);
    } else {
        n = snprintf(line, size, "%s m=%lld n=%lld k=%lld copies=%d", kind, (long long)w->m, (long long)w->n,
                     (long long)w->k, w->copies);
        const size_t used = (size_t)n;
        if (n >= 0 && used < size && w->kind == QD_BENCH_GEMM)
            n += snprintf(line + used, size - used, " y_scale=%.9g", (double)w->y_scale);
        if (n >= 0 && used < size && w->kind == QD_BENCH_GEMV)
            n += snprintf(line + used, size - used, " format=%s", qd_format_get(w->weights)->name);
    }
    return (n >= 0 && (size_t)n < size) || qd_cli_fail("%s: the path is too long", w->path) == QD_EXIT_OK;
}
