/* Bit orders: known bytes of each, all of them there and back and into each other, words along both axes, GPTQ. */
#include "qdot/qdot_packing.h"
#include "unit/devices.h"

enum { CODES = 96, MOST_BYTES = CODES };

static void random_codes(uint32_t *rng, int bits, uint8_t *codes, int n) {
    for (int i = 0; i < n; i++)
        codes[i] = (uint8_t)random_between(rng, 0, (1 << bits) - 1);
}

START_TEST(test_known_bytes) {
    static const uint8_t codes[] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t out[8];
    ck_ok(qd_pack(QD_PACKING_LOW_FIRST, 4, codes, 8, out));
    static const uint8_t low[] = {0x21, 0x43, 0x65, 0x87};
    ck_assert_mem_eq(out, low, 4);
    ck_ok(qd_pack(QD_PACKING_LOW_FIRST, 4, codes, 3, out));
    ck_assert_int_eq(out[1], 0x03);
    ck_ok(qd_pack(QD_PACKING_HIGH_FIRST, 4, codes, 8, out));
    static const uint8_t high[] = {0x12, 0x34, 0x56, 0x78};
    ck_assert_mem_eq(out, high, 4);
    ck_ok(qd_pack(QD_PACKING_HIGH_FIRST, 4, codes, 5, out));
    ck_assert_int_eq(out[2], 0x50);
    ck_ok(qd_pack(QD_PACKING_AWQ, 4, codes, 8, out)); /* from the lowest bits: 1 3 5 7 2 4 6 8 */
    static const uint8_t awq[] = {0x31, 0x75, 0x42, 0x86};
    ck_assert_mem_eq(out, awq, 4);
    ck_ok(qd_pack(QD_PACKING_LOW_FIRST, 3, codes, 8, out)); /* 8 is cut to 0 */
    static const uint8_t dense[] = {0xd1, 0x58, 0x1f};
    ck_assert_mem_eq(out, dense, 3);
    ck_ok(qd_pack(QD_PACKING_HIGH_FIRST, 1, codes, 8, out)); /* odd ones */
    ck_assert_int_eq(out[0], 0xaa);
    ck_ok(qd_pack(QD_PACKING_HIGH_FIRST, 2, codes, 4, out)); /* 1 2 3 0 */
    ck_assert_int_eq(out[0], 0x6c);
    uint8_t block[32], halves[20];
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)i;
    ck_ok(qd_pack(QD_PACKING_HALVES, 5, block, 32, halves));
    static const uint8_t fifth[] = {0, 0, 0xff, 0xff};
    ck_assert_mem_eq(halves, fifth, 4);
    for (int j = 0; j < 16; j++)
        ck_assert_int_eq(halves[4 + j], j << 4 | j);
    ck_ok(qd_pack(QD_PACKING_HALVES, 4, block, 32, halves));
    for (int j = 0; j < 16; j++)
        ck_assert_int_eq(halves[j], j << 4 | j);
    /* Signed codes, as they are. */
    static const uint8_t minus_one[] = {0xff, 0x01};
    ck_ok(qd_pack(QD_PACKING_LOW_FIRST, 4, minus_one, 2, out));
    ck_assert_int_eq(out[0], 0x1f);
}
END_TEST

