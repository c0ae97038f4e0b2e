/* The operand column of qdot_ops.def as qd_op_spec_read understands it; the choices that random problems are made of;
 * and the problems of every operator. */
#include "core/choices.h"
#include "unit/calls.h"

/* ---- The operand column ------------------------------------------------------------------------------------- */

/* One dimension, from its text. */
static void ck_dim(const char *op, const char *text, qd_dim_spec d) {
    char want[32] = "";
    const char a[] = {d.a, 0}, b[] = {'*', d.b, 0};
    if (d.a) {
        snprintf(want, sizeof want, "%s%s%s%s", a, d.b ? b : "", d.may_lack ? "?" : "", d.may_be_one ? "!" : "");
    } else {
        snprintf(want, sizeof want, "%lld", (long long)d.number);
    }
    ck_assert_msg(!strcmp(text, want), "%s: \"%s\" was read as \"%s\"", op, text, want);
}

/* The formats of "f32|a8", by name. */
static uint64_t mask_of(char *text) {
    uint64_t mask = 0;
    for (char *save, *name = strtok_r(text, "|", &save); name; name = strtok_r(NULL, "|", &save)) {
        qd_format f;
        ck_ok(qd_format_find(name, &f));
        mask |= UINT64_C(1) << f;
    }
    return mask;
}

/* One operand, from a word of the column such as "(x_zero:i32[R?,N!])". */
static void ck_operand(const char *op, char *word, const qd_operand_spec *o, const qd_operand_spec *first) {
    const bool optional = word[0] == '(';
    char *name = word + optional, *open = strchr(name, '['), *close = strchr(name, ']');
    ck_assert_msg(open && close && !strcmp(close, optional ? "])" : "]"), "%s: \"%s\"", op, word);
    *open = *close = 0;
    char *formats = strchr(name, ':');
    if (formats) *formats++ = 0;
    ck_assert_str_eq(o->name, name);
    ck_assert_int_eq(o->optional, optional);
    ck_assert_int_eq(o->same_format, (formats && !strcmp(formats, "=")));
    if (o->same_format) {
        ck_assert_uint_eq(o->formats, first->formats);
    } else if (formats) {
        ck_assert_uint_eq(o->formats, mask_of(formats));
    } else { /* what files hold numbers in */
        const uint32_t held = 1u << QD_FORMAT_F32 | 1u << QD_FORMAT_F16 | 1u << QD_FORMAT_BF16 | 1u << QD_FORMAT_Q8_0 |
                              1u << QD_FORMAT_Q4_0 | 1u << QD_FORMAT_Q4_1;
        ck_assert_uint_eq(o->formats & held, held);
        ck_assert(!(o->formats >> QD_FORMAT_I32 & 1) && !(o->formats >> QD_FORMAT_A8 & 1));
    }
    ck_assert_int_eq(o->any_shape, !strcmp(open + 1, "..."));
    int rank = 0;
    for (char *save, *d = strtok_r(open + 1, ",", &save); d && !o->any_shape; d = strtok_r(NULL, ",", &save))
        ck_dim(op, d, o->dim[rank++]);
    ck_assert_int_eq(o->rank, rank);
}

/* Read a second time, in another way: the column says what the spec has, and nothing else. */
START_TEST(test_column) {
    const qd_op_info *info = qd_op_get((qd_op)_i);
    qd_op_spec spec;
    char text[512], *save;
    int n_in = 0, n_out = 0, required = 0;
    bool out = false;
    qd_op_spec_read((qd_op)_i, &spec);
    ck_assert_uint_lt(strlen(info->operands), sizeof text);
    strcpy(text, info->operands);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (!strcmp(word, "->")) {
            out = true;
            continue;
        }
        ck_assert_int_lt((out ? n_out : n_in), (out ? QD_MAX_OUT : QD_MAX_IN));
        const int i = out ? QD_MAX_IN + n_out++ : n_in++;
        ck_operand(info->name, word, qd_operand_at(&spec, i), &spec.in[0]);
        required += !out && !qd_operand_at(&spec, i)->optional;
    }
    ck_assert_int_eq(spec.n_in, n_in);
    ck_assert_int_eq(spec.n_out, n_out);
    /* The numbers beside the column agree with it. */
    ck_assert_int_eq(info->min_in, required);
    ck_assert_int_eq(info->max_in, n_in);
    ck_assert_int_eq(info->n_out, n_out);
    ck_assert_ptr_null(qd_operand_at(&spec, n_in < QD_MAX_IN ? n_in : QD_MAX_IN + n_out));
    /* Optional inputs come last, and names tell operands apart. */
    for (int i = 0; i < OPERANDS; i++) {
        const qd_operand_spec *o = qd_operand_at(&spec, i);
        if (o && i < QD_MAX_IN) ck_assert_int_eq(o->optional, i >= required);
        for (int j = 0; o && j < i; j++)
            ck_assert(!qd_operand_at(&spec, j) || strcmp(o->name, qd_operand_at(&spec, j)->name));
    }
}
END_TEST

