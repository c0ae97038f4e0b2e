/* The step of stored weights, and decoding some of their rows. */
#ifndef QDOT_QUANT_STEPS_H
#define QDOT_QUANT_STEPS_H

#include "formats/coding.h"
#include "qdot/qdot.h"

/** How the steps of stored rows are found. */
typedef struct quant_steps {
    qd_storage storage;
    int64_t cols;
    bool any;         /* false: there are no steps */
    double levels;    /* distances between the lowest and the highest value */
    size_t row_bytes; /* of stored rows */
    /* Formats: the codes of a block stand in bytes first … end - 1 of it, and these bytes are the lowest and the
     * highest ones. */
    size_t block_bytes, first, end;
    unsigned char low, high;
    /* Codings: codes of the lowest and the highest value, unless each row has a table of its own. */
    qd_coded_params params;
    int lowest, highest;
} quant_steps;

/** Prepares for a matrix; side: that of codings. */
quant_steps qd_steps_of(const qd_storage *s, int64_t rows, int64_t cols, const float *side);

/** Decodes rows first … first + count - 1, which stand at `data`. */
qd_status qd_storage_decode(const qd_storage *s, const void *data, const float *side, int64_t rows, int64_t cols,
                            int64_t first, int64_t count, float *dst);

/** Fills steps[count × cols] for the rows at `data`; 0 where all codes mean the same. `copy` has count × row_bytes,
 *  `low` count × cols. */
qd_status qd_steps_fill(const quant_steps *q, const void *data, const float *side, int64_t first, int64_t count,
                        void *copy, float *low, float *steps);

#endif
