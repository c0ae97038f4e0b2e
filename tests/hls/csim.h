/* The tops of hls/ as C functions, on memory as a card has it. */
#ifndef QDOT_TEST_CSIM_H
#define QDOT_TEST_CSIM_H

#include "qdot/qdot_backend.h"

/** An operand on the card: memory of whole beats, where its first element is, bytes between rows. All 0: absent. */
typedef struct csim_operand {
    void *memory;
    uint64_t at, stride;
} csim_operand;

/** A unit in one shape: a row of shapes.def. */
typedef struct csim_unit {
    const char *top, *shape, *options;
    void (*function)(void); /* of the top's type */
    void (*run)(const struct csim_unit *u, const qd_node *n, const csim_operand in[], const csim_operand out[],
                int64_t rows, int64_t cut);
} csim_unit;

/** All rows of shapes.def. */
extern const csim_unit csim_units[];
extern const int csim_unit_count;

/** The row of that name; NULL if there is none. */
const csim_unit *csim_find(const char *top, const char *shape);
/** The operator of a unit, by the name of its top. */
qd_op csim_op(const csim_unit *u);
/** Whether the unit is for these formats of its operator (inputs, then outputs). Units with a codebook are for none. */
bool csim_takes(const csim_unit *u, const qd_format formats[]);

/** `bytes` bytes of host memory, from any byte that suits elements of `size` bytes (`salt` chooses) of a card's memory.
 * To be freed: its `memory`. `first`: where the first element is among the bytes. NULL: absent. */
csim_operand csim_upload(const void *data, size_t bytes, size_t first, size_t stride, size_t size, uint64_t salt);

/** Runs a unit on operands of the card as csim_upload made them: output channels before `cut` in one call, the others
 * in a second, where the operator can be cut so; 0: one call. */
static inline void csim_run(const csim_unit *u, const qd_node *n, const csim_operand in[], const csim_operand out[],
                            int64_t rows, int64_t cut) {
    u->run(u, n, in, out, rows, cut);
}

#endif
