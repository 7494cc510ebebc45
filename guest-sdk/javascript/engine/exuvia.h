/* The host calls that the engine uses: section 8 of the ABI. Numbers are in constants.h. */
#ifndef EXUVIA_ENGINE_H
#define EXUVIA_ENGINE_H

#include "constants.h"
#include <stddef.h>
#include <stdint.h>

/* Where the build step has put the script: it writes these two words into the module. */
typedef struct {
  const char *text;
  uint32_t length;
} script_place;
extern volatile script_place exuvia_script;

/* Bytes of all living blocks, in size classes. */
size_t heap_allocated(void);

typedef struct {
  uint32_t size;
  uint32_t kind;
  uint8_t sender[16];
  int64_t reference;
  uint32_t tag;
  uint32_t length;
  int32_t reason;
  uint32_t reserved;
} host_header;
_Static_assert(sizeof(host_header) == 48, "as section 4 has it");

#define HOST(name) __attribute__((import_module("exuvia"), import_name(#name)))
#define OPTIONAL(name) __attribute__((import_module("exuvia.optional"), import_name(#name)))
typedef const void *in;

HOST(receive) int32_t host_receive(host_header *, void *, uint32_t, int64_t, int32_t, int64_t);
HOST(send) int32_t host_send(in to, uint32_t tag, in data, uint32_t length);
HOST(request) int32_t host_request(in to, uint32_t tag, in data, uint32_t length, int64_t *reference);
HOST(call) int32_t host_call(in to, uint32_t tag, in, uint32_t, host_header *, void *, uint32_t, int64_t);
HOST(reply) int32_t host_reply(in to, int64_t reference, uint32_t tag, in data, uint32_t length);
HOST(spawn) int32_t host_spawn(in, uint32_t, in, uint32_t, in options, void *pid, int64_t *reference);
HOST(init_ack) int32_t host_init_ack(int32_t status, in data, uint32_t length);
HOST(exit) void host_exit(int32_t code, in data, uint32_t length);
HOST(exit_process) int32_t host_exit_process(in pid, int32_t code, in data, uint32_t length);
HOST(kill) int32_t host_kill(in pid);
HOST(link) int32_t host_link(in pid);
HOST(unlink) int32_t host_unlink(in pid);
HOST(monitor) int32_t host_monitor(in pid, int64_t *reference);
HOST(demonitor) int32_t host_demonitor(int64_t reference, int32_t flags);
HOST(trap_exit) int32_t host_trap_exit(int32_t on);
HOST(register) int32_t host_register(in name, uint32_t length, in pid);
HOST(unregister) int32_t host_unregister(in name, uint32_t length);
HOST(whereis) int32_t host_whereis(in name, uint32_t length, void *pid);
HOST(self) int32_t host_self(void *pid);
HOST(send_after) int32_t host_send_after(in, uint32_t, in, uint32_t, int64_t delay, int64_t *reference);
HOST(cancel_timer) int64_t host_cancel_timer(int64_t reference);
HOST(sleep) int32_t host_sleep(int64_t time);
HOST(log) int32_t host_log(int32_t level, in text, uint32_t length);
HOST(random) int32_t host_random(void *, uint32_t);
HOST(info) int64_t host_info(int32_t what);
HOST(state_put) int32_t host_state_put(in data, uint32_t length);
HOST(state_get) int32_t host_state_get(void *, uint32_t);
HOST(supervisor_start) int32_t host_supervisor_start(in, uint32_t, void *pid);
HOST(monitor_name) int32_t host_monitor_name(in name, uint32_t, void *pid, int64_t *reference);
HOST(set_priority) int32_t host_set_priority(int32_t priority);
HOST(config) int32_t host_config(in key, uint32_t, void *, uint32_t);
HOST(group_join) int32_t host_group_join(in, uint32_t, in pid);
HOST(group_leave) int32_t host_group_leave(in, uint32_t, in pid);
HOST(group_members) int32_t host_group_members(in, uint32_t, void *, uint32_t);
HOST(publish) int32_t host_publish(in, uint32_t, uint32_t tag, in data, uint32_t length);
HOST(table_new) int32_t host_table_new(in, uint32_t, int32_t access, int64_t *table);
HOST(table_find) int32_t host_table_find(in, uint32_t, int64_t *table);
HOST(table_put) int32_t host_table_put(int64_t, in, uint32_t, in, uint32_t, int32_t flags);
HOST(table_get) int32_t host_table_get(int64_t, in, uint32_t, void *, uint32_t);
HOST(table_delete) int32_t host_table_delete(int64_t, in, uint32_t);
HOST(table_next) int32_t host_table_next(int64_t, in, uint32_t, void *, uint32_t);
HOST(table_add) int32_t host_table_add(int64_t, in, uint32_t, int64_t amount, int64_t *sum);
HOST(table_info) int64_t host_table_info(int64_t, int32_t what);
HOST(table_heir) int32_t host_table_heir(int64_t, in pid, uint32_t tag);
HOST(table_give) int32_t host_table_give(int64_t, in pid, uint32_t tag);
HOST(table_end) int32_t host_table_end(int64_t);
OPTIONAL(discard) int32_t host_discard(void *, uint32_t);

#endif
