"""What the plug-in adds to the same work through qdot.h: python -m overhead BUILD. Prints, for layers of a real size, the time
of a run of a session, that of the same operator through the library (with its inputs written and its results read), and the
ratio: medians of runs in turn, so that both see the same machine. Fails where the plug-in adds more than a quarter."""
import ctypes
import os
import sys
import time

import numpy as np
from onnx import TensorProto as T

import models
import plugin

MOST = 1.25  # the ratio; far from what it is, for machines are busy at times
TRIES = 3  # a layer fails when all of them, each with memory of its own, are above that
FEWEST, MOST_RUNS, SECONDS = 15, 400, 2


class Desc(ctypes.Structure):
    _fields_ = [("format", ctypes.c_int), ("rank", ctypes.c_int), ("shape", ctypes.c_int64 * 4)]


class Direct:
    """One operator as a plan of the library."""

    def __init__(self, build):
        self.lib = ctypes.CDLL(os.path.join(build, "host", "libqdot.so"))
        self.lib.qd_last_message.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p()
        self.call("qd_context_create", None, None, ctypes.byref(self.context))
        self.kept = []

    def call(self, name, *arguments):
        if getattr(self.lib, name)(*arguments):
            raise RuntimeError("%s: %s" % (name, self.lib.qd_last_message().decode()))

    def find(self, name):
        out = ctypes.c_int()
        self.call("qd_format_find", name.encode(), ctypes.byref(out))
        return out.value

    def tensor(self, form, shape, data=None):
        d = Desc(self.find(form), len(shape), (ctypes.c_int64 * 4)(*shape))
        out = ctypes.c_void_p()
        if data is None:
            self.call("qd_tensor_create", self.context, ctypes.byref(d), ctypes.byref(out))
        else:
            data = np.ascontiguousarray(data)
            self.kept.append(data)
            self.call("qd_tensor_constant", self.context, ctypes.byref(d), data.ctypes.data_as(ctypes.c_void_p), ctypes.byref(out))
        return out

    def plan(self, op, attrs, inputs, output):
        a = (ctypes.c_void_p * len(inputs))(*[i.value if i else None for i in inputs])
        b = (ctypes.c_void_p * 1)(output.value)
        out = ctypes.c_void_p()
        self.call("qd_plan_create", self.context, op, attrs, a, len(inputs), b, 1, ctypes.byref(out))
        return out

    def op(self, name):
        class Info(ctypes.Structure):
            _fields_ = [("name", ctypes.c_char_p)]
        self.lib.qd_op_get.restype = ctypes.POINTER(Info)
        i = 0
        while True:
            info = self.lib.qd_op_get(i)
            if not info:
                raise KeyError(name)
            if info.contents.name == name.encode():
                return i
            i += 1


def in_turn(*calls):
    """The median times of calls that take turns, in milliseconds."""
    for _ in range(3):
        for f in calls:
            f()
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < FEWEST or (len(times) < MOST_RUNS and time.perf_counter() < end):
        row = []
        for f in calls:
            t = time.perf_counter()
            f()
            row.append(time.perf_counter() - t)
        times.append(row)
    return 1e3 * np.median(times, axis=0)


def compare(name, m, output_shape, output_type, plan, x, y, direct):
    """Whether a session on model m takes about the time of the plan from tensor x to y."""
    s = plugin.session(m.bytes())
    (feed, value), = m.feeds.items()
    result = np.zeros(output_shape, output_type)
    binding = s.io_binding()
    binding.bind_cpu_input(feed, value)
    binding.bind_output(s.get_outputs()[0].name, "cpu", 0, output_type, list(output_shape), result.ctypes.data)
    back = np.zeros_like(result)
    source, target = value.ctypes.data_as(ctypes.c_void_p), back.ctypes.data_as(ctypes.c_void_p)

    def by_hand():
        direct.call("qd_tensor_write", x, ctypes.c_size_t(0), source, ctypes.c_size_t(value.nbytes))
        direct.call("qd_plan_run", plan)
        direct.call("qd_tensor_read", y, ctypes.c_size_t(0), target, ctypes.c_size_t(back.nbytes))

    def by_session():
        s.run_with_iobinding(binding)

    session, hand = in_turn(by_session, by_hand)
    if not np.array_equal(result, back):
        raise RuntimeError("%s: the two ways differ" % name)
    ratio = session / hand
    print("%-28s session %8.3f ms, qdot.h %8.3f ms: ratio %.3f%s" % (name, session, hand, ratio,
                                                                     "" if ratio <= MOST else ", more than %g" % MOST))
    return ratio <= MOST


