/* Products with coded weights that stand for 2 to 16 values of one table, or for powers of two, on x86 CPUs: rows of w
 * side by side, a row in each lane.
 *
 *   word j of QD_V rows   [row 0: codes 8j … 8j+7][row 1: codes 8j … 8j+7] …    4 bits each
 *
 * A permutation takes a table's entry for each row, by the lowest bits of its word, shifted by 4 · (k mod 8).
 *
 *   x A8    k → a table of products [q[k] · value 0] … [q[k] · value 15], made once for QD_TABLE_ROWS rows of w, which
 *           only look up and add
 *   x F32   the same where there are no scales. Else the table of values: a weight is rounded after it met its row's
 *           scale, and before it meets x, so that rows have no products in common
 *
 * Several rows of x that share what is looked up, and multiply it, take a quarter longer than with tables of products
 * of their own: 16 vectors of sums are then in use, and registers run out. The same goes for four vectors of rows
 * instead of two. The includer defines `finish`. */
#ifndef QD_CODED_TABLES_H
#define QD_CODED_TABLES_H

#include "coded.h"
#include "x86/rows_of_w.h"

/* Vectors of rows of w that share tables of products. */
#ifndef QD_GROUPS
#define QD_GROUPS 2
#endif
#define QD_TABLE_ROWS (QD_GROUPS * QD_V)

/* Rows of x in one unit. */
#ifndef QD_UNIT_ROWS
#define QD_UNIT_ROWS 4
#endif

/* Compiled once; what is inlined is compiled for each call. */
#define QD_ONCE static __attribute__((noinline))

typedef struct table16 {
    qd_vf part[16 / QD_V];
} table16;

/* Entry `index` mod 16, in each lane. */
QD_ALWAYS qd_vf table_look(const table16 *t, const qd_vi index) {
    qd_vf v;
    __asm__("vpermps %1, %2, %0" : "=v"(v) : "v"(t->part[0]), "v"(index));
#if QD_V == 8
    qd_vf high;
    __asm__("vpermps %1, %2, %0" : "=v"(high) : "v"(t->part[1]), "v"(index));
    v = (index << 28) < 0 ? high : v;
#endif
    return v;
}

QD_ALWAYS table16 table_times(const table16 *t, const float x) {
    table16 products;
    QD_UNROLL(h, 16 / QD_V) {
        products.part[h] = t->part[h] * x;
    }
    return products;
}

/* ---- Rows of w -------------------------------------------------------------------------------------------------- */

/* QD_V rows; where there are fewer, the last again and again. */
typedef struct table_rows {
    __global const uchar *row[QD_V];
    ulong index; /* of the first, in the matrix */
    int last;
} table_rows;

/* Bytes in a row. */
QD_ALWAYS int table_end(const qd_coded_params *p) {
    return p->codes_at + (int)(((long)p->k * p->bits + 7) / 8);
}

/* The 4 bytes from `at` of each row on; those from `end` on are 0. */
QD_ONCE qd_vi table_word(const table_rows *w, const int at, const int end) {
    int lanes[QD_V];
    for (int i = 0; i < QD_V; i++) {
        __global const uchar *bytes = w->row[i];
        uint word = 0;
        if (at + 4 <= end) {
            word = as_uint(vload4(0, bytes + at));
        } else {
            for (int b = 0; at + b < end; b++)
                word |= (uint)bytes[at + b] << 8 * b;
        }
        lanes[i] = (int)word;
    }
    return qd_v_load_int(0, lanes);
}

/* The lowest eight codes of `bits` bits, to 4 bits each: halves, quarters, codes are moved to their places. */
QD_ALWAYS qd_vi table_spread(qd_vi word, const int bits) {
    for (int width = 16; width >= 4; width /= 2) {
        const int n = width / 4 * bits, ones = width == 16 ? 1 : width == 8 ? 0x00010001 : 0x01010101;
        const int low = ones * ((1 << n) - 1);
        word = (word & low) | (word & low << n) << (width - n);
    }
    return word;
}

