//! The loop of an actor: connects `run`, `save` and `load` with the functions of a struct.
//!
//! Nothing here stays in memory between messages besides the state itself and the callbacks that are due: whatever an idle process keeps is part of its
//! image, and there may be a million of them.

const std = @import("std");
const builtin = @import("builtin");
const exuvia = @import("exuvia.zig");
const abi = exuvia.abi;
const msgpack = exuvia.msgpack;
const Value = exuvia.Value;

/// The tag of the timers of `exuvia.await`, the same as in other SDKs.
const tag_awaited = 0xffff_fffe;

/// What a handler may ask for besides its parameters: it is the argument of type `*Context`.
pub const Context = struct {
    kind: abi.Kind,
    /// Who has sent the message; for onExit and onDown: who has ended.
    sender: exuvia.Pid,
    /// Request: what a reply must name. Reply, DOWN, TIMER: what they belong to.
    reference: u64,
    tag: u32,
    /// onExit, onDown: why, a number of `abi.Reason` or a code from 256 on.
    reason: i32,
    /// The bytes as they came. Valid until the handler returns.
    payload: []const u8,
    /// Memory that is freed when the handler has returned.
    arena: std.mem.Allocator,
    settled: bool = false,
    text: []const u8 = "",

    /// Keeps a request to reply later; the handler's result is not replied then.
    pub fn keep(self: *Context) exuvia.Caller {
        self.settled = true;
        return .{ .pid = self.sender, .reference = self.reference };
    }

    /// Fails with a text for the sender, or for the operator: `return cx.refuse("no file {s}", .{name});`
    pub fn refuse(self: *Context, comptime format: []const u8, arguments: anytype) error{Refused} {
        self.text = std.fmt.allocPrint(self.arena, format, arguments) catch "there is no memory";
        return error.Refused;
    }

    /// The payload of a reply, as a type. Texts point into it.
    pub fn as(self: *Context, comptime T: type) msgpack.Reader.Error!T {
        return (Value{ .bytes = self.payload }).as(T, self.arena);
    }

    /// For onHttp: the request. Valid until the handler returns.
    pub fn http(self: *Context) msgpack.Reader.Error!Http {
        var reader: msgpack.Reader = .{ .bytes = self.payload, .allocator = self.arena };
        var request = try reader.read(Http);
        request.body = reader.bytes[reader.at..];
        return request;
    }

    /// For onHttp: responds. Or keep the request, and `Caller.respond` later.
    pub fn respond(self: *Context, status: u16, headers: []const HttpHeader, body: []const u8) exuvia.Error!void {
        try self.caller().respond(status, headers, body);
        self.settled = true;
    }

    fn caller(self: *const Context) exuvia.Caller {
        return .{ .pid = self.sender, .reference = self.reference };
    }
};

/// A header of HTTP: its name in small letters, and its value.
pub const HttpHeader = struct { []const u8, exuvia.Bytes };

/// A request of HTTP (guest-sdk/io.md).
pub const Http = struct {
    method: []const u8,
    /// As it was sent, still percent-encoded.
    path: []const u8,
    query: []const u8 = "",
    host: []const u8 = "",
    /// The parameters of the route's path: a map of texts.
    params: Value = .nil,
    headers: []const HttpHeader = &.{},
    peer: []const u8 = "",
    body: []const u8 = "",

    /// The first header of that name, in small letters.
    pub fn header(self: Http, name: []const u8) ?[]const u8 {
        for (self.headers) |one| if (std.mem.eql(u8, one[0], name)) return one[1].data;
        return null;
    }
};

/// A callback that is due.
const Due = struct {
    next: ?*Due,
    reference: u64,
    timer: u64,
    context: *anyopaque,
    callback: *const fn (*anyopaque, exuvia.Outcome) void,
};

var due: ?*Due = null;

