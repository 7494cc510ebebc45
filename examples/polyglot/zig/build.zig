const std = @import("std");
const exuvia = @import("exuvia");

pub fn build(b: *std.Build) void {
    exuvia.addActor(b, .{ .name = "zig", .root_source_file = b.path("src/main.zig") });
}
