// What an actor is: its definition, and the steps that the engine makes with it.

import { CODE, KIND, LOG, RECEIVE, RUN, TAG } from "./constants.js";
import { Refusal, engine, must, reasonInHand } from "./host.js";
import { describe } from "./stack.js";
import { failText } from "./inspect.js";
import { check, describeShape, parametersOf, savedAs, takes } from "./shape.js";

let definition;
let state;
let stopping = false;
/** Handlers that have not ended: at most one, unless the actor is `concurrent`. */
let running = 0;

/** Who waits for the message with a reference, and for the first one that a selection takes. */
export const waits = new Map();
export const selections = [];

/** A key of its own in the table of handlers, also if it is called `constructor`. */
const own = (table, name) => (table && Object.hasOwn(table, name) ? table[name] : undefined);

export function actor(given) {
  if (definition) throw new Error("a script has one actor: `actor` was called twice");
  for (const [kind, table] of [["messages", given.messages], ["requests", given.requests]])
    for (const [name, handler] of Object.entries(table ?? {}))
      if (typeof handler !== "function") throw new TypeError(`actor: the handler of ${kind}.${name} is no function`);
  definition = given;
  const schema = given.schema ?? 0;
  if (!Number.isInteger(schema) || schema < 0) throw new TypeError("actor: `schema` is a whole number");
  // What is wrong with it is said at the script's top, with its place.
  if (given.state !== undefined) savedAs("state", given.state);
  engine.start({ schema, step, save, load, describe, warmUp, sections });
  return given;
}

// Until there is an actor, an error at the script's top is described all the same.
engine?.start({ describe });

export const stop = () => {
  stopping = true;
};

/** What was sent, as a name and parameters: a text, or a map with one key. */
function called(value) {
  if (typeof value === "string") return [value, {}];
  if (value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    const keys = Object.keys(value);
    if (keys.length === 1) return [keys[0], value[keys[0]] ?? {}];
  }
  return [undefined, value];
}

const warn = (text) => engine.log(LOG.WARN, text);

class Context {
  constructor(kind) {
    this.kind = kind;
    this.from = engine.sender();
    this.tag = engine.tag();
    if (kind !== KIND.MESSAGE) this.reference = engine.reference();
  }
  later() {
    this.isLater = true;
    return { from: this.from, reference: this.reference, tag: this.tag };
  }
}

function answer(context, value, tag = 0, raw = false) {
  const code = engine.reply(context.from, context.reference, value, tag, raw);
  if (code === CODE.MESSAGE_TOO_LARGE) refuse(context, "the reply is larger than the process may send");
  else must("reply", code);
}

export function reply(request, value) {
  must("reply", engine.reply(request.from, request.reference, value, 0, false));
}

export function refuse(request, why) {
  engine.reply(request.from, request.reference, String(why), TAG.REFUSED, true);
}

/** Calls a handler, and `done` with what it returned when it has ended, also if it is async. */
function perform(handler, context, parameters, done) {
  let result;
  try {
    result = handler.call(definition, state, parameters, context);
  } catch (error) {
    return failed(context, error);
  }
  if (!(result instanceof Promise)) return done(result);
  running++;
  result.then(
    (value) => {
      running--;
      done(value);
    },
    (error) => {
      running--;
      failed(context, error);
    },
  );
}

/** A refusal is told to who has asked. Everything else ends the process. */
function failed(context, error) {
  if (!(error instanceof Refusal)) throw error;
  if (context.kind === KIND.REQUEST) refuse(context, error.message);
  else warn(`a message was refused: ${error.message}`);
}

/**
 * What `read` makes of the payload, which is forgotten. Its error, that the payload does not fit or is
 * not what it should be, is for the sender: nobody may end a process by what it sends.
 */
function inHand(read) {
  const length = engine.length();
  try {
    return read();
  } catch (error) {
    // null is thrown if there is not even memory for an error.
    if (error !== null && !(error instanceof InternalError)) throw error;
    engine.log(LOG.ERROR, `dropped a message of ${length} bytes: the process has no memory for it`);
    throw new Error("the receiver has no memory for a message of this size");
  } finally {
    engine.forget();
  }
}

function handleMessage(kind) {
  const context = new Context(kind);
  if (context.tag !== 0 && !definition.message)
    return warn(`dropped a message with the tag ${context.tag}: the actor has no \`message\``);
  let value;
  try {
    value = inHand(context.tag === 0 ? engine.value : engine.bytes);
  } catch (error) {
    return warn(`dropped a message: ${error.message}`);
  }
  if (context.tag !== 0) return perform(definition.message, context, value, () => {});
  const [name, parameters] = called(value);
  const handler = own(definition.messages, name);
  if (handler) return perform(handler, context, parameters, () => {});
  if (definition.message) return perform(definition.message, context, value, () => {});
  warn(`dropped an unknown message: ${name ?? typeof value}`);
}

