"""LoRA adapters with nothing but struct, for test_lora.sh.

    python3 lora_files.py adapter MODEL ADAPTER [LAYER,…] [WORD…]   a random one of rank 4 for all matrices of those layers (or all)
    python3 lora_files.py merge MODEL ADAPTER SCALE                 adds scale · alpha / rank · b · a to the f32 matrices of MODEL

Words: zero (b is), no-alpha, rank-0, wide (one factor has a column more), stranger (a tensor of no matrix), embedding.
"""
import array
import mmap
import random
import struct
import sys

F32, ALIGNMENT, RANK, ALPHA = 0, 32, 4, 8.0
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


class Reader:
    """Name -> (type, dimensions with the columns first, place in the file) of each tensor."""

    def __init__(self, data):
        self.data, self.at = data, 4
        version, tensors, values = self.take("IQQ")
        assert data[:4] == b"GGUF" and version == 3
        for _ in range(values):
            self.string()
            self.skip(*self.take("I"))
        self.tensors = {}
        for _ in range(tensors):
            name = self.string()
            shape = self.take("%dQ" % self.take("I")[0])
            self.tensors[name] = (*self.take("I"), shape, *self.take("Q"))
        start = -(-self.at // ALIGNMENT) * ALIGNMENT
        self.tensors = {n: (kind, shape, start + at) for n, (kind, shape, at) in self.tensors.items()}

    def take(self, format):
        found = struct.unpack_from("<" + format, self.data, self.at)
        self.at += struct.calcsize("<" + format)
        return found

    def string(self):
        size, = self.take("Q")
        self.at += size
        return bytes(self.data[self.at - size:self.at]).decode()

    def skip(self, kind):
        if kind == 8:
            self.string()
        elif kind == 9:
            item, count = self.take("IQ")
            for _ in range(count):
                self.skip(item)
        else:
            self.at += (1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8)[kind]

    def floats(self, name):
        kind, shape, at = self.tensors[name]
        assert kind == F32, name
        found = array.array("f")
        found.frombytes(self.data[at:at + 4 * shape[0] * shape[1]])
        return found, shape


def mapped(path, writable):
    with open(path, "r+b" if writable else "rb") as f:
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)


def write_adapter(model, path, words):
    random.seed(4)
    layers = [int(n) for w in words if w[0].isdigit() for n in w.split(",")]
    shapes = Reader(mapped(model, False)).tensors
    tensors = []
    for name, (_, shape, _) in sorted(shapes.items()):
        part = name.split(".")
        if name == "token_embd.weight" and "embedding" not in words or len(part) == 4 and part[2] not in MATRICES:
            continue
        if len(shape) != 2 or part[0] == "blk" and layers and int(part[1]) not in layers:
            continue
        rank = 0 if "rank-0" in words else RANK
        more = 1 if "wide" in words and part[-2] == "ffn_up" else 0
        for suffix, size, scale in (("a", (shape[0] + more, rank), 0.1), ("b", (rank, shape[1]), 0.1)):
            numbers = array.array("f", bytes(4 * size[0] * size[1]))
            if suffix == "a" or "zero" not in words:
                for i in range(len(numbers)):
                    numbers[i] = (random.random() - 0.5) * scale
            tensors.append((name + ".lora_" + suffix, size, numbers.tobytes()))
    if "stranger" in words:
        tensors.append(("blk.0.attn_gate.weight.lora_a", (4, 4), bytes(64)))
    values = [text("general.type") + struct.pack("<I", 8) + text("adapter"),
              text("general.architecture") + struct.pack("<I", 8) + text("llama"),
              text("adapter.type") + struct.pack("<I", 8) + text("lora")]
    if "no-alpha" not in words:
        values.append(text("adapter.lora.alpha") + struct.pack("<If", 6, ALPHA))
    head, data = b"", b""
    for name, size, numbers in tensors:
        head += text(name) + struct.pack("<IQQIQ", 2, *size, F32, len(data))
        data += numbers + b"\0" * (-len(numbers) % ALIGNMENT)
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values) + head
    with open(path, "wb") as f:
        f.write(start + b"\0" * (-len(start) % ALIGNMENT) + data)


def merge(model, adapter, scale):
    data = mapped(model, True)
    target, factors = Reader(data), Reader(mapped(adapter, False))
    for name in [n[:-len(".lora_a")] for n in factors.tensors if n.endswith(".lora_a")]:
        a, (cols, rank) = factors.floats(name + ".lora_a")
        b, _ = factors.floats(name + ".lora_b")
        w, (_, rows) = target.floats(name)
        of_a = [a[l * cols:(l + 1) * cols] for l in range(rank)]
        for r in range(rows):
            c = [scale * ALPHA / rank * b[r * rank + l] for l in range(rank)]
            line = w[r * cols:(r + 1) * cols]
            w[r * cols:(r + 1) * cols] = array.array("f", [
                x + sum(p * q for p, q in zip(c, column)) for x, column in zip(line, zip(*of_a))])
        at = target.tensors[name][2]
        data[at:at + 4 * len(w)] = w.tobytes()
    data.flush()


if __name__ == "__main__":
    if sys.argv[1] == "merge":
        merge(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    else:
        write_adapter(sys.argv[2], sys.argv[3], sys.argv[4:])
