/* MessagePack to JavaScript values and back, without a copy in between.

   In C, since a codec that is itself interpreted takes ten times as long for each message, and
   keeps buffers and caches of keys in every process's image. */

#include "codec.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 100
#define MAX_SAFE 9007199254740991LL

JSValue extension_class = JS_UNDEFINED, entries_of_map = JS_UNDEFINED;

/* ---- bytes ---- */

void writer_begin(writer *w) {
  w->bytes = w->here;
  w->length = 0;
  w->capacity = sizeof w->here;
}

void writer_end(writer *w) {
  if (w->bytes != w->here) free(w->bytes);
  w->bytes = w->here;
  w->length = 0;
}

int writer_add(JSContext *ctx, writer *w, const void *data, size_t length) {
  if (length > w->capacity - w->length) {
    size_t capacity = w->capacity * 2;
    if (capacity < w->length + length) capacity = w->length + length;
    uint8_t *bytes = w->bytes == w->here ? malloc(capacity) : realloc(w->bytes, capacity);
    if (!bytes) {
      JS_ThrowOutOfMemory(ctx);
      return -1;
    }
    if (w->bytes == w->here) memcpy(bytes, w->here, w->length);
    w->bytes = bytes;
    w->capacity = capacity;
  }
  memcpy(w->bytes + w->length, data, length);
  w->length += length;
  return 0;
}

int bytes_begin(JSContext *ctx, bytes_of *b, JSValueConst value) {
  memset(b, 0, sizeof *b);
  if (JS_IsString(value)) {
    b->text = JS_ToCStringLen(ctx, &b->length, value);
    b->bytes = (const uint8_t *)b->text;
    return b->text ? 0 : -1;
  }
  if (JS_IsArrayBuffer(value)) {
    b->bytes = JS_GetArrayBuffer(ctx, &b->length, value);
    return b->bytes || !b->length ? 0 : -1;
  }
  if (JS_GetTypedArrayType(value) < 0) {
    JS_ThrowTypeError(ctx, "expected bytes: a Uint8Array, an ArrayBuffer or a string");
    return -1;
  }
  size_t offset, length, of_buffer;
  JSValue buffer = JS_GetTypedArrayBuffer(ctx, value, &offset, &length, NULL);
  if (JS_IsException(buffer)) return -1;
  uint8_t *all = JS_GetArrayBuffer(ctx, &of_buffer, buffer);
  JS_FreeValue(ctx, buffer); /* the array keeps it */
  if (!all && length) return -1;
  b->bytes = all ? all + offset : NULL;
  b->length = length;
  return 0;
}

void bytes_end(JSContext *ctx, bytes_of *b) {
  if (b->text) JS_FreeCString(ctx, b->text);
  b->text = NULL;
}

/* ---- encode ---- */

static int put(JSContext *ctx, writer *w, uint8_t first, uint64_t value, int size) {
  uint8_t bytes[9] = {first};
  for (int i = 0; i < size; i++) bytes[1 + i] = (uint8_t)(value >> (8 * (size - 1 - i)));
  return writer_add(ctx, w, bytes, 1 + size);
}

static int put_unsigned(JSContext *ctx, writer *w, uint64_t v) {
  if (v < 0x80) return put(ctx, w, (uint8_t)v, 0, 0);
  if (v <= UINT8_MAX) return put(ctx, w, 0xcc, v, 1);
  if (v <= UINT16_MAX) return put(ctx, w, 0xcd, v, 2);
  if (v <= UINT32_MAX) return put(ctx, w, 0xce, v, 4);
  return put(ctx, w, 0xcf, v, 8);
}

static int put_signed(JSContext *ctx, writer *w, int64_t v) {
  if (v >= 0) return put_unsigned(ctx, w, (uint64_t)v);
  if (v >= -32) return put(ctx, w, (uint8_t)v, 0, 0);
  if (v >= INT8_MIN) return put(ctx, w, 0xd0, (uint64_t)v, 1);
  if (v >= INT16_MIN) return put(ctx, w, 0xd1, (uint64_t)v, 2);
  if (v >= INT32_MIN) return put(ctx, w, 0xd2, (uint64_t)v, 4);
  return put(ctx, w, 0xd3, (uint64_t)v, 8);
}