function handleRequest() {
  const context = new Context(KIND.REQUEST);
  const done = (value) => {
    if (!context.isLater) answer(context, value);
  };
  const isHttp = context.tag === TAG.HTTP_REQUEST && definition.http;
  if (context.tag !== 0 && !isHttp && !definition.request)
    return refuse(context, `no handler for requests with the tag ${context.tag}`);
  let value;
  try {
    value = inHand(isHttp ? httpRequest : context.tag === 0 ? engine.value : engine.bytes);
  } catch (error) {
    return refuse(context, error.message);
  }
  if (isHttp)
    return perform(definition.http, context, value, (response) => {
      if (!context.isLater) answer(context, httpResponse(response), TAG.HTTP_RESPONSE, true);
    });
  if (context.tag !== 0) return perform(definition.request, context, value, done);
  const [name, parameters] = called(value);
  const handler = own(definition.requests, name);
  if (handler) return perform(handler, context, parameters, done);
  if (definition.request) return perform(definition.request, context, value, done);
  refuse(context, `unknown request: ${name ?? typeof value}`);
}

const isHeader = (pair) => Array.isArray(pair) && (typeof pair[1] === "string" || pair[1] instanceof Uint8Array);

/** The payload as a request of HTTP: a head in MessagePack, and the body right behind it. */
function httpRequest() {
  const bytes = engine.bytes();
  const [head, used] = engine.decode(bytes, true);
  if (!Array.isArray(head?.headers) || !head.headers.every(isHeader)) throw new TypeError("not a request of HTTP: the head has no list of headers");
  return Object.assign(head, {
    body: bytes.subarray(used),
    header(name) {
      const found = head.headers.find(([key]) => key === name.toLowerCase());
      return found && (typeof found[1] === "string" ? found[1] : engine.fromUtf8(found[1]));
    },
    text() {
      return engine.fromUtf8(this.body);
    },
    json() {
      return JSON.parse(this.text());
    },
  });
}

export function httpResponse(response) {
  let { status = 200, headers = {}, body = "", json } =
    typeof response === "string" || response instanceof Uint8Array ? { body: response } : (response ?? { status: 204 });
  const pairs = Array.isArray(headers) ? [...headers] : Object.entries(headers);
  const has = (name) => pairs.some(([key]) => key.toLowerCase() === name);
  if (json !== undefined) {
    body = JSON.stringify(json);
    if (!has("content-type")) pairs.push(["content-type", "application/json"]);
  } else if (typeof body === "string" && body && !has("content-type")) {
    pairs.push(["content-type", "text/plain; charset=utf-8"]);
  }
  const head = engine.encode({ status, headers: pairs });
  const rest = typeof body === "string" ? engine.utf8(body) : body;
  const all = new Uint8Array(head.length + rest.length);
  all.set(head);
  all.set(rest, head.length);
  return all;
}

/** The start: an error in `init` is a failed start, with its text as the reason. */
function handleInit() {
  try {
    const args = engine.value();
    engine.forget();
    state = definition.init ? definition.init.call(definition, args ?? undefined) : {};
    if (state instanceof Promise) throw new TypeError("`init` cannot be async: send the process a message");
    if (state === null || typeof state !== "object") throw new TypeError("`init` returns the state, an object");
  } catch (error) {
    engine.initAck(256, failText(error));
    stopping = true;
    return;
  }
  engine.initAck(0, "");
}

function handle(kind) {
  switch (kind) {
    case KIND.INIT:
      return handleInit();
    case KIND.TIMER:
      if (engine.tag() === TAG.AWAITED) return; // of something that was over before
      return handleMessage(kind);
    case KIND.MESSAGE:
      return handleMessage(kind);
    case KIND.REQUEST:
      return handleRequest();
    case KIND.DOWN:
    case KIND.EXIT: {
      const context = new Context(kind);
      const name = kind === KIND.DOWN ? "down" : "exit";
      const event = { from: context.from, reference: context.reference, reason: reasonInHand() };
      if (definition[name]) return perform(definition[name], context, event, () => {});
      return;
    }
    case KIND.TABLE:
      if (definition.table) {
        const context = new Context(kind);
        return perform(definition.table, context, { from: context.from, table: context.reference, tag: context.tag }, () => {});
      }
      return;
    case KIND.REPLY:
      if (definition.reply) {
        if (engine.dropped()) return; // the engine has said so
        const context = new Context(kind);
        let value;
        try {
          value = inHand(context.tag === 0 ? engine.value : context.tag === TAG.REFUSED ? engine.text : engine.bytes);
        } catch (error) {
          return warn(`dropped a reply: ${error.message}`);
        }
        return perform(definition.reply, context, value, () => {});
      }
  }
}

/** Gives a message to who waits for its reference; false if nobody does. */
function settled(kind) {
  if (kind !== KIND.REPLY && kind !== KIND.DOWN && kind !== KIND.TIMER) return false;
  const reference = engine.reference();
  const wait = waits.get(reference);
  if (!wait) return false;
  waits.delete(reference);
  wait(kind);
  return true;
}

const MOST_REFERENCES = 64;

