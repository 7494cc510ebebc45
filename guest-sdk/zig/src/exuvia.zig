//! Exuvia processes in Zig: a struct with its state, and a function for each message.
//!
//! ```
//! const exuvia = @import("exuvia");
//!
//! const Counter = struct {
//!     count: i64 = 0,
//!
//!     pub const schema = 1;
//!
//!     pub const messages = struct {
//!         pub fn Add(self: *Counter, args: struct { by: i64 }) void {
//!             self.count += args.by;
//!         }
//!     };
//!     pub const requests = struct {
//!         pub fn Get(self: *Counter) i64 {
//!             return self.count;
//!         }
//!     };
//! };
//!
//! comptime {
//!     exuvia.actor(Counter);
//! }
//! pub const panic = exuvia.panic;
//! pub const std_options = exuvia.std_options;
//! ```
//!
//! Times are milliseconds; `null` as a timeout never expires. There is one thread.

const std = @import("std");
const Allocator = std.mem.Allocator;

pub const abi = @import("abi.zig");
pub const msgpack = @import("msgpack.zig");
pub const tag = abi.tag;
pub const actor = @import("actor.zig").actor;
pub const Context = @import("actor.zig").Context;
pub const Http = @import("actor.zig").Http;
pub const HttpHeader = @import("actor.zig").HttpHeader;

/// The heap of the process. What is freed is zero, so that an idle process is small.
pub const allocator = @import("heap.zig").allocator;

pub const Bytes = msgpack.Bytes;
pub const Value = msgpack.Value;

/// Which process. Opaque: compare it with `eql`, store it, send it. In MessagePack a binary of 16 bytes.
pub const Pid = extern struct {
    node: u64,
    process: u64,

    /// No process: the sender of messages from outside of the node, and of those of the host itself.
    pub const nobody: Pid = .{ .node = 0, .process = 0 };

    pub fn eql(self: Pid, other: Pid) bool {
        return self.node == other.node and self.process == other.process;
    }

    pub fn encode(self: Pid, writer: *msgpack.Writer) msgpack.Writer.Error!void {
        try writer.write(Bytes{ .data = std.mem.asBytes(&self) });
    }
    /// Also of an array of 16 integers, since JSON has no binary.
    pub fn decode(reader: *msgpack.Reader) msgpack.Reader.Error!Pid {
        var bytes: [16]u8 = undefined;
        if (reader.peek() == .array) {
            bytes = try reader.read([16]u8);
        } else {
            const h = try reader.head();
            if (h.type != .binary or h.number != 16) return error.WrongType;
            bytes = (try reader.take(16))[0..16].*;
        }
        return .{ .node = std.mem.readInt(u64, bytes[0..8], .little), .process = std.mem.readInt(u64, bytes[8..16], .little) };
    }
};

/// Who waits for a reply: what is kept of a request. It may be kept in the state, over swaps, and be passed on.
pub const Caller = struct {
    pid: Pid,
    reference: u64,

    /// Replies a value.
    pub fn reply(self: Caller, value: anytype) Error!void {
        var writer: msgpack.Writer = .{ .allocator = allocator };
        defer writer.deinit();
        writer.write(value) catch |e| {
            self.refuse("the reply does not fit into memory");
            return e;
        };
        try self.replyRaw(0, writer.bytes());
    }
    /// Replies bytes as they are, with a tag.
    pub fn replyRaw(self: Caller, with_tag: u32, bytes: []const u8) Error!void {
        check(self.answer(with_tag, bytes)) catch |e| {
            // The caller must get some reply: otherwise it waits until its timeout.
            if (e == error.MessageTooLarge) _ = self.answer(tag.refused, "the reply is larger than a message may be");
            return e;
        };
    }
    fn answer(self: Caller, with_tag: u32, bytes: []const u8) i32 {
        return abi.host.reply(&self.pid, @bitCast(self.reference), with_tag, bytes.ptr, @intCast(bytes.len));
    }
    /// Responds to a request of HTTP that was kept.
    pub fn respond(self: Caller, status: u16, headers: []const HttpHeader, body: []const u8) Error!void {
        var writer: msgpack.Writer = .{ .allocator = allocator };
        defer writer.deinit();
        writeResponse(&writer, status, headers, body) catch |e| {
            self.refuse("the response does not fit into memory");
            return e;
        };
        try self.replyRaw(tag.http_response, writer.bytes());
    }
    fn writeResponse(writer: *msgpack.Writer, status: u16, headers: []const HttpHeader, body: []const u8) msgpack.Writer.Error!void {
        try writer.map(2);
        try writer.text("status");
        try writer.write(status);
        try writer.text("headers");
        try writer.write(headers);
        try writer.raw(body);
    }
    /// Refuses the request: its sender gets the text.
    pub fn refuse(self: Caller, text: []const u8) void {
        // A caller that has ended needs no reply.
        self.replyRaw(tag.refused, text[0..@min(text.len, 65_000)]) catch {};
    }
};

