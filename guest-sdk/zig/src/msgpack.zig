//! MessagePack of Zig's types, by their shape.
//!
//! | Zig | MessagePack |
//! | --- | --- |
//! | integers, floats, `bool` | numbers in every width, booleans |
//! | `[]const u8` | a text |
//! | `Bytes` | a binary |
//! | slices, arrays, `std.ArrayList`, tuples | an array |
//! | structs | a map of the fields by name; a field with a default may be missing, or nil |
//! | optionals, `void` | nil |
//! | `union(enum)`, enums | the name alone, or a map with the name as its only key |
//! | `Value` | anything, as it is |
//!
//! A type may have `pub fn encode(self, *Writer) !void` and `pub fn decode(*Reader) !Self` of its own.
//! Whatever the bytes are, decoding returns a value or an error: nothing is read beyond them, and nesting has a limit.

const std = @import("std");
const Allocator = std.mem.Allocator;

/// Values inside one another that a decoder reads: each costs stack.
const max_depth = 64;

/// Bytes that are a binary, and not a text.
pub const Bytes = struct {
    data: []const u8,

    pub fn encode(self: Bytes, writer: *Writer) Writer.Error!void {
        try writer.length(self.data.len, 0xc4, 0xc5, 0xc6);
        try writer.raw(self.data);
    }
    /// Also of a text or an array of numbers, since JSON has no binary.
    pub fn decode(reader: *Reader) Reader.Error!Bytes {
        if (reader.peek() == .array) {
            const bytes = try reader.allocator.alloc(u8, try reader.array());
            for (bytes) |*byte| byte.* = try reader.read(u8);
            return .{ .data = bytes };
        }
        const head = try reader.head();
        if (head.type != .binary and head.type != .text) return error.WrongType;
        return .{ .data = try reader.keep(try reader.take(head.number)) };
    }
};

/// Any one value, as it was encoded.
pub const Value = struct {
    bytes: []const u8,

    pub const nil: Value = .{ .bytes = "\xc0" };

    pub fn encode(self: Value, writer: *Writer) Writer.Error!void {
        try writer.raw(self.bytes);
    }
    pub fn decode(reader: *Reader) Reader.Error!Value {
        const from = reader.at;
        try reader.skip();
        return .{ .bytes = try reader.keep(reader.bytes[from..reader.at]) };
    }
    /// Reads it as a type. Texts and `Bytes` point into the value.
    pub fn as(self: Value, comptime T: type, allocator: Allocator) Reader.Error!T {
        var reader: Reader = .{ .bytes = self.bytes, .allocator = allocator };
        return reader.whole(T);
    }
};

pub const Type = enum { nil, bool, int, float, text, binary, array, map, extension };

