/* Whole networks: overlays that run layer by layer (DPU), pipelines of layers (FINN), and language models that stream
 * their weights. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim/sim.h"

static const double micro = 1e-6, milli = 1e-3, giga = 1e9;
static const double processors = 4; /* Cortex-A53 of a Zynq UltraScale+ (DS891) */

/* ---- Layer by layer ----------------------------------------------------------------------------------------- */

/* The array of a DPU core: products of pixels x input channels x output channels a cycle. */
typedef struct overlay {
    double pixels, in, out;
} overlay;

/* Cycles of a convolution on the array (PG338): each side is filled up to the array's; windows go one position a cycle.
 * With few input channels, positions of a row of the window stand beside each other in their place. Depthwise: no sum
 * over channels. */
static double layer_cycles(const overlay *o, const qd_sim_layer *l) {
    const double positions = l->out * ceil(l->out / o->pixels);
    if (l->kind == QD_SIM_POOL || l->kind == QD_SIM_ADD) return 0; /* bound by memory */
    if (l->kind == QD_SIM_DEPTH) return positions * ceil(l->channels / o->in) * l->kernel_h * l->kernel_w;
    const double outer = ceil(l->channels / o->out);
    const double inner = l->in_channels * 2 <= o->in ? l->kernel_h * ceil(l->in_channels * l->kernel_w / o->in)
                                                     : l->kernel_h * l->kernel_w * ceil(l->in_channels / o->in);
    return positions * outer * inner;
}

/* Bytes of a layer's weights, inputs and output, one each. */
static double layer_bytes(const qd_sim_layer *l) {
    const double side = l->out * l->stride, output = (double)l->out * l->out * l->channels;
    const double input = side * side * l->in_channels;
    const double window = (double)l->kernel_h * l->kernel_w * l->channels;
    switch (l->kind) {
        case QD_SIM_CONV:
            return input + output + window * l->in_channels;
        case QD_SIM_DEPTH:
            return input + output + window;
        case QD_SIM_POOL:
            return input + output;
        case QD_SIM_ADD:
            return 2 * input + output;
    }
    return 0;
}

static bool dpu(const qd_sim_ask *a, const qd_sim_network_info *net, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    const overlay o = {qd_sim_number(config, "pixel_par", 0), qd_sim_number(config, "in_ch_par", 0),
                       qd_sim_number(config, "out_ch_par", 0)};
    const double cores = qd_sim_number(config, "cores_used", 1);
    double image[3];
    if (o.pixels <= 0 || o.in <= 0 || o.out <= 0)
        return qd_sim_cannot(a, "an overlay needs pixel_par, in_ch_par and out_ch_par");
    if (a->row->clock <= 0) return qd_sim_cannot(a, "the clock is not stated");
    if (qd_sim_numbers(a->row->text[QD_SIM_SHAPE], 'x', image, 3) < 1 || (int)image[0] != net->input)
        return qd_sim_cannot(a, "the layers of %s are known for images of %d x %d", net->name, net->input, net->input);
    /* One thread: one frame after the other, the processor's part included. Many: all cores run, and share the memory.
     */
    const bool many = qd_sim_is(config, "threads", "saturating");
    const double peak = a->board->channels * a->board->channel_gbps * giga;
    const double port = peak * (many ? fmin(a->p->dpu_port, a->p->dpu_memory / cores) : a->p->dpu_port);
    double core = 0;
    for (int i = 0; i < net->count; i++) {
        const qd_sim_layer *l = &net->layers[i];
        const double work = layer_cycles(&o, l) / a->row->clock, memory = layer_bytes(l) / port;
        core += l->times * (fmax(work, memory) + a->p->dpu_layer * micro);
    }
    const double frame = a->p->dpu_frame * milli * net->input * net->input / (224.0 * 224);
    out->seconds = many ? fmax(core / cores, frame / processors) : core + frame;
    return true;
}

/* ---- A pipeline of layers ----------------------------------------------------------------------------------- */

/* The layers of a perceptron "784;64;64;10". */
static int perceptron(const char *shape, qd_sim_layer *layers, int most) {
    double sizes[16];
    const int n = qd_sim_numbers(shape, ';', sizes, 16);
    for (int i = 0; i + 1 < n && i < most; i++)
        layers[i] = (qd_sim_layer){QD_SIM_CONV, 1, (int)sizes[i], (int)sizes[i + 1], 1, 1, 1, 1};
    return n > 1 && n - 1 <= most ? n - 1 : 0;
}

/* FINN: each layer takes (rows / pe) x (columns / simd) x pixels cycles; the slowest sets the rate, and a batch ends
 * when its last image has gone through all others. */
