import { host_log } from "./host";
import { Level } from "./constants";

function line(level: Level, text: string): void {
  const bytes = String.UTF8.encode(text);
  host_log(level, i32(changetype<usize>(bytes)), bytes.byteLength);
}

/** Lines of the node's log. */
export namespace log {
  export function error(text: string): void { line(Level.ERROR, text); }
  export function warn(text: string): void { line(Level.WARN, text); }
  export function info(text: string): void { line(Level.INFO, text); }
  export function debug(text: string): void { line(Level.DEBUG, text); }
}

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: i32, parts: usize, count: i32, written: usize): i32;

let loading: bool = false;
/** While a state is loaded, what fails is shown by the last line of the log. */
export function setLoading(on: bool): void { loading = on; }

const PART: usize = memory.data(8);
const WRITTEN: usize = memory.data(4);

/**
 * In place of the compiler's own (`--use abort=...`), for `throw` and failed assertions: what is
 * printed here is part of the reason with which the process ends.
 */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const text = String.UTF8.encode("uncaught error: " + (message ? message : "abort") + "\n    at " + (file ? file : "?") + ":" + line.toString() + ":" + column.toString() + "\n");
  store<usize>(PART, changetype<usize>(text));
  store<i32>(PART, text.byteLength, 4);
  fd_write(2, PART, 1, WRITTEN);
  if (loading) host_log(Level.ERROR, i32(changetype<usize>(text)), text.byteLength - 1);
  unreachable();
}
