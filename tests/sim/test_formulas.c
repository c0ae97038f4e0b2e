/* The model's formulas on cases worked out by hand, with round parameters; what they cannot express; and what must
 * never make a run faster. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/model.h"

/* Within a millionth. */
static void is(const char *columns, double wanted) {
    const qd_sim_params p = model_round();
    const double got = model_of(columns, &p);
    ck_assert_msg(fabs(got - wanted) <= 1e-6 * wanted, "%s: %.9g, by hand %.9g (%s)", columns, got, wanted,
                  model_reason);
}

static void cannot(const char *columns, const char *why) {
    const qd_sim_params p = model_round();
    const double got = model_of(columns, &p);
    ck_assert_msg(got == 0 && strstr(model_reason, why), "%s: %g, '%s' lacks '%s'", columns, got, model_reason, why);
}

START_TEST(ports) {
    /* 8 bytes at 100 MHz, bursts of 16: 128 bytes in 160 ns. */
    qd_sim_port p = {.clock = 1e8, .width = 8, .burst = 16, .outstanding = 4, .latency = 100e-9, .channel = 1e12};
    ck_assert_double_eq_tol(qd_sim_port_rate(&p), 0.8e9, 1); /* the port: 260 ns / 4 < 160 ns */
    p.outstanding = 1;
    ck_assert_double_eq_tol(qd_sim_port_rate(&p), 128 / 260e-9, 1); /* Little's law */
    p.stores = true;
    ck_assert_double_eq_tol(qd_sim_port_rate(&p), 128 / 420e-9, 1); /* in, then out */
    p.outstanding = 100;
    p.gap = 4;
    ck_assert_double_eq_tol(qd_sim_port_rate(&p), 128 / 200e-9, 1);
    p.channel = 0.1e9;
    ck_assert_double_eq_tol(qd_sim_port_rate(&p), 0.1e9, 1);
}
END_TEST

START_TEST(memory) {
    /* A U200's channel: 19.2 GB/s x 0.5. A port of 32 bytes at 100 MHz: 3.2 GB/s; 32000 bytes: 10 us, and 100 ns. */
    is("Alveo-U200,100,axi_read,raw256b,32000,data_width_bits=256;burst_length=16;outstanding=4,GBps",
       32000 / 10.1e-6 / 1e9);
    /* A board whose latency is known: 60 ns; 0.332 x 0.5 GB/s. */
    is("ULX3S-85F,200,axi_read,raw16b,1660,data_width_bits=16;burst_length=8;outstanding=64,ms", 0.01006);
    /* Writes: 16 beats and a gap of 4: 200 ns for 512 bytes; two ways of 160 ns and 200 ns, shared by four: 130 ns. */
    is("Alveo-U200,100,axi_write,raw256b,512000,data_width_bits=256;burst_length=16;outstanding=4,ms", 200.2e-3);
    /* A copy: two round trips, the slower side. */
    is("Alveo-U200,100,axi_read,raw256b,512000,direction=copy;banks=2;data_width_bits=256;burst_length=16;outstanding="
       "4,GBps",
       1024000 / 200.3e-6 / 1e9);
    /* Four ports on a bank: 9.6 GB/s between them. */
    is("Alveo-U200,300,axi_read,raw512b,2400000,ports=4;banks=1;data_width_bits=512;burst_length=64;outstanding=32,ms",
       1.0001);
    /* HBM: 14.4 x 0.5 for each port and each channel; 128 bytes at random: 17.78 ns and 10 ns. */
    is("Alveo-U50,450,hbm_read,raw,7200000,kernels=2;ports_per_kernel=2;pseudo_channels=4;data_width_bits=256;mapping="
       "one_port_one_channel;"
       "access=sequential;iterations=1024,GBps",
       28.8);
    is("Alveo-U50,450,hbm_read,raw,7200000,ports_per_kernel=4;pseudo_channels=4;data_width_bits=256;mapping=one_port_"
       "one_channel;"
       "access=random_128B;iterations=1024,GBps",
       4 * 128 / (128 / 7.2 + 10));
    /* Three buffers of 7.2 MB in one channel: 3 ms; in three, over two ports: one of them reads once and the other
     * twice: 1 ms. */
    is("Alveo-U280,450,hbm_read,raw,7200000,ports_per_kernel=2;reads=2;writes=1;mapping=3_buffers_in_1_channel;"
       "iterations=1,ms",
       3.1);
    is("Alveo-U280,450,hbm_read,raw,7200000,ports_per_kernel=2;reads=2;writes=1;mapping=3_buffers_in_3_channels;"
       "iterations=1,ms",
       1.1);
}
END_TEST

