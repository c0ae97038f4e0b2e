# What only the long suite does; run.sh reads it.
# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # names of run.sh

# ---- The reference looks on ------------------------------------------------------------------------------------------

settings="$backend
QDOT_VERIFY=1"
write_text "The capital of France is" 4
check "every operator gives the reference's bytes" sh -c "grep -q Paris '$work/text' && ! grep -q 'qdot: running a graph' '$work/log'"
check "test-backend-ops, every operator compared with the reference" run_cases "$work/verified" QDOT_VERIFY=1 \
    -o ADD,NORM,RMS_NORM,ROPE,SOFT_MAX,SET_ROWS,GET_ROWS,CPY,SWIGLU

# ---- Files that `qdot quantize` writes --------------------------------------------------------------------------------

# Without the backend: what llama.cpp's own processor code makes of them.
settings=
original=$model
for format in q8_0 q4_0 f16; do
    model=$work/$format.gguf
    "$qdot" quantize "$original" "$model" --format "$format" >"$work/out" 2>&1 || cat "$work/out"
    write_text "The capital of France is" 8
    check "llama.cpp reads the model in $format" sh -c "grep -q 'file type *= ' '$work/log' && [ -s '$work/text' ]"
    [ "$format" = q4_0 ] || check "and knows what the original knows" grep -q Paris "$work/text"
done
model=$original

# ---- Two machines ----------------------------------------------------------------------------------------------------

# serve PORT: sets $server.
serve() {
    GGML_BACKEND_PATH=$plugin "$bin/ggml-rpc-server" -H 127.0.0.1 -p "$1" -d QDOT >"$work/server$1" 2>&1 </dev/null &
    server=$!
    servers="$servers $server"
}
serve 50461
first=$server
serve 50462
second=$server
sleep 3
both=127.0.0.1:50461,127.0.0.1:50462
settings=
# A list of words.
# shellcheck disable=SC2086
write_text "The capital of France is" 32 $exact --rpc $both
expect "The capital of France is" 32 a8 >"$work/expected"
check "two servers share the layers and write the same text" same_text "$work/text" "$work/expected"
check "the first has layers" grep -q 'layer  *0 assigned to device RPC0' "$work/log"
check "the second has layers" grep -q 'layer  *29 assigned to device RPC1' "$work/log"

# One of them dies. llama.cpp's client ends itself with a message; as a child of another program it is an error there.
client() {
    PYTHONDONTWRITEBYTECODE=1 timeout 300 python3 "$here/rpc_client.py" "$bin/llama-completion" -m "$model" -no-cnv -ngl 99 --no-warmup \
        -fit off "$@" >"$work/out" 2>&1
}
client -p "Once upon a time" -n 2000 --ignore-eos --rpc $both &
child=$!
sleep 8
check "the client is at work" kill -0 "$child"
kill -9 "$second"
since=$(date +%s)
code=0
wait "$child" 2>/dev/null || code=$?
check "a server that dies: the client ends soon" [ $(($(date +%s) - since)) -le 20 ]
check "with an error" [ "$code" -eq 1 ]
check "that says so" grep -q 'RuntimeError: .*Remote RPC server crashed' "$work/out"
check "the other server lives on" kill -0 "$first"
check "a server that is dead from the start is named" sh -c "! GGML_NO_BACKTRACE=1 timeout 300 '$bin/llama-completion' -m '$model' \
    -p a -n 1 -no-cnv -ngl 99 -fit off --rpc $both </dev/null >'$work/out' 2>&1 && \
    grep -q 'Failed to connect to 127.0.0.1:50462' '$work/out'"
check "and so is a wrong port" sh -c "! PYTHONDONTWRITEBYTECODE=1 timeout 300 python3 '$here/rpc_client.py' '$bin/llama-completion' \
    -m '$model' -p a -n 1 -no-cnv -ngl 99 -fit off --rpc 127.0.0.1:50463 >'$work/out' 2>&1 && \
    grep -q 'RuntimeError: .*Failed to connect to 127.0.0.1:50463' '$work/out'"
# shellcheck disable=SC2086
write_text "The capital of France is" 32 $exact --rpc 127.0.0.1:50461
check "and writes the same text alone" same_text "$work/text" "$work/expected"

# ---- llama-cpp-python ------------------------------------------------------------------------------------------------

if sh host/offload/ggml/setup.sh python; then
    other=$root/python-0.3.36
    build=$QDOT_BUILD_DIR/ggml-python
    check "the backend can be built for another layout" sh -c "cmake -S . -B '$build' -DQDOT_OFFLOAD=ON -DQDOT_TESTS=OFF \
        -DQDOT_GGML_DIR='$other/ggml' >'$work/cmake.log' 2>&1 && cmake --build '$build' -j 2 --target qdot_ggml >>'$work/cmake.log' 2>&1"
    PYTHONDONTWRITEBYTECODE=1 timeout 600 "$other/venv/bin/python" "$here/python_host.py" "$build/libggml-qdot.so" "$model" \
        "The capital of France is" 32 >"$work/text" 2>"$work/log" || tail -n 5 "$work/log"
    check "llama-cpp-python writes the same text" same_text "$work/text" "$work/expected"
    check "on the backend" grep -q 'qdot: [0-9]* graphs .* 0 of them on the reference' "$work/log"
    PYTHONDONTWRITEBYTECODE=1 timeout 600 "$other/venv/bin/python" "$here/python_host.py" "$plugin" "$model" a 1 >"$work/text" \
        2>"$work/log" || true
    check "and refuses the backend for another layout" grep -q 'qdot: this backend was built for ggml' "$work/log"
else
    check "llama-cpp-python could be installed" false
fi

# ---- Times, for information ------------------------------------------------------------------------------------------

echo "times (tokens per second): llama-bench with the backend, llama-bench with ggml's CPU backend, qdot run"
ours llama-bench -m "$model" -ngl 99 -p 128 -n 64 -r 3 2>"$work/bench.log" | grep '^|' || check "llama-bench runs" false
grep -o 'qdot: [0-9]* graphs .*' "$work/bench.log" || true
timeout 600 "$bin/llama-bench" -m "$model" -ngl 0 -p 128 -n 64 -r 3 2>/dev/null | grep '^| llama' || true
"$qdot" run -m "$model" -p "Once upon a time" -n 64 --greedy --no-stop 2>&1 >/dev/null | grep 'tokens/s' || true
