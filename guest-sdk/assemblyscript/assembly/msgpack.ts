// MessagePack: a codec of its own, since as-msgpack does not compile with today's compiler, and
// traps where input is wrong. A decoder never traps: it keeps the first error, and answers with
// zeroes and empty texts from then on.

/** The pid of a process: 16 bytes, opaque. In a payload it is a binary. */
export class Pid {
  node: u64 = 0;
  process: u64 = 0;

  /** No process: the sender of what comes from outside the node. */
  static get none(): Pid { return new Pid(); }

  /** Copies the 16 bytes at an address. */
  static at(address: usize): Pid {
    const pid = new Pid();
    pid.node = load<u64>(address);
    pid.process = load<u64>(address, 8);
    return pid;
  }

  @operator("==") static equal(a: Pid, b: Pid): bool { return a.node == b.node && a.process == b.process; }
  @operator("!=") static unequal(a: Pid, b: Pid): bool { return !(a == b); }

  get isNone(): bool { return this.node == 0 && this.process == 0; }
  /** The address of the 16 bytes, for host calls. */
  get pointer(): usize { return changetype<usize>(this); }
}

/** Part of a payload as it was sent, without a copy. */
export class Slice {
  constructor(
    /** What it is part of. */
    readonly buffer: ArrayBuffer,
    readonly start: i32,
    readonly length: i32,
  ) {}
  // @ts-ignore: decorator
  @inline get pointer(): usize { return changetype<usize>(this.buffer) + this.start; }
  /** A decoder for the one value in it. */
  decoder(): Decoder { return new Decoder(this); }
  /** The bytes as text; what is no UTF-8 in them is replaced. */
  text(): string { return textAt(this.pointer, this.length); }
  bytes(): Uint8Array {
    const bytes = new Uint8Array(this.length);
    memory.copy(bytes.dataStart, this.pointer, this.length);
    return bytes;
  }
  static of(buffer: ArrayBuffer): Slice { return new Slice(buffer, 0, buffer.byteLength); }
  static ofBytes(bytes: Uint8Array): Slice { return new Slice(bytes.buffer, bytes.byteOffset, bytes.byteLength); }
  static ofText(text: string): Slice { return Slice.of(String.UTF8.encode(text)); }
}

/** The characters of UTF-8; U+FFFD for each byte that is none, so that no input traps. */
export function textAt(start: usize, length: i32): string {
  let units = 0;
  for (let i = 0; i < length; ) {
    const point = pointAt(start + i, length - i);
    units += (point & 0x1fffff) > 0xffff ? 2 : 1;
    i += point >>> 24;
  }
  const text = changetype<string>(__new(usize(units) << 1, idof<string>()));
  let out = changetype<usize>(text);
  for (let i = 0; i < length; ) {
    const point = pointAt(start + i, length - i);
    let code = point & 0x1fffff;
    if (code > 0xffff) {
      code -= 0x10000;
      store<u16>(out, u16(0xd800 | (code >> 10)));
      store<u16>(out, u16(0xdc00 | (code & 0x3ff)), 2);
      out += 4;
    } else {
      store<u16>(out, u16(code));
      out += 2;
    }
    i += point >>> 24;
  }
  return text;
}

/** A character, and in the highest byte how many bytes it has. */
function pointAt(at: usize, left: i32): u32 {
  const b: u32 = load<u8>(at);
  if (b < 0x80) return b | (1 << 24);
  const bad: u32 = 0xfffd | (1 << 24);
  const size = b >= 0xf0 && b < 0xf5 ? 4 : b >= 0xe0 && b < 0xf0 ? 3 : b >= 0xc2 && b < 0xe0 ? 2 : 0;
  if (!size || left < size) return bad;
  let code = b & (0x7f >> size);
  for (let i = 1; i < size; i++) {
    const next: u32 = load<u8>(at + i);
    if ((next & 0xc0) != 0x80) return bad;
    code = (code << 6) | (next & 0x3f);
  }
  if ((size == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) || (size == 4 && (code < 0x10000 || code > 0x10ffff))) return bad;
  return code | (u32(size) << 24);
}

/** Whether UTF-8 is this text. */
export function isText(start: usize, length: i32, text: string): bool {
  const units = changetype<usize>(text);
  // Names are ASCII, where the two agree, as long as both have the same characters below 128.
  for (let i = 0; i < min(length, text.length); i++) {
    const unit = load<u16>(units + (usize(i) << 1));
    if (unit >= 128) return textAt(start, length) == text;
    if (unit != u16(load<u8>(start + i))) return false;
  }
  return length == text.length;
}

