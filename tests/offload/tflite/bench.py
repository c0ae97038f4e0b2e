"""What the plug-in adds to the same work called through qdot.h, at sizes of real layers: medians of runs in turn, so
that both see the same machine, and their ratio. Fails where the plug-in adds more than a quarter.

usage: bench.py [seconds for each layer]"""
import ctypes
import os
import sys
import time

import numpy as np

import host
from nets import NONE, Net

MOST = 1.25  # the ratio; far from what it is, for machines are busy at times
TRIES = 3  # a layer fails when all of them, each with memory of its own, are above that
DEVICE = os.environ.get("QDOT_DEVICE", "opencl")


class Desc(ctypes.Structure):
    _fields_ = [("format", ctypes.c_int), ("rank", ctypes.c_int), ("shape", ctypes.c_int64 * 4)]


class OpInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p)]


class Window(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int * 2) for n in ("kernel", "stride", "dilation", "before", "after")]
    _fields_ += [("nchw", ctypes.c_bool)]


class Requant(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int) for n in ("rounding", "zero_point", "min", "max")]


class Conv(ctypes.Structure):
    _fields_ = [("window", Window), ("groups", ctypes.c_int), ("y", Requant)]


class Attrs(ctypes.Union):
    _fields_ = [("conv_int", Conv), ("matmul_int", Requant), ("room", ctypes.c_char * 512)]


class Qdot:
    """As much of qdot.h as one integer operator needs."""

    def __init__(self):
        self.lib = ctypes.CDLL(os.path.join(os.environ["QDOT_BUILD_DIR"], "host", "libqdot.so"))
        self.lib.qd_last_message.restype = ctypes.c_char_p
        self.lib.qd_op_get.restype = ctypes.POINTER(OpInfo)
        self.ops = {}
        while (info := self.lib.qd_op_get(len(self.ops))):
            self.ops[info.contents.name.decode()] = len(self.ops)
        self.context = ctypes.c_void_p()
        self.call("context_create", DEVICE.encode(), None, ctypes.byref(self.context))
        self.kept = []

    def call(self, name, *args):
        if getattr(self.lib, "qd_" + name)(*args):
            raise RuntimeError(self.lib.qd_last_message().decode())

    def tensor(self, word, array, constant):
        form, out = ctypes.c_int(), ctypes.c_void_p()
        self.call("format_find", word.encode(), ctypes.byref(form))
        d = Desc(form.value, array.ndim, (ctypes.c_int64 * 4)(*array.shape))
        if constant:
            array = np.ascontiguousarray(array)
            self.kept.append(array)
            self.call("tensor_constant", self.context, ctypes.byref(d), array.ctypes.data_as(ctypes.c_void_p),
                      ctypes.byref(out))
        else:
            self.call("tensor_create", self.context, ctypes.byref(d), ctypes.byref(out))
        return out

    def layer(self, op, x, w, bias, scales, y_scale, y, attrs):
        """A graph of one operator; gives a function that writes x, runs, and reads y."""
        table = np.zeros((len(scales), 2), np.int32)
        rounding = attrs.conv_int.y.rounding if op == "conv_int" else attrs.matmul_int.rounding
        scales = np.ascontiguousarray(scales, np.float32)
        self.call("requantize_table", rounding, ctypes.c_float(0.03), scales.ctypes.data_as(ctypes.c_void_p),
                  ctypes.c_int64(len(scales)), ctypes.c_float(y_scale), table.ctypes.data_as(ctypes.c_void_p))
        operands = [self.tensor("i8", w, True), self.tensor("i8", x, False), None,
                    self.tensor("i32", np.array([5], np.int32), True), self.tensor("i32", bias, True),
                    self.tensor("i32", table, True)]
        out, graph = self.tensor("i8", y, False), ctypes.c_void_p()
        self.call("graph_create", self.context, ctypes.c_int64(1), ctypes.byref(graph))
        self.call("graph_add", graph, self.ops[op], ctypes.byref(attrs), (ctypes.c_void_p * 6)(*operands), 6,
                  (ctypes.c_void_p * 1)(out), 1)
        self.call("graph_compile", graph, None, None)
        source, target = x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p)
        x_bytes, y_bytes, zero, one = ctypes.c_size_t(x.nbytes), ctypes.c_size_t(y.nbytes), ctypes.c_size_t(0), \
            ctypes.c_int64(1)

        def run():
            self.call("tensor_write", operands[1], zero, source, x_bytes)
            self.call("graph_run", graph, one)
            self.call("tensor_read", out, zero, target, y_bytes)

        return run


def constants(net, op):
    """Weights, bias and scales of the net's last operator."""
    w, b = op.inputs[1], op.inputs[2]
    t = net.m.tensors
    weights = np.frombuffer(bytes(net.m.buffers[t[w].buffer].data), np.int8).reshape(t[w].shape)
    return weights, np.frombuffer(bytes(net.m.buffers[t[b].buffer].data), np.int32), t[w].quantization.scale


def conv(size, channels):
    net = Net(1)
    x = net.codes((1, size, size, channels), 0.03, 5)
    y = net.conv(x, channels, 3, activation=NONE)
    w = constants(net, net.m.operators[0])
    window = Window(stride=(1, 1), dilation=(1, 1), before=(1, 1), after=(1, 1))
    attrs = Attrs(conv_int=Conv(window, 1, Requant(1, 0, 0, 0)))
    return f"CONV_2D 3x3 {size}x{size}x{channels}", net, x, y, "conv_int", w, attrs, 0.04


def dense(width):
    net = Net(2)
    x = net.codes((1, width), 0.03, 5)
    y = net.dense(x, width)
    w = constants(net, net.m.operators[0])
    return f"FULLY_CONNECTED {width}x{width}", net, x, y, "matmul_int", w, Attrs(matmul_int=Requant(2, 0, 0, 0)), 0.05


def ratio(qdot, plugin, seconds, case):
    """Prints the times of a layer both ways; the ratio."""
    name, net, x, y, op, (w, bias, scales), attrs, y_scale = case
    data = np.random.default_rng(3).integers(-128, 128, net.shape(x)).astype(np.int8)
    result = np.zeros(net.shape(y), np.int8)
    direct = qdot.layer(op, data, w, bias, scales, y_scale, result, attrs)
    it = host.make(net.m.finish([x], [y]), plugin)
    got = host.invoke(it, [data])[0]
    direct()
    if not np.array_equal(got, result):
        raise AssertionError(f"{name}: the two do not do the same work")
    times = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for run, list_of in ((direct, times[0]), (it.invoke, times[1])):
            start = time.perf_counter()
            run()
            list_of.append(time.perf_counter() - start)
    a, b = (1e3 * float(np.median(t)) for t in times)
    print(f"{name:28} {a:10.3f} {b:10.3f} {b / a:8.3f}{'' if b <= MOST * a else f', more than {MOST}'}")
    return b / a


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    qdot, plugin = Qdot(), host.delegate(device=DEVICE)
    print(f"{'layer':28} {'qdot.h ms':>10} {'plug-in ms':>10} {'ratio':>8}")
    failures = 0
    for layer, *sizes in ((conv, 56, 64), (conv, 28, 128), (dense, 1024), (dense, 4096)):
        failures += not any(ratio(qdot, plugin, seconds, layer(*sizes)) <= MOST for _ in range(TRIES))
    print(f"{failures} failure{'' if failures == 1 else 's'}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
