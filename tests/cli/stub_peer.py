"""Peers that test_peers.sh lets qdot start: stub_peer.py BEHAVIOUR THREADS. `good` computes its mark from the definitions in
tests/bench/README.md; the others do what no peer should."""
import os
import struct
import subprocess
import sys
import time

behaviour, threads = sys.argv[1:]


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def code(i, seed):
    h = (i * 2654435761 + seed) & 0xFFFFFFFF
    h ^= h >> 15
    h = h * 2246822519 & 0xFFFFFFFF
    return (h ^ h >> 13) >> 24


def weight(i):
    return max(code(i, 2) - 128, -127)


def result(o, at):
    """Of a convolution: the element at an index of y, [side][side][outputs]."""
    image, channels, n, kernel, stride, pad, groups = (
        int(o[k]) for k in ("image", "channels", "outputs", "kernel", "stride", "pad", "groups"))
    side, part = (image + 2 * pad - kernel) // stride + 1, channels // groups
    row, column, out = at // n // side, at // n % side, at % n
    first, total = out // (n // groups) * part, 0
    for y in range(kernel):
        for x in range(kernel):
            iy, ix = row * stride + y - pad, column * stride + x - pad
            if not (0 <= iy < image and 0 <= ix < image):
                continue
            for c in range(part):
                value = code((iy * image + ix) * channels + first + c, 1) - 128
                total += value * weight(((out * kernel + y) * kernel + x) * part + c)
    factor = f32(f32(2**-6 * f32(2**-7 * (1 + out % 7 / 8))) / f32(float(o["y_scale"])))
    return min(max(round(f32(f32(total) * factor)) + 128, 0), 255)


def mark(words):
    o = dict(w.split("=") for w in words[1:])
    side = (int(o["image"]) + 2 * int(o["pad"]) - int(o["kernel"])) // int(o["stride"]) + 1
    count = side * side * int(o["outputs"])
    return sum(result(o, i * 2654435761 % count) * (i + 1) for i in range(64)) / 2080


def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def hang():
    """With a child, which must not be left either."""
    child = subprocess.Popen(["sleep", "1000"])
    print(child.pid, file=open(f"{os.environ['STUB_PIDS']}/child-{behaviour}", "w"))
    time.sleep(1000)


print(os.getpid(), file=open(f"{os.environ['STUB_PIDS']}/{behaviour}", "w"))
if behaviour == "hangs_at_once":
    hang()
say({"greets_wrongly": "hello\n", "greets_longer": "qdot-peer 1 a b c\n", "greets_without_end": "x" * 5000}.get(
    behaviour, f"qdot-peer 1 {behaviour} 1.0-{threads}\n"))
for line in sys.stdin:
    what, *words = line.split()
    if behaviour == f"dies_at_{what}":
        sys.exit(7)
    if behaviour == f"crashes_at_{what}":
        os.abort()
    if behaviour == f"hangs_at_{what}":
        hang()
    if behaviour == f"babbles_at_{what}":
        say("\x1b[31mwhat?\n")
    elif what == "work" and behaviour == "cannot":
        say("cannot do that\n")
    elif what == "work":
        say(f"ready {mark(words) + (1 if behaviour == 'differs' else 0)}\n")
    else:
        time.sleep(1e-6 * int(words[0]))
        say(f"seconds {1000 if behaviour == 'lies' else 1e-6 * int(words[0])}\n")
