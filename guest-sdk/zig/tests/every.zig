//! Compiles every function of the SDK for Wasm, since Zig looks at a function only if it is used.

const std = @import("std");
const exuvia = @import("exuvia");

pub const panic = exuvia.panic;
pub const std_options = exuvia.std_options;

comptime {
    exuvia.actor(Every);
}

const Colour = enum { red, green };

const Every = struct {
    list: std.ArrayList(i32) = .empty,
    text: []const u8 = "",
    colour: ?Colour = null,
    pair: struct { a: f32 = 0, b: [2]bool = .{ false, true } } = .{},
    kept: ?exuvia.Caller = null,
    scratch: u64 = 0,

    pub const schema = 3;
    pub const layout = true;
    pub const transient = .{"scratch"};

    pub fn warmUp() void {
        std.log.debug("warm", .{});
    }

    pub const messages = struct {
        pub fn Everything(self: *Every, other: exuvia.Pid, cx: *exuvia.Context) !void {
            try exuvia.send(other, "Name", .{});
            try exuvia.sendRaw(other, 7, "bytes");
            self.scratch = try exuvia.call(u64, other, "Count", .{ .of = "this" }, null);
            self.scratch = try exuvia.request(other, "Count", .{});
            exuvia.demonitor(self.scratch);
            const timer = try exuvia.sendAfter(other, "Everything", .{ .colour = Colour.red }, 5);
            _ = exuvia.cancelTimer(timer);
            try exuvia.sleep(1);
            const pid = other;
            for ([_]exuvia.Match{ .any, .any_or_upgrade, .{ .tag = 1 }, .{ .reference = 1 }, .{ .references = &.{ 1, 2 } }, .{ .sender = &pid } }) |match| {
                const message = try exuvia.receive(match, 0);
                defer message.deinit();
                _ = try message.as(struct { i64, []const u8 }, cx.arena);
            }
            const child = try exuvia.spawn("module", .{ 1, "two", null, 3.5 }, .{ .flags = exuvia.abi.spawn.monitor, .memory = 1 << 20 });
            try exuvia.exitProcess(child.pid, 300, "text");
            try exuvia.kill(child.pid);
            try exuvia.link(child.pid);
            try exuvia.unlink(child.pid);
            _ = try exuvia.monitor(child.pid);
            _ = exuvia.trapExit(false);
            try exuvia.register("name");
            try exuvia.unregister("name");
            _ = try exuvia.whereis("name");
            try exuvia.groupJoin("group");
            try exuvia.groupLeave("group");
            _ = try exuvia.publish("group", "Name", .{ .list = self.list });
            if (try exuvia.config("path")) |value| exuvia.allocator.free(value.bytes);
            _ = exuvia.clock(.realtime);
            _ = exuvia.info(.message_bytes);
            if (self.kept) |caller| {
                caller.refuse("no");
                try caller.respond(200, &.{}, "");
            }
            if (other.eql(.nobody)) exuvia.exit(0, "");
        }
    };

    pub const requests = struct {
        pub const Limit = struct { most: u8 = 3 };
        pub const limit: Limit = .{};
        pub fn Everything(cx: *exuvia.Context, self: *Every) error{Refused}![]const u8 {
            if (self.text.len == 0) return cx.refuse("no {s}", .{"text"});
            return self.text;
        }
    };

    pub fn onReply(cx: *exuvia.Context) !void {
        _ = try cx.as(u64);
    }
    pub fn onHttp(self: *Every, cx: *exuvia.Context) !void {
        const request = try cx.http();
        self.kept = cx.keep();
        _ = request.header("accept");
    }
    pub fn onSocket(_: *Every) void {}
    pub fn onOther(_: *exuvia.Context) void {}
};
