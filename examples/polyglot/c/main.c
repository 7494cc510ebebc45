/* A station in C: see ../README.md. */
#include <exuvia.h>
#include <inttypes.h>
#include <string.h>

enum { VERSION = 1 };

/* The state, which every station saves in the same form. */
static int64_t passed, arrived, travelled;
static bool halted;
static char next[64];

static void set_next(exuvia_message *m) {
    exuvia_text name = exuvia_get_text(m, "next");
    if (name.length >= sizeof next) exuvia_refuse(m, "the name of the next station has more than %zu bytes", sizeof next - 1);
    else {
        memcpy(next, name.at, name.length);
        next[name.length] = 0;
    }
}

/* A token comes by: it is sent on, or has arrived. */
static void pass(exuvia_message *m) {
    int64_t hops = exuvia_get_int(m, "hops") + 1;
    if (!exuvia_ok(m)) return;
    passed++;
    exuvia_pid to;
    if (halted || exuvia_whereis(next, &to) != EXUVIA_OK) {
        arrived++;
        travelled += hops;
        return;
    }
    exuvia_writer w = exuvia_named("Pass", 1);
    exuvia_put_int(&w, "hops", hops);
    exuvia_send(to, &w);
}

static void halt(exuvia_message *m) {
    halted = true;
    exuvia_reply_nil(m);
}

static void count(exuvia_message *m) {
    exuvia_writer w = exuvia_writer_new();
    exuvia_write_map(&w, 5);
    exuvia_put_text(&w, "language", "C");
    exuvia_put_int(&w, "version", VERSION);
    exuvia_put_int(&w, "passed", passed);
    exuvia_put_int(&w, "arrived", arrived);
    exuvia_put_int(&w, "travelled", travelled);
    exuvia_reply(m, &w);
}

static void save(exuvia_writer *w) {
    exuvia_write_map(w, 5);
    exuvia_put_int(w, "passed", passed);
    exuvia_put_int(w, "arrived", arrived);
    exuvia_put_int(w, "travelled", travelled);
    exuvia_put_bool(w, "halted", halted);
    exuvia_put_text(w, "next", next);
}

static void load(exuvia_message *state, int32_t schema) {
    if (schema != 1) {
        exuvia_refuse(state, "a state of schema %" PRId32 " is unknown here", schema);
        return;
    }
    passed = exuvia_get_int(state, "passed");
    arrived = exuvia_get_int(state, "arrived");
    travelled = exuvia_get_int(state, "travelled");
    halted = exuvia_get_bool(state, "halted");
    set_next(state);
}

static const exuvia_entry messages[] = {{"Pass", pass}, {0}};
static const exuvia_entry requests[] = {{"Count", count}, {"Halt", halt}, {0}};

EXUVIA_STATE(1, "[]", "{passed: int, arrived: int, travelled: int, halted: bool, next: text}")

EXUVIA_ACTOR(.schema = 1, .init = set_next, .messages = messages, .requests = requests, .save = save, .load = load)
