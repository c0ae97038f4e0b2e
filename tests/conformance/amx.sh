#!/bin/sh
# The kernels that need AMX, byte for byte against the reference: on this CPU where it has AMX, else with its instructions
# carried out by amx/emulator.c: random problems, and mutants of the kernels, which must be refused.
# --long: 20,000 problems of each operator, all formats of blocks, all mutants, and two networks.
set -eu
cases=100
formats=q4_1
mutants="AMX: the"
long=
if [ "${1:-}" = --long ]; then
    long=yes
    cases=20000
    mutants=AMX
    formats=$(sed -n 's/^QD_KERNEL(matmul_\([a-z0-9_]*\)_amx, MATMUL, .*/\1/p' kernels_cl/kernels.def)
fi
build=${QDOT_BUILD_DIR:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export QDOT_CACHE_DIR="$work/cache" POCL_CACHE_DIR="$work/pocl"
mkdir "$QDOT_CACHE_DIR" "$POCL_CACHE_DIR"

features() {
    "$@" "$build/qdot" devices --brief 2>/dev/null
}
if ! features env | grep -q x86-avx512-vnni; then
    echo "no device with AVX512-VNNI"
    exit 77
fi
emulate=
if features env | grep -q x86-amx; then
    echo "this CPU has AMX"
else
    emulate="LD_PRELOAD=$build/tests/libamx_emulator.so"
    features env "$emulate" | grep -q x86-amx
    echo "this CPU has no AMX: emulated"
fi

# proven WORDS: variants that must have been proven in the run in $work/log.
proven() {
    for variant; do
        if ! grep -q "building and proving $variant" "$work/log" || grep "is not used" "$work/log"; then
            echo "FAILED: $variant was not proven"
            exit 1
        fi
    done
    [ -z "$emulate" ] || grep -q 'amx_emulator: [1-9]' "$work/log"
}

# fuzz OP options…
fuzz() {
    # shellcheck disable=SC2086 # nothing, or one word
    env $emulate "$build/qdot" verify --device opencl --fuzz "$cases" --kernels amx -v --op "$@" >"$work/log" 2>&1 || {
        cat "$work/log"
        exit 1
    }
    echo "$*: $(grep 'cases, ' "$work/log") $(grep amx_emulator: "$work/log" || true)"
}

for op in matmul_int matmul_group conv_int conv_add_int; do
    fuzz "$op"
    proven "${op}_8_amx"
    case $op in matmul_*) proven "${op}_4_amx" ;; esac
done
for format in $formats; do
    fuzz matmul --formats "$format a8"
    proven "matmul_${format}_amx"
done

# shellcheck disable=SC2086
[ -z "$long" ] || env $emulate QDOT_TEST_KERNELS=amx "$build/tests/e2e_test_networks"
# shellcheck disable=SC2086
env $emulate "$build/tests/fault_test_mutants" "$mutants" >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
cat "$work/log"
if grep -q ^skipped "$work/log" || ! grep -q ^refused "$work/log"; then
    echo "FAILED: mutants were skipped"
    exit 1
fi
