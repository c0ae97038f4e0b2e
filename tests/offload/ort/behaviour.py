"""Options, devices, versions, damaged models, shapes, threads: python -m behaviour. Each test_ function is one case."""
import contextlib
import ctypes
import glob
import io
import json
import os
import re
import sys
import tempfile
import threading
import traceback

import numpy as np
from onnx import TensorProto as T

import models
import plugin


@contextlib.contextmanager
def log():
    """Collects what the process writes on standard error, as [text], and leaves out what Python's host prints."""
    text = []
    with tempfile.TemporaryFile() as f:
        saved = os.dup(2)
        sys.stderr.flush()
        os.dup2(f.fileno(), 2)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            f.seek(0)
            text.append(f.read().decode(errors="replace"))


def fails(f):
    """The message with which f() fails."""
    with log():
        try:
            f()
        except Exception as e:
            return str(e)
    raise AssertionError("nothing failed")


def need(text, *words):
    for w in words:
        assert w in text, "no '%s' in: %s" % (w, text[-1500:])


def product(rng=None, rows=4, dynamic=False):
    """A MatMulInteger."""
    m = models.Model(rng or np.random.default_rng(5))
    x = m.input(m.codes((rows, 32), np.uint8), dynamic)
    m.output(m.node("MatMulInteger", [x, m.const(m.codes((32, 8), np.int8))]), np.int32)
    return m


def cpu(m, feeds=None):
    return plugin.session(m.bytes(), plugin=False).run(None, feeds or m.feeds)


def agree(m, options=None, level=3):
    """Runs a model with the plug-in and without; returns what stayed with the host, and the log."""
    with log() as text:
        got, nodes = plugin.profiled(m.bytes(), m.feeds, options=options, level=level)
    for a, b in zip(got, cpu(m)):
        assert np.array_equal(a, b, equal_nan=True), "%s instead of %s" % (a, b)
    return plugin.stayed(nodes), text[0]


# ---- Options, devices, versions -------------------------------------------------------------------------------


def test_wrong_options():
    m = product().bytes()
    need(fails(lambda: plugin.session(m, {"devise": "ref"})), "'devise'", "known are: device", "verify", "profile")
    need(fails(lambda: plugin.session(m, {"verify": "maybe"})), "verify cannot be 'maybe'", "known are: device")
    need(fails(lambda: plugin.session(m, {"device": ""})), "device cannot be ''")


def test_missing_device():
    need(fails(lambda: plugin.session(product().bytes(), {"device": "opencl:No such vendor"})), "No such vendor", "qdot devices")
    with log():
        s = plugin.session(product().bytes(), {"device": "opencl:No such vendor"}, fallback=True)
    assert np.array_equal(s.run(None, product().feeds)[0], cpu(product())[0])  # the host goes on without the plug-in


def test_devices():
    for device in ("ref", "opencl"):
        stayed, text = agree(product(), {"device": device}, level=1)
        assert stayed == []
        need(text, "1 of 1 nodes go to " + device)


def test_older_host():
    """A host without this plug-in's version of the API gets a status that says so."""
    library = glob.glob(os.path.join(os.path.dirname(plugin.ort.__file__), "capi", "onnxruntime_pybind11_state*.so"))[0]
    GetApi, GetVersion = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32), ctypes.CFUNCTYPE(ctypes.c_void_p)
    name = ctypes.create_string_buffer(b"1.22.0")

    class Base(ctypes.Structure):
        _fields_ = [("GetApi", GetApi), ("GetVersionString", GetVersion)]

    host = ctypes.CDLL(library)
    if not hasattr(host, "OrtGetApiBase"):
        host = ctypes.CDLL(sorted(glob.glob(os.path.join(os.path.dirname(library), "libonnxruntime.so*")))[0])
    host.OrtGetApiBase.restype = ctypes.POINTER(Base)
    real = host.OrtGetApiBase().contents
    old = Base(GetApi(lambda version: real.GetApi(version) if version < 23 else None), GetVersion(lambda: ctypes.addressof(name)))
    create = ctypes.CDLL(plugin.LIBRARY).CreateEpFactories
    create.restype = ctypes.c_void_p
    factories, count = (ctypes.c_void_p * 4)(), ctypes.c_size_t()
    status = create(b"qdot", ctypes.byref(old), None, factories, ctypes.c_size_t(4), ctypes.byref(count))
    assert status and count.value == 0
    functions = ctypes.cast(real.GetApi(1), ctypes.POINTER(ctypes.c_void_p))  # CreateStatus, GetErrorCode, GetErrorMessage
    message = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(functions[2])(status)
    need(message.decode(), "needs ONNX Runtime 1.23", "1.22.0")


