/*
 * Messages: receiving them, reading their parameters, replying to them, and writing new ones.
 *
 * A message for which there is no memory is dropped, since it would stay the first for ever. Nothing here traps, whatever arrives.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../include/exuvia.h"

/** Messages up to this size are received on the stack. */
#define SMALL_MESSAGE 1024
/** A line of the log that is longer is put together on the heap. */
#define SHORT_LINE 256
/** The kind of a saved state, which `load` gets as a message. */
#define KIND_STATE ((exuvia_kind)0)

typedef struct header {
    uint32_t size, kind;
    exuvia_pid sender;
    uint64_t reference;
    uint32_t tag, length;
    int32_t reason;
    uint32_t offset;
} header;
_Static_assert(sizeof(header) == 48, "the header of the ABI");
_Static_assert(sizeof(exuvia_spawn_options) == 72, "the options of the ABI");

/* Texts without printf, for what every module has in it */

typedef struct line {
    size_t length;
    char at[SHORT_LINE];
} line;

static void add_n(line *to, const char *text, size_t length) {
    size_t room = sizeof to->at - to->length;
    if (length > room) length = room;
    memcpy(to->at + to->length, text, length);
    to->length += length;
}

static void add(line *to, const char *text) {
    add_n(to, text, strlen(text));
}

static void add_number(line *to, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    add_n(to, digits + at, sizeof digits - at);
}

static void log_line(exuvia_log_level level, const line *text) {
    exuvia_host_log(level, text->at, (uint32_t)text->length);
}

/** A text as of printf; on the heap if it is longer than the buffer, and cut if there is no memory. */
static char *format_text(char *buffer, size_t capacity, size_t *length, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int wanted = vsnprintf(buffer, capacity, format, arguments);
    char *text = buffer;
    *length = wanted < 0 ? 0 : (size_t)wanted;
    if (*length >= capacity) {
        text = malloc(*length + 1);
        if (text) {
            vsnprintf(text, *length + 1, format, again);
        } else {
            text = buffer;
            *length = capacity - 1;
        }
    }
    va_end(again);
    return text;
}

#define WITH_TEXT(format, use) \
    do { \
        char buffer_[SHORT_LINE]; \
        size_t length; \
        va_list arguments_; \
        va_start(arguments_, format); \
        char *text = format_text(buffer_, sizeof buffer_, &length, format, arguments_); \
        va_end(arguments_); \
        use; \
        if (text != buffer_) free(text); \
    } while (0)

/* Messages that arrive */

static void fail(exuvia_message *m, const char *at, const char *error) {
    if (m->error) return;
    m->error_at = at;
    m->error = error;
}

/** Reads name and parameters of a named message: "Get", or {"Add": {"by": 3}}. */
static void decode_named(exuvia_message *m, exuvia_reader *reader) {
    bool map = exuvia_peek(reader) == EXUVIA_TYPE_MAP;
    if ((!map || exuvia_read_map(reader) == 1) && exuvia_peek(reader) == EXUVIA_TYPE_TEXT) {
        m->name = exuvia_read_text(reader);
        if (map) m->parameters = exuvia_read_value(reader);
    } else {
        exuvia_skip(reader);
        if (!reader->error) fail(m, "the payload", "is neither a name nor a map with a name as its only key");
    }
}

static void decode(exuvia_message *m) {
    bool http = m->kind == EXUVIA_KIND_REQUEST && m->tag == EXUVIA_TAG_HTTP_REQUEST;
    bool value = m->kind == EXUVIA_KIND_INIT || m->kind == KIND_STATE || (m->kind == EXUVIA_KIND_REPLY && m->tag != EXUVIA_TAG_REFUSED);
    bool named = m->tag == 0 && (m->kind == EXUVIA_KIND_MESSAGE || m->kind == EXUVIA_KIND_REQUEST || m->kind == EXUVIA_KIND_TIMER);
    if (!(http || value || named) || m->payload.length == 0) return;
    exuvia_reader reader = {m->payload.at, m->payload.at + m->payload.length, NULL};
    if (named) decode_named(m, &reader);
    else m->parameters = exuvia_read_value(&reader);
    bool with_body = http || (m->kind == EXUVIA_KIND_REPLY && m->tag == EXUVIA_TAG_HTTP_RESPONSE);
    if (!reader.error && with_body) {
        m->body = (exuvia_bytes){reader.at, exuvia_left(&reader)};
    } else if (reader.error || exuvia_left(&reader)) {
        m->parameters = (exuvia_value){NULL, 0};
        /* A reply with another tag may be anything. */
        if (m->kind != EXUVIA_KIND_REPLY || m->tag == 0) fail(m, "the payload", reader.error ? reader.error : "has bytes behind its value");
    }
}

