# The unit of hls/rtl, verilated: QDOT_HAVE_RTL says whether it is built, rtl_model makes one shape of it.
set(QDOT_RTL AUTO CACHE STRING "Build the device rtl (needs Verilator and a C++ compiler): ON, OFF, or AUTO: where both are")
set_property(CACHE QDOT_RTL PROPERTY STRINGS AUTO ON OFF)
set(QDOT_HAVE_RTL OFF)
if(NOT QDOT_RTL STREQUAL "OFF")
    include(CheckLanguage)
    check_language(CXX)
    find_program(QDOT_VERILATOR verilator)
    if(CMAKE_CXX_COMPILER AND QDOT_VERILATOR)
        enable_language(CXX)
        find_package(verilator REQUIRED HINTS $ENV{VERILATOR_ROOT} /usr/share/verilator /usr/local/share/verilator)
        set(QDOT_HAVE_RTL ON)
    elseif(QDOT_RTL STREQUAL "AUTO")
        message(STATUS "The device rtl is not built: no Verilator or no C++ compiler (sh host/setup.sh rtl installs both)")
    else()
        message(FATAL_ERROR "QDOT_RTL=ON needs Verilator and a C++ compiler: run sh host/setup.sh rtl, or configure with -DQDOT_RTL=OFF.")
    endif()
endif()

# rtl_model(TARGET NAME "PARAMETER=VALUE …"): adds a shape of the unit to an object library, which gets the table NAME
# (host/rtl/model.h).
function(rtl_model target name parameters)
    set(folder ${PROJECT_SOURCE_DIR}/hls/rtl)
    set(class V${name})
    separate_arguments(parameters)
    list(TRANSFORM parameters PREPEND -G)
    verilate(${target} PREFIX ${class} TOP_MODULE qd_matmul SOURCES ${folder}/qd_matmul.v
             VERILATOR_ARGS -I${folder} -O3 --x-assign unique --x-initial unique -Wno-lint ${parameters})
    set(glue ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
    file(CONFIGURE OUTPUT ${glue} CONTENT
         "#define RTL_CLASS ${class}\n#define RTL_MODEL ${name}\n#include \"rtl/model.cpp\"\n" @ONLY)
    target_sources(${target} PRIVATE ${glue})
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/host)
    # What is generated, and Verilator's own files, are not held to this project's warnings, which are C's, too.
    set_target_properties(${target} PROPERTIES COMPILE_OPTIONS "" CXX_STANDARD 17)
endfunction()
