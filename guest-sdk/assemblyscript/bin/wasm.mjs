// Sections of a module: what asc cannot be told is a custom section, and that no memory is left as dead stack.

const GLOBAL = 6;
const EXPORT = 7;
const KIND_OF_GLOBAL = 3;
// The type i32, mutable, with the value 0.
const ZERO = Buffer.of(0x7f, 0x01, 0x41, 0x00, 0x0b);

export const unsigned = (value) => {
  const bytes = [];
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>>= 7;
  } while (value);
  return Buffer.from(bytes);
};

export function readUnsigned(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (!(byte & 0x80)) return [value, at];
  }
}

/** All sections: the id, and where the contents begin and end. */
export function sections(module) {
  const found = [];
  for (let at = 8; at < module.length; ) {
    const [length, start] = readUnsigned(module, at + 1);
    found.push([module[at], start, start + length]);
    at = start + length;
  }
  return found;
}

const section = (id, body) => Buffer.concat([Buffer.of(id), unsigned(body.length), body]);
const name = (text) => Buffer.concat([unsigned(Buffer.byteLength(text)), Buffer.from(text)]);

/** Appends a custom section. */
export const withSection = (module, of, body) => Buffer.concat([module, section(0, Buffer.concat([name(of), body]))]);

/**
 * Exports a global `__stack_pointer` that is 0: below it there is nothing, so nothing is dead when
 * `run` has returned. The shadow stack lies above the data, where the SDK's runtime clears it.
 */
export function withoutDeadStack(module) {
  const parts = [module.subarray(0, 8)];
  let index = 0;
  for (let at = 8; at < module.length; ) {
    const id = module[at];
    const [length, start] = readUnsigned(module, at + 1);
    const end = start + length;
    if (id === GLOBAL || id === EXPORT) {
      const [count, rest] = readUnsigned(module, start);
      if (id === GLOBAL) index = count;
      const added = id === GLOBAL ? ZERO : Buffer.concat([name("__stack_pointer"), Buffer.of(KIND_OF_GLOBAL), unsigned(index)]);
      parts.push(section(id, Buffer.concat([unsigned(count + 1), module.subarray(rest, end), added])));
    } else parts.push(module.subarray(at, end));
    at = end;
  }
  return Buffer.concat(parts);
}
