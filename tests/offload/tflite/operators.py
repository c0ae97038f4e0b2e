"""Random models of one operator each. A generator takes a random generator and gives a model and its inputs."""
import numpy as np

from model import Model

BYTES = {"i8": (-128, 127, np.int8), "u8": (0, 255, np.uint8)}
PADDINGS = {"same": 0, "valid": 1}
NONE, RELU, RELU_N1, RELU6 = 0, 1, 2, 3


def size(r, most):
    return int(r.integers(1, most + 1))


def pick(r, *values):
    return values[int(r.integers(len(values)))]


def scale(r):
    """One in three a power of two, so that there are ties."""
    s = 2.0 ** int(r.integers(-9, 0))
    return s if r.integers(3) == 0 else float(np.float32(s * r.uniform(1, 2)))


def zero(r, t):
    low, high, _ = BYTES[t]
    return int(pick(r, low, high, 0 if t == "i8" else 128, r.integers(low, high + 1)))


def codes(r, t, shape, spread=None):
    low, high, dtype = BYTES[t]
    if spread:
        mid = int(r.integers(low, high + 1))
        low, high = max(low, mid - spread), min(high, mid + spread)
    return r.integers(low, high + 1, shape).astype(dtype)


def act(m, r, t, shape, s=None, z=None):
    return m.tensor(t, shape, scale(r) if s is None else s, zero(r, t) if z is None else z)


def weights(m, r, t, shape, axis, per_channel):
    """Constant weights: int8 or int4 with a scale, or one for each channel; uint8 with a zero point."""
    if t == "u8":
        return m.tensor(t, shape, scale(r) * 0.1, int(r.integers(256)), data=codes(r, t, shape))
    low = {"i8": -128 if r.integers(4) == 0 else -127, "i4": -8}[t]
    data = r.integers(low, {"i8": 128, "i4": 8}[t], shape)
    grow = 16.0 if t == "i4" else 1.0
    if per_channel:
        s = [scale(r) * 0.1 * grow * float(r.uniform(0.2, 1)) for _ in range(shape[axis])]
        return m.tensor(t, shape, s, 0, axis, data=data)
    return m.tensor(t, shape, scale(r) * 0.1 * grow, 0, data=data)


def output_scale(r, terms):
    """Of a layer: so that few sums leave the range of the codes."""
    return float(np.float32(scale(r) * np.sqrt(terms) * r.uniform(0.5, 4)))


def bias(m, r, x, w, n):
    """A bias in the scale of the sums."""
    s = np.float32(m.tensors[x].quantization.scale[0]) * m.tensors[w].quantization.scale
    return m.tensor("i32", (n,), s, 0, data=r.integers(-3000, 3000, n))


def fully_connected(r, w_type=None):
    m = Model()
    t = "i8" if w_type else pick(r, "i8", "i8", "i8", "u8")
    w_type = w_type or t
    k, n, rows = size(r, 150), size(r, 40), size(r, 5)
    shape = (rows, k) if r.integers(2) else (rows, 1, k)
    x = act(m, r, t, shape)
    w = weights(m, r, w_type, (n, k), 0, t == "i8" and r.integers(2))
    b = bias(m, r, x, w, n) if r.integers(4) else -1
    keep = bool(r.integers(2))
    y = act(m, r, t, (shape[:-1] if keep else (rows,)) + (n,), output_scale(r, k))
    m.op("FULLY_CONNECTED", [x, w, b], [y], "FullyConnected", 4, keepNumDims=keep,
         fusedActivationFunction=pick(r, NONE, RELU, RELU6, RELU_N1))
    return m.finish([x], [y]), [codes(r, t, shape)]


def fully_connected_int4(r):
    return fully_connected(r, "i4")


def image(r, channels, most=11):
    return (size(r, 3), size(r, most), size(r, most), channels)


