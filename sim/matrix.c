/* Arrays of multipliers: matrix products, products with a vector, convolutions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"

static const double micro = 1e-6;

/* `x` rounded up to whole pieces. */
static double padded(double x, double piece) {
    return ceil(x / piece) * piece;
}

/* The rate of a kernel's port that reads long runs. */
static double stream_rate(const qd_sim_ask *a, double bits) {
    const qd_sim_port p = {.clock = a->row->clock,
                           .width = bits / 8,
                           .burst = a->board->burst,
                           .outstanding = a->board->outstanding,
                           .latency = qd_sim_read_latency(a->board, a->p),
                           .channel = qd_sim_channel_rate(a->board, a->p)};
    return qd_sim_port_rate(&p);
}

/* ---- Matrix products ---------------------------------------------------------------------------------------- */

/* A systolic array whose loads, work and stores overlap (AutoSA): the slowest of the three, then what cannot overlap,
 * the first tile's load and the last one's store. A, B and C have banks of their own, as far as there are banks. */
static bool systolic(const qd_sim_ask *a, const double dims[3], double per_cycle, double element, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    char text[48];
    double tile[3];
    if (!qd_sim_text(config, "array_tile", text, sizeof text) || qd_sim_numbers(text, 'x', tile, 3) != 3)
        return qd_sim_cannot(a, "config names no array_tile of three sizes");
    const double m = padded(dims[0], tile[0]), n = padded(dims[1], tile[1]), k = padded(dims[2], tile[2]);
    const double bank = stream_rate(a, a->board->port_bits);
    const double work = m * n * k / per_cycle / a->row->clock;
    const double loads[2] = {m * k * (n / tile[1]) * element / bank, k * n * (m / tile[0]) * element / bank};
    const double store = m * n * fmax(element, 4) / bank;
    const bool apart = qd_sim_number(config, "banks", 1) >= 3;
    const double memory = apart ? fmax(fmax(loads[0], loads[1]), store) : loads[0] + loads[1] + store;
    const double first = (tile[0] + tile[1]) * tile[2] * element / bank,
                 last = tile[0] * tile[1] * fmax(element, 4) / bank;
    out->seconds = fmax(work, memory) + first + last + a->p->launch * micro;
    return true;
}

/* Vitis BLAS: per block of C, of 8 x 8 arrays, blocks of A and B are read and then multiplied; X is read, C written. */
static double blas_kernel(const qd_sim_ask *a, const double dims[3], double per_cycle, double element) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    char text[48];
    double array[2];
    if (!qd_sim_text(config, "array_per_kernel", text, sizeof text) || qd_sim_numbers(text, 'x', array, 2) != 2)
        return 0;
    const double block = 8 * array[0];
    const double m = padded(dims[0], array[0]), n = padded(dims[1], array[1]), k = padded(dims[2], array[0]);
    const double port = stream_rate(a, qd_sim_number(config, "ddr_width_bits_per_kernel", a->board->port_bits));
    const double work = m * n * k / per_cycle / a->row->clock;
    const double blocks = ceil(m / block) * ceil(n / block) * ceil(k / block);
    const double read = (m * k * ceil(n / block) + k * n * ceil(m / block)) * element / port;
    const double result = 2 * m * n * element / port;
    return work + read + result + 2 * blocks * qd_sim_read_latency(a->board, a->p);
}

static bool blas(const qd_sim_ask *a, const double dims[3], double per_cycle, double element, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    const double kernels = qd_sim_number(config, "kernels", 1);
    const double kernel = blas_kernel(a, dims, per_cycle / kernels, element);
    if (kernel <= 0) return qd_sim_cannot(a, "array_per_kernel is not ROWSxCOLS");
    out->seconds = kernel;
    if (!qd_sim_is(config, "scope", "api")) return true;
    if (strstr(a->row->text[QD_SIM_NOTE], "cold"))
        return qd_sim_cannot(a, "a cold first call: the host's set-up and page allocation are not modelled");
    const double m = dims[0], n = dims[1], k = dims[2];
    out->seconds += a->p->library_call * micro + a->p->launch * micro +
                    qd_sim_dma(a, kernels * (m * k + k * n + m * n) * element, 3 * kernels, true) +
                    qd_sim_dma(a, kernels * m * n * element, kernels, false);
    return true;
}

