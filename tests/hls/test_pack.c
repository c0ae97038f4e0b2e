/* hls/pack.h, proven: every operand of every row, and the limit on how many products may be added, where it holds and
 * one beyond, where it must not. */
#include "pack.h"

#include <check.h>
#include <stdlib.h>

#include "unit/devices.h"

typedef struct packing {
    const char *name;
    int w_bits, x_low, x_high, shift, most;
} packing;

static const packing packings[] = {
#define QD_PACKING(name, w_bits, x_low, x_high, shift, most) {#name, w_bits, x_low, x_high, shift, most},
    QD_PACKINGS
#undef QD_PACKING
};
enum { PACKINGS = sizeof packings / sizeof packings[0], PORT_BITS = 27, OTHER_PORT_BITS = 18, SUM_BITS = 48 };

/* ck_assert reports each success, which takes longer than what it checks. */
#define must(condition)                                   \
    do {                                                  \
        if (!(condition)) ck_abort_msg("%s", #condition); \
    } while (0)

static bool fits(int64_t value, int bits) {
    return value >= -((int64_t)1 << (bits - 1)) && value < (int64_t)1 << (bits - 1);
}

/* Every pair of weights fits the port, and some would not if they lay a bit further apart. */
START_TEST(test_port) {
    const packing *p = &packings[_i];
    const int half = 1 << (p->w_bits - 1);
    bool further = true;
    for (int w0 = -half; w0 < half; w0++) {
        for (int w1 = -half; w1 < half; w1++) {
            must(fits(qd_pack_two(w0, w1, p->shift), PORT_BITS));
            further = further && fits(qd_pack_two(w0, w1, p->shift + 1), PORT_BITS);
        }
    }
    ck_assert_msg(!further, "%s: the weights could lie further apart", p->name);
    must(fits(p->x_low, OTHER_PORT_BITS) && fits(p->x_high, OTHER_PORT_BITS));
}
END_TEST

/* Every pair of weights with every x: one product comes back from both lanes. */
START_TEST(test_operands) {
    const packing *p = &packings[_i];
    const int half = 1 << (p->w_bits - 1);
    for (int w0 = -half; w0 < half; w0++) {
        for (int w1 = -half; w1 < half; w1++) {
            for (int x = p->x_low; x <= p->x_high; x++) {
                const int64_t sum = (int64_t)qd_pack_two(w0, w1, p->shift) * x;
                if (qd_pack_low(sum, p->shift) != w0 * x || qd_pack_rest(sum, p->shift) != w1 * x)
                    ck_abort_msg("%s: %d and %d by %d", p->name, w0, w1, x);
            }
        }
    }
}
END_TEST

/* Adds n times the same products and takes them apart; true when both sums come back. */
static bool adds_up(int shift, int w0, int w1, int x, int n) {
    const int64_t sum = (int64_t)qd_pack_two(w0, w1, shift) * x * n;
    must(fits(sum, SUM_BITS));
    return qd_pack_low(sum, shift) == w0 * x * n && qd_pack_rest(sum, shift) == (int64_t)w1 * x * n;
}

/* What comes back depends on the lanes' sums alone: the word is high · 2^shift + low, whatever products made them. The
 * low lane's sum of n products lies between n times the least and n times the greatest product; so with every sum
 * between those of `most` products, against both ends of the high lane, all inputs of that length are proven. */
START_TEST(test_limit) {
    const packing *p = &packings[_i];
    const int half = 1 << (p->w_bits - 1), ends[2] = {-half, half - 1}, xs[2] = {p->x_low, p->x_high};
    int least = 0, greatest = 0;
    for (int i = 0; i < 4; i++) {
        const int product = ends[i / 2] * xs[i % 2];
        least = product < least ? product : least;
        greatest = product > greatest ? product : greatest;
    }
    for (int64_t low = (int64_t)least * p->most; low <= (int64_t)greatest * p->most; low++) {
        for (int e = 0; e < 2; e++) {
            const int64_t high = (int64_t)(e ? greatest : least) * p->most, sum = high * ((int64_t)1 << p->shift) + low;
            must(fits(sum, SUM_BITS));
            if (qd_pack_low(sum, p->shift) != low || qd_pack_rest(sum, p->shift) != high)
                ck_abort_msg("%s: sums %lld and %lld", p->name, (long long)low, (long long)high);
        }
    }
    bool one_more = true;
    for (int i = 0; i < 8; i++) {
        must(adds_up(p->shift, ends[i / 4], ends[i / 2 % 2], xs[i % 2], p->most));
        one_more = one_more && adds_up(p->shift, ends[i / 4], ends[i / 2 % 2], xs[i % 2], p->most + 1);
    }
    ck_assert_msg(!one_more, "%s: one product more would fit, too", p->name);
}
END_TEST

/* ---- Four lanes ---------------------------------------------------------------------------------------------------
 */

/* The lanes of a sum: w0·a0, w0·a1, w1·a0, w1·a1. */
static void four_lanes(int64_t sum, int32_t lane[4]) {
    for (int l = 0; l < 4; l++) {
        lane[l] = qd_pack_low(sum, QD_PACK_FOUR_SHIFT);
        sum = qd_pack_rest(sum, QD_PACK_FOUR_SHIFT);
    }
}

static int64_t four_products(int w0, int w1, int a0, int a1) {
    const int64_t w = qd_pack_two(w0, w1, 2 * QD_PACK_FOUR_SHIFT), a = qd_pack_two(a0, a1, QD_PACK_FOUR_SHIFT);
    must(fits(w, PORT_BITS) && fits(a, OTHER_PORT_BITS));
    return w * a;
}

/* n times the same four products come back. */
static bool four_add_up(int w0, int w1, int a0, int a1, int n) {
    const int64_t sum = four_products(w0, w1, a0, a1) * n;
    int32_t lane[4];
    must(fits(sum, SUM_BITS));
    four_lanes(sum, lane);
    return lane[0] == w0 * a0 * n && lane[1] == w0 * a1 * n && lane[2] == w1 * a0 * n && lane[3] == w1 * a1 * n;
}

/* Every operand, once and as often as may be: with the lower half of x unsigned, then signed. */
START_TEST(test_four) {
    const bool is_signed = _i;
    const int low = is_signed ? -8 : 0, high = is_signed ? 7 : 15;
    const int most = is_signed ? QD_PACK_FOUR_SIGNED_MOST : QD_PACK_FOUR_MOST;
    bool one_more = true;
    for (int i = 0; i < 16 * 16 * 16 * 16; i++) {
        const int w0 = i % 16 - 8, w1 = i / 16 % 16 - 8, a0 = low + i / 256 % 16, a1 = i / 4096 - 8;
        must(a0 <= high);
        if (!four_add_up(w0, w1, a0, a1, 1) || !four_add_up(w0, w1, a0, a1, most))
            ck_abort_msg("%d %d by %d %d", w0, w1, a0, a1);
        one_more = one_more && four_add_up(w0, w1, a0, a1, most + 1);
    }
    ck_assert_msg(!one_more, "one product more would fit, too");
}
END_TEST

/* Lanes do not touch each other as long as each stays in its bits: any sums within the limit, not only those of equal
 * products. The ends of each lane, and random sums between. */
START_TEST(test_four_sums) {
    uint32_t rng = 5;
    for (int i = 0; i < 4000000; i++) {
        int32_t want[4], lane[4];
        int64_t sum = 0;
        for (int l = 0; l < 4; l++) {
            const int least = (l % 2 ? -56 : -120) * QD_PACK_FOUR_MOST,
                      greatest = (l % 2 ? 64 : 105) * QD_PACK_FOUR_MOST;
            want[l] = i < 16 ? (i >> l & 1 ? greatest : least) : (int32_t)random_between(&rng, least, greatest);
            sum += (int64_t)want[l] * ((int64_t)1 << (l * QD_PACK_FOUR_SHIFT));
        }
        must(fits(sum, SUM_BITS));
        four_lanes(sum, lane);
        for (int l = 0; l < 4; l++) {
            if (lane[l] != want[l]) ck_abort_msg("lane %d: %d, not %d", l, lane[l], want[l]);
        }
    }
}
END_TEST

/* ---- Dot products -------------------------------------------------------------------------------------------------
 */

/* The functions that the array calls: any length, codes at the ends of their ranges and between. */
START_TEST(test_dots) {
    uint32_t rng = 6;
    for (int i = 0; i < 20000; i++) {
        enum { MOST = 64 };
        const int n = 1 + i % MOST, bits = i % 3 ? 4 : 8, half = 1 << (bits - 1);
        int8_t w0[MOST], w1[MOST], x[MOST];
        int32_t want0 = 11, want1 = -7, got0 = want0, got1 = want1;
        for (int k = 0; k < n; k++) {
            const bool ends = i % 2;
            w0[k] = (int8_t)(ends ? -half : random_between(&rng, -half, half - 1));
            w1[k] = (int8_t)(ends && i % 4 == 1 ? half - 1 : ends ? -half : random_between(&rng, -half, half - 1));
            x[k] = (int8_t)(ends ? (i % 8 < 4 ? -128 : 127) : random_between(&rng, -128, 127));
            want0 += w0[k] * x[k];
            want1 += w1[k] * x[k];
        }
        if (bits == 8) {
            qd_pack_dot_two(w0, w1, x, n, QD_PACK_S8_SHIFT, QD_PACK_S8_MOST, &got0, &got1);
        } else if (i % 3 == 1) {
            qd_pack_dot_two(w0, w1, x, n, QD_PACK_S4_SHIFT, QD_PACK_S4_MOST, &got0, &got1);
        } else {
            qd_pack_dot_four(w0, w1, x, n, &got0, &got1);
        }
        ck_assert_msg(got0 == want0 && got1 == want1, "%d codes of %d bits: %d and %d, not %d and %d", n, bits, got0,
                      got1, want0, want1);
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("pack");
    tcase_add_loop_test(tc, test_port, 0, PACKINGS);
    tcase_add_loop_test(tc, test_operands, 0, PACKINGS);
    tcase_add_loop_test(tc, test_limit, 0, PACKINGS);
    tcase_add_loop_test(tc, test_four, 0, 2);
    tcase_add_test(tc, test_four_sums);
    tcase_add_test(tc, test_dots);
    return run_tests(tc, "pack");
}
