/* AMX on a CPU that has none: a library for LD_PRELOAD. Where a program asks the system for leave to use tiles, it is
 * granted, and from then on each instruction on tiles, which is an illegal one here, is carried out by a handler for
 * SIGILL. Written from Intel's Software Developer's Manual: encodings, and the conditions under which a CPU refuses.
 *
 * Only what an int8 kernel needs: LDTILECFG, TILERELEASE, TILEZERO, TILELOADD(T1), TILESTORED, TDPB[SU][SU]D; on one
 * row after another, without restarts. What a CPU would refuse ends the process as there, with a word on why. At the
 * program's end the number of products goes to stderr. */
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64 };

typedef struct tile {
    int rows, bytes; /* of a row; 0: not configured */
    uint8_t data[ROWS][ROW_BYTES];
} tile;

static __thread tile tiles[TILES];
static long products;

/* ---- Instructions ------------------------------------------------------------------------------------------- */

/* A VEX instruction with an operand in memory or a register. */
typedef struct instruction {
    int opcode, prefix; /* 0: none, 1: 66, 2: F3, 3: F2 */
    int reg, rm, v;
    bool memory;
    char *address; /* of memory, without its index */
    int64_t step;  /* the index, scaled */
    int length;
} instruction;

static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static int32_t displacement(const uint8_t *p, int bytes) {
    int32_t wide = 0;
    if (bytes == 1) return (int8_t)*p;
    if (bytes == 4) memcpy(&wide, p, 4);
    return wide;
}

/* False where it is none of map 0F38, W0, L0. */
static bool decode(const greg_t *g, const uint8_t *at, instruction *i) {
    if (at[0] != 0xc4 || (at[1] & 31) != 2 || at[2] & 0x84) return false;
    const int r = ~at[1] >> 7 & 1, x = ~at[1] >> 6 & 1, b = ~at[1] >> 5 & 1, modrm = at[4], mod = modrm >> 6;
    const uint8_t *p = at + 5;
    *i = (instruction){.opcode = at[3], .prefix = at[2] & 3, .v = ~at[2] >> 3 & 15, .memory = mod != 3};
    i->reg = (modrm >> 3 & 7) | r << 3;
    i->rm = (modrm & 7) | b << 3;
    if (i->memory) {
        int64_t base = 0;
        int bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
        const bool sib = (modrm & 7) == 4, relative = !sib && mod == 0 && (modrm & 7) == 5;
        if (sib) {
            const int scale = *p >> 6, index = (*p >> 3 & 7) | x << 3, low = *p & 7;
            p++;
            if (index != 4) i->step = g[registers[index]] * ((int64_t)1 << scale);
            if (mod == 0 && low == 5) {
                bytes = 4;
            } else {
                base = g[registers[low | b << 3]];
            }
        } else if (relative) {
            bytes = 4;
        } else {
            base = g[registers[i->rm]];
        }
        base += displacement(p, bytes);
        p += bytes;
        if (relative) base += (int64_t)(intptr_t)p;
        i->address = (char *)(intptr_t)base;
    }
    i->length = (int)(p - at);
    return true;
}

static void refuse(const char *why) {
    char line[160];
    const int n = snprintf(line, sizeof line, "amx_emulator: a CPU would refuse this: %s\n", why);
    if (n > 0 && write(2, line, (size_t)n) == n) signal(SIGILL, SIG_DFL);
    abort();
}

static tile *configured(int n) {
    if (n >= TILES || !tiles[n].rows) refuse("a tile that is not configured");
    return &tiles[n];
}

static void configure(const char *memory) {
    uint8_t c[64];
    memcpy(c, memory, sizeof c);
    if (c[0] != 1 || c[1]) refuse("LDTILECFG: palette or start row");
    for (int i = 2; i < 64; i++) {
        const bool reserved = i < 16 || (i >= 32 && i < 48) || i >= 56;
        if (reserved && c[i]) refuse("LDTILECFG: reserved bytes");
    }
    memset(tiles, 0, sizeof tiles);
    for (int t = 0; t < TILES; t++) {
        const int bytes = c[16 + 2 * t] | c[17 + 2 * t] << 8, rows = c[48 + t];
        if (bytes > ROW_BYTES || rows > ROWS || !bytes != !rows) refuse("LDTILECFG: the shape of a tile");
        tiles[t].rows = rows;
        tiles[t].bytes = bytes;
    }
}

