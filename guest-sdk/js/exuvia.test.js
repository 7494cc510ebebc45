// Run by `cargo test -p exuvia-cli --test it channels`, or with `npm test`: then without a node, unless EXUVIA_URL has the
// route of the sessions of examples/live.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "./exuvia.js";

/** A WebSocket whose other side is the test. */
class Fake {
  /** @type {Fake[]} */
  static all = [];
  sent = [];
  code = null;
  constructor(url) {
    this.url = url;
    Fake.all.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close(code) {
    this.code = code;
  }
  open() {
    this.onopen({});
  }
  says(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
  }
  welcome(fields = {}) {
    this.says({ type: "welcome", version: 1, token: "t", resumed: false, received: 0, ...fields });
  }
  /** What was sent since the last time. */
  take() {
    return this.sent.splice(0);
  }
}

function begun() {
  Fake.all.length = 0;
  const client = new Client("/live", { WebSocket: Fake, base: "https://example.com/page?x=1" });
  const room = client.channel("room", { name: "a" });
  return { client, room };
}

/** The next connection that the client opens. */
async function connection(number) {
  while (Fake.all.length < number) await new Promise((resolve) => setTimeout(resolve, 5));
  return Fake.all[number - 1];
}

test("a client says hello, joins and gets replies", async () => {
  const { client, room } = begun();
  const joined = room.join();
  const socket = await connection(1);
  assert.match(socket.url, /^wss:\/\/example\.com\/live\/[0-9a-f]{32}$/);
  socket.open();
  assert.deepEqual(socket.take(), [{ type: "hello", version: 1, token: null, seen: 0 }]);
  socket.welcome();
  assert.deepEqual(socket.take(), [
    { type: "join", ref: 1, topic: "room", payload: { name: "a" }, seen: 0 },
  ]);
  socket.says({ type: "reply", seq: 1, ref: 1, ok: { hello: "a" } });
  assert.deepEqual(await joined, { hello: "a" });
  const refused = room.push("shout", 7);
  assert.deepEqual(socket.take(), [
    { type: "push", ref: 2, topic: "room", event: "shout", payload: 7, seen: 1 },
  ]);
  socket.says({ type: "reply", seq: 2, ref: 2, error: "not so loud" });
  await assert.rejects(refused, { name: "ChannelError", kind: "refused", message: "not so loud" });
  client.close();
  assert.equal(socket.code, 1000);
  await assert.rejects(room.push("late"), { kind: "closed" });
});

test("a client resumes: it sends what was not received, and takes each frame once", async () => {
  const { client, room } = begun();
  const heard = [];
  const states = [];
  client.onState((state) => states.push(state));
  client.onLost(() => heard.push("lost"));
  room.on("said", (text) => heard.push(text));
  const joined = room.join();
  const first = await connection(1);
  first.open();
  first.welcome();
  first.says({ type: "reply", seq: 1, ref: 1, ok: null });
  await joined;
  first.says({ type: "event", seq: 2, topic: "room", event: "said", payload: "one" });
  const two = room.push("say", "two");
  const three = room.push("say", "three");
  first.take();
  first.onclose({});
  const four = room.push("say", "four");

  const second = await connection(2);
  second.open();
  assert.deepEqual(second.take(), [{ type: "hello", version: 1, token: "t", seen: 2 }]);
  second.welcome({ resumed: true, received: 2 });
  const again = second.take().map(({ ref, payload }) => [ref, payload]);
  assert.deepEqual(again, [[3, "three"], [4, "four"]]);
  second.says({ type: "event", seq: 2, topic: "room", event: "said", payload: "one" });
  second.says({ type: "reply", seq: 3, ref: 2, ok: 2 });
  second.says({ type: "event", seq: 4, topic: "room", event: "said", payload: "two" });
  second.says({ type: "reply", seq: 5, ref: 3, ok: 3 });
  second.says({ type: "reply", seq: 6, ref: 4, ok: 4 });
  assert.deepEqual(await Promise.all([two, three, four]), [2, 3, 4]);
  assert.deepEqual(heard, ["one", "two"]);
  // What the former connection still says is not listened to.
  first.says({ type: "event", seq: 7, topic: "room", event: "said", payload: "ghost" });
  // A gap: frame 7 is missing.
  second.says({ type: "event", seq: 8, topic: "room", event: "said", payload: "eight" });
  assert.deepEqual(heard, ["one", "two"]);
  assert.equal(second.code, 4000);
  assert.deepEqual(states, ["connecting", "open", "waiting", "connecting", "open", "waiting"]);
  client.close();
});

test("a session that is lost is told, and topics are joined again", async () => {
  const { client, room } = begun();
  const lost = [];
  const joins = [];
  client.onLost((reason) => lost.push(reason));
  room.onJoin((reply) => joins.push(reply));
  room.join();
  const first = await connection(1);
  first.open();
  first.welcome();
  first.says({ type: "reply", seq: 1, ref: 1, ok: "first" });
  const unknown = room.push("say", "x");
  first.onclose({});
  const second = await connection(2);
  second.open();
  second.take();
  second.welcome({ token: "u", reason: "missed" });
  await assert.rejects(unknown, { kind: "lost" });
  assert.deepEqual(lost, ["missed"]);
  const [join] = second.take();
  assert.deepEqual([join.type, join.ref, join.seen], ["join", 3, 0]);
  second.says({ type: "reply", seq: 1, ref: 3, ok: "second" });
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(joins, ["first", "second"]);
  client.close();
});

test("what was seen is acknowledged now and then", async () => {
  const { client, room } = begun();
  room.join().catch(() => {});
  const socket = await connection(1);
  socket.open();
  socket.welcome();
  socket.take();
  for (let seq = 1; seq <= 70; seq++) {
    socket.says({ type: "event", seq, topic: "room", event: "said", payload: seq });
  }
  assert.deepEqual(socket.take(), [{ type: "ack", seen: 32 }, { type: "ack", seen: 64 }]);
  client.close();
});

test("presence is a list by key that follows the differences", async () => {
  const { client, room } = begun();
  const seen = [];
  room.onPresence((users) => seen.push(JSON.stringify([...users])));
  room.join().catch(() => {});
  const socket = await connection(1);
  socket.open();
  socket.welcome();
  let seq = 0;
  const event = (event, payload) => socket.says({ type: "event", seq: ++seq, topic: "room", event, payload });
  const one = (id, meta) => ({ id, meta });
  // Before the list, it says nothing.
  event("presence_diff", { joins: { z: [one(9, 0)] }, leaves: {} });
  event("presence_state", { a: [one(1, "x")] });
  event("presence_diff", { joins: { a: [one(2, "y")], b: [one(3, "z")] }, leaves: {} });
  event("presence_diff", { joins: { a: [one(1, "new")] }, leaves: {} });
  event("presence_diff", { joins: {}, leaves: { a: [one(2, "y")], b: [one(3, "z")] } });
  assert.deepEqual(seen, [
    '[["a",[{"id":1,"meta":"x"}]]]',
    '[["a",[{"id":1,"meta":"x"},{"id":2,"meta":"y"}]],["b",[{"id":3,"meta":"z"}]]]',
    '[["a",[{"id":2,"meta":"y"},{"id":1,"meta":"new"}]],["b",[{"id":3,"meta":"z"}]]]',
    '[["a",[{"id":1,"meta":"new"}]]]',
  ]);
  client.close();
});

test("tries to connect come later each time, and not all at once", async (t) => {
  const { client, room } = begun();
  t.mock.timers.enable({ apis: ["setTimeout"] });
  room.join().catch(() => {});
  let most = 250;
  for (let tries = 1; tries <= 8; tries++) {
    Fake.all.at(-1).onclose({});
    t.mock.timers.tick(most / 2 - 1);
    assert.equal(Fake.all.length, tries, "not before half of the time");
    t.mock.timers.tick(most / 2 + 1);
    assert.equal(Fake.all.length, tries + 1, "not after all of it");
    most = Math.min(most * 2, 10_000);
  }
  client.close();
});

test("what is asked for when the connection is open comes after what was asked for before", async () => {
  const { client, room } = begun();
  let opened = 0;
  client.onState((state) => {
    if (state === "open") room.push("opened", ++opened).catch(() => {});
  });
  client.onLost(() => room.push("lost").catch(() => {}));
  room.join().catch(() => {});
  const first = await connection(1);
  first.open();
  first.welcome();
  const refs = (socket) => socket.take().filter(({ ref }) => ref).map(({ type, ref, event }) => [ref, event ?? type]);
  assert.deepEqual(refs(first), [[1, "join"], [2, "opened"]]);
  first.onclose({});
  room.push("waits").catch(() => {});
  const second = await connection(2);
  second.open();
  second.welcome({ resumed: true, received: 1 });
  assert.deepEqual(refs(second), [[2, "opened"], [3, "waits"], [4, "opened"]]);
  second.onclose({});
  const third = await connection(3);
  third.open();
  third.welcome({ reason: "missed" });
  assert.deepEqual(refs(third), [[5, "join"], [6, "opened"], [7, "lost"]]);
  client.close();
});

test("a request that is too large or cannot be JSON is rejected, and does not keep others", async () => {
  const { client, room } = begun();
  room.join().catch(() => {});
  const cycle = {};
  cycle.it = cycle;
  await assert.rejects(room.push("say", cycle), { kind: "invalid" });
  await assert.rejects(room.push("say", 1n), { kind: "invalid" });
  const changes = { text: "before" };
  room.push("say", changes).catch(() => {});
  changes.text = "after";
  const first = await connection(1);
  first.open();
  first.take();
  first.welcome();
  assert.deepEqual(first.take().slice(1).map(({ ref, payload }) => [ref, payload]), [[2, { text: "before" }]]);
  const large = assert.rejects(room.push("say", "x".repeat(1000)), { kind: "too-large" });
  const small = room.push("say", "small");
  first.take();
  first.onclose({ code: 1009 });
  const never = room.push("say", "x".repeat(2000));
  never.catch(() => {});
  const second = await connection(2);
  second.open();
  second.take();
  second.welcome({ resumed: true, received: 2 });
  await large;
  // One that was not sent yet may not be too large.
  assert.deepEqual(second.take().map(({ ref }) => ref), [4, 5]);
  second.says({ type: "reply", seq: 1, ref: 4, ok: "done" });
  assert.equal(await small, "done");
  client.close();
});

test("what has waited too long is not sent later", async () => {
  const { client, room } = begun();
  room.join().catch(() => {});
  await assert.rejects(room.push("say", "never sent", { within: 1 }), { kind: "timeout" });
  const first = await connection(1);
  first.open();
  first.take();
  first.welcome();
  const sent = [room.push("say", "received", { within: 1 }), room.push("say", "not received", { within: 1 })];
  await Promise.all(sent.map((push) => assert.rejects(push, { kind: "timeout" })));
  assert.deepEqual(first.take().map(({ ref }) => ref), [1, 3, 4]);
  first.onclose({});
  const second = await connection(2);
  second.open();
  second.take();
  second.welcome({ resumed: true, received: 3 });
  assert.deepEqual(second.take(), []);
  client.close();
});

test("a join that is asked for twice is one, and one that is refused as it is joined changes nothing", async () => {
  const { client, room } = begun();
  const joined = room.join();
  assert.equal(room.join(), joined);
  const first = await connection(1);
  first.open();
  first.welcome();
  first.says({ type: "reply", seq: 1, ref: 1, ok: 1 });
  await joined;
  const twice = room.join();
  first.says({ type: "reply", seq: 2, ref: 2, error: "it has been joined already" });
  await assert.rejects(twice, { kind: "refused" });
  const lost = new Promise((resolve) => client.onLost(() => resolve(room.join())));
  first.onclose({});
  const second = await connection(2);
  second.open();
  second.welcome({ reason: "unknown" });
  const joins = second.take().filter(({ type }) => type === "join");
  assert.deepEqual(joins.map(({ ref }) => ref), [3]);
  second.says({ type: "reply", seq: 1, ref: 3, ok: 3 });
  assert.equal(await lost, 3);
  // Who leaves meanwhile does not join by what was asked for before.
  room.leave().catch(() => {});
  room.join({ name: "b" }).catch(() => {});
  assert.deepEqual(second.take().map(({ type }) => type), ["leave", "join"]);
  client.close();
});

test("a join without a reply in time is taken back, so that the next one is not refused", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { client, room } = begun();
  const late = room.join();
  const [socket] = Fake.all;
  socket.open();
  socket.welcome();
  t.mock.timers.tick(20_000);
  socket.says({ type: "pong" });
  socket.take();
  t.mock.timers.tick(10_000);
  await assert.rejects(late, { kind: "timeout" });
  const joined = room.join();
  assert.deepEqual(socket.take().map(({ ref, type }) => [ref, type]), [[2, "leave"], [3, "join"]]);
  socket.says({ type: "reply", seq: 1, ref: 1, ok: "late" });
  socket.says({ type: "reply", seq: 2, ref: 2, ok: null });
  socket.says({ type: "reply", seq: 3, ref: 3, ok: "joined" });
  assert.equal(await joined, "joined");
  // A join of one who has joined does not put it out.
  const twice = room.join();
  t.mock.timers.tick(20_000);
  socket.says({ type: "pong" });
  t.mock.timers.tick(10_000);
  await assert.rejects(twice, { kind: "timeout" });
  assert.ok(!socket.take().some(({ type }) => type === "leave"));
  client.close();
});

