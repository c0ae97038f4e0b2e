/* Products with coded weights that are integers, on x86 CPUs: rows of w side by side, a row in each lane.
 *
 *   word j of QD_V rows   [row 0: codes 4j … 4j+3][row 1: codes 4j … 4j+3] …    unpacked to 8 bits each
 *
 * The bytes, scales and zero points of QD_CHUNK codes are made once for all rows of x in a unit, and stay in the first
 * level cache. Signed codes are moved to 0 … 2^bits - 1, which is a zero point, too.
 *
 *   x A8    16 codes meet a block in four dot products of bytes. What the zero point adds, zero · Σ q, is taken off as
 *           floats: both are integers below 2^24, and so is what is left
 *   x F32   the weights of a chunk are made floats, and are rounded after they met the scale
 *
 * Partial sums are in memory from chunk to chunk. In a chunk one after the other is in registers, of QD_SIDE_ROWS rows
 * of x side by side. All four of one row at once are no faster, nor are chunks of half as many codes: generation takes
 * a fifth longer. */
#ifndef QD_CODED_INTEGERS_H
#define QD_CODED_INTEGERS_H

#include "x86/coded_tables.h"

/* Codes of a row that are unpacked at once: 64, 128 or 256, whose zero points are among 32 from a multiple of 8 on. */
#ifndef QD_CHUNK
#define QD_CHUNK 256
#endif

/* Rows of x whose partial sums are in registers. */
#ifndef QD_SIDE_ROWS
#define QD_SIDE_ROWS (QD_V / 2)
#endif

/* Vectors of partial sums in one unit: 4 for a row of A8, 16 for one of floats. */
#ifndef QD_UNIT_SUMS
#define QD_UNIT_SUMS 256
#endif

typedef struct integer_chunk {
    qd_vi bytes[QD_CHUNK / 4];
    qd_vf scale[QD_CHUNK / 16], zero[QD_CHUNK / 16];
    qd_vf weights[QD_CHUNK]; /* x F32 */
    /* The last group, how many codes of it are still to come, and the scales of its four, from a multiple of 4 on. */
    int g, left;
    qd_vf scales[4];
} integer_chunk;

static inline int integer_takes(const qd_coded_params *p) {
    return p->kind == QD_CODED_UNIFORM && p->bits <= 8;
}

/* ---- Chunks ----------------------------------------------------------------------------------------------------- */

/* 32 codes, packed in `bits` words, a byte each: halves of four codes go to their places, then codes. */
QD_ALWAYS void integer_spread(const qd_vi *packed, const int bits, const int flip, qd_vi bytes[8]) {
    const int two = (1 << 2 * bits) - 1, one = 0x00010001 * ((1 << bits) - 1);
    QD_UNROLL(j, 8) {
        const int at = 4 * bits * j, word = at / 32, shift = at % 32;
        qd_vi v = packed[word] >> shift;
        if (shift + 4 * bits > 32) v = (v & (int)((1u << (32 - shift)) - 1)) | packed[word + 1] << (32 - shift);
        if (bits < 8) {
            v = (v & two) | (v << (16 - 2 * bits) & two << 16);
            v = (v & one) | (v << (8 - bits) & one << 8);
        }
        bytes[j] = v ^ flip;
    }
}

/* Codes i … i+31 of those packed from byte `packed_at` of each row on, i a multiple of 32; any beyond the end. */
static inline void integer_codes(const qd_coded_params *p, const table_rows *w, const int packed_at, const int i,
                                 const int flip, qd_vi bytes[8]) {
    const int at = packed_at + i / 8 * p->bits, end = table_end(p);
    qd_vi packed[8];
    if (at + (p->bits > 4 ? 32 : 16) <= end) {
        words_of_rows(w->row, (ulong)at, packed);
        if (p->bits > 4) words_of_rows(w->row, (ulong)at + 16, packed + 4);
    } else {
        qd_vi words[8];
        for (int j = 0; j < p->bits; j++)
            words[j] = table_word(w, at + 4 * j, end);
        QD_UNROLL(j, 8) {
            packed[j] = words[j];
        }
    }
    switch (p->bits) {
        case 2:
            integer_spread(packed, 2, flip, bytes);
            break;
        case 3:
            integer_spread(packed, 3, flip, bytes);
            break;
        case 4:
            integer_spread(packed, 4, flip, bytes);
            break;
        case 5:
            integer_spread(packed, 5, flip, bytes);
            break;
        case 6:
            integer_spread(packed, 6, flip, bytes);
            break;
        case 7:
            integer_spread(packed, 7, flip, bytes);
            break;
        default:
            integer_spread(packed, 8, flip, bytes);
            break;
    }
}