pub const Reader = struct {
    bytes: []const u8,
    at: usize = 0,
    /// For slices and lists; an arena, unless the value is to be taken apart.
    allocator: Allocator,
    /// Whether texts and binaries are copied, or point into the bytes.
    copy: bool = false,
    depth: u8 = 0,
    /// After an error: the innermost field that it is about, or empty.
    field: []const u8 = "",

    pub const Error = error{ Truncated, Malformed, WrongType, OutOfRange, MissingField, UnknownName, TooDeep, TrailingBytes, OutOfMemory };

    pub const Head = struct { type: Type, number: u64, negative: bool = false, single: bool = false };

    /// One value that has all the bytes.
    pub fn whole(self: *Reader, comptime T: type) Error!T {
        const value = try self.read(T);
        if (self.at != self.bytes.len) return error.TrailingBytes;
        return value;
    }

    pub fn take(self: *Reader, count: u64) Error![]const u8 {
        if (count > self.bytes.len - self.at) return error.Truncated;
        const from = self.at;
        self.at += @intCast(count);
        return self.bytes[from..self.at];
    }

    fn keep(self: *Reader, bytes: []const u8) Error![]const u8 {
        return if (self.copy) self.allocator.dupe(u8, bytes) else bytes;
    }

    fn number(self: *Reader, comptime T: type) Error!T {
        return std.mem.readInt(T, (try self.take(@sizeOf(T)))[0..@sizeOf(T)], .big);
    }

    fn sized(self: *Reader, what: Type, width: u2) Error!Head {
        return .{ .type = what, .number = switch (width) {
            0 => try self.number(u8),
            1 => try self.number(u16),
            2 => try self.number(u32),
            3 => try self.number(u64),
        } };
    }

    fn signed(value: i64) Head {
        return .{ .type = .int, .number = @bitCast(value), .negative = value < 0 };
    }

    /// The type of the next value, and its number: of bytes, items or pairs that follow. The type byte of an extension is still to be read.
    pub fn head(self: *Reader) Error!Head {
        const byte = (try self.take(1))[0];
        return switch (byte) {
            0x00...0x7f => .{ .type = .int, .number = byte },
            0x80...0x8f => .{ .type = .map, .number = byte & 15 },
            0x90...0x9f => .{ .type = .array, .number = byte & 15 },
            0xa0...0xbf => .{ .type = .text, .number = byte & 31 },
            0xc0 => .{ .type = .nil, .number = 0 },
            0xc1 => error.Malformed,
            0xc2, 0xc3 => .{ .type = .bool, .number = byte & 1 },
            0xc4...0xc6 => self.sized(.binary, @intCast(byte - 0xc4)),
            0xc7...0xc9 => self.sized(.extension, @intCast(byte - 0xc7)),
            0xca => .{ .type = .float, .number = try self.number(u32), .single = true },
            0xcb => .{ .type = .float, .number = try self.number(u64) },
            0xcc...0xcf => self.sized(.int, @intCast(byte - 0xcc)),
            0xd0 => signed(try self.number(i8)),
            0xd1 => signed(try self.number(i16)),
            0xd2 => signed(try self.number(i32)),
            0xd3 => signed(try self.number(i64)),
            0xd4...0xd8 => .{ .type = .extension, .number = @as(u64, 1) << @intCast(byte - 0xd4) },
            0xd9...0xdb => self.sized(.text, @intCast(byte - 0xd9)),
            0xdc, 0xdd => self.sized(.array, @intCast(byte - 0xdc + 1)),
            0xde, 0xdf => self.sized(.map, @intCast(byte - 0xde + 1)),
            0xe0...0xff => signed(@as(i8, @bitCast(byte))),
        };
    }

    pub fn peek(self: Reader) ?Type {
        var copy = self;
        return (copy.head() catch return null).type;
    }

    /// The next value is passed over. Takes no stack, however nested it is.
    pub fn skip(self: *Reader) Error!void {
        var wanted: u64 = 1;
        while (wanted > 0) {
            const h = try self.head();
            wanted -= 1;
            switch (h.type) {
                .text, .binary => _ = try self.take(h.number),
                .extension => _ = try self.take(h.number + 1),
                .array => wanted += h.number,
                .map => wanted += h.number * 2,
                else => {},
            }
            // Each value has a byte at least.
            if (wanted > self.bytes.len - self.at) return error.Truncated;
        }
    }

    /// How many values follow: never more than there are bytes.
    pub fn array(self: *Reader) Error!usize {
        const h = try self.head();
        if (h.type != .array) return error.WrongType;
        if (h.number > self.bytes.len - self.at) return error.Truncated;
        return @intCast(h.number);
    }

    /// How many pairs follow: never more than there are bytes.
    pub fn map(self: *Reader) Error!usize {
        const h = try self.head();
        if (h.type != .map) return error.WrongType;
        if (h.number * 2 > self.bytes.len - self.at) return error.Truncated;
        return @intCast(h.number);
    }

    /// A text, which points into the bytes.
    pub fn text(self: *Reader) Error![]const u8 {
        const h = try self.head();
        if (h.type != .text) return error.WrongType;
        return self.take(h.number);
    }

    pub fn read(self: *Reader, comptime T: type) Error!T {
        if (self.depth == max_depth) return error.TooDeep;
        self.depth += 1;
        defer self.depth -= 1;
        if (comptime has(T, "decode")) return T.decode(self);
        switch (@typeInfo(T)) {
            .void => {
                if ((try self.head()).type != .nil) return error.WrongType;
            },
            .bool => {
                const h = try self.head();
                return if (h.type == .bool) h.number != 0 else error.WrongType;
            },
            .int => {
                const h = try self.head();
                if (h.type != .int) return error.WrongType;
                const value = if (h.negative) std.math.cast(T, @as(i64, @bitCast(h.number))) else std.math.cast(T, h.number);
                return value orelse error.OutOfRange;
            },
            .float => {
                const h = try self.head();
                if (h.type == .int) return if (h.negative) @floatFromInt(@as(i64, @bitCast(h.number))) else @floatFromInt(h.number);
                if (h.type != .float) return error.WrongType;
                return if (h.single) @floatCast(@as(f32, @bitCast(@as(u32, @truncate(h.number))))) else @floatCast(@as(f64, @bitCast(h.number)));
            },
            .optional => |optional| {
                if (self.peek() != .nil) return try self.read(optional.child);
                self.at += 1;
                return null;
            },
            .@"enum" => {
                return std.meta.stringToEnum(T, try self.text()) orelse error.UnknownName;
            },
            .@"union" => return self.readUnion(T),
            .array => |info| {
                if (try self.array() != info.len) return error.OutOfRange;
                var items: T = undefined;
                for (&items) |*item| item.* = try self.read(info.child);
                return items;
            },
            .pointer => |info| {
                if (info.size != .slice) @compileError("MessagePack has no " ++ @typeName(T));
                if (info.child == u8 and info.attrs.@"const") return self.keep(try self.text());
                if (info.child == u8) return self.allocator.dupe(u8, try self.text());
                const count = try self.array();
                const items = try self.allocator.alloc(info.child, count);
                for (items) |*item| item.* = try self.read(info.child);
                return items;
            },
            .@"struct" => |info| {
                if (comptime isList(T)) {
                    const Item = @typeInfo(@FieldType(T, "items")).pointer.child;
                    const count = try self.array();
                    var list: T = try .initCapacity(self.allocator, count);
                    for (0..count) |_| list.appendAssumeCapacity(try self.read(Item));
                    return list;
                }
                if (info.is_tuple) {
                    if (try self.array() != info.field_types.len) return error.OutOfRange;
                    var value: T = undefined;
                    inline for (info.field_types, 0..) |Field, index| value[index] = try self.read(Field);
                    return value;
                }
                return self.readStruct(T);
            },
            else => @compileError("MessagePack has no " ++ @typeName(T)),
        }
    }

    fn readStruct(self: *Reader, comptime T: type) Error!T {
        const info = @typeInfo(T).@"struct";
        var value: T = undefined;
        var seen: [info.field_names.len]bool = @splat(false);
        // No parameters at all may be nil.
        var left: usize = 0;
        if (self.peek() == .nil) self.at += 1 else left = try self.map();
        while (left > 0) : (left -= 1) {
            if (self.peek() != .text) {
                try self.skip();
                try self.skip();
                continue;
            }
            const name = try self.text();
            const known = inline for (info.field_names, info.field_types, info.field_attrs, 0..) |field, Field, attributes, index| {
                if (std.mem.eql(u8, name, field)) {
                    if (attributes.default_value_ptr != null and self.peek() == .nil and !self.takesNil(Field)) {
                        self.at += 1;
                        seen[index] = false;
                        break true;
                    }
                    @field(value, field) = self.read(Field) catch |e| {
                        if (self.field.len == 0) self.field = field;
                        return e;
                    };
                    seen[index] = true;
                    break true;
                }
            } else false;
            if (!known) try self.skip();
        }
        inline for (info.field_names, info.field_types, info.field_attrs, 0..) |field, Field, attributes, index| {
            if (!seen[index]) {
                if (attributes.default_value_ptr) |default| {
                    @field(value, field) = @as(*const Field, @ptrCast(@alignCast(default))).*;
                } else if (@typeInfo(Field) == .optional) {
                    @field(value, field) = null;
                } else {
                    self.field = field;
                    return error.MissingField;
                }
            }
        }
        return value;
    }

    /// Whether nil is a value of the type.
    fn takesNil(self: *Reader, comptime T: type) bool {
        if (comptime !has(T, "decode")) return T == void or @typeInfo(T) == .optional;
        var nil: Reader = .{ .bytes = "\xc0", .allocator = self.allocator };
        _ = T.decode(&nil) catch return false;
        return true;
    }

    fn readUnion(self: *Reader, comptime T: type) Error!T {
        const info = @typeInfo(T).@"union";
        const alone = self.peek() == .text;
        if (!alone and try self.map() != 1) return error.WrongType;
        const name = try self.text();
        inline for (info.field_names, info.field_types) |field, Field| {
            if (std.mem.eql(u8, name, field)) {
                if (!alone) return @unionInit(T, field, try self.read(Field));
                if (Field == void) return @unionInit(T, field, {});
                return error.WrongType;
            }
        }
        return error.UnknownName;
    }
};

