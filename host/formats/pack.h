/* Device layouts of weight matrices: the order of the bytes, not their values. */
#ifndef QDOT_FORMATS_PACK_H
#define QDOT_FORMATS_PACK_H

#include <stdint.h>

#include "qdot/qdot.h"

typedef enum qd_layout {
    QD_LAYOUT_ROWS,   /* as in the file: row after row */
    QD_LAYOUT_TILE16, /* 16 rows side by side: see kernels_cl/x86/tile16.h and gemm_int.h */
    QD_LAYOUT_WORDS4, /* 4 rows side by side in words of 16 bytes: see kernels_cl/gpu/words4.h; blocked weights only */
} qd_layout;

/** Bytes of `rows` rows of K elements in a layout; 0 when the layout does not know the format. */
size_t qd_layout_bytes(qd_layout layout, qd_format f, int64_t rows, int64_t K);
/** Number of rows that a layout keeps together: a part of a matrix starts at a multiple of it. */
int64_t qd_layout_rows(qd_layout layout);
/** Reorders rows × K elements from file order. dst holds qd_layout_bytes bytes; missing rows of a tile become zeros. */
void qd_layout_pack(qd_layout layout, qd_format f, const void *src, int64_t rows, int64_t K, void *dst);

#endif