/* Words of the codes k … k+31, k a multiple of 32; any beyond the end. */
QD_ALWAYS void table_codes(const qd_coded_params *p, const table_rows *w, const int k, qd_vi words[4]) {
    if (p->bits == 4 && k + 32 <= p->k) {
        words_of_rows(w->row, (ulong)(p->codes_at + k / 2), words);
        return;
    }
    const int end = table_end(p);
    QD_UNROLL(j, 4) {
        words[j] = table_spread(table_word(w, p->codes_at + (k / 8 + j) * p->bits, end), p->bits);
    }
}

/* Scales of group g, stored as `scale` says. */
QD_ALWAYS qd_vf table_scales_as(const qd_coded_params *p, const int scale, __global const float *side,
                                const table_rows *w, const int g) {
    float lanes[QD_V];
    for (int i = 0; i < QD_V; i++) {
        coded_row row;
        row.bytes = w->row[i];
        row.side = side;
        row.index = w->index + min(i, w->last);
        lanes[i] = coded_scale_as(p, scale, &row, g);
    }
    return qd_v_load(0, lanes);
}

/* Scales of groups g … g+3, as far as there are. */
QD_ONCE void table_scales(const qd_coded_params *p, __global const float *side, const table_rows *w, const int g,
                          qd_vf scales[4]) {
    const int is_f32 = p->scale == QD_SCALE_AS_F32, is_f16 = p->scale == QD_SCALE_AS_F16;
    const int at = p->scales_at + (is_f32 ? 4 : 2) * g;
    if ((is_f32 || is_f16 || p->scale == QD_SCALE_AS_BF16) && at + 16 <= table_end(p)) {
        qd_vi words[4];
        words_of_rows(w->row, (ulong)at, words);
        QD_UNROLL(j, 4) {
            const qd_vi two = words[j / 2] >> (j % 2 * 16);
            scales[j] = qd_v_as_float(is_f32 ? words[j] : two << 16);
            if (is_f16) scales[j] = qd_v_low_halves(two);
        }
        return;
    }
    for (int j = 0; j < 4 && g + j < p->groups; j++) {
        /* A constant in a loop over lanes: the common one. */
        if (p->scale == QD_SCALE_AS_NESTED) {
            scales[j] = table_scales_as(p, QD_SCALE_AS_NESTED, side, w, g + j);
        } else {
            scales[j] = table_scales_as(p, p->scale, side, w, g + j);
        }
    }
}

/* What 64 weights take: their words, and the scale of each 16. */
typedef struct table_chunk {
    qd_vi words[8][QD_GROUPS];
    qd_vf scale[4][QD_GROUPS];
    /* Scales of the last group and its neighbours, from a multiple of 4 on; how many weights are left in it. */
    qd_vf scales[QD_GROUPS][4];
    int g, left;
} table_chunk;

/* Of weights k … k+63; chunks are loaded one after the other. */
QD_ALWAYS void table_load(const qd_coded_params *p, __global const float *side, const table_rows *w, const int k,
                          table_chunk *c) {
    if (k == 0) {
        c->g = -1;
        c->left = 0;
    }
    for (int j = 0; j < 8 && k + 8 * j < p->k; j += 4) {
        for (int r = 0; r < QD_GROUPS; r++) {
            qd_vi words[4];
            table_codes(p, &w[r], k + 8 * j, words);
            QD_UNROLL(i, 4) {
                c->words[j + i][r] = words[i];
            }
        }
    }
    for (int b = 0; b < 4 && k + 16 * b < p->k; b++) {
        if (c->left == 0) {
            c->g++;
            c->left = p->group;
            for (int r = 0; r < QD_GROUPS && c->g % 4 == 0; r++)
                table_scales(p, side, &w[r], c->g, c->scales[r]);
        }
        c->left -= 16;
        QD_UNROLL(r, QD_GROUPS) {
            c->scale[b][r] = c->scales[r][c->g % 4];
        }
    }
}

/* ---- Products --------------------------------------------------------------------------------------------------- */

