/* The commands of a product: those that host/rtl/product.c gives, whose head says how it cuts. */
#include "core/status.h"
#include "sim/unit.h"

typedef struct work {
    qd_unit *unit;
    const qd_unit_product *p;
    qd_unit_shape s;
    int64_t tile, words, most; /* channels of a command; words of all K or of a part, and in a command */
    void (*each)(void *user, const qd_unit_command *c, const qd_unit_times *t);
    void *user;
} work;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t round_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static qd_status add(work *t, qd_unit_command c, int64_t channel) {
    qd_unit_times times;
    c.channels = (uint32_t)least(t->tile, t->p->n - channel);
    if (t->p->w_bits == 4) c.flags |= QD_UNIT_INT4;
    const qd_status status = qd_unit_give(t->unit, &c, &times);
    if (!status && t->each) t->each(t->user, &c, &times);
    return status;
}

/* Sums that fit a bank: columns column … column + columns - 1 with all channels. */
static qd_status add_whole(work *t, int64_t column, int64_t columns) {
    const int64_t groups = round_up(columns, t->s.cols);
    qd_status status = QD_OK;
    for (int64_t channel = 0; channel < t->p->n && !status; channel += t->tile) {
        const bool loads_w = column == 0 || t->p->n > t->tile;
        const qd_unit_command c = {.words = (uint32_t)t->words,
                                   .groups = (uint32_t)groups,
                                   .edge = (uint32_t)(columns - (groups - 1) * t->s.cols),
                                   .flags = QD_UNIT_FIRST | QD_UNIT_LAST |
                                            (loads_w ? QD_UNIT_LOAD_W | QD_UNIT_LOAD_C : 0u) |
                                            (channel == 0 ? QD_UNIT_LOAD_X : 0u)};
        status = add(t, c, channel);
    }
    return status;
}

/* A tile of channels × a group of columns, in pieces along K or in parts. */
static qd_status add_cut(work *t, int64_t channel, int64_t column) {
    const int64_t part = t->p->part, all = part ? round_up(t->p->k, part) : t->words;
    const int64_t piece = part ? t->most / t->words : t->most;
    qd_status status = QD_OK;
    for (int64_t first = 0; first < all && !status; first += piece) {
        const int64_t count = least(piece, all - first);
        const qd_unit_command c = {.words = (uint32_t)(part ? t->words : count),
                                   .groups = (uint32_t)(part ? count : 1),
                                   .edge = (uint32_t)least(t->s.cols, t->p->m - column),
                                   .flags = QD_UNIT_LOAD_W | QD_UNIT_LOAD_X | QD_UNIT_LOAD_C |
                                            (part ? QD_UNIT_STEP_W : 0u) | (part || first == 0 ? QD_UNIT_FIRST : 0u) |
                                            (part || first + count == all ? QD_UNIT_LAST : 0u)};
        status = add(t, c, channel);
    }
    return status;
}

qd_status qd_unit_give_product(qd_unit *u, const qd_unit_product *p,
                               void (*each)(void *user, const qd_unit_command *c, const qd_unit_times *t), void *user) {
    work t = {.unit = u, .p = p, .s = *qd_unit_shape_of(u), .each = each, .user = user};
    if (p->m < 1 || p->n < 1 || p->k < 1 || p->part < 0)
        return qd_fail(QD_ERR_ARGUMENT, "a product of %lld x %lld x %lld, parts of %lld: sizes must be 1 or more",
                       (long long)p->m, (long long)p->n, (long long)p->k, (long long)p->part);
    if (p->w_bits != 8 && p->w_bits != 4)
        return qd_fail(QD_ERR_ARGUMENT, "weights of %d bits: the unit takes 8 and 4", p->w_bits);
    if (p->part % t.s.lanes)
        return qd_fail(QD_ERR_ARGUMENT, "sums of %lld codes: they must be a multiple of the unit's %d lanes",
                       (long long)p->part, t.s.lanes);
    t.tile = (int64_t)t.s.rows * (p->w_bits == 4 ? 2 : 1);
    t.words = round_up(p->part ? p->part : p->k, t.s.lanes);
    t.most = least((int64_t)1 << t.s.w_address, (int64_t)1 << t.s.x_address);
    qd_status status = QD_OK;
    if (p->part && t.words > t.most) {
        status = qd_fail(QD_ERR_UNSUPPORTED, "sums of %lld codes do not fit the unit's banks of %lld words",
                         (long long)p->part, (long long)t.most);
    } else if (!p->part && t.words <= t.most) {
        const int64_t columns = ((int64_t)1 << t.s.x_address) / t.words * t.s.cols;
        for (int64_t column = 0; column < p->m && !status; column += columns)
            status = add_whole(&t, column, least(columns, p->m - column));
    } else {
        for (int64_t column = 0; column < p->m && !status; column += t.s.cols) {
            for (int64_t channel = 0; channel < p->n && !status; channel += t.tile)
                status = add_cut(&t, channel, column);
        }
    }
    return status;
}
