/* The engine: QuickJS-ng, one script, and the ABI between them.

   The script is bytes in the module's memory, put there by the build step. `warm_up` evaluates it,
   so every process begins from a heap in which it has already run; the export
   `exuvia_shared_start` makes that possible although the interpreter asks the clock.

   The script is bundled with the SDK, which gives `engine.start` an object with the functions
   `step`, `save`, `load` and `failed`. Messages, MessagePack and host calls are here; what an
   actor is, is there. A host call returns what the host returns: an error is a negative number,
   and the SDK throws it. */

#include "glue.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXPORT(name) __attribute__((export_name(#name), used))

/* Read by the build step from the export of this name: the address of the two words. */
__attribute__((used)) volatile script_place exuvia_script = {NULL, 0};

EXPORT(exuvia_abi) int32_t exuvia_abi(void) { return EXUVIA_ABI; }
EXPORT(exuvia_shared_start) void exuvia_shared_start(void) {}

#define STACK_FOR_SCRIPTS (200 * 1024)
#define MAX_REFERENCES 64
/* Garbage in cycles is collected at rest when there may be this much, or as much as is alive. */
#define GARBAGE_AT_REST 4096
/* The same for one that runs on, in bytes that were allocated. */
#define GARBAGE_BETWEEN (2u << 20)

static JSRuntime *runtime;
static JSContext *ctx;
static JSValue actor = JS_UNDEFINED;
JSValue pid_prototype = JS_UNDEFINED;
/* Promises that were rejected and that nobody handles, with the reasons. */
static JSValue unhandled = JS_UNDEFINED;
static size_t allocated_in_base, alive_after_collection, threshold;

/* The message in hand. Short ones are in `buffer`, which is dead stack between entries. */
static host_header header;
static uint8_t *payload;
static uint8_t *long_payload;
static int dropped;

static void log_text(int level, const char *text) { host_log(level, text, (uint32_t)strlen(text)); }

/* ---- what goes wrong ---- */

static void print(const char *text, size_t length) {
  while (length) {
    ssize_t n = write(2, text, length);
    if (n <= 0) return;
    text += n;
    length -= (size_t)n;
  }
}

/* The text of an exception with its stack, by the SDK if it can. */
static void describe(JSValueConst exception, void (*use)(const char *, size_t)) {
  JSValue text = JS_UNDEFINED;
  if (!JS_IsUndefined(actor)) {
    JSValue f = JS_GetPropertyStr(ctx, actor, "describe");
    if (JS_IsFunction(ctx, f)) text = JS_Call(ctx, f, JS_UNDEFINED, 1, &exception);
    JS_FreeValue(ctx, f);
  }
  size_t length;
  /* What the engine throws if there is not even memory for an error. */
  if (JS_IsNull(exception)) {
    use("null: out of memory, unless it was thrown", 41);
    return;
  }
  const char *s = JS_IsString(text) ? JS_ToCStringLen(ctx, &length, text) : NULL;
  if (!s) {
    JS_FreeValue(ctx, JS_GetException(ctx));
    s = JS_ToCStringLen(ctx, &length, exception);
    if (s) use(s, length);
    JSValue stack = JS_IsObject(exception) ? JS_GetPropertyStr(ctx, exception, "stack") : JS_UNDEFINED;
    const char *t = JS_IsString(stack) ? JS_ToCStringLen(ctx, &length, stack) : NULL;
    if (t) {
      use("\n", 1);
      use(t, length);
    }
    if (!s) use("an exception, and no memory to describe it", 42);
  } else {
    use(s, length);
  }
}

static void log_error(const char *text, size_t length) { host_log(LOG_ERROR, text, (uint32_t)length); }

/* Ends the process: what is printed here is part of its reason. New code in probation is reverted. */
_Noreturn static void die_of(JSValueConst exception) {
  print("uncaught ", 9);
  describe(exception, print);
  print("\n", 1);
  __builtin_trap();
}

_Noreturn static void die(void) { die_of(JS_GetException(ctx)); }

/* The same where nobody sees what is printed: at the start of a module, and in `load`. */
_Noreturn static void log_and_die(void) {
  JSValue exception = JS_GetException(ctx);
  describe(exception, log_error);
  die_of(exception);
}

