/* The cache of programs on disk: a second start finds what the first one made; whatever is damaged is made again, and
 * the results are right all the same. */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/devices.h"

enum { ROWS = 3, COLS = 20, TABLE = 5 };

static char root[64], cache[96];

static void make_folders(void) {
    snprintf(root, sizeof root, "%s", "/tmp/qdot-cache-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    ck_assert_int_eq(chmod(root, 0755), 0);
    snprintf(cache, sizeof cache, "%s/cache", root);
    ck_assert_int_eq(setenv("QDOT_CACHE_DIR", cache, 1), 0);
}

static void remove_folders(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    ck_assert_int_eq(system(command), 0);
}

/* ---- Using a kernel ----------------------------------------------------------------------------------------- */

typedef struct use {
    bool right;
    int built; /* "building" lines in the log */
    char error[300];
} use;

/* Opens a context, looks rows of a table in `format` up, and closes it. Without Check's macros: children call it. */
static use use_kernel(const char *cache_dir, qd_format format) {
    static const int32_t ids[ROWS] = {4, 0, 2};
    use u = {.right = false};
    log_text log = {.used = 0};
    qd_context_options o = {.cache_dir = cache_dir, .log = collect_log, .log_user = &log};
    float values[TABLE * COLS], want[ROWS * COLS], got[ROWS * COLS] = {0};
    unsigned char table[TABLE * COLS * 4];
    for (int i = 0; i < TABLE * COLS; i++)
        values[i] = (float)(i - 30); /* exact in every float format */
    for (int i = 0; i < ROWS * COLS; i++)
        want[i] = values[ids[i / COLS] * COLS + i % COLS];
    const qd_tensor_desc dt = qd_desc(format, TABLE, COLS, 0, 0), di = qd_desc(QD_FORMAT_I32, ROWS, 0, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, ROWS, COLS, 0, 0);
    qd_context *c = NULL;
    qd_tensor *t = NULL, *id = NULL, *y = NULL;
    qd_plan *p = NULL;
    qd_status status = qd_quantize(format, values, TABLE, COLS, table);
    if (!status) status = qd_context_create("opencl", &o, &c);
    if (!status) status = qd_tensor_constant(c, &dt, table, &t);
    if (!status) status = qd_tensor_create(c, &di, &id);
    if (!status) status = qd_tensor_create(c, &dy, &y);
    if (!status) status = qd_tensor_write(id, 0, ids, sizeof ids);
    if (!status) status = qd_plan_create(c, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){t, id}, 2, &y, 1, &p);
    if (!status) status = qd_plan_run(p);
    if (!status) status = qd_tensor_read(y, 0, got, sizeof got);
    if (status) {
        snprintf(u.error, sizeof u.error, "%s: %.200s", qd_status_name(status), qd_last_message());
    } else {
        u.right = !memcmp(want, got, sizeof want) && strcmp(qd_plan_variant(p), "reference") != 0;
        if (!u.right) snprintf(u.error, sizeof u.error, "%s gave wrong values", qd_plan_variant(p));
    }
    for (const char *at = log.text; (at = strstr(at, "building")) != NULL; at++)
        u.built++;
    qd_plan_free(p);
    qd_tensor_free(t);
    qd_tensor_free(id);
    qd_tensor_free(y);
    qd_context_free(c);
    return u;
}

static void ck_use(const char *cache_dir, qd_format format, int built, const char *what) {
    const use u = use_kernel(cache_dir, format);
    ck_assert_msg(u.right, "%s: %s", what, u.error);
    ck_assert_msg(u.built == built, "%s: %d kernels built, not %d", what, u.built, built);
}

/* ---- Files -------------------------------------------------------------------------------------------------- */

/* The number of files in a folder; `path` is the last one's. -1: no such folder. */
static int list_files(const char *folder, char *path, size_t capacity) {
    DIR *d = opendir(folder);
    if (!d) return -1;
    int n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        n++;
        if (path) snprintf(path, capacity, "%s/%s", folder, e->d_name);
    }
    closedir(d);
    return n;
}

/* The one entry of the cache; it must be there. */
static void find_entry(char *path, size_t capacity) {
    ck_assert_int_eq(list_files(cache, path, capacity), 1);
}

typedef struct content {
    unsigned char *data;
    size_t bytes;
} content;

