/* How sums become codes: the four modes of qd_requantize and the tables that they take, against the published
 * definitions in wider arithmetic; the floats of 8 and 4 bits against a search among all codes. Loops count what is
 * wrong and assert once, because assertions are slow. */
#include <math.h>

#include "qdot/qdot_num.h"
#include "unit/devices.h"

typedef __int128 wide;

static uint64_t random_state;

/* xorshift64* (Vigna 2016): all 64 bits are good. */
static uint64_t random64(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1du;
}

static void seed_random(void) {
    random_state = 88172645463325252u;
}

static int32_t limit(wide x) {
    return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (int32_t)x;
}

/* floor(x / 2^n), n >= 0 */
static wide floor_shift(wide x, int n) {
    const wide unit = (wide)1 << n;
    return x / unit - (x % unit < 0 ? 1 : 0);
}

/* Any sum: small ones, all, and those next to powers of two and the ends. */
static int32_t random_sum(void) {
    const uint64_t r = random64();
    const uint32_t near = (1u << (r >> 8) % 32) + (uint32_t)(r >> 16) % 3 - 1;
    switch (r % 8) {
        case 0:
            return (int32_t)((r >> 32) % 2001) - 1000;
        case 1:
            return (int32_t)near;
        case 2:
            return (int32_t)(0u - near);
        case 3:
            return r >> 40 & 1 ? INT32_MIN : INT32_MAX;
        default:
            return (int32_t)(uint32_t)(r >> 32);
    }
}

/* 2^30 <= a < 2^31: any, the ends, and those with few bits, whose products end in ties. */
static int32_t random_multiplier(void) {
    const uint64_t r = random64();
    const uint32_t any = 1u << 30 | (uint32_t)(r >> 34);
    switch (r % 4) {
        case 0:
            return (int32_t)(any & ~0u << (r >> 4) % 31);
        case 1:
            return r & 16 ? 1 << 30 : INT32_MAX;
        default:
            return (int32_t)any;
    }
}

enum { ROUNDS = 4000000 };

/* ---- FIXED -------------------------------------------------------------------------------------------------- */

/* floor(x · a / 2^b + 1/2) */
static int32_t fixed(int32_t x, int32_t a, int32_t b) {
    return limit(floor_shift(2 * (wide)x * a + ((wide)1 << b), b + 1));
}

START_TEST(test_fixed) {
    int wrong = 0, limited = 0, ties = 0;
    for (int i = 0; i < ROUNDS; i++) {
        const int32_t x = random_sum(), a = random_multiplier(), b = 1 + (int32_t)(random64() % 63);
        const int32_t want = fixed(x, a, b);
        wrong += qd_requantize(x, QD_MODE_FIXED, a, b) != want;
        limited += want == INT32_MAX || want == INT32_MIN;
        ties += b <= 62 && ((wide)x * a) % ((wide)1 << b) == (wide)1 << (b - 1);
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_gt(limited, 1000);
    ck_assert_int_gt(ties, 1000);
    /* Ties go upward, on both sides of zero. */
    static const int32_t halves[][2] = {{1, 1}, {3, 2}, {-1, 0}, {-3, -1}, {5, 3}, {-5, -2}};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++)
        ck_assert_int_eq(qd_requantize_fixed(halves[i][0], 1 << 30, 31), halves[i][1]);
    ck_assert_int_eq(qd_requantize_fixed(INT32_MIN, 1 << 30, 1), INT32_MIN);
    ck_assert_int_eq(qd_requantize_fixed(INT32_MIN, 1 << 30, 62), 0); /* -1/2 */
    ck_assert_int_eq(qd_requantize_fixed(INT32_MIN, (1 << 30) + 1, 62), -1);
}
END_TEST

/* ---- GEMMLOWP ----------------------------------------------------------------------------------------------- */

/* gemmlowp/fixedpoint.h, SaturatingRoundingDoublingHighMul: the sum with the nudge is divided towards zero. */
static int32_t doubling_high(int32_t a, int32_t b) {
    const wide product = (wide)a * b, nudge = product >= 0 ? 1 << 30 : 1 - (1 << 30);
    return limit((product + nudge) / ((wide)1 << 31));
}

