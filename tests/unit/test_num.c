/* qdot_num.h on the host: halves, bfloat16, rounding, A8's scale and codes, exp and silu, against arithmetic in double
 * that shares nothing with it. Loops count what is wrong and assert once, because assertions are slow. */
#include "qdot/qdot_num.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* A step through all 2^32 floats: odd and near 2^32 / 2^20, so that every exponent and many mantissas are met. */
#define STEP 4099u

/* ---- Halves and bfloat16 ------------------------------------------------------------------------------------ */

/* A 16-bit format: 1 sign, then the exponent, then `mantissa` bits; `bias` of the exponent. */
typedef struct shape {
    int mantissa, bias;
} shape;

static const shape half_shape = {10, 15}, bf16_shape = {7, 127};

/* Value of a code that is not NaN, by the definition of IEEE 754. */
static double decode(shape s, uint32_t code) {
    const int most = 32767 >> s.mantissa; /* exponent field of infinity */
    const int field = (int)(code & 0x7fff) >> s.mantissa;
    const double fraction = (double)(code & ((1u << s.mantissa) - 1));
    double x;
    if (field == most) {
        x = INFINITY;
    } else if (field == 0) {
        x = ldexp(fraction, 1 - s.bias - s.mantissa);
    } else {
        x = ldexp(fraction + (double)(1 << s.mantissa), field - s.bias - s.mantissa);
    }
    return code & 0x8000 ? -x : x;
}

/* Nearest code, ties to even, of a value that is not NaN: rounds to a multiple of the last place's unit with rint. */
static uint32_t encode(shape s, double x) {
    const uint32_t sign = signbit(x) ? 0x8000 : 0;
    const int most = 32767 >> s.mantissa;
    const double a = fabs(x);
    int exponent = 1 - s.bias;
    if (a == 0) return sign;
    if (isinf(a)) return sign | (uint32_t)most << s.mantissa;
    if (ilogb(a) > exponent) exponent = ilogb(a);
    /* A carry out of the mantissa goes on into the exponent, and from the largest number to infinity. */
    const double units = rint(ldexp(a, s.mantissa - exponent));
    const double code = units + (double)((exponent + s.bias - 1) << s.mantissa);
    return sign | (uint32_t)fmin(code, (double)(most << s.mantissa));
}

static bool half_is_wrong(float x) {
    const uint32_t got = qd_float_to_half(x);
    if (isnan(x)) return (got & 0x7e00) != 0x7e00;
#ifdef __FLT16_MANT_DIG__
    const _Float16 native = (_Float16)x;
    uint16_t bits;
    memcpy(&bits, &native, sizeof bits);
    if (got != bits) return true;
#endif
    return got != encode(half_shape, (double)x);
}

static bool bf16_is_wrong(float x) {
    const uint32_t got = qd_float_to_bf16(x);
    if (isnan(x)) return (got & 0x7fc0) != 0x7fc0;
    return got != encode(bf16_shape, (double)x);
}

/* Every code, and around it the boundary to the next one: the midpoint and its neighbours. */
static int count_wrong_codes(shape s, float (*to_float)(qd_u16), bool (*is_wrong)(float)) {
    const uint32_t infinity = (32767u >> s.mantissa) << s.mantissa;
    int wrong = 0;
    for (uint32_t code = 0; code < 65536; code++) {
        const float x = to_float((qd_u16)code);
        if ((code & 0x7fff) > infinity) {
            wrong += !isnan(x);
            continue;
        }
        wrong += (double)x != decode(s, code) || !signbit(x) != !(code & 0x8000);
        wrong += is_wrong(x);
        if ((code & 0x7fff) == infinity) continue;
        /* The midpoint towards infinity is where the overflow starts. */
        const double next = (code & 0x7fff) + 1 == infinity ? ldexp(1.0, s.bias + 1) : fabs(decode(s, code + 1));
        const float middle = copysignf((float)((fabs((double)x) + next) / 2), x);
        wrong += is_wrong(middle) + is_wrong(nextafterf(middle, INFINITY)) + is_wrong(nextafterf(middle, -INFINITY));
    }
    return wrong;
}

START_TEST(test_halves) {
    ck_assert_int_eq(count_wrong_codes(half_shape, qd_half_to_float, half_is_wrong), 0);
    ck_assert_uint_eq(qd_float_to_half(65519.996f), 0x7bff);
    ck_assert_uint_eq(qd_float_to_half(65520.0f), 0x7c00);
    ck_assert_uint_eq(qd_float_to_half(0x1p-25f), 0x0000);
    ck_assert_uint_eq(qd_float_to_half(0x1.000002p-25f), 0x0001);
    ck_assert_uint_eq(qd_as_u32(qd_half_to_float(0xfc01)), 0xff802000u); /* payloads are kept on the way up */
}
END_TEST

