"""Writes a small GGUF model with nothing but struct: python3 tiny_gguf.py FILE [WORD…]. Its tensors have the names and the shapes
of a llama-type model. Words: nan, inf, large (one weight of the third matrix), huge (16 M weights, for what takes time)."""
import random
import struct
import sys

F32, F16 = 0, 1
ALIGNMENT = 32


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def value(key, kind, data):
    return text(key) + struct.pack("<I", kind) + data


def main():
    path, words = sys.argv[1], sys.argv[2:]
    random.seed(1)
    values = [value("general.architecture", 8, text("llama")), value("general.name", 8, text("tiny")),
              value("general.file_type", 4, struct.pack("<I", 1)),
              value("llama.block_count", 4, struct.pack("<I", 1)),
              value("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + text("a") + text("") + text("bc"))]
    # name, type, dimensions with the columns first
    tensors = [("token_embd.weight", F16, (64, 50)), ("blk.0.attn_norm.weight", F32, (64,)),
               ("blk.0.attn_q.weight", F32, (64, 48)), ("blk.0.attn_k.weight", F16, (64, 32)),
               ("blk.0.ffn_down.weight", F32, (40, 64)), ("output_norm.weight", F32, (64,)),
               ("output.weight", F32, (256, 3))]
    if "huge" in words:
        tensors.append(("blk.0.ffn_up.weight", F32, (4096, 4096)))
    head, data = b"", []
    at = 0
    for name, kind, shape in tensors:
        count = 1
        for n in shape:
            count *= n
        if count > 1 << 20:
            numbers = b"\0" * (4 * count)
        else:
            weights = [random.gauss(0, 0.1) for _ in range(count)]
            if name == "blk.0.attn_q.weight":
                for word, bad in (("nan", float("nan")), ("inf", float("inf")), ("large", 70000.0)):
                    if word in words:
                        weights[5 * 64 + 7] = bad
            numbers = struct.pack("<%d%s" % (count, "e" if kind == F16 else "f"), *weights)
        head += text(name) + struct.pack("<I%dQIQ" % len(shape), len(shape), *shape, kind, at)
        padding = -len(numbers) % ALIGNMENT
        data.append(numbers + b"\0" * padding)
        at += len(numbers) + padding
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values) + head
    with open(path, "wb") as f:
        f.write(start + b"\0" * (-len(start) % ALIGNMENT))
        for numbers in data:
            f.write(numbers)


if __name__ == "__main__":
    main()
