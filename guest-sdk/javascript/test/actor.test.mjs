// Actors as a host runs them: modules of the engine, with the host of src/testing.mjs.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { decode as unpack, encode as pack } from "@msgpack/msgpack";
import { build, BuildError } from "../tool/build.mjs";
import { TestProcess, constants } from "../src/testing.mjs";
import { writeFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { KIND, LOG, RUN, TAG } = constants;
const script = (name) => fileURLToPath(new URL(`scripts/${name}`, import.meta.url));
const OPTIONS = { useBigInt64: true };
const encode = (value) => pack(value, OPTIONS);
const plain = (value) =>
  typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value)
  : Array.isArray(value) ? value.map(plain)
  : value?.constructor === Object ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]))
  : value;
const decode = (bytes) => plain(unpack(bytes, OPTIONS));

const many = (await build(script("many.js"))).module;

function started(args) {
  const process = new TestProcess(many);
  process.deliver({ kind: KIND.INIT, payload: args === undefined ? new Uint8Array() : encode(args) });
  return process;
}
const ask = (process, message) => {
  const reply = process.request(encode(message));
  if (!reply) return undefined;
  return reply.tag === TAG.REFUSED ? { refused: new TextDecoder().decode(reply.payload) } : decode(reply.payload);
};
const tell = (process, message) => process.deliver({ payload: encode(message) });

test("an actor counts, from its arguments on", () => {
  const process = started({ start: 5 });
  assert.deepEqual(process.acknowledged, { status: 0, text: "" });
  assert.equal(tell(process, { Add: { by: 3 } }), RUN.REST);
  assert.equal(ask(process, "Get"), 8);
});

test("what does not fit is refused or dropped, and ends nothing", () => {
  const process = started();
  assert.deepEqual(ask(process, "Nope"), { refused: "unknown request: Nope" });
  assert.deepEqual(ask(process, "constructor"), { refused: "unknown request: constructor" });
  assert.deepEqual(ask(process, "Refuse"), { refused: "no" });
  tell(process, { Add: { by: "x" } });
  assert.match(process.logged.at(-1).text, /`by`: expected int, got text/);
  tell(process, { Add: {} });
  assert.match(process.logged.at(-1).text, /`by` is missing/);
  tell(process, "What");
  assert.match(process.logged.at(-1).text, /unknown message: What/);
  process.deliver({ payload: Uint8Array.of(0xc1) });
  assert.match(process.logged.at(-1).text, /not MessagePack/);
  process.deliver({ tag: 5, payload: Uint8Array.of(1) });
  assert.match(process.logged.at(-1).text, /tag 5/);
  assert.equal(ask(process, "Get"), 0);
});

test("a malformed request of HTTP is refused, and a malformed reply is dropped", () => {
  const process = started();
  const headers = (list) => encode({ method: "GET", path: "/", headers: list });
  for (const payload of [Uint8Array.of(0xc1), Uint8Array.of(), encode(5), encode({ method: "GET" }), headers({}), headers([1]), headers([["accept", 1]])]) {
    const { tag } = process.request(payload, { tag: TAG.HTTP_REQUEST });
    assert.equal(tag, TAG.REFUSED);
  }
  assert.equal(process.request(headers([["accept", "a"]]), { tag: TAG.HTTP_REQUEST }).tag, TAG.HTTP_RESPONSE);
  process.deliver({ kind: KIND.REPLY, reference: 99n, payload: Uint8Array.of(0xc1) });
  assert.match(process.logged.at(-1).text, /dropped a reply: not MessagePack/);
  process.deliver({ kind: KIND.REPLY, reference: 99n, payload: encode("good") });
  assert.deepEqual(ask(process, "Log"), ["good"]);
  assert.equal(ask(process, "Get"), 0);
});

