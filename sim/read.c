/* Files of measurements: CSV with quotes, and the lists in its fields. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/status.h"
#include "sim/sim.h"

static const char *const columns[QD_SIM_COLUMNS] = {"id",    "source", "device", "clock_mhz", "kind",     "dtype",
                                                    "shape", "config", "metric", "value",     "unit_note"};

/* ---- CSV ---------------------------------------------------------------------------------------------------- */

/* Where reading stands. */
typedef struct reader {
    const char *name;
    char *at, *end; /* *end is writable: a byte of the caller's after the text */
    int line;
} reader;

static qd_status bad(const reader *r, const char *what) {
    return qd_fail(QD_ERR_FILE, "%s:%d: %s", r->name, r->line, what);
}

/* Reads a quoted field in place; r->at stands behind the opening quote, and then behind the closing one. */
static qd_status quoted(reader *r, char **field_end) {
    char *to = r->at;
    for (;;) {
        if (r->at == r->end) return bad(r, "the quote that opens here is not closed");
        if (*r->at == '"') {
            if (r->at + 1 == r->end || r->at[1] != '"') break;
            r->at++;
        }
        *to++ = *r->at++;
    }
    r->at++;
    *field_end = to;
    return QD_OK;
}

/* Reads a line of at most `most` fields; those that are absent are NULL. *count 0: an empty line. */
static qd_status line(reader *r, char *fields[], int most, int *count) {
    int lines = 1;
    *count = 0;
    for (bool more = true; more;) {
        char *start = r->at, *field_end = r->at;
        if (r->at < r->end && *r->at == '"') {
            start = ++r->at;
            const qd_status status = quoted(r, &field_end);
            if (status) return status;
            for (const char *p = start; p < field_end; p++)
                lines += *p == '\n';
        } else {
            while (r->at < r->end && *r->at != ',' && *r->at != '\n')
                r->at++;
            field_end = r->at;
            if (field_end > start && field_end[-1] == '\r' && (r->at == r->end || *r->at == '\n')) field_end--;
        }
        if (r->at < r->end && *r->at == '\r') r->at++;
        if (r->at < r->end && *r->at != ',' && *r->at != '\n')
            return bad(r, "there is text between a closing quote and the comma");
        if (*count == most) return bad(r, "there are more fields than columns");
        more = r->at < r->end && *r->at == ',';
        if (r->at < r->end) r->at++;
        *field_end = 0;
        fields[(*count)++] = start;
    }
    if (*count == 1 && !*fields[0]) *count = 0;
    r->line += lines;
    return QD_OK;
}

/* Which column each field of the header line is. */
static qd_status header(reader *r, int order[QD_SIM_COLUMNS]) {
    char *fields[QD_SIM_COLUMNS];
    int count;
    bool have[QD_SIM_COLUMNS] = {false};
    qd_status status = line(r, fields, QD_SIM_COLUMNS, &count);
    r->line = 1; /* for the messages */
    for (int f = 0; !status && f < count; f++) {
        int c = 0;
        while (c < QD_SIM_COLUMNS && strcmp(fields[f], columns[c]) != 0)
            c++;
        if (c == QD_SIM_COLUMNS || have[c])
            return qd_fail(QD_ERR_FILE, "%s:1: column '%.40s' is %s", r->name, fields[f],
                           c < QD_SIM_COLUMNS ? "there twice" : "not known");
        have[order[f] = c] = true;
    }
    for (int c = 0; !status && c < QD_SIM_COLUMNS; c++) {
        if (!have[c] && c != QD_SIM_NOTE)
            return qd_fail(QD_ERR_FILE, "%s:1: column '%s' is missing", r->name, columns[c]);
    }
    r->line = 2;
    return status;
}

static bool number(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && isfinite(*out);
}

static qd_status fill(reader *r, const int order[], char *const fields[], int count, int at, qd_sim_case *c) {
    double mhz = 0;
    memset(c, 0, sizeof *c);
    c->line = at;
    for (int i = 0; i < QD_SIM_COLUMNS; i++)
        c->text[i] = "";
    for (int f = 0; f < count; f++)
        c->text[order[f]] = fields[f];
    if (!*c->text[QD_SIM_ID]) return qd_fail(QD_ERR_FILE, "%s:%d: the row has no id", r->name, at);
    if (!number(c->text[QD_SIM_VALUE], &c->value) || c->value <= 0)
        return qd_fail(QD_ERR_FILE, "%s:%d: value '%.40s' is no number above 0", r->name, at, c->text[QD_SIM_VALUE]);
    if (*c->text[QD_SIM_CLOCK] && (!number(c->text[QD_SIM_CLOCK], &mhz) || mhz <= 0))
        return qd_fail(QD_ERR_FILE, "%s:%d: clock_mhz '%.40s' is neither empty nor a number above 0", r->name, at,
                       c->text[QD_SIM_CLOCK]);
    c->clock = mhz * 1e6;
    return QD_OK;
}

