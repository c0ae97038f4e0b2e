"""llama-cpp-python with the backend: python_host.py LIBRARY MODEL PROMPT COUNT writes the prompt and what follows it."""

import ctypes
import pathlib
import sys

import llama_cpp


def main():
    library, model, prompt, count = sys.argv[1:]
    folder = pathlib.Path(llama_cpp.__file__).parent / "lib"
    ggml = ctypes.CDLL(str(folder / "libggml.so.0"))
    ggml.ggml_backend_load.argtypes = [ctypes.c_char_p]
    ggml.ggml_backend_load.restype = ctypes.c_void_p
    if not ggml.ggml_backend_load(library.encode()):
        sys.exit("the backend was not loaded")
    llama = llama_cpp.Llama(
        model,
        n_gpu_layers=-1,
        n_ctx=512,
        flash_attn=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=True,
    )
    answer = llama.create_completion(prompt, max_tokens=int(count), temperature=0)
    print(prompt + answer["choices"][0]["text"], end="")
    llama.close()


main()
