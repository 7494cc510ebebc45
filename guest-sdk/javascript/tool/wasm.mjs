// Puts a script into the engine: no compiler, a few sections of the module are written anew.

const CUSTOM = 0;
const MEMORY = 5;
const EXPORT = 7;
const DATA = 11;
const DATA_COUNT = 12;
const WASM_PAGE = 65536;
const ALIGNMENT = 16;

function unsigned(value) {
  const bytes = [];
  do {
    const low = value & 0x7f;
    value >>>= 7;
    bytes.push(value ? low | 0x80 : low);
  } while (value);
  return Uint8Array.from(bytes);
}

/** A signed number of 32 bits, as `i32.const` has it. */
function signed(value) {
  const bytes = [];
  value |= 0;
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    if ((value === 0 && !(low & 0x40)) || (value === -1 && low & 0x40)) return Uint8Array.from([...bytes, low]);
    bytes.push(low | 0x80);
  }
}

function readUnsigned(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (!(byte & 0x80)) return [value, at];
  }
}

const join = (...parts) => {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

function* sections(module) {
  for (let at = 8; at < module.length; ) {
    const id = module[at];
    const [length, start] = readUnsigned(module, at + 1);
    yield { id, body: module.subarray(start, start + length) };
    at = start + length;
  }
}

const section = (id, body) => join(Uint8Array.of(id), unsigned(body.length), body);

const custom = (name, body) => {
  const bytes = new TextEncoder().encode(name);
  return section(CUSTOM, join(unsigned(bytes.length), bytes, body));
};

/** An active segment: bytes that memory has at an address from the start. */
const segment = (address, bytes) =>
  join(Uint8Array.of(0, 0x41), signed(address), Uint8Array.of(0x0b), unsigned(bytes.length), bytes);

const NAMES_OF_FUNCTIONS = 1;
const NAMES_OF_GLOBALS = 7;
const KIND_OF_FUNCTION = 0;
const KIND_OF_GLOBAL = 3;

/** A section with the names of what is exported, for backtraces: the engine's own has none. */
function names(exported) {
  const encoder = new TextEncoder();
  const subsection = (id, kind) => {
    const entries = exported.filter((one) => one.kind === kind).sort((a, b) => a.index - b.index);
    const body = join(unsigned(entries.length), ...entries.flatMap(({ index, name }) => [unsigned(index), unsigned(name.length), encoder.encode(name)]));
    return join(Uint8Array.of(id), unsigned(body.length), body);
  };
  return custom("name", join(subsection(NAMES_OF_FUNCTIONS, KIND_OF_FUNCTION), subsection(NAMES_OF_GLOBALS, KIND_OF_GLOBAL)));
}

function readExports(body) {
  const exported = [];
  let [count, at] = readUnsigned(body, 0);
  for (; count; count--) {
    const [length, start] = readUnsigned(body, at);
    const name = new TextDecoder().decode(body.subarray(start, start + length));
    const kind = body[start + length];
    const [index, next] = readUnsigned(body, start + length + 1);
    if (!exported.some((one) => one.kind === kind && one.index === index)) exported.push({ name, kind, index });
    at = next;
  }
  return exported;
}

/**
 * Says where a script goes: behind the module's data, and its address and length into two words.
 *
 * `exports` are those of an instance of the engine. Returns bytes with their addresses, and how
 * many pages of memory they need.
 */
export function place(exports, script) {
  const text = join(new TextEncoder().encode(script), Uint8Array.of(0));
  const address = Math.ceil(exports.__heap_base.value / ALIGNMENT) * ALIGNMENT;
  const slot = new Uint8Array(8);
  new DataView(slot.buffer).setUint32(0, address, true);
  new DataView(slot.buffer).setUint32(4, text.length, true);
  return {
    parts: [[address, text], [exports.exuvia_script.value, slot]],
    pages: Math.ceil((address + text.length) / WASM_PAGE) + 1,
  };
}

/** Does in the memory of an instance what the segments of `inject` do. */
export function fill(memory, { parts, pages }) {
  const missing = pages - memory.buffer.byteLength / WASM_PAGE;
  if (missing > 0) memory.grow(missing);
  for (const [address, bytes] of parts) new Uint8Array(memory.buffer).set(bytes, address);
}

/**
 * Returns a module that is the engine with a script behind its data.
 *
 * `placed` is that of `place`, `customSections` are names and bytes.
 */
export function inject(engine, { parts: texts, pages }, customSections = []) {
  const added = texts.map(([address, bytes]) => segment(address, bytes));
  const parts = [engine.subarray(0, 8)];
  let hasData = false;
  let exported = [];
  for (const { id, body } of sections(engine)) {
    if (id === MEMORY) {
      const [flags, afterFlags] = readUnsigned(body, 1);
      const [least, rest] = readUnsigned(body, afterFlags);
      parts.push(section(MEMORY, join(Uint8Array.of(1), unsigned(flags), unsigned(Math.max(least, pages)), body.subarray(rest))));
    } else if (id === DATA_COUNT) {
      parts.push(section(DATA_COUNT, unsigned(readUnsigned(body, 0)[0] + added.length)));
    } else if (id === DATA) {
      const [count, rest] = readUnsigned(body, 0);
      parts.push(section(DATA, join(unsigned(count + added.length), body.subarray(rest), ...added)));
      hasData = true;
    } else parts.push(section(id, body));
    if (id === EXPORT) exported = readExports(body);
  }
  if (!hasData) throw new Error("the engine has no data");
  return join(...parts, names(exported), ...customSections.map(([name, bytes]) => custom(name, bytes)));
}
