// C++ with exceptions: each handler runs within a try, so what it throws refuses the request instead of ending the process.
#include <exuvia.h>

#include <stdexcept>
#include <string>

static int64_t count;
static int64_t destroyed;

namespace {
struct Guard {
    ~Guard() { destroyed++; }
};

void add(int64_t by) {
    Guard guard;
    if (by < 0) throw std::invalid_argument("cannot add " + std::to_string(by));
    if (by == 13) throw by;
    count += by;
}

void reply(exuvia_message *m) {
    try {
        Guard guard;
        auto by = exuvia_get_int(m, "by");
        if (!exuvia_ok(m)) return;
        add(by);
        exuvia_reply_int(m, count);
    } catch (const std::exception &e) {
        exuvia_refuse(m, "%s", e.what());
    }
}
}  // namespace

static const exuvia_entry requests[] = {
    {"Add", reply},
    {"Destroyed", [](exuvia_message *m) { exuvia_reply_int(m, destroyed); }},
    {},
};

EXUVIA_ACTOR(.schema = 1, .requests = requests)
