// Written by generate.mjs from guest-sdk/abi.json and guest-sdk/io.md: do not edit.

/** Takes a message out of the mailbox. */
// @ts-ignore: decorator
@external("exuvia", "receive")
export declare function host_receive(header: i32, buffer: i32, capacity: i32, timeout: i64, mode: i32, key: i64): i32;

/** Sends a message. */
// @ts-ignore: decorator
@external("exuvia", "send")
export declare function host_send(to: i32, tag: i32, data: i32, length: i32): i32;

/** Sends a request and monitors its receiver. */
// @ts-ignore: decorator
@external("exuvia", "request")
export declare function host_request(to: i32, tag: i32, data: i32, length: i32, referenceOut: i32): i32;

/** Sends a request and waits for its reply. */
// @ts-ignore: decorator
@external("exuvia", "call")
export declare function host_call(to: i32, tag: i32, data: i32, length: i32, header: i32, buffer: i32, capacity: i32, timeout: i64): i32;

/** Replies to a request. */
// @ts-ignore: decorator
@external("exuvia", "reply")
export declare function host_reply(to: i32, reference: i64, tag: i32, data: i32, length: i32): i32;

/** Starts a process. */
// @ts-ignore: decorator
@external("exuvia", "spawn")
export declare function host_spawn(module: i32, moduleLength: i32, arguments: i32, argumentsLength: i32, options: i32, pidOut: i32, referenceOut: i32): i32;

/** Acknowledges the start of the caller. */
// @ts-ignore: decorator
@external("exuvia", "init_ack")
export declare function host_init_ack(status: i32, data: i32, length: i32): i32;

/** Ends the caller; does not return. */
// @ts-ignore: decorator
@external("exuvia", "exit")
export declare function host_exit(code: i32, data: i32, length: i32): void;

/** Sends an exit signal. */
// @ts-ignore: decorator
@external("exuvia", "exit_process")
export declare function host_exit_process(pid: i32, code: i32, data: i32, length: i32): i32;

/** Ends a process unconditionally. */
// @ts-ignore: decorator
@external("exuvia", "kill")
export declare function host_kill(pid: i32): i32;

/** Links the caller to a process. */
// @ts-ignore: decorator
@external("exuvia", "link")
export declare function host_link(pid: i32): i32;

/** Removes a link. */
// @ts-ignore: decorator
@external("exuvia", "unlink")
export declare function host_unlink(pid: i32): i32;

/** Monitors a process. */
// @ts-ignore: decorator
@external("exuvia", "monitor")
export declare function host_monitor(pid: i32, referenceOut: i32): i32;

/** Removes a monitor or gives up a request. */
// @ts-ignore: decorator
@external("exuvia", "demonitor")
export declare function host_demonitor(reference: i64, flags: i32): i32;

/** Sets whether exit signals become messages; returns the former value. */
// @ts-ignore: decorator
@external("exuvia", "trap_exit")
export declare function host_trap_exit(on: i32): i32;

/** Gives a name to a process. */
// @ts-ignore: decorator
@external("exuvia", "register")
export declare function host_register(name: i32, length: i32, pid: i32): i32;

/** Releases a name. */
// @ts-ignore: decorator
@external("exuvia", "unregister")
export declare function host_unregister(name: i32, length: i32): i32;

/** Finds the process that has a name. */
// @ts-ignore: decorator
@external("exuvia", "whereis")
export declare function host_whereis(name: i32, length: i32, pidOut: i32): i32;

/** Writes the pid of the caller. */
// @ts-ignore: decorator
@external("exuvia", "self")
export declare function host_self(pidOut: i32): i32;

/** Sets a timer that sends a message. */
// @ts-ignore: decorator
@external("exuvia", "send_after")
export declare function host_send_after(to: i32, tag: i32, data: i32, length: i32, delay: i64, referenceOut: i32): i32;

/** Cancels a timer; returns the milliseconds that were left, or -1. */
// @ts-ignore: decorator
@external("exuvia", "cancel_timer")
export declare function host_cancel_timer(reference: i64): i64;

/** Waits. */
// @ts-ignore: decorator
@external("exuvia", "sleep")
export declare function host_sleep(time: i64): i32;

/** Writes a line to the node's log. */
// @ts-ignore: decorator
@external("exuvia", "log")
export declare function host_log(level: i32, text: i32, length: i32): i32;

/** Fills a buffer with random bytes. */
// @ts-ignore: decorator
@external("exuvia", "random")
export declare function host_random(buffer: i32, length: i32): i32;

