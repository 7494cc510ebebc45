//! A station in Zig: see ../../README.md.

const exuvia = @import("exuvia");

pub const panic = exuvia.panic;
pub const std_options = exuvia.std_options;

const VERSION = 1;

comptime {
    exuvia.actor(Station);
}

/// The state, which every station saves in the same form.
const Station = struct {
    passed: i64 = 0,
    arrived: i64 = 0,
    travelled: i64 = 0,
    halted: bool = false,
    next: []const u8,

    pub const schema = 1;

    pub fn init(args: struct { next: []const u8 }) !Station {
        return .{ .next = try exuvia.allocator.dupe(u8, args.next) };
    }

    pub const messages = struct {
        /// A token comes by: it is sent on, or has arrived.
        pub fn Pass(self: *Station, args: struct { hops: i64 }) !void {
            const hops = args.hops + 1;
            self.passed += 1;
            const to = if (self.halted) null else exuvia.whereis(self.next) catch null;
            if (to) |pid| return exuvia.send(pid, "Pass", .{ .hops = hops });
            self.arrived += 1;
            self.travelled += hops;
        }
    };

    pub const requests = struct {
        pub fn Halt(self: *Station) void {
            self.halted = true;
        }

        pub fn Count(self: *Station) struct { language: []const u8, version: i64, passed: i64, arrived: i64, travelled: i64 } {
            return .{ .language = "Zig", .version = VERSION, .passed = self.passed, .arrived = self.arrived, .travelled = self.travelled };
        }
    };
};
