/*
 * The guest of the conformance suite (guest-sdk/conformance/README.md). VERSION is 1, 101, 2 or 3: one.wasm, same.wasm, two.wasm, bad.wasm.
 */
#include <errno.h>
#include <exuvia.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef VERSION
#define VERSION 1
#endif
#define SCHEMA (VERSION == 101 ? 1 : VERSION)
/* Version 2 has another name for it. */
#define COUNT (VERSION == 1 || VERSION == 101 ? "count" : "total")

static int64_t count;
static char **notes;
static uint32_t note_count;
static exuvia_caller *kept;
static uint32_t kept_count;
static FILE *open_file;

static void note(exuvia_text text) {
    char *copy = exuvia_text_copy(text);
    char **more = realloc(notes, (note_count + 1) * sizeof *notes);
    if (more) notes = more;
    if (!copy || !more) {
        free(copy);
        exuvia_error("there is no memory for a note");
        return;
    }
    notes[note_count++] = copy;
}

static void forget_notes(void) {
    while (note_count) free(notes[--note_count]);
    free(notes);
    notes = NULL;
}

static void write_notes(exuvia_writer *w) {
    exuvia_write_array(w, note_count);
    for (uint32_t i = 0; i < note_count; i++) exuvia_write_text(w, notes[i]);
}

static void init(exuvia_message *m) {
    int64_t start = exuvia_has(m, "start") ? exuvia_get_int(m, "start") : 0;
    if (exuvia_ok(m)) count = start;
}

static void version(exuvia_message *m) {
    exuvia_reply_int(m, VERSION);
}

static void echo(exuvia_message *m) {
    exuvia_value value = exuvia_get(m, "value");
    if (exuvia_ok(m)) exuvia_reply_value(m, value);
}

static void add(exuvia_message *m) {
    int64_t by = exuvia_get_int(m, "by");
    if (exuvia_ok(m)) count += by;
}

static void get(exuvia_message *m) {
    exuvia_reply_int(m, count);
}

static void length(exuvia_message *m) {
    exuvia_bytes bytes = exuvia_get_bytes(m, "bytes");
    if (exuvia_ok(m)) exuvia_reply_int(m, (int64_t)bytes.length);
}

static void add_note(exuvia_message *m) {
    exuvia_text text = exuvia_get_text(m, "text");
    if (exuvia_ok(m)) note(text);
}

static void get_notes(exuvia_message *m) {
    exuvia_writer w = exuvia_writer_new();
    write_notes(&w);
    if (exuvia_reply(m, &w) == EXUVIA_OK) forget_notes();
}

static void keep(exuvia_message *m) {
    exuvia_caller *more = realloc(kept, (kept_count + 1) * sizeof *kept);
    if (!more) {
        exuvia_refuse(m, "there is no memory");
        return;
    }
    kept = more;
    kept[kept_count++] = exuvia_keep(m);
}

static void release_kept(exuvia_message *m) {
    exuvia_value value = exuvia_get(m, "value");
    if (!exuvia_ok(m)) return;
    for (uint32_t i = 0; i < kept_count; i++) {
        exuvia_writer w = exuvia_writer_new();
        exuvia_write_value(&w, value);
        exuvia_answer(kept[i], &w);
    }
    free(kept);
    kept = NULL;
    kept_count = 0;
    exuvia_reply_nil(m);
}

/* Writes {"Ok": value} or {"Err": text}. */
static exuvia_writer outcome(exuvia_message *reply, exuvia_code code) {
    exuvia_writer w = exuvia_writer_new();
    exuvia_write_map(&w, 1);
    if (code == EXUVIA_OK) {
        exuvia_put_value(&w, "Ok", exuvia_get(reply, NULL));
    } else if (code == EXUVIA_REFUSED) {
        char text[300];
        snprintf(text, sizeof text, "refused: %.*s", (int)reply->payload.length, (const char *)reply->payload.at);
        exuvia_put_text(&w, "Err", text);
    } else {
        exuvia_put_text(&w, "Err", exuvia_code_name(code));
    }
    return w;
}