static void fill(exuvia_message *m, const header *h, const void *bytes, void *owned) {
    *m = (exuvia_message){
        .kind = (exuvia_kind)h->kind,
        .sender = h->sender,
        .reference = h->reference,
        .tag = h->tag,
        .reason = h->reason,
        .payload = {(const uint8_t *)bytes, h->length},
        .name = {"", 0},
        .body = {(const uint8_t *)"", 0},
        .owned = owned,
    };
    decode(m);
}

/** Memory that a message has besides its payload. */
struct exuvia_block {
    struct exuvia_block *next;
    uint8_t bytes[];
};

void exuvia_message_free(exuvia_message *m) {
    free(m->owned);
    while (m->blocks) {
        struct exuvia_block *next = m->blocks->next;
        free(m->blocks);
        m->blocks = next;
    }
    memset(m, 0, sizeof *m);
}

/** Drops a message for which there is no memory: it would stay the first for ever. */
static void drop(header *h, int32_t mode, int64_t key) {
    line why = {0};
    add(&why, "there is no memory for a message of ");
    add_number(&why, h->length);
    add(&why, " bytes, which was dropped");
    h->size = sizeof *h;
    uint8_t nothing;
    if (exuvia_host_receive(h, &nothing, 0, 0, mode | EXUVIA_RECEIVE_TRUNCATE, key) != EXUVIA_OK) return;
    log_line(EXUVIA_LOG_ERROR, &why);
    if (h->kind == EXUVIA_KIND_REQUEST) {
        exuvia_host_reply(&h->sender, (int64_t)h->reference, EXUVIA_TAG_REFUSED, why.at, (uint32_t)why.length);
    } else if (h->kind == EXUVIA_KIND_INIT) {
        exuvia_host_init_ack(EXUVIA_REASON_GUEST, why.at, (uint32_t)why.length);
    }
}

/**
 * Takes a message into the buffer, or into a block of its own. A selective receive whose message was dropped says LIMIT.
 */
static exuvia_code receive_into(exuvia_message *m, void *buffer, size_t capacity, int64_t timeout, int32_t mode, int64_t key) {
    void *block = NULL;
    size_t length = capacity;
    header h;
    for (;;) {
        h.size = sizeof h;
        h.offset = 0;
        int32_t code = exuvia_host_receive(&h, block ? block : buffer, (uint32_t)length, timeout, mode, key);
        if (code == EXUVIA_TOO_BIG) {
            free(block);
            block = malloc(h.length);
            length = block ? h.length : capacity;
            if (block) continue;
            drop(&h, mode & ~EXUVIA_RECEIVE_UPGRADE, key);
            if ((mode & 0xff) != EXUVIA_RECEIVE_ANY) return EXUVIA_LIMIT;
            if (h.kind == EXUVIA_KIND_INIT) {
                /* The start has failed: nothing is left to handle. */
                h.length = 0;
                fill(m, &h, "", NULL);
                m->settled = true;
                return EXUVIA_OK;
            }
            continue;
        }
        if (code != EXUVIA_OK) {
            free(block);
            return (exuvia_code)code;
        }
        fill(m, &h, block ? block : buffer, block);
        return EXUVIA_OK;
    }
}

/** A receive whose message is the caller's: it is moved from the stack to the heap. */
static exuvia_code take_owned(exuvia_message *m, int64_t timeout, int32_t mode, int64_t key) {
    uint8_t buffer[SMALL_MESSAGE];
    memset(m, 0, sizeof *m);
    exuvia_code code = receive_into(m, buffer, sizeof buffer, timeout, mode, key);
    if (code != EXUVIA_OK || m->owned || m->payload.length == 0) return code;
    void *block = malloc(m->payload.length);
    header h = {.kind = m->kind, .sender = m->sender, .reference = m->reference, .tag = m->tag, .length = (uint32_t)m->payload.length, .reason = m->reason};
    if (!block) {
        exuvia_host_log(EXUVIA_LOG_ERROR, "there is no memory for a message", 32);
        if (m->kind == EXUVIA_KIND_REQUEST) exuvia_host_reply(&h.sender, (int64_t)h.reference, EXUVIA_TAG_REFUSED, "there is no memory", 18);
        memset(m, 0, sizeof *m);
        return EXUVIA_LIMIT;
    }
    memcpy(block, buffer, h.length);
    fill(m, &h, block, block);
    return code;
}

