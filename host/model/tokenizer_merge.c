/* Greedy merging of neighbours with a heap of candidates. Merging leaves stale candidates in the heap; a candidate is
 * valid as long as both its symbols live and still have the sizes they had, which is the same as the same sum. */
#include "core/status.h"
#include "model/tokenizer.h"

#include <stdlib.h>

qd_status qd_merger_begin(qd_merger *m, size_t symbols) {
    m->count = 0;
    m->heap_count = 0;
    if (symbols <= m->capacity) return QD_OK;
    qd_merger_free(m);
    m->symbols = qd_alloc(symbols * sizeof *m->symbols);
    m->heap = qd_alloc(2 * symbols * sizeof *m->heap);
    if (!m->symbols || !m->heap) return QD_ERR_MEMORY;
    m->capacity = symbols;
    return QD_OK;
}

void qd_merger_free(qd_merger *m) {
    free(m->symbols);
    free(m->heap);
    *m = (qd_merger){0};
}

void qd_merger_add(qd_merger *m, size_t size, int32_t token) {
    const int32_t i = (int32_t)m->count++;
    qd_symbol *s = &m->symbols[i];
    *s = (qd_symbol){.size = (int32_t)size, .prev = i - 1, .next = -1, .token = token};
    if (i > 0) {
        s->start = s[-1].start + s[-1].size;
        s[-1].next = i;
    }
}

static bool before(const qd_merge_candidate *a, const qd_merge_candidate *b) {
    return a->order < b->order || (a->order == b->order && a->left < b->left);
}

static void push(qd_merger *m, qd_merge_candidate c) {
    size_t i = m->heap_count++;
    for (; i > 0 && before(&c, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = c;
}

static qd_merge_candidate pop(qd_merger *m) {
    const qd_merge_candidate top = m->heap[0];
    const qd_merge_candidate last = m->heap[--m->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->heap_count) break;
        if (child + 1 < m->heap_count && before(&m->heap[child + 1], &m->heap[child])) child++;
        if (!before(&m->heap[child], &last)) break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

static void consider(qd_merger *m, const qd_tokenizer *t, const char *text, qd_merge_fn find, int32_t left,
                     int32_t right) {
    if (left < 0 || right < 0) return;
    const qd_symbol *l = &m->symbols[left], *r = &m->symbols[right];
    qd_merge_candidate c = {.left = left, .right = right, .size = l->size + r->size};
    if (find(t, text, l, r, &c.order, &c.token)) push(m, c);
}

void qd_merger_run(qd_merger *m, const qd_tokenizer *t, const char *text, qd_merge_fn find) {
    for (int32_t i = 1; i < (int32_t)m->count; i++)
        consider(m, t, text, find, i - 1, i);
    while (m->heap_count > 0) {
        const qd_merge_candidate c = pop(m);
        qd_symbol *l = &m->symbols[c.left], *r = &m->symbols[c.right];
        if (l->size == 0 || r->size == 0 || l->size + r->size != c.size) continue;
        l->size = c.size;
        l->token = c.token;
        l->next = r->next;
        r->size = 0;
        if (l->next >= 0) m->symbols[l->next].prev = c.left;
        consider(m, t, text, find, l->prev, c.left);
        consider(m, t, text, find, c.left, l->next);
    }
}