/// What an error of the reader says, behind the name of the field.
pub fn explain(e: anyerror) []const u8 {
    return switch (e) {
        error.Truncated => "ends too early",
        error.Malformed => "is no MessagePack",
        error.WrongType => "has another type",
        error.OutOfRange => "is out of range",
        error.MissingField => "is missing",
        error.UnknownName => "has an unknown name",
        error.TooDeep => "is nested too deeply",
        error.TrailingBytes => "has bytes behind its value",
        error.OutOfMemory => "does not fit into memory",
        else => @errorName(e),
    };
}

fn has(comptime T: type, comptime name: []const u8) bool {
    return switch (@typeInfo(T)) {
        .@"struct", .@"union", .@"enum" => @hasDecl(T, name),
        else => false,
    };
}

/// Whether it is a map of its fields.
pub fn isMap(comptime T: type) bool {
    return switch (@typeInfo(T)) {
        .@"struct" => |info| !info.is_tuple and !has(T, "decode") and !isList(T),
        else => false,
    };
}

/// What a list of the standard library holds; null if it is none.
pub fn ListItem(comptime T: type) ?type {
    return switch (@typeInfo(T)) {
        .@"struct" => if (isList(T)) @typeInfo(@FieldType(T, "items")).pointer.child else null,
        else => null,
    };
}

