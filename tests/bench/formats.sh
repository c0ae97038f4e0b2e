#!/bin/sh
# A model in every kind of format: `sh tests/bench/formats.sh [--write] MODEL.gguf`. Prints a table of size, bits per weight,
# error, perplexity and speed; --write puts it into the top README, between its marks.
#
# Environment: QDOT_BUILD_DIR  folder of the built qdot (default: build)
#              FORMATS         others than the usual ones
#              TEXT            what perplexity is of (default: the first 9000 bytes of the GPL, which every Debian has)
#              TOKENS          generated for the speed (default 32)
set -eu
cd "$(dirname "$0")/../.."
qdot=${QDOT_BUILD_DIR:-build}/qdot
write=
[ "${1:-}" != --write ] || {
    write=yes
    shift
}
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    echo "usage: sh tests/bench/formats.sh [--write] MODEL.gguf" >&2
    exit 2
fi
model=$1
formats=${FORMATS:-"int8 int4 int4-g64 int4-g128 int4-g64-asym q8_0 q4_0 q4_k q6_k nf4 nf4-dq fp4 fp8_e4m3 mxfp4 kmeans4 pq6 log4 normal4"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

text=${TEXT:-$work/text}
[ -n "${TEXT:-}" ] || head -c 9000 /usr/share/common-licenses/GPL-3 >"$text"

# number FILE EXPRESSION: of the JSON object o in a file.
number() {
    python3 -c 'import json, sys; o = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"
}

# row NAME FILE: of the table. The error is what quantize said of all tensors.
row() {
    "$qdot" perplexity -m "$2" -f "$text" --ctx 256 --json >"$work/ppl"
    # Once so that kernels are there, then for the speed.
    "$qdot" run -m "$2" -p "The" -n 2 --greedy >/dev/null 2>&1
    speed=$("$qdot" run -m "$2" -p "The" -n "${TOKENS:-32}" --greedy --no-stop 2>&1 >/dev/null | sed -n 's/^generated [0-9]* tokens, \([0-9.]*\) tokens\/s.*/\1/p')
    printf '| %s | %.1f | %s | %s | %.2f | %s |\n' "$1" "$(number "$work/ppl" "$(stat -c %s "$2") / 2 ** 20")" \
        "$3" "$4" "$(number "$work/ppl" "o['perplexity']")" "$speed"
}

"$qdot" quantize "$model" "$work/f16.gguf" --format f16 >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
{
    echo "| format | MiB | bits per weight | SNR, dB | perplexity | tokens/s |"
    echo "|---|---:|---:|---:|---:|---:|"
    row f16 "$work/f16.gguf" 16.00 "" 
    for format in $formats; do
        "$qdot" quantize "$work/f16.gguf" "$work/q.gguf" --format "$format" --json >"$work/report" 2>"$work/log" || {
            cat "$work/log" >&2
            exit 1
        }
        row "$format" "$work/q.gguf" "$(number "$work/report" "'%.3f' % o['bits_per_weight']")" \
            "$(number "$work/report" "'%.1f' % o['quantized']['snr_db']")"
        echo "$format" >&2
    done
} >"$work/table"
cat "$work/table"
[ -z "$write" ] || {
    awk -v table="$work/table" '
        /^<!-- formats end -->$/ { skip = 0 }
        !skip { print }
        /^<!-- formats begin -->$/ { while ((getline line <table) > 0) print line; skip = 1 }' README.md >"$work/README.md"
    cp "$work/README.md" README.md
}
