/* What operators with a window over an image share. */
#ifndef QDOT_CORE_WINDOW_H
#define QDOT_CORE_WINDOW_H

#include "core/rules/rules.h"

/** Checks that x and y are images ([R,H?,W,C] or [R,C,H?,W]) of the same rank and number of rows, and puts their sizes
 *  and strides into *out. */
qd_status qd_images_check(const char *op, const qd_node *n, const qd_tensor *x, const qd_tensor *y, bool nchw,
                          qd_window_params *out);

/** Checks a window of kernel[0] × kernel[1] positions and the size of y that follows from it, floor((in + before +
 * after
 *  - dilation · (kernel - 1) - 1) / stride) + 1; puts kernel, strides, dilations and padding into *p, where
 *  qd_images_check has put the images. `last_may_hang`: y may have one more line or column, whose windows reach over
 *  the padding's end. */
qd_status qd_window_check(const char *op, const qd_window *a, const int64_t kernel[2], bool last_may_hang,
                          qd_window_params *p);

/** False when one of `out` windows has no position inside [0, size). All at most 2^30; `before` is the padding. */
bool qd_windows_touch(int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t dilation, int64_t before);

/** Draws a window and the sizes of images that go with it: kernel into *kernel and a->kernel, sizes of x into in[], of
 * y into out[] ([0] height, [1] width). With `flat`, height is 1 and the window has no height. */
void qd_choose_window(qd_choices *c, bool flat, int most_out, int most_kernel, qd_window *a, int64_t in[2],
                      int64_t out[2]);
/** An image's desc; `flat`: of rank 3. */
qd_tensor_desc qd_image_desc(qd_format f, bool nchw, bool flat, int64_t rows, int64_t channels, const int64_t size[2]);

#endif
