/* Golden vectors whose manifests are well formed but say something else: inputs and attributes that lack, numbers that
 * are absurd, other shapes and types. Running them must end in an outcome with a reason, whatever it is. The sanitizers
 * watch. */
#include "cli/vectors.h"
#include "unit/devices.h"

#define VECTORS "tests/golden/vectors"

static const char *const groups[] = {
    "bnb_4bit",
    "bnb_8bit",
    "gguf_dequantize",
    "gguf_quantize",
    "half_bf16",
    "kmeans_bound",
    "minifloat",
    "onnx_conv_integer",
    "onnx_dequantize_linear",
    "onnx_dynamic_quantize",
    "onnx_matmul_integer",
    "onnx_matmul_nbits",
    "onnx_node_tests",
    "onnx_qlinear_conv",
    "onnx_qlinear_matmul",
    "onnx_qlinear_ops",
    "onnx_quantize_linear",
    "packing",
    "tflite_ops",
    "tflite_requantize",
    "torch_fake_quantize",
    "torch_observers",
    "torch_quantize",
};
#define GROUP_COUNT (int)(sizeof groups / sizeof groups[0])

/* Cases of a group that are tried: the first of each operation, and every so many. */
enum { STEP = 9 };

typedef struct trial {
    qd_context *context;
    const char *data;
    size_t bytes;
    const cJSON *original; /* the case */
    cJSON *manifest;       /* holds a copy of it, to be changed */
    int runs, passed;
} trial;

/* The copy, as it was. */
static cJSON *fresh(trial *t) {
    cJSON *list = cJSON_CreateArray(), *c = cJSON_Duplicate(t->original, true);
    cJSON_AddItemToArray(list, c);
    cJSON_ReplaceItemInObjectCaseSensitive(t->manifest, "cases", list);
    return c;
}

/* Runs the manifest as it is now. */
static qd_vec_outcome run(trial *t) {
    char *text = cJSON_PrintUnformatted(t->manifest);
    qd_vec_report report;
    qd_vectors *v = NULL;
    qd_vec_outcome outcome = QD_VEC_FAILED;
    ck_assert_ptr_nonnull(text);
    const qd_status status = qd_vectors_parse(text, strlen(text), t->data, t->bytes, &v);
    ck_assert_int_eq(v == NULL, status != QD_OK);
    t->runs++;
    if (status != QD_OK) {
        ck_assert_int_eq(status, QD_ERR_FILE);
        ck_assert(*qd_vec_message());
    } else {
        outcome = qd_vec_run_case(t->context, v->group, &v->cases[0], &report);
        ck_assert_msg(outcome == QD_VEC_PASSED || *report.text, "no reason: %s", text);
        t->passed += outcome == QD_VEC_PASSED || outcome == QD_VEC_PASSED_RELAXED;
    }
    qd_vectors_free(v);
    free(text);
    return outcome;
}

static cJSON *member(cJSON *c, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(c, key);
}

/* Each input, output and attribute lacks. An output that lacks is one that nothing judges, or is asked for in vain. */
static void remove_each(trial *t) {
    static const char *const lists[] = {"inputs", "outputs", "attrs"};
    for (int l = 0; l < 3; l++) {
        const int n = cJSON_GetArraySize(member(fresh(t), lists[l]));
        for (int i = 0; i < n; i++) {
            cJSON_Delete(cJSON_DetachItemFromArray(member(fresh(t), lists[l]), i));
            run(t);
        }
    }
}

/* Each attribute becomes each of some values. */
static void change_attributes(trial *t) {
    static const char *const values[] = {
        "0",     "-1", "1",  "3",    "1073741824", "2147483647",   "-2147483648",
        "1e300", "[]", "{}", "null", "\"\"",       "[0, 0, 0, 0]", "[1073741824, 1073741824]"};
    const int n = cJSON_GetArraySize(member(fresh(t), "attrs"));
    for (int i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            cJSON *attrs = member(fresh(t), "attrs");
            cJSON_ReplaceItemInObjectCaseSensitive(attrs, cJSON_GetArrayItem(attrs, i)->string, cJSON_Parse(values[k]));
            run(t);
        }
    }
}

