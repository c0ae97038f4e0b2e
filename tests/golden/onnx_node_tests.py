#!/usr/bin/env python3
"""Converts cases of ONNX's backend node tests, those of quantization and LayerNormalization, into golden vectors (vectors/onnx_node_tests).

    pip install onnx==1.18.0
    python tests/golden/onnx_node_tests.py tests/golden/vectors/onnx_node_tests

The cases (60 in 1.18.0) come with the package, in onnx/backend/test/data/node; their licence is Apache-2.0. Their names are
kept. A case that ends in _expanded is DynamicQuantizeLinear written as the float operators that define it; the same inputs and
outputs are run as the one operator, and the case's note says so. The int8 results of QLinearMatMul wrap around in 1.18.0, where
the operator saturates (corrected in 1.23, onnx/onnx#7835): the published bytes are the output y_wrapped, and y is saturated
here. LayerNormalization's results are y only, without the optional mean and its inverse deviation, and as near as qdot_ops.def says
of LAYER_NORM that two programs are. `--check` compares with the folder instead of writing it.
"""

import json
import os
import re
import sys

import numpy as np
import onnx
import onnx.backend.test

WANTED = re.compile(r"test_(quantizelinear|dequantizelinear|dynamicquantizelinear|qlinearmatmul|qlinearconv|matmulinteger|convinteger|"
                    r"layer_normalization(?!.*_expanded))")

# The names of inputs and outputs in the manifests, by position.
OPERANDS = {
    "QuantizeLinear": ("x scale zero_point", "y"),
    "DequantizeLinear": ("q scale zero_point", "y"),
    "DynamicQuantizeLinear": ("x", "y y_scale y_zero_point"),
    "QLinearMatMul": ("a a_scale a_zero_point b b_scale b_zero_point y_scale y_zero_point", "y"),
    "QLinearConv": ("x x_scale x_zero_point w w_scale w_zero_point y_scale y_zero_point bias", "y"),
    "MatMulInteger": ("a b a_zero_point b_zero_point", "y"),
    "ConvInteger": ("x w x_zero_point w_zero_point", "y"),
    "LayerNormalization": ("x scale bias", "y"),
}

T = onnx.TensorProto
PLAIN = {T.FLOAT: ("f32", "<f4"), T.FLOAT16: ("f16", "<f2"), T.UINT8: ("u8", "u1"), T.INT8: ("i8", "i1"), T.UINT16: ("u16", "<u2"),
         T.INT16: ("i16", "<i2"), T.INT32: ("i32", "<i4")}
BYTES = {T.FLOAT8E4M3FN: "f8e4m3fn", T.FLOAT8E5M2: "f8e5m2"}
NIBBLES = {T.UINT4: ("u8", "u4"), T.INT4: ("i8", "i4"), T.FLOAT4E2M1: ("u8", "f4e2m1fn")}


def elements(t):
    """A tensor as (dtype, logical, bytes), one code per byte."""
    count = int(np.prod(list(t.dims), dtype=np.int64))
    if t.data_type in PLAIN:
        dtype, numpy_type = PLAIN[t.data_type]
        return dtype, None, onnx.numpy_helper.to_array(t).astype(numpy_type).tobytes()
    packed = t.raw_data or bytes(v & 0xFF for v in t.int32_data)
    if t.data_type in BYTES:
        return "u8", BYTES[t.data_type], packed[:count]
    dtype, logical = NIBBLES[t.data_type]
    codes = [nibble for byte in packed for nibble in (byte & 15, byte >> 4)][:count]
    if dtype == "i8":
        codes = [(c ^ 8) - 8 & 0xFF for c in codes]
    return dtype, logical, bytes(codes)


class Data:
    """data.bin: tensors at multiples of 16, equal ones once."""

    def __init__(self):
        self.content = b""
        self.known = {}

    def place(self, raw):
        if raw not in self.known:
            self.content += b"\0" * (-len(self.content) % 16)
            self.known[raw] = len(self.content)
            self.content += raw
        return self.known[raw]


def read(path):
    t = T()
    with open(path, "rb") as f:
        t.ParseFromString(f.read())
    return t


def describe(name, path, data):
    t = read(path)
    dtype, logical, raw = elements(t)
    entry = {"name": name, "file": "data.bin", "offset": data.place(raw), "nbytes": len(raw), "dtype": dtype, "shape": list(t.dims),
             "endian": "little"}
    if logical:
        entry["logical"] = logical
    return entry


def attribute(a):
    value = onnx.helper.get_attribute_value(a)
    return value.decode() if isinstance(value, bytes) else list(value) if a.type == onnx.AttributeProto.INTS else value


