/* Layers of well-known networks, from the papers that made them (He et al. 2016; Simonyan and Zisserman 2015; Howard et
 * al. 2017; Sandler et al. 2018; Szegedy et al. 2015 and 2016; Iandola et al. 2016). Concatenating costs nothing, since
 * branches write side by side. */
#include <string.h>
#include <strings.h>

#include "sim/sim.h"

/* ---- Kinds of layers: out: height and width of the output ----------------------------------------------------- */

#define CONV_HW(out, ci, co, kh, kw, stride, times) \
    { QD_SIM_CONV, out, ci, co, kh, kw, stride, times }
#define CONV(out, ci, co, k, stride, times) CONV_HW(out, ci, co, k, k, stride, times)
#define DEPTH(out, c, k, stride) \
    { QD_SIM_DEPTH, out, c, c, k, k, stride, 1 }
#define FULL(ci, co) CONV(1, ci, co, 1, 1, 1)
#define POOL(out, c, stride) \
    { QD_SIM_POOL, out, c, c, 1, 1, stride, 1 }
#define ADD(out, c, times) \
    { QD_SIM_ADD, out, c, c, 1, 1, 1, times }

/* Two 3 x 3 windows, `more` such blocks behind the first. */
#define BASIC(out, ci, c, stride, more)                                                       \
    CONV(out, ci, c, 3, stride, 1), CONV(out, c, c, 3, 1, 1), CONV(out, ci, c, 1, stride, 1), \
        CONV(out, c, c, 3, 1, 2 * (more)), ADD(out, c, 1 + (more))
/* 1 x 1, 3 x 3, 1 x 1 with four times as many channels; the first block's first window strides. */
#define BOTTLENECK(out, ci, c, stride, more)                                                                  \
    CONV(out, ci, c, 1, stride, 1), CONV(out, c, c, 3, 1, 1), CONV(out, c, 4 * (c), 1, 1, 1),                 \
        CONV(out, ci, 4 * (c), 1, stride, 1), CONV(out, 4 * (c), c, 1, 1, more), CONV(out, c, c, 3, 1, more), \
        CONV(out, c, 4 * (c), 1, 1, more), ADD(out, 4 * (c), 1 + (more))
#define SEPARABLE(out, ci, co, stride) DEPTH(out, ci, 3, stride), CONV(out, ci, co, 1, 1, 1)
/* MobileNetV2: widen by six, a depthwise window, and narrow; between equals with a sum. */
#define INVERTED(in, out, ci, co, stride) \
    CONV(in, ci, 6 * (ci), 1, 1, 1), DEPTH(out, 6 * (ci), 3, stride), CONV(out, 6 * (ci), co, 1, 1, 1)
#define RESIDUAL(out, c) INVERTED(out, out, c, c, 1), ADD(out, c, 1)
/* GoogLeNet: 1 x 1; 1 x 1 and 3 x 3; 1 x 1 and 5 x 5; pool and 1 x 1. */
#define INCEPTION(out, ci, c1, r3, c3, r5, c5, p)                                                                   \
    CONV(out, ci, c1, 1, 1, 1), CONV(out, ci, r3, 1, 1, 1), CONV(out, r3, c3, 3, 1, 1), CONV(out, ci, r5, 1, 1, 1), \
        CONV(out, r5, c5, 5, 1, 1), POOL(out, ci, 1), CONV(out, ci, p, 1, 1, 1)
/* Batch-normalized GoogLeNet: 1 x 1; 1 x 1 and 3 x 3; 1 x 1 and 3 x 3 twice; pool and 1 x 1. */
#define INCEPTION_V2(out, ci, c1, r3, c3, d3, e3, p)                                                                \
    CONV(out, ci, c1, 1, 1, 1), CONV(out, ci, r3, 1, 1, 1), CONV(out, r3, c3, 3, 1, 1), CONV(out, ci, d3, 1, 1, 1), \
        CONV(out, d3, e3, 3, 1, 1), CONV(out, e3, e3, 3, 1, 1), POOL(out, ci, 1), CONV(out, ci, p, 1, 1, 1)
/* The same from `in` to half of it, where 1 x 1 and the pool's channels go by. */
#define REDUCTION_V2(in, out, ci, r3, c3, d3, e3)                                                                \
    CONV(in, ci, r3, 1, 1, 1), CONV(out, r3, c3, 3, 2, 1), CONV(in, ci, d3, 1, 1, 1), CONV(in, d3, e3, 3, 1, 1), \
        CONV(out, e3, e3, 3, 2, 1), POOL(out, ci, 2)
