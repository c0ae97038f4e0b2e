"""Writes methods_expected.h: what GPTQ, SmoothQuant and AWQ make of small matrices, computed with numpy from the papers.

    python3 tests/unit/methods_expected.py >tests/unit/methods_expected.h      (needs numpy)

GPTQ follows the algorithm of Frantar et al. (2022), figure 2 and its text: dead columns, damping, Cholesky factor of the
inverse, errors divided by its diagonal; with the columns' order, groups keep the scales of the weights as they were.
SmoothQuant: Xiao et al. (2023), equation 4. AWQ: Lin et al. (2023), section 3.2, with the factors' normalization of its
released search. Scales of groups and rounding: host/formats/FORMATS.md.
"""
import numpy as np

f32, f16 = np.float32, np.float16


class Numbers:
    """The same numbers as in test_methods.c."""

    def __init__(self, seed):
        self.seed = seed

    def next(self):
        self.seed = (self.seed * 1664525 + 1013904223) % 2**32
        return f32(f32(self.seed >> 8) / f32(8388608) - f32(1))

    def weights(self, rows, cols):
        w = np.zeros((rows, cols), f32)
        for i in range(rows):
            for k in range(cols):
                v = self.next()
                w[i, k] = f32(f32(v * v) * v)
        return w

    def activations(self, rows, cols, dead):
        x = np.zeros((rows, cols), f32)
        for t in range(rows):
            last = f32(0)
            for k in range(cols):
                last = f32(self.next() + f32(last * f32(0.75)))
                x[t, k] = 0 if k == dead else f32(last * f32(2.0 ** (k * 7 % 5 - 2)))
        return x


def half(v):
    return f32(f16(v))


class Target:
    """What one group's codes mean: (code - zero) * scale + offset."""

    def __init__(self, name, bits, group, lowest, highest):
        self.name, self.bits, self.group, self.lowest, self.highest = name, bits, group, lowest, highest

    def choose(self, x):
        x = x.astype(f32)
        low, high = x.min(), x.max()
        zero, offset = 0, f32(0)
        if self.name == "q4_1":
            scale, offset = half(f32(high - low) / f32(15)), half(low)
        elif self.name == "q4_0":
            scale, zero = half((high if high > -low else low) / f32(-8)), 8
        elif self.name == "q8_0":
            scale = half(max(high, -low) / f32(127))
        elif self.name.endswith("asym"):
            low, high = min(low, f32(0)), max(high, f32(0))
            scale = half(f32(high / f32(self.highest)) - f32(low / f32(self.highest)))
            zero = int(np.clip(np.rint(f32(-low) / scale), 0, self.highest)) if scale > 0 else 0
        elif self.lowest == -self.highest:
            scale = f32(max(high, -low) / f32(self.highest))
        else:
            scale = half((high if -low < high else low) / f32(self.lowest))
        return scale, zero, offset

    def code(self, x, p):
        scale, zero, offset = p
        with np.errstate(divide="ignore"):
            inverse = f32(1) / scale
        if not np.isfinite(inverse):
            inverse = f32(0)
        return np.clip(np.rint((x - offset) * inverse) + zero, self.lowest, self.highest)

    def value(self, code, p):
        return (code - p[1]) * float(p[0]) + float(p[2])


TARGETS = {
    "int4-g32": Target("int4-g32", 4, 32, -8, 7),
    "int3-g16": Target("int3-g16", 3, 16, -4, 3),
    "int2-g32-asym": Target("int2-g32-asym", 2, 32, 0, 3),
    "int4-g256-asym": Target("int4-g256-asym", 4, 256, 0, 15),
    "int5-g48": Target("int5-g48", 5, 48, -16, 15),
    "int4-g160": Target("int4-g160", 4, 160, -8, 7),
    "int8": Target("int8", 8, 1 << 20, -127, 127),
    "q4_0": Target("q4_0", 4, 32, 0, 15),
    "q4_1": Target("q4_1", 4, 32, 0, 15),
    "q8_0": Target("q8_0", 8, 32, -127, 127),
}


def gptq(w, x, target, act_order, damping):
    rows, cols = w.shape
    w = w.astype(np.float64)
    h = x.astype(np.float64).T @ x.astype(np.float64)
    dead = np.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    static = [[target.choose(w[r, g : g + target.group]) for g in range(0, cols, target.group)] for r in range(rows)]
    perm = np.argsort(-np.diag(np.where(np.diag(dead), 0, h)), kind="stable") if act_order else np.arange(cols)
    w, h = w[:, perm], h[perm][:, perm]
    h[np.diag_indices(cols)] += damping * np.mean(np.diag(h))
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    codes = np.zeros((rows, cols), int)
    for i in range(cols):
        g = perm[i] // target.group
        for r in range(rows):
            if not act_order and i % target.group == 0:
                static[r][g] = target.choose(w[r, i : i + target.group])
            p = static[r][g]
            codes[r, perm[i]] = target.code(w[r, i], p)
            error = (w[r, i] - target.value(codes[r, perm[i]], p)) / u[i, i]
            w[r, i:] -= error * u[i, i:]
    return codes