/* Codes k … k+n-1 of the rows w; chunks are loaded one after the other. */
static inline void integer_load(const qd_coded_params *p, __global const float *side, const table_rows *w, const int k,
                                const int n, integer_chunk *c) {
    const int top = p->is_signed ? 1 << (p->bits - 1) : 0;
    coded_row row;
    row.side = side;
    const qd_vf zero = p->zeros_at == QD_ABSENT ? (float)(coded_zero(p, &row, 0) + top) : 0.0f;
    if (k == 0) {
        c->g = -1;
        c->left = 0;
    }
    for (int i = 0; i < n; i += 32)
        integer_codes(p, w, p->codes_at, k + i, 0x01010101 * top, c->bytes + i / 4);
    const int first = k / p->group / 8 * 8;
    qd_vi zeros[8];
    if (p->zeros_at != QD_ABSENT) integer_codes(p, w, p->zeros_at, first, 0, zeros);
    for (int b = 0; 16 * b < n; b++) {
        if (c->left == 0) {
            c->g++;
            c->left = p->group;
            if (c->g % 4 == 0) table_scales(p, side, w, c->g, c->scales);
        }
        c->left -= 16;
        c->scale[b] = c->scales[c->g % 4];
        const int g = c->g - first;
        c->zero[b] = p->zeros_at == QD_ABSENT ? zero : qd_v_float(zeros[g / 4] >> (8 * (g % 4)) & 255);
    }
}

/* The chunk's first n codes as floats. */
static inline void integer_weights(const int n, integer_chunk *c) {
    for (int k = 0; k < n; k += 4) {
        QD_UNROLL(i, 4) {
            c->weights[k + i] = (qd_v_float(c->bytes[k / 4] >> (8 * i) & 255) - c->zero[k / 16]) * c->scale[k / 16];
        }
    }
}

/* ---- Products --------------------------------------------------------------------------------------------------- */

/* 16 codes · 16 of x; `wide`: codes of more than 5 bits. */
QD_ALWAYS qd_vi integer_dot(const qd_vi *bytes, __global const int *x, const int wide) {
    if (wide) {
        qd_sum8 s = QD_SUM8_ZERO;
        QD_UNROLL(i, 4) {
            s = qd_dot8(s, bytes[i], x + i);
        }
        return qd_total8(s);
    }
    qd_sum4 s = QD_SUM4_ZERO;
    QD_UNROLL(i, 4) {
        s = qd_dot4(s, bytes[i], x + i);
    }
    return qd_total4(s);
}

/* A8, in the order of dot_blocks: sums[t][b mod 4] += of the chunk's blocks b and row t of x. */
QD_ALWAYS void integer_blocks(const integer_chunk *c, __global const uchar *x, const ulong x_stride, const int rows,
                              const int blocks, const int wide, qd_vf *sums) {
    for (int j = 0; j < 4; j++) {
        qd_vf part[QD_SIDE_ROWS];
        QD_UNROLL_ALL(t, rows) {
            part[t] = sums[4 * t + j];
        }
        for (int b = j; b < blocks; b += 4) {
            QD_UNROLL_ALL(t, rows) {
                __global const qd_block_a8 *block = (__global const qd_block_a8 *)(x + t * x_stride) + b;
                const qd_vi dot = integer_dot(c->bytes + 4 * b, (__global const int *)block->q, wide);
                part[t] += c->scale[b] * (block->d * (qd_v_float(dot) - c->zero[b] * block->sum));
            }
        }
        QD_UNROLL_ALL(t, rows) {
            sums[4 * t + j] = part[t];
        }
    }
}

