"""A client of llama.cpp as a child, whose end is an exception here: rpc_client.py PROGRAM argument…"""

import os
import subprocess
import sys

run = subprocess.run(
    sys.argv[1:],
    env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    check=False,
)
if run.returncode:
    raise RuntimeError("; ".join(line for line in run.stderr.splitlines() if "rpc" in line))
print(run.stdout, end="")
