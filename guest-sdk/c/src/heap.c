/*
 * The allocator of a guest: free memory is zero.
 *
 * An idle process is stored as the words of its memory that differ from its version's base. An ordinary allocator leaves there what it has freed,
 * and its own lists. This one
 *
 *  - clears what is freed; large blocks by the host, which gives the pages back to the system;
 *  - keeps no lists: two bitmaps at the head of each chunk say which granules of 16 bytes are in use and where a block begins, and are zero again when
 *    everything is free.
 *
 * Memory from `__heap_base` on is divided into chunks of 64 KiB, the page of Wasm. A chunk is free (all zero), holds small blocks, or is the first
 * of those that hold one large block. Only this file grows the memory: the C library's `sbrk` would be in its way and fails.
 *
 * A pointer that is no block traps in `free` and `realloc`, so a double free is seen where it happens.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../include/exuvia/abi.h"

#ifdef EXUVIA_HEAP_TEST
/* A test has a heap of its own, beside that of the C library. */
extern uint8_t *exuvia_test_heap, *exuvia_test_end;
bool exuvia_test_grow(size_t pages);
#define HEAP_BASE ((uintptr_t)exuvia_test_heap)
#define HEAP_END ((uintptr_t)exuvia_test_end)
#define GROW(pages) exuvia_test_grow(pages)
#define NAME(function) exuvia_##function
#else
extern uint8_t __heap_base;
#define HEAP_BASE ((uintptr_t)&__heap_base)
#define HEAP_END ((uintptr_t)__builtin_wasm_memory_size(0) * CHUNK)
#define GROW(pages) (__builtin_wasm_memory_grow(0, pages) != (size_t)-1)
#define NAME(function) function
#endif

/** Bytes of a chunk. */
#define CHUNK ((uintptr_t)0x10000)
/** The unit of small blocks, and their alignment. */
#define GRANULE ((size_t)16)
/** Larger blocks have chunks of their own. */
#define LARGEST ((size_t)32 * 1024)
/** Up to this size plain stores clear: `memory.fill` is a call, however short. An estimate. */
#define SHORT ((size_t)256)
#define WORDS 64
#define NONE UINT32_MAX

enum { FREE, SMALL, LARGE };

typedef struct chunk {
    uint16_t kind;
    /** SMALL: granules that are free. LARGE: the granule at which the block begins. */
    uint16_t free;
    /** SMALL: no run of free granules is longer. LARGE: how many chunks it has. */
    uint32_t bound;
    uint64_t unused;
    uint64_t used[WORDS];
    uint64_t starts[WORDS];
} chunk;

/** Where the first granule of a chunk is. */
#define HEAD ((sizeof(chunk) + GRANULE - 1) / GRANULE * GRANULE)

/** The first chunk in which a small block may fit. */
static uint32_t rover;

/** The first chunk begins where the data ends, and is shorter than the others. */
static uintptr_t first(void) {
    return (HEAP_BASE + GRANULE - 1) & ~(uintptr_t)(GRANULE - 1);
}

static uintptr_t second(void) {
    return (first() + CHUNK - 1) & ~(CHUNK - 1);
}

static chunk *chunk_at(uint32_t index) {
    return (chunk *)(index == 0 ? first() : second() + (index - 1) * CHUNK);
}

static uint32_t chunk_of(uintptr_t address) {
    return address < second() ? 0 : 1 + (uint32_t)((address - second()) / CHUNK);
}

static uint32_t chunks(void) {
    return HEAP_END <= second() ? HEAP_END > first() : 1 + (uint32_t)((HEAP_END - second()) / CHUNK);
}

/** How many granules a chunk has for blocks. */
static uint32_t granules(uint32_t index) {
    uintptr_t bytes = index == 0 ? second() - first() : CHUNK;
    return bytes <= HEAD ? 0 : (uint32_t)((bytes - HEAD) / GRANULE);
}

/** The first chunk that there is: what lies before the first page boundary may be too short for one. */
static uint32_t lowest(void) {
    return granules(0) ? 0 : 1;
}

static uint32_t after(uint32_t index) {
    const chunk *c = chunk_at(index);
    return index + (c->kind == LARGE ? c->bound : 1);
}

static void clear(void *at, size_t length) {
    if (length >= CHUNK) {
#ifdef __wasm__
        if (exuvia_host_discard(at, (uint32_t)length) == EXUVIA_OK) return;
#endif
    } else if (length <= SHORT) {
        /* Blocks are whole granules. `volatile` keeps the loop from becoming a call again. */
        for (volatile uint64_t *word = at, *end = word + length / 8; word < end; word++) *word = 0;
        return;
    }
    memset(at, 0, length);
}

