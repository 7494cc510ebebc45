// A process that counts. `exuvia dev` builds and runs it; change something here while it runs, and
// it goes on with the new code and the count that it has.

import { actor, log, takes } from "exuvia-actor";

/** What the process remembers. New code gets it as it is: raise `schema` and write `load` when fields change. */
interface State {
  count: number;
}

actor<State>({
  schema: 1,
  // What `exuvia check OLD NEW` compares.
  state: { count: "int" },

  init: () => ({ count: 0 }),

  messages: {
    /** Counts on: `exuvia send counter '{"Add": {"by": 3}}'`. */
    Add: takes({ by: "int" }, (state: State, { by }) => {
      state.count += by;
      log.info(`the count is ${state.count}`);
    }),
  },

  requests: {
    /** The count: `exuvia send counter '"Get"' --call`. */
    Get: (state) => state.count,
  },
});
