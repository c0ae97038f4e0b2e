#!/bin/sh
# The backend in llama.cpp: `sh tests/offload/ggml/run.sh [--long]`, at the repository's root; the build folder is in
# QDOT_BUILD_DIR, the model in QDOT_TEST_MODEL. --long: every case of test-backend-ops, more texts, machines that share a
# model, llama-cpp-python, and times.
set -eu
long=
case "${1:-}" in
--long) long=yes ;;
"") ;;
*)
    echo "usage: sh tests/offload/ggml/run.sh [--long]" >&2
    exit 2
    ;;
esac

here=tests/offload/ggml
root=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/offload/ggml
bin=$root/b11434/bin
plugin=${QDOT_BUILD_DIR:?is not set}/libggml-qdot.so
model=${QDOT_TEST_MODEL:-}
qdot=$(find "$QDOT_BUILD_DIR" -maxdepth 2 -name qdot -type f -perm -u+x | head -n 1)

skip() {
    echo "$*"
    exit 77
}
[ -f "$root/b11434/complete" ] || skip "llama.cpp is not in $root/b11434; \`sh host/offload/setup.sh ggml\` brings it"
[ -f "$plugin" ] || skip "libggml-qdot.so is not in $QDOT_BUILD_DIR; configure with -DQDOT_OFFLOAD=ON and build"
[ -f "$model" ] || skip "QDOT_TEST_MODEL names no model; \`sh host/fetch_model.sh\` fetches one"
! ldd "$plugin" | grep -q libasan || skip "a sanitizer build cannot be loaded by llama.cpp"

