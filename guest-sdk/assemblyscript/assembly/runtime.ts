// The memory of an actor: an allocator and a collector made for images. asc takes this file in place
// of its own runtime (`--runtime`), and keeps a shadow stack for it (`--stackSize`).
//
// An image is what differs from the base, and zeroes that were zeroes cost nothing. So what is freed
// is zero afterwards, holes are zero, nothing is kept in them, and a collection leaves no colors and
// no lists behind. Slots are taken from the lowest free place, so that the same work leaves the same
// bytes.
//
// The heap is cut into pages of 4 KiB. A bit says whether a page is in use. A page has slots of one
// size class, or begins a run of pages with one block; its first bytes say which.
//
//   0  u8   class, or RUN         12  the bits of its slots, or u32 the pages of the run
//   2  u16  slots in use          48  the first slot
//   4  u32  next page of the class that has a free slot; 0: none
//   8  u32  the one before
//
// A managed object has 16 bytes in front: a mark while a collection runs, MANAGED and pins, its
// class, its size. Static ones are in the module's data, and have the same.

// @ts-ignore: decorator
@external("exuvia.optional", "discard")
declare function host_discard(data: usize, length: usize): i32;

// @ts-ignore: decorator
@inline const PAGE: usize = 4096;
// @ts-ignore: decorator
@inline const HEADER: usize = 48;
// @ts-ignore: decorator
@inline const PAGES_IN_ONE_OF_WASM: usize = 16;
/** Pages of memory that there can be: 1 GiB. */
// @ts-ignore: decorator
@inline const MOST_PAGES: usize = 1 << 18;
// @ts-ignore: decorator
@inline const MAP_BYTES: usize = MOST_PAGES / 8;
/** From here on the host makes memory zero, which also gives it back to the system. */
// @ts-ignore: decorator
@inline const DISCARD_FROM: usize = 65536;
// @ts-ignore: decorator
@inline const LARGEST_SLOT: usize = 2016;
// @ts-ignore: decorator
@inline const CLASSES: u32 = 22;
// @ts-ignore: decorator
@inline const RUN: u32 = 255;
// @ts-ignore: decorator
@inline const OBJECT: usize = 16;
// @ts-ignore: decorator
@inline const MANAGED: u32 = 1;
// @ts-ignore: decorator
@inline const PIN: u32 = 2;
/** A collection runs by itself when so much was allocated, and as much as is alive. */
// @ts-ignore: decorator
@inline const GARBAGE: usize = 65536;
// @ts-ignore: decorator
@inline const LARGEST: usize = 1 << 30;

// @ts-ignore: decorator
@lazy const SIZES: usize = memory.data<u16>([16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 672, 800, 992, 1344, 2016]);
/** For each class the first page with a free slot. */
// @ts-ignore: decorator
@lazy const PARTIAL: usize = memory.data(88, 4);

// @ts-ignore: decorator
@lazy let map: usize = 0;
// @ts-ignore: decorator
@lazy let firstPage: usize = 0;
// @ts-ignore: decorator
@lazy let endPage: usize = 0;
// @ts-ignore: decorator
@lazy let lowestFree: usize = 0;
// @ts-ignore: decorator
@lazy let allocated: usize = 0;
// @ts-ignore: decorator
@lazy let allocatedAfterCollection: usize = 0;
// @ts-ignore: decorator
@lazy let pins: u32 = 0;
/** Marked objects whose members have not been visited, and static ones that were. */
// @ts-ignore: decorator
@lazy let marked: usize = 0;
// @ts-ignore: decorator
@lazy let markedStatic: usize = 0;

// @ts-ignore: decorator
@inline function sizeOf(kind: u32): usize { return load<u16>(SIZES + 2 * kind); }
// @ts-ignore: decorator
@inline function classAt(page: usize): u32 { return load<u8>(page * PAGE); }
// @ts-ignore: decorator
@inline function isUsed(page: usize): bool { return ((load<u8>(map + (page >> 3)) >> u8(page & 7)) & 1) != 0; }
// @ts-ignore: decorator
@inline function pageOf(pointer: usize): usize { return pointer / PAGE; }
// @ts-ignore: decorator
@inline function slots(kind: u32): u32 { return u32((PAGE - HEADER) / sizeOf(kind)); }

function setUsed(page: usize, count: usize, used: bool): void {
  for (const end = page + count; page < end; page++) {
    const at = map + (page >> 3);
    const bit = u8(1) << u8(page & 7);
    store<u8>(at, used ? load<u8>(at) | bit : load<u8>(at) & ~bit);
  }
}

function makeZero(data: usize, length: usize): void {
  if (length >= DISCARD_FROM && host_discard(data, length) == 0) return;
  memory.fill(data, 0, length);
}

/** The map of pages lies in front of the heap. It is never all of it in use, so it is mostly zero. */
function begin(): void {
  map = __heap_base;
  firstPage = (__heap_base + MAP_BYTES + PAGE - 1) / PAGE;
  lowestFree = firstPage;
  const end = usize(memory.size()) * PAGES_IN_ONE_OF_WASM;
  if (end < firstPage) {
    const missing = (firstPage - end + PAGES_IN_ONE_OF_WASM - 1) / PAGES_IN_ONE_OF_WASM;
    if (memory.grow(i32(missing)) < 0) unreachable();
  }
  endPage = usize(memory.size()) * PAGES_IN_ONE_OF_WASM;
}

/** Takes pages in a row; 0 if there is no memory for them. */
function takePages(count: usize): usize {
  if (!map) begin();
  let run: usize = 0;
  let onlyUsed = true;
  for (let page = lowestFree; page < endPage; page++) {
    if (isUsed(page)) {
      run = 0;
      if (onlyUsed) lowestFree = page + 1;
      continue;
    }
    onlyUsed = false;
    if (++run == count) {
      const start = page + 1 - count;
      setUsed(start, count, true);
      return start;
    }
  }
  const start = endPage - run;
  if (start + count > MOST_PAGES) return 0;
  const grow = (count - run + PAGES_IN_ONE_OF_WASM - 1) / PAGES_IN_ONE_OF_WASM;
  if (memory.grow(i32(grow)) < 0) return 0;
  endPage += grow * PAGES_IN_ONE_OF_WASM;
  setUsed(start, count, true);
  return start;
}

function freePages(page: usize, count: usize): void {
  setUsed(page, count, false);
  if (page < lowestFree) lowestFree = page;
}

function listAdd(page: usize): void {
  const head = PARTIAL + 4 * classAt(page);
  const next = load<u32>(head);
  store<u32>(page * PAGE, next, 4);
  if (next) store<u32>(usize(next) * PAGE, u32(page), 8);
  store<u32>(head, u32(page));
}

function listRemove(page: usize): void {
  const next = load<u32>(page * PAGE, 4);
  const before = load<u32>(page * PAGE, 8);
  if (before) store<u32>(usize(before) * PAGE, next, 4);
  else store<u32>(PARTIAL + 4 * classAt(page), next);
  if (next) store<u32>(usize(next) * PAGE, before, 8);
  store<u64>(page * PAGE, 0, 4);
}

/** Makes a slot zero. Its size is a multiple of 16; small ones are not worth a call of the host. */
// @ts-ignore: decorator
@inline function clear(pointer: usize, size: usize): void {
  if (size > 128) {
    memory.fill(pointer, 0, size);
    return;
  }
  for (const end = pointer + size; pointer < end; pointer += 16) {
    store<u64>(pointer, 0);
    store<u64>(pointer, 0, 8);
  }
}

function classOf(size: usize): u32 {
  if (size <= 128) return size ? u32((size - 1) / 16) : 0;
  let kind: u32 = 8;
  while (sizeOf(kind) < size) kind++;
  return kind;
}

function takeSlot(kind: u32): usize {
  let page: usize = load<u32>(PARTIAL + 4 * kind);
  if (!page) {
    page = takePages(1);
    if (!page) return 0;
    store<u8>(page * PAGE, u8(kind));
    listAdd(page);
  }
  const at = page * PAGE;
  // The page has a free slot, so one of the 32 bytes of bits is not full.
  let word: usize = 0;
  while (load<u32>(at + word, 12) == <u32>-1) word += 4;
  const slot = (word << 3) + usize(ctz<u32>(~load<u32>(at + word, 12)));
  store<u8>(at + (slot >> 3), load<u8>(at + (slot >> 3), 12) | (u8(1) << u8(slot & 7)), 12);
  const used = load<u16>(at, 2) + 1;
  store<u16>(at, used, 2);
  if (u32(used) == slots(kind)) listRemove(page);
  allocated += sizeOf(kind);
  return at + HEADER + slot * sizeOf(kind);
}

function takeRun(size: usize): usize {
  const pages = (size + HEADER + PAGE - 1) / PAGE;
  const page = takePages(pages);
  if (!page) return 0;
  store<u8>(page * PAGE, u8(RUN));
  store<u32>(page * PAGE, u32(pages), 12);
  allocated += pages * PAGE;
  return page * PAGE + HEADER;
}

/** A block that is zero; 0 if there is no memory for it. */
function take(size: usize): usize {
  if (size > LARGEST) return 0;
  return size <= LARGEST_SLOT ? takeSlot(classOf(size)) : takeRun(size);
}

/** The same, after a collection if need be. */
function takeOrTrap(size: usize): usize {
  let pointer = take(size);
  if (pointer) return pointer;
  __collect();
  pointer = take(size);
  if (!pointer) throw new Error("out of memory");
  return pointer;
}

function usable(pointer: usize): usize {
  const page = pageOf(pointer);
  const kind = classAt(page);
  return kind == RUN ? usize(load<u32>(page * PAGE, 12)) * PAGE - HEADER : sizeOf(kind);
}

function give(pointer: usize): void {
  const page = pageOf(pointer);
  const at = page * PAGE;
  const kind = classAt(page);
  if (kind == RUN) {
    const pages: usize = load<u32>(at, 12);
    allocated -= pages * PAGE;
    makeZero(at, pages * PAGE);
    freePages(page, pages);
    return;
  }
  const size = sizeOf(kind);
  const slot = (pointer - at - HEADER) / size;
  clear(pointer, size);
  allocated -= size;
  const bits = at + (slot >> 3);
  store<u8>(bits, load<u8>(bits, 12) & ~(u8(1) << u8(slot & 7)), 12);
  const used = load<u16>(at, 2);
  store<u16>(at, used - 1, 2);
  if (u32(used) == slots(kind)) listAdd(page);
  if (used == 1) {
    listRemove(page);
    memory.fill(at, 0, HEADER);
    freePages(page, 1);
  }
}

// ---- blocks that are not managed: 16 bytes in front are zero, which says so ----

// @ts-ignore: decorator
@global @unsafe
export function __alloc(size: usize): usize {
  return takeOrTrap(size + OBJECT) + OBJECT;
}

// @ts-ignore: decorator
@global @unsafe
export function __free(pointer: usize): void {
  if (pointer > __heap_base) give(pointer - OBJECT);
}

// @ts-ignore: decorator
@global @unsafe
export function __realloc(pointer: usize, size: usize): usize {
  const old = usable(pointer - OBJECT) - OBJECT;
  if (size <= old) return pointer;
  const moved = __alloc(size);
  memory.copy(moved, pointer, old);
  __free(pointer);
  return moved;
}

// ---- managed objects: `pointer` is behind the 16 bytes ----

// @ts-ignore: decorator
@global @unsafe
export function __new(size: usize, id: i32): usize {
  if (size > LARGEST - OBJECT) throw new Error("Allocation too large");
  if (allocated > 2 * allocatedAfterCollection + GARBAGE) __collect();
  return object(takeOrTrap(size + OBJECT), size, id);
}

function object(at: usize, size: usize, id: i32): usize {
  store<u32>(at, MANAGED, 4);
  store<i32>(at, id, 8);
  store<u32>(at, u32(size), 12);
  return at + OBJECT;
}

/** A buffer; null if there is no memory for it, or less than `room` bytes would be left to take. */
export function tryBuffer(size: i32, room: usize): ArrayBuffer | null {
  for (let tries = 0; tries < 2; tries++) {
    const at = take(usize(size) + OBJECT);
    const rest = at ? take(room) : 0;
    if (rest) {
      give(rest);
      return changetype<ArrayBuffer>(object(at, size, idof<ArrayBuffer>()));
    }
    if (at) give(at);
    if (!tries) __collect();
  }
  return null;
}

