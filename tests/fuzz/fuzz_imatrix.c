/* Reads arbitrary bytes as an importance matrix, in either form, and looks up what it may hold. See README.md beside
 * this file. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot.h"
#include "qdot/qdot_quantize.h"

static void require(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"a", "blk.0.attn_q.weight", ""};
    qd_imatrix *m = NULL;
    void *copy = aligned_alloc(64, (size + 64) / 64 * 64);
    require(copy != NULL);
    memcpy(copy, data, size);
    const qd_status status = qd_imatrix_parse(copy, size, &m);
    require(status == QD_OK || (m == NULL && !strchr(qd_last_message(), '\n')));
    for (size_t i = 0; !status && i < sizeof names / sizeof names[0]; i++) {
        for (int64_t cols = 1; cols <= 4; cols++) {
            const float *values = NULL;
            if (qd_imatrix_find(m, names[i], cols, &values) != QD_OK || !values) continue;
            for (int64_t k = 0; k < cols; k++)
                require(values[k] >= 0 && isfinite(values[k]));
        }
    }
    require(status != QD_OK || qd_imatrix_count(m) >= 0);
    qd_imatrix_free(m);
    free(copy);
    return 0;
}
