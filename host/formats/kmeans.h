/* The nearest of up to 256 vectors, for codebooks of vectors. */
#ifndef QDOT_FORMATS_KMEANS_H
#define QDOT_FORMATS_KMEANS_H

/** Values of k centroids in the layout of qd_nearest_find: [dim][qd_nearest_padded(k)]. */
int qd_nearest_padded(int k);
void qd_nearest_prepare(const float *centroids, int k, int dim, float *by_value);

/** The nearest centroid of x[dim], the first of equally near ones, and its squared distance. */
int qd_nearest_find(const float *by_value, int k, int dim, const float *x, float *distance);

#endif
