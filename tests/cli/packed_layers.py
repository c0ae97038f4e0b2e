"""Layers of GPTQ and AWQ in safetensors files, from the definitions of their makers, with nothing but struct and json.

  packed_layers.py write FILE gptq|awq|order [--bits B] [--seed S]   a file with one layer and a few plain tensors
  packed_layers.py same FILE FILE                                    the layers stand for the same weights
  packed_layers.py tensors FILE                                      names, types and shapes as JSON"""
import json
import random
import struct
import sys

K, N, GROUP = 128, 32, 64
AWQ = (0, 2, 4, 6, 1, 3, 5, 7)


def write(path, tensors, metadata=None):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, kind, shape, content in tensors:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def read(path):
    raw = open(path, "rb").read()
    size = struct.unpack_from("<Q", raw)[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], raw[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]])
            for name, t in header.items()}


def words(codes, bits, order=None):
    """One list of codes to 32-bit words: a stream of bits, the lowest first; or eight to a word in AWQ's order."""
    if order:
        codes = [codes[i + o] for i in range(0, len(codes), 8) for o in order]
    stream = sum(c << (bits * i) for i, c in enumerate(codes))
    return list(struct.unpack("<%dI" % (len(codes) * bits // 32), stream.to_bytes(len(codes) * bits // 8, "little")))


def codes_of(packed, bits, order=None):
    stream = int.from_bytes(struct.pack("<%dI" % len(packed), *packed), "little")
    codes = [stream >> (bits * i) & ((1 << bits) - 1) for i in range(len(packed) * 32 // bits)]
    if order:
        out = [0] * len(codes)
        for i in range(0, len(codes), 8):
            for j, o in enumerate(order):
                out[i + o] = codes[i + j]
        codes = out
    return codes


def columns(rows):
    return [list(c) for c in zip(*rows)]


def flat(rows):
    return [x for row in rows for x in row]


def layer(kind, bits, base):
    top = (1 << bits) - 1
    codes = [[random.randint(0, top) for _ in range(N)] for _ in range(K)]
    zeros = [[random.randint(0, top) for _ in range(N)] for _ in range(K // GROUP)]
    scales = struct.pack("<%de" % (N * K // GROUP), *[random.uniform(0.001, 0.02) for _ in range(N * K // GROUP)])
    groups = [k // GROUP for k in range(K)]
    if kind == "order":
        random.shuffle(groups)
    if kind == "awq":
        weight = [words(row, bits, AWQ) for row in codes]
        zero = [words(row, bits, AWQ) for row in zeros]
    else:
        weight = columns([words(column, bits) for column in columns(codes)])
        zero = [words([(z - 1) & top for z in row], bits) for row in zeros]
    pack = lambda rows: struct.pack("<%dI" % len(flat(rows)), *flat(rows))
    out = [(base + ".qweight", "I32", [len(weight), len(weight[0])], pack(weight)),
           (base + ".qzeros", "I32", [len(zero), len(zero[0])], pack(zero))]
    if kind != "awq":
        out.append((base + ".g_idx", "I32", [K], struct.pack("<%di" % K, *groups)))
    return out + [(base + ".scales", "F16", [K // GROUP, N], scales)]


def values(tensors, base):
    """w[k][n] of a layer."""
    weight, zero, scales = (tensors[base + end] for end in (".qweight", ".qzeros", ".scales"))
    n, groups = scales[1][1], scales[1][0]
    bits = zero[1][1] * 32 // n
    unpack = lambda t, kind: [list(struct.unpack_from("<%d%s" % (t[1][1], kind), t[2], 4 * t[1][1] * i)) for i in range(t[1][0])]
    scale = struct.unpack("<%d%s" % (n * groups, "e" if scales[0] == "F16" else "f"), scales[2])
    if weight[1][1] == n:
        codes = columns([codes_of(column, bits) for column in columns(unpack(weight, "I"))])
        zeros = [[(z + 1) & ((1 << bits) - 1) for z in codes_of(row, bits)] for row in unpack(zero, "I")]
        group_of = struct.unpack("<%di" % len(codes), tensors[base + ".g_idx"][2])
    else:
        codes = [codes_of(row, bits, AWQ) for row in unpack(weight, "I")]
        zeros = [codes_of(row, bits, AWQ) for row in unpack(zero, "I")]
        group_of = [k // (len(codes) // groups) for k in range(len(codes))]
    return [[scale[group_of[k] * n + i] * (codes[k][i] - zeros[group_of[k]][i]) for i in range(n)] for k in range(len(codes))]


def main():
    words_ = sys.argv[1:]
    if words_[0] == "write":
        bits = int(words_[words_.index("--bits") + 1]) if "--bits" in words_ else 4
        random.seed(7)
        norm = struct.pack("<%de" % K, *[random.gauss(1, 0.1) for _ in range(K)])
        codes = bytes(random.randint(0, 255) for _ in range(64))
        write(words_[1], layer(words_[2], bits, "model.layers.0.mlp.up_proj") +
              [("model.norm.weight", "F16", [K], norm), ("packed", "U8", [64], codes)], {"format": "pt"})
    elif words_[0] == "same":
        a, b = read(words_[1]), read(words_[2])
        bases = [name[:-8] for name in a if name.endswith(".qweight")]
        sys.exit(not bases or any(values(a, base) != values(b, base) for base in bases) or
                 a.get("model.norm.weight") != b.get("model.norm.weight"))
    elif words_[0] == "tensors":
        print(json.dumps({name: [t[0], t[1]] for name, t in read(words_[1]).items()}))


if __name__ == "__main__":
    main()
