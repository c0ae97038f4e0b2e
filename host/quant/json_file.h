/* Files of JSON, written whole or not at all. */
#ifndef QDOT_QUANT_JSON_FILE_H
#define QDOT_QUANT_JSON_FILE_H

#include <cjson/cJSON.h>

#include "qdot/qdot.h"

/** QD_ERR_FILE: what stands in `path` is not what `command` writes. */
qd_status qd_json_damaged(const char *path, const char *command, const char *what);
/** Reads and parses; *out is to be deleted. */
qd_status qd_json_read(const char *path, const char *command, cJSON **out);
/** Writes without spaces; deletes `root`, which may be NULL: memory ran out while it was made. */
qd_status qd_json_write(const char *path, cJSON *root);
/** A finite number of an object. */
bool qd_json_number(const cJSON *o, const char *name, double *out);
/** A string of an object, which must fit with its zero. */
bool qd_json_string(const cJSON *o, const char *name, char *out, size_t capacity);

#endif
