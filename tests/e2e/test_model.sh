#!/bin/sh
# A real model (QDOT_TEST_MODEL, SmolLM2-135M-Instruct) from the command line, on the reference and on OpenCL.
set -u
. tests/e2e/model.sh
prompt="Once upon a time, there was a little girl"

# The same bytes on both devices, whatever the chunk.
run 0 ref logits -m "$m" -p "$prompt" --device ref --json
run 0 opencl logits -m "$m" -p "$prompt" --device opencl --json
run 0 single logits -m "$m" -p "$prompt" --device opencl --chunk 1 --json
run 0 tokens logits -m "$m" --tokens 6403,1980,253,655,28,665,436,253,1838,8180 --device opencl --chunk 3 --json
holds 'len(o[0]["sha256"]) == 64 and len(o[0]["top"]) == 10' ref
holds 'o[0] == o[1] == o[2] == o[3]' ref opencl single tokens
# Float activations are another computation with other bytes, and again the same on both devices.
run 0 ref32 logits -m "$m" -p "$prompt" --device ref --activations f32 --json
run 0 opencl32 logits -m "$m" -p "$prompt" --device opencl --activations f32 --json
holds 'o[0] == o[1]' ref32 opencl32
holds 'o[0]["sha256"] != o[1]["sha256"]' ref ref32

# Four tokens on each device, greedily: the golden ones.
for device in ref opencl; do
    run 0 "run.$device" run -m "$m" -p "$prompt" -n 4 --greedy --device "$device" --json
    holds 'o[0]["tokens"][10:] == [3365, 20391, 617, 5732]' "run.$device"
    holds 'o[0]["prompt_tokens"] == 10 and o[0]["generated_tokens"] == 4 and o[0]["stop"] == "length"' "run.$device"
done
# Plain text on standard output is the JSON's text; statistics are on standard error.
run 0 plain run -m "$m" -p "$prompt" -n 4 --greedy --device opencl
holds 'open("plain").read() == o[0]["text"] + "\n"' run.opencl
grep -q 'tokens/s' "$work/err" || say_bad "no statistics on standard error"

# The reference agrees, and its digest is that of `qdot logits` for the same tokens.
run 0 verify run -m "$m" -p "$prompt" -n 4 --greedy --device opencl --verify --json
holds 'o[0]["verify"]["agrees"] and o[0]["verify"]["positions"] == 13' verify
run 0 digest logits -m "$m" --tokens 6403,1980,253,655,28,665,436,253,1838,8180,3365,20391,617 --device ref --json
holds 'o[0]["verify"]["sha256"] == o[1]["sha256"]' verify digest

# A seed gives one text, another seed another.
for seed in 1 1.again 2; do
    run 0 "seed.$seed" run -m "$m" -p "$prompt" -n 16 --temp 1 --seed "${seed%.again}" --device opencl --json
done
holds 'o[0]["text"] == o[1]["text"] != o[2]["text"]' seed.1 seed.1.again seed.2

# Chat, from a file and as a conversation on standard input.
printf 'Say hello.' >"$work/prompt"
run 0 chat run -m "$m" -f "$work/prompt" --chat --system "Be brief." --greedy -n 40 --device opencl --json
holds 'o[0]["stop"] == "end token" and 0 < o[0]["generated_tokens"] < 40' chat
printf 'Say hello.\nAnd now say goodbye.\n' | "$qdot" run -m "$m" --chat --greedy -n 12 --device opencl >"$work/out" 2>"$work/err" ||
    say_bad "a conversation on standard input failed"
[ "$(grep -c . "$work/out")" -ge 2 ] || say_bad "a conversation of two turns gave fewer than two answers"

# Limits: a full context ends cleanly, a prompt beyond it is refused, and so are tokens that are none.
run 0 full run -m "$m" -p "$prompt" -n 100 --no-stop --context 16 --greedy --device opencl --json
holds 'o[0]["stop"] == "context full" and len(o[0]["tokens"]) in (16, 17)' full
run 2 long run -m "$m" -p "$prompt. $prompt" --context 16 --device opencl
grep -q '^qdot: .*--context' "$work/err" || say_bad "a prompt that is too long is not explained"
run 2 outside logits -m "$m" --tokens 49152 --device ref
grep -q '^qdot: .*49152' "$work/err" || say_bad "a token outside the vocabulary is not named"
run 2 device run -m "$m" -p x --device nosuch
grep -q '^qdot: .*nosuch' "$work/err" || say_bad "an unknown device is not named"

# Ctrl-C ends cleanly, with the statistics.
"$qdot" run -m "$m" -p "$prompt" -n 4000 --no-stop --device opencl >"$work/out" 2>"$work/err" </dev/null &
sleep 3
kill -INT $!
wait $! || say_bad "Ctrl-C gave exit code $?"
grep -q 'stopped: interrupted' "$work/err" || say_bad "Ctrl-C gave no statistics"

# Perplexity of a little text, the same on both devices.
for i in 1 2 3 4; do echo "The quick brown fox jumps over the lazy dog, and the sun shines upon the hills. ($i)"; done >"$work/text"
for device in ref opencl; do
    run 0 "ppl.$device" perplexity -m "$m" -f "$work/text" --ctx 32 --device "$device" --json
done
holds 'o[0]["perplexity"] == o[1]["perplexity"] and 1 < o[0]["perplexity"] < 100' ppl.ref ppl.opencl
holds 'o[0]["tokens"] - o[0]["scored_tokens"] == -(-o[0]["tokens"] // 32)' ppl.ref

# A damaged copy is refused in one line.
head -c 1000000 "$m" >"$work/cut.gguf"
run 2 cut run -m "$work/cut.gguf" -p x
[ "$(grep -c '^qdot: ' "$work/err")" -eq 1 ] || say_bad "a truncated model is not explained in one line"

# Profile and trace.
run 0 profile run -m "$m" -p "$prompt" -n 2 --device opencl --profile --trace "$work/trace.json"
grep -q 'matmul' "$work/err" || say_bad "--profile shows no matmul"
holds 'len(o[0] if isinstance(o[0], list) else o[0]["traceEvents"]) > 0' trace.json

[ "$bad" -eq 0 ]
