/**
 * Actors of Exuvia in JavaScript and TypeScript.
 *
 * Times are in milliseconds, sizes in bytes. What fails throws {@link HostError}, whose `code` is a
 * word of the ABI (`"NOPROC"`, `"TIMEOUT"`, ...), unless it says otherwise. Values that are sent,
 * replied or saved are MessagePack: null, booleans, numbers, BigInts of 64 bits, strings,
 * Uint8Arrays, arrays, plain objects and Maps. What comes back is the same; an integer that a number
 * cannot hold is a BigInt, a map whose keys are not all strings is a Map.
 */

/** The reference of a request, a monitor or a timer: 64 bits, opaque. */
export type Reference = bigint;

/** A value that MessagePack has. Objects of classes are encoded as their own properties. */
export type Value =
  | null | undefined | boolean | number | bigint | string | Uint8Array | ArrayBuffer | Extension
  | readonly Value[] | { readonly [key: string]: Value } | ReadonlyMap<Value, Value>;

/** A message: its name, or an object with its name as the only key and the parameters. Anything else is allowed between your own processes. */
export type Message = Value;

/** Who gets a message: a pid (16 bytes), or a name, which is looked up each time. */
export type Target = Uint8Array | string;

/** The pid of a process: 16 bytes, opaque. In a payload it is a binary: `new Pid(bytes)` makes it a Pid again. */
export class Pid extends Uint8Array {
  /** No process: the sender of what comes from outside the node. */
  static readonly none: Pid;
  equals(other: Uint8Array): boolean;
  readonly isNone: boolean;
  /** 32 hexadecimal digits. */
  toString(): string;
}

/** An extension type of MessagePack. */
export class Extension {
  constructor(type: number, data: Uint8Array);
  type: number;
  data: Uint8Array;
}

/** Why a process has ended. */
export interface Reason {
  /** 0 normal, 1 shutdown, 4 a trap, ...; from 256 on the process's own. */
  code: number;
  /** The word for the code, `OTHER` for the processes' own. */
  name: string;
  /** What the process said of it, or the backtrace of a trap. */
  text: string;
  /** Whether new code caused it, which failed in its probation: a supervisor does not count it. */
  fromRelease: boolean;
}

/** A call of the host has failed. */
export class HostError extends Error {
  /** The function: `"send"`, `"call"`, ... */
  call: string;
  code:
    | "TIMEOUT" | "NOPROC" | "LIMIT" | "TOO_BIG" | "BAD_ARGUMENT" | "MESSAGE_TOO_LARGE" | "MAILBOX_FULL" | "NAME_TAKEN"
    | "NO_MODULE" | "START_FAILED" | "DENIED" | (string & {});
  /** Of a `NOPROC`: why the process that was called has ended. */
  reason?: Reason;
}

/** The process that was called has refused; the message says why. */
export class Refused extends Error {}

/**
 * Throw it to refuse: in a request's handler the sender is told the message, in a message's handler
 * it is logged, in `init` the start fails with it, and in `load` the new code is refused.
 * Every other exception that nobody catches ends the process.
 */
export class Refusal extends Error {}

/** What a handler is told of a message besides its parameters. */
export interface Context {
  /** A number of `constants.KIND`. */
  readonly kind: number;
  readonly from: Pid;
  readonly tag: number;
  readonly reference?: Reference;
  /** In a request's handler: nothing is replied now. Reply with {@link reply}, whenever that is. */
  later(): Request;
}

/** A request that waits for its reply. It is plain data: it may be kept in the state, and sent. */
export interface Request {
  from: Uint8Array;
  reference: Reference;
  tag: number;
}

/** A type for {@link check}: with `?` at the end it may be missing. `int` is a safe integer, `bigint` an integer of 64 bits as a BigInt, `number` any number. */
export type Type = Word | `${Word}?` | readonly [Type] | { readonly [name: string]: Type };
type Word = "any" | "int" | "bigint" | "number" | "bool" | "text" | "binary" | "pid" | "list" | "map";
type OfWord<W> =
  W extends "int" | "number" ? number : W extends "bigint" ? bigint : W extends "bool" ? boolean
  : W extends "text" ? string : W extends "binary" | "pid" ? Uint8Array : W extends "list" ? any[]
  : W extends "map" ? Record<string, any> : any;