/// What host calls fail with, and `Refused`: the other process has refused the request.
pub const Error = error{
    Timeout,
    NoProc,
    Limit,
    BadPointer,
    BadArgument,
    MessageTooLarge,
    MailboxFull,
    NameTaken,
    NoModule,
    StartFailed,
    Denied,
    NotSupported,
    Upgrade,
    Empty,
    TooBig,
    Unknown,
    Refused,
    OutOfMemory,
};

/// Turns a code of the ABI into an error.
pub fn check(code: i32) Error!void {
    if (code >= 0) return;
    return switch (@as(abi.Code, @fromBackingInt(@intCast(code)))) {
        .timeout => error.Timeout,
        .noproc => error.NoProc,
        .limit => error.Limit,
        .bad_pointer => error.BadPointer,
        .bad_argument => error.BadArgument,
        .message_too_large => error.MessageTooLarge,
        .mailbox_full => error.MailboxFull,
        .name_taken => error.NameTaken,
        .no_module => error.NoModule,
        .start_failed => error.StartFailed,
        .denied => error.Denied,
        .not_supported => error.NotSupported,
        .upgrade => error.Upgrade,
        .empty => error.Empty,
        .too_big => error.TooBig,
        else => error.Unknown,
    };
}

pub const Header = extern struct {
    size: u32 = 48,
    kind: abi.Kind = @fromBackingInt(@intCast(0)),
    sender: Pid = .nobody,
    reference: u64 = 0,
    tag: u32 = 0,
    length: u32 = 0,
    reason: i32 = 0,
    offset: u32 = 0,

    comptime {
        std.debug.assert(@sizeOf(Header) == 48);
    }
};

/// A message that is the caller's own: to be freed with `deinit`.
pub const Message = struct {
    header: Header,
    payload: []u8,

    pub fn deinit(self: Message) void {
        allocator.free(self.payload);
    }
    /// Reads the payload as a type; texts point into it.
    pub fn as(self: Message, comptime T: type, arena: Allocator) msgpack.Reader.Error!T {
        return (Value{ .bytes = self.payload }).as(T, arena);
    }
};

fn milliseconds(timeout: ?u63) i64 {
    return timeout orelse -1;
}

fn encoded(writer: *msgpack.Writer, name: []const u8, parameters: anytype) Error![]const u8 {
    try writer.named(name, parameters);
    return writer.bytes();
}

/// Sends a message: its name, and a struct of parameters. To a process that has ended it succeeds.
///
/// ```
/// try exuvia.send(counter, "Add", .{ .by = 3 });
/// ```
pub fn send(to: Pid, name: []const u8, parameters: anytype) Error!void {
    var writer: msgpack.Writer = .{ .allocator = allocator };
    defer writer.deinit();
    try sendRaw(to, 0, try encoded(&writer, name, parameters));
}

