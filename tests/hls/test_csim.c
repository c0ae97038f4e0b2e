/* The C simulation of hls/: each unit, in each shape of shapes.def, against the reference on random problems. Gives all
 * bytes of the outputs, those between and behind the rows too.
 *
 *   hls_test_csim [CASES [TOP [SHAPE [SEED]]]]     cases of each unit, spread over its shapes; default: 2000. With a
 * failure's seed that case comes first */
#include "core/operands.h"
#include "hls/csim.h"
#include "unit/devices.h"

static int64_t cases = 2000;
static const char *only_top, *only_shape;
static uint64_t first_seed; /* 0: each unit has cases of its own */

/* Bytes of an element, or 1 where it has fewer. */
static size_t element_bytes(const qd_tensor *t) {
    const qd_format_info *f = qd_format_get(t->desc.format);
    return f->block > 1 ? 1 : (size_t)f->bytes;
}

/* True when the unit gives the reference's bytes. */
static void check_case(const csim_unit *u, qd_case *c, uint64_t seed) {
    csim_operand in[QD_MAX_IN], out[QD_MAX_OUT];
    for (int i = 0; i < QD_OPERANDS; i++) {
        const qd_tensor *t = &c->tensors[i];
        csim_operand *o = i < QD_MAX_IN ? &in[i] : &out[i - QD_MAX_IN];
        *o = csim_upload(c->data[i], c->bytes[i], t->offset, t->stride, c->data[i] ? element_bytes(t) : 1,
                         seed * 7 + (uint64_t)i * 29);
    }
    csim_run(u, &c->node, in, out, c->node.max_rows, (int64_t)(seed % 5) * 3);
    for (int i = 0; i < QD_MAX_OUT; i++) {
        if (!c->want[i]) continue;
        const unsigned char *got = (const unsigned char *)out[i].memory + out[i].at - c->tensors[QD_MAX_IN + i].offset;
        const unsigned char *want = c->want[i];
        size_t at = 0;
        while (at < c->bytes[QD_MAX_IN + i] && got[at] == want[at])
            at++;
        ck_assert_msg(at == c->bytes[QD_MAX_IN + i], "%s in shape %s, seed %llu: byte %zu is %02x, not %02x; %s",
                      u->top, u->shape, (unsigned long long)seed, at, got[at], want[at], c->text);
    }
    for (int i = 0; i < QD_MAX_IN; i++)
        free(in[i].memory);
    for (int i = 0; i < QD_MAX_OUT; i++)
        free(out[i].memory);
}

/* `count` cases, over all combinations of formats that the unit takes. */
static void check_unit(const csim_unit *u, int64_t count) {
    const qd_op op = csim_op(u);
    qd_format formats[QD_OPERANDS];
    int64_t done = 0;
    for (uint64_t seed = first_seed ? first_seed : 1 + 100000 * (uint64_t)(u - csim_units); done < count; seed++) {
        int64_t before = done;
        for (int i = 0; qd_case_formats(op, i, formats) && done < count; i++) {
            /* One case in eight is large, one in 32 larger than a step. */
            const int size = seed % 32 == 31 ? 10 : seed % 8 == 7 ? 6 : 1;
            qd_case c;
            if (!csim_takes(u, formats)) continue;
            ck_ok(qd_case_make(op, formats, seed, size, NULL, 0, &c));
            check_case(u, &c, seed + (uint64_t)i);
            qd_case_free(&c);
            done++;
        }
        if (done == before) return; /* nothing for this unit */
    }
    printf("%s in shape %s: %lld cases\n", u->top, u->shape, (long long)done);
}

/* Cases of a unit, in equal parts for those of its shapes that take any. */
START_TEST(test_unit) {
    const csim_unit *u = &csim_units[_i];
    int shapes = 0;
    for (int i = 0; i < csim_unit_count; i++)
        shapes += !strcmp(csim_units[i].top, u->top) && !strstr(csim_units[i].options, "QD_CODEBOOK");
    if ((only_top && strcmp(only_top, u->top) != 0) || (only_shape && strcmp(only_shape, u->shape) != 0)) return;
    check_unit(u, (cases + shapes - 1) / shapes);
}
END_TEST

