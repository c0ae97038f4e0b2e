/* A unit's shape: numbers that -D may change. Those of the array alone are in array.h. */
#ifndef QD_SHAPE_H
#define QD_SHAPE_H

/* Bytes of a memory port's beat. */
#ifndef QD_BURST
#define QD_BURST 64
#endif
/* Output channels side by side. 4 channels of 16 codes each are the 64 bytes that a port brings in a cycle. */
#ifndef QD_PE
#define QD_PE 4
#endif
/* Columns (rows of a matrix, pixels of an image) that meet the weights of a step before others are read. */
#ifndef QD_TOKENS
#define QD_TOKENS 8
#endif

#endif
