// A station in AssemblyScript: see ../README.md.

import { Actor, Encoder, Fields, Message, Pid, send, start, whereis } from "exuvia-assemblyscript";
export { exuvia_abi, load, run, save } from "exuvia-assemblyscript";

export const exuvia_schema: i32 = 1;

const VERSION = 1;

/** The state, which every station saves in the same form. */
class Station extends Actor {
  passed: i64 = 0;
  arrived: i64 = 0;
  travelled: i64 = 0;
  halted: bool = false;
  next: string = "";

  init(args: Fields): string {
    this.next = args.text("next");
    return "";
  }

  message(m: Message): void {
    if (m.is("Pass")) {
      const hops = m.int("hops") + 1;
      if (m.isOk) this.pass(hops);
    } else super.message(m);
  }

  /** A token comes by: it is sent on, or has arrived. */
  pass(hops: i64): void {
    this.passed++;
    let to: Pid | null = null;
    if (!this.halted) to = whereis(this.next);
    if (to) {
      send(to, Encoder.call("Pass", 1).text("hops").int(hops));
    } else {
      this.arrived++;
      this.travelled += hops;
    }
  }

  request(m: Message): void {
    if (m.is("Halt")) {
      this.halted = true;
      m.replyNil();
    } else if (m.is("Count")) {
      m.reply(this.counts(new Encoder().map(5).text("language").text("AssemblyScript").text("version").int(VERSION)));
    }
  }

  counts(to: Encoder): Encoder {
    return to.text("passed").int(this.passed).text("arrived").int(this.arrived).text("travelled").int(this.travelled);
  }

  save(state: Encoder): void {
    this.counts(state.map(5)).text("halted").bool(this.halted).text("next").text(this.next);
  }
  load(state: Fields, schema: i32): string {
    if (schema != 1) return "the schema " + schema.toString() + " is unknown";
    this.passed = state.int("passed");
    this.arrived = state.int("arrived");
    this.travelled = state.int("travelled");
    this.halted = state.bool("halted");
    this.next = state.text("next");
    return "";
  }
}

start(new Station());
