"""Sessions with and without the plug-in, and which nodes each of them ran."""
import json
import os
import sys
import tempfile

import onnxruntime as ort

NAME = "QdotExecutionProvider"
LIBRARY = os.path.join(os.environ["QDOT_BUILD_DIR"], "libqdot_ort_ep.so")


def load():
    """Registers the plug-in once; returns its devices."""
    if not any(d.ep_name == NAME for d in ort.get_ep_devices()):
        ort.register_execution_provider_library(NAME, LIBRARY)
    return [d for d in ort.get_ep_devices() if d.ep_name == NAME]


def session(model, options=None, level=3, optimize=True, profile=None, plugin=True, threads=2, fallback=False):
    """A session for a model (bytes or a path). options None: those of the environment's default device. Python's host goes
    on without a provider that fails, where fallback lets it; tests do not."""
    so = ort.SessionOptions()
    so.log_severity_level = level
    so.intra_op_num_threads = threads
    # Threads of the host that wait by spinning would take the cores from the device.
    so.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Products of floats with weights in few bits as products of floats, not of codes.
    so.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    if not optimize:
        so.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile:
        so.add_session_config_entry("session.disable_prepacking", "1")  # which hides the shapes of weights
        so.enable_profiling = True
        so.profile_file_prefix = profile
    if not plugin:
        return ort.InferenceSession(model, so, providers=["CPUExecutionProvider"])
    so.add_provider_for_devices(load()[:1], options or {})
    return ort.InferenceSession(model, so, enable_fallback=int(fallback))


def profiled(model, feeds, **kwargs):
    """Runs once; returns the outputs and what was executed: a list of dicts with op, name, provider, inputs, outputs
    (shapes). Feeds are arrays, or values of the host; so are the outputs then."""
    with tempfile.TemporaryDirectory() as folder:
        s = session(model, profile=os.path.join(folder, "p"), **kwargs)
        values = all(isinstance(v, ort.OrtValue) for v in feeds.values())
        outputs = (s.run_with_ort_values if values else s.run)(None, feeds)
        path = s.end_profiling()
        with open(path) as f:
            events = json.load(f)
    nodes = []
    for e in events:
        a = e.get("args", {})
        if e.get("cat") != "Node" or "op_name" not in a or not e["name"].endswith("_kernel_time"):
            continue
        shapes = [[list(t.values())[0] for t in a.get(k, [])] for k in ("input_type_shape", "output_type_shape")]
        nodes.append({"op": a["op_name"], "name": e["name"][: -len("_kernel_time")], "provider": a.get("provider", ""),
                      "inputs": shapes[0], "outputs": shapes[1]})
    return outputs, nodes


def stayed(nodes):
    """Operators that the host ran."""
    return sorted(n["op"] for n in nodes if n["provider"] != NAME)


def done(failures):
    """Ends the program with a line that counts."""
    print("%d failure%s" % (failures, "" if failures == 1 else "s"))
    sys.exit(1 if failures else 0)
