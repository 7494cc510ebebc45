//! The guest of the conformance suite (guest-sdk/conformance/README.md): one.wasm, same.wasm, two.wasm and bad.wasm are its versions 1, 101, 2 and 3.

const std = @import("std");
const exuvia = @import("exuvia");
const Context = exuvia.Context;
const Pid = exuvia.Pid;

pub const panic = exuvia.panic;
pub const std_options = exuvia.std_options;

const version = @import("options").version;

comptime {
    exuvia.actor(Guest);
}

/// What another process has replied.
const Result = union(enum) { Ok: exuvia.Value, Err: []const u8 };

fn result(outcome: exuvia.Outcome, arena: std.mem.Allocator) Result {
    return switch (outcome.result) {
        .value => |value| .{ .Ok = value },
        .refused => |text| .{ .Err = std.fmt.allocPrint(arena, "refused: {s}", .{text}) catch "refused: " },
        .failed => |e| .{ .Err = switch (e) {
            error.Timeout => "timeout",
            error.NoProc => "noproc",
            else => @errorName(e),
        } },
    };
}

const Guest = struct {
    count: i64 = 0,
    notes: std.ArrayList([]const u8) = .empty,
    kept: std.ArrayList(exuvia.Caller) = .empty,
    file: ?std.Io.File = null,
    position: u64 = 0,

    pub const schema = if (version == 101) 1 else version;
    pub const layout = schema == 1;
    pub const loads = if (schema == 1) .{} else .{.{ 1, schema - 1 }};
    pub const Saved = if (schema == 1) struct { count: i64, notes: []const []const u8 } else struct { total: i64, notes: []const []const u8 };

    pub fn init(args: ?struct { start: i64 = 0 }) Guest {
        return .{ .count = if (args) |given| given.start else 0 };
    }

    fn note(self: *Guest, text: []const u8) !void {
        const copy = try exuvia.allocator.dupe(u8, text);
        errdefer exuvia.allocator.free(copy);
        try self.notes.append(exuvia.allocator, copy);
    }

    pub const messages = struct {
        pub fn Add(self: *Guest, args: struct { by: i64 }) void {
            self.count += args.by;
        }
        pub fn Note(self: *Guest, args: struct { text: []const u8 }) !void {
            try self.note(args.text);
        }
        pub fn Stop(args: struct { code: i32, text: []const u8 }) void {
            exuvia.exit(args.code, args.text);
        }
        pub fn Trap() void {
            outer();
        }
    };

    pub const requests = struct {
        pub fn Version() i64 {
            return version;
        }
        pub fn Echo(args: struct { value: exuvia.Value }) exuvia.Value {
            return args.value;
        }
        pub fn Get(self: *Guest) i64 {
            return self.count;
        }
        pub fn Length(args: struct { bytes: exuvia.Bytes }) usize {
            return args.bytes.data.len;
        }
        pub fn Notes(self: *Guest, cx: *Context) !void {
            try cx.keep().reply(self.notes.items);
            for (self.notes.items) |text| exuvia.allocator.free(text);
            self.notes.clearAndFree(exuvia.allocator);
        }
        pub fn Keep(self: *Guest, cx: *Context) !void {
            try self.kept.ensureUnusedCapacity(exuvia.allocator, 1);
            self.kept.appendAssumeCapacity(cx.keep());
        }
        pub fn Release(self: *Guest, args: struct { value: exuvia.Value }) !void {
            for (self.kept.items) |caller| caller.reply(args.value) catch {};
            self.kept.clearAndFree(exuvia.allocator);
        }
        pub fn Call(args: struct { to: Pid, value: exuvia.Value, timeout_ms: u32 }, cx: *Context) !void {
            const outcome = exuvia.ask(args.to, "Echo", .{ .value = args.value }, args.timeout_ms);
            defer outcome.deinit();
            try cx.keep().reply(result(outcome, cx.arena));
        }
        pub fn CallKeep(args: struct { to: Pid, timeout_ms: u32 }, cx: *Context) !void {
            const outcome = exuvia.ask(args.to, "Keep", .{}, args.timeout_ms);
            defer outcome.deinit();
            try cx.keep().reply(result(outcome, cx.arena));
        }
        pub fn Await(args: struct { to: Pid, timeout_ms: u32 }, cx: *Context) !void {
            const caller = try exuvia.allocator.create(exuvia.Caller);
            errdefer exuvia.allocator.destroy(caller);
            try exuvia.await(args.to, "Keep", .{}, args.timeout_ms, caller, awaited);
            caller.* = cx.keep();
        }
        fn awaited(caller: *exuvia.Caller, outcome: exuvia.Outcome) void {
            defer exuvia.allocator.destroy(caller);
            var arena: std.heap.ArenaAllocator = .init(exuvia.allocator);
            defer arena.deinit();
            caller.reply(result(outcome, arena.allocator())) catch {};
        }
        pub fn Select(args: struct { tag: u32, timeout_ms: u32 }, cx: *Context) !void {
            const message = exuvia.receive(.{ .tag = args.tag }, args.timeout_ms) catch |e| switch (e) {
                error.Timeout => return,
                else => return e,
            };
            defer message.deinit();
            try cx.keep().reply(try message.as([]const u8, cx.arena));
        }
        pub fn Timers(args: struct { delays_ms: []const u32 }, cx: *Context) !void {
            for (args.delays_ms) |delay| {
                const text = try std.fmt.allocPrint(cx.arena, "timer {d}", .{delay});
                _ = try exuvia.sendAfter(exuvia.me(), "Note", .{ .text = text }, delay);
            }
        }
        pub fn Watch(args: struct { pid: Pid }) !void {
            _ = try exuvia.monitor(args.pid);
        }
        pub fn Join(args: struct { pid: Pid }) !void {
            _ = exuvia.trapExit(true);
            try exuvia.link(args.pid);
        }
        pub fn Register(args: struct { name: []const u8 }) !void {
            try exuvia.register(args.name);
        }
        pub fn Whereis(args: struct { name: []const u8 }) ?Pid {
            return exuvia.whereis(args.name) catch null;
        }
        pub fn Child(args: struct { start: i64 }) !Pid {
            return (try exuvia.spawn(null, .{ .start = args.start }, .{ .flags = exuvia.abi.spawn.link })).pid;
        }
        pub fn Send(args: struct { to: Pid, text: []const u8 }) !void {
            try exuvia.send(args.to, "Note", .{ .text = args.text });
        }
        pub fn Fill(args: struct { bytes: u32 }) !u32 {
            const memory = try exuvia.allocator.alloc(u8, args.bytes);
            defer exuvia.allocator.free(memory);
            @memset(memory, 0xa5);
            std.mem.doNotOptimizeAway(memory);
            return args.bytes;
        }
        pub fn ReadFile(args: struct { path: []const u8 }, cx: *Context) ![]const u8 {
            const file = try open(args.path, cx);
            defer file.close(io());
            var reader = file.reader(io(), &.{});
            return reader.interface.allocRemaining(cx.arena, .unlimited) catch |e| return cx.refuse("{s}: {t}", .{ args.path, reader.err orelse e });
        }
        pub fn OpenFile(self: *Guest, args: struct { path: []const u8 }, cx: *Context) !void {
            if (self.file) |file| file.close(io());
            self.file = try open(args.path, cx);
            self.position = 0;
            _ = try self.next(cx);
        }
        pub fn ReadOn(self: *Guest, cx: *Context) ![]const u8 {
            return self.next(cx);
        }
        pub fn Random(cx: *Context) !exuvia.Bytes {
            const bytes = try cx.arena.alloc(u8, 16);
            exuvia.random(bytes);
            return .{ .data = bytes };
        }
        pub fn Log(args: struct { text: []const u8 }) void {
            std.log.info("{s}", .{args.text});
        }
    };

    pub fn onDown(self: *Guest, cx: *Context) !void {
        try self.note(try std.fmt.allocPrint(cx.arena, "down {d}", .{cx.reason}));
    }
    pub fn onExit(self: *Guest, cx: *Context) !void {
        try self.note(try std.fmt.allocPrint(cx.arena, "exit {d}", .{cx.reason}));
    }

    fn next(self: *Guest, cx: *Context) ![]const u8 {
        const file = self.file orelse return cx.refuse("no file is open", .{});
        const byte = try cx.arena.alloc(u8, 1);
        if (try file.readPositionalAll(io(), byte, self.position) == 0) return cx.refuse("the file has ended", .{});
        self.position += 1;
        return byte;
    }

    // What is saved: version 2 has another name for the count. Requests that were kept and the file are of this code only.
    pub fn save(self: *const Guest, writer: *exuvia.msgpack.Writer) !void {
        if (schema == 1) try writer.write(.{ .count = self.count, .notes = self.notes }) else try writer.write(.{ .total = self.count, .notes = self.notes });
    }

    pub fn load(from: i32, state: exuvia.Value, cx: *Context) !Guest {
        if (from < 1 or from > schema) return cx.refuse("schema {d} is unknown here", .{from});
        const saved = try state.as(struct { count: ?i64, total: ?i64, notes: []const []const u8 }, cx.arena);
        var guest: Guest = .{ .count = saved.total orelse saved.count orelse return cx.refuse("`count` is missing", .{}) };
        for (saved.notes) |text| try guest.note(text);
        if (version == 3 and guest.count == 13) @panic("the count is 13");
        if (version == 3 and @mod(guest.count, 2) == 1) return cx.refuse("the count {d} is odd", .{guest.count});
        return guest;
    }
};

noinline fn inner() void {
    @panic("inner was called");
}

noinline fn outer() void {
    inner();
}

fn io() std.Io {
    return std.Io.Threaded.global_single_threaded.io();
}

/// Opens a file in one of the folders that were granted.
fn open(path: []const u8, cx: *Context) !std.Io.File {
    const preopens = try std.process.Preopens.init(cx.arena);
    for (preopens.map.keys()[3..], 3..) |folder, handle| {
        const inside = if (std.mem.eql(u8, folder, "/")) path[1..] else if (std.mem.startsWith(u8, path, folder)) std.mem.trimStart(u8, path[folder.len..], "/") else continue;
        const dir: std.Io.Dir = .{ .handle = @intCast(handle) };
        return dir.openFile(io(), inside, .{}) catch |e| return cx.refuse("{s}: {t}", .{ path, e });
    }
    return cx.refuse("{s}: no folder of it was granted", .{path});
}
