// The engine's functions, and what all other files make of their answers.

import { CODE, KIND, REASON, TAG } from "./constants.js";

/** The functions of engine.c. Outside of a process there are none: see testing.mjs. */
export const engine = globalThis.exuviaEngine;

/** Names of numbers, for errors and reasons. */
const namesOf = (group) => new Map(Object.entries(group).map(([name, value]) => [value, name]));
const codes = namesOf(CODE);
const reasons = namesOf(REASON);

const meanings = {
  TIMEOUT: "the time is over",
  NOPROC: "there is no such process or name, or it has ended",
  LIMIT: "a limit of this process or of the node is reached",
  MESSAGE_TOO_LARGE: "the payload is larger than this process may send",
  MAILBOX_FULL: "the receiver's mailbox is full",
  NAME_TAKEN: "the name belongs to another process",
  NO_MODULE: "the release has no module of that name",
  START_FAILED: "the child ended before it had started",
  DENIED: "the process does not have the right",
};

export class HostError extends Error {
  constructor(call, code, reason) {
    const word = codes.get(code) ?? String(code);
    super(`${call}: ${word}${meanings[word] ? ` (${meanings[word]})` : ""}`);
    this.call = call;
    this.code = word;
    if (reason) this.reason = reason;
  }
}
HostError.prototype.name = "HostError";

export class Refused extends Error {}
Refused.prototype.name = "Refused";

export class Refusal extends Error {}
Refusal.prototype.name = "Refusal";

export class Extension {
  constructor(type, data) {
    this.type = type;
    this.data = data;
  }
}

export class Pid extends Uint8Array {
  // What is made of a pid, a part of it for example, is no pid.
  static get [Symbol.species]() {
    return Uint8Array;
  }
  equals(other) {
    for (let i = 0; i < 16; i++) if (this[i] !== other[i]) return false;
    return true;
  }
  get isNone() {
    return this.every((byte) => byte === 0);
  }
  toString() {
    let text = "";
    for (const byte of this) text += byte.toString(16).padStart(2, "0");
    return text;
  }
}
Pid.none = new Pid(16);

/** For the codec: the entries of a Map in one array, and the Map of such an array. */
function entriesOrMap(value) {
  if (value instanceof Map) return [...value].flat(1);
  const map = new Map();
  for (let i = 0; i < value.length; i += 2) map.set(value[i], value[i + 1]);
  return map;
}

engine?.codec(Extension, entriesOrMap, Pid.prototype);

/** Throws what the host answered if it is an error. */
export function must(call, answer) {
  if (typeof answer === "number" && answer < 0) throw new HostError(call, answer);
  return answer;
}

/** The process that a pid or a name stands for. */
export function target(call, to) {
  return typeof to === "string" ? must(`${call} to ${to}`, engine.whereis(to)) : to;
}

/** The reason of an EXIT or a DOWN in hand. */
export function reasonInHand() {
  const code = engine.reason();
  return { code, name: reasons.get(code) ?? "OTHER", text: engine.text(), fromRelease: engine.tag() === 1 };
}

/** What a REPLY or a DOWN in hand gives to who waits for it. */
export function settle(call, kind, resolve, reject) {
  if (kind === KIND.DOWN) return reject(new HostError(call, CODE.NOPROC, reasonInHand()));
  if (engine.dropped()) return reject(new HostError(call, CODE.TOO_BIG));
  const tag = engine.tag();
  try {
    if (tag === TAG.REFUSED) reject(new Refused(engine.text()));
    else resolve(tag === 0 ? engine.value() : engine.bytes());
  } catch (error) {
    reject(error);
  }
}
