// What scripts expect of any engine and QuickJS does not bring.

import { LOG, TAG } from "./constants.js";
import { engine, must } from "./host.js";
import { inspect } from "./inspect.js";
import { waits } from "./actor.js";

const line = (level) => (...values) => {
  engine.log(level, values.map((value) => inspect(value)).join(" "));
};

class TextEncoder {
  get encoding() {
    return "utf-8";
  }
  encode(text = "") {
    return engine.utf8(String(text));
  }
}

class TextDecoder {
  constructor(label = "utf-8") {
    if (!/^utf-?8$/i.test(label)) throw new RangeError(`TextDecoder: only utf-8, not ${label}`);
  }
  get encoding() {
    return "utf-8";
  }
  decode(bytes = new Uint8Array()) {
    return engine.fromUtf8(ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : bytes);
  }
}

const timers = new Map();
let lastTimer = 0;

function setTimeout(callback, delay = 0, ...values) {
  const reference = must("setTimeout", engine.sendAfter(engine.self(), "", TAG.AWAITED, true, Math.max(0, Math.floor(delay) || 0)));
  const id = ++lastTimer;
  timers.set(id, reference);
  waits.set(reference, () => {
    timers.delete(id);
    callback(...values);
  });
  return id;
}

function clearTimeout(id) {
  const reference = timers.get(id);
  if (reference === undefined) return;
  timers.delete(id);
  waits.delete(reference);
  engine.cancelTimer(reference);
}

const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const crypto = {
  getRandomValues(array) {
    if (!ArrayBuffer.isView(array)) throw new TypeError("getRandomValues: expected a typed array");
    engine.randomInto(array);
    return array;
  },
  randomUUID() {
    const bytes = engine.randomInto(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const text = hex(bytes);
    return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-");
  },
};

if (engine) {
  Math.random = engine.random;
  Object.assign(globalThis, {
    TextEncoder,
    TextDecoder,
    setTimeout,
    clearTimeout,
    crypto,
    console: {
      error: line(LOG.ERROR),
      warn: line(LOG.WARN),
      info: line(LOG.INFO),
      log: line(LOG.INFO),
      debug: line(LOG.DEBUG),
      assert: (condition, ...values) => condition || line(LOG.ERROR)("assertion failed:", ...values),
    },
  });
}