/* `fixed` is the form for less than `below`; `eight` the one with a length of one byte, or 0. */
static int put_length(JSContext *ctx, writer *w, size_t n, int fixed, size_t below, int eight, int sixteen) {
  if (n < below) return put(ctx, w, (uint8_t)(fixed | n), 0, 0);
  if (eight && n <= UINT8_MAX) return put(ctx, w, (uint8_t)eight, n, 1);
  if (n <= UINT16_MAX) return put(ctx, w, (uint8_t)sixteen, n, 2);
  return put(ctx, w, (uint8_t)(sixteen + 1), n, 4);
}

/* A half of a surrogate pair has no UTF-8: U+FFFD takes its place, which is as long. */
static void mend_surrogates(uint8_t *text, size_t length) {
  uint8_t *end = text + length;
  for (uint8_t *at = text; length > 2 && (at = memchr(at, 0xed, (size_t)(end - at))) && at + 2 < end; at++)
    if (at[1] >= 0xa0) memcpy(at, "\xef\xbf\xbd", 3);
}

static int put_text(JSContext *ctx, writer *w, const char *text, size_t length) {
  if (put_length(ctx, w, length, 0xa0, 32, 0xd9, 0xda)) return -1;
  size_t at = w->length;
  if (writer_add(ctx, w, text, length)) return -1;
  mend_surrogates(w->bytes + at, length);
  return 0;
}

static int put_string(JSContext *ctx, writer *w, JSValueConst value) {
  size_t length;
  const char *text = JS_ToCStringLen(ctx, &length, value);
  if (!text) return -1;
  int result = put_text(ctx, w, text, length);
  JS_FreeCString(ctx, text);
  return result;
}

static int put_bytes(JSContext *ctx, writer *w, JSValueConst value) {
  bytes_of b;
  if (bytes_begin(ctx, &b, value)) return -1;
  int result = put_length(ctx, w, b.length, 0, 0, 0xc4, 0xc5) || writer_add(ctx, w, b.bytes, b.length);
  bytes_end(ctx, &b);
  return result ? -1 : 0;
}

static int put_big(JSContext *ctx, writer *w, JSValueConst value) {
  int64_t v;
  if (JS_ToBigInt64(ctx, &v, value)) return -1;
  JSValue back = JS_NewBigInt64(ctx, v);
  int same = JS_IsStrictEqual(ctx, back, value);
  JS_FreeValue(ctx, back);
  if (same) return put_signed(ctx, w, v);
  back = JS_NewBigUint64(ctx, (uint64_t)v);
  same = JS_IsStrictEqual(ctx, back, value);
  JS_FreeValue(ctx, back);
  if (same) return put_unsigned(ctx, w, (uint64_t)v);
  JS_ThrowRangeError(ctx, "cannot encode a BigInt of more than 64 bits");
  return -1;
}

static int put_number(JSContext *ctx, writer *w, JSValueConst value) {
  double d;
  if (JS_ToFloat64(ctx, &d, value)) return -1;
  if (d == trunc(d) && fabs(d) <= (double)MAX_SAFE && !(d == 0 && signbit(d)))
    return put_signed(ctx, w, (int64_t)d);
  uint64_t bits;
  memcpy(&bits, &d, 8);
  return put(ctx, w, 0xcb, bits, 8);
}

static int put_value(JSContext *ctx, writer *w, JSValueConst value, int depth);

