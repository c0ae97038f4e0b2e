/* Precompiled binaries for FPGA cards: a manifest in JSON says what is in one, and how it was made.
 *
 * A context opened with options.binary (or $QDOT_FPGA_BINARY) takes all kernels from the binary that the manifest
 * names. */
#ifndef QDOT_FPGA_H
#define QDOT_FPGA_H

#include "qdot/qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QD_FPGA_KERNELS = 32, QD_FPGA_UNITS = 8, QD_FPGA_STAGES = 4, QD_FPGA_BANKS = 12 };

/** A memory bank that holds an operand. Everything but weights and tables lies in one arena, so in one bank. */
typedef struct qd_fpga_bank {
    char operand[24]; /* as in qdot_ops.def */
    int bank;
} qd_fpga_bank;

/** A kernel variant in a binary. */
typedef struct qd_fpga_kernel {
    char variant[48]; /* name in kernels.def */
    int units;        /* compute units: output channels are shared out */
    int stages;       /* functions of each: 1, or 4 joined by channels, of which an array that runs by itself is none */
    char functions[QD_FPGA_UNITS][QD_FPGA_STAGES][64];
    qd_fpga_bank banks[QD_FPGA_BANKS];
    int n_banks;
} qd_fpga_kernel;

typedef struct qd_fpga_manifest {
    char vendor[16];     /* "intel", "amd" */
    char board[64];      /* part of the OpenCL device's name; "emulator": Intel's emulator */
    char binary[256];    /* file name, beside the manifest */
    char sha256[65];     /* of that file, hexadecimal; empty: it is not built yet */
    int pe, vec, tokens; /* the array's shape, see kernels_cl/fpga/turns.h */
    char packing[16];    /* products in a DSP: "none", "int8x2", "int4x4" (hls/pack.h) */
    double clock_mhz;    /* 0: not known */
    bool autorun;        /* arrays start with the device, and are not launched */
    int channel_depth;   /* words that every channel holds; 0: as in the source. Only emulators need more */
    qd_fpga_kernel kernels[QD_FPGA_KERNELS];
    int n_kernels;
} qd_fpga_manifest;

/** How a binary's kernels are to be built. */
typedef struct qd_fpga_shape {
    int units;      /* compute units of the matrix products */
    int pe, tokens; /* of the array */
    bool autorun;
    int lanes; /* of 16 products: 1, 2, 4 */
} qd_fpga_shape;

/** What a manifest for these variants says, before anything is built: NULL, 0: all that are for FPGAs. vendor "intel"
 * takes those with channels where there are some, "amd" those without. Errors name the variant that does not exist. */
QD_API qd_status qd_fpga_plan(const char *vendor, const char *board, const char *const variants[], int n,
                              const qd_fpga_shape *shape, qd_fpga_manifest *out);
/** Whether the operator of a variant has an operand of that name. */
QD_API bool qd_fpga_has_operand(const char *variant, const char *operand);
/** Reads a manifest and checks all that can be checked without a device: every field, and the binary's hash and kind.
 *  Errors: QD_ERR_FILE names the field that is wrong; QD_ERR_IO when a file cannot be read. */
QD_API qd_status qd_fpga_read(const char *path, qd_fpga_manifest *out);
/** Writes it beside what stands there, then renames. */
QD_API qd_status qd_fpga_write(const qd_fpga_manifest *m, const char *path);
/** Reads a manifest whose binary has been built, and writes it with the hash of the binary as it is now. */
QD_API qd_status qd_fpga_seal(const char *path, qd_fpga_manifest *out);
/** Writes the OpenCL C of a kernel to a file that includes nothing; `options` (256 bytes) are those of its compute
 * unit.
 */
QD_API qd_status qd_fpga_source(const qd_fpga_manifest *m, int kernel, int unit, const char *path, char *options);
/** Builds the binary with the compiler of the context's OpenCL device (an emulator has one), writes it beside `path`
 * and the sealed manifest to `path`. */
QD_API qd_status qd_fpga_build(qd_context *c, const qd_fpga_manifest *m, const char *path);

#ifdef __cplusplus
}
#endif
#endif
