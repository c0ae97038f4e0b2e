/* Ports and memory channels. */
#include <math.h>

#include "sim/sim.h"

double qd_sim_port_rate(const qd_sim_port *p) {
    const double bytes = p->width * p->burst;
    const double data = p->burst / p->clock;
    const double issue = data + p->gap / p->clock;                /* the port itself */
    const double round = p->latency + (p->stores ? 2 : 1) * data; /* request to last data or response */
    const double channel = bytes / p->channel;
    return bytes / fmax(issue, fmax(round / p->outstanding, channel));
}

double qd_sim_channel_rate(const qd_sim_board *b, const qd_sim_params *p) {
    return b->channel_gbps * 1e9 * (b->memory == QD_SIM_HBM ? p->hbm_share : p->ddr_share);
}

double qd_sim_read_latency(const qd_sim_board *b, const qd_sim_params *p) {
    return (b->latency_ns > 0 ? b->latency_ns : p->read_latency) * 1e-9;
}
