#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- Options ------------------------------------------------------------------------------------------------ */

enum { MAX_OPTIONS = 40 };

static bool takes_value(const qd_cli_option *o) {
    return o->kind != QD_CLI_FLAG;
}

static void print_usage(const char *usage, const char *about, const qd_cli_option *options) {
    printf("usage: qdot %s\n\n%s\n\noptions:\n", usage, about);
    for (const qd_cli_option *o = options; o->kind != QD_CLI_END; o++) {
        if (o->kind == QD_CLI_OPERAND) continue;
        char left[64];
        snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                 o->letter ? "," : " ", o->name, takes_value(o) ? " " : "", takes_value(o) ? o->word : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("  %-26s %s\n", "-h, --help", "this text");
}

static bool parse_int(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno) return false;
    *out = v;
    return true;
}

static bool parse_real(const char *text, double *out) {
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v)) return false;
    *out = v;
    return true;
}

static bool parse_bytes(const char *text, uint64_t *out) {
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (end == text || errno || strchr(text, '-')) return false;
    int shift = 0;
    if (*end) {
        const char *unit = strchr(units, *end);
        if (!unit || end[1]) return false;
        shift = 10 * (int)(unit - units + 1);
    }
    if (v > UINT64_MAX >> shift) return false;
    *out = (uint64_t)v << shift;
    return true;
}

static bool in_range(const qd_cli_option *o, double v) {
    return (o->least == 0 && o->most == 0) || (v >= o->least && v <= o->most);
}

/* Stores one value; prints a message and returns false when it is none. */
static bool store(const char *command, const qd_cli_option *o, const char *text) {
    const char *what = NULL;
    switch (o->kind) {
        case QD_CLI_FLAG:
            *(bool *)o->value = true;
            return true;
        case QD_CLI_TEXT:
        case QD_CLI_OPERAND:
            *(const char **)o->value = text;
            return true;
        case QD_CLI_LIST: {
            qd_cli_list *list = o->value;
            if (list->count == QD_CLI_LIST_MOST) {
                qd_cli_fail("%s: --%s may be given %d times at most", command, o->name, QD_CLI_LIST_MOST);
                return false;
            }
            list->items[list->count++] = text;
            return true;
        }
        case QD_CLI_INT: {
            int64_t v;
            if (parse_int(text, &v) && in_range(o, (double)v)) {
                *(int64_t *)o->value = v;
                return true;
            }
            what = "a whole number";
            break;
        }
        case QD_CLI_REAL: {
            double v;
            if (parse_real(text, &v) && in_range(o, v)) {
                *(double *)o->value = v;
                return true;
            }
            what = "a number";
            break;
        }
        case QD_CLI_BYTES:
            if (parse_bytes(text, o->value)) return true;
            what = "a size such as 4096, 512M or 2G";
            break;
        case QD_CLI_END:
            break;
    }
    if (o->least == 0 && o->most == 0) {
        qd_cli_fail("%s: --%s needs %s, not '%s'", command, o->name, what, text);
    } else {
        qd_cli_fail("%s: --%s needs %s from %.15g to %.15g, not '%s'", command, o->name, what, o->least, o->most, text);
    }
    return false;
}

/* The words that are no options go to the OPERAND rows in order. */
static bool store_operands(char **argv, int first, int argc, const qd_cli_option *options) {
    const qd_cli_option *o = options;
    for (int i = first; i < argc; i++) {
        while (o->kind != QD_CLI_END && o->kind != QD_CLI_OPERAND)
            o++;
        if (o->kind == QD_CLI_END) {
            qd_cli_fail("%s: unexpected word '%s' (see: qdot help %s)", argv[0], argv[i], argv[0]);
            return false;
        }
        store(argv[0], o++, argv[i]);
    }
    return true;
}

bool qd_cli_parse(int argc, char **argv, const char *usage, const char *about, const qd_cli_option *options,
                  int *code) {
    struct option longs[MAX_OPTIONS + 2] = {{0}};
    char shorts[2 * MAX_OPTIONS + 3] = ":h"; /* the colon: a missing value is told apart */
    size_t n_long = 0, n_short = 2;
    /* getopt gives back 256 + row, or the letter. */
    for (int row = 0; options[row].kind != QD_CLI_END && row < MAX_OPTIONS; row++) {
        const qd_cli_option *o = &options[row];
        if (o->kind == QD_CLI_OPERAND) continue;
        longs[n_long++] = (struct option){o->name, takes_value(o) ? required_argument : no_argument, NULL, 256 + row};
        if (!o->letter) continue;
        shorts[n_short++] = o->letter;
        if (takes_value(o)) shorts[n_short++] = ':';
    }
    longs[n_long] = (struct option){"help", no_argument, NULL, 'h'};

    *code = QD_EXIT_FAILED;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (c == 'h') {
            print_usage(usage, about, options);
            *code = QD_EXIT_OK;
            return false;
        }
        if (c == ':' || c == '?') {
            const char *problem = c == ':' ? "the option '%s' of %s needs a value (see: qdot help %s)"
                                           : "unknown option '%s' of %s (see: qdot help %s)";
            const char letter[] = {'-', (char)optopt, 0};
            /* optopt is the letter, or for a long name 0 or its number: then the word itself is the last one read. */
            const bool is_letter = optopt > 0 && optopt < 256 && strncmp(argv[optind - 1], "--", 2) != 0;
            qd_cli_fail(problem, is_letter ? letter : argv[optind - 1], argv[0], argv[0]);
            return false;
        }
        const qd_cli_option *o = options;
        if (c >= 256) {
            o = &options[c - 256];
        } else {
            while (o->letter != c)
                o++;
        }
        if (!store(argv[0], o, optarg)) return false;
    }
    return store_operands(argv, optind, argc, options);
}

