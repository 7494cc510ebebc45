/** Tests in Node: a module with a host that is a few maps. Needs no node of Exuvia. */

import type * as numbers from "./constants.js";

export const constants: typeof numbers;

export interface Sent {
  call: "send" | "request" | "send_after";
  to: Uint8Array;
  tag: number;
  payload: Uint8Array;
  /** Of `request` and `send_after`. */
  reference: bigint;
  delay?: bigint;
}

/** One process of a module, alone. Payloads are bytes: encode them with a MessagePack library of npm. */
export class TestProcess {
  /** A file, or its bytes. */
  constructor(module: string | Uint8Array);
  readonly pid: Uint8Array;
  readonly sent: Sent[];
  readonly replies: { to: Uint8Array; reference: bigint; tag: number; payload: Uint8Array }[];
  readonly logged: { level: number; text: string }[];
  /** What went to stderr: the stack of an exception that nobody has caught. */
  readonly printed: string;
  readonly names: Map<string, Uint8Array>;
  readonly ended?: { code: number; text: string };
  readonly acknowledged?: { status: number; text: string };
  /** Delivers a message and runs; returns 0 (rest), 1 (waiting) or 2 (done). Throws if the process traps. */
  deliver(message: { kind?: number; from?: Uint8Array; reference?: bigint; tag?: number; payload?: Uint8Array; reason?: number }): number;
  run(): number;
  request(payload: Uint8Array, options?: { tag?: number; from?: Uint8Array }): { tag: number; payload: Uint8Array } | undefined;
  save(): Uint8Array;
  /** 0, or not 0 if the state was refused: the last line of `logged` says why. */
  load(schema: number, state: Uint8Array): number;
}
