#!/bin/sh
# `qdot quantize` and `qdot formats`: what is written, what is told, and that bad input leaves the old file as it was.
set -u
. tests/cli/commands.sh
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE

mkdir "$work/files"
model=$work/files/tiny.gguf
out=$work/files/out.gguf
python3 tests/cli/tiny_gguf.py "$model" || exit 1

# ---- Formats ----
run 0 formats
prints "q4_0"
prints "nf4"
run 0 formats --json
is_json
json 'all(f["quantize"] and f["bits_per_weight"] > 0 for f in o["formats"] + o["codings"])'
json '{"q4_0": 4.5, "q8_0": 8.5, "f16": 16}.items() <= {f["name"]: f["bits_per_weight"] for f in o["formats"]}.items()'
json 'len(set(f["name"] for f in o["codings"])) == len(o["codings"]) > 20'
# Every name that is listed is taken, and takes the bits that it is listed with.
python3 -c 'import json, sys; o = json.load(sys.stdin); [print(f["name"]) for f in o["formats"]]' <"$work/out" >"$work/names"
while read -r name; do
    run 0 quantize "$model" "$out" --format "$name" --tensors "^blk|^token=keep" --json
    json "[t for t in o['tensors'] if t['name'] == 'output.weight'][0]['to'] == '$name'"
done <"$work/names"
run 0 formats int4-g64 --json
is_json
json 'o["name"] == "int4-g64" and o["block"] == 64 and abs(o["bits_per_weight"] - 4.25) < 1e-5'
# Double quantization of scales of 64 weights: 0.5 bits become 0.127.
run 0 formats nf4-f32 --json
json 'o["bits_per_weight"] - 4.5 < 0.001'
run 0 formats nf4-dq --json
json 'abs(o["bits_per_weight"] - 4.127) < 0.001'
fails 'unknown format "q4_7"; known are f32' formats q4_7
fails "not known here" formats int4-x3

# ---- What is written ----
run 0 quantize "$model" "$out" --format q4_0 --json
is_json
json 'o["tensors"][0] | {"from": "f16", "to": "q4_0", "kept": False, "shape": [50, 64], "bytes": 50 * 36} == o["tensors"][0]'
json '[t["name"] for t in o["tensors"] if t["kept"]] == ["blk.0.attn_norm.weight", "output_norm.weight"]'
json '[(t["to"], t["instead_of"]) for t in o["tensors"] if "instead_of" in t] == [("f16", "q4_0")]'
json 'all(0 < t["mean_error"] < t["max_error"] < 0.1 and 15 < t["snr_db"] < 30 and 0.99 < t["cosine"] < 1 for t in o["tensors"] if t["to"] == "q4_0")'
json 'all(0.4 < t["max_error_steps"] < 1.01 for t in o["tensors"] if t["to"] == "q4_0")'
json 'o["quantized"]["tensors"] == 5 and o["quantized"]["bytes"] == sum(t["bytes"] for t in o["tensors"] if not t["kept"])'
grep -q "note: rows of 40 weights cannot be q4_0: 1 tensor (blk.0.ffn_down.weight) is f16" "$work/err" ||
    say_bad "$what: nothing is said about rows of 40"
bytes=$(wc -c <"$out")
json "o['bytes'] == $bytes"
run 0 inspect "$out" --json
json 'o["metadata"]["general.file_type"]["value"] == 2 and o["metadata"]["general.quantization_version"]["value"] == 2'
json 'o["metadata"]["tokenizer.ggml.tokens"]["value"] == ["a", "", "bc"] and o["metadata"]["general.name"]["value"] == "tiny"'
json '[t["format"] for t in o["tensors"]] == ["q4_0", "f32", "q4_0", "q4_0", "f16", "f32", "q4_0"]'
run 0 quantize "$model" "$out" --format q4_0
prints "all of these"
prints "5 tensors quantized, 2 as they were"
cp "$out" "$work/one"
run 0 quantize "$model" "$out" --format q4_0 --threads 7
cmp -s "$out" "$work/one" || say_bad "$what: another number of threads gives other bytes"

# Back to floats, and once more: the same codes.
run 0 quantize "$out" "$work/back.gguf" --format f32
run 0 quantize "$work/back.gguf" "$work/again.gguf" --format q4_0 --tensors ffn_down=f16
cmp -s "$out" "$work/again.gguf" || say_bad "q4_0, f32 and q4_0 again: other bytes"

