/* A product of integer matrices of any size, as commands for the unit of hls/rtl. */
#ifndef QDOT_RTL_PRODUCT_H
#define QDOT_RTL_PRODUCT_H

#include "rtl/board.h"

/** Codes as the unit takes them: of 8 bits, or of 4 in the low bits of a byte. */
typedef struct rtl_codes {
    const uint8_t *data; /* [rows][k], one byte for each */
    bool is_signed;
} rtl_codes;

/** y[m][n] = Σ_k (w[n][k] - w_zero[n]) · (x[m][k] - x_zero) + bias[n], or its code. */
typedef struct rtl_product {
    int64_t n, m, k;
    rtl_codes w, x;
    int w_bits;                  /* 8 or 4 */
    const rtl_channel *channels; /* n; of sums a = 2, b = 1 */
    int32_t x_zero, zero, min, max;
    uint32_t flags; /* RTL_GEMMLOWP, RTL_RAW */
    int64_t part;   /* 0: one result. Else the sums of so many codes each, a multiple of the lanes: y[m][n][k / part] */
    int32_t *y;
} rtl_product;

/** Runs it on a board. Errors: those of rtl_board_run. */
qd_status rtl_product_run(rtl_board *b, const rtl_product *p);

#endif