/** What a value is. */
export enum Type { NIL, BOOL, INT, FLOAT, TEXT, BINARY, LIST, MAP, EXTENSION, NONE }

const NAMES: StaticArray<string> = ["nil", "bool", "int", "float", "text", "binary", "list", "map", "extension", "nothing"];

/** Nested deeper than this is an error. */
const MOST_DEPTH: i32 = 100;

/** What a value is that begins with this byte. */
function typeOf(b: u32): Type {
  if (b < 0x80 || b >= 0xe0) return Type.INT;
  if (b < 0x90) return Type.MAP;
  if (b < 0xa0) return Type.LIST;
  if (b < 0xc0) return Type.TEXT;
  switch (b) {
    case 0xc0: return Type.NIL;
    case 0xc1: return Type.NONE;
    case 0xc2: case 0xc3: return Type.BOOL;
    case 0xc4: case 0xc5: case 0xc6: return Type.BINARY;
    case 0xca: case 0xcb: return Type.FLOAT;
    case 0xd9: case 0xda: case 0xdb: return Type.TEXT;
    case 0xdc: case 0xdd: return Type.LIST;
    case 0xde: case 0xdf: return Type.MAP;
    default: return b < 0xca || b >= 0xd4 ? Type.EXTENSION : Type.INT;
  }
}

/** Reads one value after the other. `error` is empty, or says what was wrong first. */
export class Decoder {
  // What is left to read. Objects do not move, and the slice keeps the buffer alive.
  private next: usize;
  private end: usize;
  error: string = "";

  constructor(private readonly slice: Slice) {
    this.next = slice.pointer;
    this.end = this.next + slice.length;
  }

  /** Whether all bytes were read. */
  // @ts-ignore: decorator
  @inline get isAtEnd(): bool { return this.next >= this.end; }
  // @ts-ignore: decorator
  @inline get isOk(): bool { return this.error.length == 0; }

  /** Ends it with an error, unless there is one already. */
  fail(text: string): void {
    if (this.isOk) this.error = text;
    this.next = this.end;
  }

  // The form of the value in hand: its number, or its length.
  private n: u64 = 0;

  // @ts-ignore: decorator
  @inline private get left(): u64 { return u64(this.end - this.next); }

  /** What the next value is; nothing is read. */
  // @ts-ignore: decorator
  @inline get type(): Type { return this.isAtEnd ? Type.NONE : typeOf(load<u8>(this.next)); }

  private number(size: i32): u64 {
    if (this.left < u64(size)) {
      this.fail("not MessagePack: it is cut off");
      return 0;
    }
    let value: u64 = 0;
    const end = this.next + size;
    for (let at = this.next; at < end; at++) value = (value << 8) | u64(load<u8>(at));
    this.next = end;
    return value;
  }

  /** Reads the first byte and the number behind it into `n`; false if it is not of this type. */
  private begin(wanted: Type): bool {
    const found = this.type;
    if (found != wanted) {
      if (this.isOk) this.fail(found == Type.NONE ? "not MessagePack: it is cut off, or an unknown form" : "expected " + NAMES[wanted] + ", got " + NAMES[found]);
      return false;
    }
    const b: u32 = load<u8>(this.next++);
    if (b < 0x80) this.n = b;
    else if (b < 0xa0) this.n = b & 15;
    else if (b < 0xc0) this.n = b & 31;
    else if (b >= 0xe0) this.n = u64(i64(i8(b)));
    else switch (b) {
      case 0xc4: case 0xc7: case 0xcc: case 0xd9: this.n = this.number(1); break;
      case 0xc5: case 0xc8: case 0xcd: case 0xda: case 0xdc: case 0xde: this.n = this.number(2); break;
      case 0xc6: case 0xc9: case 0xca: case 0xce: case 0xdb: case 0xdd: case 0xdf: this.n = this.number(4); break;
      case 0xcb: case 0xcf: this.n = this.number(8); break;
      case 0xd0: this.n = u64(i64(i8(this.number(1)))); break;
      case 0xd1: this.n = u64(i64(i16(this.number(2)))); break;
      case 0xd2: this.n = u64(i64(i32(this.number(4)))); break;
      case 0xd3: this.n = this.number(8); break;
      case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: this.n = u64(1) << u64(b - 0xd4); break;
      default: this.n = b & 1; // nil, false, true
    }
    return this.isOk;
  }

