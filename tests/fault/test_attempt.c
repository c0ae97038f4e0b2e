/* Processes that end while a kernel is compiled or proven: a mark in the cache tells the next ones. And a cache that
 * another driver has filled. Every process here is forked before OpenCL is initialised in it. */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fault/cache_folder.h"

enum { DIED = 5 };

/* ---- Processes ---------------------------------------------------------------------------------------------- */

static pid_t start(int (*body)(void *), void *user) {
    fflush(stdout);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (!child) _exit(body(user));
    return child;
}

/* Its exit status, or 100 and the signal that ended it. */
static int wait_for(pid_t child) {
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int in_child(int (*body)(void *), void *user) {
    return wait_for(start(body, user));
}

static int probe_opencl(void *user) {
    (void)user;
    return have_opencl() ? 0 : 1;
}

static bool opencl_here(void) {
    return in_child(probe_opencl, NULL) == 0;
}

/* ---- Using a kernel ----------------------------------------------------------------------------------------- */

/* y = x + x, and what must be seen of it. */
typedef struct use {
    const char *variant;
    int built;         /* kernels */
    const char *says;  /* must be in the log, or NULL */
    const char *cache; /* NULL: the test's */
    qd_op op;          /* ADD (the zero of this struct stands for it) or RMS_NORM */
} use;

static int count(const char *text, const char *word) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)) != NULL; p++)
        n++;
    return n;
}

/* 0 when all is as it must be. Without Check's macros: children and threads call it. */
static int run_use(void *user) {
    const use *u = user;
    enum { ROWS = 3, COLS = 40 };
    const bool norm = u->op == QD_OP_RMS_NORM;
    log_text log = {.used = 0};
    const qd_context_options o = {.cache_dir = u->cache ? u->cache : cache, .log = collect_log, .log_user = &log};
    const qd_attrs attrs = {.rms_norm = {.epsilon = 1e-5f}};
    float x[ROWS * COLS], got[ROWS * COLS] = {0};
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = (float)(i - 50);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, ROWS, COLS, 0, 0), line = qd_desc(QD_FORMAT_F32, COLS, 0, 0, 0);
    qd_context *c = NULL;
    qd_tensor *a = NULL, *b = NULL, *y = NULL;
    qd_plan *p = NULL;
    bool right = true;
    char variant[48] = "";
    qd_status status = qd_context_create("opencl", &o, &c);
    if (!status) status = qd_tensor_create(c, &d, &a);
    if (!status) status = qd_tensor_create(c, norm ? &line : &d, &b);
    if (!status) status = qd_tensor_create(c, &d, &y);
    if (!status) status = qd_tensor_write(a, 0, x, sizeof x);
    if (!status) status = qd_tensor_write(b, 0, x, norm ? COLS * sizeof *x : sizeof x);
    if (!status) {
        status = qd_plan_create(c, norm ? QD_OP_RMS_NORM : QD_OP_ADD, &attrs, (qd_tensor *[]){a, b}, 2, &y, 1, &p);
    }
    if (!status) status = qd_plan_run(p);
    if (!status) status = qd_tensor_read(y, 0, got, sizeof got);
    if (!status) snprintf(variant, sizeof variant, "%s", qd_plan_variant(p));
    for (int i = 0; !norm && i < ROWS * COLS; i++)
        right = right && got[i] == 2 * x[i];
    qd_plan_free(p);
    qd_tensor_free(a);
    qd_tensor_free(b);
    qd_tensor_free(y);
    qd_context_free(c);
    const int built = count(log.text, "building and proving");
    if (!status && right && !strcmp(variant, u->variant) && built == u->built &&
        (!u->says || strstr(log.text, u->says)))
        return 0;
    fprintf(stderr, "%s (%s); ran %s, %d built, values %s; log:\n%s", qd_status_name(status), qd_last_message(),
            variant, built, right ? "right" : "wrong", log.text);
    return 1;
}

static void ck_use(use u, const char *when) {
    ck_assert_msg(in_child(run_use, &u) == 0, "%s: see above", when);
}

#define FINE(n) ((use){.variant = "add_f32", .built = (n)})
#define REFUSED ((use){.variant = "reference", .says = "2 programs ended while it was compiled or proven"})

/* ---- Dying -------------------------------------------------------------------------------------------------- */

static void end_here(void *user) {
    if (user) raise(*(int *)user);
    _exit(DIED);
}

typedef struct death {
    cl_function fn;
    int signal; /* 0: _exit */
    const char *cache;
} death;

static int run_death(void *user) {
    death *d = user;
    use u = FINE(1);
    u.cache = d->cache;
    inject_hook(d->fn, 0, end_here, d->signal ? &d->signal : NULL);
    return run_use(&u);
}