def test_verify():
    assert agree(product(), {"verify": "1"})[0] == []


def test_profile():
    s = plugin.session(product().bytes(), {"profile": "1"})
    s.run(None, product().feeds)
    with log() as text:
        del s
    need(text[0], "kernel", "matmul_int")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        s = plugin.session(product().bytes(), {"profile": path})
        s.run(None, product().feeds)
        del s
        with open(path) as f:
            assert json.load(f)


# ---- Models that are damaged, or beyond the plug-in ------------------------------------------------------------


def test_broken_scales():
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        m = models.Model(np.random.default_rng(6))
        y = m.node("DequantizeLinear", [m.input(m.codes((3, 4), np.uint8)), m.const(np.float32(scale)), m.const(np.uint8(3))])
        m.output(y, np.float32)
        stayed, text = agree(m, level=2)
        assert stayed == ["DequantizeLinear"]
        need(text, "node 'n_%s' (DequantizeLinear) stays with the host: the scale of x is" % y, "it must be positive and finite")


def test_broken_zero_point():
    """The host itself refuses a zero point of another type."""
    m = models.Model(np.random.default_rng(6))
    y = m.node("QLinearMatMul", [m.input(m.codes((3, 4), np.uint8)), m.const(np.float32(1)), m.const(np.int8(3)),
                                 m.const(m.codes((4, 4), np.uint8))] + m.quant(np.uint8) + m.quant(np.uint8))
    m.output(y, np.uint8)
    need(fails(lambda: plugin.session(m.bytes())), "QLinearMatMul")


def test_broken_shape_of_weights():
    m = models.Model(np.random.default_rng(6))
    x = m.input(m.rng.standard_normal((2, 64)).astype(np.float32))
    y = m.node("MatMulNBits", [x, m.const(m.codes((8, 2, 16), np.uint8)), m.const(np.ones(15, np.float32))], domain=models.MS,
               K=64, N=8, bits=4, block_size=32)
    m.output(y, np.float32)
    with log() as text:
        try:
            plugin.session(m.bytes(), level=2).run(None, m.feeds)
        except Exception:  # the CPU refuses it, too
            pass
    need(text[0], "'n_%s' (MatMulNBits) stays with the host: B or scales do not have the shape" % y)


def test_unsupported_stays():
    """Codes of 16 bits around a convolution: nothing of the pattern is taken apart."""
    m = models.Model(np.random.default_rng(7))
    q = [m.const(np.float32(0.01)), m.const(np.uint16(30000))]
    x = m.node("DequantizeLinear", [m.input(m.codes((1, 2, 5, 5), np.uint16))] + q)
    w = m.node("DequantizeLinear", [m.const(m.codes((3, 2, 3, 3), np.int8)), m.const(np.float32(0.1)), m.const(np.int8(0))])
    y = m.node("Conv", [x, w])
    m.quantized(y, np.uint16, q)
    with log() as text:
        got, nodes = plugin.profiled(m.bytes(), m.feeds, level=0)
    assert "Conv" in plugin.stayed(nodes)
    need(text[0], "node 'n_%s' (Conv) stays with the host: x is uint16" % y)
    assert np.abs(got[0].astype(int) - cpu(m)[0].astype(int)).max() <= 1


