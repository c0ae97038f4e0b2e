/* A machine without any OpenCL driver, or with one that cannot be loaded. The loader looks for drivers once in a
 * process: each test runs in its own. */
#include <sys/stat.h>
#include <unistd.h>

#include "unit/devices.h"

static char vendors[64];

static void make_vendors(void) {
    snprintf(vendors, sizeof vendors, "%s", "/tmp/qdot-vendors-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(vendors));
    ck_assert_int_eq(setenv("OCL_ICD_VENDORS", vendors, 1), 0);
    ck_assert_int_eq(unsetenv("QDOT_DEVICE"), 0);
}

static void remove_vendors(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", vendors);
    ck_assert_int_eq(system(command), 0);
}

/* What a driver's file may hold that is no driver: nothing at all, a library that is not there, a file that is no
 * library, a library without OpenCL. */
static const char *const drivers[] = {NULL, "", "libno-such-driver.so.1\n", "/etc/passwd\n", "libm.so.6\n"};
enum { DRIVERS = sizeof drivers / sizeof drivers[0] };

static void install_driver(const char *text) {
    char path[96];
    if (!text) return;
    snprintf(path, sizeof path, "%s/some.icd", vendors);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(test_no_device) {
    install_driver(drivers[_i]);
    qd_device_info *devices;
    int count;
    ck_ok(qd_devices_list(&devices, &count));
    ck_assert_str_eq(devices[0].id, "ref");
    for (int k = 1; k < count; k++) /* other backends may be there */
        ck_assert_msg(strncmp(devices[k].id, "opencl", 6) != 0, "%s", devices[k].id);
    qd_devices_free(devices);
    static const char *const words[] = {"opencl", "opencl:gpu", "opencl:cpu", "opencl:Portable", "opencl::0"};
    qd_context *const unset = (qd_context *)vendors;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        qd_context *c = unset;
        ck_fails(qd_context_create(words[i], NULL, &c), QD_ERR_NO_DEVICE, "install a driver");
        ck_assert_ptr_eq(c, unset);
    }
    /* Asked for by the environment is asked for. */
    ck_assert_int_eq(setenv("QDOT_DEVICE", "opencl", 1), 0);
    qd_context *c = unset;
    ck_fails(qd_context_create(NULL, NULL, &c), QD_ERR_NO_DEVICE, "install a driver");
    ck_assert_ptr_eq(c, unset);
}
END_TEST

static bool no_difference(void *user, const qd_verify_row *r) {
    ck_assert_str_eq(r->variant, "reference");
    ++*(int *)user;
    return true;
}

/* Nothing was asked for: the reference computes, and the log says so. */
START_TEST(test_default) {
    install_driver(drivers[_i]);
    log_text log = {.used = 0};
    const qd_context_options o = {.log = collect_log, .log_user = &log};
    qd_context *c;
    ck_ok(qd_context_create(NULL, &o, &c));
    ck_assert_str_eq(qd_context_device(c)->id, "ref");
    ck_assert_ptr_nonnull(strstr(log.text, "reference"));
    ck_assert_ptr_nonnull(strstr(log.text, "install a driver"));
    int rows = 0, different = -1;
    ck_ok(qd_verify(c, 3, 1, no_difference, &rows, &different));
    ck_assert_int_gt(rows, 10);
    ck_assert_int_eq(different, 0);
    qd_context_free(c);
    /* Without a log it is no crash. */
    ck_ok(qd_context_create(NULL, NULL, &c));
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("no_opencl");
    tcase_add_checked_fixture(tc, make_vendors, remove_vendors);
    tcase_add_loop_test(tc, test_no_device, 0, DRIVERS);
    tcase_add_loop_test(tc, test_default, 0, DRIVERS);
    return run_tests(tc, "no_opencl");
}
