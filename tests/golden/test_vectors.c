/* `qdot verify --vectors` on the vectors of this folder: everything passes, nothing is skipped, and changed bytes
 * are found. The program is run as a user would. */
#define _XOPEN_SOURCE 700
#include <sys/wait.h>
#include <unistd.h>

#include "cli/vectors.h"
#include "unit/devices.h"

#define VECTORS "tests/golden/vectors"

/* Cases that must pass, by group. */
static const struct {
    const char *name;
    int cases, passed;
} groups[] = {
    {"bnb_4bit", 50, 50},
    {"bnb_8bit", 13, 13},
    {"ggml_c_quantize", 56, 56},
    {"gguf_dequantize", 126, 126},
    {"gguf_quantize", 129, 129},
    {"half_bf16", 13, 13},
    {"kmeans_bound", 8, 8},
    {"minifloat", 61, 61},
    {"onnx_conv_integer", 80, 80},
    {"onnx_dequantize_linear", 80, 80},
    {"onnx_dynamic_quantize", 14, 14},
    {"onnx_matmul_integer", 79, 79},
    {"onnx_matmul_nbits", 44, 44},
    {"onnx_node_tests", 60, 60},
    {"onnx_qlinear_conv", 102, 102},
    {"onnx_qlinear_matmul", 39, 39},
    {"onnx_qlinear_ops", 84, 84},
    {"onnx_quantize_linear", 128, 128},
    {"packing", 44, 44},
    {"tflite_ops", 45, 45},
    {"tflite_requantize", 69, 69},
    {"torch_fake_quantize", 54, 54},
    {"torch_observers", 101, 101},
    {"torch_quantize", 58, 58},
};
#define GROUP_COUNT (int)(sizeof groups / sizeof groups[0])

/* ---- Running the program ------------------------------------------------------------------------------------ */

/* Runs qdot; *text is its standard output (with `errors`: its messages, too), to be freed. Returns the exit code. */
static int run_qdot(const char *device, const char *path, bool errors, char **text) {
    const char *build = getenv("QDOT_BUILD_DIR");
    char command[1024];
    size_t used = 0, room = 1 << 20;
    ck_assert_msg(build != NULL, "QDOT_BUILD_DIR is the build folder");
    snprintf(command, sizeof command, "'%s/qdot' verify --vectors '%s' --device %s --json%s", build, path, device,
             errors ? " 2>&1" : "");
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    *text = malloc(room);
    ck_assert_ptr_nonnull(*text);
    for (size_t got = 1; got && used < room - 1; used += got)
        got = fread(*text + used, 1, room - 1 - used, f);
    (*text)[used] = 0;
    const int status = pclose(f);
    ck_assert_msg(WIFEXITED(status), "qdot crashed: %s", *text);
    return WEXITSTATUS(status);
}

static int number(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    ck_assert_msg(cJSON_IsNumber(item), "the report lacks %s", key);
    return item->valueint;
}

static void show(const cJSON *list) {
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        char *line = cJSON_PrintUnformatted(item);
        fprintf(stderr, "  %s\n", line);
        free(line);
    }
}

/* ---- The vectors -------------------------------------------------------------------------------------------- */

