"""How much multiplying the nodes of a profile do."""
import math

import plugin

PRODUCTS = ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "MatMulNBits")
CONVOLUTIONS = {"ConvInteger": 1, "QLinearConv": 3}  # the index of the weights


def macs(node):
    """Multiplications of codes, or of floats with codes, in one executed node; 0 for other operators."""
    output = math.prod(node["outputs"][0])
    if node["op"] in PRODUCTS:
        return output * node["inputs"][0][-1]
    if node["op"] in CONVOLUTIONS:
        return output * math.prod(node["inputs"][CONVOLUTIONS[node["op"]]][1:])
    return 0


def quantized_macs(nodes, host_only=False):
    """All of a profile, or those that stayed with the host."""
    return sum(macs(n) for n in nodes if not (host_only and n["provider"] == plugin.NAME))
