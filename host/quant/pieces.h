/* Work in pieces, which several threads take in turn. */
#ifndef QDOT_QUANT_PIECES_H
#define QDOT_QUANT_PIECES_H

#include "qdot/qdot.h"

typedef struct quant_pieces {
    int64_t count;
    int threads; /* at most so many; 0: as many as there are processors */
    /** Does one piece. room: of this thread; a failure ends the work, and that of the earliest piece is returned. */
    qd_status (*run)(void *user, int64_t piece, void *room);
    /** Memory of one thread; both NULL: none is needed. */
    qd_status (*room_make)(void *user, void **room);
    void (*room_free)(void *room);
    /** Told on the calling thread, before each of its pieces, which share has been done; NULL: nobody is. */
    bool (*progress)(void *user, double done);
    void *user;
} quant_pieces;

/** QD_ERR_CANCELLED: progress said so. */
qd_status qd_pieces_run(const quant_pieces *p);

#endif
