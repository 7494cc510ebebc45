//! The benchmark of the conformance suite: two processes that send a message to and fro.

const exuvia = @import("exuvia");

pub const panic = exuvia.panic;
pub const std_options = exuvia.std_options;

const Player = struct {
    rounds: i64 = 0,

    pub const messages = struct {
        pub fn Start(args: struct { to: exuvia.Pid, rounds: i64 }) !void {
            try exuvia.send(args.to, "Ping", .{ .left = args.rounds });
        }
        pub fn Ping(self: *Player, args: Left, cx: *exuvia.Context) !void {
            self.rounds += 1;
            try exuvia.send(cx.sender, "Pong", args);
        }
        pub fn Pong(self: *Player, args: Left, cx: *exuvia.Context) !void {
            self.rounds += 1;
            if (args.left > 1) try exuvia.send(cx.sender, "Ping", .{ .left = args.left - 1 });
        }
    };
    pub const requests = struct {
        pub fn Rounds(self: *Player) i64 {
            return self.rounds;
        }
    };
};

const Left = struct { left: i64 };

comptime {
    exuvia.actor(Player);
}
