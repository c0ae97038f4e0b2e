#!/bin/sh
# Brings the headers and the hosts of the plug-ins, from packages: `sh host/offload/setup.sh [ort] [ggml] [tflite]`, all
# of them without words. They go to $XDG_CACHE_HOME/qdot/offload (else ~/.cache/…), and nothing is done twice.
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- ort ggml tflite
for word; do
    if [ ! -f "$word/setup.sh" ]; then
        echo "usage: sh host/offload/setup.sh [ort] [ggml] [tflite]" >&2
        exit 2
    fi
done
sh ../setup.sh offload
for word; do
    sh "$word/setup.sh"
done