#define FIRE(out, ci, s, e) CONV(out, ci, s, 1, 1, 1), CONV(out, s, e, 1, 1, 1), CONV(out, s, e, 3, 1, 1)
/* Inception-v3: modules at 35, 17 and 8. */
#define INCEPTION_A(ci, p)                                                                                      \
    CONV(35, ci, 64, 1, 1, 1), CONV(35, ci, 48, 1, 1, 1), CONV(35, 48, 64, 5, 1, 1), CONV(35, ci, 64, 1, 1, 1), \
        CONV(35, 64, 96, 3, 1, 1), CONV(35, 96, 96, 3, 1, 1), POOL(35, ci, 1), CONV(35, ci, p, 1, 1, 1)
#define INCEPTION_B(c)                                                                     \
    CONV(17, 768, 192, 1, 1, 2), CONV(17, 768, c, 1, 1, 2), CONV_HW(17, c, c, 1, 7, 1, 4), \
        CONV_HW(17, c, 192, 7, 1, 1, 2), POOL(17, 768, 1)
#define INCEPTION_C(ci)                                                                                                \
    CONV(8, ci, 320, 1, 1, 1), CONV(8, ci, 384, 1, 1, 1), CONV_HW(8, 384, 384, 1, 3, 1, 4), CONV(8, ci, 448, 1, 1, 1), \
        CONV(8, 448, 384, 3, 1, 1), POOL(8, ci, 1), CONV(8, ci, 192, 1, 1, 1)
/* Inception-v4: modules at 35, 17 and 8. */
#define V4_A                                                                                             \
    POOL(35, 384, 1), CONV(35, 384, 96, 1, 1, 2), CONV(35, 384, 64, 1, 1, 2), CONV(35, 64, 96, 3, 1, 2), \
        CONV(35, 96, 96, 3, 1, 1)
#define V4_B                                                                                                     \
    POOL(17, 1024, 1), CONV(17, 1024, 384, 1, 1, 1), CONV(17, 1024, 128, 1, 1, 1), CONV(17, 1024, 192, 1, 1, 2), \
        CONV_HW(17, 192, 224, 1, 7, 1, 1), CONV_HW(17, 224, 256, 7, 1, 1, 1), CONV_HW(17, 192, 192, 1, 7, 1, 1), \
        CONV_HW(17, 192, 224, 7, 1, 1, 1), CONV_HW(17, 224, 224, 1, 7, 1, 1), CONV_HW(17, 224, 256, 7, 1, 1, 1)
#define V4_C                                                                                                      \
    POOL(8, 1536, 1), CONV(8, 1536, 256, 1, 1, 2), CONV(8, 1536, 384, 1, 1, 2), CONV_HW(8, 384, 256, 1, 3, 1, 2), \
        CONV_HW(8, 384, 448, 1, 3, 1, 1), CONV_HW(8, 448, 512, 3, 1, 1, 1), CONV_HW(8, 512, 256, 1, 3, 1, 2)

/* ---- Networks ----------------------------------------------------------------------------------------------- */

static const qd_sim_layer resnet18[] = {CONV(112, 3, 64, 7, 2, 1),
                                        POOL(56, 64, 2),
                                        CONV(56, 64, 64, 3, 1, 4),
                                        ADD(56, 64, 2),
                                        BASIC(28, 64, 128, 2, 1),
                                        BASIC(14, 128, 256, 2, 1),
                                        BASIC(7, 256, 512, 2, 1),
                                        POOL(1, 512, 7),
                                        FULL(512, 1000)};
static const qd_sim_layer resnet34[] = {CONV(112, 3, 64, 7, 2, 1),
                                        POOL(56, 64, 2),
                                        CONV(56, 64, 64, 3, 1, 6),
                                        ADD(56, 64, 3),
                                        BASIC(28, 64, 128, 2, 3),
                                        BASIC(14, 128, 256, 2, 5),
                                        BASIC(7, 256, 512, 2, 2),
                                        POOL(1, 512, 7),
                                        FULL(512, 1000)};
static const qd_sim_layer resnet50[] = {CONV(112, 3, 64, 7, 2, 1),
                                        POOL(56, 64, 2),
                                        BOTTLENECK(56, 64, 64, 1, 2),
                                        BOTTLENECK(28, 256, 128, 2, 3),
                                        BOTTLENECK(14, 512, 256, 2, 5),
                                        BOTTLENECK(7, 1024, 512, 2, 2),
                                        POOL(1, 2048, 7),
                                        FULL(2048, 1000)};
