/*
 * Lua as a guest: a process that runs the chunks of Lua that it is sent. An error in Lua is a longjmp, and so an exception of Wasm, which lua_pcall catches: the
 * request is refused, and the process lives on with the values that it has.
 */
#include <exuvia.h>
#include <string.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static lua_State *lua;

static const luaL_Reg libraries[] = {
    {LUA_GNAME, luaopen_base},        {LUA_TABLIBNAME, luaopen_table}, {LUA_STRLIBNAME, luaopen_string},
    {LUA_MATHLIBNAME, luaopen_math}, {LUA_COLIBNAME, luaopen_coroutine},
};

/* The started interpreter is in the base that all processes share. */
static void start(void) {
    lua = luaL_newstate();
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        luaL_requiref(lua, libraries[i].name, libraries[i].func, 1);
        lua_pop(lua, 1);
    }
    lua_gc(lua, LUA_GCCOLLECT, 0);
}

static void run(exuvia_message *m) {
    exuvia_text chunk = exuvia_get_text(m, "chunk");
    if (!exuvia_ok(m)) return;
    if (luaL_loadbuffer(lua, chunk.at, chunk.length, "=chunk") || lua_pcall(lua, 0, 1, 0)) exuvia_refuse(m, "%s", luaL_tolstring(lua, -1, NULL));
    else if (lua_isinteger(lua, -1)) exuvia_reply_int(m, lua_tointeger(lua, -1));
    else exuvia_reply_text(m, luaL_tolstring(lua, -1, NULL));
    lua_settop(lua, 0);
}

static const exuvia_entry requests[] = {{"Run", run}, {0}};

EXUVIA_ACTOR(.schema = 1, .warm_up = start, .requests = requests)

/* The library for files, of which Lua gets no function here, looks for folders as it starts. */
EXUVIA_SHARED_START
