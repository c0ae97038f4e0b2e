#!/bin/sh
# Every operator and format as on a processor with AVX2 and without AVX-512: PoCL compiles for such a one (avx2/avx2_only.c), and
# the kernels are those with AVX2. Bytes as the reference's, and no word from the compiler.
set -eu
build=${QDOT_BUILD_DIR:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export QDOT_CACHE_DIR="$work/cache" POCL_CACHE_DIR="$work/pocl"
mkdir "$QDOT_CACHE_DIR" "$POCL_CACHE_DIR"
if ! "$build/qdot" devices --brief | grep -q x86-avx2; then
    echo "no device with AVX2"
    exit 77
fi
export LD_PRELOAD="$build/tests/libavx2_only.so"
"$build/qdot" devices --brief >"$work/devices"
grep -q haswell "$work/devices" || {
    cat "$work/devices"
    echo "FAILED: PoCL does not compile for a processor without AVX-512"
    exit 1
}
"$build/qdot" verify --device opencl --kernels avx2 --cases 10 >"$work/out" 2>"$work/err" || {
    cat "$work/out" "$work/err"
    exit 1
}
tail -n 1 "$work/out"
grep -q _avx2 "$work/out"
if grep -E '_(vnni512|avx512|amx) ' "$work/out" || [ -s "$work/err" ]; then
    head "$work/err"
    echo "FAILED: a kernel for another processor, or something on standard error"
    exit 1
fi
