"""What peers in Python share: the protocol of README.md, and the operands that all of them use."""
import os
import sys
import time

import numpy as np

ZERO = 128


class Cannot(Exception):
    """Why a work is not done; without words, it is of no known kind."""


def codes(count, seed):
    h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    return (h >> np.uint32(24)).astype(np.uint8)


def inputs(shape):
    return codes(int(np.prod(shape)), 1).reshape(shape)


def weights(shape):
    w = codes(int(np.prod(shape)), 2).astype(np.int16) - ZERO
    return np.maximum(w, -127).astype(np.int8).reshape(shape)


def floats(bytes_of_codes):
    return (bytes_of_codes.astype(np.float32) - ZERO) / ZERO


def scales(n):
    return (2.0**-7 * (1 + (np.arange(n) % 7) / 8)).astype(np.float32)


def mark(y):
    """64 results, weighted; y as README.md orders it, codes with zero point 128."""
    y = y.ravel()
    return sum(float(y[i * 2654435761 % y.size]) * (i + 1) for i in range(64)) / 2080


def output_side(o):
    return (o["image"] + 2 * o["pad"] - o["kernel"]) // o["stride"] + 1


def layers(o):
    """A network's, each with what it reads and makes: image is None where there are rows of a matrix."""
    image, channels = o["image"] or None, o["channels"]
    for words in o["layers"].split(","):
        n, kernel, stride, groups = map(int, words.split("/")) if image else (int(words), 1, 1, 1)
        k = kernel * kernel * channels // groups
        layer = {"image": image, "channels": channels, "outputs": n, "kernel": kernel, "stride": stride, "pad": kernel // 2,
                 "groups": groups, "w_scale": (1.25 * 2.0**-7 / k**0.5 * (1 + (np.arange(n) % 7) / 8)).astype(np.float32)}
        yield layer
        image, channels = image and output_side(layer), n


def options(words):
    """Of a work, by name: whole numbers but for these."""
    given = dict(w.split("=", 1) for w in words)
    kinds = {"y_scale": float, "format": str, "layers": str}
    return {k: kinds.get(k, int)(v) for k, v in given.items()}


def serve(name, version, make_work):
    """Answers until the input ends. make_work(kind, options): an object with once(), for one pass, and result(), of which
    the mark is made, or None."""
    # Whatever a library prints goes elsewhere than the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(f"qdot-peer 1 {name} {version}", file=answers)
    work = None
    for line in sys.stdin:
        what, *words = line.split()
        if what == "work":
            work = None
            try:
                work = make_work(words[0], options(words[1:]) if words[0] not in ("prompt", "generate") else {})
                work.once()
                y = work.result()
                print("ready" if y is None else f"ready {mark(y):.6f}", file=answers)
            except Exception as e:  # of any library: it is the answer
                work = None
                print(*["cannot", *" ".join(str(e).split())[:200].split()], file=answers)
        elif what == "run" and work:
            start = time.perf_counter()
            for _ in range(int(words[0])):
                work.once()
            print(f"seconds {time.perf_counter() - start:.9f}", file=answers)
        else:
            print("error unknown request", file=answers)