qd_status qd_sim_read(const char *name, char *text, size_t size, qd_sim_case **cases, int *count) {
    const bool mark = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0; /* of UTF-8 */
    reader r = {.name = name, .at = text + (mark ? 3 : 0), .end = text + size, .line = 1};
    int order[QD_SIM_COLUMNS], room = 0;
    qd_status status;
    *cases = NULL;
    *count = 0;
    if (memchr(text, 0, size)) {
        QD_TRY(qd_fail(QD_ERR_FILE, "%s: it has bytes of 0, so it is no text", name));
    }
    QD_TRY(header(&r, order));
    while (r.at < r.end) {
        char *fields[QD_SIM_COLUMNS];
        const int at = r.line;
        int n;
        QD_TRY(line(&r, fields, QD_SIM_COLUMNS, &n));
        if (n == 0) continue;
        if (*count == room) {
            room = room ? 2 * room : 256;
            qd_sim_case *more = qd_realloc(*cases, (size_t)room * sizeof **cases);
            if (!more) {
                status = QD_ERR_MEMORY;
                goto error;
            }
            *cases = more;
        }
        QD_TRY(fill(&r, order, fields, n, at, &(*cases)[*count]));
        ++*count;
    }
    if (*count == 0) QD_TRY(qd_fail(QD_ERR_FILE, "%s: there is no row below the header", name));
    return QD_OK;
error:
    free(*cases);
    *cases = NULL;
    *count = 0;
    return status;
}

/* ---- Lists in fields ---------------------------------------------------------------------------------------- */

/* The value of `key` in "a=1;b=2"; its length in *size. */
static const char *find(const char *list, const char *key, size_t *size) {
    const size_t n = strlen(key);
    for (const char *p = list; *p; p += strcspn(p, ";"), p += *p == ';') {
        if (strncmp(p, key, n) == 0 && p[n] == '=') {
            *size = strcspn(p + n + 1, ";");
            return p + n + 1;
        }
    }
    return NULL;
}

bool qd_sim_text(const char *list, const char *key, char *out, size_t size) {
    size_t n = 0;
    const char *found = find(list, key, &n);
    if (n >= size) n = size - 1;
    if (found) memcpy(out, found, n);
    out[found ? n : 0] = 0;
    return found != NULL;
}

double qd_sim_number(const char *list, const char *key, double otherwise) {
    char text[48];
    double x;
    return qd_sim_text(list, key, text, sizeof text) && number(text, &x) && x > 0 ? x : otherwise;
}

bool qd_sim_is(const char *list, const char *key, const char *value) {
    size_t n = 0;
    const char *found = find(list, key, &n);
    return found && n == strlen(value) && strncmp(found, value, n) == 0;
}

int qd_sim_numbers(const char *text, char separator, double *out, int most) {
    int n = 0;
    for (const char *p = text; n < most; p++) {
        const char *equal = p;
        while ((*equal >= 'a' && *equal <= 'z') || (*equal >= 'A' && *equal <= 'Z') || *equal == '_')
            equal++;
        if (equal != p && *equal == '=') p = equal + 1;
        char *end;
        const double x = strtod(p, &end);
        if (end == p || !(x >= 1) || !(x <= 1e15)) return 0;
        out[n++] = x;
        if (*end != separator) return *end ? 0 : n;
        p = end;
    }
    return 0; /* more numbers than fit */
}

double qd_sim_element(const char *dtype) {
    static const char *const prefixes[] = {"fp", "bf", "int", "uint", "raw", "w"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        const size_t n = strlen(prefixes[i]);
        char *end;
        if (strncmp(dtype, prefixes[i], n) != 0) continue;
        const long bits = strtol(dtype + n, &end, 10);
        if (end != dtype + n && bits > 0 && bits <= 4096) return (double)bits / 8;
    }
    return 0;
}