/* A8, in the order of dot_blocks: s[r][b] += of the rows r and block b of x. */
QD_ALWAYS void table_blocks(const table16 *values, const table_chunk *c, __global const qd_block_a8 *x,
                            const int blocks, qd_vf (*s)[8]) {
    for (int b = 0; b < blocks; b++) {
        float q[16];
        vstore16(convert_float16(vload16(0, (__global const char *)x[b].q)), 0, q);
        qd_vf quads[QD_GROUPS][4];
        QD_UNROLL(j, 4) {
            qd_vf v[QD_GROUPS][4];
            QD_UNROLL(h, 4) {
                const int lane = j + 4 * h;
                const table16 products = table_times(values, q[lane]);
                QD_UNROLL(r, QD_GROUPS) {
                    v[r][h] = table_look(&products, c->words[2 * b + lane / 8][r] >> (4 * (lane % 8)));
                }
            }
            QD_UNROLL(r, QD_GROUPS) {
                quads[r][j] = (v[r][0] + v[r][2]) + (v[r][1] + v[r][3]);
            }
        }
        QD_UNROLL(r, QD_GROUPS) {
            const qd_vf sum = (quads[r][0] + quads[r][2]) + (quads[r][1] + quads[r][3]);
            s[r][b] += c->scale[b][r] * (x[b].d * sum);
        }
    }
}

/* F32: s[r][i] += products of the rows r and element i of x, for the first n of 8. */
QD_ALWAYS void table_eight(const table16 *values, const int has_scales, const qd_vf *scale, const qd_vi *word,
                           __global const float *x, const int n, qd_vf (*s)[8]) {
    QD_UNROLL(i, 8) {
        if (i < n) {
            const table16 table = has_scales ? *values : table_times(values, x[i]);
            QD_UNROLL(r, QD_GROUPS) {
                const qd_vf entry = table_look(&table, word[r] >> (4 * i));
                s[r][i] += has_scales ? entry * scale[r] * x[i] : entry;
            }
        }
    }
}

/* F32, in the order of dot_floats: lanes 8 · half … 8 · half + 7 of each 16 of the chunk's n weights. */
QD_ALWAYS void table_floats(const table16 *values, const int has_scales, const table_chunk *c, __global const float *x,
                            const int half_block, const int n, qd_vf (*s)[8]) {
    for (int at = 8 * half_block; at < n; at += 16) {
        const qd_vf *scale = c->scale[at / 16];
        const qd_vi *word = c->words[at / 8];
        if (at + 8 <= n) {
            table_eight(values, has_scales, scale, word, x + at, 8, s);
        } else {
            table_eight(values, has_scales, scale, word, x + at, n - at, s);
        }
    }
}

/* y[r] of a row of x and the rows r. Of F32's 16 partial sums eight at a time, which are registers. */
QD_ALWAYS void table_dot(const qd_coded_params *p, const table16 *values, __global const float *side,
                         const table_rows *w, __global const uchar *x, qd_vf *y) {
    qd_vf first[QD_GROUPS][8], s[QD_GROUPS][8];
    for (int half_block = 0; half_block < (p->a8 ? 1 : 2); half_block++) {
        QD_UNROLL(r, QD_GROUPS) {
            QD_UNROLL(i, 8) {
                first[r][i] = s[r][i];
                s[r][i] = 0.0f;
            }
        }
        table_chunk c;
        for (int k = 0; k < p->k; k += 64) {
            const int n = min(64, p->k - k);
            __global const float *floats = (__global const float *)x + k;
            table_load(p, side, w, k, &c);
            if (p->a8) {
                table_blocks(values, &c, (__global const qd_block_a8 *)x + k / 16, n / 16, s);
            } else if (p->scale == QD_SCALE_AS_ONE) {
                table_floats(values, 0, &c, floats, half_block, n, s);
            } else {
                table_floats(values, 1, &c, floats, half_block, n, s);
            }
        }
    }
    QD_UNROLL(r, QD_GROUPS) {
        qd_vf sums[4];
        QD_UNROLL(i, 4) {
            sums[i] = p->a8 ? s[r][i] : (first[r][i] + s[r][i]) + (first[r][i + 4] + s[r][i + 4]);
        }
        y[r] = p->a8 ? (sums[0] + sums[1]) + (sums[2] + sums[3]) : (sums[0] + sums[2]) + (sums[1] + sums[3]);
    }
}

