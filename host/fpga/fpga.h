/* What the OpenCL backend needs of a manifest. */
#ifndef QDOT_FPGA_FPGA_H
#define QDOT_FPGA_FPGA_H

#include "qdot/qdot_backend.h"
#include "qdot/qdot_fpga.h"

/** A kernel variant of kernels_cl/fpga. */
typedef struct qd_fpga_variant {
    const char *name, *op, *in0, *file, *options;
    const char *operands; /* of the operator's row */
    bool channels;
} qd_fpga_variant;

/** The variant of that name; NULL: there is none for FPGAs. */
const qd_fpga_variant *qd_fpga_variant_find(const char *name);
/** The kernel of a manifest that is this variant; NULL: it has none. */
const qd_fpga_kernel *qd_fpga_kernel_find(const qd_fpga_manifest *m, const char *variant);
/** What precedes the stage in the names of a compute unit's functions: the variant, the array's shape, the unit. */
void qd_fpga_unit_name(const qd_fpga_manifest *m, const qd_fpga_kernel *k, int unit, char name[64]);
/** Sets a kernel's stages and functions, for its variant and units. */
void qd_fpga_name_functions(const qd_fpga_manifest *m, qd_fpga_kernel *k);
/** "_read", … of a stage among so many; "" of a single one. */
const char *qd_fpga_stage_name(int stages, int stage);
/** Bank of an operand; -1: the manifest names none. */
int qd_fpga_bank_of(const qd_fpga_kernel *k, const char *operand);
/** The same of an operator's input, by its place. */
int qd_fpga_bank_of_input(const qd_fpga_kernel *k, int input);
/** Bank of the arena, of any kernel's y; -1: not named. */
int qd_fpga_arena_bank(const qd_fpga_manifest *m);

/** Reads a manifest from memory; messages call it `path`. `sealed`: the binary's hash must be there. Of the binary
 * itself nothing is checked. QD_ERR_FILE names the field that is wrong; *m is then undefined. */
qd_status qd_fpga_parse(const char *path, const char *text, size_t bytes, bool sealed, qd_fpga_manifest *m);
/** "weights.aocx" beside the manifest. */
void qd_fpga_binary_path(const qd_fpga_manifest *m, const char *path, char *out, size_t capacity);
/** A whole file, to be freed; QD_ERR_IO names it. */
qd_status qd_fpga_read_file(const char *path, unsigned char **data, size_t *bytes);
/** Writes it beside what stands there, then renames; QD_ERR_IO names it. */
qd_status qd_fpga_write_file(const char *path, const void *data, size_t bytes);

#endif
