"""Small models, each around one operator, of random shapes, types and quantization."""
import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper

MS = "com.microsoft"
TYPES = {np.dtype(np.uint8): T.UINT8, np.dtype(np.int8): T.INT8, np.dtype(np.float32): T.FLOAT,
         np.dtype(np.int32): T.INT32, np.dtype(np.float16): T.FLOAT16, np.dtype(np.int16): T.INT16,
         np.dtype(np.uint16): T.UINT16, np.dtype(np.int64): T.INT64, np.dtype(bool): T.BOOL}


class Model:
    """A model that grows node by node; arrays become constants or inputs."""

    def __init__(self, rng, opset=21):
        self.rng, self.opset = rng, opset
        self.nodes, self.constants, self.inputs, self.outputs, self.feeds = [], [], [], [], {}
        self.count = 0
        self.functions = []  # of the domain "own"

    def name(self):
        self.count += 1
        return "v%d" % self.count

    def const(self, array, onnx_type=None):
        name = self.name()
        if onnx_type is None:
            self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        else:  # types that numpy has not: packed codes
            array = np.asarray(array)
            self.constants.append(helper.make_tensor(name, onnx_type, array.shape, array.flatten().tolist()))
        return name

    def input(self, array, dynamic=False):
        name = self.name()
        shape = [name + "_%d" % i for i in range(array.ndim)] if dynamic else array.shape
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[array.dtype], shape))
        self.feeds[name] = array
        return name

    def node(self, op, inputs, outputs=1, domain="", **attributes):
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, name="n_" + names[0], **attributes))
        return names[0] if outputs == 1 else names

    def output(self, name, dtype):
        self.outputs.append(helper.make_tensor_value_info(name, dtype if isinstance(dtype, int) else TYPES[np.dtype(dtype)], None))

    def bytes(self):
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MS, 1)]
        opsets += [helper.make_opsetid("own", 1)] * bool(self.functions)
        return helper.make_model(graph, opset_imports=opsets, functions=self.functions, ir_version=10).SerializeToString()

    def function(self, name, inputs, nodes):
        """Defines an operator of the domain "own", whose result is y."""
        opsets = [helper.make_opsetid("", self.opset)]
        self.functions.append(helper.make_function("own", name, inputs, ["y"], nodes, opsets))

    # Random parts

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def size(self, least, most):
        return int(self.rng.integers(least, most + 1))

    def code_type(self):
        return self.pick(np.uint8, np.int8)

    def codes(self, shape, dtype):
        info = np.iinfo(dtype)
        return self.rng.integers(info.min, info.max + 1, shape).astype(dtype)

    def scale(self, n=None):
        """Often a power of two times a small number, where ties lie."""
        size = () if n is None else (n,)
        if self.rng.integers(2):
            return (self.rng.integers(1, 8, size) * 2.0 ** -self.rng.integers(1, 9)).astype(np.float32)
        return np.exp(self.rng.uniform(-6, 0, size)).astype(np.float32)

    def zero(self, dtype, n=None):
        return self.codes(() if n is None else (n,), dtype)

    def quant(self, dtype):
        """Names of a scale and a zero point."""
        return [self.const(self.scale()), self.const(self.zero(dtype))]

    def tenths(self):
        """A scale that no float holds: where results lie on ties but for that, the steps on the way decide."""
        return np.float32(0.1) * np.float32(self.size(1, 8))

    def small_zero(self, dtype):
        return np.array(self.size(3, 8), dtype)

    def codes_near(self, zero, most, shape):
        low = -min(most, int(zero) - np.iinfo(zero.dtype).min)
        return np.asarray(zero + self.rng.integers(low, most + 1, shape), zero.dtype)

    def dequantized(self, name, dtype):
        q = self.quant(dtype)
        return self.node("DequantizeLinear", [name] + q)

    def quantized(self, name, dtype, q=None):
        y = self.node("QuantizeLinear", [name] + (q or self.quant(dtype)))
        self.output(y, dtype)


# ---- Products -----------------------------------------------------------------------------------------------


def product_shapes(m):
    lead = [m.size(1, 3) for _ in range(m.size(0, 2))]
    return lead + [m.size(1, 9), m.size(1, 80)], m.size(1, 40)


