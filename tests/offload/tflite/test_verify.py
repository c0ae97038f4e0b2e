"""The option `verify`: results that differ from the reference end the run, and the message names the node of the model.

A wrong result is made below the plug-in: the OpenCL functions of tests/fault, loaded ahead of the OpenCL library, turn a bit of
what the device gives back. usage: test_verify.py [test…]"""
import os
import re
import sys

import numpy as np

import faults
import host
import operators
import suite
from model import Model

DEVICE = os.environ.get("QDOT_DEVICE", "opencl")


def chain():
    """Nodes that each launch kernels, one that only gives its input another shape, and one of the host between them; the
    nodes of the plug-in as in its messages."""
    m, r = Model(), np.random.default_rng(1)
    x = m.tensor("i8", (4, 6, 2), 0.1, 3)
    a = m.tensor("i8", (4, 6, 2), 0.1, 3, name="first")
    m.op("LEAKY_RELU", [x], [a], "LeakyRelu", 2, alpha=0.25)
    b = m.tensor("i8", (4, 6, 2), 0.1, 3, name="alone")
    m.op("ABS", [a], [b], "Abs", version=2)
    c = m.tensor("i8", (4, 6, 2), 0.2, -5, name="net/second")
    m.op("ADD", [a, b], [c], "Add", 2)
    d = m.tensor("i8", (4, 12), 0.2, -5, name="rows")
    m.op("RESHAPE", [c, m.tensor("i32", (2,), data=[4, 12])], [d], "Reshape", newShape=[4, 12])
    e = m.tensor("i8", (4, 10), 0.1, 0, name="third")
    w = m.tensor("i8", (10, 12), 0.01, 0, data=r.integers(-127, 128, (10, 12)))
    m.op("FULLY_CONNECTED", [d, w, m.tensor("i32", (10,), data=r.integers(-99, 99, 10))], [e], "FullyConnected", 4)
    inputs = [r.integers(-128, 128, (4, 6, 2)).astype(np.int8)]
    return m.finish([x], [e]), inputs, ["node 0 (LEAKY_RELU, first)", "node 2 (ADD, net/second)",
                                        "node 3 (RESHAPE, rows)", "node 4 (FULLY_CONNECTED, third)"]


def difference():
    """A wrong bit behind each launch in turn: every node is named once its own results are wrong, and the plug-in works on
    afterwards."""
    model, inputs, nodes = chain()
    want = host.run(model, inputs)
    it = host.make(model, host.delegate(device=DEVICE, verify=1))

    def right(when):
        if host.different(host.invoke(it, inputs), want):
            raise AssertionError(f"{when}: the results differ")

    right("first run")  # proves the kernels, so that no launch of the next runs is a canary's
    launches = faults.function_number(OPENCL, "clEnqueueNDRangeKernel")
    OPENCL.inject_clear()
    right("second run")
    total = OPENCL.inject_calls(launches)
    named = []
    for n in range(total):
        keep = faults.wrong_after(OPENCL, launches, n)
        try:
            host.invoke(it, inputs)
        except RuntimeError as e:
            # The host keeps the messages of earlier runs.
            found = re.findall(r"qdot: (node \d+ \(\w+, [\w/]+\)): \w+ \(.*?\): y has .*? where the reference has", str(e))
            if len(found) != n + 1:
                raise AssertionError(f"launch {n}: '{e}'") from e
            named.append(found[-1])
        else:
            raise AssertionError(f"launch {n} of {total}: nobody saw the wrong bit")
        OPENCL.inject_clear()
        del keep
        right(f"after launch {n}")
    named = list(dict.fromkeys(named))
    if named != nodes:
        raise AssertionError(f"{named} were named instead of {nodes}")


def every_operator():
    """What is one graph otherwise is one for each node: the results are the same."""
    plugin = host.delegate(device=DEVICE, verify=1)
    for number, make in enumerate(operators.ALL):
        for case in range(2):
            model, inputs = make(np.random.default_rng([7, number, case]))
            wrong = host.different(host.run(model, inputs, plugin), host.run(model, inputs))
            if wrong:
                raise AssertionError(f"{make.__name__}, case {case}: {wrong} elements differ")


if __name__ == "__main__":
    if DEVICE == "ref":
        print("the reference is not compared with itself")
        sys.exit(0)
    OPENCL = faults.load()
    sys.exit(suite.run([difference, every_operator]))
