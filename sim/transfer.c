/* Transfers: kernel ports to memory, HBM, and the host link. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"

static const double micro = 1e-6, nano = 1e-9, giga = 1e9, mebi = 1048576;

/* ---- Kernel ports to DDR ------------------------------------------------------------------------------------ */

static qd_sim_port port_of(const qd_sim_ask *a, bool write) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    const bool hls = !strstr(config, "lsu="); /* Intel's load-store units send whole bursts back to back */
    qd_sim_port p = {.clock = a->row->clock, .channel = qd_sim_channel_rate(a->board, a->p)};
    p.width = qd_sim_number(config, "data_width_bits", a->board->port_bits) / 8;
    p.burst = qd_sim_number(config, "burst_length", 16); /* the HLS tools' default, which is also Intel's longest */
    p.outstanding = qd_sim_number(config, "outstanding", 16);
    p.latency = write ? a->p->write_latency * nano : qd_sim_read_latency(a->board, a->p);
    p.gap = write && hls ? a->p->write_gap : 0;
    p.stores = write && hls;
    return p;
}

bool qd_sim_axi(const qd_sim_ask *a, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    char direction[16], access[32];
    double size;
    if (a->row->clock <= 0) return qd_sim_cannot(a, "the clock is not stated");
    if (qd_sim_numbers(a->row->text[QD_SIM_SHAPE], ';', &size, 1) != 1)
        return qd_sim_cannot(a, "shape '%s' is no number of bytes", a->row->text[QD_SIM_SHAPE]);
    if (qd_sim_text(config, "access", access, sizeof access) && strcmp(access, "sequential") != 0)
        return qd_sim_cannot(a, "access=%s: only sequential access of a DDR channel is modelled", access);
    const bool copy = qd_sim_text(config, "direction", direction, sizeof direction) && strcmp(direction, "copy") == 0;
    const bool write = strcmp(a->row->text[QD_SIM_KIND], "axi_write") == 0;
    const double kernels = qd_sim_number(config, "kernels", 1), banks = qd_sim_number(config, "banks", 1);
    const double streams = copy ? kernels : qd_sim_number(config, "ports", kernels);
    const qd_sim_port reader = port_of(a, false), writer = port_of(a, true);
    double rate = copy    ? fmin(qd_sim_port_rate(&reader), qd_sim_port_rate(&writer))
                  : write ? qd_sim_port_rate(&writer)
                          : qd_sim_port_rate(&reader);
    /* All streams share the banks; a copy uses them twice. */
    rate = fmin(rate, reader.channel * banks / (streams * (copy ? 2 : 1)));
    const double latency = (copy ? reader.latency + writer.latency : write ? writer.latency : reader.latency);
    out->seconds = size / rate + latency;
    out->bytes = size * streams * (copy ? 2 : 1);
    return true;
}

/* ---- HBM ---------------------------------------------------------------------------------------------------- */

/* "3_buffers_in_2_channels" */
static bool buffers_in_channels(const char *mapping, double *buffers, double *channels) {
    char *end;
    *buffers = (double)strtol(mapping, &end, 10);
    if (end == mapping || strncmp(end, "_buffers_in_", 12) != 0) return false;
    *channels = (double)strtol(end + 12, &end, 10);
    return *buffers >= 1 && *channels >= 1 && strncmp(end, "_channel", 8) == 0;
}

