"""ONNX Runtime as a peer of `qdot bench --peers` (README.md has the protocol): ort.py THREADS [PLUGIN].

Each work is a network, or a graph whose nodes differ only in which copy of the weights they read, so that what Python does
once a run counts little. With a plug-in (libqdot_ort_ep.so), qdot computes instead of ONNX Runtime's own kernels.
"""
import os
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from peer import ZERO, Cannot, codes, floats, inputs, layers, output_side, scales, serve, weights

PLUGIN = "QdotExecutionProvider"
FLOAT, U8 = TensorProto.FLOAT, TensorProto.UINT8


class Graph:
    """Nodes and what they read; results are those of a shape."""

    def __init__(self, x, y_type, y_shape):
        self.x, self.y_type, self.y_shape = x, y_type, y_shape
        self.nodes, self.constants, self.results, self.count = [], [], [], 0

    def constant(self, name, array):
        t = TensorProto()
        t.name, t.data_type, t.raw_data = name, helper.np_dtype_to_tensor_dtype(array.dtype), array.tobytes()
        t.dims.extend(array.shape)
        self.constants.append(t)
        return name

    def quantized(self, y_scale, n):
        """What all nodes share: the scales and zero points of x, w and y."""
        return {"xs": self.constant("xs", np.array(2.0**-6, np.float32)),
                "xz": self.constant("xz", np.array(ZERO, np.uint8)),
                "ws": self.constant("ws", scales(n)),
                "wz": self.constant("wz", np.zeros(n, np.int8)),
                "ys": self.constant("ys", np.array(y_scale, np.float32)),
                "yz": self.constant("yz", np.array(ZERO, np.uint8))}

    def node(self, op, operands, domain="", result=True, **attributes):
        name = f"y{self.count}"
        self.count += 1
        self.nodes.append(helper.make_node(op, operands, [name], domain=domain, **attributes))
        if result:
            self.results.append(helper.make_tensor_value_info(name, self.y_type, self.y_shape))
        return name

    def session(self, threads, plugin):
        x_type = helper.np_dtype_to_tensor_dtype(self.x.dtype)
        graph = helper.make_graph(self.nodes, "g", [helper.make_tensor_value_info("x", x_type, list(self.x.shape))],
                                  self.results, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
        model.ir_version = 9
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if plugin:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")  # qdot, or nobody
            options.add_provider_for_devices([d for d in ort.get_ep_devices() if d.ep_name == PLUGIN][:1], {})
            return ort.InferenceSession(model.SerializeToString(), options)
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def gemm(o, _):
    g = Graph(inputs((o["m"], o["k"])), U8, [o["m"], o["n"]])
    c, w = g.quantized(o["y_scale"], o["n"]), np.ascontiguousarray(weights((o["n"], o["k"])).T)
    for i in range(o["copies"]):
        g.node("QLinearMatMul", ["x", c["xs"], c["xz"], g.constant(f"w{i}", w), c["ws"], c["wz"], c["ys"], c["yz"]])
    return g


def conv(o, plugin):
    """Channels last, which spares ONNX Runtime two transpositions; the plug-in takes the standard's order alone."""
    image, channels, n, kernel, stride, groups = (
        o[k] for k in ("image", "channels", "outputs", "kernel", "stride", "groups"))
    side = output_side(o)
    x, y_shape, domain, more = inputs((1, image, image, channels)), [1, side, side, n], "com.microsoft", {"channels_last": 1}
    if plugin:
        x, y_shape, domain, more = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), [1, n, side, side], "", {}
    g = Graph(x, U8, y_shape)
    c = g.quantized(o["y_scale"], n)
    w = np.ascontiguousarray(weights((n, kernel, kernel, channels // groups)).transpose(0, 3, 1, 2))
    for i in range(o["copies"]):
        g.node("QLinearConv", ["x", c["xs"], c["xz"], g.constant(f"w{i}", w), c["ws"], c["wz"], c["ys"], c["yz"]],
               domain, kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[o["pad"]] * 4, group=groups, **more)
    return g


def network(o, _):
    """The standard's operators in its order, channels first; a session puts channels last, once, as it likes."""
    all_layers = list(layers(o))
    last, image = all_layers[-1], o["image"]
    x = inputs((1, image, image, o["channels"])).transpose(0, 3, 1, 2) if image else inputs((o["rows"], o["channels"]))
    side = output_side(last) if image else 0
    g = Graph(np.ascontiguousarray(x), U8, [1, last["outputs"], side, side] if image else [o["rows"], last["outputs"]])
    value, scale = "x", g.constant("s", np.array(2.0**-6, np.float32))
    zero = g.constant("z", np.array(ZERO, np.uint8))
    for i, l in enumerate(all_layers):
        n, kernel = l["outputs"], l["kernel"]
        w = weights((n, kernel, kernel, l["channels"] // l["groups"]))
        w = np.ascontiguousarray(w.transpose(0, 3, 1, 2) if image else w.reshape(n, -1).T)
        operands = [value, scale, zero, g.constant(f"w{i}", w), g.constant(f"ws{i}", l["w_scale"]),
                    g.constant(f"wz{i}", np.zeros(n, np.int8)), scale, zero]
        window = {"kernel_shape": [kernel] * 2, "strides": [l["stride"]] * 2, "pads": [l["pad"]] * 4, "group": l["groups"]}
        value = g.node("QLinearConv" if image else "QLinearMatMul", operands, result=l is last, **(window if image else {}))
    return g


def gemv(o, _):
    """Blocks of 32 with a scale each, activations in 8 bits: MatMulNBits at accuracy level 4."""
    bits = {"q4_0": 4, "q8_0": 8}.get(o["format"])
    if not bits:
        raise Cannot(f"no format {o['format']}")
    m, n, k = o["m"], o["n"], o["k"]
    g = Graph(floats(inputs((m, k))), FLOAT, [m, n])
    w = codes(n * k * bits // 8, 2).reshape(n, k // 32, 32 * bits // 8)
    s = np.full((n, k // 32), 2.0**-7, np.float32)
    for i in range(o["copies"]):
        g.node("MatMulNBits", ["x", g.constant(f"w{i}", w), g.constant(f"s{i}", s)], "com.microsoft", K=k, N=n, bits=bits,
               block_size=32, accuracy_level=4)
    return g


def sgemm(o, _):
    m, n, k = o["m"], o["n"], o["k"]
    g = Graph(floats(inputs((m, k))), FLOAT, [m, n])
    w = np.ascontiguousarray(floats(codes(n * k, 2)).reshape(n, k).T)
    for i in range(o["copies"]):
        g.node("MatMul", ["x", g.constant(f"w{i}", w)])
    return g


KINDS = {"gemm": gemm, "conv": conv, "gemv": gemv, "sgemm": sgemm, "network": network}


class Work:
    def __init__(self, kind, o, threads, plugin):
        if kind not in KINDS:
            raise Cannot
        g = KINDS[kind](o, plugin)
        self.session = g.session(threads, plugin)
        self.binding = self.session.io_binding()
        self.binding.bind_cpu_input("x", g.x)
        for r in g.results:
            self.binding.bind_output(r.name)
        self.kind, self.channels_first = kind, bool(o.get("image")) and (kind == "network" or plugin)

    def once(self):
        self.session.run_with_iobinding(self.binding)

    def result(self):
        y = self.binding.get_outputs()[0].numpy()
        return None if self.kind == "gemv" else y.transpose(0, 2, 3, 1) if self.channels_first else y


def main():
    threads, plugin = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    if plugin:
        ort.register_execution_provider_library("qdot", os.path.abspath(plugin))
    serve(f"onnxruntime{'+qdot' if plugin else ''}", ort.__version__, lambda kind, o: Work(kind, o, threads, plugin))


main()