/* From each order to each: the codes stay, and nothing beyond the bytes is written. */
START_TEST(test_all_orders) {
    uint32_t rng = 41;
    int done = 0;
    for (int bits = 1; bits <= 8; bits++) {
        for (int p = 0; p < QD_PACKING_COUNT; p++) {
            for (int n = 1; n <= CODES; n++) {
                uint8_t codes[CODES], back[CODES + 1], packed[MOST_BYTES + 1], other[MOST_BYTES + 1];
                const size_t bytes = qd_packed_bytes((qd_packing)p, bits, n);
                if (!bytes) {
                    ck_fails(qd_pack((qd_packing)p, bits, codes, n, packed), QD_ERR_ARGUMENT, "do not exist");
                    continue;
                }
                ck_assert_uint_eq(bytes, (size_t)(n * bits + 7) / 8);
                random_codes(&rng, bits, codes, n);
                memset(packed, 0x5a, sizeof packed);
                memset(back, 0x5a, sizeof back);
                ck_ok(qd_pack((qd_packing)p, bits, codes, n, packed));
                ck_assert_int_eq(packed[bytes], 0x5a);
                ck_ok(qd_unpack((qd_packing)p, bits, packed, n, back));
                ck_assert_mem_eq(back, codes, (size_t)n);
                ck_assert_int_eq(back[n], 0x5a);
                for (int q = 0; q < QD_PACKING_COUNT; q++) {
                    if (!qd_packed_bytes((qd_packing)q, bits, n)) continue;
                    ck_ok(qd_repack((qd_packing)p, (qd_packing)q, bits, packed, n, other));
                    ck_ok(qd_unpack((qd_packing)q, bits, other, n, back));
                    ck_assert_mem_eq(back, codes, (size_t)n);
                    done++;
                }
            }
        }
    }
    ck_assert_int_gt(done, 900);
}
END_TEST

/* More than one part of a repacking. */
START_TEST(test_long) {
    enum { LONG = 5000 - 5000 % 32 };
    static uint8_t codes[LONG], back[LONG], packed[LONG], other[LONG];
    uint32_t rng = 8;
    random_codes(&rng, 4, codes, LONG);
    ck_ok(qd_pack(QD_PACKING_HALVES, 4, codes, LONG, packed));
    ck_ok(qd_repack(QD_PACKING_HALVES, QD_PACKING_AWQ, 4, packed, LONG, other));
    ck_ok(qd_unpack(QD_PACKING_AWQ, 4, other, LONG, back));
    ck_assert_mem_eq(back, codes, LONG);
}
END_TEST

/* Along axis 0, words of a column are those of the column alone; along axis 1 those of the row. */
START_TEST(test_words) {
    enum { ROWS = 40, COLS = 24 };
    uint32_t rng = 4;
    for (int bits = 1; bits <= 8; bits++) {
        for (int axis = 0; axis < 2; axis++) {
            uint8_t codes[ROWS * COLS], back[ROWS * COLS], line[ROWS], packed[4 * ROWS] = {0};
            uint32_t words[ROWS * COLS];
            random_codes(&rng, bits, codes, ROWS * COLS);
            ck_ok(qd_pack_words(QD_PACKING_LOW_FIRST, bits, axis, codes, ROWS, COLS, words));
            ck_ok(qd_unpack_words(QD_PACKING_LOW_FIRST, bits, axis, words, ROWS, COLS, back));
            ck_assert_mem_eq(back, codes, sizeof codes);
            const int n = axis ? COLS : ROWS, count = (n * bits + 31) / 32, which = 7;
            for (int i = 0; i < n; i++)
                line[i] = axis ? codes[which * COLS + i] : codes[i * COLS + which];
            ck_ok(qd_pack(QD_PACKING_LOW_FIRST, bits, line, n, packed));
            for (int i = 0; i < count; i++) {
                const uint32_t word = axis ? words[which * count + i] : words[i * COLS + which];
                for (int byte = 0; byte < 4; byte++)
                    ck_assert_int_eq(word >> 8 * byte & 255, packed[4 * i + byte]);
            }
        }
    }
    static const uint8_t eight[] = {0, 1, 2, 3, 4, 5, 6, 7};
    uint32_t word;
    ck_ok(qd_pack_words(QD_PACKING_AWQ, 4, 1, eight, 1, 8, &word));
    ck_assert_uint_eq(word, 0x75316420);
}
END_TEST