/* Device 0 is the reference, 1 is OpenCL. */
START_TEST(test_vectors) {
    if (_i && !have_opencl()) return;
    char *text;
    const int code = run_qdot(_i ? "opencl" : "ref", VECTORS, false, &text);
    cJSON *report = cJSON_Parse(text);
    ck_assert_msg(report != NULL, "not one JSON object: %s", text);
    show(cJSON_GetObjectItemCaseSensitive(report, "failures"));
    ck_assert_int_eq(number(report, "failed"), 0);
    ck_assert_int_eq(code, 0);
    /* Nothing needs the rule that a case allows to others. */
    const cJSON *relaxed = cJSON_GetObjectItemCaseSensitive(report, "relaxed");
    show(relaxed);
    ck_assert(cJSON_IsArray(relaxed));
    ck_assert_int_eq(cJSON_GetArraySize(relaxed), 0);

    if (_i) ck_assert_int_eq(number(report, "fallbacks"), 0);

    int cases = 0, passed = 0;
    const cJSON *by_group = cJSON_GetObjectItemCaseSensitive(report, "groups");
    for (int i = 0; i < GROUP_COUNT; i++) {
        const cJSON *g = cJSON_GetObjectItemCaseSensitive(by_group, groups[i].name);
        ck_assert_msg(g != NULL, "%s did not run", groups[i].name);
        ck_assert_msg(number(g, "cases") == groups[i].cases && number(g, "passed") == groups[i].passed,
                      "%s: %d of %d passed, not %d of %d", groups[i].name, number(g, "passed"), number(g, "cases"),
                      groups[i].passed, groups[i].cases);
        ck_assert_int_eq(number(g, "passed") + number(g, "skipped"), groups[i].cases);
        cases += groups[i].cases;
        passed += groups[i].passed;
    }
    ck_assert_int_eq(cJSON_GetArraySize(by_group), GROUP_COUNT);
    ck_assert_int_eq(number(report, "passed"), passed);
    ck_assert_int_eq(number(report, "skipped_cases"), cases - passed);

    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(report, "skipped")), 0);
    cJSON_Delete(report);
    free(text);
}
END_TEST

/* ---- Changed vectors ---------------------------------------------------------------------------------------- */

static char folder[128];

static void write_file(const char *name, const char *bytes, size_t size) {
    char path[192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(bytes, 1, size, f) == size);
    fclose(f);
}

static void remove_folder(void) {
    static const char *const names[] = {"cases.json", "data.bin", "index.json"};
    char path[192];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void make_folder(void) {
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.96s/qdot-vectors-XXXXXX", parent ? parent : P_tmpdir);
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static bool is_example(const cJSON *output) {
    return cJSON_HasObjectItem(cJSON_GetObjectItemCaseSensitive(output, "tolerance"), "informative");
}

/* The bytes of an output of the last case of a group that passes exactly are changed, or the bound of its error where
 * the outputs are examples: that case fails, and the exit code says so. */
START_TEST(test_changed_bytes) {
    char path[192], *manifest, *data, *text;
    size_t manifest_size, data_size;
    snprintf(path, sizeof path, VECTORS "/%s/cases.json", groups[_i].name);
    ck_assert(qd_cli_read(path, &manifest, &manifest_size));
    snprintf(path, sizeof path, VECTORS "/%s/data.bin", groups[_i].name);
    ck_assert(qd_cli_read(path, &data, &data_size));

    cJSON *json = cJSON_Parse(manifest), *cases = cJSON_GetObjectItemCaseSensitive(json, "cases"), *c, *chosen = NULL;
    qd_context *context;
    ck_ok(qd_context_create("ref", NULL, &context));
    qd_vectors *v;
    snprintf(path, sizeof path, VECTORS "/%s", groups[_i].name);
    ck_assert_msg(qd_vectors_open(path, &v) == QD_OK, "%s", qd_vec_message());
    for (int i = 0; i < v->case_count; i++) {
        qd_vec_report r;
        if (v->cases[i].must_fail || qd_vec_run_case(context, v->group, &v->cases[i], &r) != QD_VEC_PASSED) {
            continue;
        }
        chosen = cJSON_GetArrayItem(cases, i);
    }
    ck_assert_msg(chosen != NULL, "nothing of %s passes", groups[_i].name);
    qd_vectors_free(v);
    qd_context_free(context);

    /* Only that case stays; its first output's first byte becomes another. */
    c = cJSON_Duplicate(chosen, true);
    cJSON_ReplaceItemInObjectCaseSensitive(json, "case_count", cJSON_CreateNumber(1));
    cJSON *one = cJSON_CreateArray();
    cJSON_AddItemToArray(one, c);
    cJSON_ReplaceItemInObjectCaseSensitive(json, "cases", one);
    const cJSON *output = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(c, "outputs"), 0);
    /* The last byte of packed codes may be padding, which does not count. */
    while (output && cJSON_HasObjectItem(output, "padding"))
        output = output->next;
    const bool bounded = is_example(output);
    const cJSON *offset = cJSON_GetObjectItemCaseSensitive(output, "offset");
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(output, "nbytes");
    ck_assert(cJSON_IsNumber(offset) && cJSON_IsNumber(bytes));
    char *changed = cJSON_PrintUnformatted(json);
    cJSON *quality = cJSON_GetObjectItem(c, "quality");
    const char *measure = cJSON_HasObjectItem(quality, "mse") ? "mse" : "rmse";
    if (bounded) cJSON_SetNumberValue(cJSON_GetObjectItem(quality, measure), -1);
    char *without_error = cJSON_PrintUnformatted(json);
    make_folder();
    write_file("cases.json", changed, strlen(changed));
    write_file("data.bin", data, data_size);
    const int before = run_qdot("ref", folder, false, &text);
    ck_assert_msg(before == 0, "%s", text);
    free(text);
    /* The most significant byte of the last element, so that no tolerance allows the difference. */
    data[offset->valueint + bytes->valueint - 1] ^= 0x45;
    if (bounded)
        write_file("cases.json", without_error, strlen(without_error));
    else
        write_file("data.bin", data, data_size);
    const int after = run_qdot("ref", folder, false, &text);
    remove_folder();
    cJSON *report = cJSON_Parse(text);
    ck_assert_msg(report != NULL, "not one JSON object: %s", text);
    ck_assert_int_eq(after, 1);
    ck_assert_int_eq(number(report, "failed"), 1);
    ck_assert_int_eq(number(report, "passed"), 0);
    const cJSON *failure = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(report, "failures"), 0);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(failure, "case")),
                     cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c, "name")));
    cJSON_Delete(report);
    cJSON_Delete(json);
    free(changed);
    free(without_error);
    free(text);
    free(manifest);
    free(data);
}
END_TEST