static void tracker(JSContext *c, JSValueConst promise, JSValueConst reason, bool is_handled, void *opaque) {
  (void)opaque;
  int64_t length = 0;
  JS_GetLength(c, unhandled, &length);
  if (!is_handled) {
    JS_SetPropertyInt64(c, unhandled, length, JS_DupValue(c, promise));
    JS_SetPropertyInt64(c, unhandled, length + 1, JS_DupValue(c, reason));
    return;
  }
  for (int64_t i = 0; i < length; i += 2) {
    JSValue p = JS_GetPropertyInt64(c, unhandled, i);
    int same = JS_IsStrictEqual(c, p, promise);
    JS_FreeValue(c, p);
    if (!same) continue;
    JS_SetPropertyInt64(c, unhandled, i, JS_GetPropertyInt64(c, unhandled, length - 2));
    JS_SetPropertyInt64(c, unhandled, i + 1, JS_GetPropertyInt64(c, unhandled, length - 1));
    JS_SetLength(c, unhandled, length - 2);
    return;
  }
}

/* Runs all jobs; an exception or a rejection that nobody handles ends the process. */
static void run_jobs(void) {
  JSContext *of;
  int result;
  while ((result = JS_ExecutePendingJob(runtime, &of)) > 0) {
  }
  if (result < 0) die();
  int64_t length = 0;
  JS_GetLength(ctx, unhandled, &length);
  if (length) die_of(JS_GetPropertyInt64(ctx, unhandled, 1));
}

/* ---- messages ---- */

static void forget_payload(void) {
  free(long_payload);
  long_payload = payload = NULL;
}

static void refuse_header(const char *why) {
  host_reply(header.sender, header.reference, TAG_REFUSED, why, (uint32_t)strlen(why));
}

static void say_dropped(void) {
  char text[96];
  snprintf(text, sizeof text, "dropped a message of %u bytes: the process has no memory for it", (unsigned)header.length);
  log_text(LOG_ERROR, text);
}

/* What the C library has kept of the start, in which there are no folders and no environment. */
void __wasilibc_reset_preopens(void);
static void forget_start(void) { __wasilibc_reset_preopens(); }

static uint8_t buffer[512];

/* Receives; a message for which there is no memory is dropped, or arrives without its payload if
   something waits for it. */
static int32_t receive(int64_t timeout, int32_t mode, int64_t key) {
  forget_payload();
  dropped = 0;
  for (;;) {
    header.size = sizeof header;
    int32_t code = host_receive(&header, buffer, sizeof buffer, timeout, mode, key);
    payload = buffer;
    if (!code && header.kind == KIND_INIT) forget_start();
    if (code != CODE_TOO_BIG) return code;
    uint32_t length = header.length;
    long_payload = malloc(length);
    header.size = sizeof header;
    if (long_payload) {
      payload = long_payload;
      return host_receive(&header, payload, length, 0, mode, key);
    }
    code = host_receive(&header, buffer, 0, 0, mode | RECEIVE_TRUNCATE, key);
    if (code) return code;
    say_dropped();
    dropped = 1;
    if (header.kind == KIND_REQUEST) refuse_header("the receiver has no memory for a request of this size");
    else if (header.kind != KIND_MESSAGE && header.kind != KIND_TIMER) {
      header.length = 0;
      return 0;
    }
  }
}

/* receive(timeout, mode, key): the kind, or a code. The key is a tag, a pid, or references. */
FUNCTION(receive) {
  WITH_TIME(timeout, a[0]);
  WITH_UINT(mode, a[1]);
  int64_t references[MAX_REFERENCES];
  uint8_t pid[16];
  int64_t key = 0;
  if (mode == RECEIVE_TAG) {
    WITH_UINT(tag, a[2]);
    key = tag;
  } else if (mode == RECEIVE_SENDER) {
    if (pid_of(c, a[2], pid)) return JS_EXCEPTION;
    key = (int64_t)(uintptr_t)pid;
  } else if (mode == RECEIVE_REFERENCES) {
    int64_t count;
    if (JS_GetLength(c, a[2], &count)) return JS_EXCEPTION;
    if (count > MAX_REFERENCES) count = MAX_REFERENCES;
    for (int64_t i = 0; i < count; i++) {
      JSValue one = JS_GetPropertyInt64(c, a[2], i);
      int failed = JS_ToBigInt64(c, &references[i], one);
      JS_FreeValue(c, one);
      if (failed) return JS_EXCEPTION;
    }
    key = (int64_t)((uint64_t)count << 32 | (uintptr_t)references);
  }
  int32_t code = receive(timeout, (int32_t)mode, key);
  return number(c, code ? code : (int64_t)header.kind);
}