  /** Reads nil if it is next; false if it is not. */
  nil(): bool {
    return this.type == Type.NIL && this.begin(Type.NIL);
  }
  bool(): bool {
    return this.begin(Type.BOOL) && this.n == 1;
  }
  /** An integer that 64 bits with a sign hold. */
  int(): i64 {
    const b: u32 = this.isAtEnd ? 0 : load<u8>(this.next);
    if (!this.begin(Type.INT)) return 0;
    if (b == 0xcf && this.n > u64(i64.MAX_VALUE)) {
      this.fail("the number is above 9223372036854775807");
      return 0;
    }
    return i64(this.n);
  }
  /** An integer of 64 bits that is not negative. */
  uint(): u64 {
    const b: u32 = this.isAtEnd ? 0 : load<u8>(this.next);
    if (!this.begin(Type.INT)) return 0;
    if (b != 0xcf && i64(this.n) < 0) {
      this.fail("the number is negative");
      return 0;
    }
    return this.n;
  }
  /** A float or an integer. */
  float(): f64 {
    if (this.type == Type.INT) return f64(this.int());
    const b: u32 = this.isAtEnd ? 0 : load<u8>(this.next);
    if (!this.begin(Type.FLOAT)) return 0;
    return b == 0xca ? f64(reinterpret<f32>(u32(this.n))) : reinterpret<f64>(this.n);
  }
  /** Steps over a value that has bytes; returns how many, or -1 if it is not of this type. */
  private pass(wanted: Type): i32 {
    if (!this.begin(wanted)) return -1;
    const length = this.n + (wanted == Type.EXTENSION ? 1 : 0);
    if (length > this.left) {
      this.fail("not MessagePack: it is cut off");
      return -1;
    }
    this.next += usize(length);
    return i32(length);
  }
  /** The last bytes that were read. */
  private before(length: i32): Slice {
    const buffer = this.slice.buffer;
    return new Slice(buffer, i32(this.next - changetype<usize>(buffer)) - length, length);
  }
  private take(wanted: Type): Slice {
    const length = this.pass(wanted);
    return length < 0 ? new Slice(this.slice.buffer, this.slice.start, 0) : this.before(length);
  }
  /** Reads a text; whether it is this one. */
  isNext(text: string): bool {
    const length = this.pass(Type.TEXT);
    return length >= 0 && isText(this.next - length, length, text);
  }
  text(): string { return this.take(Type.TEXT).text(); }
  /** A text without a copy, as UTF-8. */
  textSlice(): Slice { return this.take(Type.TEXT); }
  bytes(): Uint8Array { return this.take(Type.BINARY).bytes(); }
  /** A binary without a copy. */
  bytesSlice(): Slice { return this.take(Type.BINARY); }
  pid(): Pid {
    const slice = this.take(Type.BINARY);
    if (!this.isOk) return new Pid();
    if (slice.length != 16) {
      this.fail("expected a pid: 16 bytes");
      return new Pid();
    }
    return Pid.at(slice.pointer);
  }
  /** The elements of a list, which follow. Never more than there are bytes. */
  list(): i32 {
    if (!this.begin(Type.LIST)) return 0;
    if (this.n > this.left) {
      this.fail("not MessagePack: a list is cut off");
      return 0;
    }
    return i32(this.n);
  }
  /** The pairs of a map, which follow. */
  map(): i32 {
    if (!this.begin(Type.MAP)) return 0;
    if (this.n > this.left / 2) {
      this.fail("not MessagePack: a map is cut off");
      return 0;
    }
    return i32(this.n);
  }
  /** Steps over a value. */
  skip(): void { this.skipTo(0); }
  private skipTo(depth: i32): void {
    if (depth > MOST_DEPTH) return this.fail("nested deeper than 100");
    const type = this.type;
    if (type == Type.TEXT || type == Type.BINARY || type == Type.EXTENSION) {
      this.pass(type);
    } else if (type == Type.LIST) {
      for (let n = this.list(); n > 0 && this.isOk; n--) this.skipTo(depth + 1);
    } else if (type == Type.MAP) {
      for (let n = this.map(); n > 0 && this.isOk; n--) {
        this.skipTo(depth + 1);
        this.skipTo(depth + 1);
      }
    } else this.begin(type);
    if (type == Type.NONE) this.fail("not MessagePack: it is cut off, or an unknown form");
  }
  /** The next value as it is, whatever it is. */
  value(): Slice {
    const start = this.next;
    this.skip();
    return this.before(this.isOk ? i32(this.next - start) : 0);
  }
}

/** The fields of a map by name. What is missing or of another type is an error that names the field. */
export class Fields {
  /** Empty, or what was wrong first. */
  error: string = "";

