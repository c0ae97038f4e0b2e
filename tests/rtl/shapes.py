#!/usr/bin/env python3
"""The cycle model against the unit in random shapes, which are verilated here:

shapes.py [COUNT [SEED]]     COUNT shapes (default: 10), 30 random jobs and products under stalls with each

Needs what mutants.py needs."""
import os
import random
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import mutants  # noqa: E402

BOARDS = "5"


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


def beat(pick, word):
    """Bytes of a beat: a word's divisor that a board of host/rtl/board.c can give."""
    return pick.choice([d for d in divisors(word) if d in (1, 2) or d % 4 == 0])


def shape(pick):
    rows, cols, lanes = pick.randint(1, 9), pick.randint(1, 6), pick.choice([1, 2, 4, 8, 16])
    parameters = {
        "ROWS": rows,
        "COLS": cols,
        "LANES": lanes,
        "QUANTS": pick.choice([d for d in divisors(rows) if d & (d - 1) == 0]),
        "PACK": pick.randint(0, 1),
        "W_BYTES": beat(pick, rows * lanes),
        "X_BYTES": beat(pick, cols * lanes),
        "W_ADDRESS": pick.randint(2, 7),
        "X_ADDRESS": pick.randint(2, 7),
    }
    return " ".join(f"{name}={value}" for name, value in parameters.items())


def main():
    reason = mutants.cannot_run()
    if reason:
        print(reason)
        return 77
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    pick = random.Random(seed)
    with tempfile.TemporaryDirectory() as work:
        bench = mutants.Bench(work)
        for i in range(count):
            parameters = shape(pick)
            bench.shapes["plain"] = parameters
            library = bench.library(mutants.RTL, "plain", os.path.join(work, str(i)))
            command = [os.path.join(mutants.BUILD, "tests", "rtl", "rtl_test_cycles"), BOARDS, "plain", str(1 + i * 100)]
            done = subprocess.run(command, cwd=mutants.ROOT, check=False, capture_output=True, text=True,
                                  env={**os.environ, "QDOT_RTL_MODELS": library})
            if done.returncode:
                print(f"{parameters}: {done.stdout}{done.stderr}")
                return 1
    print(f"{count} shapes: model and unit are equal to the cycle")
    return 0


if __name__ == "__main__":
    sys.exit(main())