static void mark(uint64_t *bits, uint32_t from, uint32_t count, bool set) {
    while (count) {
        uint32_t bit = from % 64, n = 64 - bit < count ? 64 - bit : count;
        uint64_t mask = (n == 64 ? ~(uint64_t)0 : (((uint64_t)1 << n) - 1)) << bit;
        if (set) bits[from / 64] |= mask;
        else bits[from / 64] &= ~mask;
        from += n;
        count -= n;
    }
}

static bool test(const uint64_t *bits, uint32_t at) {
    return bits[at / 64] >> (at % 64) & 1;
}

/** How many granules from `from` on are free, but no more than `most`. */
static uint32_t free_from(const chunk *c, uint32_t from, uint32_t most) {
    uint32_t at = from, end = from + most;
    while (at < end) {
        uint64_t word = c->used[at / 64] >> (at % 64);
        if (word) {
            at += (uint32_t)__builtin_ctzll(word);
            break;
        }
        at = (at / 64 + 1) * 64;
    }
    return (at < end ? at : end) - from;
}

/** The first run of `count` free granules whose address is a multiple of `alignment`. */
static uint32_t find(uint32_t index, uint32_t count, size_t alignment) {
    const chunk *c = chunk_at(index);
    uintptr_t base = (uintptr_t)c + HEAD;
    uint32_t at = 0, limit = granules(index);
    while (at + count <= limit) {
        uint64_t word = ~c->used[at / 64] >> (at % 64);
        if (!word) {
            at = (at / 64 + 1) * 64;
            continue;
        }
        at += (uint32_t)__builtin_ctzll(word);
        uintptr_t address = (base + at * GRANULE + alignment - 1) & ~(uintptr_t)(alignment - 1);
        at = (uint32_t)((address - base) / GRANULE);
        if (at + count > limit) break;
        uint32_t run = free_from(c, at, count);
        if (run == count) return at;
        at += run;
    }
    return NONE;
}

/** How many granules the block that begins at `at` has. */
static uint32_t block(uint32_t index, uint32_t at) {
    const chunk *c = chunk_at(index);
    uint32_t end = at + 1, limit = granules(index);
    while (end < limit) {
        uint64_t word = (~c->used[end / 64] | c->starts[end / 64]) >> (end % 64);
        if (word) {
            end += (uint32_t)__builtin_ctzll(word);
            break;
        }
        end = (end / 64 + 1) * 64;
    }
    return (end < limit ? end : limit) - at;
}

static bool grow(uint32_t pages) {
    /* A sixteenth more than there is, so that a heap of many small blocks is not grown page by page. */
    uint32_t more = chunks() / 16;
    return (more > pages && GROW(more)) || GROW(pages);
}

static void *occupy(uint32_t index, uint32_t at, uint32_t count) {
    chunk *c = chunk_at(index);
    mark(c->used, at, count, true);
    mark(c->starts, at, 1, true);
    c->free = (uint16_t)(c->free - count);
    return (uint8_t *)c + HEAD + at * GRANULE;
}

static void *allocate_small(size_t length, size_t alignment) {
    uint32_t count = length ? (uint32_t)((length + GRANULE - 1) / GRANULE) : 1;
    for (uint32_t index = rover > lowest() ? rover : lowest();; index = after(index)) {
        if (index >= chunks() && !grow(1)) return NULL;
        chunk *c = chunk_at(index);
        if (c->kind == FREE) {
            uint32_t all = granules(index);
            if (all < count) continue;
            c->kind = SMALL;
            c->free = (uint16_t)all;
            c->bound = all;
        } else if (c->kind == LARGE || c->free == 0) {
            if (index == rover) rover = after(index);
            continue;
        }
        if (c->free < count || c->bound < count) continue;
        uint32_t at = find(index, count, alignment);
        if (at != NONE) return occupy(index, at, count);
        if (alignment == GRANULE) c->bound = count - 1;
        if (c->free == granules(index)) c->kind = FREE, c->free = 0, c->bound = 0;
    }
}

static void *allocate_large(size_t length, size_t alignment) {
    uint32_t count = (uint32_t)((length + alignment + CHUNK - 1) / CHUNK);
    uint32_t from = 1, index = 1;
    /* The first free run that is long enough, or the one at the end of memory, which grows. */
    while (index < chunks() && index - from < count) {
        uint32_t next = after(index);
        if (chunk_at(index)->kind != FREE) from = next;
        index = next;
    }
    if (index - from < count && !grow(count - (index - from))) return NULL;
    chunk *c = chunk_at(from);
    c->kind = LARGE;
    c->free = (uint16_t)(alignment / GRANULE);
    c->bound = count;
    return (uint8_t *)c + alignment;
}

static void *allocate(size_t length, size_t alignment) {
    void *at = NULL;
    if (length <= PTRDIFF_MAX - 2 * CHUNK) {
        at = length <= LARGEST && alignment <= LARGEST / 2 ? allocate_small(length, alignment) : allocate_large(length, alignment);
    }
    if (!at) errno = ENOMEM;
    return at;
}

