#!/bin/sh
# The route of binaries on Intel's FPGA emulator: built and written by one process, loaded by another that has no source
# to fall back to; a kernel that is not in the binary; and what `qdot fpga` says about bad input.
#
#   sh tests/conformance/fpga_binary.sh [--long]     --long: and SmolLM2, from a binary and from sources
set -eu
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
long=${1:+yes}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset QDOT_FPGA_BINARY
problems=0
problem() {
    echo "FAILED: $*"
    problems=$((problems + 1))
}

# fails WORDS command…: exit code 2, one line of qdot's on standard error, which has the words.
fails() {
    words=$1
    shift
    code=0
    "$@" >"$work/out" 2>"$work/all" || code=$?
    grep -v '^SYCL CPU RT Warning: ' "$work/all" >"$work/err" || true # the driver's own words
    [ "$code" -eq 2 ] || problem "$*: exit code $code"
    [ "$(wc -l <"$work/err")" -eq 1 ] || problem "$*: not one line: $(cat "$work/err")"
    grep -qF -- "$words" "$work/err" || problem "$*: lacks \"$words\": $(cat "$work/err")"
}

# ---- Without the emulator ----
build="fpga build --vendor intel --board emulator"
# $build is a list of words.
# shellcheck disable=SC2086
{
    fails "is not installed" env OCL_ICD_VENDORS=/nonexistent OCL_ICD_FILENAMES= "$qdot" $build --run -o "$work/none"
    [ ! -e "$work/none/qdot.json" ] || problem "a manifest without a binary"
    : >"$work/file"
    fails "$work/file" "$qdot" $build -o "$work/file/inside"
    fails "Not a directory" "$qdot" $build -o "$work/file"
    fails "no kernel for FPGAs is called \"nosuch\"" "$qdot" $build --kernels table_single,nosuch -o "$work/none"
    fails "--banks" "$qdot" $build --banks w=x -o "$work/none"
    fails "from 1 to 8" "$qdot" $build --units 9 -o "$work/none"
}
fails "--vendor is needed" "$qdot" fpga build --board b -o "$work/none"
fails "a binary is for one board" "$qdot" fpga build --vendor amd -o "$work/none"
fails "which manifest" "$qdot" fpga check
fails "No such file" "$qdot" fpga check "$work/nosuch.json"
"$qdot" fpga build --vendor amd --board xilinx_u250 --banks w=1,x=0,y=0 -o "$work/amd" >"$work/out"
grep -q '^v++ .*--connectivity.sp .*\.w:DDR\[1\]' "$work/out" || problem "AMD's commands name no bank"
fails 'field "binary"' "$qdot" fpga seal "$work/amd/qdot.json"
fails "--hls /nonexistent" "$qdot" fpga build --vendor amd --board xilinx_u250 --hls /nonexistent -o "$work/none"

# AMD's commands, carried out by a C compiler in v++'s place: each unit compiles, and has its kernel's name and format.
mkdir "$work/bin"
cat >"$work/bin/v++" <<'END'
#!/bin/sh
set -eu
case $1 in
-l) for last; do :; done && exec touch "$last" ;;
esac
words=
while [ $# -gt 0 ]; do
    case $1 in
    -t | --platform) shift ;;
    -k) shift && kernel=$1 ;;
    -o) shift && out=$1 ;;
    *) words="$words $1" ;;
    esac
    shift
done
cc -std=c99 $words -o "$out"
[ "$(nm -g --defined-only "$out" | awk '{ print $3 }')" = "$kernel" ]
END
chmod +x "$work/bin/v++"
sed -i '/fpga seal/d' "$work/amd/build.sh"
PATH="$work/bin:$PATH" sh "$work/amd/build.sh" || problem "AMD's commands do not work"
for format in Q4_0 Q4_1 Q8_0; do
    grep -q "^v++ -c .*-k matmul_$(echo $format | tr Q q)_single[^ ]* .* -DQD_W_$format " "$work/amd/build.sh" ||
        problem "AMD's commands do not say that a unit is for $format"
done
fails 'field "sha256"' "$qdot" fpga check "$work/amd/qdot.json"

# ---- With it ----
eval "$(sh tests/opencl_runtimes.sh --installed)"
if ! "$qdot" devices --brief | grep -qF 'opencl:Intel(R) FPGA Emulation'; then
    echo "ABSENT: Intel's FPGA emulator (sh tests/opencl_runtimes.sh installs it)"
    [ "$problems" -eq 0 ] || exit 1
    exit 77
fi

