#!/bin/sh
# Instructions that the host executes for one generated token: `sh tests/bench/host_path.sh [--json | --most N] [MODEL.gguf]`.
# Needs valgrind (sh host/setup.sh bench). --most N: fails where those of qdot's own code are more than N.
#
# Callgrind counts the thread that gives the work, and no other: PoCL's kernels run in threads of their own. A long generation
# less a short one, so that start and prompt fall out. qdot's own part is the same in each run to a few instructions; PoCL's
# and the C library's, which depend on who waits for whom, to a few percent. Valgrind shows programs a
# processor with AVX2 and no more: kernels for it are built and proven in a cache of their own, which takes minutes once.
#
# Environment: QDOT_BUILD_DIR  folder of the built qdot (default: build)
set -eu
cd "$(dirname "$0")/../.."
qdot=${QDOT_BUILD_DIR:-build}/qdot
json=
most=0
case ${1:-} in
--json)
    json=yes
    shift
    ;;
--most)
    most=$2
    shift 2
    ;;
esac
if ! command -v valgrind >/dev/null; then
    echo "host_path.sh: valgrind is missing (sh host/setup.sh bench)" >&2
    exit 77
fi
if [ ! -x "$qdot" ]; then
    echo "host_path.sh: $qdot is missing; build first (cmake -S . -B build && cmake --build build), or set QDOT_BUILD_DIR" >&2
    exit 1
fi
model=${1:-${QDOT_TEST_MODEL:-$(sh host/fetch_model.sh)}}
cache=${QDOT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/qdot}/valgrind
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$cache/qdot" "$cache/pocl"
export QDOT_CACHE_DIR="$cache/qdot" POCL_CACHE_DIR="$cache/pocl"
short=2
long=10

# generate TOKENS words of valgrind…
generate() {
    n=$1
    shift
    valgrind "$@" "$qdot" run -m "$model" -p "The licenses for most software" -n "$n" --greedy --no-stop >"$work/out" 2>"$work/err" || {
        tail -n 20 "$work/err" >&2
        echo "host_path.sh: qdot failed under valgrind (its words stand above)" >&2
        exit 1
    }
}

[ -n "$json" ] || echo "kernels for valgrind's processor (minutes, once)" >&2
generate "$long" --tool=none
for n in $short $long; do
    generate "$n" --tool=callgrind --separate-threads=yes --callgrind-out-file="$work/$n"
done
python3 - "$work" "$short" "$long" "$most" "$json" <<'PYTHON'
import collections, json, os, re, sys
work, short, long, most, as_json = sys.argv[1:]


def read(path):
    """Instructions by (file that holds the code, function): own ones, without those of what a function calls."""
    names, counts, at, skip = {}, collections.Counter(), {"ob": "?", "fn": "?"}, False
    for line in open(path):
        named = re.match(r"c?(ob|fn)=\((\d+)\)(?: (.*))?", line)
        if named:
            kind, number, name = named.groups()
            if name:
                names[kind, number] = os.path.basename(name.strip()) if kind == "ob" else name.strip()
            if line[0] != "c":
                at[kind] = names[kind, number]
        elif line.startswith("calls="):
            skip = True  # the line that follows is what the called function took
        elif line[:1].isdigit() or line[:1] in "+-*":
            if not skip:
                counts[at["ob"], at["fn"]] += int(line.split()[1])
            skip = False
    return counts


def group(file, function):
    if function.startswith("qd_sampler"):
        return "choosing the token"
    if file.startswith(("qdot", "libqdot")):
        return "qdot"
    return "OpenCL runtime" if re.match(r"lib(OpenCL|pocl|LLVM|clang)", file) else "C library"


a, b = (read(f"{work}/{n}-01") for n in (short, long))
tokens, groups = int(long) - int(short), collections.Counter()
each = {key: (b[key] - a[key]) / tokens for key in b}
for key, count in each.items():
    groups[group(*key)] += count
total, own = round(sum(groups.values())), round(groups["qdot"])
words = ", ".join(f"{name} {round(count):,}" for name, count in groups.most_common())
if as_json:
    print(json.dumps({"per_token": total, "words": words, "qdot": own}))
else:
    print(f"{total:,} instructions of the host for a token: {words}")
    for (file, function), count in sorted(each.items(), key=lambda x: -x[1])[:12]:
        print(f"{round(count):12,}  {function.split('(')[0]} [{file}]")
if int(most) and own > int(most):
    sys.exit(f"host_path.sh: qdot's own code takes {own:,} instructions for a token, more than {int(most):,}")
PYTHON
