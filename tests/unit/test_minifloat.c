/* Small floats: every code there and back, halfway points, overflow, and the casts that qdot_num.h has, too. */
#include <math.h>

#include "qdot/qdot_minifloat.h"
#include "qdot/qdot_num.h"
#include "unit/devices.h"

/* The largest value, the least normal one and the least of all: by hand. */
static const struct limits {
    const char *name;
    double largest, normal, least;
} types[] = {
    {"f16", 65504, 0x1p-14, 0x1p-24},
    {"bf16", 0x1.fep127, 0x1p-126, 0x1p-133},
    {"f8e4m3fn", 448, 0x1p-6, 0x1p-9},
    {"f8e5m2", 57344, 0x1p-14, 0x1p-16},
    {"f8e4m3", 240, 0x1p-6, 0x1p-9},
    {"f8e3m4", 15.5, 0x1p-2, 0x1p-6},
    {"f8e4m3fnuz", 240, 0x1p-7, 0x1p-10},
    {"f8e5m2fnuz", 57344, 0x1p-15, 0x1p-17},
    {"f8e8m0fnu", 0x1p127, 0x1p-127, 0x1p-127},
    {"f6e2m3fn", 7.5, 1, 0.125},
    {"f6e3m2fn", 28, 0.25, 0.0625},
    {"f4e2m1fn", 6, 1, 0.5},
    {"f4e3m0fn", 16, 0.25, 0.25},
};
enum { TYPES = sizeof types / sizeof types[0] };
_Static_assert(TYPES == (int)QD_MINIFLOAT_COUNT, "a type is missing");

static qd_minifloat type_of(int i) {
    qd_minifloat t;
    ck_ok(qd_minifloat_find(types[i].name, &t));
    return t;
}

START_TEST(test_codes) {
    const qd_minifloat t = type_of(_i);
    const qd_minifloat_info *info = qd_minifloat_get(t);
    double largest = 0, least = INFINITY;
    for (int code = 0; code < 1 << info->bits; code++) {
        const float v = qd_minifloat_value(t, (uint16_t)code);
        if (isnan(v)) {
            ck_assert(isnan(qd_minifloat_value(t, qd_minifloat_code(t, false, v))));
            continue;
        }
        ck_assert_msg(qd_minifloat_code(t, false, v) == code || (v == 0 && code), "%s: code %d", info->name, code);
        if (isinf(v)) continue;
        largest = fmax(largest, (double)v);
        if (v > 0) least = fmin(least, (double)v);
        ck_assert_int_eq(qd_minifloat_code(t, true, v), qd_minifloat_code(t, false, v));
    }
    ck_assert(largest == types[_i].largest);
    ck_assert(least == types[_i].least);
}
END_TEST

/* Between neighbours: below the middle down, above it up, in the middle to the even code; without a mantissa up. */
START_TEST(test_halves) {
    const qd_minifloat t = type_of(_i);
    const qd_minifloat_info *info = qd_minifloat_get(t);
    for (int code = 0; code + 1 < 1 << (info->bits - info->sign); code++) {
        const float low = qd_minifloat_value(t, (uint16_t)code), high = qd_minifloat_value(t, (uint16_t)(code + 1));
        if (!isfinite(low) || !isfinite(high)) continue;
        const float middle = low / 2 + high / 2;
        const int even = info->mantissa ? code + code % 2 : code + 1;
        ck_assert_int_eq(qd_minifloat_code(t, false, middle), even);
        ck_assert_int_eq(qd_minifloat_code(t, true, nextafterf(middle, low)), code);
        ck_assert_int_eq(qd_minifloat_code(t, true, nextafterf(middle, high)), code + 1);
        if (info->sign && even) ck_assert_int_eq(qd_minifloat_code(t, false, -middle), even | 1 << (info->bits - 1));
    }
}
END_TEST