static const qd_sim_layer resnet101[] = {CONV(112, 3, 64, 7, 2, 1),
                                         POOL(56, 64, 2),
                                         BOTTLENECK(56, 64, 64, 1, 2),
                                         BOTTLENECK(28, 256, 128, 2, 3),
                                         BOTTLENECK(14, 512, 256, 2, 22),
                                         BOTTLENECK(7, 1024, 512, 2, 2),
                                         POOL(1, 2048, 7),
                                         FULL(2048, 1000)};
static const qd_sim_layer resnet152[] = {CONV(112, 3, 64, 7, 2, 1),
                                         POOL(56, 64, 2),
                                         BOTTLENECK(56, 64, 64, 1, 2),
                                         BOTTLENECK(28, 256, 128, 2, 7),
                                         BOTTLENECK(14, 512, 256, 2, 35),
                                         BOTTLENECK(7, 1024, 512, 2, 2),
                                         POOL(1, 2048, 7),
                                         FULL(2048, 1000)};
static const qd_sim_layer vgg16[] = {CONV(224, 3, 64, 3, 1, 1),
                                     CONV(224, 64, 64, 3, 1, 1),
                                     POOL(112, 64, 2),
                                     CONV(112, 64, 128, 3, 1, 1),
                                     CONV(112, 128, 128, 3, 1, 1),
                                     POOL(56, 128, 2),
                                     CONV(56, 128, 256, 3, 1, 1),
                                     CONV(56, 256, 256, 3, 1, 2),
                                     POOL(28, 256, 2),
                                     CONV(28, 256, 512, 3, 1, 1),
                                     CONV(28, 512, 512, 3, 1, 2),
                                     POOL(14, 512, 2),
                                     CONV(14, 512, 512, 3, 1, 3),
                                     POOL(7, 512, 2),
                                     FULL(25088, 4096),
                                     FULL(4096, 4096),
                                     FULL(4096, 1000)};
static const qd_sim_layer vgg19[] = {CONV(224, 3, 64, 3, 1, 1),
                                     CONV(224, 64, 64, 3, 1, 1),
                                     POOL(112, 64, 2),
                                     CONV(112, 64, 128, 3, 1, 1),
                                     CONV(112, 128, 128, 3, 1, 1),
                                     POOL(56, 128, 2),
                                     CONV(56, 128, 256, 3, 1, 1),
                                     CONV(56, 256, 256, 3, 1, 3),
                                     POOL(28, 256, 2),
                                     CONV(28, 256, 512, 3, 1, 1),
                                     CONV(28, 512, 512, 3, 1, 3),
                                     POOL(14, 512, 2),
                                     CONV(14, 512, 512, 3, 1, 4),
                                     POOL(7, 512, 2),
                                     FULL(25088, 4096),
                                     FULL(4096, 4096),
                                     FULL(4096, 1000)};
static const qd_sim_layer mobilenet_v1[] = {
    CONV(112, 3, 32, 3, 2, 1),  SEPARABLE(112, 32, 64, 1),   SEPARABLE(56, 64, 128, 2),  SEPARABLE(56, 128, 128, 1),
    SEPARABLE(28, 128, 256, 2), SEPARABLE(28, 256, 256, 1),  SEPARABLE(14, 256, 512, 2), SEPARABLE(14, 512, 512, 1),
    SEPARABLE(14, 512, 512, 1), SEPARABLE(14, 512, 512, 1),  SEPARABLE(14, 512, 512, 1), SEPARABLE(14, 512, 512, 1),
    SEPARABLE(7, 512, 1024, 2), SEPARABLE(7, 1024, 1024, 1), POOL(1, 1024, 7),           FULL(1024, 1000)};
static const qd_sim_layer mobilenet_v2[] = {CONV(112, 3, 32, 3, 2, 1),
                                            DEPTH(112, 32, 3, 1),
                                            CONV(112, 32, 16, 1, 1, 1),
                                            INVERTED(112, 56, 16, 24, 2),
                                            RESIDUAL(56, 24),
                                            INVERTED(56, 28, 24, 32, 2),
                                            RESIDUAL(28, 32),
                                            RESIDUAL(28, 32),
                                            INVERTED(28, 14, 32, 64, 2),
                                            RESIDUAL(14, 64),
                                            RESIDUAL(14, 64),
                                            RESIDUAL(14, 64),
                                            INVERTED(14, 14, 64, 96, 1),
                                            RESIDUAL(14, 96),
                                            RESIDUAL(14, 96),
                                            INVERTED(14, 7, 96, 160, 2),
                                            RESIDUAL(7, 160),
                                            RESIDUAL(7, 160),
                                            INVERTED(7, 7, 160, 320, 1),
                                            CONV(7, 320, 1280, 1, 1, 1),
                                            POOL(1, 1280, 7),
                                            FULL(1280, 1000)};