/* Folders that are none: exit code 2, one line that says what is wrong, no JSON. */
START_TEST(test_bad_folders) {
    static const struct {
        const char *index, *cases, *says;
    } bad[] = {
        {NULL, NULL, "cases.json"},
        {"{", NULL, "no index of golden vectors"},
        {"{\"groups\": 3}", NULL, "no index of golden vectors"},
        {"{\"groups\": [{\"group\": \"../x\"}]}", NULL, "names no folder"},
        {"{\"groups\": [{\"group\": \"..\"}]}", NULL, "names no folder"},
        {"{\"groups\": [{}]}", NULL, "names no folder"},
        {"{\"groups\": [{\"group\": \"x\", \"manifest\": \"x/y/cases.json\"}]}", NULL, "names no folder"},
        {"{\"groups\": [{\"group\": \"x\"}]}", NULL, "x/cases.json"},
        {NULL, "[]", "no manifest of format_version 1"},
        {NULL, "nothing", "is no JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *text;
        make_folder();
        if (bad[i].index) write_file("index.json", bad[i].index, strlen(bad[i].index));
        if (bad[i].cases) write_file("cases.json", bad[i].cases, strlen(bad[i].cases));
        const int code = run_qdot("ref", folder, true, &text);
        remove_folder();
        ck_assert_msg(code == 2 && strstr(text, bad[i].says), "%d: exit code %d, %s", (int)i, code, text);
        ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
        free(text);
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("vectors");
    tcase_add_loop_test(tc, test_vectors, 0, 2);
    tcase_add_loop_test(tc, test_changed_bytes, 0, GROUP_COUNT);
    tcase_add_test(tc, test_bad_folders);
    return run_tests(tc, "golden vectors");
}
