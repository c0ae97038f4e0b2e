#!/bin/sh
# The kernels that need AMX, byte for byte against the reference: on this CPU where it has AMX, else with its instructions
# carried out by amx/emulator.c. Random problems, two networks, and mutants of the kernels, which must be refused.
# --long: 20,000 problems of each operator.
set -eu
cases=400
[ "${1:-}" != --long ] || cases=20000
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

for op in matmul_int matmul_group conv_int conv_add_int; do
    # shellcheck disable=SC2086 # nothing, or one word
    env $emulate "$build/qdot" verify --device opencl --fuzz "$cases" --op "$op" --kernels amx -v >"$work/log" 2>&1 || {
        cat "$work/log"
        exit 1
    }
    echo "$op: $(grep 'cases, ' "$work/log") $(grep amx_emulator: "$work/log" || true)"
    for codes in i8 u8; do
        if ! grep -q "building and proving ${op}_${codes}_amx" "$work/log" || grep "is not used" "$work/log"; then
            echo "FAILED: ${op}_${codes}_amx was not proven"
            exit 1
        fi
    done
    [ -z "$emulate" ] || grep -q 'amx_emulator: [1-9]' "$work/log"
done

# shellcheck disable=SC2086
env $emulate QDOT_TEST_KERNELS=amx "$build/tests/e2e_test_networks"
# shellcheck disable=SC2086
env $emulate "$build/tests/fault_test_mutants" amx >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
cat "$work/log"
if grep -q ^skipped "$work/log" || ! grep -q ^refused "$work/log"; then
    echo "FAILED: mutants were skipped"
    exit 1
fi