/** The chunk of a block, which must be one. */
static uint32_t own(const void *pointer, uint32_t *at) {
    uintptr_t address = (uintptr_t)pointer;
    if (address < first() || address >= HEAP_END) __builtin_trap();
    uint32_t index = chunk_of(address);
    chunk *c = chunk_at(index);
    *at = 0;
    if (c->kind == LARGE && address == (uintptr_t)c + c->free * GRANULE) return index;
    if (c->kind != SMALL || address < (uintptr_t)c + HEAD || address % GRANULE) __builtin_trap();
    *at = (uint32_t)((address - (uintptr_t)c - HEAD) / GRANULE);
    if (*at >= granules(index) || !test(c->starts, *at)) __builtin_trap();
    return index;
}

/** Bytes that a block may use. */
static size_t usable(const void *pointer) {
    uint32_t at, index = own(pointer, &at);
    const chunk *c = chunk_at(index);
    if (c->kind == LARGE) return (uintptr_t)c + c->bound * CHUNK - (uintptr_t)pointer;
    return block(index, at) * GRANULE;
}

static void release(uint32_t index, uint32_t at, uint32_t count) {
    chunk *c = chunk_at(index);
    clear((uint8_t *)c + HEAD + at * GRANULE, count * GRANULE);
    mark(c->used, at, count, false);
    c->free = (uint16_t)(c->free + count);
    c->bound = granules(index);
    if (c->free == c->bound) {
        c->kind = FREE;
        c->free = 0;
        c->bound = 0;
    }
    if (index < rover) rover = index;
}

void NAME(free)(void *pointer) {
    if (!pointer) return;
    uint32_t at, index = own(pointer, &at);
    chunk *c = chunk_at(index);
    if (c->kind == LARGE) {
        clear(c, c->bound * CHUNK);
        if (index < rover) rover = index;
        return;
    }
    uint32_t count = block(index, at);
    mark(c->starts, at, 1, false);
    release(index, at, count);
}

void *NAME(malloc)(size_t length) {
    return allocate(length, GRANULE);
}

void *NAME(calloc)(size_t count, size_t length) {
    size_t all;
    if (__builtin_mul_overflow(count, length, &all)) {
        errno = ENOMEM;
        return NULL;
    }
    return allocate(all, GRANULE); /* Free memory is zero. */
}

void *NAME(realloc)(void *pointer, size_t length) {
    if (!pointer) return allocate(length, GRANULE);
    uint32_t at, index = own(pointer, &at);
    chunk *c = chunk_at(index);
    size_t had = usable(pointer);
    if (c->kind == SMALL && length <= LARGEST) {
        uint32_t count = length ? (uint32_t)((length + GRANULE - 1) / GRANULE) : 1, has = (uint32_t)(had / GRANULE);
        if (count < has) release(index, at + count, has - count);
        if (count <= has) return pointer;
        uint32_t more = count - has;
        if (at + count <= granules(index) && free_from(c, at + has, more) == more) {
            mark(c->used, at + has, more, true);
            c->free = (uint16_t)(c->free - more);
            return pointer;
        }
    } else if (c->kind == LARGE && length <= had && length > had / 2) {
        /* The bytes of a large block that are cut off stay its own. */
        return pointer;
    }
    void *moved = allocate(length, GRANULE);
    if (!moved) return NULL;
    memcpy(moved, pointer, had < length ? had : length);
    NAME(free)(pointer);
    return moved;
}

void *NAME(aligned_alloc)(size_t alignment, size_t length) {
    if (alignment & (alignment - 1) || alignment >= CHUNK) {
        errno = EINVAL;
        return NULL;
    }
    return allocate(length, alignment < GRANULE ? GRANULE : alignment);
}

int NAME(posix_memalign)(void **out, size_t alignment, size_t length) {
    if (alignment < sizeof(void *) || alignment & (alignment - 1) || alignment >= CHUNK) return EINVAL;
    int before = errno;
    void *at = allocate(length, alignment < GRANULE ? GRANULE : alignment);
    errno = before;
    if (!at) return ENOMEM;
    *out = at;
    return 0;
}

size_t NAME(malloc_usable_size)(void *pointer) {
    return pointer ? usable(pointer) : 0;
}

#ifndef EXUVIA_HEAP_TEST
/* Older names that the C library may use. */
void *memalign(size_t alignment, size_t length) {
    return aligned_alloc(alignment, length);
}

/* By these the C library calls its own allocator, which must not come in beside this one. */
void *__libc_malloc(size_t length) {
    return allocate(length, GRANULE);
}

void *__libc_calloc(size_t count, size_t length) {
    return calloc(count, length);
}

void __libc_free(void *pointer) {
    free(pointer);
}

/** Fails: the heap has all memory. */
void *sbrk(intptr_t more) {
    if (more == 0) return (void *)HEAP_END;
    errno = ENOMEM;
    return (void *)-1;
}
#endif
