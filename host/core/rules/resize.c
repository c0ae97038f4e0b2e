/* Nearest neighbours. */
#include "core/rules/window.h"

static qd_status check(qd_node *n, const qd_symbols *s) {
    (void)s;
    qd_resize_params *p = &n->params.resize;
    n->params_bytes = sizeof *p;
    const qd_resize_coordinates coordinates = n->attrs.resize.coordinates;
    const qd_nearest nearest = n->attrs.resize.nearest;
    *p = (qd_resize_params){.coordinates = (qd_i32)coordinates, .nearest = (qd_i32)nearest};
    if ((unsigned)coordinates > QD_RESIZE_ALIGN_CORNERS || (unsigned)nearest > QD_NEAREST_HALF_UP) {
        return qd_fail(QD_ERR_ARGUMENT, "resize: %d is no qd_resize_coordinates, or %d no qd_nearest", (int)coordinates,
                       (int)nearest);
    }
    qd_status status = qd_images_check("resize", n, n->in[0], n->out[0], n->attrs.resize.nchw, &p->window);
    if (!status && p->window.channels != p->window.out_channels) {
        return qd_fail(QD_ERR_ARGUMENT, "resize: x has %d channels and y has %d", p->window.channels,
                       p->window.out_channels);
    }
    return status;
}

static void choose(qd_choices *c, qd_problem *p) {
    const int big = c->size;
    const bool flat = qd_choose(c, "flat", 0, 3) == 3, nchw = qd_choose(c, "nchw", 0, 1);
    static const char *const names[2][3] = {{"in h", "out h", "factor h"}, {"in w", "out w", "factor w"}};
    static const qd_nearest nearest[] = {QD_NEAREST_FLOOR,   QD_NEAREST_CEIL,      QD_NEAREST_HALF_DOWN,
                                         QD_NEAREST_HALF_UP, QD_NEAREST_HALF_DOWN, QD_NEAREST_HALF_UP};
    const qd_resize_coordinates kind = (qd_resize_coordinates)qd_choose(c, "coordinates", 0, QD_RESIZE_ALIGN_CORNERS);
    int64_t in[2] = {1, 1}, out[2] = {1, 1};
    for (int i = flat; i < 2; i++) {
        in[i] = qd_choose_size(c, names[i][0], i ? 20 * big : 6 * big);
        out[i] = qd_choose_size(c, names[i][1], i ? 40 * big : 9 * big);
        const int64_t factor = qd_choose(c, names[i][2], 0, 4);
        if (factor == 1) out[i] = in[i] * 4;
        if (factor < 2) continue;
        /* Coordinates in the middle between two inputs. */
        if (kind == QD_RESIZE_ASYMMETRIC) out[i] = in[i] * 2;
        if (kind == QD_RESIZE_HALF_PIXEL) in[i] = out[i] * 2;
        if (kind == QD_RESIZE_ALIGN_CORNERS) out[i] = in[i] * 2 - 1;
    }
    const int64_t rows = qd_choose_size(c, "R", 3), channels = qd_choose_size(c, "channels", 40);
    p->attrs.resize.nchw = nchw;
    p->attrs.resize.coordinates = kind;
    p->attrs.resize.nearest = nearest[qd_choose(c, "nearest", 0, 5)];
    p->desc[0] = qd_image_desc(p->formats[0], nchw, flat, rows, channels, in);
    p->desc[QD_MAX_IN] = qd_image_desc(p->formats[QD_MAX_IN], nchw, flat, rows, channels, out);
}

const qd_op_rules qd_rules_resize = {.attrs = true, .check = check, .choose = choose};