fn isList(comptime T: type) bool {
    return @hasField(T, "items") and @hasField(T, "capacity") and @hasDecl(T, "Slice");
}

pub const Writer = struct {
    list: std.ArrayList(u8) = .empty,
    allocator: Allocator,

    pub const Error = Allocator.Error;

    pub fn deinit(self: *Writer) void {
        self.list.deinit(self.allocator);
    }

    pub fn bytes(self: Writer) []const u8 {
        return self.list.items;
    }

    pub fn raw(self: *Writer, data: []const u8) Error!void {
        try self.list.appendSlice(self.allocator, data);
    }

    fn put(self: *Writer, first: u8, value: anytype) Error!void {
        var buffer: [1 + @sizeOf(@TypeOf(value))]u8 = undefined;
        buffer[0] = first;
        std.mem.writeInt(@TypeOf(value), buffer[1..], value, .big);
        try self.raw(&buffer);
    }

    /// The head of something with a length, where no short form has been written.
    fn length(self: *Writer, count: usize, of_8: ?u8, of_16: u8, of_32: u8) Error!void {
        if (of_8 != null and count <= 0xff) return self.put(of_8.?, @as(u8, @intCast(count)));
        if (count <= 0xffff) return self.put(of_16, @as(u16, @intCast(count)));
        return self.put(of_32, @as(u32, @intCast(count)));
    }

    /// So many values follow.
    pub fn array(self: *Writer, count: usize) Error!void {
        if (count <= 15) return self.raw(&.{0x90 | @as(u8, @intCast(count))});
        return self.length(count, null, 0xdc, 0xdd);
    }

    /// So many pairs follow.
    pub fn map(self: *Writer, count: usize) Error!void {
        if (count <= 15) return self.raw(&.{0x80 | @as(u8, @intCast(count))});
        return self.length(count, null, 0xde, 0xdf);
    }

    pub fn text(self: *Writer, value: []const u8) Error!void {
        if (value.len <= 31) try self.raw(&.{0xa0 | @as(u8, @intCast(value.len))}) else try self.length(value.len, 0xd9, 0xda, 0xdb);
        try self.raw(value);
    }

    pub fn int(self: *Writer, value: i64) Error!void {
        if (value >= 0) return self.uint(@intCast(value));
        if (value >= -32) return self.raw(&.{@as(u8, @bitCast(@as(i8, @intCast(value))))});
        inline for (.{ i8, i16, i32, i64 }, 0xd0..) |Int, first| {
            if (std.math.cast(Int, value)) |narrow| return self.put(first, narrow);
        }
    }

    pub fn uint(self: *Writer, value: u64) Error!void {
        if (value <= 0x7f) return self.raw(&.{@as(u8, @intCast(value))});
        inline for (.{ u8, u16, u32, u64 }, 0xcc..) |Int, first| {
            if (std.math.cast(Int, value)) |narrow| return self.put(first, narrow);
        }
    }

    /// A message: its name alone, or with a struct of parameters.
    pub fn named(self: *Writer, name: []const u8, parameters: anytype) Error!void {
        if (@typeInfo(@TypeOf(parameters)).@"struct".field_names.len == 0) return self.text(name);
        try self.map(1);
        try self.text(name);
        try self.write(parameters);
    }

    pub fn write(self: *Writer, value: anytype) Error!void {
        const T = @TypeOf(value);
        if (comptime has(T, "encode")) return value.encode(self);
        switch (@typeInfo(T)) {
            .void, .null => try self.raw(&.{0xc0}),
            .bool => try self.raw(&.{if (value) 0xc3 else 0xc2}),
            .comptime_int => if (value < 0) try self.int(value) else try self.uint(value),
            .int => |info| if (info.signedness == .signed) try self.int(value) else try self.uint(value),
            .float, .comptime_float => try self.put(0xcb, @as(u64, @bitCast(@as(f64, value)))),
            .optional => if (value) |inner| try self.write(inner) else try self.raw(&.{0xc0}),
            .@"enum", .enum_literal => try self.text(@tagName(value)),
            .@"union" => switch (value) {
                inline else => |inner, tag| {
                    if (@TypeOf(inner) == void) return self.text(@tagName(tag));
                    try self.map(1);
                    try self.text(@tagName(tag));
                    try self.write(inner);
                },
            },
            .array => |info| if (info.child == u8) try self.text(&value) else {
                try self.array(value.len);
                for (value) |item| try self.write(item);
            },
            .pointer => |info| switch (info.size) {
                .slice => if (info.child == u8) try self.text(value) else {
                    try self.array(value.len);
                    for (value) |item| try self.write(item);
                },
                // A literal.
                .one => try self.write(value.*),
                else => @compileError("MessagePack has no " ++ @typeName(T)),
            },
            .@"struct" => |info| {
                if (comptime isList(T)) return self.write(value.items);
                if (info.is_tuple) {
                    try self.array(info.field_names.len);
                    inline for (0..info.field_names.len) |index| try self.write(value[index]);
                    return;
                }
                try self.map(info.field_names.len);
                inline for (info.field_names) |field| {
                    try self.text(field);
                    try self.write(@field(value, field));
                }
            },
            else => @compileError("MessagePack has no " ++ @typeName(T)),
        }
    }
};

