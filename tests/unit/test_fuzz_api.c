/* qd_fuzz and qd_fuzz_repeat: what they count, what they try, and that a difference is found, made small and repeated.
 * The coverage table of the random problems is here, too: what their numbers can be, they are. */
#include <unistd.h>

#include "cli/verify.h"
#include "core/context.h"
#include "core/verify.h"
#include "unit/devices.h"

/* Cases of each operator. The sanitizers, which take four times as long, only look at how they are run. */
#ifdef __SANITIZE_ADDRESS__
enum { ENOUGH = 2000, CASES = 120 };
#else
enum { ENOUGH = 2000, CASES = ENOUGH };
#endif

static qd_context *open_ref(void) {
    qd_context *c;
    ck_ok(qd_context_create("ref", NULL, &c));
    return c;
}

/* A result that no call has touched. */
static qd_fuzz_result untouched(void) {
    qd_fuzz_result r;
    memset(&r, 0x5a, sizeof r);
    return r;
}
static void ck_untouched(const qd_fuzz_result *r) {
    const qd_fuzz_result want = untouched();
    ck_assert_mem_eq(r, &want, sizeof want);
}

static int count_combinations(qd_op op) {
    qd_format formats[QD_MAX_IN + QD_MAX_OUT];
    int n = 0;
    while (qd_case_formats(op, n, formats))
        n++;
    return n;
}

/* ---- Coverage ----------------------------------------------------------------------------------------------- */

/* One choice of one operator: consecutive rows of the table. */
typedef struct group {
    int rows;
    int64_t cases;
    bool many; /* values that are counted in kinds */
} group;

static bool is_kind(const char *value) {
    static const char *const kinds[] = {"least", "greatest", "multiple of 16", "other"};
    for (int i = 0; i < 4; i++) {
        if (!strcmp(value, kinds[i])) return true;
    }
    return false;
}

static group read_group(const qd_fuzz_result *r, int at) {
    const qd_coverage *first = &r->coverage[at];
    group g = {0};
    for (int i = at; i < r->n_coverage; i++, g.rows++) {
        const qd_coverage *x = &r->coverage[i];
        if (strcmp(x->op, first->op) || strcmp(x->choice, first->choice)) break;
        g.cases += x->count;
        g.many |= is_kind(x->value);
    }
    return g;
}

/* A choice with few values: each number from the least to the greatest, and each was tried. */
static void ck_numbers(const qd_coverage *x, int rows) {
    for (int i = 0; i < rows; i++) {
        char *end;
        const long number = strtol(x[i].value, &end, 10);
        ck_assert_msg(*x[i].value && !*end, "%s, %s: \"%s\" is no number", x->op, x->choice, x[i].value);
        ck_assert_msg(number == strtol(x->value, NULL, 10) + i, "%s, %s: %s is out of order", x->op, x->choice,
                      x[i].value);
        ck_assert_msg(x[i].count > 0 || CASES < ENOUGH, "%s: \"%s\" is never %s", x->op, x->choice, x[i].value);
    }
}

/* The ends of a wide range are drawn too seldom to ask for: where they matter, a choice of its own asks for them. */
static void ck_kinds(const qd_coverage *x, int rows) {
    ck_assert_msg(rows == 4, "%s, %s: numbers beside kinds of numbers", x->op, x->choice);
    for (int i = 0; i < rows; i++) {
        const bool end = !strcmp(x[i].value, "least") || !strcmp(x[i].value, "greatest");
        ck_assert_msg(is_kind(x[i].value), "%s, %s: \"%s\"", x->op, x->choice, x[i].value);
        ck_assert_msg(x[i].count > 0 || end || CASES < ENOUGH, "%s: \"%s\" is never \"%s\"", x->op, x->choice,
                      x[i].value);
    }
}

/* Whatever an operator's problems can be made from, they are made from in ENOUGH of them. With the smallest
 * sizes, where the numbers that make up shapes have few values, too. */
