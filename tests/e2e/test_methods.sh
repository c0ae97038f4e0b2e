#!/bin/sh
# `qdot quantize --method gptq` with a real model (QDOT_TEST_MODEL): three layers rounded by GPTQ leave the predictions for a
# text that it has not read nearer to the model's than the same layers rounded to the nearest. Ctrl-C leaves no file, and bad
# input is told.
set -u
. tests/e2e/model.sh
head -c 500 /usr/share/common-licenses/GPL-3 >"$work/text"
python3 -c 'import pydoc_data.topics as t; print("\n".join(t.topics[k] for k in sorted(t.topics)))' >"$work/calibration"

# refused WORDS qdot-words…: exit code 2, and a message with these words; no file comes into being.
refused() {
    words=$1
    shift
    "$qdot" quantize "$@" >"$work/out" 2>"$work/err"
    [ $? -eq 2 ] || say_bad "$*: not exit code 2"
    grep -qF -- "$words" "$work/err" || say_bad "$*: $(tail -n 1 "$work/err")"
    [ ! -e "$work/no.gguf" ] || say_bad "$*: something was written"
}

layers='blk\.[0-2]\.=int3-g128'
# made NAME quantize-words…: with three layers in int3, and how far the predictions are from the model's, in $work/NAME.
made() {
    name=$1
    shift
    "$qdot" quantize "$m" "$work/$name.gguf" --tensors "$layers" "$@" >"$work/out" 2>"$work/err" ||
        say_bad "quantize $*: $(tail -n 1 "$work/err")"
    "$qdot" compare "$m" "$work/$name.gguf" -f "$work/text" --generate 8 --json >"$work/$name" 2>"$work/err" ||
        say_bad "compare: $(tail -n 1 "$work/err")"
}
made rtn
made gptq --method gptq --act-order --file "$work/calibration" --tokens 1536
python3 - "$work" <<'END_OF_CHECK' || bad=$((bad + 1))
import json, sys
rtn, gptq = (json.load(open(f"{sys.argv[1]}/{n}"))["kl_divergence"] for n in ("rtn", "gptq"))
print(f"KL divergence: {rtn:.4f} to the nearest, {gptq:.4f} by GPTQ")
sys.exit(0 if 0 < gptq < 0.8 * rtn else "FAILED: GPTQ is no better than rounding")
END_OF_CHECK

# Ctrl-C while the text is read: python, because a shell lets what it starts in the background ignore it.
python3 - "$qdot" "$m" "$work" <<'END_OF_STOP' || bad=$((bad + 1))
import os, signal, subprocess, sys, time
qdot, model, work = sys.argv[1:]
before = sorted(os.listdir(work))
run = subprocess.Popen([qdot, "quantize", model, work + "/no.gguf", "-f", "int3-g128", "--method", "gptq", "--file",
                        work + "/calibration"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
time.sleep(3)
run.send_signal(signal.SIGINT)
told = run.communicate()[1]
if run.returncode != 2 or b"stopped" not in told or sorted(os.listdir(work)) != before:
    sys.exit(f"FAILED: Ctrl-C: code {run.returncode}, {told[-200:]}, {os.listdir(work)}")
END_OF_STOP

# A copy of the model in which a norm has a NaN.
python3 - "$m" "$work" <<'END_OF_COPY'
import struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
at = 8
def take(form):
    global at
    v = struct.unpack_from("<" + form, data, at)[0]
    at += struct.calcsize("<" + form)
    return v
def text():
    global at
    n = take("Q")
    at += n
    return bytes(data[at - n:at])
def value(kind):
    if kind == 8:
        return text()
    if kind == 9:
        kind, n = take("I"), take("Q")
        return [value(kind) for _ in range(n)]
    return take({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}[kind])
tensors, keys, places = take("Q"), take("Q"), {}
for _ in range(keys):
    text()
    value(take("I"))
for _ in range(tensors):
    name = text()
    for _ in range(take("I")):
        take("Q")
    take("I")
    places[name] = take("Q")
struct.pack_into("<f", data, -(-at // 32) * 32 + places[b"blk.0.attn_norm.weight"] + 20, float("nan"))
open(sys.argv[2] + "/nan.gguf", "wb").write(data)
END_OF_COPY

head -c 300 "$work/calibration" >"$work/few"
text=$work/calibration
refused "are too few" "$m" "$work/no.gguf" -f int4-g128 --method gptq --file "$work/few"
refused "cannot make nf4" "$m" "$work/no.gguf" -f nf4 --method gptq --file "$text" --tokens 256
refused "the Hessian is singular" "$m" "$work/no.gguf" --tensors "$layers" --method gptq --file "$text" --tokens 256 --damping 0
refused "column 5 of the activations is NaN" "$work/nan.gguf" "$work/no.gguf" --tensors "$layers" --method gptq --file "$text" \
    --tokens 256
"$qdot" calibrate -m "$m" -f "$text" -n 256 -o "$work/stats" 2>"$work/err" || say_bad "calibrate: $(tail -n 1 "$work/err")"
refused "another model" "$work/nan.gguf" "$work/no.gguf" -f int4 --method awq --calibration "$work/stats"

[ "$bad" -eq 0 ]
