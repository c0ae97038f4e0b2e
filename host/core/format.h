/* Facts about number formats that the public header does not offer. */
#ifndef QDOT_CORE_FORMAT_H
#define QDOT_CORE_FORMAT_H

#include "qdot/qdot.h"

/** The format with this type number in GGUF files; QD_FORMAT_COUNT when there is none. */
qd_format qd_format_from_gguf(uint32_t gguf_type);

#endif
