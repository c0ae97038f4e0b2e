/* Ways of doing a class of problems: what a device was told to use, and what else it could. See qdot/qdot_tuning.h. */
#ifndef QDOT_CL_TUNING_H
#define QDOT_CL_TUNING_H

#include "opencl/cl_internal.h"
#include "qdot/qdot_tuning.h"

/** Problems that have a way in common. */
typedef struct cl_class {
    qd_op op;
    qd_format in0, in1; /* QD_FORMAT_COUNT: absent */
    int rows;           /* 0 … QD_TUNING_ROWS - 1 */
    bool large;
} cl_class;

/** The way that a class was told to go. */
typedef struct cl_choice {
    cl_class of;
    int base;    /* row of kernels.def */
    int variant; /* of the device, with the options in its build; -1: not asked for yet */
    int groups;
    char options[96];
} cl_choice;

enum { CL_MOST_CHOICES = 1024, CL_MOST_GROUPS = 256 };

/** A row of tuned.def. */
typedef enum cl_tuned_weights { CL_TUNED_SMALL, CL_TUNED_LARGE, CL_TUNED_ANY } cl_tuned_weights;
typedef struct cl_tuned_row {
    const char *variant; /* of kernels.def; NULL: the end of the table */
    int rows;            /* least number of a class */
    cl_tuned_weights weights;
    int groups;
    const char *options;
} cl_tuned_row;
/** The table. Tests put another in its place. */
extern const cl_tuned_row *cl_tuned_rows;

/* ---- cl_tuning.c -------------------------------------------------------------------------------------------- */

/** False for what was written for other kinds of devices. */
bool cl_variant_at_home(const cl_device_state *d, const cl_variant *v);
/** The class of a node's runs of so many rows. */
cl_class cl_class_of(const qd_node *n, int64_t rows);
/** Checks the words of tunables.def that `file` has: each "NAME=VALUE" of a row, none twice. */
bool cl_options_valid(const char *file, const char *options);
/** The device's variant of a row of kernels.def with these options in its build, made when it is not there yet. */
qd_status cl_variant_with(cl_device_state *d, int base, const char *options, int *out);
/** What a variant has beyond its row: "NAME=VALUE" words; "": nothing. */
void cl_own_options(const cl_device_state *d, int variant, char *out, size_t capacity);
/** What the class was told to use; NULL: nothing. */
cl_choice *cl_choice_find(cl_device_state *d, const cl_class *of);
/** Variant and groups of a row of kernels.def for a class, as tuned.def has them. */
qd_status cl_tuned(cl_device_state *d, int base, const cl_class *of, int *variant, int *groups);
/** The backend's `ways` and `choose`. */
qd_status cl_ways(void *device, const qd_node *n, qd_tuning_way **out, int *count);
qd_status cl_choose(void *device, const qd_node *n, const qd_tuning_way *way);
void cl_tuning_close(cl_device_state *d);

/* ---- cl_tuning_file.c --------------------------------------------------------------------------------------- */

enum { CL_TUNING_LINE = 256, CL_TUNING_BYTES = 1 << 20 };

/** Reads the text of a tuning file. `key`: the device's, NULL: not asked for. *out is an array of *count to be freed.
 *  QD_ERR_FILE: the message says which line is wrong, or that the file is of another device or build. */
qd_status cl_tuning_parse(const char *text, size_t size, const char *key, cl_choice **out, int *count);
/** Finds the device's file and takes its choices; one that cannot be used is told in the log, and left alone. */
qd_status cl_tuning_open(cl_device_state *d);
/** The backend's `tuning_write` and `tuning`. */
qd_status cl_tuning_write(void *device, const char *path);
void cl_tuning_describe(void *device, qd_tuning_info *out);

#endif
