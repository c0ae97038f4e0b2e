/* y = table[x - lowest code of x's format], for codes of 8 bits.
 *
 *   x, y: one row of rows · p.size codes; table [256]
 *   unit u = QD_RUN elements */
#include "common.h"
#include "qdot_params.h"

__kernel void table(QD_IN(x), QD_IN(table), QD_OUT(y), const qd_table_params p, const int rows QD_WORK) {
    const ulong size = (ulong)rows * p.size;
    const uchar flip = p.x_signed ? 128 : 0; /* a signed code minus -128, as a byte */
    __global const uchar *of = QD_ROW(uchar, table, 0);
    QD_FOR_UNITS(u, (size + QD_RUN - 1) / QD_RUN) {
        const ulong end = min((u + 1) * QD_RUN, size);
        for (ulong i = u * QD_RUN; i < end; i++)
            QD_ROW_OUT(uchar, y, 0)[i] = of[QD_ROW(uchar, x, 0)[i] ^ flip];
    }
}
