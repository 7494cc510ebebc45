// Starts a module as the host does before its first process, so that what is wrong with a script
// is seen by who builds it: an error at its top, or no actor.

import { setFlagsFromString } from "node:v8";
import { stubs } from "../src/testing.mjs";
import { fill } from "./wasm.mjs";

// Few of the engine's functions run here: each is compiled when it does.
setFlagsFromString("--wasm-lazy-compilation");

/**
 * Makes an instance of the engine for `place` and `start`. To compile the engine takes most of a
 * build's time, so this is done once and for both.
 */
export function instance(engine) {
  const said = [];
  const { imports, use } = stubs({ log: (level, text) => said.push(text), print: (text) => said.push(text) });
  const module = new WebAssembly.Module(engine);
  const made = new WebAssembly.Instance(module, imports(module));
  use(made);
  return { exports: made.exports, said };
}

/** Returns the custom sections in which the script describes itself, texts by name. `fail` gets the text of what went wrong, and throws. */
export function start({ exports, said }, placed, fail) {
  fill(exports.memory, placed);
  try {
    exports._initialize?.();
    exports.warm_up();
    exports.exuvia_schema();
    const address = exports.exuvia_describe();
    const memory = new Uint8Array(exports.memory.buffer);
    return JSON.parse(new TextDecoder().decode(memory.subarray(address, memory.indexOf(0, address))));
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    return fail(said[0] ?? error.message);
  }
}