test("values come back as they went", () => {
  const process = started();
  const values = [
    null, true, false, 0, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 9007199254740991, 9007199254740993n,
    18446744073709551615n, -1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, -9223372036854775808n,
    0.5, -0.25, 1e300, "", "é😀\u0000", "x".repeat(31), "x".repeat(32), "x".repeat(256), "x".repeat(70000),
    new Uint8Array(0), new Uint8Array(300).fill(7), new Uint8Array(70000), [], [1, [2, [3]]], Array.from({ length: 20 }, (_, i) => i),
    Array.from({ length: 70000 }, () => null), {}, { a: { b: [1, "c"] } },
    Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i}`, i])),
  ];
  for (const value of values) assert.deepEqual(ask(process, { Echo: { value } }), plain(value));
  // A key like any other, and no way to another prototype.
  assert.equal(Buffer.from(process.request(encode("Pair")).payload).toString("latin1"), "\x81\xa9__proto__\x05");
});

test("a map with other keys, an extension and floats keep their forms", () => {
  const process = started();
  const frame = (bytes) => Uint8Array.of(0x81, 0xa4, ...Buffer.from("Echo"), 0x81, 0xa5, ...Buffer.from("value"), ...bytes);
  for (const bytes of [
    [0x82, 0x01, 0xa1, 0x61, 0xa1, 0x62, 0xc0],
    [0xd4, 0x05, 0xff], [0xc7, 0x03, 0xfe, 1, 2, 3], [0xd6, 0xff, 0, 0, 0, 1],
    [0xcb, 0x3f, 0xe0, 0, 0, 0, 0, 0, 0], [0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0],
  ]) assert.deepEqual([...process.request(frame(bytes)).payload], bytes);
});

test("what cannot be encoded is said by name", () => {
  const errors = ask(started(), "Bad");
  assert.deepEqual(errors, [
    "cannot encode a function", "cannot encode a symbol", "cannot encode a Set: make it an array",
    "cannot encode a Date: make it a number or a string", "cannot encode a promise: await it first",
    "cannot encode a BigInt of more than 64 bits", "cannot encode the property `f`: it is a function",
    "cannot encode a value that is nested deeper than 100, or contains itself",
  ]);
});

test("random, cut off and endless input is an error, never the end", () => {
  const process = started();
  let seed = 1;
  const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) >>> 8;
  const whole = encode({ Echo: { value: { a: [1, "text", new Uint8Array(9)], b: { c: -5, d: 1.5 } } } });
  let refused = 0;
  for (let i = 0; i < 3000; i++) {
    const payload = Uint8Array.from({ length: random() % 60 }, () => random() & 0xff);
    const reply = process.request(payload);
    refused += reply.tag === TAG.REFUSED;
  }
  assert.ok(refused > 2900, `${refused}`);
  for (let cut = 0; cut < whole.length; cut++) assert.equal(process.request(whole.subarray(0, cut)).tag, TAG.REFUSED);
  for (const bytes of [
    [0xdd, 0xff, 0xff, 0xff, 0xff], [0xdf, 0xff, 0xff, 0xff, 0xff], [0xdb, 0xff, 0xff, 0xff, 0xff], [0xc6, 0xff, 0xff, 0xff, 0xff],
    [0xc9, 0xff, 0xff, 0xff, 0xff, 0x01], Array(100000).fill(0x91), Array(100000).fill(0x81), [...Array(50000).fill([0x81, 0xa1, 0x61]).flat()],
  ]) assert.equal(process.request(Uint8Array.from(bytes)).tag, TAG.REFUSED);
  process.replies.length = 0;
  assert.equal(ask(process, "Get"), 0);
});

test("while an async handler waits the process is WAITING, and others wait for their turn", () => {
  const process = started();
  assert.equal(tell(process, "Slow"), RUN.WAITING);
  const timer = process.sent.at(-1);
  assert.equal(timer.delay, 5n);
  tell(process, { Add: { by: 1 } });
  assert.equal(process.mailbox.length, 1);
  assert.equal(process.deliver({ kind: KIND.TIMER, reference: timer.reference, tag: timer.tag }), RUN.REST);
  assert.deepEqual(ask(process, "Log"), ["begin", "end"]);
  assert.equal(ask(process, "Get"), 1);
});

test("a call is answered, refused, ends with its process, or with its time", () => {
  const to = new Uint8Array(16).fill(2);
  const calling = () => {
    const process = started();
    const asked = process.lastReference + 1n;
    assert.equal(ask(process, { Call: { to } }), undefined);
    const [request, timer] = process.sent;
    return { process, request, timer, result: () => decode(process.replies.find((reply) => reply.reference === asked).payload) };
  };
  for (const [message, wanted] of [
    [({ request }) => ({ kind: KIND.REPLY, reference: request.reference, payload: encode(7) }), 7],
    [({ request }) => ({ kind: KIND.REPLY, reference: request.reference, tag: TAG.REFUSED, payload: Buffer.from("why") }), "Refused why"],
    [({ request }) => ({ kind: KIND.DOWN, reference: request.reference, reason: 4 }), "HostError NOPROC"],
    [({ timer }) => ({ kind: KIND.TIMER, reference: timer.reference, tag: timer.tag }), "HostError TIMEOUT"],
  ]) {
    const run = calling();
    assert.deepEqual(decode(run.request.payload), "Get");
    assert.equal(run.process.deliver(message(run)), RUN.REST);
    assert.equal(run.result(), wanted);
  }
});

test("a selective receive takes what it waits for, and leaves the rest", () => {
  const process = started();
  assert.equal(ask(process, { Wait: { tag: 9 } }), undefined);
  tell(process, { Add: { by: 1 } });
  const reference = 1n;
  assert.equal(process.deliver({ tag: 9, payload: encode("it") }), RUN.REST);
  assert.equal(decode(process.replies.find((reply) => reply.reference === reference).payload), "it");
  process.run();
  assert.equal(ask(process, "Get"), 1);
});

test("a kept request is replied to later", () => {
  const process = started();
  assert.equal(process.request(encode("Keep")), undefined);
  ask(process, { Release: { value: [1] } });
  assert.deepEqual(decode(process.replies[0].payload), [1]);
});

test("state crosses by save and load, and what load refuses is said", async () => {
  const process = started({ start: 41 });
  const state = process.save();
  assert.deepEqual(decode(state), { count: 41, log: [] });
  const next = new TestProcess(many);
  assert.equal(next.load(1, state), 0);
  assert.equal(ask(next, "Get"), 41);
  const other = new TestProcess(many);
  assert.equal(other.load(7, state), 1);
  assert.equal(other.logged.at(-1).level, LOG.ERROR);
  assert.match(other.logged.at(-1).text, /schema 7/);
  assert.equal(new TestProcess(many).load(1, Uint8Array.of(0xc1)), 1);
});

test("an exception ends the process with its stack, in the author's lines", () => {
  for (const [message, ...wanted] of [
    ["Throw", /uncaught Error: thrown here\n {4}at Throw \(.*many\.js:11:\d+\)\ncaused by TypeError: the cause/],
    ["Reject", /uncaught Error: nobody handles this\n {4}at Reject \(.*many\.js:10:\d+\)/],
    ["Stuck", /no message can complete/],
  ]) {
    const process = started();
    assert.throws(() => tell(process, message), WebAssembly.RuntimeError);
    for (const text of wanted) assert.match(process.printed, text);
  }
});

test("a recursion without an end is a RangeError, and a timeout fires", () => {
  const process = started();
  tell(process, "Deep");
  assert.deepEqual(ask(process, "Log"), ["RangeError"]);
  tell(process, "Nested");
  assert.deepEqual(ask(process, "Log"), ["RangeError", "RangeError"]);
  assert.equal(tell(process, "Timeout"), RUN.WAITING);
  const timer = process.sent.at(-1);
  assert.equal(process.deliver({ kind: KIND.TIMER, reference: timer.reference, tag: timer.tag }), RUN.REST);
  assert.deepEqual(ask(process, "Log"), ["fired"]);
});

test("arguments that are wrong fail the start with a text", async () => {
  const folder = mkdtempSync(join(tmpdir(), "exuvia-"));
  const file = join(folder, "fails.js");
  writeFileSync(file, 'import { actor, check } from "exuvia-actor"; actor({ init: (args) => check({ start: "int" }, args) });');
  const process = new TestProcess((await build(file)).module);
  assert.equal(process.deliver({ kind: KIND.INIT, payload: encode({ start: "x" }) }), RUN.DONE);
  assert.deepEqual(process.acknowledged, { status: 256, text: "`start`: expected int, got text" });
});

test("text, values for people and random numbers are there", () => {
  const process = started();
  assert.deepEqual(ask(process, "Text"), ["aé😀", 2]);
  assert.deepEqual(ask(process, "Inspect"), ['{a: [1, "b", 2n, null, undefined], m: Map {1 => 2}, b: Uint8Array(2) 01ff}', "plain"]);
  const [first, uuid] = ask(process, "Random");
  assert.notEqual(first, ask(started(), "Random")[0]);
  assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("what is freed is zero: memory after much work is the memory before", () => {
  const process = started();
  const used = () => {
    const bytes = new Uint32Array(process.exports.memory.buffer);
    return bytes.reduce((count, word) => count + (word !== 0), 0);
  };
  // Below this is stack, which the host clears.
  const stack = process.exports.__stack_pointer.value;
  const clear = () => new Uint8Array(process.exports.memory.buffer, 0, stack).fill(0);
  tell(process, { Add: { by: 1 } });
  ask(process, { Echo: { value: "x" } });
  clear();
  const before = used();
  ask(process, { Echo: { value: "x".repeat(1000000) } });
  tell(process, "Cycle");
  tell(process, { Add: { by: 1 } });
  clear();
  assert.ok(used() - before < 1200, `${used() - before} words more`);
});

test("a message for which there is no memory is dropped, a request refused", () => {
  const process = started();
  // The memory of an instance cannot be bounded from here: a length that no memory has does the same.
  const huge = { from: process.pid, reference: 77n, tag: 0, reason: 0, payload: { length: 0xfff00000, subarray: () => new Uint8Array() } };
  process.mailbox.push({ ...huge, kind: KIND.REQUEST });
  assert.equal(process.run(), RUN.REST);
  assert.equal(process.replies[0].tag, TAG.REFUSED);
  assert.match(process.logged.at(-1).text, /dropped a message of 4293918720 bytes/);
  process.mailbox.push({ ...huge, kind: KIND.REPLY });
  assert.equal(process.run(), RUN.REST);
  assert.match(process.logged.at(-1).text, /dropped a message of 4293918720 bytes/);
  assert.deepEqual(ask(process, "Log"), []);
  assert.equal(ask(process, "Get"), 0);
});

test("TypeScript is built, HTTP is answered, and the messages are described", async () => {
  const { module, sections } = await build(script("types.ts"));
  assert.equal(sections["exuvia.state"], undefined);
  const lines = sections["exuvia.protocol"].split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines[0], { name: "add", message: "Add", parameters: [{ name: "by", type: "int" }, { name: "why", type: "Option<text>" }] });
  assert.deepEqual(lines[1].parameters, [{ name: "by", type: "Option<any>" }, { name: "note", type: "any" }]);
  assert.equal(lines[2].reply, "any");
  const process = new TestProcess(module);
  process.deliver({ kind: KIND.INIT });
  const head = encode({ method: "GET", path: "/x", headers: [], params: {} });
  const reply = process.request(new Uint8Array([...head, 1, 2]), { tag: TAG.HTTP_REQUEST });
  assert.equal(reply.tag, TAG.HTTP_RESPONSE);
  const text = Buffer.from(reply.payload).toString("latin1");
  assert.match(text, /content-type/);
  assert.ok(text.endsWith('{"count":0,"path":"/x"}'));
});

test("a state that is not what the actor says is refused, with the field", async () => {
  const file = join(mkdtempSync(join(tmpdir(), "exuvia-")), "said.js");
  writeFileSync(file, `import { actor } from "exuvia-actor";
    actor({ schema: 1, state: { count: "int", name: "text?" }, init: () => ({ count: 0 }), requests: { Get: (state) => state.count + (state.more ?? 0) } });`);
  const { module } = await build(file);
  for (const [saved, why] of [[{ total: 1 }, "`count` is missing"], [{ count: "1" }, "`count`: expected int, got text"], [[1], "expected a map, got list"]]) {
    const process = new TestProcess(module);
    assert.equal(process.load(1, encode(saved)), 1);
    assert.equal(process.logged.at(-1).text, why);
  }
  // What it does not say is kept.
  const process = new TestProcess(module);
  assert.equal(process.load(1, encode({ count: 1, more: 2 })), 0);
  assert.equal(ask(process, "Get"), 3);
});

test("the state is described as it says, and what load takes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "exuvia-"));
  const described = async (definition) => {
    const file = join(folder, "state.js");
    writeFileSync(file, `import { actor } from "exuvia-actor"; actor({ init: () => ({}), ${definition} });`);
    return (await build(file)).sections["exuvia.state"];
  };
  const state = 'state: { count: "bigint", at: "number", notes: ["text"], who: { pid: "pid", name: "text?" }, raw: "binary", rest: "map", all: "any" }';
  assert.deepEqual(JSON.parse(await described(`schema: 3, ${state}`)), {
    schema: 3,
    loads: [],
    type: "{count: int, at: float, notes: List<text>, who: {pid: pid, name: Option<text>}, raw: bytes, rest: Map<any, any>, all: any}",
  });
  const load = "load: (saved) => saved";
  assert.equal(JSON.parse(await described(`state: {}, ${load}`)).loads, "any");
  assert.deepEqual(JSON.parse(await described(`schema: 2, state: {}, loads: [1, [3, 5]], ${load}`)).loads, [1, [3, 5]]);
  await assert.rejects(described('state: { count: "i64" }'), /`state\.count`: there is no type "i64"/);
});

test("a concurrent actor handles others while it waits, and gets replies it did not await", async () => {
  const folder = mkdtempSync(join(tmpdir(), "exuvia-"));
  const file = join(folder, "concurrent.js");
  writeFileSync(file, `import { actor, sleep, request } from "exuvia-actor";
    actor({
      concurrent: true,
      init: () => ({ count: 0, replies: [] }),
      messages: {
        Add: (state, { by }) => void (state.count += by),
        Ask: (state, { to }) => void request(to, "Get"),
      },
      requests: { Get: (state) => state.count, async Slow(state) { await sleep(5); return state.count; }, Replies: (state) => state.replies },
      reply: (state, value) => void state.replies.push(value),
      down: (state, { reason }) => void state.replies.push(reason.name),
    });`);
  const process = new TestProcess((await build(file)).module);
  process.deliver({ kind: KIND.INIT });
  assert.equal(process.request(encode("Slow")), undefined);
  const slow = process.lastReference - 1n;
  const timer = process.sent.at(-1);
  assert.equal(tell(process, { Add: { by: 2 } }), RUN.WAITING);
  assert.equal(ask(process, "Get"), 2);
  assert.equal(process.deliver({ kind: KIND.TIMER, reference: timer.reference, tag: timer.tag }), RUN.REST);
  assert.equal(decode(process.replies.find((reply) => reply.reference === slow).payload), 2);
  tell(process, { Ask: { to: new Uint8Array(16).fill(3) } });
  process.deliver({ kind: KIND.REPLY, reference: process.sent.at(-1).reference, payload: encode([7]) });
  process.deliver({ kind: KIND.DOWN, reference: 99n, reason: 2 });
  assert.deepEqual(ask(process, "Replies"), [[7], "KILLED"]);
});

test("what is wrong with a script is said with its place", async () => {
  const folder = mkdtempSync(join(tmpdir(), "exuvia-"));
  const fails = async (text, wanted) => {
    const file = join(folder, "wrong.js");
    writeFileSync(file, text);
    await assert.rejects(build(file), (error) => error instanceof BuildError && wanted.test(error.message));
  };
  await fails('import { actor } from "exuvia-actor";\nconst x = ;', /wrong\.js:2:11: Unexpected ";"/);
  await fails('import { actor } from "exuvia-actor";\nnothing.here;\nactor({});', /nothing is not defined\n.*wrong\.js:2:1/);
  await fails("1", /starts no actor/);
  await fails('import { actor } from "exuvia-actor"; Object.hasOwn = () => { throw new Error("no such luck"); }; actor({});', /^Error: no such luck/);
  await fails('import { actor } from "exuvia-actor"; actor({ messages: { A: 5 } });', /messages\.A is no function/);
});
