// A station in TypeScript: see ../README.md.

import { actor, send, takes, whereis } from "exuvia-actor";

const VERSION = 1;

/** The state, which every station saves in the same form. */
interface Station {
  passed: number;
  arrived: number;
  travelled: number;
  halted: boolean;
  next: string;
}

actor<Station>({
  schema: 1,
  state: { passed: "int", arrived: "int", travelled: "int", halted: "bool", next: "text" },

  init: ({ next }) => ({ passed: 0, arrived: 0, travelled: 0, halted: false, next }),

  messages: {
    /** A token comes by: it is sent on, or has arrived. */
    Pass: takes({ hops: "int" }, (state: Station, { hops }) => {
      state.passed++;
      const to = state.halted ? undefined : whereis(state.next);
      if (to) {
        send(to, { Pass: { hops: hops + 1 } });
      } else {
        state.arrived++;
        state.travelled += hops + 1;
      }
    }),
  },

  requests: {
    Halt: (state) => {
      state.halted = true;
      return null;
    },
    Count: ({ passed, arrived, travelled }) => ({ language: "JavaScript", version: VERSION, passed, arrived, travelled }),
  },
});