def test_part_that_would_come_back():
    """Two products with a node of the host between them, and a path around it: they cannot be one part."""
    m = models.Model(np.random.default_rng(8))
    x, xs, xz = m.node("DynamicQuantizeLinear", [m.input(m.rng.standard_normal((4, 16)).astype(np.float32))], 3)

    def step(codes, zero, scale):
        acc = m.node("MatMulInteger", [codes, m.const(m.codes((16, 16), np.uint8)), zero, m.const(np.uint8(7))])
        return m.node("Mul", [m.node("Cast", [acc], to=T.FLOAT), m.node("Mul", [scale, m.const(np.float32(0.5))])])

    a = step(x, xz, xs)
    b, bs, bz = m.node("DynamicQuantizeLinear", [m.node("Sin", [a])], 3)
    m.output(m.node("QLinearConcat", m.quant(np.uint8) + [x] + m.quant(np.uint8) + [b] + m.quant(np.uint8), domain=models.MS, axis=0),
             np.uint8)
    with log():
        got, nodes = plugin.profiled(m.bytes(), m.feeds)
    assert plugin.stayed(nodes) == ["Sin"] and len(nodes) == 3
    assert np.array_equal(got[0], cpu(m)[0])


def test_shared_dequantize():
    """One DequantizeLinear for two patterns, for the host, and for the model's own result."""
    m = models.Model(np.random.default_rng(9))
    q = m.quant(np.uint8)
    x = m.node("DequantizeLinear", [m.input(m.codes((2, 3, 4, 4), np.uint8))] + q)
    m.quantized(m.node("Relu", [x]), np.uint8)
    m.quantized(m.node("Add", [x, m.node("DequantizeLinear", [m.node("QuantizeLinear", [m.node("Sin", [x])] + q)] + q)]), np.uint8)
    m.output(x, np.float32)
    assert agree(m)[0] == ["Sin"]


def test_result_read_twice():
    """The float between an operator and its QuantizeLinear is the model's result, too: they are no pattern."""
    m = models.Model(np.random.default_rng(10))
    q = m.quant(np.uint8)
    a, b = [m.node("DequantizeLinear", [m.input(m.codes((3, 5), np.uint8))] + q) for _ in range(2)]
    y = m.node("Add", [a, b])
    m.quantized(y, np.uint8, q)
    m.output(y, np.float32)
    assert agree(m)[0] == ["Add"]


def test_sum_that_is_no_bias():
    """What is added to a product after its scales: a tensor of the run stays with the host."""
    m = models.Model(np.random.default_rng(12))
    x, xs, xz = m.node("DynamicQuantizeLinear", [m.input(m.rng.standard_normal((4, 16)).astype(np.float32))], 3)
    acc = m.node("MatMulInteger", [x, m.const(m.codes((16, 16), np.int8)), xz])
    y = m.node("Mul", [m.node("Cast", [acc], to=T.FLOAT), m.node("Mul", [xs, m.const(np.float32(0.5))])])
    m.output(m.node("Add", [y, m.input(m.rng.standard_normal((4, 16)).astype(np.float32))]), np.float32)
    assert agree(m)[0] == ["Add"]


def test_parameters_of_a_run():
    """Scales and zero points that come with each run."""
    m = models.Model(np.random.default_rng(11))
    x, scale, zero = m.input(m.rng.standard_normal((4, 6)).astype(np.float32)), m.input(np.array(0.1, np.float32)), m.input(np.array(3, np.uint8))
    m.output(m.node("QuantizeLinear", [x, scale, zero]), np.uint8)
    s, plain = plugin.session(m.bytes()), plugin.session(m.bytes(), plugin=False)
    for new in (0.1, 0.02, 0.1, 0.5):
        m.feeds.update({scale: np.array(new, np.float32), zero: np.array(m.size(0, 255), np.uint8)})
        assert np.array_equal(s.run(None, m.feeds)[0], plain.run(None, m.feeds)[0])


def test_factor_of_a_run():
    """Scales that come with a run, and whose factor no float holds: the run says where, and the next one is right."""
    for op, count in (("QLinearAdd", 2), ("QLinearMul", 2), ("QLinearAveragePool", 1), ("QLinearMatMul", 2)):
        m = models.Model(np.random.default_rng(11))
        zero, inputs = m.const(np.uint8(3)), []
        for _ in range(count):
            inputs += [m.input(m.codes((1, 1, 4, 4), np.uint8)), m.input(np.array(0.5, np.float32)), zero]
        inputs += [m.input(np.array(0.25, np.float32)), zero]
        attributes = {"kernel_shape": [2, 2]} if "Pool" in op else {}
        y = m.node(op, inputs, domain="" if "MatMul" in op else models.MS, **attributes)
        m.output(y, np.uint8)
        s = plugin.session(m.bytes())
        large = dict(m.feeds, **{name: np.array(1e30, np.float32) for name in inputs[1 : 3 * count : 3]})
        large[inputs[-2]] = np.array(1e-30, np.float32)
        need(fails(lambda: s.run(None, large)), "node 'n_%s' (%s)" % (y, op), "is too ", "1e-30")
        assert np.array_equal(s.run(None, m.feeds)[0], cpu(m)[0])


