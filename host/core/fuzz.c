/* Random cases in great numbers, counted by what they try; one that differs is made as small as it can be: every number
 * it was made from is moved towards its simple end as long as the difference stays (as QuickCheck shrinks its inputs;
 * Claessen, Hughes 2000). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/verify.h"

/* ---- Combinations of operators and formats ------------------------------------------------------------------ */

typedef struct combination {
    qd_op op;
    int index; /* for qd_case_formats */
    qd_format formats[QD_MAX_IN + QD_MAX_OUT];
} combination;

static qd_status list_combinations(const char *op_name, const char *formats, combination **out, int *count) {
    combination *all = NULL;
    int n = 0;
    for (int op = 0; op < QD_OP_COUNT; op++) {
        if (op_name && strcmp(op_name, qd_op_get((qd_op)op)->name)) continue;
        combination next = {.op = (qd_op)op};
        for (; qd_case_formats(next.op, next.index, next.formats); next.index++) {
            char text[64];
            qd_formats_describe(next.formats, text, sizeof text);
            if (formats && strncmp(text, formats, strlen(formats))) continue;
            combination *grown = qd_realloc(all, (size_t)(n + 1) * sizeof *grown);
            if (!grown) {
                free(all);
                return QD_ERR_MEMORY;
            }
            all = grown;
            all[n++] = next;
        }
    }
    if (!n) {
        return qd_fail(QD_ERR_ARGUMENT, "there is no operator \"%.40s\"%s%.40s", op_name ? op_name : "",
                       formats ? " with formats that begin with " : "", formats ? formats : "");
    }
    *out = all;
    *count = n;
    return QD_OK;
}

/* ---- Coverage ----------------------------------------------------------------------------------------------- */

/* Numbers with at most so many values are counted one by one. */
enum { FEW = 16 };

static void describe_value(const qd_choice *c, int bucket, char *text, size_t capacity) {
    if (c->high - c->low < FEW) {
        snprintf(text, capacity, "%lld", (long long)(c->low + bucket));
        return;
    }
    static const char *const names[] = {"least", "greatest", "multiple of 16", "other"};
    snprintf(text, capacity, "%s", names[bucket]);
}

static int bucket_of(const qd_choice *c) {
    if (c->high - c->low < FEW) return (int)(c->value - c->low);
    return c->value == c->low ? 0 : c->value == c->high ? 1 : c->value % 16 == 0 ? 2 : 3;
}

static qd_coverage *find_count(qd_fuzz_result *r, const char *op, const char *choice, const char *value) {
    for (int i = r->n_coverage; i-- > 0;) {
        qd_coverage *x = &r->coverage[i];
        if (x->op == op && !strcmp(x->choice, choice) && !strcmp(x->value, value)) return x;
    }
    return NULL;
}