bool qd_sim_hbm(const qd_sim_ask *a, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    char mapping[64], access[32];
    double size, buffers, in_channels;
    if (a->board->memory != QD_SIM_HBM) return qd_sim_cannot(a, "%s has no HBM", a->board->name);
    if (a->row->clock <= 0) return qd_sim_cannot(a, "the clock is not stated");
    if (qd_sim_numbers(a->row->text[QD_SIM_SHAPE], ';', &size, 1) != 1)
        return qd_sim_cannot(a, "shape '%s' is no number of bytes", a->row->text[QD_SIM_SHAPE]);
    qd_sim_text(config, "mapping", mapping, sizeof mapping);
    qd_sim_text(config, "access", access, sizeof access);
    const double peak = a->board->channel_gbps * giga, channel = qd_sim_channel_rate(a->board, a->p);
    /* A kernel's port goes through the memory's own, 256 bits at 450 MHz: the peak of a pseudo channel. */
    const double port = fmin(a->row->clock * qd_sim_number(config, "data_width_bits", 256) / 8, peak) * a->p->hbm_share;
    const double ports = qd_sim_number(config, "kernels", 1) * qd_sim_number(config, "ports_per_kernel", 1);
    const double channels = qd_sim_number(config, "pseudo_channels", a->board->channels);
    const double calls = qd_sim_number(config, "iterations", 1) > 1 ? 0 : a->p->launch * micro;
    if (buffers_in_channels(mapping, &buffers, &in_channels)) {
        /* A port reads and writes at once; a channel does one or the other. */
        const double reads = qd_sim_number(config, "reads", buffers), writes = qd_sim_number(config, "writes", 0);
        const double per_port = ceil(fmax(reads, writes) / ports) * size / port;
        const double per_channel = ceil(buffers / in_channels) * size / channel;
        out->seconds = fmax(per_port, per_channel) + calls;
        out->bytes = buffers * size;
        return true;
    }
    double of_channels = channel;
    double run = 0;
    if (strncmp(access, "random_", 7) == 0) {
        run = strtod(access + 7, NULL);
        if (run < 32) return qd_sim_cannot(a, "access=%s: fewer bytes than a burst of HBM", access);
        of_channels = run / (run / channel + a->p->hbm_activate * nano);
    }
    if (run > 0 && strcmp(mapping, "one_port_one_channel") != 0 && qd_sim_number(config, "rama_ip", 0) < 1)
        return qd_sim_cannot(
            a, "random access across channels without a reordering port: the switch's order rules are not modelled");
    out->bytes = size * ports;
    out->seconds = out->bytes / fmin(ports * port, channels * of_channels) + calls;
    return true;
}

/* ---- Host link ---------------------------------------------------------------------------------------------- */

static double link_rate(const qd_sim_ask *a) {
    return a->board->pcie_gbps * giga * a->p->link_share;
}

static double dma_rate(const qd_sim_ask *a, bool to_card) {
    if (qd_sim_is(a->row->text[QD_SIM_CONFIG], "path", "bsp_dma")) return fmin(link_rate(a), a->p->bsp_dma * giga);
    return to_card ? fmin(link_rate(a), a->p->xdma_read * giga) : link_rate(a);
}

double qd_sim_dma(const qd_sim_ask *a, double bytes, double buffers, bool to_card) {
    return buffers * a->p->buffer_call * micro + bytes / dma_rate(a, to_card);
}

/* A kernel that reads or writes the host's memory through the card's bridge, again and again: what does not stay in the
 * host's cache comes from its memory. Reading and writing at once, a pass waits for both round trips. */
static void bridge(const qd_sim_ask *a, double size, bool both, qd_sim_time *out) {
    const double ways = both ? 2 : 1;
    const double hits = fmin(1, a->p->host_cache * mebi / (ways * size));
    const double cached = size / link_rate(a), missed = ways * size / (a->p->host_memory * giga);
    out->seconds = ways * a->p->bridge_trip * micro + hits * cached + (1 - hits) * fmax(cached, missed);
    out->bytes = ways * size;
}

bool qd_sim_pcie(const qd_sim_ask *a, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG], *kind = a->row->text[QD_SIM_KIND];
    char path[64];
    double size;
    if (a->board->pcie_gbps <= 0) return qd_sim_cannot(a, "%s has no PCIe", a->board->name);
    if (qd_sim_numbers(a->row->text[QD_SIM_SHAPE], ';', &size, 1) != 1)
        return qd_sim_cannot(a, "shape '%s' is no number of bytes", a->row->text[QD_SIM_SHAPE]);
    const bool both = strcmp(kind, "pcie_bidir") == 0, to_card = strcmp(kind, "pcie_h2d") == 0;
    qd_sim_text(config, "path", path, sizeof path);
    if (strcmp(path, "kernel_axi_to_host_memory_slave_bridge") == 0) {
        bridge(a, size, both, out);
        return true;
    }
    if (strcmp(path, "xdma") != 0 && strcmp(path, "bsp_dma") != 0)
        return qd_sim_cannot(a, "path=%s: known are xdma, bsp_dma and kernel_axi_to_host_memory_slave_bridge", path);
    const double buffers = qd_sim_number(config, "buffers", 1);
    out->bytes = size * buffers;
    /* Both directions at once: half of the buffers each, and the slower direction ends last. */
    out->seconds =
        both ? fmax(qd_sim_dma(a, out->bytes / 2, buffers / 2, true), qd_sim_dma(a, out->bytes / 2, buffers / 2, false))
             : qd_sim_dma(a, out->bytes, buffers, to_card);
    return true;
}