/* ---- Codebooks ----------------------------------------------------------------------------------------------------
 */

static const int8_t book[16] = {-128, -97, -73, -54, -39, -26, -13, 0, 11, 22, 34, 46, 60, 77, 99, 127};

/* Weights of i8 are replaced by values of the book, the reference answers, and the unit reads their numbers. */
static void check_codebook(const csim_unit *u, qd_case *c, uint64_t seed) {
    uint32_t rng = (uint32_t)seed;
    qd_tensor *w = &c->tensors[0];
    const int64_t K = qd_columns(w), rows = (int64_t)(c->bytes[0] / (size_t)K);
    const size_t packed = (size_t)(K + 1) / 2;
    uint8_t *numbers = calloc((size_t)rows, packed);
    ck_assert_ptr_nonnull(numbers);
    for (int64_t i = 0; i < rows * K; i++) {
        const uint32_t number = random_bits(&rng) % 16;
        ((int8_t *)c->data[0])[i] = book[number];
        numbers[(size_t)(i / K) * packed + (size_t)(i % K / 2)] |= (uint8_t)(number << (i % K % 2 * 4));
    }
    qd_operand in[QD_MAX_IN] = {{0}}, out[QD_MAX_OUT] = {{0}};
    for (int i = 0; i < QD_OPERANDS; i++) {
        const qd_operand o = {i < QD_MAX_IN ? c->data[i] : c->want[i - QD_MAX_IN], c->tensors[i].stride};
        *(i < QD_MAX_IN ? &in[i] : &out[i - QD_MAX_IN]) = o;
    }
    ck_ok(qd_backend_ref.compute(&c->node, in, out, c->node.max_rows));
    free(c->data[0]);
    c->data[0] = numbers;
    c->bytes[0] = (size_t)rows * packed;
    w->stride = packed;
    c->node.params.matmul_int.w_code = QD_CODE(4, 0);
    check_case(u, c, seed);
}

START_TEST(test_codebook) {
    static const qd_choice without[] = {{.name = "with w_zero", .value = 0}};
    const csim_unit *u = csim_find("matmul_int", "codebook");
    qd_format formats[QD_OPERANDS];
    int done = 0;
    if ((only_top && strcmp(only_top, u->top) != 0) || (only_shape && strcmp(only_shape, u->shape) != 0)) return;
    const uint64_t first = first_seed ? first_seed : 1;
    for (uint64_t seed = first; seed < first + (uint64_t)(cases + 15) / 16; seed++) {
        for (int i = 0; qd_case_formats(QD_OP_MATMUL_INT, i, formats); i++) {
            qd_case c;
            if (formats[0] != QD_FORMAT_I8) continue;
            ck_ok(qd_case_make(QD_OP_MATMUL_INT, formats, seed, seed % 8 == 7 ? 6 : 1, without, 1, &c));
            /* The problems that are about 64-bit sums have weights of their own. */
            check_codebook(u, &c, seed);
            qd_case_free(&c);
            done++;
        }
    }
    printf("codebook: %d cases\n", done);
}
END_TEST

int main(int argc, char **argv) {
    if (argc > 1) cases = strtoll(argv[1], NULL, 10);
    if (argc > 2) only_top = argv[2];
    if (argc > 3) only_shape = argv[3];
    if (argc > 4) first_seed = strtoull(argv[4], NULL, 10);
    TCase *tc = tcase_create("csim");
    tcase_add_loop_test(tc, test_unit, 0, csim_unit_count);
    tcase_add_test(tc, test_codebook);
    Suite *suite = suite_create("csim");
    tcase_set_timeout(tc, 7000);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
