/* What the files behind `qdot convert` share. */
#ifndef QDOT_CLI_CONVERT_H
#define QDOT_CLI_CONVERT_H

#include "cli/cli.h"
#include "qdot/qdot_packing.h"
#include "qdot/qdot_safetensors.h"

typedef struct qd_cli_convert {
    const char *input, *output;
    bool has_format, has_layout, has_order;
    qd_storage format;        /* of layers that become matrices, and of matrices that become layers */
    qd_grouped_layout layout; /* of layers in a safetensors file */
    qd_packing from, to;      /* order of codes in the tensors that `regex` matches */
    int bits;
    const char *pattern;
    int threads;
    cJSON *report; /* an array: an object for each tensor */
} qd_cli_convert;

/** The three ways; they print their messages themselves and return false. */
bool qd_cli_convert_to_gguf(qd_cli_convert *c);
bool qd_cli_convert_from_gguf(qd_cli_convert *c);
bool qd_cli_convert_packed(qd_cli_convert *c);

/** Finds the layers of a file: the name without ".qweight", or false. */
bool qd_cli_layer_name(const qd_safetensor *t, char base[256]);
/** True for what belongs to a layer and is written with it. */
bool qd_cli_layer_part(const qd_safetensors *s, const qd_safetensor *t);

/** Adds an object about one tensor; `was` and `is`: what it is stored in; `is` NULL: left out. loss may be NULL: the
 * same numbers. */
void qd_cli_convert_tell(qd_cli_convert *c, const char *name, const char *was, const char *is, const qd_loss *loss);

#endif
