/* The model against measurements: errors of rows, fits, and fits that leave out what they are judged on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "sim/sim.h"

/* ---- Fits --------------------------------------------------------------------------------------------------- */

static double square(double x) {
    return x * x;
}

/* Mean |ln(predicted / measured)| of the rows that are kept, and of ln(value / start)^2 for each parameter, as if its
 * guess were a row: so rows that say little about a parameter do not bend it to mend errors of another kind. */
static double cost(const qd_sim_case *rows, const bool *keep, int count, qd_sim_params p) {
    char reason[QD_SIM_REASON];
    double sum = 0, value;
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (!keep[i] || !qd_sim_predict(&rows[i], &p, &value, reason)) continue;
        sum += fabs(log(value / rows[i].value));
        n++;
    }
    for (int i = 0; i < QD_SIM_PARAMS; i++)
        sum += square(log(*qd_sim_param(&p, i) / qd_sim_param_table[i].start));
    return sum / (n + QD_SIM_PARAMS);
}

/* Goes along one parameter after the other while that helps, then halves the step: no derivatives, since the model has
 * maxima of times in it. */
qd_sim_params qd_sim_fit_rows(const qd_sim_case *rows, const bool *keep, int count) {
    qd_sim_params p = qd_sim_params_start();
    double best = cost(rows, keep, count, p);
    for (double step = 0.4; step > 0.01;) {
        const double before = best;
        for (int i = 0; i < QD_SIM_PARAMS; i++) {
            const double factors[2] = {1 + step, 1 / (1 + step)};
            const bool share = strcmp(qd_sim_param_table[i].unit, "1") == 0;
            for (int f = 0; f < 2; f++) {
                qd_sim_params q = p;
                *qd_sim_param(&q, i) *= factors[f];
                if (share && *qd_sim_param(&q, i) > 1) *qd_sim_param(&q, i) = 1;
                const double c = cost(rows, keep, count, q);
                /* Only what moves the result: a parameter that no row needs stays at its start. */
                if (c < best * (1 - 1e-6)) {
                    best = c;
                    p = q;
                }
            }
        }
        if (best > before * (1 - 1e-4)) step /= 2;
    }
    return p;
}

/* ---- Calibration -------------------------------------------------------------------------------------------- */

/* What a calibration's texts lie in. */
typedef struct whole {
    qd_sim_calibration public;
    char *text;
    qd_sim_case *cases;
    qd_sim_row *rows;
    char (*reasons)[QD_SIM_REASON];
    bool *keep;
    double *errors;
} whole;

void qd_sim_calibration_free(qd_sim_calibration *c) {
    whole *w = (whole *)c;
    if (!w) return;
    free(w->text);
    free(w->cases);
    free(w->rows);
    free(w->reasons);
    free(w->keep);
    free(w->errors);
    free(w);
}

/* The group that row i is left out with; groups are compared as texts or, for fifths, as numbers. */
static bool together(const qd_sim_case *rows, int i, int j, qd_sim_parameters with) {
    switch (with) {
        case QD_SIM_WITHOUT_SOURCE:
            return strcmp(rows[i].text[QD_SIM_SOURCE], rows[j].text[QD_SIM_SOURCE]) == 0;
        case QD_SIM_WITHOUT_DEVICE:
            return strcmp(rows[i].text[QD_SIM_DEVICE], rows[j].text[QD_SIM_DEVICE]) == 0;
        case QD_SIM_WITHOUT_FIFTH:
            return i % 5 == j % 5;
        case QD_SIM_PUBLISHED:
        case QD_SIM_UNFITTED:
            break;
    }
    return true;
}

static void predict_row(whole *w, int i, const qd_sim_params *p) {
    const qd_sim_case *c = &w->cases[i];
    qd_sim_row *r = &w->rows[i];
    *r = (qd_sim_row){.id = c->text[QD_SIM_ID],
                      .source = c->text[QD_SIM_SOURCE],
                      .device = c->text[QD_SIM_DEVICE],
                      .kind = c->text[QD_SIM_KIND],
                      .metric = c->text[QD_SIM_METRIC],
                      .measured = c->value};
    if (qd_sim_predict(c, p, &r->predicted, w->reasons[i])) {
        r->error = fabs(r->predicted / r->measured - 1);
    } else {
        r->reason = w->reasons[i];
    }
}

