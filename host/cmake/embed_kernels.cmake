# Writes OUT, a C file with the text of every file named in LIST (one path per line), as a table that
# host/opencl reads. Names are relative to ROOT; a file from elsewhere goes by its bare name.
# qd_proof_hash covers the files named in PROOF_LIST: host sources on which the proof of a kernel depends.
# Usage: cmake -D LIST=… -D PROOF_LIST=… -D ROOT=… -D OUT=… -P embed_kernels.cmake
file(STRINGS ${LIST} paths)
file(STRINGS ${PROOF_LIST} proof_paths)
set(arrays "")
set(table "")
set(count 0)
foreach(path IN LISTS paths)
    file(RELATIVE_PATH name ${ROOT} ${path})
    if(name MATCHES "^\\.\\./")
        get_filename_component(name ${path} NAME)
    endif()
    file(READ ${path} bytes HEX)
    file(SIZE ${path} size)
    # Bytes and not a string literal: those are limited to 4095 characters in C. 32 bytes a line.
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
    string(REPEAT "....." 32 line)
    string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
    string(APPEND arrays "static const unsigned char text_${count}[] = {\n${bytes}0};\n")
    string(APPEND table "    {\"${name}\", (const char *)text_${count}, ${size}},\n")
    math(EXPR count "${count} + 1")
endforeach()
set(proof "")
foreach(path IN LISTS proof_paths)
    file(SHA256 ${path} hash)
    string(APPEND proof ${hash})
endforeach()
string(SHA256 proof "${proof}")
file(WRITE ${OUT}.new "/* Made from kernels_cl by embed_kernels.cmake. */
#include <stddef.h>

struct qd_kernel_source {
    const char *name;
    const char *text;
    size_t size;
};
extern const struct qd_kernel_source qd_kernel_sources[];
extern const size_t qd_kernel_source_count;

${arrays}
const struct qd_kernel_source qd_kernel_sources[] = {
${table}};
const size_t qd_kernel_source_count = ${count};
extern const char qd_proof_hash[];
const char qd_proof_hash[] = \"${proof}\";
")
file(RENAME ${OUT}.new ${OUT})