/* Counts one choice; its other values get a count of 0 when it is met for the first time. */
static qd_status count_choice(qd_fuzz_result *r, const char *op, const qd_choice *c) {
    char value[32];
    describe_value(c, bucket_of(c), value, sizeof value);
    qd_coverage *x = find_count(r, op, c->name, value);
    if (!x) {
        const int buckets = c->high - c->low < FEW ? (int)(c->high - c->low) + 1 : 4;
        qd_coverage *grown = qd_realloc(r->coverage, (size_t)(r->n_coverage + buckets) * sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        r->coverage = grown;
        for (int b = 0; b < buckets; b++) {
            describe_value(c, b, value, sizeof value);
            if (find_count(r, op, c->name, value)) continue; /* the range may depend on other choices */
            qd_coverage *y = &r->coverage[r->n_coverage++];
            *y = (qd_coverage){.op = op};
            snprintf(y->choice, sizeof y->choice, "%s", c->name);
            snprintf(y->value, sizeof y->value, "%s", value);
        }
        describe_value(c, bucket_of(c), value, sizeof value);
        x = find_count(r, op, c->name, value);
    }
    x->count++;
    return QD_OK;
}

static qd_status count_case(qd_fuzz_result *r, const combination *k, const qd_choices *c) {
    const char *op = qd_op_get(k->op)->name;
    qd_status status = QD_OK;
    char formats[32];
    qd_formats_describe(k->formats, formats, sizeof formats);
    qd_coverage *x = find_count(r, op, "formats", formats);
    if (!x) {
        x = qd_realloc(r->coverage, (size_t)(r->n_coverage + 1) * sizeof *x);
        if (!x) return QD_ERR_MEMORY;
        r->coverage = x;
        x += r->n_coverage++;
        *x = (qd_coverage){.op = op, .choice = "formats"};
        memcpy(x->value, formats, sizeof formats);
    }
    x->count++;
    for (int i = 0; i < c->n && !status; i++)
        status = count_choice(r, op, &c->made[i]);
    return status;
}

/* A choice that had few values in some cases and many in others is counted as one that has many. */
static void merge_few_and_many(qd_fuzz_result *r) {
    for (int i = 0; i < r->n_coverage; i++) {
        qd_coverage *x = &r->coverage[i];
        char *end;
        const long number = strtol(x->value, &end, 10);
        qd_coverage *many = *end ? NULL : find_count(r, x->op, x->choice, number % 16 ? "other" : "multiple of 16");
        if (!many) continue;
        many->count += x->count;
        x->op = NULL;
    }
    int kept = 0;
    for (int i = 0; i < r->n_coverage; i++) {
        if (r->coverage[i].op) r->coverage[kept++] = r->coverage[i];
    }
    r->n_coverage = kept;
}

static int by_op_and_choice(const void *a, const void *b) {
    const qd_coverage *x = a, *y = b;
    const int op = strcmp(x->op, y->op), choice = strcmp(x->choice, y->choice);
    if (op || choice) return op ? op : choice;
    const int numbers = (int)(strtol(x->value, NULL, 10) - strtol(y->value, NULL, 10));
    return numbers ? numbers : strcmp(x->value, y->value);
}

/* ---- Shrinking ---------------------------------------------------------------------------------------------- */

/* One run of a case with some numbers fixed. *made: the numbers it was made from. */
static qd_status try_case(qd_context *c, const combination *k, uint64_t seed, int size, const qd_choice fixed[], int n,
                          qd_choices *made, qd_fuzz_result *r, bool *different) {
    qd_case x;
    *different = false;
    qd_status status = qd_case_make(k->op, k->formats, seed, size, fixed, n, &x);
    if (status) return status;
    *made = x.choices;
    char first[sizeof r->first], variant[sizeof r->variant];
    status = qd_case_run(c, &x, variant, sizeof variant, different, first, sizeof first);
    if (!status && *different) {
        memcpy(r->first, first, sizeof first);
        memcpy(r->variant, variant, sizeof variant);
    }
    qd_case_free(&x);
    return status;
}

/* Number `turn` of the smaller values to try for a choice: all of them from the least on where they are few, else the
 * least, then half of the way to it, a quarter … False: no more. */
static bool smaller_value(const qd_choice *c, int turn, int64_t *value) {
    enum { ALL = 300 };
    const int64_t distance = c->value - c->low;
    if (distance <= ALL) {
        *value = c->low + turn;
        return *value < c->value;
    }
    const int64_t step = turn < 63 ? distance >> turn : 0;
    *value = c->value - step;
    return step > 0;
}

/* A case that is being made smaller. */
typedef struct shrinking {
    const qd_fuzz_options *options;
    int64_t done; /* cases, for progress */
    const combination *k;
    uint64_t seed;
    int size;
    bool stopped;
} shrinking;

/* Makes number i smaller as long as the case still differs. Cases that cannot be made are passed over. */
static bool shrink_choice(qd_context *c, shrinking *s, int i, qd_choices *best, qd_fuzz_result *r) {
    int64_t value;
    for (int turn = 0; !s->stopped && smaller_value(&best->made[i], turn, &value); turn++) {
        qd_choices next = *best, made;
        bool different;
        next.made[i].value = value;
        const qd_fuzz_options *o = s->options;
        s->stopped = turn % 16 == 15 && o->progress && !o->progress(o->user, s->done, o->cases);
        if (try_case(c, s->k, s->seed, s->size, next.made, next.n, &made, r, &different) || !different) continue;
        *best = made;
        return true;
    }
    return false;
}

static void shrink(qd_context *c, shrinking *s, qd_choices *best, qd_fuzz_result *r) {
    enum { MOST_ROUNDS = 200 };
    bool moved = true;
    for (int round = 0; moved && round < MOST_ROUNDS; round++) {
        moved = false;
        for (int i = 0; i < best->n && !moved; i++) /* the list of numbers may be another one after a move */
            moved = shrink_choice(c, s, i, best, r);
    }
}

static void print_repeat(const combination *k, uint64_t seed, int size, const qd_choices *fixed, char *text,
                         size_t capacity) {
    size_t n = (size_t)snprintf(text, capacity, "%s/%d/%llu/%d", qd_op_get(k->op)->name, k->index,
                                (unsigned long long)seed, size);
    for (int i = 0; i < fixed->n && n < capacity; i++) {
        n += (size_t)snprintf(text + n, capacity - n, "/%s=%lld", fixed->made[i].name, (long long)fixed->made[i].value);
    }
}

/* The numbers that the seed alone would not give, after which the case is the same. */
static void write_repeat(const combination *k, uint64_t seed, int size, const qd_choices *best, qd_fuzz_result *r) {
    qd_choices fixed = *best;
    for (int i = fixed.n; i-- > 0;) {
        qd_choices without = fixed;
        memmove(&without.made[i], &without.made[i + 1], (size_t)(without.n - i - 1) * sizeof *without.made);
        without.n--;
        qd_case x;
        if (qd_case_make(k->op, k->formats, seed, size, without.made, without.n, &x)) continue;
        bool same = x.choices.n == best->n;
        for (int j = 0; j < best->n && same; j++)
            same = x.choices.made[j].value == best->made[j].value;
        qd_case_free(&x);
        if (same) fixed = without;
    }
    print_repeat(k, seed, size, &fixed, r->repeat, sizeof r->repeat);
}

static void name_case(const combination *k, qd_fuzz_result *r) {
    snprintf(r->op, sizeof r->op, "%s", qd_op_get(k->op)->name);
    qd_formats_describe(k->formats, r->formats, sizeof r->formats);
}

/* ---- The two calls ------------------------------------------------------------------------------------------ */

qd_status qd_fuzz(qd_context *c, const qd_fuzz_options *o, qd_fuzz_result *out) {
    if (!c || !o || !out || o->cases < 1 || o->size < 0 || o->size > 10) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_fuzz: needs a context, at least one case, and a size of 0 … 10");
    }
    combination *all = NULL;
    int n;
    qd_fuzz_result r = {0};
    qd_status status;
    QD_TRY(list_combinations(o->op, o->formats, &all, &n));
    for (int64_t i = 0; i < o->cases && !r.different; i++) {
        const combination *k = &all[i % n];
        const int64_t turn = i / n;
        const uint64_t seed = o->seed + (uint64_t)i;
        /* One case in 16 is large, one in 128 larger than what kernels take at once. */
        const int size = o->size ? o->size : turn % 128 == 127 ? 10 : turn % 16 == 15 ? 4 : 1;
        qd_choices made;
        QD_TRY(try_case(c, k, seed, size, NULL, 0, &made, &r, &r.different));
        r.cases++;
        QD_TRY(count_case(&r, k, &made));
        if (r.different) {
            name_case(k, &r);
            shrinking s = {.options = o, .done = r.cases, .k = k, .seed = seed, .size = size};
            shrink(c, &s, &made, &r);
            write_repeat(k, seed, size, &made, &r);
        }
        if (o->progress && (i + 1) % 256 == 0 && !o->progress(o->user, i + 1, o->cases)) {
            status = qd_fail(QD_ERR_CANCELLED, "stopped on request after %lld cases", (long long)r.cases);
            break;
        }
    }
    merge_few_and_many(&r);
    if (r.n_coverage) qsort(r.coverage, (size_t)r.n_coverage, sizeof *r.coverage, by_op_and_choice);
    *out = r;
    free(all);
    return status;
error:
    free(all);
    free(r.coverage);
    return status;
}

