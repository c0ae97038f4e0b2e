/* What int8 matrices are told about their inputs, from the statistics of `qdot calibrate`: static scales, and the
 * columns that LLM.int8() (Dettmers et al. 2022) leaves in half precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/quantize.h"

static const struct {
    const char *name;
    qd_observe kind;
} ranges[] = {{"minmax", QD_OBSERVE_MINMAX},
              {"average", QD_OBSERVE_AVERAGE},
              {"percentile", QD_OBSERVE_PERCENTILE},
              {"entropy", QD_OBSERVE_ENTROPY},
              {"mse", QD_OBSERVE_ERROR}};

static bool find_range(const char *name, qd_observe *out) {
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (strcmp(ranges[i].name, name ? name : "mse") != 0) continue;
        *out = ranges[i].kind;
        return true;
    }
    return false;
}

bool qd_cli_inputs_read(const qd_gguf *g, qd_cli_inputs *in) {
    qd_observe kind;
    if (!in->path && (in->range || in->asymmetric || in->outliers)) {
        qd_cli_fail("--range, --range-asymmetric and --outliers belong to --calibration STATS (see: qdot calibrate)");
        return false;
    }
    if (!find_range(in->range, &kind)) {
        qd_cli_fail("--range is minmax, average, percentile, entropy or mse, not '%s'", in->range);
        return false;
    }
    if (!in->path) return true;
    if (qd_calibration_read(in->path, &in->stats) == QD_OK && qd_calibration_check(in->stats, g) == QD_OK) return true;
    qd_cli_failed();
    return false;
}

void qd_cli_inputs_free(qd_cli_inputs *in) {
    qd_calibration_free(in->stats);
    in->stats = NULL;
}

/* A matrix whose integer products static scales are for. */
static bool is_int8(const qd_cli_change *c) {
    const qd_coding *coding = &c->to.coding;
    return c->src.rows && c->to.format == QD_FORMAT_COUNT && coding->kind == QD_CODING_UNIFORM && coding->bits == 8 &&
           !coding->asymmetric;
}

bool qd_cli_inputs_write(qd_gguf_writer *w, const qd_gguf *g, const qd_cli_plan *plan, const qd_cli_inputs *in) {
    qd_observe kind = QD_OBSERVE_MINMAX;
    int64_t written = 0;
    find_range(in->range, &kind);
    for (int64_t i = 0; i < plan->count; i++) {
        const qd_cli_change *c = &plan->changes[i];
        const qd_input_stats *s = qd_calibration_find(in->stats, c->name);
        qd_status status = QD_OK;
        float scale;
        int32_t zero;
        bool found = false;
        if (!is_int8(c)) continue;
        if (s && s->cols != c->src.cols) {
            qd_cli_fail("%s: what '%s' reads has %lld columns there, not %lld", in->path, c->name, (long long)s->cols,
                        (long long)c->src.cols);
            return false;
        }
        if (s) {
            found = true;
            status = qd_calibration_scale(s, kind, in->asymmetric, &scale, &zero);
        } else if (!in->stats && c->keep) {
            status = qd_gguf_find_input(g, c->name, &found, &scale, &zero);
        }
        if (status == QD_OK && found) status = qd_gguf_write_input(w, c->name, scale, zero);
        if (status != QD_OK) {
            qd_cli_failed();
            return false;
        }
        written += found;
    }
    if (!in->stats || written) return true;
    qd_cli_fail("--calibration gives scales to matrices in int8, and there would be none: use it with --format int8");
    return false;
}

/* ---- Outlier columns ---------------------------------------------------------------------------------------- */

typedef struct threshold {
    double value;
    bool relative; /* to the middle one of the columns' largest magnitudes */
} threshold;

