/*
 * MessagePack: a reader that stays inside what it was given, and a writer that grows.
 *
 * Both keep their first error: a caller reads or writes everything, and looks once at the end. After an error the reader returns zeroes and empty
 * texts, and the writer writes nothing. Nothing here recurses, so nested input costs no stack.
 */

#include <stdlib.h>
#include <string.h>

#include "../include/exuvia.h"

/** A writer's first allocation. Most messages fit. */
#define FIRST_CAPACITY 64

static const char truncated[] = "ends too early";

/* The reader */

static void fail_reader(exuvia_reader *reader, const char *error) {
    if (!reader->error) reader->error = error;
    reader->at = reader->end;
}

exuvia_reader exuvia_reader_of(exuvia_value value) {
    /* Also for no value: there is nothing to read then. */
    const uint8_t *at = value.at ? value.at : (const uint8_t *)"";
    return (exuvia_reader){at, at + value.length, NULL};
}

size_t exuvia_left(const exuvia_reader *reader) {
    return (size_t)(reader->end - reader->at);
}

static uint64_t big_endian(const uint8_t *at, unsigned bytes) {
    uint64_t value = 0;
    while (bytes--) value = value << 8 | *at++;
    return value;
}

/** The first byte and the number behind it, of a value that is split into what it is and what it has. */
typedef struct head {
    exuvia_type type;
    /** Bytes of the head. */
    size_t length;
    /** The number; or how many bytes or items follow. */
    uint64_t number;
    /** For EXUVIA_TYPE_EXTENSION. */
    int8_t extension;
    /** EXUVIA_TYPE_INT: whether it is negative. EXUVIA_TYPE_FLOAT: whether it has 32 bits. */
    bool negative, small;
} head;

/** The heads of more than one byte, and those that say all by themselves. */
static __attribute__((noinline)) bool long_head_at(const uint8_t *at, const uint8_t *end, head *out) {
    uint8_t first = *at;
    /* How many bytes hold the number. */
    unsigned width = 0;
    bool with_type = false;
    memset(out, 0, sizeof *out);
    switch (first) {
    case 0xc0: out->type = EXUVIA_TYPE_NIL; break;
    case 0xc2: case 0xc3:
        out->type = EXUVIA_TYPE_BOOL;
        out->number = first & 1;
        break;
    case 0xc4: case 0xc5: case 0xc6:
        out->type = EXUVIA_TYPE_BINARY;
        width = 1u << (first - 0xc4);
        break;
    case 0xc7: case 0xc8: case 0xc9:
        out->type = EXUVIA_TYPE_EXTENSION;
        width = 1u << (first - 0xc7);
        with_type = true;
        break;
    case 0xca: case 0xcb:
        out->type = EXUVIA_TYPE_FLOAT;
        width = 4u << (first - 0xca);
        out->small = first == 0xca;
        break;
    case 0xcc: case 0xcd: case 0xce: case 0xcf:
        out->type = EXUVIA_TYPE_INT;
        width = 1u << (first - 0xcc);
        break;
    case 0xd0: case 0xd1: case 0xd2: case 0xd3:
        out->type = EXUVIA_TYPE_INT;
        width = 1u << (first - 0xd0);
        break;
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8:
        out->type = EXUVIA_TYPE_EXTENSION;
        out->number = (uint64_t)1 << (first - 0xd4);
        with_type = true;
        break;
    case 0xd9: case 0xda: case 0xdb:
        out->type = EXUVIA_TYPE_TEXT;
        width = 1u << (first - 0xd9);
        break;
    case 0xdc: case 0xdd:
        out->type = EXUVIA_TYPE_ARRAY;
        width = 2u << (first - 0xdc);
        break;
    case 0xde: case 0xdf:
        out->type = EXUVIA_TYPE_MAP;
        width = 2u << (first - 0xde);
        break;
    default: return false; /* 0xc1 is never used. */
    }
    out->length = 1 + width + with_type;
    if ((size_t)(end - at) < out->length) return false;
    if (width) out->number = big_endian(at + 1, width);
    if (first >= 0xd0 && first <= 0xd3) {
        unsigned shift = 64 - 8 * width;
        out->number = (uint64_t)((int64_t)(out->number << shift) >> shift);
        out->negative = (int64_t)out->number < 0;
    }
    if (with_type) out->extension = (int8_t)at[out->length - 1];
    return true;
}

