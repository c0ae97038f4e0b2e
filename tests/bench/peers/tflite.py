"""LiteRT (TensorFlow Lite, with XNNPACK) as a peer of `qdot bench --peers` (README.md has the protocol): tflite.py THREADS
[PLUGIN].

Codes are less by 128 here, signed with zero point 0. Each work is a model whose operators differ only in which copy of the
weights they read. With a plug-in (libqdot_tflite.so), qdot computes instead of LiteRT's own kernels.
"""
import importlib.metadata
import os
import re
import sys
import tempfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

from model import Model
from peer import ZERO, Cannot, inputs, output_side, scales, serve, weights

SAME, VALID = 0, 1


def signed(u8):
    return (u8.astype(np.int16) - ZERO).astype(np.int8)


def layers(o, x, w, axis, y_shape, name, *words, **fields):
    """A model of as many operators as there are copies of w."""
    m = Model()
    n = w.shape[axis]
    source, results = m.tensor("i8", x.shape, 2.0**-6, 0), []
    for _ in range(o["copies"]):
        y = m.tensor("i8", y_shape, o["y_scale"], 0)
        copy = m.tensor("i8", w.shape, scales(n), 0, axis, data=w)
        bias = m.tensor("i32", (n,), scales(n) * np.float32(2.0**-6), 0, data=np.zeros(n, np.int32))
        m.op(name, [source, copy, bias], [y], *words, fusedActivationFunction=0, **fields)
        results.append(y)
    return signed(x), m.finish([source], results)


def gemm(o):
    return layers(o, inputs((o["m"], o["k"])), weights((o["n"], o["k"])), 0, (o["m"], o["n"]), "FULLY_CONNECTED",
                  "FullyConnected", 4)


def conv(o):
    """With a stride, SAME pads below and to the right first: other results, the same work."""
    image, channels, n, kernel, groups = (o[k] for k in ("image", "channels", "outputs", "kernel", "groups"))
    side = output_side(o)
    x, w = inputs((1, image, image, channels)), weights((n, kernel, kernel, channels // groups))
    fields = {"padding": SAME if o["pad"] else VALID, "strideH": o["stride"], "strideW": o["stride"],
              "dilationHFactor": 1, "dilationWFactor": 1}
    if groups == 1:
        return layers(o, x, w, 0, (1, side, side, n), "CONV_2D", "Conv2D", 3, **fields)
    if groups != channels:
        raise Cannot("groups of several channels")
    return layers(o, x, np.ascontiguousarray(w.transpose(3, 1, 2, 0)), 3, (1, side, side, n), "DEPTHWISE_CONV_2D",
                  "DepthwiseConv2D", 3, depthMultiplier=n // channels, **fields)


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


class Work:
    def __init__(self, kind, o, threads, plugin):
        if kind not in ("gemm", "conv"):
            raise Cannot
        x, model = (gemm if kind == "gemm" else conv)(o)
        self.interpreter = interpreter(model, threads, plugin)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], x)
        self.comparable = kind == "gemm" or o["stride"] == 1 or not o["pad"]

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
