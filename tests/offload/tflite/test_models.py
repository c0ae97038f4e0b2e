"""Models of several operators: one group on the device, other shapes, threads, nodes that stay with the host.

usage: test_models.py [test…]"""
import os
import sys
import threading

import numpy as np

import host
import nets
import suite
from model import Model

DEVICE = os.environ.get("QDOT_DEVICE", "opencl")


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def same(got, want, about):
    check(len(got) == len(want), f"{about}: {len(got)} outputs")
    n = host.different(got, want)
    check(n == 0, f"{about}: {n} elements differ")


def spread(outputs, least):
    """A comparison is worth something when the codes differ."""
    check(all(np.unique(o).size >= least for o in outputs), "the outputs hold few different values")


def one_group(bits=8):
    model, inputs, operators = nets.mobile(3, bits=bits)
    it = host.make(model, host.delegate(device=DEVICE, verbose=1))
    check(it.taken == (operators, operators, 1), f"{it.taken} of {operators} operators: {it.notes}")
    x = inputs()
    want = host.run(model, x)
    spread(want, 3)
    same(host.invoke(it, x), want, "first run")
    for i in range(3):
        x = inputs()
        same(host.invoke(it, x), host.run(model, x), f"run {i}")


def one_group_int4():
    one_group(4)


def verify():
    model, inputs, operators = nets.mobile(4)
    it = host.make(model, host.delegate(device=DEVICE, verbose=1, verify=1))
    x = inputs()
    same(host.invoke(it, x), host.run(model, x), "verified")


def default_resolver():
    """With LiteRT's own choice of kernels, which would give all to XNNPACK, the plug-in comes first."""
    model, inputs, operators = nets.mobile(5)
    it = host.make(model, host.delegate(device=DEVICE, verbose=1), host.OpResolverType.AUTO)
    check(it.taken == (operators, operators, 1), f"{it.taken}")
    x = inputs()
    same(host.invoke(it, x), host.run(model, x), "with XNNPACK beside it")


def resize():
    model, inputs, operators = nets.mobile(6, mean=True)
    plugin = host.delegate(device=DEVICE, verbose=1)
    it, reference = host.make(model, plugin), host.make(model)
    check(it.taken == (operators, operators, 1), f"{it.taken}")
    for shape in [(1, 24, 20, 3), (3, 24, 20, 3), (1, 9, 31, 3), (1, 9, 31, 3), (2, 5, 5, 3), (1, 24, 20, 3)]:
        x = inputs(*shape)
        for i in (it, reference):
            i.resize_tensor_input(i.get_input_details()[0]["index"], shape)
        same(host.invoke(it, x), host.invoke(reference, x), f"input {shape}")


def threads():
    """Two threads with an interpreter each: with a plug-in each, and with one plug-in for both."""
    model, inputs, _ = nets.mobile(7)
    pairs = [inputs() for _ in range(6)]
    wants = [host.run(model, x) for x in pairs]
    shared = host.delegate(device=DEVICE)
    for plugins in [[host.delegate(device=DEVICE), host.delegate(device=DEVICE)], [shared, shared]]:
        wrong = []

        def work(it):
            try:
                for x, want in zip(pairs, wants):
                    same(host.invoke(it, x), want, "in a thread")
            except Exception as e:  # told below
                wrong.append(e)

        interpreters = [host.make(model, p) for p in plugins]
        running = [threading.Thread(target=work, args=(it,)) for it in interpreters]
        for t in running:
            t.start()
        for t in running:
            t.join()
        check(not wrong, str(wrong))