pub fn awaiting(reference: u64, timeout: ?u63, context: *anyopaque, callback: *const fn (*anyopaque, exuvia.Outcome) void) exuvia.Error!void {
    errdefer exuvia.demonitor(reference);
    const one = try exuvia.allocator.create(Due);
    errdefer exuvia.allocator.destroy(one);
    one.* = .{ .next = due, .reference = reference, .timer = 0, .context = context, .callback = callback };
    if (timeout) |time| {
        const me = exuvia.me();
        try exuvia.check(abi.host.send_after(&me, tag_awaited, null, 0, time, &one.timer));
    }
    due = one;
}

/// Calls the callback that a message belongs to, if there is one.
fn resumed(message: exuvia.Message) bool {
    const header = message.header;
    const timer = header.kind == .timer and header.tag == tag_awaited;
    if (!timer and header.kind != .reply and header.kind != .down) return false;
    var at = &due;
    while (at.*) |one| : (at = &one.next) {
        if (header.reference != (if (timer) one.timer else one.reference)) continue;
        const copy = one.*;
        at.* = one.next;
        exuvia.allocator.destroy(one);
        if (timer) exuvia.demonitor(copy.reference) else if (copy.timer != 0) _ = exuvia.cancelTimer(copy.timer);
        copy.callback(copy.context, .{ .message = message, .result = if (timer)
            .{ .failed = error.Timeout }
        else if (header.kind == .down)
            .{ .failed = error.NoProc }
        else if (header.tag == exuvia.tag.refused)
            .{ .refused = message.payload }
        else
            .{ .value = .{ .bytes = message.payload } } });
        return true;
    }
    // A timer that had fired before it was cancelled.
    return timer;
}

/// Exports a process whose state is a `T`. In the root file: `comptime { exuvia.actor(Counter); }`. Of `T` it uses, if they are there:
///
/// - `pub const schema`: the number of the shape of the state, 0 without it;
/// - `pub fn init(args, *Context) !T`, else every field must have a default;
/// - `pub const messages = struct { pub fn Name(self: *T, args, *Context) !void }`;
/// - `pub const requests = struct { pub fn Name(self: *T, args, *Context) !Reply }`: what it returns is replied, unless `Context.keep` was called; an
///   error refuses the request, with the text of `Context.refuse` or the error's name;
/// - `pub fn onDown`, `onExit`, `onReply`, `onHttp`, `onSocket`, `onOther`, all `(self: *T, cx: *Context) !void`;
/// - `pub fn load(schema: i32, state: Value, *Context) !T`: reads what another version has saved. Without it, the fields are read by their names, from
///   the same schema only. Allocate what stays with `exuvia.allocator`;
/// - `pub const loads = .{ 1, .{ 3, 5 } }`: the schemas that `load` takes besides its own, numbers and ranges, for `exuvia check OLD NEW`;
/// - `pub fn save(self: T, *msgpack.Writer) !void` instead of the fields, and `pub const Saved = struct { ... }`: what it writes, for the same;
/// - `pub const transient = .{"file"}`: fields that are not saved, and have a default;
/// - `pub const layout = true`: promises that what the process keeps is all in `T` and what that points to, and not in variables of its own. A swap to code with
///   an equal `T` then keeps the memory as it is, without save and load;
/// - `pub fn warmUp() void`: once per version, before all processes.
///
/// All parameters may be left out, and are told apart by their types: `*T`, `*Context`, and the rest is `args`, of any type that MessagePack can hold.
pub fn actor(comptime T: type) void {
    const Process = Actor(T);
    @export(&Process.run, .{ .name = "run" });
    @export(&Process.save, .{ .name = "save" });
    @export(&Process.load, .{ .name = "load" });
    @export(&Process.version, .{ .name = "exuvia_abi" });
    @export(&Process.schema, .{ .name = "exuvia_schema" });
    @export(&Process.warmUp, .{ .name = "warm_up" });
}

fn handlers(comptime T: type, comptime which: []const u8) type {
    return if (@hasDecl(T, which)) @field(T, which) else struct {};
}