START_TEST(host_link) {
    /* 15.75 x 0.8 = 12.6 GB/s from the card, 5 to it; 10 us for each buffer. */
    is("Alveo-U200,,pcie_d2h,bytes,12600000,path=xdma;buffers=2,ms", 2.02);
    is("Alveo-U200,,pcie_h2d,bytes,5000000,path=xdma;buffers=2,ms", 2.02);
    is("Alveo-U200,,pcie_bidir,bytes,5000000,path=xdma;buffers=2,ms", 1.01);
    is("Intel-D5005-S10SX,,pcie_d2h,bytes,2000000,path=bsp_dma;buffers=1,ms", 1.01);
    /* Through the bridge: 12600 bytes in 1 us; all of them in the cache. */
    is("Alveo-U250,300,pcie_h2d,raw512b,12600,path=kernel_axi_to_host_memory_slave_bridge,GBps", 6.3);
    is("Alveo-U250,300,pcie_bidir,raw512b,12600,path=kernel_axi_to_host_memory_slave_bridge,GBps", 8.4);
    /* 4 MiB each way and a cache of 1 MiB: an eighth hits; the rest is 8 MiB at 6.3 GB/s. */
    is("Alveo-U250,300,pcie_bidir,raw512b,4194304,path=kernel_axi_to_host_memory_slave_bridge,ms",
       2e-3 + 4194304 / 12.6e6 / 8 + 8388608 / 6.3e6 * 7 / 8);
}
END_TEST

START_TEST(arrays) {
    /* 1000 x 100 x 50 fill tiles of 100 x 100 x 50: 5e6 products, 50 a cycle at 100 MHz: 1 ms. Memory is a fraction of
     * it; the first tile is 200 x 50 x 4 bytes, the last 40000, over 6.4 GB/s of port. */
    is("Alveo-U250,100,gemm,fp32,1000;100;50,op=mm;array_tile=100x100x50;macs_per_cycle=50;banks=3,ms",
       1 + 0.1 + 80000 / 6.4e6);
    is("Alveo-U250,100,gemm,fp32,901;99;50,op=mm;array_tile=100x100x50;macs_per_cycle=50;banks=3,ms",
       1 + 0.1 + 80000 / 6.4e6);
    /* Bound by memory: A once, B ten times, C once, over one bank. */
    is("Alveo-U250,100,gemm,int8,1000;100;50,op=mm;array_tile=100x100x50;macs_per_cycle=1000000;banks=1,ms",
       0.1 + (1000 * 50 + 10 * 50 * 100 + 1000 * 100 * 4) / 6.4e6 + (10000 + 40000) / 6.4e6);
    /* Blocks of 128: work, A and B twice, X and C, and a latency for each of 2 x 8 loads. */
    is("Alveo-U250,100,gemm,fp32,256;256;256,array_per_kernel=16x16;macs_per_cycle=256;ddr_width_bits_per_kernel=512;"
       "scope=kernel,ms",
       0.65536 + (4 * 65536 + 2 * 65536) * 4 / 6.4e6 + 16 * 100e-6);
    /* Three matrices to the card at 5 GB/s, one back at 12.6; four buffers, the call and the launch. */
    is("Alveo-U250,100,gemm,fp32,256;256;256,array_per_kernel=16x16;macs_per_cycle=256;ddr_width_bits_per_kernel=512;"
       "scope=api,ms",
       0.65536 + 6 * 65536 * 4 / 6.4e6 + 16 * 100e-6 + 1.1 + 3 * 262144 / 5e6 + 262144 / 12.6e6 + 0.04);
    is("Alveo-U250,100,gemm,fp32,i=100;j=100;k=100;l=10,op=mttkrp;lanes_per_cycle=100,ms", 1.1);
    /* Rows of 64 doubles over 4 channels of 32 bytes a cycle; half of HBM's peak is more than half of 3.2 GB/s: 32
     * cycles, 16 to empty; 4 rows each, 100 to start. */
    is("Alveo-U280,100,gemv,fp64,16;64,hbm_channels=4;bits_per_channel_per_cycle=256;macs_per_cycle=16,cycles",
       4 * (32 + 16) + 100);
    is("Alveo-U280,100,gemv,fp64,17;64,hbm_channels=4;bits_per_channel_per_cycle=256;macs_per_cycle=16,cycles",
       5 * (32 + 16) + 100);
    is("Alveo-U280,100,gemv,fp64,16;64,op=cg_iteration_gemv;hbm_channels=4;bits_per_channel_per_cycle=256;macs_per_"
       "cycle=16,cycles",
       4 * (32 + 16) + 100 + 6 * 16);
}
END_TEST

