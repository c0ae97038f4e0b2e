/* Factors that move the difficulty of rounding from activations to weights (SmoothQuant), or keep the weights exact
 * that meet large activations (AWQ). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_methods.h"
#include "quant/pieces.h"
#include "quant/steps.h"

/* Decodes rows `first`, first + step …, `count` of them. */
static qd_status take_rows(const qd_matrix *m, int64_t step, int64_t count, float *x) {
    const size_t bytes = qd_storage_row_bytes(&m->storage, m->cols);
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *row = (const unsigned char *)m->data + (size_t)(i * step) * bytes;
        const qd_status status =
            qd_storage_decode(&m->storage, row, m->side, m->rows, m->cols, i * step, 1, x + i * m->cols);
        if (status) return status;
    }
    return QD_OK;
}

qd_status qd_column_absmax(const qd_matrix *m, float *absmax) {
    if (!m || !m->data || !absmax || m->rows < 1 || m->cols < 1)
        return qd_fail(QD_ERR_ARGUMENT, "qd_column_absmax: the matrix and the result must not be NULL");
    const size_t bytes = qd_storage_row_bytes(&m->storage, m->cols);
    float *row = qd_alloc((size_t)m->cols * sizeof *row);
    if (!row) return QD_ERR_MEMORY;
    qd_status status = QD_OK;
    for (int64_t r = 0; r < m->rows && !status; r++) {
        const unsigned char *data = (const unsigned char *)m->data + (size_t)r * bytes;
        status = qd_storage_decode(&m->storage, data, m->side, m->rows, m->cols, r, 1, row);
        for (int64_t k = 0; k < m->cols && !status; k++) {
            if (!isfinite(row[k]))
                status = qd_fail(QD_ERR_ARGUMENT, "row %lld, column %lld is %s; repair the weights", (long long)r,
                                 (long long)k, isnan(row[k]) ? "NaN" : "infinite");
            absmax[k] = fmaxf(absmax[k], fabsf(row[k]));
        }
    }
    free(row);
    return status;
}

qd_status qd_smooth_factors(const float *x_absmax, const float *w_absmax, int64_t cols, double alpha, float *s) {
    if (!x_absmax || !w_absmax || !s || cols < 1 || !(alpha >= 0 && alpha <= 1))
        return qd_fail(QD_ERR_ARGUMENT, "qd_smooth_factors: alpha %g (0 … 1), or a pointer that is NULL", alpha);
    for (int64_t k = 0; k < cols; k++) {
        if (!(x_absmax[k] >= 0 && w_absmax[k] >= 0 && isfinite(x_absmax[k]) && isfinite(w_absmax[k])))
            return qd_fail(QD_ERR_ARGUMENT, "column %lld: %g and %g are no largest magnitudes", (long long)k,
                           (double)x_absmax[k], (double)w_absmax[k]);
    }
    for (int64_t k = 0; k < cols; k++) {
        const double factor = pow((double)x_absmax[k], alpha) / pow((double)w_absmax[k], 1 - alpha);
        s[k] = x_absmax[k] > 0 && w_absmax[k] > 0 ? (float)fmax(factor, 1e-5) : 1;
    }
    return QD_OK;
}

/* ---- AWQ ---------------------------------------------------------------------------------------------------- */

/* Of a matrix, what the search looks at. */
typedef struct sample {
    const qd_storage *to;
    int64_t rows;
    float *x;
} sample;

typedef struct search {
    const float *mean_abs;
    const double *mean_square;
    const qd_awq_options *options;
    int64_t cols;
    int n, points;
    sample *samples;
    double *errors; /* [point][matrix] */
    float *factors; /* [point][cols] */
} search;

static void fill_factors(const float *mean_abs, int64_t cols, double alpha, float *s) {
    double least = INFINITY, most = 0;
    for (int64_t k = 0; k < cols; k++) {
        if (mean_abs[k] == 0) continue;
        const double v = fmax(pow((double)mean_abs[k], alpha), 1e-4);
        least = fmin(least, v);
        most = fmax(most, v);
        s[k] = (float)v;
    }
    const double middle = most > 0 ? sqrt(most * least) : 1;
    for (int64_t k = 0; k < cols; k++)
        s[k] = mean_abs[k] == 0 ? 1 : (float)((double)s[k] / middle);
}

