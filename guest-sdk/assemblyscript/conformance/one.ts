// The guest of the conformance suite: see ../../conformance/README.md. The same file is `one`, `same`,
// `two` and `bad`: the build step gives VERSION, REPLY and SCHEMA.

import {
  Actor, Code, Encoder, Fields, File, Info, Message, Outcome, Pid, Request, SpawnOptions, call, exit, link, log, monitor,
  randomBytes, receive, register, reply, request, self, send, sendAfter, spawn, start, stop, trapExit, whereis, cancelTimer, demonitor,
} from "exuvia-assemblyscript";
export { exuvia_abi, load, run, save } from "exuvia-assemblyscript";

export const exuvia_schema: i32 = SCHEMA;

/** A call that waits without a stack: its request is answered when the reply, or the timer, arrives. */
class Waiting {
  constructor(readonly asked: Request, readonly reference: i64, readonly timer: i64) {}
}

/** The tag of the timers of `Waiting`. */
const LATE: u32 = 1;

function inner(): void {
  throw new Error("the trap that was asked for");
}
function outer(): void {
  inner();
}

function ok(message: Message): Encoder {
  return new Encoder().map(1).text("Ok").value(message.payload);
}
function err(text: string): Encoder {
  return new Encoder().map(1).text("Err").text(text);
}
function outcome(came: Outcome): Encoder {
  const message = came.message;
  if (came.isRefused) return err("refused: " + came.text);
  if (came.isOk && message) return ok(message);
  return err(came.code == Code.TIMEOUT ? "timeout" : came.code == Code.NOPROC ? "noproc" : "code " + came.code.toString());
}

class Guest extends Actor {
  count: i64 = 0;
  notes: string[] = [];
  /** Requests that are kept are part of the state: who has sent them is answered by the new code. */
  kept: Request[] = [];
  waiting: Waiting[] = [];
  /** New code would have to open it again. */
  file: File | null = null;

  init(args: Fields): string {
    if (args.has("start")) this.count = args.int("start");
    return "";
  }

  message(m: Message): void {
    if (m.tag == LATE) this.late(m.reference);
    else if (m.is("Add")) {
      const by = m.int("by");
      if (m.isOk) this.count += by;
    } else if (m.is("Note")) {
      const text = m.text("text");
      if (m.isOk) this.notes.push(text);
    } else if (m.is("Stop")) {
      const code = m.int("code");
      const text = m.text("text");
      if (!m.isOk) return;
      if (code) exit(i32(code), text);
      stop();
    } else if (m.is("Trap")) outer();
    else super.message(m);
  }

  request(m: Message): void {
    if (m.is("Version")) m.replyInt(REPLY);
    else if (m.is("Echo")) m.replyValue(m.value("value"));
    else if (m.is("Get")) m.replyInt(this.count);
    else if (m.is("Length")) {
      const bytes = m.bytesSlice("bytes");
      if (m.isOk) m.replyInt(bytes.length);
    } else if (m.is("Notes")) {
      m.reply(new Encoder().texts(this.notes));
      this.notes = [];
    } else if (m.is("Keep")) this.kept.push(m.later());
    else if (m.is("Release")) {
      const value = new Encoder().value(m.value("value"));
      for (let i = 0; i < this.kept.length; i++) reply(this.kept[i], value);
      this.kept = [];
      m.replyNil();
    } else if (m.is("Call")) {
      const to = m.pid("to");
      const timeout = m.int("timeout_ms");
      if (m.isOk) m.reply(outcome(call(to, Encoder.call("Echo", 1).text("value").value(m.value("value")), timeout)));
    } else if (m.is("CallKeep")) {
      const to = m.pid("to");
      const timeout = m.int("timeout_ms");
      if (m.isOk) m.reply(outcome(call(to, Encoder.message("Keep"), timeout)));
    } else if (m.is("Await")) {
      const to = m.pid("to");
      const timeout = m.int("timeout_ms");
      if (!m.isOk) return;
      const reference = request(to, Encoder.message("Keep"));
      if (!reference) m.reply(err("not sent"));
      else this.waiting.push(new Waiting(m.later(), reference, timeout < 0 ? 0 : sendAfter(self(), timeout, new Encoder(), LATE)));
    } else if (m.is("Select")) {
      const tag = m.uint("tag");
      const timeout = m.int("timeout_ms");
      if (!m.isOk) return;
      const found = receive(u32(tag), timeout);
      if (found) m.replyValue(found.payload);
      else m.replyNil();
    } else if (m.is("Timers")) {
      const delays = m.ints("delays_ms");
      if (!m.isOk) return;
      for (let i = 0; i < delays.length; i++)
        sendAfter(self(), delays[i], Encoder.call("Note", 1).text("text").text("timer " + delays[i].toString()));
      m.replyNil();
    } else if (m.is("Watch")) {
      const pid = m.pid("pid");
      if (!m.isOk) return;
      monitor(pid);
      m.replyNil();
    } else if (m.is("Join")) {
      const pid = m.pid("pid");
      if (!m.isOk) return;
      trapExit(true);
      link(pid);
      m.replyNil();
    } else if (m.is("Register")) {
      const name = m.text("name");
      if (!m.isOk) return;
      const code = register(name, self());
      if (code < 0) m.refuse(code == Code.NAME_TAKEN ? "the name is taken" : "code " + code.toString());
      else m.replyNil();
    } else if (m.is("Whereis")) {
      const name = m.text("name");
      if (!m.isOk) return;
      const pid = whereis(name);
      if (pid) m.reply(new Encoder().pid(pid));
      else m.replyNil();
    } else if (m.is("Child")) {
      const first = m.int("start");
      if (!m.isOk) return;
      const options = new SpawnOptions();
      options.link = true;
      const child = spawn("", new Encoder().map(1).text("start").int(first), options);
      if (child.code < 0) m.refuse("code " + child.code.toString());
      else m.reply(new Encoder().pid(child.pid));
    } else if (m.is("Send")) {
      const to = m.pid("to");
      const text = m.text("text");
      if (!m.isOk) return;
      send(to, Encoder.call("Note", 1).text("text").text(text));
      m.replyNil();
    } else if (m.is("Fill")) {
      const bytes = m.int("bytes");
      if (m.isOk) m.replyInt(new Uint8Array(i32(bytes)).fill(1).length);
    } else if (m.is("ReadFile")) {
      const path = m.text("path");
      if (!m.isOk) return;
      const file = File.open(path);
      if (!file) {
        m.refuse("could not open " + path + ": error " + File.error.toString());
        return;
      }
      m.replyText(file.readText());
      file.close();
    } else if (m.is("OpenFile")) {
      const path = m.text("path");
      if (!m.isOk) return;
      const file = File.open(path);
      this.file = file;
      if (!file) {
        m.refuse("could not open " + path + ": error " + File.error.toString());
        return;
      }
      file.read(1);
      m.replyNil();
    } else if (m.is("ReadOn")) {
      const file = this.file;
      const byte = file ? file.read(1) : new Uint8Array(0);
      if (byte.length) m.replyText(String.fromCharCode(byte[0]));
      else m.refuse(file ? "the file is at its end" : "no file is open");
    } else if (m.is("Random")) m.reply(new Encoder().blob(randomBytes(16)));
    else if (m.is("Log")) {
      const text = m.text("text");
      if (!m.isOk) return;
      log.info(text);
      m.replyNil();
    }
  }