START_TEST(test_overflow) {
    const qd_minifloat t = type_of(_i);
    const qd_minifloat_info *info = qd_minifloat_get(t);
    const float most = (float)types[_i].largest;
    /* The last value that still rounds down: half a step above the largest is already too much, its code being odd. */
    const float step = most - qd_minifloat_value(t, (uint16_t)(qd_minifloat_code(t, true, most) - 1));
    const float beyond = fminf(most + step, 0x1.fffffep127f), xs[] = {beyond, INFINITY};
    for (int i = 0; i < 2; i++) {
        for (int sign = 0; sign <= info->sign; sign++) {
            const float x = sign ? -xs[i] : xs[i], want = sign ? -most : most;
            ck_assert(qd_minifloat_value(t, qd_minifloat_code(t, true, x)) == want);
            const float free = qd_minifloat_value(t, qd_minifloat_code(t, false, x));
            if (info->specials == QD_MINIFLOAT_IEEE) ck_assert(free == (sign ? -INFINITY : INFINITY));
            if (info->specials == QD_MINIFLOAT_NONE) ck_assert(free == want);
            if (info->specials == QD_MINIFLOAT_LAST || info->specials == QD_MINIFLOAT_ZERO) ck_assert(isnan(free));
        }
    }
    if (info->sign) {
        ck_assert_int_eq(qd_minifloat_code(t, true, 1e-45f), 0);
        const bool unsigned_zero = info->specials == QD_MINIFLOAT_ZERO;
        ck_assert_int_eq(qd_minifloat_code(t, true, -1e-45f), unsigned_zero ? 0 : 1 << (info->bits - 1));
    } else {
        ck_assert(isnan(qd_minifloat_value(t, qd_minifloat_code(t, true, 0))));
        ck_assert(isnan(qd_minifloat_value(t, qd_minifloat_code(t, true, -1))));
        ck_assert_int_eq(qd_minifloat_code(t, true, 1e-45f), 0);
    }
}
END_TEST

/* The casts of qdot_num.h, which devices use, are others in the making. */
START_TEST(test_same_as_devices) {
    uint32_t rng = 11;
    ck_assert_int_eq(qd_minifloat_code(QD_MINIFLOAT_F8E4M3FN, true, 0.3f), 0x2a); /* of FORMATS.md */
    for (int i = 0; i < 300000; i++) {
        const float x = qd_as_f32(random_bits(&rng) << 16 ^ random_bits(&rng));
        if (isnan(x)) continue;
        ck_assert_int_eq(qd_minifloat_code(QD_MINIFLOAT_F16, false, x), qd_float_to_half(x));
        ck_assert_int_eq(qd_minifloat_code(QD_MINIFLOAT_BF16, false, x), qd_float_to_bf16(x));
        ck_assert_int_eq(qd_minifloat_code(QD_MINIFLOAT_F8E4M3FN, true, x), qd_float_to_f8e4m3(x));
        ck_assert_int_eq(qd_minifloat_code(QD_MINIFLOAT_F8E5M2, true, x), qd_float_to_f8e5m2(x));
        ck_assert_int_eq(qd_minifloat_code(QD_MINIFLOAT_F4E2M1FN, true, x), qd_float_to_f4e2m1(x));
    }
    for (int code = 0; code < 65536; code++) {
        const float half = qd_half_to_float((uint16_t)code), got = qd_minifloat_value(QD_MINIFLOAT_F16, (uint16_t)code);
        ck_assert(isnan(half) ? isnan(got) : qd_as_u32(half) == qd_as_u32(got));
        const float bf = qd_bf16_to_float((uint16_t)code), has = qd_minifloat_value(QD_MINIFLOAT_BF16, (uint16_t)code);
        ck_assert(isnan(bf) ? isnan(has) : qd_as_u32(bf) == qd_as_u32(has));
    }
}
END_TEST

START_TEST(test_refused) {
    qd_minifloat t;
    float x[2] = {1, 2};
    uint16_t codes[2] = {0x5a5a, 0x5a5a};
    ck_assert_ptr_null(qd_minifloat_get(QD_MINIFLOAT_COUNT));
    ck_fails(qd_minifloat_find("f8", &t), QD_ERR_ARGUMENT, "f8e4m3fn");
    ck_fails(qd_minifloat_find(NULL, &t), QD_ERR_ARGUMENT, "no small float");
    ck_fails(qd_minifloat_encode(QD_MINIFLOAT_COUNT, true, x, 2, codes), QD_ERR_ARGUMENT, "does not exist");
    ck_fails(qd_minifloat_encode(QD_MINIFLOAT_F16, true, x, -2, codes), QD_ERR_ARGUMENT, "-2 values of f16");
    ck_fails(qd_minifloat_encode(QD_MINIFLOAT_F16, true, NULL, 2, codes), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_minifloat_decode(QD_MINIFLOAT_F16, codes, 2, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_assert_int_eq(codes[0], 0x5a5a);
    ck_ok(qd_minifloat_encode(QD_MINIFLOAT_F16, true, x, 2, codes));
    ck_assert(codes[0] == 0x3c00 && codes[1] == 0x4000);
    ck_ok(qd_minifloat_decode(QD_MINIFLOAT_F16, NULL, 0, NULL));
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("minifloat");
    tcase_add_loop_test(tc, test_codes, 0, TYPES);
    tcase_add_loop_test(tc, test_halves, 0, TYPES);
    tcase_add_loop_test(tc, test_overflow, 0, TYPES);
    tcase_add_test(tc, test_same_as_devices);
    tcase_add_test(tc, test_refused);
    return run_tests(tc, "small floats");
}