/** What a type of {@link Type} becomes. */
export type Checked<T> =
  T extends `${infer W}?` ? OfWord<W> | undefined
  : T extends string ? OfWord<T>
  : T extends readonly [infer E] ? Checked<E>[]
  : T extends object ? { [K in keyof T]: Checked<T[K]> } : never;

/** Handles a message. The parameters are those of the message, `{}` without any. May be async. */
export type Handler<S, P = any, R = any> = (state: S, parameters: P, context: Context) => R | Promise<R>;

/**
 * A handler whose parameters are checked: what does not fit is refused, and the handler does not
 * see it. `exuvia describe` shows the types.
 */
export function takes<S, const T extends { readonly [name: string]: Type }, R>(
  types: T,
  handler: (state: S, parameters: Checked<T>, context: Context) => R,
  about?: { /** The type of the reply, for people. */ returns?: string; docs?: string },
): Handler<S, any, Awaited<R>>;

/** Returns the parameters that the types name; throws a {@link Refusal} that names the field. */
export function check<const T extends { readonly [name: string]: Type }>(types: T, value: unknown): Checked<T>;

/** A request of HTTP. */
export interface HttpRequest {
  method: string;
  version: string;
  scheme: string;
  host: string;
  path: string;
  query: string;
  /** The parameters of the route's path. */
  params: Record<string, string>;
  headers: [string, string | Uint8Array][];
  peer: string;
  body: Uint8Array;
  /** The first header of this name. */
  header(name: string): string | undefined;
  text(): string;
  json(): any;
}

/** A response: a text or bytes alone, or with a status (200), headers, and a body or a value that becomes JSON. */
export type HttpResponse =
  | string
  | Uint8Array
  | { status?: number; headers?: Record<string, string> | [string, string][]; body?: string | Uint8Array; json?: unknown };

/** What an actor is. Handlers get the state and change it; what they return is the reply. */
export interface Definition<S extends object> {
  /** The number of the state's form; 0 without. Raise it when the same fields get another meaning. */
  schema?: number;
  /** What is saved, by field: `exuvia check OLD NEW` then knows which change loses or refuses it. Nothing at run time checks it. */
  state?: { readonly [name: string]: Type };
  /** The schemas of other versions that `load` takes, numbers and ranges (`[first, last]`), for the same. */
  loads?: readonly (number | readonly [first: number, last: number])[];
  /** Makes the state from the arguments of the start. An exception is a failed start. Not async. */
  init?(args: any): S;
  /** Messages by name: nothing is replied. Timers of {@link sendAfter} arrive here as well. */
  messages?: { [name: string]: Handler<S> };
  /** Requests by name: what the handler returns is replied. */
  requests?: { [name: string]: Handler<S> };
  /** Messages of no name here; with a tag other than 0 the value is the payload's bytes. */
  message?: Handler<S>;
  /** Requests of no name here; with a tag other than 0 the value is the payload's bytes. */
  request?: Handler<S>;
  /** Replies to {@link request}, not to {@link call}. Refusals have the tag `constants.TAG.REFUSED`. */
  reply?: Handler<S>;
  /** A process that is monitored, or that a {@link request} went to, has ended. */
  down?: Handler<S, { from: Pid; reference: Reference; reason: Reason }>;
  /** A linked process has ended, and exits are trapped (see {@link trapExit}). */
  exit?: Handler<S, { from: Pid; reason: Reason }>;
  /** A table has a new owner: this process. */
  table?: Handler<S, { from: Pid; table: bigint; tag: number }>;
  /** Requests of HTTP that a route of the manifest sends here. */
  http?: Handler<S, HttpRequest, HttpResponse>;
  /** What is saved for new code; without it, the whole state. Must not change the state. */
  save?(state: S): Value;
  /** Makes the state of what an earlier version saved. Without it, the own schema is taken as it is if it is what `state` says, and others are refused. */
  load?(saved: any, schema: number): S;
  /**
   * Other messages are handled while an async handler waits. Without it they wait until the handler
   * has ended: between its lines nobody else changes the state.
   */
  concurrent?: boolean;
}

/** Says what the process is. Call it once, at the top of the script. */
export function actor<S extends object>(definition: Definition<S>): Definition<S>;