/// Types and constants may stand among the handlers.
fn isHandler(comptime Table: type, comptime name: []const u8) bool {
    return @typeInfo(@TypeOf(@field(Table, name))) == .@"fn";
}

fn describe(comptime T: type, comptime which: []const u8) []const u8 {
    comptime {
        @setEvalBranchQuota(100_000);
        var text: []const u8 = "";
        const Table = handlers(T, which);
        for (@typeInfo(Table).@"struct".decl_names) |name| {
            if (!isHandler(Table, name)) continue;
            const f = @typeInfo(@TypeOf(@field(Table, name))).@"fn";
            text = text ++ ".ascii \"{\\\"name\\\":\\\"" ++ snake(name) ++ "\\\",\\\"message\\\":\\\"" ++ name ++ "\\\",\\\"parameters\\\":[";
            for (f.param_types) |P| {
                if (P.? == *T or P.? == *Context) continue;
                if (msgpack.isMap(P.?)) {
                    const s = @typeInfo(P.?).@"struct";
                    for (s.field_names, s.field_types, s.field_attrs, 0..) |field, Field, attributes, i| {
                        const optional = attributes.default_value_ptr != null and @typeInfo(Field) != .optional;
                        const kind = if (optional) "Option<" ++ shown(Field) ++ ">" else shown(Field);
                        text = text ++ (if (i == 0) "" else ",") ++ "{\\\"name\\\":\\\"" ++ field ++ "\\\",\\\"type\\\":\\\"" ++ kind ++ "\\\"}";
                    }
                }
            }
            text = text ++ "]" ++ (if (which[0] == 'r') ",\\\"reply\\\":\\\"" ++ shown(Payload(f.return_type.?)) ++ "\\\"" else "") ++ "}\\n\"\n";
        }
        return text;
    }
}

/// How a type is shown to people. One that begins with `Option<` may be left out.
fn shown(comptime F: type) []const u8 {
    return switch (@typeInfo(F)) {
        .optional => |o| "Option<" ++ shown(o.child) ++ ">",
        .pointer => |p| if (p.child == u8) "text" else "[" ++ shown(p.child) ++ "]",
        .int, .float, .bool => @typeName(F),
        .void => "nil",
        else => last(@typeName(F)),
    };
}

fn last(comptime name: []const u8) []const u8 {
    comptime {
        if (std.mem.findAny(u8, name, "({\"\\") != null) return "map";
        return if (std.mem.findScalarLast(u8, name, '.')) |dot| name[dot + 1 ..] else name;
    }
}

/// `CallKeep` as `call_keep`.
fn snake(comptime name: []const u8) []const u8 {
    comptime {
        var text: []const u8 = "";
        for (name, 0..) |byte, i| {
            if (std.ascii.isUpper(byte) and i > 0 and !std.ascii.isUpper(name[i - 1])) text = text ++ "_";
            text = text ++ .{std.ascii.toLower(byte)};
        }
        return text;
    }
}

/// What the bytes of the state mean: equal texts, equal meaning.
fn layout(comptime T: type) []const u8 {
    comptime {
        @setEvalBranchQuota(1_000_000);
        const text = "zig " ++ builtin.zig_version_string ++ " sdk 1 " ++ @tagName(builtin.mode) ++ " " ++ shape(T, &.{});
        // A number of 128 bits: the text may be long.
        var hash: u128 = 0x6c62272e07bb014262b821756295c58d;
        for (text) |byte| hash = (hash ^ byte) *% 0x0000000001000000000000000000013b;
        return std.fmt.comptimePrint("{x:0>32}", .{hash});
    }
}

