/*
 * The SDK on this machine, against a host of a few lines: MessagePack both ways and with random, truncated and huge input, the loop, and the heap
 * against a naive model. test.sh compiles it with the sanitizers.
 */
#include <exuvia.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks;
#define CHECK(condition) \
    do { \
        checks++; \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

/* A generator, so that a failure can be repeated. */
static uint64_t seed = 88172645463325252ull;
static uint64_t next(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* The host */

typedef struct header {
    uint32_t size, kind;
    exuvia_pid sender;
    uint64_t reference;
    uint32_t tag, length;
    int32_t reason;
    uint32_t offset;
} header;

static struct {
    header head;
    uint8_t payload[70000];
} box[16];
static size_t box_first, box_count;
static char logged[300], refused[300];
static uint8_t replied[70000];
static size_t replied_length;
static uint32_t replied_tag;
static int replies, acknowledged;
/* The most bytes of a message. */
static uint32_t message_limit = sizeof replied;
static uint8_t state[4096];
static size_t state_length;

static void deliver(uint32_t kind, uint32_t tag, const void *payload, size_t length) {
    header h = {.size = 48, .kind = kind, .sender = {7, 8}, .reference = 9, .tag = tag, .length = (uint32_t)length};
    box[box_count].head = h;
    memcpy(box[box_count++].payload, payload, length);
}

int32_t exuvia_host_receive(void *at, void *buffer, uint32_t capacity, int64_t timeout, int32_t mode, int64_t key) {
    (void)timeout, (void)key;
    if (box_first == box_count) {
        box_first = box_count = 0;
        return EXUVIA_EMPTY;
    }
    memcpy(at, &box[box_first].head, sizeof(header));
    uint32_t length = box[box_first].head.length;
    if (length > capacity && !(mode & EXUVIA_RECEIVE_TRUNCATE)) return EXUVIA_TOO_BIG;
    memcpy(buffer, box[box_first].payload, length < capacity ? length : capacity);
    box_first++;
    return EXUVIA_OK;
}

int32_t exuvia_host_reply(const void *to, int64_t reference, uint32_t tag, const void *data, uint32_t length) {
    CHECK(((const exuvia_pid *)to)->process == 8 && reference == 9);
    if (length > message_limit) return EXUVIA_MESSAGE_TOO_LARGE;
    if (length) memcpy(replied, data, length);
    if (tag == EXUVIA_TAG_REFUSED) snprintf(refused, sizeof refused, "%.*s", (int)length, (const char *)data);
    replied_length = length;
    replied_tag = tag;
    replies++;
    return EXUVIA_OK;
}

int32_t exuvia_host_log(int32_t level, const void *text, uint32_t length) {
    (void)level;
    snprintf(logged, sizeof logged, "%.*s", (int)length, (const char *)text);
    return EXUVIA_OK;
}

int32_t exuvia_host_init_ack(int32_t status, const void *text, uint32_t length) {
    if (status) snprintf(refused, sizeof refused, "%.*s", (int)length, (const char *)text);
    acknowledged = status ? -1 : 1;
    return EXUVIA_OK;
}

int32_t exuvia_host_state_put(const void *data, uint32_t length) {
    memcpy(state, data, length);
    state_length = length;
    return EXUVIA_OK;
}

int32_t exuvia_host_state_get(void *buffer, uint32_t capacity) {
    CHECK(capacity >= state_length);
    memcpy(buffer, state, state_length);
    return (int32_t)state_length;
}

/* An actor */

static int64_t count;

static void init(exuvia_message *m) {
    count = exuvia_has(m, "start") ? exuvia_get_int(m, "start") : 0;
}
static void add(exuvia_message *m) {
    int64_t by = exuvia_get_int(m, "by");
    if (exuvia_ok(m)) count += by;
}
static void get(exuvia_message *m) {
    exuvia_reply_int(m, count);
}
static void echo(exuvia_message *m) {
    exuvia_value value = exuvia_get(m, "value");
    if (exuvia_ok(m)) exuvia_reply_value(m, value);
}
static void length(exuvia_message *m) {
    exuvia_bytes bytes = exuvia_get_bytes(m, "bytes");
    if (exuvia_ok(m)) exuvia_reply_int(m, (int64_t)bytes.length + (bytes.length ? bytes.at[bytes.length - 1] : 0));
}
static void silent(exuvia_message *m) {
    (void)m;
}
static void save(exuvia_writer *w) {
    exuvia_write_map(w, 1);
    exuvia_put_int(w, "count", count);
}
static void load(exuvia_message *m, int32_t schema) {
    if (schema != 1) exuvia_refuse(m, "schema %d is unknown", (int)schema);
    else count = exuvia_get_int(m, "count");
}
static const exuvia_entry messages[] = {{"Add", add}, {0}};
static const exuvia_entry requests[] = {{"Get", get}, {"Echo", echo}, {"Length", length}, {"Silent", silent}, {0}};
EXUVIA_ACTOR(.schema = 1, .init = init, .messages = messages, .requests = requests, .save = save, .load = load)
exuvia_run_result exuvia_export_run(void);
int32_t exuvia_export_save(void);
int32_t exuvia_export_load(int32_t, int32_t);

static void ask(exuvia_writer *w) {
    replies = 0;
    refused[0] = 0;
    deliver(EXUVIA_KIND_REQUEST, 0, w->data, w->length);
    exuvia_writer_free(w);
    CHECK(exuvia_export_run() == EXUVIA_REST);
    CHECK(replies == 1);
}

static void test_loop(void) {
    deliver(EXUVIA_KIND_INIT, 0, "\x81\xa5start\x2a", 8);
    CHECK(exuvia_export_run() == EXUVIA_REST && acknowledged == 1 && count == 42);
    exuvia_writer w = exuvia_named("Add", 1);
    exuvia_put_int(&w, "by", -2);
    deliver(EXUVIA_KIND_MESSAGE, 0, w.data, w.length);
    exuvia_writer_free(&w);
    w = exuvia_named("Get", 0);
    ask(&w);
    CHECK(replied_length == 1 && replied[0] == 40 && replied_tag == 0);

    w = exuvia_named("Echo", 0);
    ask(&w);
    CHECK(strcmp(refused, "`Echo`: `value` is missing") == 0);
    w = exuvia_named("Silent", 0);
    ask(&w);
    CHECK(strcmp(refused, "`Silent`: the handler has not replied") == 0);
    w = exuvia_named("Fly", 0);
    ask(&w);
    CHECK(strcmp(refused, "unknown request `Fly`") == 0);
    deliver(EXUVIA_KIND_MESSAGE, 0, "\x81\xa3" "Add\x81\xa2" "by\xa1x", 11);
    exuvia_export_run();
    CHECK(strcmp(logged, "`Add`: `by` is not an integer") == 0);
    static const struct {
        const char *payload;
        size_t length;
        const char *answer;
    } wrong[] = {
        {"\x81", 1, "the payload ends too early"},
        {"\xda", 1, "the payload ends too early"},
        {"\x81\xa4" "Echo", 6, "`Echo`: the payload ends too early"},
        {"\x81\xa4" "Echo\x81\xa5" "value\xc4\x05", 15, "`Echo`: the payload ends too early"},
        {"\xa3" "Get\xc0", 5, "`Get`: the payload has bytes behind its value"},
        {"\x81\xa3" "Get\xc1", 6, "`Get`: the payload is no MessagePack: it has the byte 0xc1"},
        {"\x81\xa3" "Get\xc0\xc0", 7, "`Get`: the payload has bytes behind its value"},
        {"\x82\xa3" "Get\xc0\xa1x\xc0", 9, "the payload is neither a name nor a map with a name as its only key"},
        {"\x81\x05\xc0", 3, "the payload is neither a name nor a map with a name as its only key"},
        {"\x05", 1, "the payload is neither a name nor a map with a name as its only key"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        w = exuvia_writer_new();
        exuvia_write_raw(&w, wrong[i].payload, wrong[i].length);
        ask(&w);
        if (strcmp(refused, wrong[i].answer)) fprintf(stderr, "%s\n", refused);
        CHECK(strcmp(refused, wrong[i].answer) == 0);
    }

    /* More than the stack's buffer holds. */
    static uint8_t big[60000];
    w = exuvia_named("Echo", 1);
    exuvia_put_bytes(&w, "value", big, sizeof big);
    ask(&w);
    CHECK(replied_length == sizeof big + 3 && replied[0] == 0xc5);

    /* More than the host takes: the caller is told. */
    message_limit = 100;
    w = exuvia_named("Echo", 1);
    exuvia_put_bytes(&w, "value", big, 101);
    ask(&w);
    CHECK(replied_tag == EXUVIA_TAG_REFUSED && strcmp(refused, "the reply is larger than a message may be") == 0);
    memset(big, 'x', 101);
    big[101] = 0;
    w = exuvia_named((const char *)big, 0);
    deliver(EXUVIA_KIND_REQUEST, 0, w.data, w.length);
    exuvia_writer_free(&w);
    replies = 0;
    CHECK(exuvia_export_run() == EXUVIA_REST && replies == 1 && replied_tag == EXUVIA_TAG_REFUSED);
    CHECK(exuvia_answer_refuse((exuvia_caller){{7, 8}, 9}, (const char *)big) == EXUVIA_MESSAGE_TOO_LARGE && replies == 2);
    message_limit = sizeof replied;

    /* Bytes as JSON has them. */
    w = exuvia_named("Length", 1);
    exuvia_put_array(&w, "bytes", 2);
    exuvia_write_int(&w, 255);
    exuvia_write_int(&w, 9);
    ask(&w);
    CHECK(replied_length == 1 && replied[0] == 11);
    w = exuvia_named("Length", 1);
    exuvia_put_array(&w, "bytes", 1);
    exuvia_write_int(&w, 256);
    ask(&w);
    CHECK(strcmp(refused, "`Length`: `bytes` has a number above 255, which is no byte") == 0);

    CHECK(exuvia_export_save() == 0);
    count = 0;
    CHECK(exuvia_export_load(1, (int32_t)state_length) == 0 && count == 40);
    CHECK(exuvia_export_load(2, (int32_t)state_length) == 1 && strcmp(logged, "schema 2 is unknown") == 0);
    state_length = 1;
    CHECK(exuvia_export_load(1, 1) == 1);

    deliver(EXUVIA_KIND_INIT, 0, "\x11", 1);
    CHECK(exuvia_export_run() == EXUVIA_DONE && acknowledged == -1 && strcmp(refused, "the parameters are not a map") == 0);
    box_first = box_count = 0;

    /* Whatever arrives, a request gets one reply and nothing traps. */
    for (int i = 0; i < 200000; i++) {
        uint8_t payload[64];
        size_t length = next() % sizeof payload;
        for (size_t at = 0; at < length; at++) payload[at] = (uint8_t)next();
        if (length > 8 && i % 2) memcpy(payload, "\x81\xa4" "Echo\x81\xa5value", length < 13 ? length : 13);
        replies = 0;
        deliver(EXUVIA_KIND_REQUEST, 0, payload, length);
        CHECK(exuvia_export_run() == EXUVIA_REST && replies == 1);
    }
}

/* MessagePack */

static void write_random(exuvia_writer *w, int depth) {
    static const char bytes[70000];
    uint32_t items = (uint32_t)(next() % 20);
    switch (next() % (depth ? 10 : 8)) {
    case 0: exuvia_write_nil(w); break;
    case 1: exuvia_write_bool(w, next() & 1); break;
    case 2: exuvia_write_int(w, (int64_t)next() >> next() % 64); break;
    case 3: exuvia_write_uint(w, next() >> next() % 64); break;
    case 4: exuvia_write_float(w, (double)next()); break;
    case 5: exuvia_write_text_n(w, bytes, next() % (next() % 16 ? 300 : sizeof bytes)); break;
    case 6: exuvia_write_bytes(w, bytes, next() % (next() % 16 ? 300 : sizeof bytes)); break;
    case 7: exuvia_write_extension(w, (int8_t)next(), bytes, next() % 20); break;
    case 8:
        exuvia_write_array(w, items);
        while (items--) write_random(w, depth - 1);
        break;
    case 9:
        exuvia_write_map(w, items);
        for (; items--; write_random(w, depth - 1)) exuvia_write_int(w, items);
        break;
    }
}

/** Reads everything there is, as a caller would. */
static void read_all(exuvia_reader *r) {
    int8_t type;
    for (int i = 0; i < 100 && exuvia_left(r); i++) {
        exuvia_type what = exuvia_peek(r);
        switch (next() % 4 ? (int)what : (int)(next() % 10)) {
        case EXUVIA_TYPE_BOOL: exuvia_read_bool(r); break;
        case EXUVIA_TYPE_INT: exuvia_read_int(r); break;
        case EXUVIA_TYPE_FLOAT: exuvia_read_float(r); break;
        case EXUVIA_TYPE_TEXT: exuvia_field((exuvia_value){r->at, exuvia_left(r)}, "key"); free(exuvia_text_copy(exuvia_read_text(r))); break;
        case EXUVIA_TYPE_BINARY: exuvia_read_pid(r); break;
        case EXUVIA_TYPE_ARRAY: CHECK(exuvia_read_array(r) <= exuvia_left(r)); break;
        case EXUVIA_TYPE_MAP: CHECK(exuvia_read_map(r) <= exuvia_left(r)); break;
        case EXUVIA_TYPE_EXTENSION: exuvia_read_extension(r, &type); break;
        case EXUVIA_TYPE_NIL: exuvia_read_nil(r); break;
        default: exuvia_skip(r);
        }
    }
}

static void test_msgpack(void) {
    static const int64_t numbers[] = {0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, INT64_MAX, -1, -32, -33, -128, -129, -32768, -32769,
        -2147483648ll, -2147483649ll, INT64_MIN};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        uint8_t buffer[9];
        exuvia_writer w = exuvia_writer_into(buffer, sizeof buffer);
        exuvia_write_int(&w, numbers[i]);
        exuvia_reader r = exuvia_reader_of((exuvia_value){w.data, w.length});
        CHECK(!w.error && exuvia_read_int(&r) == numbers[i] && !r.error && !exuvia_left(&r));
        exuvia_writer_into(buffer, w.length - 1);
    }
    exuvia_writer w = exuvia_writer_new();
    exuvia_write_uint(&w, UINT64_MAX);
    exuvia_reader r = exuvia_reader_of((exuvia_value){w.data, w.length});
    CHECK(exuvia_read_int(&r) == 0 && r.error);
    r = exuvia_reader_of((exuvia_value){w.data, w.length});
    CHECK(exuvia_read_uint(&r) == UINT64_MAX && !r.error);
    exuvia_writer_free(&w);

    /* Promises that are not kept are found before anything is sent. */
    w = exuvia_named("Add", 2);
    exuvia_put_int(&w, "by", 1);
    CHECK(exuvia_writer_check(&w));
    exuvia_put_int(&w, "to", 1);
    CHECK(!exuvia_writer_check(&w));
    exuvia_put_int(&w, "too", 1);
    CHECK(exuvia_writer_check(&w));
    exuvia_writer_free(&w);
    uint8_t small[4];
    w = exuvia_writer_into(small, sizeof small);
    exuvia_write_text(&w, "longer");
    CHECK(w.error && w.length <= sizeof small);

    /* Every value survives, and every beginning of one is an error. The block is as long as the text, so that the sanitizer sees one byte more. */
    for (int i = 0; i < 2000; i++) {
        w = exuvia_writer_new();
        write_random(&w, 3);
        CHECK(!exuvia_writer_check(&w));
        for (int cut = 0; cut < 20; cut++) {
            size_t length = next() % w.length;
            uint8_t *exact = malloc(length + 1);
            memcpy(exact + 1, w.data, length);
            r = exuvia_reader_of((exuvia_value){exact + 1, length});
            CHECK(!exuvia_read_value(&r).at && r.error);
            r = exuvia_reader_of((exuvia_value){exact + 1, length});
            read_all(&r);
            free(exact);
        }
        exuvia_writer_free(&w);
    }
    /* Random bytes, and lengths that are far too large. */
    for (int i = 0; i < 500000; i++) {
        size_t length = next() % 40;
        uint8_t *exact = malloc(length + 1);
        for (size_t at = 1; at <= length; at++) exact[at] = next() % 4 ? (uint8_t)next() : (uint8_t)(0xc0 + next() % 32);
        r = exuvia_reader_of((exuvia_value){exact + 1, length});
        exuvia_skip(&r);
        r = exuvia_reader_of((exuvia_value){exact + 1, length});
        read_all(&r);
        free(exact);
    }
    /* A million arrays inside one another: no stack is used for them. */
    size_t depth = 1000000;
    uint8_t *nested = malloc(depth + 1);
    memset(nested, 0x91, depth);
    nested[depth] = 0xc0;
    r = exuvia_reader_of((exuvia_value){nested, depth + 1});
    exuvia_skip(&r);
    CHECK(!r.error && !exuvia_left(&r));
    free(nested);
    r = exuvia_reader_of((exuvia_value){(const uint8_t *)"\xdd\xff\xff\xff\xff\xc0", 6});
    CHECK(exuvia_read_array(&r) == 0 && r.error);
}

/* The heap */

void *exuvia_malloc(size_t), *exuvia_calloc(size_t, size_t), *exuvia_realloc(void *, size_t), *exuvia_aligned_alloc(size_t, size_t);
void exuvia_free(void *);
size_t exuvia_malloc_usable_size(void *);
uint8_t *exuvia_test_heap, *exuvia_test_end;
static uint8_t *heap_limit;

bool exuvia_test_grow(size_t pages) {
    if (pages > (size_t)(heap_limit - exuvia_test_end) / 65536) return false;
    exuvia_test_end += pages * 65536;
    return true;
}

static void test_heap(size_t begin) {
    enum { PAGES = 600, BLOCKS = 400 };
    uint8_t *all = aligned_alloc(65536, PAGES * 65536);
    memset(all, 0, PAGES * 65536);
    exuvia_test_heap = all + begin;
    exuvia_test_end = all + 65536 * (begin ? 1 : 0);
    heap_limit = all + PAGES * 65536;
    static struct {
        uint8_t *at;
        size_t length;
        uint8_t byte;
    } blocks[BLOCKS];
    memset(blocks, 0, sizeof blocks);
    for (int i = 0; i < 60000; i++) {
        size_t which = next() % BLOCKS;
        size_t length = next() % (next() % 50 == 0 ? 300000 : next() % 10 == 0 ? 40000 : 200), had = blocks[which].length;
        uint8_t *at = blocks[which].at, byte = blocks[which].byte;
        for (size_t k = 0; k < had; k++) CHECK(at[k] == byte);
        if (at && next() % 3) {
            exuvia_free(at);
            blocks[which].at = NULL;
            blocks[which].length = 0;
            continue;
        }
        if (at) {
            at = exuvia_realloc(at, length);
            if (!at) continue;
            for (size_t k = 0; k < had && k < length; k++) CHECK(at[k] == byte);
        } else if (next() % 8 == 0) {
            size_t alignment = (size_t)1 << next() % 16;
            at = exuvia_aligned_alloc(alignment, length);
            CHECK(!at || (uintptr_t)at % alignment == 0);
        } else {
            at = next() % 2 ? exuvia_malloc(length) : exuvia_calloc(1, length);
            /* Free memory is zero. */
            for (size_t k = 0; at && k < length; k++) CHECK(at[k] == 0);
        }
        if (!at) continue;
        CHECK((uintptr_t)at % 16 == 0 && exuvia_malloc_usable_size(at) >= length && at >= exuvia_test_heap && at + length <= exuvia_test_end);
        blocks[which].at = at;
        blocks[which].length = length;
        blocks[which].byte = (uint8_t)next() | 1;
        memset(at, blocks[which].byte, length);
    }
    CHECK(!exuvia_malloc(PAGES * 65536) && !exuvia_malloc(SIZE_MAX) && !exuvia_calloc(SIZE_MAX, 2));
    for (size_t which = 0; which < BLOCKS; which++) exuvia_free(blocks[which].at);
    /* Everything is as it was in the beginning. */
    for (uint8_t *at = all; at < heap_limit; at++) CHECK(*at == 0);
    free(all);
}

int main(void) {
    test_loop();
    test_msgpack();
    test_heap(0);
    test_heap(1234);
    test_heap(65530);
    printf("c: %d checks passed\n", checks);
    return 0;
}