static void predict_all(whole *w, int count, qd_sim_parameters with) {
    const qd_sim_params whole_file = with == QD_SIM_UNFITTED ? qd_sim_params_start() : qd_sim_params_value();
    const bool fits = with != QD_SIM_PUBLISHED && with != QD_SIM_UNFITTED;
    for (int i = 0; i < count; i++) {
        if (w->rows[i].id) continue; /* done with its group */
        qd_sim_params p = whole_file;
        for (int j = 0; j < count; j++)
            w->keep[j] = !together(w->cases, i, j, with);
        if (fits) p = qd_sim_fit_rows(w->cases, w->keep, count);
        for (int j = i; j < count; j++) {
            if (!w->keep[j]) predict_row(w, j, &p);
        }
    }
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarize(whole *w, int count) {
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (!w->rows[i].reason) w->errors[n++] = w->rows[i].error;
    }
    qsort(w->errors, (size_t)n, sizeof *w->errors, ascending);
    qd_sim_calibration *c = &w->public;
    *c = (qd_sim_calibration){.rows = count, .predicted = n, .row = w->rows};
    if (n == 0) return;
    c->median = (w->errors[(n - 1) / 2] + w->errors[n / 2]) / 2;
    c->p90 = w->errors[(9 * n + 9) / 10 - 1];
    c->most = w->errors[n - 1];
}

qd_status qd_sim_calibrate(const char *name, const char *text, size_t size, qd_sim_parameters with,
                           qd_sim_calibration **out) {
    int count;
    qd_status status = QD_ERR_MEMORY;
    whole *w = qd_alloc_zero(1, sizeof *w);
    *out = NULL;
    if (!w || !(w->text = qd_alloc(size + 1))) goto error;
    memcpy(w->text, text, size);
    QD_TRY(qd_sim_read(name, w->text, size, &w->cases, &count));
    status = QD_ERR_MEMORY;
    const size_t n = (size_t)count;
    if (!(w->rows = qd_alloc_zero(n, sizeof *w->rows))) goto error;
    if (!(w->reasons = qd_alloc_zero(n, sizeof *w->reasons))) goto error;
    if (!(w->keep = qd_alloc_zero(n, sizeof *w->keep))) goto error;
    if (!(w->errors = qd_alloc_zero(n, sizeof *w->errors))) goto error;
    predict_all(w, count, with);
    summarize(w, count);
    *out = &w->public;
    return QD_OK;
error:
    qd_sim_calibration_free(w ? &w->public : NULL);
    return status;
}

qd_status qd_sim_fit(const char *name, const char *text, size_t size, qd_sim_parameter *out, int most, int *count) {
    qd_status status = QD_ERR_MEMORY;
    qd_sim_case *cases = NULL;
    bool *keep = NULL;
    int rows;
    char *copy = qd_alloc(size + 1);
    if (!copy) goto error;
    memcpy(copy, text, size);
    QD_TRY(qd_sim_read(name, copy, size, &cases, &rows));
    status = QD_ERR_MEMORY;
    if (!(keep = qd_alloc((size_t)rows * sizeof *keep))) goto error;
    for (int i = 0; i < rows; i++)
        keep[i] = true;
    qd_sim_params p = qd_sim_fit_rows(cases, keep, rows);
    *count = QD_SIM_PARAMS;
    for (int i = 0; i < QD_SIM_PARAMS && i < most; i++) {
        const qd_sim_param_info *info = &qd_sim_param_table[i];
        out[i] = (qd_sim_parameter){info->name, info->unit, info->what, info->start, *qd_sim_param(&p, i)};
    }
    status = QD_OK;
error:
    free(keep);
    free(cases);
    free(copy);
    return status;
}