static int put_array(JSContext *ctx, writer *w, JSValueConst value, int depth) {
  int64_t length;
  if (JS_GetLength(ctx, value, &length)) return -1;
  if (length > UINT32_MAX) {
    JS_ThrowRangeError(ctx, "cannot encode an array of %lld elements", (long long)length);
    return -1;
  }
  if (put_length(ctx, w, (size_t)length, 0x90, 16, 0, 0xdc)) return -1;
  for (int64_t i = 0; i < length; i++) {
    JSValue element = JS_GetPropertyInt64(ctx, value, i);
    int result = JS_IsException(element) ? -1 : put_value(ctx, w, element, depth + 1);
    JS_FreeValue(ctx, element);
    if (result) return -1;
  }
  return 0;
}

static int put_map(JSContext *ctx, writer *w, JSValueConst value, int depth) {
  JSValue pairs = JS_Call(ctx, entries_of_map, JS_UNDEFINED, 1, &value);
  int64_t length;
  int result = JS_IsException(pairs) || JS_GetLength(ctx, pairs, &length) ||
               put_length(ctx, w, (size_t)length / 2, 0x80, 16, 0, 0xde);
  for (int64_t i = 0; !result && i < length; i++) {
    JSValue element = JS_GetPropertyInt64(ctx, pairs, i);
    result = JS_IsException(element) || put_value(ctx, w, element, depth + 1);
    JS_FreeValue(ctx, element);
  }
  JS_FreeValue(ctx, pairs);
  return result ? -1 : 0;
}

static int put_extension(JSContext *ctx, writer *w, JSValueConst value) {
  int32_t type = 0;
  JSValue property = JS_GetPropertyStr(ctx, value, "type");
  int result = JS_IsException(property) || JS_ToInt32(ctx, &type, property);
  JS_FreeValue(ctx, property);
  if (result) return -1;
  property = JS_GetPropertyStr(ctx, value, "data");
  bytes_of b;
  result = JS_IsException(property) || bytes_begin(ctx, &b, property);
  if (!result) {
    uint8_t t = (uint8_t)type;
    int n = 0;
    while (n < 5 && b.length != (1u << n)) n++;
    if (n < 5) result = put(ctx, w, (uint8_t)(0xd4 + n), t, 1);
    else result = put_length(ctx, w, b.length, 0, 0, 0xc7, 0xc8) || writer_add(ctx, w, &t, 1);
    result = result || writer_add(ctx, w, b.bytes, b.length);
    bytes_end(ctx, &b);
  }
  JS_FreeValue(ctx, property);
  return result ? -1 : 0;
}

static int put_object(JSContext *ctx, writer *w, JSValueConst value, int depth) {
  JSPropertyEnum *names = NULL;
  uint32_t count = 0, present = 0;
  if (JS_GetOwnPropertyNames(ctx, &names, &count, value, JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY)) return -1;
  int result = 0;
  /* A property that is undefined is missing. The number of those that are there goes in front. */
  for (uint32_t i = 0; !result && i < count; i++) {
    JSValue v = JS_GetProperty(ctx, value, names[i].atom);
    if (JS_IsException(v)) result = -1;
    present += !JS_IsUndefined(v);
    JS_FreeValue(ctx, v);
  }
  result = result || put_length(ctx, w, present, 0x80, 16, 0, 0xde);
  for (uint32_t i = 0; !result && i < count; i++) {
    JSValue v = JS_GetProperty(ctx, value, names[i].atom);
    if (JS_IsException(v)) {
      result = -1;
    } else if (JS_IsFunction(ctx, v) || JS_IsSymbol(v)) {
      const char *name = JS_AtomToCString(ctx, names[i].atom);
      JS_ThrowTypeError(ctx, "cannot encode the property `%s`: it is a %s", name ? name : "?",
                        JS_IsSymbol(v) ? "symbol" : "function");
      JS_FreeCString(ctx, name);
      result = -1;
    } else if (!JS_IsUndefined(v) && present--) {
      size_t length;
      const char *name = JS_AtomToCStringLen(ctx, &length, names[i].atom);
      result = !name || put_text(ctx, w, name, length) || put_value(ctx, w, v, depth + 1);
      JS_FreeCString(ctx, name);
    }
    JS_FreeValue(ctx, v);
  }
  /* A getter that answered otherwise the second time. */
  if (!result && present) {
    JS_ThrowTypeError(ctx, "cannot encode an object that changes meanwhile");
    result = -1;
  }
  JS_FreePropertyEnum(ctx, names, count);
  return result ? -1 : 0;
}