exuvia_code exuvia_receive(exuvia_message *m, int64_t timeout_ms, uint32_t flags) {
    return take_owned(m, timeout_ms, EXUVIA_RECEIVE_ANY | (int32_t)(flags & EXUVIA_RECEIVE_UPGRADE), 0);
}

exuvia_code exuvia_receive_tag(exuvia_message *m, uint32_t tag, int64_t timeout_ms) {
    return take_owned(m, timeout_ms, EXUVIA_RECEIVE_TAG, tag);
}

exuvia_code exuvia_receive_reference(exuvia_message *m, const uint64_t *references, uint32_t count, int64_t timeout_ms) {
    if (count == 1) return take_owned(m, timeout_ms, EXUVIA_RECEIVE_REFERENCE, (int64_t)*references);
    return take_owned(m, timeout_ms, EXUVIA_RECEIVE_REFERENCES, (int64_t)((uint64_t)count << 32 | (uint32_t)(uintptr_t)references));
}

exuvia_code exuvia_receive_sender(exuvia_message *m, exuvia_pid sender, int64_t timeout_ms) {
    return take_owned(m, timeout_ms, EXUVIA_RECEIVE_SENDER, (int64_t)(uintptr_t)&sender);
}

exuvia_value exuvia_get(exuvia_message *m, const char *name) {
    if (!name) {
        if (!m->parameters.at) fail(m, "the value", "is missing");
        return m->parameters;
    }
    exuvia_value value = exuvia_field(m->parameters, name);
    if (!value.at) fail(m, name, "is missing");
    return value;
}

bool exuvia_has(exuvia_message *m, const char *name) {
    exuvia_type type = exuvia_type_of(m->parameters);
    if (type != EXUVIA_TYPE_NONE && type != EXUVIA_TYPE_NIL && type != EXUVIA_TYPE_MAP) fail(m, "the parameters", "are not a map");
    exuvia_value value = exuvia_field(m->parameters, name);
    return value.at && exuvia_type_of(value) != EXUVIA_TYPE_NIL;
}

exuvia_reader exuvia_get_reader(exuvia_message *m, const char *name) {
    exuvia_value value = exuvia_get(m, name);
    exuvia_reader reader = exuvia_reader_of(value);
    if (!value.at) reader.error = "is missing";
    return reader;
}

bool exuvia_check(exuvia_message *m, const exuvia_reader *reader, const char *name) {
    if (reader->error) fail(m, name ? name : "the value", reader->error);
    return !m->error;
}

#define GETTER(type, name) \
    type exuvia_get_##name(exuvia_message *m, const char *key) { \
        exuvia_reader reader = exuvia_get_reader(m, key); \
        type value = exuvia_read_##name(&reader); \
        exuvia_check(m, &reader, key); \
        return value; \
    }
GETTER(int64_t, int)
GETTER(uint64_t, uint)
GETTER(bool, bool)
GETTER(double, float)
GETTER(exuvia_text, text)
GETTER(exuvia_pid, pid)

exuvia_bytes exuvia_get_bytes(exuvia_message *m, const char *key) {
    exuvia_reader reader = exuvia_get_reader(m, key);
    exuvia_bytes bytes = {(const uint8_t *)"", 0};
    if (exuvia_peek(&reader) != EXUVIA_TYPE_ARRAY) {
        bytes = exuvia_read_bytes(&reader);
    } else {
        uint32_t count = exuvia_read_array(&reader);
        struct exuvia_block *block = malloc(sizeof *block + count);
        if (!block) {
            fail(m, key ? key : "the value", "does not fit into memory");
            return bytes;
        }
        block->next = m->blocks;
        m->blocks = block;
        for (uint32_t i = 0; i < count; i++) {
            uint64_t byte = exuvia_read_uint(&reader);
            if (byte > UINT8_MAX) fail(m, key ? key : "the value", "has a number above 255, which is no byte");
            block->bytes[i] = (uint8_t)byte;
        }
        if (!reader.error && !m->error) bytes = (exuvia_bytes){block->bytes, count};
    }
    exuvia_check(m, &reader, key);
    return bytes;
}