# ---- Shapes, threads ------------------------------------------------------------------------------------------


def test_many_shapes():
    """More than are kept, and one without rows."""
    m = product(dynamic=True)
    (name,) = m.feeds
    s, plain = plugin.session(m.bytes()), plugin.session(m.bytes(), plugin=False)
    for rows in [1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 1, 0, 2, 23, 0]:
        feed = {name: m.rng.integers(0, 256, (rows, 32)).astype(np.uint8)}
        assert np.array_equal(s.run(None, feed)[0], plain.run(None, feed)[0])


def test_wrong_shape():
    m = product(dynamic=True)
    (name,) = m.feeds
    s = plugin.session(m.bytes())
    need(fails(lambda: s.run(None, {name: np.zeros((2, 31), np.uint8)})), "MatMulInteger", "31 columns")
    assert np.array_equal(s.run(None, m.feeds)[0], cpu(m)[0])


def test_too_many_dimensions():
    """An input of any rank, and a run that brings one that is too high: the message says where."""
    m = models.Model(np.random.default_rng(5))
    y = m.node("DequantizeLinear", [m.input(m.codes((2, 3), np.uint8)), m.const(np.float32(0.5)), m.const(np.uint8(3))])
    m.output(y, np.float32)
    (name,) = m.feeds
    m.inputs[0].type.tensor_type.ClearField("shape")
    message = fails(lambda: plugin.session(m.bytes()).run(None, {name: np.zeros([1] * 9, np.uint8)}))
    need(message, "node 'n_%s' (DequantizeLinear)" % y, "input '%s' has 9 dimensions" % name)
    assert np.array_equal(plugin.session(m.bytes()).run(None, m.feeds)[0], cpu(m)[0])


def test_network_in_one_piece():
    """Convolutions one behind the other: images are turned where the network begins and where it ends, and nowhere else, and
    all operators share launches, as PoCL has them on x86 CPUs with AVX2."""
    layers, channels = 40, 16
    m = models.Model(np.random.default_rng(6))
    scale, zero = m.const(np.float32(0.01)), m.const(np.uint8(128))
    y = m.input(m.codes((1, channels, 5, 5), np.uint8))
    for _ in range(layers):
        w = m.const(m.codes((channels, channels, 1, 1), np.int8))
        y = m.node("QLinearConv", [y, scale, zero, w, scale, m.const(np.int8(0)), scale, zero])
    m.output(y, np.uint8)
    with open("/proc/cpuinfo") as f:
        capable = {"avx2", "f16c"} <= set(f.read().split())
    stayed, text = agree(m, {"device": "opencl:Portable Computing Language"}, level=1)
    assert stayed == []
    found = re.search(r"(\d+) operators, (\d+) of them in chains, (\d+) that turn images, (\d+) on the reference", text)
    operators, chained, turned, reference = map(int, found.groups())
    assert operators == layers + turned and reference == 0, found[0]
    assert not capable or (turned == 2 and chained == operators), found[0]


def test_threads():
    """Runs of one session, and of several, at the same time."""
    m = product(dynamic=True)
    (name,) = m.feeds
    plain = plugin.session(m.bytes(), plugin=False)
    sessions = [plugin.session(m.bytes()) for _ in range(2)]
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for i in range(20):
            feed = {name: rng.integers(0, 256, (1 + i % 3, 32)).astype(np.uint8)}
            if not np.array_equal(sessions[i % 2].run(None, feed)[0], plain.run(None, feed)[0]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def main():
    failures = 0
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    for name, test in tests:
        try:
            test()
        except Exception:
            failures += 1
            print("%s FAILS" % name)
            traceback.print_exc(file=sys.stdout)
    print("%d of %d tests of behaviour pass" % (len(tests) - failures, len(tests)))
    plugin.done(failures)


if __name__ == "__main__":
    main()
