/* FAKE_QUANTIZE and FAKE_QUANTIZE_GRAD of 16 elements. */
#ifndef QD_FAKE_H
#define QD_FAKE_H

#include "scales.h"

QD_DEFINE_FAKE_QUANTIZE(16, float16, uint16, as_float16, as_uint16)

static inline qd_faked16 qd_fake_16(const float16 x, const float16 dy, const float16 scale, const int16 zero,
                                    const qd_fake_quantize_params *p) {
    const float16 z = convert_float16(clamp(zero, (int16)p->place.min, (int16)p->place.max));
    return qd_fake_element16(x, dy, scale, z, (float)p->place.min, (float)p->place.max, p->clip);
}

#endif
