"""The text detection and recognition CNNs of PP-OCRv4, quantized statically, on the plug-in: python -m ocr MODELS [NAME FORMAT]…

At least 90 % of the multiplications of their quantized products run on the plug-in, each operator has the bytes of ONNX
Runtime's CPU, and the text is the same: all pairs of det, rec and QOperator, QDQ, or those that are named."""
import os
import sys
import tempfile

import numpy as np
import onnx
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from PIL import Image, ImageDraw, ImageFont

import cut
import plugin
import work

LINES = ["Hello World 2024", "OpenCL 1.2 device", "The quick brown fox"]
FILES = {"det": "ch_PP-OCRv4_det_infer.onnx", "rec": "ch_PP-OCRv4_rec_infer.onnx"}
# What is quantized.
TYPES = ["Conv", "MatMul", "Add", "Mul", "Clip", "Relu", "HardSigmoid", "AveragePool", "GlobalAveragePool", "Concat"]


# ---- Pictures and what the networks say of them ---------------------------------------------------------------


def picture(lines, size):
    """Black lines of text on white, 40 rows of pixels each; width × height."""
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(28)
    for i, line in enumerate(lines):
        draw.text((10, 4 + 80 * i), line, "black", font=font)
    return np.asarray(image)


def rec_input(line):
    width = int(ImageFont.load_default(28).getlength(line)) + 24
    pixels = picture([line], (width, 48)).astype(np.float32) / 255
    return ((pixels - 0.5) / 0.5).transpose(2, 0, 1)[None]


def det_input(lines):
    pixels = picture(lines, (320, 256)).astype(np.float32) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    return ((pixels - mean) / deviation).transpose(2, 0, 1)[None]


def read_text(scores, characters):
    """Connectionist temporal classification: the best character of each place, repetitions and blanks left out."""
    best = scores.argmax(-1)
    return "".join(characters[b] for i, b in enumerate(best) if b and (i == 0 or b != best[i - 1]))


def find_boxes(score):
    """Bounding boxes (top, left, bottom, right) of the connected spots of a map above 0.3, from the top down."""
    open_, boxes = score > 0.3, []
    while open_.any():
        stack = [tuple(np.argwhere(open_)[0])]
        open_[stack[0]] = False
        seen = []
        while stack:
            y, x = stack.pop()
            seen.append((y, x))
            for at in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= at[0] < open_.shape[0] and 0 <= at[1] < open_.shape[1] and open_[at]:
                    open_[at] = False
                    stack.append(at)
        low, high = np.min(seen, axis=0), np.max(seen, axis=0)
        if len(seen) > 30:
            boxes.append((int(low[0]), int(low[1]), int(high[0]), int(high[1])))
    return sorted(boxes)


# ---- Models ---------------------------------------------------------------------------------------------------


class Pictures(CalibrationDataReader):
    def __init__(self, inputs):
        self.left = list(inputs)

    def get_next(self):
        return {"x": self.left.pop()} if self.left else None


def prepare(path, target):
    """The float model in a version that has scales by axis, its batch norms folded by the host."""
    model = version_converter.convert_version(onnx.load(path), 17)
    so = plugin.ort.SessionOptions()
    so.graph_optimization_level = plugin.ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    so.optimized_model_filepath = target
    return plugin.ort.InferenceSession(model.SerializeToString(), so)


def check(name, form, float_path, inputs, describe):
    """Failures of one network in one format."""
    quantized = float_path + "." + form
    # By channel the quantizer of QOperator takes only weights without sign.
    weights = QuantType.QUInt8 if form == "QOperator" else QuantType.QInt8
    quantize_static(float_path, quantized, Pictures(inputs), quant_format=QuantFormat[form], per_channel=True,
                    op_types_to_quantize=TYPES, activation_type=QuantType.QUInt8, weight_type=weights)
    failures = 0
    texts, wants = [], []
    for i, x in enumerate(inputs):
        (want,), cpu_nodes = plugin.profiled(quantized, {"x": x}, plugin=False)
        (got,), nodes = plugin.profiled(quantized, {"x": x})
        share = work.share(nodes, cpu_nodes)
        same = (got == want).mean()
        texts.append(describe(got))
        wants.append(describe(want))
        if i == 0:
            parts = sum(n["provider"] == plugin.NAME for n in nodes)
            print("%s %s: %.1f %% of %.3g quantized multiplications on the plug-in, in %d parts; with the host %d nodes of %d" %
                  (name, form, 100 * share, work.quantized_macs(cpu_nodes), parts, len(nodes) - parts, len(cpu_nodes)))
        print("%s %s, picture %d: %.4f %% of the results have the CPU's bytes" % (name, form, i, 100 * same))
        failures += (share < 0.9) + (same < 1)
    if form == "QOperator":
        operators, different = cut.check(quantized, {"x": inputs[0]})
        print("%s: of %d quantized operators, each on the CPU's inputs, %d differ from it" % (name, operators, different))
        failures += different
    print("%s %s: %s" % (name, form, texts))
    return failures + (texts != wants)


def main():
    folder = os.path.join(sys.argv[1], "rapidocr-onnxruntime")
    pairs = list(zip(sys.argv[2::2], sys.argv[3::2])) or [(n, f) for n in FILES for f in ("QOperator", "QDQ")]
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        for name in sorted({p[0] for p in pairs}):
            path = os.path.join(temporary, name + ".onnx")
            s = prepare(os.path.join(folder, FILES[name]), path)
            if name == "rec":
                characters = ["blank"] + s.get_modelmeta().custom_metadata_map["character"].splitlines() + [" "]
                inputs, describe = [rec_input(line) for line in LINES], lambda y: read_text(y[0], characters).strip()
                expected = LINES
            else:
                inputs, describe = [det_input(LINES)], lambda y: find_boxes(y[0, 0])
                expected = None
            said = [describe(s.run(None, {"x": x})[0]) for x in inputs]
            print("%s float32: %s" % (name, said))
            failures += (said != expected) if expected else (len(said[0]) != len(LINES))
            for form in (f for n, f in pairs if n == name):
                failures += check(name, form, path, inputs, describe)
    plugin.done(failures)


if __name__ == "__main__":
    main()