fn shape(comptime F: type, comptime outer: []const type) []const u8 {
    comptime {
        // A type that contains itself by a pointer.
        for (outer, 0..) |other, i| if (other == F) return std.fmt.comptimePrint("^{d}", .{i});
        const inside = outer ++ .{F};
        const size = std.fmt.comptimePrint(":{d}", .{@sizeOf(F)});
        switch (@typeInfo(F)) {
            .void, .bool, .int, .float => return @typeName(F),
            .optional => |o| return "?" ++ shape(o.child, inside),
            .array => |a| return std.fmt.comptimePrint("[{d}]", .{a.len}) ++ shape(a.child, inside),
            .pointer => |p| return @tagName(p.size) ++ "*" ++ shape(p.child, inside),
            .@"enum" => |e| {
                var text: []const u8 = "enum" ++ size;
                for (e.field_names, e.field_values) |name, value| text = text ++ std.fmt.comptimePrint(" {s}={d}", .{ name, value });
                return text;
            },
            .@"struct" => |s| {
                var text: []const u8 = "{" ++ size;
                for (s.field_names, s.field_types, s.field_attrs) |name, Field, attributes| {
                    if (attributes.@"comptime") continue;
                    text = text ++ " " ++ name ++ std.fmt.comptimePrint("@{d} ", .{@bitOffsetOf(F, name)}) ++ shape(Field, inside);
                }
                return text ++ "}";
            },
            .@"union" => |u| {
                if (u.tag_type == null) @compileError("`layout`: a union without a tag, " ++ @typeName(F));
                var text: []const u8 = "(" ++ size ++ " " ++ shape(u.tag_type.?, inside);
                for (u.field_names, u.field_types) |name, Field| text = text ++ " " ++ name ++ " " ++ shape(Field, inside);
                return text ++ ")";
            },
            else => @compileError("`layout`: what " ++ @typeName(F) ++ " means in memory is not known; leave `layout` out"),
        }
    }
}

/// What the module says of its state, in the section `exuvia.state`. Nothing if `save` writes it and there is no `Saved`.
fn describeState(comptime T: type) []const u8 {
    comptime {
        @setEvalBranchQuota(100_000);
        if (@hasDecl(T, "save") and !@hasDecl(T, "Saved")) return "";
        const Saved = if (@hasDecl(T, "Saved")) T.Saved else T;
        const loads = if (!@hasDecl(T, "load")) "[]" else if (@hasDecl(T, "loads")) ranges(T.loads) else "\\\"any\\\"";
        const number = std.fmt.comptimePrint("{d}", .{if (@hasDecl(T, "schema")) T.schema else 0});
        return ".section .custom_section.exuvia.state,\"\",@\n.ascii \"{\\\"schema\\\": " ++ number ++ ", \\\"loads\\\": " ++ loads ++
            ", \\\"type\\\": \\\"" ++ record(Saved, if (Saved == T) T else void, &.{}) ++ "\\\"}\\n\"\n";
    }
}

fn ranges(comptime loads: anytype) []const u8 {
    comptime {
        var text: []const u8 = "[";
        for (loads, 0..) |one, i| {
            text = text ++ (if (i == 0) "" else ", ") ++ switch (@typeInfo(@TypeOf(one))) {
                .int, .comptime_int => std.fmt.comptimePrint("{d}", .{one}),
                else => std.fmt.comptimePrint("[{d}, {d}]", .{ one[0], one[1] }),
            };
        }
        return text ++ "]";
    }
}

/// A struct as it is saved, without the fields that `Whole` calls transient.
fn record(comptime F: type, comptime Whole: type, comptime outer: []const type) []const u8 {
    comptime {
        const s = @typeInfo(F).@"struct";
        var text: []const u8 = "{";
        for (s.field_names, s.field_types, s.field_attrs) |name, Field, attributes| {
            if (Whole != void and isTransient(Whole, name)) continue;
            const missing = if (attributes.default_value_ptr != null) "?" else "";
            text = text ++ (if (text.len == 1) "" else ", ") ++ name ++ missing ++ ": " ++ savedAs(Field, outer ++ .{F});
        }
        return text ++ "}";
    }
}

