"""Every quantized operator of a model by itself, on the inputs that it has on ONNX Runtime's CPU: what one of them rounds
otherwise does not hide what the next ones do."""
import onnx
from onnx import numpy_helper

import plugin


def check(path, feeds):
    """(operators, those that differ) of a model of QLinear operators."""
    model = onnx.load(path)
    g = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in g.initializer}
    nodes = [n for n in g.node if n.op_type.startswith("QLinear") or n.op_type == "QuantizeLinear"]
    names = sorted({i for n in nodes for i in n.input if i and i not in constants} | {o for n in nodes for o in n.output})
    given = set(i.name for i in g.input)

    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in given)
    outputs = [o.name for o in whole.graph.output]
    values = dict(zip(outputs, plugin.session(whole.SerializeToString(), plugin=False).run(outputs, feeds)), **feeds)

    # The same nodes, each with inputs of its own.
    del g.node[:], g.input[:], g.output[:], g.value_info[:]
    cut_feeds = {}
    for n in nodes:
        for i, name in enumerate(n.input):
            if name and name not in constants:
                n.input[i] = name + "/in"
                if n.input[i] not in cut_feeds:
                    cut_feeds[n.input[i]] = values[name]
                    kind = onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype)
                    g.input.append(onnx.helper.make_tensor_value_info(n.input[i], kind, values[name].shape))
        g.output.extend(onnx.ValueInfoProto(name=o) for o in n.output)
    g.node.extend(nodes)
    outputs = [o.name for o in g.output]
    got = dict(zip(outputs, plugin.session(model.SerializeToString()).run(outputs, cut_feeds)))
    different = 0
    for n in nodes:
        far = got[n.output[0]] != values[n.output[0]]
        if far.any():
            different += 1
            print("%s %s: %d of %d codes differ from the CPU's" % (n.op_type, n.name, far.sum(), far.size))
    return len(nodes), different
