#!/bin/sh
# A model in every kind of format: `sh tests/bench/formats.sh [--write] MODEL.gguf`. Prints a table of size, bits per weight,
# error, perplexity and speed; --write puts it into the top README, between its marks.
#
# Environment: QDOT_BUILD_DIR  folder of the built qdot (default: build)
#              FORMATS         others than the usual ones
#              TEXT            what perplexity is of (default: the first 9000 bytes of the GPL, which every Debian has)
#              TOKENS          generated for the speed (default 32)
#              KEEP            folder for the models and all but the speeds, of which a second call makes use
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/table.sh
: "${qdot:?}" "${model:?}" "${work:?}" "${keep:?}"
formats=${FORMATS:-"int8 int4 int4-g64 int4-g128 int4-g64-asym q8_0 q4_0 q4_k q6_k nf4 nf4-dq fp4 fp8_e4m3 mxfp4 kmeans4 kmeans4-row pq6 log4 normal4"}
text=${TEXT:-$work/text}
[ -n "${TEXT:-}" ] || head -c 9000 /usr/share/common-licenses/GPL-3 >"$text"

# model_in FORMAT: makes $keep/FORMAT.gguf, of which quantize's report is FORMAT.report.
model_in() {
    from=$keep/f16.gguf
    [ "$1" != f16 ] || from=$model
    into "$keep/$1.report" "$qdot" quantize "$from" "$keep/$1.gguf" --format "$1" --json
}

# row FORMAT: of the table. The error is that of all matrices.
row() {
    file=$keep/$1.gguf
    [ -f "$keep/$1.report" ] || model_in "$1"
    [ -f "$keep/$1.ppl" ] || into "$keep/$1.ppl" "$qdot" perplexity -m "$file" -f "$text" --ctx 256 --json
    # Once so that kernels are there, then for the speed.
    "$qdot" run -m "$file" -p "The" -n 2 --greedy >/dev/null 2>&1
    speed=$("$qdot" run -m "$file" -p "The" -n "${TOKENS:-32}" --greedy --no-stop 2>&1 >/dev/null |
        sed -n 's/^generated [0-9]* tokens, \([0-9.]*\) tokens\/s.*/\1/p')
    snr=$(number "$keep/$1.report" "'%.1f' % o['quantized']['snr_db']")
    [ "$1" != f16 ] || snr= # of the model it comes from, nothing is lost
    printf '| %s | %.1f | %s | %s | %.2f | %s |\n' "$1" "$(number "$keep/$1.ppl" "$(stat -c %s "$file") / 2 ** 20")" \
        "$(number "$keep/$1.report" "'%.3f' % o['bits_per_weight']")" "$snr" "$(number "$keep/$1.ppl" "o['perplexity']")" "$speed"
    echo "$1" >&2
}

{
    echo "| format | MiB | bits per weight | SNR, dB | perplexity | tokens/s |"
    echo "|---|---:|---:|---:|---:|---:|"
    for format in f16 $formats; do
        row "$format"
    done
} >"$work/table"
put_table formats
