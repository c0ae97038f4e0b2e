/* Threads that take pieces in turn until there are none. */
#include "quant/pieces.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "core/status.h"

enum { MAX_THREADS = 256 };

typedef struct work {
    const quant_pieces *p;
    pthread_mutex_t lock;
    int64_t next, end; /* pieces that are still to be taken: next … end - 1 */
    int64_t done;
    qd_status status; /* of the first piece that failed, which is piece `end` then */
    char message[1024];
} work;

/* Notes a failure; that of the earliest piece stays. */
static void note(work *w, int64_t piece, qd_status status) {
    pthread_mutex_lock(&w->lock);
    if (w->status == QD_OK || piece < w->end) {
        w->status = status;
        w->end = piece;
        snprintf(w->message, sizeof w->message, "%s", qd_last_message());
    }
    pthread_mutex_unlock(&w->lock);
}

/* Only the calling thread may tell about progress. */
static void take_pieces(work *w, bool caller) {
    const quant_pieces *p = w->p;
    void *room = NULL;
    const qd_status made = p->room_make ? p->room_make(p->user, &room) : QD_OK;
    if (made != QD_OK) {
        note(w, -1, made);
        return;
    }
    for (;;) {
        pthread_mutex_lock(&w->lock);
        const int64_t piece = w->next < w->end ? w->next++ : -1;
        const double share = (double)w->done / (double)p->count;
        pthread_mutex_unlock(&w->lock);
        if (piece < 0) break;
        if (caller && p->progress && !p->progress(p->user, share)) {
            note(w, -1, qd_fail(QD_ERR_CANCELLED, "stopped"));
            break;
        }
        const qd_status status = p->run(p->user, piece, room);
        if (status != QD_OK) note(w, piece, status);
        pthread_mutex_lock(&w->lock);
        w->done++;
        pthread_mutex_unlock(&w->lock);
    }
    if (p->room_free) p->room_free(room);
}

static void *take_beside(void *user) {
    take_pieces(user, false);
    return NULL;
}

static int count_threads(const quant_pieces *p) {
    long n = p->threads > 0 ? p->threads : sysconf(_SC_NPROCESSORS_ONLN);
    if (n > MAX_THREADS) n = MAX_THREADS;
    if (n > p->count) n = (long)p->count;
    return n > 1 ? (int)n : 1;
}

qd_status qd_pieces_run(const quant_pieces *p) {
    pthread_t threads[MAX_THREADS];
    const int wanted = count_threads(p);
    int started = 0;
    work w = {.p = p, .end = p->count};
    if (pthread_mutex_init(&w.lock, NULL) != 0) return qd_fail(QD_ERR_MEMORY, "quantize: no lock could be made");
    /* Where no thread can be had, the calling one does all. */
    while (started < wanted - 1 && pthread_create(&threads[started], NULL, take_beside, &w) == 0)
        started++;
    take_pieces(&w, true);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&w.lock);
    return w.status == QD_OK ? QD_OK : qd_fail(w.status, "%s", w.message);
}
