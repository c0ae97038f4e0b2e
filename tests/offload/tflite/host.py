"""Running models on LiteRT, with and without the plug-in."""
import os
import re
import tempfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

REFERENCE = OpResolverType.BUILTIN_REF
OPTIMIZED = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def library():
    return os.path.join(os.environ["QDOT_BUILD_DIR"], "libqdot_tflite.so")


def delegate(**options):
    return load_delegate(library(), {k: str(v) for k, v in options.items()})


class Stderr:
    """What C code writes to standard error in a `with` block: .text, afterwards."""

    def __enter__(self):
        self.file = tempfile.TemporaryFile()
        self.saved = os.dup(2)
        os.dup2(self.file.fileno(), 2)
        return self

    def __exit__(self, *_):
        os.dup2(self.saved, 2)
        os.close(self.saved)
        self.file.seek(0)
        self.text = self.file.read().decode(errors="replace")
        self.file.close()


def make(model, plugin=None, resolver=REFERENCE):
    """An interpreter; with the plug-in also (nodes it took, nodes of the model, groups) and the lines about it. The
    plug-in must be verbose for that."""
    with Stderr() as err:
        it = Interpreter(model_content=model, experimental_op_resolver_type=resolver,
                         experimental_delegates=[plugin] if plugin else None)
    found = re.search(r"(\d+) of (\d+) nodes in (\d+) groups", err.text)
    it.taken = tuple(int(n) for n in found.groups()) if found else None
    it.notes = err.text
    return it


def invoke(it, inputs):
    it.allocate_tensors()
    for d, x in zip(it.get_input_details(), inputs):
        it.set_tensor(d["index"], x)
    it.invoke()
    return [it.get_tensor(d["index"]) for d in it.get_output_details()]


def run(model, inputs, plugin=None, resolver=REFERENCE):
    return invoke(make(model, plugin, resolver), inputs)


def different(got, want):
    """Number of elements that differ, bit by bit; all of them when types or shapes do."""
    count = 0
    for a, b in zip(got, want):
        if a.dtype != b.dtype or a.shape != b.shape:
            return max(a.size, b.size, 1)
        if a.dtype == np.float32:
            a, b = a.view(np.uint32), b.view(np.uint32)
        count += int(np.count_nonzero(a != b))
    return count
