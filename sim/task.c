/* What a task takes on a board: the cycle model of the unit, with streams as fast as the board's memory; and a vector
 * unit for everything else.
 *
 * Every tensor lies in stripes of 4 KiB over all channels. A stream has a port to each channel (w: several, where
 * there are more), and of the channel as much as its part of the task's bytes: all streams of a task that memory holds
 * up would end at the same time. */
#include <math.h>
#include <string.h>

#include "core/status.h"
#include "sim/log.h"

_Static_assert((int)QD_SIM_CAUSE_TAIL == (int)QD_UNIT_TAIL && (int)QD_SIM_CAUSE_VECTOR == (int)QD_UNIT_CAUSES,
               "a report's causes begin with the unit's");
_Static_assert((int)QD_SIM_BYTES_W == (int)QD_UNIT_W && (int)QD_SIM_BYTES_Y == (int)QD_UNIT_Y,
               "traffic has the order of the unit's streams");

static const double stripe = 4096;
static const double channel_bytes = 12; /* of a beat of the stream c */

bool qd_sim_task_same(const qd_sim_task *a, const qd_sim_task *b) {
    return a->place == b->place && a->n == b->n && a->m == b->m && a->k == b->k && a->times == b->times &&
           a->w_bits == b->w_bits && a->part == b->part && a->w_memory == b->w_memory && a->x_memory == b->x_memory &&
           a->y_memory == b->y_memory && a->run == b->run && a->macs == b->macs && a->reads == b->reads &&
           a->writes == b->writes && a->elements == b->elements && a->element_bits == b->element_bits;
}

/* ---- Memory ------------------------------------------------------------------------------------------------- */

static double hertz(const qd_sim_machine *m) {
    return m->design.clock_mhz * 1e6;
}

/* A kernel's port that gets `share` of a channel, with runs of `run` bytes (0: as long as a burst). */
static double port_rate(const qd_sim_machine *m, bool stores, double share, double run) {
    const qd_sim_board *b = m->board;
    const double width = b->port_bits / 8.0, beats = run > 0 ? ceil(run / width) : b->burst;
    qd_sim_port p = {.clock = hertz(m),
                     .width = width,
                     .burst = fmin(beats, b->burst),
                     .outstanding = b->outstanding,
                     .latency = stores ? m->params.write_latency * 1e-9 : qd_sim_read_latency(b, &m->params),
                     .gap = stores ? m->params.write_gap : 0,
                     .channel = qd_sim_channel_rate(b, &m->params) * share,
                     .stores = stores};
    const double used =
        run > 0 ? fmin(1, run / (p.burst * width)) : 1; /* of a burst that a short run leaves unfilled */
    return qd_sim_port_rate(&p) * used;
}

static double channels_of(const qd_sim_machine *m, double bytes) {
    return fmax(1, fmin(m->board->channels, ceil(bytes / stripe)));
}

/* ---- The unit ----------------------------------------------------------------------------------------------- */

/* Bytes in memory of each stream's beats, for one product that took `r`. */
static void count_bytes(const qd_sim_machine *m, const qd_sim_task *t, const qd_unit_report *r,
                        double bytes[QD_SIM_TRAFFIC]) {
    /* Columns that only fill up a group are made, not read. */
    const double columns = (double)t->m / (ceil((double)t->m / m->design.cols) * m->design.cols);
    bytes[QD_SIM_BYTES_W] = (double)r->beats[QD_UNIT_W] * m->design.w_bytes * t->w_memory;
    bytes[QD_SIM_BYTES_X] = (double)r->beats[QD_UNIT_X] * m->design.x_bytes * t->x_memory * columns;
    bytes[QD_SIM_BYTES_C] = (double)r->beats[QD_UNIT_C] * channel_bytes;
    bytes[QD_SIM_BYTES_Y] = (double)t->m * (double)t->n * t->y_memory;
}

static void set_streams(const qd_sim_machine *m, const qd_sim_task *t, const qd_unit_report *r,
                        const double bytes[QD_SIM_TRAFFIC], qd_unit_streams *out) {
    double load[QD_SIM_TRAFFIC], all = 0, spread[QD_SIM_TRAFFIC];
    const double latency = ceil(qd_sim_read_latency(m->board, &m->params) * hertz(m));
    for (int i = 0; i < QD_SIM_TRAFFIC; i++) {
        spread[i] = channels_of(m, bytes[i] * (double)t->times);
        all += load[i] = bytes[i] / spread[i];
    }
    for (int i = 0; i < QD_SIM_TRAFFIC; i++) {
        qd_unit_stream *s = &out->stream[i];
        const bool stores = i == QD_SIM_BYTES_Y;
        if (bytes[i] <= 0 || r->beats[i] == 0) continue;
        /* Sums of blocks are scaled and added on their way out; only the results of that go to memory. */
        if (stores && t->part) continue;
        const double ports = qd_sim_ports(m->board, i == QD_SIM_BYTES_W);
        const double run = i == QD_SIM_BYTES_X ? (double)t->run : 0;
        const double rate = spread[i] * ports * port_rate(m, stores, load[i] / all / ports, run);
        const double beat = bytes[i] / (double)r->beats[i];
        const double waiting =
            m->board->port_bits / 8.0 * m->board->burst * m->board->outstanding * spread[i] * ports / beat;
        s->rate = rate / beat / hertz(m);
        s->depth = (uint32_t)fmax(2, fmin(waiting, 65536));
        s->latency = stores ? 0 : (uint64_t)latency;
    }
}

