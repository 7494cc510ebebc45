// The SDK as a host runs it, with the host of the JavaScript SDK's tests.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { decode as unpack, encode as pack } from "@msgpack/msgpack";
import { TestProcess, constants } from "../../javascript/src/testing.mjs";
import { places, withLines } from "../bin/lines.mjs";
import { sections } from "../bin/wasm.mjs";

const { KIND, LOG, RUN, TAG } = constants;
const OPTIONS = { useBigInt64: true };
const encode = (value) => pack(value, OPTIONS);
const plain = (value) =>
  typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value)
  : Array.isArray(value) ? value.map(plain)
  : value?.constructor === Object ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]))
  : value;
const decode = (bytes) => plain(unpack(bytes, OPTIONS));

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "exuvia-"));
const run = (script, out, ...flags) =>
  execFileSync(process.execPath, [at("../bin/exuvia-as.mjs"), "build", script, "--out", out, ...flags], { cwd: at(".."), stdio: ["ignore", "pipe", "pipe"] });
run("test/guest.ts", join(folder, "guest.wasm"));
const guest = readFileSync(join(folder, "guest.wasm"));

function started(args) {
  const one = new TestProcess(guest);
  one.deliver({ kind: KIND.INIT, payload: args === undefined ? new Uint8Array() : encode(args) });
  return one;
}
const ask = (one, message) => {
  const reply = one.request(encode(message));
  return reply.tag === TAG.REFUSED ? { refused: new TextDecoder().decode(reply.payload) } : decode(reply.payload);
};
const tell = (one, message) => one.deliver({ payload: encode(message) });

test("an actor counts, from its arguments on", () => {
  const one = started({ start: 5 });
  assert.deepEqual(one.acknowledged, { status: 0, text: "" });
  assert.equal(tell(one, { Add: { by: -3 } }), RUN.REST);
  assert.equal(ask(one, "Get"), 2);
  assert.equal(one.exports.exuvia_schema.value, 4);
});

test("arguments that are wrong fail the start with a text", () => {
  for (const [payload, text] of [
    [encode({ start: "x" }), "`start`: expected int, got text"],
    [encode({ start: -1 }), "a count is not negative"],
    [encode("x"), "the arguments are no map"],
    [Uint8Array.of(0x81), "not MessagePack: a map is cut off"],
  ]) {
    const one = new TestProcess(guest);
    assert.equal(one.deliver({ kind: KIND.INIT, payload }), RUN.DONE);
    assert.deepEqual(one.acknowledged, { status: 256, text });
  }
});

test("what does not fit is refused or dropped, and ends nothing", () => {
  const one = started();
  assert.deepEqual(ask(one, "Nope"), { refused: "unknown request: Nope" });
  const refused = (fields, text) => assert.deepEqual(ask(one, { Types: { int: 1, uint: 1, float: 1, bool: true, texts: [], ints: [], pid: new Uint8Array(16), ...fields } }), { refused: text });
  refused({ int: "x" }, "`int`: expected int, got text");
  refused({ int: 2n ** 63n }, "`int`: the number is above 9223372036854775807");
  refused({ uint: -1 }, "`uint`: the number is negative");
  refused({ float: null }, "`float` is missing");
  refused({ texts: ["a", 1] }, "`texts`: expected text, got int");
  refused({ pid: new Uint8Array(15) }, "`pid`: expected a pid: 16 bytes");
  assert.deepEqual(ask(one, { Types: { int: -(2n ** 63n), uint: 2n ** 64n - 1n, float: 2, bool: true, texts: ["é"], ints: [1, -1], pid: new Uint8Array(16).fill(7) } }),
    [-(2n ** 63n), 2n ** 64n - 1n, 2, true, ["é"], [1, -1], new Uint8Array(16).fill(7)]);
  assert.equal(ask(one, { Inner: { fields: { x: 9 } } }), 9);
  tell(one, "What");
  assert.match(one.logged.at(-1).text, /unknown message: What/);
  tell(one, { Add: {} });
  assert.match(one.logged.at(-1).text, /`by` is missing/);
  assert.equal(ask(one, "Get"), 0);
});

