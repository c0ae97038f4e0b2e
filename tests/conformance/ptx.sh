#!/bin/sh
# What NVIDIA's devices would be given, seen without one: clang's PTX of the rows of kernels.def that need NV_DP4A. Each must
# have the packed dot product, and read weights of WORDS4 by 16 bytes. Whether the results are right, the probe and the
# canaries find out on the device.
set -eu
clang=$(command -v clang-14 || command -v clang) || {
    echo "clang is not installed"
    exit 77
}
"$clang" --print-targets 2>/dev/null | grep -q nvptx64 || {
    echo "$clang has no PTX"
    exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

grep -E '^QD_KERNEL\(.* NV_DP4A, ' kernels_cl/kernels.def >"$work/rows"
[ -s "$work/rows" ] || {
    echo "kernels.def has no row that needs NV_DP4A"
    exit 1
}
problems=0
while IFS='"' read -r start file _ options rest; do
    name=$(expr "$start" : 'QD_KERNEL(\([a-z0-9_]*\),')
    # shellcheck disable=SC2086 # the options are words
    "$clang" -x cl -cl-std=CL1.2 -w -O2 -S -target nvptx64-nvidia-nvcl -ffreestanding -D__OPENCL_VERSION__=120 \
        -Xclang -finclude-default-header -Xclang -target-cpu -Xclang sm_61 -Ikernels_cl -Ihost/include/qdot $options \
        -o "$work/ptx" "kernels_cl/$file" || exit 1
    products=$(grep -c 'dp4a\.s32\.s32' "$work/ptx" || true)
    wide=$(grep -c 'ld\.global\.v4\.u32' "$work/ptx" || true)
    echo "$name: $products packed dot products, $wide loads of 16 bytes"
    case $rest in *WORDS4*) ;; *) wide=1 ;; esac
    if [ "$products" -lt 8 ] || [ "$wide" -lt 1 ]; then
        echo "FAILED: too few"
        problems=$((problems + 1))
    fi
done <"$work/rows"
[ "$problems" -eq 0 ]
