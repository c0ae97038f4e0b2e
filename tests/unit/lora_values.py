"""Writes lora_values.h: a low-rank branch computed by numpy, for test_lora.c.

    python tests/unit/lora_values.py >tests/unit/lora_values.h

x is rounded to bfloat16, to nearest even; so is x · aᵀ; y = y0 + scale · ((x · aᵀ) · bᵀ). The numbers are such that every
sum is exact in float32, whatever its order, which is asserted: the bytes of y follow from the definition alone.
"""
import numpy as np

R, K, L, N, SCALE = 5, 37, 6, 21, np.float32(0.375)
rng = np.random.default_rng(9)


def bf16(x):
    """float64 to the nearest of 8 significant bits, ties to even; no denormals here."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 256), exponent - 8)  # numpy rounds halves to even


def bits16(x):
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint32)


def exact_product(p, q, unit):
    """p · qᵀ, all of whose partial sums are multiples of `unit` below 2^24 of it."""
    assert np.all(p[:, None, :] * q[None, :, :] % unit == 0)
    assert np.max(np.sum(np.abs(p[:, None, :] * q[None, :, :]), axis=2)) < unit * 2**24
    return p @ q.T


def show(name, kind, values, digits):
    words = [f"0x{v:0{digits}x}" for v in values.flatten()]
    per_line = 9 if digits == 8 else 14
    lines = [", ".join(words[i:i + per_line]) for i in range(0, len(words), per_line)]
    print(f"static const {kind} {name}[] = {{\n    " + ",\n    ".join(lines) + "};")


x = (rng.uniform(0.5, 4, (R, K)) * rng.choice([-1, 1], (R, K))).astype(np.float32)
ties = rng.random((R, K)) < 0.3  # halfway between two bfloat16
x[ties] = ((x[ties].view(np.uint32) & 0xffff0000) | 0x8000).view(np.float32)
a = rng.integers(-8, 9, (L, K)) / 4.0
b = rng.integers(-8, 9, (N, L)) / 4.0
y0 = rng.normal(0, 50, (R, N)).astype(np.float32)
low = bf16(exact_product(bf16(x.astype(np.float64)), a, 2.0**-10))
product = exact_product(low, b, 2.0**-12).astype(np.float32)
y = y0 + SCALE * product
assert y.dtype == np.float32
assert np.any(bf16(x.astype(np.float64)) != x) and np.any(exact_product(bf16(x.astype(np.float64)), a, 2.0**-10) != low)

print("/* Made by lora_values.py: bits of float32 and bfloat16. */")
print(f"enum {{ LORA_R = {R}, LORA_K = {K}, LORA_L = {L}, LORA_N = {N} }};")
print(f"static const float lora_scale = {SCALE}f;")
show("lora_x", "uint32_t", x.view(np.uint32), 8)
show("lora_a", "uint16_t", bits16(a), 4)
show("lora_b", "uint16_t", bits16(b), 4)
show("lora_y0", "uint32_t", y0.view(np.uint32), 8)
show("lora_y", "uint32_t", y.view(np.uint32), 8)