static int put_value(JSContext *ctx, writer *w, JSValueConst value, int depth) {
  const char *why = NULL;
  if (JS_IsUndefined(value) || JS_IsNull(value)) return put(ctx, w, 0xc0, 0, 0);
  if (JS_IsBool(value)) return put(ctx, w, JS_VALUE_GET_BOOL(value) ? 0xc3 : 0xc2, 0, 0);
  if (JS_IsNumber(value)) return put_number(ctx, w, value);
  if (JS_IsString(value)) return put_string(ctx, w, value);
  if (JS_IsBigInt(value)) return put_big(ctx, w, value);
  if (depth > MAX_DEPTH) why = "a value that is nested deeper than 100, or contains itself";
  else if (JS_IsSymbol(value)) why = "a symbol";
  else if (JS_IsFunction(ctx, value)) why = "a function";
  else if (JS_IsPromise(value)) why = "a promise: await it first";
  else if (JS_IsSet(value)) why = "a Set: make it an array";
  else if (JS_IsDate(value)) why = "a Date: make it a number or a string";
  if (why) {
    JS_ThrowTypeError(ctx, "cannot encode %s", why);
    return -1;
  }
  if (JS_IsArray(value)) return put_array(ctx, w, value, depth);
  int type = JS_GetTypedArrayType(value);
  if (type == JS_TYPED_ARRAY_UINT8 || type == JS_TYPED_ARRAY_UINT8C || JS_IsArrayBuffer(value))
    return put_bytes(ctx, w, value);
  if (type >= 0 || JS_IsDataView(value)) {
    JS_ThrowTypeError(ctx, "cannot encode a typed array but Uint8Array: make it an array");
    return -1;
  }
  if (JS_IsMap(value)) return put_map(ctx, w, value, depth);
  if (JS_IsInstanceOf(ctx, value, extension_class) == 1) return put_extension(ctx, w, value);
  return put_object(ctx, w, value, depth);
}

int codec_encode(JSContext *ctx, writer *w, JSValueConst value) { return put_value(ctx, w, value, 0); }

/* ---- decode ---- */

typedef struct {
  JSContext *ctx;
  const uint8_t *start, *at, *end;
} reader;

static JSValue bad(reader *r, const char *what) {
  return JS_ThrowPlainError(r->ctx, "not MessagePack: %s at byte %u", what, (unsigned)(r->at - r->start));
}

static size_t left(reader *r) { return (size_t)(r->end - r->at); }

/* A number of `size` bytes, the highest first; the caller has checked that they are there. */
static uint64_t number(reader *r, int size) {
  uint64_t v = 0;
  for (int i = 0; i < size; i++) v = v << 8 | *r->at++;
  return v;
}

static JSValue text(reader *r, size_t length) {
  if (length > left(r)) return bad(r, "a text is cut off");
  JSValue v = JS_NewStringLen(r->ctx, (const char *)r->at, length);
  r->at += length;
  return v;
}

static JSValue binary(reader *r, size_t length) {
  if (length > left(r)) return bad(r, "a binary is cut off");
  JSValue v = JS_NewUint8ArrayCopy(r->ctx, r->at, length);
  r->at += length;
  return v;
}

static JSValue extension(reader *r, size_t length) {
  if (length >= left(r)) return bad(r, "an extension is cut off");
  JSValue arguments[2] = {JS_NewInt32(r->ctx, (int8_t)*r->at++), binary(r, length)};
  if (JS_IsException(arguments[1])) return JS_EXCEPTION;
  JSValue v = JS_CallConstructor(r->ctx, extension_class, 2, (JSValueConst *)arguments);
  JS_FreeValue(r->ctx, arguments[1]);
  return v;
}