static void call_with(exuvia_message *m, exuvia_pid to, exuvia_writer *request) {
    exuvia_message reply;
    exuvia_code code = exuvia_call(to, request, exuvia_get_int(m, "timeout_ms"), &reply);
    exuvia_writer w = outcome(&reply, code);
    exuvia_message_free(&reply);
    exuvia_reply(m, &w);
}

static void call(exuvia_message *m) {
    exuvia_pid to = exuvia_get_pid(m, "to");
    exuvia_value value = exuvia_get(m, "value");
    exuvia_get_int(m, "timeout_ms");
    if (!exuvia_ok(m)) return;
    exuvia_writer request = exuvia_named("Echo", 1);
    exuvia_put_value(&request, "value", value);
    call_with(m, to, &request);
}

static void call_keep(exuvia_message *m) {
    exuvia_pid to = exuvia_get_pid(m, "to");
    exuvia_get_int(m, "timeout_ms");
    if (!exuvia_ok(m)) return;
    exuvia_writer request = exuvia_named("Keep", 0);
    call_with(m, to, &request);
}

static void awaited(exuvia_message *reply, exuvia_code code, void *context) {
    exuvia_caller *caller = context;
    exuvia_writer w = outcome(reply, code);
    exuvia_answer(*caller, &w);
    free(caller);
}

static void await(exuvia_message *m) {
    exuvia_pid to = exuvia_get_pid(m, "to");
    int64_t timeout = exuvia_get_int(m, "timeout_ms");
    if (!exuvia_ok(m)) return;
    exuvia_caller *caller = malloc(sizeof *caller);
    if (!caller) {
        exuvia_refuse(m, "there is no memory");
        return;
    }
    exuvia_writer request = exuvia_named("Keep", 0);
    exuvia_code code = exuvia_await(to, &request, timeout, awaited, caller);
    *caller = exuvia_keep(m);
    if (code != EXUVIA_OK) awaited(m, code, caller);
}

static void select_tag(exuvia_message *m) {
    uint32_t tag = (uint32_t)exuvia_get_uint(m, "tag");
    int64_t timeout = exuvia_get_int(m, "timeout_ms");
    if (!exuvia_ok(m)) return;
    exuvia_message found;
    exuvia_code code = exuvia_receive_tag(&found, tag, timeout);
    if (code != EXUVIA_OK) {
        exuvia_reply_nil(m);
        return;
    }
    exuvia_reader reader = {found.payload.at, found.payload.at + found.payload.length, NULL};
    exuvia_text text = exuvia_read_text(&reader);
    if (reader.error) {
        exuvia_refuse(m, "the payload %s", reader.error);
    } else {
        exuvia_writer w = exuvia_writer_new();
        exuvia_write_text_n(&w, text.at, text.length);
        exuvia_reply(m, &w);
    }
    exuvia_message_free(&found);
}

static void timers(exuvia_message *m) {
    exuvia_reader delays = exuvia_get_reader(m, "delays_ms");
    for (uint32_t left = exuvia_read_array(&delays); left; left--) {
        int64_t delay = exuvia_read_int(&delays);
        if (!exuvia_check(m, &delays, "delays_ms")) return;
        char text[40];
        snprintf(text, sizeof text, "timer %" PRId64, delay);
        exuvia_writer w = exuvia_named("Note", 1);
        exuvia_put_text(&w, "text", text);
        exuvia_code code = exuvia_send_after(exuvia_self(), &w, delay, NULL);
        if (code != EXUVIA_OK) {
            exuvia_refuse(m, "a timer of %" PRId64 " ms: %s", delay, exuvia_code_name(code));
            return;
        }
    }
    if (exuvia_check(m, &delays, "delays_ms")) exuvia_reply_nil(m);
}

/* Replies nil, or refuses with the code's name. */
static void done(exuvia_message *m, exuvia_code code) {
    if (code == EXUVIA_OK) exuvia_reply_nil(m);
    else exuvia_refuse(m, "%s", exuvia_code_name(code));
}

static void watch(exuvia_message *m) {
    uint64_t reference;
    exuvia_pid pid = exuvia_get_pid(m, "pid");
    if (exuvia_ok(m)) done(m, exuvia_monitor(pid, &reference));
}

