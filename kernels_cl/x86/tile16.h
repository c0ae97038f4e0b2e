/* The TILE16 layout of blocked weights (Q8_0, Q4_0, Q4_1: -DQD_W_<FORMAT>), which the host packs: tiles of 16 rows of
 * w, missing rows being zero bytes, of K/32 blocks one after the other, so that a tile is one stream of memory:
 *
 *   codes   [j 0…3][row 0…15][i 0…3]  Q4_0, Q4_1: element 4j+i in the low nibble, 16+4j+i in the high one
 *           [j 0…7][row 0…15][i 0…3]  Q8_0: element 4j+i, plus 128
 *   d       [row 0…15] halves
 *   m       [row 0…15] halves         Q4_1
 *
 * So 64 bytes of codes are 4 neighbours of 16 rows, and all codes are unsigned. */
#ifndef QD_TILE16_H
#define QD_TILE16_H

/* Bytes of codes in a block of 16 rows, and what has to be taken from a code. */
#if defined(QD_W_Q8_0)
#define QD_TILE_CODES 512
#define QD_TILE_OFFSET 128.0f
#elif defined(QD_W_Q4_0)
#define QD_TILE_CODES 256
#define QD_TILE_OFFSET 8.0f
#elif defined(QD_W_Q4_1)
#define QD_TILE_CODES 256
#define QD_TILE_OFFSET 0.0f
#else
#error "x86/tile16.h: define QD_W_Q8_0, QD_W_Q4_0 or QD_W_Q4_1"
#endif

/* Bytes of d and m in a block of 16 rows. */
#ifdef QD_W_Q4_1
#define QD_TILE_SCALES 64
#else
#define QD_TILE_SCALES 32
#endif

#define QD_TILE_BLOCK (QD_TILE_CODES + QD_TILE_SCALES)

#endif