work=$(mktemp -d)
servers=
clean() {
    # Numbers of processes.
    # shellcheck disable=SC2086
    [ -z "$servers" ] || kill $servers 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM
failed=0

# check WHAT command…: the command must succeed.
check() {
    what=$1
    shift
    if "$@"; then
        echo "ok: $what"
    else
        echo "FAILED: $what"
        failed=$((failed + 1))
    fi
}

# ours [VARIABLE=VALUE]… words…: a program of llama.cpp with the backend.
ours() {
    timeout 6000 env "PATH=$bin:$PATH" "GGML_BACKEND_PATH=$plugin" "$@" </dev/null
}

# write_text PROMPT COUNT words…: what llama-completion makes of it goes to $work/text, its log to $work/log. All layers are on
# the device, the likeliest token comes each time. $settings: VARIABLE=VALUE in lines.
write_text() {
    prompt=$1
    count=$2
    shift 2
    (
        while IFS='=' read -r name value; do
            [ -z "$name" ] || export "$name=$value"
        done <<END
$settings
END
        timeout 600 "$bin/llama-completion" -m "$model" -p "$prompt" -n "$count" --temp 0 -no-cnv -ngl 99 --no-warmup \
            --simple-io -fit off -lv 5 "$@" </dev/null 2>"$work/log" | sed 's/ \[end of text\]//' >"$work/text"
    )
}
backend="GGML_BACKEND_PATH=$plugin"

# Attention as `qdot run` computes it: caches of floats. (llama.cpp's flash attention makes halves of them.)
exact="-fa off -ctk f32 -ctv f32"

# expect PROMPT COUNT ACTIVATIONS: what `qdot run` writes.
expect() {
    printf '%s' "$1"
    "$qdot" run -m "$model" -p "$1" -n "$2" --greedy --activations "$3" 2>/dev/null
}

# The same words, whatever empty lines follow them.
same_text() {
    [ -s "$1" ] && [ -s "$2" ] && [ "$(cat "$1")" = "$(cat "$2")" ] && return
    echo "--- one text"
    cat "$1"
    echo "--- the other"
    cat "$2"
    echo "--- the log's end"
    tail -n 5 "$work/log"
    return 1
}

# ---- Loading ---------------------------------------------------------------------------------------------------------

# list VARIABLE=VALUE: the devices of llama.cpp, and what it said, to $work/out. (llama-completion --list-devices loses lines.)
list() {
    ours "$1" test-backend-ops -o NONE >"$work/out" 2>&1 || true
}

list QDOT_VERIFY=0
check "llama.cpp lists the device" grep -q '^Backend [0-9/]*: QDOT' "$work/out"

# refuses WHAT VARIABLE=VALUE WORDS: it says the words, and the device is not there.
refuses() {
    list "$2"
    check "$1" grep -q "$3" "$work/out"
    check "$1: the host goes on without it" sh -c "grep -q '^Backend [0-9/]*: CPU' '$work/out' && ! grep -q '^Backend [0-9/]*: QDOT' '$work/out'"
}
refuses "a device that is not there: known ones are named" QDOT_DEVICE=nonesuch "cannot open device nonesuch: .*ref"
refuses "a wrong option: known ones are named" QDOT_VERIFY=maybe "QDOT_VERIFY=maybe .* QDOT_DEVICE .* QDOT_PROFILE"
refuses "wrong activations" QDOT_ACTIVATIONS=int8 "QDOT_ACTIVATIONS=int8 .*(a8"
refuses "a trace that is no .json" QDOT_PROFILE=trace.txt "QDOT_PROFILE=trace.txt"
printf 'const char *ggml_version(void);\nconst char *ggml_version(void) { return "0.1.2"; }\n' >"$work/version.c"
"${CC:-cc}" -shared -fPIC -o "$work/version.so" "$work/version.c"
refuses "a ggml of another version" "LD_PRELOAD=$work/version.so" "built for ggml .* has ggml 0.1.2"

# ---- Buffers ----------------------------------------------------------------------------------------------------------

check "buffers.c compiles" "${CC:-cc}" -std=gnu11 -O1 "$here/buffers.c" -o "$work/buffers" -isystem "$root/b11434/ggml/include" \
    -L"$bin" -lggml -lggml-base -lm -lpthread -Wl,-rpath,"$bin"
check "tensors that change, negative positions, copies, threads" timeout 300 "$work/buffers" "$plugin" "$bin" 2>/dev/null

# ---- Differences from the reference -----------------------------------------------------------------------------------

check "verify.c compiles" "${CC:-cc}" -std=gnu11 -O1 -rdynamic -Itests "$here/verify.c" tests/fault/cl_inject.c -o "$work/verify" \
    -isystem "$root/b11434/ggml/include" -L"$bin" -lggml -lggml-base -Wl,--no-as-needed -lOpenCL -ldl -Wl,-rpath,"$bin"
check "a wrong result is seen, and its node named" env QDOT_VERIFY=1 timeout 300 "$work/verify" "$plugin"

# ---- Operators -------------------------------------------------------------------------------------------------------

# Every operator of ops.def by the names of test-backend-ops, which are those of functions for UNARY and GLU.
operators=$(sed -n 's/^QG_OP(\([A-Z_]*\),.*/\1/p' host/offload/ggml/ops.def)
functions="ABS SGN NEG STEP TANH ELU RELU SIGMOID GELU GELU_QUICK GELU_ERF SILU HARDSWISH HARDSIGMOID EXP EXPM1 FLOOR CEIL \
REGLU GEGLU SWIGLU GEGLU_ERF GEGLU_QUICK"

# run_cases LOG [VARIABLE=VALUE] words…: cases of test-backend-ops; all must pass, and something must have run on the backend.
run_cases() {
    log=$1
    variable=QDOT_VERIFY=0
    shift
    case ${1:-} in
    *=*)
        variable=$1
        shift
        ;;
    esac
    ours "$variable" test-backend-ops -b QDOT "$@" >"$log" 2>&1 &&
        grep -q '[1-9][0-9]*/[0-9]* tests passed' "$log" && grep -q 'Backend QDOT: .*OK' "$log"
}