/** Reads a head. Most are one byte, and are read where they are needed. */
static inline bool head_at(const uint8_t *at, const uint8_t *end, head *out) {
    if (at >= end) return false;
    uint8_t first = *at;
    if (first >= 0xc0 && first < 0xe0) return long_head_at(at, end, out);
    out->length = 1;
    out->extension = 0;
    out->small = false;
    out->negative = first >= 0xe0;
    if (first <= 0x7f || first >= 0xe0) {
        out->type = EXUVIA_TYPE_INT;
        out->number = (uint64_t)(int64_t)(int8_t)first;
    } else if (first <= 0x9f) {
        out->type = first <= 0x8f ? EXUVIA_TYPE_MAP : EXUVIA_TYPE_ARRAY;
        out->number = first & 15;
    } else {
        out->type = EXUVIA_TYPE_TEXT;
        out->number = first & 31;
    }
    return true;
}

/** Whether bytes, and no further values, follow the head. */
static bool has_bytes(exuvia_type type) {
    return type == EXUVIA_TYPE_TEXT || type == EXUVIA_TYPE_BINARY || type == EXUVIA_TYPE_EXTENSION;
}

exuvia_type exuvia_peek(const exuvia_reader *reader) {
    head h;
    return head_at(reader->at, reader->end, &h) ? h.type : EXUVIA_TYPE_NONE;
}

/** Takes a head of this type and, if it has bytes, these. */
static bool take_head(exuvia_reader *reader, exuvia_type type, const char *error, head *h, const uint8_t **bytes) {
    if (!head_at(reader->at, reader->end, h)) {
        fail_reader(reader, truncated);
        return false;
    }
    if (h->type != type) {
        fail_reader(reader, error);
        return false;
    }
    size_t follow = (size_t)(reader->end - reader->at) - h->length;
    /* An item has a byte at least: no caller loops longer than the payload is. */
    uint64_t least = has_bytes(type) || type == EXUVIA_TYPE_ARRAY ? h->number : type == EXUVIA_TYPE_MAP ? h->number * 2 : 0;
    if (follow < least) {
        fail_reader(reader, truncated);
        return false;
    }
    reader->at += h->length;
    if (has_bytes(type)) {
        *bytes = reader->at;
        reader->at += h->number;
    }
    return true;
}

void exuvia_read_nil(exuvia_reader *reader) {
    head h;
    take_head(reader, EXUVIA_TYPE_NIL, "is not nil", &h, NULL);
}

bool exuvia_read_bool(exuvia_reader *reader) {
    head h;
    return take_head(reader, EXUVIA_TYPE_BOOL, "is not a boolean", &h, NULL) && h.number;
}

int64_t exuvia_read_int(exuvia_reader *reader) {
    head h;
    if (!take_head(reader, EXUVIA_TYPE_INT, "is not an integer", &h, NULL)) return 0;
    if (!h.negative && h.number > INT64_MAX) {
        fail_reader(reader, "is too large for 64 bits with a sign");
        return 0;
    }
    return (int64_t)h.number;
}

uint64_t exuvia_read_uint(exuvia_reader *reader) {
    head h;
    if (!take_head(reader, EXUVIA_TYPE_INT, "is not an integer", &h, NULL)) return 0;
    if (h.negative) {
        fail_reader(reader, "is negative");
        return 0;
    }
    return h.number;
}

