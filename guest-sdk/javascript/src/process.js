// Processes: messages, requests, timers, relations, names and groups.

import { ACCESS, CODE, INFO, KIND, LOG, OPTIONS, PRIORITY, RECEIVE, SPAWN, TAG } from "./constants.js";
import { HostError, engine, must, reasonInHand, settle, target } from "./host.js";
import { inspect } from "./inspect.js";
import { selections, waits } from "./actor.js";

export const self = () => engine.self();

export function send(to, message, { tag = 0 } = {}) {
  must("send", engine.send(target("send", to), message, tag, false));
}

export function sendBytes(to, bytes, { tag = 0 } = {}) {
  must("send", engine.send(target("send", to), bytes, tag, true));
}

export function sendAfter(to, delayMs, message, { tag = 0 } = {}) {
  return must("sendAfter", engine.sendAfter(target("sendAfter", to), message, tag, false, Math.ceil(delayMs)));
}

export function cancelTimer(reference) {
  const left = engine.cancelTimer(reference);
  return left < 0 ? undefined : left;
}

const FOREVER = Infinity;
const DEFAULT_TIMEOUT_MS = 5000;
const timeoutOf = (timeoutMs) => (timeoutMs === FOREVER ? -1 : Math.ceil(timeoutMs));

/** Calls `over` after a time, unless it is forbidden first; the process waits without a stack. */
function after(timeoutMs, over) {
  if (timeoutMs === FOREVER) return () => {};
  const timer = must("a timer", engine.sendAfter(engine.self(), "", TAG.AWAITED, true, Math.ceil(timeoutMs)));
  waits.set(timer, over);
  return () => {
    if (waits.delete(timer)) engine.cancelTimer(timer);
  };
}

export function call(to, message, { timeoutMs = DEFAULT_TIMEOUT_MS, tag = 0, raw = false } = {}) {
  return new Promise((resolve, reject) => {
    const reference = must("call", engine.request(target("call", to), message, tag, raw));
    const forbid = after(timeoutMs, () => {
      waits.delete(reference);
      engine.demonitor(reference);
      reject(new HostError("call", CODE.TIMEOUT));
    });
    waits.set(reference, (kind) => {
      forbid();
      settle("call", kind, resolve, reject);
    });
  });
}

export function callSync(to, message, { timeoutMs = DEFAULT_TIMEOUT_MS, tag = 0, raw = false } = {}) {
  const kind = engine.call(target("call", to), message, tag, raw, timeoutOf(timeoutMs));
  if (kind === CODE.NOPROC) throw new HostError("call", kind, reasonInHand());
  must("call", kind);
  let result;
  settle("call", kind, (value) => (result = value), (error) => {
    throw error;
  });
  engine.forget();
  return result;
}

export function request(to, message, { tag = 0 } = {}) {
  return must("request", engine.request(target("request", to), message, tag, false));
}

export function sleep(ms) {
  return new Promise((resolve) => after(ms, () => resolve(undefined)));
}

export function sleepSync(ms) {
  must("sleep", engine.sleep(Math.ceil(ms)));
}

/** What is received, apart from its kind: the payload as a value, as bytes where it is none. */
function received(kind) {
  const message = { kind: kindNames.get(kind) ?? kind, from: engine.sender(), tag: engine.tag() };
  if (kind !== KIND.MESSAGE) message.reference = engine.reference();
  if (kind === KIND.EXIT || kind === KIND.DOWN) message.reason = reasonInHand();
  else {
    message.bytes = engine.bytes();
    Object.defineProperty(message, "value", { get: () => (message.bytes.length ? decode(message.bytes) : undefined) });
  }
  engine.forget();
  return message;
}
const kindNames = new Map(Object.entries(KIND).map(([name, value]) => [value, name]));

function selection({ tag, from, reference }) {
  if (tag !== undefined) return [RECEIVE.TAG, tag];
  if (from !== undefined) return [RECEIVE.SENDER, from];
  if (reference !== undefined) return [RECEIVE.REFERENCES, [reference]];
  throw new TypeError("receive: say which: `tag`, `from` or `reference`");
}

