"""Bad input: options, devices, broken quantization parameters, nodes that do not fit. The message says what is wrong, the node
stays with the host, and the good node beside it is taken all the same.

usage: test_bad.py [test…]"""
import ctypes
import os
import sys

import numpy as np

import host
import suite
from model import Model

DEVICE = os.environ.get("QDOT_DEVICE", "opencl")


def refused_plugin(words, **options):
    try:
        host.delegate(**options)
    except ValueError as e:
        text = str(e)
    else:
        raise AssertionError(f"{options}: accepted")
    for word in words:
        if word not in text:
            raise AssertionError(f"{options}: '{word}' is not in '{text}'")


def options():
    known = ("device", "verify", "profile", "verbose")
    refused_plugin(("'devise'", *known), devise="ref")
    refused_plugin(("'maybe'", "verify", *known), device="ref", verify="maybe")
    refused_plugin(("''", *known), device="")
    refused_plugin(known, verbose="yes")


def devices():
    refused_plugin(("nowhere",), device="opencl:nowhere")
    refused_plugin(("warp",), device="warp")


# ---- Models of two nodes: RELU, which is taken, and one that is broken ----


def start(shape, t="i8"):
    m = Model()
    x = m.tensor(t, shape, 0.1, 3)
    y = m.tensor(t, shape, 0.1, 3)
    m.op("RELU", [x], [y], version=2)
    return m, x, y


def refused(m, outputs, inputs, *words):
    """One node is taken; the reason of the other holds the words."""
    it = host.make(m.finish(inputs, outputs), host.delegate(device=DEVICE, verbose=1))
    if it.taken is None or it.taken[0] != 1:
        raise AssertionError(f"{it.taken} are taken, not one node: {it.notes}")
    lines = [line for line in it.notes.splitlines() if "stays with the host" in line]
    if len(lines) != 1 or not all(w in lines[0] for w in words):
        raise AssertionError(f"{words} are not all in {lines}")


def relu(scale, zero, *words, t="i8", y=None):
    m, x, v = start((4, 4), t)
    out = m.tensor(y or t, (4, 4), scale, zero, name="broken")
    m.op("RELU", [v], [out], version=2)
    refused(m, [out, v], [x], "broken", *words)


def scales():
    relu(0.0, 0, "scale", "is 0", "positive")
    relu(-0.5, 0, "scale", "-0.5")
    relu(float("nan"), 0, "scale", "nan")
    relu(float("inf"), 0, "scale", "inf")
    relu([0.1] * 4, 0, "4 scales")
    relu(None, 0, "no quantization parameters")


def zero_points():
    relu(0.1, 128, "zero point", "128", "-128 to 127")
    relu(0.1, -129, "zero point", "-129")
    relu(0.1, 256, "zero point", "256", "0 to 255", t="u8")
    relu(0.1, -1, "zero point", "-1", t="u8")


def types():
    relu(0.1, 0, "int8", y="i16")
    relu(0.1, 0, "differ in type", y="u8")


def conv(*words, w_shape=(6, 3, 3, 6), w_scale=0.01, w_zero=0, axis=0, bias=6, w_type="i8", data=None, **fields):
    m, x, v = start((1, 8, 8, 6))
    if data is None:
        data = np.ones(w_shape)
    w = m.tensor(w_type, w_shape, w_scale, w_zero, axis, data=data, name="weights")
    b = m.tensor("i32", (bias,), data=np.zeros(bias))
    y = m.tensor("i8", (1, 8, 8, 6), 0.2, 0, name="broken")
    attributes = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    m.op("CONV_2D", [v, w, b], [y], "Conv2D", 3, **(attributes | fields))
    refused(m, [y, v], [x], "CONV_2D", "broken", *words)


