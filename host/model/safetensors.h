/* What the reader and the writer of safetensors files share. */
#ifndef QDOT_MODEL_SAFETENSORS_H
#define QDOT_MODEL_SAFETENSORS_H

#include "qdot/qdot_safetensors.h"

/** Bytes of an element; 0 for a type that is not known. */
size_t qd_safetensors_type_bytes(const char *type);

#endif
