#!/bin/sh
# `qdot convert`: layers of GPTQ and AWQ keep their weights on every way; packed_layers.py knows the layouts by itself.
set -u
. tests/cli/commands.sh
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
packed=tests/cli/packed_layers.py
for kind in gptq awq order; do
    python3 $packed write "$work/$kind.safetensors" $kind || exit 1
done

# same FILE FILE: their layers stand for the same weights.
same() {
    python3 $packed same "$1" "$2" || say_bad "$what: other weights than in $1"
}

# ---- To GGUF and back, between layouts ----
for kind in gptq awq; do
    run 0 convert "$work/$kind.safetensors" "$work/$kind.gguf" --json
    is_json
    json '[(t["name"], t["to"], t["exact"]) for t in o["tensors"]] == [("model.layers.0.mlp.up_proj.weight", "int4-g64-asym", True), ("model.norm.weight", "f16", True), ("packed", None, False)]'
    run 0 inspect "$work/$kind.gguf" --json
    json 'o["tensors"][0]["format"] == "int4-g64-asym" and o["tensors"][0]["shape"] == [32, 128]'
    for layout in gptq awq; do
        run 0 convert "$work/$kind.gguf" "$work/back.safetensors" --to $layout
        same "$work/$kind.safetensors" "$work/back.safetensors"
        python3 $packed tensors "$work/back.safetensors" >"$work/out"
        json "('model.layers.0.mlp.up_proj.g_idx' in o) == ('$layout' == 'gptq')"
        json 'o["model.layers.0.mlp.up_proj.scales"] == ["F16", [2, 32]] and o["model.norm.weight"] == ["F16", [128]]'
        run 0 convert "$work/$kind.safetensors" "$work/back.safetensors" --to $layout
        same "$work/$kind.safetensors" "$work/back.safetensors"
    done
done
for bits in 2 3 8; do
    python3 $packed write "$work/bits.safetensors" gptq --bits $bits
    run 0 convert "$work/bits.safetensors" "$work/bits.gguf"
    prints "int$bits-g64-asym"
    run 0 convert "$work/bits.gguf" "$work/back.safetensors"
    same "$work/bits.safetensors" "$work/back.safetensors"
done
fails "AWQ has codes of 4 bits" convert "$work/bits.gguf" "$work/back2.safetensors" --to awq

# The weights in GGUF are those of the layer, in rows of outputs.
run 0 convert "$work/gptq.safetensors" "$work/f32.gguf" --format f32
run 0 quantize "$work/gptq.gguf" "$work/f32-too.gguf" --tensors up_proj=f32
python3 - "$work" <<'END' || say_bad "weights in GGUF files are others than in the layer"
import struct, sys
sys.path.insert(0, "tests/cli")
import packed_layers as p
w = p.values(p.read(sys.argv[1] + "/gptq.safetensors"), "model.layers.0.mlp.up_proj")
wanted = struct.pack("<4096f", *[w[k][n] for n in range(32) for k in range(128)])
assert all(wanted in open(sys.argv[1] + "/" + name, "rb").read() for name in ("f32.gguf", "f32-too.gguf"))
END

# ---- Other formats ----
run 0 convert "$work/gptq.safetensors" "$work/a.gguf" --format q4_1 --json
json 'not o["tensors"][0]["exact"] and o["tensors"][0]["snr_db"] > 60'
run 0 convert "$work/gptq.safetensors" "$work/a.gguf" --format q4_0 --json
json 'not o["tensors"][0]["exact"] and 10 < o["tensors"][0]["snr_db"] < 60'
run 0 convert "$work/a.gguf" "$work/b.safetensors"
run 0 convert "$work/b.safetensors" "$work/c.gguf" --format q4_0 --json
json 'o["tensors"][0]["exact"]'
cmp -s "$work/a.gguf" "$work/c.gguf" || say_bad "q4_0, gptq and q4_0 again: other bytes"
run 0 convert "$work/b.safetensors" "$work/c.gguf" --format int4-g32 --json
json 'o["tensors"][0]["exact"]'
# Inputs out of order cannot be grouped.
run 0 convert "$work/order.safetensors" "$work/a.gguf" --json
json 'o["tensors"][0]["to"] == "f16" and o["tensors"][0]["snr_db"] > 60'
run 0 convert "$work/order.safetensors" "$work/b.safetensors" --to gptq
same "$work/order.safetensors" "$work/b.safetensors"
fails "AWQ needs whole groups in their order" convert "$work/order.safetensors" "$work/no.safetensors" --to awq
# Floats become layers with --format.
python3 tests/cli/tiny_gguf.py "$work/tiny.gguf"
run 0 convert "$work/tiny.gguf" "$work/b.safetensors"
python3 $packed tensors "$work/b.safetensors" >"$work/out"
json 'o["blk.0.attn_q.weight"] == ["F32", [48, 64]] and len(o) == 7'
run 0 convert "$work/tiny.gguf" "$work/b.safetensors" --to gptq --format int4-g32-asym --json
json '[t["name"] for t in o["tensors"] if t["to"] == "gptq"] == ["blk.0.attn_q", "blk.0.attn_k", "blk.0.ffn_down"]'
json 'all(15 < t["snr_db"] < 40 for t in o["tensors"] if t["to"] == "gptq")'
fails "AWQ needs whole groups" convert "$work/tiny.gguf" "$work/no.safetensors" --to awq --format int4-g32-asym

