/* The step of stored weights, and decoding some of their rows. */
#ifndef QDOT_QUANT_STEPS_H
#define QDOT_QUANT_STEPS_H

#include "qdot/qdot.h"

/** How the steps of stored rows are found: by decoding them with the lowest and with the highest code everywhere. */
typedef struct quant_steps {
    qd_storage storage;
    int64_t cols;
    bool any;           /* false: there are no steps */
    size_t row_bytes;   /* of stored rows */
    size_t block_bytes; /* the codes of each block, or of the row, … */
    size_t first, end;  /* … stand in these bytes of it */
    double levels;      /* distances between the lowest and the highest value */
    int bits;           /* of a code */
    int lowest, highest;
    bool own_table; /* each row has one, and codes are chosen by it */
} quant_steps;

/** Prepares for a matrix; side: that of codings. */
quant_steps qd_steps_of(const qd_storage *s, int64_t rows, int64_t cols, const float *side);

/** Decodes rows first … first + count - 1, which stand at `data`. */
qd_status qd_storage_decode(const qd_storage *s, const void *data, const float *side, int64_t rows, int64_t cols,
                            int64_t first, int64_t count, float *dst);

/** Fills steps[count × cols] for the rows at `data`; 0 where all codes mean the same. `copy` has count × row_bytes,
 *  `low` count × cols. */
qd_status qd_steps_fill(const quant_steps *q, const void *data, const float *side, int64_t rows, int64_t first,
                        int64_t count, void *copy, float *low, float *steps);

#endif