static bool finn(const qd_sim_ask *a, const qd_sim_network_info *net, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    enum { MOST = 64 };
    qd_sim_layer flat[MOST];
    char text[256];
    double pe[MOST], simd[MOST], slowest = 0, sum = 0;
    const qd_sim_layer *layers = net ? net->layers : flat;
    const int count = net ? net->count : perceptron(a->row->text[QD_SIM_SHAPE], flat, MOST);
    int matrices = 0;
    if (count == 0)
        return qd_sim_cannot(a, "the network's layers are not known (sim/networks.c), and shape lists none");
    qd_sim_text(config, "pe", text, sizeof text);
    const int n_pe = qd_sim_numbers(text, ',', pe, MOST);
    qd_sim_text(config, "simd", text, sizeof text);
    const int n_simd = qd_sim_numbers(text, ',', simd, MOST);
    if (a->row->clock <= 0) return qd_sim_cannot(a, "the clock is not stated");
    for (int i = 0; i < count; i++) {
        const qd_sim_layer *l = &layers[i];
        if (l->kind != QD_SIM_CONV && l->kind != QD_SIM_DEPTH) continue;
        for (int t = 0; t < l->times; t++, matrices++) {
            if (matrices == n_pe || matrices == n_simd)
                return qd_sim_cannot(a, "pe and simd list fewer layers than the network has");
            const double columns = (double)l->kernel_h * l->kernel_w * (l->kind == QD_SIM_DEPTH ? 1 : l->in_channels);
            const double cycles = ceil(l->channels / pe[matrices]) * ceil(columns / simd[matrices]) * l->out * l->out;
            slowest = fmax(slowest, cycles);
            sum += cycles;
        }
    }
    if (matrices != n_pe || matrices != n_simd) return qd_sim_cannot(a, "pe and simd do not list %d layers", matrices);
    const double batch = qd_sim_number(config, "batch", 1);
    /* Layers hand over rows of pixels, so that about half of a layer's time passes before the next can begin. */
    const double fill = (sum - slowest) / 2;
    out->seconds = (slowest + fill / batch) / a->row->clock + a->p->finn_batch * micro / batch;
    return true;
}

/* ---- Language models ---------------------------------------------------------------------------------------- */

/* Weights that a token reads: all but the table of embeddings. Billions; from the models' cards. */
static const struct {
    const char *name;
    double weights;
} language[] = {
    {"llama2-7b", 6.607}, {"llama2-13b", 12.85}, {"llama2-70b", 68.71}, {"llama3-8b", 7.505}, {"llama3-70b", 69.5},
    {"llama-7b", 6.607},  {"opt-6.7b", 6.657},   {"chatglm2-6b", 5.98}, {"qwen-7b", 7.1},     {"tinyllama-1.1b", 1.034},
};

/* Billions of a name as "model-7b"; 0: none. */
static double billions(const char *name) {
    for (size_t i = 0; i < sizeof language / sizeof language[0]; i++) {
        if (strcasecmp(name, language[i].name) == 0) return language[i].weights;
    }
    const char *dash = strrchr(name, '-');
    char *end;
    const double b = dash ? strtod(dash + 1, &end) : 0;
    return dash && b > 0 && tolower((unsigned char)*end) == 'b' && !end[1] ? b : 0;
}

/* A token at batch 1 reads every weight once; groups of 128 have a scale of 16 bits. */
static bool decode(const qd_sim_ask *a, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG], *shape = a->row->text[QD_SIM_SHAPE];
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(shape, ";"), shape);
    const double weights = billions(name),
                 bits = qd_sim_number(config, "weight_bits", 8 * qd_sim_element(a->row->text[QD_SIM_DTYPE]));
    if (weights <= 0) return qd_sim_cannot(a, "model '%s' has no known number of weights", name);
    if (bits <= 0) return qd_sim_cannot(a, "neither weight_bits nor dtype tells the bits of a weight");
    const bool hbm = a->board->memory == QD_SIM_HBM;
    const double peak = qd_sim_number(config, "peak_GBps", a->board->channels * a->board->channel_gbps);
    const double rate = peak * giga * (hbm ? a->p->hbm_share : a->p->ddr_share);
    const double per_token = weights * giga * (bits + (bits < 8 ? 16.0 / 128 : 0)) / 8;
    out->seconds = per_token / rate / qd_sim_number(shape, "batch", 1);
    return true;
}

bool qd_sim_network(const qd_sim_ask *a, qd_sim_time *out) {
    const char *config = a->row->text[QD_SIM_CONFIG];
    char name[64];
    if (strstr(a->row->text[QD_SIM_SHAPE], "decode")) return decode(a, out);
    qd_sim_text(config, "net", name, sizeof name);
    const qd_sim_network_info *net = qd_sim_network_find(name);
    if (strstr(config, "pe=") && strstr(config, "simd=")) return finn(a, net, out);
    if (!strstr(config, "pixel_par="))
        return qd_sim_cannot(a, "config describes neither an overlay (pixel_par) nor a pipeline (pe, simd)");
    if (!net) return qd_sim_cannot(a, "network '%s' is not in sim/networks.c", name);
    return dpu(a, net, out);
}