double exuvia_read_float(exuvia_reader *reader) {
    head h;
    if (exuvia_peek(reader) == EXUVIA_TYPE_INT) {
        take_head(reader, EXUVIA_TYPE_INT, NULL, &h, NULL);
        return h.negative ? (double)(int64_t)h.number : (double)h.number;
    }
    if (!take_head(reader, EXUVIA_TYPE_FLOAT, "is not a number", &h, NULL)) return 0;
    if (h.small) {
        uint32_t bits = (uint32_t)h.number;
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    double value;
    memcpy(&value, &h.number, sizeof value);
    return value;
}

exuvia_text exuvia_read_text(exuvia_reader *reader) {
    head h;
    const uint8_t *bytes;
    if (!take_head(reader, EXUVIA_TYPE_TEXT, "is not a text", &h, &bytes)) return (exuvia_text){"", 0};
    return (exuvia_text){(const char *)bytes, (size_t)h.number};
}

exuvia_bytes exuvia_read_bytes(exuvia_reader *reader) {
    head h;
    const uint8_t *bytes;
    if (exuvia_peek(reader) == EXUVIA_TYPE_TEXT) {
        exuvia_text text = exuvia_read_text(reader);
        return (exuvia_bytes){(const uint8_t *)text.at, text.length};
    }
    if (!take_head(reader, EXUVIA_TYPE_BINARY, "is not a binary", &h, &bytes)) return (exuvia_bytes){(const uint8_t *)"", 0};
    return (exuvia_bytes){bytes, (size_t)h.number};
}

exuvia_bytes exuvia_read_extension(exuvia_reader *reader, int8_t *type) {
    head h;
    const uint8_t *bytes;
    if (!take_head(reader, EXUVIA_TYPE_EXTENSION, "is not an extension", &h, &bytes)) {
        *type = 0;
        return (exuvia_bytes){(const uint8_t *)"", 0};
    }
    *type = h.extension;
    return (exuvia_bytes){bytes, (size_t)h.number};
}

exuvia_pid exuvia_read_pid(exuvia_reader *reader) {
    exuvia_pid pid = {0, 0};
    uint8_t bytes[sizeof pid];
    exuvia_type type = exuvia_peek(reader);
    if (type == EXUVIA_TYPE_BINARY) {
        exuvia_bytes binary = exuvia_read_bytes(reader);
        if (binary.length == sizeof pid) memcpy(&pid, binary.at, sizeof pid);
        else fail_reader(reader, "is not a pid: that is a binary of 16 bytes");
        return pid;
    }
    /* What JSON has instead of a binary. */
    if (type != EXUVIA_TYPE_ARRAY || exuvia_read_array(reader) != sizeof pid) {
        fail_reader(reader, "is not a pid: that is a binary of 16 bytes");
        return pid;
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        uint64_t byte = exuvia_read_uint(reader);
        if (byte > UINT8_MAX) fail_reader(reader, "is not a pid: a byte of it is above 255");
        bytes[i] = (uint8_t)byte;
    }
    if (!reader->error) memcpy(&pid, bytes, sizeof pid);
    return pid;
}

uint32_t exuvia_read_array(exuvia_reader *reader) {
    head h;
    return take_head(reader, EXUVIA_TYPE_ARRAY, "is not an array", &h, NULL) ? (uint32_t)h.number : 0;
}

uint32_t exuvia_read_map(exuvia_reader *reader) {
    head h;
    return take_head(reader, EXUVIA_TYPE_MAP, "is not a map", &h, NULL) ? (uint32_t)h.number : 0;
}

exuvia_value exuvia_read_value(exuvia_reader *reader) {
    const uint8_t *at = reader->at;
    /* Values that are still to come. No more than there are bytes, so it cannot overflow. */
    uint64_t wanted = 1;
    while (wanted) {
        head h;
        if (!head_at(at, reader->end, &h)) {
            fail_reader(reader, at < reader->end && *at == 0xc1 ? "is no MessagePack: it has the byte 0xc1" : truncated);
            return (exuvia_value){NULL, 0};
        }
        at += h.length;
        wanted--;
        size_t left = (size_t)(reader->end - at);
        if (has_bytes(h.type)) {
            if (h.number > left) {
                fail_reader(reader, truncated);
                return (exuvia_value){NULL, 0};
            }
            at += h.number;
            left -= (size_t)h.number;
        } else if (h.type == EXUVIA_TYPE_ARRAY) {
            wanted += h.number;
        } else if (h.type == EXUVIA_TYPE_MAP) {
            wanted += h.number * 2;
        }
        if (wanted > left) {
            fail_reader(reader, truncated);
            return (exuvia_value){NULL, 0};
        }
    }
    exuvia_value value = {reader->at, (size_t)(at - reader->at)};
    reader->at = at;
    return value;
}

void exuvia_skip(exuvia_reader *reader) {
    exuvia_read_value(reader);
}

exuvia_type exuvia_type_of(exuvia_value value) {
    exuvia_reader reader = exuvia_reader_of(value);
    return exuvia_peek(&reader);
}

exuvia_value exuvia_field(exuvia_value map, const char *key) {
    exuvia_reader reader = exuvia_reader_of(map);
    size_t length = strlen(key);
    if (exuvia_peek(&reader) != EXUVIA_TYPE_MAP) return (exuvia_value){NULL, 0};
    for (uint32_t left = exuvia_read_map(&reader); left && !reader.error; left--) {
        bool found = false;
        if (exuvia_peek(&reader) == EXUVIA_TYPE_TEXT) {
            exuvia_text name = exuvia_read_text(&reader);
            found = name.length == length && memcmp(name.at, key, length) == 0;
        } else {
            exuvia_skip(&reader);
        }
        exuvia_value value = exuvia_read_value(&reader);
        if (found && !reader.error) return value;
    }
    return (exuvia_value){NULL, 0};
}

bool exuvia_text_is(exuvia_text text, const char *other) {
    return text.length == strlen(other) && memcmp(text.at, other, text.length) == 0;
}

char *exuvia_text_copy(exuvia_text text) {
    char *copy = malloc(text.length + 1);
    if (!copy) return NULL;
    memcpy(copy, text.at, text.length);
    copy[text.length] = 0;
    return copy;
}

/* The writer */

exuvia_writer exuvia_writer_new(void) {
    return (exuvia_writer){NULL, 0, 0, false, NULL};
}

exuvia_writer exuvia_writer_into(void *buffer, size_t capacity) {
    return (exuvia_writer){buffer, 0, capacity, true, NULL};
}

void exuvia_writer_free(exuvia_writer *writer) {
    if (!writer->fixed) free(writer->data);
    *writer = exuvia_writer_new();
}

static bool reserve(exuvia_writer *writer, size_t more) {
    if (writer->error) return false;
    if (more <= writer->capacity - writer->length) return true;
    if (writer->fixed) {
        writer->error = "the buffer is too small";
        return false;
    }
    size_t needed = writer->length + more, capacity = writer->capacity ? writer->capacity : FIRST_CAPACITY;
    while (capacity < needed && capacity <= SIZE_MAX / 2) capacity *= 2;
    uint8_t *data = needed < more || capacity < needed ? NULL : realloc(writer->data, capacity);
    /* Rather the exact size than nothing, near the limit of memory. */
    if (!data && needed >= more) data = realloc(writer->data, capacity = needed);
    if (!data) {
        writer->error = "there is not enough memory to write it";
        return false;
    }
    writer->data = data;
    writer->capacity = capacity;
    return true;
}

static void write_number(exuvia_writer *writer, uint8_t first, uint64_t number, unsigned bytes) {
    if (!reserve(writer, 1 + bytes)) return;
    uint8_t *at = writer->data + writer->length;
    *at++ = first;
    for (unsigned i = bytes; i--;) *at++ = (uint8_t)(number >> (8 * i));
    writer->length += 1 + bytes;
}

void exuvia_write_raw(exuvia_writer *writer, const void *bytes, size_t length) {
    if (length == 0 || !reserve(writer, length)) return;
    memcpy(writer->data + writer->length, bytes, length);
    writer->length += length;
}

void exuvia_write_nil(exuvia_writer *writer) {
    write_number(writer, 0xc0, 0, 0);
}

void exuvia_write_bool(exuvia_writer *writer, bool value) {
    write_number(writer, value ? 0xc3 : 0xc2, 0, 0);
}

void exuvia_write_uint(exuvia_writer *writer, uint64_t value) {
    if (value <= 0x7f) write_number(writer, (uint8_t)value, 0, 0);
    else if (value <= UINT8_MAX) write_number(writer, 0xcc, value, 1);
    else if (value <= UINT16_MAX) write_number(writer, 0xcd, value, 2);
    else if (value <= UINT32_MAX) write_number(writer, 0xce, value, 4);
    else write_number(writer, 0xcf, value, 8);
}

void exuvia_write_int(exuvia_writer *writer, int64_t value) {
    if (value >= 0) exuvia_write_uint(writer, (uint64_t)value);
    else if (value >= -32) write_number(writer, (uint8_t)value, 0, 0);
    else if (value >= INT8_MIN) write_number(writer, 0xd0, (uint64_t)value, 1);
    else if (value >= INT16_MIN) write_number(writer, 0xd1, (uint64_t)value, 2);
    else if (value >= INT32_MIN) write_number(writer, 0xd2, (uint64_t)value, 4);
    else write_number(writer, 0xd3, (uint64_t)value, 8);
}

void exuvia_write_float(exuvia_writer *writer, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    write_number(writer, 0xcb, bits, 8);
}

/** The head of something with a length, where no short form has been written. */
static void write_length(exuvia_writer *writer, size_t length, uint8_t of_8, uint8_t of_16, uint8_t of_32) {
    if (length > UINT32_MAX) {
        if (!writer->error) writer->error = "it has more than 4 GiB";
    } else if (of_8 && length <= UINT8_MAX) {
        write_number(writer, of_8, length, 1);
    } else if (length <= UINT16_MAX) {
        write_number(writer, of_16, length, 2);
    } else {
        write_number(writer, of_32, length, 4);
    }
}

void exuvia_write_text_n(exuvia_writer *writer, const char *text, size_t length) {
    if (length <= 31) write_number(writer, (uint8_t)(0xa0 | length), 0, 0);
    else write_length(writer, length, 0xd9, 0xda, 0xdb);
    exuvia_write_raw(writer, text, length);
}

void exuvia_write_text(exuvia_writer *writer, const char *text) {
    exuvia_write_text_n(writer, text, strlen(text));
}

void exuvia_write_bytes(exuvia_writer *writer, const void *bytes, size_t length) {
    write_length(writer, length, 0xc4, 0xc5, 0xc6);
    exuvia_write_raw(writer, bytes, length);
}

void exuvia_write_extension(exuvia_writer *writer, int8_t type, const void *bytes, size_t length) {
    write_length(writer, length, 0xc7, 0xc8, 0xc9);
    exuvia_write_raw(writer, &type, 1);
    exuvia_write_raw(writer, bytes, length);
}

void exuvia_write_pid(exuvia_writer *writer, exuvia_pid pid) {
    exuvia_write_bytes(writer, &pid, sizeof pid);
}

void exuvia_write_array(exuvia_writer *writer, uint32_t items) {
    if (items <= 15) write_number(writer, (uint8_t)(0x90 | items), 0, 0);
    else write_length(writer, items, 0, 0xdc, 0xdd);
}

void exuvia_write_map(exuvia_writer *writer, uint32_t pairs) {
    if (pairs <= 15) write_number(writer, (uint8_t)(0x80 | pairs), 0, 0);
    else write_length(writer, pairs, 0, 0xde, 0xdf);
}

void exuvia_write_value(exuvia_writer *writer, exuvia_value value) {
    if (value.at) exuvia_write_raw(writer, value.at, value.length);
    else exuvia_write_nil(writer);
}

const char *exuvia_writer_check(const exuvia_writer *writer) {
    if (writer->error) return writer->error;
    exuvia_reader reader = exuvia_reader_of((exuvia_value){writer->data, writer->length});
    exuvia_skip(&reader);
    if (reader.error) return "what was written is incomplete: an array or a map has fewer items than it was begun with";
    if (exuvia_left(&reader)) return "more was written than one value: an array or a map has more items than it was begun with";
    return NULL;
}
