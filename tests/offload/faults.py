"""The OpenCL functions of tests/fault in a process of Python: `load` before a plug-in is."""
import ctypes
import os
import re
import subprocess
import tempfile


def load():
    """tests/fault/cl_inject.c. Symbols that are global stand before those that a plug-in brings, which is loaded later."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cl_inject.so")
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-I", "tests", "-o", path,
                        "tests/fault/cl_inject.c", "-Wl,--no-as-needed", "-lOpenCL"], check=True)
        return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def function_number(faults, name):
    with open("tests/fault/cl_functions.def", encoding="utf-8") as f:
        names = re.findall(r"^CL_FUNCTION\((\w+)\)", f.read(), re.M)
    found = (ctypes.c_char_p * len(names)).in_dll(faults, "cl_function_names")
    return list(found).index(name.encode())


def wrong_after(faults, function, n):
    """One bit of what the device gives back is wrong after call number n of a function. Returns what must be kept while
    that may come."""
    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def hook(_):
        faults.inject_wrong_reads(ctypes.c_long(1))

    faults.inject_clear()
    faults.inject_hook(function, ctypes.c_long(n), hook, None)
    return hook
