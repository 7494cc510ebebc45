// Actors of Exuvia in AssemblyScript: everything public.

export { Pid, Slice, Decoder, Encoder, Fields, Type } from "./msgpack";
export {
  ABI, Kind, Code, ReasonCode, Run, Receive, Level, Clock, Info, Priority, Access,
  TAG_HTTP_REQUEST, TAG_HTTP_RESPONSE, TAG_HTTP_STREAM, TAG_SOCKET_ACCEPT, TAG_SOCKET_OPEN, TAG_SOCKET_TEXT,
  TAG_SOCKET_DATA, TAG_SOCKET_END, TAG_SOCKET_CLOSE, TAG_SOCKET_READ, TAG_SOCKET_DATAGRAM, TAG_REFUSED,
} from "./constants";
export { Message, Outcome, Request } from "./message";
export { Actor, start, stop, run, save, load, exuvia_abi } from "./actor";
export {
  self, send, sendBytes, sendAfter, cancelTimer, request, call, reply, refuse, receive, sleep, spawn, SpawnOptions, Spawned,
  link, unlink, monitor, demonitor, trapExit, exit, exitProcess, kill, setPriority, register, unregister, whereis,
  groupJoin, groupLeave, groupMembers, publish, config, info, clock, randomBytes, Table,
} from "./process";
export { log } from "./log";
export { File, env } from "./files";
