/* Tables of angles, shared by all layers and graphs. */
#ifndef QDOT_OFFLOAD_GGML_ROPE_H
#define QDOT_OFFLOAD_GGML_ROPE_H

#include "program.h"

/** Sees to it that the tables reach the positions of a graph; one that must grow takes all compiled graphs with it. */
qd_status qg_rope_reserve(qg_device *d, const struct ggml_cgraph *graph);
/** How many nodes from `first` on can run before the tables must be looked at again: up to a ROPE whose positions one
 * of them writes. */
int qg_rope_until(const struct ggml_cgraph *graph, int first);
/** A program ran: positions that it wrote are read from the device before the next. */
void qg_rope_written(qg_device *d, const qg_program *p);
/** Sets what a program needs of the positions before it runs. */
qd_status qg_rope_feed(const qg_program *p);

#endif