  constructor(protected map: Slice | null) {}

  get isOk(): bool { return this.error.length == 0; }
  fail(text: string): void {
    if (this.isOk) this.error = text;
  }

  /** The value of a field; null if there is none, or nil. */
  find(name: string): Slice | null {
    const map = this.map;
    if (!map) return null;
    const decoder = new Decoder(map);
    for (let n = decoder.map(); n > 0 && decoder.isOk; n--) {
      const isText = decoder.type == Type.TEXT;
      const isFound = isText && decoder.isNext(name);
      if (!isText) decoder.skip();
      if (!isFound) {
        decoder.skip();
        continue;
      }
      const value = decoder.value();
      if (decoder.isOk) return value.length == 1 && load<u8>(value.pointer) == 0xc0 ? null : value;
    }
    if (!decoder.isOk) this.fail(decoder.error);
    return null;
  }
  has(name: string): bool { return this.find(name) != null; }

  /** The value of a field; nil if there is none. */
  value(name: string): Slice {
    const found = this.find(name);
    return found ? found : Slice.of(NIL);
  }

  private decoder(name: string): Decoder {
    const found = this.find(name);
    if (found) return new Decoder(found);
    this.fail("`" + name + "` is missing");
    const decoder = new Decoder(Slice.of(EMPTY));
    decoder.error = this.error;
    return decoder;
  }
  private check(name: string, decoder: Decoder): void {
    if (!decoder.isOk) this.fail("`" + name + "`: " + decoder.error);
  }

  int(name: string): i64 {
    const decoder = this.decoder(name);
    const value = decoder.int();
    this.check(name, decoder);
    return value;
  }
  uint(name: string): u64 {
    const decoder = this.decoder(name);
    const value = decoder.uint();
    this.check(name, decoder);
    return value;
  }
  float(name: string): f64 {
    const decoder = this.decoder(name);
    const value = decoder.float();
    this.check(name, decoder);
    return value;
  }
  bool(name: string): bool {
    const decoder = this.decoder(name);
    const value = decoder.bool();
    this.check(name, decoder);
    return value;
  }
  text(name: string): string {
    const decoder = this.decoder(name);
    const value = decoder.text();
    this.check(name, decoder);
    return value;
  }
  bytes(name: string): Uint8Array {
    const decoder = this.decoder(name);
    const value = decoder.bytes();
    this.check(name, decoder);
    return value;
  }
  /** A binary without a copy. */
  bytesSlice(name: string): Slice {
    const decoder = this.decoder(name);
    const value = decoder.bytesSlice();
    this.check(name, decoder);
    return value;
  }
  pid(name: string): Pid {
    const decoder = this.decoder(name);
    const value = decoder.pid();
    this.check(name, decoder);
    return value;
  }
  ints(name: string): i64[] {
    const decoder = this.decoder(name);
    const values: i64[] = [];
    for (let n = decoder.list(); n > 0 && decoder.isOk; n--) values.push(decoder.int());
    this.check(name, decoder);
    return values;
  }
  texts(name: string): string[] {
    const decoder = this.decoder(name);
    const values: string[] = [];
    for (let n = decoder.list(); n > 0 && decoder.isOk; n--) values.push(decoder.text());
    this.check(name, decoder);
    return values;
  }
  /** The fields of a map in a field. */
  fields(name: string): Fields {
    const found = this.find(name);
    if (!found) this.fail("`" + name + "` is missing");
    else if (found.decoder().type != Type.MAP) this.fail("`" + name + "`: expected map");
    return new Fields(found);
  }
}

const EMPTY: ArrayBuffer = new ArrayBuffer(0);
const NIL: ArrayBuffer = Uint8Array.wrap(String.UTF8.encode("\u0000")).map((_) => 0xc0).buffer;

/** A buffer. What the allocator gives is zero, which the standard library does not know: it would make it so again. */
export function zeroes(length: i32): ArrayBuffer { return changetype<ArrayBuffer>(__new(usize(length), idof<ArrayBuffer>())); }

/** Writes one value after the other. Each function returns the encoder: `new Encoder().map(1).text("by").int(3)`. */
export class Encoder {
  private buffer: ArrayBuffer = zeroes(48);
  private used: i32 = 0;

  // @ts-ignore: decorator
  @inline get length(): i32 { return this.used; }
  // @ts-ignore: decorator
  @inline get pointer(): usize { return changetype<usize>(this.buffer); }
  /** What was written. */
  slice(): Slice { return new Slice(this.buffer, 0, this.used); }
  bytes(): Uint8Array { return this.slice().bytes(); }

