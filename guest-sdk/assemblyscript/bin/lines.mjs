// Lines of source for backtraces. asc writes a source map; the host reads DWARF, as other compilers write it. So
// this writes what the map says as DWARF 4: one unit, whose table of lines has each place of the map.

import { sections, unsigned, withSection } from "./wasm.mjs";

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The places of a source map of a Wasm module, whose one "line" is the file: [offset, source, line, column], from 0. */
export function places(mappings) {
  const found = [];
  let [offset, source, line, column] = [0, 0, 0, 0];
  for (const segment of mappings.split(",")) {
    const numbers = [];
    let value = 0;
    let shift = 0;
    for (const digit of segment) {
      const bits = DIGITS.indexOf(digit);
      value |= (bits & 31) << shift;
      shift += 5;
      if (bits & 32) continue;
      numbers.push(value & 1 ? -(value >> 1) : value >> 1);
      value = shift = 0;
    }
    offset += numbers[0] ?? 0;
    if (numbers.length < 4) continue;
    source += numbers[1];
    line += numbers[2];
    column += numbers[3];
    found.push([offset, source, line, column]);
  }
  return found;
}

const signed = (value) => {
  const bytes = [];
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    const isLast = (value === 0 && !(low & 0x40)) || (value === -1 && low & 0x40);
    bytes.push(isLast ? low : low | 0x80);
    if (isLast) return Buffer.from(bytes);
  }
};
const u16 = (value) => Buffer.of(value & 255, value >> 8);
const u32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const text = (value) => Buffer.from(`${value}\0`);
/** A part of DWARF that begins with its length. */
const counted = (...parts) => {
  const body = Buffer.concat(parts);
  return Buffer.concat([u32(body.length), body]);
};

const VERSION = u16(4);
const OPCODES = 13; // the number of the first special one
const COPY = 1;
const ADVANCE_PC = 2;
const ADVANCE_LINE = 3;
const SET_FILE = 4;
const SET_COLUMN = 5;
const EXTENDED = 0;
const END_SEQUENCE = 1;
const SET_ADDRESS = 2;

/** `.debug_line`: the program that makes the table. Addresses count from the beginning of the code, `end` is its length. */
function program(sources, rows, end) {
  const header = Buffer.concat([
    // One byte an instruction and one instruction at a time, all are statements; special opcodes are not used.
    Buffer.of(1, 1, 1, 0xfb, 14, OPCODES),
    // How many operands each standard opcode has.
    Buffer.of(0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1),
    // No folders; files with the folder, time and size 0.
    Buffer.of(0),
    ...sources.map((source) => Buffer.concat([text(source), Buffer.of(0, 0, 0)])),
    Buffer.of(0),
  ]);
  const code = [Buffer.of(EXTENDED, 5, SET_ADDRESS), u32(0)];
  let [address, file, line] = [0, 1, 1];
  for (const [at, source, row, column] of rows) {
    code.push(Buffer.of(ADVANCE_PC), unsigned(at - address));
    if (source + 1 !== file) code.push(Buffer.of(SET_FILE), unsigned(source + 1));
    code.push(Buffer.of(ADVANCE_LINE), signed(row + 1 - line), Buffer.of(SET_COLUMN), unsigned(column + 1), Buffer.of(COPY));
    [address, file, line] = [at, source + 1, row + 1];
  }
  code.push(Buffer.of(ADVANCE_PC), unsigned(end - address), Buffer.of(EXTENDED, 1, END_SEQUENCE));
  return counted(VERSION, u32(header.length), header, ...code);
}

/** The one unit: an attribute, its form, and its value in `.debug_info`. */
const unit = (end) => [
  [0x10, 0x17, u32(0)], // DW_AT_stmt_list, sec_offset
  [0x11, 0x01, u32(0)], // DW_AT_low_pc, addr
  [0x12, 0x06, u32(end)], // DW_AT_high_pc, data4: how many bytes
];
const COMPILE_UNIT = 0x11;
const CODE = 10;

/** Appends the lines. `original` is the module that the map is of; its code is that of `module`, which may lie elsewhere. */
export function withLines(module, original, map) {
  const code = sections(original).find(([id]) => id === CODE);
  if (!code) return module;
  const [, start, end] = code;
  const rows = places(map.mappings).filter(([offset]) => offset >= start && offset < end);
  rows.sort(([a], [b]) => a - b);
  const relative = rows.map(([offset, ...place]) => [offset - start, ...place]);
  const attributes = unit(end - start);
  const kinds = attributes.map(([attribute, form]) => Buffer.of(attribute, form));
  // The one abbreviation: a unit without children.
  const abbreviations = Buffer.concat([Buffer.of(1, COMPILE_UNIT, 0), ...kinds, Buffer.of(0, 0, 0)]);
  const info = counted(VERSION, u32(0), Buffer.of(4), Buffer.of(1), ...attributes.map(([, , value]) => value));
  let result = withSection(module, ".debug_abbrev", abbreviations);
  result = withSection(result, ".debug_info", info);
  return withSection(result, ".debug_line", program(map.sources, relative, end - start));
}
