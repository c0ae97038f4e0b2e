/* The order in which a pipeline works: turns.
 *
 *            weights: QD_PE · QD_VEC codes a cycle
 *   read ═══════════════════════════════════════════════► array ═════════════► finish ════════════► write
 *            columns: QD_VEC codes a cycle                 sums of products     zero points or        codes or
 *            orders:  one a turn                                                scales, requantize    floats
 *
 * A turn is QD_PE output channels, up to QD_TOKENS columns of x (rows of a matrix, pixels of an image), and up to
 * QD_WORDS words along K. The array holds the turn's weights and passes each column by them; meanwhile it takes the
 * weights of the next turn into a second buffer. So it needs new weights only every QD_TOKENS columns, and never waits
 * for them while a turn has as many words of columns as the next one has of weights. */
#ifndef QD_TURNS_H
#define QD_TURNS_H

#include "codes.h"

/* Output channels side by side; lanes of 16 products of each in a cycle. 4 · 1 · 16 codes are the 64 bytes that a memory
 * port of 512 bits brings in a cycle. */
#ifndef QD_PE
#define QD_PE 4
#endif
#ifndef QD_LANES
#define QD_LANES 1
#endif
#define QD_VEC (16 * QD_LANES)
/* Columns that use a turn's weights. */
#ifndef QD_TOKENS
#define QD_TOKENS 8
#endif
/* Words of a turn along K, 512 codes of a lane: a buffer of them is one block memory for each output channel's lane, and
 * sums of products stay far within 32 bits. */
#define QD_WORDS 32

typedef struct weight_word {
    char16 row[QD_PE][QD_LANES];
} weight_word;

/* What the array does in a turn: so many columns of so many words; and it takes so many words of the next turn's
 * weights, 0 after the last. */
typedef struct order_word {
    int columns, words, next_words;
} order_word;

/* All of a unit's work: columns that share weights, output channels and words along K of each batch. */
typedef struct shape {
    int batches, columns, outs, words;
} shape;

typedef struct turn {
    int batch, column, out, word; /* the first of each */
    int columns, outs, words;     /* how many; no columns: before the first turn and after the last one */
} turn;

static inline turn turn_at(const int batch, const int column, const int out, const int word, const shape *all) {
    turn s = {batch, column, out, word, 0, 0, 0};
    if (batch >= all->batches || all->columns <= 0) return s;
    s.columns = min(QD_TOKENS, all->columns - column);
    s.outs = min(QD_PE, all->outs - out);
    s.words = min(QD_WORDS, all->words - word);
    return s;
}

/* The last of its channels and columns. */
static inline bool turn_ends(const turn *s, const shape *all) {
    return s->word + QD_WORDS >= all->words;
}

static inline turn turn_after(const turn *s, const shape *all) {
    if (!turn_ends(s, all)) return turn_at(s->batch, s->column, s->out, s->word + QD_WORDS, all);
    if (s->out + QD_PE < all->outs) return turn_at(s->batch, s->column, s->out + QD_PE, 0, all);
    if (s->column + QD_TOKENS < all->columns) return turn_at(s->batch, s->column + QD_TOKENS, 0, 0, all);
    return turn_at(s->batch + 1, 0, 0, 0, all);
}

#endif
