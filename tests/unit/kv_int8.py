#!/usr/bin/env python3
"""Writes kv_int8.h, the data of test_kv_int8.c: python3 tests/unit/kv_int8.py > tests/unit/kv_int8.h (needs numpy).

The int8 cache by its definition, independent of qdot's code: for each head and position scale = absmax / 127 and code =
x * (127 / absmax), rounded half to even, in float32; 0 and 0 where absmax is below 1e-30. Attention in float64."""
import numpy as np

HEADS, GROUPS, DIM, POSITIONS, FIRST, ROWS = 4, 2, 16, 32, 12, 8
SEEN = FIRST + ROWS  # both halves of the key cache's second run of 16 positions are met, and positions that are not stored
SCALE = np.float32(0.25)
f32 = np.float32


def quantize(x):
    """Codes and scale of one head of one position."""
    most = f32(np.abs(x).max())
    if most < f32(1e-30):
        return np.zeros(DIM, np.int8), f32(0)
    return np.rint(x * (f32(127) / most)).astype(np.int8), most / f32(127)


def cache_bytes(codes, scales, interleaved):
    """[G, P] of codes and scales as bytes; positions that hold None keep 0x5a."""
    out = np.full((GROUPS, POSITIONS * (DIM + 4)), 0x5A, np.uint8)
    for g in range(GROUPS):
        for p in range(POSITIONS):
            if codes[g][p] is None:
                continue
            code = codes[g][p].view(np.uint8)
            scale = np.frombuffer(f32(scales[g][p]).astype("<f4").tobytes(), np.uint8)
            if interleaved:  # runs of 16 positions: a row of 16 codes for each element, then 16 scales
                run = p // 16 * 16 * (DIM + 4)
                for d in range(DIM):
                    out[g, run + 16 * d + p % 16] = code[d]
                at = run + 16 * DIM + 4 * (p % 16)
            else:
                out[g, p * (DIM + 4) : p * (DIM + 4) + DIM] = code
                at = p * (DIM + 4) + DIM
            out[g, at : at + 4] = scale
    return out


def short(x):
    """Numbers of few digits."""
    return np.round(x, 2).astype(f32)


def rows(rng, special):
    x = short(2 * rng.standard_normal((SEEN, GROUPS, DIM)))
    if special:
        x[FIRST, 0] = 0  # nothing: scale 0
        x[FIRST, 1] = f32(1e-31)  # too small for a scale
        x[FIRST + 1, 0] = np.arange(DIM) - f32(7.5)  # scale 1 below: ties, which go to the even code
        x[FIRST + 1, 0, 15] = -127
        x[FIRST + 2, 1] = f32(1e-20) * np.arange(DIM)
        x[FIRST + 3, 1] = f32(3e38) * np.cos(np.arange(DIM)).astype(f32)
    return x


def attention(q, keys, values):
    """q [ROWS, HEADS, DIM] over dequantized keys and values [SEEN, GROUPS, DIM], causal."""
    y = np.zeros((ROWS, HEADS, DIM))
    for r in range(ROWS):
        n = FIRST + r + 1
        for h in range(HEADS):
            g = h // (HEADS // GROUPS)
            s = float(SCALE) * keys[:n, g].astype(np.float64) @ q[r, h].astype(np.float64)
            e = np.exp(s - s.max())
            y[r, h] = (e / e.sum()) @ values[:n, g].astype(np.float64)
    return y


def show(kind, name, values, form, per_line):
    flat = [form(v) for v in np.asarray(values).ravel()]
    print(f"static const {kind} {name}[] = {{")
    for i in range(0, len(flat), per_line):
        print("    " + ", ".join(flat[i : i + per_line]) + ",")
    print("};")


def quantized(x, first):
    codes = [[None] * POSITIONS for _ in range(GROUPS)]
    scales = [[0] * POSITIONS for _ in range(GROUPS)]
    numbers = np.zeros(x.shape, f32)
    for p in range(SEEN):
        for g in range(GROUPS):
            code, scale = quantize(x[p, g])
            numbers[p, g] = code.astype(f32) * scale
            if p >= first:
                codes[g][p], scales[g][p] = code, scale
    return codes, scales, numbers


def main():
    rng = np.random.default_rng(8)
    number = lambda v: np.format_float_scientific(v, trim="0", exp_digits=1) + "f" if v else "0"
    print("/* Made by kv_int8.py, which says what it is. */")
    print("// clang-format off")
    print(f"enum {{ HEADS = {HEADS}, GROUPS = {GROUPS}, DIM = {DIM}, POSITIONS = {POSITIONS}, FIRST = {FIRST}, "
          f"ROWS = {ROWS} }};")
    k, v = rows(rng, True), rows(rng, True)
    show("float", "stored_k", k[FIRST:], number, 12)
    show("float", "stored_v", v[FIRST:], number, 12)
    for name, x in (("k", k), ("v", v)):
        codes, scales, _ = quantized(x, FIRST)
        show("unsigned char", f"stored_{name}cache", cache_bytes(codes, scales, name == "k"), str, 32)
    q, k, v = short(rng.standard_normal((ROWS, HEADS, DIM))), rows(rng, False), rows(rng, False)
    show("float", "read_q", q, number, 12)
    numbers = []
    for name, x in (("k", k), ("v", v)):
        codes, scales, dequantized = quantized(x, 0)
        numbers.append(dequantized)
        show("unsigned char", f"read_{name}cache", cache_bytes(codes, scales, name == "k"), str, 32)
    show("double", "read_y", attention(q, *numbers), lambda v: f"{v:.9g}", 10)
    print("// clang-format on")


main()