def convolutions():
    conv("dimension 3", "weights", w_scale=[0.01] * 6, axis=3)
    conv("scale", "weights", "is 0", w_scale=[0.01] * 5 + [0.0])
    conv("zero point", "300", w_scale=[0.01] * 6, w_zero=300)
    conv("zero points other than 0", w_zero=4)
    conv("bias", "5", bias=5)
    conv("stride 0", strideH=0)
    conv("dilation 0", dilationWFactor=0)
    conv("does not fit", w_shape=(6, 9, 3, 6), padding=1)
    conv("channels", w_shape=(6, 3, 3, 4))
    conv("fused activation", fusedActivationFunction=4)
    conv("4 are needed", w_shape=(6, 3, 12))
    conv("type", w_type="i16")


def others():
    m, x, v = start((1, 6))
    y = m.tensor("i8", (1, 6), 0.1, 0, name="broken")
    m.op("SOFTMAX", [v], [y], "Softmax", 2, beta=1.0)
    refused(m, [y, v], [x], "SOFTMAX", "1/256")
    m, x, v = start((1, 6))
    y = m.tensor("i8", (1, 6), 1 / 256, -128, name="broken")
    m.op("SOFTMAX", [v], [y], "Softmax", 2, beta=-1.0)
    refused(m, [y, v], [x], "beta")
    m, x, v = start((1, 6))
    y = m.tensor("i8", (1, 6), 0.2, 0, name="broken")
    m.op("CONCATENATION", [v, v], [y], "Concatenation", 2, axis=2)
    refused(m, [y, v], [x], "axis 2")
    m, x, v = start((1, 6))
    y = m.tensor("i8", (1, 6), 0.2, 0, name="broken")
    m.op("CONCATENATION", [v, v], [y], "Concatenation", 2, axis=0)
    refused(m, [y, v], [x], "same type, scale and zero point")
    m, x, v = start((1, 6))
    y = m.tensor("i8", (1, 4), 0.1, 3, name="broken")
    m.op("RESHAPE", [v, m.tensor("i32", (2,), data=[-1, 4])], [y], "Reshape", newShape=[-1, 4])
    refused(m, [y, v], [x], "6 elements become 4")
    m, x, v = start((1, 6))
    y = m.tensor("i8", (1, 6), 0.1, 3, name="broken")
    m.op("PAD", [v, m.tensor("i32", (2, 2), data=[[0, 0], [-1, 1]])], [y], "Pad", 2)
    refused(m, [y, v], [x], "negative padding")
    m, x, v = start((2, 3))
    y = m.tensor("i8", (3, 2), 0.1, 3, name="broken")
    m.op("TRANSPOSE", [v, m.tensor("i32", (2,), data=[1, 1])], [y], "Transpose", 2)
    refused(m, [y, v], [x], "twice")
    m, x, v = start((2, 3))
    y = m.tensor("i8", (2, 3), 0.1, 3, name="broken")
    m.op("ADD", [v, m.tensor("i8", (2, 4), 0.1, 0, data=np.zeros((2, 4)))], [y], "Add", 2)
    refused(m, [y, v], [x], "sizes 3 and 4")
    m, x, v = start((2, 3))
    y = m.tensor("i8", (2, 3), 1e-9, 3, name="broken")
    m.op("ADD", [v, v], [y], "Add", 2)
    refused(m, [y, v], [x], "add_int", "too small")
    m, x, v = start((2, 3))
    y = m.tensor("i8", (2, 3), 0.1, 3, name="broken")
    m.op("LEAKY_RELU", [v], [y], "LeakyRelu", alpha=-1.0, version=2)
    refused(m, [y, v], [x], "slope of -1")
    m, x, v = start((2, 3))
    y = m.tensor("f32", (2, 3), name="weights")
    m.op("DEQUANTIZE", [m.tensor("i8", (2, 3), 0.1, 0, data=np.ones((2, 3)))], [y], version=2)
    refused(m, [y, v], [x], "DEQUANTIZE", "weights", "constant")