/* F32, in the order of dot_floats: sums[t][k mod 16] += of the chunk's first n weights k and row t of x. */
QD_ALWAYS void integer_floats(const integer_chunk *c, __global const uchar *x, const ulong x_stride, const int rows,
                              const int n, qd_vf *sums) {
    for (int j = 0; j < 16; j++) {
        qd_vf part[QD_SIDE_ROWS];
        QD_UNROLL_ALL(t, rows) {
            part[t] = sums[16 * t + j];
        }
        for (int k = j; k < n; k += 16) {
            QD_UNROLL_ALL(t, rows) {
                part[t] += c->weights[k] * ((__global const float *)(x + t * x_stride))[k];
            }
        }
        QD_UNROLL_ALL(t, rows) {
            sums[16 * t + j] = part[t];
        }
    }
}

/* The chunk's codes k … k+n-1 and `rows` rows of x, side by side. */
QD_ALWAYS void integer_products(const qd_coded_params *p, const integer_chunk *c, __global const uchar *x,
                                const ulong x_stride, const int rows, const int k, const int n, qd_vf *sums) {
    if (!p->a8) {
        integer_floats(c, x + sizeof(float) * k, x_stride, rows, n, sums);
    } else if (QD_V == 8 && p->bits > 5) {
        integer_blocks(c, x + sizeof(qd_block_a8) * (k / 16), x_stride, rows, n / 16, 1, sums);
    } else {
        integer_blocks(c, x + sizeof(qd_block_a8) * (k / 16), x_stride, rows, n / 16, 0, sums);
    }
}

/* What the partial sums of a row of x add up to. */
QD_ALWAYS qd_vf integer_sum(const qd_coded_params *p, const qd_vf *s) {
    if (p->a8) return (s[0] + s[1]) + (s[2] + s[3]);
    qd_vf sums[4];
    QD_UNROLL(i, 4) {
        sums[i] = (s[i] + s[i + 8]) + (s[i + 4] + s[i + 12]);
    }
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

/* Asks for what the next rows have of codes k … k+n-1, and as much of the rest: they lie behind these. No prefetcher of
 * the processor follows so many rows, and a single row of x takes a third longer without. */
QD_ALWAYS void integer_ask(const qd_coded_params *p, const table_launch *l, const table_rows *w, const int k,
                           const int n) {
    const ulong bytes = l->w_stride * QD_V;
    for (ulong at = bytes * k / p->k; at < bytes * (k + n) / p->k; at += 64)
        __builtin_prefetch(w->row[0] + bytes + at);
}

/* unit u = (as many rows of x as there are sums for, QD_V rows of w); a work-item takes neighbours. */
static inline void integer_all(const qd_coded_params *p, const table_launch *l QD_WORK) {
    const int parts = p->a8 ? 4 : 16, unit_rows = QD_UNIT_SUMS / parts;
    const int tiles = (p->count + QD_V - 1) / QD_V;
    const ulong units = (ulong)((l->rows + unit_rows - 1) / unit_rows) * tiles;
    const ulong begin = units * QD_ITEM / QD_ITEMS;
    const ulong end = units * (QD_ITEM + 1) / QD_ITEMS;
    for (ulong u = begin; u < end; u++) {
        const int first = (int)(u % tiles) * QD_V, r = (int)(u / tiles) * unit_rows;
        const int rows = min(unit_rows, l->rows - r);
        const table_rows w = table_rows_from(p, l, first);
        __global const uchar *x = l->x + (ulong)r * l->x_stride;
        integer_chunk c;
        qd_vf sums[QD_UNIT_SUMS];
        for (int i = 0; i < rows * parts; i++)
            sums[i] = 0.0f;
        for (int k = 0; k < p->k; k += QD_CHUNK) {
            const int n = min(QD_CHUNK, p->k - k);
            integer_ask(p, l, &w, k, n);
            integer_load(p, l->side, &w, k, n, &c);
            if (!p->a8) integer_weights(n, &c);
            int t = 0;
            for (; t + QD_SIDE_ROWS <= rows; t += QD_SIDE_ROWS)
                integer_products(p, &c, x + t * l->x_stride, l->x_stride, QD_SIDE_ROWS, k, n, sums + t * parts);
            for (; t < rows; t++)
                integer_products(p, &c, x + t * l->x_stride, l->x_stride, 1, k, n, sums + t * parts);
        }
        for (int t = 0; t < rows; t++)
            table_store(p, l, r + t, p->first + first, p->count - first, integer_sum(p, sums + t * parts));
    }
}

#endif
