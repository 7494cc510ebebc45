/* malloc for an interpreter whose memory is an image.

   An image is what differs from the base, and zeroes that were zeroes cost nothing. So whatever is
   freed is zero afterwards, holes are zero, and nothing is kept in them. Slots are taken from the
   lowest free place, so that the same work leaves the same bytes behind.

   Memory from the end of the module's data on is cut into pages of 4 KiB. A bit says whether a
   page is in use. A page has slots of one size class, or begins a run of pages with one block. Its
   first bytes say which. */

#include "exuvia.h"
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PAGE 4096u
#define HEADER 48u
#define WASM_PAGE 65536u
/* From here on the host makes memory zero, which also gives it back to the system. */
#define DISCARD_FROM 65536u
#define LARGEST_SLOT 2016u
#define RUN 255u

typedef struct {
  uint8_t class; /* RUN: one block over `pages` pages */
  uint8_t unused;
  uint16_t used; /* slots in use */
  uint32_t next; /* pages of this class with a free slot: page numbers, 0 for none */
  uint32_t previous;
  union {
    uint8_t bits[32]; /* a slot each */
    uint32_t pages;
  };
} page_header;
_Static_assert(sizeof(page_header) <= HEADER, "the header fits");

static const uint16_t sizes[] = {16,  32,  48,  64,  80,  96,  112, 128, 160, 192,  224, 256,
                                 320, 384, 448, 512, 576, 672, 800, 992, 1344, 2016};
#define CLASSES (sizeof(sizes) / sizeof(sizes[0]))

extern uint8_t __heap_base;

static uint32_t first_page;  /* 0: not begun */
static uint32_t end_page;    /* one behind the last page that memory has */
static uint32_t lowest_free; /* no page below is free */
static uint32_t partial[CLASSES];
static uint32_t in_use[1u << 15]; /* a bit for each page of 4 GiB */
static size_t allocated;

size_t heap_allocated(void) { return allocated; }

static page_header *header_of(uint32_t page) { return (page_header *)(uintptr_t)(page * PAGE); }

static int is_used(uint32_t page) { return (in_use[page >> 5] >> (page & 31)) & 1; }

static void mark(uint32_t page, uint32_t count, int used) {
  for (; count--; page++) {
    if (used) in_use[page >> 5] |= 1u << (page & 31);
    else in_use[page >> 5] &= ~(1u << (page & 31));
  }
}

static void make_zero(void *data, size_t length) {
  if (length >= DISCARD_FROM && host_discard(data, (uint32_t)length) == 0) return;
  memset(data, 0, length);
}

/* The script that the build step has put behind the module's data is not heap. */
static void begin(void) {
  uintptr_t from = (uintptr_t)&__heap_base;
  if (exuvia_script.length) from = (uintptr_t)exuvia_script.text + exuvia_script.length;
  first_page = (uint32_t)((from + PAGE - 1) / PAGE);
  lowest_free = first_page;
  end_page = (uint32_t)(__builtin_wasm_memory_size(0) * (WASM_PAGE / PAGE));
}

/* Takes `count` pages in a row; 0 if there is no memory for them. */
static uint32_t take_pages(uint32_t count) {
  if (!first_page) begin();
  uint32_t run = 0, page = lowest_free;
  int only_used = 1;
  for (; page < end_page; page++) {
    if (is_used(page)) {
      run = 0;
      if (only_used) lowest_free = page + 1;
      continue;
    }
    only_used = 0;
    if (++run == count) {
      page = page + 1 - count;
      mark(page, count, 1);
      return page;
    }
  }
  uint32_t start = end_page - run;
  uint32_t missing = count - run;
  uint32_t grow = (missing + WASM_PAGE / PAGE - 1) / (WASM_PAGE / PAGE);
  if (__builtin_wasm_memory_grow(0, grow) == (size_t)-1) return 0;
  end_page += grow * (WASM_PAGE / PAGE);
  mark(start, count, 1);
  return start;
}

static void free_pages(uint32_t page, uint32_t count) {
  mark(page, count, 0);
  if (page < lowest_free) lowest_free = page;
}

static void list_add(uint32_t page) {
  page_header *h = header_of(page);
  h->previous = 0;
  h->next = partial[h->class];
  if (h->next) header_of(h->next)->previous = page;
  partial[h->class] = page;
}

static void list_remove(uint32_t page) {
  page_header *h = header_of(page);
  if (h->previous) header_of(h->previous)->next = h->next;
  else partial[h->class] = h->next;
  if (h->next) header_of(h->next)->previous = h->previous;
  h->next = h->previous = 0;
}

static uint32_t slots(uint32_t class) { return (PAGE - HEADER) / sizes[class]; }

static uint32_t class_of(size_t size) {
  if (size <= 128) return size ? (uint32_t)((size - 1) / 16) : 0;
  uint32_t class = 8;
  while (sizes[class] < size) class++;
  return class;
}

