/* Boards and parameters: the tables of boards.def and params.def. */
#include <string.h>
#include <strings.h>

#include "core/status.h"
#include "sim/sim.h"

static const qd_sim_board boards[] = {
#define QD_SIM_BOARD(...) {__VA_ARGS__},
#include "sim/boards.def"
#undef QD_SIM_BOARD
};
enum { BOARDS = sizeof boards / sizeof boards[0] };

const qd_sim_param_info qd_sim_param_table[QD_SIM_PARAMS] = {
#define QD_SIM_PARAM(name, start, value, unit, what) {#name, start, value, unit, what},
#include "sim/params.def"
#undef QD_SIM_PARAM
};

double *qd_sim_param(qd_sim_params *p, int i) {
    return (double *)p + i;
}

qd_sim_params qd_sim_params_start(void) {
    qd_sim_params p;
    for (int i = 0; i < QD_SIM_PARAMS; i++)
        *qd_sim_param(&p, i) = qd_sim_param_table[i].start;
    return p;
}

qd_sim_params qd_sim_params_value(void) {
    qd_sim_params p;
    for (int i = 0; i < QD_SIM_PARAMS; i++)
        *qd_sim_param(&p, i) = qd_sim_param_table[i].value;
    return p;
}

const qd_sim_board *qd_sim_board_at(int i) {
    return i >= 0 && i < BOARDS ? &boards[i] : NULL;
}

const char *qd_sim_board_name(int i) {
    return i >= 0 && i < BOARDS ? boards[i].name : NULL;
}

const char *qd_sim_board_names(void) {
    static const char names[] =
#define QD_SIM_BOARD(name, ...) ", " name
#include "sim/boards.def"
#undef QD_SIM_BOARD
        ;
    return names + 2;
}

const qd_sim_board *qd_sim_board_find(const char *name) {
    for (int i = 0; i < BOARDS; i++) {
        const char *dash = strchr(boards[i].name, '-');
        const bool maker = strncmp(boards[i].name, "Alveo-", 6) == 0 || strncmp(boards[i].name, "Intel-", 6) == 0;
        if (strcasecmp(boards[i].name, name) == 0 || (maker && strcasecmp(dash + 1, name) == 0)) return &boards[i];
    }
    return NULL;
}

/* Two int8 products share a DSP block with a port of 25 bits or more; see hls/README.md. */
enum { PRODUCTS_OF_A_DSP = 2 };

qd_status qd_sim_board_check(const qd_sim_board *b) {
    const long products = (long)b->rows * b->cols * b->lanes;
    if (!(b->clock_mhz > 0)) return qd_fail(QD_ERR_ARGUMENT, "board %s: the clock must be above 0 MHz", b->name);
    if (b->rows < 1 || b->cols < 1 || b->lanes < 1)
        return qd_fail(QD_ERR_ARGUMENT, "board %s: the array %d x %d x %d has a side below 1", b->name, b->rows,
                       b->cols, b->lanes);
    if (products > (long)PRODUCTS_OF_A_DSP * b->dsps)
        return qd_fail(QD_ERR_ARGUMENT, "board %s: an array of %ld products a cycle needs more than its %d DSP blocks",
                       b->name, products, b->dsps);
    if (b->channels < 1 || !(b->channel_gbps > 0))
        return qd_fail(QD_ERR_ARGUMENT, "board %s: it needs at least one memory channel, of more than 0 GB/s", b->name);
    if (b->port_bits < 8 || b->port_bits % 8 || b->ports < 1 || b->burst < 1 || b->outstanding < 1)
        return qd_fail(QD_ERR_ARGUMENT, "board %s: a port needs whole bytes, a burst and a request under way", b->name);
    /* AXI: a burst ends at a border of 4 KiB. */
    if (b->port_bits / 8 * b->burst > 4096)
        return qd_fail(QD_ERR_ARGUMENT, "board %s: a burst of %d beats of %d bits is longer than 4096 bytes", b->name,
                       b->burst, b->port_bits);
    if (b->latency_ns < 0 || b->pcie_gbps < 0)
        return qd_fail(QD_ERR_ARGUMENT, "board %s: latency and PCIe must not be negative", b->name);
    if (b->channels > QD_SIM_MOST_CHANNELS || !(b->watts > 0))
        return qd_fail(QD_ERR_ARGUMENT, "board %s: at most %d memory channels, and more than 0 W", b->name,
                       QD_SIM_MOST_CHANNELS);
    return QD_OK;
}
