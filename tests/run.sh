#!/bin/sh
# Installs what is missing, builds, and runs every test: `sh tests/run.sh [--long]`.
# --long also runs the fuzzers (60 seconds each) and whatever else is marked `long`.
# The last line is "N passed, N failed"; the exit status is zero only when nothing failed.
set -eu
cd "$(dirname "$0")/.."

long=
for word; do
    case $word in
    --long) long=yes ;;
    *)
        echo "usage: sh tests/run.sh [--long]" >&2
        exit 2
        ;;
    esac
done

passed=0
failed=0
skipped=0
jobs=$(nproc)

# build FOLDER TARGET cmake-options…
build() {
    folder=$1
    target=$2
    shift 2
    echo "== Building $folder"
    if ! cmake -S . -B "$folder" "$@" >"$folder.configure.log" 2>&1; then
        cat "$folder.configure.log"
        return 1
    fi
    cmake --build "$folder" --target "$target" -j "$jobs" >"$folder.build.log" 2>&1 || {
        tail -n 60 "$folder.build.log"
        return 1
    }
}

# run_tests FOLDER ctest-options…: adds to passed, failed and skipped.
run_tests() {
    folder=$1
    shift
    echo "== Testing $folder"
    log=$folder.ctest.log
    ctest --test-dir "$folder" -j 2 --output-on-failure "$@" >"$log" 2>&1 || true
    cat "$log"
    # ctest counts what was skipped as passed.
    s=$(grep -c '\*\*\*Skipped' "$log" || true)
    total=$(sed -n 's/^.* tests failed out of \([0-9]*\)$/\1/p' "$log")
    f=$(sed -n 's/^.*, \([0-9]*\) tests failed out of .*$/\1/p' "$log")
    if [ -z "$total" ]; then
        echo "No test ran in $folder"
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + total - f - s))
    failed=$((failed + f))
    skipped=$((skipped + s))
}

finish() {
    [ "$skipped" -eq 0 ] || echo "$skipped skipped (named above)"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

give_up() {
    echo "$1"
    failed=$((failed + 1))
    finish
}

mkdir -p build
sh host/setup.sh tests rtl ${long:+fuzz} || give_up "The packages could not be installed"
# Not seen by any test but those labelled `runtimes`, which say what is absent.
sh tests/opencl_runtimes.sh >/dev/null || echo "Intel's OpenCL runtimes could not be installed"
QDOT_TEST_MODEL=$(sh host/fetch_model.sh) || give_up "The model could not be fetched"
export QDOT_TEST_MODEL

# The runtimes that load the plug-ins. Without them (no network, another distribution) the rest is tested all the same.
offload=ON
if ! sh host/offload/setup.sh >build.offload.log 2>&1; then
    tail -n 20 build.offload.log
    echo "FAILED: the hosts of the plug-ins could not be installed; their tests do not run"
    failed=$((failed + 1))
    offload=OFF
fi

build build all -DQDOT_TESTS=ON -DQDOT_OFFLOAD=$offload || give_up "The build failed"
run_tests build -LE long

# Kernels that the first build has compiled and proven: not again here, but for the tests of just that. Without --long only
# the programs of the tests that run, which are none of the verilated unit.
tests=qdot_small_tests
rtl=OFF
[ -z "$long" ] || tests=all rtl=AUTO
build build/asan $tests -DQDOT_SANITIZE=ON -DQDOT_RTL=$rtl -DQDOT_TEST_CACHE="$PWD/build/cache" || give_up "The sanitizer build failed"
run_tests build/asan -L '^(unit|golden|fault|fuzz)$' -LE '^cli$'

if [ -n "$long" ]; then
    run_tests build -L long
    # The same bytes over long prompts are a matter of arithmetic, which the sanitizers only slow down.
    run_tests build/asan -L '^(cli|e2e|sim)$' -E '^e2e/determinism$'
    # The C++ of the verilated unit has another compiler, which does not link the fuzzer.
    build build/fuzz all -DQDOT_FUZZ=ON -DQDOT_RTL=OFF -DCMAKE_C_COMPILER=clang || give_up "The fuzzer build failed"
    run_tests build/fuzz -L long
fi
finish
