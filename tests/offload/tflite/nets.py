"""Models of several operators."""
import numpy as np

from model import Model
from operators import NONE, RELU, RELU6


class Net:
    """A Model that is built like a network: each method appends a layer to tensor x and gives its output. Scales are such
    that the codes of random inputs fill their range."""

    def __init__(self, seed):
        self.m = Model()
        self.r = np.random.default_rng(seed)

    def shape(self, x):
        return list(self.m.tensors[x].shape)

    def scale(self, x):
        return float(self.m.tensors[x].quantization.scale[0])

    def codes(self, shape, scale, zero=0):
        return self.m.tensor("i8", shape, scale, zero)

    def weights(self, shape, axis, terms, bits=8):
        high = 127 if bits == 8 else 7
        scales = self.r.uniform(0.5, 1, shape[axis]) * 1.7 / (high * np.sqrt(terms))
        return self.m.tensor("i8" if bits == 8 else "i4", shape, scales, 0, axis,
                             data=self.r.integers(-high, high + 1, shape))

    def bias(self, n):
        return self.m.tensor("i32", (n,), data=self.r.integers(-2000, 2000, n))

    def conv(self, x, outputs, kernel=1, stride=1, activation=RELU6, bits=8):
        n, h, w, c = self.shape(x)
        y = self.codes((n, -(-h // stride), -(-w // stride), outputs), 0.04, -128 if activation else 0)
        self.m.op("CONV_2D", [x, self.weights((outputs, kernel, kernel, c), 0, kernel * kernel * c, bits),
                              self.bias(outputs)], [y], "Conv2D", 3, padding=0, strideH=stride, strideW=stride,
                  dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=activation)
        return y

    def depthwise(self, x, stride=1, multiplier=1, bits=8):
        n, h, w, c = self.shape(x)
        y = self.codes((n, -(-h // stride), -(-w // stride), c * multiplier), 0.04, -128)
        self.m.op("DEPTHWISE_CONV_2D", [x, self.weights((1, 3, 3, c * multiplier), 3, 9, bits),
                                        self.bias(c * multiplier)], [y], "DepthwiseConv2D", 3, padding=0,
                  strideH=stride, strideW=stride, depthMultiplier=multiplier, dilationHFactor=1, dilationWFactor=1,
                  fusedActivationFunction=RELU6)
        return y

    def dense(self, x, outputs, activation=NONE, bits=8):
        n, k = self.shape(x)
        y = self.codes((n, outputs), 0.05, 0)
        self.m.op("FULLY_CONNECTED", [x, self.weights((outputs, k), 0, k, bits), self.bias(outputs)], [y],
                  "FullyConnected", 4, fusedActivationFunction=activation)
        return y

    def add(self, a, b):
        y = self.codes(self.shape(a), 0.06, -20)
        self.m.op("ADD", [a, b], [y], "Add", 2, fusedActivationFunction=NONE)
        return y

    def one(self, name, x, shape, options=None, scale=None, zero=None, extra=(), version=2, **fields):
        t = self.m.tensors[x].quantization
        y = self.codes(shape, float(t.scale[0]) if scale is None else scale,
                       int(t.zeroPoint[0]) if zero is None else zero)
        self.m.op(name, [x, *extra], [y], options, version, **fields)
        return y


def mobile(seed, batch=1, height=24, width=20, bits=8, mean=False):
    """Blocks as in MobileNet with everything between floats: (model, random inputs, operators)."""
    net = Net(seed)
    m, r = net.m, net.r
    shape = (batch, height, width, 3)
    x = m.tensor("f32", shape, signature=[-1, -1, -1, 3])
    q = net.codes(shape, 0.03, 5)
    m.op("QUANTIZE", [x], [q], "Quantize", 1)
    a = net.conv(q, 16, 3, 2, bits=bits)
    b = net.conv(net.depthwise(a, bits=bits), 24, activation=NONE, bits=bits)
    c = net.conv(net.depthwise(net.conv(b, 48), multiplier=2), 24, activation=NONE)
    d = net.add(b, c)
    e = net.conv(net.one("LEAKY_RELU", d, net.shape(d), "LeakyRelu", 0.04, 3, alpha=0.1), 24, 3)
    s, z = net.scale(e), -128
    f = net.one("MAX_POOL_2D", e, net.shape(e), "Pool2D", padding=0, strideH=1, strideW=1, filterHeight=3,
                filterWidth=3, fusedActivationFunction=0)
    n, h, w, _ = net.shape(e)
    g = net.codes((n, h, w, 48), s, z)
    m.op("CONCATENATION", [e, f], [g], "Concatenation", 2, axis=3)
    pads = m.tensor("i32", (4, 2), data=[[0, 0], [1, 0], [0, 1], [0, 0]])
    i = net.conv(net.one("PAD", g, (n, h + 1, w + 1, 48), "Pad", extra=[pads]), 40, 3, 2)
    gate = net.one("LOGISTIC", i, net.shape(i), scale=1 / 256, zero=-128)
    j = net.codes(net.shape(i), 0.03, -128)
    m.op("MUL", [i, gate], [j], "Mul", 2, fusedActivationFunction=NONE)
    n, h, w, c = net.shape(j)
    if mean:
        axes = m.tensor("i32", (2,), data=[1, 2])
        k = net.one("MEAN", j, (n, c), "Reducer", 0.02, -100, extra=[axes], keepDims=False)
    else:
        k = net.one("AVERAGE_POOL_2D", j, (n, 1, 1, c), "Pool2D", padding=1, strideH=1, strideW=1, filterHeight=h,
                    filterWidth=w, fusedActivationFunction=0)
        k = net.one("RESHAPE", k, (n, c), "Reshape", extra=[m.tensor("i32", (2,), data=[-1, c])], version=1,
                    newShape=[-1, c])
    y = net.one("SOFTMAX", net.dense(k, 10, bits=bits), (n, 10), "Softmax", 1 / 256, -128, beta=1.0)
    z = m.tensor("f32", (n, 10))
    m.op("DEQUANTIZE", [y], [z], "Dequantize", 2)
    return m.finish([x], [z, j]), lambda *s: [r.normal(0, 1.6, s or shape).astype(np.float32)], len(m.operators)
