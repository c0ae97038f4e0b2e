/* Names and sizes of stored weights, and the figures of a loss. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/status.h"

qd_status qd_storage_parse(const char *name, qd_storage *out) {
    if (!name || !out) return qd_fail(QD_ERR_ARGUMENT, "storage: pass a name and a place for the result, not NULL");
    qd_storage s = {.format = QD_FORMAT_COUNT};
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        const qd_format_info *info = qd_format_get((qd_format)f);
        if (strcmp(info->name, name) || info->gguf_type < 0) continue;
        if (info->kind == QD_KIND_INTEGER) continue; /* there is no scale to make them of weights */
        s.format = (qd_format)f;
        *out = s;
        return QD_OK;
    }
    if (qd_coding_parse(name, &s.coding) != QD_OK) {
        char why[512], known[256] = "";
        snprintf(why, sizeof why, "%s", qd_last_message());
        if (strncmp(why, "unknown", 7) != 0) return qd_fail(QD_ERR_ARGUMENT, "%s", why);
        for (int f = 0; f < QD_FORMAT_COUNT; f++) {
            const qd_format_info *info = qd_format_get((qd_format)f);
            if (info->gguf_type < 0 || info->kind == QD_KIND_INTEGER) continue;
            const size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, " %s", info->name);
        }
        const char *codings = strstr(why, "known are");
        return qd_fail(QD_ERR_ARGUMENT, "unknown format \"%.64s\"; known are%s, and the codings%s", name, known,
                       codings ? codings + strlen("known are") : "");
    }
    *out = s;
    return QD_OK;
}

void qd_storage_name(const qd_storage *s, char *out, size_t capacity) {
    if (s->format == QD_FORMAT_COUNT) {
        qd_coding_name(&s->coding, out, capacity);
    } else {
        snprintf(out, capacity, "%s", qd_format_get(s->format)->name);
    }
}

bool qd_storage_equal(const qd_storage *a, const qd_storage *b) {
    char x[64], y[64];
    if (a->format != b->format) return false;
    qd_storage_name(a, x, sizeof x);
    qd_storage_name(b, y, sizeof y);
    return !strcmp(x, y);
}

size_t qd_storage_row_bytes(const qd_storage *s, int64_t cols) {
    return s->format == QD_FORMAT_COUNT ? qd_coding_row_bytes(&s->coding, cols) : qd_format_row_bytes(s->format, cols);
}

int64_t qd_storage_side_count(const qd_storage *s, int64_t rows, int64_t cols) {
    return s->format == QD_FORMAT_COUNT ? qd_coding_side_count(&s->coding, rows, cols) : 0;
}

/* NaN means that there are no steps. */
static double larger(double a, double b) {
    return isnan(a) || b > a ? b : a;
}

void qd_loss_add(qd_loss *sum, const qd_loss *more) {
    if (sum->count == 0) sum->steps = (double)NAN;
    sum->count += more->count;
    sum->absolute += more->absolute;
    sum->largest = larger(sum->largest, more->largest);
    sum->steps = larger(sum->steps, more->steps);
    sum->xx += more->xx;
    sum->yy += more->yy;
    sum->xy += more->xy;
    sum->squares += more->squares;
}

double qd_loss_snr(const qd_loss *l) {
    return l->squares > 0 ? 10 * log10(l->xx / l->squares) : (double)INFINITY;
}

double qd_loss_cosine(const qd_loss *l) {
    const double size = sqrt(l->xx) * sqrt(l->yy);
    if (size > 0) return l->xy / size;
    return l->xx == l->yy ? 1 : 0;
}
