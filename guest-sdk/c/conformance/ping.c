/* The benchmark of the conformance suite: two processes that send a message to and fro. */
#include <exuvia.h>

static int64_t handled;

static void send_left(exuvia_pid to, const char *name, int64_t left) {
    exuvia_writer w = exuvia_named(name, 1);
    exuvia_put_int(&w, "left", left);
    exuvia_send(to, &w);
}

static void start(exuvia_message *m) {
    exuvia_pid to = exuvia_get_pid(m, "to");
    int64_t rounds = exuvia_get_int(m, "rounds");
    if (exuvia_ok(m)) send_left(to, "Ping", rounds);
}

static void ping(exuvia_message *m) {
    int64_t left = exuvia_get_int(m, "left");
    if (!exuvia_ok(m)) return;
    handled++;
    send_left(m->sender, "Pong", left);
}

static void pong(exuvia_message *m) {
    int64_t left = exuvia_get_int(m, "left");
    if (!exuvia_ok(m)) return;
    handled++;
    if (left > 1) send_left(m->sender, "Ping", left - 1);
}

static void rounds(exuvia_message *m) {
    exuvia_reply_int(m, handled);
}

static const exuvia_entry messages[] = {{"Ping", ping}, {"Pong", pong}, {"Start", start}, {0}};
static const exuvia_entry requests[] = {{"Rounds", rounds}, {0}};
EXUVIA_ACTOR(.messages = messages, .requests = requests)
