/* MessagePack to JavaScript values and back. */
#ifndef EXUVIA_CODEC_H
#define EXUVIA_CODEC_H

#include "quickjs.h"
#include <stddef.h>
#include <stdint.h>

/* Bytes that are written: on the stack of the caller while they fit. */
typedef struct {
  uint8_t *bytes;
  size_t length;
  size_t capacity;
  uint8_t here[512];
} writer;

void writer_begin(writer *);
/* 0, or -1 with an exception: out of memory. */
int writer_add(JSContext *, writer *, const void *, size_t);
void writer_end(writer *);

/* What the script has given by `codec`: classes, and a function for maps. */
extern JSValue extension_class, entries_of_map;

/* 0, or -1 with an exception that says what cannot be encoded. */
int codec_encode(JSContext *, writer *, JSValueConst);
/* One value from the front of the bytes. `used`, if it is given, gets how many it took; without
   it they must be all. JS_EXCEPTION: they are no MessagePack, or there is no memory. */
JSValue codec_decode(JSContext *, const uint8_t *, size_t length, size_t *used);

/* A Uint8Array's, an ArrayBuffer's or a string's bytes. Call `bytes_end` in any case. */
typedef struct {
  const uint8_t *bytes;
  size_t length;
  const char *text;
} bytes_of;
/* 0, or -1 with an exception. */
int bytes_begin(JSContext *, bytes_of *, JSValueConst);
void bytes_end(JSContext *, bytes_of *);

#endif
