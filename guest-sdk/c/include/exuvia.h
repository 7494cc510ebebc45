/**
 * Exuvia processes in C: state, and a handler for each message.
 *
 *     #include <exuvia.h>
 *
 *     static int64_t count;
 *
 *     static void add(exuvia_message *m) {
 *         int64_t by = exuvia_get_int(m, "by");
 *         if (exuvia_ok(m)) count += by;
 *     }
 *     static void get(exuvia_message *m) {
 *         exuvia_reply_int(m, count);
 *     }
 *     static void save(exuvia_writer *w) {
 *         exuvia_write_map(w, 1);
 *         exuvia_put_int(w, "count", count);
 *     }
 *     static void load(exuvia_message *state, int32_t schema) {
 *         count = exuvia_get_int(state, "count");
 *     }
 *
 *     static const exuvia_entry messages[] = {{"Add", add}, {0}};
 *     static const exuvia_entry requests[] = {{"Get", get}, {0}};
 *     EXUVIA_ACTOR(.schema = 1, .messages = messages, .requests = requests, .save = save, .load = load)
 *
 * Build it with `exuvia-cc counter.c -o counter.wasm` (see README.md).
 *
 * Conventions. Times are milliseconds, and EXUVIA_FOREVER (-1) never expires. Functions that return `exuvia_code` return EXUVIA_OK (0) or a
 * negative code; EXUVIA_REFUSED is the one positive code. Texts of the API are UTF-8. A view (exuvia_text, exuvia_bytes, exuvia_value) points into
 * the message that it is from, and is valid as long as the message: until the handler returns, or until exuvia_message_free. There is one thread.
 */
#ifndef EXUVIA_H
#define EXUVIA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exuvia/abi.h"