/* One row by hand, with all that the column can say. */
START_TEST(test_one_column) {
    qd_op_spec s;
    qd_op_spec_read(QD_OP_MATMUL_INT, &s);
    ck_assert_int_eq(s.n_in, 6);
    ck_assert_int_eq(s.n_out, 1);
    ck_assert_str_eq(s.in[0].name, "w");
    ck_assert_uint_eq(s.in[0].formats,
                      1u << QD_FORMAT_I8 | 1u << QD_FORMAT_U8 | 1u << QD_FORMAT_I4 | 1u << QD_FORMAT_U4);
    ck_assert(s.in[0].rank == 3 && s.in[0].dim[0].a == 'R' && s.in[0].dim[0].may_lack && !s.in[0].dim[0].may_be_one);
    ck_assert(s.in[1].dim[1].a == 'M' && s.in[1].dim[1].may_lack && s.in[1].dim[2].a == 'K' && !s.in[1].optional);
    ck_assert(s.in[2].optional && s.in[2].rank == 1 && s.in[2].dim[0].a == 'N' && s.in[2].dim[0].may_be_one);
    ck_assert(s.in[3].optional && s.in[3].any_shape && s.in[3].rank == 0);
    ck_assert(s.in[5].rank == 2 && s.in[5].dim[1].a == 0 && s.in[5].dim[1].number == 2);
    qd_op_spec_read(QD_OP_ROPE, &s);
    ck_assert(s.in[0].dim[1].a == 'H' && s.in[0].dim[1].b == 'D');
    qd_op_spec_read(QD_OP_TABLE, &s);
    ck_assert_int_eq(s.in[1].dim[0].number, 256);
    qd_symbols symbols;
    qd_symbols_clear(&symbols);
    ck_assert_int_eq(qd_dim_value((qd_dim_spec){.a = 'H', .b = 'D'}, &symbols), QD_UNKNOWN);
    symbols.of['H' - 'A'] = 3;
    ck_assert_int_eq(qd_dim_value((qd_dim_spec){.a = 'H', .b = 'D'}, &symbols), QD_UNKNOWN);
    symbols.of['D' - 'A'] = 5;
    ck_assert_int_eq(qd_dim_value((qd_dim_spec){.a = 'H', .b = 'D'}, &symbols), 15);
    ck_assert_int_eq(qd_dim_value((qd_dim_spec){.a = 'H'}, &symbols), 3);
    ck_assert_int_eq(qd_dim_value((qd_dim_spec){.number = 7}, &symbols), 7);
}
END_TEST

/* ---- Choices ------------------------------------------------------------------------------------------------ */

START_TEST(test_same_name) {
    int same = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        qd_choices a = {.seed = seed, .size = 1}, b = {.seed = seed, .size = 1};
        const int64_t one = qd_choose(&a, "one", 0, 1000), two = qd_choose(&a, "two", 0, 1000);
        /* Whatever was drawn before, and again, also between other ends. */
        ck_assert_int_eq(qd_choose(&b, "two", 0, 1000), two);
        ck_assert_int_eq(qd_choose(&b, "one", 0, 1000), one);
        ck_assert_int_eq(qd_choose(&a, "one", 0, 1000), one);
        ck_assert_int_eq(qd_choose(&a, "one", 2000, 3000), one);
        ck_assert_int_eq(qd_choose_size(&a, "two", 5), two);
        ck_assert_int_eq(a.n, 2);
        ck_assert_str_eq(a.made[1].name, "two");
        ck_assert(a.made[1].value == two && a.made[1].low == 0 && a.made[1].high == 1000);
        same += one == two;
        qd_choices other = {.seed = seed + 1, .size = 1};
        same += qd_choose(&other, "one", 0, 1000) == one;
        ck_assert(qd_stream(&a, "one") == qd_stream(&b, "one"));
        ck_assert(qd_stream(&a, "one") != qd_stream(&a, "two") && qd_stream(&a, "one") != qd_stream(&other, "one"));
    }
    ck_assert_int_lt(same, 5);
}
END_TEST

