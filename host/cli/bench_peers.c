/* Rounds: qdot and its peers do a work in turn, so that a busy moment does not hit only one of them. */
#include "cli/bench_peers.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* What tests/bench/peers.sh makes: for telling what is absent. A peer is a row here, and a file in tests/bench/peers.
 */
static const char *const known[] = {"onnxruntime", "onednn",           "llama.cpp",      "clblast",
                                    "tflite",      "onnxruntime+qdot", "llama.cpp+qdot", "tflite+qdot"};
enum { KNOWN = sizeof known / sizeof known[0] };

/* ---- Peers -------------------------------------------------------------------------------------------------- */

static bool find_folder(const char *folder, char *path, size_t size) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (!folder) folder = getenv("QDOT_PEERS");
    int n;
    if (folder) {
        n = snprintf(path, size, "%s", folder);
    } else if (cache) {
        n = snprintf(path, size, "%s/qdot/peers", cache);
    } else {
        n = snprintf(path, size, "%s/.cache/qdot/peers", home ? home : "");
    }
    return (n >= 0 && (size_t)n < size) || qd_cli_fail("the name of the folder of peers is too long") == QD_EXIT_OK;
}

static int is_visible(const struct dirent *e) {
    return e->d_name[0] != '.';
}

static void start_peer(qd_bench_comparison *x, const char *folder, const char *name) {
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (access(path, X_OK) != 0) return;
    qd_bench_peer *p = &x->peers[x->peer_count++];
    if (qd_bench_peer_start(p, path, x->threads, x->patience)) return;
    snprintf(p->name, sizeof p->name, "%.47s", name);
    snprintf(p->version, sizeof p->version, "?");
}

bool qd_bench_start_peers(qd_bench_comparison *x, const char *folder) {
    char path[4096];
    struct dirent **list;
    if (!find_folder(folder, path, sizeof path)) return false;
    const int found = scandir(path, &list, is_visible, alphasort);
    for (int i = 0; i < found; i++) {
        if (x->peer_count < QD_BENCH_MOST_PEERS && !qd_cli_stopped()) start_peer(x, path, list[i]->d_name);
        free(list[i]);
    }
    if (found >= 0) free(list);
    size_t used = 0;
    for (int i = 0; i < KNOWN; i++) {
        bool here = false;
        for (int p = 0; p < x->peer_count; p++)
            here = here || strcmp(x->peers[p].name, known[i]) == 0;
        if (!here)
            used += (size_t)snprintf(x->absent + used, sizeof x->absent - used, "%s%s", used ? ", " : "", known[i]);
    }
    return !qd_cli_stopped() || qd_cli_fail("stopped") == QD_EXIT_OK;
}

void qd_bench_end_peers(qd_bench_comparison *x) {
    for (int p = 0; p < x->peer_count; p++)
        qd_bench_peer_end(&x->peers[p]);
}

/* ---- One work ----------------------------------------------------------------------------------------------- */

/* Who takes turns: qdot, then the peers. */
typedef struct runner {
    int64_t passes; /* of a turn; 0: takes no part */
    double expected, *values;
} runner;

static double own_cpu_seconds(const qd_bench_comparison *x) {
    double total = 0;
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) == 0)
        total +=
            (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    for (int p = 0; p < x->peer_count; p++)
        total += qd_bench_peer_cpu_seconds(&x->peers[p]);
    return total;
}

/* Turn of participant i. False: the user stopped or qdot itself failed; a peer that fails only takes no more part. */
static bool take_turn(qd_bench_comparison *x, qd_bench_own *own, qd_bench_result *r, runner *all, int i,
                      double *seconds) {
    const double patience = x->patience + 10 * all[i].expected;
    if (i == 0) return qd_bench_own_run(own, all[0].passes, seconds);
    qd_bench_peer *p = &x->peers[i - 1];
    if (qd_bench_peer_run(p, all[i].passes, patience, seconds)) return true;
    all[i].passes = 0;
    snprintf(r->parts[i - 1].note, sizeof r->parts[i - 1].note, "%s", p->why);
    return !qd_cli_stopped() || qd_cli_fail("stopped") == QD_EXIT_OK;
}

