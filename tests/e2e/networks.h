/* The layers of real convolution networks at batch 1, with random weights, as graphs of integer operators. */
#ifndef QDOT_TEST_NETWORKS_H
#define QDOT_TEST_NETWORKS_H

#include "qdot/qdot.h"

enum { NETWORK_TENSORS = 256, NETWORK_BLOBS = 512, NETWORK_CLASSES = 1000 };

/** A network on one device, and what its tensors take: for the arena's bound. */
typedef struct network {
    qd_context *context;
    qd_graph *graph;
    qd_tensor *input, *output;
    qd_rounding rounding;
    bool apart; /* sums, requantization and activation are operators of their own */
    uint32_t rng;
    void *blobs[NETWORK_BLOBS]; /* weights, which the constants borrow */
    qd_tensor *constants[NETWORK_BLOBS];
    int n_blobs, n_constants;
    /* Tensors inside the graph: bytes, and the first and last operator that touches each. */
    struct {
        const qd_tensor *tensor;
        uint64_t bytes;
        int first, last;
    } inside[NETWORK_TENSORS];
    int n_inside, n_ops;
    double macs;
} network;

/** MobileNet-v2 (Sandler et al. 2018), width 1, 224 × 224 × 3. */
void network_mobilenet_v2(network *n, qd_context *c);
/** ResNet-18 (He et al. 2015), 224 × 224 × 3. */
void network_resnet18(network *n, qd_context *c);
/** The same, as a framework that knows no fused operators would hand them over: the same results. */
void network_mobilenet_v2_apart(network *n, qd_context *c);
void network_resnet18_apart(network *n, qd_context *c);
/** Pairs of depthwise and 1 × 1 convolutions, as MobileNet's first version (Howard et al. 2017) has them, 32 × 32 × 3:
 * for devices that are slow. */
void network_small(network *n, qd_context *c, qd_rounding rounding);
/** Largest sum of the bytes of tensors inside the graph that are needed at one operator. */
uint64_t network_live_bytes(const network *n);
void network_free(network *n);

#endif
