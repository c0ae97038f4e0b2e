/* Adapters of a model: low-rank branches beside its matrices (Hu et al. 2021), from GGUF files as llama.cpp reads them.
 */
#ifndef QDOT_MODEL_LORA_H
#define QDOT_MODEL_LORA_H

#include "model/weights.h"

/** Checks what adapters say of themselves, and makes m->lora, which qd_lora_free frees. The files and the array are
 * needed until qd_lora_check. QD_ERR_FILE, QD_ERR_UNSUPPORTED: not an adapter for this model; the message says why. */
qd_status qd_lora_open(qd_model *m, const qd_adapter adapters[], int count);
/** Finds the branches of matrix `name` in all adapters and gives them to w, whose sizes are set. The message of a
 * failure names the tensor. */
qd_status qd_lora_find(qd_model *m, const char *name, qd_weight *w);
/** Refuses adapters of which a tensor has not been found. */
qd_status qd_lora_check(const qd_model *m);
void qd_lora_free(qd_model *m);

/** Whether one of n matrices has a branch: it reads floats then. */
bool qd_lora_reads(const qd_weight w[], int n);
/** Adds x · aᵀ · bᵀ, scaled, of each branch of n matrices to their products, side by side in the columns of y. */
qd_status qd_lora_add(qd_graph *g, const qd_weight w[], int n, qd_tensor *x, qd_tensor *y);

#endif