pub fn sendRaw(to: Pid, with_tag: u32, bytes: []const u8) Error!void {
    try check(abi.host.send(&to, with_tag, bytes.ptr, @intCast(bytes.len)));
}

/// What became of a request. `value` and `refused` are in `message`, which `deinit` frees.
pub const Outcome = struct {
    message: Message,
    result: union(enum) { value: Value, refused: []const u8, failed: Error },

    pub fn deinit(self: Outcome) void {
        self.message.deinit();
    }
};

const nothing: Message = .{ .header = .{}, .payload = &.{} };

/// Sends a request and waits for its reply, on the stack; other messages stay in the mailbox. Free what it returns with `deinit`. For `NoProc`, the
/// header's reason is why the process has ended.
pub fn ask(to: Pid, name: []const u8, parameters: anytype, timeout: ?u63) Outcome {
    return askInner(to, name, parameters, timeout) catch |e| .{ .message = nothing, .result = .{ .failed = e } };
}

fn askInner(to: Pid, name: []const u8, parameters: anytype, timeout: ?u63) Error!Outcome {
    var buffer: [1024]u8 = undefined;
    var header: Header = .{};
    const code = blk: {
        var writer: msgpack.Writer = .{ .allocator = allocator };
        defer writer.deinit();
        const bytes = try encoded(&writer, name, parameters);
        break :blk abi.host.call(&to, 0, bytes.ptr, @intCast(bytes.len), &header, &buffer, buffer.len, milliseconds(timeout));
    };
    const message: Message = switch (@as(abi.Code, @fromBackingInt(@intCast(code)))) {
        .too_big => try receive(.{ .reference = header.reference }, 0),
        .noproc => return .{ .message = .{ .header = header, .payload = &.{} }, .result = .{ .failed = error.NoProc } },
        else => blk: {
            try check(code);
            break :blk .{ .header = header, .payload = try allocator.dupe(u8, buffer[0..header.length]) };
        },
    };
    if (message.header.tag == tag.refused) return .{ .message = message, .result = .{ .refused = message.payload } };
    return .{ .message = message, .result = .{ .value = .{ .bytes = message.payload } } };
}

/// The same for a reply of a type that holds no texts or slices.
///
/// ```
/// const count = try exuvia.call(i64, counter, "Get", .{}, 5000);
/// ```
pub fn call(comptime Reply: type, to: Pid, name: []const u8, parameters: anytype, timeout: ?u63) (Error || msgpack.Reader.Error)!Reply {
    const outcome = ask(to, name, parameters, timeout);
    defer outcome.deinit();
    return switch (outcome.result) {
        .value => |value| value.as(Reply, std.testing.failing_allocator),
        .refused => error.Refused,
        .failed => |e| e,
    };
}

/// Sends a request whose reply goes to `onReply`, or its DOWN to `onDown`, with this reference: also after a swap. Without a timeout.
pub fn request(to: Pid, name: []const u8, parameters: anytype) Error!u64 {
    var writer: msgpack.Writer = .{ .allocator = allocator };
    defer writer.deinit();
    const bytes = try encoded(&writer, name, parameters);
    var reference: u64 = 0;
    try check(abi.host.request(&to, 0, bytes.ptr, @intCast(bytes.len), &reference));
    return reference;
}

/// Sends a request and returns; `then` is called with the context and what became of it. It takes no stack, and other messages are handled meanwhile. The process
/// does not change to new code while callbacks are due. After an error there will be no callback. The outcome is freed when the callback returns.
pub fn await(to: Pid, name: []const u8, parameters: anytype, timeout: ?u63, context: anytype, comptime then: fn (@TypeOf(context), Outcome) void) Error!void {
    const callback = struct {
        fn callback(pointer: *anyopaque, outcome: Outcome) void {
            then(@ptrCast(@alignCast(pointer)), outcome);
        }
    }.callback;
    try @import("actor.zig").awaiting(try request(to, name, parameters), timeout, context, callback);
}