/* Once to warm up (which may compile), once to see how long it takes. */
static bool find_passes(qd_bench_comparison *x, qd_bench_own *own, qd_bench_result *r, runner *all, int i) {
    double once = 0;
    all[i].passes = 1;
    for (int k = 0; k < 2 && all[i].passes > 0; k++) {
        if (!take_turn(x, own, r, all, i, &once)) return false;
    }
    if (all[i].passes == 0) return true;
    const double fit = x->effort.seconds / x->effort.runs / (once > 1e-7 ? once : 1e-7);
    all[i].passes = fit < 1 ? 1 : (int64_t)fit;
    all[i].expected = once * (double)all[i].passes;
    return true;
}

static bool prepare_peers(qd_bench_comparison *x, const qd_bench_work *w, double own_mark, qd_bench_result *r,
                          runner *all) {
    char line[QD_BENCH_PEER_LINE];
    if (!qd_bench_work_line(w, line, sizeof line)) return false;
    for (int i = 0; i < x->peer_count; i++) {
        double mark;
        if (qd_bench_peer_prepare(&x->peers[i], line, x->patience, &mark)) {
            all[i + 1].passes = 1;
            r->parts[i].differs = isfinite(mark) && isfinite(own_mark) && fabs(mark - own_mark) > w->tolerance;
        } else {
            snprintf(r->parts[i].note, sizeof r->parts[i].note, "%s", x->peers[i].why);
        }
        if (qd_cli_stopped()) return qd_cli_fail("stopped") == QD_EXIT_OK;
    }
    return true;
}

static void summarize(const qd_bench_comparison *x, qd_bench_result *r, runner *all) {
    const int runs = x->effort.runs;
    const double calls = r->work->copies;
    for (int i = x->peer_count; i >= 0; i--) {
        if (all[i].passes == 0) continue;
        double ratios[QD_BENCH_MAX_RUNS], seconds[QD_BENCH_MAX_RUNS];
        for (int k = 0; k < runs; k++) {
            seconds[k] = all[i].values[k] / calls;
            ratios[k] = all[i].values[k] / all[0].values[k];
        }
        if (i == 0) {
            r->seconds = qd_bench_summarize(seconds, runs);
            continue;
        }
        r->parts[i - 1].done = true;
        r->parts[i - 1].seconds = qd_bench_summarize(seconds, runs);
        r->parts[i - 1].ratio = qd_bench_summarize(ratios, runs);
    }
}

static bool take_turns(qd_bench_comparison *x, qd_bench_own *own, qd_bench_result *r, runner *all) {
    const int participants = x->peer_count + 1;
    double mark = NAN, seconds = 0;
    /* qdot's own results are there after the first run. */
    if (!find_passes(x, own, r, all, 0) || !qd_bench_own_mark(own, &mark) || !prepare_peers(x, r->work, mark, r, all))
        return false;
    for (int i = 1; i < participants; i++) {
        if (all[i].passes > 0 && !find_passes(x, own, r, all, i)) return false;
    }
    const double busy = qd_bench_busy_seconds(), cpu = own_cpu_seconds(x), start = qd_cli_seconds();
    /* Round -1 warms up. Another one begins each time. */
    for (int k = -1; k < x->effort.runs; k++) {
        for (int j = 0; j < participants; j++) {
            const int i = (j + k + 1) % participants;
            if (all[i].passes == 0) continue;
            if (!take_turn(x, own, r, all, i, &seconds)) return false;
            if (k >= 0) all[i].values[k] = seconds / (double)all[i].passes;
        }
    }
    const double others = qd_bench_busy_seconds() - busy - (own_cpu_seconds(x) - cpu);
    const double cores = (qd_cli_seconds() - start) * (double)x->machine.processors;
    r->others = busy < 0 ? -1 : others > 0 ? others / cores : 0;
    summarize(x, r, all);
    snprintf(r->kernel, sizeof r->kernel, "%s", qd_bench_own_kernel(own));
    return true;
}