exuvia_caller exuvia_get_caller(exuvia_message *m, const char *name) {
    exuvia_value value = exuvia_get(m, name);
    exuvia_caller caller = {{0, 0}, 0};
    if (!value.at) return caller;
    exuvia_value pid = exuvia_field(value, "pid"), reference = exuvia_field(value, "reference");
    if (!pid.at || !reference.at) {
        fail(m, name ? name : "the value", "is not a map of `pid` and `reference`");
        return caller;
    }
    exuvia_reader reader = exuvia_reader_of(pid);
    caller.pid = exuvia_read_pid(&reader);
    exuvia_check(m, &reader, name);
    reader = exuvia_reader_of(reference);
    caller.reference = exuvia_read_uint(&reader);
    exuvia_check(m, &reader, name);
    return caller;
}

/* Replies */

static void refuse(exuvia_message *m, const char *text, size_t length) {
    uint32_t n = length > UINT16_MAX ? UINT16_MAX : (uint32_t)length;
    if (m->settled) return;
    m->settled = true;
    switch ((int)m->kind) {
    case EXUVIA_KIND_REQUEST: exuvia_reply_raw(m, EXUVIA_TAG_REFUSED, text, n); break;
    case EXUVIA_KIND_INIT: exuvia_host_init_ack(EXUVIA_REASON_GUEST, text, n); break;
    case KIND_STATE: exuvia_host_log(EXUVIA_LOG_ERROR, text, n); break;
    default: exuvia_host_log(EXUVIA_LOG_WARN, text, n);
    }
}

void exuvia_refuse(exuvia_message *m, const char *format, ...) {
    WITH_TEXT(format, refuse(m, text, length));
}

exuvia_caller exuvia_keep(exuvia_message *m) {
    m->settled = true;
    return (exuvia_caller){m->sender, m->reference};
}

exuvia_code exuvia_reply_raw(exuvia_message *m, uint32_t tag, const void *bytes, size_t length) {
    m->settled = true;
    int32_t code = exuvia_host_reply(&m->sender, (int64_t)m->reference, tag, bytes, (uint32_t)length);
    /* The caller must get some reply: otherwise it waits until its timeout. */
    if (code == EXUVIA_MESSAGE_TOO_LARGE) {
        exuvia_host_reply(&m->sender, (int64_t)m->reference, EXUVIA_TAG_REFUSED, "the reply is larger than a message may be", 41);
    }
    return (exuvia_code)code;
}

/** Whether it may be sent; else it is logged, and freed. */
static bool complete(exuvia_writer *w, const char *what) {
    const char *error = exuvia_writer_check(w);
    if (!error) return true;
    line text = {0};
    add(&text, what);
    add(&text, ": ");
    add(&text, error);
    log_line(EXUVIA_LOG_ERROR, &text);
    exuvia_writer_free(w);
    return false;
}

static exuvia_code answer(exuvia_pid to, uint64_t reference, exuvia_writer *w) {
    exuvia_message m = {.sender = to, .reference = reference, .kind = EXUVIA_KIND_REQUEST};
    if (!complete(w, "a reply was not sent")) {
        refuse(&m, "the reply could not be written", 30);
        return EXUVIA_BAD_ARGUMENT;
    }
    exuvia_code code = exuvia_reply_raw(&m, 0, w->data, w->length);
    exuvia_writer_free(w);
    return code;
}

exuvia_code exuvia_reply(exuvia_message *m, exuvia_writer *w) {
    m->settled = true;
    return answer(m->sender, m->reference, w);
}

exuvia_code exuvia_answer(exuvia_caller caller, exuvia_writer *w) {
    return answer(caller.pid, caller.reference, w);
}

exuvia_code exuvia_answer_refuse(exuvia_caller caller, const char *text) {
    exuvia_message m = {.sender = caller.pid, .reference = caller.reference};
    return exuvia_reply_raw(&m, EXUVIA_TAG_REFUSED, text, strlen(text));
}

/** Replies a value that needs no more than so many bytes. */
#define SCALAR(capacity, write) \
    do { \
        uint8_t buffer_[capacity]; \
        exuvia_writer w = exuvia_writer_into(buffer_, sizeof buffer_); \
        write; \
        return exuvia_reply_raw(m, 0, w.data, w.length); \
    } while (0)

exuvia_code exuvia_reply_nil(exuvia_message *m) {
    SCALAR(1, exuvia_write_nil(&w));
}

exuvia_code exuvia_reply_bool(exuvia_message *m, bool value) {
    SCALAR(1, exuvia_write_bool(&w, value));
}

