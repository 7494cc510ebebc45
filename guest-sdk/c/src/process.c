/*
 * The loop of an actor, the callbacks of exuvia_await, and what the module exports. Included after message.c.
 *
 * Nothing here stays in memory between messages, apart from the list of callbacks that are due: whatever an idle process keeps is part of its image,
 * and there may be a million of them. Small messages are on the stack, which is dead when `run` returns; others on the heap, which clears.
 */

#include <stdlib.h>
#include <string.h>

#include "../include/exuvia.h"

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(name)))
#else
#define EXPORT(name)
#endif

/** The tag of the timers of exuvia_await, the same as in other SDKs. */
#define TAG_AWAITED 0xfffffffeu

/** A callback that is due. */
typedef struct awaited {
    struct awaited *next;
    uint64_t reference, timer;
    exuvia_callback *callback;
    void *context;
} awaited;

static awaited *due;

/* Callbacks */

exuvia_code exuvia_await(exuvia_pid to, exuvia_writer *w, int64_t timeout_ms, exuvia_callback *callback, void *context) {
    awaited *one = malloc(sizeof *one);
    if (!one) {
        exuvia_writer_free(w);
        return EXUVIA_LIMIT;
    }
    *one = (awaited){.callback = callback, .context = context};
    exuvia_code code = exuvia_request(to, w, &one->reference);
    if (code == EXUVIA_OK && timeout_ms >= 0) {
        exuvia_pid self = exuvia_self();
        code = (exuvia_code)exuvia_host_send_after(&self, TAG_AWAITED, NULL, 0, timeout_ms, &one->timer);
        if (code != EXUVIA_OK) exuvia_demonitor(one->reference);
    }
    if (code != EXUVIA_OK) {
        free(one);
        return code;
    }
    one->next = due;
    due = one;
    return EXUVIA_OK;
}

/** Calls the callback that a message belongs to, if there is one. */
static bool resume(exuvia_message *m) {
    bool timer = m->kind == EXUVIA_KIND_TIMER && m->tag == TAG_AWAITED;
    if (!timer && m->kind != EXUVIA_KIND_REPLY && m->kind != EXUVIA_KIND_DOWN) return false;
    for (awaited **at = &due; *at; at = &(*at)->next) {
        if (m->reference != (timer ? (*at)->timer : (*at)->reference)) continue;
        awaited one = **at;
        free(*at);
        *at = one.next;
        exuvia_code code = EXUVIA_OK;
        if (timer) {
            exuvia_demonitor(one.reference);
            code = EXUVIA_TIMEOUT;
        } else {
            if (one.timer) exuvia_cancel_timer(one.timer);
            if (m->kind == EXUVIA_KIND_DOWN) code = EXUVIA_NOPROC;
            else if (m->tag == EXUVIA_TAG_REFUSED) code = EXUVIA_REFUSED;
        }
        one.callback(m, code, one.context);
        return true;
    }
    /* A timer that had fired before it was cancelled. */
    return timer;
}

/* The loop */

/** Turns an error into what the sender or the operator reads. */
static void settle(exuvia_message *m, bool request) {
    line text = {0};
    if (m->name.length) {
        add(&text, "`");
        add_n(&text, m->name.at, m->name.length > 64 ? 64 : m->name.length);
        add(&text, "`: ");
    }
    if (m->error) {
        bool name = m->error_at != NULL && strchr(m->error_at, ' ') == NULL;
        if (name) add(&text, "`");
        add(&text, m->error_at ? m->error_at : "it");
        if (name) add(&text, "`");
        add(&text, " ");
        add(&text, m->error);
    } else if (request) {
        add(&text, "the handler has not replied");
    } else {
        return;
    }
    refuse(m, text.at, text.length);
}

static void unknown(exuvia_message *m, const char *what) {
    line text = {0};
    add(&text, "unknown ");
    add(&text, what);
    add(&text, " `");
    add_n(&text, m->name.at, m->name.length > 64 ? 64 : m->name.length);
    add(&text, "`");
    refuse(m, text.at, text.length);
}

static exuvia_handler *named(const exuvia_entry *entries, exuvia_text name) {
    for (; entries && entries->name; entries++) {
        if (exuvia_text_is(name, entries->name)) return entries->handle;
    }
    return NULL;
}

/** Returns whether to go on. */
static bool start(exuvia_message *m) {
    if (exuvia_main.init && !m->error && !m->settled) exuvia_main.init(m);
    settle(m, false);
    if (m->settled) return false;
    exuvia_host_init_ack(0, NULL, 0);
    return true;
}

static void by_name(exuvia_message *m, const exuvia_entry *entries, const char *what) {
    exuvia_handler *handle = m->error ? NULL : named(entries, m->name);
    if (handle) handle(m);
    else if (exuvia_main.on_other) exuvia_main.on_other(m);
    else if (!m->error) unknown(m, what);
    settle(m, m->kind == EXUVIA_KIND_REQUEST);
}

