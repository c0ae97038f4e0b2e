"""What only looks like something that the plug-in takes, and models whose parts meet in odd ways: without optimization
the results must be those of the CPU, and what the CPU refuses must fail here, too. python -m edges. Each case gives a
model, and feeds for runs after the first one."""
import sys
import traceback

import numpy as np
from onnx import TensorProto as T
from onnx import helper

import models
import plugin


def real(m, *shape):
    return m.rng.standard_normal(shape).astype(np.float32)


def quantized(m, x, scale=0.05, zero=128):
    return m.node("QuantizeLinear", [x, m.const(np.float32(scale)), m.const(np.uint8(zero))])


def dequantized(m, x, scale=0.05, zero=np.uint8(128)):
    return m.node("DequantizeLinear", [x, m.const(np.float32(scale)), m.const(zero)])


def rounded(m, x, scale=0.05, zero=128):
    return dequantized(m, quantized(m, x, scale, zero), scale, np.uint8(zero))


def weights(m, *shape):
    return dequantized(m, m.const(m.codes(shape, np.int8)), 0.02, np.int8(0))


def codes_of_a_bias(m, shape):
    codes = m.const(m.rng.integers(-900, 900, shape).astype(np.int32))
    return dequantized(m, codes, np.float32(0.05) * np.float32(0.02), np.int32(0))


def floats_of_sums(m, sums, scale, w_scale):
    return m.node("Mul", [m.node("Cast", [sums], to=T.FLOAT), m.node("Mul", [scale, m.const(w_scale)])])


def branches(m, value, dtype):
    """An If whose sub-graphs read a value of the model."""
    parts = [helper.make_graph([helper.make_node("Identity", [value], [n])], n, [],
                               [helper.make_tensor_value_info(n, dtype, None)]) for n in ("yes", "no")]
    return m.node("If", [m.input(np.array(True))], then_branch=parts[0], else_branch=parts[1])


def sum_of_codes(m, a, b, scale=0.05):
    s, z, y = m.const(np.float32(0.05)), m.const(np.uint8(128)), m.const(np.float32(scale))
    return m.node("QLinearAdd", [a, s, z, b, s, z, y, z], domain=models.MS)


def read_by_sub_graphs(m):
    x = quantized(m, m.input(real(m, 4, 8)))
    m.output(sum_of_codes(m, sum_of_codes(m, x, x, 0.1), branches(m, x, T.UINT8)), np.uint8)


def pattern_read_by_sub_graphs(m):
    codes, scale, zero = m.node("DynamicQuantizeLinear", [m.input(real(m, 4, 8))], 3)
    sums = m.node("MatMulInteger", [codes, m.const(m.codes((8, 6), np.int8)), zero])
    m.output(floats_of_sums(m, sums, scale, np.float32(0.02)), np.float32)
    m.output(branches(m, sums, T.INT32), np.int32)


def scale_of_another_part(m):
    x = m.input(real(m, 4, 8))
    codes, scale, zero = m.node("DynamicQuantizeLinear", [x], 3)
    rows = m.node("Slice", [codes, m.const(np.array([1])), m.const(np.array([3])), m.const(np.array([0]))])
    sums = m.node("MatMulInteger", [rows, m.const(m.codes((8, 6), np.int8)), zero])
    m.output(m.node("Add", [floats_of_sums(m, sums, scale, np.float32(0.02)), m.const(real(m, 6))]), np.float32)
    return [{x: 7 * real(m, 4, 8)}]


def batches_of_weights(m):
    codes, scale, zero = m.node("DynamicQuantizeLinear", [m.input(real(m, 3, 4, 8))], 3)
    sums = m.node("MatMulInteger", [codes, m.const(m.codes((3, 8, 6), np.int8)), zero])
    m.output(floats_of_sums(m, sums, scale, np.float32(0.02)), np.float32)