START_TEST(test_bf16) {
    ck_assert_int_eq(count_wrong_codes(bf16_shape, qd_bf16_to_float, bf16_is_wrong), 0);
    ck_assert_uint_eq(qd_float_to_bf16(FLT_MAX), 0x7f80);
    ck_assert_uint_eq(qd_float_to_bf16(0x1p-133f), 0x0001);
    ck_assert_uint_eq(qd_float_to_bf16(0x1p-134f), 0x0000);
}
END_TEST

/* ---- Small floats that overflow ----------------------------------------------------------------------------- */

/* Beyond the largest number by half a step or more: NaN, infinity. */
START_TEST(test_f8_overflow) {
    static const struct {
        float x;
        qd_u8 e4m3, e5m2;
    } cases[] = {
        {0, 0x00, 0x00},          {1, 0x38, 0x3c},     {0x1p-9f, 0x01, 0x18},
        {447.99997f, 0x7e, 0x5f}, {448, 0x7e, 0x5f},   {463.99997f, 0x7e, 0x5f},
        {464, 0x7e, 0x5f}, /* halfway to 480, which would be the odd code: to the even one, 448 */
        {464.00003f, 0x7f, 0x5f}, {480, 0x7f, 0x60}, /* halfway between 448 and 512 */
        {512, 0x7f, 0x60},        {57344, 0x7f, 0x7b}, {61439.996f, 0x7f, 0x7b},
        {61440, 0x7f, 0x7c}, /* halfway to 65536, the even code */
        {61440.004f, 0x7f, 0x7c}, {65536, 0x7f, 0x7c}, {FLT_MAX, 0x7f, 0x7c},
        {INFINITY, 0x7f, 0x7c},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int n = 0; n < 2; n++) {
            const int sign = n ? 0x80 : 0;
            const float x = sign ? -cases[i].x : cases[i].x;
            ck_assert_msg(qd_float_to_f8e4m3_overflow(x) == (cases[i].e4m3 | sign), "%g: %02x", (double)x,
                          qd_float_to_f8e4m3_overflow(x));
            ck_assert_msg(qd_float_to_f8e5m2_overflow(x) == (cases[i].e5m2 | sign), "%g: %02x", (double)x,
                          qd_float_to_f8e5m2_overflow(x));
        }
    }
    static const uint32_t nans[] = {0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001, 0x7fffffff};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++) {
        const unsigned sign = nans[i] >> 31 ? 0x80 : 0;
        ck_assert_uint_eq(qd_float_to_f8e4m3_overflow(qd_as_f32(nans[i])), (0x7f | sign));
        ck_assert_uint_eq(qd_float_to_f8e5m2_overflow(qd_as_f32(nans[i])), (0x7e | sign));
    }
    /* Where nothing overflows they are the functions that limit; beyond, no number. */
    int wrong = 0, over = 0;
    for (uint32_t u = 0; u <= 0xff800000u - STEP; u += STEP) {
        const float x = qd_as_f32(u), a = fabsf(x);
        if (isnan(x)) continue;
        const qd_u8 e4m3 = qd_float_to_f8e4m3_overflow(x), e5m2 = qd_float_to_f8e5m2_overflow(x);
        wrong += a <= 464 ? e4m3 != qd_float_to_f8e4m3(x) : (e4m3 & 0x7f) != 0x7f;
        wrong += a < 61440 ? e5m2 != qd_float_to_f8e5m2(x) : (e5m2 & 0x7f) != 0x7c;
        over += a > 464;
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_gt(over, 1000);
}
END_TEST