START_TEST(test_coverage) {
    qd_context *c = open_ref();
    const char *op = qd_op_get((qd_op)_i)->name;
    const int combinations = count_combinations((qd_op)_i);
    const qd_fuzz_options o = {.seed = 1, .cases = CASES, .op = op, .size = 1};
    qd_fuzz_result r = untouched();
    ck_ok(qd_fuzz(c, &o, &r));
    ck_assert_int_eq(r.cases, CASES);
    ck_assert_msg(!r.different, "%s: %s", op, r.first);
    ck_assert(!*r.op && !*r.formats && !*r.variant && !*r.first && !*r.repeat);
    int choices = 0, rows;
    for (int at = 0; at < r.n_coverage; at += rows, choices++) {
        const group g = read_group(&r, at);
        const qd_coverage *x = &r.coverage[at];
        rows = g.rows;
        ck_assert_str_eq(x->op, op);
        ck_assert_msg(at == 0 || strcmp(x[-1].choice, x->choice) < 0, "%s, %s: not in order", op, x->choice);
        ck_assert_msg(g.cases > 0 && g.cases <= CASES, "%s, %s: %lld cases", op, x->choice, (long long)g.cases);
        if (!strcmp(x->choice, "formats")) {
            ck_assert_msg(g.cases == CASES && rows == combinations, "%s: %d formats, %lld cases", op, rows,
                          (long long)g.cases);
            for (int i = 0; i < rows; i++)
                ck_assert(x[i].count >= CASES / combinations && x[i].count <= CASES / combinations + 1);
        } else if (g.many) {
            ck_kinds(x, rows);
        } else {
            ck_numbers(x, rows);
        }
    }
    ck_assert_int_gt(choices, 2);
    qd_fuzz_result_free(&r);
    qd_context_free(c);
}
END_TEST

/* Without a word for the operator, all of them get cases, each combination of formats as many. */
START_TEST(test_all_operators) {
    enum { EACH = 2 };
    qd_context *c = open_ref();
    int combinations = 0, seen = 0, rows;
    for (int op = 0; op < QD_OP_COUNT; op++)
        combinations += count_combinations((qd_op)op);
    const qd_fuzz_options o = {.seed = 3, .cases = EACH * combinations};
    qd_fuzz_result r;
    ck_ok(qd_fuzz(c, &o, &r));
    ck_assert_int_eq(r.cases, o.cases);
    const char *last = "";
    int operators = 0;
    for (int at = 0; at < r.n_coverage; at += rows) {
        const qd_coverage *x = &r.coverage[at];
        rows = read_group(&r, at).rows;
        ck_assert_int_le(strcmp(last, x->op), 0);
        operators += strcmp(last, x->op) != 0;
        last = x->op;
        for (int i = 0; i < rows && !strcmp(x->choice, "formats"); i++, seen++)
            ck_assert_int_eq(x[i].count, EACH);
    }
    ck_assert_int_eq(operators, QD_OP_COUNT);
    ck_assert_int_eq(seen, combinations);
    qd_fuzz_result_free(&r);
    qd_context_free(c);
}
END_TEST

/* ---- The call ----------------------------------------------------------------------------------------------- */

START_TEST(test_same_seed) {
    qd_context *c = open_ref();
    qd_fuzz_result r[3];
    for (int i = 0; i < 3; i++) {
        const qd_fuzz_options o = {.seed = i < 2 ? 7 : 8000, .cases = 300, .op = "pad"};
        ck_ok(qd_fuzz(c, &o, &r[i]));
    }
    bool same = r[0].n_coverage == r[1].n_coverage, other = r[0].n_coverage != r[2].n_coverage;
    for (int i = 0; same && i < r[0].n_coverage; i++) {
        same =
            r[0].coverage[i].count == r[1].coverage[i].count && !strcmp(r[0].coverage[i].value, r[1].coverage[i].value);
        other = other || r[0].coverage[i].count != r[2].coverage[i].count;
    }
    ck_assert(same);
    ck_assert(other);
    for (int i = 0; i < 3; i++)
        qd_fuzz_result_free(&r[i]);
    qd_context_free(c);
}
END_TEST

typedef struct watch {
    int calls, stop_at;
    int64_t done, total;
} watch;

static bool watch_progress(void *user, int64_t done, int64_t total) {
    watch *w = user;
    ck_assert_int_gt(done, w->done);
    ck_assert_int_le(done, total);
    w->done = done;
    w->total = total;
    return ++w->calls != w->stop_at;
}

static int64_t count_of(const qd_fuzz_result *r, const char *choice) {
    int64_t n = 0;
    for (int i = 0; i < r->n_coverage; i++)
        n += strcmp(r->coverage[i].choice, choice) ? 0 : r->coverage[i].count;
    return n;
}