def out_size(n, kernel, stride, dilation, padding):
    reach = (kernel - 1) * dilation + 1
    return -(-n // stride) if padding == "same" else (n - reach) // stride + 1


def window(r, shape, most=3, dilate=True):
    """kernel, stride, dilation, padding that fit an image."""
    kernel = [min(size(r, most), shape[1]), min(size(r, most), shape[2])]
    dilation = [pick(r, 1, 1, 2) if dilate else 1 for _ in range(2)]
    stride = [size(r, 3), size(r, 3)]
    fits = all((kernel[i] - 1) * dilation[i] < shape[1 + i] for i in range(2))
    padding = pick(r, "same", "valid") if fits else "same"
    out = [out_size(shape[1 + i], kernel[i], stride[i], dilation[i], padding) for i in range(2)]
    return kernel, stride, dilation, padding, out


def conv_2d(r, w_type=None):
    m = Model()
    t = "i8" if w_type else pick(r, "i8", "i8", "i8", "u8")
    groups = pick(r, 1, 1, 2, 3) if t == "i8" and not w_type else 1
    taken, per_group = size(r, 9), size(r, 8)
    shape = image(r, groups * taken)
    kernel, stride, dilation, padding, out = window(r, shape)
    x = act(m, r, t, shape)
    w = weights(m, r, w_type or t, (groups * per_group, *kernel, taken), 0, t == "i8" and r.integers(2))
    b = bias(m, r, x, w, groups * per_group)
    y = act(m, r, t, (shape[0], *out, groups * per_group), output_scale(r, kernel[0] * kernel[1] * taken))
    m.op("CONV_2D", [x, w, b], [y], "Conv2D", 3, padding=PADDINGS[padding], strideH=stride[0], strideW=stride[1],
         dilationHFactor=dilation[0], dilationWFactor=dilation[1],
         fusedActivationFunction=pick(r, NONE, RELU, RELU6, RELU_N1))
    return m.finish([x], [y]), [codes(r, t, shape)]


def conv_2d_int4(r):
    return conv_2d(r, "i4")


def depthwise_conv_2d(r, w_type=None):
    m = Model()
    t = "i8" if w_type else pick(r, "i8", "i8", "i8", "u8")
    channels, multiplier = size(r, 20), pick(r, 1, 1, 2, 3)
    shape = image(r, channels)
    kernel, stride, dilation, padding, out = window(r, shape)
    outputs = channels * multiplier
    x = act(m, r, t, shape)
    w = weights(m, r, w_type or t, (1, *kernel, outputs), 3, t == "i8" and r.integers(2))
    b = bias(m, r, x, w, outputs)  # LiteRT's optimized kernel crashes without
    y = act(m, r, t, (shape[0], *out, outputs), output_scale(r, kernel[0] * kernel[1]))
    m.op("DEPTHWISE_CONV_2D", [x, w, b], [y], "DepthwiseConv2D", 3, padding=PADDINGS[padding], strideH=stride[0],
         strideW=stride[1], dilationHFactor=dilation[0], dilationWFactor=dilation[1], depthMultiplier=multiplier,
         fusedActivationFunction=pick(r, NONE, RELU, RELU6, RELU_N1))
    return m.finish([x], [y]), [codes(r, t, shape)]


def depthwise_conv_2d_int4(r):
    return depthwise_conv_2d(r, "i4")


def pool(r, name):
    m = Model()
    t = pick(r, "i8", "i8", "u8")
    shape = image(r, size(r, 40))
    kernel, stride, _, padding, out = window(r, shape, 4, False)
    s, z = scale(r), zero(r, t)
    x, y = act(m, r, t, shape, s, z), act(m, r, t, (shape[0], *out, shape[3]), s, z)
    m.op(name, [x], [y], "Pool2D", 2, padding=PADDINGS[padding], strideH=stride[0], strideW=stride[1],
         filterHeight=kernel[0], filterWidth=kernel[1], fusedActivationFunction=pick(r, NONE, RELU, RELU6, RELU_N1))
    return m.finish([x], [y]), [codes(r, t, shape)]


def average_pool_2d(r):
    return pool(r, "AVERAGE_POOL_2D")


def max_pool_2d(r):
    return pool(r, "MAX_POOL_2D")


def mean(r):
    m = Model()
    t = pick(r, "i8", "i8", "u8")
    rank = size(r, 4)
    shape = tuple(size(r, 9) for _ in range(rank))
    first = int(r.integers(rank))
    axes = list(range(first, int(r.integers(first, rank)) + 1))
    if rank == 4 and r.integers(2):
        axes = [1, 2]
    keep = bool(r.integers(2))
    out = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes]
    x, y = act(m, r, t, shape), act(m, r, t, out)
    given = [a - rank if r.integers(3) == 0 else a for a in axes]
    a = m.tensor("i32", (len(axes),), data=given)
    m.op("MEAN", [x, a], [y], "Reducer", 2, keepDims=keep)
    return m.finish([x], [y]), [codes(r, t, shape)]