const testing = std.testing;

fn roundTrip(value: anytype) !void {
    var writer: Writer = .{ .allocator = testing.allocator };
    defer writer.deinit();
    try writer.write(value);
    var arena: std.heap.ArenaAllocator = .init(testing.allocator);
    defer arena.deinit();
    var reader: Reader = .{ .bytes = writer.bytes(), .allocator = arena.allocator() };
    try testing.expectEqualDeep(value, try reader.whole(@TypeOf(value)));
    for (0..writer.bytes().len) |cut| {
        reader = .{ .bytes = writer.bytes()[0..cut], .allocator = arena.allocator() };
        try testing.expectError(error.Truncated, reader.whole(@TypeOf(value)));
    }
}

const Shape = union(enum) { Nothing, Point: struct { x: i32, y: f64 }, Names: []const []const u8 };

test "values survive, and every beginning of one is an error" {
    for ([_]i64{ 0, 127, 128, 255, 256, 65535, 65536, 1 << 32, std.math.maxInt(i64), -1, -32, -33, -128, -129, -32769, std.math.minInt(i64) }) |n| try roundTrip(n);
    try roundTrip(@as(u64, std.math.maxInt(u64)));
    try roundTrip(@as(f64, 1.5));
    try roundTrip(true);
    try roundTrip(@as([]const u8, &@as([40]u8, @splat('x'))));
    try roundTrip(@as([]const i16, &.{ 1, -2, 300 }));
    try roundTrip(@as(?bool, null));
    try roundTrip(Shape{ .Point = .{ .x = -5, .y = 0.25 } });
    try roundTrip(Shape{ .Names = &.{ "a", "b" } });
    try roundTrip(Shape.Nothing);
    try roundTrip(Bytes{ .data = "\x00\xff" });
    try roundTrip([3]u16{ 1, 2, 3000 });
}

