/* The one file in C++: Verilator makes classes. -DRTL_CLASS names the one of a shape, -DRTL_MODEL its table. */
#define RTL_TEXT_OF(x) #x
#define RTL_TEXT(x) RTL_TEXT_OF(x)
#define RTL_HEADER(x) RTL_TEXT(x.h)

#include RTL_HEADER(RTL_CLASS)

#include <atomic>
#include <cstring>
#include <new>

#include "rtl/model.h"

namespace {

struct unit {
    VerilatedContext context; /* its own: units know nothing of each other */
    RTL_CLASS *top;
    unit() {
        /* Registers start with random bits, other ones in each unit. */
        static std::atomic<int> units;
        context.randReset(2);
        context.randSeed(++units);
        top = new RTL_CLASS{&context};
    }
    ~unit() {
        delete top;
    }
};

void *open_unit() {
    return new (std::nothrow) unit;
}

void close_unit(void *u) {
    delete static_cast<unit *>(u);
}

/* A pin of any width: Verilator keeps its bits in words, the lowest first. */
template <typename pin>
void give(pin &to, const void *from) {
    if (from) std::memcpy(&to, from, sizeof to);
}

void settle(void *u, rtl_pins *p) {
    RTL_CLASS &t = *static_cast<unit *>(u)->top;
    t.clk = 0;
    t.rst = p->rst;
    t.bus_valid = p->bus_valid;
    t.bus_write = p->bus_write;
    t.bus_address = p->bus_address;
    t.bus_wdata = p->bus_wdata;
    t.w_valid = p->w_valid;
    t.x_valid = p->x_valid;
    t.c_valid = p->c_valid;
    t.y_ready = p->y_ready;
    give(t.w_data, p->w_data);
    give(t.x_data, p->x_data);
    give(t.c_data, p->c_data);
    t.eval();
    p->bus_ready = t.bus_ready;
    p->bus_rdata = t.bus_rdata;
    p->w_ready = t.w_ready;
    p->x_ready = t.x_ready;
    p->c_ready = t.c_ready;
    p->y_valid = t.y_valid;
    p->y_data = &t.y_data;
}

void clock_unit(void *u) {
    RTL_CLASS &t = *static_cast<unit *>(u)->top;
    t.clk = 1;
    t.eval();
}

}  // namespace

extern "C" const rtl_model RTL_MODEL;
extern "C" const rtl_model RTL_MODEL = {
    RTL_TEXT(RTL_MODEL),
    sizeof(RTL_CLASS::w_data),
    sizeof(RTL_CLASS::x_data),
    sizeof(RTL_CLASS::y_data),
    open_unit,
    close_unit,
    settle,
    clock_unit,
};
