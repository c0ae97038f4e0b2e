#!/bin/sh
# LoRA adapters on a real model (QDOT_TEST_MODEL): one that adds nothing changes no byte; one that adds something computes
# what the model does with the low-rank product merged into its weights; beside NF4 with double quantization OpenCL gives
# the reference's bytes; files that do not fit are refused.
set -u
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
model=${QDOT_TEST_MODEL:-}
if [ -z "$model" ]; then
    echo "skipped: QDOT_TEST_MODEL names no model (sh host/fetch_model.sh)"
    exit 77
fi
files=$(dirname "$0")/lora_files.py
text="The licenses for most software are designed to take away your freedom to share and change it."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

fail() {
    echo "FAILED: $1"
    [ -s "$work/err" ] && tail -n 3 "$work/err"
    bad=$((bad + 1))
}

# logits NAME OPTIONS…: into NAME.json.
logits() {
    name=$1
    shift
    "$qdot" logits -p "$text" --json "$@" >"$work/$name.json" 2>"$work/err" || fail "logits of $name"
}

# ---- The same as merged weights -----------------------------------------------------------------------------

python3 "$files" adapter "$model" "$work/one.gguf" 11 || fail "making an adapter"
"$qdot" quantize "$model" "$work/float.gguf" --format f16 --tensors 'blk\.11\.[af].*=f32' >/dev/null 2>"$work/err" || fail "quantize"
logits without -m "$work/float.gguf" --activations f32
logits with -m "$work/float.gguf" --activations f32 --lora "$work/one.gguf"
logits half -m "$work/float.gguf" --activations f32 --lora-scaled "$work/one.gguf:0.25" --lora-scaled "$work/one.gguf:0.75"
python3 "$files" merge "$work/float.gguf" "$work/one.gguf" 1 || fail "merging"
logits merged -m "$work/float.gguf" --activations f32
rm -f "$work/float.gguf"
python3 - "$work" <<'END' || fail "an adapter and merged weights differ"
import json, sys

def read(name):
    found = json.load(open(f"{sys.argv[1]}/{name}.json"))
    return found["nll"] + [logit for _, logit in found["top"]]

without, merged = read("without"), read("merged")
changed = max(abs(a - b) for a, b in zip(without, merged))
# Of what the branches add, bf16 keeps 8 bits.
for name in ("with", "half"):
    error = max(abs(a - b) for a, b in zip(read(name), merged))
    print(f"{name}: merged weights change nll and logits by up to {changed:.4f}, the adapter by that within {error:.5f}")
    assert changed > 0.05 and error < 0.02 * changed, name
END

# ---- NF4 with double quantization, int8 activations ---------------------------------------------------------

python3 "$files" adapter "$model" "$work/all.gguf" || fail "making an adapter"
python3 "$files" adapter "$model" "$work/zero.gguf" zero || fail "making an adapter"
"$qdot" quantize "$model" "$work/nf4.gguf" --format nf4-dq >/dev/null 2>"$work/err" || fail "quantize"
logits plain -m "$work/nf4.gguf"
logits zero -m "$work/nf4.gguf" --lora "$work/zero.gguf"
logits all -m "$work/nf4.gguf" --lora "$work/all.gguf"
[ "$(grep sha256 "$work/plain.json")" = "$(grep sha256 "$work/zero.json")" ] || fail "zeros change bytes"
[ "$(grep sha256 "$work/plain.json")" != "$(grep sha256 "$work/all.json")" ] || fail "an adapter changes nothing"
"$qdot" run -m "$work/nf4.gguf" -p "The" -n 2 --greedy --no-stop --verify --device opencl --lora "$work/all.gguf" \
    >/dev/null 2>"$work/err"
code=$?
if [ "$code" -ne 0 ] || ! grep -q "the C reference agrees: 2 positions" "$work/err" ||
    ! grep -q "all of the layers' [0-9]* operators ran on the device" "$work/err" ||
    ! grep -q "^210 low-rank branches of adapters" "$work/err"; then
    fail "nf4-dq with an adapter gave $code"
fi

# ---- What is refused ----------------------------------------------------------------------------------------

# refused WORDS OPTIONS…: exit code 2, one line with these words.
refused() {
    says=$1
    shift
    "$qdot" logits -m "$model" -p "The" "$@" >/dev/null 2>"$work/err"
    code=$?
    if [ "$code" -ne 2 ] || [ "$(wc -l <"$work/err")" -ne 1 ] || ! grep -q -- "$says" "$work/err"; then
        fail "not refused with \"$says\", but $code"
    fi
}

refused "general.type is .*give a LoRA adapter, not a model" --lora "$model"
refused "none.gguf" --lora "$work/none.gguf"
head -c 3000 "$work/one.gguf" >"$work/bad.gguf"
refused "GGUF" --lora "$work/bad.gguf"
refused "needs a file and a number, as adapter.gguf:0.5" --lora-scaled "$work/one.gguf"
refused "needs a file and a number, as adapter.gguf:0.5" --lora-scaled "$work/one.gguf:a"
refused "needs a file and a number, as adapter.gguf:0.5" --lora-scaled "$work/one.gguf:nan"
for row in "no-alpha|lacks adapter.lora.alpha" "rank-0|blk.11.attn_k.weight.lora_a. .* has the dimension 0" \
    "wide|blk.11.ffn_up.weight.lora_a is 4 × 577" "stranger|blk.0.attn_gate.weight.lora_a belongs to no matrix" \
    "embedding|token_embd.weight.lora_[ab] adapts the embedding"; do
    python3 "$files" adapter "$model" "$work/bad.gguf" 11 "${row%%|*}" || fail "making an adapter"
    refused "${row#*|}" --lora "$work/bad.gguf"
done
exit $((bad > 0))
