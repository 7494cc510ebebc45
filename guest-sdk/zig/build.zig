//! The package `exuvia`. In the build.zig of an app:
//!
//! ```
//! const exuvia = @import("exuvia");
//!
//! pub fn build(b: *std.Build) void {
//!     exuvia.addActor(b, .{ .name = "counter", .root_source_file = b.path("src/main.zig") });
//! }
//! ```

const std = @import("std");

pub const ActorOptions = struct {
    /// The module is zig-out/bin/NAME.wasm.
    name: []const u8,
    root_source_file: std.Build.LazyPath,
    optimize: std.lang.OptimizeMode = .ReleaseSafe,
    /// For `@import("options")`.
    options: ?*std.Build.Step.Options = null,
};

/// Builds an actor and installs it.
pub fn addActor(b: *std.Build, options: ActorOptions) void {
    // The package itself has no dependency of that name.
    const owner = if (b.available_deps.len == 0) b else b.dependency("exuvia", .{}).builder;
    const target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .wasi });
    const sdk = b.createModule(.{ .root_source_file = owner.path("src/exuvia.zig"), .target = target, .optimize = options.optimize });
    const root = b.createModule(.{
        .root_source_file = options.root_source_file,
        .target = target,
        .optimize = options.optimize,
        // The backtraces of the host want the names.
        .strip = false,
        .imports = &.{.{ .name = "exuvia", .module = sdk }},
    });
    if (options.options) |o| root.addOptions("options", o);
    const module = b.addExecutable(.{ .name = options.name, .root_module = root });
    module.entry = .disabled;
    module.wasi_exec_model = .reactor;
    module.rdynamic = true;
    module.stack_size = 64 * 1024;
    b.installArtifact(module);
}

pub fn build(b: *std.Build) void {
    const tests = b.addTest(.{ .root_module = b.createModule(.{ .root_source_file = b.path("src/exuvia.zig"), .target = b.graph.host }) });
    b.step("test", "Run the tests").dependOn(&b.addRunArtifact(tests).step);
    // The guests of the conformance suite.
    const guests = b.option(bool, "guests", "Build the guests of the conformance suite") orelse false;
    if (!guests) return addActor(b, .{ .name = "every", .root_source_file = b.path("tests/every.zig") });
    for ([_]struct { []const u8, i32 }{ .{ "one", 1 }, .{ "same", 101 }, .{ "two", 2 }, .{ "bad", 3 } }) |guest| {
        const options = b.addOptions();
        options.addOption(i32, "version", guest[1]);
        addActor(b, .{ .name = guest[0], .root_source_file = b.path("conformance/guest.zig"), .options = options });
    }
    addActor(b, .{ .name = "ping", .root_source_file = b.path("conformance/ping.zig") });
}
