#!/bin/sh
# Checks the pragmas of hls/ as each tool will see them: `sh hls/lint.sh [FOLDER]`. Both tools pass over, or only warn of, a
# pragma that they do not know, and then build something else than what was meant.
#
# Every top is preprocessed for Vitis HLS and for PandA-Bambu. Each pragma must be of a class that the tool knows, with
# keys and values that it takes, at a place where it counts, and about a variable or parameter that there is; every
# argument of a top needs its port. Outside hls.h there are no pragmas, and in plain C none is left.
# (Sources of the rules: UG1399 for Vitis HLS; the pragma parser of PandA-Bambu's clang plug-in.)
set -u
folder=${1:-$(dirname "$0")}
include=$(cd "$(dirname "$0")/../host/include/qdot" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/bad"

grep -nE '#[[:space:]]*pragma|_Pragma' "$folder"/*.[ch] | grep -v '^[^:]*/hls\.h:' | sed 's/$/ (a pragma outside hls.h)/' >>"$work/bad"

cat >"$work/check.awk" <<'AWK'
function complain(why) {
    print top ".c for " tool ": " why ": " pragma
}
function number(value) {
    return value ~ /^[1-9][0-9]*$/
}
function one_of(value, list) {
    return index(" " list " ", " " value " ") > 0
}
# Classes and the keys of each.
function rules(   n, i, line, half) {
    n = split(tool == "vitis" ? \
        "interface:mode port bundle offset latency depth register max_widen_bitwidth max_read_burst_length " \
        "max_write_burst_length num_read_outstanding num_write_outstanding|dataflow:|pipeline:II off rewind style|" \
        "unroll:factor|inline:off recursive|array_partition:variable type factor dim|stream:variable type depth|" \
        "loop_tripcount:min max avg|bind_storage:variable type impl latency|dependence:variable class type direction distance dependent|" \
        "loop_flatten:off|aggregate:variable compact" : \
        "interface:mode port bundle offset elem_count depth register register_mode num_write_outstanding|dataflow:|" \
        "pipeline:II off style|unroll:factor|inline:off recursive|" \
        "cache:bundle line_count line_size bus_size ways num_write_outstanding rep_policy write_policy", line, "|")
    for (i = 1; i <= n; i++) {
        split(line[i], half, ":")
        keys[half[1]] = half[2]
        known[half[1]] = 1
    }
    needs["interface"] = "mode port"
    needs["array_partition"] = "variable type"
    needs["stream"] = "variable depth"
    needs["bind_storage"] = "variable type"
    needs["dependence"] = "variable"
    needs["aggregate"] = "variable"
    needs["loop_tripcount"] = "min max"
    needs["cache"] = "bundle line_count line_size"
}
# A key's value; "" where the tool takes it.
function wrong_value(class, key, value) {
    if (key == "port") {
        if (value == "return" && tool == "vitis") return ""
        return (value in parameter) ? "" : "no such parameter"
    }
    if (key == "variable") return text ~ ("(^|[^A-Za-z0-9_])" value "([^A-Za-z0-9_]|$)") ? "" : "no such variable"
    if (key == "mode" && tool == "vitis")
        return one_of(value, "m_axi s_axilite axis ap_none ap_vld ap_ack ap_hs ap_fifo ap_memory") ? "" : "no such mode"
    if (key == "mode") {
        if (parameter[attribute["port"]] == "pointer")
            return one_of(value, "none valid ovalid handshake acknowledge default fifo bus m_axi axis") ? "" : "no such mode"
        return one_of(value, "none valid ovalid handshake acknowledge default") ? "" : "no such mode for a scalar"
    }
    if (class == "interface" && key == "offset")
        return one_of(value, tool == "vitis" ? "slave direct off" : "direct") ? "" : "no such offset"
    if (class == "array_partition" && key == "type") return one_of(value, "complete cyclic block") ? "" : "no such type"
    if (class == "stream" && key == "type") return one_of(value, "fifo pipo shared unsync") ? "" : "no such type"
    if (key == "II" && tool == "bambu") return value == 1 ? "" : "only II=1"
    if (key == "style") return one_of(value, tool == "vitis" ? "stp flp frp" : "frp") ? "" : "no such style"
    if (one_of(key, "off recursive rewind")) return value == "" ? "" : "takes no value"
    if (key == "dim") return value ~ /^[0-9]$/ ? "" : "no number"
    if (key == "bundle") return value ~ /^[A-Za-z_][A-Za-z0-9_]*$/ ? "" : "no name"
    if (key == "direction") return one_of(value, "RAW WAR WAW") ? "" : "no such direction"
    if (key == "dependent") return one_of(value, "true false") ? "" : "neither true nor false"
    if (class == "dependence" && key == "type") return one_of(value, "inter intra") ? "" : "no such type"
    if (one_of(class, "bind_storage cache aggregate") || key == "class" || key == "register_mode") return value == "" ? "no value" : ""
    return number(value) ? "" : "no number"
}
function wrong_place(class) {
    if (class == "interface" || class == "cache")
        return depth == 0 && tool == "bambu" || depth == 1 && previous == "{" ? "" : "must be first in a function"
    if (class == "inline") return depth == 1 && previous == "{" ? "" : "must be first in a function"
    if (class == "dataflow" && tool == "bambu" || class == "pipeline" && tool == "bambu")
        return depth == 1 && previous == "{" ? "" : "must be first in a function, not in a loop"
    if (class == "dataflow") return depth >= 1 && previous == "{" ? "" : "must be first in a function or loop"
    if (class == "unroll" && tool == "bambu") {
        unrolled = pragma
        return depth >= 1 ? "" : "must be before a loop"
    }
    if (one_of(class, "unroll pipeline loop_tripcount loop_flatten"))
        return depth >= 2 && previous == "{" && loop[depth] ? "" : "must be first in a loop"
    return depth >= 1 ? "" : "must be in a function"
}
function check(   n, i, word, class, half, why, list) {
    n = split(pragma, word, " ")
    if (one_of(word[2], "GCC clang STDC")) return
    if (word[2] != "HLS") {
        complain("not of HLS")
        return
    }
    seen++
    if (tool == "plain") {
        complain("plain C must have none")
        return
    }
    class = word[3]
    if (!(class in known)) {
        complain("no such class")
        return
    }
    for (i in attribute) delete attribute[i]
    for (i = 4; i <= n; i++) {
        half = index(word[i], "=")
        attribute[half ? substr(word[i], 1, half - 1) : word[i]] = half ? substr(word[i], half + 1) : ""
    }
    for (i in attribute) {
        if (!one_of(i, keys[class])) complain("no such key, " i)
        else if ((why = wrong_value(class, i, attribute[i])) != "") complain(i "=" attribute[i] ", " why)
    }
    n = split(needs[class], list, " ")
    for (i = 1; i <= n; i++)
        if (!(list[i] in attribute)) complain("lacks " list[i])
    if ((why = wrong_place(class)) != "") complain(why)
    if (class == "interface" && name == top) {
        mode[attribute["port"], attribute["mode"]]++
        if (attribute["mode"] == "m_axi") bundle[attribute["bundle"]]++
    }
}
# At the end of the top: each argument has its port.
function check_ports(   i, p) {
    pragma = name
    for (i in bundle)
        if (bundle[i] > 1) complain("bundle " i " has several ports")
    for (p in parameter) {
        if (parameter[p] == "pointer" && !((p, "m_axi") in mode)) complain("argument " p " has no m_axi port")
        if (tool == "vitis" && !((p, "s_axilite") in mode)) complain("argument " p " has no s_axilite port")
    }
    if (tool == "vitis" && !(("return", "s_axilite") in mode)) complain("has no s_axilite port to start it")
    found = 1
}
function start_function(   open, list, n, i, p) {
    for (i in parameter) delete parameter[i]
    open = index(header, "(")
    name = substr(header, 1, open - 1)
    sub(/[ \t]*$/, "", name)
    sub(/^.*[^A-Za-z0-9_]/, "", name)
    list = substr(header, open + 1)
    sub(/\)[^)]*$/, "", list)
    n = split(list, p, ",")
    for (i = 1; i <= n; i++) {
        open = p[i] ~ /[*\[]/ ? "pointer" : "scalar"
        gsub(/\[[^\]]*\]/, "", p[i])
        sub(/[ \t]*$/, "", p[i])
        sub(/^.*[^A-Za-z0-9_]/, "", p[i])
        if (p[i] != "") parameter[p[i]] = open
    }
    text = header
}
BEGIN { if (tool != "plain") rules() }
/^[ \t]*#[ \t]*pragma/ {
    pragma = $0
    sub(/^[ \t]*#[ \t]*/, "", pragma)
    gsub(/ *= */, "=", pragma)
    check()
    next
}
/^[ \t]*#/ || /^[ \t]*$/ { next }
{
    if (unrolled != "") {
        pragma = unrolled
        if ($0 !~ /^[ \t]*(for|while|do)[^A-Za-z0-9_]/) complain("must be before a loop")
        unrolled = ""
    }
    for (at = 1; at <= length($0); at++) {
        c = substr($0, at, 1)
        if (c == "{") {
            if (depth == 0) start_function()
            depth++
            loop[depth] = statement ~ /(^|[^A-Za-z0-9_])(for|while|do)[^A-Za-z0-9_]/
            statement = ""
        } else if (c == "}") {
            depth--
            statement = ""
            if (depth == 0) {
                if (name == top && tool != "plain") check_ports()
                header = name = ""
            }
        } else if (c == ";" && depth == 0) {
            header = ""
        } else {
            if (depth == 0) header = header c
            statement = c == ";" && statement !~ /for *\(/ ? "" : statement c
        }
        if (c !~ /[ \t]/) previous = c
    }
    header = header " "
    statement = statement " "
    text = text "\n" $0
}
END {
    pragma = top
    if (tool != "plain" && !found) complain("has no function of that name")
    if (tool != "plain" && !seen) complain("has no pragmas at all")
}
AWK

for source in "$folder"/*.c; do
    top=$(basename "$source" .c)
    for tool in vitis bambu plain; do
        case $tool in
        vitis) dialect=-D__SYNTHESIS__ ;;
        bambu) dialect=-D__BAMBU__ ;;
        plain) dialect=-DQD_PLAIN ;;
        esac
        "${CC:-cc}" -std=c99 -E -P "$dialect" -I"$folder" -I"$include" "$source" >"$work/$top.$tool" 2>"$work/errors" || {
            echo "$top.c for $tool: does not preprocess: $(head -n 3 "$work/errors")"
        }
        awk -v tool="$tool" -v top="$top" -f "$work/check.awk" "$work/$top.$tool"
    done
done >>"$work/bad"

cat "$work/bad"
[ ! -s "$work/bad" ]
