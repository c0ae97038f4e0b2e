#!/bin/sh
# Methods of quantizing side by side: `sh tests/bench/methods.sh [--write] MODEL.gguf`. Prints a table of size, bits per
# weight, perplexity, and KL divergence and agreement with the model in f16; --write puts it into the top README, between its
# marks.
#
# Environment: QDOT_BUILD_DIR  folder of the built qdot (default: build)
#              TEXT            what the models are judged by (default: licenses that every Debian has, 8000 tokens and more)
#              CALIBRATION     what the methods read (default: the topics of Python's help, which are not among them)
#              TOKENS          of that, how many (default 8192)
#              KEEP            folder for models and figures, of which a second call makes use
set -eu
cd "$(dirname "$0")/../.."
qdot=${QDOT_BUILD_DIR:-build}/qdot
write=
[ "${1:-}" != --write ] || {
    write=yes
    shift
}
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    echo "usage: sh tests/bench/methods.sh [--write] MODEL.gguf" >&2
    exit 2
fi
model=$1
tokens=${TOKENS:-8192}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
keep=${KEEP:-$work}
text=${TEXT:-$work/text}
text_name=${TEXT:-"GPL-3 and the beginning of GFDL-1.3 (/usr/share/common-licenses), 42000 bytes"}
[ -n "${TEXT:-}" ] || (cd /usr/share/common-licenses && cat GPL-3 GFDL-1.3) | head -c 42000 >"$text"
calibration=${CALIBRATION:-$work/calibration}
calibration_name=${CALIBRATION:-"the topics of Python's help (pydoc_data.topics)"}
[ -n "${CALIBRATION:-}" ] ||
    python3 -c 'import pydoc_data.topics as t; print("\n".join(t.topics[k] for k in sorted(t.topics)))' >"$calibration"

# The rows: a name, then the words of `qdot quantize`. TEXT and STATS stand for the calibration. The embedding, which is the
# output, too, and which no method here treats, is q8_0 in all of them.
cat >"$work/rows" <<'END_OF_ROWS'
int4-g128 --format int4-g128
int4-g128, GPTQ --format int4-g128 --method gptq --file TEXT
int4-g128, GPTQ act-order --format int4-g128 --method gptq --act-order --file TEXT
int4-g128, AWQ --format int4-g128 --method awq --calibration STATS
int3-g128 --format int3-g128
int3-g128, GPTQ --format int3-g128 --method gptq --file TEXT
int3-g128, GPTQ act-order --format int3-g128 --method gptq --act-order --file TEXT
int3-g128, AWQ --format int3-g128 --method awq --calibration STATS
END_OF_ROWS

# number FILE EXPRESSION: of the JSON object o in a file.
number() {
    python3 -c 'import json, sys; o = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"
}

# quietly COMMAND…: its standard error only where it fails.
quietly() {
    "$@" 2>"$work/log" || {
        cat "$work/log" >&2
        exit 1
    }
}

base=$keep/f16.gguf
[ -f "$base" ] || quietly "$qdot" quantize "$model" "$base" --format f16 >/dev/null
stats=$keep/stats.json
[ -f "$stats" ] || quietly "$qdot" calibrate -m "$base" -f "$calibration" -n "$tokens" -o "$stats"

# row NAME quantize-words…: of the table.
row() {
    name=$1
    shift
    file=$keep/$(echo "$name" | tr -c '[:alnum:]\n' _)
    if [ ! -f "$file.report" ]; then
        quietly "$qdot" quantize "$base" "$file.gguf" --tensors token_embd=q8_0 "$@" --json >"$work/report"
        mv "$work/report" "$file.report"
    fi
    if [ ! -f "$file.compare" ]; then
        quietly "$qdot" compare "$base" "$file.gguf" -f "$text" --ctx 512 --json >"$work/compare"
        mv "$work/compare" "$file.compare"
    fi
    printf '| %s | %s | %s | %s | %s | %s |\n' "$name" "$(number "$file.compare" "'%.1f' % (o['b']['bytes'] / 2 ** 20)")" \
        "$(number "$file.report" "'%.2f' % o['bits_per_weight']")" \
        "$(number "$file.compare" "'%.2f ± %.2f' % (o['b']['perplexity'], o['b']['standard_error'])")" \
        "$(number "$file.compare" "'%.4f' % o['kl_divergence']")" "$(number "$file.compare" "'%.1f %%' % (100 * o['top1_agreement'])")"
    echo "$name" >&2
}

{
    echo "| weights | MiB | bits per weight | perplexity | KL divergence | same first choice |"
    echo "|---|---:|---:|---:|---:|---:|"
    while read -r line; do
        # shellcheck disable=SC2046 # words
        row "${line%% --*}" $(echo "--${line#* --}" | sed "s|TEXT|$calibration --tokens $tokens|; s|STATS|$stats|")
    done <"$work/rows"
    last=$(find "$keep" -name '*.compare' | head -n 1)
    echo
    echo "$(basename "$model") in f16, the base of all rows, has perplexity $(number "$last" "'%.2f' % o['a']['perplexity']") on the same" \
        "$(number "$last" "o['scored_tokens']") tokens. Text: $text_name, in windows of 512. The methods read $tokens tokens of" \
        "$calibration_name. token_embd is q8_0 in all rows, activations are 8-bit integers."
} >"$work/table"
cat "$work/table"
[ -z "$write" ] || {
    awk -v table="$work/table" '
        /^<!-- methods end -->$/ { skip = 0 }
        !skip { print }
        /^<!-- methods begin -->$/ { while ((getline line <table) > 0) print line; skip = 1 }' README.md >"$work/README.md"
    cp "$work/README.md" README.md
}