def saturate(case, arrays, data):
    """Where a published result of QLinearMatMul is wrapped, makes it y_wrapped, and adds the saturated one as y."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (arrays[n] for n in OPERANDS["QLinearMatMul"][0].split())
    sums = np.matmul(a.astype(np.int32) - a_zero.astype(np.int32), b.astype(np.int32) - b_zero.astype(np.int32))
    exact = np.rint(sums * (a_scale * b_scale / y_scale) + y_zero)
    limits = np.iinfo(y_zero.dtype)
    limited = np.clip(exact, limits.min, limits.max).astype(y_zero.dtype)
    published = arrays["y"]
    if np.array_equal(limited, published):
        return
    assert np.array_equal(exact.astype(np.int64).astype(y_zero.dtype), published), case["name"]
    wrapped = case["outputs"][0]
    case["outputs"] = [dict(wrapped, offset=data.place(limited.tobytes())), dict(wrapped, name="y_wrapped")]
    case["note"] = "onnx 1.18.0 publishes y_wrapped: codes modulo 256, where the operator saturates (onnx/onnx#7835)"


def layer_norm_tolerance(attrs, arrays):
    """What two programs may differ by, each with the error that qdot_ops.def states: in all of y."""
    x, scale, bias = (arrays[n].astype(np.float64) for n in OPERANDS["LayerNormalization"][0].split())
    rows = x.reshape(*x.shape[: attrs.get("axis", -1) % x.ndim], -1)
    deviation = np.sqrt(rows.var(-1, keepdims=True) + attrs.get("epsilon", 1e-5))
    y = (rows - rows.mean(-1, keepdims=True)) / deviation
    error = (rows.shape[-1] / 16 + 16) * 2.0**-24 * (np.abs(rows).mean(-1, keepdims=True) / deviation + np.abs(y))
    error = error * np.abs(scale.ravel()) + 2.0**-23 * np.abs(y * scale.ravel()) + 2.0**-24 * np.abs(bias.ravel())
    return float(f"{2 * error.max():.2g}")


def convert(name, folder, data):
    model = onnx.load(os.path.join(folder, "model.onnx"))
    case = {"name": name, "op": model.graph.node[0].op_type, "expect": "ok", "attrs": {}}
    positions = list(range(len(model.graph.input)))
    if name.endswith("_expanded"):
        case["op"] = "DynamicQuantizeLinear"
        case["note"] = "a graph of float operators that defines DynamicQuantizeLinear; to be run as that operator"
    else:
        assert len(model.graph.node) == 1, name
        node = model.graph.node[0]
        case["attrs"] = {a.name: attribute(a) for a in node.attribute if a.name != "output_dtype"}
        # A node's input may be left out; the files hold the others.
        positions = [i for i, n in enumerate(node.input) if n]
        assert [node.input[i] for i in positions] == [i.name for i in model.graph.input], name
    names_in, names_out = (words.split() for words in OPERANDS[case["op"]])
    sets = os.path.join(folder, "test_data_set_0")
    inputs = {names_in[p]: os.path.join(sets, f"input_{i}.pb") for i, p in enumerate(positions)}
    outputs = {n: os.path.join(sets, f"output_{i}.pb") for i, n in enumerate(names_out)}
    case["inputs"] = [describe(n, path, data) for n, path in inputs.items()]
    case["outputs"] = [describe(n, path, data) for n, path in outputs.items()]
    arrays = {n: onnx.numpy_helper.to_array(read(path)) for n, path in (inputs | outputs).items()}
    if case["op"] == "QLinearMatMul":
        saturate(case, arrays, data)
    near = case["op"] == "LayerNormalization"
    for output in case["outputs"]:
        output["tolerance"] = {"max_abs": layer_norm_tolerance(case["attrs"], arrays)} if near else "exact"
        if output.get("logical") == "f4e2m1fn":
            output["equivalent_nibbles"] = [[0, 8]]  # the published tests compare values: -0 is 0
    return case


def main():
    check = "--check" in sys.argv
    words = [w for w in sys.argv[1:] if w != "--check"]
    if len(words) != 1:
        sys.exit(__doc__)
    root = os.path.join(os.path.dirname(onnx.backend.test.__file__), "data", "node")
    data = Data()
    cases = [convert(name, os.path.join(root, name), data) for name in sorted(os.listdir(root)) if WANTED.match(name)]
    head = {"format_version": 1, "group": "onnx_node_tests", "set": "public", "seed": 0, "source": {"onnx (backend node tests)": onnx.__version__},
            "rounding": "as the operators are defined", "note": "made by onnx_node_tests.py; licence of the values: Apache-2.0",
            "case_count": len(cases)}
    text = json.dumps(head)[:-1] + ', "cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n"
    for name, content in (("cases.json", text.encode()), ("data.bin", data.content)):
        path = os.path.join(words[0], name)
        if check:
            with open(path, "rb") as f:
                if f.read() != content:
                    sys.exit(f"{path} differs from what onnx {onnx.__version__} holds")
        else:
            os.makedirs(words[0], exist_ok=True)
            with open(path, "wb") as f:
                f.write(content)
    print(f"{len(cases)} cases, {len(data.content)} bytes")


main()
