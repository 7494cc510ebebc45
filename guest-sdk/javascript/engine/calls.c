/* The host calls that are no messages, and files: as functions of the object `exuviaEngine`. */

#include "glue.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- processes ---- */

static JSValue pid_and_reference_or(JSContext *c, int32_t code, const uint8_t *pid, int64_t reference) {
  if (code < 0) return number(c, code);
  JSValue pair = JS_NewArray(c);
  JS_SetPropertyUint32(c, pair, 0, new_pid(c, pid));
  JS_SetPropertyUint32(c, pair, 1, JS_NewBigInt64(c, reference));
  return pair;
}
/* A call of the host with a name and a pid. */
static JSValue name_and_pid(JSContext *c, JSValueConst *a, int32_t (*call)(in, uint32_t, in)) {
  WITH_PID(pid, a[1]);
  WITH_BYTES(b, a[0]);
  int32_t code = call(b.bytes, (uint32_t)b.length, pid);
  bytes_end(c, &b);
  return number(c, code);
}

/* spawn(module, args, options, grants): the pid and the monitor's reference, or a code and maybe a
   pid. `options` are the bytes of the structure, whose pointers are written here. */
FUNCTION(spawn) {
  WITH_VALUE(arguments, a[1]);
  bytes_of module, options, grants;
  int failed = bytes_begin(c, &module, a[0]);
  failed |= bytes_begin(c, &options, a[2]);
  failed |= bytes_begin(c, &grants, a[3]);
  uint8_t structure[OPTIONS_SIZE] = {0};
  uint8_t pid[16] = {0};
  int64_t reference = 0;
  int32_t code = CODE_BAD_ARGUMENT;
  if (!failed && options.length == OPTIONS_SIZE) {
    memcpy(structure, options.bytes, OPTIONS_SIZE);
    uint32_t place[2] = {grants.length ? (uint32_t)(uintptr_t)grants.bytes : 0, (uint32_t)grants.length};
    memcpy(structure + OPTIONS_GRANTS, place, 8);
    int nothing = JS_IsUndefined(a[1]);
    code = host_spawn(module.bytes, (uint32_t)module.length, arguments.bytes,
                      nothing ? 0 : (uint32_t)arguments.length, structure, pid, &reference);
  }
  bytes_end(c, &module);
  bytes_end(c, &options);
  bytes_end(c, &grants);
  writer_end(&arguments);
  if (failed) return JS_EXCEPTION;
  return pid_and_reference_or(c, code, pid, reference);
}
FUNCTION(startSupervisor) {
  WITH_VALUE(w, a[0]);
  uint8_t pid[16];
  int32_t code = host_supervisor_start(w.bytes, (uint32_t)w.length, pid);
  writer_end(&w);
  return pid_or(c, code, pid);
}
FUNCTION(initAck) {
  WITH_UINT(status, a[0]);
  WITH_BYTES(b, a[1]);
  int32_t code = host_init_ack((int32_t)status, b.bytes, (uint32_t)b.length);
  bytes_end(c, &b);
  return number(c, code);
}
FUNCTION(exit) {
  WITH_UINT(code, a[0]);
  WITH_BYTES(b, a[1]);
  host_exit((int32_t)code, b.bytes, (uint32_t)b.length);
  __builtin_trap();
}
FUNCTION(exitProcess) {
  WITH_PID(pid, a[0]);
  WITH_UINT(code, a[1]);
  WITH_BYTES(b, a[2]);
  int32_t result = host_exit_process(pid, (int32_t)code, b.bytes, (uint32_t)b.length);
  bytes_end(c, &b);
  return number(c, result);
}
FUNCTION(kill) {
  WITH_PID(pid, a[0]);
  return number(c, host_kill(pid));
}
FUNCTION(link) {
  WITH_PID(pid, a[0]);
  return number(c, host_link(pid));
}
FUNCTION(unlink) {
  WITH_PID(pid, a[0]);
  return number(c, host_unlink(pid));
}
FUNCTION(monitor) {
  WITH_PID(pid, a[0]);
  int64_t reference = 0;
  return reference_or(c, host_monitor(pid, &reference), reference);
}
FUNCTION(demonitor) {
  WITH_REFERENCE(reference, a[0]);
  return number(c, host_demonitor(reference, DEMONITOR_FLUSH));
}
FUNCTION(trapExit) { return number(c, host_trap_exit(JS_ToBool(c, a[0]))); }
FUNCTION(setPriority) {
  WITH_UINT(priority, a[0]);
  return number(c, host_set_priority((int32_t)priority));
}
FUNCTION(register) { return name_and_pid(c, a, host_register); }
FUNCTION(unregister) {
  WITH_BYTES(b, a[0]);
  int32_t code = host_unregister(b.bytes, (uint32_t)b.length);
  bytes_end(c, &b);
  return number(c, code);
}
FUNCTION(whereis) {
  WITH_BYTES(b, a[0]);
  uint8_t pid[16];
  int32_t code = host_whereis(b.bytes, (uint32_t)b.length, pid);
  bytes_end(c, &b);
  return pid_or(c, code, pid);
}
/* monitorName(name): the pid and the reference */
FUNCTION(monitorName) {
  WITH_BYTES(b, a[0]);
  uint8_t pid[16];
  int64_t reference = 0;
  int32_t code = host_monitor_name(b.bytes, (uint32_t)b.length, pid, &reference);
  bytes_end(c, &b);
  return pid_and_reference_or(c, code, pid, reference);
}
FUNCTION(self) {
  uint8_t pid[16];
  return pid_or(c, host_self(pid), pid);
}
FUNCTION(groupJoin) { return name_and_pid(c, a, host_group_join); }
FUNCTION(groupLeave) { return name_and_pid(c, a, host_group_leave); }
FUNCTION(groupMembers) {
  WITH_BYTES(b, a[0]);
  uint8_t *pids = NULL;
  int32_t fit = 0, count;
  /* Again if there are more than fit: it may have grown since. */
  while ((count = host_group_members(b.bytes, (uint32_t)b.length, pids, (uint32_t)fit)) > fit) {
    free(pids);
    pids = malloc((size_t)count * 16);
    if (!pids) {
      bytes_end(c, &b);
      return JS_ThrowOutOfMemory(c);
    }
    fit = count;
  }
  bytes_end(c, &b);
  JSValue list = count < 0 ? number(c, count) : JS_NewArray(c);
  for (int32_t i = 0; i < count; i++) JS_SetPropertyUint32(c, list, (uint32_t)i, new_pid(c, pids + 16 * i));
  free(pids);
  return list;
}