/* gemmlowp/fixedpoint.h, RoundingDivideByPOT: to nearest, ties away from zero. */
static int32_t divide_by_power(int32_t x, int exponent) {
    const wide magnitude = x < 0 ? -(wide)x : x, half = exponent ? (wide)1 << (exponent - 1) : 0;
    const wide rounded = (magnitude + half) >> exponent;
    return (int32_t)(x < 0 ? -rounded : rounded);
}

/* tensorflow/lite/kernels/internal/common.h, MultiplyByQuantizedMultiplier, with a left shift that wraps. */
static int32_t gemmlowp(int32_t x, int32_t a, int32_t b) {
    const uint32_t shifted = b > 0 ? (uint32_t)x * (uint32_t)(1ull << b) : (uint32_t)x;
    return divide_by_power(doubling_high((int32_t)shifted, a), b < 0 ? -b : 0);
}

START_TEST(test_gemmlowp) {
    int wrong = 0, differ = 0;
    for (int i = 0; i < ROUNDS; i++) {
        const int32_t x = random_sum(), b = (int32_t)(random64() % 62) - 31;
        const int32_t a = random64() % 64 ? random_multiplier() : 0;
        const int32_t want = gemmlowp(x, a, b);
        wrong += qd_requantize(x, QD_MODE_GEMMLOWP, a, b) != want;
        differ += b < 0 && a && want != fixed(x, a, 31 - b);
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_gt(differ, 1000);                                /* two roundings are not one */
    ck_assert_int_eq(qd_requantize_gemmlowp(3, 1 << 30, -1), 1);   /* 1.5 → 2 → 1 */
    ck_assert_int_eq(qd_requantize_gemmlowp(-3, 1 << 30, -1), -1); /* -1.5 → -1 → -0.5 → -1 */
    ck_assert_int_eq(qd_requantize_gemmlowp(INT32_MIN, 1 << 30, -31), -1);
    /* No multiplier is negative, but the numbers of a file may be anything. */
    ck_assert_int_eq(qd_requantize_gemmlowp(INT32_MIN, INT32_MIN, 0), INT32_MAX);
}
END_TEST

/* ---- AWAY --------------------------------------------------------------------------------------------------- */

static int32_t away(int32_t x, double m) {
    const double y = round((double)x * m);
    return y >= 2147483647.0 ? INT32_MAX : y <= -2147483648.0 ? INT32_MIN : (int32_t)y;
}

static int32_t away_of_bits(int32_t x, double m) {
    uint64_t bits;
    memcpy(&bits, &m, sizeof bits);
    return qd_requantize(x, QD_MODE_AWAY, (int32_t)(uint32_t)bits, (int32_t)(uint32_t)(bits >> 32));
}

/* A positive float64: any at all, one that makes a sum a code, or one whose product is a tie or next to one. */
static double random_double(int32_t x) {
    const uint64_t r = random64();
    uint64_t bits = random64() >> 1;
    double m;
    switch (r % 4) {
        case 0: /* any exponent, denormals too */
            if (bits >> 52 == 0x7ff) bits ^= (uint64_t)1 << 62;
            break;
        case 1:
            bits = (bits & 0xfffffffffffff) | (uint64_t)(1023 - 40 + r / 4 % 50) << 52;
            break;
        case 2: { /* (k + 1/2) / x, or a neighbour */
            m = ((double)(r >> 8 & 0xfff) + 0.5) / (x ? fabs((double)x) : 1.0);
            if (r & 4) m = nextafter(m, r & 8 ? 0.0 : 1e9);
            return m;
        }
        default: /* few bits */
            return ldexp((double)(1 + (r >> 8 & 0xff)), -(int)(r >> 16 & 31));
    }
    memcpy(&m, &bits, sizeof m);
    return m;
}

START_TEST(test_away) {
    int wrong = 0, limited = 0, codes = 0;
    for (int i = 0; i < 2 * ROUNDS; i++) {
        const int32_t x = random_sum();
        const double m = random_double(x);
        const int32_t want = away(x, m);
        wrong += away_of_bits(x, m) != want;
        limited += want == INT32_MAX || want == INT32_MIN;
        codes += want > -40000 && want < 40000 && want;
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_gt(limited, 1000);
    ck_assert_int_gt(codes, ROUNDS / 4);
    static const double extreme[] = {0x1p-1074,
                                     0x1.fffffffffffffp-1023,
                                     0x1p-1022,
                                     0x1p-53,
                                     0x1p-33,
                                     0x1p-32,
                                     0x1.fffffffffffffp-33,
                                     0.49999999999999994,
                                     0.5,
                                     0x1p0,
                                     0x1p31,
                                     0x1p62,
                                     0x1p63,
                                     0x1p64,
                                     0x1p500,
                                     0x1.fffffffffffffp1023};
    static const int32_t sums[] = {0, 1, -1, 2, -2, 3, -3, INT32_MIN, INT32_MIN + 1, INT32_MAX, INT32_MAX - 1};
    for (size_t i = 0; i < sizeof extreme / sizeof extreme[0]; i++) {
        for (size_t j = 0; j < sizeof sums / sizeof sums[0]; j++)
            ck_assert_msg(away_of_bits(sums[j], extreme[i]) == away(sums[j], extreme[i]), "%d · %a: %d, not %d",
                          sums[j], extreme[i], away_of_bits(sums[j], extreme[i]), away(sums[j], extreme[i]));
    }
}
END_TEST

/* ---- FLOAT -------------------------------------------------------------------------------------------------- */

static int32_t to_even(double x) {
    const double y = nearbyint(x);
    return isnan(y) ? 0 : y >= 2147483647.0 ? INT32_MAX : y <= -2147483648.0 ? INT32_MIN : (int32_t)y;
}

START_TEST(test_float) {
    int wrong = 0, codes = 0;
    for (int i = 0; i < 2 * ROUNDS; i++) {
        const int32_t x = random_sum();
        uint32_t bits = (uint32_t)random64();
        if (i % 2) bits = (bits & 0x7fffffu) | (127u - 32u + bits % 34u) << 23; /* multipliers that make codes */
        const volatile float product = (float)x * qd_as_f32(bits);
        const int32_t want = isnan(product) ? 0 : to_even((double)nearbyintf(product));
        wrong += qd_requantize(x, QD_MODE_FLOAT, (int32_t)bits, 0) != want;
        codes += want > -40000 && want < 40000 && want;
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_gt(codes, ROUNDS / 4);
}
END_TEST

/* Every exponent: its ends, and a sample of its mantissas. */
START_TEST(test_round_even_i32) {
    int wrong = 0;
    for (uint32_t top = 0; top < 512; top++) {
        for (uint32_t i = 0; i < 20000; i++) {
            const uint32_t mantissa = i < 8 ? i : i < 16 ? 0x7fffffu - (i - 8) : (uint32_t)random64() & 0x7fffffu;
            const float x = qd_as_f32(top << 23 | mantissa);
            wrong += qd_round_even_i32(x) != to_even((double)x);
        }
    }
    /* Every tie, and the integers around it, where the spacing is one half or one. */
    for (int64_t n = -70000; n <= 70000; n++) {
        const float near[] = {(float)n, (float)n + 0.5f, nextafterf((float)n + 0.5f, -INFINITY),
                              nextafterf((float)n + 0.5f, INFINITY)};
        for (int i = 0; i < 4; i++)
            wrong += qd_round_even_i32(near[i]) != to_even((double)near[i]);
    }
    for (int64_t n = (1 << 22) - 50; n < (1 << 23) + 50; n += n < (1 << 22) + 50 || n > (1 << 23) - 100 ? 1 : 4999) {
        const float x = (float)n + 0.5f;
        wrong += qd_round_even_i32(x) != to_even((double)x) || qd_round_even_i32(-x) != to_even(-(double)x);
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(qd_round_even_i32(INFINITY), INT32_MAX);
    ck_assert_int_eq(qd_round_even_i32(-INFINITY), INT32_MIN);
    ck_assert_int_eq(qd_round_even_i32(NAN), 0);
    ck_assert_int_eq(qd_round_even_i32(2147483520.0f), 2147483520);
}
END_TEST

/* ---- Codes -------------------------------------------------------------------------------------------------- */

START_TEST(test_to_code) {
    static const int32_t limits[][2] = {{-128, 127}, {0, 255}, {-32768, 32767}, {0, 65535}, {INT32_MIN, INT32_MAX},
                                        {-7, -3},    {5, 5}};
    int wrong = 0;
    for (int i = 0; i < ROUNDS / 4; i++) {
        const int32_t x = random_sum(), zero = random_sum();
        for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
            const wide y = (wide)x + zero, low = limits[k][0], high = limits[k][1];
            wrong += qd_to_code(x, zero, limits[k][0], limits[k][1]) != (y < low ? low : y > high ? high : y);
        }
        const int64_t any = (int64_t)random64() >> random64() % 64;
        wrong += qd_saturate_i32(any) != limit(any);
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(qd_saturate_i32(INT64_MIN), INT32_MIN);
    ck_assert_int_eq(qd_saturate_i32((int64_t)INT32_MAX + 1), INT32_MAX);
}
END_TEST

/* Numbers that no table holds, as a file may have them: some result, and nothing undefined (the sanitizers watch). */
START_TEST(test_any_numbers) {
    static const int32_t odd[] = {0,   -1,  1,   31,        32,        62,      63,         64,
                                  -31, -32, -64, INT32_MIN, INT32_MAX, 1 << 20, 0x7ff00000, -2146435072};
    enum { ODD = sizeof odd / sizeof odd[0] };
    for (int mode = -1; mode < 6; mode++) {
        for (int i = 0; i < ODD * ODD * 40; i++) {
            const int32_t a = odd[i % ODD], b = odd[i / ODD % ODD], x = random_sum();
            ck_assert_int_eq(qd_requantize(x, mode, a, b), qd_requantize(x, mode, a, b));
        }
    }
}
END_TEST

/* ---- Tables ------------------------------------------------------------------------------------------------- */

static float random_scale(void) {
    const uint64_t r = random64();
    return ldexpf(1.0f + (float)(r % 3 ? r >> 41 : 0) * 0x1p-23f, (int)(r >> 8 & 0xff) % 24 - 24);
}

/* The bits of m as mantissa · 2^(exponent), 2^52 <= mantissa < 2^53. */
static int64_t take_apart(double m, int *exponent) {
    uint64_t bits;
    memcpy(&bits, &m, sizeof bits);
    *exponent = (int)(bits >> 52) - 1075;
    return (int64_t)((bits & 0xfffffffffffff) | (uint64_t)1 << 52);
}

/* m as a · 2^-b with a of 31 bits, rounded half up. */
static int32_t multiplier(double m, int *b) {
    int exponent;
    int64_t a = (take_apart(m, &exponent) + (1 << 21)) >> 22;
    *b = -(exponent + 22);
    if (a >> 31) {
        a >>= 1;
        --*b;
    }
    return (int32_t)a;
}

START_TEST(test_table) {
    enum { N = 50 };
    for (int round = 0; round < 4000; round++) {
        float w[N];
        const float x = random_scale(), y = random_scale();
        for (int i = 0; i < N; i++)
            w[i] = random_scale();
        int32_t t[4][N][2];
        for (int mode = 0; mode < 4; mode++)
            ck_ok(qd_requantize_table((qd_rounding)mode, x, w, N, y, t[mode][0]));
        int wrong = 0;
        for (int i = 0; i < N; i++) {
            const double m = (double)x * (double)w[i] / (double)y;
            uint64_t bits;
            memcpy(&bits, &m, sizeof bits);
            int b;
            const int32_t a = multiplier(m, &b);
            const volatile float xw = x * w[i], f = xw / y;
            const int32_t *fixed_row = t[QD_ROUND_FIXED][i], *low = t[QD_ROUND_GEMMLOWP][i];
            wrong += fixed_row[0] != a || fixed_row[1] != (b > 63 ? 63 : b);
            wrong += 31 - b < -31 ? low[0] || low[1] : low[0] != a || low[1] != 31 - b;
            wrong += (uint32_t)t[QD_ROUND_AWAY][i][0] != (uint32_t)bits ||
                     (uint32_t)t[QD_ROUND_AWAY][i][1] != (uint32_t)(bits >> 32);
            wrong += t[QD_ROUND_FLOAT][i][1] || (uint32_t)t[QD_ROUND_FLOAT][i][0] != qd_as_u32(f);
            /* What the table is for: each mode is near the real product. */
            const int32_t sum = random_sum();
            const double exact = (double)sum * m;
            for (int mode = 0; mode < 4 && fabs(exact) < 1e6; mode++) {
                const double got = qd_requantize(sum, mode, t[mode][i][0], t[mode][i][1]);
                const bool wraps = mode == QD_MODE_GEMMLOWP && low[1] > 0 && llabs((int64_t)sum) > INT32_MAX >> low[1];
                wrong += !wraps && fabs(got - exact) > (mode == QD_MODE_GEMMLOWP ? 1.0 : 0.5) + fabs(exact) * 0x1p-22;
            }
        }
        ck_assert_msg(wrong == 0, "round %d: %d wrong of %d channels", round, wrong, N);
    }
}
END_TEST

/* Multipliers that round up to the next power of two. */
START_TEST(test_table_carry) {
    const float w = 1.0f - 0x1p-24f, x = 1.0f - 0x1p-24f; /* the product is 1 - 2^-23 + 2^-48 */
    int32_t row[2];
    ck_ok(qd_requantize_table(QD_ROUND_FIXED, x, &w, 1, 1.0f, row));
    ck_assert_int_eq(row[0], INT32_MAX - 255);
    ck_assert_int_eq(row[1], 31);
    const float near = nextafterf(3.0f, 0.0f), third = 3.0f * (1.0f - 0x1p-24f);
    ck_ok(qd_requantize_table(QD_ROUND_FIXED, 1.0f, &near, 1, third, row)); /* one float64 next to 1, or 1 */
    ck_assert_int_eq(row[0], 1 << 30);
    ck_assert_int_eq(row[1], 30);
}
END_TEST

START_TEST(test_table_ends) {
    static const struct {
        qd_rounding rounding;
        float m;
        bool fits;
    } cases[] = {
        {QD_ROUND_FIXED, 0x1.fffffep29f, true},
        {QD_ROUND_FIXED, 0x1p30f, false},
        {QD_ROUND_GEMMLOWP, 0x1.fffffep29f, true},
        {QD_ROUND_GEMMLOWP, 0x1p30f, false},
        {QD_ROUND_AWAY, 3e38f, true},
        {QD_ROUND_AWAY, 0x1p-149f, true},
        {QD_ROUND_FLOAT, 3e38f, true},
        {QD_ROUND_FLOAT, 0x1p-149f, true},
        {QD_ROUND_FIXED, 0x1p-149f, true},
        {QD_ROUND_GEMMLOWP, 0x1p-149f, true},
        {QD_ROUND_FIXED, 0x1p-33f, true},
        {QD_ROUND_GEMMLOWP, 0x1p-32f, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t table[4] = {7, 7, 7, 7};
        const float w[2] = {1.0f, cases[i].m};
        const qd_status status = qd_requantize_table(cases[i].rounding, 1.0f, w, 2, 1.0f, table);
        if (cases[i].fits) {
            ck_assert_msg(status == QD_OK, "case %zu: %s", i, qd_last_message());
            const double exact = fmin((double)cases[i].m * 1e9, 2147483647.0);
            const double got = qd_requantize(1000000000, (int)cases[i].rounding, table[2], table[3]);
            /* GEMMLOWP shifts to the left first, which wraps. */
            if (cases[i].rounding != QD_ROUND_GEMMLOWP || cases[i].m < 1) ck_assert_double_le(fabs(got - exact), 1.0);
        } else {
            ck_assert_int_eq(status, QD_ERR_ARGUMENT);
            ck_assert_ptr_nonnull(strstr(qd_last_message(), "channel 1"));
            for (int k = 0; k < 4; k++)
                ck_assert_int_eq(table[k], 7); /* not even the channel that fits */
        }
    }
    /* The ratio overflows a float32 only. */
    const float w = 3e38f;
    int32_t row[2];
    ck_ok(qd_requantize_table(QD_ROUND_AWAY, 2.0f, &w, 1, 1.0f, row));
    ck_fails(qd_requantize_table(QD_ROUND_FLOAT, 2.0f, &w, 1, 1.0f, row), QD_ERR_ARGUMENT, "channel 0");
}
END_TEST

START_TEST(test_table_arguments) {
    static const float bad[] = {0.0f, -1.0f, -0.0f, NAN, INFINITY, -INFINITY};
    int32_t table[4] = {7, 7, 7, 7};
    const float w[2] = {1.0f, 1.0f};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (int mode = 0; mode < 4; mode++) {
            const qd_rounding r = (qd_rounding)mode;
            const float spoilt[2] = {1.0f, bad[i]};
            ck_fails(qd_requantize_table(r, bad[i], w, 2, 1.0f, table), QD_ERR_ARGUMENT, " x ");
            ck_fails(qd_requantize_table(r, 1.0f, w, 2, bad[i], table), QD_ERR_ARGUMENT, " y ");
            ck_fails(qd_requantize_table(r, 1.0f, spoilt, 2, 1.0f, table), QD_ERR_ARGUMENT, " w ");
        }
    }
    ck_fails(qd_requantize_table((qd_rounding)4, 1.0f, w, 2, 1.0f, table), QD_ERR_ARGUMENT, "rounding");
    ck_fails(qd_requantize_table((qd_rounding)-1, 1.0f, w, 2, 1.0f, table), QD_ERR_ARGUMENT, "rounding");
    ck_fails(qd_requantize_table(QD_ROUND_AWAY, 1.0f, w, -1, 1.0f, table), QD_ERR_ARGUMENT, "needs");
    ck_fails(qd_requantize_table(QD_ROUND_AWAY, 1.0f, NULL, 1, 1.0f, table), QD_ERR_ARGUMENT, "needs");
    ck_fails(qd_requantize_table(QD_ROUND_AWAY, 1.0f, w, 1, 1.0f, NULL), QD_ERR_ARGUMENT, "needs");
    ck_ok(qd_requantize_table(QD_ROUND_AWAY, 1.0f, NULL, 0, 1.0f, NULL));
    for (int k = 0; k < 4; k++)
        ck_assert_int_eq(table[k], 7);
}
END_TEST

/* ---- Floats of 8 and 4 bits --------------------------------------------------------------------------------- */

typedef struct small_format {
    int bits, mantissa, bias;
    uint32_t largest, nan; /* magnitudes; nan: the code of NaN */
    qd_u8 (*encode)(float);
    float (*decode)(qd_u8);
} small_format;

/* Micikevicius et al. 2022, table 1; OCP Microscaling Formats 1.0, section 5.3.3. FP4 has no NaN: the largest. */
static const small_format small_formats[] = {
    {8, 3, 7, 0x7e, 0x7f, qd_float_to_f8e4m3, qd_f8e4m3_to_float},
    {8, 2, 15, 0x7b, 0x7e, qd_float_to_f8e5m2, qd_f8e5m2_to_float},
    {4, 1, 1, 0x07, 0x07, qd_float_to_f4e2m1, qd_f4e2m1_to_float},
};

static double small_value(const small_format *f, uint32_t magnitude) {
    const uint32_t field = magnitude >> f->mantissa, fraction = magnitude & ((1u << f->mantissa) - 1);
    const double m = (double)fraction + (field ? (double)(1u << f->mantissa) : 0.0);
    return ldexp(m, (field ? (int)field : 1) - f->bias - f->mantissa);
}

/* The nearest of all codes; of two, the even one. */
static uint32_t nearest(const small_format *f, float x) {
    const uint32_t sign = signbit(x) ? 1u << (f->bits - 1) : 0;
    if (isnan(x)) return f->nan;
    const double a = fabs((double)x);
    uint32_t low = 0, high = f->largest;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        *(small_value(f, middle) <= a ? &low : &high) = middle;
    }
    const double below = a - small_value(f, low), above = small_value(f, high) - a;
    if (below == above) return sign | (low % 2 ? high : low);
    return sign | (below < above ? low : high);
}

static bool small_is_wrong(const small_format *f, float x) {
    const uint32_t got = f->encode(x), want = nearest(f, x);
    return isnan(x) ? (got & f->largest) != (want & f->largest) && (got & 0x7f) != want : got != want;
}

START_TEST(test_small_floats) {
    const small_format *f = &small_formats[_i];
    int wrong = 0;
    for (uint32_t code = 0; code <= f->largest; code++) {
        const float x = (float)small_value(f, code), next = (float)small_value(f, code + 1), half = (x + next) / 2;
        const uint32_t sign = 1u << (f->bits - 1);
        wrong += f->decode((qd_u8)code) != x || f->decode((qd_u8)(code | sign)) != -x;
        wrong += signbit(f->decode((qd_u8)(code | sign))) == 0;
        const float near[] = {x, half, nextafterf(half, 0), nextafterf(half, INFINITY), nextafterf(x, 0), next};
        for (int i = 0; i < 6; i++)
            wrong += small_is_wrong(f, near[i]) + small_is_wrong(f, -near[i]);
    }
    uint32_t u = 0;
    for (int i = 0; i < 2000000; i++, u += 2147u)
        wrong += small_is_wrong(f, qd_as_f32(u));
    ck_assert_int_eq(wrong, 0);
    const float most = (float)small_value(f, f->largest);
    ck_assert(f->decode(f->encode(INFINITY)) == most && f->decode(f->encode(-INFINITY)) == -most);
    ck_assert(isnan(f->decode(f->encode(NAN))) || f->nan == f->largest);
}
END_TEST

/* The codes that are no numbers. */
START_TEST(test_small_not_finite) {
    ck_assert(isnan(qd_f8e4m3_to_float(0x7f)) && isnan(qd_f8e4m3_to_float(0xff)));
    ck_assert(qd_f8e5m2_to_float(0x7c) == INFINITY && qd_f8e5m2_to_float(0xfc) == -INFINITY);
    for (qd_u8 code = 0x7d; code < 0x80; code++)
        ck_assert(isnan(qd_f8e5m2_to_float(code)) && isnan(qd_f8e5m2_to_float((qd_u8)(code | 0x80))));
    ck_assert(qd_f8e4m3_to_float(0x7e) == 448.0f && qd_f8e5m2_to_float(0x7b) == 57344.0f);
    ck_assert(qd_f4e2m1_to_float(0xf7) == 6.0f); /* bits above the fourth are another code's */
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("rounding");
    tcase_add_checked_fixture(tc, seed_random, NULL);
    tcase_add_test(tc, test_fixed);
    tcase_add_test(tc, test_gemmlowp);
    tcase_add_test(tc, test_away);
    tcase_add_test(tc, test_float);
    tcase_add_test(tc, test_round_even_i32);
    tcase_add_test(tc, test_to_code);
    tcase_add_test(tc, test_any_numbers);
    tcase_add_test(tc, test_table);
    tcase_add_test(tc, test_table_carry);
    tcase_add_test(tc, test_table_ends);
    tcase_add_test(tc, test_table_arguments);
    tcase_add_loop_test(tc, test_small_floats, 0, 3);
    tcase_add_test(tc, test_small_not_finite);
    return run_tests(tc, "rounding");
}
