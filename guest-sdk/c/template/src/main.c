/* A process that counts. Others send it {"Add": {"by": 3}}, and ask it "Get". */
#include <exuvia.h>
#include <inttypes.h>

/* The state. What is to survive a swap of code is written by `save` and read by `load`. */
static int64_t count;

/* The start. The arguments may be {"start": 10}. */
static void init(exuvia_message *m) {
    if (exuvia_has(m, "start")) count = exuvia_get_int(m, "start");
}

static void add(exuvia_message *m) {
    int64_t by = exuvia_get_int(m, "by");
    /* If `by` is missing or no integer, the SDK logs it. */
    if (exuvia_ok(m)) count += by;
}

static void get(exuvia_message *m) {
    exuvia_reply_int(m, count);
}

static void save(exuvia_writer *w) {
    exuvia_write_map(w, 1);
    exuvia_put_int(w, "count", count);
}

static void load(exuvia_message *state, int32_t schema) {
    if (schema == 1) count = exuvia_get_int(state, "count");
    else exuvia_refuse(state, "a state of schema %" PRId32 " is unknown here", schema);
}

static const exuvia_entry messages[] = {{"Add", add}, {0}};
static const exuvia_entry requests[] = {{"Get", get}, {0}};

EXUVIA_ACTOR(.schema = 1, .init = init, .messages = messages, .requests = requests, .save = save, .load = load)

/* What `exuvia check OLD NEW` compares: what `save` writes, and which other schemas `load` takes. */
EXUVIA_STATE(1, "[]", "{count: int}")

/* What `exuvia describe counter` and `exuvia call counter add by=3` know. */
EXUVIA_DESCRIBE_MESSAGE("add", "Add", EXUVIA_PARAMETER("by", "int"), "Adds to the count.")
EXUVIA_DESCRIBE_REQUEST("get", "Get", "", "int", "The count.")
