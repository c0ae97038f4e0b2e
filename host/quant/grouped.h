/* What the files about grouped weights share. */
#ifndef QDOT_QUANT_GROUPED_H
#define QDOT_QUANT_GROUPED_H

#include "qdot/qdot_safetensors.h"

/** Allocates codes, zeros and scales for a shape. On failure some may be there, to be freed with qd_grouped_free. */
qd_status qd_grouped_room(qd_grouped *g);

#endif