exuvia_code exuvia_reply_int(exuvia_message *m, int64_t value) {
    SCALAR(9, exuvia_write_int(&w, value));
}

exuvia_code exuvia_reply_float(exuvia_message *m, double value) {
    SCALAR(9, exuvia_write_float(&w, value));
}

exuvia_code exuvia_reply_pid(exuvia_message *m, exuvia_pid pid) {
    SCALAR(18, exuvia_write_pid(&w, pid));
}

exuvia_code exuvia_reply_text(exuvia_message *m, const char *text) {
    exuvia_writer w = exuvia_writer_new();
    exuvia_write_text(&w, text);
    return exuvia_reply(m, &w);
}

exuvia_code exuvia_reply_bytes(exuvia_message *m, const void *bytes, size_t length) {
    exuvia_writer w = exuvia_writer_new();
    exuvia_write_bytes(&w, bytes, length);
    return exuvia_reply(m, &w);
}

exuvia_code exuvia_reply_value(exuvia_message *m, exuvia_value value) {
    if (!value.at) return exuvia_reply_nil(m);
    return exuvia_reply_raw(m, 0, value.at, value.length);
}

exuvia_code exuvia_respond(exuvia_message *m, int status, const char *content_type, const void *body, size_t length) {
    exuvia_writer w = exuvia_writer_new();
    exuvia_write_map(&w, content_type ? 2 : 1);
    exuvia_put_int(&w, "status", status);
    if (content_type) {
        exuvia_put_array(&w, "headers", 1);
        exuvia_write_array(&w, 2);
        exuvia_write_text(&w, "content-type");
        exuvia_write_text(&w, content_type);
    }
    exuvia_write_raw(&w, body, length);
    if (w.error) {
        refuse(m, w.error, strlen(w.error));
        exuvia_writer_free(&w);
        return EXUVIA_LIMIT;
    }
    exuvia_code code = exuvia_reply_raw(m, EXUVIA_TAG_HTTP_RESPONSE, w.data, w.length);
    exuvia_writer_free(&w);
    return code;
}

/* Writing messages */

exuvia_writer exuvia_named(const char *name, uint32_t parameters) {
    exuvia_writer w = exuvia_writer_new();
    if (parameters) exuvia_write_map(&w, 1);
    exuvia_write_text(&w, name);
    if (parameters) exuvia_write_map(&w, parameters);
    return w;
}

void exuvia_put_nil(exuvia_writer *w, const char *key) {
    exuvia_write_text(w, key);
    exuvia_write_nil(w);
}

void exuvia_put_bool(exuvia_writer *w, const char *key, bool value) {
    exuvia_write_text(w, key);
    exuvia_write_bool(w, value);
}

void exuvia_put_int(exuvia_writer *w, const char *key, int64_t value) {
    exuvia_write_text(w, key);
    exuvia_write_int(w, value);
}

void exuvia_put_uint(exuvia_writer *w, const char *key, uint64_t value) {
    exuvia_write_text(w, key);
    exuvia_write_uint(w, value);
}

void exuvia_put_float(exuvia_writer *w, const char *key, double value) {
    exuvia_write_text(w, key);
    exuvia_write_float(w, value);
}

void exuvia_put_text(exuvia_writer *w, const char *key, const char *text) {
    exuvia_write_text(w, key);
    exuvia_write_text(w, text);
}

void exuvia_put_bytes(exuvia_writer *w, const char *key, const void *bytes, size_t length) {
    exuvia_write_text(w, key);
    exuvia_write_bytes(w, bytes, length);
}

void exuvia_put_pid(exuvia_writer *w, const char *key, exuvia_pid pid) {
    exuvia_write_text(w, key);
    exuvia_write_pid(w, pid);
}

void exuvia_put_caller(exuvia_writer *w, const char *key, exuvia_caller caller) {
    exuvia_put_map(w, key, 2);
    exuvia_put_pid(w, "pid", caller.pid);
    exuvia_put_uint(w, "reference", caller.reference);
}

void exuvia_put_value(exuvia_writer *w, const char *key, exuvia_value value) {
    exuvia_write_text(w, key);
    exuvia_write_value(w, value);
}

void exuvia_put_array(exuvia_writer *w, const char *key, uint32_t items) {
    exuvia_write_text(w, key);
    exuvia_write_array(w, items);
}

void exuvia_put_map(exuvia_writer *w, const char *key, uint32_t pairs) {
    exuvia_write_text(w, key);
    exuvia_write_map(w, pairs);
}