FUNCTION(sender) { return new_pid(c, header.sender); }
FUNCTION(reference) { return JS_NewBigInt64(c, header.reference); }
FUNCTION(tag) { return JS_NewUint32(c, header.tag); }
FUNCTION(reason) { return JS_NewInt32(c, header.reason); }
FUNCTION(length) { return JS_NewUint32(c, header.length); }
FUNCTION(dropped) { return JS_NewBool(c, dropped); }
FUNCTION(text) { return JS_NewStringLen(c, (const char *)payload, header.length); }
FUNCTION(bytes) { return JS_NewUint8ArrayCopy(c, payload, header.length); }
/* Throws if the payload is not MessagePack. None at all is undefined. */
FUNCTION(value) {
  if (!header.length) return JS_UNDEFINED;
  return codec_decode(c, payload, header.length, NULL);
}
/* pretend(kind, bytes): a message in hand that nobody has sent, for the warm-up. */
FUNCTION(pretend) {
  WITH_UINT(kind, a[0]);
  WITH_BYTES(b, a[1]);
  forget_payload();
  header.kind = kind;
  header.length = b.length < sizeof buffer ? (uint32_t)b.length : sizeof buffer;
  memcpy(buffer, b.bytes, header.length);
  payload = buffer;
  return JS_UNDEFINED;
}
FUNCTION(forget) {
  forget_payload();
  return JS_UNDEFINED;
}
FUNCTION(encode) {
  WITH_VALUE(w, a[0]);
  JSValue v = JS_NewUint8ArrayCopy(c, w.bytes, w.length);
  writer_end(&w);
  return v;
}
/* decode(bytes, front): the value; with `front` an array of it and of the bytes it took. */
FUNCTION(decode) {
  WITH_BYTES(b, a[0]);
  size_t used;
  int front = argc > 1 && JS_ToBool(c, a[1]);
  JSValue v = codec_decode(c, b.bytes, b.length, front ? &used : NULL);
  bytes_end(c, &b);
  if (!front || JS_IsException(v)) return v;
  JSValue pair = JS_NewArray(c);
  JS_SetPropertyUint32(c, pair, 0, v);
  JS_SetPropertyUint32(c, pair, 1, JS_NewInt64(c, (int64_t)used));
  return pair;
}
/* codec(Extension, entriesOrMap, Pid.prototype) */
FUNCTION(codec) {
  extension_class = JS_DupValue(c, a[0]);
  entries_of_map = JS_DupValue(c, a[1]);
  pid_prototype = JS_DupValue(c, a[2]);
  return JS_UNDEFINED;
}

/* send(to, value, tag, raw) */
FUNCTION(send) {
  WITH_PID(to, a[0]);
  WITH_UINT(tag, a[2]);
  WITH_CONTENT(x, a[1], a[3]);
  int32_t code = host_send(to, tag, x.bytes, x.length);
  content_end(c, &x);
  return number(c, code);
}
/* request(to, value, tag, raw): the reference */
FUNCTION(request) {
  WITH_PID(to, a[0]);
  WITH_UINT(tag, a[2]);
  WITH_CONTENT(x, a[1], a[3]);
  int64_t reference = 0;
  int32_t code = host_request(to, tag, x.bytes, x.length, &reference);
  content_end(c, &x);
  return reference_or(c, code, reference);
}
/* reply(to, reference, value, tag, raw) */
FUNCTION(reply) {
  WITH_PID(to, a[0]);
  WITH_REFERENCE(reference, a[1]);
  WITH_UINT(tag, a[3]);
  WITH_CONTENT(x, a[2], a[4]);
  int32_t code = host_reply(to, reference, tag, x.bytes, x.length);
  content_end(c, &x);
  return number(c, code);
}
/* sendAfter(to, value, tag, raw, delay): the reference */
FUNCTION(sendAfter) {
  WITH_PID(to, a[0]);
  WITH_UINT(tag, a[2]);
  WITH_TIME(delay, a[4]);
  WITH_CONTENT(x, a[1], a[3]);
  int64_t reference = 0;
  int32_t code = host_send_after(to, tag, x.bytes, x.length, delay, &reference);
  content_end(c, &x);
  return reference_or(c, code, reference);
}
FUNCTION(cancelTimer) {
  WITH_REFERENCE(reference, a[0]);
  return number(c, host_cancel_timer(reference));
}
FUNCTION(sleep) {
  WITH_TIME(time, a[0]);
  return number(c, host_sleep(time));
}
/* publish(group, value, tag, raw) */
FUNCTION(publish) {
  WITH_UINT(tag, a[2]);
  WITH_BYTES(group, a[0]);
  content x;
  if (content_begin(c, &x, a[1], a[3])) {
    bytes_end(c, &group);
    return JS_EXCEPTION;
  }
  int32_t code = host_publish(group.bytes, (uint32_t)group.length, tag, x.bytes, x.length);
  content_end(c, &x);
  bytes_end(c, &group);
  return number(c, code);
}

