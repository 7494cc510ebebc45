// For tests in Node: an actor's module with a host that is a few maps. A process is an instance,
// a message is a call of `run`.

import { readFileSync } from "node:fs";
import * as constants from "./constants.js";

const { CODE, INFO, KIND, RECEIVE, RUN } = constants;
const HEADER = 48;
const EBADF = 8;

/** Functions for all imports of a module; those that `given` does not have answer 0. */
export function stubs({ log = () => {}, print = () => {}, calls = {} } = {}) {
  let exports;
  const bytes = (at, length) => new Uint8Array(exports.memory.buffer, at, length).slice();
  const view = () => new DataView(exports.memory.buffer);
  const text = (at, length) => new TextDecoder().decode(bytes(at, length));
  const wasi = {
    clock_time_get: (id, precision, out) => (view().setBigUint64(out, 0n, true), 0),
    random_get: (at, length) => (new Uint8Array(exports.memory.buffer, at, length).fill(0), 0),
    environ_sizes_get: (count, size) => (view().setUint32(count, 0, true), view().setUint32(size, 0, true), 0),
    fd_prestat_get: () => EBADF,
    fd_write(fd, parts, count, written) {
      let all = "";
      let length = 0;
      for (let i = 0; i < count; i++) {
        const size = view().getUint32(parts + 8 * i + 4, true);
        all += text(view().getUint32(parts + 8 * i, true), size);
        length += size;
      }
      print(all);
      view().setUint32(written, length, true);
      return 0;
    },
    proc_exit(code) {
      throw new Error(`proc_exit(${code})`);
    },
  };
  const host = {
    log: (level, at, length) => (log(level, text(at, length)), 0),
    discard: (at, length) => (new Uint8Array(exports.memory.buffer, at, length).fill(0), 0),
    ...calls,
  };
  const of = { wasi_snapshot_preview1: wasi, exuvia: host, "exuvia.optional": host };
  return {
    bytes,
    view,
    text,
    use: (instance) => (exports = instance.exports),
    imports(module) {
      const imports = {};
      for (const { module: from, name } of WebAssembly.Module.imports(module))
        (imports[from] ??= {})[name] = of[from]?.[name] ?? (() => (from.startsWith("wasi") ? EBADF : 0));
      return imports;
    },
  };
}

class Ended extends Error {}

/** A process of a module, alone: what it sends is kept, and what it is sent is handled at once. */
export class TestProcess {
  /** `module` is a file or bytes. */
  constructor(module) {
    const bytes = typeof module === "string" ? readFileSync(module) : module;
    this.mailbox = [];
    this.sent = [];
    this.replies = [];
    this.logged = [];
    this.printed = "";
    this.names = new Map();
    this.ended = undefined;
    this.lastReference = 0n;
    this.state = undefined;
    const host = this.#host();
    const kit = stubs({
      log: (level, text) => this.logged.push({ level, text }),
      print: (text) => (this.printed += text),
      calls: host,
    });
    this.kit = kit;
    const compiled = new WebAssembly.Module(bytes);
    this.instance = new WebAssembly.Instance(compiled, kit.imports(compiled));
    kit.use(this.instance);
    this.exports = this.instance.exports;
    this.exports._initialize?.();
    this.exports.warm_up?.();
  }

  get pid() {
    return new Uint8Array(16).fill(1);
  }

  /** Delivers a message and runs until the process has nothing to do. Returns what `run` returned. */
  deliver({ kind = KIND.MESSAGE, from = new Uint8Array(16), reference = 0n, tag = 0, payload = new Uint8Array(), reason = 0 }) {
    this.mailbox.push({ kind, from, reference, tag, payload, reason });
    return this.run();
  }

  run() {
    let result;
    try {
      do result = this.exports.run();
      while (this.mailbox.length && result === RUN.REST);
    } catch (error) {
      if (!(error instanceof Ended)) throw error;
      return RUN.DONE;
    }
    return result;
  }

  /** Delivers a request and returns its reply, `{ tag, payload }`, if it has come. */
  request(payload, { tag = 0, from = new Uint8Array(16).fill(9) } = {}) {
    const reference = ++this.lastReference;
    this.deliver({ kind: KIND.REQUEST, from, reference, tag, payload });
    return this.replies.find((reply) => reply.reference === reference);
  }