/* ---- log, time, random numbers, configuration ---- */

FUNCTION(log) {
  WITH_UINT(level, a[0]);
  WITH_BYTES(b, a[1]);
  int32_t code = host_log((int32_t)level, b.bytes, (uint32_t)b.length);
  bytes_end(c, &b);
  return number(c, code);
}
FUNCTION(info) {
  WITH_UINT(what, a[0]);
  return number(c, host_info((int32_t)what));
}
/* Random bytes into an array; 65,536 at once is what the host gives. */
FUNCTION(randomInto) {
  WITH_BYTES(b, a[0]);
  for (size_t at = 0; at < b.length; at += 65536) {
    size_t n = b.length - at < 65536 ? b.length - at : 65536;
    if (host_random((uint8_t *)b.bytes + at, (uint32_t)n)) return JS_ThrowInternalError(c, "no random bytes");
  }
  return JS_DupValue(c, a[0]);
}
/* Math.random: xorshift64*, seeded at the first use in a process and not in the base. */
static uint64_t random_state;
static int seeded;
FUNCTION(random) {
  if (!seeded) {
    if (host_random(&random_state, 8)) return JS_ThrowInternalError(c, "no random bytes");
    random_state |= 1;
    seeded = 1;
  }
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return JS_NewFloat64(c, (double)((random_state * 0x2545f4914f6cdd1dULL) >> 11) / 9007199254740992.0);
}
FUNCTION(utf8) {
  WITH_BYTES(b, a[0]);
  JSValue v = JS_NewUint8ArrayCopy(c, b.bytes, b.length);
  bytes_end(c, &b);
  return v;
}
FUNCTION(fromUtf8) {
  WITH_BYTES(b, a[0]);
  JSValue v = JS_NewStringLen(c, (const char *)b.bytes, b.length);
  bytes_end(c, &b);
  return v;
}