static bool is_socket(const exuvia_message *m) {
    return m->tag >= EXUVIA_TAG_SOCKET_OPEN && m->tag <= EXUVIA_TAG_SOCKET_CLOSE;
}

static void optional(exuvia_handler *handle, exuvia_message *m) {
    if (!handle) handle = exuvia_main.on_other;
    if (handle) handle(m);
    else if (m->kind == EXUVIA_KIND_REQUEST) exuvia_answer_refuse(exuvia_keep(m), "this actor has no handler for it");
    settle(m, m->kind == EXUVIA_KIND_REQUEST);
}

static void dispatch(exuvia_message *m) {
    if (resume(m)) return;
    switch (m->kind) {
    case EXUVIA_KIND_EXIT: optional(exuvia_main.on_exit, m); break;
    case EXUVIA_KIND_DOWN: optional(exuvia_main.on_down, m); break;
    case EXUVIA_KIND_REPLY: optional(exuvia_main.on_reply, m); break;
    case EXUVIA_KIND_TABLE: optional(NULL, m); break;
    case EXUVIA_KIND_TIMER:
    case EXUVIA_KIND_MESSAGE:
        if (is_socket(m)) optional(exuvia_main.on_socket, m);
        else if (m->tag == 0) by_name(m, exuvia_main.messages, "message");
        else optional(NULL, m);
        break;
    case EXUVIA_KIND_REQUEST:
        if (m->tag == EXUVIA_TAG_HTTP_REQUEST && exuvia_main.on_http) {
            optional(exuvia_main.on_http, m);
        } else if (is_socket(m)) {
            exuvia_handler *handle = exuvia_main.on_socket ? exuvia_main.on_socket : exuvia_main.on_other;
            if (handle) handle(m);
            /* The reply is the credit for more. */
            if (!m->settled) exuvia_reply_raw(m, 0, NULL, 0);
        } else if (m->tag == 0) {
            by_name(m, exuvia_main.requests, "request");
        } else {
            optional(NULL, m);
        }
        break;
    default: break; /* A kind of a later version. */
    }
}

/** Whether `.warm_up` has run: in the base, if all processes start alike, or else in each of them. */
static bool is_warm;

static void warm_up(void) {
    if (is_warm) return;
    is_warm = true;
    if (exuvia_main.warm_up) exuvia_main.warm_up();
}

EXPORT("run") exuvia_run_result exuvia_export_run(void) {
    warm_up();
    if (exuvia_main.run) return exuvia_main.run();
    uint8_t buffer[SMALL_MESSAGE];
    exuvia_message m;
    while (receive_into(&m, buffer, sizeof buffer, 0, EXUVIA_RECEIVE_ANY, 0) == EXUVIA_OK) {
        if (m.kind == EXUVIA_KIND_INIT) {
            bool started = start(&m);
            exuvia_message_free(&m);
            if (!started) return EXUVIA_DONE;
            continue;
        }
        dispatch(&m);
        if (m.owned || m.blocks) exuvia_message_free(&m);
    }
    return due ? EXUVIA_WAITING : EXUVIA_REST;
}

EXPORT("save") int32_t exuvia_export_save(void) {
    if (!exuvia_main.save) {
        exuvia_log_text(EXUVIA_LOG_ERROR, "this actor saves no state: EXUVIA_ACTOR has no `.save`");
        return 1;
    }
    exuvia_writer w = exuvia_writer_new();
    exuvia_main.save(&w);
    if (!complete(&w, "the state was not saved")) return 1;
    int32_t code = exuvia_host_state_put(w.data, (uint32_t)w.length);
    exuvia_writer_free(&w);
    return code;
}

EXPORT("load") int32_t exuvia_export_load(int32_t schema, int32_t length) {
    /* Of a process that had not been started: it begins here. */
    if (length == 0) return 0;
    warm_up();
    if (!exuvia_main.load) {
        exuvia_log_text(EXUVIA_LOG_ERROR, "this actor loads no state: EXUVIA_ACTOR has no `.load`");
        return 1;
    }
    header h = {.kind = KIND_STATE, .length = (uint32_t)length};
    void *block = malloc((size_t)(uint32_t)length);
    if (!block || exuvia_host_state_get(block, h.length) != length) {
        exuvia_log_text(EXUVIA_LOG_ERROR, "there is no memory for the saved state");
        return 1;
    }
    exuvia_message m;
    fill(&m, &h, block, block);
    if (!m.error) exuvia_main.load(&m, schema);
    settle(&m, false);
    bool refused = m.settled;
    exuvia_message_free(&m);
    return refused;
}

EXPORT("exuvia_abi") int32_t exuvia_export_abi(void) {
    return EXUVIA_ABI_VERSION;
}

EXPORT("exuvia_schema") int32_t exuvia_export_schema(void) {
    return exuvia_main.schema;
}

EXPORT("warm_up") void exuvia_export_warm_up(void) {
    warm_up();
}