static JSValue signed_number(reader *r, int64_t v) {
  if (v > MAX_SAFE || v < -MAX_SAFE) return JS_NewBigInt64(r->ctx, v);
  return JS_NewInt64(r->ctx, v);
}

static JSValue unsigned_number(reader *r, uint64_t v) {
  return v > MAX_SAFE ? JS_NewBigUint64(r->ctx, v) : JS_NewInt64(r->ctx, (int64_t)v);
}

static JSValue value(reader *r, int depth);

static JSValue array(reader *r, size_t length, int depth) {
  if (length > left(r)) return bad(r, "an array is cut off");
  if (depth > MAX_DEPTH) return bad(r, "nested deeper than 100");
  JSValue v = JS_NewArray(r->ctx);
  if (JS_IsException(v)) return v;
  for (size_t i = 0; i < length; i++) {
    JSValue element = value(r, depth + 1);
    if (JS_IsException(element) ||
        JS_DefinePropertyValueUint32(r->ctx, v, (uint32_t)i, element, JS_PROP_C_W_E) < 0) {
      JS_FreeValue(r->ctx, v);
      return JS_EXCEPTION;
    }
  }
  return v;
}

/* Of a map whose keys are not all texts: keys and values in turn, from which a Map is made.
   `so_far` is the object of those before. */
static JSValue map(reader *r, JSValue so_far, size_t rest, int depth) {
  JSContext *ctx = r->ctx;
  JSPropertyEnum *names = NULL;
  uint32_t count = 0, n = 0;
  JSValue pairs = JS_NewArray(ctx);
  int failed = JS_IsException(pairs) ||
               JS_GetOwnPropertyNames(ctx, &names, &count, so_far, JS_GPN_STRING_MASK);
  for (uint32_t i = 0; !failed && i < count; i++) {
    JSValue key = JS_AtomToString(ctx, names[i].atom);
    failed = JS_IsException(key) || JS_DefinePropertyValueUint32(ctx, pairs, n++, key, JS_PROP_C_W_E) < 0;
    JSValue v = failed ? JS_EXCEPTION : JS_GetProperty(ctx, so_far, names[i].atom);
    failed = JS_IsException(v) || JS_DefinePropertyValueUint32(ctx, pairs, n++, v, JS_PROP_C_W_E) < 0;
  }
  JS_FreePropertyEnum(ctx, names, count);
  JS_FreeValue(ctx, so_far);
  for (size_t i = 0; !failed && i < 2 * rest; i++) {
    JSValue v = value(r, depth + 1);
    failed = JS_IsException(v) || JS_DefinePropertyValueUint32(ctx, pairs, n++, v, JS_PROP_C_W_E) < 0;
  }
  JSValue result = failed ? JS_EXCEPTION : JS_Call(ctx, entries_of_map, JS_UNDEFINED, 1, (JSValueConst *)&pairs);
  JS_FreeValue(ctx, pairs);
  return result;
}

static int is_text(uint8_t b) { return (b & 0xe0) == 0xa0 || (b >= 0xd9 && b <= 0xdb); }

static JSValue object(reader *r, size_t length, int depth) {
  if (length > left(r) / 2) return bad(r, "a map is cut off");
  if (depth > MAX_DEPTH) return bad(r, "nested deeper than 100");
  JSContext *ctx = r->ctx;
  JSValue v = JS_NewObject(ctx);
  for (size_t i = 0; i < length && !JS_IsException(v); i++) {
    if (left(r) && !is_text(*r->at)) return map(r, v, length - i, depth);
    JSValue key = value(r, depth + 1), element = JS_EXCEPTION;
    JSAtom name = JS_ATOM_NULL;
    if (!JS_IsException(key)) name = JS_ValueToAtom(ctx, key);
    JS_FreeValue(ctx, key);
    if (name != JS_ATOM_NULL) element = value(r, depth + 1);
    /* Defined and not set: `__proto__` is a key like any other. */
    if (JS_IsException(element) || JS_DefinePropertyValue(ctx, v, name, element, JS_PROP_C_W_E) < 0) {
      JS_FreeValue(ctx, v);
      v = JS_EXCEPTION;
    }
    if (name != JS_ATOM_NULL) JS_FreeAtom(ctx, name);
  }
  return v;
}

