#include "core/choices.h"

#include <stdio.h>
#include <string.h>

/* SplitMix64 (Steele, Lea, Flood 2014). */
uint64_t qd_next_random(uint64_t *stream) {
    uint64_t z = (*stream += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t qd_between(uint64_t *stream, int64_t low, int64_t high) {
    return low + (int64_t)(qd_next_random(stream) % (uint64_t)(high - low + 1));
}

uint64_t qd_stream(const qd_choices *c, const char *name) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    uint64_t stream = c->seed ^ h;
    return qd_next_random(&stream);
}

static int64_t remember(qd_choices *c, const char *name, int64_t value, int64_t low, int64_t high) {
    for (int i = 0; i < c->n_fixed; i++) {
        if (!strcmp(c->fixed[i].name, name)) value = c->fixed[i].value;
    }
    value = value < low ? low : value > high ? high : value;
    if (c->n < QD_MAX_CHOICES) {
        qd_choice *x = &c->made[c->n++];
        snprintf(x->name, sizeof x->name, "%s", name);
        x->value = value;
        x->low = low;
        x->high = high;
    }
    return value;
}

static const qd_choice *find(const qd_choices *c, const char *name) {
    for (int i = 0; i < c->n; i++) {
        if (!strcmp(c->made[i].name, name)) return &c->made[i];
    }
    return NULL;
}

int64_t qd_choose(qd_choices *c, const char *name, int64_t low, int64_t high) {
    const qd_choice *before = find(c, name);
    if (before) return before->value;
    uint64_t stream = qd_stream(c, name);
    return remember(c, name, qd_between(&stream, low, high), low, high);
}

int64_t qd_choose_size(qd_choices *c, const char *name, int64_t high) {
    const qd_choice *before = find(c, name);
    if (before) return before->value;
    uint64_t stream = qd_stream(c, name);
    const int64_t kind = qd_between(&stream, 0, 7), any = qd_between(&stream, 1, high);
    const int64_t vectors = (any + 15) / 16 * 16 + qd_between(&stream, -1, 1);
    return remember(c, name, kind < 2 ? 1 : kind < 4 && vectors <= high ? vectors : any, 1, high);
}
