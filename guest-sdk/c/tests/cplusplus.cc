// The header from C++: an actor whose handlers are lambdas.
#include <exuvia.h>

static int64_t count;

static const exuvia_entry messages[] = {
    {"Add", [](exuvia_message *m) {
         auto by = exuvia_get_int(m, "by");
         if (exuvia_ok(m)) count += by;
     }},
    {},
};
static const exuvia_entry requests[] = {
    {"Get", [](exuvia_message *m) { exuvia_reply_int(m, count); }},
    {},
};

EXUVIA_ACTOR(.schema = 1, .messages = messages, .requests = requests)