# binary NAME build-words…: $work/NAME/qdot.json
binary() {
    name=$1
    shift
    # shellcheck disable=SC2086
    "$qdot" $build --run -o "$work/$name" "$@" >"$work/out" 2>&1 || problem "build $*: $(cat "$work/out")"
    "$qdot" fpga check "$work/$name/qdot.json" >"$work/out" || problem "check after build $*"
    sed "s|$work/||" "$work/out" | head -n 1
}

# suite NAME VARIANT…: all operators in a new process that knows nothing but the binary; these kernels ran, and no others.
# An operator that has none in the binary runs on the reference, which is said once. The log goes to $work/log.
suite() {
    name=$1
    shift
    rm -rf "$work/cache"
    mkdir "$work/cache"
    code=0
    QDOT_CACHE_DIR=$work/cache QDOT_FPGA_BINARY=$work/$name/qdot.json "$qdot" verify -v --device "opencl:FPGA Emulation" \
        --cases 6 --seed 5 >"$work/out" 2>"$work/log" || code=$?
    echo "$name:$(grep ' cases, ' "$work/out" || true)"
    [ "$code" -eq 0 ] || problem "$name: $(cat "$work/log")"
    grep -oE '[a-z0-9_]+_(channels|single) +[0-9]+ +[0-9]+ ' "$work/out" | awk '{ print $1 }' | sort -u >"$work/ran"
    printf '%s\n' "$@" | sort >"$work/wanted"
    diff "$work/wanted" "$work/ran" || problem "$name: other kernels ran than are in it, above"
    for op in add softmax_int pad; do
        [ "$(grep -c "$op runs on the reference: " "$work/log")" -eq 1 ] || problem "$name: $op is not said once"
    done
}

all="matmul_int_channels conv_int_channels matmul_q4_0_channels matmul_q4_1_channels matmul_q8_0_channels table_single"
binary plain
binary units --units 2 --banks w=1,x=0,y=0,bias=2 --pe 8 --tokens 4
# A kernel that is not in the binary.
binary part --kernels table_single
# $all is a list.
# shellcheck disable=SC2086
for name in plain units; do
    suite $name $all
done
suite part table_single
[ "$(grep -c 'conv_int runs on the reference: .*not in the binary' "$work/log")" -eq 1 ] ||
    problem "conv_int is not said once: $(grep conv_int "$work/log")"

# A kernel that the manifest claims, and the binary lacks; a damaged one; one for the emulator on another device.
python3 - "$work/part/qdot.json" "$work/plain/qdot.json" <<'END'
import json, sys
part, plain = (json.load(open(p)) for p in sys.argv[1:])
part["kernels"] += [k for k in plain["kernels"] if k["variant"] == "conv_int_channels"]
json.dump(part, open(sys.argv[1], "w"))
END
on_emulator="$qdot verify --device opencl:FPGA --op table --fuzz 1"
# shellcheck disable=SC2086
{
    fails 'field "kernels[1].functions": conv_int_channels_4x16x8_read is not in the binary' \
        env QDOT_FPGA_BINARY="$work/part/qdot.json" $on_emulator
    printf x >>"$work/units/qdot.aocx"
    fails 'field "sha256"' env QDOT_FPGA_BINARY="$work/units/qdot.json" $on_emulator
    head -c 5000 "$work/plain/qdot.aocx" >"$work/units/qdot.aocx"
    "$qdot" fpga seal "$work/units/qdot.json" >"$work/out"
    fails 'field "binary"' env QDOT_FPGA_BINARY="$work/units/qdot.json" $on_emulator
    fails "qdot.aocx could not be written" \
        sh -c 'ulimit -f 8; exec "$@"' sh "$qdot" $build --run --kernels table_single -o "$work/plain"
    "$qdot" fpga check "$work/plain/qdot.json" >"$work/out" || problem "a full disk harmed what was there"
}

if [ -n "$long" ]; then
    model=$(sh host/fetch_model.sh)
    for name in plain ""; do
        before=$(date +%s)
        code=0
        QDOT_FPGA_BINARY=${name:+$work/plain/qdot.json} "$qdot" run -m "$model" -p "The capital of France is" -n 4 \
            --verify -v --device opencl:FPGA >"$work/out" 2>"$work/log" || code=$?
        echo "SmolLM2, ${name:-sources}: exit code $code, $(($(date +%s) - before)) s"
        [ "$code" -eq 0 ] || problem "qdot run: $(tail -n 3 "$work/log")"
        if grep -E 'matmul runs on the reference' "$work/log"; then problem "its products ran on the reference"; fi
    done
fi
[ "$problems" -eq 0 ]