  private room(more: i32): usize {
    const wanted = this.used + more;
    if (wanted > this.buffer.byteLength) {
      const bigger = zeroes(max(wanted, 2 * this.buffer.byteLength));
      memory.copy(changetype<usize>(bigger), changetype<usize>(this.buffer), this.used);
      this.buffer = bigger;
    }
    const at = changetype<usize>(this.buffer) + this.used;
    this.used = wanted;
    return at;
  }
  private put(first: u32, value: u64, size: i32): Encoder {
    const at = this.room(1 + size);
    store<u8>(at, u8(first));
    for (let i = 0; i < size; i++) store<u8>(at + 1 + i, u8(value >> u64(8 * (size - 1 - i))));
    return this;
  }
  private head(n: i32, fixed: u32, below: i32, eight: u32, sixteen: u32): Encoder {
    if (n < below) return this.put(fixed | u32(n), 0, 0);
    if (eight && n < 0x100) return this.put(eight, n, 1);
    if (n < 0x10000) return this.put(sixteen, n, 2);
    return this.put(sixteen + 1, n, 4);
  }

  nil(): Encoder { return this.put(0xc0, 0, 0); }
  bool(value: bool): Encoder { return this.put(value ? 0xc3 : 0xc2, 0, 0); }
  int(value: i64): Encoder {
    if (value >= 0) return this.uint(u64(value));
    if (value >= -32) return this.put(u32(value) & 0xff, 0, 0);
    if (value >= i8.MIN_VALUE) return this.put(0xd0, u64(value), 1);
    if (value >= i16.MIN_VALUE) return this.put(0xd1, u64(value), 2);
    if (value >= i32.MIN_VALUE) return this.put(0xd2, u64(value), 4);
    return this.put(0xd3, u64(value), 8);
  }
  uint(value: u64): Encoder {
    if (value < 0x80) return this.put(u32(value), 0, 0);
    if (value < 0x100) return this.put(0xcc, value, 1);
    if (value < 0x10000) return this.put(0xcd, value, 2);
    if (value < 0x100000000) return this.put(0xce, value, 4);
    return this.put(0xcf, value, 8);
  }
  float(value: f64): Encoder { return this.put(0xcb, reinterpret<u64>(value), 8); }
  text(value: string): Encoder {
    if (value.length < 32 && this.ascii(value)) return this;
    const length = String.UTF8.byteLength(value);
    this.head(length, 0xa0, 32, 0xd9, 0xda);
    const at = this.room(length);
    String.UTF8.encodeUnsafe(changetype<usize>(value), value.length, at);
    return this;
  }
  /** Writes a short text if it is ASCII, as names are. */
  private ascii(value: string): bool {
    const units = changetype<usize>(value);
    const length = value.length;
    for (let i = 0; i < length; i++) if (load<u16>(units + (usize(i) << 1)) >= 128) return false;
    const at = this.room(1 + length);
    store<u8>(at, u8(0xa0 | length));
    for (let i = 0; i < length; i++) store<u8>(at + 1 + i, load<u8>(units + (usize(i) << 1)));
    return true;
  }
  blob(value: Uint8Array): Encoder { return this.binary(Slice.ofBytes(value)); }
  /** A binary. */
  binary(value: Slice): Encoder {
    this.head(value.length, 0, 0, 0xc4, 0xc5);
    return this.value(value);
  }
  pid(value: Pid): Encoder {
    this.head(16, 0, 0, 0xc4, 0xc5);
    memory.copy(this.room(16), value.pointer, 16);
    return this;
  }
  /** As many values follow. */
  list(length: i32): Encoder { return this.head(length, 0x90, 16, 0, 0xdc); }
  /** As many keys and values follow. */
  map(pairs: i32): Encoder { return this.head(pairs, 0x80, 16, 0, 0xde); }
  /** A key, and its value is next. The same as `text`. */
  key(name: string): Encoder { return this.text(name); }
  texts(values: string[]): Encoder {
    this.list(values.length);
    for (let i = 0; i < values.length; i++) this.text(values[i]);
    return this;
  }
  /** A value that is encoded already. */
  value(value: Slice): Encoder {
    const at = this.room(value.length);
    memory.copy(at, value.pointer, value.length);
    return this;
  }

  /** A message: a name alone. */
  static message(name: string): Encoder { return new Encoder().text(name); }
  /** A message with parameters: as many keys and values follow. */
  static call(name: string, parameters: i32): Encoder { return new Encoder().map(1).text(name).map(parameters); }
}
