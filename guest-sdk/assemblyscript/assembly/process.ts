// Processes: messages, requests, timers, relations, names, groups and tables.
//
// What fails returns a code of `Code`, which is negative, or null where there is a result.

import * as host from "./host";
import { Access, Clock, Code, Demonitor, Info, Priority, Receive, Spawn, TAG_REFUSED } from "./constants";
import { Encoder, Pid, Slice } from "./msgpack";
import { Message, Outcome, Request, callMessage, receiveMessage } from "./message";

const OUT_PID: usize = memory.data(16, 8);
const OUT: usize = memory.data(8, 8);
const OPTIONS: usize = memory.data(72, 8);

// @ts-ignore: decorator
@inline function p(at: usize): i32 { return i32(at); }
const NOTHING: ArrayBuffer = new ArrayBuffer(0);

/** What was written to `OUT`, which is zero again. */
function takeOut(): i64 {
  const value = load<i64>(OUT);
  store<i64>(OUT, 0);
  return value;
}
function takePid(): Pid {
  const pid = Pid.at(OUT_PID);
  memory.fill(OUT_PID, 0, 16);
  return pid;
}

export function self(): Pid {
  host.host_self(p(OUT_PID));
  return takePid();
}

/** Sends a message; to a process that has ended it is dropped. MAILBOX_FULL, MESSAGE_TOO_LARGE. */
export function send(to: Pid, message: Encoder, tag: u32 = 0): Code {
  return host.host_send(p(to.pointer), tag, p(message.pointer), message.length);
}
/** Sends bytes as they are. */
export function sendBytes(to: Pid, bytes: Slice, tag: u32 = 0): Code {
  return host.host_send(p(to.pointer), tag, p(bytes.pointer), bytes.length);
}
/** Sends a message when the time has passed. It survives new code. Returns the timer's reference, 0 if it failed. */
export function sendAfter(to: Pid, delayMs: i64, message: Encoder, tag: u32 = 0): i64 {
  if (host.host_send_after(p(to.pointer), tag, p(message.pointer), message.length, delayMs, p(OUT)) < 0) return 0;
  return takeOut();
}
/** The milliseconds that were left, or -1 if it was too late. */
export function cancelTimer(timer: i64): i64 { return host.host_cancel_timer(timer); }

/** Sends a request and does not wait: `Actor.reply`, or `down`, is called later. Returns its reference, 0 if it failed. */
export function request(to: Pid, message: Encoder, tag: u32 = 0): i64 {
  if (host.host_request(p(to.pointer), tag, p(message.pointer), message.length, p(OUT)) < 0) return 0;
  return takeOut();
}

/** Sends a request and waits on the stack for the reply; -1 waits for ever. It keeps one of the node's frames meanwhile. */
export function call(to: Pid, message: Encoder, timeoutMs: i64 = 5000, tag: u32 = 0): Outcome {
  return callMessage(to, message, timeoutMs, tag);
}

/** Replies to a request that was kept. Nothing happens if nobody waits for it any more. */
export function reply(to: Request, value: Encoder): Code {
  return host.host_reply(p(to.from.pointer), to.reference, 0, p(value.pointer), value.length);
}
/** Refuses a request that was kept. */
export function refuse(to: Request, why: string): Code {
  const text = Slice.ofText(why);
  return host.host_reply(p(to.from.pointer), to.reference, TAG_REFUSED, p(text.pointer), text.length);
}

/** Takes the first message with a tag out of the mailbox, and leaves all others. Waits on the stack; null after the time. */
export function receive(tag: u32, timeoutMs: i64 = -1): Message | null {
  return receiveMessage(timeoutMs, Receive.TAG, i64(tag));
}
export function sleep(ms: i64): Code { return host.host_sleep(ms); }

/** What a child may have; 0 is as the parent. Sizes in bytes, times in milliseconds. */
export class SpawnOptions {
  link: bool = false;
  monitor: bool = false;
  /** Waits until the child has started. */
  sync: bool = false;
  memory: u64 = 0;
  mailboxBytes: u64 = 0;
  mailboxMessages: u32 = 0;
  messageBytes: u32 = 0;
  children: u32 = 0;
  startTimeoutMs: u32 = 0;
  tableBytes: u64 = 0;
  priority: u32 = 0;
  files: u32 = 0;
  descendants: u32 = 0;
  /** Grants in MessagePack, as section 20 of the ABI has them. */
  grants: Encoder | null = null;
}
/** What came of a spawn. `reference` is that of the monitor. */
export class Spawned {
  constructor(readonly code: Code, readonly pid: Pid, readonly reference: i64) {}
}

