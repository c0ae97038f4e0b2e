/* AMX: eight tiles of up to 16 rows of 64 bytes, of which one instruction multiplies two: rows of bytes times columns
 * of four bytes each.
 *
 *               w  [k 0 … 3, column 0][k 0 … 3, column 1] … [column 15]
 *                  [k 4 … 7, column 0] …
 *   x  [k 0 1 2 3 4 …]      [sums of row 0, an int for each column]
 *      [row 1 …     ]       …
 *
 * The compiler knows no tiles and uses none; the instructions name them. Before the first one of a process the host
 * asks the system for leave, see host/opencl/cl_devices.c. */
#ifndef QD_AMX_H
#define QD_AMX_H

/* Palette 1: bytes of a row, and rows, of each of the eight tiles. A tile that is used has both. */
typedef struct amx_shapes {
    uchar palette, first_row, none[14];
    ushort bytes[16];
    uchar rows[16];
} amx_shapes;

/* `step` is the bytes from a row to the next. */
#define AMX_LOAD(tile, p, step) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(p), "r"((ulong)(step)) : "memory")
#define AMX_STORE(tile, p, step) \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(p), "r"((ulong)(step)) : "memory")
#define AMX_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile : :)
/* sums += x · w: unsigned bytes of x times signed ones of w, and the other way round. */
#define AMX_DOT_US(sums, x, w) __asm__ volatile("tdpbusd %%tmm" #w ", %%tmm" #x ", %%tmm" #sums : :)
#define AMX_DOT_SU(sums, x, w) __asm__ volatile("tdpbsud %%tmm" #w ", %%tmm" #x ", %%tmm" #sums : :)

/* All tiles become 0. */
QD_ALWAYS void amx_open(const amx_shapes *shapes) {
    __asm__ volatile("ldtilecfg (%0)" : : "r"(shapes) : "memory");
}

/* The system need not keep the tiles for this thread any longer. */
QD_ALWAYS void amx_close(void) {
    __asm__ volatile("tilerelease" : :);
}

#endif
