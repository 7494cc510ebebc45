/* Between JavaScript and host calls: how arguments are taken and results given. */
#ifndef EXUVIA_GLUE_H
#define EXUVIA_GLUE_H

#include "codec.h"
#include "exuvia.h"
#include <string.h>

/* A function of the object `exuviaEngine`. */
typedef struct {
  const char *name;
  JSCFunction *function;
  int arguments;
} function_of_engine;

/* Those of calls.c. */
extern const function_of_engine call_functions[];
extern const size_t call_count;

/* What all pids inherit from; given by the SDK. */
extern JSValue pid_prototype;

#define FUNCTION(name) static JSValue js_##name(JSContext *c, JSValueConst this, int argc, JSValueConst *a)

static inline JSValue new_pid(JSContext *c, const uint8_t *bytes) {
  JSValue pid = JS_NewUint8ArrayCopy(c, bytes, 16);
  if (!JS_IsException(pid)) JS_SetPrototype(c, pid, pid_prototype);
  return pid;
}

/* Copies a pid; -1 with an exception if the value is none. */
static inline int pid_of(JSContext *c, JSValueConst value, uint8_t *pid) {
  bytes_of b;
  if (JS_IsString(value) || bytes_begin(c, &b, value) || b.length != 16) {
    JS_FreeValue(c, JS_GetException(c));
    JS_ThrowTypeError(c, "expected a pid: 16 bytes");
    return -1;
  }
  memcpy(pid, b.bytes, 16);
  return 0;
}

static inline int pid_or_none(JSContext *c, JSValueConst value, uint8_t *pid) {
  return JS_IsUndefined(value) || JS_IsNull(value) ? 1 : pid_of(c, value, pid);
}

static inline JSValue number(JSContext *c, int64_t n) { return JS_NewInt64(c, n); }
static inline JSValue reference_or(JSContext *c, int32_t code, int64_t reference) {
  return code < 0 ? number(c, code) : JS_NewBigInt64(c, reference);
}
static inline JSValue pid_or(JSContext *c, int32_t code, const uint8_t *pid) {
  return code < 0 ? number(c, code) : new_pid(c, pid);
}

/* Begins with bytes and an encoded value that end when the block ends. */
#define WITH_BYTES(b, value)                                                                                           \
  bytes_of b;                                                                                                          \
  if (bytes_begin(c, &b, value)) return JS_EXCEPTION
#define WITH_PID(p, value)                                                                                             \
  uint8_t p[16];                                                                                                       \
  if (pid_of(c, value, p)) return JS_EXCEPTION
#define WITH_UINT(n, value)                                                                                            \
  uint32_t n;                                                                                                          \
  if (JS_ToUint32(c, &n, value)) return JS_EXCEPTION
#define WITH_TIME(n, value)                                                                                            \
  int64_t n;                                                                                                           \
  if (JS_ToInt64(c, &n, value)) return JS_EXCEPTION
#define WITH_REFERENCE(n, value)                                                                                       \
  int64_t n;                                                                                                           \
  if (JS_ToBigInt64(c, &n, value)) return JS_EXCEPTION
#define WITH_VALUE(w, value)                                                                                           \
  writer w;                                                                                                            \
  writer_begin(&w);                                                                                                    \
  if (codec_encode(c, &w, value)) {                                                                                    \
    writer_end(&w);                                                                                                    \
    return JS_EXCEPTION;                                                                                               \
  }

/* A payload: a value as MessagePack, or bytes as they are if `raw` is true. */
typedef struct {
  int raw;
  writer w;
  bytes_of b;
  const uint8_t *bytes;
  uint32_t length;
} content;

static inline int content_begin(JSContext *c, content *x, JSValueConst value, JSValueConst raw) {
  x->raw = JS_ToBool(c, raw);
  if (x->raw) {
    if (bytes_begin(c, &x->b, value)) return -1;
    x->bytes = x->b.bytes;
    x->length = (uint32_t)x->b.length;
    return 0;
  }
  writer_begin(&x->w);
  if (codec_encode(c, &x->w, value)) {
    writer_end(&x->w);
    return -1;
  }
  x->bytes = x->w.bytes;
  x->length = (uint32_t)x->w.length;
  return 0;
}

static inline void content_end(JSContext *c, content *x) {
  if (x->raw) bytes_end(c, &x->b);
  else writer_end(&x->w);
}
#define WITH_CONTENT(x, value, raw)                                                                                    \
  content x;                                                                                                           \
  if (content_begin(c, &x, value, raw)) return JS_EXCEPTION

#define F(name, arguments) {#name, js_##name, arguments}

#endif