export function receive(which) {
  const [mode, key] = selection(which);
  return new Promise((resolve) => {
    const one = { mode, key };
    const forbid = after(which.timeoutMs ?? FOREVER, () => {
      selections.splice(selections.indexOf(one), 1);
      resolve(undefined);
    });
    one.take = (kind) => {
      forbid();
      resolve(received(kind));
    };
    selections.push(one);
  });
}

export function receiveSync(which) {
  const [mode, key] = selection(which);
  const kind = engine.receive(timeoutOf(which.timeoutMs ?? FOREVER), mode, key);
  if (kind === CODE.TIMEOUT || kind === CODE.EMPTY) return undefined;
  must("receive", kind);
  return received(kind);
}

export function spawn(module = "", args = undefined, options = {}) {
  const { link = false, monitor = false, sync = false, limits = {}, grants } = options;
  const bytes = new Uint8Array(OPTIONS.SIZE);
  const view = new DataView(bytes.buffer);
  const u32 = (offset, value = 0) => view.setUint32(offset, value, true);
  const u64 = (offset, value = 0) => view.setBigUint64(offset, BigInt(value), true);
  u32(0, OPTIONS.SIZE);
  u32(OPTIONS.FLAGS, (link ? SPAWN.LINK : 0) | (monitor ? SPAWN.MONITOR : 0) | (sync ? SPAWN.SYNC : 0));
  u64(OPTIONS.MEMORY, limits.memory);
  u64(OPTIONS.MAILBOX_BYTES, limits.mailboxBytes);
  u32(OPTIONS.MAILBOX_MESSAGES, limits.mailboxMessages);
  u32(OPTIONS.MESSAGE_BYTES, limits.messageBytes);
  u32(OPTIONS.CHILDREN, limits.children);
  u32(OPTIONS.START_TIMEOUT, options.startTimeoutMs);
  u64(OPTIONS.TABLES, limits.tableBytes);
  u32(OPTIONS.PRIORITY, limits.priority);
  u32(OPTIONS.FILES, limits.files);
  u32(OPTIONS.DESCENDANTS, limits.descendants);
  const [pid, reference] = must("spawn", engine.spawn(module, args, bytes, grants ? encode(grants) : ""));
  return monitor ? { pid, reference } : { pid };
}

export const startSupervisor = (specification) => must("startSupervisor", engine.startSupervisor(specification));

export function exit(code = 0, text = "") {
  engine.exit(code, String(text));
}

export function exitProcess(pid, code, text = "") {
  must("exitProcess", engine.exitProcess(target("exitProcess", pid), code, String(text)));
}

export const kill = (pid) => void must("kill", engine.kill(target("kill", pid)));
export const link = (pid) => void must("link", engine.link(target("link", pid)));
export const unlink = (pid) => void must("unlink", engine.unlink(target("unlink", pid)));
export const demonitor = (reference) => void must("demonitor", engine.demonitor(reference));
export const trapExit = (on = true) => must("trapExit", engine.trapExit(on)) === 1;

export function monitor(to) {
  if (typeof to === "string") return must("monitor", engine.monitorName(to))[1];
  return must("monitor", engine.monitor(to));
}

export function setPriority(priority) {
  const before = must("setPriority", engine.setPriority(PRIORITY[priority.toUpperCase()] ?? 0));
  return Object.keys(PRIORITY).find((name) => PRIORITY[name] === before).toLowerCase();
}

export const register = (name, pid = self()) => void must("register", engine.register(name, pid));
export const unregister = (name) => void must("unregister", engine.unregister(name));
export function whereis(name) {
  const pid = engine.whereis(name);
  return pid === CODE.NOPROC ? undefined : must("whereis", pid);
}

export const groups = {
  join: (group, pid = self()) => void must("groups.join", engine.groupJoin(group, pid)),
  leave: (group, pid = self()) => void must("groups.leave", engine.groupLeave(group, pid)),
  members: (group) => must("groups.members", engine.groupMembers(group)),
  publish: (group, message, { tag = 0 } = {}) => must("groups.publish", engine.publish(group, message, tag, false)),
};