/* Memory of one thread, for the largest sample. */
typedef struct room {
    float *x, *y, *side, *importance;
    unsigned char *data;
} room;

static void room_free(void *memory) {
    room *m = memory;
    free(m->x);
    free(m->y);
    free(m->side);
    free(m->importance);
    free(m->data);
    free(m);
}

static qd_status room_make(void *user, void **memory) {
    const search *s = user;
    size_t values = 1, bytes = 1, side = 1;
    for (int i = 0; i < s->n; i++) {
        const sample *p = &s->samples[i];
        const size_t row = qd_storage_row_bytes(p->to, s->cols);
        const size_t count = (size_t)qd_storage_side_count(p->to, p->rows, s->cols);
        if ((size_t)(p->rows * s->cols) > values) values = (size_t)(p->rows * s->cols);
        if ((size_t)p->rows * row > bytes) bytes = (size_t)p->rows * row;
        if (count > side) side = count;
    }
    room *m = qd_alloc_zero(1, sizeof *m);
    if (!m) return QD_ERR_MEMORY;
    m->x = qd_alloc(values * sizeof *m->x);
    m->y = qd_alloc(values * sizeof *m->y);
    m->side = qd_alloc(side * sizeof *m->side);
    m->importance = qd_alloc((size_t)s->cols * sizeof *m->importance);
    m->data = qd_alloc(bytes);
    const bool ok = m->x && m->y && m->side && m->importance && m->data;
    if (!ok) {
        room_free(m);
        return QD_ERR_MEMORY;
    }
    *memory = m;
    return QD_OK;
}

/* The error of one matrix at one point of the grid. */
static qd_status try_point(void *user, int64_t piece, void *memory) {
    const search *s = user;
    const room *m = memory;
    const sample *p = &s->samples[piece % s->n];
    const float *factor = s->factors + piece / s->n * s->cols;
    const qd_matrix scaled = {{.format = QD_FORMAT_F32}, p->rows, s->cols, m->x, NULL};
    qd_loss unused;
    qd_status status;
    for (int64_t k = 0; k < s->cols; k++)
        m->importance[k] = (float)(s->mean_square[k] / ((double)factor[k] * (double)factor[k]));
    for (int64_t i = 0; i < p->rows * s->cols; i++)
        m->x[i] = p->x[i] * factor[i % s->cols];
    const qd_quantize_options o = {.importance = s->options->weighed ? m->importance : NULL, .threads = 1};
    QD_TRY(qd_matrix_quantize(&scaled, p->to, &o, m->data, m->side, &unused));
    QD_TRY(qd_storage_decode(p->to, m->data, m->side, p->rows, s->cols, 0, p->rows, m->y));
    double sum = 0;
    for (int64_t i = 0; i < p->rows * s->cols; i++) {
        const double e = (double)m->y[i] / (double)factor[i % s->cols] - (double)p->x[i];
        sum += e * e * s->mean_square[i % s->cols];
    }
    s->errors[piece] = sum;
error:
    return status;
}

static bool tell(void *user, double done) {
    const search *s = user;
    return !s->options->progress || s->options->progress(s->options->user, done);
}

static qd_status take_samples(search *s, const qd_matrix *const m[], const qd_storage *const to[]) {
    for (int i = 0; i < s->n; i++) {
        const int64_t most = s->options->rows > 0 ? s->options->rows : m[i]->rows;
        const int64_t step = (m[i]->rows + most - 1) / most;
        sample *p = &s->samples[i];
        *p = (sample){to[i], (m[i]->rows + step - 1) / step, NULL};
        p->x = qd_alloc((size_t)(p->rows * s->cols) * sizeof *p->x);
        const qd_status status = p->x ? take_rows(m[i], step, p->rows, p->x) : QD_ERR_MEMORY;
        if (status) return status;
    }
    return QD_OK;
}