/// Gives a request or a monitor up: nothing with this reference arrives any more.
pub fn demonitor(reference: u64) void {
    _ = abi.host.demonitor(@bitCast(reference), abi.demonitor.flush);
}

/// Sends a message after a time; returns its reference. The receiver gets it among its messages.
pub fn sendAfter(to: Pid, name: []const u8, parameters: anytype, delay: u63) Error!u64 {
    var writer: msgpack.Writer = .{ .allocator = allocator };
    defer writer.deinit();
    const bytes = try encoded(&writer, name, parameters);
    var reference: u64 = 0;
    try check(abi.host.send_after(&to, 0, bytes.ptr, @intCast(bytes.len), delay, &reference));
    return reference;
}

/// Cancels a timer; the milliseconds that were left, or null if it was too late.
pub fn cancelTimer(reference: u64) ?u64 {
    return std.math.cast(u64, abi.host.cancel_timer(@bitCast(reference)));
}

/// Waits, with its stack. Prefer `sendAfter`.
pub fn sleep(time: u63) Error!void {
    try check(abi.host.sleep(time));
}

/// Which message `receive` takes.
pub const Match = union(enum) {
    /// The next one.
    any,
    /// The same, and `error.Upgrade` when new code is ready: for a loop of your own, return `.rest` from `run` then.
    any_or_upgrade,
    /// The first with this tag; others stay, in their order.
    tag: u32,
    /// The first reply, DOWN or TIMER with this reference.
    reference: u64,
    /// With one of 1 to 64 references.
    references: []const u64,
    /// The first from this process.
    sender: *const Pid,
};

/// Takes a message out of the mailbox. Free it with `deinit`. A message for which there is no memory is dropped: with an error in the log; a request
/// is refused, and a selective receive returns `error.OutOfMemory`.
pub fn receive(match: Match, timeout: ?u63) Error!Message {
    var buffer: [1024]u8 = undefined;
    const taken = try take(match, timeout, &buffer);
    if (taken.payload.ptr != &buffer) return taken;
    const copy = allocator.dupe(u8, taken.payload) catch |e| {
        refuseForMemory(taken.header);
        return e;
    };
    return .{ .header = taken.header, .payload = copy };
}

/// As `receive`, but the payload is in the buffer if it fits.
pub fn take(match: Match, timeout: ?u63, buffer: []u8) Error!Message {
    const mode: i32, const key: i64 = switch (match) {
        .any => .{ abi.receive.any, 0 },
        .any_or_upgrade => .{ abi.receive.any | abi.receive.upgrade, 0 },
        .tag => |t| .{ abi.receive.tag, t },
        .reference => |r| .{ abi.receive.reference, @bitCast(r) },
        .references => |r| .{ abi.receive.references, @bitCast(@as(u64, r.len) << 32 | @intFromPtr(r.ptr)) },
        .sender => |s| .{ abi.receive.sender, @intCast(@intFromPtr(s)) },
    };
    var room = buffer;
    while (true) {
        var header: Header = .{};
        const code = abi.host.receive(&header, room.ptr, @intCast(room.len), milliseconds(timeout), mode, key);
        const own = room.ptr != buffer.ptr and room.len > 0;
        if (code == @backingInt(abi.Code.too_big)) {
            if (own) allocator.free(room);
            room = allocator.alloc(u8, header.length) catch {
                // It would stay the first for ever.
                header.size = 48;
                _ = abi.host.receive(&header, buffer.ptr, 0, 0, (mode & ~@as(i32, abi.receive.upgrade)) | abi.receive.truncate, key);
                refuseForMemory(header);
                room = buffer;
                if (match != .any and match != .any_or_upgrade) return error.OutOfMemory;
                if (header.kind == .init) return error.OutOfMemory;
                continue;
            };
            continue;
        }
        check(code) catch |e| {
            if (own) allocator.free(room);
            return e;
        };
        if (!own) return .{ .header = header, .payload = buffer[0..header.length] };
        if (header.length == room.len) return .{ .header = header, .payload = room };
        // Another message than that for which the room was made.
        defer allocator.free(room);
        const copy = allocator.dupe(u8, room[0..header.length]) catch |e| {
            refuseForMemory(header);
            return e;
        };
        return .{ .header = header, .payload = copy };
    }
}

