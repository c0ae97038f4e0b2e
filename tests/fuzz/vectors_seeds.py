#!/usr/bin/env python3
"""Writes the seeds of fuzz_vectors: the smallest case of each operation in a folder of golden vectors.

    python tests/fuzz/vectors_seeds.py tests/golden/vectors tests/fuzz/corpus/vectors
"""

import json
import os
import sys

LARGEST = 4096


def tensors(case):
    return case["inputs"] + case["outputs"]


def seed(manifest, case, data):
    """The case alone: its manifest, a zero byte, its data."""
    content = b""
    for t in tensors(case):
        content += b"\0" * (-len(content) % 16)
        raw = data[t["offset"]:t["offset"] + t["nbytes"]]
        t["offset"] = len(content)
        content += raw
    head = {k: manifest[k] for k in ("format_version", "group")} | {"case_count": 1, "cases": [case]}
    return json.dumps(head, separators=(",", ":")).encode() + b"\0" + content


def main():
    source, target = sys.argv[1:]
    os.makedirs(target, exist_ok=True)
    for group in sorted(os.listdir(source)):
        path = os.path.join(source, group)
        if not os.path.isdir(path):
            continue
        with open(os.path.join(path, "cases.json")) as f:
            manifest = json.load(f)
        with open(os.path.join(path, "data.bin"), "rb") as f:
            data = f.read()
        smallest = {}
        for case in manifest["cases"]:
            key = case["op"], case["expect"]
            size = sum(t["nbytes"] for t in tensors(case))
            if key not in smallest or size < smallest[key][0]:
                smallest[key] = size, case
        for (op, expect), (_, case) in smallest.items():
            content = seed(manifest, case, data)
            if len(content) <= LARGEST:
                with open(os.path.join(target, f"{group}-{op}-{expect}"), "wb") as f:
                    f.write(content)


main()
