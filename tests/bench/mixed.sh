#!/bin/sh
# Mixed precision next to one format for all, at the same size: `sh tests/bench/mixed.sh [--write] MODEL.gguf`. Measures what
# each matrix costs (`qdot sensitivity`), plans a format for each that makes no larger file than each uniform model, and prints
# a table of both; --write puts it into the top README, between its marks. Fails where a mixed model is larger.
#
# Environment: QDOT_BUILD_DIR  folder of the built qdot (default: build)
#              UNIFORM         the formats to compare with
#              TEXT            what the models are judged by (default: licenses that every Debian has, 8000 tokens and more)
#              CALIBRATION     what costs are measured on (default: the topics of Python's help, which are not among them)
#              TOKENS          of that, how many (default 128)
#              KEEP            folder for models and figures, of which a second call makes use
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/table.sh
: "${qdot:?}" "${model:?}" "${work:?}" "${keep:?}"
tokens=${TOKENS:-128}
# No format with minima: where a model's own matrices are Q4_1, as those of SmolLM2's file, it would lose nothing.
measured=q4_0
estimated=int3-g64,int4-g64,q5_0,int6-g64,q8_0
take_texts 38000
: "${text:?}" "${text_name:?}" "${calibration:?}" "${calibration_name:?}"

base=$keep/f16.gguf
[ -f "$base" ] || into "$work/unused" "$qdot" quantize "$model" "$base" --format f16
costs=$keep/sensitivity.json
set --
[ ! -f "$costs" ] || set -- --continue
into "$work/costs" "$qdot" sensitivity -m "$base" -f "$calibration" --tokens "$tokens" --format "$measured" \
    --estimate "$estimated" -o "$costs" "$@"

# row TITLE NAME quantize-words…: of the table; the model is $keep/NAME.gguf.
row() {
    title=$1
    file=$keep/$2
    shift 2
    echo "$title" >&2
    [ -f "$file.report" ] || into "$file.report" "$qdot" quantize "$base" "$file.gguf" "$@" --json
    [ -f "$file.compare" ] ||
        into "$file.compare" "$qdot" compare "$model" "$file.gguf" -f "$text" --ctx 512 --generate 8 --json
    printf '| %s | %s | %s | %s | %s | %s |\n' "$title" "$(number "$file.compare" "'%.2f' % (o['b']['bytes'] / 2 ** 20)")" \
        "$(number "$file.report" "'%.3f' % o['bits_per_weight']")" \
        "$(number "$file.compare" "'%.2f ± %.2f' % (o['b']['perplexity'], o['b']['standard_error'])")" \
        "$(number "$file.compare" "'%.3f ± %.3f' % (o['kl_divergence'], o['kl_divergence_error'])")" \
        "$(number "$file.compare" "'%.1f %%' % (100 * o['top1_agreement'])")"
}

# bytes NAME: of the model's file.
bytes() {
    number "$keep/$1.compare" "int(o['b']['bytes'])"
}

# mixed FORMAT: no larger than the model in it. A little is left for the names of codings in the file.
mixed() {
    budget=$(number "$keep/$1.report" "'%.4f' % (o['bits_per_weight'] - 0.003)")
    [ -f "$keep/$1.plan" ] || into "$work/unused" "$qdot" plan -s "$costs" --budget "$budget" -o "$keep/$1.plan"
    row "mixed" "mixed-$1" --plan "$keep/$1.plan"
    [ "$(bytes "mixed-$1")" -le "$(bytes "$1")" ] || {
        echo "mixed.sh: the mixed model is larger than that in $1" >&2
        exit 1
    }
}

{
    echo "| weights | MiB | bits per weight | perplexity | KL divergence | same first choice |"
    echo "|---|---:|---:|---:|---:|---:|"
    for format in ${UNIFORM:-q4_0 q4_k}; do
        row "$format" "$format" --format "$format"
        mixed "$format"
    done
    echo
    echo "All come from $(basename "$model") in f16, and are compared with it (perplexity" \
        "$(number "$file.compare" "'%.2f' % o['a']['perplexity']")) over $(number "$file.compare" "o['scored_tokens']") tokens:" \
        "$text_name, in windows of 512; activations are 8-bit integers. Costs: $tokens tokens of $calibration_name, measured in" \
        "$measured, estimated in $(echo "$estimated" | sed 's/,/, /g')."
} >"$work/table"
put_table mixed
