#!/bin/sh
# Methods of quantizing side by side: `sh tests/bench/methods.sh [--write] MODEL.gguf`. Prints a table of size, bits per
# weight, perplexity, and KL divergence and agreement with the model as it is; --write puts it into the top README, between
# its marks. int3 is judged in a copy in q8_0, which is several times as fast and rounds to 1/254 of the largest of 32
# weights.
#
# Environment: QDOT_BUILD_DIR  folder of the built qdot (default: build)
#              TEXT            what the models are judged by (default: licenses that every Debian has, 8000 tokens and more)
#              CALIBRATION     what the methods read (default: the topics of Python's help, which are not among them)
#              TOKENS          of that, how many (default 8192)
#              KEEP            folder for models and figures, of which a second call makes use
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/table.sh
: "${qdot:?}" "${model:?}" "${work:?}" "${keep:?}"
tokens=${TOKENS:-8192}
take_texts 36900
: "${text:?}" "${text_name:?}" "${calibration:?}" "${calibration_name:?}"

# The rows: a name, what the matrices read, the words of `qdot quantize`. TEXT and STATS stand for the calibration, SMOOTH for
# that of the model that SmoothQuant has changed, from which such rows are made. The embedding, which is the output, too,
# and which no method here treats, is q8_0 in all of them.
cat >"$work/rows" <<'END_OF_ROWS'
int3-g128|a8|--format int3-g128
int3-g128, GPTQ|a8|--format int3-g128 --method gptq --act-order --file TEXT
int3-g128, AWQ|a8|--format int3-g128 --method awq --calibration STATS
q4_0|a8|--format q4_0
q4_0, GPTQ|a8|--format q4_0 --method gptq --act-order --file TEXT
q4_0, AWQ|a8|--format q4_0 --method awq --calibration STATS
int8, a scale for each token|row|--format int8
int8, a scale for each token, LLM.int8()|row|--format int8 --calibration STATS --outliers 4x
int8, static scales|static|--format int8 --calibration STATS
int8, static scales, SmoothQuant|static|--format int8 --calibration SMOOTH
END_OF_ROWS

stats=$keep/stats.json
[ -f "$stats" ] || into "$work/unused" "$qdot" calibrate -m "$model" -f "$calibration" -n "$tokens" -o "$stats"

smooth=$keep/smooth
[ -f "$smooth.json" ] || {
    into "$work/unused" "$qdot" quantize "$model" "$smooth.gguf" --format q8_0 --method smoothquant --calibration "$stats"
    into "$work/unused" "$qdot" calibrate -m "$smooth.gguf" -f "$calibration" -n "$tokens" -o "$smooth.json"
}

# row NAME ACTIVATIONS quantize-words…: of the table.
row() {
    name=$1
    activations=$2
    shift 2
    file=$keep/$(echo "$name" | tr -c '[:alnum:]\n' _)
    if [ ! -f "$file.report" ]; then
        input=$model
        case $* in *"$smooth.json"*) input=$smooth.gguf ;; esac
        into "$file.report" "$qdot" quantize "$input" "$file.gguf" --tensors token_embd=q8_0 "$@" --json
    fi
    if [ ! -f "$file.compare" ]; then
        judged=$file.gguf
        case $2 in int3*)
            judged=$work/copy.gguf
            into "$work/unused" "$qdot" quantize "$file.gguf" "$judged" --format q8_0
            ;;
        esac
        into "$file.compare" "$qdot" compare "$model" "$judged" -f "$text" --ctx 512 --generate 8 --json \
            --activations "$activations" --activations-a a8
    fi
    printf '| %s | %s | %s | %s | %s | %s |\n' "$name" "$(number "$file.report" "'%.1f' % (o['bytes'] / 2 ** 20)")" \
        "$(number "$file.report" "'%.2f' % o['quantized']['bits_per_weight']")" \
        "$(number "$file.compare" "'%.2f ± %.2f' % (o['b']['perplexity'], o['b']['standard_error'])")" \
        "$(number "$file.compare" "'%.4f' % o['kl_divergence']")" "$(number "$file.compare" "'%.1f %%' % (100 * o['top1_agreement'])")"
    echo "$name" >&2
}

{
    echo "| layers | MiB | bits per weight | perplexity | KL divergence | same first choice |"
    echo "|---|---:|---:|---:|---:|---:|"
    while IFS='|' read -r name activations words; do
        # shellcheck disable=SC2046 # words
        row "$name" "$activations" $(echo "$words" | sed "s|TEXT|$calibration --tokens $tokens|; s|STATS|$stats|; s|SMOOTH|$smooth.json|")
    done <"$work/rows"
    last=$(find "$keep" -name '*.compare' | head -n 1)
    echo
    echo "$(basename "$model"), which all rows are made from and compared with, has perplexity" \
        "$(number "$last" "'%.2f' % o['a']['perplexity']") on the same $(number "$last" "o['scored_tokens']") tokens. Text: $text_name, in windows" \
        "of 512. The methods read $tokens tokens of $calibration_name, GPTQ with act-order. Layers are in the format that is named, token_embd, which is the" \
        "output, too, is q8_0. Activations are 8-bit integers, in blocks of 16 but where the row says otherwise; int3 is judged in a copy in q8_0."
} >"$work/table"
put_table methods