fn refuseForMemory(header: Header) void {
    var buffer: [80]u8 = undefined;
    const text = std.fmt.bufPrint(&buffer, "there is no memory for a message of {d} bytes, which was dropped", .{header.length}) catch unreachable;
    log(.@"error", text);
    const caller: Caller = .{ .pid = header.sender, .reference = header.reference };
    if (header.kind == .request) caller.refuse(text);
    if (header.kind == .init) _ = abi.host.init_ack(256, text.ptr, @intCast(text.len));
}

/// Options of a spawn; 0 is the parent's. See guest-sdk/abi.md, section 11.
pub const SpawnOptions = extern struct {
    size: u32 = 72,
    /// `abi.spawn`.
    flags: u32 = 0,
    /// Bytes.
    memory: u64 = 0,
    /// Bytes.
    mailbox: u64 = 0,
    mailbox_messages: u32 = 0,
    /// Bytes.
    message: u32 = 0,
    children: u32 = 0,
    /// With SYNC: milliseconds; 0 is 5,000.
    start_timeout: u32 = 0,
    /// Bytes.
    tables: u64 = 0,
    /// The highest.
    priority: u32 = 0,
    files: u32 = 0,
    /// The address of the grants, in MessagePack.
    grants: u32 = 0,
    grants_length: u32 = 0,
    descendants: u32 = 0,
    reserved: u32 = 0,

    comptime {
        std.debug.assert(@sizeOf(SpawnOptions) == 72);
    }
};

pub const Child = struct {
    pid: Pid,
    /// With MONITOR.
    reference: u64,
};

/// Starts a process of a module of the release, or of this one's (null), with any arguments.
///
/// ```
/// const child = try exuvia.spawn(null, .{ .start = 7 }, .{ .flags = exuvia.abi.spawn.link });
/// ```
pub fn spawn(module: ?[]const u8, arguments: anytype, options: SpawnOptions) Error!Child {
    var writer: msgpack.Writer = .{ .allocator = allocator };
    defer writer.deinit();
    try writer.write(arguments);
    const name = module orelse "";
    var child: Child = .{ .pid = .nobody, .reference = 0 };
    try check(abi.host.spawn(name.ptr, @intCast(name.len), writer.bytes().ptr, @intCast(writer.bytes().len), &options, &child.pid, &child.reference));
    return child;
}

/// The pid of this process.
pub fn me() Pid {
    var pid: Pid = .nobody;
    _ = abi.host.self(&pid);
    return pid;
}

/// Ends this process: 0 is in order, codes from 256 on are free; the text is for people.
pub fn exit(code: i32, text: []const u8) noreturn {
    abi.host.exit(code, text.ptr, @intCast(text.len));
    @trap();
}

/// Sends an exit signal.
pub fn exitProcess(pid: Pid, code: i32, text: []const u8) Error!void {
    try check(abi.host.exit_process(&pid, code, text.ptr, @intCast(text.len)));
}

pub fn kill(pid: Pid) Error!void {
    try check(abi.host.kill(&pid));
}

pub fn link(pid: Pid) Error!void {
    try check(abi.host.link(&pid));
}

pub fn unlink(pid: Pid) Error!void {
    try check(abi.host.unlink(&pid));
}

/// Watches a process: `onDown` is called when it ends. Returns the reference.
pub fn monitor(pid: Pid) Error!u64 {
    var reference: u64 = 0;
    try check(abi.host.monitor(&pid, &reference));
    return reference;
}

/// Whether exit signals become messages (`onExit`). Returns what it was.
pub fn trapExit(on: bool) bool {
    return abi.host.trap_exit(@intFromBool(on)) == 1;
}

