/* `qdot bench --peers`: works that qdot and other libraries do in turn, in one run. */
#ifndef QDOT_CLI_BENCH_PEERS_H
#define QDOT_CLI_BENCH_PEERS_H

#include "cli/bench_peer.h"
#include "cli/bench_works.h"

enum { QD_BENCH_MOST_PEERS = 12 };

/** A peer's part of one work. */
typedef struct qd_bench_part {
    bool done, differs;      /* differs: its results are others than qdot's */
    char note[256];          /* why it is not done */
    qd_bench_spread seconds; /* of one call, or of a model's pass */
    qd_bench_spread ratio;   /* qdot's speed divided by the peer's, in the same round */
} qd_bench_part;

typedef struct qd_bench_result {
    const qd_bench_work *work;
    char kernel[48];
    qd_bench_spread seconds; /* qdot's */
    double others;           /* share of the cores that other programs used meanwhile; negative: unknown */
    qd_bench_part parts[QD_BENCH_MOST_PEERS];
} qd_bench_result;

/** The machine as its system describes it. */
typedef struct qd_bench_machine {
    char processor[80], features[200], caches[80];
    long processors;
} qd_bench_machine;
void qd_bench_describe_machine(qd_bench_machine *out);
/** Seconds that all processors together were busy since the start of the system; negative: unknown. */
double qd_bench_busy_seconds(void);

typedef struct qd_bench_comparison {
    qd_bench_effort effort;
    unsigned threads;
    double patience; /* seconds that a peer may let wait */
    qd_bench_machine machine;
    double read_rate; /* bytes per second; the faster of before and after */
    qd_bench_peak peak;
    qd_bench_peer peers[QD_BENCH_MOST_PEERS];
    int peer_count;
    char absent[256]; /* peers that are known, but not there; "" or "a, b" */
    qd_bench_result *results;
    int count;
} qd_bench_comparison;

/** Starts every program in `folder` (NULL: $QDOT_PEERS, else where tests/bench/peers.sh puts them). One that does not
 *  start stays in the list, with its reason. Prints a message and returns false on failure. */
bool qd_bench_start_peers(qd_bench_comparison *x, const char *folder);
void qd_bench_end_peers(qd_bench_comparison *x);
/** Lets all do the works, into x->results, which has room. `m`: for works of models. Prints a message and returns false
 *  on failure, or when the user stopped. */
bool qd_bench_compare(qd_bench_comparison *x, qd_context *c, qd_model *m, const qd_bench_work *works, int count);

/** Ratios of one kind of work to one peer. */
typedef struct qd_bench_summary {
    int works, below; /* of them with a ratio below 0.8 */
    double mean;      /* geometric */
    double least;
    const char *least_name;
} qd_bench_summary;
/** `peer` -1: to the fastest peer of each work; plug-ins, whose names end with "+qdot", are none. */
qd_bench_summary qd_bench_summarize_kind(const qd_bench_comparison *x, qd_bench_kind kind, int peer);
/** Share of the speed that the nearer roof allows. */
double qd_bench_of_roof(const qd_bench_comparison *x, const qd_bench_work *w, double seconds);

void qd_bench_print_comparison(const qd_bench_comparison *x, const qd_device_info *d);
int qd_bench_print_comparison_json(const qd_bench_comparison *x, const qd_device_info *d);
/** Writes the roofline chart. Prints a message and returns false on failure. */
bool qd_bench_draw_comparison(const qd_bench_comparison *x, const char *path);

#endif