static const qd_sim_layer inception_v1[] = {CONV(112, 3, 64, 7, 2, 1),
                                            POOL(56, 64, 2),
                                            CONV(56, 64, 64, 1, 1, 1),
                                            CONV(56, 64, 192, 3, 1, 1),
                                            POOL(28, 192, 2),
                                            INCEPTION(28, 192, 64, 96, 128, 16, 32, 32),
                                            INCEPTION(28, 256, 128, 128, 192, 32, 96, 64),
                                            POOL(14, 480, 2),
                                            INCEPTION(14, 480, 192, 96, 208, 16, 48, 64),
                                            INCEPTION(14, 512, 160, 112, 224, 24, 64, 64),
                                            INCEPTION(14, 512, 128, 128, 256, 24, 64, 64),
                                            INCEPTION(14, 512, 112, 144, 288, 32, 64, 64),
                                            INCEPTION(14, 528, 256, 160, 320, 32, 128, 128),
                                            POOL(7, 832, 2),
                                            INCEPTION(7, 832, 256, 160, 320, 32, 128, 128),
                                            INCEPTION(7, 832, 384, 192, 384, 48, 128, 128),
                                            POOL(1, 1024, 7),
                                            FULL(1024, 1000)};
static const qd_sim_layer inception_v2[] = {CONV(112, 3, 64, 7, 2, 1),
                                            POOL(56, 64, 2),
                                            CONV(56, 64, 64, 1, 1, 1),
                                            CONV(56, 64, 192, 3, 1, 1),
                                            POOL(28, 192, 2),
                                            INCEPTION_V2(28, 192, 64, 64, 64, 64, 96, 32),
                                            INCEPTION_V2(28, 256, 64, 64, 96, 64, 96, 64),
                                            REDUCTION_V2(28, 14, 320, 128, 160, 64, 96),
                                            INCEPTION_V2(14, 576, 224, 64, 96, 96, 128, 128),
                                            INCEPTION_V2(14, 576, 192, 96, 128, 96, 128, 128),
                                            INCEPTION_V2(14, 576, 160, 128, 160, 128, 160, 96),
                                            INCEPTION_V2(14, 576, 96, 128, 192, 160, 192, 96),
                                            REDUCTION_V2(14, 7, 576, 128, 192, 192, 256),
                                            INCEPTION_V2(7, 1024, 352, 192, 320, 160, 224, 128),
                                            INCEPTION_V2(7, 1024, 352, 192, 320, 192, 224, 128),
                                            POOL(1, 1024, 7),
                                            FULL(1024, 1000)};
static const qd_sim_layer inception_v3[] = {CONV(149, 3, 32, 3, 2, 1),
                                            CONV(147, 32, 32, 3, 1, 1),
                                            CONV(147, 32, 64, 3, 1, 1),
                                            POOL(73, 64, 2),
                                            CONV(73, 64, 80, 1, 1, 1),
                                            CONV(71, 80, 192, 3, 1, 1),
                                            POOL(35, 192, 2),
                                            INCEPTION_A(192, 32),
                                            INCEPTION_A(256, 64),
                                            INCEPTION_A(288, 64),
                                            POOL(17, 288, 2),
                                            CONV(17, 288, 384, 3, 2, 1),
                                            CONV(35, 288, 64, 1, 1, 1),
                                            CONV(35, 64, 96, 3, 1, 1),
                                            CONV(17, 96, 96, 3, 2, 1),
                                            INCEPTION_B(128),
                                            INCEPTION_B(160),
                                            INCEPTION_B(160),
                                            INCEPTION_B(192),
                                            POOL(8, 768, 2),
                                            CONV(17, 768, 192, 1, 1, 2),
                                            CONV(8, 192, 320, 3, 2, 1),
                                            CONV_HW(17, 192, 192, 1, 7, 1, 2),
                                            CONV(8, 192, 192, 3, 2, 1),
                                            INCEPTION_C(1280),
                                            INCEPTION_C(2048),
                                            FULL(2048, 1000)};