# ---- Rules ----
run 0 quantize "$model" "$out" --format q8_0 --tensors 'attn_[qk]=q4_1' --tensors 'attn_q=f16' --tensors '^output.weight=keep' --json
json '{t["name"]: t["to"] for t in o["tensors"]} | {"token_embd.weight": "q8_0", "blk.0.attn_q.weight": "q4_1", "blk.0.attn_k.weight": "q4_1", "output.weight": "f32"} == {t["name"]: t["to"] for t in o["tensors"]}'
run 0 quantize "$model" "$out" --tensors 'ffn_down=bf16' --json
json '[t["name"] for t in o["tensors"] if not t["kept"]] == ["blk.0.ffn_down.weight"]'
run 0 inspect "$out" --json
json 'o["metadata"]["general.file_type"]["value"] == 1'

# ---- Codings ----
for coding in int4-g64 int8 nf4-dq int4-tensor-asym fp8_e4m3 log4 normal4 ternary; do
    run 0 quantize "$model" "$out" --format "$coding" --json
    json "all(t['kept'] or t['to'] == '$coding' for t in o['tensors'])"
    json 'all(t["kept"] or t["snr_db"] > 4 for t in o["tensors"])'
    run 0 inspect "$out" --json
    json "[t['format'] for t in o['tensors'] if t['name'] == 'blk.0.ffn_down.weight'] == ['$coding']"
    json "[t['shape'] for t in o['tensors'] if t['name'] == 'blk.0.ffn_down.weight'] == [[64, 40]]"
    json "o['formats']['$coding']['tensors'] == 5 and len(o['tensors']) == 7"
    run 0 quantize "$out" "$work/back.gguf" --format f32 --json
    json 'all(t["kept"] or t["max_error"] == 0 for t in o["tensors"])'
    # What is in this coding already is copied with all that belongs to it.
    run 0 quantize "$out" "$work/again.gguf" --format "$coding"
    prints "0 tensors quantized, 7 as they were"
    cmp -s "$out" "$work/again.gguf" || say_bad "$what: a copy has other bytes"
done
run 0 quantize "$model" "$out" --format int4 --group 64 --json
json 'o["tensors"][0]["to"] == "int4-g64"'
run 0 inspect "$out"
prints "int4-g64"

# ---- Importance ----
python3 - "$work" <<'END'
import struct, sys
def entry(name, calls, values):
    return struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii%df" % len(values), calls, len(values), *values)
good = struct.pack("<i", 2) + entry("blk.0.attn_q.weight", 4, [4.0] * 64) + entry("unused.weight", 0, [0.0] * 3)
open(sys.argv[1] + "/good.dat", "wb").write(good + struct.pack("<ii", 1, 4) + b"text")
open(sys.argv[1] + "/cut.dat", "wb").write(good[:100])
open(sys.argv[1] + "/other.dat", "wb").write(struct.pack("<i", 1) + entry("blk.0.attn_q.weight", 4, [4.0] * 65))
END
run 0 quantize "$model" "$out" --format q4_0 --imatrix "$work/good.dat"
fails "--imatrix has no use with --method gptq" quantize "$model" "$out" --format int4 --imatrix "$work/good.dat" --method gptq --file "$0"
fails "--imatrix has no use with --method awq" quantize "$model" "$out" --format int4 --imatrix "$work/good.dat" --method awq --file "$0"
fails "the number of columns at byte 31" quantize "$model" "$out" --format q4_0 --imatrix "$work/cut.dat"
fails "has 65 columns there, but 64 in the model" quantize "$model" "$out" --format q4_0 --imatrix "$work/other.dat"
fails "general.type" quantize "$model" "$out" --format q4_0 --imatrix "$model"
fails "$work/none" quantize "$model" "$out" --format q4_0 --imatrix "$work/none"

# ---- Bad input: the old file stays, and nothing lies beside it ----
run 0 quantize "$model" "$out" --format q8_0
cp "$out" "$work/old"
list() {
    find "$work/files" | sort
}
list >"$work/list"
# refused WORDS qdot-words…: as fails, and nothing changed.
refused() {
    fails "$@"
    cmp -s "$out" "$work/old" || say_bad "$what: the old file changed"
    list | cmp -s - "$work/list" || say_bad "$what: a file was left"
}
for word in nan inf large; do
    python3 tests/cli/tiny_gguf.py "$work/$word.gguf" "$word"
