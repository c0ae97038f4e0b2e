/* Manifests that lie, and binaries that are none: the message names the file and the field, and the device is given
 * nothing. No device is needed for most of it: a file that begins as a binary does can be sealed, though not loaded. */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fault/cl_inject.h"
#include "qdot/qdot_fpga.h"
#include "unit/devices.h"

static char folder[64], path[128], binary[128];

static void make_folder(void) {
    snprintf(folder, sizeof folder, "%s", "/tmp/qdot-manifest-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/qdot.json", folder);
}

static void remove_folder(void) {
    char command[96];
    qd_alloc_fail_after(-1);
    inject_clear();
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

/* ---- Files -------------------------------------------------------------------------------------------------- */

static void write_file(const char *name, const void *data, size_t bytes) {
    FILE *f = fopen(name, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

static char *read_file(const char *name) {
    FILE *f = fopen(name, "rb");
    ck_assert_ptr_nonnull(f);
    char *text = calloc(1, 65536);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_lt(fread(text, 1, 65535, f), 65535);
    fclose(f);
    return text;
}

static int files_in_folder(void) {
    int n = 0;
    DIR *d = opendir(folder);
    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

/* The head of a binary, and nothing else of it. */
enum { FAKE = 400, LENGTH_AT = 304 };

static void fake_binary(const char *vendor, unsigned char data[FAKE]) {
    memset(data, 0x5a, FAKE);
    if (!strcmp(vendor, "intel")) {
        memcpy(data, "\177ELF", 4);
        return;
    }
    memcpy(data, "xclbin2", 8);
    for (int i = 0; i < 8; i++)
        data[LENGTH_AT + i] = (unsigned char)((uint64_t)FAKE >> 8 * i);
}

/* A manifest for this board with a sealed binary. */
static void seal(const char *vendor, const char *board) {
    static const char *const intel[] = {"matmul_int_channels", "conv_int_channels", "table_single"},
                             *const amd[] = {"matmul_int_single", "conv_int_single", "table_single"};
    static qd_fpga_manifest m;
    unsigned char data[FAKE];
    ck_ok(
        qd_fpga_plan(vendor, board, strcmp(vendor, "intel") ? amd : intel, 3, &(qd_fpga_shape){2, 4, 8, false, 1}, &m));
    for (int i = 0; i < 3; i++) {
        m.kernels[i].n_banks = 1;
        m.kernels[i].banks[0] = (qd_fpga_bank){"x", 3};
    }
    ck_ok(qd_fpga_write(&m, path));
    snprintf(binary, sizeof binary, "%s/%.40s", folder, m.binary);
    fake_binary(vendor, data);
    write_file(binary, data, sizeof data);
    ck_ok(qd_fpga_seal(path, &m));
}

/* ---- Refusals ----------------------------------------------------------------------------------------------- */

/* Reading and opening the device must fail with a line that names the field, before the driver is given anything. */
static void ck_refused(const char *device, const char *field, const char *says, const char *what) {
    static qd_fpga_manifest m, before;
    char want[300];
    memset(&m, 0x77, sizeof m);
    before = m;
    snprintf(want, sizeof want, "%s: field \"%s\": ", path, field);
    if (!field[0]) snprintf(want, sizeof want, "%s", path);
    qd_fail(QD_OK, "no message");
    const qd_status status = qd_fpga_read(path, &m);
    ck_assert_msg(status == QD_ERR_FILE, "%s: %s: %s", what, qd_status_name(status), qd_last_message());
    ck_assert_msg(!strncmp(qd_last_message(), want, strlen(want)) && strstr(qd_last_message(), says), "%s: %s", what,
                  qd_last_message());
    ck_assert_ptr_null(strchr(qd_last_message(), '\n'));
    ck_assert_mem_eq(&m, &before, sizeof m);
    if (!device) return;
    const qd_context_options o = {.binary = path};
    qd_context *c = NULL;
    inject_clear();
    ck_fails(qd_context_create(device, &o, &c), QD_ERR_FILE, want);
    ck_assert_ptr_null(c);
    ck_assert_int_eq(inject_calls(FN_clCreateProgramWithBinary), 0);
    ck_assert_int_eq(inject_calls(FN_clCreateProgramWithSource), 0);
    ck_assert_int_eq(inject_calls(FN_clBuildProgram), 0);
    ck_assert_int_eq(inject_alive(), 0);
}

/* What a row does to the manifest: at `where` ("kernels[1].banks.x"; the last is a member of an object) it puts a JSON
 * value; "": takes the member out; "=name": calls it by that name; "+value": adds it once more. */
static const struct row {
    const char *where, *value, *field, *says;
} rows[] = {
    {"format", "", "format", "is missing"},
    {"format", "2", "format", "from 1 to 1"},
    {"format", "\"1\"", "format", "must be a number"},
    {"format", "=formats", "formats", "is not known"},
    {"format", "+1", "format", "twice"},
    {"vendor", "", "vendor", "is missing"},
    {"vendor", "\"xilinx\"", "vendor", "intel or amd"},
    {"vendor", "\"Intel\"", "vendor", "intel or amd"},
    {"vendor", "\"amd\"", "kernels[0].variant", "channels"},
    {"vendor", "7", "vendor", "must be a text"},
    {"vendor", "\"a name that is longer than any vendor's\"", "vendor", "too long"},
    {"vendor", "=Vendor", "Vendor", "is not known"},
    {"board", "", "board", "is missing"},
    {"board", "\"\"", "board", "must name"},
    {"board", "null", "board", "must be a text"},
    {"board", "\"0123456789012345678901234567890123456789012345678901234567890123456789\"", "board", "too long"},
    {"binary", "", "binary", "is missing"},
    {"binary", "\"\"", "binary", "beside the manifest"},
    {"binary", "\"/etc/passwd\"", "binary", "beside the manifest"},
    {"binary", "\"../qdot.aocx\"", "binary", "beside the manifest"},
    {"binary", "\"..\"", "binary", "is not a file"},
    {"binary", "\"nosuch.aocx\"", "binary", "nosuch.aocx: No such file"},
    {"binary", "\"qdot.json\"", "binary", "is no Intel binary"},
    {"binary", "[]", "binary", "must be a text"},
    {"sha256", "", "sha256", "is missing"},
    {"sha256", "\"\"", "sha256", "qdot fpga seal"},
    {"sha256", "\"0000000000000000000000000000000000000000000000000000000000000000\"", "sha256", "another hash"},
    {"sha256", "\"000000000000000000000000000000000000000000000000000000000000000g\"", "sha256", "64 hexadecimal"},
    {"sha256", "\"00\"", "sha256", "64 hexadecimal"},
    {"sha256", "\"00000000000000000000000000000000000000000000000000000000000000000\"", "sha256", "too long"},
    {"pe", "", "pe", "is missing"},
    {"pe", "0", "pe", "from 1 to 64"},
    {"pe", "65", "pe", "from 1 to 64"},
    {"pe", "4.5", "pe", "whole number"},
    {"pe", "1e300", "pe", "from 1 to 64"},
    {"pe", "1e999", "pe", "must be a number"},
    {"pe", "\"4\"", "pe", "must be a number"},
    {"pe", "8", "kernels[0].functions", "matmul_int_channels_8x16x8_u0_read"},
    {"pe", "=PE", "PE", "is not known"},
    {"pe", "+8", "pe", "twice"},
    {"vec", "", "vec", "is missing"},
    {"vec", "65", "vec", "from 16 to 64"},
    {"vec", "48", "vec", "16, 32 or 64"},
    {"vec", "32", "kernels[0].functions", "matmul_int_channels_4x32x8_u0_read"},
    {"tokens", "", "tokens", "is missing"},
    {"tokens", "-8", "tokens", "from 1 to 64"},
    {"tokens", "7", "kernels[0].functions", "matmul_int_channels_4x16x7_u0_read"},
    {"packing", "", "packing", "is missing"},
    {"packing", "\"int8x3\"", "packing", "int8x2"},
    {"packing", "true", "packing", "must be a text"},
    {"clock_mhz", "", "clock_mhz", "MHz"},
    {"clock_mhz", "-1", "clock_mhz", "MHz"},
    {"clock_mhz", "10001", "clock_mhz", "MHz"},
    {"clock_mhz", "\"480\"", "clock_mhz", "MHz"},
    {"autorun", "", "autorun", "is missing"},
    {"autorun", "1", "autorun", "must be true or false"},
    {"autorun", "true", "kernels[0].functions", "a compute unit of"},
    {"channel_depth", "", "channel_depth", "is missing"},
    {"channel_depth", "-1", "channel_depth", "from 0 to"},
    {"channel_depth", "2000000", "channel_depth", "from 0 to"},
    {"kernels", "", "kernels", "1 to 32"},
    {"kernels", "[]", "kernels", "1 to 32"},
    {"kernels", "{}", "kernels", "1 to 32"},
    {"kernels", "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", "kernels", "1 to 32"},
    {"kernels", "[7]", "kernels[0]", "must be an object"},
    {"kernels", "=kernel", "kernel", "is not known"},
    {"kernels[1].variant", "", "kernels[1].variant", "is missing"},
    {"kernels[1].variant", "3", "kernels[1].variant", "must be a text"},
    {"kernels[1].variant", "\"matmul_int\"", "kernels[1].variant", "no kernel for FPGAs"},
    {"kernels[1].variant", "\"conv_int_channel\"", "kernels[1].variant", "no kernel for FPGAs"},
    {"kernels[1].variant", "\"conv_int_single\"", "kernels[1].functions", "has 1"},
    {"kernels[1].variant", "\"matmul_int_channels\"", "kernels[1].variant", "twice"},
    {"kernels[1].variant", "\"a name that is longer than any kernel's name can ever be\"", "kernels[1].variant",
     "too long"},
    {"kernels[1].variant", "=variants", "kernels[1].variants", "is not known"},
    {"kernels[2].variant", "\"conv_int_channels\"", "kernels[2].variant", "twice"},
    {"kernels[2].variant", "+\"conv_int_single\"", "kernels[2].variant", "twice"},
    {"kernels[0].functions", "", "kernels[0].functions", "is missing"},
    {"kernels[0].functions", "\"matmul_int\"", "kernels[0].functions", "must be a list"},
    {"kernels[0].functions", "[]", "kernels[0].functions", "1 to 8 compute units"},
    {"kernels[0].functions", "[[],[],[],[],[],[],[],[],[]]", "kernels[0].functions", "1 to 8 compute units"},
    {"kernels[0].functions", "[7]", "kernels[0].functions", "has 4"},
    {"kernels[0].functions", "[[\"a\",\"b\",\"c\"]]", "kernels[0].functions", "has 4"},
    {"kernels[0].functions", "[[1,2,3,4]]", "kernels[0].functions", "matmul_int_channels_4x16x8_read"},
    {"kernels[0].functions", "=function", "kernels[0].function", "is not known"},
    {"kernels[2].functions", "[[\"table_single_4x16x8\"],[\"table_single_4x16x8\"]]", "kernels[2].functions",
     "only matrix products"},
    {"kernels[2].functions", "[[\"table_single_4x16x9\"]]", "kernels[2].functions", "table_single_4x16x8"},
    {"kernels[0].banks", "[]", "kernels[0].banks", "must be an object"},
    {"kernels[0].banks", "=bank", "kernels[0].bank", "is not known"},
    {"kernels[0].banks.v", "1", "kernels[0].banks.v", "no such operand"},
    {"kernels[0].banks.ias", "1", "kernels[0].banks.ias", "no such operand"},
    {"kernels[2].banks.w", "1", "kernels[2].banks.w", "no such operand"},
    {"kernels[0].banks.w", "64", "kernels[0].banks.w", "from 0 to 63"},
    {"kernels[0].banks.w", "-1", "kernels[0].banks.w", "from 0 to 63"},
    {"kernels[0].banks.w", "\"DDR1\"", "kernels[0].banks.w", "must be a number"},
    {"kernels[0].banks.x", "+3", "kernels[0].banks.x", "twice"},
    {"kernels[0].banks.y", "2", "kernels[0].banks.y", "one arena"},
    {"kernels[1].banks.x", "4", "kernels[1].banks.x", "one arena"},
    {"kernels[2].banks.y", "0", "kernels[2].banks.y", "one arena"},
};

/* The member that `where` names: its object, or list; `name` is its own name. */
static cJSON *object_of(cJSON *root, const char *where, char name[64]) {
    cJSON *o = root;
    for (const char *dot; (dot = strchr(where, '.')) != NULL; where = dot + 1) {
        int index;
        snprintf(name, 64, "%.*s", (int)strcspn(where, "[."), where);
        o = cJSON_GetObjectItemCaseSensitive(o, name);
        if (sscanf(where + strlen(name), "[%d]", &index) == 1) o = cJSON_GetArrayItem(o, index);
        ck_assert_ptr_nonnull(o);
    }
    snprintf(name, 64, "%s", where);
    return o;
}

static void edit(cJSON *root, const struct row *r) {
    char name[64];
    cJSON *o = object_of(root, r->where, name), *now = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!r->value[0]) {
        ck_assert_ptr_nonnull(now);
        cJSON_DeleteItemFromObjectCaseSensitive(o, name);
    } else if (r->value[0] == '=') {
        cJSON *taken = cJSON_DetachItemFromObjectCaseSensitive(o, name);
        ck_assert_ptr_nonnull(taken);
        cJSON_AddItemToObject(o, r->value + 1, taken);
    } else {
        cJSON *v = cJSON_Parse(r->value + (r->value[0] == '+'));
        ck_assert_ptr_nonnull(v);
        if (now && r->value[0] != '+') {
            cJSON_ReplaceItemInObjectCaseSensitive(o, name, v);
        } else {
            cJSON_AddItemToObject(o, name, v);
        }
    }
}

START_TEST(test_fields) {
    if (!have_opencl()) return;
    seal("intel", "emulator");
    static qd_fpga_manifest m;
    ck_ok(qd_fpga_read(path, &m));
    ck_assert_int_eq(m.n_kernels, 3);
    ck_assert_int_eq(m.kernels[0].units, 2);
    char *good = read_file(path);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char what[128];
        cJSON *root = cJSON_Parse(good);
        edit(root, &rows[i]);
        char *text = cJSON_Print(root);
        write_file(path, text, strlen(text));
        snprintf(what, sizeof what, "%s: %s", rows[i].where, rows[i].value);
        ck_refused("opencl", rows[i].field, rows[i].says, what);
        free(text);
        cJSON_Delete(root);
    }
    write_file(path, good, strlen(good));
    ck_ok(qd_fpga_read(path, &m));
    free(good);
}
END_TEST

/* Texts that are no JSON object, and every beginning of one that is. */
START_TEST(test_no_manifest) {
    static qd_fpga_manifest m;
    seal("intel", "emulator");
    char *good = read_file(path);
    static const char *const texts[] = {"", "{", "[]", "7", "null", "\"text\"", "not JSON", "{\"format\":1"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_file(path, texts[i], strlen(texts[i]));
        ck_refused(i < 2 ? "opencl" : NULL, "", "is no manifest", texts[i]);
    }
    for (size_t n = 0; n < strlen(good) - 1; n += 7) {
        write_file(path, good, n);
        ck_refused(NULL, "", "is no manifest", "a beginning");
    }
    const size_t whole = strlen(good);
    memcpy(good + whole, "}", 2);
    write_file(path, good, whole + 1);
    ck_refused(NULL, "", "is no manifest", "text after its end");
    memcpy(good + whole, " \r\n\t", 5);
    write_file(path, good, whole + 4);
    ck_ok(qd_fpga_read(path, &m));
    write_file(path, good, whole);
    free(good);
    remove(path);
    ck_fails(qd_fpga_read(path, &m), QD_ERR_IO, path);
    ck_fails(qd_fpga_read(folder, &m), QD_ERR_IO, "is not a file");
}
END_TEST

/* ---- Binaries ----------------------------------------------------------------------------------------------- */

START_TEST(test_binaries) {
    const char *vendor = _i ? "amd" : "intel";
    unsigned char data[FAKE];
    static qd_fpga_manifest m;
    seal(vendor, "emulator");
    ck_ok(qd_fpga_read(path, &m));
    fake_binary(vendor, data);
    data[FAKE - 1] ^= 1;
    write_file(binary, data, FAKE);
    ck_refused(NULL, "sha256", "another hash", "one bit");
    fake_binary(vendor, data);
    static const int lengths[] = {FAKE - 1, 312, 311, 64, 63, 8, 3, 0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const bool seen_by_kind = _i || lengths[i] < 64;
        write_file(binary, data, (size_t)lengths[i]);
        ck_refused(NULL, seen_by_kind ? "binary" : "sha256", "", "truncated");
        /* A fresh hash does not make it a binary. */
        if (seen_by_kind) ck_fails(qd_fpga_seal(path, &m), QD_ERR_FILE, "field \"binary\"");
    }
    data[0] ^= 1;
    write_file(binary, data, FAKE);
    ck_refused(NULL, "binary", _i ? "is no AMD binary" : "is no Intel binary", "another kind");
    fake_binary(_i ? "intel" : "amd", data);
    write_file(binary, data, FAKE);
    ck_refused(NULL, "binary", _i ? "is no AMD binary" : "is no Intel binary", "the other vendor's");
    ck_assert_int_eq(remove(binary), 0);
    ck_refused(NULL, "binary", "No such file", "no binary");
    fake_binary(vendor, data);
    write_file(binary, data, FAKE);
    ck_ok(qd_fpga_read(path, &m));
}
END_TEST

/* Boards: a device that the binary is not for never sees it; one that it is for refuses what is no program. */
START_TEST(test_boards) {
    static const char *const others[] = {"emulator", "a10gx", "xilinx_u250"};
    if (!have_opencl()) return;
    qd_context *c = NULL;
    ck_ok(qd_context_create("opencl", NULL, &c));
    char name[64];
    snprintf(name, sizeof name, "%.40s", qd_context_device(c)->name);
    qd_context_free(c);
    qd_context_options o = {.binary = path};
    for (int i = 0; i < 3; i++) {
        seal(i == 2 ? "amd" : "intel", others[i]);
        inject_clear();
        ck_fails(qd_context_create("opencl", &o, &c), QD_ERR_FILE, "field \"board\": the binary is for ");
        ck_assert_int_eq(inject_calls(FN_clCreateProgramWithBinary), 0);
        ck_assert_int_eq(inject_alive(), 0);
    }
    for (int i = 0; i < 2; i++) {
        seal(i ? "amd" : "intel", name);
        inject_clear();
        ck_fails(qd_context_create("opencl", &o, &c), QD_ERR_FILE, "field \"binary\": ");
        ck_assert_int_eq(inject_calls(FN_clCreateProgramWithBinary), 1);
        ck_assert_int_eq(inject_alive(), 0);
    }
    /* What the driver may say of it: a file that is wrong, or a device that is. */
    static const struct {
        cl_function fn;
        cl_int e;
        qd_status want;
    } drivers[] = {
        {FN_clCreateProgramWithBinary, CL_INVALID_BINARY, QD_ERR_FILE},
        {FN_clCreateProgramWithBinary, CL_DEVICE_NOT_AVAILABLE, QD_ERR_DEVICE_LOST},
        {FN_clCreateProgramWithBinary, CL_OUT_OF_HOST_MEMORY, QD_ERR_MEMORY},
        {FN_clCreateProgramWithBinary, CL_OUT_OF_RESOURCES, QD_ERR_DEVICE},
    };
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++) {
        inject_clear();
        inject_failure(drivers[i].fn, 0, drivers[i].e, false);
        ck_fails(qd_context_create("opencl", &o, &c), drivers[i].want, "");
        ck_assert(inject_happened());
        ck_assert_int_eq(inject_alive(), 0);
    }
}
END_TEST

/* ---- Plans -------------------------------------------------------------------------------------------------- */

START_TEST(test_plans) {
    static qd_fpga_manifest m;
    static const char *const none[] = {"matmul_int"}, *const channels[] = {"matmul_int_channels"};
    static const qd_fpga_shape good = {1, 4, 8, false, 1};
    ck_fails(qd_fpga_plan(NULL, "b", NULL, 0, &good, &m), QD_ERR_ARGUMENT, "vendor");
    ck_fails(qd_fpga_plan("xilinx", "b", NULL, 0, &good, &m), QD_ERR_ARGUMENT, "\"xilinx\"");
    ck_fails(qd_fpga_plan("intel", NULL, NULL, 0, &good, &m), QD_ERR_ARGUMENT, "board");
    ck_fails(qd_fpga_plan("intel", "", NULL, 0, &good, &m), QD_ERR_ARGUMENT, "board");
    ck_fails(qd_fpga_plan("intel", "b", none, 1, &good, &m), QD_ERR_ARGUMENT, "\"matmul_int\"");
    ck_fails(qd_fpga_plan("amd", "b", channels, 1, &good, &m), QD_ERR_ARGUMENT, "channels");
    static const qd_fpga_shape shapes[] = {{.pe = 4, .tokens = 8, .lanes = 1},
                                           {.units = 9, .pe = 4, .tokens = 8, .lanes = 1},
                                           {.units = 1, .tokens = 8, .lanes = 1},
                                           {.units = 1, .pe = 65, .tokens = 8, .lanes = 1},
                                           {.units = 1, .pe = 4, .lanes = 1},
                                           {.units = 1, .pe = 4, .tokens = 65, .lanes = 1},
                                           {.units = 1, .pe = 4, .tokens = 8, .lanes = 3}};
    const int count = sizeof shapes / sizeof shapes[0];
    for (int i = 0; i < count; i++)
        ck_fails(qd_fpga_plan("intel", "b", NULL, 0, &shapes[i], &m), QD_ERR_ARGUMENT, "possible");
    for (int i = 0; i < 2; i++) {
        ck_ok(qd_fpga_plan(i ? "amd" : "intel", "b", NULL, 0, &(qd_fpga_shape){8, 64, 64, false, 4}, &m));
        ck_assert_int_eq(m.n_kernels, 6);
        for (int k = 0; k < m.n_kernels; k++)
            ck_assert_int_eq(m.kernels[k].stages, i || !strncmp(m.kernels[k].variant, "table", 5) ? 1 : 4);
    }
    ck_assert(qd_fpga_has_operand("matmul_int_single", "w_zero"));
    ck_assert(!qd_fpga_has_operand("matmul_int_single", "zero"));
    ck_assert(!qd_fpga_has_operand("nosuch", "w"));
}
END_TEST

/* ---- Writing, and memory ------------------------------------------------------------------------------------ */

/* A disk that is full: what stood there stays, and nothing else is left. */
START_TEST(test_full_disk) {
    static qd_fpga_manifest m, other;
    seal("intel", "emulator");
    ck_ok(qd_fpga_read(path, &m));
    char *good = read_file(path);
    const int files = files_in_folder();
    struct rlimit limit, full;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    full = limit;
    full.rlim_cur = 100;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
    m.pe = 8;
    char message[512];
    const qd_status status = qd_fpga_write(&m, path);
    snprintf(message, sizeof message, "%s", qd_last_message());
    const qd_status sealed = qd_fpga_seal(path, &other);
    char options[256], source[160];
    snprintf(source, sizeof source, "%s/table.cl", folder);
    const qd_status from_kernel = qd_fpga_source(&m, 2, 0, source, options);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(status, QD_ERR_IO);
    ck_assert_msg(strstr(message, path) && strstr(message, "File too large"), "%s", message);
    ck_assert_int_eq(sealed, QD_ERR_IO);
    ck_assert_int_eq(from_kernel, QD_ERR_IO);
    ck_assert_int_eq(files_in_folder(), files);
    char *now = read_file(path);
    ck_assert_str_eq(now, good);
    free(now);
    free(good);
    ck_ok(qd_fpga_read(path, &m));
}
END_TEST

START_TEST(test_bad_places) {
    static qd_fpga_manifest m;
    char inside[300], far[900];
    seal("intel", "emulator");
    ck_ok(qd_fpga_read(path, &m));
    snprintf(inside, sizeof inside, "%s/nosuch/qdot.json", folder);
    ck_fails(qd_fpga_write(&m, inside), QD_ERR_IO, "No such file");
    snprintf(inside, sizeof inside, "%s/qdot.json", path);
    ck_fails(qd_fpga_write(&m, inside), QD_ERR_IO, "Not a directory");
    ck_fails(qd_fpga_write(&m, folder), QD_ERR_IO, folder);
    memset(far, 'a', sizeof far);
    memcpy(far, "/tmp/", 5);
    far[sizeof far - 1] = 0;
    ck_fails(qd_fpga_write(&m, far), QD_ERR_IO, "too long");
    ck_assert_int_eq(files_in_folder(), 2);
}
END_TEST

/* Each allocation of reading, sealing and opening. */
START_TEST(test_memory) {
    static qd_fpga_manifest m, before;
    if (!have_opencl()) return;
    seal("intel", "emulator");
    for (int what = 0; what < 3; what++) {
        qd_status status = QD_ERR_MEMORY;
        for (long n = 0; status == QD_ERR_MEMORY; n++) {
            const qd_context_options o = {.binary = path};
            qd_context *c = NULL;
            memset(&m, 0x77, sizeof m);
            before = m;
            qd_alloc_fail_after(n);
            qd_fail(QD_OK, "no message");
            status = what == 0   ? qd_fpga_read(path, &m)
                     : what == 1 ? qd_fpga_seal(path, &m)
                                 : qd_context_create("opencl", &o, &c);
            qd_alloc_fail_after(-1);
            ck_assert_ptr_null(c);
            ck_assert_str_ne(qd_last_message(), status ? "no message" : "");
            if (status && !what) ck_assert_mem_eq(&m, &before, sizeof m);
            ck_assert_int_lt(n, 200);
            ck_assert_int_eq(inject_alive(), 0);
        }
        ck_assert_int_eq(status, what == 2 ? QD_ERR_FILE : QD_OK); /* for another board */
    }
    ck_ok(qd_fpga_read(path, &m));
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("manifest");
    tcase_add_checked_fixture(tc, make_folder, remove_folder);
    tcase_add_test(tc, test_fields);
    tcase_add_test(tc, test_no_manifest);
    tcase_add_loop_test(tc, test_binaries, 0, 2);
    tcase_add_test(tc, test_boards);
    tcase_add_test(tc, test_plans);
    tcase_add_test(tc, test_full_disk);
    tcase_add_test(tc, test_bad_places);
    tcase_add_test(tc, test_memory);
    return run_tests(tc, "manifest");
}
