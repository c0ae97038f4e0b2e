"""Fake quantization and its gradients by their papers' definitions, in numpy: writes fake_quantize_golden.h beside it.

    python3 tests/unit/fake_quantize_golden.py

Jacob et al. 2018 (fake quantization, straight-through gradient), Esser et al. 2020 (LSQ), Bhalgat et al. 2020 (LSQ+), Choi
et al. 2018 (PACT). Values are float32, one operation at a time; sums in the order that qdot_ops.def documents.
"""
import pathlib

import numpy as np

F = np.float32


def numbers(n, a, b, m, step):
    """The test makes the same ones: exact in float32."""
    return ((np.arange(n, dtype=np.int64) * a + b) % m - m // 2).astype(F) * F(step)


def element_wise(x, dy, scale, zero, low, high, clip):
    """y, dx and each element's part of dscale and dzero."""
    inverse = (F(1) / scale).astype(F)
    z = np.clip(zero, low, high).astype(F)
    q = np.rint(x * inverse) + z
    code = np.clip(q, F(low), F(high))
    y = (code - z) * scale
    within = (q >= low) & (q <= high)
    inside = (y - x) * inverse
    if clip:
        within = (x >= (F(low) - z) * scale) & (x < (F(high) - z) * scale)
        inside = np.zeros_like(x)
    dscale = dy * np.where(within, inside, code - z)
    dzero = np.where(within, F(0), -dy * scale)
    return y, np.where(within, dy, F(0)), dscale.astype(F), dzero.astype(F)


def ordered_sum(parts):
    total = F(0)
    for chunk in range(0, len(parts), 1024):
        lanes = np.zeros(16, F)
        for k in range(chunk, min(chunk + 1024, len(parts))):
            lanes[k % 16] += parts[k]
        for half in (8, 4, 2, 1):
            lanes = lanes[:half] + lanes[half : 2 * half]
        total += lanes[0]
    return total


def sums(parts, axis, factor):
    if axis is None:
        return np.array([ordered_sum(parts.ravel()) * F(factor)])
    lines = np.moveaxis(parts, axis, 0).reshape(parts.shape[axis], -1)
    return np.array([ordered_sum(line) * F(factor) for line in lines])


def write(out, name, values):
    text = ", ".join(float(v).hex().replace("0x0.0p+0", "0.0") + "f" for v in np.ravel(values))
    out.append(f"static const float {name}[] = {{{text}}};")


def main():
    out = ["/* Made by fake_quantize_golden.py. */", "/* clang-format off */"]
    # Small, along the middle axis: every element.
    x, dy = numbers(24, 7919, 13, 401, 1 / 64).reshape(2, 4, 3), numbers(24, 104729, 5, 255, 1 / 32).reshape(2, 4, 3)
    scale = np.array([0.25, 0.3, 0.07, 1.5], F).reshape(1, 4, 1)
    zero = np.array([0, -3, 9, 7]).reshape(1, 4, 1)  # 9 counts as 7
    for clip in (0, 1):
        y, dx, ds, dz = element_wise(x, dy, scale, zero, -8, 7, clip)
        write(out, f"small_y_{clip}", y)
        write(out, f"small_dx_{clip}", dx)
        write(out, f"small_dscale_{clip}", sums(ds, 1, 0.5))
        write(out, f"small_dzero_{clip}", sums(dz, 1, 0.5))
    # Large: sums of more than one chunk, of all and of each row.
    x, dy = numbers(4040, 7919, 13, 4001, 1 / 256).reshape(2, 2020), numbers(4040, 104729, 5, 2047, 1 / 1024).reshape(2, 2020)
    y, dx, ds, dz = element_wise(x, dy, F(0.3), 1, -8, 7, 0)
    for name, axis in (("all", None), ("rows", 0)):
        write(out, f"large_{name}_dscale", sums(ds, axis, 1))
        write(out, f"large_{name}_dzero", sums(dz, axis, 1))
    # And of each of 40 columns, whose elements are not side by side.
    for name, parts in (("dscale", ds), ("dzero", dz)):
        write(out, f"large_columns_{name}", sums(parts.reshape(101, 40), 1, 1))
    # PACT from its own formulas, in double precision: y = (|x| - |x - a| + a) / 2, rounded to 15 steps.
    x, dy, a = numbers(64, 37, 3, 97, 1 / 16).astype(float), numbers(64, 11, 1, 31, 1 / 8).astype(float), 1.75
    clipped = 0.5 * (np.abs(x) - np.abs(x - a) + a)
    write(out, "pact_y", (np.rint(clipped * 15 / a) * a / 15).astype(F))
    write(out, "pact_dx", np.where((x >= 0) & (x < a), dy, 0).astype(F))
    write(out, "pact_da", [F(dy[x >= a].sum())])
    out.append("/* clang-format on */")
    pathlib.Path(__file__).with_suffix(".h").write_text("\n".join(out) + "\n")


main()