/** Replies to a request that was kept. Nothing happens if nobody waits for it any more. */
export function reply(request: Request, value: Value): void;
/** Refuses a request that was kept. */
export function refuse(request: Request, why: string): void;
/** The process ends, reason normal, when the handler has ended. */
export function stop(): void;
/** Ends the process at once. The code is 0 (normal), 1 (shutdown), or from 256 on your own. */
export function exit(code?: number, text?: string): never;

export function self(): Pid;
/** Sends a message. To a process that has ended it is dropped. `MAILBOX_FULL`, `MESSAGE_TOO_LARGE`. */
export function send(to: Target, message: Message, options?: { tag?: number }): void;
/** Sends bytes as they are. */
export function sendBytes(to: Target, bytes: Uint8Array | string, options?: { tag?: number }): void;
/** Sends a message when the time has passed. It survives new code, and the end of this process. */
export function sendAfter(to: Target, delayMs: number, message: Message, options?: { tag?: number }): Reference;
/** The milliseconds that were left; undefined if it was too late. */
export function cancelTimer(timer: Reference): number | undefined;

/** `timeoutMs` is 5000 without; Infinity waits for ever. `raw`: the message is bytes as they are. */
export interface CallOptions {
  timeoutMs?: number;
  tag?: number;
  raw?: boolean;
}
/**
 * Sends a request; the reply when it is there. The process keeps no stack and may be paged out
 * meanwhile, but gets new code only when nothing is awaited any more. Rejects with {@link Refused},
 * or {@link HostError}: `TIMEOUT`, or `NOPROC` with the reason.
 */
export function call<R = any>(to: Target, message: Message, options?: CallOptions): Promise<R>;
/** The same, but waits on the stack: it keeps one of the node's frames, of which there are few. */
export function callSync<R = any>(to: Target, message: Message, options?: CallOptions): R;
/** Sends a request and does not wait: the reply goes to `reply` of the definition. */
export function request(to: Target, message: Message, options?: { tag?: number }): Reference;
export function sleep(ms: number): Promise<void>;
/** Waits on the stack. */
export function sleepSync(ms: number): void;

/** What {@link receive} takes: one of `tag`, `from` and `reference`. `timeoutMs` is Infinity without. */
export interface Selection {
  tag?: number;
  from?: Uint8Array;
  reference?: Reference;
  timeoutMs?: number;
}
/** A message that was selected. */
export interface Received {
  kind: "MESSAGE" | "REQUEST" | "REPLY" | "EXIT" | "DOWN" | "TIMER" | (string & {});
  from: Pid;
  tag: number;
  reference?: Reference;
  reason?: Reason;
  bytes: Uint8Array;
  /** The payload as a value; throws if it is no MessagePack. */
  readonly value: any;
}
/** Takes the first message that fits out of the mailbox, and leaves all others; undefined after the time. */
export function receive(which: Selection): Promise<Received | undefined>;
/** The same, and waits on the stack. */
export function receiveSync(which: Selection): Received | undefined;

/** Limits of a child, as far as they are below the parent's. */
export interface Limits {
  memory?: number;
  mailboxBytes?: number;
  mailboxMessages?: number;
  messageBytes?: number;
  children?: number;
  descendants?: number;
  tableBytes?: number;
  /** 1 low, 2 normal, 3 high. */
  priority?: number;
  files?: number;
}
export interface SpawnOptions {
  link?: boolean;
  monitor?: boolean;
  /** Waits on the stack until the child has started. `START_FAILED` otherwise. */
  sync?: boolean;
  /** With `sync`: 5000 without. */
  startTimeoutMs?: number;
  limits?: Limits;
  /** What of the system it may use, as in section 20 of the ABI; everything of the parent's without. */
  grants?: { dirs?: Record<string, string | { path: string; access: "read" | "write" }>; env?: Record<string, string>; args?: string[]; connect?: string[]; stdio?: "log" | "terminal" };
}
/** Starts a process of a module of the release; without a name, of this one. `reference` with `monitor`. */
export function spawn(module?: string, args?: Value, options?: SpawnOptions): { pid: Pid; reference?: Reference };
/** Starts a supervisor of the host; the specification is `[supervisor]` of the manifest. */
export function startSupervisor(specification: Value): Pid;