static content read_content(const char *path) {
    content c = {NULL, 0};
    struct stat st;
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s", path);
    ck_assert_int_eq(fstat(fileno(f), &st), 0);
    c.bytes = (size_t)st.st_size;
    c.data = malloc(c.bytes + 1);
    ck_assert_ptr_nonnull(c.data);
    ck_assert_uint_eq(fread(c.data, 1, c.bytes, f), c.bytes);
    fclose(f);
    return c;
}

static void write_content(const char *path, const void *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "%s", path);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

/* ---- Tests -------------------------------------------------------------------------------------------------- */

START_TEST(test_hit) {
    char path[400];
    struct stat before, after;
    if (!have_opencl()) return;
    ck_use(NULL, QD_FORMAT_F16, 1, "a cold cache");
    find_entry(path, sizeof path);
    ck_assert_int_eq(stat(path, &before), 0);
    ck_assert_int_gt(before.st_size, 0);
    for (int i = 0; i < 3; i++)
        ck_use(NULL, QD_FORMAT_F16, 0, "a warm cache");
    find_entry(path, sizeof path);
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_uint_eq(after.st_ino, before.st_ino);
    ck_assert_int_eq(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
    ck_assert_int_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    ck_use(NULL, QD_FORMAT_BF16, 1, "another kernel");
    ck_assert_int_eq(list_files(cache, NULL, 0), 2);
}
END_TEST

/* Binaries without the functions that PoCL makes for the sizes of launches are not for a process that would have them
 * made, and the other way round. */
START_TEST(test_specialization) {
    static const char *const settings[] = {"0", "1"};
    if (!have_opencl()) return;
    for (int i = 0; i < 4; i++) {
        setenv("POCL_WORK_GROUP_SPECIALIZATION", settings[i % 2], 1);
        ck_use(NULL, QD_FORMAT_F16, i < 2, settings[i % 2]);
    }
}
END_TEST

/* Where the cache is: the option, then QDOT_CACHE_DIR, XDG_CACHE_HOME, HOME; missing folders are made. */
START_TEST(test_places) {
    char place[4][160], option[160];
    if (!have_opencl()) return;
    snprintf(option, sizeof option, "%s/option/a/b", root);
    snprintf(place[0], sizeof place[0], "%s/option/a/b", root);
    snprintf(place[1], sizeof place[1], "%s/environment", root);
    snprintf(place[2], sizeof place[2], "%s/xdg/qdot", root);
    snprintf(place[3], sizeof place[3], "%s/home/.cache/qdot", root);
    char xdg[160], home[160];
    snprintf(xdg, sizeof xdg, "%s/xdg", root);
    snprintf(home, sizeof home, "%s/home", root);
    setenv("QDOT_CACHE_DIR", place[1], 1);
    setenv("XDG_CACHE_HOME", xdg, 1);
    setenv("HOME", home, 1);
    for (int i = 0; i < 4; i++) {
        if (i > 1) unsetenv(i == 2 ? "QDOT_CACHE_DIR" : "XDG_CACHE_HOME");
        ck_use(i ? NULL : option, QD_FORMAT_F16, 1, place[i]);
        for (int j = 0; j < 4; j++)
            ck_assert_msg(list_files(place[j], NULL, 0) == (j <= i ? 1 : -1), "%s after %s", place[j], place[i]);
        ck_use(i ? NULL : option, QD_FORMAT_F16, 0, place[i]);
    }
}
END_TEST

START_TEST(test_off) {
    char xdg[160], home[160];
    if (!have_opencl()) return;
    snprintf(xdg, sizeof xdg, "%s/xdg", root);
    snprintf(home, sizeof home, "%s/home", root);
    setenv("XDG_CACHE_HOME", xdg, 1);
    setenv("HOME", home, 1);
    for (int i = 0; i < 2; i++)
        ck_use("", QD_FORMAT_F16, 1, "the cache switched off by its option");
    setenv("QDOT_CACHE_DIR", "", 1);
    for (int i = 0; i < 2; i++)
        ck_use(NULL, QD_FORMAT_F16, 1, "the cache switched off by the environment");
    const char *const never[] = {cache, xdg, home};
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(list_files(never[i], NULL, 0), -1);
}
END_TEST

/* A damaged entry is made again, in its place, and then found. */
static void ck_damage(const char *path, const content *good, const char *what) {
    ck_use(NULL, QD_FORMAT_F16, 1, what);
    ck_use(NULL, QD_FORMAT_F16, 0, "made again");
    char found[400];
    find_entry(found, sizeof found); /* no leftovers beside it */
    ck_assert_str_eq(found, path);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_gt(st.st_size, (long)good->bytes / 2);
}

START_TEST(test_truncated) {
    static const int permille[] = {0, 1, 10, 500, 990, 1000};
    char path[400], what[64];
    if (!have_opencl()) return;
    ck_use(NULL, QD_FORMAT_F16, 1, "a cold cache");
    find_entry(path, sizeof path);
    content good = read_content(path);
    for (size_t i = 0; i < sizeof permille / sizeof permille[0]; i++) {
        size_t n = good.bytes * (size_t)permille[i] / 1000;
        if (n == good.bytes) n--;
        snprintf(what, sizeof what, "%zu of %zu bytes", n, good.bytes);
        write_content(path, good.data, n);
        ck_damage(path, &good, what);
    }
    /* And with something behind it. */
    content longer = {calloc(1, good.bytes + 100), good.bytes + 100};
    ck_assert_ptr_nonnull(longer.data);
    memcpy(longer.data, good.data, good.bytes);
    write_content(path, longer.data, good.bytes + 1);
    ck_damage(path, &good, "one byte more");
    free(longer.data);
    free(good.data);
}
END_TEST

/* Every byte of the header, and some of the rest. Only one bit, so that a sum or a partial check would not see all. */
START_TEST(test_flipped) {
    enum { HEADER = 56 };
    char path[400], what[64];
    if (!have_opencl()) return;
    ck_use(NULL, QD_FORMAT_F16, 1, "a cold cache");
    find_entry(path, sizeof path);
    content good = read_content(path);
    ck_assert_uint_gt(good.bytes, HEADER);
    for (size_t i = 0; i < HEADER + 4; i++) {
        const size_t rest = good.bytes - HEADER;
        const size_t at = i < HEADER ? i : HEADER + (i - HEADER) * (rest - 1) / 3; /* first, inside, last */
        snprintf(what, sizeof what, "byte %zu flipped", at);
        good.data[at] ^= (unsigned char)(1 << (i % 8));
        write_content(path, good.data, good.bytes);
        good.data[at] ^= (unsigned char)(1 << (i % 8));
        ck_use(NULL, QD_FORMAT_F16, 1, what);
    }
    ck_use(NULL, QD_FORMAT_F16, 0, "made again");
    free(good.data);
}
END_TEST

/* A valid entry under the name of another: its kernel has the same function, and would give wrong values. */
START_TEST(test_swapped) {
    char path[2][400], command[900];
    if (!have_opencl()) return;
    ck_use(NULL, QD_FORMAT_F16, 1, "a cold cache");
    find_entry(path[0], sizeof path[0]);
    snprintf(command, sizeof command, "mv '%s' '%s/kept'", path[0], root);
    ck_assert_int_eq(system(command), 0);
    ck_use(NULL, QD_FORMAT_BF16, 1, "a cold cache");
    find_entry(path[1], sizeof path[1]);
    snprintf(command, sizeof command, "cp '%s/kept' '%s'", root, path[1]);
    ck_assert_int_eq(system(command), 0);
    ck_use(NULL, QD_FORMAT_BF16, 1, "another kernel's entry");
    ck_use(NULL, QD_FORMAT_BF16, 0, "made again");
    snprintf(command, sizeof command, "cp '%s' '%s'", path[1], path[0]);
    ck_assert_int_eq(system(command), 0);
    ck_use(NULL, QD_FORMAT_F16, 1, "another kernel's entry");
}
END_TEST

/* A folder stands where the entry should be: it cannot be read, nor replaced. */
START_TEST(test_no_file) {
    char path[400];
    if (!have_opencl()) return;
    ck_use(NULL, QD_FORMAT_F16, 1, "a cold cache");
    find_entry(path, sizeof path);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    for (int i = 0; i < 2; i++)
        ck_use(NULL, QD_FORMAT_F16, 1, "a folder in place of the entry");
    find_entry(path, sizeof path); /* what could not be moved there is removed */
    ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

START_TEST(test_bad_folders) {
    char file[160], inside[200], longest[2000];
    if (!have_opencl()) return;
    snprintf(file, sizeof file, "%s/file", root);
    snprintf(inside, sizeof inside, "%s/a/b", file);
    write_content(file, "x", 1);
    memset(longest, 'x', sizeof longest);
    memcpy(longest, root, strlen(root));
    longest[strlen(root)] = '/';
    longest[sizeof longest - 1] = 0;
    const char *const bad[] = {file, inside, longest, "/dev/null/qdot", "/proc/qdot"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (int again = 0; again < 2; again++)
            ck_use(bad[i], QD_FORMAT_F16, 1, bad[i]);
    }
    ck_assert_int_eq(list_files(root, NULL, 0), 1);
}
END_TEST

/* ---- Other processes ---------------------------------------------------------------------------------------- */

/* Runs `body` in a process of its own; 0 when all went well there. */
static int in_child(int (*body)(void)) {
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (!child) _exit(body());
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int child_use(int built) {
    const use u = use_kernel(NULL, QD_FORMAT_F16);
    if (u.right && (built < 0 || u.built == built)) return 0;
    fprintf(stderr, "child: %d built, %s\n", u.built, u.error);
    return 1;
}

static int use_any(void) {
    return child_use(-1);
}

static int use_warm(void) {
    return child_use(0);
}

static int use_cold(void) {
    return child_use(1);
}

START_TEST(test_two_processes) {
    enum { CHILDREN = 3 };
    pid_t child[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        child[i] = fork();
        ck_assert_int_ge(child[i], 0);
        if (!child[i]) _exit(getenv("QDOT_TEST_NO_OPENCL") ? 0 : use_any());
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        ck_assert_int_eq(waitpid(child[i], &status, 0), child[i]);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), 0);
    }
    if (getenv("QDOT_TEST_NO_OPENCL")) return;
    char path[400];
    find_entry(path, sizeof path);
    ck_assert_int_eq(in_child(use_warm), 0);
}
END_TEST

/* As somebody who may not write: root may write everywhere, so a child becomes another user. PoCL then needs a cache of
 * its own that this user may write to. */
static bool become_other(void) {
    char pocl[128];
    snprintf(pocl, sizeof pocl, "%s/pocl", root);
    mkdir(pocl, 0777);
    if (getuid() == 0 && (chmod(pocl, 0777) || setuid(65534))) return false;
    return !setenv("POCL_CACHE_DIR", pocl, 1);
}

static int use_as_other(void) {
    return become_other() ? use_cold() : 2;
}

START_TEST(test_read_only) {
    char path[400];
    if (getenv("QDOT_TEST_NO_OPENCL")) return;
    ck_assert_int_eq(in_child(use_cold), 0);
    find_entry(path, sizeof path);
    const content before = read_content(path);
    /* An entry that cannot be read, in a folder that cannot be written. */
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert_int_eq(chmod(cache, 0555), 0);
    ck_assert_int_eq(in_child(use_as_other), 0);
    ck_assert_int_eq(chmod(cache, 0755), 0);
    ck_assert_int_eq(chmod(path, 0644), 0);
    find_entry(path, sizeof path);
    const content after = read_content(path);
    ck_assert_uint_eq(after.bytes, before.bytes);
    ck_assert_mem_eq(after.data, before.data, before.bytes);
    /* In a folder that can be written, it is replaced. */
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert_int_eq(chmod(cache, 0777), 0);
    ck_assert_int_eq(in_child(use_as_other), 0);
    find_entry(path, sizeof path);
    ck_assert_int_eq(in_child(use_warm), 0);
    free(before.data);
    free(after.data);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("cache");
    tcase_add_checked_fixture(tc, make_folders, remove_folders);
    tcase_add_test(tc, test_hit);
    tcase_add_test(tc, test_specialization);
    tcase_add_test(tc, test_places);
    tcase_add_test(tc, test_off);
    tcase_add_test(tc, test_truncated);
    tcase_add_test(tc, test_flipped);
    tcase_add_test(tc, test_swapped);
    tcase_add_test(tc, test_no_file);
    tcase_add_test(tc, test_bad_folders);
    tcase_add_test(tc, test_two_processes);
    tcase_add_test(tc, test_read_only);
    return run_tests(tc, "cache");
}
