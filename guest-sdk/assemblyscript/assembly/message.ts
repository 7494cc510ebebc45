// Messages: how they are received, read and answered.

import { host_call, host_receive, host_reply } from "./host";
import { Code, Kind, Receive, TAG_REFUSED } from "./constants";
import { Decoder, Encoder, Fields, Pid, Slice, Type, isText, zeroes } from "./msgpack";
import { log } from "./log";
import { rest, tryBuffer } from "./runtime";

const HEADER: usize = memory.data(48, 8);
const SHORT: i32 = 512;
const BUFFER: usize = memory.data(512, 8);
/** How much of the buffer is not zero. */
let inUse: i32 = 0;
const NO_BYTES: ArrayBuffer = new ArrayBuffer(0);
const NOTHING: Slice = Slice.of(NO_BYTES);

/** A request that is replied to later: with `reply`, from any process that has it. It may be part of the state. */
export class Request {
  constructor(readonly from: Pid, readonly reference: i64) {}
  /** As a map, in the way of all SDKs: `from` and `reference`. */
  write(into: Encoder): void { into.map(2).text("from").pid(this.from).text("reference").int(this.reference); }
  /** Reads what `write` has written. */
  static read(decoder: Decoder): Request {
    const fields = new Fields(decoder.value());
    const request = new Request(fields.pid("from"), fields.int("reference"));
    if (!fields.isOk) decoder.fail(fields.error);
    return request;
  }
}

/** A message in hand. Its parameters are read by name, as `Fields` has them: what is wrong is in `error`. */
export class Message extends Fields {
  readonly kind: Kind = load<u32>(HEADER, 4);
  readonly from: Pid = Pid.at(HEADER + 8);
  readonly reference: i64 = load<i64>(HEADER, 24);
  readonly tag: u32 = load<u32>(HEADER, 32);
  /** Of EXIT and DOWN: why, a code of `ReasonCode` or from 256 on the process's own. The payload is its text. */
  readonly reason: i32 = load<i32>(HEADER, 40);
  /** Of EXIT and DOWN: whether new code caused it, which failed in its probation. */
  get isFromRelease(): bool { return this.tag == 1; }
  private name: Slice = NOTHING;
  private isAnswered: bool = false;
  /** Whether there was no memory for the payload. */
  isDropped: bool = false;

  constructor(readonly payload: Slice) {
    super(null);
    if ((this.kind == Kind.MESSAGE || this.kind == Kind.REQUEST || this.kind == Kind.TIMER) && this.tag == 0) this.parse();
  }

  private parse(): void {
    const payload = this.payload;
    const decoder = new Decoder(payload);
    if (decoder.type == Type.TEXT) {
      this.name = decoder.textSlice();
    } else if (decoder.type == Type.MAP && decoder.map() == 1 && decoder.type == Type.TEXT) {
      this.name = decoder.textSlice();
      const fields = decoder.value();
      this.map = fields;
    } else {
      decoder.fail("a message is its name, or a map with its name as the only key");
    }
    if (decoder.isOk && !decoder.isAtEnd) decoder.fail("not MessagePack: more bytes");
    if (!decoder.isOk) {
      this.error = decoder.error;
      this.name = NOTHING;
    }
  }

  /** Whether this is the message of that name. */
  is(name: string): bool { return this.name.length > 0 && isText(this.name.pointer, this.name.length, name); }
  /** The message's name; empty if it has none. */
  get message(): string { return this.name.text(); }

  /** Replies to a request. */
  reply(value: Encoder): Code { return this.answer(0, value.slice()); }
  /** Replies with a value that is encoded already. */
  replyValue(value: Slice): Code { return this.answer(0, value); }
  replyNil(): Code { return this.reply(new Encoder().nil()); }
  replyInt(value: i64): Code { return this.reply(new Encoder().int(value)); }
  replyText(value: string): Code { return this.reply(new Encoder().text(value)); }
  /** Replies with bytes as they are, and a tag: a response of HTTP, for example. */
  replyBytes(bytes: Slice, tag: u32): Code { return this.answer(tag, bytes); }
  /** Refuses a request: its sender is told why. */
  refuse(why: string): Code { return this.answer(TAG_REFUSED, Slice.ofText(why)); }
  /** Nothing is replied now: see `reply` for requests that were kept. */
  later(): Request {
    this.isAnswered = true;
    return new Request(this.from, this.reference);
  }
  /** Whether it was replied to, refused or kept. */
  get isDone(): bool { return this.isAnswered; }

