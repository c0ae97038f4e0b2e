/* What a verdict on a kernel depends on is part of its key: sources of kernels, and of the host what sets arguments,
 * packs weights, makes problems and knows the answers. A change of any of them makes the cached verdicts unknown. */
#include <glob.h>
#include <limits.h>
#include <unistd.h>

#include "unit/devices.h"

static char folder[64];

static void make_folder(void) {
    snprintf(folder, sizeof folder, "%s", "/tmp/qdot-key-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static char *read_text(const char *path) {
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s: cannot be opened", path);
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    const long bytes = ftell(f);
    rewind(f);
    char *text = malloc((size_t)bytes + 1);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(fread(text, 1, (size_t)bytes, f), (size_t)bytes);
    text[bytes] = 0;
    fclose(f);
    return text;
}

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
    ck_assert_int_eq(fclose(f), 0);
}

/* The build's list of files that are embedded as kernels, or that a proof depends on. */
static char *read_list(const char *name) {
    char path[PATH_MAX];
    const char *build = getenv("QDOT_BUILD_DIR");
    ck_assert_msg(build != NULL, "QDOT_BUILD_DIR is the build folder");
    snprintf(path, sizeof path, "%s/host/%s", build, name);
    return read_text(path);
}

/* Every file of the repository that matches is in one of the lists. */
static void ck_listed(const char *pattern, const char *proofs, const char *kernels) {
    glob_t found;
    ck_assert_msg(glob(pattern, 0, NULL, &found) == 0, "%s: no such file", pattern);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char line[PATH_MAX];
        snprintf(line, sizeof line, "/%s\n", found.gl_pathv[i]);
        ck_assert_msg(strstr(proofs, line) || strstr(kernels, line), "%s is not part of the key", found.gl_pathv[i]);
    }
    globfree(&found);
}

START_TEST(test_lists) {
    char *proofs = read_list("proof_files.txt"), *kernels = read_list("kernel_files.txt");
    static const char *const patterns[] = {
        "kernels_cl/*.cl",        "kernels_cl/*/*.cl",     "kernels_cl/*.h",          "kernels_cl/*/*.h",
        "kernels_cl/kernels.def", "host/opencl/*.[ch]",    "host/ref/*.[ch]",         "host/formats/*.[ch]",
        "host/core/rules/*.[ch]", "host/core/cases.c",     "host/core/choices.[ch]",  "host/core/operands.[ch]",
        "host/core/format.[ch]",  "host/include/qdot/*.h", "host/include/qdot/*.def",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        ck_listed(patterns[i], proofs, kernels);
    free(proofs);
    free(kernels);
}
END_TEST

/* The hash that is embedded for a list of files, to `hash`. */
static void embed(const char *proof_list, char hash[65]) {
    char path[160], command[PATH_MAX];
    snprintf(path, sizeof path, "%s/none.txt", folder);
    write_text(path, "");
    snprintf(command, sizeof command,
             "cmake -D LIST='%s' -D PROOF_LIST='%s' -D ROOT=kernels_cl -D OUT='%s/out.c' "
             "-P host/cmake/embed_kernels.cmake",
             path, proof_list, folder);
    ck_assert_int_eq(system(command), 0);
    snprintf(path, sizeof path, "%s/out.c", folder);
    char *text = read_text(path);
    const char *at = strstr(text, "qd_proof_hash[] = \"");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "qd_proof_hash[] = \"%64[0-9a-f]", hash), 1);
    free(text);
}

/* One byte more in one of the files gives another hash, the same bytes the same. */
START_TEST(test_hash) {
    static const char *const changed[] = {"host/core/rules/pool.c", "host/include/qdot/qdot_params.h",
                                          "host/core/cases.c", "kernels_cl/kernels.def"};
    enum { FILES = sizeof changed / sizeof changed[0] };
    char list[160], text[PATH_MAX], first[65], again[65], copy[160], root[PATH_MAX];
    ck_assert_ptr_nonnull(getcwd(root, sizeof root));
    snprintf(list, sizeof list, "%s/list.txt", folder);
    snprintf(copy, sizeof copy, "%s/copy", folder);
    for (int k = -1; k < FILES; k++) {
        size_t n = 0;
        for (int i = 0; i < FILES; i++) {
            char *content = read_text(changed[i]);
            if (i == k) {
                FILE *f = fopen(copy, "wb");
                ck_assert_ptr_nonnull(f);
                fprintf(f, "%s\n", content);
                fclose(f);
                n += (size_t)snprintf(text + n, sizeof text - n, "%s\n", copy);
            } else {
                n += (size_t)snprintf(text + n, sizeof text - n, "%.900s/%s\n", root, changed[i]);
            }
            free(content);
        }
        write_text(list, text);
        embed(list, k < 0 ? first : again);
        if (k >= 0) ck_assert_msg(strcmp(first, again) != 0, "a change of %s is not seen", changed[k]);
        embed(list, again);
        if (k < 0) ck_assert_str_eq(first, again);
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("key");
    tcase_add_checked_fixture(tc, make_folder, remove_folder);
    tcase_add_test(tc, test_lists);
    tcase_add_test(tc, test_hash);
    return run_tests(tc, "key");
}
