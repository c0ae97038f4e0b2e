#!/bin/sh
# Everything that the aims of speed ask for, in one go: `sh tests/bench/all.sh [--write] [MODEL.gguf]`, on a quiet machine, after
# `sh tests/bench/peers.sh`. Prints a section for RESULTS.md; --write puts it there, in the place of an older one of such a
# machine. Takes some ten minutes.
#
# Environment: QDOT_BUILD_DIR  folder of the built qdot (default: build)
#              KEEP            folder for the JSON of each part and the chart; parts that are there are not measured again
#              WORKS           regular expression of works (default: all)
#              RUNS            rounds of each work (default 7)
#              SECONDS_EACH    seconds for the turns of one library in a work (default 0.5)
set -eu
cd "$(dirname "$0")/../.."
qdot=${QDOT_BUILD_DIR:-build}/qdot
write=
[ "${1:-}" != --write ] || {
    write=--write
    shift
}
if [ ! -x "$qdot" ]; then
    echo "all.sh: $qdot is missing; build first (cmake -S . -B build && cmake --build build), or set QDOT_BUILD_DIR" >&2
    exit 1
fi
model=${1:-$(sh host/fetch_model.sh)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
keep=${KEEP:-$work}
mkdir -p "$keep"

# part NAME words…: the JSON of a run of qdot bench --peers, in $keep/NAME.json; $limits: variables of its environment.
limits=
# shellcheck disable=SC2086 # nothing, or words
part() {
    name=$1
    shift
    [ ! -s "$keep/$name.json" ] || return 0
    echo "all.sh: $name" >&2
    env $limits "$qdot" bench --peers --runs "${RUNS:-7}" --json "$@" >"$work/json"
    mv "$work/json" "$keep/$name.json"
}

# Seconds from the start of the program to the end after one token, of a prompt of ten tokens; kernels are there.
first_token() {
    [ ! -s "$keep/first.json" ] || return 0
    echo "all.sh: first token" >&2
    python3 - "$qdot" "$model" >"$work/json" <<'PYTHON'
import json, subprocess, sys, time
qdot, model = sys.argv[1:]
text = "The licenses for most software are designed to take away"
tokens = len(json.loads(subprocess.check_output([qdot, "tokenize", "-m", model, "-p", text, "--json"]))["tokens"])
seconds = []
for _ in range(12):
    start = time.perf_counter()
    subprocess.run([qdot, "run", "-m", model, "-p", text, "-n", "1", "--greedy"], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"tokens": tokens, "seconds": seconds[1:]}))
PYTHON
    mv "$work/json" "$keep/first.json"
}

# Shares of the time of generated tokens in which the thread that gives the work is at work itself.
host_share() {
    [ ! -s "$keep/share.json" ] || return 0
    echo "all.sh: the host's share" >&2
    python3 - "$qdot" "$model" >"$work/json" <<'PYTHON'
import json, subprocess, sys, time
qdot, model = sys.argv[1:]


def seconds(pid):
    """On a processor, of the process's first thread."""
    return 1e-9 * int(open(f"/proc/{pid}/task/{pid}/schedstat").read().split()[0])


shares = []
for _ in range(7):
    with subprocess.Popen([qdot, "run", "-m", model, "-p", "The licenses", "-n", "1500", "--greedy", "--no-stop"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        run.stdout.read(40)  # it generates
        start, spent = time.perf_counter(), seconds(run.pid)
        time.sleep(1)
        spent = seconds(run.pid) - spent
        shares.append(spent / (time.perf_counter() - start))
        if run.poll() is not None:
            sys.exit("all.sh: qdot ended too early")
        run.kill()
print(json.dumps({"shares": shares[1:]}))
PYTHON
    mv "$work/json" "$keep/share.json"
}

part works --works "${WORKS:-.}" --seconds "${SECONDS_EACH:-0.5}" --svg "$keep/roofline.svg"
for format in q4_1 q4_0; do
    file=$model
    if [ "$format" = q4_0 ]; then
        file=$keep/q4_0.gguf
        [ -s "$keep/q4_0.json" ] || [ -s "$file" ] || "$qdot" quantize "$model" "$file" --format q4_0 >/dev/null
    fi
    part "$format" -m "$file" --prompt 128 --generate 64 --seconds 2
    part "$format-512" -m "$file" --prompt 512 --generate 16 --seconds 2
done
peers=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/peers
if [ -x "$peers-avx2/llama.cpp" ]; then
    limits="LD_PRELOAD=$peers/.kit/avx2_only.so QDOT_PEERS=$peers-avx2"
    for prompt in 128 512; do
        part "avx2-$prompt" --kernels avx2 -m "$model" --prompt "$prompt" --generate 16 --seconds 2
    done
    limits=
fi
first_token
host_share
[ -s "$keep/host.json" ] || ! command -v valgrind >/dev/null || QDOT_BUILD_DIR=${QDOT_BUILD_DIR:-build} \
    sh tests/bench/host_path.sh --json "$model" >"$keep/host.json" || rm -f "$keep/host.json"
python3 tests/bench/section.py "$keep" "$write"