static void note_reason(const char *what, int32_t reason) {
    char text[40];
    int n = snprintf(text, sizeof text, "%s %" PRId32, what, reason);
    note((exuvia_text){text, (size_t)n});
}

static void on_down(exuvia_message *m) {
    note_reason("down", m->reason);
}

static void join(exuvia_message *m) {
    exuvia_pid pid = exuvia_get_pid(m, "pid");
    if (!exuvia_ok(m)) return;
    exuvia_trap_exit(true);
    done(m, exuvia_link(pid));
}

static void on_exit_signal(exuvia_message *m) {
    note_reason("exit", m->reason);
}

/* A copy of a text parameter that ends with a zero; NULL if it was refused. */
static char *text_of(exuvia_message *m, const char *name) {
    exuvia_text text = exuvia_get_text(m, name);
    if (!exuvia_ok(m)) return NULL;
    char *copy = exuvia_text_copy(text);
    if (!copy) exuvia_refuse(m, "there is no memory");
    return copy;
}

static void register_name(exuvia_message *m) {
    char *name = text_of(m, "name");
    if (name) done(m, exuvia_register(name));
    free(name);
}

static void whereis(exuvia_message *m) {
    char *name = text_of(m, "name");
    exuvia_pid pid;
    if (!name) return;
    if (exuvia_whereis(name, &pid) == EXUVIA_OK) exuvia_reply_pid(m, pid);
    else exuvia_reply_nil(m);
    free(name);
}

static void child(exuvia_message *m) {
    int64_t start = exuvia_get_int(m, "start");
    if (!exuvia_ok(m)) return;
    exuvia_writer arguments = exuvia_writer_new();
    exuvia_write_map(&arguments, 1);
    exuvia_put_int(&arguments, "start", start);
    exuvia_child started;
    exuvia_code code = exuvia_spawn(NULL, &arguments, EXUVIA_SPAWN_LINK, &started);
    if (code == EXUVIA_OK) exuvia_reply_pid(m, started.pid);
    else exuvia_refuse(m, "%s", exuvia_code_name(code));
}

static void send_note(exuvia_message *m) {
    exuvia_pid to = exuvia_get_pid(m, "to");
    exuvia_value text = exuvia_get(m, "text");
    if (!exuvia_ok(m)) return;
    exuvia_writer w = exuvia_named("Note", 1);
    exuvia_put_value(&w, "text", text);
    done(m, exuvia_send(to, &w));
}

static void stop(exuvia_message *m) {
    int32_t code = (int32_t)exuvia_get_int(m, "code");
    exuvia_text text = exuvia_get_text(m, "text");
    if (exuvia_ok(m)) exuvia_exit(code, "%.*s", (int)text.length, text.at);
}

__attribute__((noinline)) static void inner(void) {
    abort();
}

__attribute__((noinline)) static void outer(void) {
    inner();
    exuvia_log_text(EXUVIA_LOG_ERROR, "never reached"); /* So that it is no tail call. */
}

static void trap(exuvia_message *m) {
    (void)m;
    outer();
}

static void fill_memory(exuvia_message *m) {
    uint64_t bytes = exuvia_get_uint(m, "bytes");
    if (!exuvia_ok(m)) return;
    volatile uint8_t *memory = bytes > SIZE_MAX ? NULL : malloc((size_t)bytes);
    if (!memory) {
        exuvia_refuse(m, "there is no memory for %" PRIu64 " bytes", bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i++) memory[i] = 0xa5;
    free((void *)memory);
    exuvia_reply_int(m, (int64_t)bytes);
}

static void read_file(exuvia_message *m) {
    char *path = text_of(m, "path");
    if (!path) return;
    FILE *file = fopen(path, "r");
    exuvia_writer content = exuvia_writer_new();
    if (file) {
        char part[512];
        for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;) exuvia_write_raw(&content, part, n);
    }
    if (!file || ferror(file)) {
        exuvia_refuse(m, "%s: %s", path, strerror(errno));
    } else {
        exuvia_writer w = exuvia_writer_new();
        exuvia_write_text_n(&w, (const char *)content.data, content.length);
        exuvia_reply(m, &w);
    }
    if (file) fclose(file);
    exuvia_writer_free(&content);
    free(path);
}

