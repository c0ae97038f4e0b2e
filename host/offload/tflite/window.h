/* Windows over images [N,H,W,C], as convolutions and pools have them. */
#ifndef QDOT_TFLITE_WINDOW_H
#define QDOT_TFLITE_WINDOW_H

#include "tflite.h"

/** Fills w->before and w->after from kernel, stride and dilation, which are set, and the sizes of the output. */
bool tfl_window(tfl_build *b, TfLitePadding padding, const int64_t in[2], const int64_t kernel[2], qd_window *w,
                int64_t out[2]);

#endif
