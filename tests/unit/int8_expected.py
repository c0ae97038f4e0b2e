#!/usr/bin/env python3
"""Makes int8_expected.h: products of int8 matrices with int8 activations, by the formulas in host/quant/README.md.
Plain Python; every step that is float32 there is rounded by struct. Run: python3 int8_expected.py > int8_expected.h"""
import random
import struct


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


ROWS, N, K = 3, 4, 20
random.seed(5)
x = [[f32(random.uniform(-2, 2)) for _ in range(K)] for _ in range(ROWS)]
x[1][7], x[1][3] = 12.5, -9.0  # a row with outliers
x[2] = [0.0] * K  # and one of zeros
w_scale = [2.0 ** -e for e in (5, 6, 4, 7)]
codes = [[random.randint(-126, 126) for _ in range(K)] for _ in range(N)]
for row in codes:
    row[random.randrange(K)] = -127  # what makes the scale of the row
w = [[c * s for c in row] for row, s in zip(codes, w_scale)]
addend = [[f32(random.uniform(-50, 50)) for _ in range(N)] for _ in range(ROWS)]


def quantize(v, scale, zero, lowest):
    # round() of Python: halves to even
    return max(lowest, min(127, round(f32(v / scale)) + zero))


def product(scale_of, zero, lowest):
    out = []
    for r in range(ROWS):
        s = scale_of(x[r])
        q = [quantize(v, s, zero, lowest) for v in x[r]]
        for n in range(N):
            total = sum(c * (k - zero) for c, k in zip(codes[n], q))
            y = f32(f32(w_scale[n] * total) * s)
            out.append(f32(y + addend[r][n]))
    return out


COLUMNS = [3, 7]


def llm_int8():
    out = []
    for r in range(ROWS):
        inside = [0.0 if k in COLUMNS else v for k, v in enumerate(x[r])]
        s = of_row(inside)
        q = [quantize(v, s, 0, -127) for v in inside]
        for n in range(N):
            y = f32(f32(w_scale[n] * sum(c * k for c, k in zip(codes[n], q))) * s)
            rest = f32(f32(w[n][3] * x[r][3]) + f32(w[n][7] * x[r][7]))
            out.append(f32(f32(rest + y) + addend[r][n]))
    return out


def of_row(row):
    s = f32(max(abs(v) for v in row) / 127)
    return s if s > 0 else 1.0


STATIC, ZERO = f32(0.0173), -11


def show(kind, name, values):
    print(f"static const {kind} {name}[] = {{{', '.join(repr(v) + 'f' if kind == 'float' else str(v) for v in values)}}};")


print("/* Made by int8_expected.py. */")
print(f"enum {{ ROWS = {ROWS}, N = {N}, K = {K}, ZERO = {ZERO} }};")
print(f"#define STATIC_SCALE {STATIC!r}f")
show("float", "x_values", sum(x, []))
show("float", "w_values", sum(w, []))
show("float", "addend_values", sum(addend, []))
show("int", "outlier_columns", COLUMNS)
show("float", "with_outliers", llm_int8())
show("float", "by_row", product(of_row, 0, -127))
show("float", "by_static", product(lambda _: STATIC, 0, -127))
show("float", "by_static_zero", product(lambda _: STATIC, ZERO, -128))