/// Gives this process a name.
pub fn register(name: []const u8) Error!void {
    const pid = me();
    try check(abi.host.register(name.ptr, @intCast(name.len), &pid));
}

pub fn unregister(name: []const u8) Error!void {
    try check(abi.host.unregister(name.ptr, @intCast(name.len)));
}

/// The process that has a name.
pub fn whereis(name: []const u8) Error!Pid {
    var pid: Pid = .nobody;
    try check(abi.host.whereis(name.ptr, @intCast(name.len), &pid));
    return pid;
}

/// Joins a group: a topic, a room.
pub fn groupJoin(group: []const u8) Error!void {
    const pid = me();
    try check(abi.host.group_join(group.ptr, @intCast(group.len), &pid));
}

pub fn groupLeave(group: []const u8) Error!void {
    const pid = me();
    try check(abi.host.group_leave(group.ptr, @intCast(group.len), &pid));
}

/// Sends a message to all members of a group; returns how many accepted it.
pub fn publish(group: []const u8, name: []const u8, parameters: anytype) Error!u32 {
    var writer: msgpack.Writer = .{ .allocator = allocator };
    defer writer.deinit();
    const bytes = try encoded(&writer, name, parameters);
    const count = abi.host.publish(group.ptr, @intCast(group.len), 0, bytes.ptr, @intCast(bytes.len));
    try check(count);
    return @intCast(count);
}

/// A value of `[config]` of the manifest, by its path: "shop.currency". Null if there is none; else free its bytes with `allocator`.
pub fn config(path: []const u8) Error!?Value {
    const length = abi.host.config(path.ptr, @intCast(path.len), null, 0);
    if (length == @backingInt(abi.Code.empty)) return null;
    try check(length);
    const bytes = try allocator.alloc(u8, @intCast(length));
    _ = abi.host.config(path.ptr, @intCast(path.len), bytes.ptr, @intCast(bytes.len));
    return .{ .bytes = bytes };
}

/// Writes a line to the node's log.
pub fn log(level: abi.LogLevel, text: []const u8) void {
    _ = abi.host.log(@backingInt(level), text.ptr, @intCast(text.len));
}

/// For the root file: `pub const std_options = exuvia.std_options;`. Then `std.log` writes to the node's log.
pub const std_options: std.Options = .{ .logFn = logFn, .log_level = .debug };

fn logFn(comptime level: std.log.Level, comptime scope: @EnumLiteral(), comptime format: []const u8, arguments: anytype) void {
    const prefix = if (scope == .default) "" else "(" ++ @tagName(scope) ++ ") ";
    var buffer: [1024]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    // A longer line is cut.
    writer.print(prefix ++ format, arguments) catch {};
    log(switch (level) {
        .err => .@"error",
        .warn => .warn,
        .info => .info,
        .debug => .debug,
    }, writer.buffered());
}

/// For the root file: `pub const panic = exuvia.panic;`. Then the text of a panic is in the log, and the reason has the backtrace.
pub const panic = std.debug.FullPanic(panicFn);

fn panicFn(text: []const u8, _: ?usize) noreturn {
    @branchHint(.cold);
    log(.@"error", text);
    @trap();
}

/// Fills a buffer with random bytes that are good for keys.
pub fn random(buffer: []u8) void {
    var left = buffer;
    while (left.len > 0) {
        const part = left[0..@min(left.len, 65_536)];
        _ = abi.host.random(part.ptr, @intCast(part.len));
        left = left[part.len..];
    }
}

/// Nanoseconds.
pub fn clock(which: abi.Clock) i64 {
    return abi.host.clock(@backingInt(which));
}

/// A number about this process.
pub fn info(what: abi.Info) i64 {
    return abi.host.info(@backingInt(what));
}

test {
    _ = msgpack;
    _ = @import("actor.zig");
    _ = @import("heap.zig");
}
