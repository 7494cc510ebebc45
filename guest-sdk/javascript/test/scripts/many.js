// What actor.test.mjs tries.
import { actor, call, decode, encode, receive, sleep, takes, setPriority, inspect, Refusal, reply } from "exuvia-actor";
let kept;
actor({
  schema: 1,
  init: (args) => ({ count: args?.start ?? 0, log: [] }),
  messages: {
    Add: takes({ by: "int" }, (state, { by }) => void (state.count += by)),
    Slow: async (state) => { state.log.push("begin"); await sleep(5); state.log.push("end"); },
    Reject: () => { Promise.reject(new Error("nobody handles this")); },
    Throw: () => { throw new Error("thrown here", { cause: new TypeError("the cause") }); },
    Stuck: () => new Promise(() => {}),
    Deep: (state) => { const f = (n) => 1 + f(n + 1); try { f(0); } catch (error) { state.log.push(error.name); } },
    Nested: (state) => { for (const f of [() => JSON.parse("[".repeat(50000)), () => { let v = 1; for (let i = 0; i < 20000; i++) v = [v]; JSON.stringify(v); }]) { try { f(); } catch (error) { state.log.push(error.name); } } },
    Timeout: (state) => { setTimeout((text) => state.log.push(text), 10, "fired"); },
    Cycle: () => { for (let i = 0; i < 200; i++) { const a = { data: "x".repeat(100) }; a.a = a; } },
  },
  requests: {
    Get: (state) => state.count,
    Log: (state) => state.log.splice(0),
    Echo: (state, { value }) => value,
    Refuse: () => { throw new Refusal("no"); },
    Call: async (state, { to }) => { try { return await call(to, "Get", { timeoutMs: 50 }); } catch (error) { return `${error.name} ${error.code ?? error.message}`; } },
    Wait: async (state, { tag }) => (await receive({ tag, timeoutMs: 50 }))?.value ?? null,
    Keep: (state, _, context) => void (kept = context.later()),
    Release: (state, { value }) => { reply(kept, value); return null; },
    Inspect: () => [inspect({ a: [1, "b", 2n, null, undefined], m: new Map([[1, 2]]), b: new Uint8Array([1, 255]) }), inspect("plain")],
    Text: () => [new TextDecoder().decode(new TextEncoder().encode("aé😀")), new TextEncoder().encode("é").length],
    Bad: (state, { value }) => { const errors = []; for (const what of [() => 1, Symbol("s"), new Set(), new Date(0), Promise.resolve(), 2n ** 70n, { f() {} }]) { try { encode(what); errors.push("none"); } catch (error) { errors.push(error.message); } } const self = {}; self.self = self; try { encode(self); } catch (error) { errors.push(error.message); } return errors; },
    Random: () => [Math.random(), crypto.randomUUID(), crypto.getRandomValues(new Uint8Array(8))],
    Pair: () => decode(encode({ __proto__: null, ["__proto__"]: 5 })),
  },
  reply: (state, value) => void state.log.push(value),
  http: (state, request) => ({ json: { count: state.count, accept: request.header("Accept") ?? null } }),
  down: (state, { reason }) => void state.log.push(`down ${reason.name} ${reason.text}`),
});
