"""The option `verify`: a result that differs from the reference ends the run, and the message names the node of the model:
python -m verify. A wrong bit is put behind each launch in turn; afterwards the session works on."""
import os
import re
import sys

import numpy as np

import faults
import models
import plugin

NAMED = re.compile(r"qdot: (node '\w+' \(\w+\)): \w+ \(\w+ on \S+.*\): y has .* where the reference has", re.S)


def chain():
    """Units of one node and of three; and their nodes as messages name them."""
    m = models.Model(np.random.default_rng(2))
    q = m.quant(np.uint8)
    x = m.node("QuantizeLinear", [m.input(m.rng.standard_normal((4, 8)).astype(np.float32))] + q)
    total = m.node("QLinearAdd", [x] + q + [m.const(m.codes((8,), np.uint8))] + m.quant(np.uint8) + q, domain=models.MS)
    product = m.node("QLinearMatMul", [total] + q + [m.const(m.codes((8, 6), np.int8)), m.const(np.float32(0.01)),
                                                     m.const(np.int8(0))] + q)
    wave = m.node("Sigmoid", [m.node("DequantizeLinear", [product] + q)])
    m.output(m.node("QuantizeLinear", [wave, m.const(np.float32(1 / 255)), m.const(np.uint8(0))]), np.uint8)
    nodes = zip((x, total, product, wave), ("QuantizeLinear", "QLinearAdd", "QLinearMatMul", "Sigmoid"))
    return m, ["node 'n_%s' (%s)" % n for n in nodes]


def main():
    if os.environ.get("QDOT_DEVICE") == "ref":
        print("the reference is not compared with itself")
        return
    opencl = faults.load()
    m, nodes = chain()
    (want,) = plugin.session(m.bytes(), plugin=False).run(None, m.feeds)
    s = plugin.session(m.bytes(), {"verify": "1"}, level=4)
    launches = faults.function_number(opencl, "clEnqueueNDRangeKernel")

    def check_right():
        assert np.array_equal(s.run(None, m.feeds)[0], want)

    check_right()  # proves the kernels, so that no launch of the next runs is a canary's
    opencl.inject_clear()
    check_right()
    count = opencl.inject_calls(launches)
    named, failures = [], 0
    for n in range(count):
        keep = faults.wrong_after(opencl, launches, n)
        try:
            s.run(None, m.feeds)
            message = "nothing failed"
        except Exception as e:
            message = str(e)
        opencl.inject_clear()
        del keep
        found = NAMED.search(message)
        if found:
            named.append(found[1])
        else:
            failures += 1
            print("a wrong bit behind launch %d of %d: %s" % (n, count, message))
        check_right()
    named = list(dict.fromkeys(named))
    print("%d wrong results; named were %s" % (count, ", ".join(named)))
    plugin.done(failures + (named != nodes))


if __name__ == "__main__":
    sys.exit(main())