static bool compare_work(qd_bench_comparison *x, qd_context *c, qd_model *m, const qd_bench_work *w,
                         qd_bench_result *r) {
    const size_t runs = (size_t)x->effort.runs;
    runner all[QD_BENCH_MOST_PEERS + 1] = {0};
    double *values = calloc(runs * (QD_BENCH_MOST_PEERS + 1), sizeof *values);
    if (!values) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    for (int i = 0; i <= QD_BENCH_MOST_PEERS; i++)
        all[i].values = values + (size_t)i * runs;
    r->work = w;
    qd_bench_own *own = qd_bench_own_create(c, m, w);
    const bool ok = own && take_turns(x, own, r, all);
    qd_bench_own_free(own);
    free(values);
    return ok;
}

/* ---- All ---------------------------------------------------------------------------------------------------- */

static bool measure_read_rate(qd_bench_comparison *x) {
    double rate = 0;
    if (!qd_bench_read_rate(x->threads, x->effort.seconds, &rate)) return false;
    if (rate > x->read_rate) x->read_rate = rate;
    return true;
}

bool qd_bench_compare(qd_bench_comparison *x, qd_context *c, qd_model *m, const qd_bench_work *works, int count) {
    const double start = qd_cli_seconds();
    bool ok = measure_read_rate(x) && qd_bench_measure_peak(x->threads, x->effort.seconds / 4, &x->peak);
    for (int i = 0; ok && i < count; i++) {
        char what[120] = "works";
        const double left = i > 0 ? (qd_cli_seconds() - start) / i * (count - i) : 0;
        if (i > 0) snprintf(what, sizeof what, "works (%.0f s left)", left);
        qd_cli_progress(what, i, count);
        ok = compare_work(x, c, m, &works[i], &x->results[i]);
        if (ok) x->count++;
    }
    qd_cli_progress("works", 1, 1);
    return ok && measure_read_rate(x);
}

/* ---- Statistics --------------------------------------------------------------------------------------------- */

static bool is_plugin(const qd_bench_peer *p) {
    const size_t size = strlen(p->name);
    return size > 5 && strcmp(p->name + size - 5, "+qdot") == 0;
}

/* 0: none. */
static double ratio_to(const qd_bench_comparison *x, const qd_bench_result *r, int peer) {
    double least = 0;
    for (int i = 0; i < x->peer_count; i++) {
        const bool counts = peer < 0 ? !is_plugin(&x->peers[i]) : i == peer;
        if (counts && r->parts[i].done && (least == 0 || r->parts[i].ratio.median < least))
            least = r->parts[i].ratio.median;
    }
    return least;
}

qd_bench_summary qd_bench_summarize_kind(const qd_bench_comparison *x, qd_bench_kind kind, int peer) {
    qd_bench_summary s = {0};
    double logs = 0;
    for (int i = 0; i < x->count; i++) {
        const qd_bench_result *r = &x->results[i];
        const double ratio = r->work->kind == kind ? ratio_to(x, r, peer) : 0;
        if (ratio <= 0) continue;
        s.works++;
        s.below += ratio < 0.8;
        logs += log(ratio);
        if (s.works > 1 && ratio >= s.least) continue;
        s.least = ratio;
        s.least_name = r->work->name;
    }
    if (s.works > 0) s.mean = exp(logs / s.works);
    return s;
}

double qd_bench_of_roof(const qd_bench_comparison *x, const qd_bench_work *w, double seconds) {
    const double peak = w->kind == QD_BENCH_SGEMM ? x->peak.floats : x->peak.codes;
    return fmax(w->bytes / x->read_rate, w->operations / peak) / seconds;
}