START_TEST(test_range) {
    int seen[7] = {0}, ones = 0, sizes[11] = {0};
    for (uint64_t seed = 0; seed < 4000; seed++) {
        qd_choices c = {.seed = seed, .size = 1};
        const int64_t x = qd_choose(&c, "x", -3, 3), n = qd_choose_size(&c, "n", 10);
        ck_assert(x >= -3 && x <= 3 && n >= 1 && n <= 10);
        seen[x + 3]++;
        sizes[n]++;
        ones += n == 1;
        ck_assert_int_eq(qd_choose(&c, "only", 42, 42), 42);
        ck_assert_int_eq(qd_choose_size(&c, "least", 1), 1);
    }
    for (int i = 0; i < 7; i++)
        ck_assert_int_gt(seen[i], 4000 / 7 / 2);
    for (int i = 1; i <= 10; i++)
        ck_assert_int_gt(sizes[i], 4000 / 10 / 2);
    ck_assert(ones > 1000 && ones < 1700); /* 1/4 + 3/4 · 1/10 */
}
END_TEST

START_TEST(test_fixed) {
    static const qd_choice fixed[] = {{.name = "a", .value = 7},
                                      {.name = "b", .value = -100},
                                      {.name = "c", .value = INT64_MAX},
                                      {.name = "size", .value = 0},
                                      {.name = "nobody", .value = 1}};
    for (uint64_t seed = 0; seed < 50; seed++) {
        qd_choices with = {.seed = seed, .size = 1, .fixed = fixed, .n_fixed = 5},
                   free_ones = {.seed = seed, .size = 1};
        ck_assert_int_eq(qd_choose(&with, "a", 0, 10), 7);
        ck_assert_int_eq(qd_choose(&with, "b", 2, 10), 2); /* limited to the ends */
        ck_assert_int_eq(qd_choose(&with, "c", 2, 10), 10);
        ck_assert_int_eq(qd_choose_size(&with, "size", 9), 1);
        /* The others are what they are without. */
        ck_assert_int_eq(qd_choose(&with, "d", 0, 1000000), qd_choose(&free_ones, "d", 0, 1000000));
        ck_assert_int_eq(qd_choose_size(&with, "s", 1000), qd_choose_size(&free_ones, "s", 1000));
        ck_assert_int_eq(with.n, 6);
        ck_assert_int_eq(with.made[0].value, 7);
    }
}
END_TEST

/* More names than there is room for: numbers are still drawn, the same ones each time. */
START_TEST(test_many) {
    struct {
        qd_choices c;
        unsigned char behind[64];
    } s = {.c = {.seed = 5, .size = 1}};
    memset(s.behind, 0x5a, sizeof s.behind);
    char name[24];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2 * QD_MAX_CHOICES; i++) {
            qd_choices fresh = {.seed = 5, .size = 1};
            snprintf(name, sizeof name, "number %d", i);
            ck_assert_int_eq(qd_choose(&s.c, name, 0, 99999), qd_choose(&fresh, name, 0, 99999));
        }
    }
    ck_assert_int_eq(s.c.n, QD_MAX_CHOICES);
    for (size_t i = 0; i < sizeof s.behind; i++)
        ck_assert_uint_eq(s.behind[i], 0x5a);
}
END_TEST

/* ---- Problems ----------------------------------------------------------------------------------------------- */

START_TEST(test_formats) {
    enum { MOST = 256 };
    qd_format all[MOST][OPERANDS];
    qd_op_spec spec;
    qd_op_spec_read((qd_op)_i, &spec);
    int n = 0;
    while (n < MOST && qd_case_formats((qd_op)_i, n, all[n]))
        n++;
    ck_assert(n > 0 && n < MOST);
    uint64_t used[OPERANDS] = {0};
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < OPERANDS; i++) {
            const qd_operand_spec *o = qd_operand_at(&spec, i);
            if (o) ck_assert(o->same_format ? all[k][i] == all[k][0] : (o->formats >> all[k][i] & 1) != 0);
            if (!o) ck_assert_int_eq(all[k][i], QD_FORMAT_COUNT);
            used[i] |= o ? UINT64_C(1) << all[k][i] : 0;
        }
        for (int j = 0; j < k; j++)
            ck_assert_mem_ne(all[j], all[k], sizeof all[k]);
    }
    for (int i = 0; i < OPERANDS; i++) {
        const qd_operand_spec *o = qd_operand_at(&spec, i);
        if (o) ck_assert_uint_eq(used[i], o->formats); /* each format somewhere */
    }
    qd_format none[OPERANDS];
    ck_assert(!qd_case_formats((qd_op)_i, n, none) && !qd_case_formats((qd_op)_i, n + 1, none));
}
END_TEST