def scale_of_more_dimensions(m):
    codes, scale, zero = m.node("DynamicQuantizeLinear", [m.input(real(m, 4, 8))], 3)
    sums = m.node("MatMulInteger", [codes, m.const(m.codes((8, 6), np.int8)), zero])
    m.output(floats_of_sums(m, sums, scale, np.full((1, 1, 1), 0.02, np.float32)), np.float32)


def batches_to_floats(m):
    a, b = (m.input(real(m, 3, 2, *s), dynamic=True) for s in ((4, 8), (8, 5)))
    m.output(m.node("MatMul", [rounded(m, a), rounded(m, b)]), np.float32)


def factor_before_a_bias(m):
    bias = codes_of_a_bias(m, 6)
    y = m.node("Gemm", [rounded(m, m.input(real(m, 4, 8))), weights(m, 8, 6), bias], alpha=2.0)
    m.output(quantized(m, y), np.uint8)


def negative_factor(m):
    y = m.node("Gemm", [rounded(m, m.input(real(m, 4, 8))), weights(m, 8, 6)], alpha=-1.5)
    m.output(quantized(m, y), np.uint8)


def bias_of_rows(m):
    m.output(m.node("Gemm", [m.input(real(m, 4, 8)), weights(m, 8, 4), m.const(real(m, 4, 1))]), np.float32)


def codes_of_a_bias_of_rows(m):
    bias = codes_of_a_bias(m, (4, 1))
    y = m.node("Gemm", [rounded(m, m.input(real(m, 4, 8))), weights(m, 8, 4), bias])
    m.output(quantized(m, y), np.uint8)


def too_many_zero_points(m):
    x = m.input(m.codes((4, 8), np.uint8))
    m.output(dequantized(m, x, zero=np.zeros(1 << 20, np.uint8)), np.float32)


def too_few_zero_points(m):
    scales, zeros = m.const(np.full(400, 0.05, np.float32)), m.const(np.zeros(2, np.int8))
    w = m.node("DequantizeLinear", [m.const(m.codes((8, 400), np.int8)), scales, zeros], axis=1)
    m.output(m.node("MatMul", [m.input(real(m, 4, 8)), w]), np.float32)


def moved_constant(m):
    c = dequantized(m, m.const(m.codes((8, 4), np.uint8)), 0.07)
    turned = quantized(m, m.node("Transpose", [c], perm=[1, 0]))
    m.output(sum_of_codes(m, quantized(m, m.input(real(m, 4, 8))), turned), np.uint8)


