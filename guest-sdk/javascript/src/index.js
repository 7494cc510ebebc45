// The SDK: everything public. Shapes, units and errors are in index.d.ts.

import "./globals.js";

export { actor, refuse, reply, stop } from "./actor.js";
export { Extension, HostError, Pid, Refusal, Refused } from "./host.js";
export { check, takes } from "./shape.js";
export { inspect } from "./inspect.js";
export * from "./process.js";
export * as constants from "./constants.js";
