/* Pipes between the stages of a pipeline, and the two forms that one source takes.
 *
 * -DQD_CHANNELS: each stage is a kernel that runs for itself; pipes are channels (cl_intel_channels), first in, first
 * out. Else, the twin, for devices that have none: one kernel calls the stages in turn; pipes are arrays that hold what
 * one turn puts into them.
 *
 * A unit lists its pipes in QD_PIPES, QD_PIPE(type, name, depth, most): words of `type`; as a channel at least `depth` of
 * them fit between its ends; a turn puts at most `most` into it. Functions of a stage end their parameters with
 * QD_JOINTS and pass on QD_JOINED; QD_PUT(name, word) and QD_GET(name) are all that joins stages. */
#ifndef QD_PIPE_H
#define QD_PIPE_H

/* QD_UNIT precedes the names of a unit's functions and channels: the operator's, or in a binary that has several units
 * (-DQD_UNIT) one that no other has. */
#define QD_JOIN_(a, b) a##b
#define QD_JOIN(a, b) QD_JOIN_(a, b)
#define QD_NAME(name) QD_JOIN(QD_UNIT, name)

#ifdef QD_CHANNELS
#pragma OPENCL EXTENSION cl_intel_channels : enable
/* -DQD_DEPTH: emulators run stages one after the other when a channel holds all that a stage puts into it. */
#ifdef QD_DEPTH
#define QD_PIPE(type, name, depth_, most) channel type QD_NAME(_##name) __attribute__((depth(QD_DEPTH)));
#else
#define QD_PIPE(type, name, depth_, most) channel type QD_NAME(_##name) __attribute__((depth(depth_)));
#endif
#define QD_PUT(name, word) write_channel_intel(QD_NAME(_##name), word)
#define QD_GET(name) read_channel_intel(QD_NAME(_##name))
#define QD_JOINTS
#define QD_JOINED
QD_PIPES
#undef QD_PIPE
#else
#define QD_PIPE(type, name, depth_, most) \
    type name[most];                      \
    int name##_put, name##_got;
typedef struct qd_pipes {
    QD_PIPES
} qd_pipes;
#undef QD_PIPE
#define QD_PUT(name, word) (pipes->name[pipes->name##_put++] = (word))
#define QD_GET(name) (pipes->name[pipes->name##_got++])
#define QD_JOINTS , qd_pipes *pipes
#define QD_JOINED , pipes
/* All that a turn put into the pipes has been taken. */
static inline void qd_pipes_clear(qd_pipes *pipes) {
#define QD_PIPE(type, name, depth_, most) pipes->name##_put = pipes->name##_got = 0;
    QD_PIPES
#undef QD_PIPE
}
#endif

#endif