def halved_image(m):
    sizes = m.const(np.array([1, 1, 0.5, 0.5], np.float32))
    m.output(m.node("Resize", [quantized(m, m.input(real(m, 1, 2, 5, 7), dynamic=True)), "", sizes], mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor"), np.uint8)


def softmax_with_a_large_step(m):
    m.output(quantized(m, m.node("Softmax", [rounded(m, m.input(real(m, 4, 8), dynamic=True))]), 1.5, 0), np.uint8)


def softmax_of_other_widths(m):
    """Weights depend on the width: those of two columns are too large for the sum of a thousand."""
    x = m.input(np.full((3, 2), 9, np.uint8), dynamic=True)
    zero = m.const(np.uint8(0))
    inputs = [x, m.const(np.float32(0.05)), zero, m.const(np.float32(1 / 16000)), zero]
    m.output(m.node("QLinearSoftmax", inputs, domain=models.MS, axis=-1, opset=13), np.uint8)
    return [{x: np.full((3, 1000), 9, np.uint8)}, {x: np.full((2, 2), 9, np.uint8)}]


def limits_below_zero(m):
    y = m.node("MatMul", [rounded(m, m.input(real(m, 4, 8), dynamic=True)), weights(m, 8, 6)])
    m.output(quantized(m, m.node("Clip", [y, m.const(np.float32(-3)), m.const(np.float32(-1))]), zero=0), np.uint8)


def padding_that_takes_away(m):
    x = quantized(m, m.input(real(m, 4, 8), dynamic=True))
    m.output(m.node("Pad", [x, m.const(np.array([0, -1, 0, 2]))]), np.uint8)


def no_rows(m):
    x = m.input(real(m, 0, 8), dynamic=True)
    m.output(quantized(m, m.node("Relu", [m.node("MatMul", [rounded(m, x), weights(m, 8, 6)])])), np.uint8)
    return [{x: real(m, 3, 8)}]


def too_large_factors(m):
    """x_scale · w_scale is more than a float holds."""
    large, small, zero = m.const(np.float32(1e20)), m.const(np.float32(1e-5)), m.const(np.uint8(128))
    for dynamic in (False, True):
        a = m.input(m.codes((4, 8), np.uint8), dynamic=dynamic)
        b = m.const(m.codes((8, 6), np.uint8))
        m.output(m.node("QLinearMatMul", [a, large, zero, b, large, zero, small, zero]), np.uint8)
    x, w = m.input(m.codes((1, 2, 5, 5), np.uint8)), m.const(m.codes((3, 2, 3, 3), np.uint8))
    m.output(m.node("QLinearConv", [x, large, zero, w, large, zero, small, zero]), np.uint8)
    x = dequantized(m, m.input(m.codes((4, 8), np.uint8)), 1e20)
    w = dequantized(m, m.const(m.codes((8, 6), np.uint8)), 1e20)
    m.output(quantized(m, m.node("Gemm", [x, w], alpha=0.5), 1e-5), np.uint8)


def too_large_ratios(m):
    """x_scale / y_scale is, or the codes times it are."""
    a, b = (m.input(m.codes((4, 8), np.uint8), dynamic=True) for _ in range(2))
    zero, small = m.const(np.uint8(128)), m.const(np.float32(1e-20))
    for scale in (1e20, 3e16):
        large = m.const(np.float32(scale))
        for op in ("QLinearAdd", "QLinearMul"):
            m.output(m.node(op, [a, large, zero, b, large, zero, small, zero], domain=models.MS), np.uint8)
    image = m.input(m.codes((1, 2, 5, 5), np.uint8), dynamic=True)
    m.output(m.node("QLinearAveragePool", [image, m.const(np.float32(1e20)), zero, small, zero], domain=models.MS,
                    kernel_shape=[2, 2]), np.uint8)


def nothing_to_quantize(m):
    x = m.input(real(m, 0, 8), dynamic=True)
    codes, scale, zero = m.node("DynamicQuantizeLinear", [x], 3)
    m.output(codes, np.uint8)
    m.output(scale, np.float32)
    m.output(zero, np.uint8)
    return [{x: real(m, 3, 8)}, {}]


def nothing_to_multiply(m):
    x = m.input(real(m, 0, 8), dynamic=True)
    codes, scale, zero = m.node("DynamicQuantizeLinear", [x], 3)
    sums = m.node("MatMulInteger", [codes, m.const(m.codes((8, 6), np.int8)), zero])
    m.output(m.node("Add", [floats_of_sums(m, sums, scale, np.float32(0.02)), m.const(real(m, 6))]), np.float32)
    return [{x: real(m, 3, 8)}, {}]


def difference_named_add(m):
    m.function("Add", ["a", "b"], [helper.make_node("Sub", ["a", "b"], ["y"])])
    codes, scale, zero = m.node("DynamicQuantizeLinear", [m.input(real(m, 4, 8))], 3)
    sums = m.node("MatMulInteger", [codes, m.const(m.codes((8, 6), np.int8)), zero])
    floats = floats_of_sums(m, sums, scale, np.float32(0.02))
    m.output(m.node("Add", [floats, m.const(real(m, 6))], domain="own"), np.float32)


def own_dequantize(m):
    m.function("DequantizeLinear", ["x", "s", "z"], [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f"]),
                                                     helper.make_node("Neg", ["f"], ["y"])])
    x = [m.input(m.codes((4, 8), np.uint8)), m.const(np.float32(0.05)), m.const(np.uint8(128))]
    m.output(quantized(m, m.node("Sigmoid", [m.node("DequantizeLinear", x, domain="own")]), 0.01), np.uint8)


def own_quantize(m):
    m.function("QuantizeLinear", ["x", "s", "z"], [helper.make_node("Neg", ["x"], ["f"]),
                                                   helper.make_node("QuantizeLinear", ["f", "s", "z"], ["y"])])
    x = m.node("Sigmoid", [dequantized(m, m.input(m.codes((4, 8), np.uint8)))])
    m.output(m.node("QuantizeLinear", [x, m.const(np.float32(0.01)), m.const(np.uint8(128))], domain="own"), np.uint8)


def quantization_of_microsoft(m):
    """The same two operators of the other domain belong to patterns."""
    q = [m.const(np.float32(0.05)), m.const(np.uint8(128))]
    x = m.node("DequantizeLinear", [m.input(m.codes((4, 8), np.uint8))] + q, domain=models.MS)
    m.output(m.node("QuantizeLinear", [m.node("Sigmoid", [x])] + q, domain=models.MS), np.uint8)


CASES = [read_by_sub_graphs, pattern_read_by_sub_graphs, scale_of_another_part, batches_of_weights,
         scale_of_more_dimensions, batches_to_floats, factor_before_a_bias, negative_factor, bias_of_rows,
         codes_of_a_bias_of_rows, too_many_zero_points, too_few_zero_points, moved_constant, halved_image,
         softmax_with_a_large_step, softmax_of_other_widths, limits_below_zero, padding_that_takes_away, no_rows,
         too_large_factors, too_large_ratios, nothing_to_quantize, nothing_to_multiply, difference_named_add, own_dequantize, own_quantize,
         quantization_of_microsoft]
CLAIMED = [read_by_sub_graphs, pattern_read_by_sub_graphs, scale_of_another_part, batches_of_weights, no_rows,
           nothing_to_quantize, nothing_to_multiply, softmax_of_other_widths, quantization_of_microsoft]


def results(model, runs, **kwargs):
    """The outputs of all runs, or the error that ended them."""
    try:
        s = plugin.session(model, optimize=False, **kwargs)
        return [y for feeds in runs for y in s.run(None, feeds)]
    except Exception as e:
        return e


def check(case):
    m = models.Model(np.random.default_rng(3))
    more = case(m) or []
    runs = [dict(m.feeds, **feeds) for feeds in [{}] + more]
    device = {"device": "ref"}
    want, got = (results(m.bytes(), runs, level=4, **k) for k in ({"plugin": False}, {"options": device}))
    if isinstance(want, Exception):
        assert isinstance(got, Exception), "the CPU fails: %s" % want
        return
    assert not isinstance(got, Exception), got
    for w, g in zip(want, got):
        assert w.shape == g.shape and w.dtype == g.dtype, (w.shape, g.shape, w.dtype, g.dtype)
        assert np.allclose(w.astype(np.float64), g.astype(np.float64), rtol=1e-5, atol=1e-5), (w, g)
    if case in CLAIMED:  # the host goes on alone where it refuses what was claimed
        _, nodes = plugin.profiled(m.bytes(), m.feeds, options=device, optimize=False)
        assert any(n["provider"] == plugin.NAME for n in nodes), plugin.stayed(nodes)


def main():
    failures = 0
    for case in CASES:
        try:
            check(case)
        except Exception:
            failures += 1
            print("%s FAILS" % case.__name__)
            traceback.print_exc(file=sys.stdout)
    print("%d of %d edges hold" % (len(CASES) - failures, len(CASES)))
    plugin.done(failures)


if __name__ == "__main__":
    main()
