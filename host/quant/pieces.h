/* Work in pieces, which several threads take in turn. */
#ifndef QDOT_QUANT_PIECES_H
#define QDOT_QUANT_PIECES_H

#include "qdot/qdot.h"

/* Before a function of plain loops: it is compiled for processors with wider registers, too, and the loader takes the
 * one that fits. AVX2 has no fused multiplications, so that the bytes are the same. Sanitizers cannot run before the
 * loader is done. */
#if defined __x86_64__ && defined __gnu_linux__ && defined __GNUC__ && !defined __clang__ && \
    !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
#define QD_WIDE_LOOPS __attribute__((target_clones("avx2", "default")))
#else
#define QD_WIDE_LOOPS
#endif
/* Before a loop of four turns, so that what they sum up stays in registers; Clang does it unasked. */
#if defined __GNUC__ && !defined __clang__
#define QD_UNROLL_4 _Pragma("GCC unroll 4")
#else
#define QD_UNROLL_4
#endif

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
