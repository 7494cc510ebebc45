// Files and variables, as far as the manifest grants them: WASI, since the language has no library
// for them.

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_prestat_get")
declare function fd_prestat_get(fd: i32, out: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_prestat_dir_name")
declare function fd_prestat_dir_name(fd: i32, path: usize, length: i32): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "path_open")
declare function path_open(fd: i32, lookup: i32, path: usize, length: i32, flags: i32, rights: i64, inheriting: i64, fdFlags: i32, out: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: i32, parts: usize, count: i32, out: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: i32, parts: usize, count: i32, out: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_close")
declare function fd_close(fd: i32): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environ_sizes_get(count: usize, size: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_get")
declare function environ_get(pointers: usize, bytes: usize): i32;

import { textAt } from "./msgpack";

const OUT: usize = memory.data(8, 8);
const PART: usize = memory.data(8, 8);
const RIGHT_READ: i64 = 1 << 1;
const RIGHT_SEEK: i64 = 1 << 2;
const RIGHT_WRITE: i64 = 1 << 6;
const CREATE: i32 = 1;
const TRUNCATE: i32 = 8;
const APPEND: i32 = 1;
const FIRST_FOLDER: i32 = 3;
const EBADF: i32 = 8;
const ENOENT: i32 = 44;

/** A file that is open. It stays open between messages; new code must open it again. */
export class File {
  private constructor(private readonly fd: i32) {}

  /** The number of the last error, as WASI has them: 44 is no such file, 2 access, 76 not granted. */
  static error: i32 = 0;

  /** Opens a file; the mode is "r", "w" (anew) or "a" (append). null: see `error`. */
  static open(path: string, mode: string = "r"): File | null {
    const whole = String.UTF8.encode(path);
    let best = -1;
    let bestLength = -1;
    for (let fd = FIRST_FOLDER; ; fd++) {
      const code = fd_prestat_get(fd, OUT);
      if (code == EBADF) break;
      const length = load<i32>(OUT, 4);
      const name = new ArrayBuffer(length);
      if (code || fd_prestat_dir_name(fd, changetype<usize>(name), length)) continue;
      if (length <= bestLength || length > whole.byteLength) continue;
      if (memory.compare(changetype<usize>(name), changetype<usize>(whole), length)) continue;
      const isPart = length == whole.byteLength || load<u8>(changetype<usize>(whole) + length) == 0x2f || (length && load<u8>(changetype<usize>(name) + length - 1) == 0x2f);
      if (!isPart) continue;
      best = fd;
      bestLength = length;
    }
    store<u64>(OUT, 0);
    if (best < 0) {
      File.error = ENOENT;
      return null;
    }
    let from = bestLength;
    while (from < whole.byteLength && load<u8>(changetype<usize>(whole) + from) == 0x2f) from++;
    const writes = mode != "r";
    const code = path_open(best, 1, changetype<usize>(whole) + from, whole.byteLength - from,
      writes ? (mode == "a" ? CREATE : CREATE | TRUNCATE) : 0, writes ? RIGHT_WRITE | RIGHT_SEEK : RIGHT_READ | RIGHT_SEEK, 0, mode == "a" ? APPEND : 0, OUT);
    const fd = load<i32>(OUT);
    store<u64>(OUT, 0);
    File.error = code;
    return code ? null : new File(fd);
  }

  /** At most so many bytes; none at the end, or if it failed. */
  read(most: i32 = 65536): Uint8Array {
    const bytes = new Uint8Array(most);
    store<usize>(PART, bytes.dataStart);
    store<i32>(PART, most, 4);
    File.error = fd_read(this.fd, PART, 1, OUT);
    const length = File.error ? 0 : load<i32>(OUT);
    store<u64>(OUT, 0);
    store<u64>(PART, 0);
    return bytes.subarray(0, length);
  }
  /** The rest of the file as text. */
  readText(): string {
    let all = new Uint8Array(0);
    while (true) {
      const part = this.read();
      if (!part.length) return textAt(all.dataStart, all.length);
      const longer = new Uint8Array(all.length + part.length);
      longer.set(all);
      longer.set(part, all.length);
      all = longer;
    }
  }
  /** Whether all was written. */
  write(bytes: Uint8Array): bool {
    for (let at = 0; at < bytes.length; ) {
      store<usize>(PART, bytes.dataStart + at);
      store<i32>(PART, bytes.length - at, 4);
      File.error = fd_write(this.fd, PART, 1, OUT);
      const length = File.error ? 0 : load<i32>(OUT);
      store<u64>(OUT, 0);
      store<u64>(PART, 0);
      if (!length) return false;
      at += length;
    }
    return true;
  }
  close(): void { File.error = fd_close(this.fd); }
}

/** A variable of the environment that the manifest grants; null if there is none. */
export function env(name: string): string | null {
  if (environ_sizes_get(OUT, OUT + 4)) return null;
  const count = load<i32>(OUT);
  const size = load<i32>(OUT, 4);
  store<u64>(OUT, 0);
  const pointers = new ArrayBuffer(4 * count);
  const bytes = new ArrayBuffer(size);
  if (environ_get(changetype<usize>(pointers), changetype<usize>(bytes))) return null;
  const wanted = name + "=";
  for (let i = 0; i < count; i++) {
    const at: usize = load<u32>(changetype<usize>(pointers) + 4 * i);
    let length = 0;
    while (load<u8>(at + length)) length++;
    const text = textAt(at, length);
    if (text.startsWith(wanted)) return text.substring(wanted.length);
  }
  return null;
}
