// The guest of the conformance suite: see ../../conformance/README.md. The same script is `one`,
// `same`, `two` and `bad`: the build step gives VERSION, REPLY and SCHEMA.

import {
  File, HostError, Refusal, Refused, actor, call, callSync, check, exit, link, log, monitor, readTextFile,
  receiveSync, register, reply, self, send, sendAfter, spawn, stop, takes, trapExit, whereis,
} from "exuvia-actor";

/** What the state calls the count. */
const COUNT = SCHEMA === 1 ? "count" : "total";

/** The open file, which new code would have to open again. */
let file;

const wrap = (count) => BigInt.asIntN(64, count);

/** How `Call`, `CallKeep` and `Await` reply. */
const failure = (error) => {
  if (error instanceof HostError) return { Err: error.code.toLowerCase() };
  if (error instanceof Refused) return { Err: `refused: ${error.message}` };
  throw error;
};
const callOnStack = (to, message, timeoutMs) => {
  try {
    return { Ok: callSync(to, message, { timeoutMs }) };
  } catch (error) {
    return failure(error);
  }
};
const refusedIfFailed = (what) => {
  try {
    return what();
  } catch (error) {
    throw new Refusal(error.message);
  }
};

function inner() {
  throw new Error("the trap that was asked for");
}
function outer() {
  inner();
}

actor({
  schema: SCHEMA,
  state: { [COUNT]: "bigint", notes: ["text"], kept: "list?" },
  loads: SCHEMA === 1 ? [] : [[1, SCHEMA - 1]],

  init(args) {
    const { start = 0n } = check({ start: "bigint?" }, args ?? {});
    return { [COUNT]: start, notes: [], kept: [] };
  },

  load(saved, schema) {
    const { count, total, notes, kept = [] } = check({ count: "bigint?", total: "bigint?", notes: ["text"], kept: "list?" }, saved);
    if (schema === 0 || schema > SCHEMA) throw new Refusal(`the schema ${schema} is unknown`);
    const number = schema === 1 ? count : total;
    if (number === undefined) throw new Refusal("the state has no count");
    if (VERSION === 3 && number === 13n) throw new Error("the count is 13");
    if (VERSION === 3 && number % 2n !== 0n) throw new Refusal(`the count ${number} is odd`);
    return { [COUNT]: number, notes, kept };
  },

  messages: {
    Add: takes({ by: "bigint" }, (state, { by }) => void (state[COUNT] = wrap(state[COUNT] + by))),
    Note: takes({ text: "text" }, (state, { text }) => void state.notes.push(text)),
    Stop: takes({ code: "int", text: "text" }, (state, { code, text }) => (code ? exit(code, text) : stop())),
    Trap: () => outer(),
  },

  requests: {
    Version: () => REPLY,
    Echo: takes({ value: "any" }, (state, { value }) => value),
    Get: (state) => state[COUNT],
    Length: takes({ bytes: "binary" }, (state, { bytes }) => bytes.length),
    Notes: (state) => state.notes.splice(0),
    Keep: (state, _, context) => void state.kept.push(context.later()),
    Release: takes({ value: "any" }, (state, { value }) => {
      for (const request of state.kept.splice(0)) reply(request, value);
      return null;
    }),
    Call: takes({ to: "pid", value: "any", timeout_ms: "int" }, (state, { to, value, timeout_ms }) =>
      callOnStack(to, { Echo: { value } }, timeout_ms)),
    CallKeep: takes({ to: "pid", timeout_ms: "int" }, (state, { to, timeout_ms }) => callOnStack(to, "Keep", timeout_ms)),
    Await: takes({ to: "pid", timeout_ms: "int" }, async (state, { to, timeout_ms }) => {
      try {
        return { Ok: await call(to, "Keep", { timeoutMs: timeout_ms }) };
      } catch (error) {
        return failure(error);
      }
    }),
    Select: takes({ tag: "int", timeout_ms: "int" }, (state, { tag, timeout_ms }) =>
      receiveSync({ tag, timeoutMs: timeout_ms })?.value ?? null),
    Timers: takes({ delays_ms: ["int"] }, (state, { delays_ms }) => {
      for (const delay of delays_ms) sendAfter(self(), delay, { Note: { text: `timer ${delay}` } });
      return null;
    }),
    Watch: takes({ pid: "pid" }, (state, { pid }) => (monitor(pid), null)),
    Join: takes({ pid: "pid" }, (state, { pid }) => (trapExit(true), link(pid), null)),
    Register: takes({ name: "text" }, (state, { name }) => refusedIfFailed(() => (register(name), null))),
    Whereis: takes({ name: "text" }, (state, { name }) => whereis(name) ?? null),
    Child: takes({ start: "bigint" }, (state, { start }) => spawn("", { start }, { link: true }).pid),
    Send: takes({ to: "pid", text: "text" }, (state, { to, text }) => (send(to, { Note: { text } }), null)),
    Fill: takes({ bytes: "int" }, (state, { bytes }) => new Uint8Array(bytes).fill(1).length),
    ReadFile: takes({ path: "text" }, (state, { path }) => refusedIfFailed(() => readTextFile(path))),
    OpenFile: takes({ path: "text" }, (state, { path }) =>
      refusedIfFailed(() => {
        file = new File(path);
        file.read(1);
        return null;
      })),
    ReadOn: () =>
      refusedIfFailed(() => {
        const byte = file.read(1);
        if (!byte.length) throw new Refusal("the file is at its end");
        return new TextDecoder().decode(byte);
      }),
    Random: () => crypto.getRandomValues(new Uint8Array(16)),
    Log: takes({ text: "text" }, (state, { text }) => (log.info(text), null)),
  },

  down: (state, { reason }) => void state.notes.push(`down ${reason.code}`),
  exit: (state, { reason }) => void state.notes.push(`exit ${reason.code}`),
});