def binary(r, name, options):
    m = Model()
    t = pick(r, "i8", "i8", "u8")
    rank = size(r, 5) if r.integers(3) == 0 else size(r, 4)
    shape = [size(r, 6) for _ in range(rank)]
    shapes = [list(shape), list(shape)]
    if rank <= 4:
        for i in range(rank):
            if r.integers(4) == 0:
                shapes[int(r.integers(2))][i] = 1
        if r.integers(4) == 0:
            shapes[int(r.integers(2))][:int(r.integers(rank))] = []
    out = np.broadcast_shapes(*shapes)
    tensors, inputs = [], []
    for s in shapes:
        data = codes(r, t, s)
        if tensors and r.integers(4) == 0:  # a constant
            tensors.append(m.tensor(t, s, scale(r), zero(r, t), data=data))
        else:
            tensors.append(act(m, r, t, s))
            inputs.append((tensors[-1], data))
    y = act(m, r, t, out)
    m.op(name, tensors, [y], options, 2, fusedActivationFunction=pick(r, NONE, RELU, RELU6, RELU_N1))
    return m.finish([i for i, _ in inputs], [y]), [d for _, d in inputs]


def add(r):
    return binary(r, "ADD", "Add")


def sub(r):
    return binary(r, "SUB", "Sub")


def mul(r):
    return binary(r, "MUL", "Mul")


def softmax(r):
    m = Model()
    t = pick(r, "i8", "i8", "u8")
    shape = tuple(size(r, 4) for _ in range(int(r.integers(0, 3)))) + (size(r, 500),)
    x = act(m, r, t, shape)
    y = m.tensor(t, shape, 1 / 256, BYTES[t][0])
    m.op("SOFTMAX", [x], [y], "Softmax", 2, beta=float(pick(r, 1.0, 1.0, 0.5, 3.25, 100.0)))
    return m.finish([x], [y]), [codes(r, t, shape, pick(r, None, 5, 40))]


def function(r, name, options=None, y_scale=None, y_zero=None, version=2, **fields):
    """All 256 codes."""
    m = Model()
    t = pick(r, "i8", "i8", "u8")
    x = act(m, r, t, (256,))
    y = act(m, r, t, (256,), y_scale, BYTES[t][0] if y_zero == "least" else y_zero)
    m.op(name, [x], [y], options, version, **fields)
    return m.finish([x], [y]), [np.arange(256).astype(np.uint8).view(BYTES[t][2])]


def relu(r):
    return function(r, pick(r, "RELU", "RELU6"))


def relu_n1_to_1(r):
    return function(r, "RELU_N1_TO_1", version=1)


def leaky_relu(r):
    return function(r, "LEAKY_RELU", "LeakyRelu", alpha=float(pick(r, 0.01, 0.1, 0.25, 0.3, 2.0, 0.0)))


