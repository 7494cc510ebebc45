//! A process that counts. Others send it {"Add": {"by": 3}}, and ask it "Get".

const exuvia = @import("exuvia");

pub const panic = exuvia.panic;
pub const std_options = exuvia.std_options;

comptime {
    exuvia.actor(Counter);
}

const Counter = struct {
    // The state. It survives a swap of code, by the names of the fields.
    count: i64 = 0,

    /// Raise it when the fields change their meaning, and write `load`.
    pub const schema = 1;
    /// This process keeps nothing in variables of its own: if the fields stay the same, so does its memory.
    pub const layout = true;

    /// The start. The arguments may be {"start": 10}.
    pub fn init(args: ?struct { start: i64 = 0 }) Counter {
        return .{ .count = if (args) |given| given.start else 0 };
    }

    /// What it is sent. A parameter that is missing or has another type is logged, and `Add` is not called.
    pub const messages = struct {
        pub fn Add(self: *Counter, args: struct { by: i64 }) void {
            self.count += args.by;
        }
    };

    /// What it is asked. What a function returns is the reply; an error refuses the request.
    pub const requests = struct {
        pub fn Get(self: *Counter) i64 {
            return self.count;
        }
    };
};