static qd_status run_unit(const qd_sim_machine *m, const qd_sim_task *t, qd_sim_step *out) {
    const qd_unit_shape shape = qd_sim_unit_shape(&m->design);
    const qd_unit_product p = {t->m, t->n, t->k, t->w_bits, t->part};
    qd_unit_streams streams = {0};
    double bytes[QD_SIM_TRAFFIC];
    qd_unit *u = NULL;
    qd_status status;
    /* First with memory that never waits: what goes through the streams. */
    QD_TRY(qd_unit_open(&shape, NULL, &u));
    QD_TRY(qd_unit_give_product(u, &p, NULL, NULL));
    qd_unit_report r = qd_unit_report_of(u);
    count_bytes(m, t, &r, bytes);
    qd_unit_close(u);
    u = NULL;
    set_streams(m, t, &r, bytes, &streams);
    QD_TRY(qd_unit_open(&shape, &streams, &u));
    for (int64_t i = 0; i < t->times; i++)
        QD_TRY(qd_unit_give_product(u, &p, NULL, NULL));
    r = qd_unit_report_of(u);
    out->cycles = r.cycles;
    for (int i = 0; i < QD_UNIT_CAUSES; i++)
        out->cause[i] = r.cause[i];
    out->products = out->cause[QD_SIM_CAUSE_WORK] * (uint64_t)m->design.rows * (uint64_t)m->design.cols *
                    (uint64_t)m->design.lanes * (t->w_bits == 4 ? 2 : 1);
    for (int i = 0; i < QD_SIM_TRAFFIC; i++)
        out->bytes[i] = (uint64_t)llround(bytes[i] * (double)t->times);
error:
    qd_unit_close(u);
    return status;
}

/* ---- The vector unit ---------------------------------------------------------------------------------------- */

/* It keeps pace with a port: an operation for each element of a beat, in a cycle. One port reads, another writes, on
 * channels of their own where there are two. */
static void run_vector(const qd_sim_machine *m, const qd_sim_task *t, qd_sim_step *out) {
    const double lanes = fmax(1, floor((double)m->board->port_bits / (t->element_bits ? t->element_bits : 32)));
    const double all = t->reads + t->writes;
    const bool alone = m->board->channels > 1;
    const double reads = t->reads > 0 ? t->reads / port_rate(m, false, alone ? 1 : t->reads / all, 0) : 0,
                 writes = t->writes > 0 ? t->writes / port_rate(m, true, alone ? 1 : t->writes / all, 0) : 0;
    const double work = fmax(1, ceil(fmax(t->macs, t->elements) / lanes));
    const double memory = ceil((qd_sim_read_latency(m->board, &m->params) + fmax(reads, writes)) * hertz(m));
    out->cycles = (uint64_t)fmax(work, memory);
    out->cause[QD_SIM_CAUSE_VECTOR] = (uint64_t)work;
    out->cause[QD_SIM_CAUSE_MEMORY] = out->cycles - (uint64_t)work;
    out->bytes[QD_SIM_BYTES_X] = (uint64_t)llround(t->reads);
    out->bytes[QD_SIM_BYTES_Y] = (uint64_t)llround(t->writes);
}

/* ---- Any ---------------------------------------------------------------------------------------------------- */

qd_status qd_sim_task_run(const qd_sim_machine *m, const qd_sim_task *t, qd_sim_step *out) {
    memset(out, 0, sizeof *out);
    out->task = *t;
    switch (t->place) {
        case QD_SIM_UNIT:
            return run_unit(m, t, out);
        case QD_SIM_VECTOR:
            run_vector(m, t, out);
            return QD_OK;
        case QD_SIM_HOST:
            out->cycles = (uint64_t)llround(m->params.launch * 1e-6 * hertz(m));
            out->cause[QD_SIM_CAUSE_LAUNCH] = out->cycles;
            return QD_OK;
    }
    return QD_OK;
}
