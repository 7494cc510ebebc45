// Compiled by `tsc`, and built and run by actor.test.mjs.
import { actor, call, log, takes, Pid, Refusal, sleep, type HttpResponse } from "exuvia-actor";

interface State {
  count: number;
  last?: Uint8Array;
}

actor<State>({
  schema: 3,
  init: (args?: { start?: number }) => ({ count: args?.start ?? 0 }),
  messages: {
    Add: takes({ by: "int", why: "text?" }, (state: State, { by, why }, { from }) => {
      const shown: string | undefined = why;
      state.count += by;
      state.last = from;
      log.debug(shown);
    }),
    Plain(state, { by = 1, note }) {
      state.count += by + (note ? 1 : 0);
    },
  },
  requests: {
    Get: (state) => state.count,
    Ask: takes({ to: "pid", names: ["text"] }, async (state: State, { to, names }) => {
      await sleep(1);
      const there: number = await call<number>(new Pid(to), "Get", { timeoutMs: 100 });
      if (there < 0) throw new Refusal(names.join());
      return there + state.count;
    }),
  },
  load(saved: { total: number }, schema) {
    if (schema !== 2) throw new Refusal(`schema ${schema}`);
    return { count: saved.total };
  },
  http: (state, request): HttpResponse => ({ json: { count: state.count, path: request.path } }),
});