START_TEST(test_progress_and_cancel) {
    qd_context *c = open_ref();
    for (int stop = 0; stop < 4; stop++) {
        watch w = {.stop_at = stop};
        const qd_fuzz_options o = {.cases = 1000, .op = "table", .progress = watch_progress, .user = &w};
        qd_fuzz_result r = untouched();
        if (!stop) {
            ck_ok(qd_fuzz(c, &o, &r));
            ck_assert_int_eq(r.cases, 1000);
            ck_assert_int_ge(w.calls, 3);
        } else {
            ck_fails(qd_fuzz(c, &o, &r), QD_ERR_CANCELLED, "stopped on request");
            ck_assert_int_eq(w.calls, stop);
            ck_assert_int_eq(r.cases, w.done);
            ck_assert_int_lt(r.cases, 1000);
        }
        ck_assert_int_eq(w.total, 1000);
        ck_assert(!r.different && !*r.repeat);
        static const char *const always[] = {"formats", "rank", "d0"}; /* d0 has few values, or many as the last one */
        for (int k = 0; k < 3; k++)
            ck_assert_int_eq(count_of(&r, always[k]), r.cases);
        qd_fuzz_result_free(&r);
        ck_assert_ptr_null(r.coverage);
        ck_assert_int_eq(r.n_coverage, 0);
        qd_fuzz_result_free(&r);
    }
    qd_fuzz_result_free(NULL);
    qd_context_free(c);
}
END_TEST

START_TEST(test_arguments) {
    qd_context *c = open_ref();
    const qd_fuzz_options good = {.cases = 1};
    static const qd_fuzz_options bad[] = {
        {.cases = 0}, {.cases = -1}, {.cases = 1, .size = -1}, {.cases = 1, .size = 11}};
    qd_fuzz_result r = untouched();
    ck_fails(qd_fuzz(NULL, &good, &r), QD_ERR_ARGUMENT, "qd_fuzz");
    ck_fails(qd_fuzz(c, NULL, &r), QD_ERR_ARGUMENT, "qd_fuzz");
    ck_fails(qd_fuzz(c, &good, NULL), QD_ERR_ARGUMENT, "qd_fuzz");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_fails(qd_fuzz(c, &bad[i], &r), QD_ERR_ARGUMENT, "at least one case");
    static const char *const none[] = {"", "ad", "ADD", "add ", "formats"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        const qd_fuzz_options o = {.cases = 1, .op = none[i]};
        ck_fails(qd_fuzz(c, &o, &r), QD_ERR_ARGUMENT, "no operator");
    }
    ck_fails(qd_fuzz_repeat(NULL, "add/0/1/1", &r), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_fuzz_repeat(c, NULL, &r), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_fuzz_repeat(c, "add/0/1/1", NULL), QD_ERR_ARGUMENT, "NULL");
    ck_untouched(&r);
    qd_context_free(c);
}
END_TEST

/* Each allocation fails in turn: a message, nothing written, nothing lost. */
START_TEST(test_memory) {
    qd_context *c = open_ref();
    for (int repeat = 0; repeat < 2; repeat++) {
        const qd_fuzz_options o = {.cases = 40, .op = "get_rows"};
        qd_status status = QD_ERR_MEMORY;
        long n = 0;
        for (; status; n++) {
            qd_fuzz_result r = untouched();
            qd_alloc_fail_after(n);
            status = repeat ? qd_fuzz_repeat(c, "get_rows/3/5/1", &r) : qd_fuzz(c, &o, &r);
            qd_alloc_fail_after(-1);
            if (!status) {
                qd_fuzz_result_free(&r);
                continue;
            }
            ck_assert_int_eq(status, QD_ERR_MEMORY);
            ck_untouched(&r);
        }
        ck_assert_int_gt(n, repeat ? 5 : 100);
    }
    qd_context_free(c);
}
END_TEST

/* ---- Texts of cases ----------------------------------------------------------------------------------------- */