  /** Answers who waits with a reference, and forgets it. */
  private answer(reference: i64, value: Encoder): void {
    for (let i = 0; i < this.waiting.length; i++) {
      const waiting = this.waiting[i];
      if (waiting.reference != reference) continue;
      if (waiting.timer) cancelTimer(waiting.timer);
      reply(waiting.asked, value);
      this.waiting.splice(i, 1);
      return;
    }
  }
  private late(timer: i64): void {
    for (let i = 0; i < this.waiting.length; i++) {
      if (this.waiting[i].timer != timer) continue;
      demonitor(this.waiting[i].reference);
      this.answer(this.waiting[i].reference, err("timeout"));
      return;
    }
  }
  reply(m: Message): void { this.answer(m.reference, outcome(new Outcome(m.isDropped ? Code.TOO_BIG : Code.OK, m))); }

  down(m: Message): void {
    for (let i = 0; i < this.waiting.length; i++)
      if (this.waiting[i].reference == m.reference) return this.answer(m.reference, err("noproc"));
    this.notes.push("down " + m.reason.toString());
  }
  exit(m: Message): void { this.notes.push("exit " + m.reason.toString()); }

  save(state: Encoder): void {
    state.map(4).text(SCHEMA == 1 ? "count" : "total").int(this.count).text("notes").texts(this.notes);
    state.text("kept").list(this.kept.length);
    for (let i = 0; i < this.kept.length; i++) this.kept[i].write(state);
    state.text("waiting").list(this.waiting.length);
    for (let i = 0; i < this.waiting.length; i++) {
      const waiting = this.waiting[i];
      waiting.asked.write(state.list(3));
      state.int(waiting.reference).int(waiting.timer);
    }
  }
  load(state: Fields, schema: i32): string {
    if (schema < 1 || schema > SCHEMA) return "the schema " + schema.toString() + " is unknown";
    this.count = state.int(schema == 1 ? "count" : "total");
    this.notes = state.texts("notes");
    const kept = state.find("kept");
    if (kept) {
      const decoder = kept.decoder();
      for (let n = decoder.list(); n > 0; n--) this.kept.push(Request.read(decoder));
      if (!decoder.isOk) return "`kept`: " + decoder.error;
    }
    const waiting = state.find("waiting");
    if (waiting) {
      const decoder = waiting.decoder();
      for (let n = decoder.list(); n > 0 && decoder.list() == 3; n--) {
        const asked = Request.read(decoder);
        const reference = decoder.int();
        this.waiting.push(new Waiting(asked, reference, decoder.int()));
      }
      if (!decoder.isOk) return "`waiting`: " + decoder.error;
    }
    if (VERSION == 3 && this.count == 13) throw new Error("the count is 13");
    if (VERSION == 3 && this.count % 2) return "the count " + this.count.toString() + " is odd";
    return "";
  }
}

start(new Guest());
