// What sdk.test.mjs tries: values taken apart and put together again, and memory under stress.

import { Actor, Decoder, Encoder, Fields, Message, Slice, Type, start } from "exuvia-assemblyscript";
export { exuvia_abi, load, run, save } from "exuvia-assemblyscript";

export const exuvia_schema: i32 = 4;

/** A value is read by the function for its type, and written by the one for it. */
function copy(from: Decoder, to: Encoder): void {
  switch (from.type) {
    case Type.NIL: from.nil(); to.nil(); break;
    case Type.BOOL: to.bool(from.bool()); break;
    case Type.INT: {
      const value = from.value();
      const signed = value.decoder();
      const number = signed.int();
      if (signed.isOk) to.int(number);
      else to.uint(value.decoder().uint());
      break;
    }
    case Type.FLOAT: to.float(from.float()); break;
    case Type.TEXT: to.text(from.text()); break;
    case Type.BINARY: to.blob(from.bytes()); break;
    case Type.LIST: {
      const length = from.list();
      to.list(length);
      for (let i = 0; i < length && from.isOk; i++) copy(from, to);
      break;
    }
    case Type.MAP: {
      const pairs = from.map();
      to.map(pairs);
      for (let i = 0; i < 2 * pairs && from.isOk; i++) copy(from, to);
      break;
    }
    case Type.EXTENSION: to.value(from.value()); break;
    default: from.skip();
  }
}

class Node {
  constructor(readonly value: i32, readonly next: Node | null) {}
}

class Tests extends Actor {
  count: i64 = 0;
  names: Map<string, string> = new Map();
  list: Node | null = null;

  init(args: Fields): string {
    if (args.has("start")) this.count = args.int("start");
    return this.count < 0 ? "a count is not negative" : "";
  }
  message(m: Message): void {
    if (m.is("Add")) {
      const by = m.int("by");
      if (m.isOk) this.count += by;
    } else super.message(m);
  }
  request(m: Message): void {
    if (m.is("Get")) m.replyInt(this.count);
    else if (m.is("Copy")) {
      const to = new Encoder();
      const from = m.value("value").decoder();
      copy(from, to);
      if (!from.isOk) m.fail(from.error);
      else m.reply(to);
    } else if (m.is("Types")) {
      const values = new Encoder().list(7).int(m.int("int")).uint(m.uint("uint")).float(m.float("float")).bool(m.bool("bool")).texts(m.texts("texts"));
      const ints = m.ints("ints");
      values.list(ints.length);
      for (let i = 0; i < ints.length; i++) values.int(ints[i]);
      values.pid(m.pid("pid"));
      if (m.isOk) m.reply(values);
    } else if (m.is("Inner")) m.replyInt(m.fields("fields").int("x"));
    else if (m.is("Stress")) m.replyInt(this.stress());
    else if (m.is("Grow")) {
      const from = m.int("from");
      const to = m.int("to");
      for (let i = from; i < to; i++) {
        this.names.set("key " + i.toString(), "value " + i.toString());
        this.list = new Node(i32(i), this.list);
      }
      m.replyInt(this.names.size);
    } else if (m.is("Check")) {
      let sum: i64 = 0;
      let node = this.list;
      while (node != null) {
        const name = node.value.toString();
        node = node.next;
        if (this.names.get("key " + name) == "value " + name) sum++;
      }
      m.replyInt(sum);
    } else if (m.is("Forget")) {
      this.names = new Map();
      this.list = null;
      m.replyNil();
    } else if (m.is("Pinned")) {
      const text = "pinned " + this.count.toString();
      const pointer = __pin(changetype<usize>(text));
      this.stress();
      __collect();
      __unpin(pointer);
      m.replyText(changetype<string>(pointer));
    } else if (m.is("Random")) m.reply(new Encoder().float(Math.random()));
  }
  /** Much garbage of all sizes, with a little that has to stay. */
  private stress(): i64 {
    const kept: Uint8Array[] = [];
    for (let i = 0; i < 20000; i++) {
      const bytes = new Uint8Array(i % 5000).fill(u8(i));
      if (i % 100 == 0) kept.push(bytes);
    }
    let good: i64 = 0;
    for (let i = 0; i < kept.length; i++) {
      let same = kept[i].length == (i * 100) % 5000;
      for (let j = 0; j < kept[i].length; j++) if (kept[i][j] != u8(i * 100)) same = false;
      if (same) good++;
    }
    // Arrays that grow and shrink in place, or not.
    const numbers: i32[] = [];
    for (let i = 0; i < 100000; i++) numbers.push(i);
    numbers.length = 10;
    for (let i = 10; i < 3000; i++) numbers.push(i);
    for (let i = 0; i < numbers.length; i++) if (numbers[i] != i) return -1;
    return good;
  }
  save(state: Encoder): void { state.map(1).text("count").int(this.count); }
  load(state: Fields, schema: i32): string {
    if (schema != 4) return "schema " + schema.toString() + " is unknown";
    this.count = state.int("count");
    return "";
  }
}

start(new Tests());