bool qd_cli_regex(const char *pattern, regex_t *out) {
    char why[128];
    const int code = regcomp(out, pattern, REG_EXTENDED | REG_NOSUB);
    if (!code) return true;
    regerror(code, out, why, sizeof why);
    qd_cli_fail("--tensors: '%.80s' is no regular expression: %s", pattern, why);
    return false;
}

bool qd_cli_token_list(const char *text, int32_t **tokens, size_t *count) {
    size_t n = 1;
    for (const char *p = text; *p; p++)
        n += *p == ',';
    int32_t *list = malloc(n * sizeof *list);
    if (!list) {
        qd_cli_fail("out of memory");
        return false;
    }
    const char *p = text;
    for (size_t i = 0; i < n; i++) {
        char *end;
        errno = 0;
        const long v = strtol(p, &end, 10);
        if (end == p || errno || v < 0 || v > INT32_MAX || *end != (i + 1 < n ? ',' : 0)) {
            qd_cli_fail("a list of tokens looks like 1,2,3; item %zu of '%.60s' does not", i + 1, text);
            free(list);
            return false;
        }
        list[i] = (int32_t)v;
        p = end + 1;
    }
    *tokens = list;
    *count = n;
    return true;
}

/* ---- Messages, files, time ---------------------------------------------------------------------------------- */

int qd_cli_fail(const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++) {
        if (*p == '\n' || *p == '\r') *p = ' ';
    }
    fflush(stdout);
    fprintf(stderr, "qdot: %s\n", text);
    return QD_EXIT_FAILED;
}

int qd_cli_failed(void) {
    return qd_cli_fail("%s", qd_last_message());
}

bool qd_cli_read(const char *path, char **text, size_t *size) {
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    char *bytes = NULL;
    size_t used = 0, room = 0;
    bool ok = f != NULL;
    while (ok) {
        if (room - used < 2) {
            room = room ? room * 2 : 65536;
            char *more = realloc(bytes, room);
            if (!more) errno = ENOMEM;
            ok = more != NULL;
            if (!ok) break;
            bytes = more;
        }
        const size_t got = fread(bytes + used, 1, room - used - 1, f);
        used += got;
        if (got == 0) {
            ok = !ferror(f);
            break;
        }
    }
    if (!ok) {
        qd_cli_fail("cannot read '%s': %s", path, strerror(errno));
        free(bytes);
    } else {
        bytes[used] = 0;
        *text = bytes;
        *size = used;
    }
    if (f && !is_stdin) fclose(f);
    return ok;
}

bool qd_cli_same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

double qd_cli_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *qd_cli_size(uint64_t bytes, char buffer[24]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(buffer, 24, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buffer;
}

size_t qd_cli_utf8_whole(const char *text, size_t size) {
    /* A lead byte among the last three that asks for more bytes than follow is cut off. */
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        const unsigned char c = (unsigned char)text[size - back];
        if ((c & 0xc0) == 0x80) continue;
        const size_t needs = c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xc0 && c < 0xe0 ? 2 : 1;
        return needs > back ? size - back : size;
    }
    return size;
}

/* ---- Progress and Ctrl-C ------------------------------------------------------------------------------------ */

void qd_cli_progress(const char *what, double done, double total) {
    static double last;
    enum { WIDTH = 30 };
    if (!isatty(STDERR_FILENO) || !(total > 0)) return;
    if (done >= total) {
        fprintf(stderr, "\r\033[K");
        return;
    }
    const double now = qd_cli_seconds();
    if (now - last < 0.05) return;
    last = now;
    const int filled = (int)(WIDTH * done / total);
    fprintf(stderr, "\r%s [%.*s%*s] %3.0f%%", what, filled, "##############################", WIDTH - filled, "",
            100 * done / total);
    fflush(stderr);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    interrupted = 1;
    signal(number, SIG_DFL);
}

void qd_cli_catch_interrupt(void) {
    /* Without SA_RESTART, so that reading from a terminal ends, too. */
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool qd_cli_stopped(void) {
    return interrupted != 0;
}

bool qd_cli_load_progress(void *unused, int done, int total) {
    (void)unused;
    qd_cli_progress("loading", done, total);
    return !interrupted;
}