START_TEST(test_gptq) {
    enum { ROWS = 64, COLS = 32, GROUP = 48, GROUPS = 2, MOST = ROWS * COLS }; /* a short last group */
    static const int bits[] = {2, 3, 4, 8};
    uint8_t codes[MOST], zeros[GROUPS * COLS], back[MOST], back_zeros[GROUPS * COLS];
    uint32_t qweight[MOST], qzeros[GROUPS * COLS];
    static float scales[GROUPS * COLS], w[MOST];
    int32_t order[ROWS];
    uint32_t rng = 90;
    for (int i = 0; i < GROUPS * COLS; i++)
        scales[i] = (float)(i + 1) * 0.25f;
    for (int b = 0; b < 4; b++) {
        random_codes(&rng, bits[b], codes, MOST);
        random_codes(&rng, bits[b], zeros, GROUPS * COLS);
        zeros[0] = 0; /* stored as -1: all ones */
        ck_ok(qd_gptq_pack(bits[b], codes, zeros, ROWS, COLS, GROUPS, qweight, qzeros));
        ck_assert_uint_eq(qzeros[0] & ((1u << bits[b]) - 1), (1u << bits[b]) - 1);
        ck_ok(qd_gptq_unpack(bits[b], qweight, qzeros, ROWS, COLS, GROUPS, back, back_zeros));
        ck_assert_mem_eq(back, codes, sizeof codes);
        ck_assert_mem_eq(back_zeros, zeros, sizeof zeros);
    }
    for (int k = 0; k < ROWS; k++)
        order[k] = k % 2;
    for (int with = 0; with < 2; with++) {
        ck_ok(qd_grouped_dequantize(codes, zeros, scales, with ? order : NULL, ROWS, COLS, GROUP, w));
        for (int i = 0; i < MOST; i++) {
            const int g = (with ? i / COLS % 2 : i / COLS / GROUP) * COLS + i % COLS;
            ck_assert(w[i] == scales[g] * (float)(codes[i] - zeros[g]));
        }
    }
    ck_ok(qd_grouped_dequantize(codes, zeros, scales, NULL, ROWS, COLS, 0, w)); /* all are one group */
    ck_assert(w[MOST - 1] == scales[COLS - 1] * (float)(codes[MOST - 1] - zeros[COLS - 1]));
    order[5] = GROUPS;
    ck_fails(qd_grouped_dequantize(codes, zeros, scales, order, ROWS, COLS, GROUP, w), QD_ERR_ARGUMENT,
             "row 5 is in group 2");
    ck_fails(qd_grouped_dequantize(codes, zeros, scales, NULL, ROWS, COLS, -1, w), QD_ERR_ARGUMENT, "groups of -1");
    ck_fails(qd_grouped_dequantize(codes, NULL, scales, NULL, ROWS, COLS, 1, w), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_gptq_pack(5, codes, zeros, ROWS, COLS, 2, qweight, qzeros), QD_ERR_ARGUMENT, "2, 3, 4 or 8 bits");
    ck_fails(qd_gptq_pack(4, codes, zeros, ROWS + 1, COLS, 2, qweight, qzeros), QD_ERR_ARGUMENT, "whole words");
    ck_fails(qd_gptq_pack(4, codes, zeros, ROWS, COLS + 1, 2, qweight, qzeros), QD_ERR_ARGUMENT, "whole words");
    ck_fails(qd_gptq_pack(4, codes, zeros, ROWS, COLS, 65, qweight, qzeros), QD_ERR_ARGUMENT, "65 groups");
    ck_fails(qd_gptq_unpack(4, NULL, qzeros, ROWS, COLS, 2, codes, zeros), QD_ERR_ARGUMENT, "NULL");
    for (int n = 0; n < 3; n++) {
        qd_alloc_fail_after(n);
        const qd_status status = qd_gptq_pack(4, codes, zeros, ROWS, COLS, 2, qweight, qzeros);
        qd_alloc_fail_after(-1);
        ck_assert_int_eq(status, QD_ERR_MEMORY);
    }
}
END_TEST