test("values are read and written in all their forms", () => {
  const one = started();
  for (const value of [
    null, true, false, 0, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 9007199254740993n, 2n ** 64n - 1n,
    -1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, -(2n ** 63n), 0.5, -1e300, "", "é😀\u0000",
    "x".repeat(31), "x".repeat(32), "x".repeat(256), "ß".repeat(70000), new Uint8Array(0), new Uint8Array(300).fill(7), new Uint8Array(70000),
    [], [1, [2, [3]]], Array.from({ length: 20 }, (_, i) => i), Array.from({ length: 70000 }, () => null), { a: { b: [1, "c"] } },
    Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i}`, i])),
  ]) assert.deepEqual(ask(one, { Copy: { value } }), plain(value));
  const frame = (bytes) => Uint8Array.of(0x81, 0xa4, ...Buffer.from("Copy"), 0x81, 0xa5, ...Buffer.from("value"), ...bytes);
  for (const bytes of [[0xd4, 0x05, 0xff], [0xc7, 0x03, 0xfe, 1, 2, 3], [0x82, 0x01, 0xa1, 0x61, 0xa1, 0x62, 0xc0]])
    assert.deepEqual([...one.request(frame(bytes)).payload], bytes);
  // What is no UTF-8 is replaced, each byte of it.
  assert.equal(decode(one.request(frame([0xa4, 0x61, 0xff, 0xc3, 0x62])).payload), "a\ufffd\ufffdb");
  assert.equal(decode(one.request(frame([0xa3, 0xed, 0xa0, 0x80])).payload), "\ufffd\ufffd\ufffd");
});

test("random, cut off and endless input is an error, never a trap", () => {
  const one = started();
  let seed = 7;
  const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) >>> 8;
  const whole = encode({ Copy: { value: { a: [1, "text", new Uint8Array(9)], b: { c: -5, d: 1.5 } } } });
  for (let cut = 0; cut < whole.length; cut++) assert.equal(one.request(whole.subarray(0, cut)).tag, TAG.REFUSED, `${cut}`);
  for (let i = 0; i < 5000; i++) one.request(Uint8Array.from({ length: random() % 60 }, () => random() & 0xff));
  for (let i = 0; i < 5000; i++) {
    const broken = whole.slice();
    for (let n = random() % 4; n >= 0; n--) broken[7 + (random() % (whole.length - 7))] = random() & 0xff;
    one.request(broken);
  }
  for (const bytes of [
    [0xdd, 0xff, 0xff, 0xff, 0xff], [0xdf, 0xff, 0xff, 0xff, 0xff], [0xdb, 0xff, 0xff, 0xff, 0xff], [0xc6, 0xff, 0xff, 0xff, 0xff],
    [0xc9, 0xff, 0xff, 0xff, 0xff, 1], Array(100000).fill(0x91), Array(100000).fill(0x81), Array(50000).fill([0x81, 0xa1, 0x61]).flat(), [0xc1],
  ]) assert.equal(one.request(Uint8Array.from(bytes)).tag, TAG.REFUSED);
  one.replies.length = 0;
  assert.equal(ask(one, "Get"), 0);
});

test("state crosses by save and load, and what load refuses is said", () => {
  const one = started({ start: 41 });
  const state = one.save();
  assert.deepEqual(decode(state), { count: 41 });
  const next = new TestProcess(guest);
  assert.equal(next.load(4, state), 0);
  assert.equal(ask(next, "Get"), 41);
  for (const [schema, bytes, text] of [
    [3, state, /schema 3 is unknown/],
    [4, encode({}), /`count` is missing/],
    [4, encode({ count: "x" }), /`count`: expected int, got text/],
    [4, Uint8Array.of(0xc1), /not MessagePack|no map/],
    [4, encode(5), /no map/],
  ]) {
    const other = new TestProcess(guest);
    assert.equal(other.load(schema, bytes), 1);
    assert.equal(other.logged.at(-1).level, LOG.ERROR);
    assert.match(other.logged.at(-1).text, text);
  }
});

test("the collector keeps what is reachable, and frees the rest", () => {
  const one = started();
  assert.equal(ask(one, "Stress"), 200);
  assert.equal(ask(one, { Grow: { from: 0, to: 2000 } }), 2000);
  assert.equal(ask(one, "Stress"), 200);
  assert.equal(ask(one, { Grow: { from: 2000, to: 3000 } }), 3000);
  assert.equal(ask(one, "Check"), 3000);
  assert.equal(ask(one, "Pinned"), "pinned 0");
  // Where the objects lie that stay decides how much the first times need.
  for (let i = 0; i < 3; i++) ask(one, "Stress");
  const size = one.exports.memory.buffer.byteLength;
  for (let i = 0; i < 20; i++) ask(one, "Stress");
  assert.equal(one.exports.memory.buffer.byteLength, size);
});

test("what is freed is zero: memory after much work is the memory before", () => {
  const one = started();
  const words = () => new Uint32Array(one.exports.memory.buffer).reduce((count, word) => count + (word !== 0), 0);
  ask(one, "Get");
  const before = words();
  ask(one, "Stress");
  ask(one, { Grow: { from: 0, to: 5000 } });
  assert.ok(words() > before + 10000);
  ask(one, "Forget");
  ask(one, { Copy: { value: "é".repeat(500000) } });
  ask(one, "Get");
  assert.ok(words() - before < 40, `${words() - before} words more`);
});

test("random numbers differ between processes", () => {
  assert.notEqual(ask(started(), "Random"), ask(started(), "Random"));
});

test("an exception names its place, in a backtrace that names the functions", () => {
  writeFileSync(join(folder, "x.jsonl"), '{"name": "get", "message": "Get", "parameters": [], "reply": "i64"}\n');
  writeFileSync(join(folder, "state.json"), '{"schema": 1, "type": "{count: int}"}\n');
  run("conformance/one.ts", join(folder, "one.wasm"), "--protocol", join(folder, "x.jsonl"), "--state", join(folder, "state.json"), ...["VERSION=1", "REPLY=1", "SCHEMA=1"].flatMap((use) => ["--use", use]));
  const one = new TestProcess(join(folder, "one.wasm"));
  one.deliver({ kind: KIND.INIT });
  assert.throws(() => tell(one, "Trap"), (error) => /inner[\s\S]*outer/.test(error.stack));
  assert.match(one.printed, /uncaught error: the trap that was asked for\n {4}at conformance\/one\.ts:\d+:\d+/);
  const module = new WebAssembly.Module(readFileSync(join(folder, "one.wasm")));
  const text = (section) => Buffer.from(WebAssembly.Module.customSections(module, section)[0]).toString();
  assert.match(text("exuvia.protocol"), /"name": "get"/);
  assert.match(text("exuvia.state"), /"type": "\{count: int\}"/);
});

test("a description of the state that is no JSON is refused", () => {
  writeFileSync(join(folder, "state.json"), "{count: int}\n");
  const build = () => run("conformance/ping.ts", join(folder, "ping.wasm"), "--state", join(folder, "state.json"));
  assert.throws(build, (error) => /state\.json: .*JSON/.test(error.stderr));
});

test("an error of the compiler has its place", () => {
  writeFileSync(join(folder, "wrong.ts"), "export function run(): i32 {\n  return x;\n}\n");
  assert.throws(() => run(join(folder, "wrong.ts"), join(folder, "wrong.wasm")), (error) => /wrong\.ts\(2,10\)/.test(error.stderr));
});

test("a source map becomes lines of DWARF", () => {
  // Offsets 20, 21 and 40 of the module: line 1, line 3 column 5, and line 2 of another file.
  assert.deepEqual(places("oBAAA,CAEI,mBCDJ"), [[20, 0, 0, 0], [21, 0, 2, 4], [40, 1, 1, 0]]);
  const module = Buffer.concat([Buffer.from("\0asm\x01\0\0\0", "latin1"), Buffer.of(10, 40), Buffer.alloc(40)]);
  const lines = withLines(module, module, { mappings: "oBAAA,CAEI,mBCDJ", sources: ["a.ts", "b.ts"] });
  const found = sections(lines).map(([id, start]) => [id, id ? "" : lines.subarray(start + 1, start + 1 + lines[start]).toString()]);
  assert.deepEqual(found, [[10, ""], [0, ".debug_abbrev"], [0, ".debug_info"], [0, ".debug_line"]]);
  // Addresses count from the contents of the code, which begin at 10.
  const [, start] = sections(lines)[3];
  const program = lines.subarray(lines.indexOf("b.ts\0", start) + 9);
  assert.deepEqual([...program.subarray(0, 7 + 7 + 7 + 9 + 5)], [
    0, 5, 2, 0, 0, 0, 0,
    2, 10, 3, 0, 5, 1, 1,
    2, 1, 3, 2, 5, 5, 1,
    2, 19, 4, 2, 3, 0x7f, 5, 1, 1,
    2, 10, 0, 1, 1,
  ]);
});
