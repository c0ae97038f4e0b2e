# One unit through Vitis HLS: C simulation, synthesis, and what v++ links (an .xo).
#   vitis_hls -f hls/vitis.tcl -tclargs TOP [PART [CLOCK_NS [OPTION…]]]        in the repository's root
#   TOP     a file of hls/ without .c: its function has the same name
#   PART    default xcu280-fsvh2892-2L-e;  CLOCK_NS  default 3.33
#   OPTION  shape of the unit, as QD_PE=8 QD_VEC=32 QD_PACK=2 (array.h)
# The C simulation against the reference is tests/hls (test_csim.c); it needs no vendor tool, so csim_design is not called.
if {[llength $argv] < 1} {
    puts stderr "usage: vitis_hls -f hls/vitis.tcl -tclargs TOP ?PART? ?CLOCK_NS? ?OPTION ...?"
    exit 2
}
set top [lindex $argv 0]
set part [expr {[llength $argv] > 1 ? [lindex $argv 1] : "xcu280-fsvh2892-2L-e"}]
set clock [expr {[llength $argv] > 2 ? [lindex $argv 2] : 3.33}]
set flags "-std=c99 -Ihls -Ihost/include/qdot"
foreach option [lrange $argv 3 end] { append flags " -D$option" }

open_project -reset build_hls_$top
set_top $top
add_files hls/$top.c -cflags $flags
open_solution -reset -flow_target vitis solution
set_part $part
create_clock -period $clock -name default
# Operands start at whole beats, which lets bytes be put together to 512 bits.
config_interface -m_axi_alignment_byte_size 64 -m_axi_max_widen_bitwidth 512
csynth_design
export_design -format xo -output build_hls_$top/$top.xo
exit