bool qd_sim_gemm(const qd_sim_ask *a, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    double dims[8];
    const double per_cycle = qd_sim_number(config, "macs_per_cycle", 0);
    const double lanes = qd_sim_number(config, "lanes_per_cycle", per_cycle);
    const int n = qd_sim_numbers(a->row->text[QD_SIM_SHAPE], ';', dims, 8);
    const double element = qd_sim_element(a->row->text[QD_SIM_DTYPE]);
    if (n < 3) return qd_sim_cannot(a, "shape '%s' is no list of at least three sizes", a->row->text[QD_SIM_SHAPE]);
    if (element <= 0) return qd_sim_cannot(a, "dtype '%s' has no known size", a->row->text[QD_SIM_DTYPE]);
    if (lanes <= 0) return qd_sim_cannot(a, "config says neither macs_per_cycle nor lanes_per_cycle");
    if (a->row->clock <= 0) return qd_sim_cannot(a, "the clock is not stated");
    if (strstr(config, "array_per_kernel=")) return blas(a, dims, per_cycle, element, out);
    if (n == 3 && qd_sim_is(config, "op", "mm")) return systolic(a, dims, per_cycle, element, out);
    /* Tensor kernels (TTMc, MTTKRP): loops of which each lane takes one point a cycle; their data is read once and
     * small. */
    double points = 1;
    for (int i = 0; i < n; i++)
        points *= dims[i];
    out->seconds = points / lanes / a->row->clock + a->p->launch * micro;
    return true;
}

/* ---- Products with a vector --------------------------------------------------------------------------------- */

bool qd_sim_gemv(const qd_sim_ask *a, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    const double channels = qd_sim_number(config, "hbm_channels", 0),
                 bits = qd_sim_number(config, "bits_per_channel_per_cycle", 256);
    const double element = qd_sim_element(a->row->text[QD_SIM_DTYPE]);
    const double per_cycle = qd_sim_number(config, "macs_per_cycle", 0);
    double dims[2];
    if (qd_sim_numbers(a->row->text[QD_SIM_SHAPE], ';', dims, 2) != 2)
        return qd_sim_cannot(a, "shape '%s' is not rows;columns", a->row->text[QD_SIM_SHAPE]);
    if (element <= 0 || channels <= 0 || a->row->clock <= 0)
        return qd_sim_cannot(a, "dtype, hbm_channels and clock are needed");
    /* Rows are shared out among the channels; a channel's rows come one after the other. */
    const double rows = ceil(dims[0] / channels), row_bytes = dims[1] * element;
    const double port =
        fmin(stream_rate(a, bits), bits / 8 * a->row->clock * (a->board->memory == QD_SIM_HBM ? a->p->hbm_share : 1));
    const double work =
        per_cycle > 0 ? padded(dims[1], per_cycle / channels) / (per_cycle / channels) / a->row->clock : 0;
    const double row = fmax(row_bytes / port, work) + a->p->fp64_row / a->row->clock;
    out->seconds = rows * row + a->p->stream_start / a->row->clock;
    if (strstr(config, "op=cg_iteration")) {
        /* Conjugate gradients with a Jacobi preconditioner: six vectors pass one port besides. */
        out->seconds += 6 * row_bytes / (bits / 8) / a->row->clock;
    }
    return true;
}

/* ---- Convolutions ------------------------------------------------------------------------------------------- */

/* A convolution as rows name its sizes. */
typedef struct window {
    double n, ci, h, w, co, k, stride, pad;
} window;

/* VTA (Moreau et al., arXiv 1807.04188): an output tile is made over steps of input-channel blocks; in each, a tile of
 * input and one of weights are loaded while the one before is multiplied; at the end the tile gets its bias, is
 * shifted, clipped and stored. Loads are two-dimensional DMA transfers. */