/* Every number of a case fits into a text, which then stands for the case. */
START_TEST(test_texts) {
    qd_context *c = open_ref();
    const qd_op op = (qd_op)_i;
    qd_format formats[QD_MAX_IN + QD_MAX_OUT];
    for (int k = 0; qd_case_formats(op, k, formats); k++) {
        qd_case x;
        qd_fuzz_result r;
        char text[4096];
        const uint64_t seed = (uint64_t)k * 1000000007u + 5;
        ck_ok(qd_case_make(op, formats, seed, 4, NULL, 0, &x));
        size_t n =
            (size_t)snprintf(text, sizeof text, "%s/%d/%llu/4", qd_op_get(op)->name, k, (unsigned long long)seed);
        for (int pass = 0; pass < 2; pass++) { /* as the seed says; then the last number is another one */
            for (int i = 0; i < x.choices.n && !pass; i++)
                n += (size_t)snprintf(text + n, sizeof text - n, "/%s=%lld", x.choices.made[i].name,
                                      (long long)x.choices.made[i].value);
            ck_assert_msg(n < sizeof r.repeat, "%s: %zu characters", qd_op_get(op)->name, n);
            ck_assert_msg(qd_fuzz_repeat(c, text, &r) == QD_OK, "%s: %s", text, qd_last_message());
            ck_assert(r.cases == 1 && !r.different && !*r.first);
            ck_assert_str_eq(r.op, qd_op_get(op)->name);
            ck_assert_str_eq(r.repeat, text);
            ck_assert_int_eq(r.n_coverage, 0);
            char described[64];
            qd_formats_describe(formats, described, sizeof described);
            ck_assert_str_eq(r.formats, described);
            qd_fuzz_result_free(&r);
            snprintf(text, sizeof text, "%s/%d/%llu/4/%s=%lld", qd_op_get(op)->name, k, (unsigned long long)seed + 1,
                     x.choices.made[0].name, (long long)x.choices.made[0].low);
            n = strlen(text);
        }
        qd_case_free(&x);
    }
    qd_context_free(c);
}
END_TEST

START_TEST(test_bad_texts) {
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "describes no case"},
        {"add", "describes no case"},
        {"add/0/1", "describes no case"},
        {"add/0/1/", "describes no case"},
        {"add/x/1/1", "describes no case"},
        {"add/-1/1/1", "describes no case"},
        {"add/0/1/0", "describes no case"},
        {"add/0/1/11", "describes no case"},
        {"add/0/1/1/", "describes no case"},
        {"add/0/1/1/R", "describes no case"},
        {"add/0/1/1/R=", "describes no case"},
        {"add/0/1/1/R=x", "describes no case"},
        {"add/0/1/1/=2", "describes no case"},
        {"add/0/1/1 ", "describes no case"},
        {" add/0/1/1", "no operator"},
        {"add/0/ 1/1", "describes no case"},
        {"add/00/1/1", "describes no case"},
        {"add/0/-1/1", "describes no case"},
        {"add/0/1/1x", "describes no case"},
        {"add/0/1/1/R=2x", "describes no case"},
        {"add/0/1/1/R=2/", "describes no case"},
        {"add/0/1/1/R=+2", "describes no case"},
        {"add/0/1/1\n", "describes no case"},
        {"add/0/18446744073709551616/1", "describes no case"},
        {"add/4294967296/1/1", "describes no case"},
        {"add/0/1/4294967297", "describes no case"},
        {"add/0/1/1/R=9223372036854775808", "describes no case"},
        {"add/1/1/1", "combinations"},
        {"subtract/0/1/1", "no operator"},
        {"a name that is longer than that of any operator/0/1/1", "describes no case"},
        {"add/0/1/1/Q=2", "no number"},
        {"add/0/1/1/R=0", "no number"},
        {"add/0/1/1/R=100000", "no number"},
        {"add/0/1/1/R=1/R=2", "no number"},
        {"add/0/1/1/a name of many characters=2", "describes no case"},
    };
    qd_context *c = open_ref();
    qd_fuzz_result r = untouched();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_fails(qd_fuzz_repeat(c, bad[i].text, &r), QD_ERR_ARGUMENT, bad[i].says);
        ck_assert_ptr_null(strchr(qd_last_message(), '\n'));
    }
    /* More numbers than a case has. */
    char text[8192];
    size_t n = (size_t)snprintf(text, sizeof text, "add/0/1/1");
    for (int i = 0; i < 3 * QD_MAX_CHOICES; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "/number %d=1", i);
    ck_fails(qd_fuzz_repeat(c, text, &r), QD_ERR_ARGUMENT, "describes no case");
    ck_untouched(&r);
    qd_context_free(c);
}
END_TEST