/// What a value is in MessagePack, in the words of the section. A type of which that is not known, or that contains itself, is its name.
fn savedAs(comptime F: type, comptime outer: []const type) []const u8 {
    comptime {
        const named = "'" ++ last(@typeName(F)) ++ "'";
        for (outer) |other| if (other == F) return named;
        if (F == exuvia.Pid) return "pid";
        if (F == exuvia.Bytes) return "bytes";
        if (F == Value) return "any";
        if (msgpack.isMap(F)) return record(F, void, outer);
        if (msgpack.ListItem(F)) |Item| return "List<" ++ savedAs(Item, outer) ++ ">";
        return switch (@typeInfo(F)) {
            .void => "nil",
            .bool => "bool",
            .int => "int",
            .float => "float",
            .optional => |o| "Option<" ++ savedAs(o.child, outer) ++ ">",
            .pointer => |p| if (p.child == u8) "text" else "List<" ++ savedAs(p.child, outer) ++ ">",
            .array => |a| if (a.child == u8) "text" else "List<" ++ savedAs(a.child, outer) ++ ">",
            .@"enum" => |e| listed("Enum<", e.field_names, &.{}, outer ++ .{F}),
            .@"union" => |u| listed("Enum<", u.field_names, u.field_types, outer ++ .{F}),
            .@"struct" => |s| if (s.is_tuple) listed("Tuple<", &.{}, s.field_types, outer) else named,
            else => named,
        };
    }
}

/// Names, types, or names with types, between `<` and `>`.
fn listed(comptime begin: []const u8, comptime names: []const []const u8, comptime types: []const type, comptime outer: []const type) []const u8 {
    comptime {
        var text: []const u8 = begin;
        for (0..@max(names.len, types.len)) |i| {
            if (i > 0) text = text ++ ", ";
            if (i < names.len) text = text ++ names[i];
            // A union's variant without content is its name alone.
            if (i >= types.len or (names.len > 0 and types[i] == void)) continue;
            text = text ++ (if (names.len > 0) ": " else "") ++ savedAs(types[i], outer);
        }
        return text ++ ">";
    }
}

/// Whether `transient` says that a field is not saved.
fn isTransient(comptime T: type, comptime field: []const u8) bool {
    if (!@hasDecl(T, "transient")) return false;
    inline for (T.transient) |other| if (std.mem.eql(u8, field, other)) return true;
    return false;
}

fn Payload(comptime R: type) type {
    return switch (@typeInfo(R)) {
        .error_union => |e| e.payload,
        else => R,
    };
}