/* What the first byte says. `size` is that of the number behind it: a length, or the value. */
typedef struct {
  enum { NIL, FALSE_, TRUE_, SIGNED, UNSIGNED, FLOAT32, FLOAT64, TEXT, BINARY, ARRAY, MAP, EXTENSION, NONE } what;
  int size;
  uint64_t fixed;
} form;

static form form_of(uint8_t b) {
  static const uint8_t table[32] = {
      /* c0 */ NIL, NONE, FALSE_, TRUE_, BINARY, BINARY, BINARY, EXTENSION, EXTENSION, EXTENSION, FLOAT32, FLOAT64,
      /* cc */ UNSIGNED, UNSIGNED, UNSIGNED, UNSIGNED, SIGNED, SIGNED, SIGNED, SIGNED,
      /* d4 */ EXTENSION, EXTENSION, EXTENSION, EXTENSION, EXTENSION, TEXT, TEXT, TEXT, ARRAY, ARRAY, MAP, MAP};
  static const uint8_t table_of_sizes[32] = {0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8,
                                             1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
  if (b < 0x80) return (form){UNSIGNED, 0, b};
  if (b < 0x90) return (form){MAP, 0, b & 15};
  if (b < 0xa0) return (form){ARRAY, 0, b & 15};
  if (b < 0xc0) return (form){TEXT, 0, b & 31};
  if (b >= 0xe0) return (form){SIGNED, 0, (uint64_t)(int64_t)(int8_t)b};
  form f = {table[b - 0xc0], table_of_sizes[b - 0xc0], 0};
  if (b >= 0xd4 && b <= 0xd8) f.fixed = 1u << (b - 0xd4);
  return f;
}

static JSValue value(reader *r, int depth) {
  if (!left(r)) return bad(r, "it is cut off");
  form f = form_of(*r->at);
  if (f.what == NONE) return bad(r, "an unknown form");
  r->at++;
  if (left(r) < (size_t)f.size) return bad(r, "a number is cut off");
  uint64_t n = f.size ? number(r, f.size) : f.fixed;
  switch (f.what) {
  case NIL: return JS_NULL;
  case FALSE_: return JS_FALSE;
  case TRUE_: return JS_TRUE;
  case UNSIGNED: return unsigned_number(r, n);
  case SIGNED:
    if (f.size) n = (uint64_t)((int64_t)(n << (64 - 8 * f.size)) >> (64 - 8 * f.size));
    return signed_number(r, (int64_t)n);
  case FLOAT32: {
    uint32_t bits = (uint32_t)n;
    float v;
    memcpy(&v, &bits, 4);
    return JS_NewFloat64(r->ctx, v);
  }
  case FLOAT64: {
    double v;
    memcpy(&v, &n, 8);
    return JS_NewFloat64(r->ctx, v);
  }
  case TEXT: return text(r, (size_t)n);
  case BINARY: return binary(r, (size_t)n);
  case ARRAY: return array(r, (size_t)n, depth);
  case MAP: return object(r, (size_t)n, depth);
  default: return extension(r, (size_t)n);
  }
}

JSValue codec_decode(JSContext *ctx, const uint8_t *bytes, size_t length, size_t *used) {
  reader r = {ctx, bytes, bytes, bytes + length};
  JSValue v = value(&r, 0);
  if (used) {
    *used = (size_t)(r.at - r.start);
  } else if (left(&r) && !JS_IsException(v)) {
    JS_FreeValue(ctx, v);
    return bad(&r, "more bytes");
  }
  return v;
}
