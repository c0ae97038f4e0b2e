"""Damaged models: where LiteRT alone does not crash, it must not with the plug-in either. Each case runs in a process of its own,
on the device `ref`.

usage: fuzz_models.py [cases] [first seed]"""
import os
import sys

import numpy as np

import host
import nets
import operators


def damaged(seed):
    r = np.random.default_rng([99, seed])
    if r.integers(2):
        model, inputs, _ = nets.mobile(seed, 1, 7, 6, mean=bool(r.integers(2)))
        x = inputs()
    else:
        model, x = operators.ALL[int(r.integers(len(operators.ALL)))](r)
    data = bytearray(model)
    for _ in range(int(r.integers(1, 4))):
        # Weights fill most of the file; tables lie at its ends.
        at = int(r.integers(len(data))) if r.integers(3) == 0 else int(r.integers(min(6000, len(data))))
        if r.integers(2):
            at = len(data) - 1 - at
        data[at] = int(r.integers(256)) if r.integers(2) else data[at] ^ 1 << int(r.integers(8))
    return bytes(data), x


def attempt(seed, with_plugin):
    """Exit status of a process that runs the model: 0 ran, 1 refused; negative: the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        status = 1
        try:
            model, x = damaged(seed)
            host.run(model, x, host.delegate(device="ref") if with_plugin else None)
            status = 0
        except (ValueError, RuntimeError, TypeError):
            pass
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    ran = refused = crashed_alone = failed = 0
    for seed in range(first, first + cases):
        status = attempt(seed, True)
        ran += status == 0
        refused += status == 1
        if status >= 0:
            continue
        if attempt(seed, False) < 0:
            crashed_alone += 1
            continue
        failed += 1
        print(f"seed {seed}: ended by signal {-status} with the plug-in only")
    print(f"{cases} damaged models: {ran} ran, {refused} were refused, LiteRT alone crashes on {crashed_alone}, "
          f"{failed} crashed with the plug-in only")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