fn Actor(comptime T: type) type {
    return struct {
        // What `exuvia describe` and `exuvia call` know.
        comptime {
            asm (".section .custom_section.exuvia.protocol,\"\",@\n" ++ describe(T, "messages") ++ describe(T, "requests"));
            if (describeState(T).len > 0) asm (describeState(T));
            if (@hasDecl(T, "layout") and T.layout) asm (".section .custom_section.exuvia.layout,\"\",@\n.ascii \"" ++ layout(T) ++ "\"\n");
        }

        var state: T = undefined;
        var started: bool = false;

        const schema_number: i32 = if (@hasDecl(T, "schema")) T.schema else 0;

        fn version() callconv(.c) i32 {
            return abi.version;
        }

        fn schema() callconv(.c) i32 {
            return schema_number;
        }

        fn warmUp() callconv(.c) void {
            if (@hasDecl(T, "warmUp")) T.warmUp();
        }

        fn run() callconv(.c) abi.RunResult {
            var buffer: [1024]u8 = undefined;
            while (true) {
                const message = exuvia.take(.any, 0, &buffer) catch |e| {
                    if (e == error.OutOfMemory and !started) return .done;
                    return if (due == null) .rest else .waiting;
                };
                defer if (message.payload.ptr != &buffer) message.deinit();
                var arena: std.heap.ArenaAllocator = .init(exuvia.allocator);
                defer arena.deinit();
                const header = message.header;
                var cx: Context = .{
                    .kind = header.kind,
                    .sender = header.sender,
                    .reference = header.reference,
                    .tag = header.tag,
                    .reason = header.reason,
                    .payload = message.payload,
                    .arena = arena.allocator(),
                };
                if (header.kind == .init) {
                    if (!start(&cx)) return .done;
                } else if (!resumed(message)) {
                    dispatch(&cx);
                }
            }
        }

        fn start(cx: *Context) bool {
            var reader: msgpack.Reader = .{ .bytes = if (cx.payload.len == 0) "\xc0" else cx.payload, .allocator = cx.arena };
            if (comptime @hasDecl(T, "init")) {
                const result = invoke(T.init, cx, &reader);
                state = result catch |e| {
                    const text = describeError(cx, &reader, "the arguments", e);
                    _ = abi.host.init_ack(256, text.ptr, @intCast(text.len));
                    return false;
                };
            } else state = .{};
            started = true;
            _ = abi.host.init_ack(0, null, 0);
            return true;
        }

        fn dispatch(cx: *Context) void {
            switch (cx.kind) {
                .exit => optional("onExit", cx),
                .down => optional("onDown", cx),
                .reply => optional("onReply", cx),
                .message, .timer => if (isSocket(cx.tag)) optional("onSocket", cx) else if (cx.tag == 0) named("messages", cx) else optional("onOther", cx),
                .request => if (cx.tag == exuvia.tag.http_request) {
                    optional("onHttp", cx);
                } else if (isSocket(cx.tag)) {
                    optional("onSocket", cx);
                } else if (cx.tag == 0) {
                    named("requests", cx);
                } else optional("onOther", cx),
                .table => optional("onOther", cx),
                // A kind of a later version.
                else => {},
            }
        }

        fn isSocket(tag: u32) bool {
            return tag >= exuvia.tag.socket_open and tag <= exuvia.tag.socket_close;
        }

        fn optional(comptime name: []const u8, cx: *Context) void {
            if (@hasDecl(T, name)) {
                var none: msgpack.Reader = .{ .bytes = "\xc0", .allocator = cx.arena };
                _ = invoke(@field(T, name), cx, &none) catch |e| return fail(cx, describeError(cx, &none, "it", e));
            } else if (!std.mem.eql(u8, name, "onOther")) {
                return optional("onOther", cx);
            }
            if (cx.kind != .request or cx.settled) return;
            // The reply to what a socket tells is the credit for more.
            if (isSocket(cx.tag)) return cx.caller().replyRaw(0, "") catch {};
            cx.caller().refuse(if (@hasDecl(T, name)) "the handler has not replied" else "this actor has no handler for it");
        }

        fn named(comptime which: []const u8, cx: *Context) void {
            var reader: msgpack.Reader = .{ .bytes = cx.payload, .allocator = cx.arena };
            const name = nameOf(&reader) catch |e| return fail(cx, switch (e) {
                error.WrongType => "the payload is neither a name nor a map with a name as its only key",
                else => describeError(cx, &reader, "the payload", e),
            });
            const Table = handlers(T, which);
            inline for (@typeInfo(Table).@"struct".decl_names) |known| {
                if (comptime !isHandler(Table, known)) continue;
                if (std.mem.eql(u8, name, known)) {
                    const result = invoke(@field(Table, known), cx, &reader);
                    const value = result catch |e| {
                        const text = describeError(cx, &reader, "the payload", e);
                        return fail(cx, std.fmt.allocPrint(cx.arena, "`{s}`: {s}", .{ name, text }) catch text);
                    };
                    if (which[0] == 'r' and !cx.settled) cx.caller().reply(value) catch |e| exuvia.log(.warn, @errorName(e));
                    return;
                }
            }
            _ = reader.whole(Value) catch |e| return fail(cx, describeError(cx, &reader, "the payload", e));
            if (@hasDecl(T, "onOther")) return optional("onOther", cx);
            const text = "unknown " ++ which[0 .. which.len - 1] ++ " `{s}`";
            fail(cx, std.fmt.allocPrint(cx.arena, text, .{name[0..@min(name.len, 64)]}) catch "unknown");
        }

        /// Leaves the reader at the parameters, which are nil if there are none.
        fn nameOf(reader: *msgpack.Reader) msgpack.Reader.Error![]const u8 {
            const alone = reader.peek() == .text;
            if (!alone and try reader.map() != 1) return error.WrongType;
            const name = try reader.text();
            if (alone) {
                if (reader.at != reader.bytes.len) return error.TrailingBytes;
                reader.* = .{ .bytes = "\xc0", .allocator = reader.allocator };
            }
            return name;
        }

        /// Calls a handler with what its parameters ask for.
        fn invoke(comptime f: anytype, cx: *Context, reader: *msgpack.Reader) anyerror!Payload(@typeInfo(@TypeOf(f)).@"fn".return_type.?) {
            var arguments: std.meta.ArgsTuple(@TypeOf(f)) = undefined;
            comptime var read = false;
            inline for (@typeInfo(@TypeOf(f)).@"fn".param_types, 0..) |P, i| {
                if (P.? == *T) {
                    arguments[i] = &state;
                } else if (P.? == *Context) {
                    arguments[i] = cx;
                } else {
                    arguments[i] = try reader.whole(P.?);
                    read = true;
                }
            }
            // What the handler has no use for is MessagePack all the same.
            if (!read) _ = try reader.whole(Value);
            return @call(.auto, f, arguments);
        }

        fn describeError(cx: *Context, reader: *const msgpack.Reader, what: []const u8, e: anyerror) []const u8 {
            if (e == error.Refused and cx.text.len > 0) return cx.text;
            switch (e) {
                error.Truncated, error.Malformed, error.WrongType, error.OutOfRange, error.MissingField, error.UnknownName, error.TooDeep, error.TrailingBytes => {},
                else => return @errorName(e),
            }
            const quote = if (reader.field.len > 0) "`" else "";
            const at = if (reader.field.len > 0) reader.field else what;
            return std.fmt.allocPrint(cx.arena, "{s}{s}{s} {s}", .{ quote, at, quote, msgpack.explain(e) }) catch msgpack.explain(e);
        }

        fn fail(cx: *Context, text: []const u8) void {
            if (cx.kind == .request and !cx.settled) cx.caller().refuse(text) else exuvia.log(.warn, text);
        }

        fn save() callconv(.c) i32 {
            var writer: msgpack.Writer = .{ .allocator = exuvia.allocator };
            defer writer.deinit();
            saveTo(&writer) catch |e| {
                exuvia.log(.@"error", @errorName(e));
                return 1;
            };
            return abi.host.state_put(writer.bytes().ptr, @intCast(writer.bytes().len));
        }

        fn saveTo(writer: *msgpack.Writer) !void {
            if (!started) return;
            if (@hasDecl(T, "save")) return state.save(writer);
            const fields = @typeInfo(T).@"struct".field_names;
            comptime var count = 0;
            inline for (fields) |field| count += comptime @intFromBool(!isTransient(T, field));
            try writer.map(count);
            inline for (fields) |field| {
                if (comptime isTransient(T, field)) continue;
                try writer.text(field);
                try writer.write(@field(state, field));
            }
        }

        fn load(from: i32, length: i32) callconv(.c) i32 {
            if (length == 0) return 0;
            var arena: std.heap.ArenaAllocator = .init(exuvia.allocator);
            defer arena.deinit();
            var cx: Context = .{
                .kind = @fromBackingInt(@intCast(0)),
                .sender = .nobody,
                .reference = 0,
                .tag = 0,
                .reason = 0,
                .payload = "",
                .arena = arena.allocator(),
            };
            var reader: msgpack.Reader = .{ .bytes = "", .allocator = exuvia.allocator, .copy = true };
            state = loaded(&cx, &reader, from, @intCast(length)) catch |e| {
                exuvia.log(.@"error", describeError(&cx, &reader, "the state", e));
                return 1;
            };
            started = true;
            return 0;
        }

        fn loaded(cx: *Context, reader: *msgpack.Reader, from: i32, length: usize) anyerror!T {
            const bytes = try cx.arena.alloc(u8, length);
            if (abi.host.state_get(bytes.ptr, @intCast(length)) != @as(i32, @intCast(length))) return error.Truncated;
            if (@hasDecl(T, "load")) return T.load(from, Value{ .bytes = bytes }, cx);
            if (from != schema_number) return cx.refuse("a state of schema {d} is unknown here, which is {d}: write `load`", .{ from, schema_number });
            reader.bytes = bytes;
            return reader.whole(T);
        }
    };
}

