/* The stages that a unit's functions make. The includer defines QD_UNIT (pipe.h); ARGUMENTS, those of every kernel; OPEN, which makes of them `const unit u` and `const shape all`; and on a unit
 *   read_weights(u, s, i), read_column(u, s, t, i)   words of a turn
 *   finish(u, s, last, totals)                       takes a turn's sums, and after the last of them puts results
 *   write(u, s)                                      takes the results of the last turn of its channels and columns */
#include "fpga/turns.h"

/* Sends a turn's columns and the next one's weights: one loop, so that both are under way in each cycle. */
static inline void read_turn(const unit *u, const turn *s, const turn *next QD_JOINTS) {
    const order_word order = {s->columns, s->words, next->words};
    const int take = s->columns * s->words;
    QD_PUT(orders, order);
    for (int c = 0, t = 0, i = 0; c < max(take, next->words); c++) {
        if (c < next->words) QD_PUT(weights, read_weights(u, next, c));
        if (c >= take) continue;
        read_column(u, s, t, i QD_JOINED);
        if (++i == s->words) {
            i = 0;
            t++;
        }
    }
}

/* A turn of the array, whose weights are in held[side]; false after the last one. */
static inline bool array_turn(weight_word held[2][QD_WORDS], const int side QD_JOINTS) {
    const order_word order = QD_GET(orders);
    const int take = order.columns * order.words;
    sums_word sum;
    for (int c = 0, i = 0; c < max(take, order.next_words); c++) {
        if (c < order.next_words) held[!side][c] = QD_GET(weights);
        if (c >= take) continue;
        const column_word x = QD_GET(columns);
        add_word(&sum, &held[side][i], &x, i);
        if (QD_SUM_IS_READY(i, order.words)) QD_PUT(sums, sum);
        if (++i == order.words) i = 0;
    }
    return order.next_words > 0;
}

#ifdef QD_CHANNELS

#define QD_STAGE(stage) __attribute__((max_global_work_dim(0))) __kernel void QD_NAME(stage)(ARGUMENTS)

QD_STAGE(_read) {
    OPEN;
    turn s = {0}, next = turn_at(0, 0, 0, 0, &all);
    do {
        read_turn(&u, &s, &next);
        s = next;
        next = turn_after(&s, &all);
    } while (s.columns);
}

/* The array needs nothing but its pipes. -DQD_AUTORUN: it starts with the device, and the host never again; after an
 * order without a next turn it waits for the first one of another problem. */
#ifdef QD_AUTORUN
__attribute__((max_global_work_dim(0))) __attribute__((autorun)) __kernel void QD_NAME(_array)(void) {
    weight_word held[2][QD_WORDS];
    for (int side = 0;; side = !side)
        array_turn(held, side);
}
#else
QD_STAGE(_array) {
    weight_word held[2][QD_WORDS];
    int side = 0;
    while (array_turn(held, side))
        side = !side;
}
#endif

QD_STAGE(_finish) {
    OPEN;
    totals sums;
    for (turn s = turn_at(0, 0, 0, 0, &all); s.columns; s = turn_after(&s, &all))
        finish(&u, &s, turn_ends(&s, &all), &sums);
}

QD_STAGE(_write) {
    OPEN;
    for (turn s = turn_at(0, 0, 0, 0, &all); s.columns; s = turn_after(&s, &all)) {
        if (turn_ends(&s, &all)) write(&u, &s);
    }
}

#else

__attribute__((reqd_work_group_size(1, 1, 1))) __kernel void QD_UNIT(ARGUMENTS) {
    OPEN;
    qd_pipes buffers, *pipes = &buffers;
    weight_word held[2][QD_WORDS];
    totals sums;
    int side = 0;
    turn s = {0}, next = turn_at(0, 0, 0, 0, &all);
    do {
        qd_pipes_clear(pipes);
        read_turn(&u, &s, &next QD_JOINED);
        array_turn(held, side QD_JOINED);
        finish(&u, &s, turn_ends(&s, &all), &sums QD_JOINED);
        if (s.columns && turn_ends(&s, &all)) write(&u, &s QD_JOINED);
        side = !side;
        s = next;
        next = turn_after(&s, &all);
    } while (s.columns);
}

#endif