test "a struct may have fewer and more fields" {
    const Pair = struct { by: i64, to: u8 = 7, text: ?[]const u8 };
    var reader: Reader = .{ .bytes = "\x82\xa2by\x03\xa5other\x91\xc0", .allocator = testing.allocator };
    try testing.expectEqualDeep(Pair{ .by = 3, .text = null }, try reader.whole(Pair));
    reader = .{ .bytes = "\x81\xa2to\x03", .allocator = testing.allocator };
    try testing.expectError(error.MissingField, reader.whole(Pair));
    try testing.expectEqualStrings("by", reader.field);
    reader = .{ .bytes = "\x82\xa2by\x03\xa2to\xcd\x01\x00", .allocator = testing.allocator };
    try testing.expectError(error.OutOfRange, reader.whole(Pair));
    try testing.expectEqualStrings("to", reader.field);
}

test "nil for a field with a default is the default, unless it is a value of the type" {
    const Pid = @import("exuvia.zig").Pid;
    const Fields = struct { to: u8 = 7, inner: struct { a: u8 = 1 } = .{ .a = 2 }, text: ?[]const u8 = "x", any: Value = .{ .bytes = "\x05" }, pid: Pid = .nobody, must: u8 };
    var reader: Reader = .{ .bytes = "\x86\xa2to\xc0\xa5inner\xc0\xa4text\xc0\xa3any\xc0\xa3pid\xc0\xa4must\x03", .allocator = testing.allocator };
    try testing.expectEqualDeep(Fields{ .text = null, .any = .nil, .must = 3 }, try reader.whole(Fields));
    reader = .{ .bytes = "\x81\xa4must\xc0", .allocator = testing.allocator };
    try testing.expectError(error.WrongType, reader.whole(Fields));
    try testing.expectEqualStrings("must", reader.field);
}

test "random, huge and nested input is an error or a value" {
    var prng: std.Random.DefaultPrng = .init(2);
    const random = prng.random();
    var arena: std.heap.ArenaAllocator = .init(testing.allocator);
    defer arena.deinit();
    const Tree = struct { children: []const @This() = &.{}, name: []const u8 = "", shape: ?Shape = null, bytes: ?Bytes = null, any: ?Value = null };
    for (0..200_000) |_| {
        var buffer: [48]u8 = undefined;
        const input = buffer[0..random.uintLessThan(usize, buffer.len)];
        random.bytes(input);
        for (input) |*byte| if (random.boolean()) {
            byte.* = 0x80 + random.uintLessThan(u8, 0x60);
        };
        var reader: Reader = .{ .bytes = input, .allocator = arena.allocator() };
        _ = reader.whole(Tree) catch {};
        reader = .{ .bytes = input, .allocator = arena.allocator() };
        reader.skip() catch {};
        _ = arena.reset(.retain_capacity);
    }
    var nested: [1000][11]u8 = @splat("\x81\xa8children\x91".*);
    var reader: Reader = .{ .bytes = std.mem.asBytes(&nested), .allocator = arena.allocator() };
    try testing.expectError(error.TooDeep, reader.whole(Tree));
    reader = .{ .bytes = "\xdd\xff\xff\xff\xff\xc0", .allocator = arena.allocator() };
    try testing.expectError(error.Truncated, reader.whole([]const u64));
}