/** Takes a message that something waits for. */
function receiveAwaited() {
  for (let i = 0; i < selections.length; i++) {
    const { mode, key, take } = selections[i];
    const kind = engine.receive(0, mode, key);
    if (kind < 0) continue;
    selections.splice(i, 1);
    take(kind);
    return kind;
  }
  let some = [];
  for (const reference of waits.keys()) {
    some.push(reference);
    if (some.length < MOST_REFERENCES) continue;
    const kind = engine.receive(0, RECEIVE.REFERENCES, some);
    if (kind >= 0) return settled(kind), kind;
    some = [];
  }
  if (!some.length) return CODE.EMPTY;
  const kind = engine.receive(0, RECEIVE.REFERENCES, some);
  if (kind >= 0) settled(kind);
  return kind;
}

/** Handles one message: -1 to go on, else what `run` returns. */
function step() {
  if (stopping && !running) return RUN.DONE;
  const serial = running > 0 && !definition.concurrent;
  if (serial && !waits.size && !selections.length)
    throw new Error("an async handler waits for something that no message can complete: await calls, sleeps and receives");
  if (serial || selections.length) {
    const kind = receiveAwaited();
    if (kind >= 0) return -1;
    if (serial) return RUN.WAITING;
  }
  const kind = engine.receive(0, RECEIVE.ANY, 0);
  if (kind < 0) return waits.size || selections.length || running ? RUN.WAITING : RUN.REST;
  if (!settled(kind)) handle(kind);
  return -1;
}

function save() {
  return definition.save ? definition.save.call(definition, state) : state;
}

function load(schema, saved) {
  try {
    if (definition.load) state = definition.load.call(definition, saved, schema);
    else if (schema === (definition.schema ?? 0)) {
      // What other code has saved is not what this one says by having the same number.
      if (definition.state) check(definition.state, saved);
      state = saved;
    }
    else throw new Refusal(`the state has schema ${schema}, and the actor has no \`load\` for it`);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    engine.log(LOG.ERROR, error.message);
    return 1;
  }
  if (state === null || typeof state !== "object") throw new TypeError("`load` returns the state, an object");
  return 0;
}

/**
 * Does once what every process does, with an actor that nobody sees: what the engine makes when it
 * is first used is then in the base. Nothing is sent: the host would not allow it here.
 */
function warmUp() {
  const real = definition;
  const { reply: realReply, initAck: realAck } = engine;
  engine.reply = engine.initAck = () => 0;
  const shape = { by: "int", big: "bigint?", text: "text?", bytes: "binary?", list: ["any"], flag: "bool?" };
  const handler = takes(shape, (values, { by }) => void (values.by = by), {});
  definition = {
    init: (args) => ({ start: args.start, notes: [] }),
    messages: { WarmUp: handler, Async: async () => void (await null) },
    requests: { WarmUp: takes(shape, (values, { list }) => list), Get: (values) => values.by, No: () => { throw new Refusal("no"); } },
  };
  const full = { by: 1, big: 1n, text: "a", bytes: new Uint8Array(1), list: [1, "b", { c: null }], flag: true };
  for (let i = 0; i < 2; i++) {
    for (const [kind, message] of [
      [KIND.INIT, { start: 1 }],
      [KIND.MESSAGE, { WarmUp: full }],
      [KIND.MESSAGE, "Async"],
      [KIND.TIMER, { WarmUp: full }],
      [KIND.REQUEST, { WarmUp: full }],
      [KIND.REQUEST, "Get"],
      [KIND.REQUEST, "No"],
      [KIND.REQUEST, "Nothing"],
    ]) {
      engine.pretend(kind, engine.encode(message));
      if (!settled(kind)) handle(kind);
    }
  }
  engine.encode(save());
  waits.set(1n, () => {});
  waits.delete(1n);
  state = undefined;
  definition = real;
  engine.reply = realReply;
  engine.initAck = realAck;
}

/** The custom sections in which the actor describes itself: their texts by their names. */
function sections() {
  const all = { "exuvia.protocol": protocol(), "exuvia.state": stateContract() };
  return JSON.stringify(Object.fromEntries(Object.entries(all).filter(([, text]) => text)));
}

/** For `exuvia.state`: nothing if the actor does not say what its state is. */
function stateContract() {
  const { state: shape, schema = 0 } = definition;
  if (shape === undefined) return "";
  const loads = definition.load ? (definition.loads ?? "any") : [];
  return JSON.stringify({ schema, loads, type: savedAs("state", shape) });
}

/** For the custom section `exuvia.protocol`: a line of JSON for each function. */
function protocol() {
  const lines = [];
  const add = (message, handler, isRequest) => {
    const name = message.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
    const line = { name, message, parameters: handler.shape ? describeShape(handler.shape) : parametersOf(handler) };
    if (isRequest) line.reply = handler.returns ?? "any";
    if (handler.docs) line.docs = handler.docs;
    lines.push(JSON.stringify(line));
  };
  for (const [name, handler] of Object.entries(definition.messages ?? {})) add(name, handler, false);
  for (const [name, handler] of Object.entries(definition.requests ?? {})) add(name, handler, true);
  return lines.join("\n");
}