/* A sample of all floats, NaN included. */
START_TEST(test_conversion_sweep) {
    int wrong = 0, nans = 0, count = 0;
    uint32_t u = 0, before;
    do {
        const float x = qd_as_f32(u);
        wrong += half_is_wrong(x) + bf16_is_wrong(x);
        nans += isnan(x);
        count++;
        before = u;
        u += STEP;
    } while (u > before);
    ck_assert_int_gt(count, 1000000);
    ck_assert_int_gt(nans, 1000);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* ---- Rounding ----------------------------------------------------------------------------------------------- */

START_TEST(test_round_even) {
    int wrong = 0;
    for (uint32_t u = 0; u < 0x4a800000u; u += 509) { /* 2^22 */
        const float x = qd_as_f32(u);
        wrong += qd_round_even(x) != rintf(x) || qd_round_even(-x) != rintf(-x);
    }
    for (int k = 0; k < 4000; k++) {
        const float tie = (float)k + 0.5f;
        wrong += qd_round_even(tie) != (float)(k + (k & 1)) || qd_round_even(-tie) != (float)-(k + (k & 1));
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert(qd_round_even(4194303.5f) == 4194304.0f);
    ck_assert(qd_round_even(4194302.5f) == 4194302.0f);
    ck_assert(isnan(qd_round_even(NAN)));
}
END_TEST

/* For every maximum, the codes of ±maximum are ±127, nothing goes beyond, and the scale is finite. */
START_TEST(test_a8_of_all_maxima) {
    int wrong = 0, zero = 0;
    for (uint32_t u = 0; u <= 0x7f7fffffu; u += 1021) {
        const float max = qd_as_f32(u);
        const float inverse = qd_a8_inverse(max), scale = qd_a8_scale(max);
        const int top = qd_a8_code(max, inverse);
        wrong += !isfinite(inverse) || !isfinite(scale) || qd_a8_code(-max, inverse) != -top;
        wrong += top != (max > 1e-30f ? 127 : 0) || (scale != 0) != (max > 1e-30f);
        zero += top == 0;
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_gt(zero, 1000);
    ck_assert(qd_a8_scale(1e-30f) == 0 && qd_a8_inverse(1e-30f) == 0);
    ck_assert(qd_a8_scale(FLT_MAX) == FLT_MAX / 127.0f && qd_a8_inverse(FLT_MAX) == 127.0f / FLT_MAX);
}
END_TEST

START_TEST(test_a8_code_clamps) {
    int wrong = 0;
    uint32_t u = 0, before;
    do {
        const int code = qd_a8_code(qd_as_f32(u), 1.0f);
        wrong += code < -127 || code > 127;
        before = u;
        u += STEP;
    } while (u > before);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(qd_a8_code(NAN, 1.0f), -127);
    ck_assert_int_eq(qd_a8_code(INFINITY, 1.0f), 127);
    ck_assert_int_eq(qd_a8_code(-INFINITY, 1.0f), -127);
    ck_assert_int_eq(qd_a8_code(INFINITY, 0.0f), -127);
    ck_assert_int_eq(qd_a8_code(2.5f, 1.0f), 2);
    ck_assert_int_eq(qd_a8_code(-126.6f, 1.0f), -127);
}
END_TEST

/* ---- exp ---------------------------------------------------------------------------------------------------- */

static double relative_error(double got, double want) {
    return fabs(got - want) / fabs(want);
}

START_TEST(test_exp_error) {
    double worst = 0;
    float at = 0;
    for (uint32_t u = 0; u <= 0x42b00000u; u += 509) { /* 0 … 88 */
        for (int sign = 0; sign < 2; sign++) {
            const float x = qd_as_f32(u | (uint32_t)sign << 31);
            if (x < -87.0f) continue;
            const double error = relative_error((double)qd_exp(x), exp((double)x));
            if (!(error <= worst)) {
                worst = error;
                at = x;
            }
        }
    }
    printf("exp: largest relative error 2^%.2f, at %.9g\n", log2(worst), (double)at);
    ck_assert_msg(worst < 0x1p-22, "%g at %.9g", worst, (double)at);
}
END_TEST

/* Hash of f at all multiples of 1/64 from first to last. */
static uint64_t hash_of(float (*f)(float), int first, int last) {
    uint64_t hash = 0;
    for (int k = first * 64; k <= last * 64; k++) {
        hash = hash * 31 + qd_as_u32(f((float)k / 64.0f));
    }
    return hash;
}

/* The bytes are a promise. The numbers come from the same formulas in numpy's float32. */
START_TEST(test_bytes_of_exp_and_silu) {
    ck_assert_uint_eq(qd_as_u32(qd_exp(1.0f)), 0x402df854);
    ck_assert_uint_eq(qd_as_u32(qd_exp(-1.0f)), 0x3ebc5ab2);
    ck_assert_uint_eq(qd_as_u32(qd_exp(0.5f)), 0x3fd3094c);
    ck_assert_uint_eq(qd_as_u32(qd_exp(-87.0f)), 0x00b33687);
    ck_assert_uint_eq(qd_as_u32(qd_exp(88.0f)), 0x7ef882b7);
    ck_assert_uint_eq(hash_of(qd_exp, -87, 88), 0x36d0cf427ee93c96u);
    ck_assert_uint_eq(hash_of(qd_silu, -87, 87), 0x8b9fc2bee39cec71u);
}
END_TEST

START_TEST(test_exp_edges) {
    ck_assert(qd_exp(0.0f) == 1.0f && qd_exp(-0.0f) == 1.0f);
    ck_assert(qd_exp(1e-40f) == 1.0f && qd_exp(-1e-40f) == 1.0f);
    ck_assert(isnan(qd_exp(NAN)) && isnan(qd_exp(-NAN)));
    ck_assert(qd_exp(-INFINITY) == 0.0f && !signbit(qd_exp(-INFINITY)));
    ck_assert(qd_exp(nextafterf(-87.0f, -INFINITY)) == 0.0f);
    ck_assert(qd_exp(-FLT_MAX) == 0.0f);
    ck_assert(qd_exp(-87.0f) >= FLT_MIN); /* no denormals, which a device may flush */
    ck_assert(qd_exp(INFINITY) == qd_exp(88.0f));
    ck_assert(qd_exp(FLT_MAX) == qd_exp(88.0f));
    ck_assert(isfinite(qd_exp(88.0f)));
}
END_TEST

/* Never falls on a grid of 2^-12, also where n changes; and between neighbours it falls by one last place at most. */
START_TEST(test_exp_rises) {
    int wrong = 0;
    float before = 0;
    for (int k = -87 * 4096; k <= 88 * 4096; k++) {
        const float y = qd_exp((float)k / 4096.0f);
        wrong += !(y > before);
        before = y;
    }
    for (int n = -125; n <= 126; n++) { /* where round(x / ln 2) changes */
        float x = (float)((n + 0.5) * 0.69314718055994531);
        for (int k = 0; k < 64; k++) {
            x = nextafterf(x, -INFINITY);
        }
        for (int k = 0; k < 128; k++) {
            const float next = nextafterf(x, INFINITY);
            wrong += qd_exp(next) < nextafterf(qd_exp(x), 0.0f);
            x = next;
        }
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

START_TEST(test_silu) {
    double worst = 0;
    for (uint32_t u = 0; u <= 0x42b00000u; u += 4001) {
        for (int sign = 0; sign < 2; sign++) {
            const float x = qd_as_f32(u | (uint32_t)sign << 31);
            const double want = (double)x / (1.0 + exp(-(double)x));
            if (fabs(want) < (double)FLT_MIN) continue;
            worst = fmax(worst, relative_error((double)qd_silu(x), want));
        }
    }
    printf("silu: largest relative error 2^%.2f\n", log2(worst));
    ck_assert_double_lt(worst, 0x1p-21);
    ck_assert(qd_silu(0.0f) == 0.0f);
    ck_assert(qd_silu(100.0f) == 100.0f && qd_silu(FLT_MAX) == FLT_MAX && qd_silu(INFINITY) == INFINITY);
    ck_assert(isnan(qd_silu(NAN)));
    ck_assert(qd_silu(-INFINITY) == 0.0f && qd_silu(-FLT_MAX) == 0.0f);
    /* Far below, exp is that of 88: the result is not 0, but too small to matter. */
    ck_assert(qd_silu(-1000.0f) <= 0.0f && qd_silu(-1000.0f) > -1e-34f);
    ck_assert(qd_silu(-1e6f) <= 0.0f && qd_silu(-1e6f) > -1e-31f);
}
END_TEST

/* ---- Cache layout ------------------------------------------------------------------------------------------- */

/* Every element of a key cache has a place of its own, and 16 positions of one dimension stand together. */
START_TEST(test_key_index) {
    enum { HEADS = 2, POSITIONS = 48, DIM = 5, COUNT = HEADS * POSITIONS * DIM };
    bool taken[COUNT] = {false};
    int wrong = 0;
    for (int h = 0; h < HEADS; h++) {
        for (int p = 0; p < POSITIONS; p++) {
            for (int d = 0; d < DIM; d++) {
                const qd_i64 i = QD_KEY_INDEX(h, p, d, POSITIONS, DIM);
                if (i < 0 || i >= COUNT || taken[i]) {
                    wrong++;
                    continue;
                }
                taken[i] = true;
                wrong += i != QD_KEY_INDEX(h, p - p % 16, d, POSITIONS, DIM) + p % 16;
            }
        }
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("num");
    TCase *tc = tcase_create("num");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, test_halves);
    tcase_add_test(tc, test_bf16);
    tcase_add_test(tc, test_f8_overflow);
    tcase_add_test(tc, test_conversion_sweep);
    tcase_add_test(tc, test_round_even);
    tcase_add_test(tc, test_a8_of_all_maxima);
    tcase_add_test(tc, test_a8_code_clamps);
    tcase_add_test(tc, test_exp_error);
    tcase_add_test(tc, test_bytes_of_exp_and_silu);
    tcase_add_test(tc, test_exp_edges);
    tcase_add_test(tc, test_exp_rises);
    tcase_add_test(tc, test_silu);
    tcase_add_test(tc, test_key_index);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