static void ck_same_case(const qd_case *a, const qd_case *b, const char *what) {
    ck_assert_msg(!memcmp(&a->node.attrs, &b->node.attrs, sizeof a->node.attrs), "%s: attributes", what);
    ck_assert_msg(!strcmp(a->text, b->text), "%s: \"%s\", not \"%s\"", what, b->text, a->text);
    for (int i = 0; i < OPERANDS; i++) {
        ck_assert_msg(!a->data[i] == !b->data[i] && a->bytes[i] == b->bytes[i], "%s: operand %d", what, i);
        if (!a->data[i]) continue;
        ck_assert_msg(!memcmp(a->data[i], b->data[i], a->bytes[i]), "%s: bytes of operand %d", what, i);
        if (i < QD_MAX_IN) continue;
        ck_assert_msg(!memcmp(a->want[i - QD_MAX_IN], b->want[i - QD_MAX_IN], a->bytes[i]), "%s: result", what);
    }
}

/* Names of choices are unique and short enough to be fixed by; values lie between their ends. */
static void ck_choices(const qd_case *c, const char *op) {
    ck_assert_int_lt(c->choices.n, QD_MAX_CHOICES);
    for (int i = 0; i < c->choices.n; i++) {
        const qd_choice *x = &c->choices.made[i];
        ck_assert_msg(strlen(x->name) + 1 < sizeof x->name, "%s: \"%s\" may have been cut", op, x->name);
        ck_assert_msg(x->low <= x->value && x->value <= x->high, "%s: %s", op, x->name);
        for (int j = 0; j < i; j++)
            ck_assert_msg(strcmp(x->name, c->choices.made[j].name), "%s: \"%s\" twice", op, x->name);
    }
}

/* The choice of that name between the same ends, or NULL. */
static const qd_choice *counterpart(const qd_case *c, const qd_choice *x) {
    for (int i = 0; i < c->choices.n; i++) {
        const qd_choice *y = &c->choices.made[i];
        if (!strcmp(x->name, y->name)) return x->low == y->low && x->high == y->high ? y : NULL;
    }
    return NULL;
}

/* A problem is what its seed and its choices say; any one choice can be made smaller, and the others stay. */
START_TEST(test_problems) {
    const qd_op op = (qd_op)_i;
    const char *name = qd_op_get(op)->name;
    qd_format formats[OPERANDS];
    for (int k = 0; qd_case_formats(op, k, formats); k++) {
        qd_case a, b;
        const uint64_t seed = (uint64_t)k + 100;
        ck_ok(qd_case_make(op, formats, seed, 1, NULL, 0, &a));
        ck_assert_ptr_null(a.choices.fixed);
        ck_assert_ptr_nonnull(strstr(a.text, "seed"));
        ck_choices(&a, name);
        ck_ok(qd_case_make(op, formats, seed, 1, NULL, 0, &b));
        ck_same_case(&a, &b, name);
        qd_case_free(&b);
        ck_ok(qd_case_make(op, formats, seed, 1, a.choices.made, a.choices.n, &b));
        ck_same_case(&a, &b, name);
        qd_case_free(&b);
        for (int i = 0; i < a.choices.n; i++) {
            qd_choice least = a.choices.made[i];
            least.value = least.low;
            ck_assert_msg(qd_case_make(op, formats, seed, 1, &least, 1, &b) == QD_OK, "%s with least %s: %s", name,
                          least.name, qd_last_message());
            for (int j = 0; j < a.choices.n; j++) {
                const qd_choice *x = &a.choices.made[j], *y = counterpart(&b, x);
                if (y)
                    ck_assert_msg(y->value == (j == i ? least.value : x->value), "%s: %s moves %s", name, least.name,
                                  x->name);
            }
            qd_case_free(&b);
        }
        qd_case_free(&a);
        ck_assert_ptr_null(a.data[0]);
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("cases");
    tcase_add_loop_test(tc, test_column, 0, QD_OP_COUNT);
    tcase_add_test(tc, test_one_column);
    tcase_add_test(tc, test_same_name);
    tcase_add_test(tc, test_range);
    tcase_add_test(tc, test_fixed);
    tcase_add_test(tc, test_many);
    tcase_add_loop_test(tc, test_formats, 0, QD_OP_COUNT);
    tcase_add_loop_test(tc, test_problems, 0, QD_OP_COUNT);
    return run_tests(tc, "cases");
}
