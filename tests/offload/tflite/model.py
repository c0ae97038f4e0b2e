"""Small TensorFlow Lite models, written with the flatbuffer schema that LiteRT brings along."""
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    "f32": (schema.TensorType.FLOAT32, np.float32),
    "i32": (schema.TensorType.INT32, np.int32),
    "i64": (schema.TensorType.INT64, np.int64),
    "i16": (schema.TensorType.INT16, np.int16),
    "i8": (schema.TensorType.INT8, np.int8),
    "u8": (schema.TensorType.UINT8, np.uint8),
    "i4": (schema.TensorType.INT4, np.int8),
}


def pack_nibbles(codes):
    """Codes of 4 bits, two in a byte, the first in the low bits; the last byte may be half full."""
    flat = np.asarray(codes, np.int8).reshape(-1)
    if flat.size % 2:
        flat = np.append(flat, np.int8(0))
    low, high = flat[0::2].astype(np.uint8) & 15, flat[1::2].astype(np.uint8) & 15
    return low | high << 4


class Model:
    """Tensors are numbers; finish() gives the file."""

    def __init__(self):
        self.tensors, self.operators, self.codes = [], [], []
        self.buffers = [schema.BufferT()]

    def tensor(self, type_name, shape, scale=None, zero=0, axis=0, data=None, name=None, signature=None):
        """scale: None, a number, or one for each index of `axis`, as `zero` then. data makes it a constant."""
        t = schema.TensorT()
        t.type, dtype = TYPES[type_name]
        t.shape = list(shape)
        t.hasRank = True
        t.name = name or f"t{len(self.tensors)}"
        if signature is not None:
            t.shapeSignature = list(signature)
        if data is not None:
            b = schema.BufferT()
            codes = pack_nibbles(data) if type_name == "i4" else np.ascontiguousarray(data, dtype)
            b.data = np.frombuffer(codes.tobytes(), np.uint8)
            t.buffer = len(self.buffers)
            self.buffers.append(b)
        else:
            t.buffer = 0
        if scale is not None:
            q = schema.QuantizationParametersT()
            q.scale = np.atleast_1d(np.asarray(scale, np.float32))
            q.zeroPoint = np.atleast_1d(np.asarray(zero, np.int64))
            if q.zeroPoint.size != q.scale.size and q.zeroPoint.size == 1:
                q.zeroPoint = np.repeat(q.zeroPoint, q.scale.size)
            q.quantizedDimension = axis
            t.quantization = q
        self.tensors.append(t)
        return len(self.tensors) - 1

    def op(self, name, inputs, outputs, options=None, version=1, **fields):
        """options: name of the schema's table without Options, whose fields are the other arguments."""
        number = getattr(schema.BuiltinOperator, name)
        key = (number, version)
        if key not in self.codes:
            self.codes.append(key)
        o = schema.OperatorT()
        o.opcodeIndex = self.codes.index(key)
        o.inputs, o.outputs = list(inputs), list(outputs)
        if options:
            o.builtinOptionsType = getattr(schema.BuiltinOptions, options + "Options")
            o.builtinOptions = getattr(schema, options + "OptionsT")()
            for field, value in fields.items():
                if not hasattr(o.builtinOptions, field):
                    raise AttributeError(f"{options}Options has no {field}")
                setattr(o.builtinOptions, field, value)
        self.operators.append(o)

    def finish(self, inputs, outputs):
        g = schema.SubGraphT()
        g.tensors, g.operators = self.tensors, self.operators
        g.inputs, g.outputs = list(inputs), list(outputs)
        g.name = "main"
        m = schema.ModelT()
        m.version = 3
        m.subgraphs, m.buffers, m.description = [g], self.buffers, "qdot test"
        m.operatorCodes = []
        for number, version in self.codes:
            c = schema.OperatorCodeT()
            c.builtinCode, c.deprecatedBuiltinCode, c.version = number, min(number, 127), version
            m.operatorCodes.append(c)
        builder = flatbuffers.Builder(1024)
        builder.Finish(m.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())