  /** What `save` puts; throws if it refuses. */
  save() {
    this.state = undefined;
    const code = this.exports.save();
    if (code) throw new Error(`save refused with ${code}: ${this.logged.at(-1)?.text}`);
    return this.state;
  }

  /** 0, or what `load` refuses with. */
  load(schema, state) {
    this.state = state;
    return this.exports.load(schema, state.length);
  }

  #take(header, buffer, capacity, mode, key) {
    const { kit } = this;
    const base = mode & 0xff;
    const references = () => {
      const at = Number(key & 0xffffffffn);
      return Array.from({ length: Number(key >> 32n) }, (_, i) => kit.view().getBigInt64(at + 8 * i, true));
    };
    const fits = (message) =>
      base === RECEIVE.ANY ||
      (base === RECEIVE.TAG && message.kind !== KIND.EXIT && message.kind !== KIND.DOWN && BigInt(message.tag) === (key & 0xffffffffn)) ||
      (base === RECEIVE.REFERENCE && message.reference === key) ||
      (base === RECEIVE.REFERENCES && references().includes(message.reference)) ||
      (base === RECEIVE.SENDER && message.from.every((byte, i) => byte === kit.bytes(Number(key), 16)[i]));
    const at = this.mailbox.findIndex(fits);
    if (at < 0) return CODE.EMPTY;
    const message = this.mailbox[at];
    const view = kit.view();
    view.setUint32(header, HEADER, true);
    view.setUint32(header + 4, message.kind, true);
    new Uint8Array(view.buffer, header + 8, 16).set(message.from);
    view.setBigInt64(header + 24, message.reference, true);
    view.setUint32(header + 32, message.tag, true);
    view.setUint32(header + 36, message.payload.length, true);
    view.setInt32(header + 40, message.reason, true);
    if (message.payload.length > capacity && !(mode & RECEIVE.TRUNCATE)) return CODE.TOO_BIG;
    new Uint8Array(view.buffer, buffer, Math.min(capacity, message.payload.length)).set(message.payload.subarray(0, capacity));
    this.mailbox.splice(at, 1);
    return 0;
  }

  #host() {
    const reference = (out) => {
      if (out) this.kit.view().setBigInt64(out, ++this.lastReference, true);
      return 0;
    };
    const pid = (out, bytes) => (new Uint8Array(this.kit.view().buffer, out, 16).set(bytes), 0);
    const take = (at, length) => this.kit.bytes(at, length);
    const send = (call) => (to, tag, at, length, ...rest) => {
      const message = { call, to: take(to, 16), tag: tag >>> 0, payload: take(at, length) };
      if (call === "send_after") message.delay = rest[0];
      this.sent.push(message);
      reference(rest.at(-1));
      message.reference = this.lastReference;
      return 0;
    };
    return {
      receive: (header, buffer, capacity, timeout, mode, key) => this.#take(header, buffer, capacity, mode, key),
      send: (to, tag, at, length) => send("send")(to, tag, at, length, 0),
      request: send("request"),
      send_after: send("send_after"),
      reply: (to, ref, tag, at, length) => (this.replies.push({ to: take(to, 16), reference: ref, tag: tag >>> 0, payload: take(at, length) }), 0),
      init_ack: (status, at, length) => ((this.acknowledged ??= { status, text: this.kit.text(at, length) }), 0),
      exit: (code, at, length) => {
        this.ended = { code, text: this.kit.text(at, length) };
        throw new Ended();
      },
      self: (out) => pid(out, this.pid),
      register: (at, length, of) => (this.names.set(this.kit.text(at, length), take(of, 16)), 0),
      whereis: (at, length, out) => {
        const found = this.names.get(this.kit.text(at, length));
        return found ? pid(out, found) : CODE.NOPROC;
      },
      monitor: (of, out) => reference(out),
      cancel_timer: () => -1n,
      clock: () => 0n,
      info: (what) => (what === INFO.ABI_MINOR ? 1n : 0n),
      random: (at, length) => (crypto.getRandomValues(new Uint8Array(this.kit.view().buffer, at, length)), 0),
      state_put: (at, length) => ((this.state = take(at, length)), 0),
      state_get: (at, capacity) => {
        if (this.state.length <= capacity) new Uint8Array(this.kit.view().buffer, at, capacity).set(this.state);
        return this.state.length;
      },
      table_info: () => 0n,
    };
  }
}

export { constants };