/* Reads "op/combination/seed/size/name=value/…". What is not understood shows when it is printed again. */
static bool read_repeat(const char *text, char op[24], int *index, uint64_t *seed, int *size, qd_choices *fixed) {
    unsigned long long s;
    int at = 0;
    if (sscanf(text, "%23[^/]/%9d/%20llu/%9d%n", op, index, &s, size, &at) != 4) return false;
    *seed = s;
    for (const char *p = text + at; *p == '/' && fixed->n < QD_MAX_CHOICES; p += at) {
        qd_choice *c = &fixed->made[fixed->n];
        long long value;
        if (sscanf(p, "/%23[^=]=%20lld%n", c->name, &value, &at) != 2) return false;
        c->value = value;
        fixed->n++;
    }
    return *index >= 0 && *size >= 1 && *size <= 10;
}

/* Names and values that the case does not have would be passed over: another version made the text, or a slip. */
static qd_status check_fixed(const qd_choices *fixed, const qd_choices *made) {
    for (int i = 0; i < fixed->n; i++) {
        const qd_choice *f = &fixed->made[i];
        int j = 0;
        while (j < made->n && (strcmp(f->name, made->made[j].name) || f->value != made->made[j].value))
            j++;
        if (j < made->n) continue;
        return qd_fail(QD_ERR_ARGUMENT, "the case has no number \"%s\" that can be %lld; did another version print it?",
                       f->name, (long long)f->value);
    }
    return QD_OK;
}

