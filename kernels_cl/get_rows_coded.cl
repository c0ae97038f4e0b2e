/* y[r] = row ids[r] of a table of coded weights.
 *
 *   table [count, bytes]  rows first … first + count - 1; side: see qdot_params.h
 *   ids   int32 [rows]    rows outside are left alone: the launch for another part writes them
 *   y     F32 [rows, k]
 *
 *   unit u = (r, 16 columns) */
#include "coded.h"

__kernel void get_rows_coded(QD_IN(table), QD_IN(side), QD_IN(ids), QD_OUT(y), const qd_coded_params p,
                             const int rows QD_WORK) {
    __global const int *id = QD_ROW(int, ids, 0);
    const int chunks = (p.k + 15) / 16;
    QD_FOR_UNITS(u, (ulong)rows * chunks) {
        const int r = (int)(u / chunks), c = (int)(u % chunks) * 16;
        const long row = (long)id[r] - p.first;
        if (row < 0 || row >= p.count) continue;
        const coded_row w = coded_open(&p, QD_ROW(uchar, table, row), QD_ROW(float, side, 0), (ulong)id[r]);
        float16 v;
        if (p.kind == QD_CODED_PRODUCT) {
            const float scale = coded_scale(&p, &w, 0);
            float lanes[16];
            for (int i = 0; i < 16; i++)
                lanes[i] = c + i < p.k ? coded_vector_weight(&p, &w, c + i) * scale : 0.0f;
            v = vload16(0, lanes);
        } else {
            v = coded_weights(&p, &w, c);
        }
        v = v == v ? v : as_float16((uint16)0x7fc00000u);
        qd_store16(v, QD_ROW_OUT(float, y, r) + c, p.k - c);
    }
}