static const qd_sim_layer inception_v4[] = {CONV(149, 3, 32, 3, 2, 1),
                                            CONV(147, 32, 32, 3, 1, 1),
                                            CONV(147, 32, 64, 3, 1, 1),
                                            POOL(73, 64, 2),
                                            CONV(73, 64, 96, 3, 2, 1),
                                            CONV(73, 160, 64, 1, 1, 2),
                                            CONV(71, 64, 96, 3, 1, 2),
                                            CONV_HW(73, 64, 64, 1, 7, 1, 2),
                                            POOL(35, 192, 2),
                                            CONV(35, 192, 192, 3, 2, 1),
                                            V4_A,
                                            V4_A,
                                            V4_A,
                                            V4_A,
                                            POOL(17, 384, 2),
                                            CONV(17, 384, 384, 3, 2, 1),
                                            CONV(35, 384, 192, 1, 1, 1),
                                            CONV(35, 192, 224, 3, 1, 1),
                                            CONV(17, 224, 256, 3, 2, 1),
                                            V4_B,
                                            V4_B,
                                            V4_B,
                                            V4_B,
                                            V4_B,
                                            V4_B,
                                            V4_B,
                                            POOL(8, 1024, 2),
                                            CONV(17, 1024, 192, 1, 1, 1),
                                            CONV(8, 192, 192, 3, 2, 1),
                                            CONV(17, 1024, 256, 1, 1, 1),
                                            CONV_HW(17, 256, 256, 1, 7, 1, 1),
                                            CONV_HW(17, 256, 320, 7, 1, 1, 1),
                                            CONV(8, 320, 320, 3, 2, 1),
                                            V4_C,
                                            V4_C,
                                            V4_C,
                                            FULL(1536, 1000)};
static const qd_sim_layer squeezenet[] = {CONV(111, 3, 64, 3, 2, 1),   POOL(55, 64, 2),        FIRE(55, 64, 16, 64),
                                          FIRE(55, 128, 16, 64),       POOL(27, 128, 2),       FIRE(27, 128, 32, 128),
                                          FIRE(27, 256, 32, 128),      POOL(13, 256, 2),       FIRE(13, 256, 48, 192),
                                          FIRE(13, 384, 48, 192),      FIRE(13, 384, 64, 256), FIRE(13, 512, 64, 256),
                                          CONV(13, 512, 1000, 1, 1, 1)};
/* FINN's networks: CNV for 32 x 32 images (Umuroglu et al. 2017). */
static const qd_sim_layer cnv[] = {CONV(30, 3, 64, 3, 1, 1),
                                   CONV(28, 64, 64, 3, 1, 1),
                                   CONV(12, 64, 128, 3, 1, 1),
                                   CONV(10, 128, 128, 3, 1, 1),
                                   CONV(3, 128, 256, 3, 1, 1),
                                   CONV(1, 256, 256, 3, 1, 1),
                                   FULL(256, 512),
                                   FULL(512, 512),
                                   FULL(512, 10)};

static const qd_sim_network_info networks[] = {
#define NETWORK(name, input) \
    { #name, input, name, sizeof name / sizeof name[0] }
    NETWORK(resnet18, 224),     NETWORK(resnet34, 224),     NETWORK(resnet50, 224),     NETWORK(resnet101, 224),
    NETWORK(resnet152, 224),    NETWORK(vgg16, 224),        NETWORK(vgg19, 224),        NETWORK(mobilenet_v1, 224),
    NETWORK(mobilenet_v2, 224), NETWORK(inception_v1, 224), NETWORK(inception_v2, 224), NETWORK(inception_v3, 299),
    NETWORK(inception_v4, 299), NETWORK(squeezenet, 224),   NETWORK(cnv, 32),
#undef NETWORK
};

/* Whether `name` is the network's, but for signs between words, a version of the training ("resnet_v1_50"), and what
 * follows ("mobilenet_v1_1.0", "cnv_w1a1_gtsrb"). */
static bool same(const char *name, const char *known) {
    if (strncasecmp(name, "resnet_v1_", 10) == 0)
        return strncmp(known, "resnet", 6) == 0 && strcmp(name + 10, known + 6) == 0;
    while (*known) {
        if (*known == '_' || *known == '-') {
            known++;
        } else if (*name == '_' || *name == '-') {
            name++;
        } else if (strncasecmp(name, known, 1) == 0) {
            name++;
            known++;
        } else {
            return false;
        }
    }
    return !*name || strcmp(name, "_1.0") == 0 || strncmp(name, "_w", 2) == 0;
}

const qd_sim_network_info *qd_sim_network_find(const char *name) {
    for (size_t i = 0; i < sizeof networks / sizeof networks[0]; i++) {
        if (same(name, networks[i].name)) return &networks[i];
    }
    return NULL;
}

double qd_sim_layer_macs(const qd_sim_layer *l) {
    const double points = (double)l->out * l->out * l->channels * l->kernel_h * l->kernel_w;
    return l->kind == QD_SIM_CONV ? points * l->in_channels : l->kind == QD_SIM_DEPTH ? points : 0;
}

const char *qd_sim_network_name(int i) {
    const int count = sizeof networks / sizeof networks[0];
    return i >= 0 && i < count ? networks[i].name : NULL;
}