if [ "$long" ]; then
    check "test-backend-ops: all cases" run_cases "$work/cases"
    grep 'tests passed\|FAIL' "$work/cases" || true
    for name in $(echo "$operators" | grep -v '^UNARY$\|^GLU$') $functions; do
        check "test-backend-ops: $(grep -c "^  $name(.*OK" "$work/cases") cases of $name" grep -q "^  $name(.*OK" "$work/cases"
    done
else
    few="ADD SUB MUL DIV SCALE SQR SQRT CLAMP LEAKY_RELU NORM NORM_MUL_ADD RMS_NORM SOFT_MAX CONCAT REPEAT SWIGLU SILU GELU"
    check "test-backend-ops: small operators" run_cases "$work/cases" -o "$(echo "$few" | tr ' ' ,)" -p '[^0-9][0-9]{1,3},[0-9]{1,2},'
    check "test-backend-ops: matrices" run_cases "$work/cases2" -o MUL_MAT -p 'm=16,n=(1|16),k=256'
    check "test-backend-ops: rows, rotations, copies" run_cases "$work/cases3" -o ROPE,SET_ROWS,GET_ROWS,CPY,CONT -p '(32|64|128|256),'
    for f in cases cases2 cases3; do
        grep 'tests passed' "$work/$f" || true
    done
fi

# Every format of weights that the library reads.
for format in f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_K q3_K q4_K q5_K q6_K iq4_nl iq4_xs mxfp4 nvfp4 tq1_0 tq2_0; do
    check "test-backend-ops: matrices in $format" sh -c "cat '$work'/cases* | grep -q '^  MUL_MAT(type_a=$format,.*OK'"
done

# ---- A model ---------------------------------------------------------------------------------------------------------

# layers_chained: but for the output head nearly all operators share launches, where PoCL's device can chain them.
layers_chained() {
    grep -qw avx2 /proc/cpuinfo && grep -qw f16c /proc/cpuinfo || return 0
    # Numbers.
    # shellcheck disable=SC2046
    set -- $(sed -n 's/.* \([0-9]*\) operators, \([0-9]*\) of them in chains.*/\1 \2/p' "$work/log")
    [ $# -eq 2 ] && [ $((100 * $2)) -ge $((95 * $1)) ]
}

# same_as_qdot PROMPT COUNT ACTIVATIONS
same_as_qdot() {
    settings="$backend
QDOT_ACTIVATIONS=$3"
    # A list of words.
    # shellcheck disable=SC2086
    write_text "$1" "$2" $exact
    expect "$1" "$2" "$3" >"$work/expected"
    check "the text of \`qdot run\` ($3, $2 tokens): $1" same_text "$work/text" "$work/expected"
    grep -o 'qdot: [0-9]* graphs .*' "$work/log"
    check "no operator on the reference" grep -q ' 0 of them on the reference' "$work/log"
    check "layers in few launches" layers_chained
}
story="Once upon a time, in a small village near the sea,"
same_as_qdot "$story" 128 a8
[ -z "$long" ] || {
    for activations in a8 f32; do
        same_as_qdot "Water boils at" 128 $activations
        same_as_qdot "def fibonacci(n):" 128 $activations
        same_as_qdot "The three laws of motion are" 128 $activations
    done
    same_as_qdot "$story" 128 f32
    # Softmax between two products and flash attention are the same sums. Caches of halves: of others the host makes such.
    settings=$backend
    write_text "$story" 128 -fa off
    mv "$work/text" "$work/expected"
    write_text "$story" 128 -fa on
    check "the same text with flash attention and without" same_text "$work/text" "$work/expected"
}

# As llama.cpp runs it by itself: flash attention, caches of halves. GGML_SCHED_DEBUG lists each node and where it runs; the
# embedding of the tokens is the host's own choice.
settings="$backend
GGML_SCHED_DEBUG=2"
write_text "The capital of France is" 8
grep 'node #' "$work/log" >"$work/nodes" || true
echo "nodes of the graphs: $(grep -c '' "$work/nodes"), of them on the CPU: $(grep -c '\[  CPU  *\] use' "$work/nodes" || true), in layers: $(
    grep '\[  CPU  *\] use' "$work/nodes" | grep -vc 'GET_ROWS.*token_embd.weight' || true
)"
check "whole layers are on the backend" sh -c "grep -q '\[ QDOT  *\] use' '$work/nodes' && \
    ! grep '\[  CPU  *\] use' '$work/nodes' | grep -v 'GET_ROWS.*token_embd.weight'"
check "it writes a text" grep -q Paris "$work/text"
check "layers in few launches" layers_chained

# A cache that no device holds.
check "a cache that is too large is an error of the host's" sh -c "! GGML_BACKEND_PATH='$plugin' timeout 100 '$bin/llama-completion' \
    -m '$model' -p a -n 1 -no-cnv -ngl 99 -fit off -c 10000000 </dev/null >'$work/out' 2>&1 && \
    grep -q 'qdot: a buffer of .* exceeds the memory of' '$work/out'"

# shellcheck disable=SC1091
[ -z "$long" ] || . "$here/long.sh"

[ "$failed" -eq 0 ]