/* Takes the best point; *result tells how good it is. */
static int64_t choose(const search *s, qd_awq_result *result) {
    double square = 0, least = INFINITY, first = 0;
    int64_t best = 0;
    for (int64_t point = 0; point < s->points; point++) {
        double sum = 0;
        for (int i = 0; i < s->n; i++)
            sum += s->errors[point * s->n + i];
        if (point == 0) first = sum;
        if (sum < least) {
            least = sum;
            best = point;
        }
    }
    for (int i = 0; i < s->n; i++) {
        const sample *p = &s->samples[i];
        for (int64_t k = 0; k < p->rows * s->cols; k++)
            square += (double)p->x[k] * (double)p->x[k] * s->mean_square[k % s->cols];
    }
    if (square > 0) {
        least /= square;
        first /= square;
    }
    *result = (qd_awq_result){(double)best / s->points, least, first};
    return best;
}

static qd_status check_awq(const qd_matrix *const m[], const qd_storage *const to[], int n, const float *mean_abs,
                           const double *mean_square) {
    for (int i = 0; i < n; i++) {
        if (!m[i] || !m[i]->data || !to[i] || m[i]->cols != m[0]->cols || m[i]->rows < 1 || m[i]->cols < 1)
            return qd_fail(QD_ERR_ARGUMENT, "qd_awq_factors: matrix %d is NULL, or has other columns than the first",
                           i);
    }
    for (int64_t k = 0; k < m[0]->cols; k++) {
        if (!(mean_abs[k] >= 0 && mean_square[k] >= 0 && isfinite(mean_abs[k]) && mean_square[k] <= 1e38))
            return qd_fail(QD_ERR_ARGUMENT, "column %lld: %g and %g are no mean magnitude and mean square",
                           (long long)k, (double)mean_abs[k], mean_square[k]);
    }
    return QD_OK;
}

qd_status qd_awq_factors(const qd_matrix *const m[], const qd_storage *const to[], int n, const float *mean_abs,
                         const double *mean_square, const qd_awq_options *options, float *s, qd_awq_result *result) {
    static const qd_awq_options defaults;
    enum { POINTS = 20, MOST_POINTS = 1000, MOST_MATRICES = 1000 };
    const qd_awq_options *o = options ? options : &defaults;
    if (!m || !to || n < 1 || n > MOST_MATRICES || !mean_abs || !mean_square || !s || o->points < 0 ||
        o->points > MOST_POINTS || o->rows < 0)
        return qd_fail(QD_ERR_ARGUMENT, "qd_awq_factors: %d matrices, %d points, or a pointer that is NULL", n,
                       o->points);
    qd_awq_result found;
    qd_status status = check_awq(m, to, n, mean_abs, mean_square);
    if (status) return status;
    search k = {mean_abs, mean_square, o, m[0]->cols, n, o->points ? o->points : POINTS, NULL, NULL, NULL};
    k.samples = qd_alloc_zero((size_t)n, sizeof *k.samples);
    k.errors = qd_alloc_zero((size_t)(n * k.points), sizeof *k.errors);
    k.factors = qd_alloc((size_t)(k.points * k.cols) * sizeof *k.factors);
    status = QD_ERR_MEMORY;
    if (!k.samples || !k.errors || !k.factors) goto error;
    for (int i = 0; i < k.points; i++)
        fill_factors(mean_abs, k.cols, (double)i / k.points, k.factors + i * k.cols);
    QD_TRY(take_samples(&k, m, to));
    QD_TRY(qd_pieces_run(&(quant_pieces){.count = (int64_t)n * k.points,
                                         .threads = o->threads,
                                         .run = try_point,
                                         .room_make = room_make,
                                         .room_free = room_free,
                                         .progress = tell,
                                         .user = &k}));
    memcpy(s, k.factors + choose(&k, &found) * k.cols, (size_t)k.cols * sizeof *s);
    if (result) *result = found;
error:
    for (int i = 0; k.samples && i < n; i++)
        free(k.samples[i].x);
    free(k.samples);
    free(k.errors);
    free(k.factors);
    return status;
}
