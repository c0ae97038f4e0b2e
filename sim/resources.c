/* What a design takes of a device, by construction: multipliers, banks of RAM, and the LUTs of each part of the unit,
 * which repeats as its parameters say. */
#include <math.h>

#include "sim/log.h"

/* A family's blocks, and its LUTs for each part. LUTs are what yosys counts module by module (synth_ecp5, where a carry
 * cell is two of them, and synth_xilinx); tests/sim holds the sums against its counts of whole units. Those of XC7
 * are XCUP's, which have the same cells; Stratix 10 is guessed to be like them, a LUT being half an ALM. */
typedef struct family {
    int ram_bits, ram_width; /* of a RAM block: all, and of its widest word */
    int products;            /* of 18 x 18 bits in a DSP block */
    int more_products;       /* of the unit, for sizes of commands */
    double base;             /* registers, queue, issuer, loaders */
    double pe;               /* two accumulators, and the sums set aside */
    double lane;             /* taking INT4's two products apart */
    double sum;              /* an addition of the two trees behind LANES products */
    double drain;            /* of a PE: selecting its sums */
    double w, x;             /* a code of an operand: sign, zero point */
    double row;              /* two channels' zero points */
    double quant;            /* requantization */
} family;

static const family families[] = {
    [QD_SIM_ECP5] = {18432, 36, 1, 2, 2600, 128, 19, 35, 66, 33, 11, 240, 1750},
    [QD_SIM_XC7] = {36864, 72, 1, 1, 1000, 128, 6, 32, 32, 30, 10, 170, 1100},
    [QD_SIM_XCUP] = {36864, 72, 1, 1, 1000, 128, 6, 32, 32, 30, 10, 170, 1100},
    [QD_SIM_STRATIX10] = {20480, 40, 2, 1, 1000, 128, 6, 32, 32, 30, 10, 170, 1100},
};

/* Products of 17 x 17 bits in the requantization of a sum. */
enum { QUANT_PRODUCTS = 4 };

/* Blocks of a RAM of `width` bits and 2^address words: side by side as wide as they are at that depth. */
static double blocks(const family *f, double width, int address) {
    const double deepest = f->ram_bits / 9.0; /* words of 9 bits: narrower ones save nothing */
    const double depth = fmax(pow(2, address), (double)f->ram_bits / f->ram_width);
    const double words = fmin(depth, deepest), bits = floor(f->ram_bits / words);
    return ceil(width / bits) * ceil(depth / words);
}

/* The two banks of an operand's buffer: a RAM for each beat of a word. */
static double buffer(const family *f, int word, int beat, int address) {
    return beat > 0 ? (double)word / beat * blocks(f, 8.0 * beat, address + 1) : 0;
}

qd_sim_resources qd_sim_resources_of(const qd_sim_board *b, const qd_sim_design *d) {
    const family *f = &families[b->family];
    const double pes = (double)d->rows * d->cols, products = pes * d->lanes;
    const double luts = f->base + pes * (f->pe + f->drain + f->sum * (d->lanes - 1)) + products * f->lane +
                        (double)d->rows * (f->row + f->w * d->lanes) + (double)d->cols * f->x * d->lanes +
                        f->quant * d->quants;
    /* INT4 without packing has a second multiplier, which takes a block as well. */
    const double multipliers = products * (d->pack ? 1 : 2) + (double)QUANT_PRODUCTS * d->quants + f->more_products;
    const double rams = buffer(f, d->rows * d->lanes, d->w_bytes, d->w_address) +
                        buffer(f, d->cols * d->lanes, d->x_bytes, d->x_address);
    return (qd_sim_resources){.luts = (int64_t)ceil(luts),
                              .dsps = (int64_t)ceil(multipliers / f->products),
                              .brams = (int64_t)ceil(rams),
                              .has_luts = b->luts,
                              .has_dsps = b->dsps,
                              .has_brams = b->brams};
}