test "the protocol shows what the decoder reads" {
    const Some = struct {
        pub const requests = struct {
            pub fn Get(args: struct { pid: exuvia.Pid, most: u8 = 3, text: ?[]const u8 = null }) u64 {
                return args.most;
            }
            pub fn Whole(_: exuvia.Pid) void {}
            pub fn Both(_: struct { i64, bool }) void {}
            pub fn Listed(_: std.ArrayList(u8)) void {}
        };
    };
    try std.testing.expectEqualStrings(
        \\.ascii "{\"name\":\"get\",\"message\":\"Get\",\"parameters\":[{\"name\":\"pid\",\"type\":\"Pid\"},{\"name\":\"most\",\"type\":\"Option<u8>\"},{\"name\":\"text\",\"type\":\"Option<text>\"}],\"reply\":\"u64\"}\n"
        \\.ascii "{\"name\":\"whole\",\"message\":\"Whole\",\"parameters\":[],\"reply\":\"nil\"}\n"
        \\.ascii "{\"name\":\"both\",\"message\":\"Both\",\"parameters\":[],\"reply\":\"nil\"}\n"
        \\.ascii "{\"name\":\"listed\",\"message\":\"Listed\",\"parameters\":[],\"reply\":\"nil\"}\n"
        \\
    , comptime describe(Some, "requests"));
}

