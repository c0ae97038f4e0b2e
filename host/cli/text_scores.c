#include "cli/text_scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct word {
    const char *at;
    size_t size;
} word;

typedef struct words {
    word *list;
    int count;
} words;

static bool split(const char *text, words *out) {
    static const char space[] = " \t\n\r\v\f";
    *out = (words){malloc((strlen(text) / 2 + 1) * sizeof *out->list), 0};
    if (!out->list) return false;
    for (const char *at = text + strspn(text, space); *at; at += strspn(at, space)) {
        const size_t size = strcspn(at, space);
        out->list[out->count++] = (word){at, size};
        at += size;
    }
    return true;
}

/* n words in a row are the same. */
static bool same(const word *a, const word *b, int n) {
    for (int i = 0; i < n; i++) {
        if (a[i].size != b[i].size || memcmp(a[i].at, b[i].at, a[i].size) != 0) return false;
    }
    return true;
}

static int occurrences(const words *w, const word *of, int n) {
    int count = 0;
    for (int i = 0; i + n <= w->count; i++)
        count += same(&w->list[i], of, n);
    return count;
}

/* Length of the longest common subsequence, by rows of its table; `row` has b->count + 1 places, all 0. */
static int common(const words *a, const words *b, int *row) {
    for (int i = 0; i < a->count; i++) {
        int diagonal = 0;
        for (int k = 0; k < b->count; k++) {
            const int above = row[k + 1];
            if (same(&a->list[i], &b->list[k], 1)) {
                row[k + 1] = diagonal + 1;
            } else if (row[k] > above) {
                row[k + 1] = row[k];
            }
            diagonal = above;
        }
    }
    return row[b->count];
}

/* Share of the candidate's runs of n words that are in the reference, each at most as often as there. */
static double precision(const words *reference, const words *candidate, int n) {
    int hits = 0;
    for (int i = 0; i + n <= candidate->count; i++) {
        const word *run = &candidate->list[i];
        const words before = {candidate->list, i + n - 1}; /* where earlier ones of its kind begin */
        hits += occurrences(&before, run, n) < occurrences(reference, run, n);
    }
    const int runs = candidate->count - n + 1;
    return runs > 0 ? (double)hits / runs : 0;
}

bool qd_text_scores(const char *reference, const char *candidate, double *rouge_l, double *bleu) {
    enum { LONGEST = 4 };
    words r = {NULL, 0}, c = {NULL, 0};
    bool ok = split(reference, &r) && split(candidate, &c);
    int *row = ok ? calloc((size_t)c.count + 1, sizeof *row) : NULL;
    ok = row != NULL;
    if (ok) {
        const double both = (double)r.count + c.count;
        *rouge_l = both > 0 ? 2.0 * common(&r, &c, row) / both : 0;
        double logs = 0;
        for (int n = 1; n <= LONGEST; n++)
            logs += log(precision(&r, &c, n)) / LONGEST;
        *bleu = c.count ? exp(logs + fmin(0, 1 - (double)r.count / c.count)) : 0;
    }
    free(row);
    free(r.list);
    free(c.list);
    return ok;
}