static void ck_dies(death d) {
    ck_assert_int_eq(in_child(run_death, &d), d.signal ? 100 + d.signal : DIED);
}

/* The mark in the cache; false when there is none. */
static bool find_mark(char *path, size_t capacity) {
    DIR *folder = opendir(cache);
    bool found = false;
    ck_assert_ptr_nonnull(folder);
    for (struct dirent *e; (e = readdir(folder)) != NULL;) {
        if (!strstr(e->d_name, ".trying")) continue;
        ck_assert_msg(!found, "two marks");
        found = true;
        if (path) snprintf(path, capacity, "%s/%s", cache, e->d_name);
    }
    closedir(folder);
    return found;
}

static void write_mark(const char *path, const void *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

/* Inside the compiler and while the canaries run; by itself and by a signal. */
static const death deaths[] = {{FN_clBuildProgram, 0, NULL},
                               {FN_clBuildProgram, SIGKILL, NULL},
                               {FN_clEnqueueNDRangeKernel, 0, NULL},
                               {FN_clEnqueueReadBuffer, SIGKILL, NULL}};
enum { DEATHS = sizeof deaths / sizeof deaths[0] };

START_TEST(test_one_death) {
    if (!opencl_here()) return;
    ck_use(FINE(1), "cold");
    ck_assert(!find_mark(NULL, 0));
    remove_cache();
    make_cache();
    ck_dies(deaths[_i]);
    ck_assert(find_mark(NULL, 0));
    ck_use(FINE(1), "after one death");
    ck_assert(!find_mark(NULL, 0));
    ck_use(FINE(0), "warm");
}
END_TEST

START_TEST(test_two_deaths) {
    char mark[400];
    if (!opencl_here()) return;
    ck_dies(deaths[_i]);
    ck_dies(deaths[(_i + 1) % DEATHS]);
    for (int i = 0; i < 2; i++)
        ck_use(REFUSED, "after two deaths");
    /* Others work, and the reason says how to try again. */
    ck_use((use){.variant = "rms_norm_f32", .built = 1, .op = QD_OP_RMS_NORM}, "another kernel");
    ck_assert(find_mark(mark, sizeof mark));
    use u = REFUSED;
    u.says = mark;
    ck_use(u, "the mark's path");
    ck_assert_int_eq(unlink(mark), 0);
    ck_use(FINE(1), "without the mark");
    ck_use(FINE(0), "warm");
}
END_TEST

/* A death between two that went well is forgotten. */
START_TEST(test_deaths_apart) {
    char command[160];
    if (!opencl_here()) return;
    for (int i = 0; i < 3; i++) {
        ck_dies(deaths[0]);
        ck_use(FINE(1), "after one death");
        snprintf(command, sizeof command, "rm '%s'/*.bin", cache);
        ck_assert_int_eq(system(command), 0);
    }
}
END_TEST

START_TEST(test_without_cache) {
    if (!opencl_here()) return;
    for (int i = 0; i < 3; i++)
        ck_dies((death){FN_clBuildProgram, 0, ""});
    use u = FINE(1);
    u.cache = "";
    ck_use(u, "without a cache");
}
END_TEST

/* Marks that no program of ours has written. */
START_TEST(test_damaged_marks) {
    static const char *const texts[] = {"", "\xff", "e", "\x7fxxxxxxxx"};
    char mark[400];
    if (!opencl_here()) return;
    ck_dies(deaths[0]);
    ck_assert(find_mark(mark, sizeof mark));
    ck_assert_int_eq(unlink(mark), 0);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char command[160];
        write_mark(mark, texts[i], strlen(texts[i]));
        ck_use(FINE(1), "a damaged mark");
        ck_assert(!find_mark(NULL, 0));
        snprintf(command, sizeof command, "rm '%s'/*.bin", cache);
        ck_assert_int_eq(system(command), 0);
    }
    char command[500];
    snprintf(command, sizeof command, "mkdir '%s'", mark);
    ck_assert_int_eq(system(command), 0);
    ck_use(FINE(1), "a folder in the mark's place");
    ck_use(FINE(0), "warm");
}
END_TEST

/* A kernel that is refused for what it computes leaves no mark. */
static int run_miscompiled(void *user) {
    inject_source("__kernel void add", "qd_load16(left + c, n) + ", "qd_load16(left + c, n) - ");
    return run_use(user);
}

START_TEST(test_refused_leaves_no_mark) {
    if (!opencl_here()) return;
    use u = {.variant = "reference", .built = 1, .says = "where the reference has"};
    ck_assert_int_eq(in_child(run_miscompiled, &u), 0);
    ck_assert(!find_mark(NULL, 0));
}
END_TEST

/* ---- Waiting ------------------------------------------------------------------------------------------------ */

typedef struct slow {
    int here[2], go[2]; /* pipes */
    bool dies;
} slow;

