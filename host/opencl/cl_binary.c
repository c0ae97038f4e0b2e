/* Precompiled binaries: kernels that are taken from a file, not compiled. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fpga/fpga.h"
#include "opencl/cl_internal.h"

/* ---- Use ---------------------------------------------------------------------------------------------------- */

/* A binary for another board is refused before the device sees it. */
static qd_status check_board(const cl_device_state *d, const char *path) {
    const qd_fpga_manifest *m = &d->binary->manifest;
    const bool fits = strcmp(m->board, "emulator") == 0 ? cl_is_emulator(d) : strstr(d->info.name, m->board) != NULL;
    if (fits) return QD_OK;
    return qd_fail(QD_ERR_FILE, "%s: field \"board\": the binary is for %s, but the device is %s", path, m->board,
                   d->info.name);
}

/* All functions that the manifest names must be in the program. */
static qd_status check_functions(cl_device_state *d, const char *path) {
    const qd_fpga_manifest *m = &d->binary->manifest;
    for (int i = 0; i < m->n_kernels; i++) {
        const qd_fpga_kernel *k = &m->kernels[i];
        for (int u = 0; u < k->units; u++) {
            for (int s = 0; s < k->stages; s++) {
                cl_int e;
                const cl_kernel kernel = clCreateKernel(d->binary->program, k->functions[u][s], &e);
                if (e == CL_SUCCESS) {
                    clReleaseKernel(kernel);
                    continue;
                }
                if (e != CL_INVALID_KERNEL_NAME) return cl_fail(d, e, "looking for a function in the binary");
                return qd_fail(QD_ERR_FILE, "%s: field \"kernels[%d].functions\": %s is not in the binary", path, i,
                               k->functions[u][s]);
            }
        }
    }
    return QD_OK;
}

qd_status cl_binary_open(cl_device_state *d, const char *path) {
    char file[600];
    unsigned char *data = NULL;
    size_t bytes = 0;
    cl_int e, valid = CL_SUCCESS;
    d->binary = qd_alloc_zero(1, sizeof *d->binary);
    if (!d->binary) return QD_ERR_MEMORY;
    qd_status status = QD_OK;
    QD_TRY(qd_fpga_read(path, &d->binary->manifest));
    QD_TRY(check_board(d, path));
    qd_fpga_binary_path(&d->binary->manifest, path, file, sizeof file);
    QD_TRY(qd_fpga_read_file(file, &data, &bytes));
    const unsigned char *binary = data;
    d->binary->program = clCreateProgramWithBinary(d->context, 1, &d->id, &bytes, &binary, &valid, &e);
    if (e == CL_SUCCESS) e = clBuildProgram(d->binary->program, 1, &d->id, NULL, NULL, NULL);
    if (e == CL_INVALID_BINARY || e == CL_BUILD_PROGRAM_FAILURE || e == CL_INVALID_VALUE) {
        status = qd_fail(QD_ERR_FILE, "%s: field \"binary\": %s does not take it as a program (%s)", path, d->info.name,
                         cl_error_name(e));
        goto error;
    }
    CL_TRY(d, e, "loading a binary");
    QD_TRY(check_functions(d, path));
    d->deep_channels = d->binary->manifest.channel_depth >= CL_DEEP_CHANNEL;
error:
    free(data);
    return status;
}

void cl_binary_close(cl_device_state *d) {
    if (d->binary && d->binary->program) clReleaseProgram(d->binary->program);
    free(d->binary);
    d->binary = NULL;
}

bool cl_binary_take(cl_device_state *d, const cl_variant *v, cl_proof *proof) {
    if (!qd_fpga_kernel_find(&d->binary->manifest, v->name)) {
        snprintf(proof->why, sizeof proof->why, "it is not in the binary %.200s", d->binary->manifest.binary);
        return false;
    }
    clRetainProgram(d->binary->program);
    proof->program = d->binary->program;
    return true;
}

int cl_variant_stages(const cl_device_state *d, const cl_variant *v) {
    const qd_fpga_kernel *k = d->binary ? qd_fpga_kernel_find(&d->binary->manifest, v->name) : NULL;
    return k ? k->stages : v->needs == CL_NEEDS_CHANNELS ? CL_STAGES : 1;
}

int cl_variant_units(const cl_device_state *d, const cl_variant *v) {
    const qd_fpga_kernel *k = d->binary ? qd_fpga_kernel_find(&d->binary->manifest, v->name) : NULL;
    return k ? k->units : 1;
}

void cl_stage_name(const cl_device_state *d, const cl_variant *v, int unit, int stage, char name[64]) {
    const qd_fpga_kernel *k = d->binary ? qd_fpga_kernel_find(&d->binary->manifest, v->name) : NULL;
    if (k) {
        snprintf(name, 64, "%s", k->functions[unit][stage]);
    } else {
        snprintf(name, 64, "%s%s", qd_op_get(v->op)->name, qd_fpga_stage_name(cl_variant_stages(d, v), stage));
    }
}

/* ---- Banks -------------------------------------------------------------------------------------------------- */

int cl_bank_of(const cl_device_state *d, const cl_variant *v, int input) {
    const qd_fpga_kernel *k = d->binary ? qd_fpga_kernel_find(&d->binary->manifest, v->name) : NULL;
    return k ? qd_fpga_bank_of_input(k, input) : CL_ANY_BANK;
}