static bool vta(const qd_sim_ask *a, const window *v, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    char text[32];
    double block[2];
    const double per_cycle = qd_sim_number(config, "macs_per_cycle", 0);
    if (!qd_sim_text(config, "batch_block", text, sizeof text) || qd_sim_numbers(text, 'x', block, 2) != 2 ||
        per_cycle <= 0)
        return qd_sim_cannot(a, "VTA needs batch_block=BATCHxCHANNELS and macs_per_cycle");
    const double batch = block[0], co = block[1], ci = per_cycle / (batch * co);
    const double out_h = floor((v->h + 2 * v->pad - v->k) / v->stride) + 1,
                 out_w = floor((v->w + 2 * v->pad - v->k) / v->stride) + 1;
    if (out_h < 1 || out_w < 1) return qd_sim_cannot(a, "the window is larger than the image");
    const double tile_h = qd_sim_number(config, "tile_h", out_h), tile_w = qd_sim_number(config, "tile_w", out_w);
    const double tile_ci = qd_sim_number(config, "tile_ci_blocks", 1),
                 tile_co = qd_sim_number(config, "tile_co_blocks", 1);
    const double tiles =
        ceil(v->n / batch) * ceil(out_h / tile_h) * ceil(out_w / tile_w) * ceil(ceil(v->co / co) / tile_co);
    const double steps = ceil(ceil(v->ci / ci) / tile_ci);
    const double in_h = (tile_h - 1) * v->stride + v->k, in_w = (tile_w - 1) * v->stride + v->k;

    const double work = tile_h * tile_w * v->k * v->k * tile_ci * tile_co;
    const double bytes = in_h * in_w * tile_ci * ci * batch + v->k * v->k * tile_ci * tile_co * ci * co;
    const double load = bytes / a->p->acp_bytes + 2 * a->p->acp_latency;
    const double vectors = tile_h * tile_w * tile_co;
    /* The operators of ResNet-18 were measured without a bias, all others with one. */
    const bool bias = !qd_sim_is(config, "net", "Resnet-18");
    const double end = vectors * (batch * co / a->p->acp_bytes + (bias ? a->p->vta_bias : 0));
    /* Virtual threads let one tile's loads overlap another's work. */
    const bool overlap = qd_sim_number(config, "oc_nthread", 1) * qd_sim_number(config, "h_nthread", 1) > 1;
    const double step = overlap ? fmax(work, load) : work + load;
    out->seconds = tiles * (steps * step + end) / a->row->clock + a->p->vta_call * micro;
    return true;
}

bool qd_sim_conv(const qd_sim_ask *a, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG], *shape = a->row->text[QD_SIM_SHAPE];
    const window v = {.n = qd_sim_number(shape, "n", 1),
                      .ci = qd_sim_number(shape, "ci", 0),
                      .h = qd_sim_number(shape, "h", 0),
                      .w = qd_sim_number(shape, "w", 0),
                      .co = qd_sim_number(shape, "co", 0),
                      .k = qd_sim_number(shape, "k", 0),
                      .stride = qd_sim_number(shape, "stride", 1),
                      .pad = qd_sim_number(shape, "pad", 0)};
    const double per_cycle = qd_sim_number(config, "macs_per_cycle", qd_sim_number(config, "lanes_per_cycle", 0));
    const bool named = v.ci > 0 && v.h > 0 && v.w > 0 && v.co > 0 && v.k > 0;
    if (a->row->clock <= 0) return qd_sim_cannot(a, "the clock is not stated");
    if (qd_sim_is(config, "accel", "vta")) {
        return named ? vta(a, &v, out) : qd_sim_cannot(a, "shape '%s' lacks one of ci, h, w, co, k", shape);
    }
    if (per_cycle <= 0) return qd_sim_cannot(a, "config says neither macs_per_cycle nor lanes_per_cycle");
    double points = 1, dims[8];
    if (named) {
        const double out_h = floor((v.h + 2 * v.pad - v.k) / v.stride) + 1,
                     out_w = floor((v.w + 2 * v.pad - v.k) / v.stride) + 1;
        points = v.n * v.ci * v.co * v.k * v.k * fmax(out_h, 1) * fmax(out_w, 1);
    } else {
        /* The loops of a systolic array: output and input channels, output rows and columns, window rows and columns.
         */
        const int n = qd_sim_numbers(shape, ';', dims, 8);
        if (n < 5) return qd_sim_cannot(a, "shape '%s' names neither ci, h, w, co, k nor the loops' sizes", shape);
        for (int i = 0; i < n; i++)
            points *= dims[i];
    }
    out->seconds = points / per_cycle / a->row->clock + a->p->launch * micro;
    return true;
}