def matmul_integer(m):
    a, n = product_shapes(m)
    at, bt = m.pick((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    b = m.codes((a[-1], n), bt)
    if m.size(0, 2) == 0:  # of a batch, and not constant
        b = m.input(m.codes(a[:-2] + [a[-1], n], bt))
    else:
        b = m.const(b)
    inputs = [m.input(m.codes(a, at), m.pick(False, True)), b]
    if m.size(0, 1):
        each = None if b in m.feeds and len(a) > 2 else m.pick(None, n)
        inputs += [m.const(m.zero(at)), m.const(m.zero(bt, each))]
    m.output(m.node("MatMulInteger", inputs), np.int32)


def qlinear_matmul(m):
    a, n = product_shapes(m)
    at, bt = m.pick((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    yt = at
    each = m.pick(None, n) if bt == np.int8 else None
    b_zero = np.zeros(() if each is None else each, bt) if each else m.zero(bt)
    inputs = [m.input(m.codes(a, at), m.pick(False, True))] + m.quant(at)
    inputs += [m.const(m.codes((a[-1], n), bt)), m.const(m.scale(each)), m.const(b_zero)] + m.quant(yt)
    m.output(m.node("QLinearMatMul", inputs), yt)


def qgemm(m):
    rows, k, n = m.size(1, 9), m.size(1, 80), m.size(1, 40)
    at, bt = m.pick((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    trans = m.size(0, 1)
    b = m.codes((n, k) if trans else (k, n), bt)
    inputs = [m.input(m.codes((rows, k), at), m.pick(False, True))] + m.quant(at) + [m.const(b)] + m.quant(bt)
    inputs.append(m.const(m.rng.integers(-5000, 5000, n).astype(np.int32)) if m.size(0, 1) else "")
    quantized = m.size(0, 1)
    if quantized:
        inputs += m.quant(at)
    m.output(m.node("QGemm", inputs, domain=MS, transB=trans, alpha=m.pick(1.0, 0.5)), at if quantized else np.float32)


def qdq_matmul(m):
    a, n = product_shapes(m)
    t, bt = np.uint8, m.pick(np.uint8, np.int8)
    x = m.dequantized(m.input(m.codes(a, t), m.pick(False, True)), t)
    w = m.node("DequantizeLinear", [m.const(m.codes((a[-1], n), bt))] + m.quant(bt))
    m.quantized(m.node("MatMul", [x, w]), t)


def qdq_gemm(m):
    rows, k, n = m.size(1, 9), m.size(1, 80), m.size(1, 40)
    xs, ws = m.scale(), m.scale()
    trans = m.size(0, 1)
    x = m.node("DequantizeLinear", [m.input(m.codes((rows, k), np.uint8)), m.const(xs), m.const(m.zero(np.uint8))])
    b = m.codes((n, k) if trans else (k, n), np.int8)
    w = m.node("DequantizeLinear", [m.const(b), m.const(ws), m.const(np.int8(0))])
    bias = m.node("DequantizeLinear", [m.const(m.rng.integers(-5000, 5000, n).astype(np.int32)), m.const(xs * ws)])
    m.quantized(m.node("Gemm", [x, w, bias], transB=trans), np.uint8)


def nbits(m):
    bits, block = m.pick(4, 8), m.pick(16, 32, 64, 128, 256)
    k, n, rows = m.size(1, 300), m.size(1, 40), m.size(1, 9)
    if bits == 8:  # all that the CPU has
        k = -(-k // block) * block
    groups = -(-k // block)
    b = m.codes((n, groups, block * bits // 8), np.uint8)
    inputs = [m.input(m.rng.standard_normal((m.size(1, 2), rows, k)).astype(np.float32), m.pick(False, True)),
              m.const(b), m.const((m.rng.uniform(0.01, 0.1, n * groups)).astype(np.float32))]
    kind = m.size(0, 2 if bits == 4 else 1)
    if kind == 1:
        inputs.append(m.const(m.codes((n * -(-groups * bits // 8),), np.uint8)))
    elif kind == 2:
        inputs.append(m.const(m.rng.uniform(0, 2 ** bits, n * groups).astype(np.float32)))
    if m.size(0, 1):
        inputs += [""] * (5 - len(inputs)) + [m.const(m.rng.standard_normal(n).astype(np.float32))]
    m.output(m.node("MatMulNBits", inputs, domain=MS, K=k, N=n, bits=bits, block_size=block), np.float32)


def weight_only(m):
    k, n, rows = 32 * m.size(1, 6), 2 * m.size(1, 20), m.size(1, 9)
    x = m.input(m.rng.standard_normal((rows, k)).astype(np.float32), m.pick(False, True))
    kind = m.size(0, 2)
    if kind == 0:  # blocks of int4
        block = m.pick(16, 32)
        w = m.const(m.rng.integers(-8, 8, (k, n)), T.INT4)
        scale = m.rng.uniform(0.01, 0.1, (k // block, n)).astype(np.float32)
        zero = m.const(m.rng.integers(-8, 8, (k // block, n)), T.INT4)
        w = m.node("DequantizeLinear", [w, m.const(scale), zero], axis=0, block_size=block)
    else:  # int8 by column, or for all
        w = m.const(m.codes((k, n), np.int8))
        each = n if kind == 1 else None
        w = m.node("DequantizeLinear", [w, m.const(m.scale(each)), m.const(np.zeros(each or (), np.int8))], axis=1)
    m.output(m.node("MatMul", [x, w]), np.float32)


def dynamic_matmul(m):
    a, n = product_shapes(m)
    x, xs, xz = m.node("DynamicQuantizeLinear", [m.input(m.rng.standard_normal(a).astype(np.float32), m.pick(False, True))], 3)
    bt = m.code_type()
    each = m.pick(None, n)
    acc = m.node("MatMulInteger", [x, m.const(m.codes((a[-1], n), bt)), xz, m.const(m.zero(bt, each))])
    scales = m.node("Mul", [xs, m.const(m.scale(each))])
    y = m.node("Mul", [m.node("Cast", [acc], to=T.FLOAT), scales])
    if m.size(0, 1):
        y = m.node("Add", [y, m.const(m.rng.standard_normal(n).astype(np.float32))])
    m.output(y, np.float32)


# ---- Convolutions and pools -----------------------------------------------------------------------------------


def image(m, channels):
    dims = m.pick(1, 2, 2)
    return [m.size(1, 2), channels] + [m.size(5, 14) for _ in range(dims)]


def window(m, dims, kernel):
    mode = m.size(0, 3)
    attributes = {"strides": [m.size(1, 2) for _ in range(dims)]}
    if mode == 0:
        attributes["auto_pad"] = m.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    elif mode > 1:
        attributes["pads"] = [m.size(0, k - 1) for k in kernel] + [m.size(0, k - 1) for k in kernel]
    return attributes


def conv_parts(m, wt):
    groups = m.pick(1, 1, 2)
    per, out = m.size(1, 6), groups * m.size(1, 5)
    if m.size(0, 3) == 0:
        groups, per = m.size(2, 8), 1
        out = groups
    x = image(m, groups * per)
    kernel = [m.size(1, 3) for _ in x[2:]]
    attributes = window(m, len(kernel), kernel)
    attributes.update(group=groups, kernel_shape=kernel)
    if "auto_pad" not in attributes and m.size(0, 1):
        attributes["dilations"] = [m.size(1, 2) for _ in kernel]
    return x, m.codes([out, per] + kernel, wt), attributes


def conv_integer(m):
    wt = np.uint8
    x, w, attributes = conv_parts(m, wt)
    inputs = [m.input(m.codes(x, np.uint8), m.pick(False, True)), m.const(w)]
    if m.size(0, 1):
        inputs += [m.const(m.zero(np.uint8)), m.const(m.zero(wt))]
    m.output(m.node("ConvInteger", inputs, **attributes), np.int32)


def dynamic_conv(m):
    x, w, attributes = conv_parts(m, np.uint8)
    data = m.input(m.rng.standard_normal(x).astype(np.float32), m.pick(False, True))
    q, qs, qz = m.node("DynamicQuantizeLinear", [data], 3)
    acc = m.node("ConvInteger", [q, m.const(w), qz, m.const(m.zero(np.uint8))], **attributes)
    y = m.node("Mul", [m.node("Cast", [acc], to=T.FLOAT), m.node("Mul", [qs, m.const(m.scale())])])
    if m.size(0, 1):
        shape = [1, len(w)] + [1] * (len(x) - 2)
        y = m.node("Add", [y, m.const(m.rng.standard_normal(shape).astype(np.float32))])
    m.output(y, np.float32)


def qlinear_conv(m):
    t, wt = m.code_type(), np.int8
    if t == np.uint8:
        wt = m.code_type()
    x, w, attributes = conv_parts(m, wt)
    each = m.pick(None, len(w)) if wt == np.int8 else None
    inputs = [m.input(m.codes(x, t), m.pick(False, True))] + m.quant(t)
    w_zero = np.zeros(each or (), np.int8) if wt == np.int8 else m.zero(wt)
    inputs += [m.const(w), m.const(m.scale(each)), m.const(w_zero)] + m.quant(t)
    if m.size(0, 1):
        inputs.append(m.const(m.rng.integers(-5000, 5000, len(w)).astype(np.int32)))
    m.output(m.node("QLinearConv", inputs, **attributes), t)


def qdq_conv(m):
    t = np.uint8
    x, w, attributes = conv_parts(m, np.int8)
    each = m.pick(None, len(w))
    xs, ws = m.scale(), m.scale(each)
    data = m.node("DequantizeLinear", [m.input(m.codes(x, t), m.pick(False, True)), m.const(xs), m.const(m.zero(t))])
    weights = m.node("DequantizeLinear", [m.const(w), m.const(ws), m.const(np.zeros(each or (), np.int8))], axis=0)
    inputs = [data, weights]
    if m.size(0, 1):
        bias = m.const(m.rng.integers(-5000, 5000, len(w)).astype(np.int32))
        inputs.append(m.node("DequantizeLinear", [bias, m.const(xs * ws)], axis=0))
    m.quantized(m.node("Conv", inputs, **attributes), t)


def pool_attributes(m, x):
    kernel = [m.size(1, 3) for _ in x[2:]]
    attributes = window(m, len(kernel), kernel)
    attributes["kernel_shape"] = kernel
    return attributes


def pool_codes(m, t, shape, area):
    """Codes of an image, their quantization and that of means; often halves, or nearly so."""
    if m.size(0, 1):
        return m.codes(shape, t), m.quant(t), m.quant(t)
    scale, zero = m.tenths(), m.small_zero(t)
    y = [m.const(2 * scale / np.float32(area)), m.const(np.array(m.size(0, 3), t))]
    return m.codes_near(zero, 3, shape), [m.const(scale), m.const(zero)], y


def average_pool(m, qdq):
    t, x = m.code_type(), image(m, m.size(1, 5))
    attributes = pool_attributes(m, x)
    codes, x_quant, y_quant = pool_codes(m, t, x, np.prod(attributes["kernel_shape"]))
    data = m.input(codes, m.pick(False, True))
    if qdq:
        m.quantized(m.node("AveragePool", [m.node("DequantizeLinear", [data] + x_quant)], **attributes), t, y_quant)
    else:
        attributes["count_include_pad"] = m.size(0, 1)
        m.output(m.node("QLinearAveragePool", [data] + x_quant + y_quant, domain=MS, **attributes), t)


def global_pool(m, qdq):
    t, x = m.code_type(), image(m, m.size(1, 40))
    codes, x_quant, y_quant = pool_codes(m, t, x, np.prod(x[2:]))
    data = m.input(codes, m.pick(False, True))
    if qdq:
        m.quantized(m.node("GlobalAveragePool", [m.node("DequantizeLinear", [data] + x_quant)]), t, y_quant)
    else:
        m.output(m.node("QLinearGlobalAveragePool", [data] + x_quant + y_quant, domain=MS, channels_last=0), t)


def qdq_max_pool(m):
    t, x = np.uint8, image(m, m.size(1, 5))
    q = m.quant(t)
    data = m.node("DequantizeLinear", [m.input(m.codes(x, t))] + q)
    m.quantized(m.node("MaxPool", [data], **pool_attributes(m, x)), t, q)


# ---- Between floats and codes ---------------------------------------------------------------------------------


def linear_shape(m):
    return [m.size(1, 9) for _ in range(m.size(1, 6))]


def quantize(m):
    t, shape = m.pick(np.uint8, np.int8, np.uint16, np.int16), linear_shape(m)
    axis = m.size(0, len(shape) - 1)
    each = m.pick(None, shape[axis])
    x = m.input((m.rng.standard_normal(shape) * 10).astype(np.float32), m.pick(False, True))
    y = m.node("QuantizeLinear", [x, m.const(m.scale(each)), m.const(m.zero(t, each))], axis=axis if each else 0)
    m.output(y, t)


def dequantize(m):
    t, shape = m.pick(np.uint8, np.int8, np.uint16, np.int16, np.int32), linear_shape(m)
    axis = m.size(0, len(shape) - 1)
    each = m.pick(None, shape[axis])
    x = m.input(m.codes(shape, t), m.pick(False, True))
    zero = np.zeros(each or (), t) if t == np.int32 else m.zero(t, each)
    m.output(m.node("DequantizeLinear", [x, m.const(m.scale(each)), m.const(zero)], axis=axis if each else 0), np.float32)


def blocked(m):
    shape = [m.size(2, 9) for _ in range(m.size(1, 4))]
    axis = m.size(0, len(shape) - 1)
    block = m.size(1, shape[axis] - 1)
    scales = list(shape)
    scales[axis] = -(-shape[axis] // block)
    t = m.code_type()
    x = m.input((m.rng.standard_normal(shape) * 10).astype(np.float32))
    parameters = [m.const(m.scale(int(np.prod(scales))).reshape(scales)), m.const(m.codes(scales, t))]
    codes = m.node("QuantizeLinear", [x] + parameters, axis=axis, block_size=block)
    m.output(codes, t)
    m.output(m.node("DequantizeLinear", [codes] + parameters, axis=axis, block_size=block), np.float32)


def dynamic(m):
    x = m.input((m.rng.standard_normal(linear_shape(m)) * m.pick(1, 100)).astype(np.float32), m.pick(False, True))
    names = m.node("DynamicQuantizeLinear", [x], 3)
    for name, t in zip(names, (np.uint8, np.float32, np.uint8)):
        m.output(name, t)


# ---- Element by element ---------------------------------------------------------------------------------------


def broadcast_shapes(m):
    y = [m.size(1, 7) for _ in range(m.size(1, 4))]
    shapes = [[1 if m.size(0, 4) == 0 else d for d in y] for _ in range(2)]
    shapes[m.size(0, 1)][: m.size(0, 1) * m.size(0, len(y))] = []
    return shapes


def binary_codes(m, op, kinds, t):
    """Codes of a and b, their scales and zero points and those of the result; often sums or products that are halves, or
    nearly so."""
    shapes = broadcast_shapes(m)
    if m.size(0, 1):
        codes = [m.codes(shape, kind) for shape, kind in zip(shapes, kinds)]
        return codes, [(m.scale(), m.zero(kind)) for kind in kinds + [t]]
    zeros, scales, odd = [m.small_zero(kind) for kind in kinds], [m.tenths(), m.tenths()], np.float32(m.pick(3, 5))
    codes = [m.codes_near(zero, 8, shape) for zero, shape in zip(zeros, shapes)]
    scales.append(2 * odd * scales[0] * scales[1] if op == "Mul" else np.float32(0.2) * odd)
    zeros.append(np.array(m.size(-6 if t == np.int8 else 0, 6), t))
    return codes, list(zip(scales, zeros))


def binary(m, op, qdq):
    t = m.code_type()
    kinds = [m.pick(t, t, m.code_type()) if qdq else t for _ in range(2)]
    (a, b), quants = binary_codes(m, op, kinds, t)
    left, right, y = ([m.const(v) for v in q] for q in quants)
    a = m.input(a, m.pick(False, True))
    b = m.input(b) if qdq or m.size(0, 1) else m.const(b)
    if not qdq:
        m.output(m.node("QLinear" + op, [a] + left + [b] + right + y, domain=MS), t)
        return
    result = m.node(op, [m.node("DequantizeLinear", [a] + left), m.node("DequantizeLinear", [b] + right)])
    after = m.pick(None, "Relu", "Clip")
    if after:
        limit = np.float32(m.pick(2.3, 300)) * quants[2][0]  # 300: beyond all codes
        result = m.node(after, [result] + [m.const(-limit), m.const(limit)] * (after == "Clip"))
    m.quantized(result, t, y)


def parts(m):
    shape = [m.size(1, 5) for _ in range(m.size(1, 5))]
    axis = m.size(0, len(shape) - 1)
    shapes = []
    for _ in range(m.size(1, 10)):
        shape = list(shape)
        shape[axis] = m.size(1, 4)
        shapes.append(shape)
    return shapes, axis


def qlinear_concat(m):
    t = m.code_type()
    shapes, axis = parts(m)
    inputs = m.quant(t)
    for shape in shapes:
        inputs += [m.input(m.codes(shape, t), m.pick(False, True))] + m.quant(t)
    m.output(m.node("QLinearConcat", inputs, domain=MS, axis=axis), t)


def qdq_concat(m):
    t = np.uint8
    shapes, axis = parts(m)
    m.quantized(m.node("Concat", [m.dequantized(m.input(m.codes(s, t)), t) for s in shapes], axis=axis), t)


def qlinear_function(m, op):
    t = m.code_type()
    attributes = {"alpha": float(m.rng.uniform(0, 0.5))} if op == "QLinearLeakyRelu" else {}
    inputs = [m.input(m.codes(linear_shape(m), t), m.pick(False, True))] + m.quant(t) + m.quant(t)
    m.output(m.node(op, inputs, domain=MS, **attributes), t)


def qdq_function(m):
    t = m.code_type()
    x = m.dequantized(m.input(m.codes(linear_shape(m), t)), t)
    op = m.pick("Relu", "Clip", "Sigmoid", "LeakyRelu", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Add", "Sub", "Mul", "Div")
    limits = [m.const(np.float32(-0.5)), m.const(np.float32(1.5))] if op == "Clip" else []
    if op in ("Add", "Sub", "Mul", "Div"):
        limits = [m.const(np.float32(m.pick(3, 6, m.scale())))]
    inputs = limits + [x] if op in ("Sub", "Div") and m.size(0, 1) else [x] + limits
    m.quantized(m.node(op, inputs), t)


def qlinear_softmax(m):
    """Few columns and many, of which one is alone where floats overflow; shares that are ties, and too large for a code."""
    t, shape = m.code_type(), linear_shape(m)[:3]
    columns = shape[-1] = m.pick(1, 2, 3, 4, 8, 10, 64, 257, 1000)
    least = int(np.iinfo(t).min)
    codes = least + m.size(0, 255) // m.pick(1, 256) + m.rng.integers(0, m.pick(1, 2, 16, 256), shape)
    codes = np.minimum(codes, least + 255).astype(t)
    y_scale = m.pick(1 / 255, 1 / 256, 1 / 127, 2 / (columns * m.pick(1, 3, 5, 7)), 1.5)
    zero = np.array(least + m.pick(0, 0, 0, 128, 255, m.size(0, 255)), t)
    inputs = [m.input(codes, m.pick(False, True)), m.const(m.scale() * np.float32(m.pick(1, 1, 0.01, 100))),
              m.const(m.zero(t)), m.const(np.float32(y_scale)), m.const(zero)]
    if m.pick(False, True):
        m.output(m.node("QLinearSoftmax", inputs, domain=MS, axis=-1, opset=13), t)
    else:
        axis = m.size(0, len(shape) - 1)
        m.output(m.node("QLinearSoftmax", inputs, domain=MS, axis=axis, opset=12), t)


def qdq_softmax(m):
    t, shape = m.code_type(), linear_shape(m)
    x = m.dequantized(m.input(m.codes(shape, t), m.pick(False, True)), t)
    y_scale, zero = m.const(np.float32(m.pick(1 / 255, 1 / 256, 1 / 127))), m.const(np.array(np.iinfo(t).min, t))
    m.output(m.node("QuantizeLinear", [m.node("Softmax", [x], axis=-1), y_scale, zero]), t)


# ---- Movement, between a pair that makes it worth going to the device -----------------------------------------


def moved(m):
    """Codes that are made, moved and read on the device."""
    t = m.code_type()
    shape = [m.size(1, 3), m.size(1, 4), m.size(3, 7), m.size(3, 7)]
    q = m.quant(t)
    x = m.node("QuantizeLinear", [m.input((m.rng.standard_normal(shape) * 4).astype(np.float32))] + q)
    kind = m.pick("Reshape", "Flatten", "Transpose", "MaxPool", "Pad", "Resize", "Unsqueeze", "Concat")
    if kind == "Reshape":
        y = m.node(kind, [x, m.const(np.array([0, -1, shape[3]]))])
    elif kind == "Transpose":
        y = m.node(kind, [x], perm=[int(i) for i in m.rng.permutation(4)])
    elif kind == "MaxPool":
        y = m.node(kind, [x], **pool_attributes(m, shape))
    elif kind == "Pad":
        mode = m.pick("constant", "edge", "reflect")
        pads = np.array([m.size(0, 2) if mode != "reflect" or i % 4 > 1 else 0 for i in range(8)])
        y = m.node(kind, [x, m.const(pads), m.const(m.zero(t))], mode=mode)
    elif kind == "Resize":
        y = m.node(kind, [x, "", m.const(np.array([1, 1, 2, 3], np.float32))], mode="nearest", nearest_mode="floor",
                   coordinate_transformation_mode=m.pick("asymmetric", "half_pixel"))
    elif kind == "Unsqueeze":
        y = m.node("Squeeze", [m.node(kind, [x, m.const(np.array([0, 2]))]), m.const(np.array([2]))])
    elif kind == "Concat":
        y = m.node(kind, [x, x, x], axis=2)
    else:
        y = m.node(kind, [x], axis=2)
    m.output(y, t)
    m.output(m.node("DequantizeLinear", [y] + q), np.float32)


def qdq_moved(m):
    t = np.uint8
    shape = [m.size(1, 3), m.size(1, 4), m.size(3, 7), m.size(3, 7)]
    q = m.quant(t)
    x = m.node("DequantizeLinear", [m.input(m.codes(shape, t))] + q)
    kind = m.pick("Reshape", "Transpose", "Resize")
    if kind == "Reshape":
        y = m.node(kind, [x, m.const(np.array([0, -1, shape[3]]))])
    elif kind == "Transpose":
        y = m.node(kind, [x], perm=[int(i) for i in m.rng.permutation(4)])
    else:
        y = m.node(kind, [x, "", m.const(np.array([1, 1, 2, 2], np.float32))], mode="nearest", nearest_mode="floor")
    m.quantized(y, t, q)


CASES = {
    "MatMulInteger": matmul_integer, "QLinearMatMul": qlinear_matmul, "QGemm": qgemm, "qdq MatMul": qdq_matmul,
    "qdq Gemm": qdq_gemm, "MatMulNBits": nbits, "weight-only MatMul": weight_only, "dynamic MatMul": dynamic_matmul,
    "ConvInteger": conv_integer, "dynamic Conv": dynamic_conv, "QLinearConv": qlinear_conv, "qdq Conv": qdq_conv,
    "QLinearAveragePool": lambda m: average_pool(m, False), "qdq AveragePool": lambda m: average_pool(m, True),
    "QLinearGlobalAveragePool": lambda m: global_pool(m, False), "qdq GlobalAveragePool": lambda m: global_pool(m, True),
    "qdq MaxPool": qdq_max_pool,
    "QuantizeLinear": quantize, "DequantizeLinear": dequantize, "blocks": blocked, "DynamicQuantizeLinear": dynamic,
    "QLinearAdd": lambda m: binary(m, "Add", False), "QLinearMul": lambda m: binary(m, "Mul", False),
    "qdq Add": lambda m: binary(m, "Add", True), "qdq Mul": lambda m: binary(m, "Mul", True), "qdq Sub": lambda m: binary(m, "Sub", True),
    "QLinearConcat": qlinear_concat, "qdq Concat": qdq_concat,
    "QLinearSigmoid": lambda m: qlinear_function(m, "QLinearSigmoid"),
    "QLinearLeakyRelu": lambda m: qlinear_function(m, "QLinearLeakyRelu"), "qdq functions": qdq_function,
    "QLinearSoftmax": qlinear_softmax, "qdq Softmax": qdq_softmax,
    "movement": moved, "qdq movement": qdq_moved,
}