const level = (number) => (...values) => void engine.log(number, values.map((value) => inspect(value)).join(" "));
export const log = { error: level(LOG.ERROR), warn: level(LOG.WARN), info: level(LOG.INFO), debug: level(LOG.DEBUG) };

/** What the host has fetched as a value; undefined if there was nothing. */
const valueOf = (bytes) => (bytes === undefined ? undefined : decode(bytes));

export const config = (key = "") => valueOf(must("config", engine.config(key)));

export const info = () =>
  Object.fromEntries(
    Object.entries(INFO)
      .map(([name, what]) => [name.toLowerCase().replace(/_(.)/g, (_, letter) => letter.toUpperCase()), engine.info(what)])
      .filter(([, value]) => value >= 0),
  );

export const env = (name) => engine.env(name);

export const encode = (value) => engine.encode(value);
export function decode(bytes) {
  return engine.decode(bytes, false);
}

const keyOf = (key) => (typeof key === "string" || key instanceof Uint8Array ? key : encode(key));

export class Table {
  constructor(number) {
    this.number = number;
  }
  static create(name = "", access = "protected") {
    return new Table(must("Table.create", engine.tableNew(name, ACCESS[access.toUpperCase()] ?? -1)));
  }
  static find(name) {
    const number = engine.tableFind(name);
    return number === CODE.NOPROC ? undefined : new Table(must("Table.find", number));
  }
  get(key) {
    return valueOf(must("Table.get", engine.tableGet(this.number, keyOf(key))));
  }
  put(key, value) {
    return must("Table.put", engine.tablePut(this.number, keyOf(key), encode(value), 0)) === 1;
  }
  insert(key, value) {
    return must("Table.insert", engine.tablePut(this.number, keyOf(key), encode(value), 1)) === 0;
  }
  delete(key) {
    return must("Table.delete", engine.tableDelete(this.number, keyOf(key))) === 1;
  }
  add(key, amount = 1n) {
    return must("Table.add", engine.tableAdd(this.number, keyOf(key), BigInt(amount)));
  }
  *keys() {
    for (let key = ""; (key = must("Table.keys", engine.tableNext(this.number, key))) !== undefined; ) yield key;
  }
  get size() {
    return must("Table.size", engine.tableInfo(this.number, 0));
  }
  get bytes() {
    return must("Table.bytes", engine.tableInfo(this.number, 1));
  }
  setHeir(pid, tag = 0) {
    must("Table.setHeir", engine.tableHeir(this.number, pid, tag));
  }
  give(pid, tag = 0) {
    must("Table.give", engine.tableGive(this.number, pid, tag));
  }
  end() {
    must("Table.end", engine.tableEnd(this.number));
  }
}

const HOW = { r: 0, w: 1, a: 2, "r+": 3 };
const PART = 65536;

export class File {
  constructor(path, mode = "r") {
    if (!Object.hasOwn(HOW, mode)) throw new TypeError(`File: the mode is r, w, a or r+, not ${mode}`);
    this.fd = engine.open(path, HOW[mode]);
  }
  read(most = PART) {
    return engine.read(this.fd, most);
  }
  write(data) {
    engine.write(this.fd, data);
  }
  seek(position) {
    engine.seek(this.fd, position);
  }
  get size() {
    return engine.fileSize(this.fd);
  }
  close() {
    engine.close(this.fd);
  }
}

function whole(file) {
  const parts = [];
  let length = 0;
  for (let part; (part = file.read()).length; length += part.length) parts.push(part);
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function readFile(path) {
  const file = new File(path);
  try {
    return whole(file);
  } finally {
    file.close();
  }
}

export const readTextFile = (path) => engine.fromUtf8(readFile(path));

export function writeFile(path, data) {
  const file = new File(path, "w");
  try {
    file.write(data);
  } finally {
    file.close();
  }
}