static void hold(void *user) {
    slow *s = user;
    char byte = 'x';
    if (write(s->here[1], &byte, 1) != 1 || read(s->go[0], &byte, 1) != 1) _exit(9);
    if (s->dies) _exit(DIED);
}

static int run_slow(void *user) {
    use u = FINE(1);
    inject_hook(FN_clBuildProgram, 0, hold, user);
    return run_use(&u);
}

/* While one process compiles a kernel, another waits for it; then it finds the verdict, or does the work itself. */
START_TEST(test_wait) {
    if (!opencl_here()) return;
    slow s = {.dies = _i == 1};
    char byte;
    int status;
    ck_assert_int_eq(pipe(s.here), 0);
    ck_assert_int_eq(pipe(s.go), 0);
    const pid_t first = start(run_slow, &s);
    ck_assert_int_eq(read(s.here[0], &byte, 1), 1);
    use u = FINE(s.dies ? 1 : 0);
    const pid_t second = start(run_use, &u);
    const struct timespec pause = {1, 0};
    nanosleep(&pause, NULL);
    ck_assert_int_eq(waitpid(second, &status, WNOHANG), 0);
    ck_assert_int_eq(write(s.go[1], "x", 1), 1);
    ck_assert_int_eq(wait_for(first), s.dies ? DIED : 0);
    ck_assert_int_eq(wait_for(second), 0);
    ck_assert(!find_mark(NULL, 0));
    ck_use(FINE(0), "warm");
}
END_TEST

typedef struct thread {
    pthread_t id;
    use u;
    int result;
} thread;

static void *run_thread(void *user) {
    thread *t = user;
    t->result = run_use(&t->u);
    return NULL;
}

static int run_two_threads(void *user) {
    (void)user;
    slow s = {.dies = false};
    thread a = {.u = FINE(1)}, b = {.u = FINE(0)};
    char byte;
    const struct timespec pause = {1, 0};
    if (pipe(s.here) || pipe(s.go)) return 1;
    inject_hook(FN_clBuildProgram, 0, hold, &s);
    if (pthread_create(&a.id, NULL, run_thread, &a) || read(s.here[0], &byte, 1) != 1) return 2;
    if (pthread_create(&b.id, NULL, run_thread, &b)) return 3;
    nanosleep(&pause, NULL);
    if (write(s.go[1], "x", 1) != 1) return 4;
    pthread_join(a.id, NULL);
    pthread_join(b.id, NULL);
    return a.result || b.result;
}

START_TEST(test_threads) {
    if (!opencl_here()) return;
    ck_assert_int_eq(in_child(run_two_threads, NULL), 0);
    ck_assert(!find_mark(NULL, 0));
}
END_TEST

/* ---- Another driver ----------------------------------------------------------------------------------------- */

typedef struct driver {
    const char *version;
    use u;
} driver;

static int run_driver(void *user) {
    driver *d = user;
    inject_driver(d->version);
    return run_use(&d->u);
}

/* A verdict and a binary of one driver say nothing about another. */
START_TEST(test_other_driver) {
    static const driver drivers[] = {{NULL, {"add_f32", 1, NULL, NULL, 0}},
                                     {"6.02", {"add_f32", 1, NULL, NULL, 0}},
                                     {NULL, {"add_f32", 0, NULL, NULL, 0}},
                                     {"6.02", {"add_f32", 0, NULL, NULL, 0}},
                                     {"6.0", {"add_f32", 1, NULL, NULL, 0}}};
    if (!opencl_here()) return;
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++) {
        driver d = drivers[i];
        ck_assert_msg(in_child(run_driver, &d) == 0, "step %zu", i);
    }
    /* Nor does a refusal. */
    remove_cache();
    make_cache();
    use wrong = {.variant = "reference", .built = 1, .says = "where the reference has"};
    ck_assert_int_eq(in_child(run_miscompiled, &wrong), 0);
    wrong.built = 0;
    ck_use(wrong, "the same driver");
    driver newer = {"6.02", FINE(1)};
    ck_assert_int_eq(in_child(run_driver, &newer), 0);
    ck_use(wrong, "the same driver again");
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("attempt");
    tcase_add_checked_fixture(tc, make_cache, remove_cache);
    tcase_add_loop_test(tc, test_one_death, 0, DEATHS);
    tcase_add_loop_test(tc, test_two_deaths, 0, DEATHS);
    tcase_add_test(tc, test_deaths_apart);
    tcase_add_test(tc, test_without_cache);
    tcase_add_test(tc, test_damaged_marks);
    tcase_add_test(tc, test_refused_leaves_no_mark);
    tcase_add_loop_test(tc, test_wait, 0, 2);
    tcase_add_test(tc, test_threads);
    tcase_add_test(tc, test_other_driver);
    return run_tests(tc, "attempt");
}