#ifdef __cplusplus
extern "C" {
#define EXUVIA_C_LINKAGE extern "C"
#else
#define EXUVIA_C_LINKAGE
#endif

/** A timeout that never expires. */
#define EXUVIA_FOREVER ((int64_t)-1)
/** The first code of an exit reason that is free to use. */
#define EXUVIA_REASON_GUEST 256

/** Which process. Opaque: compare it with exuvia_pid_equal, store it, send it. In MessagePack a binary of 16 bytes. */
typedef struct exuvia_pid {
    uint64_t node, process;
} exuvia_pid;

/** No process: the sender of messages from outside of the node, and of those of the host itself. */
#define EXUVIA_NOBODY ((exuvia_pid){0, 0})

/** A piece of text that ends where it ends, not with a zero. Never NULL. */
typedef struct exuvia_text {
    const char *at;
    size_t length;
} exuvia_text;

/** Bytes. Never NULL. */
typedef struct exuvia_bytes {
    const uint8_t *at;
    size_t length;
} exuvia_bytes;

/** One whole value in MessagePack; `at` is NULL if there is none. */
typedef struct exuvia_value {
    const uint8_t *at;
    size_t length;
} exuvia_value;

/** Kinds of values. */
typedef enum exuvia_type {
    EXUVIA_TYPE_NONE, /**< There is no value. */
    EXUVIA_TYPE_NIL,
    EXUVIA_TYPE_BOOL,
    EXUVIA_TYPE_INT,
    EXUVIA_TYPE_FLOAT,
    EXUVIA_TYPE_TEXT,
    EXUVIA_TYPE_BINARY,
    EXUVIA_TYPE_ARRAY,
    EXUVIA_TYPE_MAP,
    EXUVIA_TYPE_EXTENSION,
} exuvia_type;

/**
 * A message. Handlers get one; exuvia_receive and exuvia_call fill one.
 *
 * The functions exuvia_get_* read its parameters, and remember in `error` the first that is missing or of another type. If a handler returns with an
 * error, the SDK refuses the request, or logs a warning about the message; so a handler asks exuvia_ok once, before it changes anything.
 */
typedef struct exuvia_message {
    exuvia_kind kind;
    /** Who has sent it: EXUVIA_NOBODY from outside of the node. For EXIT and DOWN: who has ended. */
    exuvia_pid sender;
    /** REQUEST: what a reply must name. REPLY, DOWN, TIMER: what they belong to. */
    uint64_t reference;
    /** What the sender chose. Named messages have 0. */
    uint32_t tag;
    /** EXIT, DOWN: why, an exuvia_reason or a code from 256 on. */
    int32_t reason;
    /** The bytes as they came. */
    exuvia_bytes payload;
    /** The name of a named message, or an empty text. */
    exuvia_text name;
    /** What exuvia_get_* looks into: a map of the parameters; of the arguments of the start; of a saved state; of the head of an HTTP request. */
    exuvia_value parameters;
    /** HTTP: the bytes behind the head. */
    exuvia_bytes body;
    /** The first error, or NULL. It begins behind the name of the parameter, `error_at`: "is missing". */
    const char *error;
    const char *error_at;
    /** Whether it was replied to, kept or refused. */
    bool settled;
    /** Of the SDK: what exuvia_message_free frees. */
    void *owned;
    struct exuvia_block *blocks;
} exuvia_message;

/** Writes MessagePack. Keeps its first error; functions that take a writer to send it also free it. */
typedef struct exuvia_writer {
    uint8_t *data;
    size_t length, capacity;
    /** Whether `data` is the caller's buffer. */
    bool fixed;
    /** The first error, or NULL. */
    const char *error;
} exuvia_writer;

/** Reads MessagePack, one value after the other. Keeps its first error, and returns zeroes and empty texts from then on. */
typedef struct exuvia_reader {
    const uint8_t *at, *end;
    /** The first error, or NULL: "is not an integer". */
    const char *error;
} exuvia_reader;

/** Who waits for a reply: what is kept of a request. It may be kept in the state, over swaps, and be passed on. */
typedef struct exuvia_caller {
    exuvia_pid pid;
    uint64_t reference;
} exuvia_caller;

/* The actor */

/** Handles a message. It is freed when the handler returns: copy what is to stay. */
typedef void exuvia_handler(exuvia_message *message);

/** A row of a table of handlers; the last one is {0}. */
typedef struct exuvia_entry {
    const char *name;
    exuvia_handler *handle;
} exuvia_entry;

/** What a module is. Everything may be left out. */
typedef struct exuvia_actor {
    /** The number of the shape of the state; raise it when old bytes would mean something else. */
    int32_t schema;
    /** The start. exuvia_refuse, or an error of exuvia_get_*, fails it. The parameters are the arguments: a map, or nil. */
    exuvia_handler *init;
    /** Messages and timers by their names. */
    const exuvia_entry *messages;
    /** Requests by their names. The handler replies, refuses, or keeps the request (exuvia_keep). */
    const exuvia_entry *requests;
    /** A linked process has ended, and this one traps exits (exuvia_trap_exit). */
    exuvia_handler *on_exit;
    /** A monitored process has ended. */
    exuvia_handler *on_down;
    /** The reply to an exuvia_request. Its DOWN, if there will be none, goes to on_down. */
    exuvia_handler *on_reply;
    /** A request of HTTP: the parameters are its head (method, path, query, params, headers), `body` its body. Reply with exuvia_respond. */
    exuvia_handler *on_http;
    /** What happens to a socket, by its tag (EXUVIA_TAG_SOCKET_*); the sender is the socket. It is acknowledged when the handler returns. */
    exuvia_handler *on_socket;
    /** Everything else: messages with other tags, names that the tables lack, timers without a name, tables that were given. */
    exuvia_handler *on_other;
    /** Writes the state, one value, usually a map; must change nothing. */
    void (*save)(exuvia_writer *state);
    /** Reads what a version with this schema has saved. exuvia_refuse, or an error of exuvia_get_*, refuses the swap. */
    void (*load)(exuvia_message *state, int32_t schema);
    /** Once per version, before all processes: what it leaves in memory is shared by all and costs none of them. If the start of the module differs between
     *  processes, it runs in each of them instead (`exuvia check` says so): EXUVIA_SHARED_START says that it need not. */
    void (*warm_up)(void);
    /** Instead of handlers: a loop of your own over exuvia_receive. It returns what `run` returns, see exuvia_run_result. */
    exuvia_run_result (*run)(void);
} exuvia_actor;

/** Defines the module. Once, in one file. */
#define EXUVIA_ACTOR(...) EXUVIA_QUIET_(EXUVIA_C_LINKAGE const exuvia_actor exuvia_main = {__VA_ARGS__};)

/**
 * The start of the module is the same for all processes, although libraries in it ask for time, random bytes or folders as they start: `EXUVIA_SHARED_START`, once,
 * in one file. They get a clock that stands, the same bytes always, and no folders; so what they keep of that must do for all processes.
 */
#define EXUVIA_SHARED_START EXUVIA_C_LINKAGE __attribute__((export_name("exuvia_shared_start"))) void exuvia_shared_start(void) {}
#ifdef __clang__
/* What is left out is NULL, and no mistake. */
#define EXUVIA_QUIET_(...) \
    _Pragma("clang diagnostic push") _Pragma("clang diagnostic ignored \"-Wmissing-field-initializers\"") __VA_ARGS__ _Pragma("clang diagnostic pop")
#else
#define EXUVIA_QUIET_(...) __VA_ARGS__
#endif
extern const exuvia_actor exuvia_main;

/**
 * Describe a message or a request for `exuvia describe` and `exuvia call`, where it has the name `function`. All are literals without quotes;
 * parameters are EXUVIA_PARAMETERs with "," between them, or "". Outside of functions.
 *
 *     EXUVIA_DESCRIBE_MESSAGE("add", "Add", EXUVIA_PARAMETER("by", "int"), "Adds to the count.")
 *     EXUVIA_DESCRIBE_REQUEST("get", "Get", "", "int", "The count.")
 */
#define EXUVIA_DESCRIBE_MESSAGE(function, message, parameters, docs) EXUVIA_DESCRIBE_(function, message, parameters, "", docs)
#define EXUVIA_DESCRIBE_REQUEST(function, message, parameters, reply, docs) \
    EXUVIA_DESCRIBE_(function, message, parameters, ",\\\"reply\\\":\\\"" reply "\\\"", docs)
#ifdef __wasm__
#define EXUVIA_DESCRIBE_(function, message, parameters, reply, docs) \
    __asm__(".section .custom_section.exuvia.protocol,\"\",@\n" \
            ".ascii \"{\\\"name\\\":\\\"" function "\\\",\\\"message\\\":\\\"" message "\\\",\\\"parameters\\\":[" parameters "]" reply \
            ",\\\"docs\\\":\\\"" docs "\\\"}\\n\"\n");
#else
#define EXUVIA_DESCRIBE_(function, message, parameters, reply, docs)
#endif
#define EXUVIA_PARAMETER(name, type) "{\\\"name\\\":\\\"" name "\\\",\\\"type\\\":\\\"" type "\\\"}"

/**
 * Promises that two modules with an equal text give the same meaning to the same bytes of memory. If their data is equal as well, a swap then keeps
 * the memory as it is, without save and load. Change the text whenever a type or a variable changes whose values are kept between messages, on the
 * heap too; without the macro every swap uses save and load. Outside of functions.
 */
#ifdef __wasm__
/* The SDK's own memory has a layout too: the number is raised with it. */
#define EXUVIA_LAYOUT(text) __asm__(".section .custom_section.exuvia.layout,\"\",@\n.ascii \"exuvia c 1: " text "\"\n");
#else
#define EXUVIA_LAYOUT(text)
#endif

/**
 * Describes what `save` writes and what `load` takes, so that `exuvia check OLD NEW` knows what happens to the state in a swap. `schema` is the one
 * of EXUVIA_ACTOR, as a number; `loads` are the other schemas that `load` takes, as in "[1, [3, 5]]"; `type` is in the words of section 2 of the ABI.
 * A field with `?` may be missing in what `load` reads. Outside of functions.
 *
 *     EXUVIA_STATE(2, "[1]", "{count: int, notes: List<text>, step?: int}")
 */
#ifdef __wasm__
#define EXUVIA_STATE(schema, loads, type) \
    __asm__(".section .custom_section.exuvia.state,\"\",@\n" \
            ".ascii \"{\\\"schema\\\": " EXUVIA_TEXT_(schema) ", \\\"loads\\\": " loads ", \\\"type\\\": \\\"" type "\\\"}\\n\"\n");
#define EXUVIA_TEXT_(number) EXUVIA_TEXT_AS_IT_IS_(number)
#define EXUVIA_TEXT_AS_IT_IS_(number) #number
#else
#define EXUVIA_STATE(schema, loads, type)
#endif

/* Messages that arrive */

/** Whether everything that was asked of the message was there. */
static inline bool exuvia_ok(const exuvia_message *message) {
    return !message->error;
}

/** Whether the parameter is there and not nil. No error if it is not; one if the parameters are no map at all. */
bool exuvia_has(exuvia_message *message, const char *name);

/*
 * The parameter of that name, or the whole value if the name is NULL (of a reply, or of {"Add": 5}). If it is missing or something else, the message
 * gets an error, and the result is 0, false, empty, EXUVIA_NOBODY or no value. Integers are read in every width; a float also from an integer.
 */
int64_t exuvia_get_int(exuvia_message *message, const char *name);
uint64_t exuvia_get_uint(exuvia_message *message, const char *name);
bool exuvia_get_bool(exuvia_message *message, const char *name);
double exuvia_get_float(exuvia_message *message, const char *name);
exuvia_text exuvia_get_text(exuvia_message *message, const char *name);
/** A binary, or a text or an array of numbers as bytes, since JSON has no binary. */
exuvia_bytes exuvia_get_bytes(exuvia_message *message, const char *name);
/** A binary of 16 bytes, or an array of 16 integers, since JSON has no binary. */
exuvia_pid exuvia_get_pid(exuvia_message *message, const char *name);
/** A map of `pid` and `reference`, as exuvia_put_caller writes it. */
exuvia_caller exuvia_get_caller(exuvia_message *message, const char *name);
/** Any value. */
exuvia_value exuvia_get(exuvia_message *message, const char *name);
/** Reads an array or a map item by item; pass the reader to exuvia_check when it is done. */
exuvia_reader exuvia_get_reader(exuvia_message *message, const char *name);
/** Makes an error of a reader one of the message. Returns exuvia_ok. */
bool exuvia_check(exuvia_message *message, const exuvia_reader *reader, const char *name);

/**
 * Refuses what the message is: a request (its sender gets the text), the start, a saved state. A message that nobody waits for is logged as a
 * warning. The text is that of printf.
 */
__attribute__((format(printf, 2, 3))) void exuvia_refuse(exuvia_message *message, const char *format, ...);

/** Keeps a request to reply later, with exuvia_answer. */
exuvia_caller exuvia_keep(exuvia_message *request);

/** Frees a message that exuvia_receive, exuvia_call or the like has filled. Not for those that handlers get. */
void exuvia_message_free(exuvia_message *message);

/* Replies. They return what `reply` returns; a reply for which nobody waits any more is EXUVIA_OK. */

exuvia_code exuvia_reply(exuvia_message *request, exuvia_writer *value);
exuvia_code exuvia_reply_nil(exuvia_message *request);
exuvia_code exuvia_reply_bool(exuvia_message *request, bool value);
exuvia_code exuvia_reply_int(exuvia_message *request, int64_t value);
exuvia_code exuvia_reply_float(exuvia_message *request, double value);
exuvia_code exuvia_reply_text(exuvia_message *request, const char *text);
exuvia_code exuvia_reply_bytes(exuvia_message *request, const void *bytes, size_t length);
exuvia_code exuvia_reply_pid(exuvia_message *request, exuvia_pid pid);
exuvia_code exuvia_reply_value(exuvia_message *request, exuvia_value value);
/** Replies bytes as they are, with a tag. */
exuvia_code exuvia_reply_raw(exuvia_message *request, uint32_t tag, const void *bytes, size_t length);
/** Replies to a request that was kept. */
exuvia_code exuvia_answer(exuvia_caller caller, exuvia_writer *value);
/** Refuses a request that was kept. */
exuvia_code exuvia_answer_refuse(exuvia_caller caller, const char *text);
/** Responds to a request of HTTP. The type may be NULL. */
exuvia_code exuvia_respond(exuvia_message *request, int status, const char *content_type, const void *body, size_t length);

/* Writing messages */

/**
 * Begins a message with a name and so many parameters, each of which follows by exuvia_put_*.
 *
 *     exuvia_writer w = exuvia_named("Add", 1);
 *     exuvia_put_int(&w, "by", 3);
 *     exuvia_send(counter, &w);
 */
exuvia_writer exuvia_named(const char *name, uint32_t parameters);

/* A key of a map, and its value. */
void exuvia_put_nil(exuvia_writer *writer, const char *key);
void exuvia_put_bool(exuvia_writer *writer, const char *key, bool value);
void exuvia_put_int(exuvia_writer *writer, const char *key, int64_t value);
void exuvia_put_uint(exuvia_writer *writer, const char *key, uint64_t value);
void exuvia_put_float(exuvia_writer *writer, const char *key, double value);
void exuvia_put_text(exuvia_writer *writer, const char *key, const char *text);
void exuvia_put_bytes(exuvia_writer *writer, const char *key, const void *bytes, size_t length);
void exuvia_put_pid(exuvia_writer *writer, const char *key, exuvia_pid pid);
void exuvia_put_caller(exuvia_writer *writer, const char *key, exuvia_caller caller);
void exuvia_put_value(exuvia_writer *writer, const char *key, exuvia_value value);
/** The key of an array, whose items follow by exuvia_write_*. */
void exuvia_put_array(exuvia_writer *writer, const char *key, uint32_t items);
/** The key of a map, whose pairs follow by exuvia_put_*. */
void exuvia_put_map(exuvia_writer *writer, const char *key, uint32_t pairs);

/** A writer that grows on the heap. */
exuvia_writer exuvia_writer_new(void);
/** A writer into a buffer of the caller, for at most so many bytes. */
exuvia_writer exuvia_writer_into(void *buffer, size_t capacity);
void exuvia_writer_free(exuvia_writer *writer);
/** Why this is not one whole value: a text, or NULL if it is. */
const char *exuvia_writer_check(const exuvia_writer *writer);

void exuvia_write_nil(exuvia_writer *writer);
void exuvia_write_bool(exuvia_writer *writer, bool value);
void exuvia_write_int(exuvia_writer *writer, int64_t value);
void exuvia_write_uint(exuvia_writer *writer, uint64_t value);
void exuvia_write_float(exuvia_writer *writer, double value);
void exuvia_write_text(exuvia_writer *writer, const char *text);
void exuvia_write_text_n(exuvia_writer *writer, const char *text, size_t length);
void exuvia_write_bytes(exuvia_writer *writer, const void *bytes, size_t length);
void exuvia_write_extension(exuvia_writer *writer, int8_t type, const void *bytes, size_t length);
void exuvia_write_pid(exuvia_writer *writer, exuvia_pid pid);
/** So many values follow. */
void exuvia_write_array(exuvia_writer *writer, uint32_t items);
/** So many pairs of a key and a value follow. */
void exuvia_write_map(exuvia_writer *writer, uint32_t pairs);
/** A value that is MessagePack already; nil if there is none. */
void exuvia_write_value(exuvia_writer *writer, exuvia_value value);
/** Bytes as they are. */
void exuvia_write_raw(exuvia_writer *writer, const void *bytes, size_t length);

/* Reading values */

exuvia_reader exuvia_reader_of(exuvia_value value);
/** Bytes that have not been read. */
size_t exuvia_left(const exuvia_reader *reader);
/** The type of the next value, which stays; EXUVIA_TYPE_NONE at the end, or for what is no MessagePack. */
exuvia_type exuvia_peek(const exuvia_reader *reader);
void exuvia_read_nil(exuvia_reader *reader);
bool exuvia_read_bool(exuvia_reader *reader);
int64_t exuvia_read_int(exuvia_reader *reader);
uint64_t exuvia_read_uint(exuvia_reader *reader);
double exuvia_read_float(exuvia_reader *reader);
exuvia_text exuvia_read_text(exuvia_reader *reader);
/** A binary, or a text as bytes. */
exuvia_bytes exuvia_read_bytes(exuvia_reader *reader);
exuvia_bytes exuvia_read_extension(exuvia_reader *reader, int8_t *type);
exuvia_pid exuvia_read_pid(exuvia_reader *reader);
/** How many values follow; never more than there are bytes left. */
uint32_t exuvia_read_array(exuvia_reader *reader);
/** How many pairs follow; never more than there are bytes left. */
uint32_t exuvia_read_map(exuvia_reader *reader);
/** The next value, whatever it is. */
exuvia_value exuvia_read_value(exuvia_reader *reader);
void exuvia_skip(exuvia_reader *reader);
exuvia_type exuvia_type_of(exuvia_value value);
/** The value of a key of a map; no value if there is none, or if it is no map. */
exuvia_value exuvia_field(exuvia_value map, const char *key);

bool exuvia_text_is(exuvia_text text, const char *other);
/** A copy that ends with a zero, to be freed; NULL if there is no memory. */
char *exuvia_text_copy(exuvia_text text);

/* Sending. The writer is freed in every case, also after an error. */

/** Sends a message. To a process that has ended: EXUVIA_OK. EXUVIA_MAILBOX_FULL, EXUVIA_MESSAGE_TOO_LARGE; EXUVIA_BAD_ARGUMENT if the writer has
    an error, which is logged. */
exuvia_code exuvia_send(exuvia_pid to, exuvia_writer *message);
exuvia_code exuvia_send_raw(exuvia_pid to, uint32_t tag, const void *bytes, size_t length);

/**
 * Sends a request and waits for its reply, on the stack; other messages stay in the mailbox. `reply` is filled for EXUVIA_OK, EXUVIA_REFUSED
 * (`payload` is the text) and EXUVIA_NOPROC (`reason` is why it has ended), and is to be freed in every case.
 *
 *     exuvia_message reply;
 *     exuvia_writer w = exuvia_named("Get", 0);
 *     if (exuvia_call(counter, &w, 5000, &reply) == EXUVIA_OK) count = exuvia_get_int(&reply, NULL);
 *     exuvia_message_free(&reply);
 */
exuvia_code exuvia_call(exuvia_pid to, exuvia_writer *request, int64_t timeout_ms, exuvia_message *reply);

/** Gets the reply: `code` as of exuvia_call. The reply is freed when it returns. */
typedef void exuvia_callback(exuvia_message *reply, exuvia_code code, void *context);

/**
 * Sends a request and returns; `callback` is called with the reply, or with EXUVIA_TIMEOUT or EXUVIA_NOPROC. It takes no stack, and other messages
 * are handled meanwhile. The process does not change to new code while callbacks are due. If this returns an error, there will be no callback.
 */
exuvia_code exuvia_await(exuvia_pid to, exuvia_writer *request, int64_t timeout_ms, exuvia_callback *callback, void *context);

/** Sends a request whose reply, or DOWN, goes to on_reply or on_down, with this reference: also after a swap. Without a timeout. */
exuvia_code exuvia_request(exuvia_pid to, exuvia_writer *request, uint64_t *reference);
/** Gives a request or a monitor up: nothing with this reference arrives any more. */
exuvia_code exuvia_demonitor(uint64_t reference);

/** Sends a message after a time. `reference` may be NULL. The handler gets it from the tables of messages, with kind TIMER. */
exuvia_code exuvia_send_after(exuvia_pid to, exuvia_writer *message, int64_t delay_ms, uint64_t *reference);
/** Cancels a timer; the milliseconds that were left, or -1 if it was too late. */
int64_t exuvia_cancel_timer(uint64_t reference);
/** Waits, with its stack. Prefer exuvia_send_after. */
exuvia_code exuvia_sleep(int64_t time_ms);

/* Receiving by hand. `message` is to be freed after EXUVIA_OK. Otherwise EXUVIA_TIMEOUT, EXUVIA_EMPTY (timeout 0), EXUVIA_LIMIT (too many wait). A
   message for which there is no memory is dropped: with an error in the log, and a request is refused. */

/** The next message. With `EXUVIA_RECEIVE_UPGRADE` it may say EXUVIA_UPGRADE: return EXUVIA_REST from run; for loops without handlers. */
exuvia_code exuvia_receive(exuvia_message *message, int64_t timeout_ms, uint32_t flags);
/** The first with this tag; all others stay, in their order. */
exuvia_code exuvia_receive_tag(exuvia_message *message, uint32_t tag, int64_t timeout_ms);
/** The first REPLY, DOWN or TIMER with one of 1 to 64 references. */
exuvia_code exuvia_receive_reference(exuvia_message *message, const uint64_t *references, uint32_t count, int64_t timeout_ms);
/** The first from this process. */
exuvia_code exuvia_receive_sender(exuvia_message *message, exuvia_pid sender, int64_t timeout_ms);

/* Processes */

/** Options of a spawn; 0 is the parent's. See guest-sdk/abi.md, section 11. */
typedef struct exuvia_spawn_options {
    uint32_t size; /**< Set by exuvia_spawn. */
    uint32_t flags; /**< exuvia_spawn_flag. */
    uint64_t memory; /**< Bytes. */
    uint64_t mailbox; /**< Bytes. */
    uint32_t mailbox_messages;
    uint32_t message; /**< Bytes. */
    uint32_t children;
    uint32_t start_timeout; /**< With SYNC: milliseconds; 0 is 5,000. */
    uint64_t tables; /**< Bytes. */
    uint32_t priority; /**< The highest. */
    uint32_t files;
    uint32_t grants; /**< The address of the grants, in MessagePack. */
    uint32_t grants_length;
    uint32_t descendants;
    uint32_t reserved;
} exuvia_spawn_options;

/** What exuvia_spawn returns. */
typedef struct exuvia_child {
    exuvia_pid pid;
    uint64_t reference; /**< With MONITOR. */
} exuvia_child;

/** Starts a process. Module NULL is this one's; arguments may be NULL; options are flags only, or see exuvia_spawn_with. */
exuvia_code exuvia_spawn(const char *module, exuvia_writer *arguments, uint32_t flags, exuvia_child *child);
exuvia_code exuvia_spawn_with(const char *module, exuvia_writer *arguments, exuvia_spawn_options *options, exuvia_child *child);

exuvia_pid exuvia_self(void);
static inline bool exuvia_pid_equal(exuvia_pid a, exuvia_pid b) {
    return a.node == b.node && a.process == b.process;
}

/** Ends this process: 0 is in order, codes from 256 on are free. The text is that of printf. */
__attribute__((noreturn, format(printf, 2, 3))) void exuvia_exit(int32_t code, const char *format, ...);
/** Logs an error and traps: the reason has the backtrace. In probation the swap is undone. */
__attribute__((noreturn, format(printf, 1, 2))) void exuvia_panic(const char *format, ...);
/** Sends an exit signal. */
exuvia_code exuvia_exit_process(exuvia_pid pid, int32_t code, const char *text);
exuvia_code exuvia_kill(exuvia_pid pid);
exuvia_code exuvia_link(exuvia_pid pid);
exuvia_code exuvia_unlink(exuvia_pid pid);
/** Watches a process: on_down is called when it ends. */
exuvia_code exuvia_monitor(exuvia_pid pid, uint64_t *reference);
/** Whether exit signals become messages (on_exit). Returns what it was. */
bool exuvia_trap_exit(bool on);

/** Gives this process a name: EXUVIA_NAME_TAKEN. */
exuvia_code exuvia_register(const char *name);
exuvia_code exuvia_unregister(const char *name);
/** EXUVIA_NOPROC, and EXUVIA_NOBODY in `pid`, if no process has the name. */
exuvia_code exuvia_whereis(const char *name, exuvia_pid *pid);

/* Groups: topics, rooms. */
exuvia_code exuvia_group_join(const char *group);
exuvia_code exuvia_group_leave(const char *group);
/** Sends a message to all members. Returns how many accepted it, or a negative code. */
int32_t exuvia_publish(const char *group, exuvia_writer *message);

/** A value of `[config]` of the manifest, by its path: "shop.currency". Free it; EXUVIA_EMPTY if there is none. Read it with the key NULL. */
exuvia_code exuvia_config(const char *path, exuvia_message *value);

/* Log, time, random */

/** A line in the node's log, as printf. */
__attribute__((format(printf, 2, 3))) void exuvia_log(exuvia_log_level level, const char *format, ...);
#define exuvia_error(...) exuvia_log(EXUVIA_LOG_ERROR, __VA_ARGS__)
#define exuvia_warn(...) exuvia_log(EXUVIA_LOG_WARN, __VA_ARGS__)
#define exuvia_info(...) exuvia_log(EXUVIA_LOG_INFO, __VA_ARGS__)
#define exuvia_debug(...) exuvia_log(EXUVIA_LOG_DEBUG, __VA_ARGS__)
/** The same without formatting, for modules that want no printf in them. */
void exuvia_log_text(exuvia_log_level level, const char *text);
/** Fills a buffer with random bytes that are good for keys. */
void exuvia_random(void *buffer, size_t length);
/** Nanoseconds: since a fixed point (EXUVIA_CLOCK_MONOTONIC) or since 1970 (EXUVIA_CLOCK_REALTIME). */
int64_t exuvia_clock(exuvia_clock_id clock);
/** A number about this process: EXUVIA_INFO_MESSAGE_BYTES. */
int64_t exuvia_number(exuvia_info_id what);
/** The name of a code: "timeout". */
const char *exuvia_code_name(exuvia_code code);

#ifdef __cplusplus
}
#endif

#endif
