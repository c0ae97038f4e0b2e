/* Rows of w side by side: words of QD_V rows, one in each lane, of rows that lie one behind the other. */
#ifndef QD_ROWS_OF_W_H
#define QD_ROWS_OF_W_H

#include "x86/simd.h"

/* QD_V rows of bytes; where there are fewer, the last again and again. */
typedef struct rows_of_w {
    __global const uchar *bytes;
    ulong stride, index; /* index: of the first, in the matrix */
    int last;
} rows_of_w;

QD_ALWAYS __global const uchar *row_of_w(const rows_of_w *w, const int i) {
    return w->bytes + (ulong)min(i, w->last) * w->stride;
}

#ifdef QD_PLAIN
/* Four words of 4 bytes, from `at` of each row on. */
QD_ALWAYS void words_of_rows(__global const uchar *const row[QD_V], const ulong at, qd_vi words[4]) {
    for (int l = 0; l < 4; l++) {
        int lanes[QD_V];
        for (int i = 0; i < QD_V; i++)
            lanes[i] = ((__global const int *)(row[i] + at))[l];
        words[l] = qd_v_load_int(0, lanes);
    }
}
#else
/* Of OpenCL C the compiler makes three times as many instructions. */
#define QD_ZIP(name, instruction)                                      \
    QD_ALWAYS qd_vi name(const qd_vi a, const qd_vi b) {               \
        qd_vi v;                                                       \
        __asm__(instruction " %2, %1, %0" : "=v"(v) : "v"(a), "v"(b)); \
        return v;                                                      \
    }
QD_ZIP(zip_low, "vpunpckldq")
QD_ZIP(zip_high, "vpunpckhdq")
QD_ZIP(zip2_low, "vpunpcklqdq")
QD_ZIP(zip2_high, "vpunpckhqdq")

/* 16 bytes at `at` of rows i, i + 4 … */
QD_ALWAYS qd_vi quads_of_rows(__global const uchar *const *row, const int i, const ulong at) {
    qd_vi v;
#define QUAD(i) "m"(*(__global const uchar16 *)(row[i] + at))
#if QD_V == 16
    __asm__(
        "vmovdqu32 %1, %x0\n\tvinserti32x4 $1, %2, %t0, %t0\n\t"
        "vinserti32x4 $2, %3, %0, %0\n\tvinserti32x4 $3, %4, %0, %0"
        : "=&v"(v)
        : QUAD(i), QUAD(i + 4), QUAD(i + 8), QUAD(i + 12));
#else
    /* x, not v: of registers that only AVX-512 has, these instructions know nothing, and vanish without a word. */
    __asm__("vmovdqu %1, %x0\n\tvinserti128 $1, %2, %0, %0" : "=&x"(v) : QUAD(i), QUAD(i + 4));
#endif
#undef QUAD
    return v;
}

/* Four words of 4 bytes, from `at` of each row on. */
QD_ALWAYS void words_of_rows(__global const uchar *const row[QD_V], const ulong at, qd_vi words[4]) {
    const qd_vi a = quads_of_rows(row, 0, at), b = quads_of_rows(row, 1, at), c = quads_of_rows(row, 2, at),
                d = quads_of_rows(row, 3, at);
    const qd_vi low_ab = zip_low(a, b), low_cd = zip_low(c, d), high_ab = zip_high(a, b), high_cd = zip_high(c, d);
    words[0] = zip2_low(low_ab, low_cd);
    words[1] = zip2_high(low_ab, low_cd);
    words[2] = zip2_low(high_ab, high_cd);
    words[3] = zip2_high(high_ab, high_cd);
}
#endif

QD_ALWAYS void words_of_w(const rows_of_w *w, const ulong at, qd_vi words[4]) {
    __global const uchar *row[QD_V];
    QD_UNROLL(i, QD_V) {
        row[i] = row_of_w(w, i);
    }
    words_of_rows(row, at, words);
}

/* Groups whose numbers are put side by side at a time. */
enum { QUAD = 4 };

/* Words g … g+3 of rows `first` … first + QD_V - 1, of which the last there is is `last`, as far as there are so many
 * words; stride 0: all have the same row. */
QD_ALWAYS void group_words(__global const uchar *rows, const ulong stride, const int first, const int last, const int g,
                           const int groups, qd_vi words[QUAD]) {
    const rows_of_w w = {rows + (ulong)first * stride, stride, 0, last - first};
    if (stride && g + QUAD <= groups) {
        /* The next line of each row, or of the rows of the next tile: a processor does not follow so many rows. */
        const ulong next = 4 * (ulong)g + 64;
        for (int i = 0; i < QD_V && g % 16 == 0; i++)
            __builtin_prefetch(row_of_w(&w, i) + (next < stride ? next : next + 15 * stride), 0, 2);
        words_of_w(&w, 4 * (ulong)g, words);
        return;
    }
    for (int l = 0; l < QUAD && g + l < groups; l++) {
        const int shared = ((__global const int *)rows)[g + l];
        words[l] = (qd_vi)shared;
        if (!stride) continue;
        int lanes[QD_V];
        for (int i = 0; i < QD_V; i++)
            lanes[i] = ((__global const int *)row_of_w(&w, i))[g + l];
        words[l] = qd_v_load_int(0, lanes);
    }
}

#endif