export function link(pid: Target): void;
export function unlink(pid: Target): void;
/** Watches a process: `down` is called when it ends. A name is looked up now. */
export function monitor(to: Target): Reference;
/** Also drops a `down` that has arrived. */
export function demonitor(reference: Reference): void;
/** Whether ends of linked processes are told to `exit` instead of ending this one; returns what it was. */
export function trapExit(on?: boolean): boolean;
/** Sends an exit signal. */
export function exitProcess(pid: Target, code: number, text?: string): void;
export function kill(pid: Target): void;
export function setPriority(priority: "low" | "normal" | "high"): "low" | "normal" | "high";

/** Gives a name to a process, this one without. `NAME_TAKEN`, `NOPROC`, `DENIED`. */
export function register(name: string, pid?: Uint8Array): void;
export function unregister(name: string): void;
export function whereis(name: string): Pid | undefined;

export const groups: {
  join(group: string, pid?: Uint8Array): void;
  leave(group: string, pid?: Uint8Array): void;
  members(group: string): Pid[];
  /** Sends to all members; returns how many have accepted it. */
  publish(group: string, message: Message, options?: { tag?: number }): number;
};

/** Rows outside of all memories, ordered by their keys' bytes. Keys are strings, bytes, or values in MessagePack; values are MessagePack. */
export class Table {
  static create(name?: string, access?: "protected" | "private" | "public"): Table;
  static find(name: string): Table | undefined;
  constructor(number: bigint);
  readonly number: bigint;
  get(key: Value): any;
  /** Whether there was such a row. */
  put(key: Value, value: Value): boolean;
  /** Stores it only if there is no such row; whether it did. */
  insert(key: Value, value: Value): boolean;
  delete(key: Value): boolean;
  /** Adds to a row of 8 bytes, which only `add` writes; returns the sum. */
  add(key: Value, amount?: number | bigint): bigint;
  keys(): IterableIterator<Uint8Array>;
  readonly size: number;
  readonly bytes: number;
  setHeir(pid: Uint8Array | undefined, tag?: number): void;
  give(pid: Uint8Array, tag?: number): void;
  end(): void;
}

/** A line of the node's log. `console` does the same. */
export const log: Record<"error" | "warn" | "info" | "debug", (...values: unknown[]) => void>;
/** A value as text, as the log shows it. */
export function inspect(value: unknown): string;

/** A value of the app's configuration; `"a.b"` is the path to it, nothing the whole. Undefined if there is none. */
export function config(key?: string): any;
/** Numbers about this process: reductions, mailbox, upgrades, limits. */
export function info(): Record<"reductions" | "mailbox" | "upgrades" | "abiMinor" | "messageBytes" | "mailboxBytes" | "mailboxMessages" | "memoryBytes", number>;
/** A variable of the environment that the manifest grants. */
export function env(name: string): string | undefined;

/** A file in a folder that the manifest grants. It stays open between messages; new code must open it again. Errors have `errno`. */
export class File {
  constructor(path: string, mode?: "r" | "w" | "a" | "r+");
  /** At most so many bytes (65,536); none at the end. */
  read(most?: number): Uint8Array;
  write(data: string | Uint8Array): void;
  seek(position: number): void;
  readonly size: number;
  close(): void;
}
export function readFile(path: string): Uint8Array;
export function readTextFile(path: string): string;
export function writeFile(path: string, data: string | Uint8Array): void;

export function encode(value: Value): Uint8Array;
/** Throws if the bytes are not exactly one value. */
export function decode(bytes: Uint8Array): any;

/** The numbers of the ABI. */
export * as constants from "./constants.js";

declare global {
  var console: Record<"error" | "warn" | "info" | "log" | "debug", (...values: unknown[]) => void> & { assert(condition: unknown, ...values: unknown[]): void };
  /** A callback later. While one is due the process gets no new code: {@link sendAfter} survives it. */
  function setTimeout<A extends unknown[]>(callback: (...values: A) => void, delayMs?: number, ...values: A): number;
  function clearTimeout(timer: number | undefined): void;
  /** From the node's source, fit for keys. */
  var crypto: { getRandomValues<A extends ArrayBufferView>(array: A): A; randomUUID(): string };
  class TextEncoder { readonly encoding: string; encode(text?: string): Uint8Array; }
  class TextDecoder { constructor(label?: "utf-8"); readonly encoding: string; decode(bytes?: ArrayBufferView | ArrayBuffer): string; }
}