test "the state is described as it is saved" {
    const Mode = union(enum) { idle, busy: struct { since: u64, by: ?[]const u8 = null }, at: struct { i8, f32 } };
    const Counter = struct {
        count: i64 = 0,
        notes: std.ArrayList([]const u8) = .empty,
        owner: ?exuvia.Pid,
        mode: Mode,
        when: enum { now, later },
        kept: []const exuvia.Caller = &.{},
        raw: exuvia.Bytes,
        any: Value = .nil,
        file: ?u8 = null,

        pub const schema = 3;
        pub const transient = .{"file"};
    };
    try std.testing.expectEqualStrings(
        \\.section .custom_section.exuvia.state,"",@
        \\.ascii "{\"schema\": 3, \"loads\": [], \"type\": \"{count?: int, notes?: List<text>, owner: Option<pid>, mode: Enum<idle, busy: {since: int, by?: Option<text>}, at: Tuple<int, float>>, when: Enum<now, later>, kept?: List<{pid: pid, reference: int}>, raw: bytes, any?: any}\"}\n"
        \\
    , comptime describeState(Counter));
    const Converting = struct {
        n: u8,
        pub const schema = 9;
        pub const loads = .{ 1, .{ 3, 5 } };
        pub const Saved = struct { total: u8 };
        pub fn save() void {}
        pub fn load() void {}
    };
    const converting = comptime describeState(Converting);
    try std.testing.expect(std.mem.find(u8, converting, "\\\"loads\\\": [1, [3, 5]], \\\"type\\\": \\\"{total: int}\\\"") != null);
    const Unknown = struct {
        pub fn save() void {}
    };
    try std.testing.expectEqualStrings("", comptime describeState(Unknown));
    const Deciding = struct {
        pub fn load() void {}
    };
    try std.testing.expect(std.mem.find(u8, comptime describeState(Deciding), "\\\"any\\\"") != null);
}