/* Waits on the stack for the reply: call(to, value, tag, raw, timeout), a kind or a code. */
FUNCTION(call) {
  WITH_PID(to, a[0]);
  WITH_UINT(tag, a[2]);
  WITH_TIME(timeout, a[4]);
  WITH_CONTENT(x, a[1], a[3]);
  forget_payload();
  dropped = 0;
  header.size = sizeof header;
  int32_t code = host_call(to, tag, x.bytes, x.length, &header, buffer, sizeof buffer, timeout);
  content_end(c, &x);
  payload = buffer;
  if (code == CODE_TOO_BIG) {
    code = receive(0, RECEIVE_REFERENCE, header.reference);
  } else if (code) {
    header.length = 0;
  }
  return number(c, code ? code : (int64_t)header.kind);
}

FUNCTION(start) {
  JS_FreeValue(c, actor);
  actor = JS_DupValue(c, a[0]);
  return JS_UNDEFINED;
}

static const function_of_engine functions[] = {
    F(receive, 3), F(sender, 0), F(reference, 0), F(tag, 0), F(reason, 0), F(length, 0), F(dropped, 0),
    F(text, 0), F(bytes, 0), F(value, 0), F(forget, 0), F(encode, 1), F(decode, 2), F(codec, 3), F(send, 4),
    F(request, 4), F(reply, 5), F(sendAfter, 5), F(cancelTimer, 1), F(sleep, 1), F(publish, 4), F(call, 5),
    F(start, 1), F(pretend, 2),
};

/* ---- the exports ---- */

static JSValue method(const char *name, int count, JSValueConst *arguments) {
  JSValue f = JS_GetPropertyStr(ctx, actor, name);
  JSValue result = JS_Call(ctx, f, actor, count, arguments);
  JS_FreeValue(ctx, f);
  return result;
}

static void add(JSValueConst engine, const function_of_engine *from, size_t count) {
  for (size_t i = 0; i < count; i++)
    JS_SetPropertyStr(ctx, engine, from[i].name, JS_NewCFunction(ctx, from[i].function, from[i].name, from[i].arguments));
}

EXPORT(warm_up) void warm_up(void) {
  runtime = JS_NewRuntime();
  JS_SetMaxStackSize(runtime, STACK_FOR_SCRIPTS);
  ctx = JS_NewContext(runtime);
  unhandled = JS_NewArray(ctx);
  JS_SetHostPromiseRejectionTracker(runtime, tracker, NULL);
  JSValue engine = JS_NewObject(ctx), global = JS_GetGlobalObject(ctx);
  add(engine, functions, sizeof functions / sizeof functions[0]);
  add(engine, call_functions, call_count);
  JS_SetPropertyStr(ctx, global, "exuviaEngine", engine);
  JS_FreeValue(ctx, global);
  if (!exuvia_script.length) {
    log_text(LOG_ERROR, "this is the engine alone: build an actor with `exuvia-js build`");
    __builtin_trap();
  }
  JSValue result = JS_Eval(ctx, exuvia_script.text, exuvia_script.length - 1, "script", JS_EVAL_TYPE_GLOBAL);
  if (JS_IsException(result)) log_and_die();
  JS_FreeValue(ctx, result);
  run_jobs();
  JSValue step = JS_IsUndefined(actor) ? JS_UNDEFINED : JS_GetPropertyStr(ctx, actor, "step");
  int started = JS_IsFunction(ctx, step);
  JS_FreeValue(ctx, step);
  if (!started) {
    log_text(LOG_ERROR, "the script starts no actor: call `actor({...})` at its top");
    __builtin_trap();
  }
  /* What is first used at a message is made here, so that all processes share it. */
  JSValue warmed = method("warmUp", 0, NULL);
  if (JS_IsException(warmed)) log_and_die();
  JS_FreeValue(ctx, warmed);
  run_jobs();
  forget_payload();
  memset(&header, 0, sizeof header);
  memset(buffer, 0, sizeof buffer);
  /* A collection sorts the list of objects: twice, and it stays as it is. */
  JS_RunGC(runtime);
  JS_RunGC(runtime);
  /* Large values alone are no reason to collect: that touches the whole heap. */
  threshold = heap_allocated() + GARBAGE_BETWEEN;
  JS_SetGCThreshold(runtime, threshold);
  allocated_in_base = heap_allocated();
}

