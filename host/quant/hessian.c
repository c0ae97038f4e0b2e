/* Sums of xᵀ·x, and the Cholesky factor of their inverse. Plain loops that keep their operands in a processor's cache
 * and its registers full; every sum has a fixed order. */
#include "quant/hessian.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_methods.h"
#include "quant/pieces.h"

/* ---- Sums --------------------------------------------------------------------------------------------------- */

enum { LANES = 8, HALF = LANES / 2, CHUNK = 128, MOST_COLS = 1 << 20 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

typedef struct sums {
    double *hessian;
    lanes *panels; /* [panel][row]: columns LANES · panel … of the chunk's rows */
    int64_t cols, count, rows;
} sums;

int64_t qd_hessian_count(int64_t cols) {
    return cols > 0 && cols <= MOST_COLS ? cols * (cols + 1) / 2 : 0;
}

/* Rows `half` · HALF … of a panel against all columns of another: HALF × LANES sums. */
QD_WIDE_LOOPS static void add_tile(const sums *s, int64_t panel, int half, int64_t other) {
    lanes sum[HALF] = {{0}};
    const float *a = (const float *)(s->panels + panel * s->rows) + half * HALF;
    const lanes *b = s->panels + other * s->rows;
    for (int64_t t = 0; t < s->rows; t++) {
        QD_UNROLL_4
        for (int i = 0; i < HALF; i++)
            sum[i] += a[t * LANES + i] * b[t];
    }
    for (int i = 0; i < HALF; i++) {
        const int64_t row = panel * LANES + half * HALF + i;
        if (row >= s->cols) break;
        double *to = s->hessian + row * s->cols - row * (row - 1) / 2 - row; /* to[j]: element (row, j) */
        for (int64_t k = 0, j = other * LANES; k < LANES && j < s->cols; k++, j++) {
            if (j >= row) to[j] += (double)sum[i][k];
        }
    }
}

static qd_status add_panel(void *user, int64_t panel, void *unused) {
    const sums *s = user;
    (void)unused;
    for (int half = 0; half < LANES / HALF; half++) {
        for (int64_t other = panel; other < s->count; other++)
            add_tile(s, panel, half, other);
    }
    return QD_OK;
}

static void fill_panels(sums *s, const float *x) {
    memset(s->panels, 0, (size_t)(s->count * s->rows) * sizeof *s->panels);
    for (int64_t t = 0; t < s->rows; t++) {
        for (int64_t k = 0; k < s->cols; k++)
            ((float *)(s->panels + k / LANES * s->rows + t))[k % LANES] = x[t * s->cols + k];
    }
}

qd_status qd_hessian_add(double *hessian, int64_t cols, const float *x, int64_t rows, int threads) {
    if (!hessian || !x || !qd_hessian_count(cols) || rows < 1 || rows > INT64_MAX / 16 / cols)
        return qd_fail(QD_ERR_ARGUMENT, "qd_hessian_add: %lld × %lld activations", (long long)rows, (long long)cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        if (!isfinite(x[i]))
            return qd_fail(QD_ERR_ARGUMENT, "column %lld of the activations is %s: the model or the text is damaged",
                           (long long)(i % cols), isnan(x[i]) ? "NaN" : "infinite");
    }
    sums s = {.hessian = hessian, .cols = cols, .count = (cols + LANES - 1) / LANES};
    s.panels = qd_alloc((size_t)(s.count * CHUNK) * sizeof *s.panels);
    if (!s.panels) return QD_ERR_MEMORY;
    qd_status status = QD_OK;
    for (int64_t at = 0; at < rows && !status; at += CHUNK) {
        s.rows = rows - at < CHUNK ? rows - at : CHUNK;
        fill_panels(&s, x + at * cols);
        status = qd_pieces_run(&(quant_pieces){.count = s.count, .threads = threads, .run = add_panel, .user = &s});
    }
    free(s.panels);
    return status;
}

/* ---- Factor ------------------------------------------------------------------------------------------------- */

/* With both orders turned round, H = L·Lᵀ gives the wanted factor as the inverse of L, turned round again: the inverse
 * of H itself is never made. */

enum { ROWS = 4, WIDE = 4 };
typedef double wide __attribute__((vector_size(WIDE * sizeof(double))));

/* sum[r] = Σ a[r][k] · b[k] over k < n, ROWS rows of `stride` from a on. */
QD_WIDE_LOOPS static void dots(const double *a, int64_t stride, const double *b, int64_t n, double sum[ROWS]) {
    wide part[ROWS] = {{0}};
    int64_t k = 0;
    for (; k + WIDE <= n; k += WIDE) {
        wide y;
        memcpy(&y, b + k, sizeof y);
        QD_UNROLL_4
        for (int r = 0; r < ROWS; r++) {
            wide x;
            memcpy(&x, a + r * stride + k, sizeof x);
            part[r] += x * y;
        }
    }
    for (int r = 0; r < ROWS; r++) {
        sum[r] = (part[r][0] + part[r][1]) + (part[r][2] + part[r][3]);
        for (int64_t i = k; i < n; i++)
            sum[r] += a[r * stride + i] * b[i];
    }
}

/* Row i of the factor from column `from` on, the columns before being there. */
static qd_status finish_row(double *l, int64_t n, int64_t i, int64_t from, const int64_t *order) {
    double *row = l + i * n;
    for (int64_t j = from; j <= i; j++) {
        double sum = row[j];
        for (int64_t k = 0; k < j; k++)
            sum -= row[k] * l[j * n + k];
        if (j < i) {
            row[j] = sum / l[j * n + j];
        } else if (sum > (double)n * DBL_EPSILON * row[i]) { /* what rounding leaves of a diagonal element */
            row[i] = sqrt(sum);
        } else {
            return qd_fail(QD_ERR_ARGUMENT,
                           "the Hessian is singular: column %lld depends on others; calibrate with more text, or raise "
                           "the damping",
                           (long long)order[n - 1 - i]);
        }
    }
    return QD_OK;
}

/* l, of which the lower triangle counts, becomes its Cholesky factor. */
static qd_status decompose(double *l, int64_t n, const int64_t *order) {
    for (int64_t i = 0; i < n; i += ROWS) {
        const int64_t rows = n - i < ROWS ? n - i : ROWS;
        for (int64_t j = 0; rows == ROWS && j < i; j++) {
            double sum[ROWS];
            dots(l + i * n, n, l + j * n, j, sum);
            for (int r = 0; r < ROWS; r++)
                l[(i + r) * n + j] = (l[(i + r) * n + j] - sum[r]) / l[j * n + j];
        }
        for (int64_t r = i; r < i + rows; r++) {
            const qd_status status = finish_row(l, n, r, rows == ROWS ? i : 0, order);
            if (status) return status;
        }
    }
    return QD_OK;
}

/* row -= factor · other, over n elements. */
QD_WIDE_LOOPS static void subtract(double *row, double factor, const double *other, int64_t n) {
    for (int64_t j = 0; j < n; j++)
        row[j] -= factor * other[j];
}

/* l, lower triangular, becomes its inverse. `copy` has ROWS · n doubles. */
static void invert(double *l, int64_t n, double *copy) {
    for (int64_t i = 0; i < n; i += ROWS) {
        const int64_t rows = n - i < ROWS ? n - i : ROWS;
        memcpy(copy, l + i * n, (size_t)(rows * n) * sizeof *copy);
        for (int64_t r = 0; r < rows; r++)
            memset(l + (i + r) * n, 0, (size_t)n * sizeof *l);
        for (int64_t k = 0; k < i; k++) {
            for (int64_t r = 0; r < rows; r++)
                subtract(l + (i + r) * n, copy[r * n + k], l + k * n, k + 1);
        }
        for (int64_t r = 0; r < rows; r++) {
            double *row = l + (i + r) * n;
            for (int64_t k = i; k < i + r; k++)
                subtract(row, copy[r * n + k], l + k * n, k + 1);
            row[i + r] = 1;
            const double pivot = copy[r * n + i + r];
            for (int64_t j = 0; j <= i + r; j++)
                row[j] /= pivot;
        }
    }
}

qd_status qd_hessian_factor(const double *hessian, int64_t n, const int64_t *order, double damping, float *u) {
    qd_status status = QD_ERR_MEMORY;
    double mean = 0, sum = 0;
    double *l = qd_alloc((size_t)(n * n) * sizeof *l), *copy = qd_alloc((size_t)(ROWS * n) * sizeof *copy);
    if (!l || !copy) goto error;
    for (int64_t i = 0; i < qd_hessian_count(n); i++)
        sum += hessian[i] - hessian[i]; /* 0, or NaN */
    for (int64_t i = 0; i < n; i++) {
        const double d = qd_hessian_at(hessian, n, i, i);
        mean += (d == 0 ? 1 : d) / (double)n;
    }
    if (!(sum == 0) || !isfinite(mean)) {
        status = qd_fail(QD_ERR_ARGUMENT, "the Hessian is not finite: the model or the text is damaged");
        goto error;
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++)
            l[i * n + j] = qd_hessian_at(hessian, n, order[n - 1 - i], order[n - 1 - j]);
        if (l[i * n + i] == 0) l[i * n + i] = 1;
        l[i * n + i] += damping * mean;
    }
    QD_TRY(decompose(l, n, order));
    invert(l, n, copy);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = i; j < n; j++)
            u[i * n + j] = (float)l[(n - 1 - i) * n + (n - 1 - j)];
    }
error:
    free(l);
    free(copy);
    return status;
}
