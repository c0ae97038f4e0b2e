"""How much multiplying the nodes of a profile do."""
import math

import plugin

PRODUCTS = ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "MatMulNBits")
CONVOLUTIONS = {"ConvInteger": 1, "QLinearConv": 3}  # the index of the weights
FLOAT_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
FLOAT_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1}


def macs(node, products, convolutions):
    """Multiplications of one executed node; 0 for other operators."""
    if node["op"] in products:
        return math.prod(node["outputs"][0]) * node["inputs"][0][-1]
    if node["op"] in convolutions:
        return math.prod(node["outputs"][0]) * math.prod(node["inputs"][convolutions[node["op"]]][1:])
    return 0


def quantized_macs(nodes):
    """Multiplications of codes, or of floats with codes, that the host did."""
    return sum(macs(n, PRODUCTS, CONVOLUTIONS) for n in nodes if n["provider"] != plugin.NAME)


def float_macs(nodes):
    return sum(macs(n, FLOAT_PRODUCTS, FLOAT_CONVOLUTIONS) for n in nodes if n["provider"] != plugin.NAME)


def share(nodes, cpu_nodes):
    """Which part of the quantized multiplications of a CPU's profile the plug-in does in another: what the host still does,
    as codes or (were a pattern taken apart) as floats, is none of it."""
    left = quantized_macs(nodes) + max(0, float_macs(nodes) - float_macs(cpu_nodes))
    return 1 - left / quantized_macs(cpu_nodes)
