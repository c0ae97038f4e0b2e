"""LiteRT (TensorFlow Lite, with XNNPACK) as a peer of `qdot bench --peers` (README.md has the protocol): tflite.py THREADS
[PLUGIN].

Codes are less by 128 here, signed with zero point 0. Each work is a network, or a model whose operators differ only in which
copy of the weights they read. With a plug-in (libqdot_tflite.so), qdot computes instead of LiteRT's own kernels.
"""
import importlib.metadata
import os
import re
import sys
import tempfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

from model import Model
from peer import ZERO, Cannot, inputs, layers, output_side, scales, serve, weights

SAME, VALID = 0, 1


def signed(u8):
    return (u8.astype(np.int16) - ZERO).astype(np.int8)


def operator(m, x, w, w_scale, y_shape, y_scale, kind):
    """Appends an operator of a kind, as `product` and `convolution` give them, to a model; its result."""
    axis, name, words, fields = kind
    n = w.shape[axis]
    y = m.tensor("i8", y_shape, y_scale, 0)
    copy = m.tensor("i8", w.shape, w_scale, 0, axis, data=w)
    bias = m.tensor("i32", (n,), w_scale * np.float32(2.0**-6), 0, data=np.zeros(n, np.int32))
    m.op(name, [x, copy, bias], [y], *words, fusedActivationFunction=0, **fields)
    return y


PRODUCT = (0, "FULLY_CONNECTED", ("FullyConnected", 4), {})


def convolution(o):
    """Weights, and what operator the convolution is. With a stride, SAME pads below and to the right first: other results, the
    same work."""
    channels, n, kernel, groups = (o[k] for k in ("channels", "outputs", "kernel", "groups"))
    w = weights((n, kernel, kernel, channels // groups))
    fields = {"padding": SAME if o["pad"] else VALID, "strideH": o["stride"], "strideW": o["stride"],
              "dilationHFactor": 1, "dilationWFactor": 1}
    if groups == 1:
        return w, (0, "CONV_2D", ("Conv2D", 3), fields)
    if groups != channels:
        raise Cannot("groups of several channels")
    return np.ascontiguousarray(w.transpose(3, 1, 2, 0)), (
        3, "DEPTHWISE_CONV_2D", ("DepthwiseConv2D", 3), {**fields, "depthMultiplier": n // channels})


def copies(o, x, w, y_shape, kind):
    """A model of as many operators as there are copies of w."""
    m = Model()
    source = m.tensor("i8", x.shape, 2.0**-6, 0)
    results = [operator(m, source, w, scales(o["outputs"]), y_shape, o["y_scale"], kind) for _ in range(o["copies"])]
    return signed(x), m.finish([source], results)


def gemm(o):
    o["outputs"] = o["n"]
    return copies(o, inputs((o["m"], o["k"])), weights((o["n"], o["k"])), (o["m"], o["n"]), PRODUCT)


def conv(o):
    side = output_side(o)
    w, kind = convolution(o)
    return copies(o, inputs((1, o["image"], o["image"], o["channels"])), w, (1, side, side, o["outputs"]), kind)


def network(o):
    image, m = o["image"], Model()
    x = inputs((1, image, image, o["channels"]) if image else (o["rows"], o["channels"]))
    source = y = m.tensor("i8", x.shape, 2.0**-6, 0)
    for l in layers(o):
        n = l["outputs"]
        side = output_side(l) if image else 0
        w, kind = convolution(l) if image else (weights((n, l["channels"])), PRODUCT)
        y = operator(m, y, w, l["w_scale"], (1, side, side, n) if image else (o["rows"], n), 2.0**-6, kind)
    return signed(x), m.finish([source], [y])


def interpreter(model, threads, plugin):
    """With a plug-in, which tells on standard error what it takes: all of it, or the work is none of this peer's."""
    if not plugin:
        return Interpreter(model_content=model, num_threads=threads)
    saved = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            made = Interpreter(model_content=model, num_threads=threads, experimental_delegates=[plugin],
                               experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        said.seek(0)
        taken = re.search(rb"(\d+) of (\d+) nodes in", said.read())
    if not taken or taken[1] != taken[2]:
        raise Cannot("the plug-in does not take it")
    return made


KINDS = {"gemm": gemm, "conv": conv, "network": network}


class Work:
    def __init__(self, kind, o, threads, plugin):
        if kind not in KINDS:
            raise Cannot
        x, model = KINDS[kind](o)
        self.interpreter = interpreter(model, threads, plugin)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], x)
        self.comparable = kind == "gemm" or (kind == "network" and not o["image"]) or (
            kind == "conv" and (o["stride"] == 1 or not o["pad"]))

    def once(self):
        self.interpreter.invoke()

    def result(self):
        y = self.interpreter.get_tensor(self.interpreter.get_output_details()[0]["index"])
        return y.astype(np.int16) + ZERO if self.comparable else None


def main():
    threads = int(sys.argv[1])
    plugin = load_delegate(sys.argv[2], {"verbose": "1"}) if len(sys.argv) > 2 else None
    version = importlib.metadata.version("ai-edge-litert")
    serve(f"tflite{'+qdot' if plugin else ''}", version, lambda kind, o: Work(kind, o, threads, plugin))


main()