/* Gives tensor i of a list another shape with as many elements. */
static void change_shapes(trial *t, const char *list) {
    enum { FLAT, REVERSED, LONGER, DEEPER, KINDS };
    const int n = cJSON_GetArraySize(member(fresh(t), list));
    for (int i = 0; i < n; i++) {
        for (int kind = 0; kind < KINDS; kind++) {
            cJSON *tensor = cJSON_GetArrayItem(member(fresh(t), list), i), *item, *shape = cJSON_CreateArray();
            double count = 1;
            cJSON_ArrayForEach(item, member(tensor, "shape")) {
                count *= item->valuedouble;
                if (kind == REVERSED) cJSON_InsertItemInArray(shape, 0, cJSON_CreateNumber(item->valuedouble));
                if (kind == LONGER || kind == DEEPER)
                    cJSON_AddItemToArray(shape, cJSON_CreateNumber(item->valuedouble));
            }
            if (kind == FLAT) cJSON_AddItemToArray(shape, cJSON_CreateNumber(count));
            if (kind == LONGER) cJSON_InsertItemInArray(shape, 0, cJSON_CreateNumber(1));
            while (kind == DEEPER && cJSON_GetArraySize(shape) < QD_VEC_MAX_RANK)
                cJSON_AddItemToArray(shape, cJSON_CreateNumber(1));
            cJSON_ReplaceItemInObjectCaseSensitive(tensor, "shape", shape);
            run(t);
        }
        /* Nothing, and one element alone. */
        for (int size = 0; size < 2; size++) {
            cJSON *tensor = cJSON_GetArrayItem(member(fresh(t), list), i), *item;
            const char *dtype = cJSON_GetStringValue(member(tensor, "dtype"));
            const int bits = atoi(dtype + strcspn(dtype, "0123456789"));
            cJSON_ArrayForEach(item, member(tensor, "shape")) {
                cJSON_SetNumberValue(item, size);
            }
            cJSON_ReplaceItemInObjectCaseSensitive(tensor, "nbytes", cJSON_CreateNumber(size * bits / 8));
            run(t);
        }
    }
}

/* Each tensor becomes one of another type. */
static void change_types(trial *t, const char *list) {
    static const char *const types[][2] = {{"u8", ""},   {"i8", ""},         {"u16", ""},  {"i16", ""},
                                           {"f16", ""},  {"bf16", ""},       {"i32", ""},  {"u32", ""},
                                           {"f32", ""},  {"f64", ""},        {"i64", ""},  {"u8", "u4"},
                                           {"i8", "i2"}, {"u8", "f8e4m3fn"}, {"u8", "u3"}, {"f32", "i4"}};
    const int n = cJSON_GetArraySize(member(fresh(t), list));
    for (int i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
            cJSON *tensor = cJSON_GetArrayItem(member(fresh(t), list), i), *item;
            double bytes = atoi(types[k][0] + strcspn(types[k][0], "0123456789")) / 8;
            cJSON_ArrayForEach(item, member(tensor, "shape")) {
                bytes *= item->valuedouble;
            }
            cJSON_ReplaceItemInObjectCaseSensitive(tensor, "nbytes", cJSON_CreateNumber(bytes));
            cJSON_ReplaceItemInObjectCaseSensitive(tensor, "dtype", cJSON_CreateString(types[k][0]));
            cJSON_DeleteItemFromObjectCaseSensitive(tensor, "logical");
            if (*types[k][1]) cJSON_AddStringToObject(tensor, "logical", types[k][1]);
            run(t);
        }
    }
}

START_TEST(test_group) {
    char path[192], *manifest, *file;
    size_t manifest_bytes, bytes;
    snprintf(path, sizeof path, VECTORS "/%s/cases.json", groups[_i]);
    ck_assert(qd_cli_read(path, &manifest, &manifest_bytes));
    snprintf(path, sizeof path, VECTORS "/%s/data.bin", groups[_i]);
    ck_assert(qd_cli_read(path, &file, &bytes));
    cJSON *json = cJSON_Parse(manifest), *cases = cJSON_DetachItemFromObjectCaseSensitive(json, "cases");
    const cJSON *c;
    trial t = {.data = file, .bytes = bytes, .manifest = json};
    cJSON_AddArrayToObject(json, "cases");
    cJSON_ReplaceItemInObjectCaseSensitive(json, "case_count", cJSON_CreateNumber(1));
    ck_ok(qd_context_create("ref", NULL, &t.context));
    int index = 0, good = 0;
    const char *operation = "";
    cJSON_ArrayForEach(c, cases) {
        const char *op = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c, "op"));
        if (index++ % STEP && strcmp(op, operation) == 0) continue;
        operation = op;
        t.original = c;
        fresh(&t);
        good += run(&t) == QD_VEC_PASSED;
        remove_each(&t);
        change_attributes(&t);
        change_shapes(&t, "inputs");
        change_shapes(&t, "outputs");
        change_types(&t, "inputs");
        change_types(&t, "outputs");
    }
    printf("%s: %d runs, %d passed\n", groups[_i], t.runs, t.passed);
    fflush(stdout);
    ck_assert_int_gt(good, 0);
    ck_assert_int_gt(t.runs, 50);
    ck_assert_int_lt(t.passed, t.runs / 2); /* most changes are noticed */
    qd_context_free(t.context);
    cJSON_Delete(cases);
    cJSON_Delete(json);
    free(manifest);
    free(file);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("damaged vectors");
    tcase_add_loop_test(tc, test_group, 0, GROUP_COUNT);
    return run_tests(tc, "damaged golden vectors");
}