# ---- Orders of codes ----
run 0 convert "$work/gptq.safetensors" "$work/a.safetensors" --order bitsandbytes:onnx --tensors '^packed$' --json
json '[t["to"] for t in o["tensors"] if t["name"] == "packed"] == ["low-first"]'
python3 - "$work" <<'END' || say_bad "bitsandbytes to onnx: not the halves of bytes changed"
import sys
sys.path.insert(0, "tests/cli")
import packed_layers as p
a, b = (p.read(sys.argv[1] + "/" + name) for name in ("gptq.safetensors", "a.safetensors"))
assert b["packed"][2] == bytes(x >> 4 | x << 4 & 0xF0 for x in a["packed"][2])
assert {n: t for n, t in a.items() if n != "packed"} == {n: t for n, t in b.items() if n != "packed"}
END
run 0 convert "$work/a.safetensors" "$work/b.safetensors" --order low-first:high-first --tensors packed
same "$work/gptq.safetensors" "$work/b.safetensors"

# ---- Bad input ----
cp "$work/b.safetensors" "$work/old"
refused() {
    fails "$@"
    cmp -s "$work/b.safetensors" "$work/old" || say_bad "$what: the old file changed"
}
out=$work/b.safetensors
refused "two files are needed" convert "$out"
refused "must end in .gguf or .safetensors" convert "$out" "$work/x.bin"
refused "is \`qdot quantize\`" convert "$work/tiny.gguf" "$work/x.gguf"
refused "--to is gptq or awq" convert "$work/gptq.safetensors" "$out" --to int4
refused "give --to gptq, --to awq or --order" convert "$work/gptq.safetensors" "$out"
refused "--order needs FROM:TO" convert "$work/gptq.safetensors" "$out" --order onnx
refused "onnx" convert "$work/gptq.safetensors" "$out" --order onnx:nothing
refused "no whole number of 5-bit codes" convert "$work/gptq.safetensors" "$out" --order onnx:ggml --tensors norm --bits 5
refused "is no regular expression" convert "$work/gptq.safetensors" "$out" --order onnx:ggml --tensors '('
refused "are the same file" convert "$out" "$out" --to awq
refused 'unknown format "x"' convert "$work/gptq.safetensors" "$work/x.gguf" --format x
refused "$work/none.safetensors" convert "$work/none.safetensors" "$out" --to awq
head -c 700 "$work/gptq.safetensors" >"$work/cut.safetensors"
refused "cut.safetensors: safetensors: " convert "$work/cut.safetensors" "$out" --to awq
cp "$work/tiny.gguf" "$work/not.safetensors"
refused "not a safetensors file" convert "$work/not.safetensors" "$work/x.gguf"
python3 - "$work" <<'END'
import sys
sys.path.insert(0, "tests/cli")
import packed_layers as p
t = p.read(sys.argv[1] + "/gptq.safetensors")
p.write(sys.argv[1] + "/part.safetensors", [(n, *v) for n, v in t.items() if not n.endswith("qzeros")])
END
refused "layer 'model.layers.0.mlp.up_proj': there is no matrix qzeros" convert "$work/part.safetensors" "$out" --to awq
(
    ulimit -f 1
    exec "$qdot" convert "$work/gptq.gguf" "$out"
) >"$work/out" 2>"$work/err"
what="a full disk"
grep -q "make room" "$work/err" || say_bad "a full disk: $(cat "$work/err")"
cmp -s "$out" "$work/old" || say_bad "a full disk: the old file changed"

[ "$bad" -eq 0 ] || echo "$bad failures"
[ "$bad" -eq 0 ]