/* c += a · b, groups of four bytes; a or b signed or not. */
static void dot(tile *c, const tile *a, const tile *b, bool a_signed, bool b_signed) {
    if (c == a || c == b || a == b) refuse("TDP: the same tile twice");
    if (c->rows != a->rows || a->bytes != 4 * b->rows || c->bytes != b->bytes) refuse("TDP: shapes that do not fit");
    for (int m = 0; m < c->rows; m++) {
        uint32_t sums[ROW_BYTES / 4];
        memcpy(sums, c->data[m], sizeof sums);
        for (int k = 0; k < a->bytes; k++) {
            const int x = a_signed ? (int8_t)a->data[m][k] : a->data[m][k];
            const uint8_t *row = b->data[k / 4] + k % 4;
            for (int n = 0; n < c->bytes / 4; n++)
                sums[n] += (uint32_t)(x * (b_signed ? (int8_t)row[4 * n] : row[4 * n]));
        }
        memcpy(c->data[m], sums, (size_t)c->bytes);
    }
    __atomic_fetch_add(&products, 1, __ATOMIC_RELAXED);
}

/* False where the instruction is none of these. */
static bool execute(const instruction *i) {
    enum { NONE, P66, F3, F2 };
    if (i->opcode == 0x49 && i->memory && i->prefix == NONE && i->reg == 0) {
        configure(i->address);
    } else if (i->opcode == 0x49 && !i->memory && i->prefix == NONE && i->reg == 0 && i->rm == 0) {
        memset(tiles, 0, sizeof tiles);
    } else if (i->opcode == 0x49 && !i->memory && i->prefix == F2 && i->rm == 0) {
        memset(configured(i->reg)->data, 0, sizeof tiles->data);
    } else if (i->opcode == 0x4b && i->memory && i->prefix != NONE) {
        tile *t = configured(i->reg);
        for (int row = 0; row < t->rows; row++) {
            char *memory = i->address + row * i->step;
            if (i->prefix == F3) {
                memcpy(memory, t->data[row], (size_t)t->bytes);
            } else {
                memset(t->data[row], 0, ROW_BYTES);
                memcpy(t->data[row], memory, (size_t)t->bytes);
            }
        }
    } else if (i->opcode == 0x5e && !i->memory) {
        const bool a_signed = i->prefix == F3 || i->prefix == F2, b_signed = i->prefix == P66 || i->prefix == F2;
        dot(configured(i->reg), configured(i->rm), configured(i->v), a_signed, b_signed);
    } else {
        return false;
    }
    return true;
}

static void on_illegal(int signal_number, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    instruction i;
    (void)info;
    if (decode(g, (const uint8_t *)(intptr_t)g[REG_RIP], &i) && execute(&i)) {
        g[REG_RIP] += i.length;
    } else {
        signal(signal_number, SIG_DFL); /* it comes again */
    }
}

/* ---- Leave to use them -------------------------------------------------------------------------------------- */

static void tell(void) {
    fprintf(stderr, "amx_emulator: %ld products of tiles\n", products);
}

static void begin(void) {
    static bool begun;
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    if (!begun) atexit(tell);
    begun = true;
}

/* In place of the C library's. */
long syscall(long number, ...) {
    enum { ARCH_GET_XCOMP_SUPP = 0x1021, ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_arch_prctl && a[0] == ARCH_GET_XCOMP_SUPP) {
        *(uint64_t *)a[1] = (uint64_t)1 << XTILEDATA;
        return 0;
    }
    if (number == SYS_arch_prctl && a[0] == ARCH_REQ_XCOMP_PERM && a[1] == XTILEDATA) {
        begin();
        return 0;
    }
    long (*next)(long, ...);
    *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