test("a client that is closed by who listens stays closed, and one that cannot connect tries again", async (t) => {
  for (const closing of ["connecting", "open", "waiting"]) {
    const { client, room } = begun();
    client.onState((state) => state === closing && client.close());
    room.join().catch(() => {});
    if (closing !== "connecting") {
      Fake.all[0].open();
      Fake.all[0].welcome();
    }
    if (closing === "waiting") Fake.all[0].onclose({});
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(client.state, "closed");
    assert.equal(Fake.all.length, closing === "connecting" ? 0 : 1, closing);
  }
  t.mock.method(console, "error", () => {});
  let tries = 0;
  class Throws {
    constructor() {
      tries++;
      throw new SyntaxError("not now");
    }
  }
  const client = new Client("/live", { WebSocket: Throws, base: "https://example.com" });
  client.connect();
  assert.equal(client.state, "waiting");
  while (tries < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  client.close();
});

test("a connection that is lost soon after the welcome is tried again later each time", (t) => {
  const { client, room } = begun();
  t.mock.timers.enable({ apis: ["setTimeout"] });
  room.join().catch(() => {});
  for (const most of [250, 500, 1000]) {
    const count = Fake.all.length;
    Fake.all.at(-1).open();
    Fake.all.at(-1).welcome({ resumed: count > 1 });
    t.mock.timers.tick(5_000);
    Fake.all.at(-1).onclose({});
    t.mock.timers.tick(most / 2 - 1);
    assert.equal(Fake.all.length, count, `not before half of ${most} ms`);
    t.mock.timers.tick(most / 2 + 1);
    assert.equal(Fake.all.length, count + 1);
  }
  Fake.all.at(-1).open();
  Fake.all.at(-1).welcome({ resumed: true });
  t.mock.timers.tick(10_000);
  Fake.all.at(-1).onclose({});
  t.mock.timers.tick(250);
  assert.equal(Fake.all.length, 5, "the connection stood for a while");
  client.close();
});

test("against a node", { skip: !process.env.EXUVIA_URL && "no EXUVIA_URL" }, async () => {
  const url = process.env.EXUVIA_URL;
  const sockets = [];
  class Cut extends WebSocket {
    constructor(url) {
      super(url);
      sockets.push(this);
    }
  }
  const person = (name) => ({ user: name, name, hue: 1 });
  const anna = new Client(url);
  const ben = new Client(url, { WebSocket: Cut });
  const [annas, bens] = [anna, ben].map((client) => client.channel("room:lobby"));
  const heard = [];
  bens.on("said", ({ text }) => heard.push(text));
  const users = new Promise((resolve) => annas.onPresence((users) => users.size === 2 && resolve(users)));
  await annas.join(person("anna"));
  await bens.join(person("ben"));
  assert.deepEqual([...(await users).keys()], ["anna", "ben"]);
  await assert.rejects(bens.push("say", " "), { kind: "refused" });
  // More than the `body` of the listener.
  await assert.rejects(annas.push("say", "x".repeat(1024 * 1024)), { kind: "too-large" });
  for (let n = 0; n < 50; n++) {
    // The code of an accident.
    if (n % 10 === 5) sockets.at(-1).close(4999);
    await annas.push("say", String(n));
  }
  while (heard.length < 50) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(heard, Array.from({ length: 50 }, (_, n) => String(n)));
  assert.ok(sockets.length > 1, "it was cut");
  const gone = new Promise((resolve) => annas.onPresence((users) => users.size === 1 && resolve()));
  ben.close();
  await gone;
  anna.close();
});
