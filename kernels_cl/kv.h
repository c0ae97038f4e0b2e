/* Key/value caches [heads, positions, …]: F32, or (-DQD_KV_I8) codes with a scale for each head and position.
 *
 *   F32  keys [heads, positions, head_dim] in the order of QD_KEY_INDEX: in each run of 16 positions
 *          d0: p0 p1 … p15 | d1: p0 p1 … p15 | …          so that a vector over 16 positions is contiguous
 *        values [heads, positions, head_dim], plain
 *   I8   the same with QD_KV_I8_COLUMNS(head_dim) columns, of which the last four hold an F32 scale
 *        keys    d0: c0 c1 … c15 | d1: … | s0 s1 … s15    again a vector over 16 positions
 *        values  p0: c(d0) c(d1) … s | p1: …
 *        an element is code · scale, rounded once, before anything is added */
#ifndef QD_KV_H
#define QD_KV_H

#include "common.h"

#ifdef QD_KV_I8
typedef char qd_kv;
#define QD_KV_COLUMNS(head_dim) QD_KV_I8_COLUMNS(head_dim)
#else
typedef float qd_kv;
#define QD_KV_COLUMNS(head_dim) (head_dim)
#endif

#endif