static bool read_threshold(const char *text, threshold *out) {
    char *end;
    *out = (threshold){.value = strtod(text, &end)};
    out->relative = end != text && *end == 'x';
    if (end != text && !end[out->relative] && out->value > 0 && out->value < 1e30) return true;
    qd_cli_fail("--outliers is a magnitude, as 6, or one in units of the middle column's, as 4x, not '%s'", text);
    return false;
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The magnitude that makes a column of these an outlier; 0: out of memory. */
static double magnitude(const threshold *t, const qd_input_stats *s) {
    if (!t->relative) return t->value;
    float *sorted = malloc((size_t)s->cols * sizeof *sorted);
    if (!sorted) return 0;
    memcpy(sorted, s->absmax, (size_t)s->cols * sizeof *sorted);
    qsort(sorted, (size_t)s->cols, sizeof *sorted, ascending);
    const double middle = (double)sorted[s->cols / 2];
    free(sorted);
    return middle > 0 ? middle * t->value : INFINITY;
}

static bool choose_columns(qd_cli_change *c, const qd_input_stats *s, const threshold *t) {
    const double least = magnitude(t, s);
    int64_t count = 0;
    for (int64_t k = 0; k < s->cols; k++)
        count += (double)s->absmax[k] >= least;
    if (!count) return true;
    c->outlier_columns = least > 0 ? malloc((size_t)count * sizeof *c->outlier_columns) : NULL;
    if (!c->outlier_columns) {
        qd_cli_fail("out of memory");
        return false;
    }
    count = 0;
    for (int64_t k = 0; k < s->cols; k++) {
        if ((double)s->absmax[k] >= least) c->outlier_columns[count++] = (int32_t)k;
    }
    c->outliers = (qd_gguf_outliers){count, c->outlier_columns, NULL};
    return true;
}

bool qd_cli_outliers_choose(const qd_gguf *g, qd_cli_plan *plan, const qd_cli_inputs *in) {
    threshold t = {0};
    if (in->outliers && !read_threshold(in->outliers, &t)) return false;
    for (int64_t i = 0; i < plan->count; i++) {
        qd_cli_change *c = &plan->changes[i];
        const qd_input_stats *s = in->outliers ? qd_calibration_find(in->stats, c->name) : NULL;
        if (!is_int8(c)) continue;
        if (c->keep && s) {
            qd_cli_fail("--outliers: '%s' is int8 already; half precision is taken from a model in f16 or the like",
                        c->name);
            return false;
        }
        if (c->keep && qd_gguf_find_outliers(g, c->name, c->src.rows, c->src.cols, &c->outliers) != QD_OK) {
            qd_cli_failed();
            return false;
        }
        if (s && s->cols == c->src.cols && !choose_columns(c, s, &t)) return false;
        c->bytes += (uint64_t)c->outliers.count * (4 + 2 * (uint64_t)c->src.rows);
    }
    return true;
}

qd_status qd_cli_outliers_write(qd_gguf_writer *w, const qd_cli_change *c) {
    const qd_gguf_outliers *o = &c->outliers;
    const size_t count = (size_t)o->count, row_bytes = qd_storage_row_bytes(&c->src.storage, c->src.cols);
    if (!count) return QD_OK;
    qd_status status = qd_gguf_write_data(w, o->columns, count * sizeof *o->columns);
    if (status || o->weights) {
        return status ? status : qd_gguf_write_data(w, o->weights, (size_t)c->src.rows * count * sizeof *o->weights);
    }
    float *row = malloc(((size_t)c->src.cols + count) * sizeof *row), *picked = row ? row + c->src.cols : NULL;
    uint16_t *halves = malloc(count * sizeof *halves);
    if (!row || !halves) status = QD_ERR_MEMORY;
    for (int64_t r = 0; !status && r < c->src.rows; r++) {
        const void *data = (const char *)c->src.data + (size_t)r * row_bytes;
        status =
            c->src.storage.format == QD_FORMAT_COUNT
                ? qd_coding_dequantize(&c->src.storage.coding, data, c->src.side, c->src.rows, c->src.cols, r, 1, row)
                : qd_dequantize(c->src.storage.format, data, 1, c->src.cols, row);
        for (size_t i = 0; i < count; i++)
            picked[i] = row[o->columns[i]];
        if (!status) status = qd_quantize(QD_FORMAT_F16, picked, 1, o->count, halves);
        if (!status) status = qd_gguf_write_data(w, halves, count * sizeof *halves);
    }
    free(row);
    free(halves);
    return status;
}