static void *take_slot(uint32_t class) {
  uint32_t page = partial[class];
  if (!page) {
    page = take_pages(1);
    if (!page) return NULL;
    header_of(page)->class = (uint8_t)class;
    list_add(page);
  }
  page_header *h = header_of(page);
  uint32_t slot = 0;
  while (h->bits[slot >> 3] == 0xff) slot += 8;
  while ((h->bits[slot >> 3] >> (slot & 7)) & 1) slot++;
  h->bits[slot >> 3] |= (uint8_t)(1u << (slot & 7));
  if (++h->used == slots(class)) list_remove(page);
  allocated += sizes[class];
  return (uint8_t *)h + HEADER + slot * sizes[class];
}

static void *take_run(size_t size) {
  if (size > UINT32_MAX - 2 * PAGE) return NULL;
  uint32_t pages = (uint32_t)((size + HEADER + PAGE - 1) / PAGE);
  uint32_t page = take_pages(pages);
  if (!page) return NULL;
  page_header *h = header_of(page);
  h->class = RUN;
  h->pages = pages;
  allocated += (size_t)pages * PAGE;
  return (uint8_t *)h + HEADER;
}

/* Memory is zero whenever it is free, so calloc need not clear it. */
void *malloc(size_t size) {
  void *p = size <= LARGEST_SLOT ? take_slot(class_of(size)) : take_run(size);
  if (!p) errno = ENOMEM;
  return p;
}

void *calloc(size_t count, size_t size) {
  size_t all;
  if (__builtin_mul_overflow(count, size, &all)) {
    errno = ENOMEM;
    return NULL;
  }
  return malloc(all);
}

size_t malloc_usable_size(void *p) {
  if (!p) return 0;
  page_header *h = header_of((uint32_t)((uintptr_t)p / PAGE));
  return h->class == RUN ? (size_t)h->pages * PAGE - HEADER : sizes[h->class];
}

void free(void *p) {
  if (!p) return;
  uint32_t page = (uint32_t)((uintptr_t)p / PAGE);
  page_header *h = header_of(page);
  if (h->class == RUN) {
    uint32_t pages = h->pages;
    allocated -= (size_t)pages * PAGE;
    make_zero(h, (size_t)pages * PAGE);
    free_pages(page, pages);
    return;
  }
  uint32_t class = h->class;
  uint32_t slot = (uint32_t)((uint8_t *)p - (uint8_t *)h - HEADER) / sizes[class];
  memset(p, 0, sizes[class]);
  allocated -= sizes[class];
  h->bits[slot >> 3] &= (uint8_t)~(1u << (slot & 7));
  if (h->used-- == slots(class)) list_add(page);
  if (h->used == 0) {
    list_remove(page);
    memset(h, 0, HEADER);
    free_pages(page, 1);
  }
}

/* Grows or shrinks a run where it is; 0 if it has to move. */
static int resize_run(page_header *h, size_t size) {
  if (size > UINT32_MAX - 2 * PAGE) return 0;
  uint32_t page = (uint32_t)((uintptr_t)h / PAGE);
  uint32_t pages = (uint32_t)((size + HEADER + PAGE - 1) / PAGE);
  if (pages < h->pages) {
    uint32_t less = h->pages - pages;
    h->pages = pages;
    make_zero(header_of(page + pages), (size_t)less * PAGE);
    free_pages(page + pages, less);
    allocated -= (size_t)less * PAGE;
  }
  for (uint32_t more = h->pages; more < pages; more++)
    if (page + more >= end_page || is_used(page + more)) return 0;
  if (pages > h->pages) {
    mark(page + h->pages, pages - h->pages, 1);
    allocated += (size_t)(pages - h->pages) * PAGE;
    h->pages = pages;
  }
  return 1;
}

void *realloc(void *p, size_t size) {
  if (!p) return malloc(size);
  page_header *h = header_of((uint32_t)((uintptr_t)p / PAGE));
  size_t old = malloc_usable_size(p);
  if (h->class == RUN) {
    if (size > LARGEST_SLOT && resize_run(h, size)) return p;
  } else if (size <= LARGEST_SLOT && class_of(size) == h->class) {
    return p;
  }
  void *moved = malloc(size);
  if (!moved) return NULL;
  memcpy(moved, p, old < size ? old : size);
  free(p);
  return moved;
}

/* All blocks lie at a multiple of 16; nothing here needs more. */
int posix_memalign(void **out, size_t alignment, size_t size) {
  if (alignment > 16) return EINVAL;
  void *p = malloc(size);
  if (!p) return ENOMEM;
  *out = p;
  return 0;
}

void *aligned_alloc(size_t alignment, size_t size) {
  void *p = NULL;
  if (posix_memalign(&p, alignment, size)) errno = ENOMEM;
  return p;
}

void *memalign(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }
