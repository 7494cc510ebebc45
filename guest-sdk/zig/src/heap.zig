//! The allocator of a guest: free memory is zero.
//!
//! An idle process is stored as the words of its memory that differ from its version's base. So this allocator clears what is freed (large blocks by
//! the host, which gives the pages back to the system), and keeps no lists: a bitmap at the head of each chunk says which granules of 16 bytes are in
//! use, and is zero again when everything is free.
//!
//! Memory from `__heap_base` on is divided into chunks of 64 KiB, the page of Wasm. A chunk is free (all zero), holds small blocks, or is the first of
//! those that hold one large block. Nothing else may grow the memory.

const std = @import("std");
const builtin = @import("builtin");
const abi = @import("abi.zig");
const Allocator = std.mem.Allocator;
const Alignment = std.mem.Alignment;

const wasm = builtin.cpu.arch.isWasm();

/// The memory that a heap is in. A test brings its own.
const Linear = struct {
    extern var __heap_base: u8;
    fn base() usize {
        return @intFromPtr(&__heap_base);
    }
    fn end() usize {
        return @wasmMemorySize(0) * chunk_size;
    }
    fn grow(pages: usize) bool {
        return @wasmMemoryGrow(0, pages) != -1;
    }
};

/// The heap of the process.
pub const allocator = Heap(Linear).allocator;

const chunk_size = 64 * 1024;
/// The unit of small blocks, and their alignment at least.
const granule = 16;
/// Larger blocks have chunks of their own.
const largest = 32 * 1024;

pub fn Heap(comptime Memory: type) type {
    return struct {
        const Self = @This();
        const vtable: Allocator.VTable = .{ .alloc = alloc, .resize = resize, .remap = remap, .free = free };
        pub const allocator: Allocator = .{ .ptr = undefined, .vtable = &vtable };

        const Chunk = extern struct {
            kind: enum(u16) { free, small, large },
            /// small: granules that are free.
            left: u16,
            /// small: no run of free granules is longer. large: how many chunks it has.
            bound: u32,
            unused: u64,
            used: [64]u64,
        };
        /// Where the first granule of a chunk is.
        const head = std.mem.alignForward(usize, @sizeOf(Chunk), granule);

        /// The first chunk in which a small block may fit.
        var rover: usize = 0;

        fn first() usize {
            return std.mem.alignForward(usize, Memory.base(), granule);
        }
        fn second() usize {
            return std.mem.alignForward(usize, first(), chunk_size);
        }
        fn chunkAt(index: usize) *Chunk {
            return @ptrFromInt(if (index == 0) first() else second() + (index - 1) * chunk_size);
        }
        fn chunkOf(address: usize) usize {
            return if (address < second()) 0 else 1 + (address - second()) / chunk_size;
        }
        fn chunks() usize {
            return if (Memory.end() <= second()) @intFromBool(Memory.end() > first()) else 1 + (Memory.end() - second()) / chunk_size;
        }
        /// How many granules a chunk has for blocks. What lies before the first page boundary may be too short for one.
        fn granules(index: usize) usize {
            const bytes = if (index == 0) second() - first() else chunk_size;
            return if (bytes <= head) 0 else (bytes - head) / granule;
        }
        fn after(index: usize) usize {
            const c = chunkAt(index);
            return index + if (c.kind == .large) c.bound else 1;
        }

        fn mark(c: *Chunk, from: usize, count: usize, set: bool) void {
            var at = from;
            var left = count;
            while (left > 0) {
                const n = @min(64 - at % 64, left);
                const ones = if (n == 64) ~@as(u64, 0) else (@as(u64, 1) << @intCast(n)) - 1;
                const mask = ones << @intCast(at % 64);
                if (set) c.used[at / 64] |= mask else c.used[at / 64] &= ~mask;
                at += n;
                left -= n;
            }
        }

        /// How many granules from `from` on are free, but no more than `most`.
        fn freeFrom(c: *const Chunk, from: usize, most: usize) usize {
            var at = from;
            while (at < from + most) {
                const word = c.used[at / 64] >> @intCast(at % 64);
                if (word != 0) {
                    at += @ctz(word);
                    break;
                }
                at = (at / 64 + 1) * 64;
            }
            return @min(at, from + most) - from;
        }

        /// The first run of `count` free granules whose address is a multiple of `alignment`.
        fn find(index: usize, count: usize, alignment: usize) ?usize {
            const c = chunkAt(index);
            const base = @intFromPtr(c) + head;
            const limit = granules(index);
            var at: usize = 0;
            while (at + count <= limit) {
                const word = ~c.used[at / 64] >> @intCast(at % 64);
                if (word == 0) {
                    at = (at / 64 + 1) * 64;
                    continue;
                }
                at += @ctz(word);
                at = (std.mem.alignForward(usize, base + at * granule, alignment) - base) / granule;
                if (at + count > limit) break;
                const run = freeFrom(c, at, count);
                if (run == count) return at;
                at += run;
            }
            return null;
        }

        fn grow(pages: usize) bool {
            // A sixteenth more than there is, so that a heap of many small blocks is not grown page by page.
            const more = chunks() / 16;
            return (more > pages and Memory.grow(more)) or Memory.grow(pages);
        }

        fn small(length: usize, alignment: usize) ?usize {
            const count = granulesOf(length);
            var index = @max(rover, @intFromBool(granules(0) == 0));
            while (true) : (index = after(index)) {
                if (index >= chunks() and !grow(1)) return null;
                const c = chunkAt(index);
                const all = granules(index);
                if (c.kind == .large or (c.kind == .small and c.left == 0)) {
                    if (index == rover) rover = after(index);
                    continue;
                }
                const fresh = c.kind == .free;
                if (if (fresh) all < count else c.left < count or c.bound < count) continue;
                const at = find(index, count, alignment) orelse {
                    if (!fresh and alignment == granule) c.bound = @intCast(count - 1);
                    continue;
                };
                if (fresh) {
                    c.kind = .small;
                    c.left = @intCast(all);
                    c.bound = @intCast(all);
                }
                mark(c, at, count, true);
                c.left -= @intCast(count);
                return @intFromPtr(c) + head + at * granule;
            }
        }

        fn large(length: usize, alignment: usize) ?usize {
            const count = (length + alignment + chunk_size - 1) / chunk_size;
            var from: usize = 1;
            var index: usize = 1;
            // The first free run that is long enough, or the one at the end of memory, which grows.
            while (index < chunks() and index - from < count) {
                const next = after(index);
                if (chunkAt(index).kind != .free) from = next;
                index = next;
            }
            if (index - from < count and !grow(count - (index - from))) return null;
            const c = chunkAt(from);
            c.kind = .large;
            c.bound = @intCast(count);
            return @intFromPtr(c) + alignment;
        }

        fn granulesOf(length: usize) usize {
            return @max(1, (length + granule - 1) / granule);
        }

        fn isSmall(length: usize, alignment: Alignment) bool {
            return length <= largest and alignment.toByteUnits() <= largest / 2;
        }

        fn clear(address: usize, length: usize) void {
            const bytes = @as([*]u8, @ptrFromInt(address))[0..length];
            if (wasm and length >= chunk_size) {
                if (abi.host.discard(bytes.ptr, @intCast(length)) == 0) return;
            }
            // A loop, since `memory.fill` is a call however short it is.
            if (length <= 256) {
                const words: []volatile u64 = @alignCast(std.mem.bytesAsSlice(u64, bytes));
                for (words) |*word| word.* = 0;
            } else @memset(bytes, 0);
        }

        fn release(address: usize, count: usize) void {
            const index = chunkOf(address);
            const c = chunkAt(index);
            clear(address, count * granule);
            mark(c, (address - @intFromPtr(c) - head) / granule, count, false);
            c.left += @intCast(count);
            c.bound = @intCast(granules(index));
            if (c.left == c.bound) {
                c.kind = .free;
                c.left = 0;
                c.bound = 0;
            }
            rover = @min(rover, index);
        }

        fn alloc(_: *anyopaque, length: usize, alignment: Alignment, _: usize) ?[*]u8 {
            const bytes = @max(granule, alignment.toByteUnits());
            if (bytes >= chunk_size or length > std.math.maxInt(isize) - 2 * chunk_size) return null;
            const address = if (isSmall(length, alignment)) small(length, bytes) else large(length, bytes);
            return @ptrFromInt(address orelse return null);
        }

        fn resize(_: *anyopaque, memory: []u8, alignment: Alignment, length: usize, _: usize) bool {
            if (isSmall(memory.len, alignment) != isSmall(length, alignment)) return false;
            const address = @intFromPtr(memory.ptr);
            const index = chunkOf(address);
            const c = chunkAt(index);
            if (!isSmall(length, alignment)) return length <= @intFromPtr(c) + c.bound * chunk_size - address and length > memory.len / 2;
            const has = granulesOf(memory.len);
            const wants = granulesOf(length);
            if (wants < has) release(address + wants * granule, has - wants);
            if (wants <= has) return true;
            const end = (address - @intFromPtr(c) - head) / granule + has;
            const more = wants - has;
            if (end + more > granules(index) or freeFrom(c, end, more) != more) return false;
            mark(c, end, more, true);
            c.left -= @intCast(more);
            return true;
        }

        fn remap(context: *anyopaque, memory: []u8, alignment: Alignment, length: usize, at: usize) ?[*]u8 {
            return if (resize(context, memory, alignment, length, at)) memory.ptr else null;
        }

        fn free(_: *anyopaque, memory: []u8, alignment: Alignment, _: usize) void {
            const address = @intFromPtr(memory.ptr);
            if (isSmall(memory.len, alignment)) return release(address, granulesOf(memory.len));
            const index = chunkOf(address);
            const c = chunkAt(index);
            clear(@intFromPtr(c), c.bound * chunk_size);
            rover = @min(rover, index);
        }
    };
}

test "blocks keep what is in them, and free memory is zero" {
    const Pages = struct {
        var all: []align(chunk_size) u8 = undefined;
        var begin: usize = 0;
        var top: usize = 0;
        fn base() usize {
            return @intFromPtr(all.ptr) + begin;
        }
        fn end() usize {
            return @intFromPtr(all.ptr) + top;
        }
        fn grow(pages: usize) bool {
            if (top + pages * chunk_size > all.len) return false;
            top += pages * chunk_size;
            return true;
        }
    };
    const heap = Heap(Pages).allocator;
    Pages.all = try std.testing.allocator.alignedAlloc(u8, .fromByteUnits(chunk_size), 400 * chunk_size);
    defer std.testing.allocator.free(Pages.all);
    var prng: std.Random.DefaultPrng = .init(1);
    const random = prng.random();
    for ([_]usize{ 0, 1234, 65530 }) |begin| {
        @memset(Pages.all, 0);
        Pages.begin = begin;
        Pages.top = if (begin == 0) 0 else chunk_size;
        var blocks: [300][]u8 = @splat(&.{});
        for (0..30_000) |step| {
            const block = &blocks[random.uintLessThan(usize, blocks.len)];
            const length = 1 + random.uintLessThan(usize, if (step % 50 == 0) 300_000 else if (step % 10 == 0) 40_000 else 200);
            for (block.*) |byte| try std.testing.expectEqual(@as(u8, @truncate(block.len)) | 1, byte);
            if (block.len > 0 and step % 3 != 0) {
                // Not `free`, which would fill it first.
                heap.rawFree(block.*, .@"1", 0);
                block.* = &.{};
                continue;
            }
            if (block.len > 0) {
                const had = block.len;
                block.* = heap.realloc(block.*, length) catch continue;
                _ = had;
            } else {
                const at = heap.rawAlloc(length, .@"1", 0) orelse continue;
                block.* = at[0..length];
                for (block.*) |byte| try std.testing.expectEqual(0, byte);
            }
            @memset(block.*, @as(u8, @truncate(length)) | 1);
        }
        for (blocks) |block| if (block.len > 0) heap.rawFree(block, .@"1", 0);
        for (Pages.all) |byte| try std.testing.expectEqual(0, byte);
    }
}