/* ---- Units ------------------------------------------------------------------------------------------------------ */

/* What all units of a launch share. */
typedef struct table_launch {
    __global const uchar *w, *x, *addend;
    __global const float *side;
    __global uchar *y;
    ulong w_stride, x_stride, addend_stride, y_stride;
    int rows;
} table_launch;

/* QD_V rows from row `first` of the launch on, or its last one. */
QD_ALWAYS table_rows table_rows_from(const qd_coded_params *p, const table_launch *l, const int first) {
    const int from = min(first, p->count - 1);
    table_rows w;
    w.index = (ulong)(p->first + from);
    w.last = min(QD_V, p->count - from) - 1;
    for (int i = 0; i < QD_V; i++)
        w.row[i] = l->w + (ulong)(from + min(i, w.last)) * l->w_stride;
    return w;
}

/* Whether all rows have one table, whose entries a permutation can take. Powers of two have one, too: where they are
 * added as integers elsewhere, all sums of their products are exact. */
static inline int table_takes(const qd_coded_params *p) {
    return p->bits <= 4 && (p->kind == QD_CODED_SHIFT || (p->kind == QD_CODED_TABLE && p->table_at != QD_ABSENT));
}

/* `count` results of row r, from output channel chan on. */
QD_ONCE void table_store(const qd_coded_params *p, const table_launch *l, const int r, const int chan, const int count,
                         const qd_vf sums) {
    float lanes[QD_V];
    qd_v_store(sums, 0, lanes);
    for (int i = 0; i < count && i < QD_V; i++)
        ((__global float *)(l->y + (ulong)r * l->y_stride))[chan + i] =
            finish(p, l->addend, l->addend_stride, r, chan + i, lanes[i]);
}

/* unit u = (QD_UNIT_ROWS rows of x, QD_TABLE_ROWS rows of w); a work-item takes neighbours. */
static inline void table_all(const qd_coded_params *p, const table_launch *l QD_WORK) {
    const int tiles = (p->count + QD_TABLE_ROWS - 1) / QD_TABLE_ROWS;
    const ulong units = (ulong)((l->rows + QD_UNIT_ROWS - 1) / QD_UNIT_ROWS) * tiles;
    const ulong begin = units * QD_ITEM / QD_ITEMS;
    const ulong end = units * (QD_ITEM + 1) / QD_ITEMS;
    float lanes[16];
    const coded_row row = coded_open(p, l->w, l->side, 0);
    vstore16(coded_values(p, &row, convert_short16(QD_LANE_IDS), 0), 0, lanes);
    table16 values;
    QD_UNROLL(h, 16 / QD_V) {
        values.part[h] = qd_v_load(h, lanes);
    }
    for (ulong u = begin; u < end; u++) {
        const int first = (int)(u % tiles) * QD_TABLE_ROWS;
        const int r_end = min(((int)(u / tiles) + 1) * QD_UNIT_ROWS, l->rows);
        table_rows w[QD_GROUPS];
        QD_UNROLL(g, QD_GROUPS) {
            w[g] = table_rows_from(p, l, first + g * QD_V);
        }
        for (int r = (int)(u / tiles) * QD_UNIT_ROWS; r < r_end; r++) {
            __global const uchar *x = l->x + (ulong)r * l->x_stride;
            qd_vf sums[QD_GROUPS];
            table_dot(p, &values, l->side, w, x, sums);
            QD_UNROLL(g, QD_GROUPS) {
                table_store(p, l, r, p->first + first + g * QD_V, p->count - first - g * QD_V, sums[g]);
            }
        }
    }
}

#endif
