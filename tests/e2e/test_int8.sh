#!/bin/sh
# Int8 weights with int8 activations on a real model (QDOT_TEST_MODEL): static scales from a calibration, the reference's
# bytes on OpenCL, whatever the pieces of a prompt, and a perplexity near that with float activations.
set -u
. tests/e2e/model.sh
fail() {
    echo "FAILED: $1"
    tail -n 3 "$work/err"
    bad=$((bad + 1))
}
# refused PART qdot-words…: exit code 2, and a message with PART.
refused() {
    part=$1
    shift
    "$qdot" "$@" >/dev/null 2>"$work/err"
    code=$?
    if [ $code -ne 2 ] || ! grep -q -e "$part" "$work/err"; then fail "qdot $* is not refused for \"$part\""; fi
}

head -c 700 /usr/share/common-licenses/GPL-3 >"$work/text"
python3 -c "import pydoc_data.topics as t; print(''.join(t.topics[k] for k in sorted(t.topics))[:3000])" >"$work/other"
"$qdot" calibrate -m "$m" -f "$work/other" -n 384 -o "$work/stats.json" >/dev/null 2>"$work/err" ||
    fail "calibrate"
"$qdot" quantize "$m" "$work/int8.gguf" --format int8 >/dev/null 2>"$work/err" || fail "quantize"
# What down projections read has no range that suits all tokens: these stay with a8.
"$qdot" quantize "$work/int8.gguf" "$work/static.gguf" --format int8 --tensors ffn_down=q8_0 --calibration "$work/stats.json" \
    >/dev/null 2>"$work/err" || fail "quantize --calibration"

"$qdot" quantize "$m" "$work/outliers.gguf" --format int8 --calibration "$work/stats.json" --outliers 4x \
    >/dev/null 2>"$work/err" || fail "quantize --outliers"
# Of nothing that reads as little as these two; but next to their other columns, a few are large.
for part in attn_q ffn_gate; do
    grep -q "blk.1.$part.weight.outliers" "$work/outliers.gguf" || fail "no outlier columns in blk.1.$part"
done

for kind in "int8 row" "static static" "outliers row"; do
    model=$work/${kind% *}.gguf
    a=${kind#* }
    pieces=
    [ "$kind" != "outliers row" ] || pieces="opencl 2"
    for way in "ref 128" "opencl 128" ${pieces:+"$pieces"}; do
        "$qdot" logits -m "$model" --tokens 504,3575,282 --activations "$a" --device "${way% *}" --chunk "${way#* }" \
            --json >"$work/logits.$kind.$way" 2>"$work/err" || fail "logits of $kind"
        cmp -s "$work/logits.$kind.ref 128" "$work/logits.$kind.$way" || fail "$kind: other bytes with $way than on ref"
    done
    "$qdot" run -m "$model" -p The -n 1 --activations "$a" --greedy --no-stop >/dev/null 2>"$work/err" || fail "run"
    grep -q "all of the layers' [0-9]* operators ran on the device" "$work/err" || fail "$a: not all on the device"
done
for kind in "static static" "outliers row"; do
    cmp -s "$work/logits.int8 row.ref 128" "$work/logits.$kind.ref 128" && fail "$kind gives the bytes of int8 row"
done

for kind in "int8 f32" "int8 row" "static static" "outliers row"; do
    "$qdot" perplexity -m "$work/${kind% *}.gguf" -f "$work/text" --activations "${kind#* }" --json 2>"$work/err" ||
        fail "perplexity --activations ${kind#* }"
done >"$work/perplexities"
# By row, with and without outliers, within a twentieth of that with float activations, static within a fifth.
python3 - "$work/perplexities" <<'END' || bad=$((bad + 1))
import json, sys
text, found, decoder = open(sys.argv[1]).read().lstrip(), [], json.JSONDecoder()
while text:
    value, at = decoder.raw_decode(text)
    found.append(value["perplexity"])
    text = text[at:].lstrip()
print("perplexity with f32, row, static activations, row with outliers:", found)
f32, row, static, outliers = found
sys.exit(not 0 < abs(row / f32 - 1) < 0.05 or not 0 < abs(outliers / f32 - 1) < 0.05 or not 0 < abs(static / f32 - 1) < 0.2)
END

refused "no scale for what blk.0.attn_q.weight reads" run -m "$work/int8.gguf" -p The -n 1 --activations static
refused "the model has none: qdot quantize" run -m "$m" -p The -n 1 --activations row
refused "row or static" run -m "$work/int8.gguf" -p The -n 1 --activations int3
refused "--range is minmax" quantize "$work/int8.gguf" "$work/x.gguf" --format int8 --calibration "$work/stats.json" --range x
refused "belong to --calibration" quantize "$work/int8.gguf" "$work/x.gguf" --format int8 --range mse
refused "is a magnitude" quantize "$m" "$work/x.gguf" --format int8 --calibration "$work/stats.json" --outliers 4y
refused "is int8 already" quantize "$work/int8.gguf" "$work/x.gguf" --format int8 --calibration "$work/stats.json" --outliers 6
refused "there would be none" quantize "$work/int8.gguf" "$work/x.gguf" --format q8_0 --calibration "$work/stats.json"
python3 - "$work" <<'END'
import json, sys
stats = json.load(open(sys.argv[1] + "/stats.json"))
stats["model"] = "0" * 64
json.dump(stats, open(sys.argv[1] + "/foreign.json", "w"))
END
refused "another model" quantize "$work/int8.gguf" "$work/x.gguf" --format int8 --calibration "$work/foreign.json"
[ -e "$work/x.gguf" ] && fail "a refused file was written"
exit $((bad > 0))
