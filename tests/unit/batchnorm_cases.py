#!/usr/bin/env python3
"""Writes tests/unit/batchnorm_cases.h: python3 batchnorm_cases.py > batchnorm_cases.h (needs numpy).

A product x -> w x + b, then y = gamma (x - mean) / sqrt(variance + epsilon) + beta, as numpy computes it in float64 from
the float32 numbers that are written here; and the weights and bias that give the same y at once, rounded to float32.
"""
import numpy as np

CHANNELS, EACH = 4, 6
rng = np.random.default_rng(2018)


def line(name, x):
    print(f"static const float {name}[] = {{{', '.join(float(v).hex() + 'f' for v in np.ravel(x))}}};")


f32 = lambda *shape: rng.standard_normal(shape).astype(np.float32)
w, b, gamma, beta, mean, x = f32(CHANNELS, EACH), f32(CHANNELS), f32(CHANNELS), f32(CHANNELS), f32(CHANNELS), f32(EACH)
variance = (rng.random(CHANNELS) * [1e-6, 1, 10, 1e4]).astype(np.float32)
epsilon = np.float32(1e-3)
wide = [v.astype(np.float64) for v in (w, b, gamma, beta, mean, variance, x)]
W, B, G, BETA, M, V, X = wide
E = np.float64(epsilon)
y = (W @ X + B - M) / np.sqrt(V + E) * G + BETA
folded = np.diag(G) @ np.diag(1 / np.sqrt(V + E)) @ W
print("/* Made by batchnorm_cases.py: do not edit. */\n/* clang-format off */")
print(f"enum {{ BATCHNORM_CHANNELS = {CHANNELS}, BATCHNORM_EACH = {EACH} }};")
print(f"static const float batchnorm_epsilon = {float(epsilon).hex()}f;")
for name, value in dict(w=w, bias=b, gamma=gamma, beta=beta, mean=mean, variance=variance, x=x).items():
    line("batchnorm_" + name, value)
line("batchnorm_w_folded", folded.astype(np.float32))
line("batchnorm_bias_folded", ((B - M) / np.sqrt(V + E) * G + BETA).astype(np.float32))
line("batchnorm_w_plain", ((W.T / np.sqrt(V + E)).T).astype(np.float32))
line("batchnorm_bias_plain", (-M / np.sqrt(V + E)).astype(np.float32))
line("batchnorm_y", y.astype(np.float32))