START_TEST(convolutions) {
    /* VTA: 14 x 14 x 32 outputs of 3 x 3 x 32: two tiles of 7 x 14, two blocks of channels together; two steps. Work: 7
     * x 14 x 9 x 2 = 1764 cycles. Load: 9 x 16 x 16 + 9 x 2 x 256 = 6912 bytes, 4 a cycle, and 2 x 50: 1828. At the end
     * 196 vectors of 16 bytes: 4 cycles, and 10 for the bias. */
    const char *const vta =
        "Pynq-Z1,100,conv,int8,n=1;ci=32;h=14;w=14;co=32;k=3;stride=1;pad=1,accel=vta;net=%s;batch_block=1x16;macs_per_"
        "cycle=256;"
        "tile_h=7;tile_w=14;tile_ci_blocks=1;tile_co_blocks=2;oc_nthread=%d;h_nthread=1,ms";
    char row[400];
    snprintf(row, sizeof row, vta, "VGG", 2);
    is(row, 2 * (2 * 1828 + 196 * 14) / 1e5 + 0.1);
    snprintf(row, sizeof row, vta, "Resnet-18", 2);
    is(row, 2 * (2 * 1828 + 196 * 4) / 1e5 + 0.1);
    snprintf(row, sizeof row, vta, "VGG", 1);
    is(row, 2 * (2 * (1828 + 1764) + 196 * 14) / 1e5 + 0.1);
    is("Alveo-U250,100,conv,int8,n=1;ci=10;h=12;w=12;co=10;k=3;stride=1;pad=0,macs_per_cycle=90,ms", 0.01 + 0.1);
    is("Alveo-U250,100,conv,fp32,o=10;i=10;r=10;c=10;p=3;q=3,macs_per_cycle=90,ms", 0.01 + 0.1);
}
END_TEST

START_TEST(networks) {
    /* The slowest layer is the second: 100 / 10 x 100 / 5 = 200 cycles; the first has 100, the third 10. */
    is("Pynq-Z1,100,network,w1a1,50;100;100;10,\"pe=10,10,10;simd=5,5,10;batch=100\",fps",
       1 / (200e-8 + 55e-10 + 1e-6));
    /* 1.034e9 weights of 8 bits over 19.2 x 0.5 GB/s. */
    is("KV260,,network,w8,tinyllama-1.1b;batch=1;decode,weight_bits=8;peak_GBps=19.2,tok_per_s", 9.6 / 1.034);
    is("KV260,,network,w4,model-3b;batch=1;decode,weight_bits=4,tok_per_s", 9.6 / (3 * 4.125 / 8));
}
END_TEST

