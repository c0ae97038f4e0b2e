/* The tensors of GPTQ files, as AutoGPTQ stores them: words of codes, and zero points that are one less. */
#include <stdlib.h>

#include "core/status.h"
#include "qdot/qdot_packing.h"

static qd_status check(const char *what, int bits, int64_t rows, int64_t cols, int64_t groups, bool pointers) {
    int64_t count;
    if ((bits != 2 && bits != 3 && bits != 4 && bits != 8) || rows < 1 || cols < 1 || groups < 1 || groups > rows ||
        __builtin_mul_overflow(rows, cols, &count) || rows % 32 * bits % 32 || cols % 32 * bits % 32) {
        return qd_fail(
            QD_ERR_ARGUMENT,
            "%s: %lld × %lld codes of %d bits in %lld groups: 2, 3, 4 or 8 bits, and whole words in rows and "
            "columns",
            what, (long long)rows, (long long)cols, bits, (long long)groups);
    }
    return pointers ? QD_OK : qd_fail(QD_ERR_ARGUMENT, "%s: no pointer may be NULL", what);
}

qd_status qd_gptq_pack(int bits, const uint8_t *codes, const uint8_t *zeros, int64_t rows, int64_t cols, int64_t groups,
                       uint32_t *qweight, uint32_t *qzeros) {
    qd_status status = check("qd_gptq_pack", bits, rows, cols, groups, codes && zeros && qweight && qzeros);
    if (status != QD_OK) return status;
    uint8_t *stored = qd_alloc((size_t)(groups * cols));
    if (!stored) return QD_ERR_MEMORY;
    for (int64_t i = 0; i < groups * cols; i++)
        stored[i] = (uint8_t)(zeros[i] - 1); /* packing cuts it to its bits */
    status = qd_pack_words(QD_PACKING_LOW_FIRST, bits, 1, stored, groups, cols, qzeros);
    if (status == QD_OK) status = qd_pack_words(QD_PACKING_LOW_FIRST, bits, 0, codes, rows, cols, qweight);
    free(stored);
    return status;
}

qd_status qd_gptq_unpack(int bits, const uint32_t *qweight, const uint32_t *qzeros, int64_t rows, int64_t cols,
                         int64_t groups, uint8_t *codes, uint8_t *zeros) {
    qd_status status = check("qd_gptq_unpack", bits, rows, cols, groups, codes && zeros && qweight && qzeros);
    if (status == QD_OK) status = qd_unpack_words(QD_PACKING_LOW_FIRST, bits, 1, qzeros, groups, cols, zeros);
    if (status == QD_OK) status = qd_unpack_words(QD_PACKING_LOW_FIRST, bits, 0, qweight, rows, cols, codes);
    for (int64_t i = 0; status == QD_OK && i < groups * cols; i++)
        zeros[i] = (uint8_t)((zeros[i] + 1u) & ((1u << bits) - 1));
    return status;
}

qd_status qd_grouped_dequantize(const uint8_t *codes, const uint8_t *zeros, const float *scales,
                                const int32_t *group_of, int64_t rows, int64_t cols, int64_t group, float *w) {
    int64_t count;
    if (rows < 1 || cols < 1 || group < 0 || __builtin_mul_overflow(rows, cols, &count)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_dequantize: %lld rows of %lld columns in groups of %lld",
                       (long long)rows, (long long)cols, (long long)group);
    }
    if (!codes || !zeros || !scales || !w)
        return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_dequantize: only group_of may be NULL");
    const int64_t each = group && group < rows ? group : rows, groups = rows / each + (rows % each != 0);
    for (int64_t k = 0; group_of && k < rows; k++) {
        if (group_of[k] >= 0 && group_of[k] < groups) continue;
        return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_dequantize: row %lld is in group %d of %lld", (long long)k,
                       group_of[k], (long long)groups);
    }
    for (int64_t k = 0; k < rows; k++) {
        const int64_t g = group_of ? group_of[k] : k / each;
        for (int64_t n = 0; n < cols; n++) {
            const int difference = codes[k * cols + n] - zeros[g * cols + n];
            w[k * cols + n] = scales[g * cols + n] * (float)difference;
        }
    }
    return QD_OK;
}