EXPORT(exuvia_schema) int32_t exuvia_schema(void) {
  JSValue schema = JS_GetPropertyStr(ctx, actor, "schema");
  int32_t n = 0;
  if (JS_ToInt32(ctx, &n, schema)) die();
  return n;
}

static size_t own(void) {
  size_t all = heap_allocated();
  return all > allocated_in_base ? all - allocated_in_base : 0;
}

/* Memory is made small: what is garbage goes, and what was in hand is zero. */
static void rest(void) {
  forget_payload();
  memset(&header, 0, sizeof header);
  memset(buffer, 0, sizeof buffer);
  /* One that ran while the script did has sorted the objects by what was on the stack. */
  int was_collected = JS_GetGCThreshold(runtime) != threshold;
  if (was_collected || own() > 2 * alive_after_collection + GARBAGE_AT_REST) {
    JS_RunGC(runtime);
    JS_SetGCThreshold(runtime, threshold);
    alive_after_collection = own();
  }
}

EXPORT(run) int32_t run(void) {
  JS_UpdateStackTop(runtime);
  for (;;) {
    JSValue result = method("step", 0, NULL);
    if (JS_IsException(result)) die();
    int32_t answer = JS_VALUE_GET_INT(result);
    run_jobs();
    if (answer >= 0) {
      rest();
      return answer;
    }
  }
}

EXPORT(save) int32_t save(void) {
  JS_UpdateStackTop(runtime);
  JSValue state = method("save", 0, NULL);
  writer w;
  writer_begin(&w);
  if (JS_IsException(state) || codec_encode(ctx, &w, state)) {
    describe(JS_GetException(ctx), log_error);
    return 1;
  }
  int32_t code = host_state_put(w.bytes, (uint32_t)w.length);
  writer_end(&w);
  JS_FreeValue(ctx, state);
  return code;
}

/* Refused with a line in the log that says why; an exception that is no refusal traps. */
EXPORT(load) int32_t load(int32_t schema, int32_t length) {
  JS_UpdateStackTop(runtime);
  forget_start();
  uint8_t *bytes = malloc((size_t)length);
  if (!bytes) {
    log_text(LOG_ERROR, "no memory for the saved state");
    return 1;
  }
  if (host_state_get(bytes, (uint32_t)length) != length) return 1;
  JSValue arguments[2] = {JS_NewInt32(ctx, schema), codec_decode(ctx, bytes, (size_t)length, NULL)};
  free(bytes);
  if (JS_IsException(arguments[1])) {
    describe(JS_GetException(ctx), log_error);
    return 1;
  }
  JSValue result = method("load", 2, (JSValueConst *)arguments);
  JS_FreeValue(ctx, arguments[1]);
  if (JS_IsException(result)) log_and_die();
  run_jobs();
  int32_t answer = JS_VALUE_GET_INT(result);
  rest();
  return answer;
}

/* For the build step: the custom sections in which the actor describes itself, a map of JSON. */
static const char *description;
EXPORT(exuvia_describe) const char *exuvia_describe(void) {
  JSValue text = method("sections", 0, NULL);
  if (JS_IsException(text)) die();
  description = JS_ToCString(ctx, text);
  JS_FreeValue(ctx, text);
  return description;
}