def hard_swish(r):
    x = scale(r)
    m = Model()
    t = pick(r, "i8", "u8")
    a = act(m, r, t, (256,), x)
    y = act(m, r, t, (256,), float(np.float32(x * r.uniform(0.05, 2))))
    m.op("HARD_SWISH", [a], [y], "HardSwish")
    return m.finish([a], [y]), [np.arange(256).astype(np.uint8).view(BYTES[t][2])]


def logistic(r):
    return function(r, "LOGISTIC", y_scale=1 / 256, y_zero="least")


def tanh(r):
    return function(r, "TANH", y_scale=1 / 128, y_zero=None)


def requantize(r):
    m = Model()
    a, b = pick(r, "i8", "u8"), pick(r, "i8", "u8")
    x, y = act(m, r, a, (16, 16)), act(m, r, b, (16, 16))
    m.op("QUANTIZE", [x], [y], "Quantize", 2)
    return m.finish([x], [y]), [np.arange(256).astype(np.uint8).view(BYTES[a][2]).reshape(16, 16)]


def channel_scales(r, n):
    return [scale(r) for _ in range(n)], [int(r.integers(-100, 100)) for _ in range(n)]


def quantize(r):
    m = Model()
    t = pick(r, "i8", "i8", "u8")
    shape = (size(r, 4), size(r, 5), size(r, 30))
    x = m.tensor("f32", shape)
    s = scale(r)
    if t == "i8" and r.integers(3) == 0:
        axis = int(r.integers(3))
        y = m.tensor(t, shape, *channel_scales(r, shape[axis]), axis)
    else:
        y = m.tensor(t, shape, s, zero(r, t))
    m.op("QUANTIZE", [x], [y], "Quantize", 1)
    steps = r.integers(-600, 600, shape) * 0.5  # ties
    values = (steps if r.integers(2) else r.normal(0, 100, shape)) * s
    return m.finish([x], [y]), [values.astype(np.float32)]


def dequantize(r):
    m = Model()
    t = pick(r, "i8", "i8", "u8")
    shape = (size(r, 4), size(r, 5), size(r, 30))
    if t == "i8" and r.integers(3) == 0:
        axis = int(r.integers(3))
        x = m.tensor(t, shape, *channel_scales(r, shape[axis]), axis)
    else:
        x = act(m, r, t, shape)
    y = m.tensor("f32", shape)
    m.op("DEQUANTIZE", [x], [y], "Dequantize", 2)
    return m.finish([x], [y]), [codes(r, t, shape)]


def behind(m, r, t, shape, s, z):
    """A model's input and a tensor that an operator computes from it: alone, what only moves elements stays with the
    host."""
    x = m.tensor(t, shape, s, z)
    y = m.tensor(t, shape, s, z)
    m.op("RELU", [x], [y], version=2)
    return x, y


def reshape(r):
    m = Model()
    t = pick(r, "i8", "u8")
    a, b, c = size(r, 6), size(r, 6), size(r, 6)
    s, z = scale(r), zero(r, t)
    x, v = behind(m, r, t, (a, b, c), s, z)
    target = pick(r, (a * b, c), (-1,), (c, -1), (1, a, b, c), (a, b, 1, c, 1))
    y = m.tensor(t, np.empty((a, b, c)).reshape(target).shape, s, z)
    m.op("RESHAPE", [v, m.tensor("i32", (len(target),), data=target)], [y], "Reshape", newShape=list(target))
    w = m.tensor(t, (a, b, c), s, z)
    m.op("RESHAPE", [y, m.tensor("i32", (3,), data=(a, b, c))], [w], "Reshape", newShape=[a, b, c])
    return m.finish([x], [y, w]), [codes(r, t, (a, b, c))]