def rounded(w, target):
    out = np.zeros(w.shape)
    for r in range(w.shape[0]):
        for g in range(0, w.shape[1], target.group):
            x = w[r, g : g + target.group].astype(f32)
            p = target.choose(x)
            out[r, g : g + target.group] = target.value(target.code(x, p), p)
    return out


def awq(w, x, target):
    x = x.astype(np.float64)
    mean, square = np.abs(x).mean(0).astype(f32).astype(np.float64), (x * x).mean(0)
    live, best = mean > 0, None
    for i in range(20):
        s = np.ones(len(mean))
        s[live] = np.maximum(mean[live] ** (i / 20), 1e-4)
        s[live] /= np.sqrt(s[live].max() * s[live].min())
        s = s.astype(f32)
        error = float((((rounded(w * s, target) / s - w) ** 2) * square).sum() / ((w.astype(float) ** 2) * square).sum())
        if i == 0:
            before = error
        if best is None or error < best[1]:
            best = (i / 20, error, s)
    return best[0], best[1], before, best[2]


def numbers(values, form):
    return ", ".join(format(float(v), form) for v in values)


# name, rows, cols, rows of activations, dead column, act-order, damping, seed
CASES = [
    ("int4-g32", 4, 96, 160, -1, False, 0.01, 1),
    ("int4-g32", 4, 96, 160, 5, True, 0.01, 2),
    ("int3-g16", 3, 88, 100, 40, False, 0.05, 3),
    ("int2-g32-asym", 4, 64, 100, -1, False, 0.01, 4),
    ("int2-g32-asym", 4, 64, 100, 63, True, 0.01, 5),
    ("int4-g256-asym", 2, 300, 400, -1, False, 0.01, 6),
    ("int8", 3, 144, 200, 0, False, 0.01, 7),
    ("q4_0", 3, 160, 200, -1, False, 0.01, 8),
    ("q4_1", 3, 96, 120, -1, True, 0.01, 9),
    ("q8_0", 2, 64, 40, -1, False, 0.01, 10),
    ("int5-g48", 2, 240, 300, -1, False, 0.01, 11),
    ("int4-g160", 2, 360, 400, -1, False, 0.01, 12),
]

print("/* Made by methods_expected.py, which says how. Codes: two hexadecimal digits each, of code + 128, row after row. */")
print("static const struct {\n    const char *name;\n    int rows, cols, samples, dead;\n    bool act_order;")
print("    double damping;\n    unsigned seed;\n    const char *codes;\n} gptq_cases[] = {")
for name, rows, cols, samples, dead, act_order, damping, seed in CASES:
    n = Numbers(seed)
    w, x = n.weights(rows, cols), n.activations(samples, cols, dead)
    codes = gptq(w, x, TARGETS[name], act_order, damping)
    text = "".join("%02x" % (c + 128) for c in codes.flatten())
    print(f'    {{"{name}", {rows}, {cols}, {samples}, {dead}, {str(act_order).lower()}, {damping}, {seed},')
    lines = [text[i : i + 104] for i in range(0, len(text), 104)]
    print("\n".join(f'     "{line}"' for line in lines) + "},")
print("};")

n = Numbers(20)
w, x = n.weights(6, 32), n.activations(50, 32, 7)
w[:, 9] = 0
a, b = np.abs(x.astype(float)).max(0), np.abs(w.astype(float)).max(0)
live = (a > 0) & (b > 0)
print("\nenum { SMOOTH_ROWS = 6, SMOOTH_COLS = 32, SMOOTH_SAMPLES = 50, SMOOTH_DEAD = 7, SMOOTH_ZERO = 9, SMOOTH_SEED = 20 };")
print("static const double smooth_alphas[] = {0.5, 0.8};\nstatic const double smooth_factors[][SMOOTH_COLS] = {")
for alpha in (0.5, 0.8):
    s = np.where(live, np.where(live, a, 1) ** alpha / np.where(live, b, 1) ** (1 - alpha), 1)
    print("    {" + numbers(s, ".9g") + "},")
print("};")

print("\nstatic const struct {\n    const char *name;\n    int rows, cols, samples, dead;\n    unsigned seed;")
print("    double alpha, error, before, factors[64];\n} awq_cases[] = {")
for name, seed, dead in (("int4-g32", 30, -1), ("int3-g16", 31, 3), ("int2-g32-asym", 32, -1)):
    n = Numbers(seed)
    w, x = n.weights(12, 64), n.activations(80, 64, dead)
    x[:, 1] *= f32(2.0**-40)  # a factor at its least
    alpha, error, before, s = awq(w, x, TARGETS[name])
    print(f'    {{"{name}", 12, 64, 80, {dead}, {seed}, {alpha}, {error:.9g}, {before:.9g}, {{{numbers(s, ".9g")}}}}},')
print("};")