/* What a host call fetches whose result is a length, and that writes if it fits. */
typedef int32_t fetch(void *with, void *into, uint32_t capacity);
static JSValue fetched(JSContext *c, fetch *f, void *with) {
  uint8_t here[256], *into = here;
  uint32_t capacity = sizeof here;
  int32_t length;
  while ((length = f(with, into, capacity)) > (int32_t)capacity) {
    if (into != here) free(into);
    capacity = (uint32_t)length;
    into = malloc(capacity);
    if (!into) return JS_ThrowOutOfMemory(c);
  }
  JSValue v = length == CODE_EMPTY ? JS_UNDEFINED
              : length < 0         ? number(c, length)
                                   : JS_NewUint8ArrayCopy(c, into, (size_t)length);
  if (into != here) free(into);
  return v;
}
static int32_t fetch_config(void *with, void *into, uint32_t capacity) {
  bytes_of *key = with;
  return host_config(key->bytes, (uint32_t)key->length, into, capacity);
}
FUNCTION(config) {
  WITH_BYTES(b, a[0]);
  JSValue v = fetched(c, fetch_config, &b);
  bytes_end(c, &b);
  return v;
}

/* ---- tables ---- */

typedef struct {
  int64_t table;
  bytes_of key;
} row;
static int32_t fetch_row(void *with, void *into, uint32_t capacity) {
  row *r = with;
  return host_table_get(r->table, r->key.bytes, (uint32_t)r->key.length, into, capacity);
}
static int32_t fetch_next(void *with, void *into, uint32_t capacity) {
  row *r = with;
  return host_table_next(r->table, r->key.bytes, (uint32_t)r->key.length, into, capacity);
}
#define WITH_ROW(r)                                                                                                    \
  row r;                                                                                                               \
  if (JS_ToBigInt64(c, &r.table, a[0]) || bytes_begin(c, &r.key, a[1])) return JS_EXCEPTION

FUNCTION(tableNew) {
  WITH_UINT(access, a[1]);
  WITH_BYTES(b, a[0]);
  int64_t table = 0;
  int32_t code = host_table_new(b.bytes, (uint32_t)b.length, (int32_t)access, &table);
  bytes_end(c, &b);
  return reference_or(c, code, table);
}
FUNCTION(tableFind) {
  WITH_BYTES(b, a[0]);
  int64_t table = 0;
  int32_t code = host_table_find(b.bytes, (uint32_t)b.length, &table);
  bytes_end(c, &b);
  return reference_or(c, code, table);
}
/* tablePut(table, key, bytes, flags) */
FUNCTION(tablePut) {
  WITH_UINT(flags, a[3]);
  WITH_ROW(r);
  bytes_of b;
  if (bytes_begin(c, &b, a[2])) {
    bytes_end(c, &r.key);
    return JS_EXCEPTION;
  }
  int32_t code = host_table_put(r.table, r.key.bytes, (uint32_t)r.key.length, b.bytes, (uint32_t)b.length, (int32_t)flags);
  bytes_end(c, &b);
  bytes_end(c, &r.key);
  return number(c, code);
}
FUNCTION(tableGet) {
  WITH_ROW(r);
  JSValue v = fetched(c, fetch_row, &r);
  bytes_end(c, &r.key);
  return v;
}
FUNCTION(tableNext) {
  WITH_ROW(r);
  JSValue v = fetched(c, fetch_next, &r);
  bytes_end(c, &r.key);
  return v;
}
FUNCTION(tableDelete) {
  WITH_ROW(r);
  int32_t code = host_table_delete(r.table, r.key.bytes, (uint32_t)r.key.length);
  bytes_end(c, &r.key);
  return number(c, code);
}
FUNCTION(tableAdd) {
  WITH_REFERENCE(amount, a[2]);
  WITH_ROW(r);
  int64_t sum = 0;
  int32_t code = host_table_add(r.table, r.key.bytes, (uint32_t)r.key.length, amount, &sum);
  bytes_end(c, &r.key);
  return reference_or(c, code, sum);
}
FUNCTION(tableInfo) {
  WITH_REFERENCE(table, a[0]);
  WITH_UINT(what, a[1]);
  return number(c, host_table_info(table, (int32_t)what));
}
FUNCTION(tableHeir) {
  WITH_REFERENCE(table, a[0]);
  WITH_UINT(tag, a[2]);
  uint8_t pid[16];
  int none = pid_or_none(c, a[1], pid);
  if (none < 0) return JS_EXCEPTION;
  return number(c, host_table_heir(table, none ? NULL : pid, tag));
}
FUNCTION(tableGive) {
  WITH_REFERENCE(table, a[0]);
  WITH_UINT(tag, a[2]);
  WITH_PID(pid, a[1]);
  return number(c, host_table_give(table, pid, tag));
}
FUNCTION(tableEnd) {
  WITH_REFERENCE(table, a[0]);
  return number(c, host_table_end(table));
}