def nbits(direct, k, n, rows):
    m = models.Model(np.random.default_rng(1))
    b, scales = m.codes((n, k // 32, 16), np.uint8), m.rng.uniform(0.01, 0.1, (n, k // 32)).astype(np.float32)
    value = m.rng.standard_normal((rows, k)).astype(np.float32)
    y = m.node("MatMulNBits", [m.input(value), m.const(b), m.const(scales.reshape(-1))], domain=models.MS, K=k, N=n, bits=4,
               block_size=32)
    m.output(y, np.float32)
    x, out = direct.tensor("f32", (rows, k)), direct.tensor("f32", (rows, n))
    zeros = direct.tensor("i32", (n, k // 32), np.full((n, k // 32), 8, np.int32))
    inputs = [direct.tensor("u4", (n, k), b), direct.tensor("f32", (n, k // 32), scales), x, zeros, None, None, None]
    attrs = (ctypes.c_int64 * 32)(32)  # qd_attrs.matmul_group.group
    plan = direct.plan(direct.op("matmul_group"), attrs, inputs, out)
    return compare("MatMulNBits %dx%d, %d rows" % (k, n, rows), m, (rows, n), np.float32, plan, x, out, direct)


def matmul_integer(direct, k, n, rows):
    m = models.Model(np.random.default_rng(1))
    w, value = m.codes((k, n), np.int8), m.codes((rows, k), np.uint8)
    m.output(m.node("MatMulInteger", [m.input(value), m.const(w)]), np.int32)
    x, out = direct.tensor("u8", (rows, k)), direct.tensor("i32", (rows, n))
    inputs = [direct.tensor("i8", (n, k), w.T), x, None, None, None, None]
    plan = direct.plan(direct.op("matmul_int"), (ctypes.c_int64 * 32)(), inputs, out)
    return compare("MatMulInteger %dx%d, %d rows" % (k, n, rows), m, (rows, n), np.int32, plan, x, out, direct)


def conv_integer(direct, channels, size):
    m = models.Model(np.random.default_rng(1))
    w, value = m.codes((channels, channels, 3, 3), np.uint8), m.codes((1, channels, size, size), np.uint8)
    m.output(m.node("ConvInteger", [m.input(value), m.const(w)], pads=[1, 1, 1, 1]), np.int32)
    shape = (1, channels, size, size)
    x, out = direct.tensor("u8", shape), direct.tensor("i32", shape)
    # qd_attrs.conv_int: qd_window {kernel, stride, dilation, before, after: int[2]; nchw: bool}, groups, …
    attrs = (ctypes.c_int * 64)(0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
    plan = direct.plan(direct.op("conv_int"), attrs, [direct.tensor("u8", w.shape, w), x, None, None, None, None], out)
    return compare("ConvInteger 3x3, %d of %dx%d" % (channels, size, size), m, shape, np.int32, plan, x, out, direct)


def main():
    direct = Direct(sys.argv[1])
    layers = [(nbits, k, n, rows) for k, n in ((2048, 2048), (2048, 8192)) for rows in (1, 128)]
    layers += [(matmul_integer, 2048, 2048, rows) for rows in (1, 128)]
    layers += [(conv_integer, 64, 56), (conv_integer, 256, 14)]
    plugin.done(sum(not any(layer(direct, *sizes) for _ in range(TRIES)) for layer, *sizes in layers))


if __name__ == "__main__":
    main()