/** Starts a process of a module of the release; "" is this one. */
export function spawn(module: string, args: Encoder | null = null, options: SpawnOptions = new SpawnOptions()): Spawned {
  const name = Slice.ofText(module);
  store<u32>(OPTIONS, 72);
  store<u32>(OPTIONS, (options.link ? Spawn.LINK : 0) | (options.monitor ? Spawn.MONITOR : 0) | (options.sync ? Spawn.SYNC : 0), 4);
  store<u64>(OPTIONS, options.memory, 8);
  store<u64>(OPTIONS, options.mailboxBytes, 16);
  store<u32>(OPTIONS, options.mailboxMessages, 24);
  store<u32>(OPTIONS, options.messageBytes, 28);
  store<u32>(OPTIONS, options.children, 32);
  store<u32>(OPTIONS, options.startTimeoutMs, 36);
  store<u64>(OPTIONS, options.tableBytes, 40);
  store<u32>(OPTIONS, options.priority, 48);
  store<u32>(OPTIONS, options.files, 52);
  const grants = options.grants;
  if (grants) {
    store<usize>(OPTIONS, grants.pointer, 56);
    store<i32>(OPTIONS, grants.length, 60);
  }
  store<u32>(OPTIONS, options.descendants, 64);
  const code = host.host_spawn(p(name.pointer), name.length, args ? p(args.pointer) : 0, args ? args.length : 0, p(OPTIONS), p(OUT_PID), p(OUT));
  memory.fill(OPTIONS, 0, 72);
  return new Spawned(code, takePid(), takeOut());
}

export function link(pid: Pid): Code { return host.host_link(p(pid.pointer)); }
export function unlink(pid: Pid): Code { return host.host_unlink(p(pid.pointer)); }
/** `Actor.down` is called when the process ends. Returns the monitor's reference, 0 if it failed. */
export function monitor(pid: Pid): i64 { return host.host_monitor(p(pid.pointer), p(OUT)) < 0 ? 0 : takeOut(); }
/** Also drops a DOWN or a reply that has arrived. */
export function demonitor(reference: i64): Code { return host.host_demonitor(reference, Demonitor.FLUSH); }
/** Whether ends of linked processes are told to `Actor.exit` instead of ending this one. */
export function trapExit(on: bool): void { host.host_trap_exit(i32(on)); }
/** Ends the process at once. The code is 0 (normal), 1 (shutdown), or from 256 on your own. */
export function exit(code: i32, text: string = ""): void {
  const bytes = Slice.ofText(text);
  host.host_exit(code, p(bytes.pointer), bytes.length);
  unreachable();
}
export function exitProcess(pid: Pid, code: i32, text: string = ""): Code {
  const bytes = Slice.ofText(text);
  return host.host_exit_process(p(pid.pointer), code, p(bytes.pointer), bytes.length);
}
export function kill(pid: Pid): Code { return host.host_kill(p(pid.pointer)); }
/** Returns the former priority, or a code. */
export function setPriority(priority: Priority): i32 { return host.host_set_priority(priority); }

/** Gives a name to a process. NAME_TAKEN, NOPROC, DENIED, LIMIT. */
export function register(name: string, pid: Pid): Code {
  const bytes = Slice.ofText(name);
  return host.host_register(p(bytes.pointer), bytes.length, p(pid.pointer));
}
export function unregister(name: string): Code {
  const bytes = Slice.ofText(name);
  return host.host_unregister(p(bytes.pointer), bytes.length);
}
/** The process that has a name, or null. */
export function whereis(name: string): Pid | null {
  const bytes = Slice.ofText(name);
  return host.host_whereis(p(bytes.pointer), bytes.length, p(OUT_PID)) < 0 ? null : takePid();
}