/** Reads a clock, in nanoseconds. */
// @ts-ignore: decorator
@external("exuvia", "clock")
export declare function host_clock(which: i32): i64;

/** Returns a number about the caller. */
// @ts-ignore: decorator
@external("exuvia", "info")
export declare function host_info(what: i32): i64;

/** Saves the state; only inside `save`. */
// @ts-ignore: decorator
@external("exuvia", "state_put")
export declare function host_state_put(data: i32, length: i32): i32;

/** Fetches the saved state; only inside `load`. */
// @ts-ignore: decorator
@external("exuvia", "state_get")
export declare function host_state_get(buffer: i32, capacity: i32): i32;

/** Starts a host supervisor. */
// @ts-ignore: decorator
@external("exuvia", "supervisor_start")
export declare function host_supervisor_start(specification: i32, length: i32, pidOut: i32): i32;

/** Monitors the process that has a name. */
// @ts-ignore: decorator
@external("exuvia", "monitor_name")
export declare function host_monitor_name(name: i32, length: i32, pidOut: i32, referenceOut: i32): i32;

/** Sets how soon the caller gets its turns; returns the former priority. */
// @ts-ignore: decorator
@external("exuvia", "set_priority")
export declare function host_set_priority(priority: i32): i32;

/** Fetches a value of the app's configuration; returns its length. */
// @ts-ignore: decorator
@external("exuvia", "config")
export declare function host_config(key: i32, length: i32, buffer: i32, capacity: i32): i32;

/** Adds a process to a group. */
// @ts-ignore: decorator
@external("exuvia", "group_join")
export declare function host_group_join(group: i32, length: i32, pid: i32): i32;

/** Removes a process from a group. */
// @ts-ignore: decorator
@external("exuvia", "group_leave")
export declare function host_group_leave(group: i32, length: i32, pid: i32): i32;

/** Writes the members of a group; returns their number. */
// @ts-ignore: decorator
@external("exuvia", "group_members")
export declare function host_group_members(group: i32, length: i32, pidsOut: i32, howManyFit: i32): i32;

/** Sends a message to all members of a group; returns how many accepted it. */
// @ts-ignore: decorator
@external("exuvia", "publish")
export declare function host_publish(group: i32, groupLength: i32, tag: i32, data: i32, length: i32): i32;

/** Creates a table. */
// @ts-ignore: decorator
@external("exuvia", "table_new")
export declare function host_table_new(name: i32, length: i32, access: i32, tableOut: i32): i32;

/** Finds the table that has a name. */
// @ts-ignore: decorator
@external("exuvia", "table_find")
export declare function host_table_find(name: i32, length: i32, tableOut: i32): i32;

/** Stores a row; returns whether there was one. */
// @ts-ignore: decorator
@external("exuvia", "table_put")
export declare function host_table_put(table: i64, key: i32, keyLength: i32, value: i32, valueLength: i32, flags: i32): i32;

/** Fetches the value of a row; returns its length. */
// @ts-ignore: decorator
@external("exuvia", "table_get")
export declare function host_table_get(table: i64, key: i32, keyLength: i32, buffer: i32, capacity: i32): i32;

/** Removes a row; returns whether there was one. */
// @ts-ignore: decorator
@external("exuvia", "table_delete")
export declare function host_table_delete(table: i64, key: i32, keyLength: i32): i32;

/** Fetches the next key; returns its length. */
// @ts-ignore: decorator
@external("exuvia", "table_next")
export declare function host_table_next(table: i64, key: i32, keyLength: i32, buffer: i32, capacity: i32): i32;

/** Adds to a number. */
// @ts-ignore: decorator
@external("exuvia", "table_add")
export declare function host_table_add(table: i64, key: i32, keyLength: i32, amount: i64, sumOut: i32): i32;

/** Returns a number about a table. */
// @ts-ignore: decorator
@external("exuvia", "table_info")
export declare function host_table_info(table: i64, what: i32): i64;

/** Names the process that gets a table when its owner ends. */
// @ts-ignore: decorator
@external("exuvia", "table_heir")
export declare function host_table_heir(table: i64, pid: i32, tag: i32): i32;

/** Gives a table to another process. */
// @ts-ignore: decorator
@external("exuvia", "table_give")
export declare function host_table_give(table: i64, pid: i32, tag: i32): i32;

/** Ends a table. */
// @ts-ignore: decorator
@external("exuvia", "table_end")
export declare function host_table_end(table: i64): i32;

/** Makes memory zero, and gives it back to the system where it can. */
// @ts-ignore: decorator
@external("exuvia.optional", "discard")
export declare function host_discard(data: i32, length: i32): i32;