def squeeze_expand(r):
    m = Model()
    shape = (1, size(r, 5), 1, size(r, 5))
    s, z = scale(r), zero(r, "i8")
    x, v = behind(m, r, "i8", shape, s, z)
    dims = pick(r, [], [0], [2], [-2], [0, 2])
    kept = [n for i, n in enumerate(shape) if not (n == 1 if not dims else i in [d % 4 for d in dims])]
    y = m.tensor("i8", kept, s, z)
    m.op("SQUEEZE", [v], [y], "Squeeze", squeezeDims=dims)
    axis = int(r.integers(-len(kept) - 1, len(kept) + 1))
    w = m.tensor("i8", np.expand_dims(np.empty(kept), axis).shape, s, z)
    m.op("EXPAND_DIMS", [y, m.tensor("i32", (1,), data=[axis])], [w], "ExpandDims")
    u = m.tensor("i8", m.tensors[w].shape, s, z)
    m.op("RELU", [w], [u], version=2)
    return m.finish([x], [u]), [codes(r, "i8", shape)]


def concatenation(r):
    m = Model()
    t = pick(r, "i8", "i8", "u8")
    rank = size(r, 4)
    axis = int(r.integers(rank))
    shape = [size(r, 5) for _ in range(rank)]
    s, z = scale(r), zero(r, t)
    parts, inputs = [], []
    for i in range(size(r, 11)):
        shape[axis] = size(r, 5)
        if i and r.integers(4) == 0:
            parts.append(m.tensor(t, shape, s, z, data=codes(r, t, shape)))
            continue
        x, v = behind(m, r, t, shape, s, z)
        parts.append(v)
        inputs.append((x, codes(r, t, shape)))
    shape[axis] = sum(m.tensors[p].shape[axis] for p in parts)
    y = m.tensor(t, shape, s, z)
    m.op("CONCATENATION", parts, [y], "Concatenation", 2, axis=pick(r, axis, axis - rank))
    return m.finish([i for i, _ in inputs], [y]), [d for _, d in inputs]


def pad(r, name="PAD"):
    m = Model()
    t = pick(r, "i8", "u8") if name != "MIRROR_PAD" else "i8"
    rank = size(r, 4)
    shape = [size(r, 6) for _ in range(rank)]
    most = [n - 1 if name == "MIRROR_PAD" else 3 for n in shape]
    pads = np.array([[int(r.integers(0, n + 1)), int(r.integers(0, n + 1))] for n in most])
    s, z = scale(r), zero(r, t)
    x, v = behind(m, r, t, shape, s, z)
    y = m.tensor(t, [n + a + b for n, (a, b) in zip(shape, pads)], s, z)
    inputs = [v, m.tensor(pick(r, "i32", "i64"), (rank, 2), data=pads)]
    if name == "PADV2":
        inputs.append(m.tensor(t, (1,), s, z, data=codes(r, t, (1,))))
    fields = {"mode": 0} if name == "MIRROR_PAD" else {}
    m.op(name, inputs, [y], {"PAD": "Pad", "PADV2": "PadV2", "MIRROR_PAD": "MirrorPad"}[name], 2, **fields)
    return m.finish([x], [y]), [codes(r, t, shape)]


def padv2(r):
    return pad(r, "PADV2")


def mirror_pad(r):
    return pad(r, "MIRROR_PAD")


def resize_nearest_neighbor(r):
    m = Model()
    t = pick(r, "i8", "u8")
    shape = image(r, size(r, 9), 9)
    out = [size(r, 20), size(r, 20)]
    s, z = scale(r), zero(r, t)
    x, v = behind(m, r, t, shape, s, z)
    y = m.tensor(t, (shape[0], *out, shape[3]), s, z)
    corners, half = pick(r, (False, False), (True, False), (False, True))
    m.op("RESIZE_NEAREST_NEIGHBOR", [v, m.tensor("i32", (2,), data=out)], [y], "ResizeNearestNeighbor", 3,
         alignCorners=corners, halfPixelCenters=half)
    return m.finish([x], [y]), [codes(r, t, shape)]