def gone():
    """A shape that a node does not take, found only when the host asks for another one."""
    m, x, v = start((1, 8, 8, 4))
    w = m.tensor("i8", (6, 5, 5, 4), 0.01, 0, data=np.ones((6, 5, 5, 4)))
    y = m.tensor("i8", (1, 4, 4, 6), 0.2, 0, name="window")
    m.op("CONV_2D", [v, w, m.tensor("i32", (6,), data=np.zeros(6))], [y], "Conv2D", 3, padding=1, strideH=1, strideW=1)
    it = host.make(m.finish([x], [y]), host.delegate(device=DEVICE, verbose=1))
    if it.taken != (2, 2, 1):
        raise AssertionError(it.notes)
    data = [np.ones((1, 8, 8, 4), np.int8)]
    first = host.invoke(it, data)
    it.resize_tensor_input(0, (1, 3, 3, 4))
    try:
        it.allocate_tensors()
    except RuntimeError as e:
        if "CONV_2D, window" not in str(e) or "does not fit" not in str(e):
            raise AssertionError(str(e)) from e
    else:
        raise AssertionError("an image that is too small was accepted")
    it.resize_tensor_input(0, (1, 8, 8, 4))
    if host.different(host.invoke(it, data), first):
        raise AssertionError("afterwards the results differ")


class CHost:
    """The host's side of the C interface, as much of it as nodes are claimed with; told: what the plug-in reported."""

    FIELDS = ["size", "GetExecutionPlan", "tensors", "impl", "ResizeTensor", "ReportError", "AddTensors",
              "GetNodeAndRegistration", "ReplaceNodeSubsetsWithDelegateKernels", "threads", "GetExternalContext",
              "SetExternalContext", "fp16", "profiler", "AllocatePersistentBuffer", "AllocateBufferForEval",
              "RequestScratchBufferInArena", "GetScratchBuffer", "ResizeTensorExplicit", "PreviewDelegatePartitioning",
              "GetTensor"]

    def __init__(self, tensor_bytes):
        tensors = (ctypes.c_char * 1024)()
        self.told = []

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        def report(_, form, first):
            self.told.append((ctypes.string_at(first) if form == b"%s" else form).decode())

        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
        def get_tensor(_, i):
            return ctypes.addressof(tensors) + i * tensor_bytes

        self.context = (ctypes.c_void_p * 32)()
        self.context[self.FIELDS.index("size")] = 3
        self.context[self.FIELDS.index("ReportError")] = ctypes.cast(report, ctypes.c_void_p)
        self.context[self.FIELDS.index("GetTensor")] = ctypes.cast(get_tensor, ctypes.c_void_p)
        self.alive = tensors, report, get_tensor

    def claim(self, **options):
        """The status of a plug-in's claim, that was made without a function for errors."""
        plugin = ctypes.CDLL(host.library())
        plugin.tflite_plugin_create_delegate.restype = ctypes.POINTER(ctypes.c_void_p * 2)
        words = ctypes.c_char_p * len(options)
        delegate = plugin.tflite_plugin_create_delegate(words(*(k.encode() for k in options)),
                                                        words(*(v.encode() for v in options.values())),
                                                        ctypes.c_size_t(len(options)), None)
        prepare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(delegate.contents[1])
        status = prepare(ctypes.addressof(self.context), ctypes.cast(delegate, ctypes.c_void_p))
        plugin.tflite_plugin_destroy_delegate(delegate)
        return status


def layout():
    """A host whose tensors have another size than in the headers of the build: nothing is claimed, and the host is told."""
    c_host = CHost(136)  # the plug-in's own have 112 or so
    status = c_host.claim()
    if status != 0 or len(c_host.told) != 1 or "tensors of %ld bytes" not in c_host.told[0]:
        raise AssertionError(f"status {status}: {c_host.told}")


def unheard():
    """The host's C API hears no errors of the plug-in, and would use a delegate that is NULL."""
    for word, choice in (("'devise'", {"devise": "ref"}), ("nowhere", {"device": "opencl:nowhere"})):
        c_host = CHost(112)
        status = c_host.claim(**choice)
        if status == 0 or len(c_host.told) != 1 or word not in c_host.told[0]:
            raise AssertionError(f"{choice}: status {status}: {c_host.told}")


if __name__ == "__main__":
    sys.exit(suite.run([options, devices, scales, zero_points, types, convolutions, others, gone, layout, unheard]))
