#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

enum { CHUNK = 1 << 16 };

struct qep_chunk {
    struct qep_chunk *next;
    size_t used, size;
    alignas(max_align_t) unsigned char bytes[];
};

void *qep_take(qep_arena *a, size_t count, size_t bytes) {
    const size_t align = alignof(max_align_t);
    size_t size;
    if (__builtin_mul_overflow(count, bytes, &size) || size > SIZE_MAX / 2) return NULL;
    size = (size + align - 1) / align * align;
    if (!a->chunks || a->chunks->size - a->chunks->used < size) {
        const size_t room = size > CHUNK ? size : CHUNK;
        struct qep_chunk *c = malloc(sizeof *c + room);
        if (!c) return NULL;
        *c = (struct qep_chunk){.next = a->chunks, .size = room};
        a->chunks = c;
    }
    void *p = a->chunks->bytes + a->chunks->used;
    a->chunks->used += size;
    return memset(p, 0, size);
}

void qep_arena_free(qep_arena *a) {
    while (a->chunks) {
        struct qep_chunk *next = a->chunks->next;
        free(a->chunks);
        a->chunks = next;
    }
}