/* Operations as their authors count them, 2 for each multiply-accumulate (Vitis AI's model zoo prints the same). */
START_TEST(layers) {
    static const struct {
        const char *name;
        double gop;
    } known[] = {{"resnet18", 3.65},     {"resnet50", 7.7},      {"vgg16", 30.96},         {"mobilenet_v1_1.0", 1.14},
                 {"mobilenet_v2", 0.6},  {"inception_v1", 3.16}, {"inception_v2", 4.0},    {"inception_v3", 11.45},
                 {"inception_v4", 24.5}, {"squeezenet", 0.7},    {"resnet_v1_152", 21.83}, {"vgg_19", 39.28}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const qd_sim_network_info *net = qd_sim_network_find(known[i].name);
        ck_assert_ptr_nonnull(net);
        double macs = 0;
        for (int l = 0; l < net->count; l++)
            macs += net->layers[l].times * qd_sim_layer_macs(&net->layers[l]);
        ck_assert_msg(fabs(2e-9 * macs / known[i].gop - 1) < 0.04, "%s: %g GOP, not %g", known[i].name, 2e-9 * macs,
                      known[i].gop);
    }
    ck_assert_ptr_null(qd_sim_network_find("resnet"));
    ck_assert_ptr_null(qd_sim_network_find("vgg160"));
    ck_assert_ptr_null(qd_sim_network_find(""));
}
END_TEST

START_TEST(not_expressed) {
    cannot("Alveo-U999,300,axi_read,raw512b,4096,,GBps", "not in sim/boards.def");
    cannot("Alveo-U200,300,axi_sideways,raw512b,4096,,GBps", "kind 'axi_sideways'");
    cannot("Alveo-U200,300,axi_read,raw512b,4096,,furlongs", "metric 'furlongs'");
    cannot("Alveo-U200,300,axi_read,raw512b,0,,GBps", "no number of bytes");
    cannot("Alveo-U200,,axi_read,raw512b,4096,,GBps", "clock");
    cannot("Alveo-U200,300,axi_read,raw512b,4096,access=random_64B,GBps", "sequential");
    cannot("Alveo-U200,300,hbm_read,raw,4096,,GBps", "no HBM");
    cannot("Alveo-U50,300,hbm_read,raw,4096,mapping=one_port_over_4_channels;access=random_128B,GBps", "reordering");
    cannot("Pynq-Z1,100,pcie_h2d,bytes,4096,path=xdma,GBps", "no PCIe");
    cannot("Alveo-U200,,pcie_h2d,bytes,4096,path=carrier_pigeon,GBps", "path=carrier_pigeon");
    cannot("Alveo-U250,300,gemm,fp32,64;64,macs_per_cycle=4,ms", "three sizes");
    cannot("Alveo-U250,300,gemm,fp32,64;64;0,macs_per_cycle=4,ms", "three sizes");
    cannot("Alveo-U250,300,gemm,quaternion,64;64;64,macs_per_cycle=4,ms", "dtype");
    cannot("Alveo-U250,300,gemm,fp32,64;64;64,op=mm,ms", "macs_per_cycle");
    cannot("Alveo-U250,300,gemm,fp32,64;64;64,op=mm;macs_per_cycle=4,ms", "array_tile");
    cannot("Alveo-U280,300,gemv,fp64,64,hbm_channels=4,cycles", "rows;columns");
    cannot("Pynq-Z1,100,conv,int8,ci=1;h=2,accel=vta,ms", "lacks");
    cannot("Pynq-Z1,100,conv,int8,n=1;ci=16;h=1;w=1;co=16;k=3,accel=vta;batch_block=1x16;macs_per_cycle=256,ms",
           "larger than the image");
    cannot("ZCU102,281,network,int8,224x224x3,net=nonesuch;pixel_par=8;in_ch_par=16;out_ch_par=16,ms", "nonesuch");
    cannot("ZCU102,281,network,int8,160x160x3,net=resnet50;pixel_par=8;in_ch_par=16;out_ch_par=16,ms", "224 x 224");
    cannot("Pynq-Z1,100,network,w1a1,50;100;10,\"pe=10;simd=5,5\",fps", "fewer layers");
    cannot("Pynq-Z1,100,network,w1a1,50;100;10,\"pe=1,1,1;simd=5,5,5\",fps", "do not list 2 layers");
    cannot("KV260,,network,w4,mystery;batch=1;decode,,tok_per_s", "number of weights");
}
END_TEST

/* No time gets shorter with a longer latency, a slower memory or a smaller share, whatever the row. */
START_TEST(one_direction) {
    qd_sim_case *rows;
    char *text, reason[QD_SIM_REASON];
    const int count = model_rows(&rows, &text);
    const qd_sim_params base = qd_sim_params_value();
    int moved[QD_SIM_PARAMS] = {0}, wrong = 0;
    for (int i = 0; i < count; i++) {
        const char *metric = rows[i].text[QD_SIM_METRIC];
        const bool time = strcmp(metric, "ms") == 0 || strcmp(metric, "cycles") == 0;
        double before, after;
        if (!qd_sim_predict(&rows[i], &base, &before, reason)) continue;
        for (int k = 0; k < QD_SIM_PARAMS; k++) {
            qd_sim_params p = base;
            const char *unit = qd_sim_param_table[k].unit;
            const bool slows = strcmp(unit, "ns") == 0 || strcmp(unit, "us") == 0 || strcmp(unit, "ms") == 0 ||
                               strcmp(unit, "cycles") == 0;
            *qd_sim_param(&p, k) *= slows ? 1.1 : 1 / 1.1;
            ck_assert(qd_sim_predict(&rows[i], &p, &after, reason));
            const double slower = time ? after / before : before / after;
            moved[k] += slower > 1 + 1e-9;
            wrong += slower < 1 - 1e-9;
        }
        /* A faster clock is no slower, but for what the row counts in cycles. */
        qd_sim_case fast = rows[i];
        fast.clock *= 2;
        ck_assert(qd_sim_predict(&fast, &base, &after, reason));
        if (strcmp(metric, "cycles") != 0) wrong += time ? after > before * (1 + 1e-9) : after < before * (1 - 1e-9);
    }
    for (int k = 0; k < QD_SIM_PARAMS; k++)
        ck_assert_msg(moved[k] > 0, "no row depends on %s", qd_sim_param_table[k].name);
    ck_assert_int_eq(wrong, 0);
    free(rows);
    free(text);
}
END_TEST

START_TEST(larger_is_longer) {
    const qd_sim_params p = qd_sim_params_value();
    static const char *const families[] = {
        "Alveo-U200,300,axi_read,raw512b,%d,data_width_bits=512;burst_length=16;outstanding=16,ms",
        "Alveo-U200,300,axi_write,raw512b,%d,data_width_bits=512;burst_length=16;outstanding=16,ms",
        "Alveo-U200,,pcie_h2d,bytes,%d,path=xdma;buffers=4,ms",
        "Alveo-U250,300,pcie_bidir,raw512b,%d,path=kernel_axi_to_host_memory_slave_bridge,ms",
        "Alveo-U250,250,gemm,fp32,%d;64;64,array_per_kernel=16x16;macs_per_cycle=256;scope=kernel,ms",
        "Alveo-U250,250,gemm,int8,%d;64;64,op=mm;array_tile=64x64x64;macs_per_cycle=4096;banks=3,ms",
        "Alveo-U280,319,gemv,fp64,%d;512,hbm_channels=16;macs_per_cycle=64,cycles",
        "Pynq-Z1,100,conv,int8,n=1;ci=16;h=56;w=56;co=%d;k=3;stride=1;pad=1,accel=vta;batch_block=1x16;macs_per_cycle="
        "256;tile_h=7;tile_w=56,ms",
    };
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        double before = 0;
        for (int n = 16; n <= 16777216; n *= 4) {
            char row[300];
            snprintf(row, sizeof row, families[f], n);
            const double now = model_of(row, &p);
            ck_assert_msg(now >= before && now > 0, "%s: %g after %g", row, now, before);
            before = now;
        }
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("formulas");
    TCase *t = tcase_create("formulas");
    tcase_add_test(t, ports);
    tcase_add_test(t, memory);
    tcase_add_test(t, host_link);
    tcase_add_test(t, arrays);
    tcase_add_test(t, convolutions);
    tcase_add_test(t, networks);
    tcase_add_test(t, layers);
    tcase_add_test(t, not_expressed);
    tcase_add_test(t, one_direction);
    tcase_add_test(t, larger_is_longer);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
