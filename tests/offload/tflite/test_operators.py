"""Every operator on random shapes and scales: the plug-in's bytes against those of LiteRT's reference kernels. Also tells
how often LiteRT's optimized kernels differ from its reference.

usage: test_operators.py [cases for each operator] [operator…]"""
import os
import sys

import numpy as np

import host
import operators

# Why a node may stay with the host although its operator is known.
EXPECTED = ("the activation leaves no code but 0", "rounds in float32 to another element")


def main():
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    names = sys.argv[2:]
    device = os.environ.get("QDOT_DEVICE", "opencl")
    plugin = host.delegate(device=device, verbose=1)
    failed = 0
    print(f"{'operator':26} {'cases':>6} {'taken':>6} {'differ':>7} {'optimized differ':>17}")
    for number, make in enumerate(operators.ALL):
        if names and make.__name__ not in names:
            continue
        taken = refused = differ = other = 0
        first = None
        for case in range(cases):
            model, inputs = make(np.random.default_rng([number, case]))
            want = host.run(model, inputs)
            try:
                other += host.different(host.run(model, inputs, resolver=host.OPTIMIZED), want) > 0
            except RuntimeError:  # what the optimized kernels do not have
                other += 1
            it = host.make(model, plugin)
            notes = [line for line in it.notes.splitlines() if "stays with" in line]
            whole = it.taken is not None and it.taken[0] == it.taken[1]
            allowed = whole or all(any(why in line for why in EXPECTED) for line in notes)
            taken += whole
            refused += not allowed
            wrong = host.different(host.invoke(it, inputs), want)
            differ += wrong > 0
            if (wrong or not allowed) and first is None:
                first = f"case {case}: {wrong} elements differ; {notes}"
        print(f"{make.__name__:26} {cases:6} {taken:6} {differ:7} {other:17}")
        if first:
            print(f"  {first}")
        failed += differ > 0 or refused > 0 or taken == 0
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