def host_between():
    """A node in the middle that the plug-in does not know."""
    m = Model()
    x = m.tensor("i8", (4, 33), 0.1, 3)
    a, b, c, d = [m.tensor("i8", (4, 33), 0.1, 3) for _ in range(4)]
    m.op("RELU6", [x], [a], version=2)
    m.op("ABS", [a], [b], "Abs", version=2)
    m.op("ADD", [a, b], [c], "Add", 2)
    m.op("RELU", [c], [d], version=2)
    model = m.finish([x], [d, a])
    it = host.make(model, host.delegate(device=DEVICE, verbose=1))
    check(it.taken == (3, 4, 2), f"{it.taken}")
    check("stays with the host: the operator is not known" in it.notes, it.notes)
    data = [np.random.default_rng(1).integers(-128, 128, (4, 33)).astype(np.int8)]
    same(host.invoke(it, data), host.run(model, data), "around a node of the host")


def moves_alone():
    """Nodes that only move elements stay with the host."""
    m = Model()
    x = m.tensor("i8", (4, 6), 0.1, 3)
    y, z = m.tensor("i8", (24,), 0.1, 3), m.tensor("i8", (24,), 0.1, 3)
    m.op("RESHAPE", [x, m.tensor("i32", (1,), data=[24])], [y], "Reshape", newShape=[24])
    m.op("ABS", [y], [z], "Abs", version=2)
    it = host.make(m.finish([x], [z]), host.delegate(device=DEVICE, verbose=1))
    check(it.taken == (0, 2, 0), f"{it.taken}")
    check("only move elements" in it.notes, it.notes)


def dynamic():
    """A shape that is computed when the model runs, as Keras writes it: what stands behind it is made then."""
    m = Model()
    x = m.tensor("i8", (1, 4, 3), 0.1, 3, signature=[-1, 4, 3])
    a = m.tensor("i8", (1, 4, 3), 0.1, 3, signature=[-1, 4, 3])
    m.op("RELU", [x], [a], version=2)
    shape, first, both = m.tensor("i32", (3,)), m.tensor("i32", ()), m.tensor("i32", (2,))
    m.op("SHAPE", [a], [shape], "Shape", outType=2)
    lists = [m.tensor("i32", (1,), data=[v]) for v in (0, 1, 1)]
    m.op("STRIDED_SLICE", [shape, *lists], [first], "StridedSlice", shrinkAxisMask=1)
    m.op("PACK", [first, m.tensor("i32", (), data=12)], [both], "Pack", valuesCount=2)
    b = m.tensor("i8", (1, 12), 0.1, 3, signature=[-1, 12])
    m.op("RESHAPE", [a, both], [b], "Reshape", newShape=[-1, 12])
    r = np.random.default_rng(2)
    c = m.tensor("i8", (1, 5), 0.2, 3, signature=[-1, 5])
    m.op("FULLY_CONNECTED", [b, m.tensor("i8", (5, 12), 0.01, 0, data=r.integers(-127, 128, (5, 12))), -1], [c],
         "FullyConnected", 4)
    model = m.finish([x], [c])
    it, reference = host.make(model, host.delegate(device=DEVICE, verbose=1)), host.make(model)
    check(it.taken[0] == 2, f"{it.taken} {it.notes}")
    for n in (1, 5, 2, 2):
        data = [r.integers(-128, 128, (n, 4, 3)).astype(np.int8)]
        for i in (it, reference):
            i.resize_tensor_input(i.get_input_details()[0]["index"], (n, 4, 3))
        same(host.invoke(it, data), host.invoke(reference, data), f"{n} rows")


def profile():
    if DEVICE == "ref":  # which has no kernels to tell about
        return
    model, inputs, _ = nets.mobile(8)
    path = os.path.join(os.environ["QDOT_BUILD_DIR"], "tflite_trace.json")
    with host.Stderr() as err:
        for word in ("1", path):
            it = host.make(model, host.delegate(device=DEVICE, profile=word))
            host.invoke(it, inputs())
            del it
    with open(path, encoding="utf-8") as f:
        trace = f.read()
    os.remove(path)
    check("GOP/s" in err.text and "conv_int" in err.text, err.text)
    check("conv_int" in trace, "the trace does not name conv_int")


if __name__ == "__main__":
    sys.exit(suite.run([one_group, one_group_int4, verify, default_resolver, resize, threads, host_between, moves_alone,
                        dynamic, profile]))
