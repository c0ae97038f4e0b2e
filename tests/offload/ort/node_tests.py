"""The quantization cases among ONNX's own node tests, through the plug-in: python -m node_tests. They lie in the package onnx.

Every one must give the published results, and its quantizing node must run on the plug-in, but for those that LEFT names."""
import ctypes
import glob
import os
import re

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

import plugin

FOLDER = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "node")
PATTERN = re.compile(r"test_(convinteger|dequantizelinear|dynamicquantizelinear|matmulinteger|qlinear(conv|matmul)|quantizelinear)")
CASES = 41

# Types that NumPy has not.
SMALL = (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.FLOAT4E2M1)

# Cases whose nodes stay with the host: why. Their results are checked all the same.
LEFT = {"dynamicquantizelinear%s_expanded" % s: "DynamicQuantizeLinear is written out in other operators, which compute its scale"
        for s in ("", "_max_adjusted", "_min_adjusted")}
# Cases of a type that older hosts cannot load.
HOST = ("dequantizelinear_float4e2m1", "quantizelinear_float4e2m1")


def tensors(case, kind):
    files = glob.glob(os.path.join(case, "test_data_set_0", kind + "_*.pb"))
    for path in sorted(files, key=lambda p: int(re.findall(r"\d+", p)[-1])):
        t = onnx.TensorProto()
        with open(path, "rb") as f:
            t.ParseFromString(f.read())
        yield t


def raw(t):
    """Bytes of a tensor of a small type, as models and the host pack them."""
    return np.frombuffer(t.raw_data or bytes(v & 255 for v in t.int32_data), np.uint8)


def value(t):
    """A tensor for the host."""
    if t.data_type not in SMALL:
        return plugin.ort.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(t))
    array = np.zeros(tuple(t.dims), np.uint8)
    array.reshape(-1)[: raw(t).size] = raw(t)
    return plugin.ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, t.data_type)


def arrays(got, t):
    """What came and what should have, as arrays; small types as codes of a byte, -0 of four bits being 0."""
    if t.data_type not in SMALL:
        return got.numpy(), numpy_helper.to_array(t)
    want = raw(t)
    have = np.frombuffer(ctypes.string_at(got.data_ptr(), want.size), np.uint8)
    if t.data_type == TensorProto.FLOAT4E2M1:
        have, want = ([np.where(n == 8, 0, n) for n in (a & 15, a >> 4)] for a in (have, want))
    return np.array(have), np.array(want)


def wrong(name, got, want):
    if got.shape != want.shape:
        return "the shape %s instead of %s" % (got.shape, want.shape)
    a, b = got.astype(np.float64), want.astype(np.float64)
    same = a == b if want.dtype.kind in "iu" else np.isclose(a, b, rtol=1e-3, atol=1e-7)
    if name.startswith("qlinearmatmul") and want.dtype == np.int8:
        same |= np.abs(a + 0.5) == 127.5  # the published numbers are codes modulo 256 where a limit holds
    return None if same.all() else "%d of %d numbers are others" % ((~same).sum(), same.size)


def run(case, name):
    """(what is wrong or None, operators that stayed)"""
    path = os.path.join(case, "model.onnx")
    feeds = {v.name: value(t) for v, t in zip(onnx.load(path).graph.input, tensors(case, "input"))}
    got, nodes = plugin.profiled(path, feeds)
    pairs = [arrays(v, t) for v, t in zip(got, tensors(case, "output"))]
    reasons = [r for r in (wrong(name, a, b) for a, b in pairs) if r]
    return reasons[0] if reasons else None, plugin.stayed(nodes)


def main():
    cases = sorted(c for c in glob.glob(os.path.join(FOLDER, "test_*")) if PATTERN.match(os.path.basename(c)))
    failures = 0 if len(cases) == CASES else 1
    passed = left = 0
    for case in cases:
        name = os.path.basename(case)[len("test_"):]
        try:
            reason, stayed = run(case, name)
        except Exception as e:
            reason, stayed = str(e).splitlines()[0], []
        if name in HOST and reason and "23 is not supported" in reason:
            left += 1
            print("%-42s this host does not know float4e2m1" % name)
        elif name in LEFT and stayed and not reason:
            left += 1
            print("%-42s stays with the host: %s" % (name, LEFT[name]))
        elif reason or stayed:
            failures += 1
            print("%-42s FAILS: %s" % (name, reason or "with the host stayed " + ", ".join(stayed)))
        else:
            passed += 1
    print("%d cases of ONNX pass on the plug-in, %d cannot, of %d" % (passed, left, len(cases)))
    plugin.done(failures)


if __name__ == "__main__":
    main()