/* One character is missing, or another one: refused, or the text of the case that ran. */
START_TEST(test_damaged_texts) {
    static const char good[] = "add/0/12/1/R=3/C=20", others[] = "/=0-9aZ \x80%";
    qd_context *c = open_ref();
    int refused = 0, ran = 0;
    for (size_t at = 0; at < sizeof good - 1; at++) {
        for (size_t k = 0; k < sizeof others; k++) {
            char text[sizeof good];
            memcpy(text, good, sizeof good);
            if (others[k]) {
                text[at] = others[k];
            } else {
                memmove(text + at, text + at + 1, sizeof good - at - 1);
            }
            qd_fuzz_result r = untouched();
            const qd_status status = qd_fuzz_repeat(c, text, &r);
            ck_assert_msg(status == QD_OK || status == QD_ERR_ARGUMENT, "%s: %s", text, qd_last_message());
            if (status) {
                ck_untouched(&r);
                refused++;
            } else {
                ck_assert_str_eq(r.repeat, text);
                ran++;
            }
        }
    }
    ck_assert_int_gt(ran, 5);
    ck_assert_int_gt(refused, 100);
    qd_context_free(c);
}
END_TEST

/* ---- Differences -------------------------------------------------------------------------------------------- */

/* The reference with a fault: the last byte of the first result is wrong in some cases. */
static bool (*fault)(const qd_node *n);

static qd_status faulty_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    qd_status status = QD_OK;
    const qd_tensor *y = n->out[0];
    QD_TRY(qd_backend_ref.enqueue(device, n, rows, wait, n_wait));
    if (!fault(n)) return QD_OK;
    unsigned char last;
    int64_t y_rows = 1;
    for (int i = 0; i + 1 < y->desc.rank; i++)
        y_rows *= y->desc.shape[i];
    const size_t at =
        y->offset + (size_t)(y_rows - 1) * y->stride + qd_format_row_bytes(y->desc.format, qd_columns(y)) - 1;
    QD_TRY(qd_backend_ref.read(device, y->buffer, at, &last, 1));
    last ^= 0x80;
    QD_TRY(qd_backend_ref.write(device, y->buffer, at, &last, 1));
error:
    return status;
}

static bool wide_rows(const qd_node *n) {
    const qd_tensor_desc *d = &n->in[0]->desc;
    return d->rank == 2 && d->shape[0] >= 2 && d->shape[1] >= 21;
}
static bool very_wide_rows(const qd_node *n) {
    return qd_columns(n->in[0]) > 300;
}
static bool deep(const qd_node *n) {
    const qd_matmul_int_params *p = &n->params.matmul_int;
    return p->k >= 17 && p->count >= 3 && p->bias != QD_ABSENT && p->y.mode == (qd_i32)QD_ROUND_FLOAT;
}
static bool dilated(const qd_node *n) {
    const qd_window_params *w = &n->params.pool.window;
    return w->dilation_w > 1 && w->kernel_w > 1 && w->stride_w > 1;
}
static bool always(const qd_node *n) {
    (void)n;
    return true;
}

/* What the smallest case must show. The reference itself is right: `variant` is its own. */
static const struct difference {
    const char *op;
    int size;
    bool (*fault)(const qd_node *n);
    const char *shapes; /* in the text of the difference */
} differences[] = {
    {"table", 0, wide_rows, "x[2,21] table[256] y[2,21]"}, {"table", 10, very_wide_rows, "x[301] table[256] y[301]"},
    {"matmul_int", 0, deep, "w[1,3,17] x[1,1,17]"},        {"pool", 0, dilated, "y["},
    {"table", 0, always, "x[1] table[256] y[1]"},          {"softmax_int", 4, always, "x[1] y[1]"},
};

START_TEST(test_difference) {
    const struct difference *d = &differences[_i];
    qd_context *c = open_ref();
    const qd_backend *right = c->backend;
    qd_backend wrong = *right;
    wrong.enqueue = faulty_enqueue;
    fault = d->fault;
    c->backend = &wrong;
    const qd_fuzz_options o = {.seed = 11, .cases = 20000, .op = d->op, .size = d->size};
    qd_fuzz_result r, again;
    ck_ok(qd_fuzz(c, &o, &r));
    ck_assert_msg(r.different && r.cases < o.cases, "%s: not found", d->op);
    ck_assert_str_eq(r.op, d->op);
    ck_assert_str_eq(r.variant, "reference");
    ck_assert(*r.formats && strstr(r.first, "output 0") && strstr(r.first, "where the reference has"));
    ck_assert_msg(strstr(r.first, d->shapes) != NULL, "%s: not the smallest: %s", r.repeat, r.first);
    ck_assert_int_eq(count_of(&r, "formats"), r.cases); /* without the attempts to make it smaller */
    ck_ok(qd_fuzz_repeat(c, r.repeat, &again));
    ck_assert_msg(again.different, "\"%s\" shows no difference", r.repeat);
    ck_assert_str_eq(again.first, r.first);
    ck_assert_str_eq(again.op, r.op);
    ck_assert_str_eq(again.formats, r.formats);
    ck_assert_str_eq(again.variant, r.variant);
    qd_fuzz_result_free(&again);
    /* Not a property of the text: the right device passes. */
    c->backend = right;
    ck_ok(qd_fuzz_repeat(c, r.repeat, &again));
    ck_assert(!again.different && !*again.first);
    qd_fuzz_result_free(&again);
    qd_fuzz_result_free(&r);
    qd_context_free(c);
}
END_TEST

