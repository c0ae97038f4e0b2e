/* The kernels that a binary may hold, and their names in it. */
#include <stdio.h>
#include <string.h>

#include "core/status.h"
#include "fpga/fpga.h"

enum {
    NEEDS_NONE,
    NEEDS_X86_AVX2,
    NEEDS_X86_AVX512_VNNI,
    NEEDS_X86_AMX,
    NEEDS_VECTORS,
    NEEDS_FP16,
    NEEDS_SUBGROUPS,
    NEEDS_INTEGER_DOT,
    NEEDS_NV_DP4A,
    NEEDS_SUBGROUPS_DOT,
    NEEDS_CHANNELS
};

/* Operands of each operator. */
#define QD_OP(name, lower, min_in, max_in, n_out, member, operands) static const char operands_##name[] = operands;
#include "qdot/qdot_ops.def"

static const qd_fpga_variant rows[] = {
#define QD_KERNEL(name, op, in0, in1, out, file, options, needs, layout, groups) \
    {#name, #op, #in0, file, options, operands_##op, NEEDS_##needs == NEEDS_CHANNELS},
#include "kernels_cl/kernels.def"
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static bool is_fpga(const qd_fpga_variant *v) {
    return !strncmp(v->file, "fpga/", 5);
}

const qd_fpga_variant *qd_fpga_variant_find(const char *name) {
    for (int i = 0; i < ROWS; i++) {
        if (is_fpga(&rows[i]) && !strcmp(rows[i].name, name)) return &rows[i];
    }
    return NULL;
}

bool qd_fpga_has_operand(const char *variant, const char *operand) {
    const qd_fpga_variant *v = qd_fpga_variant_find(variant);
    const size_t n = strlen(operand);
    for (const char *p = v ? v->operands : NULL; p && n && (p = strstr(p, operand)); p++) {
        if (p[n] == ':' && (p == v->operands || p[-1] == ' ' || p[-1] == '(')) return true;
    }
    return false;
}

const qd_fpga_kernel *qd_fpga_kernel_find(const qd_fpga_manifest *m, const char *variant) {
    for (int i = 0; i < m->n_kernels; i++) {
        if (!strcmp(m->kernels[i].variant, variant)) return &m->kernels[i];
    }
    return NULL;
}

void qd_fpga_unit_name(const qd_fpga_manifest *m, const qd_fpga_kernel *k, int unit, char name[64]) {
    char number[16] = "";
    if (k->units > 1) snprintf(number, sizeof number, "_u%d", unit);
    snprintf(name, 64, "%.36s_%dx%dx%d%s", k->variant, m->pe, m->vec, m->tokens, number);
}

/* An array that runs by itself is not launched. */
const char *qd_fpga_stage_name(int stages, int stage) {
    static const char *const all[QD_FPGA_STAGES] = {"_read", "_array", "_finish", "_write"};
    if (stages == 1) return "";
    return all[stages < QD_FPGA_STAGES && stage ? stage + 1 : stage];
}

void qd_fpga_name_functions(const qd_fpga_manifest *m, qd_fpga_kernel *k) {
    const bool channels = qd_fpga_variant_find(k->variant)->channels;
    k->stages = !channels ? 1 : m->autorun ? QD_FPGA_STAGES - 1 : QD_FPGA_STAGES;
    for (int u = 0; u < k->units; u++) {
        char name[64];
        qd_fpga_unit_name(m, k, u, name);
        for (int s = 0; s < k->stages; s++)
            snprintf(k->functions[u][s], sizeof k->functions[u][s], "%.55s%s", name, qd_fpga_stage_name(k->stages, s));
    }
}

int qd_fpga_bank_of(const qd_fpga_kernel *k, const char *operand) {
    for (int i = 0; i < k->n_banks; i++) {
        if (!strcmp(k->banks[i].operand, operand)) return k->banks[i].bank;
    }
    return -1;
}

/* Inputs stand in the row up to "->", each as its name and a colon. */
int qd_fpga_bank_of_input(const qd_fpga_kernel *k, int input) {
    const char *row = qd_fpga_variant_find(k->variant)->operands, *name = row;
    for (const char *p = row; *p && strncmp(p, "->", 2) != 0; p++) {
        if (*p == ' ' || *p == '(') name = p + 1;
        if (*p != ':' || input-- > 0) continue;
        char text[24];
        snprintf(text, sizeof text, "%.*s", (int)(p - name), name);
        return qd_fpga_bank_of(k, text);
    }
    return -1;
}

int qd_fpga_arena_bank(const qd_fpga_manifest *m) {
    for (int i = 0; i < m->n_kernels; i++) {
        const int bank = qd_fpga_bank_of(&m->kernels[i], "y");
        if (bank >= 0) return bank;
    }
    return -1;
}

/* ---- Plans -------------------------------------------------------------------------------------------------- */

/* Whether there is another form of the variant, with channels. */
static bool has_channels_form(const qd_fpga_variant *v) {
    for (int i = 0; i < ROWS; i++) {
        if (is_fpga(&rows[i]) && rows[i].channels && !strcmp(rows[i].op, v->op) && !strcmp(rows[i].in0, v->in0))
            return true;
    }
    return false;
}

static qd_status add_kernel(const qd_fpga_variant *v, int units, qd_fpga_manifest *out) {
    if (out->n_kernels == QD_FPGA_KERNELS) {
        return qd_fail(QD_ERR_LIMIT, "a binary holds at most %d kernels", QD_FPGA_KERNELS);
    }
    qd_fpga_kernel *k = &out->kernels[out->n_kernels++];
    snprintf(k->variant, sizeof k->variant, "%s", v->name);
    /* Compute units share out the output channels of a matrix product. */
    k->units = strncmp(v->op, "MATMUL", 6) == 0 ? units : 1;
    qd_fpga_name_functions(out, k);
    return QD_OK;
}

qd_status qd_fpga_plan(const char *vendor, const char *board, const char *const variants[], int n,
                       const qd_fpga_shape *shape, qd_fpga_manifest *out) {
    const int units = shape->units, pe = shape->pe, tokens = shape->tokens;
    memset(out, 0, sizeof *out);
    const bool intel = vendor && !strcmp(vendor, "intel");
    if (!intel && (!vendor || strcmp(vendor, "amd"))) {
        return qd_fail(QD_ERR_ARGUMENT, "vendor \"%s\": known are intel and amd", vendor ? vendor : "");
    }
    if (!board || !*board || strlen(board) >= sizeof out->board) {
        return qd_fail(QD_ERR_ARGUMENT, "a binary is for one board: give its name, or \"emulator\"");
    }
    if (units < 1 || units > QD_FPGA_UNITS) {
        return qd_fail(QD_ERR_ARGUMENT, "%d compute units: 1 to %d are possible", units, QD_FPGA_UNITS);
    }
    if (shape->lanes != 1 && shape->lanes != 2 && shape->lanes != 4) {
        return qd_fail(QD_ERR_ARGUMENT, "%d lanes of 16 products: 1, 2 and 4 are possible", shape->lanes);
    }
    if (pe < 1 || pe > 64 || tokens < 1 || tokens > 64) {
        return qd_fail(QD_ERR_ARGUMENT, "an array of %d channels by %d columns: 1 to 64 each are possible", pe, tokens);
    }
    snprintf(out->vendor, sizeof out->vendor, "%s", vendor);
    snprintf(out->board, sizeof out->board, "%s", board);
    snprintf(out->binary, sizeof out->binary, "qdot.%s", intel ? "aocx" : "xclbin");
    snprintf(out->packing, sizeof out->packing, "none");
    out->pe = pe, out->vec = 16 * shape->lanes, out->tokens = tokens;
    out->autorun = intel && shape->autorun;
    for (int i = 0; i < n; i++) {
        const qd_fpga_variant *v = qd_fpga_variant_find(variants[i]);
        if (!v) return qd_fail(QD_ERR_ARGUMENT, "no kernel for FPGAs is called \"%s\"", variants[i]);
        if (v->channels && !intel) {
            return qd_fail(QD_ERR_ARGUMENT,
                           "%s needs channels, which Intel's compiler has; AMD's takes the form without", v->name);
        }
        const qd_status status = add_kernel(v, units, out);
        if (status) return status;
    }
    for (int i = 0; !n && i < ROWS; i++) {
        if (!is_fpga(&rows[i]) || rows[i].channels != (intel && has_channels_form(&rows[i]))) continue;
        const qd_status status = add_kernel(&rows[i], units, out);
        if (status) return status;
    }
    return QD_OK;
}