/* ---- files and environment ---- */

static JSValue system_error(JSContext *c, const char *what, const char *path) {
  int number_of = errno;
  JSValue error = JS_NewPlainError(c, "%s%s%s: %s", what, path ? " " : "", path ? path : "", strerror(number_of));
  JS_SetPropertyStr(c, error, "errno", JS_NewInt32(c, number_of));
  return JS_Throw(c, error);
}
/* open(path, flags): 0 read, 1 write anew, 2 append, 3 read and write */
FUNCTION(open) {
  static const int flags_of[] = {O_RDONLY, O_WRONLY | O_CREAT | O_TRUNC, O_WRONLY | O_CREAT | O_APPEND, O_RDWR | O_CREAT};
  WITH_UINT(how, a[1]);
  const char *path = JS_ToCString(c, a[0]);
  if (!path) return JS_EXCEPTION;
  int fd = open(path, flags_of[how & 3], 0666);
  JSValue v = fd < 0 ? system_error(c, "could not open", path) : number(c, fd);
  JS_FreeCString(c, path);
  return v;
}
/* read(fd, most): the bytes, none at the end */
FUNCTION(read) {
  WITH_UINT(fd, a[0]);
  WITH_UINT(most, a[1]);
  uint8_t *into = malloc(most);
  if (!into) return JS_ThrowOutOfMemory(c);
  ssize_t n = read((int)fd, into, most);
  JSValue v = n < 0 ? system_error(c, "could not read", NULL) : JS_NewUint8ArrayCopy(c, into, (size_t)n);
  free(into);
  return v;
}
FUNCTION(write) {
  WITH_UINT(fd, a[0]);
  WITH_BYTES(b, a[1]);
  ssize_t n = 0;
  for (size_t at = 0; at < b.length; at += (size_t)n) {
    n = write((int)fd, b.bytes + at, b.length - at);
    if (n <= 0) break;
  }
  JSValue v = n < 0 ? system_error(c, "could not write", NULL) : JS_UNDEFINED;
  bytes_end(c, &b);
  return v;
}
FUNCTION(seek) {
  WITH_UINT(fd, a[0]);
  WITH_TIME(to, a[1]);
  off_t at = lseek((int)fd, to, SEEK_SET);
  return at < 0 ? system_error(c, "could not seek", NULL) : number(c, at);
}
FUNCTION(close) {
  WITH_UINT(fd, a[0]);
  return close((int)fd) ? system_error(c, "could not close", NULL) : JS_UNDEFINED;
}
FUNCTION(fileSize) {
  WITH_UINT(fd, a[0]);
  struct stat st;
  return fstat((int)fd, &st) ? system_error(c, "could not look at the file", NULL) : number(c, st.st_size);
}
FUNCTION(env) {
  const char *name = JS_ToCString(c, a[0]);
  if (!name) return JS_EXCEPTION;
  const char *found = getenv(name);
  JSValue v = found ? JS_NewString(c, found) : JS_UNDEFINED;
  JS_FreeCString(c, name);
  return v;
}

const function_of_engine call_functions[] = {
    F(spawn, 4), F(startSupervisor, 1), F(initAck, 2), F(exit, 2), F(exitProcess, 3), F(kill, 1), F(link, 1),
    F(unlink, 1), F(monitor, 1), F(demonitor, 1), F(trapExit, 1), F(setPriority, 1), F(register, 2),
    F(unregister, 1), F(whereis, 1), F(monitorName, 1), F(self, 0), F(groupJoin, 2), F(groupLeave, 2),
    F(groupMembers, 1), F(log, 2), F(info, 1), F(randomInto, 1), F(random, 0), F(utf8, 1),
    F(fromUtf8, 1), F(config, 1), F(tableNew, 2), F(tableFind, 1), F(tablePut, 4), F(tableGet, 2),
    F(tableNext, 2), F(tableDelete, 2), F(tableAdd, 3), F(tableInfo, 2), F(tableHeir, 3), F(tableGive, 3),
    F(tableEnd, 1), F(open, 2), F(read, 2), F(write, 2), F(seek, 2), F(close, 1), F(fileSize, 1), F(env, 1),
};
const size_t call_count = sizeof call_functions / sizeof call_functions[0];
