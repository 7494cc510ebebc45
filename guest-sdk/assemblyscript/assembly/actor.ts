// What an actor is, and the exports that the host calls.

import { host_init_ack, host_state_get, host_state_put } from "./host";
import { Kind, Receive, Run } from "./constants";
import { Decoder, Encoder, Fields, Slice, Type } from "./msgpack";
import { Message, ROOM, leave, receiveMessage } from "./message";
import { log, setLoading } from "./log";
import { tryBuffer } from "./runtime";

/** What a process is. Make a class of it, and give one of it to `start`. */
export abstract class Actor {
  /** The start. The arguments are `fields` of a map, or nothing. Returns an empty text, or why the start fails. */
  init(args: Fields): string { return ""; }
  /** A message, or a timer of `sendAfter`. */
  message(message: Message): void { log.warn("dropped an unknown message: " + message.message); }
  /** A request: reply, refuse, or keep it. One that is left unanswered is refused. */
  request(message: Message): void {}
  /** A reply to `request`. */
  reply(message: Message): void {}
  /** A process that is monitored, or that a request went to, has ended. */
  down(message: Message): void {}
  /** A linked process has ended, and exits are trapped. */
  exit(message: Message): void {}
  /** A table has a new owner, this process; its number is the reference. */
  table(message: Message): void {}
  /** Writes the state, one value, for new code. Must not change it. */
  save(state: Encoder): void { state.nil(); }
  /** Takes the state of an earlier version. Returns an empty text, or why it cannot. */
  load(state: Fields, schema: i32): string { return "the actor has no `load`"; }
}

let actor: Actor | null = null;
let stopping: bool = false;

/** Says what the process is. Call it once, at the top of the module. */
export function start(given: Actor): void { actor = given; }
/** The process ends, reason normal, when the handler has ended. */
export function stop(): void { stopping = true; }

function theActor(): Actor {
  const given = actor;
  if (!given) throw new Error("no actor: call `start(new MyActor())` at the top of the module");
  return given;
}

function handle(given: Actor, message: Message): void {
  switch (message.kind) {
    case Kind.INIT: {
      let error = "";
      let args = new Fields(null);
      if (message.payload.length) {
        const decoder = new Decoder(message.payload);
        if (!decoder.nil()) {
          if (decoder.type != Type.MAP) error = "the arguments are no map";
          else {
            decoder.skip();
            error = decoder.isOk && !decoder.isAtEnd ? "not MessagePack: more bytes" : decoder.error;
            args = new Fields(message.payload);
          }
        }
      }
      if (!error.length) error = given.init(args);
      if (!error.length) error = args.error;
      const text = Slice.ofText(error);
      host_init_ack(error.length ? 256 : 0, i32(text.pointer), text.length);
      if (error.length) stopping = true;
      return;
    }
    case Kind.MESSAGE:
    case Kind.TIMER:
      if (message.isOk) given.message(message);
      if (!message.isOk) log.warn("dropped a message: " + message.error);
      return;
    case Kind.REQUEST:
      if (message.isOk) given.request(message);
      if (message.isDone) return;
      message.refuse(message.isOk ? "unknown request: " + message.message : message.error);
      return;
    case Kind.REPLY:
      given.reply(message);
      return;
    case Kind.DOWN:
      given.down(message);
      return;
    case Kind.EXIT:
      given.exit(message);
      return;
    case Kind.TABLE:
      given.table(message);
  }
}

function handleAll(): void {
  while (true) {
    const message = receiveMessage(0, Receive.ANY, 0);
    if (!message) return;
    handle(theActor(), message);
    if (stopping) return;
  }
}

// The exports of a module: `export { run, save, load, exuvia_abi } from "exuvia-assemblyscript"`.

export const exuvia_abi: i32 = 1;

export function run(): i32 {
  handleAll();
  if (stopping) return Run.DONE;
  leave();
  return Run.REST;
}

export function save(): i32 {
  const state = new Encoder();
  theActor().save(state);
  return host_state_put(i32(state.pointer), state.length);
}

function loadState(schema: i32, length: i32): i32 {
  const bytes = tryBuffer(length, ROOM * usize(length) + 1);
  if (!bytes) {
    log.error("no memory for the saved state");
    return 1;
  }
  if (host_state_get(i32(changetype<usize>(bytes)), length) != length) return 1;
  const decoder = new Decoder(Slice.of(bytes));
  if (decoder.type != Type.MAP) decoder.fail("the saved state is no map");
  decoder.skip();
  let error = decoder.error;
  if (!error.length) {
    const state = new Fields(Slice.of(bytes));
    error = theActor().load(state, schema);
    if (!error.length) error = state.error;
  }
  if (!error.length) return 0;
  log.error(error);
  return 1;
}

export function load(schema: i32, length: i32): i32 {
  setLoading(true);
  const result = loadState(schema, length);
  setLoading(false);
  leave();
  return result;
}
