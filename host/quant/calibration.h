/* A calibration from inside. */
#ifndef QDOT_QUANT_CALIBRATION_H
#define QDOT_QUANT_CALIBRATION_H

#include "qdot/qdot_calibration.h"

enum { OBSERVERS = 5, QD_MARK = 65 };

typedef struct calibrated_input {
    qd_input_stats stats;
    qd_observer *observer[OBSERVERS]; /* NULL in one that was read */
} calibrated_input;

struct qd_calibration {
    int inputs;
    calibrated_input *input;
    int64_t tokens;
    bool finished;
    char mark[QD_MARK]; /* SHA-256 of the model's vectors */
    float *row;         /* `room` values of one input */
    int64_t room;
};

/** What a model is known by, whatever format its matrices have: the SHA-256 of its vectors. */
qd_status qd_calibration_mark(const qd_gguf *g, char mark[QD_MARK]);
qd_status qd_calibration_new(int inputs, qd_calibration **out);
/** Allocates what input i has for each column. */
qd_status qd_calibration_size(qd_calibration *c, int i, int64_t cols);

#endif
