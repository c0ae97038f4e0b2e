/* A device's tuning file: text, for people to read, too.
 *
 *   qdot-tuning 1
 *   device cpu-skylake-avx512 …             the name; not compared
 *   key 5d0c…                               hash of device, driver, kernels: cl_device_key
 *   matmul q4_1 a8 1 small matmul_q4_1_avx2 8 QD_TOKENS=6 QD_PREFETCH=512
 *   end 1                                   so many lines of choices: a file that was cut short has another end
 *
 * A choice: operator, formats of the first two inputs ("-": absent), least number of rows of the class, size of the
 * weights, variant, work-groups per compute unit, options. Lines that begin with # are comments. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "opencl/cl_tuning.h"

static const char first_line[] = "qdot-tuning 1";

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static bool read_format(const char *word, qd_format *out) {
    *out = QD_FORMAT_COUNT;
    if (!strcmp(word, "-")) return true;
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        if (!strcmp(qd_format_get((qd_format)f)->name, word)) *out = (qd_format)f;
    }
    return *out != QD_FORMAT_COUNT;
}

static bool read_number(const char *word, int most, int *out) {
    const size_t n = strspn(word, "0123456789");
    if (!n || word[n] || n > 6) return false;
    *out = (int)strtol(word, NULL, 10);
    return *out <= most;
}

/* The next word of *line, ended by a zero in place of its blank; "" at the end. */
static char *next_word(char **line) {
    char *word = *line;
    const size_t n = strcspn(word, " ");
    *line = word + n + (word[n] != 0);
    word[n] = 0;
    return word;
}

/* What is wrong with a choice's line, which is cut into words; NULL: nothing, and *c is it. */
static const char *read_choice(char *line, cl_choice *c) {
    int rows = 0, op = 0, base = 0;
    const char *word = next_word(&line);
    memset(c, 0, sizeof *c);
    c->variant = -1;
    while (op < QD_OP_COUNT && strcmp(qd_op_get((qd_op)op)->name, word) != 0)
        op++;
    if (op == QD_OP_COUNT) return "no such operator";
    c->of.op = (qd_op)op;
    if (!read_format(next_word(&line), &c->of.in0) || !read_format(next_word(&line), &c->of.in1))
        return "no such format";
    if (!read_number(next_word(&line), 1 << 20, &rows) || rows != qd_tuning_least_rows(qd_tuning_rows_class(rows)))
        return "rows are not the least number of a class: 1, 2, 16 or 128";
    c->of.rows = qd_tuning_rows_class(rows);
    word = next_word(&line);
    c->of.large = !strcmp(word, "large");
    if (!c->of.large && strcmp(word, "small") != 0) return "weights are neither small nor large";
    word = next_word(&line);
    while (base < cl_variant_count && strcmp(cl_variants[base].name, word) != 0)
        base++;
    if (base == cl_variant_count || cl_variants[base].op != c->of.op) return "the operator has no such kernel";
    c->base = base;
    if (!read_number(next_word(&line), CL_MOST_GROUPS, &c->groups) || !c->groups)
        return "no number of work-groups that may be";
    if (strlen(line) >= sizeof c->options || !cl_options_valid(cl_variants[base].file, line))
        return "options that tunables.def does not have for this kernel";
    snprintf(c->options, sizeof c->options, "%s", line);
    return NULL;
}

/* One line without its end, of which there are n bytes; false: *line is too long or has a zero byte. */
static bool take_line(const char **p, const char *end, char line[CL_TUNING_LINE]) {
    const char *stop = memchr(*p, '\n', (size_t)(end - *p));
    const size_t n = (size_t)((stop ? stop : end) - *p);
    if (n >= CL_TUNING_LINE || memchr(*p, 0, n)) return false;
    memcpy(line, *p, n);
    line[n] = 0;
    *p += n + (stop != NULL);
    return true;
}

qd_status cl_tuning_parse(const char *text, size_t size, const char *key, cl_choice **out, int *count) {
    const char *p = text, *end = text + size;
    char line[CL_TUNING_LINE], want_end[32];
    const char *wrong = NULL;
    bool keyed = false, ended = false;
    cl_choice *all = NULL;
    int n = 0, number = 0;
    if (size > CL_TUNING_BYTES) return qd_fail(QD_ERR_FILE, "larger than any tuning file");
    while (p < end && !wrong) {
        number++;
        if (!take_line(&p, end, line)) {
            wrong = "too long, or no text";
        } else if (number == 1) {
            if (strcmp(line, first_line) != 0) wrong = "not the first line of a tuning file";
        } else if (!line[0] || line[0] == '#' || !strncmp(line, "device ", 7)) {
            continue;
        } else if (ended) {
            wrong = "text behind the end";
        } else if (!strncmp(line, "key ", 4)) {
            if (key && strcmp(line + 4, key) != 0) {
                free(all);
                return qd_fail(QD_ERR_FILE, "it is of another device, driver or build; `qdot tune` makes a new one");
            }
            keyed = true;
        } else if (!strncmp(line, "end ", 4)) {
            snprintf(want_end, sizeof want_end, "end %d", n);
            ended = true;
            if (strcmp(line, want_end) != 0) wrong = "not the number of choices above it";
        } else {
            cl_choice *grown = n < CL_MOST_CHOICES ? qd_realloc(all, ((size_t)n + 1) * sizeof *grown) : NULL;
            if (!grown) {
                free(all);
                return n < CL_MOST_CHOICES ? QD_ERR_MEMORY : qd_fail(QD_ERR_FILE, "too many choices");
            }
            all = grown;
            wrong = keyed ? read_choice(line, &all[n++]) : "a choice before the line of the key";
        }
    }
    if (!wrong && !ended) {
        number++;
        wrong = "the end is missing: the file was cut short";
    }
    if (wrong) {
        free(all);
        return qd_fail(QD_ERR_FILE, "line %d: %s", number, wrong);
    }
    *out = all;
    *count = n;
    return QD_OK;
}

