/* The host calls behind the functions of exuvia.h, apart from those for messages that have arrived. Included after message.c. */

#include <string.h>

#include "../include/exuvia.h"

/* Sending */

exuvia_code exuvia_send_raw(exuvia_pid to, uint32_t tag, const void *bytes, size_t length) {
    return (exuvia_code)exuvia_host_send(&to, tag, bytes, (uint32_t)length);
}

exuvia_code exuvia_send(exuvia_pid to, exuvia_writer *w) {
    if (!complete(w, "a message was not sent")) return EXUVIA_BAD_ARGUMENT;
    exuvia_code code = exuvia_send_raw(to, 0, w->data, w->length);
    exuvia_writer_free(w);
    return code;
}

exuvia_code exuvia_call(exuvia_pid to, exuvia_writer *w, int64_t timeout_ms, exuvia_message *reply) {
    memset(reply, 0, sizeof *reply);
    if (!complete(w, "a request was not sent")) return EXUVIA_BAD_ARGUMENT;
    uint8_t buffer[SMALL_MESSAGE];
    header h = {.size = sizeof h};
    int32_t code = exuvia_host_call(&to, 0, w->data, (uint32_t)w->length, &h, buffer, sizeof buffer, timeout_ms);
    exuvia_writer_free(w);
    if (code == EXUVIA_TOO_BIG) {
        code = take_owned(reply, 0, EXUVIA_RECEIVE_REFERENCE, (int64_t)h.reference);
    } else if (code == EXUVIA_OK) {
        void *block = h.length ? malloc(h.length) : NULL;
        if (h.length && !block) return EXUVIA_LIMIT;
        if (block) memcpy(block, buffer, h.length);
        fill(reply, &h, block ? block : "", block);
    } else if (code == EXUVIA_NOPROC && h.kind == EXUVIA_KIND_DOWN) {
        h.length = 0;
        fill(reply, &h, "", NULL);
    }
    if (code == EXUVIA_OK && reply->tag == EXUVIA_TAG_REFUSED) return EXUVIA_REFUSED;
    return (exuvia_code)code;
}

exuvia_code exuvia_request(exuvia_pid to, exuvia_writer *w, uint64_t *reference) {
    if (!complete(w, "a request was not sent")) return EXUVIA_BAD_ARGUMENT;
    int32_t code = exuvia_host_request(&to, 0, w->data, (uint32_t)w->length, reference);
    exuvia_writer_free(w);
    return (exuvia_code)code;
}

exuvia_code exuvia_demonitor(uint64_t reference) {
    return (exuvia_code)exuvia_host_demonitor((int64_t)reference, EXUVIA_DEMONITOR_FLUSH);
}

exuvia_code exuvia_send_after(exuvia_pid to, exuvia_writer *w, int64_t delay_ms, uint64_t *reference) {
    if (!complete(w, "a timer was not set")) return EXUVIA_BAD_ARGUMENT;
    int32_t code = exuvia_host_send_after(&to, 0, w->data, (uint32_t)w->length, delay_ms, reference);
    exuvia_writer_free(w);
    return (exuvia_code)code;
}

int64_t exuvia_cancel_timer(uint64_t reference) {
    return exuvia_host_cancel_timer((int64_t)reference);
}

exuvia_code exuvia_sleep(int64_t time_ms) {
    return (exuvia_code)exuvia_host_sleep(time_ms);
}

/* Processes */

exuvia_code exuvia_spawn_with(const char *module, exuvia_writer *arguments, exuvia_spawn_options *options, exuvia_child *child) {
    *child = (exuvia_child){{0, 0}, 0};
    if (arguments && !complete(arguments, "a process was not started")) return EXUVIA_BAD_ARGUMENT;
    options->size = sizeof *options;
    int32_t code = exuvia_host_spawn(module, module ? (uint32_t)strlen(module) : 0, arguments ? arguments->data : NULL,
        arguments ? (uint32_t)arguments->length : 0, options, &child->pid, &child->reference);
    if (arguments) exuvia_writer_free(arguments);
    return (exuvia_code)code;
}

exuvia_code exuvia_spawn(const char *module, exuvia_writer *arguments, uint32_t flags, exuvia_child *child) {
    exuvia_spawn_options options = {.flags = flags};
    return exuvia_spawn_with(module, arguments, &options, child);
}

exuvia_pid exuvia_self(void) {
    exuvia_pid pid;
    exuvia_host_self(&pid);
    return pid;
}

void exuvia_exit(int32_t code, const char *format, ...) {
    WITH_TEXT(format, exuvia_host_exit(code, text, (uint32_t)length));
    __builtin_trap();
}

void exuvia_panic(const char *format, ...) {
    WITH_TEXT(format, exuvia_host_log(EXUVIA_LOG_ERROR, text, (uint32_t)length));
    __builtin_trap();
}