done
refused "tensor 'blk.0.attn_q.weight': row 5, column 7 is NaN" quantize "$work/nan.gguf" "$out" -f q4_0
refused "tensor 'blk.0.attn_q.weight': row 5, column 7 is infinite" quantize "$work/inf.gguf" "$out" -f nf4
refused "row 5, column 7 is NaN" quantize "$work/nan.gguf" "$out" -f f16
refused "row 5, column 7 is 70000, which is too large for f16" quantize "$work/large.gguf" "$out" -f f16
refused "a format is needed" quantize "$model" "$out"
refused "two files are needed" quantize "$model" -f q4_0
refused 'unknown format "q9"' quantize "$model" "$out" -f q9
refused 'unknown format "a8"' quantize "$model" "$out" -f a8
refused "is no regular expression" quantize "$model" "$out" --tensors 'a(b=q4_0'
refused "needs REGEX=FORMAT" quantize "$model" "$out" --tensors attn_q
refused 'unknown format "x"' quantize "$model" "$out" --tensors 'attn_q=x'
refused "--group is for codings" quantize "$model" "$out" -f q4_0 -g 64
refused "--group is a multiple of 16" quantize "$model" "$out" -f int4 -g 65
refused "--group belongs to --format" quantize "$model" "$out" -g 64 --tensors attn_q=int4
refused "are the same file" quantize "$out" "$out" -f q4_0
ln "$out" "$work/hard.gguf"
refused "are the same file" quantize "$work/hard.gguf" "$out" -f q4_0
ln -s "$out" "$work/soft.gguf"
refused "are the same file" quantize "$out" "$work/soft.gguf" -f q4_0
rm "$work/hard.gguf"
head -c 3000 "$model" >"$work/cut.gguf"
refused "ends beyond the file" quantize "$work/cut.gguf" "$out" -f q4_0
refused "$work/none.gguf" quantize "$work/none.gguf" "$out" -f q4_0
refused "$work/none/out.gguf" quantize "$model" "$work/none/out.gguf" -f q4_0
refused "is a directory" quantize "$model" "$work/files" -f q4_0
refused "is a device or pipe" quantize "$model" /dev/null -f q4_0
# A name that leads elsewhere: that file is replaced, and the name still leads there.
run 0 quantize "$model" "$work/soft.gguf" -f q8_0
if [ ! -L "$work/soft.gguf" ] || ! cmp -s "$out" "$work/old"; then say_bad "$what: not the file that the link names"; fi

# ---- A full disk: a limit of 4 or 8 KiB (blocks of 512 or 1024 bytes) ----
limited() {
    (
        ulimit -f 8
        exec "$qdot" "$@"
    )
}
limited quantize "$model" "$out" -f q8_0 >"$work/out" 2>"$work/err"
[ $? -eq 2 ] || say_bad "a full disk: not exit code 2"
what="a full disk"
grep -q "out.gguf: cannot be written: File too large; make room" "$work/err" || say_bad "a full disk: $(cat "$work/err")"
cmp -s "$out" "$work/old" || say_bad "a full disk: the old file changed"
list | cmp -s - "$work/list" || say_bad "a full disk: a file was left"

# ---- Interrupted: by Ctrl-C, and by what cannot be caught ----
python3 tests/cli/tiny_gguf.py "$work/huge.gguf" huge
for signal in INT KILL; do
    "$qdot" quantize "$work/huge.gguf" "$out" -f nf4-dq --threads 1 >"$work/out" 2>"$work/err" &
    child=$!
    sleep 0.3
    kill -$signal $child
    wait $child
    code=$?
    what="kill -$signal"
    if [ $signal = INT ]; then
        [ $code -eq 2 ] || say_bad "Ctrl-C: exit code $code"
        grep -q "stopped; nothing was written" "$work/err" || say_bad "Ctrl-C: nothing is said about it"
    fi
    cmp -s "$out" "$work/old" || say_bad "kill -$signal: the old file changed"
    # Where the file system has no nameless files, one that is killed stays.
    [ $signal = KILL ] || list | cmp -s - "$work/list" || say_bad "kill -$signal: a file was left"
done

[ "$bad" -eq 0 ] || echo "$bad failures"
[ "$bad" -eq 0 ]