int cl_arena_bank(const cl_device_state *d) {
    return d->binary ? qd_fpga_arena_bank(&d->binary->manifest) : CL_ANY_BANK;
}

/* Intel numbers banks from 1 in flags from bit 16 on (CL_CHANNEL_1_INTELFPGA …). AMD takes a struct in the host
 * pointer's place (CL_MEM_EXT_PTR_XILINX), whose flags are the bank's number in the card's topology (XCL_MEM_TOPOLOGY).
 */
cl_mem cl_bank_buffer(const cl_device_state *d, int bank, size_t bytes, cl_int *e) {
    struct {
        unsigned flags;
        void *host, *kernel;
    } amd = {(unsigned)bank | 1u << 31, NULL, NULL};
    if (bank == CL_ANY_BANK) return clCreateBuffer(d->context, CL_MEM_READ_WRITE, bytes, NULL, e);
    if (!strcmp(d->binary->manifest.vendor, "intel")) {
        return clCreateBuffer(d->context, CL_MEM_READ_WRITE | (cl_mem_flags)(bank + 1) << 16, bytes, NULL, e);
    }
    return clCreateBuffer(d->context, CL_MEM_READ_WRITE | (cl_mem_flags)1 << 31, bytes, &amd, e);
}

/* ---- Making ------------------------------------------------------------------------------------------------- */

static void unit_options(const qd_fpga_manifest *m, const qd_fpga_kernel *k, int unit, char *options) {
    char name[64];
    qd_fpga_unit_name(m, k, unit, name);
    snprintf(options, 256, "-DQD_UNIT=%s -DQD_PE=%d -DQD_LANES=%d -DQD_TOKENS=%d%s", name, m->pe, m->vec / 16,
             m->tokens, m->autorun ? " -DQD_AUTORUN" : "");
}

qd_status qd_fpga_source(const qd_fpga_manifest *m, int kernel, int unit, const char *path, char *options) {
    char *source;
    const qd_fpga_kernel *k = &m->kernels[kernel];
    qd_status status = cl_program_source(qd_fpga_variant_find(k->variant)->file, &source);
    if (status) return status;
    status = qd_fpga_write_file(path, source, strlen(source));
    free(source);
    char own[256];
    unit_options(m, k, unit, own);
    snprintf(options, 256, "%.60s %.190s", qd_fpga_variant_find(k->variant)->options, own);
    return status;
}

static const cl_variant *variant_named(const char *name) {
    int i = 0;
    while (strcmp(cl_variants[i].name, name) != 0) /* the manifest names none that does not exist */
        i++;
    return &cl_variants[i];
}

/* Compiles each unit for itself, and links them. */
static qd_status build(cl_device_state *d, const qd_fpga_manifest *m, cl_program *out) {
    enum { MOST = QD_FPGA_KERNELS * QD_FPGA_UNITS };
    cl_program *parts = qd_alloc_zero(MOST, sizeof(cl_program));
    cl_int e;
    int n = 0;
    qd_status status = parts ? QD_OK : QD_ERR_MEMORY;
    for (int i = 0; !status && i < m->n_kernels; i++) {
        const qd_fpga_kernel *k = &m->kernels[i];
        for (int u = 0; !status && u < k->units; u++) {
            char options[256];
            unit_options(m, k, u, options);
            if (d->options.log) d->options.log(d->options.log_user, k->functions[u][0]);
            status = cl_program_compile(d, variant_named(k->variant), options, NULL, &parts[n]);
            n += !status;
        }
    }
    if (!status) {
        *out = clLinkProgram(d->context, 1, &d->id, "", (cl_uint)n, parts, NULL, NULL, &e);
        if (e != CL_SUCCESS) status = cl_fail(d, e, "linking a binary");
    }
    for (int i = 0; i < n; i++)
        clReleaseProgram(parts[i]);
    free(parts);
    return status;
}

qd_status cl_binary_build(void *device, const qd_fpga_manifest *m, const char *path) {
    cl_device_state *d = device;
    char file[600];
    cl_program program = NULL;
    unsigned char *binary = NULL;
    size_t bytes = 0;
    qd_status status = QD_OK;
    qd_fpga_manifest *sealed = qd_alloc(sizeof *sealed);
    if (!sealed) return QD_ERR_MEMORY;
    *sealed = *m;
    sealed->sha256[0] = 0;
    sealed->channel_depth = d->deep_channels ? CL_DEEP_CHANNEL : 0;
    QD_TRY(build(d, m, &program));
    binary = cl_program_binary(program, &bytes);
    if (!binary) {
        status = qd_fail(QD_ERR_UNSUPPORTED, "%s gives no binary of a program", d->info.name);
        goto error;
    }
    qd_fpga_binary_path(m, path, file, sizeof file);
    QD_TRY(qd_fpga_write_file(file, binary, bytes));
    QD_TRY(qd_fpga_write(sealed, path));
    QD_TRY(qd_fpga_seal(path, sealed));
error:
    free(sealed);
    free(binary);
    if (program) clReleaseProgram(program);
    return status;
}
