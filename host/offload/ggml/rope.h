/* Tables of angles, shared by all layers and graphs. */
#ifndef QDOT_OFFLOAD_GGML_ROPE_H
#define QDOT_OFFLOAD_GGML_ROPE_H

#include "plugin.h"

/** Sees to it that the tables reach the positions of a graph; one that must grow takes all compiled graphs with it. */
qd_status qg_rope_reserve(qg_device *d, const struct ggml_cgraph *graph);

#endif