static void open_path(exuvia_message *m) {
    char *path = text_of(m, "path");
    if (!path) return;
    if (open_file) fclose(open_file);
    open_file = fopen(path, "r");
    if (open_file) {
        setvbuf(open_file, NULL, _IONBF, 0);
        fgetc(open_file);
        exuvia_reply_nil(m);
    } else {
        exuvia_refuse(m, "%s: %s", path, strerror(errno));
    }
    free(path);
}

static void read_on(exuvia_message *m) {
    int byte = open_file ? fgetc(open_file) : EOF;
    if (byte == EOF) {
        exuvia_refuse(m, open_file ? "the file has ended" : "no file is open");
    } else {
        char text[2] = {(char)byte, 0};
        exuvia_reply_text(m, text);
    }
}

static void random_bytes(exuvia_message *m) {
    uint8_t bytes[16];
    exuvia_random(bytes, sizeof bytes);
    exuvia_reply_bytes(m, bytes, sizeof bytes);
}

static void log_text(exuvia_message *m) {
    exuvia_text text = exuvia_get_text(m, "text");
    if (!exuvia_ok(m)) return;
    exuvia_info("%.*s", (int)text.length, text.at);
    exuvia_reply_nil(m);
}

static void save(exuvia_writer *w) {
    exuvia_write_map(w, 2);
    exuvia_put_int(w, COUNT, count);
    exuvia_write_text(w, "notes");
    write_notes(w);
}

static void load(exuvia_message *state, int32_t schema) {
    if (schema < 1 || schema > SCHEMA) {
        exuvia_refuse(state, "schema %" PRId32 " is unknown here", schema);
        return;
    }
    count = exuvia_get_int(state, schema == 1 ? "count" : "total");
    exuvia_reader saved = exuvia_get_reader(state, "notes");
    for (uint32_t left = exuvia_read_array(&saved); left && !saved.error; left--) note(exuvia_read_text(&saved));
    if (!exuvia_check(state, &saved, "notes")) return;
#if VERSION == 3
    if (count == 13) exuvia_panic("the count is 13");
    if (count % 2) exuvia_refuse(state, "the count %" PRId64 " is odd", count);
#endif
}

static const exuvia_entry messages[] = {{"Add", add}, {"Note", add_note}, {"Stop", stop}, {"Trap", trap}, {0}};

static const exuvia_entry requests[] = {
    {"Version", version},
    {"Echo", echo},
    {"Get", get},
    {"Length", length},
    {"Notes", get_notes},
    {"Keep", keep},
    {"Release", release_kept},
    {"Call", call},
    {"CallKeep", call_keep},
    {"Await", await},
    {"Select", select_tag},
    {"Timers", timers},
    {"Watch", watch},
    {"Join", join},
    {"Register", register_name},
    {"Whereis", whereis},
    {"Child", child},
    {"Send", send_note},
    {"Fill", fill_memory},
    {"ReadFile", read_file},
    {"OpenFile", open_path},
    {"ReadOn", read_on},
    {"Random", random_bytes},
    {"Log", log_text},
    {0},
};

EXUVIA_ACTOR(.schema = SCHEMA, .init = init, .messages = messages, .requests = requests, .on_exit = on_exit_signal, .on_down = on_down, .save = save,
    .load = load)

#if VERSION == 1 || VERSION == 101
EXUVIA_LAYOUT("guest: count, notes, kept, open_file")
EXUVIA_STATE(1, "[]", "{count: int, notes: List<text>}")
#elif VERSION == 2
EXUVIA_STATE(2, "[1]", "{total: int, notes: List<text>}")
#else
EXUVIA_STATE(3, "[[1, 2]]", "{total: int, notes: List<text>}")
#endif
EXUVIA_DESCRIBE_MESSAGE("add", "Add", EXUVIA_PARAMETER("by", "int"), "Adds to the count.")
EXUVIA_DESCRIBE_REQUEST("get", "Get", "", "int", "The count.")
EXUVIA_DESCRIBE_REQUEST("version", "Version", "", "int", "The version of the code.")