/* What `qdot verify --fuzz` tells about it, and its exit code. */
START_TEST(test_report) {
    qd_context *c = open_ref();
    const qd_backend *right = c->backend;
    qd_backend wrong = *right;
    wrong.enqueue = faulty_enqueue;
    fault = always;
    c->backend = &wrong;
    const qd_cli_fuzz f = {.cases = 100, .op = "table", .seed = 4};
    cJSON *json = cJSON_CreateObject();
    ck_assert_int_eq(qd_cli_fuzz_device(c, &f, json), QD_EXIT_DIFFERENT);
    ck_assert_int_eq(cJSON_GetObjectItem(json, "cases")->valueint, 1);
    ck_assert_int_eq(cJSON_GetObjectItem(json, "different")->valueint, 1);
    static const char *const texts[][2] = {{"op", "table"},
                                           {"formats", "i8 i8 -> i8"},
                                           {"variant", "reference"},
                                           {"first", "x[1] table[256] y[1]"},
                                           {"repeat", "table/0/4/1"}};
    for (int i = 0; i < 5; i++) {
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(json, texts[i][0]));
        ck_assert_msg(text && strstr(text, texts[i][1]), "%s: %s", texts[i][0], text ? text : "is missing");
    }
    /* The same in words: the command that is printed is the one that shows it again. */
    char *repeat = strdup(cJSON_GetStringValue(cJSON_GetObjectItem(json, "repeat"))), line[2048], want[1200];
    ck_assert_ptr_nonnull(repeat);
    cJSON_Delete(json);
    snprintf(want, sizeof want, "qdot verify --device \"ref\" --case \"%s\"\n", repeat);
    FILE *out = tmpfile();
    ck_assert_ptr_nonnull(out);
    fflush(stdout);
    const int saved = dup(STDOUT_FILENO);
    ck_assert(saved >= 0 && dup2(fileno(out), STDOUT_FILENO) >= 0);
    const int code = qd_cli_fuzz_device(c, &f, NULL);
    fflush(stdout);
    ck_assert_int_ge(dup2(saved, STDOUT_FILENO), 0);
    close(saved);
    ck_assert_int_eq(code, QD_EXIT_DIFFERENT);
    rewind(out);
    int found = 0;
    while (fgets(line, sizeof line, out))
        found += strstr(line, want) != NULL;
    ck_assert_int_eq(found, 1);
    fclose(out);
    const qd_cli_fuzz again = {.repeat = repeat};
    json = cJSON_CreateObject();
    ck_assert_int_eq(qd_cli_fuzz_device(c, &again, json), QD_EXIT_DIFFERENT);
    cJSON_Delete(json);
    c->backend = right;
    json = cJSON_CreateObject();
    ck_assert_int_eq(qd_cli_fuzz_device(c, &again, json), QD_EXIT_OK);
    cJSON_Delete(json);
    free(repeat);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("fuzz");
    tcase_add_loop_test(tc, test_coverage, 0, QD_OP_COUNT);
    tcase_add_test(tc, test_all_operators);
    tcase_add_test(tc, test_same_seed);
    tcase_add_test(tc, test_progress_and_cancel);
    tcase_add_test(tc, test_arguments);
    tcase_add_test(tc, test_memory);
    tcase_add_loop_test(tc, test_texts, 0, QD_OP_COUNT);
    tcase_add_test(tc, test_bad_texts);
    tcase_add_test(tc, test_damaged_texts);
    tcase_add_loop_test(tc, test_difference, 0, (int)(sizeof differences / sizeof differences[0]));
    tcase_add_test(tc, test_report);
    return run_tests(tc, "fuzz");
}