qd_status qd_fuzz_repeat(qd_context *c, const char *text, qd_fuzz_result *out) {
    if (!c || !text || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_fuzz_repeat: no argument may be NULL");
    char op[24];
    int index, size, n = 0;
    uint64_t seed;
    qd_choices fixed = {0}, made;
    combination *all = NULL;
    qd_fuzz_result r = {0};
    qd_status status;
    if (!read_repeat(text, op, &index, &seed, &size, &fixed)) {
        return qd_fail(QD_ERR_ARGUMENT, "\"%.60s\" describes no case: OPERATOR/FORMATS/SEED/SIZE[/NAME=VALUE…]", text);
    }
    QD_TRY(list_combinations(op, NULL, &all, &n));
    if (index >= n) {
        status = qd_fail(QD_ERR_ARGUMENT, "%s has %d combinations of formats; there is no number %d", op, n, index);
        goto error;
    }
    name_case(&all[index], &r);
    print_repeat(&all[index], seed, size, &fixed, r.repeat, sizeof r.repeat);
    if (strcmp(r.repeat, text)) {
        status = qd_fail(QD_ERR_ARGUMENT, "\"%.60s\" describes no case; the nearest that does is \"%.200s\"", text,
                         r.repeat);
        goto error;
    }
    QD_TRY(try_case(c, &all[index], seed, size, fixed.made, fixed.n, &made, &r, &r.different));
    r.cases = 1;
    QD_TRY(check_fixed(&fixed, &made));
    *out = r;
error:
    free(all);
    return status;
}

void qd_fuzz_result_free(qd_fuzz_result *r) {
    if (!r) return;
    free(r->coverage);
    r->coverage = NULL;
    r->n_coverage = 0;
}