/* ---- Opening ------------------------------------------------------------------------------------------------ */

/* The device's own file, in the cache; "" where there is none. One for all builds: a new one takes the old one's place.
 */
static qd_status own_path(const cl_device_state *d, char *path, size_t capacity) {
    char name[65];
    const qd_status status = cl_device_key(d, false, name);
    if (status) return status;
    const int n = d->cache_dir[0] ? snprintf(path, capacity, "%s/tuning-%.16s.txt", d->cache_dir, name) : 0;
    if (n <= 0 || (size_t)n >= capacity) path[0] = 0;
    return QD_OK;
}

/* A file's bytes, to be freed, and one more. */
static qd_status read_text(const char *path, char **text, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) return qd_fail(QD_ERR_IO, "%s", strerror(errno));
    *text = qd_alloc(CL_TUNING_BYTES + 2);
    *size = *text ? fread(*text, 1, CL_TUNING_BYTES + 1, f) : 0;
    const bool failed = ferror(f) != 0;
    fclose(f);
    if (!*text) return QD_ERR_MEMORY;
    if (!failed) return QD_OK;
    free(*text);
    return qd_fail(QD_ERR_IO, "it cannot be read");
}

qd_status cl_tuning_open(cl_device_state *d) {
    const char *asked = d->options.tuning ? d->options.tuning : getenv("QDOT_TUNING");
    char key[65], *text = NULL;
    size_t size = 0;
    if (d->binary || (asked && !*asked)) return QD_OK;
    qd_status status = QD_OK;
    if (asked) {
        snprintf(d->tuning_path, sizeof d->tuning_path, "%s", asked);
    } else {
        status = own_path(d, d->tuning_path, sizeof d->tuning_path);
        if (status || access(d->tuning_path, F_OK) != 0) return status; /* not tuned */
    }
    status = read_text(d->tuning_path, &text, &size);
    if (!status) status = cl_device_key(d, true, key);
    if (!status) status = cl_tuning_parse(text, size, key, &d->choices, &d->n_choices);
    free(text);
    if (!status || status == QD_ERR_MEMORY) return status;
    snprintf(d->tuning_why, sizeof d->tuning_why, "%.250s", qd_last_message());
    if (d->options.log) {
        char line[900];
        snprintf(line, sizeof line, "the tuning file %s is not used: %s", d->tuning_path, d->tuning_why);
        d->options.log(d->options.log_user, line);
    }
    return QD_OK;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static const char *format_word(qd_format f) {
    return f == QD_FORMAT_COUNT ? "-" : qd_format_get(f)->name;
}

qd_status cl_tuning_write(void *device, const char *path) {
    cl_device_state *d = device;
    char own[640], key[65];
    qd_status status = cl_device_key(d, true, key);
    if (!status && !path) status = own_path(d, own, sizeof own);
    if (status) return status;
    const char *to = path ? path : own;
    if (!*to) return qd_fail(QD_ERR_IO, "there is no cache folder for the tuning file: name a file");
    const size_t capacity = 512 + (size_t)d->n_choices * CL_TUNING_LINE;
    char *text = qd_alloc(capacity);
    if (!text) return QD_ERR_MEMORY;
    size_t used = (size_t)snprintf(text, capacity, "%s\ndevice %s, driver %.64s\nkey %s\n", first_line, d->info.name,
                                   d->info.driver, key);
    for (int i = 0; i < d->n_choices; i++) {
        const cl_choice *c = &d->choices[i];
        used += (size_t)snprintf(text + used, capacity - used, "%s %s %s %lld %s %s %d%s%s\n",
                                 qd_op_get(c->of.op)->name, format_word(c->of.in0), format_word(c->of.in1),
                                 (long long)qd_tuning_least_rows(c->of.rows), c->of.large ? "large" : "small",
                                 d->variants[c->base].name, c->groups, c->options[0] ? " " : "", c->options);
    }
    used += (size_t)snprintf(text + used, capacity - used, "end %d\n", d->n_choices);
    const bool written = cl_file_replace(to, text, used, NULL, 0);
    free(text);
    return written ? QD_OK : qd_fail(QD_ERR_IO, "%s: could not be written (%s)", to, strerror(errno));
}

void cl_tuning_describe(void *device, qd_tuning_info *out) {
    const cl_device_state *d = device;
    snprintf(out->path, sizeof out->path, "%s", d->tuning_path);
    snprintf(out->why, sizeof out->why, "%s", d->tuning_why);
    out->classes = d->n_choices;
}
