"""Random models of one operator each, on the plug-in and on ONNX Runtime's CPU: python -m single_ops COUNT SEED [NAME].

Codes must have the same bytes, floats agree to a few units of their last place, and no node may stay with the host."""
import sys

import numpy as np

import models
import plugin


def compare(got, want):
    """What is wrong, in words; None when nothing is."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return "%s %s where the CPU has %s %s" % (got.dtype, got.shape, want.dtype, want.shape)
    if got.dtype.kind == "f":
        far = np.abs(got - want) > 2e-5 * (np.abs(want) + np.abs(want).max(initial=0))
    else:
        far = got != want
    if not far.any():
        return None
    at = tuple(int(i[0]) for i in np.nonzero(far))
    return "%d of %d differ, the first at %s: %s where the CPU has %s" % (far.sum(), far.size, at, got[at], want[at])


def run(name, seed):
    m = models.Model(np.random.default_rng(seed))
    models.CASES[name](m)
    data = m.bytes()
    got, nodes = plugin.profiled(data, m.feeds)
    want = plugin.session(data, plugin=False).run(None, m.feeds)
    if plugin.stayed(nodes):
        return "with the host stayed " + ", ".join(plugin.stayed(nodes))
    for i, (a, b) in enumerate(zip(got, want)):
        wrong = compare(a, b)
        if wrong:
            return "output %d: %s" % (i, wrong)
    return None


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    failures = 0
    for name in sys.argv[3:] or models.CASES:
        wrong = 0
        for i in range(count):
            try:
                reason = run(name, seed + i)
            except Exception as e:  # a failure of the host or the plug-in is one of the case
                reason = str(e).splitlines()[0]
            if reason:
                wrong += 1
                if wrong <= 3:
                    print("%s, seed %d: %s" % (name, seed + i, reason))
        print("%-26s %d of %d agree" % (name, count - wrong, count))
        failures += wrong
    plugin.done(failures)


if __name__ == "__main__":
    main()
