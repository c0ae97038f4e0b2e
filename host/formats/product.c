/* Product quantization: sub-vectors of rows as codes of codebooks of vectors. */
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "formats/kmeans.h"
#include "qdot/qdot_codebook.h"

int64_t qd_product_codebooks(const qd_product *p, int64_t cols) {
    if (!p || p->dim < 1 || p->bits < 1 || p->bits > 8 || p->share < 0 || cols < 1 || cols % p->dim) return 0;
    const int64_t places = cols / p->dim, share = p->share ? p->share : places;
    return places % share ? 0 : places / share;
}

static qd_status check(const char *what, const qd_product *p, int64_t rows, int64_t cols, bool pointers,
                       int64_t *books) {
    int64_t count;
    *books = qd_product_codebooks(p, cols);
    if (!*books || rows < 0 || __builtin_mul_overflow(rows, cols, &count) ||
        count > PTRDIFF_MAX / (int64_t)sizeof(float)) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "%s: %lld rows of %lld columns in sub-vectors of %d, %d bits, codebooks shared by %d", what,
                       (long long)rows, (long long)cols, p ? p->dim : 0, p ? p->bits : 0, p ? p->share : 0);
    }
    if (rows && !pointers) return qd_fail(QD_ERR_ARGUMENT, "%s: no pointer may be NULL", what);
    return QD_OK;
}

qd_status qd_product_train(const qd_product *p, const float *x, int64_t rows, int64_t cols,
                           const qd_kmeans_options *options, float *centroids, uint8_t *codes) {
    int64_t books;
    qd_status status = check("qd_product_train", p, rows, cols, x && centroids && codes, &books);
    if (status != QD_OK) return status;
    if (rows < 1) return qd_fail(QD_ERR_ARGUMENT, "qd_product_train: no rows to learn from");
    const int k = 1 << p->bits;
    const int64_t places = cols / p->dim, share = places / books, width = share * p->dim;
    const size_t size = (size_t)k * (size_t)p->dim;
    float *learned = qd_alloc((size_t)books * size * sizeof *learned);
    /* The sub-vectors of one codebook, row by row. */
    float *points = learned ? qd_alloc((size_t)(rows * width) * sizeof *points) : NULL;
    if (!points) status = QD_ERR_MEMORY;
    for (int64_t b = 0; status == QD_OK && b < books; b++) {
        for (int64_t r = 0; r < rows; r++)
            memcpy(points + r * width, x + r * cols + b * width, (size_t)width * sizeof *points);
        status = qd_kmeans_vectors(points, rows * share, p->dim, k, options, learned + (size_t)b * size, NULL, NULL);
    }
    if (status == QD_OK) status = qd_product_encode(p, learned, x, rows, cols, codes);
    if (status == QD_OK) memcpy(centroids, learned, (size_t)books * size * sizeof *learned);
    free(points);
    free(learned);
    return status;
}

qd_status qd_product_encode(const qd_product *p, const float *centroids, const float *x, int64_t rows, int64_t cols,
                            uint8_t *codes) {
    int64_t books;
    const qd_status status = check("qd_product_encode", p, rows, cols, x && centroids && codes, &books);
    if (status != QD_OK) return status;
    const int k = 1 << p->bits;
    const int64_t places = cols / p->dim, share = places / books, size = (int64_t)qd_nearest_padded(k) * p->dim;
    float *by_value = qd_alloc((size_t)size * sizeof *by_value);
    if (!by_value) return QD_ERR_MEMORY;
    for (int64_t b = 0; b < books; b++) {
        qd_nearest_prepare(centroids + b * k * p->dim, k, p->dim, by_value);
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t i = b * share; i < (b + 1) * share; i++) {
                float distance;
                const float *from = x + r * cols + i * p->dim;
                codes[r * places + i] = (uint8_t)qd_nearest_find(by_value, k, p->dim, from, &distance);
            }
        }
    }
    free(by_value);
    return QD_OK;
}

qd_status qd_product_decode(const qd_product *p, const float *centroids, const uint8_t *codes, int64_t rows,
                            int64_t cols, float *y) {
    int64_t books;
    const qd_status status = check("qd_product_decode", p, rows, cols, centroids && codes && y, &books);
    if (status != QD_OK) return status;
    const int64_t k = 1 << p->bits, places = cols / p->dim, share = places / books;
    for (int64_t i = 0; i < rows * places; i++) {
        const int64_t book = i % places / share, code = codes[i] & (k - 1);
        memcpy(y + i * p->dim, centroids + (book * k + code) * p->dim, (size_t)p->dim * sizeof *y);
    }
    return QD_OK;
}