def transpose(r):
    m = Model()
    t = pick(r, "i8", "u8")
    shape = [size(r, 7) for _ in range(size(r, 4))]
    order = r.permutation(len(shape))
    s, z = scale(r), zero(r, t)
    x, v = behind(m, r, t, shape, s, z)
    y = m.tensor(t, [shape[i] for i in order], s, z)
    m.op("TRANSPOSE", [v, m.tensor("i32", (len(order),), data=order)], [y], "Transpose", 2)
    return m.finish([x], [y]), [codes(r, t, shape)]


def slice_(r):
    m = Model()
    t = pick(r, "i8", "u8")
    shape = [size(r, 7) for _ in range(size(r, 4))]
    begin = [int(r.integers(n)) for n in shape]
    count = [int(r.integers(1, n - b + 1)) for n, b in zip(shape, begin)]
    s, z = scale(r), zero(r, t)
    x, v = behind(m, r, t, shape, s, z)
    y = m.tensor(t, count, s, z)
    given = [-1 if b + c == n and r.integers(2) else c for n, b, c in zip(shape, begin, count)]
    lists = [m.tensor("i32", (len(shape),), data=d) for d in (begin, given)]
    m.op("SLICE", [v, *lists], [y], "Slice", 2)
    return m.finish([x], [y]), [codes(r, t, shape)]


def strided_slice(r):
    m = Model()
    t = pick(r, "i8", "u8")
    shape = [size(r, 7) for _ in range(size(r, 4))]
    begin = [int(r.integers(n)) for n in shape]
    end = [int(r.integers(b + 1, n + 1)) for n, b in zip(shape, begin)]
    strides = [size(r, 3) for _ in shape]
    masks = [int(r.integers(16)) for _ in range(2)]
    shrink = int(pick(r, 0, 0, r.integers(16)))
    index = []
    for i, n in enumerate(shape):
        if shrink >> i & 1:
            strides[i], masks[0] = 1, masks[0] & ~(1 << i)
            index.append(begin[i])
        else:
            index.append(slice(None if masks[0] >> i & 1 else begin[i], None if masks[1] >> i & 1 else end[i], strides[i]))
    out = np.empty(shape)[tuple(index)].shape
    s, z = scale(r), zero(r, t)
    x, v = behind(m, r, t, shape, s, z)
    y = m.tensor(t, out, s, z)
    from_end = [b - n if r.integers(3) == 0 else b for n, b in zip(shape, begin)]
    lists = [m.tensor("i32", (len(shape),), data=d) for d in (from_end, end, strides)]
    m.op("STRIDED_SLICE", [v, *lists], [y], "StridedSlice", 2, beginMask=masks[0], endMask=masks[1],
         shrinkAxisMask=shrink)
    return m.finish([x], [y]), [codes(r, t, shape)]


def split(r):
    m = Model()
    t = pick(r, "i8", "u8")
    shape = [size(r, 5) for _ in range(size(r, 4))]
    axis, parts = int(r.integers(len(shape))), size(r, 4)
    part = list(shape)
    shape[axis] *= parts
    s, z = scale(r), zero(r, t)
    x, v = behind(m, r, t, shape, s, z)
    outs = [m.tensor(t, part, s, z) for _ in range(parts)]
    m.op("SPLIT", [m.tensor("i32", (), data=axis - len(shape) if r.integers(2) else axis), v], outs, "Split", 2,
         numSplits=parts)
    return m.finish([x], outs), [codes(r, t, shape)]


ALL = [
    fully_connected, fully_connected_int4, conv_2d, conv_2d_int4, depthwise_conv_2d, depthwise_conv_2d_int4,
    average_pool_2d, max_pool_2d, mean, add, sub, mul, softmax, relu, relu_n1_to_1, leaky_relu, hard_swish, logistic,
    tanh, requantize, quantize, dequantize, reshape, squeeze_expand, concatenation, pad, padv2, mirror_pad,
    resize_nearest_neighbor, transpose, slice_, strided_slice, split,
]