  private answer(tag: u32, bytes: Slice): Code {
    this.isAnswered = true;
    const code = host_reply(i32(this.from.pointer), this.reference, tag, i32(bytes.pointer), bytes.length);
    if (code == Code.MESSAGE_TOO_LARGE) return this.refuse("the reply is larger than the process may send");
    return code;
  }
}

/** More than the payload that must be free, so that a handler can take it apart: texts have two bytes for each. */
export const ROOM: usize = 2;

/** The message that was written to the buffer. */
function inBuffer(): Message {
  const length = load<i32>(HEADER, 36);
  const bytes = zeroes(length);
  memory.copy(changetype<usize>(bytes), BUFFER, length);
  inUse = max(inUse, length);
  return new Message(Slice.of(bytes));
}

/** Receives; null if there is nothing. A message for which there is no memory is dropped, or arrives without payload if something waits for it. */
export function receiveMessage(timeout: i64, mode: i32, key: i64): Message | null {
  while (true) {
    store<u32>(HEADER, 48);
    let code = host_receive(i32(HEADER), i32(BUFFER), SHORT, timeout, mode, key);
    const length = load<i32>(HEADER, 36);
    if (code == Code.OK) return inBuffer();
    if (code != Code.TOO_BIG) return null;
    const room = u32(length) < (1 << 28) ? ROOM * usize(length) : 1 << 30;
    const bytes = u32(length) < (1 << 30) ? tryBuffer(length, room) : null;
    store<u32>(HEADER, 48);
    if (bytes) {
      code = host_receive(i32(HEADER), i32(changetype<usize>(bytes)), length, 0, mode, key);
      return code == Code.OK ? new Message(Slice.of(bytes)) : null;
    }
    code = host_receive(i32(HEADER), i32(BUFFER), 0, 0, mode | Receive.TRUNCATE, key);
    if (code != Code.OK) return null;
    log.error("dropped a message of " + u32(length).toString() + " bytes: the process has no memory for it");
    const dropped = new Message(NOTHING);
    dropped.isDropped = true;
    if (dropped.kind == Kind.REQUEST) dropped.refuse("the receiver has no memory for a request of this size");
    else if (dropped.kind != Kind.MESSAGE && dropped.kind != Kind.TIMER) return dropped;
  }
}

/** What came of a call. */
export class Outcome {
  constructor(
    /** OK, TIMEOUT, NOPROC, LIMIT, or what `send` returns. */
    readonly code: Code,
    /** The reply, or of NOPROC why the process has ended. */
    readonly message: Message | null,
  ) {}
  get isOk(): bool { return this.code == Code.OK && !this.isRefused; }
  /** Whether the receiver has refused; `text` says why. */
  get isRefused(): bool {
    const message = this.message;
    return message != null && message.kind == Kind.REPLY && message.tag == TAG_REFUSED;
  }
  get text(): string {
    const message = this.message;
    return message ? message.payload.text() : "";
  }
  /** The reply's payload. */
  get value(): Slice {
    const message = this.message;
    return message ? message.payload : NOTHING;
  }
}

/** Sends a request and waits on the stack for the reply. */
export function callMessage(to: Pid, message: Encoder, timeoutMs: i64, tag: u32): Outcome {
  store<u32>(HEADER, 48);
  const code = host_call(i32(to.pointer), tag, i32(message.pointer), message.length, i32(HEADER), i32(BUFFER), SHORT, timeoutMs);
  if (code == Code.OK) return new Outcome(code, inBuffer());
  // Of the process that has ended there is the reason alone.
  if (code == Code.NOPROC) return new Outcome(code, new Message(NOTHING));
  if (code != Code.TOO_BIG) return new Outcome(code, null);
  const answer = receiveMessage(0, Receive.REFERENCE, load<i64>(HEADER, 24));
  return new Outcome(answer && !answer.isDropped ? Code.OK : Code.TOO_BIG, answer);
}

/** Memory is made small: nothing of the message in hand stays. */
export function leave(): void {
  memory.fill(HEADER, 0, 48);
  memory.fill(BUFFER, 0, inUse);
  inUse = 0;
  rest();
}