exuvia_code exuvia_exit_process(exuvia_pid pid, int32_t code, const char *text) {
    return (exuvia_code)exuvia_host_exit_process(&pid, code, text, (uint32_t)strlen(text));
}

exuvia_code exuvia_kill(exuvia_pid pid) {
    return (exuvia_code)exuvia_host_kill(&pid);
}

exuvia_code exuvia_link(exuvia_pid pid) {
    return (exuvia_code)exuvia_host_link(&pid);
}

exuvia_code exuvia_unlink(exuvia_pid pid) {
    return (exuvia_code)exuvia_host_unlink(&pid);
}

exuvia_code exuvia_monitor(exuvia_pid pid, uint64_t *reference) {
    return (exuvia_code)exuvia_host_monitor(&pid, reference);
}

bool exuvia_trap_exit(bool on) {
    return exuvia_host_trap_exit(on) == 1;
}

exuvia_code exuvia_register(const char *name) {
    exuvia_pid self = exuvia_self();
    return (exuvia_code)exuvia_host_register(name, (uint32_t)strlen(name), &self);
}

exuvia_code exuvia_unregister(const char *name) {
    return (exuvia_code)exuvia_host_unregister(name, (uint32_t)strlen(name));
}

exuvia_code exuvia_whereis(const char *name, exuvia_pid *pid) {
    *pid = EXUVIA_NOBODY;
    return (exuvia_code)exuvia_host_whereis(name, (uint32_t)strlen(name), pid);
}

exuvia_code exuvia_group_join(const char *group) {
    exuvia_pid self = exuvia_self();
    return (exuvia_code)exuvia_host_group_join(group, (uint32_t)strlen(group), &self);
}

exuvia_code exuvia_group_leave(const char *group) {
    exuvia_pid self = exuvia_self();
    return (exuvia_code)exuvia_host_group_leave(group, (uint32_t)strlen(group), &self);
}

int32_t exuvia_publish(const char *group, exuvia_writer *w) {
    if (!complete(w, "a message was not published")) return EXUVIA_BAD_ARGUMENT;
    int32_t count = exuvia_host_publish(group, (uint32_t)strlen(group), 0, w->data, (uint32_t)w->length);
    exuvia_writer_free(w);
    return count;
}

exuvia_code exuvia_config(const char *path, exuvia_message *value) {
    memset(value, 0, sizeof *value);
    uint32_t length = (uint32_t)strlen(path);
    int32_t size = exuvia_host_config(path, length, NULL, 0);
    if (size < 0) return (exuvia_code)size;
    void *block = malloc((size_t)size);
    if (!block) return EXUVIA_LIMIT;
    /* Nothing runs in between, so it has the same length. */
    header h = {.kind = KIND_STATE, .length = (uint32_t)exuvia_host_config(path, length, block, (uint32_t)size)};
    fill(value, &h, block, block);
    return EXUVIA_OK;
}

/* Log, time, random */

void exuvia_log(exuvia_log_level level, const char *format, ...) {
    WITH_TEXT(format, exuvia_host_log(level, text, (uint32_t)length));
}

void exuvia_log_text(exuvia_log_level level, const char *text) {
    exuvia_host_log(level, text, (uint32_t)strlen(text));
}

void exuvia_random(void *buffer, size_t length) {
    for (size_t at = 0; at < length; at += UINT16_MAX) {
        size_t part = length - at < UINT16_MAX ? length - at : UINT16_MAX;
        exuvia_host_random((uint8_t *)buffer + at, (uint32_t)part);
    }
}

int64_t exuvia_clock(exuvia_clock_id clock) {
    return exuvia_host_clock(clock);
}

int64_t exuvia_number(exuvia_info_id what) {
    return exuvia_host_info(what);
}

const char *exuvia_code_name(exuvia_code code) {
    switch (code) {
    case EXUVIA_OK: return "ok";
    case EXUVIA_REFUSED: return "refused";
    case EXUVIA_EMPTY: return "empty";
    case EXUVIA_TIMEOUT: return "timeout";
    case EXUVIA_TOO_BIG: return "too big";
    case EXUVIA_UPGRADE: return "upgrade";
    case EXUVIA_NOPROC: return "noproc";
    case EXUVIA_LIMIT: return "limit";
    case EXUVIA_BAD_POINTER: return "bad pointer";
    case EXUVIA_BAD_ARGUMENT: return "bad argument";
    case EXUVIA_MESSAGE_TOO_LARGE: return "message too large";
    case EXUVIA_MAILBOX_FULL: return "mailbox full";
    case EXUVIA_NAME_TAKEN: return "name taken";
    case EXUVIA_NO_MODULE: return "no module";
    case EXUVIA_START_FAILED: return "start failed";
    case EXUVIA_DENIED: return "denied";
    case EXUVIA_NOT_SUPPORTED: return "not supported";
    }
    return "unknown";
}
