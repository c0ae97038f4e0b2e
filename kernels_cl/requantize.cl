/* y = requantize(x - x_zero) + zero point.
 *
 *   x, y: codes, as one row of rows · p.size; requant as in qdot_ops.def
 *   unit u = QD_RUN elements */
#include "codes.h"

__kernel void requantize(QD_IN(x), QD_IN(requant), QD_OUT(y), const qd_requantize_params p, const int rows QD_WORK) {
    const ulong size = (ulong)rows * p.size;
    QD_FOR_UNITS(u, (size + QD_RUN - 1) / QD_RUN) {
        const ulong end = min((u + 1) * QD_RUN, size);
        for (ulong i = u * QD_RUN; i < end; i++) {
            const long v = (long)qd_code_at(QD_ROW(uchar, x, 0), i, p.x_code) - p.x_zero;
            const int code = qd_finish(&p.y, QD_ROW(uchar, requant, 0), i % p.channels, qd_saturate_i32(v));
            qd_put_code(QD_ROW_OUT(uchar, y, 0), i, p.y.code, code);
        }
    }
}