export function groupJoin(group: string, pid: Pid): Code {
  const bytes = Slice.ofText(group);
  return host.host_group_join(p(bytes.pointer), bytes.length, p(pid.pointer));
}
export function groupLeave(group: string, pid: Pid): Code {
  const bytes = Slice.ofText(group);
  return host.host_group_leave(p(bytes.pointer), bytes.length, p(pid.pointer));
}
export function groupMembers(group: string): Pid[] {
  const bytes = Slice.ofText(group);
  let fit = 0;
  let out = new ArrayBuffer(0);
  let count = 0;
  // Again if there are more than fit: it may have grown since.
  while ((count = host.host_group_members(p(bytes.pointer), bytes.length, p(changetype<usize>(out)), fit)) > fit) {
    fit = count;
    out = new ArrayBuffer(16 * fit);
  }
  const pids: Pid[] = [];
  for (let i = 0; i < count; i++) pids.push(Pid.at(changetype<usize>(out) + 16 * i));
  return pids;
}
/** Sends to all members of a group; returns how many have accepted it, or a code. */
export function publish(group: string, message: Encoder, tag: u32 = 0): i32 {
  const bytes = Slice.ofText(group);
  return host.host_publish(p(bytes.pointer), bytes.length, tag, p(message.pointer), message.length);
}

/** A value of the app's configuration, in MessagePack; null if there is none. "" is the whole. */
export function config(key: string): Slice | null {
  const bytes = Slice.ofText(key);
  let into = new ArrayBuffer(256);
  while (true) {
    const length = host.host_config(p(bytes.pointer), bytes.length, p(changetype<usize>(into)), into.byteLength);
    if (length < 0) return null;
    if (length <= into.byteLength) return new Slice(into, 0, length);
    into = new ArrayBuffer(length);
  }
}
export function info(what: Info): i64 { return host.host_info(what); }
/** Nanoseconds. */
export function clock(which: Clock): i64 { return host.host_clock(which); }
/** From the node's source, fit for keys. */
export function randomBytes(count: i32): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count; at += 65536) host.host_random(p(bytes.dataStart + at), min(count - at, 65536));
  return bytes;
}
/** In place of the compiler's own (`--use seed=...`), for `Math.random`. */
export function seed(): f64 {
  host.host_random(p(OUT), 8);
  return reinterpret<f64>(takeOut());
}

/** Rows outside of all memories, ordered by their keys' bytes. */
export class Table {
  constructor(readonly number: i64) {}
  /** null if the name is taken, or there are too many. "" is no name. */
  static create(name: string = "", access: Access = Access.PROTECTED): Table | null {
    const bytes = Slice.ofText(name);
    return host.host_table_new(p(bytes.pointer), bytes.length, access, p(OUT)) < 0 ? null : new Table(takeOut());
  }
  static find(name: string): Table | null {
    const bytes = Slice.ofText(name);
    return host.host_table_find(p(bytes.pointer), bytes.length, p(OUT)) < 0 ? null : new Table(takeOut());
  }
  private fetch(key: Slice, next: bool): Slice | null {
    let into = new ArrayBuffer(256);
    while (true) {
      const length = next
        ? host.host_table_next(this.number, p(key.pointer), key.length, p(changetype<usize>(into)), into.byteLength)
        : host.host_table_get(this.number, p(key.pointer), key.length, p(changetype<usize>(into)), into.byteLength);
      if (length < 0) return null;
      if (length <= into.byteLength) return new Slice(into, 0, length);
      into = new ArrayBuffer(length);
    }
  }
  get(key: Slice): Slice | null { return this.fetch(key, false); }
  /** The key after this one; of an empty key the first. */
  next(key: Slice): Slice | null { return this.fetch(key, true); }
  /** 1 if there was such a row, 0 if not, or a code. With `onlyNew` a row that is there is kept. */
  put(key: Slice, value: Slice, onlyNew: bool = false): i32 {
    return host.host_table_put(this.number, p(key.pointer), key.length, p(value.pointer), value.length, i32(onlyNew));
  }
  delete(key: Slice): i32 { return host.host_table_delete(this.number, p(key.pointer), key.length); }
  /** Adds to a row of 8 bytes; returns the sum, and 0 if it failed. */
  add(key: Slice, amount: i64): i64 {
    return host.host_table_add(this.number, p(key.pointer), key.length, amount, p(OUT)) < 0 ? 0 : takeOut();
  }
  get size(): i64 { return host.host_table_info(this.number, 0); }
  get bytes(): i64 { return host.host_table_info(this.number, 1); }
  setHeir(pid: Pid | null, tag: u32 = 0): Code { return host.host_table_heir(this.number, pid ? p(pid.pointer) : 0, tag); }
  give(pid: Pid, tag: u32 = 0): Code { return host.host_table_give(this.number, p(pid.pointer), tag); }
  end(): Code { return host.host_table_end(this.number); }
}
