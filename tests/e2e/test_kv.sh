#!/bin/sh
# The int8 cache of keys and values with a real model (QDOT_TEST_MODEL, SmolLM2-135M-Instruct): the reference's bytes, a
# quarter of the memory, and a perplexity near that of the float cache.
set -u
. tests/e2e/model.sh
text=/usr/share/common-licenses/GPL-3
if [ ! -r "$text" ]; then
    echo "skipped: $text, which every Debian has, is not here"
    exit 77
fi
prompt="Once upon a time, there was a little girl"

# The same bytes on both devices, whatever the chunk; others than with floats, which are the default.
run 0 ref logits -m "$m" -p "$prompt" --kv int8 --device ref --json
run 0 opencl logits -m "$m" -p "$prompt" --kv int8 --device opencl --json
run 0 chunks logits -m "$m" -p "$prompt" --kv int8 --device opencl --chunk 3 --json
run 0 floats logits -m "$m" -p "$prompt" --kv f32 --device opencl --json
run 0 default logits -m "$m" -p "$prompt" --device opencl --json
holds 'o[0] == o[1] == o[2]' ref opencl chunks
holds 'o[0] == o[1] != o[2]' floats default opencl

# Generated tokens, too; and what the report says of memory: a byte for each element, a scale for each head of 64.
for kv in f32 int8; do
    run 0 "run.$kv" run -m "$m" -p "$prompt" -n 8 --greedy --device opencl --context 256 --kv "$kv" --verify --json
    holds 'o[0]["verify"]["agrees"] and o[0]["verify"]["positions"] == 17' "run.$kv"
    holds "o[0]['kv_format'] == '$kv'" "run.$kv"
done
holds 'o[0]["kv_bytes"] == 2 * 30 * 3 * 256 * 64 * 4 and o[1]["kv_bytes"] == 2 * 30 * 3 * 256 * (64 + 4)' run.f32 run.int8
holds 'o[0]["peak_memory_bytes"] - o[1]["peak_memory_bytes"] > 0.9 * (o[0]["kv_bytes"] - o[1]["kv_bytes"])' run.f32 run.int8
run 0 text run -m "$m" -p "$prompt" -n 2 --greedy --device opencl --context 256 --kv int8
grep -q 'keys and values of 256 tokens as int8, 3.0 MiB' "$work/err" || say_bad "no memory of the cache in the statistics"

# Perplexity of a text whose windows are long enough for the cache to matter.
head -c 6000 "$text" >"$work/text"
for kv in f32 int8; do
    run 0 "perplexity.$kv" perplexity -m "$m" -f "$work/text" --device opencl --kv "$kv" --json
done
holds 'o[0]["perplexity"] != o[1]["perplexity"]' perplexity.f32 perplexity.int8
holds 'abs(o[1]["perplexity"] / o[0]["perplexity"] - 1) < 0.01' perplexity.f32 perplexity.int8

run 2 wrong run -m "$m" -p "$prompt" --kv q8_0
grep -q -- "--kv is f32 or int8 .*not 'q8_0'" "$work/err" || say_bad "another message for a wrong --kv"

[ "$bad" -eq 0 ] && echo "ok"
[ "$bad" -eq 0 ]