// @ts-ignore: decorator
@global @unsafe
export function __renew(old: usize, size: usize): usize {
  const header = old - OBJECT;
  const length: usize = load<u32>(header, 12);
  if (old > __heap_base && size + OBJECT <= usable(header)) {
    const page = pageOf(header);
    // What a shorter object leaves behind is zero, like all that is free.
    if (size < length) memory.fill(old + size, 0, length - size);
    if (classAt(page) != RUN || size + OBJECT + 2 * PAGE > usable(header)) {
      store<u32>(header, u32(size), 12);
      return old;
    }
  }
  const pointer = __new(size, load<i32>(header, 8));
  memory.copy(pointer, old, min(size, length));
  return pointer;
}

// @ts-ignore: decorator
@global @unsafe
export function __link(parent: usize, child: usize, expectMultiple: bool): void {}

// @ts-ignore: decorator
@global @unsafe
export function __pin(pointer: usize): usize {
  if (pointer) {
    store<u32>(pointer - OBJECT, load<u32>(pointer - OBJECT, 4) + PIN, 4);
    pins++;
  }
  return pointer;
}

// @ts-ignore: decorator
@global @unsafe
export function __unpin(pointer: usize): void {
  if (!pointer) return;
  store<u32>(pointer - OBJECT, load<u32>(pointer - OBJECT, 4) - PIN, 4);
  pins--;
}

// @ts-ignore: decorator
@global @unsafe
export function __visit(pointer: usize, cookie: u32): void {
  if (!pointer) return;
  const header = pointer - OBJECT;
  if (load<u32>(header)) return;
  // Not by recursion: a list may be long.
  store<u32>(header, u32(marked) | 1);
  marked = header;
}

/** Frees each object of a page that has no mark, and takes the marks away; or visits those that are pinned. */
function eachObject(page: usize, sweep: bool): usize {
  const at = page * PAGE;
  const kind = classAt(page);
  if (kind == RUN) {
    const pages: usize = load<u32>(at, 12);
    oneObject(at + HEADER, sweep);
    return pages;
  }
  const size = sizeOf(kind);
  for (let word: usize = 0; word < 32; word += 4) {
    // What is freed meanwhile has been visited; when the last one is, the page is free and its bits are zero.
    for (let bits = load<u32>(at + word, 12); bits; bits &= bits - 1) {
      oneObject(at + HEADER + ((word << 3) + usize(ctz<u32>(bits))) * size, sweep);
    }
  }
  return 1;
}

function oneObject(header: usize, sweep: bool): void {
  const info = load<u32>(header, 4);
  if (!(info & MANAGED)) return;
  if (!sweep) {
    if (info >= PIN) __visit(header + OBJECT, 0);
  } else if (load<u32>(header)) {
    store<u32>(header, 0);
  } else {
    give(header);
  }
}

function eachPage(sweep: bool): void {
  for (let page = firstPage; page < endPage; ) {
    if (!load<u64>(map + ((page >> 6) << 3))) page = ((page >> 6) + 1) << 6;
    else if (isUsed(page)) page += eachObject(page, sweep);
    else page++;
  }
}

// @ts-ignore: decorator
@global @unsafe
export function __collect(): void {
  if (!map) return;
  __visit_globals(0);
  for (let at = __stack_pointer; at < __heap_base; at += sizeof<usize>()) __visit(load<usize>(at), 0);
  if (pins) eachPage(false);
  while (marked) {
    const header = marked;
    marked = load<u32>(header) & ~1;
    if (header < __heap_base) {
      store<u32>(header, u32(markedStatic) | 1);
      markedStatic = header;
    } else {
      store<u32>(header, 1);
    }
    __visit_members(header + OBJECT, 0);
  }
  while (markedStatic) {
    const header = markedStatic;
    markedStatic = load<u32>(header) & ~1;
    store<u32>(header, 0);
  }
  eachPage(true);
  allocatedAfterCollection = allocated;
}

/** Leaves memory small: garbage goes, and the shadow stack, which is dead now, is zero. */
export function rest(): void {
  if (allocated != allocatedAfterCollection) __collect();
  // Frames lie below one another; a KiB of zeroes says that there were no more.
  let low = __heap_base;
  let quiet = 0;
  while (low >= __data_end + 32 && quiet < 32) {
    low -= 32;
    if (load<u64>(low) | load<u64>(low, 8) | load<u64>(low, 16) | load<u64>(low, 24)) {
      store<u64>(low, 0);
      store<u64>(low, 0, 8);
      store<u64>(low, 0, 16);
      store<u64>(low, 0, 24);
      quiet = 0;
    } else quiet++;
  }
}