START_TEST(test_refused) {
    uint8_t codes[32] = {0}, out[32];
    uint32_t words[4];
    qd_packing p;
    for (int i = 0; i < QD_PACKING_COUNT; i++) {
        ck_ok(qd_packing_find(qd_packing_name((qd_packing)i), &p));
        ck_assert_int_eq(p, i);
    }
    ck_ok(qd_packing_find("ggml", &p));
    ck_assert_int_eq(p, QD_PACKING_HALVES);
    ck_ok(qd_packing_find("bitsandbytes", &p));
    ck_assert_int_eq(p, QD_PACKING_HIGH_FIRST);
    ck_fails(qd_packing_find("odd", &p), QD_ERR_ARGUMENT, "low-first high-first halves awq onnx");
    ck_fails(qd_packing_find(NULL, &p), QD_ERR_ARGUMENT, "no bit order");
    ck_assert_ptr_null(qd_packing_name(QD_PACKING_COUNT));
    ck_assert_uint_eq(qd_packed_bytes(QD_PACKING_COUNT, 4, 8), 0);
    ck_assert_uint_eq(qd_packed_bytes(QD_PACKING_LOW_FIRST, 9, 8), 0);
    ck_assert_uint_eq(qd_packed_bytes(QD_PACKING_LOW_FIRST, 0, 8), 0);
    ck_assert_uint_eq(qd_packed_bytes(QD_PACKING_LOW_FIRST, 4, INT64_MAX), 0);
    ck_fails(qd_pack(QD_PACKING_HIGH_FIRST, 3, codes, 8, out), QD_ERR_ARGUMENT, "8 codes of 3 bits");
    ck_fails(qd_pack(QD_PACKING_HALVES, 4, codes, 31, out), QD_ERR_ARGUMENT, "order halves");
    ck_fails(qd_pack(QD_PACKING_AWQ, 4, codes, 12, out), QD_ERR_ARGUMENT, "order awq");
    ck_fails(qd_pack(QD_PACKING_AWQ, 4, NULL, 8, out), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_unpack(QD_PACKING_AWQ, 4, out, 8, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_repack(QD_PACKING_LOW_FIRST, QD_PACKING_AWQ, 3, codes, 8, out), QD_ERR_ARGUMENT, "order awq");
    ck_fails(qd_pack_words(QD_PACKING_HALVES, 4, 1, codes, 1, 32, words), QD_ERR_ARGUMENT, "order halves");
    ck_fails(qd_pack_words(QD_PACKING_LOW_FIRST, 4, 2, codes, 1, 32, words), QD_ERR_ARGUMENT, "axis 2");
    ck_fails(qd_pack_words(QD_PACKING_LOW_FIRST, 4, 1, codes, 0, 32, words), QD_ERR_ARGUMENT, "0 rows");
    ck_fails(qd_pack_words(QD_PACKING_LOW_FIRST, 4, 1, codes, INT64_MAX, 32, words), QD_ERR_ARGUMENT, "rows of 32");
    ck_fails(qd_pack_words(QD_PACKING_AWQ, 4, 0, codes, 4, 8, words), QD_ERR_ARGUMENT, "order awq");
    ck_fails(qd_unpack_words(QD_PACKING_AWQ, 4, 1, NULL, 4, 8, codes), QD_ERR_ARGUMENT, "NULL");
    qd_alloc_fail_after(0);
    const qd_status status = qd_pack_words(QD_PACKING_LOW_FIRST, 4, 1, codes, 1, 32, words);
    qd_alloc_fail_after(-1);
    ck_assert_int_eq(status, QD_ERR_MEMORY);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("packing");
    tcase_add_test(tc, test_known_bytes);
    tcase_add_test(tc, test_all_orders);
    tcase_add_test(tc, test_long);
    tcase_add_test(tc, test_words);
    tcase_add_test(tc, test_gptq);
    tcase_add_test(tc, test_refused);
    return run_tests(tc, "bit orders");
}
